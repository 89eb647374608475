//! What rungs' noise is made of: each tensor's share and each value's.
//!
//! Distortions of parts that are coarse one at a time add up as long as they are small. So the sum says what a rung loses and which part
//! loses most of it; the whole measured on the same samples says how far that is true.

use super::sensitivity::Sensitivity;
use super::{Choices, Probes};
use crate::candidate::Candidate;
use crate::error::ConvertError;
use crate::measure::{Evaluator, sqnr_db};
use edge_runtime::graph::ValueId;
use edge_runtime::pack::{Acts, Parts, Rung};

/// What each part costs the outputs, alone.
pub struct Costs<'a> {
    /// By tensor and take.
    pub tensors: &'a Sensitivity,
    /// By tensor: what one scale a row costs integer products beyond that, where it has one.
    pub codes: &'a [f64],
    /// By value: what 8 bits cost where a rung of integers holds it.
    pub values: &'a [f64],
}

impl Costs<'_> {
    /// What a rung's noise is made of, and that of the whole on `probes`; `None` for a rung that takes weights which are no part of the ladder.
    ///
    /// # Errors
    /// When a sample does not suit the model, or the evaluator was stopped.
    pub fn parts(
        &self,
        evaluator: &Evaluator<'_>,
        candidate: &Candidate<'_>,
        choices: &Choices,
        rung: &Rung,
        probes: &Probes<'_>,
    ) -> Result<Option<Parts>, ConvertError> {
        let of_ladder = |(tensor, coded): (&u32, &Option<u32>)| {
            let root = rung.takes.get(*tensor as usize).copied().flatten().map(|take| take.0);
            root.is_none_or(|root| root == 0 || Some(root) == *coded)
        };
        if !choices.tensors.iter().zip(&choices.coded).all(of_ladder) {
            return Ok(None);
        }
        let draft = candidate.draft();
        let graph = &draft.header.graphs[rung.graph as usize];
        let integer = rung.acts == Acts::I8;
        let tensor = |(t, take): (usize, usize)| {
            let id = choices.tensors[t] as usize;
            let root = rung.takes[id].map(|take| &draft.header.tensors[id].roots[take.0 as usize]);
            let has_codes = integer && root.is_some() && root == choices.nested[t].one_scale.as_ref();
            let codes = if has_codes { self.codes.get(t).copied().unwrap_or(0.0) } else { 0.0 };
            let cost = if take == 0 { 0.0 } else { self.tensors.of(t, take) };
            (cost + codes, draft.header.tensors[id].name.as_str())
        };
        let tensors = choices.of_rung(rung).into_iter().enumerate().map(tensor);
        let is_float = |v: usize| rung.floats.binary_search(&(v as ValueId)).is_ok();
        let values = graph.values.iter().enumerate();
        let values = values.filter(|(v, value)| integer && value.range.is_some() && !is_float(*v));
        let values =
            values.map(|(v, _)| (self.values.get(v).copied().unwrap_or(0.0), graph.name(v as ValueId)));
        let (mut sum, mut worst) = (0.0, (0.0, ""));
        for part in tensors.chain(values) {
            sum += part.0;
            if part.0 > worst.0 {
                worst = part;
            }
        }
        let tenths = |db: f64| (10.0 * db).round() as f32 / 10.0;
        Ok(Some(Parts {
            sum: tenths(sqnr_db(sum)),
            together: tenths(sqnr_db(evaluator.distortion(candidate, rung, probes)?)),
            worst: worst.1.to_string(),
            share: if sum > 0.0 { (100.0 * worst.0 / sum).round() as f32 / 100.0 } else { 0.0 },
        }))
    }
}
