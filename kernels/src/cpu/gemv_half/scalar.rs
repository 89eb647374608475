//! The definition.

use super::{Half, Isa, PANEL, Task, Variant};
use half::{bf16, f16};

pub(super) const VARIANT: Variant = Variant { name: "gemv_half_f32__scalar", isa: Isa::Scalar, run };

fn run(task: &mut Task<'_>) {
    let (m, n, w) = (task.out.rows(), task.out.cols(), task.w);
    let halves = w.bytes.as_chunks::<2>().0;
    for panel in 0..n.div_ceil(PANEL) {
        let columns = task.epilogue.columns(panel * PANEL, n);
        for row in 0..m {
            let mut acc = [0.0f32; PANEL];
            for (k, x) in task.x.row(row).iter().enumerate() {
                let weights = &halves[(panel * w.k + k) * PANEL..][..PANEL];
                for (acc, w) in acc.iter_mut().zip(weights) {
                    let weight = match task.w.kind {
                        Half::F16 => f16::from_le_bytes(*w).to_f32(),
                        Half::Bf16 => bf16::from_le_bytes(*w).to_f32(),
                    };
                    *acc = x.mul_add(weight, *acc);
                }
            }
            task.epilogue.finish(&mut task.out, row, &columns, std::slice::from_mut(&mut acc));
        }
    }
}
