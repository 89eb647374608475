//! Attention of one or of three operands, with masks that say which keys count.

use crate::import::onnx::ctx::Ctx;
use crate::import::onnx::node::{NodeView, OpError, malformed, unknown, unsupported};
use crate::import::onnx::ops::attention::attend::{Attend, Mask, attend, by_heads, causal, joined_heads};
use crate::import::onnx::ops::{attention::heads, matmul};
use edge_runtime::graph::{BinaryOp, DType, Op, ValueId};

/// The factor on the products; 0 stands for the default.
pub fn scale_of(node: &NodeView, depth: usize) -> Result<f32, OpError> {
    match node.float("scale", 0.0)? {
        0.0 => Ok((1.0 / (depth as f64).sqrt()) as f32),
        scale => Ok(scale),
    }
}

/// The attribute `num_heads`, which there must be.
pub fn head_count(node: &NodeView) -> Result<usize, OpError> {
    match heads(node, "num_heads")? {
        Some(heads) => Ok(heads),
        None => malformed("num_heads is needed"),
    }
}

/// q, k and v of an attention with as many heads each, and where the keys come from.
struct Operands {
    q: ValueId,
    k: ValueId,
    v: ValueId,
    heads: usize,
    /// Keys before the operand's own, an `i64` scalar.
    past: Option<ValueId>,
}

/// x, weights, bias?, mask?, past?, added?: q, k and v are a product of x.
pub fn attention<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>) -> Result<(), OpError> {
    let x = ctx.operand(node, 0)?;
    if ctx.rank(x)? != 3 {
        return malformed("an operand of 3 dimensions is expected");
    }
    let projected = projected(ctx, node, x)?;
    of_projected(ctx, node, projected, (4, 3, 5))
}

/// Attention of `[batch, rows, q and k and v]`. The numbers name the operands that hold what came before, the mask, and what is added to
/// products.
pub fn of_projected<'m>(
    ctx: &mut Ctx<'m>,
    node: &NodeView<'m>,
    projected: ValueId,
    (past, mask, added): (usize, usize, usize),
) -> Result<(), OpError> {
    node.only_int("do_rotary", 0)?;
    node.only_int("past_present_share_buffer", 0)?;
    let heads = head_count(node)?;
    let width = ctx.known_size(projected, 2)?;
    let sizes = match node.sizes("qkv_hidden_sizes", 1)? {
        Some(sizes) if sizes.len() == 3 => sizes,
        Some(sizes) => return malformed(format!("qkv_hidden_sizes {sizes:?}")),
        None => vec![width / 3; 3],
    };
    let sum = sizes.iter().try_fold(0usize, |sum, s| sum.checked_add(*s));
    if sum != Some(width) || sizes[0] != sizes[1] {
        return malformed(format!("q, k and v of {sizes:?} columns in weights of {width}"));
    }
    let parts = ctx.split(node, projected, 2, &sizes);
    let mut operands = Operands {
        q: by_heads(ctx, node, parts[0], heads)?,
        k: by_heads(ctx, node, parts[1], heads)?,
        v: by_heads(ctx, node, parts[2], heads)?,
        heads,
        past: None,
    };
    if let Some(past) = ctx.optional(node, past)? {
        // [2, batch, heads, keys, depth]: k and v.
        let parts = ctx.split(node, past, 0, &[1, 1]);
        let squeeze = Op::Squeeze { axes: vec![0] };
        let past_k = ctx.emit(node, squeeze.clone(), &[Some(parts[0])]);
        let past_v = ctx.emit(node, squeeze, &[Some(parts[1])]);
        after(ctx, node, &mut operands, past_k, past_v);
    }
    if node.output(1).is_some() {
        let (k, v) = (ctx.unsqueeze(node, operands.k, &[0]), ctx.unsqueeze(node, operands.v, &[0]));
        let present = ctx.concat(node, &[k, v], 0);
        ctx.set(node, 1, present)?;
    }
    finish(ctx, node, &operands, (mask, added))
}

/// x times operand 1, and operand 2 added.
fn projected<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>, x: ValueId) -> Result<ValueId, OpError> {
    let y = match matmul::weight(ctx, node, false, 1.0)? {
        Some((w, n)) => {
            let bias = matmul::row_bias(ctx, node, n, 1.0)?;
            let y = ctx.emit(node, matmul::linear(n), &[Some(x), Some(w), None, bias]);
            if bias.is_some() {
                return Ok(y);
            }
            y
        }
        None => {
            let w = ctx.operand(node, 1)?;
            matmul::product(ctx, node, x, w)?
        }
    };
    Ok(match ctx.optional(node, 2)? {
        Some(bias) => ctx.binary(node, BinaryOp::Add, y, bias),
        None => y,
    })
}

/// Puts the keys and values of earlier runs before the operands'.
fn after<'m>(
    ctx: &mut Ctx<'m>,
    node: &NodeView<'m>,
    operands: &mut Operands,
    past_k: ValueId,
    past_v: ValueId,
) {
    operands.past = Some(ctx.size(node, past_k, 2));
    operands.k = ctx.concat(node, &[past_k, operands.k], 2);
    operands.v = ctx.concat(node, &[past_v, operands.v], 2);
}

/// q, k, v, bias?, mask?, added?, past k?, past v?
pub fn multi_head<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>) -> Result<(), OpError> {
    node.no_output(3, "products")?;
    let heads = head_count(node)?;
    let mut q = ctx.operand(node, 0)?;
    let (Some(mut k), Some(mut v)) = (ctx.optional(node, 1)?, ctx.optional(node, 2)?) else {
        return unsupported("q, k and v packed in one operand are not implemented");
    };
    let ranks = [ctx.rank(q)?, ctx.rank(k)?, ctx.rank(v)?];
    if let Some(bias) = ctx.optional(node, 3)? {
        if ranks != [3, 3, 3] {
            return unsupported(format!("a bias on q, k and v of ranks {ranks:?} is not implemented"));
        }
        let sizes = [ctx.known_size(q, 2)?, ctx.known_size(k, 2)?, ctx.known_size(v, 2)?];
        let parts = ctx.split(node, bias, 0, &sizes);
        q = ctx.binary(node, BinaryOp::Add, q, parts[0]);
        k = ctx.binary(node, BinaryOp::Add, k, parts[1]);
        v = ctx.binary(node, BinaryOp::Add, v, parts[2]);
    }
    let mut operands = match ranks {
        [3, 3, 3] => {
            let (k, v) = (by_heads(ctx, node, k, heads)?, by_heads(ctx, node, v, heads)?);
            Operands { q: by_heads(ctx, node, q, heads)?, k, v, heads, past: None }
        }
        // Keys and values of another sequence, by heads already.
        [3, 4, 4] => Operands { q: by_heads(ctx, node, q, heads)?, k, v, heads, past: None },
        _ => return unsupported(format!("q, k and v of ranks {ranks:?} are not implemented")),
    };
    match (ctx.optional(node, 6)?, ctx.optional(node, 7)?) {
        (Some(_), Some(_)) if ranks[1] == 4 => {
            return malformed("past keys beside keys that are by heads already");
        }
        (Some(past_k), Some(past_v)) => after(ctx, node, &mut operands, past_k, past_v),
        (None, None) => {}
        _ => return malformed("past_key and past_value come together"),
    }
    ctx.set(node, 1, operands.k)?;
    ctx.set(node, 2, operands.v)?;
    finish(ctx, node, &operands, (4, 5))
}

/// The attention, with the mask and what is added at these operands, as the node's result 0.
fn finish<'m>(
    ctx: &mut Ctx<'m>,
    node: &NodeView<'m>,
    operands: &Operands,
    (mask, added): (usize, usize),
) -> Result<(), OpError> {
    let &Operands { q, k, v, heads, past } = operands;
    let mut sum = ctx.optional(node, added)?;
    if let Some(masked) = keys_that_count(ctx, node, mask, k)? {
        sum = Some(match sum {
            Some(sum) => ctx.binary(node, BinaryOp::Add, sum, masked),
            None => masked,
        });
    }
    let allowed = match node.flag("unidirectional", false)? {
        true => {
            let (rows, columns) = (ctx.size(node, q, 2), ctx.size(node, k, 2));
            Some(causal(ctx, node, rows, columns, past))
        }
        false => None,
    };
    let mask = Mask { allowed, added: sum };
    let scale = scale_of(node, ctx.known_size(q, 3)?)?;
    let all = Attend { q, k, v, heads, kv_heads: heads, scale, softcap: 0.0, softmax_type: None, mask };
    let y = attend(ctx, node, &all, None)?.y;
    let y = joined_heads(ctx, node, y)?;
    ctx.set(node, 0, y)
}

/// Operand `i` as something to add to the scores: 0, or `mask_filter_value` at keys that do not count. That is a number,
/// not -inf: of a row whose keys are all masked, the scores still tell.
fn keys_that_count<'m>(
    ctx: &mut Ctx<'m>,
    node: &NodeView<'m>,
    i: usize,
    k: ValueId,
) -> Result<Option<ValueId>, OpError> {
    let Some(mask) = ctx.optional(node, i)? else { return Ok(None) };
    let dtype = ctx.dtype(mask)?;
    if dtype.is_float() {
        return malformed(format!("a mask of type {dtype}; integers are expected"));
    }
    let counts = match ctx.rank(mask)? {
        // How many keys of each of the batch count. Other vectors (starts and ends) do not fit the batch.
        1 => {
            let batch = ctx.emit(node, Op::Shape { start: 0, end: Some(1) }, &[Some(k)]);
            let lengths = ctx.emit(node, Op::Reshape { allow_zero: false }, &[Some(mask), Some(batch)]);
            let lengths = ctx.cast(node, lengths, DType::I64);
            let lengths = ctx.unsqueeze(node, lengths, &[1, 2, 3]);
            let (zero, columns) = (ctx.scalar(DType::I64, 0.0), ctx.size(node, k, 2));
            let column = ctx.count(node, zero, columns);
            ctx.binary(node, BinaryOp::Less, column, lengths)
        }
        rank @ (2 | 3) => {
            let axes: &[i32] = if rank == 2 { &[1, 2] } else { &[1] };
            let mask = ctx.unsqueeze(node, mask, axes);
            let zero = ctx.scalar(dtype, 0.0);
            ctx.binary(node, BinaryOp::Greater, mask, zero)
        }
        4 => return unsupported("a mask of 4 dimensions is not implemented"),
        rank => return malformed(format!("a mask of rank {rank}")),
    };
    let Some(dtype) = ctx.fact(k).dtype else { return unknown("the element type of k") };
    let filter = node.float("mask_filter_value", -10000.0)?;
    let (zero, filter) = (ctx.scalar(dtype, 0.0), ctx.scalar(dtype, f64::from(filter)));
    Ok(Some(ctx.emit(node, Op::Where, &[Some(counts), Some(zero), Some(filter)])))
}
