//! The graph under construction, as the operators see it: names to values, values to facts, nodes emitted in order.

mod build;
mod formula;
mod makers;
mod operands;
mod results;
mod stored;

pub use formula::Formula;
pub use stored::codes;

use super::files::Files;
use super::node::{NodeView, OpError, malformed, unknown};
use super::proto::{AttributeProto, FunctionProto, TensorProto};
use super::ranks::{Fact, normalize};
use super::tensors;
use super::wide;
use crate::import::{ImportError, Unsupported};
use crate::model::Model;
use edge_runtime::graph::{Block, ValueId};
use makers::Makers;
use std::collections::{HashMap, HashSet};

/// What a name stands for.
#[derive(Clone, Copy, Debug)]
pub enum Binding {
    /// A value of the graph.
    Value(ValueId),
    /// A stored array, not yet read: an index into [`Ctx::stored`]. A weight that goes into the graph in another layout is never
    /// kept in its own.
    Stored(usize),
    /// An optional operand that a function call leaves out.
    Absent,
}

/// The names of one graph, branch or function body.
#[derive(Default)]
pub struct Scope<'m> {
    names: HashMap<&'m str, Binding>,
    /// A function body sees nothing of its caller.
    sealed: bool,
}

struct Stored<'m> {
    tensor: &'m TensorProto,
    value: Option<ValueId>,
}

/// The reals that a value of 8-bit integers stands for.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Grid {
    /// Their value.
    pub real: ValueId,
    /// Between two integers.
    pub scale: f32,
    /// The integer that stands for 0, of signed ones; of unsigned ones, less 128.
    pub zero_point: i32,
}

/// The graph under construction.
pub struct Ctx<'m> {
    /// What is built; its own block is filled at the end.
    pub model: Model,
    /// The open blocks, innermost last.
    pub blocks: Vec<Block>,
    /// Everything refused so far.
    pub refused: Vec<Unsupported>,
    facts: Vec<Fact>,
    makers: Makers,
    scopes: Vec<Scope<'m>>,
    stored: Vec<Stored<'m>>,
    /// The places of arrays in [`Ctx::stored`].
    slots: HashMap<*const TensorProto, usize>,
    weights: HashMap<(usize, String), ValueId>,
    /// Values of integers that stand for reals, with those.
    pub grids: HashMap<ValueId, Grid>,
    /// Values of integers, with floats that hold the same.
    pub plain: HashMap<ValueId, ValueId>,
    /// The names of values, with how often each was asked for.
    names: HashMap<String, usize>,
    files: &'m Files,
    /// What the nodes being read belong to.
    pub frame: Frame<'m>,
    /// The model's own functions, by domain, name and overload.
    pub functions: HashMap<(&'m str, &'m str, &'m str), &'m FunctionProto>,
    /// Nodes read so far, functions expanded.
    pub expanded: usize,
    /// Most values of the graph: see [`super::walk`].
    pub most_values: usize,
    /// Turns that a loop may take whose end only a run knows, where it collects something in each.
    pub most_turns: Option<u64>,
    /// Bytes that making tables has taken so far: see [`Ctx::table`].
    tables: usize,
}

/// What nodes need to know of the graph or function body they stand in.
#[derive(Clone, Default)]
pub struct Frame<'m> {
    /// Version of each imported domain.
    pub opsets: HashMap<&'m str, i64>,
    /// Attributes of the function call.
    pub call: HashMap<&'m str, &'m AttributeProto>,
    /// Names of the calls around the node, for node names.
    pub prefix: String,
    /// Function calls around the node.
    pub depth: usize,
}

/// A place in the reading to which one can go back.
pub struct Mark {
    blocks: usize,
    nodes: usize,
    scopes: usize,
    refused: usize,
    values: usize,
}

impl Mark {
    /// How many nodes were refused before.
    pub fn refused(&self) -> usize {
        self.refused
    }
}

impl<'m> Ctx<'m> {
    /// Where the reading stands.
    pub fn mark(&self) -> Mark {
        Mark {
            blocks: self.blocks.len(),
            nodes: self.blocks.last().map_or(0, |block| block.nodes.len()),
            scopes: self.scopes.len(),
            refused: self.refused.len(),
            values: self.facts.len(),
        }
    }

    /// Takes back the nodes, names and refusals since the mark. Values stay, which nothing computes or reads.
    pub fn rewind(&mut self, mark: &Mark) {
        self.blocks.truncate(mark.blocks);
        if let Some(block) = self.blocks.last_mut() {
            block.nodes.truncate(mark.nodes);
        }
        self.scopes.truncate(mark.scopes);
        self.refused.truncate(mark.refused);
        self.forget_inner(mark);
    }

    /// Forgets what stands for what by values computed since the mark: outside the block that computes them they are not there.
    pub fn forget_inner(&mut self, mark: &Mark) {
        let outer = |id: ValueId| (id as usize) < mark.values;
        self.grids.retain(|id, grid| outer(*id) && outer(grid.real));
        self.plain.retain(|id, plain| outer(*id) && outer(*plain));
    }

    /// An empty graph; stored arrays are read from `files`.
    pub fn new(files: &'m Files, frame: Frame<'m>) -> Ctx<'m> {
        Ctx {
            frame,
            functions: HashMap::new(),
            expanded: 0,
            most_values: usize::MAX,
            most_turns: None,
            tables: 0,
            model: Model::default(),
            blocks: vec![Block::default()],
            refused: Vec::new(),
            facts: Vec::new(),
            makers: Makers::default(),
            scopes: Vec::new(),
            stored: Vec::new(),
            slots: HashMap::new(),
            weights: HashMap::new(),
            grids: HashMap::new(),
            plain: HashMap::new(),
            names: HashMap::new(),
            files,
        }
    }

    /// Makes room for so many nodes with a result each: lists that grow by themselves end with room for a third more.
    pub fn reserve(&mut self, nodes: usize) {
        self.facts.reserve_exact(nodes);
        self.model.graph.values.reserve_exact(nodes);
        if let Some(block) = self.blocks.last_mut() {
            block.nodes.reserve_exact(nodes);
        }
    }

    /// Opens a scope.
    pub fn open(&mut self, sealed: bool) {
        self.scopes.push(Scope { names: HashMap::new(), sealed });
    }

    /// Closes the innermost scope.
    pub fn close(&mut self) {
        self.scopes.pop();
    }

    /// What `name` stands for here.
    pub fn find(&self, name: &str) -> Option<Binding> {
        for scope in self.scopes.iter().rev() {
            if let Some(binding) = scope.names.get(name) {
                return Some(*binding);
            }
            if scope.sealed {
                return None;
            }
        }
        None
    }

    /// Binds a name in the innermost scope.
    ///
    /// # Errors
    /// [`ImportError::DuplicateValue`] when the scope has it already.
    pub fn bind(&mut self, name: &'m str, binding: Binding, by: &str) -> Result<(), ImportError> {
        let Some(scope) = self.scopes.last_mut() else { return Ok(()) };
        if scope.names.insert(name, binding).is_some() {
            return Err(ImportError::DuplicateValue { value: name.to_owned(), node: by.to_owned() });
        }
        Ok(())
    }

    /// Binds a stored array, to be read when an operator asks for it.
    pub fn bind_stored(
        &mut self,
        name: &'m str,
        tensor: &'m TensorProto,
        by: &str,
    ) -> Result<(), ImportError> {
        tensors::dims(tensor)?;
        // The body of a loop is read once for each of its turns.
        let slot = *self.slots.entry(std::ptr::from_ref(tensor)).or_insert(self.stored.len());
        if slot == self.stored.len() {
            self.stored.push(Stored { tensor, value: None });
        }
        self.bind(name, Binding::Stored(slot), by)
    }

    /// The value behind a binding; a stored array becomes a constant now.
    pub fn value_of(&mut self, binding: Binding) -> Result<Option<ValueId>, ImportError> {
        let slot = match binding {
            Binding::Absent => return Ok(None),
            Binding::Value(id) => return Ok(Some(id)),
            Binding::Stored(slot) => slot,
        };
        if let Some(id) = self.stored[slot].value {
            return Ok(Some(id));
        }
        let tensor = self.stored[slot].tensor;
        let array = wide::array(tensors::read(tensor, self.files)?);
        let id = self.constant(&tensor.name, self.files.own(&tensor.name, array)?);
        self.facts[id as usize].four_bits = tensors::four_bits(tensor.data_type);
        self.stored[slot].value = Some(id);
        Ok(Some(id))
    }

    fn binding(&self, node: &NodeView<'m>, i: usize) -> Option<Binding> {
        node.input(i).and_then(|name| self.find(name)).filter(|b| !matches!(b, Binding::Absent))
    }

    /// What is known of a value.
    pub fn fact(&self, id: ValueId) -> &Fact {
        &self.facts[id as usize]
    }

    /// The rank, which the operator cannot do without.
    pub fn rank(&self, id: ValueId) -> Result<usize, OpError> {
        match self.fact(id).rank() {
            Some(rank) => Ok(rank),
            None => unknown(format!("the rank of `{}`", self.model.graph.name(id))),
        }
    }

    /// The axis counted from the start where the rank is known, else as it is.
    pub fn axis(&self, id: ValueId, axis: i64) -> Result<i32, OpError> {
        let Some(rank) = self.fact(id).rank() else { return super::node::axis(axis) };
        match normalize(axis, rank) {
            Some(axis) => Ok(axis as i32),
            None => malformed(format!("axis {axis} of {rank} dimensions")),
        }
    }

    /// [`Ctx::axis`] of several; no two may be the same.
    pub fn axes(&self, id: ValueId, axes: &[i64]) -> Result<Vec<i32>, OpError> {
        let axes: Vec<i32> = axes.iter().map(|a| self.axis(id, *a)).collect::<Result<_, _>>()?;
        let distinct: HashSet<i32> = axes.iter().copied().collect();
        if distinct.len() != axes.len() {
            return malformed(format!("axes {axes:?} repeat one"));
        }
        Ok(axes)
    }
}
