//! Measures what each tensor's precision costs, allocates bytes, orders the rungs.

mod activations;
mod climb;
mod integer;
mod sensitivity;
#[cfg(test)]
mod tests;

pub use climb::{Step, climb};
pub use integer::{Gain, INTEGER_PLANES, Integer, Part};
pub use sensitivity::{Probes, Sensitivity, sensitivities};

use crate::compress::Root;
use crate::draft::Draft;

/// The roots of every tensor of a draft, by tensor id, with what the ladder may choose of them.
pub struct Choices {
    /// Root 0 of each tensor: the nested one.
    pub nested: Vec<Root>,
}

impl Choices {
    /// Bytes of a level of every tensor: `takes[t]` planes of tensor `t`.
    pub fn bytes(&self, draft: &Draft, takes: &[usize]) -> u64 {
        self.nested
            .iter()
            .zip(takes)
            .map(|(root, take)| (1..=*take).map(|t| root.bytes(draft, t)).sum::<u64>())
            .sum()
    }

    /// Mean bits a weight, scales apart.
    pub fn mean_bits(&self, draft: &Draft, takes: &[usize]) -> f64 {
        let (mut bits, mut weights) = (0.0, 0.0);
        for ((root, take), tensor) in self.nested.iter().zip(takes).zip(&draft.header.tensors) {
            let n = (tensor.n * tensor.k) as f64;
            bits += n * f64::from(root.takes[take - 1].0);
            weights += n;
        }
        if weights == 0.0 { 0.0 } else { bits / weights }
    }
}
