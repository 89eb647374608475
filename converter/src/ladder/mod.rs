//! Measures what each tensor's precision costs, allocates bytes, orders the rungs.

mod activations;
mod chain;
mod climb;
mod gaps;
mod integer;
mod joined;
mod measured;
mod parts;
mod probes;
mod profile;
mod rows;
mod sensitivity;
#[cfg(test)]
mod tests;
mod unused;
mod wishes;

pub use chain::{Kind, Link, affordable, bounded, layout, link, place_first, rungs, undominated};
pub use climb::climb;
pub use integer::{Gain, Integer, Part, Price, prices};
pub use joined::join_constants;
pub use measured::Measurer;
pub use parts::Costs;
pub use probes::Probes;
pub use profile::{AIMS, Aim, FINE, Found, Profile, Rows, distinct};
pub use sensitivity::{Sensitivity, code_costs, sensitivities, stored_costs};
pub use unused::drop_unused;
pub use wishes::Wishes;

use crate::compress::{Level, Root, THIN_BITS};
use crate::draft::Draft;
use edge_runtime::graph::TensorId;
use edge_runtime::pack::{Rung, Take};

/// The tensors of one graph, with what the ladder may choose of them. Takes are listed in the same order.
pub struct Choices {
    /// Tensor ids.
    pub tensors: Vec<TensorId>,
    /// Root 0 of each tensor: the nested one.
    pub nested: Vec<Root>,
    /// The root that gives products of integers the same planes with one scale a row, where a tensor has one.
    pub coded: Vec<Option<u32>>,
}

impl Choices {
    /// Choices of these tensors, none of which has a root of codes yet.
    pub fn new(tensors: Vec<TensorId>, nested: Vec<Root>) -> Choices {
        Choices { coded: vec![None; tensors.len()], tensors, nested }
    }

    /// The takes as a rung of the draft lists them: by tensor id, nothing of other graphs' tensors.
    pub fn takes(&self, draft: &Draft, takes: &[usize]) -> Vec<Option<Take>> {
        let mut all = vec![None; draft.header.tensors.len()];
        for (tensor, take) in self.tensors.iter().zip(takes) {
            all[*tensor as usize] = Some(Take(0, *take as u32));
        }
        all
    }

    /// The takes that a rung lists, in the order of these tensors; 0 where it takes nothing.
    pub fn of_rung(&self, rung: &Rung) -> Vec<usize> {
        let take = |id: &TensorId| rung.takes.get(*id as usize).copied().flatten();
        self.tensors.iter().map(|id| take(id).map_or(0, |t| t.1 as usize)).collect()
    }

    /// Bytes of a take of every tensor.
    pub fn bytes(&self, draft: &Draft, takes: &[usize]) -> u64 {
        self.nested.iter().zip(takes).map(|(root, take)| root.bytes(draft, *take)).sum()
    }

    /// The finest take of every tensor.
    pub fn finest(&self) -> Vec<usize> {
        self.nested.iter().map(|root| root.levels.len()).collect()
    }

    /// The coarsest take of every tensor that has planes: past thin matrices that stand alone.
    pub fn coarsest_planes(&self) -> Vec<usize> {
        let coarsest = |root: &Root| root.levels.iter().position(|level| level.bits > 0).map_or(1, |i| i + 1);
        self.nested.iter().map(coarsest).collect()
    }

    /// The take of every tensor that all integer kernels take: see [`Root::integer_take`].
    pub fn integer_takes(&self) -> Vec<usize> {
        self.nested.iter().map(Root::integer_take).collect()
    }

    /// Mean bits a weight, scales apart; those of the matrices that correct it count.
    pub fn mean_bits(&self, draft: &Draft, takes: &[usize]) -> f64 {
        let (mut bits, mut weights) = (0.0, 0.0);
        for ((root, take), tensor) in self.nested.iter().zip(takes).zip(&self.tensors) {
            let tensor = &draft.header.tensors[*tensor as usize];
            let n = (tensor.n * tensor.k) as f64;
            let Level { bits: each, rank, .. } = root.levels[take - 1];
            bits += n * f64::from(each) + (rank * (tensor.n + tensor.k)) as f64 * f64::from(THIN_BITS);
            weights += n;
        }
        if weights == 0.0 { 0.0 } else { bits / weights }
    }
}
