//! The definition.

use super::{BLOCK, Isa, PANEL, Task, Variant};

pub(super) const VARIANT: Variant = Variant { name: "gemm_w8_a8__scalar", isa: Isa::Scalar, run, sum };

fn run(task: &mut Task<'_>) {
    let (m, n) = (task.out.rows(), task.out.cols());
    let groups = task.w.groups();
    for panel in 0..n.div_ceil(PANEL) {
        let columns = task.epilogue.columns(panel * PANEL, n);
        for row in 0..m {
            let x = task.x.rows.row(row);
            let mut acc = [0.0f32; PANEL];
            for g in 0..groups {
                let group = task.w.at(panel, g);
                let mut dot = [0i32; PANEL];
                for (i, &x) in x[group.from..group.to].iter().enumerate() {
                    let block = &group.codes[i / BLOCK * PANEL * BLOCK..];
                    for (lane, dot) in dot.iter_mut().enumerate() {
                        *dot += i32::from(block[lane * BLOCK + i % BLOCK]) * i32::from(x);
                    }
                }
                for (lane, acc) in acc.iter_mut().enumerate() {
                    // Terms may wrap on the way to a sum that fits.
                    let zero = task.x.zero_point.wrapping_mul(group.colsum[lane]);
                    let t = match task.w.half_offset {
                        true => dot[lane].wrapping_mul(2).wrapping_add(task.x.row_sums[row * groups + g]),
                        false => dot[lane],
                    };
                    *acc = (t.wrapping_sub(zero) as f32).mul_add(group.scales[lane], *acc);
                }
            }
            task.epilogue.finish(&mut task.out, row, &columns, &mut [acc]);
        }
    }
}

fn sum(x: &[i8]) -> i32 {
    x.iter().map(|&x| i32::from(x)).sum()
}
