//! `dense` and `planes`.

use super::super::Float;
use super::*;
use crate::weights::planes::Layout;

const SHAPES: [(usize, usize); 9] =
    [(1, 1), (3, 7), (16, 8), (17, 9), (15, 33), (40, 64), (33, 72), (5, 100), (64, 200)];

#[test]
fn dense_keeps_its_elements() {
    for (n, k) in SHAPES {
        for dtype in [Float::F32, Float::F16, Float::Bf16] {
            for layout in [dense::Layout::Panel, dense::Layout::Rows] {
                let w = gaussian(n * k, 3);
                let mut pack = Pack::default();
                let encoded = dense::encode(&w, n, k, dtype, layout).unwrap();
                let blob = pack.blob(encoded.blob.clone());
                let tensor = pack.tensor(n, k, encoded.expr(blob));
                let want: Vec<f32> = w.iter().map(|&value| dtype.round(value)).collect();
                assert_eq!(pack.checked(tensor, 1), want, "{dtype:?} {layout:?}");
                let borrows = dtype == Float::F32 && layout == dense::Layout::Panel;
                let weights = pack.bind(tensor, 0).unwrap();
                // A `Vec<u8>` may start anywhere: borrowing is for those that happen to be aligned.
                assert!(borrows || weights.borrow_f32(0..1).is_none());
            }
        }
    }
}

#[test]
fn dense_refuses_what_the_type_cannot_hold() {
    let error = dense::encode(&[1.0, 7e4], 1, 2, Float::F16, dense::Layout::Rows).unwrap_err();
    assert_eq!((error.index, error.value), (1, 7e4));
    assert!(dense::encode(&[f32::INFINITY], 1, 1, Float::F16, dense::Layout::Rows).is_ok());
}

#[test]
fn planes_read_alike_in_every_way() {
    let splits: [&[u32]; 7] =
        [&[2, 2, 2, 2, 4, 4], &[2, 2, 4, 8], &[1], &[4, 4], &[8], &[1, 2, 4, 1], &[4, 8, 4]];
    for (n, k) in SHAPES {
        let w = gaussian(n * k, 11);
        for (layout, group, bits) in [
            (planes::Layout::Panel, 32, splits[0]),
            (planes::Layout::Panel, 0, splits[4]),
            (planes::Layout::Panel, 8, splits[1]),
            (planes::Layout::Panel, 128, splits[5]),
            (planes::Layout::Panel, 16, splits[2]),
            (planes::Layout::Panel1, 0, splits[0]),
            (planes::Layout::Panel1, 8, splits[3]),
            (planes::Layout::Rows, 32, splits[0]),
            (planes::Layout::Rows, 0, splits[2]),
        ] {
            for scale in [Float::F16, Float::F32] {
                let spec = planes::Spec { group, bits: bits.to_vec(), layout, scale, ..Default::default() };
                let encoded = planes::encode(&w, n, k, &spec, &[]).unwrap();
                let mut pack = Pack::default();
                let blobs = encoded.blobs.iter().map(|bytes| pack.blob(bytes.clone())).collect();
                let tensor = pack.tensor(n, k, encoded.expr(blobs));
                for take in 1..=bits.len() {
                    let got = pack.checked(tensor, take as u32);
                    let error: f64 = w.iter().zip(&got).map(|(a, b)| f64::from(a - b).powi(2)).sum();
                    let said = encoded.squared_error[take - 1];
                    assert!((error - said).abs() <= 1e-6 * said + 1e-12, "{spec:?}: {error}, said {said}");
                }
                assert_eq!(pack.checked(tensor, 0), pack.checked(tensor, bits.len() as u32));
            }
        }
    }
}

/// The specification's formula on bytes written by hand: one row of 8 columns, planes of 2 and 4 bits.
#[test]
fn planes_decode_as_specified() {
    let mut pack = Pack::default();
    let mut scales = vec![0; 32];
    // 3.0 as f16.
    scales[..2].copy_from_slice(&0x4200u16.to_le_bytes());
    // Codes 0..8 of the unit are channel 0. Two bits: bytes 0..8, bits 0 and 1. Four bits: bytes 0..8, low nibbles.
    let (mut two, mut four) = (vec![0; 32], vec![0; 64]);
    two[..8].copy_from_slice(&[0, 1, 2, 3, 3, 2, 1, 0]);
    four[..8].copy_from_slice(&[0, 15, 8, 15, 0, 1, 2, 3]);
    let blobs = vec![pack.blob(scales), pack.blob(two), pack.blob(four)];
    let mut expr = node("planes", json!({"group": 8, "bits": [2, 4], "gains": [0.5, 1.0]}), Vec::new());
    expr.blobs = blobs;
    let tensor = pack.tensor(1, 8, expr);
    let coarse = [0, 1, 2, 3, 3, 2, 1, 0].map(|p| (2 * p + 1 - 4) as f32 * (3.0 * 0.5 / 4.0));
    assert_eq!(pack.checked(tensor, 1), coarse);
    let fine = [0, 31, 40, 63, 48, 33, 18, 3].map(|p| (2 * p + 1 - 64) as f32 * (3.0 / 64.0));
    assert_eq!(pack.checked(tensor, 2), fine);
}

/// Only the first prefix counts.
const FIRST: [f64; 6] = [1.0, 0.0, 0.0, 0.0, 0.0, 0.0];

/// SQNR in dB of each prefix.
fn sqnr(w: &[f32], n: usize, k: usize, spec: &planes::Spec) -> Vec<f64> {
    let signal: f64 = w.iter().map(|&value| f64::from(value).powi(2)).sum();
    let encoded = planes::encode(w, n, k, spec, &[]).unwrap();
    encoded.squared_error.iter().map(|error| 10.0 * (signal / error).log10()).collect()
}

#[test]
fn gaussian_weights_keep_the_quality_of_the_format() {
    let (n, k) = (64, 512);
    let w = gaussian(n * k, 1);
    // Measured when the format was chosen, group 32, scales the largest magnitudes, no gains.
    let (bits, chosen) = ([2, 4, 6, 8, 16], [9.0, 21.0, 33.1, 45.1, 93.3]);
    let prefixes = |spec| {
        let all = sqnr(&w, n, k, spec);
        [all[0], all[1], all[2], all[3], all[5]]
    };
    let f32_scales = planes::Spec { scale: Float::F32, ..Default::default() };
    for (bits, (got, want)) in bits.iter().zip(prefixes(&f32_scales).iter().zip(chosen)) {
        assert!(*got > want - 0.3 && *got < want + 1.5, "{bits} bits: {got:.2} dB, chosen for {want}");
    }
    // f16 scales above the magnitude cost the finest prefix a little, the others nothing to speak of.
    for (bits, (got, want)) in bits.iter().zip(prefixes(&planes::Spec::default()).iter().zip(chosen)) {
        assert!(*got > want - 0.4 && *got < want + 1.5, "f16, {bits} bits: {got:.2} dB, chosen for {want}");
    }
    // A scale made for 2 bits alone clips the largest values.
    let first = planes::Spec { prefix_weights: FIRST.to_vec(), ..Default::default() };
    let got = sqnr(&w, n, k, &first);
    assert!(got[0] > 9.6, "2 bits alone: {:.2} dB", got[0]);
    assert!(got[5] < 60.0, "clipped at 16 bits: {:.2} dB", got[5]);
}

#[test]
fn importance_moves_the_error_to_columns_that_matter_less() {
    let (n, k) = (32, 64);
    let w = gaussian(n * k, 2);
    let spec = planes::Spec { prefix_weights: FIRST.to_vec(), ..Default::default() };
    let importance: Vec<f32> = (0..k).map(|c| if c % 4 == 0 { 100.0 } else { 1.0 }).collect();
    let per_element: Vec<f32> = (0..n * k).map(|i| importance[i % k]).collect();
    let weighed = planes::encode(&w, n, k, &spec, &importance).unwrap();
    assert_eq!(weighed, planes::encode(&w, n, k, &spec, &per_element).unwrap());
    // The plain code's error, weighed the same.
    let plain = planes::encode(&w, n, k, &spec, &[]).unwrap();
    let mut pack = Pack::default();
    let blobs = plain.blobs.iter().map(|bytes| pack.blob(bytes.clone())).collect();
    let tensor = pack.tensor(n, k, plain.expr(blobs));
    let values = pack.bind(tensor, 1).unwrap().materialize();
    let error = |i: usize| f64::from(importance[i % k]) * f64::from(w[i] - values[i]).powi(2);
    let plain_error: f64 = (0..n * k).map(error).sum();
    assert!(weighed.squared_error[0] < 0.95 * plain_error, "{} of {plain_error}", weighed.squared_error[0]);
}

#[test]
fn edge_values_encode() {
    let spec = planes::Spec::default();
    // A group of zeros is zero; tiny and huge groups keep their magnitude.
    let mut w = vec![0.0; 96];
    w[40] = 1e-7;
    w[64..96].fill(-65504.0);
    let mut pack = Pack::default();
    let expr = pack.planes(&w, 1, 96, &spec);
    let tensor = pack.tensor(1, 96, expr);
    let values = pack.checked(tensor, 4);
    assert!(values[..32].iter().all(|&value| value == 0.0));
    assert!((values[40] - 1e-7).abs() < 2e-8, "{}", values[40]);
    assert!((values[64] + 65504.0).abs() < 1.1, "{}", values[64]);
    // The largest f32 does not become infinite.
    let f32_scales = planes::Spec { scale: Float::F32, ..spec.clone() };
    let mut pack = Pack::default();
    let expr = pack.planes(&[f32::MAX, -f32::MAX, 1.0, 0.0], 1, 4, &f32_scales);
    let tensor = pack.tensor(1, 4, expr);
    for take in 1..=4 {
        assert!(pack.checked(tensor, take).iter().all(|value| value.is_finite()), "take {take}");
    }

    let error = |w: &[f32], spec: &planes::Spec| planes::encode(w, 1, w.len(), spec, &[]).unwrap_err();
    let nan = error(&[0.0, f32::NAN], &spec);
    assert!(matches!(nan, planes::EncodeError::NotFinite { index: 1, .. }), "{nan}");
    let far = error(&[7e4], &spec);
    assert_eq!(far, planes::EncodeError::ScaleRange { row: 0, group: 0, value: 7e4 });
    for bad in [
        planes::Spec { bits: vec![3], ..spec.clone() },
        planes::Spec { bits: vec![8, 8, 1], ..spec.clone() },
        planes::Spec { bits: Vec::new(), ..spec.clone() },
        planes::Spec { group: 12, ..spec.clone() },
        planes::Spec { scale: Float::Bf16, ..spec.clone() },
        planes::Spec { prefix_weights: vec![1.0], ..spec.clone() },
        planes::Spec { prefix_weights: vec![-1.0; 4], ..spec.clone() },
    ] {
        assert!(matches!(error(&[1.0], &bad), planes::EncodeError::Spec { .. }), "{bad:?}");
    }
}

#[test]
fn integers_of_a_model_are_held_exactly_and_their_prefixes_nearly() {
    for (n, k, layout) in [
        (40, 72, Layout::Panel),
        (16, 27, Layout::Panel),
        (21, 9, Layout::Panel1),
        (5, 40, Layout::Rows),
        (1, 1, Layout::Panel),
        (9, 24, Layout::Tight),
        (24, 9, Layout::Tight),
    ] {
        let forms: [(&[u32], usize, bool, bool); 12] = [
            (&[1, 4], 8, false, false),
            (&[1, 2], 16, false, true),
            (&[2, 2, 2], 16, false, false),
            (&[8], 0, false, false),
            (&[8], 0, false, true),
            (&[2, 2, 2, 2], 0, false, false),
            (&[8], 0, true, false),
            (&[4, 4], 8, false, true),
            (&[2, 2], 0, true, true),
            (&[4], 16, false, true),
            (&[2, 2], 24, false, false),
            (&[2], 0, false, false),
        ];
        for (bits, group, alike, zeros) in forms {
            if layout == Layout::Tight && bits != [8] {
                continue;
            }
            let total: u32 = bits.iter().sum();
            let half = 1i16 << (total - 1);
            let code = |b: u8| ((i16::from(b) & (2 * half - 1)) - half) as i8;
            let codes: Vec<i8> = bytes(n * k, 9).into_iter().map(code).collect();
            let groups = if group == 0 { 1 } else { k.div_ceil(group) };
            let count = if alike { 1 } else { n * groups };
            // Of either sign, and such that f16 holds them.
            let scale = |s: &f32| half::f16::from_f32(s * 0.01 + 1e-3f32.copysign(*s)).to_f32();
            let scales: Vec<f32> = gaussian(count, 4).iter().map(scale).collect();
            let zero_points: Vec<i8> = bytes(count, 8).into_iter().map(code).collect();
            let zeros = if zeros { &zero_points[..] } else { &[] };
            let half_offset = zeros.is_empty() && total == 5;
            let scale = if n == 21 { Float::F16 } else { Float::F32 };
            let integers =
                planes::Integers { codes: &codes, group, scales: &scales, zeros, half_offset, scale };
            let (blobs, params) = planes::encode_integers(&integers, n, k, bits, layout).unwrap();
            let mut pack = Pack::default();
            let blobs = blobs.into_iter().map(|bytes| pack.blob(bytes)).collect();
            let expr = Expr { kind: "planes".into(), params, args: Vec::new(), blobs };
            let tensor = pack.tensor(n, k, expr);
            let at = |i: usize| {
                if alike { 0 } else { i / k * groups + (i % k).checked_div(group).unwrap_or(0) }
            };
            for (take, bits) in (1..=bits.len()).zip(bits.iter().scan(0, |sum, b| {
                *sum += b;
                Some(*sum)
            })) {
                let values = pack.checked(tensor, take as u32);
                for (i, value) in values.iter().enumerate() {
                    let zero = i32::from(zeros.get(at(i)).copied().unwrap_or(0));
                    let between = if half_offset { 0.5 } else { 0.0 };
                    let want = ((i32::from(codes[i]) - zero) as f32 + between) * scales[at(i)];
                    let step = scales[at(i)].abs() * f32::from(1u8 << (total - bits)) * 0.5001;
                    let bound = if bits == total { 0.0 } else { step };
                    assert!(
                        (value - want).abs() <= bound,
                        "[{n}, {k}] {bits} of {total} bits, {i}: {value}, {want}"
                    );
                }
            }
        }
    }
}
