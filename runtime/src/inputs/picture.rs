//! Pictures.

use super::{InputError, NamedArray};
use crate::graph::DType;
use crate::pack::{Colour, ImageLayout, Preprocess};
use image::imageops::FilterType;
use image::{DynamicImage, ImageReader};
use std::path::Path;

/// Height and width that a picture is brought to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Size {
    height: u32,
    width: u32,
}

/// A picture as the input that a model card describes: resized, `(u8 - mean) / std`, `f32`, with batch 1.
/// `fixed` is the input's own height and width, where it declares them.
///
/// At most `limit` bytes are allocated for the decoded picture; its size is read from the file's head first.
///
/// # Errors
/// When the file is no picture, or is too large for the limit.
pub fn read_picture(
    path: &Path,
    name: &str,
    how: &Preprocess,
    fixed: [Option<usize>; 2],
    limit: u64,
) -> Result<NamedArray, InputError> {
    let Preprocess::Image { colour, layout, mean, std, size, multiple } = how else {
        let why = format!("input `{name}` is made from sound, not from a picture");
        return Err(InputError::Format { path: path.into(), why });
    };
    let wrong = |why: String| InputError::Format { path: path.into(), why };
    let io = |source| InputError::Io { path: path.into(), source };
    let reader = ImageReader::open(path).map_err(io)?.with_guessed_format().map_err(io)?;
    let (w, h) = reader.into_dimensions().map_err(|e| wrong(e.to_string()))?;
    let target = target([h as usize, w as usize], fixed, *size, *multiple);
    let channels = if *colour == Colour::Grey { 1 } else { 3 };
    let pixels = u64::from(target.height) * u64::from(target.width);
    // The decoder's rows and the resized copy live together, then the resized copy and the result.
    let decoded = u64::from(w) * u64::from(h) * 4;
    let bytes = decoded + pixels * (4 + 4 * channels as u64);
    if bytes > limit {
        return Err(InputError::TooLarge { path: path.into(), bytes, limit });
    }
    let mut reader = ImageReader::open(path).map_err(io)?.with_guessed_format().map_err(io)?;
    let mut limits = image::Limits::default();
    limits.max_alloc = Some(decoded * 2);
    reader.limits(limits);
    let picture = reader.decode().map_err(|e| wrong(e.to_string()))?;
    let planes = samples(picture, target, *colour);
    let (height, width) = (target.height as usize, target.width as usize);
    let at = |list: &[f32], c: usize, default: f32| match list {
        [] => default,
        [one] => *one,
        many => many.get(c).copied().unwrap_or(default),
    };
    let value = |pixel: usize, c: usize| {
        (f32::from(planes[pixel * channels + c]) - at(mean, c, 0.0)) / at(std, c, 1.0)
    };
    let mut data = Vec::with_capacity(height * width * channels * 4);
    let dims = match layout {
        ImageLayout::Nchw => {
            for c in 0..channels {
                (0..height * width).for_each(|p| data.extend(value(p, c).to_le_bytes()));
            }
            vec![1, channels, height, width]
        }
        ImageLayout::Nhwc => {
            for p in 0..height * width {
                (0..channels).for_each(|c| data.extend(value(p, c).to_le_bytes()));
            }
            vec![1, height, width, channels]
        }
    };
    Ok(NamedArray { name: name.to_string(), dtype: DType::F32, dims, data })
}

fn target(
    own: [usize; 2],
    fixed: [Option<usize>; 2],
    size: Option<[usize; 2]>,
    multiple: Option<usize>,
) -> Size {
    let side = |d: usize| {
        let free = size.map_or(own[d], |s| s[d]);
        let free = multiple.filter(|m| *m > 0).map_or(free, |m| free.div_ceil(m).max(1) * m);
        u32::try_from(fixed[d].unwrap_or(free)).unwrap_or(u32::MAX)
    };
    Size { height: side(0), width: side(1) }
}

/// Resized samples, interleaved.
fn samples(picture: DynamicImage, size: Size, colour: Colour) -> Vec<u8> {
    let resize = |p: DynamicImage| {
        if (p.width(), p.height()) == (size.width, size.height) {
            p
        } else {
            p.resize_exact(size.width, size.height, FilterType::Triangle)
        }
    };
    match colour {
        Colour::Grey => resize(DynamicImage::ImageLuma8(picture.into_luma8())).into_luma8().into_raw(),
        Colour::Rgb => resize(DynamicImage::ImageRgb8(picture.into_rgb8())).into_rgb8().into_raw(),
        Colour::Bgr => {
            let mut raw = resize(DynamicImage::ImageRgb8(picture.into_rgb8())).into_rgb8().into_raw();
            raw.chunks_exact_mut(3).for_each(|p| p.swap(0, 2));
            raw
        }
    }
}
