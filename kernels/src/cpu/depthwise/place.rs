//! Tiles of neighbouring pixels that read the image in place: where they lie, and what of the image is readable from there.

use std::ops::Range;

use super::super::gemm_f32::Columns;
use super::{PANEL, Task};

/// Where a tile lies, and its taps: the same for all pixels.
#[derive(Clone)]
pub(super) struct Place {
    pub oy: usize,
    pub ox: usize,
    /// First channel and block within the part.
    pub channel: usize,
    pub block: usize,
    /// Taps inside the image.
    pub rows: Range<usize>,
    pub columns: Range<usize>,
}

/// Output columns whose windows lie in the image from left to right.
pub(super) fn inner<X, W>(task: &Task<'_, X, W>) -> Range<usize> {
    let s = task.shape;
    let whole = |ox: &usize| s.columns(*ox) == (0..s.kw);
    let start = (0..s.ow).find(whole).unwrap_or(s.ow);
    // With all columns inside at both ends, they are inside between them.
    start..(start..s.ow).rev().find(whole).map_or(start, |last| last + 1)
}

/// Kernel columns inside the image for output column `ox`. No division for most of them.
#[inline(always)]
pub(super) fn columns_of<X, W>(task: &Task<'_, X, W>, inner: &Range<usize>, ox: usize) -> Range<usize> {
    if inner.contains(&ox) { 0..task.shape.kw } else { task.shape.columns(ox) }
}

/// The channel blocks of output row `oy`.
#[inline(always)]
pub(super) fn blocks<'a, X, W>(
    task: &Task<'a, X, W>,
    oy: usize,
) -> impl Iterator<Item = (Place, Columns)> + use<'a, X, W> {
    let rows = task.shape.rows(oy);
    let channels = task.part.channels.clone();
    let (epilogue, cols) = (task.epilogue, channels.len());
    channels.step_by(PANEL).enumerate().map(move |(block, channel)| {
        let place = Place { oy, ox: 0, channel, block, rows: rows.clone(), columns: 0..0 };
        (place, epilogue.columns(block * PANEL, cols))
    })
}

/// Whether 16 elements can be read under every tap of `pixels` pixels from `place` on: the last tap's end in the image. Only a
/// block that the channels do not fill may run past it, at the last pixel.
#[inline(always)]
pub(super) fn readable<X, W>(task: &Task<'_, X, W>, place: &Place, pixels: usize) -> bool {
    if place.rows.is_empty() || place.columns.is_empty() {
        return true;
    }
    let s = task.shape;
    let last = s.at((place.oy, place.ox + pixels - 1), (place.rows.end - 1, place.columns.end - 1));
    last + place.channel + PANEL <= task.src.len()
}

/// 16 readable elements of an image from some offset on.
pub(super) enum Lanes<T, const WHOLE: bool> {
    Image(*const T),
    Copy([T; PANEL]),
}

impl<T: Copy + Default, const WHOLE: bool> Lanes<T, WHOLE> {
    /// A block that the image does not fill runs into the next pixel, whose lanes nobody stores; after the last
    /// pixel there is none, so those lanes are made up.
    ///
    /// # Safety
    /// If `WHOLE`, 16 elements from `at` on are in `src`.
    #[inline(always)]
    pub(super) unsafe fn new(src: &[T], at: usize) -> Self {
        if WHOLE {
            // SAFETY: the caller's promise.
            return Lanes::Image(unsafe { src.as_ptr().add(at) });
        }
        let from = &src[at..];
        let mut lanes = [T::default(); PANEL];
        let len = from.len().min(PANEL);
        lanes[..len].copy_from_slice(&from[..len]);
        Lanes::Copy(lanes)
    }

    #[inline(always)]
    pub(super) fn as_ptr(&self) -> *const T {
        match self {
            Lanes::Image(lanes) => *lanes,
            Lanes::Copy(lanes) => lanes.as_ptr(),
        }
    }
}
