//! Pictures: PNG, JPEG and BMP, decoded, resized and normalised.
//!
//! Each format has two functions: `measure` reads the head of the file and says how large the picture is and what
//! decoding it allocates, `decode` gives the samples. Nothing is allocated for a picture before its claim was weighed.

mod bmp;
mod jpeg;
mod pixels;
mod png;
mod resize;
#[cfg(test)]
mod tests;

use super::{InputError, NamedArray};
use crate::graph::DType;
use crate::pack::{Colour, ImageLayout, Preprocess};
use resize::{resize, resize_bytes};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Seek, SeekFrom};
use std::path::Path;

/// Height and width that a picture is brought to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Size {
    height: u32,
    width: u32,
}

/// What the head of a file says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Claim {
    size: Size,
    /// Bytes that decoding allocates, the samples included.
    bytes: u64,
}

/// Why a file is no picture, in words.
type Why = String;

/// A file format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Png,
    Jpeg,
    Bmp,
}

impl Format {
    /// Told by the first bytes: names of files are often wrong.
    fn guess(start: &[u8]) -> Option<Format> {
        let magics: [(&[u8], Format); 3] =
            [(b"\x89PNG\r\n\x1a\n", Format::Png), (b"\xff\xd8\xff", Format::Jpeg), (b"BM", Format::Bmp)];
        magics.iter().find(|(magic, _)| start.starts_with(magic)).map(|(_, format)| *format)
    }

    fn measure(self, source: &mut BufReader<File>, colour: Colour) -> Result<Claim, Why> {
        match self {
            Format::Png => png::measure(source, colour),
            Format::Jpeg => jpeg::measure(source, colour),
            Format::Bmp => bmp::measure(source, colour),
        }
    }

    /// Samples of the whole picture, interleaved, top row first, one or three a pixel as `colour` says.
    fn decode(self, source: &mut BufReader<File>, colour: Colour, limit: u64) -> Result<Vec<u8>, Why> {
        match self {
            Format::Png => png::decode(source, colour, limit),
            Format::Jpeg => jpeg::decode(source, colour),
            Format::Bmp => bmp::decode(source, colour),
        }
    }
}

/// A picture as the input that a model card describes: resized, `(u8 - mean) / std`, `f32`, with batch 1.
/// `fixed` is the input's own height and width, where it declares them. Transparency and the orientation that a
/// camera notes are not looked at.
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
    let (format, mut source) = open(path)?;
    let claim = format.measure(&mut source, *colour).map_err(wrong)?;
    let own = [claim.size.height as usize, claim.size.width as usize];
    let target = target(own, fixed, *size, *multiple);
    let channels = pixels::channels(*colour);
    let pixels = u64::from(target.height) * u64::from(target.width);
    // The decoded picture and the resized one live together, then the resized one and the result.
    let resizing = if claim.size == target { 0 } else { resize_bytes(claim.size, target, channels) };
    let bytes =
        claim.bytes.saturating_add(resizing).saturating_add(pixels.saturating_mul(4 * channels as u64));
    if bytes > limit {
        return Err(InputError::TooLarge { path: path.into(), bytes, limit });
    }
    source.seek(SeekFrom::Start(0)).map_err(io)?;
    let mut samples = format.decode(&mut source, *colour, limit).map_err(wrong)?;
    if claim.size != target {
        samples = resize(&samples, claim.size, target, channels);
    }
    let (height, width) = (target.height as usize, target.width as usize);
    let at = |list: &[f32], c: usize, default: f32| match list {
        [] => default,
        [one] => *one,
        many => many.get(c).copied().unwrap_or(default),
    };
    let value = |pixel: usize, c: usize| {
        (f32::from(samples[pixel * channels + c]) - at(mean, c, 0.0)) / at(std, c, 1.0)
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

fn open(path: &Path) -> Result<(Format, BufReader<File>), InputError> {
    let io = |source| InputError::Io { path: path.into(), source };
    let mut source = BufReader::new(File::open(path).map_err(io)?);
    let format = Format::guess(source.fill_buf().map_err(io)?).ok_or_else(|| {
        let why = "no PNG, JPEG or BMP: its first bytes are of no picture that is read".to_string();
        InputError::Format { path: path.into(), why }
    })?;
    Ok((format, source))
}

/// Height and width of a picture, and the bytes that [`decode_rgb`] allocates; from the file's head.
pub(super) fn measure_rgb(path: &Path) -> Result<([usize; 2], u64), InputError> {
    let (format, mut source) = open(path)?;
    let claim = format.measure(&mut source, Colour::Rgb);
    let claim = claim.map_err(|why| InputError::Format { path: path.into(), why })?;
    Ok(([claim.size.height as usize, claim.size.width as usize], claim.bytes))
}

/// `[height][width][3]` samples of a picture, red first. The caller has weighed what it takes.
pub(super) fn decode_rgb(path: &Path, limit: u64) -> Result<Vec<u8>, InputError> {
    let (format, mut source) = open(path)?;
    let samples = format.decode(&mut source, Colour::Rgb, limit);
    samples.map_err(|why| InputError::Format { path: path.into(), why })
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

/// The error of a file that ends early or cannot be read, told with its format.
fn cut(format: &str) -> impl Fn(io::Error) -> Why {
    move |e| match e.kind() {
        io::ErrorKind::UnexpectedEof => format!("{format}: the file ends inside the picture"),
        _ => format!("{format}: {e}"),
    }
}
