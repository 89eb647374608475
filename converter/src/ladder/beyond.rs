//! What a pack holds beyond its finest rung, and what that may cost.
//!
//! A plane is a part of every finer rung. What makes up for the coarseness of some planes is not: gains, shifts and thin matrices of a level
//! are read by the rungs that take it and by no finer one, yet whoever fetches the pack fetches them. So they cost the rungs that take their level
//! beside their bytes
//! ```text
//! price * bytes / rungs that take the level
//! ```
//! in bytes of a rung, when levels are compared. What many rungs take is worth its bytes, what one rung takes on its way to a finer level is not. How many take a level
//! is seen on the ladder made before, at a lower price; the price is the same for all tensors of a pack, and the lowest of [`PRICES`] that keeps it to
//! [`MOST`].

use super::chain::rungs;
use super::climb::climb;
use super::unused::pack_bytes;
use super::{Choices, Sensitivity};
use crate::draft::Draft;
use crate::error::ConvertError;
use edge_runtime::graph::Source;
use edge_runtime::pack::{Rung, Take};
use edge_runtime::plan::PlanError;
use edge_runtime::weights::{Registry, needed_blobs};
use std::collections::BTreeSet;

/// Most bytes of a pack, of those of its finest rung.
const MOST: f64 = 1.25;
/// Bytes beyond the finest rung's that corrections may have in any case, of it: headers, padding and golden data are most of a small pack, and do not
/// shrink with them.
const ALLOWED: f64 = 0.125;
/// What a blob takes beside its bytes: its entry in the header, its part of an expression, what aligns it.
const ENTRY: u64 = 128;
/// Prices of a byte, in bytes of a rung.
const PRICES: [f64; 14] = [0.0, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1.5, 2.0, 3.0, 4.0, 8.0, 16.0, 64.0];

/// By tensor and level, bytes that the tensor's finest level does not read, and what one costs.
#[derive(Clone, Debug, Default)]
pub struct Beyond {
    bytes: Vec<Vec<u64>>,
    /// Rungs that take each level.
    rungs: Vec<Vec<usize>>,
    price: f64,
}

impl Beyond {
    /// Of the draft's expressions as they are.
    ///
    /// # Errors
    /// When one is not sound.
    pub fn of(draft: &Draft, choices: &Choices) -> Result<Beyond, ConvertError> {
        let registry = Registry::standard();
        let blobs = |tensor: u32, take: usize| {
            needed_blobs(&registry, &draft.header, tensor as usize, Take(0, take as u32))
                .map_err(PlanError::from)
        };
        let mut bytes = Vec::with_capacity(choices.tensors.len());
        for (tensor, root) in choices.tensors.iter().zip(&choices.nested) {
            let finest: BTreeSet<u32> = blobs(*tensor, root.levels.len())?.into_iter().collect();
            let mut levels = Vec::with_capacity(root.levels.len());
            for take in 1..=root.levels.len() {
                let own = blobs(*tensor, take)?.into_iter().filter(|blob| !finest.contains(blob));
                levels.push(own.map(|blob| draft.header.blobs[blob as usize].len + ENTRY).sum());
            }
            bytes.push(levels);
        }
        let rungs = bytes.iter().map(|levels| vec![0; levels.len()]).collect();
        Ok(Beyond { bytes, rungs, price: 0.0 })
    }

    /// What a level costs beside its bytes.
    pub fn price(&self, tensor: usize, take: usize) -> f64 {
        let of =
            |by: &[Vec<u64>]| by.get(tensor).and_then(|levels| levels.get(take - 1)).copied().unwrap_or(0);
        let rungs = self.rungs.get(tensor).and_then(|levels| levels.get(take - 1)).copied().unwrap_or(0);
        self.price * of(&self.bytes) as f64 / rungs.max(1) as f64
    }

    /// Counts the rungs that take each level.
    fn count(&mut self, choices: &Choices, rungs: &[Rung]) {
        self.rungs.iter_mut().for_each(|levels| levels.fill(0));
        for rung in rungs {
            for (levels, take) in self.rungs.iter_mut().zip(choices.of_rung(rung)) {
                if take > 0 {
                    levels[take - 1] += 1;
                }
            }
        }
    }

    /// Bytes of the levels that any rung takes.
    fn taken(&self) -> u64 {
        let levels = self.bytes.iter().flatten().zip(self.rungs.iter().flatten());
        levels.filter(|(_, rungs)| **rungs > 0).map(|(bytes, _)| bytes).sum()
    }
}

/// What a ladder is made for.
#[derive(Clone, Copy)]
pub struct Frame<'a> {
    /// The graph's id.
    pub graph: u32,
    /// By tensor, the take of the finest integer rung.
    pub finest: &'a [usize],
    /// Bytes of weights that rungs are made for; any when empty.
    pub sizes: &'a [u64],
    /// Bytes of golden data to come.
    pub golden: u64,
}

/// The ladder's rungs, at the price at which the pack keeps to its size.
///
/// # Errors
/// When a tensor's expression is not sound.
pub fn ladder(
    draft: &Draft,
    choices: &Choices,
    sensitivity: &Sensitivity,
    frame: Frame<'_>,
) -> Result<Vec<Rung>, ConvertError> {
    let Frame { graph, finest, sizes, golden } = frame;
    let mut beyond = Beyond::of(draft, choices)?;
    let whole = choices.bytes(draft, &choices.finest()) + constants(draft, graph);
    // Weights that are stored exactly as well are beside the ladder.
    let exact: u64 = draft
        .header
        .tensors
        .iter()
        .flat_map(|tensor| tensor.roots.get(1))
        .flat_map(|root| &root.blobs)
        .map(|blob| draft.header.blobs[*blob as usize].len)
        .sum();
    let mut least: Option<(u64, Vec<Rung>)> = None;
    for price in PRICES {
        beyond.price = price;
        let steps = climb(draft, choices, sensitivity, sizes, &beyond);
        let made = rungs(draft, choices, &steps, finest, graph, "");
        beyond.count(choices, &made);
        let bytes = pack_bytes(draft, &made, golden).saturating_sub(exact);
        let fits = bytes as f64 <= MOST * whole as f64 || beyond.taken() as f64 <= ALLOWED * whole as f64;
        if fits {
            return Ok(made);
        }
        if least.as_ref().is_none_or(|(least, _)| bytes < *least) {
            least = Some((bytes, made));
        }
    }
    Ok(least.map(|(_, rungs)| rungs).unwrap_or_default())
}

/// Bytes of a graph's constants.
pub(super) fn constants(draft: &Draft, graph: u32) -> u64 {
    let values = &draft.header.graphs[graph as usize].values;
    let blobs: BTreeSet<u32> = values
        .iter()
        .filter_map(|value| match value.source {
            Source::Constant(id) => draft.header.constants[id as usize].data.place().map(|(blob, _)| blob),
            _ => None,
        })
        .collect();
    blobs.iter().map(|blob| draft.header.blobs[*blob as usize].len).sum()
}
