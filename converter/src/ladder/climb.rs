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
pub(super) const GROWTH: f64 = 0.035;
/// Most bytes of the header that rungs take, as a share of the bytes of weights.
const HEADER: f64 = 0.01;
/// Bytes of the header and of padding that a rung takes, about.
const EACH_RUNG: f64 = 512.0;
/// Rungs that a small pack has nevertheless.
const LEAST_RUNGS: f64 = 6.0;

/// Growth from one rung to the next of a ladder from `least` to `most` bytes: [`GROWTH`], or what keeps to [`HEADER`] or to [`LEAST_RUNGS`].
fn growth(least: u64, most: u64) -> f64 {
    let rungs = (HEADER * most as f64 / EACH_RUNG).max(LEAST_RUNGS);
    GROWTH.max((most as f64 / least.max(1) as f64).powf(1.0 / rungs) - 1.0)
}

/// The chains from the coarsest to the finest: planes are added where they take away the most output distortion
/// for their bytes, distortions of different tensors being additive. Rungs are as close as the header allows or, with `sizes` (bytes of
/// weights, smallest first), as large as each of these allows.
///
/// Distortions as large as those of thin matrices that stand alone are not additive, and what these take is not a part of any finer
/// level. So there are two chains: one that begins with them, as far as any is left, and one that begins with the coarsest planes.
/// Where they meet measurement decides.
pub fn climb(draft: &Draft, choices: &Choices, sensitivity: &Sensitivity, sizes: &[u64]) -> Vec<Step> {
    let from = |start: Vec<usize>| match sizes {
        [] => close(draft, choices, sensitivity, start),
        _ => fill(draft, choices, sensitivity, sizes, start),
    };
    let planes = choices.coarsest_planes();
    let is_alone = |step: &Step| step.takes.iter().zip(&planes).any(|(take, planes)| take < planes);
    let mut steps: Vec<Step> = match planes.iter().any(|take| *take > 1) {
        true => from(vec![1; planes.len()]).into_iter().filter(is_alone).collect(),
        false => Vec::new(),
    };
    steps.extend(from(planes));
    steps
}

/// The chain whose rungs are as close as the header allows.
fn close(draft: &Draft, choices: &Choices, sensitivity: &Sensitivity, start: Vec<usize>) -> Vec<Step> {
    let mut takes = start;
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
fn fill(
    draft: &Draft,
    choices: &Choices,
    sensitivity: &Sensitivity,
    sizes: &[u64],
    start: Vec<usize>,
) -> Vec<Step> {
    let mut takes = start;
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
            let gain = sensitivity.expected(tensor, *take) - sensitivity.expected(tensor, to);
            // A measured gain may be zero or below in the noise; the plane still has to come some time.
            let slope = gain.max(1e-30) / bytes.max(1) as f64;
            if bytes <= room && best.is_none_or(|(s, ..)| slope > s) {
                best = Some((slope, tensor, to));
            }
        }
    }
    best.map(|(_, tensor, to)| (tensor, to))
}

#[cfg(test)]
mod tests {
    use super::{Choices, Sensitivity, climb};
    use crate::compress::{Level, Root};
    use crate::draft::Draft;

    /// Two tensors of thin matrices alone (2.5 kB), then 2 and 4 bits (5 and 10 kB), and one that has no thin matrices.
    fn start(draft: &mut Draft) -> (Choices, Sensitivity) {
        let mut blob = |id: u8, len: usize| draft.blob([vec![id], vec![0; len - 1]].concat());
        let mut root = |t: u8, alone: bool| {
            let (thin, first, second) = (blob(3 * t, 2500), blob(3 * t + 1, 5000), blob(3 * t + 2, 5000));
            let level = |bits, rank, blobs: &[u32]| Level { bits, rank, blobs: blobs.to_vec() };
            let planes = [level(2, 0, &[first]), level(4, 0, &[first, second])];
            let levels = alone.then(|| level(0, 16, &[thin])).into_iter().chain(planes).collect();
            let expr = serde_json::from_str(r#"{"kind": "corrected"}"#).unwrap();
            Root { expr, levels, one_scale: None }
        };
        let nested = vec![root(0, true), root(1, true), root(2, false)];
        let costs = vec![vec![0.2, 0.1, 0.0], vec![0.4, 0.1, 0.0], vec![0.3, 0.0]];
        (Choices::new(vec![0, 1, 2], nested), Sensitivity::new(costs))
    }

    #[test]
    fn thin_matrices_alone_are_a_chain_of_their_own_as_far_as_any_is_left() {
        let mut draft = Draft::default();
        let (choices, sensitivity) = start(&mut draft);
        let takes = |sizes: &[u64]| -> Vec<Vec<usize>> {
            climb(&draft, &choices, &sensitivity, sizes).into_iter().map(|step| step.takes).collect()
        };
        let all = takes(&[]);
        let second = all.iter().position(|takes| *takes == [2, 2, 1]).unwrap();
        assert_eq!((&all[0], all.last().unwrap()), (&vec![1, 1, 1], &vec![3, 3, 2]));
        // 0.3 for 2.5 kB goes before 0.3 for 5 and 0.1 for 2.5.
        assert_eq!(all[1], [1, 2, 1]);
        assert!(all[..second].iter().all(|takes| takes[..2].contains(&1)), "{all:?}");
        assert!(all[second..].iter().all(|takes| !takes[..2].contains(&1)), "{all:?}");
        let sized = takes(&[13_000, 20_000]);
        assert_eq!(sized[..2], [vec![1, 1, 1], vec![1, 2, 1]]);
        assert!(sized.iter().any(|takes| *takes == [2, 2, 1] || *takes == [2, 2, 2]), "{sized:?}");
    }
}
