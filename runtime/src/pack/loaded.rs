//! Blobs read into memory of their own.
#![forbid(unsafe_code)]

use super::layout::{BLOB_ALIGN, sort_by_offset};
use super::{BlobId, BlobSource, PackError, PackFile};
use bytemuck::{Pod, Zeroable};
use std::sync::Arc;

/// What buffers are made of, so that they start at a multiple of 64 bytes.
#[derive(Clone, Copy, Pod, Zeroable)]
#[repr(C, align(64))]
struct Line([u8; BLOB_ALIGN as usize]);

/// Some blobs of a pack in memory, each in a buffer of its own that starts at a multiple of 64 bytes: what another selection has of
/// the same blobs it shares, and what nobody has any more goes.
pub struct Loaded {
    /// Of the pack.
    hash: u128,
    verified: bool,
    /// Sorted by id: the blob, its length, its bytes.
    blobs: Vec<(BlobId, usize, Arc<Vec<Line>>)>,
}

impl PackFile {
    /// Bytes of the buffers that [`PackFile::load`] makes for these blobs, which must be in the header's table.
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
        loaded.blobs.sort_unstable_by_key(|blob| blob.0);
        Ok(loaded)
    }

    fn load_blob(&self, id: BlobId, verify: bool) -> Result<(BlobId, usize, Arc<Vec<Line>>), PackError> {
        let bytes = self.places[id as usize].len;
        let memory = || PackError::Memory { bytes };
        let len = usize::try_from(bytes).map_err(|_| memory())?;
        let needed = len.div_ceil(BLOB_ALIGN as usize);
        let mut lines: Vec<Line> = Vec::new();
        lines.try_reserve_exact(needed).map_err(|_| memory())?;
        lines.resize(needed, Line::zeroed());
        self.read_blob(id, &mut bytemuck::cast_slice_mut(&mut lines)[..len], verify)?;
        Ok((id, len, Arc::new(lines)))
    }
}

impl Loaded {
    /// Bytes of the buffers, those that are shared included.
    pub fn buffer_bytes(&self) -> usize {
        self.blobs.iter().map(|(.., lines)| std::mem::size_of_val(lines.as_slice())).sum()
    }

    fn place(&self, id: BlobId) -> Option<&(BlobId, usize, Arc<Vec<Line>>)> {
        let i = self.blobs.binary_search_by_key(&id, |blob| blob.0).ok()?;
        self.blobs.get(i)
    }
}

impl BlobSource for Loaded {
    fn blob(&self, id: BlobId) -> Option<&[u8]> {
        let (_, len, lines) = self.place(id)?;
        bytemuck::cast_slice(lines.as_slice()).get(..*len)
    }

    fn loaded(&self) -> Option<&Loaded> {
        Some(self)
    }
}
