//! The hot ones of this module's kernels for i8, compiled in this crate.
//!
//! A generic function is compiled where it is called, with that crate's optimisation; the runtime's is for size, which
//! leaves loops scalar.

use super::{AddRescale, MulRescale, Scaling};
use crate::cpu::elementwise::Broadcast;
use crate::cpu::loops::Variant;

/// [`super::quantize`].
///
/// # Panics
/// When the lengths differ.
pub fn quantize(v: Variant, scaling: Scaling, zero_point: i32, x: &[f32], y: &mut [i8]) {
    super::quantize(v, scaling, zero_point, x, y);
}

/// [`super::dequantize`].
///
/// # Panics
/// When the lengths differ.
pub fn dequantize(v: Variant, scale: f32, zero_point: i32, x: &[i8], y: &mut [f32]) {
    super::dequantize(v, scale, zero_point, x, y);
}

/// [`super::add`].
///
/// # Panics
/// When a slice is not as long as `shape` says.
pub fn add(v: Variant, shape: &Broadcast<2>, rescale: AddRescale, a: &[i8], b: &[i8], y: &mut [i8]) {
    super::add(v, shape, rescale, a, b, y);
}

/// [`super::mul`].
///
/// # Panics
/// When a slice is not as long as `shape` says.
pub fn mul(v: Variant, shape: &Broadcast<2>, rescale: MulRescale, a: &[i8], b: &[i8], y: &mut [i8]) {
    super::mul(v, shape, rescale, a, b, y);
}
