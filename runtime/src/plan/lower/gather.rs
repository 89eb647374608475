//! Operations that address elements by index.

use super::reduce::along;
use super::{Results, axis_of, elementwise, one};
use crate::graph::{DType, ScatterReduction};
use crate::plan::build::{Builder, Call, Why};
use crate::plan::fact::{Fact, Place};
use crate::plan::step::{AxisShape, Matrix, StepOp};

/// The operand as i64 indices.
fn indices(b: &mut Builder, fact: &Fact) -> Result<Fact, Why> {
    match fact.dtype {
        DType::I64 => Ok(fact.clone()),
        DType::I32 => elementwise::cast_to(b, fact, DType::I64),
        other => Err(format!("indices of type {other}, expected i64 or i32")),
    }
}

/// Integer rungs address the real values.
fn plain(b: &mut Builder, call: &Call, i: usize) -> Result<Fact, Why> {
    let x = call.input(i)?.clone();
    if x.quant.is_some() { b.float(call.value(i), &x) } else { Ok(x) }
}

/// As [`plain`], floats of any width as f32: a scatter may compute with them.
fn number(b: &mut Builder, call: &Call, i: usize) -> Result<Fact, Why> {
    let x = plain(b, call, i)?;
    if x.dtype.is_float() { b.float(call.value(i), &x) } else { Ok(x) }
}

pub(super) fn gather(b: &mut Builder, call: &Call, axis: i32) -> Results {
    let data = call.input(0)?.clone();
    let index = indices(b, &call.input(1)?.clone())?;
    let axis = axis_of(axis, data.rank())?;
    let mut dims = data.dims[..axis].to_vec();
    dims.extend(&index.dims);
    dims.extend(&data.dims[axis + 1..]);
    if let Place::Weight(tensor) = data.place {
        if axis != 0 || data.rank() != 2 {
            return Err("rows of a weight along another axis than the first".into());
        }
        let out = b.result(DType::F32, &dims)?;
        let op = StepOp::GatherRows { row: data.dims[1] };
        b.emit_full(op, &[Some(&index)], &[&out], vec![Matrix::Tensor(tensor)], 0)?;
        return one(out);
    }
    let data = plain(b, call, 0)?;
    let shape = along(&data.dims, axis);
    let out = b.result(data.dtype, &dims)?;
    b.emit(StepOp::Gather { shape }, &[Some(&data), Some(&index)], &[&out])?;
    one(out)
}

pub(super) fn gather_elements(b: &mut Builder, call: &Call, axis: i32) -> Results {
    let data = plain(b, call, 0)?;
    let index = indices(b, &call.input(1)?.clone())?;
    let axis = axis_of(axis, data.rank())?;
    if index.rank() != data.rank() {
        return Err(format!("indices of shape {:?} into {:?}", index.dims, data.dims));
    }
    for (i, (a, d)) in index.dims.iter().zip(&data.dims).enumerate() {
        if i != axis && a > d {
            return Err(format!("indices of shape {:?} into {:?}", index.dims, data.dims));
        }
    }
    let out = b.result(data.dtype, &index.dims)?;
    b.emit(StepOp::GatherElements { axis }, &[Some(&data), Some(&index)], &[&out])?;
    one(out)
}

pub(super) fn gather_nd(b: &mut Builder, call: &Call, batch_dims: usize) -> Results {
    let data = plain(b, call, 0)?;
    let index = indices(b, &call.input(1)?.clone())?;
    let depth = *index.dims.last().ok_or("a scalar index")?;
    if batch_dims >= index.rank() || batch_dims + depth > data.rank() || depth == 0 {
        return Err(format!(
            "indices of shape {:?} into {:?} with {batch_dims} batch dimensions",
            index.dims, data.dims
        ));
    }
    if index.dims[..batch_dims] != data.dims[..batch_dims] {
        return Err(format!("batch dimensions of {:?} and {:?}", index.dims, data.dims));
    }
    let mut dims = index.dims[..index.rank() - 1].to_vec();
    dims.extend(&data.dims[batch_dims + depth..]);
    let out = b.result(data.dtype, &dims)?;
    b.emit(StepOp::GatherNd { batch_dims }, &[Some(&data), Some(&index)], &[&out])?;
    one(out)
}

/// A copy of the data that the scatter then writes into.
fn scatter_target(b: &mut Builder, data: &Fact) -> Result<Fact, Why> {
    let out = b.result(data.dtype, &data.dims)?;
    let plan = super::flat_copy(data)?;
    b.emit(StepOp::Copy { plan: plan.into() }, &[Some(data)], &[&out])?;
    Ok(out)
}

pub(super) fn scatter_elements(
    b: &mut Builder,
    call: &Call,
    axis: i32,
    reduction: ScatterReduction,
) -> Results {
    let data = number(b, call, 0)?;
    let index = indices(b, &call.input(1)?.clone())?;
    let updates = number(b, call, 2)?;
    let axis = axis_of(axis, data.rank())?;
    if index.dims != updates.dims || index.rank() != data.rank() || updates.dtype != data.dtype {
        return Err(format!("indices {:?} and updates {:?} into {:?}", index.dims, updates.dims, data.dims));
    }
    for (i, (a, d)) in index.dims.iter().zip(&data.dims).enumerate() {
        if i != axis && a > d {
            return Err(format!("indices of shape {:?} into {:?}", index.dims, data.dims));
        }
    }
    let out = scatter_target(b, &data)?;
    b.emit(StepOp::ScatterElements { axis, reduction }, &[Some(&index), Some(&updates)], &[&out])?;
    one(out)
}

pub(super) fn scatter_nd(b: &mut Builder, call: &Call, reduction: ScatterReduction) -> Results {
    let data = number(b, call, 0)?;
    let index = indices(b, &call.input(1)?.clone())?;
    let updates = number(b, call, 2)?;
    let depth = *index.dims.last().ok_or("a scalar index")?;
    let mut want = index.dims[..index.rank() - 1].to_vec();
    want.extend(
        data.dims.get(depth..).ok_or_else(|| format!("indices of depth {depth} into {:?}", data.dims))?,
    );
    if updates.dims != want || updates.dtype != data.dtype {
        return Err(format!("updates of shape {:?}, expected {want:?}", updates.dims));
    }
    let out = scatter_target(b, &data)?;
    b.emit(StepOp::ScatterNd { reduction }, &[Some(&index), Some(&updates)], &[&out])?;
    one(out)
}

pub(super) fn top_k(b: &mut Builder, call: &Call, axis: i32, largest: bool) -> Results {
    let x = b.float(call.value(0), call.input(0)?)?;
    let axis = axis_of(axis, x.rank())?;
    let k = b.integers(call.input(1)?)?.first().copied().ok_or("an empty k")?;
    let shape = along(&x.dims, axis);
    let k = usize::try_from(k).ok().filter(|k| *k <= shape.n);
    let k = k.ok_or_else(|| {
        format!("the {:?} greatest of {} elements", call.input(1).map(|f| &f.dims), shape.n)
    })?;
    let mut dims = x.dims.clone();
    dims[axis] = k;
    let values = b.result(DType::F32, &dims)?;
    let places = b.result(DType::I64, &dims)?;
    let op = StepOp::TopK { shape, k, largest };
    let bytes = crate::cpu::gather::top_k_scratch(shape.n);
    b.emit_full(op, &[Some(&x)], &[&values, &places], Vec::new(), bytes)?;
    let declared = call.input(0)?.clone();
    let values = if declared.quant.is_none() && !declared.dtype.is_float() {
        elementwise::cast_to(b, &values, declared.dtype)?
    } else {
        values
    };
    Ok(vec![Some(values), Some(places)])
}

pub(super) fn non_max_suppression(b: &mut Builder, call: &Call) -> Results {
    let boxes = b.float(call.value(0), call.input(0)?)?;
    let scores = b.float(call.value(1), call.input(1)?)?;
    let (&[batches, count, 4], &[outer, classes, inner]) = (&boxes.dims[..], &scores.dims[..]) else {
        return Err(format!("boxes {:?} with scores {:?}", boxes.dims, scores.dims));
    };
    if (outer, inner) != (batches, count) || count > u32::MAX as usize {
        return Err(format!("boxes {:?} with scores {:?}", boxes.dims, scores.dims));
    }
    let most = match call.optional(2) {
        Some(most) => b.integers(most)?.first().copied().ok_or("an empty number of boxes")?,
        None => 0,
    };
    let most = usize::try_from(most).unwrap_or(0).min(count);
    let rows = batches.checked_mul(classes).and_then(|n| n.checked_mul(most)).ok_or("too many boxes")?;
    let mut bounds = [None, None];
    for (slot, i) in bounds.iter_mut().zip([3, 4]) {
        if let Some(bound) = call.optional(i) {
            let bound = b.float(call.value(i), bound)?;
            if bound.elements() != 1 {
                return Err(format!("a bound of shape {:?}", bound.dims));
            }
            *slot = Some(bound);
        }
    }
    let places = b.result(DType::I64, &[rows, 3])?;
    let kept = b.result(DType::I64, &[])?;
    let op = StepOp::NonMaxSuppression { shape: [batches, classes, count, most] };
    let [overlap, score] = &bounds;
    let operands = [Some(&boxes), Some(&scores), overlap.as_ref(), score.as_ref()];
    b.emit_full(op, &operands, &[&places, &kept], Vec::new(), count * 4)?;
    Ok(vec![Some(places), Some(kept)])
}

pub(super) fn cum_sum(b: &mut Builder, call: &Call, axis: i32, exclusive: bool, reverse: bool) -> Results {
    let x = call.input(0)?.clone();
    let x = if x.dtype.is_float() || x.quant.is_some() { b.float(call.value(0), &x)? } else { x };
    if !matches!(x.dtype, DType::F32 | DType::I32 | DType::I64) {
        return Err(format!("a running sum of {} elements", x.dtype));
    }
    let axis = axis_of(axis, x.rank())?;
    let out = b.result(x.dtype, &x.dims)?;
    let op = StepOp::CumSum { shape: along(&x.dims, axis), exclusive, reverse };
    b.emit(op, &[Some(&x)], &[&out])?;
    one(out)
}

pub(super) fn one_hot(b: &mut Builder, call: &Call, axis: i32) -> Results {
    let x = call.input(0)?.clone();
    let index = elementwise::cast_to(b, &x, DType::I64)?;
    let depth = b.integers(call.input(1)?)?.first().copied().ok_or("an empty depth")?;
    let depth = usize::try_from(depth).map_err(|_| format!("a depth of {depth}"))?;
    let values = call.input(2)?.clone();
    if values.elements() != 2 {
        return Err(format!("values of shape {:?}, expected [off, on]", values.dims));
    }
    let axis = axis_of(axis, index.rank() + 1)?;
    let mut dims = index.dims.clone();
    dims.insert(axis, depth);
    let shape = AxisShape {
        outer: index.dims[..axis].iter().product(),
        n: depth,
        inner: index.dims[axis..].iter().product(),
    };
    let out = b.result(values.dtype, &dims)?;
    b.emit(StepOp::OneHot { shape }, &[Some(&index), Some(&values)], &[&out])?;
    one(out)
}

pub(super) fn trilu(b: &mut Builder, call: &Call, upper: bool) -> Results {
    let x = plain(b, call, 0)?;
    if x.rank() < 2 {
        return Err(format!("the triangle of shape {:?}", x.dims));
    }
    let k = match call.optional(1) {
        Some(k) => b.integers(k)?.first().copied().ok_or("an empty k")?,
        None => 0,
    };
    let out = b.result(x.dtype, &x.dims)?;
    b.emit(StepOp::Trilu { upper, k }, &[Some(&x)], &[&out])?;
    one(out)
}
