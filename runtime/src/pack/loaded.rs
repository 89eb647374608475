//! Blobs read into memory of their own.
#![forbid(unsafe_code)]
use crate::sort;

use super::layout::{BLOB_ALIGN, sort_by_offset};
use super::{BlobId, BlobSource, PackError, PackFile};
use bytemuck::{Pod, Zeroable};
use memmap2::MmapMut;
use std::sync::Arc;

/// From so many bytes on a buffer has pages of its own, which go back to the system when it goes: an allocator may keep what was on its
/// heap, glibc's for threads other than the first.
const OWN_PAGES: usize = 64 << 10;

/// What small buffers are made of, so that they start at a multiple of 64 bytes.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C, align(64))]
struct Line([u8; BLOB_ALIGN as usize]);

enum Buffer {
    Lines(Vec<Line>),
    Pages(MmapMut),
}

impl Buffer {
    /// Zeros; `None` when memory is not to be had.
    fn new(len: usize) -> Option<Buffer> {
        if len >= OWN_PAGES {
            return MmapMut::map_anon(len).ok().map(Buffer::Pages);
        }
        let mut lines = Vec::new();
        let needed = len.div_ceil(BLOB_ALIGN as usize);
        lines.try_reserve_exact(needed).ok()?;
        lines.resize(needed, Line::zeroed());
        Some(Buffer::Lines(lines))
    }

    fn bytes(&self) -> &[u8] {
        match self {
            Buffer::Lines(lines) => bytemuck::cast_slice(lines),
            Buffer::Pages(pages) => pages,
        }
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        match self {
            Buffer::Lines(lines) => bytemuck::cast_slice_mut(lines),
            Buffer::Pages(pages) => pages,
        }
    }
}

/// A blob, its length, and its bytes with what fills the last line.
type Held = (BlobId, usize, Arc<Buffer>);

/// Some blobs of a pack in memory, each in a buffer of its own that starts at a multiple of 64 bytes: what another selection has of
/// the same blobs it shares, and what nobody has any more goes.
pub struct Loaded {
    /// Of the pack.
    hash: u128,
    verified: bool,
    /// Sorted by id.
    blobs: Vec<Held>,
}

impl PackFile {
    /// Bytes of the buffers that [`PackFile::load`] makes for these blobs, which must be in the header's table.
    pub fn loaded_bytes(&self, blobs: &[BlobId]) -> u64 {
        let mut blobs = blobs.to_vec();
        sort::ascending(&mut blobs);
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
        self.load_beside(blobs, verify, None)
    }

    /// As [`PackFile::load`], beside what was loaded of the same pack before: blobs that both have are shared and not read again,
    /// where their hashes were checked then or are not to be checked now.
    ///
    /// # Panics
    /// When an id is not in the header's table.
    pub fn load_beside(
        &self,
        blobs: &[BlobId],
        verify: bool,
        before: Option<&Loaded>,
    ) -> Result<Loaded, PackError> {
        // Refused before memory is asked for: a cut file promises bytes that it does not have.
        for &id in blobs {
            let blob = self.places[id as usize];
            let (end, file_len) = (blob.offset + blob.len, self.file_len());
            if end > file_len {
                return Err(PackError::CutBlob { blob: id, owner: self.owner_of(id), end, file_len });
            }
        }
        let before = before.filter(|b| b.hash == self.hash() && (b.verified || !verify));
        let mut order = blobs.to_vec();
        sort_by_offset(&self.places, &mut order);
        order.dedup();
        let mut loaded =
            Loaded { hash: self.hash(), verified: verify, blobs: Vec::with_capacity(order.len()) };
        for id in order {
            let blob = match before.and_then(|before| before.place(id)) {
                Some(shared) => shared.clone(),
                None => self.load_blob(id, verify)?,
            };
            loaded.blobs.push(blob);
        }
        sort::by_key(&mut loaded.blobs, |blob| blob.0);
        Ok(loaded)
    }

    fn load_blob(&self, id: BlobId, verify: bool) -> Result<Held, PackError> {
        let bytes = self.places[id as usize].len;
        let buffer = usize::try_from(bytes).ok().and_then(|len| Some((len, Buffer::new(len)?)));
        let (len, mut buffer) = buffer.ok_or(PackError::Memory { bytes })?;
        self.read_blob(id, &mut buffer.bytes_mut()[..len], verify)?;
        Ok((id, len, Arc::new(buffer)))
    }
}

impl Loaded {
    /// Bytes of the buffers, those that are shared included, each counted in whole lines of 64 bytes.
    pub fn buffer_bytes(&self) -> usize {
        self.blobs.iter().map(|(_, len, _)| len.next_multiple_of(BLOB_ALIGN as usize)).sum()
    }

    fn place(&self, id: BlobId) -> Option<&Held> {
        let i = self.blobs.binary_search_by_key(&id, |blob| blob.0).ok()?;
        self.blobs.get(i)
    }
}

impl BlobSource for Loaded {
    fn blob(&self, id: BlobId) -> Option<&[u8]> {
        let (_, len, buffer) = self.place(id)?;
        buffer.bytes().get(..*len)
    }

    fn loaded(&self) -> Option<&Loaded> {
        Some(self)
    }
}
