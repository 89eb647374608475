//! The definition.

use super::{BLOCK, FOUR, Isa, PANEL, Task, Variant};

pub(super) const VARIANT: Variant = Variant {
    name: "gemm_w8_a8_rows__scalar",
    isa: Isa::Scalar,
    run,
    words_of_row,
    words_of_codes,
    words_of_pixels,
};

pub(super) fn words_of_row(row: &[i8], words: &mut [u32]) {
    for (word, four) in words.iter_mut().zip(row.chunks(FOUR)) {
        let byte = |i: usize| four.get(i).map_or(0x80, |x| *x as u8 ^ 0x80);
        *word = u32::from_le_bytes([byte(0), byte(1), byte(2), byte(3)]);
    }
}

pub(super) fn words_of_pixels(pixels: &[i8], channels: usize, words: &mut [u32]) {
    for (pixel, words) in pixels.chunks_exact(channels).zip(words.chunks_exact_mut(channels.div_ceil(FOUR))) {
        words_of_row(pixel, words);
    }
}

pub(super) fn words_of_codes(codes: &[i8], words: &mut [u32]) {
    for (i, word) in words.iter_mut().enumerate() {
        let (row, lane) = (i / PANEL, i % PANEL);
        let at = row * FOUR / BLOCK * PANEL * BLOCK + lane * BLOCK + row * FOUR % BLOCK;
        *word = u32::from_le_bytes([0, 1, 2, 3].map(|i| codes[at + i] as u8));
    }
}

fn run(task: &mut Task<'_>) {
    let (product, reals) = (&mut task.product, &task.reals);
    let (m, n, words) = (product.out.rows(), product.out.cols(), product.a.cols());
    for start in (0..n).step_by(PANEL) {
        let panel = &product.panels[start * words..][..words * PANEL];
        let columns = product.epilogue.columns(start, n);
        let (scales, sums) = (reals.scales[start / PANEL], reals.sums[start / PANEL]);
        for row in 0..m {
            let mut acc = sums.map(|sum| sum.wrapping_mul(reals.factor));
            let a = (0..product.a.runs()).flat_map(|i| product.a.run(row, i));
            for (a, b) in a.zip(panel.as_chunks::<PANEL>().0) {
                for (acc, b) in acc.iter_mut().zip(b) {
                    let terms = a.to_le_bytes().into_iter().zip(b.to_le_bytes());
                    let sum: i32 = terms.map(|(x, q)| i32::from(x) * i32::from(q as i8)).sum();
                    *acc = acc.wrapping_add(sum);
                }
            }
            let mut tile = [std::array::from_fn(|lane| (acc[lane] as f32).mul_add(scales[lane], 0.0))];
            product.epilogue.finish(&mut product.out, row, &columns, &mut tile);
        }
    }
}
