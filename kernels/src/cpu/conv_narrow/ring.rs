//! The ring of input rows that lie by channels.

use super::Task;

/// Lays input row `y` out in the ring.
pub(super) fn fill(task: &mut Task<'_>, y: usize) {
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
