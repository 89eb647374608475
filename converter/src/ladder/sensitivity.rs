//! What each tensor's precision costs at the outputs, measured in the real runtime.

use super::{Choices, Probes};
use crate::compress::coded;
use crate::draft::{Draft, plain_rung};
use crate::error::ConvertError;
use crate::measure::{Evaluator, sqnr_db};
use edge_runtime::pack::{Acts, Cost, Take};

/// Output distortion by tensor and take, the others being at their finest.
#[derive(Clone, Debug)]
pub struct Sensitivity {
    by_tensor: Vec<Vec<f64>>,
}

impl Sensitivity {
    /// Of these distortions, by tensor and take.
    #[cfg(test)]
    pub(super) fn new(by_tensor: Vec<Vec<f64>>) -> Sensitivity {
        Sensitivity { by_tensor }
    }

    /// The same beside what the finest weights cost all together, which is no tensor's alone: where they are far from exact.
    pub fn beside(mut self, finest: f64) -> Sensitivity {
        let costs =
            self.by_tensor.iter_mut().flat_map(|costs| costs.split_last_mut().map(|(_, coarse)| coarse));
        costs.flatten().for_each(|cost| *cost = (*cost - finest).max(0.0));
        self
    }

    /// Distortions of a tensor, by take less one.
    pub fn costs(&self, tensor: usize) -> &[f64] {
        &self.by_tensor[tensor]
    }

    /// Distortion when `tensor` has this take.
    pub fn of(&self, tensor: usize, take: usize) -> f64 {
        self.by_tensor[tensor].get(take - 1).copied().unwrap_or(0.0)
    }
}

/// The costs as a pack stores them, in its order.
pub fn stored_costs(sensitivity: &Sensitivity, graph: u32, choices: &Choices) -> Vec<Cost> {
    let tenths = |db: f64| (10.0 * db).round() as f32 / 10.0;
    let cost = |(i, tensor): (usize, &u32)| {
        let costs = sensitivity.costs(i);
        let db = costs[..costs.len() - 1].iter().map(|d| tenths(sqnr_db(*d))).collect();
        Cost { graph, tensor: *tensor, db, ..Cost::default() }
    };
    let mut stored: Vec<Cost> = choices.tensors.iter().enumerate().map(cost).collect();
    stored.sort_by_key(|cost| cost.tensor);
    stored
}

/// Measures every tensor at every coarser precision.
///
/// # Errors
/// When a sample does not suit the model, or the evaluator was stopped.
pub fn sensitivities(
    evaluator: &Evaluator<'_>,
    draft: &Draft,
    graph: u32,
    choices: &Choices,
    probes: &Probes<'_>,
    mut progress: impl FnMut(usize, usize),
) -> Result<Sensitivity, ConvertError> {
    let candidate = draft.candidate();
    let finest = choices.finest();
    let mut rung = plain_rung("probe", graph, Acts::F32);
    let mut takes = finest.clone();
    let total = finest.iter().map(|t| t - 1).sum();
    let mut done = 0;
    let mut by_tensor = Vec::with_capacity(finest.len());
    for (tensor, levels) in finest.iter().enumerate() {
        let mut costs = Vec::with_capacity(*levels);
        for take in 1..*levels {
            takes[tensor] = take;
            rung.takes = choices.takes(draft, &takes);
            costs.push(evaluator.distortion(&candidate, &rung, probes)?);
            done += 1;
            progress(done, total);
        }
        takes[tensor] = *levels;
        costs.push(0.0);
        by_tensor.push(costs);
    }
    Ok(Sensitivity { by_tensor })
}

/// By tensor, what it costs the outputs beyond its finest integer take that products of integers take it with one scale a row; measured with
/// f32 activations and the codes as floats. 0 where it has no such codes.
///
/// # Errors
/// When a sample does not suit the model, an expression is not sound, or the evaluator was stopped.
pub fn code_costs(
    evaluator: &Evaluator<'_>,
    draft: &Draft,
    graph: u32,
    choices: &Choices,
    sensitivity: &Sensitivity,
    probes: &Probes<'_>,
    mut progress: impl FnMut(usize, usize),
) -> Result<Vec<f64>, ConvertError> {
    let mut costs = vec![0.0; choices.tensors.len()];
    for (t, (tensor, root)) in choices.tensors.iter().zip(&choices.nested).enumerate() {
        progress(t, costs.len());
        let take = root.integer_take();
        let mut with = draft.fork();
        let Some(expr) = coded(&mut with, *tensor, root, take)? else { continue };
        with.header.tensors[*tensor as usize].roots[0] = expr;
        let mut rung = plain_rung("probe", graph, Acts::F32);
        rung.takes = choices.takes(draft, &choices.finest());
        rung.takes[*tensor as usize] = Some(Take(0, 1));
        let cost = evaluator.distortion(&with.candidate(), &rung, probes)?;
        costs[t] = (cost - sensitivity.of(t, take)).max(0.0);
    }
    Ok(costs)
}
