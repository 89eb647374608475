//! AVX2.
//!
//! ```text
//! for each output row, for each block of 16 channels:
//!     pixels whose window is cut by the left or right edge: one at a time, over the taps inside
//!     the others: 4 at a time, sharing each load of a weight
//!         f32: 8 accumulators, one FMA a tap, pixel and 8 channels
//!         i8:  taps in pairs, interleaved so that one multiply-add takes both (exact, i16 x i16 to i32)
//! ```
//! Kernel rows outside the image are left out for the whole output row.

use std::arch::x86_64::{
    __m256i, _mm_loadu_si128, _mm256_add_epi32, _mm256_cvtepi8_epi16, _mm256_cvtepi32_ps, _mm256_fmadd_ps,
    _mm256_loadu_ps, _mm256_loadu_si256, _mm256_madd_epi16, _mm256_permute2x128_si256, _mm256_set1_epi16,
    _mm256_setzero_ps, _mm256_setzero_si256, _mm256_storeu_ps, _mm256_sub_epi16, _mm256_unpackhi_epi16,
    _mm256_unpacklo_epi16,
};
use std::ops::Range;

use super::super::gemm_f32::avx2::finish;
use super::{F32Variant, I8Variant, Isa, PANEL, Task};

pub(super) const F32: F32Variant =
    F32Variant { name: "depthwise_f32_f32__avx2", isa: Isa::Avx2, run: run_f32 };
pub(super) const I8: I8Variant = I8Variant { name: "depthwise_w16_a8__avx2", isa: Isa::Avx2, run: run_i8 };

/// Pixels of a full tile: 4 x 2 accumulators, both FMA ports busy at a latency of 4.
const PIXELS: usize = 4;

/// Where a tile lies.
#[derive(Clone)]
struct Place {
    oy: usize,
    ox: usize,
    /// First channel and block within the part.
    channel: usize,
    block: usize,
    /// Taps inside the image, the same for all pixels of the tile.
    rows: Range<usize>,
    columns: Range<usize>,
}

#[target_feature(enable = "avx2,fma")]
fn run_f32(task: &mut Task<'_, f32, f32>) {
    for oy in task.part.rows.clone() {
        for place in blocks(task, oy) {
            let whole = place.channel + PANEL <= task.shape.c;
            for (place, pixels) in tiles(task, place) {
                match (pixels, whole) {
                    (PIXELS, true) => tile_f32::<PIXELS, true>(task, &place),
                    (PIXELS, false) => tile_f32::<PIXELS, false>(task, &place),
                    (_, true) => tile_f32::<1, true>(task, &place),
                    (_, false) => tile_f32::<1, false>(task, &place),
                }
            }
        }
    }
}

#[target_feature(enable = "avx2,fma")]
fn run_i8(task: &mut Task<'_, i8, i16>) {
    for oy in task.part.rows.clone() {
        for place in blocks(task, oy) {
            let whole = place.channel + PANEL <= task.shape.c;
            for (place, pixels) in tiles(task, place) {
                match (pixels, whole) {
                    (PIXELS, true) => tile_i8::<PIXELS, true>(task, &place),
                    (PIXELS, false) => tile_i8::<PIXELS, false>(task, &place),
                    (_, true) => tile_i8::<1, true>(task, &place),
                    (_, false) => tile_i8::<1, false>(task, &place),
                }
            }
        }
    }
}

/// The channel blocks of output row `oy`.
#[inline(always)]
fn blocks<X, W>(task: &Task<'_, X, W>, oy: usize) -> impl Iterator<Item = Place> + use<X, W> {
    let rows = task.shape.rows(oy);
    let channels = task.part.channels.clone().step_by(PANEL).enumerate();
    channels.map(move |(block, channel)| Place {
        oy,
        ox: 0,
        channel,
        block,
        rows: rows.clone(),
        columns: 0..0,
    })
}

/// The tiles of one block's output row, with their pixels: 1 or [`PIXELS`].
#[inline(always)]
fn tiles<X, W>(task: &Task<'_, X, W>, start: Place) -> impl Iterator<Item = (Place, usize)> + use<X, W> {
    let s = *task.shape;
    let mut ox = 0;
    std::iter::from_fn(move || {
        if ox == s.ow {
            return None;
        }
        // With all columns inside at both ends, they are inside between them.
        let last = ox + PIXELS - 1;
        let together = last < s.ow && s.columns(ox) == (0..s.kw) && s.columns(last) == (0..s.kw);
        let pixels = if together { PIXELS } else { 1 };
        let place = Place { ox, columns: s.columns(ox), ..start.clone() };
        ox += pixels;
        Some((place, pixels))
    })
}

/// `P` pixels from `place` on; `WHOLE` when the image has all 16 channels of the block.
#[target_feature(enable = "avx2,fma")]
fn tile_f32<const P: usize, const WHOLE: bool>(task: &mut Task<'_, f32, f32>, place: &Place) {
    let s = task.shape;
    let weights = &task.weights[place.block * s.kh * s.kw * PANEL..][..s.kh * s.kw * PANEL];
    let mut acc = [[_mm256_setzero_ps(); 2]; P];
    for ky in place.rows.clone() {
        for kx in place.columns.clone() {
            let w = &weights[(ky * s.kw + kx) * PANEL..][..PANEL];
            // SAFETY: 16 floats.
            let w = unsafe { [_mm256_loadu_ps(w.as_ptr()), _mm256_loadu_ps(w.as_ptr().add(8))] };
            let first = s.at((place.oy, place.ox), (ky, kx)) + place.channel;
            for (p, acc) in acc.iter_mut().enumerate() {
                let x = Lanes::<f32, WHOLE>::new(task.src, first + p * s.stride_w * s.c);
                // SAFETY: lanes are 16 readable floats.
                unsafe {
                    acc[0] = _mm256_fmadd_ps(_mm256_loadu_ps(x.as_ptr()), w[0], acc[0]);
                    acc[1] = _mm256_fmadd_ps(_mm256_loadu_ps(x.as_ptr().add(8)), w[1], acc[1]);
                }
            }
        }
    }
    let mut y = [[0.0; PANEL]; P];
    for (y, acc) in y.iter_mut().zip(&acc) {
        // SAFETY: 8 of 16 floats at offsets 0 and 8.
        unsafe {
            _mm256_storeu_ps(y.as_mut_ptr(), acc[0]);
            _mm256_storeu_ps(y.as_mut_ptr().add(8), acc[1]);
        }
    }
    let row = (place.oy - task.part.rows.start) * s.ow + place.ox;
    finish(task.epilogue, &mut task.out, row, place.block * PANEL, &mut y);
}

/// `P` pixels from `place` on; `WHOLE` when the image has all 16 channels of the block.
#[target_feature(enable = "avx2,fma")]
fn tile_i8<const P: usize, const WHOLE: bool>(task: &mut Task<'_, i8, i16>, place: &Place) {
    let s = task.shape;
    let weights = &task.weights[place.block * s.kh * s.kw * PANEL..][..s.kh * s.kw * PANEL];
    let zero_point = _mm256_set1_epi16(task.zero_point as i16);
    let none = _mm256_setzero_si256();
    // Channels 0-3 and 8-11, and 4-7 and 12-15: the order in which interleaving leaves them.
    let mut acc = [[none; 2]; P];
    for ky in place.rows.clone() {
        for kx in place.columns.clone().step_by(2) {
            // The last column of an odd number has no partner.
            let two = kx + 1 < place.columns.end;
            let tap = (ky * s.kw + kx) * PANEL;
            let w = [
                load_weights(&weights[tap..]),
                if two { load_weights(&weights[tap + PANEL..]) } else { none },
            ];
            let w = [_mm256_unpacklo_epi16(w[0], w[1]), _mm256_unpackhi_epi16(w[0], w[1])];
            let first = s.at((place.oy, place.ox), (ky, kx)) + place.channel;
            for (p, acc) in acc.iter_mut().enumerate() {
                let at = first + p * s.stride_w * s.c;
                let load = |at| {
                    let x = Lanes::<i8, WHOLE>::new(task.src, at);
                    // SAFETY: lanes are 16 readable bytes.
                    let x = _mm256_cvtepi8_epi16(unsafe { _mm_loadu_si128(x.as_ptr().cast()) });
                    _mm256_sub_epi16(x, zero_point)
                };
                let x = [load(at), if two { load(at + s.dil_w * s.c) } else { none }];
                let low = _mm256_madd_epi16(_mm256_unpacklo_epi16(x[0], x[1]), w[0]);
                let high = _mm256_madd_epi16(_mm256_unpackhi_epi16(x[0], x[1]), w[1]);
                acc[0] = _mm256_add_epi32(acc[0], low);
                acc[1] = _mm256_add_epi32(acc[1], high);
            }
        }
    }
    let mut y = [[0.0; PANEL]; P];
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
    let row = (place.oy - task.part.rows.start) * s.ow + place.ox;
    finish(task.epilogue, &mut task.out, row, place.block * PANEL, &mut y);
}

#[target_feature(enable = "avx2,fma")]
#[inline]
fn load_weights(w: &[i16]) -> __m256i {
    let w = &w[..PANEL];
    // SAFETY: 16 weights.
    unsafe { _mm256_loadu_si256(w.as_ptr().cast()) }
}

/// 16 readable elements of an image from some offset on.
enum Lanes<'a, T, const WHOLE: bool> {
    Image(&'a [T; PANEL]),
    Copy([T; PANEL]),
}

impl<'a, T: Copy + Default, const WHOLE: bool> Lanes<'a, T, WHOLE> {
    /// A block that the image does not fill runs into the next pixel, whose lanes nobody stores; after the last
    /// pixel there is none, so those lanes are made up.
    #[inline(always)]
    fn new(src: &'a [T], at: usize) -> Self {
        let from = &src[at..];
        match from.first_chunk() {
            Some(lanes) => Lanes::Image(lanes),
            None if WHOLE => panic!("16 channels at {at} of {} elements", src.len()),
            None => {
                let mut lanes = [T::default(); PANEL];
                lanes[..from.len()].copy_from_slice(from);
                Lanes::Copy(lanes)
            }
        }
    }

    #[inline(always)]
    fn as_ptr(&self) -> *const T {
        match self {
            Lanes::Image(lanes) => lanes.as_ptr(),
            Lanes::Copy(lanes) => lanes.as_ptr(),
        }
    }
}
