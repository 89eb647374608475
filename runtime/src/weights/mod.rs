//! Weights are expressions: leaves hold bytes, nodes combine (`runtime/PACK.md`, "Weight expressions").
//!
//! A kernel never sees a format. It asks a [`Weights`] for panels of 16 output channels, decoded into scratch of
//! the caller, as floats or as integer codes with scales. [`Weights::materialize`] is the slow, obviously right
//! evaluation of the same expression and the oracle of every test.

use std::ops::Range;

/// Output channels of one panel.
pub const PANEL: usize = 16;

/// Integer codes of a run of panels, for the integer kernels.
///
/// The real weight of code `q` in group `g` is `scale[g] * (2q + 1)` when `half_offset`, else `scale[g] * q`.
pub struct CodesOut<'a> {
    /// `[panels][ceil(k / 8)][16][8]`; codes past `k` or `n` are 0.
    pub codes: &'a mut [i8],
    /// `[panels][groups][16]`
    pub scales: &'a mut [f32],
    /// `[panels][groups][16]`: the sum over the group's valid `k` of `2q + 1`, or of `q`.
    pub sums: &'a mut [i32],
}

/// What the codes of an integer-capable weight look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CodeForm {
    /// Consecutive `k` that share a scale; a multiple of 8, or `k` itself.
    pub group: usize,
    /// Codes stand for odd numbers: no code is zero.
    pub half_offset: bool,
}

/// A matrix `[n, k]` bound to the bytes it is made of.
pub trait Weights: Send + Sync {
    /// Rows (output channels).
    fn n(&self) -> usize;

    /// Columns (summed over).
    fn k(&self) -> usize;

    /// The whole matrix, row-major `[n, k]`, by the definition of the format and nothing else.
    fn materialize(&self) -> Vec<f32>;

    /// Decodes `panels` as `[panel][k][16]` floats; columns past `n` are 0.
    /// `out` has `panels.len() * k * 16` elements.
    fn fill_f32(&self, panels: Range<usize>, out: &mut [f32]);

    /// The stored bytes of `panels` when they already are `[panel][k][16]` floats: no decoding, no copy.
    fn borrow_f32(&self, _panels: Range<usize>) -> Option<&[f32]> {
        None
    }

    /// The form of the integer codes, when the weight has one.
    fn code_form(&self) -> Option<CodeForm> {
        None
    }

    /// Decodes `panels` as integer codes. Called only when [`Weights::code_form`] is `Some`.
    fn fill_codes(&self, _panels: Range<usize>, _out: CodesOut<'_>) {
        unreachable!("fill_codes without code_form")
    }

    /// Decodes row `r` into `out` of `k` elements (embedding look-up).
    fn fill_row(&self, r: usize, out: &mut [f32]);
}
