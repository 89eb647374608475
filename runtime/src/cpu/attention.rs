//! Attention by blocks of rows: the scores of a block exist at a time, never those of a whole head.

use super::matmul::panel_elements;
use super::memory::Views;
use super::{Context, floats, floats_mut};
use crate::device::Scratch;
use crate::plan::{AttentionShape, Head};
use edge_kernels::MatMut;
use edge_kernels::cpu::elementwise::InOut;
use edge_kernels::cpu::gemm_f32::{Epilogue, Rows, Scale, StridedMatrix, pack_panels_f32};
use edge_kernels::cpu::softmax::{Softmax, softmax};

/// Rows of q whose scores exist at a time.
const ROWS: usize = 48;

fn packed_elements(shape: &AttentionShape) -> usize {
    panel_elements(shape.n, shape.d) + panel_elements(shape.e, shape.n)
}

fn score_elements(shape: &AttentionShape) -> usize {
    ROWS.min(shape.m) * shape.n
}

/// Scratch bytes of one worker: a head's k and v in panels, and the scores of a block of rows.
pub(crate) fn scratch(shape: &AttentionShape) -> usize {
    (packed_elements(shape).next_multiple_of(16) + score_elements(shape)) * 4
}

struct Task<'a> {
    ctx: &'a Context<'a>,
    shape: &'a AttentionShape,
    q: &'a [f32],
    k: &'a [f32],
    v: &'a [f32],
    mask: Option<&'a [f32]>,
}

/// softmax(scale q k^T + mask) v of every head.
pub(super) fn run(ctx: &Context<'_>, mut views: Views<'_>, shape: &AttentionShape) {
    let [q, k, v, mask, ..] = views.inputs.map(|x| x.map(floats));
    let scratch = floats_mut(std::mem::take(&mut views.scratch));
    let [out, ..] = views.outputs;
    let (out, threads) = (floats_mut(out), ctx.pool.threads());
    let each = shape.m * shape.e;
    if each == 0 || shape.heads.is_empty() {
        return;
    }
    if shape.n == 0 {
        // A sum over no value.
        out.fill(0.0);
        return;
    }
    let task = Task {
        ctx,
        shape,
        q: q.unwrap_or_default(),
        k: k.unwrap_or_default(),
        v: v.unwrap_or_default(),
        mask,
    };
    if shape.heads.len() >= threads {
        let slots = Scratch::new(scratch, threads);
        ctx.pool.chunks_mut(out, each, |worker, head, out| {
            let mut slot = slots.slot(worker);
            let (packed, scores) = slot.split_at_mut(packed_elements(shape).next_multiple_of(16));
            let head = &shape.heads[head];
            task.pack(head, packed);
            for (i, out) in out.chunks_mut(ROWS * shape.e).enumerate() {
                let rows = out.len() / shape.e;
                task.block(head, i * ROWS, MatMut::new(out, rows, shape.e, shape.e), packed, scores);
            }
        });
        return;
    }
    // Fewer heads than workers: they share the rows of one head after the other.
    let (packed, rest) = scratch.split_at_mut(packed_elements(shape).next_multiple_of(16));
    let rows = shape.m.div_ceil(threads).clamp(1, ROWS);
    for (head, out) in shape.heads.iter().zip(out.chunks_exact_mut(each)) {
        task.pack(head, packed);
        let packed = &*packed;
        let slots = Scratch::new(&mut *rest, threads);
        let mat = MatMut::new(out, shape.m, shape.e, shape.e);
        ctx.pool.tiles(mat, rows, shape.e, |worker, row, _, tile| {
            task.block(head, row, tile, packed, &mut slots.slot(worker));
        });
    }
}

impl Task<'_> {
    /// k and v of a head as panels.
    fn pack(&self, head: &Head, packed: &mut [f32]) {
        let &AttentionShape { n, d, e, k_transposed, .. } = self.shape;
        let (keys, rest) = packed.split_at_mut(panel_elements(n, d));
        let k = &self.k[head.k as usize * n * d..][..n * d];
        let (k_stride, n_stride) = if k_transposed { (n, 1) } else { (1, d) };
        pack_panels_f32(StridedMatrix { data: k, k_stride, n_stride }, d, n, keys);
        let v = &self.v[head.v as usize * n * e..][..n * e];
        let values = &mut rest[..panel_elements(e, n)];
        pack_panels_f32(StridedMatrix { data: v, k_stride: e, n_stride: 1 }, n, e, values);
    }

    /// Rows of one head from `row` on, as many as `out` has.
    fn block(&self, head: &Head, row: usize, out: MatMut<'_, f32>, packed: &[f32], scores: &mut [f32]) {
        let &AttentionShape { m, n, d, e, scale, mask_rows, mask_cols, .. } = self.shape;
        let (rows, gemm) = (out.rows(), self.ctx.kernels.gemm_f32);
        let (keys, values) = packed.split_at(panel_elements(n, d));
        let scores = &mut scores[..rows * n];
        let q = &self.q[head.q as usize * m * d..][row * d..];
        let scale = if scale == 1.0 { Scale::One } else { Scale::Uniform(scale) };
        let epilogue = Epilogue { scale, ..Epilogue::default() };
        gemm.run(MatMut::new(scores, rows, n, n), Rows::new(q, rows, d, d), keys, &epilogue);
        if let Some(mask) = self.mask {
            let mask = &mask[head.mask as usize * mask_rows * mask_cols..][..mask_rows * mask_cols];
            for (i, scores) in scores.chunks_exact_mut(n).enumerate() {
                let from = if mask_rows == 1 { 0 } else { (row + i) * mask_cols };
                match &mask[from..from + mask_cols] {
                    [one] => scores.iter_mut().for_each(|s| *s += one),
                    line => scores.iter_mut().zip(line).for_each(|(s, m)| *s += m),
                }
            }
        }
        softmax(self.ctx.kernels.loops, Softmax::Softmax, [rows, n, 1], InOut::InPlace(scores));
        let values = &values[..panel_elements(e, n)];
        gemm.run(out, Rows::new(scores, rows, n, n), values, &Epilogue::default());
    }
}
