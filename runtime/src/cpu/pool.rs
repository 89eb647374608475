//! Pooling.

use super::memory::Views;
use super::{Context, floats, floats_mut};
use crate::graph::PoolKind;
use crate::plan::{ConvGeometry, Step};
use edge_kernels::cpu::pool::{self as kernels, AverageRescale, Pool, PoolAxis, PoolCount};

pub(super) fn run(
    ctx: &Context<'_>,
    step: &Step,
    views: Views<'_>,
    kind: PoolKind,
    g: &ConvGeometry,
) -> Result<(), String> {
    let axis = |input, output, kernel, stride, dilation, before, after| PoolAxis {
        input,
        output,
        kernel,
        stride,
        dilation,
        before,
        after,
    };
    let y = axis(g.ih, g.oh, g.kernel[0], g.stride[0], g.dilation[0], g.pad_top, g.pad_bottom);
    let x_axis = axis(g.iw, g.ow, g.kernel[1], g.stride[1], g.dilation[1], g.pad_left, g.pad_right);
    let x = views.inputs[0].unwrap_or_default();
    let [out, ..] = views.outputs;
    let image = g.ih * g.iw * g.ic;
    let result = g.oh * g.ow * g.oc;
    if result == 0 {
        return Ok(());
    }
    let one = Pool { batch: 1, channels: g.ic, y, x: x_axis };
    let loops = ctx.kernels.loops;
    let input = step.inputs[0].as_ref().and_then(|o| o.quant);
    let count = |include_pad| if include_pad { PoolCount::Padded } else { PoolCount::Inside };
    match (input, step.outputs[0].quant) {
        (Some(from), Some(to)) => {
            let (x, out): (&[i8], &mut [i8]) = (super::elements(x), super::elements_mut(out));
            let rescale = AverageRescale {
                multiplier: from.scale / to.scale,
                x_zero: from.zero_point,
                y_zero: to.zero_point,
            };
            ctx.pool.chunks_mut(out, result, |_, batch, out| {
                let x = &x[batch * image..(batch + 1) * image];
                match kind {
                    PoolKind::Max => kernels::max_pool_i8(loops, &one, x, out),
                    PoolKind::Average { include_pad } => {
                        kernels::average_pool_i8(loops, &one, count(include_pad), rescale, x, out);
                    }
                }
            });
        }
        _ => {
            let x = floats(x);
            ctx.pool.chunks_mut(floats_mut(out), result, |_, batch, out| {
                let x = &x[batch * image..(batch + 1) * image];
                match kind {
                    PoolKind::Max => kernels::max_pool_f32(loops, &one, x, out),
                    PoolKind::Average { include_pad } => {
                        kernels::average_pool(loops, &one, count(include_pad), x, out);
                    }
                }
            });
        }
    }
    Ok(())
}
