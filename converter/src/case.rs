//! One test of a suite, the way that a user's model goes: imported, simplified, written to a pack, opened, planned, run.

use crate::draft::float_draft;
use crate::error::ConvertError;
use crate::import::{ImportError, encode_value, four_bit_outputs, import_onnx, read_value};
use crate::model::Array;
use crate::samples::Sample;
use crate::simplify;
use edge_runtime::device::Device;
use edge_runtime::graph::DType;
use edge_runtime::inputs::{NamedArray, write_npy};
use edge_runtime::pack::{BlobId, PackFile};
use edge_runtime::plan::PlanError;
use edge_runtime::weights::Registry;
use edge_runtime::{Model, RunError, Session, SessionError};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// Runs a model on `input_<i>.pb` of a folder (the i-th input, a `TensorProto`) and writes `output_<i>.npy`, or
/// `output_<i>.pb` for elements that NumPy does not know. The pack lies in `out_dir` while it runs.
///
/// # Errors
/// When any part of the way refuses or fails; [`is_refusal`] tells which.
pub fn run_case(model: &Path, inputs_dir: &Path, out_dir: &Path) -> Result<(), ConvertError> {
    let four_bits = four_bit_outputs(model)?;
    let model = import_onnx(model)?;
    let (model, _) = simplify::simplify_with_report(model, &simplify::Options::default());
    let mut inputs = Vec::with_capacity(model.graph.inputs.len());
    for (i, port) in model.graph.inputs.iter().enumerate() {
        let Array { dtype, dims, data } = read_value(&inputs_dir.join(format!("input_{i}.pb")))?;
        let name = model.graph.name(port.value).to_string();
        inputs.push(NamedArray { name, dtype, dims, data: data.to_vec() });
    }
    let sample = Sample { inputs, label: None };

    let path = out_dir.join("model.pack");
    let mut draft = float_draft(&model);
    let blobs: Vec<BlobId> = (0..draft.blobs.len() as BlobId).collect();
    draft.write(&path, vec![blobs.clone()], vec![blobs], &AtomicBool::new(false))?;
    let outputs = run_pack(&path, &sample);
    std::fs::remove_file(&path).map_err(|source| ConvertError::Io { path: path.clone(), source })?;

    for (i, array) in outputs?.into_iter().enumerate() {
        let four_bits = four_bits.get(i).copied().unwrap_or(false);
        if array.dtype == DType::Bf16 || four_bits {
            let path = out_dir.join(format!("output_{i}.pb"));
            let array = Array { dtype: array.dtype, dims: array.dims, data: array.data.into() };
            std::fs::write(&path, encode_value(&array, four_bits))
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
            let (dims, bytes) = session.result(i);
            let dtype = session.output(i).0.dtype;
            NamedArray { name: String::new(), dtype, dims, data: bytes.to_vec() }
        })
        .collect())
}

/// Whether an error says that the model needs something that is not implemented, rather than that something is broken.
pub fn is_refusal(error: &ConvertError) -> bool {
    let plan = |e: &PlanError| matches!(e, PlanError::Node { .. } | PlanError::TooLarge { .. });
    match error {
        ConvertError::Import(e) => {
            matches!(e, ImportError::Unsupported(_) | ImportError::Tensor { .. } | ImportError::Opset { .. })
        }
        ConvertError::Plan(e) | ConvertError::Session(SessionError::Plan(e)) => plan(e),
        ConvertError::Run(RunError::TooLarge { .. }) => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use crate::draft::float_draft;
    use crate::model::{Array, Model};
    use edge_runtime::graph::{
        CoordinateMode, DType, Dim, Interpolation, Node, Op, Pads, PoolKind, Port, ScatterReduction, Source,
        Window,
    };
    use edge_runtime::plan::{InputSpec, Plan, PlanError, PlanOptions};

    /// The plan of one operation on an input of a fixed shape; `constants` are its further operands.
    fn plan(op: Op, dtype: DType, dims: &[usize], constants: Vec<Option<Array>>) -> Result<Plan, PlanError> {
        let mut model = Model::default();
        let x = model.graph.add_value("x", Source::Computed);
        let mut inputs = vec![Some(x)];
        inputs.extend(constants.into_iter().map(|c| c.map(|array| model.add_constant("c", array))));
        let y = model.graph.add_value("y", Source::Computed);
        let port = |value, dims| Port { value, dtype, dims, plan_time: false };
        let fixed = dims.iter().map(|d| Dim::Fixed(*d)).collect();
        model.graph.inputs.push(port(x, Some(fixed)));
        model.graph.outputs.push(port(y, None));
        model.graph.body.nodes.push(Node { name: "node".into(), op, inputs, outputs: vec![Some(y)] });
        let draft = float_draft(&model);
        let spec = InputSpec { name: "x".into(), dtype, dims: dims.to_vec(), value: None };
        Plan::new(&draft.open(), &draft.header.rungs[0], &[spec], &PlanOptions::default())
    }

    #[test]
    fn aligned_corners_are_refused_where_engines_differ() {
        let resize = |scale: f32| {
            let op = Op::Resize {
                axes: vec![1],
                interpolation: Interpolation::Linear { antialias: false },
                coordinates: CoordinateMode::AlignCorners,
            };
            plan(op, DType::F32, &[1, 5], vec![Some(Array::f32(&[1], &[scale]))])
        };
        assert_eq!(resize(2.0).unwrap().outputs[0].dims, [1, 10]);
        let Err(PlanError::Node { why, .. }) = resize(0.5) else { panic!("2.5 elements were planned") };
        assert!(why.contains("engines differ"), "{why}");
    }

    #[test]
    fn what_the_kernels_lack_is_refused_before_a_run() {
        let cast = |from| plan(Op::Cast { to: DType::F32 }, from, &[2], Vec::new());
        assert!(cast(DType::U32).is_ok());
        let Err(PlanError::Node { why, .. }) = cast(DType::U64) else { panic!("u64 was planned") };
        assert_eq!(why, "a cast from u64 to f32");
    }

    #[test]
    fn half_floats_are_scattered() {
        let op = Op::ScatterElements { axis: 0, reduction: ScatterReduction::Add };
        let half = Array { dtype: DType::F16, dims: vec![1], data: vec![0, 0x3c].into() };
        let plan = plan(op, DType::F16, &[3], vec![Some(Array::i64(&[1], &[2])), Some(half)]).unwrap();
        assert_eq!((plan.outputs[0].dtype, &plan.outputs[0].dims[..]), (DType::F16, &[3][..]));
    }

    #[test]
    fn pooled_bytes_stay_bytes() {
        let window =
            Window { kernel: [2, 2], stride: [1, 1], dilation: [1, 1], pads: Pads::Explicit([0; 4]) };
        let op = Op::Pool { kind: PoolKind::Max, window, ceil_mode: false };
        let plan = plan(op, DType::U8, &[1, 3, 3, 1], Vec::new()).unwrap();
        assert_eq!(plan.outputs[0].dtype, DType::U8);
        assert_eq!(plan.outputs[0].dims, [1, 2, 2, 1]);
    }
}
