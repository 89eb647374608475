//! Moves transposes towards the outputs until they meet their inverse.
//!
//! The importer wraps every spatial operation in a pair of transposes, to channels-last and back. Each operation that
//! does not care for the order of dimensions lets a transpose through, its axes and constants permuted; so the pair
//! between two convolutions meets and vanishes. What is left stands at inputs, outputs and true changes of rank.

mod reshape;
mod sink;
mod view;

use super::common::{one_to_one, replaced};
use super::infer::full_perm;
use super::sweep::Scope;
use crate::model::Array;
use edge_runtime::graph::{Node, Op, ValueId};

pub(super) fn rule(scope: &mut Scope<'_>, node: &Node) -> Option<Vec<Node>> {
    match &node.op {
        Op::Transpose { .. } => transpose(scope, node),
        Op::Reshape { .. } | Op::Flatten { .. } => reshape::rule(scope, node),
        Op::Shape { .. } => shape(scope, node),
        Op::MatMul { .. } => matmul(scope, node),
        _ => sink::rule(scope, node).or_else(|| view::rule(scope, node)),
    }
}

/// The operand of the transpose that computes a value, and its permutation: dimension `i` of the value is dimension
/// `perm[i]` of the operand.
fn transposed(scope: &Scope<'_>, value: ValueId) -> Option<(ValueId, Vec<usize>)> {
    let node = scope.def(value)?;
    let Op::Transpose { perm } = &node.op else { return None };
    let (x, _) = one_to_one(&node)?;
    let rank = if perm.is_empty() { scope.rank(x)? } else { perm.len() };
    Some((x, full_perm(perm, rank)?))
}

fn inverse(perm: &[usize]) -> Vec<usize> {
    let mut inverse = vec![0; perm.len()];
    perm.iter().enumerate().for_each(|(i, p)| inverse[*p] = i);
    inverse
}

fn is_identity(perm: &[usize]) -> bool {
    perm.iter().enumerate().all(|(i, p)| i == *p)
}

/// What is left of a permutation when only some dimensions of the operand are kept: `kept` of them, by the operand's
/// numbering.
fn restrict(perm: &[usize], kept: impl Fn(usize) -> bool) -> Vec<usize> {
    let rank_of = |p: usize| (0..p).filter(|q| kept(*q)).count();
    perm.iter().copied().filter(|p| kept(*p)).map(rank_of).collect()
}

/// Two transposes are one.
fn transpose(scope: &mut Scope<'_>, node: &Node) -> Option<Vec<Node>> {
    let (x, _) = one_to_one(node)?;
    let Op::Transpose { perm } = &node.op else { return None };
    if perm.is_empty() {
        let perm = full_perm(perm, scope.rank(x)?)?;
        return replaced(node, Op::Transpose { perm }, &[x]);
    }
    if let Some((source, inner)) = transposed(scope, x) {
        let perm: Vec<usize> = perm.iter().map(|p| inner.get(*p).copied()).collect::<Option<_>>()?;
        let op = if is_identity(&perm) { Op::Identity } else { Op::Transpose { perm } };
        return replaced(node, op, &[source]);
    }
    None
}

/// A transpose that moves only dimensions of size 1 is a change of shape, which copies nothing. This comes once no
/// transpose can meet its inverse any more, for shapes would stand in the way.
pub(super) fn ones(scope: &mut Scope<'_>, node: &Node) -> Option<Vec<Node>> {
    let Op::Transpose { perm } = &node.op else { return None };
    if scope.options.keep_ones {
        return None;
    }
    let (x, y) = one_to_one(node)?;
    let dims = scope.dims(x)?.to_vec();
    if dims.len() != perm.len() || !is_identity(&restrict(perm, |p| !dims[p].is_one())) {
        return None;
    }
    let signed = |list: Vec<usize>| list.into_iter().map(|i| i as i32).collect::<Vec<i32>>();
    let removed = signed((0..dims.len()).filter(|i| dims[*i].is_one()).collect());
    let inserted = signed((0..dims.len()).filter(|i| dims[perm[*i]].is_one()).collect());
    let between = scope.add_value(scope.name(y).to_owned());
    let mut squeeze = replaced(node, Op::Squeeze { axes: removed }, &[x])?;
    squeeze[0].outputs = vec![Some(between)];
    squeeze.extend(replaced(node, Op::Unsqueeze { axes: inserted }, &[between])?);
    Some(squeeze)
}

/// The shape of a transposed value is the permuted shape of its source.
fn shape(scope: &mut Scope<'_>, node: &Node) -> Option<Vec<Node>> {
    let (x, y) = one_to_one(node)?;
    let Op::Shape { start, end } = node.op else { return None };
    let (source, perm) = transposed(scope, x)?;
    let (start, end) = super::infer::shape_range(start, end, perm.len());
    let picks: Vec<i64> = perm.get(start..end.max(start))?.iter().map(|p| *p as i64).collect();
    let name = scope.name(y).to_owned();
    let whole = scope.add_value(name.clone());
    let indices = scope.add_constant(name, Array::i64(&[picks.len()], &picks));
    let mut nodes = replaced(node, Op::Shape { start: 0, end: None }, &[source])?;
    nodes[0].outputs = vec![Some(whole)];
    nodes.extend(replaced(node, Op::Gather { axis: 0 }, &[whole, indices])?);
    Some(nodes)
}

/// A product reads a matrix either way round.
fn matmul(scope: &mut Scope<'_>, node: &Node) -> Option<Vec<Node>> {
    let Op::MatMul { trans_a, trans_b, alpha } = node.op else { return None };
    let &[Some(a), Some(b)] = &node.inputs[..] else { return None };
    let swapped = |value| {
        let (source, mut perm) = transposed(scope, value)?;
        let rank = perm.len();
        if rank < 2 {
            return None;
        }
        perm.swap(rank - 2, rank - 1);
        is_identity(&perm).then_some(source)
    };
    match (swapped(a), swapped(b)) {
        (None, None) => None,
        (new_a, new_b) => replaced(
            node,
            Op::MatMul { trans_a: trans_a != new_a.is_some(), trans_b: trans_b != new_b.is_some(), alpha },
            &[new_a.unwrap_or(a), new_b.unwrap_or(b)],
        ),
    }
}
