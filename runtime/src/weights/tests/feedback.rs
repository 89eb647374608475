//! Codes that make up for one another.

use super::Pack;
use crate::random::uniform;
use crate::weights::planes::{EncodedPlanes, Feedback, Layout, Spec, encode, encode_by};
use half::f16;

const N: usize = 20;
const K: usize = 40;
const M: usize = 200;

fn noise(key: u64, i: usize) -> f64 {
    f64::from(2.0 * uniform(key, i as u64) - 1.0)
}

/// Rows whose columns go together, `[M][K]`.
fn rows() -> Vec<f64> {
    let inner: Vec<f64> = (0..M * 6).map(|i| noise(1, i)).collect();
    let spread: Vec<f64> = (0..6 * K).map(|i| noise(2, i)).collect();
    let at = |m: usize, c: usize| -> f64 {
        (0..6).map(|d| inner[m * 6 + d] * spread[d * K + c]).sum::<f64>() + 0.2 * noise(3, m * K + c)
    };
    (0..M * K).map(|i| at(i / K, i % K)).collect()
}

/// `U` with `Uᵀ U = H⁻¹`, by the textbook: Gauss-Jordan, then Cholesky.
fn upper(h: &[f64]) -> Vec<f32> {
    let mut a = h.to_vec();
    let mut inverse: Vec<f64> = (0..K * K).map(|i| f64::from(u8::from(i / K == i % K))).collect();
    for c in 0..K {
        let by = a[c * K + c];
        (0..K).for_each(|j| {
            a[c * K + j] /= by;
            inverse[c * K + j] /= by;
        });
        for r in (0..K).filter(|r| *r != c) {
            let by = a[r * K + c];
            (0..K).for_each(|j| {
                a[r * K + j] -= by * a[c * K + j];
                inverse[r * K + j] -= by * inverse[c * K + j];
            });
        }
    }
    let mut lower = vec![0.0; K * K];
    for i in 0..K {
        for j in 0..=i {
            let sum: f64 = (0..j).map(|l| lower[i * K + l] * lower[j * K + l]).sum();
            let left = inverse[i * K + j] - sum;
            lower[i * K + j] = if i == j { left.sqrt() } else { left / lower[j * K + j] };
        }
    }
    // L Lᵀ = H⁻¹, so U = Lᵀ.
    (0..K * K).map(|i| lower[i % K * K + i / K] as f32).collect()
}

fn moments(x: &[f64]) -> Vec<f64> {
    let at = |i: usize, j: usize| (0..M).map(|m| x[m * K + i] * x[m * K + j]).sum::<f64>() / M as f64;
    (0..K * K).map(|i| at(i / K, i % K) + if i / K == i % K { 1e-3 } else { 0.0 }).collect()
}

fn weights() -> Vec<f32> {
    (0..N * K).map(|i| noise(4, i) as f32).collect()
}

fn spec(prefix_weights: Vec<f64>) -> Spec {
    Spec { group: 16, bits: vec![2, 2, 2], layout: Layout::Rows, prefix_weights, ..Spec::default() }
}

/// What the first planes stand for.
fn decode(encoded: &EncodedPlanes, prefix: usize) -> Vec<f32> {
    let mut pack = Pack::default();
    let blobs = encoded.blobs.iter().map(|bytes| pack.blob(bytes.clone())).collect();
    let tensor = pack.tensor(N, K, encoded.expr(blobs));
    pack.bind(tensor, prefix as u32 + 1).unwrap().materialize()
}

/// Squared error of the results of each prefix.
fn errors(encoded: &EncodedPlanes, w: &[f32], x: &[f64]) -> Vec<f64> {
    let error = |prefix: usize| {
        let decoded = decode(encoded, prefix);
        let result = |m: usize, r: usize| -> f64 {
            (0..K).map(|c| x[m * K + c] * f64::from(w[r * K + c] - decoded[r * K + c])).sum()
        };
        (0..M * N).map(|i| result(i / N, i % N).powi(2)).sum()
    };
    (0..encoded.spec.bits.len()).map(error).collect()
}

#[test]
fn results_are_nearer_at_every_prefix_and_weights_say_at_which_most() {
    let (x, w) = (rows(), weights());
    let feedback = Feedback::new(K, upper(&moments(&x))).unwrap();
    let plain = errors(&encode(&w, N, K, &spec(vec![]), &[]).unwrap(), &w, &x);
    let by = |weights: &[f64]| {
        errors(&encode_by(&w, N, K, &spec(weights.to_vec()), &[], Some(&feedback)).unwrap(), &w, &x)
    };
    let alike = by(&[]);
    let coarse = by(&[16.0, 0.0, 0.0]);
    let middle = by(&[0.0, 256.0, 0.0]);
    let fine = by(&[0.0, 0.0, 4096.0]);
    let all = format!("{plain:?}, {alike:?}; {coarse:?}, {middle:?}, {fine:?}");
    assert!(alike[0] < plain[0] && alike[1] < 0.7 * plain[1] && alike[2] < 0.3 * plain[2], "{all}");
    // Each alone is better where it counts, and pays for it elsewhere.
    assert!(coarse[0] < 0.7 * alike[0] && coarse[2] > alike[2], "{all}");
    assert!(middle[1] < 0.7 * alike[1] && middle[2] > alike[2], "{all}");
    assert!(fine[2] < alike[2] && fine[0] > coarse[0], "{all}");
}

#[test]
fn one_prefix_alone_is_rounded_as_the_paper_says() {
    let (x, w) = (rows(), weights());
    let u = upper(&moments(&x));
    let feedback = Feedback::new(K, u.clone()).unwrap();
    let spec = Spec { bits: vec![4], ..spec(vec![]) };
    let plain = encode(&w, N, K, &spec, &[]).unwrap();
    let fed = encode_by(&w, N, K, &spec, &[], Some(&feedback)).unwrap();
    // By the formula, row by row, with the scales and the gain of plain rounding.
    let step = |r: usize, c: usize| {
        let at = 2 * (r * K.div_ceil(16) + c / 16);
        f16::from_le_bytes([plain.blobs[0][at], plain.blobs[0][at + 1]]).to_f32() * plain.gains[0] / 16.0
    };
    let got = decode(&fed, 0);
    for r in 0..N {
        let mut t: Vec<f32> = w[r * K..(r + 1) * K].to_vec();
        for j in 0..K {
            let step = step(r, j);
            let level = ((t[j] / step - 1.0) / 2.0).round().clamp(-8.0, 7.0) * 2.0 + 1.0;
            let value = level * step;
            let ours = got[r * K + j] / fed.gains[0] * plain.gains[0];
            assert!((ours - value).abs() <= 1e-5, "row {r}, column {j}: {ours}, {value}");
            let error = (t[j] - value) / u[j * K + j];
            (j + 1..K).for_each(|c| t[c] -= error * u[j * K + c]);
        }
    }
}

#[test]
fn triangles_that_are_none_are_refused_and_groups_of_zeros_stay() {
    assert!(Feedback::new(2, vec![1.0, 0.0, 0.0]).is_none());
    assert!(Feedback::new(2, vec![1.0, 0.5, 0.0, 0.0]).is_none());
    assert!(Feedback::new(2, vec![1.0, f32::NAN, 0.0, 1.0]).is_none());
    let feedback = Feedback::new(K, upper(&moments(&rows()))).unwrap();
    let mut w = weights();
    w[..K].fill(0.0);
    let encoded = encode_by(&w, N, K, &spec(vec![]), &[], Some(&feedback)).unwrap();
    assert!(decode(&encoded, 2)[..K].iter().all(|value| *value == 0.0));
    assert!(encoded.squared_error.iter().all(|error| error.is_finite()));
}
