//! Gathering and scattering slices by index tuples.

use super::{Index, IndexError, Scatter, resolve};
use crate::cpu::elementwise::Number;

/// The shapes of a gather or scatter by tuples: data `[batch, dims.., inner]`, indices `[batch, tuples, dims.len()]`,
/// values `[batch, tuples, inner]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NdShape<'a> {
    /// Leading dimensions that data and indices share, multiplied.
    pub batch: usize,
    /// Dimensions that a tuple addresses.
    pub dims: &'a [usize],
    /// Elements of each addressed slice.
    pub inner: usize,
    /// Tuples in each batch.
    pub tuples: usize,
}

impl NdShape<'_> {
    fn slices(&self) -> usize {
        self.dims.iter().product()
    }

    fn check<I>(&self, data: usize, indices: &[I], values: usize) {
        let NdShape { batch, dims, inner, tuples } = self;
        assert_eq!(data, batch * self.slices() * inner, "data is not {batch} x {dims:?} x {inner}");
        assert_eq!(indices.len(), batch * tuples * dims.len(), "indices are not {batch} x {tuples} tuples");
        assert_eq!(values, batch * tuples * inner, "values are not {batch} x {tuples} x {inner}");
    }

    /// First element of the slice that tuple `t` (counted through the batches) addresses.
    fn offset<I: Index>(&self, indices: &[I], t: usize) -> Result<usize, IndexError> {
        let k = self.dims.len();
        let mut slice = 0;
        for (i, dim) in self.dims.iter().enumerate() {
            let position = t * k + i;
            slice = slice * dim + resolve(indices[position].into(), *dim, position)?;
        }
        Ok((t / self.tuples * self.slices() + slice) * self.inner)
    }

    fn validate<I: Index>(&self, indices: &[I]) -> Result<(), IndexError> {
        (0..self.batch * self.tuples).try_for_each(|t| self.offset(indices, t).map(|_| ()))
    }
}

/// `y[b, t, ..] = x[b, indices[b, t], ..]`.
///
/// # Errors
/// For an index outside its dimension; `y` is then untouched.
///
/// # Panics
/// When a length is not its shape's.
pub fn gather_nd<T: Copy, I: Index>(
    shape: &NdShape<'_>,
    x: &[T],
    indices: &[I],
    y: &mut [T],
) -> Result<(), IndexError> {
    shape.check(x.len(), indices, y.len());
    shape.validate(indices)?;
    if y.is_empty() {
        return Ok(());
    }
    for (t, y) in y.chunks_exact_mut(shape.inner).enumerate() {
        y.copy_from_slice(&x[shape.offset(indices, t)?..][..shape.inner]);
    }
    Ok(())
}

/// Combines `updates[b, t, ..]` into `data[b, indices[b, t], ..]`, tuple after tuple. `data` holds the operand and
/// becomes the result. [`Scatter::Replace`] moves bits only, so types of the same size may stand for each other.
///
/// # Errors
/// For an index outside its dimension; `data` is then untouched.
///
/// # Panics
/// When a length is not its shape's.
pub fn scatter_nd<T: Number, I: Index>(
    shape: &NdShape<'_>,
    scatter: Scatter,
    data: &mut [T],
    indices: &[I],
    updates: &[T],
) -> Result<(), IndexError> {
    shape.check(data.len(), indices, updates.len());
    shape.validate(indices)?;
    if updates.is_empty() {
        return Ok(());
    }
    for (t, updates) in updates.chunks_exact(shape.inner).enumerate() {
        let slice = &mut data[shape.offset(indices, t)?..][..shape.inner];
        for (old, update) in slice.iter_mut().zip(updates) {
            *old = scatter.apply(*old, *update);
        }
    }
    Ok(())
}
