//! Quantising and dequantising, as arithmetic on floats.

use super::{NOW, Operator, Types, op};
use crate::import::onnx::ctx::{Ctx, Formula, Grid, codes};
use crate::import::onnx::node::{NodeView, OpError, malformed, unknown, unsupported};
use crate::import::onnx::ranks::normalize;
use crate::import::onnx::tensors::{self, from_f64};
use crate::integers::Integers;
use crate::model::Array;
use edge_runtime::graph::{DType, Op, ReduceOp, UnaryOp, ValueId};

const QUANTIZE_21: &[&str] = &["axis", "block_size", "output_dtype", "precision", "saturate"];
const DEQUANTIZE_21: &[&str] = &["axis", "block_size", "output_dtype"];

/// The table.
pub const OPERATORS: &[Operator] = &[
    op("QuantizeLinear", (10, 12), (2, 3), Types::Number, &[], quantize),
    op("QuantizeLinear", (13, 20), (2, 3), Types::Number, &["axis", "saturate"], quantize),
    op("QuantizeLinear", (21, NOW), (2, 3), Types::Number, QUANTIZE_21, quantize),
    op("DequantizeLinear", (10, 12), (2, 3), Types::Integer, &[], dequantize),
    op("DequantizeLinear", (13, 20), (2, 3), Types::Integer, &["axis"], dequantize),
    op("DequantizeLinear", (21, NOW), (2, 3), Types::Integer, DEQUANTIZE_21, dequantize),
    op("DynamicQuantizeLinear", (11, NOW), (1, 1), Types::Float, &[], dynamic),
];

/// The integers that a quantised value takes.
#[derive(Clone, Copy, Debug)]
pub struct Kind {
    /// Their element type.
    pub dtype: DType,
    /// Bytes that stand for integers of 4 bits.
    pub four_bits: bool,
}

impl Kind {
    /// Of operand `i`.
    pub fn of<'m>(ctx: &Ctx<'m>, node: &NodeView<'m>, i: usize) -> Option<Kind> {
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
            // Twice as i64, as elements and as bytes.
            f.ctx.table(Some(size), 24)?;
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
pub fn saturated<'m>(
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
    let floats = f.clamp(y, lo, hi);
    let y = f.cast(floats, kind.dtype);
    if ctx.model.constant(y).is_none() {
        ctx.plain.insert(y, floats);
    }
    if kind.four_bits {
        ctx.mark_four_bits(y);
    }
    Ok(y)
}

/// Operand `i` as a real value, if it is given.
pub fn real<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>, i: usize) -> Result<Option<ValueId>, OpError> {
    let Some(x) = ctx.optional(node, i)? else { return Ok(None) };
    if let Some(floats) = ctx.plain.get(&x).filter(|id| ctx.fact(**id).dtype == Some(DType::F32)) {
        return Ok(Some(*floats));
    }
    if ctx.fact(x).dtype.is_none() {
        return unknown(format!("the element type of operand {i}"));
    }
    Ok(Some(ctx.formula(node).cast(x, DType::F32)))
}

/// [`real`] of an operand that must be given.
pub fn needed<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>, i: usize) -> Result<ValueId, OpError> {
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

pub fn quantize<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>) -> Result<(), OpError> {
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
    if let Some(array) = stored_codes(ctx, node, kind)? {
        let id = ctx.constant(node.output(0).unwrap_or(""), array);
        if kind.four_bits {
            ctx.mark_four_bits(id);
        }
        return ctx.set(node, 0, id);
    }
    let layout = Layout::read(ctx, node)?;
    let codes = Codes::known(ctx, node, [1, 2], kind)?;
    let (x, scale, zero) = (needed(ctx, node, 0)?, needed(ctx, node, 1)?, real(ctx, node, 2)?);
    let mut f = ctx.formula(node);
    let scale = layout.place(&mut f, scale)?;
    let zero = zero.map(|zero| layout.place(&mut f, zero)).transpose()?;
    let y = f.div(x, scale);
    let y = saturated(ctx, node, y, zero, kind)?;
    if let Some(codes) = codes {
        let real = codes.rounded(ctx, node, x);
        ctx.grids.insert(y, codes.grid(real));
    }
    ctx.set(node, 0, y)
}

/// The integers of a stored array of floats with stored scales, one for all or one along the axis: what training with quantisation in
/// mind exports.
fn stored_codes<'m>(ctx: &Ctx<'m>, node: &NodeView<'m>, kind: Kind) -> Result<Option<Array>, OpError> {
    if node.int("block_size", 0)? != 0 || !matches!(kind.dtype, DType::I8 | DType::U8) {
        return Ok(None);
    }
    let (Some(x), Some(scale), zero) = (ctx.array(node, 0)?, ctx.array(node, 1)?, ctx.array(node, 2)?) else {
        return Ok(None);
    };
    let (Some(values), Some(scales)) = (x.as_f32(), scale.as_f32()) else { return Ok(None) };
    let zeros = match (node.input(2), zero) {
        (None, _) => vec![0; scales.len()],
        (Some(_), Some(zero)) => tensors::integers(&zero).unwrap_or_default(),
        _ => return Ok(None),
    };
    let axis = normalize(node.int("axis", 1)?, x.dims.len()).unwrap_or(0);
    let size = x.dims.get(axis).copied().unwrap_or(1).max(1);
    let inner: usize = x.dims.iter().skip(axis + 1).product();
    if zeros.len() != scales.len() || (scales.len() != 1 && scales.len() != size) {
        return Ok(None);
    }
    let (lo, hi) = kind.range()?;
    let code = |(i, x): (usize, &f32)| {
        let at = if scales.len() == 1 { 0 } else { i / inner.max(1) % size };
        let code = f64::from((x / scales[at]).round_ties_even()) + zeros[at] as f64;
        code.max(lo).min(hi) as i16 as u8
    };
    let data: Vec<u8> = values.iter().enumerate().map(code).collect();
    Ok(Some(Array { dtype: kind.dtype, dims: x.dims.clone(), data: data.into() }))
}

/// Codes of 8 bits with one scale and zero point, known at import.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Codes {
    /// Between two codes.
    pub scale: f32,
    /// The code that stands for 0, of signed ones; of unsigned ones, less 128.
    pub zero_point: i32,
}

impl Codes {
    /// Those of operands `[scale, zero point]` for integers of `kind`.
    pub fn known<'m>(
        ctx: &Ctx<'m>,
        node: &NodeView<'m>,
        [scale, zero]: [usize; 2],
        kind: Kind,
    ) -> Result<Option<Codes>, OpError> {
        let least = match (kind.dtype, kind.four_bits) {
            (DType::U8, false) => 128,
            (DType::I8, false) => 0,
            _ => return Ok(None),
        };
        let one = |i: usize| match ctx.stored_dims(node, i)? {
            Some(dims) if dims.iter().product::<usize>() == 1 => ctx.array(node, i),
            _ => Ok(None),
        };
        let zero = match (node.input(zero), one(zero)?) {
            (None, _) => Some(0),
            (Some(_), zero) => {
                zero.and_then(|zero| tensors::integers(&zero)).and_then(|z| z.first().copied())
            }
        };
        let scale = one(scale)?.and_then(|scale| scale.as_f32()).and_then(|s| s.first().copied());
        let (Some(scale), Some(zero)) = (scale.filter(|s| s.is_finite() && *s > 0.0), zero) else {
            return Ok(None);
        };
        let zero_point = zero.saturating_sub(least);
        let fits = (-128..=127).contains(&zero_point);
        Ok(fits.then_some(Codes { scale, zero_point: zero_point as i32 }))
    }

    /// Reals as the codes have them.
    pub fn rounded<'m>(self, ctx: &mut Ctx<'m>, node: &NodeView<'m>, x: ValueId) -> ValueId {
        let Codes { scale, zero_point } = self;
        ctx.unary(node, UnaryOp::FakeQuant { scale, zero_point }, x)
    }

    /// What a value of integers with these codes stands for.
    pub fn grid(self, real: ValueId) -> Grid {
        Grid { real, scale: self.scale, zero_point: self.zero_point }
    }

    /// Whether a value of integers stands for reals by these codes.
    pub fn is_of(self, grid: &Grid) -> bool {
        self == Codes { scale: grid.scale, zero_point: grid.zero_point }
    }
}

pub fn dequantize<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>) -> Result<(), OpError> {
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
    if let Some((weight, integers)) = stored_weight(ctx, node, dtype)? {
        let id = ctx.constant(node.output(0).unwrap_or(""), weight);
        if let Some(integers) = integers {
            ctx.keep_integers(id, integers);
        }
        return ctx.set(node, 0, id);
    }
    let codes = match Kind::of(ctx, node, 0) {
        Some(kind) if dtype == DType::F32 => Codes::known(ctx, node, [1, 2], kind)?,
        _ => None,
    };
    if let Some(codes) = codes {
        let x = ctx.operand(node, 0)?;
        if let Some(grid) = ctx.grids.get(&x).filter(|grid| codes.is_of(grid)) {
            let real = grid.real;
            return ctx.set(node, 0, real);
        }
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
    let mut y = f.cast(y, dtype);
    if let Some(codes) = codes {
        // It changes nothing, and says which codes stand for the value.
        y = codes.rounded(ctx, node, y);
    }
    ctx.set(node, 0, y)
}

/// A stored array with stored scales, as real numbers, and what those are made of.
fn stored_weight<'m>(
    ctx: &Ctx<'m>,
    node: &NodeView<'m>,
    dtype: DType,
) -> Result<Option<(Array, Option<Integers>)>, OpError> {
    let (Some(x), Some(scale)) = (ctx.array(node, 0)?, ctx.array(node, 1)?) else { return Ok(None) };
    let zero = ctx.array(node, 2)?;
    if node.input(2).is_some() != zero.is_some() {
        return Ok(None);
    }
    let size = usize::try_from(node.int("block_size", 0)?).ok().filter(|b| *b > 0);
    let axis = normalize(node.int("axis", 1)?, x.dims.len()).unwrap_or(0);
    dequantized((&x, ctx.four_bits(node, 0)), &scale, zero.as_ref(), Blocks { axis, size }, dtype).map(Some)
}

/// Which elements of an array share a scale.
pub struct Blocks {
    /// The axis along which scales differ.
    pub axis: usize,
    /// So many neighbours along it, apart for each place along the other axes; `None`: all with the same place along it.
    pub size: Option<usize>,
}

/// `(x - zero) * scale`, of stored integers, whether they have 4 bits, and what the reals are made of: one scale, one for each place along
/// an axis, or one for each block along it.
pub fn dequantized(
    (x, four_bits): (&Array, bool),
    scale: &Array,
    zero: Option<&Array>,
    Blocks { axis, size: block }: Blocks,
    dtype: DType,
) -> Result<(Array, Option<Integers>), OpError> {
    let (Some(values), Some(scales)) = (tensors::integers(x), tensors::floats(scale)) else {
        return malformed("a stored operand of an unexpected type");
    };
    let zeros = match zero {
        Some(zero) if zero.elements() == scale.elements() => tensors::integers(zero).unwrap_or_default(),
        Some(zero) => return malformed(format!("zero points {:?} for scales {:?}", zero.dims, scale.dims)),
        None => vec![0; scales.len()],
    };
    if zeros.len() != scales.len() {
        return malformed("zero points that are no integers");
    }
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
    let real = |i: usize| f64::from(values[i].wrapping_sub(zeros[index(i)]) as f32 * scales[index(i)]);
    let reals: Vec<f64> = (0..values.len()).map(real).collect();
    let array = from_f64(dtype, &x.dims, &reals);
    let kind = Kind { dtype: x.dtype, four_bits };
    let codes = (dtype == DType::F32).then(|| codes(x, kind.four_bits)).flatten();
    let integers = codes.map(|codes| {
        let (least, _) = kind.range().unwrap_or_default();
        let half = if least < 0.0 {
            0
        } else if kind.four_bits {
            8
        } else {
            128
        };
        // Of unsigned codes a zero point of 0 is one less half their range.
        let zeros: Vec<i8> = zeros.iter().map(|zero| (zero - half) as i8).collect();
        let zeros = if zeros.iter().all(|zero| *zero == 0) { Vec::new() } else { zeros };
        let mut blocks = x.dims.clone();
        if scales.len() > 1 && axis < blocks.len() {
            blocks.iter_mut().enumerate().for_each(|(i, b)| *b = if block.is_some() { 1 } else { x.dims[i] });
            blocks[axis] = block.unwrap_or(1);
        }
        let bits = if kind.four_bits { 4 } else { 8 };
        Integers { bits, codes, scales: scales.clone(), zeros, dims: x.dims.clone(), blocks }
    });
    Ok((array, integers))
}

fn dynamic<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>) -> Result<(), OpError> {
    let x = needed(ctx, node, 0)?;
    let (y, scale, point) = dynamically(ctx, node, x)?;
    ctx.set(node, 0, y)?;
    ctx.set(node, 1, scale)?;
    ctx.set(node, 2, point)
}

/// A real value as `u8` over the range that its elements and 0 take, with the scale and the zero point.
pub fn dynamically<'m>(
    ctx: &mut Ctx<'m>,
    node: &NodeView<'m>,
    x: ValueId,
) -> Result<(ValueId, ValueId, ValueId), OpError> {
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
    let zero = match ctx.plain.get(&point) {
        Some(zero) => *zero,
        None => ctx.formula(node).cast(point, DType::F32),
    };
    let y = ctx.formula(node).div(x, scale);
    let y = saturated(ctx, node, y, Some(zero), kind)?;
    Ok((y, scale, point))
}
