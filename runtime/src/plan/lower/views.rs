//! Operations that only rename dimensions: the result is the operand's own bytes.

use super::{Results, axes_of, axis_of, one};
use crate::graph::DType;
use crate::plan::build::{Builder, Call, Why};

pub(super) fn reshape(b: &mut Builder, call: &Call, allow_zero: bool) -> Results {
    let x = call.input(0)?;
    let asked = b.integers(call.input(1)?)?;
    let mut dims = Vec::with_capacity(asked.len());
    let mut free = None;
    for (i, d) in asked.iter().enumerate() {
        dims.push(match d {
            0 if !allow_zero => *x
                .dims
                .get(i)
                .ok_or_else(|| format!("shape {asked:?} copies a dimension that {:?} lacks", x.dims))?,
            -1 if free.is_none() => {
                free = Some(i);
                1
            }
            d => usize::try_from(*d).map_err(|_| format!("shape {asked:?}"))?,
        });
    }
    let have = x.elements();
    let given =
        dims.iter().try_fold(1usize, |n, d| n.checked_mul(*d)).ok_or_else(|| format!("shape {asked:?}"))?;
    if let Some(i) = free {
        if given == 0 || have % given != 0 {
            return Err(format!("{:?} ({have} elements) does not fit shape {asked:?}", x.dims));
        }
        dims[i] = have / given;
    } else if given != have {
        return Err(format!("{:?} ({have} elements) does not fit shape {asked:?}", x.dims));
    }
    one(x.reshaped(dims))
}

pub(super) fn unsqueeze(call: &Call, axes: &[i32]) -> Results {
    let x = call.input(0)?;
    let rank = x.rank() + axes.len();
    let axes = axes_of(axes, rank)?;
    let mut rest = x.dims.iter();
    let mut dims = Vec::with_capacity(rank);
    for i in 0..rank {
        dims.push(if axes.contains(&i) { 1 } else { *rest.next().ok_or("an axis is given twice")? });
    }
    one(x.reshaped(dims))
}

pub(super) fn squeeze(call: &Call, axes: &[i32]) -> Results {
    let x = call.input(0)?;
    let axes = axes_of(axes, x.rank())?;
    for a in &axes {
        if x.dims[*a] != 1 {
            return Err(format!("axis {a} of {:?} is not 1", x.dims));
        }
    }
    let keep = |i: usize, d: usize| if axes.is_empty() { d != 1 } else { !axes.contains(&i) };
    let dims = x.dims.iter().enumerate().filter(|(i, d)| keep(*i, **d)).map(|(_, d)| *d).collect();
    one(x.reshaped(dims))
}

pub(super) fn flatten(call: &Call, axis: i32) -> Results {
    let x = call.input(0)?;
    // Flatten alone may split after the last dimension.
    let at = if axis >= 0 && axis as usize == x.rank() { x.rank() } else { axis_of(axis, x.rank())? };
    let dims = vec![x.dims[..at].iter().product(), x.dims[at..].iter().product()];
    one(x.reshaped(dims))
}

pub(super) fn shape(b: &mut Builder, call: &Call, start: i32, end: Option<i32>) -> Results {
    let dims = &call.input(0)?.dims;
    let clamp = |i: i32| {
        (if i < 0 { i64::from(i) + dims.len() as i64 } else { i64::from(i) }).clamp(0, dims.len() as i64)
            as usize
    };
    let (start, end) = (clamp(start), end.map_or(dims.len(), clamp));
    let picked = dims.get(start..end).unwrap_or(&[]);
    let bytes = picked.iter().flat_map(|d| (*d as i64).to_le_bytes()).collect();
    one(b.known_fact(DType::I64, vec![picked.len()], bytes))
}

pub(super) fn size(b: &mut Builder, call: &Call) -> Results {
    let n = call.input(0)?.elements() as i64;
    one(b.known_fact(DType::I64, vec![], n.to_le_bytes().to_vec()))
}

/// Dimensions of a spatial value: batch, height, width, channels.
pub(super) fn spatial(dims: &[usize]) -> Result<[usize; 4], Why> {
    match *dims {
        [n, h, w, c] => Ok([n, h, w, c]),
        [n, w, c] => Ok([n, 1, w, c]),
        _ => Err(format!("a spatial operation on shape {dims:?}: expected [n, h, w, c] or [n, w, c]")),
    }
}

/// The shape of a spatial result, of the operand's rank: without a height there is one row, whatever a window's height and padding are.
pub(super) fn spatial_result(
    like: &[usize],
    n: usize,
    h: usize,
    w: usize,
    c: usize,
) -> Result<Vec<usize>, Why> {
    match (like.len(), h) {
        (3, 1) => Ok(vec![n, w, c]),
        (3, _) => Err(format!("{h} rows of windows over shape {like:?}, which has one")),
        _ => Ok(vec![n, h, w, c]),
    }
}
