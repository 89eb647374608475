//! AVX-512: 16 channels are one register.
//!
//! ```text
//! for each band of rows, for each block of 16 channels, for each strip of columns, downwards:
//!     each input pixel goes once into a ring of rows: f32 as it is, i8 as f32 less its zero point; zeros outside the image
//!     for 12 (at the end 8, 4, 2 or 1) output columns at a time:
//!         one accumulator a pixel, one multiply-add a tap; a weight is loaded once for all pixels
//!     epilogue of four tiles
//! ```
//! From the ring, because in the image a pixel's neighbours lie a whole pixel apart, often in the same set of the cache, and because
//! zeros there make all windows whole. A zero that is multiplied changes nothing but the sign of a sum that underflowed to -0, and
//! weights are finite (where they are not, AVX2 leaves such taps out).
//!
//! The integers of i8 are exact in f32 while a sum stays below 2^24; where weights are so large that it may not, they are cut into
//! a high part and a low byte, summed apart and joined as integers.

use std::arch::x86_64::{
    __m512, __mmask16, _MM_HINT_T0, _mm_maskz_loadu_epi8, _mm_prefetch, _mm512_add_epi32,
    _mm512_cvtepi8_epi32, _mm512_cvtepi32_ps, _mm512_cvtps_epi32, _mm512_fmadd_ps, _mm512_loadu_ps,
    _mm512_maskz_loadu_ps, _mm512_set1_epi32, _mm512_setzero_ps, _mm512_slli_epi32, _mm512_storeu_ps,
    _mm512_sub_epi32,
};
use std::ops::Range;

use super::super::gemm_f32::epilogue_avx512::finish;
use super::super::tile::{Aligned, each_row};
use super::{DepthwiseShape, F32Variant, I8Variant, Isa, PANEL, Task, avx2};

pub(super) const F32: F32Variant =
    F32Variant { name: "depthwise_f32_f32__avx512", isa: Isa::Avx512, run: run_f32 };
pub(super) const I8: I8Variant =
    I8Variant { name: "depthwise_w16_a8__avx512", isa: Isa::Avx512, run: run_i8 };

/// Most pixels of a tile.
pub(super) const PIXELS: usize = 12;
/// Tiles of a row that go through the epilogue together: to enter it takes the time of some pixels.
const TILES: usize = 4;
/// Most kernel rows; more are left to AVX2.
const MAX_ROWS: usize = 16;
/// Most taps of an i8 kernel; more are left to AVX2.
const MAX_TAPS: usize = 64;
/// Pixels of the ring; a window that does not fit is left to AVX2.
const RING: usize = 256;
/// Input of a band of rows: a part of any second-level cache.
const BAND_BYTES: usize = 256 << 10;
/// Pixels that share a pointer: x86 addresses reach three by one pointer and one stride.
pub(super) const NEAR: usize = 3;

/// Results of one tile, `[pixel][16]`.
type Tile = [[f32; PANEL]; PIXELS];

/// The input of a tile and one block of channels.
struct Window<'a> {
    /// Where the strip's first pixel's first tap lies in each kernel row that is inside the image.
    rows: &'a [*const f32],
    /// Elements from there to the tile's.
    start: usize,
    /// The weight of the first tap of the first of `rows`.
    weights: *const f32,
    /// Taps of a row.
    kw: usize,
    /// Elements from tap to tap, and from pixel to pixel.
    across: usize,
    pixel: usize,
}

impl Window<'_> {
    /// The sums of `P` pixels.
    ///
    /// # Safety
    /// 16 floats are readable under all taps of `P` pixels; `weights` has `kw` of 16 for each row.
    #[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl")]
    #[inline(never)]
    unsafe fn sums<const P: usize>(&self, y: &mut Tile) {
        let mut acc = [_mm512_setzero_ps(); P];
        let (pixel, across) = (self.pixel, self.across);
        let mut weight = self.weights;
        for &row in self.rows {
            let mut at = [row.wrapping_add(self.start); PIXELS / NEAR];
            for (i, at) in at.iter_mut().enumerate() {
                *at = at.wrapping_add(i * NEAR * pixel);
            }
            for _ in 0..self.kw {
                // SAFETY: the caller's promise.
                let w = unsafe { _mm512_loadu_ps(weight) };
                weight = weight.wrapping_add(PANEL);
                each_row!(P, |I| {
                    // SAFETY: the caller's promise.
                    let x = unsafe { _mm512_loadu_ps(at[I / NEAR].add(I % NEAR * pixel)) };
                    acc[I] = _mm512_fmadd_ps(x, w, acc[I]);
                });
                at = at.map(|at| at.wrapping_add(across));
            }
        }
        each_row!(P, |I| {
            // SAFETY: 16 floats.
            unsafe { _mm512_storeu_ps(y[I].as_mut_ptr(), acc[I]) };
        });
    }

    /// [`Window::sums`] of `pixels` pixels, rounded up to a size that there is.
    ///
    /// # Safety
    /// As there, for [`rounded`] pixels.
    #[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl")]
    #[inline]
    unsafe fn run(&self, pixels: usize, y: &mut Tile) {
        // SAFETY: the caller's promise.
        unsafe {
            match rounded(pixels) {
                PIXELS => self.sums::<PIXELS>(y),
                8 => self.sums::<8>(y),
                4 => self.sums::<4>(y),
                2 => self.sums::<2>(y),
                _ => self.sums::<1>(y),
            }
        }
    }
}

/// The least size of a tile that holds so many pixels.
#[inline(always)]
pub(super) fn rounded(pixels: usize) -> usize {
    match pixels {
        9.. => PIXELS,
        5.. => 8,
        3.. => 4,
        _ => pixels,
    }
}

#[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl")]
fn run_f32(task: &mut Task<'_, f32, f32>) {
    // All of them, so that the loop is a vector's.
    let finite = task.weights.iter().fold(0, |most, w| most.max(w.abs().to_bits())) < f32::INFINITY.to_bits();
    let Some(plan) = Plan::new(task.shape).filter(|_| finite) else { return avx2::run_f32(task) };
    let taps = task.shape.kh * task.shape.kw;
    let Aligned(ring) = &mut Aligned([[0.0; PANEL]; RING]);
    for rows in bands(task) {
        for (block, channel) in task.part.channels.clone().step_by(PANEL).enumerate() {
            let weights = &task.weights.as_chunks::<PANEL>().0[block * taps..][..taps];
            let block = Block { block, channel, low: weights, high: None };
            pixels(task, &plan, rows.clone(), &block, ring);
        }
    }
}

#[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl")]
pub(super) fn run_i8(task: &mut Task<'_, i8, i16>) {
    let blocks = 0..task.part.channels.len().div_ceil(PANEL);
    if !run_i8_blocks(task, blocks) {
        avx2::run_i8(task);
    }
}

/// Some blocks of channels of the part; whether there are kernels of this size here.
#[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl")]
pub(super) fn run_i8_blocks(task: &mut Task<'_, i8, i16>, blocks: Range<usize>) -> bool {
    let taps = task.shape.kh.saturating_mul(task.shape.kw);
    let Some(plan) = Plan::new(task.shape).filter(|_| taps <= MAX_TAPS) else { return false };
    let Aligned(ring) = &mut Aligned([[0.0; PANEL]; RING]);
    let (Aligned(low), Aligned(high)) =
        (&mut Aligned([[0.0; PANEL]; MAX_TAPS]), &mut Aligned([[0.0; PANEL]; MAX_TAPS]));
    for rows in bands(task) {
        for block in blocks.clone() {
            let channel = task.part.channels.start + block * PANEL;
            let weights = &task.weights.as_chunks::<PANEL>().0[block * taps..][..taps];
            let split = floats(weights, low, high);
            let high = split.then_some(&high[..taps]);
            let block = Block { block, channel, low: &low[..taps], high };
            pixels(task, &plan, rows.clone(), &block, ring);
        }
    }
    true
}

/// Output rows whose input stays in the second-level cache while one block of channels after the other passes through it.
fn bands<X, W>(task: &Task<'_, X, W>) -> impl Iterator<Item = Range<usize>> + use<X, W> {
    let row = task.shape.stride_h * task.shape.w * task.part.channels.len() * size_of::<X>();
    let (rows, step) = (task.part.rows.clone(), (BAND_BYTES / row.max(1)).max(1));
    rows.clone().step_by(step).map(move |start| start..rows.end.min(start + step))
}

/// Weights as floats: all of them in `low`, or, when sums with them may pass 2^24, `256 high + low`; whether it is so.
fn floats(weights: &[[i16; PANEL]], low: &mut [[f32; PANEL]], high: &mut [[f32; PANEL]]) -> bool {
    // Of at most 64 taps: far from what i32 holds.
    let mut sums = [0i32; PANEL];
    for w in weights {
        for (sum, w) in sums.iter_mut().zip(w) {
            *sum += i32::from(*w).abs();
        }
    }
    let largest = sums.iter().fold(0, |largest: i32, sum| largest.max(*sum));
    let split = largest > ((1 << 24) - 1) / 255;
    for (w, (low, high)) in weights.iter().zip(low.iter_mut().zip(high)) {
        if split {
            *low = w.map(|w| f32::from(w & 255));
            *high = w.map(|w| f32::from(w >> 8));
        } else {
            *low = w.map(f32::from);
        }
    }
    split
}

/// Pixels that so many taps span. Sizes may be anything: what overflows does not fit.
fn span(taps: usize, dilation: usize) -> usize {
    (taps.max(1) - 1).saturating_mul(dilation).saturating_add(1)
}

/// Sizes of the ring.
pub(super) struct Plan {
    /// Most pixels of a tile, and of a strip: whole tiles.
    pixels: usize,
    pub(super) strip: usize,
    /// Rows of the ring, and columns that one pixel's window spans.
    rows: usize,
    pub(super) across: usize,
}

impl Plan {
    /// `None` when the window is too large for the ring.
    fn new(s: &DepthwiseShape) -> Option<Plan> {
        if s.kh > MAX_ROWS || s.kh == 0 || s.kw == 0 {
            return None;
        }
        Plan::of(s, span(s.kh, s.dil_h), RING)
    }

    /// With so many rows, in a ring of so many pixels.
    pub(super) fn of(s: &DepthwiseShape, rows: usize, ring: usize) -> Option<Plan> {
        let across = span(s.kw, s.dil_w);
        let fits = |pixels: &usize| {
            let columns = (pixels - 1).saturating_mul(s.stride_w).saturating_add(across);
            columns.saturating_mul(rows) <= ring
        };
        let pixels = [PIXELS, 8, 4, 2, 1].into_iter().find(fits)?;
        let strip = ((ring / rows - across) / s.stride_w + 1) / pixels * pixels;
        Some(Plan { pixels, strip, rows, across })
    }

    /// Output columns of the next tile when `left` are left: so that the last ones are full.
    pub(super) fn next(&self, left: usize) -> usize {
        let size = match left {
            13..=16 | 5..=8 => 8,
            9.. => PIXELS,
            3.. => 4,
            _ => left,
        };
        size.min(self.pixels).min(left)
    }
}

/// A block of channels.
struct Block<'a> {
    block: usize,
    channel: usize,
    /// `[taps][16]`
    low: &'a [[f32; PANEL]],
    high: Option<&'a [[f32; PANEL]]>,
}

/// Some output rows of one block.
#[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl")]
#[inline]
fn pixels<X: Pixel, W>(
    task: &mut Task<'_, X, W>,
    plan: &Plan,
    rows: Range<usize>,
    block: &Block<'_>,
    ring: &mut [[f32; PANEL]; RING],
) {
    let s = task.shape;
    let columns = task.epilogue.columns(block.block * PANEL, task.part.channels.len());
    let (Aligned(y), Aligned(above)) =
        (&mut Aligned([[0.0; PANEL]; TILES * PIXELS]), &mut Aligned([[0.0; PANEL]; PIXELS]));
    for ox in (0..s.ow).step_by(plan.strip) {
        let strip = plan.strip.min(s.ow - ox);
        // The last tile's size: results past its end are made of what the ring holds, and dropped.
        let mut tiled = 0;
        while tiled < strip {
            tiled += rounded(plan.next(strip - tiled));
        }
        let width = (tiled - 1) * s.stride_w + plan.across;
        let mut filled = 0;
        // The input row of the ring's first slot, at most a ring before the window. By additions: a division in the way of each
        // pixel takes longer than its taps.
        let mut base = (rows.start * s.stride_h).saturating_sub(s.pad_top);
        for oy in rows.clone() {
            let taps = s.rows(oy);
            let row_of = |ky: usize| oy * s.stride_h + ky * s.dil_h - s.pad_top;
            // From the window's first row in the image on, though no tap may see it: a later window's may.
            let first = (oy * s.stride_h).saturating_sub(s.pad_top);
            let wanted = if taps.is_empty() { 0..0 } else { first..row_of(taps.end - 1) + 1 };
            while first - base >= plan.rows {
                base += plan.rows;
            }
            let slot = |y: usize| if y - base < plan.rows { y - base } else { y - base - plan.rows };
            for y in wanted.start.max(filled)..wanted.end {
                let row = &mut ring[slot(y) * width..][..width];
                let x = (ox * s.stride_w) as isize - s.pad_left as isize;
                fill(task, (y, x), block.channel, columns.valid(), row);
            }
            filled = filled.max(wanted.end);
            let mut from = [std::ptr::null(); MAX_ROWS];
            for (from, ky) in from.iter_mut().zip(taps.clone()) {
                *from = ring[slot(row_of(ky)) * width..][..width].as_ptr().cast();
            }
            let row = (oy - task.part.rows.start) * s.ow + ox;
            let mut at = 0;
            while at < strip {
                let mut done = 0;
                while let (left @ 1.., Some(y)) = (strip - at - done, y[done..].first_chunk_mut::<PIXELS>()) {
                    let count = plan.next(left);
                    let sums = |weights: &[[f32; PANEL]], y: &mut Tile| {
                        let window = Window {
                            rows: &from[..taps.len()],
                            start: (at + done) * s.stride_w * PANEL,
                            weights: weights[taps.start * s.kw..taps.end * s.kw].as_ptr().cast(),
                            kw: s.kw,
                            across: s.dil_w * PANEL,
                            pixel: s.stride_w * PANEL,
                        };
                        // SAFETY: a row of the ring has the columns of all taps of a strip's pixels, the last tile's rounded up; the
                        // weights are those of the rows.
                        unsafe { window.run(count, y) };
                    };
                    sums(block.low, y);
                    if let Some(high) = block.high {
                        sums(high, above);
                        join(above, y);
                    }
                    done += count;
                }
                finish(task.epilogue, &mut task.out, row + at, &columns, &mut y[..done]);
                at += done;
            }
        }
    }
}

/// What a pixel is made of.
trait Pixel: Copy {
    /// Up to 16 channels, those of the mask, as floats; less the zero point if they are codes.
    ///
    /// # Safety
    /// The channels of the mask are readable from `at` on, and the CPU has AVX-512.
    unsafe fn load(at: *const Self, mask: __mmask16, zero_point: i32) -> __m512;
}

impl Pixel for f32 {
    #[target_feature(enable = "avx512f")]
    #[inline]
    unsafe fn load(at: *const f32, mask: __mmask16, _zero_point: i32) -> __m512 {
        // SAFETY: the caller's promise.
        unsafe { _mm512_maskz_loadu_ps(mask, at) }
    }
}

impl Pixel for i8 {
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    #[inline]
    unsafe fn load(at: *const i8, mask: __mmask16, zero_point: i32) -> __m512 {
        // SAFETY: the caller's promise.
        let codes = _mm512_cvtepi8_epi32(unsafe { _mm_maskz_loadu_epi8(mask, at) });
        _mm512_cvtepi32_ps(_mm512_sub_epi32(codes, _mm512_set1_epi32(zero_point)))
    }
}

/// Pixels of row `y` from column `x` on as floats; zeros outside the image.
#[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl")]
#[inline]
fn fill<X: Pixel, W>(
    task: &Task<'_, X, W>,
    (y, x): (usize, isize),
    channel: usize,
    valid: usize,
    row: &mut [[f32; PANEL]],
) {
    let s = task.shape;
    let inside = |i: isize| usize::try_from(i).unwrap_or(0).min(row.len());
    // Columns of the ring that are in the image.
    let there: Range<usize> = inside(-x)..inside(s.w as isize - x).max(inside(-x));
    row[..there.start].as_flattened_mut().fill(0.0);
    row[there.end..].as_flattened_mut().fill(0.0);
    if there.is_empty() {
        return;
    }
    let start = (y * s.w + (x + there.start as isize) as usize) * s.c + channel;
    let mut at = task.src[start..][..(there.len() - 1) * s.c + valid].as_ptr();
    let mask = ((1u32 << valid) - 1) as __mmask16;
    // The row below is next; its pixels lie too far apart for the CPU to see it.
    let below = s.w * s.c;
    for lanes in &mut row[there] {
        _mm_prefetch::<_MM_HINT_T0>(at.wrapping_add(below).cast());
        // SAFETY: the channels of a pixel, which the slice holds; 16 floats.
        unsafe { _mm512_storeu_ps(lanes.as_mut_ptr(), X::load(at, mask, task.zero_point)) };
        at = at.wrapping_add(s.c);
    }
}

/// `low = f32(256 high + low)`, all of them integers.
#[target_feature(enable = "avx512f")]
#[inline]
fn join(high: &Tile, low: &mut Tile) {
    for (high, low) in high.iter().zip(low) {
        // SAFETY: 16 floats each.
        unsafe {
            let above = _mm512_slli_epi32::<8>(_mm512_cvtps_epi32(_mm512_loadu_ps(high.as_ptr())));
            let sum = _mm512_add_epi32(above, _mm512_cvtps_epi32(_mm512_loadu_ps(low.as_ptr())));
            _mm512_storeu_ps(low.as_mut_ptr(), _mm512_cvtepi32_ps(sum));
        }
    }
}
