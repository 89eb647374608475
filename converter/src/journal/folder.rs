//! Where journals are, and which ones go.

use super::key::Key;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

/// Bytes that journals take together, the running one apart: beyond, those go that were not used for longest.
pub const MOST_BYTES: u64 = 512 << 20;
const EXTENSION: &str = "journal";
/// Digits of a file's name.
const DIGITS: usize = 32;

/// Where journals are unless told otherwise: `$EDGE_CACHE_DIR`, nowhere when that is empty; else `edge-convert` in
/// `$XDG_CACHE_HOME`, else in `~/.cache`.
///
/// # Errors
/// When no variable names a folder.
pub fn default_folder() -> Result<Option<PathBuf>, String> {
    choose(&|name| std::env::var_os(name), std::env::home_dir())
}

pub(super) fn choose(
    variable: &dyn Fn(&str) -> Option<OsString>,
    home: Option<PathBuf>,
) -> Result<Option<PathBuf>, String> {
    if let Some(folder) = variable("EDGE_CACHE_DIR") {
        return Ok((!folder.is_empty()).then(|| folder.into()));
    }
    // The XDG specification has relative paths ignored.
    let cache = variable("XDG_CACHE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let cache = cache.or_else(|| Some(home.filter(|path| path.is_absolute())?.join(".cache")));
    let none = "neither EDGE_CACHE_DIR, XDG_CACHE_HOME nor HOME names a folder; measurements are not kept (--cache DIR names one)";
    cache.map(|cache| Some(cache.join("edge-convert"))).ok_or_else(|| none.to_string())
}

/// The name of a conversion's file.
pub fn file_name(name: &Key) -> String {
    format!("{}.{EXTENSION}", &format!("{name:?}")[..DIGITS])
}

/// Deletes journals but `mine` until at most `most` bytes are left, those that were not used for longest first. One that is being
/// written stays, and so does every file that is no journal.
pub fn make_room(folder: &Path, mine: &Path, most: u64) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    let mut files: Vec<(SystemTime, u64, PathBuf)> = entries
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            let meta = fs::symlink_metadata(&path).ok()?;
            (is_journal(&path) && meta.is_file() && path != mine).then_some((
                meta.modified().ok()?,
                meta.len(),
                path,
            ))
        })
        .collect();
    files.sort();
    let mut all: u64 = files.iter().map(|(_, len, _)| len).sum();
    for (_, len, path) in files {
        if all <= most {
            break;
        }
        let free = fs::File::open(&path).is_ok_and(|file| file.try_lock().is_ok());
        // A conversion that opens it at this very moment writes where nobody looks: it loses its journal and nothing else.
        if free && fs::remove_file(&path).is_ok() {
            all -= len;
        }
    }
}

fn is_journal(path: &Path) -> bool {
    let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
    path.extension().is_some_and(|e| e == EXTENSION)
        && stem.len() == DIGITS
        && stem.bytes().all(|b| b.is_ascii_hexdigit())
}
