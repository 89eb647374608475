//! How steps are cut into tasks, so that threads have about as much to do. No result depends on it.

use super::Context;
use crate::device::Pool;
use edge_kernels::cpu::movement::{CopyPlan, DestinationRows};

/// Bytes of a copy that pay for being shared: a few microseconds' work.
const COPY: usize = 32 << 10;

/// Multiply-adds of a step that pay for being shared.
const SHARED: usize = 256 << 10;

/// Units of a task of a step that has `all` of them in each of `others` parts, at most `most` of them: as many that each thread has
/// the same number of tasks, as long as a task keeps `least`.
pub(super) fn balanced(pool: &Pool, all: usize, (least, most): (usize, usize), others: usize) -> usize {
    let threads = pool.threads();
    let most = most.clamp(1, all.max(1));
    let first = all.div_ceil(most).max(1);
    if threads == 1 || first * others >= 4 * threads {
        return most;
    }
    let each = |tasks: usize| all.div_ceil(tasks);
    let even = |units: &usize| *units >= least && (all.div_ceil(*units) * others).is_multiple_of(threads);
    (first..=2 * first + threads).map(each).find(even).unwrap_or(most)
}

/// As [`balanced`] for products of `all` rows with a matrix of so many elements, whose kernels take `step` rows together.
pub(super) fn balanced_rows(
    pool: &Pool,
    all: usize,
    (step, most): (usize, usize),
    (others, matrix): (usize, usize),
) -> usize {
    if all.saturating_mul(matrix) < SHARED {
        return most;
    }
    balanced(pool, all, (step, most), others).next_multiple_of(step).min(most)
}

/// Copies, each thread a part of the rows.
pub(super) fn copy(ctx: &Context<'_>, plan: &CopyPlan, src: &[u8], dst: &mut [u8]) {
    let threads = ctx.pool.threads();
    let shared = |all: &DestinationRows| threads > 1 && all.count >= threads && plan.dst_len() >= COPY;
    let Some(all) = plan.rows().filter(shared) else {
        return plan.run(src, dst);
    };
    let each = all.count.div_ceil(threads);
    let written = &mut dst[all.offset..plan.dst_len()];
    ctx.pool.chunks_mut(written, each * all.pitch, |_, i, to| {
        let rows = i * each..all.count.min((i + 1) * each);
        plan.of_rows(&all, rows).run(src, to);
    });
}
