//! Rungs between two that lie further apart than others.
//!
//! The chain adds up what tensors cost one by one. Where their errors make up for one another, its next rungs may be no better than the one
//! before, and fall out. There finer levels of tensors are tried one at a time, in addition to the rung below the gap, and put together in
//! the order of what each gained a byte.

use super::Choices;
use super::chain::{Kind, Link};
use super::climb::GROWTH;
use super::sensitivity::Sensitivity;
use crate::draft::Draft;
use crate::error::ConvertError;

/// Growth from one rung to the next beyond which there is a gap.
const WIDE: f64 = 0.08;
/// Most tensors that are tried alone: each costs a run of all probes.
const MOST: usize = 24;

/// What further rungs of floats take of each tensor, for the gaps between those of `chain`, which is in the order of bytes. `judge` gives the
/// distortion of what is taken.
///
/// # Errors
/// Those of `judge`.
pub fn fill(
    draft: &Draft,
    choices: &Choices,
    sensitivity: &Sensitivity,
    chain: &[Link],
    mut judge: impl FnMut(&[usize]) -> Result<f64, ConvertError>,
) -> Result<Vec<Vec<usize>>, ConvertError> {
    let floats: Vec<&Link> = chain.iter().filter(|link| link.kind == Kind::Floats).collect();
    let mut found = Vec::new();
    for pair in floats.windows(2) {
        let [below, above] = [0, 1].map(|i| choices.of_rung(&pair[i].rung));
        let [least, most] = [0, 1].map(|i| pair[i].rung.bytes as f64);
        // The exact floats of the model take nothing that the ladder offers.
        if most <= (1.0 + WIDE) * least || below.contains(&0) || above.contains(&0) {
            continue;
        }
        let gap = Gap { draft, choices, below, above, room: WIDE * least };
        let mut gains = gap.alone(sensitivity, &mut judge)?;
        gains.sort_by(|a, b| b.2.total_cmp(&a.2));
        let (mut takes, mut bytes, mut last) = (gap.below.clone(), least, least);
        for (tensor, to, _) in gains {
            bytes += choices.nested[tensor].added(draft, takes[tensor], to) as f64;
            takes[tensor] = to;
            if bytes * (1.0 + GROWTH / 2.0) > most {
                break;
            }
            if bytes >= (1.0 + GROWTH) * last {
                found.push(takes.clone());
                last = bytes;
            }
        }
    }
    Ok(found)
}

/// Two rungs with nothing between them.
struct Gap<'a> {
    draft: &'a Draft,
    choices: &'a Choices,
    /// What they take.
    below: Vec<usize>,
    above: Vec<usize>,
    /// Most bytes from one rung to the next.
    room: f64,
}

impl Gap<'_> {
    /// Finer levels of tensors, with what the step gains a byte.
    fn alone(
        &self,
        sensitivity: &Sensitivity,
        judge: &mut impl FnMut(&[usize]) -> Result<f64, ConvertError>,
    ) -> Result<Vec<(usize, usize, f64)>, ConvertError> {
        let mut finer: Vec<(usize, usize, f64)> = (0..self.below.len())
            .filter_map(|tensor| {
                let to = self.level(tensor)?;
                let gain = sensitivity.of(tensor, self.below[tensor]) - sensitivity.of(tensor, to);
                Some((tensor, to, gain / self.added(tensor, to)))
            })
            .collect();
        finer.sort_by(|a, b| b.2.total_cmp(&a.2));
        finer.truncate(MOST);
        let base = judge(&self.below)?;
        for (tensor, to, gain) in &mut finer {
            let mut takes = self.below.clone();
            takes[*tensor] = *to;
            *gain = (base - judge(&takes)?) / self.added(*tensor, *to);
        }
        Ok(finer)
    }

    /// The finest level of a tensor that leaves no new gap and is no finer than above; of one that is no finer above the next level.
    fn level(&self, tensor: usize) -> Option<usize> {
        let (from, last) = (self.below[tensor], self.choices.nested[tensor].levels.len());
        let to = self.above[tensor].max(from + 1).min(last);
        (from + 1..=to).rev().find(|to| self.added(tensor, *to) <= self.room)
    }

    fn added(&self, tensor: usize, to: usize) -> f64 {
        self.choices.nested[tensor].added(self.draft, self.below[tensor], to).max(1) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::{Choices, Kind, Link, Sensitivity, fill};
    use crate::compress::{Level, Root};
    use crate::draft::{Draft, plain_rung};
    use edge_runtime::pack::Acts;

    /// Eight tensors of two levels, 10 kB and as much again in 500 bytes or more.
    fn model() -> (Draft, Choices, Sensitivity) {
        let mut draft = Draft::default();
        let root = |t: u8| {
            let mut blob = |id: u8, len: usize| draft.blob([vec![id], vec![0; len - 1]].concat());
            let (first, second) = (blob(2 * t, 10_000), blob(2 * t + 1, 500 + 500 * usize::from(t)));
            let levels = [vec![first], vec![first, second]].map(|blobs| Level { bits: 2, rank: 0, blobs });
            Root {
                expr: serde_json::from_str(r#"{"kind": "planes"}"#).unwrap(),
                levels: levels.to_vec(),
                one_scale: None,
            }
        };
        let nested: Vec<Root> = (0..8).map(root).collect();
        // What is thought to gain most a byte are the first ones.
        let costs = (0..8).map(|t| vec![0.1 - 0.01 * f64::from(t), 0.0]).collect();
        draft.header.tensors = (0..8)
            .map(|_| edge_runtime::pack::Tensor { name: String::new(), n: 1, k: 1, roots: Vec::new() })
            .collect();
        (draft, Choices::new((0..8).collect(), nested), Sensitivity::new(costs))
    }

    fn link(draft: &Draft, choices: &Choices, takes: &[usize]) -> Link {
        let mut rung = plain_rung("", 0, Acts::F32);
        (rung.takes, rung.bytes) = (choices.takes(draft, takes), choices.bytes(draft, takes));
        Link { rung, blobs: Vec::new(), kind: Kind::Floats }
    }

    #[test]
    fn a_gap_is_filled_in_the_order_of_what_runs_show() {
        let (draft, choices, sensitivity) = model();
        let (below, above) = (vec![1; 8], vec![2; 8]);
        let chain = [link(&draft, &choices, &below), link(&draft, &choices, &above)];
        assert!(chain[1].rung.bytes as f64 > 1.2 * chain[0].rung.bytes as f64);
        // Runs show that the last tensors gain most, and the first one makes things worse.
        let mut runs = 0;
        let found = fill(&draft, &choices, &sensitivity, &chain, |takes| {
            runs += 1;
            let gain = |t: usize| if t == 0 { -1.0 } else { (500 + 500 * t) as f64 * t as f64 };
            Ok(1e6 - (0..8).filter(|t| takes[*t] == 2).map(gain).sum::<f64>())
        })
        .unwrap();
        assert_eq!(runs, 9);
        let sizes: Vec<u64> = found.iter().map(|takes| choices.bytes(&draft, takes)).collect();
        assert_eq!(found[0], [1, 1, 1, 1, 1, 1, 1, 2], "{found:?}");
        assert!(found.len() > 2 && found.iter().all(|takes| takes[0] == 1), "{found:?}");
        let all = [&[chain[0].rung.bytes][..], &sizes, &[chain[1].rung.bytes]].concat();
        assert!(all.windows(2).all(|pair| pair[1] * 100 <= pair[0] * 112), "{all:?}");
    }

    #[test]
    fn rungs_that_are_close_and_the_exact_floats_leave_no_gap() {
        let (draft, choices, sensitivity) = model();
        let (below, mut next) = (vec![1; 8], vec![1; 8]);
        next[7] = 2;
        let mut exact = link(&draft, &choices, &[2; 8]);
        exact.rung.takes = vec![None; 8];
        let chain = [link(&draft, &choices, &below), link(&draft, &choices, &next), exact];
        let judge = |_: &[usize]| panic!("nothing is to be measured");
        assert!(fill(&draft, &choices, &sensitivity, &chain, judge).unwrap().is_empty());
    }
}
