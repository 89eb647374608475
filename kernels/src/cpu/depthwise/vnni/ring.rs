//! Input pixels side by side with those of the rows below.

use std::arch::x86_64::{
    __m512i, __mmask64, _MM_HINT_T0, _mm_prefetch, _mm512_mask_loadu_epi8, _mm512_maskz_loadu_epi8,
    _mm512_set1_epi8, _mm512_storeu_si512, _mm512_unpackhi_epi8, _mm512_unpackhi_epi16, _mm512_unpacklo_epi8,
    _mm512_unpacklo_epi16, _mm512_xor_si512,
};
use std::mem::MaybeUninit;
use std::ops::Range;

use super::super::{PANEL, Task};
use super::group::Group;
use super::{FOUR, Fours, GROUP};

/// What a row of the ring is made of.
struct Source<const TOGETHER: usize> {
    /// For each kernel row and output row: the pixel of the first column that is in the image, less the bytes before its quarters; and
    /// bytes to the next, none where all is padding.
    at: [[(*const i8, usize); TOGETHER]; FOUR],
}

/// Columns of the ring for output rows and columns from `(oy, ox)` on: `[fours][width]`.
#[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl")]
#[inline(never)]
pub(super) fn fill<const TOGETHER: usize>(
    task: &Task<'_, i8, i16>,
    group: &Group,
    (oy, ox): (usize, usize),
    ring: &mut [MaybeUninit<Fours>],
) {
    let s = task.shape;
    let width = ring.len() / group.sizes.fours;
    let x = (ox * s.stride_w) as isize - s.pad_left as isize;
    let inside = |i: isize| usize::try_from(i).unwrap_or(0).min(width);
    // Columns of the ring that are in the image.
    let there: Range<usize> = inside(-x)..inside(s.w as isize - x).max(inside(-x));
    let channel = task.part.channels.start + group.first;
    let first = (x + there.start as isize).max(0) as usize * s.c + channel;
    let padding = [task.zero_point as i8; GROUP];
    let outside = _mm512_set1_epi8((task.zero_point + 128) as i8);
    let quarters = FOUR / TOGETHER * PANEL;
    // Bytes of the channels, in the quarters of each output row.
    let own = u64::MAX >> (64 - group.channels);
    let masks: [__mmask64; TOGETHER] = std::array::from_fn(|t| own << (t * quarters));
    // Of all output rows that share the ring.
    let kernel_rows = s.kh + (group.sizes.rows - 1) * s.stride_h;
    for (four, ring) in ring.chunks_exact_mut(width).enumerate() {
        let mut source = Source::<TOGETHER> { at: [[(padding.as_ptr(), 0); TOGETHER]; FOUR] };
        for (i, at) in source.at.iter_mut().enumerate() {
            for (t, at) in at.iter_mut().enumerate() {
                let (ky, oy) = (four * FOUR + i, oy + t * group.sizes.rows);
                let y = (oy * s.stride_h + ky * s.dil_h).wrapping_sub(s.pad_top);
                if ky < kernel_rows && oy < task.part.rows.end && y < s.h && !there.is_empty() {
                    // Its last pixel's channels are in the image.
                    let row = &task.src[y * s.w * s.c + first..][..(there.len() - 1) * s.c + group.channels];
                    *at = (row.as_ptr(), s.c);
                }
                at.0 = at.0.wrapping_sub(t * quarters);
            }
        }
        let (left, rest) = ring.split_at_mut(there.start);
        let (middle, right) = rest.split_at_mut(there.len());
        for to in left.iter_mut().chain(right) {
            for i in 0..FOUR {
                // SAFETY: room for four registers.
                unsafe { _mm512_storeu_si512(to.as_mut_ptr().cast::<u8>().add(64 * i).cast(), outside) };
            }
        }
        // Rows below are next, and their pixels lie too far apart for the CPU to see it: as many as the output rows go down.
        let down = group.sizes.rows * s.stride_h;
        let (below, rows) = (down * s.w * s.c, kernel_rows.saturating_sub(down)..kernel_rows);
        let (start, end) = (rows.start.saturating_sub(four * FOUR), rows.end - four * FOUR);
        let new = start.min(FOUR)..end.min(FOUR);
        for to in middle {
            for at in &source.at[new.clone()] {
                _mm_prefetch::<_MM_HINT_T0>(at[TOGETHER - 1].0.wrapping_add(below).cast());
            }
            // SAFETY: the mask leaves the channels of a pixel, which is in the image, or of the padding; room for four registers.
            unsafe { store_fours(to.as_mut_ptr(), source.next(&masks)) };
        }
    }
}

impl<const TOGETHER: usize> Source<TOGETHER> {
    /// The channels of a pixel in four rows, made unsigned; then all pointers are at the next pixel.
    ///
    /// # Safety
    /// The bytes of the masks are readable.
    #[target_feature(enable = "avx512f,avx512bw")]
    #[inline]
    unsafe fn next(&mut self, masks: &[__mmask64; TOGETHER]) -> [__m512i; FOUR] {
        let sign = _mm512_set1_epi8(-128);
        let mut rows = [sign; FOUR];
        for (row, at) in rows.iter_mut().zip(&mut self.at) {
            // SAFETY: the caller's promise.
            let mut x = unsafe { _mm512_maskz_loadu_epi8(masks[0], at[0].0) };
            for t in 1..TOGETHER {
                // SAFETY: the caller's promise.
                x = unsafe { _mm512_mask_loadu_epi8(x, masks[t], at[t].0) };
            }
            *row = _mm512_xor_si512(x, sign);
            for (at, step) in at {
                *at = at.wrapping_add(*step);
            }
        }
        rows
    }
}

/// Stores the bytes of four rows side by side.
///
/// # Safety
/// There is room for four registers.
#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
pub(super) unsafe fn store_fours(to: *mut Fours, [a, b, c, d]: [__m512i; FOUR]) {
    let (low, high) = (_mm512_unpacklo_epi8(a, b), _mm512_unpackhi_epi8(a, b));
    let (low_below, high_below) = (_mm512_unpacklo_epi8(c, d), _mm512_unpackhi_epi8(c, d));
    let registers = [
        _mm512_unpacklo_epi16(low, low_below),
        _mm512_unpackhi_epi16(low, low_below),
        _mm512_unpacklo_epi16(high, high_below),
        _mm512_unpackhi_epi16(high, high_below),
    ];
    for (i, register) in registers.into_iter().enumerate() {
        // SAFETY: the caller's promise.
        unsafe { _mm512_storeu_si512(to.cast::<u8>().add(64 * i).cast(), register) };
    }
}
