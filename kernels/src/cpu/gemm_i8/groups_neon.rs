//! What the AArch64 variants share: the way over panels, tiles and groups, and the step from a group's i32 sums to the f32
//! accumulators. They differ in how they multiply: a [`Kernel`] for each shape of a tile.
//!
//! ```text
//! for each panel, for each tile of rows:
//!     for each group, for each part of the columns: a kernel adds scale * (sum over the group of w * (x - zero_point))
//!     epilogue
//! ```
//! Products of signed bytes are native here, so nothing is offset: half-offset codes want the sum of the activations once, plain
//! ones not at all. A panel's codes come from memory once: all rows pass by before the next panel.

use std::arch::aarch64::{
    int32x4_t, vaddq_s32, vcvtq_f32_s32, vdupq_n_s32, vfmaq_f32, vld1q_f32, vld1q_s32, vmulq_s32, vshlq_s32,
    vst1q_f32,
};

use super::super::gemm_f32::epilogue_neon::finish;
use super::super::gemm_f32::{Columns, MAX_RUNS};
use super::super::tile::{Aligned, each_row};
use super::{BLOCK, PANEL, Task};

/// Half-offset codes stand for `2q + 1`: the sum once.
pub(super) fn row_factor(half_offset: bool) -> i32 {
    i32::from(half_offset)
}

/// Bytes of a block of codes.
pub(super) const BLOCK_BYTES: usize = PANEL * BLOCK;

/// Bytes of a vector: 2 columns of a block.
pub(super) const VEC_BYTES: usize = 16;

/// i32 of a vector.
const LANES: usize = 4;

/// Most rows of any tile.
const MR: usize = 6;

/// Accumulators of a tile.
pub(super) type Total = [[f32; PANEL]; MR];

/// A run of whole blocks of activations, at least one.
#[derive(Clone, Copy)]
pub(super) struct Piece {
    /// The first row's.
    x: *const i8,
    /// Bytes from a row to the next.
    stride: usize,
    /// Blocks of each row.
    pub blocks: usize,
}

impl Piece {
    /// Where row `r` starts.
    #[inline(always)]
    pub(super) fn row(&self, r: usize) -> *const i8 {
        self.x.wrapping_add(r * self.stride)
    }
}

/// One group of k of a tile.
pub(super) struct Group<'a> {
    /// Where the activations lie, in order, one after the other along k.
    pub pieces: &'a [Piece],
    /// `[blocks of all pieces][16][8]`
    pub codes: *const i8,
    /// First of the columns that are wanted.
    pub first: usize,
    /// Products of a code and an activation whose sum surely fits i16.
    pub depth: usize,
    /// One a row.
    sums: &'a [i32],
    colsum: &'a [i32; PANEL],
    scales: &'a [f32; PANEL],
    minus_zero: i32,
    /// 1 to double products.
    double: i32,
}

/// Adds a group of a tile, of a kernel's number of rows and columns.
///
/// # Safety
/// The CPU has what the variant needs. `pieces` have a block at least each, and are readable for as many rows; `codes` has as many
/// blocks as all of them; `first` plus the kernel's columns is at most 16.
pub(super) type Add = unsafe fn(&Group<'_>, &mut Total);

/// A way to multiply.
#[derive(Clone, Copy)]
pub(super) struct Kernel {
    pub add: Add,
    /// Columns that it makes at once: a divisor of 16.
    pub columns: usize,
}

/// The kernels of a variant.
pub(super) struct Kernels {
    /// Most rows of a tile, at most [`MR`].
    pub most: usize,
    /// Rows of all tiles but the last are a multiple of this.
    pub step: usize,
    /// The kernel for so many rows, at most `most`, and columns of a panel that are wanted.
    pub of: fn(usize, usize) -> Kernel,
}

/// The product.
///
/// # Safety
/// The CPU has what the kernels need.
#[target_feature(enable = "neon")]
pub(super) unsafe fn run(task: &mut Task<'_>, kernels: &Kernels) {
    let (m, n) = (task.out.rows(), task.out.cols());
    let tiles = m.div_ceil(kernels.most);
    for panel in 0..n.div_ceil(PANEL) {
        let columns = task.epilogue.columns(panel * PANEL, n);
        let mut row = 0;
        for left in (1..=tiles).rev() {
            let rows = (m - row).div_ceil(left).next_multiple_of(kernels.step).min(m - row);
            // SAFETY: the caller's promise of the CPU, and `of` gives a kernel for as many rows.
            unsafe { tile(task, row, rows, panel, &columns, (kernels.of)(rows, columns.valid())) };
            row += rows;
        }
    }
}

/// Rows `row` to `row + rows` times a panel.
///
/// # Safety
/// The CPU has what the kernel needs, and it is for so many rows.
#[target_feature(enable = "neon")]
unsafe fn tile(
    task: &mut Task<'_>,
    row: usize,
    rows: usize,
    panel: usize,
    columns: &Columns,
    kernel: Kernel,
) {
    let (w, x) = (task.w, task.x.rows);
    let (len, rest) = (x.run_len(), w.k % BLOCK);
    let panel = w.panel(panel);
    let bits = w.code_bits;
    let none = Piece { x: std::ptr::null(), stride: x.stride(), blocks: 0 };
    let mut runs = [none; MAX_RUNS];
    for (i, run) in runs.iter_mut().enumerate().take(x.runs()) {
        // The last row is there, and so are those before it.
        x.run(row + rows - 1, i);
        run.x = x.run(row, i).as_ptr();
    }
    // The bytes of a last, partial block with zeros behind them: what follows a row may not be readable. Rows with one are one run.
    let mut tails = [[0i8; BLOCK]; MR];
    if rest > 0 {
        for (r, tail) in tails.iter_mut().enumerate().take(rows) {
            tail[..rest].copy_from_slice(&x.row(row + r)[w.k - rest..]);
        }
    }
    let mut pieces = [none; MAX_RUNS + 1];
    // Where the next group starts: in which run, and how many of its activations are behind it.
    let (mut run, mut behind) = (0, 0);
    let Aligned(total) = &mut Aligned([[0.0; PANEL]; MR]);
    for (g, (scales, colsum)) in panel.scales.iter().zip(panel.colsum).enumerate() {
        let (from, to) = (g * w.group, w.k.min((g + 1) * w.group));
        let (mut left, mut count) = (to - from, 0);
        while left > 0 {
            let taken = left.min(len - behind);
            if taken >= BLOCK {
                let x = runs[run].x.wrapping_add(behind);
                pieces[count] = Piece { x, blocks: taken / BLOCK, ..runs[run] };
                count += 1;
            }
            (left, behind) = (left - taken, behind + taken);
            if behind == len {
                (run, behind) = (run + 1, 0);
            }
        }
        if !(to - from).is_multiple_of(BLOCK) {
            pieces[count] = Piece { x: tails.as_ptr().cast(), stride: BLOCK, blocks: 1 };
            count += 1;
        }
        let codes = &panel.codes[from * PANEL..][..(to - from).div_ceil(BLOCK) * BLOCK_BYTES];
        let mut group = Group {
            pieces: &pieces[..count],
            codes: codes.as_ptr(),
            first: 0,
            depth: (i16::MAX as usize) >> (bits - 1 + 7),
            sums: &task.x.row_sums[g * x.rows() + row..][..rows],
            colsum,
            scales,
            minus_zero: -task.x.zero_point,
            double: i32::from(w.half_offset),
        };
        while group.first < columns.valid() {
            // SAFETY: the caller's promise of the CPU. Rows `row` to `row + rows` are there, and each has `to - from` activations in
            // the pieces, none of which is empty: runs hold whole blocks, or the only one has its last block in `tails`
            // (`Variant::run` checks). `codes` has been cut to as many blocks. `first` is a multiple of the kernel's columns
            // below 16.
            unsafe { (kernel.add)(&group, total) };
            group.first += kernel.columns;
        }
    }
    finish(task.epilogue, &mut task.out, row, columns, &mut total[..rows]);
}

impl Group<'_> {
    /// `total[r] += scale * (sum over the group of w * (x - zero_point))` for 4 columns from `column` on, a multiple of 4;
    /// `dots[r]` are `dot(q, x)` of row r.
    #[target_feature(enable = "neon")]
    #[inline]
    pub(super) fn scale<const ROWS: usize>(&self, column: usize, dots: [int32x4_t; ROWS], total: &mut Total) {
        let colsum = &self.colsum.as_chunks::<LANES>().0[column / LANES];
        let scale = &self.scales.as_chunks::<LANES>().0[column / LANES];
        // SAFETY: 4 of 4 elements each.
        let (colsum, scale) = unsafe { (vld1q_s32(colsum.as_ptr()), vld1q_f32(scale.as_ptr())) };
        let zero = vmulq_s32(colsum, vdupq_n_s32(self.minus_zero));
        let double = vdupq_n_s32(self.double);
        each_row!(ROWS, |R| {
            if let (Some(sum), Some(total)) = (self.sums.get(R), total.get_mut(R)) {
                // Terms may wrap on the way to a sum that fits.
                let rest = vaddq_s32(zero, vdupq_n_s32(*sum));
                let t = vcvtq_f32_s32(vaddq_s32(vshlq_s32(dots[R], double), rest));
                let total = &mut total.as_chunks_mut::<LANES>().0[column / LANES];
                // SAFETY: 4 of 4 floats.
                unsafe { vst1q_f32(total.as_mut_ptr(), vfmaq_f32(vld1q_f32(total.as_ptr()), t, scale)) };
            }
        });
    }
}
