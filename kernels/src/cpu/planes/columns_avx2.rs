//! AVX2: a column of 16 codes is a vector of words.
//!
//! ```text
//! for each plane:    its bytes, one for each code, times a power of two that differs by code and puts the code's bits on top
//!                    of eight; what lies above is cut off, what lies below is shifted out
//! ```

use std::arch::x86_64::{
    __m256i, _mm_cvtsi32_si128, _mm_loadu_si128, _mm_shuffle_epi8, _mm256_add_epi16, _mm256_add_epi32,
    _mm256_add_ps, _mm256_and_si256, _mm256_castsi256_si128, _mm256_cvtepi32_ps, _mm256_cvtepu8_epi16,
    _mm256_cvtepu16_epi32, _mm256_extracti128_si256, _mm256_loadu_ps, _mm256_loadu_si256, _mm256_mul_ps,
    _mm256_mullo_epi16, _mm256_or_si256, _mm256_set1_epi16, _mm256_setzero_si256, _mm256_sll_epi16,
    _mm256_srl_epi16, _mm256_storeu_ps, _mm256_storeu_si256,
};

use super::{PANEL, Plane, Scales, total_bits};

/// How the bits of 16 codes are taken out of a column's bytes, of a plane of 1, 2, 4 and 8 bits: the byte of each code, and the
/// factor that brings its bits to the top of eight.
const COLUMNS: [([u8; PANEL], [u16; PANEL]); 4] = {
    let mut columns = [([0; PANEL], [0; PANEL]); 4];
    let mut i = 0;
    while i < 4 * PANEL {
        let (log, lane) = (i / PANEL, i % PANEL);
        let (bits, bytes) = (1 << log, 2 << log);
        columns[log].0[lane] = (lane % bytes) as u8;
        columns[log].1[lane] = 1 << (8 - bits - lane / bytes * bits);
        i += 1;
    }
    columns
};

/// The codes of column `unit`.
#[target_feature(enable = "avx2")]
fn column(planes: &[Plane<'_>], unit: usize) -> __m256i {
    let mut codes = _mm256_setzero_si256();
    for plane in planes {
        let (at, (bytes, factors)) = (unit * 2 * plane.bits as usize, &COLUMNS[plane.bits.ilog2() as usize]);
        let mut last = [0; PANEL];
        let column = match plane.bytes[at..].first_chunk() {
            Some(column) => column,
            None => {
                let rest = &plane.bytes[at..];
                last[..rest.len()].copy_from_slice(rest);
                &last
            }
        };
        // SAFETY: loads of 16 and 32 bytes from arrays of that size.
        let (column, bytes, factors) = unsafe {
            let load = |array: &[u8; PANEL]| _mm_loadu_si128(array.as_ptr().cast());
            (load(column), load(bytes), _mm256_loadu_si256(factors.as_ptr().cast()))
        };
        let column = _mm256_mullo_epi16(_mm256_cvtepu8_epi16(_mm_shuffle_epi8(column, bytes)), factors);
        // The bits end at the eighth, and those above them are other codes'.
        let bits = _mm256_and_si256(column, _mm256_set1_epi16(0xff));
        let bits = _mm256_srl_epi16(bits, _mm_cvtsi32_si128(8 - plane.bits as i32));
        codes = _mm256_or_si256(_mm256_sll_epi16(codes, _mm_cvtsi32_si128(plane.bits as i32)), bits);
    }
    codes
}

/// [`super::columns::columns_i16`]
#[target_feature(enable = "avx2")]
pub(super) fn columns_i16(planes: &[Plane<'_>], channels: usize, out: &mut [[i16; PANEL]]) {
    let least = _mm256_set1_epi16(1 - (1i16 << total_bits(planes)));
    let kept: [i16; PANEL] = std::array::from_fn(|lane| if lane < channels { -1 } else { 0 });
    // SAFETY: loads 32 bytes from an array of that size.
    let kept = unsafe { _mm256_loadu_si256(kept.as_ptr().cast()) };
    for (unit, out) in out.iter_mut().enumerate() {
        let codes = column(planes, unit);
        let odd = _mm256_and_si256(_mm256_add_epi16(_mm256_add_epi16(codes, codes), least), kept);
        // SAFETY: stores 32 bytes to an array of that size.
        unsafe { _mm256_storeu_si256(out.as_mut_ptr().cast(), odd) };
    }
}

/// [`super::columns::columns_f32`]
#[target_feature(enable = "avx2")]
pub(super) fn columns_f32(planes: &[Plane<'_>], scales: &Scales<'_>, out: &mut [[f32; PANEL]]) {
    let bits = total_bits(planes);
    for (unit, out) in out.iter_mut().enumerate() {
        let codes = column(planes, unit);
        let halves = [_mm256_castsi256_si128(codes), _mm256_extracti128_si256::<1>(codes)];
        let (offsets, scales) =
            (scales.offsets(unit / scales.units, bits), &scales.scales[unit / scales.units]);
        let lanes = out.as_chunks_mut::<8>().0.iter_mut().zip(scales.as_chunks::<8>().0);
        for (((out, scale), offset), codes) in lanes.zip(offsets.as_chunks::<8>().0).zip(halves) {
            let codes = _mm256_cvtepu16_epi32(codes);
            let twice = _mm256_cvtepi32_ps(_mm256_add_epi32(codes, codes));
            // SAFETY: loads and a store of 8 floats of arrays of that size.
            unsafe {
                let scale = _mm256_loadu_ps(scale.as_ptr());
                let number = _mm256_add_ps(twice, _mm256_loadu_ps(offset.as_ptr()));
                _mm256_storeu_ps(out.as_mut_ptr(), _mm256_mul_ps(number, scale));
            }
        }
    }
}
