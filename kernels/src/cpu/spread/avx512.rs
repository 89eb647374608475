//! AVX-512: a column is one register, and values become one by an expanding load.

use std::arch::x86_64::{
    __m512, __m512i, __mmask16, _mm512_and_si512, _mm512_castsi256_si512, _mm512_cmpeq_epi32_mask,
    _mm512_cmpgt_epi32_mask, _mm512_cvtepi64_epi32, _mm512_inserti64x4, _mm512_loadu_ps, _mm512_loadu_si512,
    _mm512_mask_mov_ps, _mm512_maskz_expand_ps, _mm512_maskz_loadu_ps, _mm512_maskz_mul_ps,
    _mm512_set1_epi32, _mm512_set1_epi64, _mm512_setzero_ps, _mm512_setzero_si512, _mm512_srlv_epi64,
    _mm512_storeu_ps,
};

use super::{Few, Isa, MAX_OF, PANEL, Variant, position_bits};

pub(super) const VARIANT: Variant = Variant { name: "spread_f32__avx512", isa: Isa::Avx512, bits, few };

#[target_feature(enable = "avx2,avx512f,avx512bw,avx512dq,avx512vl")]
fn bits(masks: &[[u8; 2]], values: &[f32], scales: &[f32; PANEL], out: &mut [f32]) {
    // SAFETY: 16 floats.
    let scales = unsafe { _mm512_loadu_ps(scales.as_ptr()) };
    let mut rest = values;
    for (mask, out) in masks.iter().zip(out.as_chunks_mut::<PANEL>().0) {
        let mask = u16::from_le_bytes(*mask);
        let next = match rest.first_chunk::<PANEL>() {
            // SAFETY: 16 floats.
            Some(next) => unsafe { _mm512_loadu_ps(next.as_ptr()) },
            // SAFETY: the mask leaves the floats that are there, fewer than 16.
            None => unsafe { _mm512_maskz_loadu_ps((1 << rest.len()) - 1, rest.as_ptr()) },
        };
        // Where no bit is set there is 0, whatever the scale.
        let column = _mm512_maskz_mul_ps(mask, scales, _mm512_maskz_expand_ps(mask, next));
        // SAFETY: 16 floats.
        unsafe { _mm512_storeu_ps(out.as_mut_ptr(), column) };
        rest = &rest[mask.count_ones() as usize..];
    }
}

/// 16 positions of `bits` bits, one a lane.
#[target_feature(enable = "avx2,avx512f,avx512bw,avx512dq,avx512vl")]
#[inline]
fn places(unit: u64, shifts: [__m512i; 2], mask: __m512i) -> __m512i {
    let unit = _mm512_set1_epi64(unit as i64);
    let low = _mm512_cvtepi64_epi32(_mm512_srlv_epi64(unit, shifts[0]));
    let high = _mm512_cvtepi64_epi32(_mm512_srlv_epi64(unit, shifts[1]));
    _mm512_and_si512(_mm512_inserti64x4::<1>(_mm512_castsi256_si512(low), high), mask)
}

#[target_feature(enable = "avx2,avx512f,avx512bw,avx512dq,avx512vl")]
fn few(few: &Few<'_>, values: &[f32], out: &mut [f32]) {
    let bits = position_bits(few.of);
    let mut shifts = [0u64; PANEL];
    for (lane, shift) in shifts.iter_mut().enumerate() {
        *shift = (lane * bits) as u64;
    }
    // SAFETY: 8 words of each half.
    let shifts = unsafe {
        [_mm512_loadu_si512(shifts.as_ptr().cast()), _mm512_loadu_si512(shifts.as_ptr().add(8).cast())]
    };
    let mask = _mm512_set1_epi32((1 << bits) - 1);
    let columns: &mut [[f32; PANEL]] = out.as_chunks_mut().0;
    let each: &[[f32; PANEL]] = values.as_chunks().0;
    // Made once: it is longer than what most groups need.
    let mut own: [(__m512i, __mmask16, __m512); MAX_OF] =
        [(_mm512_setzero_si512(), 0, _mm512_setzero_ps()); MAX_OF];
    for (group, (columns, each)) in columns.chunks_mut(few.of).zip(each.chunks_exact(few.keep)).enumerate() {
        let mut before = _mm512_set1_epi32(-1);
        for (slot, (own, value)) in own.iter_mut().zip(each).enumerate() {
            let places = places(few.unit(group * few.keep + slot), shifts, mask);
            // SAFETY: 16 floats.
            let value = unsafe { _mm512_loadu_ps(value.as_ptr()) };
            *own = (places, _mm512_cmpgt_epi32_mask(places, before), value);
            before = places;
        }
        for (i, column) in columns.iter_mut().enumerate() {
            let (i, mut sum) = (_mm512_set1_epi32(i as i32), _mm512_setzero_ps());
            for &(places, ascends, value) in &own[..few.keep] {
                sum = _mm512_mask_mov_ps(sum, _mm512_cmpeq_epi32_mask(places, i) & ascends, value);
            }
            // SAFETY: 16 floats.
            unsafe { _mm512_storeu_ps(column.as_mut_ptr(), sum) };
        }
    }
}
