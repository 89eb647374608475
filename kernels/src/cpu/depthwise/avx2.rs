//! AVX2.
//!
//! ```text
//! for each output row, for each block of 16 channels:
//!     pixels whose window is cut by the left or right edge: one at a time, over the taps inside
//!     the others: 6 (i8: 4) at a time, sharing each load of a weight
//!         f32: 12 accumulators, one FMA a tap, pixel and 8 channels
//!         i8:  taps in pairs, interleaved so that one multiply-add takes both (exact, i16 x i16 to i32)
//! ```
//! Kernel rows outside the image are left out for the whole output row.

use std::arch::x86_64::{
    __m256i, _mm_loadu_si128, _mm256_add_epi32, _mm256_cvtepi8_epi16, _mm256_cvtepi32_ps, _mm256_fmadd_ps,
    _mm256_loadu_ps, _mm256_loadu_si256, _mm256_madd_epi16, _mm256_permute2x128_si256, _mm256_set1_epi16,
    _mm256_setzero_ps, _mm256_setzero_si256, _mm256_storeu_ps, _mm256_sub_epi16, _mm256_unpackhi_epi16,
    _mm256_unpacklo_epi16,
};

use super::super::gemm_f32::Columns;
use super::super::gemm_f32::epilogue_avx2::finish;
use super::place::{Lanes, Place, blocks, columns_of, inner, readable};
use super::{F32Variant, I8Variant, Isa, PANEL, Task};

pub(super) const F32: F32Variant =
    F32Variant { name: "depthwise_f32_f32__avx2", isa: Isa::Avx2, run: run_f32 };
pub(super) const I8: I8Variant = I8Variant { name: "depthwise_w16_a8__avx2", isa: Isa::Avx2, run: run_i8 };

/// Pixels of a full tile of floats: 6 x 2 accumulators.
const PIXELS_F32: usize = 6;
/// Pixels of a full tile of i8: 4 x 2 accumulators, and beside them what is being interleaved.
const PIXELS_I8: usize = 4;

#[target_feature(enable = "avx2,fma")]
pub(super) fn run_f32(task: &mut Task<'_, f32, f32>) {
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

#[target_feature(enable = "avx2,fma")]
pub(super) fn run_i8(task: &mut Task<'_, i8, i16>) {
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
#[target_feature(enable = "avx2,fma")]
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
#[target_feature(enable = "avx2,fma")]
#[inline]
fn taps_f32<const P: usize, const WHOLE: bool>(
    task: &Task<'_, f32, f32>,
    place: &Place,
    y: &mut [[f32; PANEL]; P],
) {
    let s = task.shape;
    let weights = &task.weights[place.block * s.kh * s.kw * PANEL..][..s.kh * s.kw * PANEL];
    let (across, pixel) = (s.dil_w * s.c, s.stride_w * s.c);
    let mut acc = [[_mm256_setzero_ps(); 2]; P];
    for ky in place.rows.clone() {
        if place.columns.is_empty() {
            break;
        }
        let mut at = s.at((place.oy, place.ox), (ky, place.columns.start)) + place.channel;
        let w = &weights[(ky * s.kw + place.columns.start) * PANEL..(ky * s.kw + place.columns.end) * PANEL];
        for w in w.as_chunks::<PANEL>().0 {
            // SAFETY: 16 floats.
            let w = unsafe { [_mm256_loadu_ps(w.as_ptr()), _mm256_loadu_ps(w.as_ptr().add(8))] };
            for (p, acc) in acc.iter_mut().enumerate() {
                // SAFETY: if `WHOLE`, what the tile reads is in the image, and lanes are 16 readable floats.
                unsafe {
                    let x = Lanes::<f32, WHOLE>::new(task.src, at + p * pixel);
                    acc[0] = _mm256_fmadd_ps(_mm256_loadu_ps(x.as_ptr()), w[0], acc[0]);
                    acc[1] = _mm256_fmadd_ps(_mm256_loadu_ps(x.as_ptr().add(8)), w[1], acc[1]);
                }
            }
            at += across;
        }
    }
    for (y, acc) in y.iter_mut().zip(&acc) {
        // SAFETY: 8 of 16 floats at offsets 0 and 8.
        unsafe {
            _mm256_storeu_ps(y.as_mut_ptr(), acc[0]);
            _mm256_storeu_ps(y.as_mut_ptr().add(8), acc[1]);
        }
    }
}

/// `P` pixels from `place` on; one by one where the image ends within what they read.
#[target_feature(enable = "avx2,fma")]
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
#[target_feature(enable = "avx2,fma")]
#[inline]
fn taps_i8<const P: usize, const WHOLE: bool>(
    task: &Task<'_, i8, i16>,
    place: &Place,
    y: &mut [[f32; PANEL]; P],
) {
    let s = task.shape;
    let weights = &task.weights[place.block * s.kh * s.kw * PANEL..][..s.kh * s.kw * PANEL];
    let (across, pixel) = (s.dil_w * s.c, s.stride_w * s.c);
    let zero_point = _mm256_set1_epi16(task.zero_point as i16);
    let none = _mm256_setzero_si256();
    // Channels 0-3 and 8-11, and 4-7 and 12-15: the order in which interleaving leaves them.
    let mut acc = [[none; 2]; P];
    for ky in place.rows.clone() {
        if place.columns.is_empty() {
            break;
        }
        let mut at = s.at((place.oy, place.ox), (ky, place.columns.start)) + place.channel;
        let w = &weights[(ky * s.kw + place.columns.start) * PANEL..(ky * s.kw + place.columns.end) * PANEL];
        for w in w.chunks(2 * PANEL) {
            // The last column of an odd number has no partner.
            let two = w.len() > PANEL;
            let w = [load_weights(w), if two { load_weights(&w[PANEL..]) } else { none }];
            let w = [_mm256_unpacklo_epi16(w[0], w[1]), _mm256_unpackhi_epi16(w[0], w[1])];
            for (p, acc) in acc.iter_mut().enumerate() {
                let load = |at| {
                    // SAFETY: if `WHOLE`, what the tile reads is in the image, and lanes are 16 readable bytes.
                    let x = unsafe {
                        let x = Lanes::<i8, WHOLE>::new(task.src, at);
                        _mm256_cvtepi8_epi16(_mm_loadu_si128(x.as_ptr().cast()))
                    };
                    _mm256_sub_epi16(x, zero_point)
                };
                let first = at + p * pixel;
                let x = [load(first), if two { load(first + across) } else { none }];
                let low = _mm256_madd_epi16(_mm256_unpacklo_epi16(x[0], x[1]), w[0]);
                let high = _mm256_madd_epi16(_mm256_unpackhi_epi16(x[0], x[1]), w[1]);
                acc[0] = _mm256_add_epi32(acc[0], low);
                acc[1] = _mm256_add_epi32(acc[1], high);
            }
            at += 2 * across;
        }
    }
    for (y, acc) in y.iter_mut().zip(&acc) {
        let halves = [
            _mm256_permute2x128_si256::<0x20>(acc[0], acc[1]),
            _mm256_permute2x128_si256::<0x31>(acc[0], acc[1]),
        ];
        // SAFETY: 8 of 16 floats at offsets 0 and 8.
        unsafe {
            _mm256_storeu_ps(y.as_mut_ptr(), _mm256_cvtepi32_ps(halves[0]));
            _mm256_storeu_ps(y.as_mut_ptr().add(8), _mm256_cvtepi32_ps(halves[1]));
        }
    }
}

#[target_feature(enable = "avx2,fma")]
#[inline]
fn load_weights(w: &[i16]) -> __m256i {
    let w = &w[..PANEL];
    // SAFETY: 16 weights.
    unsafe { _mm256_loadu_si256(w.as_ptr().cast()) }
}
