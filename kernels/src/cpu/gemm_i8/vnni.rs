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
    __m512i, __mmask16, _mm_maskz_loadu_epi8, _mm256_set1_epi32, _mm256_storeu_si256, _mm256_sub_epi32,
    _mm512_add_epi32, _mm512_add_epi64, _mm512_broadcastq_epi64, _mm512_cvtepi32_ps, _mm512_cvtepi64_epi32,
    _mm512_dpbusd_epi32, _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_loadu_si512, _mm512_maskz_loadu_epi8,
    _mm512_mullo_epi32, _mm512_permutex2var_epi32, _mm512_permutex2var_epi64, _mm512_reduce_add_epi32,
    _mm512_sad_epu8, _mm512_set1_epi8, _mm512_set1_epi32, _mm512_set1_epi64, _mm512_setr_epi32,
    _mm512_setr_epi64, _mm512_setzero_si512, _mm512_sllv_epi32, _mm512_storeu_ps, _mm512_unpackhi_epi64,
    _mm512_unpacklo_epi64, _mm512_xor_si512,
};

use super::super::gemm_f32::Columns;
use super::super::gemm_f32::MAX_RUNS;
use super::super::gemm_f32::epilogue_avx512::finish;
use super::super::tile::{Aligned, each_row};
use super::{BLOCK, Isa, PANEL, Task, Variant};

pub(super) const VARIANT: Variant =
    Variant { name: "gemm_w8_a8__avx512_vnni", isa: Isa::Avx512Vnni, windows: true, run, row_factor, sums };

/// What is subtracted for `q + 128` in place of `q`, and for half-offset codes the sum itself.
fn row_factor(half_offset: bool, _bits: u32) -> i32 {
    if half_offset { 1 - 2 * 128 } else { -128 }
}

/// Most rows of a tile.
const MR: usize = 12;

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
        // Few rows: more panels at once, or the chains would be too few to hide the latency.
        let count = match (m, panels - panel) {
            (1..=2, 4..) => 4,
            (3, 2..) => 2,
            _ => 1,
        };
        let mut columns = [Columns::default(); 4];
        for (p, columns) in columns.iter_mut().enumerate().take(count) {
            *columns = task.epilogue.columns((panel + p) * PANEL, task.out.cols());
        }
        let place = Place { panel, columns: &columns[..count] };
        // Of a panel that is half empty only the lower half is multiplied.
        let vecs = if count == 1 && columns[0].valid() <= PANEL / 2 { 1 } else { 2 * count };
        let mut row = 0;
        for tile in 0..tiles {
            let rows = (m - row) / (tiles - tile);
            block(task, row, rows, &place, Group::of(rows, vecs));
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
fn block(task: &mut Task<'_>, row: usize, rows: usize, place: &Place<'_>, add: Add) {
    let (w, x, groups) = (task.w, task.x.rows, task.w.groups());
    let (panels, blocks) = (place.columns.len(), w.k.div_ceil(BLOCK));
    let codes = &w.codes[place.panel * blocks * BLOCK_BYTES..][..panels * blocks * BLOCK_BYTES];
    let tables = place.panel * groups * PANEL..(place.panel + panels) * groups * PANEL;
    let (scales, colsum) = (&w.scales[tables.clone()], &w.colsum[tables]);
    let sums = &task.x.row_sums[..groups * x.rows()];
    // All rows are there.
    let (_, len) = (x.run(row + rows - 1, 0), x.run_len());
    let mut runs = [std::ptr::null::<i8>(); MAX_RUNS];
    for (i, run) in runs.iter_mut().enumerate().take(x.runs()) {
        *run = x.run(row, i).as_ptr();
    }
    let mut pieces = [(std::ptr::null(), 0); MAX_RUNS];
    // Where the next group starts: in which run, and how many of its activations are behind it.
    let (mut run, mut behind) = (0, 0);
    let Aligned(total) = &mut Aligned([[0.0; PANEL]; MR]);
    for g in 0..groups {
        let (from, to) = (g * w.group, w.k.min((g + 1) * w.group));
        let (mut left, mut count) = (to - from, 0);
        while left > 0 {
            let taken = left.min(len - behind);
            pieces[count] = (runs[run].wrapping_add(behind), taken / BLOCK);
            (left, behind, count) = (left - taken, behind + taken, count + 1);
            if behind == len {
                (run, behind) = (run + 1, 0);
            }
        }
        let group = Group {
            pieces: &pieces[..count],
            stride: x.stride(),
            rest: (1 << ((to - from) % BLOCK)) - 1,
            codes: codes[from / BLOCK * BLOCK_BYTES..].as_ptr(),
            panel: blocks * BLOCK_BYTES,
            sums: sums[g * x.rows() + row..][..rows].as_ptr(),
            colsum: colsum[g * PANEL..].as_ptr(),
            scales: scales[g * PANEL..].as_ptr(),
            table: groups * PANEL,
            minus_zero: -task.x.zero_point,
            double: i32::from(w.half_offset),
        };
        // SAFETY: rows `row` to `row + rows` are there, and each has `to - from` activations in the pieces, of which none but the
        // last may have a partial block (`Variant::run`). Group g has as many codes, padded to whole blocks, in each of the
        // panels, 16 scales and 16 sums, and a sum for each row.
        unsafe { add(&group, total) };
    }
    for (columns, acc) in place.columns.iter().zip(total.chunks_exact_mut(rows)) {
        finish(task.epilogue, &mut task.out, row, columns, acc);
    }
}

/// One group of k of a tile.
struct Group {
    /// Where the first row's activations lie, in order, and whole blocks there; those of other rows are `stride` apart.
    pieces: *const [(*const i8, usize)],
    stride: usize,
    /// A bit for each activation past the last block.
    rest: __mmask16,
    /// First block of the first panel; panels are `panel` bytes apart.
    codes: *const i8,
    panel: usize,
    /// A sum for each row.
    sums: *const i32,
    /// Of the first panel; those of the others are `table` elements apart.
    colsum: *const i32,
    scales: *const f32,
    table: usize,
    minus_zero: i32,
    /// 1 to double products.
    double: i32,
}

/// Adds a group of a tile: [`Group::add`] for some number of rows and vectors.
type Add = unsafe fn(&Group, &mut [[f32; PANEL]; MR]);

impl Group {
    /// The kernel for so many rows and vectors of 8 columns.
    fn of(rows: usize, vecs: usize) -> Add {
        match (rows, vecs) {
            (1, 8) => Group::add::<1, 8>,
            (2, 8) => Group::add::<2, 8>,
            (3, 4) => Group::add::<3, 4>,
            (1, _) => Group::add::<1, 2>,
            (2, _) => Group::add::<2, 2>,
            (3, _) => Group::add::<3, 2>,
            (4, _) => Group::add::<4, 2>,
            (5, _) => Group::add::<5, 2>,
            (6, _) => Group::add::<6, 2>,
            (7, _) => Group::add::<7, 2>,
            (8, 1) => Group::add::<8, 1>,
            (8, _) => Group::add::<8, 2>,
            (9, 1) => Group::add::<9, 1>,
            (9, _) => Group::add::<9, 2>,
            (10, 1) => Group::add::<10, 1>,
            (10, _) => Group::add::<10, 2>,
            (11, 1) => Group::add::<11, 1>,
            (11, _) => Group::add::<11, 2>,
            (_, 1) => Group::add::<MR, 1>,
            _ => Group::add::<MR, 2>,
        }
    }

    /// `total[p * ROWS + r] += scale * (sum over the group of w * (x - zero_point))`. With an
    /// odd number of vectors the upper 8 columns get the sums of the lower ones.
    ///
    /// Not inlined: what surrounds it would take registers from the accumulators.
    ///
    /// # Safety
    /// `pieces`: readable; of `ROWS` rows, the last with as many more activations as `rest` has bits. `codes`: as many blocks, one more if
    /// `rest` has bits, of each panel. `sums`: `ROWS`. `colsum`, `scales`: 16 of each panel.
    #[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
    #[inline(never)]
    unsafe fn add<const ROWS: usize, const VECS: usize>(&self, total: &mut [[f32; PANEL]; MR]) {
        let mut acc = [[_mm512_setzero_si512(); VECS]; ROWS];
        let (mut codes, stride, panel) = (self.codes, self.stride, self.panel);
        let mut x = [std::ptr::null::<i8>(); MR / NEAR];
        // SAFETY: the caller's promise.
        let pieces = unsafe { &*self.pieces };
        for &(piece, blocks) in pieces {
            for (i, x) in x.iter_mut().enumerate() {
                *x = piece.wrapping_add(i * NEAR * stride);
            }
            for _ in 0..blocks {
                // SAFETY: the caller's promise: a block of each panel.
                let rhs = unsafe { unsigned::<VECS>(codes, panel) };
                each_row!(ROWS, |R| {
                    // SAFETY: the caller's promise: 8 activations of row R; every pattern is an i64.
                    let x = unsafe { x[R / NEAR].add(R % NEAR * stride).cast::<i64>().read_unaligned() };
                    for (acc, rhs) in acc[R].iter_mut().zip(rhs) {
                        *acc = _mm512_dpbusd_epi32(*acc, rhs, _mm512_set1_epi64(x));
                    }
                });
                x = x.map(|x| x.wrapping_add(BLOCK));
                codes = codes.wrapping_add(BLOCK_BYTES);
            }
        }
        if self.rest != 0 {
            // SAFETY: the caller's promise: a block of each panel.
            let rhs = unsafe { unsigned::<VECS>(codes, panel) };
            each_row!(ROWS, |R| {
                // SAFETY: the caller's promise: as many activations as the mask has bits. What follows them may not be
                // readable, and is not read.
                let x = unsafe { _mm_maskz_loadu_epi8(self.rest, x[R / NEAR].add(R % NEAR * stride)) };
                for (acc, rhs) in acc[R].iter_mut().zip(rhs) {
                    *acc = _mm512_dpbusd_epi32(*acc, rhs, _mm512_broadcastq_epi64(x));
                }
            });
        }
        let double = _mm512_set1_epi32(self.double);
        for p in 0..VECS.div_ceil(2) {
            // SAFETY: the caller's promise: 16 of each.
            let (colsum, scale) = unsafe {
                let colsum = _mm512_loadu_si512(self.colsum.add(p * self.table).cast());
                (colsum, _mm512_loadu_ps(self.scales.add(p * self.table)))
            };
            let zero = _mm512_mullo_epi32(colsum, _mm512_set1_epi32(self.minus_zero));
            each_row!(ROWS, |R| {
                let dot = join(acc[R][2 * p], acc[R][(2 * p + 1).min(VECS - 1)]);
                let total = &mut total[p * ROWS + R];
                // SAFETY: the caller's promise: a sum for each row; and 16 floats.
                unsafe {
                    let rest = _mm512_add_epi32(zero, _mm512_set1_epi32(*self.sums.add(R)));
                    let t = _mm512_cvtepi32_ps(_mm512_add_epi32(_mm512_sllv_epi32(dot, double), rest));
                    let y = _mm512_fmadd_ps(t, scale, _mm512_loadu_ps(total.as_ptr()));
                    _mm512_storeu_ps(total.as_mut_ptr(), y);
                }
            });
        }
    }
}

/// The codes of a block, plus 128.
///
/// # Safety
/// `codes` points to as many vectors, two in a panel, panels `panel` bytes apart.
#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
unsafe fn unsigned<const VECS: usize>(codes: *const i8, panel: usize) -> [__m512i; VECS] {
    let mut vectors = [_mm512_setzero_si512(); VECS];
    for (j, vector) in vectors.iter_mut().enumerate() {
        // SAFETY: the caller's promise.
        let q = unsafe { _mm512_loadu_si512(codes.add(j / 2 * panel + j % 2 * VEC_BYTES).cast()) };
        *vector = _mm512_xor_si512(q, _mm512_set1_epi8(-128));
    }
    vectors
}

/// Sums of the pairs of partial sums of 16 columns.
#[target_feature(enable = "avx512f")]
#[inline]
fn join(low: __m512i, high: __m512i) -> __m512i {
    let even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    let odd = _mm512_setr_epi32(1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31);
    _mm512_add_epi32(_mm512_permutex2var_epi32(low, even, high), _mm512_permutex2var_epi32(low, odd, high))
}

/// Group size that most weights have.
const USUAL_GROUP: usize = 32;

#[target_feature(enable = "avx2,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
fn sums(x: &[i8], group: usize, sums: &mut [i32]) {
    let (mut x, mut sums) = (x, sums);
    if group == USUAL_GROUP {
        let (whole, _) = x.as_chunks::<{ 8 * USUAL_GROUP }>();
        let (eights, _) = sums.as_chunks_mut::<8>();
        let count = whole.len().min(eights.len());
        for (x, sums) in whole.iter().zip(eights) {
            *sums = eight_sums(x);
        }
        (x, sums) = (&x[count * 8 * USUAL_GROUP..], &mut sums[count * 8..]);
    }
    for (to, x) in sums.iter_mut().zip(x.chunks(group)) {
        *to = sum(x);
    }
}

/// Sums of eight groups of 32.
#[target_feature(enable = "avx2,avx512f,avx512bw,avx512dq,avx512vl")]
#[inline]
fn eight_sums(x: &[i8; 8 * USUAL_GROUP]) -> [i32; 8] {
    // Sums of 8 bytes are for u8 only: x + 128.
    let unsigned = _mm512_set1_epi8(-128);
    let mut eights = [_mm512_setzero_si512(); 4];
    for (eights, x) in eights.iter_mut().zip(x.as_chunks::<VEC_BYTES>().0) {
        // SAFETY: 64 bytes.
        let x = unsafe { _mm512_loadu_si512(x.as_ptr().cast()) };
        *eights = _mm512_sad_epu8(_mm512_xor_si512(x, unsigned), _mm512_setzero_si512());
    }
    // Groups 2i and 2i + 1 are the halves of vector i, four sums each.
    let pairs = |a, b| _mm512_add_epi64(_mm512_unpacklo_epi64(a, b), _mm512_unpackhi_epi64(a, b));
    let (ab, cd) = (pairs(eights[0], eights[1]), pairs(eights[2], eights[3]));
    let low = _mm512_setr_epi64(0, 4, 1, 5, 8, 12, 9, 13);
    let high = _mm512_setr_epi64(2, 6, 3, 7, 10, 14, 11, 15);
    let sums =
        _mm512_add_epi64(_mm512_permutex2var_epi64(ab, low, cd), _mm512_permutex2var_epi64(ab, high, cd));
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
