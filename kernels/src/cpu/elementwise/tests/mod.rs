use super::*;
use crate::cpu::loops::{Variant, supported};

mod binary;
mod cast;
mod unary;

const SPECIAL: [f32; 10] =
    [0.0, -0.0, f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1e-40, -1e-40, 3e38, -3e38, 1.0];

/// Seeded numbers over a few magnitudes, with special values between.
fn floats(n: usize, seed: u32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(1);
    (0..n)
        .map(|i| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let x = (state >> 8) as f32 / 1_048_576.0 - 8.0;
            if i % 7 == 3 { SPECIAL[(state >> 16) as usize % SPECIAL.len()] } else { x }
        })
        .collect()
}

/// Bits, with every NaN alike.
fn bits(x: &[f32]) -> Vec<u32> {
    x.iter().map(|x| if x.is_nan() { 0x7fc0_0000 } else { x.to_bits() }).collect()
}

/// Index of result element `i` in an operand of `shape` that broadcasts to `out`.
fn source(i: usize, out: &[usize], shape: &[usize]) -> usize {
    let (mut rest, mut at, mut stride) = (i, 0, 1);
    for axis in 0..out.len() {
        let position = rest % out[out.len() - 1 - axis];
        rest /= out[out.len() - 1 - axis];
        if let Some(dim) = shape.len().checked_sub(axis + 1).map(|a| shape[a]) {
            at += if dim == 1 { 0 } else { position * stride };
            stride *= dim;
        }
    }
    at
}

fn len(shape: &[usize]) -> usize {
    shape.iter().product()
}
