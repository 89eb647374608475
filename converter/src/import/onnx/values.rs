//! Values that lie beside a model as files of one `TensorProto` each: what the ONNX project's tests feed and expect.

use super::files::Files;
use super::proto::TensorProto;
use super::{read, tensors};
use crate::import::ImportError;
use crate::model::Array;
use edge_runtime::graph::DType;
use prost::Message;
use prost::bytes::Bytes;
use std::path::Path;

/// Reads a file that holds one `TensorProto`.
///
/// # Errors
/// When the file cannot be read, is no `TensorProto`, or holds elements that have no [`DType`].
pub fn read_value(path: &Path) -> Result<Array, ImportError> {
    let bytes = std::fs::read(path).map_err(|source| ImportError::Read { path: path.to_owned(), source })?;
    let tensor = TensorProto::decode(Bytes::from(bytes))
        .map_err(|e| ImportError::Decode { file: path.display().to_string(), reason: e.to_string() })?;
    let files = Files::of(path.parent());
    files.own(&tensor.name, tensors::read(&tensor, &files)?)
}

/// The bytes of a `TensorProto` that holds an array: also of the types that NumPy's files do not know. With `four_bits`, bytes
/// become integers of 4 bits.
pub fn encode_value(array: &Array, four_bits: bool) -> Vec<u8> {
    let (data_type, data) = match array.dtype {
        DType::I8 if four_bits => (tensors::INT4, tensors::packed(&array.data).into()),
        DType::U8 if four_bits => (tensors::UINT4, tensors::packed(&array.data).into()),
        dtype => (number(dtype), Bytes::copy_from_slice(&array.data)),
    };
    TensorProto {
        dims: array.dims.iter().map(|d| *d as i64).collect(),
        data_type,
        raw_data: Some(data),
        ..TensorProto::default()
    }
    .encode_to_vec()
}

/// For each output of a model, whether it is declared as integers of 4 bits, which a pack gives as bytes.
///
/// # Errors
/// When the file cannot be read or is no model.
pub fn four_bit_outputs(path: &Path) -> Result<Vec<bool>, ImportError> {
    let bytes =
        Files::default().open(path).map_err(|source| ImportError::Read { path: path.to_owned(), source })?;
    let model = read::model(bytes, &path.display().to_string())?;
    let outputs = model.graph.map(|g| g.output).unwrap_or_default();
    let declared = outputs.iter().map(|o| o.r#type.as_ref().and_then(|t| t.tensor_type.as_ref()));
    Ok(declared.map(|t| t.is_some_and(|t| tensors::four_bits(t.elem_type))).collect())
}

/// ONNX's number of an element type: the inverse of [`tensors::dtype`].
fn number(dtype: DType) -> i32 {
    match dtype {
        DType::F32 => 1,
        DType::U8 => 2,
        DType::I8 => 3,
        DType::U16 => 4,
        DType::I16 => 5,
        DType::I32 => 6,
        DType::I64 => 7,
        DType::Bool => 9,
        DType::F16 => 10,
        DType::F64 => 11,
        DType::U32 => 12,
        DType::U64 => 13,
        DType::Bf16 => 16,
    }
}

#[cfg(test)]
mod tests {
    use super::{encode_value, number, read_value};
    use crate::import::ImportError;
    use crate::import::onnx::tensors::dtype;
    use crate::model::Array;
    use edge_runtime::graph::DType;

    #[test]
    fn values_of_every_type_come_back_from_a_file() {
        let path = std::env::temp_dir().join(format!("edge-value-{}.pb", std::process::id()));
        for kind in DType::ALL {
            assert_eq!(dtype(number(kind)), Ok(kind));
            let data = (0..3 * kind.bytes()).map(|i| i as u8).collect();
            let array = Array { dtype: kind, dims: vec![3, 1], data };
            std::fs::write(&path, encode_value(&array, false)).unwrap();
            assert_eq!(read_value(&path).unwrap(), array);
        }
        for (kind, data) in [(DType::I8, [7u8, 0xf8, 0xff]), (DType::U8, [15, 0, 9])] {
            let array = Array { dtype: kind, dims: vec![3], data: data.to_vec().into() };
            std::fs::write(&path, encode_value(&array, true)).unwrap();
            assert_eq!(read_value(&path).unwrap(), array);
        }
        std::fs::write(&path, [0xff; 7]).unwrap();
        assert!(matches!(read_value(&path), Err(ImportError::Decode { .. })));
        std::fs::remove_file(&path).unwrap();
        assert!(matches!(read_value(&path), Err(ImportError::Read { .. })));
    }
}
