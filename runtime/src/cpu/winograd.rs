//! Convolutions by Winograd's tiles: the filters are transformed by a step of their own.

use super::memory::Views;
use super::panels::{HELD_BYTES, Held, float_panels};
use super::product::{WORK, conv_shape, element, pitches, result_tiles};
use super::tail::Tail;
use super::tasks::balanced;
use super::{Context, floats, floats_mut, matrix};
use crate::device::Scratch;
use crate::plan::{ConvGeometry, Finish, Step};
use crate::weights::PANEL;
use edge_kernels::MatMut;
use edge_kernels::cpu::gemm_f32::Output;
use edge_kernels::cpu::winograd::{POINTS, TILE, Transformed, filters, fits, scratch_floats};

/// Output rows of a tile.
pub(crate) const ROWS: usize = TILE;
/// Least rows of the products of a task.
const LEAST_TILES: usize = 12;
/// Least output channels of a task that takes some: the panels that a product takes together.
const LEAST_OUT: usize = 2 * PANEL;
/// Channels below which transforming takes longer than what it saves: less than a register has.
const LEAST_CHANNELS: usize = 16;
/// Tiles below which transforming the filters, which every run does, takes longer than what it saves.
const LEAST_IMAGE: usize = 9;
/// Most bytes of transformed filters: they are read again for every block of tiles.
const FILTER_BYTES: usize = 4 << 20;

/// Bytes of the transformed filters, and of one worker's scratch; `None` for a convolution that tiles cannot do, or not faster.
pub(crate) fn memory(g: &ConvGeometry) -> Option<(usize, usize)> {
    let tiles = g.batch * g.oh.div_ceil(TILE) * g.ow.div_ceil(TILE);
    let pays = g.groups == 1
        && g.ic >= LEAST_CHANNELS
        && g.oc >= LEAST_CHANNELS
        && tiles >= LEAST_IMAGE
        && fits(&conv_shape(g, g.ic, 0));
    let filters = filters(g.ic, g.oc).filter(|_| pays)?.1.checked_mul(POINTS * 4)?;
    let scratch = scratch_floats(g.ic, g.oc)?.checked_mul(4)?;
    (filters <= FILTER_BYTES).then_some((filters, scratch.next_multiple_of(64)))
}

/// Scratch bytes of one worker for [`transform`]: a decoded panel.
pub(crate) fn transform_scratch(ic: usize) -> usize {
    HELD_BYTES + 9 * ic * PANEL * 4
}

/// Transforms the filters, panel by panel.
pub(super) fn transform(
    ctx: &Context<'_>,
    step: &Step,
    mut views: Views<'_>,
    ic: usize,
    oc: usize,
) -> Result<(), String> {
    let matrix = matrix(ctx, step, &views, 0)?;
    let scratch = Scratch::new(std::mem::take(&mut views.scratch), ctx.pool.threads());
    Held::clear(&scratch, ctx.pool.threads());
    let [out, ..] = views.outputs;
    let (row, apart) = filters(ic, oc).ok_or("filters beyond the address space")?;
    let each = ic * PANEL;
    let out = MatMut::new(floats_mut(out), POINTS, row, apart);
    ctx.pool.tiles(out, POINTS, each, |worker, _, col, out| {
        let (panel, mut slot) = (col / each, scratch.slot(worker));
        let weights = float_panels(&matrix, panel..panel + 1, 9 * each, &mut slot);
        ctx.kernels.winograd.transform(weights, out);
    });
    Ok(())
}

/// Runs a convolution of floats whose filters are transformed.
pub(super) fn run(
    ctx: &Context<'_>,
    step: &Step,
    mut views: Views<'_>,
    g: &ConvGeometry,
    finish: Finish,
) -> Result<(), String> {
    let transformed = floats(views.panels[0].unwrap_or_default());
    let x = floats(views.inputs[0].unwrap_or_default());
    let tail = Tail::new(ctx, step, &mut views, g.oc, finish, None)?;
    let scratch = Scratch::new(std::mem::take(&mut views.scratch), ctx.pool.threads());
    let [out, ..] = views.outputs;
    let (pitch_in, pitch_out) = pitches(step, g.ic, g.oc);
    let (shape, pixels) = (conv_shape(g, pitch_in, 0), g.oh * g.ow);
    let across = g.ow.div_ceil(TILE);
    let work = across * POINTS * g.ic * g.oc.next_multiple_of(PANEL);
    let most = (WORK / work.max(1)).max(LEAST_TILES.div_ceil(across.max(1))).max(1);
    let least = LEAST_TILES.div_ceil(across.max(1));
    let rows = balanced(ctx.pool, g.oh.div_ceil(TILE), (least, most), 1);
    // Of a small picture the filters are most of what is read: each thread takes some of them.
    let channels = match g.oh.div_ceil(TILE) <= rows {
        true => (g.oc.div_ceil(ctx.pool.threads())).next_multiple_of(LEAST_OUT),
        false => g.oc,
    };
    let rows = rows * TILE * g.ow;
    let image = g.ih * g.iw * pitch_in;
    let quant = step.outputs[0].quant;
    for batch in 0..g.batch {
        let src = &x[batch * image..x.len().min((batch + 1) * image)];
        let part = |worker: usize, first: usize, channel: usize, out: Output<'_>| {
            let epilogue = tail.part(batch * pixels + first, channel, out.rows(), out.cols());
            let transformed = Transformed { filters: transformed, n: g.oc, first: channel };
            let lines = first / g.ow..(first + out.rows()) / g.ow;
            let mut slot = scratch.slot(worker);
            let (kernels, scratch) = (&ctx.kernels, floats_mut(&mut slot));
            kernels.winograd.run(out, &shape, lines, src, transformed, kernels.gemm_f32, &epilogue, scratch);
        };
        let (out, size) =
            (&mut out[batch * pixels * pitch_out * element(quant)..], [pixels, g.oc, pitch_out]);
        result_tiles(ctx, out, size, quant, (rows, channels), part);
    }
    Ok(())
}
