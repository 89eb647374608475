//! Reductions over any set of axes, with one fixed order of additions.
//!
//! A [`Reduction`] is made once from a shape and its axes. If the innermost dimension (after joining) is reduced,
//! every result keeps 16 partial results: element `i` of each contiguous run goes to lane `i % 16`, run after
//! run, and the lanes are joined as `l[i] + l[i + 8]`, then `+ 4`, `+ 2`, `+ 1`. If it is kept, every result
//! takes its elements one after the other in row-major order. So the order depends on the shape alone.
//!
//! Both ways add up by [`crate::cpu::loops::Cascade`].

mod codes;
mod layout;
mod parts;

#[cfg(test)]
mod tests;

pub use codes::{MAX_CODES, add_codes};
pub use layout::Reduction;
pub use parts::{PartialSums, add_rows, total};

use super::elementwise::Int;
use super::isa::Isa;
use super::loops::{self, BLOCK, COLUMNS, Cascade, LANES, Variant, fold_lanes, join_lanes, opaque};
use super::math;
use super::shape::next_index;

/// What a set of f32 is reduced to. NaN anywhere gives NaN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReduceOp {
    /// Sum; 0 of nothing.
    Sum,
    /// Sum divided by the count; NaN of nothing.
    Mean,
    /// Largest; -inf of nothing.
    Max,
    /// Smallest; inf of nothing.
    Min,
    /// Product; 1 of nothing.
    Prod,
    /// Sum of magnitudes; 0 of nothing.
    L1,
    /// Square root of the sum of squares; 0 of nothing.
    L2,
    /// Sum of squares (fused multiply-adds); 0 of nothing.
    SumSquare,
    /// `ln(sum)`; -inf of nothing.
    LogSum,
    /// `ln(sum(exp(x)))`, shifted by the largest so that it cannot overflow; -inf of nothing.
    LogSumExp,
}

/// What a set of integers is reduced to. Sums and products wrap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IntReduceOp {
    /// Sum; 0 of nothing.
    Sum,
    /// Sum divided by the count, truncated toward zero; 0 of nothing or when the count exceeds the type.
    Mean,
    /// Largest; the type's smallest value of nothing.
    Max,
    /// Smallest; the type's largest value of nothing.
    Min,
    /// Product; 1 of nothing.
    Prod,
    /// Sum of magnitudes; 0 of nothing.
    L1,
    /// Sum of squares; 0 of nothing.
    SumSquare,
}

/// Fewest columns that are worked on at a time.
const FEW: usize = 8;

/// Reduces `x` to `out` as `shape` says. The f32 definition of each [`ReduceOp`] is fixed by the module's order.
///
/// # Panics
/// When a length is not the shape's.
pub fn reduce(v: Variant, op: ReduceOp, shape: &Reduction, x: &[f32], out: &mut [f32]) {
    let add = |a, b| a + b;
    let as_it_is = |acc, _| acc;
    // What comes after a sum is a pass of its own: the loops are large, and there is one of them for all that sum.
    match op {
        ReduceOp::Sum => fold(v, shape, x, out, 0.0, |acc, x, _| acc + x, add, as_it_is),
        ReduceOp::Mean => {
            reduce(v, ReduceOp::Sum, shape, x, out);
            let n = shape.count() as f32;
            out.iter_mut().for_each(|sum| *sum /= n);
        }
        ReduceOp::LogSum => {
            reduce(v, ReduceOp::Sum, shape, x, out);
            out.iter_mut().for_each(|sum| *sum = math::ln(*sum));
        }
        ReduceOp::L2 => {
            reduce(v, ReduceOp::SumSquare, shape, x, out);
            out.iter_mut().for_each(|sum| *sum = sum.sqrt());
        }
        ReduceOp::Max => {
            fold(v, shape, x, out, f32::NEG_INFINITY, |m, x, _| math::max(m, x), math::max, as_it_is)
        }
        // Rare ones by calls: the loops are not worth their bytes.
        ReduceOp::Min => {
            let step = |m, x, _| math::min(m, x);
            fold_plain(shape, x, out, f32::INFINITY, opaque(&step), opaque(&math::min), opaque(&as_it_is));
        }
        ReduceOp::SumSquare => {
            let step = |acc, x: f32, _| x.mul_add(x, acc);
            fold_plain(shape, x, out, 0.0, opaque(&step), opaque(&add), opaque(&as_it_is));
        }
        ReduceOp::Prod => {
            let (step, join) = (|acc, x, _| acc * x, |a, b| a * b);
            fold_plain(shape, x, out, 1.0, opaque(&step), opaque(&join), opaque(&as_it_is));
        }
        ReduceOp::L1 => {
            let step = |acc, x: f32, _| acc + x.abs();
            fold_plain(shape, x, out, 0.0, opaque(&step), opaque(&add), opaque(&as_it_is));
        }
        ReduceOp::LogSumExp => {
            reduce(v, ReduceOp::Max, shape, x, out);
            // The largest is the shift; an infinite one would make inf - inf.
            out.iter_mut().for_each(|m| *m = if m.is_infinite() { 0.0 } else { *m });
            let step = |acc, x, shift| acc + math::exp(x - shift);
            let finish = |acc, shift| math::ln(acc) + shift;
            fold_plain(shape, x, out, 0.0, opaque(&step), opaque(&add), opaque(&finish));
        }
    }
}

/// Reduces integers `x` to `out` as `shape` says. Their sums are exact in any order, and no model reduces integers where it
/// matters how fast: one plain loop serves every level.
///
/// # Panics
/// When a length is not the shape's.
pub fn reduce_int<T: Int + TryFrom<usize>>(op: IntReduceOp, shape: &Reduction, x: &[T], out: &mut [T]) {
    match op {
        IntReduceOp::Sum => fold_int(shape, x, out, T::ZERO, T::add),
        IntReduceOp::Mean => {
            let n = T::try_from(shape.count()).unwrap_or(T::ZERO);
            fold_int(shape, x, out, T::ZERO, T::add);
            out.iter_mut().for_each(|sum| *sum = sum.div(n));
        }
        IntReduceOp::Max => fold_int(shape, x, out, T::MIN, |a, b| if a > b { a } else { b }),
        IntReduceOp::Min => fold_int(shape, x, out, T::MAX, |a, b| if a < b { a } else { b }),
        IntReduceOp::Prod => fold_int(shape, x, out, T::ONE, T::mul),
        IntReduceOp::L1 => {
            fold_int(shape, x, out, T::ZERO, |acc, x| acc.add(if x < T::ZERO { x.neg() } else { x }));
        }
        IntReduceOp::SumSquare => fold_int(shape, x, out, T::ZERO, |acc, x| acc.add(x.mul(x))),
    }
}

/// `step(acc, x)` takes in an element.
fn fold_int<T: Copy>(shape: &Reduction, x: &[T], out: &mut [T], init: T, step: impl Fn(T, T) -> T) {
    assert_eq!(x.len(), shape.operand_len(), "length of the operand is not its shape's");
    assert_eq!(out.len(), shape.len(), "length of the result is not its shape's");
    out.fill(init);
    if out.is_empty() {
        return;
    }
    let width = shape.row_len();
    shape.each_kept_row(|base, o| {
        shape.each_reduced_row(|offset| {
            let row = &x[base + offset..][..width];
            if shape.inner_is_kept() {
                out[o..o + width].iter_mut().zip(row).for_each(|(acc, x)| *acc = step(*acc, *x));
            } else {
                out[o] = row.iter().fold(out[o], |acc, x| step(acc, *x));
            }
        });
    });
}

/// The driver of floats. `step(acc, x, prior)` takes in an element, `join` two partial results, `finish(acc, prior)`
/// gives the result; `prior` is what `out` held before.
#[allow(clippy::too_many_arguments)] // four of them are the operation itself
#[inline(never)]
fn fold<T: Copy>(
    v: Variant,
    shape: &Reduction,
    x: &[T],
    out: &mut [T],
    init: T,
    step: impl Fn(T, T, T) -> T + Copy,
    join: impl Fn(T, T) -> T + Copy,
    finish: impl Fn(T, T) -> T + Copy,
) {
    if loops::PLAIN_IS_RARE && v.isa() == Isa::Scalar {
        return fold_plain(shape, x, out, init, opaque(&step), opaque(&join), opaque(&finish));
    }
    v.run_unless_rare(
        #[inline(always)]
        || fold_rows::<T, true>(shape, x, out, init, step, join, finish),
    );
}

/// [`fold_rows`] by calls: one copy for all operations of a type.
#[inline(never)]
fn fold_plain<T: Copy>(
    shape: &Reduction,
    x: &[T],
    out: &mut [T],
    init: T,
    step: &dyn Fn(T, T, T) -> T,
    join: &dyn Fn(T, T) -> T,
    finish: &dyn Fn(T, T) -> T,
) {
    fold_rows::<T, false>(shape, x, out, init, step, join, finish);
}

/// `FAST` is worth its bytes.
#[inline(always)]
fn fold_rows<T: Copy, const FAST: bool>(
    shape: &Reduction,
    x: &[T],
    out: &mut [T],
    init: T,
    step: impl Fn(T, T, T) -> T + Copy,
    join: impl Fn(T, T) -> T + Copy,
    finish: impl Fn(T, T) -> T + Copy,
) {
    assert_eq!(x.len(), shape.operand_len(), "length of the operand is not its shape's");
    assert_eq!(out.len(), shape.len(), "length of the result is not its shape's");
    if out.is_empty() {
        return;
    }
    if x.is_empty() {
        // Results of nothing have no row that they begin in.
        out.iter_mut().for_each(|out| *out = finish(init, *out));
        return;
    }
    if shape.inner_is_kept() {
        shape.each_kept_row(
            #[inline(always)]
            |base, o| {
                let width = shape.row_len();
                let mut c = 0;
                while c < width {
                    let (x, out) = (&x[base + c..], &mut out[o + c..o + width]);
                    // As many columns as registers hold, then fewer.
                    c += match (shape.outer_reduced(), out.len()) {
                        (([rows], [stride]), COLUMNS..) if FAST => {
                            fold_whole::<T, COLUMNS>((*rows, *stride), x, out, init, step, join, finish)
                        }
                        (([rows], [stride]), FEW..) if FAST => {
                            fold_whole::<T, FEW>((*rows, *stride), x, out, init, step, join, finish)
                        }
                        _ => fold_columns(shape, x, out, init, step, join, finish),
                    };
                }
            },
        );
    } else {
        let few = shape.count() == shape.row_len() && shape.row_len() <= LANES;
        shape.each_kept_row(
            #[inline(always)]
            |base, o| {
                let prior = out[o];
                if few {
                    // What the cascade adds to a lane, and the lanes that it leaves alone, change nothing after
                    // the first join.
                    let row = &x[base..][..shape.row_len()];
                    let mut lanes = [init; LANES];
                    for (lane, x) in lanes.iter_mut().zip(row) {
                        *lane = join(init, step(init, *x, prior));
                    }
                    let mut half = LANES / 2;
                    while half > 0 {
                        for i in half..row.len().min(2 * half) {
                            lanes[i - half] = join(lanes[i - half], lanes[i]);
                        }
                        half /= 2;
                    }
                    out[o] = finish(lanes[0], prior);
                    return;
                }
                let mut sums = Cascade::<T, LANES>::new(init);
                shape.each_reduced_row(
                    #[inline(always)]
                    |offset| {
                        for run in x[base + offset..][..shape.row_len()].chunks(BLOCK * LANES) {
                            fold_lanes(
                                &mut sums.acc,
                                run,
                                #[inline(always)]
                                |acc, x| step(acc, x, prior),
                            );
                            sums.taken(run.len().div_ceil(LANES), join);
                        }
                    },
                );
                out[o] = finish(join_lanes(sums.total(join), join), prior);
            },
        );
    }
}

/// The first [`COLUMNS`] columns of the kept row that starts `out`, or as many as there are; how many.
#[inline(always)]
fn fold_columns<T: Copy>(
    shape: &Reduction,
    x: &[T],
    out: &mut [T],
    init: T,
    step: impl Fn(T, T, T) -> T + Copy,
    join: impl Fn(T, T) -> T + Copy,
    finish: impl Fn(T, T) -> T + Copy,
) -> usize {
    let n = COLUMNS.min(out.len());
    let out = &mut out[..n];
    let mut sums = Cascade::<T, COLUMNS>::new(init);
    shape.each_reduced_row(
        #[inline(always)]
        |offset| {
            let row = &x[offset..][..n];
            for ((acc, x), prior) in sums.acc.iter_mut().zip(row).zip(&*out) {
                *acc = step(*acc, *x, *prior);
            }
            sums.taken(1, join);
        },
    );
    for (out, total) in out.iter_mut().zip(sums.total(join)) {
        *out = finish(total, *out);
    }
    n
}

/// The first `N` columns of `rows` rows, `stride` elements apart; `N`. An array that is indexed by constants alone lives in registers.
#[inline(always)]
fn fold_whole<T: Copy, const N: usize>(
    (rows, stride): (usize, usize),
    x: &[T],
    out: &mut [T],
    init: T,
    step: impl Fn(T, T, T) -> T + Copy,
    join: impl Fn(T, T) -> T + Copy,
    finish: impl Fn(T, T) -> T + Copy,
) -> usize {
    let out: &mut [T; N] = &mut out.as_chunks_mut().0[0];
    let prior = *out;
    let mut sums = Cascade::<T, N>::new(init);
    for first in (0..rows).step_by(BLOCK) {
        let count = BLOCK.min(rows - first);
        let mut acc = sums.acc;
        for row in first..first + count {
            let row: &[T; N] = &x[row * stride..].as_chunks().0[0];
            for i in 0..N {
                acc[i] = step(acc[i], row[i], prior[i]);
            }
        }
        sums.acc = acc;
        sums.taken(count, join);
    }
    for ((out, total), prior) in out.iter_mut().zip(sums.total(join)).zip(prior) {
        *out = finish(total, prior);
    }
    N
}

/// Steps to the next index; its offset.
#[inline(never)]
fn next_base(index: &mut [usize; super::shape::MAX_DIMS], lens: &[usize], strides: &[usize]) -> usize {
    next_index(&mut index[..lens.len()], lens);
    index.iter().zip(strides).map(|(i, s)| i * s).sum()
}

impl Reduction {
    /// Calls `f` with the operand's offset and the result's position for every kept row (or single kept element).
    #[inline(always)]
    fn each_kept_row(&self, mut f: impl FnMut(usize, usize)) {
        let width = if self.inner_is_kept() { self.row_len() } else { 1 };
        let (lens, strides) = self.outer_kept();
        let mut index = [0; super::shape::MAX_DIMS];
        let mut base = 0;
        for o in (0..self.len()).step_by(width) {
            f(base, o);
            base = match strides {
                [stride] => base + stride,
                _ => next_base(&mut index, lens, strides),
            };
        }
    }

    /// Calls `f` with the offset of every reduced row (or single reduced element) from a kept one, in order.
    #[inline(always)]
    fn each_reduced_row(&self, mut f: impl FnMut(usize)) {
        if self.count() == 0 {
            return;
        }
        let (lens, strides) = self.outer_reduced();
        if let ([len], [stride]) = (lens, strides) {
            for i in 0..*len {
                f(i * stride);
            }
            return;
        }
        let mut index = [0; super::shape::MAX_DIMS];
        loop {
            f(index.iter().zip(strides).map(|(i, s)| i * s).sum());
            if !next_index(&mut index[..lens.len()], lens) {
                return;
            }
        }
    }
}
