//! A few rows times weights of which each row keeps some of every few columns, as a pack stores them: planes of what is kept, and its positions.
//!
//! ```text
//! floats:   w = values as `gemv_planes` of floats has them;  acc = fma(x[column of the value], w, acc)    values ascending, from 0
//! integers: t = sum over values of c * (x[column of the value] - zero_point)        exact, with one scale a column
//! ```
//! A value whose position stands for nothing ([`super::super::spread`]) is left out. These are the bits of dense products with zeros
//! between, as far as all activations are finite.

#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "x86_64")]
mod vnni;

#[cfg(all(test, target_arch = "x86_64"))]
mod tests;

use super::super::spread::{Few, position_bits};
use super::{BLOCK, Epilogue, Isa, MAX_GROUP_PLAIN, Output, PANEL, PlanePanels, Rows};

/// Most columns that eight values of integers may be spread over: the bytes of a register.
const SPAN: usize = 64;

/// Columns that eight values are spread over.
fn span(keep: usize, of: usize) -> usize {
    BLOCK / keep * of
}

/// Whether integers take so many of so many columns: groups do not lie across units of eight values.
pub fn takes_codes(keep: usize, of: usize) -> bool {
    BLOCK.is_multiple_of(keep) && of.is_power_of_two() && keep < of && span(keep, of) <= SPAN
}

/// Bytes of a row of `cols` activations for integers.
pub fn row_bytes(keep: usize, of: usize, cols: usize) -> usize {
    (cols.div_ceil(of) * keep).div_ceil(BLOCK) * span(keep, of) + SPAN
}

/// Makes such a row: activations without their sign, then the zero point.
pub fn fill_row(x: &[i8], zero_point: i32, row: &mut [u8]) {
    let (own, rest) = row.split_at_mut(x.len());
    own.iter_mut().zip(x).for_each(|(to, x)| *to = *x as u8 ^ 0x80);
    rest.fill(zero_point as u8 ^ 0x80);
}

/// A product whose shapes have been checked against each other; `T` is what activations are.
#[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))] // no table has a row there
struct Task<'a, T> {
    out: Output<'a>,
    x: Rows<'a, T>,
    /// K of the dense matrix.
    cols: usize,
    zero_point: i32,
    few: &'a Few<'a>,
    w: &'a PlanePanels<'a>,
    epilogue: &'a Epilogue<'a>,
}

impl<T> Task<'_, T> {
    /// The positions of a panel.
    #[cfg(target_arch = "x86_64")]
    fn panel(&self, panel: usize) -> Few<'_> {
        let each = self.w.k * 2 * position_bits(self.few.of);
        Few { units: &self.few.units[panel * each..][..each], ..*self.few }
    }
}

/// One implementation for activations of type `T`: floats, or bytes made of codes by [`fill_row`].
pub struct Variant<T: 'static> {
    /// `op_weights_acts__isa`.
    pub name: &'static str,
    /// What it needs.
    pub isa: Isa,
    /// Whether the CPU has what it needs beside that.
    extra: fn() -> bool,
    /// Most rows that take less time than to decode weights once and for all of them.
    pub most_rows: usize,
    run: unsafe fn(&mut Task<'_, T>),
}

/// For floats, best first.
pub static FLOAT_VARIANTS: &[Variant<f32>] = &[
    #[cfg(target_arch = "x86_64")]
    avx512::VARIANT,
];

/// For integers, best first.
pub static CODE_VARIANTS: &[Variant<u8>] = &[
    #[cfg(target_arch = "x86_64")]
    vnni::VARIANT,
];

/// The variant for floats at or below `isa` that this CPU runs, if there is one.
pub fn select_floats(isa: Isa) -> Option<&'static Variant<f32>> {
    FLOAT_VARIANTS.iter().find(|v| v.isa <= isa && v.supported())
}

/// The variant for integers at or below `isa` that this CPU runs, if there is one.
pub fn select_codes(isa: Isa) -> Option<&'static Variant<u8>> {
    CODE_VARIANTS.iter().find(|v| v.isa <= isa && v.supported())
}

impl<T> Variant<T> {
    /// Whether this CPU runs it.
    pub fn supported(&self) -> bool {
        self.isa.supported() && (self.extra)()
    }

    fn checked<'a>(&self, task: Task<'a, T>, row: usize) {
        let (name, few, w, cols) = (self.name, task.few, task.w, task.cols);
        let (m, n) = (task.out.rows(), task.out.cols());
        assert!(self.supported(), "{name}: this CPU lacks {} or what it needs beside", self.isa);
        assert_eq!((task.x.rows(), task.x.cols()), (m, row), "{name}: activations (left) and M, K (right)");
        assert_eq!(task.x.runs(), 1, "{name}: rows of several runs");
        assert_eq!(w.k, cols.div_ceil(few.of) * few.keep, "{name}: values of {cols} columns");
        for panel in 0..n.div_ceil(PANEL) {
            let each = w.k * 2 * position_bits(few.of);
            Few { units: &few.units[panel * each..][..each], ..*few }.check(w.k * PANEL, cols);
        }
        w.check_lengths(name, n);
        task.epilogue.check(name, m, n);
        if m == 0 || n == 0 || w.k == 0 {
            assert!(m == 0 || n == 0, "{name}: no values");
            return;
        }
        let mut task = task;
        // SAFETY: the CPU has what it needs, and the shapes agree: both checked above.
        unsafe { (self.run)(&mut task) }
    }
}

impl Variant<f32> {
    /// `out[M,N] = epilogue(x[M,K] · w[K,N])`. `few` has the positions of the panels of `out`, `w` what they keep.
    ///
    /// # Panics
    /// When a shape does not fit another one, or the CPU lacks what the variant needs.
    pub fn run<'a>(
        &self,
        out: impl Into<Output<'a>>,
        x: Rows<'a, f32>,
        (few, w): (&'a Few<'a>, &'a PlanePanels<'a>),
        epilogue: &'a Epilogue<'a>,
    ) {
        let cols = x.cols();
        self.checked(Task { out: out.into(), x, cols, zero_point: 0, few, w, epilogue }, cols);
    }
}

impl Variant<u8> {
    /// `out[M,N] = epilogue(x[M,K] · w[K,N])` of codes with one scale a column. Rows are of [`fill_row`], [`row_bytes`] long.
    ///
    /// # Panics
    /// When a shape does not fit another one, or the CPU lacks what the variant needs.
    pub fn run<'a>(
        &self,
        out: impl Into<Output<'a>>,
        x: Rows<'a, u8>,
        (cols, zero_point): (usize, i32),
        (few, w): (&'a Few<'a>, &'a PlanePanels<'a>),
        epilogue: &'a Epilogue<'a>,
    ) {
        let (name, keep, of) = (self.name, few.keep, few.of);
        assert!(takes_codes(keep, of), "{name}: {keep} of {of} columns");
        assert!((-128..128).contains(&zero_point), "{name}: zero point {zero_point} of i8");
        assert!(w.one_scale && w.k <= MAX_GROUP_PLAIN, "{name}: one scale a column of {} values", w.k);
        assert!(w.split.is_nested() && w.split.bits() <= 8, "{name}: {:?} with a scale a column", w.split);
        let row = row_bytes(keep, of, cols);
        self.checked(Task { out: out.into(), x, cols, zero_point, few, w, epilogue }, row);
    }
}
