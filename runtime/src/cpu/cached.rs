//! Attention over keys and values that are kept: a block of tokens at a time, so that what it takes beside them is the same for any context.
//!
//! A task has the heads of queries that share one of keys, and some of the new tokens. Blocks begin at multiples of [`BLOCK`] tokens, whatever
//! is kept and however a text is cut: a token's result has the same bits in a long run and in one of its own.

use super::memory::Views;
use super::{Context, elements, elements_mut, floats, floats_mut};
use crate::device::Scratch;
use crate::graph::DType;
use crate::plan::CachedShape;
use edge_kernels::MatMut;
use edge_kernels::cpu::attention::{
    Kept, KeptMut, PANEL, Running, finish, fold, read, rescale, write_key, write_value,
};
use edge_kernels::cpu::gemm_f32::{Addend, Epilogue, ResidualOrder, Rows, Scale};

/// Tokens of a block of keys and values.
const BLOCK: usize = 128;
/// Rows of queries of a task, where one token has not more: as many as products take well.
const ROWS: usize = 48;
/// Numbers to be kept that pay for being shared among workers.
const SHARED: usize = 16 << 10;

/// Tokens of a task.
fn tokens_of(shape: &CachedShape) -> usize {
    (ROWS / (shape.heads / shape.kv_heads)).clamp(1, shape.tokens.max(1))
}

/// Elements of each part of a worker's scratch: queries, keys, values, scores, sums and the sums to come, softmax so far.
fn parts(shape: &CachedShape) -> [usize; 7] {
    let rows = tokens_of(shape) * (shape.heads / shape.kv_heads);
    let (d, e) = (shape.d, shape.e);
    [rows * d, BLOCK * d, BLOCK * e.next_multiple_of(PANEL), rows * BLOCK, rows * e, rows * e, rows * 2]
        .map(|elements| elements.next_multiple_of(PANEL))
}

/// Scratch bytes of one worker.
pub(crate) fn scratch(shape: &CachedShape) -> usize {
    parts(shape).iter().sum::<usize>() * 4
}

struct Task<'a> {
    ctx: &'a Context<'a>,
    shape: &'a CachedShape,
    q: &'a [f32],
    keys: &'a [u8],
    values: &'a [u8],
    past: usize,
}

pub(super) fn run(ctx: &Context<'_>, mut views: Views<'_>, shape: &CachedShape) -> Result<(), String> {
    let &CachedShape { tokens, heads, kv_heads, e, context, .. } = shape;
    let past = past(views.inputs[3])?;
    if past + tokens > context {
        return Err(format!(
            "{past} tokens are kept and {tokens} more are given; there is room for {context}"
        ));
    }
    let [q, k, v, ..] = views.inputs.map(|x| floats(x.unwrap_or_default()));
    let scratch = floats_mut(std::mem::take(&mut views.scratch));
    let [out, keys, values] = views.outputs;
    append(ctx, shape, past, [k, v], [&mut *keys, &mut *values]);
    let task = Task { ctx, shape, q, keys, values, past };
    let slots = Scratch::new(scratch, ctx.pool.threads());
    let mat = MatMut::new(floats_mut(out), tokens, heads * e, heads * e);
    let each = heads / kv_heads * e;
    ctx.pool.tiles(mat, tokens_of(shape), each, |worker, row, col, tile| {
        task.block(col / each, row, tile, &mut slots.slot(worker));
    });
    Ok(())
}

/// The number that says how many tokens are kept.
pub(super) fn past(bytes: Option<&[u8]>) -> Result<usize, String> {
    let past: &[i64] = elements(bytes.unwrap_or_default());
    let past = past.first().copied().unwrap_or(0);
    // What a context may be at most: sums with it do not wrap.
    const MOST: i64 = 1 << 40;
    if !(0..=MOST).contains(&past) {
        return Err(format!("{past} tokens are kept, a number from 0 on is expected"));
    }
    Ok(past as usize)
}

/// Writes the new keys and values behind the others.
fn append(ctx: &Context<'_>, shape: &CachedShape, past: usize, from: [&[f32]; 2], to: [&mut [u8]; 2]) {
    let &CachedShape { tokens, kv_heads, d, e, context, kept, .. } = shape;
    let loops = ctx.kernels.loops;
    for (i, ((from, to), depth)) in from.into_iter().zip(to).zip([d, e]).enumerate() {
        let write = |head: usize, to: &mut [u8]| {
            for t in 0..tokens {
                let x = &from[(t * kv_heads + head) * depth..][..depth];
                let to = match kept {
                    DType::F32 => KeptMut::F32(elements_mut(to)),
                    _ => KeptMut::F16(elements_mut(to)),
                };
                match i {
                    0 => write_key(loops, to, depth, past + t, x),
                    _ => write_value(loops, to, context, past + t, x),
                }
            }
        };
        let each = to.len() / kv_heads;
        if tokens * kv_heads * depth < SHARED {
            to.chunks_exact_mut(each).enumerate().for_each(|(head, to)| write(head, to));
        } else {
            ctx.pool.chunks_mut(to, each, |_, head, to| write(head, to));
        }
    }
}

impl Task<'_> {
    /// What a head of keys serves, of the tokens from `row` on, as many as `out` has rows.
    fn block(&self, head: usize, row: usize, mut out: MatMut<'_, f32>, scratch: &mut [f32]) {
        let &CachedShape { heads, kv_heads, d, e, context, scale, window, soft_cap, .. } = self.shape;
        let (tokens, each) = (out.rows(), heads / kv_heads);
        let (rows, columns, loops) = (tokens * each, e.next_multiple_of(PANEL), self.ctx.kernels.loops);
        let gemm = self.ctx.kernels.gemm_f32;
        let mut rest = scratch;
        let [q, keys, values, scores, mut sums, mut next, state] = parts(self.shape).map(|part| {
            let (part, after) = std::mem::take(&mut rest).split_at_mut(part);
            rest = after;
            part
        });
        for (t, q) in q.chunks_mut(each * d).take(tokens).enumerate() {
            q.copy_from_slice(&self.q[((row + t) * heads + head * each) * d..][..each * d]);
        }
        let q = Rows::new(&*q, rows, d, d);
        sums[..rows * e].fill(0.0);
        let state = state.as_chunks_mut::<2>().0;
        state[..rows].fill([Running::EMPTY.max, Running::EMPTY.sum]);

        let scaled = Epilogue {
            scale: if scale == 1.0 { Scale::One } else { Scale::Uniform(scale) },
            ..Epilogue::default()
        };
        let first = self.past + row;
        let seen_from = |at: usize| window.map_or(0, |window| (at + 1).saturating_sub(window));
        let end = first + tokens;
        for from in (seen_from(first) / BLOCK * BLOCK..end).step_by(BLOCK) {
            let n = BLOCK.min(end - from);
            let whole = n.next_multiple_of(PANEL);
            self.read(self.keys, head, context * d, from * d..(from + whole) * d, &mut keys[..whole * d]);
            let panels = &keys[..whole * d];
            gemm.run(MatMut::new(&mut *scores, rows, n, BLOCK), q, panels, &scaled);
            for (r, state) in state[..rows].iter_mut().enumerate() {
                let at = first + r / each;
                let line = &mut scores[r * BLOCK..][..n];
                let to = (at + 1).clamp(from, from + n) - from;
                let since = seen_from(at).clamp(from, from + to) - from;
                line[..since].fill(0.0);
                line[to..].fill(0.0);
                if since < to {
                    let mut running = Running { max: state[0], sum: state[1] };
                    let factor = fold(loops, soft_cap, &mut line[since..to], &mut running);
                    *state = [running.max, running.sum];
                    if factor != 1.0 {
                        rescale(loops, &mut sums[r * e..][..e], factor);
                    }
                }
            }
            for (p, panel) in values[..columns * n].chunks_exact_mut(n * PANEL).enumerate() {
                let at = (p * context + from) * PANEL;
                self.read(self.values, head, context * columns, at..at + n * PANEL, panel);
            }
            let residual = Rows::new(&*sums, rows, e, e);
            let added = Epilogue {
                residual: Some((Addend::F32(residual), ResidualOrder::AfterActivation)),
                ..Epilogue::default()
            };
            let scores = Rows::new(&*scores, rows, n, BLOCK);
            gemm.run(MatMut::new(&mut *next, rows, e, e), scores, &values[..columns * n], &added);
            std::mem::swap(&mut sums, &mut next);
        }
        for (t, states) in state[..rows].chunks_exact(each).enumerate() {
            let out = out.row(t).chunks_exact_mut(e);
            for (j, (out, [max, sum])) in out.zip(states).enumerate() {
                let running = Running { max: *max, sum: *sum };
                finish(loops, &sums[(t * each + j) * e..][..e], running, out);
            }
        }
    }

    /// Some elements of what is kept of a head, which has `len` of them.
    fn read(&self, kept: &[u8], head: usize, len: usize, range: std::ops::Range<usize>, to: &mut [f32]) {
        let range = head * len + range.start..head * len + range.end;
        match self.shape.kept {
            DType::F32 => read(Kept::F32(elements(kept)), range, to),
            _ => read(Kept::F16(elements(kept)), range, to),
        }
    }
}
