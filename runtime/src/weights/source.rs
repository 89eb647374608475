//! Where the bytes of blobs come from.

use crate::pack::{BlobId, BlobSource};
use std::sync::Arc;

/// A blob whose presence and length were checked when the weight was bound.
#[derive(Clone)]
pub struct Bytes {
    source: Arc<dyn BlobSource>,
    id: BlobId,
    len: usize,
}

impl Bytes {
    pub(super) fn new(source: Arc<dyn BlobSource>, id: BlobId, len: usize) -> Bytes {
        Bytes { source, id, len }
    }

    /// The bytes.
    ///
    /// # Panics
    /// When the source lost the blob after the weight was bound, which breaks its contract.
    pub fn as_slice(&self) -> &[u8] {
        let bytes = self.source.blob(self.id).unwrap_or(&[]);
        assert_eq!(bytes.len(), self.len, "blob {} changed its length after it was bound", self.id);
        bytes
    }
}

/// Stands in where an expression is looked at but never evaluated.
pub(super) struct Absent;

impl BlobSource for Absent {
    fn blob(&self, _id: BlobId) -> Option<&[u8]> {
        None
    }
}
