//! Products with a matrix that two thin ones correct: `act(W x + U (V x))`, the sum of which is never built; or that there is not, beside
//! the two.

use super::matrix::{product_result, scaled};
use super::product::{Extras, Product};
use super::{Results, one};
use crate::graph::{Act, BinaryOp, DType, TensorId};
use crate::plan::build::{Builder, Call, Why};
use crate::plan::fact::{Fact, Quant};
use crate::plan::step::{Matrix, StepOp, Thin};
use crate::weights::Factors;
use edge_kernels::cpu::elementwise::Broadcast;

/// Emits `t = V x`, then `W x` with all that is added to it, then `U t` with that as its residual and the activation function.
///
/// What is to be added after the function is added by a step of its own. In an integer rung `t` has codes, over the range that
/// calibration met.
#[allow(clippy::too_many_arguments)] // one product
pub(super) fn factored(
    b: &mut Builder,
    call: &Call,
    shape: &Product,
    x: &Fact,
    (tensor, factors, alone): (TensorId, Factors, bool),
    extra: Extras,
    dims: &[usize],
    (act, after): (Act, bool),
) -> Results {
    let rank = factors.u.k();
    let thin_dims: Vec<usize> = dims[..dims.len() - 1].iter().copied().chain([rank]).collect();
    let codes = x.quant.is_some() && factors.u.code_form().is_some() && factors.v.code_form().is_some();
    let (thin_x, t) = if codes {
        let range = Quant::covering(-factors.range, factors.range);
        (x.clone(), b.result_i8(range, &thin_dims)?)
    } else {
        (b.float(call.value(0), call.input(0)?)?, b.result(DType::F32, &thin_dims)?)
    };
    let v = Matrix::Factor(tensor, Thin::V);
    shape.with_rows(rank).emit(b, &thin_x, v, &Extras::default(), (Act::None, false), &t)?;

    let thin = Product { m: shape.m, n: shape.n, k: rank, geometry: None };
    let Extras { scale, bias, residual, factor } = extra;
    if alone {
        let scale = of_thin(b, call, t.quant)?;
        let before = !after && residual.is_some();
        let out = product_result(b, call, dims, x.quant.is_some())?;
        let all = Extras { scale, bias, residual, factor };
        thin.emit(b, &t, Matrix::Factor(tensor, Thin::U), &all, (act, before), &out)?;
        return one(out);
    }
    let (with, last) = if after { (residual, None) } else { (None, residual) };
    // With nothing in between it does not matter when it is added.
    let (with, last) =
        if act == Act::None && factor.is_none() { (with.or(last), None) } else { (with, last) };
    let coarse = b.result(DType::F32, dims)?;
    let first = Extras { scale, bias, residual: with, factor: None };
    shape.emit(b, x, Matrix::Tensor(tensor), &first, (Act::None, false), &coarse)?;

    let scale = of_thin(b, call, t.quant)?;
    let second = Extras { scale, bias: None, residual: Some(coarse), factor };
    let out = match &last {
        Some(_) => b.result(DType::F32, dims)?,
        None => product_result(b, call, dims, x.quant.is_some())?,
    };
    thin.emit(b, &t, Matrix::Factor(tensor, Thin::U), &second, (act, false), &out)?;
    let Some(last) = last else { return one(out) };
    let last = b.float(None, &last)?;
    let broadcast = Broadcast::new([&out.dims, &last.dims]).map_err(|e| e.to_string())?;
    let sum = b.result(DType::F32, dims)?;
    let op = StepOp::Binary { op: BinaryOp::Add, broadcast: broadcast.into() };
    b.emit(op, &[Some(&out), Some(&last)], &[&sum])?;
    one(sum)
}

/// The operation's scale for what is multiplied with U.
fn of_thin(b: &mut Builder, call: &Call, quant: Option<Quant>) -> Result<Option<Fact>, Why> {
    let Some(scale) = call.optional(2).cloned() else { return Ok(None) };
    let scale = b.float(call.value(2), &scale)?;
    scaled(b, scale, quant).map(Some)
}
