//! Operators that read a picture between its elements: each position becomes indices and weights, one pair a tap and axis.
//!
//! Positions are `[N, P]` for a batch of `N` pictures; taps of several axes multiply.

use super::conv::{self, Weight};
use super::window::{Border, sliding};
use super::{NOW, Operator, Types, op};
use crate::import::onnx::ctx::{Ctx, Formula};
use crate::import::onnx::node::{NodeView, OpError, malformed, unknown, unsupported};
use edge_runtime::graph::{BinaryOp, DType, Op, Pads, ReduceOp, UnaryOp, ValueId, Window};

const GRID: &[&str] = &["align_corners", "mode", "padding_mode"];
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

/// The table.
pub const OPERATORS: &[Operator] = &[
    op("GridSample", (16, NOW), (2, 2), Types::Float, GRID, grid_sample),
    op("AffineGrid", (20, NOW), (2, 2), Types::Float, &["align_corners"], affine_grid),
    op("DeformConv", (19, NOW), (3, 5), Types::Float, DEFORM, deform_conv),
    op("RoiAlign", (10, 15), (3, 3), Types::Float, ROI, roi_align),
    op("RoiAlign", (16, NOW), (3, 3), Types::Float, ROI_16, roi_align),
];

/// What a position outside the picture reads.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Outside {
    /// Zeros.
    Zeros,
    /// The nearest border.
    Border,
    /// The picture's mirror image.
    Reflection,
}

/// How elements around a position are weighed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Kernel {
    /// The nearest one alone, of two equally near the even one.
    Nearest,
    /// The two around it.
    Linear,
    /// Four, by Keys' polynomial with a = -0.75.
    Cubic,
}

/// One tap along one axis.
#[derive(Clone, Copy)]
pub struct Tap {
    /// Index of the element, `i64`, within the axis.
    place: ValueId,
    /// What it counts for; 1 when left out.
    weight: Option<ValueId>,
}

/// An axis of the picture.
#[derive(Clone, Copy)]
struct Axis {
    /// Its size less 1, as a real scalar.
    last: ValueId,
    /// Positions from here..
    lo: ValueId,
    /// ..to here are inside.
    hi: ValueId,
    outside: Outside,
}

impl Formula<'_, '_> {
    /// The taps along an axis of `size` elements (an `f32` scalar) at `x`, in elements from the first one's middle.
    /// With `corners` the picture ends at the middles of its outermost elements, else half an element further.
    pub fn taps(
        &mut self,
        x: ValueId,
        size: ValueId,
        (kernel, outside, corners): (Kernel, Outside, bool),
    ) -> Vec<Tap> {
        let last = self.plus(size, -1.0);
        let (lo, hi) =
            if corners { (self.real(0.0), last) } else { (self.real(-0.5), self.plus(size, -0.5)) };
        let axis = Axis { last, lo, hi, outside };
        let x = if kernel == Kernel::Nearest { self.unary(UnaryOp::Round, x) } else { x };
        let x = match outside {
            Outside::Zeros => x,
            Outside::Reflection => self.reflected(x, &axis),
            Outside::Border => {
                let below = self.binary(BinaryOp::Less, x, lo);
                let above = self.binary(BinaryOp::Greater, x, hi);
                let away = self.binary(BinaryOp::Or, below, above);
                let zero = self.real(0.0);
                let inside = self.clamp(x, zero, last);
                self.select(away, inside, x)
            }
        };
        if kernel == Kernel::Nearest {
            return vec![self.tap(x, None, &axis)];
        }
        let first = self.unary(UnaryOp::Floor, x);
        let t = self.sub(x, first);
        let weights = match kernel {
            Kernel::Nearest | Kernel::Linear => vec![(0.0, self.minus_from(1.0, t)), (1.0, t)],
            Kernel::Cubic => {
                let weights = self.cubic(t);
                [-1.0, 0.0, 1.0, 2.0].into_iter().zip(weights).collect()
            }
        };
        weights
            .into_iter()
            .map(|(step, weight)| {
                let at = if step == 0.0 { first } else { self.plus(first, step) };
                self.tap(at, Some(weight), &axis)
            })
            .collect()
    }

    /// A tap at a whole position.
    fn tap(&mut self, at: ValueId, weight: Option<ValueId>, axis: &Axis) -> Tap {
        let zero = self.real(0.0);
        let (mut at, mut weight) = (at, weight);
        match axis.outside {
            Outside::Border => {}
            Outside::Reflection => at = self.reflected(at, axis),
            Outside::Zeros => {
                let from = self.binary(BinaryOp::GreaterOrEqual, at, zero);
                let to = self.binary(BinaryOp::LessOrEqual, at, axis.last);
                let inside = self.binary(BinaryOp::And, from, to);
                let inside = self.cast(inside, DType::F32);
                weight = Some(weight.map_or(inside, |w| self.mul(w, inside)));
            }
        }
        let at = self.clamp(at, zero, axis.last);
        Tap { place: self.cast(at, DType::I64), weight }
    }

    /// `x` mirrored at the picture's ends until it is inside: a triangle wave.
    fn reflected(&mut self, x: ValueId, axis: &Axis) -> ValueId {
        let span = self.sub(axis.hi, axis.lo);
        let one = self.real(1.0);
        // One element between two mirrors: whatever comes of it is clamped to that element.
        let span = self.max(span, one);
        let period = self.times(span, 2.0);
        let away = self.sub(x, axis.lo);
        let away = self.unary(UnaryOp::Abs, away);
        let away = self.binary(BinaryOp::Fmod, away, period);
        let from_top = self.sub(away, span);
        let from_top = self.unary(UnaryOp::Abs, from_top);
        let inside = self.sub(span, from_top);
        self.add(inside, axis.lo)
    }

    /// The four weights of Keys' cubic convolution, `t` behind the second element.
    fn cubic(&mut self, t: ValueId) -> [ValueId; 4] {
        const A: f64 = -0.75;
        let rest = self.minus_from(1.0, t);
        let mut outer = |d: ValueId| {
            // ((A d - 5A) d + 8A) d - 4A for a distance d of 1 to 2.
            let d = self.plus(d, 1.0);
            let y = self.times(d, A);
            let y = self.plus(y, -5.0 * A);
            let y = self.mul(y, d);
            let y = self.plus(y, 8.0 * A);
            let y = self.mul(y, d);
            self.plus(y, -4.0 * A)
        };
        let (first, fourth) = (outer(t), outer(rest));
        let mut inner = |d: ValueId| {
            // ((A + 2) d - (A + 3)) d² + 1 for a distance d of 0 to 1.
            let y = self.times(d, A + 2.0);
            let y = self.plus(y, -(A + 3.0));
            let y = self.mul(y, d);
            let y = self.mul(y, d);
            self.plus(y, 1.0)
        };
        [first, inner(t), inner(rest), fourth]
    }

    /// A spatial value `[N, C, ..]` as `[N, elements, C]`.
    pub fn elements_last(&mut self, x: ValueId, rank: usize) -> ValueId {
        let perm = [0].into_iter().chain(2..rank).chain([1]).collect();
        let x = self.op(Op::Transpose { perm }, &[x]);
        match self.ctx.fact(x).size(rank - 1) {
            Some(channels) => self.reshape(x, &[0, -1, channels as i64]),
            None => {
                let head = self.ctx.vector(self.node, &[0, -1]);
                let channels = self.shape(x, -1, None);
                let shape = self.concat(0, &[head, channels]);
                self.op(Op::Reshape { allow_zero: false }, &[x, shape])
            }
        }
    }

    /// Reads `data` `[N, elements, C]` at positions `[N, P]`, given by each axis's taps: `[N, P, C]`. `sizes` are the axes'
    /// sizes as `i64` scalars.
    pub fn sampled(&mut self, data: ValueId, taps: &[Vec<Tap>], sizes: &[ValueId]) -> ValueId {
        let mut corners: Vec<Tap> = taps[0].clone();
        for (axis, size) in taps[1..].iter().zip(&sizes[1..]) {
            let mut joined = Vec::with_capacity(corners.len() * axis.len());
            for outer in &corners {
                let row = self.mul(outer.place, *size);
                for inner in axis {
                    let place = self.add(row, inner.place);
                    let weight = match (outer.weight, inner.weight) {
                        (Some(a), Some(b)) => Some(self.mul(a, b)),
                        (a, b) => a.or(b),
                    };
                    joined.push(Tap { place, weight });
                }
            }
            corners = joined;
        }
        let mut sum = None;
        for Tap { place, weight } in corners {
            let place = self.unsqueeze(place, &[2]);
            let mut value = self.op(Op::GatherNd { batch_dims: 1 }, &[data, place]);
            if let Some(weight) = weight {
                let weight = self.unsqueeze(weight, &[2]);
                value = self.mul(value, weight);
            }
            sum = Some(sum.map_or(value, |sum| self.add(sum, value)));
        }
        sum.unwrap_or(data)
    }
}

/// Operand `i` as `f32`.
fn real<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>, i: usize) -> Result<ValueId, OpError> {
    let x = ctx.operand(node, i)?;
    Ok(ctx.formula(node).cast(x, DType::F32))
}

fn grid_sample<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>) -> Result<(), OpError> {
    // Opset 16 had other names for two of the modes.
    let kernel = match node.string("mode", "linear")? {
        "nearest" => Kernel::Nearest,
        "linear" | "bilinear" => Kernel::Linear,
        "cubic" | "bicubic" => Kernel::Cubic,
        other => return malformed(format!("mode {other:?}")),
    };
    let outside = match node.string("padding_mode", "zeros")? {
        "zeros" => Outside::Zeros,
        "border" => Outside::Border,
        "reflection" => Outside::Reflection,
        other => return malformed(format!("padding_mode {other:?}")),
    };
    let corners = node.flag("align_corners", false)?;
    let Some(dtype) = ctx.operand_dtype(node, 0) else { return unknown("the operand's element type") };
    let (x, grid) = (real(ctx, node, 0)?, real(ctx, node, 1)?);
    let rank = match (ctx.fact(x).rank(), ctx.fact(grid).rank()) {
        (Some(a), Some(b)) if a != b => return malformed(format!("a grid of rank {b} for rank {a}")),
        (a, b) => match a.or(b) {
            Some(rank @ 3..) => rank,
            Some(rank) => return malformed(format!("an operand of rank {rank}")),
            None => return unknown("the operand's rank"),
        },
    };
    if kernel == Kernel::Cubic && rank != 4 {
        return unsupported(format!("mode cubic over {} dimensions is not implemented", rank - 2));
    }
    if kernel == Kernel::Cubic && outside == Outside::Border {
        // Positions between the outermost element's middle and its edge: ONNX's reference, onnxruntime and PyTorch differ.
        return unsupported("mode cubic with padding_mode border is not implemented: engines differ");
    }
    let mut f = ctx.formula(node);
    let shape = f.shape(grid, 1, Some(rank as i32 - 1));
    let (mut taps, mut sizes) = (Vec::new(), Vec::new());
    for axis in 0..rank - 2 {
        let count = f.size(x, axis + 2);
        let size = f.cast(count, DType::F32);
        // The grid's last dimension names the innermost axis first.
        let place = f.entry(grid, rank - 1, (rank - 3 - axis) as i64);
        let place = f.reshape(place, &[0, -1]);
        let place = f.plus(place, 1.0);
        let place = if corners {
            let last = f.plus(size, -1.0);
            let place = f.times(place, 0.5);
            f.mul(place, last)
        } else {
            let place = f.mul(place, size);
            let place = f.plus(place, -1.0);
            f.times(place, 0.5)
        };
        taps.push(f.taps(place, size, (kernel, outside, corners)));
        sizes.push(count);
    }
    let data = f.elements_last(x, rank);
    let y = f.sampled(data, &taps, &sizes);
    let y = f.op(Op::Transpose { perm: vec![0, 2, 1] }, &[y]);
    let head = f.ctx.vector(node, &[0, 0]);
    let shape = f.concat(0, &[head, shape]);
    let y = f.op(Op::Reshape { allow_zero: false }, &[y, shape]);
    let y = f.cast(y, dtype);
    ctx.set(node, 0, y)
}

/// `theta [N, d, d + 1]` applied to a grid from -1 to 1.
fn affine_grid<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>) -> Result<(), OpError> {
    let corners = node.flag("align_corners", false)?;
    let Some(dtype) = ctx.operand_dtype(node, 0) else { return unknown("the operand's element type") };
    let theta = real(ctx, node, 0)?;
    let size = ctx.indices(node, 1)?;
    let Some(axes @ (2 | 3)) = ctx.fact(size).size(0).and_then(|n| n.checked_sub(2)) else {
        return unknown("the number of spatial dimensions, 2 or 3,");
    };
    let mut f = ctx.formula(node);
    let mut steps = Vec::with_capacity(axes);
    for axis in 0..axes {
        let count = f.entry(size, 0, 2 + axis as i64);
        let places = f.count_up(count);
        let (places, count) = (f.cast(places, DType::F32), f.cast(count, DType::F32));
        let steps_here = if corners {
            let last = f.plus(count, -1.0);
            let one = f.real(1.0);
            let last = f.max(last, one);
            let twice = f.times(places, 2.0);
            f.div(twice, last)
        } else {
            let twice = f.times(places, 2.0);
            let middle = f.plus(twice, 1.0);
            f.div(middle, count)
        };
        let place = f.plus(steps_here, -1.0);
        let shape: Vec<i64> = (0..=axes).map(|i| if i == axis + 1 { -1 } else { 1 }).collect();
        steps.push(f.reshape(place, &shape));
    }
    let mut parts = Vec::with_capacity(axes);
    for row in 0..axes {
        let row = f.entry(theta, 1, row as i64);
        let factor = |f: &mut Formula, column: usize| {
            let one = f.slice(row, 1, column as i64, column as i64 + 1);
            let shape: Vec<i64> = [0].into_iter().chain(std::iter::repeat_n(1, axes)).collect();
            f.reshape(one, &shape)
        };
        let mut sum = factor(&mut f, axes);
        for (axis, place) in steps.iter().enumerate() {
            // Column 0 belongs to the innermost axis.
            let factor = factor(&mut f, axes - 1 - axis);
            let term = f.mul(factor, *place);
            sum = f.add(sum, term);
        }
        parts.push(f.unsqueeze(sum, &[axes as i32 + 1]));
    }
    let y = f.concat(axes as i32 + 1, &parts);
    let y = f.cast(y, dtype);
    ctx.set(node, 0, y)
}

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
    let (groups, sliding) = (conv::groups(node, &dims)?, sliding(node, 4, Some(&dims[2..]))?);
    conv::channels(ctx, x, &dims, groups)?;
    let Border::Explicit(before, _) = &sliding.border else { return malformed("attribute auto_pad") };
    let (channels, parts) = (dims[1] * groups, node.int("offset_group", 1)?);
    let parts = usize::try_from(parts).ok().filter(|p| *p > 0 && channels.is_multiple_of(*p));
    let Some(parts) = parts else { return malformed("offset_group that does not divide the channels") };
    let (Some(rows), Some(columns)) = (ctx.fact(offset).size(2), ctx.fact(offset).size(3)) else {
        return unknown("the size of the offsets");
    };
    let (taps, pixels) = (height * width, rows * columns);
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
            // Where the taps are before they are moved.
            let place = |tap: usize, pixel: usize| {
                let (tap, pixel) =
                    if axis == 0 { (tap / width, pixel / columns) } else { (tap % width, pixel % columns) };
                (pixel * sliding.stride[axis] + tap * sliding.dilation[axis]) as f32 - before[axis] as f32
            };
            let base: Vec<f32> =
                (0..taps).flat_map(|t| (0..pixels).map(move |p| (t, p))).map(|(t, p)| place(t, p)).collect();
            let base = f.reals(&[taps, pixels], &base);
            let moved = f.entry(own, 2, axis as i64);
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
    let y = conv::product(ctx, node, value, &weight, (groups, window))?;
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
