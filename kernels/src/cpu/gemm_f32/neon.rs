//! NEON.
//!
//! ```text
//! for each panel, for each tile of rows:
//!     16 accumulators = 8 rows x 8 columns, or 4 rows x 16; one or two rows: two panels at once, for as many chains
//!     for each 4 k: load 4 k of each row; for each of these k: load the vectors of the columns, one FMA by lane for each row and
//!     vector
//!     epilogue on the tile, stored once
//! ```
//! Of a panel that is half empty only the lower half is multiplied. A panel's weights come from memory once: all rows pass by
//! before the next panel.

use std::arch::aarch64::{float32x4_t, vdupq_n_f32, vfmaq_laneq_f32, vfmaq_n_f32, vld1q_f32, vst1q_f32};

use super::super::tile::{Aligned, each_row};
use super::epilogue_neon::finish;
use super::{Columns, Isa, PANEL, Rows, Task, Variant};

pub(super) const VARIANT: Variant = Variant { name: "gemm_f32_f32__neon", isa: Isa::Neon, run };

/// f32 of a vector.
const LANES: usize = 4;

/// Vectors of a panel.
const VECS: usize = PANEL / LANES;

/// Rows of a full tile: 8 x 2 accumulators, 8 vectors of A, and what passes by, fit 32 registers.
const MR: usize = 8;

/// Most rows of a tile of all 16 columns, which reads each cache line of the panel once.
const WIDE: usize = 4;

/// Most panels of a tile, of one or two rows.
const PANELS: usize = 2;

/// Results of one tile, `[panel * rows + row][16]`.
type Tile = [[f32; PANEL]; MR];

#[target_feature(enable = "neon")]
fn run(task: &mut Task<'_, f32>) {
    let (m, panels) = (task.out.rows(), task.out.cols().div_ceil(PANEL));
    let mut panel = 0;
    while panel < panels {
        let count = match (m, panels - panel) {
            (1..=2, PANELS..) => PANELS,
            _ => 1,
        };
        let mut columns = [Columns::default(); PANELS];
        for (p, columns) in columns.iter_mut().enumerate().take(count) {
            *columns = task.epilogue.columns((panel + p) * PANEL, task.out.cols());
        }
        tiles(task, panel, &columns[..count]);
        panel += count;
    }
}

/// All rows times the panels from `panel` on whose columns are given.
#[target_feature(enable = "neon")]
fn tiles(task: &mut Task<'_, f32>, panel: usize, columns: &[Columns]) {
    let (m, k) = (task.a.rows(), task.a.cols());
    let panels = &task.panels[panel * k * PANEL..][..columns.len() * k * PANEL];
    let Aligned(tile) = &mut Aligned([[0.0; PANEL]; MR]);
    let half = columns.len() == 1 && columns[0].valid() <= PANEL / 2;
    let (mut row, tiles) = (0, m.div_ceil(MR));
    for left in (1..=tiles).rev() {
        let rows = (m - row).div_ceil(left);
        let vecs = match (half, rows) {
            (false, ..=WIDE) => VECS * columns.len(),
            _ => VECS / 2,
        };
        let multiply = kernel(rows, vecs);
        // SAFETY: this function has the features that it needs.
        unsafe { multiply(&task.a, row, panels, 0, tile) };
        if !half && vecs < VECS {
            // SAFETY: as above.
            unsafe { multiply(&task.a, row, panels, PANEL / 2, tile) };
        }
        for (columns, tile) in columns.iter().zip(tile.chunks_exact_mut(rows)) {
            finish(task.epilogue, &mut task.out, row, columns, tile);
        }
        row += rows;
    }
}

/// Makes the sums of a tile: [`multiply`] for some shape.
type Multiply = unsafe fn(&Rows<'_, f32>, usize, &[f32], usize, &mut Tile);

fn kernel(rows: usize, vecs: usize) -> Multiply {
    match (rows, vecs) {
        (1, 8) => multiply::<1, 8>,
        (1, 4) => multiply::<1, 4>,
        (1, _) => multiply::<1, 2>,
        (2, 8) => multiply::<2, 8>,
        (2, 4) => multiply::<2, 4>,
        (2, _) => multiply::<2, 2>,
        (3, 4) => multiply::<3, 4>,
        (3, _) => multiply::<3, 2>,
        (4, 4) => multiply::<4, 4>,
        (4, _) => multiply::<4, 2>,
        (5, _) => multiply::<5, 2>,
        (6, _) => multiply::<6, 2>,
        (7, _) => multiply::<7, 2>,
        _ => multiply::<MR, 2>,
    }
}

/// `tile[p * ROWS + r] = a[row + r] · panel p`, of 4 V columns from column `first` on; `panels` has `[ceil(V / 4)][k][16]`. The
/// other columns of the tile stay as they are.
///
/// Not inlined: what surrounds it would take registers from the accumulators.
#[target_feature(enable = "neon")]
#[inline(never)]
fn multiply<const ROWS: usize, const V: usize>(
    a: &Rows<'_, f32>,
    row: usize,
    panels: &[f32],
    first: usize,
    tile: &mut Tile,
) {
    let (k, len) = (a.cols(), a.run_len());
    assert!(panels.len() == V.div_ceil(VECS) * k * PANEL);
    assert!(first + V.min(VECS) * LANES <= PANEL);
    let mut acc = [[vdupq_n_f32(0.0); ROWS]; V];
    for run in 0..a.runs() {
        let mut rows: [&[f32]; ROWS] = [&[]; ROWS];
        for (r, rows) in rows.iter_mut().enumerate() {
            *rows = a.run(row + r, run);
        }
        let mut b = [panels.as_ptr(); PANELS];
        for (p, b) in b.iter_mut().enumerate() {
            *b = b.wrapping_add((p * k + run * len) * PANEL + first);
        }
        let whole = len - len % LANES;
        for i in (0..whole).step_by(LANES) {
            let mut values = [vdupq_n_f32(0.0); ROWS];
            each_row!(ROWS, |R| {
                // SAFETY: i + 4 <= len, the length of each row.
                values[R] = unsafe { vld1q_f32(rows[R].as_ptr().add(i)) };
            });
            // SAFETY: run * len + i + 3 < k, and each panel has k rows of 16, with 4 V or all 16 columns from `first` on.
            unsafe {
                add_lane::<ROWS, V, 0>(&b, i, values, &mut acc);
                add_lane::<ROWS, V, 1>(&b, i, values, &mut acc);
                add_lane::<ROWS, V, 2>(&b, i, values, &mut acc);
                add_lane::<ROWS, V, 3>(&b, i, values, &mut acc);
            }
        }
        for i in whole..len {
            for (j, acc) in acc.iter_mut().enumerate() {
                // SAFETY: run * len + i < k, and each panel has k rows of 16, with 4 V or all 16 columns from `first` on.
                let lanes = unsafe { load(&b, i, j) };
                each_row!(ROWS, |R| {
                    // SAFETY: i < len, the length of each row.
                    acc[R] = vfmaq_n_f32(acc[R], lanes, unsafe { *rows[R].get_unchecked(i) });
                });
            }
        }
    }
    for (j, acc) in acc.iter().enumerate() {
        for (r, acc) in acc.iter().enumerate() {
            let lanes = &mut tile[j / VECS * ROWS + r][first + j % VECS * LANES..][..LANES];
            // SAFETY: 4 floats.
            unsafe { vst1q_f32(lanes.as_mut_ptr(), *acc) };
        }
    }
}

/// Adds the products of k = `i + L`, lane L of `values`.
///
/// # Safety
/// Row `i + L` of each panel is readable, from where `b` points on for the columns of its part of V vectors.
#[target_feature(enable = "neon")]
#[inline]
unsafe fn add_lane<const ROWS: usize, const V: usize, const L: i32>(
    b: &[*const f32; PANELS],
    i: usize,
    values: [float32x4_t; ROWS],
    acc: &mut [[float32x4_t; ROWS]; V],
) {
    for (j, acc) in acc.iter_mut().enumerate() {
        // SAFETY: the caller's promise.
        let lanes = unsafe { load(b, i + L as usize, j) };
        each_row!(ROWS, |R| {
            acc[R] = vfmaq_laneq_f32::<L>(acc[R], lanes, values[R]);
        });
    }
}

/// Vector `j` of row `i` of the panels.
///
/// # Safety
/// It is readable, from where `b` points on.
#[target_feature(enable = "neon")]
#[inline]
unsafe fn load(b: &[*const f32; PANELS], i: usize, j: usize) -> float32x4_t {
    // SAFETY: the caller's promise.
    unsafe { vld1q_f32(b[j / VECS].add(i * PANEL + j % VECS * LANES)) }
}
