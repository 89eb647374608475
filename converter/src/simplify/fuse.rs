//! Activations, residual additions and what is a constant for each channel join the matrix operation before them.

use super::common::{binary, channel_constant, one_to_one, with_constant};
use super::sweep::Scope;
use crate::model::Array;
use edge_runtime::graph::{Act, BinaryOp, DType, Node, Op, UnaryOp, ValueId};

/// Position of the residual among the operands of `Conv` and `Linear`.
const RESIDUAL: usize = 4;
/// Position of what multiplies the activation function's result.
const FACTOR: usize = 5;

pub(super) fn rule(scope: &mut Scope<'_>, node: &Node) -> Option<Vec<Node>> {
    activation(scope, node)
        .or_else(|| residual(scope, node))
        .or_else(|| shift(scope, node))
        .or_else(|| factor(scope, node))
}

fn activation(scope: &mut Scope<'_>, node: &Node) -> Option<Vec<Node>> {
    let Op::Unary(UnaryOp::Act(act)) = node.op else { return None };
    let (x, _) = one_to_one(node)?;
    let mut fused = (*scope.sole(x)?).clone();
    let has_residual = fused.inputs.get(RESIDUAL).is_some_and(Option::is_some);
    match &mut fused.op {
        Op::Conv { act: slot, act_after_residual, .. } | Op::Linear { act: slot, act_after_residual, .. }
            if *slot == Act::None =>
        {
            *slot = act;
            *act_after_residual = has_residual;
        }
        Op::ConvTranspose { act: slot, .. } if *slot == Act::None => *slot = act,
        _ => return None,
    }
    fused.outputs.clone_from(&node.outputs);
    Some(vec![fused])
}

fn residual(scope: &mut Scope<'_>, node: &Node) -> Option<Vec<Node>> {
    let (BinaryOp::Add, a, b, _) = binary(node)? else { return None };
    let same = scope.dims(a).is_some() && scope.dims(a) == scope.dims(b);
    if !same || a == b || scope.is_stored(a) || scope.is_stored(b) || scope.dtype(a) != Some(DType::F32) {
        return None;
    }
    // The later one: it moves least, so values live no longer than before.
    let (late, early) = if scope.order(a) > scope.order(b) { (a, b) } else { (b, a) };
    add_to(scope, node, late, early).or_else(|| add_to(scope, node, early, late))
}

/// A constant for each channel, added after the activation, is a residual that is the same everywhere. (Before it, it is a bias.)
fn shift(scope: &mut Scope<'_>, node: &Node) -> Option<Vec<Node>> {
    let (op, x, c, right) = with_constant(scope, node)?;
    let sign = match op {
        BinaryOp::Add => 1.0,
        BinaryOp::Sub if right => -1.0,
        _ => return None,
    };
    let matrix = scope.sole(x)?;
    let (act, channels) = match matrix.op {
        Op::Conv { act, out_channels, .. } => (act, out_channels),
        Op::Linear { act, out_features, .. } => (act, out_features),
        _ => return None,
    };
    if act == Act::None || scope.dtype(x) != Some(DType::F32) {
        return None;
    }
    let values = channel_constant(scope, x, c, channels)?;
    let values: Vec<f32> = values.into_iter().map(|v| (sign * v) as f32).collect();
    let fused = add_to(scope, node, x, c)?;
    let name = scope.name(c).to_owned();
    let vector = scope.add_constant(name, Array::f32(&[channels], &values));
    let with_vector = |mut node: Node| {
        node.inputs[RESIDUAL] = Some(vector);
        node
    };
    Some(fused.into_iter().map(with_vector).collect())
}

/// A constant for each channel that multiplies what the activation function gives. (Before it, it goes into the weights.)
fn factor(scope: &mut Scope<'_>, node: &Node) -> Option<Vec<Node>> {
    let (op, x, c, right) = with_constant(scope, node)?;
    let mut fused = (*scope.sole(x)?).clone();
    let (Op::Conv { act, act_after_residual: before, out_channels: channels, .. }
    | Op::Linear { act, act_after_residual: before, out_features: channels }) = fused.op
    else {
        return None;
    };
    if act == Act::None || scope.dtype(x) != Some(DType::F32) {
        return None;
    }
    let values = channel_constant(scope, x, c, channels)?;
    let values: Vec<f64> = match op {
        BinaryOp::Mul => values,
        BinaryOp::Div if right => values.into_iter().map(|v| 1.0 / v).collect(),
        _ => return None,
    };
    if !values.iter().all(|v| v.is_finite()) {
        return None;
    }
    fused.inputs.resize(FACTOR + 1, None);
    // What was added last is multiplied too, as long as it is the same everywhere.
    let last = (!before && fused.inputs[RESIDUAL].is_some()).then_some(RESIDUAL);
    for at in [FACTOR].into_iter().chain(last) {
        let own = match fused.inputs[at] {
            None => vec![1.0; channels],
            Some(v) => scope.constant(v)?.as_f32()?,
        };
        if own.len() != channels {
            return None;
        }
        let product: Vec<f32> = own.iter().zip(&values).map(|(a, b)| (f64::from(*a) * b) as f32).collect();
        let name = scope.name(fused.inputs[at].unwrap_or(c)).to_owned();
        fused.inputs[at] = Some(scope.add_constant(name, Array::f32(&[channels], &product)));
    }
    fused.outputs.clone_from(&node.outputs);
    Some(vec![fused])
}

fn add_to(scope: &Scope<'_>, node: &Node, matrix: ValueId, other: ValueId) -> Option<Vec<Node>> {
    let mut fused = (*scope.sole(matrix)?).clone();
    let (Op::Conv { act, act_after_residual, .. } | Op::Linear { act, act_after_residual, .. }) =
        &mut fused.op
    else {
        return None;
    };
    if fused.inputs.get(RESIDUAL).is_some_and(Option::is_some) {
        return None;
    }
    // Without a function yet, one that follows the sum may still join.
    *act_after_residual = *act == Act::None;
    fused.inputs.resize(fused.inputs.len().max(RESIDUAL + 1), None);
    fused.inputs[RESIDUAL] = Some(other);
    fused.outputs.clone_from(&node.outputs);
    Some(vec![fused])
}
