//! Which tensor gets its next plane first.

use super::sensitivity::Sensitivity;
use super::{Choices, INTEGER_PLANES};
use crate::draft::Draft;

/// A rung of the chain: how many planes of each tensor it takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// By tensor.
    pub takes: Vec<usize>,
}

/// Least growth from one rung to the next, as a share of its bytes.
const GROWTH: f64 = 0.035;
/// Least growth in bytes: a section of its own costs half a page of padding.
const LEAST: u64 = 96 << 10;

/// The chain from the coarsest to the finest: planes are added where they take away the most output distortion
/// for their bytes, distortions of different tensors being additive. Three milestones are always rungs: every
/// tensor at 8 bits, those of the finest integer rung (`finer`, by tensor) at 16, and every tensor at 16.
pub fn climb(draft: &Draft, choices: &Choices, sensitivity: &Sensitivity, finer: &[usize]) -> Vec<Step> {
    let count = choices.nested.len();
    let mut takes = vec![1usize; count];
    let mut steps = vec![Step { takes: takes.clone() }];
    let mut bytes = choices.bytes(draft, &takes);
    let mut pending = 0u64;
    let milestones = [vec![INTEGER_PLANES; count], finer.to_vec(), vec![INTEGER_PLANES + 1; count]];
    for milestone in &milestones {
        while let Some((tensor, to)) = best(draft, choices, sensitivity, &takes, milestone) {
            pending += (takes[tensor] + 1..=to).map(|t| choices.nested[tensor].bytes(draft, t)).sum::<u64>();
            takes[tensor] = to;
            if pending as f64 >= GROWTH * bytes as f64 && pending >= LEAST {
                bytes += pending;
                pending = 0;
                steps.push(Step { takes: takes.clone() });
            }
        }
        if pending > 0 {
            // What is left over joins the rung before it when it is too small for one of its own.
            let small = (pending as f64) < GROWTH * bytes as f64 * 0.5 && pending < LEAST / 2;
            let replace = small && steps.len() > 1 && !milestones.contains(&steps[steps.len() - 1].takes);
            if replace {
                steps.pop();
            }
            bytes += pending;
            pending = 0;
            steps.push(Step { takes: takes.clone() });
        }
    }
    steps
}

/// The tensor and the level below or at its `limits` with the steepest fall of distortion a byte.
fn best(
    draft: &Draft,
    choices: &Choices,
    sensitivity: &Sensitivity,
    takes: &[usize],
    limits: &[usize],
) -> Option<(usize, usize)> {
    let mut best: Option<(f64, usize, usize)> = None;
    for (tensor, take) in takes.iter().enumerate() {
        let mut bytes = 0u64;
        for to in take + 1..=limits[tensor].min(choices.nested[tensor].takes.len()) {
            bytes += choices.nested[tensor].bytes(draft, to);
            let gain = sensitivity.of(tensor, *take) - sensitivity.of(tensor, to);
            // A measured gain may be zero or below in the noise; the plane still has to come some time.
            let slope = gain.max(1e-30) / bytes.max(1) as f64;
            if best.is_none_or(|(s, ..)| slope > s) {
                best = Some((slope, tensor, to));
            }
        }
    }
    best.map(|(_, tensor, to)| (tensor, to))
}
