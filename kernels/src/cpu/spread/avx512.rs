//! AVX-512: a column is one register, and values become one by an expanding load. Codes go as on AVX2.

use std::arch::x86_64::{
    __m512, __m512i, __mmask16, _mm512_and_si512, _mm512_cmpgt_epi32_mask, _mm512_loadu_ps,
    _mm512_loadu_si512, _mm512_mask_cmpeq_epi32_mask, _mm512_mask_mov_ps, _mm512_mask_set1_epi32,
    _mm512_maskz_expand_ps, _mm512_maskz_loadu_ps, _mm512_maskz_mul_ps, _mm512_max_epi32, _mm512_set1_epi32,
    _mm512_setzero_ps, _mm512_setzero_si512, _mm512_srlv_epi32, _mm512_storeu_ps,
};

use super::{Few, Isa, MAX_OF, PANEL, Variant, avx2, position_bits};

pub(super) const VARIANT: Variant = Variant {
    name: "spread__avx512",
    isa: Isa::Avx512,
    extra: || true,
    bits,
    few,
    bits_codes: avx2::bits_codes,
    few_codes: avx2::few_codes,
};

#[target_feature(enable = "avx2,avx512f,avx512bw,avx512dq,avx512vl")]
pub(super) fn bits(masks: &[[u8; 2]], values: &[f32], scales: &[f32; PANEL], out: &mut [f32]) {
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

/// How the positions of a unit become lanes.
#[derive(Clone, Copy)]
pub(in crate::cpu) struct Places {
    bits: u32,
    shifts: __m512i,
    /// Shifts of positions of 2 bits.
    twos: __m512i,
    mask: __m512i,
}

impl Places {
    /// Positions of `bits` bits, at most 4.
    #[target_feature(enable = "avx512f")]
    #[inline]
    pub(in crate::cpu) fn new(bits: usize) -> Places {
        let (mut shifts, mut twos) = ([0u32; PANEL], [0u32; PANEL]);
        for lane in 0..PANEL {
            (shifts[lane], twos[lane]) = ((lane % 8 * bits) as u32, 2 * lane as u32);
        }
        // SAFETY: 16 words each.
        let (shifts, twos) =
            unsafe { (_mm512_loadu_si512(shifts.as_ptr().cast()), _mm512_loadu_si512(twos.as_ptr().cast())) };
        Places { bits: bits as u32, shifts, twos, mask: _mm512_set1_epi32((1 << bits) - 1) }
    }

    /// The 16 positions of unit `value`.
    #[target_feature(enable = "avx512f")]
    #[inline]
    pub(in crate::cpu) fn at(&self, few: &Few<'_>, value: usize) -> __m512i {
        if self.bits == 2
            && let Some(unit) = few.units.as_chunks::<4>().0.get(value)
        {
            // All lanes have 32 bits.
            let all = _mm512_set1_epi32(i32::from_le_bytes(*unit));
            return _mm512_and_si512(_mm512_srlv_epi32(all, self.twos), self.mask);
        }
        self.of(few.unit(value))
    }

    /// The 16 positions of a unit. What lies behind them in it does not matter.
    #[target_feature(enable = "avx512f")]
    #[inline]
    fn of(&self, unit: u64) -> __m512i {
        // Those of 8 lanes have at most 32 bits.
        let low = _mm512_set1_epi32(unit as i32);
        let both = _mm512_mask_set1_epi32(low, 0xff00, (unit >> (8 * self.bits)) as i32);
        _mm512_and_si512(_mm512_srlv_epi32(both, self.shifts), self.mask)
    }
}

#[target_feature(enable = "avx2,avx512f,avx512bw,avx512dq,avx512vl")]
pub(super) fn few(few: &Few<'_>, values: &[f32], out: &mut [f32]) {
    let lanes = Places::new(position_bits(few.of));
    let columns: &mut [[f32; PANEL]] = out.as_chunks_mut().0;
    let each: &[[f32; PANEL]] = values.as_chunks().0;
    // Made once: it is longer than what most groups need.
    let mut own: [(__m512i, __mmask16, __m512); MAX_OF] =
        [(_mm512_setzero_si512(), 0, _mm512_setzero_ps()); MAX_OF];
    for (group, (columns, each)) in columns.chunks_mut(few.of).zip(each.chunks_exact(few.keep)).enumerate() {
        let mut before = _mm512_set1_epi32(-1);
        for (slot, (own, value)) in own.iter_mut().zip(each).enumerate() {
            let places = lanes.at(few, group * few.keep + slot);
            // SAFETY: 16 floats.
            let value = unsafe { _mm512_loadu_ps(value.as_ptr()) };
            *own = (places, _mm512_cmpgt_epi32_mask(places, before), value);
            before = _mm512_max_epi32(before, places);
        }
        for (i, column) in columns.iter_mut().enumerate() {
            let (i, mut sum) = (_mm512_set1_epi32(i as i32), _mm512_setzero_ps());
            for &(places, ascends, value) in &own[..few.keep] {
                sum = _mm512_mask_mov_ps(sum, _mm512_mask_cmpeq_epi32_mask(ascends, places, i), value);
            }
            // SAFETY: 16 floats.
            unsafe { _mm512_storeu_ps(column.as_mut_ptr(), sum) };
        }
    }
}
