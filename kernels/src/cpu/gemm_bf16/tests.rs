//! Every variant against the scalar one bit for bit, and the scalar one against f64 loops.

use super::*;
use crate::MatMut;
use crate::cpu::activation::Activation;
use crate::cpu::gemm_f32::tests::{Random, assert_same_bits, report};
use crate::cpu::gemm_f32::{Addend, ResidualOrder, Scale};

fn others() -> Vec<&'static Variant> {
    report(VARIANTS, |v| (v.name, v.isa))
}

/// bf16 as f64, by its definition: 8 bits of significand.
fn rounded(x: f32) -> f64 {
    let unit = 2f64.powi(i32::try_from(x.abs().to_bits() >> 23).unwrap() - 127 - 7);
    (f64::from(x) / unit).round_ties_even() * unit
}

fn pairs(v: &Variant, a: &[f32], rows: usize, k: usize, stride: usize) -> Vec<u32> {
    let mut words = vec![0; rows * stride];
    for (row, words) in a.chunks(k.max(1)).zip(words.chunks_mut(stride)) {
        v.pairs_of_row(row, &mut words[..k.div_ceil(2)]);
    }
    words
}

#[test]
fn rounding_is_to_nearest_even_and_special_numbers_keep_their_kind() {
    let special = [
        0.0,
        -0.0,
        1.0,
        f32::INFINITY,
        f32::NEG_INFINITY,
        f32::NAN,
        -f32::NAN,
        f32::MAX,
        f32::MIN_POSITIVE,
        1e-40,
        -1e-40,
        f32::from_bits(0x3f80_8000),
        f32::from_bits(0x3f81_8000),
        f32::from_bits(0x3f80_8001),
        f32::from_bits(0x7f80_0001),
    ];
    let mut words = [0; 8];
    scalar::VARIANT.pairs_of_row(&special, &mut words);
    let halves: Vec<u16> = words.iter().flat_map(|w| [*w as u16, (*w >> 16) as u16]).collect();
    let want = [
        0, 0x8000, 0x3f80, 0x7f80, 0xff80, 0x7fc0, 0xffc0, 0x7f80, 0x0080, 0, 0x8000, 0x3f80, 0x3f82, 0x3f81,
        0x7fc0, 0,
    ];
    assert_eq!(halves, want);
    let mut random = Random::new(3);
    for v in others() {
        for len in (0..70).chain([1000]) {
            let mut x = random.floats(len);
            x.iter_mut().zip(special).for_each(|(x, s)| *x = s);
            let (mut want, mut got) = (vec![0; len.div_ceil(2)], vec![7; len.div_ceil(2)]);
            scalar::VARIANT.pairs_of_row(&x, &mut want);
            v.pairs_of_row(&x, &mut got);
            assert_eq!(got, want, "{} {len}", v.name);
            let x = &x[..len / PANEL * PANEL];
            let mut want = vec![0; (x.len() / PANEL).div_ceil(2) * PANEL];
            let mut got = vec![7; want.len()];
            scalar::VARIANT.pairs_of_panel(x, &mut want);
            v.pairs_of_panel(x, &mut got);
            assert_eq!(got, want, "{} panel of {len}", v.name);
        }
    }
}

#[test]
fn every_variant_gives_the_bits_of_the_definition() {
    let mut random = Random::new(1);
    let shapes: [(usize, usize, usize); 9] = [
        (1, 1, 1),
        (1, 200, 33),
        (3, 48, 64),
        (5, 17, 7),
        (12, 32, 96),
        (13, 33, 31),
        (25, 16, 2),
        (49, 100, 40),
        (2, 5, 0),
    ];
    for (m, n, k) in shapes {
        let words = k.div_ceil(2);
        let stride = words + random.below(3);
        let a = pairs(&scalar::VARIANT, &random.floats(m * k), m, k, stride.max(1));
        let panels: Vec<u32> = (0..n.div_ceil(PANEL))
            .flat_map(|_| {
                let mut out = vec![0; words * PANEL];
                scalar::VARIANT.pairs_of_panel(&random.floats(k * PANEL), &mut out);
                out
            })
            .collect();
        let (bias, residual) = (random.floats(n), random.floats(m * n));
        let plain = Epilogue::default();
        let full = Epilogue {
            scale: Scale::Uniform(0.7),
            bias: Some(&bias),
            residual: Some((Addend::F32(Rows::new(&residual, m, n, n)), ResidualOrder::BeforeActivation)),
            act: Activation::HardSwish,
            factor: Some(&bias),
        };
        for epilogue in [&plain, &full] {
            let run = |v: &Variant| {
                let mut c = vec![f32::NAN; m * (n + 3)];
                v.run(MatMut::new(&mut c, m, n, n + 3), Rows::new(&a, m, words, stride), &panels, epilogue);
                c
            };
            let want = run(&scalar::VARIANT);
            for v in others() {
                assert_same_bits(&run(v), &want, &format!("{} {m} x {n} x {k}", v.name));
            }
        }
    }
}

#[test]
fn windows_are_read_run_by_run() {
    let mut random = Random::new(5);
    let data = pairs(&scalar::VARIANT, &random.floats(400), 1, 400, 200);
    let mut panels = vec![0; 3 * 10 * PANEL];
    scalar::VARIANT.pairs_of_panel(&random.floats(60 * PANEL), &mut panels);
    let a = Rows::windows(&data, 14, 10, 4, &[80, 3, 51]);
    let run = |v: &Variant| {
        let mut c = vec![0.0; 14 * 16];
        v.run(MatMut::new(&mut c, 14, 16, 16), a, &panels, &Epilogue::default());
        c
    };
    for v in others() {
        assert_same_bits(&run(v), &run(&scalar::VARIANT), v.name);
    }
}

#[test]
fn the_definition_is_the_product_of_rounded_numbers() {
    let (m, n, k) = (6, 20, 150);
    let mut random = Random::new(9);
    let (a, b) = (random.floats(m * k), random.floats(k * 2 * PANEL));
    let words = pairs(&scalar::VARIANT, &a, m, k, k / 2);
    let mut panels = vec![0; k * PANEL];
    for (panel, words) in b.chunks(k * PANEL).zip(panels.chunks_mut(k / 2 * PANEL)) {
        scalar::VARIANT.pairs_of_panel(panel, words);
    }
    let mut c = vec![0.0; m * n];
    let rows = Rows::new(&words, m, k / 2, k / 2);
    scalar::VARIANT.run(MatMut::new(&mut c, m, n, n), rows, &panels, &Epilogue::default());
    for (i, c) in c.iter().enumerate() {
        let (row, col) = (i / n, i % n);
        let term = |j: usize| (a[row * k + j], b[col / PANEL * k * PANEL + j * PANEL + col % PANEL]);
        let exact: f64 = (0..k).map(term).map(|(a, b)| rounded(a) * rounded(b)).sum();
        let size: f64 = (0..k).map(term).map(|(a, b)| (rounded(a) * rounded(b)).abs()).sum();
        assert!(
            (f64::from(*c) - exact).abs() <= k as f64 * 2f64.powi(-24) * size,
            "{row} {col}: {c}, want {exact}"
        );
        // Against numbers that were not rounded: two errors of 2^-9 each.
        let unrounded: f64 = (0..k).map(term).map(|(a, b)| f64::from(a) * f64::from(b)).sum();
        assert!((f64::from(*c) - unrounded).abs() <= 2f64.powi(-7) * size, "{row} {col}");
    }
}
