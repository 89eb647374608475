use super::*;
use crate::cpu::isa::Isa;
use crate::cpu::loops::{select, supported};
use half::f16;

fn numbers(count: usize, seed: usize) -> Vec<f32> {
    (0..count).map(|i| ((i * 7919 + seed * 104_729) % 1009) as f32 / 101.0 - 5.0).collect()
}

/// Blocks of any size, taken one after the other, give softmax over all of them.
#[test]
fn blocks_give_softmax_of_the_whole() {
    for (blocks, cap) in
        [(&[1usize][..], None), (&[16, 16, 5], None), (&[7, 0, 40, 1], Some(3.0)), (&[100], Some(50.0))]
    {
        let all = numbers(blocks.iter().sum(), 3);
        let values = numbers(all.len(), 5);
        let run = |v| {
            let (mut running, mut sum, mut at) = (Running::EMPTY, [0.0f32], 0);
            for size in blocks {
                let mut scores = all[at..at + size].to_vec();
                let factor = fold(v, cap, &mut scores, &mut running);
                rescale(v, &mut sum, factor);
                sum[0] += scores.iter().zip(&values[at..]).map(|(s, v)| s * v).sum::<f32>();
                at += size;
            }
            let mut out = [0.0];
            finish(v, &sum, running, &mut out);
            out[0]
        };
        let all_variants: Vec<f32> = supported().map(run).collect();
        assert!(all_variants.iter().all(|y| *y == all_variants[0]));
        let scores = all.iter().map(|s| match cap {
            Some(cap) => f64::from(cap) * (f64::from(*s) / f64::from(cap)).tanh(),
            None => f64::from(*s),
        });
        let terms: Vec<f64> = scores.map(f64::exp).collect();
        let want = terms.iter().zip(&values).map(|(t, v)| t * f64::from(*v)).sum::<f64>()
            / terms.iter().sum::<f64>();
        assert!((f64::from(all_variants[0]) - want).abs() <= 5e-6, "{} {want}", all_variants[0]);
    }
}

#[test]
fn no_score_gives_zeros() {
    for v in supported() {
        let mut running = Running::EMPTY;
        let factor = fold(v, None, &mut [f32::NEG_INFINITY; 3], &mut running);
        let mut out = [7.0; 2];
        finish(v, &[0.0; 2], running, &mut out);
        assert!(factor.is_finite() && out == [0.0; 2]);
    }
}

#[test]
fn what_is_kept_lies_in_panels() {
    let v = select(Isa::detect());
    for (depth, tokens) in [(16, 32), (40, 48), (5, 16)] {
        let (columns, deep) = (depth.next_multiple_of(PANEL), depth);
        let rows: Vec<Vec<f32>> = (0..tokens).map(|t| numbers(depth, t)).collect();
        let (mut keys, mut values) = (vec![0u16; tokens * deep], vec![9u16; tokens * columns]);
        let (mut keys32, mut values32) = (vec![0f32; tokens * deep], vec![9f32; tokens * columns]);
        for (t, row) in rows.iter().enumerate() {
            write_key(v, KeptMut::F16(&mut keys), depth, t, row);
            write_value(v, KeptMut::F16(&mut values), tokens, t, row);
            write_key(v, KeptMut::F32(&mut keys32), depth, t, row);
            write_value(v, KeptMut::F32(&mut values32), tokens, t, row);
        }
        let mut floats = vec![0.0; keys.len()];
        read(Kept::F16(&keys), 0..floats.len(), &mut floats);
        let mut of_values = vec![0.0; values.len()];
        read(Kept::F16(&values), 0..of_values.len(), &mut of_values);
        for t in 0..tokens {
            for c in 0..columns {
                let want = rows[t].get(c).copied();
                let half = want.map(|x| f16::from_f32(x).to_f32());
                let value = (c / PANEL * tokens + t) * PANEL + c % PANEL;
                assert_eq!(of_values[value], half.unwrap_or(0.0));
                assert_eq!(values32[value], want.unwrap_or(0.0));
                if let (Some(half), Some(x)) = (half, want) {
                    let key = (t / PANEL * depth + c) * PANEL + t % PANEL;
                    assert_eq!((floats[key], keys32[key]), (half, x));
                }
            }
        }
    }
}

#[test]
fn halves_saturate() {
    let v = select(Isa::detect());
    let mut keys = vec![0u16; 16 * 3];
    write_key(v, KeptMut::F16(&mut keys), 3, 2, &[1e6, f32::NEG_INFINITY, f32::NAN]);
    let at = |i: usize| f16::from_bits(keys[i * 16 + 2]);
    assert_eq!((at(0), at(1)), (f16::MAX, f16::MIN));
    assert!(at(2).is_nan());
}
