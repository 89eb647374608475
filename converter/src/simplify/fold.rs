//! Operations on constants become constants.

use super::eval::evaluate;
use super::sizes::Size;
use super::sweep::Scope;
use crate::model::Array;
use edge_runtime::graph::{DType, Node, Op, ReduceOp, ValueId};

/// Results up to this size are never too much: nodes themselves take as much.
const SMALL: usize = 256;

pub(super) fn rule(scope: &mut Scope<'_>, node: &Node) -> Option<Vec<Node>> {
    static_axes(scope, node).or_else(|| constant(scope, node)).or_else(|| known_elements(scope, node))
}

/// The node's results as new constants that take its values' names.
fn constant(scope: &mut Scope<'_>, node: &Node) -> Option<Vec<Node>> {
    // Without outputs to speak of, as when they became constants in an earlier sweep, there is nothing to do.
    node.outputs.iter().any(Option::is_some).then_some(())?;
    let inputs: Vec<Option<&Array>> = node
        .inputs
        .iter()
        .map(|v| match v {
            Some(v) => scope.constant(*v).map(Some),
            None => Some(None),
        })
        .collect::<Option<_>>()?;
    let arrays = evaluate(&node.op, &inputs, node.outputs.len())?;
    let taken: usize = inputs.iter().flatten().map(|array| array.data.len()).sum();
    let given: usize = arrays.iter().map(|array| array.data.len()).sum();
    *scope.room = scope.room.checked_sub(given.saturating_sub(taken.max(SMALL)))?;
    let outputs: Vec<(Option<ValueId>, Array)> = node.outputs.iter().copied().zip(arrays).collect();
    Some(outputs.into_iter().filter_map(|(to, array)| Some(copy(scope, node, to?, array))).collect())
}

/// Shape vectors whose elements are known though their operand is not: `Shape` of a static dimension and what follows.
fn known_elements(scope: &mut Scope<'_>, node: &Node) -> Option<Vec<Node>> {
    let (&[Some(y)], true) = (&node.outputs[..], node.inputs.iter().flatten().any(|v| !scope.is_stored(*v)))
    else {
        return None;
    };
    if !matches!(node.op, Op::Shape { .. } | Op::Size | Op::Gather { .. } | Op::Slice { .. } | Op::Binary(_))
    {
        return None;
    }
    let fact = scope.infer(node)?;
    let values: Vec<i64> = fact.elements?.into_iter().map(Size::known).collect::<Option<_>>()?;
    let dims: Vec<usize> =
        fact.dims?.into_iter().map(|d| d.known().map(|n| n as usize)).collect::<Option<_>>()?;
    let elements = dims.iter().try_fold(1usize, |n, d| n.checked_mul(*d))?;
    (fact.dtype == Some(DType::I64) && elements == values.len()).then_some(())?;
    Some(vec![copy(scope, node, y, Array::i64(&dims, &values))])
}

fn copy(scope: &mut Scope<'_>, node: &Node, to: ValueId, array: Array) -> Node {
    let name = scope.name(to).to_owned();
    let from = scope.add_constant(name, array);
    Node { name: node.name.clone(), op: Op::Identity, inputs: vec![Some(from)], outputs: vec![Some(to)] }
}

/// `ReduceAxes` with constant axes is a `Reduce`.
fn static_axes(scope: &mut Scope<'_>, node: &Node) -> Option<Vec<Node>> {
    let Op::ReduceAxes { kind, keep_dims, noop_if_empty } = node.op else { return None };
    let x = node.inputs.first().copied().flatten()?;
    let list = match node.inputs.get(1).copied().flatten() {
        Some(axes) => scope.ints(axes)?,
        None => Vec::new(),
    };
    let mut axes: Vec<i32> = list.into_iter().map(i32::try_from).collect::<Result<_, _>>().ok()?;
    let op = match (axes.is_empty(), noop_if_empty) {
        (true, true)
            if matches!(
                kind,
                ReduceOp::Sum | ReduceOp::Mean | ReduceOp::Max | ReduceOp::Min | ReduceOp::Prod
            ) =>
        {
            Op::Identity
        }
        (true, true) => return None,
        (true, false) => {
            axes = (0..scope.rank(x)? as i32).collect();
            Op::Reduce { kind, axes, keep_dims }
        }
        (false, _) => Op::Reduce { kind, axes, keep_dims },
    };
    Some(vec![Node { name: node.name.clone(), op, inputs: vec![Some(x)], outputs: node.outputs.clone() }])
}
