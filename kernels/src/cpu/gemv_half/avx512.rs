//! AVX-512: two panels and one row or 4. Sums of two panels are enough to hide the time of an addition, and a line of a panel is two of
//! its rows: it is asked for once.

use std::arch::x86_64::{
    __m512, _MM_HINT_T0, _mm_prefetch, _mm256_loadu_si256, _mm512_castsi512_ps, _mm512_cvtepu16_epi32,
    _mm512_cvtph_ps, _mm512_fmadd_ps, _mm512_set1_ps, _mm512_setzero_ps, _mm512_slli_epi32, _mm512_storeu_ps,
};

use super::super::gemm_f32::epilogue_avx512::finish;
use super::super::tile::Aligned;
use super::{Half, Isa, MAX_ROWS, PANEL, Task, Variant};

pub(super) const VARIANT: Variant = Variant { name: "gemv_half_f32__avx512", isa: Isa::Avx512, run };

/// Panels of a tile.
const PANELS: usize = 2;
/// Bytes that are asked for before they are read: beyond the page that the CPU looks ahead in by itself.
const AHEAD: usize = 4 << 10;

/// Results of a tile, `[panel][row][16]`.
type Tile = [[f32; PANEL]; MAX_ROWS * PANELS];

#[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl")]
fn run(task: &mut Task<'_>) {
    let (m, panels) = (task.out.rows(), task.out.cols().div_ceil(PANEL));
    let rows = if m == 1 { 1 } else { MAX_ROWS };
    let store = match (task.w.kind, m) {
        (Half::F16, 1) => store::<false, 1>,
        (Half::Bf16, 1) => store::<true, 1>,
        (Half::F16, _) => store::<false, MAX_ROWS>,
        (Half::Bf16, _) => store::<true, MAX_ROWS>,
    };
    for panel in (0..panels).step_by(PANELS) {
        for row in (0..m).step_by(rows) {
            let there = [rows.min(m - row), PANELS.min(panels - panel)];
            let Aligned(tile) = &mut Aligned([[0.0; PANEL]; MAX_ROWS * PANELS]);
            // SAFETY: the rows and panels are there.
            unsafe { store(task, [row, panel], there, tile) };
            for (p, tile) in tile.chunks_exact_mut(rows).enumerate().take(there[1]) {
                let columns = task.epilogue.columns((panel + p) * PANEL, task.out.cols());
                finish(task.epilogue, &mut task.out, row, &columns, &mut tile[..there[0]]);
            }
        }
    }
}

/// The sums of `R` rows and two panels; those that are not there are the last one again.
///
/// # Safety
/// The first row and panel are there, and as many as `there` says.
#[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl")]
#[inline(never)]
unsafe fn store<const BF16: bool, const R: usize>(
    task: &Task<'_>,
    [row, panel]: [usize; 2],
    there: [usize; 2],
    to: &mut Tile,
) {
    let each = task.w.k * 2 * PANEL;
    let mut w = [std::ptr::null::<u8>(); PANELS];
    for (p, w) in w.iter_mut().enumerate() {
        *w = task.w.bytes[(panel + p.min(there[1] - 1)) * each..][..each].as_ptr();
    }
    let mut x: [&[f32]; R] = [&[]; R];
    for (r, x) in x.iter_mut().enumerate() {
        *x = task.x.row(row + r.min(there[0] - 1));
    }
    let mut acc: Sums<R> = [[_mm512_setzero_ps(); R]; PANELS];
    let pairs = task.w.k / 2;
    for k in (0..2 * pairs).step_by(2) {
        for w in w {
            _mm_prefetch::<_MM_HINT_T0>(w.wrapping_add(k * 2 * PANEL + AHEAD).cast());
        }
        // SAFETY: both are below K.
        unsafe {
            add::<BF16, R>(&mut acc, &w, &x, k);
            add::<BF16, R>(&mut acc, &w, &x, k + 1);
        }
    }
    if 2 * pairs < task.w.k {
        // SAFETY: it is below K.
        unsafe { add::<BF16, R>(&mut acc, &w, &x, 2 * pairs) };
    }
    for (to, acc) in to.iter_mut().zip(acc.as_flattened()) {
        // SAFETY: 16 floats.
        unsafe { _mm512_storeu_ps(to.as_mut_ptr(), *acc) };
    }
}

/// Sums of a tile, `[panel][row]`.
type Sums<const R: usize> = [[__m512; R]; PANELS];

/// Row `k` of each panel times element `k` of each row.
///
/// # Safety
/// Panels of `w` and rows of `x` have more than `k` of these.
#[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl")]
#[inline]
unsafe fn add<const BF16: bool, const R: usize>(
    acc: &mut Sums<R>,
    w: &[*const u8; PANELS],
    x: &[&[f32]; R],
    k: usize,
) {
    let mut weights = [_mm512_setzero_ps(); PANELS];
    for (weight, w) in weights.iter_mut().zip(w) {
        // SAFETY: 16 halves of the panel's row k.
        let halves = unsafe { _mm256_loadu_si256(w.add(k * 2 * PANEL).cast()) };
        *weight = match BF16 {
            true => _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(halves))),
            false => _mm512_cvtph_ps(halves),
        };
    }
    for (r, x) in x.iter().enumerate() {
        // SAFETY: the row has an element k.
        let x = _mm512_set1_ps(unsafe { *x.get_unchecked(k) });
        for (acc, weight) in acc.iter_mut().zip(weights) {
            acc[r] = _mm512_fmadd_ps(x, weight, acc[r]);
        }
    }
}
