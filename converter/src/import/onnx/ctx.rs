//! The graph under construction, as the operators see it: names to values, values to facts, nodes emitted in order.

use super::node::{NodeView, OpError, malformed, unknown};
use super::proto::{AttributeProto, FunctionProto, TensorProto};
use super::ranks::{Element, Fact, MAX_ELEMENTS, Operands, infer, normalize};
use super::tensors;
use crate::import::{ImportError, Unsupported};
use crate::model::{Array, Model};
use edge_runtime::graph::{Block, DType, Node, Op, Source, ValueId};
use std::collections::{HashMap, HashSet};
use std::path::Path;

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

/// The graph under construction.
pub struct Ctx<'m> {
    /// What is built; its own block is filled at the end.
    pub model: Model,
    /// The open blocks, innermost last.
    pub blocks: Vec<Block>,
    /// Everything refused so far.
    pub refused: Vec<Unsupported>,
    facts: Vec<Fact>,
    scopes: Vec<Scope<'m>>,
    stored: Vec<Stored<'m>>,
    weights: HashMap<(usize, String), ValueId>,
    /// The names of values, with how often each was asked for.
    names: HashMap<String, usize>,
    base: Option<&'m Path>,
    /// What the nodes being read belong to.
    pub frame: Frame<'m>,
    /// The model's own functions, by domain, name and overload.
    pub functions: HashMap<(&'m str, &'m str, &'m str), &'m FunctionProto>,
    /// Nodes read so far, functions expanded.
    pub expanded: usize,
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

impl<'m> Ctx<'m> {
    /// An empty graph; `base` is the folder for external data.
    pub fn new(base: Option<&'m Path>, frame: Frame<'m>) -> Ctx<'m> {
        Ctx {
            frame,
            functions: HashMap::new(),
            expanded: 0,
            model: Model::default(),
            blocks: vec![Block::default()],
            refused: Vec::new(),
            facts: Vec::new(),
            scopes: Vec::new(),
            stored: Vec::new(),
            weights: HashMap::new(),
            names: HashMap::new(),
            base,
        }
    }

    // ---- names

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
        self.stored.push(Stored { tensor, value: None });
        self.bind(name, Binding::Stored(self.stored.len() - 1), by)
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
        let id = self.constant(&tensor.name, tensors::read(tensor, self.base)?);
        self.stored[slot].value = Some(id);
        Ok(Some(id))
    }

    fn binding(&self, node: &NodeView<'m>, i: usize) -> Option<Binding> {
        node.input(i).and_then(|name| self.find(name)).filter(|b| !matches!(b, Binding::Absent))
    }

    // ---- operands

    /// Operand `i`, if it is given.
    pub fn optional(&mut self, node: &NodeView<'m>, i: usize) -> Result<Option<ValueId>, OpError> {
        match self.binding(node, i) {
            Some(binding) => Ok(self.value_of(binding)?),
            None => Ok(None),
        }
    }

    /// Operand `i`.
    pub fn operand(&mut self, node: &NodeView<'m>, i: usize) -> Result<ValueId, OpError> {
        match self.optional(node, i)? {
            Some(id) => Ok(id),
            None => malformed(format!("operand {i} is missing")),
        }
    }

    /// The array behind operand `i`, if it is stored. It does not become a constant of the graph by this.
    pub fn array(&self, node: &NodeView<'m>, i: usize) -> Result<Option<Array>, OpError> {
        Ok(match self.binding(node, i) {
            Some(Binding::Stored(slot)) => {
                let stored = &self.stored[slot];
                match stored.value.and_then(|id| self.model.constant(id)) {
                    Some(array) => Some(array.clone()),
                    None => Some(tensors::read(stored.tensor, self.base)?),
                }
            }
            Some(Binding::Value(id)) => self.model.constant(id).cloned(),
            _ => None,
        })
    }

    /// The shape of operand `i` if it is stored, without reading it.
    pub fn stored_dims(&self, node: &NodeView<'m>, i: usize) -> Result<Option<Vec<usize>>, OpError> {
        Ok(match self.binding(node, i) {
            Some(Binding::Stored(slot)) => Some(tensors::dims(self.stored[slot].tensor)?),
            Some(Binding::Value(id)) => self.model.constant(id).map(|a| a.dims.clone()),
            _ => None,
        })
    }

    /// The element type of operand `i`, if known, without reading it.
    pub fn operand_dtype(&self, node: &NodeView<'m>, i: usize) -> Option<DType> {
        match self.binding(node, i)? {
            Binding::Stored(slot) => tensors::dtype(self.stored[slot].tensor.data_type).ok(),
            Binding::Value(id) => self.fact(id).dtype,
            Binding::Absent => None,
        }
    }

    /// Operand `i` in another layout, made once however many nodes use it so; `layout` names the layout with its parameters.
    /// `None` when the operand is not stored.
    pub fn relaid(
        &mut self,
        node: &NodeView<'m>,
        i: usize,
        layout: String,
        make: impl FnOnce(&Array) -> Result<Array, OpError>,
    ) -> Result<Option<ValueId>, OpError> {
        let slot = match self.binding(node, i) {
            Some(Binding::Stored(slot)) => Some(slot),
            _ => None,
        };
        let key = slot.map(|slot| (slot, layout));
        if let Some(id) = key.as_ref().and_then(|k| self.weights.get(k)) {
            return Ok(Some(*id));
        }
        let Some(array) = self.array(node, i)? else { return Ok(None) };
        let made = make(&array)?;
        let id = self.constant(node.input(i).unwrap_or(""), made);
        if let Some(key) = key {
            self.weights.insert(key, id);
        }
        Ok(Some(id))
    }

    /// The integers of operand `i`, when every one is known at import: stored, or shape arithmetic on known sizes.
    pub fn known(&mut self, node: &NodeView<'m>, i: usize) -> Result<Option<Vec<i64>>, OpError> {
        if self.stored_dims(node, i)?.is_some() {
            return Ok(self.array(node, i)?.and_then(|a| tensors::integers(&a)));
        }
        Ok(self.optional(node, i)?.and_then(|id| self.fact(id).known()))
    }

    /// Operand `i`, a vector of sizes or positions, as `i64`.
    pub fn indices(&mut self, node: &NodeView<'m>, i: usize) -> Result<ValueId, OpError> {
        let id = self.operand(node, i)?;
        match self.fact(id).dtype {
            None | Some(DType::I64) => Ok(id),
            Some(_) => match self.model.constant(id).map(|a| (a.dims.clone(), tensors::integers(a))) {
                Some((_, None)) => malformed(format!("operand {i} holds no integers")),
                Some((dims, Some(values))) => {
                    let name = self.model.graph.name(id).to_owned();
                    Ok(self.constant(&name, Array::i64(&dims, &values)))
                }
                None => Ok(self.emit(node, Op::Cast { to: DType::I64 }, &[Some(id)])),
            },
        }
    }

    /// What is known of a stored array that has not been read.
    pub fn stored_fact(&self, slot: usize) -> Fact {
        let tensor = self.stored[slot].tensor;
        let dims = tensors::dims(tensor).ok().map(|dims| dims.into_iter().map(Some).collect());
        Fact::new(tensors::dtype(tensor.data_type).ok(), dims)
    }

    /// Whether the innermost scope defines `name`.
    pub fn bound_here(&self, name: &str) -> bool {
        self.scopes.last().is_some_and(|s| s.names.contains_key(name))
    }

    // ---- facts

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

    // ---- results

    fn unique(&mut self, name: &str) -> String {
        let Some(&asked) = self.names.get(name) else {
            self.names.insert(name.to_owned(), 1);
            return name.to_owned();
        };
        let mut number = asked;
        let unique = loop {
            number += 1;
            let candidate = format!("{name}#{number}");
            if !self.names.contains_key(&candidate) {
                break candidate;
            }
        };
        self.names.insert(name.to_owned(), number);
        self.names.insert(unique.clone(), 1);
        unique
    }

    /// A new computed value.
    pub fn value(&mut self, name: &str, fact: Fact) -> ValueId {
        let name = self.unique(name);
        self.facts.push(fact);
        self.model.graph.add_value(name, Source::Computed)
    }

    /// A new constant.
    pub fn constant(&mut self, name: &str, array: Array) -> ValueId {
        let dims: Vec<Option<usize>> = array.dims.iter().map(|d| Some(*d)).collect();
        let mut fact = Fact::new(Some(array.dtype), Some(dims));
        if array.dims.len() <= 1 && array.elements() <= MAX_ELEMENTS {
            fact.elements = tensors::integers(&array).map(|v| v.into_iter().map(Element::Known).collect());
        }
        let name = self.unique(name);
        self.facts.push(fact);
        self.model.add_constant(name, array)
    }

    /// A constant vector of `i64`.
    pub fn vector(&mut self, node: &NodeView<'m>, values: &[i64]) -> ValueId {
        self.constant(&format!("{}/sizes", node.name), Array::i64(&[values.len()], values))
    }

    /// Appends a node with one result.
    pub fn emit(&mut self, node: &NodeView<'m>, op: Op, inputs: &[Option<ValueId>]) -> ValueId {
        let fact = self.facts_of(&op, inputs, 1).pop().unwrap_or_default();
        let id = self.value(&format!("{}/{}", node.name, tag(&op)), fact);
        self.push(node, op, inputs.to_vec(), vec![Some(id)]);
        id
    }

    /// Appends a node whose results are `node`'s own, in order, and binds them.
    pub fn emit_results(
        &mut self,
        node: &NodeView<'m>,
        op: Op,
        inputs: &[Option<ValueId>],
    ) -> Result<(), OpError> {
        let count = node.proto.output.len();
        let facts = self.facts_of(&op, inputs, count);
        let mut outputs = Vec::with_capacity(count);
        for (i, fact) in facts.into_iter().enumerate() {
            outputs.push(match node.output(i) {
                Some(name) => Some(self.value(name, fact)),
                None => None,
            });
        }
        self.push(node, op, inputs.to_vec(), outputs.clone());
        for (i, id) in outputs.into_iter().enumerate() {
            if let (Some(name), Some(id)) = (node.output(i), id) {
                self.bind(name, Binding::Value(id), &node.name)?;
            }
        }
        Ok(())
    }

    /// Appends a node with several results.
    pub fn emit_many(
        &mut self,
        node: &NodeView<'m>,
        op: Op,
        inputs: &[Option<ValueId>],
        count: usize,
    ) -> Vec<ValueId> {
        let facts = self.facts_of(&op, inputs, count);
        let name = format!("{}/{}", node.name, tag(&op));
        let ids: Vec<ValueId> = facts.into_iter().map(|fact| self.value(&name, fact)).collect();
        self.push(node, op, inputs.to_vec(), ids.iter().copied().map(Some).collect());
        ids
    }

    /// Appends a node as it is.
    pub fn push(
        &mut self,
        node: &NodeView<'m>,
        op: Op,
        inputs: Vec<Option<ValueId>>,
        outputs: Vec<Option<ValueId>>,
    ) {
        if let Some(block) = self.blocks.last_mut() {
            block.nodes.push(Node { name: node.name.clone(), op, inputs, outputs });
        }
    }

    fn facts_of(&self, op: &Op, inputs: &[Option<ValueId>], outputs: usize) -> Vec<Fact> {
        let facts: Vec<Option<&Fact>> = inputs.iter().map(|i| i.map(|i| self.fact(i))).collect();
        infer(op, &Operands { facts: &facts, ids: inputs }, outputs)
    }

    /// Makes `id` the node's result `i`. The value takes the result's name unless something else bears it already.
    pub fn set(&mut self, node: &NodeView<'m>, i: usize, id: ValueId) -> Result<(), OpError> {
        let Some(name) = node.output(i) else { return Ok(()) };
        let made_here =
            self.blocks.last().and_then(|b| b.nodes.last()).is_some_and(|n| n.outputs.contains(&Some(id)));
        if made_here && !self.names.contains_key(name) {
            self.names.insert(name.to_owned(), 1);
            self.model.graph.values[id as usize].name = name.to_owned();
        }
        Ok(self.bind(name, Binding::Value(id), &node.name)?)
    }

    /// Makes the node's first result another name of its first operand.
    pub fn alias(&mut self, node: &NodeView<'m>) -> Result<(), OpError> {
        match (self.binding(node, 0), node.output(0)) {
            (Some(binding), Some(name)) => Ok(self.bind(name, binding, &node.name)?),
            (None, _) => malformed("operand 0 is missing"),
            (_, None) => Ok(()),
        }
    }

    /// One operand, one result.
    pub fn map(&mut self, node: &NodeView<'m>, op: Op) -> Result<(), OpError> {
        let x = self.operand(node, 0)?;
        let y = self.emit(node, op, &[Some(x)]);
        self.set(node, 0, y)
    }

    // ---- layouts

    /// Appends a transposition.
    pub fn transpose(&mut self, node: &NodeView<'m>, x: ValueId, perm: &[usize]) -> ValueId {
        self.emit(node, Op::Transpose { perm: perm.to_vec() }, &[Some(x)])
    }

    /// `[N, C, ..]` to `[N, .., C]`.
    pub fn channels_last(&mut self, node: &NodeView<'m>, x: ValueId, rank: usize) -> ValueId {
        let perm: Vec<usize> = [0].into_iter().chain(2..rank).chain([1]).collect();
        self.transpose(node, x, &perm)
    }

    /// `[N, .., C]` to `[N, C, ..]`.
    pub fn channels_first(&mut self, node: &NodeView<'m>, x: ValueId, rank: usize) -> ValueId {
        let perm: Vec<usize> = [0, rank - 1].into_iter().chain(1..rank - 1).collect();
        self.transpose(node, x, &perm)
    }

    /// Operand 0 of a spatial operator with its rank, 3 or 4. Where the rank could not be inferred it is `told`: what another operand
    /// or an attribute says it must be.
    pub fn spatial(&mut self, node: &NodeView<'m>, told: Option<usize>) -> Result<(ValueId, usize), OpError> {
        let x = self.operand(node, 0)?;
        if let (None, Some(rank)) = (self.fact(x).rank(), told) {
            self.facts[x as usize].dims = Some(vec![None; rank]);
        }
        match self.rank(x)? {
            rank @ (3 | 4) => Ok((x, rank)),
            rank if rank > 4 => {
                super::node::unsupported(format!("{} spatial dimensions are not implemented", rank - 2))
            }
            rank => malformed(format!("an operand of rank {rank} has no spatial dimensions")),
        }
    }
}

/// The operation's name, for the names of values that the source model has none for.
fn tag(op: &Op) -> String {
    let text = format!("{op:?}");
    text.chars().take_while(char::is_ascii_alphanumeric).collect::<String>().to_ascii_lowercase()
}
