//! Which of the pack's own subnets is nearest to another, and what of theirs a subnet without statistics of its own takes.
//!
//! Two subnets are as far apart as their choices: for each, the options between the two over the most that there can be. Choices that
//! play no part in one of the two, such as the width of a block that is left out, count nothing.

use super::{Cuts, Making, Own, SubnetError, range};
use crate::graph::{Change, Elastic, Source, ValueId};
use crate::pack::{BlobId, BlobSource, Choice, Header};
use std::sync::Arc;

/// A choice, and which of it plays a part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Point {
    /// By variable, the option; `None` where no option changes the subnet.
    options: Vec<Option<u8>>,
}

impl Point {
    pub fn new(options: Vec<Option<u8>>) -> Point {
        Point { options }
    }

    /// By variable, the option where it plays a part.
    pub fn options(&self) -> &[Option<u8>] {
        &self.options
    }

    /// How far apart two subnets are, 0 for the same one.
    pub fn distance(&self, other: &Point, elastic: &Elastic) -> f32 {
        let pairs = self.options.iter().zip(&other.options).zip(&elastic.variables);
        pairs
            .map(|((a, b), variable)| match (a, b) {
                (Some(a), Some(b)) if a != b => {
                    f32::from(a.abs_diff(*b)) / (variable.options.len() - 1) as f32
                }
                _ => 0.0,
            })
            .sum()
    }
}

/// A subnet that the pack has statistics of.
pub(crate) struct Neighbour {
    /// Index into [`Header::subnets`].
    pub subnet: u32,
    pub point: Point,
    blob: Option<BlobId>,
    own: Vec<(Own, usize)>,
    /// By [`Elastic::ranged`], whether it has the value, and its range.
    ranges: Vec<(bool, Option<(f32, f32)>)>,
}

/// The pack's own subnets of a graph. Those whose blob the source lacks are left out.
///
/// # Errors
/// When one cannot be made.
pub(crate) fn neighbours(
    header: &Arc<Header>,
    graph: u32,
    source: &dyn BlobSource,
) -> Result<Vec<Neighbour>, SubnetError> {
    let mut all = Vec::new();
    for (index, subnet) in header.subnets.iter().enumerate().filter(|(_, subnet)| subnet.graph == graph) {
        let (making, cuts) = Making::new(header, graph, &subnet.choice, index.to_string())?;
        let point = making.point(&subnet.choice);
        let mut neighbour =
            Neighbour { subnet: index as u32, point, blob: None, own: Vec::new(), ranges: Vec::new() };
        if let Some(blob) = subnet.overlay {
            let Some(bytes) = source.blob(blob) else { continue };
            let own = making.own(&cuts)?;
            let (places, ranges) = making.laid_out(&own, bytes)?;
            let values = making.values();
            let has = |value: &ValueId| values.get(*value as usize) == Some(&true);
            let pairs = making.elastic.ranged.iter().zip(ranges);
            neighbour.ranges = pairs.map(|(value, bytes)| (has(value), range(bytes))).collect();
            neighbour.own = own.into_iter().zip(places).collect();
            neighbour.blob = Some(blob);
        }
        all.push(neighbour);
    }
    Ok(all)
}

/// By [`Elastic::overlaid`], where the elements lie; by [`Elastic::ranged`], the ranges.
pub(crate) type Borrowed = (Vec<Option<(BlobId, u64)>>, Vec<Option<(f32, f32)>>);

impl Making<'_> {
    /// What of a choice plays a part: what it changes is still read.
    pub(super) fn point(&self, choice: &Choice) -> Point {
        let mut options: Vec<Option<u8>> = vec![None; choice.len()];
        for effect in &self.elastic.effects {
            let acts = match &effect.change {
                Change::Rows { value, .. }
                | Change::Channels { value, .. }
                | Change::Elements { value, .. }
                | Change::Source { value, .. } => {
                    self.graph.values[*value as usize].source != Source::Computed
                }
                Change::Attribute { node, .. } => self.kept[*node as usize],
                Change::Bypass { .. } => true,
            };
            if acts {
                for variable in effect.variables() {
                    options[variable] = Some(choice.option(variable) as u8);
                }
            }
        }
        Point::new(options)
    }

    /// By value, whether the subnet computes it or is given it.
    fn values(&self) -> Vec<bool> {
        let mut has = vec![false; self.graph.values.len()];
        let inputs = self.graph.inputs.iter().map(|port| port.value);
        for value in
            self.graph.body.nodes.iter().flat_map(|node| node.outputs.iter().flatten().copied()).chain(inputs)
        {
            if let Some(has) = has.get_mut(value as usize) {
                *has = true;
            }
        }
        has
    }

    /// What the subnet takes of others, the nearest first: each constant of the first that has as many channels of it, each range
    /// of the first that has the value.
    pub(super) fn borrowed(
        &self,
        cuts: &Cuts,
        nearest_first: &[&Neighbour],
    ) -> Result<Borrowed, SubnetError> {
        let mut constants = vec![None; self.elastic.overlaid.len()];
        for Own { index, dims, .. } in self.own(cuts)? {
            let holds = |theirs: &Own| {
                let cut = theirs.dims.iter().zip(&dims).filter(|(theirs, own)| theirs != own);
                theirs.dims.len() == dims.len()
                    && cut.clone().count() <= 1
                    && cut.clone().all(|(theirs, own)| theirs > own)
            };
            constants[index] = nearest_first.iter().find_map(|near| {
                let (_, place) =
                    near.own.iter().find(|(theirs, _)| theirs.index == index && holds(theirs))?;
                Some((near.blob?, *place as u64))
            });
        }
        let first = |i: usize| {
            let mut ranges = nearest_first.iter().filter_map(|near| near.ranges.get(i));
            ranges.find(|(has, _)| *has).and_then(|(_, range)| *range)
        };
        Ok((constants, (0..self.elastic.ranged.len()).map(first).collect()))
    }
}
