//! Attention over kept keys and values, a block of tokens at a time: what products leave to do.
//!
//! A head's keys are kept as `[tokens / 16][depth][16]`, its values as `[depth / 16][tokens][16]`: panels of
//! [`super::gemm_f32`] once they are floats, so that neither scores nor sums of values need a copy in another order. Elements are f32, f16
//! rounded to nearest and saturated, or codes of 8 bits with a scale for each token.
//!
//! Softmax over blocks (Milakov and Gimelshein, Online normalizer calculation for softmax, 2018): with the maximum `m` and the sum `s` of
//! all blocks so far,
//!
//! ```text
//! m' = max(m, scores)     factor = exp(m - m')     terms = exp(scores - m')     s' = s * factor + sum(terms)
//! ```
//! what was summed up before is multiplied by the factor. Additions are in the order of [`super::reduce`]; an exponential below `exp(-87)` is 0.

mod kept;
#[cfg(test)]
mod tests;

pub use kept::{Kept, KeptMut, PANEL, read_keys, read_values, write_key, write_value};

use super::loops::{LANES, Variant, fold_lanes, join_lanes};
use super::math;

/// Softmax so far.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Running {
    /// The greatest score.
    pub max: f32,
    /// The sum of `exp(score - max)`.
    pub sum: f32,
}

impl Running {
    /// Of no scores.
    pub const EMPTY: Running = Running { max: f32::NEG_INFINITY, sum: 0.0 };
}

/// See [`super::softmax`].
const LEAST: f32 = -87.0;

#[inline(always)]
fn term(x: f32) -> f32 {
    let e = math::exp(if x < LEAST { LEAST } else { x });
    if x < LEAST { 0.0 } else { e }
}

/// Takes a block of scores in: they become `exp(score - max)`. Gives the factor of what was summed up before. With a `cap`, a score `s` counts
/// as `cap * tanh(s / cap)`.
pub fn fold(v: Variant, cap: Option<f32>, scores: &mut [f32], running: &mut Running) -> f32 {
    let Running { max, sum } = *running;
    let (max, sum, factor) = v.run(
        #[inline(always)]
        || {
            if let Some(cap) = cap {
                for score in &mut *scores {
                    *score = cap * math::tanh(*score / cap);
                }
            }
            let mut lanes = [f32::NEG_INFINITY; LANES];
            fold_lanes(&mut lanes, scores, math::max);
            let most = math::max(join_lanes(lanes, math::max), max);
            let shift = if most == f32::NEG_INFINITY { 0.0 } else { most };
            for score in &mut *scores {
                *score = term(*score - shift);
            }
            let mut lanes = [0.0; LANES];
            fold_lanes(&mut lanes, scores, |a, b| a + b);
            let factor = term(max - shift);
            (most, sum * factor + join_lanes(lanes, |a, b| a + b), factor)
        },
    );
    *running = Running { max, sum };
    factor
}

/// `sums = sums * factor`.
pub fn rescale(v: Variant, sums: &mut [f32], factor: f32) {
    v.run(
        #[inline(always)]
        || sums.iter_mut().for_each(|sum| *sum *= factor),
    );
}

/// `out = sums / running.sum`: zeros where there was no score.
///
/// # Panics
/// When the lengths differ.
pub fn finish(v: Variant, sums: &[f32], running: Running, out: &mut [f32]) {
    assert_eq!(sums.len(), out.len(), "operand and result differ in length");
    let by = if running.sum == 0.0 { 1.0 } else { running.sum };
    v.run(
        #[inline(always)]
        || out.iter_mut().zip(sums).for_each(|(out, sum)| *out = *sum / by),
    );
}
