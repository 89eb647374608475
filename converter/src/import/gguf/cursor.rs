//! Numbers and strings one after the other, each checked against what is left of the file.

use std::ops::Range;

/// Bytes and a position in them.
pub(super) struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

/// What does not fit, and where.
#[derive(Debug)]
pub(super) struct Misfit {
    pub at: usize,
    pub why: String,
}

type Read<T> = Result<T, Misfit>;

impl<'a> Cursor<'a> {
    pub fn new(bytes: &'a [u8]) -> Cursor<'a> {
        Cursor { bytes, at: 0 }
    }

    /// The position.
    pub fn at(&self) -> usize {
        self.at
    }

    /// Bytes behind the position.
    pub fn left(&self) -> usize {
        self.bytes.len() - self.at
    }

    /// What does not fit at the position.
    pub fn misfit<T>(&self, why: impl Into<String>) -> Read<T> {
        Err(Misfit { at: self.at, why: why.into() })
    }

    /// The place of the next `count` bytes, of which the position is behind.
    pub fn skip(&mut self, count: u64, what: &str) -> Read<Range<usize>> {
        let end = usize::try_from(count).ok().filter(|count| *count <= self.left());
        let Some(count) = end else {
            let left = self.left();
            return self.misfit(format!(
                "{what} of {count} bytes, and {left} are left of the file; it may be cut: fetch it again"
            ));
        };
        let start = self.at;
        self.at += count;
        Ok(start..self.at)
    }

    fn array<const N: usize>(&mut self, what: &str) -> Read<[u8; N]> {
        let range = self.skip(N as u64, what)?;
        let mut array = [0; N];
        array.copy_from_slice(&self.bytes[range]);
        Ok(array)
    }

    pub fn u32(&mut self, what: &str) -> Read<u32> {
        self.array(what).map(u32::from_le_bytes)
    }

    pub fn u64(&mut self, what: &str) -> Read<u64> {
        self.array(what).map(u64::from_le_bytes)
    }

    /// The place of a string, its length before it.
    pub fn string(&mut self, what: &str) -> Read<Range<usize>> {
        let len = self.u64(what)?;
        self.skip(len, what)
    }

    /// A string of at most `most` bytes.
    pub fn name(&mut self, what: &str, most: usize) -> Read<&'a str> {
        let at = self.at;
        let len = self.u64(what)?;
        if len > most as u64 {
            return Err(Misfit { at, why: format!("{what} of {len} bytes; {most} are the most") });
        }
        let range = self.skip(len, what)?;
        let bytes: &'a [u8] = self.bytes;
        std::str::from_utf8(&bytes[range]).map_err(|e| Misfit { at, why: format!("{what} is no UTF-8: {e}") })
    }
}
