//! Walks a graph with concrete input shapes: infers every shape, evaluates what is known, emits steps.

use super::error::PlanError;
use super::fact::{BufferId, Fact, Operand, Place, Quant};
use super::lower;
use super::step::{Matrix, Step, StepOp, Workspace};
use super::{Buffer, BufferKind, InputSpec, LIMIT, PlanOptions};
use crate::graph::{DType, Graph, Node, Op, Source, ValueId};
use crate::model::Model;
use crate::pack::{Acts, ConstantData, Rung};
use edge_kernels::cpu::attention::PANEL;
use std::sync::Arc;

/// Known results up to this size are computed when the plan is made; larger ones when it runs.
const FOLD_LIMIT: usize = 256 << 10;

/// Why a node cannot be planned; the builder adds which node.
pub(super) type Why = String;

/// The state of a plan in the making.
pub(super) struct Builder<'a> {
    pub model: &'a Model,
    pub graph: &'a Graph,
    pub rung: &'a Rung,
    pub workers: usize,
    /// See [`super::PlanOptions::fast`].
    pub fast: bool,
    /// See [`super::PlanOptions::bf16`].
    pub bf16: bool,
    /// See [`super::PlanOptions::rounded`].
    pub rounded: bool,
    /// See [`super::PlanOptions::bake`].
    pub bake: Option<usize>,
    pub facts: Vec<Option<Fact>>,
    pub buffers: Vec<Buffer>,
    pub steps: Vec<Step>,
    pub names: Vec<String>,
    /// For each value, whether some operation that works on integers takes it.
    integer_use: Vec<bool>,
    /// For each value, whether products of integers take it and nothing else does.
    coded_use: Vec<bool>,
    /// The i8 or f32 twin of a value that exists in the other form, made on first use.
    pub(super) twins: Vec<(ValueId, DType, Fact)>,
    /// The node at hand.
    pub(super) name: u32,
    /// For each value, whether it belongs to the body of a loop, where each turn makes it anew.
    pub(super) of_a_turn: Vec<bool>,
}

/// A node with the facts of its operands.
pub(super) struct Call<'n> {
    pub node: &'n Node,
    pub inputs: Vec<Option<Fact>>,
}

impl Call<'_> {
    /// Operand `i`, which must be there.
    pub fn input(&self, i: usize) -> Result<&Fact, Why> {
        self.inputs.get(i).and_then(Option::as_ref).ok_or_else(|| format!("operand {i} is missing"))
    }

    /// Operand `i`, if it is there.
    pub fn optional(&self, i: usize) -> Option<&Fact> {
        self.inputs.get(i).and_then(Option::as_ref)
    }

    /// The graph value of operand `i`.
    pub fn value(&self, i: usize) -> Option<ValueId> {
        self.node.inputs.get(i).copied().flatten()
    }

    /// The graph value of result `i`.
    pub fn result(&self, i: usize) -> Option<ValueId> {
        self.node.outputs.get(i).copied().flatten()
    }
}

impl<'a> Builder<'a> {
    pub fn new(model: &'a Model, rung: &'a Rung, options: &PlanOptions) -> Result<Self, PlanError> {
        let graph = model.graph(rung);
        let mut builder = Builder {
            model,
            graph,
            rung,
            workers: options.threads.max(1),
            fast: options.fast,
            bf16: options.bf16,
            rounded: options.rounded,
            bake: options.bake,
            facts: vec![None; graph.values.len()],
            buffers: Vec::new(),
            steps: Vec::new(),
            names: Vec::new(),
            integer_use: integer_use(graph),
            coded_use: coded_use(model, rung, graph),
            twins: Vec::new(),
            name: 0,
            of_a_turn: vec![false; graph.values.len()],
        };
        for (id, value) in graph.values.iter().enumerate() {
            builder.facts[id] = match value.source {
                Source::Computed => None,
                Source::Constant(constant) => Some(builder.constant(constant)?),
                Source::Weight(tensor) => {
                    let none = || crate::weights::WeightError::NoTensor {
                        tensor: tensor as usize,
                        count: model.header().tensor_count(),
                    };
                    let t = model.header().tensor(tensor).ok_or_else(none)?;
                    let dims = vec![t.n, t.k];
                    Some(Fact { dtype: DType::F32, dims, quant: None, place: Place::Weight(tensor) })
                }
            };
        }
        Ok(builder)
    }

    fn constant(&self, id: u32) -> Result<Fact, PlanError> {
        let none = || PlanError::Constant { id, why: "there is no such constant".into() };
        let constant = self.model.header().constant(id).ok_or_else(none)?;
        let place = match &constant.data {
            ConstantData::Blob(_) | ConstantData::Part(..) => Place::Constant(id),
            ConstantData::Hex(_) => Place::Known(self.model.constant_bytes(id)?.to_vec().into()),
        };
        Ok(Fact { dtype: constant.dtype, dims: constant.dims.clone(), quant: None, place })
    }

    /// Places an input: a buffer that the caller fills, or the value itself when shapes depend on it.
    pub fn input(&mut self, index: usize, spec: &InputSpec) {
        let port = &self.graph.inputs[index];
        let fact = match &spec.value {
            Some(bytes) if port.plan_time => Fact {
                dtype: port.dtype,
                dims: spec.dims.clone(),
                quant: None,
                place: Place::Known(bytes.clone()),
            },
            _ => self.buffer(port.dtype, spec.dims.clone(), BufferKind::Input(index)),
        };
        self.facts[port.value as usize] = Some(fact);
    }

    /// Makes room for what a graph that decodes keeps: whole panels of tokens and of depth.
    pub fn kept(&mut self, specs: &[InputSpec], options: &PlanOptions) -> Result<(), PlanError> {
        let Some(decoding) = &self.graph.decoding else { return Ok(()) };
        let tokens = specs.get(decoding.ids).and_then(|spec| spec.dims.last()).copied().unwrap_or(0);
        let context = options.context.unwrap_or(tokens);
        let dtype = options.kept.unwrap_or(DType::F32);
        for cache in &decoding.caches {
            let columns = kept_columns(cache.depth, dtype);
            let dims = [cache.heads, context.div_ceil(PANEL) * PANEL, columns];
            let bytes = dims.iter().try_fold(dtype.bytes(), |bytes, d| bytes.checked_mul(*d));
            if bytes.is_none_or(|bytes| bytes as u64 > LIMIT) {
                let node = self.graph.name(cache.value).to_string();
                let bytes = dims.iter().fold(dtype.bytes() as u128, |n, d| n.saturating_mul(*d as u128));
                return Err(PlanError::TooLarge { node, bytes, limit: LIMIT });
            }
            let fact = self.buffer(dtype, dims.to_vec(), BufferKind::Kept);
            self.facts[cache.value as usize] = Some(fact);
        }
        Ok(())
    }

    /// Plans nodes in order.
    pub fn nodes(&mut self, nodes: &[Node]) -> Result<(), PlanError> {
        for node in nodes {
            self.name = self.names.len() as u32;
            self.names.push(node.name.clone());
            let fail =
                |op: &Op, why: Why| PlanError::Node { node: node.name.clone(), op: lower::name(op), why };
            let mut inputs = Vec::with_capacity(node.inputs.len());
            for id in &node.inputs {
                inputs.push(match id {
                    None => None,
                    Some(id) => {
                        Some(
                            self.facts.get(*id as usize).cloned().flatten().ok_or_else(|| {
                                PlanError::Undefined { node: node.name.clone(), value: *id }
                            })?,
                        )
                    }
                });
            }
            let call = Call { node, inputs };
            if let Op::Loop { body, carried, most } = &node.op {
                self.repeat(&call, body, *carried, *most)?;
                continue;
            }
            if let Op::If { then_branch, else_branch } = &node.op {
                let taken = self.condition(&call).map_err(|why| fail(&node.op, why))?;
                let branch = if taken { then_branch } else { else_branch };
                self.nodes(&branch.nodes)?;
                for (outer, inner) in node.outputs.iter().zip(&branch.outputs) {
                    let fact = self.facts.get(*inner as usize).cloned().flatten();
                    let fact =
                        fact.ok_or_else(|| PlanError::Undefined { node: node.name.clone(), value: *inner })?;
                    if let Some(outer) = outer {
                        self.facts[*outer as usize] = Some(fact);
                    }
                }
                continue;
            }
            let facts = self.node(&call).map_err(|why| fail(&node.op, why))?;
            for (id, fact) in node.outputs.iter().zip(facts) {
                if let (Some(id), Some(fact)) = (id, fact) {
                    if fact.bytes() as u64 > LIMIT {
                        let bytes = fact.bytes() as u128;
                        return Err(PlanError::TooLarge { node: node.name.clone(), bytes, limit: LIMIT });
                    }
                    self.facts[*id as usize] = Some(fact);
                }
            }
        }
        Ok(())
    }

    fn condition(&self, call: &Call) -> Result<bool, Why> {
        let fact = call.input(0)?;
        let bytes = self.known(fact).ok_or("the condition depends on data that only a run computes")?;
        Ok(bytes.first().is_some_and(|b| *b != 0))
    }

    /// Lowers one node; when everything it reads is known and its results are small, evaluates it at once.
    fn node(&mut self, call: &Call) -> Result<Vec<Option<Fact>>, Why> {
        let known = call.inputs.iter().flatten().all(Fact::is_known);
        let (steps, buffers) = (self.steps.len(), self.buffers.len());
        let outputs = lower::lower(self, call)?;
        let small = outputs.iter().flatten().map(Fact::bytes).sum::<usize>() <= FOLD_LIMIT;
        if !known || !small || self.steps.len() == steps {
            return Ok(outputs);
        }
        let new_steps = self.steps.split_off(steps);
        let results = crate::cpu::evaluate(self.model, &self.buffers, &new_steps, &outputs)?;
        self.buffers.truncate(buffers);
        Ok(results)
    }

    /// A new buffer and the fact of the value that fills it.
    pub fn buffer(&mut self, dtype: DType, dims: Vec<usize>, kind: BufferKind) -> Fact {
        let bytes = dims.iter().product::<usize>() * dtype.bytes();
        let buffer = self.buffers.len() as BufferId;
        self.buffers.push(Buffer { kind, bytes, place: Default::default() });
        Fact { dtype, dims, quant: None, place: Place::Buffer { buffer, offset: 0 } }
    }

    /// A new value of the arena. The size is checked before anything is reserved.
    pub fn result(&mut self, dtype: DType, dims: &[usize]) -> Result<Fact, Why> {
        let bytes = dims.iter().try_fold(dtype.bytes(), |bytes, d| bytes.checked_mul(*d));
        if bytes.is_none_or(|bytes| bytes as u64 > LIMIT) {
            return Err(format!("a result of {dims:?} {dtype} elements is beyond {LIMIT} bytes"));
        }
        Ok(self.buffer(dtype, dims.to_vec(), BufferKind::Arena))
    }

    /// A new i8 value.
    pub fn result_i8(&mut self, quant: Quant, dims: &[usize]) -> Result<Fact, Why> {
        Ok(Fact { quant: Some(quant), ..self.result(DType::I8, dims)? })
    }

    /// The bytes of a value that is known when the plan is made.
    pub fn known<'f>(&'f self, fact: &'f Fact) -> Option<&'f [u8]> {
        match &fact.place {
            Place::Known(bytes) => Some(bytes),
            Place::Constant(id) => self.model.constant_bytes_mapped(*id),
            _ => None,
        }
    }

    /// The elements of a known integer value.
    pub fn integers(&self, fact: &Fact) -> Result<Vec<i64>, Why> {
        let bytes = self.known(fact).ok_or("a shape operand depends on data that only a run computes")?;
        match fact.dtype {
            DType::I64 => Ok(bytes.as_chunks::<8>().0.iter().map(|b| i64::from_le_bytes(*b)).collect()),
            DType::I32 => {
                Ok(bytes.as_chunks::<4>().0.iter().map(|b| i64::from(i32::from_le_bytes(*b))).collect())
            }
            DType::U8 | DType::Bool => Ok(bytes.iter().map(|b| i64::from(*b)).collect()),
            DType::F32 => {
                Ok(bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b) as i64).collect())
            }
            other => Err(format!("a shape operand of type {other}, expected i64")),
        }
    }

    /// The elements of a known f32 value.
    pub fn floats(&self, fact: &Fact) -> Result<Vec<f32>, Why> {
        let bytes = self.known(fact).ok_or("an operand must be known when the plan is made")?;
        match fact.dtype {
            DType::F32 => Ok(bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()),
            other => Err(format!("an operand of type {other}, expected f32")),
        }
    }

    /// A value known to the planner.
    pub fn known_fact(&self, dtype: DType, dims: Vec<usize>, bytes: Vec<u8>) -> Fact {
        Fact { dtype, dims, quant: None, place: Place::Known(bytes.into()) }
    }

    /// The place of a value for a step.
    pub fn operand(&mut self, fact: &Fact) -> Result<Operand, Why> {
        let (buffer, offset) = match &fact.place {
            Place::Buffer { buffer, offset } => (*buffer, *offset),
            Place::Known(bytes) => (self.shared(BufferKind::Known(bytes.clone()), bytes.len()), 0),
            Place::Constant(id) => (self.shared(BufferKind::Constant(*id), fact.bytes()), 0),
            Place::Weight(_) => return Err("a matrix operand is used as a plain value".into()),
        };
        let (dtype, dims, quant) = (fact.dtype, fact.dims.clone(), fact.quant);
        Ok(Operand { buffer, offset, dtype, dims, quant, pitch: None })
    }

    /// The buffer of a constant, one for all its uses since the last evaluation point.
    fn shared(&mut self, kind: BufferKind, bytes: usize) -> BufferId {
        let same = |b: &Buffer| match (&b.kind, &kind) {
            (BufferKind::Known(a), BufferKind::Known(b)) => Arc::ptr_eq(a, b),
            (BufferKind::Constant(a), BufferKind::Constant(b)) => a == b,
            _ => false,
        };
        if let Some(found) = self.buffers.iter().position(same) {
            return found as BufferId;
        }
        self.buffers.push(Buffer { kind, bytes, place: Default::default() });
        (self.buffers.len() - 1) as BufferId
    }

    /// Emits a step.
    pub fn emit(&mut self, op: StepOp, inputs: &[Option<&Fact>], outputs: &[&Fact]) -> Result<(), Why> {
        self.emit_full(op, inputs, outputs, Vec::new(), 0)
    }

    /// Emits a step with matrices and scratch.
    pub fn emit_full(
        &mut self,
        op: StepOp,
        inputs: &[Option<&Fact>],
        outputs: &[&Fact],
        weights: Vec<Matrix>,
        scratch_each: usize,
    ) -> Result<(), Why> {
        let inputs =
            inputs.iter().map(|f| f.map(|f| self.operand(f)).transpose()).collect::<Result<Vec<_>, _>>()?;
        let outputs = outputs.iter().map(|f| self.operand(f)).collect::<Result<Vec<_>, _>>()?;
        let scratch = match scratch_each.next_multiple_of(64) * self.workers + op.shared_scratch() {
            0 => None,
            bytes => {
                let fact = self.result(DType::U8, &[bytes])?;
                Some(Workspace { buffer: self.operand(&fact)?.buffer, bytes })
            }
        };
        self.steps.push(Step { name: self.name, op, inputs, outputs, weights, scratch, once: false });
        Ok(())
    }

    /// Makes something of a weight alone, in a step of its own: in every run, or `once`, and it is kept.
    pub fn made_of_weight(
        &mut self,
        op: StepOp,
        weights: Matrix,
        bytes: usize,
        scratch: usize,
        once: bool,
    ) -> Result<Matrix, Why> {
        let made = self.result(DType::F32, &[bytes / 4])?;
        self.emit_full(op, &[], &[&made], vec![weights], scratch)?;
        if let Some(step) = self.steps.last_mut() {
            step.once = once;
        }
        Ok(Matrix::Panels(self.operand(&made)?))
    }

    /// Whether most of the rung's weights, decoded, stay in a core's own cache: a product of few rows then reads them in less time than it
    /// takes to decode them. With 1.2 MB in a cache of 1 MB it is two thirds of the time.
    pub fn decoded_fits(&self) -> bool {
        let taken =
            self.model.header().tensors.iter().zip(&self.rung.takes).filter(|(_, take)| take.is_some());
        let bytes = taken
            .map(|(tensor, _)| (tensor.n.next_multiple_of(PANEL) as u64).saturating_mul(tensor.k as u64 * 4));
        let all = bytes.fold(0, u64::saturating_add);
        self.bake.is_some_and(|cache| all <= cache as u64 / 2 * 3)
    }

    /// Whether this rung holds activations as integers.
    pub fn integer_rung(&self) -> bool {
        self.rung.acts == Acts::I8
    }

    /// The quantization of a result, when the rung holds it as i8: its range is known and an integer operation
    /// (not the caller) takes it.
    pub fn result_quant(&self, value: Option<ValueId>) -> Option<Quant> {
        let value = value? as usize;
        if !self.integer_rung() || !self.integer_use[value] {
            return None;
        }
        self.quant_of(value as ValueId)
    }

    /// How a value is held as i8, if it may be: by the source model's own codes, or over its range.
    fn quant_of(&self, value: ValueId) -> Option<Quant> {
        if self.rung.floats.binary_search(&value).is_ok() {
            return None;
        }
        let value = &self.graph.values[value as usize];
        let (lo, hi) = value.range?;
        Some(match value.codes {
            Some((scale, zero_point)) => Quant { scale, zero_point },
            None => Quant::covering(lo, hi),
        })
    }

    /// Whether a value is only ever read as codes.
    pub fn is_coded(&self, value: Option<ValueId>) -> bool {
        value.is_some_and(|value| self.coded_use[value as usize])
    }

    /// The value as plain f32: dequantized or cast when it is not.
    pub fn float(&mut self, value: Option<ValueId>, fact: &Fact) -> Result<Fact, Why> {
        if fact.dtype == DType::F32 {
            return Ok(fact.clone());
        }
        if fact.dtype == DType::U64 {
            return Err("a cast from u64 to f32".into());
        }
        if let Some(twin) = self.twin(value, DType::F32, fact) {
            return Ok(twin);
        }
        let out = self.result(DType::F32, &fact.dims)?;
        match fact.quant {
            Some(quant) => self.emit(StepOp::Dequantize(quant), &[Some(fact)], &[&out])?,
            None => self.emit(StepOp::Cast, &[Some(fact)], &[&out])?,
        }
        self.add_twin(value, &out, fact);
        Ok(out)
    }

    /// The value as i8, when this rung is an integer rung and its range is known.
    pub fn integer(&mut self, value: Option<ValueId>, fact: &Fact) -> Result<Option<Fact>, Why> {
        if !self.integer_rung() || fact.is_known() {
            return Ok(None);
        }
        if fact.quant.is_some() {
            return Ok(Some(fact.clone()));
        }
        let Some(quant) = value.and_then(|v| self.quant_of(v)) else { return Ok(None) };
        if fact.dtype != DType::F32 {
            return Ok(None);
        }
        if let Some(twin) = self.twin(value, DType::I8, fact) {
            return Ok(Some(twin));
        }
        let out = self.result_i8(quant, &fact.dims)?;
        self.emit(StepOp::Quantize(quant), &[Some(fact)], &[&out])?;
        self.add_twin(value, &out, fact);
        Ok(Some(out))
    }

    /// A value as an output: floats in the arena.
    pub fn output(&mut self, value: ValueId, fact: &Fact) -> Result<Operand, Why> {
        let fact = if fact.quant.is_some() { self.float(Some(value), fact)? } else { fact.clone() };
        let given = |b: &BufferId| matches!(self.buffers[*b as usize].kind, BufferKind::Arena);
        match &fact.place {
            Place::Buffer { buffer, .. } if given(buffer) => self.operand(&fact),
            _ => {
                let out = self.result(fact.dtype, &fact.dims)?;
                if fact.elements() > 0 {
                    let plan = lower::flat_copy(&fact)?.into();
                    self.emit(StepOp::Copy { plan }, &[Some(&fact)], &[&out])?;
                }
                self.operand(&out)
            }
        }
    }

    /// Every computed value that a buffer holds when a run has ended.
    pub fn values(&self) -> Vec<(ValueId, Operand)> {
        let held = |(id, fact): (usize, &Option<Fact>)| {
            if self.of_a_turn[id] {
                return None;
            }
            let Some(Fact { dtype, dims, quant, place: Place::Buffer { buffer, offset } }) = fact else {
                return None;
            };
            let operand = Operand {
                buffer: *buffer,
                offset: *offset,
                dtype: *dtype,
                dims: dims.clone(),
                quant: *quant,
                pitch: None,
            };
            Some((id as ValueId, operand))
        };
        self.facts.iter().enumerate().filter_map(held).collect()
    }

    fn twin(&self, value: Option<ValueId>, dtype: DType, of: &Fact) -> Option<Fact> {
        let value = value?;
        let found = self.twins.iter().find(|(v, d, f)| *v == value && *d == dtype && f.dims == of.dims);
        found.map(|(_, _, fact)| fact.clone())
    }

    fn add_twin(&mut self, value: Option<ValueId>, twin: &Fact, of: &Fact) {
        // A value that is known is evaluated at once and its steps are dropped: no twin may outlive them.
        if let (Some(value), false) = (value, of.is_known()) {
            self.twins.push((value, twin.dtype, twin.clone()));
        }
    }
}

/// Elements of what is kept of a token and head: whole panels, and a scale beside codes.
pub(crate) fn kept_columns(depth: usize, kept: DType) -> usize {
    depth.div_ceil(PANEL) * PANEL + if kept == DType::I8 { 4 } else { 0 }
}

/// For each value, whether an operation that works on i8 takes it (and the caller does not).
fn integer_use(graph: &Graph) -> Vec<bool> {
    let mut used = vec![false; graph.values.len()];
    graph.body.for_each(&mut |node| {
        let integer = lower::takes_integers(&node.op);
        for id in node.inputs.iter().flatten() {
            if let Some(flag) = used.get_mut(*id as usize) {
                *flag |= integer;
            }
        }
    });
    for port in &graph.outputs {
        if let Some(flag) = used.get_mut(port.value as usize) {
            *flag = false;
        }
    }
    used
}

/// For each value, whether every operation that takes it is a product of integers (and the caller does not).
fn coded_use(model: &Model, rung: &Rung, graph: &Graph) -> Vec<bool> {
    if rung.acts != Acts::I8 {
        return vec![false; graph.values.len()];
    }
    let mut coded = vec![true; graph.values.len()];
    graph.body.for_each(&mut |node| {
        for (operand, id) in node.inputs.iter().enumerate() {
            if let Some(flag) = id.and_then(|id| coded.get_mut(id as usize)) {
                *flag &= lower::takes_codes(model, rung, graph, node, operand);
            }
        }
    });
    for port in &graph.outputs {
        if let Some(flag) = coded.get_mut(port.value as usize) {
            *flag = false;
        }
    }
    coded
}
