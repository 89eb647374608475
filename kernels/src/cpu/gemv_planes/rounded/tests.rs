use super::super::tests::Weights;
use super::super::{MAX_ROWS, Split};
use super::*;
use crate::MatMut;
use crate::cpu::activation::Activation;
use crate::cpu::gemm_f32::tests::{Random, assert_same_bits, report};

#[test]
fn variants_give_the_bits_of_the_definition() {
    let mut random = Random::new(11);
    let splits = [Split::Two, Split::TwoTwos, Split::ThreeTwos, Split::FourTwos, Split::Four, Split::OneFour];
    for (i, split) in splits.into_iter().cycle().take(150).enumerate() {
        let (m, n, k) = (1 + random.below(MAX_ROWS), 1 + random.below(70), 1 + random.below(300));
        let group = [8, 16, 32, 64][random.below(4)];
        let mut w = Weights::new(&mut random, split, (n, k, group), i % 3 > 0);
        w.odd = i % 4 > 1;
        let (x, bias) = (random.floats(m * k), random.floats(n));
        let (whole, groups) = (k.next_multiple_of(BLOCK), k.div_ceil(group));
        let (mut codes, mut scales, mut sums) =
            (vec![7; m * whole], vec![0.0; m * groups], vec![0; m * groups]);
        round(
            loops::select(Isa::detect()),
            Rows::new(&x, m, k, k),
            group,
            &mut codes,
            &mut scales,
            &mut sums,
        );
        let rounded = Rounded { codes: Rows::new(&codes, m, whole, whole), scales: &scales, sums: &sums };
        let epilogue = Epilogue { bias: Some(&bias), act: Activation::Relu, ..Epilogue::default() };
        let panels = w.panels(false);
        let run = |v: &Variant| {
            let mut out = vec![f32::NAN; m * n];
            v.run(MatMut::new(&mut out, m, n, n), rounded, &panels, &epilogue);
            out
        };
        let want = run(&scalar::VARIANT);
        for v in report(VARIANTS, |v| (v.name, v.isa)) {
            assert_same_bits(&run(v), &want, &format!("{} {m} x {n} x {k} by {group}, {split:?}", v.name));
        }
    }
}

#[test]
fn rows_are_rounded_to_half_a_step() {
    let mut random = Random::new(12);
    for (k, group) in [(32, 32), (100, 16), (7, 8), (576, 32)] {
        let mut x = random.floats(2 * k);
        x[..group.min(k)].fill(0.0);
        let (whole, groups) = (k.next_multiple_of(BLOCK), k.div_ceil(group));
        let all: Vec<_> = loops::supported()
            .map(|v| {
                let (mut codes, mut scales, mut sums) =
                    (vec![7; 2 * whole], vec![9.0; 2 * groups], vec![9; 2 * groups]);
                round(v, Rows::new(&x, 2, k, k), group, &mut codes, &mut scales, &mut sums);
                (codes, scales, sums)
            })
            .collect();
        assert!(all.iter().all(|got| got == &all[0]));
        let (codes, scales, sums) = &all[0];
        for r in 0..2 {
            for g in 0..groups {
                let (ks, scale) = (g * group..k.min((g + 1) * group), scales[g * 2 + r]);
                let mut sum = 0;
                for c in ks {
                    let code = codes[r * whole + c];
                    sum += i32::from(code);
                    let far = (f32::from(code) * scale - x[r * k + c]).abs();
                    assert!(far <= scale * 0.5001, "{far} {scale}");
                }
                assert_eq!(sum, sums[g * 2 + r]);
            }
            assert!(codes[r * whole + k..(r + 1) * whole].iter().all(|code| *code == 0));
        }
    }
}
