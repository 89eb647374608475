//! The epilogue in AVX-512 registers: a row of a tile is one of them, and a mask cuts what lies past the last column.
//!
//! The same operations in the same order as the plain form, so the same bits.

use std::arch::x86_64::{
    __m512, __mmask16, _MM_FROUND_NO_EXC, _MM_FROUND_TO_NEAREST_INT, _mm_mask_storeu_epi8,
    _mm_maskz_loadu_epi8, _mm512_add_ps, _mm512_cvtepi8_epi32, _mm512_cvtepi32_epi8, _mm512_cvtepi32_ps,
    _mm512_cvtps_epi32, _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_mask_storeu_ps, _mm512_maskz_loadu_ps,
    _mm512_max_ps, _mm512_min_ps, _mm512_mul_ps, _mm512_roundscale_ps, _mm512_set1_epi32, _mm512_set1_ps,
    _mm512_storeu_ps, _mm512_sub_epi32,
};

use super::epilogue::{Columns, activate, bounds};
use super::{Addend, Epilogue, Output, PANEL, ResidualOrder};

/// Epilogue of rows `row, row + 1, ...` and the columns of one panel. One copy for all tile shapes and all matrix
/// kernels.
#[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl")]
#[inline(never)]
pub(in crate::cpu) fn finish(
    epilogue: &Epilogue<'_>,
    out: &mut Output<'_>,
    row: usize,
    columns: &Columns,
    tile: &mut [[f32; PANEL]],
) {
    let (scale, bias) = (load(&columns.scale), load(&columns.bias));
    let (before, after) = match &epilogue.residual {
        None => (None, None),
        Some((addend, ResidualOrder::BeforeActivation)) => (Some(addend), None),
        Some((addend, ResidualOrder::AfterActivation)) => (None, Some(addend)),
    };
    let Some((lo, hi)) = bounds(epilogue.act).map(|(lo, hi)| (_mm512_set1_ps(lo), _mm512_set1_ps(hi))) else {
        for (r, acc) in tile.iter_mut().enumerate() {
            let mut y = _mm512_fmadd_ps(load(acc), scale, bias);
            if let Some(addend) = before {
                y = plus(addend, row + r, columns, y);
            }
            // SAFETY: 16 floats.
            unsafe { _mm512_storeu_ps(acc.as_mut_ptr(), y) };
        }
        activate(epilogue.act, tile);
        for (r, acc) in tile.iter().enumerate() {
            let mut y = load(acc);
            if let Some(addend) = after {
                y = plus(addend, row + r, columns, y);
            }
            write(out, row + r, columns, y);
        }
        return;
    };
    if let (None, Output::F32(out)) = (&epilogue.residual, &mut *out) {
        // The usual case, without a question in its loop.
        let (mask, stride) = (mask(columns), out.stride());
        let mut to =
            out.part(row..row + tile.len(), columns.start..columns.start + columns.valid).as_mut_ptr();
        for acc in tile.iter() {
            let y = _mm512_fmadd_ps(load(acc), scale, bias);
            // SAFETY: rows of the result, `stride` apart, as many columns of each as the mask has bits: checked by `part`.
            unsafe { _mm512_mask_storeu_ps(to, mask, _mm512_min_ps(hi, _mm512_max_ps(lo, y))) };
            to = to.wrapping_add(stride);
        }
        return;
    }
    for (r, acc) in tile.iter().enumerate() {
        let mut y = _mm512_fmadd_ps(load(acc), scale, bias);
        if let Some(addend) = before {
            y = plus(addend, row + r, columns, y);
        }
        // In this order of operands NaN comes through.
        y = _mm512_min_ps(hi, _mm512_max_ps(lo, y));
        if let Some(addend) = after {
            y = plus(addend, row + r, columns, y);
        }
        write(out, row + r, columns, y);
    }
}

#[target_feature(enable = "avx512f")]
#[inline]
fn load(lanes: &[f32; PANEL]) -> __m512 {
    // SAFETY: 16 floats.
    unsafe { _mm512_loadu_ps(lanes.as_ptr()) }
}

/// The lanes of the columns that the result has.
#[inline(always)]
fn mask(columns: &Columns) -> __mmask16 {
    ((1u32 << columns.valid()) - 1) as __mmask16
}

/// The residual's row `m` added.
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
#[inline]
fn plus(addend: &Addend<'_>, m: usize, columns: &Columns, y: __m512) -> __m512 {
    match addend {
        Addend::F32(rows) => {
            let x = &rows.row(m)[columns.start..][..columns.valid];
            // SAFETY: as many floats as the mask has bits.
            _mm512_add_ps(y, unsafe { _mm512_maskz_loadu_ps(mask(columns), x.as_ptr()) })
        }
        Addend::I8 { rows, scale, zero_point } => {
            let x = &rows.row(m)[columns.start..][..columns.valid];
            // SAFETY: as many bytes as the mask has bits.
            let codes = unsafe { _mm_maskz_loadu_epi8(mask(columns), x.as_ptr()) };
            let x = _mm512_sub_epi32(_mm512_cvtepi8_epi32(codes), _mm512_set1_epi32(*zero_point));
            _mm512_fmadd_ps(_mm512_cvtepi32_ps(x), _mm512_set1_ps(*scale), y)
        }
    }
}

/// Stores the columns that the result has.
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
#[inline]
fn write(out: &mut Output<'_>, m: usize, columns: &Columns, y: __m512) {
    match out {
        Output::F32(out) => {
            let to = &mut out.row(m)[columns.start..][..columns.valid];
            // SAFETY: as many floats as the mask has bits.
            unsafe { _mm512_mask_storeu_ps(to.as_mut_ptr(), mask(columns), y) };
        }
        Output::I8 { out, inv_scale, zero_point } => {
            const NEAREST_EVEN: i32 = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
            let scaled = _mm512_mul_ps(y, _mm512_set1_ps(*inv_scale));
            let zero = _mm512_set1_ps(*zero_point as f32);
            let q = _mm512_add_ps(_mm512_roundscale_ps::<NEAREST_EVEN>(scaled), zero);
            // NaN fails the first comparison, and becomes the lower bound.
            let q = _mm512_min_ps(_mm512_max_ps(q, _mm512_set1_ps(-128.0)), _mm512_set1_ps(127.0));
            let codes = _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(q));
            let to = &mut out.row(m)[columns.start..][..columns.valid];
            // SAFETY: as many bytes as the mask has bits.
            unsafe { _mm_mask_storeu_epi8(to.as_mut_ptr(), mask(columns), codes) };
        }
    }
}
