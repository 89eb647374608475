//! Which part of a result is filled when a part of its operands is: for operations that treat each entry of an axis alike.

use super::{Dims, Extent, Operands, normalize, product};
use edge_runtime::graph::{Op, ValueId};

/// The extent of an operation's first result.
pub fn infer(op: &Op, operands: &Operands) -> Extent {
    let extents = || operands.facts.iter().flatten().map(|f| f.extent);
    if extents().all(|e| e == Extent::Whole) {
        return Extent::Whole;
    }
    match followed(op, operands) {
        Some((axis, count)) => Extent::Part { axis, count },
        None => Extent::Unclear,
    }
}

/// The filled axis of operand `i`; `None` when it is not one that a part is known of.
fn part(operands: &Operands, i: usize) -> Option<(usize, ValueId)> {
    match operands.fact(i)?.extent {
        Extent::Part { axis, count } => Some((axis, count)),
        _ => None,
    }
}

fn whole(operands: &Operands, i: usize) -> bool {
    operands.fact(i).is_none_or(|f| f.extent == Extent::Whole)
}

/// The part of the result, where it can be followed.
fn followed(op: &Op, operands: &Operands) -> Option<(usize, ValueId)> {
    match op {
        Op::Binary(_) | Op::Where => return broadcast(operands),
        Op::Concat { axis } => return concat(*axis, operands),
        Op::Gather { axis } if whole(operands, 0) => {
            let (at, count) = part(operands, 1)?;
            return Some((normalize(i64::from(*axis), operands.dims(0)?.len())? + at, count));
        }
        // The last dimension of the indices holds one index each.
        Op::GatherNd { batch_dims: 0 } if whole(operands, 0) => {
            let (at, count) = part(operands, 1)?;
            return (at + 1 < operands.dims(1)?.len()).then_some((at, count));
        }
        _ => {}
    }
    // All else follows operand 0 alone.
    let (axis, count) = part(operands, 0)?;
    (1..operands.facts.len()).all(|i| whole(operands, i)).then_some(())?;
    let dims = operands.dims(0)?;
    let rank = dims.len();
    let place = |a: &i32| normalize(i64::from(*a), rank);
    let moved = match op {
        Op::Unary(_) | Op::Cast { .. } | Op::Identity => axis,
        Op::Linear { .. } => (axis + 1 < rank).then_some(axis)?,
        Op::Softmax { axis: along, .. } => (place(along)? != axis).then_some(axis)?,
        Op::Slice { axes } | Op::Pad { axes, .. } => {
            let axes: Vec<usize> = axes.iter().map(place).collect::<Option<_>>()?;
            (!axes.contains(&axis)).then_some(axis)?
        }
        Op::Transpose { perm } if perm.is_empty() => rank - 1 - axis,
        Op::Transpose { perm } => perm.iter().position(|p| *p == axis)?,
        Op::Unsqueeze { axes } => {
            let rank = rank + axes.len();
            let new: Vec<usize> =
                axes.iter().map(|a| normalize(i64::from(*a), rank)).collect::<Option<_>>()?;
            (0..rank).filter(|a| !new.contains(a)).nth(axis)?
        }
        Op::Squeeze { axes } if !axes.is_empty() => without(axes, axis, rank)?,
        Op::Reduce { axes, keep_dims, .. } => {
            let left = without(axes, axis, rank)?;
            if *keep_dims { axis } else { left }
        }
        Op::Gather { axis: along } => {
            let (along, indices) = (place(along)?, operands.dims(1)?.len());
            match axis {
                _ if axis == along => return None,
                _ if axis < along => axis,
                _ => axis + indices - 1,
            }
        }
        Op::Reshape { .. } => reshape(dims, axis, operands.fact(1)?.known()?)?,
        _ => return None,
    };
    Some((moved, count))
}

/// Where `axis` lies when others go away.
fn without(axes: &[i32], axis: usize, rank: usize) -> Option<usize> {
    let gone: Vec<usize> = axes.iter().map(|a| normalize(i64::from(*a), rank)).collect::<Option<_>>()?;
    (!gone.contains(&axis)).then(|| axis - gone.iter().filter(|g| **g < axis).count())
}

/// All that have a part have the same, seen from the last dimension; the others are repeated along it.
fn broadcast(operands: &Operands) -> Option<(usize, ValueId)> {
    let facts: Vec<_> = operands.facts.iter().flatten().collect();
    let ranks: Vec<usize> = facts.iter().map(|f| f.rank()).collect::<Option<_>>()?;
    let rank = ranks.iter().copied().max()?;
    let mut found = None;
    for (fact, own) in facts.iter().zip(&ranks) {
        match (fact.extent, found) {
            (Extent::Whole, _) => {}
            (Extent::Unclear, _) => return None,
            (Extent::Part { axis, count }, None) => found = Some((axis + rank - own, count)),
            (Extent::Part { axis, count }, Some(found)) => {
                ((axis + rank - own, count) == found).then_some(())?;
            }
        }
    }
    let (axis, _) = found?;
    for (fact, own) in facts.iter().zip(&ranks).filter(|(fact, _)| fact.extent == Extent::Whole) {
        if let Some(own_axis) = (axis + own).checked_sub(rank) {
            (fact.size(own_axis) == Some(1)).then_some(())?;
        }
    }
    found
}

/// Every operand has the same part, along another axis than the one that joins.
fn concat(along: i32, operands: &Operands) -> Option<(usize, ValueId)> {
    let first = part(operands, 0)?;
    let along = normalize(i64::from(along), operands.dims(0)?.len())?;
    let same = (1..operands.facts.len()).all(|i| part(operands, i) == Some(first));
    (same && along != first.0).then_some(first)
}

/// A reshape that leaves the first axis as it is.
fn reshape(dims: &Dims, axis: usize, shape: Vec<i64>) -> Option<usize> {
    let (first, rest) = shape.split_first()?;
    let entries = product(dims[1..].iter().copied())?;
    let wanted = product(rest.iter().map(|s| usize::try_from(*s).ok()))?;
    let kept = *first <= 0 && entries == wanted && entries > 0;
    (axis == 0 && kept).then_some(0)
}
