//! A picture in memory, and parts of it as inputs.
//!
//! For programs that look at one picture more than once: the whole for one model, cuttings for the next. What a model
//! gets is written straight into its input ([`crate::Session::write_input`]); there is no resized copy.

use super::InputError;
use super::picture::{decode_rgb, measure_rgb};
use crate::graph::DType;
use crate::pack::{Colour, ImageLayout, Preprocess};

use std::path::Path;

/// A picture: 8-bit RGB, rows from the top.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    height: usize,
    width: usize,
    /// [height, width, 3]
    rgb: Vec<u8>,
}

/// An upright rectangle of a frame, in pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region {
    /// First row.
    pub top: usize,
    /// First column.
    pub left: usize,
    /// Rows.
    pub height: usize,
    /// Columns.
    pub width: usize,
    /// Whether it is read turned by half a turn.
    pub turned: bool,
}

/// Height and width of a picture file, and the most bytes that [`Frame::read`] holds at once; from the file's head.
///
/// # Errors
/// When the file is no picture.
pub fn decoded_bytes(path: &Path) -> Result<([usize; 2], u64), InputError> {
    measure_rgb(path)
}

impl Frame {
    /// Decodes a picture. At most `limit` bytes are held at once; the size is read from the file's head first.
    ///
    /// # Errors
    /// When the file is no picture, or is too large for the limit.
    pub fn read(path: &Path, limit: u64) -> Result<Frame, InputError> {
        let ([height, width], bytes) = decoded_bytes(path)?;
        if bytes > limit {
            return Err(InputError::TooLarge { path: path.into(), bytes, limit });
        }
        let rgb = decode_rgb(path, bytes)?;
        Frame::from_rgb(height, width, rgb).ok_or_else(|| {
            let why = "its head and its rows differ in size".to_string();
            InputError::Format { path: path.into(), why }
        })
    }

    /// A frame of samples that are there already; `None` unless they are `height * width * 3`, and some.
    pub fn from_rgb(height: usize, width: usize, rgb: Vec<u8>) -> Option<Frame> {
        let len = height.checked_mul(width)?.checked_mul(3)?;
        (len > 0 && rgb.len() == len).then_some(Frame { height, width, rgb })
    }

    /// Rows.
    pub fn height(&self) -> usize {
        self.height
    }

    /// Columns.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Bytes that the frame holds.
    pub fn bytes(&self) -> u64 {
        self.rgb.len() as u64
    }

    /// The whole.
    pub fn region(&self) -> Region {
        Region { top: 0, left: 0, height: self.height, width: self.width, turned: false }
    }

    /// Writes a region as the `f32` input that a model card describes, `(u8 - mean) / std`, of batch 1 and
    /// `canvas` = height and width. The region is scaled to `size` and lies at the top left; the rest is zero.
    ///
    /// Bilinear between the four nearest pixels whatever the scale, as OpenCV's `INTER_LINEAR`: what most detectors
    /// were trained with.
    ///
    /// # Errors
    /// When the card describes no picture, the region leaves the frame, `size` the canvas, or `out` is not the canvas's
    /// bytes.
    pub fn write(
        &self,
        region: Region,
        how: &Preprocess,
        size: [usize; 2],
        canvas: [usize; 2],
        out: &mut [u8],
    ) -> Result<(), InputError> {
        let wrong = |why: String| Err(InputError::Format { path: "a picture in memory".into(), why });
        let Preprocess::Image { colour, layout, mean, std, .. } = how else {
            return wrong("the input is made from sound, not from a picture".into());
        };
        let inside = |start: usize, len: usize, of: usize| {
            len > 0 && start.checked_add(len).is_some_and(|end| end <= of)
        };
        if !inside(region.top, region.height, self.height) || !inside(region.left, region.width, self.width) {
            return wrong(format!("{region:?} leaves its {} x {} pixels", self.height, self.width));
        }
        let channels = if *colour == Colour::Grey { 1 } else { 3 };
        let pixels = canvas[0] * canvas[1];
        let fits = size[0] <= canvas[0] && size[1] <= canvas[1];
        if !fits || out.len() != pixels * channels * DType::F32.bytes() {
            return wrong(format!(
                "{size:?} on {canvas:?} with {channels} channels is not {} bytes",
                out.len()
            ));
        }
        let at = |list: &[f32], c: usize, default: f32| match list {
            [one] => *one,
            many => many.get(c).copied().unwrap_or(default),
        };
        let scale: Vec<(f32, f32)> =
            (0..channels).map(|c| (at(mean, c, 0.0), 1.0 / at(std, c, 1.0))).collect();
        let out = out.as_chunks_mut::<4>().0;
        out.fill([0; 4]);
        for y in 0..size[0] {
            let rows = Tap::of(y, size[0], region.height, region.turned);
            for x in 0..size[1] {
                let columns = Tap::of(x, size[1], region.width, region.turned);
                let rgb = self.sample(region, rows, columns);
                let values = match colour {
                    Colour::Rgb => rgb,
                    Colour::Bgr => [rgb[2], rgb[1], rgb[0]],
                    Colour::Grey => [0.299 * rgb[0] + 0.587 * rgb[1] + 0.114 * rgb[2]; 3], // ITU-R BT.601
                };
                let pixel = y * canvas[1] + x;
                for (c, (mean, scale)) in scale.iter().enumerate() {
                    let place = match layout {
                        ImageLayout::Nchw => c * pixels + pixel,
                        ImageLayout::Nhwc => pixel * channels + c,
                    };
                    out[place] = ((values[c] - mean) * scale).to_le_bytes();
                }
            }
        }
        Ok(())
    }

    fn sample(&self, region: Region, rows: Tap, columns: Tap) -> [f32; 3] {
        let pixel = |y: usize, x: usize| {
            let at = ((region.top + y) * self.width + region.left + x) * 3;
            [0, 1, 2].map(|c| f32::from(self.rgb[at + c]))
        };
        let row = |y: usize| {
            let (a, b) = (pixel(y, columns.first), pixel(y, columns.second));
            [0, 1, 2].map(|c| a[c] + (b[c] - a[c]) * columns.part)
        };
        let (a, b) = (row(rows.first), row(rows.second));
        [0, 1, 2].map(|c| a[c] + (b[c] - a[c]) * rows.part)
    }
}

/// Two neighbours on one axis and how far the sample lies from the first to the second.
#[derive(Clone, Copy)]
struct Tap {
    first: usize,
    second: usize,
    part: f32,
}

impl Tap {
    /// For element `i` of `to` that are made of `from`: pixel centres lie at halves, beyond the edge the edge counts.
    fn of(i: usize, to: usize, from: usize, turned: bool) -> Tap {
        let i = if turned { to - 1 - i } else { i };
        let centre = ((i as f32 + 0.5) * from as f32 / to as f32 - 0.5).clamp(0.0, (from - 1) as f32);
        let first = (centre as usize).min(from - 1);
        Tap { first, second: (first + 1).min(from - 1), part: centre - first as f32 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn how(colour: Colour, layout: ImageLayout) -> Preprocess {
        Preprocess::Image {
            colour,
            layout,
            mean: vec![10.0, 20.0, 30.0],
            std: vec![2.0],
            size: None,
            multiple: None,
        }
    }

    fn floats(bytes: &[u8]) -> Vec<f32> {
        bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
    }

    fn written(
        frame: &Frame,
        region: Region,
        how: &Preprocess,
        size: [usize; 2],
        canvas: [usize; 2],
    ) -> Vec<f32> {
        let channels = if matches!(how, Preprocess::Image { colour: Colour::Grey, .. }) { 1 } else { 3 };
        let mut out = vec![0xff; canvas[0] * canvas[1] * channels * 4];
        frame.write(region, how, size, canvas, &mut out).unwrap();
        floats(&out)
    }

    #[test]
    fn layouts_and_colours_say_where_a_sample_goes() {
        let frame = Frame::from_rgb(1, 2, vec![10, 20, 30, 12, 24, 36]).unwrap();
        let whole = frame.region();
        let go = |colour, layout| written(&frame, whole, &how(colour, layout), [1, 2], [1, 2]);
        assert_eq!(go(Colour::Rgb, ImageLayout::Nchw), [0.0, 1.0, 0.0, 2.0, 0.0, 3.0]);
        assert_eq!(go(Colour::Rgb, ImageLayout::Nhwc), [0.0, 0.0, 0.0, 1.0, 2.0, 3.0]);
        assert_eq!(go(Colour::Bgr, ImageLayout::Nhwc), [10.0, 0.0, -10.0, 13.0, 2.0, -9.0]);
        let grey = go(Colour::Grey, ImageLayout::Nchw);
        assert!(
            (grey[0] - (0.299 * 10.0 + 0.587 * 20.0 + 0.114 * 30.0 - 10.0) / 2.0).abs() < 1e-5,
            "{grey:?}"
        );
    }

    #[test]
    fn scaling_turning_and_padding() {
        let grey = |samples: &[u8]| samples.iter().flat_map(|s| [*s; 3]).collect::<Vec<u8>>();
        let frame = Frame::from_rgb(2, 3, grey(&[0, 100, 200, 50, 150, 250])).unwrap();
        let plain = Preprocess::Image {
            colour: Colour::Grey,
            layout: ImageLayout::Nchw,
            mean: vec![],
            std: vec![],
            size: None,
            multiple: None,
        };
        let near = |got: Vec<f32>, want: &[f32]| {
            assert!(
                got.len() == want.len() && got.iter().zip(want).all(|(g, w)| (g - w).abs() < 1e-3),
                "{got:?}"
            );
        };
        let right = Region { top: 0, left: 1, height: 2, width: 2, turned: false };
        near(written(&frame, right, &plain, [2, 2], [2, 2]), &[100.0, 200.0, 150.0, 250.0]);
        let turned = Region { turned: true, ..right };
        near(written(&frame, turned, &plain, [2, 2], [2, 2]), &[250.0, 150.0, 200.0, 100.0]);
        // Twice as wide: samples at a quarter and three quarters between centres; the edge is repeated.
        near(written(&frame, right, &plain, [1, 4], [1, 4]), &[125.0, 150.0, 200.0, 225.0]);
        near(
            written(&frame, right, &plain, [2, 2], [3, 3]),
            &[100.0, 200.0, 0.0, 150.0, 250.0, 0.0, 0.0, 0.0, 0.0],
        );
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let frame = Frame::from_rgb(1, 1, vec![0; 3]).unwrap();
        let how = how(Colour::Rgb, ImageLayout::Nchw);
        let mut out = [0u8; 12];
        let whole = frame.region();
        let outside = Region { left: 1, ..whole };
        assert!(frame.write(outside, &how, [1, 1], [1, 1], &mut out).is_err());
        assert!(frame.write(whole, &how, [2, 1], [1, 1], &mut out).is_err());
        assert!(frame.write(whole, &how, [1, 1], [1, 2], &mut out).is_err());
        let sound = Preprocess::Audio { sample_rate: 8000 };
        assert!(frame.write(whole, &sound, [1, 1], [1, 1], &mut out).is_err());
        assert!(Frame::from_rgb(2, 1, vec![0; 3]).is_none() && Frame::from_rgb(0, 1, vec![]).is_none());
    }

    #[test]
    fn a_file_is_decoded_within_the_limit_or_not_at_all() {
        let path = std::env::temp_dir().join(format!("edge-frame-{}.png", std::process::id()));
        let grey = image::GrayImage::from_fn(5, 4, |x, y| image::Luma([(x * 10 + y) as u8]));
        grey.save(&path).unwrap();
        let (size, bytes) = decoded_bytes(&path).unwrap();
        assert_eq!(size, [4, 5]);
        assert!(bytes >= 4 * 5 * 3, "{bytes}");
        assert!(matches!(Frame::read(&path, bytes - 1), Err(InputError::TooLarge { .. })));
        let frame = Frame::read(&path, bytes).unwrap();
        assert_eq!((frame.height(), frame.width(), frame.bytes()), (4, 5, 60));
        assert_eq!(frame.rgb[3 * (5 + 2)..][..3], [21; 3]);
        std::fs::remove_file(&path).unwrap();
        assert!(matches!(decoded_bytes(&path), Err(InputError::Io { .. })));
    }
}
