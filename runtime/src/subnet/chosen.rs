//! A rung for a subnet that no rung of the pack runs.
//!
//! Of a rung that is named, or of those of the nearest subnet, it has the precision; of the nearest subnets what normalizations became.

use super::near::{self, Neighbour, Point};
use super::{Making, SubnetError};
use crate::graph::{Change, Elastic, Source, TensorId, ValueId};
use crate::model::Model;
use crate::pack::{BlobId, Choice, Header, Rung, Take};
use crate::plan::PlanError;
use crate::sort;
use std::sync::Arc;

/// A subnet that is none of [`Header::subnets`].
#[derive(Clone, Debug, PartialEq)]
pub struct Chosen {
    pub(crate) choice: Choice,
    /// By [`Elastic::overlaid`], where the elements lie; the graph's own where there is none.
    pub(crate) constants: Vec<Option<(BlobId, u64)>>,
    /// By [`Elastic::ranged`].
    pub(crate) ranges: Vec<Option<(f32, f32)>>,
}

impl Chosen {
    /// The option of each variable.
    pub fn choice(&self) -> &Choice {
        &self.choice
    }

    /// The blobs that it takes constants of.
    pub(crate) fn blobs(&self) -> impl Iterator<Item = BlobId> + '_ {
        self.constants.iter().flatten().map(|(blob, _)| *blob)
    }
}

/// Whose statistics a subnet runs with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Statistics {
    /// The pack has those of this very subnet.
    Own,
    /// Those of others, for the pack has none of this one: its quality was not measured, and is below what it would have with its own.
    Nearest {
        /// Index into [`Header::subnets`] of the nearest.
        subnet: u32,
        /// How far it is, in whole ranges of choices.
        distance: f32,
    },
    /// It needs none.
    None,
}

/// A subnet that was asked for.
#[derive(Clone, Debug)]
pub struct Cut {
    /// One a precision, smallest first. Those of a subnet that has rungs in the pack are these rungs.
    pub rungs: Vec<Rung>,
    /// The option of each variable.
    pub choice: Choice,
    /// Whose statistics they run with.
    pub statistics: Statistics,
}

impl Model {
    /// The subnet of a choice, ready to be planned like any rung: at the precision of `like`, or else at each that the rungs of the
    /// nearest subnet have. Weights stay where they are: what is narrower is a view of the whole.
    ///
    /// A tensor that the rung of the precision does not use has the precision of what stands in its place in that rung, else that
    /// of the nearest rung with the same kind of values that uses it, else its finest.
    ///
    /// # Errors
    /// When the subnet cannot be made of the pack, or the file ends before what it needs.
    ///
    /// # Panics
    /// When the pack has no such graph, or the choice is one of other variables.
    pub fn subnet(&self, graph: u32, choice: &Choice, like: Option<&Rung>) -> Result<Cut, PlanError> {
        let near = near::neighbours(&self.shared_header(), graph, self.source())?;
        self.subnet_near(graph, choice, like, &near)
    }

    /// As [`Model::subnet`], with the pack's own subnets.
    pub(crate) fn subnet_near(
        &self,
        graph: u32,
        choice: &Choice,
        like: Option<&Rung>,
        near: &[Neighbour],
    ) -> Result<Cut, PlanError> {
        let header = &self.shared_header();
        let name = String::from(choice.clone());
        let (making, cuts) = Making::new(header, graph, choice, name.clone())?;
        let (elastic, point) = (making.elastic, making.point(choice));
        let mut order: Vec<&Neighbour> = near.iter().collect();
        let distance = |near: &Neighbour| near.point.distance(&point, elastic);
        // Of equally near ones the larger: it has all that a smaller one has.
        sort::by(&mut order, |a, b| {
            let other = |near: &Neighbour| near.point != point;
            let by_distance = distance(a).total_cmp(&distance(b));
            other(a).cmp(&other(b)).then(by_distance).then(b.subnet.cmp(&a.subnet))
        });
        let own = order.iter().find(|near| near.point == point).map(|near| near.subnet);
        let (constants, ranges) = making.borrowed(&cuts, &order)?;
        let needs = constants.iter().any(Option::is_some) || ranges.iter().any(Option::is_some);
        let statistics = match (own, order.first()) {
            (Some(_), _) => Statistics::Own,
            (None, Some(first)) if needs => {
                Statistics::Nearest { subnet: first.subnet, distance: distance(first) }
            }
            (None, _) => Statistics::None,
        };
        let chosen = Arc::new(Chosen { choice: choice.clone(), constants, ranges });
        let like: Vec<&Rung> = match (like, order.first()) {
            (Some(rung), _) => vec![rung],
            (None, first) => {
                let of = |rung: &&Rung| rung.graph == graph && rung.subnet == first.map(|near| near.subnet);
                header.rungs.iter().filter(of).collect()
            }
        };
        // A pack whose elastic graph has rungs of no subnet has them of the whole of it.
        let like = match like.is_empty() {
            true => header.rungs.iter().filter(|rung| rung.graph == graph).collect(),
            false => like,
        };
        let order: Vec<Option<u32>> = order.iter().map(|near| Some(near.subnet)).chain([None]).collect();
        let mut rungs: Vec<Rung> = Vec::with_capacity(like.len());
        for like in like {
            if let Some(own) = own
                && like.subnet == Some(own)
            {
                rungs.push(like.clone());
                continue;
            }
            let mut rung = Rung {
                id: format!("{}@{name}", like.id),
                graph,
                subnet: None,
                chosen: Some(chosen.clone()),
                acts: like.acts,
                takes: takes(self, elastic, graph, like, &order),
                floats: Vec::new(),
                end: u64::MAX,
                bytes: 0,
                quality: None,
                arena: 0,
                min_runtime: like.min_runtime,
                features: like.features.clone(),
                parts: None,
            };
            (rung.bytes, rung.end) = self.extent(&rung, &name)?;
            rungs.push(rung);
        }
        sort::by_key(&mut rungs, |rung| rung.bytes);
        Ok(Cut { rungs, choice: choice.clone(), statistics })
    }

    /// How far subnets are from the nearest that the pack has statistics of, by what of their choices plays a part ([`plays`]).
    ///
    /// # Errors
    /// When one of the pack's own cannot be made.
    ///
    /// # Panics
    /// When the pack has no such graph.
    pub fn distances(&self, graph: u32, parts: &[Vec<Option<u8>>]) -> Result<Vec<f32>, PlanError> {
        let header = self.shared_header();
        let near = near::neighbours(&header, graph, self.source())?;
        let Some(elastic) = header.graphs[graph as usize].elastic.as_deref() else { return Ok(Vec::new()) };
        let least = |part: &Vec<Option<u8>>| {
            let point = Point::new(part.clone());
            let all = near.iter().map(|near| near.point.distance(&point, elastic));
            all.min_by(f32::total_cmp).unwrap_or(0.0)
        };
        Ok(parts.iter().map(least).collect())
    }

    /// The bytes of what a rung reads, and where the last of it ends.
    fn extent(&self, rung: &Rung, name: &str) -> Result<(u64, u64), PlanError> {
        let (mut bytes, mut end) = (0, 0);
        for blob in self.blobs_of(rung)? {
            let place = self.header().all_blobs().get(blob as usize);
            if self.source().blob(blob).is_none() {
                return Err(SubnetError::Missing { subnet: name.into(), blob }.into());
            }
            let (offset, len) = place.map_or((0, 0), |blob| (blob.offset, blob.len));
            bytes += len;
            end = end.max(offset + len);
        }
        Ok((bytes, end))
    }
}

/// What a rung takes of every tensor of the pack, whether its own subnet has it or not.
fn takes(
    model: &Model,
    elastic: &Elastic,
    graph: u32,
    like: &Rung,
    nearest_first: &[Option<u32>],
) -> Vec<Option<Take>> {
    let header = model.header();
    let mut takes = like.takes.clone();
    takes.resize(header.tensors.len(), None);
    let sound = |tensor: TensorId, take: Take| {
        crate::weights::needed_blobs(model.registry(), header, tensor as usize, take).is_ok()
    };
    // What stands in a value's place, option by option, has one precision, and so have the experts that it is mixed of.
    let own = |value: ValueId| header.graphs[graph as usize].values[value as usize].source;
    let by_option = elastic.effects.iter().filter_map(|effect| match &effect.change {
        Change::Source { value, sources } => {
            Some(sources.iter().flatten().copied().chain([own(*value)]).filter_map(tensor).collect())
        }
        _ => None,
    });
    let mixed = elastic.mixtures.iter().flat_map(|mixture| &mixture.values);
    let mixed = mixed.map(|mixed| mixed.experts.iter().copied().filter_map(tensor).collect());
    let alike: Vec<Vec<TensorId>> = by_option.chain(mixed).collect();
    for all in alike {
        let Some(take) = all.iter().find_map(|tensor| takes[*tensor as usize]) else { continue };
        for tensor in all {
            if takes[tensor as usize].is_none() && sound(tensor, take) {
                takes[tensor as usize] = Some(take);
            }
        }
    }
    let others = |same: bool| {
        let of = move |subnet: &Option<u32>| {
            let subnet = *subnet;
            let mine = move |rung: &&Rung| {
                rung.graph == graph && rung.subnet == subnet && (rung.acts == like.acts) == same
            };
            header.rungs.iter().filter(mine)
        };
        nearest_first.iter().flat_map(of)
    };
    let all: Vec<&Rung> = others(true).chain(others(false)).collect();
    for (tensor, take) in takes.iter_mut().enumerate().filter(|(_, take)| take.is_none()) {
        let theirs = all.iter().find_map(|rung| rung.takes.get(tensor).copied().flatten());
        *take = Some(theirs.unwrap_or(Take(0, 0)));
    }
    takes
}

fn tensor(source: Source) -> Option<TensorId> {
    match source {
        Source::Weight(tensor) => Some(tensor),
        _ => None,
    }
}

/// What of a choice plays a part in its subnet: by variable the option, or `None` where no option changes anything, as for the width of a
/// block that is left out. Subnets are the same when these are.
///
/// # Errors
/// When there is no such subnet.
///
/// # Panics
/// As [`Model::subnet`].
pub fn plays(header: &Arc<Header>, graph: u32, choice: &Choice) -> Result<Vec<Option<u8>>, SubnetError> {
    let (making, _) = Making::new(header, graph, choice, String::from(choice.clone()))?;
    Ok(making.point(choice).options().to_vec())
}
