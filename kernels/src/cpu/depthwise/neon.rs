//! NEON.
//!
//! ```text
//! for each output row, for each block of 16 channels:
//!     pixels whose window is cut by the left or right edge: one at a time, over the taps inside
//!     the others: 6 (i8: 4) at a time, sharing each load of a weight
//!         f32: 24 accumulators, one FMA a tap, pixel and 4 channels
//!         i8:  16 accumulators; the zero point is taken off while widening to i16, then a widening multiply-add (exact) for
//!              each tap, pixel and 4 channels
//! ```
//! Kernel rows outside the image are left out for the whole output row.

use std::arch::aarch64::{
    int8x16_t, int32x4_t, vcvtq_f32_s32, vdupq_n_f32, vdupq_n_s8, vdupq_n_s32, vfmaq_f32, vget_low_s8,
    vget_low_s16, vld1q_f32, vld1q_s8, vld1q_s16, vmlal_high_s16, vmlal_s16, vst1q_f32, vsubl_high_s8,
    vsubl_s8,
};

use super::super::gemm_f32::Columns;
use super::super::gemm_f32::epilogue_neon::finish;
use super::super::tile::each_row;
use super::place::{Lanes, Place, blocks, columns_of, inner, readable};
use super::{F32Variant, I8Variant, Isa, PANEL, Task};

pub(super) const F32: F32Variant =
    F32Variant { name: "depthwise_f32_f32__neon", isa: Isa::Neon, run: run_f32 };
pub(super) const I8: I8Variant = I8Variant { name: "depthwise_w16_a8__neon", isa: Isa::Neon, run: run_i8 };

/// Pixels of a full tile of floats: 6 x 4 accumulators, 4 vectors of weights and what passes by fit 32 registers.
const PIXELS_F32: usize = 6;

/// Pixels of a full tile of i8: 4 x 4 accumulators, 2 vectors of weights, and what is being widened.
const PIXELS_I8: usize = 4;

/// Vectors of a block of f32 or i32.
const VECS: usize = PANEL / 4;

#[target_feature(enable = "neon")]
fn run_f32(task: &mut Task<'_, f32, f32>) {
    let inner = inner(task);
    for oy in task.part.rows.clone() {
        for (mut place, columns) in blocks(task, oy) {
            while place.ox < task.shape.ow {
                place.columns = columns_of(task, &inner, place.ox);
                let left = if place.ox < inner.start { 0 } else { inner.end.saturating_sub(place.ox) };
                let pixels = match left {
                    PIXELS_F32.. => PIXELS_F32,
                    3.. => 3,
                    _ => 1,
                };
                match pixels {
                    PIXELS_F32 => tile_f32::<PIXELS_F32>(task, &place, &columns),
                    3 => tile_f32::<3>(task, &place, &columns),
                    _ => tile_f32::<1>(task, &place, &columns),
                }
                place.ox += pixels;
            }
        }
    }
}

#[target_feature(enable = "neon")]
fn run_i8(task: &mut Task<'_, i8, i16>) {
    let inner = inner(task);
    for oy in task.part.rows.clone() {
        for (mut place, columns) in blocks(task, oy) {
            while place.ox < task.shape.ow {
                place.columns = columns_of(task, &inner, place.ox);
                let together = place.ox >= inner.start && place.ox + PIXELS_I8 <= inner.end;
                if together {
                    tile_i8::<PIXELS_I8>(task, &place, &columns);
                } else {
                    tile_i8::<1>(task, &place, &columns);
                }
                place.ox += if together { PIXELS_I8 } else { 1 };
            }
        }
    }
}

/// `P` pixels from `place` on; one by one where the image ends within what they read.
#[target_feature(enable = "neon")]
fn tile_f32<const P: usize>(task: &mut Task<'_, f32, f32>, place: &Place, columns: &Columns) {
    let whole = readable(task, place, P);
    if P > 1 && !whole {
        for ox in place.ox..place.ox + P {
            tile_f32::<1>(task, &Place { ox, ..place.clone() }, columns);
        }
        return;
    }
    let mut y = [[0.0; PANEL]; P];
    if whole {
        taps_f32::<P, true>(task, place, &mut y);
    } else {
        taps_f32::<P, false>(task, place, &mut y);
    }
    let row = (place.oy - task.part.rows.start) * task.shape.ow + place.ox;
    finish(task.epilogue, &mut task.out, row, columns, &mut y);
}

/// The sums; `WHOLE` when all that is read is [`readable`].
///
/// Not inlined: what surrounds it would take registers from the accumulators.
#[target_feature(enable = "neon")]
#[inline(never)]
fn taps_f32<const P: usize, const WHOLE: bool>(
    task: &Task<'_, f32, f32>,
    place: &Place,
    y: &mut [[f32; PANEL]; P],
) {
    let s = task.shape;
    let weights = &task.weights[place.block * s.kh * s.kw * PANEL..][..s.kh * s.kw * PANEL];
    let (across, pixel) = (s.dil_w * s.c, s.stride_w * s.c);
    let mut acc = [[vdupq_n_f32(0.0); VECS]; P];
    for ky in place.rows.clone() {
        if place.columns.is_empty() {
            break;
        }
        let mut at = s.at((place.oy, place.ox), (ky, place.columns.start)) + place.channel;
        let w = &weights[(ky * s.kw + place.columns.start) * PANEL..(ky * s.kw + place.columns.end) * PANEL];
        for w in w.as_chunks::<PANEL>().0 {
            let mut weight = [vdupq_n_f32(0.0); VECS];
            for (weight, w) in weight.iter_mut().zip(w.as_chunks::<4>().0) {
                // SAFETY: 4 of 4 floats.
                *weight = unsafe { vld1q_f32(w.as_ptr()) };
            }
            each_row!(P, |I| {
                // SAFETY: if `WHOLE`, what the tile reads is in the image.
                let x = unsafe { Lanes::<f32, WHOLE>::new(task.src, at + I * pixel) };
                for (j, acc) in acc[I].iter_mut().enumerate() {
                    // SAFETY: lanes are 16 readable floats.
                    let x = unsafe { vld1q_f32(x.as_ptr().add(4 * j)) };
                    *acc = vfmaq_f32(*acc, x, weight[j]);
                }
            });
            at += across;
        }
    }
    each_row!(P, |I| {
        for (y, acc) in y[I].as_chunks_mut::<4>().0.iter_mut().zip(acc[I]) {
            // SAFETY: 4 of 4 floats.
            unsafe { vst1q_f32(y.as_mut_ptr(), acc) };
        }
    });
}

/// `P` pixels from `place` on; one by one where the image ends within what they read.
#[target_feature(enable = "neon")]
fn tile_i8<const P: usize>(task: &mut Task<'_, i8, i16>, place: &Place, columns: &Columns) {
    let whole = readable(task, place, P);
    if P > 1 && !whole {
        for ox in place.ox..place.ox + P {
            tile_i8::<1>(task, &Place { ox, ..place.clone() }, columns);
        }
        return;
    }
    let mut y = [[0.0; PANEL]; P];
    if whole {
        taps_i8::<P, true>(task, place, &mut y);
    } else {
        taps_i8::<P, false>(task, place, &mut y);
    }
    let row = (place.oy - task.part.rows.start) * task.shape.ow + place.ox;
    finish(task.epilogue, &mut task.out, row, columns, &mut y);
}

/// The sums; `WHOLE` when all that is read is [`readable`].
///
/// Not inlined: what surrounds it would take registers from the accumulators.
#[target_feature(enable = "neon")]
#[inline(never)]
fn taps_i8<const P: usize, const WHOLE: bool>(
    task: &Task<'_, i8, i16>,
    place: &Place,
    y: &mut [[f32; PANEL]; P],
) {
    let s = task.shape;
    let weights = &task.weights[place.block * s.kh * s.kw * PANEL..][..s.kh * s.kw * PANEL];
    let (across, pixel) = (s.dil_w * s.c, s.stride_w * s.c);
    let zero_point = vdupq_n_s8(task.zero_point as i8);
    let mut acc = [[vdupq_n_s32(0); VECS]; P];
    for ky in place.rows.clone() {
        if place.columns.is_empty() {
            break;
        }
        let mut at = s.at((place.oy, place.ox), (ky, place.columns.start)) + place.channel;
        let w = &weights[(ky * s.kw + place.columns.start) * PANEL..(ky * s.kw + place.columns.end) * PANEL];
        for w in w.as_chunks::<PANEL>().0 {
            each_row!(P, |I| {
                // SAFETY: if `WHOLE`, what the tile reads is in the image, and lanes are 16 readable bytes.
                let x = unsafe { vld1q_s8(Lanes::<i8, WHOLE>::new(task.src, at + I * pixel).as_ptr()) };
                acc[I] = add(acc[I], x, zero_point, w);
            });
            at += across;
        }
    }
    each_row!(P, |I| {
        for (y, acc) in y[I].as_chunks_mut::<4>().0.iter_mut().zip(acc[I]) {
            // SAFETY: 4 of 4 floats.
            unsafe { vst1q_f32(y.as_mut_ptr(), vcvtq_f32_s32(acc)) };
        }
    });
}

/// Adds a tap's products `w * (x - zero_point)` of one pixel.
#[target_feature(enable = "neon")]
#[inline]
fn add(acc: [int32x4_t; VECS], x: int8x16_t, zero_point: int8x16_t, w: &[i16; PANEL]) -> [int32x4_t; VECS] {
    // SAFETY: 8 of 16 weights at offsets 0 and 8.
    let w = unsafe { [vld1q_s16(w.as_ptr()), vld1q_s16(w.as_ptr().add(8))] };
    let x = [vsubl_s8(vget_low_s8(x), vget_low_s8(zero_point)), vsubl_high_s8(x, zero_point)];
    [
        vmlal_s16(acc[0], vget_low_s16(x[0]), vget_low_s16(w[0])),
        vmlal_high_s16(acc[1], x[0], w[0]),
        vmlal_s16(acc[2], vget_low_s16(x[1]), vget_low_s16(w[1])),
        vmlal_high_s16(acc[3], x[1], w[1]),
    ]
}
