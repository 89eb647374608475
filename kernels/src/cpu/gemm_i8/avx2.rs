//! AVX2: two ways to multiply on one layout, chosen by the width of the codes.
//!
//! ```text
//! for each panel, for each tile of rows, for each group:
//!     wide (8 bits):  2 rows x 16 columns; even and odd bytes of codes and activations widened to i16 by shifts,
//!                     products added in pairs to i32 (exact; the u8 x i8 multiply would saturate)
//!     narrow (to 7):  4 rows x 8 columns; codes made unsigned, u = q + 2^(bits-1); u8 x i8 products added in
//!                     pairs to i16, as many of them as cannot overflow, then to i32; dot(q, x) is
//!                     dot(u, x) - 2^(bits-1) * rowsum(x)
//!     both leave 2 partial sums of each column: joined, corrected, scaled, added to the f32 accumulators
//! epilogue
//! ```
//! Both tiles have 8 accumulators, so that the operands fit beside them: with 12, two spill, and their round trips
//! through memory set the pace.

use std::arch::x86_64::{
    __m256i, _mm_add_epi64, _mm_cvtsi128_si32, _mm_unpackhi_epi64, _mm256_add_epi8, _mm256_add_epi16,
    _mm256_add_epi32, _mm256_castsi256_si128, _mm256_cvtepi32_ps, _mm256_extracti128_si256, _mm256_fmadd_ps,
    _mm256_hadd_epi32, _mm256_loadu_ps, _mm256_loadu_si256, _mm256_madd_epi16, _mm256_maddubs_epi16,
    _mm256_mullo_epi32, _mm256_permute4x64_epi64, _mm256_sad_epu8, _mm256_set1_epi8, _mm256_set1_epi16,
    _mm256_set1_epi32, _mm256_set1_epi64x, _mm256_setzero_ps, _mm256_setzero_si256, _mm256_slli_epi16,
    _mm256_slli_epi32, _mm256_srai_epi16, _mm256_storeu_ps, _mm256_sub_epi32, _mm256_xor_si256,
};

use super::super::gemm_f32::Columns;
use super::super::gemm_f32::epilogue_avx2::finish;
use super::{BLOCK, I8Panels, Isa, PANEL, Panel, Task, Variant, sums_by_group};

pub(super) const VARIANT: Variant =
    Variant { name: "gemm_w8_a8__avx2", isa: Isa::Avx2, windows: false, run, row_factor, sums };

/// Half-offset codes stand for `2q + 1`: the sum once. Narrow codes are multiplied as `q + 2^(bits-1)`.
fn row_factor(half_offset: bool, bits: u32) -> i32 {
    let offset = if bits < 8 { 1 << (bits - 1) } else { 0 };
    if half_offset { 1 - 2 * offset } else { -offset }
}

/// Bytes of a block of codes.
const BLOCK_BYTES: usize = PANEL * BLOCK;

/// Bytes of a vector: 4 columns of a block.
const VEC_BYTES: usize = 32;

#[target_feature(enable = "avx2,fma")]
fn run(task: &mut Task<'_>) {
    let narrow = task.w.code_bits < 8;
    let m = task.out.rows();
    for index in 0..task.out.cols().div_ceil(PANEL) {
        let panel = task.w.panel(index);
        let columns = &task.epilogue.columns(index * PANEL, task.out.cols());
        // Of a panel that is half empty only the lower half is multiplied.
        let half = columns.valid() <= PANEL / 2;
        let mr = match (narrow, half) {
            (true, _) => 4,
            (false, true) => 3,
            (false, false) => 2,
        };
        let full = m - m % mr;
        for row in (0..full).step_by(mr) {
            match mr {
                4 => tile::<4, 2, true>(task, row, columns, panel),
                3 => tile::<3, 2, false>(task, row, columns, panel),
                _ => tile::<2, 4, false>(task, row, columns, panel),
            }
        }
        match (m - full, narrow) {
            (0, _) => {}
            (1, false) => tile::<1, 4, false>(task, full, columns, panel),
            (1, true) => tile::<1, 4, true>(task, full, columns, panel),
            (2, false) => tile::<2, 4, false>(task, full, columns, panel),
            (2, true) => tile::<2, 4, true>(task, full, columns, panel),
            _ => tile::<3, 2, true>(task, full, columns, panel),
        }
    }
}

/// `ROWS` rows from `row` times one panel, `4 VECS` columns at a time.
#[target_feature(enable = "avx2,fma")]
fn tile<const ROWS: usize, const VECS: usize, const NARROW: bool>(
    task: &mut Task<'_>,
    row: usize,
    columns: &Columns,
    panel: Panel<'_>,
) {
    let w = task.w;
    let (m, groups, rest) = (task.x.rows.rows(), panel.scales.len(), w.k % BLOCK);
    // The bytes of a last, partial block with zeros behind them: what follows a row may not be readable.
    let mut tails = [[0i8; BLOCK]; ROWS];
    let mut x: [&[i8]; ROWS] = [&[]; ROWS];
    for (r, tail) in tails.iter_mut().enumerate() {
        x[r] = task.x.rows.row(row + r);
        if rest > 0 {
            tail[..rest].copy_from_slice(&x[r][w.k - rest..]);
        }
    }
    let zero_point = _mm256_set1_epi32(task.x.zero_point);
    let mut acc = [[_mm256_setzero_ps(); 2]; ROWS];
    for g in 0..groups {
        let (from, to) = (g * w.group, w.k.min((g + 1) * w.group));
        let span = Span::new(&x, &tails, (from, to), &panel.codes[from * PANEL..]);
        let mut dot = products::<ROWS, VECS, NARROW>(&span, w, columns.valid());
        for (r, dot) in dot.iter_mut().enumerate() {
            let sum = _mm256_set1_epi32(task.x.row_sums[g * m + row + r]);
            for dot in dot {
                // The narrow product is doubled already.
                let doubled = w.half_offset && !NARROW;
                *dot = if doubled { _mm256_slli_epi32::<1>(*dot) } else { *dot };
                *dot = _mm256_add_epi32(*dot, sum);
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
    finish(task.epilogue, &mut task.out, row, columns, &mut y);
}

/// Activations and codes of one tile and group: `whole` blocks of 8 k, and perhaps a shorter one.
///
/// Made by `new` only, which checks what the pointers are read for.
struct Span<const ROWS: usize> {
    /// `[8 whole]` each.
    x: [*const i8; ROWS],
    whole: usize,
    /// `[8]` each, in place of a last block of fewer.
    tails: Option<[*const i8; ROWS]>,
    /// `[whole, or one more][16][8]`
    codes: *const i8,
}

impl<const ROWS: usize> Span<ROWS> {
    /// The part `[from, to)` of rows `x`, `tails` what they hold past their last whole block, `codes` from
    /// block `from / 8` on.
    #[inline(always)]
    fn new(x: &[&[i8]; ROWS], tails: &[[i8; BLOCK]; ROWS], (from, to): (usize, usize), codes: &[i8]) -> Self {
        let partial = !(to - from).is_multiple_of(BLOCK);
        assert!(codes.len() >= (to - from).div_ceil(BLOCK) * BLOCK_BYTES, "codes end in a group");
        let mut span = Span {
            x: [std::ptr::null(); ROWS],
            whole: (to - from) / BLOCK,
            tails: partial.then_some([std::ptr::null(); ROWS]),
            codes: codes.as_ptr(),
        };
        for (to_row, row) in span.x.iter_mut().zip(x) {
            *to_row = row[from..to].as_ptr();
        }
        if let Some(pointers) = &mut span.tails {
            for (pointer, tail) in pointers.iter_mut().zip(tails) {
                *pointer = tail.as_ptr();
            }
        }
        span
    }
}

/// `[r][half] = sum over the span of q * x`, columns `8 half ..`; if narrow `(q + 2^(bits-1)) * x`, doubled for half-offset
/// codes. Columns past the `valid` ones may be left at 0.
#[target_feature(enable = "avx2,fma")]
#[inline]
fn products<const ROWS: usize, const VECS: usize, const NARROW: bool>(
    span: &Span<ROWS>,
    w: &I8Panels<'_>,
    valid: usize,
) -> [[__m256i; 2]; ROWS] {
    let mut dot = [[_mm256_setzero_si256(); 2]; ROWS];
    for from in (0..4).step_by(VECS) {
        if from * 4 >= valid {
            break;
        }
        let codes = span.codes.wrapping_add(from * VEC_BYTES);
        // SAFETY: a span has `whole` blocks of 4 vectors of codes, one more with tails.
        let sums = unsafe {
            if NARROW { narrow::<ROWS, VECS>(span, codes, w) } else { wide::<ROWS, VECS>(span, codes) }
        };
        for (dot, sums) in dot.iter_mut().zip(&sums) {
            for (pair, sums) in sums.chunks_exact(2).enumerate() {
                let joined = _mm256_hadd_epi32(sums[0], sums[1]);
                // Columns 0 1 4 5 below, 2 3 6 7 above.
                dot[from / 2 + pair] = _mm256_permute4x64_epi64::<0b11_01_10_00>(joined);
            }
        }
    }
    dot
}

/// `[r][j]`: 2 partial sums of `q * x` of each of the columns `4j .. 4j + 3` from `codes` on; any codes.
///
/// # Safety
/// `codes` points to `VECS` vectors of each block of the span.
#[target_feature(enable = "avx2,fma")]
#[inline]
unsafe fn wide<const ROWS: usize, const VECS: usize>(
    span: &Span<ROWS>,
    codes: *const i8,
) -> [[__m256i; VECS]; ROWS] {
    let mut acc = [[_mm256_setzero_si256(); VECS]; ROWS];
    for block in 0..span.whole {
        // SAFETY: the caller's promise, and a span has `whole` blocks of activations.
        unsafe { wide_block(&span.x, block * BLOCK, codes.add(block * BLOCK_BYTES), &mut acc) };
    }
    if let Some(tails) = &span.tails {
        // SAFETY: the caller's promise; tails are a block.
        unsafe { wide_block(tails, 0, codes.add(span.whole * BLOCK_BYTES), &mut acc) };
    }
    acc
}

/// Adds a block of 8 k.
///
/// # Safety
/// `codes` points to `VECS` readable vectors, each of `x` to 8 bytes at offset `k`.
#[target_feature(enable = "avx2,fma")]
#[inline]
unsafe fn wide_block<const ROWS: usize, const VECS: usize>(
    x: &[*const i8; ROWS],
    k: usize,
    codes: *const i8,
    acc: &mut [[__m256i; VECS]; ROWS],
) {
    let even = |bytes| _mm256_srai_epi16::<8>(_mm256_slli_epi16::<8>(bytes));
    let odd = |bytes| _mm256_srai_epi16::<8>(bytes);
    let mut lhs = [[_mm256_setzero_si256(); 2]; ROWS];
    for (lhs, x) in lhs.iter_mut().zip(x) {
        // SAFETY: the caller's promise.
        let bytes = unsafe { broadcast(x.add(k)) };
        *lhs = [even(bytes), odd(bytes)];
    }
    for j in 0..VECS {
        // SAFETY: the caller's promise.
        let bytes = unsafe { load(codes.add(j * VEC_BYTES)) };
        let rhs = [even(bytes), odd(bytes)];
        for (acc, lhs) in acc.iter_mut().zip(&lhs) {
            let pairs =
                _mm256_add_epi32(_mm256_madd_epi16(lhs[0], rhs[0]), _mm256_madd_epi16(lhs[1], rhs[1]));
            acc[j] = _mm256_add_epi32(acc[j], pairs);
        }
    }
}

/// `[r][j]`: 2 partial sums of `(q + 2^(bits-1)) * x` of each of the columns `4j .. 4j + 3` from `codes` on, doubled for
/// half-offset codes; codes of at most 7 bits.
///
/// # Safety
/// `codes` points to `VECS` vectors of each block of the span.
#[target_feature(enable = "avx2,fma")]
#[inline]
unsafe fn narrow<const ROWS: usize, const VECS: usize>(
    span: &Span<ROWS>,
    codes: *const i8,
    w: &I8Panels<'_>,
) -> [[__m256i; VECS]; ROWS] {
    // A pair of products is at most 2 * (2^bits - 1) * 128 in size; 2^(7-bits) of them stay within 2^15.
    let depth = 1usize << (7 - w.code_bits);
    let offset = _mm256_set1_epi8(1 << (w.code_bits - 1));
    let factor = _mm256_set1_epi16(if w.half_offset { 2 } else { 1 });
    let mut acc = [[_mm256_setzero_si256(); VECS]; ROWS];
    let mut block = 0;
    while block < span.whole {
        let mut pairs = [[_mm256_setzero_si256(); VECS]; ROWS];
        let end = span.whole.min(block + depth);
        while block < end {
            // SAFETY: the caller's promise, and a span has `whole` blocks of activations.
            unsafe {
                narrow_block(&span.x, block * BLOCK, codes.add(block * BLOCK_BYTES), offset, &mut pairs)
            };
            block += 1;
        }
        widen_sums(&pairs, factor, &mut acc);
    }
    if let Some(tails) = &span.tails {
        let mut pairs = [[_mm256_setzero_si256(); VECS]; ROWS];
        // SAFETY: the caller's promise; tails are a block.
        unsafe { narrow_block(tails, 0, codes.add(span.whole * BLOCK_BYTES), offset, &mut pairs) };
        widen_sums(&pairs, factor, &mut acc);
    }
    acc
}

/// Adds a block of 8 k.
///
/// # Safety
/// `codes` points to `VECS` readable vectors, each of `x` to 8 bytes at offset `k`.
#[target_feature(enable = "avx2,fma")]
#[inline]
unsafe fn narrow_block<const ROWS: usize, const VECS: usize>(
    x: &[*const i8; ROWS],
    k: usize,
    codes: *const i8,
    offset: __m256i,
    pairs: &mut [[__m256i; VECS]; ROWS],
) {
    let mut lhs = [_mm256_setzero_si256(); ROWS];
    for (lhs, x) in lhs.iter_mut().zip(x) {
        // SAFETY: the caller's promise.
        *lhs = unsafe { broadcast(x.add(k)) };
    }
    for j in 0..VECS {
        // SAFETY: the caller's promise.
        let rhs = _mm256_add_epi8(unsafe { load(codes.add(j * VEC_BYTES)) }, offset);
        for (pairs, &lhs) in pairs.iter_mut().zip(&lhs) {
            pairs[j] = _mm256_add_epi16(pairs[j], _mm256_maddubs_epi16(rhs, lhs));
        }
    }
}

#[target_feature(enable = "avx2,fma")]
#[inline]
fn widen_sums<const ROWS: usize, const VECS: usize>(
    pairs: &[[__m256i; VECS]; ROWS],
    factor: __m256i,
    acc: &mut [[__m256i; VECS]; ROWS],
) {
    for (acc, pairs) in acc.as_flattened_mut().iter_mut().zip(pairs.as_flattened()) {
        *acc = _mm256_add_epi32(*acc, _mm256_madd_epi16(*pairs, factor));
    }
}

/// Eight activations in every 64 bits.
///
/// # Safety
/// `x` points to 8 readable bytes.
#[target_feature(enable = "avx2,fma")]
#[inline]
unsafe fn broadcast(x: *const i8) -> __m256i {
    // SAFETY: the caller's promise; every pattern is an i64.
    _mm256_set1_epi64x(unsafe { x.cast::<i64>().read_unaligned() })
}

/// # Safety
/// `from` points to 32 readable bytes.
#[target_feature(enable = "avx2,fma")]
#[inline]
unsafe fn load<T>(from: *const T) -> __m256i {
    // SAFETY: the caller's promise.
    unsafe { _mm256_loadu_si256(from.cast()) }
}

#[target_feature(enable = "avx2,fma")]
fn sums(x: &[i8], group: usize, sums: &mut [i32]) {
    sums_by_group(x, group, sums, |x| sum(x));
}

#[target_feature(enable = "avx2,fma")]
#[inline]
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
