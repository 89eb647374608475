//! The definition.

use super::{BLOCK, Isa, PANEL, Task, Variant};

pub(super) const VARIANT: Variant = Variant { name: "gemm_w8_a8__scalar", isa: Isa::Scalar, run, sum };

fn run(task: &mut Task<'_>) {
    let (m, n) = (task.out.rows(), task.out.cols());
    let (w, groups) = (task.w, task.w.groups());
    for index in 0..n.div_ceil(PANEL) {
        let columns = task.epilogue.columns(index * PANEL, n);
        let panel = w.panel(index);
        for row in 0..m {
            let mut acc = [0.0f32; PANEL];
            for (g, x) in task.x.rows.row(row).chunks(w.group).enumerate() {
                let dot = dot(x, &panel.codes[g * w.group * PANEL..]);
                for (lane, acc) in acc.iter_mut().enumerate() {
                    // Terms may wrap on the way to a sum that fits.
                    let zero = task.x.zero_point.wrapping_mul(panel.colsum[g][lane]);
                    let t = match w.half_offset {
                        true => dot[lane].wrapping_mul(2).wrapping_add(task.x.row_sums[row * groups + g]),
                        false => dot[lane],
                    };
                    *acc = (t.wrapping_sub(zero) as f32).mul_add(panel.scales[g][lane], *acc);
                }
            }
            task.epilogue.finish(&mut task.out, row, &columns, &mut [acc]);
        }
    }
}

/// Products of one group's activations with its 16 columns, `codes` from the group's first block on.
fn dot(x: &[i8], codes: &[i8]) -> [i32; PANEL] {
    let mut dot = [0; PANEL];
    for (i, &x) in x.iter().enumerate() {
        let block = &codes[i / BLOCK * PANEL * BLOCK..];
        for (lane, dot) in dot.iter_mut().enumerate() {
            *dot += i32::from(block[lane * BLOCK + i % BLOCK]) * i32::from(x);
        }
    }
    dot
}

fn sum(x: &[i8]) -> i32 {
    x.iter().map(|&x| i32::from(x)).sum()
}
