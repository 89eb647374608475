//! Every byte of the file against the header: hashes of blobs, zeros between them.
#![forbid(unsafe_code)]

use super::file::read_header;
use super::layout::file_order;
use super::preamble::finish128;
use super::{BlobId, PackError, PackFile};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};

/// Bytes read at once: large enough for a device's full speed, small in any budget.
const CHUNK: usize = 1 << 20;
/// Bytes read at once where a session is about to start within its budget.
const PIECE: u64 = 64 << 10;

/// What [`PackFile::verify`] looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verified {
    /// Bytes read: all of the file, but for a blob that the cut file has a part of.
    pub bytes: u64,
    /// Blobs that are whole and good, those without bytes included.
    pub blobs: usize,
    /// Blobs that the cut file lacks or has a part of.
    pub missing_blobs: usize,
}

impl PackFile {
    /// Reads the file from its start in pieces of 1 MiB and checks the header's hash, each blob's hash and that all
    /// else is zero. Stops at the first difference and names it. Of a cut file, checks what is there.
    /// `progress` gets the bytes done and the bytes there are.
    pub fn verify(
        &self,
        cancel: &AtomicBool,
        mut progress: impl FnMut(u64, u64),
    ) -> Result<Verified, PackError> {
        let total = self.file_len();
        let (preamble, _) = read_header(&self.file, self.path(), total, u64::MAX)?;
        if preamble != self.preamble {
            let (expected, actual) = (self.preamble.hash, preamble.hash);
            return Err(PackError::HeaderHash { expected, actual });
        }
        let mut buffer = vec![0; CHUNK.min(total as usize)];
        let mut at = self.preamble.header_end();
        let mut verified = Verified { bytes: at, blobs: 0, missing_blobs: 0 };
        progress(at, total);

        for id in 0..self.places.len() as BlobId {
            if self.places[id as usize].len == 0 {
                self.check_blob(id, finish128(&blake3::Hasher::new()))?;
                verified.blobs += 1;
            }
        }
        for id in file_order(&self.places) {
            let blob = self.places[id as usize];
            self.check_padding(at..blob.offset.min(total), &mut buffer)?;
            at = blob.offset + blob.len;
            if at > total {
                verified.missing_blobs += 1;
                continue;
            }
            let mut hasher = blake3::Hasher::new();
            self.pieces(blob.offset..at, &mut buffer, |offset, piece| {
                hasher.update(piece);
                progress(offset + piece.len() as u64, total);
                if cancel.load(Ordering::Relaxed) { Err(PackError::Cancelled) } else { Ok(()) }
            })?;
            self.check_blob(id, finish128(&hasher))?;
            verified.blobs += 1;
            verified.bytes = at;
        }
        Ok(verified)
    }

    /// Reads a blob in pieces of 64 KiB and checks its hash.
    ///
    /// # Panics
    /// When the id is not in the header's table.
    pub fn verify_blob(&self, id: BlobId) -> Result<(), PackError> {
        let blob = self.places[id as usize];
        let mut buffer = vec![0; PIECE.min(blob.len) as usize];
        let mut hasher = blake3::Hasher::new();
        self.pieces(blob.offset..blob.offset + blob.len, &mut buffer, |_, piece| {
            hasher.update(piece);
            Ok(())
        })?;
        self.check_blob(id, finish128(&hasher))
    }

    fn check_padding(&self, range: Range<u64>, buffer: &mut [u8]) -> Result<(), PackError> {
        self.pieces(range, buffer, |offset, piece| match piece.iter().position(|&b| b != 0) {
            Some(i) => Err(PackError::Padding { offset: offset + i as u64, value: piece[i] }),
            None => Ok(()),
        })
    }

    /// Calls `f` with each piece of the range and its offset.
    fn pieces(
        &self,
        range: Range<u64>,
        buffer: &mut [u8],
        mut f: impl FnMut(u64, &[u8]) -> Result<(), PackError>,
    ) -> Result<(), PackError> {
        let mut at = range.start;
        while at < range.end {
            let len = (range.end - at).min(buffer.len() as u64);
            let piece = &mut buffer[..len as usize];
            self.read_at(piece, at, "read")?;
            f(at, piece)?;
            at += len;
        }
        Ok(())
    }
}
