//! Nested grouped integers: one 16-bit code whose leading planes are the weights of 2, 4, 6, 8 and 12 bits, rounded by themselves first, and
//! then, where samples show the rows that a matrix is multiplied with, so that columns make up for one another.

use super::corrected::LEAST_ROWS;
use super::{Level, Matrix, Root, Use, decoded};
use crate::calibrate::{Rows, feedback};
use crate::draft::Draft;
use crate::error::ConvertError;
use edge_runtime::graph::TensorId;
use edge_runtime::pack::{Arg, Expr, Tensor};
use edge_runtime::weights::Float;
use edge_runtime::weights::planes::{self, EncodedPlanes, Layout, Spec};
use half::f16;
use serde_json::json;

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
        scale: scale(&matrix.values, LEAST_F16),
        ..Spec::default()
    };
    let encoded = planes::encode(&matrix.values, matrix.n, matrix.k, &spec, &[])
        .map_err(|e| ConvertError::Weight { tensor: matrix.name.clone(), why: e.to_string() })?;
    Ok(root(draft, encoded, matrix.used == Use::Product))
}

/// The planes of a root of [`planes`] once more, rounded with feedback by the rows that the tensor is multiplied with; `None` for other
/// roots, and when rows are too few.
///
/// # Errors
/// When the root's expression is not sound.
pub fn fed(
    draft: &mut Draft,
    tensor: TensorId,
    root: &Root,
    rows: &Rows,
) -> Result<Option<Root>, ConvertError> {
    let Tensor { name, n, k, .. } = draft.header.tensors[tensor as usize].clone();
    let Some(spec) = spec(&root.expr) else { return Ok(None) };
    if root.is_whole() || rows.k != k || rows.values.len() < LEAST_ROWS * k {
        return Ok(None);
    }
    let Some(feedback) = feedback(rows) else { return Ok(None) };
    // The finest planes are the weights as they came, to 16 bits of each group's largest.
    let exact = decoded(draft, &name, &root.expr, (n, k), root.levels.len())?;
    let values: Vec<f32> = exact.transpose().as_slice().to_vec();
    let encoded = planes::encode_by(&values, n, k, &spec, &[], Some(&feedback))
        .map_err(|e| ConvertError::Weight { tensor: name, why: e.to_string() })?;
    Ok(Some(self::root(draft, encoded, root.one_scale.is_some())))
}

/// How [`planes`] made an expression; `None` when it did not.
fn spec(expr: &Expr) -> Option<Spec> {
    let param = |name: &str| expr.params.get(name).cloned().unwrap_or_default();
    if expr.kind != "planes" || param("bits") != json!(PLANE_BITS) {
        return None;
    }
    Some(Spec {
        group: usize::try_from(param("group").as_u64()?).ok()?,
        bits: PLANE_BITS.to_vec(),
        layout: serde_json::from_value(param("layout")).ok()?,
        scale: serde_json::from_value(param("scale")).ok()?,
        ..Spec::default()
    })
}

fn root(draft: &mut Draft, mut encoded: EncodedPlanes, product: bool) -> Root {
    let blobs: Vec<_> =
        std::mem::take(&mut encoded.blobs).into_iter().map(|bytes| draft.blob(bytes)).collect();
    let mut levels = Vec::with_capacity(PLANE_BITS.len());
    let mut bits = 0;
    for (i, plane) in PLANE_BITS.iter().enumerate() {
        bits += plane;
        // The scales, and the planes so far.
        levels.push(Level { bits, rank: 0, blobs: blobs[..i + 2].to_vec() });
    }
    let expr = encoded.expr(blobs);
    let one_scale = product.then(|| row_codes(expr.clone(), true));
    Root { expr, levels, one_scale }
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
