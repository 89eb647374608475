//! Convolutions to so few channels that a matrix product would waste most of its panel.

use super::memory::Views;
use super::panels::{HELD_BYTES, Held, float_panels, panel_layout};
use super::product::{WORK, conv_shape, element, pitches, result_tiles};
use super::tail::Tail;
use super::{Context, MatrixView, floats, floats_mut, matrix};
use crate::device::Scratch;
use crate::plan::{ConvGeometry, Finish, Step};
use crate::weights::PANEL;
use edge_kernels::cpu::conv_narrow::{MAX_CHANNELS, scratch_floats};
use edge_kernels::cpu::gemm_f32::Output;
use edge_kernels::cpu::im2col::ConvShape;

/// Most bytes of a ring: it is read again for every channel, from the second-level cache.
const RING_BYTES: usize = 256 << 10;
/// Least multiplications of an input element by one channel's weights: below, laying it out costs more than it saves.
const LEAST_TAPS: usize = 3;
/// Most columns between pixels: with more, most of the ring is never read.
const MOST_STRIDE: usize = 4;
/// Pixels of a task when there is one row only.
const PIECE: usize = 1024;

/// The convolution of some pixels of a single row, or of whole rows.
fn shape(g: &ConvGeometry, pitch: usize) -> ConvShape {
    let ow = if single_row(g) { g.ow.min(PIECE) } else { g.ow };
    ConvShape { ow, ..conv_shape(g, pitch, 0) }
}

fn single_row(g: &ConvGeometry) -> bool {
    (g.ih, g.oh, g.pad_top) == (1, 1, 0)
}

/// Scratch bytes of one worker beside the decoded panel; `None` for a convolution that a matrix product does better.
pub(crate) fn scratch(g: &ConvGeometry) -> Option<usize> {
    let taps = g.kernel[0] * g.kernel[1] / (g.stride[0] * g.stride[1]).max(1);
    let fits = g.groups == 1
        && g.oc <= MAX_CHANNELS
        && taps >= LEAST_TAPS
        && g.stride[1] <= MOST_STRIDE
        && g.ow >= 16;
    let bytes = scratch_floats(&shape(g, g.ic)).filter(|_| fits)?.checked_mul(4)?;
    (bytes <= RING_BYTES).then_some(bytes.next_multiple_of(64))
}

/// Runs a convolution of floats for which [`scratch`] has an answer.
pub(super) fn run(
    ctx: &Context<'_>,
    step: &Step,
    mut views: Views<'_>,
    g: &ConvGeometry,
    finish: Finish,
) -> Result<(), String> {
    let matrix = matrix(ctx, step, &views, 0)?;
    let x = floats(views.inputs[0].unwrap_or_default());
    let tail = Tail::new(ctx, step, &mut views, g.oc, finish, None)?;
    let scratch = Scratch::new(std::mem::take(&mut views.scratch), ctx.pool.threads());
    Held::clear(&scratch, ctx.pool.threads());
    let [out, ..] = views.outputs;
    let (pitch_in, pitch_out) = pitches(step, g.ic, g.oc);
    let (shape, pixels) = (shape(g, pitch_in), g.oh * g.ow);
    if pixels * g.oc == 0 {
        return Ok(());
    }
    let rows = (WORK / (shape.k() * g.ow * g.oc).max(1)).max(g.kernel[0]).clamp(1, g.oh);
    let piece = if single_row(g) { shape.ow } else { rows * g.ow };
    let image = g.ih * g.iw * pitch_in;
    let quant = step.outputs[0].quant;
    for batch in 0..g.batch {
        let src = &x[batch * image..x.len().min((batch + 1) * image)];
        let part = Part { ctx, shape, matrix: &matrix, tail: &tail, src, row0: batch * pixels, ow: g.ow };
        let (out, size) =
            (&mut out[batch * pixels * pitch_out * element(quant)..], [pixels, g.oc, pitch_out]);
        result_tiles(ctx, out, size, quant, (piece, g.oc), |worker, first, _, out| {
            part.run(&mut scratch.slot(worker), first, out);
        });
    }
    Ok(())
}

/// What the tasks of one image share.
struct Part<'a> {
    ctx: &'a Context<'a>,
    shape: ConvShape,
    matrix: &'a MatrixView<'a>,
    tail: &'a Tail<'a>,
    src: &'a [f32],
    /// Row of the whole result where this image starts.
    row0: usize,
    /// Pixels of a row.
    ow: usize,
}

impl Part<'_> {
    /// Pixels from `first` on: whole rows, or some of the only one.
    fn run(&self, slot: &mut [u8], first: usize, out: Output<'_>) {
        let k = self.shape.k();
        let layout = panel_layout(out.cols(), k, None);
        let held = match self.matrix {
            MatrixView::Weights(_) => HELD_BYTES + layout.bytes,
            MatrixView::Panels(_) => 0,
        };
        let (area, ring) = slot.split_at_mut(held);
        let panel = float_panels(self.matrix, 0..1, k * PANEL, area);
        let epilogue = self.tail.part(self.row0 + first, 0, out.rows(), out.cols());
        let (mut shape, mut src) = (self.shape, self.src);
        let rows = if shape.ow == self.ow {
            first / self.ow..(first + out.rows()) / self.ow
        } else {
            // The part of the row that these pixels see.
            let start = first * shape.stride_w;
            let left = start.saturating_sub(shape.pad_left).min(shape.iw);
            shape.pad_left = shape.pad_left.saturating_sub(start);
            (shape.iw, shape.ow) = (shape.iw - left, out.rows());
            src = &src[left * shape.pixel_stride..];
            0..1
        };
        let kernel = self.ctx.kernels.conv_narrow;
        kernel.run(out, &shape, rows, src, panel, &epilogue, floats_mut(ring));
    }
}
