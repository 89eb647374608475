//! `corrected`: a coarse matrix beside what makes up for its coarseness.
//!
//! What rounding takes away from a product `W x` is not noise alone. On the inputs that a layer sees, a part of it is the same for all
//! of them, a part shrinks each result, and much of the rest lies in a few directions. A level of this kind has, beside the planes of
//! the matrix that it takes, a gain and a shift for each row and a product of two thin matrices:
//! ```text
//! y = gain * (W' x) + U (V x) + shift
//! ```
//! The coarsest levels may have no `W'` at all, and the two thin matrices stand alone. Only products see these
//! (`plan/lower/factored.rs`); to whatever else reads it, the weight is the matrix `W'`, or 0 where there is none.

use super::node::Node;
use super::source::Bytes;
use super::{
    Bitmap, CHUNK, CodeForm, CodesOut, FewPanels, KeptBlocks, PANEL, Part, WeightError, Weights, blank,
};
use edge_kernels::cpu::gemv_half::HalfPanels;
use edge_kernels::cpu::gemv_planes::PlanePanels;
use half::f16;
use half::slice::HalfFloatSliceExt;
use serde::Deserialize;
use std::ops::Range;
use std::sync::Arc;

/// Most columns of U: beyond it, planes are the better use of bytes.
const MAX_RANK: usize = 1 << 12;

/// One level as the header has it: the matrix's own take (none: no matrix), how many sets of gains and shifts rows have (0 to [`MAX_SETS`]), the rank of the
/// factors (0: none), and the largest magnitude of `V x`.
#[derive(Clone, Copy, Debug, Deserialize)]
struct Level(Option<u32>, usize, usize, f32);

/// Sets of gains and shifts: one for the matrix, another for its codes of one scale a row.
const MAX_SETS: usize = 2;

/// What a product adds to what it makes of the matrix.
pub struct Correction {
    n: usize,
    /// Sets of gains and shifts, one after the other.
    rows: Option<Bytes>,
    factors: Option<Factors>,
    alone: bool,
}

/// Two thin matrices, U `[n, rank]` and V `[rank, k]`.
#[derive(Clone)]
pub struct Factors {
    /// The left one.
    pub u: Arc<dyn Weights>,
    /// The right one.
    pub v: Arc<dyn Weights>,
    /// The largest magnitude of an element of `V x` that calibration met.
    pub range: f32,
}

impl Correction {
    /// Whether rows have gains and shifts.
    pub fn has_rows(&self) -> bool {
        self.rows.is_some()
    }

    /// The thin matrices, where there are any.
    pub fn factors(&self) -> Option<&Factors> {
        self.factors.as_ref()
    }

    /// The thin matrices, where there is no other.
    pub fn alone(&self) -> Option<&Factors> {
        self.factors.as_ref().filter(|_| self.alone)
    }

    /// Multiplies `scale` with the gains and adds the shifts, times `unit * scale` before that, to `bias`: the epilogue of a product
    /// of the matrix becomes that of the corrected one. One element a row each; `unit` takes from the scale what is not the
    /// operation's own. Products of integers of one scale a row take gains and shifts of their own where there are any.
    ///
    /// # Panics
    /// When an operand has another length than rows.
    pub fn apply(&self, scale: &mut [f32], bias: &mut [f32], unit: f32, one_scale: bool) {
        assert_eq!((scale.len(), bias.len()), (self.n, self.n), "a scale and a bias for each row");
        let Some(rows) = &self.rows else { return };
        let mut sets = rows.as_slice().chunks_exact(4 * self.n);
        let Some(set) = (if one_scale { sets.next_back() } else { sets.next() }) else { return };
        let (gains, shifts) = set.split_at(2 * self.n);
        let chunks = scale.chunks_mut(CHUNK).zip(bias.chunks_mut(CHUNK));
        let rows = gains.chunks(2 * CHUNK).zip(shifts.chunks(2 * CHUNK));
        for ((scale, bias), (gains, shifts)) in chunks.zip(rows) {
            let (gains, shifts) = (numbers(gains), numbers(shifts));
            for ((scale, bias), (gain, shift)) in scale.iter_mut().zip(bias).zip(gains.iter().zip(&shifts)) {
                *bias += shift * (*scale * unit);
                *scale *= 1.0 + gain;
            }
        }
    }
}

/// Elements of two bytes as floats, at most a chunk of them: many at a time, for every run of a product does it.
fn numbers(bytes: &[u8]) -> [f32; CHUNK] {
    let (mut halves, mut floats) = ([f16::ZERO; CHUNK], blank::<CHUNK>());
    for (half, bytes) in halves.iter_mut().zip(bytes.as_chunks::<2>().0) {
        *half = f16::from_le_bytes(*bytes);
    }
    halves.convert_to_f32_slice(&mut floats);
    floats
}

struct Corrected {
    matrix: Box<dyn Weights>,
    correction: Correction,
}

pub(super) fn construct(node: &mut Node<'_, '_>) -> Result<Box<dyn Weights>, WeightError> {
    node.only(&["levels"])?;
    let (n, k) = (node.n(), node.k());
    let expected = "a list of [take, sets of gains and shifts, rank, range]";
    let levels: Vec<Level> = node.need("levels", expected)?;
    // More columns than the matrix has rows or columns say nothing that fewer do not.
    let most = MAX_RANK.min(n).min(k);
    let sound = |l: &Level| l.1 <= MAX_SETS && l.2 <= most && l.3.is_finite() && l.3 >= 0.0;
    if levels.is_empty() || !levels.iter().all(sound) {
        let expected = format!("sets to {MAX_SETS}, ranks to {most}, ranges of 0 or more");
        return Err(node.param_error("levels", expected));
    }
    let count = |levels: &[Level]| {
        (levels.iter().filter(|l| l.2 > 0).count(), levels.iter().filter(|l| l.1 > 0).count())
    };
    let (factors, rows) = count(&levels);
    node.counts(1 + 2 * factors, rows)?;
    let index = match node.take() as usize {
        0 => levels.len() - 1,
        take if take <= levels.len() => take - 1,
        take => return Err(node.shape_error("take", take, format!("at most {} levels", levels.len()))),
    };
    let (factors_before, rows_before) = count(&levels[..index]);
    let Level(take, sets, rank, range) = levels[index];
    let matrix: Box<dyn Weights> = match take {
        Some(take) => node.operand(0, Some((n, k)), take)?,
        None if rank > 0 => Box::new(Nothing { n, k }),
        None => return Err(node.param_error("levels", "a rank where there is no take")),
    };
    let rows = if sets > 0 { Some(node.bytes(rows_before, 4 * n * sets)?) } else { None };
    let factors = if rank > 0 {
        let v = node.operand(1 + 2 * factors_before, Some((rank, k)), 0)?.into();
        let u = node.operand(2 + 2 * factors_before, Some((n, rank)), 0)?.into();
        Some(Factors { u, v, range })
    } else {
        None
    };
    if rows.is_none() && factors.is_none() {
        return Ok(matrix);
    }
    Ok(Box::new(Corrected { matrix, correction: Correction { n, rows, factors, alone: take.is_none() } }))
}

/// The matrix of a level that has none.
struct Nothing {
    n: usize,
    k: usize,
}

impl Weights for Nothing {
    fn n(&self) -> usize {
        self.n
    }

    fn k(&self) -> usize {
        self.k
    }

    fn materialize(&self) -> Vec<f32> {
        vec![0.0; self.n * self.k]
    }

    fn fill_part(&self, part: &Part, out: &mut [f32]) {
        out.chunks_exact_mut(PANEL).for_each(|column| column[part.lanes()].fill(0.0));
    }
}

/// The matrix, and the correction beside it.
impl Weights for Corrected {
    fn n(&self) -> usize {
        self.matrix.n()
    }

    fn k(&self) -> usize {
        self.matrix.k()
    }

    fn correction(&self) -> Option<&Correction> {
        Some(&self.correction)
    }

    fn materialize(&self) -> Vec<f32> {
        self.matrix.materialize()
    }

    fn fill_part(&self, part: &Part, out: &mut [f32]) {
        self.matrix.fill_part(part, out);
    }

    fn fill_f32(&self, panels: Range<usize>, out: &mut [f32]) {
        self.matrix.fill_f32(panels, out);
    }

    fn borrow_f32(&self, panels: Range<usize>) -> Option<&[f32]> {
        self.matrix.borrow_f32(panels)
    }

    fn borrow_planes(&self, panels: Range<usize>) -> Option<PlanePanels<'_>> {
        self.matrix.borrow_planes(panels)
    }

    fn borrow_halves(&self, panels: Range<usize>) -> Option<HalfPanels<'_>> {
        self.matrix.borrow_halves(panels)
    }

    fn borrow_few(&self, panels: Range<usize>) -> Option<FewPanels<'_>> {
        self.matrix.borrow_few(panels)
    }

    fn borrow_bits(&self) -> Option<&Bitmap> {
        self.matrix.borrow_bits()
    }

    fn borrow_blocks(&self) -> Option<KeptBlocks<'_>> {
        self.matrix.borrow_blocks()
    }

    fn fill_row(&self, r: usize, out: &mut [f32]) {
        self.matrix.fill_row(r, out);
    }

    fn code_form(&self) -> Option<CodeForm> {
        self.matrix.code_form()
    }

    fn fill_codes(&self, panels: Range<usize>, out: CodesOut<'_>) {
        self.matrix.fill_codes(panels, out);
    }

    fn has_codes_i16(&self) -> bool {
        self.matrix.has_codes_i16()
    }

    fn fill_codes_i16(&self, panels: Range<usize>, codes: &mut [i16], scales: &mut [f32]) {
        self.matrix.fill_codes_i16(panels, codes, scales);
    }

    fn codes_part(&self, part: &Part, at: usize, codes: &mut [i8]) {
        self.matrix.codes_part(part, at, codes);
    }

    fn scales_at(&self, rows: Range<usize>, col: usize, scales: &mut [f32]) {
        self.matrix.scales_at(rows, col, scales);
    }

    fn scales_of(&self, rows: Range<usize>, first: usize, step: usize, scales: &mut [[f32; super::PANEL]]) {
        self.matrix.scales_of(rows, first, step, scales);
    }
}
