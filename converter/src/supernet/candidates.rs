//! What is expected of subnets that get no rungs: the pack's table of them, so that a device finds one for any budget.
//!
//! A subnet without statistics of its own runs with the nearest one's, and is worse for it by nobody knows how much. So some subnets are measured
//! just as a device would run them, and what the search expected of the others is brought to these measurements by least squares: a constant, the
//! search's number, and the distance to the nearest.

use super::search::{Cost, Found, Searched};
use crate::draft::Draft;
use crate::error::ConvertError;
use crate::ladder::Probes;
use crate::measure::{Evaluator, sqnr_db, top1};
use edge_runtime::pack::{BlobId, Candidates, Choice, Rung};
use edge_runtime::plan::PlanError;
use edge_runtime::subnet::{Cut, plays};
use nalgebra::{Matrix3, Vector3};
use std::sync::Arc;

/// Share of the pack that the table may take.
const SHARE: u64 = 50;
/// Entries at most.
const MOST: usize = 4096;
/// Entries that are measured.
const MEASURED: usize = 32;
/// Ridge of the fit, in measurements: what they do not tell apart has no weight.
const RIDGE: f64 = 1e-3;

/// A subnet of the table: with what plays a part of its choice.
struct Entry {
    part: Vec<Option<u8>>,
    choice: Vec<usize>,
    cost: Cost,
    expected: f64,
}

/// Adds the table to a draft whose rungs stand; gives its blob, or none when there is nothing to say.
///
/// # Errors
/// When a subnet cannot be made or run.
pub fn candidates(
    evaluator: &Evaluator<'_>,
    draft: &mut Draft,
    searched: &Searched,
    held: &Probes<'_>,
) -> Result<Option<BlobId>, ConvertError> {
    let largest = draft.header.rungs.iter().map(|rung| rung.bytes).max().unwrap_or(0);
    let best = draft.header.rungs.iter().filter_map(|rung| rung.quality.as_ref());
    let Some(best) = best.max_by(|a, b| a.value.total_cmp(&b.value)).cloned() else { return Ok(None) };
    let Some(elastic) = draft.header.graphs[0].elastic.as_deref() else { return Ok(None) };
    let entry = elastic.variables.len() + 16;
    let most = ((largest / SHARE) as usize / entry).min(MOST);
    let own: Vec<Vec<usize>> =
        draft.header.subnets.iter().map(|subnet| subnet.choice.options().collect()).collect();
    let entries = kept(draft, searched, &own, most.max(own.len() + 1))?;
    if entries.len() <= own.len() {
        return Ok(None);
    }

    let model = draft.open();
    let labels: Option<Vec<usize>> = held.samples.iter().map(|s| s.label).collect();
    let others = entries.len() - own.len();
    let parts: Vec<Vec<Option<u8>>> = entries.iter().map(|entry| entry.part.clone()).collect();
    let apart = model.distances(0, &parts)?;
    let mut rows: Vec<(Vector3<f64>, f64)> = Vec::new();
    for i in 0..MEASURED.min(others) {
        let at = own.len() + i * others / MEASURED.min(others);
        let Entry { choice, expected, .. } = &entries[at];
        let cut = model.subnet(0, &Choice::new(choice).unwrap_or_default(), None)?;
        let Some(rung) = finest(&draft.header.rungs, &cut) else { continue };
        let got = evaluator.run(&model, rung, held.samples)?;
        let quality = match &labels {
            Some(labels) => top1(&got, labels),
            None => sqnr_db(held.distortion(&got)),
        };
        rows.push((Vector3::new(1.0, *expected, f64::from(apart[at])), quality));
    }
    let square = rows.iter().fold(Matrix3::identity() * RIDGE, |sum, (x, _)| sum + x * x.transpose());
    let right = rows.iter().fold(Vector3::zeros(), |sum, (x, y)| sum + x * *y);
    let Some(fit) = square.cholesky().map(|c| c.solve(&right)) else { return Ok(None) };
    let off: f64 = rows.iter().map(|(x, y)| (fit.dot(x) - y).powi(2)).sum();
    let spread = (off / rows.len().saturating_sub(3).max(1) as f64).sqrt() as f32;
    let mut bytes = Vec::with_capacity(entries.len() * entry);
    for (Entry { part, cost, expected, .. }, near) in entries.iter().zip(apart) {
        // Nothing is expected to be better than the best that was measured.
        let quality = (fit.dot(&Vector3::new(1.0, *expected, f64::from(near))) as f32).min(best.value);
        bytes.extend(part.iter().map(|option| option.unwrap_or(u8::MAX)));
        bytes.extend(quality.to_le_bytes());
        let number = |n: u64| u32::try_from(n).unwrap_or(u32::MAX).to_le_bytes();
        for n in [cost.weights, cost.arena, cost.work / 1000] {
            bytes.extend(number(n));
        }
    }
    let count = entries.len() as u32;
    let blob = draft.blob(bytes);
    draft.header.candidates = Some(Candidates {
        graph: 0,
        count,
        metric: best.metric,
        spread,
        blob,
        device: evaluator.board().map(|board| board.name().to_string()),
    });
    Ok(Some(blob))
}

/// The precision whose own rung is best.
fn finest<'a>(rungs: &[Rung], cut: &'a Cut) -> Option<&'a Rung> {
    let quality = |rung: &Rung| {
        let like = rung.id.split('@').next().unwrap_or_default();
        let like = rungs.iter().find(|r| r.id == like);
        like.and_then(|like| like.quality.as_ref()).map_or(f32::MIN, |quality| quality.value)
    };
    cut.rungs.iter().max_by(|a, b| quality(a).total_cmp(&quality(b)))
}

/// The subnets of the table: those that have rungs, then layer by layer what nothing is expected to beat at its cost.
fn kept(
    draft: &Draft,
    searched: &Searched,
    own: &[Vec<usize>],
    most: usize,
) -> Result<Vec<Entry>, ConvertError> {
    let header = Arc::new(draft.header.clone());
    let known = |choice: &[usize]| searched.expected.iter().find(|f| f.choice == choice);
    let entry = |found: &Found| -> Result<Entry, ConvertError> {
        let choice = Choice::new(&found.choice).unwrap_or_default();
        let part = plays(&header, 0, &choice).map_err(PlanError::from)?;
        Ok(Entry { part, choice: found.choice.clone(), cost: found.cost, expected: found.quality })
    };
    let mut entries = Vec::with_capacity(most);
    for choice in own {
        if let Some(found) = known(choice) {
            entries.push(entry(found)?);
        }
    }
    let mut left: Vec<&Found> = searched.expected.iter().filter(|f| !own.contains(&f.choice)).collect();
    left.sort_by(|a, b| {
        b.quality
            .total_cmp(&a.quality)
            .then(a.cost.weights.cmp(&b.cost.weights))
            .then(a.choice.cmp(&b.choice))
    });
    while entries.len() < most && !left.is_empty() {
        let mut layer: Vec<&Found> = Vec::new();
        // Whatever beats one stands before it.
        left.retain(|found| {
            let beaten = layer.iter().any(|other| no_more(&other.cost, &found.cost));
            if !beaten {
                layer.push(found);
            }
            beaten
        });
        layer.sort_by_key(|found| (found.cost.weights, found.cost.work));
        // Of a layer that is too large, evenly over the sizes.
        let room = (most - entries.len()).min(layer.len());
        for i in 0..room {
            let new = entry(layer[i * layer.len() / room])?;
            if entries.iter().all(|old| old.part != new.part) {
                entries.push(new);
            }
        }
    }
    Ok(entries)
}

fn no_more(a: &Cost, b: &Cost) -> bool {
    a.weights <= b.weights && a.arena <= b.arena && a.work <= b.work
}
