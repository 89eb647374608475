//! Products with what follows them.

use crate::import::onnx::ctx::Ctx;
use crate::import::onnx::node::{NodeView, OpError, malformed, unsupported};
use crate::import::onnx::ops::{conv, matmul};
use edge_runtime::graph::{Act, BinaryOp, Op, UnaryOp, ValueId};

/// `alpha * A' · B'`, where each operand may have its last two dimensions, or its first and all but the last, swapped.
pub fn fused_matmul<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>) -> Result<(), OpError> {
    let (trans_a, trans_b) = (node.flag("transA", false)?, node.flag("transB", false)?);
    let alpha = node.float("alpha", 1.0)?;
    let a = ctx.operand(node, 0)?;
    let a = rows_inward(ctx, node, a, "transBatchA")?;
    if ctx.rank(a)? >= 2
        && !node.flag("transBatchB", false)?
        && let Some((w, n)) = matmul::weight(ctx, node, trans_b, alpha)?
    {
        let a = if trans_a { swapped(ctx, node, a)? } else { a };
        let y = ctx.emit(node, matmul::linear(n), &[Some(a), Some(w)]);
        return ctx.set(node, 0, y);
    }
    let b = ctx.operand(node, 1)?;
    let b = rows_inward(ctx, node, b, "transBatchB")?;
    if ctx.rank(a)? < 2 || ctx.rank(b)? < 2 {
        return unsupported("an operand of fewer than 2 dimensions is not implemented");
    }
    let y = ctx.emit(node, Op::MatMul { trans_a, trans_b, alpha }, &[Some(a), Some(b)]);
    ctx.set(node, 0, y)
}

/// `[rows, ..batch, columns]` as `[..batch, rows, columns]`, where an attribute says so.
fn rows_inward<'m>(
    ctx: &mut Ctx<'m>,
    node: &NodeView<'m>,
    x: ValueId,
    name: &str,
) -> Result<ValueId, OpError> {
    if !node.flag(name, false)? {
        return Ok(x);
    }
    let rank = ctx.rank(x)?;
    if rank < 3 {
        return malformed(format!("{name} of an operand of rank {rank}"));
    }
    let perm: Vec<usize> = (1..rank - 1).chain([0, rank - 1]).collect();
    Ok(ctx.transpose(node, x, &perm))
}

fn swapped<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>, x: ValueId) -> Result<ValueId, OpError> {
    let rank = ctx.rank(x)?;
    let perm: Vec<usize> = (0..rank - 2).chain([rank - 1, rank - 2]).collect();
    Ok(ctx.transpose(node, x, &perm))
}

pub fn fused_gemm<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>) -> Result<(), OpError> {
    let y = matmul::multiplied(ctx, node)?;
    let mut parameters = Vec::new();
    for name in ["activation_alpha", "activation_beta"] {
        parameters.extend(node.float_if(name)?);
    }
    activated(ctx, node, y, &parameters)
}

/// A convolution, operand 3 added, then a function.
pub fn fused_conv<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>) -> Result<(), OpError> {
    let mut y = conv::convolved(ctx, node)?;
    if let Some(residual) = ctx.optional(node, 3)? {
        y = ctx.binary(node, BinaryOp::Add, y, residual);
    }
    activated(ctx, node, y, node.floats("activation_params")?)
}

/// The node's result: the function that `activation` names of `y`.
fn activated<'m>(
    ctx: &mut Ctx<'m>,
    node: &NodeView<'m>,
    y: ValueId,
    parameters: &[f32],
) -> Result<(), OpError> {
    let name = node.string("activation", "")?;
    let act = match (name, parameters) {
        ("", _) => return ctx.set(node, 0, y),
        ("Relu", _) => Act::Relu,
        ("Tanh", _) => Act::Tanh,
        ("Sigmoid", _) => Act::Sigmoid,
        ("LeakyRelu", [alpha, ..]) => Act::LeakyRelu { alpha: *alpha },
        ("Clip", [lo, hi, ..]) => {
            Act::Clip { lo: lo.clamp(f32::MIN, f32::MAX), hi: hi.clamp(f32::MIN, f32::MAX) }
        }
        ("HardSigmoid", [alpha, beta, ..]) => Act::HardSigmoid { alpha: *alpha, beta: *beta },
        ("LeakyRelu" | "Clip" | "HardSigmoid", _) => {
            return malformed(format!("activation {name} with {} parameters", parameters.len()));
        }
        _ => return unsupported(format!("attribute activation={name:?} is not implemented")),
    };
    let y = ctx.unary(node, UnaryOp::Act(act), y);
    ctx.set(node, 0, y)
}
