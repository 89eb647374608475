//! The strided copy.

use std::ops::Range;

use crate::cpu::shape::{MAX_DIMS, ShapeError, checked_len, next_index};

/// Where the elements of one side of a copy lie, in elements.
#[derive(Clone, Copy, Debug)]
pub struct Strides<'a> {
    /// The element at index 0 of every dimension.
    pub offset: usize,
    /// Elements between neighbours, for each dimension; 0 repeats, negative walks backwards.
    pub strides: &'a [isize],
}

/// One of the two sides of a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// What is read.
    Source,
    /// What is written.
    Destination,
}

/// One dimension of the copy, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Dim {
    len: usize,
    src: isize,
    dst: isize,
}

/// A copy of `rows` runs of `run` bytes; run `i` goes from `src_offset + i * src_pitch` to
/// `dst_offset + i * dst_pitch`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // said above
pub struct Runs {
    pub rows: usize,
    pub run: usize,
    pub src_offset: usize,
    pub src_pitch: usize,
    pub dst_offset: usize,
    pub dst_pitch: usize,
}

/// Rows of a copy's destination that do not reach into each other, see [`CopyPlan::rows`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DestinationRows {
    /// Their dimension.
    at: usize,
    /// How many.
    pub count: usize,
    /// Where the first one starts.
    pub offset: usize,
    /// Bytes from one to the next.
    pub pitch: usize,
    /// Bytes that one spans.
    pub bytes: usize,
}

/// A copy of a box of elements between two strided layouts, checked and simplified.
///
/// Dimensions of 1 are dropped, dimensions that both sides walk contiguously are joined, and the innermost
/// contiguous bytes become one `memcpy`. If instead the source is contiguous along some other dimension than the
/// destination (a transpose), elements of 1, 2, 4 and 8 bytes move in square tiles.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CopyPlan {
    /// Bytes moved at a time: an element, or a contiguous run of them.
    run: usize,
    rank: usize,
    /// Outermost first; `rank` of them are used.
    dims: [Dim; MAX_DIMS],
    /// First byte on each side.
    src_offset: usize,
    dst_offset: usize,
    /// Bytes each side must have.
    src_len: usize,
    dst_len: usize,
}

impl CopyPlan {
    /// The copy `dst[dst.offset + i . dst.strides] = src[src.offset + i . src.strides]` for every index `i` of
    /// `dims`, elements of `elem_size` bytes.
    ///
    /// # Errors
    /// When a stride list does not fit `dims`, an index reaches before the first element of a side, more than
    /// [`MAX_DIMS`] dimensions are left, or an address overflows.
    pub fn new(
        elem_size: usize,
        dims: &[usize],
        src: Strides<'_>,
        dst: Strides<'_>,
    ) -> Result<Self, ShapeError> {
        for side in [&src, &dst] {
            if side.strides.len() != dims.len() {
                return Err(ShapeError::Rank { want: dims.len(), got: side.strides.len() });
            }
        }
        let mut plan = CopyPlan {
            run: elem_size,
            rank: 0,
            dims: [Dim::default(); MAX_DIMS],
            src_offset: 0,
            dst_offset: 0,
            src_len: 0,
            dst_len: 0,
        };
        if checked_len(dims)? == 0 || elem_size == 0 {
            plan.run = 0;
            return Ok(plan);
        }
        (plan.src_offset, plan.src_len) = extent(elem_size, dims, src)?;
        (plan.dst_offset, plan.dst_len) = extent(elem_size, dims, dst)?;

        // In reverse order first, so that joining looks at the last dimension pushed. `extent` has shown that
        // these products fit.
        let mut joined = [Dim::default(); MAX_DIMS];
        let (mut rank, mut too_many) = (0usize, 0);
        let size = elem_size as isize;
        for axis in (0..dims.len()).rev() {
            if dims[axis] == 1 {
                continue;
            }
            let dim = Dim { len: dims[axis], src: src.strides[axis] * size, dst: dst.strides[axis] * size };
            let run = plan.run as isize;
            if rank == 0 && dim.src == run && dim.dst == run {
                plan.run *= dim.len;
                continue;
            }
            let inner = joined.get(rank.wrapping_sub(1)).copied().unwrap_or_default();
            let joins = |inner_step: isize, step| inner_step.checked_mul(inner.len as isize) == Some(step);
            if too_many == 0 && inner.len > 0 && joins(inner.src, dim.src) && joins(inner.dst, dim.dst) {
                joined[rank - 1].len *= dim.len;
            } else if rank < MAX_DIMS {
                joined[rank] = dim;
                rank += 1;
            } else {
                too_many += 1;
            }
        }
        if too_many > 0 {
            return Err(ShapeError::TooManyDims { dims: MAX_DIMS + too_many });
        }
        joined[..rank].reverse();
        (plan.rank, plan.dims) = (rank, joined);
        plan.pair_transpose();
        Ok(plan)
    }

    /// Puts the dimension that is contiguous in the destination innermost, and before it the one that is
    /// contiguous in the source: the pair is what [`transpose`] handles. The order of a copy does not matter.
    fn pair_transpose(&mut self) {
        let run = self.run as isize;
        let dims = &mut self.dims[..self.rank];
        let Some(at) = dims.iter().rposition(|d| d.dst == run) else { return };
        dims[at..].rotate_left(1);
        let outer = self.rank - 1;
        if let Some(at) = dims[..outer].iter().rposition(|d| d.src == run) {
            dims[at..outer].rotate_left(1);
        }
    }

    /// The copy as runs of contiguous bytes at equal distances, when it is one.
    pub fn runs(&self) -> Option<Runs> {
        let (rows, src_pitch, dst_pitch) = match self.dims[..self.rank] {
            [] if self.run > 0 => (1, self.run, self.run),
            [dim] => (dim.len, usize::try_from(dim.src).ok()?, usize::try_from(dim.dst).ok()?),
            _ => return None,
        };
        let (src_offset, dst_offset) = (self.src_offset, self.dst_offset);
        Some(Runs { rows, run: self.run, src_offset, src_pitch, dst_offset, dst_pitch })
    }

    /// The rows of the destination: what one index of its outermost dimension writes. `None` when rows reach into each other, or
    /// there is only one.
    pub fn rows(&self) -> Option<DestinationRows> {
        let dims = &self.dims[..self.rank];
        let (at, dim) = dims.iter().enumerate().max_by_key(|(_, dim)| dim.dst)?;
        let mut bytes = self.run;
        for (_, dim) in dims.iter().enumerate().filter(|(i, _)| *i != at) {
            bytes = usize::try_from(dim.dst).ok()?.checked_mul(dim.len - 1)?.checked_add(bytes)?;
        }
        let pitch = usize::try_from(dim.dst).ok().filter(|pitch| bytes <= *pitch)?;
        Some(DestinationRows { at, count: dim.len, offset: self.dst_offset, pitch, bytes })
    }

    /// The copy of some of its [`CopyPlan::rows`], to a destination that starts with the first of them.
    ///
    /// # Panics
    /// When there are no such rows.
    pub fn of_rows(&self, all: &DestinationRows, rows: Range<usize>) -> CopyPlan {
        assert!(rows.start < rows.end && rows.end <= all.count, "rows {rows:?} of {}", all.count);
        let mut part = *self;
        part.dims[all.at].len = rows.len();
        part.src_offset = at(self.src_offset, rows.start, self.dims[all.at].src);
        (part.dst_offset, part.dst_len) = (0, (rows.len() - 1) * all.pitch + all.bytes);
        part
    }

    /// The copy of the first `rows` of the `height` rows that one side has, and the bytes of the other side from a row's first to
    /// the next's; later rows are the same copy further on in both. `None` when rows are not copied alike.
    pub fn first_rows(
        &self,
        side: Side,
        row_bytes: usize,
        height: usize,
        rows: usize,
    ) -> Option<(CopyPlan, isize)> {
        let whole = row_bytes.checked_mul(height)?;
        let mut part = *self;
        if self.rank == 0 && self.run == whole && height > 0 {
            part.run = row_bytes * rows;
            (part.src_len, part.dst_len) = (self.src_offset + part.run, self.dst_offset + part.run);
            return Some((part, row_bytes as isize));
        }
        let strides = |d: &Dim| if side == Side::Source { (d.src, d.dst) } else { (d.dst, d.src) };
        let rises =
            |d: &Dim| usize::try_from(strides(d).0).is_ok_and(|s| s.checked_mul(d.len) == Some(whole));
        let at = self.dims[..self.rank].iter().position(rises)?;
        let dim = self.dims[at];
        let offset = if side == Side::Source { self.src_offset } else { self.dst_offset };
        if !dim.len.is_multiple_of(height) || rows > height || offset >= row_bytes {
            return None;
        }
        let each = dim.len / height;
        part.dims[at].len = each * rows;
        let fewer = dim.len - each * rows;
        // A dimension walked backwards has its first row at the end.
        part.src_len -= fewer * usize::try_from(dim.src).unwrap_or(0);
        part.dst_len -= fewer * usize::try_from(dim.dst).unwrap_or(0);
        Some((part, strides(&dim).1 * each as isize))
    }

    /// The same copy with one of its sides `bytes` further on; `None` when that is before the side's first byte.
    pub fn further(&self, side: Side, bytes: isize) -> Option<CopyPlan> {
        let mut moved = *self;
        let (offset, len) = match side {
            Side::Source => (&mut moved.src_offset, &mut moved.src_len),
            Side::Destination => (&mut moved.dst_offset, &mut moved.dst_len),
        };
        (*offset, *len) = (offset.checked_add_signed(bytes)?, len.checked_add_signed(bytes)?);
        Some(moved)
    }

    /// Bytes that [`CopyPlan::run`] needs in its source.
    pub fn src_len(&self) -> usize {
        self.src_len
    }

    /// Bytes that [`CopyPlan::run`] needs in its destination.
    pub fn dst_len(&self) -> usize {
        self.dst_len
    }

    /// Copies.
    ///
    /// # Panics
    /// When a side is shorter than [`CopyPlan::src_len`] or [`CopyPlan::dst_len`].
    #[inline(never)] // or its loops would be compiled as its caller is: for size
    pub fn run(&self, src: &[u8], dst: &mut [u8]) {
        assert!(src.len() >= self.src_len, "source of {} bytes, needs {}", src.len(), self.src_len);
        assert!(dst.len() >= self.dst_len, "destination of {} bytes, needs {}", dst.len(), self.dst_len);
        if self.run == 0 {
            return;
        }
        let is_transpose = self.rank >= 2
            && self.dims[self.rank - 1].dst == self.run as isize
            && self.dims[self.rank - 2].src == self.run as isize;
        match (self.run, is_transpose) {
            (1, true) => self.each(2, |s, d, [rows, cols]| transpose::<1, 16>(src, s, dst, d, rows, cols)),
            (2, true) => self.each(2, |s, d, [rows, cols]| transpose::<2, 16>(src, s, dst, d, rows, cols)),
            (4, true) => self.each(2, |s, d, [rows, cols]| transpose::<4, 8>(src, s, dst, d, rows, cols)),
            (8, true) => self.each(2, |s, d, [rows, cols]| transpose::<8, 8>(src, s, dst, d, rows, cols)),
            (1, _) => self.each(1, |s, d, [_, dim]| strided::<1>(src, s, dst, d, dim)),
            (2, _) => self.each(1, |s, d, [_, dim]| strided::<2>(src, s, dst, d, dim)),
            (4, _) => self.each(1, |s, d, [_, dim]| strided::<4>(src, s, dst, d, dim)),
            (8, _) => self.each(1, |s, d, [_, dim]| strided::<8>(src, s, dst, d, dim)),
            (run, _) => self.each(1, |s, d, [_, dim]| {
                for i in 0..dim.len {
                    let (s, d) = (at(s, i, dim.src), at(d, i, dim.dst));
                    dst[d..d + run].copy_from_slice(&src[s..s + run]);
                }
            }),
        }
    }

    /// Calls `f` with the two first bytes of every block that the innermost `inner` dimensions span, and with
    /// the two innermost dimensions (a missing one has length 1).
    #[inline(always)]
    fn each(&self, inner: usize, mut f: impl FnMut(usize, usize, [Dim; 2])) {
        let one = Dim { len: 1, src: 0, dst: 0 };
        let dim = |from_end: usize| self.rank.checked_sub(from_end).map_or(one, |i| self.dims[i]);
        let innermost = [dim(2), dim(1)];
        let outer = self.rank.saturating_sub(inner);
        let mut lens = [1; MAX_DIMS];
        for (len, dim) in lens.iter_mut().zip(&self.dims[..outer]) {
            *len = dim.len;
        }
        let mut index = [0; MAX_DIMS];
        loop {
            let (mut s, mut d) = (self.src_offset, self.dst_offset);
            for (i, dim) in index[..outer].iter().zip(&self.dims) {
                (s, d) = (at(s, *i, dim.src), at(d, *i, dim.dst));
            }
            f(s, d, innermost);
            if !next_index(&mut index[..outer], &lens[..outer]) {
                return;
            }
        }
    }
}

/// First byte, and one past the last byte, that a side touches. `dims` holds no 0.
fn extent(elem_size: usize, dims: &[usize], side: Strides<'_>) -> Result<(usize, usize), ShapeError> {
    let size = i64::try_from(elem_size).map_err(|_| ShapeError::TooLarge)?;
    let start =
        i64::try_from(side.offset).ok().and_then(|o| o.checked_mul(size)).ok_or(ShapeError::TooLarge)?;
    let (mut low, mut high) = (start, start.checked_add(size).ok_or(ShapeError::TooLarge)?);
    for (dim, stride) in dims.iter().zip(side.strides) {
        let last = i64::try_from(dim - 1).map_err(|_| ShapeError::TooLarge)?;
        let step =
            i64::try_from(*stride).ok().and_then(|s| s.checked_mul(size)).ok_or(ShapeError::TooLarge)?;
        let reach = step.checked_mul(last).ok_or(ShapeError::TooLarge)?;
        // A dimension of 1 is never walked, but its stride in bytes must fit all the same.
        let bound = if reach < 0 { &mut low } else { &mut high };
        *bound = bound.checked_add(reach).ok_or(ShapeError::TooLarge)?;
    }
    if low < 0 {
        return Err(ShapeError::BeforeStart);
    }
    let high = isize::try_from(high).map_err(|_| ShapeError::TooLarge)?;
    Ok((start as usize, high as usize))
}

/// Byte position `i` steps of `stride` after `base`; `extent` has shown that it is not negative.
#[inline(always)]
fn at(base: usize, i: usize, stride: isize) -> usize {
    base.wrapping_add_signed((i as isize).wrapping_mul(stride))
}

/// `dim.len` elements of `SIZE` bytes, strided on both sides.
#[inline(never)] // or each of its callers would hold a copy of its loops
fn strided<const SIZE: usize>(src: &[u8], s: usize, dst: &mut [u8], d: usize, dim: Dim) {
    let dense = SIZE as isize;
    match (dim.src, dim.dst) {
        (0, step) if step == dense => super::fill(&mut dst[d..d + dim.len * SIZE], &src[s..s + SIZE]),
        // Dense on one side and forward on the other: cutting both into steps spares a check an element.
        (step, to) if to == dense && step >= dense => {
            let dst = dst[d..d + dim.len * SIZE].chunks_exact_mut(SIZE);
            for (dst, src) in dst.zip(src[s..].chunks(step as usize)) {
                dst.copy_from_slice(&src[..SIZE]);
            }
        }
        (from, step) if from == dense && step >= dense => {
            let src = src[s..s + dim.len * SIZE].chunks_exact(SIZE);
            for (src, dst) in src.zip(dst[d..].chunks_mut(step as usize)) {
                dst[..SIZE].copy_from_slice(src);
            }
        }
        _ => {
            for i in 0..dim.len {
                let (s, d) = (at(s, i, dim.src), at(d, i, dim.dst));
                dst[d..d + SIZE].copy_from_slice(&src[s..s + SIZE]);
            }
        }
    }
}

/// `rows.len` x `cols.len` elements of `SIZE` bytes: the source is contiguous along `rows`, the destination
/// along `cols`. In tiles of `TILE` x `TILE`, so that each cache line of both sides is used whole.
#[inline(always)]
fn transpose<const SIZE: usize, const TILE: usize>(
    src: &[u8],
    s: usize,
    dst: &mut [u8],
    d: usize,
    rows: Dim,
    cols: Dim,
) {
    // Too narrow for tiles, like an image's channels: pixel by pixel, or else one long line after the other.
    if matches!(SIZE, 1 | 4) && rows.dst == (cols.len * SIZE) as isize {
        match cols.len {
            2 => return interleave::<SIZE, 2>(src, s, dst, d, rows, cols),
            3 => return interleave::<SIZE, 3>(src, s, dst, d, rows, cols),
            4 => return interleave::<SIZE, 4>(src, s, dst, d, rows, cols),
            _ => {}
        }
    }
    if cols.len < TILE {
        for c in 0..cols.len {
            strided::<SIZE>(src, at(s, c, cols.src), dst, d + c * SIZE, rows);
        }
        return;
    }
    if rows.len < TILE {
        for r in 0..rows.len {
            strided::<SIZE>(src, s + r * SIZE, dst, at(d, r, rows.dst), cols);
        }
        return;
    }
    for r in (0..rows.len).step_by(TILE) {
        for c in (0..cols.len).step_by(TILE) {
            let (height, width) = (TILE.min(rows.len - r), TILE.min(cols.len - c));
            let (s, d) = (at(s + r * SIZE, c, cols.src), at(d + c * SIZE, r, rows.dst));
            if height < TILE || width < TILE {
                for i in 0..height {
                    let dim = Dim { len: width, ..cols };
                    strided::<SIZE>(src, s + i * SIZE, dst, at(d, i, rows.dst), dim);
                }
                continue;
            }
            let mut tile = [[[0u8; SIZE]; TILE]; TILE];
            for (j, column) in tile.iter_mut().enumerate() {
                let from = at(s, j, cols.src);
                column.as_flattened_mut().copy_from_slice(&src[from..from + SIZE * TILE]);
            }
            for i in 0..TILE {
                let to = at(d, i, rows.dst);
                let row = &mut dst[to..to + SIZE * TILE];
                for (to, column) in row.chunks_exact_mut(SIZE).zip(&tile) {
                    to.copy_from_slice(&column[i]);
                }
            }
        }
    }
}

/// [`transpose`] of `COLS` columns to rows without gaps.
#[inline(always)]
fn interleave<const SIZE: usize, const COLS: usize>(
    src: &[u8],
    s: usize,
    dst: &mut [u8],
    d: usize,
    rows: Dim,
    cols: Dim,
) {
    let lines: [&[[u8; SIZE]]; COLS] = std::array::from_fn(|c| {
        let from = at(s, c, cols.src);
        src[from..from + rows.len * SIZE].as_chunks().0
    });
    let pixels = dst[d..d + rows.len * COLS * SIZE].as_chunks_mut::<SIZE>().0;
    for (i, pixel) in pixels.chunks_exact_mut(COLS).enumerate() {
        for (to, line) in pixel.iter_mut().zip(lines) {
            *to = line[i];
        }
    }
}
