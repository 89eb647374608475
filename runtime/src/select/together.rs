//! Several ladders + what is left of one budget -> a rung for each model.
//!
//! All models are to be there at once: weights, arenas and buffers add up, the process counts once. The lowest quality
//! is made as high as can be, then the lowest of those models that can still rise, and so on. Streaming is for what
//! does not fit otherwise: as few models as will do.

use super::need::{FIRST_RUN, START_SPREAD};
use super::{Need, Plans, Request, SelectError, Share, Weighing};
use crate::device::{self, ByteSize, Device};
use crate::model::Model;
use crate::pack::Rung;
use crate::plan::{InputSpec, PlanError};
use crate::sort;

/// One of the models that are to share what is left of a budget.
#[derive(Clone)]
pub struct Member<'a> {
    /// What messages and the account call it.
    pub name: &'a str,
    /// The model; no weight is read through it.
    pub model: &'a Model,
    /// The largest inputs that its session will be planned for.
    pub inputs: &'a [InputSpec],
    /// What to choose among, and what the caller holds for it.
    pub request: Request<'a>,
}

/// No rungs can be chosen.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs)] // the fields are named in the messages
pub enum TogetherError {
    #[error(
        "{name} does not fit: of {} {} are left for it, and it needs {}{}; the least budget that would do is {}",
        ByteSize(*budget), ByteSize(*left), ByteSize(*need), beside(others), ByteSize(*least)
    )]
    DoesNotFit {
        /// The model that needs most, at its least.
        name: String,
        need: u64,
        /// What is left for this model beside the others at their least.
        left: u64,
        /// The other models at their least.
        others: Vec<(String, u64)>,
        budget: u64,
        least: u64,
    },
    #[error("{name}: {source}")]
    Select { name: String, source: SelectError },
    #[error("{name}: {source}")]
    Plan { name: String, source: PlanError },
}

fn beside(others: &[(String, u64)]) -> String {
    let list: Vec<String> =
        others.iter().map(|(name, bytes)| format!("{name} {}", ByteSize(*bytes))).collect();
    if list.is_empty() { String::new() } else { format!(" beside {}", list.join(", ")) }
}

/// Gives each of several models its rung, so that all of them fit what is left of the device's budget at the same time.
/// The process's own bytes are taken out of the account first ([`Device::hold_process`]), unless they are already.
///
/// # Errors
/// When nothing fits, a forced rung does not exist, or the inputs do not suit a model. Nothing but the process is held then.
pub fn choose_together(device: &Device, members: &[Member<'_>]) -> Result<Vec<Share>, TogetherError> {
    let process = match device.process_held() {
        Some(_) => 0,
        // Before any planning: what that leaves on the heap is part of what a first run touches. What an attempt before this one left, for
        // larger pictures, is not.
        None => {
            members.iter().for_each(|member| member.model.forget_bound());
            device::trim_heap();
            let bytes = device::current_rss().unwrap_or(0) + FIRST_RUN;
            // Where not even the process fits, the models cannot: the refusal below counts both.
            device.hold_process(bytes).map_or(bytes, |_| 0)
        }
    };
    let planned = |bands| members.iter().map(|m| Table::of(device, m, bands)).collect::<Result<Vec<_>, _>>();
    let mut tables = planned(false)?;
    let budget = device.ledger().budget();
    let held = device.ledger().used() + process;
    let left = budget.saturating_sub(held);
    let mut choice = spread(&fronts_of(&tables), left);
    let best =
        |choice: &[usize]| choice.iter().zip(&tables).all(|(at, table)| at + 1 == table.resident.len());
    if !choice.as_deref().is_some_and(best) {
        // Bands of pictures take less, but planning them takes time.
        tables = planned(true)?;
        choice = spread(&fronts_of(&tables), left);
    }
    let mut fronts = fronts_of(&tables);
    for i in by_saving(&tables) {
        if choice.is_some() {
            break;
        }
        fronts[i] = &tables[i].streamed;
        choice = spread(&fronts, left);
    }
    let Some(choice) = choice else {
        return Err(does_not_fit(members, &tables, budget, held));
    };
    let chosen: Vec<Step> = fronts.iter().zip(&choice).map(|(front, at)| front[*at]).collect();
    // What the rungs leave is for plans that are faster.
    let taken = chosen.iter().map(|step| step.need.total()).sum::<u64>();
    let mut spare = left.saturating_sub(taken);
    let mut shares = Vec::with_capacity(members.len());
    for (member, step) in members.iter().zip(chosen) {
        let failed = |source| TogetherError::Plan { name: member.name.into(), source };
        let mut plans = Plans::new(device, member.model, member.inputs, 0);
        let room = step.need.total() + spare;
        let fast = match step.weighing {
            Weighing::Resident => plans.fast(step.rung, &member.request, room + FIRST_RUN).map_err(failed)?,
            Weighing::Streamed => None,
        };
        let (plan, need) = match fast {
            Some(fast) => fast,
            None => {
                plans.within(step.rung, step.weighing, &member.request, room + FIRST_RUN).map_err(failed)?
            }
        };
        let (plan, need) =
            plans.local((plan, need), step.rung, step.weighing, &member.request).map_err(failed)?;
        let need = Need { process: 0, ..need };
        spare = room.saturating_sub(need.total());
        let (name, rung, weighing) = (member.name.into(), step.rung, step.weighing);
        shares.push(Share { name, rung, weighing, need, plan });
    }
    // What every rung was planned with is megabytes on a long ladder.
    members.iter().for_each(|member| member.model.forget_bound());
    device::trim_heap();
    Ok(shares)
}

/// A rung on the way up: each step takes more and gives more than the one before.
#[derive(Clone, Copy, Debug)]
pub(super) struct Step {
    pub rung: usize,
    pub weighing: Weighing,
    pub need: Need,
    /// On the scale that all models are compared on.
    pub level: f64,
}

/// The steps of one model.
struct Table {
    resident: Vec<Step>,
    streamed: Vec<Step>,
}

impl Table {
    /// The steps of a model; `bands` counts the least that its rungs take in bands too.
    fn of(device: &Device, member: &Member<'_>, bands: bool) -> Result<Table, TogetherError> {
        let mut plans = Plans::new(device, member.model, member.inputs, 0);
        let wanted = member
            .request
            .wanted(member.model)
            .map_err(|source| TogetherError::Select { name: member.name.into(), source })?;
        let rungs = member.model.rungs();
        let failed = |source| TogetherError::Plan { name: member.name.into(), source };
        let (mut resident, mut streamed) = (Vec::new(), Vec::new());
        for rung in wanted {
            let whole = plans.plan(rung).map_err(failed)?;
            let cut = bands.then(|| whole.clone().cut(0));
            for plan in std::iter::once(whole).chain(cut) {
                for (weighing, steps) in
                    [(Weighing::Resident, &mut resident), (Weighing::Streamed, &mut streamed)]
                {
                    let need = plans.need(&plan, rung, weighing, &member.request).map_err(failed)?;
                    let need = Need { process: 0, ..need };
                    steps.push(Step { rung, weighing, need, level: level(&rungs[rung]) });
                }
            }
        }
        Ok(Table { resident: rising(resident), streamed: rising(streamed) })
    }

    /// The least that the model takes, some way.
    fn least(&self) -> u64 {
        let first = |steps: &[Step]| steps.first().map_or(u64::MAX, |s| s.need.total());
        first(&self.resident).min(first(&self.streamed))
    }
}

/// The steps of each model, weights resident.
fn fronts_of(tables: &[Table]) -> Vec<&[Step]> {
    tables.iter().map(|t| t.resident.as_slice()).collect()
}

/// Measured quality, in the units of its metric (dB for most models). A rung that was not measured stands below all that
/// were, larger ones above smaller.
fn level(rung: &Rung) -> f64 {
    match &rung.quality {
        Some(quality) => f64::from(quality.rank()),
        None => rung.bytes as f64 - (1u64 << 52) as f64,
    }
}

/// The steps that are worth their bytes: by need, each better than all before it.
pub(super) fn rising(mut steps: Vec<Step>) -> Vec<Step> {
    sort::by(&mut steps, |a, b| a.need.total().cmp(&b.need.total()).then(b.level.total_cmp(&a.level)));
    let mut best = f64::NEG_INFINITY;
    steps.retain(|s| {
        let better = s.level > best;
        best = best.max(s.level);
        better
    });
    steps
}

/// Which step of each front: the lowest level as high as can be, then the next lowest. `None` when not even the first
/// steps fit.
///
/// The lowest model takes its next step until that does not fit; then it is done. No other could have made room for it:
/// each took its steps while it was the lowest itself.
pub(super) fn spread(fronts: &[&[Step]], left: u64) -> Option<Vec<usize>> {
    let mut used = 0u64;
    for front in fronts {
        used = used.checked_add(front.first()?.need.total())?;
    }
    if used > left {
        return None;
    }
    let mut at = vec![0; fronts.len()];
    let mut rises = vec![true; fronts.len()];
    loop {
        let level = |i: &usize| fronts[*i][at[*i]].level;
        let lowest = (0..fronts.len()).filter(|i| rises[*i]).min_by(|a, b| level(a).total_cmp(&level(b)));
        let Some(i) = lowest else { return Some(at) };
        let next = fronts[i].get(at[i] + 1).map(|s| used - fronts[i][at[i]].need.total() + s.need.total());
        match next.filter(|used| *used <= left) {
            Some(with_it) => {
                used = with_it;
                at[i] += 1;
            }
            None => rises[i] = false,
        }
    }
}

/// Members by what streaming saves, most first.
fn by_saving(tables: &[Table]) -> Vec<usize> {
    let least = |steps: &[Step]| steps.first().map_or(0, |s| s.need.total());
    let saving = |i: &usize| least(&tables[*i].resident).saturating_sub(least(&tables[*i].streamed));
    let mut order: Vec<usize> = (0..tables.len()).collect();
    sort::by_key(&mut order, |i| std::cmp::Reverse(saving(i)));
    order
}

fn does_not_fit(members: &[Member<'_>], tables: &[Table], budget: u64, held: u64) -> TogetherError {
    let least: Vec<u64> = tables.iter().map(Table::least).collect();
    let Some(most) = (0..least.len()).max_by_key(|i| least[*i]) else {
        let source = SelectError::NoRung;
        return TogetherError::Select { name: "no model".into(), source };
    };
    let others: Vec<(String, u64)> =
        (0..least.len()).filter(|i| *i != most).map(|i| (members[i].name.to_string(), least[i])).collect();
    let beside: u64 = others.iter().map(|(_, bytes)| bytes).sum();
    TogetherError::DoesNotFit {
        name: members[most].name.into(),
        need: least[most],
        left: budget.saturating_sub(held).saturating_sub(beside),
        others,
        budget,
        least: held + START_SPREAD + beside + least[most],
    }
}
