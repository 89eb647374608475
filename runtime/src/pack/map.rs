//! The one place where files become memory without being read: packs, and whatever else is larger than what is wanted of it.
//!
//! A mapping shows the file as it is, now and later. Rust calls it undefined when bytes behind a `&[u8]` change,
//! and the kernel raises SIGBUS when a page past the end of a file that was cut is touched. So a pack must not be
//! changed in place while it is mapped. The writer never does: it writes a new file and renames it over the old
//! one, whose bytes stay until the last mapping of them is gone. Where others may write to the file, read it into
//! memory ([`PackFile::load`], `--no-mmap`), which also checks its hashes.

use super::{Blob, BlobId, BlobSource, PackError, PackFile, file::io_error};
use memmap2::{Mmap, MmapOptions};
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::Arc;

/// Bytes that the kernel maps around a fault.
const WINDOW: usize = 64 << 10;

/// The first bytes of a pack, mapped read-only.
#[derive(Debug)]
pub struct Mapped {
    map: Mmap,
    places: Arc<[Blob]>,
}

impl PackFile {
    /// Maps bytes `[0, end)`; `end` is a rung's. Nothing past it can become resident: the kernel reads ahead and
    /// maps around a fault, but only inside the mapping.
    pub fn map(&self, end: u64) -> Result<Mapped, PackError> {
        let file_len = self.file_len();
        let len = usize::try_from(end).ok().filter(|_| (1..=file_len).contains(&end));
        let len = len.ok_or(PackError::MapEnd { end, file_len })?;
        let map = self.map_first(len)?;
        // The kernel maps windows of this size around a fault, by address, and plans count those of the file: so both begin together.
        let beyond = map.as_ptr().addr() % WINDOW;
        if beyond == 0 {
            return Ok(Mapped { map, places: Arc::clone(&self.places) });
        }
        drop(map);
        // What is mapped next lies below what is there: with so much between it lies right. Elsewhere it costs some pages, no more.
        let between = MmapOptions::new().len(beyond + len.next_multiple_of(WINDOW)).map_anon();
        let map = self.map_first(len);
        drop(between);
        Ok(Mapped { map: map?, places: Arc::clone(&self.places) })
    }

    fn map_first(&self, len: usize) -> Result<Mmap, PackError> {
        self.check_len()?;
        // SAFETY: the file is a regular file, opened for reading, and on the line above it had at least `len`
        // bytes, so every page of the mapping is backed. That nobody changes the file in place while it is mapped is
        // the promise asked for in this module's description; it cannot be checked.
        let map = unsafe { MmapOptions::new().len(len).map(&self.file) };
        map.map_err(io_error("map", self.path()))
    }
}

impl Mapped {
    /// All mapped bytes, from the start of the file.
    pub fn bytes(&self) -> &[u8] {
        &self.map
    }
}

/// A whole file, mapped read-only. What holds for packs holds here: nobody may change the file in place meanwhile.
#[derive(Debug)]
pub struct FileMap {
    map: Mmap,
}

impl FileMap {
    /// Maps a file.
    ///
    /// # Errors
    /// When it cannot be opened or mapped: a folder, a pipe, no file at all.
    pub fn open(path: &Path) -> io::Result<FileMap> {
        let file = File::open(path)?;
        if !file.metadata()?.is_file() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
        }
        // SAFETY: a regular file that was opened for reading; that it is not changed meanwhile is the promise asked for in this
        // module's description.
        let map = unsafe { MmapOptions::new().map(&file) }?;
        Ok(FileMap { map })
    }

    /// Whether some bytes are bytes of this mapping.
    pub fn holds(&self, part: &[u8]) -> bool {
        self.offset(part).is_some()
    }

    fn offset(&self, part: &[u8]) -> Option<usize> {
        let offset = (part.as_ptr() as usize).checked_sub(self.map.as_ptr() as usize)?;
        offset.checked_add(part.len()).filter(|end| *end <= self.map.len()).map(|_| offset)
    }

    /// Lets the memory behind some bytes of the mapping go; the next use reads them from the file again.
    pub fn release(&self, part: &[u8]) {
        let Some(offset) = self.offset(part).filter(|_| !part.is_empty()) else { return };
        // Advice that is not taken costs memory, not correctness.
        // SAFETY: the range lies in the mapping, which is a read-only view of a file: pages that are let go come back from the
        // file with the same bytes.
        #[cfg(unix)]
        let _ = unsafe {
            self.map.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, offset, part.len())
        };
        #[cfg(not(unix))]
        let _ = offset;
    }
}

impl AsRef<[u8]> for FileMap {
    fn as_ref(&self) -> &[u8] {
        &self.map
    }
}

impl BlobSource for Mapped {
    fn blob(&self, id: BlobId) -> Option<&[u8]> {
        let blob = self.places.get(id as usize)?;
        // Offsets and lengths were checked when the pack was opened; a blob past the mapped end gives `None`.
        self.map.get(blob.offset as usize..)?.get(..usize::try_from(blob.len).ok()?)
    }

    #[cfg(unix)]
    fn release(&self, id: BlobId) {
        let Some(blob) = self.places.get(id as usize) else { return };
        let (Ok(start), Ok(len)) = (usize::try_from(blob.offset), usize::try_from(blob.len)) else { return };
        if start.checked_add(len).is_some_and(|end| end <= self.map.len()) && len > 0 {
            // Advice that is not taken costs memory, not correctness.
            // SAFETY: the range lies in the mapping, which is a read-only view of a file: pages that are let go come
            // back from the file with the same bytes.
            let _ =
                unsafe { self.map.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, start, len) };
        }
    }
}
