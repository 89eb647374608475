//! Joins bit planes into codes: `p = p0 << (b1 + ... ) | p1 << ... | ...`, the leading plane most significant.
//!
//! A plane keeps `w` bits (1, 2, 4 or 8) of every code. Codes come in units; in a unit of `U` codes, byte `j` of
//! the plane's `U w / 8` bytes holds the bits of codes `j + i U w / 8` for `i` in `0..8 / w`, lowest bits first.
//! So a vector of bytes shifted right by `i w` and masked is a run of consecutive codes.
//!
//! A code `p` of `b` bits stands for the odd number `2p + 1 - 2^b`; as a signed code it is `q = p - 2^(b-1)`, and
//! the odd number is `2q + 1`.

#[cfg(target_arch = "x86_64")]
pub(in crate::cpu) mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod columns;
#[cfg(target_arch = "x86_64")]
mod columns_avx2;
#[cfg(target_arch = "aarch64")]
pub(in crate::cpu) mod neon;
mod rounded;
mod scalar;
#[cfg(test)]
mod tests;

use super::isa::Isa;

pub use rounded::{largest_number, raise_to};
pub use scalar::join;

pub(in crate::cpu) use rounded::Rounding;

/// Output channels of a panel.
const PANEL: usize = 16;

/// Consecutive k of one channel in a panel of codes.
const BLOCK: usize = 8;

/// Codes of a unit of a panel: `[16][8]`.
pub const UNIT: usize = PANEL * BLOCK;

/// Longest group whose sum of codes surely fits i32.
pub const MAX_GROUP: usize = 1 << 23;

/// Some bits of every code.
#[derive(Clone, Copy, Debug)]
pub struct Plane<'a> {
    /// Bits of a code in this plane: 1, 2, 4 or 8.
    pub bits: u32,
    /// Whole units, `U bits / 8` bytes each.
    pub bytes: &'a [u8],
}

/// A scale of each channel.
type Lanes = [f32; PANEL];

/// One implementation.
pub struct Variant {
    /// `op__isa`.
    pub name: &'static str,
    /// What it needs.
    pub isa: Isa,
    join_i8: unsafe fn(&[Plane<'_>], &mut [i8]),
    join_f32: unsafe fn(&[Plane<'_>], &Scales<'_>, &mut [f32]),
    sums: unsafe fn(&[i8], usize, &mut [[i32; PANEL]]),
    round: unsafe fn(&mut [i8], &Rounding, &[Lanes], &Lanes),
    columns_i16: unsafe fn(&[Plane<'_>], usize, &mut [[i16; PANEL]]),
    columns_f32: unsafe fn(&[Plane<'_>], &Scales<'_>, &mut [[f32; PANEL]]),
}

/// What a code stands for, scales apart.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Numbers<'a> {
    /// The odd number `2p + 1 - 2^b`.
    Odd,
    /// The even number `2p - 2^b`, less twice the zero point of its channel and group: `[groups][16]`, integers or halves of them. None
    /// where there are none.
    Even(Option<&'a [f32]>),
}

impl Numbers<'_> {
    /// What is added to `2p` for `bits` bits, zero points apart.
    fn least(&self, bits: u32) -> i32 {
        i32::from(*self == Numbers::Odd) - (1 << bits)
    }
}

/// Scales of a run of codes, one per channel and group.
struct Scales<'a> {
    /// `[groups][16]`
    scales: &'a [[f32; PANEL]],
    /// What codes stand for.
    numbers: Numbers<'a>,
    /// Units of one group; of single columns, those.
    units: usize,
}

impl<'a> Scales<'a> {
    /// # Panics
    /// When there are fewer zero points than scales.
    fn new(scales: &'a [f32], numbers: Numbers<'a>, units: usize) -> Scales<'a> {
        if let Numbers::Even(Some(zeros)) = numbers {
            assert!(zeros.len() >= scales.len(), "{} zero points for {} scales", zeros.len(), scales.len());
        }
        Scales { scales: scales.as_chunks().0, numbers, units }
    }

    /// Those of the last group alone.
    fn last(&self, groups: usize) -> Scales<'a> {
        let numbers = match self.numbers {
            Numbers::Even(Some(zeros)) => Numbers::Even(Some(&zeros[(groups - 1) * PANEL..])),
            other => other,
        };
        Scales { scales: &self.scales[groups - 1..], numbers, units: 1 }
    }

    /// What is added to `2p` in a group: exact, a code having 16 bits at most.
    #[inline(always)]
    fn offsets(&self, group: usize, bits: u32) -> [f32; PANEL] {
        let least = self.numbers.least(bits) as f32;
        match self.numbers {
            Numbers::Even(Some(zeros)) => {
                std::array::from_fn(|lane| zeros[group * PANEL + lane].mul_add(-2.0, least))
            }
            _ => [least; PANEL],
        }
    }
}

/// Best first; scalar last.
pub static VARIANTS: &[Variant] = &[
    #[cfg(target_arch = "x86_64")]
    avx512::VARIANT,
    #[cfg(target_arch = "x86_64")]
    avx2::VARIANT,
    #[cfg(target_arch = "aarch64")]
    neon::VARIANT,
    scalar::VARIANT,
];

/// The best variant at or below `isa` that this CPU runs.
pub fn select(isa: Isa) -> &'static Variant {
    let fits = |variant: &&Variant| variant.isa <= isa && variant.isa.supported();
    VARIANTS.iter().find(fits).unwrap_or(&scalar::VARIANT)
}

/// Bits of a code made of `planes`.
fn total_bits(planes: &[Plane<'_>]) -> u32 {
    planes.iter().map(|plane| plane.bits).sum()
}

impl Variant {
    /// Joins units of `[16][8]` codes of at most 8 bits to signed codes `q`. `out`: `[units][16][8]`.
    ///
    /// # Panics
    /// When `out` is not whole units, a plane has other bits or another length, or the CPU lacks the ISA.
    pub fn join_i8(&self, planes: &[Plane<'_>], out: &mut [i8]) {
        assert!(out.len().is_multiple_of(UNIT), "{}: {} codes are not whole units", self.name, out.len());
        self.check(planes, out.len() / UNIT, 8);
        // SAFETY: the CPU has the ISA, and planes have as many units as `out`: both checked above.
        unsafe { (self.join_i8)(planes, out) }
    }

    /// Joins units of `[16][8]` codes of at most 16 bits to reals: the number times its scale, rounded once.
    /// `out`: `[k][16]`; `scales`: `[ceil(k / group)][16]`; `planes`: `ceil(k / 8)` units.
    ///
    /// # Panics
    /// When a length does not fit `k` or `group`, a plane has other bits, or the CPU lacks the ISA.
    pub fn join_f32(
        &self,
        planes: &[Plane<'_>],
        scales: &[f32],
        numbers: Numbers<'_>,
        group: usize,
        out: &mut [f32],
    ) {
        assert!(out.len().is_multiple_of(PANEL), "{}: {} reals are not whole rows", self.name, out.len());
        let k = out.len() / PANEL;
        let units = k.div_ceil(BLOCK);
        assert!(group > 0 && (group.is_multiple_of(BLOCK) || group >= k), "{}: group {group}", self.name);
        let groups = k.div_ceil(group);
        assert_eq!(scales.len(), groups * PANEL, "{}: scales for {groups} groups", self.name);
        self.check(planes, units, 16);
        let scales = Scales::new(scales, numbers, group.div_ceil(BLOCK));
        let (whole, rest) = out.split_at_mut(k / BLOCK * UNIT);
        // SAFETY: the CPU has the ISA, and planes and scales reach as far as `whole`: checked above.
        unsafe { (self.join_f32)(planes, &scales, whole) };
        if !rest.is_empty() {
            let mut last = [Plane { bits: 1, bytes: &[] }; 16];
            for (last, plane) in last.iter_mut().zip(planes) {
                let unit = PANEL * plane.bits as usize;
                *last = Plane { bits: plane.bits, bytes: &plane.bytes[(units - 1) * unit..] };
            }
            let scales = scales.last(groups);
            let mut unit = [0.0; UNIT];
            // SAFETY: as above; every plane's last unit was cut out.
            unsafe { (self.join_f32)(&last[..planes.len()], &scales, &mut unit) };
            rest.copy_from_slice(&unit[..rest.len()]);
        }
    }

    /// Sums of each group of one panel's codes over the groups' valid k: of `2q + 1` when `half_offset`, else of `q`.
    /// `codes`: `[ceil(k / 8)][16][8]`, 0 past `k`; `sums`: `[ceil(k / group)][16]`.
    ///
    /// # Panics
    /// When a length does not fit `k` or `group`, a sum could pass i32, or the CPU lacks the ISA.
    pub fn group_sums(&self, codes: &[i8], k: usize, group: usize, half_offset: bool, sums: &mut [i32]) {
        assert!(self.isa.supported(), "{}: this CPU lacks {}", self.name, self.isa);
        assert_eq!(codes.len(), k.div_ceil(BLOCK) * UNIT, "{}: codes for K = {k}", self.name);
        assert!(group > 0 && (group.is_multiple_of(BLOCK) || group >= k), "{}: group {group}", self.name);
        assert!(group.min(k) <= MAX_GROUP, "{}: group {group} above {MAX_GROUP}", self.name);
        let groups = k.div_ceil(group);
        assert_eq!(sums.len(), groups * PANEL, "{}: sums for {groups} groups", self.name);
        let sums = sums.as_chunks_mut::<PANEL>().0;
        // SAFETY: the CPU has the ISA, and `codes` is as many whole units as `sums` has groups for: checked above.
        unsafe { (self.sums)(codes, group.min(k).div_ceil(BLOCK).max(1), sums) };
        if half_offset {
            for (g, sums) in sums.iter_mut().enumerate() {
                let valid = (k - g * group).min(group) as i32;
                sums.iter_mut().for_each(|sum| *sum = 2 * *sum + valid);
            }
        }
    }

    fn check(&self, planes: &[Plane<'_>], units: usize, most: u32) {
        assert!(self.isa.supported(), "{}: this CPU lacks {}", self.name, self.isa);
        for plane in planes {
            assert!(matches!(plane.bits, 1 | 2 | 4 | 8), "{}: a plane of {} bits", self.name, plane.bits);
            let need = units * PANEL * plane.bits as usize;
            assert_eq!(plane.bytes.len(), need, "{}: bytes for {units} units", self.name);
        }
        let bits = total_bits(planes);
        assert!((1..=most).contains(&bits), "{}: codes of {bits} bits, at most {most}", self.name);
    }
}

/// Columns of codes in 16 bits, for kernels that take one column at a time: of the first `channels` channels `2q + 1` when
/// `half_offset`, else `q`, of the others 0. `codes`: `[ceil(k / 8)][16][8]` or more; `out`: `[k][16]`.
///
/// # Panics
/// When there are too few codes, more than 16 channels, or `out` is not whole columns.
#[inline(never)] // or its loops would be compiled as its caller is: for size
pub fn widen(codes: &[i8], channels: usize, half_offset: bool, out: &mut [i16]) {
    assert!(
        out.len().is_multiple_of(PANEL) && channels <= PANEL,
        "{} codes of {channels} channels",
        out.len()
    );
    let (factor, offset) = if half_offset { (2, 1) } else { (1, 0) };
    let units = codes.as_chunks::<UNIT>().0;
    let columns = out.as_chunks_mut::<PANEL>().0;
    assert!(units.len() * BLOCK >= columns.len(), "{} units for {} columns", units.len(), columns.len());
    for (unit, columns) in units.iter().zip(columns.chunks_mut(BLOCK)) {
        for (c, column) in columns.iter_mut().enumerate() {
            for (lane, code) in column.iter_mut().enumerate() {
                *code = if lane < channels { i16::from(unit[lane * BLOCK + c]) * factor + offset } else { 0 };
            }
        }
    }
}
