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
fn what_is_kept_is_read_in_panels() {
    for (depth, room, to) in [(16usize, 32usize, 32usize), (40, 48, 32), (5, 16, 16)] {
        let columns = depth.next_multiple_of(PANEL);
        let rows: Vec<Vec<f32>> = (0..to).map(|t| numbers(depth, t)).collect();
        for v in supported() {
            let [mut keys32, mut values32] = [(); 2].map(|()| vec![7f32; room * columns]);
            let [mut keys16, mut values16] = [(); 2].map(|()| vec![7u16; room * columns]);
            let [mut keys8, mut values8] = [(); 2].map(|()| (vec![7i8; room * columns], vec![7f32; room]));
            for (t, row) in rows.iter().enumerate() {
                write_key(v, KeptMut::F32(&mut keys32), depth, t, row);
                write_key(v, KeptMut::F16(&mut keys16), depth, t, row);
                write_key(v, KeptMut::I8 { codes: &mut keys8.0, scales: &mut keys8.1 }, depth, t, row);
                write_value(v, KeptMut::F32(&mut values32), room, t, row);
                write_value(v, KeptMut::F16(&mut values16), room, t, row);
                write_value(v, KeptMut::I8 { codes: &mut values8.0, scales: &mut values8.1 }, room, t, row);
            }
            let kept = [
                (Kept::F32(&keys32), Kept::F32(&values32), 0.0),
                (Kept::F16(&keys16), Kept::F16(&values16), 1.0 / 2048.0),
                (
                    Kept::I8 { codes: &keys8.0, scales: &keys8.1 },
                    Kept::I8 { codes: &values8.0, scales: &values8.1 },
                    0.5 / 127.0,
                ),
            ];
            for (keys, values, part) in kept {
                let mut panels = vec![9.0; to * depth];
                read_keys(v, keys, depth, 0..to, &mut panels);
                for (t, row) in rows.iter().enumerate() {
                    let most = row.iter().fold(0f32, |most, x| most.max(x.abs()));
                    for (c, x) in row.iter().enumerate() {
                        let got = panels[(t / PANEL * depth + c) * PANEL + t % PANEL];
                        assert!((got - x).abs() <= most * part * 1.001, "{got} {x}");
                    }
                    for p in 0..columns / PANEL {
                        let mut value = [9.0; PANEL];
                        read_values(v, values, room, p, t..t + 1, &mut value);
                        for (i, got) in value.iter().enumerate() {
                            let x = row.get(p * PANEL + i).copied().unwrap_or(0.0);
                            assert!((got - x).abs() <= most * part * 1.001, "{got} {x}");
                        }
                    }
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

#[test]
fn all_halves_are_widened_alike() {
    let all: Vec<u16> = (0..=u16::MAX).collect();
    for v in supported() {
        let mut floats = vec![0.0f32; all.len()];
        read_values(v, Kept::F16(&all), all.len(), 0, 0..all.len() / PANEL, &mut floats);
        for (bits, got) in all.iter().zip(&floats) {
            let want = f16::from_bits(*bits).to_f32();
            assert!(want.to_bits() == got.to_bits() || want.is_nan() && got.is_nan(), "{bits:#x}");
        }
    }
}
