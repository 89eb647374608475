//! Resizing with a triangle filter.
//!
//! A sample of the result is the mean of the samples around its place, weighed by a triangle as wide as the larger of
//! one source and one result pixel: linear interpolation when a picture grows, a smoothed mean when it shrinks.
//! Columns first, then rows, in f32.

use super::Size;

/// The source samples that one result sample is made of, and their weights, which sum to one.
struct Taps {
    first: usize,
    weights: Vec<f32>,
}

/// The taps of sample `i` of `to`, over `from` samples.
fn taps(i: usize, from: u32, to: u32) -> Taps {
    let ratio = from as f32 / to as f32;
    let reach = ratio.max(1.0);
    let centre = (i as f32 + 0.5) * ratio;
    let last = i64::from(from);
    let first = ((centre - reach).floor() as i64).clamp(0, last - 1);
    let end = ((centre + reach).ceil() as i64).clamp(first + 1, last);
    let centre = centre - 0.5;
    let weight = |at: i64| (1.0 - ((at as f32 - centre) / reach).abs()).max(0.0);
    let mut weights: Vec<f32> = (first..end).map(weight).collect();
    let mut sum = 0.0;
    weights.iter().for_each(|w| sum += w);
    weights.iter_mut().for_each(|w| *w /= sum);
    Taps { first: first as usize, weights }
}

/// Bytes that [`resize`] allocates.
pub(super) fn resize_bytes(from: Size, to: Size, channels: usize) -> u64 {
    let channels = channels as u64;
    let (width, height) = (u64::from(to.width), u64::from(to.height));
    // Each source sample is a tap of at most three result samples when shrinking, else of as many as the picture
    // grows by; with the lists' own room.
    let taps = 4 * (2 * u64::from(from.width) + 3 * width) + 64 * width;
    let row = 4 * channels * u64::from(from.width);
    width.saturating_mul(height).saturating_mul(channels).saturating_add(taps + row)
}

/// Brings interleaved samples to another size.
///
/// # Panics
/// When `samples` are not those of a picture of size `from`.
pub(super) fn resize(samples: &[u8], from: Size, to: Size, channels: usize) -> Vec<u8> {
    let stride = from.width as usize * channels;
    assert_eq!(samples.len(), stride * from.height as usize, "samples of a picture of {from:?}");
    let columns: Vec<Taps> = (0..to.width as usize).map(|x| taps(x, from.width, to.width)).collect();
    let mut row = vec![0.0f32; stride];
    let mut out = Vec::with_capacity(to.width as usize * to.height as usize * channels);
    for y in 0..to.height as usize {
        let rows = taps(y, from.height, to.height);
        row.fill(0.0);
        for (i, w) in rows.weights.iter().enumerate() {
            let source = &samples[(rows.first + i) * stride..][..stride];
            row.iter_mut().zip(source).for_each(|(sum, s)| *sum += f32::from(*s) * w);
        }
        for column in &columns {
            for c in 0..channels {
                let mut sum = 0.0;
                for (i, w) in column.weights.iter().enumerate() {
                    sum += row[(column.first + i) * channels + c] * w;
                }
                out.push(sum.clamp(0.0, 255.0).round() as u8);
            }
        }
    }
    out
}
