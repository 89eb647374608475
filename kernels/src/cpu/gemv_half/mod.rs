//! A few rows of floats times weights of 16 bits, f16 or bf16, read as they lie.
//!
//! Weights come as panels of 16 columns, `[ceil(N/16)][K][16]`, little-endian.
//! ```text
//! acc = fma(x, f32(w), acc)        k ascending, from 0
//! y   = epilogue(acc)
//! ```
//! These are the bits of [`super::gemm_f32`] with the same weights widened before, which writes and reads twice as many bytes for each as
//! are read here.

#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(test)] // nothing runs it: where no variant fits, weights are widened first
mod scalar;
#[cfg(test)]
mod tests;

use super::gemm_f32::{Epilogue, Output, PANEL, Rows};
use super::isa::Isa;

/// Most rows of any variant.
pub const MAX_ROWS: usize = 4;

/// A type of 16 bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Half {
    /// IEEE binary16.
    F16,
    /// The upper half of a binary32.
    Bf16,
}

/// A run of consecutive weight panels.
#[derive(Clone, Copy, Debug)]
pub struct HalfPanels<'a> {
    /// Type of an element.
    pub kind: Half,
    /// `[ceil(N/16)][K][16]`
    pub bytes: &'a [u8],
    /// K.
    pub k: usize,
}

/// A product whose shapes have been checked against each other.
#[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))] // the table has no row there
struct Task<'a> {
    out: Output<'a>,
    x: Rows<'a, f32>,
    w: &'a HalfPanels<'a>,
    epilogue: &'a Epilogue<'a>,
}

/// One implementation.
pub struct Variant {
    /// `op_weights_acts__isa`.
    pub name: &'static str,
    /// What it needs.
    pub isa: Isa,
    run: unsafe fn(&mut Task<'_>),
}

/// Best first; the scalar definition last, in tests.
pub static VARIANTS: &[Variant] = &[
    #[cfg(target_arch = "x86_64")]
    avx512::VARIANT,
    #[cfg(test)]
    scalar::VARIANT,
];

/// The variant at or below `isa` that on this CPU takes less time than to widen weights first, if there is one.
pub fn select(isa: Isa) -> Option<&'static Variant> {
    VARIANTS.iter().find(|v| v.isa != Isa::Scalar && v.isa <= isa && v.isa.supported())
}

impl Variant {
    /// `out[M,N] = epilogue(x[M,K] · w[K,N])`, see the module's formula.
    ///
    /// # Panics
    /// When a shape does not fit another one, or the CPU lacks the variant's ISA.
    pub fn run<'a>(
        &self,
        out: impl Into<Output<'a>>,
        x: Rows<'a, f32>,
        w: &'a HalfPanels<'a>,
        epilogue: &'a Epilogue<'a>,
    ) {
        let (name, out) = (self.name, out.into());
        let (m, n) = (out.rows(), out.cols());
        assert!(self.isa.supported(), "{name}: this CPU lacks {}", self.isa);
        assert_eq!(
            (x.rows(), x.cols(), x.runs()),
            (m, w.k, 1),
            "{name}: activations (left) and M, K (right)"
        );
        let need = n.div_ceil(PANEL).checked_mul(w.k).and_then(|rows| rows.checked_mul(2 * PANEL));
        assert_eq!(Some(w.bytes.len()), need, "{name}: bytes of weights for N = {n}, K = {}", w.k);
        epilogue.check(name, m, n);
        if m == 0 || n == 0 {
            return;
        }
        // SAFETY: the CPU has the ISA, and the shapes agree: both checked above.
        unsafe { (self.run)(&mut Task { out, x, w, epilogue }) }
    }
}
