//! What takes attention's place in models with a state of fixed size: linear attention and causal convolutions.

use super::heads;
use crate::import::onnx::ctx::Ctx;
use crate::import::onnx::node::{NodeView, OpError, malformed, unknown, unsupported};
use crate::import::onnx::ops::conv;
use edge_runtime::graph::{Act, BinaryOp, DType, Op, PadMode, Pads, UnaryOp, ValueId, Window};

/// Most steps of a linear attention: each becomes nodes of its own.
const MAX_STEPS: usize = 128;

/// A depthwise convolution over what came before; its state is the end of what it read.
pub fn causal_conv<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>) -> Result<(), OpError> {
    let x = ctx.operand(node, 0)?;
    let dims = conv::weight_shape(ctx, node)?;
    let &[channels, 1, taps] = dims.as_slice() else {
        return malformed(format!("a weight of shape {dims:?}; [channels, 1, k] is expected"));
    };
    if ctx.rank(x)? != 3 || ctx.fact(x).size(1).is_some_and(|c| c != channels) {
        return malformed(format!("an operand {} for a weight of {channels} channels", ctx.fact(x)));
    }
    let kept = taps - 1;
    let (read, before) = match ctx.optional(node, 3)? {
        Some(past) => (ctx.concat(node, &[past, x], 2), 0),
        None => (x, kept),
    };
    let window = Window {
        kernel: [1, taps],
        stride: [1, 1],
        dilation: [1, 1],
        pads: Pads::Explicit([0, before, 0, 0]),
    };
    let op = Op::Conv {
        window,
        groups: channels,
        out_channels: channels,
        act: Act::None,
        act_after_residual: false,
    };
    let w = conv::weight_rows(ctx, node, 3, channels, (channels, channels))?;
    let bias = conv::bias(ctx, node, channels)?;
    let last = ctx.channels_last(node, read, 3);
    let y = ctx.emit(node, op, &[Some(last), Some(w), None, bias]);
    let mut y = ctx.channels_first(node, y, 3);
    match node.string("activation", "none")? {
        "none" => {}
        "silu" | "swish" => y = ctx.unary(node, UnaryOp::Act(Act::Silu), y),
        other => return malformed(format!("activation {other:?}")),
    }
    ctx.set(node, 0, y)?;
    if node.output(1).is_none() {
        return Ok(());
    }
    // Zeros in front, so that there is enough of it even where the operand is shorter than the state.
    let padded = if before > 0 {
        let pads = ctx.vector(node, &[before as i64, 0]);
        ctx.emit(node, Op::Pad { mode: PadMode::Constant, axes: vec![2] }, &[Some(read), Some(pads)])
    } else {
        read
    };
    let start = if kept == 0 { i64::from(i32::MAX) } else { -(kept as i64) };
    let state = ctx.slice(node, padded, 2, start, i64::from(i32::MAX));
    ctx.set(node, 1, state)
}

/// What a step of linear attention reads, one list an operand, one value a step.
struct Steps {
    /// `[batch, kv_heads, heads / kv_heads, depth]`.
    q: Vec<ValueId>,
    /// `[batch, kv_heads, 1, depth]`.
    k: Vec<ValueId>,
    /// `[batch, kv_heads, 1, depth of v]`.
    v: Vec<ValueId>,
    /// What is left of the state: `[batch, kv_heads, depth or 1, 1]`.
    left: Option<Vec<ValueId>>,
    /// How much of an update is made: `[batch, kv_heads or 1, 1, 1]`.
    rate: Option<Vec<ValueId>>,
}

/// `S = left * S + k (v - Sᵀ k) * rate`, `y = scale * q S` for each position, with the parts that `update_rule` names; in f32.
pub fn linear_attention<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>) -> Result<(), OpError> {
    let (gated, delta) = match node.string("update_rule", "gated_delta")? {
        "linear" => (false, false),
        "gated" => (true, false),
        "delta" => (false, true),
        "gated_delta" => (true, true),
        other => return malformed(format!("update_rule {other:?}")),
    };
    if (node.input(4).is_some(), node.input(5).is_some()) != (gated, delta) {
        return malformed("decay goes with the gated rules, beta with the delta rules, and neither without");
    }
    let (Some(heads), Some(kv_heads)) = (heads(node, "q_num_heads")?, heads(node, "kv_num_heads")?) else {
        return malformed("q_num_heads and kv_num_heads are needed");
    };
    if !heads.is_multiple_of(kv_heads) {
        return malformed(format!("{heads} heads of q share {kv_heads} of k and v"));
    }
    let q = ctx.operand(node, 0)?;
    if ctx.rank(q)? != 3 {
        return malformed("q is of 3 dimensions");
    }
    let Some(count) = ctx.fact(q).size(1) else { return unknown("the number of positions") };
    if count == 0 || count > MAX_STEPS {
        return unsupported(format!("{count} positions are not implemented; 1 to {MAX_STEPS} are"));
    }
    let width = ctx.known_size(q, 2)?;
    if !width.is_multiple_of(heads) {
        return malformed(format!("{width} columns of q in {heads} heads"));
    }
    let depth = width / heads;
    let dtype = ctx.dtype(q)?;
    let part = |ctx: &mut Ctx<'m>, i: usize, tail: &[i64]| steps(ctx, node, i, count, tail);
    let (each, kv) = ((heads / kv_heads) as i64, kv_heads as i64);
    let left = match gated {
        true => {
            let g = ctx.operand(node, 4)?;
            let columns = ctx.known_size(g, 2)?;
            let per_head = match columns / kv_heads {
                1 => 1,
                n if n == depth => depth as i64,
                _ => {
                    return malformed(format!(
                        "a decay of {columns} columns for {kv_heads} heads of {depth}"
                    ));
                }
            };
            Some(part(ctx, 4, &[kv, per_head, 1])?)
        }
        false => None,
    };
    let rate = match delta {
        true => {
            let beta = ctx.operand(node, 5)?;
            let columns = ctx.known_size(beta, 2)?;
            if columns != kv_heads && columns != 1 {
                return malformed(format!("a beta of {columns} columns for {kv_heads} heads"));
            }
            Some(part(ctx, 5, &[columns as i64, 1, 1])?)
        }
        false => None,
    };
    let operands = Steps {
        q: part(ctx, 0, &[kv, each, depth as i64])?,
        k: part(ctx, 1, &[kv, 1, depth as i64])?,
        v: part(ctx, 2, &[kv, 1, -1])?,
        left,
        rate,
    };
    let scale = match node.float("scale", 0.0)? {
        0.0 => (1.0 / (depth as f64).sqrt()) as f32,
        scale => scale,
    };
    let past = ctx.optional(node, 3)?;
    let kept_dtype = match past {
        Some(past) => ctx.dtype(past)?,
        None => dtype,
    };
    let mut state = past.map(|past| ctx.cast(node, past, DType::F32));
    let mut rows = Vec::with_capacity(count);
    for t in 0..count {
        let now = step(ctx, node, &operands, t, state);
        let read = Op::MatMul { trans_a: false, trans_b: false, alpha: scale };
        let y = ctx.emit(node, read, &[Some(operands.q[t]), Some(now)]);
        rows.push(ctx.unsqueeze(node, y, &[1]));
        state = Some(now);
    }
    let y = if rows.len() == 1 { rows[0] } else { ctx.concat(node, &rows, 1) };
    let y = ctx.reshape(node, y, &[0, 0, -1]);
    let y = ctx.cast(node, y, dtype);
    ctx.set(node, 0, y)?;
    match state {
        Some(state) => {
            let state = ctx.cast(node, state, kept_dtype);
            ctx.set(node, 1, state)
        }
        None => Ok(()),
    }
}

/// Operand `i`, `[batch, positions, columns]`, as one value `[batch, ..tail]` a position, in f32; a decay as what it leaves.
fn steps<'m>(
    ctx: &mut Ctx<'m>,
    node: &NodeView<'m>,
    i: usize,
    count: usize,
    tail: &[i64],
) -> Result<Vec<ValueId>, OpError> {
    let x = ctx.operand(node, i)?;
    if ctx.rank(x)? != 3 || ctx.fact(x).size(1).is_some_and(|n| n != count) {
        return malformed(format!("operand {i} is {}; [batch, {count}, columns] is expected", ctx.fact(x)));
    }
    let mut x = ctx.cast(node, x, DType::F32);
    // All of it at once, before it is cut.
    if i == 4 {
        x = ctx.unary(node, UnaryOp::Exp, x);
    }
    let x = ctx.reshape(node, x, &[&[0, 0], tail].concat());
    let parts = ctx.split(node, x, 1, &vec![1; count]);
    Ok(parts.into_iter().map(|x| ctx.emit(node, Op::Squeeze { axes: vec![1] }, &[Some(x)])).collect())
}

/// The state after position `t`; without one before, what it would take away and leave is nothing.
fn step<'m>(
    ctx: &mut Ctx<'m>,
    node: &NodeView<'m>,
    operands: &Steps,
    t: usize,
    before: Option<ValueId>,
) -> ValueId {
    let before = match (before, &operands.left) {
        (Some(state), Some(left)) => Some(ctx.binary(node, BinaryOp::Mul, state, left[t])),
        (before, _) => before,
    };
    let (k, mut v) = (operands.k[t], operands.v[t]);
    if let Some(rate) = &operands.rate {
        if let Some(state) = before {
            let product = Op::MatMul { trans_a: false, trans_b: false, alpha: 1.0 };
            let known = ctx.emit(node, product, &[Some(k), Some(state)]);
            v = ctx.binary(node, BinaryOp::Sub, v, known);
        }
        v = ctx.binary(node, BinaryOp::Mul, v, rate[t]);
    }
    let outer = Op::MatMul { trans_a: true, trans_b: false, alpha: 1.0 };
    let written = ctx.emit(node, outer, &[Some(k), Some(v)]);
    match before {
        Some(state) => ctx.binary(node, BinaryOp::Add, state, written),
        None => written,
    }
}

/// Elements of `update` written into a cache from `write_indices` on, along one axis.
pub fn tensor_scatter<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>) -> Result<(), OpError> {
    let (cache, update) = (ctx.operand(node, 0)?, ctx.operand(node, 1)?);
    let rank = ctx.rank(cache)?;
    let axis = ctx.axis(cache, node.int("axis", -2)?)?;
    if axis == 0 {
        return malformed("axis 0 is the batch");
    }
    let circular = match node.string("mode", "linear")? {
        "linear" => false,
        "circular" => true,
        other => return malformed(format!("mode {other:?}")),
    };
    let (zero, length) = (ctx.scalar(DType::I64, 0.0), ctx.size(node, update, axis));
    let mut at = ctx.count(node, zero, length);
    let behind: Vec<i32> = (1..rank as i32 - axis).collect();
    if !behind.is_empty() {
        at = ctx.unsqueeze(node, at, &behind);
    }
    if node.input(2).is_some() {
        let first = ctx.indices(node, 2)?;
        let axes: Vec<i32> = (1..rank as i32).collect();
        let first = ctx.unsqueeze(node, first, &axes);
        at = ctx.binary(node, BinaryOp::Add, at, first);
    }
    if circular {
        let size = ctx.size(node, cache, axis);
        at = ctx.binary(node, BinaryOp::Mod, at, size);
    }
    let shape = ctx.emit(node, Op::Shape { start: 0, end: None }, &[Some(update)]);
    let at = ctx.emit(node, Op::Expand, &[Some(at), Some(shape)]);
    let op = Op::ScatterElements { axis, reduction: edge_runtime::graph::ScatterReduction::None };
    let y = ctx.emit(node, op, &[Some(cache), Some(at), Some(update)]);
    ctx.set(node, 0, y)
}
