//! LSTM and GRU.

use super::Results;
use super::product::decoded;
use crate::graph::{DType, Direction, RnnActivation};
use crate::plan::build::{Builder, Call, Why};
use crate::plan::fact::{Fact, Place};
use crate::plan::step::{Matrix, RnnShape, StepOp};

/// A gate matrix [gates * hidden, k], for `m` rows in a run.
fn gate_matrix(b: &mut Builder, call: &Call, i: usize, [m, n, k]: [usize; 3]) -> Result<Matrix, Why> {
    let fact = call.input(i)?.clone();
    if fact.dims != [n, k] {
        return Err(format!("a gate matrix of shape {:?}, expected [{n}, {k}]", fact.dims));
    }
    if let Place::Weight(tensor) = fact.place {
        return decoded(b, Matrix::Tensor(tensor), [m, n, k]);
    }
    let w = b.float(None, &fact)?;
    let panels = b.result(DType::F32, &[n.div_ceil(16), k, 16])?;
    b.emit(StepOp::PackPanels { n, k }, &[Some(&w)], &[&panels])?;
    Ok(Matrix::Panels(b.operand(&panels)?))
}

/// An optional operand that must have the given shape, as f32.
fn shaped(b: &mut Builder, call: &Call, i: usize, dims: &[usize], what: &str) -> Result<Option<Fact>, Why> {
    let Some(fact) = call.optional(i).cloned() else { return Ok(None) };
    if fact.dims != dims {
        return Err(format!("{what} of shape {:?}, expected {dims:?}", fact.dims));
    }
    b.float(call.value(i), &fact).map(Some)
}

struct Layer {
    x: Fact,
    shape: RnnShape,
    matrices: Vec<Matrix>,
    directions: usize,
}

#[allow(clippy::too_many_arguments)] // the attributes of one graph operation
fn layer(
    b: &mut Builder,
    call: &Call,
    gates: usize,
    direction: Direction,
    hidden: usize,
    activations: &[RnnActivation],
    clip: Option<f32>,
    flag: bool,
) -> Result<Layer, Why> {
    let x = b.float(call.value(0), call.input(0)?)?;
    let [steps, batch, input] = x.dims[..] else {
        return Err(format!("x of shape {:?}, expected [seq, batch, input]", x.dims));
    };
    let directions = if direction == Direction::Bidirectional { 2 } else { 1 };
    let mut matrices = Vec::new();
    for d in 0..directions {
        let (m, n) = (steps.saturating_mul(batch), gates.saturating_mul(hidden));
        matrices.push(gate_matrix(b, call, 1 + 2 * d, [m, n, input])?);
        matrices.push(gate_matrix(b, call, 2 + 2 * d, [m, n, hidden])?);
    }
    if let Some(lens) = call.optional(6) {
        let all = b.known(lens).is_some() && b.integers(lens)?.iter().all(|l| *l == steps as i64);
        if !all {
            return Err("sequence_lens that cut a sequence are not supported".into());
        }
    }
    if let Some(a) = activations.iter().find(|a| crate::cpu::recurrent::gate(**a).is_none()) {
        return Err(format!("a gate with function {a:?} is not supported"));
    }
    let shape =
        RnnShape { steps, batch, input, hidden, direction, activations: activations.to_vec(), clip, flag };
    Ok(Layer { x, shape, matrices, directions })
}

#[allow(clippy::too_many_arguments)] // the attributes of one graph operation
pub(super) fn lstm(
    b: &mut Builder,
    call: &Call,
    direction: Direction,
    hidden: usize,
    activations: &[RnnActivation],
    clip: Option<f32>,
    input_forget: bool,
) -> Results {
    let l = layer(b, call, 4, direction, hidden, activations, clip, input_forget)?;
    let (steps, batch, dirs) = (l.shape.steps, l.shape.batch, l.directions);
    let bias = shaped(b, call, 5, &[dirs, 8 * hidden], "bias")?;
    let h0 = shaped(b, call, 7, &[dirs, batch, hidden], "initial_h")?;
    let c0 = shaped(b, call, 8, &[dirs, batch, hidden], "initial_c")?;
    let peephole = shaped(b, call, 9, &[dirs, 3 * hidden], "peephole")?;
    let y = b.result(DType::F32, &[steps, dirs, batch, hidden])?;
    let yh = b.result(DType::F32, &[dirs, batch, hidden])?;
    let yc = b.result(DType::F32, &[dirs, batch, hidden])?;
    let bytes = crate::cpu::recurrent::scratch(&l.shape, 4).div_ceil(b.workers);
    let inputs = [Some(&l.x), bias.as_ref(), h0.as_ref(), c0.as_ref(), peephole.as_ref()];
    b.emit_full(StepOp::Lstm(l.shape), &inputs, &[&y, &yh, &yc], l.matrices, bytes)?;
    Ok(vec![Some(y), Some(yh), Some(yc)])
}

#[allow(clippy::too_many_arguments)] // the attributes of one graph operation
pub(super) fn gru(
    b: &mut Builder,
    call: &Call,
    direction: Direction,
    hidden: usize,
    activations: &[RnnActivation],
    clip: Option<f32>,
    linear_before_reset: bool,
) -> Results {
    let l = layer(b, call, 3, direction, hidden, activations, clip, linear_before_reset)?;
    let (steps, batch, dirs) = (l.shape.steps, l.shape.batch, l.directions);
    let bias = shaped(b, call, 5, &[dirs, 6 * hidden], "bias")?;
    let h0 = shaped(b, call, 7, &[dirs, batch, hidden], "initial_h")?;
    let y = b.result(DType::F32, &[steps, dirs, batch, hidden])?;
    let yh = b.result(DType::F32, &[dirs, batch, hidden])?;
    let bytes = crate::cpu::recurrent::scratch(&l.shape, 3).div_ceil(b.workers);
    let inputs = [Some(&l.x), bias.as_ref(), h0.as_ref()];
    b.emit_full(StepOp::Gru(l.shape), &inputs, &[&y, &yh], l.matrices, bytes)?;
    Ok(vec![Some(y), Some(yh)])
}
