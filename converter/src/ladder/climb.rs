//! Which tensor becomes finer first.

use super::Choices;
use super::sensitivity::Sensitivity;
use crate::draft::Draft;

/// A rung of the chain: what it takes of each tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// By tensor.
    pub takes: Vec<usize>,
}

/// Least growth from one rung to the next, as a share of its bytes.
const GROWTH: f64 = 0.035;
/// Most padding of all rungs, as a share of the bytes: a section of its own costs half a page.
const PADDING: f64 = 0.02;
/// Rungs that a small pack has nevertheless.
const LEAST_RUNGS: f64 = 6.0;
/// Half a page.
const HALF_PAGE: f64 = 2048.0;

/// Growth from one rung to the next of a ladder from `least` to `most` bytes: [`GROWTH`], or what keeps to [`PADDING`] or to [`LEAST_RUNGS`].
fn growth(least: u64, most: u64) -> f64 {
    let rungs = (PADDING * most as f64 / HALF_PAGE).max(LEAST_RUNGS);
    GROWTH.max((most as f64 / least.max(1) as f64).powf(1.0 / rungs) - 1.0)
}

/// The chain from the coarsest to the finest: planes are added where they take away the most output distortion
/// for their bytes, distortions of different tensors being additive. Rungs are as close as padding allows or, with `sizes` (bytes of
/// weights, smallest first), as large as each of these allows.
pub fn climb(draft: &Draft, choices: &Choices, sensitivity: &Sensitivity, sizes: &[u64]) -> Vec<Step> {
    if !sizes.is_empty() {
        return fill(draft, choices, sensitivity, sizes);
    }
    let mut takes = vec![1usize; choices.nested.len()];
    let mut steps = vec![Step { takes: takes.clone() }];
    let mut bytes = choices.bytes(draft, &takes);
    let mut pending = 0u64;
    let growth = growth(bytes, choices.bytes(draft, &choices.finest()));
    while let Some((tensor, to)) = best(draft, choices, sensitivity, &takes, u64::MAX) {
        pending += choices.nested[tensor].added(draft, takes[tensor], to);
        takes[tensor] = to;
        if pending as f64 >= growth * bytes as f64 {
            bytes += pending;
            pending = 0;
            steps.push(Step { takes: takes.clone() });
        }
    }
    if pending > 0 {
        // What is left over joins the rung before it when it is too small for one of its own.
        if (pending as f64) < growth * bytes as f64 * 0.5 && steps.len() > 1 {
            steps.pop();
        }
        steps.push(Step { takes });
    }
    steps
}

/// The chain whose rungs fill these sizes.
fn fill(draft: &Draft, choices: &Choices, sensitivity: &Sensitivity, sizes: &[u64]) -> Vec<Step> {
    let mut takes = vec![1usize; choices.nested.len()];
    let mut steps = vec![Step { takes: takes.clone() }];
    let mut bytes = choices.bytes(draft, &takes);
    for size in sizes {
        while let Some((tensor, to)) = best(draft, choices, sensitivity, &takes, size.saturating_sub(bytes)) {
            bytes += choices.nested[tensor].added(draft, takes[tensor], to);
            takes[tensor] = to;
        }
        if steps.last().is_some_and(|step| step.takes != takes) {
            steps.push(Step { takes: takes.clone() });
        }
    }
    steps
}

/// The tensor and the level with the steepest fall of distortion a byte, of those that take at most `room` bytes.
fn best(
    draft: &Draft,
    choices: &Choices,
    sensitivity: &Sensitivity,
    takes: &[usize],
    room: u64,
) -> Option<(usize, usize)> {
    let mut best: Option<(f64, usize, usize)> = None;
    for (tensor, take) in takes.iter().enumerate() {
        for to in take + 1..=choices.nested[tensor].levels.len() {
            let bytes = choices.nested[tensor].added(draft, *take, to);
            let gain = sensitivity.of(tensor, *take) - sensitivity.of(tensor, to);
            // A measured gain may be zero or below in the noise; the plane still has to come some time.
            let slope = gain.max(1e-30) / bytes.max(1) as f64;
            if bytes <= room && best.is_none_or(|(s, ..)| slope > s) {
                best = Some((slope, tensor, to));
            }
        }
    }
    best.map(|(_, tensor, to)| (tensor, to))
}
