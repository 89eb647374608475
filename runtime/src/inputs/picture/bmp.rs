//! BMP without compression: 1, 4 and 8 bits with a palette, 16, 24 and 32 bits of colour.
//! Source: Microsoft's description of BITMAPFILEHEADER and BITMAPINFOHEADER to BITMAPV5HEADER.

use super::pixels::{channels, push};
use super::{Claim, Size, Why, cut};
use crate::pack::Colour;
use std::fs::File;
use std::io::{BufReader, Read, Seek, SeekFrom};

/// `biCompression`: rows of plain pixels, or of pixels whose colours lie under given masks.
const RGB: u32 = 0;
const BITFIELDS: u32 = 3;
const ALPHA_BITFIELDS: u32 = 6;

/// A palette, and a few rows.
const SMALL: u64 = 4 << 10;

/// What stands before the pixels.
struct Head {
    size: Size,
    /// The bottom row comes first.
    bottom_up: bool,
    bits: u16,
    /// R, G and B of a pixel of 16 or 32 bits.
    masks: [u32; 3],
    palette: Vec<[u8; 3]>,
    /// Where the pixels start in the file.
    start: u64,
}

impl Head {
    /// Bytes of a row: a multiple of four.
    fn row_bytes(&self) -> u64 {
        (u64::from(self.size.width) * u64::from(self.bits)).div_ceil(32) * 4
    }
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

fn head(source: &mut BufReader<File>) -> Result<Head, Why> {
    let cut = cut("bmp");
    source.rewind().map_err(&cut)?;
    let mut file = [0; 18];
    source.read_exact(&mut file).map_err(&cut)?;
    let (start, len) = (u64::from(u32_at(&file, 10)), u32_at(&file, 14) as usize);
    // OS/2's first form has 16-bit sides and three bytes a palette entry.
    let old = len == 12;
    if !old && !(40..=124).contains(&len) {
        return Err(format!("bmp: an information header of {len} bytes"));
    }
    let mut info = [0; 124];
    source.read_exact(&mut info[4..len]).map_err(&cut)?;
    let (width, height, bits, compression, colours) = if old {
        (i32::from(u16_at(&info, 4)), i32::from(u16_at(&info, 6)), u16_at(&info, 10), RGB, 0)
    } else {
        let side = |at| u32_at(&info, at) as i32;
        (side(4), side(8), u16_at(&info, 14), u32_at(&info, 16), u32_at(&info, 32))
    };
    if width <= 0 || height == 0 {
        return Err(format!("bmp: a picture of {width} x {height}"));
    }
    let size = Size { height: height.unsigned_abs(), width: width.unsigned_abs() };
    let masks = match (compression, bits) {
        (RGB, 1 | 4 | 8 | 24) => [0; 3],
        (RGB, 16) => [0x7c00, 0x03e0, 0x001f],
        (RGB, 32) => [0xff_0000, 0xff00, 0xff],
        (BITFIELDS | ALPHA_BITFIELDS, 16 | 32) => {
            // The masks are part of the longer headers and follow the short one.
            if len < 52 {
                source.read_exact(&mut info[40..52]).map_err(&cut)?;
            }
            [u32_at(&info, 40), u32_at(&info, 44), u32_at(&info, 48)]
        }
        _ => return Err(format!("bmp: compression {compression} with {bits} bits a pixel is not read")),
    };
    let mut palette = Vec::new();
    if bits <= 8 {
        let most = 1 << bits;
        let entries = if colours == 0 { most } else { colours.min(most) };
        let mut entry = [0; 4];
        let entry = &mut entry[..if old { 3 } else { 4 }];
        for _ in 0..entries {
            source.read_exact(entry).map_err(&cut)?;
            palette.push([entry[2], entry[1], entry[0]]);
        }
    }
    Ok(Head { size, bottom_up: height > 0, bits, masks, palette, start })
}

pub(super) fn measure(source: &mut BufReader<File>, colour: Colour) -> Result<Claim, Why> {
    let head = head(source)?;
    let pixels = u64::from(head.size.width) * u64::from(head.size.height);
    let bytes = pixels.saturating_mul(channels(colour) as u64).saturating_add(2 * head.row_bytes() + SMALL);
    Ok(Claim { size: head.size, bytes })
}

pub(super) fn decode(source: &mut BufReader<File>, colour: Colour) -> Result<Vec<u8>, Why> {
    let cut = cut("bmp");
    let head = head(source)?;
    let (width, height) = (head.size.width as usize, head.size.height as usize);
    let stride = width * channels(colour);
    source.seek(SeekFrom::Start(head.start)).map_err(&cut)?;
    let mut picture = vec![0; stride * height];
    let mut bytes = vec![0; head.row_bytes() as usize];
    let mut row = Vec::with_capacity(stride);
    for i in 0..height {
        source.read_exact(&mut bytes).map_err(&cut)?;
        row.clear();
        for x in 0..width {
            push(&mut row, pixel(&head, &bytes, x), colour);
        }
        let y = if head.bottom_up { height - 1 - i } else { i };
        picture[y * stride..(y + 1) * stride].copy_from_slice(&row);
    }
    Ok(picture)
}

/// R, G and B of pixel `x` of a row.
fn pixel(head: &Head, row: &[u8], x: usize) -> [u8; 3] {
    match head.bits {
        24 => [row[3 * x + 2], row[3 * x + 1], row[3 * x]],
        16 => head.masks.map(|mask| under(u16_at(row, 2 * x).into(), mask)),
        32 => head.masks.map(|mask| under(u32_at(row, 4 * x), mask)),
        bits => {
            let bits = usize::from(bits);
            // The first pixel lies in the highest bits.
            let shift = 8 - bits - x * bits % 8;
            let index = usize::from(row[x * bits / 8] >> shift) & ((1 << bits) - 1);
            head.palette.get(index).copied().unwrap_or_default()
        }
    }
}

/// The colour under a mask, spread over 0 to 255.
fn under(pixel: u32, mask: u32) -> u8 {
    if mask == 0 {
        return 0;
    }
    let shift = mask.trailing_zeros();
    let (value, most) = (u64::from((pixel & mask) >> shift), u64::from(mask >> shift));
    ((value * 255 + most / 2) / most) as u8
}
