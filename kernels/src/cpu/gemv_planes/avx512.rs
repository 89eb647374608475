//! AVX-512 VNNI: a unit of 128 codes is two registers, 8 columns of 8 k each.
//!
//! ```text
//! for each panel, for 4 rows or 1:
//!     for each unit:     codes joined, their leading bit at bit 7: rotations bring fields there, selections put them together
//!                        one broadcast of 8 activations a row, two vpdpbusd a row: sums of even and odd fours of k lie side by side
//!     for each group:    both halves added, zero point and offset of the codes taken off, scaled
//! ```
//! A scale a column: codes are widened, multiplied by what their group's scale is of the column's largest (vpmulhrsw), and narrowed.

use std::arch::x86_64::{
    __m512, __m512i, _CMP_ORD_Q, _MM_HINT_T0, _mm_cvtsi32_si128, _mm_prefetch, _mm256_loadu_si256,
    _mm512_abs_ps, _mm512_add_epi16, _mm512_add_epi32, _mm512_and_si512, _mm512_broadcast_i64x4,
    _mm512_castsi256_si512, _mm512_cmp_ps_mask, _mm512_cvtepi32_ps, _mm512_cvtph_ps, _mm512_cvtps_epi32,
    _mm512_cvtsepi32_epi16, _mm512_div_ps, _mm512_dpbusd_epi32, _mm512_fmadd_ps, _mm512_loadu_ps,
    _mm512_loadu_si512, _mm512_maskz_mov_epi32, _mm512_max_ps, _mm512_mul_ps, _mm512_mulhrs_epi16,
    _mm512_mullo_epi32, _mm512_packs_epi16, _mm512_permutex2var_epi32, _mm512_permutexvar_epi16,
    _mm512_rolv_epi32, _mm512_set1_epi8, _mm512_set1_epi16, _mm512_set1_epi32, _mm512_set1_epi64,
    _mm512_set1_ps, _mm512_setr_epi32, _mm512_setzero_ps, _mm512_setzero_si512, _mm512_slli_epi16,
    _mm512_sra_epi32, _mm512_storeu_ps, _mm512_sub_epi32, _mm512_ternarylogic_epi32, _mm512_unpackhi_epi8,
    _mm512_unpacklo_epi8, _mm512_xor_si512,
};

use super::super::gemm_f32::epilogue_avx512::finish;
use super::tile::{AHEAD, ROWS, Results, Scales, Tile, each_tile};
use super::{BLOCK, Isa, MAX_PLANES, PANEL, Split, TOP, Task, Variant};

pub(super) const VARIANT: Variant =
    Variant { name: "gemv_planes_a8__avx512_vnni", isa: Isa::Avx512Vnni, most_rows: 4 * ROWS, run };

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
        match tile.split {
            Split::Two => planes::<Twos<1>>(tile, to),
            Split::TwoTwos => planes::<Twos<2>>(tile, to),
            Split::ThreeTwos => planes::<Twos<3>>(tile, to),
            Split::FourTwos => planes::<Twos<4>>(tile, to),
            Split::Four if tile.rows == 1 => by_group::<Four, 1>(tile, to),
            Split::Four => by_group::<Four, ROWS>(tile, to),
            Split::Twelve | Split::Sixteen | Split::OneFour => unreachable!("codes for other products"),
        }
    }
}

/// The kernel for the split, by the kind of scales.
///
/// # Safety
/// As for [`make`].
#[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
unsafe fn planes<S: Planes>(tile: &Tile<'_>, to: &mut Results) {
    // SAFETY: the caller's promise.
    unsafe {
        match (tile.one_scale, tile.rows) {
            (false, 1) => by_group::<S, 1>(tile, to),
            (false, _) => by_group::<S, ROWS>(tile, to),
            (true, 1) => by_column::<S, 1>(tile, to),
            (true, _) => by_column::<S, ROWS>(tile, to),
        }
    }
}

impl Scales {
    /// Those of group `g`.
    ///
    /// # Safety
    /// There is such a group.
    #[target_feature(enable = "avx512f")]
    #[inline]
    pub(super) unsafe fn of(&self, g: usize) -> __m512 {
        // SAFETY: the caller's promise.
        let stored = unsafe {
            if self.halves {
                _mm512_cvtph_ps(_mm256_loadu_si256(self.at.add(2 * PANEL * g).cast()))
            } else {
                _mm512_loadu_ps(self.at.add(4 * PANEL * g).cast())
            }
        };
        _mm512_mul_ps(_mm512_mul_ps(stored, _mm512_set1_ps(self.gain)), _mm512_set1_ps(self.step))
    }
}

/// A way to cut codes into planes.
pub(super) trait Planes {
    /// Bits below a code's last in a byte whose top is the code's.
    const SHIFT: u32;

    /// One unit's codes, their leading bits at bit 7, zeros behind them: columns 0 to 7, then 8 to 15. Moves on to the next unit.
    ///
    /// # Safety
    /// Each plane of the split has one more unit.
    unsafe fn next(planes: &mut [*const u8; MAX_PLANES]) -> [__m512i; 2];
}

/// 32 bytes of a plane of 2 bits in both halves, rotated left: those of columns 0 to 3 by `a`, of 4 to 7 by `b`. What fields a byte
/// then has of its neighbours is masked by the callers.
#[target_feature(enable = "avx512f")]
#[inline]
fn rotated(bytes: __m512i, a: i32, b: i32) -> __m512i {
    _mm512_rolv_epi32(bytes, _mm512_setr_epi32(a, a, a, a, a, a, a, a, b, b, b, b, b, b, b, b))
}

/// A unit of a plane of 2 bits, its bytes in both halves of a register. Moves on to the next unit.
///
/// # Safety
/// 32 bytes are readable.
#[target_feature(enable = "avx512f")]
#[inline]
unsafe fn twos(plane: &mut *const u8) -> __m512i {
    // SAFETY: the caller's promise.
    let bytes = unsafe { _mm256_loadu_si256(plane.cast()) };
    _mm_prefetch::<_MM_HINT_T0>(plane.wrapping_add(AHEAD).cast());
    *plane = plane.wrapping_add(32);
    _mm512_broadcast_i64x4(bytes)
}

/// Bits of `a` where the mask has ones, of `b` elsewhere.
#[target_feature(enable = "avx512f")]
#[inline]
pub(super) fn select(mask: u8, a: __m512i, b: __m512i) -> __m512i {
    _mm512_ternarylogic_epi32::<0xca>(_mm512_set1_epi8(mask as i8), a, b)
}

/// A unit of a plane of 2 bits, its fields brought to bits 6 and 7: of columns 0 to 7, and of 8 to 15. Moves on to the next unit.
///
/// # Safety
/// 32 bytes are readable.
#[target_feature(enable = "avx512f")]
#[inline]
unsafe fn first(plane: &mut *const u8) -> [__m512i; 2] {
    // SAFETY: the caller's promise.
    let bytes = unsafe { twos(plane) };
    [rotated(bytes, 6, 4), rotated(bytes, 2, 0)]
}

/// A unit of the next plane behind codes that end at the mask: its fields by so much to the left. Moves on to the next unit.
///
/// # Safety
/// 32 bytes are readable.
#[target_feature(enable = "avx512f")]
#[inline]
unsafe fn behind(codes: [__m512i; 2], mask: u8, plane: &mut *const u8, by: [i32; 4]) -> [__m512i; 2] {
    // SAFETY: the caller's promise.
    let bytes = unsafe { twos(plane) };
    let [a, b, c, d] = by;
    [select(mask, codes[0], rotated(bytes, a, b)), select(mask, codes[1], rotated(bytes, c, d))]
}

/// `N` planes of 2 bits.
pub(super) struct Twos<const N: usize>;

impl<const N: usize> Planes for Twos<N> {
    const SHIFT: u32 = 8 - 2 * N as u32;

    #[target_feature(enable = "avx512f,avx512bw")]
    #[inline]
    unsafe fn next(planes: &mut [*const u8; MAX_PLANES]) -> [__m512i; 2] {
        // SAFETY: the caller's promise.
        unsafe {
            let mut codes = first(&mut planes[0]);
            if N > 1 {
                codes = behind(codes, 0xc0, &mut planes[1], [4, 2, 0, 30]);
            }
            if N > 2 {
                codes = behind(codes, 0xf0, &mut planes[2], [2, 0, 30, 28]);
            }
            if N > 3 {
                return behind(codes, 0xfc, &mut planes[3], [0, 30, 28, 26]);
            }
            codes.map(|v| _mm512_and_si512(v, _mm512_set1_epi8((0xffu8 << Self::SHIFT) as i8)))
        }
    }
}

/// A unit of a plane of 4 bits: fields of columns 0 to 7 at bits 0 to 3 of the first, of 8 to 15 at bits 4 to 7 of the second.
///
/// # Safety
/// 64 bytes are readable.
#[target_feature(enable = "avx512f")]
#[inline]
pub(super) unsafe fn fours(plane: &mut *const u8) -> [__m512i; 2] {
    // SAFETY: the caller's promise.
    let bytes = unsafe { _mm512_loadu_si512(plane.cast()) };
    _mm_prefetch::<_MM_HINT_T0>(plane.wrapping_add(AHEAD).cast());
    *plane = plane.wrapping_add(64);
    [bytes, bytes]
}

pub(super) struct Four;

impl Planes for Four {
    const SHIFT: u32 = 4;

    #[target_feature(enable = "avx512f,avx512bw")]
    #[inline]
    unsafe fn next(planes: &mut [*const u8; MAX_PLANES]) -> [__m512i; 2] {
        // SAFETY: the caller's promise.
        let [low, top] = unsafe { fours(&mut planes[0]) };
        [_mm512_slli_epi16::<4>(low), top].map(|v| _mm512_and_si512(v, _mm512_set1_epi8(0xf0u8 as i8)))
    }
}

/// Sums of 16 columns, those of even and odd fours of k side by side in `halves`.
#[target_feature(enable = "avx512f")]
#[inline]
pub(super) fn together(halves: [__m512i; 2]) -> __m512i {
    let even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    let odd = _mm512_add_epi32(even, _mm512_set1_epi32(1));
    _mm512_add_epi32(
        _mm512_permutex2var_epi32(halves[0], even, halves[1]),
        _mm512_permutex2var_epi32(halves[0], odd, halves[1]),
    )
}

/// Results with a scale a group.
///
/// # Safety
/// As for [`make`].
#[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline(never)]
unsafe fn by_group<S: Planes, const R: usize>(tile: &Tile<'_>, to: &mut Results) {
    let mut total = [_mm512_setzero_ps(); R];
    let mut planes = tile.planes;
    let bits = 8 - S::SHIFT;
    let ones = _mm512_set1_epi8(1);
    let mut unit = 0;
    for g in 0..tile.groups {
        let end = tile.units.min(unit + tile.group_units);
        let (mut acc, mut codes) = ([[_mm512_setzero_si512(); 2]; R], [_mm512_setzero_si512(); 2]);
        while unit < end {
            // SAFETY: the caller's promise: a unit of each plane, and 8 activations of each row; every pattern is an i64.
            let (p, x): ([__m512i; 2], [i64; R]) = unsafe {
                (
                    S::next(&mut planes),
                    std::array::from_fn(|r| tile.x[r].add(unit * BLOCK).cast::<i64>().read_unaligned()),
                )
            };
            for h in 0..2 {
                codes[h] = _mm512_dpbusd_epi32(codes[h], p[h], ones);
                for (acc, x) in acc.iter_mut().zip(x) {
                    acc[h] = _mm512_dpbusd_epi32(acc[h], p[h], _mm512_set1_epi64(x));
                }
            }
            unit += 1;
        }
        // SAFETY: the caller's promise.
        let scale = unsafe { tile.scales.of(g) };
        let zero = _mm512_mullo_epi32(together(codes), _mm512_set1_epi32(tile.zero_point));
        for (r, (total, acc)) in total.iter_mut().zip(acc).enumerate() {
            let offset = (tile.odd - (1 << bits)) * tile.rest(g, r);
            // Twice the sum of products with `p`, whose multiples of `2^SHIFT` are what was added up.
            let sum = _mm512_sub_epi32(together(acc), zero);
            let sum = match S::SHIFT {
                0 => _mm512_add_epi32(sum, sum),
                shift => _mm512_sra_epi32(sum, _mm_cvtsi32_si128(shift as i32 - 1)),
            };
            let t = _mm512_cvtepi32_ps(_mm512_add_epi32(sum, _mm512_set1_epi32(offset)));
            *total = _mm512_fmadd_ps(t, scale, *total);
        }
    }
    for (to, total) in to.iter_mut().zip(total) {
        // SAFETY: 16 floats.
        unsafe { _mm512_storeu_ps(to.as_mut_ptr(), total) };
    }
}

/// Results with a scale a column.
///
/// # Safety
/// As for [`make`].
#[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline(never)]
unsafe fn by_column<S: Planes, const R: usize>(tile: &Tile<'_>, to: &mut Results) {
    let mut largest = _mm512_setzero_ps();
    for g in 0..tile.groups {
        // SAFETY: the caller's promise. What is no number is not larger.
        largest = _mm512_max_ps(_mm512_abs_ps(unsafe { tile.scales.of(g) }), largest);
    }
    let bits = 8 - S::SHIFT;
    let number = ((1 << bits) - 1) as f32;
    let most = TOP * 32768.0 / (number * (1u32 << S::SHIFT) as f32);
    let (ones, sign) = (_mm512_set1_epi8(1), _mm512_set1_epi8(-128));
    // A code of 8 bits less half of what they can be, twice: the number that it stands for, in place.
    let odd = _mm512_set1_epi16((1 - (1 << bits)) << S::SHIFT);
    let (mut acc, mut sums) = ([[_mm512_setzero_si512(); 2]; R], [_mm512_setzero_si512(); 2]);
    let mut planes = tile.planes;
    let mut unit = 0;
    for g in 0..tile.groups {
        let end = tile.units.min(unit + tile.group_units);
        // SAFETY: the caller's promise.
        let factors = unsafe { factors(tile.scales.of(g), largest, most) };
        while unit < end {
            // SAFETY: as in `by_group`.
            let (p, x): ([__m512i; 2], [i64; R]) = unsafe {
                (
                    S::next(&mut planes),
                    std::array::from_fn(|r| tile.x[r].add(unit * BLOCK).cast::<i64>().read_unaligned()),
                )
            };
            // Past K nothing is added, whatever the padding stands for.
            let valid = tile.valid(unit);
            let x = x.map(|x| _mm512_xor_si512(_mm512_set1_epi64(x), sign));
            for h in 0..2 {
                let wide = |half: __m512i, factor: __m512i| {
                    let number = _mm512_add_epi16(_mm512_add_epi16(half, half), odd);
                    _mm512_mulhrs_epi16(number, factor)
                };
                let zero = _mm512_setzero_si512();
                let even = wide(_mm512_unpacklo_epi8(p[h], zero), factors[h][0]);
                let uneven = wide(_mm512_unpackhi_epi8(p[h], zero), factors[h][1]);
                let c = _mm512_and_si512(_mm512_packs_epi16(even, uneven), _mm512_set1_epi64(valid));
                sums[h] = _mm512_dpbusd_epi32(sums[h], ones, c);
                for (acc, x) in acc.iter_mut().zip(x) {
                    acc[h] = _mm512_dpbusd_epi32(acc[h], x, c);
                }
            }
            unit += 1;
        }
    }
    let scale = _mm512_mul_ps(largest, _mm512_set1_ps(number / TOP));
    let zero = _mm512_mullo_epi32(together(sums), _mm512_set1_epi32(tile.zero_point + 128));
    for (to, acc) in to.iter_mut().zip(acc) {
        let t = _mm512_cvtepi32_ps(_mm512_sub_epi32(together(acc), zero));
        // SAFETY: 16 floats.
        unsafe { _mm512_storeu_ps(to.as_mut_ptr(), _mm512_fmadd_ps(t, scale, _mm512_setzero_ps())) };
    }
}

/// What each column's scale is of its largest, in units of `most`: rounded, 0 for what is no number. For columns 0 to 7 and 8 to 15, of
/// each the even ones and the odd ones, each for 8 k.
#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
pub(super) fn factors(scale: __m512, largest: __m512, most: f32) -> [[__m512i; 2]; 2] {
    let factor = _mm512_mul_ps(_mm512_div_ps(scale, largest), _mm512_set1_ps(most));
    let number = _mm512_cmp_ps_mask::<_CMP_ORD_Q>(factor, factor);
    let rounded = _mm512_maskz_mov_epi32(number, _mm512_cvtps_epi32(factor));
    let all = _mm512_castsi256_si512(_mm512_cvtsepi32_epi16(rounded));
    let spread = |first: i16| {
        let pair = |column: i16| i32::from(column) * 0x1_0001;
        let [a, b, c, d] = [0, 2, 4, 6].map(|i| pair(first + i));
        let index = _mm512_setr_epi32(a, a, a, a, b, b, b, b, c, c, c, c, d, d, d, d);
        _mm512_permutexvar_epi16(index, all)
    };
    [[spread(0), spread(1)], [spread(8), spread(9)]]
}
