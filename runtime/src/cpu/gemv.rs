//! Products of a few rows with a weight as it is stored: read once, never decoded into memory.

use super::memory::Views;
use super::product::{pitches, result_tiles};
use super::tail::Tail;
use super::{Context, Kernels, MatrixView, elements, elements_mut};
use crate::device::Scratch;
use crate::plan::{Finish, Quant, Step, Stored};
use crate::weights::{BLOCK, FewPanels, KeptBlocks, PANEL, Weights};
use edge_kernels::MatMut;
use edge_kernels::cpu::gemm_blocks::{gather_f32, gather_i8};
use edge_kernels::cpu::gemm_f32::{Epilogue, Output, Rows};
use edge_kernels::cpu::gemv_bits;
use edge_kernels::cpu::gemv_half;
use edge_kernels::cpu::gemv_planes::{FloatVariant, MAX_ROWS, PlanePanels, Variant, few, rounded};
use edge_kernels::cpu::spread::Few;
use std::ops::Range;

/// Multiply-adds of a task: about 30 microseconds when a weight of 4 bits comes from memory.
const WORK: usize = 2 << 20;

/// Panels of kept blocks whose rows are gathered at a time, when there is one row: scratch has room for four of values, 16 times as much.
const TOGETHER: usize = 8;

/// Most rows of floats with some of every few columns.
const MAX_FLOAT_ROWS: usize = 4;

/// How a weight lies, when a product of `m` rows takes it so on a CPU that has a kernel for it. Integers take codes of at most 8 bits
/// (they have a form then).
pub(crate) fn stored(weights: &dyn Weights, m: usize, integer: bool) -> Option<Stored> {
    if let Some(blocks) = weights.borrow_blocks() {
        let odd = blocks.values.borrow_planes(0..1).is_some_and(|planes| planes.odd);
        let planes = (weights.code_form().is_some() || !integer)
            && odd
            && stored(blocks.values, m, integer) == Some(Stored::Planes);
        return planes.then_some(Stored::BlocksOfPlanes);
    }
    let (some, codes) = (0..1, weights.code_form().is_some());
    if weights.borrow_bits().is_some() {
        let takes = if integer { codes && m <= gemv_bits::MAX_ROWS } else { m <= gemv_bits::MAX_FLOAT_ROWS };
        return takes.then_some(Stored::Bits);
    }
    if let Some(FewPanels { few: Few { keep, of, .. }, .. }) = weights.borrow_few(some.clone()) {
        let plain = weights.borrow_few(some.clone()).is_some_and(|few| few.planes.split.is_plain());
        let takes = if integer { codes && few::takes_codes(keep, of) } else { m <= MAX_FLOAT_ROWS };
        return (plain && takes && m <= MAX_ROWS).then_some(Stored::FewOfPlanes);
    }
    // Of even numbers there are products of integers alone.
    let takes = |planes: PlanePanels<'_>| planes.split.is_plain() && if integer { codes } else { planes.odd };
    if m <= MAX_ROWS && weights.borrow_planes(some.clone()).is_some_and(takes) {
        return Some(Stored::Planes);
    }
    (m <= gemv_half::MAX_ROWS && !integer && weights.borrow_halves(some).is_some()).then_some(Stored::Halves)
}

/// Scratch of a product of `m` rows with some of every few columns: rows filled up.
pub(crate) fn few_scratch(weights: &dyn Weights, m: usize) -> usize {
    let row = |panels: FewPanels<'_>| few::row_bytes(panels.few.keep, panels.few.of, weights.k());
    weights.borrow_few(0..1).map_or(0, row) * m
}

/// Scratch of a product of `m` rows of floats that are rounded by groups of columns, where the weight has codes for that.
pub(crate) fn rounded_scratch(weights: &dyn Weights, m: usize) -> Option<usize> {
    let planes = weights.borrow_planes(0..1).filter(rounded::takes)?;
    let each = planes.k.next_multiple_of(64) + 8 * planes.groups();
    (m <= MAX_ROWS).then_some(m * each + 64)
}

/// What multiplies.
#[derive(Clone, Copy)]
pub(super) enum Kernel {
    /// Integers with planes.
    Codes(&'static Variant),
    /// Floats with planes.
    Floats(&'static FloatVariant),
    /// Integers with some of every few columns.
    FewCodes(&'static few::Variant<u8>),
    /// Floats with some of every few columns.
    FewFloats(&'static few::Variant<f32>),
    /// Either with a bit an element.
    Bits(&'static gemv_bits::Variant),
    /// Floats that are rounded, with planes.
    Rounded(&'static rounded::Variant),
    /// Floats with elements of 16 bits.
    Halves(&'static gemv_half::Variant),
}

impl Kernel {
    pub(super) fn name(self) -> &'static str {
        match self {
            Kernel::Codes(kernel) => kernel.name,
            Kernel::Floats(kernel) => kernel.name,
            Kernel::FewCodes(kernel) => kernel.name,
            Kernel::FewFloats(kernel) => kernel.name,
            Kernel::Bits(kernel) => kernel.name,
            Kernel::Rounded(kernel) => kernel.name,
            Kernel::Halves(kernel) => kernel.name,
        }
    }
}

/// The kernel of such a product, when the device has one for so many rows.
pub(super) fn kernel(kernels: &Kernels, finish: Finish, m: usize, integer: bool) -> Option<Kernel> {
    if finish.rounded
        && !integer
        && let Some(kernel) = kernels.gemv_rounded.filter(|v| m <= v.most_rows)
    {
        return Some(Kernel::Rounded(kernel));
    }
    match (finish.stored?, integer) {
        (Stored::Planes | Stored::BlocksOfPlanes, true) => {
            kernels.gemv_planes.filter(|v| m <= v.most_rows).map(Kernel::Codes)
        }
        (Stored::Planes | Stored::BlocksOfPlanes, false) => {
            kernels.gemv_floats.filter(|v| m <= v.most_rows).map(Kernel::Floats)
        }
        (Stored::FewOfPlanes, true) => kernels.few_codes.filter(|v| m <= v.most_rows).map(Kernel::FewCodes),
        (Stored::FewOfPlanes, false) => {
            kernels.few_floats.filter(|v| m <= v.most_rows).map(Kernel::FewFloats)
        }
        (Stored::Bits, _) => kernels.gemv_bits.map(Kernel::Bits),
        (Stored::Halves, _) => kernels.gemv_half.map(Kernel::Halves),
        (Stored::Blocks, _) => None,
    }
}

/// The kernel of a product of `m` rows of floats with planes that are not floats already, when there is one for so many.
pub(super) fn float_planes(kernels: &Kernels, w: &dyn Weights, m: usize) -> Option<&'static FloatVariant> {
    let kernel = kernels.gemv_floats.filter(|v| m <= v.most_rows)?;
    let takes = |planes: PlanePanels<'_>| planes.odd && planes.split.is_plain();
    (w.borrow_f32(0..1).is_none() && w.borrow_planes(0..1).is_some_and(takes)).then_some(kernel)
}

/// Columns of a task of about so many multiply-adds: whole panels.
fn task_columns(work: usize, [m, n, k]: [usize; 3]) -> usize {
    work.div_ceil((m * k * PANEL).max(1)).clamp(1, n.div_ceil(PANEL).max(1)) * PANEL
}

/// `out[m][n] = x[m][k] · w` by [`float_planes`]'s kernel, tiles shared among the workers.
pub(super) fn product_of_floats(
    ctx: &Context<'_>,
    kernel: &FloatVariant,
    w: &dyn Weights,
    x: &[f32],
    out: &mut [f32],
    [m, n, k]: [usize; 3],
) {
    let epilogue = Epilogue::default();
    ctx.pool.tiles(MatMut::new(out, m, n, n), m, task_columns(WORK, [m, n, k]), |_, _, col, tile| {
        let panels = col / PANEL..(col + tile.cols()).div_ceil(PANEL);
        if let Some(planes) = w.borrow_planes(panels) {
            kernel.run(tile, Rows::new(x, m, k, k), &planes, &epilogue);
        }
    });
}

/// As [`super::product::gemm`], by such a kernel.
pub(super) fn run(
    ctx: &Context<'_>,
    kernel: Kernel,
    step: &Step,
    mut views: Views<'_>,
    [m, n, k]: [usize; 3],
    finish: Finish,
) -> Result<(), String> {
    let MatrixView::Weights(w) = super::matrix(ctx, step, &views, 0)? else {
        return Err("a product with a weight as it is stored, of a matrix that is computed".into());
    };
    let input = step.inputs[0].as_ref().and_then(|o| o.quant);
    let (pitch_in, pitch_out) = pitches(step, k, n);
    let x = views.inputs[0].unwrap_or_default();
    let tail = Tail::new(ctx, step, &mut views, n, finish, input)?;
    let scratch = std::mem::take(&mut views.scratch);
    let stored = if matches!(kernel, Kernel::Rounded(_)) { None } else { finish.stored };
    let ([out, ..], quant) = (views.outputs, step.outputs[0].quant);
    let work = match kernel {
        // Such products follow each other by the hundred: the small ones are shared too.
        Kernel::Rounded(_) => (m * n * k).div_ceil(ctx.pool.threads()).clamp(WORK / 8, WORK),
        _ => WORK,
    };
    let cols = task_columns(work, [m, n, k]);
    let each = |out: &mut [u8], multiply: &(dyn Fn(usize, Output<'_>, &Epilogue<'_>) + Sync)| {
        result_tiles(ctx, out, [m, n, pitch_out], quant, (m, cols), |_, _, col, out| {
            let epilogue = tail.part(0, col, m, out.cols());
            multiply(col / PANEL, out, &epilogue);
        });
    };
    if stored == Some(Stored::BlocksOfPlanes) {
        let blocks = w.borrow_blocks().ok_or("a product with kept blocks, of a weight that has none")?;
        let scratch = Scratch::new(scratch, ctx.pool.threads());
        result_tiles(ctx, out, [m, n, pitch_out], quant, (m, cols), |worker, _, col, mut out| {
            let mut slot = scratch.slot(worker);
            let together = if m == 1 && input.is_none() { TOGETHER } else { 1 };
            for first in (0..out.cols()).step_by(together * PANEL) {
                let own = first..out.cols().min(first + together * PANEL);
                let panels = (col + first) / PANEL..(col + own.end).div_ceil(PANEL);
                let epilogue = tail.part(0, col + first, m, own.len());
                let out = out.columns(own);
                of_panels(kernel, &blocks, panels, (x, m, k, pitch_in), input, &mut slot, out, &epilogue);
            }
        });
        return Ok(());
    }
    if let Kernel::Bits(kernel) = kernel {
        let bits = w.borrow_bits().ok_or("a product with bits, of a weight that has none")?;
        let whole = k.next_multiple_of(BLOCK);
        let codes = if let Some(Quant { zero_point, .. }) = input {
            let x = Rows::new(elements(x), m, k, pitch_in);
            for (r, filled) in scratch[..m * whole].chunks_exact_mut(whole).enumerate() {
                few::fill_row(x.row(r), zero_point, filled);
            }
            Some((Rows::new(&scratch[..m * whole], m, whole, whole), zero_point))
        } else {
            None
        };
        result_tiles(ctx, out, [m, n, pitch_out], quant, (m, cols), |_, _, col, mut out| {
            for first in (0..out.cols()).step_by(PANEL) {
                let own = first..out.cols().min(first + PANEL);
                let panel = (col + first) / PANEL;
                let scales = bits.scales(panel, codes.is_some());
                let epilogue = tail.part(0, col + first, m, own.len());
                let (out, mut sums) = (out.columns(own), gemv_bits::Sums::default());
                match codes {
                    Some((x, zero_point)) => {
                        bits.columns(panel, &mut |columns| kernel.add_i8(columns, x, &mut sums));
                        kernel.finish(&sums, out, Some((&scales, zero_point)), &epilogue);
                    }
                    None => {
                        let x = Rows::new(elements(x), m, k, pitch_in);
                        bits.columns(panel, &mut |columns| kernel.add_f32(columns, &scales, x, &mut sums));
                        kernel.finish(&sums, out, None, &epilogue);
                    }
                }
            }
        });
        return Ok(());
    }
    let panels = |first: usize, out: &Output<'_>| first..first + out.cols().div_ceil(PANEL);
    match (kernel, input) {
        (Kernel::Codes(kernel), Some(Quant { zero_point, .. })) => {
            let form = w.borrow_planes(0..1).ok_or("a product with planes, of a weight that has none")?;
            let rows = Rows::new(elements(x), m, k, pitch_in);
            let (x, sums) = operands(ctx, &form, rows, scratch);
            each(out, &|first, out, epilogue| {
                let Some(w) = w.borrow_planes(panels(first, &out)) else { return };
                kernel.run(out, x, zero_point, sums, &w, epilogue);
            });
        }
        (Kernel::Floats(kernel), None) => {
            let x = Rows::new(elements(x), m, k, pitch_in);
            each(out, &|first, out, epilogue| {
                let Some(w) = w.borrow_planes(panels(first, &out)) else { return };
                kernel.run(out, x, &w, epilogue);
            });
        }
        (Kernel::FewCodes(kernel), Some(Quant { zero_point, .. })) => {
            let form = w.borrow_few(0..1).ok_or("a product with few of some columns, of a weight without")?;
            let row = few::row_bytes(form.few.keep, form.few.of, k);
            let x = Rows::new(elements(x), m, k, pitch_in);
            let filled = &mut scratch[..m * row];
            for (r, filled) in filled.chunks_exact_mut(row).enumerate() {
                few::fill_row(x.row(r), zero_point, filled);
            }
            let x = Rows::new(&*filled, m, row, row);
            each(out, &|first, out, epilogue| {
                let Some(FewPanels { few, planes }) = w.borrow_few(panels(first, &out)) else { return };
                kernel.run(out, x, (k, zero_point), (&few, &planes), epilogue);
            });
        }
        (Kernel::FewFloats(kernel), None) => {
            let x = Rows::new(elements(x), m, k, pitch_in);
            each(out, &|first, out, epilogue| {
                let Some(FewPanels { few, planes }) = w.borrow_few(panels(first, &out)) else { return };
                kernel.run(out, x, (&few, &planes), epilogue);
            });
        }
        (Kernel::Rounded(kernel), None) => {
            let form = w.borrow_planes(0..1).ok_or("a product with planes, of a weight that has none")?;
            let (whole, count) = (k.next_multiple_of(BLOCK), m * form.groups());
            let (codes, rest) = scratch.split_at_mut((m * whole).next_multiple_of(64));
            let (scales, sums) = rest.split_at_mut(4 * count);
            let (codes, scales) = (&mut elements_mut(codes)[..m * whole], elements_mut(scales));
            let sums = &mut elements_mut(sums)[..count];
            let x = Rows::new(elements(x), m, k, pitch_in);
            rounded::round(ctx.kernels.loops, x, form.group, codes, scales, sums);
            let x = rounded::Rounded { codes: Rows::new(codes, m, whole, whole), scales, sums };
            each(out, &|first, out, epilogue| {
                let Some(w) = w.borrow_planes(panels(first, &out)) else { return };
                kernel.run(out, x, &w, epilogue);
            });
        }
        (Kernel::Halves(kernel), None) => {
            let x = Rows::new(elements(x), m, k, pitch_in);
            each(out, &|first, out, epilogue| {
                let Some(w) = w.borrow_halves(panels(first, &out)) else { return };
                kernel.run(out, x, &w, epilogue);
            });
        }
        _ => {
            return Err(
                "a product with a weight as it is stored, of operands that its kernel does not take".into()
            );
        }
    }
    Ok(())
}

/// Rows of integers filled up to whole blocks, and the sums of their groups.
fn operands<'s>(
    ctx: &Context<'_>,
    form: &PlanePanels<'_>,
    x: Rows<'s, i8>,
    scratch: &'s mut [u8],
) -> (Rows<'s, i8>, &'s [i32]) {
    let (m, k) = (x.rows(), x.cols());
    let (sums, filled) = scratch.split_at_mut(m * form.groups() * 4);
    let sums: &mut [i32] = elements_mut(sums);
    let sums: &[i32] = if form.one_scale {
        &[]
    } else {
        ctx.kernels.gemm_i8.group_sums(x, form.group, 1, sums);
        sums
    };
    let whole = k.next_multiple_of(BLOCK);
    if k == whole {
        return (x, sums);
    }
    let rows = &mut elements_mut::<i8>(filled)[..m * whole];
    for (r, row) in rows.chunks_exact_mut(whole).enumerate() {
        row[..k].copy_from_slice(x.row(r));
        row[k..].fill(0);
    }
    (Rows::new(rows, m, whole, whole), sums)
}

/// Some panels of a product with kept blocks of planes: rows of what each keeps, times its values. Of one row of floats at
/// most [`TOGETHER`], else one.
#[allow(clippy::too_many_arguments)] // a part of a loop
fn of_panels(
    kernel: Kernel,
    blocks: &KeptBlocks<'_>,
    panels: Range<usize>,
    (x, m, k, pitch): (&[u8], usize, usize, usize),
    input: Option<Quant>,
    slot: &mut [u8],
    out: Output<'_>,
    epilogue: &Epilogue<'_>,
) {
    let (values, rows) = (blocks.values, blocks.kept.rows());
    match (kernel, input) {
        (Kernel::Codes(kernel), Some(Quant { zero_point, .. })) => {
            let (x, whole) = (Rows::new(elements::<i8>(x), m, k, pitch), rows.next_multiple_of(BLOCK));
            let gathered = &mut elements_mut::<i8>(slot)[..m * whole];
            let Some(planes) = values.borrow_planes(panels.clone()) else { return };
            for (r, gathered) in gathered.chunks_exact_mut(whole).enumerate() {
                gather_i8(&blocks.kept, panels.start, x.row(r), zero_point as i8, gathered);
                gathered[rows..].fill(0);
            }
            kernel.run(out, Rows::new(gathered, m, whole, whole), zero_point, &[], &planes, epilogue);
        }
        (Kernel::Floats(kernel), None) => {
            let Some(planes) = values.borrow_planes(panels.clone()) else { return };
            let x = Rows::new(elements::<f32>(x), m, k, pitch);
            let count = m * panels.len();
            let gathered = &mut elements_mut::<f32>(slot)[..count * rows];
            for (i, gathered) in gathered.chunks_exact_mut(rows).enumerate() {
                gather_f32(&blocks.kept, panels.start + i / m, x.row(i % m), 0.0, gathered);
            }
            let x = Rows::new(gathered, count, rows, rows);
            match m {
                1 => kernel.run_own_rows(out, x, &planes, epilogue),
                _ => kernel.run(out, x, &planes, epilogue),
            }
        }
        _ => {}
    }
}
