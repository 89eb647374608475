//! Rotary positions (Su et al., RoFormer, 2021): pairs of elements of a head turned by angles that grow with the token's position.
//!
//! ```text
//! angle[t][i] = (first + t) * frequency[i]
//! table[t]    = cos(angle[t][0]), .., cos(angle[t][pairs - 1]), sin(angle[t][0]), .., sin(angle[t][pairs - 1])
//! y[i]         = x[i] * cos[i] - x[i + pairs] * sin[i]
//! y[i + pairs] = x[i + pairs] * cos[i] + x[i] * sin[i]         elements from 2 * pairs on stay as they are
//! ```
//! Angles are reduced to one turn in f64, so that a far position costs no accuracy.

use super::elementwise::InOut;
use super::loops::Variant;
use super::math;
use std::f64::consts::TAU;

/// Writes the table of the positions from `first` on, a row of `2 * frequencies.len()` for each: `[tokens, 2 * pairs]`. Errors of at most
/// 2.5e-7 for positions below 2^31 and frequencies of at most 1.
///
/// # Panics
/// When `out` is not whole rows.
pub fn table(v: Variant, first: u64, frequencies: &[f32], out: &mut [f32]) {
    let pairs = frequencies.len();
    if pairs == 0 {
        return;
    }
    assert!(out.len().is_multiple_of(2 * pairs), "{} elements in rows of {pairs} pairs", out.len());
    v.run(
        #[inline(always)]
        || {
            for (t, row) in out.chunks_exact_mut(2 * pairs).enumerate() {
                let position = (first + t as u64) as f64;
                let (cos, sin) = row.split_at_mut(pairs);
                for ((cos, sin), frequency) in cos.iter_mut().zip(sin).zip(frequencies) {
                    let angle = position * f64::from(*frequency);
                    let angle = (angle - (angle / TAU).round_ties_even() * TAU) as f32;
                    (*cos, *sin) = (math::cos(angle), math::sin(angle));
                }
            }
        },
    );
}

/// Turns each head of `[tokens, heads, depth]` by its token's row of the table, `[tokens, width]`; `width` is at most `depth`.
///
/// # Panics
/// When a length does not fit another one, or the width is odd or beyond the depth.
pub fn turn(v: Variant, table: &[f32], [heads, depth, width]: [usize; 3], io: InOut<'_, f32>) {
    let y = io.into_copy();
    assert!(width <= depth && width.is_multiple_of(2), "{width} of {depth} elements turned");
    if y.is_empty() || width == 0 {
        return;
    }
    assert_eq!(y.len() * width, table.len() * heads * depth, "heads of {depth} and rows of the table");
    v.run(
        #[inline(always)]
        || {
            for (y, row) in y.chunks_exact_mut(heads * depth).zip(table.chunks_exact(width)) {
                let (cos, sin) = row.split_at(width / 2);
                for head in y.chunks_exact_mut(depth) {
                    let (a, b) = head[..width].split_at_mut(width / 2);
                    for (((a, b), cos), sin) in a.iter_mut().zip(b).zip(cos).zip(sin) {
                        (*a, *b) = (*a * *cos - *b * *sin, *b * *cos + *a * *sin);
                    }
                }
            }
        },
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cpu::loops::supported;

    #[test]
    fn tables_agree_with_f64() {
        for (base, pairs, first) in
            [(10_000f64, 32, 0u64), (1e6, 128, 31_000), (10_000.0, 3, 1 << 30), (1.0, 1, 7)]
        {
            let frequencies: Vec<f32> =
                (0..pairs).map(|i| base.powf(-2.0 * i as f64 / (2 * pairs) as f64) as f32).collect();
            let run = |v| {
                let mut out = vec![9.0; 5 * 2 * pairs];
                table(v, first, &frequencies, &mut out);
                out
            };
            let all: Vec<Vec<f32>> = supported().map(run).collect();
            assert!(all.iter().all(|out| out == &all[0]), "{base} {pairs} {first}");
            for (t, row) in all[0].chunks_exact(2 * pairs).enumerate() {
                for (i, frequency) in frequencies.iter().enumerate() {
                    let angle = (first + t as u64) as f64 * f64::from(*frequency);
                    let far = [f64::from(row[i]) - angle.cos(), f64::from(row[i + pairs]) - angle.sin()];
                    assert!(far.iter().all(|d| d.abs() <= 2.5e-7), "{base} {first} + {t}, {i}: {far:?}");
                }
            }
        }
    }

    #[test]
    fn heads_are_turned_and_the_rest_is_left() {
        for [tokens, heads, depth, width] in
            [[3, 2, 8, 8], [2, 3, 10, 6], [1, 1, 64, 64], [4, 1, 5, 0], [0, 2, 4, 2]]
        {
            let x: Vec<f32> =
                (0..tokens * heads * depth).map(|i| (i * 37 % 101) as f32 / 7.0 - 5.0).collect();
            let rows: Vec<f32> = (0..tokens * width).map(|i| (i * 13 % 29) as f32 / 29.0).collect();
            let run = |v| {
                let mut y = vec![9.0; x.len()];
                turn(v, &rows, [heads, depth, width], InOut::Apart(&x, &mut y));
                let mut over = x.clone();
                turn(v, &rows, [heads, depth, width], InOut::InPlace(&mut over));
                assert_eq!(y, over);
                y
            };
            let all: Vec<Vec<f32>> = supported().map(run).collect();
            assert!(all.iter().all(|y| y == &all[0]));
            for (i, y) in all[0].iter().enumerate() {
                let (head, at) = (i / depth, i % depth);
                let row = &rows[head / heads * width..][..width];
                let pairs = width / 2;
                let want = match at {
                    at if at < pairs => x[i] * row[at] - x[i + pairs] * row[at + pairs],
                    at if at < width => x[i] * row[at - pairs] + x[i - pairs] * row[at],
                    _ => x[i],
                };
                assert_eq!(*y, want, "element {at} of head {head}");
            }
        }
    }
}
