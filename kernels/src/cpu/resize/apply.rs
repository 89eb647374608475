//! Applying the tables.

use super::AxisTable;
use crate::cpu::isa::Isa;
use crate::cpu::loops::{PLAIN_IS_RARE, Variant, opaque};
use crate::cpu::quantize::Quantized;

/// An element that can be interpolated: f32, or an 8-bit integer by way of f32.
pub trait Sample: Copy {
    /// Exact widening.
    fn to_f32(self) -> f32;
    /// The nearest value, ties to even, saturated.
    fn from_f32(x: f32) -> Self;
}

impl Sample for f32 {
    #[inline(always)]
    fn to_f32(self) -> f32 {
        self
    }
    #[inline(always)]
    fn from_f32(x: f32) -> f32 {
        x
    }
}

impl Sample for i8 {
    #[inline(always)]
    fn to_f32(self) -> f32 {
        f32::from(self)
    }
    #[inline(always)]
    fn from_f32(x: f32) -> i8 {
        Quantized::saturate(x, 0)
    }
}

impl Sample for u8 {
    #[inline(always)]
    fn to_f32(self) -> f32 {
        f32::from(self)
    }
    #[inline(always)]
    fn from_f32(x: f32) -> u8 {
        Quantized::saturate(x, 0)
    }
}

/// Resizes the middle axis of `[outer, table.input(), inner]` to `[outer, table.output(), inner]`:
/// `y = w[0] * x[0]`, then `fma(w[k], x[k], y)` for the further taps. Types may differ: an 8-bit image resized
/// along two axes stays f32 in between and is rounded once.
///
/// # Panics
/// When a length is not its shape's, or the table holds an index that its axis does not have.
pub fn resize_axis<X: Sample, Y: Sample>(
    v: Variant,
    table: &AxisTable<'_>,
    outer: usize,
    inner: usize,
    x: &[X],
    y: &mut [Y],
) {
    let (n, out) = (table.input(), table.output());
    assert_eq!(x.len(), outer * n * inner, "operand is not {outer} x {n} x {inner}");
    assert_eq!(y.len(), outer * out * inner, "result is not {outer} x {out} x {inner}");
    if y.is_empty() {
        return;
    }
    let images = x.chunks_exact(n * inner).zip(y.chunks_exact_mut(out * inner));
    if PLAIN_IS_RARE && v.isa() == Isa::Scalar {
        let (to, from) = (opaque(&X::to_f32 as &dyn Fn(X) -> f32), opaque(&Y::from_f32 as &dyn Fn(f32) -> Y));
        images.for_each(|(x, y)| plain(table, x, y, inner, to, from));
        return;
    }
    v.run_unless_rare(
        #[inline(always)]
        || {
            for (x, y) in images {
                if inner == 1 {
                    along(table, x, y);
                } else {
                    rows(table, x, y, inner);
                }
            }
        },
    );
}

/// [`resize_axis`] of f32, compiled in this crate (see [`crate::cpu::quantize::i8s`]).
///
/// # Panics
/// As [`resize_axis`].
pub fn resize_axis_f32(
    v: Variant,
    table: &AxisTable<'_>,
    outer: usize,
    inner: usize,
    x: &[f32],
    y: &mut [f32],
) {
    resize_axis(v, table, outer, inner, x, y);
}

/// [`resize_axis`] of i8, compiled in this crate.
///
/// # Panics
/// As [`resize_axis`].
pub fn resize_axis_i8(v: Variant, table: &AxisTable<'_>, outer: usize, inner: usize, x: &[i8], y: &mut [i8]) {
    resize_axis(v, table, outer, inner, x, y);
}

/// Elements by calls, one after the other.
#[inline(never)]
fn plain<X: Copy, Y>(
    table: &AxisTable<'_>,
    x: &[X],
    y: &mut [Y],
    inner: usize,
    to_f32: &dyn Fn(X) -> f32,
    from_f32: &dyn Fn(f32) -> Y,
) {
    for (i, y) in y.iter_mut().enumerate() {
        let (indices, weights) = table.row(i / inner);
        let tap = |index: u32| to_f32(x[table.at(index) * inner + i % inner]);
        let mut sum = weights[0] * tap(indices[0]);
        for (index, w) in indices.iter().zip(weights).skip(1) {
            sum = w.mul_add(tap(*index), sum);
        }
        *y = from_f32(sum);
    }
}

/// Whole rows of `inner` elements.
#[inline(always)]
fn rows<X: Sample, Y: Sample>(table: &AxisTable<'_>, x: &[X], y: &mut [Y], inner: usize) {
    for (o, y) in y.chunks_exact_mut(inner).enumerate() {
        let (indices, weights) = table.row(o);
        let row = |k: usize| &x[table.at(indices[k]).saturating_mul(inner)..][..inner];
        match table.taps() {
            1 => {
                for (y, x) in y.iter_mut().zip(row(0)) {
                    *y = Y::from_f32(weights[0] * x.to_f32());
                }
            }
            2 => {
                let [w0, w1] = [weights[0], weights[1]];
                for ((y, x0), x1) in y.iter_mut().zip(row(0)).zip(row(1)) {
                    *y = Y::from_f32(w1.mul_add(x1.to_f32(), w0 * x0.to_f32()));
                }
            }
            _ => {
                let [w0, w1, w2, w3] = [weights[0], weights[1], weights[2], weights[3]];
                let rows = row(0).iter().zip(row(1)).zip(row(2)).zip(row(3));
                for (y, (((x0, x1), x2), x3)) in y.iter_mut().zip(rows) {
                    let sum = w1.mul_add(x1.to_f32(), w0 * x0.to_f32());
                    let sum = w2.mul_add(x2.to_f32(), sum);
                    *y = Y::from_f32(w3.mul_add(x3.to_f32(), sum));
                }
            }
        }
    }
}

/// Single elements: the last axis.
#[inline(always)]
fn along<X: Sample, Y: Sample>(table: &AxisTable<'_>, x: &[X], y: &mut [Y]) {
    for (o, y) in y.iter_mut().enumerate() {
        let (indices, weights) = table.row(o);
        let mut sum = weights[0] * x[table.at(indices[0])].to_f32();
        for (i, w) in indices.iter().zip(weights).skip(1) {
            sum = w.mul_add(x[table.at(*i)].to_f32(), sum);
        }
        *y = Y::from_f32(sum);
    }
}

/// Nearest-neighbour resize of both spatial axes of `[batch, height, width, channels]`; only bits move, so any
/// element type serves.
///
/// # Panics
/// When a length is not its shape's, a table has more than one tap, or holds an index that its axis does not have.
pub fn resize_nearest_2d<T: Copy>(
    rows: &AxisTable<'_>,
    cols: &AxisTable<'_>,
    batch: usize,
    channels: usize,
    x: &[T],
    y: &mut [T],
) {
    assert_eq!((rows.taps(), cols.taps()), (1, 1), "taps of the tables");
    let (x_row, y_row) = (cols.input() * channels, cols.output() * channels);
    assert_eq!(x.len(), batch * rows.input() * x_row, "length of the operand is not its shape's");
    assert_eq!(y.len(), batch * rows.output() * y_row, "length of the result is not its shape's");
    if y.is_empty() {
        return;
    }
    let images = x.chunks_exact(rows.input() * x_row).zip(y.chunks_exact_mut(rows.output() * y_row));
    for (x, y) in images {
        for o in 0..rows.output() {
            let from = rows.row(o).0[0];
            // Enlarging repeats rows: the one above is already spread out.
            if o > 0 && rows.row(o - 1).0[0] == from {
                y.copy_within((o - 1) * y_row..o * y_row, o * y_row);
                continue;
            }
            let x = &x[from as usize * x_row..][..x_row];
            for (o, y) in y[o * y_row..][..y_row].chunks_exact_mut(channels).enumerate() {
                y.copy_from_slice(&x[cols.row(o).0[0] as usize * channels..][..channels]);
            }
        }
    }
}
