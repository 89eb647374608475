//! Reading and writing by index: gather, scatter, top-k and their relatives.
//!
//! Indices come from data, so a bad one is an error value, never a panic or a stray access. A negative index
//! counts from the end.

mod elements;
mod make;
mod nd;
mod order;
mod rows;

#[cfg(test)]
mod tests;

pub use elements::{ElementsShape, gather_elements, scatter_elements};
pub use make::{Triangle, count_nonzero, nonzero, one_hot, range_f32, range_int, trilu};
pub use nd::{NdShape, gather_nd, scatter_nd};
pub use order::{CumSum, Extreme, Ties, arg_extreme, cumsum, top_k};
pub use rows::gather;

use std::fmt;

use super::elementwise::{Int, Number};

/// An index outside its dimension.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IndexError {
    /// Where in the index tensor.
    pub position: usize,
    /// The index found there.
    pub index: i64,
    /// The dimension it should address: valid are `-dim..dim`.
    pub dim: usize,
}

impl fmt::Display for IndexError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let IndexError { position, index, dim } = self;
        write!(f, "index {index} at position {position} is outside a dimension of {dim}")
    }
}

impl std::error::Error for IndexError {}

/// An element of an index tensor: i32 or i64.
pub trait Index: Int + Into<i64> {}

impl Index for i32 {}
impl Index for i64 {}

/// The element that `index` means in a dimension of `dim`.
#[inline(always)]
fn resolve(index: i64, dim: usize, position: usize) -> Result<usize, IndexError> {
    let from_start = if index < 0 { index.checked_add_unsigned(dim as u64) } else { Some(index) };
    from_start.and_then(|i| usize::try_from(i).ok()).filter(|i| *i < dim).ok_or(IndexError {
        position,
        index,
        dim,
    })
}

/// What a scatter does with the element that it finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scatter {
    /// Replaces it; of several updates the last one in row-major order stays.
    Replace,
    /// Adds.
    Add,
    /// Multiplies.
    Mul,
    /// Keeps the larger.
    Max,
    /// Keeps the smaller.
    Min,
}

impl Scatter {
    #[inline(always)]
    fn apply<T: Number>(self, old: T, update: T) -> T {
        match self {
            Scatter::Replace => update,
            Scatter::Add => old.add(update),
            Scatter::Mul => old.mul(update),
            Scatter::Max => old.max(update),
            Scatter::Min => old.min(update),
        }
    }
}
