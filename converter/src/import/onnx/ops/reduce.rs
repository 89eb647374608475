//! Reductions, `ArgMax` and `ArgMin`, softmax.

use super::{NOW, Operator, Types, op};
use crate::import::onnx::ctx::Ctx;
use crate::import::onnx::node::{NodeView, OpError, malformed, unsupported};
use crate::import::onnx::ranks::keeps_single;
use edge_runtime::graph::{Op, ReduceOp};

/// The lines of a reduction: axes as an attribute up to some opset, as an operand from the next on.
macro_rules! reduction {
    ($name:literal, attribute to $until:literal, $kind:ident) => {
        op($name, (1, $until), (1, 1), Types::Any, &["axes", "keepdims"], |c, n| {
            reduce(c, n, ReduceOp::$kind)
        })
    };
    ($name:literal, operand from $since:literal, $kind:ident) => {
        op($name, ($since, NOW), (1, 2), Types::Any, &["keepdims", "noop_with_empty_axes"], |c, n| {
            reduce(c, n, ReduceOp::$kind)
        })
    };
}

/// The table.
pub const OPERATORS: &[Operator] = &[
    reduction!("ReduceSum", attribute to 12, Sum),
    reduction!("ReduceSum", operand from 13, Sum),
    reduction!("ReduceMean", attribute to 17, Mean),
    reduction!("ReduceMean", operand from 18, Mean),
    reduction!("ReduceMax", attribute to 17, Max),
    reduction!("ReduceMax", operand from 18, Max),
    reduction!("ReduceMin", attribute to 17, Min),
    reduction!("ReduceMin", operand from 18, Min),
    reduction!("ReduceProd", attribute to 17, Prod),
    reduction!("ReduceProd", operand from 18, Prod),
    reduction!("ReduceL1", attribute to 17, L1),
    reduction!("ReduceL1", operand from 18, L1),
    reduction!("ReduceL2", attribute to 17, L2),
    reduction!("ReduceL2", operand from 18, L2),
    reduction!("ReduceLogSum", attribute to 17, LogSum),
    reduction!("ReduceLogSum", operand from 18, LogSum),
    reduction!("ReduceLogSumExp", attribute to 17, LogSumExp),
    reduction!("ReduceLogSumExp", operand from 18, LogSumExp),
    reduction!("ReduceSumSquare", attribute to 17, SumSquare),
    reduction!("ReduceSumSquare", operand from 18, SumSquare),
    op("ArgMax", (1, NOW), (1, 1), Types::Number, ARG, |c, n| arg(c, n, true)),
    op("ArgMin", (1, NOW), (1, 1), Types::Number, ARG, |c, n| arg(c, n, false)),
    op("Softmax", (1, 12), (1, 1), Types::Float, &["axis"], |c, n| softmax_flat(c, n, false)),
    op("Softmax", (13, NOW), (1, 1), Types::Float, &["axis"], |c, n| softmax(c, n, false)),
    op("LogSoftmax", (1, 12), (1, 1), Types::Float, &["axis"], |c, n| softmax_flat(c, n, true)),
    op("LogSoftmax", (13, NOW), (1, 1), Types::Float, &["axis"], |c, n| softmax(c, n, true)),
];

const ARG: &[&str] = &["axis", "keepdims", "select_last_index"];

fn reduce<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>, kind: ReduceOp) -> Result<(), OpError> {
    let keep_dims = node.flag("keepdims", true)?;
    let noop_if_empty = node.flag("noop_with_empty_axes", false)?;
    let x = ctx.operand(node, 0)?;
    let given = match node.ints("axes")? {
        Some(axes) => Some(axes.to_vec()),
        None if node.input(1).is_none() => Some(Vec::new()),
        None => ctx.known(node, 1)?,
    };
    let axes = match given {
        None => None,
        Some(axes) if axes.is_empty() && noop_if_empty => {
            // Whether the function still acts on each element was not said before opset 27, and engines differ.
            if !keeps_single(kind) {
                return unsupported("attribute noop_with_empty_axes=1 without axes is not implemented");
            }
            return ctx.alias(node);
        }
        Some(axes) if axes.is_empty() => ctx.fact(x).rank().map(|rank| (0..rank as i32).collect()),
        Some(axes) => Some(ctx.axes(x, &axes)?),
    };
    let y = match axes {
        Some(axes) => ctx.emit(node, Op::Reduce { kind, axes, keep_dims }, &[Some(x)]),
        None => {
            let axes = match node.input(1) {
                Some(_) => ctx.indices(node, 1)?,
                None => ctx.vector(node, &[]),
            };
            ctx.emit(node, Op::ReduceAxes { kind, keep_dims, noop_if_empty }, &[Some(x), Some(axes)])
        }
    };
    ctx.set(node, 0, y)
}

fn arg<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>, max: bool) -> Result<(), OpError> {
    let x = ctx.operand(node, 0)?;
    let axis = ctx.axis(x, node.int("axis", 0)?)?;
    let keep_dims = node.flag("keepdims", true)?;
    let last = node.flag("select_last_index", false)?;
    let y = ctx.emit(node, Op::ArgReduce { max, axis, keep_dims, last }, &[Some(x)]);
    ctx.set(node, 0, y)
}

fn softmax<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>, log: bool) -> Result<(), OpError> {
    let x = ctx.operand(node, 0)?;
    let axis = ctx.axis(x, node.int("axis", -1)?)?;
    let y = ctx.emit(node, Op::Softmax { axis, log }, &[Some(x)]);
    ctx.set(node, 0, y)
}

/// Before opset 13: over all dimensions from `axis` on, as one.
fn softmax_flat<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>, log: bool) -> Result<(), OpError> {
    let x = ctx.operand(node, 0)?;
    let given = node.int("axis", 1)?;
    let rank = ctx.fact(x).rank();
    // A vector has no axis 1, yet the default must mean something: all of it.
    if let Some(rank) = rank.filter(|r| given < -(*r as i64) || given > *r as i64) {
        return malformed(format!("axis {given} of {rank} dimensions"));
    }
    let from_start = if given < 0 { rank.map(|r| given + r as i64) } else { Some(given) };
    let is_last = given == -1 || rank.zip(from_start).is_some_and(|(r, a)| a + 1 == r as i64);
    if is_last {
        let axis = ctx.axis(x, given)?;
        let y = ctx.emit(node, Op::Softmax { axis, log }, &[Some(x)]);
        return ctx.set(node, 0, y);
    }
    let axis = super::super::node::axis(from_start.unwrap_or(given))?;
    let shape = ctx.emit(node, Op::Shape { start: 0, end: None }, &[Some(x)]);
    let flat = ctx.emit(node, Op::Flatten { axis }, &[Some(x)]);
    let y = ctx.emit(node, Op::Softmax { axis: 1, log }, &[Some(flat)]);
    let y = ctx.emit(node, Op::Reshape { allow_zero: true }, &[Some(y), Some(shape)]);
    ctx.set(node, 0, y)
}
