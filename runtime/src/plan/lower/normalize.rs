//! Softmax and the normalizations.

use super::reduce::along;
use super::views::spatial;
use super::{Results, axis_of, one};
use crate::graph::DType;
use crate::plan::build::{Builder, Call, Why};
use crate::plan::fact::Fact;
use crate::plan::step::StepOp;

pub(super) fn softmax(b: &mut Builder, call: &Call, axis: i32, log: bool) -> Results {
    let x = b.float(call.value(0), call.input(0)?)?;
    if x.rank() == 0 {
        return Err("softmax of a scalar".into());
    }
    let axis = axis_of(axis, x.rank())?;
    let out = b.result(DType::F32, &x.dims)?;
    b.emit(StepOp::Softmax { log, shape: along(&x.dims, axis) }, &[Some(&x)], &[&out])?;
    one(out)
}

/// An optional vector operand of `n` elements as f32.
fn vector(b: &mut Builder, call: &Call, i: usize, n: usize, what: &str) -> Result<Option<Fact>, Why> {
    let Some(fact) = call.optional(i).cloned() else { return Ok(None) };
    if fact.elements() != n {
        return Err(format!("{what} of shape {:?} for {n} elements", fact.dims));
    }
    b.float(call.value(i), &fact).map(Some)
}

pub(super) fn layer_norm(b: &mut Builder, call: &Call, axis: i32, epsilon: f32) -> Results {
    let x = b.float(call.value(0), call.input(0)?)?;
    let axis = axis_of(axis, x.rank())?;
    let cols = x.dims[axis..].iter().product();
    let scale = vector(b, call, 1, cols, "scale")?;
    let bias = vector(b, call, 2, cols, "bias")?;
    let out = b.result(DType::F32, &x.dims)?;
    let op = StepOp::LayerNorm { epsilon, cols };
    b.emit(op, &[Some(&x), scale.as_ref(), bias.as_ref()], &[&out])?;
    one(out)
}

pub(super) fn rms_norm(b: &mut Builder, call: &Call, axis: i32, epsilon: f32) -> Results {
    let x = b.float(call.value(0), call.input(0)?)?;
    let axis = axis_of(axis, x.rank())?;
    let cols = x.dims[axis..].iter().product();
    let scale = vector(b, call, 1, cols, "scale")?;
    let out = b.result(DType::F32, &x.dims)?;
    b.emit(StepOp::RmsNorm { epsilon, cols }, &[Some(&x), scale.as_ref()], &[&out])?;
    one(out)
}

pub(super) fn group_norm(b: &mut Builder, call: &Call, groups: usize, epsilon: f32) -> Results {
    let x = b.float(call.value(0), call.input(0)?)?;
    let rank = x.rank();
    if rank < 2 {
        return Err(format!("a normalization of shape {:?}", x.dims));
    }
    let (batch, channels) = (x.dims[0], x.dims[rank - 1]);
    let pixels = x.dims[1..rank - 1].iter().product();
    if groups == 0 || !channels.is_multiple_of(groups) {
        return Err(format!("{groups} groups of {channels} channels"));
    }
    let scale = vector(b, call, 1, channels, "scale")?;
    let bias = vector(b, call, 2, channels, "bias")?;
    let out = b.result(DType::F32, &x.dims)?;
    let op = StepOp::GroupNorm { epsilon, batch, pixels, channels, groups };
    b.emit(op, &[Some(&x), scale.as_ref(), bias.as_ref()], &[&out])?;
    one(out)
}

pub(super) fn lrn(b: &mut Builder, call: &Call, size: usize, alpha: f32, beta: f32, bias: f32) -> Results {
    let x = b.float(call.value(0), call.input(0)?)?;
    spatial(&x.dims)?;
    let out = b.result(DType::F32, &x.dims)?;
    b.emit(StepOp::Lrn { size, alpha, beta, bias }, &[Some(&x)], &[&out])?;
    one(out)
}
