//! Matrix products.

use super::{NOW, Operator, Types, op};
use crate::import::onnx::ctx::Ctx;
use crate::import::onnx::node::{NodeView, OpError, malformed, unknown};
use crate::import::onnx::tensors::{arranged, floats, from_f64};
use crate::model::Array;
use edge_runtime::graph::{Act, BinaryOp, Op, ValueId};

/// The table.
pub const OPERATORS: &[Operator] = &[
    op("MatMul", (1, NOW), (2, 2), Types::Number, &[], matmul),
    op("Gemm", (1, 6), (3, 3), Types::Number, &["alpha", "beta", "broadcast", "transA", "transB"], gemm),
    op("Gemm", (7, NOW), (2, 3), Types::Number, &["alpha", "beta", "transA", "transB"], gemm),
];

/// A stored rhs of two dimensions as `[N, K]`, times `alpha`; `None` when it is none, or holds integers.
pub(super) fn weight<'m>(
    ctx: &mut Ctx<'m>,
    node: &NodeView<'m>,
    is_nk: bool,
    alpha: f32,
) -> Result<Option<(ValueId, usize)>, OpError> {
    let float = ctx.operand_dtype(node, 1).is_some_and(|d| d.is_float());
    let Some(dims) = ctx.stored_dims(node, 1)?.filter(|d| float && d.len() == 2) else { return Ok(None) };
    let (n, k) = if is_nk { (dims[0], dims[1]) } else { (dims[1], dims[0]) };
    let layout = format!("linear {is_nk} {}", alpha.to_bits());
    let w = ctx.relaid(node, 1, layout, |array| {
        let place = |i: usize| Some(if is_nk { i } else { i % k * n + i / k });
        let Some(rows) = arranged(array, &[n, k], place) else {
            return malformed("a weight that holds no floats");
        };
        Ok(match rows.floats() {
            Some(values) if alpha != 1.0 => {
                Array::of_floats(rows.dtype, &[n, k], values.iter().map(|value| alpha * value).collect())
            }
            _ => rows,
        })
    })?;
    Ok(w.map(|w| (w, n)))
}

/// `x · wᵀ` with nothing fused.
pub fn linear(out_features: usize) -> Op {
    Op::Linear { out_features, act: Act::None, act_after_residual: false }
}

fn matmul<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>) -> Result<(), OpError> {
    let a = ctx.operand(node, 0)?;
    let computed = ctx.model.constant(a).is_none();
    if computed && let Some((w, n)) = weight(ctx, node, false, 1.0)? {
        let y = ctx.emit(node, linear(n), &[Some(a), Some(w)]);
        return ctx.set(node, 0, y);
    }
    let b = ctx.operand(node, 1)?;
    let y = product(ctx, node, a, b)?;
    ctx.set(node, 0, y)
}

/// `a · b`; a vector counts as one row on the left and one column on the right.
pub fn product<'m>(
    ctx: &mut Ctx<'m>,
    node: &NodeView<'m>,
    a: ValueId,
    b: ValueId,
) -> Result<ValueId, OpError> {
    let rank = |id: ValueId| ctx.fact(id).rank();
    let (row, column) = (rank(a) == Some(1), rank(b) == Some(1));
    if rank(a) == Some(0) || rank(b) == Some(0) {
        return malformed("a scalar operand");
    }
    let mut unsqueeze = |id: ValueId, axis: i32, yes: bool| match yes {
        true => ctx.emit(node, Op::Unsqueeze { axes: vec![axis] }, &[Some(id)]),
        false => id,
    };
    let (a, b) = (unsqueeze(a, 0, row), unsqueeze(b, 1, column));
    let op = Op::MatMul { trans_a: false, trans_b: false, alpha: 1.0 };
    let y = ctx.emit(node, op, &[Some(a), Some(b)]);
    let axes: Vec<i32> =
        [(row, -2), (column, -1)].into_iter().filter(|(yes, _)| *yes).map(|(_, a)| a).collect();
    Ok(if axes.is_empty() { y } else { ctx.emit(node, Op::Squeeze { axes }, &[Some(y)]) })
}

/// `alpha * A' · B' + beta * C`.
fn gemm<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>) -> Result<(), OpError> {
    let y = multiplied(ctx, node)?;
    ctx.set(node, 0, y)
}

/// What a `Gemm` of the node's operands gives.
pub(super) fn multiplied<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>) -> Result<ValueId, OpError> {
    let (alpha, beta) = (node.float("alpha", 1.0)?, node.float("beta", 1.0)?);
    let (trans_a, trans_b) = (node.flag("transA", false)?, node.flag("transB", false)?);
    let a = ctx.operand(node, 0)?;
    for i in 0..2 {
        let rank = match ctx.stored_dims(node, i)? {
            Some(dims) => Some(dims.len()),
            None => ctx.optional(node, i)?.and_then(|id| ctx.fact(id).rank()),
        };
        if rank.is_some_and(|r| r != 2) {
            return malformed("an operand that is no matrix");
        }
    }
    let weight = weight(ctx, node, trans_b, alpha)?;
    let y = match weight {
        Some((w, n)) => {
            let x = if trans_a { ctx.transpose(node, a, &[1, 0]) } else { a };
            let bias = row_bias(ctx, node, n, beta)?;
            let y = ctx.emit(node, linear(n), &[Some(x), Some(w), None, bias]);
            if bias.is_some() {
                return Ok(y);
            }
            y
        }
        None => {
            let b = ctx.operand(node, 1)?;
            ctx.emit(node, Op::MatMul { trans_a, trans_b, alpha }, &[Some(a), Some(b)])
        }
    };
    Ok(match ctx.optional(node, 2)? {
        None => y,
        Some(c) => {
            let c = scaled(ctx, node, c, beta)?;
            ctx.emit(node, Op::Binary(BinaryOp::Add), &[Some(y), Some(c)])
        }
    })
}

/// C as a bias of `n` elements, when it is stored and the same for every row.
pub(super) fn row_bias<'m>(
    ctx: &mut Ctx<'m>,
    node: &NodeView<'m>,
    n: usize,
    beta: f32,
) -> Result<Option<ValueId>, OpError> {
    row_bias_at(ctx, node, 2, n, beta)
}

/// [`row_bias`], which is operand `i`.
pub(super) fn row_bias_at<'m>(
    ctx: &mut Ctx<'m>,
    node: &NodeView<'m>,
    i: usize,
    n: usize,
    beta: f32,
) -> Result<Option<ValueId>, OpError> {
    let Some(dims) = ctx.stored_dims(node, i)? else { return Ok(None) };
    let fits = match dims.as_slice() {
        [] => true,
        [len] | [1, len] => *len == n || *len == 1,
        _ => false,
    };
    if !fits {
        return Ok(None);
    }
    ctx.relaid(node, i, format!("bias {n} {}", beta.to_bits()), |array| {
        let Some(values) = floats(array) else { return malformed("a bias that holds no floats") };
        let bias: Vec<f32> = (0..n).map(|i| beta * values[i % values.len().max(1)]).collect();
        Ok(Array::f32(&[n], &bias))
    })
}

/// `factor * x`.
fn scaled<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>, x: ValueId, factor: f32) -> Result<ValueId, OpError> {
    if factor == 1.0 {
        return Ok(x);
    }
    let Some(dtype) = ctx.fact(x).dtype else { return unknown("the element type of operand 2") };
    let factor = ctx.constant("beta", from_f64(dtype, &[], &[f64::from(factor)]));
    Ok(ctx.emit(node, Op::Binary(BinaryOp::Mul), &[Some(x), Some(factor)]))
}
