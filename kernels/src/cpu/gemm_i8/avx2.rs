//! AVX2: two schedules on one layout, chosen by the width of the codes.
//!
//! ```text
//! for each panel, for each tile of up to 3 rows, for each group:
//!     wide (8 bits):    8 columns at a time: codes and activations widened to i16, multiplied and added in pairs
//!                       to i32 (exact; the u8 x i8 multiply would saturate)
//!     narrow (to 7):    16 columns: activations as u8 = x + 128, u8 x i8 products added in pairs to i16, as many
//!                       of them as cannot overflow, then to i32; the 128 goes into the zero point and row sum
//!     sums of each column joined, corrected, scaled, added to the f32 accumulators
//! epilogue
//! ```

use std::arch::x86_64::{
    __m128i, __m256, __m256i, _mm_add_epi64, _mm_cvtsi64_si128, _mm_cvtsi128_si32, _mm_loadu_si128,
    _mm_set1_epi64x, _mm_unpackhi_epi64, _mm256_add_epi16, _mm256_add_epi32, _mm256_broadcastq_epi64,
    _mm256_castsi256_si128, _mm256_cvtepi8_epi16, _mm256_cvtepi32_ps, _mm256_extracti128_si256,
    _mm256_fmadd_ps, _mm256_hadd_epi32, _mm256_loadu_ps, _mm256_loadu_si256, _mm256_madd_epi16,
    _mm256_maddubs_epi16, _mm256_mullo_epi32, _mm256_permute4x64_epi64, _mm256_permutevar8x32_epi32,
    _mm256_sad_epu8, _mm256_set1_epi8, _mm256_set1_epi16, _mm256_set1_epi32, _mm256_setr_epi32,
    _mm256_setzero_ps, _mm256_setzero_si256, _mm256_slli_epi32, _mm256_storeu_ps, _mm256_sub_epi32,
    _mm256_xor_si256,
};

use super::super::gemm_f32::avx2::finish;
use super::{BLOCK, Group, Isa, PANEL, Task, Variant};

pub(super) const VARIANT: Variant = Variant { name: "gemm_w8_a8__avx2", isa: Isa::Avx2, run, sum };

/// Rows of a full tile: 3 x 4 accumulators, 3 activations and 1 vector of codes fit 16 registers.
const MR: usize = 3;

/// Bytes of a block of codes.
const BLOCK_BYTES: usize = PANEL * BLOCK;

#[target_feature(enable = "avx2,fma")]
fn run(task: &mut Task<'_>) {
    if task.w.code_bits < 8 { rows::<true>(task) } else { rows::<false>(task) }
}

#[target_feature(enable = "avx2,fma")]
fn rows<const NARROW: bool>(task: &mut Task<'_>) {
    let m = task.out.rows();
    let full = m - m % MR;
    for panel in 0..task.out.cols().div_ceil(PANEL) {
        for row in (0..full).step_by(MR) {
            tile::<MR, NARROW>(task, row, panel);
        }
        match m - full {
            0 => {}
            1 => tile::<1, NARROW>(task, full, panel),
            _ => tile::<2, NARROW>(task, full, panel),
        }
    }
}

/// `ROWS` rows from `row` times one panel.
#[target_feature(enable = "avx2,fma")]
fn tile<const ROWS: usize, const NARROW: bool>(task: &mut Task<'_>, row: usize, panel: usize) {
    let (w, groups, rest) = (task.w, task.w.groups(), task.w.k % BLOCK);
    let mut x: [&[i8]; ROWS] = [&[]; ROWS];
    // The bytes of a last, partial block with zeros behind them: what follows a row may not be readable.
    let mut tails = [0i64; ROWS];
    for (r, (x, tail)) in x.iter_mut().zip(&mut tails).enumerate() {
        *x = task.x.rows.row(row + r);
        let mut bytes = [0u8; BLOCK];
        for (to, &from) in bytes.iter_mut().zip(&x[w.k - rest..]) {
            *to = from as u8;
        }
        *tail = i64::from_le_bytes(bytes);
    }
    // Narrow codes multiply x + 128.
    let shift = if NARROW { 128 } else { 0 };
    let mut acc = [[_mm256_setzero_ps(); 2]; ROWS];
    for g in 0..groups {
        let group = w.at(panel, g);
        let mut dot = [[_mm256_setzero_si256(); 2]; ROWS];
        if NARROW {
            narrow(&x, &tails, &group, w.code_bits, &mut dot);
        } else {
            wide(&x, &tails, &group, &mut dot);
        }
        for half in 0..2 {
            // SAFETY: 8 of 16 elements at offset 0 or 8.
            let (colsum, scale) = unsafe {
                (
                    load(group.colsum.as_ptr().add(half * 8)),
                    _mm256_loadu_ps(group.scales.as_ptr().add(half * 8)),
                )
            };
            let zero = _mm256_mullo_epi32(colsum, _mm256_set1_epi32(task.x.zero_point + shift));
            for r in 0..ROWS {
                let mut t = dot[r][half];
                if w.half_offset {
                    let sum =
                        task.x.row_sums[(row + r) * groups + g] + shift * (group.to - group.from) as i32;
                    t = _mm256_add_epi32(_mm256_slli_epi32::<1>(t), _mm256_set1_epi32(sum));
                }
                let t = _mm256_cvtepi32_ps(_mm256_sub_epi32(t, zero));
                acc[r][half] = _mm256_fmadd_ps(t, scale, acc[r][half]);
            }
        }
    }
    let mut y = [[0.0f32; PANEL]; ROWS];
    store(&acc, &mut y);
    finish(task.epilogue, &mut task.out, row, panel * PANEL, &mut y);
}

/// `dot[r][half] = sum over the group of q * x`, columns `8 half ..`; any codes.
#[target_feature(enable = "avx2,fma")]
fn wide<const ROWS: usize>(
    x: &[&[i8]; ROWS],
    tails: &[i64; ROWS],
    group: &Group<'_>,
    dot: &mut [[__m256i; 2]; ROWS],
) {
    let whole = (group.to - group.from) / BLOCK;
    for half in 0..2 {
        // acc[r][j]: 4 partial sums of column 2j below, of column 2j + 1 above.
        let mut acc = [[_mm256_setzero_si256(); 4]; ROWS];
        for block in 0..whole {
            let values = at(x, group.from + block * BLOCK);
            wide_block(&values, &group.codes[block * BLOCK_BYTES + half * 64..], &mut acc);
        }
        if whole * BLOCK < group.to - group.from {
            wide_block(tails, &group.codes[whole * BLOCK_BYTES + half * 64..], &mut acc);
        }
        for r in 0..ROWS {
            let [a, b, c, d] = acc[r];
            let even_odd = _mm256_hadd_epi32(_mm256_hadd_epi32(a, b), _mm256_hadd_epi32(c, d));
            // Below columns 0 2 4 6, above 1 3 5 7.
            let order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
            dot[r][half] = _mm256_permutevar8x32_epi32(even_odd, order);
        }
    }
}

#[target_feature(enable = "avx2,fma")]
#[inline]
fn wide_block<const ROWS: usize>(values: &[i64; ROWS], codes: &[i8], acc: &mut [[__m256i; 4]; ROWS]) {
    let codes = &codes[..64];
    let mut lhs = [_mm256_setzero_si256(); ROWS];
    for r in 0..ROWS {
        lhs[r] = _mm256_cvtepi8_epi16(_mm_set1_epi64x(values[r]));
    }
    for j in 0..4 {
        // SAFETY: 16 of 64 bytes at offset 16 j.
        let rhs = unsafe { _mm256_cvtepi8_epi16(load_half(codes.as_ptr().add(16 * j))) };
        for r in 0..ROWS {
            acc[r][j] = _mm256_add_epi32(acc[r][j], _mm256_madd_epi16(lhs[r], rhs));
        }
    }
}

/// `dot[r][half] = sum over the group of q * (x + 128)`; codes of `bits` at most 7.
#[target_feature(enable = "avx2,fma")]
fn narrow<const ROWS: usize>(
    x: &[&[i8]; ROWS],
    tails: &[i64; ROWS],
    group: &Group<'_>,
    bits: u32,
    dot: &mut [[__m256i; 2]; ROWS],
) {
    // A pair of products is at most 2 * 255 * 2^(bits-1) in size; 2^(7-bits) of them stay within 32640.
    let depth = 1usize << (7 - bits);
    let whole = (group.to - group.from) / BLOCK;
    let ones = _mm256_set1_epi16(1);
    // acc[r][j]: 2 partial sums of each of columns 4j .. 4j + 3.
    let mut acc = [[_mm256_setzero_si256(); 4]; ROWS];
    let mut block = 0;
    while block < whole {
        let mut pairs = [[_mm256_setzero_si256(); 4]; ROWS];
        let end = whole.min(block + depth);
        while block < end {
            let values = at(x, group.from + block * BLOCK);
            narrow_block(&values, &group.codes[block * BLOCK_BYTES..], &mut pairs);
            block += 1;
        }
        widen(&pairs, ones, &mut acc);
    }
    if whole * BLOCK < group.to - group.from {
        let mut pairs = [[_mm256_setzero_si256(); 4]; ROWS];
        narrow_block(tails, &group.codes[whole * BLOCK_BYTES..], &mut pairs);
        widen(&pairs, ones, &mut acc);
    }
    for r in 0..ROWS {
        for half in 0..2 {
            let sums = _mm256_hadd_epi32(acc[r][2 * half], acc[r][2 * half + 1]);
            // Below columns 0 1 4 5, above 2 3 6 7.
            dot[r][half] = _mm256_permute4x64_epi64::<0b11_01_10_00>(sums);
        }
    }
}

#[target_feature(enable = "avx2,fma")]
#[inline]
fn widen<const ROWS: usize>(pairs: &[[__m256i; 4]; ROWS], ones: __m256i, acc: &mut [[__m256i; 4]; ROWS]) {
    for r in 0..ROWS {
        for j in 0..4 {
            acc[r][j] = _mm256_add_epi32(acc[r][j], _mm256_madd_epi16(pairs[r][j], ones));
        }
    }
}

#[target_feature(enable = "avx2,fma")]
#[inline]
fn narrow_block<const ROWS: usize>(values: &[i64; ROWS], codes: &[i8], acc: &mut [[__m256i; 4]; ROWS]) {
    let codes = &codes[..BLOCK_BYTES];
    let mut lhs = [_mm256_setzero_si256(); ROWS];
    for r in 0..ROWS {
        let x = _mm256_broadcastq_epi64(_mm_cvtsi64_si128(values[r]));
        lhs[r] = _mm256_xor_si256(x, _mm256_set1_epi8(-128));
    }
    for j in 0..4 {
        // SAFETY: 32 of 128 bytes at offset 32 j.
        let rhs = unsafe { load(codes.as_ptr().add(32 * j)) };
        for r in 0..ROWS {
            acc[r][j] = _mm256_add_epi16(acc[r][j], _mm256_maddubs_epi16(lhs[r], rhs));
        }
    }
}

/// Eight activations of each row from `k` on, as one little-endian word.
#[target_feature(enable = "avx2,fma")]
#[inline]
fn at<const ROWS: usize>(x: &[&[i8]; ROWS], k: usize) -> [i64; ROWS] {
    let mut values = [0; ROWS];
    for (value, row) in values.iter_mut().zip(x) {
        let bytes = &row[k..k + BLOCK];
        // SAFETY: 8 bytes, of which every pattern is an i64.
        *value = unsafe { bytes.as_ptr().cast::<i64>().read_unaligned() };
    }
    values
}

/// # Safety
/// `from` points to 32 readable bytes.
#[target_feature(enable = "avx2,fma")]
#[inline]
unsafe fn load<T>(from: *const T) -> __m256i {
    // SAFETY: the caller's promise.
    unsafe { _mm256_loadu_si256(from.cast()) }
}

/// # Safety
/// `from` points to 16 readable bytes.
#[target_feature(enable = "avx2,fma")]
#[inline]
unsafe fn load_half(from: *const i8) -> __m128i {
    // SAFETY: the caller's promise.
    unsafe { _mm_loadu_si128(from.cast()) }
}

#[target_feature(enable = "avx2,fma")]
#[inline]
fn store<const ROWS: usize>(acc: &[[__m256; 2]; ROWS], y: &mut [[f32; PANEL]; ROWS]) {
    for (acc, y) in acc.iter().zip(y) {
        // SAFETY: 8 of 16 floats at offsets 0 and 8.
        unsafe {
            _mm256_storeu_ps(y.as_mut_ptr(), acc[0]);
            _mm256_storeu_ps(y.as_mut_ptr().add(8), acc[1]);
        }
    }
}

#[target_feature(enable = "avx2,fma")]
fn sum(x: &[i8]) -> i32 {
    let (chunks, rest) = x.as_chunks::<32>();
    let mut acc = _mm256_setzero_si256();
    for chunk in chunks {
        // SAFETY: 32 bytes.
        let x = unsafe { load(chunk.as_ptr()) };
        // Sums of 8 bytes are for u8 only: x + 128.
        let sums = _mm256_sad_epu8(_mm256_xor_si256(x, _mm256_set1_epi8(-128)), _mm256_setzero_si256());
        acc = _mm256_add_epi32(acc, sums);
    }
    let two = _mm_add_epi64(_mm256_castsi256_si128(acc), _mm256_extracti128_si256::<1>(acc));
    let one = _mm_cvtsi128_si32(_mm_add_epi64(two, _mm_unpackhi_epi64(two, two)));
    let rest: i32 = rest.iter().map(|&x| i32::from(x)).sum();
    one - 128 * 32 * chunks.len() as i32 + rest
}
