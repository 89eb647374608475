//! Products of two computed matrices: the right one is packed into panels first.

use super::memory::Views;
use super::{Context, floats, floats_mut};
use crate::device::Scratch;
use crate::plan::MatMulShape;
use crate::weights::PANEL;
use edge_kernels::MatMut;
use edge_kernels::cpu::gemm_f32::{Epilogue, Rows, Scale, StridedMatrix, pack_panels_f32};

/// Rows of a task when one product is shared by the workers.
const ROWS: usize = 48;

/// Elements of a `[n, k]` matrix in panels.
pub(super) fn panel_elements(n: usize, k: usize) -> usize {
    n.div_ceil(PANEL) * PANEL * k
}

/// Scratch bytes of one worker: the packed right matrix, and the left one when it is stored transposed.
pub(crate) fn scratch(shape: &MatMulShape) -> usize {
    let left = if shape.trans_a { shape.m * shape.k } else { 0 };
    (panel_elements(shape.n, shape.k) + left) * 4
}

/// The stored matrix [n, k] as panels.
pub(super) fn pack(views: Views<'_>, n: usize, k: usize) {
    let w = floats(views.inputs[0].unwrap_or_default());
    let [out, ..] = views.outputs;
    pack_panels_f32(StridedMatrix { data: w, k_stride: 1, n_stride: k }, k, n, floats_mut(out));
}

pub(super) fn run(ctx: &Context<'_>, mut views: Views<'_>, shape: &MatMulShape) {
    let (m, n, k) = (shape.m, shape.n, shape.k);
    let a = floats(views.inputs[0].unwrap_or_default());
    let b = floats(views.inputs[1].unwrap_or_default());
    let scratch = std::mem::take(&mut views.scratch);
    let [out, ..] = views.outputs;
    let out = floats_mut(out);
    if m * n == 0 {
        return;
    }
    let epilogue = Epilogue {
        scale: if shape.alpha == 1.0 { Scale::One } else { Scale::Uniform(shape.alpha) },
        ..Epilogue::default()
    };
    let gemm = ctx.kernels.gemm_f32;
    if shape.pairs.len() >= ctx.pool.threads() && shape.pairs.len() > 1 {
        let slots = Scratch::new(scratch, ctx.pool.threads());
        ctx.pool.chunks_mut(out, m * n, |worker, i, out| {
            let mut slot = slots.slot(worker);
            let (panels, left) = operands(shape, shape.pairs[i], a, b, &mut slot);
            gemm.run(MatMut::new(out, m, n, n), Rows::new(left, m, k, k), panels, &epilogue);
        });
        return;
    }
    for (i, pair) in shape.pairs.iter().enumerate() {
        let (panels, left) = operands(shape, *pair, a, b, scratch);
        let mat = MatMut::new(&mut out[i * m * n..(i + 1) * m * n], m, n, n);
        // One row leaves only columns to share; keep them at four panels or more.
        let cols = n.div_ceil(ctx.pool.threads()).next_multiple_of(4 * PANEL);
        ctx.pool.tiles(mat, ROWS, if m == 1 { cols } else { n }, |_, row, col, tile| {
            let rows = Rows::new(&left[row * k..(row + tile.rows()) * k], tile.rows(), k, k);
            let panels = &panels[col * k..col * k + panel_elements(tile.cols(), k)];
            gemm.run(tile, rows, panels, &epilogue);
        });
    }
}

/// The packed right matrix and the row-major left one.
fn operands<'s>(
    shape: &MatMulShape,
    (ia, ib): (u32, u32),
    a: &'s [f32],
    b: &'s [f32],
    scratch: &'s mut [u8],
) -> (&'s [f32], &'s [f32]) {
    let (m, n, k) = (shape.m, shape.n, shape.k);
    let a = &a[ia as usize * m * k..][..m * k];
    let b = &b[ib as usize * k * n..][..k * n];
    let (packed, rest) = floats_mut(scratch).split_at_mut(panel_elements(n, k));
    let (k_stride, n_stride) = if shape.trans_b { (1, k) } else { (n, 1) };
    pack_panels_f32(StridedMatrix { data: b, k_stride, n_stride }, k, n, packed);
    let left: &[f32] = if shape.trans_a {
        let left = &mut rest[..m * k];
        for (row, left) in left.chunks_exact_mut(k.max(1)).enumerate() {
            for (col, x) in left.iter_mut().enumerate() {
                *x = a[col * m + row];
            }
        }
        left
    } else {
        a
    };
    (packed, left)
}
