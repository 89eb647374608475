//! What integer rungs need beyond 8-bit weights and i8 values.
//!
//! Most of a model is well served by 8 bits; a few tensors and values are not, and they set the quality of the whole.
//! They are found by measurement and kept finer: a tensor takes more planes, a value stays in floats. The planner
//! runs what reads or makes them on floats.
//! ```text
//! weights: with f32 activations, the costliest tensors for their price are corrected by thin matrices or take 12 or 16 bits, until
//!          half the aim is met
//! values:  those that 256 levels cannot hold become floats (`activations.rs`)
//! rows:    weights take one scale a row where that adds little (`rows.rs`)
//! both:    of what is left, whatever takes away most of the distortion for its price, until the aim is met
//! ```
//! How much that is, the profile's [`Aim`] says.

use super::activations::ranges;
use super::profile::{Aim, FLOATS, GROUPS, Profile, Rows};
use super::{Choices, Probes, Sensitivity};
use crate::compress::{INTEGER_BITS, Use, matrix_operands};
use crate::draft::{Draft, plain_rung};
use crate::error::ConvertError;
use crate::measure::Evaluator;
use edge_runtime::graph::{Op, Source, ValueId};
use edge_runtime::pack::{Acts, Rung, Tensor};

/// What a part of no size still costs: a step that changes between integers and floats.
const LEAST_PRICE: f64 = 2e-3;
/// What a share of the multiply-adds costs that floats do and not integers, which take half the time.
const FLOAT_WORK: f64 = 0.5;
/// Multiply-adds of integers in the time of making one such integer of a weight of more bits.
const ROUNDING: f64 = 500.0;
/// A part that takes away less of the distortion than this is within the noise of measuring.
const LEAST_GAIN: f64 = 0.02;
/// Parts that are tried together before they are told apart.
const RUN: usize = 8;
/// Measurements of all parts: gains change once the worst are gone.
const ROUNDS: usize = 4;

/// A tensor or a value of an integer rung.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Index of a tensor that is not at its finest.
    Tensor(usize),
    /// A value that is i8.
    Value(ValueId),
}

/// How much distortion goes when a part alone is made finer.
#[derive(Clone, Copy, Debug)]
pub struct Gain {
    /// The part.
    pub part: Part,
    /// Distortion with everything coarse less distortion without this part.
    pub gain: f64,
}

/// The finest rung of a profile in the making.
pub struct Integer<'a> {
    /// Runs candidates.
    pub evaluator: &'a Evaluator<'a>,
    /// The pack.
    pub draft: &'a Draft,
    /// The graph's id.
    pub graph: u32,
    /// The ladder's choices.
    pub choices: &'a Choices,
    /// What each tensor's precision costs with f32 activations.
    pub sensitivity: &'a Sensitivity,
    /// What parts are told apart on.
    pub probes: Probes<'a>,
    /// What says whether a part that became finer helped: more samples.
    pub judges: Probes<'a>,
    /// Elements of each value in one run, by value id.
    pub elements: &'a [usize],
    /// By tensor: see [`prices`].
    pub prices: &'a [Price],
    /// What is aimed at.
    pub aim: Aim,
    /// How the rung holds weights and values.
    pub profile: Profile,
}

/// What a tensor's products cost beyond those of integers alone, as a share of the whole model in one run.
#[derive(Clone, Copy, Debug, Default)]
pub struct Price {
    /// Its multiply-adds.
    pub work: f64,
    /// What it is multiplied with; the last, where that is more than one.
    pub input: Option<ValueId>,
    /// Making integers of one scale a row of weights of more than 8 bits, once a run.
    pub rounding: f64,
    /// When they run on floats: by [`FLOAT_WORK`] of their multiply-adds, and of the elements of their results.
    pub floats: f64,
    /// When thin matrices of one column correct them: by the multiply-adds of these.
    pub column: f64,
    /// When thin matrices correct them: their results are made once more.
    pub results: f64,
}

/// The prices of tensors in a graph whose values have so many `elements`.
pub fn prices(draft: &Draft, graph: u32, choices: &Choices, elements: &[usize]) -> Vec<Price> {
    let (mut rows, mut results) = (vec![0.0; choices.tensors.len()], vec![0.0; choices.tensors.len()]);
    let mut inputs = vec![None; choices.tensors.len()];
    let graph = &draft.header.graphs[graph as usize];
    graph.body.for_each(&mut |node| {
        let count = |id: Option<&Option<ValueId>>| {
            id.copied().flatten().and_then(|id| elements.get(id as usize)).copied().unwrap_or(0) as f64
        };
        // Depthwise convolutions take integers of 12 bits, and rows that are looked up are floats.
        for (operand, _) in matrix_operands(&node.op).iter().filter(|(_, used)| *used == Use::Product) {
            let Some(id) = node.inputs.get(*operand).copied().flatten() else { continue };
            let Source::Weight(tensor) = graph.values[id as usize].source else { continue };
            let Some(t) = choices.tensors.iter().position(|id| *id == tensor) else { continue };
            let Tensor { n, k, .. } = &draft.header.tensors[tensor as usize];
            rows[t] += match node.op {
                Op::Conv { .. } => count(node.outputs.first()) / (*n).max(1) as f64,
                _ => count(node.inputs.first()) / (*k).max(1) as f64,
            };
            results[t] += count(node.outputs.first());
            inputs[t] = node.inputs.first().copied().flatten().filter(|_| *operand > 0);
        }
    });
    let size = |t: usize| {
        let Tensor { n, k, .. } = draft.header.tensors[choices.tensors[t] as usize];
        (n as f64, k as f64)
    };
    let work = |t: usize| rows[t] * size(t).0 * size(t).1;
    let all = (0..rows.len()).map(work).sum::<f64>().max(1.0);
    let values = elements.iter().sum::<usize>().max(1) as f64;
    let price = |t: usize| Price {
        work: work(t) / all,
        input: inputs[t],
        rounding: ROUNDING * size(t).0 * size(t).1 / all,
        floats: FLOAT_WORK * work(t) / all + results[t] / values,
        column: rows[t] * (size(t).0 + size(t).1) / all,
        results: results[t] / values,
    };
    (0..rows.len()).map(price).collect()
}

impl Integer<'_> {
    /// The rung as it stands.
    pub fn rung(&self, acts: Acts) -> Rung {
        let mut rung = plain_rung("integer", self.graph, acts);
        rung.takes = self.profile.takes(self.draft, self.choices, &self.profile.takes);
        rung.floats.clone_from(&self.profile.floats);
        rung
    }

    /// Distortion of the rung as it stands, on the samples that parts are told apart on.
    ///
    /// # Errors
    /// When a sample does not suit the model, or the evaluator was stopped.
    pub fn cost(&self, acts: Acts) -> Result<f64, ConvertError> {
        self.cost_on(self.probes, acts)
    }

    pub(super) fn cost_on(&self, probes: Probes<'_>, acts: Acts) -> Result<f64, ConvertError> {
        self.evaluator.distortion(&self.draft.candidate(), &self.rung(acts), &probes)
    }

    /// Distortion of the rung as it stands, on the samples that say whether a part helped.
    ///
    /// # Errors
    /// As [`Integer::cost`].
    pub fn judged(&self) -> Result<f64, ConvertError> {
        self.cost_on(self.judges, Acts::I8)
    }

    /// All of the search.
    ///
    /// # Errors
    /// As [`Integer::cost`].
    pub fn search(&mut self, mut stage: impl FnMut(&str, usize, usize)) -> Result<(), ConvertError> {
        self.finer_weights()?;
        self.keep_floats(|done, total| stage("measure values", done, total))?;
        self.one_scale(|done, total| stage("measure rows", done, total))?;
        self.refine(|done, total| stage("refine", done, total))
    }

    /// Makes finer the tensors that cost most for their price, until the weights alone leave half of the aim.
    ///
    /// # Errors
    /// As [`Integer::cost`].
    pub fn finer_weights(&mut self) -> Result<(), ConvertError> {
        let mut spent = 0.0;
        while self.cost(Acts::F32)? > self.aim.distortion / 2.0 {
            let mut best: Option<(f64, f64, usize, usize)> = None;
            for tensor in 0..self.profile.takes.len() {
                let take = self.profile.takes[tensor];
                for to in take + 1..=self.choices.nested[tensor].levels.len() {
                    let gain = self.sensitivity.of(tensor, take) - self.sensitivity.of(tensor, to);
                    let price = self.price_to(tensor, to);
                    let enough =
                        gain > LEAST_GAIN * self.aim.distortion && spent + price <= self.aim.price / 2.0;
                    if enough && best.is_none_or(|(slope, ..)| gain / price > slope) {
                        best = Some((gain / price, price, tensor, to));
                    }
                }
            }
            let Some((_, price, tensor, to)) = best else { break };
            spent += price;
            self.profile.takes[tensor] = to;
        }
        Ok(())
    }

    /// Makes finer whatever takes away most for its price, until the distortion is at the aim, the price too high, or
    /// nothing helps.
    ///
    /// # Errors
    /// As [`Integer::cost`].
    pub fn refine(&mut self, mut progress: impl FnMut(usize, usize)) -> Result<(), ConvertError> {
        let mut spent = 0.0;
        let mut now = self.cost_on(self.judges, Acts::I8)?;
        for _ in 0..ROUNDS {
            if now <= self.aim.distortion {
                break;
            }
            let mut gains = self.gains(&mut progress)?;
            gains.sort_by(|a, b| (b.gain / self.price(b.part)).total_cmp(&(a.gain / self.price(a.part))));
            let before = now;
            for Gain { part, gain } in gains {
                let price = self.price(part);
                if now <= self.aim.distortion || spent + price > self.aim.price {
                    continue;
                }
                self.make_finer(part);
                let after = self.cost_on(self.judges, Acts::I8)?;
                // Parts of one chain share a gain; the second one has none left. And a gain on a few samples may be luck.
                if now - after < gain / 4.0 {
                    self.make_coarser(part);
                    continue;
                }
                (now, spent) = (after, spent + price);
            }
            if now > before * (1.0 - LEAST_GAIN) {
                break;
            }
        }
        Ok(())
    }

    /// The part that costs most in the rung as it stands, and what it costs.
    ///
    /// # Errors
    /// As [`Integer::cost`].
    pub fn worst(&mut self, progress: impl FnMut(usize, usize)) -> Result<Option<Gain>, ConvertError> {
        let gains = self.gains(progress)?;
        Ok(gains.into_iter().max_by(|a, b| a.gain.total_cmp(&b.gain)))
    }

    /// What a part's name is in the source model.
    pub fn name(&self, part: Part) -> String {
        match part {
            Part::Tensor(t) => {
                let id = self.choices.tensors[t];
                self.draft.header.tensors[id as usize].name.clone()
            }
            Part::Value(v) => self.draft.header.graphs[self.graph as usize].name(v).to_string(),
        }
    }

    /// The coarse parts that cost something, with their gain alone. Parts are tried in runs, split where one gains.
    fn gains(&mut self, mut progress: impl FnMut(usize, usize)) -> Result<Vec<Gain>, ConvertError> {
        let all = self.cost(Acts::I8)?;
        // A tensor that costs nothing with f32 activations has nothing to give.
        let tensors = (0..self.profile.takes.len()).filter(|t| {
            self.profile.takes[*t] < self.choices.nested[*t].levels.len()
                && self.sensitivity.of(*t, self.profile.takes[*t]) > LEAST_GAIN * self.aim.distortion
        });
        let values = ranges(&self.draft.header.graphs[self.graph as usize]);
        let values = values.into_iter().filter(|v| self.profile.floats.binary_search(v).is_err());
        let parts: Vec<Part> = tensors.map(Part::Tensor).chain(values.map(Part::Value)).collect();
        let mut gains = Vec::new();
        let mut rest: Vec<&[Part]> = parts.chunks(RUN).collect();
        while let Some(run) = rest.pop() {
            run.iter().for_each(|part| self.make_finer(*part));
            let without = self.cost(Acts::I8);
            run.iter().for_each(|part| self.make_coarser(*part));
            let gain = all - without?;
            match run {
                _ if gain <= LEAST_GAIN * all => {}
                [part] => gains.push(Gain { part: *part, gain }),
                _ => {
                    let (first, second) = run.split_at(run.len() / 2);
                    rest.extend([second, first]);
                }
            }
            progress(parts.len() - rest.iter().map(|r| r.len()).sum::<usize>(), parts.len());
        }
        Ok(gains)
    }

    /// Share of the weights' bytes that a tensor adds, and what it costs that floats are multiplied with it; or share of the values'
    /// elements that become floats.
    fn price(&self, part: Part) -> f64 {
        let share = match part {
            Part::Tensor(t) => return self.price_to(t, self.profile.takes[t] + 1),
            Part::Value(v) => {
                let all: usize = self.elements.iter().sum();
                self.elements.get(v as usize).copied().unwrap_or(0) as f64 / all.max(1) as f64
            }
        };
        share + LEAST_PRICE
    }

    /// Time of a tensor's products without one scale a row, as a share of all multiply-adds.
    pub(super) fn time_without_rows(&self, tensor: usize) -> f64 {
        let bits = self.choices.nested[tensor].levels[self.profile.takes[tensor] - 1].bits;
        self.prices[tensor].work * if bits > INTEGER_BITS { FLOATS } else { GROUPS }
    }

    /// The price of a finer take of a tensor, see [`Integer::price`].
    fn price_to(&self, tensor: usize, to: usize) -> f64 {
        let root = &self.choices.nested[tensor];
        let all = self.choices.bytes(self.draft, &self.choices.integer_takes());
        let bytes = root.added(self.draft, self.profile.takes[tensor], to);
        let (price, is, was) =
            (self.prices[tensor], &root.levels[to - 1], &root.levels[self.profile.takes[tensor] - 1]);
        let floats = match is.bits > INTEGER_BITS && was.bits <= INTEGER_BITS {
            true if self.profile.rows[tensor] == Rows::Any => price.rounding,
            true => price.floats,
            false => 0.0,
        };
        let factors = match is.rank {
            0 => 0.0,
            rank => rank as f64 * price.column + price.results,
        };
        bytes as f64 / all.max(1) as f64 + floats + factors + LEAST_PRICE
    }

    fn make_finer(&mut self, part: Part) {
        match part {
            Part::Tensor(t) => self.profile.takes[t] += 1,
            Part::Value(v) => self.profile.hold(v, true),
        }
    }

    fn make_coarser(&mut self, part: Part) {
        match part {
            Part::Tensor(t) => self.profile.takes[t] -= 1,
            Part::Value(v) => self.profile.hold(v, false),
        }
    }
}
