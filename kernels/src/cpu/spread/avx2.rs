//! AVX2: a column of floats is two registers, one of codes half of one; a table says where each value of a byte's bits goes.

use std::arch::x86_64::{
    __m128i, __m256, __m256i, _CMP_ORD_Q, _mm_and_si128, _mm_cmpeq_epi8, _mm_cmpgt_epi8, _mm_loadl_epi64,
    _mm_loadu_si128, _mm_max_epi8, _mm_or_si128, _mm_packs_epi16, _mm_packs_epi32, _mm_packus_epi16,
    _mm_packus_epi32, _mm_set1_epi8, _mm_setzero_si128, _mm_shuffle_epi8, _mm_storel_epi64, _mm_storeu_si128,
    _mm_unpackhi_epi8, _mm_unpacklo_epi8, _mm_unpacklo_epi64, _mm256_and_ps, _mm256_and_si256,
    _mm256_blendv_ps, _mm256_castsi256_ps, _mm256_castsi256_si128, _mm256_cmp_ps, _mm256_cmpeq_epi32,
    _mm256_cmpgt_epi32, _mm256_cvtepi8_epi32, _mm256_cvtps_epi32, _mm256_extracti128_si256, _mm256_loadu_ps,
    _mm256_max_epi32, _mm256_max_ps, _mm256_min_ps, _mm256_mul_ps, _mm256_or_ps, _mm256_permutevar8x32_ps,
    _mm256_set1_epi32, _mm256_set1_ps, _mm256_setr_epi32, _mm256_setzero_ps, _mm256_setzero_si256,
    _mm256_srlv_epi32, _mm256_storeu_ps,
};

use super::{BLOCK, Few, Isa, MAX_OF, PANEL, TOP, Variant, position_bits};
use crate::cpu::tile::Aligned;

pub(super) const VARIANT: Variant =
    Variant { name: "spread__avx2", isa: Isa::Avx2, extra: || true, bits, few, bits_codes, few_codes };

/// Lanes of a register of floats.
const HALF: usize = PANEL / 2;
/// Codes of a unit.
const UNIT: usize = PANEL * BLOCK;
/// Values that are rounded at a time.
const ROUNDED: usize = 1024;

/// For each byte of a mask, which of the next values its lanes take; the top bit where they take none.
static TAKEN: [[i8; HALF]; 256] = {
    let mut taken = [[-128; HALF]; 256];
    let mut mask = 0;
    while mask < 256 {
        let (mut lane, mut next) = (0, 0);
        while lane < HALF {
            if mask >> lane & 1 == 1 {
                taken[mask][lane] = next;
                next += 1;
            }
            lane += 1;
        }
        mask += 1;
    }
    taken
};

/// The row of a byte.
#[target_feature(enable = "avx2")]
#[inline]
fn taken(mask: u8) -> __m128i {
    // SAFETY: 8 bytes.
    unsafe { _mm_loadl_epi64(TAKEN[usize::from(mask)].as_ptr().cast()) }
}

#[target_feature(enable = "avx2,popcnt")]
fn bits(masks: &[[u8; 2]], values: &[f32], scales: &[f32; PANEL], out: &mut [f32]) {
    let (mut rest, none) = (values, _mm256_setzero_ps());
    for (masks, out) in masks.iter().zip(out.as_chunks_mut::<PANEL>().0) {
        let halves = out.as_chunks_mut::<HALF>().0.iter_mut().zip(scales.as_chunks::<HALF>().0);
        for (mask, (out, scales)) in masks.iter().zip(halves) {
            let mut last = [0.0; HALF];
            let next = match rest.first_chunk::<HALF>() {
                Some(next) => next,
                None => {
                    last[..rest.len()].copy_from_slice(rest);
                    &last
                }
            };
            let taken = _mm256_cvtepi8_epi32(taken(*mask));
            // SAFETY: 8 floats each.
            unsafe {
                let value = _mm256_permutevar8x32_ps(_mm256_loadu_ps(next.as_ptr()), taken);
                let scaled = _mm256_mul_ps(_mm256_loadu_ps(scales.as_ptr()), value);
                // Where no bit is set there is 0, whatever the scale.
                let column = _mm256_blendv_ps(scaled, none, _mm256_castsi256_ps(taken));
                _mm256_storeu_ps(out.as_mut_ptr(), column);
            }
            rest = &rest[mask.count_ones() as usize..];
        }
    }
}

/// How the positions of a unit become lanes.
struct Places {
    bits: u32,
    shifts: __m256i,
    mask: __m256i,
}

impl Places {
    #[target_feature(enable = "avx2")]
    #[inline]
    fn new(bits: usize) -> Places {
        let b = bits as i32;
        let shifts = _mm256_setr_epi32(0, b, 2 * b, 3 * b, 4 * b, 5 * b, 6 * b, 7 * b);
        Places { bits: bits as u32, shifts, mask: _mm256_set1_epi32((1 << bits) - 1) }
    }

    /// The 16 positions of a unit.
    #[target_feature(enable = "avx2")]
    #[inline]
    fn of(&self, unit: u64) -> [__m256i; 2] {
        // Those of 8 lanes have at most 32 bits.
        [unit as i32, (unit >> (8 * self.bits)) as i32]
            .map(|half| _mm256_and_si256(_mm256_srlv_epi32(_mm256_set1_epi32(half), self.shifts), self.mask))
    }

    /// The same as bytes.
    #[target_feature(enable = "avx2")]
    #[inline]
    fn bytes(&self, unit: u64) -> __m128i {
        let words = self
            .of(unit)
            .map(|half| _mm_packus_epi32(_mm256_castsi256_si128(half), _mm256_extracti128_si256::<1>(half)));
        _mm_packus_epi16(words[0], words[1])
    }
}

#[target_feature(enable = "avx2")]
fn few(few: &Few<'_>, values: &[f32], out: &mut [f32]) {
    let lanes = Places::new(position_bits(few.of));
    let columns: &mut [[f32; PANEL]] = out.as_chunks_mut().0;
    let each: &[[f32; PANEL]] = values.as_chunks().0;
    // The positions of half a column, and its values where positions ascend, else 0.
    let mut own: [[(__m256i, __m256); 2]; MAX_OF] =
        [[(_mm256_setzero_si256(), _mm256_setzero_ps()); 2]; MAX_OF];
    for (group, (columns, each)) in columns.chunks_mut(few.of).zip(each.chunks_exact(few.keep)).enumerate() {
        let mut before = [_mm256_set1_epi32(-1); 2];
        for (slot, (own, value)) in own.iter_mut().zip(each).enumerate() {
            let places = lanes.of(few.unit(group * few.keep + slot));
            for (h, own) in own.iter_mut().enumerate() {
                let ascends = _mm256_castsi256_ps(_mm256_cmpgt_epi32(places[h], before[h]));
                // SAFETY: 8 floats.
                let value = unsafe { _mm256_loadu_ps(value.as_ptr().add(h * HALF)) };
                *own = (places[h], _mm256_and_ps(value, ascends));
            }
            for (before, places) in before.iter_mut().zip(places) {
                *before = _mm256_max_epi32(*before, places);
            }
        }
        for (i, column) in columns.iter_mut().enumerate() {
            let i = _mm256_set1_epi32(i as i32);
            for (h, column) in column.as_chunks_mut::<HALF>().0.iter_mut().enumerate() {
                let mut sum = _mm256_setzero_ps();
                for own in &own[..few.keep] {
                    let (places, value) = own[h];
                    let here = _mm256_castsi256_ps(_mm256_cmpeq_epi32(places, i));
                    // One at most is not 0: positions that count ascend.
                    sum = _mm256_or_ps(sum, _mm256_and_ps(value, here));
                }
                // SAFETY: 8 floats.
                unsafe { _mm256_storeu_ps(column.as_mut_ptr(), sum) };
            }
        }
    }
}

/// Eight registers as one row of 128 bytes, both halves of it dealt out in turns: the number of a byte turns left by a bit.
#[target_feature(enable = "avx2")]
#[inline]
fn riffle(v: [__m128i; BLOCK]) -> [__m128i; BLOCK] {
    let mut out = v;
    for i in 0..BLOCK / 2 {
        out[2 * i] = _mm_unpacklo_epi8(v[i], v[i + BLOCK / 2]);
        out[2 * i + 1] = _mm_unpackhi_epi8(v[i], v[i + BLOCK / 2]);
    }
    out
}

/// Writes columns of 16 codes as `[16][8]`.
#[target_feature(enable = "avx2")]
#[inline]
fn store_lanes(columns: [__m128i; BLOCK], to: &mut [i8; UNIT]) {
    // Three bits say which column.
    for (v, to) in riffle(riffle(riffle(columns))).into_iter().zip(to.as_chunks_mut::<PANEL>().0) {
        // SAFETY: 16 bytes.
        unsafe { _mm_storeu_si128(to.as_mut_ptr().cast(), v) };
    }
}

/// Registers of a unit's bytes.
#[target_feature(enable = "avx2")]
#[inline]
fn load(from: &[i8; UNIT]) -> [__m128i; BLOCK] {
    let mut v = [_mm_setzero_si128(); BLOCK];
    for (v, from) in v.iter_mut().zip(from.as_chunks::<PANEL>().0) {
        // SAFETY: 16 bytes.
        *v = unsafe { _mm_loadu_si128(from.as_ptr().cast()) };
    }
    v
}

/// Codes of values, as many as fit.
#[target_feature(enable = "avx2")]
#[inline]
fn round(values: &[f32], codes: &mut [i8; ROUNDED + PANEL]) {
    let (top, least) = (_mm256_set1_ps(TOP), _mm256_set1_ps(-TOP));
    for (values, codes) in values.chunks(HALF).zip(codes[..ROUNDED].as_chunks_mut::<HALF>().0) {
        let mut last = [0.0; HALF];
        let values = match values.first_chunk::<HALF>() {
            Some(values) => values,
            None => {
                last[..values.len()].copy_from_slice(values);
                &last
            }
        };
        // SAFETY: 8 floats.
        let scaled = _mm256_mul_ps(unsafe { _mm256_loadu_ps(values.as_ptr()) }, top);
        let number = _mm256_cmp_ps::<_CMP_ORD_Q>(scaled, scaled);
        let bounded = _mm256_min_ps(_mm256_max_ps(scaled, least), top);
        let code = _mm256_cvtps_epi32(_mm256_and_ps(bounded, number));
        let words = _mm_packs_epi32(_mm256_castsi256_si128(code), _mm256_extracti128_si256::<1>(code));
        // SAFETY: 8 bytes.
        unsafe { _mm_storel_epi64(codes.as_mut_ptr().cast(), _mm_packs_epi16(words, words)) };
    }
}

#[target_feature(enable = "avx2,popcnt")]
pub(super) fn bits_codes(masks: &[[u8; 2]], values: &[f32], out: &mut [i8]) {
    // Behind the last code there are some more to be read.
    let mut codes = [0i8; ROUNDED + PANEL];
    let (mut next, mut first) = (0, 0);
    round(values, &mut codes);
    for (masks, out) in masks.chunks(BLOCK).zip(out.as_chunks_mut::<UNIT>().0) {
        if next + UNIT > first + ROUNDED {
            first = next;
            round(&values[first..], &mut codes);
        }
        let mut columns = [_mm_setzero_si128(); BLOCK];
        for (column, mask) in columns.iter_mut().zip(masks) {
            let halves = mask.map(|mask| {
                // SAFETY: 8 codes behind fewer than 128, which are there: made above.
                let codes = unsafe { _mm_loadl_epi64(codes.as_ptr().add(next - first).cast()) };
                next += mask.count_ones() as usize;
                _mm_shuffle_epi8(codes, taken(mask))
            });
            *column = _mm_unpacklo_epi64(halves[0], halves[1]);
        }
        store_lanes(columns, out);
    }
}

#[target_feature(enable = "avx2")]
pub(super) fn few_codes(few: &Few<'_>, codes: &[i8], cols: usize, out: &mut [i8]) {
    let (keep, of) = (few.keep, few.of);
    let lanes = Places::new(position_bits(of));
    // Columns of eight groups; columns of 8 values.
    let Aligned(tile) = &mut Aligned([0i8; MAX_OF * UNIT]);
    let mut columns = [_mm_setzero_si128(); BLOCK];
    let mut own = [(_mm_setzero_si128(), _mm_setzero_si128()); MAX_OF];
    let (groups, units) = (cols.div_ceil(of), codes.as_chunks::<UNIT>().0);
    for (step, out) in out.chunks_mut(of * UNIT).enumerate() {
        for group in step * BLOCK..groups.min((step + 1) * BLOCK) {
            let mut before = _mm_set1_epi8(-1);
            for (slot, own) in own[..keep].iter_mut().enumerate() {
                let value = group * keep + slot;
                if value.is_multiple_of(BLOCK) {
                    // Four bits say which lane.
                    columns = riffle(riffle(riffle(riffle(load(&units[value / BLOCK])))));
                }
                let places = lanes.bytes(few.unit(value));
                let value = _mm_and_si128(columns[value % BLOCK], _mm_cmpgt_epi8(places, before));
                (*own, before) = ((places, value), _mm_max_epi8(before, places));
            }
            let tile = &mut tile[group % BLOCK * of * PANEL..][..of * PANEL];
            for (i, to) in tile.as_chunks_mut::<PANEL>().0.iter_mut().enumerate() {
                let (i, mut sum) = (_mm_set1_epi8(i as i8), _mm_setzero_si128());
                for &(places, value) in &own[..keep] {
                    sum = _mm_or_si128(sum, _mm_and_si128(value, _mm_cmpeq_epi8(places, i)));
                }
                // SAFETY: 16 bytes.
                unsafe { _mm_storeu_si128(to.as_mut_ptr().cast(), sum) };
            }
        }
        let there = cols - (step * BLOCK * of).min(cols);
        if there * PANEL < out.len() {
            tile[there * PANEL..out.len()].fill(0);
        }
        for (from, to) in tile.as_chunks::<UNIT>().0.iter().zip(out.as_chunks_mut::<UNIT>().0) {
            store_lanes(load(from), to);
        }
    }
}
