//! AVX-512 VNNI and VBMI: eight values a column are a register for 8 columns, and so are the activations that their positions pick.
//!
//! ```text
//! for each panel, for 4 rows or 1:
//!     for each unit:     codes joined and rounded as for all of K
//!                        its positions to a byte each: bits of 8 lanes from each 64 (vpmultishiftqb), [8][8] to lanes by a permutation
//!                        activations of the unit's groups picked by them (vpermb), one vpdpbusd for each half and row
//! ```
//! A value that stands for nothing has code 0. Rows end with zero points, which add nothing, whatever is multiplied with them.

use std::arch::x86_64::{
    __m512i, _mm512_abs_ps, _mm512_add_epi16, _mm512_cmpgt_epu8_mask, _mm512_cvtepi32_ps,
    _mm512_dpbusd_epi32, _mm512_fmadd_ps, _mm512_loadu_si512, _mm512_maskz_loadu_epi8,
    _mm512_maskz_packs_epi16, _mm512_max_epu8, _mm512_max_ps, _mm512_mul_ps, _mm512_mulhrs_epi16,
    _mm512_mullo_epi32, _mm512_multishift_epi64_epi8, _mm512_permutexvar_epi8, _mm512_set1_epi8,
    _mm512_set1_epi16, _mm512_set1_epi32, _mm512_set1_ps, _mm512_setzero_ps, _mm512_setzero_si512,
    _mm512_slli_epi64, _mm512_storeu_ps, _mm512_sub_epi32, _mm512_ternarylogic_epi32, _mm512_unpackhi_epi8,
    _mm512_unpacklo_epi8,
};

use super::super::avx512::{Planes, Twos, factors, together};
use super::super::tile::{ROWS, Results, Scales, panel_of};
use super::super::{MAX_PLANES, Split, TOP};
use super::{BLOCK, Isa, PANEL, SPAN, Task, Variant, position_bits, span};
use crate::cpu::gemm_f32::epilogue_avx512::finish;
use crate::cpu::tile::Aligned;

pub(super) const VARIANT: Variant<u8> = Variant {
    name: "gemv_few_a8__avx512_vnni",
    isa: Isa::Avx512Vnni,
    extra: || std::arch::is_x86_feature_detected!("avx512vbmi"),
    most_rows: 4 * ROWS,
    run,
};

/// How positions of a unit become indices of its activations.
struct Indices {
    /// Bytes of each value's 16 positions to the front of 64 bits.
    apart: __m512i,
    /// Where the bits of 8 lanes begin, of each half.
    shifts: [__m512i; 2],
    /// Eight lanes of each value to eight values of each lane.
    lanes: __m512i,
    /// The bits of a position.
    mask: __m512i,
    /// Where the group of each value begins, with a bit that makes it greater than 0.
    first: __m512i,
}

impl Indices {
    #[target_feature(enable = "avx512f")]
    fn new(keep: usize, of: usize) -> Indices {
        let bits = position_bits(of);
        let bytes = |byte: &dyn Fn(usize, usize) -> usize| {
            let mut all = [0u8; SPAN];
            for (i, to) in all.iter_mut().enumerate() {
                *to = byte(i / 8, i % 8) as u8;
            }
            // SAFETY: 64 bytes.
            unsafe { _mm512_loadu_si512(all.as_ptr().cast()) }
        };
        Indices {
            apart: bytes(&|value, byte| value * 2 * bits + byte.min(2 * bits - 1)),
            shifts: [bytes(&|_, lane| lane * bits), bytes(&|_, lane| (8 + lane) * bits)],
            lanes: bytes(&|lane, value| 8 * value + lane),
            mask: _mm512_set1_epi8((1 << bits) - 1),
            first: bytes(&|_, value| SPAN | (value / keep * of)),
        }
    }
}

/// The operands of a tile.
struct Tile<'a> {
    indices: &'a Indices,
    planes: [*const u8; MAX_PLANES],
    scales: Scales,
    positions: &'a [u8],
    units: usize,
    group_units: usize,
    groups: usize,
    keep: usize,
    of: usize,
    zero_point: i32,
    x: [*const u8; ROWS],
}

#[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512vbmi")]
fn run(task: &mut Task<'_, u8>) {
    let (m, n, w) = (task.out.rows(), task.out.cols(), task.w);
    let indices = Indices::new(task.few.keep, task.few.of);
    for panel in 0..n.div_ceil(PANEL) {
        let columns = task.epilogue.columns(panel * PANEL, n);
        let (planes, scales) = panel_of(w, panel);
        for row in (0..m).step_by(ROWS) {
            let there = ROWS.min(m - row);
            let tile = Tile {
                indices: &indices,
                planes,
                scales,
                positions: task.panel(panel).units,
                units: w.k.div_ceil(BLOCK),
                group_units: w.group.div_ceil(BLOCK),
                groups: w.groups(),
                keep: task.few.keep,
                of: task.few.of,
                zero_point: task.zero_point,
                x: std::array::from_fn(|r| task.x.row(row + r.min(there - 1)).as_ptr()),
            };
            let make = match (w.split, there) {
                (Split::Two, 1) => sums::<Twos<1>, 1>,
                (Split::Two, _) => sums::<Twos<1>, ROWS>,
                (Split::TwoTwos, 1) => sums::<Twos<2>, 1>,
                (Split::TwoTwos, _) => sums::<Twos<2>, ROWS>,
                (Split::ThreeTwos, 1) => sums::<Twos<3>, 1>,
                (Split::ThreeTwos, _) => sums::<Twos<3>, ROWS>,
                (_, 1) => sums::<Twos<4>, 1>,
                _ => sums::<Twos<4>, ROWS>,
            };
            let Aligned(results) = &mut Aligned([[0.0; PANEL]; ROWS]);
            // SAFETY: planes of the split with the units of a panel, and rows as long as the front door asked for.
            unsafe { make(&tile, results) };
            finish(task.epilogue, &mut task.out, row, &columns, &mut results[..there]);
        }
    }
}

/// The results of a tile.
///
/// # Safety
/// Planes are of the split and have the units of a panel, scales its groups; rows have activations of all units and a register more.
#[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512vbmi")]
#[inline(never)]
unsafe fn sums<S: Planes, const R: usize>(tile: &Tile<'_>, to: &mut Results) {
    let mut largest = _mm512_setzero_ps();
    for g in 0..tile.groups {
        // SAFETY: the caller's promise. What is no number is not larger.
        largest = _mm512_max_ps(_mm512_abs_ps(unsafe { tile.scales.of(g) }), largest);
    }
    let bits = 8 - S::SHIFT;
    let number = ((1 << bits) - 1) as f32;
    let most = TOP * 32768.0 / (number * (1u32 << S::SHIFT) as f32);
    let ones = _mm512_set1_epi8(1);
    let odd = _mm512_set1_epi16((1 - (1 << bits)) << S::SHIFT);
    let none = _mm512_setzero_si512();
    let (mut acc, mut all) = ([[none; 2]; R], [none; 2]);
    let (indices, mut planes, mut positions) = (tile.indices, tile.planes, tile.positions);
    let (span, unit_bytes) = (span(tile.keep, tile.of), BLOCK * 2 * position_bits(tile.of));
    let mut unit = 0;
    for g in 0..tile.groups {
        let end = tile.units.min(unit + tile.group_units);
        // SAFETY: the caller's promise.
        let factors = unsafe { factors(tile.scales.of(g), largest, most) };
        while unit < end {
            let (own, rest) = positions.split_at(unit_bytes.min(positions.len()));
            positions = rest;
            // SAFETY: a unit of each plane; as many bytes as the mask has ones; 64 activations of each row.
            let (p, own, x): ([__m512i; 2], __m512i, [__m512i; R]) = unsafe {
                (
                    S::next(&mut planes),
                    _mm512_maskz_loadu_epi8(u64::MAX >> (64 - own.len().max(1)), own.as_ptr().cast()),
                    std::array::from_fn(|r| _mm512_loadu_si512(tile.x[r].add(unit * span).cast())),
                )
            };
            let apart = _mm512_permutexvar_epi8(indices.apart, own);
            for h in 0..2 {
                let places = _mm512_multishift_epi64_epi8(indices.shifts[h], apart);
                let places = _mm512_permutexvar_epi8(indices.lanes, places);
                let index = _mm512_ternarylogic_epi32::<0xea>(places, indices.mask, indices.first);
                let mut before = _mm512_slli_epi64::<8>(index);
                if tile.keep > 2 {
                    before = _mm512_max_epu8(before, _mm512_slli_epi64::<8>(before));
                    before = _mm512_max_epu8(before, _mm512_slli_epi64::<16>(before));
                    before = _mm512_max_epu8(before, _mm512_slli_epi64::<32>(before));
                }
                let ascends = _mm512_cmpgt_epu8_mask(index, before);
                let wide = |half: __m512i, factor: __m512i| {
                    let number = _mm512_add_epi16(_mm512_add_epi16(half, half), odd);
                    _mm512_mulhrs_epi16(number, factor)
                };
                let even = wide(_mm512_unpacklo_epi8(p[h], none), factors[h][0]);
                let uneven = wide(_mm512_unpackhi_epi8(p[h], none), factors[h][1]);
                let c = _mm512_maskz_packs_epi16(ascends, even, uneven);
                all[h] = _mm512_dpbusd_epi32(all[h], ones, c);
                for (acc, x) in acc.iter_mut().zip(x) {
                    acc[h] = _mm512_dpbusd_epi32(acc[h], _mm512_permutexvar_epi8(index, x), c);
                }
            }
            unit += 1;
        }
    }
    let scale = _mm512_mul_ps(largest, _mm512_set1_ps(number / TOP));
    let zero = _mm512_mullo_epi32(together(all), _mm512_set1_epi32(tile.zero_point + 128));
    for (to, acc) in to.iter_mut().zip(acc) {
        let t = _mm512_cvtepi32_ps(_mm512_sub_epi32(together(acc), zero));
        // SAFETY: 16 floats.
        unsafe { _mm512_storeu_ps(to.as_mut_ptr(), _mm512_fmadd_ps(t, scale, _mm512_setzero_ps())) };
    }
}
