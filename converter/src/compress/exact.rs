//! The matrix as it is, in 32-bit floats.

use super::{Matrix, Root, Use};
use crate::draft::Draft;
use crate::error::ConvertError;
use edge_runtime::graph::DType;
use edge_runtime::weights::dense;

/// Stores a matrix exactly.
///
/// # Errors
/// When the matrix is not one.
pub fn exact(draft: &mut Draft, matrix: &Matrix) -> Result<Root, ConvertError> {
    let rows = matrix.used == Use::Rows;
    let encoded = dense::encode(&matrix.values, matrix.n, matrix.k, DType::F32, rows)
        .map_err(|e| ConvertError::Weight { tensor: matrix.name.clone(), why: e.to_string() })?;
    let blobs: Vec<_> = encoded.blobs.into_iter().map(|b| draft.blob(b)).collect();
    let expr = edge_runtime::pack::Expr { kind: "dense".into(), params: encoded.params, args: Vec::new(), blobs: blobs.clone() };
    Ok(Root { expr, takes: vec![(32, blobs)] })
}
