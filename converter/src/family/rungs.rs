//! The rungs of subnets: each graph of a draft at every precision that pays.

use crate::compress::{Level, PLANE_BITS, Root};
use crate::convert::{Options, Watch};
use crate::draft::Draft;
use crate::error::ConvertError;
use crate::ladder::{self, Choices, FINE, Integer, Part, Probes, Profile};
use crate::measure::{Evaluator, Outputs, smoothed, sqnr_db};
use crate::samples::Sample;
use crate::units::Units;
use edge_runtime::graph::{Source, ValueId};
use edge_runtime::pack::{Quality, Rung, Take};
use edge_runtime::weights::{Registry, needed_blobs};
use std::time::Duration;

/// Samples that a rung's quality is measured on: labels need many.
pub const HELD_OUT: usize = 256;

/// What one graph's precision is measured by.
pub struct Probed {
    /// The float model's outputs for the probes.
    pub want: Vec<Outputs>,
    /// What of these counts as an output of its own.
    pub units: Units,
    /// Elements of each value.
    pub elements: Vec<usize>,
}

/// Rungs of every graph of the draft, in ladder order graph by graph, and the names of values that stay floats in integer rungs.
///
/// # Errors
/// When a sample does not suit a graph, or the evaluator was stopped.
pub fn candidates(
    evaluator: &Evaluator<'_>,
    draft: &mut Draft,
    probed: &[Probed],
    probes: &[Sample],
    options: &Options,
    watch: &mut dyn Watch,
) -> Result<(Vec<Rung>, Vec<String>), ConvertError> {
    let (mut candidates, mut float_values) = (Vec::new(), Vec::new());
    watch.stage("measure tensors", probed.len());
    for (graph, Probed { want, units, elements }) in probed.iter().enumerate() {
        let choices = choices(draft, graph)?;
        let probes = Probes::new(probes, want, units);
        let sensitivity =
            ladder::sensitivities(evaluator, draft, graph as u32, &choices, &probes, |_, _| {})?;
        draft.header.costs.extend(ladder::stored_costs(&sensitivity, graph as u32, &choices));
        let prices = ladder::prices(draft, graph as u32, &choices, elements);
        let mut integer = Integer {
            evaluator,
            draft: &*draft,
            graph: graph as u32,
            choices: &choices,
            sensitivity: &sensitivity,
            probes,
            judges: probes,
            elements,
            prices: &prices,
            aim: FINE,
            profile: Profile::integers(&choices),
        };
        integer.search(|_, _, _| {})?;
        let named = |v: &ValueId| format!("s{graph}: {}", integer.name(Part::Value(*v)));
        float_values.extend(integer.profile.floats.iter().map(named));
        let mut profile = integer.profile;
        // There is one profile, so its floats are the graph's.
        for value in std::mem::take(&mut profile.floats) {
            draft.header.graphs[graph].values[value as usize].range = None;
        }
        let all = choices.bytes(draft, &choices.finest());
        let sizes = options.wishes.weight_sizes(draft, graph as u32, all)?;
        let steps = ladder::climb(draft, &choices, &sensitivity, &sizes);
        let prefix = format!("s{graph}-");
        let rungs = ladder::rungs(draft, &choices, &steps, &[profile], false, graph as u32, &prefix);
        candidates.extend(rungs.into_iter().map(|(rung, _)| rung));
        watch.progress(graph + 1);
    }
    Ok((candidates, float_values))
}

/// Rungs with their quality and arena, and how long each takes when that is asked for.
type Measured = (Vec<Rung>, Vec<(String, Duration)>);

/// Measures rungs on samples held out: accuracy where these are labelled, else the distance to the largest subnet's floats.
///
/// # Errors
/// As [`candidates`].
pub fn measured(
    evaluator: &Evaluator<'_>,
    draft: &Draft,
    candidates: Vec<Rung>,
    held: &Probes<'_>,
    origin: &str,
    options: &Options,
    watch: &mut dyn Watch,
) -> Result<Measured, ConvertError> {
    watch.stage("measure rungs", candidates.len());
    let candidate = draft.candidate();
    let opened = candidate.model();
    let labels: Option<Vec<usize>> = held.samples.iter().map(|s| s.label).collect();
    let (mut measured, mut latencies) = (Vec::with_capacity(candidates.len()), Vec::new());
    let mut labelled = Vec::new();
    for (i, mut rung) in candidates.into_iter().enumerate() {
        let value = match &labels {
            Some(labels) => {
                labelled.push(evaluator.labelled(&candidate, &rung, held, labels)?);
                0.0
            }
            None => sqnr_db(evaluator.distortion(&candidate, &rung, held)?),
        };
        let metric = if labels.is_some() { "top1_percent" } else { "sqnr_db" };
        let samples = format!("{} held out from {origin}", held.samples.len());
        rung.quality = Some(Quality { metric: metric.into(), value: value as f32, samples });
        rung.arena = evaluator.arena(opened, &rung, &held.samples[0])?;
        if options.wishes.max_latency.is_some() || options.device.is_some() {
            latencies.push((rung.id.clone(), evaluator.latency(opened, &rung, &held.samples[0])?));
        }
        measured.push(rung);
        watch.progress(i + 1);
    }
    // A few hundred labels tell rungs apart by luck; how likely each finds them does not.
    for (rung, value) in measured.iter_mut().zip(smoothed(&labelled)) {
        if let Some(quality) = &mut rung.quality {
            quality.value = value as f32;
        }
    }
    Ok((measured, latencies))
}

/// What the ladder may choose of a subnet's tensors: the planes of each, and the bytes that a plane of the part that the
/// subnet sees adds.
fn choices(draft: &Draft, graph: usize) -> Result<Choices, ConvertError> {
    let mut tensors: Vec<u32> = draft.header.graphs[graph]
        .values
        .iter()
        .filter_map(|value| match value.source {
            Source::Weight(tensor) => Some(tensor),
            _ => None,
        })
        .collect();
    tensors.sort_unstable();
    tensors.dedup();
    let registry = Registry::standard();
    let mut nested = Vec::with_capacity(tensors.len());
    for &tensor in &tensors {
        let (mut bits, mut levels) = (0, Vec::with_capacity(PLANE_BITS.len()));
        for (plane, width) in PLANE_BITS.iter().enumerate() {
            bits += width;
            let take = Take(0, plane as u32 + 1);
            let blobs = needed_blobs(&registry, &draft.header, tensor as usize, take)
                .map_err(edge_runtime::plan::PlanError::from)?;
            levels.push(Level { bits, rank: 0, blobs });
        }
        let expr = draft.header.tensors[tensor as usize].roots[0].clone();
        // Others may read the root as it is.
        nested.push(Root { expr, levels, one_scale: None });
    }
    Ok(Choices::new(tensors, nested))
}
