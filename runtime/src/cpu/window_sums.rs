//! Row sums of integer windows in a ring: an input row's blocks are summed once, when it comes into the ring, and not again for
//! every window that they belong to.

use super::windows::{Pieces, Windows};
use edge_kernels::cpu::gemm_f32::{MAX_RUNS, Rows};
use edge_kernels::cpu::gemm_i8::{self, BLOCK, I8Panels, I8Rows, WindowBlocks, block_sums, window_sums};
use edge_kernels::cpu::loops;

/// Scratch bytes of one worker for the sums of a piece's windows, `group` k of which share a scale, and of the ring's blocks.
pub(super) fn scratch(windows: &Windows, group: usize) -> usize {
    let groups = windows.shape().k().div_ceil(group.max(1));
    let blocks = if whole_blocks(windows) { windows.elements() / BLOCK } else { 0 };
    (windows.width() * groups * 4).next_multiple_of(64) + blocks * 4
}

/// Whether pixels are whole blocks.
fn whole_blocks(windows: &Windows) -> bool {
    windows.shape().ic.is_multiple_of(BLOCK)
}

/// Multiplies the pieces of a ring with some panels.
pub(super) struct Multiply<'a, 'b, F> {
    pub windows: &'a Windows,
    pub kernel: &'static gemm_i8::Variant,
    pub loops: loops::Variant,
    pub weights: &'a I8Panels<'b>,
    pub zero_point: i32,
    /// Of [`scratch`] bytes.
    pub scratch: &'a mut [i32],
    /// Takes the first pixel of a piece, and its windows with their sums.
    pub each: F,
}

impl<F: FnMut(usize, I8Rows<'_>)> Multiply<'_, '_, F> {
    /// The factor on sums of blocks, when windows are summed from them.
    fn factor(&self) -> Option<i32> {
        let factor = self.kernel.row_factor(self.weights);
        (factor != 0 && whole_blocks(self.windows)).then_some(factor)
    }

    /// The sums of a piece, and those of the ring's blocks: `[slot][channel / 8][pixel]`.
    fn areas(&mut self) -> (&mut [i32], &mut [i32]) {
        let sums = (self.windows.width() * self.weights.groups()).next_multiple_of(16);
        self.scratch.split_at_mut(sums)
    }
}

impl<F: FnMut(usize, I8Rows<'_>)> Pieces<i8> for Multiply<'_, '_, F> {
    const IN_IMAGE: bool = true;

    fn filled(&mut self, slot: usize, row: &[i8]) {
        let Some(factor) = self.factor() else { return };
        let (v, channels, blocks) = (self.loops, self.windows.shape().ic, row.len() / BLOCK);
        let (_, sums) = self.areas();
        block_sums(v, row, channels, factor, &mut sums[slot * blocks..][..blocks]);
    }

    fn piece(&mut self, first: usize, windows: Rows<'_, i8>, taps: &[usize]) {
        let (m, groups) = (windows.rows(), self.weights.groups());
        let (v, shape, slot) = (self.loops, *self.windows.shape(), self.windows.slot());
        let (factor, group, kernel, weights) = (self.factor(), self.weights.group, self.kernel, self.weights);
        let (sums, blocks) = self.areas();
        let sums = &mut sums[..m * groups];
        if factor.is_none() || taps.is_empty() {
            kernel.row_sums(windows, weights, sums);
        } else {
            let mut rows = [0; MAX_RUNS];
            let rows = &mut rows[..taps.len()];
            rows.iter_mut().zip(taps).for_each(|(row, tap)| *row = tap / BLOCK);
            let windows = WindowBlocks {
                windows: m,
                taps: rows,
                kw: shape.kw,
                stride: shape.stride_w,
                per_pixel: shape.ic / BLOCK,
                pixels: slot / shape.ic,
                group,
            };
            window_sums(v, &windows, blocks, sums);
        }
        let (sums, _) = self.scratch.split_at(m * groups);
        (self.each)(first, I8Rows { rows: windows, zero_point: self.zero_point, row_sums: sums });
    }
}
