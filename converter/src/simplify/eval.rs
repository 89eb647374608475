//! Evaluates one operation on constants.
//!
//! Floats are computed in f64 and rounded once, which for the four operations and the square root is the f32 result
//! itself; integers are computed as i64. Moves work on bytes, so they take every element type. `None` means that the
//! operation, its type or its size is not worth evaluating here.

use super::infer::{full_perm, shape_range};
use super::sizes::{axes, axis};
use crate::model::Array;
use edge_runtime::graph::{Act, BinaryOp, DType, Op, ReduceOp, UnaryOp};
use half::{bf16, f16};

/// Most bytes that an expanded result may take.
const MAX_BYTES: usize = 1 << 20;

/// Elements as numbers.
#[derive(Clone, Debug)]
enum Numbers {
    Float(Vec<f64>),
    Int(Vec<i64>),
}

/// The results of `op` on constants.
pub(crate) fn evaluate(op: &Op, inputs: &[Option<&Array>], outputs: usize) -> Option<Vec<Array>> {
    // Loops go through what a 0 among the sizes hides.
    let hidden = |x: &&Array| x.data.is_empty() && elements_but_zeros(&x.dims).is_none_or(|n| n > MAX_BYTES);
    inputs.iter().copied().flatten().all(|x| !hidden(&x)).then_some(())?;
    let get = |i: usize| inputs.get(i).copied().flatten();
    let one = match op {
        Op::Unary(f) => unary(*f, get(0)?)?,
        Op::Binary(f) => binary(*f, get(0)?, get(1)?)?,
        Op::Cast { to } => cast(get(0)?, *to)?,
        Op::Where => select(get(0)?, get(1)?, get(2)?)?,
        Op::Reshape { allow_zero } => reshape(get(0)?, &get(1)?.as_i64()?, *allow_zero)?,
        Op::Unsqueeze { axes: list } => {
            let x = get(0)?;
            let rank = x.dims.len() + list.len();
            let at = axes(list, rank)?;
            let mut rest = x.dims.iter();
            let dims = (0..rank)
                .map(|i| if at.contains(&i) { Some(1) } else { rest.next().copied() })
                .collect::<Option<_>>()?;
            with_dims(x, dims)?
        }
        Op::Squeeze { axes: list } => {
            let x = get(0)?;
            let at = axes(list, x.dims.len())?;
            let drop = |i: usize| x.dims[i] == 1 && (list.is_empty() || at.contains(&i));
            with_dims(x, (0..x.dims.len()).filter(|i| !drop(*i)).map(|i| x.dims[i]).collect())?
        }
        Op::Flatten { axis: a } => {
            let x = get(0)?;
            let at = if *a as usize == x.dims.len() { x.dims.len() } else { axis(*a, x.dims.len())? };
            with_dims(x, vec![x.dims[..at].iter().product(), x.dims[at..].iter().product()])?
        }
        Op::Transpose { perm } => transpose(get(0)?, perm)?,
        Op::Concat { axis } => concat(&inputs.iter().copied().collect::<Option<Vec<_>>>()?, *axis)?,
        Op::Slice { axes: list } => {
            let steps =
                if inputs.get(3).is_some_and(Option::is_some) { Some(get(3)?.as_i64()?) } else { None };
            slice(get(0)?, list, &get(1)?.as_i64()?, &get(2)?.as_i64()?, steps.as_deref())?
        }
        Op::Split { axis } => {
            let sizes =
                if inputs.get(1).is_some_and(Option::is_some) { Some(get(1)?.as_i64()?) } else { None };
            return split(get(0)?, *axis, sizes.as_deref(), outputs);
        }
        Op::Gather { axis } => gather(get(0)?, get(1)?, *axis)?,
        Op::Expand => {
            let x = get(0)?;
            let shape: Vec<usize> =
                get(1)?.as_i64()?.into_iter().map(usize::try_from).collect::<Result<_, _>>().ok()?;
            expand(x, &broadcast_dims(&x.dims, &shape)?)?
        }
        Op::ConstantOfShape { dtype, value } => {
            let dims: Vec<usize> =
                get(0)?.as_i64()?.into_iter().map(usize::try_from).collect::<Result<_, _>>().ok()?;
            let count = elements(&dims)?;
            (value.len() == dtype.bytes() && count.checked_mul(value.len())? <= MAX_BYTES).then_some(())?;
            Array { dtype: *dtype, dims, data: value.repeat(count).into() }
        }
        Op::Range => range(get(0)?, get(1)?, get(2)?)?,
        Op::Shape { start, end } => {
            let x = get(0)?;
            let (start, end) = shape_range(*start, *end, x.dims.len());
            let dims: Vec<i64> = x.dims.get(start..end.max(start))?.iter().map(|d| *d as i64).collect();
            Array::i64(&[dims.len()], &dims)
        }
        Op::Size => Array::i64(&[], &[get(0)?.elements() as i64]),
        Op::Reduce { kind, axes, keep_dims } => reduce(*kind, get(0)?, axes, *keep_dims)?,
        _ => return None,
    };
    Some(vec![one])
}

/// The number of elements, when no product of some of the sizes overflows either: a 0 among them must not hide it.
fn elements(dims: &[usize]) -> Option<usize> {
    let most = elements_but_zeros(dims)?;
    Some(if dims.contains(&0) { 0 } else { most })
}

/// The number of elements if sizes of 0 were 1.
fn elements_but_zeros(dims: &[usize]) -> Option<usize> {
    dims.iter().try_fold(1usize, |n, d| n.checked_mul((*d).max(1)))
}

fn numbers(array: &Array) -> Option<Numbers> {
    Some(match array.dtype {
        DType::F32 => Numbers::Float(array.as_f32()?.into_iter().map(f64::from).collect()),
        DType::F64 => {
            Numbers::Float(array.data.as_chunks::<8>().0.iter().map(|b| f64::from_le_bytes(*b)).collect())
        }
        DType::F16 => Numbers::Float(
            array.data.as_chunks::<2>().0.iter().map(|b| f16::from_le_bytes(*b).to_f64()).collect(),
        ),
        DType::Bf16 => Numbers::Float(
            array.data.as_chunks::<2>().0.iter().map(|b| bf16::from_le_bytes(*b).to_f64()).collect(),
        ),
        DType::I64 | DType::I32 => Numbers::Int(array.as_i64()?),
        DType::Bool | DType::U8 => Numbers::Int(array.data.iter().map(|b| i64::from(*b)).collect()),
        DType::I8 => Numbers::Int(array.data.iter().map(|b| i64::from(*b as i8)).collect()),
        _ => return None,
    })
}

fn array(dtype: DType, dims: Vec<usize>, numbers: &Numbers) -> Option<Array> {
    let data: Vec<u8> = match (numbers, dtype) {
        (Numbers::Float(v), DType::F32) => v.iter().flat_map(|x| (*x as f32).to_le_bytes()).collect(),
        (Numbers::Float(v), DType::F64) => v.iter().flat_map(|x| x.to_le_bytes()).collect(),
        // By way of f32, as kernels compute: its 24 bits are enough for the second rounding to change nothing.
        (Numbers::Float(v), DType::F16) => {
            v.iter().flat_map(|x| f16::from_f32(*x as f32).to_le_bytes()).collect()
        }
        (Numbers::Float(v), DType::Bf16) => {
            v.iter().flat_map(|x| bf16::from_f32(*x as f32).to_le_bytes()).collect()
        }
        (Numbers::Int(v), DType::I64) => v.iter().flat_map(|x| x.to_le_bytes()).collect(),
        (Numbers::Int(v), DType::I32) => v.iter().flat_map(|x| (*x as i32).to_le_bytes()).collect(),
        (Numbers::Int(v), DType::U8 | DType::I8) => v.iter().map(|x| *x as u8).collect(),
        (Numbers::Int(v), DType::Bool) => v.iter().map(|x| u8::from(*x != 0)).collect(),
        _ => return None,
    };
    Some(Array { dtype, dims, data: data.into() })
}

fn with_dims(x: &Array, dims: Vec<usize>) -> Option<Array> {
    (elements(&dims)? == x.elements()).then(|| Array { dtype: x.dtype, dims, data: x.data.clone() })
}

/// The shape two operands broadcast to.
pub(super) fn broadcast_dims(a: &[usize], b: &[usize]) -> Option<Vec<usize>> {
    let rank = a.len().max(b.len());
    let at = |dims: &[usize], i: usize| (i + dims.len()).checked_sub(rank).map_or(1, |i| dims[i]);
    (0..rank)
        .map(|i| match (at(a, i), at(b, i)) {
            (x, y) if x == y => Some(x),
            (1, n) | (n, 1) => Some(n),
            _ => None,
        })
        .collect()
}

/// For each element of `to`, the index of the element of `from` that it repeats.
fn broadcast_indices(from: &[usize], to: &[usize]) -> Vec<usize> {
    let lead = to.len() - from.len();
    let mut strides = vec![0; to.len()];
    let mut stride = 1;
    for i in (0..from.len()).rev() {
        strides[lead + i] = if from[i] == 1 { 0 } else { stride };
        stride *= from[i];
    }
    walk(to, &strides, 0)
}

/// The offsets of an index that counts through `dims`, with these strides.
fn walk(dims: &[usize], strides: &[usize], start: usize) -> Vec<usize> {
    let mut offsets = vec![start];
    for (n, stride) in dims.iter().zip(strides) {
        offsets = offsets.iter().flat_map(|o| (0..*n).map(move |i| o + i * stride)).collect();
    }
    offsets
}

fn pick(x: &Array, dims: Vec<usize>, indices: &[usize]) -> Option<Array> {
    let size = x.dtype.bytes();
    let mut data = Vec::with_capacity(indices.len() * size);
    for i in indices {
        data.extend_from_slice(x.data.get(i * size..(i + 1) * size)?);
    }
    Some(Array { dtype: x.dtype, dims, data: data.into() })
}

fn expand(x: &Array, dims: &[usize]) -> Option<Array> {
    (elements(dims)?.checked_mul(x.dtype.bytes())? <= MAX_BYTES.max(x.data.len())).then_some(())?;
    pick(x, dims.to_vec(), &broadcast_indices(&x.dims, dims))
}

fn unary(f: UnaryOp, x: &Array) -> Option<Array> {
    let result = match numbers(x)? {
        Numbers::Float(v) => Numbers::Float(v.into_iter().map(|x| float_unary(f, x)).collect::<Option<_>>()?),
        Numbers::Int(v) => Numbers::Int(
            v.into_iter()
                .map(|n| match f {
                    UnaryOp::Neg => n.checked_neg(),
                    UnaryOp::Abs => n.checked_abs(),
                    UnaryOp::Sign => Some(n.signum()),
                    UnaryOp::Not if x.dtype == DType::Bool => Some(i64::from(n == 0)),
                    _ => None,
                })
                .collect::<Option<_>>()?,
        ),
    };
    array(x.dtype, x.dims.clone(), &result)
}

fn float_unary(f: UnaryOp, x: f64) -> Option<f64> {
    Some(match f {
        UnaryOp::Neg => -x,
        UnaryOp::Abs => x.abs(),
        UnaryOp::Sqrt => x.sqrt(),
        UnaryOp::Exp => x.exp(),
        UnaryOp::Log => x.ln(),
        UnaryOp::Sin => x.sin(),
        UnaryOp::Cos => x.cos(),
        UnaryOp::Floor => x.floor(),
        UnaryOp::Ceil => x.ceil(),
        UnaryOp::Round => x.round_ties_even(),
        UnaryOp::Reciprocal => 1.0 / x,
        UnaryOp::Act(Act::Relu) if !x.is_nan() => x.max(0.0),
        UnaryOp::Act(Act::Clip { lo, hi }) if !x.is_nan() => x.max(lo.into()).min(hi.into()),
        UnaryOp::Act(Act::Sigmoid) => 1.0 / (1.0 + (-x).exp()),
        UnaryOp::Act(Act::Tanh) => x.tanh(),
        _ => return None,
    })
}

fn binary(f: BinaryOp, a: &Array, b: &Array) -> Option<Array> {
    (a.dtype == b.dtype).then_some(())?;
    let dims = broadcast_dims(&a.dims, &b.dims)?;
    let (ea, eb) = (expand(a, &dims)?, expand(b, &dims)?);
    match (numbers(&ea)?, numbers(&eb)?) {
        (Numbers::Float(x), Numbers::Float(y)) => {
            if let Some(test) = comparison(f) {
                let result = x.iter().zip(&y).map(|(x, y)| i64::from(test(x.partial_cmp(y)))).collect();
                return array(DType::Bool, dims, &Numbers::Int(result));
            }
            let result = x.iter().zip(&y).map(|(x, y)| float_binary(f, *x, *y)).collect::<Option<_>>()?;
            array(a.dtype, dims, &Numbers::Float(result))
        }
        (Numbers::Int(x), Numbers::Int(y)) => {
            if let Some(test) = comparison(f) {
                let result = x.iter().zip(&y).map(|(x, y)| i64::from(test(x.partial_cmp(y)))).collect();
                return array(DType::Bool, dims, &Numbers::Int(result));
            }
            let result = x.iter().zip(&y).map(|(x, y)| int_binary(f, *x, *y)).collect::<Option<_>>()?;
            array(a.dtype, dims, &Numbers::Int(result))
        }
        _ => None,
    }
}

/// The test a comparison makes; unordered (NaN) is false for all.
fn comparison(f: BinaryOp) -> Option<fn(Option<std::cmp::Ordering>) -> bool> {
    use std::cmp::Ordering::{Equal, Greater, Less};
    Some(match f {
        BinaryOp::Equal => |o| o == Some(Equal),
        BinaryOp::Less => |o| o == Some(Less),
        BinaryOp::LessOrEqual => |o| matches!(o, Some(Less | Equal)),
        BinaryOp::Greater => |o| o == Some(Greater),
        BinaryOp::GreaterOrEqual => |o| matches!(o, Some(Greater | Equal)),
        _ => return None,
    })
}

fn float_binary(f: BinaryOp, x: f64, y: f64) -> Option<f64> {
    Some(match f {
        BinaryOp::Add => x + y,
        BinaryOp::Sub => x - y,
        BinaryOp::Mul => x * y,
        BinaryOp::Div => x / y,
        BinaryOp::Pow => x.powf(y),
        BinaryOp::Max if !x.is_nan() && !y.is_nan() => x.max(y),
        BinaryOp::Min if !x.is_nan() && !y.is_nan() => x.min(y),
        _ => return None,
    })
}

fn int_binary(f: BinaryOp, x: i64, y: i64) -> Option<i64> {
    match f {
        BinaryOp::Add => x.checked_add(y),
        BinaryOp::Sub => x.checked_sub(y),
        BinaryOp::Mul => x.checked_mul(y),
        BinaryOp::Div => x.checked_div(y),
        BinaryOp::Max => Some(x.max(y)),
        BinaryOp::Min => Some(x.min(y)),
        BinaryOp::Mod if y > 0 => Some(x.rem_euclid(y)),
        BinaryOp::And => Some(i64::from(x != 0 && y != 0)),
        BinaryOp::Or => Some(i64::from(x != 0 || y != 0)),
        _ => None,
    }
}

fn cast(x: &Array, to: DType) -> Option<Array> {
    if x.dtype == to {
        return Some(x.clone());
    }
    let float = to.is_float();
    let result = match numbers(x)? {
        Numbers::Int(v) if float => Numbers::Float(v.into_iter().map(|n| n as f64).collect()),
        Numbers::Float(v) if !float && to == DType::Bool => {
            Numbers::Int(v.into_iter().map(|f| i64::from(f != 0.0)).collect())
        }
        Numbers::Float(v) if !float => {
            // Outside the type's range, what a float casts to is not defined.
            let fits = |f: &f64| f.is_finite() && f.abs() < 2f64.powi(31);
            v.iter().all(fits).then_some(())?;
            Numbers::Int(v.into_iter().map(|f| f.trunc() as i64).collect())
        }
        same => same,
    };
    array(to, x.dims.clone(), &result)
}

fn select(condition: &Array, a: &Array, b: &Array) -> Option<Array> {
    (condition.dtype == DType::Bool && a.dtype == b.dtype).then_some(())?;
    let dims = broadcast_dims(&broadcast_dims(&a.dims, &b.dims)?, &condition.dims)?;
    let (c, a, b) = (expand(condition, &dims)?, expand(a, &dims)?, expand(b, &dims)?);
    let size = a.dtype.bytes();
    let data: Vec<u8> = (0..c.data.len())
        .flat_map(|i| if c.data[i] != 0 { &a.data[i * size..][..size] } else { &b.data[i * size..][..size] })
        .copied()
        .collect();
    Some(Array { dtype: a.dtype, dims, data: data.into() })
}

fn reshape(x: &Array, shape: &[i64], allow_zero: bool) -> Option<Array> {
    let mut dims = Vec::with_capacity(shape.len());
    for (i, n) in shape.iter().enumerate() {
        dims.push(match n {
            0 if !allow_zero => *x.dims.get(i)?,
            -1 => 0,
            n => usize::try_from(*n).ok()?,
        });
    }
    if let Some(free) = shape.iter().position(|n| *n == -1) {
        dims[free] = 1;
        dims[free] = x.elements().checked_div(elements(&dims)?)?;
    }
    with_dims(x, dims)
}

/// The array with its dimensions permuted.
pub(super) fn transpose(x: &Array, perm: &[usize]) -> Option<Array> {
    let perm = full_perm(perm, x.dims.len())?;
    let strides = strides(&x.dims);
    let dims: Vec<usize> = perm.iter().map(|p| x.dims[*p]).collect();
    let moved: Vec<usize> = perm.iter().map(|p| strides[*p]).collect();
    let indices = walk(&dims, &moved, 0);
    pick(x, dims, &indices)
}

fn strides(dims: &[usize]) -> Vec<usize> {
    let mut strides = vec![1; dims.len()];
    for i in (1..dims.len()).rev() {
        strides[i - 1] = strides[i] * dims[i];
    }
    strides
}

fn concat(parts: &[&Array], a: i32) -> Option<Array> {
    let first = parts.first()?;
    let at = axis(a, first.dims.len())?;
    let mut dims = first.dims.clone();
    dims[at] = 0;
    for part in parts {
        let same =
            part.dims.len() == dims.len() && (0..dims.len()).all(|i| i == at || part.dims[i] == dims[i]);
        (part.dtype == first.dtype && same).then_some(())?;
        dims[at] += part.dims[at];
    }
    let rows: usize = dims[..at].iter().product();
    let mut data = Vec::new();
    for row in 0..rows {
        for part in parts {
            let bytes = part.data.len() / rows;
            data.extend_from_slice(&part.data[row * bytes..][..bytes]);
        }
    }
    Some(Array { dtype: first.dtype, dims, data: data.into() })
}

fn slice(x: &Array, list: &[i32], starts: &[i64], ends: &[i64], steps: Option<&[i64]>) -> Option<Array> {
    let at = axes(list, x.dims.len())?;
    let mut picked: Vec<Vec<usize>> = x.dims.iter().map(|d| (0..*d).collect()).collect();
    for (i, &d) in at.iter().enumerate() {
        let step = steps.map_or(Some(1), |s| s.get(i).copied())?;
        picked[d] = positions(x.dims[d] as i64, *starts.get(i)?, *ends.get(i)?, step)?;
    }
    let dims: Vec<usize> = picked.iter().map(Vec::len).collect();
    let mut offsets = vec![0];
    for (positions, stride) in picked.iter().zip(strides(&x.dims)) {
        offsets = offsets.iter().flat_map(|o| positions.iter().map(move |p| o + p * stride)).collect();
    }
    pick(x, dims, &offsets)
}

/// The positions a slice takes of `n`. A negative step walks backwards, from `n - 1` at most to before 0.
fn positions(n: i64, start: i64, end: i64, step: i64) -> Option<Vec<usize>> {
    let wrap = |v: i64| if v < 0 { v.saturating_add(n) } else { v };
    let backwards = step < 0;
    let (low, high) = if backwards { (-1, n - 1) } else { (0, n) };
    let (mut at, end) = (wrap(start).clamp(low, high), wrap(end).clamp(low, high));
    let mut all = Vec::new();
    while step != 0 && if backwards { at > end } else { at < end } {
        all.push(usize::try_from(at).ok()?);
        at = at.saturating_add(step);
    }
    (step != 0).then_some(all)
}

fn split(x: &Array, a: i32, sizes: Option<&[i64]>, outputs: usize) -> Option<Vec<Array>> {
    let n = *x.dims.get(axis(a, x.dims.len())?)? as i64;
    let part = (n as u64).div_ceil(outputs.max(1) as u64) as i64;
    let mut from = 0;
    (0..outputs)
        .map(|i| {
            let size = sizes.map_or(Some(part), |s| s.get(i).copied())?;
            let array = slice(x, &[a], &[from], &[from + size], None);
            from += size;
            array
        })
        .collect()
}

fn gather(x: &Array, indices: &Array, a: i32) -> Option<Array> {
    let at = axis(a, x.dims.len())?;
    let n = x.dims[at] as i64;
    let picks: Vec<usize> = indices
        .as_i64()?
        .into_iter()
        .map(|i| if i < 0 { i + n } else { i })
        .map(|i| (0..n).contains(&i).then_some(i as usize))
        .collect::<Option<_>>()?;
    let dims = [&x.dims[..at], &indices.dims, &x.dims[at + 1..]].concat();
    (elements(&dims)?.checked_mul(x.dtype.bytes())? <= MAX_BYTES.max(x.data.len())).then_some(())?;
    let inner: usize = x.dims[at + 1..].iter().product();
    let outer: usize = x.dims[..at].iter().product();
    let index = |o: usize, p: usize, i: usize| (o * n as usize + p) * inner + i;
    let all: Vec<usize> = (0..outer)
        .flat_map(|o| picks.iter().flat_map(move |p| (0..inner).map(move |i| index(o, *p, i))))
        .collect();
    pick(x, dims, &all)
}

fn range(start: &Array, limit: &Array, delta: &Array) -> Option<Array> {
    let all = [start, limit, delta];
    all.iter().all(|a| a.elements() == 1 && a.dtype == start.dtype).then_some(())?;
    let (Numbers::Int(s), Numbers::Int(l), Numbers::Int(d)) =
        (numbers(start)?, numbers(limit)?, numbers(delta)?)
    else {
        return None;
    };
    let (start_at, limit, delta) = (s[0], l[0], d[0]);
    let span = i128::from(limit) - i128::from(start_at);
    (delta != 0).then_some(())?;
    let count = if (span > 0) == (delta > 0) {
        span.unsigned_abs().div_ceil(u128::from(delta.unsigned_abs()))
    } else {
        0
    };
    let count = usize::try_from(count).ok().filter(|n| *n <= MAX_BYTES / 8)?;
    let values = (0..count as i64).map(|i| start_at + i * delta).collect();
    array(start.dtype, vec![count], &Numbers::Int(values))
}

fn reduce(kind: ReduceOp, x: &Array, list: &[i32], keep: bool) -> Option<Array> {
    let at = axes(list, x.dims.len())?;
    (x.dtype.is_float() && x.data.len() <= MAX_BYTES && !at.is_empty()).then_some(())?;
    let Numbers::Float(values) = numbers(x)? else { return None };
    let kept: Vec<usize> = (0..x.dims.len()).map(|i| if at.contains(&i) { 1 } else { x.dims[i] }).collect();
    let slots = broadcast_indices(&kept, &x.dims);
    let (start, join): (f64, fn(f64, f64) -> f64) = match kind {
        ReduceOp::Sum | ReduceOp::Mean => (0.0, |a, b| a + b),
        ReduceOp::Prod => (1.0, |a, b| a * b),
        _ => return None,
    };
    let mut sums = vec![start; elements(&kept)?];
    for (slot, value) in slots.into_iter().zip(&values) {
        sums[slot] = join(sums[slot], *value);
    }
    if kind == ReduceOp::Mean {
        let count = values.len().checked_div(sums.len())? as f64;
        sums.iter_mut().for_each(|s| *s /= count);
    }
    let dims = (0..x.dims.len()).filter(|i| keep || !at.contains(i)).map(|i| kept[i]).collect();
    array(x.dtype, dims, &Numbers::Float(sums))
}
