//! Groups of 32 elements with a scale, and a minimum in the types `_1`. Byte `j` of the codes has element `j` in its low half and
//! `j + 16` in its high one.

use super::{Block, half};

/// Elements of a block.
const BLOCK: usize = 32;

/// Codes of 4 bits, those of 5 with their highest bits in `high`, less `zero`.
fn codes(low: &[u8], high: u32, zero: i8, out: &mut [i8]) {
    for (j, byte) in low.iter().enumerate() {
        let fifth = |i: usize| ((high >> i & 1) << 4) as i8;
        out[j] = ((byte & 15) as i8 | fifth(j)) - zero;
        out[j + BLOCK / 2] = ((byte >> 4) as i8 | fifth(j + BLOCK / 2)) - zero;
    }
}

fn fifths(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

/// f16 scale, 16 bytes of codes: `d (q - 8)`.
pub fn q4_0(bytes: &[u8], out: &mut Block) {
    out.scales[0] = half(bytes, 0);
    codes(&bytes[2..18], 0, 8, &mut out.codes);
}

/// f16 scale, f16 minimum, 16 bytes of codes: `d q + m`.
pub fn q4_1(bytes: &[u8], out: &mut Block) {
    (out.scales[0], out.minima[0]) = (half(bytes, 0), half(bytes, 2));
    codes(&bytes[4..20], 0, 0, &mut out.codes);
}

/// f16 scale, 32 fifth bits, 16 bytes of codes: `d (q - 16)`.
pub fn q5_0(bytes: &[u8], out: &mut Block) {
    out.scales[0] = half(bytes, 0);
    codes(&bytes[6..22], fifths(bytes, 2), 16, &mut out.codes);
}

/// f16 scale, f16 minimum, 32 fifth bits, 16 bytes of codes: `d q + m`.
pub fn q5_1(bytes: &[u8], out: &mut Block) {
    (out.scales[0], out.minima[0]) = (half(bytes, 0), half(bytes, 2));
    codes(&bytes[8..24], fifths(bytes, 4), 0, &mut out.codes);
}

/// f16 scale, 32 signed bytes: `d q`.
pub fn q8_0(bytes: &[u8], out: &mut Block) {
    out.scales[0] = half(bytes, 0);
    out.codes.iter_mut().zip(&bytes[2..34]).for_each(|(code, byte)| *code = *byte as i8);
}
