//! NEON: products of i8 are i16, and are added in pairs to i32.
//!
//! ```text
//! for each group, for each block of 8 k, for 4 or 8 columns:
//!     wide (8 bits):  4 rows x 4 columns; 8 products of a row and a column, added in pairs to 4 partial sums at once: two of
//!                     -128 * -128 pass i16
//!     narrow (to 7):  3 rows x 4 columns; products added as i16, as many of them as cannot overflow, then in pairs to the partial
//!                     sums
//! partial sums joined by fours; the rest is shared
//! ```
//! Each column has an accumulator of its own, 4 partial sums. Of one row 8 columns at once: as many chains, and whole cache lines.

use std::arch::aarch64::{
    int8x16_t, int16x8_t, int32x4_t, vaddvq_s32, vdupq_n_s8, vdupq_n_s16, vdupq_n_s32, vdupq_n_s64,
    vget_low_s8, vld1q_s8, vmlal_high_s8, vmlal_s8, vmull_high_s8, vmull_s8, vpadalq_s16, vpaddlq_s8,
    vpaddq_s32, vreinterpretq_s8_s64,
};

use super::super::tile::each_row;
use super::groups_neon::{self, BLOCK_BYTES, Group, Kernel, Kernels, Total, VEC_BYTES, row_factor};
use super::{BLOCK, Isa, Task, Variant, sums_by_group};

pub(super) const VARIANT: Variant =
    Variant { name: "gemm_w8_a8__neon", isa: Isa::Neon, run, row_factor, sums };

/// Most rows of a tile of codes of 8 bits: 4 x 4 accumulators; beside them 4 vectors of activations, the codes and products.
const WIDE_ROWS: usize = 4;

/// Most rows of a tile of fewer bits: 3 x 4 accumulators of i32 and as many of i16, 3 vectors of activations, and the codes.
const NARROW_ROWS: usize = 3;

const WIDE: Kernels = Kernels { most: WIDE_ROWS, step: 1, of: wide_kernel };
const NARROW: Kernels = Kernels { most: NARROW_ROWS, step: 1, of: narrow_kernel };

#[target_feature(enable = "neon")]
fn run(task: &mut Task<'_>) {
    let kernels = if task.w.code_bits < 8 { &NARROW } else { &WIDE };
    // SAFETY: this function has the feature that the kernels need.
    unsafe { groups_neon::run(task, kernels) }
}

fn wide_kernel(rows: usize, _columns: usize) -> Kernel {
    match rows {
        1 => Kernel { add: wide::<1, 4, 8>, columns: 8 },
        2 => Kernel { add: wide::<2, 4, 8>, columns: 8 },
        3 => Kernel { add: wide::<3, 2, 4>, columns: 4 },
        _ => Kernel { add: wide::<WIDE_ROWS, 2, 4>, columns: 4 },
    }
}

fn narrow_kernel(rows: usize, _columns: usize) -> Kernel {
    match rows {
        1 => Kernel { add: narrow::<1, 4, 8>, columns: 8 },
        2 => Kernel { add: narrow::<2, 2, 4>, columns: 4 },
        _ => Kernel { add: narrow::<NARROW_ROWS, 2, 4>, columns: 4 },
    }
}

/// Adds a group of `ROWS` rows and `COLUMNS` columns, `VECS` vectors; any codes.
///
/// Not inlined: what surrounds it would take registers from the accumulators.
///
/// # Safety
/// As of [`groups_neon::Add`].
#[target_feature(enable = "neon")]
#[inline(never)]
unsafe fn wide<const ROWS: usize, const VECS: usize, const COLUMNS: usize>(
    group: &Group<'_>,
    total: &mut Total,
) {
    const { assert!(COLUMNS == 2 * VECS) };
    let mut acc = [[vdupq_n_s32(0); COLUMNS]; ROWS];
    let mut codes = group.codes.wrapping_add(group.first * BLOCK);
    for piece in group.pieces {
        let mut x = [std::ptr::null(); ROWS];
        for (r, x) in x.iter_mut().enumerate() {
            *x = piece.row(r);
        }
        let mut left = piece.blocks;
        // Tested at its end: with a way around it the accumulators would be copied in every step.
        loop {
            let mut values = [vdupq_n_s8(0); ROWS];
            each_row!(ROWS, |R| {
                // SAFETY: the caller's promise: a block of row R.
                values[R] = unsafe { both(x[R]) };
            });
            for j in 0..VECS {
                // SAFETY: the caller's promise: a block, of which these are columns.
                let q = unsafe { vld1q_s8(codes.add(j * VEC_BYTES)) };
                each_row!(ROWS, |R| {
                    let low = vmull_s8(vget_low_s8(q), vget_low_s8(values[R]));
                    acc[R][2 * j] = vpadalq_s16(acc[R][2 * j], low);
                    acc[R][2 * j + 1] = vpadalq_s16(acc[R][2 * j + 1], vmull_high_s8(q, values[R]));
                });
            }
            x = x.map(|x| x.wrapping_add(BLOCK));
            codes = codes.wrapping_add(BLOCK_BYTES);
            left -= 1;
            if left == 0 {
                break;
            }
        }
    }
    join(group, acc, total);
}

/// Adds a group of `ROWS` rows and `COLUMNS` columns, `VECS` vectors; codes of at most 7 bits.
///
/// Not inlined: what surrounds it would take registers from the accumulators.
///
/// # Safety
/// As of [`groups_neon::Add`].
#[target_feature(enable = "neon")]
#[inline(never)]
unsafe fn narrow<const ROWS: usize, const VECS: usize, const COLUMNS: usize>(
    group: &Group<'_>,
    total: &mut Total,
) {
    const { assert!(COLUMNS == 2 * VECS) };
    let mut acc = [[vdupq_n_s32(0); COLUMNS]; ROWS];
    let mut codes = group.codes.wrapping_add(group.first * BLOCK);
    for piece in group.pieces {
        let mut x = [std::ptr::null(); ROWS];
        for (r, x) in x.iter_mut().enumerate() {
            *x = piece.row(r);
        }
        let mut left = piece.blocks;
        while left > 0 {
            let blocks = left.min(group.depth);
            let mut products = [[vdupq_n_s16(0); COLUMNS]; ROWS];
            for _ in 0..blocks {
                let mut values = [vdupq_n_s8(0); ROWS];
                each_row!(ROWS, |R| {
                    // SAFETY: the caller's promise: a block of row R.
                    values[R] = unsafe { both(x[R]) };
                });
                for j in 0..VECS {
                    // SAFETY: the caller's promise: a block, of which these are columns.
                    let q = unsafe { vld1q_s8(codes.add(j * VEC_BYTES)) };
                    each_row!(ROWS, |R| {
                        products[R][2 * j] =
                            vmlal_s8(products[R][2 * j], vget_low_s8(q), vget_low_s8(values[R]));
                        products[R][2 * j + 1] = vmlal_high_s8(products[R][2 * j + 1], q, values[R]);
                    });
                }
                x = x.map(|x| x.wrapping_add(BLOCK));
                codes = codes.wrapping_add(BLOCK_BYTES);
            }
            each_row!(ROWS, |R| {
                for (acc, products) in acc[R].iter_mut().zip(products[R]) {
                    *acc = vpadalq_s16(*acc, products);
                }
            });
            left -= blocks;
        }
    }
    join(group, acc, total);
}

/// The last step of a group, from 4 partial sums of each column.
#[target_feature(enable = "neon")]
#[inline]
fn join<const ROWS: usize, const COLUMNS: usize>(
    group: &Group<'_>,
    acc: [[int32x4_t; COLUMNS]; ROWS],
    total: &mut Total,
) {
    for c in (0..COLUMNS).step_by(4) {
        let mut dots = [vdupq_n_s32(0); ROWS];
        each_row!(ROWS, |R| {
            let low = vpaddq_s32(acc[R][c], acc[R][c + 1]);
            dots[R] = vpaddq_s32(low, vpaddq_s32(acc[R][c + 2], acc[R][c + 3]));
        });
        group.scale(group.first + c, dots, total);
    }
}

/// Eight activations in both halves.
///
/// # Safety
/// `x` points to 8 readable bytes.
#[target_feature(enable = "neon")]
#[inline]
pub(super) unsafe fn both(x: *const i8) -> int8x16_t {
    // SAFETY: the caller's promise; every pattern is an i64.
    vreinterpretq_s8_s64(vdupq_n_s64(unsafe { x.cast::<i64>().read_unaligned() }))
}

#[target_feature(enable = "neon")]
fn sums(x: &[i8], group: usize, sums: &mut [i32]) {
    sums_by_group(x, group, sums, |x| sum(x));
}

#[target_feature(enable = "neon")]
fn sum(x: &[i8]) -> i32 {
    let (chunks, rest) = x.as_chunks::<VEC_BYTES>();
    let mut acc = vdupq_n_s32(0);
    for chunk in chunks {
        // SAFETY: 16 bytes.
        let pairs: int16x8_t = vpaddlq_s8(unsafe { vld1q_s8(chunk.as_ptr()) });
        acc = vpadalq_s16(acc, pairs);
    }
    vaddvq_s32(acc) + rest.iter().map(|&x| i32::from(x)).sum::<i32>()
}
