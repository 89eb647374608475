//! Outputs that join values of different units, such as a detector's boxes in pixels and its scores from 0 to 1.
//!
//! Noise over signal of such an output as a whole is that of its largest values: scores could be lost and nobody would see it. So
//! its channels are told apart by their size, and each kind counts as an output of its own.

use crate::measure::{Outputs, distortion, divergence};

/// Channels whose root mean squares, in order, are further apart than this hold different units.
const APART: f64 = 30.0;
/// Values of a channel in a sample that tell its size.
const LEAST_VALUES: usize = 8;
/// What is smaller than this beside the largest channels is nothing: a class that no sample has.
const LEAST: f64 = 1e-5;

/// Which values of each output belong together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Units {
    by_output: Vec<Option<Channels>>,
    /// The first output is logits, so many of each token: what counts is what they foretell.
    logits: Option<usize>,
}

/// The channels of an output of one batch.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Channels {
    /// Whether they are the last dimension, and not the first after the batch.
    last: bool,
    /// The kind of each, from 0 on.
    kinds: Vec<usize>,
}

impl Channels {
    /// The kind of element `i` of `len`.
    fn kind(&self, i: usize, len: usize) -> usize {
        let count = self.kinds.len();
        self.kinds[if self.last { i % count } else { i / (len / count).max(1) % count }]
    }
}

impl Units {
    /// Tells apart the channels of outputs of the shapes `dims`, for samples of one batch: of four dimensions the second one, of
    /// three the shorter of the second and the last. Classes, of which a sample has one value each, are of one unit.
    pub fn of(dims: &[Vec<usize>], outputs: &[Outputs]) -> Units {
        let channels = |(i, dims): (usize, &Vec<usize>)| {
            let (last, count) = match dims[..] {
                [1, c, n] if c <= n => (false, c),
                [1, _, c] => (true, c),
                [1, c, ..] if dims.len() > 3 => (false, c),
                _ => return None,
            };
            if dims.iter().product::<usize>() < LEAST_VALUES * count {
                return None;
            }
            let mut channels = Channels { last, kinds: (0..count).collect() };
            let mut squares = vec![(0.0f64, 0usize); count];
            for values in
                outputs.iter().filter_map(|o| o.get(i)).filter(|o| o.len().is_multiple_of(count.max(1)))
            {
                for (at, value) in values.iter().enumerate() {
                    let (sum, n) = &mut squares[channels.kind(at, values.len())];
                    (*sum, *n) = (*sum + f64::from(*value).powi(2), *n + 1);
                }
            }
            let sizes: Vec<f64> = squares.iter().map(|(sum, n)| (sum / (*n).max(1) as f64).sqrt()).collect();
            channels.kinds = kinds(&sizes);
            channels.kinds.iter().any(|kind| *kind > 0).then_some(channels)
        };
        Units { by_output: dims.iter().enumerate().map(channels).collect(), logits: None }
    }

    /// Of one output of logits, `vocabulary` of each token: distortion is how far what they foretell diverges, see [`divergence`].
    pub fn tokens(vocabulary: usize) -> Units {
        Units { by_output: Vec::new(), logits: Some(vocabulary) }
    }

    /// As [`distortion`], each kind of an output's values counting as an output of its own.
    pub fn distortion(&self, want: &[Outputs], got: &[Outputs]) -> f64 {
        if let Some(vocabulary) = self.logits {
            return divergence(want, got, vocabulary);
        }
        if self.by_output.iter().all(Option::is_none) {
            return distortion(want, got);
        }
        distortion(&self.split(want), &self.split(got))
    }

    fn split(&self, all: &[Outputs]) -> Vec<Outputs> {
        let mut split = Vec::with_capacity(all.len());
        for outputs in all {
            let mut parts = Vec::new();
            for (i, values) in outputs.iter().enumerate() {
                let Some(channels) = self.by_output.get(i).and_then(Option::as_ref) else {
                    parts.push(values.clone());
                    continue;
                };
                let kinds = channels.kinds.iter().max().map_or(1, |most| most + 1);
                let mut by_kind = vec![Vec::new(); kinds];
                for (at, value) in values.iter().enumerate() {
                    by_kind[channels.kind(at, values.len())].push(*value);
                }
                parts.extend(by_kind);
            }
            split.push(parts);
        }
        split
    }
}

/// The kind of each channel by its size, the largest being of kind 0.
fn kinds(sizes: &[f64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..sizes.len()).collect();
    order.sort_by(|a, b| sizes[*b].total_cmp(&sizes[*a]));
    let (mut kinds, mut kind) = (vec![0; sizes.len()], 0);
    for pair in order.windows(2) {
        let (above, size) = (sizes[pair[0]], sizes[pair[1]]);
        if above > APART * size && size >= LEAST * sizes[order[0]] {
            kind += 1;
        }
        kinds[pair[1]] = kind;
    }
    kinds
}

#[cfg(test)]
mod tests {
    use super::{Units, kinds};
    use crate::measure::distortion;

    #[test]
    fn channels_are_of_one_kind_until_a_gap() {
        assert_eq!(kinds(&[100.0, 5.0, 0.1, 90.0, 0.02, 0.0]), [0, 0, 1, 0, 1, 1]);
        assert_eq!(kinds(&[1.0, 0.4, 0.1, 0.02, 0.003]), [0; 5]);
        assert_eq!(kinds(&[]), [0usize; 0]);
    }

    /// Nine boxes of 4 coordinates and a score each, in both orders.
    #[test]
    fn lost_scores_beside_boxes_are_seen() {
        let coordinates = [10.0, 300.0, 50.0, 80.0];
        let rows = |score: [f32; 2]| -> Vec<f32> {
            let row = |i: usize| coordinates.iter().map(move |c| c + 20.0 * i as f32).chain([score[i % 2]]);
            (0..9).flat_map(row).collect()
        };
        let columns = |score: [f32; 2]| -> Vec<f32> {
            let rows = rows(score);
            (0..45).map(|i| rows[i % 9 * 5 + i / 9]).collect()
        };
        for (dims, made) in [
            (vec![1, 9, 5], &rows as &dyn Fn([f32; 2]) -> Vec<f32>),
            (vec![1, 5, 9], &columns),
            (vec![1, 5, 3, 3], &columns),
        ] {
            let (want, got) = (vec![vec![made([0.9, 0.1])]], vec![vec![made([0.1, 0.9])]]);
            let units = Units::of(&[dims], &want);
            assert!(distortion(&want, &got) < 1e-4);
            assert!(units.distortion(&want, &got) > 1.0, "{units:?}");
            assert_eq!(units.distortion(&want, &want), 0.0);
        }
    }

    #[test]
    fn one_unit_and_more_than_one_batch_are_left_whole() {
        let want = vec![vec![vec![1.0, 2.0, 500.0, 600.0]]];
        assert_eq!(Units::of(&[vec![2, 2]], &want), Units { by_output: vec![None], logits: None });
        let classes = vec![vec![vec![1.0, 0.02, 0.003, 0.0004]]];
        assert_eq!(Units::of(&[vec![1, 4]], &classes), Units { by_output: vec![None], logits: None });
        assert_eq!(Units::of(&[vec![1, 2, 2]], &classes), Units { by_output: vec![None], logits: None });
    }
}
