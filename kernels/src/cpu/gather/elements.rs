//! Gathering and scattering single elements along an axis.

use super::{Index, IndexError, Scatter, resolve};
use crate::cpu::elementwise::Number;
use crate::cpu::shape::{MAX_DIMS, ShapeError, checked_len, next_index};

/// The shapes of a gather or scatter in which an index replaces one coordinate; made once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ElementsShape {
    rank: usize,
    axis: usize,
    axis_dim: usize,
    axis_stride: usize,
    index_dims: [usize; MAX_DIMS],
    /// Strides of the data; 0 along the axis.
    strides: [usize; MAX_DIMS],
    data_len: usize,
    index_len: usize,
}

impl ElementsShape {
    /// Data of shape `data_dims`, indices of shape `index_dims` along `axis`.
    ///
    /// # Errors
    /// When the ranks differ, `axis` is not below them, an index dimension other than `axis` exceeds the data's,
    /// more than [`MAX_DIMS`] dimensions, or a size overflows.
    pub fn new(data_dims: &[usize], index_dims: &[usize], axis: usize) -> Result<Self, ShapeError> {
        let rank = data_dims.len();
        if index_dims.len() != rank || axis >= rank {
            return Err(ShapeError::Rank { want: rank, got: index_dims.len().max(axis + 1) });
        }
        if rank > MAX_DIMS {
            return Err(ShapeError::TooManyDims { dims: rank });
        }
        let mut shape = ElementsShape {
            rank,
            axis,
            axis_dim: data_dims[axis],
            axis_stride: 1,
            index_dims: [1; MAX_DIMS],
            strides: [0; MAX_DIMS],
            data_len: checked_len(data_dims)?,
            index_len: checked_len(index_dims)?,
        };
        let mut stride = 1usize;
        for i in (0..rank).rev() {
            if i != axis && index_dims[i] > data_dims[i] {
                let (have, other) = (data_dims[i], index_dims[i]);
                return Err(ShapeError::NotBroadcastable { axis_from_end: rank - 1 - i, have, other });
            }
            shape.index_dims[i] = index_dims[i];
            (shape.strides[i], shape.axis_stride) =
                if i == axis { (0, stride) } else { (stride, shape.axis_stride) };
            // With an empty data tensor there is nothing to address, and the product need not fit.
            stride = stride.saturating_mul(data_dims[i]);
        }
        Ok(shape)
    }

    /// Calls `f` with the data element and the position of every index, once all are known to be valid.
    fn each<I: Index>(&self, indices: &[I], mut f: impl FnMut(usize, usize)) -> Result<(), IndexError> {
        assert_eq!(indices.len(), self.index_len, "length of the indices is not their shape's");
        for (position, index) in indices.iter().enumerate() {
            resolve((*index).into(), self.axis_dim, position)?;
        }
        let dims = &self.index_dims[..self.rank];
        let mut at = [0; MAX_DIMS];
        for (position, index) in indices.iter().enumerate() {
            let along = resolve((*index).into(), self.axis_dim, position)? * self.axis_stride;
            let base: usize = at.iter().zip(&self.strides).map(|(i, s)| i * s).sum();
            f(base + along, position);
            next_index(&mut at[..self.rank], dims);
        }
        Ok(())
    }
}

/// `y[p] = x[p with its coordinate along the axis replaced by indices[p]]`.
///
/// # Errors
/// For an index outside the axis; `y` is then untouched.
///
/// # Panics
/// When a length is not its shape's.
pub fn gather_elements<T: Copy, I: Index>(
    shape: &ElementsShape,
    x: &[T],
    indices: &[I],
    y: &mut [T],
) -> Result<(), IndexError> {
    assert_eq!(x.len(), shape.data_len, "length of the operand is not its shape's");
    assert_eq!(y.len(), shape.index_len, "length of the result is not the indices'");
    shape.each(indices, |from, to| y[to] = x[from])
}

/// Combines `updates[p]` into `data[p with its coordinate along the axis replaced by indices[p]]`. `data` holds
/// the operand and becomes the result. [`Scatter::Replace`] moves bits only, so types of the same size may stand
/// for each other.
///
/// # Errors
/// For an index outside the axis; `data` is then untouched.
///
/// # Panics
/// When a length is not its shape's.
pub fn scatter_elements<T: Number, I: Index>(
    shape: &ElementsShape,
    scatter: Scatter,
    data: &mut [T],
    indices: &[I],
    updates: &[T],
) -> Result<(), IndexError> {
    assert_eq!(data.len(), shape.data_len, "length of the operand is not its shape's");
    assert_eq!(updates.len(), shape.index_len, "length of the updates is not the indices'");
    shape.each(indices, |to, from| data[to] = scatter.apply(data[to], updates[from]))
}
