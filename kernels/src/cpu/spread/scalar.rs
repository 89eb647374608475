//! The definition.

use super::{Few, Isa, PANEL, TOP, Variant, place, position_bits};

pub(super) const VARIANT: Variant =
    Variant { name: "spread__scalar", isa: Isa::Scalar, extra: || true, bits, few, bits_codes, few_codes };

/// Calls `f(value, column, row)` for each set bit.
#[inline(always)]
pub(super) fn each_bit(masks: &[[u8; 2]], mut f: impl FnMut(usize, usize, usize)) {
    let mut value = 0;
    for (col, mask) in masks.iter().enumerate() {
        let mut mask = u16::from_le_bytes(*mask);
        while mask != 0 {
            f(value, col, mask.trailing_zeros() as usize);
            mask &= mask - 1;
            value += 1;
        }
    }
}

/// Calls `f(column of values, column, row)` for each position that stands for something.
#[inline(always)]
pub(super) fn each_of_few(few: &Few<'_>, cols: usize, mut f: impl FnMut(usize, usize, usize)) {
    let (bits, places) = (position_bits(few.of), (1 << position_bits(few.of)) - 1);
    for group in 0..cols.div_ceil(few.of) {
        let first = group * few.of;
        let own = few.of.min(cols - first);
        let mut least = [0; PANEL];
        for value in group * few.keep..(group + 1) * few.keep {
            let unit = few.unit(value);
            for (lane, least) in least.iter_mut().enumerate() {
                let place = (unit >> (lane * bits)) as usize & places;
                if place >= *least && place < own {
                    f(value, first + place, lane);
                }
                *least = (*least).max(place + 1);
            }
        }
    }
}

fn bits(masks: &[[u8; 2]], values: &[f32], scales: &[f32; PANEL], out: &mut [f32]) {
    out.fill(0.0);
    each_bit(masks, |value, col, lane| out[col * PANEL + lane] = scales[lane] * values[value]);
}

fn few(few: &Few<'_>, values: &[f32], out: &mut [f32]) {
    out.fill(0.0);
    let cols = out.len() / PANEL;
    each_of_few(few, cols, |value, col, lane| out[col * PANEL + lane] = values[value * PANEL + lane]);
}

fn few_codes(few: &Few<'_>, codes: &[i8], cols: usize, out: &mut [i8]) {
    out.fill(0);
    each_of_few(few, cols, |value, col, lane| out[place(col, lane)] = codes[place(value, lane)]);
}

fn bits_codes(masks: &[[u8; 2]], values: &[f32], out: &mut [i8]) {
    out.fill(0);
    each_bit(masks, |value, col, lane| out[place(col, lane)] = code(values[value]));
}

/// The code of a part of a row's scale.
#[inline(always)]
fn code(value: f32) -> i8 {
    // In bounds, rounding is adding what leaves no bits for a fraction.
    const WHOLE: f32 = 12_582_912.0; // 1.5 * 2^23
    let scaled = value * TOP;
    let bounded = if scaled > -TOP { scaled } else { -TOP };
    let bounded = if bounded < TOP { bounded } else { TOP };
    let code = (bounded + WHOLE).to_bits() as i8;
    if scaled.is_nan() { 0 } else { code }
}
