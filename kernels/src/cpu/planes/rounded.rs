//! Codes of groups as codes of one scale for all of them, in whole numbers, so that every machine rounds alike.

use super::{BLOCK, PANEL, UNIT, Variant};

/// The largest magnitude of `2q + 1` (half-offset) or `q`, for codes `q` of so many bits.
///
/// # Panics
/// When `bits` is not 1 to 8.
pub fn largest_number(bits: u32, half_offset: bool) -> i32 {
    assert!((1..=8).contains(&bits), "codes of {bits} bits");
    if half_offset { (1 << bits) - 1 } else { 1 << (bits - 1) }
}

/// Raises `largest` to the magnitude of each scale, channel by channel.
#[inline(never)] // or its loop would be compiled as its caller is: for size
pub fn raise_to(largest: &mut [f32; PANEL], scales: &[[f32; PANEL]]) {
    let mut most = *largest;
    for scales in scales {
        for (most, scale) in most.iter_mut().zip(scales) {
            *most = if scale.abs() > *most { scale.abs() } else { *most };
        }
    }
    *largest = most;
}

/// What codes are rounded by.
#[derive(Clone, Copy)]
pub(in crate::cpu) struct Rounding {
    /// The number that a code stands for, shifted to where those of 8 bits are: `(q << left) + plus`.
    pub(in crate::cpu) left: u32,
    pub(in crate::cpu) plus: i16,
    /// A factor of `2^-15` a unit for the channel's largest scale: what makes 127 of the largest number.
    pub(in crate::cpu) most: f32,
    /// Units of a group.
    pub(in crate::cpu) units: usize,
}

impl Rounding {
    /// Of the codes of groups of so many units.
    #[inline(always)]
    pub(in crate::cpu) fn of(bits: u32, half_offset: bool, units: usize) -> Rounding {
        let shift = 8u32.saturating_sub(bits);
        let most = 127.0 * 32768.0 / (largest_number(bits, half_offset) << shift) as f32;
        let (left, plus) = if half_offset { (shift + 1, 1 << shift) } else { (shift, 0) };
        Rounding { left, plus, most, units }
    }

    /// What of the largest scale each channel's is, as a factor: `round(scale / largest * most)`, 0 for what is no number.
    #[inline(always)]
    pub(in crate::cpu) fn factors(&self, scales: &[f32; PANEL], largest: &[f32; PANEL]) -> [i16; PANEL] {
        std::array::from_fn(|lane| (scales[lane] / largest[lane] * self.most).round_ties_even() as i16)
    }
}

impl Variant {
    /// Makes the codes of groups, `scales` each, codes of one scale a channel: replaces each code `q` by
    ///
    /// ```text
    /// round(number * 2^(8 - bits) * factor / 2^15),   factor = round(scale / largest * 127 * 2^15 / (largest number * 2^(8 - bits)))
    /// ```
    /// the first rounding with halves up, the second with halves to even; `number` is `2q + 1` when `half_offset`, else `q`. The results are
    /// in `[-127, 127]` as long as no scale passes `largest` in magnitude; a scale of 0, or beside an infinite one, gives 0. `codes`:
    /// `[units][16][8]`, as many of them as `group` k take for each of the groups; the last group may be shorter.
    ///
    /// # Panics
    /// When lengths do not fit, `bits` is not 1 to 8, or the CPU lacks the ISA.
    pub fn round_codes(
        &self,
        codes: &mut [i8],
        group: usize,
        (bits, half_offset): (u32, bool),
        scales: &[[f32; PANEL]],
        largest: &[f32; PANEL],
    ) {
        assert!(self.isa.supported(), "{}: this CPU lacks {}", self.name, self.isa);
        let (units, whole) = (codes.len() / UNIT, codes.len().is_multiple_of(UNIT));
        let each = group.div_ceil(BLOCK).max(1);
        assert!(
            whole && units.div_ceil(each) == scales.len(),
            "{}: {units} units in groups of {each}",
            self.name
        );
        let rounding = Rounding::of(bits, half_offset, each);
        // SAFETY: the CPU has the ISA, and `codes` is whole units, some for each group: checked above.
        unsafe { (self.round)(codes, &rounding, scales, largest) }
    }
}
