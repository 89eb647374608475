//! The definition.

use super::super::scalar::{each_k, scales};
use super::super::{BLOCK, PANEL};
use super::{FloatVariant, Isa, Task};
use crate::cpu::planes::{UNIT, join};

pub(super) const VARIANT: FloatVariant = FloatVariant {
    name: "gemv_planes_f32__scalar",
    isa: Isa::Scalar,
    most_rows: super::super::MAX_ROWS,
    run,
};

fn run(task: &mut Task<'_>) {
    let (m, n, w) = (task.out.rows(), task.out.cols(), task.w);
    let (list, used) = (w.list(), w.list().iter().filter(|plane| plane.bits > 0).count());
    let least = 1 - (1i32 << w.split.bits());
    for panel in 0..n.div_ceil(PANEL) {
        let columns = task.epilogue.columns(panel * PANEL, n);
        for row in 0..m {
            let own = if task.own_rows { panel } else { row };
            let (x, mut acc) = (task.x.row(own), [0.0f32; PANEL]);
            for g in 0..w.groups() {
                let scales = scales(w, panel, g);
                let codes = |unit: usize| {
                    let mut codes = [0; UNIT];
                    join(&list[..used], panel * w.k.div_ceil(BLOCK) + unit, &mut codes);
                    codes
                };
                each_k(w, g, codes, |k, p| {
                    for (lane, acc) in acc.iter_mut().enumerate() {
                        let weight = (2 * i32::from(p[lane]) + least) as f32 * scales[lane];
                        *acc = x[k].mul_add(weight, *acc);
                    }
                });
            }
            task.epilogue.finish(&mut task.out, row, &columns, std::slice::from_mut(&mut acc));
        }
    }
}
