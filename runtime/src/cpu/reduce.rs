//! Reductions.

use super::memory::Views;
use super::{Context, floats, floats_mut};
use crate::graph::{DType, ReduceOp};
use crate::plan::{AxisShape, Quant, Step};
use edge_kernels::cpu::gather::{Extreme, Ties, arg_extreme};
use edge_kernels::cpu::reduce::{self as kernels, IntReduceOp, PartialSums, Reduction};

/// Elements of an operand that pay for being shared.
const SHARED: usize = 16 << 10;
/// The same of codes, which take a fourth of the time.
const SHARED_CODES: usize = 4 * SHARED;
/// Elements of a cache line.
const LINE: usize = 16;

pub(super) fn run(
    ctx: &Context<'_>,
    step: &Step,
    views: Views<'_>,
    kind: ReduceOp,
    shape: &Reduction,
) -> Result<(), String> {
    let x = views.inputs[0].unwrap_or_default();
    let [out, ..] = views.outputs;
    if let Some(quant) = step.inputs[0].as_ref().and_then(|x| x.quant) {
        let divisor = if kind == ReduceOp::Mean { shape.count() as f32 } else { 1.0 };
        out.fill(0);
        add_codes(ctx, super::elements(x), super::elements_mut(out));
        floats_of_codes(super::elements_mut(out), divisor, quant, shape.count());
        return Ok(());
    }
    if step.outputs[0].dtype == DType::F32 {
        let kind = match kind {
            ReduceOp::Sum => kernels::ReduceOp::Sum,
            ReduceOp::Mean => kernels::ReduceOp::Mean,
            ReduceOp::Max => kernels::ReduceOp::Max,
            ReduceOp::Min => kernels::ReduceOp::Min,
            ReduceOp::Prod => kernels::ReduceOp::Prod,
            ReduceOp::L1 => kernels::ReduceOp::L1,
            ReduceOp::L2 => kernels::ReduceOp::L2,
            ReduceOp::LogSum => kernels::ReduceOp::LogSum,
            ReduceOp::LogSumExp => kernels::ReduceOp::LogSumExp,
            ReduceOp::SumSquare => kernels::ReduceOp::SumSquare,
        };
        floats_to(ctx, kind, shape, floats(x), floats_mut(out));
        return Ok(());
    }
    let integer = match kind {
        ReduceOp::Sum => IntReduceOp::Sum,
        ReduceOp::Max => IntReduceOp::Max,
        ReduceOp::Min => IntReduceOp::Min,
        ReduceOp::Prod => IntReduceOp::Prod,
        ReduceOp::L1 => IntReduceOp::L1,
        ReduceOp::SumSquare => IntReduceOp::SumSquare,
        other => return Err(format!("{other:?} of integers")),
    };
    match step.outputs[0].dtype {
        DType::I32 => {
            kernels::reduce_int::<i32>(integer, shape, super::elements(x), super::elements_mut(out));
        }
        _ => kernels::reduce_int::<i64>(integer, shape, super::elements(x), super::elements_mut(out)),
    }
    Ok(())
}

/// Reduces floats, each thread to some of the results.
fn floats_to(ctx: &Context<'_>, kind: kernels::ReduceOp, shape: &Reduction, x: &[f32], out: &mut [f32]) {
    let (loops, threads) = (ctx.kernels.loops, ctx.pool.threads());
    if threads == 1 || x.len() < SHARED || shape.len() < 2 * threads || shape.part(0..0).is_none() {
        return kernels::reduce(loops, kind, shape, x, out);
    }
    // Whole cache lines of columns.
    let each = shape.len().div_ceil(threads).next_multiple_of(LINE);
    ctx.pool.chunks_mut(out, each, |_, i, out| {
        let Some((part, first)) = shape.part(i * each..i * each + out.len()) else { return };
        kernels::reduce(loops, kind, &part, &x[first..][..part.operand_len()], out);
    });
}

pub(super) fn arg(views: Views<'_>, max: bool, last: bool, shape: AxisShape) {
    let x = floats(views.inputs[0].unwrap_or_default());
    let [out, ..] = views.outputs;
    let extreme = if max { Extreme::Largest } else { Extreme::Smallest };
    let ties = if last { Ties::Last } else { Ties::First };
    arg_extreme(extreme, ties, [shape.outer, shape.n, shape.inner], x, super::elements_mut(out));
}

pub(super) fn add_rows(ctx: &Context<'_>, step: &Step, views: Views<'_>, sums: PartialSums) {
    let [state, ..] = views.outputs;
    let x = views.inputs[0].unwrap_or_default();
    if step.inputs[0].as_ref().is_some_and(|x| x.quant.is_some()) {
        if sums.before == 0 {
            state.fill(0);
        }
        return add_codes(ctx, super::elements(x), super::elements_mut(state));
    }
    kernels::add_rows(ctx.kernels.loops, sums, floats(x), floats_mut(state));
}

pub(super) fn sum_rows(views: Views<'_>, divisor: f32, codes: Option<(Quant, usize)>) {
    let [out, ..] = views.outputs;
    let state = views.inputs[0].unwrap_or_default();
    match codes {
        None => kernels::total(floats(state), divisor, floats_mut(out)),
        Some((quant, count)) => {
            out.copy_from_slice(state);
            floats_of_codes(super::elements_mut(out), divisor, quant, count);
        }
    }
}

/// Adds rows of codes to as many sums as a row is long, each thread to some of them.
fn add_codes(ctx: &Context<'_>, codes: &[i8], sums: &mut [i32]) {
    let (loops, threads, pitch) = (ctx.kernels.loops, ctx.pool.threads(), sums.len());
    if threads == 1 || codes.len() < SHARED_CODES || pitch < 2 * LINE {
        return kernels::add_codes(loops, codes, pitch, sums);
    }
    let each = pitch.div_ceil(threads).next_multiple_of(LINE);
    ctx.pool.chunks_mut(sums, each, |_, i, sums| {
        let (first, past) = (i * each, pitch - i * each - sums.len());
        kernels::add_codes(loops, &codes[first..codes.len() - past], pitch, sums);
    });
}

/// Makes reals of sums of `count` codes each, in their place: `(sum - count * zero point) * scale / divisor`.
fn floats_of_codes(sums: &mut [i32], divisor: f32, quant: Quant, count: usize) {
    let zeros = count as i64 * i64::from(quant.zero_point);
    for word in sums {
        let real = (i64::from(*word) - zeros) as f32 * quant.scale / divisor;
        *word = real.to_bits().cast_signed();
    }
}
