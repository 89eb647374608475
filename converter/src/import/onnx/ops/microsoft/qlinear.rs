//! Functions of quantised values: real numbers in between, quantised again at the end.
//!
//! Where the zero point comes in before the rounding and where behind it is onnxruntime's choice, operator by operator: of two results
//! that are equally near the even one is taken, with the zero point or without.

use crate::import::onnx::ctx::Ctx;
use crate::import::onnx::node::{NodeView, OpError, malformed, unknown, unsupported};
use crate::import::onnx::ops::pool::pooled;
use crate::import::onnx::ops::quantized::{Kind, needed, real, saturated};
use edge_runtime::graph::{Act, BinaryOp, DType, Op, PoolKind, ReduceOp, UnaryOp, ValueId};

/// Operand `i` less the zero point `i + 2`, times the scale `i + 1`.
fn value<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>, i: usize) -> Result<ValueId, OpError> {
    let (x, scale) = (centred(ctx, node, i, i + 2)?, scalar(ctx, node, i + 1)?);
    Ok(ctx.formula(node).mul(x, scale))
}

/// Operand `i` less a zero point, where there is one.
fn centred<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>, i: usize, zero: usize) -> Result<ValueId, OpError> {
    let x = needed(ctx, node, i)?;
    match real(ctx, node, zero)? {
        None => Ok(x),
        Some(zero) => {
            let mut f = ctx.formula(node);
            let zero = f.reshape(zero, &[]);
            Ok(f.sub(x, zero))
        }
    }
}

/// Operand `i`, one real number.
fn scalar<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>, i: usize) -> Result<ValueId, OpError> {
    let x = needed(ctx, node, i)?;
    Ok(ctx.formula(node).reshape(x, &[]))
}

/// When a result's zero point is added.
#[derive(Clone, Copy, PartialEq)]
enum Zero {
    /// Before the rounding.
    Inside,
    /// Behind it.
    Outside,
}

/// The node's result: `y` quantised by operands `scale` and `scale + 1`. The type is that of operand `like`.
fn finish<'m>(
    ctx: &mut Ctx<'m>,
    node: &NodeView<'m>,
    y: ValueId,
    (scale, like): (usize, usize),
    order: Zero,
) -> Result<(), OpError> {
    let Some(kind) = Kind::of(ctx, node, like) else {
        return unknown(format!("the element type of operand {like}"));
    };
    let (step, zero) = (scalar(ctx, node, scale)?, real(ctx, node, scale + 1)?);
    let mut f = ctx.formula(node);
    let mut y = f.div(y, step);
    let zero = zero.map(|zero| f.reshape(zero, &[]));
    let outside = match (zero, order) {
        (Some(zero), Zero::Inside) => {
            y = f.add(y, zero);
            None
        }
        (zero, _) => zero,
    };
    let y = saturated(ctx, node, y, outside, kind)?;
    ctx.set(node, 0, y)
}

/// A sum or a product of two.
pub fn binary<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>, op: BinaryOp) -> Result<(), OpError> {
    let (a, b) = (value(ctx, node, 0)?, value(ctx, node, 3)?);
    let y = ctx.binary(node, op, a, b);
    finish(ctx, node, y, (6, 0), Zero::Inside)
}

/// A function of each element.
pub fn unary<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>, act: Act) -> Result<(), OpError> {
    let x = value(ctx, node, 0)?;
    let y = ctx.unary(node, UnaryOp::Act(act), x);
    finish(ctx, node, y, (3, 0), Zero::Outside)
}

/// The scale and the zero point of the result, then each operand with its own.
pub fn concat<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>) -> Result<(), OpError> {
    let Some(axis) = node.int_if("axis")? else { return malformed("attribute `axis` is missing") };
    let count = node.proto.input.len().saturating_sub(2);
    if count == 0 || !count.is_multiple_of(3) {
        return malformed(format!("{count} operands behind the result's scale: each part has three"));
    }
    let mut parts = Vec::with_capacity(count / 3);
    for i in 0..count / 3 {
        parts.push(value(ctx, node, 2 + 3 * i)?);
    }
    let axis = ctx.axis(parts[0], axis)?;
    let y = ctx.formula(node).concat(axis, &parts);
    finish(ctx, node, y, (0, 1), Zero::Outside)
}

pub fn select<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>) -> Result<(), OpError> {
    let condition = ctx.operand(node, 0)?;
    let (a, b) = (value(ctx, node, 1)?, value(ctx, node, 4)?);
    let y = ctx.formula(node).select(condition, a, b);
    finish(ctx, node, y, (7, 1), Zero::Outside)
}

/// Before opset 13 over all dimensions from the axis on, since then along it.
pub fn softmax<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>) -> Result<(), OpError> {
    let x = value(ctx, node, 0)?;
    let since = node.int("opset", 13)?;
    let axis = ctx.axis(x, node.int("axis", if since < 13 { 1 } else { -1 })?)?;
    let rank = ctx.rank(x)?;
    if since < 13 && axis as usize + 1 != rank {
        return unsupported(format!("attribute opset={since} with axis {axis} of {rank} is not implemented"));
    }
    let y = ctx.emit(node, Op::Softmax { axis, log: false }, &[Some(x)]);
    finish(ctx, node, y, (3, 0), Zero::Outside)
}

pub fn average_pool<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>) -> Result<(), OpError> {
    let x = value(ctx, node, 0)?;
    let kind = PoolKind::Average { include_pad: node.flag("count_include_pad", false)? };
    let y = pooled(ctx, node, x, kind, node.flag("channels_last", false)?)?;
    finish(ctx, node, y, (3, 0), Zero::Inside)
}

/// The greatest of a window of integers, `[N, H, W, C]`.
pub fn max_pool<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>) -> Result<(), OpError> {
    match ctx.operand_dtype(node, 0) {
        Some(DType::I8 | DType::U8) => {}
        other => return unsupported(format!("an operand of type {other:?} is not implemented")),
    }
    let x = ctx.operand(node, 0)?;
    let y = pooled(ctx, node, x, PoolKind::Max, true)?;
    ctx.set(node, 0, y)
}

pub fn global_average_pool<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>) -> Result<(), OpError> {
    let (x, scale) = (centred(ctx, node, 0, 2)?, scalar(ctx, node, 1)?);
    let rank = ctx.rank(x)?;
    let last = node.flag("channels_last", false)?;
    if rank < 3 {
        return malformed(format!("an operand of rank {rank} has no spatial dimensions"));
    }
    let axes: Vec<i32> = if last { (1..rank as i32 - 1).collect() } else { (2..rank as i32).collect() };
    let mut f = ctx.formula(node);
    // Integers, whose sum is exact.
    let mean = f.reduce(ReduceOp::Mean, x, &axes, true);
    let y = f.mul(mean, scale);
    finish(ctx, node, y, (3, 0), Zero::Outside)
}
