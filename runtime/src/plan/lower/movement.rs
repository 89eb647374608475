//! Operations that move elements: one strided copy serves them all.

use super::{Results, axes_of, axis_of, broadcast_dims, one, quantized};
use crate::graph::{DType, PadMode};
use crate::plan::LIMIT;
use crate::plan::build::{Builder, Call, Why};
use crate::plan::fact::{Fact, Place, Quant};
use crate::plan::step::{StepOp, fill_value};
use edge_kernels::cpu::movement::{CopyPlan, PadPlan, Strides};

/// Row-major strides, in elements.
fn strides(dims: &[usize]) -> Vec<isize> {
    let mut strides = vec![1isize; dims.len()];
    for i in (1..dims.len()).rev() {
        strides[i - 1] = strides[i] * dims[i] as isize;
    }
    strides
}

/// Most that joining parts under one scale may coarsen any of them: two of its eight bits.
const ALIKE: f32 = 4.0;

/// A strided view of a value: where it starts and how far its elements lie apart.
struct Strided<'a> {
    fact: &'a Fact,
    offset: usize,
    strides: Vec<isize>,
}

/// Copies `dims` elements from one strided view to another.
fn copy(b: &mut Builder, dims: &[usize], src: Strided<'_>, dst: Strided<'_>) -> Result<(), Why> {
    if dims.contains(&0) {
        return Ok(());
    }
    fn side<'s>(view: &'s Strided<'_>) -> Strides<'s> {
        Strides { offset: view.offset, strides: &view.strides }
    }
    let plan =
        CopyPlan::new(src.fact.dtype.bytes(), dims, side(&src), side(&dst)).map_err(|e| e.to_string())?;
    b.emit(StepOp::Copy { plan: plan.into() }, &[Some(src.fact)], &[dst.fact])
}

/// A result of the operand's type and quantization.
fn like(b: &mut Builder, x: &Fact, dims: &[usize]) -> Result<Fact, Why> {
    Ok(Fact { quant: x.quant, ..b.result(x.dtype, dims)? })
}

/// x with its dimensions in the order `perm`.
pub(super) fn transposed(b: &mut Builder, x: &Fact, perm: &[usize]) -> Result<Fact, Why> {
    let dims: Vec<usize> = perm.iter().map(|p| x.dims[*p]).collect();
    // Moving only dimensions of size 1 moves nothing.
    let mut order = perm.iter().filter(|p| x.dims[**p] != 1);
    let mut last = None;
    if order.all(|p| last.replace(*p).is_none_or(|q| q < *p)) {
        return Ok(x.reshaped(dims));
    }
    let s = strides(&x.dims);
    let src = Strided { fact: x, offset: 0, strides: perm.iter().map(|p| s[*p]).collect() };
    let out = like(b, x, &dims)?;
    let dst = Strided { fact: &out, offset: 0, strides: strides(&dims) };
    copy(b, &dims, src, dst)?;
    Ok(out)
}

pub(super) fn transpose(b: &mut Builder, call: &Call, perm: &[usize]) -> Results {
    let x = call.input(0)?.clone();
    let perm: Vec<usize> = if perm.is_empty() { (0..x.rank()).rev().collect() } else { perm.to_vec() };
    let mut seen = vec![false; x.rank()];
    for p in &perm {
        match seen.get_mut(*p) {
            Some(s) if !*s => *s = true,
            _ => return Err(format!("{perm:?} is no order of {} dimensions", x.rank())),
        }
    }
    if perm.len() != x.rank() {
        return Err(format!("{perm:?} is no order of {} dimensions", x.rank()));
    }
    one(transposed(b, &x, &perm)?)
}

pub(super) fn concat(b: &mut Builder, call: &Call, axis: i32) -> Results {
    let mut parts: Vec<Fact> = call.inputs.iter().flatten().cloned().collect();
    let first = parts.first().ok_or("nothing to join")?.clone();
    let axis = axis_of(axis, first.rank())?;
    let mut dims = first.dims.clone();
    dims[axis] = 0;
    for part in &parts {
        let same = part.rank() == dims.len()
            && part.dims.iter().zip(&dims).enumerate().all(|(i, (a, b))| i == axis || a == b);
        if !same {
            return Err(format!("parts of shapes {:?} and {:?} along axis {axis}", first.dims, part.dims));
        }
        dims[axis] += part.dims[axis];
    }
    // Nothing is added by a part without elements.
    let mut values: Vec<_> = call.node.inputs.iter().flatten().copied().collect();
    if parts.iter().filter(|p| p.dims[axis] > 0).count() == 1 {
        let i = parts.iter().position(|p| p.dims[axis] > 0).unwrap_or(0);
        return one(parts.swap_remove(i));
    }
    // One scale for parts of very different ranges would cost the small ones all their bits: such a result is float.
    let quant = parts.iter().any(|p| p.quant.is_some()).then(|| b.result_quant(call.result(0))).flatten();
    let alike =
        |quant: &Quant| parts.iter().filter_map(|p| p.quant).all(|own| own.scale * ALIKE >= quant.scale);
    let quant = quant.filter(alike);
    let float = parts.iter().any(|p| p.dtype == DType::F32 || p.quant.is_some());
    let mut out = if float && first.dtype != DType::F32 && first.quant.is_none() {
        return Err("parts of different types".into());
    } else if float {
        match quant {
            Some(quant) => b.result_i8(quant, &dims)?,
            None => b.result(DType::F32, &dims)?,
        }
    } else {
        b.result(first.dtype, &dims)?
    };
    // An i8 result needs every part as i8.
    if let Some(quant) = quant {
        for (part, value) in parts.iter_mut().zip(&values) {
            match b.integer(Some(*value), part)? {
                Some(x) => *part = quantized::requantize(b, &x, quant)?,
                None => *part = quantize_known(b, part, quant)?,
            }
        }
    } else if float {
        for (part, value) in parts.iter_mut().zip(values.drain(..)) {
            *part = b.float(Some(value), part)?;
        }
    }
    if parts.iter().any(|p| p.dtype != out.dtype) {
        return Err("parts of different types".into());
    }
    out.quant = quant;
    let whole = strides(&dims);
    let mut at = 0;
    for part in &parts {
        let src = Strided { fact: part, offset: 0, strides: strides(&part.dims) };
        let dst = Strided { fact: &out, offset: at * whole[axis] as usize, strides: whole.clone() };
        copy(b, &part.dims, src, dst)?;
        at += part.dims[axis];
    }
    one(out)
}

/// A constant part of an i8 result.
fn quantize_known(b: &mut Builder, part: &Fact, quant: Quant) -> Result<Fact, Why> {
    let x = b.float(None, part)?;
    let out = b.result_i8(quant, &x.dims)?;
    b.emit(StepOp::Quantize(quant), &[Some(&x)], &[&out])?;
    Ok(out)
}

/// A contiguous part of a value is the value's own bytes.
fn part(x: &Fact, dims: Vec<usize>, offset: usize) -> Option<Fact> {
    let Place::Buffer { buffer, offset: base } = x.place else { return None };
    // In row-major order a part is contiguous when only its first dimension longer than 1 is cut.
    let cut = dims.iter().zip(&x.dims).position(|(a, b)| a != b);
    let leads = cut.is_none_or(|cut| x.dims[..cut].iter().all(|d| *d == 1));
    let rest = cut.is_none_or(|cut| dims[cut + 1..] == x.dims[cut + 1..]);
    let bytes = offset * x.dtype.bytes();
    // Kernels want elements aligned; every type's size divides the offset by construction.
    (leads && rest).then(|| Fact { dims, place: Place::Buffer { buffer, offset: base + bytes }, ..x.clone() })
}

pub(super) fn slice(b: &mut Builder, call: &Call, axes: &[i32]) -> Results {
    let x = call.input(0)?.clone();
    let axes = axes_of(axes, x.rank())?;
    let starts = b.integers(call.input(1)?)?;
    let ends = b.integers(call.input(2)?)?;
    let steps = match call.optional(3) {
        Some(steps) => b.integers(steps)?,
        None => vec![1; axes.len()],
    };
    if starts.len() != axes.len() || ends.len() != axes.len() || steps.len() != axes.len() {
        return Err(format!(
            "{} starts, {} ends, {} steps for {} axes",
            starts.len(),
            ends.len(),
            steps.len(),
            axes.len()
        ));
    }
    let mut dims = x.dims.clone();
    let s = strides(&x.dims);
    let (mut view, mut offset) = (s.clone(), 0usize);
    for (i, axis) in axes.iter().enumerate() {
        let (n, step) = (x.dims[*axis] as i64, steps[i]);
        if step == 0 {
            return Err("a step of 0".into());
        }
        let from_end = |v: i64| if v < 0 { v.saturating_add(n) } else { v };
        let (start, len) = if step > 0 {
            let start = from_end(starts[i]).clamp(0, n);
            let end = from_end(ends[i]).clamp(0, n);
            (start, (end - start).max(0).div_euclid(step) + i64::from((end - start).max(0) % step != 0))
        } else {
            let start = from_end(starts[i]).clamp(-1, n - 1);
            let end = from_end(ends[i]).clamp(-1, n - 1);
            let room = (start - end).max(0);
            let step = step.checked_neg().ok_or("a step beyond the integers")?;
            (start, room / step + i64::from(room % step != 0))
        };
        dims[*axis] = len as usize;
        if len > 0 {
            offset += start as usize * s[*axis] as usize;
            // A step beyond the value is never taken.
            let step = isize::try_from(step).map_err(|_| "a step beyond the integers")?;
            view[*axis] = s[*axis].checked_mul(step).filter(|_| len > 1).unwrap_or(0);
        }
    }
    if dims.contains(&0) {
        return one(like(b, &x, &dims)?);
    }
    if steps.iter().all(|s| *s == 1)
        && let Some(fact) = part(&x, dims.clone(), offset)
    {
        return one(fact);
    }
    let out = like(b, &x, &dims)?;
    let dst = Strided { fact: &out, offset: 0, strides: strides(&dims) };
    copy(b, &dims, Strided { fact: &x, offset, strides: view }, dst)?;
    one(out)
}

pub(super) fn split(b: &mut Builder, call: &Call, axis: i32) -> Results {
    let x = call.input(0)?.clone();
    let axis = axis_of(axis, x.rank())?;
    let (n, parts) = (x.dims[axis], call.node.outputs.len());
    let sizes: Vec<usize> = match call.optional(1) {
        Some(sizes) => b
            .integers(sizes)?
            .into_iter()
            .map(|s| usize::try_from(s).map_err(|_| format!("a part of {s} elements")))
            .collect::<Result<_, _>>()?,
        None => {
            let each = n.div_ceil(parts.max(1));
            (0..parts).map(|i| n.saturating_sub(i * each).min(each)).collect()
        }
    };
    if sizes.len() != parts || sizes.iter().try_fold(0usize, |a, s| a.checked_add(*s)) != Some(n) {
        return Err(format!("parts of {sizes:?} of {n} elements in {parts} results"));
    }
    let s = strides(&x.dims);
    let mut at = 0;
    let mut results = Vec::with_capacity(parts);
    for (i, size) in sizes.into_iter().enumerate() {
        let mut dims = x.dims.clone();
        dims[axis] = size;
        let offset = at * s[axis] as usize;
        at += size;
        if call.result(i).is_none() {
            results.push(None);
            continue;
        }
        if let Some(fact) = part(&x, dims.clone(), offset) {
            results.push(Some(fact));
            continue;
        }
        let out = like(b, &x, &dims)?;
        let dst = Strided { fact: &out, offset: 0, strides: strides(&dims) };
        copy(b, &dims, Strided { fact: &x, offset, strides: s.clone() }, dst)?;
        results.push(Some(out));
    }
    Ok(results)
}

pub(super) fn pad(b: &mut Builder, call: &Call, mode: PadMode, axes: &[i32]) -> Results {
    let x = call.input(0)?.clone();
    let x = if x.quant.is_some() { b.float(call.value(0), &x)? } else { x };
    let axes = if axes.is_empty() { (0..x.rank()).collect() } else { axes_of(axes, x.rank())? };
    let pads = b.integers(call.input(1)?)?;
    if pads.len() != 2 * axes.len() {
        return Err(format!("{} pads for {} axes", pads.len(), axes.len()));
    }
    if let Some(pad) = pads.iter().find(|pad| pad.unsigned_abs() > LIMIT) {
        return Err(format!("a pad of {pad} elements"));
    }
    let (mut before, mut after) = (vec![0i64; x.rank()], vec![0i64; x.rank()]);
    for (i, axis) in axes.iter().enumerate() {
        (before[*axis], after[*axis]) = (pads[i], pads[i + axes.len()]);
    }
    let mut dims = Vec::with_capacity(x.rank());
    for i in 0..x.rank() {
        let size = (x.dims[i] as i64).checked_add(before[i]).and_then(|s| s.checked_add(after[i]));
        let size = size.and_then(|s| usize::try_from(s).ok());
        dims.push(
            size.ok_or_else(|| format!("pads {} and {} of {} elements", before[i], after[i], x.dims[i]))?,
        );
    }
    if pads.iter().all(|p| *p == 0) {
        return one(x);
    }
    let out = b.result(x.dtype, &dims)?;
    if mode != PadMode::Constant {
        let tables = PadPlan::new(
            super::super::step::pad_mode(mode),
            x.dtype.bytes(),
            &x.dims,
            &before.iter().map(|v| *v as isize).collect::<Vec<_>>(),
            &after.iter().map(|v| *v as isize).collect::<Vec<_>>(),
        )
        .map_err(|e| e.to_string())?;
        b.emit(StepOp::PadMap { plan: tables }, &[Some(&x)], &[&out])?;
        return one(out);
    }
    let value = match call.optional(2) {
        None => [0; 8],
        Some(fact) => fill_value(fact.dtype, b.known(fact).ok_or("a fill value that only a run computes")?),
    };
    b.emit(StepOp::Fill { value }, &[], &[&out])?;
    // A negative pad cuts.
    let (sx, so) = (strides(&x.dims), strides(&dims));
    let (mut from, mut to, mut len) = (0usize, 0usize, Vec::new());
    for i in 0..x.rank() {
        let cut_before = (-before[i]).max(0) as usize;
        let cut_after = (-after[i]).max(0) as usize;
        from += cut_before * sx[i] as usize;
        to += before[i].max(0) as usize * so[i] as usize;
        len.push(x.dims[i].saturating_sub(cut_before + cut_after));
    }
    copy(
        b,
        &len,
        Strided { fact: &x, offset: from, strides: sx },
        Strided { fact: &out, offset: to, strides: so },
    )?;
    one(out)
}

pub(super) fn expand(b: &mut Builder, call: &Call) -> Results {
    let x = call.input(0)?.clone();
    let asked = sizes(&b.integers(call.input(1)?)?)?;
    let dims = broadcast_dims(&[&x.dims, &asked])?;
    // Whether all that is asked for fits is seen when there is a result to be made.
    let elements = dims.iter().try_fold(1usize, |n, size| n.checked_mul(*size));
    if elements == Some(x.elements()) {
        return one(x.reshaped(dims));
    }
    let own = strides(&x.dims);
    let lead = dims.len() - x.rank();
    let view =
        (0..dims.len()).map(|i| if i < lead || x.dims[i - lead] == 1 { 0 } else { own[i - lead] }).collect();
    let out = like(b, &x, &dims)?;
    let dst = Strided { fact: &out, offset: 0, strides: strides(&dims) };
    copy(b, &dims, Strided { fact: &x, offset: 0, strides: view }, dst)?;
    one(out)
}

pub(super) fn tile(b: &mut Builder, call: &Call) -> Results {
    let x = call.input(0)?.clone();
    let repeats = sizes(&b.integers(call.input(1)?)?)?;
    if repeats.len() != x.rank() {
        return Err(format!("{} repeats for rank {}", repeats.len(), x.rank()));
    }
    // [d0, d1] tiled by [r0, r1] is [r0, d0, r1, d1] with the repeats standing still.
    let own = strides(&x.dims);
    let (mut dims, mut view, mut result) = (Vec::new(), Vec::new(), Vec::new());
    for i in 0..x.rank() {
        dims.extend([repeats[i], x.dims[i]]);
        view.extend([0, own[i]]);
        result.push(repeats[i].checked_mul(x.dims[i]).ok_or("a result beyond the address space")?);
    }
    let out = like(b, &x, &result)?;
    let dst = Strided { fact: &out, offset: 0, strides: strides(&dims) };
    copy(b, &dims, Strided { fact: &x, offset: 0, strides: view }, dst)?;
    one(out)
}

fn sizes(values: &[i64]) -> Result<Vec<usize>, Why> {
    values.iter().map(|v| usize::try_from(*v).map_err(|_| format!("sizes {values:?}"))).collect()
}

/// Most elements of a range: they are known when the plan is made, and so are part of it.
const MAX_RANGE: i128 = 1 << 21;

pub(super) fn range(b: &mut Builder, call: &Call) -> Results {
    let dtype = call.input(0)?.dtype;
    if dtype == DType::F32 {
        let at = |i: usize| -> Result<f32, Why> {
            b.floats(call.input(i)?)?.first().copied().ok_or("an empty bound".into())
        };
        let (start, limit, delta) = (at(0)?, at(1)?, at(2)?);
        let n = ((f64::from(limit) - f64::from(start)) / f64::from(delta)).ceil().max(0.0);
        if n.is_nan() || n > MAX_RANGE as f64 {
            return Err(format!("a range from {start} to {limit} by {delta}"));
        }
        let bytes = (0..n as usize).flat_map(|i| (start + i as f32 * delta).to_le_bytes()).collect();
        return one(b.known_fact(dtype, vec![n as usize], bytes));
    }
    let at = |i: usize| -> Result<i64, Why> {
        b.integers(call.input(i)?)?.first().copied().ok_or("an empty bound".into())
    };
    let (start, limit, delta) = (at(0)?, at(1)?, at(2)?);
    if delta == 0 {
        return Err("a range by steps of 0".into());
    }
    let span = i128::from(limit) - i128::from(start);
    let n = (span / i128::from(delta)
        + i128::from(span % i128::from(delta) != 0 && (span > 0) == (delta > 0)))
    .max(0);
    if n > MAX_RANGE {
        return Err(format!("a range of {n} elements"));
    }
    // Each is between the bounds, though the way there may leave the 64 bits.
    let values = (0..n as i64).map(|i| start.wrapping_add(i.wrapping_mul(delta)));
    let bytes = match dtype {
        DType::I64 => values.flat_map(i64::to_le_bytes).collect(),
        DType::I32 => values.flat_map(|v| (v as i32).to_le_bytes()).collect(),
        other => return Err(format!("a range of {other} elements")),
    };
    one(b.known_fact(dtype, vec![n as usize], bytes))
}

pub(super) fn constant_of_shape(b: &mut Builder, call: &Call, dtype: DType, value: &[u8]) -> Results {
    let dims = sizes(&b.integers(call.input(0)?)?)?;
    if value.len() != dtype.bytes() {
        return Err(format!("a value of {} bytes for {dtype}", value.len()));
    }
    let out = b.result(dtype, &dims)?;
    b.emit(StepOp::Fill { value: fill_value(dtype, value) }, &[], &[&out])?;
    one(out)
}
