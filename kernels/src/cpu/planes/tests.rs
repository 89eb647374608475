//! Every variant against the scalar definition, and the definition against codes joined one by one.

use super::{BLOCK, Numbers, PANEL, Plane, UNIT, VARIANTS, join, scalar, total_bits};

/// Splits in use and odd ones.
const SPLITS: &[&[u32]] = &[
    &[1],
    &[2],
    &[4],
    &[8],
    &[2, 2],
    &[1, 1, 1],
    &[2, 1],
    &[4, 4],
    &[2, 2, 4],
    &[1, 2, 4, 1],
    &[8, 8],
    &[2, 2, 4, 8],
    &[2, 2, 2],
    &[2, 2, 2, 2],
    &[2, 2, 2, 2, 4],
    &[2, 2, 2, 2, 4, 4],
    &[4, 8, 4],
    &[8, 1],
    &[1, 8, 2, 4, 1],
    &[1; 16],
];

/// Bytes of a fixed seed.
fn noise(len: usize, mut seed: u64) -> Vec<u8> {
    let step = |_| {
        seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (seed >> 56) as u8
    };
    (0..len).map(step).collect()
}

/// Random planes of `units` units of `codes` codes; bytes start at odd addresses.
fn random(split: &[u32], units: usize, codes: usize) -> Vec<Vec<u8>> {
    let len = |bits: u32| 1 + units * codes * bits as usize / 8;
    split.iter().enumerate().map(|(i, &bits)| noise(len(bits), 77 + i as u64)).collect()
}

fn views<'a>(split: &[u32], bytes: &'a [Vec<u8>]) -> Vec<Plane<'a>> {
    split.iter().zip(bytes).map(|(&bits, bytes)| Plane { bits, bytes: &bytes[1..] }).collect()
}

#[test]
fn scalar_join_reads_the_bits_of_the_layout() {
    for unit_codes in [16, 32, 128] {
        for split in SPLITS {
            let bytes = random(split, 3, unit_codes);
            let planes = views(split, &bytes);
            let mut codes = vec![0; unit_codes];
            for unit in 0..3 {
                join(&planes, unit, &mut codes);
                for (at, &code) in codes.iter().enumerate() {
                    let mut want = 0u32;
                    for plane in &planes {
                        let (w, len) = (plane.bits as usize, unit_codes * plane.bits as usize / 8);
                        let byte = u32::from(plane.bytes[unit * len + at % len]);
                        want = (want << w) | ((byte >> (at / len * w)) & ((1 << w) - 1));
                    }
                    assert_eq!(u32::from(code), want, "{split:?}, unit {unit}, code {at}");
                }
            }
        }
    }
}

#[test]
fn variants_agree_with_scalar() {
    for variant in VARIANTS.iter().filter(|variant| variant.isa.supported()) {
        for split in SPLITS {
            let shapes: [(usize, usize); 9] =
                [(1, 1), (7, 7), (8, 8), (9, 8), (40, 16), (67, 32), (64, 64), (90, 90), (24, 800)];
            for (k, group) in shapes {
                let (units, groups) = (k.div_ceil(BLOCK), k.div_ceil(group));
                let bytes = random(split, units, UNIT);
                let planes = views(split, &bytes);
                let scales: Vec<f32> =
                    noise(groups * PANEL, 5).iter().map(|&b| f32::from(b) * 1.7e-3).collect();
                let zeros: Vec<f32> = noise(groups * PANEL, 6).iter().map(|&b| f32::from(b) * 0.5).collect();
                for numbers in [Numbers::Odd, Numbers::Even(None), Numbers::Even(Some(&zeros))] {
                    let (mut got, mut want) = (vec![0.0; k * PANEL], vec![1.0; k * PANEL]);
                    variant.join_f32(&planes, &scales, numbers, group, &mut got);
                    scalar::VARIANT.join_f32(&planes, &scales, numbers, group, &mut want);
                    assert_eq!(got, want, "{} {split:?} k = {k}, group {group}", variant.name);
                }
                if total_bits(&planes) > 8 {
                    continue;
                }
                let (mut got, mut want) = (vec![0; units * UNIT], vec![1; units * UNIT]);
                variant.join_i8(&planes, &mut got);
                scalar::VARIANT.join_i8(&planes, &mut want);
                assert_eq!(got, want, "{} {split:?} k = {k}", variant.name);
                for half_offset in [false, true] {
                    let (mut sums, mut right) = (vec![0; groups * PANEL], vec![1; groups * PANEL]);
                    variant.group_sums(&got, k, group, half_offset, &mut sums);
                    scalar::VARIANT.group_sums(&got, k, group, half_offset, &mut right);
                    assert_eq!(sums, right, "{} k = {k}, group {group}", variant.name);
                }
            }
        }
    }
}

#[test]
fn sums_count_valid_k_only() {
    // Two channels: q = 3 and q = -2 over k = 9 in groups of 8; padding is 0.
    let mut codes = vec![0; 2 * UNIT];
    for k in 0..9 {
        codes[k / BLOCK * UNIT + k % BLOCK] = 3;
        codes[k / BLOCK * UNIT + BLOCK + k % BLOCK] = -2;
    }
    for variant in VARIANTS.iter().filter(|variant| variant.isa.supported()) {
        let mut sums = [0; 2 * PANEL];
        variant.group_sums(&codes, 9, 8, true, &mut sums);
        assert_eq!((sums[0], sums[1], sums[PANEL], sums[PANEL + 1]), (56, -24, 7, -3), "{}", variant.name);
        variant.group_sums(&codes, 9, 8, false, &mut sums);
        assert_eq!((sums[0], sums[1], sums[PANEL], sums[PANEL + 1]), (24, -16, 3, -2), "{}", variant.name);
    }
}

#[test]
#[should_panic(expected = "bytes for 2 units")]
fn a_short_plane_is_refused() {
    VARIANTS[0].join_i8(&[Plane { bits: 4, bytes: &[0; 127] }], &mut [0; 2 * UNIT]);
}

#[test]
fn columns_of_codes_are_widened_channel_by_channel() {
    let codes: Vec<i8> = (0..3 * UNIT).map(|i| (i * 57 % 256) as u8 as i8).collect();
    for (k, channels, half_offset) in
        [(24, 16, true), (17, 16, false), (9, 5, true), (1, 1, true), (0, 3, false)]
    {
        let mut out = vec![77; k * PANEL];
        super::widen(&codes, channels, half_offset, &mut out);
        for (i, code) in out.iter().enumerate() {
            let (c, lane) = (i / PANEL, i % PANEL);
            let q = i16::from(codes[c / BLOCK * UNIT + lane * BLOCK + c % BLOCK]);
            let want = if half_offset { 2 * q + 1 } else { q };
            assert_eq!(*code, if lane < channels { want } else { 0 }, "k {c} channel {lane}");
        }
    }
}

#[test]
fn single_columns_are_joined_as_any_unit() {
    for bits in SPLITS {
        let total: u32 = bits.iter().sum();
        for k in [0, 1, 8, 9, 16, 25, 49] {
            let bytes: Vec<Vec<u8>> = bits
                .iter()
                .map(|w| (0..k * 2 * *w as usize).map(|i| (i * 77 + 13 * *w as usize) as u8).collect())
                .collect();
            let planes: Vec<Plane> =
                bits.iter().zip(&bytes).map(|(bits, bytes)| Plane { bits: *bits, bytes }).collect();
            let scales: Vec<f32> = (0..k.div_ceil(8) * PANEL).map(|i| 0.37 + i as f32).collect();
            let mut codes = [0; PANEL];
            for variant in VARIANTS.iter().filter(|variant| variant.isa.supported()) {
                let (mut reals, mut odd) = (vec![f32::NAN; k * PANEL], vec![77; k * PANEL]);
                let mut even = reals.clone();
                variant.join_columns_f32(&planes, &scales, Numbers::Odd, 8, &mut reals);
                variant.join_columns_f32(&planes, &scales, Numbers::Even(Some(&scales)), 8, &mut even);
                if total <= 14 {
                    variant.join_columns_i16(&planes, 11, false, &mut odd);
                    let half: Vec<i16> = odd.iter().map(|q| 2 * q + 1).collect();
                    variant.join_columns_i16(&planes, 11, true, &mut odd);
                    let kept = |(i, (half, odd)): (usize, (&i16, &i16))| i % PANEL >= 11 || half == odd;
                    assert!(half.iter().zip(&odd).enumerate().all(kept), "{} {bits:?}", variant.name);
                }
                for c in 0..k {
                    join(&planes, c, &mut codes);
                    for (lane, code) in codes.iter().enumerate() {
                        let place = format!("{} {bits:?} column {c} lane {lane}", variant.name);
                        let want = 2 * i32::from(*code) + 1 - (1 << total);
                        let at = c * PANEL + lane;
                        let scale = scales[c / 8 * PANEL + lane];
                        assert_eq!(reals[at], want as f32 * scale, "{place}");
                        let least = scale.mul_add(-2.0, -((1 << total) as f32));
                        assert_eq!(even[at], (f32::from(*code) * 2.0 + least) * scale, "{place}");
                        let want = if lane < 11 { want as i16 } else { 0 };
                        assert!(total > 14 || odd[at] == want, "{place}: {}, want {want}", odd[at]);
                    }
                }
            }
        }
    }
}

#[test]
fn rounding_agrees_with_the_formula_and_keeps_to_127() {
    for variant in VARIANTS.iter().filter(|variant| variant.isa.supported()) {
        for (bits, half_offset) in (1..=8).flat_map(|bits| [(bits, true), (bits, false)]) {
            let half = 1i32 << (bits - 1);
            let code = |i: i32| ((i * 57 + i / 8) % (2 * half) - half) as i8;
            // Three groups of two units and one of one; a channel of zeros, one with an infinity, one with a NaN.
            let codes: Vec<i8> = (0..7 * UNIT as i32).map(code).collect();
            let mut scales = [[0.0f32; PANEL]; 4];
            for (i, scale) in scales.as_flattened_mut().iter_mut().enumerate() {
                *scale = match i % PANEL {
                    0 => 0.0,
                    1 if i > 2 * PANEL => f32::INFINITY,
                    2 if i > PANEL => f32::NAN,
                    _ => ((i * 37 % 101) as f32 - 50.0) * 1e-3,
                };
            }
            let mut largest = [0.0; PANEL];
            super::raise_to(&mut largest, &scales[..1]);
            super::raise_to(&mut largest, &scales[1..]);
            let mut got = codes.clone();
            variant.round_codes(&mut got, 16, (bits, half_offset), &scales, &largest);
            let top = super::largest_number(bits, half_offset) as f32 * (1 << (8 - bits)) as f32;
            for (i, (got, code)) in got.iter().zip(&codes).enumerate() {
                let (scale, lane) = (scales[i / (2 * UNIT)], i / BLOCK % PANEL);
                let factor = scale[lane] / largest[lane] * (127.0 * 32768.0 / top);
                let factor = if factor.is_nan() { 0.0 } else { f64::from(factor.round_ties_even()) };
                let q = f64::from(*code);
                let number = if half_offset { 2.0 * q + 1.0 } else { q };
                let want = (number * f64::from(1 << (8 - bits)) * factor / 32768.0 + 0.5).floor();
                assert_eq!(f64::from(*got), want, "{} {bits} bits, code {i}: {code}", variant.name);
                assert!(*got > -128, "{} {bits} bits, code {i}", variant.name);
            }
        }
    }
}
