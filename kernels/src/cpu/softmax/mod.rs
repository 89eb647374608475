//! Softmax and its logarithm over one axis of `[outer, n, inner]`.

#[cfg(target_arch = "x86_64")]
mod avx512;

use super::elementwise::InOut;
use super::loops::{COLUMNS, LANES, Variant, fold_lanes, join_lanes};
use super::math;

/// Which of the two functions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Softmax {
    /// `exp(x - max) / sum(exp(x - max))`
    Softmax,
    /// `x - max - ln(sum(exp(x - max)))`
    LogSoftmax,
}

/// Softmax over the `n` elements of every row of `[outer, n, inner]` (`inner = 1`: the last axis).
///
/// Additions are in the order of [`super::reduce`]; an exponential below `exp(-87)`, about the least normal number, is 0. A set of -inf only (everything masked) gives 0 by
/// `Softmax` and -inf by `LogSoftmax`; a NaN or +inf makes its whole set NaN.
///
/// # Panics
/// When a length is not `outer * n * inner`.
pub fn softmax(v: Variant, kind: Softmax, [outer, n, inner]: [usize; 3], io: InOut<'_, f32>) {
    let y = io.into_copy();
    assert_eq!(y.len(), outer * n * inner, "length is not {outer} * {n} * {inner}");
    if y.is_empty() {
        return;
    }
    for y in y.chunks_exact_mut(n * inner) {
        match (kind, inner) {
            // SAFETY: `wide` says that the CPU has AVX-512.
            #[cfg(target_arch = "x86_64")]
            (Softmax::Softmax, 1) if v.wide() => unsafe { avx512::softmax_row(y) },
            (Softmax::Softmax, 1) => v.run(
                #[inline(always)]
                || softmax_row(y),
            ),
            (Softmax::LogSoftmax, 1) => v.run(
                #[inline(always)]
                || log_softmax_row(y),
            ),
            _ => v.run(
                #[inline(always)]
                || columns(kind, y, inner),
            ),
        }
    }
}

/// The least exponent whose exponential counts. Those below are subnormal numbers, which take many times as long, beside a sum of at
/// least 1.
const LEAST: f32 = -87.0;

/// `exp(x)` for `x <= 0`, 0 below [`LEAST`].
#[inline(always)]
fn term(x: f32) -> f32 {
    let e = math::exp(if x < LEAST { LEAST } else { x });
    if x < LEAST { 0.0 } else { e }
}

/// A shift that keeps `x - shift` free of inf - inf when all are -inf.
#[inline(always)]
fn finite_shift(max: f32) -> f32 {
    if max == f32::NEG_INFINITY { 0.0 } else { max }
}

#[inline(always)]
fn row_shift(y: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    fold_lanes(&mut lanes, y, math::max);
    finite_shift(join_lanes(lanes, math::max))
}

#[inline(always)]
fn softmax_row(y: &mut [f32]) {
    let shift = row_shift(y);
    for y in &mut *y {
        *y = term(*y - shift);
    }
    let mut lanes = [0.0; LANES];
    fold_lanes(&mut lanes, y, |a, b| a + b);
    let sum = divisor(join_lanes(lanes, |a, b| a + b));
    for y in y {
        *y /= sum;
    }
}

/// A sum is 0 only when every element was -inf: dividing the zeros by 1 leaves them.
#[inline(always)]
fn divisor(sum: f32) -> f32 {
    if sum == 0.0 { 1.0 } else { sum }
}

#[inline(always)]
fn log_softmax_row(y: &mut [f32]) {
    let shift = row_shift(y);
    let mut lanes = [0.0; LANES];
    fold_lanes(
        &mut lanes,
        y,
        #[inline(always)]
        |sum, x| sum + term(x - shift),
    );
    let log = math::ln(divisor(join_lanes(lanes, |a, b| a + b)));
    for y in y {
        *y = *y - shift - log;
    }
}

#[inline(always)]
fn columns(kind: Softmax, y: &mut [f32], inner: usize) {
    for c in (0..inner).step_by(COLUMNS) {
        let width = COLUMNS.min(inner - c);
        let mut shift = [f32::NEG_INFINITY; COLUMNS];
        for row in y.chunks_exact(inner) {
            for (m, x) in shift.iter_mut().zip(&row[c..c + width]) {
                *m = math::max(*m, *x);
            }
        }
        shift.iter_mut().for_each(|m| *m = finite_shift(*m));
        let mut sum = [0.0; COLUMNS];
        for row in y.chunks_exact_mut(inner) {
            for ((sum, x), shift) in sum.iter_mut().zip(&mut row[c..c + width]).zip(&shift) {
                let e = term(*x - *shift);
                *sum += e;
                if kind == Softmax::Softmax {
                    *x = e;
                }
            }
        }
        for sum in &mut sum {
            let d = divisor(*sum);
            *sum = if kind == Softmax::Softmax { d } else { math::ln(d) };
        }
        for row in y.chunks_exact_mut(inner) {
            for ((x, sum), shift) in row[c..c + width].iter_mut().zip(&sum).zip(&shift) {
                *x = if kind == Softmax::Softmax { *x / *sum } else { *x - *shift - *sum };
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::loops::supported;

    fn run(v: Variant, kind: Softmax, dims: [usize; 3], x: &[f32]) -> Vec<f32> {
        let mut y = vec![9.0; x.len()];
        softmax(v, kind, dims, InOut::Apart(x, &mut y));
        let mut in_place = x.to_vec();
        softmax(v, kind, dims, InOut::InPlace(&mut in_place));
        assert!(y.iter().zip(&in_place).all(|(a, b)| a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan()));
        y
    }

    #[test]
    fn agrees_with_f64_on_every_axis_and_variant() {
        for dims in
            [[1, 1, 1], [3, 37, 1], [2, 5, 70], [1, 300, 1], [4, 3, 16], [0, 3, 1], [2, 0, 3], [1, 7, 64]]
        {
            let [outer, n, inner] = dims;
            let x: Vec<f32> = (0..outer * n * inner).map(|i| (i * 7919 % 113) as f32 / 9.0 - 5.0).collect();
            for kind in [Softmax::Softmax, Softmax::LogSoftmax] {
                let all: Vec<Vec<f32>> = supported().map(|v| run(v, kind, dims, &x)).collect();
                assert!(all.iter().all(|y| y == &all[0]), "{kind:?} {dims:?}");
                for (o, i) in (0..outer).flat_map(|o| (0..inner).map(move |i| (o, i))) {
                    let at = |k: usize| (o * n + k) * inner + i;
                    let sum: f64 = (0..n).map(|k| f64::from(x[at(k)]).exp()).sum();
                    for k in 0..n {
                        let log = f64::from(x[at(k)]) - sum.ln();
                        let want = if kind == Softmax::Softmax { log.exp() } else { log };
                        let got = f64::from(all[0][at(k)]);
                        let bound =
                            if kind == Softmax::Softmax { 2e-6 * want } else { 1e-6 * (1.0 + want.abs()) };
                        assert!((got - want).abs() <= bound, "{got} {want}");
                    }
                }
            }
        }
    }

    #[test]
    fn what_is_far_below_the_largest_is_zero() {
        for v in supported() {
            for dims in [[1, 4, 1], [1, 4, 3]] {
                let x: Vec<f32> =
                    [0.0, -86.9, -87.1, -1000.0].into_iter().flat_map(|x| vec![x; dims[2]]).collect();
                let y = run(v, Softmax::Softmax, dims, &x);
                assert!(y[dims[2]].is_normal(), "{y:?}");
                assert!(y[2 * dims[2]..].iter().all(|y| *y == 0.0), "{y:?}");
            }
        }
    }

    #[test]
    fn masked_rows_give_zeros_and_nan_stays_in_its_row() {
        let inf = f32::INFINITY;
        for v in supported() {
            for dims in [[2, 3, 1], [1, 3, 2]] {
                let transpose = |x: [f32; 6]| {
                    if dims[2] == 1 { x } else { [x[0], x[3], x[1], x[4], x[2], x[5]] }
                };
                let masked = transpose([-inf, -inf, -inf, 1.0, 1.0, -inf]);
                assert_eq!(
                    run(v, Softmax::Softmax, dims, &masked),
                    transpose([0.0, 0.0, 0.0, 0.5, 0.5, 0.0])
                );
                let log = run(v, Softmax::LogSoftmax, dims, &masked);
                let half = 0.5f32.ln();
                assert_eq!(log, transpose([-inf, -inf, -inf, half, half, -inf]));
                let y = run(v, Softmax::Softmax, dims, &transpose([f32::NAN, 1.0, 2.0, 1.0, 1.0, -inf]));
                let mut nan: Vec<bool> = y.iter().map(|y| y.is_nan()).collect();
                nan.sort();
                assert_eq!(nan, [false, false, false, true, true, true]);
            }
        }
    }
}
