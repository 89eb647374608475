//! The definition.

use super::{Isa, PANEL, Task, Variant};

pub(super) const VARIANT: Variant = Variant { name: "gemm_f32_f32__scalar", isa: Isa::Scalar, run };

fn run(task: &mut Task<'_, f32>) {
    let (m, n, k) = (task.out.rows(), task.out.cols(), task.a.cols());
    for start in (0..n).step_by(PANEL) {
        let panel = &task.panels[start * k..][..k * PANEL];
        let columns = task.epilogue.columns(start, n);
        for row in 0..m {
            let mut acc = [[0.0f32; PANEL]];
            let a = (0..task.a.runs()).flat_map(|i| task.a.run(row, i));
            for (&a, b) in a.zip(panel.as_chunks::<PANEL>().0) {
                for lane in 0..PANEL {
                    acc[0][lane] = a.mul_add(b[lane], acc[0][lane]);
                }
            }
            task.epilogue.finish(&mut task.out, row, &columns, &mut acc);
        }
    }
}
