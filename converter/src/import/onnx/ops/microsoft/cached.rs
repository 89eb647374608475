//! Attention over a cache of keys and values that a decoder keeps from run to run.

use super::attention::{head_count, scale_of};
use crate::import::onnx::ctx::Ctx;
use crate::import::onnx::node::{NodeView, OpError, malformed, unsupported};
use crate::import::onnx::ops::attention::attend::{Attend, Mask, attend, both, by_heads, joined_heads};
use crate::import::onnx::ops::attention::heads;
use crate::import::onnx::ops::attention::rotary::{Angles, Layout, lines, rotate};
use edge_runtime::graph::{BinaryOp, DType, Op, PadMode, ScatterReduction, ValueId};

/// q, k?, v?, past k?, past v?, last key of each of the batch, keys in all, cosines?, sines?: the new keys and values are written
/// into the cache behind those that each of the batch has, and every row sees the keys up to its own.
///
/// The cache is as long as the past one, or as all keys where they are more, so their number must be known to the planner: from a
/// shape, as exporters compute it, or as an input of the model.
pub fn group_query<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>) -> Result<(), OpError> {
    for (name, only) in [("causal", 1), ("qk_output", 0), ("sliding_window_cache", 0)] {
        node.only_int(name, only)?;
    }
    for name in ["k_quant_type", "v_quant_type"] {
        match node.string(name, "NONE")? {
            "NONE" => {}
            other => return unsupported(format!("attribute {name}={other:?} is not implemented")),
        }
    }
    if node.int("smooth_softmax", -1)? > 0 {
        return unsupported("attribute smooth_softmax=1 is not implemented");
    }
    node.no_output(3, "products")?;
    let heads_of_q = head_count(node)?;
    let Some(kv_heads) = heads(node, "kv_num_heads")? else { return malformed("kv_num_heads is needed") };
    let [mut q, mut k, v] = operands(ctx, node, heads_of_q, kv_heads)?;

    let rows = ctx.size(node, q, 2);
    let first = first_position(ctx, node, rows)?;
    let (zero, own) = (ctx.scalar(DType::I64, 0.0), ctx.unsqueeze(node, first, &[1]));
    let row = ctx.count(node, zero, rows);
    // [batch, rows]
    let positions = ctx.binary(node, BinaryOp::Add, own, row);

    if node.flag("do_rotary", false)? {
        let (cos, sin) = (ctx.operand(node, 7)?, ctx.operand(node, 8)?);
        let width = 2 * ctx.known_size(cos, 1)?;
        let interleaved = node.flag("rotary_interleaved", false)?;
        let (cos, sin) = (lines(ctx, node, cos, positions), lines(ctx, node, sin, positions));
        let angles = Angles { cos, sin, width, interleaved };
        q = rotate(ctx, node, q, Layout::HeadsFirst, &angles)?;
        k = rotate(ctx, node, k, Layout::HeadsFirst, &angles)?;
    }
    let k = cached(ctx, node, 3, k, positions)?;
    let v = cached(ctx, node, 4, v, positions)?;
    ctx.set(node, 1, k)?;
    ctx.set(node, 2, v)?;

    let columns = ctx.size(node, k, 2);
    let column = ctx.count(node, zero, columns);
    let last = ctx.unsqueeze(node, positions, &[1, 3]);
    let mut allowed = Some(ctx.binary(node, BinaryOp::LessOrEqual, column, last));
    match node.int("local_window_size", -1)? {
        -1 => {}
        // As many keys, its own among them.
        window @ 1..=0x7fff_ffff => {
            let window = ctx.scalar(DType::I64, window as f64);
            let before = ctx.binary(node, BinaryOp::Sub, last, window);
            let near = ctx.binary(node, BinaryOp::Greater, column, before);
            allowed = both(ctx, node, allowed, Some(near));
        }
        window => return malformed(format!("local_window_size {window}")),
    }
    let mask = Mask { allowed, added: None };
    let scale = scale_of(node, ctx.known_size(q, 3)?)?;
    let softcap = node.float("softcap", 0.0)?;
    let all = Attend { q, k, v, heads: heads_of_q, kv_heads, scale, softcap, softmax_type: None, mask };
    let y = attend(ctx, node, &all, None)?.y;
    let y = joined_heads(ctx, node, y)?;
    ctx.set(node, 0, y)
}

/// q, k and v by heads, whether they come in three operands or in one.
fn operands<'m>(
    ctx: &mut Ctx<'m>,
    node: &NodeView<'m>,
    heads: usize,
    kv_heads: usize,
) -> Result<[ValueId; 3], OpError> {
    let q = ctx.operand(node, 0)?;
    if ctx.rank(q)? != 3 {
        return malformed("q is of 3 dimensions");
    }
    let [q, k, v] = match (ctx.optional(node, 1)?, ctx.optional(node, 2)?) {
        (Some(k), Some(v)) => [q, k, v],
        (None, None) => {
            let width = ctx.known_size(q, 2)?;
            let all = heads + 2 * kv_heads;
            if !width.is_multiple_of(all) {
                return malformed(format!("{width} columns in {heads} + 2 * {kv_heads} heads"));
            }
            let depth = width / all;
            let parts = ctx.split(node, q, 2, &[heads * depth, kv_heads * depth, kv_heads * depth]);
            [parts[0], parts[1], parts[2]]
        }
        _ => return malformed("k and v come together"),
    };
    Ok([by_heads(ctx, node, q, heads)?, by_heads(ctx, node, k, kv_heads)?, by_heads(ctx, node, v, kv_heads)?])
}

/// The position of each first row, `i64[batch]`: 0 when the rows are all there is, else what puts the last row at the last key.
fn first_position<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>, rows: ValueId) -> Result<ValueId, OpError> {
    let (last, total) = (ctx.indices(node, 5)?, total(ctx, node)?);
    let one = ctx.scalar(DType::I64, 1.0);
    let keys = ctx.binary(node, BinaryOp::Add, last, one);
    let before = ctx.binary(node, BinaryOp::Sub, keys, rows);
    let all = ctx.binary(node, BinaryOp::Equal, rows, total);
    let zero = ctx.scalar(DType::I64, 0.0);
    Ok(ctx.emit(node, Op::Where, &[Some(all), Some(zero), Some(before)]))
}

/// Operand 6, the number of all keys, as an `i64` scalar.
fn total<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>) -> Result<ValueId, OpError> {
    let total = ctx.indices(node, 6)?;
    Ok(ctx.reshape(node, total, &[]))
}

/// `x`, `[batch, heads, rows, depth]`, written at its positions into the cache that is operand `i`, or into one of zeros.
fn cached<'m>(
    ctx: &mut Ctx<'m>,
    node: &NodeView<'m>,
    i: usize,
    x: ValueId,
    positions: ValueId,
) -> Result<ValueId, OpError> {
    let total = total(ctx, node)?;
    let none = ctx.vector(node, &[0]);
    // Without a cache, one that has no keys yet.
    let cache = match ctx.optional(node, i)? {
        Some(past) => past,
        None => ctx.slice(node, x, 2, 0, 0),
    };
    let have = ctx.size(node, cache, 2);
    let want = ctx.binary(node, BinaryOp::Max, have, total);
    let more = ctx.binary(node, BinaryOp::Sub, want, have);
    let more = ctx.unsqueeze(node, more, &[0]);
    let pads = ctx.concat(node, &[none, more], 0);
    let pad = Op::Pad { mode: PadMode::Constant, axes: vec![2] };
    let cache = ctx.emit(node, pad, &[Some(cache), Some(pads)]);
    let at = ctx.unsqueeze(node, positions, &[1, 3]);
    let shape = ctx.emit(node, Op::Shape { start: 0, end: None }, &[Some(x)]);
    let at = ctx.emit(node, Op::Expand, &[Some(at), Some(shape)]);
    let write = Op::ScatterElements { axis: 2, reduction: ScatterReduction::None };
    Ok(ctx.emit(node, write, &[Some(cache), Some(at), Some(x)]))
}
