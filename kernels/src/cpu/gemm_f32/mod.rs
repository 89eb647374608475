//! Matrix product of f32 activations with f32 weight panels: `C[M,N] = epilogue(A[M,K] · B[K,N])`.
//!
//! B comes as panels of 16 columns, `[ceil(N/16)][K][16]`, the last one padded to 16. Every result is one chain
//! of fused multiply-adds that starts at 0 and takes k in ascending order, so all variants, block sizes and
//! thread counts give the same bits. Error of an element: at most `K * 2^-24 * sum |a b| * (1 + small)`.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
pub(in crate::cpu) mod avx512;
#[cfg(target_arch = "x86_64")]
pub(in crate::cpu) mod codes_avx512;
mod epilogue;
#[cfg(target_arch = "x86_64")]
pub(in crate::cpu) mod epilogue_avx2;
#[cfg(target_arch = "x86_64")]
pub(in crate::cpu) mod epilogue_avx512;
#[cfg(target_arch = "aarch64")]
pub(in crate::cpu) mod epilogue_neon;
#[cfg(target_arch = "aarch64")]
mod neon;
mod pack;
mod rows;
mod scalar;
#[cfg(test)]
pub(in crate::cpu) mod tests;

pub(in crate::cpu) use epilogue::Columns;
pub use epilogue::{Addend, Epilogue, Output, PANEL, ResidualOrder, Scale};
pub use pack::{StridedMatrix, pack_panels_f32};
pub use rows::{MAX_RUNS, Rows};

use super::isa::Isa;

/// One implementation.
pub struct Variant {
    /// `op_weights_acts__isa`.
    pub name: &'static str,
    /// What it needs.
    pub isa: Isa,
    run: unsafe fn(&mut Task<'_, f32>),
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

/// A product whose shapes have been checked against each other.
pub(in crate::cpu) struct Task<'a, T> {
    pub(in crate::cpu) out: Output<'a>,
    pub(in crate::cpu) a: Rows<'a, T>,
    /// `[ceil(N/16)][K][16]`
    pub(in crate::cpu) panels: &'a [T],
    pub(in crate::cpu) epilogue: &'a Epilogue<'a>,
}

impl<'a, T> Task<'a, T> {
    /// The task of the variant `name`.
    ///
    /// # Panics
    /// When a shape does not fit another one, or the CPU lacks the variant's ISA.
    pub(in crate::cpu) fn checked(
        (name, isa): (&str, Isa),
        out: Output<'a>,
        a: Rows<'a, T>,
        panels: &'a [T],
        epilogue: &'a Epilogue<'a>,
    ) -> Task<'a, T> {
        let (m, n, k) = (out.rows(), out.cols(), a.cols());
        assert!(isa.supported(), "{name}: this CPU lacks {isa}");
        assert_eq!(a.rows(), m, "{name}: rows of A (left) and of C (right)");
        let need = n.div_ceil(PANEL).checked_mul(PANEL).and_then(|columns| columns.checked_mul(k));
        assert_eq!(Some(panels.len()), need, "{name}: panel elements for N = {n}, K = {k}");
        epilogue.check(name, m, n);
        Task { out, a, panels, epilogue }
    }
}

impl Variant {
    /// `c[M,N] = epilogue(a[M,K] · panels[ceil(N/16)][K][16])`.
    ///
    /// # Panics
    /// When a shape does not fit another one, or the CPU lacks the variant's ISA.
    pub fn run<'a>(
        &self,
        c: impl Into<Output<'a>>,
        a: Rows<'a, f32>,
        panels: &'a [f32],
        epilogue: &'a Epilogue<'a>,
    ) {
        let mut task = Task::checked((self.name, self.isa), c.into(), a, panels, epilogue);
        // SAFETY: the CPU has the ISA and the shapes agree: checked when the task was made.
        unsafe { (self.run)(&mut task) }
    }
}
