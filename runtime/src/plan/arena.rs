//! Which steps are needed, how long each buffer lives, where it lies.

use super::offsets::{self, Block};
use super::step::{Matrix, Step, StepOp};
use super::{Buffer, BufferId, BufferKind, BufferPlace, Operand, Plan};

/// Buffers start at multiples of a cache line, which also suits every vector load.
pub(super) const ALIGN: usize = 64;

/// Attempts at a plan in bands, each aiming lower by what the one before was too large.
const CUTS: usize = 4;

/// Drops steps that nobody needs, reuses operands in place, and gives every buffer its place.
pub(super) fn place(plan: &mut Plan, keep_values: bool) {
    if !keep_values {
        drop_unused(plan);
        super::join::join(plan);
        reuse_in_place(plan);
    }
    lay_out(plan, keep_values);
}

/// The plan with pictures cut into bands until at most `live` bytes of them live at once, or as few as can be; whether that was reached.
fn cut_to(whole: &Plan, live: usize) -> (Plan, bool) {
    let mut cut = whole.clone();
    let reached = super::bands::cut(&mut cut, live);
    lay_out(&mut cut, false);
    (cut, reached)
}

/// The plan with pictures cut until about `bytes` of them live at once, if that takes less memory: gaps between them do not matter.
pub(super) fn local(whole: Plan, bytes: usize) -> Plan {
    if !whole.values.is_empty() || has_loops(&whole) {
        return whole;
    }
    let (cut, _) = cut_to(&whole, bytes);
    if cut.memory() + cut.own_bytes() < whole.memory() + whole.own_bytes() { cut } else { whole }
}

/// The plan with pictures cut into bands until it takes at most `room` bytes, or as little as it can.
pub(super) fn cut(whole: Plan, room: u64) -> Plan {
    let takes = |plan: &Plan| plan.memory() + plan.own_bytes();
    let room = usize::try_from(room).unwrap_or(usize::MAX);
    // Whoever wants every value wants it whole. Bands move steps about, over the ends of a loop.
    if takes(&whole) <= room || !whole.values.is_empty() || has_loops(&whole) {
        return whole;
    }
    let cut = |live: usize| cut_to(&whole, live);
    // What is not the arena is there anyway.
    let mut live = room.saturating_sub(takes(&whole) - whole.arena_bytes);
    let mut least: Option<(usize, usize)> = None;
    for left in (0..CUTS).rev() {
        let (cut, reached) = cut(live);
        let (taken, over) = (takes(&cut), takes(&cut).saturating_sub(room));
        // One plan at a time: a cut one is large itself, and the heap counts.
        let best = least.is_none_or(|(bytes, _)| taken < bytes);
        if best {
            least = Some((taken, live));
        }
        if over == 0 || !reached || live == 0 {
            if best && taken < takes(&whole) {
                return cut;
            }
            break;
        }
        // What lives at once does not always fit together without gaps: then less must live. As little as can be, in the end.
        live = if left > 1 { live.saturating_sub(over) } else { 0 };
    }
    match least {
        Some((bytes, live)) if bytes < takes(&whole) => cut(live).0,
        _ => whole,
    }
}

/// Gives every buffer its place.
fn lay_out(plan: &mut Plan, keep_values: bool) {
    link(plan);
    let spans = spans(plan, keep_values);
    place_known(plan, &spans);
    plan.live_bytes = most_live(plan, &spans);
    plan.arena_bytes = place_arena(plan, &spans);
}

/// The loops of a plan, inner ones first: the step that enters each, and the one that ends its turns.
fn loops(plan: &Plan) -> Vec<(usize, usize)> {
    let (mut open, mut loops) = (Vec::new(), Vec::new());
    for (i, step) in plan.steps.iter().enumerate() {
        match step.op {
            StepOp::Enter { .. } => open.push(i),
            StepOp::Turn { .. } => loops.extend(open.pop().map(|enter| (enter, i))),
            _ => {}
        }
    }
    loops
}

fn has_loops(plan: &Plan) -> bool {
    plan.steps.iter().any(|step| step.op.is_of_a_loop())
}

/// Tells each loop where its steps begin and where they end.
fn link(plan: &mut Plan) {
    for (enter, turn) in loops(plan) {
        plan.steps[enter].op = StepOp::Enter { past: turn + 1 };
        plan.steps[turn].op = StepOp::Turn { back: enter + 1 };
    }
}

/// The buffers that a step reads.
pub(super) fn reads(step: &Step) -> impl Iterator<Item = BufferId> {
    let matrices = step.weights.iter().filter_map(|m| match m {
        Matrix::Panels(operand) => Some(operand.buffer),
        Matrix::Tensor(_) | Matrix::Factor(..) => None,
    });
    step.inputs.iter().flatten().map(|o| o.buffer).chain(matrices)
}

/// Steps whose results reach an output, in order.
fn drop_unused(plan: &mut Plan) {
    let mut needed = vec![false; plan.buffers.len()];
    for operand in plan.outputs.iter().chain(plan.states.iter().map(|(from, _)| from)) {
        needed[operand.buffer as usize] = true;
    }
    let mut keep = vec![false; plan.steps.len()];
    // What a turn of a loop carries on is read by steps before it, in the next one: again, until nothing is new.
    let again = has_loops(plan);
    loop {
        let before = keep.iter().filter(|keep| **keep).count();
        for (i, step) in plan.steps.iter().enumerate().rev() {
            if keep[i] {
                continue;
            }
            if step.op.is_of_a_loop() || step.outputs.iter().any(|o| needed[o.buffer as usize]) {
                keep[i] = true;
                reads(step).for_each(|b| needed[b as usize] = true);
                // A turn counts on from what the one before has left there.
                if step.op.is_of_a_loop() {
                    step.outputs.iter().for_each(|o| needed[o.buffer as usize] = true);
                }
            }
        }
        if !again || keep.iter().filter(|keep| **keep).count() == before {
            break;
        }
    }
    let mut keep = keep.into_iter();
    plan.steps.retain(|_| keep.next().unwrap_or(false));
}

/// The first and the last step at which a buffer's bytes matter; `None` for a buffer that no step uses.
type Span = Option<(usize, usize)>;

fn spans(plan: &Plan, keep_values: bool) -> Vec<Span> {
    let end = plan.steps.len();
    let mut spans: Vec<Span> = vec![None; plan.buffers.len()];
    let mut touch = |buffer: BufferId, at: usize| {
        let span = &mut spans[buffer as usize];
        *span = Some(span.map_or((at, at), |(first, last)| (first.min(at), last.max(at))));
    };
    for (i, step) in plan.steps.iter().enumerate() {
        reads(step).for_each(|b| touch(b, i));
        step.outputs.iter().for_each(|o| touch(o.buffer, i));
        // What only the first run makes is there in all others.
        for operand in step.outputs.iter().filter(|_| step.once) {
            touch(operand.buffer, 0);
            touch(operand.buffer, end);
        }
        step.scratch.iter().for_each(|o| touch(o.buffer, i));
    }
    for operand in &plan.outputs {
        touch(operand.buffer, end);
    }
    // An input is there before the first step; state stays from one run to the next.
    for operand in plan.inputs.iter().flatten() {
        touch(operand.buffer, 0);
    }
    for (id, _) in plan.buffers.iter().enumerate().filter(|(_, b)| matches!(b.kind, BufferKind::Kept)) {
        touch(id as BufferId, 0);
        touch(id as BufferId, end);
    }
    for (from, to) in &plan.states {
        touch(from.buffer, end);
        touch(to.buffer, 0);
        touch(to.buffer, end);
    }
    if keep_values {
        for (_, operand) in &plan.values {
            touch(operand.buffer, end);
        }
    }
    // What was there before a loop and is read inside is read in its last turn too.
    for (enter, turn) in loops(plan) {
        for (first, last) in spans.iter_mut().flatten() {
            if *first < enter && (enter..turn).contains(last) {
                *last = turn;
            }
        }
    }
    spans
}

/// An elementwise step writes over its operand when nobody reads that afterwards.
fn reuse_in_place(plan: &mut Plan) {
    let spans = spans(plan, false);
    let whole =
        |buffers: &[Buffer], o: &Operand| o.offset == 0 && buffers[o.buffer as usize].bytes == o.bytes();
    let mut renamed: Vec<BufferId> = (0..plan.buffers.len() as BufferId).collect();
    let mut last: Vec<usize> = spans.iter().map(|s| s.map_or(0, |(_, last)| last)).collect();
    for i in 0..plan.steps.len() {
        let step = &plan.steps[i];
        let Some(operand) = candidate(step).and_then(|at| step.inputs.get(at)?.as_ref()) else { continue };
        let [result] = &step.outputs[..] else { continue };
        let from = renamed[operand.buffer as usize];
        let arena = |b: BufferId| matches!(plan.buffers[b as usize].kind, BufferKind::Arena);
        let others = step.inputs.iter().flatten().filter(|o| renamed[o.buffer as usize] == from).count();
        if arena(from)
            && arena(result.buffer)
            && renamed[result.buffer as usize] == result.buffer
            && last[from as usize] == i
            && others == 1
            && operand.bytes() == result.bytes()
            && operand.elements() == result.elements()
            && whole(&plan.buffers, operand)
            && whole(&plan.buffers, result)
        {
            renamed[result.buffer as usize] = from;
            last[from as usize] = last[result.buffer as usize];
        }
    }
    let rename = |o: &mut Operand| o.buffer = renamed[o.buffer as usize];
    for step in &mut plan.steps {
        step.inputs.iter_mut().flatten().for_each(rename);
        step.outputs.iter_mut().for_each(rename);
        for m in &mut step.weights {
            if let Matrix::Panels(operand) = m {
                rename(operand);
            }
        }
    }
    plan.outputs.iter_mut().for_each(rename);
    plan.states.iter_mut().for_each(|(from, to)| {
        rename(from);
        rename(to);
    });
    plan.values.clear();
}

/// The operand that a step may write over: its kernel reads each element before it writes it.
fn candidate(step: &Step) -> Option<usize> {
    match step.op {
        StepOp::Unary(_) | StepOp::Table(_) | StepOp::Rotary { .. } => Some(0),
        StepOp::Binary { op, .. } if op.is_arithmetic() && step.outputs[0].quant.is_none() => Some(0),
        _ => None,
    }
}

fn place_known(plan: &mut Plan, spans: &[Span]) {
    let mut at = 0usize;
    for (buffer, span) in plan.buffers.iter_mut().zip(spans) {
        if span.is_none() {
            continue;
        }
        match buffer.kind {
            BufferKind::Known(_) => {
                buffer.place = BufferPlace::Known(at);
                at += buffer.bytes.next_multiple_of(ALIGN);
            }
            BufferKind::Constant(_) => buffer.place = BufferPlace::Pack,
            BufferKind::Arena | BufferKind::Input(_) | BufferKind::Kept => {}
        }
    }
    plan.known_bytes = at;
}

fn in_arena(buffer: &Buffer) -> bool {
    matches!(buffer.kind, BufferKind::Arena | BufferKind::Input(_) | BufferKind::Kept)
}

/// Most bytes of the arena in use at one step, before anything has its place.
pub(super) fn live(plan: &Plan) -> usize {
    most_live(plan, &spans(plan, false))
}

/// Bytes of the arena in use at each step.
pub(super) fn live_at_steps(plan: &Plan) -> Vec<usize> {
    let mut live = live_at(plan, &spans(plan, !plan.values.is_empty()));
    live.truncate(plan.steps.len());
    live
}

fn most_live(plan: &Plan, spans: &[Span]) -> usize {
    live_at(plan, spans).into_iter().max().unwrap_or(0)
}

fn live_at(plan: &Plan, spans: &[Span]) -> Vec<usize> {
    let mut change = vec![0isize; plan.steps.len() + 2];
    for (buffer, span) in plan.buffers.iter().zip(spans) {
        if let (true, Some((first, last))) = (in_arena(buffer), span) {
            let bytes = buffer.bytes.next_multiple_of(ALIGN) as isize;
            change[*first] += bytes;
            change[last + 1] -= bytes;
        }
    }
    let mut live = 0;
    let sums = change.iter().map(|c| {
        live += c;
        live as usize
    });
    sums.collect()
}

/// Gives every buffer of the arena its offset; the arena's size. What is kept comes first, in the graph's order.
fn place_arena(plan: &mut Plan, spans: &[Span]) -> usize {
    plan.kept_bytes = 0;
    for buffer in plan.buffers.iter_mut().filter(|b| matches!(b.kind, BufferKind::Kept)) {
        buffer.place = BufferPlace::Arena(plan.kept_bytes);
        plan.kept_bytes += buffer.bytes.next_multiple_of(ALIGN);
    }
    let others = |b: &Buffer| in_arena(b) && !matches!(b.kind, BufferKind::Kept);
    let ids: Vec<usize> =
        (0..plan.buffers.len()).filter(|i| others(&plan.buffers[*i]) && spans[*i].is_some()).collect();
    let block = |i: &usize| {
        let (first, last) = spans[*i]?;
        Some(Block { bytes: plan.buffers[*i].bytes.next_multiple_of(ALIGN), first, last })
    };
    let blocks: Vec<Block> = ids.iter().filter_map(block).collect();
    let layout = offsets::place(&blocks, plan.live_bytes - plan.kept_bytes);
    for (i, at) in ids.into_iter().zip(layout.offsets) {
        plan.buffers[i].place = BufferPlace::Arena(plan.kept_bytes + at);
    }
    plan.kept_bytes + layout.total
}
