//! Operators that pick and put elements by index.

use super::{NOW, Operator, Types, op};
use crate::import::onnx::ctx::Ctx;
use crate::import::onnx::node::{NodeView, OpError, malformed, unknown};
use edge_runtime::graph::{Op, ScatterReduction, ValueId};

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
    let inputs = operands(ctx, node)?;
    let axis = axis(ctx, node)?;
    finish(ctx, node, Op::Gather { axis }, &inputs)
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
    let Some(axis) = ctx.known(node, 1)? else { return unknown("the axis, as a number") };
    let [axis] = axis.as_slice() else { return malformed(format!("axis {axis:?}")) };
    let axis = ctx.axis(x, *axis)?;
    let (exclusive, reverse) = (node.flag("exclusive", false)?, node.flag("reverse", false)?);
    finish(ctx, node, Op::CumSum { axis, exclusive, reverse }, &[Some(x)])
}

fn one_hot<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>) -> Result<(), OpError> {
    let indices = ctx.operand(node, 0)?;
    let given = node.int("axis", -1)?;
    // The axis is the result's, which has one more than the indices.
    let axis = match ctx.fact(indices).rank() {
        Some(rank) => match crate::import::onnx::ranks::normalize(given, rank + 1) {
            Some(axis) => axis as i32,
            None => return malformed(format!("axis {given} of {} dimensions", rank + 1)),
        },
        None => crate::import::onnx::node::axis(given)?,
    };
    let (depth, values) = (ctx.operand(node, 1)?, ctx.operand(node, 2)?);
    finish(ctx, node, Op::OneHot { axis }, &[Some(indices), Some(depth), Some(values)])
}

fn trilu<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>) -> Result<(), OpError> {
    let x = ctx.operand(node, 0)?;
    let k = ctx.optional(node, 1)?;
    finish(ctx, node, Op::Trilu { upper: node.flag("upper", true)? }, &[Some(x), k])
}
