//! The packs that are opened and run: those that EDGE_BENCH_PACKS names.

use std::path::PathBuf;

/// A pack and the name of its rows.
#[derive(Clone, Debug)]
pub struct NamedPack {
    /// The file's name without `.pack`.
    pub name: String,
    /// The file.
    pub path: PathBuf,
}

/// The files of EDGE_BENCH_PACKS, separated as in PATH; none when it is not set.
///
/// # Panics
/// When one of them is no file: a bench that skips what was asked for would be read as a result.
pub fn packs() -> Vec<NamedPack> {
    let Some(list) = std::env::var_os("EDGE_BENCH_PACKS") else {
        eprintln!("EDGE_BENCH_PACKS is not set: no pack to time (see benches/README.md)");
        return Vec::new();
    };
    std::env::split_paths(&list)
        .filter(|path| !path.as_os_str().is_empty())
        .map(|path| {
            assert!(path.is_file(), "EDGE_BENCH_PACKS: {} is no file", path.display());
            let name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
            NamedPack { name, path }
        })
        .collect()
}
