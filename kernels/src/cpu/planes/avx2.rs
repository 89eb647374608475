//! AVX2: a unit of 128 codes is 4 vectors of bytes.
//!
//! ```text
//! for each unit:
//!     for each plane:    a vector of its bytes, shifted and masked, is 32 consecutive codes' bits;
//!                        codes = codes << w | bits         (bytes; above 8 bits a low and a high byte)
//!     i8:                codes - 2^(b-1)
//!     f32:               [16][8] bytes transposed to [8][16], widened, f32(p) * 2 + (1 - 2^b), times scale
//! ```

use std::arch::x86_64::{
    __m256i, _mm_loadl_epi64, _mm_loadu_si128, _mm256_add_epi32, _mm256_and_si256,
    _mm256_broadcastsi128_si256, _mm256_cvtepi32_ps, _mm256_cvtepu8_epi32, _mm256_cvtepu16_epi32,
    _mm256_fmadd_ps, _mm256_hadd_epi32, _mm256_loadu_ps, _mm256_loadu_si256, _mm256_madd_epi16,
    _mm256_maddubs_epi16, _mm256_mul_ps, _mm256_or_si256, _mm256_permute2x128_si256,
    _mm256_permute4x64_epi64, _mm256_set_epi32, _mm256_set1_epi8, _mm256_set1_epi16, _mm256_set1_ps,
    _mm256_setr_epi8, _mm256_setzero_si256, _mm256_shuffle_epi8, _mm256_slli_epi16, _mm256_srli_epi16,
    _mm256_srlv_epi32, _mm256_storeu_ps, _mm256_storeu_si256, _mm256_sub_epi8, _mm256_unpackhi_epi8,
    _mm256_unpackhi_epi16, _mm256_unpackhi_epi32, _mm256_unpacklo_epi8, _mm256_unpacklo_epi16,
    _mm256_unpacklo_epi32,
};

use super::{Isa, PANEL, Plane, Scales, UNIT, Variant, total_bits};

pub(super) const VARIANT: Variant = Variant { name: "planes__avx2", isa: Isa::Avx2, join_i8, join_f32, sums };

/// Bytes of a vector.
const VEC: usize = 32;

/// A unit of bytes, 4 channels of 8 k in each vector.
type Unit = [__m256i; 4];

/// Joins `[16][8]` units; `planes` has at least as many as `out`.
#[target_feature(enable = "avx2,fma")]
fn join_i8(planes: &[Plane<'_>], out: &mut [i8]) {
    let half = _mm256_set1_epi8((1u32 << (total_bits(planes) - 1)) as u8 as i8);
    for (unit, out) in out.as_chunks_mut::<UNIT>().0.iter_mut().enumerate() {
        let codes = narrow(planes, unit);
        for (out, code) in out.as_chunks_mut::<VEC>().0.iter_mut().zip(codes) {
            // SAFETY: 32 of 32 bytes.
            unsafe { _mm256_storeu_si256(out.as_mut_ptr().cast(), _mm256_sub_epi8(code, half)) };
        }
    }
}

/// `out`: `[units][8][16]`; `planes` and `scales` reach as far.
#[target_feature(enable = "avx2,fma")]
fn join_f32(planes: &[Plane<'_>], scales: &Scales<'_>, out: &mut [f32]) {
    let bits = total_bits(planes);
    let (two, offset) = (_mm256_set1_ps(2.0), _mm256_set1_ps((1 - (1i32 << bits)) as f32));
    let runs = out.chunks_mut(scales.units.saturating_mul(UNIT)).zip(scales.scales);
    let mut unit = 0;
    for (run, scales) in runs {
        // SAFETY: 8 of 16 floats at offsets 0 and 8.
        let scales = unsafe { [_mm256_loadu_ps(scales.as_ptr()), _mm256_loadu_ps(scales.as_ptr().add(8))] };
        for out in run.as_chunks_mut::<UNIT>().0 {
            // Through memory: a load that widens is cheaper than a lane extract and a widening shuffle.
            let mut bytes = [0u8; 2 * UNIT];
            match bits {
                ..=8 => store(&transpose(narrow(planes, unit)), &mut bytes),
                _ => {
                    let [high, low] = wide(planes, unit).map(|part| transpose(part));
                    for (j, bytes) in bytes.as_chunks_mut::<{ 2 * VEC }>().0.iter_mut().enumerate() {
                        let even = _mm256_unpacklo_epi8(low[j], high[j]);
                        let odd = _mm256_unpackhi_epi8(low[j], high[j]);
                        // SAFETY: 32 of 64 bytes at offsets 0 and 32.
                        unsafe {
                            _mm256_storeu_si256(bytes.as_mut_ptr().cast(), even);
                            _mm256_storeu_si256(bytes.as_mut_ptr().add(VEC).cast(), odd);
                        }
                    }
                }
            }
            for (k, out) in out.as_chunks_mut::<PANEL>().0.iter_mut().enumerate() {
                for (half, scale) in scales.iter().enumerate() {
                    // SAFETY: 8 of 128 bytes or of 128 u16, at a multiple of 8 below 128; 8 of 16 floats at offset
                    // 0 or 8.
                    unsafe {
                        let p = if bits <= 8 {
                            let at = k / 2 * VEC + half * 16 + k % 2 * 8;
                            _mm256_cvtepu8_epi32(_mm_loadl_epi64(bytes.as_ptr().add(at).cast()))
                        } else {
                            let at = k * VEC + half * 16;
                            _mm256_cvtepu16_epi32(_mm_loadu_si128(bytes.as_ptr().add(at).cast()))
                        };
                        // Exact: every term is an integer below 2^18.
                        let odd = _mm256_fmadd_ps(_mm256_cvtepi32_ps(p), two, offset);
                        _mm256_storeu_ps(out.as_mut_ptr().add(half * 8), _mm256_mul_ps(odd, *scale));
                    }
                }
            }
            unit += 1;
        }
    }
}

#[target_feature(enable = "avx2,fma")]
fn store(unit: &Unit, bytes: &mut [u8; 2 * UNIT]) {
    for (vector, bytes) in unit.iter().zip(bytes.as_chunks_mut::<VEC>().0) {
        // SAFETY: 32 of 32 bytes.
        unsafe { _mm256_storeu_si256(bytes.as_mut_ptr().cast(), *vector) };
    }
}

/// Codes of at most 8 bits.
#[target_feature(enable = "avx2,fma")]
fn narrow(planes: &[Plane<'_>], unit: usize) -> Unit {
    let mut codes = [_mm256_setzero_si256(); 4];
    for plane in planes {
        let bits = plane_unit(plane, unit);
        // No bit leaves its byte: the codes so far and these bits have 8 together.
        let shift = |code: __m256i| match plane.bits {
            1 => _mm256_slli_epi16::<1>(code),
            2 => _mm256_slli_epi16::<2>(code),
            4 => _mm256_slli_epi16::<4>(code),
            _ => code,
        };
        for (code, bits) in codes.iter_mut().zip(bits) {
            *code = if plane.bits == 8 { bits } else { _mm256_or_si256(shift(*code), bits) };
        }
    }
    codes
}

/// High and low bytes of codes of at most 16 bits.
#[target_feature(enable = "avx2,fma")]
fn wide(planes: &[Plane<'_>], unit: usize) -> [Unit; 2] {
    let (mut high, mut low) = ([_mm256_setzero_si256(); 4], [_mm256_setzero_si256(); 4]);
    for plane in planes {
        let bits = plane_unit(plane, unit);
        for ((high, low), bits) in high.iter_mut().zip(&mut low).zip(bits) {
            (*high, *low) = match plane.bits {
                1 => push::<1, 7>(*high, *low, bits),
                2 => push::<2, 6>(*high, *low, bits),
                4 => push::<4, 4>(*high, *low, bits),
                _ => (*low, bits),
            };
        }
    }
    [high, low]
}

/// `(high, low) << W | bits` on bytes; `R` is `8 - W`.
#[target_feature(enable = "avx2,fma")]
fn push<const W: i32, const R: i32>(high: __m256i, low: __m256i, bits: __m256i) -> (__m256i, __m256i) {
    let keep = _mm256_set1_epi8((0xffu8 << W) as i8);
    let carry = _mm256_set1_epi8(((1u8 << W) - 1) as i8);
    let up = |x: __m256i| _mm256_and_si256(_mm256_slli_epi16::<W>(x), keep);
    let over = _mm256_and_si256(_mm256_srli_epi16::<R>(low), carry);
    (_mm256_or_si256(up(high), over), _mm256_or_si256(up(low), bits))
}

/// A plane's bits of the codes of one unit, which must lie inside the plane (checked, at one compare a plane).
#[target_feature(enable = "avx2,fma")]
fn plane_unit(plane: &Plane<'_>, unit: usize) -> Unit {
    let len = PANEL * plane.bits as usize;
    let bytes = &plane.bytes[unit * len..][..len];
    // SAFETY: each load below stays inside `bytes`: 16 bytes a bit of the plane.
    let load = |at: usize| unsafe { _mm256_loadu_si256(bytes.as_ptr().add(at).cast()) };
    match plane.bits {
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

/// Sums over k of `[units][16][8]` codes.
#[target_feature(enable = "avx2,fma")]
fn sums(codes: &[i8]) -> [i32; PANEL] {
    let (ones8, ones16) = (_mm256_set1_epi8(1), _mm256_set1_epi16(1));
    let mut acc = [_mm256_setzero_si256(); 4];
    for unit in codes.as_chunks::<UNIT>().0 {
        for (acc, codes) in acc.iter_mut().zip(unit.as_chunks::<VEC>().0) {
            // SAFETY: 32 of 32 bytes.
            let codes = unsafe { _mm256_loadu_si256(codes.as_ptr().cast()) };
            let quads = _mm256_madd_epi16(_mm256_maddubs_epi16(ones8, codes), ones16);
            *acc = _mm256_add_epi32(*acc, quads);
        }
    }
    let mut sums = [0; PANEL];
    for (half, sums) in sums.as_chunks_mut::<8>().0.iter_mut().enumerate() {
        // Channels 0 1 4 5 | 2 3 6 7.
        let pairs = _mm256_hadd_epi32(acc[2 * half], acc[2 * half + 1]);
        // SAFETY: 8 of 8 integers.
        unsafe {
            _mm256_storeu_si256(sums.as_mut_ptr().cast(), _mm256_permute4x64_epi64::<0b11_01_10_00>(pairs));
        }
    }
    sums
}
