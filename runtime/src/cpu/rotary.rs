//! Rotary positions.

use super::memory::Views;
use super::{Context, cached, floats, floats_mut};
use edge_kernels::cpu::elementwise::InOut;
use edge_kernels::cpu::rotary;

/// Elements of a task.
const CHUNK: usize = 8 << 10;

pub(super) fn table(ctx: &Context<'_>, views: Views<'_>) -> Result<(), String> {
    let (past, frequencies) = (cached::past(views.inputs[0])?, floats(views.inputs[1].unwrap_or_default()));
    let [out, ..] = views.outputs;
    let width = 2 * frequencies.len();
    if out.is_empty() {
        return Ok(());
    }
    let rows = (CHUNK / 8 / width).max(1);
    ctx.pool.chunks_mut(floats_mut(out), rows * width, |_, i, out| {
        rotary::table(ctx.kernels.loops, (past + i * rows) as u64, frequencies, out);
    });
    Ok(())
}

pub(super) fn turn(ctx: &Context<'_>, views: Views<'_>, [heads, depth, width]: [usize; 3]) {
    let (x, table) = (views.inputs[0].map(floats), floats(views.inputs[1].unwrap_or_default()));
    let [out, ..] = views.outputs;
    let each = heads * depth;
    let rows = (CHUNK / each).max(1);
    ctx.pool.chunks_mut(floats_mut(out), rows * each, |_, i, out| {
        let table = &table[i * rows * width..][..out.len() / each * width];
        let io = match x {
            Some(x) => InOut::Apart(&x[i * rows * each..][..out.len()], out),
            // It is the result's buffer.
            None => InOut::InPlace(out),
        };
        rotary::turn(ctx.kernels.loops, table, [heads, depth, width], io);
    });
}
