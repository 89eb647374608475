//! Sums that are normalised.

use crate::import::onnx::ctx::Ctx;
use crate::import::onnx::node::{NodeView, OpError, malformed};
use edge_runtime::graph::{BinaryOp, DType, Op, ReduceOp, ValueId};

/// The epsilon of the domain's layer normalisations.
const EPSILON: f32 = 1e-12;

/// Operands 0 and 1, and the one at `bias` where there is one, added up; result 3 is the sum.
fn summed<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>, bias: usize) -> Result<(ValueId, i32), OpError> {
    node.no_output(1, "mean")?;
    node.no_output(2, "inverse deviation")?;
    let (x, skip) = (ctx.operand(node, 0)?, ctx.operand(node, 1)?);
    let mut sum = ctx.binary(node, BinaryOp::Add, x, skip);
    if let Some(bias) = ctx.optional(node, bias)? {
        sum = ctx.binary(node, BinaryOp::Add, sum, bias);
    }
    ctx.set(node, 3, sum)?;
    match ctx.rank(sum)?.checked_sub(1) {
        Some(axis) => Ok((sum, axis as i32)),
        None => malformed("an operand without dimensions"),
    }
}

/// x, skip, gamma, beta?, bias?
pub fn skip_layer<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>) -> Result<(), OpError> {
    let (gamma, beta) = (ctx.operand(node, 2)?, ctx.optional(node, 3)?);
    let (sum, axis) = summed(ctx, node, 4)?;
    let op = Op::LayerNorm { axis, epsilon: node.float("epsilon", EPSILON)? };
    let y = ctx.emit(node, op, &[Some(sum), Some(gamma), beta]);
    ctx.set(node, 0, y)
}

/// x, skip, gamma, bias?
pub fn skip_rms<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>) -> Result<(), OpError> {
    let gamma = ctx.operand(node, 2)?;
    let (sum, axis) = summed(ctx, node, 3)?;
    let op = Op::RmsNorm { axis, epsilon: node.float("epsilon", EPSILON)? };
    let y = ctx.emit(node, op, &[Some(sum), Some(gamma)]);
    ctx.set(node, 0, y)
}

/// ids, segments?, word table, position table, segment table?, gamma, beta, mask?, positions?: the lines of the tables added
/// up and normalised. Result 1 counts the 1s of each row of the mask, result 2 is the sum.
pub fn embed_layer<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>) -> Result<(), OpError> {
    let ids = ctx.indices(node, 0)?;
    if ctx.rank(ids)? != 2 {
        return malformed("ids are of 2 dimensions");
    }
    let table = Op::Gather { axis: 0 };
    let words = ctx.operand(node, 2)?;
    let mut sum = ctx.emit(node, table.clone(), &[Some(words), Some(ids)]);
    let positions = if node.input(8).is_some() {
        ctx.indices(node, 8)?
    } else {
        let (zero, rows) = (ctx.scalar(DType::I64, 0.0), ctx.size(node, ids, 1));
        ctx.count(node, zero, rows)
    };
    let lines = ctx.operand(node, 3)?;
    let lines = ctx.emit(node, table.clone(), &[Some(lines), Some(positions)]);
    sum = ctx.binary(node, BinaryOp::Add, sum, lines);
    if node.input(1).is_some() != node.input(4).is_some() {
        return malformed("segment ids and their table come together");
    }
    if node.input(1).is_some() {
        let segments = ctx.indices(node, 1)?;
        let lines = ctx.operand(node, 4)?;
        let lines = ctx.emit(node, table, &[Some(lines), Some(segments)]);
        sum = ctx.binary(node, BinaryOp::Add, sum, lines);
    }
    let (gamma, beta) = (ctx.operand(node, 5)?, ctx.operand(node, 6)?);
    let op = Op::LayerNorm { axis: 2, epsilon: node.float("epsilon", EPSILON)? };
    let y = ctx.emit(node, op, &[Some(sum), Some(gamma), Some(beta)]);
    ctx.set(node, 0, y)?;
    if node.output(1).is_some() {
        let counts = counted(ctx, node, ids)?;
        ctx.set(node, 1, counts)?;
    }
    ctx.set(node, 2, sum)
}

/// The 1s in each row of operand 7, as `i32`; without it 0.
fn counted<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>, ids: ValueId) -> Result<ValueId, OpError> {
    let Some(mask) = ctx.optional(node, 7)? else {
        let batch = ctx.emit(node, Op::Shape { start: 0, end: Some(1) }, &[Some(ids)]);
        let zeros = Op::ConstantOfShape { dtype: DType::I32, value: vec![0; 4] };
        return Ok(ctx.emit(node, zeros, &[Some(batch)]));
    };
    let dtype = ctx.dtype(mask)?;
    let one = ctx.scalar(dtype, 1.0);
    let ones = ctx.binary(node, BinaryOp::Equal, mask, one);
    let ones = ctx.cast(node, ones, DType::F32);
    let sum = Op::Reduce { kind: ReduceOp::Sum, axes: vec![1], keep_dims: false };
    let sum = ctx.emit(node, sum, &[Some(ones)]);
    Ok(ctx.cast(node, sum, DType::I32))
}
