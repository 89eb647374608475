//! The definition.

use super::super::scalar::{codes, each_k, scales};
use super::super::{Isa, PANEL, Task};
use super::Variant;

pub(super) const VARIANT: Variant =
    Variant { name: "gemv_planes_rounded__scalar", isa: Isa::Scalar, most_rows: super::super::MAX_ROWS, run };

fn run(task: &mut Task<'_>) {
    let (m, n, w) = (task.out.rows(), task.out.cols(), task.w);
    for panel in 0..n.div_ceil(PANEL) {
        let columns = task.epilogue.columns(panel * PANEL, n);
        for row in 0..m {
            let (x, mut acc) = (task.x.row(row), [0.0f32; PANEL]);
            for g in 0..w.groups() {
                let mut t = [0i32; PANEL];
                each_k(
                    w,
                    g,
                    |unit| codes(w, panel, unit),
                    |k, q| {
                        for (t, q) in t.iter_mut().zip(q) {
                            *t += (2 * i32::from(q) + i32::from(w.odd)) * i32::from(x[k]);
                        }
                    },
                );
                let (scales, own) = (scales(w, panel, g), task.row_scales[g * m + row]);
                for (lane, acc) in acc.iter_mut().enumerate() {
                    *acc = (t[lane] as f32).mul_add(scales[lane] * own, *acc);
                }
            }
            task.epilogue.finish(&mut task.out, row, &columns, std::slice::from_mut(&mut acc));
        }
    }
}
