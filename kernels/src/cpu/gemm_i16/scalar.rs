//! The definition.

use super::{Isa, PAIR, PANEL, Task, Variant};

pub(super) const VARIANT: Variant = Variant { name: "gemm_w16_a8__scalar", isa: Isa::Scalar, run };

fn run(task: &mut Task<'_>) {
    let (m, n) = (task.out.rows(), task.out.cols());
    let w = task.w;
    for index in 0..n.div_ceil(PANEL) {
        let columns = task.epilogue.columns(index * PANEL, n);
        let panel = w.panel(index);
        for row in 0..m {
            let mut acc = [0.0f32; PANEL];
            let x = &task.x.row(row)[..w.k];
            for (g, x) in x.chunks(w.group).enumerate() {
                let mut dot = [0i32; PANEL];
                for (i, &x) in x.iter().enumerate() {
                    let k = g * w.group + i;
                    let pairs = &panel.weights[k / PAIR * PANEL * PAIR..][..PANEL * PAIR];
                    for (lane, dot) in dot.iter_mut().enumerate() {
                        *dot += i32::from(pairs[lane * PAIR + k % PAIR]) * i32::from(x);
                    }
                }
                for (lane, acc) in acc.iter_mut().enumerate() {
                    *acc = (dot[lane] as f32).mul_add(panel.scales[g][lane], *acc);
                }
            }
            task.epilogue.finish(&mut task.out, row, &columns, &mut [acc]);
        }
    }
}
