//! One function an operation: shapes of the results, and the steps that compute them.

mod attention;
mod decoding;
mod elementwise;
mod factored;
mod gather;
mod matrix;
mod movement;
mod normalize;
mod product;
mod quantized;
mod recurrent;
mod reduce;
mod resize;
mod views;
mod window;

pub(super) use matrix::takes_codes;

use super::build::{Builder, Call, Why};
use super::fact::Fact;
use super::step::StepOp;
use crate::graph::{BinaryOp, DType, Op};
use edge_kernels::cpu::movement::{CopyPlan, Strides};

/// The facts of a node's results.
pub(super) type Results = Result<Vec<Option<Fact>>, Why>;

/// One result.
fn one(fact: Fact) -> Results {
    Ok(vec![Some(fact)])
}

/// Lowers a node without blocks inside.
pub(super) fn lower(b: &mut Builder, call: &Call) -> Results {
    let narrow = computes_in_f32(&call.node.op)
        .then(|| typed(call).iter().flatten().map(|f| f.dtype).find(|d| d.is_float() && *d != DType::F32))
        .flatten();
    let results = dispatch(b, call)?;
    let Some(narrow) = narrow else { return Ok(results) };
    results.into_iter().map(|fact| fact.map(|f| narrow_again(b, f, narrow)).transpose()).collect()
}

/// The operands whose element type results have: the matrices of a product may be of another one.
fn typed<'c>(call: &'c Call<'_>) -> &'c [Option<Fact>] {
    match call.node.op {
        Op::Conv { .. } | Op::ConvTranspose { .. } | Op::Linear { .. } | Op::Lstm { .. } | Op::Gru { .. } => {
            call.inputs.get(..1).unwrap_or_default()
        }
        _ => &call.inputs,
    }
}

/// Values of 16-bit and 64-bit floats are computed in f32 and stored in their own type.
fn narrow_again(b: &mut Builder, fact: Fact, dtype: DType) -> Result<Fact, Why> {
    if fact.dtype != DType::F32 {
        return Ok(fact);
    }
    let out = b.result(dtype, &fact.dims)?;
    b.emit(StepOp::Cast, &[Some(&fact)], &[&out])?;
    Ok(out)
}

fn dispatch(b: &mut Builder, call: &Call) -> Results {
    match &call.node.op {
        Op::Conv { window, groups, out_channels, act, act_after_residual } => {
            matrix::conv(b, call, *window, *groups, *out_channels, *act, *act_after_residual)
        }
        Op::ConvTranspose { window, output_pads, out_channels, act } => {
            matrix::conv_transpose(b, call, *window, *output_pads, *out_channels, *act)
        }
        Op::Linear { out_features, act, act_after_residual } => {
            matrix::linear(b, call, *out_features, *act, *act_after_residual)
        }
        Op::MatMul { trans_a, trans_b, alpha } => matrix::matmul(b, call, *trans_a, *trans_b, *alpha),
        Op::Attention { k_transposed, scale } => attention::attention(b, call, *k_transposed, *scale),
        Op::RotaryTable => decoding::rotary_table(b, call),
        Op::Rotary => decoding::rotary(b, call),
        Op::CachedAttention { scale, window, soft_cap } => {
            decoding::cached_attention(b, call, *scale, *window, *soft_cap)
        }
        Op::Pool { kind, window, ceil_mode } => window::pool(b, call, *kind, *window, *ceil_mode),
        Op::Resize { axes, interpolation, coordinates } => {
            resize::resize(b, call, axes, *interpolation, *coordinates)
        }
        Op::Unary(op) => elementwise::unary(b, call, *op),
        Op::Binary(op) => elementwise::binary(b, call, *op),
        Op::Where => elementwise::select(b, call),
        Op::Cast { to } => elementwise::cast(b, call, *to),
        Op::Reduce { kind, axes, keep_dims } => reduce::reduce(b, call, *kind, Some(axes), *keep_dims),
        Op::ReduceAxes { kind, keep_dims, noop_if_empty } => {
            reduce::reduce_axes(b, call, *kind, *keep_dims, *noop_if_empty)
        }
        Op::ArgReduce { max, axis, keep_dims, last } => {
            reduce::arg_reduce(b, call, *max, *axis, *keep_dims, *last)
        }
        Op::Softmax { axis, log } => normalize::softmax(b, call, *axis, *log),
        Op::LayerNorm { axis, epsilon } => normalize::layer_norm(b, call, *axis, *epsilon),
        Op::RmsNorm { axis, epsilon } => normalize::rms_norm(b, call, *axis, *epsilon),
        Op::GroupNorm { groups, epsilon } => normalize::group_norm(b, call, *groups, *epsilon),
        Op::Lrn { size, alpha, beta, bias } => normalize::lrn(b, call, *size, *alpha, *beta, *bias),
        Op::Transpose { perm } => movement::transpose(b, call, perm),
        Op::Reshape { allow_zero } => views::reshape(b, call, *allow_zero),
        Op::Unsqueeze { axes } => views::unsqueeze(call, axes),
        Op::Squeeze { axes } => views::squeeze(call, axes),
        Op::Flatten { axis } => views::flatten(call, *axis),
        Op::Identity => one(call.input(0)?.clone()),
        Op::Shape { start, end } => views::shape(b, call, *start, *end),
        Op::Size => views::size(b, call),
        Op::Concat { axis } => movement::concat(b, call, *axis),
        Op::Slice { axes } => movement::slice(b, call, axes),
        Op::Split { axis } => movement::split(b, call, *axis),
        Op::Pad { mode, axes } => movement::pad(b, call, *mode, axes),
        Op::Expand => movement::expand(b, call),
        Op::Tile => movement::tile(b, call),
        Op::Range => movement::range(b, call),
        Op::ConstantOfShape { dtype, value } => movement::constant_of_shape(b, call, *dtype, value),
        Op::Gather { axis } => gather::gather(b, call, *axis),
        Op::GatherElements { axis } => gather::gather_elements(b, call, *axis),
        Op::GatherNd { batch_dims } => gather::gather_nd(b, call, *batch_dims),
        Op::ScatterElements { axis, reduction } => gather::scatter_elements(b, call, *axis, *reduction),
        Op::ScatterNd { reduction } => gather::scatter_nd(b, call, *reduction),
        Op::TopK { axis, largest } => gather::top_k(b, call, *axis, *largest),
        Op::NonMaxSuppression => gather::non_max_suppression(b, call),
        Op::CumSum { axis, exclusive, reverse } => gather::cum_sum(b, call, *axis, *exclusive, *reverse),
        Op::OneHot { axis } => gather::one_hot(b, call, *axis),
        Op::Trilu { upper } => gather::trilu(b, call, *upper),
        Op::Lstm { direction, hidden, activations, clip, input_forget } => {
            recurrent::lstm(b, call, *direction, *hidden, activations, *clip, *input_forget)
        }
        Op::Gru { direction, hidden, activations, clip, linear_before_reset } => {
            recurrent::gru(b, call, *direction, *hidden, activations, *clip, *linear_before_reset)
        }
        Op::If { .. } | Op::Loop { .. } | Op::Turn => Err("it stands where none can".into()),
    }
}

/// The name of an operation in errors and listings.
pub(crate) fn name(op: &Op) -> &'static str {
    match op {
        Op::Conv { .. } => "conv",
        Op::ConvTranspose { .. } => "conv_transpose",
        Op::Linear { .. } => "linear",
        Op::MatMul { .. } => "matmul",
        Op::Attention { .. } => "attention",
        Op::RotaryTable => "rotary_table",
        Op::Rotary => "rotary",
        Op::CachedAttention { .. } => "cached_attention",
        Op::Pool { .. } => "pool",
        Op::Resize { .. } => "resize",
        Op::Unary(_) => "unary",
        Op::Binary(_) => "binary",
        Op::Where => "where",
        Op::Cast { .. } => "cast",
        Op::Reduce { .. } | Op::ReduceAxes { .. } => "reduce",
        Op::ArgReduce { .. } => "arg_reduce",
        Op::Softmax { .. } => "softmax",
        Op::LayerNorm { .. } => "layer_norm",
        Op::RmsNorm { .. } => "rms_norm",
        Op::GroupNorm { .. } => "group_norm",
        Op::Lrn { .. } => "lrn",
        Op::Transpose { .. } => "transpose",
        Op::Reshape { .. } => "reshape",
        Op::Unsqueeze { .. } => "unsqueeze",
        Op::Squeeze { .. } => "squeeze",
        Op::Flatten { .. } => "flatten",
        Op::Concat { .. } => "concat",
        Op::Slice { .. } => "slice",
        Op::Split { .. } => "split",
        Op::Pad { .. } => "pad",
        Op::Gather { .. } => "gather",
        Op::GatherElements { .. } => "gather_elements",
        Op::GatherNd { .. } => "gather_nd",
        Op::ScatterElements { .. } => "scatter_elements",
        Op::ScatterNd { .. } => "scatter_nd",
        Op::Expand => "expand",
        Op::Tile => "tile",
        Op::Range => "range",
        Op::ConstantOfShape { .. } => "constant_of_shape",
        Op::Shape { .. } => "shape",
        Op::Size => "size",
        Op::TopK { .. } => "top_k",
        Op::NonMaxSuppression => "non_max_suppression",
        Op::CumSum { .. } => "cum_sum",
        Op::OneHot { .. } => "one_hot",
        Op::Trilu { .. } => "trilu",
        Op::Lstm { .. } => "lstm",
        Op::Gru { .. } => "gru",
        Op::If { .. } => "if",
        Op::Loop { .. } => "loop",
        Op::Turn => "turn",
        Op::Identity => "identity",
    }
}

/// Operations that compute on floats in f32 whatever the float type of their operands.
fn computes_in_f32(op: &Op) -> bool {
    matches!(
        op,
        Op::Conv { .. }
            | Op::ConvTranspose { .. }
            | Op::Linear { .. }
            | Op::MatMul { .. }
            | Op::Attention { .. }
            | Op::Pool { .. }
            | Op::Resize { .. }
            | Op::Unary(_)
            | Op::Binary(_)
            | Op::Reduce { .. }
            | Op::ReduceAxes { .. }
            | Op::Softmax { .. }
            | Op::LayerNorm { .. }
            | Op::RmsNorm { .. }
            | Op::GroupNorm { .. }
            | Op::Lrn { .. }
            | Op::Lstm { .. }
            | Op::Gru { .. }
            | Op::CumSum { .. }
            | Op::TopK { .. }
            | Op::ScatterElements { .. }
            | Op::ScatterNd { .. }
            | Op::Range
    )
}

/// Operations that can take i8 operands in an integer rung.
pub(super) fn takes_integers(op: &Op) -> bool {
    match op {
        Op::Conv { .. } | Op::Linear { .. } | Op::Pool { .. } | Op::Concat { .. } => true,
        Op::Binary(op) => matches!(op, BinaryOp::Add | BinaryOp::Mul),
        Op::Unary(op) => quantized::by_table(*op),
        Op::Resize { .. } | Op::Transpose { .. } | Op::Reshape { .. } | Op::Flatten { .. } => true,
        Op::Unsqueeze { .. } | Op::Squeeze { .. } | Op::Slice { .. } | Op::Split { .. } => true,
        _ => false,
    }
}

/// The copy of a whole value.
pub(super) fn flat_copy(x: &Fact) -> Result<CopyPlan, Why> {
    let side = Strides { offset: 0, strides: &[1] };
    CopyPlan::new(x.dtype.bytes(), &[x.elements()], side, side).map_err(|e| e.to_string())
}

/// An axis counted from the start.
fn axis_of(axis: i32, rank: usize) -> Result<usize, Why> {
    let signed = if axis < 0 { i64::from(axis) + rank as i64 } else { i64::from(axis) };
    if signed < 0 || signed as usize >= rank {
        return Err(format!("axis {axis} of a value of rank {rank}"));
    }
    Ok(signed as usize)
}

/// Axes counted from the start.
fn axes_of(axes: &[i32], rank: usize) -> Result<Vec<usize>, Why> {
    axes.iter().map(|a| axis_of(*a, rank)).collect()
}

/// The shape that operands broadcast to (NumPy's rule).
fn broadcast_dims(shapes: &[&[usize]]) -> Result<Vec<usize>, Why> {
    let rank = shapes.iter().map(|s| s.len()).max().unwrap_or(0);
    let mut dims = vec![1; rank];
    for shape in shapes {
        for (d, s) in dims[rank - shape.len()..].iter_mut().zip(shape.iter()) {
            match (*d, *s) {
                (a, b) if a == b => {}
                (1, b) => *d = b,
                (_, 1) => {}
                (a, b) => return Err(format!("shapes {shapes:?} do not broadcast: {a} against {b}")),
            }
        }
    }
    Ok(dims)
}
