//! Normalisation along the last axis.

use crate::cpu::elementwise::InOut;
use crate::cpu::isa::Isa;
use crate::cpu::loops::{
    BLOCK, COLUMNS, Cascade, LANES, PLAIN_IS_RARE, Variant, fold_lanes, join_lanes, opaque,
};
use crate::cpu::math;

/// A learned scale and shift for each element along the normalised axis; `None` stands for 1 and 0.
#[derive(Clone, Copy, Debug, Default)]
pub struct Affine<'a> {
    /// Factors.
    pub gamma: Option<&'a [f32]>,
    /// Summands.
    pub beta: Option<&'a [f32]>,
}

impl Affine<'_> {
    pub(super) fn check(&self, n: usize) {
        for part in [self.gamma, self.beta].into_iter().flatten() {
            assert_eq!(part.len(), n, "gamma or beta has {} elements for {n}", part.len());
        }
    }

    /// `y[i] = fma((y[i] - mean) * inv, gamma[i], beta[i])`, or the shorter form where a part is missing.
    #[inline(always)]
    fn apply(&self, y: &mut [f32], mean: f32, inv: f32) {
        match (self.gamma, self.beta) {
            (Some(gamma), Some(beta)) => {
                for ((y, g), b) in y.iter_mut().zip(gamma).zip(beta) {
                    *y = ((*y - mean) * inv).mul_add(*g, *b);
                }
            }
            (Some(gamma), None) => {
                for (y, g) in y.iter_mut().zip(gamma) {
                    *y = (*y - mean) * inv * *g;
                }
            }
            (None, Some(beta)) => {
                for (y, b) in y.iter_mut().zip(beta) {
                    *y = (*y - mean) * inv + *b;
                }
            }
            (None, None) => {
                for y in y {
                    *y = (*y - mean) * inv;
                }
            }
        }
    }
}

#[inline(always)]
fn sum(y: &[f32], f: impl Fn(f32, f32) -> f32) -> f32 {
    let mut sums = Cascade::<f32, LANES>::new(0.0);
    for run in y.chunks(BLOCK * LANES) {
        fold_lanes(&mut sums.acc, run, &f);
        sums.taken(run.len().div_ceil(LANES), |a, b| a + b);
    }
    join_lanes(sums.total(|a, b| a + b), |a, b| a + b)
}

/// Layer normalisation of every row of `[rows, n]`: `(x - mean) / sqrt(var + epsilon) * gamma + beta`, the
/// variance by a second pass over `x - mean`.
///
/// # Panics
/// When a length is not a multiple of `n`, or gamma or beta are not `n` long.
pub fn layer_norm(v: Variant, n: usize, epsilon: f32, affine: Affine<'_>, io: InOut<'_, f32>) {
    each_row(
        v,
        n,
        affine,
        io,
        #[inline(always)]
        |y| {
            let mean = sum(y, |a, x| a + x) / n as f32;
            let variance = sum(y, |a, x| (x - mean).mul_add(x - mean, a)) / n as f32;
            affine.apply(y, mean, 1.0 / (variance + epsilon).sqrt());
        },
    );
}

/// RMS normalisation of every row of `[rows, n]`: `x / sqrt(mean(x^2) + epsilon) * gamma + beta`.
///
/// # Panics
/// As [`layer_norm`].
pub fn rms_norm(v: Variant, n: usize, epsilon: f32, affine: Affine<'_>, io: InOut<'_, f32>) {
    each_row(
        v,
        n,
        affine,
        io,
        #[inline(always)]
        |y| {
            let mean_square = sum(y, |a, x| x.mul_add(x, a)) / n as f32;
            affine.apply(y, 0.0, 1.0 / (mean_square + epsilon).sqrt());
        },
    );
}

fn each_row(v: Variant, n: usize, affine: Affine<'_>, io: InOut<'_, f32>, f: impl Fn(&mut [f32])) {
    affine.check(n);
    let y = io.into_copy();
    if y.is_empty() {
        return;
    }
    assert!(n > 0 && y.len().is_multiple_of(n), "{} elements in rows of {n}", y.len());
    v.run(
        #[inline(always)]
        || {
            for y in y.chunks_exact_mut(n) {
                f(y);
            }
        },
    );
}

/// Which length a vector is divided by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LpNorm {
    /// Sum of magnitudes.
    L1,
    /// Square root of the sum of squares.
    L2,
}

/// Divides the `n` elements of every set of `[outer, n, inner]` by their length, or by `epsilon` if that is larger.
///
/// # Panics
/// When a length is not `outer * n * inner`.
pub fn lp_normalize(v: Variant, p: LpNorm, [outer, n, inner]: [usize; 3], epsilon: f32, io: InOut<'_, f32>) {
    let y = io.into_copy();
    assert_eq!(y.len(), outer * n * inner, "length is not {outer} * {n} * {inner}");
    if y.is_empty() {
        return;
    }
    let step = move |acc: f32, x: f32| if p == LpNorm::L1 { acc + x.abs() } else { x.mul_add(x, acc) };
    let length = move |acc: f32| math::max(if p == LpNorm::L1 { acc } else { acc.sqrt() }, epsilon);
    v.run(
        #[inline(always)]
        || {
            for y in y.chunks_exact_mut(n * inner) {
                if inner == 1 {
                    let length = length(sum(y, step));
                    y.iter_mut().for_each(|y| *y /= length);
                    continue;
                }
                for c in (0..inner).step_by(COLUMNS) {
                    let width = COLUMNS.min(inner - c);
                    let mut acc = [0.0; COLUMNS];
                    for row in y.chunks_exact(inner) {
                        for (acc, x) in acc.iter_mut().zip(&row[c..c + width]) {
                            *acc = step(*acc, *x);
                        }
                    }
                    acc.iter_mut().for_each(|acc| *acc = length(*acc));
                    for row in y.chunks_exact_mut(inner) {
                        for (x, length) in row[c..c + width].iter_mut().zip(&acc) {
                            *x /= *length;
                        }
                    }
                }
            }
        },
    );
}

/// Local response normalisation across channels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Lrn {
    /// Channels in the window: `(size - 1) / 2` before the channel, itself, and `size / 2` after it.
    pub size: usize,
    /// Factor on the window's mean square.
    pub alpha: f32,
    /// Exponent.
    pub beta: f32,
    /// Summand.
    pub bias: f32,
}

/// `y = x / (bias + alpha / size * sum of x^2 over the window)^beta`, channels last: `x`, `y` are
/// `[positions, channels]`.
///
/// # Panics
/// When the lengths differ or are not a multiple of `channels`.
pub fn lrn(v: Variant, lrn: Lrn, channels: usize, x: &[f32], y: &mut [f32]) {
    assert_eq!(x.len(), y.len(), "operand and result differ in length");
    if x.is_empty() {
        return;
    }
    assert!(channels > 0 && x.len().is_multiple_of(channels), "{} elements of {channels} channels", x.len());
    let before = lrn.size.saturating_sub(1) / 2;
    let factor = lrn.alpha / lrn.size as f32;
    let square = |sum: f32, x: f32| x.mul_add(x, sum);
    let scaled = |x: f32, sum: f32| x * math::pow(factor.mul_add(sum, lrn.bias), -lrn.beta);
    if PLAIN_IS_RARE && v.isa() == Isa::Scalar {
        return each_window(before, lrn.size, channels, x, y, opaque(&square), opaque(&scaled));
    }
    v.run_unless_rare(
        #[inline(always)]
        || each_window(before, lrn.size, channels, x, y, square, scaled),
    );
}

/// `scaled(x, sum)`, the sum being that of the squares around x.
#[inline(always)]
fn each_window(
    before: usize,
    size: usize,
    channels: usize,
    x: &[f32],
    y: &mut [f32],
    square: impl Fn(f32, f32) -> f32,
    scaled: impl Fn(f32, f32) -> f32,
) {
    for (x, y) in x.chunks_exact(channels).zip(y.chunks_exact_mut(channels)) {
        for (c, y) in y.iter_mut().enumerate() {
            let start = c.saturating_sub(before);
            let end = (c + size.saturating_sub(before)).min(channels);
            *y = x[start..end].iter().fold(0.0, |sum, x| square(sum, *x));
        }
        for (x, y) in x.iter().zip(y) {
            *y = scaled(*x, *y);
        }
    }
}
