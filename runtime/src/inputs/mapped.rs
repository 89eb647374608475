//! A file as memory, for what is larger than memory: checkpoints.
//!
//! As for packs (`pack/map.rs`), the file must not be changed in place while it is mapped: bytes behind a slice would change, and a
//! page past a new end raises SIGBUS. Whoever writes checkpoints writes a new file, or is through before one is read.

use super::InputError;
use memmap2::Mmap;
use std::fs::File;
use std::io::{Error, ErrorKind};
use std::path::Path;

/// A file, mapped read-only.
#[derive(Debug)]
pub struct MappedFile {
    /// `None` for a file without bytes, which cannot be mapped.
    map: Option<Mmap>,
}

impl MappedFile {
    /// Maps a file as it is now.
    ///
    /// # Errors
    /// When it cannot be opened or mapped, or is no regular file.
    pub fn open(path: &Path) -> Result<MappedFile, InputError> {
        let io = |source| InputError::Io { path: path.into(), source };
        // Asked before it is opened: a pipe would wait for its writer.
        if !std::fs::metadata(path).map_err(io)?.is_file() {
            return Err(io(Error::new(ErrorKind::InvalidInput, "no regular file")));
        }
        let file = File::open(path).map_err(io)?;
        if file.metadata().map_err(io)?.len() == 0 {
            return Ok(MappedFile { map: None });
        }
        // SAFETY: a regular file, opened for reading, of the length that it has now. That nobody changes it in place while it is
        // mapped is the promise asked for in this module's description; it cannot be checked.
        let map = unsafe { Mmap::map(&file) }.map_err(io)?;
        Ok(MappedFile { map: Some(map) })
    }

    /// All of its bytes.
    pub fn bytes(&self) -> &[u8] {
        self.map.as_deref().unwrap_or_default()
    }
}
