//! Sums of columns whose rows come a few at a time: the bits are those of [`super::reduce`] over all of them. Of two columns or
//! more, that is: a single one is a run of elements, which [`super::reduce`] takes by lanes.

use crate::cpu::loops::{COLUMNS, Cascade, Variant};

/// How far sums over rows have come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartialSums {
    /// Columns.
    pub cols: usize,
    /// Rows that are in already.
    pub before: usize,
}

/// Floats of the state of [`add_rows`] for each column.
pub const LEVELS: usize = 3;

impl PartialSums {
    /// Floats of the state.
    pub fn state_len(&self) -> usize {
        LEVELS * self.cols
    }
}

/// Adds further rows `x` `[rows, cols]` to the state `[3, cols]`, which may hold anything while no row is in.
///
/// # Panics
/// When `x` is not whole rows or the state has another length.
pub fn add_rows(v: Variant, sums: PartialSums, x: &[f32], state: &mut [f32]) {
    let cols = sums.cols;
    assert_eq!(state.len(), sums.state_len(), "state of {sums:?}");
    assert!(cols > 0 && x.len().is_multiple_of(cols), "{} elements are not rows of {cols}", x.len());
    if sums.before == 0 {
        state.fill(0.0);
    }
    let (acc, rest) = state.split_at_mut(cols);
    let (blocks, total) = rest.split_at_mut(cols);
    v.run(
        #[inline(always)]
        || {
            for c in (0..cols).step_by(COLUMNS) {
                let n = COLUMNS.min(cols - c);
                let levels = [&mut acc[c..c + n], &mut blocks[c..c + n], &mut total[c..c + n]];
                let held = levels.each_ref().map(|level| {
                    let mut held = [0.0; COLUMNS];
                    held[..n].copy_from_slice(level);
                    held
                });
                let mut cascade = Cascade::resumed(0.0, sums.before, held[0], held[1], held[2]);
                for row in x.chunks_exact(cols) {
                    for (acc, x) in cascade.acc.iter_mut().zip(&row[c..c + n]) {
                        *acc += *x;
                    }
                    cascade.taken(1, add);
                }
                for (level, held) in levels.into_iter().zip(cascade.levels()) {
                    level.copy_from_slice(&held[..n]);
                }
            }
        },
    );
}

/// The sums of a state of [`add_rows`], each divided by `divisor`.
///
/// # Panics
/// When the state is not `[3, out.len()]`.
pub fn total(state: &[f32], divisor: f32, out: &mut [f32]) {
    let cols = out.len();
    assert_eq!(state.len(), LEVELS * cols, "state of {cols} sums");
    let (acc, rest) = state.split_at(cols);
    let (blocks, total) = rest.split_at(cols);
    for (((out, acc), blocks), total) in out.iter_mut().zip(acc).zip(blocks).zip(total) {
        *out = (total + (blocks + acc)) / divisor;
    }
}

fn add(a: f32, b: f32) -> f32 {
    a + b
}
