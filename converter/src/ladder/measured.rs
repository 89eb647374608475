//! The rungs of a chain, measured on samples held out, and those between them.

use super::chain::{Kind, Link, bounded, link, undominated};
use super::gaps::fill;
use super::sensitivity::Sensitivity;
use super::{Choices, Probes};
use crate::candidate::Candidate;
use crate::convert::Watch;
use crate::draft::{plain_rung, rung_id};
use crate::error::ConvertError;
use crate::measure::{Evaluator, sqnr_db};
use edge_runtime::pack::{Acts, Quality, Rung};
use std::time::Duration;

/// How often gaps between rungs are looked at: what fills one may leave one behind it, as what it is better than falls out.
const ROUNDS: usize = 3;

/// What rungs are measured with.
pub struct Measurer<'a> {
    /// Runs them.
    pub evaluator: &'a Evaluator<'a>,
    /// The draft that they are of.
    pub candidate: &'a Candidate<'a>,
    /// Samples held out.
    pub held: Probes<'a>,
    /// Where these come from.
    pub origin: &'a str,
    /// Whether to time each rung.
    pub timed: bool,
    /// The times, by rung.
    pub latencies: Vec<(String, Duration)>,
}

impl Measurer<'_> {
    /// Rungs with their quality, in the order of bytes, without those that others make superfluous.
    ///
    /// # Errors
    /// When a run fails or is stopped.
    pub fn measured(
        &mut self,
        rungs: Vec<(Rung, Kind)>,
        watch: &mut dyn Watch,
    ) -> Result<Vec<Link>, ConvertError> {
        watch.stage("measure rungs", rungs.len());
        let mut measured = Vec::with_capacity(rungs.len());
        for (i, (rung, kind)) in rungs.into_iter().enumerate() {
            measured.push(self.link(rung, kind)?);
            watch.progress(i + 1);
        }
        Ok(undominated(bounded(measured)))
    }

    /// The chain with rungs of floats in its gaps, as far as any are better than what lies below. `judges` order the steps: what orders them must
    /// not be what states their quality.
    ///
    /// # Errors
    /// As [`Measurer::measured`].
    pub fn filled(
        &mut self,
        mut chain: Vec<Link>,
        graph: u32,
        choices: &Choices,
        sensitivity: &Sensitivity,
        judges: &Probes<'_>,
        watch: &mut dyn Watch,
    ) -> Result<Vec<Link>, ConvertError> {
        let (draft, evaluator, candidate) = (self.candidate.draft(), self.evaluator, self.candidate);
        let rung = |id: &str, takes: &[usize]| Rung {
            takes: choices.takes(draft, takes),
            ..plain_rung(id, graph, Acts::F32)
        };
        watch.stage("fill gaps", ROUNDS);
        for round in 1..=ROUNDS {
            let between = fill(draft, choices, sensitivity, &chain, |takes| {
                evaluator.distortion(candidate, &rung("between", takes), judges)
            })?;
            let mut named: Vec<Rung> = chain.iter().map(|link| link.rung.clone()).collect();
            for takes in between {
                let id = rung_id(&named, "", choices.mean_bits(draft, &takes), "");
                named.push(rung(&id, &takes));
                chain.push(self.link(rung(&id, &takes), Kind::Floats)?);
            }
            chain = undominated(chain);
            watch.progress(round);
        }
        Ok(chain)
    }

    fn link(&mut self, mut rung: Rung, kind: Kind) -> Result<Link, ConvertError> {
        let (opened, samples) = (self.candidate.model(), self.held.samples);
        rung.quality = Some(Quality {
            metric: "sqnr_db".to_string(),
            value: sqnr_db(self.evaluator.distortion(self.candidate, &rung, &self.held)?) as f32,
            samples: format!("{} held out from {}", samples.len(), self.origin),
        });
        rung.arena = self.evaluator.arena(opened, &rung, &samples[0])?;
        if self.timed {
            self.latencies.push((rung.id.clone(), self.evaluator.latency(opened, &rung, &samples[0])?));
        }
        link(self.candidate.draft(), opened, (rung, kind))
    }
}
