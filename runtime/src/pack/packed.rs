//! A header's text as it lies in the file: as it is when it is short, else deflated. Names, numbers and brackets repeat, so a long one takes a fifth.
#![forbid(unsafe_code)]

use super::PackError;
use std::io::{Read, Write};

/// Texts up to this length lie in the file as they are.
const SHORT: usize = 8 << 10;

/// The bytes of a long text; `None` for one that stays as it is.
pub(super) fn packed(text: &[u8]) -> Option<Vec<u8>> {
    if text.len() <= SHORT {
        return None;
    }
    let mut packer = flate2::write::DeflateEncoder::new(Vec::new(), flate2::Compression::best());
    // Memory takes all that is written to it.
    packer.write_all(text).ok()?;
    packer.finish().ok()
}

/// The text of `len` bytes that `stored` begins with.
///
/// # Errors
/// When it is damaged or of another length, or there is no memory for it.
pub(super) fn unpacked(stored: &[u8], len: u64) -> Result<Vec<u8>, PackError> {
    let mut text = Vec::new();
    text.try_reserve_exact(len as usize).map_err(|_| PackError::Memory { bytes: len })?;
    // A byte more than there may be tells a longer text.
    let read = flate2::read::DeflateDecoder::new(stored).take(len + 1).read_to_end(&mut text);
    match read {
        Ok(found) if found as u64 == len => Ok(text),
        Ok(found) => Err(PackError::HeaderText { len, found: found as u64 }),
        Err(_) => Err(PackError::HeaderText { len, found: text.len() as u64 }),
    }
}

#[cfg(test)]
mod tests {
    use super::{SHORT, packed, unpacked};
    use crate::pack::PackError;

    #[test]
    fn a_long_text_comes_back_and_no_other_does() {
        assert_eq!(packed(&[b' '; SHORT]), None);
        let text: Vec<u8> = (0..5 * SHORT).map(|i| (i % 7 * (i % 11)) as u8).collect();
        let mut stored = packed(&text).unwrap();
        assert!(stored.len() < text.len() / 4);
        let len = text.len() as u64;
        // What follows is room that the writer did not need.
        stored.resize(stored.len() + 9, 0);
        assert_eq!(unpacked(&stored, len).unwrap(), text);
        for wrong in [0, len - 1, len + 1] {
            assert!(matches!(unpacked(&stored, wrong), Err(PackError::HeaderText { .. })), "{wrong}");
        }
        for cut in [0, 1, stored.len() / 2] {
            assert!(matches!(unpacked(&stored[..cut], len), Err(PackError::HeaderText { .. })), "{cut}");
        }
    }
}
