//! NEON with the dot-product extension: one instruction multiplies four i8 with four i8 in each lane and adds all products to an i32,
//! exactly.
//!
//! ```text
//! for each group, for each block of 8 k:
//!     up to 3 rows: 3 rows x 16 columns; else 6 rows x 8 columns: at most 24 accumulators, 2 partial sums of 2 columns in each
//!     8 activations of a row in both halves of a vector; one dot product for each row and vector of 2 columns
//! partial sums joined in pairs; the rest is shared
//! ```

use std::arch::aarch64::{int8x16_t, int32x4_t, vaddvq_s32, vdupq_n_s8, vdupq_n_s32, vld1q_s8, vpaddq_s32};
use std::arch::asm;

use super::super::tile::each_row;
use super::groups_neon::{self, BLOCK_BYTES, Group, Kernel, Kernels, Total, VEC_BYTES, row_factor};
use super::neon::both;
use super::{BLOCK, Isa, PANEL, Task, Variant, sums_by_group};

pub(super) const VARIANT: Variant =
    Variant { name: "gemm_w8_a8__neon_dotprod", isa: Isa::NeonDotprod, run, row_factor, sums };

/// Most rows of a tile of 16 columns: 3 x 8 accumulators, 3 vectors of activations and what passes by fit 32 registers.
const WIDE: usize = 3;

/// Most rows of a tile of 8 columns: 6 x 4 accumulators, 4 vectors of codes and what passes by.
const MR: usize = 6;

const KERNELS: Kernels = Kernels { most: MR, step: 1, of: kernel };

#[target_feature(enable = "neon,dotprod")]
fn run(task: &mut Task<'_>) {
    // SAFETY: this function has the features that the kernels need.
    unsafe { groups_neon::run(task, &KERNELS) }
}

/// The kernel for so many rows, and columns that are wanted.
pub(super) fn kernel(rows: usize, columns: usize) -> Kernel {
    let half = columns <= PANEL / 2 || rows > WIDE;
    let add = match (rows, half) {
        (1, false) => add::<1, 8>,
        (2, false) => add::<2, 8>,
        (_, false) => add::<WIDE, 8>,
        (1, true) => add::<1, 4>,
        (2, true) => add::<2, 4>,
        (3, true) => add::<3, 4>,
        (4, true) => add::<4, 4>,
        (5, true) => add::<5, 4>,
        (_, true) => add::<MR, 4>,
    };
    Kernel { add, columns: if half { PANEL / 2 } else { PANEL } }
}

/// Adds a group of `ROWS` rows and `2 VECS` columns.
///
/// Not inlined: what surrounds it would take registers from the accumulators.
///
/// # Safety
/// As of [`groups_neon::Add`].
#[target_feature(enable = "neon,dotprod")]
#[inline(never)]
unsafe fn add<const ROWS: usize, const VECS: usize>(group: &Group<'_>, total: &mut Total) {
    let mut acc = [[vdupq_n_s32(0); VECS]; ROWS];
    let mut codes = group.codes.wrapping_add(group.first * BLOCK);
    for piece in group.pieces {
        let mut x = [std::ptr::null(); ROWS];
        for (r, x) in x.iter_mut().enumerate() {
            *x = piece.row(r);
        }
        let mut left = piece.blocks;
        // Tested at its end: with a way around it the accumulators would be copied in every step.
        loop {
            // Whichever operand has fewer vectors waits in registers while the other passes by.
            if ROWS < VECS {
                let mut values = [vdupq_n_s8(0); ROWS];
                each_row!(ROWS, |R| {
                    // SAFETY: the caller's promise: a block of row R.
                    values[R] = unsafe { both(x[R]) };
                });
                each_row!(VECS, |J| {
                    // SAFETY: the caller's promise: a block, of which these are columns.
                    let q = unsafe { vld1q_s8(codes.add(J * VEC_BYTES)) };
                    each_row!(ROWS, |R| {
                        acc[R][J] = dot(acc[R][J], q, values[R]);
                    });
                });
            } else {
                let mut q = [vdupq_n_s8(0); VECS];
                each_row!(VECS, |J| {
                    // SAFETY: the caller's promise: a block, of which these are columns.
                    q[J] = unsafe { vld1q_s8(codes.add(J * VEC_BYTES)) };
                });
                each_row!(ROWS, |R| {
                    // SAFETY: the caller's promise: a block of row R.
                    let value = unsafe { both(x[R]) };
                    each_row!(VECS, |J| {
                        acc[R][J] = dot(acc[R][J], q[J], value);
                    });
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
    each_row!(VECS, |J| {
        if J.is_multiple_of(2) {
            let mut dots = [vdupq_n_s32(0); ROWS];
            each_row!(ROWS, |R| {
                dots[R] = vpaddq_s32(acc[R][J], acc[R][J + 1]);
            });
            group.scale(group.first + J * 2, dots, total);
        }
    });
}

/// `acc + a · b`, by fours. The intrinsic is not stable.
#[target_feature(enable = "neon,dotprod")]
#[inline]
pub(in crate::cpu) fn dot(mut acc: int32x4_t, a: int8x16_t, b: int8x16_t) -> int32x4_t {
    // SAFETY: registers only, and this function has the feature.
    unsafe {
        asm!(
            "sdot {acc:v}.4s, {a:v}.16b, {b:v}.16b",
            acc = inout(vreg) acc,
            a = in(vreg) a,
            b = in(vreg) b,
            options(pure, nomem, nostack, preserves_flags)
        );
    }
    acc
}

#[target_feature(enable = "neon,dotprod")]
pub(super) fn sums(x: &[i8], group: usize, sums: &mut [i32]) {
    sums_by_group(x, group, sums, |x| sum(x));
}

#[target_feature(enable = "neon,dotprod")]
fn sum(x: &[i8]) -> i32 {
    let (chunks, rest) = x.as_chunks::<VEC_BYTES>();
    let mut acc = vdupq_n_s32(0);
    for chunk in chunks {
        // SAFETY: 16 bytes.
        acc = dot(acc, unsafe { vld1q_s8(chunk.as_ptr()) }, vdupq_n_s8(1));
    }
    vaddvq_s32(acc) + rest.iter().map(|&x| i32::from(x)).sum::<i32>()
}
