//! Attention as the runtime's operations: `softmax(scale q kᵀ + mask) v`.
//!
//! Heads of q that share one of k and v stand in a dimension of their own, over which k and v are broadcast: nothing is
//! repeated in memory. What comes out plain (no cap, no result of the scores) a later pass fuses into one operation.

use crate::import::onnx::ctx::Ctx;
use crate::import::onnx::node::{NodeView, OpError, malformed, unknown};
use edge_runtime::graph::{Act, BinaryOp, DType, Op, UnaryOp, ValueId};

/// One attention. All operands have four dimensions.
pub struct Attend {
    /// `[batch, heads, rows, depth]`.
    pub q: ValueId,
    /// `[batch, kv_heads, columns, depth]`.
    pub k: ValueId,
    /// `[batch, kv_heads, columns, depth of v]`.
    pub v: ValueId,
    /// Heads of q.
    pub heads: usize,
    /// Heads of k and v: head `h` of q takes head `h / (heads / kv_heads)` of them.
    pub kv_heads: usize,
    /// A factor on the products.
    pub scale: f32,
    /// `cap * tanh(scores / cap)` before the mask; 0 is none.
    pub softcap: f32,
    /// The softmax's element type, where it is another than q's.
    pub softmax_type: Option<DType>,
    /// What of the scores counts.
    pub mask: Mask,
}

/// Which scores count. Both broadcast to `[batch, heads, rows, columns]`.
#[derive(Clone, Copy, Default)]
pub struct Mask {
    /// Booleans: a score counts where one is true.
    pub allowed: Option<ValueId>,
    /// Added to the scores, in q's element type.
    pub added: Option<ValueId>,
}

/// What an attention computes, as far as it has been asked for.
pub struct Attended {
    /// `[batch, heads, rows, depth of v]`.
    pub y: ValueId,
    /// `[batch, heads, rows, columns]`, when a stage of it was asked for.
    pub scores: Option<ValueId>,
}

/// A stage of the scores that an operator gives as a result.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// `scale q kᵀ`.
    Product,
    /// After the cap.
    Capped,
    /// After the mask.
    Masked,
    /// After the softmax.
    Weights,
}

/// Appends an attention.
pub fn attend<'m>(
    ctx: &mut Ctx<'m>,
    node: &NodeView<'m>,
    a: &Attend,
    wanted: Option<Stage>,
) -> Result<Attended, OpError> {
    if a.kv_heads == 0 || !a.heads.is_multiple_of(a.kv_heads) {
        return malformed(format!("{} heads of q share {} of k and v", a.heads, a.kv_heads));
    }
    let each = a.heads / a.kv_heads;
    let dtype = ctx.dtype(a.q)?;
    let bias = bias(ctx, node, &a.mask, dtype)?;
    let (mut q, mut k, mut v, mut bias) = (a.q, a.k, a.v, bias);
    if each > 1 {
        q = ctx.split_axis(node, q, 1, [a.kv_heads, each])?;
        k = ctx.unsqueeze(node, k, &[2]);
        v = ctx.unsqueeze(node, v, &[2]);
        bias = match bias {
            Some(bias) => Some(by_groups(ctx, node, bias, a.heads, a.kv_heads)?),
            None => None,
        };
    }
    let mut kept = None;
    let mut keep = |stage: Stage, id: ValueId| {
        if wanted == Some(stage) {
            kept = Some(id);
        }
    };
    let product = Op::MatMul { trans_a: false, trans_b: true, alpha: a.scale };
    let mut scores = ctx.emit(node, product, &[Some(q), Some(k)]);
    keep(Stage::Product, scores);
    if a.softcap > 0.0 {
        let cap = ctx.scalar(dtype, f64::from(a.softcap));
        scores = ctx.binary(node, BinaryOp::Div, scores, cap);
        scores = ctx.unary(node, UnaryOp::Act(Act::Tanh), scores);
        scores = ctx.binary(node, BinaryOp::Mul, scores, cap);
    }
    keep(Stage::Capped, scores);
    if let Some(bias) = bias {
        scores = ctx.binary(node, BinaryOp::Add, scores, bias);
    }
    keep(Stage::Masked, scores);
    let inner = a.softmax_type.unwrap_or(dtype);
    scores = ctx.cast(node, scores, inner);
    let weights = ctx.emit(node, Op::Softmax { axis: -1, log: false }, &[Some(scores)]);
    keep(Stage::Weights, weights);
    let v = ctx.cast(node, v, inner);
    let product = Op::MatMul { trans_a: false, trans_b: false, alpha: 1.0 };
    let y = ctx.emit(node, product, &[Some(weights), Some(v)]);
    let mut y = ctx.cast(node, y, dtype);
    let mut scores = kept.map(|scores| ctx.cast(node, scores, dtype));
    if each > 1 {
        y = ctx.merge_axes(node, y, 1)?;
        scores = match scores {
            Some(scores) => Some(ctx.merge_axes(node, scores, 1)?),
            None => None,
        };
    }
    Ok(Attended { y, scores })
}

/// The mask as one value to add to the scores.
fn bias<'m>(
    ctx: &mut Ctx<'m>,
    node: &NodeView<'m>,
    mask: &Mask,
    dtype: DType,
) -> Result<Option<ValueId>, OpError> {
    let Some(allowed) = mask.allowed else { return Ok(mask.added) };
    let added = match mask.added {
        Some(added) => added,
        None => ctx.scalar(dtype, 0.0),
    };
    let never = ctx.scalar(dtype, f64::NEG_INFINITY);
    Ok(Some(ctx.emit(node, Op::Where, &[Some(allowed), Some(added), Some(never)])))
}

/// A mask of scores `[batch, heads, rows, columns]`, for scores with the heads as `[kv_heads, heads / kv_heads]`.
fn by_groups<'m>(
    ctx: &mut Ctx<'m>,
    node: &NodeView<'m>,
    mask: ValueId,
    heads: usize,
    kv_heads: usize,
) -> Result<ValueId, OpError> {
    let rank = ctx.rank(mask)?;
    let Some(axis) = rank.checked_sub(3) else { return Ok(mask) };
    match ctx.fact(mask).size(axis) {
        Some(1) => Ok(ctx.unsqueeze(node, mask, &[axis as i32])),
        Some(size) if size == heads => ctx.split_axis(node, mask, axis, [kv_heads, heads / kv_heads]),
        Some(size) => malformed(format!("a mask of {size} heads for {heads}")),
        None => unknown("the number of heads of the mask"),
    }
}

/// `[batch, rows, heads * depth]` as `[batch, heads, rows, depth]`.
pub fn by_heads<'m>(
    ctx: &mut Ctx<'m>,
    node: &NodeView<'m>,
    x: ValueId,
    heads: usize,
) -> Result<ValueId, OpError> {
    let width = ctx.known_size(x, 2)?;
    if heads == 0 || !width.is_multiple_of(heads) {
        return malformed(format!("{width} columns in {heads} heads"));
    }
    let x = ctx.split_axis(node, x, 2, [heads, width / heads])?;
    Ok(ctx.transpose(node, x, &[0, 2, 1, 3]))
}

/// `[batch, heads, rows, depth]` as `[batch, rows, heads * depth]`.
pub fn joined_heads<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>, x: ValueId) -> Result<ValueId, OpError> {
    let x = ctx.transpose(node, x, &[0, 2, 1, 3]);
    ctx.merge_axes(node, x, 2)
}

/// Booleans `[rows, columns]`: row `i` counts columns up to `past + i`. `past` is an `i64` scalar.
pub fn causal<'m>(
    ctx: &mut Ctx<'m>,
    node: &NodeView<'m>,
    rows: ValueId,
    columns: ValueId,
    past: Option<ValueId>,
) -> ValueId {
    let zero = ctx.scalar(DType::I64, 0.0);
    let first = past.unwrap_or(zero);
    let limit = match past {
        Some(past) => ctx.binary(node, BinaryOp::Add, past, rows),
        None => rows,
    };
    let last = ctx.count(node, first, limit);
    let last = ctx.unsqueeze(node, last, &[1]);
    let column = ctx.count(node, zero, columns);
    ctx.binary(node, BinaryOp::LessOrEqual, column, last)
}

/// Booleans: true where both are; either may be left out.
pub fn both<'m>(
    ctx: &mut Ctx<'m>,
    node: &NodeView<'m>,
    a: Option<ValueId>,
    b: Option<ValueId>,
) -> Option<ValueId> {
    match (a, b) {
        (Some(a), Some(b)) => Some(ctx.binary(node, BinaryOp::And, a, b)),
        (a, b) => a.or(b),
    }
}
