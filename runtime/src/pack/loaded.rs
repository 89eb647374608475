//! Blobs read into memory of their own.
#![forbid(unsafe_code)]

use super::layout::{BLOB_ALIGN, sort_by_offset};
use super::{BlobId, BlobSource, PackError, PackFile};
use bytemuck::{Pod, Zeroable};

/// What the buffer is made of, so that it starts at a multiple of 64 bytes.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C, align(64))]
struct Line([u8; BLOB_ALIGN as usize]);

/// Some blobs of a pack, copied into one buffer; each starts at a multiple of 64 bytes.
pub struct Loaded {
    lines: Vec<Line>,
    /// Sorted by id: the blob, its place in the buffer, its length.
    places: Vec<(BlobId, usize, usize)>,
}

impl PackFile {
    /// Bytes of the buffer that [`PackFile::load`] makes for these blobs, which must be in the header's table.
    pub fn loaded_bytes(&self, blobs: &[BlobId]) -> u64 {
        let mut blobs = blobs.to_vec();
        blobs.sort_unstable();
        blobs.dedup();
        // The blobs of a file do not overlap and end below 2^63, but each is rounded up.
        let line = |id: &BlobId| self.places[*id as usize].len.next_multiple_of(BLOB_ALIGN);
        blobs.iter().map(line).fold(0, u64::saturating_add)
    }

    /// Reads blobs into memory; with `verify`, checks the hash of each as it arrives.
    ///
    /// # Panics
    /// When an id is not in the header's table.
    pub fn load(&self, blobs: &[BlobId], verify: bool) -> Result<Loaded, PackError> {
        // Refused before the memory is asked for: a cut file promises bytes that it does not have.
        for &id in blobs {
            let blob = self.places[id as usize];
            let (end, file_len) = (blob.offset + blob.len, self.file_len());
            if end > file_len {
                return Err(PackError::CutBlob { blob: id, owner: self.owner_of(id), end, file_len });
            }
        }
        let bytes = self.loaded_bytes(blobs);
        let lines_needed = usize::try_from(bytes / BLOB_ALIGN).map_err(|_| PackError::Memory { bytes })?;
        let mut lines: Vec<Line> = Vec::new();
        lines.try_reserve_exact(lines_needed).map_err(|_| PackError::Memory { bytes })?;
        lines.resize(lines_needed, Line::zeroed());

        let mut order = blobs.to_vec();
        sort_by_offset(&self.places, &mut order);
        order.dedup();
        let buffer: &mut [u8] = bytemuck::cast_slice_mut(&mut lines);
        let mut places = Vec::with_capacity(order.len());
        let mut at = 0;
        for id in order {
            let len = self.places[id as usize].len as usize;
            self.read_blob(id, &mut buffer[at..at + len], verify)?;
            places.push((id, at, len));
            at += len.next_multiple_of(BLOB_ALIGN as usize);
        }
        places.sort_unstable();
        Ok(Loaded { lines, places })
    }
}

impl Loaded {
    /// Bytes of the buffer.
    pub fn buffer_bytes(&self) -> usize {
        std::mem::size_of_val(self.lines.as_slice())
    }
}

impl BlobSource for Loaded {
    fn blob(&self, id: BlobId) -> Option<&[u8]> {
        let i = self.places.binary_search_by_key(&id, |place| place.0).ok()?;
        let (_, at, len) = self.places[i];
        bytemuck::cast_slice(&self.lines).get(at..at + len)
    }
}
