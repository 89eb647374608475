//! AVX2 and FMA.
//!
//! ```text
//! for each run of panels, for each tile of rows:
//!     12 accumulators = 6 rows x 16 columns (fewer rows: more panels at once, to keep both FMA ports busy)
//!     for k: load the vectors of the panels, broadcast a[row][k], one FMA for each row and vector
//!     epilogue on the tile, stored once
//! ```
//! Where the last panel holds at most 8 columns, its second vector is nobody's: it goes with the panel before it, as
//! 3 rows x 24 columns, or alone as 8 rows x 8.

use std::arch::x86_64::{
    __m256, _MM_HINT_T0, _mm_prefetch, _mm256_broadcast_ss, _mm256_fmadd_ps, _mm256_loadu_ps,
    _mm256_setzero_ps, _mm256_storeu_ps,
};

use std::ops::Range;

use super::super::tile::each_row;
use super::epilogue_avx2::finish;
use super::{Columns, Isa, PANEL, Rows, Task, Variant};

pub(super) const VARIANT: Variant = Variant { name: "gemm_f32_f32__avx2", isa: Isa::Avx2, run };

/// f32 of a vector.
const LANES: usize = 8;

/// Rows of a full tile of one panel: 6 x 2 accumulators, and beside them what is loaded, fit 16 registers.
const MR: usize = 6;
/// Rows of a full tile of a panel and a half: 3 x 3 accumulators. With a fourth row all 16 registers would be taken, and the
/// compiler moves them about in every step.
const WIDE: usize = 3;
/// Rows of a full tile of half a panel: 8 accumulators, enough chains for both ports, and as many pointers as there are registers for.
const NARROW: usize = 8;

#[target_feature(enable = "avx2,fma")]
fn run(task: &mut Task<'_, f32>) {
    let (m, n) = (task.out.rows(), task.out.cols());
    let panels = n.div_ceil(PANEL);
    let half = (1..=LANES).contains(&(n % PANEL));
    let whole = if half { panels.saturating_sub(2) } else { panels };
    let full = m - m % MR;
    columns(task, 0..full, Shape { rows: MR, vecs: 2 }, whole);
    let vecs = match m - full {
        1 => 8,
        2 => 6,
        3 => 4,
        _ => 2,
    };
    columns(task, full..m, Shape { rows: m - full, vecs }, whole);
    match panels - whole {
        0 => {}
        1 => {
            let (full, most) = (m - m % NARROW, m - m % 4);
            rows(task, 0..full, Shape { rows: NARROW, vecs: 1 }, whole);
            rows(task, full..most, Shape { rows: 4, vecs: 1 }, whole);
            rows(task, most..m, Shape { rows: 1, vecs: 1 }, whole);
        }
        _ => {
            let full = m - m % WIDE;
            rows(task, 0..full, Shape { rows: WIDE, vecs: 3 }, whole);
            rows(task, full..m, Shape { rows: 1, vecs: 3 }, whole);
        }
    }
}

/// Rows and vectors of columns of a tile.
#[derive(Clone, Copy)]
struct Shape {
    rows: usize,
    vecs: usize,
}

/// Makes the sums of a tile: [`multiply`] for some shape.
type Multiply = unsafe fn(&Rows<'_, f32>, usize, &[f32], &mut [[f32; PANEL]; NARROW]);

impl Shape {
    fn kernel(self) -> Multiply {
        match (self.rows, self.vecs) {
            (MR, _) => multiply::<MR, 2>,
            (5, _) => multiply::<5, 2>,
            (4, 2) => multiply::<4, 2>,
            (3, 4) => multiply::<3, 4>,
            (3, 2) => multiply::<3, 2>,
            (2, 6) => multiply::<2, 6>,
            (2, _) => multiply::<2, 2>,
            (1, 8) => multiply::<1, 8>,
            (1, 2) => multiply::<1, 2>,
            (NARROW, _) => multiply::<NARROW, 1>,
            (4, _) => multiply::<4, 1>,
            (WIDE, _) => multiply::<WIDE, 3>,
            (1, 3) => multiply::<1, 3>,
            _ => multiply::<1, 1>,
        }
    }
}

/// Some rows, a multiple of those of `shape`, times the first `panels` panels, as many at once as `shape` has while there are as
/// many.
#[target_feature(enable = "avx2,fma")]
fn columns(task: &mut Task<'_, f32>, range: Range<usize>, shape: Shape, panels: usize) {
    let together = panels - panels % (shape.vecs / 2);
    for panel in (0..together).step_by(shape.vecs / 2) {
        rows(task, range.clone(), shape, panel);
    }
    for panel in together..panels {
        rows(task, range.clone(), Shape { vecs: 2, ..shape }, panel);
    }
}

/// Some rows, a multiple of those of `shape`, times the columns of `shape` from panel `panel` on.
#[target_feature(enable = "avx2,fma")]
fn rows(task: &mut Task<'_, f32>, range: Range<usize>, shape: Shape, panel: usize) {
    if range.is_empty() {
        return;
    }
    let (k, panels) = (task.a.cols(), shape.vecs.div_ceil(2));
    let run = &task.panels[panel * k * PANEL..][..panels * k * PANEL];
    let mut columns = [Columns::default(); 4];
    for (p, columns) in columns.iter_mut().enumerate().take(panels) {
        *columns = task.epilogue.columns((panel + p) * PANEL, task.out.cols());
    }
    let multiply = shape.kernel();
    let mut tile = [[0.0; PANEL]; NARROW];
    for row in range.step_by(shape.rows) {
        // SAFETY: this function has the features that it needs.
        unsafe { multiply(&task.a, row, run, &mut tile) };
        for (columns, tile) in columns.iter().zip(tile.chunks_exact_mut(shape.rows)).take(panels) {
            finish(task.epilogue, &mut task.out, row, columns, tile);
        }
    }
}

/// `tile[p * ROWS + r] = a[row + r] · panel p`; `panels` has `[ceil(VECS / 2)][k][16]`. With an odd number of vectors the last
/// panel's upper 8 columns stay as they are.
///
/// Not inlined: what surrounds it would take registers from the accumulators.
#[target_feature(enable = "avx2,fma")]
#[inline(never)]
fn multiply<const ROWS: usize, const VECS: usize>(
    a: &Rows<'_, f32>,
    row: usize,
    panels: &[f32],
    tile: &mut [[f32; PANEL]; NARROW],
) {
    let (k, len) = (a.cols(), a.run_len());
    let ahead = if ROWS == 1 { AHEAD } else { PAGE };
    assert!(panels.len() == VECS.div_ceil(2) * k * PANEL);
    let mut acc: [[__m256; VECS]; ROWS] = [[_mm256_setzero_ps(); VECS]; ROWS];
    for run in 0..a.runs() {
        // Loops, not `array::from_fn`: a closure with AVX2 enabled cannot be inlined into that.
        let mut rows: [&[f32]; ROWS] = [&[]; ROWS];
        for (r, rows) in rows.iter_mut().enumerate() {
            *rows = a.run(row + r, run);
        }
        let mut b = [panels.as_ptr(); 4];
        for (p, b) in b.iter_mut().enumerate() {
            *b = b.wrapping_add((p * k + run * len) * PANEL);
        }
        for i in 0..len {
            // Whichever operand has fewer vectors waits in registers while the other passes by.
            if ROWS <= VECS {
                // SAFETY: i < len, the length of each row.
                let values = rows.map(|row| _mm256_broadcast_ss(unsafe { row.get_unchecked(i) }));
                for j in 0..VECS {
                    let at = b[j / 2].wrapping_add(i * PANEL + j % 2 * LANES);
                    if ROWS <= 4 && j % 2 == 0 {
                        _mm_prefetch::<_MM_HINT_T0>(at.wrapping_add(ahead).cast());
                    }
                    // SAFETY: run * len + i < k, and each panel has k rows of 16: 8 floats of that one.
                    let lanes = unsafe { _mm256_loadu_ps(at) };
                    each_row!(ROWS, |R| {
                        acc[R][j] = _mm256_fmadd_ps(values[R], lanes, acc[R][j]);
                    });
                }
            } else {
                let mut lanes = [_mm256_setzero_ps(); VECS];
                for (j, lanes) in lanes.iter_mut().enumerate() {
                    let at = b[j / 2].wrapping_add(i * PANEL + j % 2 * LANES);
                    if ROWS <= 4 && j % 2 == 0 {
                        _mm_prefetch::<_MM_HINT_T0>(at.wrapping_add(ahead).cast());
                    }
                    // SAFETY: run * len + i < k, and each panel has k rows of 16: 8 floats of that one.
                    *lanes = unsafe { _mm256_loadu_ps(at) };
                }
                each_row!(ROWS, |R| {
                    // SAFETY: i < len, the length of each row.
                    let value = _mm256_broadcast_ss(unsafe { rows[R].get_unchecked(i) });
                    for (acc, lanes) in acc[R].iter_mut().zip(lanes) {
                        *acc = _mm256_fmadd_ps(value, lanes, *acc);
                    }
                });
            }
        }
    }
    for (r, acc) in acc.iter().enumerate() {
        for (j, acc) in acc.iter().enumerate() {
            let lanes = &mut tile[j / 2 * ROWS + r][j % 2 * LANES..][..LANES];
            // SAFETY: 8 floats.
            unsafe { _mm256_storeu_ps(lanes.as_mut_ptr(), *acc) };
        }
    }
}

/// Panel elements between a load and its prefetch. One row of A uses each weight once: 1 KiB ahead in each of
/// 4 streams keeps both L2 (82 GB/s) and memory (30 GB/s) busy; 4 KiB ahead took L2 down to 55.
const AHEAD: usize = 256;

/// As [`AHEAD`] for two to four rows: beyond the page that the CPU looks ahead in by itself.
const PAGE: usize = 1024;
