//! Codes of 4 bits that stand for 16 levels which are not evenly spaced. The levels are integers, so they are the codes here.

use super::{Block, half};

/// The levels.
const LEVELS: [i8; 16] = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];

/// 32 elements: byte `j` has element `j` in its low half and `j + 16` in its high one.
fn levels(bytes: &[u8], out: &mut [i8]) {
    for (j, byte) in bytes.iter().enumerate() {
        out[j] = LEVELS[usize::from(byte & 15)];
        out[j + 16] = LEVELS[usize::from(byte >> 4)];
    }
}

/// f16 scale, 16 bytes of codes.
pub fn iq4_nl(bytes: &[u8], out: &mut Block) {
    out.scales[0] = half(bytes, 0);
    levels(&bytes[2..18], &mut out.codes);
}

/// f16 scale of scales, 2 bytes of their high 2 bits, 4 of their low 4, 128 of codes. `d (s - 32) level`.
pub fn iq4_xs(bytes: &[u8], out: &mut Block) {
    let (d, high) = (half(bytes, 0), u16::from_le_bytes([bytes[2], bytes[3]]));
    for g in 0..8 {
        let low = bytes[4 + g / 2] >> (4 * (g % 2)) & 15;
        let scale = low | ((high >> (2 * g) & 3) as u8) << 4;
        out.scales[g] = d * (f32::from(scale) - 32.0);
        levels(&bytes[8 + g * 16..][..16], &mut out.codes[g * 32..][..32]);
    }
}
