//! The shapes of an operation's results, as far as they follow from the operands'.

use super::elements::{bounds, range};
use super::{Dims, Element, MAX_ELEMENTS, Operands, normalize};
use edge_runtime::graph::{Direction, Op, Pads, Window};

/// The shapes of the results; missing entries are not known.
pub fn infer(op: &Op, operands: &Operands, outputs: usize) -> Vec<Option<Dims>> {
    let x = operands.dims(0).cloned();
    match op {
        Op::TopK { axis, .. } => {
            let dims = x.map(|d| replace(d, *axis, operands.known(1).and_then(|k| first_size(&k))));
            vec![dims; 2]
        }
        Op::NonMaxSuppression => {
            let (classes, most) = (operands.fact(1).and_then(|f| f.size(1)), operands.known(2));
            let rows = x.as_deref().and_then(|d| match (d, classes, most.and_then(|m| first_size(&m))) {
                ([Some(batches), Some(count), _], Some(classes), Some(most)) => {
                    batches.checked_mul(classes)?.checked_mul(most.min(*count))
                }
                _ => None,
            });
            vec![Some(vec![rows, Some(3)]), Some(Vec::new())]
        }
        Op::Split { axis } => split(x, *axis, operands, outputs),
        Op::Lstm { direction, hidden, .. } | Op::Gru { direction, hidden, .. } => {
            let dirs = if *direction == Direction::Bidirectional { 2 } else { 1 };
            let (seq, batch) = match x.as_deref() {
                Some([seq, batch, _]) => (*seq, *batch),
                _ => (None, None),
            };
            let state = vec![Some(dirs), batch, Some(*hidden)];
            vec![Some(vec![seq, Some(dirs), batch, Some(*hidden)]), Some(state.clone()), Some(state)]
        }
        Op::If { .. } | Op::Loop { .. } | Op::Turn => Vec::new(),
        _ => vec![single(op, x, operands)],
    }
}

/// The shape that a list of `rank` unknown sizes says; `None` for a list that is no shape of any tensor.
fn free(rank: usize) -> Option<Dims> {
    (rank <= MAX_ELEMENTS).then(|| vec![None; rank])
}

fn single(op: &Op, x: Option<Dims>, operands: &Operands) -> Option<Dims> {
    match op {
        Op::Conv { window, out_channels, .. } => windowed(x?, window, false, Some(*out_channels)),
        Op::Pool { window, ceil_mode, .. } => windowed(x?, window, *ceil_mode, None),
        Op::ConvTranspose { out_channels, .. } => {
            let mut dims = x?;
            let rank = dims.len();
            dims.iter_mut().skip(1).for_each(|d| *d = None);
            *dims.get_mut(rank.checked_sub(1)?)? = Some(*out_channels);
            Some(dims)
        }
        Op::Linear { out_features, .. } => {
            let mut dims = x?;
            *dims.last_mut()? = Some(*out_features);
            Some(dims)
        }
        Op::MatMul { trans_a, trans_b, .. } => matmul(x?, operands.dims(1)?, *trans_a, *trans_b),
        Op::Resize { axes, .. } => {
            let sizes = operands.known(2);
            let mut dims = x?;
            for (i, axis) in axes.iter().enumerate() {
                let size = sizes.as_ref().and_then(|s| s.get(i)).and_then(|s| usize::try_from(*s).ok());
                dims = replace(dims, *axis, size);
            }
            Some(dims)
        }
        Op::Binary(_) => broadcast(&x?, operands.dims(1)?),
        Op::Where => broadcast(&broadcast(&x?, operands.dims(1)?)?, operands.dims(2)?),
        Op::Expand => {
            let shape = operands.fact(1)?;
            let target = match &shape.elements {
                Some(elements) => elements.iter().map(|e| size(*e)).collect(),
                None => free(shape.size(0)?)?,
            };
            broadcast(&x?, &target)
        }
        Op::Reduce { axes, keep_dims, .. } => reduced(x?, axes, *keep_dims),
        Op::ArgReduce { axis, keep_dims, .. } => reduced(x?, &[*axis], *keep_dims),
        Op::ReduceAxes { keep_dims: true, .. } => Some(vec![None; x?.len()]),
        Op::ReduceAxes { keep_dims: false, .. } => {
            let rank = x?.len();
            match operands.len(1)? {
                0 => None,
                n => Some(vec![None; rank.checked_sub(n)?]),
            }
        }
        // A permutation tells the rank even where the operand does not.
        Op::Transpose { perm } => match x {
            None if perm.is_empty() => None,
            None => Some(vec![None; perm.len()]),
            Some(dims) if perm.is_empty() => Some(dims.into_iter().rev().collect()),
            Some(dims) => perm.iter().map(|p| dims.get(*p).copied()).collect(),
        },
        Op::Reshape { allow_zero } => reshape(x, operands, *allow_zero),
        Op::Unsqueeze { axes } => {
            let dims = x?;
            let rank = dims.len() + axes.len();
            let mut places =
                axes.iter().map(|a| normalize(i64::from(*a), rank)).collect::<Option<Vec<_>>>()?;
            places.sort_unstable();
            let mut rest = dims.into_iter();
            (0..rank).map(|i| if places.contains(&i) { Some(Some(1)) } else { rest.next() }).collect()
        }
        Op::Squeeze { axes } if axes.is_empty() => {
            let dims = x?;
            dims.iter().all(Option::is_some).then(|| dims.into_iter().filter(|d| *d != Some(1)).collect())
        }
        Op::Squeeze { axes } => reduced(x?, axes, false),
        Op::Flatten { axis } => {
            let dims = x?;
            let axis = if *axis < 0 { i64::from(*axis) + dims.len() as i64 } else { i64::from(*axis) };
            let (a, b) = dims.split_at_checked(usize::try_from(axis).ok()?)?;
            Some(vec![product(a), product(b)])
        }
        Op::Concat { axis } => {
            let mut dims = x?;
            let at = normalize(i64::from(*axis), dims.len())?;
            for i in 1..operands.facts.len() {
                let other = operands.dims(i)?;
                if other.len() != dims.len() {
                    return None;
                }
                for (d, (a, b)) in dims.iter_mut().zip(other).enumerate() {
                    *a = if d == at { a.zip(*b).and_then(|(a, b)| a.checked_add(b)) } else { a.or(*b) };
                }
            }
            Some(dims)
        }
        Op::Slice { axes } => slice(x?, axes, operands),
        Op::Pad { axes, .. } => {
            let mut dims = x?;
            let pads = operands.known(1);
            for (i, axis) in axes.iter().enumerate() {
                let at = normalize(i64::from(*axis), dims.len())?;
                let added = pads.as_ref().and_then(|p| p.get(i)?.checked_add(*p.get(i + axes.len())?));
                dims[at] = dims[at].zip(added).and_then(|(d, a)| d.checked_add_signed(a as isize));
            }
            Some(dims)
        }
        Op::Gather { axis } => {
            let dims = x?;
            let at = normalize(i64::from(*axis), dims.len())?;
            let indices = operands.dims(1)?;
            Some(dims[..at].iter().chain(indices).chain(&dims[at + 1..]).copied().collect())
        }
        Op::GatherElements { .. } => operands.dims(1).cloned(),
        Op::GatherNd { batch_dims } => {
            let dims = x?;
            let indices = operands.dims(1)?;
            let (depth, outer) = indices.split_last()?;
            let rest = dims.get(batch_dims.checked_add((*depth)?)?..)?;
            Some(outer.iter().chain(rest).copied().collect())
        }
        Op::Tile => {
            let dims = x?;
            let repeats = operands.known(1);
            let times = |i: usize, d: Option<usize>| {
                d?.checked_mul(usize::try_from(*repeats.as_ref()?.get(i)?).ok()?)
            };
            Some(dims.iter().enumerate().map(|(i, d)| times(i, *d)).collect())
        }
        Op::Range => Some(vec![None]),
        Op::ConstantOfShape { .. } => {
            let shape = operands.fact(0)?;
            match &shape.elements {
                Some(elements) => Some(elements.iter().map(|e| size(*e)).collect()),
                None => free(shape.size(0)?),
            }
        }
        Op::Shape { start, end } => {
            let (start, end) = bounds(*start, *end, x?.len());
            Some(vec![Some(end - start)])
        }
        Op::Size => Some(Vec::new()),
        Op::OneHot { axis } => {
            let mut dims = x?;
            let at = normalize(i64::from(*axis), dims.len() + 1)?;
            dims.insert(at, operands.known(1).and_then(|d| first_size(&d)));
            Some(dims)
        }
        _ => x,
    }
}

fn first_size(values: &[i64]) -> Option<usize> {
    usize::try_from(*values.first()?).ok()
}

fn size(element: Element) -> Option<usize> {
    match element {
        Element::Known(v) => usize::try_from(v).ok(),
        _ => None,
    }
}

fn product(dims: &[Option<usize>]) -> Option<usize> {
    dims.iter().try_fold(1usize, |p, d| p.checked_mul((*d)?))
}

fn replace(mut dims: Dims, axis: i32, size: Option<usize>) -> Dims {
    if let Some(at) = normalize(i64::from(axis), dims.len()) {
        dims[at] = size;
    }
    dims
}

fn reduced(mut dims: Dims, axes: &[i32], keep: bool) -> Option<Dims> {
    let mut gone = vec![false; dims.len()];
    for axis in axes {
        gone[normalize(i64::from(*axis), dims.len())?] = true;
    }
    if keep {
        dims.iter_mut().zip(gone).filter(|(_, g)| *g).for_each(|(d, _)| *d = Some(1));
        return Some(dims);
    }
    Some(dims.into_iter().zip(gone).filter(|(_, g)| !*g).map(|(d, _)| d).collect())
}

fn broadcast(a: &[Option<usize>], b: &[Option<usize>]) -> Option<Dims> {
    let rank = a.len().max(b.len());
    let at = |v: &[Option<usize>], i: usize| match (i + v.len()).checked_sub(rank) {
        Some(i) => v[i],
        None => Some(1),
    };
    let join = |i: usize| match (at(a, i), at(b, i)) {
        (Some(1), other) | (other, Some(1)) => other,
        // A size above 1 wins over one that is not known: that is the same or 1.
        (Some(size), _) | (None, Some(size)) => Some(size),
        (None, None) => None,
    };
    Some((0..rank).map(join).collect())
}

fn matmul(a: Dims, b: &Dims, trans_a: bool, trans_b: bool) -> Option<Dims> {
    let ([outer_a @ .., a0, a1], [outer_b @ .., b0, b1]) = (a.as_slice(), b.as_slice()) else { return None };
    let mut dims = broadcast(outer_a, outer_b)?;
    dims.push(if trans_a { *a1 } else { *a0 });
    dims.push(if trans_b { *b0 } else { *b1 });
    Some(dims)
}

/// Channels-last sliding window; `channels` replaces the last dimension.
fn windowed(mut dims: Dims, window: &Window, ceil: bool, channels: Option<usize>) -> Option<Dims> {
    let spatial = dims.len().checked_sub(2).filter(|s| matches!(s, 1 | 2))?;
    for i in 0..spatial {
        let side = i + 2 - spatial;
        let reach = (window.kernel[side] - 1) * window.dilation[side] + 1;
        let stride = window.stride[side];
        let out = |size: usize| match window.pads {
            Pads::SameUpper | Pads::SameLower => Some(size.div_ceil(stride)),
            Pads::Explicit(pads) => {
                let room = (size + pads[side] + pads[side + 2]).checked_sub(reach)?;
                let mut steps = if ceil { room.div_ceil(stride) } else { room / stride };
                // A window that would start in the padding behind the input is left out.
                if ceil && steps * stride >= size + pads[side] {
                    steps -= 1;
                }
                Some(steps + 1)
            }
        };
        dims[1 + i] = dims[1 + i].and_then(out);
    }
    if channels.is_some() {
        *dims.last_mut()? = channels;
    }
    Some(dims)
}

fn reshape(x: Option<Dims>, operands: &Operands, allow_zero: bool) -> Option<Dims> {
    let shape = operands.fact(1)?;
    let Some(elements) = &shape.elements else { return free(shape.size(0)?) };
    let copied = |i: usize| x.as_ref().and_then(|x| *x.get(i)?);
    let mut dims: Dims = elements
        .iter()
        .enumerate()
        .map(|(i, e)| match e {
            Element::Known(0) if !allow_zero => copied(i),
            other => size(*other),
        })
        .collect();
    // What -1 stands for, when all else is known.
    let rest = elements.iter().position(|e| *e == Element::Known(-1));
    if let (Some(at), Some(total)) = (rest, x.as_deref().and_then(product)) {
        let others: Dims = dims.iter().enumerate().filter(|(i, _)| *i != at).map(|(_, d)| *d).collect();
        dims[at] = product(&others).and_then(|p| total.checked_div(p));
    }
    Some(dims)
}

fn slice(mut dims: Dims, axes: &[i32], operands: &Operands) -> Option<Dims> {
    let (starts, ends) = (operands.known(1), operands.known(2));
    let steps = match operands.fact(3) {
        Some(fact) => fact.known(),
        None => Some(vec![1; axes.len()]),
    };
    let at = |v: &Option<Vec<i64>>, i: usize| v.as_ref().and_then(|v| v.get(i).copied());
    for (i, axis) in axes.iter().enumerate() {
        let d = normalize(i64::from(*axis), dims.len())?;
        let (start, end, step) = (at(&starts, i), at(&ends, i), at(&steps, i));
        dims[d] = match (dims[d], start, end, step) {
            (Some(len), Some(start), Some(end), Some(step)) => {
                range(start, end, step, len).map(|(_, count)| count)
            }
            _ => None,
        };
    }
    Some(dims)
}

fn split(x: Option<Dims>, axis: i32, operands: &Operands, outputs: usize) -> Vec<Option<Dims>> {
    let Some(dims) = x else { return Vec::new() };
    let sizes = operands.known(1);
    let whole = normalize(i64::from(axis), dims.len()).and_then(|a| dims[a]);
    let part = |i: usize| match (&sizes, operands.fact(1).is_some()) {
        (Some(sizes), _) => sizes.get(i).and_then(|s| usize::try_from(*s).ok()),
        (None, true) => None,
        (None, false) => whole.map(|w| w / outputs.max(1)),
    };
    (0..outputs).map(|i| Some(replace(dims.clone(), axis, part(i)))).collect()
}
