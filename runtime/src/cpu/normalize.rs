//! Softmax and normalizations.

use super::memory::Views;
use super::{Context, floats, floats_mut};
use crate::plan::{AxisShape, Step};
use edge_kernels::cpu::elementwise::InOut;
use edge_kernels::cpu::norm::{self, Affine, GroupNorm, Lrn};
use edge_kernels::cpu::softmax::{Softmax, softmax as kernel};

/// Elements of a task.
const CHUNK: usize = 8 << 10;

/// Calls `f` with whole rows of `cols` elements of operand and result, shared among the workers.
fn rows(ctx: &Context<'_>, x: &[f32], out: &mut [f32], cols: usize, f: impl Fn(InOut<'_, f32>) + Sync) {
    if out.is_empty() || cols == 0 {
        return;
    }
    let chunk = (CHUNK / cols).max(1) * cols;
    ctx.pool.chunks_mut(out, chunk, |_, i, out| f(InOut::Apart(&x[i * chunk..][..out.len()], out)));
}

pub(super) fn softmax(ctx: &Context<'_>, views: Views<'_>, log: bool, shape: AxisShape) {
    let x = floats(views.inputs[0].unwrap_or_default());
    let [out, ..] = views.outputs;
    let kind = if log { Softmax::LogSoftmax } else { Softmax::Softmax };
    let cols = shape.n * shape.inner;
    rows(ctx, x, floats_mut(out), cols, |io| {
        let outer = match &io {
            InOut::Apart(x, _) => x.len() / cols,
            InOut::InPlace(x) => x.len() / cols,
        };
        kernel(ctx.kernels.loops, kind, [outer, shape.n, shape.inner], io);
    });
}

fn affine<'a>(views: &Views<'a>) -> Affine<'a> {
    Affine { gamma: views.inputs[1].map(floats), beta: views.inputs[2].map(floats) }
}

pub(super) fn layer_norm(ctx: &Context<'_>, views: Views<'_>, epsilon: f32, cols: usize) {
    let (x, affine) = (floats(views.inputs[0].unwrap_or_default()), affine(&views));
    let [out, ..] = views.outputs;
    rows(ctx, x, floats_mut(out), cols, |io| norm::layer_norm(ctx.kernels.loops, cols, epsilon, affine, io));
}

pub(super) fn rms_norm(ctx: &Context<'_>, views: Views<'_>, epsilon: f32, cols: usize) {
    let (x, affine) = (floats(views.inputs[0].unwrap_or_default()), affine(&views));
    let [out, ..] = views.outputs;
    rows(ctx, x, floats_mut(out), cols, |io| norm::rms_norm(ctx.kernels.loops, cols, epsilon, affine, io));
}

pub(super) fn group_norm(
    ctx: &Context<'_>,
    views: Views<'_>,
    epsilon: f32,
    batch: usize,
    positions: usize,
    channels: usize,
    groups: usize,
) {
    let (x, affine) = (floats(views.inputs[0].unwrap_or_default()), affine(&views));
    let [out, ..] = views.outputs;
    let shape = GroupNorm { batch, positions, channels, groups, epsilon };
    norm::group_norm(ctx.kernels.loops, shape, affine, InOut::Apart(x, floats_mut(out)));
}

pub(super) fn lrn(ctx: &Context<'_>, step: &Step, views: Views<'_>, lrn: Lrn) {
    let channels = step.outputs[0].dims.last().copied().unwrap_or(1);
    let x = floats(views.inputs[0].unwrap_or_default());
    let [out, ..] = views.outputs;
    norm::lrn(ctx.kernels.loops, lrn, channels, x, floats_mut(out));
}
