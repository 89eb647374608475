//! Changes of shape that follow one another become one.

use super::common::replaced;
use super::sizes::axes;
use super::sweep::Scope;
use crate::model::Array;
use edge_runtime::graph::{Node, Op};

pub(super) fn rule(scope: &mut Scope<'_>, node: &Node) -> Option<Vec<Node>> {
    twice(scope, node).or_else(|| edited(scope, node)).or_else(|| reduced(scope, node))
}

/// A reshape of a reshape needs only the second, unless that copies sizes of its operand.
fn twice(scope: &mut Scope<'_>, node: &Node) -> Option<Vec<Node>> {
    let x = node.inputs.first().copied().flatten()?;
    let before = scope.def(x)?;
    let source = before.inputs.first().copied().flatten()?;
    match (&node.op, &before.op) {
        (Op::Squeeze { axes: list }, Op::Unsqueeze { axes: other }) => {
            let rank = scope.rank(x)?;
            if same_axes(list, other, rank)? { replaced(node, Op::Identity, &[source]) } else { None }
        }
        (Op::Unsqueeze { axes: list }, Op::Squeeze { axes: other }) => {
            let rank = scope.rank(source)?;
            if same_axes(list, other, rank)? { replaced(node, Op::Identity, &[source]) } else { None }
        }
        (
            Op::Reshape { allow_zero },
            Op::Reshape { .. } | Op::Squeeze { .. } | Op::Unsqueeze { .. } | Op::Flatten { .. },
        ) => {
            let shape = node.inputs.get(1).copied().flatten()?;
            let copies = scope.elements(shape)?.iter().any(|e| e.known() == Some(0));
            if copies && !allow_zero { None } else { replaced(node, node.op.clone(), &[source, shape]) }
        }
        _ => None,
    }
}

fn same_axes(a: &[i32], b: &[i32], rank: usize) -> Option<bool> {
    let (mut a, mut b) = (axes(a, rank)?, axes(b, rank)?);
    a.sort_unstable();
    b.sort_unstable();
    Some(a == b)
}

/// Ones inserted into or removed from the result of a reshape to a constant shape: another constant shape.
fn edited(scope: &mut Scope<'_>, node: &Node) -> Option<Vec<Node>> {
    let x = node.inputs.first().copied().flatten()?;
    let before = scope.def(x)?;
    let (&Op::Reshape { allow_zero }, &[Some(source), Some(shape)]) = (&before.op, &before.inputs[..]) else {
        return None;
    };
    let old = scope.ints(shape)?;
    let (at, rank) = match &node.op {
        Op::Squeeze { axes: list } if !list.is_empty() => (axes(list, old.len())?, old.len() - list.len()),
        Op::Unsqueeze { axes: list } => (axes(list, old.len() + list.len())?, old.len() + list.len()),
        _ => return None,
    };
    // A zero copies the size at its own position, which must stay.
    let first = at.iter().copied().min()?;
    if !allow_zero && old.iter().skip(first).any(|n| *n == 0) {
        return None;
    }
    let new: Vec<i64> = if rank < old.len() {
        (0..old.len()).filter(|i| !at.contains(i)).map(|i| old[i]).collect()
    } else {
        let mut rest = old.iter().copied();
        (0..rank).map(|i| if at.contains(&i) { Some(1) } else { rest.next() }).collect::<Option<_>>()?
    };
    let name = scope.name(shape).to_owned();
    let shape = scope.add_constant(name, Array::i64(&[rank], &new));
    replaced(node, before.op.clone(), &[source, shape])
}

/// Dropping the ones that a reduction kept: it need not keep them.
fn reduced(scope: &mut Scope<'_>, node: &Node) -> Option<Vec<Node>> {
    let x = node.inputs.first().copied().flatten()?;
    let before = scope.sole(x)?;
    let Op::Reduce { kind, axes: list, keep_dims: true } = &before.op else { return None };
    let source = before.inputs.first().copied().flatten()?;
    let at = axes(list, scope.rank(source)?)?;
    let kept: Vec<_> =
        scope.dims(source)?.iter().enumerate().filter(|(i, _)| !at.contains(i)).map(|(_, d)| *d).collect();
    if scope.infer(node)?.dims? != kept {
        return None;
    }
    replaced(node, Op::Reduce { kind: *kind, axes: list.clone(), keep_dims: false }, &[source])
}
