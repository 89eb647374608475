//! ONNX.
//!
//! A file's way: it is mapped ([`files`]), [`read`] decodes it, [`walk`] takes its nodes in order, [`guard`] refuses what is not implemented, and one
//! function of [`ops`] lowers each node into the runtime's operations. [`ranks`] follows types and shapes along.
//!
//! - Spatial operations get a transposition to channels-last before and back after; a later pass cancels them.
//! - Stored weights of convolutions and matrix products come into the runtime's `[N, K]` layout; floats of 16 bits stay as they are.
//! - All else that is computed in floats of 16 bits is computed in 32, see [`wide`]. Inputs and outputs of the model keep their type.
//! - Functions are expanded, an `If` whose condition is known takes its branch, and loops of known turns are unrolled.
//! - What is made of a few stored numbers (sizes, bounds, counts of turns) is computed at once.
//! - A result whose size depends on the data is made as large as it can get; [`ranks::Extent`] follows which part of it counts, and
//!   an operator that would mix in the rest is refused.
//! - Integers of 4 bits are bytes of one element each.

mod ctx;
mod files;
mod fixed;
mod guard;
mod node;
mod ops;
mod order;
mod ports;
mod proto;
mod ranks;
mod read;
mod scan;
mod subnet;
mod tensors;
mod values;
mod walk;
mod wide;

#[cfg(test)]
mod tests;

use super::{ImportError, plan_time};
use crate::model::Model;
use ctx::{Ctx, Frame};
use files::Files;
use ports::Names;
use prost::bytes::Bytes;
use proto::{ModelProto, NodeProto};
use std::path::Path;

pub use subnet::{Layers, Norms, Statistics, Supernet};
pub use values::{encode_value, four_bit_outputs, read_value};

/// The newest version of ONNX's own operators that the importer knows.
pub const NEWEST_OPSET: i64 = 27;

/// Reads an ONNX file. External data must lie in its folder.
///
/// # Errors
/// [`ImportError::Unsupported`] with everything that is not implemented; other variants for files that cannot be read or
/// contradict themselves.
pub fn import_onnx(path: &Path) -> Result<Model, ImportError> {
    import_onnx_with(path, &Settled::default())
}

/// What a file leaves open and a conversion settles.
#[derive(Clone, Debug, Default)]
pub struct Settled {
    /// Shapes of inputs for good: sizes of their free dimensions are as if the file declared them.
    pub fixed: Vec<(String, Vec<usize>)>,
    /// Most turns of a loop whose end only a run knows, for what it collects turn by turn.
    pub turns: Option<u64>,
}

/// As [`import_onnx`], with what the file leaves open.
///
/// # Errors
/// As [`import_onnx`], and [`ImportError::Fixed`] for shapes that do not suit.
pub fn import_onnx_with(path: &Path, settled: &Settled) -> Result<Model, ImportError> {
    let base = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    let files = Files::of(Some(base));
    let bytes = files.open(path).map_err(|source| ImportError::Read { path: path.to_owned(), source })?;
    let mut proto = read::model(bytes, &path.display().to_string())?;
    if let Some(graph) = &mut proto.graph {
        fixed::fix(graph, &settled.fixed)?;
    }
    let mut model = lower(&proto, &files, settled.turns)?;
    if model.name.is_empty() {
        model.name = path.file_stem().map(|s| s.to_string_lossy().into_owned()).unwrap_or_default();
    }
    Ok(model)
}

/// Reads an ONNX model from memory. `base_dir` is the folder of its external data; without one they are refused.
///
/// # Errors
/// As [`import_onnx`].
pub fn import_onnx_bytes(bytes: &[u8], base_dir: Option<&Path>) -> Result<Model, ImportError> {
    lower(&read::model(Bytes::copy_from_slice(bytes), "model")?, &Files::of(base_dir), None)
}

/// Lowers a decoded model.
fn lower(proto: &ModelProto, files: &Files, turns: Option<u64>) -> Result<Model, ImportError> {
    let frame = Frame { opsets: read::opsets(&proto.opset_import)?, ..Frame::default() };
    let mut ctx = Ctx::new(files, frame);
    for function in &proto.functions {
        let key = (node::domain(&function.domain), function.name.as_str(), function.overload.as_str());
        ctx.functions.insert(key, function);
    }
    // A default graph is an empty one; `read` has seen to it that there is one.
    let empty = proto::GraphProto::default();
    let graph = proto.graph.as_ref().unwrap_or(&empty);
    let copy = NodeProto::default();
    let mut names = Names::of(graph);
    ctx.most_values = walk::most_values(graph, &proto.functions);
    ctx.most_turns = turns;
    ctx.reserve(graph.node.len() + graph.initializer.len() + graph.input.len());
    ctx.open(true);
    ctx.graph_tensors(graph)?;
    ctx.graph_inputs(graph, &mut names, &copy)?;
    ctx.nodes(&graph.node)?;
    ctx.graph_outputs(graph, &mut names, &copy)?;
    if !ctx.refused.is_empty() {
        return Err(ImportError::Unsupported(ctx.refused));
    }
    let mut model = ctx.model;
    model.graph.body = ctx.blocks.pop().unwrap_or_default();
    model.name = graph.name.clone();
    model.metadata = proto.metadata_props.iter().map(|p| (p.key.clone(), p.value.clone())).collect();
    for (key, value) in
        [("producer_name", &proto.producer_name), ("producer_version", &proto.producer_version)]
    {
        if !value.is_empty() {
            model.metadata.entry(key.to_owned()).or_insert_with(|| value.clone());
        }
    }
    plan_time::mark(&mut model.graph);
    Ok(model)
}
