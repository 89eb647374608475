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
    Kept, KeptMut, PANEL, Running, finish, fold, read_keys, read_values, rescale, write_key, write_value,
};
use edge_kernels::cpu::gemm_f32::{Addend, Epilogue, ResidualOrder, Rows, Scale};
use edge_kernels::cpu::gemv_half::{self, Half, HalfPanels};

/// Tokens of a block of keys and values.
const BLOCK: usize = 128;
/// Rows of queries of a task, where one token has not more: as many as products take well.
const ROWS: usize = 48;
/// Rows that are multiplied with halves as they lie, where there is a kernel for that.
const FEW: usize = 16;
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
                    DType::I8 => {
                        let (codes, scales) = to.split_at_mut(context * depth.next_multiple_of(PANEL));
                        KeptMut::I8 { codes: elements_mut(codes), scales: elements_mut(scales) }
                    }
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
        let few = self.ctx.kernels.gemv_half.filter(|_| rows <= FEW && self.shape.kept == DType::F16);
        let mut rest = scratch;
        let [q, keys, values, scores, mut sums, mut next, state] = parts(self.shape).map(|part| {
            let (part, after) = std::mem::take(&mut rest).split_at_mut(part);
            rest = after;
            part
        });
        let own = |all: &'_ [u8]| all.len() / kv_heads * head..all.len() / kv_heads * (head + 1);
        let (own_keys, own_values) = (&self.keys[own(self.keys)], &self.values[own(self.values)]);
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
            let to = MatMut::new(&mut *scores, rows, n, BLOCK);
            match few {
                Some(kernel) => {
                    let bytes = &own_keys[2 * from * d..2 * (from + whole) * d];
                    halves(kernel, to, q, bytes, &scaled);
                }
                None => {
                    let panels = &mut keys[..whole * d];
                    read_keys(loops, self.kept(own_keys, d), d, from..from + whole, panels);
                    gemm.run(to, q, panels, &scaled);
                }
            }
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
            let (residual, scores) = (Rows::new(&*sums, rows, e, e), Rows::new(&*scores, rows, n, BLOCK));
            let added = Epilogue {
                residual: Some((Addend::F32(residual), ResidualOrder::AfterActivation)),
                ..Epilogue::default()
            };
            let mut to = MatMut::new(&mut *next, rows, e, e);
            if let Some(kernel) = few {
                for p in 0..columns / PANEL {
                    let (own, at) = (p * PANEL..e.min((p + 1) * PANEL), (p * context + from) * PANEL);
                    let residual = Rows::new(&sums[own.start..rows * e], rows, own.len(), e);
                    let added = Epilogue {
                        residual: Some((Addend::F32(residual), ResidualOrder::AfterActivation)),
                        ..Epilogue::default()
                    };
                    let bytes = &own_values[2 * at..2 * (at + n * PANEL)];
                    halves(kernel, to.part(0..rows, own), scores, bytes, &added);
                }
            } else {
                for (p, panel) in values[..columns * n].chunks_exact_mut(n * PANEL).enumerate() {
                    read_values(loops, self.kept(own_values, e), context, p, from..from + n, panel);
                }
                gemm.run(to, scores, &values[..columns * n], &added);
            }
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

    /// What is kept of a head, keys or values of so many elements.
    fn kept<'k>(&self, head: &'k [u8], depth: usize) -> Kept<'k> {
        match self.shape.kept {
            DType::F32 => Kept::F32(elements(head)),
            DType::I8 => {
                let (codes, scales) = head.split_at(self.shape.context * depth.next_multiple_of(PANEL));
                Kept::I8 { codes: elements(codes), scales: elements(scales) }
            }
            _ => Kept::F16(elements(head)),
        }
    }
}

/// The product of a few rows with panels of f16 as they lie: the bits of that with floats.
fn halves(
    kernel: &gemv_half::Variant,
    mut out: MatMut<'_, f32>,
    x: Rows<'_, f32>,
    bytes: &[u8],
    epilogue: &Epilogue<'_>,
) {
    let panels = HalfPanels { kind: Half::F16, bytes, k: x.cols() };
    let cols = 0..out.cols();
    kernel.run(out.part(0..x.rows(), cols), x, &panels, epilogue);
}
