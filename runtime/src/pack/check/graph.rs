//! A graph: ids in range, operands computed before they are used, every value computed once, in one branch.
#![forbid(unsafe_code)]

use super::{MAX_MANY, MAX_RANK, at_most, equal, finite, in_range, shape_elements};
use crate::graph::{Block, Dim, Graph, Node, Op, Port, Source, ValueId};
use crate::pack::{Header, PackError};
use std::collections::BTreeSet;

/// How deep branches may nest.
const MAX_BRANCHES: usize = 16;

/// Checks graph `index`; gives the tensors that its operations and outputs use.
pub(crate) fn check_graph(header: &Header, index: usize) -> Result<Vec<u32>, PackError> {
    let graph = &header.graphs[index];
    let place = || format!("graph {index}");
    at_most(|| format!("graph {index}: values"), graph.values.len(), MAX_MANY)?;
    for value in &graph.values {
        let place = || format!("graph {index}, value `{}`", value.name);
        match value.source {
            Source::Computed => {}
            Source::Constant(id) => in_range(place, "constant", id, header.constant_count())?,
            Source::Weight(id) => in_range(place, "tensor", id, header.tensor_count())?,
        }
        if let Some(id) = value.exponents {
            in_range(place, "value", id, graph.values.len())?;
        }
        if let Some((scale, zero_point)) = value.codes
            && !(scale.is_finite() && scale > 0.0 && (-128..=127).contains(&zero_point))
        {
            return Err(PackError::Number {
                place: place(),
                what: "the scale and zero point",
                value: format!("{scale}, {zero_point}"),
                need: "must be a number above 0 and a code of 8 bits",
            });
        }
        if let Some((least, greatest)) = value.range {
            finite(place, "the least element", least)?;
            finite(place, "the greatest element", greatest)?;
            if least > greatest {
                return Err(PackError::Number {
                    place: place(),
                    what: "the least element",
                    value: least.to_string(),
                    need: "must not be above the greatest",
                });
            }
        }
    }
    let mut walk = Walk {
        graph,
        index,
        seen: vec![Seen::Not; graph.values.len()],
        visible: Vec::new(),
        tensors: BTreeSet::new(),
        nodes: 0,
    };
    for (i, input) in graph.inputs.iter().enumerate() {
        let place = || format!("graph {index}, input {i}");
        check_dims(input, place)?;
        walk.compute(input.value, &place)?;
    }
    for (i, cache) in graph.decoding.iter().flat_map(|decoding| &decoding.caches).enumerate() {
        let place = || format!("graph {index}, cache {i}");
        walk.compute(cache.value, &place)?;
        shape_elements(&[cache.heads, cache.depth], place)?;
    }
    walk.block(&graph.body, 0, None)?;
    for (i, output) in graph.outputs.iter().enumerate() {
        let place = || format!("graph {index}, output {i}");
        check_dims(output, place)?;
        walk.operand(output.value, &place)?;
    }
    let (mut inputs, mut outputs) = (BTreeSet::new(), BTreeSet::new());
    for state in &graph.states {
        for (what, port, ports, taken) in [
            ("state input", state.input, &graph.inputs, &mut inputs),
            ("state output", state.output, &graph.outputs, &mut outputs),
        ] {
            if port >= ports.len() {
                let (id, count) = (port as u64, ports.len() as u64);
                return Err(PackError::OutOfRange { place: place(), what, id, count });
            }
            if !taken.insert(port) {
                let place = format!("graph {index}, {what} {port}");
                return Err(PackError::StateTwice { place, what });
            }
        }
    }
    for filled in &graph.filled {
        for (what, id) in [("partly filled output", filled.output), ("count of an output", filled.count)] {
            in_range(place, what, u32::try_from(id).unwrap_or(u32::MAX), graph.outputs.len())?;
        }
        let count = &graph.outputs[filled.count];
        let rank = graph.outputs[filled.output].dims.as_ref().map_or(MAX_RANK, Vec::len);
        in_range(
            place,
            "axis of a partly filled output",
            u32::try_from(filled.axis).unwrap_or(u32::MAX),
            rank,
        )?;
        equal(place, "bytes of a count", 8, count.dtype.bytes() as u64)?;
    }
    if let Some(decoding) = &graph.decoding {
        at_most(|| format!("graph {index}: caches"), decoding.caches.len(), MAX_MANY)?;
        let inputs = [
            ("input of token ids", decoding.ids),
            ("input of tokens that are kept", decoding.past),
            ("input of wanted places", decoding.wanted),
        ];
        for (what, id) in inputs {
            in_range(place, what, u32::try_from(id).unwrap_or(u32::MAX), graph.inputs.len())?;
            equal(place, "bytes of an id or place", 8, graph.inputs[id].dtype.bytes() as u64)?;
        }
        let logits = u32::try_from(decoding.logits).unwrap_or(u32::MAX);
        in_range(place, "output of logits", logits, graph.outputs.len())?;
        equal(place, "bytes of a logit", 4, graph.outputs[decoding.logits].dtype.bytes() as u64)?;
    }
    Ok(walk.tensors.into_iter().collect())
}

fn check_dims(port: &Port, place: impl Fn() -> String) -> Result<(), PackError> {
    let Some(dims) = &port.dims else { return Ok(()) };
    at_most(|| format!("{}: dimensions", place()), dims.len(), MAX_RANK)?;
    let fixed: Vec<usize> = dims
        .iter()
        .filter_map(|d| match d {
            Dim::Fixed(size) => Some(*size),
            Dim::Named(_) => None,
        })
        .collect();
    shape_elements(&fixed, place).map(|_| ())
}

#[derive(Clone, Copy, PartialEq)]
enum Seen {
    Not,
    Visible,
    /// Computed in a branch that has ended.
    Past,
}

struct Walk<'a> {
    graph: &'a Graph,
    index: usize,
    /// One entry a value.
    seen: Vec<Seen>,
    /// Values computed in the open blocks, in order: a branch forgets its own when it ends.
    visible: Vec<ValueId>,
    tensors: BTreeSet<u32>,
    nodes: usize,
}

impl Walk<'_> {
    /// `turn`: how many results an [`Op::Turn`] at the block's beginning may have, where it may be.
    fn block(&mut self, block: &Block, depth: usize, turn: Option<usize>) -> Result<(), PackError> {
        if depth > MAX_BRANCHES {
            let place = format!("graph {}", self.index);
            return Err(PackError::Nesting { place, what: "branches", depth, cap: MAX_BRANCHES });
        }
        self.nodes += block.nodes.len();
        at_most(|| format!("graph {}: nodes", self.index), self.nodes, MAX_MANY)?;
        for (i, node) in block.nodes.iter().enumerate() {
            if node.op == Op::Turn {
                let place = || format!("graph {}, node `{}`", self.index, node.name);
                let results = turn.filter(|_| i == 0).unwrap_or(0);
                at_most(|| format!("{}: results of a turn here", place()), node.outputs.len(), results)?;
            }
            self.node(node, depth)?;
        }
        let index = self.index;
        for (i, &value) in block.outputs.iter().enumerate() {
            self.operand(value, &|| format!("graph {index}, result {i} of a block"))?;
        }
        Ok(())
    }

    fn node(&mut self, node: &Node, depth: usize) -> Result<(), PackError> {
        let index = self.index;
        let place = || format!("graph {index}, node `{}`", node.name);
        for value in node.inputs.iter().flatten() {
            self.operand(*value, &place)?;
        }
        if let Op::If { then_branch, else_branch } = &node.op {
            let results = node.outputs.len() as u64;
            for branch in [then_branch, else_branch] {
                equal(place, "number of results of a branch", results, branch.outputs.len() as u64)?;
                let outer = self.visible.len();
                self.block(branch, depth + 1, None)?;
                for value in self.visible.drain(outer..) {
                    self.seen[value as usize] = Seen::Past;
                }
            }
        }
        if let Op::Loop { body, carried, .. } = &node.op {
            let results = body.outputs.len() as u64;
            equal(place, "number of results of a loop", results, node.outputs.len() as u64)?;
            let carried_id = u32::try_from(*carried).unwrap_or(u32::MAX);
            in_range(place, "count of what a loop carries", carried_id, body.outputs.len())?;
            equal(place, "number of operands of a loop", *carried as u64 + 2, node.inputs.len() as u64)?;
            let outer = self.visible.len();
            self.block(body, depth + 1, Some(carried + 1))?;
            for value in self.visible.drain(outer..) {
                self.seen[value as usize] = Seen::Past;
            }
        }
        for value in node.outputs.iter().flatten() {
            self.compute(*value, &place)?;
        }
        Ok(())
    }

    fn name(&self, value: ValueId) -> String {
        self.graph.name(value).to_owned()
    }

    /// A use: the value is stored, or computed and in sight.
    fn operand(&mut self, value: ValueId, place: &dyn Fn() -> String) -> Result<(), PackError> {
        in_range(place, "value", value, self.graph.values.len())?;
        match self.graph.values[value as usize].source {
            Source::Constant(_) => {}
            Source::Weight(id) => {
                self.tensors.insert(id);
            }
            Source::Computed => {
                if self.seen[value as usize] != Seen::Visible {
                    let name = self.name(value);
                    return Err(PackError::NotYetComputed { place: place(), value, name });
                }
            }
        }
        Ok(())
    }

    /// The place where the value comes to be.
    fn compute(&mut self, value: ValueId, place: &dyn Fn() -> String) -> Result<(), PackError> {
        in_range(place, "value", value, self.graph.values.len())?;
        if self.graph.values[value as usize].source != Source::Computed {
            let name = self.name(value);
            return Err(PackError::StoredAndComputed { place: place(), value, name });
        }
        if self.seen[value as usize] != Seen::Not {
            let name = self.name(value);
            return Err(PackError::ComputedTwice { place: place(), value, name });
        }
        self.seen[value as usize] = Seen::Visible;
        self.visible.push(value);
        Ok(())
    }
}
