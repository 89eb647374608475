//! An input of text and bytes: what a fuzzer can change apart, without moving the one when the other grows.

/// The most significant bit of the first word.
const FLAG: u32 = 1 << 31;

/// `u32` little-endian (a flag and the text's length), the text, the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parts<'a> {
    /// What it means is the target's.
    pub flag: bool,
    /// JSON, if all is well.
    pub text: &'a [u8],
    /// What follows.
    pub bytes: &'a [u8],
}

impl<'a> Parts<'a> {
    /// Any input has parts: a text that is said to be longer than there is ends with the input.
    pub fn of(input: &'a [u8]) -> Parts<'a> {
        let Some((head, rest)) = input.split_first_chunk::<4>() else {
            return Parts { flag: false, text: input, bytes: &[] };
        };
        let head = u32::from_le_bytes(*head);
        let len = ((head & !FLAG) as usize).min(rest.len());
        Parts { flag: head & FLAG != 0, text: &rest[..len], bytes: &rest[len..] }
    }

    /// The input that has these parts.
    pub fn join(&self) -> Vec<u8> {
        let head = self.text.len() as u32 | if self.flag { FLAG } else { 0 };
        [&head.to_le_bytes()[..], self.text, self.bytes].concat()
    }
}
