//! The matrix as it is: floats of the width that it came in.

use super::{Matrix, Stored, Use};
use crate::draft::Draft;
use crate::error::ConvertError;
use crate::model::Array;
use edge_runtime::graph::DType;
use edge_runtime::pack::{BlobId, Expr};
use edge_runtime::weights::Float;
use edge_runtime::weights::dense::{self, EncodedDense, Layout};

/// A matrix for a draft that is not written: its elements where the model has them.
pub fn as_it_lies(draft: &mut Draft, matrix: &Stored<'_>) -> Expr {
    let blob = draft.blob(matrix.array.data.clone());
    EncodedDense { blob: Vec::new(), dtype: float(matrix.array), layout: Layout::Rows }.expr(blob)
}

/// A matrix of f32 as it is.
///
/// # Errors
/// When an element is more than its float holds.
pub fn as_it_is(draft: &mut Draft, matrix: &Matrix) -> Result<Expr, ConvertError> {
    let mut encoded = encode(matrix, Float::F32)?;
    let blob = draft.blob(std::mem::take(&mut encoded.blob));
    Ok(encoded.expr(blob))
}

fn encode(matrix: &Matrix, dtype: Float) -> Result<EncodedDense, ConvertError> {
    dense::encode(&matrix.values, matrix.n, matrix.k, dtype, layout(matrix.used))
        .map_err(|e| ConvertError::Weight { tensor: matrix.name.clone(), why: e.to_string() })
}

fn layout(used: Use) -> Layout {
    if used == Use::Rows { Layout::Rows } else { Layout::Panel }
}

/// A matrix that is stored exactly once nothing else reads it: then no two copies of it are in memory.
pub struct Exact {
    name: String,
    constant: u32,
    used: Use,
    blob: BlobId,
}

impl Exact {
    /// Promises the bytes of constant `constant`; gives the expression of what they will be. Nothing of 16 bits becomes wider.
    pub fn promise(draft: &mut Draft, matrix: &Stored<'_>, constant: u32) -> (Exact, Expr) {
        let blob = draft.promise();
        let encoded =
            EncodedDense { blob: Vec::new(), dtype: float(matrix.array), layout: layout(matrix.used) };
        (Exact { name: matrix.name.clone(), constant, used: matrix.used, blob }, encoded.expr(blob))
    }

    /// Keeps the promise, and lets the constant go.
    ///
    /// # Errors
    /// When the matrix is not one.
    pub fn store(self, draft: &mut Draft, constants: &mut [Array]) -> Result<(), ConvertError> {
        let array = std::mem::take(&mut constants[self.constant as usize]);
        let [n, k] = array.dims[..] else { return Ok(()) };
        if layout(self.used) == Layout::Rows {
            // As the model has it, byte for byte: a table may be half of it.
            draft.keep(self.blob, array.data);
            return Ok(());
        }
        let values = array.floats().unwrap_or_default();
        let encoded = encode(&Matrix { name: self.name, n, k, values, used: self.used }, float(&array))?;
        draft.keep(self.blob, encoded.blob);
        Ok(())
    }
}

fn float(array: &Array) -> Float {
    match array.dtype {
        DType::F16 => Float::F16,
        DType::Bf16 => Float::Bf16,
        _ => Float::F32,
    }
}
