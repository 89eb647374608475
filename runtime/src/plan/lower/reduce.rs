//! Reductions.

use super::{Results, axes_of, axis_of, one};
use crate::graph::{DType, ReduceOp};
use crate::plan::build::{Builder, Call, Why};
use crate::plan::fact::Fact;
use crate::plan::step::{AxisShape, StepOp};
use crate::sort;
use edge_kernels::cpu::reduce::{MAX_CODES, Reduction};

/// The sizes before, along and after axis `axis`.
pub(super) fn along(dims: &[usize], axis: usize) -> AxisShape {
    AxisShape {
        outer: dims[..axis].iter().product(),
        n: dims[axis],
        inner: dims[axis + 1..].iter().product(),
    }
}

pub(super) fn reduce_axes(
    b: &mut Builder,
    call: &Call,
    kind: ReduceOp,
    keep: bool,
    noop_if_empty: bool,
) -> Results {
    let axes: Vec<i32> = match call.optional(1) {
        Some(axes) => b.integers(axes)?.into_iter().map(|a| a as i32).collect(),
        None => Vec::new(),
    };
    if axes.is_empty() && noop_if_empty {
        return one(call.input(0)?.clone());
    }
    reduce(b, call, kind, Some(&axes), keep)
}

pub(super) fn reduce(
    b: &mut Builder,
    call: &Call,
    kind: ReduceOp,
    axes: Option<&[i32]>,
    keep: bool,
) -> Results {
    let x = call.input(0)?.clone();
    let mut axes = axes_of(axes.unwrap_or(&[]), x.rank())?;
    if axes.is_empty() {
        axes = (0..x.rank()).collect();
    }
    sort::ascending(&mut axes);
    axes.dedup();
    let kept = |i: usize| !axes.contains(&i);
    let dims: Vec<usize> =
        (0..x.rank()).filter(|i| keep || kept(*i)).map(|i| if kept(i) { x.dims[i] } else { 1 }).collect();
    let x = if sums_codes(&x, kind, &axes) {
        x
    } else if x.dtype.is_float() || x.quant.is_some() || needs_float(kind) {
        b.float(call.value(0), &x)?
    } else {
        x
    };
    if !matches!(x.dtype, DType::F32 | DType::I32 | DType::I64) && x.quant.is_none() {
        return narrow(b, &x, kind, &axes, &dims);
    }
    let out = b.result(if x.quant.is_some() { DType::F32 } else { x.dtype }, &dims)?;
    emit(b, kind, &x, &axes, &out)?;
    // A mean of integers was computed in f32.
    let declared = call.input(0)?;
    if out.dtype == DType::F32 && declared.quant.is_none() && !declared.dtype.is_float() {
        return one(super::elementwise::cast_to(b, &out, declared.dtype)?);
    }
    one(out)
}

/// Whether codes are added up as they are: columns of rows, as of a picture's pixels. Floats made of them would take four times the memory.
fn sums_codes(x: &Fact, kind: ReduceOp, axes: &[usize]) -> bool {
    let sums = matches!(kind, ReduceOp::Sum | ReduceOp::Mean) && x.quant.is_some();
    let (Some(first), Some(last)) = (axes.first(), axes.last()) else { return false };
    let (adjacent, outermost) = (last - first + 1 == axes.len(), x.dims[..*first].iter().all(|d| *d == 1));
    let count = axes.iter().map(|axis| x.dims[*axis]).product::<usize>();
    sums && adjacent && outermost && last + 1 < x.rank() && x.elements() > 0 && count <= MAX_CODES
}

fn needs_float(kind: ReduceOp) -> bool {
    matches!(kind, ReduceOp::Mean | ReduceOp::L2 | ReduceOp::LogSum | ReduceOp::LogSumExp)
}

/// Narrow integers and booleans are reduced in i32.
fn narrow(b: &mut Builder, x: &Fact, kind: ReduceOp, axes: &[usize], dims: &[usize]) -> Results {
    let wide = super::elementwise::cast_to(b, x, DType::I32)?;
    let out = b.result(DType::I32, dims)?;
    emit(b, kind, &wide, axes, &out)?;
    one(super::elementwise::cast_to(b, &out, x.dtype)?)
}

fn emit(b: &mut Builder, kind: ReduceOp, x: &Fact, axes: &[usize], out: &Fact) -> Result<(), Why> {
    let shape = Reduction::new(&x.dims, axes).map_err(|e| e.to_string())?;
    b.emit(StepOp::Reduce { kind, shape: shape.into() }, &[Some(x)], &[out])
}

pub(super) fn arg_reduce(
    b: &mut Builder,
    call: &Call,
    max: bool,
    axis: i32,
    keep: bool,
    last: bool,
) -> Results {
    let x = call.input(0)?.clone();
    let x = if x.dtype == DType::F32 { x } else { b.float(call.value(0), &x)? };
    let axis = axis_of(axis, x.rank())?;
    let mut dims = x.dims.clone();
    if keep {
        dims[axis] = 1;
    } else {
        dims.remove(axis);
    }
    if x.dims[axis] == 0 {
        return Err(format!("the greatest element along axis {axis} of {:?}", x.dims));
    }
    let out = b.result(DType::I64, &dims)?;
    b.emit(StepOp::ArgReduce { max, last, shape: along(&x.dims, axis) }, &[Some(&x)], &[&out])?;
    one(out)
}
