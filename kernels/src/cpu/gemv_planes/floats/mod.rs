//! A few rows of floats times weights as a pack stores them.
//!
//! ```text
//! w   = f32(2p + 1 - 2^b) * (s * gain * step)      the left factor exact, the product rounded once
//! acc = fma(x, w, acc)                              k ascending, from 0
//! y   = epilogue(acc)
//! ```
//! These are the bits of [`super::super::gemm_f32`] with the same weights joined by [`super::super::planes`].

#[cfg(target_arch = "x86_64")]
pub(super) mod avx512;
#[cfg(test)]
mod scalar;

use super::{Epilogue, Isa, Output, PANEL, PlanePanels, Rows};

/// A product whose shapes have been checked against each other.
#[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))] // the table has no row there
pub(super) struct Task<'a> {
    pub(super) out: Output<'a>,
    /// `[M][K]`, or a row for each panel.
    pub(super) x: Rows<'a, f32>,
    /// Whether there is one row of results, of which each panel has a row of `x`.
    pub(super) own_rows: bool,
    pub(super) w: &'a PlanePanels<'a>,
    pub(super) epilogue: &'a Epilogue<'a>,
}

/// One implementation.
pub struct FloatVariant {
    /// `op_weights_acts__isa`.
    pub name: &'static str,
    /// What it needs.
    pub isa: Isa,
    /// Most rows that take less time than to join weights once and for all of them.
    pub most_rows: usize,
    run: unsafe fn(&mut Task<'_>),
}

/// Best first; the scalar definition last, in tests.
pub static FLOAT_VARIANTS: &[FloatVariant] = &[
    #[cfg(target_arch = "x86_64")]
    avx512::VARIANT,
    #[cfg(test)]
    scalar::VARIANT,
];

/// The variant at or below `isa` that on this CPU takes less time than to join weights first, if there is one.
pub fn select_floats(isa: Isa) -> Option<&'static FloatVariant> {
    FLOAT_VARIANTS.iter().find(|v| v.isa != Isa::Scalar && v.isa <= isa && v.isa.supported())
}

impl FloatVariant {
    /// `out[M,N] = epilogue(x[M,K] · w[K,N])`, see the module's formula; whether codes are given out with a scale a column does not
    /// matter.
    ///
    /// # Panics
    /// When a shape does not fit another one, or the CPU lacks the variant's ISA.
    pub fn run<'a>(
        &self,
        out: impl Into<Output<'a>>,
        x: Rows<'a, f32>,
        w: &'a PlanePanels<'a>,
        epilogue: &'a Epilogue<'a>,
    ) {
        let out = out.into();
        let m = out.rows();
        self.checked(out, x, w, epilogue, (m, false));
    }

    /// As [`FloatVariant::run`] for one row of results, of which each panel has a row of activations of its own: `x` is `[ceil(N/16)][K]`.
    ///
    /// # Panics
    /// When a shape does not fit another one, or the CPU lacks the variant's ISA.
    pub fn run_own_rows<'a>(
        &self,
        out: impl Into<Output<'a>>,
        x: Rows<'a, f32>,
        w: &'a PlanePanels<'a>,
        epilogue: &'a Epilogue<'a>,
    ) {
        let out = out.into();
        assert_eq!(out.rows(), 1, "{}: rows of results", self.name);
        let panels = out.cols().div_ceil(PANEL);
        self.checked(out, x, w, epilogue, (panels, true));
    }

    fn checked<'a>(
        &self,
        out: Output<'a>,
        x: Rows<'a, f32>,
        w: &'a PlanePanels<'a>,
        epilogue: &'a Epilogue<'a>,
        (rows, own_rows): (usize, bool),
    ) {
        let (name, m, n) = (self.name, out.rows(), out.cols());
        assert!(self.isa.supported(), "{name}: this CPU lacks {}", self.isa);
        assert_eq!((x.rows(), x.cols()), (rows, w.k), "{name}: activations (left) and rows, K (right)");
        assert_eq!(x.runs(), 1, "{name}: rows of several runs");
        assert!(w.odd && w.split.is_plain(), "{name}: even numbers, or {:?}", w.split);
        w.check_lengths(name, n);
        epilogue.check(name, m, n);
        if m == 0 || n == 0 {
            return;
        }
        // SAFETY: the CPU has the ISA, and the shapes agree: both checked above.
        unsafe { (self.run)(&mut Task { out, x, own_rows, w, epilogue }) }
    }
}
