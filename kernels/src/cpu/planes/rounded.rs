//! Codes of groups as codes of one scale for all of them, in whole numbers, so that every machine rounds alike.

use super::{PANEL, UNIT, Variant};

/// The largest factor of [`Variant::round_codes`]: what scales the largest number of `bits` bits to 127 in its unit, `2^-15`.
///
/// # Panics
/// When `bits` is not 1 to 8.
pub fn largest_factor(bits: u32, half_offset: bool) -> f32 {
    127.0 * 32768.0 / (largest_number(bits, half_offset) << (8 - bits)) as f32
}

/// The largest magnitude of `2q + 1` (half-offset) or `q`, for codes `q` of so many bits.
///
/// # Panics
/// When `bits` is not 1 to 8.
pub fn largest_number(bits: u32, half_offset: bool) -> i32 {
    assert!((1..=8).contains(&bits), "codes of {bits} bits");
    if half_offset { (1 << bits) - 1 } else { 1 << (bits - 1) }
}

/// The numbers that codes stand for, shifted to where those of 8 bits are, so that a factor always fits 16 bits: `(q << left) + plus`.
#[derive(Clone, Copy)]
pub(super) struct Numbers {
    pub(super) left: u32,
    pub(super) plus: i16,
}

impl Variant {
    /// Replaces each code `q` of whole units of a panel by `number * 2^(8 - bits) * factor / 2^15` of its channel, rounded to the nearest
    /// whole number, halves up; `number` is `2q + 1` when `half_offset`, else `q`. With factors up to [`largest_factor`] the
    /// results are in `[-127, 127]`. `codes`: `[units][16][8]`.
    ///
    /// # Panics
    /// When `codes` is not whole units, `bits` is not 1 to 8, a factor is beyond the largest, or the CPU lacks the ISA.
    pub fn round_codes(&self, codes: &mut [i8], bits: u32, half_offset: bool, factors: &[i16; PANEL]) {
        assert!(self.isa.supported(), "{}: this CPU lacks {}", self.name, self.isa);
        assert!(codes.len().is_multiple_of(UNIT), "{}: {} codes are not whole units", self.name, codes.len());
        let most = largest_factor(bits, half_offset);
        let fit = factors.iter().all(|factor| f32::from(*factor).abs() <= most + 0.5);
        assert!(fit, "{}: factors {factors:?}, at most {most}", self.name);
        let shift = 8 - bits;
        let numbers = match half_offset {
            true => Numbers { left: shift + 1, plus: 1 << shift },
            false => Numbers { left: shift, plus: 0 },
        };
        // SAFETY: the CPU has the ISA, and `codes` is whole units: checked above.
        unsafe { (self.round)(codes, numbers, factors) }
    }
}
