//! Results of 8 bits in AVX-512 registers, four registers at a time, where the epilogue is a scale, a bias and a clip.
//!
//! Codes grow with the values they stand for, so a clip of values is one of codes, of 64 at once. It is taken where no value is
//! NaN and none leaves i32, so that the bits are those of [`Epilogue::finish`].

use std::arch::x86_64::{
    __m256i, __m512, __m512i, __mmask16, _CMP_LT_OQ, _MM_HINT_T0, _mm_mask_storeu_epi8, _mm_prefetch,
    _mm_storeu_si128, _mm256_storeu_si256, _mm512_abs_ps, _mm512_add_epi32, _mm512_adds_epi16,
    _mm512_castsi512_si256, _mm512_cmp_ps_mask, _mm512_cvtepi32_ps, _mm512_cvtps_epi32,
    _mm512_extracti32x4_epi32, _mm512_extracti64x4_epi64, _mm512_fmadd_ps, _mm512_loadu_ps,
    _mm512_loadu_si512, _mm512_max_epi8, _mm512_min_epi8, _mm512_mul_ps, _mm512_mullo_epi32,
    _mm512_packs_epi16, _mm512_packs_epi32, _mm512_permutexvar_epi32, _mm512_set1_epi8, _mm512_set1_epi16,
    _mm512_set1_epi32, _mm512_set1_ps, _mm512_setr_epi32,
};

use super::super::gemm_u8::Reals;
use super::epilogue::{Columns, bounds, quantize};
use super::{Epilogue, Output, PANEL};

/// Values below which a code is an i32 with room to spare.
const MOST: f32 = (1u32 << 30) as f32;

/// Rows from one that is stored to one whose cache line is asked for: a result larger than the cache would wait for every line that it
/// writes.
const AHEAD: usize = 24;

/// Where codes go and how they are made.
#[derive(Clone, Copy)]
pub(in crate::cpu) struct Codes {
    at: *mut i8,
    stride: usize,
    inv_scale: f32,
    zero: i16,
    /// Codes of the clip's bounds.
    lo: i8,
    hi: i8,
}

impl Codes {
    /// `None` where the result is of floats, or there is more to do.
    pub(in crate::cpu) fn of(epilogue: &Epilogue<'_>, out: &mut Output<'_>) -> Option<Codes> {
        let Output::I8 { out, inv_scale, zero_point } = out else { return None };
        let (lo, hi) = bounds(epilogue.act)?;
        let finite = *inv_scale > 0.0 && *inv_scale < f32::INFINITY && lo <= hi;
        if !finite || epilogue.residual.is_some() || epilogue.factor.is_some() {
            return None;
        }
        let mut ends = [lo; PANEL];
        ends[1] = hi;
        let [lo, hi, ..] = quantize(&ends, *inv_scale, *zero_point);
        let zero = i16::try_from(*zero_point).ok().filter(|zero| (-128..128).contains(zero))?;
        Some(Codes { at: out.as_mut_ptr(), stride: out.stride(), inv_scale: *inv_scale, zero, lo, hi })
    }

    /// Whether all values of 16 columns are numbers whose codes fit i32: of sums up to `most`, multiplied by `scale` and those of `columns`.
    #[target_feature(enable = "avx512f,avx512dq")]
    #[inline]
    pub(in crate::cpu) fn fit(&self, most: f32, scale: __m512, columns: &Columns) -> bool {
        let (own, bias) = (load(&columns.scale), load(&columns.bias));
        let sums = _mm512_mul_ps(_mm512_set1_ps(most), _mm512_abs_ps(scale));
        let values = _mm512_fmadd_ps(sums, _mm512_abs_ps(own), _mm512_abs_ps(bias));
        let codes = _mm512_mul_ps(values, _mm512_set1_ps(self.inv_scale));
        // Not so for NaN.
        _mm512_cmp_ps_mask::<_CMP_LT_OQ>(codes, _mm512_set1_ps(MOST)) == 0xffff
    }

    /// Codes of 64 values: in each quarter four of each register.
    #[target_feature(enable = "avx512f,avx512bw")]
    #[inline]
    pub(in crate::cpu) fn of_values(&self, values: [__m512; 4]) -> __m512i {
        let inv_scale = _mm512_set1_ps(self.inv_scale);
        let [a, b, c, d] = values.map(|y| _mm512_cvtps_epi32(_mm512_mul_ps(y, inv_scale)));
        let zero = _mm512_set1_epi16(self.zero);
        let low = _mm512_adds_epi16(_mm512_packs_epi32(a, b), zero);
        let high = _mm512_adds_epi16(_mm512_packs_epi32(c, d), zero);
        let codes = _mm512_max_epi8(_mm512_packs_epi16(low, high), _mm512_set1_epi8(self.lo));
        _mm512_min_epi8(codes, _mm512_set1_epi8(self.hi))
    }

    /// Where row `row` of the result starts, from column `column` on.
    pub(in crate::cpu) fn at(&self, row: usize, column: usize) -> *mut i8 {
        self.at.wrapping_add(row * self.stride + column)
    }

    /// Makes codes of the sums of two panels from `row` on, or of one: `[panel][row][16]` whole numbers.
    ///
    /// # Safety
    /// The sums are there, and so are the rows and columns of the result, which nothing else uses.
    #[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl")]
    #[inline(never)]
    pub(in crate::cpu) unsafe fn store(
        &self,
        row: usize,
        sums: &[[f32; PANEL]],
        columns: &[Columns],
        (reals, panel): (&Reals<'_>, usize),
    ) {
        match columns {
            [first, second, ..] => {
                let whole = second.valid() == PANEL;
                let by = [By::of(first, reals, panel), By::of(second, reals, panel + 1)];
                let rows = sums.len() / 2;
                for r in (0..rows).step_by(2) {
                    // A row past the last is the last once more.
                    let next = usize::from(r + 1 < rows);
                    let at = [r, rows + r, r + next, rows + r + next];
                    // SAFETY: rows of sums.
                    let codes =
                        unsafe { self.in_order(sums.as_ptr(), at, [0, 1, 0, 1].map(|p: usize| &by[p])) };
                    let to = self.at(row + r, first.start);
                    let below = to.wrapping_add(next * self.stride);
                    _mm_prefetch::<_MM_HINT_T0>(to.wrapping_add(AHEAD * self.stride).cast());
                    // SAFETY: the caller's promise: rows and columns of the result.
                    unsafe {
                        if whole {
                            let (low, high) =
                                (_mm512_castsi512_si256(codes), _mm512_extracti64x4_epi64::<1>(codes));
                            _mm256_storeu_si256(to.cast::<__m256i>(), low);
                            _mm256_storeu_si256(below.cast::<__m256i>(), high);
                        } else {
                            let places = [to, to.wrapping_add(PANEL), below, below.wrapping_add(PANEL)];
                            store_parts(codes, places, [PANEL, second.valid(), PANEL, second.valid()]);
                        }
                    }
                }
            }
            [only] => {
                let by = By::of(only, reals, panel);
                let rows = sums.len();
                for r in (0..rows).step_by(4) {
                    let at = [0, 1, 2, 3].map(|i: usize| (r + i).min(rows - 1));
                    // SAFETY: rows of sums.
                    let codes = unsafe { self.in_order(sums.as_ptr(), at, [&by; 4]) };
                    let places = at.map(|r| self.at(row + r, only.start));
                    // SAFETY: the caller's promise: rows and columns of the result.
                    unsafe { store_parts(codes, places, [only.valid(); 4]) };
                }
            }
            [] => {}
        }
    }

    /// Codes of four rows of sums, one after the other.
    ///
    /// # Safety
    /// The rows are there.
    #[target_feature(enable = "avx512f,avx512bw")]
    #[inline]
    unsafe fn in_order(&self, sums: *const [f32; PANEL], at: [usize; 4], by: [&By; 4]) -> __m512i {
        let value = |i: usize| {
            // SAFETY: the caller's promise.
            let sums = unsafe { _mm512_loadu_si512(sums.add(at[i]).cast()) };
            let real = _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_add_epi32(sums, by[i].rest)), by[i].scale);
            _mm512_fmadd_ps(real, by[i].own, by[i].bias)
        };
        // The first register's four of each quarter, then the second's.
        let order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
        _mm512_permutexvar_epi32(order, self.of_values([value(0), value(1), value(2), value(3)]))
    }
}

/// What makes values of a panel's sums.
struct By {
    /// Is added to them.
    rest: __m512i,
    scale: __m512,
    /// The epilogue's.
    own: __m512,
    bias: __m512,
}

impl By {
    #[target_feature(enable = "avx512f")]
    #[inline]
    fn of(columns: &Columns, reals: &Reals<'_>, panel: usize) -> By {
        // SAFETY: 16 numbers.
        let own = unsafe { _mm512_loadu_si512(reals.sums[panel].as_ptr().cast()) };
        By {
            rest: _mm512_mullo_epi32(own, _mm512_set1_epi32(reals.factor)),
            scale: load(&reals.scales[panel]),
            own: load(&columns.scale),
            bias: load(&columns.bias),
        }
    }
}

/// Stores so many codes of each quarter.
///
/// # Safety
/// As many bytes are there.
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
#[inline]
unsafe fn store_parts(codes: __m512i, places: [*mut i8; 4], valid: [usize; 4]) {
    let parts = [
        _mm512_extracti32x4_epi32::<0>(codes),
        _mm512_extracti32x4_epi32::<1>(codes),
        _mm512_extracti32x4_epi32::<2>(codes),
        _mm512_extracti32x4_epi32::<3>(codes),
    ];
    for ((part, to), valid) in parts.into_iter().zip(places).zip(valid) {
        // SAFETY: the caller's promise.
        unsafe {
            match valid {
                PANEL => _mm_storeu_si128(to.cast(), part),
                valid => _mm_mask_storeu_epi8(to, ((1u32 << valid) - 1) as __mmask16, part),
            }
        }
    }
}

#[target_feature(enable = "avx512f")]
#[inline]
fn load(lanes: &[f32; PANEL]) -> __m512 {
    // SAFETY: 16 floats.
    unsafe { _mm512_loadu_ps(lanes.as_ptr()) }
}
