//! Operators on quantised values, as arithmetic on floats that is exact where the integers' own would be.
//!
//! A product of two 8-bit integers has 16 bits, so a sum of 258 of them is exact in a float's 24: products are cut along K into
//! such pieces, and the pieces added as 32-bit integers.

use super::conv::{self, Weight};
use super::matmul::{linear, product};
use super::window::window;
use super::{NOW, Operator, Types, op};
use crate::import::onnx::ctx::{Ctx, Formula};
use crate::import::onnx::node::{NodeView, OpError, malformed, unknown, unsupported};
use crate::import::onnx::ranks::normalize;
use crate::import::onnx::tensors::{self, from_f64};
use crate::model::Array;
use edge_runtime::graph::{DType, Op, ReduceOp, UnaryOp, ValueId};

const QUANTIZE_21: &[&str] = &["axis", "block_size", "output_dtype", "precision", "saturate"];
const DEQUANTIZE_21: &[&str] = &["axis", "block_size", "output_dtype"];
const WINDOW: &[&str] = &["auto_pad", "dilations", "group", "kernel_shape", "pads", "strides"];

/// The table.
pub const OPERATORS: &[Operator] = &[
    op("QuantizeLinear", (10, 12), (2, 3), Types::Number, &[], quantize),
    op("QuantizeLinear", (13, 20), (2, 3), Types::Number, &["axis", "saturate"], quantize),
    op("QuantizeLinear", (21, NOW), (2, 3), Types::Number, QUANTIZE_21, quantize),
    op("DequantizeLinear", (10, 12), (2, 3), Types::Integer, &[], dequantize),
    op("DequantizeLinear", (13, 20), (2, 3), Types::Integer, &["axis"], dequantize),
    op("DequantizeLinear", (21, NOW), (2, 3), Types::Integer, DEQUANTIZE_21, dequantize),
    op("DynamicQuantizeLinear", (11, NOW), (1, 1), Types::Float, &[], dynamic),
    op("MatMulInteger", (10, NOW), (2, 4), Types::Integer, &[], matmul_integer),
    op("QLinearMatMul", (10, NOW), (8, 8), Types::Integer, &[], qlinear_matmul),
    op("ConvInteger", (10, NOW), (2, 4), Types::Integer, WINDOW, conv_integer),
    op("QLinearConv", (10, NOW), (8, 9), Types::Integer, WINDOW, qlinear_conv),
];

/// Most products of 8-bit integers less a zero point whose sum a float holds exactly: 258 * 255² < 2²⁴.
const EXACT: usize = 258;

/// The integers that a quantised value takes.
#[derive(Clone, Copy, Debug)]
struct Kind {
    dtype: DType,
    four_bits: bool,
}

impl Kind {
    /// Of operand `i`.
    fn of<'m>(ctx: &Ctx<'m>, node: &NodeView<'m>, i: usize) -> Option<Kind> {
        Some(Kind { dtype: ctx.operand_dtype(node, i)?, four_bits: ctx.four_bits(node, i) })
    }

    /// Least and greatest.
    fn range(self) -> Result<(f64, f64), OpError> {
        Ok(match (self.dtype, self.four_bits) {
            (DType::U8, true) => (0.0, 15.0),
            (DType::I8, true) => (-8.0, 7.0),
            (DType::U8, false) => (0.0, 255.0),
            (DType::I8, false) => (-128.0, 127.0),
            (DType::U16, _) => (0.0, 65535.0),
            (DType::I16, _) => (-32768.0, 32767.0),
            (other, _) => return unsupported(format!("quantising to {other} is not implemented")),
        })
    }
}

/// How scales lie along the value that they belong to.
struct Layout {
    rank: usize,
    axis: usize,
    /// Elements that share a scale; `None`: all along every other axis.
    block: Option<usize>,
    /// The size of the axis, which blocks need.
    size: Option<usize>,
}

impl Layout {
    fn read<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>) -> Result<Layout, OpError> {
        let x = ctx.operand(node, 0)?;
        let rank = ctx.rank(x)?;
        // A scalar has no axis and needs none.
        let axis = normalize(node.int("axis", 1)?, rank).unwrap_or(0);
        let block = match node.int("block_size", 0)? {
            0 => None,
            size @ 1..=0x7fff_ffff => Some(size as usize),
            size => return malformed(format!("block_size {size}")),
        };
        Ok(Layout { rank, axis, block, size: ctx.fact(x).size(axis) })
    }

    /// A scale or zero point in a shape that broadcasts to the value's.
    fn place(&self, f: &mut Formula, scale: ValueId) -> Result<ValueId, OpError> {
        let rank = f.ctx.rank(scale)?;
        if let (Some(block), true) = (self.block, rank == self.rank && rank > 0) {
            let Some(size) = self.size else { return unknown("the size of the blocked axis") };
            let blocks: Vec<i64> = (0..size).map(|i| (i / block) as i64).collect();
            let index = f.integers(&[size], &blocks);
            return Ok(f.op(Op::Gather { axis: self.axis as i32 }, &[scale, index]));
        }
        match rank {
            0 => Ok(scale),
            1 if self.rank == 0 => Ok(f.reshape(scale, &[])),
            1 => {
                let mut shape = vec![1; self.rank - self.axis];
                shape[0] = -1;
                Ok(if shape.len() == 1 { scale } else { f.reshape(scale, &shape) })
            }
            _ => malformed(format!("a scale or zero point of {rank} dimensions for {}", self.rank)),
        }
    }
}

/// `saturate(round(x) + zero)`, `x` and `zero` real.
fn saturated<'m>(
    ctx: &mut Ctx<'m>,
    node: &NodeView<'m>,
    x: ValueId,
    zero: Option<ValueId>,
    kind: Kind,
) -> Result<ValueId, OpError> {
    let (lo, hi) = kind.range()?;
    let mut f = ctx.formula(node);
    let mut y = f.unary(UnaryOp::Round, x);
    if let Some(zero) = zero {
        y = f.add(y, zero);
    }
    let (lo, hi) = (f.real(lo), f.real(hi));
    let y = f.clamp(y, lo, hi);
    let y = f.cast(y, kind.dtype);
    if kind.four_bits {
        ctx.mark_four_bits(y);
    }
    Ok(y)
}

/// Operand `i` as a real value, if it is given.
fn real<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>, i: usize) -> Result<Option<ValueId>, OpError> {
    let Some(x) = ctx.optional(node, i)? else { return Ok(None) };
    if ctx.fact(x).dtype.is_none() {
        return unknown(format!("the element type of operand {i}"));
    }
    Ok(Some(ctx.formula(node).cast(x, DType::F32)))
}

fn needed<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>, i: usize) -> Result<ValueId, OpError> {
    match real(ctx, node, i)? {
        Some(x) => Ok(x),
        None => malformed(format!("operand {i} is missing")),
    }
}

/// The type that attribute `output_dtype` names.
fn told(node: &NodeView) -> Result<Option<Kind>, OpError> {
    let number = match node.int("output_dtype", 0)? {
        0 => return Ok(None),
        number => i32::try_from(number).unwrap_or(-1),
    };
    match tensors::dtype(number) {
        Ok(dtype) => Ok(Some(Kind { dtype, four_bits: tensors::four_bits(number) })),
        Err(name) => unsupported(format!("attribute output_dtype={number} ({name}) is not implemented")),
    }
}

fn quantize<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>) -> Result<(), OpError> {
    // 1: f32, in which the division is done whatever the operands' type.
    if let precision @ 2.. = node.int("precision", 0)? {
        return unsupported(format!("attribute precision={precision} is not implemented"));
    }
    let kind = match (node.input(2).is_some(), told(node)?) {
        (true, _) => match Kind::of(ctx, node, 2) {
            Some(kind) => kind,
            None => return unknown("the element type of operand 2"),
        },
        (false, Some(kind)) => kind,
        (false, None) => Kind { dtype: DType::U8, four_bits: false },
    };
    kind.range()?;
    let layout = Layout::read(ctx, node)?;
    let (x, scale, zero) = (needed(ctx, node, 0)?, needed(ctx, node, 1)?, real(ctx, node, 2)?);
    let mut f = ctx.formula(node);
    let scale = layout.place(&mut f, scale)?;
    let zero = zero.map(|zero| layout.place(&mut f, zero)).transpose()?;
    let y = f.div(x, scale);
    let y = saturated(ctx, node, y, zero, kind)?;
    ctx.set(node, 0, y)
}

fn dequantize<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>) -> Result<(), OpError> {
    let dtype = match told(node)? {
        Some(kind) => kind.dtype,
        None => match ctx.operand_dtype(node, 1) {
            Some(dtype) => dtype,
            None => return unknown("the element type of operand 1"),
        },
    };
    if !dtype.is_float() {
        return malformed(format!("a scale of type {dtype}"));
    }
    if let Some(weight) = stored_weight(ctx, node, dtype)? {
        let id = ctx.constant(node.output(0).unwrap_or(""), weight);
        return ctx.set(node, 0, id);
    }
    let layout = Layout::read(ctx, node)?;
    let (x, scale, zero) = (needed(ctx, node, 0)?, needed(ctx, node, 1)?, real(ctx, node, 2)?);
    let mut f = ctx.formula(node);
    let scale = layout.place(&mut f, scale)?;
    let x = match zero {
        Some(zero) => {
            let zero = layout.place(&mut f, zero)?;
            f.sub(x, zero)
        }
        None => x,
    };
    let y = f.mul(x, scale);
    let y = f.cast(y, dtype);
    ctx.set(node, 0, y)
}

/// A stored array with stored scales, as real numbers: weights, which the pack stores its own way.
fn stored_weight<'m>(ctx: &Ctx<'m>, node: &NodeView<'m>, dtype: DType) -> Result<Option<Array>, OpError> {
    let (Some(x), Some(scale)) = (ctx.array(node, 0)?, ctx.array(node, 1)?) else { return Ok(None) };
    let zero = ctx.array(node, 2)?;
    if node.input(2).is_some() != zero.is_some() {
        return Ok(None);
    }
    let (Some(values), Some(scales)) = (tensors::integers(&x), tensors::floats(&scale)) else {
        return malformed("a stored operand of an unexpected type");
    };
    let zeros = match &zero {
        Some(zero) if zero.elements() == scale.elements() => tensors::integers(zero).unwrap_or_default(),
        Some(zero) => return malformed(format!("zero points {:?} for scales {:?}", zero.dims, scale.dims)),
        None => vec![0; scales.len()],
    };
    let block = usize::try_from(node.int("block_size", 0)?).ok().filter(|b| *b > 0);
    let axis = normalize(node.int("axis", 1)?, x.dims.len()).unwrap_or(0);
    let size = x.dims.get(axis).copied().unwrap_or(1).max(1);
    let inner: usize = x.dims.iter().skip(axis + 1).product();
    let along = match block {
        Some(block) if scale.dims.len() == x.dims.len() => size.div_ceil(block),
        _ => size,
    };
    let groups: usize = if block.is_some() { x.dims.iter().take(axis).product() } else { 1 };
    let wide = if block.is_some() { inner } else { 1 };
    if scales.len() != 1 && scales.len() != groups * along * wide {
        return malformed(format!("scales {:?} for a value of shape {:?}", scale.dims, x.dims));
    }
    let index = |i: usize| {
        let place = i / inner.max(1) % size;
        match block {
            _ if scales.len() == 1 => 0,
            Some(block) => (i / (inner * size) * along + place / block) * inner + i % inner,
            None => place,
        }
    };
    let real = |i: usize| f64::from((values[i] - zeros[index(i)]) as f32 * scales[index(i)]);
    let values: Vec<f64> = (0..values.len()).map(real).collect();
    Ok(Some(from_f64(dtype, &x.dims, &values)))
}

/// To 8 bits over the range that the elements and 0 take.
fn dynamic<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>) -> Result<(), OpError> {
    let x = needed(ctx, node, 0)?;
    let rank = ctx.rank(x)? as i32;
    let kind = Kind { dtype: DType::U8, four_bits: false };
    let mut f = ctx.formula(node);
    let axes: Vec<i32> = (0..rank).collect();
    let zero = f.real(0.0);
    let (least, greatest) =
        (f.reduce(ReduceOp::Min, x, &axes, false), f.reduce(ReduceOp::Max, x, &axes, false));
    let (least, greatest) = (f.min(least, zero), f.max(greatest, zero));
    let range = f.sub(greatest, least);
    let all = f.real(255.0);
    let scale = f.div(range, all);
    let below = f.sub(zero, least);
    let below = f.div(below, scale);
    let point = saturated(ctx, node, below, None, kind)?;
    let mut f = ctx.formula(node);
    let (y, zero) = (f.div(x, scale), f.cast(point, DType::F32));
    let y = saturated(ctx, node, y, Some(zero), kind)?;
    ctx.set(node, 0, y)?;
    ctx.set(node, 1, scale)?;
    ctx.set(node, 2, point)
}

/// `x - zero`; a zero point for each row stands along the second last dimension.
fn centred(f: &mut Formula, x: ValueId, zero: Option<ValueId>, rows: bool) -> Result<ValueId, OpError> {
    let Some(zero) = zero else { return Ok(x) };
    let zero = match f.ctx.rank(zero)? {
        1 if rows && f.ctx.fact(zero).size(0) != Some(1) => f.unsqueeze(zero, &[1]),
        _ => zero,
    };
    Ok(f.sub(x, zero))
}

/// `(a - a_zero) · (b - b_zero)` as exact 32-bit integers; the numbers name the operands.
fn integer_product<'m>(
    ctx: &mut Ctx<'m>,
    node: &NodeView<'m>,
    [a, a_zero, b, b_zero]: [usize; 4],
) -> Result<ValueId, OpError> {
    for i in [a, b] {
        match ctx.operand_dtype(node, i) {
            Some(DType::I8 | DType::U8) => {}
            other => return unsupported(format!("operand {i} of type {other:?} is not implemented")),
        }
    }
    let (x, x_zero) = (needed(ctx, node, a)?, real(ctx, node, a_zero)?);
    let x = centred(&mut ctx.formula(node), x, x_zero, true)?;
    let stored = match (ctx.array(node, b)?, node.input(b_zero).is_none(), ctx.array(node, b_zero)?) {
        (Some(w), none, zero) if w.dims.len() == 2 && none == zero.is_none() => columns(&w, zero.as_ref())?,
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

/// A stored `[K, N]` less its zero points, as rows `[N, K]`: K, N and the rows.
fn columns(w: &Array, zero: Option<&Array>) -> Result<Option<(usize, usize, Vec<f32>)>, OpError> {
    let (k, n) = (w.dims[0], w.dims[1]);
    let Some(values) = tensors::integers(w) else { return malformed("a weight that holds no integers") };
    let zeros = match zero {
        None => vec![0],
        Some(zero) => tensors::integers(zero).unwrap_or_default(),
    };
    if k == 0 || (zeros.len() != 1 && zeros.len() != n) {
        return Ok(None);
    }
    let at = |i: usize| (values[i % k * n + i / k] - zeros[if zeros.len() == 1 { 0 } else { i / k }]) as f32;
    Ok(Some((k, n, (0..k * n).map(at).collect())))
}

/// The sum of what `part` gives for each piece of `depth` summands, as 32-bit integers.
fn pieces<'m>(
    ctx: &mut Ctx<'m>,
    node: &NodeView<'m>,
    depth: usize,
    mut part: impl FnMut(&mut Ctx<'m>, i64, i64) -> Result<ValueId, OpError>,
) -> Result<ValueId, OpError> {
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
    let y = integer_product(ctx, node, [0, 2, 1, 3])?;
    ctx.set(node, 0, y)
}

fn qlinear_matmul<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>) -> Result<(), OpError> {
    let Some(kind) = Kind::of(ctx, node, 7) else { return unknown("the element type of operand 7") };
    let y = integer_product(ctx, node, [0, 2, 3, 5])?;
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

/// The convolution of operands less their zero points, as exact 32-bit integers, `[N, C, ..]`.
fn integer_conv<'m>(
    ctx: &mut Ctx<'m>,
    node: &NodeView<'m>,
    [x, x_zero, w, w_zero]: [usize; 4],
) -> Result<ValueId, OpError> {
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
            let centred: Vec<f32> = values.iter().enumerate().map(|(i, v)| (v - zero(i)) as f32).collect();
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
                            shape[0] = -1;
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
    let groups = conv::groups(node, &dims)?;
    let window = window(node, rank, Some(&dims[2..]))?;
    let taps: usize = dims[2..].iter().product();
    let together = EXACT / taps.max(1);
    if together == 0 || (groups > 1 && dims[1] > together) {
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
    let channels_last = ctx.channels_last(node, value, rank);
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
        let y = conv::product(ctx, node, part, &weight, (groups, window))?;
        let mut f = ctx.formula(node);
        let y = f.cast(y, DType::I32);
        sum = Some(sum.map_or(y, |sum| f.add(sum, y)));
    }
    match sum {
        Some(sum) => Ok(ctx.channels_first(node, sum, rank)),
        None => malformed("a weight without channels"),
    }
}

fn conv_integer<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>) -> Result<(), OpError> {
    let y = integer_conv(ctx, node, [0, 2, 1, 3])?;
    ctx.set(node, 0, y)
}

fn qlinear_conv<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>) -> Result<(), OpError> {
    let Some(kind) = Kind::of(ctx, node, 7) else { return unknown("the element type of operand 7") };
    let y = integer_conv(ctx, node, [0, 2, 3, 5])?;
    let rank = ctx.rank(y)?;
    let bias = ctx.optional(node, 8)?;
    let (x_scale, w_scale) = (needed(ctx, node, 1)?, needed(ctx, node, 4)?);
    let (y_scale, zero) = (needed(ctx, node, 6)?, needed(ctx, node, 7)?);
    let mut f = ctx.formula(node);
    let channels: Vec<i64> = [-1].into_iter().chain(std::iter::repeat_n(1, rank - 2)).collect();
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
