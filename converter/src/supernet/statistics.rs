//! A subnet in training mode: its batch normalizations measured, and how good it is with them.

use crate::draft::float_draft;
use crate::error::ConvertError;
use crate::import::{Norms, Statistics, Supernet};
use crate::measure::{Evaluator, Outputs};
use crate::samples::Sample;
use crate::simplify;
use edge_runtime::graph::Dim;
use edge_runtime::inputs::NamedArray;
use std::collections::HashMap;

/// Most samples of one batch: a variance is over all of them and all places, and memory grows with it.
const BATCH: usize = 64;

/// What a subnet does in training mode.
pub struct Trained {
    /// By normalization.
    pub statistics: HashMap<String, Statistics>,
    /// The outputs that the network itself has, batch by batch.
    pub outputs: Vec<Outputs>,
}

/// Samples joined along the first dimension, where the model takes any number of them; else as they are.
pub fn batches(supernet: &edge_runtime::graph::Graph, samples: &[Sample]) -> Vec<Sample> {
    let free = supernet
        .inputs
        .iter()
        .all(|port| matches!(port.dims.as_deref(), Some([Dim::Named(_), ..]) | None) && !port.plan_time);
    let dims = |sample: &Sample| sample.inputs.iter().map(|a| a.dims.clone()).collect::<Vec<_>>();
    let alike = samples.windows(2).all(|pair| dims(&pair[0]) == dims(&pair[1]));
    if !free || !alike {
        return samples.to_vec();
    }
    samples.chunks(BATCH).map(joined).collect()
}

fn joined(samples: &[Sample]) -> Sample {
    let inputs = samples[0].inputs.iter().enumerate().map(|(i, first)| {
        let data = samples.iter().flat_map(|s| s.inputs[i].data.iter().copied()).collect();
        let rows = first.dims.first().map_or(1, |rows| rows * samples.len());
        let dims = std::iter::once(rows).chain(first.dims.iter().skip(1).copied()).collect();
        NamedArray { data, dims, ..first.clone() }
    });
    Sample { inputs: inputs.collect(), label: None }
}

/// Runs a subnet on batches in training mode.
///
/// # Errors
/// When the subnet cannot be made, or a batch does not suit it.
pub fn train_mode(
    evaluator: &Evaluator<'_>,
    supernet: &Supernet,
    choice: &[usize],
    batches: &[Sample],
) -> Result<Trained, ConvertError> {
    let model = supernet.model(choice, Norms::Batch)?;
    let (model, _) = simplify::simplify_with_report(model, &simplify::Options::default());
    let norms = supernet.norms(choice)?;
    let draft = float_draft(&model);
    let rung = draft.header.rungs[0].clone();
    let runs = evaluator.run(&draft.open(), &rung, batches)?;
    let own = model.graph.outputs.len() - 2 * norms.len();
    let mut statistics: HashMap<String, Statistics> = HashMap::new();
    for (i, norm) in norms.into_iter().enumerate() {
        let mean = |output: usize| {
            let channels = runs.first().map_or(0, |run| run[output].len());
            let sum = runs.iter().fold(vec![0.0f64; channels], |mut sum, run| {
                sum.iter_mut().zip(&run[output]).for_each(|(s, v)| *s += f64::from(*v));
                sum
            });
            sum.into_iter().map(|s| (s / runs.len() as f64) as f32).collect()
        };
        let at = own + 2 * i;
        statistics.insert(norm, Statistics { mean: mean(at), variance: mean(at + 1) });
    }
    let outputs = runs.into_iter().map(|mut run| {
        run.truncate(own);
        run
    });
    Ok(Trained { statistics, outputs: outputs.collect() })
}
