//! Every variant against the scalar one, and that against what the module says.

use super::*;
use crate::cpu::gemm_f32::tests::{Random, assert_same_bits, report};

fn every() -> impl Iterator<Item = &'static Variant> {
    let here = report(VARIANTS, |v| (v.name, v.isa)).into_iter();
    here.filter(|v| v.supported()).chain([&scalar::VARIANT])
}

#[test]
fn bits_are_spread_in_order() {
    let mut random = Random::new(1);
    for cols in [0, 1, 2, 7, 16, 33, 200, 700] {
        for density in [0, 5, 50, 100] {
            let mask = |random: &mut Random| {
                (0..16).fold(0u16, |mask, _| mask << 1 | u16::from(random.below(100) < density)).to_le_bytes()
            };
            let masks: Vec<[u8; 2]> = (0..cols).map(|_| mask(&mut random)).collect();
            let spare = random.below(20);
            let values = random.floats(count(&masks) + spare);
            let mut scales = [0.0; PANEL];
            scales.copy_from_slice(&random.floats(PANEL));
            let mut want = vec![0.0; cols * PANEL];
            let mut next = 0;
            for (i, want) in want.iter_mut().enumerate() {
                if u16::from_le_bytes(masks[i / PANEL]) >> (i % PANEL) & 1 == 1 {
                    *want = scales[i % PANEL] * values[next];
                    next += 1;
                }
            }
            for v in every() {
                let mut got = vec![7.0; cols * PANEL];
                v.bits(&masks, &values, &scales, &mut got);
                assert_same_bits(&got, &want, v.name);
            }
            let mut first = vec![9; cols.next_multiple_of(BLOCK) * PANEL];
            scalar::VARIANT.bits_codes(&masks, &values, &mut first);
            for (i, want) in want.iter().enumerate() {
                let (code, scale) = (first[place(i / PANEL, i % PANEL)], scales[i % PANEL]);
                assert!((f32::from(code) * scale / TOP - want).abs() <= 0.501 * scale.abs() / TOP);
            }
            for v in every() {
                let mut codes = vec![9; first.len()];
                v.bits_codes(&masks, &values, &mut codes);
                assert_eq!(codes, first, "{}, {cols} columns, {density} %", v.name);
            }
        }
    }
}

#[test]
fn codes_of_values_are_rounded_to_even_and_bounded() {
    let values = [0.5 / 127.0, 1.5 / 127.0, -2.5 / 127.0, 1.0, -1.0, 3.0, f32::NEG_INFINITY, f32::NAN, -0.0];
    let masks = [[255, 255]];
    let mut all = [0.25; 16];
    all[..9].copy_from_slice(&values);
    for v in every() {
        let mut codes = [1; 128];
        v.bits_codes(&masks, &all, &mut codes);
        let got: Vec<i8> = (0..9).map(|lane| codes[lane * BLOCK]).collect();
        assert_eq!(got, [0, 2, -2, 127, -127, 127, -127, 0, 0], "{}", v.name);
    }
}

#[test]
fn few_are_spread_and_any_positions_are_safe() {
    let mut random = Random::new(2);
    for of in 2..=MAX_OF {
        for cols in [1, of, 5 * of + 1, 64, 100, 8 * of, 17 * of + 3] {
            let keep = 1 + random.below(of - 1);
            let groups = cols.div_ceil(of);
            let units: Vec<u8> =
                (0..groups * keep * 2 * position_bits(of)).map(|_| random.next() as u8).collect();
            let (few, values) = (Few { units: &units, keep, of }, random.floats(groups * keep * PANEL));
            let mut want = vec![0.0; cols * PANEL];
            for lane in 0..PANEL {
                for group in 0..groups {
                    let mut before = None;
                    for slot in 0..keep {
                        let bit = |b: usize| {
                            let at = ((group * keep + slot) * PANEL + lane) * position_bits(of) + b;
                            usize::from(units[at / 8] >> (at % 8) & 1) << b
                        };
                        let place: usize = (0..position_bits(of)).map(bit).sum();
                        let ascends = before.is_none_or(|before| before < place);
                        if ascends && place < of && group * of + place < cols {
                            want[(group * of + place) * PANEL + lane] =
                                values[(group * keep + slot) * PANEL + lane];
                        }
                        before = before.max(Some(place));
                    }
                }
            }
            for v in every() {
                let mut got = vec![7.0; cols * PANEL];
                v.few(&few, &values, &mut got);
                assert_same_bits(&got, &want, &format!("{} {keep} of {of}, {cols} columns", v.name));
            }
            let columns = (groups * keep).next_multiple_of(BLOCK);
            let codes = random.codes(columns * PANEL);
            let floats: Vec<f32> =
                (0..groups * keep * PANEL).map(|i| f32::from(codes[place(i / PANEL, i % PANEL)])).collect();
            let mut want = vec![0.0; cols * PANEL];
            scalar::VARIANT.few(&few, &floats, &mut want);
            for v in every() {
                let mut got = vec![9; cols.next_multiple_of(BLOCK) * PANEL];
                v.few_codes(&few, &codes, cols, &mut got);
                for (i, code) in got.iter().enumerate() {
                    let (col, lane) = (i / (BLOCK * PANEL) * BLOCK + i % BLOCK, i / BLOCK % PANEL);
                    let want = want.get(col * PANEL + lane).copied().unwrap_or(0.0);
                    assert_eq!(f32::from(*code), want, "{} {keep} of {of}: {col}, {lane}", v.name);
                }
            }
        }
    }
}
