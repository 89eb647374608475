//! Floats of 16 bits: what is stored in them stays so, what is computed in them is computed in 32 bits.
//!
//! An input of such a type is widened as it comes, an output is rounded as it goes, and nothing between is rounded: every value is at
//! least as near as the model's own type would have it, and passes, ranges and integer rungs see the graph of a float model. Only what a
//! model rounds itself, by a cast to 16 bits whose result is cast back, is rounded as it says (`Fact::rounded`).

use crate::draft::to_f32;
use crate::model::Array;
use edge_runtime::graph::{DType, Op};

/// Whether a type has floats of 16 bits.
pub fn is_narrow(dtype: DType) -> bool {
    matches!(dtype, DType::F16 | DType::Bf16)
}

/// The type that values of a type are computed in.
pub fn dtype(dtype: DType) -> DType {
    if is_narrow(dtype) { DType::F32 } else { dtype }
}

/// The array in the type that it is computed in.
pub fn array(array: Array) -> Array {
    match array.is_narrow() {
        true => Array::of_f32(&array.dims, to_f32(array.dtype, &array.data)),
        false => array,
    }
}

/// The operation with results of the type that they are computed in.
pub fn op(op: Op) -> Op {
    match op {
        Op::Cast { to } => Op::Cast { to: dtype(to) },
        Op::ConstantOfShape { dtype: narrow, value } if is_narrow(narrow) => {
            let value = to_f32(narrow, &value).into_iter().flat_map(f32::to_le_bytes).collect();
            Op::ConstantOfShape { dtype: DType::F32, value }
        }
        op => op,
    }
}
