//! What each tensor's precision costs at the outputs, measured in the real runtime.

use super::{Choices, Probes};
use crate::candidate::Candidate;
use crate::compress::coded;
use crate::draft::{Draft, plain_rung};
use crate::error::ConvertError;
use crate::measure::{Evaluator, sqnr_db};
use edge_runtime::graph::TensorId;
use edge_runtime::pack::{Acts, Cost, Rung, Take};
use edge_runtime::plan::{Matrix, Plan, PlanOptions};
use std::collections::BTreeSet;

/// Output distortion by tensor and take, the others being at their finest.
#[derive(Clone, Debug)]
pub struct Sensitivity {
    by_tensor: Vec<Vec<f64>>,
    /// By tensor, the same as others of its size have it, for one that no sample reads: its branch was not taken.
    guessed: Vec<Option<Vec<f64>>>,
}

impl Sensitivity {
    /// Of these distortions, by tensor and take.
    #[cfg(test)]
    pub(super) fn new(by_tensor: Vec<Vec<f64>>) -> Sensitivity {
        let guessed = vec![None; by_tensor.len()];
        Sensitivity { by_tensor, guessed }
    }

    /// Guesses for tensors that are not read, from those that are: what these cost an element together, by take counted from the
    /// finest.
    fn guess(mut self, read: &[bool], elements: &[f64]) -> Sensitivity {
        let ranks = self.by_tensor.iter().map(Vec::len).max().unwrap_or(0);
        let each = |from_finest: usize| {
            let known = (0..read.len()).filter(|t| read[*t] && self.by_tensor[*t].len() > from_finest);
            let (costs, all) = known.fold((0.0, 0.0), |(costs, all), t| {
                let of_tensor = &self.by_tensor[t];
                (costs + of_tensor[of_tensor.len() - 1 - from_finest], all + elements[t])
            });
            if all == 0.0 { 0.0 } else { costs / all }
        };
        let each: Vec<f64> = (0..ranks).map(each).collect();
        for (t, guessed) in self.guessed.iter_mut().enumerate().filter(|(t, _)| !read[*t]) {
            let takes = self.by_tensor[t].len();
            *guessed = Some((0..takes).map(|take| elements[t] * each[takes - 1 - take]).collect());
        }
        self
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

    /// Whether any sample reads a tensor.
    pub fn is_read(&self, tensor: usize) -> bool {
        self.guessed[tensor].is_none()
    }

    /// Distortion when `tensor` has this take: measured, or guessed where nothing could be.
    pub fn expected(&self, tensor: usize, take: usize) -> f64 {
        match &self.guessed[tensor] {
            Some(costs) => costs.get(take - 1).copied().unwrap_or(0.0),
            None => self.of(tensor, take),
        }
    }

    /// Distortion when `tensor` has this take, on the samples: none for one that they do not read.
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
    rung.takes = choices.takes(draft, &takes);
    let all = read(&candidate, &rung, probes)?;
    let read: Vec<bool> = choices.tensors.iter().map(|tensor| all.contains(tensor)).collect();
    let total = finest.iter().map(|t| t - 1).sum();
    let mut done = 0;
    let mut by_tensor = Vec::with_capacity(finest.len());
    for (tensor, levels) in finest.iter().enumerate() {
        if !read[tensor] {
            by_tensor.push(vec![0.0; *levels]);
            done += levels - 1;
            continue;
        }
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
    let guessed = vec![None; by_tensor.len()];
    let size = |tensor: &TensorId| {
        let tensor = &draft.header.tensors[*tensor as usize];
        (tensor.n * tensor.k) as f64
    };
    let elements: Vec<f64> = choices.tensors.iter().map(size).collect();
    Ok(Sensitivity { by_tensor, guessed }.guess(&read, &elements))
}

/// The tensors that runs of the samples read: not those of branches that none of them takes.
fn read(
    candidate: &Candidate<'_>,
    rung: &Rung,
    probes: &Probes<'_>,
) -> Result<BTreeSet<TensorId>, ConvertError> {
    let mut read = BTreeSet::new();
    for sample in probes.samples {
        let plan = Plan::new(candidate.model(), rung, &sample.specs(), &PlanOptions::default())?;
        read.extend(plan.steps.iter().flat_map(|step| &step.weights).filter_map(Matrix::tensor));
    }
    Ok(read)
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

#[cfg(test)]
mod tests {
    use super::Sensitivity;

    #[test]
    fn what_no_sample_reads_costs_what_others_of_its_size_do() {
        let by_tensor =
            vec![vec![0.4, 0.1, 0.0], vec![0.0, 0.0, 0.0], vec![0.2, 0.0], vec![0.0, 0.0, 0.0, 0.0]];
        let sensitivity =
            Sensitivity::new(by_tensor).guess(&[true, false, true, false], &[10., 20., 30., 1.]);
        assert!(sensitivity.is_read(0) && !sensitivity.is_read(1));
        // 0.1 + 0.2 for 40 elements; 0.4 for 10: only the first tensor has a third take from the finest.
        let costs =
            |t: usize, n: usize| (1..=n).map(|take| sensitivity.expected(t, take)).collect::<Vec<_>>();
        let near = |got: Vec<f64>, want: &[f64]| got.iter().zip(want).all(|(a, b)| (a - b).abs() < 1e-12);
        assert!(near(costs(1, 3), &[0.8, 0.15, 0.0]), "{:?}", costs(1, 3));
        assert!(near(costs(3, 4), &[0.0, 0.04, 0.0075, 0.0]), "{:?}", costs(3, 4));
        assert!(near(costs(0, 3), &[0.4, 0.1, 0.0]));
        assert_eq!(sensitivity.of(1, 1), 0.0);
    }
}
