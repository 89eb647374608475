//! Running a plan.

mod moving;
mod plans;

pub use moving::{MoveError, Moved, Mover, Pressure};

use crate::cpu::memory::Memory;
use crate::cpu::{self, Context, Kernels, RunError};
use crate::device::{BudgetError, Device, Reservation};
use crate::graph::{DType, Graph, ValueId};
use crate::model::Model;
use crate::pack::{Acts, BlobId, Rung};
use crate::plan::{InputSpec, Operand, Plan, PlanError, PlanOptions, StepOp};
use crate::weights::Weights;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A session that cannot be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SessionError {
    /// The inputs do not suit the model.
    #[error(transparent)]
    Plan(#[from] PlanError),
    /// The device's budget has no room for the plan.
    #[error(transparent)]
    Budget(#[from] BudgetError),
}

/// One user of a model: its arena, its state, and the plan for the input shapes at hand.
///
/// After it is made, [`Session::run`] allocates nothing.
pub struct Session {
    model: Arc<Model>,
    device: Arc<Device>,
    rung: Rung,
    plan: Plan,
    /// Those that run over the same arena when they are asked for.
    others: Vec<plans::Waiting>,
    memory: Memory,
    kernels: Kernels,
    /// By tensor; `None` for those of other rungs' graphs.
    weights: Vec<Option<Arc<dyn Weights>>>,
    /// By step, the blobs to let go after it; empty unless weights are streamed.
    released: Vec<Vec<BlobId>>,
    cancelled: Arc<AtomicBool>,
    /// What only the first run makes is there.
    baked: bool,
    /// Of the arena and the plan; grows before they do.
    reservation: Reservation,
    /// What others hold on the session's behalf, given back with it.
    held: Vec<Reservation>,
    /// What it takes to move along the ladder.
    origin: Option<moving::Origin>,
}

impl Session {
    /// Plans a rung for inputs of the given shapes and reserves its memory from the device's budget.
    ///
    /// # Errors
    /// When the inputs do not suit the model or the budget has no room.
    pub fn new(
        device: &Arc<Device>,
        model: &Arc<Model>,
        rung: &Rung,
        inputs: &[InputSpec],
    ) -> Result<Session, SessionError> {
        let room = device.ledger().free();
        let plan = Plan::within(model, rung, inputs, plan_options(device, true), room)?;
        Session::with_plan(device, model, rung, plan)
    }

    /// A session for a plan that exists. The plan must have been made for this model and rung, with as many
    /// threads as the device has.
    ///
    /// # Errors
    /// When the budget has no room.
    pub fn with_plan(
        device: &Arc<Device>,
        model: &Arc<Model>,
        rung: &Rung,
        plan: Plan,
    ) -> Result<Session, SessionError> {
        Session::named(model.name(), device, model, rung, plan)
    }

    /// As [`Session::with_plan`], under a name of the caller's in the device's account.
    pub(crate) fn named(
        name: &str,
        device: &Arc<Device>,
        model: &Arc<Model>,
        rung: &Rung,
        plan: Plan,
    ) -> Result<Session, SessionError> {
        let what = format!("arena and plan of {name}");
        let reservation = device.ledger().reserve(what, reserved_for(&plan))?;
        let (model, rung) = Model::owned(model, rung)?;
        let weights = bound(&model, &rung)?;
        crate::device::trim_heap();
        Ok(Session {
            model,
            device: device.clone(),
            rung,
            memory: Memory::new(&plan),
            plan,
            others: Vec::new(),
            kernels: Kernels::select(device.isa()),
            weights,
            released: Vec::new(),
            cancelled: Arc::new(AtomicBool::new(false)),
            baked: false,
            reservation,
            held: Vec::new(),
            origin: None,
        })
    }

    /// Plans the session anew for inputs of other shapes. State goes back to zeros, and every input is to be set again.
    ///
    /// What was reserved stays reserved, so a session that was made for the largest shapes needs no more; a plan that takes
    /// more, for larger shapes or to be fast where there is room by now, takes it out of the device's account first.
    ///
    /// # Errors
    /// When the inputs do not suit the model or the budget has no room; the session is unchanged then.
    pub fn reshape(&mut self, inputs: &[InputSpec]) -> Result<(), SessionError> {
        let room = self.reservation.bytes() + self.device.ledger().free();
        // What has to stream its weights has no room for more than it needs.
        let fast = self.released.is_empty();
        let plan = Plan::within(&self.model, &self.rung, inputs, plan_options(&self.device, fast), room)?;
        let (need, before) = (reserved_for(&plan), self.reservation.bytes());
        if need > before {
            self.reservation.resize(need)?;
        }
        if let Some(origin) = &mut self.origin {
            origin.reshaped(inputs, self.reservation.bytes() - before);
        }
        self.plan = plan;
        self.others.clear();
        self.baked = false;
        self.memory.refit(&self.plan);
        self.reset_state();
        if !self.released.is_empty() {
            self.stream_weights()?;
        }
        Ok(())
    }

    /// Gives back what earlier, larger shapes have left reserved. State goes back to zeros, and every input is to be set
    /// again.
    ///
    /// # Errors
    /// Never for want of room: a reservation that shrinks always can.
    pub fn shrink(&mut self) -> Result<(), SessionError> {
        self.baked = false;
        self.memory.renew(&self.plan);
        Ok(self.reservation.resize(reserved_for(&self.plan))?)
    }

    /// Bytes of the device's account that the session's arena and plan hold.
    pub fn reserved(&self) -> u64 {
        self.reservation.bytes()
    }

    /// Holds a reservation for as long as the session lives.
    pub(crate) fn hold(&mut self, reservation: Reservation) {
        self.held.push(reservation);
    }

    /// The plan.
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The graph that runs.
    pub fn graph(&self) -> &Graph {
        self.model.graph(&self.rung)
    }

    /// Lets the memory of each step's weights go after the step: the slowest way to run, with the least memory. Takes
    /// effect on a mapped pack.
    ///
    /// # Errors
    /// When a weight's expression is not sound.
    pub fn stream_weights(&mut self) -> Result<(), PlanError> {
        self.released = blobs_by_step(&self.model, &self.rung, &self.plan)?;
        Ok(())
    }

    /// Names of the kernel variants in force.
    pub fn kernels(&self) -> Vec<&'static str> {
        self.kernels.names()
    }

    /// The name of the kernel variant that does most of step `index`.
    ///
    /// # Panics
    /// When the plan has no such step.
    pub fn kernel_of(&self, index: usize) -> &'static str {
        self.kernels.of(&self.plan().steps[index])
    }

    /// Set it from any thread to stop a run at its next step; the run then returns [`RunError::Cancelled`].
    pub fn cancel_flag(&self) -> Arc<AtomicBool> {
        self.cancelled.clone()
    }

    /// Writes input `index` (in the graph's order) as little-endian elements.
    /// Good for one run, which may reuse its memory; an input that a state feeds keeps what the run left there.
    ///
    /// # Errors
    /// When the length is not the planned one, an integer rung is given a number that is not finite, or a double is beyond floats.
    pub fn set_input(&mut self, index: usize, bytes: &[u8]) -> Result<(), RunError> {
        self.follow(true)?;
        let Some(Some(operand)) = self.plan.inputs.get(index) else {
            // The planner has read this one; it is part of the plan.
            return Ok(());
        };
        if bytes.len() != operand.bytes() {
            return Err(RunError::InputBytes { index, got: bytes.len(), want: operand.bytes() });
        }
        self.check(index, operand.dtype, bytes)?;
        self.memory.write(&self.plan.buffers, operand).copy_from_slice(bytes);
        Ok(())
    }

    /// As [`Session::set_input`], for elements that are made in place: `write` gets the input's bytes in the arena, which
    /// saves the caller a buffer of that size.
    ///
    /// # Errors
    /// When an integer rung is given a number that is not finite, or a double is beyond floats; the input must then be written again.
    pub fn write_input(&mut self, index: usize, write: impl FnOnce(&mut [u8])) -> Result<(), RunError> {
        self.follow(true)?;
        let Some(Some(operand)) = self.plan.inputs.get(index) else { return Ok(()) };
        write(self.memory.write(&self.plan.buffers, operand));
        let written = self.memory.read(&self.model, &self.plan.buffers, operand);
        self.check(index, operand.dtype, written)
    }

    /// Refuses what the rung cannot hold: in an integer one what is not finite, in any a double beyond the floats that it becomes.
    fn check(&self, index: usize, dtype: DType, bytes: &[u8]) -> Result<(), RunError> {
        let name = || {
            let graph = self.graph();
            graph.inputs.get(index).map_or("", |p| graph.name(p.value)).to_string()
        };
        match dtype {
            DType::F32 if self.rung.acts == Acts::I8 => {
                let mut elements =
                    bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).enumerate();
                let found = elements.find(|(_, value)| !value.is_finite());
                found.map_or(Ok(()), |(index, value)| Err(RunError::NotFinite { name: name(), index, value }))
            }
            DType::F64 => {
                let mut elements =
                    bytes.as_chunks::<8>().0.iter().map(|b| f64::from_le_bytes(*b)).enumerate();
                let found = elements.find(|(_, value)| value.is_finite() && !(*value as f32).is_finite());
                found.map_or(Ok(()), |(index, value)| Err(RunError::TooLarge { name: name(), index, value }))
            }
            _ => Ok(()),
        }
    }

    /// Runs the plan on the inputs that were set. Allocates nothing, but where a [`Mover`] asked the session to move.
    ///
    /// # Errors
    /// When an index that the data holds is out of range, or the run is cancelled.
    pub fn run(&mut self) -> Result<(), RunError> {
        self.run_observed(|_, _| ())
    }

    /// As [`Session::run`], calling `after(step index, its name)` after each step.
    ///
    /// # Errors
    /// As [`Session::run`].
    pub fn run_observed(&mut self, mut after: impl FnMut(usize, &str)) -> Result<(), RunError> {
        self.follow(false)?;
        let ctx = Context { kernels: self.kernels, pool: self.device.pool(), weights: &self.weights };
        let mut next = 0;
        while let Some(step) = self.plan.steps.get(next) {
            let i = next;
            next += 1;
            if self.cancelled.load(Ordering::Relaxed) {
                self.cancelled.store(false, Ordering::Relaxed);
                return Err(RunError::Cancelled);
            }
            if step.once && self.baked {
                after(i, step.op.name());
                continue;
            }
            let views = self.memory.views(&self.model, &self.plan.buffers, step);
            cpu::run(&ctx, step, views).map_err(|why| RunError::Step {
                node: self.plan.names.get(step.name as usize).cloned().unwrap_or_default(),
                op: step.op.name(),
                why,
            })?;
            if let StepOp::Enter { past: to } | StepOp::Turn { back: to } = step.op {
                let going = self.memory.read(&self.model, &self.plan.buffers, &step.outputs[0]) != [0];
                if going == matches!(step.op, StepOp::Turn { .. }) {
                    next = to;
                }
            }
            for blob in self.released.get(i).into_iter().flatten() {
                self.model.release(*blob);
            }
            after(i, step.op.name());
        }
        self.baked = true;
        for (from, to) in &self.plan.states {
            self.memory.copy(&self.plan.buffers, from, to);
        }
        Ok(())
    }

    /// The bytes of an operand that is kept from run to run.
    pub(crate) fn bytes_of(&self, operand: &Operand) -> &[u8] {
        self.memory.read(&self.model, &self.plan.buffers, operand)
    }

    /// As [`Session::bytes_of`], to be written.
    pub(crate) fn bytes_of_mut(&mut self, operand: &Operand) -> &mut [u8] {
        self.memory.write(&self.plan.buffers, operand)
    }

    /// Output `index` (in the graph's order) of the last run.
    ///
    /// # Panics
    /// When the graph has no such output.
    pub fn output(&self, index: usize) -> (&Operand, &[u8]) {
        let operand = &self.plan.outputs[index];
        (operand, self.memory.read(&self.model, &self.plan.buffers, operand))
    }

    /// The shape and the elements of output `index` after the last run: of an output whose size depends on the data
    /// ([`Graph::filled`](crate::graph::Graph::filled)) the part that the run has filled.
    ///
    /// # Panics
    /// When the graph has no such output.
    pub fn result(&self, index: usize) -> (Vec<usize>, &[u8]) {
        let (operand, bytes) = self.output(index);
        let mut dims = operand.dims.clone();
        if let Some(filled) = self.graph().filled.iter().find(|f| f.output == index) {
            let count = self.output(filled.count).1.first_chunk().map_or(0, |b| i64::from_le_bytes(*b));
            if let Some(size) = dims.get_mut(filled.axis) {
                *size = usize::try_from(count).unwrap_or(0).min(*size);
            }
        }
        let bytes = &bytes[..dims.iter().product::<usize>() * operand.dtype.bytes()];
        (dims, bytes)
    }

    /// Every value of the last run, when the plan keeps them ([`PlanOptions::keep_values`]).
    pub fn values(&self) -> impl Iterator<Item = (ValueId, &Operand, &[u8])> {
        let read = |o| self.memory.read(&self.model, &self.plan.buffers, o);
        self.plan.values.iter().map(move |(id, operand)| (*id, operand, read(operand)))
    }

    /// Sets all state back to zeros.
    pub fn reset_state(&mut self) {
        for (_, to) in &self.plan.states {
            self.memory.write(&self.plan.buffers, to).fill(0);
        }
    }
}

/// Half a cache for whose sake pictures are cut: in smaller ones bands would be so many that their steps cost more than memory does.
const LEAST_CACHE: usize = 4 << 20;

/// How plans for a device are made.
pub(crate) fn plan_options(device: &Device, fast: bool) -> PlanOptions {
    let bake = (fast && device.bake()).then(|| device.cpu().caches.l2 as usize);
    // Weights and the other half of what a layer touches have to stay beside its pictures.
    let cache = device.cpu().caches.l3.map(|l3| l3 as usize / 2).filter(|half| *half >= LEAST_CACHE);
    PlanOptions {
        threads: device.pool().threads(),
        keep_values: false,
        fast,
        bf16: device.bf16(),
        rounded: false,
        bake,
        cache,
        context: None,
        kept: None,
    }
}

/// The weights of a rung, by tensor.
fn bound(model: &Model, rung: &Rung) -> Result<Vec<Option<Arc<dyn Weights>>>, SessionError> {
    let mut weights = Vec::with_capacity(rung.takes.len());
    for (tensor, take) in rung.takes.iter().enumerate() {
        weights.push(match take {
            Some(_) => Some(model.weights(rung, tensor as u32).map_err(PlanError::from)?),
            None => None,
        });
    }
    Ok(weights)
}

/// By step, the blobs of its weights.
fn blobs_by_step(model: &Model, rung: &Rung, plan: &Plan) -> Result<Vec<Vec<BlobId>>, PlanError> {
    let mut steps = Vec::with_capacity(plan.steps.len());
    for step in &plan.steps {
        let mut blobs = Vec::new();
        for matrix in &step.weights {
            if let Some(tensor) = matrix.tensor() {
                blobs.extend(model.tensor_blobs(rung, tensor)?);
            }
        }
        steps.push(blobs);
    }
    Ok(steps)
}

/// Bytes that a session with this plan takes of the device's account.
fn reserved_for(plan: &Plan) -> u64 {
    (plan.memory() + plan.own_bytes()) as u64
}
