//! Nested grouped integers: one 16-bit code whose leading planes are the weights of 2, 4, 6, 8 and 12 bits.

use super::{Level, Matrix, Root, Use};
use crate::draft::Draft;
use crate::error::ConvertError;
use edge_runtime::pack::{Arg, Expr};
use edge_runtime::weights::Float;
use edge_runtime::weights::planes::{self, EncodedPlanes, Layout, Spec};
use half::f16;

/// Bits of the planes, most significant first.
pub const PLANE_BITS: [u32; 6] = planes::NESTED_BITS;
/// Largest magnitude of a matrix below which f16 scales are too coarse: those of groups a quarter as large have 11 bits, smaller ones less.
const LEAST_F16: f32 = 1.0 / 4096.0;

/// Stores a matrix as nested planes.
///
/// # Errors
/// When an element is not finite.
pub fn planes(draft: &mut Draft, matrix: &Matrix) -> Result<Root, ConvertError> {
    let (layout, group) = match matrix.used {
        Use::Product => (Layout::Panel, 32),
        // A channel has few taps: one scale for all of them.
        Use::Depthwise => (Layout::Panel1, 0),
        Use::Rows => (Layout::Rows, 32),
    };
    let spec = Spec {
        group,
        bits: PLANE_BITS.to_vec(),
        layout,
        scale: scale_type(&matrix.values),
        ..Spec::default()
    };
    let encoded = planes::encode(&matrix.values, matrix.n, matrix.k, &spec, &[])
        .map_err(|e| ConvertError::Weight { tensor: matrix.name.clone(), why: e.to_string() })?;
    let (expr, levels) = stored(draft, encoded);
    let one_scale = (matrix.used == Use::Product).then(|| row_codes(expr.clone(), true));
    Ok(Root { expr, levels, one_scale })
}

/// Encoded planes in the draft: their expression, and a level for each prefix.
pub(crate) fn stored(draft: &mut Draft, mut encoded: EncodedPlanes) -> (Expr, Vec<Level>) {
    let blobs: Vec<_> =
        std::mem::take(&mut encoded.blobs).into_iter().map(|bytes| draft.blob(bytes)).collect();
    let mut levels = Vec::with_capacity(encoded.spec.bits.len());
    let mut bits = 0;
    for (i, plane) in encoded.spec.bits.iter().enumerate() {
        bits += plane;
        // The scales, and the planes so far.
        levels.push(Level { bits, rank: 0, blobs: blobs[..i + 2].to_vec() });
    }
    (encoded.expr(blobs), levels)
}

/// The type of the scales of a matrix whose planes have one for each group of its columns.
pub(crate) fn scale_type(values: &[f32]) -> Float {
    scale(values, LEAST_F16)
}

/// The type of a matrix's scales: f16, but f32 where its largest magnitude is below `least` or past f16.
pub(super) fn scale(values: &[f32], least: f32) -> Float {
    let largest = values.iter().fold(0.0f32, |most, value| most.max(value.abs()));
    let held = largest == 0.0 || (least..=f16::MAX.to_f32()).contains(&largest);
    if held { Float::F16 } else { Float::F32 }
}

/// The same matrix, given out to products of integers with one scale a row; with `wide`, where it has more than 8 bits as well.
pub fn row_codes(matrix: Expr, wide: bool) -> Expr {
    let args = vec![Arg::Expr(Box::new(matrix))];
    let params =
        if wide { [("wide".to_string(), true.into())].into_iter().collect() } else { Default::default() };
    Expr { kind: "row_codes".into(), params, args, blobs: Vec::new() }
}
