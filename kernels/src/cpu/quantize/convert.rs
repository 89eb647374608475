//! Floats to quantized integers and back.

use super::Quantized;
use crate::cpu::loops::Variant;

/// How a float is brought to the integer grid. The two differ in the last bit, and so in which way a tie goes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Scaling {
    /// `x / scale`, as ONNX `QuantizeLinear` is defined.
    Divide(f32),
    /// `x * inverse`, the product by a reciprocal computed once: faster, and the rule inside integer rungs.
    Multiply(f32),
}

/// `y = saturate(round_ties_even(x / scale) + zero_point)` (or times the inverse).
///
/// # Panics
/// When the lengths differ.
pub fn quantize<Q: Quantized>(v: Variant, scaling: Scaling, zero_point: i32, x: &[f32], y: &mut [Q]) {
    assert_eq!(x.len(), y.len(), "operand and result differ in length");
    match scaling {
        Scaling::Divide(scale) => map(v, x, y, move |x| Q::saturate(x / scale, zero_point)),
        Scaling::Multiply(inverse) => map(v, x, y, move |x| Q::saturate(x * inverse, zero_point)),
    }
}

/// As [`quantize`] by division, with a scale and a zero point for each of `n` channels of `[outer, n, inner]`.
///
/// # Panics
/// When a length is not its shape's.
pub fn quantize_channels<Q: Quantized>(
    v: Variant,
    dims: [usize; 3],
    scales: &[f32],
    zero_points: &[i32],
    x: &[f32],
    y: &mut [Q],
) {
    let saturate = |x: f32, scale: f32, zero: i32| Q::saturate(x / scale, zero);
    each_channel(v, dims, scales, zero_points, x, y, saturate);
}

/// `y = (x - zero_point) * scale`, the difference exact; `x` is i8, u8, i16 or i32 (whose difference wraps and is
/// rounded to f32).
///
/// # Panics
/// When the lengths differ.
pub fn dequantize<T: Copy + Into<i32>>(v: Variant, scale: f32, zero_point: i32, x: &[T], y: &mut [f32]) {
    assert_eq!(x.len(), y.len(), "operand and result differ in length");
    map(v, x, y, move |x| x.into().wrapping_sub(zero_point) as f32 * scale);
}

/// As [`dequantize`], with a scale and a zero point for each of `n` channels of `[outer, n, inner]`.
///
/// # Panics
/// When a length is not its shape's.
pub fn dequantize_channels<T: Copy + Into<i32>>(
    v: Variant,
    dims: [usize; 3],
    scales: &[f32],
    zero_points: &[i32],
    x: &[T],
    y: &mut [f32],
) {
    let widen = |x: T, scale: f32, zero: i32| x.into().wrapping_sub(zero) as f32 * scale;
    each_channel(v, dims, scales, zero_points, x, y, widen);
}

#[inline(never)]
fn map<T: Copy, U>(v: Variant, x: &[T], y: &mut [U], f: impl Fn(T) -> U + Copy) {
    v.run(
        #[inline(always)]
        || {
            for (y, x) in y.iter_mut().zip(x) {
                *y = f(*x);
            }
        },
    );
}

fn each_channel<T: Copy, U>(
    v: Variant,
    [outer, n, inner]: [usize; 3],
    scales: &[f32],
    zero_points: &[i32],
    x: &[T],
    y: &mut [U],
    f: impl Fn(T, f32, i32) -> U + Copy,
) {
    assert_eq!(x.len(), outer * n * inner, "operand is not {outer} x {n} x {inner}");
    assert_eq!(x.len(), y.len(), "operand and result differ in length");
    assert_eq!((scales.len(), zero_points.len()), (n, n), "scales and zero points of {n} channels");
    if x.is_empty() {
        return;
    }
    v.run(
        #[inline(always)]
        || {
            if inner == 1 {
                for (x, y) in x.chunks_exact(n).zip(y.chunks_exact_mut(n)) {
                    for (((y, x), scale), zero) in y.iter_mut().zip(x).zip(scales).zip(zero_points) {
                        *y = f(*x, *scale, *zero);
                    }
                }
                return;
            }
            for (row, (x, y)) in x.chunks_exact(inner).zip(y.chunks_exact_mut(inner)).enumerate() {
                let (scale, zero) = (scales[row % n], zero_points[row % n]);
                for (y, x) in y.iter_mut().zip(x) {
                    *y = f(*x, scale, zero);
                }
            }
        },
    );
}
