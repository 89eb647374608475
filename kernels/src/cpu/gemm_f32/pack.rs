//! Panels from a matrix that is known only at run time.

use super::PANEL;

/// A `K x N` matrix at `data[k * k_stride + n * n_stride]`: row-major, column-major, or a transposed head of a
/// larger tensor.
#[derive(Clone, Copy, Debug)]
pub struct StridedMatrix<'a> {
    /// Elements, the first one at `k = n = 0`.
    pub data: &'a [f32],
    /// Elements from one k to the next.
    pub k_stride: usize,
    /// Elements from one n to the next.
    pub n_stride: usize,
}

/// Writes `b` (`k x n`) as `[ceil(n/16)][k][16]` to `out`, columns past `n` as 0.
///
/// # Panics
/// When `out` has another length, or `b` ends before its last element.
pub fn pack_panels_f32(b: StridedMatrix<'_>, k: usize, n: usize, out: &mut [f32]) {
    let need = n.div_ceil(PANEL) * PANEL * k;
    assert_eq!(out.len(), need, "panel elements given (left) and needed (right) for K = {k}, N = {n}");
    if need == 0 {
        return;
    }
    for (index, panel) in out.chunks_exact_mut(k * PANEL).enumerate() {
        let start = index * PANEL;
        let valid = PANEL.min(n - start);
        for (row, lanes) in panel.as_chunks_mut::<PANEL>().0.iter_mut().enumerate() {
            let from = &b.data[row * b.k_stride + start * b.n_stride..];
            if b.n_stride == 1 {
                lanes[..valid].copy_from_slice(&from[..valid]);
            } else {
                for (lane, value) in lanes[..valid].iter_mut().enumerate() {
                    *value = from[lane * b.n_stride];
                }
            }
            lanes[valid..].fill(0.0);
        }
    }
}
