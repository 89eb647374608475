//! The definition.

use super::{F32Variant, I8Variant, Isa, PANEL, Task};

pub(super) const F32: F32Variant =
    F32Variant { name: "depthwise_f32_f32__scalar", isa: Isa::Scalar, run: run_f32 };
pub(super) const I8: I8Variant =
    I8Variant { name: "depthwise_w16_a8__scalar", isa: Isa::Scalar, run: run_i8 };

fn run_f32(task: &mut Task<'_, f32, f32>) {
    run(task, |acc: f32, x, w| x.mul_add(w, acc), |acc| acc);
}

fn run_i8(task: &mut Task<'_, i8, i16>) {
    let zero = task.zero_point;
    let add = |acc: i32, x: i8, w: i16| acc.wrapping_add(i32::from(w) * (i32::from(x) - zero));
    run(task, add, |acc| acc as f32);
}

/// The loops of both: `add` takes an accumulator, an input and a weight; `float` makes the result.
fn run<X: Copy, W: Copy, A: Copy + Default>(
    task: &mut Task<'_, X, W>,
    add: impl Fn(A, X, W) -> A,
    float: impl Fn(A) -> f32,
) {
    let s = task.shape;
    let channels = task.part.channels.clone();
    for (block, first) in channels.clone().step_by(PANEL).enumerate() {
        let columns = task.epilogue.columns(block * PANEL, channels.len());
        let valid = PANEL.min(channels.end - first);
        let weights = &task.weights[block * s.kh * s.kw * PANEL..];
        for (row, oy) in task.part.rows.clone().enumerate() {
            for ox in 0..s.ow {
                let mut acc = [A::default(); PANEL];
                for ky in s.rows(oy) {
                    for kx in s.columns(ox) {
                        let x = &task.src[s.at((oy, ox), (ky, kx)) + first..][..valid];
                        let w = &weights[(ky * s.kw + kx) * PANEL..];
                        for (lane, &x) in x.iter().enumerate() {
                            acc[lane] = add(acc[lane], x, w[lane]);
                        }
                    }
                }
                let acc = acc.map(&float);
                task.epilogue.finish(&mut task.out, row * s.ow + ox, &columns, &mut [acc]);
            }
        }
    }
}
