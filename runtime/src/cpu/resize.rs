//! Resizing along one axis.

use super::memory::Views;
use super::{Context, floats, floats_mut};
use crate::plan::{AxisShape, Step};
use edge_kernels::cpu::resize::{AxisSpec, AxisTable, resize_axis_f32, resize_axis_i8};

pub(super) fn run(
    ctx: &Context<'_>,
    step: &Step,
    views: Views<'_>,
    shape: AxisShape,
    spec: &AxisSpec,
) -> Result<(), String> {
    let x = views.inputs[0].unwrap_or_default();
    let indices: &[u32] = super::elements(views.inputs[1].unwrap_or_default());
    let weights = floats(views.inputs[2].unwrap_or_default());
    let [out, ..] = views.outputs;
    let table = AxisTable::new(spec, indices, weights);
    let (loops, inner) = (ctx.kernels.loops, shape.inner);
    if shape.outer * inner * spec.output == 0 {
        return Ok(());
    }
    // One task for each position of the outer dimensions: rows of a picture, or pictures.
    let (read, written) = (spec.input * inner, spec.output * inner);
    if step.outputs[0].quant.is_some() {
        let x: &[i8] = super::elements(x);
        ctx.pool.chunks_mut(super::elements_mut::<i8>(out), written, |_, i, out| {
            resize_axis_i8(loops, &table, 1, inner, &x[i * read..(i + 1) * read], out);
        });
    } else {
        let x = floats(x);
        ctx.pool.chunks_mut(floats_mut(out), written, |_, i, out| {
            resize_axis_f32(loops, &table, 1, inner, &x[i * read..(i + 1) * read], out);
        });
    }
    Ok(())
}
