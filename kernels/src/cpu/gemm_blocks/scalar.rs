//! The definition.

use super::{F32Variant, I8Variant, Isa, PANEL, Task};

pub(super) const F32: F32Variant = F32Variant { name: "gemm_blocks_f32_f32__scalar", isa: Isa::Scalar, run };

pub(super) const I8: I8Variant =
    I8Variant { name: "gemm_blocks_w8_a8__scalar", isa: Isa::Scalar, run: run_i8 };

fn run(task: &mut Task<'_, f32>) {
    each_panel(task, |task, panel, kept, row| {
        let mut acc = [0.0f32; PANEL];
        for (a, w) in operands(task, panel, kept, row) {
            for (acc, w) in acc.iter_mut().zip(w) {
                *acc = a.mul_add(*w, *acc);
            }
        }
        acc
    });
}

fn run_i8(task: &mut Task<'_, u32>) {
    each_panel(task, |task, panel, kept, row| {
        let Some(reals) = task.reals else { return [0.0; PANEL] };
        let mut acc = reals.sums[panel].map(|sum| sum.wrapping_mul(-reals.zero_point));
        for (x, w) in operands(task, panel, kept, row) {
            let x = (x ^ 0x8080_8080).to_le_bytes();
            for (acc, w) in acc.iter_mut().zip(w) {
                for (x, w) in x.into_iter().zip(w.to_le_bytes()) {
                    *acc = acc.wrapping_add(i32::from(x as i8) * i32::from(w as i8));
                }
            }
        }
        std::array::from_fn(|lane| (acc[lane] as f32).mul_add(reals.scales[panel][lane], 0.0))
    });
}

/// Finishes what `sums(task, panel, kept, row)` gives for each row of each panel, of which so many elements are kept.
fn each_panel<T>(task: &mut Task<'_, T>, sums: impl Fn(&Task<'_, T>, usize, usize, usize) -> [f32; PANEL]) {
    let (m, n) = (task.out.rows(), task.out.cols());
    for panel in 0..n.div_ceil(PANEL) {
        let kept = task.note_places(panel, 0);
        let columns = task.epilogue.columns(panel * PANEL, n);
        for row in 0..m {
            let mut tile = [sums(task, panel, kept, row)];
            task.epilogue.finish(&mut task.out, row, &columns, &mut tile);
        }
    }
}

/// The kept elements of a row, each with its row of a panel.
fn operands<'t, T: Copy>(
    task: &'t Task<'_, T>,
    panel: usize,
    kept: usize,
    row: usize,
) -> impl Iterator<Item = (T, &'t [T; PANEL])> {
    let (data, _) = task.a.places();
    let first = row * task.a.stride();
    let values = &task.values.as_chunks().0[panel * task.kept.rows()..];
    task.places[..kept].iter().map(move |place| data[first + *place as usize]).zip(values)
}
