//! Operators of quantised values, as arithmetic on the reals that they stand for.
//!
//! Each is what it stands for: its operands dequantised, the operation, the result quantised again. So values go from one to the next
//! as reals that are on a grid, weights stay the integers that they came as, and an integer rung computes with both.

use super::conv_weight::{groups, padded_rows, rows};
use super::integer::stored_integers;
use super::matmul::linear;
use super::quantized::{Codes, Kind, needed, real, saturated};
use super::window::window;
use crate::import::onnx::ctx::Ctx;
use crate::import::onnx::node::{NodeView, OpError, malformed, unsupported};
use crate::import::onnx::tensors;
use crate::integers::Integers;
use crate::model::Array;
use edge_runtime::graph::{Act, BinaryOp, DType, Op, Pads, ReduceOp, UnaryOp, ValueId};

/// What follows a refusal of parameters that only a run knows.
const STORED: &str = "scales and zero points that are computed are not implemented";

/// The codes of a value of integers, from its scale and zero point.
fn codes_of<'m>(
    ctx: &Ctx<'m>,
    node: &NodeView<'m>,
    [x, scale, zero]: [usize; 3],
) -> Result<Option<Codes>, OpError> {
    match Kind::of(ctx, node, x) {
        Some(kind) => Codes::known(ctx, node, [scale, zero], kind),
        None => Ok(None),
    }
}

/// The reals that a value of integers stands for: operands `[value, scale, zero point]`.
fn reals<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>, at: [usize; 3]) -> Result<Option<ValueId>, OpError> {
    let Some(codes) = codes_of(ctx, node, at)? else { return Ok(None) };
    if let Some(array) = ctx.array(node, at[0])? {
        let Some(integers) = tensors::integers(&array) else { return Ok(None) };
        let least = if array.dtype == DType::U8 { 128 } else { 0 };
        let real = |q: i64| (q - least - i64::from(codes.zero_point)) as f32 * codes.scale;
        let values: Vec<f32> = integers.into_iter().map(real).collect();
        let name = node.input(at[0]).unwrap_or("");
        return Ok(Some(ctx.constant(name, Array::f32(&array.dims, &values))));
    }
    let id = ctx.operand(node, at[0])?;
    if let Some(grid) = ctx.grids.get(&id).filter(|grid| codes.is_of(grid)) {
        return Ok(Some(grid.real));
    }
    let least = if ctx.operand_dtype(node, at[0]) == Some(DType::U8) { 128 } else { 0 };
    let x = needed(ctx, node, at[0])?;
    let mut f = ctx.formula(node);
    let (zero, scale) = (f.real(f64::from(codes.zero_point + least)), f.real(f64::from(codes.scale)));
    let x = f.sub(x, zero);
    let x = f.mul(x, scale);
    Ok(Some(codes.rounded(ctx, node, x)))
}

/// [`reals`] of an operator that is implemented for no others.
fn known_reals<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>, at: [usize; 3]) -> Result<ValueId, OpError> {
    match reals(ctx, node, at)? {
        Some(x) => Ok(x),
        None => unsupported(STORED),
    }
}

/// Makes reals the node's result: integers of the kind of operand `like`, with operands `[scale, zero point]`.
fn quantised<'m>(
    ctx: &mut Ctx<'m>,
    node: &NodeView<'m>,
    y: ValueId,
    like: usize,
    [scale, zero]: [usize; 2],
) -> Result<(), OpError> {
    let kind = Kind::of(ctx, node, if node.input(zero).is_some() { zero } else { like });
    let Some(kind) = kind else { return unsupported(STORED) };
    let Some(codes) = Codes::known(ctx, node, [scale, zero], kind)? else { return unsupported(STORED) };
    set_quantised(ctx, node, y, kind, codes)
}

/// Makes reals the node's result as integers of a kind.
fn set_quantised<'m>(
    ctx: &mut Ctx<'m>,
    node: &NodeView<'m>,
    y: ValueId,
    kind: Kind,
    codes: Codes,
) -> Result<(), OpError> {
    let real = codes.rounded(ctx, node, y);
    let least = if kind.dtype == DType::U8 { 128 } else { 0 };
    let mut f = ctx.formula(node);
    let (scale, zero) = (f.real(f64::from(codes.scale)), f.real(f64::from(codes.zero_point + least)));
    let y = f.div(real, scale);
    let y = saturated(ctx, node, y, Some(zero), kind)?;
    ctx.grids.insert(y, codes.grid(real));
    ctx.set(node, 0, y)
}

pub fn binary<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>, op: BinaryOp) -> Result<(), OpError> {
    if midway(ctx, node, op)? {
        return unsupported("results midway between two codes");
    }
    let (a, b) = (known_reals(ctx, node, [0, 1, 2])?, known_reals(ctx, node, [3, 4, 5])?);
    let y = ctx.binary(node, op, a, b);
    quantised(ctx, node, y, 0, [6, 7])
}

/// Whether results lie midway between two codes and an odd zero point decides: onnxruntime rounds with the zero point added, to the even
/// code, a value on a grid without it. Scales that training gives are no such multiples of one another.
fn midway<'m>(ctx: &Ctx<'m>, node: &NodeView<'m>, op: BinaryOp) -> Result<bool, OpError> {
    let kind = Kind::of(ctx, node, if node.input(7).is_some() { 7 } else { 0 });
    let Some(Some(y)) = kind.map(|kind| Codes::known(ctx, node, [6, 7], kind)).transpose()? else {
        return Ok(false);
    };
    let (Some(a), Some(b)) = (codes_of(ctx, node, [0, 1, 2])?, codes_of(ctx, node, [3, 4, 5])?) else {
        return Ok(false);
    };
    let few_bits = |ratio: f32| (ratio * 256.0).fract() == 0.0;
    let ratios = match op {
        BinaryOp::Mul => [a.scale * b.scale / y.scale; 2],
        _ => [a.scale / y.scale, b.scale / y.scale],
    };
    Ok(y.zero_point % 2 != 0 && ratios.into_iter().all(few_bits))
}

pub fn sigmoid<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>) -> Result<(), OpError> {
    let x = known_reals(ctx, node, [0, 1, 2])?;
    let y = ctx.unary(node, UnaryOp::Act(Act::Sigmoid), x);
    quantised(ctx, node, y, 0, [3, 4])
}

pub fn leaky_relu<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>) -> Result<(), OpError> {
    let alpha = node.float("alpha", 0.01)?;
    let x = known_reals(ctx, node, [0, 1, 2])?;
    let y = ctx.unary(node, UnaryOp::Act(Act::LeakyRelu { alpha }), x);
    quantised(ctx, node, y, 0, [3, 4])
}

pub fn softmax<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>) -> Result<(), OpError> {
    let x = known_reals(ctx, node, [0, 1, 2])?;
    let (rank, axis) = (ctx.rank(x)?, ctx.axis(x, node.int("axis", -1)?)?);
    // Before opset 13 all dimensions from the axis on are one.
    if node.int("opset", 13)? < 13 && axis as usize + 1 != rank {
        return unsupported(format!("attribute axis={axis} of {rank} dimensions is not implemented"));
    }
    let y = ctx.emit(node, Op::Softmax { axis, log: false }, &[Some(x)]);
    quantised(ctx, node, y, 0, [3, 4])
}

pub fn global_pool<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>) -> Result<(), OpError> {
    node.only_int("channels_last", 0)?;
    let x = known_reals(ctx, node, [0, 1, 2])?;
    let axes: Vec<i32> = (2..ctx.rank(x)? as i32).collect();
    let y = ctx.formula(node).reduce(ReduceOp::Mean, x, &axes, true);
    quantised(ctx, node, y, 0, [3, 4])
}

pub fn concat<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>) -> Result<(), OpError> {
    let Some(axis) = node.int_if("axis")? else { return malformed("attribute `axis` is missing") };
    let parts = (2..node.inputs()).step_by(3).map(|i| known_reals(ctx, node, [i, i + 1, i + 2]));
    let parts: Vec<ValueId> = parts.collect::<Result<_, _>>()?;
    let Some(first) = parts.first() else { return malformed("no operands") };
    let axis = ctx.axis(*first, axis)?;
    let y = ctx.concat(node, &parts, axis);
    quantised(ctx, node, y, 2, [0, 1])
}

/// The scale of operand `scale` as many times as there are channels.
fn scales<'m>(
    ctx: &Ctx<'m>,
    node: &NodeView<'m>,
    scale: usize,
    channels: usize,
) -> Result<Option<Vec<f32>>, OpError> {
    let Some(values) = ctx.array(node, scale)?.and_then(|scale| scale.as_f32()) else { return Ok(None) };
    Ok(match values.len() {
        1 => Some(vec![values[0]; channels]),
        n if n == channels => Some(values),
        _ => None,
    })
}

/// A stored bias of 32-bit integers as reals: times the scales of the operand and of the weight.
fn bias<'m>(
    ctx: &mut Ctx<'m>,
    node: &NodeView<'m>,
    i: usize,
    x_scale: f32,
    scales: &[f32],
) -> Result<Option<ValueId>, OpError> {
    let Some(array) = ctx.array(node, i)? else { return Ok(None) };
    let values = tensors::integers(&array).filter(|values| values.len() == scales.len());
    let Some(values) = values else { return malformed(format!("a bias of shape {:?}", array.dims)) };
    let reals: Vec<f32> = values.iter().zip(scales).map(|(b, s)| *b as f32 * (x_scale * s)).collect();
    let name = node.input(i).unwrap_or("").to_owned();
    Ok(Some(ctx.constant(&name, Array::f32(&[reals.len()], &reals))))
}

/// A constant of reals that are made of integers, in another layout.
pub fn constant<'m>(
    ctx: &mut Ctx<'m>,
    name: &str,
    integers: &Integers,
    make: impl Fn(&Array) -> Result<Array, OpError>,
) -> Result<ValueId, OpError> {
    let made = make(&Array::f32(&integers.dims, &integers.reals()))?;
    let moved = if integers.is_sound() { integers.moved(&made, make) } else { None };
    let id = ctx.constant(name, made);
    if let Some(moved) = moved {
        ctx.keep_integers(id, moved);
    }
    Ok(id)
}

/// `QLinearConv` of a stored weight whose parameters are all stored; `false` when it is another.
pub fn conv<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>) -> Result<bool, OpError> {
    // onnxruntime's own attribute: the general form takes it.
    if node.int("channels_last", 0)? != 0 {
        return Ok(false);
    }
    let Some(weight) = stored_integers(ctx, node, [3, 4, 5], 0)? else { return Ok(false) };
    let (Some(kind), true) = (Kind::of(ctx, node, 7), matches!(weight.dims.len(), 3 | 4)) else {
        return Ok(false);
    };
    let Some(codes) = Codes::known(ctx, node, [6, 7], kind)? else { return Ok(false) };
    let (Some(own), Some(scales)) = (codes_of(ctx, node, [0, 1, 2])?, scales(ctx, node, 4, weight.dims[0])?)
    else {
        return Ok(false);
    };
    if node.input(8).is_some() && ctx.array(node, 8)?.is_none() {
        return Ok(false);
    }
    let Some(x) = reals(ctx, node, [0, 1, 2])? else { return Ok(false) };
    let (dims, rank) = (weight.dims.clone(), ctx.rank(x)?);
    if rank != dims.len() || dims.contains(&0) {
        return malformed(format!("a weight {dims:?} for an operand of rank {rank}"));
    }
    let groups = groups(node, &dims)?;
    let window = window(node, rank, Some(&dims[2..]))?;
    let padded = padded_rows(&dims, groups);
    let name = node.input(3).unwrap_or("").to_owned();
    let w = constant(ctx, &name, &weight, |w| rows(w, groups, padded))?;
    let bias = bias(ctx, node, 8, own.scale, &scales)?;
    let x = ctx.channels_last(node, x, rank);
    let op = Op::Conv { window, groups, out_channels: dims[0], act: Act::None, act_after_residual: false };
    let y = ctx.emit(node, op, &[Some(x), Some(w), None, bias]);
    let y = ctx.channels_first(node, y, rank);
    set_quantised(ctx, node, y, kind, codes)?;
    Ok(true)
}

/// A matrix `[K, N]` as rows `[N, K]`.
pub fn transposed(w: &Array) -> Result<Array, OpError> {
    let (Some(values), [k, n]) = (w.as_f32(), &w.dims[..]) else {
        return malformed("a weight that is no matrix");
    };
    let moved: Vec<f32> = (0..n * k).map(|i| values[i % k * n + i / k]).collect();
    Ok(Array::f32(&[*n, *k], &moved))
}

/// `QLinearMatMul` of a stored matrix whose parameters are all stored; `false` when it is another.
pub fn matmul<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>) -> Result<bool, OpError> {
    let Some(weight) = stored_integers(ctx, node, [3, 4, 5], 1)? else { return Ok(false) };
    let [k, n] = weight.dims[..] else { return Ok(false) };
    let Some(kind) = Kind::of(ctx, node, 7) else { return Ok(false) };
    let Some(codes) = Codes::known(ctx, node, [6, 7], kind)? else { return Ok(false) };
    if n * k == 0 || ctx.array(node, 0)?.is_some() {
        return Ok(false);
    }
    let Some(x) = reals(ctx, node, [0, 1, 2])? else { return Ok(false) };
    let name = node.input(3).unwrap_or("").to_owned();
    let w = constant(ctx, &name, &weight, transposed)?;
    let y = ctx.emit(node, linear(n), &[Some(x), Some(w)]);
    set_quantised(ctx, node, y, kind, codes)?;
    Ok(true)
}

/// `alpha * A' · B' + C`, quantised where a scale says so.
pub fn gemm<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>) -> Result<(), OpError> {
    if node.float("alpha", 1.0)? != 1.0 {
        return unsupported("attribute alpha other than 1 is not implemented");
    }
    let (trans_a, trans_b) = (node.flag("transA", false)?, node.flag("transB", false)?);
    let axis = usize::from(!trans_b);
    let Some(weight) = stored_integers(ctx, node, [3, 4, 5], axis)? else {
        return unsupported("a matrix that is computed is not implemented");
    };
    let [rows, columns] = weight.dims[..] else { return malformed("an operand that is no matrix") };
    let (n, own) = (if trans_b { rows } else { columns }, codes_of(ctx, node, [0, 1, 2])?);
    let (Some(own), Some(scales)) = (own, scales(ctx, node, 4, n)?) else { return unsupported(STORED) };
    let x = known_reals(ctx, node, [0, 1, 2])?;
    let x = if trans_a { ctx.transpose(node, x, &[1, 0]) } else { x };
    let name = node.input(3).unwrap_or("").to_owned();
    let w = match trans_b {
        true => constant(ctx, &name, &weight, |w| Ok(w.clone()))?,
        false => constant(ctx, &name, &weight, transposed)?,
    };
    let bias = match node.input(6) {
        None => None,
        Some(_) => match bias(ctx, node, 6, own.scale, &scales)? {
            Some(bias) => Some(bias),
            None => return unsupported("a bias that is computed is not implemented"),
        },
    };
    let y = ctx.emit(node, linear(n), &[Some(x), Some(w), None, bias]);
    match node.input(7) {
        Some(_) => quantised(ctx, node, y, 0, [7, 8]),
        None => ctx.set(node, 0, y),
    }
}

/// `MatMulInteger` with a stored matrix, as 32-bit integers; `None` when it is another.
///
/// `sum (a - za)(w - zw) = sum (a - c)(w - zw) + (c - za) sum (w - zw)`: with `c` the middle of the operand's range its codes are
/// signed and known, whatever its zero point, and an integer rung multiplies them. The matrix is cut along K so that a float holds each
/// sum.
pub fn integer_product<'m>(
    ctx: &mut Ctx<'m>,
    node: &NodeView<'m>,
    [a, a_zero, b, b_zero]: [usize; 4],
) -> Result<Option<ValueId>, OpError> {
    let Some(weight) = stored_integers(ctx, node, [b, usize::MAX, b_zero], 1)? else { return Ok(None) };
    let [k, n] = weight.dims[..] else { return Ok(None) };
    let middle = match ctx.operand_dtype(node, a) {
        Some(DType::U8) => 128,
        Some(DType::I8) => 0,
        _ => return Ok(None),
    };
    let reals = weight.reals();
    let fits = |from: usize, to: usize| {
        (0..n).all(|c| (from..to).map(|r| reals[r * n + c].abs()).sum::<f32>() <= MOST)
    };
    let Some(cuts) = cuts(k, fits).filter(|_| n > 0) else { return Ok(None) };
    if ctx.array(node, a)?.is_some() {
        return Ok(None);
    }
    let (x, zero) = (needed(ctx, node, a)?, real(ctx, node, a_zero)?);
    let mut f = ctx.formula(node);
    let c = f.real(f64::from(middle));
    let x = if middle == 0 { x } else { f.sub(x, c) };
    let x = Codes { scale: 1.0, zero_point: 0 }.rounded(ctx, node, x);
    let name = node.input(b).unwrap_or("").to_owned();
    let mut sum: Option<ValueId> = None;
    let whole = cuts.len() == 1;
    for (from, to) in cuts {
        let w = constant(ctx, &name, &weight, |w| {
            let rows = transposed(w)?;
            let (all, kept) = (rows.as_f32().unwrap_or_default(), to - from);
            let cut: Vec<f32> = all.chunks_exact(k).flat_map(|row| &row[from..to]).copied().collect();
            Ok(Array::f32(&[n, kept], &cut))
        })?;
        let mut f = ctx.formula(node);
        let part = if whole { x } else { f.slice(x, -1, from as i64, to as i64) };
        let y = ctx.emit(node, linear(n), &[Some(part), Some(w)]);
        // A single one stays a float, which what follows makes of it anyway.
        let y = if whole { y } else { ctx.formula(node).cast(y, DType::I32) };
        sum = Some(sum.map_or(y, |sum| ctx.formula(node).add(sum, y)));
    }
    let Some(mut y) = sum else { return Ok(None) };
    let columns: Vec<f32> = (0..n).map(|c| (0..k).map(|r| reals[r * n + c]).sum()).collect();
    let mut f = ctx.formula(node);
    let rest = match zero {
        None if middle == 0 => None,
        None => Some(c),
        Some(zero) => {
            let zero = match f.ctx.rank(zero)? {
                1 if f.ctx.fact(zero).size(0) != Some(1) => f.unsqueeze(zero, &[1]),
                _ => zero,
            };
            Some(f.sub(c, zero))
        }
    };
    if let Some(rest) = rest {
        let columns = f.reals(&[n], &columns);
        let rest = f.mul(rest, columns);
        y = match whole {
            true => f.add(y, rest),
            false => {
                let rest = f.cast(rest, DType::I32);
                f.add(y, rest)
            }
        };
    }
    if !whole {
        return Ok(Some(y));
    }
    let integers = f.cast(y, DType::I32);
    ctx.plain.insert(integers, y);
    Ok(Some(integers))
}

/// `ConvInteger` with a stored weight, as 32-bit integers; `None` when it is another, or floats could not hold its sums.
///
/// As [`integer_product`] where nothing is padded. Padding is of real zeros, so with it the operand less its zero point is what is multiplied,
/// and that has 9 bits: floats, with the weight as the integers that it is.
pub fn integer_conv<'m>(
    ctx: &mut Ctx<'m>,
    node: &NodeView<'m>,
    [x, x_zero, w, w_zero]: [usize; 4],
) -> Result<Option<ValueId>, OpError> {
    let Some(weight) = stored_integers(ctx, node, [w, usize::MAX, w_zero], 0)? else { return Ok(None) };
    let dims = weight.dims.clone();
    let middle = match ctx.operand_dtype(node, x) {
        Some(DType::U8) => 128.0,
        Some(DType::I8) => 0.0,
        _ => return Ok(None),
    };
    if !matches!(dims.len(), 3 | 4) || dims.contains(&0) || ctx.array(node, x)?.is_some() {
        return Ok(None);
    }
    let groups = groups(node, &dims)?;
    let (reals, channels, taps) = (weight.reals(), dims[1], dims[2..].iter().product::<usize>());
    let fits = |from: usize, to: usize| {
        let sum = |row: &[f32]| row[from * taps..to * taps].iter().map(|w| w.abs()).sum::<f32>();
        reals.chunks_exact(channels * taps).all(|row| sum(row) <= MOST)
    };
    let Some(cuts) = cuts(channels, fits).filter(|cuts| groups == 1 || cuts.len() == 1) else {
        return Ok(None);
    };
    let (value, zero) = (needed(ctx, node, x)?, real(ctx, node, x_zero)?);
    let rank = ctx.rank(value)?;
    if rank != dims.len() {
        return Ok(None);
    }
    let window = window(node, rank, Some(&dims[2..]))?;
    let signed = window.pads == Pads::Explicit([0; 4]);
    let mut f = ctx.formula(node);
    let zero = zero.map(|zero| f.reshape(zero, &[]));
    let c = f.real(middle);
    let value = match (signed, zero) {
        (true, _) if middle == 0.0 => value,
        (true, _) => f.sub(value, c),
        (false, Some(zero)) => f.sub(value, zero),
        (false, None) => value,
    };
    let value = match signed {
        true => Codes { scale: 1.0, zero_point: 0 }.rounded(ctx, node, value),
        false => value,
    };
    let all = ctx.channels_last(node, value, rank);
    let (name, padded) = (node.input(w).unwrap_or("").to_owned(), padded_rows(&dims, groups));
    let (mut sum, whole): (Option<ValueId>, bool) = (None, cuts.len() == 1);
    for (from, to) in cuts {
        let w = constant(ctx, &name, &weight, |w| {
            let rows = rows(w, groups, padded)?;
            let values = rows.as_f32().unwrap_or_default();
            let cut: Vec<f32> =
                values.chunks_exact(channels).flat_map(|tap| &tap[from..to]).copied().collect();
            Ok(Array::f32(&[padded, taps * (to - from)], &cut))
        })?;
        let part = if whole { all } else { ctx.formula(node).slice(all, -1, from as i64, to as i64) };
        let out_channels = dims[0];
        let op = Op::Conv { window, groups, out_channels, act: Act::None, act_after_residual: false };
        let y = ctx.emit(node, op, &[Some(part), Some(w)]);
        let y = if whole { y } else { ctx.formula(node).cast(y, DType::I32) };
        sum = Some(sum.map_or(y, |sum| ctx.formula(node).add(sum, y)));
    }
    let Some(mut y) = sum else { return Ok(None) };
    let mut f = ctx.formula(node);
    let rest = match zero {
        _ if !signed => None,
        None if middle == 0.0 => None,
        None => Some(c),
        Some(zero) => Some(f.sub(c, zero)),
    };
    if let Some(rest) = rest {
        let sums: Vec<f32> = reals.chunks_exact(channels * taps).map(|row| row.iter().sum()).collect();
        let sums = f.whole(&[dims[0]], &sums);
        let rest = f.mul(rest, sums);
        let rest = if whole { rest } else { f.cast(rest, DType::I32) };
        y = f.add(y, rest);
    }
    let y = ctx.channels_first(node, y, rank);
    if !whole {
        return Ok(Some(y));
    }
    let integers = ctx.formula(node).cast(y, DType::I32);
    ctx.plain.insert(integers, y);
    Ok(Some(integers))
}

/// Most pieces that a product is cut into.
const MAX_PIECES: usize = 64;

/// Most that the magnitudes of a row's integers add up to so that a float holds its products with 8-bit codes less a zero point exactly.
const MOST: f32 = 16_777_216.0 / 256.0;

/// Ranges of so many summands, few and of like size, that fit all; `None` when there would be too many.
fn cuts(summands: usize, fits: impl Fn(usize, usize) -> bool) -> Option<Vec<(usize, usize)>> {
    for pieces in 1..=MAX_PIECES.min(summands) {
        let size = summands.div_ceil(pieces);
        let cuts: Vec<(usize, usize)> =
            (0..summands).step_by(size).map(|from| (from, summands.min(from + size))).collect();
        if cuts.iter().all(|(from, to)| fits(*from, *to)) {
            return Some(cuts);
        }
    }
    None
}
