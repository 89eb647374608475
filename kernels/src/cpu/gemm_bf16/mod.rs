//! Matrix product whose operands are rounded to bf16 and summed in f32: `C[M,N] = epilogue(A[M,K] · B[K,N])`.
//!
//! Operands come in pairs along K: a word of 32 bits holds the elements of an even k (in its low half) and of the next. A is rows of
//! words, B panels of 16 columns, `[ceil(N/16)][ceil(K/2)][16]` words. A sum takes one pair after the other, of each pair the odd k
//! first:
//!
//! ```text
//! sum = fma(a[2i], b[2i], fma(a[2i + 1], b[2i + 1], sum))        i ascending, from 0
//! ```
//! That is what the instruction does (Intel's reference calls it VDPBF16PS): both multiply-adds round once, and numbers too small
//! to be normal are 0, as operands and as sums. Rounding to bf16 is to nearest, ties to even; its relative error is at most 2^-9.

#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(test)] // nothing runs it: where no variant fits, another product is faster
mod scalar;
#[cfg(test)]
mod tests;

use super::gemm_f32::{Epilogue, Output, PANEL, Rows, Task};
use super::isa::Isa;

/// One implementation.
pub struct Variant {
    /// `op_weights_acts__isa`.
    pub name: &'static str,
    /// What it needs.
    pub isa: Isa,
    run: unsafe fn(&mut Task<'_, u32>),
    pairs_of_row: unsafe fn(&[f32], &mut [u32]),
    pairs_of_panel: unsafe fn(&[f32], &mut [u32]),
}

/// Best first; the scalar definition last, in tests.
pub static VARIANTS: &[Variant] = &[
    #[cfg(target_arch = "x86_64")]
    avx512::VARIANT,
    #[cfg(test)]
    scalar::VARIANT,
];

/// The variant at or below `isa` that this CPU multiplies faster with than [`super::gemm_f32`], if there is one.
pub fn select(isa: Isa) -> Option<&'static Variant> {
    VARIANTS.iter().find(|v| v.isa != Isa::Scalar && v.isa <= isa && v.isa.supported())
}

impl Variant {
    /// `c[M,N] = epilogue(a · panels)`: `a` has `ceil(K/2)` words a row.
    ///
    /// # Panics
    /// When a shape does not fit another one, or the CPU lacks the variant's ISA.
    pub fn run<'a>(
        &self,
        c: impl Into<Output<'a>>,
        a: Rows<'a, u32>,
        panels: &'a [u32],
        epilogue: &'a Epilogue<'a>,
    ) {
        let mut task = Task::checked((self.name, self.isa), c.into(), a, panels, epilogue);
        // SAFETY: the CPU has the ISA and the shapes agree: checked when the task was made.
        unsafe { (self.run)(&mut task) }
    }

    /// Rounds `K` elements to words; an odd K ends with a 0.
    ///
    /// # Panics
    /// When there are not `ceil(K/2)` words, or the CPU lacks the variant's ISA.
    pub fn pairs_of_row(&self, row: &[f32], words: &mut [u32]) {
        self.check();
        assert_eq!(words.len(), row.len().div_ceil(2), "{}: words of {} elements", self.name, row.len());
        // SAFETY: the CPU has the ISA and the lengths agree, both checked above.
        unsafe { (self.pairs_of_row)(row, words) }
    }

    /// Rounds a panel `[K][16]` to `[ceil(K/2)][16]` words; an odd K ends with zeros.
    ///
    /// # Panics
    /// When a length is not the shape's, or the CPU lacks the variant's ISA.
    pub fn pairs_of_panel(&self, panel: &[f32], words: &mut [u32]) {
        self.check();
        let k = panel.len() / PANEL;
        let fits = panel.len() == k * PANEL && words.len() == k.div_ceil(2) * PANEL;
        assert!(fits, "{}: {} words of a panel of {} elements", self.name, words.len(), panel.len());
        // SAFETY: the CPU has the ISA and the lengths agree, both checked above.
        unsafe { (self.pairs_of_panel)(panel, words) }
    }

    fn check(&self) {
        assert!(self.isa.supported(), "{}: this CPU lacks {}", self.name, self.isa);
    }
}
