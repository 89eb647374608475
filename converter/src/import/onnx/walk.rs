//! Reads graphs, branches and function bodies node by node.

use super::ctx::{Binding, Ctx, Frame};
use super::guard::{self, Refusal};
use super::node::{NodeView, OpError, domain};
use super::order;
use super::proto::{FunctionProto, GraphProto, NodeProto};
use super::ranks::{Extent, Fact};
use super::read;
use crate::import::ImportError;
use edge_runtime::graph::{Block, Op, ValueId};

/// Most nodes after functions are expanded; the largest exported models have some ten thousand.
const MAX_NODES: usize = 1 << 20;
/// Most values of the graph, beside some for each node of the file: a loop in a loop turns a few nodes into millions.
const MAX_VALUES: usize = 50_000;
const VALUES_A_NODE: usize = 64;
/// Most function calls within one another.
const MAX_DEPTH: usize = 32;

/// Most values of the graph of a file with these nodes, those of functions, branches and bodies included.
pub fn most_values(graph: &GraphProto, functions: &[FunctionProto]) -> usize {
    fn count(nodes: &[NodeProto]) -> usize {
        let graphs = |node: &NodeProto| -> usize {
            node.attribute.iter().filter_map(|a| a.g.as_ref()).map(|g| count(&g.node)).sum()
        };
        nodes.iter().map(|node| 1 + graphs(node)).sum()
    }
    let nodes = count(&graph.node) + functions.iter().map(|f| count(&f.node)).sum::<usize>();
    MAX_VALUES + nodes.saturating_mul(VALUES_A_NODE)
}

impl<'m> Ctx<'m> {
    /// Reads nodes in an order in which operands precede their use.
    pub fn nodes(&mut self, nodes: &'m [NodeProto]) -> Result<(), ImportError> {
        for node in order::sorted(nodes)? {
            self.node(node)?;
        }
        Ok(())
    }

    fn node(&mut self, proto: &'m NodeProto) -> Result<(), ImportError> {
        let name = domain(&proto.domain);
        let function = self.functions.get(&(name, proto.op_type.as_str(), proto.overload.as_str())).copied();
        let opset = match (self.frame.opsets.get(name), function) {
            (Some(version), _) => *version,
            (None, Some(_)) => 1,
            (None, None) => {
                let node = NodeView::new(proto, 0, &self.frame.prefix, &self.frame.call).name;
                return Err(ImportError::DomainNotImported { node, domain: name.to_owned() });
            }
        };
        let node = NodeView::new(proto, opset, &self.frame.prefix, &self.frame.call);
        self.expanded += 1;
        if self.expanded > MAX_NODES {
            return Err(ImportError::Expansion { function: proto.op_type.clone(), limit: MAX_NODES });
        }
        for input in proto.input.iter().filter(|n| !n.is_empty()) {
            if self.find(input).is_none() {
                return Err(ImportError::MissingValue { node: node.name, value: input.clone() });
            }
        }
        if self.model.graph.values.len() > self.most_values {
            return Err(ImportError::Expansion { function: proto.op_type.clone(), limit: self.most_values });
        }
        if let Some(function) = function {
            return self.call(&node, function);
        }
        let lowered = match guard::check(self, &node) {
            Err(refusal) => Err(refusal),
            Ok(operator) => match (operator.lower)(self, &node) {
                Ok(()) => match self.unclear(&node) {
                    false => return Ok(()),
                    true => Err(Refusal {
                        reason: "not implemented for an operand whose size depends on the data".to_owned(),
                        hint: "end the model before it",
                    }),
                },
                Err(OpError::Import(error)) => return Err(*error),
                Err(OpError::Malformed(reason)) => {
                    return Err(ImportError::Node { node: node.name, op: node.op.to_owned(), reason });
                }
                Err(OpError::Unsupported { reason, hint }) => Err(Refusal { reason, hint }),
                Err(OpError::Unknown(_)) if self.tainted(&node) => Ok(()),
                Err(OpError::Unknown(what)) => {
                    let reason = format!("{what} is needed but could not be inferred");
                    Err(Refusal {
                        reason,
                        hint: "give sizes of free dimensions (--fix NAME=DIMS), or export with static shapes",
                    })
                }
            },
        };
        if let Err(refusal) = lowered {
            guard::refuse(self, &node, refusal);
        }
        // The nodes behind a refused one are still looked at, so that all are named in one run.
        for output in proto.output.iter().filter(|o| !o.is_empty()) {
            // Bound already when the operator said no at a later result.
            if self.bound_here(output) {
                if let Some(Binding::Value(id)) = self.find(output) {
                    self.mark_refused(id);
                }
                continue;
            }
            let id = self.value(output, Fact { tainted: true, ..Fact::default() });
            self.bind(output, Binding::Value(id), &node.name)?;
        }
        Ok(())
    }

    /// Whether a result was made of a value's filled part in a way that is not followed.
    fn unclear(&self, node: &NodeView<'m>) -> bool {
        let extent = |name: &String| match self.find(name) {
            Some(Binding::Value(id)) => self.fact(id).extent,
            _ => Extent::Whole,
        };
        node.proto.output.iter().filter(|o| !o.is_empty()).any(|o| extent(o) == Extent::Unclear)
    }

    fn tainted(&self, node: &NodeView<'m>) -> bool {
        (0..node.inputs()).any(|i| match node.input(i).and_then(|n| self.find(n)) {
            Some(Binding::Value(id)) => self.fact(id).tainted,
            _ => false,
        })
    }

    /// The operands of a node in words.
    pub fn described(&self, node: &NodeView<'m>) -> Vec<String> {
        let one = |i: usize| match node.input(i).and_then(|n| self.find(n)) {
            Some(Binding::Value(id)) => self.fact(id).to_string(),
            Some(Binding::Stored(slot)) => self.stored_fact(slot).to_string(),
            _ => "-".to_owned(),
        };
        (0..node.inputs()).map(one).collect()
    }

    /// Reads a function's body in the caller's place.
    fn call(&mut self, node: &NodeView<'m>, function: &'m FunctionProto) -> Result<(), ImportError> {
        if self.frame.depth >= MAX_DEPTH {
            return Err(ImportError::Expansion { function: function.name.clone(), limit: MAX_NODES });
        }
        let mut call: std::collections::HashMap<_, _> =
            function.attribute_proto.iter().map(|a| (a.name.as_str(), a)).collect();
        call.extend(node.attributes().iter().copied());
        let frame = Frame {
            opsets: read::opsets(&function.opset_import)?,
            call,
            prefix: format!("{}/", node.name),
            depth: self.frame.depth + 1,
        };
        let operands: Vec<Binding> = (0..function.input.len())
            .map(|i| node.input(i).and_then(|n| self.find(n)).unwrap_or(Binding::Absent))
            .collect();
        let outer = std::mem::replace(&mut self.frame, frame);
        self.open(true);
        for (name, binding) in function.input.iter().zip(operands) {
            self.bind(name, binding, &node.name)?;
        }
        self.nodes(&function.node)?;
        let mut results = Vec::new();
        for (i, name) in function.output.iter().enumerate().filter(|(i, _)| node.output(*i).is_some()) {
            let missing = || ImportError::MissingValue { node: node.name.clone(), value: name.clone() };
            results.push((i, self.find(name).ok_or_else(missing)?));
        }
        self.close();
        self.frame = outer;
        for (i, binding) in results {
            if let Some(name) = node.output(i) {
                self.bind(name, binding, &node.name)?;
            }
        }
        Ok(())
    }

    /// Reads a branch into the open block; gives what its outputs stand for.
    pub fn inline_branch(
        &mut self,
        graph: &'m GraphProto,
        node: &NodeView<'m>,
    ) -> Result<Vec<Binding>, ImportError> {
        if let Some(input) = graph.input.first() {
            let reason = format!("a branch has an input `{}`; branches have none", input.name);
            return Err(ImportError::Node { node: node.name.clone(), op: node.op.to_owned(), reason });
        }
        self.inline_body(graph, node, &[])
    }

    /// Reads the body of a loop into the open block, its inputs standing for `given`; gives what its outputs stand for.
    pub fn inline_body(
        &mut self,
        graph: &'m GraphProto,
        node: &NodeView<'m>,
        given: &[Binding],
    ) -> Result<Vec<Binding>, ImportError> {
        if graph.input.len() != given.len() {
            let reason = format!("a body of {} inputs is given {}", graph.input.len(), given.len());
            return Err(ImportError::Node { node: node.name.clone(), op: node.op.to_owned(), reason });
        }
        self.open(false);
        for (input, binding) in graph.input.iter().zip(given) {
            self.bind(&input.name, *binding, &node.name)?;
        }
        self.graph_tensors(graph)?;
        self.nodes(&graph.node)?;
        let mut outputs = Vec::with_capacity(graph.output.len());
        for output in &graph.output {
            let missing =
                || ImportError::MissingValue { node: node.name.clone(), value: output.name.clone() };
            outputs.push(self.find(&output.name).ok_or_else(missing)?);
        }
        self.close();
        Ok(outputs)
    }

    /// Reads a branch into a block of its own; each result is computed by a node of the block.
    pub fn branch(&mut self, graph: &'m GraphProto, node: &NodeView<'m>) -> Result<Block, ImportError> {
        self.blocks.push(Block::default());
        let bindings = self.inline_branch(graph, node)?;
        let mut outputs: Vec<ValueId> = Vec::with_capacity(bindings.len());
        for binding in bindings {
            let absent = || ImportError::Node {
                node: node.name.clone(),
                op: node.op.to_owned(),
                reason: "a branch gives an absent value".into(),
            };
            let id = self.value_of(binding)?.ok_or_else(absent)?;
            let own = |b: &Block| b.nodes.iter().any(|n| n.outputs.contains(&Some(id)));
            let fresh = self.blocks.last().is_some_and(own) && !outputs.contains(&id);
            outputs.push(if fresh { id } else { self.emit(node, Op::Identity, &[Some(id)]) });
        }
        let mut block = self.blocks.pop().unwrap_or_default();
        block.outputs = outputs;
        Ok(block)
    }

    /// Binds a graph's stored arrays.
    pub fn graph_tensors(&mut self, graph: &'m GraphProto) -> Result<(), ImportError> {
        if let Some(sparse) = graph.sparse_initializer.first() {
            let tensor = sparse.values.as_ref().map(|v| v.name.clone()).unwrap_or_default();
            return Err(ImportError::Tensor { tensor, reason: "sparse, which is not implemented".into() });
        }
        for tensor in &graph.initializer {
            self.bind_stored(&tensor.name, tensor, "initializers")?;
        }
        Ok(())
    }
}
