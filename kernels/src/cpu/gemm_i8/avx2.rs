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
    __m128i, __m256i, _mm_add_epi64, _mm_cvtsi128_si32, _mm_loadu_si128, _mm_unpackhi_epi64,
    _mm256_add_epi16, _mm256_add_epi32, _mm256_castsi256_si128, _mm256_cvtepi8_epi16, _mm256_cvtepi32_ps,
    _mm256_extracti128_si256, _mm256_fmadd_ps, _mm256_hadd_epi32, _mm256_loadu_ps, _mm256_loadu_si256,
    _mm256_madd_epi16, _mm256_maddubs_epi16, _mm256_mullo_epi32, _mm256_permute4x64_epi64,
    _mm256_permutevar8x32_epi32, _mm256_sad_epu8, _mm256_set1_epi8, _mm256_set1_epi16, _mm256_set1_epi32,
    _mm256_set1_epi64x, _mm256_setr_epi32, _mm256_setzero_ps, _mm256_setzero_si256, _mm256_slli_epi32,
    _mm256_storeu_ps, _mm256_sub_epi32, _mm256_xor_si256,
};

use super::super::gemm_f32::avx2::finish;
use super::{BLOCK, I8Panels, Isa, PANEL, Panel, Task, Variant};

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
    for index in 0..task.out.cols().div_ceil(PANEL) {
        let panel = task.w.panel(index);
        for row in (0..full).step_by(MR) {
            tile::<MR, NARROW>(task, row, index, panel);
        }
        match m - full {
            0 => {}
            1 => tile::<1, NARROW>(task, full, index, panel),
            _ => tile::<2, NARROW>(task, full, index, panel),
        }
    }
}

/// `ROWS` rows from `row` times panel `index`.
#[target_feature(enable = "avx2,fma")]
fn tile<const ROWS: usize, const NARROW: bool>(
    task: &mut Task<'_>,
    row: usize,
    index: usize,
    panel: Panel<'_>,
) {
    let w = task.w;
    let (groups, rest) = (panel.scales.len(), w.k % BLOCK);
    // The bytes of a last, partial block with zeros behind them: what follows a row may not be readable.
    let mut tails = [[0i8; BLOCK]; ROWS];
    let mut x = Lhs { rows: [&[]; ROWS], tails: [&[]; ROWS] };
    for (r, tail) in tails.iter_mut().enumerate() {
        x.rows[r] = task.x.rows.row(row + r);
        if rest > 0 {
            tail[..rest].copy_from_slice(&x.rows[r][w.k - rest..]);
        }
    }
    for (x, tail) in x.tails.iter_mut().zip(&tails) {
        *x = tail;
    }
    // Narrow codes multiply x + 128.
    let shift = if NARROW { 128 } else { 0 };
    let zero_point = _mm256_set1_epi32(task.x.zero_point + shift);
    let mut acc = [[_mm256_setzero_ps(); 2]; ROWS];
    for g in 0..groups {
        let (from, to) = (g * w.group, w.k.min((g + 1) * w.group));
        let span = Span { from, to, codes: &panel.codes[from * PANEL..] };
        let mut dot = if NARROW { narrow(&x, &span, w) } else { wide(&x, &span) };
        if w.half_offset {
            for (r, dot) in dot.iter_mut().enumerate() {
                let sum = task.x.row_sums[(row + r) * groups + g] + shift * (to - from) as i32;
                for dot in dot {
                    // The narrow product is doubled already.
                    let twice = if NARROW { *dot } else { _mm256_slli_epi32::<1>(*dot) };
                    *dot = _mm256_add_epi32(twice, _mm256_set1_epi32(sum));
                }
            }
        }
        for half in 0..2 {
            // SAFETY: 8 of 16 elements at offset 0 or 8.
            let (colsum, scale) = unsafe {
                let colsum = load(panel.colsum[g].as_ptr().add(half * 8));
                (colsum, _mm256_loadu_ps(panel.scales[g].as_ptr().add(half * 8)))
            };
            let zero = _mm256_mullo_epi32(colsum, zero_point);
            for (acc, dot) in acc.iter_mut().zip(&dot) {
                let t = _mm256_cvtepi32_ps(_mm256_sub_epi32(dot[half], zero));
                acc[half] = _mm256_fmadd_ps(t, scale, acc[half]);
            }
        }
    }
    let mut y = [[0.0f32; PANEL]; ROWS];
    for (acc, y) in acc.iter().zip(&mut y) {
        // SAFETY: 8 of 16 floats at offsets 0 and 8.
        unsafe {
            _mm256_storeu_ps(y.as_mut_ptr(), acc[0]);
            _mm256_storeu_ps(y.as_mut_ptr().add(8), acc[1]);
        }
    }
    finish(task.epilogue, &mut task.out, row, index * PANEL, &mut y);
}

/// Activations of one tile.
struct Lhs<'a, const ROWS: usize> {
    /// `[K]` each.
    rows: [&'a [i8]; ROWS],
    /// `[8]` each, in place of a last block of fewer.
    tails: [&'a [i8]; ROWS],
}

/// The k of one group, and the panel's codes from there on.
struct Span<'a> {
    from: usize,
    to: usize,
    codes: &'a [i8],
}

/// `[r][half] = sum over the span of q * x`, columns `8 half ..`; any codes.
#[target_feature(enable = "avx2,fma")]
#[inline]
fn wide<const ROWS: usize>(x: &Lhs<'_, ROWS>, span: &Span<'_>) -> [[__m256i; 2]; ROWS] {
    let whole = (span.to - span.from) / BLOCK;
    let mut dot = [[_mm256_setzero_si256(); 2]; ROWS];
    for half in 0..2 {
        // acc[r][j]: 4 partial sums of column 2j below, of column 2j + 1 above.
        let mut acc = [[_mm256_setzero_si256(); 4]; ROWS];
        for block in 0..whole {
            wide_block(
                &x.rows,
                span.from + block * BLOCK,
                &span.codes[block * BLOCK_BYTES + half * 64..],
                &mut acc,
            );
        }
        if whole * BLOCK < span.to - span.from {
            wide_block(&x.tails, 0, &span.codes[whole * BLOCK_BYTES + half * 64..], &mut acc);
        }
        for (dot, [a, b, c, d]) in dot.iter_mut().zip(acc) {
            let even_odd = _mm256_hadd_epi32(_mm256_hadd_epi32(a, b), _mm256_hadd_epi32(c, d));
            // Below columns 0 2 4 6, above 1 3 5 7.
            let order = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
            dot[half] = _mm256_permutevar8x32_epi32(even_odd, order);
        }
    }
    dot
}

#[target_feature(enable = "avx2,fma")]
#[inline]
fn wide_block<const ROWS: usize>(x: &[&[i8]; ROWS], k: usize, codes: &[i8], acc: &mut [[__m256i; 4]; ROWS]) {
    let codes = &codes[..64];
    let mut lhs = [_mm256_setzero_si256(); ROWS];
    for (lhs, x) in lhs.iter_mut().zip(x) {
        *lhs = _mm256_cvtepi8_epi16(_mm256_castsi256_si128(broadcast(x, k)));
    }
    for j in 0..4 {
        // SAFETY: 16 of 64 bytes at offset 16 j.
        let rhs = unsafe { _mm256_cvtepi8_epi16(load_half(codes.as_ptr().add(16 * j))) };
        for (acc, &lhs) in acc.iter_mut().zip(&lhs) {
            acc[j] = _mm256_add_epi32(acc[j], _mm256_madd_epi16(lhs, rhs));
        }
    }
}

/// `[r][half] = sum over the span of q * (x + 128)`, twice that for half-offset codes; codes of at most 7 bits.
#[target_feature(enable = "avx2,fma")]
#[inline]
fn narrow<const ROWS: usize>(x: &Lhs<'_, ROWS>, span: &Span<'_>, w: &I8Panels<'_>) -> [[__m256i; 2]; ROWS] {
    // A pair of products is at most 2 * 255 * 2^(bits-1) in size; 2^(7-bits) of them stay within 32640.
    let depth = 1usize << (7 - w.code_bits);
    let whole = (span.to - span.from) / BLOCK;
    let factor = _mm256_set1_epi16(if w.half_offset { 2 } else { 1 });
    // acc[r][j]: 2 partial sums of each of columns 4j .. 4j + 3.
    let mut acc = [[_mm256_setzero_si256(); 4]; ROWS];
    let mut block = 0;
    while block < whole {
        let mut pairs = [[_mm256_setzero_si256(); 4]; ROWS];
        let end = whole.min(block + depth);
        while block < end {
            narrow_block(&x.rows, span.from + block * BLOCK, &span.codes[block * BLOCK_BYTES..], &mut pairs);
            block += 1;
        }
        widen(&pairs, factor, &mut acc);
    }
    if whole * BLOCK < span.to - span.from {
        let mut pairs = [[_mm256_setzero_si256(); 4]; ROWS];
        narrow_block(&x.tails, 0, &span.codes[whole * BLOCK_BYTES..], &mut pairs);
        widen(&pairs, factor, &mut acc);
    }
    let mut dot = [[_mm256_setzero_si256(); 2]; ROWS];
    for (dot, [a, b, c, d]) in dot.iter_mut().zip(acc) {
        // Below columns 0 1 4 5, above 2 3 6 7.
        dot[0] = _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_hadd_epi32(a, b));
        dot[1] = _mm256_permute4x64_epi64::<0b11_01_10_00>(_mm256_hadd_epi32(c, d));
    }
    dot
}

#[target_feature(enable = "avx2,fma")]
#[inline]
fn widen<const ROWS: usize>(pairs: &[[__m256i; 4]; ROWS], factor: __m256i, acc: &mut [[__m256i; 4]; ROWS]) {
    for (acc, pairs) in acc.as_flattened_mut().iter_mut().zip(pairs.as_flattened()) {
        *acc = _mm256_add_epi32(*acc, _mm256_madd_epi16(*pairs, factor));
    }
}

#[target_feature(enable = "avx2,fma")]
#[inline]
fn narrow_block<const ROWS: usize>(
    x: &[&[i8]; ROWS],
    k: usize,
    codes: &[i8],
    acc: &mut [[__m256i; 4]; ROWS],
) {
    let codes = &codes[..BLOCK_BYTES];
    let mut lhs = [_mm256_setzero_si256(); ROWS];
    for (lhs, x) in lhs.iter_mut().zip(x) {
        *lhs = _mm256_xor_si256(broadcast(x, k), _mm256_set1_epi8(-128));
    }
    for j in 0..4 {
        // SAFETY: 32 of 128 bytes at offset 32 j.
        let rhs = unsafe { load(codes.as_ptr().add(32 * j)) };
        for (acc, &lhs) in acc.iter_mut().zip(&lhs) {
            acc[j] = _mm256_add_epi16(acc[j], _mm256_maddubs_epi16(lhs, rhs));
        }
    }
}

/// Eight activations from `k` on, in every 64 bits.
#[target_feature(enable = "avx2,fma")]
#[inline]
fn broadcast(x: &[i8], k: usize) -> __m256i {
    let bytes = &x[k..k + BLOCK];
    // SAFETY: 8 bytes, of which every pattern is an i64.
    _mm256_set1_epi64x(unsafe { bytes.as_ptr().cast::<i64>().read_unaligned() })
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
