use super::*;
use crate::cpu::elementwise::InOut;
use crate::cpu::loops::{Variant, supported};

fn floats(n: usize, seed: u32) -> Vec<f32> {
    let mut state = seed;
    (0..n)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / 4_194_304.0 - 1.7
        })
        .collect()
}

/// Runs `f` on every variant, apart and in place; the results must be the same bits.
fn all_ways(x: &[f32], f: impl Fn(Variant, InOut<'_, f32>)) -> Vec<f32> {
    let mut first: Option<Vec<f32>> = None;
    for v in supported() {
        let mut y = vec![9.0; x.len()];
        f(v, InOut::Apart(x, &mut y));
        let mut in_place = x.to_vec();
        f(v, InOut::InPlace(&mut in_place));
        assert_eq!(y, in_place);
        assert_eq!(first.get_or_insert(y.clone()), &y);
    }
    first.unwrap()
}

fn near(got: &[f32], want: &[f64]) {
    assert_eq!(got.len(), want.len());
    for (i, (got, want)) in got.iter().zip(want).enumerate() {
        assert!((f64::from(*got) - want).abs() <= 2e-5 * want.abs().max(1.0), "at {i}: {got}, want {want}");
    }
}

/// Mean and `1 / sqrt(var + epsilon)` of the elements at `at`.
fn moments(x: &[f32], at: &[usize], epsilon: f64) -> (f64, f64) {
    let n = at.len() as f64;
    let mean = at.iter().map(|i| f64::from(x[*i])).sum::<f64>() / n;
    let var = at.iter().map(|i| (f64::from(x[*i]) - mean).powi(2)).sum::<f64>() / n;
    (mean, 1.0 / (var + epsilon).sqrt())
}

#[test]
fn layer_and_rms_norm_agree_with_f64() {
    for n in [1, 5, 16, 37, 300] {
        let x = floats(3 * n, 3);
        let (gamma, beta) = (floats(n, 4), floats(n, 5));
        for (g, b) in [(true, true), (true, false), (false, true), (false, false)] {
            let affine = Affine { gamma: g.then_some(&gamma[..]), beta: b.then_some(&beta[..]) };
            let scale = |i: usize| if g { f64::from(gamma[i]) } else { 1.0 };
            let shift = |i: usize| if b { f64::from(beta[i]) } else { 0.0 };
            let layer = all_ways(&x, |v, io| layer_norm(v, n, 1e-3, affine, io));
            let rms = all_ways(&x, |v, io| rms_norm(v, n, 1e-3, affine, io));
            let (mut want_layer, mut want_rms) = (vec![], vec![]);
            for r in 0..3 {
                let row: Vec<usize> = (r * n..(r + 1) * n).collect();
                let (mean, inv) = moments(&x, &row, 1e-3);
                let square = row.iter().map(|i| f64::from(x[*i]).powi(2)).sum::<f64>() / n as f64;
                for i in 0..n {
                    let x = f64::from(x[r * n + i]);
                    want_layer.push((x - mean) * inv * scale(i) + shift(i));
                    want_rms.push(x / (square + 1e-3).sqrt() * scale(i) + shift(i));
                }
            }
            near(&layer, &want_layer);
            near(&rms, &want_rms);
        }
    }
    layer_norm(supported().next().unwrap(), 4, 1e-5, Affine::default(), InOut::InPlace(&mut []));
}

#[test]
fn group_and_instance_norm_agree_with_f64() {
    for (positions, channels, groups) in
        [(1, 6, 2), (9, 8, 8), (5, 70, 7), (4, 200, 2), (3, 130, 1), (7, 48, 3)]
    {
        let x = floats(2 * positions * channels, 11);
        let (gamma, beta) = (floats(channels, 12), floats(channels, 13));
        let shape = GroupNorm { batch: 2, positions, channels, groups, epsilon: 1e-3 };
        let affine = Affine { gamma: Some(&gamma), beta: Some(&beta) };
        let got = all_ways(&x, |v, io| group_norm(v, shape, affine, io));
        let width = channels / groups;
        let want: Vec<f64> = (0..x.len())
            .map(|i| {
                let (image, c) = (i / (positions * channels), i % channels);
                let start = image * positions * channels + c / width * width;
                let set: Vec<usize> =
                    (0..positions).flat_map(|p| (0..width).map(move |k| start + p * channels + k)).collect();
                let (mean, inv) = moments(&x, &set, 1e-3);
                (f64::from(x[i]) - mean) * inv * f64::from(gamma[c]) + f64::from(beta[c])
            })
            .collect();
        near(&got, &want);
    }
}

#[test]
fn lp_normalize_divides_by_the_length() {
    for dims in [[3, 20, 1], [2, 5, 70], [1, 1, 1], [0, 2, 2]] {
        let [_, n, inner] = dims;
        let x = floats(dims.iter().product(), 21);
        for p in [LpNorm::L1, LpNorm::L2] {
            let got = all_ways(&x, |v, io| lp_normalize(v, p, dims, 1e-12, io));
            let want: Vec<f64> = (0..x.len())
                .map(|i| {
                    let start = i / (n * inner) * n * inner + i % inner;
                    let set = (0..n).map(|k| f64::from(x[start + k * inner]));
                    let length = match p {
                        LpNorm::L1 => set.map(f64::abs).sum::<f64>(),
                        LpNorm::L2 => set.map(|x| x * x).sum::<f64>().sqrt(),
                    };
                    f64::from(x[i]) / length
                })
                .collect();
            near(&got, &want);
        }
    }
    let zeros = all_ways(&[0.0; 4], |v, io| lp_normalize(v, LpNorm::L2, [1, 4, 1], 1e-12, io));
    assert_eq!(zeros, [0.0; 4]);
}

#[test]
fn lrn_sums_squares_over_the_window() {
    let params = Lrn { size: 5, alpha: 0.2, beta: 0.75, bias: 1.5 };
    for (size, channels) in [(5, 12), (2, 7), (1, 3), (9, 4)] {
        let params = Lrn { size, ..params };
        let x = floats(3 * channels, 31);
        let want: Vec<f64> = (0..x.len())
            .map(|i| {
                let (row, c) = (i / channels * channels, (i % channels) as isize);
                let (before, after) = ((size as isize - 1) / 2, size as isize / 2);
                let window = (c - before).max(0)..(c + after + 1).min(channels as isize);
                let sum: f64 = window.map(|k| f64::from(x[row + k as usize]).powi(2)).sum();
                f64::from(x[i]) / (1.5 + 0.2 / size as f64 * sum).powf(0.75)
            })
            .collect();
        let all: Vec<Vec<f32>> = supported()
            .map(|v| {
                let mut y = vec![9.0; x.len()];
                lrn(v, params, channels, &x, &mut y);
                y
            })
            .collect();
        assert!(all.iter().all(|y| y == &all[0]));
        near(&all[0], &want);
    }
}
