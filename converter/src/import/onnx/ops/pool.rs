//! Pooling.

use super::window::{Border, Sliding, sliding, window};
use super::{NOW, Operator, Types, op, volume};
use crate::import::onnx::ctx::Ctx;
use crate::import::onnx::node::{NodeView, OpError, malformed, unknown, unsupported};

use edge_runtime::graph::{
    BinaryOp, DType, Op, PadMode, Pads, PoolKind, ReduceOp, ScatterReduction, UnaryOp, ValueId,
};

const MAX: &[&str] =
    &["auto_pad", "ceil_mode", "dilations", "kernel_shape", "pads", "storage_order", "strides"];
const AVERAGE: &[&str] =
    &["auto_pad", "ceil_mode", "count_include_pad", "dilations", "kernel_shape", "pads", "strides"];

const LP: &[&str] = &["auto_pad", "ceil_mode", "dilations", "kernel_shape", "p", "pads", "strides"];

/// The table.
pub const OPERATORS: &[Operator] = &[
    op("MaxPool", (1, NOW), (1, 1), Types::Number, MAX, max_pool),
    op("Col2Im", (18, NOW), (3, 3), Types::Float, &["dilations", "pads", "strides"], col_to_im),
    op("MaxUnpool", (9, NOW), (2, 3), Types::Float, &["kernel_shape", "pads", "strides"], max_unpool),
    op("AveragePool", (1, NOW), (1, 1), Types::Float, AVERAGE, average_pool),
    op("LpPool", (2, NOW), (1, 1), Types::Float, LP, lp_pool),
    op("GlobalMaxPool", (1, NOW), (1, 1), Types::Float, &[], |c, n| global(c, n, ReduceOp::Max)),
    op("GlobalAveragePool", (1, NOW), (1, 1), Types::Float, &[], |c, n| global(c, n, ReduceOp::Mean)),
];

fn max_pool<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>) -> Result<(), OpError> {
    pool(ctx, node, PoolKind::Max)?;
    // `storage_order` is about the indices alone.
    if node.output(1).is_some() { places(ctx, node) } else { Ok(()) }
}

fn average_pool<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>) -> Result<(), OpError> {
    let include_pad = node.flag("count_include_pad", false)?;
    pool(ctx, node, PoolKind::Average { include_pad })
}

fn pool<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>, kind: PoolKind) -> Result<(), OpError> {
    let told = node.ints("kernel_shape")?.map(|k| k.len() + 2);
    let ceil_mode = node.flag("ceil_mode", false)?;
    if told == Some(5) {
        let y = volume::pool(ctx, node, kind, ceil_mode)?;
        return ctx.set(node, 0, y);
    }
    let (x, rank) = ctx.spatial(node, told)?;
    let y = by_window(ctx, node, x, (kind, rank), false)?;
    ctx.set(node, 0, y)
}

/// A value of two spatial dimensions or one pooled as the node's attributes say, its channels second or last.
pub fn pooled<'m>(
    ctx: &mut Ctx<'m>,
    node: &NodeView<'m>,
    x: ValueId,
    kind: PoolKind,
    last: bool,
) -> Result<ValueId, OpError> {
    match ctx.rank(x)? {
        rank @ (3 | 4) => by_window(ctx, node, x, (kind, rank), last),
        rank => unsupported(format!("an operand of rank {rank} is not implemented")),
    }
}

fn by_window<'m>(
    ctx: &mut Ctx<'m>,
    node: &NodeView<'m>,
    x: ValueId,
    (kind, rank): (PoolKind, usize),
    last: bool,
) -> Result<ValueId, OpError> {
    let (window, ceil_mode) = (window(node, rank, None)?, node.flag("ceil_mode", false)?);
    let x = if last { x } else { ctx.channels_last(node, x, rank) };
    let y = ctx.emit(node, Op::Pool { kind, window, ceil_mode }, &[Some(x)]);
    Ok(if last { y } else { ctx.channels_first(node, y, rank) })
}

/// `(sum |x|^p)^(1/p)`: the mean of the powers, padding counted as zeros, times the number of taps.
fn lp_pool<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>) -> Result<(), OpError> {
    let p = match node.int("p", 2)? {
        p @ 1..=64 => p as f64,
        p => return malformed(format!("p {p}")),
    };
    if node.flag("ceil_mode", false)? {
        // The mean over a window that goes beyond the padding is of fewer taps.
        return unsupported("attribute ceil_mode=1 is not implemented");
    }
    let x = ctx.operand(node, 0)?;
    let Some(dtype) = ctx.fact(x).dtype else { return unknown("the operand's element type") };
    let (x, rank) = ctx.spatial(node, node.ints("kernel_shape")?.map(|k| k.len() + 2))?;
    let window = window(node, rank, None)?;
    if !matches!(window.pads, Pads::Explicit(_)) {
        return unsupported("attribute auto_pad is not implemented");
    }
    let mut f = ctx.formula(node);
    let x = f.cast(x, DType::F32);
    let x = f.unary(UnaryOp::Abs, x);
    let (power, root) = (f.real(p), f.real(1.0 / p));
    let x = f.binary(BinaryOp::Pow, x, power);
    let x = f.ctx.channels_last(node, x, rank);
    let kind = PoolKind::Average { include_pad: true };
    let y = f.op(Op::Pool { kind, window, ceil_mode: false }, &[x]);
    let y = f.times(y, (window.kernel[0] * window.kernel[1]) as f64);
    let y = f.binary(BinaryOp::Pow, y, root);
    let y = f.cast(y, dtype);
    let y = ctx.channels_first(node, y, rank);
    ctx.set(node, 0, y)
}

/// Bytes for each entry of a table of windows: in grids that grow axis by axis, in the table, and in what is made of it.
const ENTRY: usize = 96;

/// For each output, the elements of its window as indices into the picture, `size` where a tap is outside: `[outputs * taps]`, and
/// the numbers of outputs.
fn windows(
    ctx: &mut Ctx,
    sliding: &Sliding,
    sizes: &[usize],
    ceil: bool,
) -> Result<(Vec<i64>, Vec<usize>), OpError> {
    let mut axes = Vec::with_capacity(sizes.len());
    for (i, &size) in sizes.iter().enumerate() {
        let (k, s, d) = (sliding.kernel[i], sliding.stride[i], sliding.dilation[i]);
        let reach = (k - 1) * d + 1;
        let (before, count) = match &sliding.border {
            Border::Explicit(before, after) => {
                let Some(room) = (size + before[i] + after[i]).checked_sub(reach) else {
                    return malformed(format!("a window of {reach} over {size} elements"));
                };
                let mut steps = if ceil { room.div_ceil(s) } else { room / s };
                // A window that would start in the padding behind the input is left out.
                if ceil && steps * s >= size + before[i] {
                    steps -= 1;
                }
                (before[i], steps + 1)
            }
            same => {
                let all = ((size.div_ceil(s).max(1) - 1) * s + reach).saturating_sub(size);
                let upper = matches!(same, Border::SameUpper);
                (if upper { all / 2 } else { all.div_ceil(2) }, size.div_ceil(s))
            }
        };
        let tap = move |o: usize, t: usize| (o * s + t * d).checked_sub(before).filter(|p| *p < size);
        axes.push((count, k, tap));
    }
    let total: usize = sizes.iter().product();
    ctx.table(axes.iter().try_fold(1usize, |n, (o, k, _)| n.checked_mul(o.checked_mul(*k)?)), ENTRY)?;
    // One (outputs, taps) grid after the other.
    let mut grid = vec![vec![Some(0usize)]];
    for ((count, k, tap), &size) in axes.iter().zip(sizes) {
        grid = grid
            .iter()
            .flat_map(|outer| {
                (0..*count).map(move |o| {
                    let taps = outer.iter().flat_map(|base| {
                        (0..*k).map(move |t| base.zip(tap(o, t)).map(|(base, p)| base * size + p))
                    });
                    taps.collect()
                })
            })
            .collect();
    }
    let table = grid.into_iter().flatten().map(|p| p.unwrap_or(total) as i64).collect();
    Ok((table, axes.iter().map(|(count, ..)| *count).collect()))
}

/// The second result of MaxPool: where in the whole operand each greatest element lies.
fn places<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>) -> Result<(), OpError> {
    let x = ctx.operand(node, 0)?;
    let dims: Option<Vec<usize>> = ctx.fact(x).dims.as_ref().and_then(|d| d.iter().copied().collect());
    let Some(dims) = dims.filter(|d| d.len() > 2) else { return unknown("the operand's shape") };
    let sliding = sliding(node, dims.len(), None)?;
    ctx.table(dims[0].checked_mul(dims[1]), 24)?;
    let (table, outputs) = windows(ctx, &sliding, &dims[2..], node.flag("ceil_mode", false)?)?;
    let taps: usize = sliding.kernel.iter().product();
    let (size, count) = (dims[2..].iter().product::<usize>(), table.len() / taps);
    let column_major = node.flag("storage_order", false)? && dims.len() > 3;
    let mut f = ctx.formula(node);
    let flat = f.cast(x, DType::F32);
    let flat = f.reshape(flat, &[0, 0, size as i64]);
    let pads = f.integers(&[2], &[0, 1]);
    let lowest = f.real(f64::NEG_INFINITY);
    let flat = f.op(Op::Pad { mode: PadMode::Constant, axes: vec![2] }, &[flat, pads, lowest]);
    let index = f.integers(&[table.len()], &table);
    let window = f.op(Op::Gather { axis: 2 }, &[flat, index]);
    let window = f.reshape(window, &[0, 0, count as i64, taps as i64]);
    let best = f.op(Op::ArgReduce { max: true, axis: 3, keep_dims: false, last: false }, &[window]);
    let first: Vec<i64> = (0..count).map(|i| (i * taps) as i64).collect();
    let first = f.integers(&[1, 1, count], &first);
    let best = f.add(best, first);
    // An entry of the table names a place in one picture; by columns when asked.
    let strides = |p: i64| {
        let mut rest = p as usize;
        let mut place = vec![0; dims.len() - 2];
        for (slot, d) in place.iter_mut().zip(&dims[2..]).rev() {
            *slot = rest % d;
            rest /= d;
        }
        place.iter().zip(&dims[2..]).rev().fold(0, |n, (p, d)| n * d + p) as i64
    };
    let named: Vec<i64> = if column_major { table.iter().map(|p| strides(*p)).collect() } else { table };
    let named = f.integers(&[named.len()], &named);
    let place = f.op(Op::Gather { axis: 0 }, &[named, best]);
    let planes: Vec<i64> = (0..dims[0] * dims[1]).map(|i| (i * size) as i64).collect();
    let planes = f.integers(&[dims[0], dims[1], 1], &planes);
    let place = f.add(place, planes);
    let shape: Vec<i64> = [0, 0].into_iter().chain(outputs.iter().map(|o| *o as i64)).collect();
    let y = f.reshape(place, &shape);
    ctx.set(node, 1, y)
}

/// Puts each element where the indices say, zeros elsewhere. They count through the shape that the attributes tell.
fn max_unpool<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>) -> Result<(), OpError> {
    let (x, index) = (ctx.operand(node, 0)?, ctx.indices(node, 1)?);
    let dims: Option<Vec<usize>> = ctx.fact(x).dims.as_ref().and_then(|d| d.iter().copied().collect());
    let Some(dims) = dims.filter(|d| d.len() > 2) else { return unknown("the operand's shape") };
    let sliding = sliding(node, dims.len(), None)?;
    let Border::Explicit(before, after) = &sliding.border else { return malformed("attribute `auto_pad`") };
    let mut shape = dims[..2].to_vec();
    for (i, d) in dims[2..].iter().enumerate() {
        let full = (d.max(&1) - 1).saturating_mul(sliding.stride[i]).saturating_add(sliding.kernel[i]);
        let Some(size) = full.checked_sub(before[i] + after[i]) else {
            return malformed("pads beyond the result");
        };
        shape.push(size);
    }
    if node.input(2).is_some() {
        match ctx.known(node, 2)? {
            Some(wanted) if wanted.iter().map(|s| *s as usize).eq(shape.iter().copied()) => {}
            Some(wanted) => {
                return unsupported(format!(
                    "output_shape {wanted:?} is not implemented: the attributes tell {shape:?}, and engines differ"
                ));
            }
            None => return unknown("output_shape, as numbers,"),
        }
    }
    let Some(total) = shape.iter().try_fold(1usize, |n, d| n.checked_mul(*d)) else {
        return malformed(format!("a result of shape {shape:?}"));
    };
    let Some(dtype) = ctx.fact(x).dtype else { return unknown("the operand's element type") };
    let size = ctx.vector(node, &[total as i64]);
    let zeros = vec![0; dtype.bytes()];
    let zeros = ctx.emit(node, Op::ConstantOfShape { dtype, value: zeros }, &[Some(size)]);
    let mut f = ctx.formula(node);
    let (x, index) = (f.reshape(x, &[-1]), f.reshape(index, &[-1]));
    let op = Op::ScatterElements { axis: 0, reduction: ScatterReduction::None };
    let y = f.op(op, &[zeros, index, x]);
    let shape: Vec<i64> = shape.iter().map(|d| *d as i64).collect();
    let y = f.reshape(y, &shape);
    ctx.set(node, 0, y)
}

/// Adds up windows `[N, C * taps, positions]` where they overlap in a picture.
fn col_to_im<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>) -> Result<(), OpError> {
    let x = ctx.operand(node, 0)?;
    let list = |ctx: &mut Ctx<'m>, i: usize, what: &str| match ctx.known(node, i)? {
        Some(list) => {
            let sizes = list.iter().map(|v| usize::try_from(*v).ok().filter(|v| (1..1 << 24).contains(v)));
            sizes.collect::<Option<Vec<usize>>>().map_or_else(|| malformed(format!("{what} {list:?}")), Ok)
        }
        None => unknown(format!("{what}, as numbers,")),
    };
    let (picture, kernel) = (list(ctx, 1, "image_shape")?, list(ctx, 2, "block_shape")?);
    if picture.len() != kernel.len() || picture.is_empty() {
        return malformed(format!("image_shape {picture:?}, block_shape {kernel:?}"));
    }
    let (Some(batch), Some(rows)) = (ctx.fact(x).size(0), ctx.fact(x).size(1)) else {
        return unknown("the operand's shape");
    };
    let sliding = sliding(node, picture.len() + 2, Some(&kernel))?;
    let (table, outputs) = windows(ctx, &sliding, &picture, false)?;
    let (taps, positions) = (kernel.iter().product::<usize>(), outputs.iter().product::<usize>());
    let (channels, size) = (rows / taps, picture.iter().product::<usize>());
    if channels * taps != rows || ctx.fact(x).size(2).is_some_and(|n| n != positions) {
        return malformed(format!("{rows} rows; windows {kernel:?} take {positions} positions"));
    }
    // The table goes by position, the operand by tap.
    let places: Vec<i64> = (0..taps)
        .flat_map(|t| (0..positions).map(move |p| (t, p)))
        .map(|(t, p)| table[p * taps + t])
        .collect();
    let Some(dtype) = ctx.fact(x).dtype else { return unknown("the operand's element type") };
    let planes = (batch as i64).saturating_mul(channels as i64);
    let mut f = ctx.formula(node);
    let x = f.reshape(x, &[planes, places.len() as i64]);
    let index = f.integers(&[1, places.len()], &places);
    let shape = f.ctx.vector(node, &[planes, places.len() as i64]);
    let index = f.op(Op::Expand, &[index, shape]);
    let room = f.ctx.vector(node, &[planes, size as i64 + 1]);
    let room = f.op(Op::ConstantOfShape { dtype, value: vec![0; dtype.bytes()] }, &[room]);
    let op = Op::ScatterElements { axis: 1, reduction: ScatterReduction::Add };
    let y = f.op(op, &[room, index, x]);
    // What fell into the padding lies behind.
    let y = f.slice(y, 1, 0, size as i64);
    let shape: Vec<i64> = [batch, channels].into_iter().chain(picture).map(|d| d as i64).collect();
    let y = f.reshape(y, &shape);
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
