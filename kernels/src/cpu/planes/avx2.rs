//! AVX2: a unit of 128 codes is 4 vectors of bytes.
//!
//! ```text
//! for each unit:
//!     for each plane:    a vector of its bytes, shifted and masked, is 32 consecutive codes' bits;
//!                        codes = codes << w | bits         (bytes; above 8 bits a low and a high byte)
//!     i8:                codes - 2^(b-1)
//!     f32:               [16][8] bytes transposed to [8][16], widened, f32(p) * 2 + offset, times scale
//! ```
//! Planes of 2, 2, 2, 2, 4 and 4 bits and what they start with have loops compiled for them.

use std::arch::x86_64::{
    __m256i, _CMP_ORD_Q, _mm_cvtsi32_si128, _mm_loadl_epi64, _mm_loadu_si128, _mm_set1_epi16,
    _mm256_add_epi16, _mm256_add_epi32, _mm256_and_si256, _mm256_broadcastsi128_si256, _mm256_castps_si256,
    _mm256_cmp_ps, _mm256_cvtepi8_epi16, _mm256_cvtepi32_ps, _mm256_cvtepu8_epi32, _mm256_cvtepu16_epi32,
    _mm256_cvtps_epi32, _mm256_div_ps, _mm256_fmadd_ps, _mm256_hadd_epi32, _mm256_loadu_ps,
    _mm256_loadu_si256, _mm256_madd_epi16, _mm256_maddubs_epi16, _mm256_mul_ps, _mm256_mulhrs_epi16,
    _mm256_or_si256, _mm256_packs_epi16, _mm256_packs_epi32, _mm256_permute2x128_si256,
    _mm256_permute4x64_epi64, _mm256_set_epi32, _mm256_set_m128i, _mm256_set1_epi8, _mm256_set1_epi16,
    _mm256_set1_ps, _mm256_setr_epi8, _mm256_setzero_si256, _mm256_shuffle_epi8, _mm256_sll_epi16,
    _mm256_slli_epi16, _mm256_srli_epi16, _mm256_srlv_epi32, _mm256_storeu_ps, _mm256_storeu_si256,
    _mm256_sub_epi8, _mm256_unpackhi_epi8, _mm256_unpackhi_epi16, _mm256_unpackhi_epi32,
    _mm256_unpacklo_epi8, _mm256_unpacklo_epi16, _mm256_unpacklo_epi32,
};

use super::columns_avx2::{columns_f32, columns_i16};
use super::{Isa, PANEL, Plane, Rounding, Scales, UNIT, Variant, total_bits};

pub(super) const VARIANT: Variant = Variant {
    name: "planes__avx2",
    isa: Isa::Avx2,
    join_i8,
    join_f32,
    sums,
    round,
    columns_i16,
    columns_f32,
};

/// Bytes of a vector.
const VEC: usize = 32;

/// A unit of bytes, 4 channels of 8 k in each vector.
type Unit = [__m256i; 4];

/// Joins `[16][8]` units; `planes` has at least as many as `out`.
#[target_feature(enable = "avx2,fma")]
pub(super) fn join_i8(planes: &[Plane<'_>], out: &mut [i8]) {
    let half = _mm256_set1_epi8((1u32 << (total_bits(planes) - 1)) as u8 as i8);
    // The splits in use get a loop of their own: known shifts, codes in registers from plane to plane.
    match *planes {
        [Plane { bits: 8, .. }] => units(out, half, |unit| plane_unit::<8>(&planes[0], unit)),
        [Plane { bits: 2, .. }] => units(out, half, |unit| plane_unit::<2>(&planes[0], unit)),
        [Plane { bits: 2, .. }, Plane { bits: 2, .. }] => {
            units(out, half, |unit| four(planes, unit));
        }
        [Plane { bits: 2, .. }, Plane { bits: 2, .. }, Plane { bits: 2, .. }] => {
            units(out, half, |unit| append::<2>(four(planes, unit), &planes[2], unit));
        }
        [Plane { bits: 2, .. }, Plane { bits: 2, .. }, Plane { bits: 2, .. }, Plane { bits: 2, .. }] => {
            units(out, half, |unit| eight(planes, unit));
        }
        _ => units(out, half, |unit| narrow(planes, unit)),
    }
}

/// Stores `codes(unit) - half` for every unit.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn units(out: &mut [i8], half: __m256i, codes: impl Fn(usize) -> Unit) {
    for (unit, out) in out.as_chunks_mut::<UNIT>().0.iter_mut().enumerate() {
        for (out, code) in out.as_chunks_mut::<VEC>().0.iter_mut().zip(codes(unit)) {
            // SAFETY: 32 of 32 bytes.
            unsafe { _mm256_storeu_si256(out.as_mut_ptr().cast(), _mm256_sub_epi8(code, half)) };
        }
    }
}

/// `out`: `[units][8][16]`; `planes` and `scales` reach as far.
#[target_feature(enable = "avx2,fma")]
fn join_f32(planes: &[Plane<'_>], scales: &Scales<'_>, out: &mut [f32]) {
    let zero = [_mm256_setzero_si256(); 4];
    match *planes {
        [Plane { bits: 2, .. }] => {
            reals::<2, false>(scales, out, |unit| [zero, plane_unit::<2>(&planes[0], unit)]);
        }
        [Plane { bits: 2, .. }, Plane { bits: 2, .. }] => {
            reals::<4, false>(scales, out, |unit| [zero, four(planes, unit)]);
        }
        [Plane { bits: 2, .. }, Plane { bits: 2, .. }, Plane { bits: 2, .. }] => {
            let codes = |unit| [zero, append::<2>(four(planes, unit), &planes[2], unit)];
            reals::<6, false>(scales, out, codes);
        }
        [Plane { bits: 2, .. }, Plane { bits: 2, .. }, Plane { bits: 2, .. }, Plane { bits: 2, .. }] => {
            reals::<8, false>(scales, out, |unit| [zero, eight(planes, unit)]);
        }
        [
            Plane { bits: 2, .. },
            Plane { bits: 2, .. },
            Plane { bits: 2, .. },
            Plane { bits: 2, .. },
            Plane { bits: 4, .. },
        ] => {
            let codes = |unit| push::<4, 4>(zero, eight(planes, unit), plane_unit::<4>(&planes[4], unit));
            reals::<12, true>(scales, out, codes);
        }
        [
            Plane { bits: 2, .. },
            Plane { bits: 2, .. },
            Plane { bits: 2, .. },
            Plane { bits: 2, .. },
            Plane { bits: 4, .. },
            Plane { bits: 4, .. },
        ] => {
            let low = |unit| append::<4>(plane_unit::<4>(&planes[4], unit), &planes[5], unit);
            reals::<16, true>(scales, out, |unit| [eight(planes, unit), low(unit)]);
        }
        _ => {
            let bits = total_bits(planes);
            match bits {
                ..=8 => any_reals::<false>(bits, scales, out, |unit| [zero, narrow(planes, unit)]),
                _ => any_reals::<true>(bits, scales, out, |unit| wide(planes, unit)),
            }
        }
    }
}

#[inline]
#[target_feature(enable = "avx2,fma")]
fn reals<const BITS: u32, const WIDE: bool>(
    scales: &Scales<'_>,
    out: &mut [f32],
    codes: impl Fn(usize) -> [Unit; 2],
) {
    any_reals::<WIDE>(BITS, scales, out, codes);
}

/// The reals of the codes with high and low bytes `codes(unit)`; only low ones unless `WIDE`.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn any_reals<const WIDE: bool>(
    bits: u32,
    scales: &Scales<'_>,
    out: &mut [f32],
    codes: impl Fn(usize) -> [Unit; 2],
) {
    let two = _mm256_set1_ps(2.0);
    // Through memory: a load that widens is cheaper than a lane extract and a widening shuffle.
    let mut bytes = [0u8; 2 * UNIT];
    let runs = out.chunks_mut(scales.units.saturating_mul(UNIT)).zip(scales.scales);
    let mut unit = 0;
    for (group, (run, lanes)) in runs.enumerate() {
        let offsets = scales.offsets(group, bits);
        // SAFETY: 8 of 16 floats at offsets 0 and 8.
        let (scales, offsets) = unsafe {
            let halves = |x: &[f32; PANEL]| [_mm256_loadu_ps(x.as_ptr()), _mm256_loadu_ps(x.as_ptr().add(8))];
            (halves(lanes), halves(&offsets))
        };
        for out in run.as_chunks_mut::<UNIT>().0 {
            let [high, low] = codes(unit);
            spread::<WIDE>(high, low, &mut bytes);
            for (k, out) in out.as_chunks_mut::<PANEL>().0.iter_mut().enumerate() {
                for (half, scale) in scales.into_iter().enumerate() {
                    // SAFETY: 8 of 128 bytes or of 128 u16, at a multiple of 8 below 128; 8 of 16 floats at offset
                    // 0 or 8.
                    unsafe {
                        let p = if WIDE {
                            let at = k * VEC + half * 16;
                            _mm256_cvtepu16_epi32(_mm_loadu_si128(bytes.as_ptr().add(at).cast()))
                        } else {
                            let at = k / 2 * VEC + half * 16 + k % 2 * 8;
                            _mm256_cvtepu8_epi32(_mm_loadl_epi64(bytes.as_ptr().add(at).cast()))
                        };
                        // Exact: every term is an integer below 2^18.
                        let number = _mm256_fmadd_ps(_mm256_cvtepi32_ps(p), two, offsets[half]);
                        _mm256_storeu_ps(out.as_mut_ptr().add(half * 8), _mm256_mul_ps(number, scale));
                    }
                }
            }
            unit += 1;
        }
    }
}

/// Codes to memory, channels of one k together: bytes in the order of [`transpose`], or u16 as `[8][16]`.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn spread<const WIDE: bool>(high: Unit, low: Unit, bytes: &mut [u8; 2 * UNIT]) {
    let low = transpose(low);
    if !WIDE {
        for (vector, bytes) in low.iter().zip(bytes.as_chunks_mut::<VEC>().0) {
            // SAFETY: 32 of 32 bytes.
            unsafe { _mm256_storeu_si256(bytes.as_mut_ptr().cast(), *vector) };
        }
        return;
    }
    let high = transpose(high);
    for (j, bytes) in bytes.as_chunks_mut::<{ 2 * VEC }>().0.iter_mut().enumerate() {
        // SAFETY: 32 of 64 bytes at offsets 0 and 32.
        unsafe {
            let (even, odd) = (_mm256_unpacklo_epi8(low[j], high[j]), _mm256_unpackhi_epi8(low[j], high[j]));
            _mm256_storeu_si256(bytes.as_mut_ptr().cast(), even);
            _mm256_storeu_si256(bytes.as_mut_ptr().add(VEC).cast(), odd);
        }
    }
}

/// Codes of two planes of 2 bits.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn four(planes: &[Plane<'_>], unit: usize) -> Unit {
    append::<2>(plane_unit::<2>(&planes[0], unit), &planes[1], unit)
}

/// Codes of four planes of 2 bits.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn eight(planes: &[Plane<'_>], unit: usize) -> Unit {
    append::<2>(append::<2>(four(planes, unit), &planes[2], unit), &planes[3], unit)
}

/// `codes << W | bits of the plane`, in bytes: no bit leaves its byte when codes have at most `8 - W`.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn append<const W: u32>(mut codes: Unit, plane: &Plane<'_>, unit: usize) -> Unit {
    for (code, bits) in codes.iter_mut().zip(plane_unit::<W>(plane, unit)) {
        let up = match W {
            1 => _mm256_slli_epi16::<1>(*code),
            2 => _mm256_slli_epi16::<2>(*code),
            4 => _mm256_slli_epi16::<4>(*code),
            _ => _mm256_setzero_si256(),
        };
        *code = _mm256_or_si256(up, bits);
    }
    codes
}

/// Codes of at most 8 bits, any planes.
#[target_feature(enable = "avx2,fma")]
fn narrow(planes: &[Plane<'_>], unit: usize) -> Unit {
    let zero = [_mm256_setzero_si256(); 4];
    planes.iter().fold(zero, |codes, plane| match plane.bits {
        1 => append::<1>(codes, plane, unit),
        2 => append::<2>(codes, plane, unit),
        4 => append::<4>(codes, plane, unit),
        _ => append::<8>(codes, plane, unit),
    })
}

/// High and low bytes of codes of at most 16 bits, any planes.
#[target_feature(enable = "avx2,fma")]
fn wide(planes: &[Plane<'_>], unit: usize) -> [Unit; 2] {
    let zero = [_mm256_setzero_si256(); 4];
    planes.iter().fold([zero, zero], |[high, low], plane| match plane.bits {
        1 => push::<1, 7>(high, low, plane_unit::<1>(plane, unit)),
        2 => push::<2, 6>(high, low, plane_unit::<2>(plane, unit)),
        4 => push::<4, 4>(high, low, plane_unit::<4>(plane, unit)),
        _ => [low, plane_unit::<8>(plane, unit)],
    })
}

/// `(high, low) << W | bits` on bytes; `R` is `8 - W`.
#[target_feature(enable = "avx2,fma")]
fn push<const W: i32, const R: i32>(mut high: Unit, mut low: Unit, bits: Unit) -> [Unit; 2] {
    let keep = _mm256_set1_epi8((0xffu8 << W) as i8);
    let carry = _mm256_set1_epi8(((1u8 << W) - 1) as i8);
    let up = |x: __m256i| _mm256_and_si256(_mm256_slli_epi16::<W>(x), keep);
    for ((high, low), bits) in high.iter_mut().zip(&mut low).zip(bits) {
        let over = _mm256_and_si256(_mm256_srli_epi16::<R>(*low), carry);
        *high = _mm256_or_si256(up(*high), over);
        *low = _mm256_or_si256(up(*low), bits);
    }
    [high, low]
}

/// The bits of one unit's codes in a plane of `W` bits. The unit must lie inside the plane; one compare checks it.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn plane_unit<const W: u32>(plane: &Plane<'_>, unit: usize) -> Unit {
    let len = PANEL * W as usize;
    let bytes = &plane.bytes[unit * len..][..len];
    // SAFETY: each load below stays inside `bytes`: 16 bytes a bit of the plane.
    let load = |at: usize| unsafe { _mm256_loadu_si256(bytes.as_ptr().add(at).cast()) };
    match W {
        8 => [load(0), load(32), load(64), load(96)],
        4 => {
            let (mask, a, b) = (_mm256_set1_epi8(15), load(0), load(32));
            let (c, d) = (_mm256_srli_epi16::<4>(a), _mm256_srli_epi16::<4>(b));
            [a, b, c, d].map(|v| _mm256_and_si256(v, mask))
        }
        2 => {
            let (mask, a) = (_mm256_set1_epi8(3), load(0));
            let shifted =
                [a, _mm256_srli_epi16::<2>(a), _mm256_srli_epi16::<4>(a), _mm256_srli_epi16::<6>(a)];
            shifted.map(|v| _mm256_and_si256(v, mask))
        }
        _ => {
            // SAFETY: 16 of 16 bytes.
            let a = unsafe { _mm256_broadcastsi128_si256(_mm_loadu_si128(bytes.as_ptr().cast())) };
            // The low half takes bit 2i, the high half bit 2i + 1.
            let (mask, high) = (_mm256_set1_epi8(1), _mm256_set_epi32(1, 1, 1, 1, 0, 0, 0, 0));
            let a = _mm256_srlv_epi32(a, high);
            let shifted =
                [a, _mm256_srli_epi16::<2>(a), _mm256_srli_epi16::<4>(a), _mm256_srli_epi16::<6>(a)];
            shifted.map(|v| _mm256_and_si256(v, mask))
        }
    }
}

/// `[16][8]` bytes to k pairs: vector `j` holds channels 0-7 of k = 2j and of 2j + 1, then channels 8-15 of both.
#[inline]
#[target_feature(enable = "avx2,fma")]
fn transpose(v: Unit) -> Unit {
    let pairs = _mm256_setr_epi8(
        0, 8, 1, 9, 2, 10, 3, 11, 4, 12, 5, 13, 6, 14, 7, 15, 0, 8, 1, 9, 2, 10, 3, 11, 4, 12, 5, 13, 6, 14,
        7, 15,
    );
    // Channels 0 1 | 8 9, then 2 3 | 10 11, 4 5 | 12 13, 6 7 | 14 15, so that halves never mix again.
    let [a, b, c, d] = [
        _mm256_permute2x128_si256::<0x20>(v[0], v[2]),
        _mm256_permute2x128_si256::<0x31>(v[0], v[2]),
        _mm256_permute2x128_si256::<0x20>(v[1], v[3]),
        _mm256_permute2x128_si256::<0x31>(v[1], v[3]),
    ]
    .map(|v| _mm256_shuffle_epi8(v, pairs));
    let (ab, cd) = (_mm256_unpacklo_epi16(a, b), _mm256_unpacklo_epi16(c, d));
    let (ab4, cd4) = (_mm256_unpackhi_epi16(a, b), _mm256_unpackhi_epi16(c, d));
    [
        _mm256_unpacklo_epi32(ab, cd),
        _mm256_unpackhi_epi32(ab, cd),
        _mm256_unpacklo_epi32(ab4, cd4),
        _mm256_unpackhi_epi32(ab4, cd4),
    ]
}

/// Sums over k of groups of `units` units `[16][8]`; the last group may be shorter.
#[target_feature(enable = "avx2,fma")]
fn sums(codes: &[i8], units: usize, out: &mut [[i32; PANEL]]) {
    let (ones8, ones16) = (_mm256_set1_epi8(1), _mm256_set1_epi16(1));
    for (codes, out) in codes.as_chunks::<UNIT>().0.chunks(units).zip(out) {
        let mut acc = [_mm256_setzero_si256(); 4];
        for unit in codes {
            for (acc, codes) in acc.iter_mut().zip(unit.as_chunks::<VEC>().0) {
                // SAFETY: 32 of 32 bytes.
                let codes = unsafe { _mm256_loadu_si256(codes.as_ptr().cast()) };
                let quads = _mm256_madd_epi16(_mm256_maddubs_epi16(ones8, codes), ones16);
                *acc = _mm256_add_epi32(*acc, quads);
            }
        }
        for (half, out) in out.as_chunks_mut::<8>().0.iter_mut().enumerate() {
            // Channels 0 1 4 5 | 2 3 6 7.
            let pairs = _mm256_hadd_epi32(acc[2 * half], acc[2 * half + 1]);
            let sums = _mm256_permute4x64_epi64::<0b11_01_10_00>(pairs);
            // SAFETY: 8 of 8 integers.
            unsafe { _mm256_storeu_si256(out.as_mut_ptr().cast(), sums) };
        }
    }
}

/// Rounds whole units: 2 channels of 8 k are 16 products, kept to 15 bits below the point and rounded by one instruction.
#[target_feature(enable = "avx2,fma")]
fn round(codes: &mut [i8], by: &Rounding, scales: &[[f32; PANEL]], largest: &[f32; PANEL]) {
    let (left, plus) = (_mm_cvtsi32_si128(by.left as i32), _mm256_set1_epi16(by.plus));
    for (codes, scales) in codes.chunks_mut(by.units * UNIT).zip(scales) {
        let factors = factors(by.most, scales, largest);
        let mut pairs = [_mm256_setzero_si256(); PANEL / 2];
        for (pair, factors) in pairs.iter_mut().zip(factors.as_chunks::<2>().0) {
            *pair = _mm256_set_m128i(_mm_set1_epi16(factors[1]), _mm_set1_epi16(factors[0]));
        }
        for unit in codes.as_chunks_mut::<UNIT>().0 {
            for (codes, factors) in unit.as_chunks_mut::<VEC>().0.iter_mut().zip(pairs.as_chunks::<2>().0) {
                // SAFETY: 32 of 32 bytes, half by half.
                let halves = unsafe {
                    let at = codes.as_ptr();
                    [_mm_loadu_si128(at.cast()), _mm_loadu_si128(at.add(16).cast())]
                };
                let [low, high] = [0, 1].map(|i| {
                    let number = _mm256_sll_epi16(_mm256_cvtepi8_epi16(halves[i]), left);
                    _mm256_mulhrs_epi16(_mm256_add_epi16(number, plus), factors[i])
                });
                // Halves come out interleaved by 8 bytes.
                let both = _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_packs_epi16(low, high));
                // SAFETY: 32 of 32 bytes.
                unsafe { _mm256_storeu_si256(codes.as_mut_ptr().cast(), both) };
            }
        }
    }
}

/// [`Rounding::factors`].
#[inline]
#[target_feature(enable = "avx2,fma")]
pub(in crate::cpu) fn factors(most: f32, scales: &[f32; PANEL], largest: &[f32; PANEL]) -> [i16; PANEL] {
    let half = |at: usize| {
        // SAFETY: 8 of 16 floats at offset 0 or 8.
        let (scale, largest) =
            unsafe { (_mm256_loadu_ps(scales.as_ptr().add(at)), _mm256_loadu_ps(largest.as_ptr().add(at))) };
        let factor = _mm256_mul_ps(_mm256_div_ps(scale, largest), _mm256_set1_ps(most));
        // To even; what is no number becomes 0, as a cast has it.
        let number = _mm256_castps_si256(_mm256_cmp_ps::<_CMP_ORD_Q>(factor, factor));
        _mm256_and_si256(_mm256_cvtps_epi32(factor), number)
    };
    let both = _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_packs_epi32(half(0), half(8)));
    let mut factors = [0; PANEL];
    // SAFETY: 32 bytes.
    unsafe { _mm256_storeu_si256(factors.as_mut_ptr().cast(), both) };
    factors
}
