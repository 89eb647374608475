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

use super::{Isa, PANEL, Task, Variant};

pub(super) const VARIANT: Variant = Variant { name: "gemm_f32_f32__avx2", isa: Isa::Avx2, run };

/// Rows of a full tile: 6 x 2 accumulators, 2 panel vectors and 1 broadcast fit 16 registers.
const MR: usize = 6;

/// Accumulators of one tile, `[row * panels + panel][16]`.
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
        let a: [&[f32]; ROWS] = std::array::from_fn(|r| task.a.row(row + r));
        multiply::<ROWS, PANELS>(a, run, k, &mut tile);
        finish(task, &tile[..ROWS * PANELS], row, panel, PANELS);
    }
}

/// `tile[r * PANELS + p] = a[r] · panel p`; every `a[r]` has `k` elements, `panels` has `[PANELS][k][16]`.
#[target_feature(enable = "avx2,fma")]
fn multiply<const ROWS: usize, const PANELS: usize>(
    a: [&[f32]; ROWS],
    panels: &[f32],
    k: usize,
    tile: &mut Tile,
) {
    assert!(a.iter().all(|row| row.len() == k) && panels.len() == PANELS * k * PANEL);
    let mut acc: [[[__m256; 2]; PANELS]; ROWS] = [[[_mm256_setzero_ps(); 2]; PANELS]; ROWS];
    let b: [&[f32]; PANELS] = std::array::from_fn(|p| &panels[p * k * PANEL..][..k * PANEL]);
    for i in 0..k {
        let mut lanes = [[_mm256_setzero_ps(); 2]; PANELS];
        for p in 0..PANELS {
            // SAFETY: i < k, and each panel slice holds k rows of 16.
            unsafe {
                let at = b[p].as_ptr().add(i * PANEL);
                lanes[p] = [_mm256_loadu_ps(at), _mm256_loadu_ps(at.add(8))];
                if ROWS == 1 {
                    _mm_prefetch::<_MM_HINT_T0>(at.wrapping_add(AHEAD).cast());
                }
            }
        }
        for r in 0..ROWS {
            // SAFETY: i < k, the length of each row.
            let value = _mm256_broadcast_ss(unsafe { a[r].get_unchecked(i) });
            for p in 0..PANELS {
                for half in 0..2 {
                    acc[r][p][half] = _mm256_fmadd_ps(value, lanes[p][half], acc[r][p][half]);
                }
            }
        }
    }
    for r in 0..ROWS {
        for p in 0..PANELS {
            let lanes = &mut tile[r * PANELS + p];
            for half in 0..2 {
                // SAFETY: 8 floats at offset 0 or 8 of 16.
                unsafe { _mm256_storeu_ps(lanes.as_mut_ptr().add(half * 8), acc[r][p][half]) };
            }
        }
    }
}

/// Panel elements between a load and its prefetch: one row of A uses each weight once, straight from memory,
/// and 4 KiB ahead covers that latency.
const AHEAD: usize = 1024;

/// Epilogue of a tile. One copy for all tile shapes: the activations are large when inlined.
#[target_feature(enable = "avx2,fma")]
#[inline(never)]
fn finish(task: &mut Task<'_>, tile: &[[f32; PANEL]], row: usize, panel: usize, panels: usize) {
    let n = task.out.cols();
    for p in 0..panels {
        let columns = task.epilogue.columns((panel + p) * PANEL, n);
        for (r, acc) in tile.iter().skip(p).step_by(panels).enumerate() {
            task.epilogue.finish(&mut task.out, row + r, &columns, acc);
        }
    }
}
