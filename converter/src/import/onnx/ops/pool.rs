//! Pooling.

use super::window::window;
use super::{NOW, Operator, Types, op};
use crate::import::onnx::ctx::Ctx;
use crate::import::onnx::node::{NodeView, OpError, malformed};
use edge_runtime::graph::{Op, PoolKind, ReduceOp};

const MAX: &[&str] =
    &["auto_pad", "ceil_mode", "dilations", "kernel_shape", "pads", "storage_order", "strides"];
const AVERAGE: &[&str] =
    &["auto_pad", "ceil_mode", "count_include_pad", "dilations", "kernel_shape", "pads", "strides"];

/// The table.
pub const OPERATORS: &[Operator] = &[
    op("MaxPool", (1, NOW), (1, 1), Types::Number, MAX, max_pool),
    op("AveragePool", (1, NOW), (1, 1), Types::Float, AVERAGE, average_pool),
    op("GlobalMaxPool", (1, NOW), (1, 1), Types::Float, &[], |c, n| global(c, n, ReduceOp::Max)),
    op("GlobalAveragePool", (1, NOW), (1, 1), Types::Float, &[], |c, n| global(c, n, ReduceOp::Mean)),
];

fn max_pool<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>) -> Result<(), OpError> {
    // `storage_order` is about the indices alone.
    node.no_output(1, "indices")?;
    pool(ctx, node, PoolKind::Max)
}

fn average_pool<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>) -> Result<(), OpError> {
    let include_pad = node.flag("count_include_pad", false)?;
    pool(ctx, node, PoolKind::Average { include_pad })
}

fn pool<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>, kind: PoolKind) -> Result<(), OpError> {
    let told = node.ints("kernel_shape")?.map(|k| k.len() + 2);
    let (x, rank) = ctx.spatial(node, told)?;
    let window = window(node, rank, None)?;
    let ceil_mode = node.flag("ceil_mode", false)?;
    let x = ctx.channels_last(node, x, rank);
    let y = ctx.emit(node, Op::Pool { kind, window, ceil_mode }, &[Some(x)]);
    let y = ctx.channels_first(node, y, rank);
    ctx.set(node, 0, y)
}

/// Over all spatial dimensions: a reduction.
fn global<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>, kind: ReduceOp) -> Result<(), OpError> {
    let x = ctx.operand(node, 0)?;
    let rank = ctx.rank(x)?;
    if rank < 2 {
        return malformed(format!("an operand of rank {rank} has no channels"));
    }
    let reduce = |axes: std::ops::Range<usize>| Op::Reduce {
        kind,
        axes: axes.map(|a| a as i32).collect(),
        keep_dims: true,
    };
    let y = if matches!(rank, 3 | 4) {
        let x = ctx.channels_last(node, x, rank);
        let y = ctx.emit(node, reduce(1..rank - 1), &[Some(x)]);
        ctx.channels_first(node, y, rank)
    } else {
        ctx.emit(node, reduce(2..rank), &[Some(x)])
    };
    ctx.set(node, 0, y)
}
