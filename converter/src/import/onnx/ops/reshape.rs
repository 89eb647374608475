//! Operators that move or rename dimensions.

use super::{MANY, NOW, Operator, Types, op};
use crate::import::onnx::ctx::Ctx;
use crate::import::onnx::node::{NodeView, OpError, axis, malformed, unknown, unsupported};
use edge_runtime::graph::{Op, ValueId};

/// The table.
pub const OPERATORS: &[Operator] = &[
    op("Transpose", (1, NOW), (1, 1), Types::Any, &["perm"], transpose),
    op("Reshape", (1, 4), (1, 1), Types::Any, &["consumed_inputs", "shape"], reshape_attribute),
    op("Reshape", (5, 13), (2, 2), Types::Any, &[], reshape),
    op("Reshape", (14, NOW), (2, 2), Types::Any, &["allowzero"], reshape),
    op("Squeeze", (1, 12), (1, 1), Types::Any, &["axes"], squeeze),
    op("Squeeze", (13, NOW), (1, 2), Types::Any, &[], squeeze),
    op("Unsqueeze", (1, 12), (1, 1), Types::Any, &["axes"], unsqueeze),
    op("Unsqueeze", (13, NOW), (2, 2), Types::Any, &[], unsqueeze),
    op("Flatten", (1, NOW), (1, 1), Types::Any, &["axis"], flatten),
    op("Concat", (1, 3), (1, MANY), Types::Any, &["axis"], |c, n| concat(c, n, Some(1))),
    op("Concat", (4, NOW), (1, MANY), Types::Any, &["axis"], |c, n| concat(c, n, None)),
    op("Expand", (8, NOW), (2, 2), Types::Any, &[], expand),
    op("Tile", (6, NOW), (2, 2), Types::Any, &[], tile),
    op("DepthToSpace", (1, 10), (1, 1), Types::Any, &["blocksize"], depth_to_space),
    op("DepthToSpace", (11, NOW), (1, 1), Types::Any, &["blocksize", "mode"], depth_to_space),
    op("SpaceToDepth", (1, NOW), (1, 1), Types::Any, &["blocksize"], space_to_depth),
];

fn transpose<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>) -> Result<(), OpError> {
    let x = ctx.operand(node, 0)?;
    let perm = node.sizes("perm", 0)?.unwrap_or_default();
    let mut sorted = perm.clone();
    sorted.sort_unstable();
    let rank = ctx.fact(x).rank();
    let fits = perm.is_empty() || rank.is_none_or(|r| r == perm.len());
    if !fits || sorted.iter().enumerate().any(|(i, p)| i != *p) {
        return malformed(format!("perm {perm:?}"));
    }
    let y = ctx.transpose(node, x, &perm);
    ctx.set(node, 0, y)
}

fn reshape_attribute<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>) -> Result<(), OpError> {
    let Some(shape) = node.ints("shape")? else { return malformed("attribute `shape` is missing") };
    let x = ctx.operand(node, 0)?;
    let shape = ctx.vector(node, shape);
    let y = ctx.emit(node, Op::Reshape { allow_zero: false }, &[Some(x), Some(shape)]);
    ctx.set(node, 0, y)
}

fn reshape<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>) -> Result<(), OpError> {
    let allow_zero = node.flag("allowzero", false)?;
    let x = ctx.operand(node, 0)?;
    if let Some(shape) = ctx.known(node, 1)? {
        let rests = shape.iter().filter(|s| **s == -1).count();
        if rests > 1 || shape.iter().any(|s| *s < -1) {
            return malformed(format!("shape {shape:?}"));
        }
    }
    let shape = ctx.indices(node, 1)?;
    let y = ctx.emit(node, Op::Reshape { allow_zero }, &[Some(x), Some(shape)]);
    ctx.set(node, 0, y)
}

/// Most axes that only the planner knows.
const MAX_AXES: usize = 64;

/// Axes of Squeeze and Unsqueeze.
enum Axes {
    /// Left out.
    None,
    /// Given as an attribute, or, since opset 13, as an operand that is known.
    Known(Vec<i64>),
    /// An operand that only the planner knows, of so many axes.
    Computed(ValueId, usize),
}

fn given_axes<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>) -> Result<Axes, OpError> {
    if let Some(axes) = node.ints("axes")? {
        return Ok(Axes::Known(axes.to_vec()));
    }
    if node.input(1).is_none() {
        return Ok(Axes::None);
    }
    if let Some(axes) = ctx.known(node, 1)? {
        return Ok(Axes::Known(axes));
    }
    let axes = ctx.indices(node, 1)?;
    match ctx.fact(axes).size(0) {
        Some(count @ ..=MAX_AXES) => Ok(Axes::Computed(axes, count)),
        Some(count) => unsupported(format!("{count} axes are not implemented")),
        None => unknown("the number of axes"),
    }
}

fn squeeze<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>) -> Result<(), OpError> {
    let x = ctx.operand(node, 0)?;
    let axes = match given_axes(ctx, node)? {
        Axes::None => Vec::new(),
        // No axes at all are not "all of them": nothing is removed.
        Axes::Known(axes) if axes.is_empty() => return ctx.alias(node),
        Axes::Known(axes) => ctx.axes(x, &axes)?,
        Axes::Computed(axes, count) => {
            let rank = ctx.rank(x)?;
            if count > rank {
                return malformed(format!("{count} axes of {rank} dimensions"));
            }
            let y = ctx.formula(node).squeeze_at(x, axes, (rank, count));
            return ctx.set(node, 0, y);
        }
    };
    for axis in &axes {
        let size = usize::try_from(*axis).ok().and_then(|a| ctx.fact(x).size(a));
        if let Some(size) = size.filter(|s| *s != 1) {
            return malformed(format!("axis {axis} of size {size} cannot be removed"));
        }
    }
    let y = ctx.emit(node, Op::Squeeze { axes }, &[Some(x)]);
    ctx.set(node, 0, y)
}

fn unsqueeze<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>) -> Result<(), OpError> {
    let x = ctx.operand(node, 0)?;
    let given = match given_axes(ctx, node)? {
        Axes::None => return malformed("axes are missing"),
        Axes::Known(given) => given,
        Axes::Computed(axes, count) => {
            let rank = ctx.rank(x)?;
            let y = ctx.formula(node).unsqueeze_at(x, axes, (rank, count));
            return ctx.set(node, 0, y);
        }
    };
    if given.is_empty() {
        return ctx.alias(node);
    }
    let mut axes: Vec<i32> = given.iter().map(|a| axis(*a)).collect::<Result<_, _>>()?;
    if let Some(rank) = ctx.fact(x).rank() {
        let rank = (rank + axes.len()) as i32;
        axes.iter_mut().filter(|a| **a < 0).for_each(|a| *a = a.saturating_add(rank));
        axes.sort_unstable();
        let outside = axes.iter().any(|a| !(0..rank).contains(a));
        if outside || axes.windows(2).any(|w| w[0] == w[1]) {
            return malformed(format!("axes {given:?} for a result of {rank} dimensions"));
        }
    }
    let y = ctx.emit(node, Op::Unsqueeze { axes }, &[Some(x)]);
    ctx.set(node, 0, y)
}

fn flatten<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>) -> Result<(), OpError> {
    let x = ctx.operand(node, 0)?;
    let given = node.int("axis", 1)?;
    // Splitting behind the last dimension is allowed, so the axis is not that of a dimension.
    let axis = match ctx.fact(x).rank().map(|r| r as i64) {
        Some(rank) if !(-rank..=rank).contains(&given) => {
            return malformed(format!("axis {given} of {rank} dimensions"));
        }
        Some(rank) if given < 0 => (given + rank) as i32,
        _ => axis(given)?,
    };
    let y = ctx.emit(node, Op::Flatten { axis }, &[Some(x)]);
    ctx.set(node, 0, y)
}

fn concat<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>, default: Option<i64>) -> Result<(), OpError> {
    let Some(axis) = node.int_if("axis")?.or(default) else {
        return malformed("attribute `axis` is missing");
    };
    let mut inputs = Vec::with_capacity(node.inputs());
    for i in 0..node.inputs() {
        inputs.push(Some(ctx.operand(node, i)?));
    }
    if let [Some(_)] = inputs.as_slice() {
        return ctx.alias(node);
    }
    let ranked = inputs.iter().flatten().copied().find(|id| ctx.fact(*id).rank().is_some());
    let axis = match ranked {
        Some(id) => ctx.axis(id, axis)?,
        None => super::super::node::axis(axis)?,
    };
    let y = ctx.emit(node, Op::Concat { axis }, &inputs);
    ctx.set(node, 0, y)
}

fn expand<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>) -> Result<(), OpError> {
    let x = ctx.operand(node, 0)?;
    let shape = ctx.indices(node, 1)?;
    let y = ctx.emit(node, Op::Expand, &[Some(x), Some(shape)]);
    ctx.set(node, 0, y)
}

fn tile<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>) -> Result<(), OpError> {
    let x = ctx.operand(node, 0)?;
    let repeats = ctx.indices(node, 1)?;
    let y = ctx.emit(node, Op::Tile, &[Some(x), Some(repeats)]);
    ctx.set(node, 0, y)
}

fn blocks<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>) -> Result<(ValueId, i64), OpError> {
    let x = ctx.operand(node, 0)?;
    if ctx.rank(x)? != 4 {
        return malformed("an operand that has not 4 dimensions");
    }
    match node.int("blocksize", 0)? {
        block @ 1..=0xffff => Ok((x, block)),
        block => malformed(format!("blocksize {block}")),
    }
}

/// Appends a reshape to the vectors `parts` joined.
fn reshape_to<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>, x: ValueId, parts: &[ValueId]) -> ValueId {
    let parts: Vec<Option<ValueId>> = parts.iter().copied().map(Some).collect();
    let shape = match parts.as_slice() {
        [one] => *one,
        _ => Some(ctx.emit(node, Op::Concat { axis: 0 }, &parts)),
    };
    ctx.emit(node, Op::Reshape { allow_zero: false }, &[Some(x), shape])
}

/// Height and width of a channels-first operand, as numbers where both are known, else computed.
fn height_width<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>, x: ValueId) -> Result<[i64; 2], ValueId> {
    match (ctx.fact(x).size(2), ctx.fact(x).size(3)) {
        (Some(h), Some(w)) => Ok([h as i64, w as i64]),
        _ => Err(ctx.emit(node, Op::Shape { start: 2, end: Some(4) }, &[Some(x)])),
    }
}

fn depth_to_space<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>) -> Result<(), OpError> {
    use edge_runtime::graph::BinaryOp::Mul;
    let (x, block) = blocks(ctx, node)?;
    // Channels are (block row, block column, channel) or, in CRD, (channel, block row, block column).
    let (split, perm) = match node.string("mode", "DCR")? {
        "DCR" => ([0, 0, 0, block, block, -1], [0, 1, 3, 2, 4, 5]),
        "CRD" => ([0, 0, 0, -1, block, block], [0, 1, 4, 2, 5, 3]),
        mode => return malformed(format!("mode {mode:?}")),
    };
    let sizes = height_width(ctx, node, x);
    let x = ctx.channels_last(node, x, 4);
    let split = ctx.vector(node, &split);
    let x = reshape_to(ctx, node, x, &[split]);
    let x = ctx.transpose(node, x, &perm);
    let parts = match sizes {
        Ok([h, w]) => vec![ctx.vector(node, &[0, h.saturating_mul(block), w.saturating_mul(block), -1])],
        Err(sizes) => {
            let factor = ctx.vector(node, &[block, block]);
            let sizes = ctx.emit(node, Op::Binary(Mul), &[Some(sizes), Some(factor)]);
            vec![ctx.vector(node, &[0]), sizes, ctx.vector(node, &[-1])]
        }
    };
    let y = reshape_to(ctx, node, x, &parts);
    let y = ctx.channels_first(node, y, 4);
    ctx.set(node, 0, y)
}

fn space_to_depth<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>) -> Result<(), OpError> {
    use edge_runtime::graph::BinaryOp::Div;
    let (x, block) = blocks(ctx, node)?;
    let sizes = height_width(ctx, node, x);
    let x = ctx.channels_last(node, x, 4);
    let parts = match sizes {
        Ok([h, w]) => vec![ctx.vector(node, &[0, h / block, block, w / block, block, -1])],
        Err(sizes) => {
            let factor = ctx.vector(node, &[block, block]);
            let sizes = ctx.emit(node, Op::Binary(Div), &[Some(sizes), Some(factor)]);
            let one = |ctx: &mut Ctx<'m>, i: i64| {
                let index = ctx.vector(node, &[i]);
                ctx.emit(node, Op::Gather { axis: 0 }, &[Some(sizes), Some(index)])
            };
            let (h, w) = (one(ctx, 0), one(ctx, 1));
            let (zero, side, rest) =
                (ctx.vector(node, &[0]), ctx.vector(node, &[block]), ctx.vector(node, &[-1]));
            vec![zero, h, side, w, side, rest]
        }
    };
    let x = reshape_to(ctx, node, x, &parts);
    let x = ctx.transpose(node, x, &[0, 1, 3, 2, 4, 5]);
    // Block row, block column and channel become the channels: all that is left.
    let shape = ctx.vector(node, &[0, 0, 0, -1]);
    let y = reshape_to(ctx, node, x, &[shape]);
    let y = ctx.channels_first(node, y, 4);
    ctx.set(node, 0, y)
}
