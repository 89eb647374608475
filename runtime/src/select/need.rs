//! What a rung takes of the process's memory.

use crate::device;
use crate::graph::Source;
use crate::model::Model;
use crate::pack::{BlobId, Rung};
use crate::plan::{BufferKind, BufferPlace, Matrix, Plan, PlanError, Step};
use crate::sort;

/// The kernel maps up to this much of a cached file around a fault.
const FAULT_AROUND: u64 = 64 << 10;

/// Code, stacks and heap that a first run touches beyond what the process holds when the rung is chosen.
/// Measured: 0.8 to 2.3 MiB on x86-64 Linux (kernels' code, lazily bound libraries, thread stacks, the heap of planning; Linux 6.18 maps code
/// in larger parts than kernels before it).
pub(super) const FIRST_RUN: u64 = 2500 << 10;

/// What two starts of one program differ by in what they hold when a rung is chosen: code lies elsewhere at each start,
/// and the kernel maps other pages around a fault. Measured on x86-64 Linux: 0.3 MB, 0.5 MB for a program that may lie at
/// any page (`targets/cli/build.rs`).
pub const START_SPREAD: u64 = 512 << 10;

/// A weight that is bound, on the heap: language models have hundreds.
const BOUND: u64 = 1 << 10;

/// How a rung's weights are held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weighing {
    /// All of them stay in memory.
    Resident,
    /// Those of a step are let go after it: slow, and the least memory.
    Streamed,
}

/// The planned peak of the process, by what it is made of; bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Need {
    /// What the process holds already, with room for what a first run touches.
    pub process: u64,
    /// Weights and constants of the pack.
    pub weights: u64,
    /// Arena: activations, state, scratch.
    pub arena: u64,
    /// The plan's lists and the values it knows.
    pub plan: u64,
    /// The caller's own.
    pub extra: u64,
}

impl Need {
    pub(super) fn new(
        baseline: u64,
        model: &Model,
        rung: &Rung,
        plan: &Plan,
        weighing: Weighing,
        extra: u64,
    ) -> Result<Need, PlanError> {
        let process = baseline + FIRST_RUN;
        let weights = Reads::of(model, rung, plan)?.bytes(model, rung, weighing)?;
        let own = (plan.known_bytes + plan.own_bytes()) as u64 + model.subnet_bytes(rung)?;
        Ok(Need {
            process,
            weights,
            arena: round(plan.arena_bytes as u64, device::page_size()),
            plan: own,
            extra,
        })
    }

    /// What a session takes that has several plans of a rung over one arena, weights resident.
    pub(crate) fn of_plans(
        baseline: u64,
        model: &Model,
        rung: &Rung,
        plans: &[&Plan],
    ) -> Result<Need, PlanError> {
        let mut need = Need { process: 0, weights: 0, arena: 0, plan: 0, extra: 0 };
        for plan in plans {
            let own = Need::new(baseline, model, rung, plan, Weighing::Resident, 0)?;
            let arena = need.arena.max(own.arena);
            need = Need { weights: need.weights.max(own.weights), arena, plan: need.plan + own.plan, ..own };
        }
        let bound = rung.takes.iter().flatten().count() as u64 * BOUND;
        Ok(Need { plan: need.plan + bound, ..need })
    }

    /// The planned peak.
    pub fn total(&self) -> u64 {
        self.process + self.weights + self.arena + self.plan + self.extra
    }

    /// A budget that holds this need at the program's next start too.
    pub fn budget(&self) -> u64 {
        self.total() + START_SPREAD
    }
}

fn round(bytes: u64, unit: u64) -> u64 {
    bytes.div_ceil(unit) * unit
}

/// Bytes of the windows of [`FAULT_AROUND`] that a set of blobs touches.
fn windows(model: &Model, blobs: &[BlobId]) -> u64 {
    let header = model.header();
    let mut ranges: Vec<(u64, u64)> = blobs
        .iter()
        .filter_map(|id| header.all_blobs().get(*id as usize))
        .filter(|b| b.len > 0)
        .map(|b| (b.offset / FAULT_AROUND, (b.offset + b.len).div_ceil(FAULT_AROUND)))
        .collect();
    sort::ascending(&mut ranges);
    let (mut total, mut covered) = (0, 0);
    for (start, end) in ranges {
        let start = start.max(covered);
        if end > start {
            total += end - start;
            covered = end;
        }
    }
    total * FAULT_AROUND
}

fn constants(model: &Model, plan: &Plan) -> Vec<BlobId> {
    let used = plan.buffers.iter().filter(|b| b.place == BufferPlace::Pack);
    used.filter_map(|b| match b.kind {
        BufferKind::Constant(id) => {
            model.header().constant(id).and_then(|constant| constant.data.place()).map(|(blob, _)| blob)
        }
        _ => None,
    })
    .collect()
}

/// What a plan reads of the pack, whatever the precision.
pub(super) struct Reads {
    /// Tensors of each step that has any.
    steps: Vec<Vec<u32>>,
    constants: Vec<BlobId>,
}

impl Reads {
    /// # Errors
    /// When the rung runs a subnet that cannot be made.
    pub(super) fn of(model: &Model, rung: &Rung, plan: &Plan) -> Result<Reads, PlanError> {
        let tensors = |step: &Step| -> Vec<u32> { step.weights.iter().filter_map(Matrix::tensor).collect() };
        let steps = plan.steps.iter().map(tensors).filter(|t| !t.is_empty()).collect();
        // Constants of subnets are cut or brought along, and read when the subnet is planned, whether or not a step reads them there.
        let subnet = rung.subnet.is_some() || rung.chosen.is_some();
        let model = model.running(rung)?;
        let mut constants = constants(&model, plan);
        if subnet {
            for value in &model.graph(model.rung()).values {
                if let Source::Constant(id) = value.source {
                    let constant = model.header().constant(id);
                    constants.extend(constant.and_then(|c| c.data.place()).map(|(blob, _)| blob));
                }
            }
        }
        Ok(Reads { steps, constants })
    }

    /// Bytes of the pages that hold weights and constants at a rung's precision: all of them, or the constants and the
    /// weights of the step that has most.
    pub(super) fn bytes(&self, model: &Model, rung: &Rung, weighing: Weighing) -> Result<u64, PlanError> {
        let model = model.running(rung)?;
        let blobs = |tensors: &[u32]| -> Result<Vec<BlobId>, PlanError> {
            let mut blobs = Vec::new();
            for tensor in tensors {
                blobs.extend(model.tensor_blobs(model.rung(), *tensor)?);
            }
            Ok(blobs)
        };
        match weighing {
            Weighing::Resident => {
                let mut all = self.constants.clone();
                for step in &self.steps {
                    all.extend(blobs(step)?);
                }
                Ok(windows(&model, &all))
            }
            Weighing::Streamed => {
                let mut most = 0;
                for step in &self.steps {
                    most = most.max(windows(&model, &blobs(step)?));
                }
                Ok(windows(&model, &self.constants) + most)
            }
        }
    }
}
