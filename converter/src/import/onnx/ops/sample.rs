//! Grids: the positions that a picture is read at.

use super::taps::{Kernel, Outside};
use super::{NOW, Operator, Types, op};
use crate::import::onnx::ctx::{Ctx, Formula};
use crate::import::onnx::node::{NodeView, OpError, malformed, unknown, unsupported};
use edge_runtime::graph::{DType, Op, ValueId};

const GRID: &[&str] = &["align_corners", "mode", "padding_mode"];

/// The table.
pub const OPERATORS: &[Operator] = &[
    op("GridSample", (16, NOW), (2, 2), Types::Float, GRID, grid_sample),
    op("AffineGrid", (20, NOW), (2, 2), Types::Float, &["align_corners"], affine_grid),
];

/// Operand `i` as `f32`.
pub fn real<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>, i: usize) -> Result<ValueId, OpError> {
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
            // Every further dimension doubles the corners of a cell.
            Some(6..) => return unsupported("more than 3 spatial dimensions are not implemented"),
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
