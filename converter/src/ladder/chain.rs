//! From measured rungs to the ladder, and to the order of its bytes in the pack.

use super::Choices;
use super::climb::Step;
use crate::draft::{Draft, plain_rung, rung_id};
use crate::error::ConvertError;
use edge_runtime::pack::{Acts, BlobId, Rung};
use std::collections::HashMap;
use std::sync::Arc;

/// A rung, and every blob that it reads.
pub type Link = (Rung, Vec<BlobId>);

/// The rungs of a chain: each step with f32 activations, and with i8 ones as far as the finest integer rung goes (`finest`, by
/// tensor): what has more planes there would be multiplied as floats, which only f32 activations gain from. Names start with
/// `prefix`.
pub fn rungs(
    draft: &Draft,
    choices: &Choices,
    steps: &[Step],
    finest: &[usize],
    graph: u32,
    prefix: &str,
) -> Vec<Rung> {
    let mut rungs: Vec<Rung> = Vec::new();
    let mut add = |takes: &[usize], suffix: &str, acts: Acts| {
        let bits = choices.mean_bits(draft, takes);
        let mut rung = plain_rung(&rung_id(&rungs, prefix, bits, suffix), graph, acts);
        rung.takes = choices.takes(draft, takes);
        rungs.push(rung);
    };
    let mut last = Vec::new();
    for Step { takes } in steps {
        let integer: Vec<usize> = takes.iter().zip(finest).map(|(take, most)| *take.min(most)).collect();
        if integer != last {
            add(&integer, "-a8", Acts::I8);
            last = integer;
        }
        add(takes, "", Acts::F32);
    }
    rungs
}

/// A rung with its bytes and blobs.
///
/// # Errors
/// When a tensor's expression is not sound.
pub fn link(draft: &Draft, model: &Arc<edge_runtime::Model>, mut rung: Rung) -> Result<Link, ConvertError> {
    let blobs = model.blobs_of(&rung)?;
    rung.bytes = blobs.iter().map(|b| draft.blobs[*b as usize].len() as u64).sum();
    Ok((rung, blobs))
}

/// Rungs closer than this share of their bytes are one: the better.
const APART: f64 = 0.01;

/// Rungs by size, without those that cost more bytes than another of the same activations and are no better, or hardly more than one
/// that is worse; the last one of all stays.
pub fn undominated(mut measured: Vec<Link>) -> Vec<Link> {
    let value = |r: &Rung| r.quality.as_ref().map_or(f32::MIN, |q| q.value);
    measured.sort_by_key(|(r, _)| (r.bytes, r.acts == Acts::F32));
    let last = measured.last().map(|(r, _)| r.id.clone());
    let mut best: HashMap<Acts, f32> = HashMap::new();
    measured.retain(|(rung, _)| {
        let bar = best.entry(rung.acts).or_insert(f32::MIN);
        let keep = value(rung) > *bar || Some(&rung.id) == last.as_ref();
        *bar = bar.max(value(rung));
        keep
    });
    // From the best down, each beside the last one that stays.
    let mut above: HashMap<Acts, u64> = HashMap::new();
    measured.reverse();
    measured.retain(|(rung, _)| {
        let last = above.get(&rung.acts);
        let keep = last.is_none_or(|bytes| *bytes as f64 >= rung.bytes as f64 * (1.0 + APART));
        if keep {
            above.insert(rung.acts, rung.bytes);
        }
        keep
    });
    measured.reverse();
    measured
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
        chain.iter().filter(|(rung, _)| rung.acts == acts).for_each(|(_, blobs)| place(blobs.clone()));
    }
    place((0..draft.blobs.len() as BlobId).filter(|id| !golden.contains(id)).collect());
    place(golden);
    (sections, chain.iter().map(|(_, blobs)| blobs.clone()).collect())
}

#[cfg(test)]
mod tests {
    use super::{Link, undominated};
    use crate::draft::plain_rung;
    use edge_runtime::pack::{Acts, Quality};

    fn rung(id: &str, acts: Acts, bytes: u64, value: f32) -> Link {
        let quality = Quality { metric: "sqnr_db".into(), value, samples: String::new() };
        let mut rung = plain_rung(id, 0, acts);
        (rung.bytes, rung.quality) = (bytes, Some(quality));
        (rung, Vec::new())
    }

    /// A model whose constants are most of its bytes.
    #[test]
    fn of_many_close_rungs_some_stay() {
        let all = (0..=40).map(|i| rung(&i.to_string(), Acts::F32, 1000 + 4 * i, i as f32)).collect();
        let left: Vec<u64> = undominated(all).into_iter().map(|(rung, _)| rung.bytes).collect();
        assert_eq!(left.last(), Some(&1160));
        assert!(left.len() > 10 && left[0] < 1012, "{left:?}");
        assert!(left.windows(2).all(|pair| pair[1] * 100 >= pair[0] * 101), "{left:?}");
    }

    #[test]
    fn what_costs_more_and_is_no_better_is_left_out() {
        let f32 = Acts::F32;
        let all = vec![
            rung("a", f32, 1000, 10.0),
            rung("worse", f32, 1200, 9.0),
            rung("other", Acts::I8, 1200, 9.0),
            rung("close", f32, 1300, 12.0),
            rung("b", f32, 1305, 13.0),
            rung("equal", f32, 1500, 13.0),
            rung("last", f32, 2000, 12.0),
        ];
        let left: Vec<String> = undominated(all).into_iter().map(|(rung, _)| rung.id).collect();
        assert_eq!(left, ["a", "other", "b", "last"]);
    }
}
