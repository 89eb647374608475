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
//! A weight that is no i8 is `128 high + low`, summed apart and joined as integers.

use std::arch::x86_64::{
    __m256i, __m512, __m512i, __mmask64, _MM_HINT_T0, _mm_loadu_si128, _mm_mask_storeu_epi8, _mm_prefetch,
    _mm_storeu_si128, _mm256_abs_epi16, _mm256_add_epi16, _mm256_cvtepi16_epi8, _mm256_loadu_si256,
    _mm256_max_epu16, _mm256_set1_epi16, _mm256_setzero_si256, _mm256_slli_epi16, _mm256_srai_epi16,
    _mm256_storeu_si256, _mm256_sub_epi16, _mm512_add_epi32, _mm512_castps_si512, _mm512_castsi512_ps,
    _mm512_castsi512_si256, _mm512_cvtepi16_epi32, _mm512_cvtepi32_ps, _mm512_dpbusd_epi32,
    _mm512_extracti64x4_epi64, _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_loadu_si512,
    _mm512_mask_broadcast_i32x4, _mm512_mask_loadu_epi8, _mm512_maskz_loadu_epi8, _mm512_mullo_epi32,
    _mm512_set1_epi8, _mm512_set1_epi32, _mm512_set1_ps, _mm512_setzero_si512, _mm512_shuffle_f32x4,
    _mm512_slli_epi32, _mm512_storeu_ps, _mm512_storeu_si512, _mm512_unpackhi_epi8, _mm512_unpackhi_epi16,
    _mm512_unpacklo_epi8, _mm512_unpacklo_epi16, _mm512_xor_si512,
};
use std::mem::MaybeUninit;
use std::ops::Range;

use super::super::gemm_f32::Columns;
use super::super::gemm_f32::codes_avx512::Codes;
use super::super::gemm_f32::epilogue_avx512::finish;
use super::super::tile::{Aligned, each_row};
use super::avx512::{NEAR, PIXELS, Plan, rounded};
use super::{DepthwiseShape, I8Variant, Isa, PANEL, Task, avx512};

pub(super) const I8: I8Variant =
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
        let mut group = Group::new(task, first, sizes, weights);
        group.codes = codes.filter(|codes| group.fits(codes, largest, s.kh * s.kw));
        rows(task, &plan, &group, ring);
    }
}

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

/// The largest magnitude of weights.
#[target_feature(enable = "avx2")]
fn largest(weights: &[i16]) -> u16 {
    let mut largest = _mm256_setzero_si256();
    for w in weights.as_chunks::<PANEL>().0 {
        largest = _mm256_max_epu16(largest, _mm256_abs_epi16(load_i16(w)));
    }
    let mut lanes = [0u16; PANEL];
    // SAFETY: 16 integers of 16 bits.
    unsafe { _mm256_storeu_si256(lanes.as_mut_ptr().cast(), largest) };
    lanes.into_iter().fold(0, u16::max)
}

/// 64 channels or fewer.
struct Group {
    /// First channel within the part, and how many there are.
    first: usize,
    channels: usize,
    /// Blocks of 16 of them: those of quarter i are block `i % blocks`.
    blocks: usize,
    columns: [Columns; FOUR],
    sizes: Sizes,
    /// For each output row that shares a ring, for each part, the low one first: `[fours][kw]`.
    weights: *const Fours,
    /// What the sums start from, and the epilogue's scale and bias, in the order of the registers.
    start: Registers,
    scale: Registers,
    bias: Registers,
    codes: Option<Codes>,
}

#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Registers([[f32; PANEL]; FOUR]);

impl Registers {
    /// Of the blocks of the quarters.
    #[target_feature(enable = "avx512f")]
    #[inline]
    fn of(blocks: [__m512; FOUR]) -> Registers {
        let mut own = Registers([[0.0; PANEL]; FOUR]);
        for (own, register) in own.0.iter_mut().zip(exchange(blocks)) {
            // SAFETY: 16 floats.
            unsafe { _mm512_storeu_ps(own.as_mut_ptr(), register) };
        }
        own
    }
}

impl Group {
    /// Channels from `first` of the part on; their weights come into `area`.
    #[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl")]
    fn new(
        task: &Task<'_, i8, i16>,
        first: usize,
        sizes: Sizes,
        area: &mut [MaybeUninit<Fours>; MAX_WEIGHTS],
    ) -> Group {
        let s = task.shape;
        let all = task.part.channels.len();
        let (taps, channels) = (s.kh * s.kw, GROUP.min(all - first));
        let blocks = channels.div_ceil(PANEL);
        let weights = &task.weights.as_chunks::<PANEL>().0[first / PANEL * taps..][..blocks * taps];
        let columns = [0, 1, 2, 3].map(|i: usize| task.epilogue.columns(first + i % blocks * PANEL, all));
        // The numbers come as they are added up in registers of floats.
        let rest = _mm512_set1_epi32(-(task.zero_point + 128));
        let start = [0, 1, 2, 3].map(|i: usize| {
            let mut sum = _mm512_setzero_si512();
            for w in &weights[i % blocks * taps..][..taps] {
                sum = _mm512_add_epi32(sum, _mm512_cvtepi16_epi32(load_i16(w)));
            }
            _mm512_castsi512_ps(_mm512_mullo_epi32(sum, rest))
        });
        let parts: &[Part] = if sizes.parts > 1 { &[Part::Low, Part::High] } else { &[Part::Whole] };
        for (i, area) in area.chunks_exact_mut(sizes.weights).enumerate().take(sizes.rows * sizes.parts) {
            let down = i / sizes.parts * s.stride_h;
            pack(weights, (s.kh, s.kw), down, parts[i % sizes.parts], area);
        }
        Group {
            first,
            channels,
            blocks,
            columns,
            sizes,
            weights: area.as_ptr().cast(),
            start: Registers::of(start),
            scale: Registers::of(columns.each_ref().map(|columns| load(columns.scale()))),
            bias: Registers::of(columns.each_ref().map(|columns| load(columns.bias()))),
            codes: None,
        }
    }

    /// Output rows in the quarters of a register.
    fn together(&self) -> usize {
        match self.blocks {
            1 => 4,
            2 => 2,
            _ => 1,
        }
    }

    /// Whether codes can be made at once.
    #[target_feature(enable = "avx512f,avx512dq")]
    fn fits(&self, codes: &Codes, largest: u16, taps: usize) -> bool {
        let most = f32::from(largest) * 255.0 * taps as f32;
        self.columns.iter().all(|columns| codes.fit(most, _mm512_set1_ps(1.0), columns))
    }
}

/// Which bytes of weights: themselves, or `high` and `low` of `128 high + low`.
#[derive(Clone, Copy, PartialEq)]
enum Part {
    Whole,
    Low,
    High,
}

/// Weights `[block][taps][16]` as `[fours of rows][kw]`, so many rows lower.
#[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl")]
#[inline(never)]
fn pack(
    weights: &[[i16; PANEL]],
    (kh, kw): (usize, usize),
    down: usize,
    part: Part,
    area: &mut [MaybeUninit<Fours>],
) {
    let taps = kh * kw;
    let blocks = weights.len() / taps;
    for (i, to) in area.iter_mut().enumerate() {
        let (first, kx) = (i / kw * FOUR, i % kw);
        let mut rows = [_mm512_setzero_si512(); FOUR];
        for (at, row) in (first..).zip(&mut rows) {
            let Some(ky) = at.checked_sub(down).filter(|ky| *ky < kh) else { continue };
            for quarter in 0..FOUR {
                let mut w = load_i16(&weights[quarter % blocks * taps + ky * kw + kx]);
                if part != Part::Whole {
                    let high = _mm256_srai_epi16::<7>(_mm256_add_epi16(w, _mm256_set1_epi16(64)));
                    w = if part == Part::High {
                        high
                    } else {
                        _mm256_sub_epi16(w, _mm256_slli_epi16::<7>(high))
                    };
                }
                *row = _mm512_mask_broadcast_i32x4(*row, 0xf << (FOUR * quarter), _mm256_cvtepi16_epi8(w));
            }
        }
        // SAFETY: room for four registers.
        unsafe { store_fours(to.as_mut_ptr(), rows) };
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

/// What a row of the ring is made of.
struct Source<const TOGETHER: usize> {
    /// For each kernel row and output row: the pixel of the first column that is in the image, less the bytes before its quarters; and
    /// bytes to the next, none where all is padding.
    at: [[(*const i8, usize); TOGETHER]; FOUR],
}

/// Columns of the ring for output rows and columns from `(oy, ox)` on: `[fours][width]`.
#[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl")]
#[inline(never)]
fn fill<const TOGETHER: usize>(
    task: &Task<'_, i8, i16>,
    group: &Group,
    (oy, ox): (usize, usize),
    ring: &mut [MaybeUninit<Fours>],
) {
    let s = task.shape;
    let width = ring.len() / group.sizes.fours;
    let x = (ox * s.stride_w) as isize - s.pad_left as isize;
    let inside = |i: isize| usize::try_from(i).unwrap_or(0).min(width);
    // Columns of the ring that are in the image.
    let there: Range<usize> = inside(-x)..inside(s.w as isize - x).max(inside(-x));
    let channel = task.part.channels.start + group.first;
    let first = (x + there.start as isize).max(0) as usize * s.c + channel;
    let padding = [task.zero_point as i8; GROUP];
    let outside = _mm512_set1_epi8((task.zero_point + 128) as i8);
    let quarters = FOUR / TOGETHER * PANEL;
    // Bytes of the channels, in the quarters of each output row.
    let own = u64::MAX >> (64 - group.channels);
    let masks: [__mmask64; TOGETHER] = std::array::from_fn(|t| own << (t * quarters));
    // Of all output rows that share the ring.
    let kernel_rows = s.kh + (group.sizes.rows - 1) * s.stride_h;
    for (four, ring) in ring.chunks_exact_mut(width).enumerate() {
        let mut source = Source::<TOGETHER> { at: [[(padding.as_ptr(), 0); TOGETHER]; FOUR] };
        for (i, at) in source.at.iter_mut().enumerate() {
            for (t, at) in at.iter_mut().enumerate() {
                let (ky, oy) = (four * FOUR + i, oy + t * group.sizes.rows);
                let y = (oy * s.stride_h + ky * s.dil_h).wrapping_sub(s.pad_top);
                if ky < kernel_rows && oy < task.part.rows.end && y < s.h && !there.is_empty() {
                    // Its last pixel's channels are in the image.
                    let row = &task.src[y * s.w * s.c + first..][..(there.len() - 1) * s.c + group.channels];
                    *at = (row.as_ptr(), s.c);
                }
                at.0 = at.0.wrapping_sub(t * quarters);
            }
        }
        let (left, rest) = ring.split_at_mut(there.start);
        let (middle, right) = rest.split_at_mut(there.len());
        for to in left.iter_mut().chain(right) {
            for i in 0..FOUR {
                // SAFETY: room for four registers.
                unsafe { _mm512_storeu_si512(to.as_mut_ptr().cast::<u8>().add(64 * i).cast(), outside) };
            }
        }
        // Rows below are next, and their pixels lie too far apart for the CPU to see it: as many as the output rows go down.
        let down = group.sizes.rows * s.stride_h;
        let (below, rows) = (down * s.w * s.c, kernel_rows.saturating_sub(down)..kernel_rows);
        let (start, end) = (rows.start.saturating_sub(four * FOUR), rows.end - four * FOUR);
        let new = start.min(FOUR)..end.min(FOUR);
        for to in middle {
            for at in &source.at[new.clone()] {
                _mm_prefetch::<_MM_HINT_T0>(at[TOGETHER - 1].0.wrapping_add(below).cast());
            }
            // SAFETY: the mask leaves the channels of a pixel, which is in the image, or of the padding; room for four registers.
            unsafe { store_fours(to.as_mut_ptr(), source.next(&masks)) };
        }
    }
}

impl<const TOGETHER: usize> Source<TOGETHER> {
    /// The channels of a pixel in four rows, made unsigned; then all pointers are at the next pixel.
    ///
    /// # Safety
    /// The bytes of the masks are readable.
    #[target_feature(enable = "avx512f,avx512bw")]
    #[inline]
    unsafe fn next(&mut self, masks: &[__mmask64; TOGETHER]) -> [__m512i; FOUR] {
        let sign = _mm512_set1_epi8(-128);
        let mut rows = [sign; FOUR];
        for (row, at) in rows.iter_mut().zip(&mut self.at) {
            // SAFETY: the caller's promise.
            let mut x = unsafe { _mm512_maskz_loadu_epi8(masks[0], at[0].0) };
            for t in 1..TOGETHER {
                // SAFETY: the caller's promise.
                x = unsafe { _mm512_mask_loadu_epi8(x, masks[t], at[t].0) };
            }
            *row = _mm512_xor_si512(x, sign);
            for (at, step) in at {
                *at = at.wrapping_add(*step);
            }
        }
        rows
    }
}

/// Stores the bytes of four rows side by side.
///
/// # Safety
/// There is room for four registers.
#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
unsafe fn store_fours(to: *mut Fours, [a, b, c, d]: [__m512i; FOUR]) {
    let (low, high) = (_mm512_unpacklo_epi8(a, b), _mm512_unpackhi_epi8(a, b));
    let (low_below, high_below) = (_mm512_unpacklo_epi8(c, d), _mm512_unpackhi_epi8(c, d));
    let registers = [
        _mm512_unpacklo_epi16(low, low_below),
        _mm512_unpackhi_epi16(low, low_below),
        _mm512_unpacklo_epi16(high, high_below),
        _mm512_unpackhi_epi16(high, high_below),
    ];
    for (i, register) in registers.into_iter().enumerate() {
        // SAFETY: the caller's promise.
        unsafe { _mm512_storeu_si512(to.cast::<u8>().add(64 * i).cast(), register) };
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

/// What follows the sums of `count` pixels, of the output rows and columns from `(oy, ox)` on.
#[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl")]
#[inline(never)]
fn store(task: &mut Task<'_, i8, i16>, group: &Group, (oy, ox): (usize, usize), count: usize, y: &mut Tile) {
    let s = task.shape;
    // Output rows that are there, those of quarters so many apart; the result's row of each.
    let apart = group.sizes.rows;
    let there = group.together().min((task.part.rows.end - oy).div_ceil(apart));
    let row = |t: usize| (oy + t * apart - task.part.rows.start) * s.ow + ox;
    let Some(codes) = &group.codes else {
        for p in 0..count {
            let blocks = exchange([0, 1, 2, 3].map(|i: usize| load(&y[i][p])));
            for (i, block) in blocks.into_iter().enumerate() {
                let real = _mm512_cvtepi32_ps(_mm512_castps_si512(block));
                // SAFETY: 16 floats.
                unsafe { _mm512_storeu_ps(y[i][p].as_mut_ptr(), real) };
            }
        }
        for (i, y) in y.iter_mut().enumerate().take(there * group.blocks) {
            let row = row(i / group.blocks);
            finish(task.epilogue, &mut task.out, row, &group.columns[i], &mut y[..count]);
        }
        return;
    };
    let scale = group.scale.0.each_ref().map(|lanes| load(lanes));
    let bias = group.bias.0.each_ref().map(|lanes| load(lanes));
    for p in 0..count {
        let values = [0, 1, 2, 3].map(|i: usize| {
            let sum = _mm512_cvtepi32_ps(_mm512_castps_si512(load(&y[i][p])));
            _mm512_fmadd_ps(sum, scale[i], bias[i])
        });
        let made = codes.of_values(values);
        let at = codes.at(row(0) + p, group.first);
        // SAFETY: the channels of the group, in the rows of the result that are there.
        unsafe {
            match (group.channels, there) {
                (GROUP, _) => _mm512_storeu_si512(at.cast(), made),
                (32, 2) => {
                    let next = codes.at(row(1) + p, group.first);
                    _mm256_storeu_si256(at.cast(), _mm512_castsi512_si256(made));
                    _mm256_storeu_si256(next.cast(), _mm512_extracti64x4_epi64::<1>(made));
                }
                _ => {
                    let Aligned(bytes) = &mut Aligned([0i8; GROUP]);
                    _mm512_storeu_si512(bytes.as_mut_ptr().cast(), made);
                    for i in 0..there * group.blocks {
                        let (t, block) = (i / group.blocks, i % group.blocks);
                        let to = codes.at(row(t) + p, group.first + block * PANEL);
                        let part = _mm_loadu_si128(bytes.as_ptr().add(i * PANEL).cast());
                        match group.channels - block * PANEL {
                            PANEL.. => _mm_storeu_si128(to.cast(), part),
                            valid => _mm_mask_storeu_epi8(to, ((1u32 << valid) - 1) as u16, part),
                        }
                    }
                }
            }
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

#[target_feature(enable = "avx2")]
#[inline]
fn load_i16(lanes: &[i16; PANEL]) -> __m256i {
    // SAFETY: 16 integers of 16 bits.
    unsafe { _mm256_loadu_si256(lanes.as_ptr().cast()) }
}
