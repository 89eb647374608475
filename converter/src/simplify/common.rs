//! Shapes of nodes that several rules look for.

use super::sizes::Size;
use super::sweep::Scope;
use edge_runtime::graph::{BinaryOp, Node, Op, ValueId};

/// The only operand and the only result of a node that has one of each.
pub(super) fn one_to_one(node: &Node) -> Option<(ValueId, ValueId)> {
    match (&node.inputs[..], &node.outputs[..]) {
        ([Some(x)], [Some(y)]) => Some((*x, *y)),
        _ => None,
    }
}

/// Operation, operands and result of a `Binary`.
pub(super) fn binary(node: &Node) -> Option<(BinaryOp, ValueId, ValueId, ValueId)> {
    match (&node.op, &node.inputs[..], &node.outputs[..]) {
        (Op::Binary(op), [Some(a), Some(b)], [Some(y)]) => Some((*op, *a, *b, *y)),
        _ => None,
    }
}

/// The computed operand and the constant of a `Binary` that has one of each, and whether the constant is on the right.
pub(super) fn with_constant(scope: &Scope<'_>, node: &Node) -> Option<(BinaryOp, ValueId, ValueId, bool)> {
    let (op, a, b, _) = binary(node)?;
    match (scope.constant(a).is_some(), scope.constant(b).is_some()) {
        (false, true) => Some((op, a, b, true)),
        (true, false) => Some((op, b, a, false)),
        _ => None,
    }
}

/// The node with another operation and operands, its name and results kept.
pub(super) fn replaced(node: &Node, op: Op, inputs: &[ValueId]) -> Option<Vec<Node>> {
    Some(vec![Node {
        name: node.name.clone(),
        op,
        inputs: inputs.iter().map(|v| Some(*v)).collect(),
        outputs: node.outputs.clone(),
    }])
}

/// Whether combining `x` with the constant elementwise surely has the shape of `x`.
pub(super) fn keeps_shape(scope: &Scope<'_>, x: ValueId, constant: ValueId) -> bool {
    let Some(array) = scope.constant(constant) else { return false };
    if array.dims.is_empty() {
        return true;
    }
    let Some(dims) = scope.dims(x) else { return false };
    array.dims.len() <= dims.len()
        && array
            .dims
            .iter()
            .rev()
            .zip(dims.iter().rev())
            .all(|(c, d)| *c == 1 || Size::Known(*c as i64) == *d)
}

/// The computed operand and the number of a `Binary` with a one-element constant that does not change the shape, and
/// whether the constant is on the right.
pub(super) fn with_scalar(scope: &Scope<'_>, node: &Node) -> Option<(BinaryOp, ValueId, f32, bool)> {
    let (op, x, c, right) = with_constant(scope, node)?;
    let number = scope.scalar(c)?;
    keeps_shape(scope, x, c).then_some((op, x, number, right))
}

/// The constant as one number for each channel, where it varies along the last dimension only and does not widen `x`.
pub(super) fn channel_constant(
    scope: &Scope<'_>,
    x: ValueId,
    c: ValueId,
    channels: usize,
) -> Option<Vec<f64>> {
    let array = scope.constant(c)?;
    let values = array.as_f32()?;
    let rank = array.dims.len();
    if rank > 1 && scope.rank(x)? < rank {
        return None;
    }
    match values.len() {
        1 => Some(vec![f64::from(values[0]); channels]),
        n if n == channels && array.dims.last() == Some(&n) => {
            Some(values.into_iter().map(f64::from).collect())
        }
        _ => None,
    }
}
