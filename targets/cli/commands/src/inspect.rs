//! `edge-run inspect`: what is in a pack.

use crate::args::InspectArgs;
use crate::exit::Failure;
use crate::{inputs, subnet};
use edge_runtime::Model;
use edge_runtime::device::ByteSize;
use edge_runtime::graph::{DType, Port};
use edge_runtime::pack::{Acts, Header, PackFile};
use edge_runtime::plan::{Plan, PlanOptions};
use edge_runtime::weights::Registry;
use serde_json::{Value, json};
use std::io::Write;
use std::sync::Arc;

pub fn command(args: &InspectArgs) -> Result<(), Failure> {
    crate::logging::start(0);
    let pack = PackFile::open(&args.pack)?;
    let model = Model::new(
        pack.shared_header(),
        Arc::new(pack.map(pack.file_len())?),
        Arc::new(Registry::standard()),
    );
    if let Some(text) = &args.subnet {
        let (model, cut) = subnet::of(&model, text, args.rung.as_deref())?;
        return subnet::inspect(&model, &cut, args);
    }
    let steps = match &args.rung {
        Some(id) => Some(steps(&model, id, &args.shape)?),
        None => None,
    };
    let mut out = std::io::stdout().lock();
    if args.json {
        let mut value = describe(&pack);
        value["steps"] = json!(steps);
        writeln!(out, "{value:#}")?;
        return Ok(());
    }
    let header = pack.header();
    writeln!(out, "{}: {}", args.pack.display(), ByteSize(pack.file_len()))?;
    writeln!(out, "model {}", header.card.name)?;
    for (key, value) in &header.card.metadata {
        writeln!(out, "  {key}: {value:.100}")?;
    }
    let graph = &header.graphs[0];
    for (what, ports) in [("input", &graph.inputs), ("output", &graph.outputs)] {
        for port in ports {
            let dims = port.dims.as_deref().map(inputs::describe).unwrap_or_default();
            writeln!(out, "{what} {} {} {dims}", graph.name(port.value), port.dtype)?;
        }
    }
    for state in &graph.states {
        let (output, input) = (graph.outputs[state.output].value, graph.inputs[state.input].value);
        writeln!(out, "state {} becomes {}", graph.name(output), graph.name(input))?;
    }
    for (i, elastic) in header.graphs.iter().enumerate().filter_map(|(i, g)| Some((i, g.elastic.as_ref()?))) {
        writeln!(out, "graph {i} has {} subnets", elastic.subnets())?;
        for variable in &elastic.variables {
            writeln!(out, "choice {}={}", variable.name, variable.options.join("|"))?;
        }
    }
    writeln!(
        out,
        "{} tensors, {} graphs, {} rungs",
        header.tensors.len(),
        header.graphs.len(),
        header.rungs.len()
    )?;
    writeln!(out, "{:<14} {:>4} {:>12} {:>12} {:>8}", "rung", "acts", "bytes", "arena", "quality")?;
    for r in &header.rungs {
        let quality =
            r.quality.as_ref().map_or(String::new(), |q| format!("{:.*} {}", q.digits(), q.value, q.metric));
        let acts = if r.acts == Acts::I8 { "i8" } else { "f32" };
        writeln!(out, "{:<14} {acts:>4} {:>12} {:>12} {quality:>8}", r.id, r.bytes, r.arena)?;
    }
    if let Some(steps) = steps {
        for step in steps {
            writeln!(out, "{}", step.as_str().unwrap_or_default())?;
        }
    }
    Ok(())
}

fn ports(header: &Header, ports: &[Port]) -> Vec<Value> {
    let graph = &header.graphs[0];
    ports
        .iter()
        .map(|p| {
            json!({
                "name": graph.name(p.value),
                "dtype": p.dtype.name(),
                "dims": p.dims,
                "plan_time": p.plan_time,
            })
        })
        .collect()
}

fn describe(pack: &PackFile) -> Value {
    let header = pack.header();
    json!({
        "file_bytes": pack.file_len(),
        "missing_bytes": pack.missing_bytes(),
        "card": header.card,
        "inputs": ports(header, &header.graphs[0].inputs),
        "outputs": ports(header, &header.graphs[0].outputs),
        "states": header.graphs[0].states,
        "graphs": header.graphs.len(),
        "choices": header.graphs.iter().map(|g| g.elastic.as_ref().map(|e| &e.variables)).collect::<Vec<_>>(),
        "tensors": header.tensors.iter().map(|t| json!({"name": t.name, "n": t.n, "k": t.k})).collect::<Vec<_>>(),
        "sections": header.sections,
        "rungs": header.rungs.iter().map(|r| json!({
            "id": r.id,
            "graph": r.graph,
            "acts": r.acts,
            "subnet": subnet::json(header, r, None),
            "floats": r.floats.len(),
            "bytes": r.bytes,
            "end": r.end,
            "arena": r.arena,
            "quality": r.quality,
        })).collect::<Vec<_>>(),
    })
}

/// One line a step: what it computes, and whether its result is float in an integer rung.
fn steps(model: &Model, id: &str, shapes: &[String]) -> Result<Vec<Value>, Failure> {
    let header = model.header();
    let rung = header.rungs.iter().find(|r| r.id == id);
    let rung = rung.ok_or_else(|| Failure::Usage(format!("the pack has no rung `{id}`")))?;
    let arrays = inputs::noise(model.graph(rung), shapes)?;
    let plan = Plan::new(model, rung, &inputs::specs(&arrays), &PlanOptions::default())?;
    let line = |step: &edge_runtime::plan::Step| {
        let result = &step.outputs[0];
        let float = if rung.acts == Acts::I8 && result.dtype == DType::F32 { "  float" } else { "" };
        let name = plan.names.get(step.name as usize).map(String::as_str).unwrap_or_default();
        json!(format!("{:<16} {:<4} {:?} {name}{float}", step.op.name(), result.dtype.name(), result.dims))
    };
    Ok(plan.steps.iter().map(line).collect())
}
