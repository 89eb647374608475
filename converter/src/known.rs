//! Measurements that are made once: what the journal has is not measured again.

use crate::candidate::Candidate;
use crate::error::ConvertError;
use crate::journal::{Key, Mix};
use crate::ladder::Probes;
use crate::measure::{Evaluator, Labelled, likelihood, noise, top1};
use edge_runtime::pack::Rung;

impl Evaluator<'_> {
    /// The `count` numbers that the journal has under `key`, else those that `measure` gives.
    ///
    /// # Errors
    /// Those of `measure`, or when `stop` is set.
    pub fn known(
        &self,
        key: Key,
        count: usize,
        measure: impl FnOnce() -> Result<Vec<f64>, ConvertError>,
    ) -> Result<Vec<f64>, ConvertError> {
        self.go_on()?;
        if let Some(bytes) = self.journal().get(&key).filter(|bytes| bytes.len() == 8 * count) {
            return Ok(bytes.as_chunks::<8>().0.iter().map(|b| f64::from_le_bytes(*b)).collect());
        }
        let numbers = measure()?;
        self.journal().put(key, numbers.iter().flat_map(|x| x.to_le_bytes()).collect());
        Ok(numbers)
    }

    /// How far a rung's outputs are from the float model's.
    ///
    /// # Errors
    /// As [`Evaluator::run`].
    pub fn distortion(
        &self,
        candidate: &Candidate<'_>,
        rung: &Rung,
        probes: &Probes<'_>,
    ) -> Result<f64, ConvertError> {
        let key = Mix::of("distortion").key(&candidate.key(rung)).key(probes.key()).done();
        let measured = self.known(key, 1, || {
            Ok(vec![probes.distortion(&self.run(candidate.model(), rung, probes.samples)?)])
        })?;
        Ok(measured[0])
    }

    /// By sample, the squared error of a rung's outputs beside the float model's.
    ///
    /// # Errors
    /// As [`Evaluator::run`].
    pub fn noises(
        &self,
        candidate: &Candidate<'_>,
        rung: &Rung,
        probes: &Probes<'_>,
    ) -> Result<Vec<f64>, ConvertError> {
        let key = Mix::of("noises").key(&candidate.key(rung)).key(probes.key()).done();
        self.known(key, probes.samples.len(), || {
            let got = self.run(candidate.model(), rung, probes.samples)?;
            Ok(probes.want.iter().zip(&got).map(|(want, got)| noise(want, got)).collect())
        })
    }

    /// How well a rung labels samples: the share that it labels as they are, in percent ([`top1`]), and the mean likelihood that it gives the
    /// labels ([`likelihood`]).
    ///
    /// # Errors
    /// As [`Evaluator::run`].
    pub fn labelled(
        &self,
        candidate: &Candidate<'_>,
        rung: &Rung,
        probes: &Probes<'_>,
        labels: &[usize],
    ) -> Result<Labelled, ConvertError> {
        let key = Mix::of("labelled").key(&candidate.key(rung)).key(probes.key()).debug(&labels).done();
        let numbers = self.known(key, 2, || {
            let got = self.run(candidate.model(), rung, probes.samples)?;
            Ok(vec![top1(&got, labels), likelihood(&got, labels)])
        })?;
        Ok(Labelled { top1: numbers[0], likelihood: numbers[1] })
    }
}
