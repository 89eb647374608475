//! Which steps run band by band together, and what that takes.

use super::schedule::Schedule;
use super::{Line, panels};
use crate::plan::arena::{self, ALIGN};
use crate::plan::rows::{ByRows, Makes};
use crate::plan::{BufferId, BufferKind, Plan, STEP_BYTES};
use crate::sort;
use std::cell::RefCell;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::rc::Rc;

/// Numbers of bands that are tried.
const COUNTS: [usize; 12] = [2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96];
/// A step may be computed twice when that is at most this share of all multiply-adds.
const TWICE: u64 = 16;
/// What is less than this share of the peak is not worth cutting.
const SMALL: usize = 64;
/// Exponent of the norm that peaks are compared by.
const STEEPNESS: i32 = 64;

/// A line that touches a buffer.
#[derive(Clone, Copy)]
struct Access {
    line: usize,
    writes: bool,
}

/// What the planner knows of a buffer.
#[derive(Clone, Copy)]
struct Holds {
    bytes: usize,
    /// Takes room in the arena.
    in_arena: bool,
    /// Made by steps and seen by nobody else.
    own: bool,
    /// There before the first step.
    given: bool,
    /// There after the last.
    kept: bool,
}

/// Steps in order, and what follows from that.
#[derive(Clone)]
struct Sequence {
    lines: Vec<Rc<Line>>,
    buffers: Vec<Holds>,
    /// For each buffer, the lines that touch it, in order.
    accesses: Vec<Vec<Access>>,
    /// Pairs of lines of which the first must come before the second, by the first.
    dependencies: Vec<(usize, usize)>,
    /// Multiply-adds of the whole plan.
    work: u64,
    /// Bytes that the plan takes whole.
    scale: f64,
}

/// Steps in order, some of them in groups.
#[derive(Clone)]
pub(super) struct Grouping {
    sequence: Rc<Sequence>,
    /// Lines with the same label are a group.
    labels: Vec<usize>,
    /// For each buffer, whether it exists band by band.
    streamed: Vec<bool>,
    /// Groups that were weighed before, in this grouping or another.
    known: Rc<RefCell<Vec<Known>>>,
}

/// A group and how it is best cut.
struct Known {
    lines: Vec<Rc<Line>>,
    /// For each line, whether its result exists band by band.
    streamed: Vec<bool>,
    /// Its bands and bytes, when it can be cut.
    best: Option<(usize, usize)>,
}

/// One or more steps that run together.
#[derive(Clone)]
pub(super) struct Unit {
    /// Their lines, in order.
    pub lines: Vec<usize>,
    /// Bands that they are cut into; 0 for a single whole step.
    pub bands: usize,
    /// Bytes of what lives in the unit alone.
    bytes: usize,
}

impl Unit {
    /// Steps that cutting it adds.
    fn added(&self) -> usize {
        self.lines.len() * self.bands.saturating_sub(1)
    }
}

/// What a grouping takes.
#[derive(Clone)]
pub(super) struct Weight {
    /// Most bytes that live at once, and those of the plan's additional steps.
    pub peak: usize,
    /// All peaks in one number, the highest above all: lowering one of several equal ones counts.
    pub norm: f64,
    /// The larger of the buffers that live at the peak.
    pub live_at_peak: Vec<BufferId>,
    pub units: Vec<Unit>,
}

impl Sequence {
    fn of(plan: &Plan) -> Sequence {
        let mut lines = Vec::with_capacity(plan.steps.len());
        for step in &plan.steps {
            lines.push(Rc::new(Line { step: step.clone(), by: ByRows::of(step, &plan.buffers) }));
        }
        let mut buffers = Vec::with_capacity(plan.buffers.len());
        for buffer in &plan.buffers {
            let own = matches!(buffer.kind, BufferKind::Arena);
            let in_arena = own || matches!(buffer.kind, BufferKind::Input(_));
            buffers.push(Holds { bytes: buffer.bytes, in_arena, own, given: false, kept: false });
        }
        for operand in plan.inputs.iter().flatten().chain(plan.states.iter().map(|(_, to)| to)) {
            buffers[operand.buffer as usize].given = true;
        }
        for operand in plan.outputs.iter().chain(plan.states.iter().flat_map(|(from, to)| [from, to])) {
            buffers[operand.buffer as usize].kept = true;
        }
        for operand in plan.steps.iter().filter(|s| s.once).flat_map(|s| &s.outputs) {
            let holds = &mut buffers[operand.buffer as usize];
            (holds.given, holds.kept) = (true, true);
        }
        let work = plan.steps.iter().map(|s| s.work().multiply_adds).sum();
        let scale = arena::live(plan).max(1) as f64;
        let (accesses, dependencies) = (Vec::new(), Vec::new());
        Sequence { lines, buffers, accesses, dependencies, work, scale }.connected()
    }

    /// The same with what follows from its lines worked out.
    fn connected(mut self) -> Sequence {
        let mut all = vec![Vec::new(); self.buffers.len()];
        for (line, Line { step, .. }) in self.lines.iter().map(Rc::as_ref).enumerate() {
            let mut add = |buffer: BufferId, writes: bool| {
                let of: &mut Vec<Access> = &mut all[buffer as usize];
                match of.last_mut() {
                    Some(last) if last.line == line => last.writes |= writes,
                    _ => of.push(Access { line, writes }),
                }
            };
            arena::reads(step).for_each(|b| add(b, false));
            step.outputs.iter().for_each(|o| add(o.buffer, true));
        }
        let mut pairs = Vec::new();
        for of in &all {
            for (i, later) in of.iter().enumerate() {
                for earlier in &of[..i] {
                    if earlier.writes || later.writes {
                        pairs.push((earlier.line, later.line));
                    }
                }
            }
        }
        sort::ascending(&mut pairs);
        pairs.dedup();
        (self.accesses, self.dependencies) = (all, pairs);
        self
    }

    fn add_buffer(&mut self, bytes: usize) -> BufferId {
        self.buffers.push(Holds { bytes, in_arena: true, own: true, given: false, kept: false });
        (self.buffers.len() - 1) as BufferId
    }
}

impl Grouping {
    pub fn new(plan: &Plan) -> Grouping {
        Grouping {
            labels: (0..plan.steps.len()).collect(),
            streamed: vec![false; plan.buffers.len()],
            sequence: Rc::new(Sequence::of(plan)),
            known: Rc::default(),
        }
    }

    pub fn line(&self, line: usize) -> &Rc<Line> {
        &self.sequence.lines[line]
    }

    /// Sizes of the buffers, the plan's first.
    pub fn sizes(&self) -> impl Iterator<Item = usize> {
        self.sequence.buffers.iter().map(|b| b.bytes)
    }

    /// The groups in an order that suits all dependencies, each as early as the first of its lines allows. `None` when there is
    /// none.
    fn ordered(&self) -> Option<Vec<Vec<usize>>> {
        let count = self.labels.len();
        // A unit has the number of its first line.
        let mut unit_of_label = vec![usize::MAX; self.labels.iter().max()? + 1];
        let mut units: Vec<Vec<usize>> = vec![Vec::new(); count];
        let mut unit_of = Vec::with_capacity(count);
        for (line, label) in self.labels.iter().enumerate() {
            unit_of_label[*label] = unit_of_label[*label].min(line);
            unit_of.push(unit_of_label[*label]);
            units[unit_of[line]].push(line);
        }
        let mut after: Vec<Vec<usize>> = vec![Vec::new(); count];
        let mut waits = vec![0usize; count];
        for (from, to) in &self.sequence.dependencies {
            let (from, to) = (unit_of[*from], unit_of[*to]);
            if from != to {
                after[from].push(to);
                waits[to] += 1;
            }
        }
        let mut ready = BinaryHeap::new();
        ready.extend((0..count).filter(|u| waits[*u] == 0 && !units[*u].is_empty()).map(Reverse));
        let mut order = Vec::with_capacity(count);
        while let Some(Reverse(unit)) = ready.pop() {
            for next in &after[unit] {
                waits[*next] -= 1;
                if waits[*next] == 0 {
                    ready.push(Reverse(*next));
                }
            }
            order.push(std::mem::take(&mut units[unit]));
        }
        units.iter().all(Vec::is_empty).then_some(order)
    }

    /// How the group of some lines is cut into so many bands.
    pub fn schedule(&self, lines: &[usize], bands: usize) -> Option<Schedule> {
        let group: Vec<&Line> = lines.iter().map(|i| self.line(*i).as_ref()).collect();
        Schedule::new(&group, &self.streamed, bands)
    }

    /// A group in so many bands.
    fn unit(&self, lines: &[usize], bands: usize) -> Option<Unit> {
        let group: Vec<&Line> = lines.iter().map(|i| self.line(*i).as_ref()).collect();
        let bytes = Schedule::new(&group, &self.streamed, bands)?.bytes(&group);
        Some(Unit { lines: lines.to_vec(), bands, bytes })
    }

    /// The group in as many bands as take least memory.
    fn least(&self, lines: &[usize]) -> Option<Unit> {
        let same_line = |(i, line): (&usize, &Rc<Line>)| Rc::ptr_eq(self.line(*i), line);
        let streamed = |i: &usize| self.streamed[self.line(*i).step.outputs[0].buffer as usize];
        let is_known = |known: &&Known| {
            known.lines.len() == lines.len()
                && lines.iter().zip(&known.lines).all(same_line)
                && lines.iter().map(streamed).eq(known.streamed.iter().copied())
        };
        let found = self.known.borrow().iter().rev().find(is_known).map(|known| known.best);
        let best = found.unwrap_or_else(|| {
            let best = self.search(lines).map(|unit| (unit.bands, unit.bytes));
            self.known.borrow_mut().push(Known {
                lines: lines.iter().map(|i| self.line(*i).clone()).collect(),
                streamed: lines.iter().map(streamed).collect(),
                best,
            });
            best
        });
        best.map(|(bands, bytes)| Unit { lines: lines.to_vec(), bands, bytes })
    }

    fn search(&self, lines: &[usize]) -> Option<Unit> {
        let tallest = lines.iter().map(|i| self.line(*i).by.as_ref().map_or(0, |by| by.height)).max()?;
        let mut least: Option<Unit> = None;
        let cost = |unit: &Unit| unit.bytes + unit.added() * STEP_BYTES;
        for count in COUNTS.into_iter().take_while(|n| *n <= tallest) {
            let unit = self.unit(lines, count)?;
            if least.as_ref().is_none_or(|least| cost(&unit) < cost(least)) {
                least = Some(unit);
            }
        }
        least
    }

    /// What the grouping takes; `None` for one that cannot be.
    pub fn weigh(&self) -> Option<Weight> {
        let mut units = Vec::new();
        for lines in self.ordered()? {
            let step = &self.line(lines[0]).step;
            let banded = lines.len() > 1 || step.outputs.iter().any(|o| self.streamed[o.buffer as usize]);
            units.push(if banded {
                self.least(&lines)?
            } else {
                let bytes = step.scratch.map_or(0, |s| s.bytes);
                Unit { lines, bands: 0, bytes }
            });
        }
        Some(self.weigh_units(units))
    }

    fn weigh_units(&self, units: Vec<Unit>) -> Weight {
        let end = units.len();
        // First and last unit in which a buffer lives.
        let mut spans = vec![(usize::MAX, 0); self.sequence.buffers.len()];
        let mut touch = |buffer: usize, at: usize| {
            let span: &mut (usize, usize) = &mut spans[buffer];
            *span = (span.0.min(at), span.1.max(at));
        };
        for (buffer, holds) in self.sequence.buffers.iter().enumerate() {
            if holds.given {
                touch(buffer, 0);
            }
            if holds.kept {
                touch(buffer, end);
            }
        }
        for (at, unit) in units.iter().enumerate() {
            for step in unit.lines.iter().map(|i| &self.line(*i).step) {
                arena::reads(step).for_each(|b| touch(b as usize, at));
                step.outputs.iter().for_each(|o| touch(o.buffer as usize, at));
            }
        }
        let mut live: Vec<usize> = units.iter().map(|u| u.bytes).collect();
        live.push(0);
        let lives = |buffer: usize, span: (usize, usize)| {
            self.sequence.buffers[buffer].in_arena && !self.streamed[buffer] && span.0 <= span.1
        };
        for (buffer, span) in spans.iter().enumerate().filter(|(b, span)| lives(*b, **span)) {
            let bytes = self.sequence.buffers[buffer].bytes.next_multiple_of(ALIGN);
            live[span.0..=span.1].iter_mut().for_each(|l| *l += bytes);
        }
        let peak = live.iter().copied().max().unwrap_or(0);
        let at_peak = live.iter().position(|l| *l == peak).unwrap_or(0);
        let mut live_at_peak = Vec::new();
        for (buffer, span) in spans.iter().enumerate().filter(|(b, span)| lives(*b, **span)) {
            let large = self.sequence.buffers[buffer].bytes >= peak / SMALL;
            if large && span.0 <= at_peak && at_peak <= span.1 {
                live_at_peak.push(buffer as BufferId);
            }
        }
        let added = units.iter().map(Unit::added).sum::<usize>() * STEP_BYTES;
        let norm = live.iter().map(|l| ((l + added) as f64 / self.sequence.scale).powi(STEEPNESS)).sum();
        Weight { peak: peak + added, norm, live_at_peak, units }
    }

    /// The same with `buffer` existing band by band: all steps that touch it are a group, with those between them.
    /// `None` where that cannot be.
    pub fn stream(&self, buffer: BufferId) -> Option<Grouping> {
        let of = &self.sequence.accesses[buffer as usize];
        if !self.streamable(buffer as usize) {
            return None;
        }
        let group: Vec<usize> = of.iter().map(|a| a.line).collect();
        if let Some(grouping) = self.together(&group, buffer) {
            return Some(grouping);
        }
        // Who reads it first may have to see all of it before the others can go on: they get it computed once more.
        let (first, rest) = of.split_first()?;
        let writer = &self.line(first.line).step;
        let plain = first.writes && arena::reads(writer).all(|b| b != buffer);
        if !plain || writer.work().multiply_adds * TWICE > self.sequence.work {
            return None;
        }
        let readers = rest.iter().take_while(|a| !a.writes).count();
        (1..=readers.min(rest.len().saturating_sub(1)))
            .find_map(|early| self.computed_twice(buffer, &group, early))
    }

    /// The same with what the first of the lines `group` writes computed once more: the `early` lines after it read a buffer of
    /// their own.
    fn computed_twice(&self, buffer: BufferId, group: &[usize], early: usize) -> Option<Grouping> {
        let (early, late) = group.split_at(1 + early);
        let (writer, again) = (*early.first()?, *late.first()?);
        // The operands must be there as a whole, and still be what they were.
        let operands: Vec<BufferId> = arena::reads(&self.line(writer).step).collect();
        let changed = |line: usize| self.line(line).step.outputs.iter().any(|o| operands.contains(&o.buffer));
        if operands.iter().any(|b| self.streamed[*b as usize]) || (writer..again).any(changed) {
            return None;
        }
        let mut sequence = Sequence::clone(&self.sequence);
        let own = sequence.add_buffer(sequence.buffers[buffer as usize].bytes);
        for i in early {
            let step = &mut Rc::make_mut(&mut sequence.lines[*i]).step;
            if panels(step).any(|b| b == buffer) {
                return None;
            }
            for operand in step.inputs.iter_mut().flatten().chain(&mut step.outputs) {
                if operand.buffer == buffer {
                    operand.buffer = own;
                }
            }
        }
        let mut twin = self.line(writer).clone();
        if let Some(scratch) = &mut Rc::make_mut(&mut twin).step.scratch {
            scratch.buffer = sequence.add_buffer(scratch.bytes);
        }
        sequence.lines.insert(again, twin);
        let mut grouping = self.clone();
        grouping.labels.insert(again, self.labels.iter().max()? + 1);
        grouping.streamed.resize(sequence.buffers.len(), false);
        grouping.sequence = Rc::new(sequence.connected());
        let mut moved = vec![again];
        moved.extend(late.iter().map(|line| line + 1));
        grouping.together(&moved, buffer)?.together(early, own)
    }

    /// Whether a buffer may exist band by band: nobody outside the steps sees it, and all of them can be cut.
    fn streamable(&self, buffer: usize) -> bool {
        let (holds, accesses) = (self.sequence.buffers[buffer], &self.sequence.accesses[buffer]);
        let cut =
            |a: &Access| self.line(a.line).by.as_ref().is_some_and(|by| by.makes == Makes::Rows || !a.writes);
        holds.own && !holds.given && !holds.kept && accesses.len() > 1 && accesses.iter().all(cut)
    }

    /// The same with these lines, and all between them, one group, and `buffer` band by band.
    fn together(&self, lines: &[usize], buffer: BufferId) -> Option<Grouping> {
        let inside = self.between(lines);
        let group: Vec<usize> = (0..inside.len()).filter(|i| inside[*i]).collect();
        let label = self.labels[*group.first()?];
        let mut grouping = self.clone();
        for line in &group {
            self.line(*line).by.as_ref()?;
            grouping.labels[*line] = label;
        }
        grouping.streamed[buffer as usize] = true;
        // What only the group sees need not exist as a whole.
        for line in &group {
            for result in &self.line(*line).step.outputs {
                let other = result.buffer as usize;
                if self.sequence.accesses[other].iter().all(|a| inside[a.line]) && self.streamable(other) {
                    grouping.streamed[other] = true;
                }
            }
        }
        grouping.unit(&group, COUNTS[0])?;
        Some(grouping)
    }

    /// Whether each line is one of `lines`, or in a group with one, or on a way from one to another.
    fn between(&self, lines: &[usize]) -> Vec<bool> {
        let mut inside = vec![false; self.labels.len()];
        let mut labels = vec![false; self.labels.iter().max().map_or(0, |most| most + 1)];
        lines.iter().for_each(|line| labels[self.labels[*line]] = true);
        loop {
            for (inside, label) in inside.iter_mut().zip(&self.labels) {
                *inside |= labels[*label];
            }
            // Every dependency goes forward, and they are sorted by where they begin.
            let (mut after, mut before) = (inside.clone(), inside.clone());
            for (from, to) in &self.sequence.dependencies {
                after[*to] |= after[*from];
            }
            for (from, to) in self.sequence.dependencies.iter().rev() {
                before[*from] |= before[*to];
            }
            let mut grown = false;
            for (line, label) in self.labels.iter().enumerate() {
                if after[line] && before[line] && !labels[*label] {
                    labels[*label] = true;
                    grown = true;
                }
            }
            if !grown {
                return inside;
            }
        }
    }

    /// Takes fewer bands where that stays within the limit, or takes no more than now: each costs time.
    pub fn widen(&self, weight: &mut Weight, limit: usize) {
        let most = weight.peak.max(limit);
        for u in 0..weight.units.len() {
            let now = weight.units[u].bands;
            for count in COUNTS.into_iter().take_while(|n| *n < now) {
                let Some(unit) = self.unit(&weight.units[u].lines, count) else { continue };
                let mut units = weight.units.clone();
                units[u] = unit;
                let wider = self.weigh_units(units);
                if wider.peak <= most {
                    *weight = wider;
                    break;
                }
            }
        }
    }
}
