//! The definition.

use super::{Isa, PANEL, Task, Variant};

pub(super) const VARIANT: Variant =
    Variant { name: "gemm_bf16_bf16__scalar", isa: Isa::Scalar, run, pairs_of_row, pairs_of_panel };

/// Numbers too small to be normal are 0, of the same sign.
fn flushed(x: f32) -> f32 {
    if x.is_subnormal() { 0f32.copysign(x) } else { x }
}

/// The nearest bf16, ties to even; a NaN stays one.
fn round(x: f32) -> u32 {
    let bits = flushed(x).to_bits();
    if x.is_nan() {
        return (bits >> 16) | 0x40;
    }
    (bits + 0x7fff + ((bits >> 16) & 1)) >> 16
}

pub(super) fn pairs_of_row(row: &[f32], words: &mut [u32]) {
    for (word, pair) in words.iter_mut().zip(row.chunks(2)) {
        *word = round(pair[0]) | pair.get(1).map_or(0, |x| round(*x)) << 16;
    }
}

pub(super) fn pairs_of_panel(panel: &[f32], words: &mut [u32]) {
    for (words, pair) in words.chunks_exact_mut(PANEL).zip(panel.chunks(2 * PANEL)) {
        for (lane, word) in words.iter_mut().enumerate() {
            *word = round(pair[lane]) | pair.get(PANEL + lane).map_or(0, |x| round(*x)) << 16;
        }
    }
}

/// The elements of the even and of the odd k.
fn halves(word: u32) -> [f32; 2] {
    [f32::from_bits(word << 16), f32::from_bits(word & 0xffff_0000)].map(flushed)
}

fn run(task: &mut Task<'_, u32>) {
    let (m, n, words) = (task.out.rows(), task.out.cols(), task.a.cols());
    for start in (0..n).step_by(PANEL) {
        let panel = &task.panels[start * words..][..words * PANEL];
        let columns = task.epilogue.columns(start, n);
        for row in 0..m {
            let mut acc = [[0.0f32; PANEL]];
            let a = (0..task.a.runs()).flat_map(|i| task.a.run(row, i));
            for (&a, b) in a.zip(panel.as_chunks::<PANEL>().0) {
                let [even, odd] = halves(a);
                for (acc, b) in acc[0].iter_mut().zip(b) {
                    let [b_even, b_odd] = halves(*b);
                    *acc = flushed(even.mul_add(b_even, flushed(odd.mul_add(b_odd, *acc))));
                }
            }
            task.epilogue.finish(&mut task.out, row, &columns, &mut acc);
        }
    }
}
