//! Resize and Upsample.

use super::resize_table::{self, Axis};
use super::{NOW, Operator, Types, op};
use crate::import::onnx::ctx::Ctx;
use crate::import::onnx::node::{NodeView, OpError, malformed, unknown, unsupported};
use crate::import::onnx::ranks::{Element, normalize};
use crate::import::onnx::tensors::floats;
use crate::model::Array;
use edge_runtime::graph::{CoordinateMode, DType, Interpolation, NearestMode, Op, ValueId};

const RESIZE_11: &[&str] = &[
    "coordinate_transformation_mode",
    "cubic_coeff_a",
    "exclude_outside",
    "extrapolation_value",
    "mode",
    "nearest_mode",
];
const RESIZE_18: &[&str] = &[
    "antialias",
    "axes",
    "coordinate_transformation_mode",
    "cubic_coeff_a",
    "exclude_outside",
    "extrapolation_value",
    "keep_aspect_ratio_policy",
    "mode",
    "nearest_mode",
];

/// The table.
pub const OPERATORS: &[Operator] = &[
    op("Upsample", (7, 8), (1, 1), Types::Number, &["mode", "scales"], upsample),
    op("Upsample", (9, 9), (2, 2), Types::Number, &["mode"], upsample),
    op("Resize", (10, 10), (2, 2), Types::Number, &["mode"], upsample),
    op("Resize", (11, 17), (1, 4), Types::Number, RESIZE_11, resize),
    op("Resize", (18, NOW), (1, 4), Types::Number, RESIZE_18, resize),
];

/// New sizes: factors or numbers of elements, one for each of some axes.
#[derive(Clone, Copy)]
enum Target {
    Scales(ValueId),
    Sizes(ValueId),
}

impl Target {
    fn id(self) -> ValueId {
        match self {
            Target::Scales(id) | Target::Sizes(id) => id,
        }
    }

    fn with(self, id: ValueId) -> Target {
        match self {
            Target::Scales(_) => Target::Scales(id),
            Target::Sizes(_) => Target::Sizes(id),
        }
    }
}

/// Before opset 11 there was one mapping: `input = output / scale`. Nearest takes the floor of it, or the ceiling where an axis
/// shrinks.
fn upsample<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>) -> Result<(), OpError> {
    let x = ctx.operand(node, 0)?;
    let (scales, known) = match node.input(1) {
        Some(_) => (ctx.operand(node, 1)?, ctx.array(node, 1)?.and_then(|a| floats(&a))),
        None => {
            let scales = node.floats("scales")?;
            if scales.is_empty() {
                return malformed("attribute `scales` is missing");
            }
            (ctx.constant("scales", Array::f32(&[scales.len()], scales)), Some(scales.to_vec()))
        }
    };
    let interpolation = match node.string("mode", "nearest")? {
        "nearest" => {
            let Some(known) = known else { return unknown("the scales, as numbers") };
            let (shrinks, grows) = (known.iter().any(|s| *s < 1.0), known.iter().any(|s| *s > 1.0));
            match (shrinks, grows) {
                (true, true) => {
                    return unsupported("scales above and below 1 in one node are not implemented");
                }
                (true, false) => Interpolation::Nearest(NearestMode::Ceil),
                (false, _) => Interpolation::Nearest(NearestMode::Floor),
            }
        }
        "linear" | "bilinear" => Interpolation::Linear { antialias: false },
        other => return unsupported(format!("attribute mode={other:?} is not implemented")),
    };
    place(ctx, node, x, Target::Scales(scales), None, interpolation, CoordinateMode::Asymmetric)
}

fn resize<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>) -> Result<(), OpError> {
    let coordinates = match node.string("coordinate_transformation_mode", "half_pixel")? {
        "half_pixel" => CoordinateMode::HalfPixel,
        "half_pixel_symmetric" => CoordinateMode::HalfPixelSymmetric,
        "pytorch_half_pixel" => CoordinateMode::PytorchHalfPixel,
        "align_corners" => CoordinateMode::AlignCorners,
        // How positions are made is said by the cropped part then.
        "asymmetric" | "tf_crop_and_resize" => CoordinateMode::Asymmetric,
        other => return malformed(format!("coordinate_transformation_mode {other:?}")),
    };
    let crops = node.string("coordinate_transformation_mode", "")? == "tf_crop_and_resize";
    let policy = match node.string("keep_aspect_ratio_policy", "stretch")? {
        "stretch" => Policy::Stretch,
        "not_larger" => Policy::NotLarger,
        "not_smaller" => Policy::NotSmaller,
        other => return malformed(format!("keep_aspect_ratio_policy {other:?}")),
    };
    let interpolation = interpolation(node)?;
    let x = ctx.operand(node, 0)?;
    if let Some(y) = by_tables(ctx, node, x, (interpolation, coordinates), (policy, crops))? {
        return ctx.set(node, 0, y);
    }
    // Before opset 13 an operand that is left out is an empty array.
    let given = |ctx: &mut Ctx<'m>, i: usize| -> Result<Option<ValueId>, OpError> {
        let id = ctx.optional(node, i)?;
        Ok(id.filter(|id| ctx.fact(*id).size(0) != Some(0)))
    };
    let target = match (given(ctx, 2)?, given(ctx, 3)?) {
        (_, Some(_)) => Target::Sizes(ctx.indices(node, 3)?),
        (Some(scales), None) => Target::Scales(scales),
        (None, None) => return malformed("neither scales nor sizes"),
    };
    place(ctx, node, x, target, node.ints("axes")?, interpolation, coordinates)
}

/// What sizes mean that do not fit the operand's aspect ratio.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Policy {
    Stretch,
    NotLarger,
    NotSmaller,
}

/// Resizing that the runtime leaves to tables, or `None`. Tables need sizes that are known at import.
fn by_tables<'m>(
    ctx: &mut Ctx<'m>,
    node: &NodeView<'m>,
    x: ValueId,
    (interpolation, coordinates): (Interpolation, CoordinateMode),
    (policy, crops): (Policy, bool),
) -> Result<Option<ValueId>, OpError> {
    let antialias = match interpolation {
        Interpolation::Nearest(_) => false,
        Interpolation::Linear { antialias } | Interpolation::Cubic { antialias, .. } => antialias,
    };
    if policy == Policy::Stretch && !crops && !antialias {
        return Ok(None);
    }
    let dims: Option<Vec<usize>> = ctx.fact(x).dims.as_ref().and_then(|d| d.iter().copied().collect());
    let (Some(dims), Some(dtype)) = (dims, ctx.fact(x).dtype) else {
        return unknown("the operand's shape");
    };
    let all: Vec<i64> = (0..dims.len() as i64).collect();
    let normal = |a: &i64| normalize(*a, dims.len());
    let Some(axes) = node.ints("axes")?.unwrap_or(&all).iter().map(normal).collect::<Option<Vec<usize>>>()
    else {
        return malformed(format!("axes of {} dimensions", dims.len()));
    };
    let sizes = if node.input(3).is_some() { ctx.known(node, 3)? } else { None };
    let scales = ctx.array(node, 2)?.as_ref().and_then(floats).filter(|s| !s.is_empty());
    let part = if crops { ctx.array(node, 1)?.as_ref().and_then(floats) } else { None };
    if crops && part.as_ref().is_none_or(|p| p.len() != 2 * axes.len()) {
        return unknown("the cropped part, as numbers,");
    }
    let mut list: Vec<Axis> = Vec::with_capacity(axes.len());
    for (i, axis) in axes.iter().copied().enumerate() {
        let (input, count) = (dims[axis], axes.len());
        let (output, scale) = match (&sizes, &scales) {
            (Some(sizes), _) if sizes.len() == count && sizes[i] >= 0 => {
                (sizes[i] as usize, sizes[i] as f64 / input as f64)
            }
            (None, Some(scales)) if scales.len() == count && scales[i] > 0.0 => {
                ((input as f32 * scales[i]).floor() as usize, f64::from(scales[i]))
            }
            (None, None) => return unknown("the sizes or scales, as numbers,"),
            _ => return malformed(format!("sizes {sizes:?}, scales {scales:?} for {count} axes")),
        };
        let crop = part.as_ref().map(|p| (f64::from(p[i]), f64::from(p[count + i])));
        list.push(Axis { axis, input, output, scale, crop });
    }
    let kept = match policy {
        Policy::Stretch => None,
        Policy::NotLarger => list.iter().map(|a| a.scale).reduce(f64::min),
        Policy::NotSmaller => list.iter().map(|a| a.scale).reduce(f64::max),
    };
    if let (Some(scale), Some(_)) = (kept, &sizes) {
        for axis in &mut list {
            axis.output = (scale * axis.input as f64 + 0.5).floor() as usize;
            axis.scale = scale;
        }
    }
    if list.iter().any(|a| a.output > 1 << 20) {
        return unsupported(format!("resizing to {list:?} is not implemented"));
    }
    if coordinates == CoordinateMode::AlignCorners
        && sizes.is_none()
        && list.iter().any(|a| (a.input as f64 * a.scale).fract() != 0.0)
    {
        return unsupported("aligned corners of a scale that does not come out even: engines differ");
    }
    let real = ctx.formula(node).cast(x, DType::F32);
    let extrapolation = node.float("extrapolation_value", 0.0)?;
    let y = resize_table::resize(ctx, node, real, &list, (interpolation, coordinates, extrapolation))?;
    if !dtype.is_float() && !matches!(interpolation, Interpolation::Nearest(_)) {
        return unsupported(format!("resizing of {dtype} in this mode is not implemented"));
    }
    Ok(Some(ctx.formula(node).cast(y, dtype)))
}

fn interpolation(node: &NodeView) -> Result<Interpolation, OpError> {
    let antialias = node.flag("antialias", false)?;
    let exclude_outside = node.flag("exclude_outside", false)?;
    Ok(match node.string("mode", "nearest")? {
        "nearest" => Interpolation::Nearest(match node.string("nearest_mode", "round_prefer_floor")? {
            "round_prefer_floor" => NearestMode::RoundPreferFloor,
            "round_prefer_ceil" => NearestMode::RoundPreferCeil,
            "floor" => NearestMode::Floor,
            "ceil" => NearestMode::Ceil,
            other => return malformed(format!("nearest_mode {other:?}")),
        }),
        // Without antialiasing, what is outside repeats the border, so leaving it out changes nothing.
        "linear" if antialias && exclude_outside => {
            return unsupported("attributes exclude_outside=1 with antialias=1 are not implemented");
        }
        "linear" => Interpolation::Linear { antialias },
        "cubic" => {
            Interpolation::Cubic { a: node.float("cubic_coeff_a", -0.75)?, exclude_outside, antialias }
        }
        other => return malformed(format!("mode {other:?}")),
    })
}

/// Emits the operation channels-last over height and width where batch and channels keep their sizes, else over the axes as they
/// are.
fn place<'m>(
    ctx: &mut Ctx<'m>,
    node: &NodeView<'m>,
    x: ValueId,
    target: Target,
    axes: Option<&[i64]>,
    interpolation: Interpolation,
    coordinates: CoordinateMode,
) -> Result<(), OpError> {
    let count = ctx.fact(target.id()).size(0);
    let Some(rank) = ctx.fact(x).rank().or(count.filter(|_| axes.is_none())) else {
        return unknown(format!("the rank of `{}`", ctx.model.graph.name(x)));
    };
    let all: Vec<i64> = (0..rank as i64).collect();
    let normal = |a: &i64| normalize(*a, rank);
    let Some(axes) = axes.unwrap_or(&all).iter().map(normal).collect::<Option<Vec<usize>>>() else {
        return malformed(format!("axes {axes:?} of {rank} dimensions"));
    };
    if count.is_some_and(|c| c != axes.len()) {
        return malformed(format!("{count:?} scales or sizes for {} axes", axes.len()));
    }
    let op = |axes: Vec<i32>| Op::Resize { axes, interpolation, coordinates };
    let operands = |x: ValueId, target: Target| match target {
        Target::Scales(id) => [Some(x), Some(id), None],
        Target::Sizes(id) => [Some(x), None, Some(id)],
    };
    let (kept, moved): (Vec<usize>, Vec<usize>) = (0..axes.len()).partition(|i| axes[*i] < 2);
    if !matches!(rank, 3 | 4) || kept.iter().any(|i| !keeps(ctx, x, target, *i, axes[*i])) || moved.is_empty()
    {
        let y = ctx.emit(node, op(axes.iter().map(|a| *a as i32).collect()), &operands(x, target));
        return ctx.set(node, 0, y);
    }
    let target = if kept.is_empty() { target } else { target.with(pick(ctx, node, target.id(), &moved)?) };
    let axes = moved.iter().map(|i| axes[*i] as i32 - 1).collect();
    let x = ctx.channels_last(node, x, rank);
    let y = ctx.emit(node, op(axes), &operands(x, target));
    let y = ctx.channels_first(node, y, rank);
    ctx.set(node, 0, y)
}

/// Whether entry `i` of the target leaves `axis` as it is.
fn keeps(ctx: &Ctx, x: ValueId, target: Target, i: usize, axis: usize) -> bool {
    match target {
        Target::Scales(id) => {
            let scale = ctx.model.constant(id).and_then(floats).and_then(|v| v.get(i).copied());
            scale == Some(1.0)
        }
        Target::Sizes(id) => match ctx.fact(id).elements.as_ref().and_then(|e| e.get(i)) {
            Some(Element::Known(size)) => ctx.fact(x).size(axis).is_some_and(|s| s as i64 == *size),
            Some(Element::Size(value, of)) => (*value, *of) == (x, axis),
            _ => false,
        },
    }
}

/// Some entries of a vector.
fn pick<'m>(
    ctx: &mut Ctx<'m>,
    node: &NodeView<'m>,
    id: ValueId,
    places: &[usize],
) -> Result<ValueId, OpError> {
    let stored = ctx.model.constant(id).cloned();
    if let Some(array) = stored {
        if let Some(values) = floats(&array) {
            let picked: Vec<f32> = places.iter().map(|i| values[*i]).collect();
            return Ok(ctx.constant("scales", Array::f32(&[picked.len()], &picked)));
        }
        if let Some(values) = array.as_i64() {
            let picked: Vec<i64> = places.iter().map(|i| values[*i]).collect();
            return Ok(ctx.vector(node, &picked));
        }
    }
    let indices: Vec<i64> = places.iter().map(|i| *i as i64).collect();
    let indices = ctx.vector(node, &indices);
    Ok(ctx.emit(node, Op::Gather { axis: 0 }, &[Some(id), Some(indices)]))
}
