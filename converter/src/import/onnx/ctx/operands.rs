//! What an operator reads: its operands as values, as stored arrays, and in other layouts.

use super::{Binding, Ctx};
use crate::import::onnx::node::{NodeView, OpError, malformed};
use crate::import::onnx::ranks::Fact;
use crate::import::onnx::tensors;
use crate::import::onnx::wide;
use crate::model::Array;
use edge_runtime::graph::{DType, Op, ValueId};

impl<'m> Ctx<'m> {
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

    /// The array behind operand `i`, if it is stored, as it is stored. It does not become a constant of the graph by this.
    pub fn array(&self, node: &NodeView<'m>, i: usize) -> Result<Option<Array>, OpError> {
        Ok(match self.binding(node, i) {
            Some(Binding::Stored(slot)) => {
                let stored = &self.stored[slot];
                match stored.value.and_then(|id| self.model.constant(id)) {
                    Some(array) => Some(array.clone()),
                    None => Some(tensors::read(stored.tensor, self.files)?),
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
            Binding::Stored(slot) => tensors::dtype(self.stored[slot].tensor.data_type).ok().map(wide::dtype),
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
        make: impl Fn(&Array) -> Result<Array, OpError>,
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
        let name = node.input(i).unwrap_or("");
        let made = make(&array)?;
        let own = match self.binding(node, i) {
            Some(Binding::Value(id)) => self.integers_of(id).cloned(),
            _ => None,
        };
        let integers = own.and_then(|own| own.moved(&made, make));
        let made = self.files.own(name, made)?;
        self.files.release(&array.data);
        let id = self.matrix(name, made);
        if let Some(integers) = integers {
            self.keep_integers(id, integers);
        }
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

    /// A boolean, when it is known at import.
    pub fn truth_of(&self, id: ValueId) -> Option<bool> {
        match self.fact(id).known().as_deref() {
            Some([value]) => Some(*value != 0),
            _ => None,
        }
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

    /// What a cast of the model rounds operand `i` to, if nothing has done it yet.
    pub fn rounded_to(&self, node: &NodeView<'m>, i: usize) -> Option<DType> {
        match self.binding(node, i)? {
            Binding::Value(id) => self.fact(id).rounded,
            _ => None,
        }
    }

    /// Whether operand `i` is stored in floats of 16 bits.
    pub fn is_stored_narrow(&self, node: &NodeView<'m>, i: usize) -> bool {
        match self.binding(node, i) {
            Some(Binding::Stored(slot)) => {
                tensors::dtype(self.stored[slot].tensor.data_type).is_ok_and(wide::is_narrow)
            }
            _ => false,
        }
    }

    /// The element type of operand `i` where it is stored in one that the graph has not.
    pub fn foreign_dtype(&self, node: &NodeView<'m>, i: usize) -> Option<String> {
        match self.binding(node, i)? {
            Binding::Stored(slot) => tensors::dtype(self.stored[slot].tensor.data_type).err(),
            _ => None,
        }
    }

    /// What is known of a stored array that has not been read.
    pub fn stored_fact(&self, slot: usize) -> Fact {
        let tensor = self.stored[slot].tensor;
        let dims = tensors::dims(tensor).ok().map(|dims| dims.into_iter().map(Some).collect());
        let four_bits = tensors::four_bits(tensor.data_type);
        Fact { four_bits, ..Fact::new(tensors::dtype(tensor.data_type).ok().map(wide::dtype), dims) }
    }

    /// Whether operand `i` stands for integers of 4 bits.
    pub fn four_bits(&self, node: &NodeView<'m>, i: usize) -> bool {
        match self.binding(node, i) {
            Some(Binding::Stored(slot)) => tensors::four_bits(self.stored[slot].tensor.data_type),
            Some(Binding::Value(id)) => self.fact(id).four_bits,
            _ => false,
        }
    }

    /// Whether the innermost scope defines `name`.
    pub fn bound_here(&self, name: &str) -> bool {
        self.scopes.last().is_some_and(|s| s.names.contains_key(name))
    }
}
