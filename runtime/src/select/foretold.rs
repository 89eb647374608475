//! Subnets that are not rungs: a pack's table says what is expected of many, so that there is one for any budget.
//!
//! ```text
//! expect:  each entry at each precision of the nearest subnet's rungs: quality, bytes, arena, from the table and the rungs alone
//! plan:    the best of those that should fit, one after the other, until one does
//! ```
//! Planning is exact and slow, expecting is not: of 10^4 entries a handful are planned.

use super::{Request, SelectError, Selection, Weighing, by_quality, need, select_beside};
use crate::device::{self, Device};
use crate::model::Model;
use crate::pack::{Acts, Choice, Foreseen, Header, NO_PART, NUMBERS, Rung, hash128};
use crate::plan::{InputSpec, Plan};
use crate::session::plan_options;
use crate::sort;
use crate::subnet::{Cut, Neighbour, Point, neighbours};
use std::time::Duration;

/// Entries that are planned at most: each that does not fit lowers what the next may take.
const TRIES: usize = 12;
/// A subnet that was chosen by what is expected of it.
#[derive(Debug)]
pub struct Foretold {
    /// The one precision that was chosen.
    pub cut: Cut,
    /// What it takes, planned exactly; its `rung` is an index into `cut.rungs`.
    pub selection: Selection,
    /// The quality that is expected, in the unit of the rungs' and with the statistics that it runs with.
    pub quality: f32,
}

/// A time that is allowed, and what told how long runs take here.
#[derive(Clone, Copy, Debug)]
pub struct Paced {
    /// Index into the header's rungs of one that was timed.
    pub rung: usize,
    /// How long it took.
    pub took: Duration,
    /// How long a run may take.
    pub latency: Duration,
}

/// An entry of the table.
struct Entry {
    point: Point,
    quality: f32,
    weights: f64,
    arena: f64,
    work: f64,
}

/// The pack's table of subnets; empty where it has none, or the file is cut before it.
///
/// # Errors
/// When the table is damaged.
pub fn foreseen(model: &Model) -> Result<Vec<Foreseen>, SelectError> {
    let header = model.header();
    let Some(table) = &header.candidates else { return Ok(Vec::new()) };
    let bad = |why: String| SelectError::Candidates { why };
    let elastic = header.graphs.get(table.graph as usize).and_then(|graph| graph.elastic.as_deref());
    let elastic = elastic.ok_or_else(|| bad("its graph has no subnets".into()))?;
    // A file that is cut lacks it.
    let Some(bytes) = model.source().blob(table.blob) else { return Ok(Vec::new()) };
    let hash = header.blobs.get(table.blob as usize).map(|blob| blob.hash);
    if hash != Some(hash128(&[bytes])) {
        return Err(bad(format!("blob {} has another hash than the header says", table.blob)));
    }
    let variables = &elastic.variables;
    let mut all = Vec::with_capacity(table.count as usize);
    for (i, entry) in bytes.chunks_exact(variables.len() + NUMBERS).enumerate() {
        let (given, numbers) = entry.split_at(variables.len());
        let mut options = Vec::with_capacity(given.len());
        for (variable, option) in variables.iter().zip(given) {
            match *option {
                NO_PART => options.push(None),
                option if usize::from(option) < variable.options.len() => options.push(Some(option)),
                option => {
                    let have = variable.options.len();
                    return Err(bad(format!(
                        "entry {i} has option {option} of `{}`, which has {have}",
                        variable.name
                    )));
                }
            }
        }
        let word = |k: usize| [numbers[4 * k], numbers[4 * k + 1], numbers[4 * k + 2], numbers[4 * k + 3]];
        let number = |k: usize| u32::from_le_bytes(word(k));
        let quality = f32::from_le_bytes(word(0));
        if !quality.is_finite() {
            return Err(bad(format!("entry {i} has a quality of {quality}")));
        }
        all.push(Foreseen { options, quality, weights: number(1), arena: number(2), work: number(3) });
    }
    Ok(all)
}

/// Entries of the table, ready to be compared.
fn entries(model: &Model) -> Result<Vec<Entry>, SelectError> {
    let entry = |f: Foreseen| Entry {
        point: Point::new(f.options),
        quality: f.quality,
        weights: f64::from(f.weights),
        arena: f64::from(f.arena),
        work: f64::from(f.work),
    };
    Ok(foreseen(model)?.into_iter().map(entry).collect())
}

/// What a rung's numbers are to the table's: bytes, arena and quality of an entry follow.
struct Like<'a> {
    rung: &'a Rung,
    /// Bytes an element of a matrix.
    bytes: f64,
    /// Its arena over the one of the table.
    arena: f64,
    /// How much worse than the best rung of its subnet it is.
    worse: f32,
}

/// The precisions of each of the pack's own subnets.
fn likes<'a>(header: &'a Header, near: &[Neighbour], entries: &[Entry]) -> Vec<Vec<Like<'a>>> {
    let of = |near: &Neighbour| {
        let own = entries.iter().find(|entry| entry.point == near.point);
        let rungs = || header.rungs.iter().filter(|rung| rung.subnet == Some(near.subnet));
        let best = rungs().max_by(|a, b| by_quality(a, b)).and_then(|rung| rung.quality.as_ref());
        let (Some(own), Some(best)) = (own, best) else { return Vec::new() };
        let like = |rung: &'a Rung| {
            Some(Like {
                rung,
                bytes: rung.bytes as f64 / own.weights.max(1.0),
                arena: rung.arena as f64 / own.arena.max(1.0),
                worse: best.value - rung.quality.as_ref()?.value,
            })
        };
        rungs().filter_map(like).collect()
    };
    near.iter().map(of).collect()
}

/// What the process takes beside a rung's bytes, and for a byte of its arena: of a rung that was planned.
struct Scale {
    arena: f64,
    beside: f64,
}

fn scale(
    device: &Device,
    model: &Model,
    inputs: &[InputSpec],
    than: Option<&Selection>,
    baseline: u64,
) -> Result<Option<Scale>, SelectError> {
    let rungs = &model.header().rungs;
    let (rung, need) = match than {
        Some(chosen) => (&rungs[chosen.rung], chosen.need),
        None => {
            let Some(rung) = rungs.iter().min_by_key(|rung| rung.bytes) else { return Ok(None) };
            let plan = Plan::new(model, rung, inputs, &plan_options(device, false))?;
            (rung, need::Need::new(baseline, model, rung, &plan, Weighing::Resident, 0)?)
        }
    };
    Ok(Some(Scale {
        arena: need.arena as f64 / rung.arena.max(1) as f64,
        // Pages hold more than a rung's bytes, about as much of any.
        beside: (baseline + need::FIRST_RUN + need.plan + need.extra) as f64
            + need.weights.saturating_sub(rung.bytes) as f64,
    }))
}

/// The subnet of the pack's table that most is expected of, within the device's budget and, where `paced` says how, a time; `None` when the
/// pack has no table, or no subnet is expected to be better than `than` by more than expectations are off.
///
/// # Errors
/// When the table is damaged, or the inputs do not suit the model.
pub fn select_foretold(
    device: &Device,
    model: &Model,
    inputs: &[InputSpec],
    request: &Request<'_>,
    than: Option<&Selection>,
    paced: Option<Paced>,
) -> Result<Option<Foretold>, SelectError> {
    let model = &model.ladder();
    let header = &model.shared_header();
    let Some(table) = &header.candidates else { return Ok(None) };
    let entries = entries(model)?;
    let Some(elastic) = header.graphs[table.graph as usize].elastic.as_deref() else { return Ok(None) };
    let near = neighbours(header, table.graph, model.source()).map_err(crate::plan::PlanError::from)?;
    let likes = likes(header, &near, &entries);
    let baseline = match than {
        Some(chosen) => chosen.need.process - need::FIRST_RUN,
        None => device::current_rss().unwrap_or(0),
    };
    let budget = device.ledger().budget();
    let Some(scale) = scale(device, model, inputs, than, baseline)? else { return Ok(None) };
    // Seconds a thousand multiply-adds, of whichever kind was timed.
    let pace = paced.and_then(|paced| {
        let rung = header.rungs.get(paced.rung)?;
        let own = near.iter().find(|near| rung.subnet == Some(near.subnet))?;
        let entry = entries.iter().find(|entry| entry.point == own.point)?;
        Some((paced.took.as_secs_f64() / entry.work.max(1.0), rung.acts, paced.latency.as_secs_f64()))
    });
    let quick = |entry: &Entry, acts: Acts| match pace {
        // Integers are not slower than floats.
        Some((each, timed, latency)) => (acts == timed || acts == Acts::I8) && each * entry.work <= latency,
        None => paced.is_none(),
    };
    let floor =
        than.and_then(|chosen| Some(header.rungs[chosen.rung].quality.as_ref()?.value + table.spread));
    let mut able: Vec<(f32, f64, u32, &Rung)> = Vec::new();
    for (i, entry) in entries.iter().enumerate() {
        let apart = |near: &Neighbour| near.point.distance(&entry.point, elastic);
        let nearest =
            near.iter().enumerate().min_by(|a, b| apart(a.1).total_cmp(&apart(b.1)).then(b.0.cmp(&a.0)));
        let Some((nearest, neighbour)) = nearest else { break };
        // Those that have rungs were measured.
        if neighbour.point == entry.point {
            continue;
        }
        for like in &likes[nearest] {
            let quality = entry.quality - like.worse;
            let bytes = entry.weights * like.bytes;
            let total = scale.beside + bytes + entry.arena * like.arena * scale.arena;
            if total <= budget as f64 && floor.is_none_or(|f| quality > f) && quick(entry, like.rung.acts) {
                able.push((quality, total, i as u32, like.rung));
            }
        }
    }
    sort::by(&mut able, |a, b| b.0.total_cmp(&a.0).then(a.1.total_cmp(&b.1)).then(a.2.cmp(&b.2)));
    let mut most = f64::INFINITY;
    let mut tries = 0;
    for (quality, total, entry, like) in able {
        if total >= most {
            continue;
        }
        if tries == TRIES {
            break;
        }
        tries += 1;
        // What plays no part is as in the largest network.
        let point = entries[entry as usize].point.options();
        let last = |i: usize| elastic.variables[i].options.len().saturating_sub(1);
        let options: Vec<usize> =
            point.iter().enumerate().map(|(i, option)| option.map_or(last(i), usize::from)).collect();
        let Some(choice) = Choice::new(&options) else { continue };
        let cut = model.subnet_near(table.graph, &choice, Some(like), &near)?;
        let among = model.among(cut.rungs.clone());
        let request = Request { available: &[], forced: None, ..request.clone() };
        match select_beside(device, &among, inputs, &request, baseline, budget) {
            // Streaming is for when nothing else fits.
            Ok(selection) if selection.weighing == Weighing::Resident || than.is_none() => {
                return Ok(Some(Foretold { cut, selection, quality }));
            }
            Ok(_) | Err(SelectError::DoesNotFit { .. }) => most = total,
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}
