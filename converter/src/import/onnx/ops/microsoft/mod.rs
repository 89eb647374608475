//! Operators of the domain `com.microsoft`: what onnxruntime's optimizer and exporters built on it fuse.
//!
//! Each becomes the operations that it was fused from. What they compute is that of onnxruntime's CPU provider, which
//! `tests/conformance/fused.py` compares with.

mod attention;
mod bits;
mod blocks;
mod cached;
mod integer;
mod norm;
mod product;
mod qlinear;

use super::attention::rotary::{self, lines};
use super::integer as standard;
use super::qlinear as kept;
use super::{MANY, NOW, Operator, Types, activation, op, quantized, rnn};
use crate::import::onnx::ctx::Ctx;
use crate::import::onnx::node::{NodeView, OpError, malformed, unsupported};
use edge_runtime::graph::{Act, BinaryOp, DType, UnaryOp, ValueId};

const CONV: &[&str] =
    &["activation", "activation_params", "auto_pad", "dilations", "group", "kernel_shape", "pads", "strides"];
const GEMM: &[&str] =
    &["activation", "activation_alpha", "activation_beta", "alpha", "beta", "transA", "transB"];
const MATMUL: &[&str] = &["alpha", "transA", "transB", "transBatchA", "transBatchB"];
const ROTARY: &[&str] = &["interleaved", "is_packed_batching", "num_heads", "rotary_embedding_dim", "scale"];
const ATTENTION: &[&str] = &[
    "do_rotary",
    "mask_filter_value",
    "num_heads",
    "past_present_share_buffer",
    "qkv_hidden_sizes",
    "scale",
    "unidirectional",
];
const HEADS: &[&str] = &["mask_filter_value", "num_heads", "scale", "unidirectional"];
const GROUPED: &[&str] = &[
    "causal",
    "do_rotary",
    "k_quant_type",
    "kv_num_heads",
    "local_window_size",
    "num_heads",
    "qk_norm_epsilon",
    "qk_output",
    "rotary_interleaved",
    "scale",
    "sliding_window_cache",
    "smooth_softmax",
    "softcap",
    "v_quant_type",
];

const N_BITS: &[&str] = &["K", "N", "accuracy_level", "bits", "block_size", "weight_prepacked"];
const BLOCKS: &[&str] = &["bits", "block_size", "gather_axis", "quantize_axis"];
const Q_CONV: &[&str] =
    &["auto_pad", "channels_last", "dilations", "group", "kernel_shape", "pads", "strides"];
const Q_AVERAGE: &[&str] =
    &["auto_pad", "ceil_mode", "channels_last", "count_include_pad", "kernel_shape", "pads", "strides"];
const Q_MAX: &[&str] = &["auto_pad", "ceil_mode", "dilations", "kernel_shape", "pads", "strides"];
const Q_ATTENTION: &[&str] =
    &["do_rotary", "mask_filter_value", "num_heads", "past_present_share_buffer", "scale", "unidirectional"];

/// Where scales, zero points and weights are stored, `kept`, in which they stay integers; else the arithmetic itself.
fn kept_or<'m>(
    ctx: &mut Ctx<'m>,
    node: &NodeView<'m>,
    kept: impl FnOnce(&mut Ctx<'m>, &NodeView<'m>) -> Result<(), OpError>,
    general: impl FnOnce(&mut Ctx<'m>, &NodeView<'m>) -> Result<(), OpError>,
) -> Result<(), OpError> {
    match kept(ctx, node) {
        Err(OpError::Unsupported { .. }) => general(ctx, node),
        other => other,
    }
}

const Q_GEMM: &[&str] = &["alpha", "transA", "transB"];

/// The table. The domain has one version.
pub const OPERATORS: &[Operator] = &[
    op("FusedMatMul", (1, NOW), (2, 2), Types::Float, MATMUL, product::fused_matmul),
    op("FusedGemm", (1, NOW), (2, 3), Types::Float, GEMM, product::fused_gemm),
    op("FusedConv", (1, NOW), (2, 4), Types::Float, CONV, product::fused_conv),
    op("SkipLayerNormalization", (1, NOW), (3, 5), Types::Float, &["epsilon"], norm::skip_layer),
    op("SkipSimplifiedLayerNormalization", (1, NOW), (3, 4), Types::Float, &["epsilon"], norm::skip_rms),
    op(
        "EmbedLayerNormalization",
        (1, NOW),
        (7, 9),
        Types::Integer,
        &["epsilon", "mask_index_type"],
        norm::embed_layer,
    ),
    op("Gelu", (1, NOW), (1, 1), Types::Float, &[], |c, n| biased(c, n, Act::Gelu)),
    op("BiasGelu", (1, NOW), (2, 2), Types::Float, &[], |c, n| biased(c, n, Act::Gelu)),
    op("FastGelu", (1, NOW), (1, 2), Types::Float, &[], |c, n| biased(c, n, Act::GeluTanh)),
    op("QuickGelu", (1, NOW), (1, 1), Types::Float, &["alpha"], quick_gelu),
    op("RotaryEmbedding", (1, NOW), (4, 4), Types::Float, ROTARY, rotary_embedding),
    op("Attention", (1, NOW), (2, 6), Types::Float, ATTENTION, attention::attention),
    op("MultiHeadAttention", (1, NOW), (1, 8), Types::Float, HEADS, attention::multi_head),
    op("QuantizeLinear", (1, NOW), (2, 3), Types::Number, &["axis"], quantized::quantize),
    op("DequantizeLinear", (1, NOW), (2, 3), Types::Integer, &["axis"], quantized::dequantize),
    op("MatMulNBits", (1, NOW), (3, 6), Types::Float, N_BITS, |c, n| {
        kept_or(c, n, bits::matmul_n_bits, blocks::matmul)
    }),
    op("GatherBlockQuantized", (1, NOW), (3, 4), Types::Integer, BLOCKS, blocks::gather),
    op("MatMulIntegerToFloat", (1, NOW), (4, 7), Types::Integer, &[], integer::matmul_to_float),
    op("DynamicQuantizeMatMul", (1, NOW), (3, 5), Types::Float, &[], integer::dynamic_matmul),
    op("DynamicQuantizeLSTM", (1, NOW), (11, 12), Types::Float, rnn::LSTM, rnn::dynamic_lstm),
    op("QGemm", (1, NOW), (6, 9), Types::Integer, Q_GEMM, |c, n| kept_or(c, n, kept::gemm, integer::gemm)),
    op("QAttention", (1, NOW), (5, 9), Types::Integer, Q_ATTENTION, integer::attention),
    op("QLinearConv", (1, NOW), (8, 9), Types::Integer, Q_CONV, standard::qlinear_conv),
    op("QLinearAdd", (1, NOW), (7, 8), Types::Integer, &[], |c, n| {
        kept_or(c, n, |c, n| kept::binary(c, n, BinaryOp::Add), |c, n| qlinear::binary(c, n, BinaryOp::Add))
    }),
    op("QLinearMul", (1, NOW), (7, 8), Types::Integer, &[], |c, n| {
        kept_or(c, n, |c, n| kept::binary(c, n, BinaryOp::Mul), |c, n| qlinear::binary(c, n, BinaryOp::Mul))
    }),
    op("QLinearSigmoid", (1, NOW), (4, 5), Types::Integer, &[], |c, n| {
        kept_or(c, n, kept::sigmoid, |c, n| qlinear::unary(c, n, Act::Sigmoid))
    }),
    op("QLinearLeakyRelu", (1, NOW), (4, 5), Types::Integer, &["alpha"], |c, n| {
        let alpha = n.float("alpha", 0.01)?;
        kept_or(c, n, kept::leaky_relu, |c, n| qlinear::unary(c, n, Act::LeakyRelu { alpha }))
    }),
    op("QLinearConcat", (1, NOW), (5, MANY), Types::Float, &["axis"], |c, n| {
        kept_or(c, n, kept::concat, qlinear::concat)
    }),
    op("QLinearWhere", (1, NOW), (9, 9), Types::Any, &[], qlinear::select),
    op("QLinearSoftmax", (1, NOW), (5, 5), Types::Integer, &["axis", "opset"], |c, n| {
        kept_or(c, n, kept::softmax, qlinear::softmax)
    }),
    op("QLinearAveragePool", (1, NOW), (4, 5), Types::Integer, Q_AVERAGE, qlinear::average_pool),
    op("QLinearGlobalAveragePool", (1, NOW), (5, 5), Types::Integer, &["channels_last"], |c, n| {
        kept_or(c, n, kept::global_pool, qlinear::global_average_pool)
    }),
    op("NhwcMaxPool", (1, NOW), (1, 1), Types::Integer, Q_MAX, qlinear::max_pool),
    op("GroupQueryAttention", (1, NOW), (7, 9), Types::Float, GROUPED, cached::group_query),
];

/// A function of operand 0, to which operand 1 is added before where there is one.
fn biased<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>, act: Act) -> Result<(), OpError> {
    let mut x = ctx.operand(node, 0)?;
    if let Some(bias) = ctx.optional(node, 1)? {
        x = ctx.binary(node, BinaryOp::Add, x, bias);
    }
    let y = ctx.unary(node, UnaryOp::Act(act), x);
    ctx.set(node, 0, y)
}

fn quick_gelu<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>) -> Result<(), OpError> {
    let alpha = node.float("alpha", 1.702)?;
    activation::scaled_silu(ctx, node, alpha)
}

/// As ONNX's, with the positions before the tables, and with one position that the operand starts at.
fn rotary_embedding<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>) -> Result<(), OpError> {
    node.only_int("is_packed_batching", 0)?;
    if node.float("scale", 1.0)? != 1.0 {
        return unsupported(format!("attribute scale={} is not implemented", node.float("scale", 1.0)?));
    }
    let (x, cos, sin) = (ctx.operand(node, 0)?, ctx.operand(node, 2)?, ctx.operand(node, 3)?);
    let heads = match node.int("num_heads", 0)? {
        0 if node.int("rotary_embedding_dim", 0)? != 0 => {
            return malformed("rotary_embedding_dim needs num_heads");
        }
        // All of a head is turned, so that the table tells its size.
        0 if ctx.rank(x)? == 3 => {
            let depth = 2 * ctx.known_size(cos, 1)?;
            let width = ctx.known_size(x, 2)?;
            if depth == 0 || !width.is_multiple_of(depth) {
                return malformed(format!("{width} columns in heads of {depth}"));
            }
            Some(width / depth)
        }
        0 => None,
        n @ 1..=0x7fff_ffff => Some(n as usize),
        n => return malformed(format!("num_heads {n}")),
    };
    let given = ctx.indices(node, 1)?;
    let positions = match ctx.rank(given)? {
        2 => given,
        1 => {
            let axis = if ctx.rank(x)? == 3 { 1 } else { 2 };
            // One number, which the shape says again to whoever gives more.
            let first = ctx.reshape(node, given, &[1]);
            let (zero, rows) = (ctx.scalar(DType::I64, 0.0), ctx.size(node, x, axis));
            let counted = ctx.count(node, zero, rows);
            ctx.binary(node, BinaryOp::Add, counted, first)
        }
        rank => return malformed(format!("positions of rank {rank}")),
    };
    let tables: (ValueId, ValueId) = (lines(ctx, node, cos, positions), lines(ctx, node, sin, positions));
    rotary::turned(ctx, node, heads, tables)
}
