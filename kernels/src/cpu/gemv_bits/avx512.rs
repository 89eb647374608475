//! AVX-512 with VNNI and VBMI2: values become columns by an expansion, in a register, and are multiplied there.
//!
//! ```text
//! floats:   for each column: 16 bits expand values; scaled; a multiply-add a row with its activation in all lanes
//! integers: for each four columns: 64 bits expand codes; [4][16] to [16][4] by a permutation; a vpdpbusd a row with four activations
//! ```

use std::arch::x86_64::{
    __m512, _mm512_cvtepi32_ps, _mm512_dpbusd_epi32, _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_loadu_si512,
    _mm512_maskz_expand_epi8, _mm512_maskz_expand_ps, _mm512_maskz_loadu_ps, _mm512_maskz_mul_ps,
    _mm512_mullo_epi32, _mm512_permutexvar_epi8, _mm512_set1_epi8, _mm512_set1_epi32, _mm512_set1_ps,
    _mm512_setzero_ps, _mm512_storeu_ps, _mm512_storeu_si512, _mm512_sub_epi32,
};

use super::{BLOCK, Columns, Epilogue, Isa, MAX_FLOAT_ROWS, MAX_ROWS, Output, PANEL, Rows, Sums, Variant};
use crate::cpu::gemm_f32::epilogue_avx512;
use crate::cpu::spread::vbmi2::{ROUNDED, VEC, round};
use crate::cpu::tile::Aligned;

pub(super) const VARIANT: Variant = Variant {
    name: "gemv_bits__avx512_vnni",
    isa: Isa::Avx512Vnni,
    extra: || {
        std::arch::is_x86_feature_detected!("avx512vbmi")
            && std::arch::is_x86_feature_detected!("avx512vbmi2")
    },
    add_f32,
    add_i8,
    finish,
};

#[target_feature(enable = "avx2,fma,popcnt,avx512f,avx512bw,avx512dq,avx512vl")]
fn add_f32(columns: Columns<'_>, scales: &[f32; PANEL], x: Rows<'_, f32>, sums: &mut Sums) {
    match x.rows() {
        1 => floats::<1>(columns, scales, x, sums),
        _ => floats::<MAX_FLOAT_ROWS>(columns, scales, x, sums),
    }
}

/// As [`add_f32`] for `R` rows; those that are not there are the last one again.
#[target_feature(enable = "avx2,fma,popcnt,avx512f,avx512bw,avx512dq,avx512vl")]
fn floats<const R: usize>(columns: Columns<'_>, scales: &[f32; PANEL], x: Rows<'_, f32>, sums: &mut Sums) {
    let x: [&[f32]; R] =
        std::array::from_fn(|r| &x.row(r.min(x.rows() - 1))[columns.first..][..columns.masks.len()]);
    // SAFETY: 16 floats each.
    let (scales, mut acc): (__m512, [__m512; R]) = unsafe {
        (_mm512_loadu_ps(scales.as_ptr()), std::array::from_fn(|r| _mm512_loadu_ps(sums.floats[r].as_ptr())))
    };
    let mut next = 0;
    for (k, mask) in columns.masks.iter().enumerate() {
        let mask = u16::from_le_bytes(*mask);
        // SAFETY: `next` is at most the number of values: bits before this column are no more. The mask leaves what is there.
        let values = unsafe {
            let from = columns.values.as_ptr().add(next);
            match columns.values.len() - next {
                PANEL.. => _mm512_loadu_ps(from),
                left => _mm512_maskz_loadu_ps((1 << left) - 1, from),
            }
        };
        next += mask.count_ones() as usize;
        let weight = _mm512_maskz_mul_ps(mask, scales, _mm512_maskz_expand_ps(mask, values));
        for (acc, x) in acc.iter_mut().zip(x) {
            // SAFETY: rows have as many columns as there are masks.
            *acc = _mm512_fmadd_ps(_mm512_set1_ps(unsafe { *x.get_unchecked(k) }), weight, *acc);
        }
    }
    for (to, acc) in sums.floats.iter_mut().zip(acc) {
        // SAFETY: 16 floats.
        unsafe { _mm512_storeu_ps(to.as_mut_ptr(), acc) };
    }
}

#[target_feature(
    enable = "avx2,fma,popcnt,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512vbmi,avx512vbmi2"
)]
fn add_i8(columns: Columns<'_>, x: Rows<'_, u8>, sums: &mut Sums) {
    let m = x.rows();
    for row in (0..m).step_by(4) {
        match m - row {
            1 => codes::<1>(columns, x, row, sums),
            _ => codes::<4>(columns, x, row, sums),
        }
    }
}

/// As [`add_i8`] for `R` rows from `row` on; those that are not there are the last one again.
#[target_feature(
    enable = "avx2,fma,popcnt,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512vbmi,avx512vbmi2"
)]
fn codes<const R: usize>(columns: Columns<'_>, x: Rows<'_, u8>, row: usize, sums: &mut Sums) {
    let (there, ones) = (x.rows() - row, _mm512_set1_epi8(1));
    let whole = columns.masks.len().next_multiple_of(BLOCK);
    let x: [&[u8]; R] = std::array::from_fn(|r| &x.row(row + r.min(there - 1))[columns.first..][..whole]);
    let mut lanes = [0u8; VEC];
    for (i, lane) in lanes.iter_mut().enumerate() {
        *lane = (i % 4 * PANEL + i / 4) as u8;
    }
    // SAFETY: 64 bytes each.
    let (lanes, mut acc, mut all) = unsafe {
        (
            _mm512_loadu_si512(lanes.as_ptr().cast()),
            std::array::from_fn::<_, R, _>(|r| {
                _mm512_loadu_si512(sums.whole[row + r.min(there - 1)].as_ptr().cast())
            }),
            _mm512_loadu_si512(sums.codes.as_ptr().cast()),
        )
    };
    // Behind the last code there is a register more to be read.
    let Aligned(rounded) = &mut Aligned([0i8; ROUNDED + VEC]);
    let (mut next, mut first) = (0, 0);
    round(columns.values, rounded);
    for (unit, masks) in columns.masks.chunks(4).enumerate() {
        if next + VEC > first + ROUNDED {
            first = next;
            round(&columns.values[first..], rounded);
        }
        let mut four = [[0; 2]; 4];
        four[..masks.len()].copy_from_slice(masks);
        let mask = u64::from_le_bytes(*four.as_flattened().first_chunk().unwrap_or(&[0; 8]));
        // SAFETY: 64 codes behind at most 1024; four activations of each row, of any bits.
        let (codes, x): (_, [i32; R]) = unsafe {
            (
                _mm512_loadu_si512(rounded.as_ptr().add(next - first).cast()),
                std::array::from_fn(|r| x[r].as_ptr().add(4 * unit).cast::<i32>().read_unaligned()),
            )
        };
        next += mask.count_ones() as usize;
        let c = _mm512_permutexvar_epi8(lanes, _mm512_maskz_expand_epi8(mask, codes));
        all = _mm512_dpbusd_epi32(all, ones, c);
        for (acc, x) in acc.iter_mut().zip(x) {
            *acc = _mm512_dpbusd_epi32(*acc, _mm512_set1_epi32(x), c);
        }
    }
    for (r, acc) in acc.into_iter().enumerate().take(there) {
        // SAFETY: 16 words.
        unsafe { _mm512_storeu_si512(sums.whole[row + r].as_mut_ptr().cast(), acc) };
    }
    if row == 0 {
        // SAFETY: 16 words.
        unsafe { _mm512_storeu_si512(sums.codes.as_mut_ptr().cast(), all) };
    }
}

#[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl")]
fn finish(sums: &Sums, out: &mut Output<'_>, codes: Option<(&[f32; PANEL], i32)>, epilogue: &Epilogue<'_>) {
    let columns = epilogue.columns(0, out.cols());
    let Aligned(results) = &mut Aligned([[0.0; PANEL]; MAX_ROWS]);
    let m = out.rows();
    match codes {
        None => results[..MAX_FLOAT_ROWS].copy_from_slice(&sums.floats),
        Some((scales, zero_point)) => {
            // SAFETY: 16 numbers each.
            let (scales, all) =
                unsafe { (_mm512_loadu_ps(scales.as_ptr()), _mm512_loadu_si512(sums.codes.as_ptr().cast())) };
            let zero = _mm512_mullo_epi32(all, _mm512_set1_epi32(zero_point + 128));
            for (to, sums) in results[..m].iter_mut().zip(&sums.whole) {
                // SAFETY: 16 numbers each.
                unsafe {
                    let t = _mm512_sub_epi32(_mm512_loadu_si512(sums.as_ptr().cast()), zero);
                    let acc = _mm512_fmadd_ps(_mm512_cvtepi32_ps(t), scales, _mm512_setzero_ps());
                    _mm512_storeu_ps(to.as_mut_ptr(), acc);
                }
            }
        }
    }
    for row in (0..m).step_by(4) {
        epilogue_avx512::finish(epilogue, out, row, &columns, &mut results[row..m.min(row + 4)]);
    }
}
