//! The definition.

use super::{Few, Isa, PANEL, Variant, position_bits};

pub(super) const VARIANT: Variant = Variant { name: "spread_f32__scalar", isa: Isa::Scalar, bits, few };

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
                *least = place + 1;
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
