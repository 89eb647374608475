//! AVX-512 VNNI: 64 channels are four registers, and one multiply-add takes four kernel rows.
//!
//! ```text
//! for each 64 channels, for each output row or two, for each strip of columns:
//!     each input pixel goes once into a ring: the bytes of four input rows side by side, made unsigned; the zero point outside the image
//!     for 12 (at the end 8, 4, 2 or 1) output columns at a time, for each register of channels:
//!         one accumulator a pixel, from -(zero_point + 128) * sum(w) on, one multiply-add for each kernel column and four kernel rows
//!     codes of 64 channels at once, or the epilogue of each 16
//! ```
//! Bytes of four rows come side by side within each quarter of a register: its register i of a pixel has channels 4 i to 4 i + 3 of
//! each of the four blocks of 16. Codes are packed quarter by quarter too, so the order of channels is right again without a step of its own.
//!
//! Two output rows share a ring where they see no more fours of input rows than one does: the second's weights lie lower by the stride.
//!
//! Where there are 16 or 32 channels, the quarters of a register hold those of four or two output rows.
//!
//! Channels and rows that leave quarters empty are multiplied as floats, which are exact too.
//!
//! A weight that is no i8 is `128 high + low`, summed apart and joined as integers.

mod group;
mod results;
mod ring;

use std::arch::x86_64::{
    __m512, _mm512_add_epi32, _mm512_dpbusd_epi32, _mm512_loadu_ps, _mm512_loadu_si512, _mm512_shuffle_f32x4,
    _mm512_slli_epi32, _mm512_storeu_si512,
};
use std::mem::MaybeUninit;

use super::super::gemm_f32::codes_avx512::Codes;
use super::super::tile::{Aligned, each_row};
use super::avx512::{NEAR, PIXELS, Plan, rounded};
use super::{DepthwiseShape, I8Variant, Isa, PANEL, Task, avx512};
use group::{Group, Registers, largest};
use results::store;
use ring::fill;

pub(in crate::cpu::depthwise) const I8: I8Variant =
    I8Variant { name: "depthwise_w16_a8__avx512_vnni", isa: Isa::Avx512Vnni, run };

/// Kernel rows of a multiply-add, channels of a register, and quarters of it.
const FOUR: usize = 4;
/// Channels of a group: four blocks.
const GROUP: usize = FOUR * PANEL;
/// Most fours of kernel rows, and of all weights of a channel; more are left to floats.
const MAX_FOURS: usize = 4;
const MAX_WEIGHTS: usize = 64;
/// Pixels of the ring.
const RING: usize = 64;
/// Largest weight of two parts of 8 bits.
const LARGEST: u16 = 127 * 128;

/// Bytes of 64 channels of four rows: a pixel of the ring, or as many weights.
type Fours = [[i8; 64]; FOUR];
/// Whole numbers of a tile, then reals: `[register][pixel][16]`, or `[block][pixel][16]`.
type Tile = [[[f32; PANEL]; PIXELS]; FOUR];

#[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
fn run(task: &mut Task<'_, i8, i16>) {
    let s = task.shape;
    let largest = largest(task.weights);
    let sizes = if largest <= LARGEST { Sizes::of(s, largest > 127) } else { None };
    let plan = sizes.as_ref().and_then(|sizes| Plan::of(s, sizes.fours, RING));
    let (Some(sizes), Some(plan)) = (sizes, plan) else { return avx512::run_i8(task) };
    let Aligned(ring) = &mut Aligned([MaybeUninit::<Fours>::uninit(); RING]);
    let Aligned(weights) = &mut Aligned([MaybeUninit::<Fours>::uninit(); MAX_WEIGHTS]);
    let codes = Codes::of(task.epilogue, &mut task.out);
    for first in (0..task.part.channels.len()).step_by(GROUP) {
        if !fills(task, first) {
            let blocks = first / PANEL..task.part.channels.len().min(first + GROUP).div_ceil(PANEL);
            if avx512::run_i8_blocks(task, blocks) {
                continue;
            }
        }
        let mut group = Group::new(task, first, sizes, weights);
        group.codes = codes.filter(|codes| group.fits(codes, largest, s.kh * s.kw));
        rows(task, &plan, &group, ring);
    }
}

/// Whether the group from `first` on takes less time here than as floats. These take each block of 16 channels for itself and leave out
/// kernel rows outside the image, which are half of their work; a register of four quarters takes as long as
/// [`BLOCKS_OF_FLOATS`] blocks, whether its quarters are of channels and output rows that there are or not.
fn fills(task: &Task<'_, i8, i16>, first: usize) -> bool {
    let (s, rows) = (task.shape, task.part.rows.clone());
    let blocks = (task.part.channels.len() - first).min(GROUP).div_ceil(PANEL);
    let passes = rows.len().div_ceil(together(blocks));
    let inside = rows.clone().map(|oy| s.rows(oy).len()).sum::<usize>() as f32 / s.kh as f32;
    (passes as f32) * BLOCKS_OF_FLOATS < blocks as f32 * (rows.len() as f32 + inside) / 2.0
}

/// Output rows in the quarters of a register that so many blocks share.
fn together(blocks: usize) -> usize {
    match blocks {
        1 => 4,
        2 => 2,
        _ => 1,
    }
}

/// What a pass over four quarters takes, in blocks of floats: 0.8 to 0.85 of four blocks where weights are of 8 bits, 0.65 to 0.75
/// where they are of fewer.
const BLOCKS_OF_FLOATS: f32 = 3.2;

/// What output rows are made of.
#[derive(Clone, Copy)]
struct Sizes {
    /// Output rows that share a ring: one or two.
    rows: usize,
    /// Fours of input rows.
    fours: usize,
    /// Fours of weights of a channel, in each of `parts`.
    weights: usize,
    /// Bytes of a weight.
    parts: usize,
}

impl Sizes {
    /// `None` when there are too many weights.
    fn of(s: &DepthwiseShape, large: bool) -> Option<Sizes> {
        let (fours, parts) = (s.kh.div_ceil(FOUR), 1 + usize::from(large));
        let weights = fours.saturating_mul(s.kw);
        if !(1..=MAX_FOURS).contains(&fours) || !(1..=MAX_WEIGHTS / parts).contains(&weights) {
            return None;
        }
        let shared = s.dil_h == 1 && s.kh.saturating_add(s.stride_h).div_ceil(FOUR) == fours;
        let rows = if shared && 2 * parts * weights <= MAX_WEIGHTS { 2 } else { 1 };
        Some(Sizes { rows, fours, weights, parts })
    }
}

/// The output rows of one group, as many at a time as registers have room for.
#[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
#[inline(never)]
fn rows(task: &mut Task<'_, i8, i16>, plan: &Plan, group: &Group, ring: &mut [MaybeUninit<Fours>; RING]) {
    let s = task.shape;
    let Aligned(y) = &mut Aligned([[[0.0; PANEL]; PIXELS]; FOUR]);
    let Aligned(above) = &mut Aligned([[[0.0; PANEL]; PIXELS]; FOUR]);
    let sizes = group.sizes;
    for oy in task.part.rows.clone().step_by(group.together() * sizes.rows) {
        for ox in (0..s.ow).step_by(plan.strip) {
            let strip = plan.strip.min(s.ow - ox);
            // The last tile's size: results past its end are made of what the ring holds, and dropped.
            let mut tiled = 0;
            while tiled < strip {
                tiled += rounded(plan.next(strip - tiled));
            }
            let width = (tiled - 1) * s.stride_w + plan.across;
            let filled = &mut ring[..width * sizes.fours];
            match group.together() {
                1 => fill::<1>(task, group, (oy, ox), filled),
                2 => fill::<2>(task, group, (oy, ox), filled),
                _ => fill::<4>(task, group, (oy, ox), filled),
            }
            let mut at = 0;
            while at < strip {
                let count = plan.next(strip - at);
                let window = Window {
                    ring: ring[at * s.stride_w..].as_ptr().cast(),
                    row: width * size_of::<Fours>(),
                    fours: sizes.fours,
                    kw: s.kw,
                    across: s.dil_w * size_of::<Fours>(),
                    pixel: s.stride_w * size_of::<Fours>(),
                };
                for (below, oy) in (oy..task.part.rows.end).enumerate().take(sizes.rows) {
                    let weights = group.weights.wrapping_add(below * sizes.parts * sizes.weights);
                    // SAFETY: the ring has the columns of all taps of a strip's pixels, the last tile's rounded up, and the group the
                    // weights of all taps in each part.
                    unsafe {
                        window.run(count, weights, &group.start, y);
                        if sizes.parts > 1 {
                            let zeros = Registers([[0.0; PANEL]; FOUR]);
                            window.run(count, weights.wrapping_add(sizes.weights), &zeros, above);
                            join(above, y);
                        }
                    }
                    store(task, group, (oy, ox + at), count, y);
                }
                at += count;
            }
        }
    }
}

/// The input of a tile.
struct Window {
    /// The first pixel's first tap, and bytes from there to that of the next kernel rows.
    ring: *const u8,
    row: usize,
    fours: usize,
    kw: usize,
    /// Bytes from tap to tap, and from pixel to pixel.
    across: usize,
    pixel: usize,
}

impl Window {
    /// The sums of `P` pixels.
    ///
    /// # Safety
    /// 256 bytes are readable under all taps of `P` pixels; there are `fours * kw` weights.
    #[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
    #[inline(never)]
    unsafe fn sums<const P: usize>(&self, weights: *const Fours, start: &Registers, y: &mut Tile) {
        let (pixel, across) = (self.pixel, self.across);
        for i in 0..FOUR {
            // SAFETY: 16 numbers.
            let mut acc = [unsafe { _mm512_loadu_si512(start.0[i].as_ptr().cast()) }; P];
            let mut weight = weights.cast::<u8>().wrapping_add(64 * i);
            let mut row = self.ring.wrapping_add(64 * i);
            for _ in 0..self.fours {
                let mut at = [row; PIXELS / NEAR];
                for (n, at) in at.iter_mut().enumerate() {
                    *at = at.wrapping_add(n * NEAR * pixel);
                }
                for _ in 0..self.kw {
                    // SAFETY: the caller's promise.
                    let w = unsafe { _mm512_loadu_si512(weight.cast()) };
                    weight = weight.wrapping_add(size_of::<Fours>());
                    each_row!(P, |I| {
                        // SAFETY: the caller's promise.
                        let x = unsafe { _mm512_loadu_si512(at[I / NEAR].add(I % NEAR * pixel).cast()) };
                        acc[I] = _mm512_dpbusd_epi32(acc[I], x, w);
                    });
                    at = at.map(|at| at.wrapping_add(across));
                }
                row = row.wrapping_add(self.row);
            }
            let y = &mut y[i];
            each_row!(P, |I| {
                // SAFETY: 16 numbers.
                unsafe { _mm512_storeu_si512(y[I].as_mut_ptr().cast(), acc[I]) };
            });
        }
    }

    /// [`Window::sums`] of `pixels` pixels, rounded up to a size that there is.
    ///
    /// # Safety
    /// As there, for [`rounded`] pixels.
    #[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
    #[inline]
    unsafe fn run(&self, pixels: usize, weights: *const Fours, start: &Registers, y: &mut Tile) {
        // SAFETY: the caller's promise.
        unsafe {
            match rounded(pixels) {
                PIXELS => self.sums::<PIXELS>(weights, start, y),
                8 => self.sums::<8>(weights, start, y),
                4 => self.sums::<4>(weights, start, y),
                2 => self.sums::<2>(weights, start, y),
                _ => self.sums::<1>(weights, start, y),
            }
        }
    }
}

/// `low = 128 high + low`, whole numbers.
#[target_feature(enable = "avx512f")]
fn join(high: &Tile, low: &mut Tile) {
    for (high, low) in high.as_flattened().iter().zip(low.as_flattened_mut()) {
        // SAFETY: 16 numbers each.
        unsafe {
            let above = _mm512_slli_epi32::<7>(_mm512_loadu_si512(high.as_ptr().cast()));
            let sum = _mm512_add_epi32(above, _mm512_loadu_si512(low.as_ptr().cast()));
            _mm512_storeu_si512(low.as_mut_ptr().cast(), sum);
        }
    }
}

/// Quarter `i` of register `j` becomes quarter `j` of register `i`.
#[target_feature(enable = "avx512f")]
#[inline]
fn exchange([a, b, c, d]: [__m512; FOUR]) -> [__m512; FOUR] {
    let (low, high) = (_mm512_shuffle_f32x4::<0x44>(a, b), _mm512_shuffle_f32x4::<0xee>(a, b));
    let (low_below, high_below) = (_mm512_shuffle_f32x4::<0x44>(c, d), _mm512_shuffle_f32x4::<0xee>(c, d));
    [
        _mm512_shuffle_f32x4::<0x88>(low, low_below),
        _mm512_shuffle_f32x4::<0xdd>(low, low_below),
        _mm512_shuffle_f32x4::<0x88>(high, high_below),
        _mm512_shuffle_f32x4::<0xdd>(high, high_below),
    ]
}

#[target_feature(enable = "avx512f")]
#[inline]
fn load(lanes: &[f32; PANEL]) -> __m512 {
    // SAFETY: 16 floats.
    unsafe { _mm512_loadu_ps(lanes.as_ptr()) }
}
