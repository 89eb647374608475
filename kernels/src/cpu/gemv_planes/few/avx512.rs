//! AVX-512: a column of values is a register, and so are the activations that its positions pick from a group's.
//!
//! ```text
//! for each two panels and one row, or one panel and 4 rows:
//!     for each unit:     codes joined and transposed to columns as for all of K
//!                        for each value: 16 codes to floats, scaled; activations picked by a permutation, a multiply-add a row
//! ```

use std::arch::x86_64::{
    __m512, __m512i, _mm_load_si128, _mm512_cmpgt_epi32_mask, _mm512_cvtepi32_ps, _mm512_cvtepu8_epi32,
    _mm512_fmadd_ps, _mm512_mask_cmplt_epi32_mask, _mm512_mask3_fmadd_ps, _mm512_maskz_loadu_ps,
    _mm512_max_epi32, _mm512_mul_ps, _mm512_or_si512, _mm512_permutexvar_ps, _mm512_set1_epi32,
    _mm512_set1_ps, _mm512_setzero_ps, _mm512_slli_epi32, _mm512_storeu_ps,
};

use super::super::floats::avx512::{Join, PANELS, ROWS, UNITS, join_of};
use super::super::tile::panel_of;
use super::{BLOCK, Isa, PANEL, Task, Variant, position_bits};
use crate::cpu::gemm_f32::epilogue_avx512::finish;
use crate::cpu::planes::UNIT;
use crate::cpu::spread::avx512::Places;
use crate::cpu::tile::Aligned;

pub(super) const VARIANT: Variant<f32> =
    Variant { name: "gemv_few_f32__avx512", isa: Isa::Avx512, extra: || true, most_rows: ROWS, run };

#[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl")]
fn run(task: &mut Task<'_, f32>) {
    let (m, panels) = (task.out.rows(), task.out.cols().div_ceil(PANEL));
    let (rows, together) = if m == 1 { (1, PANELS) } else { (ROWS, 1) };
    let (join, wide) = join_of(task.w.split);
    let store = match (m, wide) {
        (1, false) => store::<false, 1, PANELS>,
        (1, true) => store::<true, 1, PANELS>,
        (_, false) => store::<false, ROWS, 1>,
        (_, true) => store::<true, ROWS, 1>,
    };
    for panel in (0..panels).step_by(together) {
        for row in (0..m).step_by(rows) {
            let there = [rows.min(m - row), together.min(panels - panel)];
            let Aligned(tile) = &mut Aligned([[0.0; PANEL]; ROWS]);
            // SAFETY: the rows and panels are there, and the planes are of the split.
            unsafe { store(task, join, [row, panel], there, tile) };
            for (p, tile) in tile.chunks_exact_mut(rows).enumerate().take(there[1]) {
                let columns = task.epilogue.columns((panel + p) * PANEL, task.out.cols());
                finish(task.epilogue, &mut task.out, row, &columns, &mut tile[..there[0]]);
            }
        }
    }
}

/// The sums of `R` rows and `P` panels, `[P][R][16]`; those that are not there are the last one again.
///
/// # Safety
/// The first row and panel are there, and as many as `there` says; `join` is for the split, and `WIDE` as its codes are.
#[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl")]
#[inline(never)]
unsafe fn store<const WIDE: bool, const R: usize, const P: usize>(
    task: &Task<'_, f32>,
    join: Join,
    [row, panel]: [usize; 2],
    there: [usize; 2],
    to: &mut [[f32; PANEL]; ROWS],
) {
    let (w, keep, of) = (task.w, task.few.keep, task.few.of);
    let own = |p: usize| panel + p.min(there[1] - 1);
    let (mut panels, few) =
        (std::array::from_fn(|p| panel_of(w, own(p))), std::array::from_fn(|p| task.panel(own(p))));
    let (panels, few): (&mut [_; P], [_; P]) = (&mut panels, few);
    let x: [&[f32]; R] = std::array::from_fn(|r| task.x.row(row + r.min(there[0] - 1)));
    let lanes = Places::new(position_bits(of));
    let (two, least) = (_mm512_set1_ps(2.0), _mm512_set1_ps((1 - (1i32 << w.split.bits())) as f32));
    let mut acc: [[__m512; R]; P] = [[_mm512_setzero_ps(); R]; P];
    let Aligned(codes) = &mut Aligned([[[[0u8; UNIT]; 2]; UNITS]; P]);
    // The value's place in its group, and the group's first column, its columns, and whether every position is one of them.
    let (mut slot, mut first) = (0, 0);
    let group = |first: usize| {
        let own = of.min(task.cols.saturating_sub(first));
        (
            _mm512_set1_epi32(own as i32),
            (0xffffu32 >> (PANEL - own)) as u16,
            own.is_power_of_two() && own == of,
        )
    };
    let (mut limit, mut own, mut any) = group(0);
    let mut before: [__m512i; P] = [_mm512_set1_epi32(-1); P];
    for g in 0..w.groups() {
        // SAFETY: there is such a group.
        let scale: [__m512; P] = std::array::from_fn(|p| unsafe { panels[p].1.of(g) });
        let values = g * w.group..w.k.min((g + 1) * w.group);
        for start in values.clone().step_by(UNITS * BLOCK) {
            let count = (UNITS * BLOCK).min(values.end - start);
            for (codes, (planes, _)) in codes.iter_mut().zip(panels.iter_mut()) {
                // SAFETY: a unit of each plane for each 8 values.
                unsafe { join(planes, count.div_ceil(BLOCK), codes) };
            }
            for k in 0..count {
                // SAFETY: as many floats as the group has columns, at most 16.
                let x: [__m512; R] =
                    std::array::from_fn(|r| unsafe { _mm512_maskz_loadu_ps(own, x[r].as_ptr().add(first)) });
                for p in 0..P {
                    let sixteen = |part: usize| {
                        let codes = &codes[p][k / BLOCK][part][k % BLOCK * PANEL..][..PANEL];
                        // SAFETY: 16 bytes, aligned.
                        _mm512_cvtepu8_epi32(unsafe { _mm_load_si128(codes.as_ptr().cast()) })
                    };
                    let mut code = sixteen(0);
                    if WIDE {
                        code = _mm512_or_si512(code, _mm512_slli_epi32::<8>(sixteen(1)));
                    }
                    // Exact: every term is an integer below 2^18.
                    let odd = _mm512_fmadd_ps(_mm512_cvtepi32_ps(code), two, least);
                    let weight = _mm512_mul_ps(odd, scale[p]);
                    let places = lanes.at(&few[p], start + k);
                    let mut counts = 0xffff;
                    if slot > 0 {
                        counts = _mm512_cmpgt_epi32_mask(places, before[p]);
                    }
                    if !any {
                        counts = _mm512_mask_cmplt_epi32_mask(counts, places, limit);
                    }
                    before[p] = if slot > 0 { _mm512_max_epi32(before[p], places) } else { places };
                    for (acc, x) in acc[p].iter_mut().zip(x) {
                        *acc = _mm512_mask3_fmadd_ps(_mm512_permutexvar_ps(places, x), weight, *acc, counts);
                    }
                }
                slot += 1;
                if slot == keep {
                    (slot, first) = (0, first + of);
                    (limit, own, any) = group(first);
                }
            }
        }
    }
    for (to, acc) in to.iter_mut().zip(acc.as_flattened()) {
        // SAFETY: 16 floats.
        unsafe { _mm512_storeu_ps(to.as_mut_ptr(), *acc) };
    }
}
