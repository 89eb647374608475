//! Matrix product of i8 activations with grouped i8 weight panels.
//!
//! Codes come as panels of 16 columns and blocks of 8 k, `[ceil(N/16)][ceil(K/8)][16][8]`, 0 past K and N.
//! A real weight is `scale * (2q + 1)` (half-offset) or `scale * q`, with one scale a column and group of
//! consecutive k; a real activation is `sx * (x - zero_point)`. With `w = 2q + 1` or `w = q`:
//! ```text
//! t[g]  = sum over k in g of w * (x - zero_point)                  exact, i32
//!       = 2 dot(q, x) + rowsum(x) - zero_point * colsum            half-offset
//!       =   dot(q, x)             - zero_point * colsum            plain
//! acc   = fma(f32(t[g]), scale[g], acc)                            g ascending, from 0
//! y     = epilogue(acc)                                            with sx as its scale
//! ```
//! so the bits are the same for every variant, block size and thread count.

#[cfg(target_arch = "aarch64")]
pub(in crate::cpu) mod dotprod;
#[cfg(target_arch = "aarch64")]
mod groups_neon;
#[cfg(target_arch = "aarch64")]
pub(in crate::cpu) mod i8mm;
#[cfg(target_arch = "aarch64")]
mod neon;
mod scalar;
#[cfg(test)]
pub(in crate::cpu) mod tests;
#[cfg(target_arch = "x86_64")]
mod vnni;
mod window_sums;

pub use window_sums::{WindowBlocks, block_sums, window_sums};

use std::ops::Range;

use super::gemm_f32::{Epilogue, Output, PANEL, Rows};
use super::isa::Isa;

/// Consecutive k of one column in a panel.
pub const BLOCK: usize = 8;

/// Largest K of one group of half-offset codes: `255 * 255 * 33_000` still fits i32.
pub const MAX_GROUP_HALF_OFFSET: usize = 33_000;

/// Largest K of one group of plain codes: `128 * 255 * 65_000` still fits i32.
pub const MAX_GROUP_PLAIN: usize = 65_000;

/// A run of consecutive weight panels.
#[derive(Clone, Copy, Debug)]
pub struct I8Panels<'a> {
    /// `[ceil(N/16)][ceil(K/8)][16][8]`
    pub codes: &'a [i8],
    /// `[ceil(N/16)][groups][16]`
    pub scales: &'a [f32],
    /// Sum of a group's `2q + 1` (half-offset) or `q` over its k below K: `[ceil(N/16)][groups][16]`.
    pub colsum: &'a [i32],
    /// K.
    pub k: usize,
    /// k of one scale: a multiple of 8, or K. The last group may be shorter.
    pub group: usize,
    /// Whether a code stands for `2q + 1` instead of `q`.
    pub half_offset: bool,
    /// Every code is in `[-2^(bits-1), 2^(bits-1))`, 1 to 8. Fewer bits allow faster arithmetic; a wrong promise
    /// gives wrong results.
    pub code_bits: u32,
}

impl I8Panels<'_> {
    /// Number of groups along K.
    pub fn groups(&self) -> usize {
        self.k.div_ceil(self.group)
    }
}

/// Quantized activations.
#[derive(Clone, Copy, Debug)]
pub struct I8Rows<'a> {
    /// `M x K` codes.
    pub rows: Rows<'a, i8>,
    /// Code of zero, -128 to 127.
    pub zero_point: i32,
    /// `[groups][M]` from [`Variant::row_sums`] of the same variant and the same form of codes.
    pub row_sums: &'a [i32],
}

/// One implementation.
pub struct Variant {
    /// `op_weights_acts__isa`.
    pub name: &'static str,
    /// What it needs.
    pub isa: Isa,
    run: unsafe fn(&mut Task<'_>),
    /// What a group's sum of activations is multiplied by before it is added to the variant's own sums, for half-offset
    /// codes or plain ones of so many bits.
    row_factor: fn(bool) -> i32,
    /// Sums of consecutive groups of so many activations, as many as there is room for; the last may be shorter.
    sums: unsafe fn(&[i8], usize, &mut [i32]),
}

/// Sums that are made at once.
const TOGETHER: usize = 64;

/// `sums[i] = sum(x[i * group..][..group])`; the last may be shorter.
#[inline(always)]
fn sums_by_group(x: &[i8], group: usize, sums: &mut [i32], sum: impl Fn(&[i8]) -> i32) {
    for (to, x) in sums.iter_mut().zip(x.chunks(group)) {
        *to = sum(x);
    }
}

/// Best first; scalar last.
pub static VARIANTS: &[Variant] = &[
    #[cfg(target_arch = "x86_64")]
    vnni::VARIANT,
    #[cfg(target_arch = "aarch64")]
    i8mm::VARIANT,
    #[cfg(target_arch = "aarch64")]
    dotprod::VARIANT,
    #[cfg(target_arch = "aarch64")]
    neon::VARIANT,
    scalar::VARIANT,
];

/// The best variant at or below `isa` that this CPU runs.
pub fn select(isa: Isa) -> &'static Variant {
    let fits = |variant: &&Variant| variant.isa <= isa && variant.isa.supported();
    VARIANTS.iter().find(fits).unwrap_or(&scalar::VARIANT)
}

/// A product whose shapes have been checked against each other.
struct Task<'a> {
    out: Output<'a>,
    x: I8Rows<'a>,
    w: &'a I8Panels<'a>,
    epilogue: &'a Epilogue<'a>,
}

/// One panel of a run.
#[derive(Clone, Copy)]
struct Panel<'a> {
    /// `[ceil(K/8)][16][8]`
    codes: &'a [i8],
    /// `[groups][16]`
    scales: &'a [[f32; PANEL]],
    /// `[groups][16]`
    colsum: &'a [[i32; PANEL]],
}

impl<'a> I8Panels<'a> {
    #[inline(always)]
    fn panel(&self, index: usize) -> Panel<'a> {
        let (codes, groups) = (self.k.div_ceil(BLOCK) * PANEL * BLOCK, self.groups());
        Panel {
            codes: &self.codes[index * codes..][..codes],
            scales: &self.scales.as_chunks().0[index * groups..][..groups],
            colsum: &self.colsum.as_chunks().0[index * groups..][..groups],
        }
    }

    /// Panics unless the parts fit `n` columns.
    fn check(&self, name: &str, n: usize) {
        let (k, group) = (self.k, self.group);
        assert!(
            group > 0 && (group.is_multiple_of(BLOCK) || group == k),
            "{name}: group {group} for K = {k}"
        );
        let limit = if self.half_offset { MAX_GROUP_HALF_OFFSET } else { MAX_GROUP_PLAIN };
        assert!(group.min(k) <= limit, "{name}: {} k in a group, at most {limit} fit i32", group.min(k));
        assert!((1..=8).contains(&self.code_bits), "{name}: codes of {} bits", self.code_bits);
        let columns = n.div_ceil(PANEL).checked_mul(PANEL);
        let need = |rows: usize| columns.and_then(|columns| columns.checked_mul(rows));
        let blocks = k.div_ceil(BLOCK) * BLOCK;
        assert_eq!(Some(self.codes.len()), need(blocks), "{name}: codes for N = {n}, K = {k}");
        let groups = self.groups();
        assert_eq!(Some(self.scales.len()), need(groups), "{name}: scales for N = {n}, {groups} groups");
        assert_eq!(Some(self.colsum.len()), need(groups), "{name}: column sums for N = {n}, {groups} groups");
        debug_assert!(self.codes_fit(), "{name}: a code needs more than {} bits", self.code_bits);
    }

    fn codes_fit(&self) -> bool {
        let limit = 1 << (self.code_bits - 1);
        self.codes.iter().all(|&q| (-limit..limit).contains(&i32::from(q)))
    }
}

impl Variant {
    /// `out[M,N] = epilogue(x[M,K] · w[K,N])`, see the module's formula.
    ///
    /// # Panics
    /// When a shape does not fit another one, or the CPU lacks the variant's ISA.
    pub fn run<'a>(
        &self,
        out: impl Into<Output<'a>>,
        x: I8Rows<'a>,
        w: &'a I8Panels<'a>,
        epilogue: &'a Epilogue<'a>,
    ) {
        let out = out.into();
        let (m, n) = (out.rows(), out.cols());
        assert!(self.isa.supported(), "{}: this CPU lacks {}", self.name, self.isa);
        assert_eq!(x.rows.rows(), m, "{}: rows of activations (left) and of the result (right)", self.name);
        assert_eq!(x.rows.cols(), w.k, "{}: columns of activations (left) and K (right)", self.name);
        let whole = x.rows.runs() == 1 || x.rows.run_len().is_multiple_of(BLOCK);
        assert!(whole, "{}: rows in {} runs of {}", self.name, x.rows.runs(), x.rows.run_len());
        w.check(self.name, n);
        assert!((-128..128).contains(&x.zero_point), "{}: zero point {} of i8", self.name, x.zero_point);
        assert_eq!(
            x.row_sums.len(),
            m * w.groups(),
            "{}: row sums given (left) and needed (right)",
            self.name
        );
        epilogue.check(self.name, m, n);
        // SAFETY: the CPU has the ISA, and the shapes agree: both checked above.
        unsafe { (self.run)(&mut Task { out, x, w, epilogue }) }
    }

    /// What sums of activations are multiplied by for the product with codes like `w`'s: 0 when it does not need them.
    pub fn row_factor(&self, w: &I8Panels<'_>) -> i32 {
        (self.row_factor)(w.half_offset)
    }

    /// Sums of each row's groups, in the form that this variant's product with codes like `w`'s takes them:
    /// `out[g][m]`, `[ceil(K / group)][M]`, computed once for all panels.
    ///
    /// # Panics
    /// When `out` has another length, or the CPU lacks the variant's ISA.
    pub fn row_sums(&self, rows: Rows<'_, i8>, w: &I8Panels<'_>, out: &mut [i32]) {
        let factor = self.row_factor(w);
        if factor == 0 {
            let groups = rows.cols().div_ceil(w.group);
            assert_eq!(
                out.len(),
                rows.rows() * groups,
                "{}: row sums given (left) and made (right)",
                self.name
            );
            out.fill(0);
            return;
        }
        self.group_sums(rows, w.group, factor, out);
    }

    /// Sums of each row's groups of `group` activations, times `factor`: `out[g][m]`, `[ceil(K / group)][M]`.
    ///
    /// # Panics
    /// When `out` has another length, or the CPU lacks the variant's ISA.
    pub fn group_sums(&self, rows: Rows<'_, i8>, group: usize, factor: i32, out: &mut [i32]) {
        assert!(self.isa.supported(), "{}: this CPU lacks {}", self.name, self.isa);
        let (m, groups) = (rows.rows(), rows.cols().div_ceil(group));
        assert_eq!(out.len(), m * groups, "{}: row sums given (left) and made (right)", self.name);
        if groups == 1 && m > 0 && rows.runs() == 1 && rows.stride() == rows.cols() {
            // Rows that lie densely are consecutive groups.
            // SAFETY: the CPU has the ISA, checked above.
            unsafe { (self.sums)(rows.all(), rows.cols(), out) };
            out.iter_mut().for_each(|sum| *sum = sum.wrapping_mul(factor));
            return;
        }
        let mut made = [0; TOGETHER];
        for row in 0..m {
            for first in (0..groups).step_by(TOGETHER) {
                let sums = &mut made[..TOGETHER.min(groups - first)];
                let range = first * group..rows.cols().min((first + sums.len()) * group);
                // SAFETY: the CPU has the ISA, checked above.
                unsafe {
                    match rows.runs() {
                        1 => (self.sums)(&rows.row(row)[range], group, sums),
                        _ => self.sums_of_runs(&rows, row, range, group, sums),
                    }
                }
                for (g, sum) in (first..).zip(sums) {
                    out[g * m + row] = sum.wrapping_mul(factor);
                }
            }
        }
    }

    /// Sums of the groups of the part `range` of a row, which lies in several runs.
    ///
    /// # Safety
    /// The CPU has the variant's ISA.
    unsafe fn sums_of_runs(
        &self,
        rows: &Rows<'_, i8>,
        row: usize,
        range: Range<usize>,
        group: usize,
        sums: &mut [i32],
    ) {
        let (len, mut at) = (rows.run_len(), range.start);
        for sum in sums {
            let end = range.end.min(at + group);
            *sum = 0;
            while at < end {
                let run = &rows.run(row, at / len)[at % len..];
                let run = &run[..run.len().min(end - at)];
                let mut part = [0];
                // SAFETY: the caller's promise.
                unsafe { (self.sums)(run, run.len(), &mut part) };
                (at, *sum) = (at + run.len(), sum.wrapping_add(part[0]));
            }
        }
    }
}
