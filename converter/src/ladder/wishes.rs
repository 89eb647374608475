//! What the caller wants of the ladder: sizes, a least quality, a longest time.

use super::chain::{Kind, Link};
use crate::draft::Draft;
use crate::error::ConvertError;
use edge_runtime::device::ByteSize;
use edge_runtime::graph::Source;
use edge_runtime::pack::{ConstantData, Rung};
use std::collections::HashSet;
use std::time::Duration;

/// Most rungs that a step may ask for: each is measured.
const MOST_STEPS: u64 = 1000;

/// Limits to a ladder; none by default.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Wishes {
    /// Bytes of weights and constants that rungs are made for: of each kind of activations the best at or below each.
    pub budgets: Vec<u64>,
    /// A rung for each so many bytes.
    pub step: Option<u64>,
    /// Least measured quality, in the pack's metric.
    pub min_quality: Option<f32>,
    /// Longest run of a held-out sample on this machine.
    pub max_latency: Option<Duration>,
}

impl Wishes {
    /// The sizes that rungs are made for, smallest first, of ladders that end at `most` bytes; empty when any will do.
    fn sizes(&self, most: u64) -> Result<Vec<u64>, ConvertError> {
        let mut sizes = self.budgets.clone();
        if let Some(step) = self.step.filter(|step| *step > 0) {
            let count = most.div_ceil(step);
            if count > MOST_STEPS {
                let least = ByteSize(most.div_ceil(MOST_STEPS));
                let why =
                    format!("{} makes {count} rungs of {}; at least {least}", ByteSize(step), ByteSize(most));
                return Err(ConvertError::Option { option: "--step", why });
            }
            sizes.extend((1..=count).map(|i| i * step));
        }
        sizes.sort_unstable();
        sizes.dedup();
        Ok(sizes)
    }

    /// The same sizes, of the weights of a graph alone, whose ladder ends at `most` bytes.
    ///
    /// # Errors
    /// When they are too many.
    pub fn weight_sizes(&self, draft: &Draft, graph: u32, most: u64) -> Result<Vec<u64>, ConvertError> {
        let constants = constants(draft, graph);
        let sizes = self.sizes(most + constants)?;
        Ok(sizes.into_iter().map(|size| size.saturating_sub(constants)).collect())
    }

    /// The rungs of a measured ladder that are wanted.
    ///
    /// # Errors
    /// When none is left: the error says what is possible.
    pub fn of(&self, chain: Vec<Link>, latencies: &[(String, Duration)]) -> Result<Vec<Link>, ConvertError> {
        let value = |r: &Rung| r.quality.as_ref().map_or(f32::MIN, |q| q.value);
        let refuse = |option, why| Err(ConvertError::Option { option, why });
        let mut chain = chain;
        if let Some(least) = self.min_quality {
            let best = chain.iter().map(|link| value(&link.rung)).fold(f32::MIN, f32::max);
            chain.retain(|link| value(&link.rung) >= least);
            if chain.is_empty() {
                return refuse("--min-quality", format!("{least} is above the best rung's {best:.1}"));
            }
        }
        if let Some(most) = self.max_latency {
            let latency =
                |rung: &Rung| latencies.iter().find(|(id, _)| *id == rung.id).map(|(_, time)| *time);
            let least = chain.iter().filter_map(|link| latency(&link.rung)).min().unwrap_or_default();
            chain.retain(|link| latency(&link.rung).is_none_or(|time| time <= most));
            if chain.is_empty() {
                return refuse(
                    "--max-latency",
                    format!("{most:.1?} is less than the fastest rung's {least:.1?}"),
                );
            }
        }
        let sizes = self.sizes(chain.iter().map(|link| link.rung.bytes).max().unwrap_or(0))?;
        if sizes.is_empty() {
            return Ok(chain);
        }
        let mut kept: HashSet<String> = HashSet::new();
        let kinds: HashSet<Kind> = chain.iter().map(|link| link.kind).collect();
        for size in &sizes {
            for kind in &kinds {
                let fits = chain.iter().filter(|link| link.kind == *kind && link.rung.bytes <= *size);
                let best = fits.max_by(|a, b| value(&a.rung).total_cmp(&value(&b.rung)));
                kept.extend(best.map(|link| link.rung.id.clone()));
            }
        }
        if kept.is_empty() {
            let least = chain.iter().map(|link| link.rung.bytes).min().unwrap_or(0);
            let asked = ByteSize(sizes.last().copied().unwrap_or(0));
            return refuse(
                "--budgets",
                format!("{asked} is less than the smallest rung's {}", ByteSize(least)),
            );
        }
        chain.retain(|link| kept.contains(&link.rung.id));
        Ok(chain)
    }
}

/// Bytes of a graph's constants.
fn constants(draft: &Draft, graph: u32) -> u64 {
    let mut blobs = HashSet::new();
    for value in &draft.header.graphs[graph as usize].values {
        if let Source::Constant(id) = value.source
            && let ConstantData::Blob(blob) = draft.header.constants[id as usize].data
        {
            blobs.insert(blob);
        }
    }
    blobs.into_iter().map(|blob| draft.blobs[blob as usize].len() as u64).sum()
}

#[cfg(test)]
mod tests {
    use super::{Kind, Link, Wishes};
    use crate::draft::plain_rung;
    use edge_runtime::pack::{Acts, Quality};
    use std::time::Duration;

    fn chain() -> Vec<Link> {
        let rung = |id: &str, acts, bytes, value| {
            let quality = Quality { metric: "sqnr_db".into(), value, samples: String::new() };
            let mut rung = plain_rung(id, 0, acts);
            (rung.bytes, rung.quality) = (bytes, Some(quality));
            Link { kind: Kind::of(&rung), rung, blobs: Vec::new() }
        };
        vec![
            rung("a8", Acts::I8, 100, 9.0),
            rung("a", Acts::F32, 100, 10.0),
            rung("b", Acts::F32, 200, 20.0),
            rung("c8", Acts::I8, 290, 21.0),
            rung("c", Acts::F32, 300, 30.0),
        ]
    }

    fn left(wishes: &Wishes) -> Result<Vec<String>, String> {
        let times = [("a8", 1), ("a", 2), ("b", 3), ("c8", 2), ("c", 4)];
        let times: Vec<_> =
            times.iter().map(|(id, ms)| (id.to_string(), Duration::from_millis(*ms))).collect();
        let left = wishes.of(chain(), &times).map_err(|e| e.to_string())?;
        Ok(left.into_iter().map(|link| link.rung.id).collect())
    }

    #[test]
    fn each_budget_has_its_best_rung_of_each_kind() {
        let budgets = |sizes: &[u64]| Wishes { budgets: sizes.to_vec(), ..Wishes::default() };
        assert_eq!(left(&Wishes::default()).unwrap().len(), 5);
        assert_eq!(left(&budgets(&[250])).unwrap(), ["a8", "b"]);
        assert_eq!(left(&budgets(&[1000, 150])).unwrap(), ["a8", "a", "c8", "c"]);
        assert!(left(&budgets(&[99])).unwrap_err().contains("less than the smallest rung's 100 "));
        let step = Wishes { step: Some(100), ..Wishes::default() };
        assert_eq!(step.sizes(250).unwrap(), [100, 200, 300]);
        let many = step.sizes(1_000_000_000).unwrap_err().to_string();
        assert!(many.contains("--step") && many.contains("at least 1 MB"), "{many}");
        assert_eq!(left(&step).unwrap(), ["a8", "a", "b", "c8", "c"]);
    }

    #[test]
    fn poor_and_slow_rungs_are_left_out() {
        let good = Wishes { min_quality: Some(15.0), ..Wishes::default() };
        assert_eq!(left(&good).unwrap(), ["b", "c8", "c"]);
        assert!(
            left(&Wishes { min_quality: Some(31.0), ..good.clone() })
                .unwrap_err()
                .contains("best rung's 30.0")
        );
        let fast = Wishes { max_latency: Some(Duration::from_millis(2)), ..good };
        assert_eq!(left(&fast).unwrap(), ["c8"]);
        let faster = Wishes { max_latency: Some(Duration::from_micros(500)), ..Wishes::default() };
        assert!(left(&faster).unwrap_err().contains("fastest rung's 1.0ms"));
    }
}
