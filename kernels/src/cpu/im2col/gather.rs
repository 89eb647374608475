//! Windows of an image as rows of a matrix.

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
pub fn im2col_rows<T: Copy>(
    shape: &ConvShape,
    src: &[T],
    first_pixel: usize,
    pixels: usize,
    pad_value: T,
    dst: &mut [T],
    dst_stride: usize,
) {
    let s = *shape;
    let (grid, k) = (s.oh * s.ow, s.k());
    assert!(
        s.channel_offset + s.ic <= s.pixel_stride,
        "{} channels at {} of {}",
        s.ic,
        s.channel_offset,
        s.pixel_stride
    );
    assert!(first_pixel + pixels <= grid, "pixels {first_pixel} + {pixels} of a grid of {grid}");
    // The last pixel ends with this group's channels: in a joined value others may follow or not.
    let fits = s.image_len().is_some_and(|need| need <= src.len());
    assert!(fits, "image of {:?}, got {}", (s.ih, s.iw, s.pixel_stride), src.len());
    assert!(k <= dst_stride || pixels <= 1, "windows of {k} elements overlap at stride {dst_stride}");
    let line = s.kw * s.ic;
    for i in 0..pixels {
        let (oy, ox) = ((first_pixel + i) / s.ow, (first_pixel + i) % s.ow);
        let window = &mut dst[i * dst_stride..][..k];
        for ky in 0..s.kh {
            let to = &mut window[ky * line..][..line];
            // Padding shifts the origin: the image starts at (pad_top, pad_left).
            match (oy * s.stride_h + ky * s.dil_h).checked_sub(s.pad_top) {
                Some(y) if y < s.ih => kernel_row(&s, &src[y * s.iw * s.pixel_stride..], ox, pad_value, to),
                _ => to.fill(pad_value),
            }
        }
    }
}

/// One row of a window, `[kw][ic]`, from the image row that starts at `row`.
#[inline]
fn kernel_row<T: Copy>(s: &ConvShape, row: &[T], ox: usize, pad_value: T, to: &mut [T]) {
    let left = ox * s.stride_w;
    if s.dil_w == 1 && s.pixel_stride == s.ic {
        // The whole kernel row lies contiguously in the image; only its part inside is copied.
        let outside_left = s.pad_left.saturating_sub(left).min(s.kw);
        let inside_end = (s.iw + s.pad_left).saturating_sub(left).clamp(outside_left, s.kw);
        to[..outside_left * s.ic].fill(pad_value);
        if outside_left < inside_end {
            let from = (left + outside_left - s.pad_left) * s.ic;
            let inside = (inside_end - outside_left) * s.ic;
            to[outside_left * s.ic..][..inside].copy_from_slice(&row[from..][..inside]);
        }
        to[inside_end * s.ic..].fill(pad_value);
        return;
    }
    if s.ic == 0 {
        return;
    }
    for (kx, to) in to.chunks_exact_mut(s.ic).enumerate() {
        match (left + kx * s.dil_w).checked_sub(s.pad_left) {
            Some(x) if x < s.iw => {
                to.copy_from_slice(&row[x * s.pixel_stride + s.channel_offset..][..s.ic]);
            }
            _ => to.fill(pad_value),
        }
    }
}
