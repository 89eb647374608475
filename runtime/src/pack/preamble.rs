//! The first 64 bytes.
#![forbid(unsafe_code)]

use super::PackError;
use super::layout::MAX_HEADER;
use std::path::Path;

/// The first byte is not ASCII and the last two are a line end, so that a transfer that drops the top bit or
/// rewrites line ends is noticed at once.
pub const MAGIC: [u8; 8] = *b"\x89EDGEP\r\n";

/// Format version that this crate reads and writes.
pub const FORMAT: u32 = 0;

/// Version of this runtime, against which a pack's and a rung's minimum is held.
pub const RUNTIME_VERSION: u32 = 0;

/// Bytes of the preamble.
pub const PREAMBLE: usize = 64;

/// Bytes at the start of the preamble that the header's hash covers too: a changed version is a changed hash.
const HASHED: usize = 24;

/// The length of a packed header's text, which the hash covers as well.
const TEXT: std::ops::Range<usize> = 40..48;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Preamble {
    pub min_runtime: u32,
    pub header_len: u64,
    pub hash: u128,
    /// Bytes of the header's text where it is packed, else 0.
    pub text_len: u64,
}

/// The first 16 bytes of the BLAKE3 hash of `parts`, one after the other, as a big-endian number, so that it
/// prints in the order of the bytes.
pub(crate) fn hash128(parts: &[&[u8]]) -> u128 {
    let mut hasher = blake3::Hasher::new();
    for part in parts {
        hasher.update(part);
    }
    finish128(&hasher)
}

pub(crate) fn finish128(hasher: &blake3::Hasher) -> u128 {
    let hash = hasher.finalize();
    let mut first = [0; 16];
    first.copy_from_slice(&hash.as_bytes()[..16]);
    u128::from_be_bytes(first)
}

impl Preamble {
    /// Of a header as it is stored: packed, of a text of `text_len` bytes, or with 0 as it is.
    pub fn new(min_runtime: u32, header: &[u8], text_len: u64) -> Preamble {
        let mut preamble = Preamble { min_runtime, header_len: header.len() as u64, hash: 0, text_len };
        preamble.hash = preamble.hash_of(header);
        preamble
    }

    fn hash_of(&self, header: &[u8]) -> u128 {
        let bytes = self.encode();
        let text = if self.text_len > 0 { &bytes[TEXT] } else { &[] };
        hash128(&[&bytes[..HASHED], text, header])
    }

    pub fn encode(&self) -> [u8; PREAMBLE] {
        let mut bytes = [0; PREAMBLE];
        bytes[0..8].copy_from_slice(&MAGIC);
        bytes[8..12].copy_from_slice(&FORMAT.to_le_bytes());
        bytes[12..16].copy_from_slice(&self.min_runtime.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.header_len.to_le_bytes());
        bytes[24..40].copy_from_slice(&self.hash.to_be_bytes());
        bytes[TEXT].copy_from_slice(&self.text_len.to_le_bytes());
        bytes
    }

    /// Reads what there is of the preamble: `bytes` is the start of the file, 64 bytes or all of a shorter file.
    pub fn decode(path: &Path, bytes: &[u8], file_len: u64) -> Result<Preamble, PackError> {
        if bytes.is_empty() {
            return Err(PackError::Empty { path: path.into() });
        }
        let shown = bytes.len().min(MAGIC.len());
        if bytes[..shown] != MAGIC[..shown] {
            let found: Vec<String> = bytes[..shown].iter().map(|b| format!("{b:02x}")).collect();
            return Err(PackError::NotAPack { path: path.into(), found: found.join(" ") });
        }
        let Some(bytes) = bytes.first_chunk::<PREAMBLE>() else {
            return Err(PackError::CutPreamble { file_len });
        };
        let u32_at = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let format = u32_at(8);
        if format != FORMAT {
            return Err(PackError::Format { found: format, known: FORMAT });
        }
        let min_runtime = u32_at(12);
        if min_runtime > RUNTIME_VERSION {
            return Err(PackError::RuntimeTooOld { needs: min_runtime, have: RUNTIME_VERSION });
        }
        if let Some(offset) = (TEXT.end..PREAMBLE).find(|&i| bytes[i] != 0) {
            return Err(PackError::Reserved { offset, value: bytes[offset] });
        }
        let u64_at = |at: usize| u64::from(u32_at(at)) | u64::from(u32_at(at + 4)) << 32;
        let (header_len, text_len) = (u64_at(16), u64_at(TEXT.start));
        if let Some(len) = [header_len, text_len].into_iter().find(|len| *len > MAX_HEADER) {
            return Err(PackError::HeaderLength { len, cap: MAX_HEADER });
        }
        let end = PREAMBLE as u64 + header_len;
        if end > file_len {
            return Err(PackError::CutHeader { end, file_len });
        }
        let mut hash = [0; 16];
        hash.copy_from_slice(&bytes[24..40]);
        Ok(Preamble { min_runtime, header_len, hash: u128::from_be_bytes(hash), text_len })
    }

    /// Whether `header` is what this preamble announces.
    pub fn check_hash(&self, header: &[u8]) -> Result<(), PackError> {
        let actual = self.hash_of(header);
        if actual != self.hash {
            return Err(PackError::HeaderHash { expected: self.hash, actual });
        }
        Ok(())
    }

    /// Position just past the header.
    pub fn header_end(&self) -> u64 {
        PREAMBLE as u64 + self.header_len
    }
}
