//! What a pack's page says: figures of every rung, measured and planned on this machine.

use super::format;
use crate::convert::Watch;
use crate::error::ConvertError;
use crate::measure::{Evaluator, RUNS};
use crate::samples::{Sample, Samples};
use edge_runtime::Model;
use edge_runtime::graph::{Block, Graph, Op, Source};
use edge_runtime::pack::{Acts, Header, PackFile, Rung, RungState, Take};
use edge_runtime::plan::{Plan, PlanOptions};
use edge_runtime::select::{self, Need, Request};
use edge_runtime::weights::{Registry, needed_blobs};
use serde::Serialize;
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// Times that all rungs are timed, one after the other: what else the machine does in a moment hits one of them.
const ROUNDS: usize = 3;

/// What is asked of a page.
#[derive(Clone, Debug, Default)]
pub struct PageOptions {
    /// Samples to plan and to run with; else seeded noise.
    pub input: Option<PathBuf>,
    /// Shapes of inputs whose dimensions are free, for noise.
    pub shapes: Vec<(String, Vec<usize>)>,
    /// Measure no latency.
    pub no_latency: bool,
}

/// A pack in figures.
#[derive(Clone, Debug, Serialize)]
pub struct Page {
    /// The file.
    pub pack: String,
    /// The model's name.
    pub name: String,
    /// The model card's texts.
    pub metadata: BTreeMap<String, String>,
    /// Bytes of the file.
    pub file_bytes: u64,
    /// Bytes that it lacks.
    pub missing_bytes: u64,
    /// Which engine gave the golden outputs.
    pub reference: Option<String>,
    /// What was planned and run with.
    pub samples: String,
    /// Inputs with the shapes that were planned for.
    pub inputs: Vec<(String, Vec<usize>)>,
    /// Where it was planned and run.
    pub machine: Machine,
    /// Why rungs have no plan: noise of default shapes does not suit every model.
    pub not_planned: Option<String>,
    /// Why rungs have no latency.
    pub not_timed: Option<String>,
    /// The ladder.
    pub rungs: Vec<RungFigures>,
    /// The best integer rung, or the best of all.
    pub best: usize,
    /// Tensors in the order in which the graphs use them.
    pub order: Vec<usize>,
}

/// Where latencies were measured.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    /// The CPU's name.
    pub cpu: String,
    /// The kernels in force.
    pub isa: String,
    /// Worker threads.
    pub threads: usize,
    /// Runs that a median is of.
    pub runs: usize,
    /// Medians that a latency is the least of.
    pub rounds: usize,
}

/// A rung in figures.
#[derive(Clone, Debug, Serialize)]
pub struct RungFigures {
    /// Its name.
    pub id: String,
    /// Its graph: the subnet of a family.
    pub graph: u32,
    /// How activations are held.
    pub acts: Acts,
    /// Why this file or this runtime cannot run it.
    pub trouble: Option<String>,
    /// Bytes of weights and constants.
    pub bytes: u64,
    /// The quality's name.
    pub metric: String,
    /// The quality.
    pub quality: Option<f32>,
    /// What it was measured on.
    pub measured_on: String,
    /// Bits a weight, scales apart.
    pub mean_bits: f64,
    /// What it takes with its weights resident and pictures whole.
    pub planned: Option<Planned>,
    /// Milliseconds of a run.
    pub latency_ms: Option<f64>,
    /// The next finer rung of the same graph and activations.
    pub finer: Option<usize>,
    /// What it lacks beside that one.
    pub lacks: Vec<Lack>,
    /// Its weights, by tensor; `None` for a tensor that it does not use.
    pub layers: Vec<Option<Layer>>,
}

/// The memory of a rung, beside what the process holds anyway.
#[derive(Clone, Debug, Serialize)]
pub struct Planned {
    /// Pages of the pack that hold weights and constants.
    pub weights: u64,
    /// Activations, state, scratch.
    pub arena: u64,
    /// The plan's lists and the values it knows.
    pub plan: u64,
    /// Bytes of the arena in use at each step.
    pub live: Vec<usize>,
    /// The step that most are in use at: its layer and what it computes.
    pub peak_step: String,
}

impl Planned {
    /// The planned peak.
    pub fn peak(&self) -> u64 {
        self.weights + self.arena + self.plan
    }
}

/// A tensor that is coarser in a rung than in the next finer one.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Lack {
    /// Index into the pack's tensors.
    pub tensor: usize,
    /// What the finer rung has.
    pub from: String,
    /// What is left.
    pub to: String,
}

/// A tensor in a rung.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Layer {
    /// The tensor's name.
    pub name: String,
    /// Rows and columns.
    pub dims: [usize; 2],
    /// Bytes that the rung reads of it.
    pub bytes: u64,
    /// How it is held.
    pub format: String,
    /// Bits a weight; of formats without one number, stored bits for each.
    pub bits: f64,
    /// What it costs the outputs.
    pub cost: Cost,
}

/// What a tensor's precision costs the outputs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Cost {
    /// Signal-to-noise ratio of the outputs in dB with this tensor alone so coarse.
    Db(f32),
    /// It is at the finest that it was measured beside.
    Finest,
    /// It was not measured.
    Unknown,
}

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
    let evaluator = Evaluator::new(stop)?;
    let header = file.header();
    let costs = header.costs.iter().map(|c| ((c.graph, c.tensor, c.root), c.db.as_slice())).collect();
    let states = header.rungs.iter().zip(file.rung_states());
    let mut rungs: Vec<RungFigures> =
        states.map(|(rung, state)| figures(&model, &costs, rung, state)).collect();
    lacks(&model, &mut rungs);

    let graph = &header.graphs[header.rungs[file.available()[0]].graph as usize];
    let samples = match &options.input {
        Some(input) => Samples::load(input, graph)?,
        None => Samples::noise(graph, &options.shapes),
    };
    let sample = &samples.calibration[0];
    let given = options.input.is_some() || !options.shapes.is_empty();
    let bench = Bench { evaluator: &evaluator, model: &model, sample, available: file.available() };
    let not_planned = unless(given, bench.plan(&mut rungs))?;
    let not_timed = match (&not_planned, options.no_latency) {
        (_, true) => Some("not asked for (--no-latency)".to_string()),
        (Some(_), _) => Some("the rungs have no plan".to_string()),
        (None, false) => unless(given, bench.time(&mut rungs, watch))?,
    };
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
        not_planned,
        not_timed,
        best: best(&rungs),
        rungs,
        order: order(header),
    })
}

/// What went wrong in words when nobody said what to run with: the rest of the page stands without it.
fn unless(given: bool, done: Result<(), ConvertError>) -> Result<Option<String>, ConvertError> {
    match done {
        Ok(()) => Ok(None),
        Err(ConvertError::Interrupted) => Err(ConvertError::Interrupted),
        Err(e) if given => Err(e),
        Err(e) => Ok(Some(format!("seeded noise does not suit the model; give --input or --shape ({e})"))),
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
            if let Op::If { then_branch, else_branch } = &node.op {
                walk(graph, then_branch, see);
                walk(graph, else_branch, see);
            }
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
    for i in 0..rungs.len() {
        let alike = |j: &usize| {
            (rungs[*j].graph, rungs[*j].acts) == (rungs[i].graph, rungs[i].acts) && takes(*j) != takes(i)
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

/// Bits as people write them: 8, or 3.4.
pub fn rounded(bits: f64) -> String {
    format!("{bits:.1}").trim_end_matches(".0").to_string()
}

/// Where rungs are planned and run.
struct Bench<'a> {
    evaluator: &'a Evaluator<'a>,
    model: &'a Arc<Model>,
    sample: &'a Sample,
    available: &'a [usize],
}

impl Bench<'_> {
    /// What each rung takes, and how its arena is used.
    fn plan(&self, rungs: &mut [RungFigures]) -> Result<(), ConvertError> {
        let (device, specs) = (self.evaluator.device(), self.sample.specs());
        let request = Request { available: self.available, ..Request::default() };
        let chosen = select::select(device, self.model, &specs, &request)?;
        let candidates = select::candidates(device, self.model, &specs, &request, &chosen)?;
        let options = PlanOptions { threads: device.pool().threads(), ..PlanOptions::default() };
        for candidate in candidates {
            let rung = &self.model.header().rungs[candidate.rung];
            let plan = Plan::new(self.model, rung, &specs, &options)?;
            rungs[candidate.rung].planned = Some(planned(&candidate.need, &plan));
        }
        Ok(())
    }

    /// How long each rung takes.
    fn time(&self, rungs: &mut [RungFigures], watch: &mut dyn Watch) -> Result<(), ConvertError> {
        watch.stage("measure latencies", ROUNDS * self.available.len());
        for round in 0..ROUNDS {
            for (done, i) in self.available.iter().enumerate() {
                let rung = &self.model.header().rungs[*i];
                let time = self.evaluator.latency(self.model, rung, self.sample)?.as_secs_f64() * 1e3;
                let latency = &mut rungs[*i].latency_ms;
                *latency = Some(latency.map_or(time, |least| least.min(time)));
                watch.progress(round * self.available.len() + done + 1);
            }
        }
        Ok(())
    }
}

fn planned(need: &Need, plan: &Plan) -> Planned {
    let live = plan.live_at_steps();
    let peak = (0..plan.steps.len()).max_by_key(|i| (live[*i], std::cmp::Reverse(*i)));
    let step = |i: usize| {
        let step = &plan.steps[i];
        let name = plan.names.get(step.name as usize).map(String::as_str).unwrap_or_default();
        format!("{name} ({})", step.op.name())
    };
    Planned {
        weights: need.weights,
        arena: need.arena,
        plan: need.plan,
        live,
        peak_step: peak.map(step).unwrap_or_default(),
    }
}
