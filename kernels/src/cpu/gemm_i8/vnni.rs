//! AVX-512 VNNI: one instruction multiplies four u8 with four i8 and adds all products to an i32, exactly.
//!
//! ```text
//! for each panel, for each tile of rows:
//!     12 sums of i32 and 12 of f32, a register of 16 columns for each row
//!     for each group, for each block of 8 k, for each half of it:
//!         codes of 4 k and 16 columns gathered and made unsigned, u = q + 128, once for all rows
//!         for each row one multiply-add, which broadcasts 4 activations
//!         dot(q, x) is dot(u, x) - 128 * rowsum(x)
//!     sums corrected, scaled, added to the f32 ones, while the next group is multiplied
//! epilogue
//! ```
//! Sums of `u * x` may pass i32 on the way: they wrap, and what is left after the corrections fits.

use std::arch::x86_64::{
    __m512, __m512i, __mmask16, __mmask32, _mm256_maskz_loadu_epi8, _mm256_set1_epi32, _mm256_storeu_si256,
    _mm256_sub_epi32, _mm512_add_epi32, _mm512_add_epi64, _mm512_castsi256_si512, _mm512_cvtepi32_ps,
    _mm512_cvtepi64_epi32, _mm512_dpbusd_epi32, _mm512_fmadd_ps, _mm512_inserti64x4, _mm512_loadu_ps,
    _mm512_loadu_si512, _mm512_mask_add_epi32, _mm512_maskz_loadu_epi8, _mm512_mullo_epi32,
    _mm512_permutex2var_epi32, _mm512_permutex2var_epi64, _mm512_reduce_add_epi32, _mm512_sad_epu8,
    _mm512_set1_epi8, _mm512_set1_epi32, _mm512_setr_epi32, _mm512_setr_epi64, _mm512_setzero_ps,
    _mm512_setzero_si512, _mm512_storeu_ps, _mm512_unpackhi_epi64, _mm512_unpacklo_epi64, _mm512_xor_si512,
};
use std::mem::MaybeUninit;

use super::super::gemm_f32::Columns;
use super::super::gemm_f32::MAX_RUNS;
use super::super::gemm_f32::epilogue_avx512::finish;
use super::super::tile::{Aligned, each_row};
use super::{BLOCK, Isa, PANEL, Task, Variant, sums_by_group};

pub(super) const VARIANT: Variant =
    Variant { name: "gemm_w8_a8__avx512_vnni", isa: Isa::Avx512Vnni, run, row_factor, sums };

/// What is subtracted for `q + 128` in place of `q`, and for half-offset codes the sum itself.
fn row_factor(half_offset: bool) -> i32 {
    if half_offset { 1 - 2 * 128 } else { -128 }
}

/// Most rows of a tile.
const MR: usize = 12;
/// Most panels of a tile.
const MAX_PANELS: usize = 2;

/// Bytes of a block of codes.
const BLOCK_BYTES: usize = PANEL * BLOCK;

/// Bytes of a vector: 8 columns of a block.
const VEC_BYTES: usize = 64;

/// Rows that share a pointer: x86 addresses reach three by one pointer and one stride.
const NEAR: usize = 3;

#[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
fn run(task: &mut Task<'_>) {
    let (m, panels) = (task.out.rows(), task.out.cols().div_ceil(PANEL));
    let tiles = m.div_ceil(MR);
    let mut panel = 0;
    while panel < panels {
        // Few rows: two panels at once, or the chains would be too few to hide the latency.
        let count = if m <= 2 && panels - panel >= 2 { 2 } else { 1 };
        let mut columns = [Columns::default(); MAX_PANELS];
        for (p, columns) in columns.iter_mut().enumerate().take(count) {
            *columns = task.epilogue.columns((panel + p) * PANEL, task.out.cols());
        }
        let place = Place { panel, columns: &columns[..count] };
        let mut row = 0;
        for tile in 0..tiles {
            let rows = (m - row) / (tiles - tile);
            block(task, row, rows, &place, Tile::of(rows, count));
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

/// `rows` rows from `row` times the panels of `place`, by a kernel for as many.
#[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
fn block(task: &mut Task<'_>, row: usize, rows: usize, place: &Place<'_>, store: Store) {
    let (w, x, groups) = (task.w, task.x.rows, task.w.groups());
    let (panels, blocks) = (place.columns.len(), w.k.div_ceil(BLOCK));
    let codes = &w.codes[place.panel * blocks * BLOCK_BYTES..][..panels * blocks * BLOCK_BYTES];
    let tables = place.panel * groups * PANEL..(place.panel + panels) * groups * PANEL;
    let (scales, colsum) = (&w.scales[tables.clone()], &w.colsum[tables]);
    let sums = &task.x.row_sums[..groups * x.rows()];
    // All rows are there.
    let _ = x.run(row + rows - 1, 0);
    // A last block that is not whole, with zeros behind it: what follows a row may not be readable.
    let (whole, rest) = (w.k / BLOCK, w.k % BLOCK);
    let mut tails = [[0i8; BLOCK]; MR];
    if rest > 0 {
        for (r, tail) in tails.iter_mut().enumerate().take(rows) {
            tail[..rest].copy_from_slice(&x.row(row + r)[whole * BLOCK..]);
        }
    }
    let mut runs = [Run { at: tails.as_ptr().cast(), blocks: 1, stride: BLOCK }; MAX_RUNS + 1];
    let whole_runs = if whole == 0 { 0 } else { x.runs() };
    for (i, run) in runs.iter_mut().enumerate().take(whole_runs) {
        *run = Run { at: x.run(row, i).as_ptr(), blocks: x.run_len() / BLOCK, stride: x.stride() };
    }
    let tile = Tile {
        runs: runs.as_ptr(),
        groups,
        group_blocks: w.group.div_ceil(BLOCK),
        blocks,
        codes: codes.as_ptr(),
        sums: sums.as_ptr().wrapping_add(row),
        m: x.rows(),
        colsum: colsum.as_ptr(),
        scales: scales.as_ptr(),
        minus_zero: -task.x.zero_point,
        doubled: if w.half_offset { !0 } else { 0 },
    };
    let Aligned(total) = &mut Aligned([[MaybeUninit::<f32>::uninit(); PANEL]; MR]);
    // SAFETY: rows `row` to `row + rows` are there, in runs that make up the blocks of a row: whole ones, but for the last block of the
    // only run, of which there is a whole copy (`Variant::run`). The panels have their codes, padded to whole blocks, 16 scales
    // and 16 sums for each group, and each row has a sum for each group. The results
    // are at most 12 registers, all of which are written.
    let total: &mut [[f32; PANEL]] = unsafe {
        store(&tile, total.as_mut_ptr().cast());
        std::slice::from_raw_parts_mut(total.as_mut_ptr().cast(), rows * panels)
    };
    for (columns, acc) in place.columns.iter().zip(total.chunks_exact_mut(rows)) {
        finish(task.epilogue, &mut task.out, row, columns, acc);
    }
}

/// Some blocks of activations: where those of the first row lie, and how far apart the rows are.
#[derive(Clone, Copy)]
struct Run {
    at: *const i8,
    blocks: usize,
    stride: usize,
}

/// The operands of a tile.
struct Tile {
    /// As many as the blocks take.
    runs: *const Run,
    groups: usize,
    /// Blocks of a group; the last may have fewer.
    group_blocks: usize,
    /// Blocks of a row.
    blocks: usize,
    /// `[panel][block][16][8]`
    codes: *const i8,
    /// The first row's sum for the first group; those of the next group are `m` behind.
    sums: *const i32,
    m: usize,
    /// `[panel][groups][16]`
    colsum: *const i32,
    scales: *const f32,
    minus_zero: i32,
    /// All ones to double products.
    doubled: __mmask16,
}

/// Makes the results of a tile: [`Tile::store`] for some number of rows and panels.
type Store = unsafe fn(&Tile, *mut f32);

impl Tile {
    /// The kernel for so many rows and panels.
    fn of(rows: usize, panels: usize) -> Store {
        match (rows, panels) {
            (1, 2) => Tile::store::<1, 2>,
            (1, _) => Tile::store::<1, 1>,
            (2, 2) => Tile::store::<2, 2>,
            (2, _) => Tile::store::<2, 1>,
            (3, _) => Tile::store::<3, 1>,
            (4, _) => Tile::store::<4, 1>,
            (5, _) => Tile::store::<5, 1>,
            (6, _) => Tile::store::<6, 1>,
            (7, _) => Tile::store::<7, 1>,
            (8, _) => Tile::store::<8, 1>,
            (9, _) => Tile::store::<9, 1>,
            (10, _) => Tile::store::<10, 1>,
            (11, _) => Tile::store::<11, 1>,
            _ => Tile::store::<MR, 1>,
        }
    }

    /// `to[p * ROWS + r] = sum over the groups of scale * (sum over the group of w * (x - zero_point))`.
    ///
    /// Not inlined: what surrounds it would take registers from the accumulators.
    ///
    /// # Safety
    /// `runs`: readable for `ROWS` rows. `codes`: as many blocks of each panel as a row has. `sums`: `ROWS` for each group. `colsum`,
    /// `scales`: 16 for each group of each panel. `to` has room for 16 results of each row and panel.
    #[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
    #[inline(never)]
    unsafe fn store<const ROWS: usize, const PANELS: usize>(&self, to: *mut f32) {
        let panel = self.blocks * BLOCK_BYTES;
        let mut total: [[__m512; PANELS]; ROWS] = [[_mm512_setzero_ps(); PANELS]; ROWS];
        let (mut codes, mut sums) = (self.codes, self.sums);
        let (mut colsum, mut scales) = (self.colsum, self.scales);
        let (mut runs, mut run_left, mut left, mut stride) = (self.runs, 0, self.blocks, 0);
        let mut x = [std::ptr::null::<i8>(); MR / NEAR];
        for _ in 0..self.groups {
            let mut acc = [[_mm512_setzero_si512(); PANELS]; ROWS];
            let mut blocks = self.group_blocks.min(left);
            left -= blocks;
            while blocks > 0 {
                if run_left == 0 {
                    // SAFETY: the caller's promise: there are blocks left, so there is a run.
                    let run = unsafe { &*runs };
                    (runs, run_left, stride) = (runs.wrapping_add(1), run.blocks, run.stride);
                    for (i, x) in x.iter_mut().enumerate() {
                        *x = run.at.wrapping_add(i * NEAR * stride);
                    }
                }
                let taken = blocks.min(run_left);
                (blocks, run_left) = (blocks - taken, run_left - taken);
                for _ in 0..taken {
                    // Written twice: as a loop, the halves would go through memory.
                    // SAFETY: the caller's promise: a block of each panel.
                    let rhs = unsafe { unsigned::<PANELS>(codes, panel, 0) };
                    each_row!(ROWS, |R| {
                        // SAFETY: the caller's promise: 8 activations of row R; every pattern is an i32.
                        let x = unsafe { x[R / NEAR].add(R % NEAR * stride).cast::<i32>().read_unaligned() };
                        for (acc, rhs) in acc[R].iter_mut().zip(rhs) {
                            *acc = _mm512_dpbusd_epi32(*acc, rhs, _mm512_set1_epi32(x));
                        }
                    });
                    // SAFETY: as above.
                    let rhs = unsafe { unsigned::<PANELS>(codes, panel, 1) };
                    each_row!(ROWS, |R| {
                        // SAFETY: as above.
                        let x =
                            unsafe { x[R / NEAR].add(R % NEAR * stride + 4).cast::<i32>().read_unaligned() };
                        for (acc, rhs) in acc[R].iter_mut().zip(rhs) {
                            *acc = _mm512_dpbusd_epi32(*acc, rhs, _mm512_set1_epi32(x));
                        }
                    });
                    x = x.map(|x| x.wrapping_add(BLOCK));
                    codes = codes.wrapping_add(BLOCK_BYTES);
                }
            }
            each_row!(PANELS, |P| {
                let at = P * self.groups * PANEL;
                // SAFETY: the caller's promise: 16 of each.
                let (colsum, scale) = unsafe {
                    let colsum = _mm512_loadu_si512(colsum.add(at).cast());
                    (colsum, _mm512_loadu_ps(scales.add(at)))
                };
                let zero = _mm512_mullo_epi32(colsum, _mm512_set1_epi32(self.minus_zero));
                each_row!(ROWS, |R| {
                    // SAFETY: the caller's promise: a sum for each row.
                    let rest = _mm512_add_epi32(zero, _mm512_set1_epi32(unsafe { *sums.add(R) }));
                    let dot = acc[R][P];
                    let dot = _mm512_mask_add_epi32(dot, self.doubled, dot, dot);
                    let t = _mm512_cvtepi32_ps(_mm512_add_epi32(dot, rest));
                    total[R][P] = _mm512_fmadd_ps(t, scale, total[R][P]);
                });
            });
            (colsum, scales) = (colsum.wrapping_add(PANEL), scales.wrapping_add(PANEL));
            sums = sums.wrapping_add(self.m);
        }
        each_row!(ROWS, |R| {
            for (p, total) in total[R].iter().enumerate() {
                // SAFETY: the caller's promise.
                unsafe { _mm512_storeu_ps(to.wrapping_add((p * ROWS + R) * PANEL), *total) };
            }
        });
    }
}

/// Four of the eight k of a block of each panel for all 16 columns, codes plus 128: the first (half 0) or the last (half 1).
///
/// # Safety
/// `codes` points to a block, and so do those so many bytes behind it that are the other panels'.
#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
unsafe fn unsigned<const PANELS: usize>(codes: *const i8, panel: usize, half: i32) -> [__m512i; PANELS] {
    let even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    let index = _mm512_add_epi32(even, _mm512_set1_epi32(half));
    let mut vectors = [_mm512_setzero_si512(); PANELS];
    for (p, vector) in vectors.iter_mut().enumerate() {
        // SAFETY: the caller's promise.
        let (low, high) = unsafe {
            let at = codes.add(p * panel);
            (_mm512_loadu_si512(at.cast()), _mm512_loadu_si512(at.add(VEC_BYTES).cast()))
        };
        *vector = _mm512_xor_si512(_mm512_permutex2var_epi32(low, index, high), _mm512_set1_epi8(-128));
    }
    vectors
}

/// Group size that most weights have, and the largest of which eight are summed at once.
const USUAL_GROUP: usize = 32;

#[target_feature(enable = "avx2,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
fn sums(x: &[i8], group: usize, sums: &mut [i32]) {
    let (mut x, mut sums) = (x, sums);
    if (1..=USUAL_GROUP).contains(&group) {
        let (eights, _) = sums.as_chunks_mut::<8>();
        let whole = x.chunks_exact(8 * group);
        let count = whole.len().min(eights.len());
        for (x, sums) in whole.zip(eights) {
            *sums = eight_sums(x, group);
        }
        (x, sums) = (&x[count * 8 * group..], &mut sums[count * 8..]);
    }
    sums_by_group(x, group, sums, |x| sum(x));
}

/// Sums of eight groups of at most 32.
#[target_feature(enable = "avx2,avx512f,avx512bw,avx512dq,avx512vl")]
#[inline]
fn eight_sums(x: &[i8], group: usize) -> [i32; 8] {
    assert!(group <= USUAL_GROUP && x.len() >= 8 * group, "eight groups of {group} in {}", x.len());
    // Sums of 8 bytes are for u8 only: x + 128.
    let unsigned = _mm512_set1_epi8(-128);
    let mask = ((1u64 << group) - 1) as __mmask32;
    let mut eights = [_mm512_setzero_si512(); 4];
    for (i, eights) in eights.iter_mut().enumerate() {
        let at = x.as_ptr().wrapping_add(2 * i * group);
        // SAFETY: all bytes of two groups of `x`, each with a bit in the mask.
        let x = unsafe {
            if group == USUAL_GROUP {
                _mm512_loadu_si512(at.cast())
            } else {
                let (low, high) = (
                    _mm256_maskz_loadu_epi8(mask, at),
                    _mm256_maskz_loadu_epi8(mask, at.wrapping_add(group)),
                );
                _mm512_inserti64x4::<1>(_mm512_castsi256_si512(low), high)
            }
        };
        *eights = _mm512_sad_epu8(_mm512_xor_si512(x, unsigned), _mm512_setzero_si512());
    }
    // Groups 2i and 2i + 1 are the halves of vector i, four sums each.
    let pairs = |a, b| _mm512_add_epi64(_mm512_unpacklo_epi64(a, b), _mm512_unpackhi_epi64(a, b));
    let (ab, cd) = (pairs(eights[0], eights[1]), pairs(eights[2], eights[3]));
    let low = _mm512_setr_epi64(0, 4, 1, 5, 8, 12, 9, 13);
    let high = _mm512_setr_epi64(2, 6, 3, 7, 10, 14, 11, 15);
    let sums =
        _mm512_add_epi64(_mm512_permutex2var_epi64(ab, low, cd), _mm512_permutex2var_epi64(ab, high, cd));
    // Bytes that are not read are 0, less 128 like all of a register.
    let sums = _mm256_sub_epi32(_mm512_cvtepi64_epi32(sums), _mm256_set1_epi32(128 * USUAL_GROUP as i32));
    let mut out = [0; 8];
    // SAFETY: 8 elements.
    unsafe { _mm256_storeu_si256(out.as_mut_ptr().cast(), sums) };
    out
}

#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vnni")]
#[inline]
fn sum(x: &[i8]) -> i32 {
    let (chunks, rest) = x.as_chunks::<VEC_BYTES>();
    let mut acc = _mm512_setzero_si512();
    for chunk in chunks {
        // SAFETY: 64 bytes.
        let x = unsafe { _mm512_loadu_si512(chunk.as_ptr().cast()) };
        acc = _mm512_dpbusd_epi32(acc, _mm512_set1_epi8(1), x);
    }
    if !rest.is_empty() {
        // SAFETY: as many bytes as the mask has bits.
        let x = unsafe { _mm512_maskz_loadu_epi8((1 << rest.len()) - 1, rest.as_ptr()) };
        acc = _mm512_dpbusd_epi32(acc, _mm512_set1_epi8(1), x);
    }
    _mm512_reduce_add_epi32(acc)
}
