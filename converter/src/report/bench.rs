//! Planning and timing the rungs of a page on this machine.

use super::page::{Planned, RungFigures};
use crate::convert::Watch;
use crate::error::ConvertError;
use crate::measure::Evaluator;
use crate::samples::Sample;
use edge_runtime::Model;
use edge_runtime::plan::{Plan, PlanOptions};
use edge_runtime::select::{self, Need, Request};
use std::cmp::Reverse;
use std::sync::Arc;

/// Times that all rungs are timed, one after the other: what else the machine does in a moment hits one of them.
pub(super) const ROUNDS: usize = 3;

/// Where rungs are planned and run.
pub(super) struct Bench<'a> {
    pub evaluator: &'a Evaluator<'a>,
    pub model: &'a Arc<Model>,
    pub sample: &'a Sample,
    pub available: &'a [usize],
}

impl Bench<'_> {
    /// What each rung takes, and how its arena is used.
    pub fn plan(&self, rungs: &mut [RungFigures]) -> Result<(), ConvertError> {
        let (device, specs) = (self.evaluator.device(), self.sample.specs());
        let request = Request { available: self.available, ..Request::default() };
        let chosen = select::select(device, self.model, &specs, &request)?;
        let candidates = select::candidates(device, self.model, &specs, &request, &chosen)?;
        let options = PlanOptions { threads: device.pool().threads(), ..PlanOptions::default() };
        for candidate in candidates {
            let rung = &self.model.header().rungs[candidate.rung];
            let plan = Plan::new(self.model, rung, &specs, &options)?;
            rungs[candidate.rung].planned = Some(planned(&candidate.need, &plan));
        }
        Ok(())
    }

    /// How long each rung takes; the greatest ratio of two medians of one rung.
    pub fn time(&self, rungs: &mut [RungFigures], watch: &mut dyn Watch) -> Result<f64, ConvertError> {
        watch.stage("measure latencies", ROUNDS * self.available.len());
        let mut medians: Vec<Vec<f64>> = vec![Vec::with_capacity(ROUNDS); self.available.len()];
        for round in 0..ROUNDS {
            for (at, i) in self.available.iter().enumerate() {
                let rung = &self.model.header().rungs[*i];
                let time = self.evaluator.latency(self.model, rung, self.sample)?;
                medians[at].push(time.as_secs_f64() * 1e3);
                watch.progress(round * self.available.len() + at + 1);
            }
        }
        let mut spread = 1.0f64;
        for (i, medians) in self.available.iter().zip(&medians) {
            let least = medians.iter().copied().fold(f64::INFINITY, f64::min);
            spread = spread.max(medians.iter().copied().fold(least, f64::max) / least.max(1e-6));
            rungs[*i].latency_ms = Some(least);
        }
        Ok(spread)
    }
}

fn planned(need: &Need, plan: &Plan) -> Planned {
    let live = plan.live_at_steps();
    let peak = (0..plan.steps.len()).max_by_key(|i| (live[*i], Reverse(*i)));
    let step = |i: usize| {
        let step = &plan.steps[i];
        let name = plan.names.get(step.name as usize).map(String::as_str).unwrap_or_default();
        format!("{name} ({})", step.op.name())
    };
    Planned {
        weights: need.weights,
        arena: need.arena,
        plan: need.plan,
        live,
        peak_step: peak.map(step).unwrap_or_default(),
    }
}
