//! The elements of shape arithmetic: what stays of `Shape`, `Gather`, `Concat` when some sizes are known.

use super::{Element, MAX_ELEMENTS, Operands, normalize};
use edge_runtime::graph::{BinaryOp, DType, Op};

/// The elements of the first result, where they can be followed.
pub fn infer(op: &Op, operands: &Operands) -> Option<Vec<Element>> {
    let of = |i: usize| operands.fact(i).and_then(|f| f.elements.clone());
    let elements = match op {
        Op::Shape { start, end } => sizes(operands, *start, *end)?,
        Op::Identity => of(0)?,
        Op::Cast { to } => cast(of(0)?, *to, operands)?,
        // Scalars and vectors keep their elements whatever rank-0 or rank-1 form they take.
        Op::Reshape { .. } | Op::Squeeze { .. } | Op::Unsqueeze { .. } | Op::Flatten { .. } => of(0)?,
        Op::Concat { .. } => {
            let mut all = Vec::new();
            for i in 0..operands.facts.len() {
                all.extend(vector(operands, i)?);
            }
            all
        }
        Op::Gather { axis: 0 | -1 } => gather(operands)?,
        Op::Slice { axes } if matches!(axes.as_slice(), [0] | [-1]) => slice(operands)?,
        Op::Binary(kind) => {
            let floats = (0..2).any(|i| operands.fact(i).and_then(|f| f.dtype).is_none_or(DType::is_float));
            binary(*kind, &of(0)?, &of(1)?, floats)?
        }
        Op::ConstantOfShape { dtype: DType::I64, value } => {
            let count = usize::try_from(*operands.known(0)?.first()?).ok()?;
            let value = i64::from_le_bytes(value.as_slice().try_into().ok()?);
            (count <= MAX_ELEMENTS).then(|| vec![Element::Known(value); count])?
        }
        _ => return None,
    };
    (elements.len() <= MAX_ELEMENTS).then_some(elements)
}

/// The elements of operand `i` when it is a vector (`Concat` joins nothing else along its axis).
fn vector(operands: &Operands, i: usize) -> Option<Vec<Element>> {
    let fact = operands.fact(i)?;
    if fact.rank()? != 1 {
        return None;
    }
    match (&fact.elements, fact.size(0)) {
        (Some(elements), _) => Some(elements.clone()),
        (None, Some(len)) if len <= MAX_ELEMENTS => Some(vec![Element::Free; len]),
        _ => None,
    }
}

/// `shape[start..end]` with bounds as ONNX clamps them.
pub fn bounds(start: i32, end: Option<i32>, rank: usize) -> (usize, usize) {
    let clamp = |v: i32| {
        let v = if v < 0 { i64::from(v) + rank as i64 } else { i64::from(v) };
        v.clamp(0, rank as i64) as usize
    };
    let start = clamp(start);
    (start, end.map_or(rank, clamp).max(start))
}

fn sizes(operands: &Operands, start: i32, end: Option<i32>) -> Option<Vec<Element>> {
    let value = operands.ids.first().copied().flatten()?;
    let dims = operands.dims(0)?;
    let (start, end) = bounds(start, end, dims.len());
    let size = |axis: usize| match dims[axis] {
        Some(size) => Element::Known(size as i64),
        None => Element::Size(value, axis),
    };
    Some((start..end).map(size).collect())
}

/// The largest integer up to which floats have all.
const WHOLE: i64 = 1 << f32::MANTISSA_DIGITS;

/// An integer that a float holds is known; any other number is not.
fn whole(element: Element) -> Element {
    match element {
        Element::Known(v) if v.abs() <= WHOLE => element,
        _ => Element::Free,
    }
}

/// What is known of floats as elements are: when all are whole.
pub fn of_floats(values: &[f32]) -> Option<Vec<Element>> {
    let one = |v: &f32| (v.fract() == 0.0 && v.abs() <= WHOLE as f32).then_some(Element::Known(*v as i64));
    values.iter().map(one).collect()
}

/// Integers keep their value where the target type holds it.
fn cast(elements: Vec<Element>, to: DType, operands: &Operands) -> Option<Vec<Element>> {
    let from = operands.fact(0)?.dtype?;
    let wide = |d: DType| matches!(d, DType::I64 | DType::I32);
    let float = |d: DType| matches!(d, DType::F32 | DType::F64);
    match (from, to) {
        (from, to) if wide(from) && float(to) => return Some(elements.into_iter().map(whole).collect()),
        (from, to) if float(from) && (wide(to) || float(to)) => return Some(elements),
        (_, to) if to.is_float() && from != DType::Bool => return None,
        _ => {}
    }
    if wide(from) && wide(to) {
        let fits =
            |e: &Element| !matches!(e, Element::Known(v) if to == DType::I32 && i32::try_from(*v).is_err());
        return elements.iter().all(fits).then_some(elements);
    }
    let truth = |e: Element| match e {
        Element::Known(v) => Element::Known(i64::from(v != 0)),
        _ => Element::Free,
    };
    match (from, to) {
        (DType::Bool, _) => Some(elements),
        (_, DType::Bool) => Some(elements.into_iter().map(truth).collect()),
        _ => None,
    }
}

fn gather(operands: &Operands) -> Option<Vec<Element>> {
    let data = vector(operands, 0)?;
    let pick = |i: i64| normalize(i, data.len()).map(|i| data[i]);
    operands.known(1)?.into_iter().map(pick).collect()
}

fn slice(operands: &Operands) -> Option<Vec<Element>> {
    let data = vector(operands, 0)?;
    let one = |i: usize| operands.known(i).and_then(|v| v.first().copied());
    let step = if operands.fact(3).is_some() { one(3)? } else { 1 };
    let (start, count) = range(one(1)?, one(2)?, step, data.len())?;
    Some((0..count as i64).map(|i| data[(start + i * step) as usize]).collect())
}

/// Where a slice of an axis of `len` elements starts, and how many it takes; `None` for step 0.
pub fn range(start: i64, end: i64, step: i64, len: usize) -> Option<(i64, usize)> {
    let len = i64::try_from(len).ok()?;
    let from_start = |v: i64| if v < 0 { v.saturating_add(len) } else { v };
    let (start, end) = match step {
        0 => return None,
        1.. => (from_start(start).clamp(0, len), from_start(end).clamp(0, len)),
        _ => (from_start(start).clamp(-1, len - 1), from_start(end).clamp(-1, len - 1)),
    };
    let distance = if step > 0 { end - start } else { start - end };
    let count = if distance > 0 { (distance as u64).div_ceil(step.unsigned_abs()) } else { 0 };
    Some((start, count as usize))
}

fn binary(kind: BinaryOp, a: &[Element], b: &[Element], floats: bool) -> Option<Vec<Element>> {
    let len = match (a.len(), b.len()) {
        (x, y) if x == y => x,
        (1, y) => y,
        (x, 1) => x,
        _ => return None,
    };
    let at = |v: &[Element], i: usize| if v.len() == 1 { v[0] } else { v[i] };
    let one = |i: usize| match kind {
        // A quotient of floats is not an integer's.
        BinaryOp::Div if floats => Element::Free,
        _ if floats => whole(apply(kind, at(a, i), at(b, i))),
        _ => apply(kind, at(a, i), at(b, i)),
    };
    Some((0..len).map(one).collect())
}

fn apply(kind: BinaryOp, a: Element, b: Element) -> Element {
    let (Element::Known(a), Element::Known(b)) = (a, b) else { return Element::Free };
    let truth = |t: bool| Some(i64::from(t));
    let result = match kind {
        BinaryOp::Add => a.checked_add(b),
        BinaryOp::Sub => a.checked_sub(b),
        BinaryOp::Mul => a.checked_mul(b),
        BinaryOp::Div => a.checked_div(b),
        BinaryOp::Max => Some(a.max(b)),
        BinaryOp::Min => Some(a.min(b)),
        BinaryOp::Equal => truth(a == b),
        BinaryOp::Less => truth(a < b),
        BinaryOp::LessOrEqual => truth(a <= b),
        BinaryOp::Greater => truth(a > b),
        BinaryOp::GreaterOrEqual => truth(a >= b),
        BinaryOp::And => truth(a != 0 && b != 0),
        BinaryOp::Or => truth(a != 0 || b != 0),
        BinaryOp::Xor => truth((a != 0) != (b != 0)),
        _ => None,
    };
    result.map_or(Element::Free, Element::Known)
}
