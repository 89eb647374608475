//! Rotary positions: pairs of elements of a head turned by the angle of their position.

use crate::import::onnx::ctx::Ctx;
use crate::import::onnx::node::{NodeView, OpError, malformed};
use edge_runtime::graph::{BinaryOp, Op, ValueId};

/// Where the heads and the positions of an operand stand.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// `[batch, heads, positions, depth]`.
    HeadsFirst,
    /// `[batch, positions, heads, depth]`.
    PositionsFirst,
}

/// What turns the heads: `[batch, positions, width / 2]` or, the same for all of a batch, `[positions, width / 2]`.
#[derive(Clone, Copy)]
pub struct Angles {
    /// Cosines.
    pub cos: ValueId,
    /// Sines.
    pub sin: ValueId,
    /// Elements of each head that are turned, the first ones.
    pub width: usize,
    /// Whether a pair is two neighbours; else its elements are `width / 2` apart.
    pub interleaved: bool,
}

/// Turns the heads of an operand of four dimensions: `(x1 cos - x2 sin, x1 sin + x2 cos)` for each pair.
pub fn rotate<'m>(
    ctx: &mut Ctx<'m>,
    node: &NodeView<'m>,
    x: ValueId,
    layout: Layout,
    angles: &Angles,
) -> Result<ValueId, OpError> {
    let depth = ctx.known_size(x, 3)?;
    let (width, half) = (angles.width, angles.width / 2);
    if width == 0 || width % 2 == 1 || width > depth {
        return malformed(format!("{width} elements to turn of heads of {depth}"));
    }
    for table in [angles.cos, angles.sin] {
        let Some(last) = ctx.rank(table)?.checked_sub(1).filter(|last| *last > 0) else {
            return malformed("angles of fewer than 2 dimensions");
        };
        if let Some(found) = ctx.fact(table).size(last).filter(|s| *s != half) {
            return malformed(format!("{found} angles for {half} pairs"));
        }
    }
    let (mut still, mut turned) = (None, x);
    if width < depth {
        let parts = ctx.split(node, x, 3, &[width, depth - width]);
        (turned, still) = (parts[0], Some(parts[1]));
    }
    let (pairs, axis, sizes) = match angles.interleaved {
        true => (ctx.split_axis(node, turned, 3, [half, 2])?, 4, [1, 1]),
        false => (turned, 3, [half, half]),
    };
    let parts = ctx.split(node, pairs, axis, &sizes);
    // A table stands before the heads' axis, then behind the batch.
    let mut at = vec![if layout == Layout::HeadsFirst { -3 } else { -2 }];
    if angles.interleaved {
        at = vec![at[0] - 1, -1];
    }
    let (cos, sin) = (ctx.unsqueeze(node, angles.cos, &at), ctx.unsqueeze(node, angles.sin, &at));
    let mut product = |x: ValueId, table: ValueId| ctx.binary(node, BinaryOp::Mul, x, table);
    let (real, imaginary) =
        ([product(parts[0], cos), product(parts[1], sin)], [product(parts[0], sin), product(parts[1], cos)]);
    let real = ctx.binary(node, BinaryOp::Sub, real[0], real[1]);
    let imaginary = ctx.binary(node, BinaryOp::Add, imaginary[0], imaginary[1]);
    let mut y = ctx.concat(node, &[real, imaginary], axis);
    if angles.interleaved {
        y = ctx.merge_axes(node, y, 3)?;
    }
    Ok(match still {
        Some(still) => ctx.concat(node, &[y, still], 3),
        None => y,
    })
}

/// The lines of a table `[positions, width / 2]` at `positions`.
pub fn lines<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>, table: ValueId, positions: ValueId) -> ValueId {
    ctx.emit(node, Op::Gather { axis: 0 }, &[Some(table), Some(positions)])
}

/// ONNX's operator.
pub fn embedding<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>) -> Result<(), OpError> {
    let (mut cos, mut sin) = (ctx.operand(node, 1)?, ctx.operand(node, 2)?);
    if node.input(3).is_some() {
        let positions = ctx.indices(node, 3)?;
        (cos, sin) = (lines(ctx, node, cos, positions), lines(ctx, node, sin, positions));
    }
    turned(ctx, node, super::heads(node, "num_heads")?, (cos, sin))
}

/// Operand 0 of an operator with its heads turned. `heads` is needed where it has three dimensions.
pub fn turned<'m>(
    ctx: &mut Ctx<'m>,
    node: &NodeView<'m>,
    heads: Option<usize>,
    (cos, sin): (ValueId, ValueId),
) -> Result<(), OpError> {
    let x = ctx.operand(node, 0)?;
    let (by_heads, layout) = match (ctx.rank(x)?, heads) {
        (4, _) => (x, Layout::HeadsFirst),
        (3, Some(heads)) => {
            let width = ctx.known_size(x, 2)?;
            if !width.is_multiple_of(heads) {
                return malformed(format!("{width} columns in {heads} heads"));
            }
            (ctx.split_axis(node, x, 2, [heads, width / heads])?, Layout::PositionsFirst)
        }
        (3, None) => return malformed("an operand of 3 dimensions needs num_heads"),
        (rank, _) => return malformed(format!("an operand of rank {rank}; 3 or 4 dimensions")),
    };
    let width = match node.int("rotary_embedding_dim", 0)? {
        0 => ctx.known_size(by_heads, 3)?,
        width @ 1..=0x7fff_ffff => width as usize,
        width => return malformed(format!("rotary_embedding_dim {width}")),
    };
    let angles = Angles { cos, sin, width, interleaved: node.flag("interleaved", false)? };
    let y = rotate(ctx, node, by_heads, layout, &angles)?;
    let y = if layout == Layout::PositionsFirst { ctx.merge_axes(node, y, 2)? } else { y };
    ctx.set(node, 0, y)
}
