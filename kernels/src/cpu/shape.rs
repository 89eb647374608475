//! Limits and errors of the descriptors that a planner makes from shapes.

use std::fmt;

/// Most dimensions a descriptor holds after 1s are dropped and contiguous neighbours are joined.
pub const MAX_DIMS: usize = 8;

/// Why shapes cannot be turned into a descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ShapeError {
    /// Two operands have different dimensions, neither of them 1, at `axis_from_end`.
    NotBroadcastable {
        /// The axis, counted from the last one (0).
        axis_from_end: usize,
        /// The dimension found first.
        have: usize,
        /// The dimension that differs from it.
        other: usize,
    },
    /// More than [`MAX_DIMS`] dimensions are left after joining.
    TooManyDims {
        /// Dimensions left; none are joined any more once the limit is reached.
        dims: usize,
    },
    /// A list has the wrong length for the rank.
    Rank {
        /// Entries needed.
        want: usize,
        /// Entries given.
        got: usize,
    },
    /// A size or an address exceeds the machine's integers.
    TooLarge,
    /// A stride or padding leads before the first element.
    BeforeStart,
    /// A mode cannot fill a dimension from so few elements (reflection needs two, edge and wrap one).
    TooFewToPad {
        /// The axis.
        axis: usize,
        /// Its elements.
        dim: usize,
    },
}

impl fmt::Display for ShapeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ShapeError::NotBroadcastable { axis_from_end, have, other } => {
                write!(f, "dimensions {have} and {other} at axis -{} do not broadcast", axis_from_end + 1)
            }
            ShapeError::TooManyDims { dims } => {
                write!(f, "{dims} dimensions, at most {MAX_DIMS} are supported")
            }
            ShapeError::Rank { want, got } => write!(f, "{got} entries given for a rank of {want}"),
            ShapeError::TooLarge => f.write_str("size exceeds the address range"),
            ShapeError::BeforeStart => f.write_str("strides lead before the first element"),
            ShapeError::TooFewToPad { axis, dim } => {
                write!(f, "axis {axis} has {dim} elements, too few for this padding")
            }
        }
    }
}

impl std::error::Error for ShapeError {}

/// Product of `dims`, refused when it overflows.
pub(crate) fn checked_len(dims: &[usize]) -> Result<usize, ShapeError> {
    if dims.contains(&0) {
        return Ok(0);
    }
    dims.iter().try_fold(1usize, |n, d| n.checked_mul(*d)).ok_or(ShapeError::TooLarge)
}

/// Steps `index` to the next position of `dims` in row-major order; false after the last one.
#[inline(always)]
pub(crate) fn next_index(index: &mut [usize], dims: &[usize]) -> bool {
    for (i, d) in index.iter_mut().zip(dims).rev() {
        *i += 1;
        if *i < *d {
            return true;
        }
        *i = 0;
    }
    false
}
