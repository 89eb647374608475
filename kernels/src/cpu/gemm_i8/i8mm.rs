//! NEON with int8 matrix multiply: one instruction multiplies 2 rows x 8 k with 8 k x 2 columns and adds the products to four i32,
//! exactly.
//!
//! ```text
//! for each group, for each block of 8 k:
//!     24 accumulators = 3 pairs of rows x 8 pairs of columns
//!     8 activations of two rows in a vector; one multiplication for each pair of rows and vector of 2 columns
//! halves of the accumulators joined to rows; the rest is shared
//! ```
//! One row alone is a vector of its own, for which half of each product would be nobody's: it goes by dot products.

use std::arch::aarch64::{
    int8x16_t, int32x4_t, vcombine_s8, vdupq_n_s8, vdupq_n_s32, vld1_s8, vld1q_s8, vreinterpretq_s32_s64,
    vreinterpretq_s64_s32, vtrn1q_s64, vtrn2q_s64,
};
use std::arch::asm;

use super::super::tile::each_row;
use super::groups_neon::{self, BLOCK_BYTES, Group, Kernel, Kernels, Total, VEC_BYTES, row_factor};
use super::{BLOCK, Isa, PANEL, Task, Variant, dotprod};

pub(super) const VARIANT: Variant =
    Variant { name: "gemm_w8_a8__neon_i8mm", isa: Isa::NeonI8mm, run, row_factor, sums: dotprod::sums };

/// Most rows of a tile: 3 x 8 accumulators, 3 vectors of activations and what passes by fit 32 registers.
const MR: usize = 6;

const KERNELS: Kernels = Kernels { most: MR, step: 2, of: kernel };

#[target_feature(enable = "neon,dotprod,i8mm")]
fn run(task: &mut Task<'_>) {
    // SAFETY: this function has the features that the kernels need, those of dot products among them.
    unsafe { groups_neon::run(task, &KERNELS) }
}

/// The kernel for so many rows, and columns that are wanted.
fn kernel(rows: usize, columns: usize) -> Kernel {
    if rows == 1 {
        return dotprod::kernel(rows, columns);
    }
    let half = columns <= PANEL / 2;
    let add = match (rows, half) {
        (2, false) => add::<2, 1, 8>,
        (3, false) => add::<3, 2, 8>,
        (4, false) => add::<4, 2, 8>,
        (5, false) => add::<5, 3, 8>,
        (_, false) => add::<MR, 3, 8>,
        (2, true) => add::<2, 1, 4>,
        (3, true) => add::<3, 2, 4>,
        (4, true) => add::<4, 2, 4>,
        (5, true) => add::<5, 3, 4>,
        (_, true) => add::<MR, 3, 4>,
    };
    Kernel { add, columns: if half { PANEL / 2 } else { PANEL } }
}

/// Adds a group of `ROWS` rows, in `PAIRS` pairs, and `2 VECS` columns. Of an odd number of rows the last is its own partner.
///
/// Not inlined: what surrounds it would take registers from the accumulators.
///
/// # Safety
/// As of [`groups_neon::Add`].
#[target_feature(enable = "neon,i8mm")]
#[inline(never)]
unsafe fn add<const ROWS: usize, const PAIRS: usize, const VECS: usize>(
    group: &Group<'_>,
    total: &mut Total,
) {
    const { assert!(PAIRS == ROWS.div_ceil(2)) };
    let mut acc = [[vdupq_n_s32(0); VECS]; PAIRS];
    let mut codes = group.codes.wrapping_add(group.first * BLOCK);
    for piece in group.pieces {
        let mut x = [[std::ptr::null(); 2]; PAIRS];
        for (p, x) in x.iter_mut().enumerate() {
            *x = [piece.row(2 * p), piece.row((2 * p + 1).min(ROWS - 1))];
        }
        let mut left = piece.blocks;
        // Tested at its end: with a way around it the accumulators would be copied in every step.
        loop {
            let mut values = [vdupq_n_s8(0); PAIRS];
            each_row!(PAIRS, |P| {
                // SAFETY: the caller's promise: a block of each row.
                values[P] = unsafe { vcombine_s8(vld1_s8(x[P][0]), vld1_s8(x[P][1])) };
            });
            each_row!(VECS, |J| {
                // SAFETY: the caller's promise: a block, of which these are columns.
                let q = unsafe { vld1q_s8(codes.add(J * VEC_BYTES)) };
                each_row!(PAIRS, |P| {
                    acc[P][J] = multiply(acc[P][J], values[P], q);
                });
            });
            x = x.map(|x| x.map(|x| x.wrapping_add(BLOCK)));
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
                // A vector is two columns of the one row, then of the other.
                let low = vreinterpretq_s64_s32(acc[R / 2][J]);
                let high = vreinterpretq_s64_s32(acc[R / 2][J + 1]);
                let row = if R.is_multiple_of(2) { vtrn1q_s64(low, high) } else { vtrn2q_s64(low, high) };
                dots[R] = vreinterpretq_s32_s64(row);
            });
            group.scale(group.first + J * 2, dots, total);
        }
    });
}

/// `acc + a · bᵀ`, two rows of 8 each: `[a0 b0, a0 b1, a1 b0, a1 b1]`. The intrinsic is not stable.
#[target_feature(enable = "neon,i8mm")]
#[inline]
pub(in crate::cpu) fn multiply(mut acc: int32x4_t, a: int8x16_t, b: int8x16_t) -> int32x4_t {
    // SAFETY: registers only, and this function has the feature.
    unsafe {
        asm!(
            "smmla {acc:v}.4s, {a:v}.16b, {b:v}.16b",
            acc = inout(vreg) acc,
            a = in(vreg) a,
            b = in(vreg) b,
            options(pure, nomem, nostack, preserves_flags)
        );
    }
    acc
}
