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

/// `sums[m] += blocks[m * stride]`.
///
/// # Panics
/// When there are too few blocks, or the stride is 0.
pub fn add_blocks(v: Variant, sums: &mut [i32], blocks: &[i32], stride: usize) {
    let need = sums.len().saturating_sub(1) * stride + 1;
    assert!(
        stride > 0 && need <= blocks.len(),
        "{} sums of every {stride}th of {}",
        sums.len(),
        blocks.len()
    );
    v.run(
        #[inline(always)]
        || match stride {
            1 => sums.iter_mut().zip(blocks).for_each(|(sum, block)| *sum = sum.wrapping_add(*block)),
            _ => {
                let blocks = blocks.iter().step_by(stride);
                sums.iter_mut().zip(blocks).for_each(|(sum, block)| *sum = sum.wrapping_add(*block));
            }
        },
    );
}
