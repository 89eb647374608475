//! Operations that let a transpose of their operand through.

use super::{inverse, is_identity, restrict, transposed};
use crate::model::Array;
use crate::simplify::eval;
use crate::simplify::sizes::{Size, axes, axis};
use crate::simplify::sweep::Scope;
use edge_runtime::graph::{Node, Op, Pads, ValueId, Window};

/// A node rewritten to read the transposes' sources.
struct Moved {
    op: Op,
    inputs: Vec<Option<ValueId>>,
    /// What permutes the new results into the old ones.
    perm: Vec<usize>,
    /// Nodes that must come before: transposes of other operands.
    before: Vec<Node>,
}

pub(super) fn rule(scope: &mut Scope<'_>, node: &Node) -> Option<Vec<Node>> {
    let moved = match &node.op {
        Op::Binary(_) | Op::Where => elementwise(scope, node)?,
        Op::Concat { axis } => concat(scope, node, *axis)?,
        Op::Linear { .. } => pointwise(scope, node)?,
        Op::Conv { window, .. } if is_pointwise(window) => pointwise(scope, node)?,
        _ => one_operand(scope, node)?,
    };
    let mut nodes = moved.before;
    let mut new =
        Node { name: node.name.clone(), op: moved.op, inputs: moved.inputs, outputs: node.outputs.clone() };
    if is_identity(&moved.perm) {
        nodes.push(new);
        return Some(nodes);
    }
    let mut after = Vec::new();
    for output in new.outputs.iter_mut() {
        let Some(y) = *output else { continue };
        let inner = scope.add_value(scope.name(y).to_owned());
        *output = Some(inner);
        after.push(Node {
            name: node.name.clone(),
            op: Op::Transpose { perm: moved.perm.clone() },
            inputs: vec![Some(inner)],
            outputs: vec![Some(y)],
        });
    }
    nodes.push(new);
    nodes.extend(after);
    Some(nodes)
}

/// Whether the permutation moves channels only, as the importer's own transposes do. Others, those of attention, are
/// not worth multiplying.
fn moves_channels(perm: &[usize]) -> bool {
    let last = perm.len() - 1;
    let to_first: Vec<usize> = [0, last].into_iter().chain(1..last).collect();
    perm.len() >= 3 && (perm == to_first || inverse(perm) == to_first)
}

/// Operations whose other operands, if any, are parameters.
fn one_operand(scope: &mut Scope<'_>, node: &Node) -> Option<Moved> {
    let operand = node.inputs.first().copied().flatten()?;
    let (x, perm) = transposed(scope, operand)?;
    let rank = perm.len();
    let map = |a: i32| axis(a, rank).map(|a| perm[a] as i32);
    let map_all = |list: &[i32]| list.iter().map(|a| map(*a)).collect::<Option<Vec<i32>>>();
    let single = scope.uses(operand) == 1 && node.outputs.len() == 1;
    let mut inputs = node.inputs.clone();
    inputs[0] = Some(x);
    let mut result = perm.clone();
    let op = match &node.op {
        Op::Unary(_) | Op::Cast { .. } => node.op.clone(),
        Op::Softmax { axis, log } => Op::Softmax { axis: map(*axis)?, log: *log },
        Op::CumSum { axis, exclusive, reverse } => {
            Op::CumSum { axis: map(*axis)?, exclusive: *exclusive, reverse: *reverse }
        }
        Op::Resize { axes, interpolation, coordinates } => {
            Op::Resize { axes: map_all(axes)?, interpolation: *interpolation, coordinates: *coordinates }
        }
        Op::Pad { mode, axes } => Op::Pad { mode: *mode, axes: map_all(axes)? },
        Op::Slice { axes } if single || moves_channels(&perm) => Op::Slice { axes: map_all(axes)? },
        Op::Split { axis } if single || moves_channels(&perm) => Op::Split { axis: map(*axis)? },
        Op::TopK { axis, largest } => Op::TopK { axis: map(*axis)?, largest: *largest },
        Op::Reduce { kind, axes: list, keep_dims } => {
            let reduced = axes(list, rank)?;
            if list.is_empty() {
                return None;
            }
            if !keep_dims {
                let gone: Vec<usize> = reduced.iter().map(|a| perm[*a]).collect();
                result = restrict(&perm, |p| !gone.contains(&p));
            }
            Op::Reduce { kind: *kind, axes: map_all(list)?, keep_dims: *keep_dims }
        }
        Op::ArgReduce { max, axis, keep_dims, last } => {
            let new = map(*axis)?;
            if !keep_dims {
                result = restrict(&perm, |p| p != new as usize);
            }
            Op::ArgReduce { max: *max, axis: new, keep_dims: *keep_dims, last: *last }
        }
        Op::Squeeze { axes: list } if !list.is_empty() => {
            let gone: Vec<usize> = axes(list, rank)?.iter().map(|a| perm[*a]).collect();
            result = restrict(&perm, |p| !gone.contains(&p));
            Op::Squeeze { axes: gone.iter().map(|a| *a as i32).collect() }
        }
        Op::Unsqueeze { axes: list } => {
            let (new, placed) = unsqueeze(&perm, &axes(list, rank + list.len())?);
            result = placed;
            Op::Unsqueeze { axes: new }
        }
        Op::Gather { axis: a } if single || moves_channels(&perm) => {
            let at = perm[axis(*a, rank)?];
            match scope.rank(inputs.get(1).copied().flatten()?)? {
                0 => result = restrict(&perm, |p| p != at),
                1 => {}
                _ => return None,
            }
            Op::Gather { axis: at as i32 }
        }
        Op::LayerNorm { axis: a, epsilon } => {
            let at = trailing(&perm, *a)?;
            Op::LayerNorm { axis: at, epsilon: *epsilon }
        }
        Op::RmsNorm { axis: a, epsilon } => Op::RmsNorm { axis: trailing(&perm, *a)?, epsilon: *epsilon },
        Op::Tile => {
            let repeats = scope.ints(inputs.get(1).copied().flatten()?).filter(|r| r.len() == rank)?;
            let back = inverse(&perm);
            let repeats: Vec<i64> = back.iter().map(|i| repeats[*i]).collect();
            inputs[1] =
                Some(scope.add_constant(format!("{}/repeats", node.name), Array::i64(&[rank], &repeats)));
            Op::Tile
        }
        _ => return None,
    };
    Some(Moved { op, inputs, perm: result, before: Vec::new() })
}

/// The axis of a norm over trailing dimensions, which the permutation must leave alone.
fn trailing(perm: &[usize], a: i32) -> Option<i32> {
    let at = axis(a, perm.len())?;
    perm.iter().enumerate().skip(at).all(|(i, p)| i == *p).then_some(at as i32)
}

/// Where to insert ones into the source so that the result is a transpose of it: each before the dimension that it
/// stands before in the result, so that it travels with that dimension. `at` counts in the result.
fn unsqueeze(perm: &[usize], at: &[usize]) -> (Vec<i32>, Vec<usize>) {
    let rank = perm.len() + at.len();
    let mut rest = perm.iter().copied();
    // Each result dimension: the source's dimension, or a new one.
    let result: Vec<Option<usize>> =
        (0..rank).map(|i| if at.contains(&i) { None } else { rest.next() }).collect();
    // The new layout: the source's dimensions in their order, new ones before the dimension that follows them.
    let mut layout: Vec<usize> = Vec::with_capacity(rank);
    for dim in 0..perm.len() {
        let here = result.iter().position(|r| *r == Some(dim)).unwrap_or(rank);
        let first = (0..here).rev().take_while(|i| result[*i].is_none()).last().unwrap_or(here);
        layout.extend(first..here);
        layout.push(here);
    }
    let tail = (0..rank).rev().take_while(|i| result[*i].is_none()).last().unwrap_or(rank);
    layout.extend(tail..rank);
    let new = (0..rank).filter(|i| result[layout[*i]].is_none()).map(|i| i as i32).collect();
    (new, inverse(&layout))
}

/// Operations that broadcast their operands. Any operand's permutation will do that the others can follow.
fn elementwise(scope: &mut Scope<'_>, node: &Node) -> Option<Moved> {
    let candidates: Vec<(ValueId, Vec<usize>)> =
        node.inputs.iter().flatten().filter_map(|v| Some((*v, transposed(scope, *v)?.1))).collect();
    candidates.into_iter().find_map(|(large, perm)| {
        let mut before = Vec::new();
        let mut inputs = Vec::new();
        for value in &node.inputs {
            inputs.push(Some(aligned(scope, (*value)?, large, &perm, &mut before)?));
        }
        Some(Moved { op: node.op.clone(), inputs, perm, before })
    })
}

/// A value whose transpose by `perm` broadcasts against `large` as `value` does.
fn aligned(
    scope: &mut Scope<'_>,
    value: ValueId,
    large: ValueId,
    perm: &[usize],
    before: &mut Vec<Node>,
) -> Option<ValueId> {
    let rank = perm.len();
    if let Some((source, theirs)) = transposed(scope, value) {
        if theirs == perm {
            return Some(source);
        }
        // The difference may move ones alone, which is free.
        if theirs.len() == rank {
            let rest: Vec<usize> = inverse(perm).iter().map(|i| theirs[*i]).collect();
            let dims = scope.dims(source)?;
            if is_identity(&restrict(&rest, |p| !dims[p].is_one())) {
                return Some(permuted(scope, source, &rest, before));
            }
        }
    }
    if let Some(array) = scope.constant(value) {
        if array.dims.is_empty() {
            return Some(value);
        }
        let missing = rank.checked_sub(array.dims.len())?;
        let dims = [vec![1; missing], array.dims.clone()].concat();
        let padded = Array { dims, ..array.clone() };
        let array = eval::transpose(&padded, &inverse(perm))?;
        let name = scope.name(value).to_owned();
        return Some(scope.add_constant(name, array));
    }
    let mut dims = scope.dims(value)?.to_vec();
    if dims.is_empty() {
        return Some(value);
    }
    // An operand that is broadcast is cheaper to permute than the large one. It must have ones where that has none and
    // none the other way round, or the two would be permuted in turns without end.
    let missing = rank.checked_sub(dims.len())?;
    dims.splice(0..0, vec![Size::Known(1); missing]);
    let large = scope.dims(large)?;
    let pairs = || dims.iter().zip(large);
    if pairs().any(|(d, l)| l.is_one() && !d.is_one()) || !pairs().any(|(d, l)| d.is_one() && !l.is_one()) {
        return None;
    }
    if missing == 0 {
        return Some(permuted(scope, value, &inverse(perm), before));
    }
    let name = scope.name(value).to_owned();
    let wide = scope.add_value(name.clone());
    before.push(Node {
        name,
        op: Op::Unsqueeze { axes: (0..missing as i32).collect() },
        inputs: vec![Some(value)],
        outputs: vec![Some(wide)],
    });
    Some(permuted(scope, wide, &inverse(perm), before))
}

/// A new transpose of a value.
fn permuted(scope: &mut Scope<'_>, value: ValueId, perm: &[usize], before: &mut Vec<Node>) -> ValueId {
    let name = scope.name(value).to_owned();
    let result = scope.add_value(name.clone());
    before.push(Node {
        name,
        op: Op::Transpose { perm: perm.to_vec() },
        inputs: vec![Some(value)],
        outputs: vec![Some(result)],
    });
    result
}

fn concat(scope: &mut Scope<'_>, node: &Node, a: i32) -> Option<Moved> {
    let perm = node.inputs.iter().flatten().find_map(|v| transposed(scope, *v)).map(|(_, perm)| perm)?;
    let at = perm[axis(a, perm.len())?];
    let same =
        |v: &Option<ValueId>| v.and_then(|v| transposed(scope, v)).is_some_and(|(_, theirs)| theirs == perm);
    let agreeing = node.inputs.iter().filter(|v| same(v)).count();
    let mut before = Vec::new();
    let mut inputs = Vec::new();
    for value in &node.inputs {
        let value = (*value)?;
        let new = match transposed(scope, value) {
            Some((source, theirs)) if theirs == perm => source,
            // Permuting the odd ones must not cost more than it saves.
            _ if scope.rank(value)? == perm.len() && 2 * agreeing > node.inputs.len() => {
                permuted(scope, value, &inverse(&perm), &mut before)
            }
            _ => return None,
        };
        inputs.push(Some(new));
    }
    Some(Moved { op: Op::Concat { axis: at as i32 }, inputs, perm, before })
}

fn is_pointwise(window: &Window) -> bool {
    window.kernel == [1, 1] && window.stride == [1, 1] && window.pads == Pads::Explicit([0; 4])
}

/// A matrix product over the last dimension takes the others in any order.
fn pointwise(scope: &mut Scope<'_>, node: &Node) -> Option<Moved> {
    let (x, perm) = transposed(scope, node.inputs.first().copied().flatten()?)?;
    (perm.last() == Some(&(perm.len() - 1))).then_some(())?;
    let mut inputs = node.inputs.clone();
    inputs[0] = Some(x);
    if let Some(residual) = inputs.get(4).copied().flatten()
        && scope.rank(residual)? > 1
    {
        let (source, theirs) = transposed(scope, residual)?;
        (theirs == perm).then_some(())?;
        inputs[4] = Some(source);
    }
    Some(Moved { op: node.op.clone(), inputs, perm, before: Vec::new() })
}
