//! NEON: 16 pixels are 4 registers.
//!
//! ```text
//! for each output row, for 16 to 48 pixels of it, for up to 4 channels:
//!     CHANNELS x VECS accumulators: 1 x 12, 2 x 8 or 4 x 4 where there are as many pixels
//!     for k: load VECS registers of one input channel, multiply each by CHANNELS weights, one FMA for each two
//!     transposed, 16 pixels at a time, for the epilogue
//! ```

use std::arch::aarch64::{float32x4_t, vdupq_n_f32, vfmaq_n_f32, vld1q_f32, vst1q_f32};

use super::super::gemm_f32::epilogue_neon::finish;
use super::super::tile::{Aligned, each_row};
use super::ring::{bring, transposed};
use super::{Isa, MAX_CHANNELS, PANEL, Task, Variant};

pub(super) const VARIANT: Variant = Variant { name: "conv_narrow_f32_f32__neon", isa: Isa::Neon, run };

/// f32 of a vector.
const LANES: usize = 4;

/// Channels of a tile of more than two.
const WIDE: usize = 4;

/// Most times 16 pixels of a tile.
const MAX_PIXELS: usize = 3;

/// Sums of a tile, `[pixels / 16][channel][16]`.
type Sums = [[[f32; PANEL]; MAX_CHANNELS]; MAX_PIXELS];

#[target_feature(enable = "neon")]
fn run(task: &mut Task<'_>) {
    let (s, n) = (task.shape, task.out.cols());
    let columns = task.epilogue.columns(0, n);
    // The padding is the same for every row: it is written once.
    task.scratch.fill(0.0);
    let mut filled = 0;
    for (row, oy) in task.rows.clone().enumerate() {
        filled = bring(task, oy, filled);
        let mut ox = 0;
        while ox < s.ow {
            let Aligned(sums) = &mut Aligned([[[0.0; PANEL]; MAX_CHANNELS]; MAX_PIXELS]);
            let count = match (n, (s.ow - ox).div_ceil(PANEL)) {
                (1, MAX_PIXELS..) => MAX_PIXELS,
                (1..=2, 2..) => 2,
                _ => 1,
            };
            match (n, count) {
                (1, MAX_PIXELS) => multiply::<1, 12>(task, oy, ox, 0, sums),
                (1, 2) => multiply::<1, 8>(task, oy, ox, 0, sums),
                (1, _) => multiply::<1, 4>(task, oy, ox, 0, sums),
                (2, 2) => multiply::<2, 8>(task, oy, ox, 0, sums),
                (2, _) => multiply::<2, 4>(task, oy, ox, 0, sums),
                _ => {
                    for first in (0..n).step_by(WIDE) {
                        multiply::<WIDE, 4>(task, oy, ox, first, sums);
                    }
                }
            }
            for (from, sums) in (ox..s.ow).step_by(PANEL).zip(&sums[..count]) {
                let valid = PANEL.min(s.ow - from);
                let Aligned(y) = &mut transposed(sums, n);
                finish(task.epilogue, &mut task.out, row * s.ow + from, &columns, &mut y[..valid]);
            }
            ox += count * PANEL;
        }
    }
}

/// Sums of `4 VECS` pixels of output row `oy` from `ox` on, for `CHANNELS` channels from channel `first` on.
///
/// Not inlined: what surrounds it would take registers from the accumulators.
#[target_feature(enable = "neon")]
#[inline(never)]
fn multiply<const CHANNELS: usize, const VECS: usize>(
    task: &Task<'_>,
    oy: usize,
    ox: usize,
    first: usize,
    sums: &mut Sums,
) {
    let (s, ring) = (task.shape, task.ring);
    let mut acc: [[float32x4_t; VECS]; CHANNELS] = [[vdupq_n_f32(0.0); VECS]; CHANNELS];
    let channel = s.stride_w * ring.len;
    for ky in task.taps(oy) {
        let row = &task.scratch[task.row(oy, ky) % ring.rows * s.ic * channel..][..s.ic * channel];
        let weights = &task.panel[ky * s.kw * s.ic..][..s.kw * s.ic];
        // The phase of a tap's column, and its pixel.
        let (mut phase, mut pixel) = (0, ox);
        for kx in 0..s.kw {
            assert!(pixel + VECS * LANES <= ring.len, "a tile leaves its row");
            let mut at = row.as_ptr().wrapping_add(phase * ring.len + pixel);
            for w in &weights[kx * s.ic..][..s.ic] {
                let mut x = [vdupq_n_f32(0.0); VECS];
                each_row!(VECS, |P| {
                    // SAFETY: pixels of a phase of a channel of the row; that they do not leave it was checked above.
                    x[P] = unsafe { vld1q_f32(at.add(P * LANES)) };
                });
                let w: &[f32; CHANNELS] = w[first..].first_chunk().expect("a tile's channels");
                each_row!(CHANNELS, |N| {
                    each_row!(VECS, |P| {
                        acc[N][P] = vfmaq_n_f32(acc[N][P], x[P], w[N]);
                    });
                });
                at = at.wrapping_add(channel);
            }
            phase += s.dil_w;
            while phase >= s.stride_w {
                (phase, pixel) = (phase - s.stride_w, pixel + 1);
            }
        }
    }
    each_row!(CHANNELS, |N| {
        each_row!(VECS, |P| {
            let lanes = &mut sums[P * LANES / PANEL][first + N][P * LANES % PANEL..][..LANES];
            // SAFETY: 4 of 4 floats.
            unsafe { vst1q_f32(lanes.as_mut_ptr(), acc[N][P]) };
        });
    });
}
