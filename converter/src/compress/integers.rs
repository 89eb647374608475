//! A matrix that came as integers: stored as they are, in planes of which the leading ones are coarser weights.

use super::{Level, Matrix, Root, Use};
use crate::draft::Draft;
use crate::error::ConvertError;
use crate::integers::Integers;
use edge_runtime::pack::Expr;
use edge_runtime::weights::Float;
use edge_runtime::weights::planes::{self, Layout};

/// Stores a matrix as the integers that it was made of; `None` when scales do not lie along its rows, or its elements are others.
///
/// # Errors
/// When a scale is past what the pack holds.
pub fn integers(
    draft: &mut Draft,
    matrix: &Matrix,
    integers: &Integers,
) -> Result<Option<Root>, ConvertError> {
    let Some(integers) = integers.by_rows().map(Integers::without_zeros) else { return Ok(None) };
    let (layout, whole_rows) = match matrix.used {
        Use::Product => (Layout::Panel, false),
        Use::Depthwise => (Layout::Panel1, true),
        Use::Rows => (Layout::Rows, false),
    };
    let [tall, block] = integers.blocks[..] else { return Ok(None) };
    let alike = tall >= matrix.n && block >= matrix.k;
    let grouped = block < matrix.k;
    if integers.dims != [matrix.n, matrix.k]
        || (tall > 1 && !alike)
        || (grouped && whole_rows)
        || integers.reals()[..] != matrix.values[..]
    {
        return Ok(None);
    }
    // Padding to whole panels makes small matrices much larger.
    let (rows, columns) = match layout {
        Layout::Panel => (matrix.n.next_multiple_of(16), matrix.k.next_multiple_of(8)),
        Layout::Panel1 => (matrix.n.next_multiple_of(16), matrix.k),
        _ => (matrix.n, matrix.k.next_multiple_of(32)),
    };
    let tight = integers.bits == 8 && rows * columns * 100 > matrix.n * matrix.k * 101;
    let layout = if tight { Layout::Tight } else { layout };
    let bits: &[u32] = match integers.bits {
        8 if tight => &[8],
        8 => &[2, 2, 2, 2],
        4 => &[2, 2],
        2 => &[2],
        _ => return Ok(None),
    };
    // What is stored of a scale is its product with a power of two: exact in f16 where the scales came as f16.
    let unit = (1u32 << (integers.bits - 1)) as f32;
    let halves =
        integers.scales.iter().all(|scale| half::f16::from_f32(scale * unit).to_f32() == scale * unit);
    let whole = planes::Integers {
        codes: &integers.codes,
        group: if grouped { block } else { 0 },
        scales: &integers.scales,
        zeros: &integers.zeros,
        half_offset: false,
        scale: if halves { Float::F16 } else { Float::F32 },
    };
    let (blobs, params) = planes::encode_integers(&whole, matrix.n, matrix.k, bits, layout)
        .map_err(|e| ConvertError::Weight { tensor: matrix.name.clone(), why: e.to_string() })?;
    let blobs: Vec<_> = blobs.into_iter().map(|bytes| draft.blob(bytes)).collect();
    let first = blobs.len() - bits.len();
    let levels = (1..=bits.len()).map(|taken| Level {
        bits: bits[..taken].iter().sum(),
        rank: 0,
        blobs: blobs[..first + taken].to_vec(),
    });
    let levels = levels.collect();
    let expr = Expr { kind: "planes".into(), params, args: Vec::new(), blobs };
    Ok(Some(Root { expr, levels, one_scale: None }))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Scales that came in f16 take two bytes each in the pack, others four; both give the same reals.
    #[test]
    fn scales_are_stored_in_the_bytes_they_came_in() {
        for (scale, stored, bytes) in [(0.007_f32, "f32", 4), (half::f16::from_f32(0.007).to_f32(), "f16", 2)]
        {
            for (bits, zeros) in [(4, vec![]), (4, vec![3, -2, 0, 1]), (2, vec![])] {
                let low = -(1i8 << (bits - 1));
                let codes = (0..64).map(|i| low + (i % (1 << bits)) as i8).collect();
                let scales = (1..5).map(|i| scale * (1 << i) as f32).collect();
                let came = Integers { bits, codes, scales, zeros, dims: vec![2, 32], blocks: vec![1, 16] };
                let values = came.reals();
                let name = "weight".to_string();
                let matrix = Matrix { name, n: 2, k: 32, values: values.into(), used: Use::Rows };
                let mut draft = Draft::default();
                let root = integers(&mut draft, &matrix, &came).unwrap().unwrap();
                assert_eq!(root.expr.params["scale"], stored);
                assert_eq!(draft.blobs[root.expr.blobs[0] as usize].len(), 4 * bytes, "{bits} bits");
            }
        }
    }
}
