//! What a pack's page says, in figures.

use edge_runtime::pack::{Acts, Parts};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::PathBuf;

/// What is asked of a page.
#[derive(Clone, Debug, Default)]
pub struct PageOptions {
    /// Samples to plan and to run with; else seeded noise.
    pub input: Option<PathBuf>,
    /// Shapes of inputs whose dimensions are free, for noise.
    pub shapes: Vec<(String, Vec<usize>)>,
    /// Measure no latency.
    pub no_latency: bool,
    /// The profile of another device, whose latencies are shown.
    pub device: Option<PathBuf>,
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
    /// The other device whose latencies are expected, by its profile.
    pub device: Option<String>,
    /// Why rungs have no plan: noise of default shapes does not suit every model.
    pub not_planned: Option<String>,
    /// How far the medians of a rung are apart at most, as a ratio: large on a machine that did something else as well.
    pub spread: Option<f64>,
    /// Why rungs have no latency.
    pub not_timed: Option<String>,
    /// The ladder.
    pub rungs: Vec<RungFigures>,
    /// The best integer rung, or the best of all.
    pub best: usize,
    /// Tensors in the order in which the graphs use them.
    pub order: Vec<usize>,
    /// The subnets of a supernet that the pack says something of.
    pub subnets: Option<Subnets>,
}

/// Subnets of a supernet, with rungs and without.
#[derive(Clone, Debug, Serialize)]
pub struct Subnets {
    /// What the qualities are.
    pub metric: String,
    /// How far off expectations were where they were measured.
    pub spread: f32,
    /// The device whose microseconds the work is; of none it is thousands of multiply-adds.
    pub device: Option<String>,
    /// The subnets.
    pub all: Vec<SubnetFigures>,
}

/// A subnet in figures.
#[derive(Clone, Debug, Serialize)]
pub struct SubnetFigures {
    /// Choices that play a part, and their options.
    pub choices: BTreeMap<String, String>,
    /// Elements of its matrices.
    pub weights: u32,
    /// Thousands of multiply-adds, or microseconds.
    pub work: u32,
    /// Of its best rung with floats between layers, or what is expected of it with the statistics of the nearest subnet.
    pub quality: f32,
    /// That rung, as an index.
    pub rung: Option<usize>,
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
    /// What its noise is made of; `None` where it was not measured.
    pub parts: Option<Parts>,
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
