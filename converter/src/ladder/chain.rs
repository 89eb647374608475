//! From measured rungs to the ladder, and to the order of its bytes in the pack.

use super::Choices;
use super::climb::Step;
use super::profile::Profile;
use crate::draft::{Draft, plain_rung, rung_id};
use crate::error::ConvertError;
use edge_runtime::pack::{Acts, BlobId, Rung};
use std::collections::HashMap;
use std::sync::Arc;

/// A rung, and every blob that it reads.
#[derive(Clone, Debug)]
pub struct Link {
    /// The rung.
    pub rung: Rung,
    /// What it reads.
    pub blobs: Vec<BlobId>,
    /// How much of it is floats: see [`Kind`].
    pub kind: Kind,
}

/// How rungs hold values: a profile of integers, from the fastest, or floats.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// i8 activations.
    Integers(usize),
    /// f32 activations.
    Floats,
}

impl Kind {
    /// What a rung is where there is one profile.
    pub fn of(rung: &Rung) -> Kind {
        match rung.acts {
            Acts::I8 => Kind::Integers(0),
            Acts::F32 => Kind::Floats,
        }
    }
}

/// The rungs of a chain: each step with f32 activations, and with i8 ones of each profile as far as it goes:
/// what has more planes there would be multiplied as floats, which only f32 activations gain from. With `given`, the model itself says where
/// its values are codes: floats give what integers give, so they are there only where no profile goes. Names start with
/// `prefix`.
pub fn rungs(
    draft: &Draft,
    choices: &Choices,
    steps: &[Step],
    profiles: &[Profile],
    given: bool,
    graph: u32,
    prefix: &str,
) -> Vec<(Rung, Kind)> {
    let (mut rungs, mut kinds): (Vec<Rung>, Vec<Kind>) = (Vec::new(), Vec::new());
    let mut last = vec![Vec::new(); profiles.len()];
    for Step { takes } in steps {
        let bits = |takes: &[usize]| choices.mean_bits(draft, takes);
        let mut covered = false;
        for (kind, profile) in profiles.iter().enumerate() {
            let most = takes.iter().zip(&profile.takes);
            let takes_here: Vec<usize> = most.map(|(take, most)| *take.min(most)).collect();
            covered |= given && takes_here == *takes;
            if takes_here == last[kind] {
                continue;
            }
            let suffix = match profile.floats.len() {
                0 => "-a8".to_string(),
                floats => format!("-a8f{floats}"),
            };
            let id = rung_id(&rungs, prefix, bits(&takes_here), &suffix);
            let mut rung = plain_rung(&id, graph, Acts::I8);
            rung.takes = profile.takes(draft, choices, &takes_here);
            rung.floats.clone_from(&profile.floats);
            last[kind] = takes_here;
            rungs.push(rung);
            kinds.push(Kind::Integers(kind));
        }
        if !covered {
            let mut rung = plain_rung(&rung_id(&rungs, prefix, bits(takes), ""), graph, Acts::F32);
            rung.takes = choices.takes(draft, takes);
            rungs.push(rung);
            kinds.push(Kind::Floats);
        }
    }
    rungs.into_iter().zip(kinds).collect()
}

/// A rung with its bytes and blobs.
///
/// # Errors
/// When a tensor's expression is not sound.
pub fn link(
    draft: &Draft,
    model: &Arc<edge_runtime::Model>,
    (mut rung, kind): (Rung, Kind),
) -> Result<Link, ConvertError> {
    let blobs = model.blobs_of(&rung)?;
    rung.bytes = blobs.iter().map(|b| draft.blobs[*b as usize].len() as u64).sum();
    Ok(Link { rung, blobs, kind })
}

/// Rungs of [`rungs`] as they were measured, those of integers with no more quality than the floats of their step: the same weights or finer
/// ones without what rounding values adds. What a few samples show beyond that is chance.
pub fn bounded(mut measured: Vec<Link>) -> Vec<Link> {
    let mut floats = f32::INFINITY;
    for Link { rung, kind, .. } in measured.iter_mut().rev() {
        let Some(quality) = &mut rung.quality else { continue };
        match kind {
            Kind::Floats => floats = quality.value,
            Kind::Integers(_) => quality.value = quality.value.min(floats),
        }
    }
    measured
}

/// Rungs closer than this share of their bytes are one: the better.
const APART: f64 = 0.01;
/// What a rung of integers must have beyond one of a faster profile, in dB of its quality.
const WORTH: f32 = 0.5;

/// Rungs by size, without those that cost more bytes than another of the same kind and are no better, or hardly more than one
/// that is worse, and without those of integers that are hardly better than a faster one of no more bytes; the last one of all stays.
pub fn undominated(mut measured: Vec<Link>) -> Vec<Link> {
    let value = |r: &Rung| r.quality.as_ref().map_or(f32::MIN, |q| q.rank());
    measured.sort_by_key(|link| (link.rung.bytes, link.kind));
    let last = measured.last().map(|link| link.rung.id.clone());
    let mut best: HashMap<Kind, f32> = HashMap::new();
    measured.retain(|Link { rung, kind, .. }| {
        let faster = best.iter().filter(|(other, _)| *other < kind && *kind != Kind::Floats);
        let faster = faster.map(|(_, value)| value + WORTH).fold(f32::MIN, f32::max);
        let bar = best.entry(*kind).or_insert(f32::MIN);
        let keep = (value(rung) > *bar && value(rung) > faster) || Some(&rung.id) == last.as_ref();
        *bar = bar.max(value(rung));
        keep
    });
    // From the best down, each beside the last one that stays.
    let mut above: HashMap<Kind, u64> = HashMap::new();
    measured.reverse();
    measured.retain(|Link { rung, kind, .. }| {
        let last = above.get(kind);
        let keep = last.is_none_or(|bytes| *bytes as f64 >= rung.bytes as f64 * (1.0 + APART));
        if keep {
            above.insert(*kind, rung.bytes);
        }
        keep
    });
    measured.reverse();
    measured
}

/// Most bytes of a pack, golden data apart, as a share of its largest rung's.
const TOGETHER: f64 = 1.25;
/// Bytes of a pack beside its blobs, as they are in packs of the models of `tests/models`: of its header for each tensor, and of header and
/// padding for each rung.
const EACH_TENSOR: usize = 800;
const EACH_RUNG: usize = 600;
/// What a rung is worth at least, in dB, when its own bytes are held against it.
const LEAST_VALUE: f32 = 1.0;

/// Leaves out rungs of integers until the pack takes no more than [`TOGETHER`] of the largest one's bytes: first those with the most bytes
/// for each dB of their quality, counting what floats do not read, each blob shared among its readers. The best of each profile stay.
pub fn affordable(draft: &Draft, mut chain: Vec<Link>) -> Vec<Link> {
    let value = |link: &Link| link.rung.quality.as_ref().map_or(f32::MIN, |q| q.rank());
    let largest = chain.iter().map(|link| link.rung.bytes).max().unwrap_or(0);
    let mut best: HashMap<Kind, f32> = HashMap::new();
    // Readers of each blob, and those that are floats.
    let mut readers = vec![(0u32, 0u32); draft.blobs.len()];
    for link in &chain {
        let best = best.entry(link.kind).or_insert(f32::MIN);
        *best = best.max(value(link));
        for id in &link.blobs {
            let (all, floats) = &mut readers[*id as usize];
            *all += 1;
            *floats += u32::from(link.kind == Kind::Floats);
        }
    }
    let bytes = |id: usize| draft.blobs[id].len() as f64;
    loop {
        let blobs: f64 = (0..readers.len()).filter(|id| readers[*id].0 > 0).map(bytes).sum();
        let beside = EACH_TENSOR * draft.header.tensors.len() + EACH_RUNG * chain.len();
        if beside as f64 + blobs <= largest as f64 * TOGETHER {
            return chain;
        }
        let price = |link: &Link| {
            let own = link.blobs.iter().map(|id| *id as usize).filter(|id| readers[*id].1 == 0);
            own.map(|id| bytes(id) / f64::from(readers[id].0)).sum::<f64>()
                / f64::from(value(link).max(LEAST_VALUE))
        };
        let spare = |link: &Link| link.kind != Kind::Floats && Some(&value(link)) != best.get(&link.kind);
        let prices = chain.iter().map(|link| if spare(link) { price(link) } else { 0.0 });
        let Some((dearest, price)) = prices.enumerate().max_by(|a, b| a.1.total_cmp(&b.1)) else {
            return chain;
        };
        if price == 0.0 {
            return chain;
        }
        chain.remove(dearest).blobs.iter().for_each(|id| readers[*id as usize].0 -= 1);
    }
}

/// Sections in file order, and the blobs that each rung needs: each rung's new blobs are a section, those of rungs with f32 activations
/// first, of which the others read a part; then what no rung reads, and last the golden data.
pub fn layout(draft: &Draft, chain: &[Link], golden: Vec<BlobId>) -> (Vec<Vec<BlobId>>, Vec<Vec<BlobId>>) {
    let mut placed = vec![false; draft.blobs.len()];
    let mut sections = Vec::new();
    let mut place = |blobs: Vec<BlobId>| {
        let new: Vec<BlobId> =
            blobs.into_iter().filter(|id| !std::mem::replace(&mut placed[*id as usize], true)).collect();
        if !new.is_empty() {
            sections.push(new);
        }
    };
    for acts in [Acts::F32, Acts::I8] {
        chain.iter().filter(|link| link.rung.acts == acts).for_each(|link| place(link.blobs.clone()));
    }
    place((0..draft.blobs.len() as BlobId).filter(|id| !golden.contains(id)).collect());
    place(golden);
    (sections, chain.iter().map(|link| link.blobs.clone()).collect())
}

/// Puts a blob before all others, in a section of its own: whoever has a rung has it.
pub fn place_first(sections: &mut Vec<Vec<BlobId>>, blob: BlobId) {
    sections.iter_mut().for_each(|section| section.retain(|id| *id != blob));
    sections.retain(|section| !section.is_empty());
    sections.insert(0, vec![blob]);
}

#[cfg(test)]
mod tests {
    use super::{Kind, Link, affordable, bounded, undominated};
    use crate::draft::{Draft, plain_rung};
    use edge_runtime::pack::{Acts, Quality};

    fn rung(id: &str, kind: Kind, bytes: u64, value: f32) -> Link {
        let quality = Quality { metric: "sqnr_db".into(), value, samples: String::new() };
        let acts = if kind == Kind::Floats { Acts::F32 } else { Acts::I8 };
        let mut rung = plain_rung(id, 0, acts);
        (rung.bytes, rung.quality) = (bytes, Some(quality));
        Link { rung, blobs: Vec::new(), kind }
    }

    /// A model whose constants are most of its bytes.
    #[test]
    fn of_many_close_rungs_some_stay() {
        let all = (0..=40).map(|i| rung(&i.to_string(), Kind::Floats, 1000 + 4 * i, i as f32)).collect();
        let left: Vec<u64> = undominated(all).into_iter().map(|link| link.rung.bytes).collect();
        assert_eq!(left.last(), Some(&1160));
        assert!(left.len() > 10 && left[0] < 1012, "{left:?}");
        assert!(left.windows(2).all(|pair| pair[1] * 100 >= pair[0] * 101), "{left:?}");
    }

    #[test]
    fn what_costs_more_and_is_no_better_is_left_out() {
        let f32 = Kind::Floats;
        let all = vec![
            rung("a", f32, 1000, 10.0),
            rung("worse", f32, 1200, 9.0),
            rung("other", Kind::Integers(0), 1200, 9.0),
            rung("close", f32, 1300, 12.0),
            rung("b", f32, 1305, 13.0),
            rung("equal", f32, 1500, 13.0),
            rung("last", f32, 2000, 12.0),
        ];
        let left: Vec<String> = undominated(all).into_iter().map(|link| link.rung.id).collect();
        assert_eq!(left, ["a", "other", "b", "last"]);
    }

    #[test]
    fn integers_that_cost_most_for_their_quality_go_first() {
        let mut draft = Draft::default();
        let blobs: Vec<u32> =
            [100, 15, 6, 10, 4].iter().map(|n| draft.blob(vec![*n; *n as usize * 10_000])).collect();
        let read = |id: &str, kind, value, read: &[usize]| {
            let blobs = read.iter().map(|i| blobs[*i]).collect();
            Link { blobs, ..rung(id, kind, 1_000_000, value) }
        };
        let integers = Kind::Integers(0);
        let chain = vec![
            read("coarse", integers, 2.0, &[1]),
            read("free", integers, 3.0, &[0]),
            read("one of two", integers, 10.0, &[2, 3]),
            read("other of two", integers, 11.0, &[2, 4]),
            read("best", integers, 20.0, &[0, 4]),
            read("floats", Kind::Floats, 60.0, &[0]),
        ];
        let left: Vec<String> =
            affordable(&draft, chain.clone()).into_iter().map(|link| link.rung.id).collect();
        assert_eq!(left, ["free", "one of two", "other of two", "best", "floats"]);
        // Nothing is left out for bytes that floats read.
        let dear = vec![
            read("a", integers, 2.0, &[0]),
            read("b", integers, 3.0, &[0]),
            read("c", Kind::Floats, 9.0, &[0, 1, 2, 3]),
        ];
        assert_eq!(affordable(&draft, dear).len(), 3);
    }

    #[test]
    fn integers_have_no_more_quality_than_floats_of_their_step() {
        let [fast, fine] = [Kind::Integers(0), Kind::Integers(1)];
        let all = vec![
            rung("lucky", fast, 100, 23.0),
            rung("fine", fine, 100, 19.0),
            rung("floats", Kind::Floats, 100, 20.0),
            rung("more", fast, 200, 22.0),
            rung("more floats", Kind::Floats, 200, 30.0),
        ];
        let values: Vec<f32> =
            bounded(all).iter().map(|link| link.rung.quality.as_ref().unwrap().value).collect();
        assert_eq!(values, [20.0, 19.0, 20.0, 22.0, 30.0]);
    }

    #[test]
    fn more_floats_must_be_worth_their_time() {
        let [fast, fine] = [Kind::Integers(0), Kind::Integers(1)];
        let all = vec![
            rung("fast", fast, 1000, 10.0),
            rung("as good", fine, 1000, 10.4),
            rung("better", fine, 1100, 11.0),
            rung("faster", fast, 1200, 10.8),
            rung("floats", Kind::Floats, 1200, 10.2),
        ];
        let left: Vec<String> = undominated(all).into_iter().map(|link| link.rung.id).collect();
        assert_eq!(left, ["fast", "better", "faster", "floats"]);
    }
}
