//! Normalisations.

use super::{NOW, Operator, Types, op};
use crate::import::onnx::ctx::Ctx;
use crate::import::onnx::node::{NodeView, OpError, malformed, unknown, unsupported};
use crate::import::onnx::tensors::{floats, from_f64};
use crate::model::Array;
use edge_runtime::graph::{BinaryOp, DType, Op, ReduceOp, UnaryOp, ValueId};

const BATCH_OLD: &[&str] = &["consumed_inputs", "epsilon", "is_test", "momentum", "spatial"];

/// The table.
pub const OPERATORS: &[Operator] = &[
    op("BatchNormalization", (1, 6), (5, 5), Types::Float, BATCH_OLD, batch_old),
    op("BatchNormalization", (7, 8), (5, 5), Types::Float, &["epsilon", "momentum", "spatial"], batch),
    op("BatchNormalization", (9, 13), (5, 5), Types::Float, &["epsilon", "momentum"], batch),
    op(
        "BatchNormalization",
        (14, NOW),
        (5, 5),
        Types::Float,
        &["epsilon", "momentum", "training_mode"],
        batch,
    ),
    op("InstanceNormalization", (1, NOW), (3, 3), Types::Float, &["consumed_inputs", "epsilon"], instance),
    // Of opset 17, but onnxruntime's optimizer writes it into models of any.
    op("LayerNormalization", (1, NOW), (2, 3), Types::Float, &["axis", "epsilon", "stash_type"], layer),
    op("GroupNormalization", (18, 20), (3, 3), Types::Float, &["epsilon", "num_groups"], group),
    op(
        "GroupNormalization",
        (21, NOW),
        (3, 3),
        Types::Float,
        &["epsilon", "num_groups", "stash_type"],
        group,
    ),
    op("RMSNormalization", (23, NOW), (2, 2), Types::Float, &["axis", "epsilon", "stash_type"], rms),
    // Not of the standard, but of its domain: onnxruntime's optimizer and exporters built on it write it so.
    op(
        "SimplifiedLayerNormalization",
        (1, NOW),
        (2, 2),
        Types::Float,
        &["axis", "epsilon", "stash_type"],
        rms,
    ),
    op("LpNormalization", (1, NOW), (1, 1), Types::Float, &["axis", "p"], lp),
    op("MeanVarianceNormalization", (9, NOW), (1, 1), Types::Float, &["axes"], mean_variance),
    op("LRN", (1, NOW), (1, 1), Types::Float, &["alpha", "beta", "bias", "size"], lrn),
];

fn batch_old<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>) -> Result<(), OpError> {
    if !node.flag("is_test", false)? {
        return unsupported("attribute is_test=0 (training) is not implemented");
    }
    batch(ctx, node)
}

/// `x * a + b` with `a = scale / sqrt(var + epsilon)`, `b = bias - mean * a`, for each channel.
fn batch<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>) -> Result<(), OpError> {
    node.only_int("training_mode", 0)?;
    node.only_int("spatial", 1)?;
    for (i, what) in ["mean", "variance", "saved mean", "saved variance"].into_iter().enumerate() {
        node.no_output(i + 1, what)?;
    }
    let x = ctx.operand(node, 0)?;
    let rank = ctx.rank(x)?;
    let Some(dtype) = ctx.fact(x).dtype else { return unknown("the operand's element type") };
    let epsilon = f64::from(node.float("epsilon", 1e-5)?);
    // Everything behind the channels is 1.
    let ones = rank.saturating_sub(2);
    let arrays = (1..5).map(|i| ctx.array(node, i)).collect::<Result<Option<Vec<Array>>, _>>()?;
    let (a, b) = match arrays {
        Some(arrays) => {
            let mut lists = Vec::with_capacity(4);
            for array in &arrays {
                match wide(array) {
                    Some(values) if values.len() == arrays[0].elements() => lists.push(values),
                    _ => {
                        return malformed(
                            "scale, bias, mean and variance differ in length or hold no floats",
                        );
                    }
                }
            }
            let channels = lists[0].len();
            if let Some(found) = ctx.fact(x).size(1).filter(|c| *c != channels) {
                return malformed(format!("{found} channels; scale has {channels}"));
            }
            let mut dims = vec![1; ones + 1];
            dims[0] = channels;
            let a: Vec<f64> = (0..channels).map(|c| lists[0][c] / (lists[3][c] + epsilon).sqrt()).collect();
            let b: Vec<f64> = (0..channels).map(|c| lists[1][c] - lists[2][c] * a[c]).collect();
            let name = node.input(1).unwrap_or("scale");
            let a = ctx.constant(&format!("{name}/folded"), from_f64(dtype, &dims, &a));
            let name = node.input(2).unwrap_or("bias");
            (a, ctx.constant(&format!("{name}/folded"), from_f64(dtype, &dims, &b)))
        }
        None => computed_batch(ctx, node, epsilon, ones)?,
    };
    let y = ctx.emit(node, Op::Binary(BinaryOp::Mul), &[Some(x), Some(a)]);
    let y = ctx.emit(node, Op::Binary(BinaryOp::Add), &[Some(y), Some(b)]);
    ctx.set(node, 0, y)
}

fn wide(array: &Array) -> Option<Vec<f64>> {
    match array.dtype {
        DType::F64 => Some(array.data.as_chunks::<8>().0.iter().map(|b| f64::from_le_bytes(*b)).collect()),
        _ => Some(floats(array)?.into_iter().map(f64::from).collect()),
    }
}

/// The same from parameters that are computed.
fn computed_batch<'m>(
    ctx: &mut Ctx<'m>,
    node: &NodeView<'m>,
    epsilon: f64,
    ones: usize,
) -> Result<(ValueId, ValueId), OpError> {
    let mut p = [0; 4];
    for (i, p) in p.iter_mut().enumerate() {
        *p = ctx.operand(node, i + 1)?;
    }
    let [scale, bias, mean, var] = p;
    let Some(dtype) = ctx.fact(var).dtype else { return unknown("the variance's element type") };
    let epsilon = ctx.constant("epsilon", from_f64(dtype, &[], &[epsilon]));
    let var = ctx.emit(node, Op::Binary(BinaryOp::Add), &[Some(var), Some(epsilon)]);
    let deviation = ctx.emit(node, Op::Unary(UnaryOp::Sqrt), &[Some(var)]);
    let a = ctx.emit(node, Op::Binary(BinaryOp::Div), &[Some(scale), Some(deviation)]);
    let shift = ctx.emit(node, Op::Binary(BinaryOp::Mul), &[Some(mean), Some(a)]);
    let b = ctx.emit(node, Op::Binary(BinaryOp::Sub), &[Some(bias), Some(shift)]);
    Ok((behind(ctx, node, a, ones), behind(ctx, node, b, ones)))
}

/// `[C]` to `[C, 1, ..]`.
fn behind<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>, x: ValueId, ones: usize) -> ValueId {
    if ones == 0 {
        return x;
    }
    ctx.emit(node, Op::Unsqueeze { axes: (1..=ones as i32).collect() }, &[Some(x)])
}

/// Each channel normalised over space: groups of one channel.
fn instance<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>) -> Result<(), OpError> {
    let (x, rank) = ctx.spatial(node, None)?;
    let scale = ctx.operand(node, 1)?;
    let bias = ctx.operand(node, 2)?;
    let Some(channels) = ctx.fact(x).size(1).or(ctx.fact(scale).size(0)) else {
        return unknown("the number of channels");
    };
    grouped(ctx, node, (x, rank), channels, Some(scale), Some(bias))
}

fn grouped<'m>(
    ctx: &mut Ctx<'m>,
    node: &NodeView<'m>,
    (x, rank): (ValueId, usize),
    groups: usize,
    scale: Option<ValueId>,
    bias: Option<ValueId>,
) -> Result<(), OpError> {
    let epsilon = node.float("epsilon", 1e-5)?;
    let x = ctx.channels_last(node, x, rank);
    let y = ctx.emit(node, Op::GroupNorm { groups, epsilon }, &[Some(x), scale, bias]);
    let y = ctx.channels_first(node, y, rank);
    ctx.set(node, 0, y)
}

fn group<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>) -> Result<(), OpError> {
    let (x, rank) = ctx.spatial(node, None)?;
    let groups = match node.int("num_groups", 0)? {
        g @ 1..=0x7fff_ffff => g as usize,
        g => return malformed(format!("num_groups {g}")),
    };
    let channels = ctx.fact(x).size(1);
    if let Some(c) = channels.filter(|c| !c.is_multiple_of(groups)) {
        return malformed(format!("{c} channels in {groups} groups"));
    }
    let mut parameters = [None; 2];
    for (i, parameter) in parameters.iter_mut().enumerate() {
        let id = ctx.operand(node, i + 1)?;
        *parameter = Some(match (node.opset, channels) {
            (21.., _) => id,
            // Before opset 21 one number a group: repeated for its channels.
            (_, None) => return unknown("the number of channels"),
            (_, Some(channels)) => {
                let each = (channels / groups) as i64;
                let x = ctx.emit(node, Op::Unsqueeze { axes: vec![1] }, &[Some(id)]);
                let shape = ctx.vector(node, &[groups as i64, each]);
                let x = ctx.emit(node, Op::Expand, &[Some(x), Some(shape)]);
                let flat = ctx.vector(node, &[-1]);
                ctx.emit(node, Op::Reshape { allow_zero: false }, &[Some(x), Some(flat)])
            }
        });
    }
    grouped(ctx, node, (x, rank), groups, parameters[0], parameters[1])
}

/// Operand `i` if it has the normalised dimensions as they are; what else is broadcast to them is applied by a node of its own.
fn whole<'m>(
    ctx: &mut Ctx<'m>,
    node: &NodeView<'m>,
    i: usize,
    x: ValueId,
    axis: i32,
) -> Result<bool, OpError> {
    let Some(p) = ctx.optional(node, i)? else { return Ok(true) };
    let (rank, known) = (ctx.fact(x).rank(), ctx.fact(p).dims.clone());
    let (Some(rank), Some(dims)) = (rank, known) else { return unknown("the rank of an operand") };
    let inner = rank - axis as usize;
    // A 1 stands for itself only where the operand is known to be 1 as well.
    let same =
        |(i, d): (usize, &Option<usize>)| *d != Some(1) || ctx.fact(x).size(rank - inner + i) == Some(1);
    Ok(dims.len() == inner && dims.iter().enumerate().all(same))
}

fn layer<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>) -> Result<(), OpError> {
    node.only_int("stash_type", 1)?;
    let x = ctx.operand(node, 0)?;
    let rank = ctx.rank(x)?;
    let axis = ctx.axis(x, node.int("axis", -1)?)?;
    let epsilon = node.float("epsilon", 1e-5)?;
    if node.output(1).is_some() || node.output(2).is_some() {
        moments(ctx, node, x, (axis..rank as i32).collect(), epsilon)?;
    }
    let (scale, bias) = (ctx.operand(node, 1)?, ctx.optional(node, 2)?);
    let op = Op::LayerNorm { axis, epsilon };
    if whole(ctx, node, 1, x, axis)? && whole(ctx, node, 2, x, axis)? {
        let y = ctx.emit(node, op, &[Some(x), Some(scale), bias]);
        return ctx.set(node, 0, y);
    }
    let mut y = ctx.emit(node, op, &[Some(x)]);
    y = ctx.emit(node, Op::Binary(BinaryOp::Mul), &[Some(y), Some(scale)]);
    if bias.is_some() {
        y = ctx.emit(node, Op::Binary(BinaryOp::Add), &[Some(y), bias]);
    }
    ctx.set(node, 0, y)
}

/// Results 1 and 2 of a layer normalisation, in f32: the mean, and `1 / sqrt(variance + epsilon)`.
fn moments<'m>(
    ctx: &mut Ctx<'m>,
    node: &NodeView<'m>,
    x: ValueId,
    axes: Vec<i32>,
    epsilon: f32,
) -> Result<(), OpError> {
    let x = match ctx.fact(x).dtype {
        Some(DType::F32) => x,
        _ => ctx.emit(node, Op::Cast { to: DType::F32 }, &[Some(x)]),
    };
    let average = Op::Reduce { kind: ReduceOp::Mean, axes, keep_dims: true };
    let mean = ctx.emit(node, average.clone(), &[Some(x)]);
    if node.output(1).is_some() {
        ctx.set(node, 1, mean)?;
    }
    if node.output(2).is_none() {
        return Ok(());
    }
    // The spread about the mean, not the mean of squares less a square: the difference would lose small variances.
    let centred = ctx.emit(node, Op::Binary(BinaryOp::Sub), &[Some(x), Some(mean)]);
    let square = ctx.emit(node, Op::Binary(BinaryOp::Mul), &[Some(centred), Some(centred)]);
    let variance = ctx.emit(node, average, &[Some(square)]);
    let epsilon = ctx.constant("epsilon", Array::f32(&[], &[epsilon]));
    let variance = ctx.emit(node, Op::Binary(BinaryOp::Add), &[Some(variance), Some(epsilon)]);
    let deviation = ctx.emit(node, Op::Unary(UnaryOp::Sqrt), &[Some(variance)]);
    let inverse = ctx.emit(node, Op::Unary(UnaryOp::Reciprocal), &[Some(deviation)]);
    ctx.set(node, 2, inverse)
}

fn rms<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>) -> Result<(), OpError> {
    node.only_int("stash_type", 1)?;
    node.no_output(1, "inverse deviation")?;
    let x = ctx.operand(node, 0)?;
    ctx.rank(x)?;
    let axis = ctx.axis(x, node.int("axis", -1)?)?;
    let epsilon = node.float("epsilon", 1e-5)?;
    let scale = ctx.operand(node, 1)?;
    let op = Op::RmsNorm { axis, epsilon };
    let y = if whole(ctx, node, 1, x, axis)? {
        ctx.emit(node, op, &[Some(x), Some(scale)])
    } else {
        let y = ctx.emit(node, op, &[Some(x)]);
        ctx.emit(node, Op::Binary(BinaryOp::Mul), &[Some(y), Some(scale)])
    };
    ctx.set(node, 0, y)
}

/// `x / ‖x‖` along an axis; a slice of zeros stays zeros.
fn lp<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>) -> Result<(), OpError> {
    let kind = match node.int("p", 2)? {
        1 => ReduceOp::L1,
        2 => ReduceOp::L2,
        p => return unsupported(format!("attribute p={p} is not implemented")),
    };
    let x = ctx.operand(node, 0)?;
    let axis = ctx.axis(x, node.int("axis", -1)?)?;
    let Some(dtype) = ctx.fact(x).dtype else { return unknown("the operand's element type") };
    let zero = ctx.constant("zero", from_f64(dtype, &[], &[0.0]));
    let one = ctx.constant("one", from_f64(dtype, &[], &[1.0]));
    let norm = ctx.emit(node, Op::Reduce { kind, axes: vec![axis], keep_dims: true }, &[Some(x)]);
    let empty = ctx.emit(node, Op::Binary(BinaryOp::Equal), &[Some(norm), Some(zero)]);
    let divisor = ctx.emit(node, Op::Where, &[Some(empty), Some(one), Some(norm)]);
    let y = ctx.emit(node, Op::Binary(BinaryOp::Div), &[Some(x), Some(divisor)]);
    ctx.set(node, 0, y)
}

/// `(x - mean) / (deviation + 1e-9)` over axes; by default all but the channels.
fn mean_variance<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>) -> Result<(), OpError> {
    let x = ctx.operand(node, 0)?;
    let Some(dtype) = ctx.fact(x).dtype else { return unknown("the operand's element type") };
    let axes = ctx.axes(x, node.ints("axes")?.unwrap_or(&[0, 2, 3]))?;
    let mut f = ctx.formula(node);
    let x = f.cast(x, DType::F32);
    let mean = f.reduce(ReduceOp::Mean, x, &axes, true);
    let centred = f.sub(x, mean);
    let squares = f.mul(centred, centred);
    let variance = f.reduce(ReduceOp::Mean, squares, &axes, true);
    let deviation = f.unary(UnaryOp::Sqrt, variance);
    let deviation = f.plus(deviation, 1e-9);
    let y = f.div(centred, deviation);
    let y = f.cast(y, dtype);
    ctx.set(node, 0, y)
}

fn lrn<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>) -> Result<(), OpError> {
    let (x, rank) = ctx.spatial(node, None)?;
    let size = match node.int("size", 0)? {
        size @ 1..=0x7fff_ffff => size as usize,
        size => return malformed(format!("size {size}")),
    };
    let (alpha, beta) = (node.float("alpha", 1e-4)?, node.float("beta", 0.75)?);
    let x = ctx.channels_last(node, x, rank);
    let y = ctx.emit(node, Op::Lrn { size, alpha, beta, bias: node.float("bias", 1.0)? }, &[Some(x)]);
    let y = ctx.channels_first(node, y, rank);
    ctx.set(node, 0, y)
}
