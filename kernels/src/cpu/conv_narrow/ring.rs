//! The ring of input rows that lie by channels.

use super::super::tile::Aligned;
use super::{MAX_CHANNELS, PANEL, Task};

/// Brings the input rows that output row `oy` sees into the ring, without those before `filled`, which have been there. The next
/// row that has not.
pub(super) fn bring(task: &mut Task<'_>, oy: usize, filled: usize) -> usize {
    let taps = task.taps(oy);
    if taps.is_empty() {
        return filled;
    }
    // From the window's first row in the image on, though no tap may see it: a later window's may.
    let first = (oy * task.shape.stride_h).saturating_sub(task.shape.pad_top);
    let end = task.row(oy, taps.end - 1) + 1;
    for y in first.max(filled)..end {
        fill(task, y);
    }
    filled.max(end)
}

/// 16 pixels of `n` channels as the epilogue takes them, from channels of pixels.
#[inline(always)]
pub(super) fn transposed(sums: &[[f32; PANEL]; MAX_CHANNELS], n: usize) -> Aligned<[[f32; PANEL]; PANEL]> {
    let mut y = Aligned([[0.0; PANEL]; PANEL]);
    for (channel, sums) in sums.iter().enumerate().take(n) {
        for (y, sum) in y.0.iter_mut().zip(sums) {
            y[channel] = *sum;
        }
    }
    y
}

/// Lays input row `y` out in the ring.
fn fill(task: &mut Task<'_>, y: usize) {
    let s = task.shape;
    // A row without pixels is padding alone.
    if s.iw == 0 {
        return;
    }
    let each = s.ic * s.stride_w * task.ring.len;
    let row = &mut task.scratch[y % task.ring.rows * each..][..each];
    let image = &task.image[y * s.iw * s.pixel_stride..];
    for c in 0..s.ic {
        let phases = &mut row[c * s.stride_w * task.ring.len..][..s.stride_w * task.ring.len];
        let values = image[s.channel_offset + c..].iter().step_by(s.pixel_stride).take(s.iw);
        if s.stride_w == 1 {
            // Pixels that no window reaches may not fit.
            for (to, value) in phases.iter_mut().skip(s.pad_left).zip(values) {
                *to = *value;
            }
        } else {
            for (x, value) in values.enumerate() {
                let at = x + s.pad_left;
                let Some(to) =
                    phases[at % s.stride_w * task.ring.len..][..task.ring.len].get_mut(at / s.stride_w)
                else {
                    break;
                };
                *to = *value;
            }
        }
    }
}
