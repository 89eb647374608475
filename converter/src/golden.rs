//! Golden data: inputs and outputs that a pack carries, for whoever wants to know whether it computes what it should.

use crate::convert::Options;
use crate::draft::Draft;
use crate::error::ConvertError;
use crate::measure::{Evaluator, Outputs};
use crate::model::Model;
use crate::samples::{NOISE_KEY, Sample, noise_sample};
use crate::shapes::Sizes;
use crate::witness::{Case, Verdict};
use edge_runtime::graph::DType;
use edge_runtime::pack::{BlobId, Golden, GoldenSource, GoldenValue, Rung};

/// Golden outputs larger than this are not stored.
const GOLDEN_BYTES: usize = 256 << 10;

/// The float model on golden inputs: seeded noise.
pub(crate) struct GoldenRun {
    sample: Sample,
    outputs: Outputs,
}

impl GoldenRun {
    /// `None` for a model that noise of default shapes does not suit; its pack has no golden data.
    pub(crate) fn new(
        evaluator: &Evaluator<'_>,
        float_model: &std::sync::Arc<edge_runtime::Model>,
        float_rung: &Rung,
        options: &Options,
    ) -> Option<GoldenRun> {
        let sizes = Sizes::planned(float_model, float_rung, &options.shapes).ok()?;
        let sample = noise_sample(float_model.graph(float_rung), &sizes, &options.shapes, 0)?;
        let mut runs = evaluator.run(float_model, float_rung, std::slice::from_ref(&sample)).ok()?;
        Some(GoldenRun { sample, outputs: runs.pop()? })
    }

    /// For the witness.
    pub(crate) fn case(&self) -> Case<'_> {
        Case { sample: &self.sample, ours: &self.outputs }
    }
}

/// Stores golden inputs and outputs, and what the witness says of them.
pub(crate) fn golden(
    draft: &mut Draft,
    model: &Model,
    run: Option<&GoldenRun>,
    verdict: &Verdict,
) -> Result<Vec<BlobId>, ConvertError> {
    if *verdict != Verdict::Absent {
        draft.header.card.metadata.insert("witness".into(), verdict.to_string());
    }
    let Some(GoldenRun { sample, outputs }) = run else { return Ok(Vec::new()) };
    let mut inputs = Vec::new();
    for (i, (port, array)) in model.graph.inputs.iter().zip(&sample.inputs).enumerate() {
        let dims = array.dims.clone();
        let source = match port.dtype {
            DType::F32 => GoldenSource::Uniform { seed: NOISE_KEY + i as u64, lo: -1.0, hi: 1.0 },
            _ => GoldenSource::Blob(draft.blob(array.data.clone())),
        };
        inputs.push(GoldenValue { dtype: port.dtype, dims, source });
    }
    let total: usize = outputs.iter().map(|o| o.len() * 4).sum();
    if total > GOLDEN_BYTES {
        return Ok(Vec::new());
    }
    let mut blobs: Vec<BlobId> = inputs
        .iter()
        .filter_map(|v| match v.source {
            GoldenSource::Blob(id) => Some(id),
            GoldenSource::Uniform { .. } => None,
        })
        .collect();
    let mut values = Vec::new();
    for output in outputs {
        let bytes: Vec<u8> = output.iter().flat_map(|v| v.to_le_bytes()).collect();
        let blob = draft.blob(bytes);
        blobs.push(blob);
        values.push(GoldenValue {
            dtype: DType::F32,
            dims: vec![output.len()],
            source: GoldenSource::Blob(blob),
        });
    }
    let reference = match verdict {
        Verdict::Absent => "float model in this runtime".to_string(),
        verdict => format!("float model in this runtime; {verdict}"),
    };
    draft.header.golden = Some(Golden { inputs, outputs: values, reference });
    Ok(blobs)
}
