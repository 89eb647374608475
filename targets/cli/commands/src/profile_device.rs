//! `edge-run profile-device`: how long each step of a pack's networks takes here, for a converter elsewhere that chooses among them.

use crate::args::ProfileArgs;
use crate::exit::Failure;
use crate::load::Opened;
use crate::{inputs, load, print};
use edge_runtime::inputs::NamedArray;
use edge_runtime::pack::{Acts, Choice, Rung};
use edge_runtime::plan::{InputSpec, Plan, PlanOptions};
use edge_runtime::random::philox;
use edge_runtime::{Model, Session};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{IsTerminal, Write};
use std::sync::Arc;
use std::time::Instant;

/// The format's name in its file, and its version.
const FORMAT: (&str, u32) = ("edge-device-profile", 1);
/// Key of the choices at random.
const KEY: u64 = 0xB0A2D;
/// Choices in a row that bring no new step, after which none is looked for any more.
const NOTHING_NEW: usize = 40;
/// Microseconds of a step that is over before the clock goes on.
const LEAST: f64 = 1e-3;
/// Runs before those that are timed.
const WARM: usize = 2;

/// What one step has to do, and how long it takes.
struct Timed {
    us: f64,
    multiply_adds: u64,
    bytes: u64,
    integer: bool,
}

/// What was timed so far.
struct Board<'a> {
    opened: &'a Opened,
    arrays: Vec<NamedArray>,
    specs: Vec<InputSpec>,
    repeat: usize,
    steps: BTreeMap<String, Timed>,
    /// Of each network that was run: the sum of its steps, and a run, in microseconds.
    runs: Vec<[f64; 2]>,
}

pub fn command(args: &ProfileArgs) -> Result<(), Failure> {
    let opened = load::open(&args.pack, &args.target)?;
    if opened.model.header().graphs.iter().any(|graph| graph.decoding.is_some()) {
        let why =
            "is a language model, whose steps depend on the tokens before them; `edge-run bench` times it";
        return Err(Failure::Usage(format!("{} {why}", args.pack.display())));
    }
    let arrays = inputs::noise(&opened.model.header().graphs[0], &args.target.shape)?;
    let specs = inputs::specs(&arrays);
    let (steps, runs) = (BTreeMap::new(), Vec::new());
    let mut board = Board { opened: &opened, arrays, specs, repeat: args.repeat.max(1), steps, runs };
    match (&opened.cut, &args.target.rung) {
        (Some(cut), _) => _ = board.networks(&opened.model, &cut.rungs)?,
        // Chosen as by every other command, for its errors.
        (None, Some(_)) => {
            let chosen = opened.select(&opened.request(&args.target), &board.specs)?;
            board.time(&opened.model, opened.rung(chosen.rung))?;
        }
        (None, None) => {
            let rungs = &opened.model.header().rungs;
            let whole: Vec<Rung> = opened.pack.available().iter().map(|i| rungs[*i].clone()).collect();
            board.networks(&opened.model, &whole)?;
            board.subnets(args.subnets)?;
        }
    }
    let text = format!("{:#}\n", board.json());
    if let Some(path) = &args.output {
        std::fs::write(path, &text).map_err(|error| Failure::Write { path: path.clone(), error })?;
    }
    let mut out = std::io::stdout().lock();
    if args.target.json {
        write!(out, "{text}")?;
    } else {
        writeln!(out, "{}", board.summary())?;
    }
    Ok(())
}

impl Board<'_> {
    /// Of some rungs, the largest of each graph with floats and with integers between layers.
    fn networks(&mut self, model: &Model, rungs: &[Rung]) -> Result<usize, Failure> {
        let before = self.steps.len();
        let graphs = model.header().graphs.len() as u32;
        for (graph, acts) in (0..graphs).flat_map(|graph| [(graph, Acts::F32), (graph, Acts::I8)]) {
            let alike = rungs.iter().filter(|rung| rung.graph == graph && rung.acts == acts);
            if let Some(rung) = alike.max_by_key(|rung| rung.bytes) {
                self.time(model, rung)?;
            }
        }
        Ok(self.steps.len() - before)
    }

    /// Subnets of each elastic graph: those of one option everywhere, then some at random, until they bring nothing new.
    fn subnets(&mut self, most: usize) -> Result<(), Failure> {
        let model = &self.opened.model;
        let header = model.header();
        for (graph, elastic) in header.graphs.iter().enumerate() {
            let Some(elastic) = elastic.elastic.as_deref() else { continue };
            let options: Vec<usize> = elastic.variables.iter().map(|v| v.options.len()).collect();
            let even = options.iter().copied().max().unwrap_or(1);
            let (mut nothing, mut dice) = (0, 0u64);
            for i in 0..most {
                let mut option = |have: &usize| {
                    dice += 1;
                    if i < even {
                        i.min(have.saturating_sub(1))
                    } else {
                        philox(KEY, dice)[0] as usize % (*have).max(1)
                    }
                };
                let options: Vec<usize> = options.iter().map(&mut option).collect();
                let Some(choice) = Choice::new(&options) else { break };
                let cut = model.subnet(graph as u32, &choice, None)?;
                let new = self.networks(&model.among(cut.rungs.clone()), &cut.rungs)?;
                nothing = if new == 0 { nothing + 1 } else { 0 };
                self.progress(i + 1, most);
                if nothing == NOTHING_NEW {
                    break;
                }
            }
        }
        if std::io::stderr().is_terminal() {
            eprintln!();
        }
        Ok(())
    }

    fn progress(&self, done: usize, of: usize) {
        if std::io::stderr().is_terminal() {
            eprint!("\rsubnet {done} of at most {of}, {} steps", self.steps.len());
        }
    }

    /// Times every step of a rung, unless all of them are known.
    fn time(&mut self, model: &Model, rung: &Rung) -> Result<(), Failure> {
        let device = &self.opened.device;
        let options = PlanOptions { threads: device.pool().threads(), ..PlanOptions::default() };
        let plan = Plan::new(model, rung, &self.specs, &options)?;
        let signatures: Vec<String> = plan.steps.iter().map(|step| step.signature()).collect();
        if signatures.iter().all(|signature| self.steps.contains_key(signature)) {
            return Ok(());
        }
        let model = Arc::new(model.with_source(Arc::new(self.opened.pack.map(rung.end)?)));
        let mut session = Session::with_plan(device, &model, rung, plan)?;
        // Before each run, which may use the memory of its inputs.
        let set = |session: &mut Session| {
            self.arrays.iter().enumerate().try_for_each(|(i, array)| session.set_input(i, &array.data))
        };
        for _ in 0..WARM {
            set(&mut session)?;
            session.run()?;
        }
        let mut each: Vec<Vec<f64>> = vec![Vec::with_capacity(self.repeat); signatures.len()];
        let mut runs = Vec::with_capacity(self.repeat);
        for _ in 0..self.repeat {
            set(&mut session)?;
            let start = Instant::now();
            session.run()?;
            runs.push(start.elapsed().as_secs_f64() * 1e6);
            set(&mut session)?;
            let mut last = Instant::now();
            session.run_observed(|step, _| {
                let now = Instant::now();
                each[step].push((now - last).as_secs_f64() * 1e6);
                last = now;
            })?;
        }
        let mut sum = 0.0;
        for ((step, signature), times) in session.plan().steps.iter().zip(signatures).zip(&each) {
            if step.once {
                continue;
            }
            let (us, work) = (median(times).max(LEAST), step.work());
            sum += us;
            let timed =
                Timed { us, multiply_adds: work.multiply_adds, bytes: work.bytes, integer: work.integer };
            // What else the device does makes steps longer, never shorter.
            let known = self.steps.entry(signature).or_insert(Timed { ..timed });
            known.us = known.us.min(us);
        }
        self.runs.push([sum, median(&runs)]);
        Ok(())
    }

    fn json(&self) -> Value {
        let device = &self.opened.device;
        let over: Vec<f64> = self.runs.iter().map(|[sum, run]| run / sum.max(1e-3)).collect();
        let step = |(signature, t): (&String, &Timed)| json!({"step": signature, "us": t.us, "multiply_adds": t.multiply_adds, "bytes": t.bytes, "integer": t.integer});
        json!({
            "format": FORMAT.0, "version": FORMAT.1,
            "isa": device.isa().name(), "threads": device.pool().threads(),
            "networks": self.runs.len(), "run_over_steps": median(&over), "steps": self.steps.iter().map(step).collect::<Value>(),
        })
    }

    fn summary(&self) -> String {
        let shares: Vec<f64> = self.runs.iter().map(|[sum, run]| 100.0 * sum / run.max(1e-3)).collect();
        format!(
            "{} steps of {} networks; the steps of a network are {:.0}% of its run (median)",
            self.steps.len(),
            self.runs.len(),
            median(&shares)
        )
    }
}

fn median(values: &[f64]) -> f64 {
    let order = print::greatest_first(values);
    order.get(order.len() / 2).map_or(0.0, |i| values[*i])
}
