//! Tensors made from indices and positions.

use super::{Index, resolve};
use crate::cpu::elementwise::Int;
use crate::cpu::shape::{MAX_DIMS, next_index};

/// `y[o, d, i] = on` where `indices[o, i]` means `d`, else `off`; `y` is `[outer, depth, inner]`. An index outside
/// `-depth..depth` gives `off` everywhere.
///
/// # Panics
/// When a length is not its shape's.
pub fn one_hot<T: Copy, I: Index>(
    [outer, depth, inner]: [usize; 3],
    indices: &[I],
    [off, on]: [T; 2],
    y: &mut [T],
) {
    assert_eq!(indices.len(), outer * inner, "indices are not {outer} x {inner}");
    assert_eq!(y.len(), outer * depth * inner, "result is not {outer} x {depth} x {inner}");
    y.fill(off);
    for (position, index) in indices.iter().enumerate() {
        if let Ok(d) = resolve((*index).into(), depth, position) {
            y[(position / inner * depth + d) * inner + position % inner] = on;
        }
    }
}

/// Which triangle of a matrix is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Triangle {
    /// On and above the diagonal.
    Upper,
    /// On and below the diagonal.
    Lower,
}

/// Keeps one triangle of every `[rows, cols]` matrix in `y` and sets the rest to 0. The diagonal is `k` columns to
/// the right of the main one (to the left when negative).
///
/// # Panics
/// When `y` is not a whole number of matrices.
pub fn trilu<T: Copy + Default>(triangle: Triangle, k: i64, [rows, cols]: [usize; 2], y: &mut [T]) {
    if y.is_empty() {
        return;
    }
    let size = rows * cols;
    assert!(size > 0 && y.len().is_multiple_of(size), "{} elements in matrices of {rows} x {cols}", y.len());
    for (r, row) in y.chunks_exact_mut(cols).enumerate() {
        let diagonal = ((r % rows) as i64).saturating_add(k);
        // First column that belongs to the upper triangle, and one past the last that belongs to the lower.
        let column = |c: i64| c.clamp(0, cols as i64) as usize;
        match triangle {
            Triangle::Upper => row[..column(diagonal)].fill(T::default()),
            Triangle::Lower => row[column(diagonal.saturating_add(1))..].fill(T::default()),
        }
    }
}

/// `y[i] = start + i * delta`, the product rounded first, as in ONNX.
pub fn range_f32(start: f32, delta: f32, y: &mut [f32]) {
    for (i, y) in y.iter_mut().enumerate() {
        *y = start + i as f32 * delta;
    }
}

/// `y[i] = start + i * delta`, wrapping.
pub fn range_int<T: Int>(start: T, delta: T, y: &mut [T]) {
    let mut next = start;
    for y in y {
        *y = next;
        next = next.add(delta);
    }
}

/// How many elements are not 0 (NaN is not).
pub fn count_nonzero<T: Copy + Default + PartialEq>(x: &[T]) -> usize {
    x.iter().filter(|x| **x != T::default()).count()
}

/// Coordinates of the elements that are not 0, in row-major order: `y[d, i]` is the `i`-th one's coordinate along
/// dimension `d`, dense `[dims.len(), count]`. Returns the count.
///
/// # Panics
/// When `x` is not as long as `dims` say, `dims` are more than [`MAX_DIMS`], or `y` is shorter than
/// `dims.len() * `[`count_nonzero`].
pub fn nonzero<T: Copy + Default + PartialEq>(dims: &[usize], x: &[T], y: &mut [i64]) -> usize {
    assert_eq!(x.len(), dims.iter().product::<usize>(), "operand is not {dims:?}");
    assert!(dims.len() <= MAX_DIMS, "{} dimensions, at most {MAX_DIMS}", dims.len());
    let count = count_nonzero(x);
    assert!(y.len() >= dims.len() * count, "{} coordinates needed, room for {}", dims.len() * count, y.len());
    let mut at = [0; MAX_DIMS];
    let mut found = 0;
    for x in x {
        if *x != T::default() {
            for (d, at) in at[..dims.len()].iter().enumerate() {
                y[d * count + found] = *at as i64;
            }
            found += 1;
        }
        next_index(&mut at[..dims.len()], dims);
    }
    count
}
