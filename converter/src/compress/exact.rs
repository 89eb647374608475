//! The matrix as it is, in 32-bit floats.

use super::{Level, Matrix, Root, Use};
use crate::draft::Draft;
use crate::error::ConvertError;
use edge_runtime::weights::Float;
use edge_runtime::weights::dense::{self, Layout};

/// Stores a matrix exactly.
///
/// # Errors
/// When the matrix is not one.
pub fn exact(draft: &mut Draft, matrix: &Matrix) -> Result<Root, ConvertError> {
    let layout = if matrix.used == Use::Rows { Layout::Rows } else { Layout::Panel };
    let encoded = dense::encode(&matrix.values, matrix.n, matrix.k, Float::F32, layout)
        .map_err(|e| ConvertError::Weight { tensor: matrix.name.clone(), why: e.to_string() })?;
    let blob = draft.blob(encoded.blob.clone());
    Ok(Root {
        expr: encoded.expr(blob),
        levels: vec![Level { bits: 32, rank: 0, blobs: vec![blob] }],
        one_scale: None,
    })
}
