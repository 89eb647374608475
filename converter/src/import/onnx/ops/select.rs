//! Operators whose result's size depends on the data: a part of what is planned for the greatest size, and how much of it.

use super::{NOW, Operator, Types, op};
use crate::import::onnx::ctx::{Ctx, Formula};
use crate::import::onnx::node::{NodeView, OpError, malformed, unknown};
use edge_runtime::graph::{BinaryOp, DType, Op, ScatterReduction, ValueId};

/// The table.
pub const OPERATORS: &[Operator] = &[
    op("NonMaxSuppression", (10, NOW), (2, 5), Types::Float, &["center_point_box"], non_max_suppression),
    op("Compress", (9, NOW), (2, 2), Types::Any, &["axis"], compress),
    op("NonZero", (9, NOW), (1, 1), Types::Any, &[], non_zero),
];

fn non_max_suppression<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>) -> Result<(), OpError> {
    let (mut boxes, scores) = (ctx.operand(node, 0)?, ctx.operand(node, 1)?);
    if node.flag("center_point_box", false)? {
        // A centre and a size; a negative size shares nothing with any box, as none has.
        let mut f = ctx.formula(node);
        let (centre, size) = (f.slice(boxes, 2, 0, 2), f.slice(boxes, 2, 2, 4));
        let (centre, size) = (f.cast(centre, DType::F32), f.cast(size, DType::F32));
        let zero = f.real(0.0);
        let size = f.max(size, zero);
        let half = f.times(size, 0.5);
        let (from, to) = (f.sub(centre, half), f.add(centre, half));
        boxes = f.concat(2, &[from, to]);
    }
    let most = if node.input(2).is_some() { Some(ctx.indices(node, 2)?) } else { None };
    let (overlap, score) = (ctx.optional(node, 3)?, ctx.optional(node, 4)?);
    let operands = [Some(boxes), Some(scores), most, overlap, score];
    let made = ctx.emit_many(node, Op::NonMaxSuppression, &operands, 2);
    ctx.mark_part(made[0], 0, made[1]);
    ctx.set(node, 0, made[0])
}

/// The positions of what is true in a vector, in order, and how many there are; behind them the first again, for what is done
/// with a position that is meant can be done with it.
fn positions(f: &mut Formula, truth: ValueId) -> (ValueId, ValueId) {
    let ones = f.cast(truth, DType::I64);
    let sums = f.running_sum(ones);
    let count = f.entry(sums, 0, -1);
    let one = f.integer(1);
    let place = f.sub(sums, one);
    let size = f.size(truth, 0);
    // What is false goes to one place behind all others, which is cut off.
    let place = f.select(truth, place, size);
    let more = f.add(size, one);
    let more = f.reshape(more, &[1]);
    let room = f.op(Op::ConstantOfShape { dtype: DType::I64, value: vec![0; 8] }, &[more]);
    let index = f.count_up(size);
    let op = Op::ScatterElements { axis: 0, reduction: ScatterReduction::None };
    let all = f.op(op, &[room, place, index]);
    let found = f.slice(all, 0, 0, -1);
    let (first, filled) = (f.entry(found, 0, 0), f.binary(BinaryOp::Less, index, count));
    let found = f.select(filled, found, first);
    f.ctx.mark_part(found, 0, count);
    (found, count)
}

/// Entries of an axis, or elements, where a condition is true; what it is too short for is left out.
fn compress<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>) -> Result<(), OpError> {
    let (x, truth) = (ctx.operand(node, 0)?, ctx.operand(node, 1)?);
    if ctx.fact(truth).size(0) == Some(0) {
        return malformed("an empty condition");
    }
    let axis = node.int_if("axis")?.map(|axis| ctx.axis(x, axis)).transpose()?;
    let mut f = ctx.formula(node);
    let (found, _) = positions(&mut f, truth);
    let x = if axis.is_none() { f.reshape(x, &[-1]) } else { x };
    let y = f.op(Op::Gather { axis: axis.unwrap_or(0) }, &[x, found]);
    ctx.set(node, 0, y)
}

/// The indices of elements that are not zero, one row a dimension.
fn non_zero<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>) -> Result<(), OpError> {
    let x = ctx.operand(node, 0)?;
    let rank = ctx.rank(x)?;
    if rank == 0 || ctx.fact(x).dims.as_ref().is_some_and(|d| d.contains(&Some(0))) {
        return unknown("an operand with dimensions, none of them empty,");
    }
    let mut f = ctx.formula(node);
    let flat = f.reshape(x, &[-1]);
    let truth = f.cast(flat, DType::Bool);
    let (mut rest, _) = positions(&mut f, truth);
    let mut rows = Vec::with_capacity(rank);
    for axis in (0..rank).rev() {
        let size = f.size(x, axis);
        let row = f.binary(BinaryOp::Mod, rest, size);
        rest = f.div(rest, size);
        rows.insert(0, f.unsqueeze(row, &[0]));
    }
    let y = f.concat(0, &rows);
    ctx.set(node, 0, y)
}
