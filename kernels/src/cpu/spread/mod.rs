//! Values of a sparse panel of 16 rows put where they belong, 0 elsewhere: decoding of weights.
//!
//! Two forms say where that is. *Bits*: a mask for each column, lowest bit first row; values follow each other in the order of set
//! bits. *Few*: `keep` of every `of` columns of each row; values lie as columns of 16, `keep` for each group, and so do positions, which are
//! the places of columns in their group, of as few bits as tell them apart. A position that is not greater than all before it in its group
//! and row, or none of the columns there are, stands for nothing.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
pub(in crate::cpu) mod avx512;
mod scalar;
#[cfg(test)]
mod tests;
#[cfg(target_arch = "x86_64")]
pub(in crate::cpu) mod vbmi2;

use super::gemm_f32::PANEL;
use super::gemm_i8::BLOCK;
use super::isa::Isa;

/// Most columns of a group.
pub const MAX_OF: usize = 16;

/// Largest code that a value becomes.
const TOP: f32 = 127.0;

/// Bits of a position among `of` columns.
pub const fn position_bits(of: usize) -> usize {
    of.next_power_of_two().trailing_zeros() as usize
}

/// Positions of a panel: `keep` of every `of` columns.
#[derive(Clone, Copy, Debug)]
pub struct Few<'a> {
    /// `[groups][keep]` units of 16 positions, `2 * position_bits(of)` bytes each.
    pub units: &'a [u8],
    /// Values of a group and row.
    pub keep: usize,
    /// Columns of a group, at most [`MAX_OF`].
    pub of: usize,
}

impl Few<'_> {
    /// Unit `value`.
    #[inline(always)]
    pub(in crate::cpu) fn unit(&self, value: usize) -> u64 {
        let len = 2 * position_bits(self.of);
        let from = &self.units[value * len..];
        // What lies behind a unit is masked by whoever reads it.
        match from.first_chunk() {
            Some(unit) => u64::from_le_bytes(*unit),
            None => from.iter().rev().fold(0, |unit, byte| unit << 8 | u64::from(*byte)),
        }
    }

    /// Panics unless positions, values and columns are of as many groups.
    pub(in crate::cpu) fn check(&self, values: usize, cols: usize) {
        let (keep, of) = (self.keep, self.of);
        assert!((1..of).contains(&keep) && of <= MAX_OF, "{keep} of {of} columns");
        let groups = cols.div_ceil(of);
        assert_eq!(values, groups * keep * PANEL, "values of {groups} groups");
        let bytes = groups * keep * 2 * position_bits(of);
        assert_eq!(self.units.len(), bytes, "positions of {groups} groups");
    }
}

/// One implementation.
pub struct Variant {
    /// `op_weights_acts__isa`.
    pub name: &'static str,
    /// What it needs.
    pub isa: Isa,
    /// Whether the CPU has what it needs beside that.
    extra: fn() -> bool,
    bits: SpreadBits,
    few: unsafe fn(&Few<'_>, &[f32], &mut [f32]),
    bits_codes: unsafe fn(&[[u8; 2]], &[f32], &mut [i8]),
    few_codes: unsafe fn(&Few<'_>, &[i8], usize, &mut [i8]),
}

/// Masks, values and scales to columns.
type SpreadBits = unsafe fn(&[[u8; 2]], &[f32], &[f32; PANEL], &mut [f32]);

/// Best first; scalar last.
pub static VARIANTS: &[Variant] = &[
    #[cfg(target_arch = "x86_64")]
    vbmi2::VARIANT,
    #[cfg(target_arch = "x86_64")]
    avx512::VARIANT,
    #[cfg(target_arch = "x86_64")]
    avx2::VARIANT,
    scalar::VARIANT,
];

/// The best variant at or below `isa` that this CPU runs.
pub fn select(isa: Isa) -> &'static Variant {
    let fits = |variant: &&Variant| variant.isa <= isa && variant.supported();
    VARIANTS.iter().find(fits).unwrap_or(&scalar::VARIANT)
}

/// Values that masks have.
pub fn count(masks: &[[u8; 2]]) -> usize {
    fitting(masks, usize::MAX).1
}

/// How many leading columns, a multiple of 8 or all, have at most so many values, and how many those are.
pub fn fitting(masks: &[[u8; 2]], most: usize) -> (usize, usize) {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("popcnt") {
        #[target_feature(enable = "popcnt")]
        fn counted(masks: &[[u8; 2]], most: usize) -> (usize, usize) {
            fit(masks, most)
        }
        // SAFETY: the CPU has it.
        return unsafe { counted(masks, most) };
    }
    fit(masks, most)
}

#[inline(always)]
fn fit(masks: &[[u8; 2]], most: usize) -> (usize, usize) {
    let (mut columns, mut values) = (0, 0);
    for block in masks.chunks(BLOCK) {
        let own = match block.as_flattened().first_chunk() {
            Some(all) => u128::from_le_bytes(*all).count_ones(),
            None => block.iter().map(|mask| u16::from_le_bytes(*mask).count_ones()).sum(),
        } as usize;
        if own > most - values {
            break;
        }
        (columns, values) = (columns + block.len(), values + own);
    }
    (columns, values)
}

impl Variant {
    /// Whether this CPU runs it.
    pub fn supported(&self) -> bool {
        self.isa.supported() && (self.extra)()
    }

    /// Spreads the values of some columns, times the scale of their row: `out` is `[columns][16]`.
    ///
    /// # Panics
    /// When there are fewer values than set bits, `out` has another number of columns, or the CPU lacks the ISA.
    pub fn bits(&self, masks: &[[u8; 2]], values: &[f32], scales: &[f32; PANEL], out: &mut [f32]) {
        self.check_cpu();
        assert!(count(masks) <= values.len(), "{}: {} values are too few", self.name, values.len());
        assert_eq!(out.len(), masks.len() * PANEL, "{}: columns for as many masks", self.name);
        // SAFETY: the CPU has the ISA and the lengths agree, both checked above.
        unsafe { (self.bits)(masks, values, scales, out) }
    }

    /// Spreads the values `[groups * keep][16]` of some columns: `out` is `[columns][16]`.
    ///
    /// # Panics
    /// When lengths do not agree, or the CPU lacks the ISA.
    pub fn few(&self, few: &Few<'_>, values: &[f32], out: &mut [f32]) {
        self.check_cpu();
        assert!(out.len().is_multiple_of(PANEL), "{}: columns of 16", self.name);
        few.check(values.len(), out.len() / PANEL);
        // SAFETY: the CPU has the ISA and the lengths agree, both checked above.
        unsafe { (self.few)(few, values, out) }
    }

    /// Spreads the codes `[ceil(groups * keep / 8)][16][8]` of `cols` columns into a panel of codes, `[ceil(cols / 8)][16][8]`, 0 past
    /// them.
    ///
    /// # Panics
    /// When lengths do not agree, or the CPU lacks the ISA.
    pub fn few_codes(&self, few: &Few<'_>, codes: &[i8], cols: usize, out: &mut [i8]) {
        self.check_cpu();
        let values = cols.div_ceil(few.of) * few.keep;
        few.check(values * PANEL, cols);
        assert_eq!(codes.len(), values.next_multiple_of(BLOCK) * PANEL, "codes of {values} columns");
        assert_eq!(out.len(), cols.next_multiple_of(BLOCK) * PANEL, "codes of {cols} columns");
        // SAFETY: the CPU has the ISA and the lengths agree, both checked above.
        unsafe { (self.few_codes)(few, codes, cols, out) }
    }

    /// Spreads the values of some columns, parts of a row's scale, as codes: `round(value * 127)`, ties to even, within [-127, 127]; 0
    /// for what is no number. `out` is `[ceil(columns / 8)][16][8]`.
    ///
    /// # Panics
    /// When lengths do not agree, or the CPU lacks the ISA.
    pub fn bits_codes(&self, masks: &[[u8; 2]], values: &[f32], out: &mut [i8]) {
        self.check_cpu();
        assert!(count(masks) <= values.len(), "{}: {} values are too few", self.name, values.len());
        let len = masks.len().next_multiple_of(BLOCK) * PANEL;
        assert_eq!(out.len(), len, "{}: codes for as many masks", self.name);
        // SAFETY: the CPU has the ISA and the lengths agree, both checked above.
        unsafe { (self.bits_codes)(masks, values, out) }
    }

    fn check_cpu(&self) {
        assert!(self.supported(), "{}: this CPU lacks {} or what it needs beside", self.name, self.isa);
    }
}

/// Where the code of a column and row lies.
#[inline(always)]
fn place(col: usize, lane: usize) -> usize {
    col / BLOCK * PANEL * BLOCK + lane * BLOCK + col % BLOCK
}
