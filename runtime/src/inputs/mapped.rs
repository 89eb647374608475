//! A file as memory, for what is larger than memory: checkpoints.
//!
//! As for packs (`pack/map.rs`), the file must not be changed in place while it is mapped: bytes behind a slice would change, and a
//! page past a new end raises SIGBUS. Whoever writes checkpoints writes a new file, or is through before one is read.

use super::InputError;
use crate::pack::FileMap;
use std::io::{Error, ErrorKind};
use std::path::Path;

/// A file, mapped read-only.
#[derive(Debug)]
pub struct MappedFile {
    /// `None` for a file without bytes, which cannot be mapped.
    map: Option<FileMap>,
}

impl MappedFile {
    /// Maps a file as it is now.
    ///
    /// # Errors
    /// When it cannot be opened or mapped, or is no regular file.
    pub fn open(path: &Path) -> Result<MappedFile, InputError> {
        let io = |source| InputError::Io { path: path.into(), source };
        // Asked before it is opened: a pipe would wait for its writer.
        let meta = std::fs::metadata(path).map_err(io)?;
        if !meta.is_file() {
            return Err(io(Error::new(ErrorKind::InvalidInput, "no regular file")));
        }
        if meta.len() == 0 {
            return Ok(MappedFile { map: None });
        }
        Ok(MappedFile { map: Some(FileMap::open(path).map_err(io)?) })
    }

    /// All of its bytes.
    pub fn bytes(&self) -> &[u8] {
        self.map.as_ref().map(AsRef::as_ref).unwrap_or_default()
    }

    /// Lets the memory behind some bytes go; the next use reads them from the file again. Bytes of something else stay.
    pub fn release(&self, part: &[u8]) {
        if let Some(map) = &self.map {
            map.release(part);
        }
    }
}
