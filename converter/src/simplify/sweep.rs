//! Walks a graph once, in order, and lets a rule rewrite each node.
//!
//! A rule sees a node whose operands' definitions, use counts and facts are known, and gives the nodes that stand in
//! its place; their last must define the node's outputs. A rule that finds the node to be a copy gives `Identity`,
//! which the sweep resolves. Fusion therefore happens at the last node of a pattern, the earlier ones dying as unused.

use super::Options;
use super::infer::{Fact, Infer};
use super::sizes::{Size, Sizes};
use crate::model::{Array, Model};
use edge_runtime::graph::{Block, DType, Node, Op, Source, ValueId};
use std::collections::{HashMap, HashSet};
use std::rc::Rc;

/// What a rule does to one node: `None` keeps it.
pub(super) type Rule = fn(&mut Scope<'_>, &Node) -> Option<Vec<Node>>;

/// What is known while a sweep stands at a node.
pub(super) struct Scope<'m> {
    /// The model; its body is being rewritten.
    pub model: &'m mut Model,
    /// What the passes may do.
    pub options: &'m Options,
    /// Symbols of this sweep.
    pub sizes: Sizes,
    /// Bytes that results of folding may yet take beyond their operands'.
    pub room: &'m mut usize,
    facts: Vec<Fact>,
    nodes: HashMap<ValueId, (usize, Rc<Node>)>,
    uses: Vec<u32>,
    ports: HashSet<ValueId>,
    renamed: HashMap<ValueId, ValueId>,
    position: usize,
    changed: usize,
}

/// Sweeps the rule over the graph and its branches; gives the number of nodes it rewrote.
pub(super) fn sweep(model: &mut Model, options: &Options, room: &mut usize, rule: Rule) -> usize {
    let body = std::mem::take(&mut model.graph.body);
    let mut scope = Scope::new(model, options, room, &body);
    let body = scope.block(body, rule);
    let changed = scope.changed;
    model.graph.body = body;
    changed
}

/// How often each value is read: by nodes, as a block's result, as a graph output. What a loop reads is read in each turn: what is
/// computed before it is not to be computed in it.
pub(super) fn count_uses(model: &Model, body: &Block) -> Vec<u32> {
    fn visit(block: &Block, uses: &mut [u32]) {
        for node in &block.nodes {
            node.inputs.iter().flatten().for_each(|v| uses[*v as usize] += 1);
            if let Op::Loop { body, .. } = &node.op {
                let mut own = HashSet::new();
                body.for_each(&mut |node| own.extend(node.outputs.iter().flatten().copied()));
                let mut again = |v: &ValueId| uses[*v as usize] += u32::from(!own.contains(v));
                body.for_each(&mut |node| node.inputs.iter().flatten().for_each(&mut again));
            }
            node.op.blocks().for_each(|block| visit(block, uses));
        }
        block.outputs.iter().for_each(|v| uses[*v as usize] += 1);
    }
    let mut uses = vec![0; model.graph.values.len()];
    visit(body, &mut uses);
    model.graph.outputs.iter().for_each(|port| uses[port.value as usize] += 1);
    uses
}

impl<'m> Scope<'m> {
    fn new(model: &'m mut Model, options: &'m Options, room: &'m mut usize, body: &Block) -> Scope<'m> {
        let uses = count_uses(model, body);
        let mut sizes = Sizes::default();
        let mut facts: Vec<Fact> = (0..model.graph.values.len() as ValueId)
            .map(|v| model.constant(v).map_or_else(Fact::default, Fact::of_constant))
            .collect();
        for port in &model.graph.inputs {
            facts[port.value as usize] = Fact::of_input(port, &mut sizes);
        }
        let ports = model.graph.outputs.iter().map(|p| p.value).collect();
        Scope {
            model,
            options,
            room,
            sizes,
            facts,
            nodes: HashMap::new(),
            uses,
            ports,
            renamed: HashMap::new(),
            position: 0,
            changed: 0,
        }
    }

    fn block(&mut self, block: Block, rule: Rule) -> Block {
        let mut nodes = Vec::with_capacity(block.nodes.len());
        for mut node in block.nodes {
            for value in node.inputs.iter_mut().flatten() {
                *value = self.current(*value);
            }
            if node.op.has_blocks() {
                self.begin(&node);
                for block in node.op.blocks_mut() {
                    *block = self.block(std::mem::take(block), rule);
                }
                self.emit(node, &mut nodes);
                continue;
            }
            if node.op == Op::Turn {
                nodes.push(node);
                continue;
            }
            match rule(self, &node) {
                None => self.emit(node, &mut nodes),
                Some(replacement) => {
                    self.changed += 1;
                    self.uses.resize(self.model.graph.values.len(), 0);
                    for value in node.inputs.iter().flatten() {
                        self.uses[*value as usize] = self.uses[*value as usize].saturating_sub(1);
                    }
                    for value in replacement.iter().flat_map(|n| n.inputs.iter().flatten()) {
                        self.uses[*value as usize] += 1;
                    }
                    for node in replacement {
                        self.emit(node, &mut nodes);
                    }
                }
            }
        }
        let outputs = block.outputs.into_iter().map(|v| self.current(v)).collect();
        Block { nodes, outputs }
    }

    /// What is known of what a loop's turn begins with: its number, and the shapes and types of what is carried, which no turn changes.
    fn begin(&mut self, node: &Node) {
        let Op::Loop { body, carried, .. } = &node.op else { return };
        let Some(first) = body.nodes.first().filter(|first| first.op == Op::Turn) else { return };
        let number = Fact { dtype: Some(DType::I64), dims: Some(Vec::new()), elements: None };
        let given = node.inputs.iter().skip(2).take(*carried);
        let carried = given.map(|v| match v.and_then(|v| self.fact(v)) {
            Some(fact) => Fact { elements: None, ..fact.clone() },
            None => Fact::default(),
        });
        let facts: Vec<Fact> = std::iter::once(number).chain(carried).collect();
        for (value, fact) in first.outputs.iter().zip(facts) {
            if let Some(value) = value {
                self.facts[*value as usize] = fact;
            }
        }
    }

    /// The value that stands for one that turned out to be its copy; the use count moves along.
    fn current(&mut self, value: ValueId) -> ValueId {
        match self.renamed.get(&value) {
            Some(&now) => {
                self.uses[now as usize] += 1;
                now
            }
            None => value,
        }
    }

    fn emit(&mut self, node: Node, nodes: &mut Vec<Node>) {
        if let (Op::Identity, [Some(from)], [Some(to)]) = (&node.op, &node.inputs[..], &node.outputs[..])
            && !self.ports.contains(to)
        {
            self.uses[*from as usize] = self.uses[*from as usize].saturating_sub(1);
            self.renamed.insert(*to, *from);
            return;
        }
        self.facts.resize_with(self.model.graph.values.len(), Fact::default);
        let model = &*self.model;
        let floats = |v: ValueId| model.constant(v).and_then(Array::as_f32);
        let facts = Infer { facts: &self.facts, sizes: &mut self.sizes, node: &node, floats: &floats }.run();
        for (value, fact) in node.outputs.iter().zip(facts) {
            if let Some(value) = value {
                self.facts[*value as usize] = fact;
            }
        }
        if !node.op.has_blocks() {
            let shared = Rc::new(node.clone());
            for value in node.outputs.iter().flatten() {
                self.nodes.insert(*value, (self.position, Rc::clone(&shared)));
            }
        }
        self.position += 1;
        nodes.push(node);
    }

    /// What would be known of the first result of such a node.
    pub fn infer(&mut self, node: &Node) -> Option<Fact> {
        let model = &*self.model;
        let floats = |v: ValueId| model.constant(v).and_then(Array::as_f32);
        let infer = Infer { facts: &self.facts, sizes: &mut self.sizes, node, floats: &floats };
        infer.run().into_iter().next()
    }

    /// The node that computes a value.
    pub fn def(&self, value: ValueId) -> Option<Rc<Node>> {
        self.nodes.get(&value).map(|(_, node)| Rc::clone(node))
    }

    /// The node that computes a value which nothing but the node at hand reads.
    pub fn sole(&self, value: ValueId) -> Option<Rc<Node>> {
        if self.uses(value) == 1 { self.def(value) } else { None }
    }

    /// Where in the order a value is computed; inputs and constants come first.
    pub fn order(&self, value: ValueId) -> usize {
        self.nodes.get(&value).map_or(0, |(position, _)| position + 1)
    }

    /// How often a value is read.
    pub fn uses(&self, value: ValueId) -> u32 {
        self.uses.get(value as usize).copied().unwrap_or(0)
    }

    /// Whether the value is a graph output.
    pub fn is_output(&self, value: ValueId) -> bool {
        self.ports.contains(&value)
    }

    /// The constant behind a value.
    pub fn constant(&self, value: ValueId) -> Option<&Array> {
        self.model.constant(value)
    }

    /// Whether the value is stored integers, whose elements are better left alone.
    pub fn is_whole(&self, value: ValueId) -> bool {
        match self.model.graph.values[value as usize].source {
            Source::Constant(id) => self.model.integers.contains_key(&id),
            _ => false,
        }
    }

    /// Whether the value is stored, not computed.
    pub fn is_stored(&self, value: ValueId) -> bool {
        self.model.graph.values[value as usize].source != Source::Computed
    }

    /// The number of a one-element `f32` constant.
    pub fn scalar(&self, value: ValueId) -> Option<f32> {
        let array = self.constant(value)?;
        if array.elements() != 1 { None } else { array.as_f32()?.first().copied() }
    }

    fn fact(&self, value: ValueId) -> Option<&Fact> {
        self.facts.get(value as usize)
    }

    /// The value's shape.
    pub fn dims(&self, value: ValueId) -> Option<&[Size]> {
        self.fact(value)?.dims.as_deref()
    }

    /// The value's number of dimensions.
    pub fn rank(&self, value: ValueId) -> Option<usize> {
        self.dims(value).map(<[Size]>::len)
    }

    /// The value's element type.
    pub fn dtype(&self, value: ValueId) -> Option<DType> {
        self.fact(value)?.dtype
    }

    /// The elements of a shape vector.
    pub fn elements(&self, value: ValueId) -> Option<&[Size]> {
        self.fact(value)?.elements.as_deref()
    }

    /// The elements of an integer constant.
    pub fn ints(&self, value: ValueId) -> Option<Vec<i64>> {
        self.constant(value)?.as_i64()
    }

    /// A new computed value.
    pub fn add_value(&mut self, name: String) -> ValueId {
        let id = self.model.graph.add_value(name, Source::Computed);
        self.grow();
        id
    }

    /// A new constant.
    pub fn add_constant(&mut self, name: String, array: Array) -> ValueId {
        let fact = Fact::of_constant(&array);
        let id = self.model.add_constant(name, array);
        self.grow();
        self.facts[id as usize] = fact;
        id
    }

    /// The value's name, for values derived from it.
    pub fn name(&self, value: ValueId) -> &str {
        self.model.graph.name(value)
    }

    fn grow(&mut self) {
        let len = self.model.graph.values.len();
        self.facts.resize_with(len, Fact::default);
        self.uses.resize(len, 0);
    }
}
