//! Operators that pick and put elements by index.

use super::{NOW, Operator, Types, op};
use crate::import::onnx::ctx::{Ctx, Formula};
use crate::import::onnx::node::{NodeView, OpError, malformed, unknown};
use crate::import::onnx::ranks::normalize;
use edge_runtime::graph::{BinaryOp, DType, Op, ScatterReduction, ValueId};

/// The table.
pub const OPERATORS: &[Operator] = &[
    op("Gather", (1, NOW), (2, 2), Types::Any, &["axis"], gather),
    op("GatherElements", (11, NOW), (2, 2), Types::Any, &["axis"], gather_elements),
    op("GatherND", (11, 11), (2, 2), Types::Any, &[], gather_nd),
    op("GatherND", (12, NOW), (2, 2), Types::Any, &["batch_dims"], gather_nd),
    op("Scatter", (9, 10), (3, 3), Types::Any, &["axis"], scatter_elements),
    op("ScatterElements", (11, 15), (3, 3), Types::Any, &["axis"], scatter_elements),
    op("ScatterElements", (16, NOW), (3, 3), Types::Any, &["axis", "reduction"], scatter_elements),
    op("ScatterND", (11, 15), (3, 3), Types::Any, &[], scatter_nd),
    op("ScatterND", (16, NOW), (3, 3), Types::Any, &["reduction"], scatter_nd),
    op("TopK", (1, 9), (1, 1), Types::Number, &["axis", "k"], top_k),
    op("TopK", (10, 10), (2, 2), Types::Number, &["axis"], top_k),
    op("TopK", (11, NOW), (2, 2), Types::Number, &["axis", "largest", "sorted"], top_k),
    op("CumSum", (11, NOW), (2, 2), Types::Number, &["exclusive", "reverse"], cum_sum),
    op("OneHot", (9, NOW), (3, 3), Types::Number, &["axis"], one_hot),
    op("Hardmax", (13, NOW), (1, 1), Types::Float, &["axis"], hardmax),
    op("ReverseSequence", (10, NOW), (2, 2), Types::Any, &["batch_axis", "time_axis"], reverse_sequence),
    op("Trilu", (14, NOW), (1, 2), Types::Any, &["upper"], trilu),
];

fn operands<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>) -> Result<Vec<Option<ValueId>>, OpError> {
    (0..node.inputs()).map(|i| ctx.operand(node, i).map(Some)).collect()
}

fn finish<'m>(
    ctx: &mut Ctx<'m>,
    node: &NodeView<'m>,
    op: Op,
    inputs: &[Option<ValueId>],
) -> Result<(), OpError> {
    let y = ctx.emit(node, op, inputs);
    ctx.set(node, 0, y)
}

/// The axis of operand 0.
fn axis<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>) -> Result<i32, OpError> {
    let x = ctx.operand(node, 0)?;
    ctx.axis(x, node.int("axis", 0)?)
}

fn gather<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>) -> Result<(), OpError> {
    if let Some(y) = narrow_rows(ctx, node)? {
        return ctx.set(node, 0, y);
    }
    let inputs = operands(ctx, node)?;
    let axis = axis(ctx, node)?;
    finish(ctx, node, Op::Gather { axis }, &inputs)
}

/// Rows of a stored table of floats of 16 bits: the table stays as it is, what is looked up becomes wider.
fn narrow_rows<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>) -> Result<Option<ValueId>, OpError> {
    let table = ctx.stored_dims(node, 0)?.is_some_and(|dims| dims.len() == 2);
    if !table || !ctx.is_stored_narrow(node, 0) || !matches!(node.int("axis", 0)?, 0 | -2) {
        return Ok(None);
    }
    let Some(table) = ctx.relaid(node, 0, "table".into(), |array| Ok(array.clone()))? else {
        return Ok(None);
    };
    let index = ctx.operand(node, 1)?;
    let rows = ctx.emit(node, Op::Gather { axis: 0 }, &[Some(table), Some(index)]);
    Ok(Some(ctx.emit(node, Op::Cast { to: DType::F32 }, &[Some(rows)])))
}

fn gather_elements<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>) -> Result<(), OpError> {
    let inputs = operands(ctx, node)?;
    let axis = axis(ctx, node)?;
    finish(ctx, node, Op::GatherElements { axis }, &inputs)
}

fn gather_nd<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>) -> Result<(), OpError> {
    let inputs = operands(ctx, node)?;
    let batch_dims = match usize::try_from(node.int("batch_dims", 0)?) {
        Ok(dims) if inputs[0].and_then(|x| ctx.fact(x).rank()).is_none_or(|r| dims < r) => dims,
        _ => return malformed("batch_dims outside the operand's rank"),
    };
    finish(ctx, node, Op::GatherNd { batch_dims }, &inputs)
}

fn reduction(node: &NodeView) -> Result<ScatterReduction, OpError> {
    match node.string("reduction", "none")? {
        "none" => Ok(ScatterReduction::None),
        "add" => Ok(ScatterReduction::Add),
        "mul" => Ok(ScatterReduction::Mul),
        "max" => Ok(ScatterReduction::Max),
        "min" => Ok(ScatterReduction::Min),
        other => malformed(format!("reduction {other:?}")),
    }
}

fn scatter_elements<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>) -> Result<(), OpError> {
    let inputs = operands(ctx, node)?;
    let axis = axis(ctx, node)?;
    finish(ctx, node, Op::ScatterElements { axis, reduction: reduction(node)? }, &inputs)
}

fn scatter_nd<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>) -> Result<(), OpError> {
    let inputs = operands(ctx, node)?;
    finish(ctx, node, Op::ScatterNd { reduction: reduction(node)? }, &inputs)
}

/// `sorted` = 0 leaves the order open, so sorted results serve as well.
fn top_k<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>) -> Result<(), OpError> {
    let x = ctx.operand(node, 0)?;
    let axis = ctx.axis(x, node.int("axis", -1)?)?;
    let largest = node.flag("largest", true)?;
    let k = match node.int_if("k")? {
        Some(k) => ctx.vector(node, &[k]),
        None if node.opset < 10 => return malformed("attribute `k` is missing"),
        None => ctx.indices(node, 1)?,
    };
    if ctx.fact(k).known().is_some_and(|k| k.first().is_none_or(|k| *k < 0)) {
        return malformed("a negative k");
    }
    ctx.emit_results(node, Op::TopK { axis, largest }, &[Some(x), Some(k)])
}

fn cum_sum<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>) -> Result<(), OpError> {
    let x = ctx.operand(node, 0)?;
    let axis = match ctx.known(node, 1)? {
        Some(axis) => axis,
        // A vector has but one.
        None if ctx.fact(x).rank() == Some(1) => vec![0],
        None => return cum_sum_at(ctx, node, x),
    };
    let [axis] = axis.as_slice() else { return malformed(format!("axis {axis:?}")) };
    let axis = ctx.axis(x, *axis)?;
    let (exclusive, reverse) = (node.flag("exclusive", false)?, node.flag("reverse", false)?);
    finish(ctx, node, Op::CumSum { axis, exclusive, reverse }, &[Some(x)])
}

/// Along an axis that only the planner knows: of the sums along each, the ones that are meant.
fn cum_sum_at<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>, x: ValueId) -> Result<(), OpError> {
    let (exclusive, reverse) = (node.flag("exclusive", false)?, node.flag("reverse", false)?);
    let (axis, rank) = (ctx.indices(node, 1)?, ctx.rank(x)?);
    let mut f = ctx.formula(node);
    let all = f.integer(rank as i64);
    let axis = f.add(axis, all);
    let axis = f.binary(BinaryOp::Mod, axis, all);
    let mut y = None;
    for along in 0..rank {
        let sums = f.op(Op::CumSum { axis: along as i32, exclusive, reverse }, &[x]);
        let number = f.integer(along as i64);
        let meant = f.binary(BinaryOp::Equal, axis, number);
        y = Some(y.map_or(sums, |y| f.select(meant, sums, y)));
    }
    match y {
        Some(y) => ctx.set(node, 0, y),
        None => malformed("a scalar operand"),
    }
}

fn one_hot<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>) -> Result<(), OpError> {
    let indices = ctx.operand(node, 0)?;
    let given = node.int("axis", -1)?;
    // The axis is the result's, which has one more than the indices.
    let axis = match ctx.fact(indices).rank() {
        Some(rank) => match normalize(given, rank + 1) {
            Some(axis) => axis as i32,
            None => return malformed(format!("axis {given} of {} dimensions", rank + 1)),
        },
        None => crate::import::onnx::node::axis(given)?,
    };
    let (depth, values) = (ctx.operand(node, 1)?, ctx.operand(node, 2)?);
    finish(ctx, node, Op::OneHot { axis }, &[Some(indices), Some(depth), Some(values)])
}

/// 1 at the first greatest element along an axis, 0 elsewhere.
fn hardmax<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>) -> Result<(), OpError> {
    let x = ctx.operand(node, 0)?;
    let (rank, Some(dtype)) = (ctx.rank(x)?, ctx.fact(x).dtype) else {
        return unknown("the operand's element type");
    };
    let given = node.int("axis", -1)?;
    let Some(axis) = normalize(given, rank) else {
        return malformed(format!("axis {given} of {rank} dimensions"));
    };
    let mut f = ctx.formula(node);
    let best = f.op(Op::ArgReduce { max: true, axis: axis as i32, keep_dims: true, last: false }, &[x]);
    let count = f.size(x, axis);
    let places = f.count_up(count);
    let mut shape = vec![1; rank - axis];
    shape[0] = -1;
    let places = f.reshape(places, &shape);
    let here = f.binary(BinaryOp::Equal, places, best);
    let y = f.cast(here, dtype);
    ctx.set(node, 0, y)
}

/// Of each batch entry the first elements, as many as its length says, in reverse order.
fn reverse_sequence<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>) -> Result<(), OpError> {
    let (x, lens) = (ctx.operand(node, 0)?, ctx.indices(node, 1)?);
    let (batch, time) = (node.int("batch_axis", 1)?, node.int("time_axis", 0)?);
    let rank = ctx.rank(x)?;
    if !matches!((batch, time), (0, 1) | (1, 0)) || rank < 2 {
        return malformed(format!("batch_axis {batch}, time_axis {time} of {rank} dimensions"));
    }
    let y = turned(&mut ctx.formula(node), x, lens, (time, batch), rank);
    ctx.set(node, 0, y)
}

/// `x` with the first `lens` elements along `time` in reverse order, as many for each element of `batch`.
pub fn turned(
    f: &mut Formula<'_, '_>,
    x: ValueId,
    lens: ValueId,
    (time, batch): (i64, i64),
    rank: usize,
) -> ValueId {
    let count = f.size(x, time as usize);
    let steps = f.count_up(count);
    let along =
        |axis: i64| -> Vec<i64> { (0..rank as i64).map(|a| if a == axis { -1 } else { 1 }).collect() };
    let (steps, lens) = (f.reshape(steps, &along(time)), f.reshape(lens, &along(batch)));
    let one = f.integer(1);
    let last = f.sub(lens, one);
    let mirrored = f.sub(last, steps);
    let inside = f.binary(BinaryOp::Less, steps, lens);
    let place = f.select(inside, mirrored, steps);
    let shape = f.shape(x, 0, None);
    let place = f.op(Op::Expand, &[place, shape]);
    f.op(Op::GatherElements { axis: time as i32 }, &[x, place])
}

fn trilu<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>) -> Result<(), OpError> {
    let x = ctx.operand(node, 0)?;
    let k = ctx.optional(node, 1)?;
    finish(ctx, node, Op::Trilu { upper: node.flag("upper", true)? }, &[Some(x), k])
}
