//! AVX-512: 16 pixels are one register.
//!
//! ```text
//! for each output row, for 16 PIXELS pixels of it:
//!     CHANNELS x PIXELS accumulators, about 24
//!     for k: load PIXELS registers of one input channel, broadcast CHANNELS weights, one FMA for each two
//!     transposed, 16 pixels at a time, for the epilogue
//! ```

use std::arch::x86_64::{
    __m512, _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_set1_ps, _mm512_setzero_ps, _mm512_storeu_ps,
};

use super::super::gemm_f32::epilogue_avx512::finish;
use super::super::tile::{Aligned, each_row};
use super::ring::{bring, transposed};
use super::{Isa, MAX_CHANNELS, PANEL, Task, Variant};

pub(super) const VARIANT: Variant = Variant { name: "conv_narrow_f32_f32__avx512", isa: Isa::Avx512, run };

/// Most registers of a tile's row of pixels.
const MAX_PIXELS: usize = super::TILE / PANEL;

/// Sums of a tile, `[pixels / 16][channel][16]`.
type Sums = [[[f32; PANEL]; MAX_CHANNELS]; MAX_PIXELS];

/// Registers of pixels of the next tile, for so many channels and when so many are left: as many accumulators as fit, and no more
/// than there are pixels.
fn pixels(channels: usize, left: usize) -> usize {
    let most = match channels {
        1 => 8,
        2..=4 => 4,
        _ => 3,
    };
    match left {
        3.. if most == 3 => 3,
        7.. if most == 8 => 8,
        3.. => most.min(4),
        _ => left,
    }
}

#[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl")]
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
            let count = pixels(n, (s.ow - ox).div_ceil(PANEL));
            let Aligned(sums) = &mut Aligned([[[0.0; PANEL]; MAX_CHANNELS]; MAX_PIXELS]);
            match (n, count) {
                (1, 8) => multiply::<1, 8>(task, oy, ox, sums),
                (1, 4) => multiply::<1, 4>(task, oy, ox, sums),
                (1, 2) => multiply::<1, 2>(task, oy, ox, sums),
                (1, _) => multiply::<1, 1>(task, oy, ox, sums),
                (2..=4, 4) => multiply::<4, 4>(task, oy, ox, sums),
                (2..=4, 2) => multiply::<4, 2>(task, oy, ox, sums),
                (2..=4, _) => multiply::<4, 1>(task, oy, ox, sums),
                (_, 3) => multiply::<8, 3>(task, oy, ox, sums),
                (_, 2) => multiply::<8, 2>(task, oy, ox, sums),
                _ => multiply::<8, 1>(task, oy, ox, sums),
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

/// Sums of `16 PIXELS` pixels of output row `oy` from `ox` on, for the first `CHANNELS` channels.
#[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl")]
#[inline(never)]
fn multiply<const CHANNELS: usize, const PIXELS: usize>(
    task: &Task<'_>,
    oy: usize,
    ox: usize,
    sums: &mut Sums,
) {
    let (s, ring) = (task.shape, task.ring);
    let mut acc: [[__m512; PIXELS]; CHANNELS] = [[_mm512_setzero_ps(); PIXELS]; CHANNELS];
    let channel = s.stride_w * ring.len;
    for ky in task.taps(oy) {
        let row = &task.scratch[task.row(oy, ky) % ring.rows * s.ic * channel..][..s.ic * channel];
        let weights = &task.panel[ky * s.kw * s.ic..][..s.kw * s.ic];
        // The phase of a tap's column, and its pixel.
        let (mut phase, mut pixel) = (0, ox);
        for kx in 0..s.kw {
            assert!(pixel + PIXELS * PANEL <= ring.len, "a tile leaves its row");
            let mut at = row.as_ptr().wrapping_add(phase * ring.len + pixel);
            for w in &weights[kx * s.ic..][..s.ic] {
                let mut x = [_mm512_setzero_ps(); PIXELS];
                each_row!(PIXELS, |P| {
                    // SAFETY: pixels of a phase of a channel of the row; that they do not leave it was checked above.
                    x[P] = unsafe { _mm512_loadu_ps(at.add(P * PANEL)) };
                });
                each_row!(CHANNELS, |N| {
                    let w = _mm512_set1_ps(w[N]);
                    each_row!(PIXELS, |P| {
                        acc[N][P] = _mm512_fmadd_ps(x[P], w, acc[N][P]);
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
        each_row!(PIXELS, |P| {
            // SAFETY: 16 floats.
            unsafe { _mm512_storeu_ps(sums[P % MAX_PIXELS][N % MAX_CHANNELS].as_mut_ptr(), acc[N][P]) };
        });
    });
}
