//! Blocks of 256 elements in groups of 16 or 32, whose scales and minima are codes themselves.

use super::{Block, half};

/// 16 bytes of 4-bit scales and minima, 64 of 2-bit codes, f16 scale of scales, f16 scale of minima. A run of 32 bytes has 4 x 32
/// codes, one after the other by their bits.
pub fn q2_k(bytes: &[u8], out: &mut Block) {
    let (d, least) = (half(bytes, 80), half(bytes, 82));
    for (g, byte) in bytes[..16].iter().enumerate() {
        out.scales[g] = d * f32::from(byte & 15);
        out.minima[g] = -(least * f32::from(byte >> 4));
    }
    for (i, code) in out.codes.iter_mut().enumerate() {
        let (run, part, at) = (i / 128, i / 32 % 4, i % 32);
        *code = (bytes[16 + run * 32 + at] >> (2 * part) & 3) as i8;
    }
}

/// 32 bytes of third bits, 64 of 2-bit codes, 12 of 6-bit scales, f16 scale of scales. `d (s - 32) (q - 4)`.
pub fn q3_k(bytes: &[u8], out: &mut Block) {
    let (third, low, scales) = (&bytes[..32], &bytes[32..96], &bytes[96..108]);
    let d = half(bytes, 108);
    for g in 0..16 {
        // Four bits of 16 scales in 8 bytes, then two of each in 4.
        let four = scales[g % 8] >> (4 * (g / 8)) & 15;
        let two = scales[8 + g % 4] >> (2 * (g / 4)) & 3;
        out.scales[g] = d * (f32::from(four | two << 4) - 32.0);
    }
    for (i, code) in out.codes.iter_mut().enumerate() {
        let (run, part, at) = (i / 128, i / 32 % 4, i % 32);
        let high = third[at] >> (4 * run + part) & 1;
        *code = (low[run * 32 + at] >> (2 * part) & 3 | high << 2) as i8 - 4;
    }
}

/// The 6-bit scale and minimum of group `g` out of 12 bytes: four of each in 8 bytes, whose top bits are those of the other four.
fn scale_and_minimum(packed: &[u8], g: usize) -> (f32, f32) {
    let (scale, least) = if g < 4 {
        (packed[g] & 63, packed[g + 4] & 63)
    } else {
        let byte = packed[g + 4];
        (byte & 15 | packed[g - 4] >> 6 << 4, byte >> 4 | packed[g] >> 6 << 4)
    };
    (f32::from(scale), f32::from(least))
}

fn scales_and_minima(bytes: &[u8], out: &mut Block) {
    let (d, least) = (half(bytes, 0), half(bytes, 2));
    for g in 0..8 {
        let (scale, minimum) = scale_and_minimum(&bytes[4..16], g);
        (out.scales[g], out.minima[g]) = (d * scale, -(least * minimum));
    }
}

/// f16 scale of scales, f16 scale of minima, 12 bytes of 6-bit scales and minima, 128 of codes. A run of 32 bytes has one group in its low
/// halves and the next in its high ones.
pub fn q4_k(bytes: &[u8], out: &mut Block) {
    scales_and_minima(bytes, out);
    for (i, code) in out.codes.iter_mut().enumerate() {
        let (g, at) = (i / 32, i % 32);
        *code = (bytes[16 + g / 2 * 32 + at] >> (4 * (g % 2)) & 15) as i8;
    }
}

/// As [`q4_k`], with 32 bytes of fifth bits before the codes: bit `g` of byte `i` is that of element `i` of group `g`.
pub fn q5_k(bytes: &[u8], out: &mut Block) {
    scales_and_minima(bytes, out);
    for (i, code) in out.codes.iter_mut().enumerate() {
        let (g, at) = (i / 32, i % 32);
        let low = bytes[48 + g / 2 * 32 + at] >> (4 * (g % 2)) & 15;
        *code = (low | (bytes[16 + at] >> g & 1) << 4) as i8;
    }
}

/// 128 bytes of the low 4 bits, 64 of the high 2, 16 signed scales, f16 scale of scales. `d s (q - 32)`. Of 128 elements, the first two runs
/// of 32 are the low halves of 64 bytes and the others the high ones.
pub fn q6_k(bytes: &[u8], out: &mut Block) {
    let d = half(bytes, 208);
    for (scale, byte) in out.scales.iter_mut().zip(&bytes[192..208]) {
        *scale = d * f32::from(*byte as i8);
    }
    for (i, code) in out.codes.iter_mut().enumerate() {
        let (half, run, at) = (i / 128, i / 32 % 4, i % 32);
        let low = bytes[half * 64 + run % 2 * 32 + at] >> (4 * (run / 2)) & 15;
        let high = bytes[128 + half * 32 + at] >> (2 * run) & 3;
        *code = (low | high << 4) as i8 - 32;
    }
}

/// f32 scale, 256 signed bytes, and sums of 16 of them each, which say nothing new.
pub fn q8_k(bytes: &[u8], out: &mut Block) {
    out.scales[0] = f32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    out.codes.iter_mut().zip(&bytes[4..260]).for_each(|(code, byte)| *code = *byte as i8);
}
