//! Which steps run band by band together, and what that takes.

use super::schedule::Schedule;
use super::{Line, panels};
use crate::plan::arena::{self, ALIGN};
use crate::plan::rows::{ByRows, Makes};
use crate::plan::{Buffer, BufferId, BufferKind, Plan, STEP_BYTES};
use std::rc::Rc;

/// Numbers of bands that are tried.
const COUNTS: [usize; 12] = [2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96];
/// A step may be computed twice when that is at most this share of all multiply-adds.
const TWICE: u64 = 16;
/// Exponent of the norm that peaks are compared by.
const STEEPNESS: i32 = 64;

/// A line that touches a buffer.
#[derive(Clone, Copy)]
struct Access {
    line: usize,
    writes: bool,
}

/// What the plan says of a buffer.
#[derive(Clone, Copy, Default)]
struct Port {
    /// There before the first step.
    given: bool,
    /// There after the last.
    kept: bool,
}

/// Steps in order, some of them in groups.
#[derive(Clone)]
pub(super) struct Grouping {
    pub lines: Vec<Rc<Line>>,
    pub buffers: Vec<Buffer>,
    /// Lines with the same label are a group.
    labels: Vec<usize>,
    /// For each buffer, whether it exists band by band.
    pub streamed: Vec<bool>,
    ports: Vec<Port>,
    /// Multiply-adds of the whole plan.
    work: u64,
    /// Bytes that the plan takes whole.
    scale: f64,
}

/// One or more steps that run together.
#[derive(Clone)]
pub(super) struct Unit {
    /// Their lines, in order.
    pub lines: Vec<usize>,
    /// How they are cut; `None` for a single whole step.
    pub schedule: Option<Rc<Schedule>>,
    /// Bytes of what lives in the unit alone.
    bytes: usize,
}

impl Unit {
    /// Steps that cutting it adds.
    fn added(&self) -> usize {
        self.schedule.as_ref().map_or(0, |s| self.lines.len() * (s.bands() - 1))
    }
}

/// What a grouping takes.
#[derive(Clone)]
pub(super) struct Weight {
    /// Most bytes that live at once, and those of the plan's additional steps.
    pub peak: usize,
    /// All peaks in one number, the highest above all: lowering one of several equal ones counts.
    pub norm: f64,
    /// Buffers that live at the peak.
    pub live_at_peak: Vec<BufferId>,
    pub units: Vec<Unit>,
}

impl Grouping {
    pub fn new(plan: &Plan) -> Grouping {
        let mut ports = vec![Port::default(); plan.buffers.len()];
        for operand in plan.inputs.iter().flatten() {
            ports[operand.buffer as usize].given = true;
        }
        for operand in &plan.outputs {
            ports[operand.buffer as usize].kept = true;
        }
        for (from, to) in &plan.states {
            ports[from.buffer as usize].kept = true;
            ports[to.buffer as usize] = Port { given: true, kept: true };
        }
        let mut lines = Vec::with_capacity(plan.steps.len());
        for step in &plan.steps {
            lines.push(Rc::new(Line { step: step.clone(), by: ByRows::of(step, &plan.buffers) }));
        }
        Grouping {
            labels: (0..lines.len()).collect(),
            lines,
            buffers: plan.buffers.clone(),
            streamed: vec![false; plan.buffers.len()],
            ports,
            work: plan.steps.iter().map(|s| s.work().multiply_adds).sum(),
            scale: arena::live(plan).max(1) as f64,
        }
    }

    /// For each buffer, the lines that touch it, in order.
    fn accesses(&self) -> Vec<Vec<Access>> {
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
        all
    }

    /// Pairs of lines of which the first must come before the second.
    fn dependencies(&self, accesses: &[Vec<Access>]) -> Vec<(usize, usize)> {
        let mut pairs = Vec::new();
        for of in accesses {
            for (i, later) in of.iter().enumerate() {
                for earlier in &of[..i] {
                    if earlier.writes || later.writes {
                        pairs.push((earlier.line, later.line));
                    }
                }
            }
        }
        pairs
    }

    /// The groups in an order that suits all dependencies, each as early as the first of its lines allows. `None` when there is
    /// none.
    fn ordered(&self) -> Option<Vec<Vec<usize>>> {
        let mut units: Vec<Vec<usize>> = vec![Vec::new(); self.lines.len()];
        let mut unit_of = vec![0; self.lines.len()];
        for (line, label) in self.labels.iter().enumerate() {
            // A unit has the number of its first line.
            unit_of[line] = self.labels.iter().position(|l| l == label)?;
            units[unit_of[line]].push(line);
        }
        let mut edges = self.dependencies(&self.accesses());
        edges.iter_mut().for_each(|(from, to)| (*from, *to) = (unit_of[*from], unit_of[*to]));
        edges.retain(|(from, to)| from != to);
        let mut waits = vec![0usize; units.len()];
        edges.iter().for_each(|(_, to)| waits[*to] += 1);
        let mut order = Vec::new();
        while let Some(unit) = (0..units.len()).find(|u| waits[*u] == 0 && !units[*u].is_empty()) {
            edges.iter().filter(|(from, _)| *from == unit).for_each(|(_, to)| waits[*to] -= 1);
            order.push(std::mem::take(&mut units[unit]));
        }
        units.iter().all(Vec::is_empty).then_some(order)
    }

    /// A group in `count` bands.
    fn unit(&self, lines: &[usize], count: usize) -> Option<Unit> {
        let group: Vec<Rc<Line>> = lines.iter().map(|i| self.lines[*i].clone()).collect();
        let schedule = Schedule::new(&group, &self.streamed, count)?;
        let bytes = schedule.bytes(&group);
        Some(Unit { lines: lines.to_vec(), schedule: Some(Rc::new(schedule)), bytes })
    }

    /// The group in as many bands as take least memory.
    fn least(&self, lines: &[usize]) -> Option<Unit> {
        let tallest = lines.iter().map(|i| self.lines[*i].by.as_ref().map_or(0, |by| by.height)).max()?;
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
            let step = &self.lines[lines[0]].step;
            let banded = lines.len() > 1 || step.outputs.iter().any(|o| self.streamed[o.buffer as usize]);
            units.push(if banded {
                self.least(&lines)?
            } else {
                let bytes = step.scratch.map_or(0, |s| s.bytes);
                Unit { lines, schedule: None, bytes }
            });
        }
        Some(self.weigh_units(units))
    }

    fn weigh_units(&self, units: Vec<Unit>) -> Weight {
        let end = units.len();
        // First and last unit in which a buffer lives.
        let mut spans = vec![(usize::MAX, 0); self.buffers.len()];
        let mut touch = |buffer: usize, at: usize| {
            let span: &mut (usize, usize) = &mut spans[buffer];
            *span = (span.0.min(at), span.1.max(at));
        };
        for (buffer, port) in self.ports.iter().enumerate() {
            if port.given {
                touch(buffer, 0);
            }
            if port.kept {
                touch(buffer, end);
            }
        }
        for (at, unit) in units.iter().enumerate() {
            for step in unit.lines.iter().map(|i| &self.lines[*i].step) {
                arena::reads(step).for_each(|b| touch(b as usize, at));
                step.outputs.iter().for_each(|o| touch(o.buffer as usize, at));
            }
        }
        let mut live: Vec<usize> = units.iter().map(|u| u.bytes).collect();
        live.push(0);
        let lives = |buffer: usize, span: (usize, usize)| {
            let held = matches!(self.buffers[buffer].kind, BufferKind::Arena | BufferKind::Input(_));
            held && !self.streamed[buffer] && span.0 <= span.1
        };
        for (buffer, span) in spans.iter().enumerate().filter(|(b, span)| lives(*b, **span)) {
            let bytes = self.buffers[buffer].bytes.next_multiple_of(ALIGN);
            live[span.0..=span.1].iter_mut().for_each(|l| *l += bytes);
        }
        let peak = live.iter().copied().max().unwrap_or(0);
        let at_peak = live.iter().position(|l| *l == peak).unwrap_or(0);
        let mut live_at_peak = Vec::new();
        for (buffer, span) in spans.iter().enumerate().filter(|(b, span)| lives(*b, **span)) {
            if span.0 <= at_peak && at_peak <= span.1 {
                live_at_peak.push(buffer as BufferId);
            }
        }
        let added = units.iter().map(Unit::added).sum::<usize>() * STEP_BYTES;
        let norm = live.iter().map(|l| ((l + added) as f64 / self.scale).powi(STEEPNESS)).sum();
        Weight { peak: peak + added, norm, live_at_peak, units }
    }

    /// The same with `buffer` existing band by band: all steps that touch it are a group, with those between them.
    /// `None` where that cannot be.
    pub fn stream(&self, buffer: BufferId) -> Option<Grouping> {
        let accesses = self.accesses();
        let of = &accesses[buffer as usize];
        if !self.streamable(buffer as usize, of) {
            return None;
        }
        let group: Vec<usize> = of.iter().map(|a| a.line).collect();
        if let Some(grouping) = self.together(&group, buffer) {
            return Some(grouping);
        }
        // Who reads it first may have to see all of it before the others can go on: they get it computed once more.
        let (first, rest) = of.split_first()?;
        let writer = &self.lines[first.line].step;
        let plain = first.writes && arena::reads(writer).all(|b| b != buffer);
        if !plain || writer.work().multiply_adds * TWICE > self.work {
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
        let operands: Vec<BufferId> = arena::reads(&self.lines[writer].step).collect();
        let changed = |line: &Rc<Line>| line.step.outputs.iter().any(|o| operands.contains(&o.buffer));
        if operands.iter().any(|b| self.streamed[*b as usize])
            || self.lines[writer..again].iter().any(changed)
        {
            return None;
        }
        let mut grouping = self.clone();
        let own = grouping.add_buffer(self.buffers[buffer as usize].bytes);
        for i in early {
            let step = &mut Rc::make_mut(&mut grouping.lines[*i]).step;
            if panels(step).any(|b| b == buffer) {
                return None;
            }
            for operand in step.inputs.iter_mut().flatten().chain(&mut step.outputs) {
                if operand.buffer == buffer {
                    operand.buffer = own;
                }
            }
        }
        let mut twin = self.lines[writer].clone();
        if let Some(scratch) = &mut Rc::make_mut(&mut twin).step.scratch {
            scratch.buffer = grouping.add_buffer(scratch.bytes);
        }
        let label = grouping.labels.iter().max()? + 1;
        grouping.lines.insert(again, twin);
        grouping.labels.insert(again, label);
        let mut moved = vec![again];
        moved.extend(late.iter().map(|line| line + 1));
        grouping.together(&moved, buffer)?.together(early, own)
    }

    fn add_buffer(&mut self, bytes: usize) -> BufferId {
        self.buffers.push(Buffer { kind: BufferKind::Arena, bytes, place: Default::default() });
        self.streamed.push(false);
        self.ports.push(Port::default());
        (self.buffers.len() - 1) as BufferId
    }

    /// Whether a buffer may exist band by band: nobody outside the steps sees it, and all of them can be cut.
    fn streamable(&self, buffer: usize, accesses: &[Access]) -> bool {
        let Port { given, kept } = self.ports[buffer];
        let cut = |a: &Access| {
            self.lines[a.line].by.as_ref().is_some_and(|by| by.makes == Makes::Rows || !a.writes)
        };
        matches!(self.buffers[buffer].kind, BufferKind::Arena)
            && !given
            && !kept
            && accesses.len() > 1
            && accesses.iter().all(cut)
    }

    /// The same with these lines, and all between them, one group, and `buffer` band by band.
    fn together(&self, lines: &[usize], buffer: BufferId) -> Option<Grouping> {
        let mut grouping = self.clone();
        let accesses = self.accesses();
        let inside = self.between(lines, &self.dependencies(&accesses));
        let group: Vec<usize> = (0..self.lines.len()).filter(|i| inside[*i]).collect();
        let label = self.labels[*group.first()?];
        for line in &group {
            self.lines[*line].by.as_ref()?;
            grouping.labels[*line] = label;
        }
        grouping.streamed[buffer as usize] = true;
        // What only the group sees need not exist as a whole.
        for (other, of) in accesses.iter().enumerate() {
            if of.iter().all(|a| inside[a.line]) && self.streamable(other, of) {
                grouping.streamed[other] = true;
            }
        }
        grouping.unit(&group, COUNTS[0])?;
        Some(grouping)
    }

    /// Whether each line is one of `lines`, or in a group with one, or on a way from one to another.
    fn between(&self, lines: &[usize], dependencies: &[(usize, usize)]) -> Vec<bool> {
        let mut inside = vec![false; self.lines.len()];
        lines.iter().for_each(|line| inside[*line] = true);
        loop {
            let held = inside.iter().filter(|i| **i).count();
            for line in 0..inside.len() {
                inside[line] |= (0..inside.len()).any(|l| inside[l] && self.labels[l] == self.labels[line]);
            }
            // In the order of the lines, every dependency goes forward.
            let mut after = inside.clone();
            let mut before = inside.clone();
            let spread = |reached: &mut [bool], backward: bool| {
                loop {
                    let mut grown = false;
                    for (from, to) in dependencies {
                        let (from, to) = if backward { (*to, *from) } else { (*from, *to) };
                        grown |= reached[from] && !reached[to];
                        reached[to] |= reached[from];
                    }
                    if !grown {
                        break;
                    }
                }
            };
            spread(&mut after, false);
            spread(&mut before, true);
            for line in 0..inside.len() {
                inside[line] |= after[line] && before[line];
            }
            if inside.iter().filter(|i| **i).count() == held {
                return inside;
            }
        }
    }

    /// Takes fewer bands where that stays within the limit, or takes no more than now: each costs time.
    pub fn widen(&self, weight: &mut Weight, limit: usize) {
        let most = weight.peak.max(limit);
        for u in 0..weight.units.len() {
            let Some(now) = weight.units[u].schedule.as_ref().map(|s| s.bands()) else { continue };
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
