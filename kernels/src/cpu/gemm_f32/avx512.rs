//! AVX-512: a row of a panel is one register.
//!
//! ```text
//! for each two panels (few rows: more, so that 8 chains or more keep both FMA ports busy), for each tile of rows:
//!     24 accumulators = 12 rows x 2 panels
//!     for k: load 16 columns of each panel, broadcast a[row][k], one FMA for each row and panel
//!     epilogue on the tile, stored once
//! ```
//! Rows are shared out evenly: 49 of them are tiles of 10, 10, 10, 10 and 9, not four of 12 and a slow one of 1.

use std::arch::x86_64::{
    __m512, _MM_HINT_T0, _mm_prefetch, _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_set1_ps, _mm512_setzero_ps,
    _mm512_storeu_ps,
};

use super::super::tile::{Aligned, each_row};
use super::epilogue_avx512::finish;
use super::{Columns, Isa, PANEL, Rows, Task, Variant};

pub(super) const VARIANT: Variant = Variant { name: "gemm_f32_f32__avx512", isa: Isa::Avx512, run };

/// Most rows of a tile.
const MR: usize = 12;
/// Accumulators of a tile: beside them stay two rows of panels and what is broadcast.
const ACCUMULATORS: usize = 24;

/// Rows that share a pointer.
const NEAR: usize = 3;

/// Accumulators of one tile, `[panel][row][16]`.
type Tile = [[f32; PANEL]; ACCUMULATORS];

#[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl")]
fn run(task: &mut Task<'_>) {
    let (m, panels) = (task.out.rows(), task.out.cols().div_ceil(PANEL));
    let tiles = m.div_ceil(MR);
    let together = match m {
        0 => return,
        1 => 8,
        2..=3 => 4,
        _ => 2,
    };
    let mut panel = 0;
    while panel < panels {
        // As many as there are, in powers of two.
        let mut count = together;
        while count > panels - panel {
            count /= 2;
        }
        let mut columns = [Columns::default(); 8];
        for (p, columns) in columns.iter_mut().enumerate().take(count) {
            *columns = task.epilogue.columns((panel + p) * PANEL, task.out.cols());
        }
        let place = Place { panel, columns: &columns[..count] };
        let mut row = 0;
        for tile in 0..tiles {
            let rows = (m - row) / (tiles - tile);
            match (rows, count) {
                (1, 8) => block::<1, 8>(task, row, &place),
                (1, 4) => block::<1, 4>(task, row, &place),
                (1, 2) => block::<1, 2>(task, row, &place),
                (1, _) => block::<1, 1>(task, row, &place),
                (2, 4) => block::<2, 4>(task, row, &place),
                (2, 2) => block::<2, 2>(task, row, &place),
                (2, _) => block::<2, 1>(task, row, &place),
                (3, 4) => block::<3, 4>(task, row, &place),
                (3, 2) => block::<3, 2>(task, row, &place),
                (3, _) => block::<3, 1>(task, row, &place),
                (4, 2) => block::<4, 2>(task, row, &place),
                (4, _) => block::<4, 1>(task, row, &place),
                (5, 2) => block::<5, 2>(task, row, &place),
                (5, _) => block::<5, 1>(task, row, &place),
                (6, 2) => block::<6, 2>(task, row, &place),
                (6, _) => block::<6, 1>(task, row, &place),
                (7, 2) => block::<7, 2>(task, row, &place),
                (7, _) => block::<7, 1>(task, row, &place),
                (8, 2) => block::<8, 2>(task, row, &place),
                (8, _) => block::<8, 1>(task, row, &place),
                (9, 2) => block::<9, 2>(task, row, &place),
                (9, _) => block::<9, 1>(task, row, &place),
                (10, 2) => block::<10, 2>(task, row, &place),
                (10, _) => block::<10, 1>(task, row, &place),
                (11, 2) => block::<11, 2>(task, row, &place),
                (11, _) => block::<11, 1>(task, row, &place),
                (_, 2) => block::<MR, 2>(task, row, &place),
                _ => block::<MR, 1>(task, row, &place),
            }
            row += rows;
        }
        panel += count;
    }
}

/// The panels of a block.
struct Place<'a> {
    /// The first of them.
    panel: usize,
    columns: &'a [Columns],
}

/// `ROWS` rows from `row` times `PANELS` panels.
#[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl")]
fn block<const ROWS: usize, const PANELS: usize>(task: &mut Task<'_>, row: usize, place: &Place<'_>) {
    let Aligned(tile) = &mut Aligned([[0.0; PANEL]; ACCUMULATORS]);
    let k = task.a.cols();
    multiply::<ROWS, PANELS>(
        task.a,
        row,
        &task.panels[place.panel * k * PANEL..][..PANELS * k * PANEL],
        tile,
    );
    for (columns, tile) in place.columns.iter().zip(tile.chunks_exact_mut(ROWS)) {
        finish(task.epilogue, &mut task.out, row, columns, tile);
    }
}

/// `tile[p * ROWS + r] = a[row + r] · panel p`; `panels` is `[PANELS][k][16]`.
#[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl")]
#[inline]
fn multiply<const ROWS: usize, const PANELS: usize>(
    a: Rows<'_, f32>,
    row: usize,
    panels: &[f32],
    tile: &mut Tile,
) {
    let (k, stride) = (a.cols(), a.stride());
    assert!(row + ROWS <= a.rows() && panels.len() == PANELS * k * PANEL);
    let mut acc: [[__m512; PANELS]; ROWS] = [[_mm512_setzero_ps(); PANELS]; ROWS];
    // One pointer for each three rows: x86 addresses reach the others by once and twice the stride, and with a pointer
    // each twelve rows would not fit the registers.
    let mut from = [std::ptr::null::<f32>(); MR / NEAR];
    for (from, r) in from.iter_mut().zip((0..ROWS).step_by(NEAR)) {
        *from = a.row(row + r).as_ptr();
    }
    for i in 0..k {
        let mut lanes = [_mm512_setzero_ps(); PANELS];
        for (p, lanes) in lanes.iter_mut().enumerate() {
            let at = panels.as_ptr().wrapping_add((p * k + i) * PANEL);
            if ROWS == 1 {
                _mm_prefetch::<_MM_HINT_T0>(at.wrapping_add(AHEAD).cast());
            }
            // SAFETY: i < k, and each panel has k rows of 16.
            *lanes = unsafe { _mm512_loadu_ps(at) };
        }
        each_row!(ROWS, |R| {
            // SAFETY: i < k, and row + R < a.rows(): element i of that row.
            let value = _mm512_set1_ps(unsafe { *from[R / NEAR].add(R % NEAR * stride + i) });
            for (acc, lanes) in acc[R].iter_mut().zip(lanes) {
                *acc = _mm512_fmadd_ps(value, lanes, *acc);
            }
        });
    }
    for (r, acc) in acc.iter().enumerate() {
        for (p, acc) in acc.iter().enumerate() {
            // SAFETY: 16 floats.
            unsafe { _mm512_storeu_ps(tile[p * ROWS + r].as_mut_ptr(), *acc) };
        }
    }
}

/// Panel elements between a load and its prefetch when one row of A uses each weight once: 1 KiB.
const AHEAD: usize = 256;
