//! 64 channels or fewer: their weights and what their epilogue takes, in the order of the registers.

use std::arch::x86_64::{
    __m256i, __m512, _mm256_abs_epi16, _mm256_add_epi16, _mm256_cvtepi16_epi8, _mm256_loadu_si256,
    _mm256_max_epu16, _mm256_set1_epi16, _mm256_setzero_si256, _mm256_slli_epi16, _mm256_srai_epi16,
    _mm256_storeu_si256, _mm256_sub_epi16, _mm512_add_epi32, _mm512_castsi512_ps, _mm512_cvtepi16_epi32,
    _mm512_mask_broadcast_i32x4, _mm512_mullo_epi32, _mm512_set1_epi32, _mm512_set1_ps, _mm512_setzero_si512,
    _mm512_storeu_ps,
};
use std::mem::MaybeUninit;

use super::super::super::gemm_f32::Columns;
use super::super::super::gemm_f32::codes_avx512::Codes;
use super::super::{PANEL, Task};
use super::ring::store_fours;
use super::{FOUR, Fours, GROUP, MAX_WEIGHTS, Sizes, exchange, load, together};

/// The largest magnitude of weights.
#[target_feature(enable = "avx2")]
pub(super) fn largest(weights: &[i16]) -> u16 {
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
pub(super) struct Group {
    /// First channel within the part, and how many there are.
    pub(super) first: usize,
    pub(super) channels: usize,
    /// Blocks of 16 of them: those of quarter i are block `i % blocks`.
    pub(super) blocks: usize,
    pub(super) columns: [Columns; FOUR],
    pub(super) sizes: Sizes,
    /// For each output row that shares a ring, for each part, the low one first: `[fours][kw]`.
    pub(super) weights: *const Fours,
    /// What the sums start from, and the epilogue's scale and bias, in the order of the registers.
    pub(super) start: Registers,
    pub(super) scale: Registers,
    pub(super) bias: Registers,
    pub(super) codes: Option<Codes>,
}

#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(super) struct Registers(pub(super) [[f32; PANEL]; FOUR]);

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
    pub(super) fn new(
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
    pub(super) fn together(&self) -> usize {
        together(self.blocks)
    }

    /// Whether codes can be made at once.
    #[target_feature(enable = "avx512f,avx512dq")]
    pub(super) fn fits(&self, codes: &Codes, largest: u16, taps: usize) -> bool {
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

#[target_feature(enable = "avx2")]
#[inline]
fn load_i16(lanes: &[i16; PANEL]) -> __m256i {
    // SAFETY: 16 integers of 16 bits.
    unsafe { _mm256_loadu_si256(lanes.as_ptr().cast()) }
}
