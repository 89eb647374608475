//! The epilogue in NEON registers, for all matrix kernels and depthwise convolution.
//!
//! By hand, because the plain form keeps a tile in memory from step to step. Bounds are compared and selected: the maximum
//! of -0 and +0 is +0 for the instruction, where the definition keeps the value. The activations that do more than clip stay
//! plain, on a tile in memory.

use std::arch::aarch64::{
    float32x4_t, vaddq_f32, vbslq_f32, vcgtq_f32, vcltq_f32, vcombine_s8, vcvtq_f32_s32, vcvtq_s32_f32,
    vdupq_n_f32, vdupq_n_s32, vfmaq_f32, vget_low_s8, vget_low_s16, vld1q_f32, vld1q_s8, vmovl_high_s8,
    vmovl_high_s16, vmovl_s8, vmovl_s16, vmulq_f32, vqmovn_high_s32, vqmovn_s16, vqmovn_s32, vrndnq_f32,
    vst1q_f32, vst1q_s8, vsubq_s32,
};

use super::epilogue::{Columns, activate_plain, bounds, load, store};
use super::{Addend, Epilogue, Output, PANEL, ResidualOrder};

/// f32 of a vector.
const LANES: usize = 4;

/// A row of a tile.
type Row = [float32x4_t; PANEL / LANES];

/// Epilogue of rows `row, row + 1, ...` and the columns of one panel. One copy for all tile shapes and all matrix
/// kernels.
#[target_feature(enable = "neon")]
#[inline(never)]
pub(in crate::cpu) fn finish(
    epilogue: &Epilogue<'_>,
    out: &mut Output<'_>,
    row: usize,
    columns: &Columns,
    tile: &mut [[f32; PANEL]],
) {
    let (scale, bias, factor) =
        (load_row(&columns.scale), load_row(&columns.bias), load_row(&columns.factor));
    let (before, after) = match &epilogue.residual {
        None => (None, None),
        Some((addend, ResidualOrder::BeforeActivation)) => (Some(addend), None),
        Some((addend, ResidualOrder::AfterActivation)) => (None, Some(addend)),
    };
    let clip = bounds(epilogue.act).map(|(lo, hi)| (vdupq_n_f32(lo), vdupq_n_f32(hi)));
    for (r, acc) in tile.iter_mut().enumerate() {
        let mut y = load_row(acc);
        for (j, y) in y.iter_mut().enumerate() {
            *y = vfmaq_f32(bias[j], *y, scale[j]);
        }
        if let Some(addend) = before {
            y = plus(addend, row + r, columns, y);
        }
        let Some((lo, hi)) = clip else {
            store_row(y, acc);
            continue;
        };
        for (y, factor) in y.iter_mut().zip(factor) {
            // NaN is neither below nor above, and comes through.
            *y = vbslq_f32(vcltq_f32(*y, lo), lo, *y);
            *y = vmulq_f32(vbslq_f32(vcgtq_f32(*y, hi), hi, *y), factor);
        }
        if let Some(addend) = after {
            y = plus(addend, row + r, columns, y);
        }
        write(out, row + r, columns, y);
    }
    if clip.is_some() {
        return;
    }
    activate_plain(epilogue.act, tile);
    for (r, y) in tile.iter().enumerate() {
        let mut y = load_row(y);
        for (y, factor) in y.iter_mut().zip(factor) {
            *y = vmulq_f32(*y, factor);
        }
        if let Some(addend) = after {
            y = plus(addend, row + r, columns, y);
        }
        write(out, row + r, columns, y);
    }
}

#[target_feature(enable = "neon")]
#[inline]
fn load_row(lanes: &[f32; PANEL]) -> Row {
    let mut y = [vdupq_n_f32(0.0); PANEL / LANES];
    for (y, lanes) in y.iter_mut().zip(lanes.as_chunks::<LANES>().0) {
        // SAFETY: 4 of 4 floats.
        *y = unsafe { vld1q_f32(lanes.as_ptr()) };
    }
    y
}

#[target_feature(enable = "neon")]
#[inline]
fn store_row(y: Row, lanes: &mut [f32; PANEL]) {
    for (y, lanes) in y.into_iter().zip(lanes.as_chunks_mut::<LANES>().0) {
        // SAFETY: 4 of 4 floats.
        unsafe { vst1q_f32(lanes.as_mut_ptr(), y) };
    }
}

/// The residual's row `m` added.
#[target_feature(enable = "neon")]
#[inline]
fn plus(addend: &Addend<'_>, m: usize, columns: &Columns, mut y: Row) -> Row {
    match addend {
        Addend::F32(rows) => {
            let x = load_row(&load(&rows.row(m)[columns.start..][..columns.valid]));
            for (y, x) in y.iter_mut().zip(x) {
                *y = vaddq_f32(*y, x);
            }
        }
        Addend::I8 { rows, scale, zero_point } => {
            let codes = load(&rows.row(m)[columns.start..][..columns.valid]);
            // SAFETY: 16 bytes.
            let codes = unsafe { vld1q_s8(codes.as_ptr()) };
            let (low, high) = (vmovl_s8(vget_low_s8(codes)), vmovl_high_s8(codes));
            let codes = [
                vmovl_s16(vget_low_s16(low)),
                vmovl_high_s16(low),
                vmovl_s16(vget_low_s16(high)),
                vmovl_high_s16(high),
            ];
            let (scale, zero) = (vdupq_n_f32(*scale), vdupq_n_s32(*zero_point));
            for (y, codes) in y.iter_mut().zip(codes) {
                *y = vfmaq_f32(*y, vcvtq_f32_s32(vsubq_s32(codes, zero)), scale);
            }
        }
    }
    y
}

/// Stores the columns that the result has.
#[target_feature(enable = "neon")]
#[inline]
fn write(out: &mut Output<'_>, m: usize, columns: &Columns, y: Row) {
    match out {
        Output::F32(out) => {
            let to = &mut out.row(m)[columns.start..][..columns.valid];
            match to.first_chunk_mut::<PANEL>() {
                Some(whole) => store_row(y, whole),
                None => {
                    let mut lanes = [0.0; PANEL];
                    store_row(y, &mut lanes);
                    store(&lanes, to);
                }
            }
        }
        Output::I8 { out, inv_scale, zero_point } => {
            let (inv_scale, zero) = (vdupq_n_f32(*inv_scale), vdupq_n_f32(*zero_point as f32));
            let least = vdupq_n_f32(-128.0);
            let codes = y.map(|y| {
                let q = vaddq_f32(vrndnq_f32(vmulq_f32(y, inv_scale)), zero);
                // NaN is not above, and becomes the least code; a conversion would make 0 of it. What is too large saturates in
                // the conversions.
                vcvtq_s32_f32(vbslq_f32(vcgtq_f32(q, least), q, least))
            });
            let low = vqmovn_high_s32(vqmovn_s32(codes[0]), codes[1]);
            let high = vqmovn_high_s32(vqmovn_s32(codes[2]), codes[3]);
            let mut lanes = [0i8; PANEL];
            // SAFETY: 16 bytes.
            unsafe { vst1q_s8(lanes.as_mut_ptr(), vcombine_s8(vqmovn_s16(low), vqmovn_s16(high))) };
            store(&lanes, &mut out.row(m)[columns.start..][..columns.valid]);
        }
    }
}
