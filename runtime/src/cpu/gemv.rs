//! Products of a few rows of integers with a weight that lies in planes: read once, as it lies.

use super::memory::Views;
use super::product::{Tail, pitches, result_tiles};
use super::{Context, MatrixView, elements, elements_mut};
use crate::plan::{Finish, Step};
use crate::weights::{PANEL, Weights};
use edge_kernels::cpu::gemm_f32::Rows;
use edge_kernels::cpu::gemv_planes::{MAX_ROWS, Variant};

/// Multiply-adds of a task: about 30 microseconds when a weight of 4 bits comes from memory.
const WORK: usize = 2 << 20;

/// Whether a product of `m` rows takes the weight as it lies, on a CPU that has a kernel for it.
pub(crate) fn pays(weights: &dyn Weights, m: usize) -> bool {
    m <= MAX_ROWS && weights.borrow_planes(0..1).is_some()
}

/// As [`super::product::gemm`], for integers.
pub(super) fn run(
    ctx: &Context<'_>,
    kernel: &Variant,
    step: &Step,
    mut views: Views<'_>,
    [m, n, k]: [usize; 3],
    finish: Finish,
) -> Result<(), String> {
    let (Some(input), MatrixView::Weights(w)) =
        (step.inputs[0].as_ref().and_then(|o| o.quant), super::matrix(ctx, step, &views, 0)?)
    else {
        return Err("a product with planes, of operands that are no integers".into());
    };
    let form = w.borrow_planes(0..1).ok_or("a product with planes, of a weight that has none")?;
    let (pitch_in, pitch_out) = pitches(step, k, n);
    let x: Rows<'_, i8> = Rows::new(elements(views.inputs[0].unwrap_or_default()), m, k, pitch_in);
    let tail = Tail::new(step, &views, n, finish, Some(input));
    let scratch = std::mem::take(&mut views.scratch);
    let count = if form.one_scale { 0 } else { m * form.groups() };
    let sums = &mut elements_mut::<i32>(scratch)[..count];
    if !form.one_scale {
        ctx.kernels.gemm_i8.group_sums(x, form.group, 1, sums);
    }
    let (sums, [out, ..]) = (&*sums, views.outputs);
    let panels = (WORK / (m * k * PANEL).max(1)).clamp(1, n.div_ceil(PANEL));
    result_tiles(
        ctx,
        out,
        [m, n, pitch_out],
        step.outputs[0].quant,
        (m, panels * PANEL),
        |_, _, col, out| {
            let (first, cols) = (col / PANEL, out.cols());
            let Some(w) = w.borrow_planes(first..first + cols.div_ceil(PANEL)) else { return };
            kernel.run(out, x, input.zero_point, sums, &w, &tail.part(0, col, m, cols));
        },
    );
    Ok(())
}
