//! Operators of transformers: attention and what stands around it.

pub mod attend;
mod recurrent;
pub mod rotary;

use super::{NOW, Operator, Types, op};
use crate::import::onnx::ctx::Ctx;
use crate::import::onnx::node::{NodeView, OpError, malformed, unknown, unsupported};
use crate::import::onnx::tensors;
use attend::{Attend, Mask, Stage, attend, both, by_heads, causal, joined_heads};
use edge_runtime::graph::{BinaryOp, DType, Op, PadMode, ValueId};

const ATTENTION: &[&str] = &[
    "is_causal",
    "kv_num_heads",
    "q_num_heads",
    "qk_matmul_output_mode",
    "scale",
    "softcap",
    "softmax_precision",
];

const ROTARY: &[&str] = &["interleaved", "num_heads", "rotary_embedding_dim"];

/// `chunk_size` is a hint for other ways to compute the same.
const LINEAR: &[&str] = &["chunk_size", "kv_num_heads", "q_num_heads", "scale", "update_rule"];

/// The table.
pub const OPERATORS: &[Operator] = &[
    op("Attention", (23, 23), (3, 6), Types::Float, ATTENTION, attention),
    op("Attention", (24, NOW), (3, 7), Types::Float, ATTENTION, attention),
    op("RotaryEmbedding", (23, NOW), (3, 4), Types::Float, ROTARY, rotary::embedding),
    op("CausalConvWithState", (27, NOW), (2, 4), Types::Float, &["activation"], recurrent::causal_conv),
    op("LinearAttention", (27, NOW), (3, 6), Types::Float, LINEAR, recurrent::linear_attention),
    op("TensorScatter", (24, NOW), (2, 3), Types::Any, &["axis", "mode"], recurrent::tensor_scatter),
];

/// An attribute that counts heads.
pub fn heads(node: &NodeView, name: &str) -> Result<Option<usize>, OpError> {
    match node.int_if(name)? {
        None => Ok(None),
        Some(n @ 1..=0x7fff_ffff) => Ok(Some(n as usize)),
        Some(n) => malformed(format!("{name} {n}")),
    }
}

/// The factor on the products: an attribute, else `1 / sqrt(depth)`.
pub fn scale_of(node: &NodeView, depth: Option<usize>) -> Result<f32, OpError> {
    match (node.float_if("scale")?, depth) {
        // ONNX multiplies both operands by its square root.
        (Some(scale), _) if scale >= 0.0 => Ok(scale),
        (Some(scale), _) => unsupported(format!("attribute scale={scale} is not implemented")),
        (None, Some(depth)) => Ok((1.0 / (depth as f64).sqrt()) as f32),
        (None, None) => unknown("the depth of q"),
    }
}

fn attention<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>) -> Result<(), OpError> {
    let (q, k, v) = (ctx.operand(node, 0)?, ctx.operand(node, 1)?, ctx.operand(node, 2)?);
    let rank = ctx.rank(q)?;
    if !(3..=4).contains(&rank) || ctx.rank(k)? != rank || ctx.rank(v)? != rank {
        let ranks = [rank, ctx.rank(k)?, ctx.rank(v)?];
        return malformed(format!("q, k and v of ranks {ranks:?}; all have 3 or all have 4 dimensions"));
    }
    let (told, kv_told) = (heads(node, "q_num_heads")?, heads(node, "kv_num_heads")?);
    let (q, mut k, mut v, heads, kv_heads) = if rank == 3 {
        let (Some(heads), Some(kv_heads)) = (told, kv_told) else {
            return malformed("operands of 3 dimensions need q_num_heads and kv_num_heads");
        };
        let (k, v) = (by_heads(ctx, node, k, kv_heads)?, by_heads(ctx, node, v, kv_heads)?);
        (by_heads(ctx, node, q, heads)?, k, v, heads, kv_heads)
    } else {
        (q, k, v, ctx.known_size(q, 1)?, ctx.known_size(k, 1)?)
    };
    let past = match (ctx.optional(node, 4)?, ctx.optional(node, 5)?) {
        (Some(past_k), Some(past_v)) => {
            k = ctx.concat(node, &[past_k, k], 2);
            v = ctx.concat(node, &[past_v, v], 2);
            Some(ctx.size(node, past_k, 2))
        }
        (None, None) => None,
        _ => return malformed("past_key and past_value come together"),
    };
    let mask = mask(ctx, node, (q, k), past)?;
    let dtype = ctx.dtype(q)?;
    let softmax_type = match node.int_if("softmax_precision")? {
        None => None,
        Some(number) => match i32::try_from(number).ok().and_then(|n| tensors::dtype(n).ok()) {
            // 64-bit floats are computed in 32 bits.
            Some(found @ (DType::F32 | DType::F16 | DType::Bf16)) => Some(found),
            _ if number == 11 && dtype == DType::F64 => None,
            _ => return unsupported(format!("attribute softmax_precision={number} is not implemented")),
        },
    };
    let softcap = node.float("softcap", 0.0)?;
    let stage = match node.int("qk_matmul_output_mode", 0)? {
        0 => Stage::Product,
        1 => Stage::Capped,
        2 => Stage::Masked,
        3 => Stage::Weights,
        mode => return malformed(format!("qk_matmul_output_mode {mode}")),
    };
    let scale = scale_of(node, ctx.fact(q).size(3))?;
    let all = Attend { q, k, v, heads, kv_heads, scale, softcap, softmax_type, mask };
    let attended = attend(ctx, node, &all, node.output(3).map(|_| stage))?;
    let y = if rank == 3 { joined_heads(ctx, node, attended.y)? } else { attended.y };
    ctx.set(node, 0, y)?;
    ctx.set(node, 1, k)?;
    ctx.set(node, 2, v)?;
    match attended.scores {
        Some(scores) => ctx.set(node, 3, scores),
        None => Ok(()),
    }
}

/// What operand 3, `is_causal` and `nonpad_kv_seqlen` say together.
fn mask<'m>(
    ctx: &mut Ctx<'m>,
    node: &NodeView<'m>,
    (q, k): (ValueId, ValueId),
    past: Option<ValueId>,
) -> Result<Mask, OpError> {
    let mut mask = Mask::default();
    if let Some(given) = ctx.optional(node, 3)? {
        let given = if node.opset >= 24 { as_wide(ctx, node, given, k)? } else { given };
        match ctx.dtype(given)? {
            DType::Bool => mask.allowed = Some(given),
            found if found == ctx.dtype(q)? => mask.added = Some(given),
            found => return malformed(format!("a mask of type {found}; booleans, or q's type")),
        }
    }
    let causal_only = node.flag("is_causal", false)?;
    let filled = ctx.optional(node, 6)?;
    if causal_only {
        if filled.is_some() {
            // ONNX's definition aligns the first row with the first key, onnxruntime the last row with the last filled key.
            return unsupported("attribute is_causal=1 together with nonpad_kv_seqlen is not implemented");
        }
        let (rows, columns) = (ctx.size(node, q, 2), ctx.size(node, k, 2));
        let below = causal(ctx, node, rows, columns, past);
        mask.allowed = both(ctx, node, mask.allowed, Some(below));
    }
    if let Some(filled) = filled {
        let (zero, columns) = (ctx.scalar(DType::I64, 0.0), ctx.size(node, k, 2));
        let column = ctx.count(node, zero, columns);
        let filled = ctx.unsqueeze(node, filled, &[1, 2, 3]);
        let inside = ctx.binary(node, BinaryOp::Less, column, filled);
        mask.allowed = both(ctx, node, mask.allowed, Some(inside));
    }
    Ok(mask)
}

/// A mask with fewer columns than there are keys, filled up with what masks the rest (opset 24).
fn as_wide<'m>(
    ctx: &mut Ctx<'m>,
    node: &NodeView<'m>,
    mask: ValueId,
    k: ValueId,
) -> Result<ValueId, OpError> {
    let rank = ctx.rank(mask)?;
    let Some(axis) = rank.checked_sub(1) else { return malformed("a mask without dimensions") };
    let (have, want) = (ctx.fact(mask).size(axis), ctx.fact(k).size(2));
    if have.is_some() && have == want {
        return Ok(mask);
    }
    if have == Some(1) {
        // By broadcasting it holds for all keys, by filling up for the first.
        return unsupported("a mask of one column for several keys is not implemented");
    }
    let axis = axis as i32;
    let (have, want) = (ctx.size(node, mask, axis), ctx.size(node, k, 2));
    let more = ctx.binary(node, BinaryOp::Sub, want, have);
    let more = ctx.unsqueeze(node, more, &[0]);
    let none = ctx.vector(node, &[0]);
    let pads = ctx.concat(node, &[none, more], 0);
    let dtype = ctx.dtype(mask)?;
    let value = ctx.scalar(dtype, if dtype == DType::Bool { 0.0 } else { f64::NEG_INFINITY });
    let op = Op::Pad { mode: PadMode::Constant, axes: vec![axis] };
    Ok(ctx.emit(node, op, &[Some(mask), Some(pads), Some(value)]))
}
