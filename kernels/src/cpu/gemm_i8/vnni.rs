//! AVX-512 VNNI: one instruction multiplies four u8 with four i8 and adds all products to an i32, exactly.
//!
//! ```text
//! for each panel, for each tile of rows:
//!     24 accumulators = 12 rows x 2 vectors of 8 columns, 2 partial sums of each column
//!     for each group, for each block of 8 k:
//!         codes made unsigned, u = q + 128, once for all rows; 8 activations of a row broadcast; one multiply-add for each
//!         row and vector
//!         dot(q, x) is dot(u, x) - 128 * rowsum(x)
//!     partial sums joined, corrected, scaled, added to the f32 accumulators
//! epilogue
//! ```
//! Sums of `u * x` may pass i32 on the way: they wrap, and what is left after the corrections fits.

use std::arch::x86_64::{
    __m512i, _mm512_add_epi32, _mm512_cvtepi32_ps, _mm512_dpbusd_epi32, _mm512_fmadd_ps, _mm512_loadu_ps,
    _mm512_loadu_si512, _mm512_mullo_epi32, _mm512_permutex2var_epi32, _mm512_reduce_add_epi32,
    _mm512_set1_epi8, _mm512_set1_epi32, _mm512_set1_epi64, _mm512_setr_epi32, _mm512_setzero_si512,
    _mm512_slli_epi32, _mm512_storeu_ps, _mm512_storeu_si512, _mm512_sub_epi32, _mm512_xor_si512,
};

use super::super::gemm_f32::Columns;
use super::super::gemm_f32::epilogue_avx512::finish;
use super::super::unroll::each_row;
use super::{BLOCK, Isa, PANEL, Panel, Rows, Task, Variant};

pub(super) const VARIANT: Variant =
    Variant { name: "gemm_w8_a8__avx512_vnni", isa: Isa::Avx512Vnni, run, sum };

/// Most rows of a tile.
const MR: usize = 12;

/// Bytes of a block of codes.
const BLOCK_BYTES: usize = PANEL * BLOCK;

/// Bytes of a vector: 8 columns of a block.
const VEC_BYTES: usize = 64;

/// Rows that share a pointer: x86 addresses reach three by one pointer and one stride.
const NEAR: usize = 3;

/// Integer sums of one tile, `[panel][row][16]`.
type Dots = [[i32; PANEL]; MR];

#[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
fn run(task: &mut Task<'_>) {
    let (m, panels) = (task.out.rows(), task.out.cols().div_ceil(PANEL));
    let tiles = m.div_ceil(MR);
    let mut panel = 0;
    while panel < panels {
        // Few rows: more panels at once, or the chains would be too few to hide the latency.
        let count = if m <= 3 && panels - panel >= 4 { 4 } else { 1 };
        let mut columns = [Columns::default(); 4];
        for (p, columns) in columns.iter_mut().enumerate().take(count) {
            *columns = task.epilogue.columns((panel + p) * PANEL, task.out.cols());
        }
        let place = Place { panel, columns: &columns[..count] };
        // Of a panel that is half empty only the lower half is multiplied.
        let half = count == 1 && columns[0].valid() <= PANEL / 2;
        let mut row = 0;
        for tile in 0..tiles {
            let rows = (m - row) / (tiles - tile);
            match (rows, count, half) {
                (1, 4, _) => block::<1, 8>(task, row, &place),
                (2, 4, _) => block::<2, 8>(task, row, &place),
                (3, 4, _) => block::<3, 8>(task, row, &place),
                (1, _, _) => block::<1, 2>(task, row, &place),
                (2, _, _) => block::<2, 2>(task, row, &place),
                (3, _, _) => block::<3, 2>(task, row, &place),
                (4, _, _) => block::<4, 2>(task, row, &place),
                (5, _, _) => block::<5, 2>(task, row, &place),
                (6, _, _) => block::<6, 2>(task, row, &place),
                (7, _, _) => block::<7, 2>(task, row, &place),
                (8, _, false) => block::<8, 2>(task, row, &place),
                (8, _, true) => block::<8, 1>(task, row, &place),
                (9, _, false) => block::<9, 2>(task, row, &place),
                (9, _, true) => block::<9, 1>(task, row, &place),
                (10, _, false) => block::<10, 2>(task, row, &place),
                (10, _, true) => block::<10, 1>(task, row, &place),
                (11, _, false) => block::<11, 2>(task, row, &place),
                (11, _, true) => block::<11, 1>(task, row, &place),
                (_, _, false) => block::<MR, 2>(task, row, &place),
                (_, _, true) => block::<MR, 1>(task, row, &place),
            }
            row += rows;
        }
        panel += count;
    }
}

/// The panels of a block.
struct Place<'a> {
    /// The first of them.
    panel: usize,
    columns: &'a [Columns],
}

/// `ROWS` rows from `row` times `8 VECS` columns.
#[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
fn block<const ROWS: usize, const VECS: usize>(task: &mut Task<'_>, row: usize, place: &Place<'_>) {
    let (w, rest) = (task.w, task.w.k % BLOCK);
    let blocks = w.k.div_ceil(BLOCK) * BLOCK_BYTES;
    let codes = &w.codes[place.panel * blocks..][..VECS.div_ceil(2) * blocks];
    // The bytes of a last, partial block with zeros behind them: what follows a row may not be readable.
    let mut tails = [0i8; MR * BLOCK];
    if rest > 0 {
        for (r, tail) in tails.as_chunks_mut::<BLOCK>().0.iter_mut().enumerate().take(ROWS) {
            tail[..rest].copy_from_slice(&task.x.rows.row(row + r)[w.k - rest..]);
        }
    }
    let tails = Rows::new(&tails, ROWS, BLOCK, BLOCK);
    let mut acc = [[0.0; PANEL]; MR];
    let mut dots = [[0; PANEL]; MR];
    for g in 0..w.groups() {
        let (from, to) = (g * w.group, w.k.min((g + 1) * w.group));
        products::<ROWS, VECS>(task.x.rows, row, &tails, (from, to), codes, &mut dots);
        for p in 0..place.columns.len() {
            let part = p * ROWS..(p + 1) * ROWS;
            scale(task, row, w.panel(place.panel + p), g, &dots[part.clone()], &mut acc[part]);
        }
    }
    for (columns, acc) in place.columns.iter().zip(acc.chunks_exact_mut(ROWS)) {
        finish(task.epilogue, &mut task.out, row, columns, acc);
    }
}

/// `dots[p * ROWS + r] = sum over k in [from, to) of (q + 128) * x[row + r]`. `codes` is `[panels][ceil(K/8)][16][8]`; `tails`
/// holds what rows have past their last whole block. With an odd number of vectors the upper 8 columns are left at any value.
#[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline]
fn products<const ROWS: usize, const VECS: usize>(
    x: Rows<'_, i8>,
    row: usize,
    tails: &Rows<'_, i8>,
    (from, to): (usize, usize),
    codes: &[i8],
    dots: &mut Dots,
) {
    let panel = codes.len() / VECS.div_ceil(2);
    let (first, whole, partial) = (from / BLOCK, (to - from) / BLOCK, (to - from) % BLOCK != 0);
    assert!((first + whole + usize::from(partial)) * BLOCK_BYTES <= panel, "codes end in a group");
    assert!(row + ROWS <= x.rows() && to <= x.cols() && tails.rows() == ROWS && tails.cols() == BLOCK);
    let mut acc = [[_mm512_setzero_si512(); VECS]; ROWS];
    let mut codes = codes.as_ptr().wrapping_add(first * BLOCK_BYTES);
    let spans = [(x, row, from, whole), (*tails, 0, 0, usize::from(partial))];
    for (x, row, from, blocks) in spans {
        let stride = x.stride();
        let mut at = [std::ptr::null::<i8>(); MR / NEAR];
        for (at, r) in at.iter_mut().zip((0..ROWS).step_by(NEAR)) {
            *at = x.row(row + r)[from..].as_ptr();
        }
        for block in 0..blocks {
            let mut rhs = [_mm512_setzero_si512(); VECS];
            for (j, rhs) in rhs.iter_mut().enumerate() {
                let at = codes.wrapping_add(j / 2 * panel + j % 2 * VEC_BYTES);
                // SAFETY: a block of codes, checked above, of each panel.
                let q = unsafe { _mm512_loadu_si512(at.cast()) };
                *rhs = _mm512_xor_si512(q, _mm512_set1_epi8(-128));
            }
            codes = codes.wrapping_add(BLOCK_BYTES);
            each_row!(ROWS, |R| {
                // SAFETY: 8 bytes of row R, which has `blocks` whole blocks from `from` on; every pattern is an i64.
                let x = unsafe {
                    at[R / NEAR].add(R % NEAR * stride + block * BLOCK).cast::<i64>().read_unaligned()
                };
                let x = _mm512_set1_epi64(x);
                for (acc, rhs) in acc[R].iter_mut().zip(rhs) {
                    *acc = _mm512_dpbusd_epi32(*acc, rhs, x);
                }
            });
        }
    }
    let even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    let odd = _mm512_setr_epi32(1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31);
    for (r, acc) in acc.iter().enumerate() {
        for (p, pair) in acc.chunks(2).enumerate() {
            let (low, high) = (pair[0], pair[pair.len() - 1]);
            let one = _mm512_permutex2var_epi32(low, even, high);
            let two = _mm512_permutex2var_epi32(low, odd, high);
            // SAFETY: 16 integers.
            unsafe {
                _mm512_storeu_si512(dots[p * ROWS + r].as_mut_ptr().cast(), _mm512_add_epi32(one, two));
            }
        }
    }
}

/// Adds one group's sums, corrected and scaled, to the accumulators of rows `row, row + 1, ...` of one panel. One copy for all
/// tile shapes.
#[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl")]
#[inline(never)]
fn scale(
    task: &Task<'_>,
    row: usize,
    panel: Panel<'_>,
    g: usize,
    dots: &[[i32; PANEL]],
    acc: &mut [[f32; PANEL]],
) {
    let (w, groups) = (task.w, panel.scales.len());
    let sums = &task.x.row_sums[row * groups..];
    // What a row sum adds to twice the product (half-offset) or to the product.
    let row_factor = if w.half_offset { -255 } else { -128 };
    // SAFETY: 16 elements each.
    let (colsum, scale) = unsafe { (load(&panel.colsum[g]), _mm512_loadu_ps(panel.scales[g].as_ptr())) };
    let zero = _mm512_mullo_epi32(colsum, _mm512_set1_epi32(task.x.zero_point));
    for (r, (dot, acc)) in dots.iter().zip(acc).enumerate() {
        let sum = _mm512_set1_epi32(sums[r * groups + g].wrapping_mul(row_factor));
        // SAFETY: 16 elements each.
        unsafe {
            let dot = load(dot);
            let dot = if w.half_offset { _mm512_slli_epi32::<1>(dot) } else { dot };
            let t = _mm512_sub_epi32(_mm512_add_epi32(dot, sum), zero);
            let y = _mm512_fmadd_ps(_mm512_cvtepi32_ps(t), scale, _mm512_loadu_ps(acc.as_ptr()));
            _mm512_storeu_ps(acc.as_mut_ptr(), y);
        }
    }
}

#[target_feature(enable = "avx512f")]
#[inline]
fn load(lanes: &[i32; PANEL]) -> __m512i {
    // SAFETY: 16 integers.
    unsafe { _mm512_loadu_si512(lanes.as_ptr().cast()) }
}

#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vnni")]
fn sum(x: &[i8]) -> i32 {
    let (chunks, rest) = x.as_chunks::<VEC_BYTES>();
    let mut acc = _mm512_setzero_si512();
    for chunk in chunks {
        // SAFETY: 64 bytes.
        let x = unsafe { _mm512_loadu_si512(chunk.as_ptr().cast()) };
        acc = _mm512_dpbusd_epi32(acc, _mm512_set1_epi8(1), x);
    }
    _mm512_reduce_add_epi32(acc) + rest.iter().map(|&x| i32::from(x)).sum::<i32>()
}
