//! What the search of subnets measures.

use super::elastic::Family;
use super::making::{Making, named};
use super::search::{self, Found, Measure, Searched};
use super::source::Subnets;
use super::statistics::{batches, train_mode};
use super::store::{self, Precision};
use crate::convert::Watch;
use crate::draft::{Draft, plain_rung};
use crate::error::ConvertError;
use crate::journal::{Key, Mix};
use crate::measure::{Outputs, log_softmax, sqnr_db};
use crate::model::Model;
use crate::samples::{Sample, Samples};
use edge_runtime::SessionError;
use edge_runtime::graph::{Mixed, Source, Value};
use edge_runtime::pack::{Acts, Choice, Header, Subnet, Take};
use edge_runtime::plan::{Plan, PlanError, PlanOptions};
use edge_runtime::subnet;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Subnets that get rungs at most: each is measured tensor by tensor, and brings statistics of its own.
const FRONT: usize = 8;
/// Samples that a search measures a subnet on.
const SEARCHED: usize = 256;

impl Making<'_> {
    /// The subnets that get rungs, smallest first, and all that the search looked at.
    pub fn front(
        &self,
        family: &Family,
        whole: &Model,
        samples: &Samples,
        name: &Key,
        watch: &mut dyn Watch,
    ) -> Result<(Vec<Found>, Searched), ConvertError> {
        let draft = store::draft(family, Precision::Exact)?;
        let measured = &samples.calibration[..samples.calibration.len().min(SEARCHED)];
        let labels: Option<Vec<usize>> = measured.iter().map(|s| s.label).collect();
        let batches = batches(&whole.graph, measured);
        let largest = self.supernet.largest();
        let want = match &labels {
            Some(_) => Vec::new(),
            None => train_mode(self.evaluator, self.supernet, &largest, &batches)?.outputs,
        };
        watch.stage("search subnets", 1);
        let mut measure = Searching {
            making: self,
            draft: &draft,
            sample: &measured[0],
            batches,
            labels,
            want,
            name,
            watch,
        };
        let options: Vec<usize> =
            self.supernet.variables().iter().map(|variable| variable.options.len()).collect();
        let searched = search::search(&options, &mut measure)?;
        let mut front = search::front(&searched.found, FRONT);
        // The largest network is what everything is compared with.
        if front.last().is_none_or(|last| last.choice != largest) {
            front.extend(searched.found.iter().find(|f| f.choice == largest).cloned());
        }
        Ok((front, searched))
    }
}

/// What the search measures.
struct Searching<'a, 'b> {
    making: &'a Making<'a>,
    /// Exact and elastic.
    draft: &'a Draft,
    sample: &'a Sample,
    batches: Vec<Sample>,
    labels: Option<Vec<usize>>,
    want: Vec<Outputs>,
    name: &'a Key,
    watch: &'b mut dyn Watch,
}

impl Measure for Searching<'_, '_> {
    type Error = ConvertError;

    fn cost(&mut self, choice: &[usize]) -> Result<search::Cost, ConvertError> {
        let board = self.making.evaluator.board();
        let mut mix = Mix::of("subnet cost and arena").key(self.name).debug(&choice);
        if let Some(board) = board {
            mix = mix.bytes(board.hash());
        }
        let key = mix.done();
        let numbers = self.making.evaluator.known(key, 3, || {
            let choice = Choice::new(choice).unwrap_or_default();
            let subnets = vec![Subnet { graph: 0, choice, overlay: None }];
            let header = Arc::new(Header { subnets, ..self.draft.header.clone() });
            let source = self.draft.source();
            let made = subnet::make(&header, 0, source.as_ref()).map_err(PlanError::from)?;
            // Of what is mixed, every expert is there.
            let elastic = self.draft.header.graphs[0].elastic.iter();
            let mixed: Vec<&Mixed> = elastic.flat_map(|e| &e.mixtures).flat_map(|m| &m.values).collect();
            let mut elements: BTreeMap<u32, usize> = BTreeMap::new();
            for (value, Value { source, .. }) in made.header.graphs[0].values.iter().enumerate() {
                let Source::Weight(id) = *source else { continue };
                let mixed = mixed.iter().find(|mixed| mixed.value as usize == value);
                let experts = mixed.map_or(1, |mixed| mixed.experts.len());
                elements.insert(id, made.header.tensor(id).map_or(0, |t| t.n * t.k) * experts);
            }
            let weights: usize = elements.values().sum();
            let mut rung = plain_rung("cost", 0, Acts::F32);
            rung.takes = made.shown.iter().map(|shown| shown.map(|_| Take(0, 1))).collect();
            let registry = Arc::new(edge_runtime::weights::Registry::standard());
            let model = edge_runtime::Model::new(Arc::new(made.header), source, registry);
            let plan = Plan::new(&model, &rung, &self.sample.specs(), &PlanOptions::default())?;
            let work = match board {
                Some(board) => {
                    let plan = Plan::new(&model, &rung, &self.sample.specs(), &board.options())?;
                    board.time(&plan).as_nanos() as u64
                }
                None => plan.steps.iter().map(|step| step.work().multiply_adds).sum(),
            };
            Ok(vec![weights as f64, work as f64, plan.memory() as f64])
        });
        let numbers = planned(self.making.supernet, choice, numbers)?;
        let [weights, work, arena] = [numbers[0] as u64, numbers[1] as u64, numbers[2] as u64];
        Ok(search::Cost { weights, work, arena })
    }

    fn quality(&mut self, choice: &[usize]) -> Result<f64, ConvertError> {
        let key = Mix::of("subnet quality").key(self.name).debug(&choice).done();
        let numbers = self.making.evaluator.known(key, 1, || {
            let trained = train_mode(self.making.evaluator, self.making.supernet, choice, &self.batches)?;
            Ok(vec![match &self.labels {
                Some(labels) => log_likelihood(&trained.outputs, labels),
                None => sqnr_db(crate::measure::distortion(&self.want, &trained.outputs)),
            }])
        })?;
        Ok(numbers[0])
    }

    fn progress(&mut self, done: usize, of: usize) {
        self.watch.progress_of(done, of);
    }
}

/// The mean logarithm of what the softmax of the first output gives the right class: tells subnets apart that are right as often.
fn log_likelihood(batches: &[Outputs], labels: &[usize]) -> f64 {
    let rows: usize = labels.len();
    let elements: usize = batches.iter().filter_map(|b| b.first()).map(Vec::len).sum();
    let classes = (elements / rows.max(1)).max(1);
    let all = batches.iter().filter_map(|b| b.first()).flat_map(|first| first.chunks_exact(classes));
    let of = |(row, label): (&[f32], &usize)| log_softmax(row, *label);
    all.zip(labels).map(of).sum::<f64>() / rows.max(1) as f64
}

/// A subnet that has no plan, where the largest network has one, is described wrongly.
fn planned<T>(
    supernet: &dyn Subnets,
    choice: &[usize],
    done: Result<T, ConvertError>,
) -> Result<T, ConvertError> {
    match done {
        Err(ConvertError::Plan(e) | ConvertError::Session(SessionError::Plan(e)))
            if choice != supernet.largest() =>
        {
            Err(ConvertError::Supernet { why: format!("with {}: {e}", named(supernet, choice)) })
        }
        done => done,
    }
}
