//! Row sums of the windows of a convolution, whose elements are shared by many windows: each is summed once.
//!
//! An input row becomes the sums of its blocks of 8 channels, `[C / 8][pixel]`. A window's group is then a sum of some of
//! them, and those of neighbouring windows lie side by side.

use super::super::loops::Variant;
use super::BLOCK;

/// `sums[c][x] = factor * (sum of channels 8c to 8c + 7 of pixel x)`: `row` `[pixels][channels]`, `sums` `[channels / 8][pixels]`.
///
/// # Panics
/// When the channels are not whole blocks, or a length is not the shape's.
pub fn block_sums(v: Variant, row: &[i8], channels: usize, factor: i32, sums: &mut [i32]) {
    assert!(channels > 0 && channels.is_multiple_of(BLOCK), "{channels} channels in blocks of {BLOCK}");
    let (blocks, per_pixel) = (row.as_chunks::<BLOCK>().0, channels / BLOCK);
    let pixels = blocks.len() / per_pixel;
    assert!(pixels * channels == row.len() && sums.len() == blocks.len(), "sums of {} elements", row.len());
    v.run(
        #[inline(always)]
        || {
            for c in 0..per_pixel {
                let sums = &mut sums[c * pixels..][..pixels];
                for (sum, block) in sums.iter_mut().zip(blocks[c..].iter().step_by(per_pixel)) {
                    *sum = block_sum(*block) * factor;
                }
            }
        },
    );
}

/// The sum of 8 elements, within one register of 64 bits, so that several are made at once.
#[inline(always)]
fn block_sum(block: [i8; BLOCK]) -> i32 {
    // Unsigned: each 128 more than it is.
    let bytes = u64::from_le_bytes(block.map(|x| x as u8)) ^ 0x8080_8080_8080_8080;
    let pairs = (bytes & 0x00ff_00ff_00ff_00ff) + ((bytes >> 8) & 0x00ff_00ff_00ff_00ff);
    let quads = pairs + (pairs >> 16);
    ((quads + (quads >> 32)) & 0xffff) as i32 - 8 * 128
}

/// The windows of a piece in a ring of input rows.
#[derive(Clone, Copy, Debug)]
pub struct WindowBlocks<'a> {
    /// Windows.
    pub windows: usize,
    /// Where in `blocks` the first window's part of each tap row begins, in rows of [`block_sums`].
    pub taps: &'a [usize],
    /// Tap columns.
    pub kw: usize,
    /// Pixels between neighbouring windows.
    pub stride: usize,
    /// Blocks of a pixel.
    pub per_pixel: usize,
    /// Pixels of an input row.
    pub pixels: usize,
    /// k that share a scale.
    pub group: usize,
}

/// The sums of each window's groups from those of its blocks, `[group][window]`: k runs over tap rows, tap columns and channels.
///
/// # Panics
/// When a window reaches beyond `blocks`, the stride is 0, or `sums` has another length.
pub fn window_sums(v: Variant, w: &WindowBlocks<'_>, blocks: &[i32], sums: &mut [i32]) {
    let k = w.taps.len() * w.kw * w.per_pixel * BLOCK;
    assert!(w.stride > 0 && w.windows > 0 && w.group > 0, "sums of {w:?}");
    assert_eq!(sums.len(), k.div_ceil(w.group) * w.windows, "sums of {w:?}");
    sums.fill(0);
    v.run(
        #[inline(always)]
        || {
            let mut k = 0;
            for tap in w.taps {
                for x in 0..w.kw {
                    for c in 0..w.per_pixel {
                        let sums = &mut sums[k / w.group * w.windows..][..w.windows];
                        let blocks = &blocks[tap + c * w.pixels + x..];
                        if w.stride == 1 {
                            add(sums, blocks[..w.windows].iter());
                        } else {
                            add(sums, blocks[..(w.windows - 1) * w.stride + 1].iter().step_by(w.stride));
                        }
                        k += BLOCK;
                    }
                }
            }
        },
    );
}

#[inline(always)]
fn add<'a>(sums: &mut [i32], blocks: impl Iterator<Item = &'a i32>) {
    sums.iter_mut().zip(blocks).for_each(|(sum, block)| *sum = sum.wrapping_add(*block));
}
