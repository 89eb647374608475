//! Measures what each tensor's precision costs, allocates bytes, orders the rungs.

mod activations;
mod climb;
mod sensitivity;

pub use activations::keep_floats;
pub use climb::{Step, climb};
pub use sensitivity::{Probes, Sensitivity, sensitivities};

use crate::compress::Root;
use crate::draft::Draft;
use edge_runtime::graph::TensorId;
use edge_runtime::pack::Take;

/// The tensors of one graph, with what the ladder may choose of them. Takes are listed in the same order.
pub struct Choices {
    /// Tensor ids.
    pub tensors: Vec<TensorId>,
    /// Root 0 of each tensor: the nested one.
    pub nested: Vec<Root>,
}

impl Choices {
    /// The takes as a rung of the draft lists them: by tensor id, nothing of other graphs' tensors.
    pub fn takes(&self, draft: &Draft, takes: &[usize]) -> Vec<Option<Take>> {
        let mut all = vec![None; draft.header.tensors.len()];
        for (tensor, take) in self.tensors.iter().zip(takes) {
            all[*tensor as usize] = Some(Take(0, *take as u32));
        }
        all
    }

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
        for ((root, take), tensor) in self.nested.iter().zip(takes).zip(&self.tensors) {
            let tensor = &draft.header.tensors[*tensor as usize];
            let n = (tensor.n * tensor.k) as f64;
            bits += n * f64::from(root.takes[take - 1].0);
            weights += n;
        }
        if weights == 0.0 { 0.0 } else { bits / weights }
    }
}
