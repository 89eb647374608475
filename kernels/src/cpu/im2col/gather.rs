//! Windows of an image as rows of a matrix.

use bytemuck::Pod;
use std::ops::Range;

/// A two-dimensional convolution over one group of channels of one NHWC image. A one-dimensional one has
/// `ih = kh = oh = 1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConvShape {
    /// Input height.
    pub ih: usize,
    /// Input width.
    pub iw: usize,
    /// Input channels of this group.
    pub ic: usize,
    /// Elements from one pixel to the next: the channels of the whole input tensor.
    pub pixel_stride: usize,
    /// First channel of this group.
    pub channel_offset: usize,
    /// Kernel height.
    pub kh: usize,
    /// Kernel width.
    pub kw: usize,
    /// Input rows from one output row to the next.
    pub stride_h: usize,
    /// Input columns from one output column to the next.
    pub stride_w: usize,
    /// Input rows from one kernel row to the next.
    pub dil_h: usize,
    /// Input columns from one kernel column to the next.
    pub dil_w: usize,
    /// Rows of padding above the image.
    pub pad_top: usize,
    /// Columns of padding left of the image.
    pub pad_left: usize,
    /// Output height; what the windows need below the image is padding.
    pub oh: usize,
    /// Output width; what the windows need right of the image is padding.
    pub ow: usize,
}

impl ConvShape {
    /// Elements of a window: `kh * kw * ic`, the K of the matrix product.
    pub fn k(&self) -> usize {
        self.kh * self.kw * self.ic
    }

    /// Elements of an image from its first to the last that belongs to the group; `None` when they cannot be counted. Pixels of a
    /// part of the channels of a wider tensor end before the next pixel starts.
    pub fn image_len(&self) -> Option<usize> {
        match self.ih.checked_mul(self.iw)?.checked_sub(1) {
            None => Some(0),
            Some(last) => {
                last.checked_mul(self.pixel_stride)?.checked_add(self.channel_offset)?.checked_add(self.ic)
            }
        }
    }

    /// Whether the windows are the image's pixels as they lie, so that the image itself is the matrix.
    pub fn is_pointwise(&self) -> bool {
        let one = self.kh == 1 && self.kw == 1 && self.stride_h == 1 && self.stride_w == 1;
        let unpadded = self.pad_top == 0 && self.pad_left == 0 && self.oh == self.ih && self.ow == self.iw;
        one && unpadded && self.pixel_stride == self.ic
    }
}

/// Writes the windows of output pixels `[first_pixel, first_pixel + pixels)` of the `oh x ow` grid as rows
/// `[kh][kw][ic]` to `dst`, `dst_stride` elements apart. Elements outside the image become `pad_value` (for
/// quantized activations: their zero point). `src` is one image, `[ih][iw][pixel_stride]`.
///
/// # Panics
/// When the pixels leave the grid, or `src` or `dst` is too short.
pub fn im2col_rows<T: Pod>(
    shape: &ConvShape,
    src: &[T],
    first_pixel: usize,
    pixels: usize,
    pad_value: T,
    dst: &mut [T],
    dst_stride: usize,
) {
    let (s, k) = (shape, shape.k());
    assert!(
        s.channel_offset + s.ic <= s.pixel_stride,
        "{} channels at {} of {}",
        s.ic,
        s.channel_offset,
        s.pixel_stride
    );
    let grid = s.oh * s.ow;
    assert!(first_pixel + pixels <= grid, "pixels {first_pixel} + {pixels} of a grid of {grid}");
    // The last pixel ends with this group's channels: in a joined value others may follow or not.
    let fits = s.image_len().is_some_and(|need| need <= src.len());
    assert!(fits, "image of {:?}, got {}", (s.ih, s.iw, s.pixel_stride), src.len());
    assert!(k <= dst_stride || pixels <= 1, "windows of {k} elements overlap at stride {dst_stride}");
    let size = size_of::<T>();
    // Only bytes move: one copy of the loops for all types, compiled in this crate.
    let bytes = ConvShape {
        ic: s.ic * size,
        pixel_stride: s.pixel_stride * size,
        channel_offset: s.channel_offset * size,
        ..*s
    };
    let pixels = first_pixel..first_pixel + pixels;
    let (src, dst) = (bytemuck::cast_slice(src), bytemuck::cast_slice_mut(dst));
    gather(&bytes, src, pixels, bytemuck::bytes_of(&pad_value), dst, dst_stride * size);
}

/// Bytes of a kernel row that are copied as one register.
const SHORT: usize = 16;

/// [`im2col_rows`] of a shape in bytes.
fn gather(s: &ConvShape, src: &[u8], pixels: Range<usize>, pad: &[u8], dst: &mut [u8], dst_stride: usize) {
    let line = s.kw * s.ic;
    let together = s.dil_w == 1 && s.pixel_stride == s.ic;
    // What is copied past the end of a kernel row is overwritten by the next one, when nothing lies between them.
    let short = together && line <= SHORT && dst_stride == s.kh * line && s.kh > 0;
    let end = pixels.len() * dst_stride;
    let (mut oy, mut ox) = (pixels.start / s.ow.max(1), pixels.start % s.ow.max(1));
    for i in 0..pixels.len() {
        let left = (ox * s.stride_w).checked_sub(s.pad_left).filter(|left| left + s.kw <= s.iw);
        if !(short && copied_at_once(s, src, (oy, left), &mut dst[i * dst_stride..end])) {
            for ky in 0..s.kh {
                let to = &mut dst[i * dst_stride + ky * line..][..line];
                // Padding shifts the origin: the image starts at (pad_top, pad_left).
                let y = (oy * s.stride_h + ky * s.dil_h).wrapping_sub(s.pad_top);
                if y >= s.ih {
                    fill(to, pad);
                    continue;
                }
                let row = &src[y * s.iw * s.pixel_stride..];
                if together {
                    kernel_row(s, row, ox, pad, to);
                } else {
                    kernel_pixels(s, row, ox, pad, to);
                }
            }
        }
        ox += 1;
        if ox == s.ow {
            (oy, ox) = (oy + 1, 0);
        }
    }
}

/// Copies a window, all of it inside the image and `left` its first column there, a register for each kernel row; whether it is so and
/// there was room for them.
#[inline(always)]
fn copied_at_once(s: &ConvShape, src: &[u8], (oy, left): (usize, Option<usize>), to: &mut [u8]) -> bool {
    let (down, line) = (s.dil_h * s.iw * s.ic, s.kw * s.ic);
    let (Some(left), Some(top)) = (left, (oy * s.stride_h).checked_sub(s.pad_top)) else { return false };
    let last = s.kh - 1;
    if top + last * s.dil_h >= s.ih {
        return false;
    }
    let Some(from) = src.get((top * s.iw + left) * s.ic..) else { return false };
    if from.len() < last * down + SHORT || to.len() < last * line + SHORT {
        return false;
    }
    for ky in 0..s.kh {
        to[ky * line..][..SHORT].copy_from_slice(&from[ky * down..][..SHORT]);
    }
    true
}

fn fill(to: &mut [u8], pad: &[u8]) {
    match pad {
        [byte] => to.fill(*byte),
        _ => to.chunks_exact_mut(pad.len()).for_each(|to| to.copy_from_slice(pad)),
    }
}

/// One row of a window, `[kw][ic]`, that lies contiguously in the image row that starts at `row`; only its part inside is copied.
fn kernel_row(s: &ConvShape, row: &[u8], ox: usize, pad: &[u8], to: &mut [u8]) {
    let left = ox * s.stride_w;
    let outside_left = s.pad_left.saturating_sub(left).min(s.kw);
    let inside_end = (s.iw + s.pad_left).saturating_sub(left).clamp(outside_left, s.kw);
    fill(&mut to[..outside_left * s.ic], pad);
    if outside_left < inside_end {
        let from = (left + outside_left - s.pad_left) * s.ic;
        let inside = (inside_end - outside_left) * s.ic;
        to[outside_left * s.ic..][..inside].copy_from_slice(&row[from..][..inside]);
    }
    fill(&mut to[inside_end * s.ic..], pad);
}

/// One row of a window from pixels that lie apart.
fn kernel_pixels(s: &ConvShape, row: &[u8], ox: usize, pad: &[u8], to: &mut [u8]) {
    if s.ic == 0 {
        return;
    }
    for (kx, to) in to.chunks_exact_mut(s.ic).enumerate() {
        match (ox * s.stride_w + kx * s.dil_w).checked_sub(s.pad_left) {
            Some(x) if x < s.iw => {
                to.copy_from_slice(&row[x * s.pixel_stride + s.channel_offset..][..s.ic]);
            }
            _ => fill(to, pad),
        }
    }
}
