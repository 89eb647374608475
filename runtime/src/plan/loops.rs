//! Loops: a body whose steps a run repeats as often as the data say.
//!
//! ```text
//! carry    what is carried from turn to turn, as it is at first, into buffers of its own
//! fill     the number of turns and the lists with zeros
//! enter    past the loop, when it does not begin at all
//!   ...    the body
//!   append what it gives for the lists
//!   carry  what it gives to be carried
//! turn     back to the body, when it goes on
//! ```
//!
//! Sizes are those of the first turn: what is carried keeps its shape.

use super::build::{Builder, Call, Why};
use super::error::PlanError;
use super::fact::{Fact, Place};
use super::step::StepOp;
use crate::graph::{Block, DType, Node, Op};

/// Operands of a loop before those that are carried, and results of its body before them.
const OPERANDS: usize = 2;
const RESULTS: usize = 1;

/// What is carried from turn to turn.
struct Carried {
    /// Where it is. What no turn reads has no place before the first has made one.
    state: Option<Fact>,
    /// No turn changes it: it is the operand itself.
    unchanged: bool,
}

impl Builder<'_> {
    /// Plans a loop; see [`Op::Loop`].
    pub(super) fn repeat(
        &mut self,
        call: &Call,
        body: &Block,
        carried: usize,
        most: Option<u64>,
    ) -> Result<(), PlanError> {
        let name = self.name;
        let fail = |why: Why| PlanError::Node { node: call.node.name.clone(), op: "loop", why };
        let first = body.nodes.first().filter(|node| node.op == Op::Turn);
        let twins = self.twins.len();
        let mut carried = self.begin(call, body, first, carried).map_err(fail)?;
        let turns = self.result(DType::I64, &[]).map_err(fail)?;
        self.emit(StepOp::Fill { value: [0; 8] }, &[], &[&turns]).map_err(fail)?;
        if let Some(id) = first.and_then(|node| node.outputs.first().copied().flatten()) {
            self.facts[id as usize] = Some(turns.clone());
        }
        let going = self.result(DType::Bool, &[]).map_err(fail)?;
        let enter = self.steps.len();
        let limits = [call.optional(0), call.optional(1)];
        for (limit, dtype) in limits.iter().zip([DType::I64, DType::Bool]) {
            single(*limit, dtype).map_err(fail)?;
        }
        self.emit(StepOp::Enter { past: 0 }, &limits, &[&going]).map_err(fail)?;
        self.nodes(&body.nodes[usize::from(first.is_some())..])?;
        self.name = name;
        let given = self.given(call, body)?;
        let lists = self.turn(call, enter, &mut carried, given, (&turns, &going), most).map_err(fail)?;
        // A loop of no turns has made neither twins nor any value of its body.
        self.twins.truncate(twins);
        body.for_each(&mut |node| {
            node.outputs.iter().flatten().for_each(|id| self.of_a_turn[*id as usize] = true);
        });
        let carried = carried.into_iter().map(|c| c.state);
        let results = carried.chain(lists).chain([Some(turns)]);
        for (id, fact) in call.node.outputs.iter().zip(results) {
            if let (Some(id), Some(fact)) = (id, fact) {
                self.facts[*id as usize] = Some(fact);
            }
        }
        Ok(())
    }

    /// Puts what is carried in its place.
    fn begin(
        &mut self,
        call: &Call,
        body: &Block,
        first: Option<&Node>,
        carried: usize,
    ) -> Result<Vec<Carried>, Why> {
        let mut all = Vec::with_capacity(carried);
        for i in 0..carried {
            let (at, operand) = (i + RESULTS, i + OPERANDS);
            let inner = first.and_then(|node| node.outputs.get(i + 1).copied().flatten());
            let unchanged = inner.is_some() && inner == body.outputs.get(at).copied();
            let state = match call.optional(operand) {
                Some(given) if unchanged => Some(given.clone()),
                Some(given) => {
                    let given = self.plain(call.value(operand), given)?;
                    let state = self.result(given.dtype, &given.dims)?;
                    self.emit(StepOp::Carry, &[Some(&given)], &[&state])?;
                    Some(state)
                }
                None => None,
            };
            if let Some(id) = inner {
                self.facts[id as usize] = state.clone();
            }
            all.push(Carried { state, unchanged });
        }
        Ok(all)
    }

    /// What the body gives.
    fn given(&mut self, call: &Call, body: &Block) -> Result<Vec<Fact>, PlanError> {
        let node = || call.node.name.clone();
        let mut given = Vec::with_capacity(body.outputs.len());
        for id in &body.outputs {
            let fact = self.facts.get(*id as usize).cloned().flatten();
            let fact = fact.ok_or_else(|| PlanError::Undefined { node: node(), value: *id })?;
            let plain = self.plain(Some(*id), &fact);
            given.push(plain.map_err(|why| PlanError::Node { node: node(), op: "loop", why })?);
        }
        Ok(given)
    }

    /// The end of a turn; gives the lists, `None` where nobody reads one.
    fn turn(
        &mut self,
        call: &Call,
        enter: usize,
        carried: &mut [Carried],
        mut given: Vec<Fact>,
        (turns, going): (&Fact, &Fact),
        most: Option<u64>,
    ) -> Result<Vec<Option<Fact>>, Why> {
        // What lies where something is carried is read before that is written.
        let held = |fact: &Fact| {
            let Place::Buffer { buffer, .. } = fact.place else { return false };
            let place =
                |c: &Carried| c.state.as_ref().filter(|_| !c.unchanged).map(|state| state.place.clone());
            let mut places = carried.iter().filter_map(place);
            places.any(|place| matches!(place, Place::Buffer { buffer: b, .. } if b == buffer))
        };
        single(given.first(), DType::Bool)?;
        let kept = RESULTS + carried.len();
        for (i, fact) in given.iter_mut().enumerate().take(kept) {
            let unchanged = i.checked_sub(RESULTS).is_some_and(|i| carried[i].unchanged);
            if !unchanged && held(fact) {
                let copy = self.result(fact.dtype, &fact.dims)?;
                self.emit(StepOp::Carry, &[Some(fact)], &[&copy])?;
                *fact = copy;
            }
        }
        let mut lists = Vec::with_capacity(given.len().saturating_sub(kept));
        for (i, entry) in given.iter().enumerate().skip(kept) {
            if call.result(i - RESULTS).is_none() {
                lists.push(None);
                continue;
            }
            let room = self.room(call, most)?;
            let dims: Vec<usize> = std::iter::once(room).chain(entry.dims.iter().copied()).collect();
            let list = self.zeros(enter, entry.dtype, &dims)?;
            self.emit(StepOp::Append, &[Some(entry), Some(turns)], &[&list])?;
            lists.push(Some(list));
        }
        for (i, (c, new)) in carried.iter_mut().zip(&given[RESULTS..]).enumerate() {
            if c.unchanged {
                continue;
            }
            let had = match &c.state {
                Some(state) => state.clone(),
                None => self.zeros(enter, new.dtype, &new.dims)?,
            };
            if (had.dtype, &had.dims) != (new.dtype, &new.dims) {
                let has = new;
                return Err(format!(
                    "value {i} of those carried from turn to turn has {:?} {} before a turn and {:?} {} after it; a loop keeps shapes",
                    had.dims, had.dtype, has.dims, has.dtype
                ));
            }
            self.emit(StepOp::Carry, &[Some(new)], &[&had])?;
            c.state = Some(had);
        }
        self.emit(StepOp::Turn { back: 0 }, &[given.first(), call.optional(0)], &[going, turns])?;
        Ok(lists)
    }

    /// A new value of zeros, made before step `enter`.
    fn zeros(&mut self, enter: usize, dtype: DType, dims: &[usize]) -> Result<Fact, Why> {
        let zeros = self.result(dtype, dims)?;
        self.emit(StepOp::Fill { value: [0; 8] }, &[], &[&zeros])?;
        if let Some(fill) = self.steps.pop() {
            self.steps.insert(enter, fill);
        }
        Ok(zeros)
    }

    /// Turns that a list has room for.
    fn room(&self, call: &Call, most: Option<u64>) -> Result<usize, Why> {
        let known = call.optional(0).and_then(|limit| self.integers(limit).ok());
        let known = known.and_then(|limit| limit.first().copied()).map(|limit| limit.max(0) as u64);
        let room = match (known, most) {
            (Some(a), Some(b)) => a.min(b),
            (Some(one), None) | (None, Some(one)) => one,
            (None, None) => {
                return Err("how often it repeats depends on data, and what it collects needs room: \
                            convert the model again with a greatest number of turns (`--turns N`)"
                    .into());
            }
        };
        usize::try_from(room).map_err(|_| format!("{room} turns"))
    }

    /// The value in its own type, not as codes.
    fn plain(&mut self, value: Option<crate::graph::ValueId>, fact: &Fact) -> Result<Fact, Why> {
        if fact.quant.is_some() { self.float(value, fact) } else { Ok(fact.clone()) }
    }
}

/// Refuses a limit or condition that is not one element of the type.
fn single(fact: Option<&Fact>, dtype: DType) -> Result<(), Why> {
    match fact {
        Some(fact) if fact.dtype != dtype || fact.elements() != 1 => {
            Err(format!("{:?} {}, expected one {dtype}", fact.dims, fact.dtype))
        }
        _ => Ok(()),
    }
}
