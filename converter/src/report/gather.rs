//! A page's figures: from the pack's header, and planned and timed on this machine.

use super::bench::{Bench, ROUNDS};
use super::format;
use super::page::{Cost, Lack, Layer, Machine, Page, PageOptions, RungFigures, SubnetFigures, Subnets};
use super::words::rounded;
use crate::board::Board;
use crate::convert::Watch;
use crate::error::ConvertError;
use crate::measure::{Evaluator, RUNS};
use crate::samples::Samples;
use crate::shapes::Sizes;
use edge_runtime::Model;
use edge_runtime::graph::{Block, Graph, Source};
use edge_runtime::pack::{Acts, Foreseen, Header, PackFile, Rung, RungState, Take};
use edge_runtime::select;
use edge_runtime::weights::{Registry, needed_blobs};
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Gathers what a pack's page says.
///
/// # Errors
/// When the pack cannot be opened, samples do not suit it, or `stop` is set.
pub fn gather(
    path: &Path,
    options: &PageOptions,
    watch: &mut dyn Watch,
    stop: &AtomicBool,
) -> Result<Page, ConvertError> {
    let file = PackFile::open(path)?;
    let mapped = Arc::new(file.map(file.file_len())?);
    let model = Arc::new(Model::new(file.shared_header(), mapped, Arc::new(Registry::standard())));
    let evaluator = Evaluator::new(stop)?.timed_on(Board::of(options.device.as_deref())?);
    let header = file.header();
    let costs = header.costs.iter().map(|c| ((c.graph, c.tensor, c.root), c.db.as_slice())).collect();
    let mut rungs: Vec<RungFigures> = Vec::with_capacity(header.rungs.len());
    for (rung, state) in header.rungs.iter().zip(file.rung_states()) {
        if stop.load(Ordering::Relaxed) {
            return Err(ConvertError::Interrupted);
        }
        rungs.push(figures(&model, &costs, rung, state));
    }
    lacks(&model, &mut rungs);

    let rung = &header.rungs[file.available()[0]];
    let samples = match &options.input {
        Some(input) => Samples::load(input, model.graph(rung))?,
        None => match Samples::noise(&model, rung, &options.shapes) {
            // Making plans says so again, for the page.
            Err(ConvertError::FreeDimensions { .. }) => {
                let graph = model.graph(rung);
                Samples::noise_of(graph, &Sizes::of(graph, &options.shapes), &options.shapes)?
            }
            samples => samples?,
        },
    };
    let sample = &samples.calibration[0];
    let given = options.input.is_some() || !options.shapes.is_empty();
    let bench = Bench { evaluator: &evaluator, model: &model, sample, available: file.available() };
    let not_planned = unless_given(given, bench.plan(&mut rungs))?.err();
    let timed = match (&not_planned, options.no_latency) {
        (_, true) => Err("not asked for (--no-latency)".to_string()),
        (Some(_), _) => Err("the rungs have no plan".to_string()),
        (None, false) => unless_given(given, bench.time(&mut rungs, watch))?,
    };
    let (spread, not_timed) = (timed.as_ref().ok().copied(), timed.err());
    let device = evaluator.device();
    Ok(Page {
        pack: path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned(),
        name: model.name().to_string(),
        metadata: header.card.metadata.clone(),
        file_bytes: file.file_len(),
        missing_bytes: file.missing_bytes(),
        reference: header.golden.as_ref().map(|golden| golden.reference.clone()),
        samples: samples.origin,
        inputs: sample.inputs.iter().map(|a| (a.name.clone(), a.dims.clone())).collect(),
        machine: Machine {
            cpu: device.cpu().model.clone(),
            isa: device.isa().name().to_string(),
            threads: device.pool().threads(),
            runs: RUNS,
            rounds: ROUNDS,
        },
        device: evaluator.board().map(|board| board.name().to_string()),
        not_planned,
        spread,
        not_timed,
        best: best(&rungs),
        rungs,
        order: order(header),
        subnets: subnets(&model, &file.shared_header())?,
    })
}

/// The pack's table of subnets; those that have rungs with what was measured of them.
fn subnets(model: &Model, header: &Arc<Header>) -> Result<Option<Subnets>, ConvertError> {
    let Some(table) = &header.candidates else { return Ok(None) };
    let elastic = header.graphs.get(table.graph as usize).and_then(|graph| graph.elastic.as_deref());
    let Some(elastic) = elastic else { return Ok(None) };
    let mut own = HashMap::new();
    for (i, subnet) in header.subnets.iter().enumerate().filter(|(_, subnet)| subnet.graph == table.graph) {
        let floats = |rung: &(usize, &Rung)| rung.1.subnet == Some(i as u32) && rung.1.acts == Acts::F32;
        let quality = |rung: &Rung| rung.quality.as_ref().map_or(f32::MIN, |q| q.value);
        let best = header
            .rungs
            .iter()
            .enumerate()
            .filter(floats)
            .max_by(|a, b| quality(a.1).total_cmp(&quality(b.1)));
        let part = edge_runtime::subnet::plays(header, table.graph, &subnet.choice);
        if let (Some((at, rung)), Ok(part)) = (best, part) {
            own.insert(part, (at, quality(rung)));
        }
    }
    let figures = |f: Foreseen| {
        let measured = own.get(&f.options);
        let named = elastic.variables.iter().zip(&f.options).filter_map(|(variable, option)| {
            Some((variable.name.clone(), variable.options.get(usize::from((*option)?))?.clone()))
        });
        SubnetFigures {
            choices: named.collect(),
            weights: f.weights,
            work: f.work,
            quality: measured.map_or(f.quality, |m| m.1),
            rung: measured.map(|m| m.0),
        }
    };
    let all = select::foreseen(model)?.into_iter().map(figures).collect();
    Ok(Some(Subnets {
        metric: table.metric.clone(),
        spread: table.spread,
        device: table.device.clone(),
        all,
    }))
}

/// What went wrong in words when nobody said what to run with: the rest of the page stands without it.
fn unless_given<T>(given: bool, done: Result<T, ConvertError>) -> Result<Result<T, String>, ConvertError> {
    match done {
        Ok(done) => Ok(Ok(done)),
        Err(ConvertError::Interrupted) => Err(ConvertError::Interrupted),
        Err(e) if given => Err(e),
        Err(e) => Ok(Err(format!("seeded noise does not suit the model; give --input or --shape ({e})"))),
    }
}

/// Tensors in the order of use, those that no node uses last.
fn order(header: &Header) -> Vec<usize> {
    fn walk(graph: &Graph, block: &Block, see: &mut dyn FnMut(u32)) {
        for node in &block.nodes {
            for value in node.inputs.iter().flatten() {
                if let Source::Weight(tensor) = graph.values[*value as usize].source {
                    see(tensor);
                }
            }
            node.op.blocks().for_each(|block| walk(graph, block, see));
        }
    }
    let mut seen = vec![false; header.tensors.len()];
    let mut order = Vec::with_capacity(seen.len());
    let mut see = |tensor: u32| {
        if !std::mem::replace(&mut seen[tensor as usize], true) {
            order.push(tensor as usize);
        }
    };
    for graph in &header.graphs {
        walk(graph, &graph.body, &mut see);
    }
    (0..header.tensors.len() as u32).for_each(see);
    order
}

/// The best integer rung that can be run, or the best of all.
fn best(rungs: &[RungFigures]) -> usize {
    let quality = |i: usize| (rungs[i].trouble.is_none(), rungs[i].quality.unwrap_or(f32::NEG_INFINITY));
    let better = |a: &usize, b: &usize| {
        let ((runs_a, a), (runs_b, b)) = (quality(*a), quality(*b));
        runs_a.cmp(&runs_b).then(a.total_cmp(&b))
    };
    let all = || 0..rungs.len();
    let integer = all().filter(|i| rungs[*i].acts == Acts::I8 && rungs[*i].trouble.is_none()).max_by(better);
    integer.or_else(|| all().max_by(better)).unwrap_or(0)
}

/// By graph, tensor and root.
type Costs<'a> = HashMap<(u32, u32, u32), &'a [f32]>;

/// What the header says of a rung.
fn figures(model: &Model, costs: &Costs<'_>, rung: &Rung, state: &RungState) -> RungFigures {
    let layer = |(i, take): (usize, &Option<Take>)| take.map(|take| layer(model, costs, rung, i, take));
    let layers: Vec<Option<Layer>> = rung.takes.iter().enumerate().map(layer).collect();
    let weights = |l: &Layer| (l.dims[0] * l.dims[1]) as f64;
    let all: f64 = layers.iter().flatten().map(weights).sum();
    let bits: f64 = layers.iter().flatten().map(|l| l.bits * weights(l)).sum();
    let quality = rung.quality.as_ref();
    RungFigures {
        id: rung.id.clone(),
        graph: rung.graph,
        acts: rung.acts,
        trouble: match state {
            RungState::Whole => None,
            RungState::Cut { missing } => Some(format!("the file lacks {missing} bytes of it")),
            RungState::NeedsRuntime(version) => Some(format!("needs runtime version {version}")),
            RungState::NeedsFeature(name) => Some(format!("needs feature {name}")),
        },
        bytes: rung.bytes,
        metric: quality.map(|q| q.metric.clone()).unwrap_or_default(),
        quality: quality.map(|q| q.value),
        measured_on: quality.map(|q| q.samples.clone()).unwrap_or_default(),
        mean_bits: if all > 0.0 { bits / all } else { 0.0 },
        planned: None,
        latency_ms: None,
        finer: None,
        parts: rung.parts.clone(),
        lacks: Vec::new(),
        layers,
    }
}

fn layer(model: &Model, costs: &Costs<'_>, rung: &Rung, index: usize, take: Take) -> Layer {
    let header = model.header();
    let tensor = &header.tensors[index];
    // An expression that is not sound is refused where the rung is planned; here it has no bytes.
    let blobs = needed_blobs(model.registry(), header, index, take).unwrap_or_default();
    let bytes: u64 = blobs.iter().map(|id| header.blobs[*id as usize].len).sum();
    let format = format::format(header, index, take);
    let stored = bytes as f64 * 8.0 / (tensor.n * tensor.k) as f64;
    let cost = match costs.get(&(rung.graph, index as u32, take.0)) {
        None => Cost::Unknown,
        Some(db) => match (take.1 as usize).checked_sub(1).and_then(|i| db.get(i)) {
            Some(db) => Cost::Db(*db),
            None => Cost::Finest,
        },
    };
    Layer {
        name: tensor.name.clone(),
        dims: [tensor.n, tensor.k],
        bytes,
        bits: format.bits.map_or(stored, f64::from),
        format: format.text,
        cost,
    }
}

/// Finds each rung's next finer one, and what it lacks beside it.
fn lacks(model: &Model, rungs: &mut [RungFigures]) {
    let takes = |i: usize| &model.header().rungs[i].takes;
    let floats = |i: usize| &model.header().rungs[i].floats;
    for i in 0..rungs.len() {
        let alike = |j: &usize| {
            let alike = (rungs[*j].graph, rungs[*j].acts) == (rungs[i].graph, rungs[i].acts);
            alike && floats(*j) == floats(i) && takes(*j) != takes(i)
        };
        let above = |j: &usize| (rungs[*j].bytes, *j) > (rungs[i].bytes, i);
        let finer = (0..rungs.len()).filter(above).filter(alike).min_by_key(|j| (rungs[*j].bytes, *j));
        let Some(finer) = finer else { continue };
        let pairs = rungs[i].layers.iter().zip(&rungs[finer].layers);
        let lack = |(tensor, pair): (usize, (&Option<Layer>, &Option<Layer>))| {
            let (Some(to), Some(from)) = pair else { return None };
            let changed = takes(i)[tensor] != takes(finer)[tensor];
            changed.then(|| Lack { tensor, from: short(from, to), to: short(to, from) })
        };
        rungs[i].lacks = pairs.enumerate().filter_map(lack).collect();
        rungs[i].finer = Some(finer);
    }
}

/// What a layer has beside another one of the same tensor: its bits where these differ, else its format.
fn short(layer: &Layer, other: &Layer) -> String {
    if layer.bits == other.bits { layer.format.clone() } else { format!("{} bits", rounded(layer.bits)) }
}
