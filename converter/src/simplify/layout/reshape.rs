//! Transposes through reshapes that merge or split whole dimensions.
//!
//! A reshape pairs runs of its operand's dimensions with runs of its result's: `[N, C, H, W] -> [N, C, H W]` pairs N
//! with N, C with C, and H W with their product. A transpose passes when each run's dimensions stand side by side in
//! the transpose's source too: then the source is reshaped run by run and the runs are permuted afterwards.

use super::{inverse, is_identity, transposed};
use crate::model::Array;
use crate::simplify::common::replaced;
use crate::simplify::sizes::Size;
use crate::simplify::sweep::Scope;
use edge_runtime::graph::{Node, Op, ValueId};
use std::ops::Range;

/// A run of the operand's dimensions and the run of the result's with the same product.
#[derive(Debug)]
struct Run {
    from: Range<usize>,
    to: Range<usize>,
}

pub(super) fn rule(scope: &mut Scope<'_>, node: &Node) -> Option<Vec<Node>> {
    let operand = node.inputs.first().copied().flatten()?;
    let y = node.outputs.first().copied().flatten()?;
    let (x, perm) = transposed(scope, operand)?;
    let (source, dims) = (scope.dims(x)?.to_vec(), scope.dims(operand)?.to_vec());
    let result = scope.infer(node)?.dims?;
    let runs = pair(scope, &dims, &result)?;

    // Position in the source of each of its dimensions among those that are not 1.
    let position = |p: usize| source[..p].iter().filter(|d| !d.is_one()).count();
    let mut order: Vec<(usize, usize)> = Vec::with_capacity(runs.len());
    let mut next = usize::MAX;
    for (i, run) in runs.iter().enumerate().rev() {
        let moved: Vec<usize> =
            perm[run.from.clone()].iter().copied().filter(|p| !source[*p].is_one()).collect();
        let places: Vec<usize> = moved.iter().map(|p| position(*p)).collect();
        if !places.windows(2).all(|w| w[1] == w[0] + 1) {
            return None;
        }
        // A run of ones goes with the run after it.
        let place = places.first().copied().unwrap_or(next);
        next = place;
        order.push((place, i));
    }
    order.sort_unstable();
    let layout: Vec<usize> = order.iter().flat_map(|(_, i)| runs[*i].to.clone()).collect();
    let wanted: Vec<Size> = layout.iter().map(|i| result[*i]).collect();
    let mut nodes = Vec::new();
    let shape = shape_operand(scope, node, &source, &wanted, &layout, &mut nodes)?;
    let reshape = replaced(node, Op::Reshape { allow_zero: false }, &[x, shape])?;
    nodes.extend(reshape);
    if !is_identity(&layout) {
        let inner = scope.add_value(scope.name(y).to_owned());
        nodes.last_mut()?.outputs = vec![Some(inner)];
        nodes.extend(replaced(node, Op::Transpose { perm: inverse(&layout) }, &[inner])?);
    }
    Some(nodes)
}

/// Pairs runs of equal product, each as short as can be.
fn pair(scope: &Scope<'_>, from: &[Size], to: &[Size]) -> Option<Vec<Run>> {
    let equal = |a: &[Size], b: &[Size]| {
        let (a, b) = (scope.sizes.factors(a), scope.sizes.factors(b));
        a.is_some() && a == b
    };
    let (mut i, mut j) = (0, 0);
    let mut runs = Vec::new();
    while i < from.len() || j < to.len() {
        let (rest, other) = (&from[i..], &to[j..]);
        let one_first = |dims: &[Size]| dims.first().is_some_and(|d| d.is_one());
        let lengths = if !rest.is_empty() && !other.is_empty() && rest[0] == other[0] {
            (1, 1)
        } else if one_first(rest) {
            (1, 0)
        } else if one_first(other) {
            (0, 1)
        } else {
            (2..=rest.len() + other.len())
                .flat_map(|total| (1..total).map(move |a| (a, total - a)))
                .find(|(a, b)| *a <= rest.len() && *b <= other.len() && equal(&rest[..*a], &other[..*b]))?
        };
        runs.push(Run { from: i..i + lengths.0, to: j..j + lengths.1 });
        i += lengths.0;
        j += lengths.1;
    }
    Some(runs)
}

/// The shape operand for the permuted result: a constant where sizes are known or copied and at most one is left over,
/// else the old operand permuted.
fn shape_operand(
    scope: &mut Scope<'_>,
    node: &Node,
    source: &[Size],
    wanted: &[Size],
    layout: &[usize],
    nodes: &mut Vec<Node>,
) -> Option<ValueId> {
    let name = format!("{}/shape", node.name);
    let mut free = 0;
    let entries: Vec<i64> = wanted
        .iter()
        .enumerate()
        .map(|(i, size)| match size {
            Size::Known(n) => *n,
            size if source.get(i) == Some(size) => 0,
            Size::Symbol(_) => {
                free += 1;
                -1
            }
        })
        .collect();
    // A size of zero cannot be told from a copy.
    if wanted.contains(&Size::Known(0)) {
        return None;
    }
    if free <= 1 {
        return Some(scope.add_constant(name, Array::i64(&[entries.len()], &entries)));
    }
    let old = node.inputs.get(1).copied().flatten()?;
    if scope.elements(old)?.contains(&Size::Known(0)) {
        return None;
    }
    let picks: Vec<i64> = layout.iter().map(|i| *i as i64).collect();
    let indices = scope.add_constant(name.clone(), Array::i64(&[picks.len()], &picks));
    let shape = scope.add_value(name.clone());
    nodes.push(Node {
        name,
        op: Op::Gather { axis: 0 },
        inputs: vec![Some(old), Some(indices)],
        outputs: vec![Some(shape)],
    });
    Some(shape)
}
