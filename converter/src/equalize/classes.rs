//! Which values share the sizes of their channels, and who would have to take part.

use crate::model::Model;
use edge_runtime::graph::{Act, BinaryOp, DType, Node, Op, ReduceOp, Source, UnaryOp, ValueId};
use std::collections::HashMap;

/// Positions among the operands of `Conv` and `Linear`.
pub(super) mod operand {
    pub const X: usize = 0;
    pub const WEIGHT: usize = 1;
    pub const SCALE: usize = 2;
    pub const BIAS: usize = 3;
    pub const RESIDUAL: usize = 4;
    pub const FACTOR: usize = 5;
}

/// How a node makes the channels of its result another size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Maker {
    /// By its matrix's rows and what is added to them.
    Rows,
    /// By the factor behind the activation function.
    Factor,
    /// By this operand, a constant that is added to values of the class.
    Addend(usize),
}

/// Values whose channels have the same sizes, because one is made of another element by element.
#[derive(Clone, Debug, Default)]
pub(super) struct Class {
    /// Channels of each value.
    pub channels: usize,
    /// The values.
    pub members: Vec<ValueId>,
    /// Nodes of the graph's body that make them, and how.
    pub makers: Vec<(usize, Maker)>,
    /// Nodes of the graph's body whose matrices read them.
    pub readers: Vec<usize>,
}

/// Sets of values, some of which cannot take part.
struct Sets {
    parent: Vec<ValueId>,
    barred: Vec<bool>,
}

impl Sets {
    fn root(&mut self, v: ValueId) -> ValueId {
        let mut root = v;
        while self.parent[root as usize] != root {
            root = self.parent[root as usize];
        }
        self.parent[v as usize] = root;
        root
    }

    fn join(&mut self, a: ValueId, b: ValueId) {
        let (a, b) = (self.root(a), self.root(b));
        self.parent[b as usize] = a;
        self.barred[a as usize] |= self.barred[b as usize];
    }

    fn bar(&mut self, v: ValueId) {
        let root = self.root(v);
        self.barred[root as usize] = true;
    }
}

/// The classes of a model whose channels may take any positive sizes. `dims` are the shapes of its floats in a run.
pub(super) fn find(model: &Model, dims: &HashMap<ValueId, Vec<usize>>) -> Vec<Class> {
    let graph = &model.graph;
    let count = graph.values.len();
    let mut sets = Sets { parent: (0..count as ValueId).collect(), barred: vec![false; count] };
    for (v, value) in graph.values.iter().enumerate() {
        sets.barred[v] = value.source != Source::Computed || !dims.contains_key(&(v as ValueId));
    }
    graph.inputs.iter().chain(&graph.outputs).for_each(|port| sets.bar(port.value));

    let uses = uses(model);
    let (mut makers, mut readers) = (Vec::new(), Vec::new());
    for (i, node) in graph.body.nodes.iter().enumerate() {
        let finder = Finder { model, dims, uses: &uses, node };
        finder.visit(&mut sets, |maker| makers.push((i, maker)), |x| readers.push((i, x)));
    }
    let mut classes: HashMap<ValueId, Class> = HashMap::new();
    for v in 0..count as ValueId {
        let root = sets.root(v);
        if !sets.barred[root as usize] {
            classes.entry(root).or_default().members.push(v);
        }
    }
    for (i, maker) in makers {
        let out = graph.body.nodes[i].outputs.first().copied().flatten();
        if let Some(class) = out.and_then(|out| classes.get_mut(&sets.root(out))) {
            class.makers.push((i, maker));
        }
    }
    for (i, x) in readers {
        if let Some(class) = classes.get_mut(&sets.root(x)) {
            class.readers.push(i);
        }
    }
    let mut classes: Vec<Class> = classes.into_values().filter(|class| !class.readers.is_empty()).collect();
    classes.sort_by_key(|class| class.members.iter().copied().min());
    for class in &mut classes {
        class.channels = dims[&class.members[0]].last().copied().unwrap_or(0);
    }
    let alike = |class: &Class| class.members.iter().all(|v| dims[v].last() == Some(&class.channels));
    classes.retain(|class| class.channels > 1 && alike(class));
    classes
}

/// How often each value is read, branches included.
fn uses(model: &Model) -> Vec<usize> {
    let mut uses = vec![0; model.graph.values.len()];
    model.graph.body.for_each(&mut |node| {
        node.inputs.iter().flatten().for_each(|v| uses[*v as usize] += 1);
        node.op.blocks().flat_map(|block| &block.outputs).for_each(|v| uses[*v as usize] += 1);
    });
    uses
}

struct Finder<'a> {
    model: &'a Model,
    dims: &'a HashMap<ValueId, Vec<usize>>,
    uses: &'a [usize],
    node: &'a Node,
}

impl Finder<'_> {
    fn input(&self, at: usize) -> Option<ValueId> {
        self.node.inputs.get(at).copied().flatten()
    }

    fn is_constant(&self, v: ValueId) -> bool {
        self.model.constant(v).is_some_and(|array| array.dtype == DType::F32)
    }

    /// Absent, or a constant that is multiplied or added by channels.
    fn is_vector(&self, at: usize) -> bool {
        self.input(at).is_none_or(|v| self.is_constant(v))
    }

    fn visit(&self, sets: &mut Sets, mut maker: impl FnMut(Maker), mut reader: impl FnMut(ValueId)) {
        let out = self.node.outputs.first().copied().flatten();
        let (Some(x), Some(out)) = (self.input(0), out) else { return self.bar(sets) };
        match &self.node.op {
            Op::Conv { act, act_after_residual, .. } | Op::Linear { act, act_after_residual, .. } => {
                if self.owns_matrix() {
                    reader(x);
                } else {
                    sets.bar(x);
                }
                match self.makes(*act, *act_after_residual) {
                    Some(how) => maker(how),
                    None => sets.bar(out),
                }
                if let Some(residual) = self.input(operand::RESIDUAL).filter(|v| !self.is_constant(*v)) {
                    sets.join(out, residual);
                }
                self.node.inputs.iter().skip(1).flatten().for_each(|v| {
                    if Some(*v) != self.input(operand::RESIDUAL) {
                        sets.bar(*v);
                    }
                });
            }
            Op::Unary(
                UnaryOp::Act(Act::Relu | Act::LeakyRelu { .. } | Act::None) | UnaryOp::Neg | UnaryOp::Abs,
            )
            | Op::Identity
            | Op::Pool { .. } => sets.join(out, x),
            Op::Resize { axes, .. } if self.spares_channels(x, axes) => sets.join(out, x),
            Op::Reduce {
                kind: ReduceOp::Mean | ReduceOp::Sum | ReduceOp::Max | ReduceOp::Min, axes, ..
            } if self.spares_channels(x, axes) => {
                sets.join(out, x);
            }
            Op::Binary(op) => match (op, self.input(1)) {
                (BinaryOp::Mul, Some(y)) if self.is_constant(x) => sets.join(out, y),
                (BinaryOp::Mul | BinaryOp::Div, Some(y)) if self.is_constant(y) => sets.join(out, x),
                (BinaryOp::Mul, Some(gate)) if gate != x => {
                    sets.join(out, x);
                    sets.bar(gate);
                }
                (BinaryOp::Add, Some(y)) if self.is_constant(x) && self.adds_channels(x, out) => {
                    sets.join(out, y);
                    maker(Maker::Addend(0));
                }
                (BinaryOp::Add | BinaryOp::Sub, Some(y))
                    if self.is_constant(y) && self.adds_channels(y, out) =>
                {
                    sets.join(out, x);
                    maker(Maker::Addend(1));
                }
                (BinaryOp::Add | BinaryOp::Sub, Some(y)) => {
                    sets.join(out, x);
                    sets.join(out, y);
                }
                _ => self.bar(sets),
            },
            _ => self.bar(sets),
        }
    }

    /// What a node reads and makes, branches included, keeps its sizes.
    fn bar(&self, sets: &mut Sets) {
        let bar = |node: &Node, sets: &mut Sets| {
            node.inputs.iter().chain(&node.outputs).flatten().for_each(|v| sets.bar(*v));
        };
        bar(self.node, sets);
        for block in self.node.op.blocks() {
            block.for_each(&mut |node| bar(node, sets));
            block.outputs.iter().for_each(|v| sets.bar(*v));
        }
    }

    /// Whether the matrix is a constant of floats that nothing else reads.
    fn owns_matrix(&self) -> bool {
        self.input(operand::WEIGHT).is_some_and(|w| self.uses[w as usize] == 1 && self.is_constant(w))
    }

    fn makes(&self, act: Act, before: bool) -> Option<Maker> {
        let vectors = [operand::SCALE, operand::BIAS, operand::FACTOR];
        if !vectors.iter().all(|at| self.is_vector(*at)) {
            return None;
        }
        let homogeneous = matches!(act, Act::None | Act::Relu | Act::LeakyRelu { .. });
        let residual = self.input(operand::RESIDUAL).is_some_and(|v| !self.is_constant(v));
        if homogeneous && self.owns_matrix() {
            return Some(Maker::Rows);
        }
        // What a residual adds before the function cannot be of another size when the function is not.
        (!(residual && before)).then_some(Maker::Factor)
    }

    /// Whether none of the axes is the last one of `x`.
    fn spares_channels(&self, x: ValueId, axes: &[i32]) -> bool {
        let Some(rank) = self.dims.get(&x).map(|dims| dims.len() as i32) else { return false };
        !axes.is_empty() && axes.iter().all(|axis| axis.rem_euclid(rank.max(1)) != rank - 1)
    }

    /// Whether a constant can be one number or one a channel of `out`.
    fn adds_channels(&self, constant: ValueId, out: ValueId) -> bool {
        let Some(array) = self.model.constant(constant) else { return false };
        let channels = self.dims.get(&out).and_then(|dims| dims.last()).copied().unwrap_or(0);
        array.elements() == 1 || (array.elements() == channels && array.dims.last() == Some(&channels))
    }
}
