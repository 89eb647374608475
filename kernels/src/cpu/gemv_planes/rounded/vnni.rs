//! AVX-512 VNNI: codes joined in registers, as in the products of integers.

use std::arch::x86_64::{
    __m512i, _mm_cvtsi32_si128, _mm_loadu_si128, _mm512_add_epi32, _mm512_and_si512, _mm512_broadcast_i32x4,
    _mm512_cvtepi32_ps, _mm512_dpbusd_epi32, _mm512_fmadd_ps, _mm512_mul_ps, _mm512_rolv_epi32,
    _mm512_set1_epi8, _mm512_set1_epi32, _mm512_set1_epi64, _mm512_set1_ps, _mm512_setr_epi32,
    _mm512_setzero_ps, _mm512_setzero_si512, _mm512_slli_epi16, _mm512_sra_epi32, _mm512_srli_epi16,
    _mm512_storeu_ps,
};

use super::super::avx512::{Four, Planes, Twos, fours, select, together};
use super::super::tile::{ROWS, Results, Tile, each_tile};
use super::super::{BLOCK, Isa, MAX_PLANES, Split, Task};
use super::Variant;
use crate::cpu::gemm_f32::epilogue_avx512::finish;

pub(super) const VARIANT: Variant =
    Variant { name: "gemv_planes_rounded__avx512_vnni", isa: Isa::Avx512Vnni, most_rows: 4 * ROWS, run };

#[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
fn run(task: &mut Task<'_>) {
    // SAFETY: this function is called where the CPU has them all.
    unsafe { each_tile(task, ROWS, make, finish) }
}

/// Makes the results of a tile by the kernel for the split and so many rows.
///
/// # Safety
/// The tile is one of [`each_tile`].
#[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
unsafe fn make(tile: &Tile<'_>, to: &mut Results) {
    // SAFETY: the caller's promise.
    unsafe {
        match (tile.split, tile.rows) {
            (Split::Two, 1) => by_group::<Twos<1>, 1>(tile, to),
            (Split::Two, _) => by_group::<Twos<1>, ROWS>(tile, to),
            (Split::TwoTwos, 1) => by_group::<Twos<2>, 1>(tile, to),
            (Split::TwoTwos, _) => by_group::<Twos<2>, ROWS>(tile, to),
            (Split::ThreeTwos, 1) => by_group::<Twos<3>, 1>(tile, to),
            (Split::ThreeTwos, _) => by_group::<Twos<3>, ROWS>(tile, to),
            (Split::FourTwos, 1) => by_group::<Twos<4>, 1>(tile, to),
            (Split::FourTwos, _) => by_group::<Twos<4>, ROWS>(tile, to),
            (Split::Four, 1) => by_group::<Four, 1>(tile, to),
            (Split::Four, _) => by_group::<Four, ROWS>(tile, to),
            (Split::OneFour, 1) => by_group::<OneFour, 1>(tile, to),
            (Split::OneFour, _) => by_group::<OneFour, ROWS>(tile, to),
            (Split::Twelve | Split::Sixteen, _) => unreachable!("codes of more than 8 bits are for floats"),
        }
    }
}

/// A plane of 1 bit and one of 4.
struct OneFour;

impl Planes for OneFour {
    const SHIFT: u32 = 3;

    #[target_feature(enable = "avx512f,avx512bw,avx512dq")]
    #[inline]
    unsafe fn next(planes: &mut [*const u8; MAX_PLANES]) -> [__m512i; 2] {
        // SAFETY: the caller's promise: 16 bytes of the first plane, and a unit of the second.
        let (bits, [low, top]) = unsafe {
            let bits = _mm512_broadcast_i32x4(_mm_loadu_si128(planes[0].cast()));
            planes[0] = planes[0].wrapping_add(16);
            (bits, fours(&mut planes[1]))
        };
        // Columns 2i and 2i + 1 have bit i of the 16 bytes: to bit 7, what comes from neighbours is masked.
        let first =
            _mm512_rolv_epi32(bits, _mm512_setr_epi32(7, 7, 7, 7, 6, 6, 6, 6, 5, 5, 5, 5, 4, 4, 4, 4));
        let second =
            _mm512_rolv_epi32(bits, _mm512_setr_epi32(3, 3, 3, 3, 2, 2, 2, 2, 1, 1, 1, 1, 0, 0, 0, 0));
        let mask = _mm512_set1_epi8(0x78);
        let low = _mm512_and_si512(_mm512_slli_epi16::<3>(low), mask);
        let top = _mm512_and_si512(_mm512_srli_epi16::<1>(top), mask);
        [select(0x80, first, low), select(0x80, second, top)]
    }
}

/// Results with a scale a group, of weights and of rows.
///
/// # Safety
/// As for [`make`].
#[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline(never)]
unsafe fn by_group<S: Planes, const R: usize>(tile: &Tile<'_>, to: &mut Results) {
    let mut total = [_mm512_setzero_ps(); R];
    let mut planes = tile.planes;
    let least = tile.odd - (1 << (8 - S::SHIFT));
    let mut unit = 0;
    for g in 0..tile.groups {
        let end = tile.units.min(unit + tile.group_units);
        let mut acc = [[_mm512_setzero_si512(); 2]; R];
        while unit < end {
            // SAFETY: the caller's promise: a unit of each plane, and 8 activations of each row; every pattern is an i64.
            let (p, x): ([__m512i; 2], [i64; R]) = unsafe {
                (
                    S::next(&mut planes),
                    std::array::from_fn(|r| tile.x[r].add(unit * BLOCK).cast::<i64>().read_unaligned()),
                )
            };
            for h in 0..2 {
                for (acc, x) in acc.iter_mut().zip(x) {
                    acc[h] = _mm512_dpbusd_epi32(acc[h], p[h], _mm512_set1_epi64(x));
                }
            }
            unit += 1;
        }
        // SAFETY: the caller's promise.
        let scale = unsafe { tile.scales.of(g) };
        for (r, (total, acc)) in total.iter_mut().zip(acc).enumerate() {
            let (codes, own) = tile.rounded(g, r);
            // Twice the sum of products with codes, whose multiples of `2^SHIFT` are what was added up.
            let sum = together(acc);
            let sum = match S::SHIFT {
                0 => _mm512_add_epi32(sum, sum),
                shift => _mm512_sra_epi32(sum, _mm_cvtsi32_si128(shift as i32 - 1)),
            };
            let t = _mm512_cvtepi32_ps(_mm512_add_epi32(sum, _mm512_set1_epi32(least * codes)));
            *total = _mm512_fmadd_ps(t, _mm512_mul_ps(scale, _mm512_set1_ps(own)), *total);
        }
    }
    for (to, total) in to.iter_mut().zip(total) {
        // SAFETY: 16 floats.
        unsafe { _mm512_storeu_ps(to.as_mut_ptr(), total) };
    }
}
