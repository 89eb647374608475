//! AVX-512: rows of softmax along the last axis. The operations of the plain form in the same order, so the same bits.

use std::arch::x86_64::{
    __m512, __mmask16, _CMP_LT_OQ, _CMP_UNORD_Q, _mm512_add_ps, _mm512_cmp_ps_mask, _mm512_div_ps,
    _mm512_fmadd_ps, _mm512_mask_add_ps, _mm512_mask_cmp_ps_mask, _mm512_mask_max_ps, _mm512_mask_storeu_ps,
    _mm512_maskz_loadu_ps, _mm512_maskz_scalef_ps, _mm512_max_ps, _mm512_mul_ps, _mm512_reduce_max_ps,
    _mm512_set1_ps, _mm512_storeu_ps, _mm512_sub_ps,
};
use std::f32::consts::LOG2_E;

use super::super::loops::{LANES, join_lanes};
use super::super::math::{EXP, LN_2, ROUND};
use super::{LEAST, divisor, finite_shift};

/// Registers that go side by side: one after the other, each operation would wait for the one before it.
const TOGETHER: usize = 4;

/// Softmax of one row, in place.
#[target_feature(enable = "avx512f,avx512dq")]
pub(super) fn softmax_row(y: &mut [f32]) {
    let (mut most, mut nan) = (_mm512_set1_ps(f32::NEG_INFINITY), 0);
    each(y, |y, mask| {
        // SAFETY: as many floats as the mask has bits.
        let x = unsafe { _mm512_maskz_loadu_ps(mask, y) };
        nan |= _mm512_mask_cmp_ps_mask::<_CMP_UNORD_Q>(mask, x, x);
        most = _mm512_mask_max_ps(most, mask, most, x);
    });
    let shift = if nan == 0 { finite_shift(_mm512_reduce_max_ps(most)) } else { f32::NAN };
    let mut sums = _mm512_set1_ps(0.0);
    let by = _mm512_set1_ps(shift);
    let (fours, rest) = y.as_chunks_mut::<{ TOGETHER * LANES }>();
    for four in fours {
        let to = four.as_mut_ptr();
        // SAFETY: four times 16 floats.
        let x = [0, 1, 2, 3].map(|i: usize| unsafe { _mm512_maskz_loadu_ps(!0, to.add(i * LANES)) });
        for (i, e) in terms(x.map(|x| _mm512_sub_ps(x, by))).into_iter().enumerate() {
            sums = _mm512_add_ps(sums, e);
            // SAFETY: as above.
            unsafe { _mm512_storeu_ps(to.add(i * LANES), e) };
        }
    }
    each(rest, |y, mask| {
        // SAFETY: as many floats as the mask has bits.
        unsafe {
            let [e, ..] = terms([_mm512_sub_ps(_mm512_maskz_loadu_ps(mask, y), by); TOGETHER]);
            sums = _mm512_mask_add_ps(sums, mask, sums, e);
            _mm512_mask_storeu_ps(y, mask, e);
        }
    });
    let mut lanes = [0.0; LANES];
    // SAFETY: 16 floats.
    unsafe { _mm512_storeu_ps(lanes.as_mut_ptr(), sums) };
    let sum = _mm512_set1_ps(divisor(join_lanes(lanes, |a, b| a + b)));
    each(y, |y, mask| {
        // SAFETY: as many floats as the mask has bits.
        unsafe { _mm512_mask_storeu_ps(y, mask, _mm512_div_ps(_mm512_maskz_loadu_ps(mask, y), sum)) };
    });
}

/// Calls `f(address, mask)` for each 16 floats, or what is left of them.
#[target_feature(enable = "avx512f,avx512dq")]
#[inline]
fn each(y: &mut [f32], mut f: impl FnMut(*mut f32, __mmask16)) {
    for y in y.chunks_mut(LANES) {
        f(y.as_mut_ptr(), ((1u32 << y.len()) - 1) as __mmask16);
    }
}

/// [`super::term`]. What counts is at least `exp(LEAST)`, no subnormal number, so that one scaling by `2^n` is exact.
#[target_feature(enable = "avx512f,avx512dq")]
#[inline]
fn terms(x: [__m512; TOGETHER]) -> [__m512; TOGETHER] {
    let set = |value: f32| _mm512_set1_ps(value);
    // In this order of operands NaN comes through.
    let c = x.map(|x| _mm512_max_ps(set(LEAST), x));
    let n = c.map(|c| _mm512_sub_ps(_mm512_fmadd_ps(c, set(LOG2_E), set(ROUND)), set(ROUND)));
    let [mut r, mut q, mut y] = [c; 3];
    for i in 0..TOGETHER {
        r[i] = _mm512_fmadd_ps(n[i], set(-LN_2[0]), c[i]);
        r[i] = _mm512_fmadd_ps(n[i], set(-LN_2[1]), r[i]);
        q[i] = set(EXP[0]);
    }
    for coefficient in &EXP[1..] {
        for i in 0..TOGETHER {
            q[i] = _mm512_fmadd_ps(q[i], r[i], set(*coefficient));
        }
    }
    for i in 0..TOGETHER {
        let p = _mm512_fmadd_ps(_mm512_mul_ps(r[i], r[i]), q[i], r[i]);
        let below = _mm512_cmp_ps_mask::<_CMP_LT_OQ>(x[i], set(LEAST));
        y[i] = _mm512_maskz_scalef_ps(!below, _mm512_add_ps(p, set(1.0)), n[i]);
    }
    y
}
