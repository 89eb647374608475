//! Depthwise convolution: each channel with its own window.

use super::memory::Views;
use super::panels::{HELD_BYTES, Held, float_panels};
use super::product::{element, pitches, result_tiles};
use super::tail::Tail;
use super::tasks::balanced;
use super::{Context, MatrixView, floats, floats_mut, matrix};
use crate::device::Scratch;
use crate::plan::{ConvGeometry, Finish, Step};
use crate::weights::PANEL;
use edge_kernels::cpu::depthwise::{DepthwiseShape, I8Image, Part};
use edge_kernels::cpu::gemm_f32::{Output, Scale};

/// Channels of a task: four blocks, so that their weights stay in the first-level cache.
const CHANNELS: usize = 4 * PANEL;
/// Multiply-adds of a task: 30 microseconds or less of a CPU with AVX-512, twice that with AVX2.
const WORK: usize = 1 << 20;

/// Scratch bytes of one worker: decoded weights of a task's channels, and their scales in integer mode.
pub(crate) fn scratch(taps: usize, integer: bool) -> usize {
    let weights =
        if integer { (CHANNELS * taps * 2).next_multiple_of(64) + CHANNELS * 4 } else { CHANNELS * taps * 4 };
    HELD_BYTES + weights
}

pub(super) fn run(
    ctx: &Context<'_>,
    step: &Step,
    mut views: Views<'_>,
    g: &ConvGeometry,
    finish: Finish,
) -> Result<(), String> {
    let matrix = matrix(ctx, step, &views, 0)?;
    let x = views.inputs[0].unwrap_or_default();
    let input = step.inputs[0].as_ref().and_then(|o| o.quant);
    let output = step.outputs[0].quant;
    let tail = Tail::new(ctx, step, &mut views, g.oc, finish, input)?;
    let slots = Scratch::new(std::mem::take(&mut views.scratch), ctx.pool.threads());
    Held::clear(&slots, ctx.pool.threads());
    let [out, ..] = views.outputs;
    let taps = g.kernel[0] * g.kernel[1];
    let shape = DepthwiseShape {
        h: g.ih,
        w: g.iw,
        c: g.ic,
        kh: g.kernel[0],
        kw: g.kernel[1],
        stride_h: g.stride[0],
        stride_w: g.stride[1],
        dil_h: g.dilation[0],
        dil_w: g.dilation[1],
        pad_top: g.pad_top,
        pad_left: g.pad_left,
        oh: g.oh,
        ow: g.ow,
    };
    let pixels = g.oh * g.ow;
    let (_, pitch) = pitches(step, g.ic, g.oc);
    if pixels * g.oc == 0 {
        return Ok(());
    }
    // Rows that two tasks share are read twice: not too few of their own.
    let rows = WORK / (CHANNELS.min(g.oc) * taps * g.ow).max(1);
    let rows = rows.max(2 * g.kernel[0]).clamp(1, g.oh);
    let rows = balanced(ctx.pool, g.oh, (g.kernel[0], rows), g.oc.div_ceil(CHANNELS));
    let image = g.ih * g.iw * g.ic;
    for batch in 0..g.batch {
        let task = Task { ctx, shape: &shape, tail: &tail, matrix: &matrix, row0: batch * pixels, taps };
        let out = &mut out[batch * pixels * pitch * element(output)..];
        let (size, tile) = ([pixels, g.oc, pitch], (rows * g.ow, CHANNELS));
        match input {
            None => {
                let src = &floats(x)[batch * image..(batch + 1) * image];
                result_tiles(ctx, out, size, output, tile, |worker, row, col, out| {
                    task.float(&mut slots.slot(worker), row, col, out, src);
                });
            }
            Some(quant) => {
                let codes = &super::elements(x)[batch * image..(batch + 1) * image];
                let src = I8Image { codes, zero_point: quant.zero_point };
                result_tiles(ctx, out, size, output, tile, |worker, row, col, out| {
                    task.integer(&mut slots.slot(worker), row, col, out, src, quant.scale);
                });
            }
        }
    }
    Ok(())
}

/// What the tiles of one image share.
struct Task<'a> {
    ctx: &'a Context<'a>,
    shape: &'a DepthwiseShape,
    tail: &'a Tail<'a>,
    matrix: &'a MatrixView<'a>,
    /// Row of the whole result where this image starts.
    row0: usize,
    taps: usize,
}

impl Task<'_> {
    fn part(&self, row: usize, col: usize, rows: usize, cols: usize) -> Part {
        Part { rows: row / self.shape.ow..(row + rows) / self.shape.ow, channels: col..col + cols }
    }

    fn float(&self, slot: &mut [u8], row: usize, col: usize, out: Output<'_>, src: &[f32]) {
        let (rows, cols) = (out.rows(), out.cols());
        let panels = col / PANEL..(col + cols).div_ceil(PANEL);
        let weights = float_panels(self.matrix, panels, self.taps * PANEL, slot);
        let epilogue = self.tail.part(self.row0 + row, col, rows, cols);
        let part = self.part(row, col, rows, cols);
        self.ctx.kernels.depthwise_f32.run(out, self.shape, &part, src, weights, &epilogue);
    }

    fn integer(
        &self,
        slot: &mut [u8],
        row: usize,
        col: usize,
        out: Output<'_>,
        src: I8Image<'_>,
        input_scale: f32,
    ) {
        let (rows, cols) = (out.rows(), out.cols());
        let panels = col / PANEL..(col + cols).div_ceil(PANEL);
        let MatrixView::Weights(w) = self.matrix else { return };
        let mut epilogue = self.tail.part(self.row0 + row, col, rows, cols);
        let (held, area) = slot.split_at_mut(HELD_BYTES);
        let (codes, scales) = area.split_at_mut((CHANNELS * self.taps * 2).next_multiple_of(64));
        let codes: &mut [i16] = &mut super::elements_mut(codes)[..panels.len() * self.taps * PANEL];
        let scales = &mut floats_mut(scales)[..panels.len() * PANEL];
        if Held::of(held).replace(0, panels.start) {
            w.fill_codes_i16(panels, codes, scales);
            // The step's own scale already holds the activations' (see the planner); one product a channel here.
            match epilogue.scale {
                Scale::PerColumn(own) => scales.iter_mut().zip(own).for_each(|(s, o)| *s *= o),
                _ => scales.iter_mut().for_each(|s| *s *= input_scale),
            }
        }
        epilogue.scale = Scale::PerColumn(&scales[..cols]);
        let part = self.part(row, col, rows, cols);
        self.ctx.kernels.depthwise_i8.run(out, self.shape, &part, src, codes, &epilogue);
    }
}
