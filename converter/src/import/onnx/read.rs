//! From a file's bytes to a message whose frame is sound: there is a graph, and every opset is known.

use super::NEWEST_OPSET;
use super::node::domain;
use super::proto::{ModelProto, OperatorSetIdProto};
use super::scan;
use crate::import::ImportError;
use prost::Message;
use prost::bytes::Bytes;
use std::collections::HashMap;

/// Bytes of memory for each byte of the file that a decoded model may take, stored arrays apart: a node of an exporter takes six times
/// its bytes, an empty one eighty times.
const MOST_PER_BYTE: u64 = 3;
/// And as many more.
const MOST: u64 = 48 << 20;

/// Most nodes of a file, branches' and functions' included. A node takes 1 KB here, and up to 6 KB of what the header of a pack may take
/// (`edge_runtime::pack::scan`); the largest exported models have some twenty thousand.
const MOST_NODES: usize = 50_000;

/// Parses a model. `file` is its name in errors.
///
/// # Errors
/// [`ImportError::Decode`] for anything that is not a whole model, [`ImportError::Nodes`] for one of too many nodes.
pub fn model(bytes: Bytes, file: &str) -> Result<ModelProto, ImportError> {
    let decode = |reason: String| ImportError::Decode { file: file.to_owned(), reason };
    if bytes.is_empty() {
        return Err(decode("no bytes".into()));
    }
    let (length, scan::Decoded { bytes: decoded, nodes }) = (bytes.len() as u64, scan::decoded(&bytes));
    if decoded > MOST_PER_BYTE * length + MOST {
        return Err(decode(format!(
            "{length} bytes that become {decoded} once decoded, beyond {MOST_PER_BYTE} times the file and {MOST}: \
             empty nodes, tensors or numbers without end"
        )));
    }
    if nodes > MOST_NODES {
        return Err(ImportError::Nodes { file: file.to_owned(), nodes, most: MOST_NODES });
    }
    let mut model = ModelProto::decode(bytes).map_err(|e| decode(e.to_string()))?;
    let Some(graph) = &mut model.graph else {
        return Err(decode("no graph in it".into()));
    };
    // The decoder leaves room for more: a third of what a long list of nodes takes.
    graph.node.shrink_to_fit();
    for node in &mut graph.node {
        node.input.shrink_to_fit();
        node.output.shrink_to_fit();
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
