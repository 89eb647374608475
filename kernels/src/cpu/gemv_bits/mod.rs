//! A few rows times weights that have a bit an element: masks of columns, and values in the order of set bits ([`super::spread`]).
//!
//! Values are shown some columns at a time, and sums go on from one time to the next:
//! ```text
//! floats:   acc = fma(x[column], scale[lane] * value, acc)         columns ascending, from 0; the value 0 where no bit is set
//! integers: t   = sum over set bits of c * (x[column] - zero_point)    exact; c: the code of `spread` for the value
//!           acc = fma(f32(t), scale[lane], 0)
//! y = epilogue(acc)
//! ```
//! These are the bits of dense products of what [`super::spread`] gives.

#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(all(test, target_arch = "x86_64"))]
mod tests;

use super::gemm_f32::{Epilogue, Output, PANEL, Rows};
use super::gemm_i8::BLOCK;
use super::isa::Isa;
use super::spread::count;

/// Most rows of floats.
pub const MAX_FLOAT_ROWS: usize = 4;
/// Most rows of integers.
pub const MAX_ROWS: usize = 16;

/// Columns of a panel that follow each other, and their values.
#[derive(Clone, Copy, Debug)]
pub struct Columns<'a> {
    /// The first of them: for integers a multiple of 8.
    pub first: usize,
    /// A mask for each, lowest bit first row.
    pub masks: &'a [[u8; 2]],
    /// Values in the order of set bits, at least as many.
    pub values: &'a [f32],
}

/// Sums of a panel that products add to.
#[cfg_attr(not(target_arch = "x86_64"), allow(dead_code))] // the table has no row there
pub struct Sums {
    floats: [[f32; PANEL]; MAX_FLOAT_ROWS],
    whole: [[i32; PANEL]; MAX_ROWS],
    codes: [i32; PANEL],
}

impl Default for Sums {
    fn default() -> Self {
        Sums { floats: [[0.0; PANEL]; MAX_FLOAT_ROWS], whole: [[0; PANEL]; MAX_ROWS], codes: [0; PANEL] }
    }
}

/// Sums to results, of codes with their scales and a zero point.
type Finish = unsafe fn(&Sums, &mut Output<'_>, Option<(&[f32; PANEL], i32)>, &Epilogue<'_>);

/// One implementation.
pub struct Variant {
    /// `op_weights_acts__isa`.
    pub name: &'static str,
    /// What it needs.
    pub isa: Isa,
    /// Whether the CPU has what it needs beside that.
    extra: fn() -> bool,
    add_f32: unsafe fn(Columns<'_>, &[f32; PANEL], Rows<'_, f32>, &mut Sums),
    add_i8: unsafe fn(Columns<'_>, Rows<'_, u8>, &mut Sums),
    finish: Finish,
}

/// Best first.
pub static VARIANTS: &[Variant] = &[
    #[cfg(target_arch = "x86_64")]
    avx512::VARIANT,
];

/// The variant at or below `isa` that this CPU runs, if there is one.
pub fn select(isa: Isa) -> Option<&'static Variant> {
    VARIANTS.iter().find(|v| v.isa <= isa && v.supported())
}

impl Variant {
    /// Whether this CPU runs it.
    pub fn supported(&self) -> bool {
        self.isa.supported() && (self.extra)()
    }

    fn check(&self, columns: &Columns<'_>) {
        assert!(self.supported(), "{}: this CPU lacks {} or what it needs beside", self.name, self.isa);
        let (bits, there) = (count(columns.masks), columns.values.len());
        assert!(bits <= there, "{}: {there} values of {bits}", self.name);
    }

    /// Adds products with some columns, whose values are parts of the scale of their row.
    ///
    /// # Panics
    /// When there are fewer values than bits, columns that `x` has not or too many rows, or the CPU lacks what the variant needs.
    pub fn add_f32(&self, columns: Columns<'_>, scales: &[f32; PANEL], x: Rows<'_, f32>, sums: &mut Sums) {
        self.check(&columns);
        assert!(columns.first + columns.masks.len() <= x.cols(), "{}: columns of {}", self.name, x.cols());
        assert!(
            (1..=MAX_FLOAT_ROWS).contains(&x.rows()) && x.runs() == 1,
            "{}: {} rows",
            self.name,
            x.rows()
        );
        // SAFETY: the CPU has what it needs, and the shapes agree: both checked above.
        unsafe { (self.add_f32)(columns, scales, x, sums) }
    }

    /// Adds products of codes with some columns. Activations are bytes without their sign (`x ^ 0x80`), rows filled up to a multiple of 8.
    ///
    /// # Panics
    /// As [`Variant::add_f32`].
    pub fn add_i8(&self, columns: Columns<'_>, x: Rows<'_, u8>, sums: &mut Sums) {
        self.check(&columns);
        let end = columns.first + columns.masks.len().next_multiple_of(BLOCK);
        assert!(
            columns.first.is_multiple_of(BLOCK) && end <= x.cols(),
            "{}: columns of {}",
            self.name,
            x.cols()
        );
        assert!((1..=MAX_ROWS).contains(&x.rows()) && x.runs() == 1, "{}: {} rows", self.name, x.rows());
        // SAFETY: the CPU has what it needs, and the shapes agree: both checked above.
        unsafe { (self.add_i8)(columns, x, sums) }
    }

    /// Writes the results of a panel: of floats, or of codes with their scales and the zero point of activations.
    ///
    /// # Panics
    /// When `out` is no part of a panel, the epilogue not for it, or the CPU lacks what the variant needs.
    pub fn finish<'a>(
        &self,
        sums: &Sums,
        out: impl Into<Output<'a>>,
        codes: Option<(&[f32; PANEL], i32)>,
        epilogue: &Epilogue<'_>,
    ) {
        let mut out = out.into();
        assert!(self.supported(), "{}: this CPU lacks {} or what it needs beside", self.name, self.isa);
        let most = if codes.is_some() { MAX_ROWS } else { MAX_FLOAT_ROWS };
        assert!(out.rows() <= most && out.cols() <= PANEL, "{}: {} x {}", self.name, out.rows(), out.cols());
        epilogue.check(self.name, out.rows(), out.cols());
        // SAFETY: the CPU has what it needs, and the shapes agree: both checked above.
        unsafe { (self.finish)(sums, &mut out, codes, epilogue) }
    }
}
