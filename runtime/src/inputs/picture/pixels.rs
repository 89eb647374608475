//! From the samples that a file holds to those that a model takes.

use crate::pack::Colour;

/// Samples a pixel.
pub(super) fn channels(colour: Colour) -> usize {
    if colour == Colour::Grey { 1 } else { 3 }
}

/// Luma of 8-bit sRGB samples: the weights of ITU-R BT.709 in units of 1/10000, to the nearest.
fn luma([r, g, b]: [u8; 3]) -> u8 {
    ((2126 * u32::from(r) + 7152 * u32::from(g) + 722 * u32::from(b) + 5000) / 10_000) as u8
}

/// Appends one pixel.
pub(super) fn push(out: &mut Vec<u8>, rgb: [u8; 3], colour: Colour) {
    let [r, g, b] = rgb;
    match colour {
        Colour::Grey => out.push(luma(rgb)),
        Colour::Rgb => out.extend([r, g, b]),
        Colour::Bgr => out.extend([b, g, r]),
    }
}

/// Appends a row of 8-bit pixels of 1 (grey), 2 (grey, alpha), 3 (R, G, B) or 4 (R, G, B, alpha) samples.
pub(super) fn push_row(out: &mut Vec<u8>, row: &[u8], samples: usize, colour: Colour) {
    for pixel in row.chunks_exact(samples) {
        match *pixel {
            // Grey is its own luma: the weights sum to one.
            [grey] | [grey, _] => out.extend(std::iter::repeat_n(grey, channels(colour))),
            [r, g, b] | [r, g, b, _] => push(out, [r, g, b], colour),
            _ => {}
        }
    }
}

/// Brings R, G, B samples into the order of `colour`, where they lie.
pub(super) fn reorder(samples: &mut Vec<u8>, colour: Colour) {
    match colour {
        Colour::Rgb => {}
        Colour::Bgr => samples.as_chunks_mut::<3>().0.iter_mut().for_each(|p| p.swap(0, 2)),
        Colour::Grey => {
            let pixels = samples.len() / 3;
            for i in 0..pixels {
                samples[i] = luma([samples[3 * i], samples[3 * i + 1], samples[3 * i + 2]]);
            }
            samples.truncate(pixels);
        }
    }
}
