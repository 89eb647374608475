//! One test of a suite, the way that a user's model goes: imported, simplified, written to a pack, opened, planned, run.

use crate::draft::float_draft;
use crate::error::ConvertError;
use crate::import::{ImportError, encode_value, import_onnx, read_value};
use crate::model::Array;
use crate::samples::Sample;
use crate::simplify;
use edge_runtime::device::Device;
use edge_runtime::graph::DType;
use edge_runtime::inputs::{NamedArray, write_npy};
use edge_runtime::pack::{BlobId, PackFile};
use edge_runtime::plan::PlanError;
use edge_runtime::weights::Registry;
use edge_runtime::{Model, Session, SessionError};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// Runs a model on `input_<i>.pb` of a folder (the i-th input, a `TensorProto`) and writes `output_<i>.npy`, or
/// `output_<i>.pb` for elements that NumPy does not know. The pack lies in `out_dir` while it runs.
///
/// # Errors
/// When any part of the way refuses or fails; [`is_refusal`] tells which.
pub fn run_case(model: &Path, inputs_dir: &Path, out_dir: &Path) -> Result<(), ConvertError> {
    let model = import_onnx(model)?;
    let (model, _) = simplify::simplify_with_report(model, &simplify::Options::default());
    let mut inputs = Vec::with_capacity(model.graph.inputs.len());
    for (i, port) in model.graph.inputs.iter().enumerate() {
        let Array { dtype, dims, data } = read_value(&inputs_dir.join(format!("input_{i}.pb")))?;
        let name = model.graph.name(port.value).to_string();
        inputs.push(NamedArray { name, dtype, dims, data: data.to_vec() });
    }
    let sample = Sample { inputs };

    let path = out_dir.join("model.pack");
    let mut draft = float_draft(&model);
    let blobs: Vec<BlobId> = (0..draft.blobs.len() as BlobId).collect();
    draft.write(&path, vec![blobs.clone()], vec![blobs], &AtomicBool::new(false))?;
    let outputs = run_pack(&path, &sample);
    std::fs::remove_file(&path).map_err(|source| ConvertError::Io { path: path.clone(), source })?;

    for (i, array) in outputs?.into_iter().enumerate() {
        if array.dtype == DType::Bf16 {
            let path = out_dir.join(format!("output_{i}.pb"));
            let array = Array { dtype: array.dtype, dims: array.dims, data: array.data.into() };
            std::fs::write(&path, encode_value(&array))
                .map_err(|source| ConvertError::Io { path, source })?;
        } else {
            write_npy(&out_dir.join(format!("output_{i}.npy")), &array)?;
        }
    }
    Ok(())
}

/// The outputs of a pack's first rung.
fn run_pack(path: &Path, sample: &Sample) -> Result<Vec<NamedArray>, ConvertError> {
    let pack = PackFile::open(path)?;
    let source = Arc::new(pack.map(pack.file_len())?);
    let model = Arc::new(Model::new(pack.shared_header(), source, Arc::new(Registry::standard())));
    let device = Device::builder().budget(Some(u64::MAX / 2)).build()?;
    let mut session = Session::new(&device, &model, &pack.header().rungs[0], &sample.specs())?;
    for (i, input) in sample.inputs.iter().enumerate() {
        session.set_input(i, &input.data)?;
    }
    session.run()?;
    let outputs = session.plan().outputs.len();
    Ok((0..outputs)
        .map(|i| {
            let (operand, bytes) = session.output(i);
            let dims = operand.dims.clone();
            NamedArray { name: String::new(), dtype: operand.dtype, dims, data: bytes.to_vec() }
        })
        .collect())
}

/// Whether an error says that the model needs something that is not implemented, rather than that something is broken.
pub fn is_refusal(error: &ConvertError) -> bool {
    let plan = |e: &PlanError| matches!(e, PlanError::Node { .. } | PlanError::TooLarge { .. });
    match error {
        ConvertError::Import(e) => {
            matches!(
                e,
                ImportError::Unsupported(_) | ImportError::Tensor { .. } | ImportError::Opset { .. }
            )
        }
        ConvertError::Plan(e) | ConvertError::Session(SessionError::Plan(e)) => plan(e),
        _ => false,
    }
}
