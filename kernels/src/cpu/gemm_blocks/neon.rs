//! NEON, and its dot product for integers.

use std::arch::aarch64::{
    int32x4_t, vaddq_s32, vcvtq_f32_s32, vdupq_n_f32, vdupq_n_s32, vdupq_n_u32, vfmaq_f32, vfmaq_n_f32,
    vget_low_s8, vld1q_f32, vld1q_s8, vld1q_s32, vmull_high_s8, vmull_s8, vpadalq_s16, vpaddq_s32,
    vreinterpretq_f32_s32, vreinterpretq_s8_u32, vreinterpretq_s32_f32, vst1q_f32,
};

use super::super::gemm_f32::epilogue_neon::finish;
use super::super::gemm_i8::dotprod::dot;
use super::super::tile::each_row;
use super::tiles::{Kernels, Multiply, Operands, Tile, product};
use super::{F32Variant, I8Variant, Isa, PANEL, TOGETHER, Task};

pub(super) const F32: F32Variant = F32Variant { name: "gemm_blocks_f32_f32__neon", isa: Isa::Neon, run };

pub(super) const I8: I8Variant = I8Variant { name: "gemm_blocks_w8_a8__neon", isa: Isa::Neon, run: run_i8 };

pub(super) const I8_DOTPROD: I8Variant =
    I8Variant { name: "gemm_blocks_w8_a8__neon_dotprod", isa: Isa::NeonDotprod, run: run_dotprod };

/// Most rows of a tile: 6 x 4 accumulators, 4 vectors of a panel, and what passes by, fit 32 registers.
const MR: usize = 6;
/// Most rows of a tile of widened products, which have two partial sums a column.
const MR_WIDE: usize = 2;

/// Vectors of a row of a panel.
const VECS: usize = PANEL / 4;

#[target_feature(enable = "neon")]
fn run(task: &mut Task<'_, f32>) {
    let kernels = Kernels { most: MR, of, together: 1, reals, unsigned: 0, finish };
    // SAFETY: this function has the features that the kernels need.
    unsafe { product(task, &kernels) }
}

#[target_feature(enable = "neon")]
fn run_i8(task: &mut Task<'_, u32>) {
    let kernels = Kernels { most: MR_WIDE, of: of_wide, together: 0, reals, unsigned: 0, finish };
    // SAFETY: this function has the features that the kernels need.
    unsafe { product(task, &kernels) }
}

#[target_feature(enable = "neon,dotprod")]
fn run_dotprod(task: &mut Task<'_, u32>) {
    let kernels = Kernels { most: MR, of: of_dots, together: 0, reals, unsigned: 0, finish };
    // SAFETY: this function has the features that the kernels need.
    unsafe { product(task, &kernels) }
}

#[target_feature(enable = "neon")]
fn reals(tile: &mut [[f32; PANEL]], rest: &[i32; PANEL], scales: &[f32; PANEL]) {
    for part in (0..PANEL).step_by(4) {
        // SAFETY: 4 of 16 elements of each.
        let (rest, scales) =
            unsafe { (vld1q_s32(rest.as_ptr().add(part)), vld1q_f32(scales.as_ptr().add(part))) };
        for row in tile.iter_mut() {
            // SAFETY: 4 of 16 elements.
            unsafe {
                let at = row.as_mut_ptr().add(part);
                let t = vaddq_s32(vreinterpretq_s32_f32(vld1q_f32(at)), rest);
                // The 0 that is added is what groups are added to: it has a sign.
                vst1q_f32(at, vfmaq_f32(vdupq_n_f32(0.0), vcvtq_f32_s32(t), scales));
            }
        }
    }
}

fn of(rows: usize, panels: usize) -> Multiply<f32> {
    match (rows, panels) {
        (1, TOGETHER) => multiply::<1, TOGETHER, VECS>,
        (1, _) => multiply::<1, 1, VECS>,
        (2, _) => multiply::<2, 1, VECS>,
        (3, _) => multiply::<3, 1, VECS>,
        (4, _) => multiply::<4, 1, VECS>,
        (5, _) => multiply::<5, 1, VECS>,
        _ => multiply::<MR, 1, VECS>,
    }
}

/// Not inlined: what surrounds it would take registers from the accumulators.
///
/// # Safety
/// As of [`Multiply`].
#[target_feature(enable = "neon")]
#[inline(never)]
unsafe fn multiply<const ROWS: usize, const PANELS: usize, const V: usize>(
    operands: &Operands<'_, f32>,
    tile: &mut Tile,
) {
    let (stride, places, values) = (operands.stride, &operands.places, &operands.values);
    let mut acc = [[[vdupq_n_f32(0.0); V]; PANELS]; ROWS];
    let common = places[..PANELS].iter().map(|places| places.len()).min().unwrap_or(0);
    // Panels share their steps as far as they go, for as many chains.
    for i in 0..common {
        for p in 0..PANELS {
            // SAFETY: each panel has as many places, and a row of 16 for each.
            let (place, row) = unsafe { (*places[p].get_unchecked(i) as usize, values[p].get_unchecked(i)) };
            let mut lanes = [vdupq_n_f32(0.0); V];
            for (j, lanes) in lanes.iter_mut().enumerate() {
                // SAFETY: 4 of 16 floats.
                *lanes = unsafe { vld1q_f32(row.as_ptr().add(4 * j)) };
            }
            each_row!(ROWS, |R| {
                // SAFETY: the caller's promise: row R has an element there.
                let value = unsafe { *operands.a.add(place + R * stride) };
                each_row!(V, |J| {
                    acc[R][p][J] = vfmaq_n_f32(acc[R][p][J], lanes[J], value);
                });
            });
        }
    }
    for (p, (places, values)) in places.iter().zip(values).enumerate().take(PANELS) {
        for (place, row) in places.iter().zip(*values).skip(common) {
            each_row!(ROWS, |R| {
                // SAFETY: the caller's promise: row R has an element there.
                let value = unsafe { *operands.a.add(*place as usize + R * stride) };
                each_row!(V, |J| {
                    // SAFETY: 4 of 16 floats.
                    let lanes = unsafe { vld1q_f32(row.as_ptr().add(4 * J)) };
                    acc[R][p][J] = vfmaq_n_f32(acc[R][p][J], lanes, value);
                });
            });
        }
    }
    for (r, acc) in acc.iter().enumerate() {
        for (p, acc) in acc.iter().enumerate() {
            for (j, acc) in acc.iter().enumerate() {
                // SAFETY: 4 of 16 floats.
                unsafe { vst1q_f32(tile[p * ROWS + r].as_mut_ptr().add(4 * j), *acc) };
            }
        }
    }
}

fn of_dots(rows: usize, _panels: usize) -> Multiply<u32> {
    match rows {
        1 => dots::<1, VECS>,
        2 => dots::<2, VECS>,
        3 => dots::<3, VECS>,
        4 => dots::<4, VECS>,
        5 => dots::<5, VECS>,
        _ => dots::<MR, VECS>,
    }
}

/// One panel.
///
/// # Safety
/// As of [`Multiply`].
#[target_feature(enable = "neon,dotprod")]
#[inline(never)]
unsafe fn dots<const ROWS: usize, const V: usize>(operands: &Operands<'_, u32>, tile: &mut Tile) {
    let mut acc = [[vdupq_n_s32(0); V]; ROWS];
    for (place, words) in operands.places[0].iter().zip(operands.values[0]) {
        let mut q = [vreinterpretq_s8_u32(vdupq_n_u32(0)); V];
        for (j, q) in q.iter_mut().enumerate() {
            // SAFETY: 4 of 16 words.
            *q = unsafe { vld1q_s8(words.as_ptr().add(4 * j).cast()) };
        }
        each_row!(ROWS, |R| {
            // SAFETY: the caller's promise: row R has an element there.
            let word = unsafe { *operands.a.add(*place as usize + R * operands.stride) };
            let x = vreinterpretq_s8_u32(vdupq_n_u32(word ^ 0x8080_8080));
            each_row!(V, |J| {
                acc[R][J] = dot(acc[R][J], q[J], x);
            });
        });
    }
    store(&acc, tile);
}

fn of_wide(rows: usize, _panels: usize) -> Multiply<u32> {
    match rows {
        1 => wide::<1, VECS>,
        _ => wide::<MR_WIDE, VECS>,
    }
}

/// One panel, by products of 16 bits.
///
/// # Safety
/// As of [`Multiply`].
#[target_feature(enable = "neon")]
#[inline(never)]
unsafe fn wide<const ROWS: usize, const V: usize>(operands: &Operands<'_, u32>, tile: &mut Tile) {
    // Two partial sums of each column.
    let mut acc = [[[vdupq_n_s32(0); 2]; V]; ROWS];
    for (place, words) in operands.places[0].iter().zip(operands.values[0]) {
        let mut x = [vreinterpretq_s8_u32(vdupq_n_u32(0)); ROWS];
        each_row!(ROWS, |R| {
            // SAFETY: the caller's promise: row R has an element there.
            let word = unsafe { *operands.a.add(*place as usize + R * operands.stride) };
            x[R] = vreinterpretq_s8_u32(vdupq_n_u32(word ^ 0x8080_8080));
        });
        each_row!(V, |J| {
            // SAFETY: 4 of 16 words.
            let q = unsafe { vld1q_s8(words.as_ptr().add(4 * J).cast()) };
            each_row!(ROWS, |R| {
                let low = vmull_s8(vget_low_s8(q), vget_low_s8(x[R]));
                acc[R][J][0] = vpadalq_s16(acc[R][J][0], low);
                acc[R][J][1] = vpadalq_s16(acc[R][J][1], vmull_high_s8(q, x[R]));
            });
        });
    }
    let mut sums = [[vdupq_n_s32(0); V]; ROWS];
    for (sums, acc) in sums.iter_mut().zip(acc) {
        for (sum, [low, high]) in sums.iter_mut().zip(acc) {
            *sum = vpaddq_s32(low, high);
        }
    }
    store(&sums, tile);
}

#[target_feature(enable = "neon")]
#[inline]
fn store<const ROWS: usize, const V: usize>(acc: &[[int32x4_t; V]; ROWS], tile: &mut Tile) {
    for (acc, tile) in acc.iter().zip(tile) {
        for (j, acc) in acc.iter().enumerate() {
            // SAFETY: 4 of 16 floats.
            unsafe { vst1q_f32(tile.as_mut_ptr().add(4 * j), vreinterpretq_f32_s32(*acc)) };
        }
    }
}
