//! Reading parts of a picture: regions of interest, and taps that offsets move.

use super::conv;
use super::conv_weight::{self, Weight};
use super::sample::real;
use super::taps::{Kernel, Outside, Tap};
use super::window::{Border, sliding};
use super::{NOW, Operator, Types, op};
use crate::import::onnx::ctx::{Ctx, Formula};
use crate::import::onnx::node::{NodeView, OpError, malformed, unknown, unsupported};
use edge_runtime::graph::{BinaryOp, DType, Op, Pads, ReduceOp, UnaryOp, Window};

const DEFORM: &[&str] = &["dilations", "group", "kernel_shape", "offset_group", "pads", "strides"];
const ROI: &[&str] = &["mode", "output_height", "output_width", "sampling_ratio", "spatial_scale"];
const ROI_16: &[&str] = &[
    "coordinate_transformation_mode",
    "mode",
    "output_height",
    "output_width",
    "sampling_ratio",
    "spatial_scale",
];

/// Most groups of offsets: each is read on its own.
const MAX_PARTS: usize = 64;
/// Most positions that are made a table.
const MAX_SAMPLES: usize = 1 << 24;

/// The table.
pub const OPERATORS: &[Operator] = &[
    op("DeformConv", (19, NOW), (3, 5), Types::Float, DEFORM, deform_conv),
    op("RoiAlign", (10, 15), (3, 3), Types::Float, ROI, roi_align),
    op("RoiAlign", (16, NOW), (3, 3), Types::Float, ROI_16, roi_align),
];

fn roi_align<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>) -> Result<(), OpError> {
    let half_pixel = match node.string("coordinate_transformation_mode", "half_pixel")? {
        // Opset 10 knew no other.
        _ if node.opset < 16 => false,
        "half_pixel" => true,
        "output_half_pixel" => false,
        other => return malformed(format!("coordinate_transformation_mode {other:?}")),
    };
    let greatest = match node.string("mode", "avg")? {
        "avg" => false,
        "max" => true,
        other => return malformed(format!("mode {other:?}")),
    };
    let ratio = node.int("sampling_ratio", 0)?;
    let samples @ 1..=64 = ratio else {
        return unsupported(format!(
            "attribute sampling_ratio={ratio} is not implemented: the number of samples would depend on the data"
        ));
    };
    let scale = f64::from(node.float("spatial_scale", 1.0)?);
    let sides = [node.int("output_height", 1)?, node.int("output_width", 1)?];
    if sides.iter().any(|s| !(1..=4096).contains(s)) {
        return malformed(format!("an output of {sides:?}"));
    }
    let Some(dtype) = ctx.operand_dtype(node, 0) else { return unknown("the operand's element type") };
    let (x, rois) = (real(ctx, node, 0)?, real(ctx, node, 1)?);
    let batch = ctx.indices(node, 2)?;
    if ctx.rank(x)? != 4 {
        return malformed("an operand that has not 4 dimensions");
    }
    let mut f = ctx.formula(node);
    let (zero, one) = (f.real(0.0), f.real(1.0));
    let mut axes = Vec::with_capacity(2);
    for (axis, side) in sides.into_iter().enumerate() {
        let count = f.size(x, axis + 2);
        let size = f.cast(count, DType::F32);
        let last = f.plus(size, -1.0);
        let bound = |f: &mut Formula, column: i64| {
            let edge = f.slice(rois, 1, column, column + 1);
            let edge = f.times(edge, scale);
            if half_pixel { f.plus(edge, -0.5) } else { edge }
        };
        let (start, end) = (bound(&mut f, 1 - axis as i64), bound(&mut f, 3 - axis as i64));
        let length = f.sub(end, start);
        let length = if half_pixel { length } else { f.max(length, one) };
        // Sample s of bin b lies at start + length / bins * (b + (s + 0.5) / samples).
        let places: Vec<f32> = (0..side * samples)
            .map(|i| {
                let (bin, sample) = (i / samples, i % samples);
                ((bin as f64 + (sample as f64 + 0.5) / samples as f64) / side as f64) as f32
            })
            .collect();
        let places = f.reals(&[1, places.len()], &places);
        let places = f.mul(places, length);
        let place = f.add(places, start);
        let before = f.real(-1.0);
        let from = f.binary(BinaryOp::GreaterOrEqual, place, before);
        let to = f.binary(BinaryOp::LessOrEqual, place, size);
        let inside = f.binary(BinaryOp::And, from, to);
        let inside = f.cast(inside, DType::F32);
        let place = f.clamp(place, zero, last);
        let low = f.unary(UnaryOp::Floor, place);
        let high = f.plus(low, 1.0);
        let high = f.min(high, last);
        let t = f.sub(place, low);
        let rest = f.minus_from(1.0, t);
        let taps: Vec<Tap> = [(low, rest), (high, t)]
            .into_iter()
            .map(|(at, weight)| {
                let axes = if axis == 0 { [2, 3] } else { [1, 3] };
                let weight = f.mul(weight, inside);
                let at = f.cast(at, DType::I64);
                Tap { place: f.unsqueeze(at, &axes[..1]), weight: Some(f.unsqueeze(weight, &axes)) }
            })
            .collect();
        axes.push((taps, count));
    }
    let data = f.elements_last(x, 4);
    let Some(channels) = f.ctx.fact(data).size(2) else { return unknown("the number of channels") };
    let data = f.reshape(data, &[-1, channels as i64]);
    let (columns, area) = (axes[1].1, f.mul(axes[0].1, axes[1].1));
    let first = f.mul(batch, area);
    let first = f.unsqueeze(first, &[1, 2]);
    let mut result = None;
    for row in axes[0].0.clone() {
        let line = f.mul(row.place, columns);
        let line = f.add(line, first);
        for column in axes[1].0.clone() {
            let place = f.add(line, column.place);
            let mut value = f.op(Op::Gather { axis: 0 }, &[data, place]);
            for weight in [row.weight, column.weight].into_iter().flatten() {
                value = f.mul(value, weight);
            }
            let join = if greatest { BinaryOp::Max } else { BinaryOp::Add };
            result = Some(result.map_or(value, |sum| f.binary(join, sum, value)));
        }
    }
    let Some(y) = result else { return malformed("no samples") };
    // [rois, height * samples, width * samples, C] to its bins.
    let y = f.reshape(y, &[-1, sides[0], samples, sides[1], samples, channels as i64]);
    let kind = if greatest { ReduceOp::Max } else { ReduceOp::Mean };
    let y = f.reduce(kind, y, &[2, 4], false);
    let y = f.op(Op::Transpose { perm: vec![0, 3, 1, 2] }, &[y]);
    let y = f.cast(y, dtype);
    ctx.set(node, 0, y)
}

/// A convolution whose taps are moved by offsets: they are read first, side by side, and then multiplied as a row of taps a pixel.
fn deform_conv<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>) -> Result<(), OpError> {
    let weight = match ctx.array(node, 1)? {
        Some(array) => Weight::Stored(array),
        None => Weight::Computed(real(ctx, node, 1)?),
    };
    let dims = weight.dims(ctx)?;
    let [_, _, height, width] = dims[..] else {
        return unsupported(format!("a weight {dims:?} is not implemented: two spatial dimensions are"));
    };
    let Some(dtype) = ctx.operand_dtype(node, 0) else { return unknown("the operand's element type") };
    let (x, offset) = (real(ctx, node, 0)?, real(ctx, node, 2)?);
    let mask = if node.input(4).is_some() { Some(real(ctx, node, 4)?) } else { None };
    let (groups, sliding) = (conv_weight::groups(node, &dims)?, sliding(node, 4, Some(&dims[2..]))?);
    conv_weight::channels(ctx, x, &dims, groups)?;
    let Border::Explicit(before, _) = &sliding.border else { return malformed("attribute auto_pad") };
    let (channels, parts) = (dims[1] * groups, node.int("offset_group", 1)?);
    let parts = usize::try_from(parts).ok().filter(|p| *p > 0 && channels.is_multiple_of(*p));
    let Some(parts) = parts else { return malformed("offset_group that does not divide the channels") };
    let (Some(rows), Some(columns)) = (ctx.fact(offset).size(2), ctx.fact(offset).size(3)) else {
        return unknown("the size of the offsets");
    };
    let (taps, pixels) = (height * width, rows.saturating_mul(columns));
    if parts > MAX_PARTS || taps.checked_mul(pixels).is_none_or(|n| n > MAX_SAMPLES) {
        return unsupported(format!("{parts} groups of {taps} taps at {pixels} pixels are not implemented"));
    }
    let mut f = ctx.formula(node);
    let data = f.elements_last(x, 4);
    let sizes = [f.size(x, 2), f.size(x, 3)];
    // [N, group, tap, (y, x), pixel].
    let (taps_i, pixels_i) = (taps as i64, pixels as i64);
    let offset = f.reshape(offset, &[0, parts as i64, taps_i, 2, pixels_i]);
    let mask = mask.map(|mask| f.reshape(mask, &[0, parts as i64, taps_i * pixels_i, 1]));
    let mut read = Vec::with_capacity(parts);
    for part in 0..parts {
        let own = f.entry(offset, 1, part as i64);
        let mut axes = Vec::with_capacity(2);
        for axis in 0..2 {
            // Where the taps are before they are moved: the same for all of a row, or of a column.
            let (lines, dims) =
                if axis == 0 { (rows, [taps, rows, 1]) } else { (columns, [taps, 1, columns]) };
            let place = |tap: usize, line: usize| {
                let tap = if axis == 0 { tap / width } else { tap % width };
                let at = line.saturating_mul(sliding.stride[axis]);
                at.saturating_add(tap.saturating_mul(sliding.dilation[axis])) as f32 - before[axis] as f32
            };
            f.ctx.table(taps.checked_mul(lines), 12)?;
            let base: Vec<f32> =
                (0..taps).flat_map(|t| (0..lines).map(move |l| (t, l))).map(|(t, l)| place(t, l)).collect();
            let base = f.reals(&dims, &base);
            let moved = f.entry(own, 2, axis as i64);
            let moved = f.reshape(moved, &[0, taps_i, rows as i64, columns as i64]);
            let place = f.add(moved, base);
            let place = f.reshape(place, &[0, taps_i * pixels_i]);
            let size = f.cast(sizes[axis], DType::F32);
            axes.push(f.taps(place, size, (Kernel::Linear, Outside::Zeros, true)));
        }
        let each = (channels / parts) as i64;
        let own =
            if parts == 1 { data } else { f.slice(data, 2, part as i64 * each, (part as i64 + 1) * each) };
        let mut value = f.sampled(own, &axes, &sizes);
        if let Some(mask) = mask {
            let mask = f.entry(mask, 1, part as i64);
            value = f.mul(value, mask);
        }
        read.push(value);
    }
    let value = f.concat(2, &read);
    // A picture of one row a pixel, the taps side by side.
    let value = f.reshape(value, &[0, taps_i, pixels_i, channels as i64]);
    let value = f.op(Op::Transpose { perm: vec![0, 2, 1, 3] }, &[value]);
    let weight = weight.as_row(ctx, node)?;
    let window = Window { kernel: [1, taps], stride: [1, 1], dilation: [1, 1], pads: Pads::Explicit([0; 4]) };
    let y = conv_weight::product(ctx, node, value, &weight, (groups, window))?;
    let bias = conv::bias_at(ctx, node, 3, dims[0])?;
    let mut f = ctx.formula(node);
    let y = f.reshape(y, &[0, rows as i64, columns as i64, dims[0] as i64]);
    let y = match bias {
        Some(bias) => f.add(y, bias),
        None => y,
    };
    let y = f.cast(y, dtype);
    let y = ctx.channels_first(node, y, 4);
    ctx.set(node, 0, y)
}
