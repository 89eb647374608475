//! Products of a few rows with a weight that lies in planes: read once, as it lies.

use super::memory::Views;
use super::product::{Tail, pitches, result_tiles};
use super::{Context, Kernels, MatrixView, elements, elements_mut};
use crate::plan::{Finish, Step};
use crate::weights::{BLOCK, PANEL, Weights};
use edge_kernels::cpu::gemm_f32::Rows;
use edge_kernels::cpu::gemv_planes::{FloatVariant, MAX_ROWS, Variant};

/// Multiply-adds of a task: about 30 microseconds when a weight of 4 bits comes from memory.
const WORK: usize = 2 << 20;

/// Whether a product of `m` rows takes the weight as it lies, on a CPU that has a kernel for it; of integers, codes have at most
/// 8 bits (they have a form then).
pub(crate) fn pays(weights: &dyn Weights, m: usize, integer: bool) -> bool {
    let taken = !integer || weights.code_form().is_some();
    m <= MAX_ROWS && taken && weights.borrow_planes(0..1).is_some()
}

/// The kernel of such a product, when the device has one for so many rows.
pub(super) fn kernel(kernels: &Kernels, finish: Finish, m: usize) -> Option<&'static Variant> {
    kernels.gemv_planes.filter(|kernel| finish.planes && m <= kernel.most_rows)
}

/// [`kernel`] of a product of floats.
pub(super) fn float_kernel(kernels: &Kernels, finish: Finish, m: usize) -> Option<&'static FloatVariant> {
    kernels.gemv_floats.filter(|kernel| finish.planes && m <= kernel.most_rows)
}

/// Columns of a task of `m` rows.
fn columns([m, n, k]: [usize; 3]) -> usize {
    (WORK / (m * k * PANEL).max(1)).clamp(1, n.div_ceil(PANEL)) * PANEL
}

/// As [`super::product::gemm`], for floats.
pub(super) fn run_floats(
    ctx: &Context<'_>,
    kernel: &FloatVariant,
    step: &Step,
    views: Views<'_>,
    [m, n, k]: [usize; 3],
    finish: Finish,
) -> Result<(), String> {
    let MatrixView::Weights(w) = super::matrix(ctx, step, &views, 0)? else {
        return Err("a product with planes, of a matrix that has none".into());
    };
    let (pitch_in, pitch_out) = pitches(step, k, n);
    let x: Rows<'_, f32> = Rows::new(elements(views.inputs[0].unwrap_or_default()), m, k, pitch_in);
    let tail = Tail::new(step, &views, n, finish, None);
    let ([out, ..], cols) = (views.outputs, columns([m, n, k]));
    result_tiles(ctx, out, [m, n, pitch_out], step.outputs[0].quant, (m, cols), |_, _, col, out| {
        let (first, cols) = (col / PANEL, out.cols());
        let Some(w) = w.borrow_planes(first..first + cols.div_ceil(PANEL)) else { return };
        kernel.run(out, x, &w, &tail.part(0, col, m, cols));
    });
    Ok(())
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
    let (sums, filled) = std::mem::take(&mut views.scratch).split_at_mut(m * form.groups() * 4);
    let sums = elements_mut::<i32>(sums);
    let sums: &[i32] = if form.one_scale {
        &[]
    } else {
        ctx.kernels.gemm_i8.group_sums(x, form.group, 1, sums);
        sums
    };
    let whole = k.next_multiple_of(BLOCK);
    let x = if k == whole {
        x
    } else {
        let rows = &mut elements_mut::<i8>(filled)[..m * whole];
        for (r, row) in rows.chunks_exact_mut(whole).enumerate() {
            row[..k].copy_from_slice(x.row(r));
            row[k..].fill(0);
        }
        Rows::new(rows, m, whole, whole)
    };
    let [out, ..] = views.outputs;
    let cols = columns([m, n, k]);
    result_tiles(ctx, out, [m, n, pitch_out], step.outputs[0].quant, (m, cols), |_, _, col, out| {
        let (first, cols) = (col / PANEL, out.cols());
        let Some(w) = w.borrow_planes(first..first + cols.div_ceil(PANEL)) else { return };
        kernel.run(out, x, input.zero_point, sums, &w, &tail.part(0, col, m, cols));
    });
    Ok(())
}
