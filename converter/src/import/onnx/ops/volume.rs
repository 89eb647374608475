//! Three spatial dimensions as two, slice by slice, and one across the slices.
//!
//! A volume `[N, C, D, H, W]` is turned to `[N, D, H, W, C]` and seen as `N * D` pictures. A convolution is a sum over the taps
//! along D, each of a two-dimensional one; pooling is done along height and width, then along D.

use super::conv::{self, computed_transposed, transposed_rows};
use super::conv_weight::{self, Weight};
use super::window::{Border, Sliding, sliding};
use crate::import::onnx::ctx::{Ctx, Formula};
use crate::import::onnx::node::{NodeView, OpError, malformed, unknown, unsupported};
use crate::import::onnx::ranks::product;
use crate::import::onnx::tensors::floats;
use crate::model::Array;
use edge_runtime::graph::{Act, Op, PadMode, PoolKind, ValueId};

/// The rank of a volume with batch and channels.
const RANK: usize = 5;
/// Most taps along D: each becomes a convolution.
const MAX_TAPS: usize = 64;

fn few_taps(dims: &[usize]) -> Result<(), OpError> {
    if dims[2] <= MAX_TAPS {
        return Ok(());
    }
    unsupported(format!(
        "a weight {dims:?} is not implemented: at most {MAX_TAPS} taps along the first dimension"
    ))
}

/// The volume `[N, D, H, W, C]` of operand 0.
fn volume<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>) -> Result<ValueId, OpError> {
    let x = ctx.operand(node, 0)?;
    match ctx.fact(x).rank() {
        Some(RANK) | None => Ok(ctx.channels_last(node, x, RANK)),
        Some(rank) => malformed(format!("an operand of rank {rank} where 3 spatial dimensions are expected")),
    }
}

/// `[N, D, H, W, C]` as pictures `[N * D, H, W, C]`.
fn pictures(f: &mut Formula, x: ValueId) -> ValueId {
    let rest = f.shape(x, 2, None);
    let head = f.ctx.vector(f.node, &[-1]);
    let shape = f.concat(0, &[head, rest]);
    f.op(Op::Reshape { allow_zero: false }, &[x, shape])
}

/// `y`, made of the pictures of `x`, as `[N, D, ..]` again.
fn stacked(f: &mut Formula, y: ValueId, x: ValueId) -> ValueId {
    let (head, rest) = (f.shape(x, 0, Some(2)), f.shape(y, 1, None));
    let shape = f.concat(0, &[head, rest]);
    f.op(Op::Reshape { allow_zero: false }, &[y, shape])
}

/// Zeros in front of and behind an axis.
fn padded(f: &mut Formula, x: ValueId, axis: i32, before: usize, after: usize) -> ValueId {
    if before == 0 && after == 0 {
        return x;
    }
    let pads = f.integers(&[2], &[before as i64, after as i64]);
    f.op(Op::Pad { mode: PadMode::Constant, axes: vec![axis] }, &[x, pads])
}

/// What is added along D, of `size` slices.
fn depth_pads(border: &Border, window: &Sliding, size: Option<usize>) -> Result<(usize, usize), OpError> {
    if let Border::Explicit(before, after) = border {
        return Ok((before[0], after[0]));
    }
    let Some(size) = size else { return unknown("the operand's size (for auto_pad)") };
    let stride = window.stride[0];
    let reach = (window.kernel[0] - 1) * window.dilation[0] + 1;
    let all = ((size.div_ceil(stride).max(1) - 1) * stride + reach).saturating_sub(size);
    let less = all / 2;
    Ok(if matches!(border, Border::SameUpper) { (less, all - less) } else { (all - less, less) })
}

/// Pooling along height and width, then along D. Both greatest elements and means, with or without what is padded, are the
/// same whether taken at once or one dimension after the other: an element counts when it does so along each.
pub fn pool<'m>(
    ctx: &mut Ctx<'m>,
    node: &NodeView<'m>,
    kind: PoolKind,
    ceil_mode: bool,
) -> Result<ValueId, OpError> {
    let window = sliding(node, RANK, None)?;
    let x = volume(ctx, node)?;
    let mut f = ctx.formula(node);
    let flat = pictures(&mut f, x);
    let flat = f.op(Op::Pool { kind, window: window.window(1..3), ceil_mode }, &[flat]);
    let y = stacked(&mut f, flat, x);
    let pixels = f.reshape_tail(y);
    let pooled = f.op(Op::Pool { kind, window: window.window(0..1), ceil_mode }, &[pixels]);
    let (head, rest) = (f.shape(pooled, 0, Some(2)), f.shape(flat, 1, None));
    let shape = f.concat(0, &[head, rest]);
    let y = f.op(Op::Reshape { allow_zero: false }, &[pooled, shape]);
    Ok(ctx.channels_first(node, y, RANK))
}

impl Formula<'_, '_> {
    /// `[N, D, ..]` as `[N, D, elements]`.
    fn reshape_tail(&mut self, x: ValueId) -> ValueId {
        let sizes = self.ctx.fact(x).dims.as_ref().and_then(|d| product(d[2..].iter().copied()));
        match sizes {
            Some(elements) => self.reshape(x, &[0, 0, elements as i64]),
            None => self.reshape(x, &[0, 0, -1]),
        }
    }
}

/// The sum over the taps along D of two-dimensional convolutions.
pub fn conv<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>, dims: &[usize]) -> Result<ValueId, OpError> {
    few_taps(dims)?;
    let window = sliding(node, RANK, Some(&dims[2..]))?;
    let groups = conv_weight::groups(node, dims)?;
    let given = ctx.operand(node, 0)?;
    conv_weight::channels(ctx, given, dims, groups)?;
    let (before, after) = depth_pads(&window.border, &window, ctx.fact(given).size(2))?;
    let x = volume(ctx, node)?;
    let x = padded(&mut ctx.formula(node), x, 1, before, after);
    let taps = dims[2];
    let mut sum = None;
    for tap in 0..taps {
        let mut f = ctx.formula(node);
        let (start, behind) = (tap * window.dilation[0], (taps - 1 - tap) * window.dilation[0]);
        let part = every(&mut f, x, start, behind, window.stride[0]);
        let flat = pictures(&mut f, part);
        let weight = weight_tap(ctx, node, tap, dims)?;
        let y = conv_weight::product(ctx, node, flat, &weight, (groups, window.window(1..3)))?;
        let mut f = ctx.formula(node);
        let y = stacked(&mut f, y, part);
        sum = Some(sum.map_or(y, |sum| f.add(sum, y)));
    }
    finish(ctx, node, sum, dims[0])
}

/// Each `stride`-th slice from `start` on, `behind` of them left out at the end.
fn every(f: &mut Formula, x: ValueId, start: usize, behind: usize, stride: usize) -> ValueId {
    let end = if behind == 0 { i64::MAX } else { -(behind as i64) };
    let ids = [start as i64, end, stride as i64].map(|v| f.integers(&[1], &[v]));
    f.op(Op::Slice { axes: vec![1] }, &[x, ids[0], ids[1], ids[2]])
}

/// The bias, and channels first.
fn finish<'m>(
    ctx: &mut Ctx<'m>,
    node: &NodeView<'m>,
    sum: Option<ValueId>,
    channels: usize,
) -> Result<ValueId, OpError> {
    let Some(y) = sum else { return malformed("a weight without taps") };
    let y = match conv::bias(ctx, node, channels)? {
        Some(bias) => ctx.formula(node).add(y, bias),
        None => y,
    };
    Ok(ctx.channels_first(node, y, RANK))
}

/// Slice `tap` along D of the weight `[_, _, D, H, W]`.
fn weight_tap<'m>(
    ctx: &mut Ctx<'m>,
    node: &NodeView<'m>,
    tap: usize,
    dims: &[usize],
) -> Result<Weight, OpError> {
    let Some(array) = ctx.array(node, 1)? else {
        let w = ctx.operand(node, 1)?;
        return Ok(Weight::Computed(ctx.formula(node).entry(w, 2, tap as i64)));
    };
    let Some(values) = floats(&array) else { return malformed("a weight that holds no floats") };
    let plane = dims[3] * dims[4];
    let picked: Vec<f32> =
        values.chunks_exact(dims[2] * plane).flat_map(|c| &c[tap * plane..][..plane]).copied().collect();
    Ok(Weight::Stored(Array::of_floats(array.dtype, &[dims[0], dims[1], dims[3], dims[4]], picked)))
}

/// Each slice becomes as many as there are taps, which are added where they come to lie.
pub fn conv_transpose<'m>(
    ctx: &mut Ctx<'m>,
    node: &NodeView<'m>,
    dims: &[usize],
) -> Result<ValueId, OpError> {
    few_taps(dims)?;
    let window = sliding(node, RANK, Some(&dims[2..]))?;
    let (Border::Explicit(before, after), None) = (&window.border, node.ints("output_shape")?) else {
        return unsupported("auto_pad and output_shape are not implemented for 3 spatial dimensions");
    };
    node.only_int("group", 1)?;
    let added = node.sizes("output_padding", 0)?.unwrap_or_else(|| vec![0; 3]);
    let [behind, height, width] = added[..] else { return malformed(format!("output_padding {added:?}")) };
    let op = Op::ConvTranspose {
        window: window.window(1..3),
        output_pads: [height, width],
        out_channels: dims[1],
        act: Act::None,
    };
    let x = volume(ctx, node)?;
    let flat = pictures(&mut ctx.formula(node), x);
    let (stride, dilation, taps) = (window.stride[0], window.dilation[0], dims[2]);
    let (mut sum, mut picture) = (None, flat);
    for tap in 0..taps {
        let w = match weight_tap(ctx, node, tap, dims)? {
            Weight::Stored(array) => {
                let rows = transposed_rows(&array)?;
                ctx.matrix(&format!("{}/weight", node.name), rows)
            }
            Weight::Computed(w) => computed_transposed(ctx, node, w, 4),
        };
        picture = ctx.emit(node, op.clone(), &[Some(flat), Some(w), None]);
        let mut f = ctx.formula(node);
        let y = stacked(&mut f, picture, x);
        let mut y = f.reshape_tail(y);
        if stride > 1 {
            // Zeros between the slices, none behind the last.
            let apart = f.unsqueeze(y, &[2]);
            let apart = padded(&mut f, apart, 2, 0, stride - 1);
            let shape = f.shape(y, 2, None);
            let head = f.ctx.vector(node, &[0, -1]);
            let shape = f.concat(0, &[head, shape]);
            let apart = f.op(Op::Reshape { allow_zero: false }, &[apart, shape]);
            y = f.slice(apart, 1, 0, 1 - stride as i64);
        }
        let y = padded(&mut f, y, 1, tap * dilation, (taps - 1 - tap) * dilation + behind);
        sum = Some(sum.map_or(y, |sum| f.add(sum, y)));
    }
    let Some(sum) = sum else { return malformed("a weight without taps") };
    let mut f = ctx.formula(node);
    let y = every(&mut f, sum, before[0], after[0], 1);
    let (head, rest) = (f.shape(y, 0, Some(2)), f.shape(picture, 1, None));
    let shape = f.concat(0, &[head, rest]);
    let y = f.op(Op::Reshape { allow_zero: false }, &[y, shape]);
    finish(ctx, node, Some(y), dims[1])
}
