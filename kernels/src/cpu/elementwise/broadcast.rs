//! How the elements of several operands meet in one result.

use crate::cpu::shape::{MAX_DIMS, ShapeError, checked_len, next_index};

/// Multidirectional (NumPy, ONNX) broadcasting of `N` dense row-major operands, worked out once from their shapes.
///
/// Dimensions of 1 are dropped, and neighbours that every operand walks contiguously, or that every operand
/// repeats, are joined. So `[M, N] + [M, N]` becomes one vector of `M * N`, `[M, N] + [N]` becomes `M` rows in
/// which both are vectors, and `[M, N] + [M, 1]` becomes `M` rows in which one is a scalar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Broadcast<const N: usize = 2> {
    rank: usize,
    /// Outermost first; `rank` of them are used, and `rank >= 1`.
    dims: [usize; MAX_DIMS],
    /// Elements between neighbours along a dimension, for each operand; 0 where it repeats.
    strides: [[usize; MAX_DIMS]; N],
    operand_lens: [usize; N],
    len: usize,
}

impl<const N: usize> Broadcast<N> {
    /// The descriptor for operands of these shapes.
    ///
    /// # Errors
    /// When two dimensions differ and neither is 1, more than [`MAX_DIMS`] are left, or a size overflows.
    pub fn new(shapes: [&[usize]; N]) -> Result<Self, ShapeError> {
        let mut operand_lens = [0; N];
        for (len, shape) in operand_lens.iter_mut().zip(shapes) {
            *len = checked_len(shape)?;
        }
        let mut b =
            Broadcast { rank: 0, dims: [1; MAX_DIMS], strides: [[0; MAX_DIMS]; N], operand_lens, len: 1 };
        // Each operand's elements inside the axis at hand: its stride along that axis.
        let mut inside = [1usize; N];
        let mut dropped = 0;
        let mut empty = false;
        let rank = shapes.iter().map(|s| s.len()).max().unwrap_or(0);
        for axis_from_end in 0..rank {
            let dim_of = |shape: &[usize]| shape.len().checked_sub(axis_from_end + 1).map_or(1, |i| shape[i]);
            let mut dim = 1;
            for other in shapes.map(dim_of) {
                if dim != 1 && other != 1 && dim != other {
                    return Err(ShapeError::NotBroadcastable { axis_from_end, have: dim, other });
                }
                dim = if dim == 1 { other } else { dim };
            }
            empty |= dim == 0;
            if dim == 1 || empty {
                continue;
            }
            b.len = b.len.checked_mul(dim).ok_or(ShapeError::TooLarge)?;
            let mut strides = [0; N];
            for n in 0..N {
                if dim_of(shapes[n]) != 1 {
                    strides[n] = inside[n];
                    inside[n] *= dim;
                }
            }
            if dropped > 0 || !b.push_outer(dim, strides) {
                dropped += 1;
            }
        }
        if b.rank + dropped > MAX_DIMS {
            return Err(ShapeError::TooManyDims { dims: b.rank + dropped });
        }
        b.dims[..b.rank].reverse();
        b.strides.iter_mut().for_each(|s| s[..b.rank].reverse());
        if empty || b.rank == 0 {
            b.rank = 1;
            b.len = usize::from(!empty);
            b.dims[0] = b.len;
            b.strides.iter_mut().for_each(|s| s[0] = 1);
        }
        Ok(b)
    }

    /// Adds a dimension outside those held (in reverse order); false when there is no room for it.
    fn push_outer(&mut self, dim: usize, strides: [usize; N]) -> bool {
        if let Some(inner) = self.rank.checked_sub(1)
            && (0..N).all(|n| strides[n] == self.strides[n][inner] * self.dims[inner])
        {
            self.dims[inner] *= dim;
            return true;
        }
        if self.rank == MAX_DIMS {
            return false;
        }
        self.dims[self.rank] = dim;
        for (held, stride) in self.strides.iter_mut().zip(strides) {
            held[self.rank] = stride;
        }
        self.rank += 1;
        true
    }

    /// Elements of the result.
    #[allow(clippy::len_without_is_empty)] // a count, not a container
    pub fn len(&self) -> usize {
        self.len
    }

    /// Elements of operand `n`.
    pub fn operand_len(&self, n: usize) -> usize {
        self.operand_lens[n]
    }

    /// Positions along the outermost joined dimension, by which the work may be cut with [`Broadcast::part`].
    pub fn outer(&self) -> usize {
        self.dims[0]
    }

    /// The work of positions `[start, end)` of the outermost joined dimension: its descriptor, where each
    /// operand's slice begins, and where the result's does. Cut slices run to the end of the buffer or to
    /// [`Broadcast::operand_len`] of the part.
    ///
    /// # Panics
    /// When the range leaves [`Broadcast::outer`].
    pub fn part(&self, start: usize, end: usize) -> (Self, [usize; N], usize) {
        assert!(start <= end && end <= self.dims[0], "part {start}..{end} of {}", self.dims[0]);
        let inner = self.len.checked_div(self.dims[0]).unwrap_or(0);
        let mut part = *self;
        part.dims[0] = end - start;
        part.len = inner * (end - start);
        for n in 0..N {
            // All elements of an operand that repeats along the outermost dimension stay in use.
            let stride = self.strides[n][0];
            if stride != 0 {
                part.operand_lens[n] = stride * (end - start);
            }
        }
        (part, self.strides.map(|s| s[0] * start), inner * start)
    }

    /// Length of the innermost joined dimension: the rows that [`Broadcast::each_row`] goes over.
    pub(super) fn row_len(&self) -> usize {
        self.dims[self.rank - 1]
    }

    /// Stride of operand `n` inside a row: 1 for a vector, 0 for a scalar.
    pub(super) fn row_stride(&self, n: usize) -> usize {
        self.strides[n][self.rank - 1]
    }

    /// The operand of which every row is the same, where all others are walked from their first element to the last.
    pub(super) fn repeated(&self) -> Option<usize> {
        let row = self.row_len();
        let of_row = |n: &usize| self.strides[*n][..2] == [0, 1];
        let n = (0..N).find(of_row).filter(|_| self.rank == 2)?;
        (0..N).all(|other| other == n || self.strides[other][..2] == [row, 1]).then_some(n)
    }

    /// Calls `f` with each row's first element in every operand and in the result, in order.
    #[inline(always)]
    pub(super) fn each_row(&self, mut f: impl FnMut([usize; N], usize)) {
        if self.len == 0 {
            return;
        }
        let outer = self.rank - 1;
        let row = self.row_len();
        let mut index = [0usize; MAX_DIMS];
        for out in (0..self.len).step_by(row) {
            let mut offsets = [0; N];
            for (offset, strides) in offsets.iter_mut().zip(&self.strides) {
                *offset = index[..outer].iter().zip(strides).map(|(i, s)| i * s).sum();
            }
            f(offsets, out);
            next_index(&mut index[..outer], &self.dims[..outer]);
        }
    }
}
