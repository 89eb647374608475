//! Sums of columns of i8 codes: exact, so the order in which they are taken is no part of them.
//!
//! ```text
//! 16 columns are a vector of i16, which holds 256 sums of i8; then they are added to the i32
//! few columns in rows without a gap: as many rows side by side as make 64 columns
//! ```

use crate::cpu::isa::Isa;
use crate::cpu::loops::{self, COLUMNS, Variant};

/// Codes that are added up in i16: `256 * -128` is its least value.
const RUN: usize = 256;

/// Most codes of one sum: with more, i32 could overflow.
pub const MAX_CODES: usize = 1 << 24;

/// Adds the first `sums.len()` columns of rows that start every `pitch` codes to `sums`, which wrap beyond [`MAX_CODES`] rows.
///
/// # Panics
/// When a row is longer than `pitch`, or the last one is not whole.
pub fn add_codes(v: Variant, codes: &[i8], pitch: usize, sums: &mut [i32]) {
    let cols = sums.len();
    if cols == 0 || codes.is_empty() {
        return;
    }
    assert!(cols <= pitch, "{cols} columns of rows that start every {pitch} codes");
    let rows = codes.len().div_ceil(pitch);
    assert!(codes.len() >= (rows - 1) * pitch + cols, "{} codes end within a row", codes.len());
    if loops::PLAIN_IS_RARE && v.isa() == Isa::Scalar {
        for row in codes.chunks(pitch) {
            sums.iter_mut().zip(row).for_each(|(sum, code)| *sum = sum.wrapping_add(i32::from(*code)));
        }
        return;
    }
    v.run_unless_rare(
        #[inline(always)]
        || {
            if cols == pitch && cols < COLUMNS && COLUMNS.is_multiple_of(cols) {
                let (wide, rest) = codes.as_chunks::<COLUMNS>();
                let mut all = [0; COLUMNS];
                columns::<COLUMNS>(wide.as_flattened(), COLUMNS, &mut all);
                for (i, sum) in all.into_iter().enumerate() {
                    sums[i % cols] = sums[i % cols].wrapping_add(sum);
                }
                for (i, code) in rest.iter().enumerate() {
                    sums[i % cols] = sums[i % cols].wrapping_add(i32::from(*code));
                }
                return;
            }
            let mut first = 0;
            while first < cols {
                let (codes, sums) = (&codes[first..], &mut sums[first..]);
                first += match sums.len() {
                    COLUMNS.. => columns::<COLUMNS>(codes, pitch, sums),
                    8.. => columns::<8>(codes, pitch, sums),
                    _ => columns::<1>(codes, pitch, sums),
                };
            }
        },
    );
}

/// The first `N` columns; `N`.
#[inline(always)]
fn columns<const N: usize>(codes: &[i8], pitch: usize, sums: &mut [i32]) -> usize {
    let sums: &mut [i32; N] = &mut sums.as_chunks_mut().0[0];
    for run in codes.chunks(RUN * pitch) {
        // An array that is indexed by constants alone lives in registers.
        let mut acc = [0i16; N];
        for row in run.chunks(pitch) {
            let Some(row) = row.first_chunk::<N>() else { continue };
            for i in 0..N {
                acc[i] = acc[i].wrapping_add(i16::from(row[i]));
            }
        }
        for i in 0..N {
            sums[i] = sums[i].wrapping_add(i32::from(acc[i]));
        }
    }
    N
}
