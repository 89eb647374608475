//! A mutable matrix view that can be cut by rows *and* by columns.

use std::marker::PhantomData;
use std::ops::Range;

/// A row-major matrix of `rows` x `cols` elements whose rows start `stride` elements apart.
///
/// A `&mut [T]` cannot be split by columns: the halves would interleave in memory. This view can, because two
/// views made by [`MatMut::split_cols`] never touch the same element and none of them ever forms a slice that
/// crosses its own column range.
pub struct MatMut<'a, T> {
    ptr: *mut T,
    rows: usize,
    cols: usize,
    stride: usize,
    life: PhantomData<&'a mut [T]>,
}

// SAFETY: a `MatMut` is the only owner of its elements, like a `&mut [T]`, which is Send when `T` is.
unsafe impl<T: Send> Send for MatMut<'_, T> {}

impl<'a, T> MatMut<'a, T> {
    /// A view of `rows` x `cols` over `data`, rows `stride` apart.
    ///
    /// # Panics
    /// When `cols > stride` with more than one row, or `data` is shorter than the last row's end.
    pub fn new(data: &'a mut [T], rows: usize, cols: usize, stride: usize) -> Self {
        assert!(rows <= 1 || cols <= stride, "row of {cols} elements overlaps the next at stride {stride}");
        let need = match rows {
            0 => Some(0),
            _ => (rows - 1).checked_mul(stride).and_then(|start| start.checked_add(cols)),
        };
        let fits = need.is_some_and(|need| need <= data.len());
        assert!(fits, "{rows} x {cols} at stride {stride} does not fit {} elements", data.len());
        MatMut { ptr: data.as_mut_ptr(), rows, cols, stride, life: PhantomData }
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Number of columns.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Elements between the starts of two rows.
    pub fn stride(&self) -> usize {
        self.stride
    }

    /// First element; valid for the rows and columns of this view only.
    pub fn as_mut_ptr(&mut self) -> *mut T {
        self.ptr
    }

    /// Row `r` as a slice.
    ///
    /// # Panics
    /// When `r` is not below [`MatMut::rows`].
    pub fn row(&mut self, r: usize) -> &mut [T] {
        assert!(r < self.rows, "row {r} of {}", self.rows);
        // SAFETY: r < rows, so the row lies inside the data checked by `new`; `&mut self` keeps it exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.ptr.add(r * self.stride), self.cols) }
    }

    /// The same view for a shorter life, so that it can be handed on without giving it away.
    pub fn reborrow(&mut self) -> MatMut<'_, T> {
        MatMut { ptr: self.ptr, rows: self.rows, cols: self.cols, stride: self.stride, life: PhantomData }
    }

    /// The part `rows` x `cols` of this view.
    ///
    /// # Panics
    /// When a range leaves the view.
    pub fn part(&mut self, rows: Range<usize>, cols: Range<usize>) -> MatMut<'_, T> {
        self.check(&rows, &cols);
        // SAFETY: the ranges were checked, and `&mut self` is held for as long as the part lives.
        unsafe { self.part_unchecked(rows, cols) }
    }

    /// Columns `[0, at)` and `[at, cols)`.
    ///
    /// # Panics
    /// When `at` is above [`MatMut::cols`].
    pub fn split_cols(self, at: usize) -> (MatMut<'a, T>, MatMut<'a, T>) {
        self.check(&(0..self.rows), &(0..at));
        // SAFETY: both parts lie inside this view, share no element, and the view itself is consumed.
        unsafe {
            (self.part_unchecked(0..self.rows, 0..at), self.part_unchecked(0..self.rows, at..self.cols))
        }
    }

    fn check(&self, rows: &Range<usize>, cols: &Range<usize>) {
        assert!(rows.start <= rows.end && rows.end <= self.rows, "rows {rows:?} of {}", self.rows);
        assert!(cols.start <= cols.end && cols.end <= self.cols, "columns {cols:?} of {}", self.cols);
    }

    /// The part `rows` x `cols`, unchecked and with the lifetime of the whole.
    ///
    /// # Safety
    /// The ranges must lie inside this view, and no two live parts, nor this view, may be used on the same
    /// element at the same time.
    pub unsafe fn part_unchecked(&self, rows: Range<usize>, cols: Range<usize>) -> MatMut<'a, T> {
        let empty = rows.is_empty() || cols.is_empty();
        let offset = if empty { 0 } else { rows.start * self.stride + cols.start };
        MatMut {
            // SAFETY: the caller keeps the ranges inside this view, so the offset stays inside its data.
            ptr: unsafe { self.ptr.add(offset) },
            rows: rows.len(),
            cols: cols.len(),
            stride: self.stride,
            life: PhantomData,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::MatMut;

    #[test]
    fn column_halves_write_disjoint_elements() {
        let mut data = vec![0u32; 3 * 5];
        let (mut a, mut b) = MatMut::new(&mut data, 3, 5, 5).split_cols(2);
        for r in 0..3 {
            a.row(r).fill(1);
            b.row(r).fill(2);
        }
        assert_eq!(data, [1, 1, 2, 2, 2, 1, 1, 2, 2, 2, 1, 1, 2, 2, 2]);
    }

    #[test]
    #[should_panic(expected = "does not fit 13 elements")]
    fn short_data_is_refused() {
        MatMut::new(&mut [0u8; 13], 3, 4, 5);
    }

    #[test]
    #[should_panic(expected = "does not fit 4 elements")]
    fn a_stride_that_wraps_around_is_refused() {
        MatMut::new(&mut [0u8; 4], 3, 4, usize::MAX / 2 + 1);
    }
}
