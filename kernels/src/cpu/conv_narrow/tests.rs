//! Every variant against the matrix product of the gathered windows, bit for bit.

use super::*;
use crate::MatMut;
use crate::cpu::activation::Activation;
use crate::cpu::gemm_f32::tests::{Random, assert_same_bits, report};
use crate::cpu::gemm_f32::{self, Rows};
use crate::cpu::im2col::im2col_rows;

fn random_shape(random: &mut Random) -> ConvShape {
    let ic = 1 + random.below(6);
    let channel_offset = random.below(3);
    ConvShape {
        ih: 1 + random.below(9),
        iw: 1 + random.below(200),
        ic,
        pixel_stride: channel_offset + ic + random.below(3),
        channel_offset,
        kh: 1 + random.below(4),
        kw: 1 + random.below(6),
        stride_h: 1 + random.below(3),
        stride_w: 1 + random.below(3),
        dil_h: 1 + random.below(2),
        dil_w: 1 + random.below(3),
        pad_top: random.below(4),
        pad_left: random.below(5),
        oh: 1 + random.below(6),
        ow: 1 + random.below(170),
    }
}

fn compare(random: &mut Random, shape: &ConvShape, n: usize) {
    let image = random.floats(shape.image_len().unwrap());
    let mut panel = random.floats(shape.k() * PANEL);
    panel.iter_mut().enumerate().filter(|(i, _)| i % PANEL >= n).for_each(|(_, w)| *w = 0.0);
    let bias = random.floats(n);
    let start = random.below(shape.oh);
    let rows = start..start + 1 + random.below(shape.oh - start);
    let (first, m) = (rows.start * shape.ow, rows.len() * shape.ow);
    let acts = [Activation::None, Activation::Relu, Activation::HardSwish];
    let epilogue = Epilogue { bias: Some(&bias), act: acts[random.below(3)], ..Epilogue::default() };

    let mut windows = vec![0.0; m * shape.k()];
    im2col_rows(shape, &image, first, m, 0.0, &mut windows, shape.k());
    let mut want = vec![0.0; m * n];
    let a = Rows::new(&windows, m, shape.k(), shape.k());
    gemm_f32::select(Isa::Scalar).run(MatMut::new(&mut want, m, n, n), a, &panel, &epilogue);
    for variant in VARIANTS.iter().filter(|v| v.isa.supported()) {
        // What lies in the ring before must not matter.
        let mut scratch = vec![f32::NAN; scratch_floats(shape).unwrap()];
        let stride = n + 2;
        let mut got = vec![-77.0; m * stride];
        let out = MatMut::new(&mut got, m, n, stride);
        variant.run(out, shape, rows.clone(), &image, &panel, &epilogue, &mut scratch);
        assert!(got.chunks(stride).all(|row| row[n..] == [-77.0; 2]), "{} wrote past its row", variant.name);
        let got: Vec<f32> = got.chunks(stride).flat_map(|row| row[..n].to_vec()).collect();
        assert_same_bits(&got, &want, &format!("{} {shape:?} rows {rows:?} n {n}", variant.name));
    }
}

#[test]
fn random_shapes_give_the_bits_of_the_product() {
    report(VARIANTS, |v| (v.name, v.isa));
    let mut random = Random::new(41);
    for _ in 0..400 {
        let shape = random_shape(&mut random);
        let n = 1 + random.below(MAX_CHANNELS);
        compare(&mut random, &shape, n);
    }
}

#[test]
fn every_width_of_a_tile_is_right() {
    let mut random = Random::new(42);
    for n in 1..=MAX_CHANNELS {
        for ow in [1, 15, 16, 17, 33, 48, 63, 64, 100, 128, 129, 250] {
            let shape = ConvShape {
                ih: 5,
                iw: ow,
                ic: 2,
                pixel_stride: 2,
                channel_offset: 0,
                kh: 3,
                kw: 3,
                stride_h: 1,
                stride_w: 1,
                dil_h: 1,
                dil_w: 1,
                pad_top: 1,
                pad_left: 1,
                oh: 5,
                ow,
            };
            compare(&mut random, &shape, n);
        }
    }
}

#[test]
fn an_image_without_pixels_is_padding() {
    let mut random = Random::new(44);
    for n in [1, 3, 8] {
        let shape =
            ConvShape { iw: 0, ic: 3, pixel_stride: 4, channel_offset: 1, ..random_shape(&mut random) };
        compare(&mut random, &shape, n);
    }
}

#[test]
fn sizes_that_overflow_have_no_ring() {
    let shape = random_shape(&mut Random::new(43));
    assert!(scratch_floats(&ConvShape { ic: usize::MAX / 2, ..shape }).is_none());
    assert!(scratch_floats(&ConvShape { kh: 2, dil_h: usize::MAX, ..shape }).is_none());
}
