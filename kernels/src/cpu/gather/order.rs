//! Searching and accumulating along an axis of `[outer, n, inner]`.

use std::cmp::Ordering;

use crate::cpu::elementwise::Number;

/// Which end of the order is looked for. NaN counts as larger than every number and equal to itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extreme {
    /// The largest.
    Largest,
    /// The smallest.
    Smallest,
}

/// Which of several equal elements is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ties {
    /// The one with the lowest index.
    First,
    /// The one with the highest index.
    Last,
}

#[allow(clippy::eq_op)] // only NaN differs from itself
fn order<T: PartialOrd>(a: T, b: T) -> Ordering {
    a.partial_cmp(&b).unwrap_or_else(|| (a != a).cmp(&(b != b)))
}

impl Extreme {
    /// Order in which the sought elements come first.
    fn compare<T: PartialOrd>(self, a: T, b: T) -> Ordering {
        match self {
            Extreme::Largest => order(b, a),
            Extreme::Smallest => order(a, b),
        }
    }
}

/// `y[o, i]` = the index along `n` of the extreme element of `x[o, .., i]`; a NaN is the largest and, unlike in
/// [`top_k`], also the smallest, so that it is not overlooked.
///
/// # Panics
/// When a length is not its shape's, or `n` is 0 and a result is asked for.
pub fn arg_extreme<T: Copy + PartialOrd>(
    extreme: Extreme,
    ties: Ties,
    [outer, n, inner]: [usize; 3],
    x: &[T],
    y: &mut [i64],
) {
    assert_eq!(x.len(), outer * n * inner, "operand is not {outer} x {n} x {inner}");
    assert_eq!(y.len(), outer * inner, "result is not {outer} x {inner}");
    if y.is_empty() {
        return;
    }
    assert!(n > 0, "the extreme of nothing");
    for (x, y) in x.chunks_exact(n * inner).zip(y.chunks_exact_mut(inner)) {
        for (i, y) in y.iter_mut().enumerate() {
            let mut best = 0;
            for k in 1..n {
                let (new, old) = (x[k * inner + i], x[best * inner + i]);
                if beats(extreme, ties, new, old) {
                    best = k;
                }
            }
            *y = best as i64;
        }
    }
}

#[inline(always)]
#[allow(clippy::eq_op)] // only NaN differs from itself
fn beats<T: Copy + PartialOrd>(extreme: Extreme, ties: Ties, new: T, old: T) -> bool {
    let (new_nan, old_nan) = (new != new, old != old);
    if new_nan || old_nan {
        return new_nan && (!old_nan || ties == Ties::Last);
    }
    let better = if extreme == Extreme::Largest { new > old } else { new < old };
    better || (ties == Ties::Last && new == old)
}

/// The `k` first elements along `n` in the order of `extreme`, sorted; of equal ones the lower index first.
/// `values` and `indices` are `[outer, k, inner]`. `scratch` is overwritten.
///
/// # Panics
/// When a length is not its shape's, `k > n`, `scratch` is not `n` long, or `n` does not fit u32.
pub fn top_k<T: Copy + PartialOrd>(
    extreme: Extreme,
    [outer, n, inner]: [usize; 3],
    k: usize,
    x: &[T],
    values: &mut [T],
    indices: &mut [i64],
    scratch: &mut [u32],
) {
    assert_eq!(x.len(), outer * n * inner, "operand is not {outer} x {n} x {inner}");
    assert_eq!(values.len(), outer * k * inner, "values are not {outer} x {k} x {inner}");
    assert_eq!(indices.len(), values.len(), "indices are not {outer} x {k} x {inner}");
    assert!(k <= n && u32::try_from(n).is_ok(), "the first {k} of {n}");
    assert_eq!(scratch.len(), n, "scratch is not {n} long");
    if values.is_empty() {
        return;
    }
    for (o, x) in x.chunks_exact(n * inner).enumerate() {
        for i in 0..inner {
            let compare = |a: &u32, b: &u32| {
                let [x, y] = [*a, *b].map(|k| x[k as usize * inner + i]);
                extreme.compare(x, y).then(a.cmp(b))
            };
            scratch.iter_mut().zip(0..).for_each(|(s, k)| *s = k);
            first(scratch, k, &compare);
            for (rank, index) in scratch[..k].iter().enumerate() {
                let to = (o * k + rank) * inner + i;
                values[to] = x[*index as usize * inner + i];
                indices[to] = i64::from(*index);
            }
        }
    }
}

/// Brings the `k` first indices to the front, sorted. One copy for all types: sorting is large when inlined.
fn first(indices: &mut [u32], k: usize, compare: &dyn Fn(&u32, &u32) -> Ordering) {
    if k < indices.len() {
        indices.select_nth_unstable_by(k, compare);
    }
    indices[..k].sort_unstable_by(compare);
}

/// How a cumulative sum runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CumSum {
    /// Leave the element itself out of its sum.
    pub exclusive: bool,
    /// Sum from the end.
    pub reverse: bool,
}

/// Running sums along `n`; `x`, `y` are `[outer, n, inner]`.
///
/// # Panics
/// When a length is not `outer * n * inner`.
pub fn cumsum<T: Number>(how: CumSum, [outer, n, inner]: [usize; 3], x: &[T], y: &mut [T]) {
    assert_eq!(x.len(), outer * n * inner, "operand is not {outer} x {n} x {inner}");
    assert_eq!(x.len(), y.len(), "operand and result differ in length");
    if x.is_empty() {
        return;
    }
    for (x, y) in x.chunks_exact(n * inner).zip(y.chunks_exact_mut(n * inner)) {
        for step in 0..n {
            let k = if how.reverse { n - 1 - step } else { step };
            let before = (step > 0).then_some(if how.reverse { k + 1 } else { k.wrapping_sub(1) });
            for i in 0..inner {
                // The sum so far lies in the row before: with the row's own element if sums are inclusive.
                let so_far = before.map_or(T::default(), |b| y[b * inner + i]);
                let taken =
                    if how.exclusive { before.map(|b| x[b * inner + i]) } else { Some(x[k * inner + i]) };
                y[k * inner + i] = taken.map_or(so_far, |x| so_far.add(x));
            }
        }
    }
}
