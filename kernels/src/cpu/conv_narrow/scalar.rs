//! The definition.

use super::{Isa, PANEL, Task, Variant};

pub(super) const VARIANT: Variant = Variant { name: "conv_narrow_f32_f32__scalar", isa: Isa::Scalar, run };

fn run(task: &mut Task<'_>) {
    let s = task.shape;
    let columns = task.epilogue.columns(0, task.out.cols());
    for (row, oy) in task.rows.clone().enumerate() {
        let rows = task.taps(oy);
        for ox in 0..s.ow {
            let mut acc = [0.0f32; PANEL];
            for ky in rows.clone() {
                for kx in 0..s.kw {
                    let x = (ox * s.stride_w + kx * s.dil_w).wrapping_sub(s.pad_left);
                    if x >= s.iw {
                        continue;
                    }
                    let at = (task.row(oy, ky) * s.iw + x) * s.pixel_stride + s.channel_offset;
                    let weights = &task.panel[(ky * s.kw + kx) * s.ic..][..s.ic];
                    for (x, w) in task.image[at..][..s.ic].iter().zip(weights) {
                        for (acc, w) in acc.iter_mut().zip(w) {
                            *acc = x.mul_add(*w, *acc);
                        }
                    }
                }
            }
            task.epilogue.finish(&mut task.out, row * s.ow + ox, &columns, &mut [acc]);
        }
    }
}
