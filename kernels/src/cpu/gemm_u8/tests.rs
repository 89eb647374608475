//! Every variant, the scalar one too, against the product of the same codes by `gemm_i8`, bit for bit.

use super::*;
use crate::MatMut;
use crate::cpu::activation::Activation;
use crate::cpu::gemm_f32::tests::{Random, assert_same_bits, report};
use crate::cpu::gemm_f32::{Addend, ResidualOrder, Scale};
use crate::cpu::gemm_i8::{self, I8Panels, I8Rows};

fn every() -> impl Iterator<Item = &'static Variant> {
    report(VARIANTS, |v| (v.name, v.isa)).into_iter().chain([&scalar::VARIANT])
}

/// Panels of random codes, 0 past K and N, with their sums.
struct Weights {
    codes: Vec<i8>,
    scales: Vec<f32>,
    sums: Vec<i32>,
}

impl Weights {
    fn new(random: &mut Random, n: usize, k: usize) -> Weights {
        let (panels, blocks) = (n.div_ceil(PANEL), k.div_ceil(BLOCK));
        let mut codes = random.codes(panels * blocks * PANEL * BLOCK);
        let (mut scales, mut sums) = (random.floats(panels * PANEL), vec![0; panels * PANEL]);
        for (i, code) in codes.iter_mut().enumerate() {
            let (block, lane) = (i / (PANEL * BLOCK), i / BLOCK % PANEL);
            let (column, row) = (block / blocks * PANEL + lane, block % blocks * BLOCK + i % BLOCK);
            *code = if column < n && row < k { (*code).max(-127) } else { 0 };
            sums[block / blocks * PANEL + lane] += i32::from(*code);
        }
        scales.iter_mut().skip(n).for_each(|scale| *scale = 0.0);
        Weights { codes, scales, sums }
    }

    fn words(&self, v: &Variant, k: usize) -> Vec<u32> {
        let each = k.div_ceil(BLOCK) * PANEL * BLOCK;
        let panels = self.codes.chunks(each.max(1)).flat_map(|codes| {
            let mut words = vec![7; k.div_ceil(FOUR) * PANEL];
            v.words_of_codes(codes, &mut words);
            words
        });
        panels.collect()
    }
}

/// Rows with a gap of two behind each; by a scale that makes codes beyond i32, too.
fn quantized(c: &mut [i8], m: usize, n: usize, i: usize) -> Output<'_> {
    Output::I8 { out: MatMut::new(c, m, n, n + 2), inv_scale: [3.0, 0.02, 1e8][i % 3], zero_point: -5 }
}

/// Rows of words, `stride` apart.
fn words(v: &Variant, x: &[i8], m: usize, k: usize, stride: usize) -> Vec<u32> {
    let mut words = vec![0x5555_5555; m * stride];
    for (row, words) in x.chunks(k.max(1)).zip(words.chunks_mut(stride.max(1))) {
        v.words_of_row(row, &mut words[..k.div_ceil(FOUR)]);
    }
    words
}

#[test]
fn every_variant_gives_the_bits_of_one_plain_group() {
    let mut random = Random::new(1);
    let mut shapes = vec![
        (1, 1, 1),
        (1, 200, 33),
        (2, 70, 129),
        (3, 48, 64),
        (5, 17, 7),
        (12, 32, 96),
        (13, 33, 31),
        (25, 16, 2),
        (49, 100, 40),
        (2, 5, 65_000),
    ];
    for _ in 0..150 {
        shapes.push((1 + random.below(40), 1 + random.below(70), 1 + random.below(150)));
    }
    for (i, (m, n, k)) in shapes.into_iter().enumerate() {
        let w = Weights::new(&mut random, n, k);
        let mut x = random.codes(m * k);
        let (bias, residual) = (random.floats(n), random.floats(m * n));
        let zero_point = [0, -128, 127, 5, -77][i % 5];
        // A row of zeros: what is scaled is 0, by scales of either sign.
        x[..k].fill(zero_point as i8);
        let mut odd = bias.clone();
        odd[random.below(n)] = [f32::NAN, f32::INFINITY, -1e38][random.below(3)];
        let epilogue = match i % 7 {
            3 => Epilogue { act: Activation::Relu, bias: Some(&bias), ..Epilogue::default() },
            4 => Epilogue {
                scale: Scale::Uniform(0.01),
                act: Activation::Clip { lo: -1.5, hi: 6.0 },
                ..Epilogue::default()
            },
            5 => Epilogue {
                act: Activation::Clip { lo: 0.5, hi: 6.0 },
                bias: Some(&odd),
                ..Epilogue::default()
            },
            6 => Epilogue { scale: Scale::PerColumn(&bias), bias: Some(&bias), ..Epilogue::default() },
            0 => Epilogue { scale: Scale::Uniform(0.003), ..Epilogue::default() },
            1 => Epilogue::default(),
            _ => Epilogue {
                scale: Scale::PerColumn(&bias),
                bias: Some(&bias),
                residual: Some((Addend::F32(Rows::new(&residual, m, n, n)), ResidualOrder::BeforeActivation)),
                act: Activation::HardSwish,
                factor: Some(&bias),
            },
        };
        let panels = I8Panels {
            codes: &w.codes,
            scales: &w.scales,
            colsum: &w.sums,
            k,
            group: k,
            half_offset: false,
            code_bits: 8,
        };
        let definition = gemm_i8::select(Isa::Scalar);
        let mut row_sums = vec![0; m];
        definition.row_sums(Rows::new(&x, m, k, k), &panels, &mut row_sums);
        let rows = I8Rows { rows: Rows::new(&x, m, k, k), zero_point, row_sums: &row_sums };
        let (mut want, mut want_codes) = (vec![0.0; m * n], vec![1; m * (n + 2)]);
        definition.run(MatMut::new(&mut want, m, n, n), rows, &panels, &epilogue);
        definition.run(quantized(&mut want_codes, m, n, i), rows, &panels, &epilogue);
        for v in every() {
            let stride = k.div_ceil(FOUR) + random.below(3);
            let (x, made) = (words(v, &x, m, k, stride), w.words(v, k));
            let panels = U8Panels { words: &made, scales: &w.scales, sums: &w.sums };
            let x = Rows::new(&x, m, k.div_ceil(FOUR), stride);
            let (mut got, mut got_codes) = (vec![f32::NAN; m * n], vec![1; m * (n + 2)]);
            v.run(MatMut::new(&mut got, m, n, n), x, zero_point, &panels, &epilogue);
            v.run(quantized(&mut got_codes, m, n, i), x, zero_point, &panels, &epilogue);
            let what = format!("{} {m} x {n} x {k}, zero {zero_point}", v.name);
            assert_same_bits(&got, &want, &what);
            assert_eq!(got_codes, want_codes, "{what}");
        }
    }
}

#[test]
fn words_are_the_same_whoever_makes_them() {
    let mut random = Random::new(2);
    for k in (0..150).chain([1000]) {
        let (x, w) = (random.codes(k), Weights::new(&mut random, 16, k));
        let want = words(&scalar::VARIANT, &x, 1, k, k.div_ceil(FOUR));
        let codes = w.words(&scalar::VARIANT, k);
        for v in every() {
            assert_eq!(words(v, &x, 1, k, k.div_ceil(FOUR)), want, "{} {k}", v.name);
            assert_eq!(w.words(v, k), codes, "{} {k}", v.name);
        }
        for (i, x) in x.iter().enumerate() {
            let byte = (want[i / FOUR] >> (i % FOUR * 8)) as u8;
            assert_eq!(i32::from(byte), i32::from(*x) + 128, "element {i} of {k}");
            let code = (codes[i / FOUR * PANEL + 3] >> (i % FOUR * 8)) as i8;
            assert_eq!(code, w.codes[i / BLOCK * PANEL * BLOCK + 3 * BLOCK + i % BLOCK], "code {i} of {k}");
        }
    }
}

#[test]
fn windows_are_read_run_by_run() {
    let mut random = Random::new(5);
    let data: Vec<u32> = (0..200).map(|_| random.next()).collect();
    let w = Weights::new(&mut random, 16, 120);
    let a = Rows::windows(&data, 14, 10, 4, &[80, 3, 51]);
    let run = |v: &Variant| {
        let made = w.words(v, 120);
        let panels = U8Panels { words: &made, scales: &w.scales, sums: &w.sums };
        let mut c = vec![0.0; 14 * 16];
        v.run(MatMut::new(&mut c, 14, 16, 16), a, 3, &panels, &Epilogue::default());
        c
    };
    for v in every() {
        assert_same_bits(&run(v), &run(&scalar::VARIANT), v.name);
    }
}

#[test]
fn pixels_with_words_of_their_own_give_the_same_sums() {
    let mut random = Random::new(7);
    for (channels, taps, m, n) in
        [(3, 9, 40, 16), (3, 1, 1, 5), (5, 4, 7, 20), (7, 25, 13, 33), (1, 3, 9, 2), (4, 9, 6, 16)]
    {
        let (k, each): (usize, usize) = (channels * taps, usize::div_ceil(channels, FOUR));
        let (x, w) = (random.codes(m * k), Weights::new(&mut random, n, k));
        for v in every() {
            let run = |rows: &[u32], words: usize, made: &[u32]| {
                let panels = U8Panels { words: made, scales: &w.scales, sums: &w.sums };
                let mut c = vec![f32::NAN; m * n];
                let x = Rows::new(rows, m, words, words);
                v.run(MatMut::new(&mut c, m, n, n), x, -9, &panels, &Epilogue::default());
                c
            };
            let dense = run(&words(v, &x, m, k, k.div_ceil(FOUR)), k.div_ceil(FOUR), &w.words(v, k));
            let mut rows = vec![7; m * taps * each];
            v.words_of_pixels(&x, channels, &mut rows);
            let blocks = k.div_ceil(BLOCK) * PANEL * BLOCK;
            let made: Vec<u32> = (w.codes.chunks(blocks))
                .flat_map(|codes| {
                    let mut words = vec![7; taps * each * PANEL];
                    words_of_taps(codes, channels, &mut words);
                    words
                })
                .collect();
            assert_same_bits(
                &run(&rows, taps * each, &made),
                &dense,
                &format!("{} {channels} x {taps}", v.name),
            );
        }
    }
}
