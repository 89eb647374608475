//! Reductions.

use super::memory::Views;
use super::{Context, floats, floats_mut};
use crate::graph::{DType, ReduceOp};
use crate::plan::{AxisShape, Step};
use edge_kernels::cpu::gather::{Extreme, Ties, arg_extreme};
use edge_kernels::cpu::reduce::{self as kernels, IntReduceOp, PartialSums, Reduction};

pub(super) fn run(
    ctx: &Context<'_>,
    step: &Step,
    views: Views<'_>,
    kind: ReduceOp,
    shape: &Reduction,
) -> Result<(), String> {
    let x = views.inputs[0].unwrap_or_default();
    let [out, ..] = views.outputs;
    let loops = ctx.kernels.loops;
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
        kernels::reduce(loops, kind, shape, floats(x), floats_mut(out));
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

pub(super) fn arg(views: Views<'_>, max: bool, last: bool, shape: AxisShape) {
    let x = floats(views.inputs[0].unwrap_or_default());
    let [out, ..] = views.outputs;
    let extreme = if max { Extreme::Largest } else { Extreme::Smallest };
    let ties = if last { Ties::Last } else { Ties::First };
    arg_extreme(extreme, ties, [shape.outer, shape.n, shape.inner], x, super::elements_mut(out));
}

pub(super) fn add_rows(ctx: &Context<'_>, views: Views<'_>, sums: PartialSums) {
    let [state, ..] = views.outputs;
    kernels::add_rows(
        ctx.kernels.loops,
        sums,
        floats(views.inputs[0].unwrap_or_default()),
        floats_mut(state),
    );
}

pub(super) fn sum_rows(views: Views<'_>, divisor: f32) {
    let [out, ..] = views.outputs;
    kernels::total(floats(views.inputs[0].unwrap_or_default()), divisor, floats_mut(out));
}
