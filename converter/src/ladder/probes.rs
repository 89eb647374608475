//! What candidates are judged on.

use crate::journal::{Key, Mix};
use crate::measure::Outputs;
use crate::samples::Sample;
use crate::units::Units;

/// What a candidate is judged on: each costs a run for every tensor and precision.
#[derive(Clone, Copy)]
pub struct Probes<'a> {
    /// Inputs.
    pub samples: &'a [Sample],
    /// The float model's outputs for them.
    pub want: &'a [Outputs],
    /// What of these counts as an output of its own.
    pub units: &'a Units,
    /// What all that is.
    key: Key,
}

impl<'a> Probes<'a> {
    /// Samples with the float model's outputs for each.
    pub fn new(samples: &'a [Sample], want: &'a [Outputs], units: &'a Units) -> Probes<'a> {
        let mix = Mix::of("probes").debug(units).debug(&(samples.len(), want.len()));
        let mix = samples.iter().fold(mix, |mix, sample| mix.key(&sample.key()));
        let outputs = |mix: Mix, outputs: &Outputs| {
            outputs.iter().fold(mix.debug(&outputs.len()), |mix, values| mix.floats(values))
        };
        let key = want.iter().fold(mix, outputs).done();
        Probes { samples, want, units, key }
    }

    /// How far outputs are from the float model's.
    pub fn distortion(&self, got: &[Outputs]) -> f64 {
        self.units.distortion(self.want, got)
    }

    /// Indices of `n` of `count` samples, spread over all: neighbours in a directory are alike.
    pub fn spread(count: usize, n: usize) -> Vec<usize> {
        let n = n.min(count);
        (0..n).map(|i| i * count / n).collect()
    }

    /// The first `n` of them.
    pub fn first(self, n: usize) -> Probes<'a> {
        Probes::new(&self.samples[..n], &self.want[..n], self.units)
    }

    /// What they are, with their outputs and units.
    pub fn key(&self) -> &Key {
        &self.key
    }
}
