//! From a file's bytes to a message whose frame is sound: there is a graph, and every opset is known.

use super::NEWEST_OPSET;
use super::node::domain;
use super::proto::{ModelProto, OperatorSetIdProto};
use crate::import::ImportError;
use prost::Message;
use prost::bytes::Bytes;
use std::collections::HashMap;

/// Parses a model. `file` is its name in errors.
///
/// # Errors
/// [`ImportError::Decode`] for anything that is not a whole model.
pub fn model(bytes: Bytes, file: &str) -> Result<ModelProto, ImportError> {
    let decode = |reason: String| ImportError::Decode { file: file.to_owned(), reason };
    if bytes.is_empty() {
        return Err(decode("no bytes".into()));
    }
    let model = ModelProto::decode(bytes).map_err(|e| decode(e.to_string()))?;
    if model.graph.is_none() {
        return Err(decode("no graph in it".into()));
    }
    if model.opset_import.is_empty() {
        return Err(decode("no opset import in it".into()));
    }
    Ok(model)
}

/// The imported domains with their versions.
///
/// # Errors
/// [`ImportError::Opset`] for versions of ONNX's own domain that are not known.
pub fn opsets(imports: &[OperatorSetIdProto]) -> Result<HashMap<&str, i64>, ImportError> {
    let mut opsets = HashMap::new();
    for import in imports {
        let name = domain(&import.domain);
        if name.is_empty() && !(1..=NEWEST_OPSET).contains(&import.version) {
            let (domain, version) = (import.domain.clone(), import.version);
            return Err(ImportError::Opset { domain, version, newest: NEWEST_OPSET });
        }
        opsets.insert(name, import.version);
    }
    Ok(opsets)
}
