//! AVX-512 with VBMI2: four columns of codes are one register, and values become them by one expansion or comparison.
//!
//! ```text
//! bits:    values to codes, 64 at a time; four masks are the 64 bits that expand them
//! few:     8 columns of values transposed; for each group its positions and values four times in a register, compared with
//!          the numbers of four columns
//! both:    8 columns of 16 transposed to [16][8] by two permutations
//! ```

use std::arch::x86_64::{
    __m128i, __m512i, __mmask64, _CMP_ORD_Q, _mm_loadu_si128, _mm_storeu_si128, _mm512_add_epi8,
    _mm512_and_si512, _mm512_broadcast_i32x4, _mm512_cmp_ps_mask, _mm512_cmpgt_epi8_mask,
    _mm512_cvtsepi32_epi8, _mm512_loadu_ps, _mm512_loadu_si512, _mm512_mask_cmpeq_epi8_mask,
    _mm512_mask_mov_epi8, _mm512_maskz_cvtps_epi32, _mm512_maskz_expand_epi8, _mm512_maskz_loadu_ps,
    _mm512_max_epi8, _mm512_max_ps, _mm512_min_ps, _mm512_mul_ps, _mm512_multishift_epi64_epi8,
    _mm512_permutex2var_epi8, _mm512_set1_epi8, _mm512_set1_epi64, _mm512_set1_ps, _mm512_setzero_si512,
    _mm512_storeu_si512,
};

use super::{BLOCK, Few, Isa, MAX_OF, PANEL, TOP, Variant, avx512, position_bits};
use crate::cpu::tile::Aligned;

pub(super) const VARIANT: Variant = Variant {
    name: "spread__avx512_vbmi2",
    isa: Isa::Avx512,
    extra: || {
        std::arch::is_x86_feature_detected!("avx512vbmi")
            && std::arch::is_x86_feature_detected!("avx512vbmi2")
    },
    bits: avx512::bits,
    few: avx512::few,
    bits_codes,
    few_codes,
};

/// Codes of a unit.
const UNIT: usize = PANEL * BLOCK;
/// Codes of a register.
pub(in crate::cpu) const VEC: usize = 64;
/// Values that are rounded at a time.
pub(in crate::cpu) const ROUNDED: usize = 1024;

/// Indices of `[16][8]` codes, half a register each, among those of `[8][16]` in two registers; or the other way.
struct Transposition([__m512i; 2]);

impl Transposition {
    #[target_feature(enable = "avx512f")]
    #[inline]
    fn new(from: impl Fn(usize) -> usize) -> Transposition {
        let mut index = [0u8; UNIT];
        for (i, index) in index.iter_mut().enumerate() {
            *index = from(i) as u8;
        }
        // SAFETY: two registers of bytes.
        unsafe {
            Transposition([
                _mm512_loadu_si512(index.as_ptr().cast()),
                _mm512_loadu_si512(index.as_ptr().add(VEC).cast()),
            ])
        }
    }

    /// From columns of 16 to `[16][8]`.
    #[target_feature(enable = "avx512f")]
    #[inline]
    fn to_lanes() -> Transposition {
        Transposition::new(|i| i % BLOCK * PANEL + i / BLOCK)
    }

    #[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
    #[inline]
    fn of(&self, a: __m512i, b: __m512i) -> [__m512i; 2] {
        self.0.map(|index| _mm512_permutex2var_epi8(a, index, b))
    }
}

/// The registers of a unit.
///
/// # Safety
/// 128 bytes are readable.
#[target_feature(enable = "avx512f")]
#[inline]
unsafe fn load(from: *const i8) -> [__m512i; 2] {
    // SAFETY: the caller's promise.
    unsafe { [_mm512_loadu_si512(from.cast()), _mm512_loadu_si512(from.add(VEC).cast())] }
}

/// Writes the registers of a unit.
///
/// # Safety
/// 128 bytes are writable.
#[target_feature(enable = "avx512f")]
#[inline]
unsafe fn store(to: *mut i8, [a, b]: [__m512i; 2]) {
    // SAFETY: the caller's promise.
    unsafe {
        _mm512_storeu_si512(to.cast(), a);
        _mm512_storeu_si512(to.add(VEC).cast(), b);
    }
}

/// Codes of values, as many as fit.
#[target_feature(enable = "avx2,avx512f,avx512bw,avx512dq,avx512vl")]
#[inline]
pub(in crate::cpu) fn round(values: &[f32], codes: &mut [i8; ROUNDED + VEC]) {
    let (top, least) = (_mm512_set1_ps(TOP), _mm512_set1_ps(-TOP));
    for (values, codes) in values.chunks(PANEL).zip(codes[..ROUNDED].as_chunks_mut::<PANEL>().0) {
        // SAFETY: as many floats as there are; 16 bytes.
        unsafe {
            let value = match values.len() {
                PANEL => _mm512_loadu_ps(values.as_ptr()),
                left => _mm512_maskz_loadu_ps((1 << left) - 1, values.as_ptr()),
            };
            let scaled = _mm512_mul_ps(value, top);
            let number = _mm512_cmp_ps_mask::<_CMP_ORD_Q>(scaled, scaled);
            let bounded = _mm512_min_ps(_mm512_max_ps(scaled, least), top);
            let code: __m128i = _mm512_cvtsepi32_epi8(_mm512_maskz_cvtps_epi32(number, bounded));
            _mm_storeu_si128(codes.as_mut_ptr().cast(), code);
        }
    }
}

#[target_feature(enable = "avx2,popcnt,avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi,avx512vbmi2")]
fn bits_codes(masks: &[[u8; 2]], values: &[f32], out: &mut [i8]) {
    let to_lanes = Transposition::to_lanes();
    // Behind the last code there is a register more to be read.
    let Aligned(codes) = &mut Aligned([0i8; ROUNDED + VEC]);
    let (mut next, mut first) = (0, 0);
    round(values, codes);
    for (masks, out) in masks.chunks(BLOCK).zip(out.as_chunks_mut::<UNIT>().0) {
        if next + UNIT > first + ROUNDED {
            first = next;
            round(&values[first..], codes);
        }
        let mut four = [0u64; 2];
        for (i, mask) in masks.iter().enumerate() {
            four[i / 4] |= u64::from(u16::from_le_bytes(*mask)) << (16 * (i % 4));
        }
        let columns = four.map(|mask| {
            // SAFETY: at most 64 codes before the last read of a unit's 128, which are there: made above.
            let codes = unsafe { _mm512_loadu_si512(codes.as_ptr().add(next - first).cast()) };
            next += mask.count_ones() as usize;
            _mm512_maskz_expand_epi8(mask, codes)
        });
        // SAFETY: a unit.
        unsafe { store(out.as_mut_ptr(), to_lanes.of(columns[0], columns[1])) };
    }
}

#[target_feature(enable = "avx2,avx512f,avx512bw,avx512dq,avx512vl,avx512vbmi")]
fn few_codes(few: &Few<'_>, codes: &[i8], cols: usize, out: &mut [i8]) {
    let (keep, of, bits) = (few.keep, few.of, position_bits(few.of));
    let to_lanes = Transposition::to_lanes();
    let to_columns = Transposition::new(|i| i % PANEL * BLOCK + i / PANEL);
    let mut shifts = [0u8; VEC];
    let mut numbers = [0u8; VEC];
    for i in 0..VEC {
        (shifts[i], numbers[i]) = ((i % PANEL * bits) as u8, (i / PANEL) as u8);
    }
    // SAFETY: a register of bytes each.
    let (shifts, numbers) =
        unsafe { (_mm512_loadu_si512(shifts.as_ptr().cast()), _mm512_loadu_si512(numbers.as_ptr().cast())) };
    let mask = _mm512_set1_epi8((1 << bits) - 1);
    let four = _mm512_set1_epi8(4);
    // Columns of eight groups, and what a last register of them writes too many; columns of 8 values.
    let Aligned(tile) = &mut Aligned([0i8; MAX_OF * BLOCK * PANEL + VEC]);
    let Aligned(columns) = &mut Aligned([0i8; UNIT]);
    let none: (__m512i, __mmask64, __m512i) = (_mm512_setzero_si512(), 0, _mm512_setzero_si512());
    let mut own = [none; MAX_OF];
    let groups = cols.div_ceil(of);
    for (step, out) in out.chunks_mut(of * UNIT).enumerate() {
        for group in step * BLOCK..groups.min((step + 1) * BLOCK) {
            let mut before = _mm512_set1_epi8(-1);
            for (slot, own) in own[..keep].iter_mut().enumerate() {
                let value = group * keep + slot;
                if value.is_multiple_of(BLOCK) {
                    let unit = &codes[value * PANEL..][..UNIT];
                    // SAFETY: a unit each.
                    unsafe {
                        let [a, b] = load(unit.as_ptr());
                        store(columns.as_mut_ptr(), to_columns.of(a, b));
                    }
                }
                let places = _mm512_multishift_epi64_epi8(shifts, _mm512_set1_epi64(few.unit(value) as i64));
                let places = _mm512_and_si512(places, mask);
                let column = &columns[value % BLOCK * PANEL..][..PANEL];
                // SAFETY: 16 bytes.
                let column = unsafe { _mm512_broadcast_i32x4(_mm_loadu_si128(column.as_ptr().cast())) };
                *own = (places, _mm512_cmpgt_epi8_mask(places, before), column);
                before = _mm512_max_epi8(before, places);
            }
            let to = &mut tile[group % BLOCK * of * PANEL..][..of.next_multiple_of(4) * PANEL];
            let mut numbers = numbers;
            for to in to.as_chunks_mut::<VEC>().0 {
                let mut sum = _mm512_setzero_si512();
                for &(places, ascends, column) in &own[..keep] {
                    let here = _mm512_mask_cmpeq_epi8_mask(ascends, places, numbers);
                    sum = _mm512_mask_mov_epi8(sum, here, column);
                }
                // SAFETY: 64 bytes.
                unsafe { _mm512_storeu_si512(to.as_mut_ptr().cast(), sum) };
                numbers = _mm512_add_epi8(numbers, four);
            }
        }
        let there = cols - (step * BLOCK * of).min(cols);
        if there * PANEL < out.len() {
            tile[there * PANEL..out.len()].fill(0);
        }
        for (from, to) in tile.as_chunks::<UNIT>().0.iter().zip(out.as_chunks_mut::<UNIT>().0) {
            // SAFETY: a unit each.
            unsafe {
                let [a, b] = load(from.as_ptr());
                store(to.as_mut_ptr(), to_lanes.of(a, b));
            }
        }
    }
}
