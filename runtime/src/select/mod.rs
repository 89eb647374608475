//! Ladder + device -> rung.

mod need;
mod share;
mod together;
#[cfg(test)]
mod together_tests;

pub use need::{Need, Weighing};
pub use share::{Share, ShareError};
pub use together::{Member, TogetherError, choose_together};

use crate::device::{self, ByteSize, Device};
use crate::model::Model;
use crate::pack::{Header, Rung};
use crate::plan::{InputSpec, Plan, PlanError, PlanOptions};

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
    /// Every rung that was looked at, in the ladder's order.
    pub candidates: Vec<Candidate>,
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
    #[error(transparent)]
    Plan(#[from] PlanError),
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
    /// Indices of the rungs to choose among.
    fn wanted(&self, header: &Header) -> Result<Vec<usize>, SelectError> {
        let available: Vec<usize> = match self.available {
            [] => (0..header.rungs.len()).collect(),
            some => some.to_vec(),
        };
        let Some(id) = self.forced else { return Ok(available) };
        let found = available.iter().copied().find(|r| header.rungs[*r].id == id);
        let have =
            || available.iter().map(|r| format!("`{}`", header.rungs[*r].id)).collect::<Vec<_>>().join(", ");
        Ok(vec![found.ok_or_else(|| SelectError::NoSuchRung { asked: id.to_string(), have: have() })?])
    }
}

/// Picks the rung of the highest measured quality whose planned peak fits the device's budget; among equals the
/// one that takes less. When none fits with its weights resident, they are streamed.
///
/// # Errors
/// When nothing fits, the forced rung does not exist, or the inputs do not suit the model.
pub fn select(
    device: &Device,
    model: &Model,
    inputs: &[InputSpec],
    request: &Request<'_>,
) -> Result<Selection, SelectError> {
    let header = model.header();
    let budget = device.ledger().budget();
    let wanted = request.wanted(header)?;
    let baseline = device::current_rss().unwrap_or(0);
    let plans = Plans { model, inputs, threads: device.pool().threads(), baseline };
    let mut candidates = Vec::with_capacity(wanted.len());
    for rung in &wanted {
        let need = plans.need(*rung, Weighing::Resident, request)?;
        candidates.push(Candidate { rung: *rung, need, fits: need.total() <= budget });
    }
    let best = |weighing: Weighing, candidates: &[Candidate]| {
        let fitting = candidates.iter().filter(|c| c.fits);
        let best = fitting.max_by(|a, b| better(&header.rungs[a.rung], a, &header.rungs[b.rung], b));
        best.map(|c| (c.rung, weighing, c.need))
    };
    let mut choice = best(Weighing::Resident, &candidates);
    if choice.is_none() {
        let mut streamed = Vec::with_capacity(wanted.len());
        for rung in &wanted {
            let need = plans.need(*rung, Weighing::Streamed, request)?;
            streamed.push(Candidate { rung: *rung, need, fits: need.total() <= budget });
        }
        choice = best(Weighing::Streamed, &streamed);
        if choice.is_none() {
            let least = streamed.iter().min_by_key(|c| c.need.total()).ok_or(SelectError::NoRung)?;
            let (rung, least) = (header.rungs[least.rung].id.clone(), least.need.total());
            return Err(match request.forced {
                Some(_) => SelectError::RungDoesNotFit { rung, need: least, budget },
                None => SelectError::DoesNotFit { budget, least, rung },
            });
        }
    }
    let (rung, weighing, need) = choice.ok_or(SelectError::NoRung)?;
    let plan = plans.plan(rung)?;
    Ok(Selection { rung, weighing, need, plan, candidates, budget })
}

/// Measured quality decides; without it, more bytes are taken for better.
fn better(a: &Rung, ca: &Candidate, b: &Rung, cb: &Candidate) -> std::cmp::Ordering {
    let quality = |r: &Rung| r.quality.as_ref().map(|q| q.value);
    match (quality(a), quality(b)) {
        (Some(x), Some(y)) => x.total_cmp(&y),
        _ => a.bytes.cmp(&b.bytes),
    }
    .then_with(|| cb.need.total().cmp(&ca.need.total()))
}

/// Plans one rung at a time: what is kept of a plan that is not chosen is a number.
struct Plans<'a> {
    model: &'a Model,
    inputs: &'a [InputSpec],
    threads: usize,
    baseline: u64,
}

impl Plans<'_> {
    fn plan(&self, rung: usize) -> Result<Plan, PlanError> {
        let options = PlanOptions { threads: self.threads, keep_values: false };
        Plan::new(self.model, &self.model.header().rungs[rung], self.inputs, &options)
    }

    fn need(&self, rung: usize, weighing: Weighing, request: &Request<'_>) -> Result<Need, PlanError> {
        self.need_of(&self.plan(rung)?, rung, weighing, request)
    }

    fn need_of(
        &self,
        plan: &Plan,
        rung: usize,
        weighing: Weighing,
        request: &Request<'_>,
    ) -> Result<Need, PlanError> {
        let outputs = plan.outputs.iter().map(|o| o.bytes() as u64).sum::<u64>();
        let extra = request.extra + if request.copies_outputs { outputs } else { 0 };
        Need::new(self.baseline, self.model, &self.model.header().rungs[rung], plan, weighing, extra)
    }
}
