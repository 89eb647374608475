//! AVX2.
//!
//! ```text
//! for each run of panels, for each MR rows, for each group:
//!     12 accumulators of i32 = 6 rows x 16 columns (fewer rows: more panels at once)
//!     for each pair of k: load 2 vectors of the panel, broadcast x[row][k, k+1]; multiply and add in pairs, add
//!     to f32, scaled, added to the tile
//! epilogue on the tile, stored once
//! ```
//! A pair's products are exact: `2 * 32767 * 255` is far from the end of i32.

use std::arch::x86_64::{
    __m256i, _mm256_add_epi32, _mm256_cvtepi32_ps, _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_loadu_si256,
    _mm256_madd_epi16, _mm256_set1_epi32, _mm256_setzero_si256, _mm256_storeu_ps,
};

use std::ops::Range;

use super::super::gemm_f32::Columns;
use super::super::gemm_f32::epilogue_avx2::finish;
use super::{Isa, PAIR, PANEL, Panel, Task, Variant};

pub(super) const VARIANT: Variant = Variant { name: "gemm_w16_a8__avx2", isa: Isa::Avx2, run };

/// Rows of a full tile: 6 x 2 accumulators, 2 panel vectors, 1 broadcast and 1 product fit 16 registers.
const MR: usize = 6;

/// Elements of a pair of k in a panel.
const STEP: usize = PANEL * PAIR;

/// Results of one tile, `[panel * rows + row][16]`.
type Tile = [[f32; PANEL]; MR];

#[target_feature(enable = "avx2,fma")]
fn run(task: &mut Task<'_>) {
    let m = task.out.rows();
    let full = m - m % MR;
    columns(task, 0..full, MR, 1);
    let panels = match m - full {
        1 => 4,
        2 => 3,
        3 => 2,
        _ => 1,
    };
    columns(task, full..m, m - full, panels);
}

/// Some rows, a multiple of `rows` of them, times all panels, `panels` at once while there are as many.
#[target_feature(enable = "avx2,fma")]
fn columns(task: &mut Task<'_>, range: Range<usize>, rows: usize, panels: usize) {
    if range.is_empty() {
        return;
    }
    let all = task.out.cols().div_ceil(PANEL);
    let together = all - all % panels;
    for panel in (0..together).step_by(panels) {
        tiles(task, range.clone(), rows, panel..panel + panels);
    }
    for panel in together..all {
        tiles(task, range.clone(), rows, panel..panel + 1);
    }
}

/// Makes the sums of a tile: [`multiply`] for some number of rows and panels.
type Multiply = unsafe fn(&Task<'_>, usize, usize, &mut Tile);

fn kernel(rows: usize, panels: usize) -> Multiply {
    match (rows, panels) {
        (1, 4) => multiply::<1, 4>,
        (1, _) => multiply::<1, 1>,
        (2, 3) => multiply::<2, 3>,
        (2, _) => multiply::<2, 1>,
        (3, 2) => multiply::<3, 2>,
        (3, _) => multiply::<3, 1>,
        (4, _) => multiply::<4, 1>,
        (5, _) => multiply::<5, 1>,
        _ => multiply::<MR, 1>,
    }
}

/// Some rows, `rows` at once, times some panels.
#[target_feature(enable = "avx2,fma")]
fn tiles(task: &mut Task<'_>, range: Range<usize>, rows: usize, panels: Range<usize>) {
    let mut columns = [Columns::default(); MR];
    for (panel, columns) in panels.clone().zip(&mut columns) {
        *columns = task.epilogue.columns(panel * PANEL, task.out.cols());
    }
    let multiply = kernel(rows, panels.len());
    for row in range.step_by(rows) {
        let mut tile = [[0.0; PANEL]; MR];
        // SAFETY: this function has the features that it needs.
        unsafe { multiply(task, row, panels.start, &mut tile) };
        for (columns, tile) in columns.iter().zip(tile.chunks_exact_mut(rows)).take(panels.len()) {
            finish(task.epilogue, &mut task.out, row, columns, tile);
        }
    }
}

/// `tile[p * ROWS + r] = x[row + r] · panel first + p`.
#[target_feature(enable = "avx2,fma")]
fn multiply<const ROWS: usize, const PANELS: usize>(
    task: &Task<'_>,
    row: usize,
    first: usize,
    tile: &mut Tile,
) {
    let group = task.w.group;
    let mut panels = [Panel { weights: &[], scales: &[] }; PANELS];
    for (p, panel) in panels.iter_mut().enumerate() {
        *panel = task.w.panel(first + p);
    }
    let mut x: [&[i16]; ROWS] = [&[]; ROWS];
    for (r, x) in x.iter_mut().enumerate() {
        *x = task.x.row(row + r);
    }
    let pairs = x[0].len() / PAIR;
    assert!(x.iter().all(|row| row.len() == pairs * PAIR));
    assert!(panels.iter().all(|panel| panel.weights.len() == pairs * STEP));
    let mut from = 0;
    for g in 0..panels[0].scales.len() {
        // An odd group is the only one.
        let to = pairs.min(from + group.div_ceil(PAIR));
        let mut acc: [[[__m256i; 2]; PANELS]; ROWS] = [[[_mm256_setzero_si256(); 2]; PANELS]; ROWS];
        for pair in from..to {
            // Whichever operand has fewer vectors waits in registers while the other passes by.
            if ROWS <= 2 * PANELS {
                // SAFETY: pair < pairs, as every row has.
                let values = x.map(|row| unsafe { broadcast(row, pair) });
                for (p, panel) in panels.iter().enumerate() {
                    for half in 0..2 {
                        // SAFETY: the panel has as many pairs, each of two vectors.
                        let lanes = unsafe { load(panel.weights, pair, half) };
                        for (acc, value) in acc.iter_mut().zip(values) {
                            let products = _mm256_madd_epi16(value, lanes);
                            acc[p][half] = _mm256_add_epi32(acc[p][half], products);
                        }
                    }
                }
            } else {
                // SAFETY: as above.
                let lanes = panels
                    .map(|panel| unsafe { [load(panel.weights, pair, 0), load(panel.weights, pair, 1)] });
                for (acc, row) in acc.iter_mut().zip(x) {
                    // SAFETY: as above.
                    let value = unsafe { broadcast(row, pair) };
                    for (acc, lanes) in acc.iter_mut().zip(&lanes) {
                        for half in 0..2 {
                            let products = _mm256_madd_epi16(value, lanes[half]);
                            acc[half] = _mm256_add_epi32(acc[half], products);
                        }
                    }
                }
            }
        }
        from = to;
        for (p, panel) in panels.iter().enumerate() {
            for half in 0..2 {
                // SAFETY: 8 of 16 floats at offset 0 or 8.
                let scale = unsafe { _mm256_loadu_ps(panel.scales[g].as_ptr().add(half * 8)) };
                for (r, acc) in acc.iter().enumerate() {
                    let y = tile[p * ROWS + r].as_mut_ptr().wrapping_add(half * 8);
                    let t = _mm256_cvtepi32_ps(acc[p][half]);
                    // SAFETY: 8 of 16 floats at offset 0 or 8.
                    unsafe { _mm256_storeu_ps(y, _mm256_fmadd_ps(t, scale, _mm256_loadu_ps(y))) };
                }
            }
        }
    }
}

/// Both activations of a pair in every lane.
///
/// # Safety
/// `row` has more than `pair` pairs.
#[target_feature(enable = "avx2,fma")]
#[inline]
unsafe fn broadcast(row: &[i16], pair: usize) -> __m256i {
    // SAFETY: the caller's promise; every pattern is an i32.
    _mm256_set1_epi32(unsafe { row.as_ptr().add(pair * PAIR).cast::<i32>().read_unaligned() })
}

/// Eight columns of a pair.
///
/// # Safety
/// `weights` has more than `pair` pairs of 16 columns.
#[target_feature(enable = "avx2,fma")]
#[inline]
unsafe fn load(weights: &[i16], pair: usize, half: usize) -> __m256i {
    // SAFETY: the caller's promise; half is 0 or 1, and a vector holds 16 elements.
    unsafe { _mm256_loadu_si256(weights.as_ptr().add(pair * STEP + half * 16).cast()) }
}
