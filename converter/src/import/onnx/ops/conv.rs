//! Convolutions.

use super::conv_weight::{channels, computed_rows, groups, padded_rows, rows};
use super::volume;
use super::window::{side, window};
use super::{NOW, Operator, Types, op};
use crate::import::onnx::ctx::Ctx;
use crate::import::onnx::node::{NodeView, OpError, malformed, unknown, unsupported};
use crate::import::onnx::ranks::Dims;
use crate::import::onnx::tensors::{arranged, floats};
use crate::model::Array;
use edge_runtime::graph::{Act, BinaryOp, Op, Pads, ValueId, Window};

const WINDOW: &[&str] = &["auto_pad", "dilations", "group", "kernel_shape", "pads", "strides"];

/// The table.
pub const OPERATORS: &[Operator] = &[
    op("Conv", (1, NOW), (2, 3), Types::Float, WINDOW, conv),
    op(
        "ConvTranspose",
        (1, NOW),
        (2, 3),
        Types::Float,
        &[
            "auto_pad",
            "dilations",
            "group",
            "kernel_shape",
            "output_padding",
            "output_shape",
            "pads",
            "strides",
        ],
        conv_transpose,
    ),
];

/// The weight's shape, whether it is stored or computed.
pub(super) fn weight_shape<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>) -> Result<Vec<usize>, OpError> {
    let dims: Dims = match ctx.stored_dims(node, 1)? {
        Some(dims) => dims.into_iter().map(Some).collect(),
        None => {
            let w = ctx.operand(node, 1)?;
            match &ctx.fact(w).dims {
                Some(dims) => dims.clone(),
                None => return unknown(format!("the shape of weight `{}`", node.input(1).unwrap_or(""))),
            }
        }
    };
    match dims.iter().copied().collect::<Option<Vec<usize>>>() {
        Some(dims) if dims.len() >= 3 && dims.iter().all(|d| *d > 0) => Ok(dims),
        Some(dims) => malformed(format!("a weight of shape {dims:?}")),
        None => unknown(format!("the shape of weight `{}`", node.input(1).unwrap_or(""))),
    }
}

fn same_rank(rank: usize, weight: &[usize]) -> Result<(), OpError> {
    if weight.len() == rank {
        return Ok(());
    }
    malformed(format!("a weight of rank {} for an operand of rank {rank}", weight.len()))
}

/// The bias, as `f32` when it is stored.
pub fn bias<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>, channels: usize) -> Result<Option<ValueId>, OpError> {
    bias_at(ctx, node, 2, channels)
}

/// [`bias`], which is operand `i`.
pub fn bias_at<'m>(
    ctx: &mut Ctx<'m>,
    node: &NodeView<'m>,
    i: usize,
    channels: usize,
) -> Result<Option<ValueId>, OpError> {
    if let Some(dims) = ctx.stored_dims(node, i)?
        && dims != [channels]
    {
        return malformed(format!("a bias of shape {dims:?} for {channels} channels"));
    }
    let stored = ctx.relaid(node, i, "f32".into(), |array| match floats(array) {
        Some(values) => Ok(Array::f32(&array.dims, &values)),
        None => malformed("a bias that holds no floats"),
    })?;
    match stored {
        Some(id) => Ok(Some(id)),
        None => ctx.optional(node, i),
    }
}

fn conv<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>) -> Result<(), OpError> {
    let y = convolved(ctx, node)?;
    ctx.set(node, 0, y)
}

/// What a convolution of the node's first three operands gives.
pub(super) fn convolved<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>) -> Result<ValueId, OpError> {
    let dims = weight_shape(ctx, node)?;
    if dims.len() == 5 {
        return volume::conv(ctx, node, &dims);
    }
    let (x, rank) = ctx.spatial(node, Some(dims.len()))?;
    same_rank(rank, &dims)?;
    let out = dims[0];
    let groups = groups(node, &dims)?;
    channels(ctx, x, &dims, groups)?;
    let window = window(node, rank, Some(&dims[2..]))?;
    let padded = padded_rows(&dims, groups);
    let w = weight_rows(ctx, node, rank, groups, (out, padded))?;
    let bias = bias(ctx, node, out)?;
    let x = ctx.channels_last(node, x, rank);
    let op = Op::Conv { window, groups, out_channels: out, act: Act::None, act_after_residual: false };
    let y = ctx.emit(node, op, &[Some(x), Some(w), None, bias]);
    Ok(ctx.channels_first(node, y, rank))
}

/// The weight as rows of `[kernel * in / groups]`: `out` of them, or `padded` where groups need more.
pub(super) fn weight_rows<'m>(
    ctx: &mut Ctx<'m>,
    node: &NodeView<'m>,
    rank: usize,
    groups: usize,
    (out, padded): (usize, usize),
) -> Result<ValueId, OpError> {
    if let Some(w) = ctx.relaid(node, 1, format!("conv {groups}"), |w| rows(w, groups, padded))? {
        return Ok(w);
    }
    let dims = weight_shape(ctx, node)?;
    if dims.len() != rank || dims[0] != out {
        return malformed(format!("a weight {dims:?} for {out} channels of rank {rank}"));
    }
    let w = ctx.operand(node, 1)?;
    Ok(computed_rows(ctx, node, w, groups, padded, &dims))
}

fn conv_transpose<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>) -> Result<(), OpError> {
    let dims = weight_shape(ctx, node)?;
    if dims.len() == 5 {
        let y = volume::conv_transpose(ctx, node, &dims)?;
        return ctx.set(node, 0, y);
    }
    let (x, rank) = ctx.spatial(node, Some(dims.len()))?;
    same_rank(rank, &dims)?;
    let channels = dims[0];
    if let Some(found) = ctx.fact(x).size(1).filter(|c| *c != channels) {
        return malformed(format!("{found} channels; the weight takes {channels}"));
    }
    let groups = match node.int("group", 1)? {
        g if g >= 1 && channels.is_multiple_of(g as usize) => g as usize,
        g => return malformed(format!("{channels} channels in {g} groups")),
    };
    if groups > MAX_SPLIT {
        return unsupported(format!("attribute group={groups} is not implemented (at most {MAX_SPLIT})"));
    }
    let mut window = window(node, rank, Some(&dims[2..]))?;
    let sizes: Vec<Option<usize>> = (2..rank).map(|axis| ctx.fact(x).size(axis)).collect();
    let output_pads = explicit(node, &mut window, &sizes)?;
    let op = Op::ConvTranspose { window, output_pads, out_channels: dims[1], act: Act::None };
    let x = ctx.channels_last(node, x, rank);
    let y = if groups == 1 {
        let w = transposed_weight(ctx, node, rank)?;
        let bias = bias(ctx, node, dims[1])?;
        ctx.emit(node, op, &[Some(x), Some(w), bias])
    } else {
        let y = split_transpose(ctx, node, x, &op, (groups, rank))?;
        match bias(ctx, node, dims[1] * groups)? {
            Some(bias) => ctx.emit(node, Op::Binary(BinaryOp::Add), &[Some(y), Some(bias)]),
            None => y,
        }
    };
    let y = ctx.channels_first(node, y, rank);
    ctx.set(node, 0, y)
}

/// Most groups of a transposed convolution: each becomes a node.
const MAX_SPLIT: usize = 64;

/// The groups of a transposed convolution one by one; `x` is channels-last.
fn split_transpose<'m>(
    ctx: &mut Ctx<'m>,
    node: &NodeView<'m>,
    x: ValueId,
    op: &Op,
    (groups, rank): (usize, usize),
) -> Result<ValueId, OpError> {
    let axis = rank as i32 - 1;
    let parts = ctx.emit_many(node, Op::Split { axis }, &[Some(x), None], groups);
    let mut results = Vec::with_capacity(groups);
    for (i, part) in parts.into_iter().enumerate() {
        let w = ctx.relaid(node, 1, format!("conv_transpose {i} of {groups}"), |w| {
            let size = w.data.len() / groups;
            let mut dims = w.dims.clone();
            dims[0] /= groups;
            transposed_rows(&Array { dtype: w.dtype, dims, data: w.data.slice(i * size..(i + 1) * size) })
        })?;
        let w = match w {
            Some(w) => w,
            None => {
                let w = ctx.operand(node, 1)?;
                let Some(channels) = ctx.fact(w).size(0) else { return unknown("the weight's shape") };
                let each = (channels / groups) as i64;
                let w = ctx.formula(node).slice(w, 0, i as i64 * each, (i as i64 + 1) * each);
                computed_transposed(ctx, node, w, rank)
            }
        };
        results.push(Some(ctx.emit(node, op.clone(), &[Some(part), Some(w), None])));
    }
    Ok(ctx.emit(node, Op::Concat { axis }, &results))
}

/// The weight of an ungrouped transposed convolution as `[kernel * out, in]`.
fn transposed_weight<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>, rank: usize) -> Result<ValueId, OpError> {
    if let Some(w) = ctx.relaid(node, 1, "conv_transpose".into(), transposed_rows)? {
        return Ok(w);
    }
    let w = ctx.operand(node, 1)?;
    Ok(computed_transposed(ctx, node, w, rank))
}

/// A computed `[in, out, ..kernel]` as `[kernel * out, in]`.
pub fn computed_transposed<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>, w: ValueId, rank: usize) -> ValueId {
    let perm: Vec<usize> = (2..rank).chain([1, 0]).collect();
    let w = ctx.transpose(node, w, &perm);
    ctx.emit(node, Op::Flatten { axis: (rank - 1) as i32 }, &[Some(w)])
}

/// Turns `auto_pad` and `output_shape` into explicit pads, and gives the output's pads.
///
/// ONNX: `out = stride * (in - 1) + output_padding + reach - pads`, with `reach = (kernel - 1) * dilation + 1`.
fn explicit(node: &NodeView, window: &mut Window, sizes: &[Option<usize>]) -> Result<[usize; 2], OpError> {
    let spatial = sizes.len();
    let list = |name: &str| match node.sizes(name, 0)? {
        Some(list) if list.len() < spatial => malformed(format!("{name} {list:?}")),
        // Some exporters give the whole shape, batch and channels first.
        Some(list) => Ok(Some(list[list.len() - spatial..].to_vec())),
        None => Ok(None),
    };
    let added = list("output_padding")?.unwrap_or_else(|| vec![0; spatial]);
    let mut output_pads = side(&added, 0);
    let target = list("output_shape")?;
    if target.is_none() && matches!(window.pads, Pads::Explicit(_)) {
        return Ok(output_pads);
    }
    let mut pads = [0; 4];
    for i in 0..spatial {
        let at = i + 2 - spatial;
        let stride = window.stride[at];
        let reach = (window.kernel[at] - 1) * window.dilation[at] + 1;
        // What the formula gives without pads, less what is wanted.
        let excess = match (&target, sizes[i]) {
            // SAME: out = in * stride, whatever `in` is.
            (None, _) => (output_pads[at] + reach) as i64 - stride as i64,
            (Some(target), Some(size)) => {
                let full =
                    size.saturating_sub(1).saturating_mul(stride).saturating_add(output_pads[at] + reach);
                i64::try_from(full).unwrap_or(i64::MAX) - target[i] as i64
            }
            (Some(_), None) => return unknown("the input's size (for output_shape)"),
        };
        let pad = excess.max(0) as usize;
        output_pads[at] += (-excess).max(0) as usize;
        let small = pad / 2;
        let upper = matches!(window.pads, Pads::SameUpper);
        (pads[at], pads[at + 2]) = if upper { (small, pad - small) } else { (pad - small, small) };
    }
    window.pads = Pads::Explicit(pads);
    Ok(output_pads)
}

/// `[in, out, ..kernel]` to `[kernel * out, in]`.
pub fn transposed_rows(w: &Array) -> Result<Array, OpError> {
    let (channels, out) = (w.dims[0], w.dims[1]);
    let taps: usize = w.dims[2..].iter().product();
    let place = |i: usize| {
        let (tap, o, c) = (i / (out * channels), i / channels % out, i % channels);
        Some((c * out + o) * taps + tap)
    };
    match arranged(w, &[taps * out, channels], place) {
        Some(rows) => Ok(rows),
        None => malformed("a weight that holds no floats"),
    }
}
