//! Gathering whole rows.

use super::{Index, IndexError, resolve};

/// `y[o, k, i] = x[o, indices[k], i]`: `x` is `[outer, n, inner]`, `y` is `[outer, indices.len(), inner]`.
///
/// # Errors
/// For an index outside `-n..n`; `y` is then untouched.
///
/// # Panics
/// When a length is not its shape's.
pub fn gather<T: Copy, I: Index>(
    [outer, n, inner]: [usize; 3],
    x: &[T],
    indices: &[I],
    y: &mut [T],
) -> Result<(), IndexError> {
    assert_eq!(x.len(), outer * n * inner, "operand is not {outer} x {n} x {inner}");
    assert_eq!(y.len(), outer * indices.len() * inner, "result is not {outer} x {} x {inner}", indices.len());
    for (position, index) in indices.iter().enumerate() {
        resolve((*index).into(), n, position)?;
    }
    if y.is_empty() {
        return Ok(());
    }
    for (x, y) in x.chunks_exact(n * inner).zip(y.chunks_exact_mut(indices.len() * inner)) {
        for (position, (index, y)) in indices.iter().zip(y.chunks_exact_mut(inner)).enumerate() {
            let k = resolve((*index).into(), n, position)?;
            y.copy_from_slice(&x[k * inner..][..inner]);
        }
    }
    Ok(())
}
