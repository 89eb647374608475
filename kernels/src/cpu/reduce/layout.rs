//! Which dimensions a reduction keeps.

use std::ops::Range;

use crate::cpu::shape::{MAX_DIMS, ShapeError, checked_len};

/// Dimensions of one kind, outermost first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Dims {
    rank: usize,
    lens: [usize; MAX_DIMS],
    strides: [usize; MAX_DIMS],
}

impl Dims {
    fn outer(&self, without_last: bool) -> (&[usize], &[usize]) {
        let n = self.rank - usize::from(without_last);
        (&self.lens[..n], &self.strides[..n])
    }
}

/// A dense row-major operand's shape, split into kept and reduced dimensions; made once.
///
/// Dimensions of 1 are dropped and neighbours of one kind joined, so `[outer, n, inner]` reduced over the middle,
/// or any shape over adjacent axes, takes at most three.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reduction {
    kept: Dims,
    reduced: Dims,
    inner_is_kept: bool,
    len: usize,
    count: usize,
}

impl Reduction {
    /// The reduction of a tensor of shape `dims` over `axes` (each below the rank, in any order).
    ///
    /// # Errors
    /// When an axis is not below the rank, more than [`MAX_DIMS`] dimensions are left, or a size overflows.
    pub fn new(dims: &[usize], axes: &[usize]) -> Result<Self, ShapeError> {
        if let Some(axis) = axes.iter().find(|a| **a >= dims.len()) {
            return Err(ShapeError::Rank { want: dims.len(), got: axis + 1 });
        }
        checked_len(dims)?;
        // An operand without elements may still have kept or reduced sizes that do not multiply.
        let product = |reduced: bool| {
            let zero = dims.iter().enumerate().any(|(i, d)| axes.contains(&i) == reduced && *d == 0);
            let mut of_kind = dims.iter().enumerate().filter(|(i, _)| axes.contains(i) == reduced);
            if zero { Some(0) } else { of_kind.try_fold(1usize, |n, (_, d)| n.checked_mul(*d)) }
        };
        let len = product(false).ok_or(ShapeError::TooLarge)?;
        let count = product(true).ok_or(ShapeError::TooLarge)?;
        let mut shape =
            Reduction { kept: Dims::default(), reduced: Dims::default(), inner_is_kept: false, len, count };
        if len == 0 || count == 0 {
            // Nothing is read: `len` results of an empty set, as one dimension.
            (shape.kept.lens[0], shape.kept.rank) = (len, 1);
            (shape.reduced.lens[0], shape.reduced.rank) = (count, 1);
            shape.inner_is_kept = true;
            return Ok(shape);
        }
        let mut stride = 1;
        let mut last_kind = None;
        let mut total = 0;
        for axis in (0..dims.len()).rev() {
            let dim = dims[axis];
            if dim == 1 {
                continue;
            }
            let is_reduced = axes.contains(&axis);
            let list = if is_reduced { &mut shape.reduced } else { &mut shape.kept };
            if last_kind.is_none() {
                shape.inner_is_kept = !is_reduced;
            }
            if last_kind == Some(is_reduced) && total <= MAX_DIMS {
                list.lens[list.rank - 1] *= dim;
            } else {
                total += 1;
                if total <= MAX_DIMS {
                    (list.lens[list.rank], list.strides[list.rank]) = (dim, stride);
                    list.rank += 1;
                }
            }
            last_kind = Some(is_reduced);
            stride *= dim;
        }
        if total > MAX_DIMS {
            return Err(ShapeError::TooManyDims { dims: total });
        }
        for list in [&mut shape.kept, &mut shape.reduced] {
            list.lens[..list.rank].reverse();
            list.strides[..list.rank].reverse();
        }
        Ok(shape)
    }

    /// Elements of the result.
    #[allow(clippy::len_without_is_empty)] // a count, not a container
    pub fn len(&self) -> usize {
        self.len
    }

    /// Elements that each result is made of.
    pub fn count(&self) -> usize {
        self.count
    }

    /// Elements of the operand, from the first to the last that is read.
    pub fn operand_len(&self) -> usize {
        if self.len == 0 || self.count == 0 {
            return 0;
        }
        let reach = |dims: &Dims| (0..dims.rank).map(|i| (dims.lens[i] - 1) * dims.strides[i]).sum::<usize>();
        1 + reach(&self.kept) + reach(&self.reduced)
    }

    /// The reduction to some of the results, and the first element of its operand; `None` where results lie along more than one
    /// dimension. A result is the same whatever others are made with it.
    ///
    /// # Panics
    /// When there are no such results.
    pub fn part(&self, results: Range<usize>) -> Option<(Reduction, usize)> {
        assert!(
            results.start <= results.end && results.end <= self.len,
            "results {results:?} of {}",
            self.len
        );
        let mut part = *self;
        if self.kept.rank != 1 || self.count == 0 {
            return None;
        }
        (part.kept.lens[0], part.len) = (results.len(), results.len());
        Some((part, results.start * self.kept.strides[0]))
    }

    /// Whether the innermost joined dimension is kept.
    pub(super) fn inner_is_kept(&self) -> bool {
        self.inner_is_kept
    }

    /// Contiguous elements of the innermost joined dimension; 1 for a single element.
    pub(super) fn row_len(&self) -> usize {
        let list = if self.inner_is_kept { &self.kept } else { &self.reduced };
        if list.rank == 0 { 1 } else { list.lens[list.rank - 1] }
    }

    /// Lengths and strides of the kept dimensions outside the rows.
    pub(super) fn outer_kept(&self) -> (&[usize], &[usize]) {
        self.kept.outer(self.inner_is_kept)
    }

    /// Lengths and strides of the reduced dimensions outside the rows.
    pub(super) fn outer_reduced(&self) -> (&[usize], &[usize]) {
        self.reduced.outer(!self.inner_is_kept && self.reduced.rank > 0)
    }
}
