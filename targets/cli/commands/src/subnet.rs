//! `--subnet`: any subnet of a supernet, whether or not the pack has rungs of it.

use crate::args::{InspectArgs, Target};
use crate::exit::Failure;
use crate::inputs;
use crate::load::Opened;
use edge_runtime::device::{ByteSize, Device};
use edge_runtime::inputs::NamedArray;
use edge_runtime::pack::{Acts, Header, Rung};
use edge_runtime::select::{self, Access, PaceError, Paced, Reader, Request, SelectError};
use edge_runtime::subnet::{Cut, Statistics, elastic_graph};
use edge_runtime::{Model, Session};
use serde_json::{Value, json};
use std::io::Write;
use std::time::Duration;

/// The subnet that a text names, at the precision of a rung or of the nearest subnet's, as what is chosen among.
pub fn of(model: &Model, text: &str, rung: Option<&str>) -> Result<(Model, Cut), Failure> {
    let header = model.header();
    let usage = |error: &dyn std::fmt::Display| Failure::Usage(format!("--subnet {text}: {error}"));
    elastic_graph(header, None).map_err(|e| usage(&e))?;
    let like = match rung {
        Some(id) => Some(header.rungs.iter().find(|rung| rung.id == id).ok_or_else(|| {
            let have = header.rungs.iter().map(|rung| format!("`{}`", rung.id)).collect::<Vec<_>>();
            SelectError::NoSuchRung { asked: id.into(), have: have.join(", ") }
        })?),
        None => None,
    };
    let graph = elastic_graph(header, like).map_err(|e| usage(&e))?;
    let elastic = header.graphs[graph as usize].elastic.as_deref();
    let choice = elastic.map(|elastic| elastic.choose(text)).transpose().map_err(|e| usage(&e))?;
    let cut = model.subnet(graph, &choice.unwrap_or_default(), like)?;
    Ok((model.among(cut.rungs.clone()), cut))
}

/// Instead of choices: whatever most is expected of.
pub const ANY: &str = "any";

/// Whether the pack can be asked for any subnet.
pub fn has_table(model: &Model, rung: Option<&str>) -> Result<(), Failure> {
    let header = model.header();
    let usage = |why: &dyn std::fmt::Display| Err(Failure::Usage(format!("--subnet {ANY}: {why}")));
    match (elastic_graph(header, None), rung) {
        (Err(error), _) => usage(&error),
        (_, Some(rung)) => usage(&format!("--rung {rung} asks for that rung; leave one of them out")),
        _ if header.candidates.is_none() => {
            usage(&"the pack says of no further subnets what is expected of them; convert it again")
        }
        _ => Ok(()),
    }
}

/// With `--subnet any` chooses a subnet of the pack's table, where one is expected to be clearly better than every rung that fits: within a
/// time if there is one.
pub fn foretell(
    opened: &mut Opened,
    target: &Target,
    arrays: &[NamedArray],
    latency: Option<Duration>,
    copies_outputs: bool,
) -> Result<(), Failure> {
    if target.subnet.as_deref() != Some(ANY) {
        return Ok(());
    }
    let specs = inputs::specs(arrays);
    let set = |session: &mut Session| {
        arrays.iter().enumerate().try_for_each(|(i, array)| session.set_input(i, &array.data))
    };
    let device = opened.device.clone();
    let within = |model: &Model, reader: &mut Reader, request: &Request<'_>, latency: Duration| {
        select::select_within(&device, model, &specs, request, reader, latency, set)
    };
    let request = Request { copies_outputs, ..opened.request(target) };
    let (mut paced, mut rungs) = (None, request.clone());
    if let Some(latency) = latency {
        match within(&opened.model, &mut opened.reader(Access::Mapped), &request, latency) {
            Ok(found) => {
                rungs.forced = Some(&opened.model.rungs()[found.rung].id);
                paced = Some(found);
            }
            Err(PaceError::TooSlow { rung, took, .. }) => {
                let index = opened.model.rungs().iter().position(|r| r.id == rung);
                paced = index.map(|rung| Paced { rung, took, latency });
            }
            // Nothing was timed.
            Err(PaceError::Select(SelectError::DoesNotFit { .. })) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
    let too_slow = latency.is_some() && rungs.forced.is_none();
    let than = match select::select(&device, &opened.model, &specs, &rungs) {
        Ok(chosen) if !too_slow => Some(chosen),
        Ok(_) | Err(SelectError::DoesNotFit { .. }) => None,
        Err(error) => return Err(error.into()),
    };
    for _ in 0..TRIES {
        let found = select::select_foretold(&device, &opened.model, &specs, &request, than.as_ref(), paced);
        let found = match found {
            Ok(Some(found)) => found,
            Ok(None) => return Ok(()),
            Err(error @ SelectError::Candidates { .. }) => {
                eprintln!("edge-run: warning: {error}");
                return Ok(());
            }
            Err(error) => return Err(error.into()),
        };
        let model = opened.model.among(found.cut.rungs.clone());
        if let (Some(latency), Some(paced)) = (latency, &mut paced) {
            let mut reader = Reader::new(opened.pack.clone(), Access::Mapped).among(&model);
            let request = Request { available: &[], ..request.clone() };
            match within(&model, &mut reader, &request, latency) {
                Ok(_) => {}
                // So is whatever else was expected to be as fast.
                Err(PaceError::TooSlow { took, .. }) => {
                    paced.took = paced.took.mul_f64(1.02 * took.as_secs_f64() / latency.as_secs_f64());
                    continue;
                }
                Err(error) => return Err(error.into()),
            }
        }
        if let Some(table) = &opened.model.header().candidates {
            let (quality, metric, spread) = (found.quality, &table.metric, table.spread);
            eprintln!("edge-run: {quality:.1} {metric} are expected of the subnet, give or take {spread:.1}");
        }
        warn(opened.model.header(), &found.cut);
        (opened.expected, opened.cut, opened.model) = (Some(found.quality), Some(found.cut), model);
        return Ok(());
    }
    Ok(())
}

/// Subnets that are timed at most.
const TRIES: usize = 4;

/// The ids of the rungs of one of the pack's own subnets.
fn rungs_of(header: &Header, subnet: u32) -> Vec<&str> {
    header.rungs.iter().filter(|rung| rung.subnet == Some(subnet)).map(|rung| rung.id.as_str()).collect()
}

/// Says on stderr when a subnet runs with another's statistics.
pub fn warn(header: &Header, cut: &Cut) {
    if let Some(why) = unmeasured(header, cut) {
        eprintln!("edge-run: warning: {why}");
    }
}

fn unmeasured(header: &Header, cut: &Cut) -> Option<String> {
    let Statistics::Nearest { subnet, .. } = cut.statistics else { return None };
    let near = rungs_of(header, subnet).first().map_or("none".to_string(), |id| format!("`{id}`"));
    Some(format!(
        "the pack has no statistics of this subnet: it runs with those of the nearest (rung {near}), and nobody measured how good it is"
    ))
}

/// The choices of a rung's subnet, and whose statistics it has where it was asked for.
pub fn json(header: &Header, rung: &Rung, cut: Option<&Cut>) -> Value {
    let stored = rung.subnet.and_then(|subnet| header.subnets.get(subnet as usize)).map(|s| &s.choice);
    let choice = rung.chosen.as_ref().map(|chosen| chosen.choice()).or(stored);
    let elastic = header.graphs.get(rung.graph as usize).and_then(|graph| graph.elastic.as_deref());
    let (Some(choice), Some(elastic)) = (choice, elastic) else { return Value::Null };
    let mut choices = serde_json::Map::new();
    elastic.named(choice).for_each(|(name, option)| _ = choices.insert(name.to_string(), json!(option)));
    let mut value = json!({"choices": choices, "statistics": "own"});
    match cut.map(|cut| cut.statistics) {
        Some(Statistics::Nearest { subnet, distance }) => {
            value["statistics"] = json!("nearest");
            value["nearest"] = json!({"rungs": rungs_of(header, subnet), "distance": distance});
        }
        Some(Statistics::None) => value["statistics"] = json!("none"),
        Some(Statistics::Own) | None => {}
    }
    value
}

/// What a subnet takes: bytes, arena, and the planned peak of a process.
pub fn inspect(model: &Model, cut: &Cut, args: &InspectArgs) -> Result<(), Failure> {
    let header = model.header();
    let rungs = model.rungs();
    let Some(first) = rungs.first() else { return Err(SelectError::NoRung.into()) };
    let arrays = inputs::noise(model.graph(first), &args.shape)?;
    let specs = inputs::specs(&arrays);
    let device = Device::builder().threads(Some(1)).build()?;
    let request = Request::default();
    let chosen = select::select(&device, model, &specs, &request)?;
    let all = select::candidates(&device, model, &specs, &request, &chosen)?;
    let mut out = std::io::stdout().lock();
    if args.json {
        let rungs: Vec<Value> = all
            .iter()
            .map(|c| {
                let rung = &rungs[c.rung];
                json!({"id": rung.id, "acts": rung.acts, "bytes": rung.bytes, "end": rung.end,
                    "arena": c.need.arena, "planned": c.need.total(), "quality": rung.quality})
            })
            .collect();
        let value = json!({"subnet": json(header, first, Some(cut)), "rungs": rungs});
        writeln!(out, "{value:#}")?;
        return Ok(());
    }
    if let Some(elastic) = header.graphs[first.graph as usize].elastic.as_deref() {
        for (name, option) in elastic.named(&cut.choice) {
            writeln!(out, "{name}={option}")?;
        }
    }
    if let Some(why) = unmeasured(header, cut) {
        writeln!(out, "{why}")?;
    }
    let wide = rungs.iter().map(|rung| rung.id.len()).max().unwrap_or(0);
    writeln!(out, "{:<wide$} {:>4} {:>12} {:>12} {:>12}", "rung", "acts", "bytes", "arena", "planned")?;
    for c in &all {
        let rung = &rungs[c.rung];
        let acts = if rung.acts == Acts::I8 { "i8" } else { "f32" };
        let planned = ByteSize(c.need.total()).to_string();
        writeln!(out, "{:<wide$} {acts:>4} {:>12} {:>12} {planned:>12}", rung.id, rung.bytes, c.need.arena)?;
    }
    Ok(())
}
