//! AVX2: a quarter of a unit, 4 columns of 8 k, is one register.
//!
//! ```text
//! for each panel, for each row, for each group, for the first and the last two quarters:
//!     for each unit:     codes as nibbles, for codes of more than 4 bits two; products with them are summed in pairs of i16, which
//!                        holds for 8 units: 15 * 128 * 2 * 8 < 2^15; sums of the codes by vpsadbw
//!     the pairs added
//! for each group:        zero point and offset of the codes taken off, scaled
//! ```
//! A scale a column: codes are widened, multiplied by what their group's scale is of the column's largest (vpmulhrsw), and narrowed;
//! `|x|` times `c` with the sign of `x` does not saturate: no `|c|` passes 127, and `2 * 128 * 127 < 2^15`.

use std::arch::x86_64::{
    __m256i, _MM_HINT_T0, _mm_loadu_si128, _mm_prefetch, _mm_set1_epi16, _mm256_abs_epi8, _mm256_add_epi16,
    _mm256_add_epi32, _mm256_and_si256, _mm256_cvtph_ps, _mm256_hadd_epi32, _mm256_loadu_ps,
    _mm256_loadu_si256, _mm256_madd_epi16, _mm256_maddubs_epi16, _mm256_mul_ps, _mm256_mulhrs_epi16,
    _mm256_or_si256, _mm256_packs_epi16, _mm256_permute4x64_epi64, _mm256_sad_epu8, _mm256_set_m128i,
    _mm256_set1_epi8, _mm256_set1_epi16, _mm256_set1_epi32, _mm256_set1_epi64x, _mm256_set1_ps,
    _mm256_setzero_si256, _mm256_sign_epi8, _mm256_slli_epi16, _mm256_srli_epi16, _mm256_srlv_epi32,
    _mm256_storeu_ps, _mm256_storeu_si256, _mm256_unpackhi_epi8, _mm256_unpacklo_epi8,
};

use super::super::gemm_f32::epilogue_avx2::finish;
use super::super::planes::avx2::factors;
use super::tile::{AHEAD, Results, Scales, Tile, each_tile};
use super::{BLOCK, Isa, MAX_PLANES, PANEL, Split, TOP, Task, Variant};

pub(super) const VARIANT: Variant =
    Variant { name: "gemv_planes_a8__avx2", isa: Isa::Avx2, most_rows: 12, run };

/// Columns of two registers.
const HALF: usize = 8;
/// Units whose sums of products fit 16 bits.
const UNITS: usize = 8;

#[target_feature(enable = "avx2,fma,f16c")]
fn run(task: &mut Task<'_>) {
    // SAFETY: this function is called where the CPU has them all.
    unsafe { each_tile(task, 1, make, finish) }
}

/// Makes the results of a tile by the kernel for the split and so many rows.
///
/// # Safety
/// The tile is one of [`each_tile`].
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn make(tile: &Tile<'_>, to: &mut Results) {
    // SAFETY: the caller's promise.
    unsafe {
        match tile.split {
            Split::Two => planes::<Twos<1>>(tile, to),
            Split::TwoTwos => planes::<Twos<2>>(tile, to),
            Split::ThreeTwos => planes::<Twos<3>>(tile, to),
            Split::FourTwos => planes::<Twos<4>>(tile, to),
            Split::Four => by_group::<Four>(tile, &mut to[0]),
            Split::Twelve | Split::Sixteen | Split::OneFour => unreachable!("codes for other products"),
        }
    }
}

/// The kernel for the split, by the kind of scales.
///
/// # Safety
/// As for [`make`].
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
unsafe fn planes<S: Planes>(tile: &Tile<'_>, to: &mut Results) {
    // SAFETY: the caller's promise.
    unsafe { if tile.one_scale { by_column::<S>(tile, &mut to[0]) } else { by_group::<S>(tile, &mut to[0]) } }
}

/// The scales of group `g`.
///
/// # Safety
/// There is such a group.
#[target_feature(enable = "avx2,fma,f16c")]
#[inline]
unsafe fn scales_of(scales: &Scales, g: usize) -> [f32; PANEL] {
    let mut out = [0.0; PANEL];
    for half in [0, PANEL / 2] {
        // SAFETY: the caller's promise, 8 of 16 scales; 8 of 16 floats.
        unsafe {
            let at = g * PANEL + half;
            let stored = match scales.halves {
                true => _mm256_cvtph_ps(_mm_loadu_si128(scales.at.add(2 * at).cast())),
                false => _mm256_loadu_ps(scales.at.add(4 * at).cast()),
            };
            let steps = _mm256_mul_ps(
                _mm256_mul_ps(stored, _mm256_set1_ps(scales.gain)),
                _mm256_set1_ps(scales.step),
            );
            _mm256_storeu_ps(out.as_mut_ptr().add(half), steps);
        }
    }
    out
}

/// A way to cut codes into planes.
trait Planes {
    const BITS: u32;
    /// Bits of a code behind its first 4.
    const LAST: u32 = Self::BITS.saturating_sub(4);

    /// The codes of two quarters of a unit, the first two (`shift` 0) or the last two (`shift` 4): of each the leading 4 bits or all,
    /// and those behind them.
    ///
    /// # Safety
    /// Each plane of the split has such a unit.
    unsafe fn half(planes: &[*const u8; MAX_PLANES], unit: usize, shift: __m256i) -> [[__m256i; 2]; 2];
}

/// A unit of a plane of 2 bits, shifted; the fields of the first of two quarters are at bits 0 and 1, of the second at 2 and 3.
///
/// # Safety
/// The plane has such a unit.
#[target_feature(enable = "avx2")]
#[inline]
unsafe fn twos(plane: *const u8, unit: usize, shift: __m256i) -> __m256i {
    let at = plane.wrapping_add(unit * 32);
    _mm_prefetch::<_MM_HINT_T0>(at.wrapping_add(AHEAD).cast());
    // SAFETY: the caller's promise.
    _mm256_srlv_epi32(unsafe { _mm256_loadu_si256(at.cast()) }, shift)
}

/// Two quarters of a unit of a plane of 4 bits.
///
/// # Safety
/// The plane has such a unit.
#[target_feature(enable = "avx2")]
#[inline]
unsafe fn fours(plane: *const u8, unit: usize, shift: __m256i) -> [__m256i; 2] {
    let at = plane.wrapping_add(unit * 64);
    _mm_prefetch::<_MM_HINT_T0>(at.wrapping_add(AHEAD).cast());
    // SAFETY: the caller's promise.
    let bytes = unsafe { [_mm256_loadu_si256(at.cast()), _mm256_loadu_si256(at.add(32).cast())] };
    bytes.map(|v| _mm256_and_si256(_mm256_srlv_epi32(v, shift), _mm256_set1_epi8(15)))
}

/// Two quarters of a unit of a plane of 2 bits.
///
/// # Safety
/// The plane has such a unit.
#[target_feature(enable = "avx2")]
#[inline]
unsafe fn two(plane: *const u8, unit: usize, shift: __m256i) -> [__m256i; 2] {
    // SAFETY: the caller's promise.
    let a = unsafe { twos(plane, unit, shift) };
    let three = _mm256_set1_epi8(3);
    [_mm256_and_si256(a, three), _mm256_and_si256(_mm256_srli_epi16::<2>(a), three)]
}

/// Two quarters of a unit of two planes of 2 bits.
///
/// # Safety
/// The planes have such a unit.
#[target_feature(enable = "avx2")]
#[inline]
unsafe fn two_twos(planes: &[*const u8], unit: usize, shift: __m256i) -> [__m256i; 2] {
    // SAFETY: the caller's promise.
    let (a, b) = unsafe { (twos(planes[0], unit, shift), twos(planes[1], unit, shift)) };
    let (three, twelve) = (_mm256_set1_epi8(3), _mm256_set1_epi8(12));
    let both = |a, b| _mm256_or_si256(_mm256_and_si256(a, twelve), _mm256_and_si256(b, three));
    [both(_mm256_slli_epi16::<2>(a), b), both(a, _mm256_srli_epi16::<2>(b))]
}

/// `N` planes of 2 bits.
struct Twos<const N: usize>;

impl<const N: usize> Planes for Twos<N> {
    const BITS: u32 = 2 * N as u32;

    #[target_feature(enable = "avx2")]
    #[inline]
    unsafe fn half(planes: &[*const u8; MAX_PLANES], unit: usize, shift: __m256i) -> [[__m256i; 2]; 2] {
        // SAFETY: the caller's promise.
        let (lead, last) = unsafe {
            let lead = match N {
                1 => two(planes[0], unit, shift),
                _ => two_twos(planes, unit, shift),
            };
            let last = match N {
                3 => two(planes[2], unit, shift),
                4 => two_twos(&planes[2..], unit, shift),
                _ => [_mm256_setzero_si256(); 2],
            };
            (lead, last)
        };
        [[lead[0], last[0]], [lead[1], last[1]]]
    }
}

struct Four;

impl Planes for Four {
    const BITS: u32 = 4;

    #[target_feature(enable = "avx2")]
    #[inline]
    unsafe fn half(planes: &[*const u8; MAX_PLANES], unit: usize, shift: __m256i) -> [[__m256i; 2]; 2] {
        // SAFETY: the caller's promise.
        unsafe { fours(planes[0], unit, shift) }.map(|high| [high, _mm256_setzero_si256()])
    }
}

/// The 8 activations of a unit, four times.
///
/// # Safety
/// There is such a unit.
#[target_feature(enable = "avx2")]
#[inline]
unsafe fn activations(tile: &Tile<'_>, unit: usize) -> __m256i {
    // SAFETY: the caller's promise; every pattern is an i64.
    _mm256_set1_epi64x(unsafe { tile.x[0].add(unit * BLOCK).cast::<i64>().read_unaligned() })
}

/// Sums of two quarters, two parts of each side by side.
#[target_feature(enable = "avx2")]
#[inline]
fn together([a, b]: [__m256i; 2], to: &mut [i32; PANEL], half: usize) {
    // Columns 0 1 4 5 | 2 3 6 7.
    let sums = _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_hadd_epi32(a, b));
    // SAFETY: 8 of 8 integers.
    unsafe { _mm256_storeu_si256(to[half * HALF..][..HALF].as_mut_ptr().cast(), sums) };
}

/// Results with a scale a group.
///
/// # Safety
/// As for [`make`].
#[target_feature(enable = "avx2,fma,f16c")]
#[inline(never)]
unsafe fn by_group<S: Planes>(tile: &Tile<'_>, to: &mut [f32; PANEL]) {
    let wide = S::LAST > 0;
    let none = _mm256_setzero_si256();
    // What the leading bits count in sums.
    let high = _mm256_set1_epi16(1 << S::LAST);
    let mut total = [0.0f32; PANEL];
    let mut first = 0;
    for g in 0..tile.groups {
        let end = tile.units.min(first + tile.group_units);
        let (mut dots, mut codes) = ([0i32; PANEL], [0i32; PANEL]);
        for half in 0..2 {
            let shift = _mm256_set1_epi32(4 * half as i32);
            let (mut acc, mut longs) = ([none; 2], [none; 2]);
            let mut unit = first;
            while unit < end {
                let stop = end.min(unit + UNITS);
                let mut pairs = [[none; 2]; 2];
                while unit < stop {
                    // SAFETY: the caller's promise: a unit of each plane, and of activations.
                    let (quarters, x) =
                        unsafe { (S::half(&tile.planes, unit, shift), activations(tile, unit)) };
                    for i in 0..2 {
                        let [lead, last] = quarters[i];
                        pairs[i][0] = _mm256_add_epi16(pairs[i][0], _mm256_maddubs_epi16(lead, x));
                        let mut all = lead;
                        if wide {
                            pairs[i][1] = _mm256_add_epi16(pairs[i][1], _mm256_maddubs_epi16(last, x));
                            let up = match S::LAST {
                                2 => _mm256_slli_epi16::<2>(lead),
                                _ => _mm256_slli_epi16::<4>(lead),
                            };
                            all = _mm256_or_si256(up, last);
                        }
                        longs[i] = _mm256_add_epi32(longs[i], _mm256_sad_epu8(all, none));
                    }
                    unit += 1;
                }
                for (acc, [lead, last]) in acc.iter_mut().zip(pairs) {
                    *acc = _mm256_add_epi32(*acc, _mm256_madd_epi16(lead, high));
                    if wide {
                        *acc = _mm256_add_epi32(*acc, _mm256_madd_epi16(last, _mm256_set1_epi16(1)));
                    }
                }
            }
            together(acc, &mut dots, half);
            together(longs, &mut codes, half);
        }
        // SAFETY: the caller's promise.
        let scales = unsafe { scales_of(&tile.scales, g) };
        let offset = (tile.odd - (1 << S::BITS)) * tile.rest(g, 0);
        for lane in 0..PANEL {
            let zero = codes[lane].wrapping_mul(tile.zero_point);
            let t = dots[lane].wrapping_sub(zero).wrapping_mul(2).wrapping_add(offset);
            total[lane] = (t as f32).mul_add(scales[lane], total[lane]);
        }
        first = end;
    }
    *to = total;
}

/// Results with a scale a column.
///
/// # Safety
/// As for [`make`].
#[target_feature(enable = "avx2,fma,f16c")]
#[inline(never)]
unsafe fn by_column<S: Planes>(tile: &Tile<'_>, to: &mut [f32; PANEL]) {
    let mut largest = [0.0f32; PANEL];
    for g in 0..tile.groups {
        // SAFETY: the caller's promise.
        let scales = unsafe { scales_of(&tile.scales, g) };
        for (largest, scale) in largest.iter_mut().zip(scales) {
            // What is no number is not larger.
            *largest = if scale.abs() > *largest { scale.abs() } else { *largest };
        }
    }
    let (bits, shift) = (S::BITS, 8 - S::BITS);
    let number = ((1 << bits) - 1) as f32;
    let most = TOP * 32768.0 / (number * (1u32 << shift) as f32);
    let (none, ones) = (_mm256_setzero_si256(), _mm256_set1_epi16(1));
    // Twice a code at the top of 8 bits, less this: the number that it stands for, in place.
    let odd = _mm256_set1_epi16((1 - (1 << bits)) << shift);
    let (mut dots, mut codes) = ([0i32; PANEL], [0i32; PANEL]);
    for half in 0..2 {
        let by = _mm256_set1_epi32(4 * half as i32);
        let (mut acc, mut sums) = ([none; 2], [none; 2]);
        let mut unit = 0;
        for g in 0..tile.groups {
            let end = tile.units.min(unit + tile.group_units);
            // SAFETY: the caller's promise.
            let factors = factors(most, &unsafe { scales_of(&tile.scales, g) }, &largest);
            // Of each quarter the even columns and the odd ones, each for 8 k.
            let mut spread = [[none; 2]; 2];
            for (i, spread) in spread.as_flattened_mut().iter_mut().enumerate() {
                let of = |column: usize| _mm_set1_epi16(factors[half * HALF + i / 2 * 4 + i % 2 + column]);
                *spread = _mm256_set_m128i(of(2), of(0));
            }
            while unit < end {
                // SAFETY: the caller's promise: a unit of each plane, and of activations.
                let (quarters, x) = unsafe { (S::half(&tile.planes, unit, by), activations(tile, unit)) };
                // Past K nothing is added, whatever the padding stands for.
                let valid = _mm256_set1_epi64x(tile.valid(unit));
                for i in 0..2 {
                    let [lead, last] = quarters[i];
                    let top = match bits {
                        2 => _mm256_slli_epi16::<6>(lead),
                        4 => _mm256_slli_epi16::<4>(lead),
                        6 => _mm256_or_si256(_mm256_slli_epi16::<4>(lead), _mm256_slli_epi16::<2>(last)),
                        _ => _mm256_or_si256(_mm256_slli_epi16::<4>(lead), last),
                    };
                    let rounded = |half: __m256i, factor: __m256i| {
                        _mm256_mulhrs_epi16(_mm256_add_epi16(_mm256_slli_epi16::<1>(half), odd), factor)
                    };
                    let even = rounded(_mm256_unpacklo_epi8(top, none), spread[i][0]);
                    let uneven = rounded(_mm256_unpackhi_epi8(top, none), spread[i][1]);
                    let c = _mm256_and_si256(_mm256_packs_epi16(even, uneven), valid);
                    let pairs = _mm256_maddubs_epi16(_mm256_set1_epi8(1), c);
                    sums[i] = _mm256_add_epi32(sums[i], _mm256_madd_epi16(pairs, ones));
                    // An x of -128 has a magnitude of 128, which is unsigned; no c is -128.
                    let pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(x), _mm256_sign_epi8(c, x));
                    acc[i] = _mm256_add_epi32(acc[i], _mm256_madd_epi16(pairs, ones));
                }
                unit += 1;
            }
        }
        together(acc, &mut dots, half);
        together(sums, &mut codes, half);
    }
    for lane in 0..PANEL {
        let t = dots[lane].wrapping_sub(codes[lane].wrapping_mul(tile.zero_point));
        to[lane] = (t as f32).mul_add(largest[lane] * (number / TOP), 0.0);
    }
}
