//! Operators that cut and pad.

use super::{NOW, Operator, Types, op, positions};
use crate::import::onnx::ctx::{Ctx, Formula};
use crate::import::onnx::node::{NodeView, OpError, malformed, unknown, unsupported};
use crate::import::onnx::ranks::Extent;
use crate::import::onnx::tensors::from_f64;
use edge_runtime::graph::{DType, Op, PadMode, ValueId};

/// The table.
pub const OPERATORS: &[Operator] = &[
    op("Slice", (1, 9), (1, 1), Types::Any, &["axes", "ends", "starts"], slice_attributes),
    op("Slice", (10, NOW), (3, 5), Types::Any, &[], slice),
    op("Split", (1, 1), (1, 2), Types::Any, &["axis", "split"], split),
    op("Split", (2, 12), (1, 1), Types::Any, &["axis", "split"], split),
    op("Split", (13, 17), (1, 2), Types::Any, &["axis"], split),
    op("Split", (18, NOW), (1, 2), Types::Any, &["axis", "num_outputs"], split),
    op("Pad", (1, 1), (1, 1), Types::Any, &["mode", "paddings", "value"], pad_attributes),
    op("Pad", (2, 10), (1, 1), Types::Any, &["mode", "pads", "value"], pad_attributes),
    op("Pad", (11, 17), (2, 3), Types::Any, &["mode"], pad),
    op("Pad", (18, NOW), (2, 4), Types::Any, &["mode"], pad),
    op("CenterCropPad", (18, NOW), (2, 2), Types::Any, &["axes"], center_crop_pad),
];

/// Cuts or pads both ends alike, an odd element behind.
fn center_crop_pad<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>) -> Result<(), OpError> {
    let x = ctx.operand(node, 0)?;
    let wanted = ctx.indices(node, 1)?;
    let rank = ctx.rank(x)?;
    let all: Vec<i64> = (0..rank as i64).collect();
    let axes = ctx.axes(x, node.ints("axes")?.unwrap_or(&all))?;
    if ctx.fact(wanted).size(0).is_some_and(|n| n != axes.len()) {
        return malformed(format!("a shape of another length than the {} axes", axes.len()));
    }
    let mut f = ctx.formula(node);
    let places: Vec<i64> = axes.iter().map(|a| i64::from(*a)).collect();
    let places = f.integers(&[places.len()], &places);
    let sizes = f.shape(x, 0, None);
    let sizes = f.op(Op::Gather { axis: 0 }, &[sizes, places]);
    let (zero, two) = (f.integer(0), f.integer(2));
    let half = |f: &mut Formula, from: ValueId, less: ValueId| {
        let difference = f.sub(from, less);
        let difference = f.max(difference, zero);
        f.div(difference, two)
    };
    let start = half(&mut f, sizes, wanted);
    let end = f.add(start, wanted);
    let y = f.op(Op::Slice { axes: axes.clone() }, &[x, start, end]);
    let before = half(&mut f, wanted, sizes);
    let missing = f.sub(wanted, sizes);
    let missing = f.max(missing, zero);
    let after = f.sub(missing, before);
    let pads = f.concat(0, &[before, after]);
    let y = f.op(Op::Pad { mode: PadMode::Constant, axes }, &[y, pads]);
    ctx.set(node, 0, y)
}

fn slice_attributes<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>) -> Result<(), OpError> {
    let (Some(starts), Some(ends)) = (node.ints("starts")?, node.ints("ends")?) else {
        return malformed("attributes `starts` and `ends` are both needed");
    };
    let x = ctx.operand(node, 0)?;
    let default: Vec<i64> = (0..starts.len() as i64).collect();
    let axes = ctx.axes(x, node.ints("axes")?.unwrap_or(&default))?;
    if starts.len() != axes.len() || ends.len() != axes.len() {
        return malformed(format!("starts {starts:?}, ends {ends:?}, axes {axes:?}"));
    }
    let (starts, ends) = (ctx.vector(node, starts), ctx.vector(node, ends));
    let y = ctx.emit(node, Op::Slice { axes }, &[Some(x), Some(starts), Some(ends)]);
    ctx.set(node, 0, y)
}

fn slice<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>) -> Result<(), OpError> {
    let x = ctx.operand(node, 0)?;
    let (starts, ends) = (ctx.indices(node, 1)?, ctx.indices(node, 2)?);
    let steps = match node.input(4) {
        Some(_) => Some(ctx.indices(node, 4)?),
        None => None,
    };
    let length = [Some(starts), Some(ends), steps].into_iter().flatten().find_map(|id| ctx.fact(id).size(0));
    let given = match node.input(3) {
        Some(_) => match ctx.known(node, 3)? {
            Some(axes) => axes,
            None => {
                let axes = ctx.indices(node, 3)?;
                let rank = ctx.rank(x)?;
                let mut f = ctx.formula(node);
                let (starts, ends) =
                    (f.at_axes(axes, starts, 0, rank), f.at_axes(axes, ends, i64::MAX, rank));
                let steps = match steps {
                    Some(steps) => f.at_axes(axes, steps, 1, rank),
                    None => f.integers(&[rank], &vec![1; rank]),
                };
                let y = f.op(Op::Slice { axes: (0..rank as i32).collect() }, &[x, starts, ends, steps]);
                return ctx.set(node, 0, y);
            }
        },
        None => match length {
            // As many as a file says that gives none of them.
            Some(length) if length > MOST_AXES => return malformed(format!("starts for {length} axes")),
            Some(length) => (0..length as i64).collect(),
            None => return unknown("the length of `starts`"),
        },
    };
    let axes = ctx.axes(x, &given)?;
    for id in [Some(starts), Some(ends), steps].into_iter().flatten() {
        if ctx.fact(id).size(0).is_some_and(|n| n != axes.len()) {
            return malformed(format!("{} axes, another number of starts, ends or steps", axes.len()));
        }
    }
    if let Some(steps) = steps.and_then(|s| ctx.fact(s).known()).filter(|s| s.contains(&0)) {
        return malformed(format!("steps {steps:?}"));
    }
    let one_by_one = steps.is_none_or(|s| ctx.fact(s).known().is_some_and(|s| s == [1]));
    if let (&[axis], true) = (&axes[..], one_by_one)
        && let Some(stretch) = positions::stretch(ctx, starts, ends)
    {
        let places = positions::places(ctx, node, starts, stretch.count);
        let y = ctx.emit(node, Op::Gather { axis }, &[Some(x), Some(places)]);
        return ctx.set(node, 0, y);
    }
    if let (&[axis], true, Some([0])) = (&axes[..], one_by_one, ctx.fact(starts).known().as_deref())
        && positions::of_a_run(ctx, ends)
        && ctx.fact(x).extent == Extent::Whole
        && let Ok(axis) = usize::try_from(axis)
    {
        let count = positions::filled(ctx, node, x, axis, ends);
        let y = ctx.emit(node, Op::Identity, &[Some(x)]);
        ctx.mark_part(y, axis, count);
        return ctx.set(node, 0, y);
    }
    let y = ctx.emit(node, Op::Slice { axes }, &[Some(x), Some(starts), Some(ends), steps]);
    ctx.set(node, 0, y)
}

fn split<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>) -> Result<(), OpError> {
    let x = ctx.operand(node, 0)?;
    let axis = ctx.axis(x, node.int("axis", 0)?)?;
    let parts = node.proto.output.len();
    if parts == 0 {
        return malformed("no results");
    }
    let size = usize::try_from(axis).ok().and_then(|a| ctx.fact(x).size(a));
    let sizes = match (node.ints("split")?, node.input(1), node.int_if("num_outputs")?) {
        (Some(sizes), ..) => Some(ctx.vector(node, sizes)),
        (None, Some(_), _) => Some(ctx.indices(node, 1)?),
        (None, None, Some(count)) => {
            if count != parts as i64 {
                return malformed(format!("num_outputs {count}, but {parts} results"));
            }
            uneven(ctx, node, size, parts)
        }
        (None, None, None) => {
            if let Some(size) = size.filter(|s| !s.is_multiple_of(parts)) {
                return malformed(format!("{size} elements in {parts} equal parts"));
            }
            None
        }
    };
    if let Some(known) = sizes.and_then(|s| ctx.fact(s).known()) {
        let negative = known.iter().any(|s| *s < 0);
        let total = known.iter().try_fold(0i64, |t, s| t.checked_add(*s));
        if known.len() != parts || negative || size.is_some_and(|s| total != Some(s as i64)) {
            return malformed(format!("parts {known:?} of {size:?} elements for {parts} results"));
        }
    }
    ctx.emit_results(node, Op::Split { axis }, &[Some(x), sizes])
}

/// `num_outputs`: equal parts, the last one smaller where they do not come out even. A size that is not known must come out even;
/// the planner refuses it otherwise.
fn uneven<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>, size: Option<usize>, parts: usize) -> Option<ValueId> {
    let size = size.filter(|s| !s.is_multiple_of(parts))?;
    let each = size.div_ceil(parts);
    let part = |i: usize| size.saturating_sub(i * each).min(each) as i64;
    let sizes: Vec<i64> = (0..parts).map(part).collect();
    Some(ctx.vector(node, &sizes))
}

fn mode(node: &NodeView) -> Result<PadMode, OpError> {
    match node.string("mode", "constant")? {
        "constant" => Ok(PadMode::Constant),
        "reflect" => Ok(PadMode::Reflect),
        "edge" => Ok(PadMode::Edge),
        "wrap" => Ok(PadMode::Wrap),
        other => malformed(format!("mode {other:?}")),
    }
}

fn pad_attributes<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>) -> Result<(), OpError> {
    let name = if node.opset < 2 { "paddings" } else { "pads" };
    let Some(pads) = node.ints(name)? else { return malformed(format!("attribute `{name}` is missing")) };
    let x = ctx.operand(node, 0)?;
    let Some(dtype) = ctx.fact(x).dtype else { return unknown("the operand's element type") };
    if !pads.len().is_multiple_of(2) || ctx.fact(x).rank().is_some_and(|r| r * 2 != pads.len()) {
        return malformed(format!("pads {pads:?}"));
    }
    let axes = (0..pads.len() as i32 / 2).collect();
    let value = match node.float("value", 0.0)? {
        0.0 => None,
        value => Some(ctx.constant("value", from_f64(dtype, &[], &[f64::from(value)]))),
    };
    let pads = ctx.vector(node, pads);
    let y = ctx.emit(node, Op::Pad { mode: mode(node)?, axes }, &[Some(x), Some(pads), value]);
    ctx.set(node, 0, y)
}

/// Most dimensions of a shape, as in packs.
const MOST_AXES: usize = 16;

fn pad<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>) -> Result<(), OpError> {
    let mode = mode(node)?;
    if mode == PadMode::Wrap && node.opset < 19 {
        return unsupported("attribute mode=\"wrap\" is not implemented before opset 19");
    }
    let x = ctx.operand(node, 0)?;
    let pads = ctx.indices(node, 1)?;
    let value = ctx.optional(node, 2)?;
    let axes = match node.input(3) {
        Some(_) => match ctx.known(node, 3)? {
            Some(axes) => ctx.axes(x, &axes)?,
            None => {
                let axes = ctx.indices(node, 3)?;
                let rank = ctx.rank(x)?;
                let Some(count) = ctx.fact(axes).size(0) else { return unknown("the number of axes") };
                let mut f = ctx.formula(node);
                let (before, after) =
                    (f.slice(pads, 0, 0, count as i64), f.slice(pads, 0, count as i64, 2 * count as i64));
                let (before, after) = (f.at_axes(axes, before, 0, rank), f.at_axes(axes, after, 0, rank));
                let pads = f.concat(0, &[before, after]);
                let y = padded(ctx, node, x, pads, (mode, (0..rank as i32).collect(), value));
                return ctx.set(node, 0, y);
            }
        },
        None => {
            let rank = ctx.fact(x).rank().or(ctx.fact(pads).size(0).map(|n| n / 2));
            match rank {
                // As many as a file says that gives none of them.
                Some(rank) if rank > MOST_AXES => return malformed(format!("pads for {rank} axes")),
                Some(rank) => (0..rank as i32).collect(),
                None => return unknown(format!("the rank of `{}`", ctx.model.graph.name(x))),
            }
        }
    };
    if let Some(n) = ctx.fact(pads).size(0).filter(|n| *n != 2 * axes.len()) {
        return malformed(format!("{n} pads for {} axes", axes.len()));
    }
    let y = padded(ctx, node, x, pads, (mode, axes, value));
    ctx.set(node, 0, y)
}

/// The padding itself. A value that is not stored is chosen where a picture of the operand's elements is empty.
fn padded<'m>(
    ctx: &mut Ctx<'m>,
    node: &NodeView<'m>,
    x: ValueId,
    pads: ValueId,
    (mode, axes, value): (PadMode, Vec<i32>, Option<ValueId>),
) -> ValueId {
    let op = Op::Pad { mode, axes };
    match value.filter(|v| mode == PadMode::Constant && ctx.model.constant(*v).is_none()) {
        None => ctx.emit(node, op, &[Some(x), Some(pads), value]),
        Some(value) => {
            let mut f = ctx.formula(node);
            let shape = f.shape(x, 0, None);
            let truth = f.op(Op::ConstantOfShape { dtype: DType::Bool, value: vec![1] }, &[shape]);
            let (y, truth) = (f.op(op.clone(), &[x, pads]), f.op(op, &[truth, pads]));
            f.select(truth, y, value)
        }
    }
}
