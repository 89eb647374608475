//! What an operator writes: constants, nodes, and its results under their names.

use super::{Binding, Ctx};
use crate::import::onnx::node::{NodeView, OpError, malformed, unsupported};
use crate::import::onnx::ranks::{Element, Extent, Fact, MAX_ELEMENTS, Operands, infer, of_floats};
use crate::import::onnx::tensors;
use crate::import::onnx::wide;
use crate::model::Array;
use crate::simplify::evaluate;
use edge_runtime::graph::{DType, Node, Op, Source, ValueId};

/// Bytes that making all tables of a model may take.
const MAX_TABLES: usize = 48 << 20;

impl<'m> Ctx<'m> {
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
        let array = wide::array(array);
        // What no memory is left for stays in the file.
        let array = self.files.own(name, array.clone()).unwrap_or(array);
        self.matrix(name, array)
    }

    /// A new constant that a product or a table's rows read: floats of 16 bits stay as they are.
    pub fn matrix(&mut self, name: &str, array: Array) -> ValueId {
        let dims: Vec<Option<usize>> = array.dims.iter().map(|d| Some(*d)).collect();
        let mut fact = Fact::new(Some(array.dtype), Some(dims));
        if array.dims.len() <= 1 && array.elements() <= MAX_ELEMENTS {
            fact.elements = match tensors::integers(&array) {
                Some(values) => Some(values.into_iter().map(Element::Known).collect()),
                None => array.as_f32().and_then(|values| of_floats(&values)),
            };
        }
        let name = self.unique(name);
        self.facts.push(fact);
        self.model.add_constant(name, array)
    }

    /// Asks for `count` entries of a table that no stored array is the source of, each of which takes `bytes` while it is made: a few
    /// numbers of a small file may ask for any of them.
    ///
    /// # Errors
    /// When the model's tables would take more than [`MAX_TABLES`] in all.
    pub fn table(&mut self, count: Option<usize>, bytes: usize) -> Result<(), OpError> {
        let needs = count.and_then(|count| count.checked_mul(bytes)).and_then(|n| n.checked_add(self.tables));
        match needs.filter(|needs| *needs <= MAX_TABLES) {
            Some(needs) => {
                self.tables = needs;
                Ok(())
            }
            None => {
                let entries = count.map_or_else(|| "too many".into(), |count| count.to_string());
                unsupported(format!(
                    "a table of {entries} entries is not implemented: a model's take {MAX_TABLES} bytes"
                ))
            }
        }
    }

    /// A constant vector of `i64`.
    pub fn vector(&mut self, node: &NodeView<'m>, values: &[i64]) -> ValueId {
        self.constant(&format!("{}/sizes", node.name), Array::i64(&[values.len()], values))
    }

    /// Says which part of a value a run fills.
    pub fn mark_part(&mut self, id: ValueId, axis: usize, count: ValueId) {
        self.facts[id as usize].extent = Extent::Part { axis, count };
    }

    /// Says that what is known of a value is no news: the node that computes it is refused.
    pub fn mark_refused(&mut self, id: ValueId) {
        let fact = &mut self.facts[id as usize];
        (fact.tainted, fact.extent) = (true, Extent::Whole);
    }

    /// Says that a cast rounds the elements of a value to this type, which is left to whoever casts them back.
    pub fn mark_rounded(&mut self, id: ValueId, to: DType) {
        self.facts[id as usize].rounded = Some(to);
    }

    /// Says that the elements of a value, bytes, stand for integers of 4 bits.
    pub fn mark_four_bits(&mut self, id: ValueId) {
        self.facts[id as usize].four_bits = true;
    }

    /// The result of an operation on a few constants: sizes, counts and bounds that an exporter computes from numbers. `Identity` is
    /// left, for outputs need a node.
    fn folded(&self, op: &Op, inputs: &[Option<ValueId>]) -> Option<Array> {
        if inputs.is_empty() || *op == Op::Identity {
            return None;
        }
        let one = |id: &Option<ValueId>| match id {
            None => Some(None),
            Some(id) => {
                self.model.constant(*id).filter(|a| a.elements() <= MAX_ELEMENTS && !self.fact(*id).four_bits)
            }
            .map(Some),
        };
        let inputs: Vec<Option<&Array>> = inputs.iter().map(one).collect::<Option<_>>()?;
        evaluate(op, &inputs, 1)?.pop().filter(|a| a.elements() <= MAX_ELEMENTS)
    }

    /// Appends a node with one result; of a few constants it becomes a constant itself. What would have floats of 16 bits has floats of 32.
    pub fn emit(&mut self, node: &NodeView<'m>, op: Op, inputs: &[Option<ValueId>]) -> ValueId {
        let op = wide::op(op);
        if let (Op::Cast { to }, [Some(x)]) = (&op, inputs)
            && self.fact(*x).dtype == Some(*to)
        {
            return *x;
        }
        self.emit_as_it_is(node, op, inputs)
    }

    /// The value in floats of 16 bits, as an output has them.
    pub fn narrowed(&mut self, node: &NodeView<'m>, x: ValueId, to: DType) -> ValueId {
        self.emit_as_it_is(node, Op::Cast { to }, &[Some(x)])
    }

    /// The value rounded to floats of 16 bits, and in floats of 32 again.
    pub fn rounded(&mut self, node: &NodeView<'m>, x: ValueId, to: DType) -> ValueId {
        let narrow = self.narrowed(node, x, to);
        self.emit_as_it_is(node, Op::Cast { to: DType::F32 }, &[Some(narrow)])
    }

    fn emit_as_it_is(&mut self, node: &NodeView<'m>, op: Op, inputs: &[Option<ValueId>]) -> ValueId {
        if let Some(array) = self.folded(&op, inputs) {
            return self.matrix(&format!("{}/{}", node.name, tag(&op)), array);
        }
        if let Some(integers) = self.of_integers(&op, inputs) {
            return self.constant_of(&format!("{}/{}", node.name, tag(&op)), integers);
        }
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
            outputs.push(node.output(i).map(|name| self.value(name, fact)));
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
        self.note_results(&op, &inputs, &outputs);
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

    /// Operand 0 of a spatial operator with its rank, 3 or 4. Where the rank could not be inferred it is `told`: what
    /// another operand or an attribute says it must be. (It is no fact of the value: another branch may see another rank.)
    pub fn spatial(&mut self, node: &NodeView<'m>, told: Option<usize>) -> Result<(ValueId, usize), OpError> {
        let x = self.operand(node, 0)?;
        let rank = match self.fact(x).rank().or(told) {
            Some(rank) => rank,
            None => self.rank(x)?,
        };
        match rank {
            3 | 4 => Ok((x, rank)),
            5.. => unsupported(format!("{} spatial dimensions are not implemented", rank - 2)),
            _ => malformed(format!("an operand of rank {rank} has no spatial dimensions")),
        }
    }
}

/// The operation's name, for the names of values that the source model has none for.
fn tag(op: &Op) -> String {
    let text = format!("{op:?}");
    text.chars().take_while(char::is_ascii_alphanumeric).collect::<String>().to_ascii_lowercase()
}
