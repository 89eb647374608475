//! Transposed convolution: a product, and a sum of what reaches each output pixel.

use super::memory::Views;
use super::panels::panel_layout;
use super::tail::activation;
use super::{Context, MatrixView, floats, floats_mut, matrix};
use crate::device::Scratch;
use crate::plan::{ConvGeometry, Finish, Step};
use crate::weights::PANEL;
use edge_kernels::MatMut;
use edge_kernels::cpu::activation::Activation;
use edge_kernels::cpu::elementwise::{InOut, UnaryOp, unary};
use edge_kernels::cpu::gemm_f32::{Epilogue, Rows};
use edge_kernels::cpu::im2col::deconv::{DeconvShape, lay_out};
use std::ops::Range;

/// Output rows of a task, in strides: input rows that two neighbours both need are computed twice.
const STRIDES: usize = 2;

fn shape(g: &ConvGeometry) -> DeconvShape {
    DeconvShape {
        ih: g.ih,
        iw: g.iw,
        kh: g.kernel[0],
        kw: g.kernel[1],
        oc: g.oc,
        stride_h: g.stride[0],
        stride_w: g.stride[1],
        dil_h: g.dilation[0],
        dil_w: g.dilation[1],
        pad_top: g.pad_top,
        pad_left: g.pad_left,
        oh: g.oh,
        ow: g.ow,
    }
}

/// Input rows that reach the output rows `rows`.
pub(crate) fn input_rows(g: &ConvGeometry, rows: Range<usize>) -> Range<usize> {
    shape(g).input_rows(rows)
}

fn block(g: &ConvGeometry) -> usize {
    (STRIDES * g.stride[0]).clamp(1, g.oh.max(1))
}

/// Whether windows lie side by side and the taps of a kernel row are whole panels: then the product goes where it belongs.
fn goes_direct(g: &ConvGeometry) -> bool {
    shape(g).tiles() && (g.kernel[1] * g.oc).is_multiple_of(PANEL)
}

/// Bytes of the product that one task needs.
fn product_bytes(g: &ConvGeometry) -> usize {
    if goes_direct(g) {
        return 0;
    }
    let (shape, rows) = (shape(g), block(g));
    let starts = (0..g.oh).step_by(rows);
    let most = starts.map(|r| shape.input_rows(r..(r + rows).min(g.oh)).len()).max().unwrap_or(0);
    (most * g.iw * shape.n() * 4).next_multiple_of(64)
}

/// Scratch bytes of one worker beside the decoded panels.
pub(crate) fn scratch(g: &ConvGeometry) -> usize {
    product_bytes(g) + if shape(g).tiles() { (shape(g).n() * 4).next_multiple_of(64) } else { 0 }
}

pub(super) fn run(
    ctx: &Context<'_>,
    step: &Step,
    mut views: Views<'_>,
    g: &ConvGeometry,
    finish: Finish,
) -> Result<(), String> {
    let matrix = matrix(ctx, step, &views, 0)?;
    let x = floats(views.inputs[0].unwrap_or_default());
    let bias = views.inputs[1].map(floats);
    let slots = Scratch::new(std::mem::take(&mut views.scratch), ctx.pool.threads());
    let [out, ..] = views.outputs;
    let out = floats_mut(out);
    let shape = shape(g);
    let (rows, k, n) = (block(g), g.ic, shape.n());
    let image_out = g.oh * g.ow * g.oc;
    if image_out == 0 {
        return Ok(());
    }
    let layout = panel_layout(n, k, None);
    let decoded = if matches!(matrix, MatrixView::Weights(_)) { layout.bytes } else { 0 };
    // Windows side by side add nothing up: the product is finished at once, the bias once for each tap. But a function of rows much
    // narrower than a panel would be computed for what is not there: it waits until they lie together.
    let tiles = shape.tiles();
    let direct = goes_direct(g);
    let act = activation(finish.act);
    let late = if tiles && n <= PANEL / 2 { act } else { Activation::None };
    let early = if late == Activation::None { act } else { Activation::None };
    for batch in 0..g.batch {
        let image = &x[batch * g.ih * g.iw * k..][..g.ih * g.iw * k];
        let out = &mut out[batch * image_out..(batch + 1) * image_out];
        ctx.pool.chunks_mut(out, rows * g.ow * g.oc, |worker, i, out| {
            let mut slot = slots.slot(worker);
            let (panel_area, area) = slot.split_at_mut(decoded);
            let (product, area) = area.split_at_mut(product_bytes(g));
            let taps = &mut floats_mut(area)[..if tiles { n } else { 0 }];
            let epilogue = match bias.filter(|_| tiles) {
                Some(bias) => {
                    taps.chunks_exact_mut(g.oc).for_each(|tap| tap.copy_from_slice(bias));
                    Epilogue { bias: Some(&*taps), act: early, ..Epilogue::default() }
                }
                None if tiles => Epilogue { act: early, ..Epilogue::default() },
                None => Epilogue::default(),
            };
            let out_rows = i * rows..(i * rows + rows).min(g.oh);
            let inputs = shape.input_rows(out_rows.clone());
            let m = inputs.len() * g.iw;
            let made = if direct { 0 } else { m };
            let product = &mut floats_mut(product)[..made * n];
            let image = &image[inputs.start * g.iw * k..][..m * k];
            let a = Rows::new(image, m, k, k);
            let mut whole = MatMut::new(product, made, n, n);
            for first in (0..n.div_ceil(PANEL)).step_by(layout.panels) {
                let panels = first..(first + layout.panels).min(n.div_ceil(PANEL));
                let each = k * PANEL;
                let weights: &[f32] = match &matrix {
                    MatrixView::Panels(all) => &all[panels.start * each..panels.end * each],
                    MatrixView::Weights(w) => match w.borrow_f32(panels.clone()) {
                        Some(stored) => stored,
                        None => {
                            let area = &mut floats_mut(panel_area)[..panels.len() * each];
                            w.fill_f32(panels.clone(), area);
                            area
                        }
                    },
                };
                let cols = panels.start * PANEL..(panels.end * PANEL).min(n);
                let finished = |cols: Range<usize>| {
                    let bias = epilogue.bias.map(|bias| &bias[cols]);
                    Epilogue { bias, act: epilogue.act, ..Epilogue::default() }
                };
                if !direct {
                    let part = finished(cols.clone());
                    ctx.kernels.gemm_f32.run(whole.part(0..m, cols), a, weights, &part);
                    continue;
                }
                // A row of the result is the taps of one kernel row for each pixel of one input row.
                let run = g.kernel[1] * g.oc;
                for (oy, line) in out.chunks_exact_mut(g.ow * g.oc).enumerate() {
                    let (iy, taps) = (oy / g.kernel[0], oy % g.kernel[0] * run);
                    let own = cols.start.max(taps)..cols.end.min(taps + run);
                    if own.is_empty() {
                        continue;
                    }
                    let a = Rows::new(&image[iy * g.iw * k..][..g.iw * k], g.iw, k, k);
                    let weights = &weights[(own.start - cols.start) / PANEL * each..];
                    let weights = &weights[..own.len().div_ceil(PANEL) * each];
                    let mut line = MatMut::new(line, g.iw, run, run);
                    let to = line.part(0..g.iw, own.start - taps..own.end - taps);
                    ctx.kernels.gemm_f32.run(to, a, weights, &finished(own));
                }
            }
            if direct {
                return;
            }
            if tiles {
                lay_out(&shape, product, out);
                if late != Activation::None {
                    unary(ctx.kernels.loops, UnaryOp::Activation(late), InOut::InPlace(out));
                }
                return;
            }
            let epilogue = Epilogue { bias, act, ..Epilogue::default() };
            let pixels = out_rows.len() * g.ow;
            let out = MatMut::new(out, pixels, g.oc, g.oc);
            ctx.kernels.deconv.run(out, &shape, out_rows, Rows::new(product, m, n, n), &epilogue);
        });
    }
    Ok(())
}
