//! Keys and values as they are kept.

use super::super::loops::{LANES, Variant, fold_lanes, join_lanes};
use super::super::math;
use half::f16;
use half::slice::{HalfBitsSliceExt, HalfFloatSliceExt};
use std::ops::Range;

/// Columns of a panel.
pub const PANEL: usize = 16;
/// Largest code.
const TOP: f32 = 127.0;

/// Elements that are kept, to be read.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)] // named after their type
pub enum Kept<'a> {
    F32(&'a [f32]),
    /// IEEE binary16, as bits.
    F16(&'a [u16]),
    /// Codes, and a scale a token: `max |x| / 127`.
    I8 {
        codes: &'a [i8],
        scales: &'a [f32],
    },
}

/// Elements that are kept, to be written.
#[derive(Debug)]
#[allow(missing_docs)] // named after their type
pub enum KeptMut<'a> {
    F32(&'a mut [f32]),
    /// IEEE binary16, as bits.
    F16(&'a mut [u16]),
    /// Codes, and a scale a token.
    I8 {
        codes: &'a mut [i8],
        scales: &'a mut [f32],
    },
}

/// Writes the key of a token, `x`, to its head's keys, `[tokens / 16][depth][16]`.
///
/// # Panics
/// When the head has no such token, or `x` not its depth.
pub fn write_key(v: Variant, head: KeptMut<'_>, depth: usize, token: usize, x: &[f32]) {
    assert_eq!(x.len(), depth, "elements of a key");
    let (from, column) = (token / PANEL * depth * PANEL, token % PANEL);
    match head {
        KeptMut::F32(head) => {
            let panel = head[from..from + depth * PANEL].as_chunks_mut::<PANEL>().0;
            panel.iter_mut().zip(x).for_each(|(row, x)| row[column] = *x);
        }
        KeptMut::F16(head) => {
            let panel = head[from..from + depth * PANEL].as_chunks_mut::<PANEL>().0;
            for (rows, x) in panel.chunks_mut(PANEL).zip(x.chunks(PANEL)) {
                let halves = halves(v, x);
                rows.iter_mut().zip(halves).for_each(|(row, x)| row[column] = x);
            }
        }
        KeptMut::I8 { codes, scales } => {
            let panel = codes[from..from + depth * PANEL].as_chunks_mut::<PANEL>().0;
            let by = scale(v, x, &mut scales[token]);
            panel.iter_mut().zip(x).for_each(|(row, x)| row[column] = code(*x, by));
        }
    }
}

/// Writes the value of a token, `x`, to its head's values, `[depth / 16][tokens][16]`. Elements from `x.len()` on are 0.
///
/// # Panics
/// When the head has no such token or less depth.
pub fn write_value(v: Variant, head: KeptMut<'_>, tokens: usize, token: usize, x: &[f32]) {
    assert!(token < tokens, "token {token} of {tokens}");
    match head {
        KeptMut::F32(head) => {
            for (p, x) in x.chunks(PANEL).enumerate() {
                let row = &mut head[(p * tokens + token) * PANEL..][..PANEL];
                row[..x.len()].copy_from_slice(x);
                row[x.len()..].fill(0.0);
            }
        }
        KeptMut::F16(head) => {
            for (p, x) in x.chunks(PANEL).enumerate() {
                head[(p * tokens + token) * PANEL..][..PANEL].copy_from_slice(&halves(v, x));
            }
        }
        KeptMut::I8 { codes, scales } => {
            let by = scale(v, x, &mut scales[token]);
            for (p, x) in x.chunks(PANEL).enumerate() {
                let row = &mut codes[(p * tokens + token) * PANEL..][..PANEL];
                row.iter_mut().zip(x).for_each(|(to, x)| *to = code(*x, by));
                row[x.len()..].fill(0);
            }
        }
    }
}

/// Up to 16 elements as f16, saturated; the rest 0.
#[inline(always)]
fn halves(v: Variant, x: &[f32]) -> [u16; PANEL] {
    let mut within = [0f32; PANEL];
    v.run(
        #[inline(always)]
        || {
            let most = f16::MAX.to_f32_const();
            within.iter_mut().zip(x).for_each(|(to, x)| *to = x.clamp(-most, most));
        },
    );
    let mut halves = [0u16; PANEL];
    halves.reinterpret_cast_mut::<f16>().convert_from_f32_slice(&within);
    halves
}

/// The scale of a token's codes, and what its elements are multiplied by to become codes.
fn scale(v: Variant, x: &[f32], scale: &mut f32) -> f32 {
    let most = v.run(
        #[inline(always)]
        || {
            let mut lanes = [0.0; LANES];
            fold_lanes(
                &mut lanes,
                x,
                #[inline(always)]
                |most, x: f32| math::max(most, x.abs()),
            );
            join_lanes(lanes, math::max)
        },
    );
    *scale = most / TOP;
    if most > 0.0 { TOP / most } else { 0.0 }
}

/// The nearest code, ties to even: the integer is in the low bits.
#[inline(always)]
fn code(x: f32, by: f32) -> i8 {
    // Not fused: this is compiled for CPUs that have no instruction for it.
    (x * by + math::ROUND).to_bits() as u8 as i8
}

/// The keys of some whole panels of tokens as floats, `[tokens / 16][depth][16]`.
///
/// # Panics
/// When the head has no such tokens, they are no whole panels, or `out` is of another length.
pub fn read_keys(v: Variant, head: Kept<'_>, depth: usize, tokens: Range<usize>, out: &mut [f32]) {
    assert!(tokens.start.is_multiple_of(PANEL) && tokens.end.is_multiple_of(PANEL), "{tokens:?}");
    let range = tokens.start * depth..tokens.end * depth;
    if let Kept::I8 { codes, scales } = head {
        let (codes, scales) = (&codes[range], &scales[tokens]);
        assert_eq!(codes.len(), out.len(), "operand and result differ in length");
        return v.run(
            #[inline(always)]
            || {
                let each = depth * PANEL;
                let panels = codes.chunks_exact(each).zip(out.chunks_exact_mut(each));
                for ((codes, out), scales) in panels.zip(scales.as_chunks::<PANEL>().0) {
                    let rows = codes.as_chunks::<PANEL>().0.iter().zip(out.as_chunks_mut::<PANEL>().0);
                    for (codes, out) in rows {
                        for i in 0..PANEL {
                            out[i] = f32::from(codes[i]) * scales[i];
                        }
                    }
                }
            },
        );
    }
    read(v, head, range, out);
}

/// A panel of the values of some tokens as floats, `[tokens][16]`, of a head that has room for `room` tokens.
///
/// # Panics
/// When the head has no such tokens or panel, or `out` is of another length.
pub fn read_values(
    v: Variant,
    head: Kept<'_>,
    room: usize,
    panel: usize,
    tokens: Range<usize>,
    out: &mut [f32],
) {
    let range = (panel * room + tokens.start) * PANEL..(panel * room + tokens.end) * PANEL;
    if let Kept::I8 { codes, scales } = head {
        let (codes, scales) = (&codes[range], &scales[tokens]);
        assert_eq!(codes.len(), out.len(), "operand and result differ in length");
        return v.run(
            #[inline(always)]
            || {
                let rows = codes.as_chunks::<PANEL>().0.iter().zip(out.as_chunks_mut::<PANEL>().0);
                for ((codes, out), scale) in rows.zip(scales) {
                    for i in 0..PANEL {
                        out[i] = f32::from(codes[i]) * *scale;
                    }
                }
            },
        );
    }
    read(v, head, range, out);
}

fn read(v: Variant, kept: Kept<'_>, range: Range<usize>, out: &mut [f32]) {
    match kept {
        Kept::F32(kept) => out.copy_from_slice(&kept[range]),
        // SAFETY: `wide` says that the CPU has AVX-512.
        #[cfg(target_arch = "x86_64")]
        Kept::F16(kept) if v.wide() => unsafe { widen(&kept[range], out) },
        Kept::F16(kept) => {
            kept[range].reinterpret_cast::<f16>().convert_to_f32_slice(out);
        }
        Kept::I8 { .. } => unreachable!("codes are read with their scales"),
    }
}

/// f16 as f32: the same numbers as one by one.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn widen(from: &[u16], to: &mut [f32]) {
    use std::arch::x86_64::{_mm256_loadu_si256, _mm512_cvtph_ps, _mm512_storeu_ps};
    assert_eq!(from.len(), to.len(), "operand and result differ in length");
    let (from, rest) = from.as_chunks::<PANEL>();
    let (to, last) = to.as_chunks_mut::<PANEL>();
    for (from, to) in from.iter().zip(to) {
        // SAFETY: 16 elements each.
        unsafe {
            _mm512_storeu_ps(to.as_mut_ptr(), _mm512_cvtph_ps(_mm256_loadu_si256(from.as_ptr().cast())))
        };
    }
    rest.reinterpret_cast::<f16>().convert_to_f32_slice(last);
}
