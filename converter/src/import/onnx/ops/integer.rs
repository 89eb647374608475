//! Products of quantised values, in floats that hold what the integers' own arithmetic gives.
//!
//! A product of two 8-bit integers has 16 bits, so a sum of 258 of them is exact in a float's 24: products are cut along K into
//! such pieces, and the pieces added as 32-bit integers.

use super::conv_weight::{self, Weight};
use super::matmul::{linear, product};
use super::qlinear;
use super::quantized::{Kind, needed, real, saturated};
use super::window::window;
use super::{NOW, Operator, Types, op};
use crate::import::onnx::ctx::{Ctx, Formula, codes};
use crate::import::onnx::node::{NodeView, OpError, malformed, unknown, unsupported};
use crate::import::onnx::tensors;
use crate::integers::Integers;
use crate::model::Array;
use edge_runtime::graph::{DType, ValueId};

const WINDOW: &[&str] = &["auto_pad", "dilations", "group", "kernel_shape", "pads", "strides"];

/// The table.
pub const OPERATORS: &[Operator] = &[
    op("MatMulInteger", (10, NOW), (2, 4), Types::Integer, &[], matmul_integer),
    op("QLinearMatMul", (10, NOW), (8, 8), Types::Integer, &[], qlinear_matmul),
    op("ConvInteger", (10, NOW), (2, 4), Types::Integer, WINDOW, conv_integer),
    op("QLinearConv", (10, NOW), (8, 9), Types::Integer, WINDOW, qlinear_conv),
];

/// Most products of 8-bit integers less a zero point whose sum a float holds exactly: 258 * 255² < 2²⁴.
const EXACT: usize = 258;

/// `x - zero`; a zero point for each row stands along the second last dimension.
pub fn centred(f: &mut Formula, x: ValueId, zero: Option<ValueId>, rows: bool) -> Result<ValueId, OpError> {
    let Some(zero) = zero else { return Ok(x) };
    let zero = match f.ctx.rank(zero)? {
        1 if rows && f.ctx.fact(zero).size(0) != Some(1) => f.unsqueeze(zero, &[1]),
        _ => zero,
    };
    Ok(f.sub(x, zero))
}

/// Operand `a` less the zero point that operand `a_zero` gives, real: a product's left side.
pub fn left_of<'m>(
    ctx: &mut Ctx<'m>,
    node: &NodeView<'m>,
    a: usize,
    a_zero: usize,
) -> Result<ValueId, OpError> {
    eight_bits(ctx, node, a)?;
    let (x, x_zero) = (needed(ctx, node, a)?, real(ctx, node, a_zero)?);
    centred(&mut ctx.formula(node), x, x_zero, true)
}

fn eight_bits<'m>(ctx: &Ctx<'m>, node: &NodeView<'m>, i: usize) -> Result<(), OpError> {
    match ctx.operand_dtype(node, i) {
        Some(DType::I8 | DType::U8) => Ok(()),
        other => unsupported(format!("operand {i} of type {other:?} is not implemented")),
    }
}

/// `(a - a_zero) · (b - b_zero)` as exact 32-bit integers; the numbers name the operands. Stored integers stay such.
fn whole_product<'m>(
    ctx: &mut Ctx<'m>,
    node: &NodeView<'m>,
    [a, a_zero, b, b_zero]: [usize; 4],
) -> Result<ValueId, OpError> {
    eight_bits(ctx, node, a)?;
    eight_bits(ctx, node, b)?;
    if let Some(y) = qlinear::integer_product(ctx, node, [a, a_zero, b, b_zero])? {
        return Ok(y);
    }
    let x = left_of(ctx, node, a, a_zero)?;
    integer_product(ctx, node, x, &Sides { b, b_zero, trans_b: false })
}

/// A product's right side: the numbers name operands.
pub struct Sides {
    /// 8-bit integers.
    pub b: usize,
    /// Their zero point, or one for each column.
    pub b_zero: usize,
    /// They lie `[N, K]`.
    pub trans_b: bool,
}

/// `x · (b - b_zero)` as exact 32-bit integers; `x` holds differences of 8-bit integers.
pub fn integer_product<'m>(
    ctx: &mut Ctx<'m>,
    node: &NodeView<'m>,
    x: ValueId,
    &Sides { b, b_zero, trans_b }: &Sides,
) -> Result<ValueId, OpError> {
    eight_bits(ctx, node, b)?;
    let stored = match (ctx.array(node, b)?, node.input(b_zero).is_none(), ctx.array(node, b_zero)?) {
        (Some(w), none, zero) if w.dims.len() == 2 && none == zero.is_none() => {
            columns(&w, zero.as_ref(), trans_b)?
        }
        _ => None,
    };
    let depth = match &stored {
        Some((k, ..)) => Some(*k),
        None => {
            let axis = ctx.rank(x)?.checked_sub(1);
            axis.and_then(|axis| ctx.fact(x).size(axis))
        }
    };
    let Some(depth) = depth else { return unknown("the number of summands") };
    let y = match stored {
        None => {
            let (w, w_zero) = (needed(ctx, node, b)?, real(ctx, node, b_zero)?);
            if trans_b && ctx.rank(w)? != 2 {
                return malformed("a transposed operand that is no matrix");
            }
            let w = if trans_b { ctx.transpose(node, w, &[1, 0]) } else { w };
            let w = centred(&mut ctx.formula(node), w, w_zero, false)?;
            let wide = ctx.rank(w)?;
            pieces(ctx, node, depth, |ctx, from, to| {
                let mut f = ctx.formula(node);
                let whole = to - from == depth as i64;
                let part = if whole { x } else { f.slice(x, -1, from, to) };
                let w = if whole { w } else { f.slice(w, if wide == 1 { 0 } else { -2 }, from, to) };
                product(ctx, node, part, w)
            })?
        }
        Some((k, n, rows)) => pieces(ctx, node, depth, |ctx, from, to| {
            let part = if to - from == depth as i64 { x } else { ctx.formula(node).slice(x, -1, from, to) };
            let (from, to) = (from as usize, to as usize);
            let piece: Vec<f32> = rows.chunks_exact(k).flat_map(|row| &row[from..to]).copied().collect();
            let w = ctx.constant(node.input(b).unwrap_or(""), Array::f32(&[n, to - from], &piece));
            Ok(ctx.emit(node, linear(n), &[Some(part), Some(w)]))
        })?,
    };
    Ok(y)
}

/// Stored integers of 8 or 4 bits with stored scales (1 where there is no such operand) and zero points, one for all or one along
/// `axis`: operands `[integers, scale, zero point]`. `None` when they are others.
pub(super) fn stored_integers<'m>(
    ctx: &Ctx<'m>,
    node: &NodeView<'m>,
    [w, scale, zero]: [usize; 3],
    axis: usize,
) -> Result<Option<Integers>, OpError> {
    let four_bits = ctx.four_bits(node, w);
    let Some(array) = ctx.array(node, w)?.filter(|w| w.dims.len() > axis) else { return Ok(None) };
    let Some(codes) = codes(&array, four_bits) else { return Ok(None) };
    let half = match (array.dtype, four_bits) {
        (DType::U8, true) => 8,
        (DType::U8, false) => 128,
        _ => 0,
    };
    let scales = match scale {
        usize::MAX => Some(vec![1.0]),
        scale => ctx.array(node, scale)?.and_then(|scale| scale.as_f32()),
    };
    let zeros = match node.input(zero) {
        None => Some(vec![0]),
        Some(_) => ctx.array(node, zero)?.and_then(|zero| tensors::integers(&zero)),
    };
    let (Some(scales), Some(zeros)) = (scales, zeros) else { return Ok(None) };
    let count = scales.len().max(zeros.len());
    if [scales.len(), zeros.len()].iter().any(|len| *len != 1 && *len != count)
        || (count != 1 && count != array.dims[axis])
    {
        return Ok(None);
    }
    let mut blocks = array.dims.clone();
    if count > 1 {
        blocks[axis] = 1;
    }
    let zeros: Vec<i8> = (0..count).map(|i| (zeros[i % zeros.len()] - half) as i8).collect();
    let zeros = if zeros.iter().all(|zero| *zero == 0) { Vec::new() } else { zeros };
    let scales = (0..count).map(|i| scales[i % scales.len()]).collect();
    let bits = if four_bits { 4 } else { 8 };
    Ok(Some(Integers { bits, codes, scales, zeros, dims: array.dims.clone(), blocks }))
}

/// A stored `[K, N]`, or `[N, K]`, less its zero points, as rows `[N, K]`: K, N and the rows.
fn columns(
    w: &Array,
    zero: Option<&Array>,
    is_nk: bool,
) -> Result<Option<(usize, usize, Vec<f32>)>, OpError> {
    let (k, n) = if is_nk { (w.dims[1], w.dims[0]) } else { (w.dims[0], w.dims[1]) };
    let Some(values) = tensors::integers(w) else { return malformed("a weight that holds no integers") };
    let zeros = match zero {
        None => vec![0],
        Some(zero) => tensors::integers(zero).unwrap_or_default(),
    };
    if k == 0 || (zeros.len() != 1 && zeros.len() != n) {
        return Ok(None);
    }
    let place = |i: usize| if is_nk { i } else { i % k * n + i / k };
    let at = |i: usize| {
        let zero = zeros[if zeros.len() == 1 { 0 } else { i / k }];
        values[place(i)].wrapping_sub(zero) as f32
    };
    Ok(Some((k, n, (0..k * n).map(at).collect())))
}

/// Most pieces that a product is cut into.
const MAX_PIECES: usize = 256;

/// The sum of what `part` gives for each piece of `depth` summands, as 32-bit integers.
fn pieces<'m>(
    ctx: &mut Ctx<'m>,
    node: &NodeView<'m>,
    depth: usize,
    mut part: impl FnMut(&mut Ctx<'m>, i64, i64) -> Result<ValueId, OpError>,
) -> Result<ValueId, OpError> {
    if depth > MAX_PIECES * EXACT {
        return unsupported(format!("products of {depth} integers are not implemented"));
    }
    let mut sum = None;
    for from in (0..depth.max(1)).step_by(EXACT) {
        let piece = part(ctx, from as i64, (from + EXACT).min(depth) as i64)?;
        let mut f = ctx.formula(node);
        let piece = f.cast(piece, DType::I32);
        sum = Some(sum.map_or(piece, |sum| f.add(sum, piece)));
    }
    sum.map_or_else(|| malformed("no summands"), Ok)
}

fn matmul_integer<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>) -> Result<(), OpError> {
    let y = whole_product(ctx, node, [0, 2, 1, 3])?;
    ctx.set(node, 0, y)
}

fn qlinear_matmul<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>) -> Result<(), OpError> {
    if qlinear::matmul(ctx, node)? {
        return Ok(());
    }
    let Some(kind) = Kind::of(ctx, node, 7) else { return unknown("the element type of operand 7") };
    let y = whole_product(ctx, node, [0, 2, 3, 5])?;
    let scales = [needed(ctx, node, 1)?, needed(ctx, node, 4)?, needed(ctx, node, 6)?];
    let [rows, columns, result] = scales;
    let (zero, mut f) = (needed(ctx, node, 7)?, ctx.formula(node));
    let y = f.cast(y, DType::F32);
    let rows = match f.ctx.rank(rows)? {
        1 if f.ctx.fact(rows).size(0) != Some(1) => f.unsqueeze(rows, &[1]),
        _ => rows,
    };
    let factor = f.mul(rows, columns);
    let factor = f.div(factor, result);
    let y = f.mul(y, factor);
    let y = saturated(ctx, node, y, Some(zero), kind)?;
    ctx.set(node, 0, y)
}

/// The convolution of operands less their zero points, as exact 32-bit integers; channels are second, or last where the attribute
/// `channels_last` says so.
fn integer_conv<'m>(
    ctx: &mut Ctx<'m>,
    node: &NodeView<'m>,
    [x, x_zero, w, w_zero]: [usize; 4],
) -> Result<ValueId, OpError> {
    if !node.flag("channels_last", false)?
        && let Some(y) = qlinear::integer_conv(ctx, node, [x, x_zero, w, w_zero])?
    {
        return Ok(y);
    }
    let stored = match (ctx.array(node, w)?, node.input(w_zero).is_none(), ctx.array(node, w_zero)?) {
        (Some(weight), none, zero) if none == zero.is_none() => Some((weight, zero)),
        _ => None,
    };
    let weight = match stored {
        Some((weight, zero)) => {
            let Some(values) = tensors::integers(&weight) else {
                return malformed("a weight that holds no integers");
            };
            let zeros = zero.as_ref().and_then(tensors::integers).unwrap_or_else(|| vec![0]);
            let each = values.len() / weight.dims.first().copied().unwrap_or(1).max(1);
            if zeros.len() != 1 && Some(&zeros.len()) != weight.dims.first() {
                return malformed(format!("{} zero points for a weight {:?}", zeros.len(), weight.dims));
            }
            let zero = |i: usize| zeros[if zeros.len() == 1 { 0 } else { i / each.max(1) }];
            let centred: Vec<f32> =
                values.iter().enumerate().map(|(i, v)| v.wrapping_sub(zero(i)) as f32).collect();
            Weight::Stored(Array::f32(&weight.dims, &centred))
        }
        None => {
            let (weight, zero) = (needed(ctx, node, w)?, real(ctx, node, w_zero)?);
            let rank = ctx.rank(weight)?;
            let mut f = ctx.formula(node);
            Weight::Computed(match zero {
                None => weight,
                Some(zero) => {
                    let zero = match f.ctx.rank(zero)? {
                        0 => zero,
                        _ => {
                            let mut shape = vec![1; rank];
                            let Some(first) = shape.first_mut() else {
                                return malformed("a weight that is a scalar");
                            };
                            *first = -1;
                            f.reshape(zero, &shape)
                        }
                    };
                    f.sub(weight, zero)
                }
            })
        }
    };
    let dims = weight.dims(ctx)?;
    let (value, zero) = (needed(ctx, node, x)?, real(ctx, node, x_zero)?);
    let rank = ctx.rank(value)?;
    if !matches!(rank, 3 | 4) || dims.len() != rank {
        return unsupported(format!("an operand of rank {rank} with a weight {dims:?} is not implemented"));
    }
    let groups = conv_weight::groups(node, &dims)?;
    let window = window(node, rank, Some(&dims[2..]))?;
    let taps: usize = dims[2..].iter().product();
    let together = EXACT / taps.max(1);
    if together == 0 || (groups > 1 && dims[1] > together) || dims[1] > MAX_PIECES * together {
        return unsupported(format!(
            "a weight {dims:?} in {groups} groups is not implemented: a float cannot hold its sums exactly"
        ));
    }
    let mut f = ctx.formula(node);
    let value = match zero {
        None => value,
        Some(zero) => {
            let zero = f.reshape(zero, &[]);
            f.sub(value, zero)
        }
    };
    let last = node.flag("channels_last", false)?;
    let channels_last = if last { value } else { ctx.channels_last(node, value, rank) };
    let mut sum = None;
    for from in (0..dims[1]).step_by(together) {
        let to = (from + together).min(dims[1]);
        let (part, weight) = if to - from == dims[1] {
            (channels_last, weight.clone())
        } else {
            let mut f = ctx.formula(node);
            let part = f.slice(channels_last, -1, from as i64, to as i64);
            let weight = weight.channels(ctx, node, from..to)?;
            (part, weight)
        };
        let y = conv_weight::product(ctx, node, part, &weight, (groups, window))?;
        let mut f = ctx.formula(node);
        let y = f.cast(y, DType::I32);
        sum = Some(sum.map_or(y, |sum| f.add(sum, y)));
    }
    match sum {
        Some(sum) if last => Ok(sum),
        Some(sum) => Ok(ctx.channels_first(node, sum, rank)),
        None => malformed("a weight without channels"),
    }
}

fn conv_integer<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>) -> Result<(), OpError> {
    let y = integer_conv(ctx, node, [0, 2, 1, 3])?;
    ctx.set(node, 0, y)
}

pub fn qlinear_conv<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>) -> Result<(), OpError> {
    if qlinear::conv(ctx, node)? {
        return Ok(());
    }
    let Some(kind) = Kind::of(ctx, node, 7) else { return unknown("the element type of operand 7") };
    let y = integer_conv(ctx, node, [0, 2, 3, 5])?;
    let rank = ctx.rank(y)?;
    let bias = ctx.optional(node, 8)?;
    let (x_scale, w_scale) = (needed(ctx, node, 1)?, needed(ctx, node, 4)?);
    let (y_scale, zero) = (needed(ctx, node, 6)?, needed(ctx, node, 7)?);
    let mut f = ctx.formula(node);
    let behind = if node.flag("channels_last", false)? { 0 } else { rank - 2 };
    let channels: Vec<i64> = [-1].into_iter().chain(std::iter::repeat_n(1, behind)).collect();
    let y = match bias {
        Some(bias) => {
            let bias = f.reshape(bias, &channels);
            f.add(y, bias)
        }
        None => y,
    };
    let y = f.cast(y, DType::F32);
    let w_scale = if f.ctx.rank(w_scale)? == 0 { w_scale } else { f.reshape(w_scale, &channels) };
    let factor = f.mul(x_scale, w_scale);
    let factor = f.div(factor, y_scale);
    let y = f.mul(y, factor);
    let y = saturated(ctx, node, y, Some(zero), kind)?;
    ctx.set(node, 0, y)
}
