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
    __m512, _MM_HINT_T0, _mm_prefetch, _mm512_add_epi32, _mm512_cvtepi32_ps, _mm512_fmadd_ps,
    _mm512_loadu_ps, _mm512_loadu_si512, _mm512_mullo_epi32, _mm512_set1_epi32, _mm512_set1_ps,
    _mm512_setzero_ps, _mm512_storeu_ps,
};
use std::mem::MaybeUninit;

use super::super::gemm_u8::Reals;
use super::super::tile::{Aligned, each_row};
use super::codes_avx512::Codes;
use super::epilogue_avx512::finish;
use super::{Columns, Isa, MAX_RUNS, Output, PANEL, Task, Variant};

pub(super) const VARIANT: Variant = Variant { name: "gemm_f32_f32__avx512", isa: Isa::Avx512, run };

/// Most rows of a tile.
pub(in crate::cpu) const MR: usize = 12;
/// Accumulators of a tile: beside them stay two rows of panels and what is broadcast.
const ACCUMULATORS: usize = 24;

/// Rows that share a pointer.
pub(in crate::cpu) const NEAR: usize = 3;

#[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl")]
fn run(task: &mut Task<'_, f32>) {
    product(task, None, of);
}

/// The product of operands of 4 bytes, by the kernels that `of` gives for some rows and panels; their sums are floats, or whole numbers
/// of which `reals` makes floats.
#[inline]
#[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl")]
pub(in crate::cpu) fn product<T: Copy>(
    task: &mut Task<'_, T>,
    reals: Option<&Reals<'_>>,
    of: fn(usize, usize) -> Store,
) {
    const { assert!(size_of::<T>() == 4) };
    let (m, panels) = (task.out.rows(), task.out.cols().div_ceil(PANEL));
    let tiles = m.div_ceil(MR);
    let together = match m {
        0 => return,
        // Panels that come from memory do so faster one after the other; others hide the latency of additions.
        1 if task.panels.len() <= CACHED => 8,
        1 => 2,
        2..=3 => 4,
        _ => 2,
    };
    let all_codes = reals.and_then(|_| Codes::of(task.epilogue, &mut task.out));
    // Four k of codes below 2^7 and of differences of codes below 2^8 in each word.
    let most = 4.0 * 128.0 * 255.0 * task.a.cols() as f32;
    let mut columns = [Columns::default(); 8];
    let mut panel = 0;
    while panel < panels {
        // As many as there are, in powers of two.
        let mut count = together;
        while count > panels - panel {
            count /= 2;
        }
        for (p, columns) in columns.iter_mut().enumerate().take(count) {
            *columns = task.epilogue.columns((panel + p) * PANEL, task.out.cols());
        }
        let columns = &columns[..count];
        let codes = all_codes.as_ref().zip(reals).filter(|(codes, reals)| {
            let scales = reals.scales[panel..].iter();
            scales.zip(columns).all(|(scales, columns)| {
                // SAFETY: 16 floats.
                codes.fit(most, unsafe { _mm512_loadu_ps(scales.as_ptr()) }, columns)
            })
        });
        let place = Place { panel, columns, codes };
        let mut row = 0;
        for tile in 0..tiles {
            let rows = (m - row) / (tiles - tile);
            block(task, row, rows, &place, reals, of(rows, count));
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
    /// Makes codes of their sums, where that is all there is to do.
    codes: Option<(&'a Codes, &'a Reals<'a>)>,
}

/// `rows` rows from `row` times the panels of `place`, by a kernel for as many.
#[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl")]
fn block<T: Copy>(
    task: &mut Task<'_, T>,
    row: usize,
    rows: usize,
    place: &Place<'_>,
    reals: Option<&Reals<'_>>,
    store: Store,
) {
    // By reference: to copy a view of rows takes longer than a tile of few k.
    let (a, k) = (&task.a, task.a.cols());
    let panels = &task.panels[place.panel * k * PANEL..][..place.columns.len() * k * PANEL];
    // All rows are there.
    let _ = a.run(row + rows - 1, 0);
    let mut runs = [std::ptr::null(); MAX_RUNS];
    for (i, run) in runs.iter_mut().enumerate().take(a.runs()) {
        *run = a.run(row, i).as_ptr().cast();
    }
    let sums = Sums {
        runs: &runs[..a.runs()],
        len: a.run_len(),
        stride: a.stride(),
        panels: panels.as_ptr().cast(),
        panel: k * PANEL,
        ahead: match a.rows() {
            ..=4 if task.panels.len() > CACHED => PAGE,
            1 => AHEAD,
            // With the last rows comes the turn of the panels behind these, if there are any.
            _ if row + rows == a.rows() => panels.len(),
            _ => 0,
        },
    };
    if let (true, Output::F32(out)) = (task.epilogue.is_nothing() && reals.is_none(), &mut task.out)
        && place.columns.iter().all(|columns| columns.valid() == PANEL)
    {
        let start = place.panel * PANEL;
        let mut out = out.part(row..row + rows, start..start + place.columns.len() * PANEL);
        let to = To { at: out.as_mut_ptr(), row: out.stride(), panel: PANEL };
        // SAFETY: as below; the result has the rows and the columns.
        return unsafe { store(&sums, to) };
    }
    // Filling it with zeros takes a tenth of a product of K = 24.
    let Aligned(tile) = &mut Aligned([[MaybeUninit::<f32>::uninit(); PANEL]; ACCUMULATORS]);
    let to = To { at: tile.as_mut_ptr().cast(), row: PANEL, panel: rows * PANEL };
    // SAFETY: rows `row` to `row + rows` are there, in as many runs of as many elements; each panel has a row of 16 for each. The tile has room
    // for all of them, and then holds them.
    let tile: &mut [[f32; PANEL]] = unsafe {
        store(&sums, to);
        std::slice::from_raw_parts_mut(tile.as_mut_ptr().cast(), rows * place.columns.len())
    };
    if let Some((codes, reals)) = place.codes {
        for (p, sums) in tile.chunks(2 * rows).enumerate() {
            let columns = &place.columns[2 * p..place.columns.len().min(2 * p + 2)];
            // SAFETY: the result has the rows and the columns, and is the task's.
            unsafe { codes.store(row, sums, columns, (reals, place.panel + 2 * p)) };
        }
        return;
    }
    for (p, (columns, tile)) in place.columns.iter().zip(tile.chunks_exact_mut(rows)).enumerate() {
        if let Some(reals) = reals {
            scale(reals, place.panel + p, tile);
        }
        finish(task.epilogue, &mut task.out, row, columns, tile);
    }
}

/// Turns the whole numbers of a tile of panel `panel` into reals, in place.
#[inline]
#[target_feature(enable = "avx512f")]
fn scale(reals: &Reals<'_>, panel: usize, tile: &mut [[f32; PANEL]]) {
    let (scales, sums) = (&reals.scales[panel], &reals.sums[panel]);
    // SAFETY: 16 elements of each.
    let (scales, sums) =
        unsafe { (_mm512_loadu_ps(scales.as_ptr()), _mm512_loadu_si512(sums.as_ptr().cast())) };
    let rest = _mm512_mullo_epi32(sums, _mm512_set1_epi32(reals.factor));
    for row in tile {
        // SAFETY: 16 elements.
        unsafe {
            let t = _mm512_add_epi32(_mm512_loadu_si512(row.as_ptr().cast()), rest);
            // The 0 that is added is what groups are added to: it has a sign.
            let y = _mm512_fmadd_ps(_mm512_cvtepi32_ps(t), scales, _mm512_setzero_ps());
            _mm512_storeu_ps(row.as_mut_ptr(), y);
        }
    }
}

/// The operands of a tile. Elements are 4 bytes, whatever they mean.
pub(in crate::cpu) struct Sums {
    /// The first row's runs of `len` elements; those of other rows are `stride` apart.
    pub(in crate::cpu) runs: *const [*const f32],
    pub(in crate::cpu) len: usize,
    pub(in crate::cpu) stride: usize,
    /// `[k][16]` of the first panel; panels are `panel` elements apart.
    pub(in crate::cpu) panels: *const f32,
    pub(in crate::cpu) panel: usize,
    /// Elements from a row of a panel to what is brought into the cache with it.
    pub(in crate::cpu) ahead: usize,
}

/// Where the sums of a tile go: rows and panels so many elements apart.
pub(in crate::cpu) struct To {
    pub(in crate::cpu) at: *mut f32,
    pub(in crate::cpu) row: usize,
    pub(in crate::cpu) panel: usize,
}

/// Makes the sums of a tile: `store` for some number of rows and panels.
pub(in crate::cpu) type Store = unsafe fn(&Sums, To);

/// `of(rows, panels)`, the kernel for so many, with the instructions `$features`; `$multiply(a, b, sum)` takes a broadcast element of a
/// row and a row of a panel.
macro_rules! tile_kernels {
    ($features:literal, $multiply:expr) => {
        /// The kernel for so many rows and panels.
        pub(in crate::cpu) fn of(rows: usize, panels: usize) -> Store {
            match (rows, panels) {
                (1, 8) => store::<1, 8>,
                (1, 4) => store::<1, 4>,
                (1, 2) => store::<1, 2>,
                (1, _) => store::<1, 1>,
                (2, 4) => store::<2, 4>,
                (2, 2) => store::<2, 2>,
                (2, _) => store::<2, 1>,
                (3, 4) => store::<3, 4>,
                (3, 2) => store::<3, 2>,
                (3, _) => store::<3, 1>,
                (4, 2) => store::<4, 2>,
                (4, _) => store::<4, 1>,
                (5, 2) => store::<5, 2>,
                (5, _) => store::<5, 1>,
                (6, 2) => store::<6, 2>,
                (6, _) => store::<6, 1>,
                (7, 2) => store::<7, 2>,
                (7, _) => store::<7, 1>,
                (8, 2) => store::<8, 2>,
                (8, _) => store::<8, 1>,
                (9, 2) => store::<9, 2>,
                (9, _) => store::<9, 1>,
                (10, 2) => store::<10, 2>,
                (10, _) => store::<10, 1>,
                (11, 2) => store::<11, 2>,
                (11, _) => store::<11, 1>,
                (_, 2) => store::<MR, 2>,
                _ => store::<MR, 1>,
            }
        }

        /// Row r times panel p, for each of them.
        ///
        /// Not inlined: what surrounds it would take registers from the accumulators.
        ///
        /// # Safety
        /// `runs` is readable, and so are `ROWS` rows, and `PANELS` panels of as many rows of 16 as a row has elements. `to` has room
        /// for 16 of each row and panel.
        #[target_feature(enable = $features)]
        #[inline(never)]
        unsafe fn store<const ROWS: usize, const PANELS: usize>(sums: &Sums, to: To) {
            let (stride, panel) = (sums.stride, sums.panel);
            let ahead = sums.ahead;
            let mut acc: [[__m512; PANELS]; ROWS] = [[_mm512_setzero_ps(); PANELS]; ROWS];
            let mut panels = sums.panels;
            // One pointer for each three rows: x86 addresses reach the others by once and twice the stride, and with a pointer
            // each twelve rows would not fit the registers.
            let mut from = [std::ptr::null::<f32>(); MR / NEAR];
            // SAFETY: the caller's promise.
            let runs = unsafe { &*sums.runs };
            for &run in runs {
                for (i, from) in from.iter_mut().enumerate() {
                    *from = run.wrapping_add(i * NEAR * stride);
                }
                for _ in 0..sums.len {
                    let mut lanes = [_mm512_setzero_ps(); PANELS];
                    for (p, lanes) in lanes.iter_mut().enumerate() {
                        let at = panels.wrapping_add(p * panel);
                        _mm_prefetch::<_MM_HINT_T0>(at.wrapping_add(ahead).cast());
                        // SAFETY: the caller's promise: a row of each panel.
                        *lanes = unsafe { _mm512_loadu_ps(at) };
                    }
                    each_row!(ROWS, |R| {
                        // SAFETY: the caller's promise: an element of row R.
                        let value = _mm512_set1_ps(unsafe { *from[R / NEAR].add(R % NEAR * stride) });
                        for (acc, lanes) in acc[R].iter_mut().zip(lanes) {
                            *acc = $multiply(value, lanes, *acc);
                        }
                    });
                    from = from.map(|from| from.wrapping_add(1));
                    panels = panels.wrapping_add(PANEL);
                }
            }
            let mut at = to.at;
            each_row!(ROWS, |R| {
                for (p, acc) in acc[R].iter().enumerate() {
                    // SAFETY: the caller's promise.
                    unsafe { _mm512_storeu_ps(at.wrapping_add(p * to.panel), *acc) };
                }
                at = at.wrapping_add(to.row);
            });
        }
    };
}

pub(in crate::cpu) use tile_kernels;

tile_kernels!("avx2,fma,avx512f,avx512bw,avx512dq,avx512vl", _mm512_fmadd_ps);

/// Panel elements between a load and its prefetch when one row of A uses each weight once: 1 KiB.
const AHEAD: usize = 256;

/// As [`AHEAD`] for panels that come from memory: beyond the page that the CPU looks ahead in by itself.
const PAGE: usize = 1024;

/// Panel elements that a second-level cache surely holds.
const CACHED: usize = 64 << 10;
