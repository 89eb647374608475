//! Parts are computed where they belong, and read where they lie: copies into joined values and out of cut ones
//! disappear where the operations around them can work on rows at a distance.
//!
//! A copy is dropped only when the plan needs no more memory without it: a part that is computed early would make the
//! whole joined value live early.

use super::arena;
use super::step::{Matrix, Step, StepOp};
use super::{BufferId, BufferKind, Operand, Plan};
use edge_kernels::cpu::movement::Runs;
use std::ops::Range;

/// Drops the copies of a plan whose buffers have no place yet.
pub(super) fn join(plan: &mut Plan) {
    let mut live = arena::live(plan);
    let mut end = plan.steps.len();
    while let Some(last) = end.checked_sub(1) {
        let name = plan.steps[last].name;
        let first = plan.steps[..end].iter().rposition(|s| s.name != name).map_or(0, |i| i + 1);
        let copies: Vec<usize> =
            (first..end).rev().filter(|i| matches!(plan.steps[*i].op, StepOp::Copy { .. })).collect();
        end = first;
        // All parts of a value together: as long as some are copied, the whole is there twice.
        if copies.len() > 1 && drop_copies(plan, &copies, &mut live) {
            continue;
        }
        for copy in copies {
            drop_copies(plan, &[copy], &mut live);
        }
    }
}

/// Drops those of the copies (last first) that can be dropped. When the plan then needs more memory than `live`, puts
/// them back and gives false.
fn drop_copies(plan: &mut Plan, copies: &[usize], live: &mut usize) -> bool {
    let mut dropped = Vec::with_capacity(copies.len());
    for at in copies {
        let Some(copy) = Part::of(plan, *at) else { continue };
        if let Some(edits) = copy.written_in_place(plan).or_else(|| copy.read_in_place(plan)) {
            let step = plan.steps.remove(*at);
            dropped.push((*at, step, apply(plan, edits, *at)));
        }
    }
    let without = if dropped.is_empty() { *live } else { arena::live(plan) };
    let accepted = without <= *live;
    if accepted {
        *live = without;
    } else {
        for (at, step, edits) in dropped.into_iter().rev() {
            apply(plan, edits, at);
            plan.steps.insert(at, step);
        }
    }
    accepted
}

/// Which operand of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Slot {
    Input(usize),
    Output(usize),
    Panels(usize),
}

/// An operand of a step and what stands in its place.
struct Edit {
    step: usize,
    slot: Slot,
    operand: Operand,
}

/// Puts operands in place; steps after `removed` count one less. Gives what undoes it.
fn apply(plan: &mut Plan, edits: Vec<Edit>, removed: usize) -> Vec<Edit> {
    let exchange = |edit: Edit| {
        let step = if edit.step > removed { edit.step - 1 } else { edit.step };
        let place = operand_mut(&mut plan.steps[step], edit.slot)?;
        Some(Edit { operand: std::mem::replace(place, edit.operand), ..edit })
    };
    edits.into_iter().filter_map(exchange).collect()
}

fn operand_mut(step: &mut Step, slot: Slot) -> Option<&mut Operand> {
    match slot {
        Slot::Input(i) => step.inputs.get_mut(i)?.as_mut(),
        Slot::Output(i) => step.outputs.get_mut(i),
        Slot::Panels(i) => match step.weights.get_mut(i)? {
            Matrix::Panels(operand) => Some(operand),
            Matrix::Tensor(_) | Matrix::Factor(..) => None,
        },
    }
}

/// The steps that touch a buffer.
#[derive(Default)]
struct Uses {
    writers: Vec<(usize, Slot, Operand)>,
    readers: Vec<(usize, Slot, Operand)>,
    /// Whether the caller or the next run reads it.
    kept: bool,
}

impl Uses {
    fn of(plan: &Plan, buffer: BufferId) -> Uses {
        let mut uses = Uses::default();
        let is = |o: &Operand| o.buffer == buffer;
        for (i, step) in plan.steps.iter().enumerate() {
            for (slot, operand) in step.inputs.iter().enumerate() {
                if let Some(operand) = operand.as_ref().filter(|o| is(o)) {
                    uses.readers.push((i, Slot::Input(slot), operand.clone()));
                }
            }
            for (slot, matrix) in step.weights.iter().enumerate() {
                if let Matrix::Panels(operand) = matrix
                    && is(operand)
                {
                    uses.readers.push((i, Slot::Panels(slot), operand.clone()));
                }
            }
            for (slot, operand) in step.outputs.iter().enumerate().filter(|(_, o)| is(o)) {
                uses.writers.push((i, Slot::Output(slot), operand.clone()));
            }
        }
        let ports = plan.outputs.iter().chain(plan.inputs.iter().flatten());
        uses.kept = ports.chain(plan.states.iter().flat_map(|(from, to)| [from, to])).any(is);
        uses
    }
}

/// A copy of equal runs from one buffer of the arena to another.
struct Part {
    at: usize,
    runs: Runs,
    from: Operand,
    to: Operand,
    /// Bytes of an element.
    element: usize,
}

impl Part {
    fn of(plan: &Plan, at: usize) -> Option<Part> {
        let StepOp::Copy { plan: copy } = &plan.steps[at].op else { return None };
        let runs = copy.runs()?;
        let (from, to) = (plan.steps[at].inputs.first()?.clone()?, plan.steps[at].outputs.first()?.clone());
        let element = from.dtype.bytes();
        let whole = |n: usize| n.is_multiple_of(element);
        let sizes = [runs.run, runs.src_offset, runs.src_pitch, runs.dst_offset, runs.dst_pitch];
        let rows_apart = runs.src_pitch >= runs.run && runs.dst_pitch >= runs.run;
        let dense = from.pitch.is_none() && to.pitch.is_none() && from.buffer != to.buffer;
        (sizes.into_iter().all(whole) && rows_apart && dense).then_some(Part { at, runs, from, to, element })
    }

    /// Elements of a run.
    fn cols(&self) -> usize {
        self.runs.run / self.element
    }

    /// Whether the runs at `pitch` lie without gaps.
    fn dense(&self, pitch: usize) -> bool {
        self.runs.rows == 1 || pitch == self.runs.run
    }

    /// Whether `operand` is a buffer's every byte, and the copy moves just those.
    fn covers(&self, plan: &Plan, operand: &Operand, offset: usize, pitch: usize) -> bool {
        let bytes = plan.buffers[operand.buffer as usize].bytes;
        operand.offset == 0
            && offset == 0
            && self.dense(pitch)
            && bytes == self.runs.rows * self.runs.run
            && matches!(plan.buffers[operand.buffer as usize].kind, BufferKind::Arena)
    }

    /// `operand` (all of the copy's elements, or a dense part of them) seen where the copy has them on one side.
    fn seen(&self, operand: &Operand, place: &Operand, offset: usize, pitch: usize, dense: bool) -> Operand {
        let offset = place.offset + offset + operand.offset;
        let (buffer, dtype, quant) = (place.buffer, operand.dtype, operand.quant);
        if dense {
            return Operand { buffer, offset, dtype, quant, dims: operand.dims.clone(), pitch: None };
        }
        let dims = match operand.dims.last() == Some(&self.cols()) {
            true => operand.dims.clone(),
            false => vec![self.runs.rows, self.cols()],
        };
        Operand { buffer, offset, dtype, quant, dims, pitch: Some(pitch / self.element) }
    }

    /// The step that computes the part writes it into the whole.
    fn written_in_place(&self, plan: &Plan) -> Option<Vec<Edit>> {
        let runs = &self.runs;
        if !self.covers(plan, &self.from, runs.src_offset, runs.src_pitch) || self.to.offset != 0 {
            return None;
        }
        let part = Uses::of(plan, self.from.buffer);
        let [(producer, ..)] = part.writers[..] else { return None };
        if part.kept || producer > self.at {
            return None;
        }
        let whole = Uses::of(plan, self.to.buffer);
        let bytes = plan.buffers[self.to.buffer as usize].bytes;
        // The other writers must be other parts: a fill or an update of the whole would come after this part.
        let name = plan.steps[self.at].name;
        let joins = |(step, _, operand): &(usize, Slot, Operand)| {
            let step = &plan.steps[*step];
            let copy = matches!(step.op, StepOp::Copy { .. }) && step.name == name;
            copy || operand.extent() < bytes
        };
        if !matches!(plan.buffers[self.to.buffer as usize].kind, BufferKind::Arena)
            || !whole.writers.iter().all(joins)
        {
            return None;
        }
        let dense = self.dense(runs.dst_pitch);
        let mut edits = Vec::new();
        for (step, slot, operand) in part.writers.iter().chain(&part.readers) {
            if *step == self.at {
                continue;
            }
            let suits = match slot {
                Slot::Output(_) => writes_rows(&plan.steps[*step].op, self.cols()),
                slot => reads_rows(&plan.steps[*step].op, *slot, self.cols()),
            };
            let as_rows = suits && operand.offset == 0 && operand.pitch.is_none();
            if !(dense || as_rows) {
                return None;
            }
            let operand = self.seen(operand, &self.to, runs.dst_offset, runs.dst_pitch, dense);
            edits.push(Edit { step: *step, slot: *slot, operand });
        }
        self.apart(plan, &edits).then_some(edits)
    }

    /// The steps that read the part read it where the whole has it.
    fn read_in_place(&self, plan: &Plan) -> Option<Vec<Edit>> {
        let runs = &self.runs;
        if !self.covers(plan, &self.to, runs.dst_offset, runs.dst_pitch) {
            return None;
        }
        let part = Uses::of(plan, self.to.buffer);
        let whole = Uses::of(plan, self.from.buffer);
        let in_arena =
            matches!(plan.buffers[self.from.buffer as usize].kind, BufferKind::Arena | BufferKind::Input(_));
        let complete = whole.writers.iter().all(|(step, ..)| *step < self.at);
        if !in_arena || !complete || part.kept || part.writers.len() != 1 {
            return None;
        }
        let dense = self.dense(runs.src_pitch);
        let mut edits = Vec::new();
        for (step, slot, operand) in &part.readers {
            let suits = reads_rows(&plan.steps[*step].op, *slot, self.cols());
            let as_rows = suits && operand.offset == 0 && operand.pitch.is_none();
            if !(dense || as_rows) {
                return None;
            }
            let operand = self.seen(operand, &self.from, runs.src_offset, runs.src_pitch, dense);
            edits.push(Edit { step: *step, slot: *slot, operand });
        }
        self.apart(plan, &edits).then_some(edits)
    }

    /// Whether no step would read and write overlapping spans of one buffer. Rows of two parts lie between one
    /// another, so such a step is refused although they share no element.
    fn apart(&self, plan: &Plan, edits: &[Edit]) -> bool {
        edits.iter().all(|edit| {
            let step = &plan.steps[edit.step];
            let now = |slot: Slot, operand: &Operand| {
                let edited = edits.iter().find(|e| e.step == edit.step && e.slot == slot);
                span(edited.map_or(operand, |e| &e.operand))
            };
            let inputs = step.inputs.iter().enumerate();
            let reads: Vec<_> = inputs.filter_map(|(i, o)| Some(now(Slot::Input(i), o.as_ref()?))).collect();
            let matrices = step.weights.iter().enumerate().filter_map(|(i, m)| match m {
                Matrix::Panels(o) => Some(now(Slot::Panels(i), o)),
                Matrix::Tensor(_) | Matrix::Factor(..) => None,
            });
            let reads: Vec<_> = reads.into_iter().chain(matrices).collect();
            let writes = step.outputs.iter().enumerate().map(|(i, o)| now(Slot::Output(i), o));
            writes.into_iter().all(|w| reads.iter().all(|r| !overlap(&w, r)))
        })
    }
}

fn span(operand: &Operand) -> (BufferId, Range<usize>) {
    (operand.buffer, operand.offset..operand.offset + operand.extent())
}

fn overlap(a: &(BufferId, Range<usize>), b: &(BufferId, Range<usize>)) -> bool {
    a.0 == b.0 && a.1.start < b.1.end && b.1.start < a.1.end
}

/// Whether an operation writes its result as rows of `cols` elements, however far apart.
fn writes_rows(op: &StepOp, cols: usize) -> bool {
    match op {
        StepOp::Gemm { n, .. } => *n == cols,
        StepOp::Conv { geometry, .. }
        | StepOp::Winograd { geometry, .. }
        | StepOp::Depthwise { geometry, .. } => geometry.oc == cols,
        _ => false,
    }
}

/// Whether an operation reads this operand as rows of `cols` elements, however far apart.
fn reads_rows(op: &StepOp, slot: Slot, cols: usize) -> bool {
    match op {
        _ if slot != Slot::Input(0) => false,
        StepOp::Gemm { k, .. } => *k == cols,
        StepOp::Conv { geometry, .. } | StepOp::Winograd { geometry, .. } => geometry.ic == cols,
        _ => false,
    }
}
