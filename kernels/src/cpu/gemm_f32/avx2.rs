//! AVX2 and FMA.
//!
//! ```text
//! for each run of panels, for each MR rows:
//!     12 accumulators = 6 rows x 16 columns (fewer rows: more panels at once, to keep both FMA ports busy)
//!     for k: load 2 vectors of the panel, broadcast a[row][k], 2 FMAs a row
//!     epilogue on the tile, stored once
//! ```

use std::arch::x86_64::{
    __m256, _MM_HINT_T0, _mm_prefetch, _mm256_broadcast_ss, _mm256_fmadd_ps, _mm256_loadu_ps,
    _mm256_setzero_ps, _mm256_storeu_ps,
};

use super::{Epilogue, Isa, Output, PANEL, Task, Variant};

pub(super) const VARIANT: Variant = Variant { name: "gemm_f32_f32__avx2", isa: Isa::Avx2, run };

/// Rows of a full tile: 6 x 2 accumulators, 2 panel vectors and 1 broadcast fit 16 registers.
const MR: usize = 6;

/// Accumulators of one tile, `[panel * rows + row][16]`.
type Tile = [[f32; PANEL]; MR];

#[target_feature(enable = "avx2,fma")]
fn run(task: &mut Task<'_>) {
    let m = task.out.rows();
    let full = m - m % MR;
    if full > 0 {
        columns::<MR, 1>(task, 0, full);
    }
    match m - full {
        0 => {}
        1 => columns::<1, 4>(task, full, m),
        2 => columns::<2, 3>(task, full, m),
        3 => columns::<3, 2>(task, full, m),
        4 => columns::<4, 1>(task, full, m),
        _ => columns::<5, 1>(task, full, m),
    }
}

/// Rows `[from, to)`, a multiple of `ROWS` of them, times all panels, `PANELS` at once while there are as many.
#[target_feature(enable = "avx2,fma")]
fn columns<const ROWS: usize, const PANELS: usize>(task: &mut Task<'_>, from: usize, to: usize) {
    let panels = task.out.cols().div_ceil(PANEL);
    let together = panels - panels % PANELS;
    for panel in (0..together).step_by(PANELS) {
        rows::<ROWS, PANELS>(task, from, to, panel);
    }
    for panel in together..panels {
        rows::<ROWS, 1>(task, from, to, panel);
    }
}

/// Rows `[from, to)` times `PANELS` panels.
#[target_feature(enable = "avx2,fma")]
fn rows<const ROWS: usize, const PANELS: usize>(task: &mut Task<'_>, from: usize, to: usize, panel: usize) {
    let k = task.a.cols();
    let run = &task.panels[panel * k * PANEL..][..PANELS * k * PANEL];
    for row in (from..to).step_by(ROWS) {
        let mut tile = [[0.0; PANEL]; MR];
        // Loops, not `array::from_fn`: a closure with AVX2 enabled cannot be inlined into that.
        let mut a: [&[f32]; ROWS] = [&[]; ROWS];
        for (r, a) in a.iter_mut().enumerate() {
            *a = task.a.row(row + r);
        }
        multiply::<ROWS, PANELS>(a, run, k, &mut tile);
        for (p, tile) in tile.chunks_exact_mut(ROWS).take(PANELS).enumerate() {
            finish(task.epilogue, &mut task.out, row, (panel + p) * PANEL, tile);
        }
    }
}

/// `tile[p * ROWS + r] = a[r] · panel p`; every `a[r]` has `k` elements, `panels` has `[PANELS][k][16]`.
#[target_feature(enable = "avx2,fma")]
fn multiply<const ROWS: usize, const PANELS: usize>(
    a: [&[f32]; ROWS],
    panels: &[f32],
    k: usize,
    tile: &mut Tile,
) {
    assert!(a.iter().all(|row| row.len() == k) && panels.len() == PANELS * k * PANEL);
    let mut acc: [[[__m256; 2]; PANELS]; ROWS] = [[[_mm256_setzero_ps(); 2]; PANELS]; ROWS];
    let mut b: [&[f32]; PANELS] = [&[]; PANELS];
    for (p, b) in b.iter_mut().enumerate() {
        *b = &panels[p * k * PANEL..][..k * PANEL];
    }
    for i in 0..k {
        // Whichever operand has fewer vectors waits in registers while the other passes by.
        if ROWS <= 2 * PANELS {
            // SAFETY: i < k, the length of each row.
            let values = a.map(|row| _mm256_broadcast_ss(unsafe { row.get_unchecked(i) }));
            for (p, panel) in b.iter().enumerate() {
                for half in 0..2 {
                    // SAFETY: i < k, and the panel has k rows of 16.
                    let at = unsafe { panel.as_ptr().add(i * PANEL + half * 8) };
                    if ROWS == 1 && half == 0 {
                        _mm_prefetch::<_MM_HINT_T0>(at.wrapping_add(AHEAD).cast());
                    }
                    // SAFETY: 8 floats of that row.
                    let lanes = unsafe { _mm256_loadu_ps(at) };
                    for (acc, value) in acc.iter_mut().zip(values) {
                        acc[p][half] = _mm256_fmadd_ps(value, lanes, acc[p][half]);
                    }
                }
            }
        } else {
            let lanes = b.map(|panel| {
                // SAFETY: i < k, and the panel has k rows of 16.
                unsafe {
                    let at = panel.as_ptr().add(i * PANEL);
                    [_mm256_loadu_ps(at), _mm256_loadu_ps(at.add(8))]
                }
            });
            for (acc, row) in acc.iter_mut().zip(a) {
                // SAFETY: i < k, the length of each row.
                let value = _mm256_broadcast_ss(unsafe { row.get_unchecked(i) });
                for (acc, lanes) in acc.iter_mut().zip(&lanes) {
                    acc[0] = _mm256_fmadd_ps(value, lanes[0], acc[0]);
                    acc[1] = _mm256_fmadd_ps(value, lanes[1], acc[1]);
                }
            }
        }
    }
    for r in 0..ROWS {
        for p in 0..PANELS {
            let lanes = tile[p * ROWS + r].as_mut_ptr();
            // SAFETY: 8 floats at offsets 0 and 8 of 16.
            unsafe {
                _mm256_storeu_ps(lanes, acc[r][p][0]);
                _mm256_storeu_ps(lanes.add(8), acc[r][p][1]);
            }
        }
    }
}

/// Panel elements between a load and its prefetch. One row of A uses each weight once: 1 KiB ahead in each of
/// 4 streams keeps both L2 (82 GB/s) and memory (30 GB/s) busy; 4 KiB ahead took L2 down to 55.
const AHEAD: usize = 256;

/// Epilogue of rows `row, row + 1, ...` and the 16 columns from `start`. One copy for all tile shapes and all
/// matrix kernels: the activations are large when inlined.
#[target_feature(enable = "avx2,fma")]
#[inline(never)]
pub(in crate::cpu) fn finish(
    epilogue: &Epilogue<'_>,
    out: &mut Output<'_>,
    row: usize,
    start: usize,
    tile: &mut [[f32; PANEL]],
) {
    let columns = epilogue.columns(start, out.cols());
    epilogue.finish(out, row, &columns, tile);
}
