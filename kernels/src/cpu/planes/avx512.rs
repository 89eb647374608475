//! AVX-512: codes of planes of 2 bits, 256 of them at a time; the others are AVX2's.
//!
//! ```text
//! bytes of four planes at the same place have four codes of four pairs of bits: a transposition of 4 x 4 pairs makes a code of each byte,
//! of two steps as any transposition: pairs, then halves of a byte, change places between registers
//! ```
//! Fewer planes are the last of four, the others zeros.

use std::arch::x86_64::{
    __m512i, _MM_HINT_T0, _mm_prefetch, _mm256_add_epi16, _mm256_and_si256, _mm256_cvtepu8_epi16,
    _mm256_loadu_si256, _mm256_set1_epi16, _mm256_slli_epi16, _mm256_storeu_si256, _mm512_castsi512_si256,
    _mm512_extracti32x4_epi32, _mm512_inserti64x4, _mm512_maskz_loadu_epi8, _mm512_set1_epi8,
    _mm512_setzero_si512, _mm512_shuffle_i64x2, _mm512_slli_epi16, _mm512_srli_epi16, _mm512_storeu_si512,
    _mm512_sub_epi8, _mm512_ternarylogic_epi32, _mm512_unpackhi_epi32, _mm512_unpackhi_epi64,
    _mm512_unpacklo_epi32, _mm512_unpacklo_epi64,
};

use super::{Isa, PANEL, Plane, UNIT, Variant, avx2, columns_avx2};

pub(super) const VARIANT: Variant =
    Variant { name: "planes__avx512", isa: Isa::Avx512, join_i8, columns_i16, ..avx2::VARIANT };

/// Bytes of a plane of two units, and of 16 columns.
const BYTES: usize = 64;

/// Bytes of a plane from a load to its prefetch: four streams that are read in pieces are not seen by the CPU in time.
const AHEAD: usize = 1024;

/// Whether there are only planes of 2 bits, of which a code has at most 8.
fn in_pairs(planes: &[Plane<'_>]) -> bool {
    planes.len() <= 4 && planes.iter().all(|plane| plane.bits == 2)
}

/// Codes of some bytes of each plane from `at` on, as many as there are: those of the first quarter of each unit, of the second, and so on.
#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
fn codes(planes: &[Plane<'_>], at: usize, count: usize) -> [__m512i; 4] {
    let mask = u64::MAX >> (BYTES - count);
    let mut all = [_mm512_setzero_si512(); 4];
    for (plane, bytes) in planes.iter().rev().zip(all.iter_mut().rev()) {
        let from = plane.bytes[at..][..count].as_ptr();
        _mm_prefetch::<_MM_HINT_T0>(from.wrapping_add(AHEAD).cast());
        // SAFETY: the mask leaves the bytes of the slice.
        *bytes = unsafe { _mm512_maskz_loadu_epi8(mask, from.cast()) };
    }
    // `MASK ? x : y`
    const SELECT: i32 = 0xca;
    let (pairs, halves) = (_mm512_set1_epi8(0xcc_u8 as i8), _mm512_set1_epi8(0xf0_u8 as i8));
    let select = |mask, x, y| _mm512_ternarylogic_epi32::<SELECT>(mask, x, y);
    let even = |x, y| select(pairs, _mm512_slli_epi16::<2>(x), y);
    let odd = |x, y| select(pairs, x, _mm512_srli_epi16::<2>(y));
    let low = |x, y| select(halves, _mm512_slli_epi16::<4>(x), y);
    let high = |x, y| select(halves, x, _mm512_srli_epi16::<4>(y));
    let [a, b, c, d] = all;
    let (even, odd) = ([even(a, b), even(c, d)], [odd(a, b), odd(c, d)]);
    [low(even[0], even[1]), low(odd[0], odd[1]), high(even[0], even[1]), high(odd[0], odd[1])]
}

/// As [`avx2::VARIANT`]'s.
#[target_feature(enable = "avx2,fma,avx512f,avx512bw")]
fn join_i8(planes: &[Plane<'_>], out: &mut [i8]) {
    if !in_pairs(planes) {
        return avx2::join_i8(planes, out);
    }
    let half = _mm512_set1_epi8((1u32 << (2 * planes.len() - 1)) as u8 as i8);
    for (i, out) in out.chunks_mut(2 * UNIT).enumerate() {
        let [a, b, c, d] = codes(planes, i * BYTES, out.len() / 4).map(|codes| _mm512_sub_epi8(codes, half));
        let first = |x, y| _mm512_inserti64x4::<1>(x, _mm512_castsi512_si256(y));
        let second = |x, y| _mm512_shuffle_i64x2::<0xee>(x, y);
        let vectors = [first(a, b), first(c, d), second(a, b), second(c, d)];
        for (out, vector) in out.as_chunks_mut::<BYTES>().0.iter_mut().zip(vectors) {
            // SAFETY: 64 bytes.
            unsafe { _mm512_storeu_si512(out.as_mut_ptr().cast(), vector) };
        }
    }
}

/// [`super::columns::columns_i16`]
#[target_feature(enable = "avx2,fma,avx512f,avx512bw")]
fn columns_i16(planes: &[Plane<'_>], channels: usize, out: &mut [[i16; PANEL]]) {
    if !in_pairs(planes) {
        return columns_avx2::columns_i16(planes, channels, out);
    }
    let least = _mm256_set1_epi16(1 - (1i16 << (2 * planes.len())));
    let kept: [i16; PANEL] = std::array::from_fn(|lane| if lane < channels { -1 } else { 0 });
    // SAFETY: loads 32 bytes from an array of that size.
    let kept = unsafe { _mm256_loadu_si256(kept.as_ptr().cast()) };
    for (i, out) in out.chunks_mut(16).enumerate() {
        let [a, b, c, d] = codes(planes, i * BYTES, 4 * out.len());
        let (low, high) = (_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
        let (low_next, high_next) = (_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
        // Quarter q of vector j is column 4 q + j.
        let columns = [
            _mm512_unpacklo_epi64(low, low_next),
            _mm512_unpackhi_epi64(low, low_next),
            _mm512_unpacklo_epi64(high, high_next),
            _mm512_unpackhi_epi64(high, high_next),
        ];
        let quarters = [
            columns.map(|v| _mm512_extracti32x4_epi32::<0>(v)),
            columns.map(|v| _mm512_extracti32x4_epi32::<1>(v)),
            columns.map(|v| _mm512_extracti32x4_epi32::<2>(v)),
            columns.map(|v| _mm512_extracti32x4_epi32::<3>(v)),
        ];
        for (out, column) in out.iter_mut().zip(quarters.as_flattened()) {
            let twice = _mm256_slli_epi16::<1>(_mm256_cvtepu8_epi16(*column));
            let odd = _mm256_and_si256(_mm256_add_epi16(twice, least), kept);
            // SAFETY: stores 32 bytes to an array of that size.
            unsafe { _mm256_storeu_si256(out.as_mut_ptr().cast(), odd) };
        }
    }
}
