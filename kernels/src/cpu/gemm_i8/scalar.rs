//! The definition.

use super::{BLOCK, Isa, PANEL, Task, Variant, sums_by_group};

pub(super) const VARIANT: Variant =
    Variant { name: "gemm_w8_a8__scalar", isa: Isa::Scalar, run, row_factor, sums };

/// Half-offset codes stand for `2q + 1`: the sum once.
fn row_factor(half_offset: bool) -> i32 {
    i32::from(half_offset)
}

fn run(task: &mut Task<'_>) {
    let (m, n) = (task.out.rows(), task.out.cols());
    let w = task.w;
    for index in 0..n.div_ceil(PANEL) {
        let columns = task.epilogue.columns(index * PANEL, n);
        let panel = w.panel(index);
        for row in 0..m {
            let mut acc = [0.0f32; PANEL];
            for g in 0..w.groups() {
                let runs = (0..task.x.rows.runs()).flat_map(|i| task.x.rows.run(row, i));
                let x = runs.skip(g * w.group).take(w.group);
                let dot = dot(x, &panel.codes[g * w.group * PANEL..]);
                for (lane, acc) in acc.iter_mut().enumerate() {
                    // Terms may wrap on the way to a sum that fits.
                    let zero = task.x.zero_point.wrapping_mul(panel.colsum[g][lane]);
                    let dot = if w.half_offset { dot[lane].wrapping_mul(2) } else { dot[lane] };
                    let t = dot.wrapping_add(task.x.row_sums[g * m + row]);
                    *acc = (t.wrapping_sub(zero) as f32).mul_add(panel.scales[g][lane], *acc);
                }
            }
            task.epilogue.finish(&mut task.out, row, &columns, &mut [acc]);
        }
    }
}

/// Products of one group's activations with its 16 columns, `codes` from the group's first block on.
fn dot<'a>(x: impl Iterator<Item = &'a i8>, codes: &[i8]) -> [i32; PANEL] {
    let mut dot = [0; PANEL];
    for (i, &x) in x.enumerate() {
        let block = &codes[i / BLOCK * PANEL * BLOCK..];
        for (lane, dot) in dot.iter_mut().enumerate() {
            *dot += i32::from(block[lane * BLOCK + i % BLOCK]) * i32::from(x);
        }
    }
    dot
}

fn sums(x: &[i8], group: usize, sums: &mut [i32]) {
    sums_by_group(x, group, sums, |x| x.iter().map(|&x| i32::from(x)).sum());
}
