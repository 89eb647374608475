//! JPEG.

use super::pixels::{channels, reorder};
use super::{Claim, Size, Why, cut};
use crate::pack::Colour;
use std::fs::File;
use std::io::{BufReader, Read, Seek};
use zune_jpeg::JpegDecoder;
use zune_jpeg::zune_core::colorspace::ColorSpace;
use zune_jpeg::zune_core::options::DecoderOptions;

/// The decoder's tables, and its rows of blocks a pixel of the width: 4 components of 16-bit coefficients, sampled
/// up to 4 times more finely than the picture, 32 rows high, from above.
const TABLES: u64 = 128 << 10;
const ROW_BYTES: u64 = 4 * 2 * 32 * 2;

/// What stands before the first scan. Source: ITU-T T.81, annex B.
#[derive(Default)]
struct Head {
    size: Option<Size>,
    components: u64,
    /// All components come in one scan of a sequential picture: no coefficients are kept.
    sequential: bool,
    /// Bytes of application segments, which the decoder may keep.
    kept: u64,
}

fn head(source: &mut BufReader<File>) -> Result<Head, Why> {
    let cut = cut("jpeg");
    let mut head = Head::default();
    let mut start = [0; 2];
    source.read_exact(&mut start).map_err(&cut)?;
    loop {
        let mut byte = [0];
        source.read_exact(&mut byte).map_err(&cut)?;
        if byte[0] != 0xff {
            continue;
        }
        // Any number of fill bytes may stand before a marker.
        while byte[0] == 0xff {
            source.read_exact(&mut byte).map_err(&cut)?;
        }
        let marker = byte[0];
        if matches!(marker, 0 | 0x01 | 0xd0..=0xd8) {
            continue;
        }
        if marker == 0xd9 {
            return Err("jpeg: the file has no scan".into());
        }
        let mut len = [0; 2];
        source.read_exact(&mut len).map_err(&cut)?;
        let len = u16::from_be_bytes(len);
        let left = len.checked_sub(2).ok_or_else(|| format!("jpeg: a segment of {len} bytes"))?;
        let taken: u16 = match marker {
            0xc0..=0xc3 | 0xc5..=0xc7 | 0xc9..=0xcb | 0xcd..=0xcf if left >= 6 => {
                let mut frame = [0; 6];
                source.read_exact(&mut frame).map_err(&cut)?;
                let [_, h1, h0, w1, w0, components] = frame;
                let (height, width) = (u16::from_be_bytes([h1, h0]), u16::from_be_bytes([w1, w0]));
                head.size = Some(Size { height: height.into(), width: width.into() });
                head.components = components.into();
                head.sequential = marker == 0xc0 || marker == 0xc1;
                6
            }
            0xda if left >= 1 => {
                let mut components = [0];
                source.read_exact(&mut components).map_err(&cut)?;
                head.sequential &= u64::from(components[0]) == head.components;
                return Ok(head);
            }
            0xe0..=0xef => {
                head.kept += u64::from(len);
                0
            }
            _ => 0,
        };
        source.seek_relative(i64::from(left - taken)).map_err(&cut)?;
    }
}

pub(super) fn measure(source: &mut BufReader<File>, colour: Colour) -> Result<Claim, Why> {
    source.rewind().map_err(cut("jpeg"))?;
    let head = head(source)?;
    let size = head.size.filter(|s| s.height > 0 && s.width > 0);
    let size = size.ok_or("jpeg: no frame says how large the picture is")?;
    let (width, height) = (u64::from(size.width), u64::from(size.height));
    // Colour is decoded as R, G, B and brought to grey where it lies.
    let samples = width * height * channels(colour).max(if head.components == 1 { 1 } else { 3 }) as u64;
    // A block is 8 x 8 and a unit of blocks at most 4 x 4 of them.
    let padded = width.next_multiple_of(32) * height.next_multiple_of(32);
    let coefficients = if head.sequential { 0 } else { padded * head.components.min(4) * 2 };
    // Segments are kept apart and joined.
    let bytes = samples + coefficients + width.next_multiple_of(32) * ROW_BYTES + 2 * head.kept + TABLES;
    Ok(Claim { size, bytes })
}

pub(super) fn decode(source: &mut BufReader<File>, colour: Colour) -> Result<Vec<u8>, Why> {
    let wrong = |e: zune_jpeg::errors::DecodeErrors| format!("jpeg: {e}");
    source.rewind().map_err(cut("jpeg"))?;
    // Sides are bounded by the caller's memory; a picture with small faults is shown by every viewer, so it is read.
    let options =
        DecoderOptions::default().set_strict_mode(false).set_max_width(usize::MAX).set_max_height(usize::MAX);
    let mut decoder = JpegDecoder::new_with_options(source, options);
    decoder.decode_headers().map_err(wrong)?;
    let grey = decoder.input_colorspace() == Some(ColorSpace::Luma);
    let form = if grey && colour == Colour::Grey { ColorSpace::Luma } else { ColorSpace::RGB };
    decoder.set_options(options.jpeg_set_out_colorspace(form));
    let mut picture = decoder.decode().map_err(wrong)?;
    if form == ColorSpace::RGB {
        reorder(&mut picture, colour);
    }
    Ok(picture)
}
