//! Conversion to and from quantized integers, and arithmetic on them.
//!
//! A quantized `q` with scale `s` and zero point `z` stands for `s * (q - z)`. Every rounding is to nearest, ties
//! to even; every result saturates. A NaN becomes the type's smallest value.

mod arithmetic;
mod convert;
pub mod i8s;

#[cfg(test)]
mod tests;

pub use arithmetic::{AddRescale, MulRescale, add, mul};
pub use convert::{Scaling, dequantize, dequantize_channels, quantize, quantize_channels};

/// An integer type that values are quantized to.
pub trait Quantized: Copy + Default + 'static {
    /// Smallest value.
    const LOWEST: i32;
    /// Largest value.
    const HIGHEST: i32;

    /// Exact widening.
    fn to_i32(self) -> i32;

    /// The low bits; `q` lies between [`Quantized::LOWEST`] and [`Quantized::HIGHEST`].
    fn from_i32(q: i32) -> Self;

    /// `saturate(round_ties_even(x) + zero_point)`, for a zero point that the type (of at most 16 bits) can hold.
    #[inline(always)]
    fn saturate(x: f32, zero_point: i32) -> Self {
        // Within 2^21, adding 1.5 * 2^23 leaves the rounded integer in the low bits of the sum; what lies beyond
        // saturates with any zero point. The order of the comparisons sends NaN to the lower end.
        const LIMIT: f32 = 2_097_152.0;
        const ROUND: f32 = 12_582_912.0;
        let x = if x > -LIMIT { x } else { -LIMIT };
        let x = if x < LIMIT { x } else { LIMIT };
        let rounded = ((x + ROUND).to_bits() as i32).wrapping_sub(ROUND.to_bits() as i32);
        let q = rounded.wrapping_add(zero_point);
        let q = if q < Self::LOWEST { Self::LOWEST } else { q };
        Self::from_i32(if q > Self::HIGHEST { Self::HIGHEST } else { q })
    }
}

impl Quantized for i8 {
    const LOWEST: i32 = -128;
    const HIGHEST: i32 = 127;

    #[inline(always)]
    fn to_i32(self) -> i32 {
        i32::from(self)
    }

    #[inline(always)]
    fn from_i32(q: i32) -> i8 {
        q as i8
    }
}

impl Quantized for u8 {
    const LOWEST: i32 = 0;
    const HIGHEST: i32 = 255;

    #[inline(always)]
    fn to_i32(self) -> i32 {
        i32::from(self)
    }

    #[inline(always)]
    fn from_i32(q: i32) -> u8 {
        q as u8
    }
}

impl Quantized for i16 {
    const LOWEST: i32 = -32_768;
    const HIGHEST: i32 = 32_767;

    #[inline(always)]
    fn to_i32(self) -> i32 {
        i32::from(self)
    }

    #[inline(always)]
    fn from_i32(q: i32) -> i16 {
        q as i16
    }
}
