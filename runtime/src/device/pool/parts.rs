//! Runs whose tasks each get a part of one buffer that nobody else has.

use std::marker::PhantomData;

use edge_kernels::MatMut;

use super::{Pool, share};

/// A matrix that several threads cut tiles from.
struct SharedMat<'a, T>(MatMut<'a, T>);

// SAFETY: the only use of the shared view is `tile`, whose callers never take one element twice; handing the elements
// to other threads is what `T: Send` allows.
unsafe impl<T: Send> Sync for SharedMat<'_, T> {}

impl<T> SharedMat<'_, T> {
    /// The tile from (`row0`, `col0`) of at most `row_block` x `col_block` elements.
    ///
    /// # Safety
    /// `row0` and `col0` must lie inside the matrix, and no element of the tile may be in another live tile.
    unsafe fn tile(&self, row0: usize, col0: usize, row_block: usize, col_block: usize) -> MatMut<'_, T> {
        let rows = row0..row0 + row_block.min(self.0.rows() - row0);
        let cols = col0..col0 + col_block.min(self.0.cols() - col0);
        // SAFETY: both ranges end inside the matrix by the two lines above; the caller keeps tiles apart.
        unsafe { self.0.part_unchecked(rows, cols) }
    }
}

/// A slice that several threads cut chunks from.
struct SharedSlice<'a, T> {
    ptr: *mut T,
    len: usize,
    life: PhantomData<&'a mut [T]>,
}

// SAFETY: as for `SharedMat`, with `chunk` in the place of `tile`.
unsafe impl<T: Send> Sync for SharedSlice<'_, T> {}

impl<T> SharedSlice<'_, T> {
    /// Elements `[start, start + chunk)`, cut at the end of the slice.
    ///
    /// # Safety
    /// `start` must be at most the length, and no element of the chunk may be in another live chunk.
    #[allow(clippy::mut_from_ref)] // The caller's promise is what makes the chunks exclusive.
    unsafe fn chunk(&self, start: usize, chunk: usize) -> &mut [T] {
        let len = chunk.min(self.len - start);
        // SAFETY: start + len <= self.len, the slice is borrowed for as long as `self`, chunks are kept apart by the
        // caller.
        unsafe { std::slice::from_raw_parts_mut(self.ptr.add(start), len) }
    }
}

impl Pool {
    /// Cuts `mat` into tiles of `row_block` x `col_block` (less at the lower and right edges) and calls
    /// `f(worker, row0, col0, tile)` once for each, `row0` and `col0` being the tile's place in `mat`. Tiles that
    /// lie below each other come one after the other: they read the same panel of weights, while it is in cache.
    ///
    /// # Panics
    /// When a block is 0, and as [`Pool::run`] when a call panics.
    pub fn tiles<T, F>(&self, mat: MatMut<'_, T>, row_block: usize, col_block: usize, f: F)
    where
        T: Send,
        F: Fn(usize, usize, usize, MatMut<'_, T>) + Sync,
    {
        assert!(row_block > 0 && col_block > 0, "tiles of {row_block} x {col_block}");
        let down = mat.rows().div_ceil(row_block);
        let across = mat.cols().div_ceil(col_block);
        let Some(tiles) = down.checked_mul(across) else {
            panic!("{down} x {across} tiles");
        };
        let mat = SharedMat(mat);
        let threads = self.threads();
        self.run(tiles, |task, worker| {
            // A thread's share are rows of its own, in all columns: what it reads, it has mostly written. In each band downwards first.
            let bands = (0..threads).map(|i| share(down, threads, i));
            let band = bands.into_iter().find(|band| task < band.end * across).unwrap_or(0..down);
            let at = task - band.start * across;
            let (row0, col0) = ((band.start + at % band.len()) * row_block, at / band.len() * col_block);
            // SAFETY: the bands are all rows of tiles, one after the other, and task < down * across, so row0 < rows and
            // col0 < cols. `run` hands out each task once, and different tasks differ in their band, or in `at % band.len()` or
            // `at / band.len()`, that is in rows or columns.
            let tile = unsafe { mat.tile(row0, col0, row_block, col_block) };
            f(worker, row0, col0, tile);
        });
    }

    /// Cuts `data` into chunks of `chunk` elements (the last one may be shorter) and calls `f(worker, i, chunk_i)`
    /// once for each; chunk `i` starts at element `i * chunk`.
    ///
    /// # Panics
    /// When `chunk` is 0, and as [`Pool::run`] when a call panics.
    pub fn chunks_mut<T, F>(&self, data: &mut [T], chunk: usize, f: F)
    where
        T: Send,
        F: Fn(usize, usize, &mut [T]) + Sync,
    {
        assert!(chunk > 0, "chunks of 0 elements");
        let len = data.len();
        let data = SharedSlice { ptr: data.as_mut_ptr(), len, life: PhantomData };
        // The struct as a whole must go into the closure: its parts alone are not Sync.
        let data = &data;
        self.run(len.div_ceil(chunk), |task, worker| {
            // SAFETY: task * chunk < len. `run` hands out each task once, and chunks of different tasks are disjoint.
            let part = unsafe { data.chunk(task * chunk, chunk) };
            f(worker, task, part);
        });
    }
}
