//! What single parts of a model cost its outputs where integers hold them: see [`crate::ladder::Costs`].

use crate::calibrate::{self, Fold, Seen};
use crate::convert::Watch;
use crate::draft::{Draft, plain_rung};
use crate::error::ConvertError;
use crate::ladder::{self, Choices, Costs, Probes, Sensitivity};
use crate::measure::Evaluator;
use crate::samples::Sample;
use crate::units::Units;
use edge_runtime::pack::Acts;

/// Most samples that single values are rounded on: each costs a run a value.
const PROBES: usize = 8;
/// Elements that these samples may compute in one run; a large model is judged on a few.
const WORK: usize = 48 << 20;
/// Parts of these that are judged with the ranges of all other samples.
const FOLDS: usize = 4;

/// A model between its float reference and its ladder.
pub(crate) struct Subject<'a> {
    pub evaluator: &'a Evaluator<'a>,
    /// Its first rung is the model in floats.
    pub float: &'a Draft,
    pub draft: &'a Draft,
    pub graph: u32,
    pub choices: &'a Choices,
    pub sensitivity: &'a Sensitivity,
    pub units: &'a Units,
}

/// What single parts cost.
pub(crate) struct Alone {
    /// By value of the graph.
    values: Vec<f64>,
    /// By tensor.
    codes: Vec<f64>,
}

impl Alone {
    /// Rounds each value that integers can hold, and each tensor's codes of one scale a row, on samples spread over `calibration`. `elements`
    /// is what a run computes, by value.
    ///
    /// # Errors
    /// When a sample does not suit the model, an expression is not sound, or the evaluator was stopped.
    pub fn measure(
        subject: &Subject<'_>,
        calibration: &[Sample],
        seen: &Seen,
        elements: &[usize],
        tensors: &Probes<'_>,
        watch: &mut dyn Watch,
    ) -> Result<Alone, ConvertError> {
        let Subject { evaluator, float, draft, graph, choices, sensitivity, units } = *subject;
        let count = (WORK / elements.iter().sum::<usize>().max(1)).clamp(2, PROBES);
        let places = Probes::spread(calibration.len(), count);
        let samples: Vec<Sample> = places.iter().map(|i| calibration[*i].clone()).collect();
        let want = evaluator.run(&float.open(), &float.header.rungs[0], &samples)?;
        let fold = |fold: usize| {
            let probes: Vec<usize> = (0..places.len()).filter(|i| i % FOLDS == fold).collect();
            let without: Vec<usize> = probes.iter().map(|i| places[*i]).collect();
            Fold { probes, ranges: seen.ranges(&without) }
        };
        let folds: Vec<Fold> = (0..FOLDS.min(places.len())).map(fold).collect();
        let mut rung = plain_rung("integer", graph, Acts::I8);
        rung.takes = choices.takes(draft, &choices.integer_takes());
        let mut held = calibrate::held(evaluator, &draft.open(), &rung, &samples[0])?;
        // Where the model itself rounds a value, floats do so as well.
        held.retain(|v| draft.header.graphs[graph as usize].values[*v as usize].codes.is_none());
        watch.stage("measure values", held.len());
        let probes = Probes::new(&samples, &want, units);
        let values = calibrate::alone(evaluator, float, &held, &folds, &probes, |done, total| {
            watch.progress_of(done, total);
        })?;
        watch.stage("measure rows", choices.tensors.len());
        let codes =
            ladder::code_costs(evaluator, draft, graph, choices, sensitivity, tensors, |done, total| {
                watch.progress_of(done, total);
            })?;
        Ok(Alone { values, codes })
    }

    /// What each part costs.
    pub fn costs<'a>(&'a self, sensitivity: &'a Sensitivity) -> Costs<'a> {
        Costs { tensors: sensitivity, codes: &self.codes, values: &self.values }
    }
}
