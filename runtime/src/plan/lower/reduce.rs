//! Reductions.

use super::movement::transposed;
use super::{Results, axes_of, axis_of, one};
use crate::graph::{DType, ReduceOp};
use crate::plan::build::{Builder, Call, Why};
use crate::plan::fact::Fact;
use crate::plan::step::{AxisShape, StepOp};

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
    axes.sort_unstable();
    axes.dedup();
    let kept = |i: usize| !axes.contains(&i);
    let dims: Vec<usize> =
        (0..x.rank()).filter(|i| keep || kept(*i)).map(|i| if kept(i) { x.dims[i] } else { 1 }).collect();
    let integer = (kind == ReduceOp::Mean).then(|| b.integer(call.value(0), &x)).transpose()?.flatten();
    let quant = b.result_quant(call.result(0));
    let (x, out) = match (integer, quant) {
        (Some(x), Some(quant)) => (x, b.result_i8(quant, &dims)?),
        _ => {
            let x = if x.quant.is_some() || x.dtype.is_float() || needs_float(kind) {
                b.float(call.value(0), &x)?
            } else {
                x
            };
            let dtype = x.dtype;
            if !matches!(dtype, DType::F32 | DType::I32 | DType::I64) {
                return narrow(b, &x, kind, &axes, &dims);
            }
            (x, b.result(dtype, &dims)?)
        }
    };
    emit(b, kind, &x, &axes, &out)?;
    // A mean of integers was computed in f32.
    let declared = call.input(0)?;
    if out.dtype == DType::F32 && declared.quant.is_none() && !declared.dtype.is_float() {
        return one(super::elementwise::cast_to(b, &out, declared.dtype)?);
    }
    one(out)
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

/// Adjacent axes are one axis; others are moved to the end first.
fn emit(b: &mut Builder, kind: ReduceOp, x: &Fact, axes: &[usize], out: &Fact) -> Result<(), Why> {
    let (Some(first), Some(last)) = (axes.first(), axes.last()) else {
        // A scalar: the reduction of its one element.
        let shape = AxisShape { outer: 1, n: 1, inner: 1 };
        return b.emit(StepOp::Reduce { kind, shape }, &[Some(x)], &[out]);
    };
    let between = |i: usize| !axes.contains(&i) && x.dims[i] != 1;
    if (*first..=*last).any(between) {
        let mut perm: Vec<usize> = (0..x.rank()).filter(|i| !axes.contains(i)).collect();
        let outer = perm.iter().map(|i| x.dims[*i]).product();
        perm.extend(axes);
        let moved = transposed(b, x, &perm)?;
        let shape = AxisShape { outer, n: axes.iter().map(|i| x.dims[*i]).product(), inner: 1 };
        return b.emit(StepOp::Reduce { kind, shape }, &[Some(&moved)], &[out]);
    }
    let shape = AxisShape {
        outer: x.dims[..*first].iter().product(),
        n: x.dims[*first..=*last].iter().product(),
        inner: x.dims[*last + 1..].iter().product(),
    };
    b.emit(StepOp::Reduce { kind, shape }, &[Some(x)], &[out])
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
