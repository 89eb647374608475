//! `--prompt-cache FILE`: what the model has read, from one run to the next.

use crate::exit::Failure;
use edge_runtime::decode::SavedError;
use edge_runtime::text::Generator;
use std::fs::File;
use std::io::{BufReader, BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};

/// Takes what an earlier run has left. What is of another pack or rung is not used, and overwritten in the end.
pub fn restore(path: Option<&Path>, generator: &mut Generator) -> Result<(), Failure> {
    let Some(path) = path else { return Ok(()) };
    let bad = |e: &dyn std::fmt::Display| Failure::BadFile(format!("{}: {e}", path.display()));
    let file = match File::open(path) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
        file => file.map_err(|e| bad(&e))?,
    };
    match generator.restore(&mut BufReader::new(file)) {
        Ok(tokens) => log::info!("{}: {tokens} tokens", path.display()),
        Err(e @ SavedError::Other { .. }) => log::warn!("{}: {e}; the text is read anew", path.display()),
        Err(e) => return Err(bad(&e)),
    }
    Ok(())
}

/// Leaves what was read to the next run. The file is the old one until the new one is whole.
pub fn save(path: Option<&Path>, generator: &Generator) -> Result<(), Failure> {
    let Some(path) = path else { return Ok(()) };
    let mut part = path.as_os_str().to_owned();
    part.push(format!(".{}.part", std::process::id()));
    let part = PathBuf::from(part);
    let written = File::create(&part).and_then(|file| {
        let mut file = BufWriter::new(file);
        generator.save(&mut file).map_err(|e| match e {
            SavedError::Io(e) => e,
            other => std::io::Error::other(other),
        })?;
        file.flush()?;
        std::fs::rename(&part, path)
    });
    written.map_err(|error| {
        _ = std::fs::remove_file(&part);
        Failure::Write { path: path.to_owned(), error }
    })
}
