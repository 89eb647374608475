//! The step of a product with a matrix: its kernel's kind, its scratch, what follows it.

use crate::graph::{Act, DType, TensorId};
use crate::plan::build::{Builder, Why};
use crate::plan::fact::Fact;
use crate::plan::step::{ConvGeometry, Finish, Matrix, StepOp, Stored, Thin};
use crate::weights::{Factors, PANEL};

/// Most windows of floats that are multiplied with a weight as it is stored: with more, it takes less time to decode it once.
const MAX_FLOAT_WINDOWS: usize = 4;
/// Most rows whose product with a decoded weight takes noticeably less time: of more, to decode it is less than a fiftieth.
const MOST_ROWS: usize = 1024;

/// Scale, bias, residual and factor as the kernels take them, with their shapes proved.
#[derive(Default)]
pub(super) struct Extras {
    pub scale: Option<Fact>,
    pub bias: Option<Fact>,
    pub residual: Option<Fact>,
    /// Multiplies what the activation function gives.
    pub factor: Option<Fact>,
}

/// The sizes of a product of `m` rows with a matrix `[n, k]`.
#[derive(Clone, Copy)]
pub(super) struct Product {
    pub m: usize,
    pub n: usize,
    pub k: usize,
    /// Of a convolution whose windows are more than the pixels themselves.
    pub geometry: Option<ConvGeometry>,
}

impl Product {
    pub fn is_depthwise(&self) -> bool {
        self.geometry.is_some_and(|g| g.groups > 1 && g.groups == g.ic && g.groups == g.oc)
    }

    /// The same rows by a matrix of `n` rows.
    pub fn with_rows(&self, n: usize) -> Product {
        Product { n, geometry: self.geometry.map(|g| ConvGeometry { oc: n, ..g }), ..*self }
    }

    /// The thin matrices that correct this product's matrix, and whether they stand alone.
    pub fn factors(&self, b: &Builder, weights: &Matrix) -> Result<Option<(TensorId, Factors, bool)>, Why> {
        let Matrix::Tensor(tensor) = weights else { return Ok(None) };
        let Some(stored) = b.model.stored(b.rung, weights) else { return Ok(None) };
        let Some(correction) = stored.correction() else { return Ok(None) };
        let alone = correction.alone().is_some();
        match correction.factors() {
            Some(factors) if self.geometry.is_none_or(|g| g.groups == 1) => {
                Ok(Some((*tensor, factors.clone(), alone)))
            }
            _ if alone => Err("two thin matrices for a convolution in groups".into()),
            _ => Ok(None),
        }
    }

    /// Whether a convolution has so few windows that they are better gathered: as rows they are multiplied with the weight as it is
    /// stored, which is not decoded then.
    fn has_few_windows(&self, b: &Builder, weights: &Matrix, integer: bool) -> bool {
        if self.geometry.is_none_or(|g| g.groups != 1) {
            return false;
        }
        let floats = !integer && (b.bf16 || self.m > MAX_FLOAT_WINDOWS);
        !floats && as_stored(b, weights, self.m, integer).is_some()
    }

    /// The tensor whose correction has gains and shifts for this product's rows: those of the left one of two thin matrices that
    /// stand alone, else of the matrix.
    fn corrected(&self, b: &Builder, weights: &Matrix) -> Option<TensorId> {
        let (tensor, thin) = match weights {
            Matrix::Tensor(tensor) => (*tensor, false),
            Matrix::Factor(tensor, Thin::U) => (*tensor, true),
            _ => return None,
        };
        let stored = b.model.stored(b.rung, &Matrix::Tensor(tensor))?;
        let correction = stored.correction()?;
        let here = stored.n() == self.n && correction.alone().is_some() == thin;
        (here && correction.has_rows()).then_some(tensor)
    }

    /// Emits the step: of integers when `x` is one. `act` is applied before the residual is added when `before`.
    pub fn emit(
        &self,
        b: &mut Builder,
        x: &Fact,
        weights: Matrix,
        extra: &Extras,
        (act, before): (Act, bool),
        out: &Fact,
    ) -> Result<(), Why> {
        let Product { m, n, k, geometry } = *self;
        let integer = x.quant.is_some();
        if let Some(g) = geometry
            && self.has_few_windows(b, &weights, integer)
        {
            let rows = match x.quant {
                Some(quant) => b.result_i8(quant, &[m, k])?,
                None => b.result(DType::F32, &[m, k])?,
            };
            b.emit(StepOp::Unfold { geometry: g }, &[Some(x)], &[&rows])?;
            let product = Product { geometry: None, ..*self };
            return product.emit(b, &rows, weights, extra, (act, before), out);
        }
        let Extras { scale, bias, residual, factor } = extra;
        let inputs = [Some(x), scale.as_ref(), bias.as_ref(), residual.as_ref(), factor.as_ref()];
        let mut finish = Finish {
            act,
            act_before_residual: before,
            corrected: self.corrected(b, &weights),
            ..Finish::default()
        };
        let (blocks, few) =
            if self.is_depthwise() { (None, false) } else { as_blocks(b, &weights, m, integer) };
        let Some(g) = geometry else {
            finish.bf16 = b.bf16 && !integer && weights.tensor().is_some() && !few;
            let plain = !integer && !finish.bf16 && blocks.is_none();
            let weights = if plain { decoded(b, weights, [m, n, k])? } else { weights };
            finish.one_scale = integer && has_one_scale(b, &weights);
            finish.stored = if finish.bf16 { None } else { as_stored(b, &weights, m, integer).or(blocks) };
            let pairs = if finish.bf16 { crate::cpu::words::pair_scratch(None, n, k) } else { 0 };
            let few =
                if finish.stored == Some(Stored::FewOfPlanes) { few_scratch(b, &weights, m) } else { 0 };
            let rounded =
                if b.rounded && !integer && !finish.bf16 { rounded_scratch(b, &weights, m) } else { None };
            finish.rounded = rounded.is_some();
            let bytes = row_scratch(b, &weights, k, false, integer).max(pairs).max(few);
            let bytes = bytes.max(rounded.unwrap_or(0));
            let weights = if finish.bf16 { packed(b, weights, n, k)? } else { weights };
            return b.emit_full(StepOp::Gemm { m, n, k, finish }, &inputs, &[out], vec![weights], bytes);
        };
        if self.is_depthwise() {
            let weights = if integer { weights } else { decoded(b, weights, [m, n, k])? };
            let bytes = crate::cpu::depthwise::scratch(k, integer);
            let op = StepOp::Depthwise { geometry: g, finish };
            return b.emit_full(op, &inputs, &[out], vec![weights], bytes);
        }
        let narrow = crate::cpu::narrow::scratch(&g).filter(|_| !integer);
        if let Some((filters, each)) = crate::cpu::winograd::memory(&g)
            && b.fast
            && !integer
            && !few
            && narrow.is_none()
        {
            let weights = transformed(b, weights, &g, filters)?;
            return b.emit_full(
                StepOp::Winograd { geometry: g, finish },
                &inputs,
                &[out],
                vec![weights],
                each,
            );
        }
        let pairs = narrow.is_none() && crate::cpu::product::pays_in_pairs(&g);
        finish.bf16 = b.bf16 && !integer && pairs && weights.tensor().is_some() && !few;
        finish.one_scale = integer && has_one_scale(b, &weights);
        finish.stored = blocks.filter(|_| !finish.bf16);
        let whole = if g.groups == 1 { n } else { g.groups * (n / g.groups).next_multiple_of(PANEL) };
        let plain = !integer && !finish.bf16 && finish.stored.is_none();
        let weights = if plain { decoded(b, weights, [m, whole, k])? } else { weights };
        let group = b.model.stored(b.rung, &weights).and_then(|w| w.code_form()).map_or(k, |form| form.group);
        let ring = crate::cpu::product::ring_scratch(&g, integer.then_some(group));
        let rows = ring.max(narrow.unwrap_or(0)) + panels(b, &weights, integer);
        let pairs = match finish.bf16 {
            true => crate::cpu::words::pair_scratch(Some(&g), n / g.groups, k),
            false => 0,
        };
        let bytes = row_scratch(b, &weights, k, true, integer).max(rows).max(pairs);
        let weights = if finish.bf16 { packed(b, weights, whole, k)? } else { weights };
        b.emit_full(StepOp::Conv { geometry: g, finish }, &inputs, &[out], vec![weights], bytes)
    }
}

/// Whether the codes of a matrix have one scale a row, and stand for themselves.
fn has_one_scale(b: &Builder, matrix: &Matrix) -> bool {
    let Some(weights) = b.model.stored(b.rung, matrix) else { return false };
    weights.code_form().is_some_and(|form| form.group == weights.k() && !form.half_offset)
}

/// How a matrix lies, when `m` rows are few enough to take it so.
fn as_stored(b: &Builder, matrix: &Matrix, m: usize, integer: bool) -> Option<Stored> {
    crate::cpu::gemv::stored(b.model.stored(b.rung, matrix)?.as_ref(), m, integer)
}

/// Scratch of a product of `m` rows with some of every few columns.
fn few_scratch(b: &Builder, matrix: &Matrix, m: usize) -> usize {
    b.model.stored(b.rung, matrix).map_or(0, |weights| crate::cpu::gemv::few_scratch(weights.as_ref(), m))
}

/// Scratch of a product of `m` rows that are rounded, where the matrix suits that.
fn rounded_scratch(b: &Builder, matrix: &Matrix, m: usize) -> Option<usize> {
    crate::cpu::gemv::rounded_scratch(b.model.stored(b.rung, matrix)?.as_ref(), m)
}

/// The same for any number of rows, when the matrix keeps some blocks of columns; and whether they are so few that a product of half
/// the work takes longer.
fn as_blocks(b: &Builder, matrix: &Matrix, m: usize, integer: bool) -> (Option<Stored>, bool) {
    let Some(weights) = b.model.stored(b.rung, matrix) else { return (None, false) };
    let (blocks, few) = crate::cpu::kept::pays(weights.as_ref(), m, integer);
    (blocks.then_some(Stored::Blocks), few)
}

/// Scratch of one worker for a product with `k` columns: gathered rows (unless they are used in place), their
/// sums in integer mode, and decoded panels.
pub(super) fn row_scratch(b: &Builder, matrix: &Matrix, k: usize, gathers: bool, integer: bool) -> usize {
    let group = b.model.stored(b.rung, matrix).map(|w| w.code_form().map_or(k, |form| form.group));
    let group = group.filter(|_| integer);
    crate::cpu::product::row_scratch(k, gathers, group) + panels(b, matrix, integer)
}

/// Scratch of one worker for decoded panels.
fn panels(b: &Builder, matrix: &Matrix, integer: bool) -> usize {
    b.model.panel_scratch(b.rung, matrix, integer)
}

/// The filters of a convolution, transformed by a step of its own.
fn transformed(b: &mut Builder, weights: Matrix, g: &ConvGeometry, bytes: usize) -> Result<Matrix, Why> {
    let scratch = match weights.tensor() {
        Some(_) => crate::cpu::winograd::transform_scratch(g.ic),
        None => 0,
    };
    // Kept, they take 4 times the weight's bytes and no less time: they come from memory then, and not from the cache.
    b.made_of_weight(StepOp::TransformFilters { ic: g.ic, oc: g.oc }, weights, bytes, scratch, false)
}

/// The matrix `[n, k]` of a product with `m` rows of floats: decoded once, where what is made of weights is kept between runs; else as it
/// is, for each run to decode or to multiply with as it is stored.
pub(super) fn decoded(b: &mut Builder, weights: Matrix, [m, n, k]: [usize; 3]) -> Result<Matrix, Why> {
    let Some(stored) = b.bake.and_then(|_| b.model.stored(b.rung, &weights)) else { return Ok(weights) };
    let pays = m <= MOST_ROWS && (m > MAX_FLOAT_WINDOWS || b.decoded_fits());
    if !pays || stored.borrow_f32(0..1).is_some() || b.graph.decoding.is_some() {
        return Ok(weights);
    }
    let bytes = n.div_ceil(PANEL).checked_mul(k).and_then(|rows| rows.checked_mul(PANEL * 4));
    let bytes = bytes.ok_or_else(|| format!("a matrix of {n} x {k}"))?;
    b.made_of_weight(StepOp::DecodePanels { n, k }, weights, bytes, 0, true)
}

/// An `[n, k]` matrix as pairs of bf16, when those are to be kept between runs; else it is, and each run makes them.
fn packed(b: &mut Builder, weights: Matrix, n: usize, k: usize) -> Result<Matrix, Why> {
    if b.bake.is_none() {
        return Ok(weights);
    }
    let (bytes, scratch) = crate::cpu::panels::pairs_memory(n, k);
    b.made_of_weight(StepOp::PackPairs { n, k }, weights, bytes, scratch, true)
}
