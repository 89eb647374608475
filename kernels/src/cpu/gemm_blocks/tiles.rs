//! The loops around a tile, for every instruction set.
//!
//! ```text
//! for each panel (few rows: some panels, so that chains are enough), for each tile of rows:
//!     for each kept k: load 16 columns of the panel, broadcast a[row][k], multiply and add for each row
//!     whole numbers become reals; epilogue on the tile, stored once
//! ```

use super::super::gemm_f32::{Columns, Epilogue, Output};
use super::super::tile::Aligned;
use super::{PANEL, Reals, TOGETHER, Task};

/// Most rows of a tile of any instruction set.
const MAX_ROWS: usize = 12;

/// The operands of a tile.
pub(super) struct Operands<'a, T> {
    /// The first row's elements from which places count, of rows `stride` apart.
    pub(super) a: *const T,
    pub(super) stride: usize,
    /// Of each panel, where the elements lie that it keeps.
    pub(super) places: [&'a [u32]; TOGETHER],
    /// Of each panel, a row of 16 for each place.
    pub(super) values: [&'a [[T; PANEL]]; TOGETHER],
}

/// Sums of a tile, `[panel * rows + row][16]`: floats, or the bits of whole numbers.
pub(super) type Tile = [[f32; PANEL]; MAX_ROWS];

/// Makes the sums of a tile.
///
/// # Safety
/// The CPU has the instructions. Each row of the shape that the kernel is for has an element at each place.
pub(super) type Multiply<T> = unsafe fn(&Operands<'_, T>, &mut Tile);

/// What an instruction set brings.
pub(super) struct Kernels<T> {
    /// Most rows of a tile.
    pub(super) most: usize,
    /// The kernel for so many rows and panels. Panels are 1, or [`TOGETHER`] for so many rows at most.
    pub(super) of: fn(usize, usize) -> Multiply<T>,
    pub(super) together: usize,
    /// Turns whole numbers, to which a number for each column is added first, into reals by their scales.
    pub(super) reals: unsafe fn(&mut [[f32; PANEL]], &[i32; PANEL], &[f32; PANEL]),
    /// What is taken off an activation's word: 0, or 128 where its bytes are multiplied as they are, without a sign.
    pub(super) unsigned: i32,
    pub(super) finish: unsafe fn(&Epilogue<'_>, &mut Output<'_>, usize, &Columns, &mut [[f32; PANEL]]),
}

/// All tiles of a product.
///
/// # Safety
/// The CPU has the instructions of the kernels.
pub(super) unsafe fn product<T>(task: &mut Task<'_, T>, kernels: &Kernels<T>) {
    let (m, n) = (task.out.rows(), task.out.cols());
    let (panels, room) = (n.div_ceil(PANEL), task.kept.rows());
    let mut panel = 0;
    while panel < panels {
        let count = if m <= kernels.together && panels - panel >= TOGETHER { TOGETHER } else { 1 };
        let mut kept = [0; TOGETHER];
        for (index, kept) in kept.iter_mut().enumerate().take(count) {
            *kept = task.note_places(panel + index, index);
        }
        let values: &[[T; PANEL]] = task.values.as_chunks().0;
        let mut operands = Operands {
            a: task.a.places().0.as_ptr(),
            stride: task.a.stride(),
            places: [&[]; TOGETHER],
            values: [&[]; TOGETHER],
        };
        for (index, &kept) in kept.iter().enumerate().take(count) {
            operands.places[index] = &task.places[index * room..][..kept];
            operands.values[index] = &values[(panel + index) * room..][..kept];
        }
        let mut columns = [Columns::default(); TOGETHER];
        for (index, columns) in columns.iter_mut().enumerate().take(count) {
            *columns = task.epilogue.columns((panel + index) * PANEL, n);
        }
        let (mut row, tiles) = (0, m.div_ceil(kernels.most));
        let Aligned(tile) = &mut Aligned([[0.0; PANEL]; MAX_ROWS]);
        for left in (1..=tiles).rev() {
            let rows = (m - row).div_ceil(left);
            // SAFETY: the caller's promise. Places are elements of row 0, and rows from `row` on are there: checked when the task and
            // its rows were made.
            unsafe { (kernels.of)(rows, count)(&operands, tile) };
            for (index, (tile, columns)) in tile.chunks_exact_mut(rows).zip(&columns[..count]).enumerate() {
                if let Some(Reals { scales, sums, zero_point }) = task.reals {
                    let factor = -(zero_point + kernels.unsigned);
                    let rest = sums[panel + index].map(|sum| sum.wrapping_mul(factor));
                    // SAFETY: the caller's promise.
                    unsafe { (kernels.reals)(tile, &rest, &scales[panel + index]) };
                }
                // SAFETY: the caller's promise.
                unsafe { (kernels.finish)(task.epilogue, &mut task.out, row, columns, tile) };
            }
            operands.a = operands.a.wrapping_add(rows * task.a.stride());
            row += rows;
        }
        panel += count;
    }
}
