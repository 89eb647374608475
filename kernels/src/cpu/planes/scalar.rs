//! The definition.

use super::{BLOCK, Isa, PANEL, Plane, Rounding, Scales, UNIT, Variant, columns, total_bits};

pub(super) const VARIANT: Variant = Variant {
    name: "planes__scalar",
    isa: Isa::Scalar,
    join_i8,
    join_f32,
    sums,
    round,
    columns_i16: columns::columns_i16,
    columns_f32: columns::columns_f32,
};

/// Joins unit `unit` of `codes.len()` codes (any number that is a multiple of 8) to unsigned codes.
///
/// # Panics
/// When a plane ends before the unit does.
pub fn join(planes: &[Plane<'_>], unit: usize, codes: &mut [u16]) {
    codes.fill(0);
    for plane in planes {
        let (w, len) = (plane.bits as usize, codes.len() * plane.bits as usize / 8);
        let bytes = &plane.bytes[unit * len..][..len];
        let mask = (1u16 << w) - 1;
        for (i, codes) in codes.chunks_exact_mut(len).enumerate() {
            for (code, byte) in codes.iter_mut().zip(bytes) {
                *code = (*code << w) | ((u16::from(*byte) >> (i * w)) & mask);
            }
        }
    }
}

fn join_i8(planes: &[Plane<'_>], out: &mut [i8]) {
    let half = 1i32 << (total_bits(planes) - 1);
    let mut codes = [0; UNIT];
    for (unit, out) in out.chunks_exact_mut(UNIT).enumerate() {
        join(planes, unit, &mut codes);
        for (out, code) in out.iter_mut().zip(codes) {
            *out = (i32::from(code) - half) as i8;
        }
    }
}

fn join_f32(planes: &[Plane<'_>], scales: &Scales<'_>, out: &mut [f32]) {
    let bits = total_bits(planes);
    let mut codes = [0; UNIT];
    for (unit, out) in out.chunks_exact_mut(UNIT).enumerate() {
        join(planes, unit, &mut codes);
        let (offsets, scales) =
            (scales.offsets(unit / scales.units, bits), &scales.scales[unit / scales.units]);
        for (i, out) in out.iter_mut().enumerate() {
            let (k, lane) = (i / PANEL, i % PANEL);
            *out = (f32::from(codes[lane * BLOCK + k]) * 2.0 + offsets[lane]) * scales[lane];
        }
    }
}

fn sums(codes: &[i8], units: usize, out: &mut [[i32; PANEL]]) {
    for (codes, sums) in codes.chunks(units * UNIT).zip(out) {
        *sums = [0; PANEL];
        for unit in codes.chunks_exact(UNIT) {
            for (sum, codes) in sums.iter_mut().zip(unit.chunks_exact(BLOCK)) {
                *sum += codes.iter().map(|&q| i32::from(q)).sum::<i32>();
            }
        }
    }
}

fn round(codes: &mut [i8], by: &Rounding, scales: &[[f32; PANEL]], largest: &[f32; PANEL]) {
    for (codes, scales) in codes.chunks_mut(by.units * UNIT).zip(scales) {
        let factors = by.factors(scales, largest);
        for unit in codes.chunks_exact_mut(UNIT) {
            for (codes, factor) in unit.chunks_exact_mut(BLOCK).zip(factors) {
                for code in codes {
                    let number = (i32::from(*code) << by.left) + i32::from(by.plus);
                    // Beyond a code only when a scale passes the largest: as an instruction saturates it.
                    *code = ((number * i32::from(factor) + (1 << 14)) >> 15).clamp(-128, 127) as i8;
                }
            }
        }
    }
}
