//! Rung + shapes -> arena offsets and a flat list of kernel calls.
//!
//! The planner walks the graph once with concrete shapes. What it can compute it computes (an exporter's shape
//! arithmetic leaves no trace); the rest becomes [`Step`]s over [`Buffer`]s. Lifetimes then give each buffer its
//! place in one arena.

mod arena;
mod bands;
mod build;
mod error;
mod fact;
mod inputs;
mod join;
mod loops;
mod lower;
mod offsets;
mod rows;
mod signature;
mod step;
mod work;

pub use error::PlanError;
pub use fact::{BufferId, Operand, Quant};
pub use inputs::InputSpec;
pub use step::{
    AttentionShape, AxisShape, CachedShape, ConvGeometry, Finish, Head, MatMulShape, Matrix, RnnShape, Step,
    StepOp, Stored, Thin, Workspace,
};

use crate::graph::{DType, ValueId};
use crate::model::Model;
use crate::pack::Rung;
pub use work::Work;

pub(crate) use build::kept_columns;
pub(crate) use fact::{Fact, Place};
use std::sync::Arc;

/// The largest single value, in bytes: what 32-bit devices can address, and a bound for hostile shapes.
pub const LIMIT: u64 = 2 << 30;

/// Bytes of a step in a plan, an estimate from above.
const STEP_BYTES: usize = size_of::<Step>() + 6 * size_of::<Operand>() + 256;

/// What a buffer holds.
#[derive(Clone, Debug)]
pub enum BufferKind {
    /// Computed by steps.
    Arena,
    /// Input `i` of the graph, written by the caller before a run.
    Input(usize),
    /// Kept from run to run and written in place ([`crate::graph::Decoding::caches`]): first in the arena.
    Kept,
    /// Known when the plan was made.
    Known(Arc<[u8]>),
    /// A constant of the pack, used where it lies.
    Constant(u32),
}

/// Where a buffer lies.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BufferPlace {
    /// Not used by any step.
    #[default]
    Nowhere,
    /// At this byte of the arena.
    Arena(usize),
    /// At this byte of the plan's constants.
    Known(usize),
    /// In the pack.
    Pack,
}

/// A run of bytes that steps read and write.
#[derive(Clone, Debug)]
pub struct Buffer {
    /// What it holds.
    pub kind: BufferKind,
    /// Its size.
    pub bytes: usize,
    /// Its place, once the plan is complete.
    pub place: BufferPlace,
}

/// How a plan is made.
#[derive(Clone, Debug, Default)]
pub struct PlanOptions {
    /// Threads that will run it: scratch is laid out for each. 0 means 1.
    pub threads: usize,
    /// Keep every value until the end of the run, for calibration and comparison.
    pub keep_values: bool,
    /// Spend memory on speed: convolutions by Winograd's tiles, which need room for transformed filters and blocks of tiles.
    pub fast: bool,
    /// Products of floats may round their operands to bf16, on CPUs that multiply it faster: another quality than the one measured.
    pub bf16: bool,
    /// Products of a few rows of floats may round these to 8 bits by groups of at most 64 columns, on CPUs that multiply it faster with weights of
    /// integers: another quality than the one measured.
    pub rounded: bool,
    /// What is made of weights alone (decoded panels, pairs of bf16) is kept between runs: time for memory. `Some` with the bytes of a core's
    /// own cache: weights for few rows are kept decoded only where they stay in it; from further away they come in less time as stored.
    pub bake: Option<usize>,
    /// Bytes that a cache holds: a plan whose arena is larger is cut down to them, though the budget has room ([`Plan::local`]).
    pub cache: Option<usize>,
    /// Tokens that there is room for, of a graph that decodes ([`crate::graph::Decoding`]). `None`: as many as a run takes.
    pub context: Option<usize>,
    /// How keys and values are kept: f32 unless it says f16, or i8 with a scale for each token and head.
    pub kept: Option<DType>,
}

/// Everything a session needs to run a rung on inputs of given shapes.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Kernel calls in order.
    pub steps: Vec<Step>,
    /// The buffers they use.
    pub buffers: Vec<Buffer>,
    /// Names of graph nodes; see [`Step::name`].
    pub names: Vec<String>,
    /// The graph's inputs, in order; `None` for one that only the planner reads.
    pub inputs: Vec<Option<Operand>>,
    /// The graph's outputs, in order.
    pub outputs: Vec<Operand>,
    /// State carried from a run to the next: (output, input).
    pub states: Vec<(Operand, Operand)>,
    /// Every value that a buffer holds, for calibration ([`PlanOptions::keep_values`]).
    pub values: Vec<(ValueId, Operand)>,
    /// Bytes of the arena.
    pub arena_bytes: usize,
    /// Bytes at its start that stay from run to run and have the same places in all plans of a rung for a context.
    pub kept_bytes: usize,
    /// Bytes of values known when the plan was made.
    pub known_bytes: usize,
    /// Most bytes of the arena in use at one step.
    pub live_bytes: usize,
}

impl Plan {
    /// Plans a rung for inputs of the given shapes.
    ///
    /// # Errors
    /// Inputs that the model does not take, shapes that its operations refuse, values beyond [`LIMIT`].
    pub fn new(
        model: &Model,
        rung: &Rung,
        inputs: &[InputSpec],
        options: &PlanOptions,
    ) -> Result<Plan, PlanError> {
        let model = model.running(rung)?;
        let mut b = build::Builder::new(&model, model.rung(), options)?;
        let specs = inputs::bind(b.graph, inputs)?;
        for (i, spec) in specs.iter().enumerate() {
            b.input(i, spec);
        }
        b.kept(&specs, options)?;
        let graph = b.graph;
        b.nodes(&graph.body.nodes)?;

        let mut outputs = Vec::with_capacity(graph.outputs.len());
        for port in &graph.outputs {
            let fact = b.facts[port.value as usize].clone();
            let fact =
                fact.ok_or_else(|| PlanError::NoOutput { name: graph.name(port.value).to_string() })?;
            let fail = |why| PlanError::Node { node: graph.name(port.value).to_string(), op: "output", why };
            outputs.push(b.output(port.value, &fact).map_err(fail)?);
        }
        let mut plan_inputs = Vec::with_capacity(graph.inputs.len());
        for port in &graph.inputs {
            plan_inputs.push(match &b.facts[port.value as usize] {
                Some(Fact { dtype, dims, place: Place::Buffer { buffer, offset }, .. }) => Some(Operand {
                    buffer: *buffer,
                    offset: *offset,
                    dtype: *dtype,
                    dims: dims.clone(),
                    quant: None,
                    pitch: None,
                }),
                _ => None,
            });
        }
        let mut states = Vec::new();
        for state in &graph.states {
            let (Some(from), Some(Some(to))) = (outputs.get(state.output), plan_inputs.get(state.input))
            else {
                continue;
            };
            if from.dims != to.dims || from.dtype != to.dtype {
                let node = graph.name(graph.outputs[state.output].value).to_string();
                let why =
                    format!("state of {:?} {} becomes {:?} {}", to.dims, to.dtype, from.dims, from.dtype);
                return Err(PlanError::Node { node, op: "state", why });
            }
            states.push((from.clone(), to.clone()));
        }
        let values = b.values();
        let mut plan = Plan {
            steps: b.steps,
            buffers: b.buffers,
            names: b.names,
            inputs: plan_inputs,
            outputs,
            states,
            values,
            arena_bytes: 0,
            kept_bytes: 0,
            known_bytes: 0,
            live_bytes: 0,
        };
        arena::place(&mut plan, options.keep_values);
        Ok(plan)
    }

    /// The fastest plan that takes at most `room` bytes ([`Plan::memory`] and [`Plan::own_bytes`]): whole pictures rather than
    /// bands, unless a cache holds no more than bands, and Winograd's tiles with either when the options allow them. When none
    /// does, one that takes as little as it can.
    ///
    /// # Errors
    /// As [`Plan::new`].
    pub fn within(
        model: &Model,
        rung: &Rung,
        inputs: &[InputSpec],
        mut options: PlanOptions,
        room: u64,
    ) -> Result<Plan, PlanError> {
        let mut plan = Plan::new(model, rung, inputs, &options)?;
        if options.fast && !plan.fits(room) {
            if plan.is_fast() {
                plan = plan.cut(room);
            }
            if !plan.fits(room) {
                (options.fast, options.bake) = (false, None);
                plan = Plan::new(model, rung, inputs, &options)?;
            }
        }
        Ok(if plan.fits(room) { plan.local(options.cache) } else { plan.cut(room) })
    }

    /// The plan with an arena larger than `cache` cut to about that, or nearer to it: what a layer writes is then still there when the
    /// next one reads it.
    pub fn local(self, cache: Option<usize>) -> Plan {
        match cache {
            Some(bytes) if self.arena_bytes > bytes => arena::local(self, bytes),
            _ => self,
        }
    }

    /// The plan that computes the same bits in at most `room` bytes ([`Plan::memory`] and [`Plan::own_bytes`]), or in as few as it
    /// can: pictures are made a band of rows at a time, in as many layers as it takes.
    pub fn cut(self, room: u64) -> Plan {
        arena::cut(self, room)
    }

    /// Whether the plan takes at most `room` bytes.
    pub fn fits(&self, room: u64) -> bool {
        (self.memory() + self.own_bytes()) as u64 <= room
    }

    /// Whether there is a step that [`PlanOptions::fast`] or [`PlanOptions::bake`] brought.
    pub fn is_fast(&self) -> bool {
        self.steps.iter().any(|step| step.once || matches!(step.op, StepOp::Winograd { .. }))
    }

    /// Bytes that a session allocates for this plan: arena and known values.
    pub fn memory(&self) -> usize {
        self.arena_bytes + self.known_bytes
    }

    /// Bytes of the arena in use at each step; the most of them is [`Plan::live_bytes`].
    pub fn live_at_steps(&self) -> Vec<usize> {
        arena::live_at_steps(self)
    }

    /// Bytes of the plan's own lists, an estimate from above.
    pub fn own_bytes(&self) -> usize {
        let steps = self.steps.len() * STEP_BYTES;
        let buffers = self.buffers.len() * std::mem::size_of::<Buffer>();
        let values = self.values.len() * (std::mem::size_of::<Operand>() + 64);
        steps + buffers + values + self.names.iter().map(|n| n.len() + 40).sum::<usize>()
    }
}
