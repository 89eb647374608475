//! Padding by mirrored, repeated or wrapped elements.

use crate::cpu::shape::{MAX_DIMS, ShapeError, checked_len, next_index};

/// What lies outside the operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PadMode {
    /// The operand mirrored at its first and last element, which are not repeated (`c b | a b c | b a`).
    Reflect,
    /// The nearest element (`a a | a b c | c c`).
    Edge,
    /// The operand repeated (`b c | a b c | a b`).
    Wrap,
}

impl PadMode {
    /// The operand's index that stands at `i` (any integer) along a dimension of `n`, which [`PadPlan::new`] has
    /// checked to be large enough.
    fn index(self, i: isize, n: usize) -> usize {
        let n = n as isize;
        let i = match self {
            PadMode::Edge => i.clamp(0, n - 1),
            PadMode::Wrap => i.rem_euclid(n),
            PadMode::Reflect => {
                // Period 2(n - 1), symmetric about 0.
                let period = (2 * (n - 1)).max(1);
                let i = i.rem_euclid(period);
                if i < n { i } else { period - i }
            }
        };
        i as usize
    }
}

/// Padding of a dense tensor, checked once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PadPlan {
    mode: PadMode,
    elem_size: usize,
    rank: usize,
    dims: [usize; MAX_DIMS],
    out_dims: [usize; MAX_DIMS],
    before: [isize; MAX_DIMS],
}

impl PadPlan {
    /// Pads a tensor of shape `dims` by `before[i]` elements in front of and `after[i]` behind dimension `i`;
    /// negative numbers crop.
    ///
    /// # Errors
    /// When the lists do not fit, more than [`MAX_DIMS`] dimensions, a crop takes more than there is, a dimension
    /// is too small to be padded from, or a size overflows.
    pub fn new(
        mode: PadMode,
        elem_size: usize,
        dims: &[usize],
        before: &[isize],
        after: &[isize],
    ) -> Result<Self, ShapeError> {
        let rank = dims.len();
        if rank > MAX_DIMS {
            return Err(ShapeError::TooManyDims { dims: rank });
        }
        for list in [before, after] {
            if list.len() != rank {
                return Err(ShapeError::Rank { want: rank, got: list.len() });
            }
        }
        let mut plan = PadPlan {
            mode,
            elem_size,
            rank,
            dims: [1; MAX_DIMS],
            out_dims: [1; MAX_DIMS],
            before: [0; MAX_DIMS],
        };
        for axis in 0..rank {
            let (dim, before, after) = (dims[axis], before[axis], after[axis]);
            let out = isize::try_from(dim)
                .ok()
                .and_then(|d| d.checked_add(before))
                .and_then(|d| d.checked_add(after))
                .ok_or(ShapeError::TooLarge)?;
            let out = usize::try_from(out).map_err(|_| ShapeError::BeforeStart)?;
            let least = if mode == PadMode::Reflect { 2 } else { 1 };
            if (before > 0 || after > 0) && dim < least && out > 0 {
                return Err(ShapeError::TooFewToPad { axis, dim });
            }
            (plan.dims[axis], plan.out_dims[axis], plan.before[axis]) = (dim, out, before);
        }
        let bytes = |dims| checked_len(dims)?.checked_mul(elem_size).ok_or(ShapeError::TooLarge);
        bytes(&plan.dims)?;
        bytes(&plan.out_dims)?;
        Ok(plan)
    }

    /// Elements along each dimension of the result.
    pub fn out_dims(&self) -> &[usize] {
        &self.out_dims[..self.rank]
    }

    /// Pads `src` into `dst`.
    ///
    /// # Panics
    /// When a buffer does not have the bytes of its shape.
    pub fn run(&self, src: &[u8], dst: &mut [u8]) {
        let size = self.elem_size;
        let bytes = |dims: &[usize; MAX_DIMS]| dims.iter().product::<usize>() * size;
        assert_eq!(src.len(), bytes(&self.dims), "bytes of the operand");
        assert_eq!(dst.len(), bytes(&self.out_dims), "bytes of the result");
        if dst.is_empty() {
            return;
        }
        let last = self.rank.saturating_sub(1);
        let (n, out_n, before) = (self.dims[last], self.out_dims[last], self.before[last]);
        // The positions of a row that lie inside the operand: one copy.
        let inside_end = before.saturating_add_unsigned(n).clamp(0, out_n as isize) as usize;
        let inside_start = (before.max(0) as usize).min(inside_end);
        let mut index = [0; MAX_DIMS];
        for row in dst.chunks_exact_mut(out_n * size) {
            let source_row = (0..last).fold(0, |at, axis| {
                let i = index[axis] as isize - self.before[axis];
                at * self.dims[axis] + self.mode.index(i, self.dims[axis])
            });
            let source = &src[source_row * n * size..][..n * size];
            for o in (0..inside_start).chain(inside_end..out_n) {
                let i = self.mode.index(o as isize - before, n);
                row[o * size..][..size].copy_from_slice(&source[i * size..][..size]);
            }
            if inside_start < inside_end {
                let from = (inside_start as isize - before) as usize;
                let len = (inside_end - inside_start) * size;
                row[inside_start * size..][..len].copy_from_slice(&source[from * size..][..len]);
            }
            next_index(&mut index[..last], &self.out_dims[..last]);
        }
    }
}
