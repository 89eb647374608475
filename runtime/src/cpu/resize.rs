//! Resizing along one axis.

use super::memory::Views;
use super::{Context, floats, floats_mut};
use crate::plan::{AxisShape, Step};
use edge_kernels::cpu::resize::{AxisSpec, AxisTable, resize_axis_f32, resize_axis_i8};
use std::ops::Range;

/// Elements of a task along a single axis: about 20 microseconds of work.
const CHUNK: usize = 16 << 10;

/// Resizes to the results `results` along the axis, of the operand's elements `operand`.
pub(super) fn run(
    ctx: &Context<'_>,
    step: &Step,
    views: Views<'_>,
    shape: AxisShape,
    spec: &AxisSpec,
    results: Range<usize>,
    operand: Range<usize>,
) {
    let x = views.inputs[0].unwrap_or_default();
    let indices: &[u32] = super::elements(views.inputs[1].unwrap_or_default());
    let weights = floats(views.inputs[2].unwrap_or_default());
    let [out, ..] = views.outputs;
    let table = AxisTable::new(spec, indices, weights);
    let inner = shape.inner;
    if shape.outer * inner * results.len() == 0 {
        return;
    }
    // A task for each position of the outer dimensions: rows of a picture, or pictures. Of a single one, for some results.
    let each = if shape.outer > 1 { results.len() } else { (CHUNK / inner).clamp(1, results.len()) };
    let read = operand.len() * inner;
    let task = |i: usize| {
        let (outer, first) = if shape.outer > 1 { (i, 0) } else { (0, i * each) };
        let some = results.start + first..(results.start + first + each).min(results.end);
        (outer * read..(outer + 1) * read, table.part(some, operand.clone()))
    };
    let loops = ctx.kernels.loops;
    if step.outputs[0].quant.is_some() {
        let x: &[i8] = super::elements(x);
        ctx.pool.chunks_mut(super::elements_mut::<i8>(out), each * inner, |_, i, out| {
            let (read, table) = task(i);
            resize_axis_i8(loops, &table, 1, inner, &x[read], out);
        });
    } else {
        let x = floats(x);
        ctx.pool.chunks_mut(floats_mut(out), each * inner, |_, i, out| {
            let (read, table) = task(i);
            resize_axis_f32(loops, &table, 1, inner, &x[read], out);
        });
    }
}
