//! A read-only matrix view.

/// A row-major matrix of `rows` x `cols` elements whose rows start `stride` elements apart.
///
/// Rows may overlap (`stride < cols`): a one-dimensional convolution reads its windows that way.
#[derive(Clone, Copy, Debug)]
pub struct Rows<'a, T> {
    data: &'a [T],
    rows: usize,
    cols: usize,
    stride: usize,
}

impl<'a, T> Rows<'a, T> {
    /// A view of `rows` x `cols` over `data`, rows `stride` apart.
    ///
    /// # Panics
    /// When `data` is shorter than the last row's end.
    pub fn new(data: &'a [T], rows: usize, cols: usize, stride: usize) -> Self {
        let need = match rows {
            0 => Some(0),
            _ => (rows - 1).checked_mul(stride).and_then(|start| start.checked_add(cols)),
        };
        let fits = need.is_some_and(|need| need <= data.len());
        assert!(fits, "{rows} x {cols} at stride {stride} needs {need:?} elements, got {}", data.len());
        Rows { data, rows, cols, stride }
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

    /// Row `r` as a slice.
    ///
    /// # Panics
    /// When `r` is not below [`Rows::rows`].
    #[inline(always)]
    pub fn row(&self, r: usize) -> &'a [T] {
        assert!(r < self.rows, "row {r} of {}", self.rows);
        &self.data[r * self.stride..][..self.cols]
    }
}
