//! A subnet in training mode: its batch normalizations measured, and how good it is with them.

use super::source::Subnets;
use crate::draft::float_draft;
use crate::error::ConvertError;
use crate::import::{Norms, Statistics};
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
    // As even as can be: each batch counts as much as every other.
    let each = samples.len().div_ceil(samples.len().div_ceil(BATCH).max(1)).max(1);
    samples.chunks(each).map(joined).collect()
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
    supernet: &dyn Subnets,
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
        let mean = |of: &dyn Fn(&Outputs, usize) -> f64, output: usize| -> Vec<f64> {
            let channels = runs.first().map_or(0, |run| run[output].len());
            (0..channels)
                .map(|c| runs.iter().map(|run| of(run, c)).sum::<f64>() / runs.len() as f64)
                .collect()
        };
        let at = own + 2 * i;
        let means = mean(&|run, c| f64::from(run[at][c]), at);
        // Of all samples together: the batches' own variances, and that of their means.
        let squares = mean(&|run, c| f64::from(run[at + 1][c]) + f64::from(run[at][c]).powi(2), at);
        let variance =
            squares.iter().zip(&means).map(|(square, mean)| (square - mean * mean) as f32).collect();
        let mean = means.into_iter().map(|mean| mean as f32).collect();
        statistics.insert(norm.name, Statistics { mean, variance });
    }
    let outputs = runs.into_iter().map(|mut run| {
        run.truncate(own);
        run
    });
    Ok(Trained { statistics, outputs: outputs.collect() })
}
