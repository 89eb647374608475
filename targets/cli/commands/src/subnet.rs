//! `--subnet`: any subnet of a supernet, whether or not the pack has rungs of it.

use crate::args::InspectArgs;
use crate::exit::Failure;
use crate::inputs;
use edge_runtime::Model;
use edge_runtime::device::{ByteSize, Device};
use edge_runtime::pack::{Acts, Header, Rung};
use edge_runtime::select::{self, Request, SelectError};
use edge_runtime::subnet::{Cut, Statistics, elastic_graph};
use serde_json::{Value, json};
use std::io::Write;

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
    let choices: serde_json::Map<String, Value> =
        elastic.named(choice).map(|(name, option)| (name.to_string(), json!(option))).collect();
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
    // More than any subnet takes: what it takes is what is asked.
    let device = Device::builder().threads(Some(1)).budget(Some(1 << 44)).build()?;
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
