//! PNG, row by row.

use super::pixels::{channels, push_row};
use super::{Claim, Size, Why};
use crate::pack::Colour;
use png::{BitDepth, Decoder, InterlaceInfo, Limits, Transformations, expand_interlaced_row};
use std::fs::File;
use std::io::{BufReader, Seek};

/// The inflater's window, tables and buffers, measured from above.
const INFLATER: u64 = 512 << 10;

fn wrong(e: png::DecodingError) -> Why {
    format!("png: {e}")
}

pub(super) fn measure(source: &mut BufReader<File>, colour: Colour) -> Result<Claim, Why> {
    let mut decoder = Decoder::new(source);
    let info = decoder.read_header_info().map_err(wrong)?;
    let (width, height) = (u64::from(info.width), u64::from(info.height));
    // Samples, and a few rows as they lie in the file: at most eight bytes a pixel.
    let bytes = width.saturating_mul(height).saturating_mul(channels(colour) as u64);
    let bytes = bytes.saturating_add(4 * 8 * width).saturating_add(INFLATER);
    Ok(Claim { size: Size { height: info.height, width: info.width }, bytes })
}

pub(super) fn decode(source: &mut BufReader<File>, colour: Colour, limit: u64) -> Result<Vec<u8>, Why> {
    source.rewind().map_err(super::cut("png"))?;
    let limits = Limits { bytes: usize::try_from(limit).unwrap_or(usize::MAX) };
    let mut decoder = Decoder::new_with_limits(source, limits);
    decoder.set_ignore_text_chunk(true);
    decoder.set_ignore_iccp_chunk(true);
    // Palettes and samples of fewer than eight bits become bytes.
    decoder.set_transformations(Transformations::EXPAND);
    let mut reader = decoder.read_info().map_err(wrong)?;
    let (form, depth) = reader.output_color_type();
    let samples = form.samples();
    let (width, height) = reader.info().size();
    let stride = width as usize * channels(colour);
    let bits = 8 * channels(colour) as u8;
    let mut picture = Vec::with_capacity(stride * height as usize);
    let mut narrow = Vec::new();
    let mut pass = Vec::new();
    while let Some(row) = reader.next_interlaced_row().map_err(wrong)? {
        let bytes = match depth {
            BitDepth::Sixteen => {
                narrow.clear();
                let wide = row.data().as_chunks::<2>().0.iter().map(|b| u32::from(u16::from_be_bytes(*b)));
                // The nearest of 255 steps to a sample of 65535.
                narrow.extend(wide.map(|s| ((s + 128) / 257) as u8));
                &narrow[..]
            }
            _ => row.data(),
        };
        match row.interlace() {
            InterlaceInfo::Null(_) => push_row(&mut picture, bytes, samples, colour),
            InterlaceInfo::Adam7(place) => {
                picture.resize(stride * height as usize, 0);
                pass.clear();
                push_row(&mut pass, bytes, samples, colour);
                expand_interlaced_row(&mut picture, stride, &pass, place, bits);
            }
        }
    }
    if picture.len() != stride * height as usize {
        return Err("png: the file ends inside the picture".into());
    }
    Ok(picture)
}
