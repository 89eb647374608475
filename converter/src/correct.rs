//! Corrections above the tensors whose products samples show: see [`compress::corrected`].
//!
//! They follow from rows that are read in runs, and take a good part of a conversion's time. So the journal keeps them as it keeps numbers.

use crate::calibrate::{self, Rows};
use crate::compress::{self, Root};
use crate::convert::{Options, Watch};
use crate::draft::{Draft, plain_rung};
use crate::error::ConvertError;
use crate::journal::Mix;
use crate::ladder::Choices;
use crate::measure::Evaluator;
use crate::samples::Sample;
use edge_runtime::device;
use edge_runtime::graph::TensorId;
use edge_runtime::pack::Acts;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

/// Puts corrections above the tensors that one product alone reads.
///
/// # Errors
/// When a sample does not suit the model, a tensor's expression is not sound, or the evaluator was stopped.
pub(crate) fn correct(
    evaluator: &Evaluator<'_>,
    draft: &mut Draft,
    graph: u32,
    choices: &mut Choices,
    samples: &[Sample],
    options: &Options,
    watch: &mut dyn Watch,
) -> Result<(), ConvertError> {
    let mut rung = plain_rung("finest", graph, Acts::F32);
    rung.takes = choices.takes(draft, &choices.finest());
    let mix = Mix::of("rows").key(&draft.candidate().key(&rung));
    let rows_key = samples.iter().fold(mix, |mix, sample| mix.key(&sample.key())).done();
    // Rows are those of the draft as it is now, whichever tensor is the first that is not known.
    let plain = draft.open();
    let count = choices.nested.len();
    watch.stage("correct tensors", count);
    let groups = calibrate::groups(&plain, &rung, samples, &choices.tensors)?;
    let mut groups = groups.iter();
    let mut rows: (&[TensorId], HashMap<TensorId, Rows>) = (&[], HashMap::new());
    for (i, (tensor, root)) in choices.tensors.iter().zip(&mut choices.nested).enumerate() {
        evaluator.go_on()?;
        if root.is_whole() {
            // Its coarser takes are what they are: the pack of such a model is hardly more than its integers.
            watch.progress(i + 1);
            continue;
        }
        let mix = Mix::of("correction").key(&draft.candidate().key(&rung)).key(&rows_key);
        let key = mix.debug(&(tensor, &root, &options.without)).done();
        let kept = evaluator.journal().get(&key).and_then(|bytes| Correction::read(&bytes));
        let correction = match kept {
            Some(kept) => kept,
            None => {
                if !rows.0.contains(tensor)
                    && let Some(group) = groups.by_ref().find(|group| group.contains(tensor))
                {
                    rows = (group, HashMap::new());
                    watch.stage("read rows", 1);
                    rows.1 = calibrate::rows(evaluator, &plain, &rung, samples, group, |done, all| {
                        watch.progress_of(done, all);
                    })?;
                    device::trim_heap();
                    watch.stage("correct tensors", count);
                }
                let first = draft.blobs.len();
                let root = match rows.1.remove(tensor) {
                    Some(rows) => compress::corrected(draft, *tensor, root, rows, &options.without)?,
                    None => None,
                };
                let blobs = draft.blobs[first..].iter().map(|blob| blob.to_vec()).collect();
                let correction = Correction { root, blobs };
                evaluator.journal().put(key, correction.bytes());
                // Large matrices came and went between small blobs that stay, as did the values of runs: tens of megabytes of holes.
                device::trim_heap();
                correction
            }
        };
        for blob in correction.blobs {
            // They come in the order in which they got their ids; those that were just made are there.
            draft.blob(blob);
        }
        if let Some(corrected) = correction.root {
            draft.header.tensors[*tensor as usize].roots[0] = corrected.expr.clone();
            *root = corrected;
        }
        watch.progress(i + 1);
    }
    Ok(())
}

/// What one tensor gets.
#[derive(Debug, PartialEq)]
struct Correction {
    /// In place of the root there was; `None` where nothing corrects it.
    root: Option<Root>,
    /// What the draft had not yet.
    blobs: Vec<Vec<u8>>,
}

/// A [`Correction`] but for its bytes.
#[derive(Serialize, Deserialize)]
struct Described {
    root: Option<Root>,
    lengths: Vec<usize>,
}

impl Correction {
    /// The description's length, the description, the blobs one after the other.
    fn bytes(&self) -> Vec<u8> {
        let described =
            Described { root: self.root.clone(), lengths: self.blobs.iter().map(Vec::len).collect() };
        // Of numbers, strings and lists: it has a JSON form. Without one it would be fitted again each time.
        let text = serde_json::to_vec(&described).unwrap_or_default();
        let mut bytes = (text.len() as u64).to_le_bytes().to_vec();
        bytes.extend(text);
        self.blobs.iter().for_each(|blob| bytes.extend(blob));
        bytes
    }

    /// `None` when the bytes are none of a correction.
    fn read(bytes: &[u8]) -> Option<Correction> {
        let (length, rest) = bytes.split_first_chunk::<8>()?;
        let (text, mut rest) = rest.split_at_checked(usize::try_from(u64::from_le_bytes(*length)).ok()?)?;
        let Described { root, lengths } = serde_json::from_slice(text).ok()?;
        let mut blobs = Vec::with_capacity(lengths.len());
        for length in lengths {
            let (blob, after) = rest.split_at_checked(length)?;
            blobs.push(blob.to_vec());
            rest = after;
        }
        rest.is_empty().then_some(Correction { root, blobs })
    }
}

#[cfg(test)]
mod tests {
    use super::Correction;
    use crate::compress::{Level, Root};
    use edge_runtime::pack::{Arg, Expr};
    use serde_json::json;

    #[test]
    fn a_correction_is_read_as_it_was_written_and_in_no_other_way() {
        let leaf =
            Expr { kind: "planes".into(), params: serde_json::Map::new(), args: Vec::new(), blobs: vec![1] };
        let mut expr =
            Expr { kind: "corrected".into(), args: vec![Arg::Expr(Box::new(leaf.clone()))], ..leaf };
        // A float whose shortest decimal needs every digit.
        expr.params.insert("levels".into(), json!([[1, 2, 16, 0.1f32], [2, 0, 0, f32::MIN_POSITIVE]]));
        let levels = vec![Level { bits: 2, rank: 16, blobs: vec![3, 4] }];
        let root = Root { one_scale: Some(expr.clone()), expr, levels };
        let full = Correction { root: Some(root), blobs: vec![vec![1, 2, 3], Vec::new(), vec![255; 9]] };
        for correction in [full, Correction { root: None, blobs: Vec::new() }] {
            let bytes = correction.bytes();
            assert_eq!(Correction::read(&bytes).as_ref(), Some(&correction));
            for end in 0..bytes.len() {
                assert_eq!(Correction::read(&bytes[..end]), None, "{end} of {}", bytes.len());
            }
            assert_eq!(Correction::read(&[&bytes[..], &[0]].concat()), None);
        }
    }
}
