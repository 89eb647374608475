//! Ladder + device -> rung.

mod foretold;
mod need;
mod pace;
mod reader;
mod share;
mod together;
#[cfg(test)]
mod together_tests;

pub use foretold::{Foretold, Paced, foreseen, select_foretold};
pub use need::{Need, START_SPREAD, Weighing};
pub use pace::{PaceError, select_within};
pub use reader::{Access, Reader, select_read};
pub use share::{Share, ShareError};
pub use together::{Member, TogetherError, choose_together};

use crate::device::{self, ByteSize, Device};
use crate::graph::ValueId;
use crate::model::Model;
use crate::pack::{Acts, BlobId, PackError, Rung};
use crate::plan::{InputSpec, Plan, PlanError, PlanOptions};
use crate::session::plan_options;
use crate::sort;
use crate::subnet::Chosen;
use need::Reads;
use std::cmp::Ordering;
use std::collections::HashMap;
use std::collections::hash_map::Entry;

/// A rung, what it would take, and whether it fits.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// Index into the header's rungs.
    pub rung: usize,
    /// What it takes, weights resident.
    pub need: Need,
    /// Whether that is within the budget.
    pub fits: bool,
}

/// The outcome of a selection.
#[derive(Debug)]
pub struct Selection {
    /// Index into the header's rungs.
    pub rung: usize,
    /// How its weights are held.
    pub weighing: Weighing,
    /// What it takes, that way.
    pub need: Need,
    /// The plan that it was weighed with.
    pub plan: Plan,
    /// The budget, in bytes.
    pub budget: u64,
}

/// No rung can be chosen.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs)] // the fields are named in the messages
pub enum SelectError {
    #[error("nothing fits {}: the least that would do is {}, for rung `{rung}` with its weights streamed", ByteSize(*budget), ByteSize(*least))]
    DoesNotFit { budget: u64, least: u64, rung: String },
    #[error("rung `{rung}` needs {}, the budget is {}", ByteSize(*need), ByteSize(*budget))]
    RungDoesNotFit { rung: String, need: u64, budget: u64 },
    #[error("the pack has no rung `{asked}`; it has {have}")]
    NoSuchRung { asked: String, have: String },
    #[error("the pack holds no rung that this runtime can run")]
    NoRung,
    #[error(
        "the pack's table of subnets is damaged: {why}; fetch the pack again, or choose among its rungs alone"
    )]
    Candidates { why: String },
    #[error(transparent)]
    Plan(#[from] PlanError),
    #[error(transparent)]
    Pack(Box<PackError>),
}

impl From<PackError> for SelectError {
    fn from(error: PackError) -> SelectError {
        SelectError::Pack(Box::new(error))
    }
}

impl SelectError {
    /// The blob that has another hash than the header says, when that is what is wrong.
    pub(crate) fn damaged(&self) -> Option<BlobId> {
        match self {
            SelectError::Pack(error) => match **error {
                PackError::BadBlob { blob, .. } => Some(blob),
                _ => None,
            },
            _ => None,
        }
    }
}

/// What to choose among.
#[derive(Clone, Debug, Default)]
pub struct Request<'a> {
    /// Indices of the rungs that are whole and known; all of them when empty.
    pub available: &'a [usize],
    /// The caller's choice, by id.
    pub forced: Option<&'a str>,
    /// Bytes that the caller will hold beside the run and does not yet: what is resident when a rung is chosen is
    /// counted as the process's.
    pub extra: u64,
    /// The caller copies the outputs while the session lives.
    pub copies_outputs: bool,
}

impl Request<'_> {
    /// Indices of the rungs to choose among: not those that reach a kind of weight expression that this runtime does not know.
    fn wanted(&self, model: &Model) -> Result<Vec<usize>, SelectError> {
        let (header, rungs) = (model.header(), model.rungs());
        let mut available: Vec<usize> = match self.available {
            [] => (0..rungs.len()).collect(),
            some => some.to_vec(),
        };
        let Some(id) = self.forced else {
            // Most packs have no such kind anywhere, and no expression has to be followed.
            if model.registry().knows_all(header) {
                return Ok(available);
            }
            let mut error = SelectError::NoRung;
            available.retain(|rung| match model.unknown_kind(&rungs[*rung]) {
                Some(unknown) => {
                    log::info!("rung `{}` is left out: {unknown}", rungs[*rung].id);
                    error = PlanError::from(unknown).into();
                    false
                }
                None => true,
            });
            return if available.is_empty() { Err(error) } else { Ok(available) };
        };
        let found = available.iter().copied().find(|r| rungs[*r].id == id);
        let have = || available.iter().map(|r| format!("`{}`", rungs[*r].id)).collect::<Vec<_>>().join(", ");
        Ok(vec![found.ok_or_else(|| SelectError::NoSuchRung { asked: id.to_string(), have: have() })?])
    }
}

/// Picks the rung of the highest measured quality whose planned peak fits the device's budget; among equals the
/// one that takes less. When none fits with its weights resident, they are streamed.
///
/// Rungs are planned from the best down to the first that fits, those whose weights alone are too much not at all: a
/// long ladder costs a few plans.
///
/// # Errors
/// When nothing fits, the forced rung does not exist, or the inputs do not suit the model.
pub fn select(
    device: &Device,
    model: &Model,
    inputs: &[InputSpec],
    request: &Request<'_>,
) -> Result<Selection, SelectError> {
    select_beside(
        device,
        model,
        inputs,
        request,
        device::current_rss().unwrap_or(0),
        device.ledger().budget(),
    )
}

/// As [`select`], beside a process that holds `baseline` bytes without what is chosen, within another budget.
pub(crate) fn select_beside(
    device: &Device,
    model: &Model,
    inputs: &[InputSpec],
    request: &Request<'_>,
    baseline: u64,
    budget: u64,
) -> Result<Selection, SelectError> {
    let rungs = model.rungs();
    let mut plans = Plans::new(device, model, inputs, baseline);
    let walk = best_first(rungs, request.wanted(model)?);
    for weighing in [Weighing::Resident, Weighing::Streamed] {
        let mut chosen: Option<Selection> = None;
        for rung in walk.iter().copied() {
            if chosen.as_ref().is_some_and(|c| by_quality(&rungs[rung], &rungs[c.rung]).is_ne()) {
                break;
            }
            if plans.floor(rung, weighing, request)?.is_some_and(|f| f > budget) {
                continue;
            }
            let (plan, need) = plans.within(rung, weighing, request, budget)?;
            if need.total() <= budget && chosen.as_ref().is_none_or(|c| need.total() < c.need.total()) {
                chosen = Some(Selection { rung, weighing, need, plan, budget });
            }
        }
        if let Some(mut chosen) = chosen {
            // What has to stream its weights has no room for more than it needs.
            if weighing == Weighing::Resident
                && let Some((plan, need)) = plans.fast(chosen.rung, request, budget)?
            {
                (chosen.plan, chosen.need) = (plan, need);
            }
            let local = plans.local((chosen.plan, chosen.need), chosen.rung, weighing, request)?;
            (chosen.plan, chosen.need) = local;
            return Ok(chosen);
        }
    }
    let (rung, least) = plans.least(&walk, request)?.ok_or(SelectError::NoRung)?;
    let (rung, least) = (rungs[rung].id.clone(), least.budget());
    Err(match request.forced {
        Some(_) => SelectError::RungDoesNotFit { rung, need: least, budget },
        None => SelectError::DoesNotFit { budget, least, rung },
    })
}

/// Rungs to choose among, the best first.
pub(crate) fn best(model: &Model, request: &Request<'_>) -> Result<Vec<usize>, SelectError> {
    Ok(best_first(model.rungs(), request.wanted(model)?))
}

/// What each rung would take with its weights resident, in the ladder's order, beside what the process held when a rung was
/// chosen. Plans all of them.
///
/// # Errors
/// When the forced rung does not exist, or the inputs do not suit the model.
pub fn candidates(
    device: &Device,
    model: &Model,
    inputs: &[InputSpec],
    request: &Request<'_>,
    chosen: &Selection,
) -> Result<Vec<Candidate>, SelectError> {
    let mut plans = Plans::beside(device, model, inputs, chosen)?;
    let wanted = request.wanted(model)?;
    wanted.into_iter().map(|rung| Ok(plans.candidate(rung, request, chosen.budget)?)).collect()
}

/// Of the rungs that are better than the chosen one, the one that would take least, whether or not a rung was forced; `None`
/// when there is none.
///
/// # Errors
/// As [`candidates`].
pub fn next_better(
    device: &Device,
    model: &Model,
    inputs: &[InputSpec],
    request: &Request<'_>,
    chosen: &Selection,
) -> Result<Option<Candidate>, SelectError> {
    let rungs = model.rungs();
    let mut plans = Plans::beside(device, model, inputs, chosen)?;
    let mut next: Option<Candidate> = None;
    let mut better: Vec<(u64, usize)> = Vec::new();
    for rung in (Request { forced: None, ..request.clone() }).wanted(model)? {
        if by_quality(&rungs[rung], &rungs[chosen.rung]).is_gt() {
            better.push((rungs[rung].bytes, rung));
        }
    }
    sort::ascending(&mut better);
    for (_, rung) in better {
        let floor = plans.floor(rung, Weighing::Resident, request)?;
        if next.as_ref().is_some_and(|n| floor.is_some_and(|f| f >= n.need.total())) {
            continue;
        }
        let candidate = plans.candidate(rung, request, chosen.budget)?;
        if next.as_ref().is_none_or(|n| candidate.need.total() < n.need.total()) {
            next = Some(candidate);
        }
    }
    Ok(next)
}

/// Measured quality decides. A rung that was not measured stands below all that were, of two such the larger above the smaller:
/// an order for any header, as sorting needs.
fn by_quality(a: &Rung, b: &Rung) -> Ordering {
    match (&a.quality, &b.quality) {
        (Some(x), Some(y)) => x.rank().total_cmp(&y.rank()),
        (None, None) => a.bytes.cmp(&b.bytes),
        (x, y) => x.is_some().cmp(&y.is_some()),
    }
}

/// Rungs from the best down, of equal ones the smaller first.
fn best_first(all: &[Rung], mut rungs: Vec<usize>) -> Vec<usize> {
    let rung = |i: usize| &all[i];
    sort::by(&mut rungs, |a, b| {
        by_quality(rung(*b), rung(*a)).then(rung(*a).bytes.cmp(&rung(*b).bytes)).then(a.cmp(b))
    });
    rungs
}

/// What rungs of different precision have in common: the graph, and the subnet of it if any.
type Net = (u32, Option<u32>, Option<*const Chosen>);

fn net(rung: &Rung) -> Net {
    // Rungs are chosen among as long as whoever compares them lives, so one place is one subnet.
    (rung.graph, rung.subnet, rung.chosen.as_ref().map(std::sync::Arc::as_ptr))
}

/// What rungs have in common whose plans differ by little: the graph, and how values are held.
type Held<'a> = (Net, Acts, &'a [ValueId]);

fn held(rung: &Rung) -> Held<'_> {
    (net(rung), rung.acts, &rung.floats)
}

/// Plans one rung at a time: what is kept of a plan that is not chosen is a number, and what it reads.
struct Plans<'a> {
    model: &'a Model,
    inputs: &'a [InputSpec],
    options: PlanOptions,
    /// Of plans that spend memory on speed.
    fast: PlanOptions,
    baseline: u64,
    /// What a plan of each graph or subnet reads of the pack: the same for all its rungs.
    reads: HashMap<Net, Reads>,
    /// Of rungs that did not fit in bands either: how they hold values, and what arena and plan took at least.
    least: Vec<(Held<'a>, u64)>,
}

/// What scratch a rung's formats need makes plans of one graph differ by: less than this share.
const PLANS_DIFFER: u64 = 8;

impl<'a> Plans<'a> {
    fn new(device: &Device, model: &'a Model, inputs: &'a [InputSpec], baseline: u64) -> Plans<'a> {
        Plans {
            model,
            inputs,
            options: plan_options(device, false),
            fast: plan_options(device, true),
            baseline,
            reads: HashMap::new(),
            least: Vec::new(),
        }
    }

    /// For further plans once a rung is chosen: the process has grown by what planning it took, which [`need::FIRST_RUN`]
    /// counts already.
    fn beside(
        device: &Device,
        model: &'a Model,
        inputs: &'a [InputSpec],
        chosen: &Selection,
    ) -> Result<Plans<'a>, PlanError> {
        let mut plans = Plans::new(device, model, inputs, chosen.need.process - need::FIRST_RUN);
        plans.remember(&chosen.plan, chosen.rung)?;
        Ok(plans)
    }

    fn rung(&self, rung: usize) -> &'a Rung {
        &self.model.rungs()[rung]
    }

    fn plan(&mut self, rung: usize) -> Result<Plan, PlanError> {
        let plan = Plan::new(self.model, self.rung(rung), self.inputs, &self.options)?;
        self.remember(&plan, rung)?;
        Ok(plan)
    }

    /// The plan of a rung with whole pictures when it fits the budget, else with bands of them: as few as will do, or all that
    /// help.
    fn within(
        &mut self,
        rung: usize,
        weighing: Weighing,
        request: &Request<'_>,
        budget: u64,
    ) -> Result<(Plan, Need), PlanError> {
        let plan = self.plan(rung)?;
        let need = self.need(&plan, rung, weighing, request)?;
        let (plan, need) = self.cut(plan, need, rung, weighing, request, budget)?;
        if need.total() > budget {
            let header = self.rung(rung);
            self.least.push((held(header), need.arena + need.plan));
        }
        Ok((plan, need))
    }

    /// A plan and its need, cut into bands where that is beyond the budget.
    fn cut(
        &self,
        plan: Plan,
        need: Need,
        rung: usize,
        weighing: Weighing,
        request: &Request<'_>,
        budget: u64,
    ) -> Result<(Plan, Need), PlanError> {
        let over = need.total().saturating_sub(budget);
        if over == 0 {
            return Ok((plan, need));
        }
        // The arena is counted in whole pages.
        let room = ((plan.memory() + plan.own_bytes()) as u64).saturating_sub(over + device::page_size());
        let plan = plan.cut(room);
        let need = self.need(&plan, rung, weighing, request)?;
        Ok((plan, need))
    }

    /// A chosen plan and its need, cut to what the cache holds when it has its weights resident: bands read streamed ones again.
    fn local(
        &self,
        (plan, need): (Plan, Need),
        rung: usize,
        weighing: Weighing,
        request: &Request<'_>,
    ) -> Result<(Plan, Need), PlanError> {
        if weighing == Weighing::Streamed || self.options.cache.is_none_or(|cache| plan.arena_bytes <= cache)
        {
            return Ok((plan, need));
        }
        let plan = plan.local(self.options.cache);
        let need = self.need(&plan, rung, weighing, request)?;
        Ok((plan, need))
    }

    /// The fast plan of a rung, if there is one and it fits with its weights resident, cut into bands if need be.
    fn fast(
        &mut self,
        rung: usize,
        request: &Request<'_>,
        budget: u64,
    ) -> Result<Option<(Plan, Need)>, PlanError> {
        let options = self.fast.clone();
        let plan = Plan::new(self.model, self.rung(rung), self.inputs, &options)?;
        if !plan.is_fast() {
            return Ok(None);
        }
        let need = self.need(&plan, rung, Weighing::Resident, request)?;
        let (plan, need) = self.cut(plan, need, rung, Weighing::Resident, request, budget)?;
        Ok((need.total() <= budget).then_some((plan, need)))
    }

    fn remember(&mut self, plan: &Plan, rung: usize) -> Result<(), PlanError> {
        let rung = self.rung(rung);
        if let Entry::Vacant(reads) = self.reads.entry(net(rung)) {
            reads.insert(Reads::of(self.model, rung, plan)?);
        }
        Ok(())
    }

    /// What a rung takes at least, once another rung of its graph was planned: everything but arena and plan, and most of these once
    /// they are known.
    fn floor(
        &self,
        rung: usize,
        weighing: Weighing,
        request: &Request<'_>,
    ) -> Result<Option<u64>, PlanError> {
        let rung = self.rung(rung);
        let Some(reads) = self.reads.get(&net(rung)) else { return Ok(None) };
        let weights = reads.bytes(self.model, rung, weighing)?;
        let same = self.least.iter().find(|(kind, _)| *kind == held(rung));
        let plan = same.map_or(0, |(_, bytes)| bytes - bytes / PLANS_DIFFER);
        Ok(Some(self.baseline + need::FIRST_RUN + weights + plan + request.extra))
    }

    /// Of some rungs the one that takes least, weights streamed. Plans of one graph that hold values alike differ by little more
    /// than their weights, so that of these the one with the least is planned.
    fn least(&mut self, rungs: &[usize], request: &Request<'_>) -> Result<Option<(usize, Need)>, PlanError> {
        let mut floors = Vec::with_capacity(rungs.len());
        for rung in rungs {
            floors.push((self.floor(*rung, Weighing::Streamed, request)?.unwrap_or(0), *rung));
        }
        sort::ascending(&mut floors);
        let mut least: Option<(usize, Need)> = None;
        let mut planned = Vec::new();
        for (floor, rung) in floors {
            let kind = held(self.rung(rung));
            if planned.contains(&kind) {
                continue;
            }
            planned.push(kind);
            if least.as_ref().is_some_and(|(_, l)| floor >= l.total()) {
                break;
            }
            let (_, need) = self.within(rung, Weighing::Streamed, request, 0)?;
            if least.as_ref().is_none_or(|(_, l)| need.total() < l.total()) {
                least = Some((rung, need));
            }
        }
        Ok(least)
    }

    fn need(
        &self,
        plan: &Plan,
        rung: usize,
        weighing: Weighing,
        request: &Request<'_>,
    ) -> Result<Need, PlanError> {
        let outputs = plan.outputs.iter().map(|o| o.bytes() as u64).sum::<u64>();
        let extra = request.extra + if request.copies_outputs { outputs } else { 0 };
        Need::new(self.baseline, self.model, self.rung(rung), plan, weighing, extra)
    }

    fn candidate(&mut self, rung: usize, request: &Request<'_>, budget: u64) -> Result<Candidate, PlanError> {
        let (_, need) = self.within(rung, Weighing::Resident, request, budget)?;
        Ok(Candidate { rung, need, fits: need.total() <= budget })
    }
}
