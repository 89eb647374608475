//! Subnets written out, each with a graph of its own: what measures and allocates knows nothing of choices. And back again.

use crate::draft::Draft;
use crate::error::ConvertError;
use edge_runtime::graph::{Graph, Source, ValueId};
use edge_runtime::pack::{Arg, Rung, Take};
use edge_runtime::plan::PlanError;
use edge_runtime::subnet;
use std::sync::Arc;

/// A draft with a graph for each of some subnets.
pub struct Explicit {
    /// No graph of it is elastic.
    pub draft: Draft,
    /// By tensor, the tensor of the elastic draft that it is or shows; of one that is mixed, all of its experts.
    shown: Vec<Vec<u32>>,
}

/// Writes the subnets of an elastic draft out. `draft.header.subnets` names them.
///
/// # Errors
/// When one cannot be made.
pub fn explicit(elastic: &Draft) -> Result<Explicit, ConvertError> {
    let mut draft = Draft::default();
    draft.header.card = elastic.header.card.clone();
    for bytes in &elastic.blobs {
        draft.blob(bytes.clone());
    }
    let header = Arc::new(elastic.header.clone());
    let (tensors, constants) = (header.tensors.len(), header.constants.len());
    draft.header.tensors.clone_from(&header.tensors);
    draft.header.constants.clone_from(&header.constants);
    let mut shown: Vec<Vec<u32>> = (0..tensors as u32).map(|id| vec![id]).collect();
    let source = elastic.source();
    for i in 0..header.subnets.len() {
        let mut made = subnet::make(&header, i as u32, source.as_ref()).map_err(PlanError::from)?;
        let moved = |id: u32, own: usize, new: usize| match (id as usize).checked_sub(own) {
            Some(beyond) => (new + beyond) as u32,
            None => id,
        };
        let new = (draft.header.tensors.len(), draft.header.constants.len());
        let mut graph: Graph = made.header.graphs.swap_remove(0);
        for value in &mut graph.values {
            value.source = match value.source {
                Source::Weight(id) => Source::Weight(moved(id, tensors, new.0)),
                Source::Constant(id) => Source::Constant(moved(id, constants, new.1)),
                Source::Computed => Source::Computed,
            };
        }
        for mut tensor in std::mem::take(&mut made.header.tensors) {
            for arg in tensor.roots.iter_mut().flat_map(|root| &mut root.args) {
                if let Arg::Shared(id, _) = arg {
                    *id = moved(*id, tensors, new.0);
                }
            }
            let shows = |arg: &Arg| match arg {
                Arg::Shared(id, _) => shown[*id as usize].clone(),
                Arg::Expr(_) => Vec::new(),
            };
            let all = tensor.roots.first().map(|root| root.args.iter().flat_map(shows).collect());
            shown.push(all.unwrap_or_default());
            draft.header.tensors.push(tensor);
        }
        draft.header.constants.append(&mut made.header.constants);
        draft.graph(graph);
    }
    Ok(Explicit { draft, shown })
}

impl Explicit {
    /// A rung of an explicit graph as one of the elastic draft; its graph's index is the subnet's.
    pub fn folded(&self, rung: &Rung, tensors: usize) -> Rung {
        let mut takes: Vec<Option<Take>> = vec![None; tensors];
        for (take, shown) in rung.takes.iter().zip(&self.shown) {
            if take.is_some() {
                shown.iter().for_each(|shown| takes[*shown as usize] = *take);
            }
        }
        Rung { graph: 0, subnet: Some(rung.graph), takes, ..rung.clone() }
    }

    /// The tensor of the elastic draft that a tensor is or shows; of one that is mixed, the first expert.
    pub fn shown(&self, tensor: u32) -> u32 {
        self.shown[tensor as usize].first().copied().unwrap_or(tensor)
    }

    /// Ranges of a graph's values.
    pub fn ranges(&self, graph: usize, values: &[ValueId]) -> Vec<Option<(f32, f32)>> {
        let graph = &self.draft.header.graphs[graph];
        values.iter().map(|value| graph.values[*value as usize].range).collect()
    }
}

/// Values that have a range in some graph.
pub fn ranged(explicit: &Explicit) -> Vec<ValueId> {
    let graphs = &explicit.draft.header.graphs;
    let values = graphs.first().map_or(0, |graph| graph.values.len());
    let any = |value: &usize| graphs.iter().any(|graph| graph.values[*value].range.is_some());
    (0..values).filter(any).map(|value| value as ValueId).collect()
}

/// The bytes of a subnet's own blob.
pub fn overlay(constants: &[Vec<f32>], ranges: &[Option<(f32, f32)>]) -> Vec<u8> {
    let ends = |range: &Option<(f32, f32)>| range.map_or([f32::NAN; 2], |(lo, hi)| [lo, hi]);
    let floats = constants.iter().flatten().copied().chain(ranges.iter().flat_map(ends));
    floats.flat_map(f32::to_le_bytes).collect()
}
