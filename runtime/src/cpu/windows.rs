//! The windows of a convolution as rows of a matrix that are never gathered: each input row that a task needs is copied once,
//! padding and all, into a ring, where every tap row of a window is one run of elements.

use edge_kernels::cpu::gemm_f32::{MAX_RUNS, Rows};
use edge_kernels::cpu::gemm_i8::BLOCK;
use edge_kernels::cpu::im2col::ConvShape;
use std::ops::Range;

/// Most bytes of a ring: a part of any second-level cache, beside the panels.
const RING_BYTES: usize = 192 << 10;
/// Least pixels of a piece of an output row, which is one call of a kernel: as many as gathered rows would be.
const LEAST_WIDTH: usize = 8;

/// Who works on the pieces of [`Windows::each`].
pub(super) trait Pieces<T> {
    /// Whether windows may also lie in the image, where no tap row is in the ring.
    const IN_IMAGE: bool = false;
    /// A slot of the ring has a new input row.
    fn filled(&mut self, _slot: usize, _row: &[T]) {}
    /// The windows of the output pixels from `first` on; where in the ring each tap row of the first window lies.
    fn piece(&mut self, first: usize, windows: Rows<'_, T>, taps: &[usize]);
}

impl<T, F: FnMut(usize, Rows<'_, T>)> Pieces<T> for F {
    const IN_IMAGE: bool = true;

    fn piece(&mut self, first: usize, windows: Rows<'_, T>, _: &[usize]) {
        self(first, windows);
    }
}

/// A ring of input rows for pieces of output rows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Windows {
    shape: ConvShape,
    /// Output pixels of a piece.
    width: usize,
    /// Input rows that a window spans; one more slot holds padding.
    rows: usize,
    /// Elements of a slot.
    slot: usize,
}

impl Windows {
    /// `None` where windows must be gathered: columns apart, rows too many or too wide, pieces too short, or, for integers, runs that
    /// are not whole blocks.
    pub fn new(shape: &ConvShape, integer: bool) -> Option<Windows> {
        let s = shape;
        let run = s.kw.checked_mul(s.ic)?;
        if s.dil_w != 1 || !(1..=MAX_RUNS).contains(&s.kh) || run == 0 || s.ow < LEAST_WIDTH {
            return None;
        }
        if integer && !run.is_multiple_of(BLOCK) {
            return None;
        }
        let rows = (s.kh - 1).checked_mul(s.dil_h)?.checked_add(1)?;
        let pixel = s.ic.checked_mul(if integer { 1 } else { 4 })?;
        // Input columns that the ring has room for, and the output pixels that they make.
        let columns = RING_BYTES / rows.checked_add(1)?.checked_mul(pixel)?;
        let most = columns.checked_sub(s.kw)? / s.stride_w + 1;
        let width = if most < s.ow { most / 24 * 24 } else { s.ow };
        let columns = (width.checked_sub(1)?).checked_mul(s.stride_w)?.checked_add(s.kw)?;
        (width >= LEAST_WIDTH).then_some(Windows { shape: *s, width, rows, slot: columns * s.ic })
    }

    /// Elements of the ring.
    pub fn elements(&self) -> usize {
        (self.rows + 1) * self.slot
    }

    /// Most rows of one matrix.
    pub fn width(&self) -> usize {
        self.width
    }

    /// The convolution.
    pub fn shape(&self) -> &ConvShape {
        &self.shape
    }

    /// Elements of a slot of the ring, which has [`Windows::rows`] and one more.
    pub fn slot(&self) -> usize {
        self.slot
    }

    /// Output columns whose windows of one row lie in the image as they are; not worth a piece of their own when few.
    fn in_image(&self) -> Option<Range<usize>> {
        let s = &self.shape;
        let whole =
            s.kh == 1 && s.pixel_stride == s.ic && s.pad_top == 0 && s.oh.checked_sub(1)? * s.stride_h < s.ih;
        let first = s.pad_left.div_ceil(s.stride_w);
        let last = (s.iw + s.pad_left).checked_sub(s.kw)? / s.stride_w;
        let columns = first..s.ow.min(last + 1);
        (whole && columns.len() >= LEAST_WIDTH).then_some(columns)
    }

    /// Shows `each` pieces of the output rows `rows`. `ring` has [`Windows::elements`].
    pub fn each<T: Copy, P: Pieces<T>>(
        &self,
        image: &[T],
        rows: Range<usize>,
        pad: T,
        ring: &mut [T],
        each: &mut P,
    ) {
        let s = &self.shape;
        let (run, stride) = (s.kw * s.ic, s.stride_w * s.ic);
        // Where the windows of one row lie in the image as they are, they are shown there.
        let lie = self.in_image().filter(|_| P::IN_IMAGE).unwrap_or(0..0);
        // Pieces of equal width, none wider than one in the ring would be.
        let wide = lie.len().div_ceil(lie.len().div_ceil(self.width).max(1)).max(1);
        for (oy, ox) in rows.clone().flat_map(|oy| lie.clone().step_by(wide).map(move |ox| (oy, ox))) {
            let first = (oy * s.stride_h * s.iw + ox * s.stride_w - s.pad_left) * s.ic;
            let windows = Rows::windows(image, wide.min(lie.end - ox), run, stride, &[first]);
            each.piece(oy * s.ow + ox, windows, &[]);
        }
        self.each_in_ring(rows, lie, pad, ring, each, |y, ox, slot| self.fill(image, y, ox, pad, slot));
    }

    /// As [`Windows::each`], but for the output columns `done`, with slots of the ring filled by `fill(y, ox, slot)`: with the part
    /// of input row `y` that output pixels from `ox` on see.
    pub fn each_in_ring<T: Copy, P: Pieces<T>>(
        &self,
        rows: Range<usize>,
        done: Range<usize>,
        pad: T,
        ring: &mut [T],
        each: &mut P,
        mut fill: impl FnMut(usize, usize, &mut [T]),
    ) {
        let s = &self.shape;
        let (run, stride) = (s.kw * s.ic, s.stride_w * s.ic);
        let padding = self.rows * self.slot;
        ring[padding..].fill(pad);
        each.filled(self.rows, &ring[padding..]);
        let before = (0..done.start).step_by(self.width).map(|ox| (ox, done.start));
        let behind = (done.end..s.ow).step_by(self.width).map(|ox| (ox, s.ow));
        for (ox, until) in before.chain(behind) {
            let width = self.width.min(until - ox);
            let mut filled = 0;
            for oy in rows.clone() {
                // All rows that the window spans, though no tap may see one: a later window's may.
                let top = oy * s.stride_h;
                let end = (top + self.rows).saturating_sub(s.pad_top).min(s.ih);
                for y in top.saturating_sub(s.pad_top).max(filled)..end {
                    let slot = &mut ring[y % self.rows * self.slot..][..self.slot];
                    fill(y, ox, slot);
                    each.filled(y % self.rows, slot);
                }
                filled = filled.max(end);
                let mut offsets = [padding; MAX_RUNS];
                for (ky, offset) in offsets.iter_mut().enumerate().take(s.kh) {
                    let y = (top + ky * s.dil_h).wrapping_sub(s.pad_top);
                    if y < s.ih {
                        *offset = y % self.rows * self.slot;
                    }
                }
                let offsets = &offsets[..s.kh];
                each.piece(oy * s.ow + ox, Rows::windows(ring, width, run, stride, offsets), offsets);
            }
        }
    }

    /// Copies the part of input row `y` that output pixels from `ox` on see.
    fn fill<T: Copy>(&self, image: &[T], y: usize, ox: usize, pad: T, slot: &mut [T]) {
        let s = &self.shape;
        let (first, inside) = self.inside(ox, pad, slot);
        if inside.is_empty() {
            return;
        }
        let source = &image[(y * s.iw + first) * s.pixel_stride + s.channel_offset..];
        if s.pixel_stride == s.ic {
            inside.copy_from_slice(&source[..inside.len()]);
            return;
        }
        for (to, from) in inside.chunks_exact_mut(s.ic).zip(source.chunks(s.pixel_stride)) {
            to.copy_from_slice(&from[..s.ic]);
        }
    }

    /// As [`Windows::fill`], of row and output pixel `at`, with the `channels` elements of each pixel, or of several that lie densely, made
    /// words by `make`: these windows are of as many words as that gives.
    pub fn fill_words<T>(
        &self,
        image: &[T],
        channels: usize,
        [y, ox]: [usize; 2],
        pad: u32,
        slot: &mut [u32],
        make: impl Fn(&[T], &mut [u32]),
    ) {
        let s = &self.shape;
        let (first, inside) = self.inside(ox, pad, slot);
        if inside.is_empty() {
            return;
        }
        let source = &image[(y * s.iw + first) * s.pixel_stride + s.channel_offset..];
        if s.pixel_stride == channels {
            make(&source[..inside.len() / s.ic * channels], inside);
            return;
        }
        for (to, from) in inside.chunks_exact_mut(s.ic).zip(source.chunks(s.pixel_stride)) {
            make(&from[..channels], to);
        }
    }

    /// Pads what a slot for output pixels from `ox` on has of columns outside the image: the first column inside, and the
    /// elements for it and the others.
    fn inside<'s, T: Copy>(&self, ox: usize, pad: T, slot: &'s mut [T]) -> (usize, &'s mut [T]) {
        let s = &self.shape;
        let columns = slot.len() / s.ic;
        let start = ox * s.stride_w;
        // Columns of the slot before the image, and input columns before the slot.
        let (before, first) =
            (s.pad_left.saturating_sub(start).min(columns), start.saturating_sub(s.pad_left));
        let inside = s.iw.saturating_sub(first).min(columns - before);
        let (left, rest) = slot.split_at_mut(before * s.ic);
        let (middle, right) = rest.split_at_mut(inside * s.ic);
        left.fill(pad);
        right.fill(pad);
        (first, middle)
    }
}

#[cfg(test)]
mod tests {
    use super::Windows;
    use edge_kernels::cpu::gemm_f32::Rows;
    use edge_kernels::cpu::im2col::{ConvShape, im2col_rows};

    /// Numbers without a pattern.
    fn next(state: &mut u64) -> usize {
        *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (*state >> 33) as usize
    }

    #[test]
    fn the_windows_are_the_gathered_ones() {
        let mut state = 5;
        let (mut some, mut cut, mut lying) = (0, 0, 0);
        for _ in 0..2000 {
            let mut below = |bound: usize| next(&mut state) % bound;
            let (ic, channel_offset, wide) = (1 + below(40), below(3), below(4) == 0);
            let lies = wide && below(2) == 0;
            let shape = ConvShape {
                ih: 1 + below(9),
                iw: 1 + below(if wide { 3000 } else { 30 }),
                ic,
                pixel_stride: if lies { ic } else { channel_offset + ic + below(3) },
                channel_offset: if lies { 0 } else { channel_offset },
                kh: if lies { 1 } else { 1 + below(5) },
                kw: 1 + below(5),
                stride_h: 1 + below(3),
                stride_w: 1 + below(3),
                dil_h: 1 + below(2),
                dil_w: 1,
                pad_top: if lies { 0 } else { below(4) },
                pad_left: below(4),
                oh: 1 + below(6),
                ow: 8 + below(if wide { 2000 } else { 20 }),
            };
            let Some(windows) = Windows::new(&shape, false) else { continue };
            let image: Vec<f32> =
                (0..shape.ih * shape.iw * shape.pixel_stride).map(|i| i as f32 + 1.0).collect();
            let start = below(shape.oh);
            let rows = start..start + 1 + below(shape.oh - start);
            let mut ring = vec![f32::NAN; windows.elements()];
            let mut seen = 0;
            windows.each(&image, rows.clone(), -1.0, &mut ring, &mut |first: usize, a: Rows<'_, f32>| {
                let mut want = vec![0.0; a.rows() * shape.k()];
                im2col_rows(&shape, &image, first, a.rows(), -1.0, &mut want, shape.k());
                for r in 0..a.rows() {
                    let got: Vec<f32> = (0..a.runs()).flat_map(|i| a.run(r, i).to_vec()).collect();
                    assert_eq!(got, want[r * shape.k()..][..shape.k()], "{shape:?} pixel {}", first + r);
                }
                seen += a.rows();
            });
            assert_eq!(seen, rows.len() * shape.ow, "{shape:?}");
            some += 1;
            cut += usize::from(windows.width() < shape.ow);
            lying += usize::from(windows.in_image().is_some());
        }
        assert!(some > 1000 && cut > 20, "{some} shapes have windows, {cut} of them in pieces");
        assert!(lying > 20, "{lying} shapes have windows that lie in the image");
    }
}
