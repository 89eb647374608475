//! A read-only matrix view.

/// Most runs that a row may be made of.
pub const MAX_RUNS: usize = 8;

/// A row-major matrix of `rows` x `cols` elements whose rows start `stride` elements apart.
///
/// Rows may overlap (`stride < cols`): a one-dimensional convolution reads its windows that way. A row may also be made of several
/// runs of equal length, each at an offset of its own ([`Rows::windows`]): so lie the windows of a two-dimensional one.
#[derive(Clone, Copy, Debug)]
pub struct Rows<'a, T> {
    data: &'a [T],
    rows: usize,
    cols: usize,
    /// Elements of a run: not to be divided for by each tile.
    len: usize,
    stride: usize,
    /// Where the runs of row 0 start; the first `count`.
    offsets: [usize; MAX_RUNS],
    count: usize,
}

impl<'a, T> Rows<'a, T> {
    /// A view of `rows` x `cols` over `data`, rows `stride` apart.
    ///
    /// # Panics
    /// When `data` is shorter than the last row's end.
    pub fn new(data: &'a [T], rows: usize, cols: usize, stride: usize) -> Self {
        Rows::windows(data, rows, cols, stride, &[0])
    }

    /// A view of rows of `offsets.len()` runs of `len` elements: run `i` of row `r` starts at `offsets[i] + r * stride`.
    ///
    /// # Panics
    /// When `data` is shorter than some run's end in the last row, a row has more elements than can be counted, or there are no runs
    /// or more than [`MAX_RUNS`].
    pub fn windows(data: &'a [T], rows: usize, len: usize, stride: usize, offsets: &[usize]) -> Self {
        let count = offsets.len();
        assert!((1..=MAX_RUNS).contains(&count), "rows of {count} runs, 1 to {MAX_RUNS} are possible");
        let last = offsets.iter().copied().max().unwrap_or(0);
        let need = match rows {
            0 => Some(0),
            _ => (rows - 1).checked_mul(stride).and_then(|start| start.checked_add(last)?.checked_add(len)),
        };
        let fits = need.is_some_and(|need| need <= data.len());
        assert!(fits, "{rows} x {len} at stride {stride} needs {need:?} elements, got {}", data.len());
        let mut all = [0; MAX_RUNS];
        all[..count].copy_from_slice(offsets);
        // Runs overlap at will, so that their sum may pass what memory holds.
        let Some(cols) = len.checked_mul(count) else { panic!("{count} runs of {len} elements") };
        Rows { data, rows, cols, len, stride, offsets: all, count }
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

    /// Runs of a row.
    pub fn runs(&self) -> usize {
        self.count
    }

    /// Elements of a run.
    pub fn run_len(&self) -> usize {
        self.len
    }

    /// Run `i` of row `r`.
    ///
    /// # Panics
    /// When `r` is not below [`Rows::rows`], or `i` not below [`Rows::runs`].
    #[inline(always)]
    pub fn run(&self, r: usize, i: usize) -> &'a [T] {
        assert!(r < self.rows && i < self.count, "run {i} of row {r}, of {} x {}", self.rows, self.count);
        &self.data[r * self.stride + self.offsets[i]..][..self.len]
    }

    /// The elements that rows lie in, and where in them the runs of row 0 start.
    pub(in crate::cpu) fn places(&self) -> (&'a [T], &[usize]) {
        (self.data, &self.offsets[..self.count])
    }

    /// From the first row's first element to the last row's last.
    ///
    /// # Panics
    /// When there are no rows, or a row has several runs.
    pub fn all(&self) -> &'a [T] {
        assert!(self.rows > 0 && self.count == 1, "{} rows of {} runs", self.rows, self.count);
        &self.data[self.offsets[0]..][..(self.rows - 1) * self.stride + self.cols]
    }

    /// Row `r` as a slice.
    ///
    /// # Panics
    /// When `r` is not below [`Rows::rows`], or a row has several runs.
    #[inline(always)]
    pub fn row(&self, r: usize) -> &'a [T] {
        assert!(r < self.rows && self.count == 1, "row {r} of {}, in {} runs", self.rows, self.count);
        &self.data[r * self.stride + self.offsets[0]..][..self.cols]
    }
}
