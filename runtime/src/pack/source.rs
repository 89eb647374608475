//! Where the bytes of blobs come from.
#![forbid(unsafe_code)]

use super::{BlobId, Loaded};
use std::sync::Arc;

/// Gives the bytes of blobs. A mapped pack, a part of a pack read into memory, and a pack that is still being
/// made are the three that this crate has.
pub trait BlobSource: Send + Sync {
    /// The blob's bytes; `None` when this source does not hold the blob (another id, or past the mapped end).
    /// From a pack the slice starts at a multiple of 64 bytes; from [`MemorySource`] anywhere.
    fn blob(&self, id: BlobId) -> Option<&[u8]>;

    /// Lets the memory behind a blob go, if it can come back by itself: the next use of a mapped blob reads it from
    /// the file again.
    fn release(&self, _id: BlobId) {}

    /// What of this is in memory of its own, for others to share.
    fn loaded(&self) -> Option<&Loaded> {
        None
    }
}

/// Blobs in memory, before there is a file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemorySource {
    blobs: Vec<Arc<Vec<u8>>>,
}

impl MemorySource {
    /// Adds a blob and gives its id: 0, 1, 2...
    pub fn push(&mut self, bytes: Vec<u8>) -> BlobId {
        let id = self.blobs.len() as BlobId;
        self.blobs.push(Arc::new(bytes));
        id
    }

    /// Number of blobs.
    pub fn len(&self) -> usize {
        self.blobs.len()
    }

    /// Whether there is no blob.
    pub fn is_empty(&self) -> bool {
        self.blobs.is_empty()
    }
}

impl From<Vec<Vec<u8>>> for MemorySource {
    fn from(blobs: Vec<Vec<u8>>) -> MemorySource {
        MemorySource { blobs: blobs.into_iter().map(Arc::new).collect() }
    }
}

impl From<Vec<Arc<Vec<u8>>>> for MemorySource {
    fn from(blobs: Vec<Arc<Vec<u8>>>) -> MemorySource {
        MemorySource { blobs }
    }
}

impl BlobSource for MemorySource {
    fn blob(&self, id: BlobId) -> Option<&[u8]> {
        self.blobs.get(id as usize).map(|blob| blob.as_slice())
    }
}
