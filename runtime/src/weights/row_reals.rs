//! `row_codes` of a matrix that has no codes of its own: integers of one scale a row, made of its reals.
//!
//! What a product of integers would lose by codes that were rounded before, to fewer bits or to the grid of a group, is not lost here. Each panel is decoded
//! twice, for the largest of each row and for the codes: little beside a product of many rows.

use super::{BLOCK, CHUNK, CodeForm, CodesOut, PANEL, Part, Weights, blank, codes};
use edge_kernels::cpu::gemv_half::HalfPanels;
use edge_kernels::cpu::planes::{UNIT, Variant};
use std::ops::Range;

/// Largest code of a row.
const TOP: f32 = 127.0;
/// Added and taken off again, it rounds numbers up to 2^22 to integers, ties to even, on every machine alike.
const ROUND: f32 = 12_582_912.0;

pub(super) struct RowReals {
    pub operand: Box<dyn Weights>,
    pub variant: &'static Variant,
}

/// `[CHUNK][16]` elements.
type Chunk = [f32; CHUNK * PANEL];

impl RowReals {
    /// Calls `f` with the columns of `rows` (at most 16) in runs: `f(first column, [columns][16])`.
    fn columns(&self, rows: &Range<usize>, cols: &Range<usize>, f: &mut dyn FnMut(usize, &[f32])) {
        let mut chunk: Chunk = blank();
        for first in cols.clone().step_by(CHUNK) {
            let cols = first..cols.end.min(first + CHUNK);
            let chunk = &mut chunk[..cols.len() * PANEL];
            self.operand.fill_part(&Part { rows: rows.clone(), cols, lane: 0 }, chunk);
            f(first, chunk);
        }
    }

    /// The largest magnitude of each of `rows`; 0 for what is not finite, so that such a row has no codes but 0.
    fn largest(&self, rows: &Range<usize>) -> [f32; PANEL] {
        let mut largest = [0.0f32; PANEL];
        self.columns(rows, &(0..self.k()), &mut |_, chunk| {
            for column in chunk.as_chunks::<PANEL>().0 {
                for (most, value) in largest.iter_mut().zip(column) {
                    *most = if value.abs() > *most { value.abs() } else { *most };
                }
            }
        });
        largest.map(|most| if most.is_finite() { most } else { 0.0 })
    }
}

/// What elements of rows of these largest ones are multiplied with.
fn factors(largest: &[f32; PANEL]) -> [f32; PANEL] {
    largest.map(|most| if most > 0.0 { (TOP / most).min(f32::MAX) } else { 0.0 })
}

fn code(value: f32, factor: f32) -> i8 {
    // What is no number becomes 0.
    ((value * factor).clamp(-TOP, TOP) + ROUND - ROUND) as i8
}

impl Weights for RowReals {
    fn n(&self) -> usize {
        self.operand.n()
    }

    fn k(&self) -> usize {
        self.operand.k()
    }

    fn materialize(&self) -> Vec<f32> {
        self.operand.materialize()
    }

    fn fill_part(&self, part: &Part, out: &mut [f32]) {
        self.operand.fill_part(part, out);
    }

    fn fill_f32(&self, panels: Range<usize>, out: &mut [f32]) {
        self.operand.fill_f32(panels, out);
    }

    fn borrow_f32(&self, panels: Range<usize>) -> Option<&[f32]> {
        self.operand.borrow_f32(panels)
    }

    fn borrow_halves(&self, panels: Range<usize>) -> Option<HalfPanels<'_>> {
        self.operand.borrow_halves(panels)
    }

    fn fill_row(&self, r: usize, out: &mut [f32]) {
        self.operand.fill_row(r, out);
    }

    fn code_form(&self) -> Option<CodeForm> {
        Some(CodeForm { group: self.k(), half_offset: false, bits: 8 })
    }

    /// Depthwise convolutions take up to 12 bits, which need no rounding.
    fn has_codes_i16(&self) -> bool {
        self.operand.has_codes_i16()
    }

    fn fill_codes_i16(&self, panels: Range<usize>, codes: &mut [i16], scales: &mut [f32]) {
        self.operand.fill_codes_i16(panels, codes, scales);
    }

    fn fill_codes(&self, panels: Range<usize>, out: CodesOut<'_>) {
        codes::fill(self, self.variant, panels, out);
    }

    fn codes_part(&self, part: &Part, at: usize, codes: &mut [i8]) {
        let factors = factors(&self.largest(&part.rows));
        self.columns(&part.rows, &part.cols, &mut |first, chunk| {
            let start = at + first - part.cols.start;
            for (column, k) in chunk.as_chunks::<PANEL>().0.iter().zip(start..) {
                let unit = &mut codes[k / BLOCK * UNIT..][..UNIT];
                for (lane, (value, factor)) in part.lanes().zip(column.iter().zip(&factors)) {
                    unit[lane * BLOCK + k % BLOCK] = code(*value, *factor);
                }
            }
        });
    }

    fn scales_at(&self, rows: Range<usize>, _col: usize, scales: &mut [f32]) {
        for (first, scales) in rows.clone().step_by(PANEL).zip(scales.chunks_mut(PANEL)) {
            let largest = self.largest(&(first..first + scales.len()));
            scales.iter_mut().zip(largest).for_each(|(scale, largest)| *scale = largest / TOP);
        }
    }
}
