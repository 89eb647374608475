//! Pooling over windows of channels-last images `[batch, height, width, channels]`.
//!
//! The caller gives the output size, so every rounding mode of the field is served; a window is cut off at the
//! image's edge. Global pooling of f32 is a [`super::reduce::Reduction`].

use std::ops::Range;

use super::elementwise::{Int, Number};
use super::loops::{COLUMNS, Variant};
use super::quantize::Quantized;

/// One spatial axis of a pooling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolAxis {
    /// Elements of the operand.
    pub input: usize,
    /// Elements of the result.
    pub output: usize,
    /// Taps of a window.
    pub kernel: usize,
    /// Elements between the first taps of neighbouring windows.
    pub stride: usize,
    /// Elements between neighbouring taps.
    pub dilation: usize,
    /// Padding in front of the operand.
    pub before: usize,
    /// Padding behind the operand; counts only towards averages that include it.
    pub after: usize,
}

impl PoolAxis {
    /// The taps of window `o` that lie inside the operand, and how many lie inside the padded operand.
    fn taps(&self, o: usize) -> (Range<usize>, usize) {
        // Positions in the padded operand; tap `k` is at `first + k * dilation`.
        let first = o * self.stride;
        let taps_below = |end: usize| end.saturating_sub(first).div_ceil(self.dilation).min(self.kernel);
        let inside = taps_below(self.before)..taps_below(self.before + self.input);
        (inside, taps_below(self.before + self.input + self.after))
    }

    /// The operand's element under tap `k` of window `o`, for a tap inside.
    fn position(&self, o: usize, k: usize) -> usize {
        o * self.stride + k * self.dilation - self.before
    }
}

/// The shape of a pooling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pool {
    /// Images.
    pub batch: usize,
    /// Channels, contiguous.
    pub channels: usize,
    /// The vertical axis.
    pub y: PoolAxis,
    /// The horizontal axis.
    pub x: PoolAxis,
}

/// What an average is divided by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PoolCount {
    /// Taps inside the operand.
    Inside,
    /// Taps inside the padded operand; padding counts as zeros.
    Padded,
}

impl Pool {
    /// Elements of the operand.
    pub fn input_len(&self) -> usize {
        self.batch * self.y.input * self.x.input * self.channels
    }

    /// Elements of the result.
    pub fn output_len(&self) -> usize {
        self.batch * self.y.output * self.x.output * self.channels
    }

    /// Calls `f(pixel, taps, padded)` for every output pixel in order: `taps` yields the operand's first element of
    /// every tap inside, `padded` is the number of taps inside the padded operand.
    #[inline(always)]
    fn each_window(&self, mut f: impl FnMut(usize, Window<'_>)) {
        let mut pixel = 0;
        for image in 0..self.batch {
            for oy in 0..self.y.output {
                let (rows, padded_rows) = self.y.taps(oy);
                for ox in 0..self.x.output {
                    let (cols, padded_cols) = self.x.taps(ox);
                    let padded = padded_rows * padded_cols;
                    f(pixel, Window { pool: self, image, at: [oy, ox], rows: rows.clone(), cols, padded });
                    pixel += 1;
                }
            }
        }
    }

    fn check(&self, x: usize, y: usize) {
        assert_eq!(x, self.input_len(), "length of the operand is not its shape's");
        assert_eq!(y, self.output_len(), "length of the result is not its shape's");
        for axis in [self.y, self.x] {
            assert!(axis.stride > 0 && axis.dilation > 0, "stride and dilation of {axis:?}");
        }
    }
}

/// The taps of one output pixel that lie inside the operand.
struct Window<'a> {
    pool: &'a Pool,
    image: usize,
    at: [usize; 2],
    rows: Range<usize>,
    cols: Range<usize>,
    padded: usize,
}

impl Window<'_> {
    fn inside(&self) -> usize {
        self.rows.len() * self.cols.len()
    }

    /// Calls `f` with the operand's first element of every tap, in row-major order.
    #[inline(always)]
    fn each_tap(&self, mut f: impl FnMut(usize)) {
        let Pool { channels, y, x, .. } = *self.pool;
        for ky in self.rows.clone() {
            let row = (self.image * y.input + y.position(self.at[0], ky)) * x.input;
            for kx in self.cols.clone() {
                f((row + x.position(self.at[1], kx)) * channels);
            }
        }
    }
}

/// Largest element under each window; `lowest` where a window lies wholly in the padding (-inf for f32, the smallest
/// value for integers). NaN gives NaN.
///
/// # Panics
/// When a length is not the shape's, or a stride or dilation is 0.
pub fn max_pool<T: Number>(v: Variant, pool: &Pool, lowest: T, x: &[T], y: &mut [T]) {
    pool.check(x.len(), y.len());
    let channels = pool.channels;
    v.run(
        #[inline(always)]
        || {
            pool.each_window(
                #[inline(always)]
                |pixel, window| {
                    let y = &mut y[pixel * channels..][..channels];
                    y.fill(lowest);
                    window.each_tap(
                        #[inline(always)]
                        |tap| {
                            for (y, x) in y.iter_mut().zip(&x[tap..][..channels]) {
                                *y = y.max(*x);
                            }
                        },
                    );
                },
            );
        },
    );
}

/// [`max_pool`] of f32, compiled in this crate (see [`crate::cpu::quantize::i8s`]).
///
/// # Panics
/// As [`max_pool`].
pub fn max_pool_f32(v: Variant, pool: &Pool, x: &[f32], y: &mut [f32]) {
    max_pool(v, pool, f32::NEG_INFINITY, x, y);
}

/// [`max_pool`] of i8, compiled in this crate.
///
/// # Panics
/// As [`max_pool`].
pub fn max_pool_i8(v: Variant, pool: &Pool, x: &[i8], y: &mut [i8]) {
    max_pool(v, pool, i8::MIN, x, y);
}

/// Average under each window: the taps inside added in row-major order, divided by the count. 0 where the count is 0.
///
/// # Panics
/// As [`max_pool`].
pub fn average_pool(v: Variant, pool: &Pool, count: PoolCount, x: &[f32], y: &mut [f32]) {
    pool.check(x.len(), y.len());
    let channels = pool.channels;
    v.run(
        #[inline(always)]
        || {
            pool.each_window(
                #[inline(always)]
                |pixel, window| {
                    let y = &mut y[pixel * channels..][..channels];
                    y.fill(0.0);
                    window.each_tap(
                        #[inline(always)]
                        |tap| {
                            for (y, x) in y.iter_mut().zip(&x[tap..][..channels]) {
                                *y += *x;
                            }
                        },
                    );
                    let n = window.count(count).max(1) as f32;
                    for y in y {
                        *y /= n;
                    }
                },
            );
        },
    );
}

impl Window<'_> {
    fn count(&self, count: PoolCount) -> usize {
        match count {
            PoolCount::Inside => self.inside(),
            PoolCount::Padded => self.padded,
        }
    }
}

/// How an average of quantized elements becomes a quantized result.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AverageRescale {
    /// The operand's scale over the result's.
    pub multiplier: f32,
    /// The operand's zero point.
    pub x_zero: i32,
    /// The result's zero point.
    pub y_zero: i32,
}

/// Average of 8-bit elements: `saturate(round_ties_even((sum - inside * x_zero) * (multiplier / count)) + y_zero)`,
/// the sum exact in i32; `inside` is the number of taps inside the operand. The count is at least 1.
///
/// # Panics
/// As [`max_pool`], or when a window has more than 2^22 taps, whose sum might not be exact.
pub fn average_pool_quantized<Q: Quantized + Int>(
    v: Variant,
    pool: &Pool,
    count: PoolCount,
    rescale: AverageRescale,
    x: &[Q],
    y: &mut [Q],
) {
    pool.check(x.len(), y.len());
    let taps = pool.y.kernel.saturating_mul(pool.x.kernel);
    assert!(taps <= 1 << 22, "a window of {taps} taps");
    let channels = pool.channels;
    v.run(
        #[inline(always)]
        || {
            pool.each_window(
                #[inline(always)]
                |pixel, window| {
                    let y = &mut y[pixel * channels..][..channels];
                    let bias = window.inside() as i32 * rescale.x_zero;
                    let multiplier = rescale.multiplier / window.count(count).max(1) as f32;
                    for (block, y) in y.chunks_mut(COLUMNS).enumerate() {
                        let mut sum = [0i32; COLUMNS];
                        window.each_tap(
                            #[inline(always)]
                            |tap| {
                                let x = &x[tap + block * COLUMNS..][..y.len()];
                                for (sum, x) in sum.iter_mut().zip(x) {
                                    *sum += x.to_i32();
                                }
                            },
                        );
                        for (y, sum) in y.iter_mut().zip(sum) {
                            *y = Q::saturate((sum - bias) as f32 * multiplier, rescale.y_zero);
                        }
                    }
                },
            );
        },
    );
}

/// [`average_pool_quantized`] of i8, compiled in this crate.
///
/// # Panics
/// As [`average_pool_quantized`].
pub fn average_pool_i8(
    v: Variant,
    pool: &Pool,
    count: PoolCount,
    rescale: AverageRescale,
    x: &[i8],
    y: &mut [i8],
) {
    average_pool_quantized(v, pool, count, rescale, x, y);
}

#[cfg(test)]
mod tests;
