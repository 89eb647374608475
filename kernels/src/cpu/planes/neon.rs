//! NEON: a unit of 128 codes is 8 vectors of bytes.
//!
//! ```text
//! for each unit:
//!     for each plane:    a vector of its bytes, shifted and masked, is 16 consecutive codes' bits;
//!                        codes = codes << w | bits         (bytes; above 8 bits a low and a high byte)
//!     i8:                codes - 2^(b-1)
//!     f32:               [16][8] bytes transposed to [8][16], widened, f32(p) * 2 + (1 - 2^b), times scale
//! ```
//! Four planes of 2 bits and what they start with, and those of 8 bits, have loops compiled for them.

use std::arch::aarch64::{
    uint8x16_t, uint16x8_t, vaddq_s16, vandq_u8, vcvtq_f32_u32, vdupq_n_f32, vdupq_n_s16, vdupq_n_s32,
    vdupq_n_u8, vfmaq_f32, vget_low_u8, vget_low_u16, vld1_s8, vld1q_f32, vld1q_s8, vld1q_u8, vmovl_high_u8,
    vmovl_high_u16, vmovl_s8, vmovl_u8, vmovl_u16, vmulq_f32, vorrq_u8, vpadalq_s16, vpaddlq_s8, vpaddq_s32,
    vqmovn_s16, vqrdmulhq_n_s16, vreinterpretq_s8_u8, vreinterpretq_u16_u8, vshlq_n_u8, vshlq_s16,
    vshrq_n_u8, vst1_s8, vst1q_f32, vst1q_s8, vst1q_s32, vsubq_u8, vuzp1q_u8, vuzp2q_u8, vzip1q_u8,
    vzip2q_u8,
};

use super::{BLOCK, Isa, PANEL, Plane, Rounding, Scales, UNIT, Variant, columns, total_bits};

pub(super) const VARIANT: Variant = Variant {
    name: "planes__neon",
    isa: Isa::Neon,
    join_i8,
    join_f32,
    sums,
    round,
    columns_i16: columns::columns_i16,
    columns_f32: columns::columns_f32,
};

/// Bytes of a vector.
const VEC: usize = 16;

/// A unit of bytes, 2 channels of 8 k in each vector.
pub(in crate::cpu) type Unit = [uint8x16_t; UNIT / VEC];

/// Joins `[16][8]` units; `planes` has at least as many as `out`.
#[target_feature(enable = "neon")]
fn join_i8(planes: &[Plane<'_>], out: &mut [i8]) {
    let half = vdupq_n_u8((1u32 << (total_bits(planes) - 1)) as u8);
    // The splits in use get a loop of their own: known shifts, codes in registers from plane to plane.
    match *planes {
        [Plane { bits: 8, .. }] => units(out, half, |unit| plane_unit::<8>(&planes[0], unit)),
        [Plane { bits: 2, .. }] => units(out, half, |unit| plane_unit::<2>(&planes[0], unit)),
        [Plane { bits: 2, .. }, Plane { bits: 2, .. }] => units(out, half, |unit| four(planes, unit)),
        [Plane { bits: 2, .. }, Plane { bits: 2, .. }, Plane { bits: 2, .. }] => {
            units(out, half, |unit| append::<2>(four(planes, unit), &planes[2], unit));
        }
        [Plane { bits: 2, .. }, Plane { bits: 2, .. }, Plane { bits: 2, .. }, Plane { bits: 2, .. }] => {
            units(out, half, |unit| eight(planes, unit));
        }
        _ => units(out, half, |unit| narrow(planes, unit)),
    }
}

/// Stores `codes(unit) - half` for every unit.
#[target_feature(enable = "neon")]
#[inline]
fn units(out: &mut [i8], half: uint8x16_t, codes: impl Fn(usize) -> Unit) {
    for (unit, out) in out.as_chunks_mut::<UNIT>().0.iter_mut().enumerate() {
        for (out, code) in out.as_chunks_mut::<VEC>().0.iter_mut().zip(codes(unit)) {
            // SAFETY: 16 of 16 bytes.
            unsafe { vst1q_s8(out.as_mut_ptr(), vreinterpretq_s8_u8(vsubq_u8(code, half))) };
        }
    }
}

/// `out`: `[units][8][16]`; `planes` and `scales` reach as far.
#[target_feature(enable = "neon")]
fn join_f32(planes: &[Plane<'_>], scales: &Scales<'_>, out: &mut [f32]) {
    let none = [vdupq_n_u8(0); UNIT / VEC];
    let bits = total_bits(planes);
    match *planes {
        [Plane { bits: 2, .. }] => {
            reals::<false>(bits, scales, out, |unit| [none, plane_unit::<2>(&planes[0], unit)]);
        }
        [Plane { bits: 2, .. }, Plane { bits: 2, .. }] => {
            reals::<false>(bits, scales, out, |unit| [none, four(planes, unit)]);
        }
        [Plane { bits: 2, .. }, Plane { bits: 2, .. }, Plane { bits: 2, .. }] => {
            let codes = |unit| [none, append::<2>(four(planes, unit), &planes[2], unit)];
            reals::<false>(bits, scales, out, codes);
        }
        [Plane { bits: 2, .. }, Plane { bits: 2, .. }, Plane { bits: 2, .. }, Plane { bits: 2, .. }] => {
            reals::<false>(bits, scales, out, |unit| [none, eight(planes, unit)]);
        }
        _ if bits <= 8 => reals::<false>(bits, scales, out, |unit| [none, narrow(planes, unit)]),
        _ => reals::<true>(bits, scales, out, |unit| wide(planes, unit)),
    }
}

/// The reals of the codes with high and low bytes `codes(unit)`; only low ones unless `WIDE`.
#[target_feature(enable = "neon")]
#[inline]
fn reals<const WIDE: bool>(
    bits: u32,
    scales: &Scales<'_>,
    out: &mut [f32],
    codes: impl Fn(usize) -> [Unit; 2],
) {
    let two = vdupq_n_f32(2.0);
    let mut unit = 0;
    let runs = out.chunks_mut(scales.units.saturating_mul(UNIT)).zip(scales.scales);
    for (group, (run, lanes)) in runs.enumerate() {
        let offsets = scales.offsets(group, bits);
        let (mut scale, mut offset) = ([two; PANEL / 4], [two; PANEL / 4]);
        for (to, from) in [(&mut scale, lanes), (&mut offset, &offsets)] {
            for (to, from) in to.iter_mut().zip(from.as_chunks::<4>().0) {
                // SAFETY: 4 of 4 floats.
                *to = unsafe { vld1q_f32(from.as_ptr()) };
            }
        }
        for out in run.as_chunks_mut::<UNIT>().0 {
            let [high, low] = codes(unit);
            let low = transpose(low);
            let high = if WIDE { transpose(high) } else { high };
            for (k, out) in out.as_chunks_mut::<PANEL>().0.iter_mut().enumerate() {
                let words = widened::<WIDE>(high[k], low[k]);
                let p = [
                    vmovl_u16(vget_low_u16(words[0])),
                    vmovl_high_u16(words[0]),
                    vmovl_u16(vget_low_u16(words[1])),
                    vmovl_high_u16(words[1]),
                ];
                for (j, out) in out.as_chunks_mut::<4>().0.iter_mut().enumerate() {
                    // Exact: every term is an integer below 2^18.
                    let number = vfmaq_f32(offset[j], vcvtq_f32_u32(p[j]), two);
                    // SAFETY: 4 of 4 floats.
                    unsafe { vst1q_f32(out.as_mut_ptr(), vmulq_f32(number, scale[j])) };
                }
            }
            unit += 1;
        }
    }
}

/// Sixteen codes as u16.
#[target_feature(enable = "neon")]
#[inline]
fn widened<const WIDE: bool>(high: uint8x16_t, low: uint8x16_t) -> [uint16x8_t; 2] {
    if WIDE {
        [vzip1q_u8(low, high), vzip2q_u8(low, high)].map(|words| vreinterpretq_u16_u8(words))
    } else {
        [vmovl_u8(vget_low_u8(low)), vmovl_high_u8(low)]
    }
}

/// Codes of planes of 2 and 2 bits.
#[target_feature(enable = "neon")]
#[inline]
pub(in crate::cpu) fn four(planes: &[Plane<'_>], unit: usize) -> Unit {
    append::<2>(plane_unit::<2>(&planes[0], unit), &planes[1], unit)
}

/// Codes of four planes of 2 bits.
#[target_feature(enable = "neon")]
#[inline]
pub(in crate::cpu) fn eight(planes: &[Plane<'_>], unit: usize) -> Unit {
    append::<2>(append::<2>(four(planes, unit), &planes[2], unit), &planes[3], unit)
}

/// `codes << W | bits of the plane`, in bytes: no bit leaves its byte when codes have at most `8 - W`.
#[target_feature(enable = "neon")]
#[inline]
pub(in crate::cpu) fn append<const W: u32>(mut codes: Unit, plane: &Plane<'_>, unit: usize) -> Unit {
    for (code, bits) in codes.iter_mut().zip(plane_unit::<W>(plane, unit)) {
        *code = vorrq_u8(up::<W>(*code), bits);
    }
    codes
}

/// `codes << W`.
#[target_feature(enable = "neon")]
#[inline]
fn up<const W: u32>(codes: uint8x16_t) -> uint8x16_t {
    match W {
        1 => vshlq_n_u8::<1>(codes),
        2 => vshlq_n_u8::<2>(codes),
        4 => vshlq_n_u8::<4>(codes),
        _ => vdupq_n_u8(0),
    }
}

/// Codes of at most 8 bits, any planes.
#[target_feature(enable = "neon")]
fn narrow(planes: &[Plane<'_>], unit: usize) -> Unit {
    let mut codes = [vdupq_n_u8(0); UNIT / VEC];
    for plane in planes {
        codes = match plane.bits {
            1 => append::<1>(codes, plane, unit),
            2 => append::<2>(codes, plane, unit),
            4 => append::<4>(codes, plane, unit),
            _ => append::<8>(codes, plane, unit),
        };
    }
    codes
}

/// High and low bytes of codes of at most 16 bits, any planes.
#[target_feature(enable = "neon")]
fn wide(planes: &[Plane<'_>], unit: usize) -> [Unit; 2] {
    let mut codes = [[vdupq_n_u8(0); UNIT / VEC]; 2];
    for plane in planes {
        let [mut high, low] = codes;
        for (high, low) in high.iter_mut().zip(low) {
            // What leaves the low byte on top enters the high one.
            *high = match plane.bits {
                1 => vorrq_u8(up::<1>(*high), vshrq_n_u8::<7>(low)),
                2 => vorrq_u8(up::<2>(*high), vshrq_n_u8::<6>(low)),
                4 => vorrq_u8(up::<4>(*high), vshrq_n_u8::<4>(low)),
                _ => low,
            };
        }
        let low = match plane.bits {
            1 => append::<1>(low, plane, unit),
            2 => append::<2>(low, plane, unit),
            4 => append::<4>(low, plane, unit),
            _ => append::<8>(low, plane, unit),
        };
        codes = [high, low];
    }
    codes
}

/// The bits of one unit's codes in a plane of `W` bits. The unit must lie inside the plane; one compare checks it.
#[target_feature(enable = "neon")]
#[inline]
pub(in crate::cpu) fn plane_unit<const W: u32>(plane: &Plane<'_>, unit: usize) -> Unit {
    let len = PANEL * W as usize;
    let bytes = &plane.bytes[unit * len..][..len];
    // SAFETY: each load below is of one of W vectors, 16 bytes a bit of the plane.
    let load = |i: usize| unsafe { vld1q_u8(bytes.as_ptr().add(i * VEC)) };
    match W {
        8 => [load(0), load(1), load(2), load(3), load(4), load(5), load(6), load(7)],
        4 => {
            let (mask, v) = (vdupq_n_u8(15), [load(0), load(1), load(2), load(3)]);
            let [a, b, c, d] = v.map(|v| vandq_u8(v, mask));
            let [e, f, g, h] = v.map(|v| vshrq_n_u8::<4>(v));
            [a, b, c, d, e, f, g, h]
        }
        2 => {
            let (mask, a, b) = (vdupq_n_u8(3), load(0), load(1));
            [
                a,
                b,
                vshrq_n_u8::<2>(a),
                vshrq_n_u8::<2>(b),
                vshrq_n_u8::<4>(a),
                vshrq_n_u8::<4>(b),
                vshrq_n_u8::<6>(a),
                vshrq_n_u8::<6>(b),
            ]
            .map(|v| vandq_u8(v, mask))
        }
        _ => {
            let (mask, a) = (vdupq_n_u8(1), load(0));
            [
                a,
                vshrq_n_u8::<1>(a),
                vshrq_n_u8::<2>(a),
                vshrq_n_u8::<3>(a),
                vshrq_n_u8::<4>(a),
                vshrq_n_u8::<5>(a),
                vshrq_n_u8::<6>(a),
                vshrq_n_u8::<7>(a),
            ]
            .map(|v| vandq_u8(v, mask))
        }
    }
}

/// `[16][8]` bytes to `[8][16]`. Taking even and odd bytes of two vectors apart moves the lowest bit of a byte's place to the number
/// of its vector, and the bit that told the two apart to the top of the place; after three times the bits of k are the number.
#[target_feature(enable = "neon")]
#[inline]
fn transpose(v: Unit) -> Unit {
    let v = [
        // Channels 0-3, 4-7, 8-11, 12-15: even k, then odd k.
        [vuzp1q_u8(v[0], v[1]), vuzp2q_u8(v[0], v[1])],
        [vuzp1q_u8(v[2], v[3]), vuzp2q_u8(v[2], v[3])],
        [vuzp1q_u8(v[4], v[5]), vuzp2q_u8(v[4], v[5])],
        [vuzp1q_u8(v[6], v[7]), vuzp2q_u8(v[6], v[7])],
    ];
    // Of 8 channels each, the k that leave a remainder of 0, 1, 2, 3 by 4.
    let mut w = [[v[0][0]; 4]; 2];
    for (w, v) in w.iter_mut().zip(v.as_chunks::<2>().0) {
        for odd in 0..2 {
            w[odd] = vuzp1q_u8(v[0][odd], v[1][odd]);
            w[odd + 2] = vuzp2q_u8(v[0][odd], v[1][odd]);
        }
    }
    let mut out = [v[0][0]; UNIT / VEC];
    for k in 0..4 {
        out[k] = vuzp1q_u8(w[0][k], w[1][k]);
        out[k + 4] = vuzp2q_u8(w[0][k], w[1][k]);
    }
    out
}

/// Sums over k of groups of `units` units `[16][8]`; the last group may be shorter.
#[target_feature(enable = "neon")]
fn sums(codes: &[i8], units: usize, out: &mut [[i32; PANEL]]) {
    for (codes, out) in codes.as_chunks::<UNIT>().0.chunks(units).zip(out) {
        // Of each channel two partial sums.
        let mut acc = [vdupq_n_s32(0); UNIT / VEC];
        for unit in codes {
            for (acc, codes) in acc.iter_mut().zip(unit.as_chunks::<VEC>().0) {
                // SAFETY: 16 of 16 bytes.
                *acc = vpadalq_s16(*acc, vpaddlq_s8(unsafe { vld1q_s8(codes.as_ptr()) }));
            }
        }
        for (acc, out) in acc.as_chunks::<2>().0.iter().zip(out.as_chunks_mut::<4>().0) {
            // SAFETY: 4 of 4 integers.
            unsafe { vst1q_s32(out.as_mut_ptr(), vpaddq_s32(acc[0], acc[1])) };
        }
    }
}

/// Rounds whole units: 8 k of a channel are 8 products, kept to 15 bits below the point and rounded by one instruction.
#[target_feature(enable = "neon")]
fn round(codes: &mut [i8], by: &Rounding, scales: &[[f32; PANEL]], largest: &[f32; PANEL]) {
    let (left, plus) = (vdupq_n_s16(by.left as i16), vdupq_n_s16(by.plus));
    for (codes, scales) in codes.chunks_mut(by.units * UNIT).zip(scales) {
        let factors = by.factors(scales, largest);
        for unit in codes.as_chunks_mut::<UNIT>().0 {
            for (codes, factor) in unit.as_chunks_mut::<BLOCK>().0.iter_mut().zip(factors) {
                // SAFETY: 8 of 8 bytes.
                unsafe {
                    let number = vaddq_s16(vshlq_s16(vmovl_s8(vld1_s8(codes.as_ptr())), left), plus);
                    vst1_s8(codes.as_mut_ptr(), vqmovn_s16(vqrdmulhq_n_s16(number, factor)));
                }
            }
        }
    }
}
