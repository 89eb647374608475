//! Weights are expressions: leaves hold bytes, nodes combine (`runtime/PACK.md`, "Weight expressions").
//!
//! A kernel never sees a format. It asks a [`Weights`] for panels of 16 output channels, decoded into scratch of
//! the caller, as floats or as integer codes with scales. [`Weights::materialize`] is the slow, obviously right
//! evaluation of the same expression and the oracle of every test.
//!
//! A new format is one file with an implementation of [`Weights`] and a constructor, and one line in
//! [`Registry::standard`] (or one call of [`Registry::add`]).

mod blocks;
mod codes;
mod combine;
mod corrected;
pub mod dense;
mod error;
mod float;
mod node;
pub mod planes;
mod registry;
mod row_codes;
mod row_reals;
mod source;
pub mod sparse;
mod tiles;
mod view;
mod window;

#[cfg(test)]
mod tests;

pub use corrected::{Correction, Factors};
pub use error::WeightError;
pub use float::Float;
pub use node::Node;
pub use registry::{Construct, Registry, bind, bind_reals, needed_blobs};
pub use source::Bytes;
pub use sparse::{Bitmap, FewPanels, KeptBlocks};

use edge_kernels::cpu::gemv_half::HalfPanels;
use edge_kernels::cpu::gemv_planes::PlanePanels;
use std::ops::Range;

/// Output channels of one panel.
pub const PANEL: usize = 16;

/// Consecutive k of one channel in a panel of codes.
pub const BLOCK: usize = 8;

/// Longest group of integer codes: 32768 products of half-offset weight codes (to 255) and i8 activations with
/// their zero point taken off (to 255) still fit i32.
pub const MAX_CODE_GROUP: usize = 1 << 15;

/// Columns that are decoded at a time where a panel is not decoded in place: 4 KiB of floats on the stack, at most
/// one such buffer for each level of an expression.
const CHUNK: usize = 64;

/// Zeros to decode into, by one call: a literal of so many is a loop over single floats where code is compiled for size.
fn blank<const N: usize>() -> [f32; N] {
    bytemuck::Zeroable::zeroed()
}

/// Integer codes of a run of panels, for the integer kernels.
///
/// The real weight of code `q` in group `g` is `scale[g] * (2q + 1)` when `half_offset`, else `scale[g] * q`.
pub struct CodesOut<'a> {
    /// `[panels][ceil(k / 8)][16][8]`; codes past `k` or `n` are 0.
    pub codes: &'a mut [i8],
    /// `[panels][groups][16]`, groups = `ceil(k / group)`; 0 past `n`.
    pub scales: &'a mut [f32],
    /// `[panels][groups][16]`: the sum over the group's valid `k` of `2q + 1`, or of `q`.
    pub sums: &'a mut [i32],
}

/// What the codes of an integer-capable weight look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CodeForm {
    /// Consecutive `k` that share a scale; a multiple of 8, or `k` itself; at most [`MAX_CODE_GROUP`].
    pub group: usize,
    /// Codes stand for odd numbers: no code is zero.
    pub half_offset: bool,
    /// Every code is in `[-2^(bits-1), 2^(bits-1))`, 1 to 8.
    pub bits: u32,
}

/// A rectangle of a weight and the lanes of a panel that it goes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Rows of the weight, at most `16 - lane`.
    pub rows: Range<usize>,
    /// Columns of the weight.
    pub cols: Range<usize>,
    /// The lane that the first row goes to.
    pub lane: usize,
}

impl Part {
    /// The rows of panel `panel` of an `[n, k]` weight, every column.
    fn panel(panel: usize, n: usize, k: usize) -> Part {
        let first = panel * PANEL;
        Part { rows: first..n.min(first + PANEL), cols: 0..k, lane: 0 }
    }

    /// The lanes that the rows go to.
    fn lanes(&self) -> Range<usize> {
        self.lane..self.lane + self.rows.len()
    }
}

/// A matrix `[n, k]` bound to the bytes it is made of.
///
/// Methods panic when an output has another length than documented or a range leaves the matrix: both are the
/// caller's mistakes. No bytes of a pack make them panic, and none of them but `materialize` allocates.
pub trait Weights: Send + Sync {
    /// Rows (output channels).
    fn n(&self) -> usize;

    /// Columns (summed over).
    fn k(&self) -> usize;

    /// The whole matrix, row-major `[n, k]`, by the definition of the format and nothing else.
    fn materialize(&self) -> Vec<f32>;

    /// Decodes a rectangle: element `(r, c)` goes to `out[c - cols.start][lane + r - rows.start]`, `out` being
    /// `[cols][16]`. Other elements of `out` keep their values.
    fn fill_part(&self, part: &Part, out: &mut [f32]);

    /// Decodes `panels` as `[panel][k][16]` floats; columns past `n` are 0.
    /// `out` has `panels.len() * k * 16` elements.
    fn fill_f32(&self, panels: Range<usize>, out: &mut [f32]) {
        let (n, k) = (self.n(), self.k());
        assert_eq!(out.len(), panels.len() * k * PANEL, "floats of {} panels of K = {k}", panels.len());
        for (panel, out) in panels.zip(out.chunks_exact_mut(k * PANEL)) {
            let part = Part::panel(panel, n, k);
            if part.rows.len() < PANEL {
                out.fill(0.0);
            }
            self.fill_part(&part, out);
        }
    }

    /// The stored bytes of `panels` when they already are `[panel][k][16]` floats: no decoding, no copy.
    /// Columns past `n` hold what the pack stores there: 0 from our writer, anything from another.
    fn borrow_f32(&self, _panels: Range<usize>) -> Option<&[f32]> {
        None
    }

    /// The stored planes of `panels`, when they lie as [`PlanePanels`] have them: those of the codes of [`Weights::code_form`] where there
    /// is one, else those of the matrix itself.
    fn borrow_planes(&self, _panels: Range<usize>) -> Option<PlanePanels<'_>> {
        None
    }

    /// The stored bytes of `panels`, when they are elements of 16 bits in panels.
    fn borrow_halves(&self, _panels: Range<usize>) -> Option<HalfPanels<'_>> {
        None
    }

    /// The columns that each panel keeps and their values, when the others are 0 and known to be.
    fn borrow_blocks(&self) -> Option<KeptBlocks<'_>> {
        None
    }

    /// The positions and the stored planes of `panels`, of which each row keeps some of every few columns.
    fn borrow_few(&self, _panels: Range<usize>) -> Option<FewPanels<'_>> {
        None
    }

    /// The matrix, when it has a bit an element.
    fn borrow_bits(&self) -> Option<&Bitmap> {
        None
    }

    /// Decodes row `r` into `out` of `k` elements (embedding look-up).
    fn fill_row(&self, r: usize, out: &mut [f32]) {
        assert_eq!(out.len(), self.k(), "elements of a row");
        let mut columns = blank::<{ CHUNK * PANEL }>();
        for (i, out) in out.chunks_mut(CHUNK).enumerate() {
            let first = i * CHUNK;
            let columns = &mut columns[..out.len() * PANEL];
            self.fill_part(&Part { rows: r..r + 1, cols: first..first + out.len(), lane: 0 }, columns);
            for (out, column) in out.iter_mut().zip(columns.chunks_exact(PANEL)) {
                *out = column[0];
            }
        }
    }

    /// What products add to what they make of the matrix.
    fn correction(&self) -> Option<&Correction> {
        None
    }

    /// The form of the integer codes, when the weight has one. The methods below are called only then. Codes may be rounded
    /// values of the matrix (`row_codes`), the same on every machine.
    fn code_form(&self) -> Option<CodeForm> {
        None
    }

    /// Decodes `panels` as integer codes.
    fn fill_codes(&self, _panels: Range<usize>, _out: CodesOut<'_>) {
        unreachable!("fill_codes without code_form")
    }

    /// Whether [`Weights::fill_codes_i16`] may be called.
    fn has_codes_i16(&self) -> bool {
        self.code_form().is_some_and(|form| form.group >= self.k())
    }

    /// Decodes `panels` as integers for kernels that take one column at a time (depthwise convolution): `codes` is
    /// `[panel][k][16]` and holds `2q + 1` when half-offset, else `q`; `scales` is `[panel][16]`. Both are 0 past
    /// `n`. For weights whose group is all of `k`; codes may have up to 12 bits, whatever [`Weights::code_form`] says.
    fn fill_codes_i16(&self, panels: Range<usize>, codes: &mut [i16], scales: &mut [f32]) {
        codes::fill_i16(self, panels, codes, scales);
    }

    /// Decodes a rectangle of codes into one panel: element `(r, c)` goes to channel `lane + r - rows.start` and
    /// k `at + c - cols.start` of `codes`, `[blocks][16][8]`. Other codes keep their values.
    fn codes_part(&self, _part: &Part, _at: usize, _codes: &mut [i8]) {
        unreachable!("codes_part without code_form")
    }

    /// The scales of the codes of `rows` in column `col`, one a row.
    fn scales_at(&self, _rows: Range<usize>, _col: usize, _scales: &mut [f32]) {
        unreachable!("scales_at without code_form")
    }

    /// The scales of the codes of `rows`, at most 16, in the columns `first`, `first + step` and so on: `[columns][16]`, 0 past
    /// the rows.
    fn scales_of(&self, rows: Range<usize>, first: usize, step: usize, scales: &mut [[f32; PANEL]]) {
        codes::scales_of(self, rows, first, step, scales);
    }
}
