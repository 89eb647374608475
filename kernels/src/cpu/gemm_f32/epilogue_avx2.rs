//! The epilogue in AVX2 registers, for all matrix kernels and depthwise convolution.
//!
//! By hand, because the plain form is unrolled before it could be vectorised: element by element it took longer than the
//! products of K = 24 before it. The activations that do more than clip stay plain, on a tile in memory.

use std::arch::x86_64::{
    __m256, _mm_loadu_si128, _mm_packs_epi16, _mm_storeu_si128, _mm256_add_ps, _mm256_castsi256_si128,
    _mm256_cvtepi8_epi32, _mm256_cvtepi32_ps, _mm256_cvtps_epi32, _mm256_extracti128_si256, _mm256_fmadd_ps,
    _mm256_loadu_ps, _mm256_max_ps, _mm256_min_ps, _mm256_mul_ps, _mm256_packs_epi32,
    _mm256_permute4x64_epi64, _mm256_round_ps, _mm256_set1_epi32, _mm256_set1_ps, _mm256_storeu_ps,
    _mm256_sub_epi32,
};
use std::arch::x86_64::{_MM_FROUND_NO_EXC, _MM_FROUND_TO_NEAREST_INT, _mm_srli_si128};

use super::epilogue::{Columns, activate, bounds, load, store};
use super::{Addend, Epilogue, Output, PANEL, ResidualOrder};

/// A row of a tile.
type Row = [__m256; 2];

/// Epilogue of rows `row, row + 1, ...` and the columns of one panel. One copy for all tile shapes and all matrix
/// kernels.
#[target_feature(enable = "avx2,fma")]
#[inline(never)]
pub(in crate::cpu) fn finish(
    epilogue: &Epilogue<'_>,
    out: &mut Output<'_>,
    row: usize,
    columns: &Columns,
    tile: &mut [[f32; PANEL]],
) {
    let (scale, bias, factor) =
        (load_row(&columns.scale), load_row(&columns.bias), load_row(&columns.factor));
    let (before, after) = match &epilogue.residual {
        None => (None, None),
        Some((addend, ResidualOrder::BeforeActivation)) => (Some(addend), None),
        Some((addend, ResidualOrder::AfterActivation)) => (None, Some(addend)),
    };
    let clip = bounds(epilogue.act).map(|(lo, hi)| (_mm256_set1_ps(lo), _mm256_set1_ps(hi)));
    for (r, acc) in tile.iter_mut().enumerate() {
        let mut y = load_row(acc);
        for half in 0..2 {
            y[half] = _mm256_fmadd_ps(y[half], scale[half], bias[half]);
        }
        if let Some(addend) = before {
            y = plus(addend, row + r, columns, y);
        }
        let Some((lo, hi)) = clip else {
            store_row(y, acc);
            continue;
        };
        for (y, factor) in y.iter_mut().zip(factor) {
            // In this order of operands NaN comes through.
            *y = _mm256_mul_ps(_mm256_min_ps(hi, _mm256_max_ps(lo, *y)), factor);
        }
        if let Some(addend) = after {
            y = plus(addend, row + r, columns, y);
        }
        write(out, row + r, columns, y);
    }
    if clip.is_some() {
        return;
    }
    activate(epilogue.act, tile);
    for (r, y) in tile.iter().enumerate() {
        let mut y = load_row(y);
        for (y, factor) in y.iter_mut().zip(factor) {
            *y = _mm256_mul_ps(*y, factor);
        }
        if let Some(addend) = after {
            y = plus(addend, row + r, columns, y);
        }
        write(out, row + r, columns, y);
    }
}

#[target_feature(enable = "avx2,fma")]
#[inline]
fn load_row(lanes: &[f32; PANEL]) -> Row {
    // SAFETY: 8 of 16 floats at offsets 0 and 8.
    unsafe { [_mm256_loadu_ps(lanes.as_ptr()), _mm256_loadu_ps(lanes.as_ptr().add(8))] }
}

#[target_feature(enable = "avx2,fma")]
#[inline]
fn store_row(y: Row, lanes: &mut [f32; PANEL]) {
    // SAFETY: 8 of 16 floats at offsets 0 and 8.
    unsafe {
        _mm256_storeu_ps(lanes.as_mut_ptr(), y[0]);
        _mm256_storeu_ps(lanes.as_mut_ptr().add(8), y[1]);
    }
}

/// The residual's row `m` added.
#[target_feature(enable = "avx2,fma")]
#[inline]
fn plus(addend: &Addend<'_>, m: usize, columns: &Columns, y: Row) -> Row {
    match addend {
        Addend::F32(rows) => {
            let x = load_row(&load(&rows.row(m)[columns.start..][..columns.valid]));
            [_mm256_add_ps(y[0], x[0]), _mm256_add_ps(y[1], x[1])]
        }
        Addend::I8 { rows, scale, zero_point } => {
            let codes = load(&rows.row(m)[columns.start..][..columns.valid]);
            // SAFETY: 16 bytes.
            let codes = unsafe { _mm_loadu_si128(codes.as_ptr().cast()) };
            let (scale, zero) = (_mm256_set1_ps(*scale), _mm256_set1_epi32(*zero_point));
            let x = [codes, _mm_srli_si128::<8>(codes)]
                .map(|codes| _mm256_cvtepi32_ps(_mm256_sub_epi32(_mm256_cvtepi8_epi32(codes), zero)));
            [_mm256_fmadd_ps(x[0], scale, y[0]), _mm256_fmadd_ps(x[1], scale, y[1])]
        }
    }
}

/// Stores the columns that the result has.
#[target_feature(enable = "avx2,fma")]
#[inline]
fn write(out: &mut Output<'_>, m: usize, columns: &Columns, y: Row) {
    match out {
        Output::F32(out) => {
            let to = &mut out.row(m)[columns.start..][..columns.valid];
            match to.first_chunk_mut::<PANEL>() {
                Some(whole) => store_row(y, whole),
                None => {
                    let mut lanes = [0.0; PANEL];
                    store_row(y, &mut lanes);
                    store(&lanes, to);
                }
            }
        }
        Output::I8 { out, inv_scale, zero_point } => {
            let (inv_scale, zero) = (_mm256_set1_ps(*inv_scale), _mm256_set1_ps(*zero_point as f32));
            let codes = y.map(|y| {
                const NEAREST_EVEN: i32 = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
                let q = _mm256_add_ps(_mm256_round_ps::<NEAREST_EVEN>(_mm256_mul_ps(y, inv_scale)), zero);
                // NaN fails the first comparison, and becomes the lower bound.
                let q = _mm256_max_ps(q, _mm256_set1_ps(-128.0));
                _mm256_cvtps_epi32(_mm256_min_ps(q, _mm256_set1_ps(127.0)))
            });
            // Packing goes by halves of registers: the quarters come out as 0 2 1 3.
            let words = _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_packs_epi32(codes[0], codes[1]));
            let bytes = _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256::<1>(words));
            let mut lanes = [0i8; PANEL];
            // SAFETY: 16 bytes.
            unsafe { _mm_storeu_si128(lanes.as_mut_ptr().cast(), bytes) };
            store(&lanes, &mut out.row(m)[columns.start..][..columns.valid]);
        }
    }
}
