//! Keys and values as they are kept.

use super::super::loops::Variant;
use half::f16;
use half::slice::{HalfBitsSliceExt, HalfFloatSliceExt};
use std::ops::Range;

/// Columns of a panel.
pub const PANEL: usize = 16;

/// Elements that are kept, to be read.
#[derive(Clone, Copy, Debug)]
#[allow(missing_docs)] // named after their type
pub enum Kept<'a> {
    F32(&'a [f32]),
    /// IEEE binary16, as bits.
    F16(&'a [u16]),
}

/// Elements that are kept, to be written.
#[derive(Debug)]
#[allow(missing_docs)] // named after their type
pub enum KeptMut<'a> {
    F32(&'a mut [f32]),
    /// IEEE binary16, as bits.
    F16(&'a mut [u16]),
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

/// Some of a head's elements as floats.
///
/// # Panics
/// When the range leaves the head, or `out` is of another length.
pub fn read(kept: Kept<'_>, range: Range<usize>, out: &mut [f32]) {
    match kept {
        Kept::F32(kept) => out.copy_from_slice(&kept[range]),
        Kept::F16(kept) => kept[range].reinterpret_cast::<f16>().convert_to_f32_slice(out),
    }
}
