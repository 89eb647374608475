//! NEON.
//!
//! ```text
//! for each panel, for each tile of rows, for each group:
//!     up to 3 rows: 3 rows x 16 columns; else 6 rows x 8 columns: at most 24 accumulators of i32, 2 columns in each
//!     for each pair of k: load the vectors of the panel, broadcast x[row][k, k+1]; a widening multiply-add for each half of a vector
//!     partial sums joined in pairs, to f32, scaled, added to the tile
//! epilogue on the tile, stored once
//! ```
//! The products of even and of odd k are sums of their own until the group ends. A panel's weights come from memory once: all rows
//! pass by before the next panel.

use std::arch::aarch64::{
    int16x8_t, int32x4_t, vcvtq_f32_s32, vdupq_n_s16, vdupq_n_s32, vfmaq_f32, vget_low_s16, vld1q_f32,
    vld1q_s16, vmlal_high_s16, vmlal_s16, vpaddq_s32, vreinterpretq_s16_s32, vst1q_f32,
};

use super::super::gemm_f32::epilogue_neon::finish;
use super::super::tile::{Aligned, each_row};
use super::{Isa, PAIR, PANEL, Panel, Task, Variant};

pub(super) const VARIANT: Variant = Variant { name: "gemm_w16_a8__neon", isa: Isa::Neon, run };

/// Most rows of a tile of 16 columns: 3 x 8 accumulators, 3 broadcasts and what passes by fit 32 registers.
const WIDE: usize = 3;

/// Most rows of a tile of 8 columns: 6 x 4 accumulators, 2 vectors of the panel and what passes by.
const MR: usize = 6;

/// Elements of a pair of k in a panel.
const STEP: usize = PANEL * PAIR;

/// i16 of a vector: 4 columns of a pair.
const LANES: usize = 8;

/// Results of one tile.
type Tile = [[f32; PANEL]; MR];

#[target_feature(enable = "neon")]
fn run(task: &mut Task<'_>) {
    let (m, n) = (task.out.rows(), task.out.cols());
    let tiles = m.div_ceil(MR);
    for index in 0..n.div_ceil(PANEL) {
        let columns = task.epilogue.columns(index * PANEL, n);
        let panel = task.w.panel(index);
        let mut row = 0;
        for left in (1..=tiles).rev() {
            let rows = (m - row).div_ceil(left);
            // Of a panel that is half empty only the lower half is multiplied.
            let half = columns.valid() <= PANEL / 2;
            let multiply = kernel(rows, half);
            let Aligned(tile) = &mut Aligned([[0.0; PANEL]; MR]);
            // SAFETY: this function has the features that it needs.
            unsafe { multiply(task, row, panel, 0, tile) };
            if !half && rows > WIDE {
                // SAFETY: as above.
                unsafe { multiply(task, row, panel, PANEL / 2, tile) };
            }
            finish(task.epilogue, &mut task.out, row, &columns, &mut tile[..rows]);
            row += rows;
        }
    }
}

/// Makes the sums of a tile: [`multiply`] for some shape.
type Multiply = unsafe fn(&Task<'_>, usize, Panel<'_>, usize, &mut Tile);

/// The kernel for so many rows, of 8 columns if only a half is wanted or more do not fit.
fn kernel(rows: usize, half: bool) -> Multiply {
    match (rows, half) {
        (1, false) => multiply::<1, 4>,
        (2, false) => multiply::<2, 4>,
        (WIDE, false) => multiply::<WIDE, 4>,
        (1, true) => multiply::<1, 2>,
        (2, true) => multiply::<2, 2>,
        (3, true) => multiply::<3, 2>,
        (4, _) => multiply::<4, 2>,
        (5, _) => multiply::<5, 2>,
        _ => multiply::<MR, 2>,
    }
}

/// Adds `x[row + r] · panel` to `tile[r]`, for `4 VECS` columns from column `first` on.
///
/// Not inlined: what surrounds it would take registers from the accumulators.
#[target_feature(enable = "neon")]
#[inline(never)]
fn multiply<const ROWS: usize, const VECS: usize>(
    task: &Task<'_>,
    row: usize,
    panel: Panel<'_>,
    first: usize,
    tile: &mut Tile,
) {
    let group = task.w.group;
    let mut x: [&[i16]; ROWS] = [&[]; ROWS];
    for (r, x) in x.iter_mut().enumerate() {
        *x = task.x.row(row + r);
    }
    let pairs = x[0].len() / PAIR;
    assert!(x.iter().all(|row| row.len() == pairs * PAIR));
    assert!(panel.weights.len() == pairs * STEP && first * PAIR + VECS * LANES <= STEP);
    let mut from = 0;
    for scales in panel.scales {
        // An odd group is the only one.
        let to = pairs.min(from + group.div_ceil(PAIR));
        // Of each vector the lower and the upper 2 columns.
        let mut acc = [[[vdupq_n_s32(0); 2]; VECS]; ROWS];
        for pair in from..to {
            // Whichever operand has fewer vectors waits in registers while the other passes by.
            if ROWS < VECS {
                let mut values = [vdupq_n_s16(0); ROWS];
                each_row!(ROWS, |R| {
                    // SAFETY: pair < pairs, as every row has: asserted above.
                    values[R] = unsafe { broadcast(x[R], pair) };
                });
                each_row!(VECS, |J| {
                    // SAFETY: the panel has as many pairs of 16 columns, of which these are some: asserted above.
                    let lanes = unsafe { load(panel.weights, pair, first, J) };
                    each_row!(ROWS, |R| {
                        acc[R][J] = add(acc[R][J], lanes, values[R]);
                    });
                });
            } else {
                let mut lanes = [vdupq_n_s16(0); VECS];
                each_row!(VECS, |J| {
                    // SAFETY: as above.
                    lanes[J] = unsafe { load(panel.weights, pair, first, J) };
                });
                each_row!(ROWS, |R| {
                    // SAFETY: as above.
                    let value = unsafe { broadcast(x[R], pair) };
                    each_row!(VECS, |J| {
                        acc[R][J] = add(acc[R][J], lanes[J], value);
                    });
                });
            }
        }
        from = to;
        for (j, scale) in scales[first..].as_chunks::<4>().0.iter().enumerate().take(VECS) {
            // SAFETY: 4 of 4 floats.
            let scale = unsafe { vld1q_f32(scale.as_ptr()) };
            for (acc, tile) in acc.iter().zip(tile.iter_mut()) {
                let t = vcvtq_f32_s32(vpaddq_s32(acc[j][0], acc[j][1]));
                let y = &mut tile[first + j * 4..][..4];
                // SAFETY: 4 of 4 floats.
                unsafe { vst1q_f32(y.as_mut_ptr(), vfmaq_f32(vld1q_f32(y.as_ptr()), t, scale)) };
            }
        }
    }
}

/// Products of 4 columns and a pair of k added to those of 2 columns each.
#[target_feature(enable = "neon")]
#[inline]
fn add(acc: [int32x4_t; 2], lanes: int16x8_t, value: int16x8_t) -> [int32x4_t; 2] {
    [vmlal_s16(acc[0], vget_low_s16(lanes), vget_low_s16(value)), vmlal_high_s16(acc[1], lanes, value)]
}

/// Vector `j` of a pair's columns from `first` on.
///
/// # Safety
/// `weights` has more than `pair` pairs of 16 columns; `first` plus 4 of each vector up to `j` is at most 16.
#[target_feature(enable = "neon")]
#[inline]
unsafe fn load(weights: &[i16], pair: usize, first: usize, j: usize) -> int16x8_t {
    // SAFETY: the caller's promise.
    unsafe { vld1q_s16(weights.as_ptr().add(pair * STEP + first * PAIR + j * LANES)) }
}

/// Both activations of a pair in every lane.
///
/// # Safety
/// `row` has more than `pair` pairs.
#[target_feature(enable = "neon")]
#[inline]
unsafe fn broadcast(row: &[i16], pair: usize) -> int16x8_t {
    // SAFETY: the caller's promise; every pattern is an i32.
    vreinterpretq_s16_s32(vdupq_n_s32(unsafe {
        row.as_ptr().add(pair * PAIR).cast::<i32>().read_unaligned()
    }))
}
