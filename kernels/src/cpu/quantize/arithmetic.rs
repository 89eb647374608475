//! Sums and products of quantized tensors.

use super::Quantized;
use crate::cpu::elementwise::{Broadcast, zip_apart};
use crate::cpu::loops::Variant;

/// A sum: `y = saturate(round_ties_even(fma(a - a_zero, a_multiplier, (b - b_zero) * b_multiplier)) + y_zero)`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct AddRescale {
    /// Scale of `a` over the result's.
    pub a_multiplier: f32,
    /// Scale of `b` over the result's.
    pub b_multiplier: f32,
    /// Zero point of `a`.
    pub a_zero: i32,
    /// Zero point of `b`.
    pub b_zero: i32,
    /// Zero point of the result.
    pub y_zero: i32,
}

/// A product: `y = saturate(round_ties_even((a - a_zero) * (b - b_zero) * multiplier) + y_zero)`, the first product
/// exact.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct MulRescale {
    /// Scales of `a` and `b`, multiplied, over the result's.
    pub multiplier: f32,
    /// Zero point of `a`.
    pub a_zero: i32,
    /// Zero point of `b`.
    pub b_zero: i32,
    /// Zero point of the result.
    pub y_zero: i32,
}

/// The quantized sum of `a` and `b`, broadcast as `shape` says. A difference is a multiplier of the other sign.
///
/// # Panics
/// When a slice is not as long as `shape` says.
pub fn add<Q: Quantized>(
    v: Variant,
    shape: &Broadcast<2>,
    rescale: AddRescale,
    a: &[Q],
    b: &[Q],
    y: &mut [Q],
) {
    let r = rescale;
    zip_apart(v, shape, (a, b), y, move |a: Q, b: Q| {
        let a = (a.to_i32() - r.a_zero) as f32;
        let b = (b.to_i32() - r.b_zero) as f32;
        Q::saturate(a.mul_add(r.a_multiplier, b * r.b_multiplier), r.y_zero)
    });
}

/// The quantized product of `a` and `b`, broadcast as `shape` says.
///
/// # Panics
/// When a slice is not as long as `shape` says.
pub fn mul<Q: Quantized>(
    v: Variant,
    shape: &Broadcast<2>,
    rescale: MulRescale,
    a: &[Q],
    b: &[Q],
    y: &mut [Q],
) {
    let r = rescale;
    zip_apart(v, shape, (a, b), y, move |a: Q, b: Q| {
        let product = (a.to_i32() - r.a_zero).wrapping_mul(b.to_i32() - r.b_zero);
        Q::saturate(product as f32 * r.multiplier, r.y_zero)
    });
}
