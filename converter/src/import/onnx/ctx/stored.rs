//! Stored integers as reals: what exporters write with a cast, a difference and a product becomes an array that knows its integers.

use super::Ctx;
use crate::import::onnx::ranks::MAX_ELEMENTS;
use crate::import::onnx::tensors::integers;
use crate::integers::Integers;
use crate::model::Array;
use crate::simplify::evaluate;
use edge_runtime::graph::{BinaryOp, DType, Op, Source, ValueId};
use std::sync::Arc;

/// Codes of stored integers of 8 bits, or of 4; unsigned ones less half their range.
pub fn codes(array: &Array, four_bits: bool) -> Option<Vec<i8>> {
    let half = match (array.dtype, four_bits) {
        (DType::I8, _) => 0,
        (DType::U8, true) => 8,
        (DType::U8, false) => 128,
        _ => return None,
    };
    Some(integers(array)?.into_iter().map(|code| (code - half) as i8).collect())
}

impl Ctx<'_> {
    /// A new constant of reals that are made of integers.
    pub fn constant_of(&mut self, name: &str, integers: Integers) -> ValueId {
        let array = Array::f32(&integers.dims, &integers.reals());
        let id = self.constant(name, array);
        self.keep_integers(id, integers);
        id
    }

    /// Says what a constant was made of.
    pub fn keep_integers(&mut self, id: ValueId, integers: Integers) {
        if let Source::Constant(constant) = self.model.graph.values[id as usize].source
            && integers.is_sound()
        {
            self.model.integers.insert(constant, Arc::new(integers));
        }
    }

    /// What a constant was made of.
    pub fn integers_of(&self, id: ValueId) -> Option<&Arc<Integers>> {
        match self.model.graph.values[id as usize].source {
            Source::Constant(constant) => self.model.integers.get(&constant),
            _ => None,
        }
    }

    /// The result of an operation that makes reals of stored integers, or moves such reals.
    pub(super) fn of_integers(&self, op: &Op, inputs: &[Option<ValueId>]) -> Option<Integers> {
        let x = inputs.first().copied().flatten()?;
        if *op == Op::Binary(BinaryOp::Mul) {
            let y = inputs.get(1).copied().flatten()?;
            return self.times(x, y).or_else(|| self.times(y, x));
        }
        let array = self.model.constant(x).filter(|array| array.elements() > MAX_ELEMENTS)?;
        match op {
            Op::Cast { to: DType::F32 } => {
                let four_bits = self.fact(x).four_bits;
                let codes = codes(array, four_bits)?;
                let zeros = match array.dtype {
                    DType::U8 => vec![if four_bits { -8 } else { -128 }],
                    _ => Vec::new(),
                };
                let (dims, blocks) = (array.dims.clone(), array.dims.clone());
                let bits = if four_bits { 4 } else { 8 };
                Some(Integers { bits, codes, scales: vec![1.0], zeros, dims, blocks })
            }
            Op::Binary(BinaryOp::Sub) => self.less(x, inputs.get(1).copied().flatten()?),
            Op::Transpose { perm } if array.dims.len() != 2 => {
                let reversed: Vec<usize> = (0..array.dims.len()).rev().collect();
                self.integers_of(x)?.permuted(if perm.is_empty() { &reversed } else { perm })
            }
            Op::Transpose { .. } | Op::Reshape { .. } | Op::Flatten { .. } => {
                let own = self.integers_of(x)?;
                let others: Vec<Option<&Array>> =
                    inputs[1..].iter().map(|id| id.and_then(|id| self.model.constant(id))).collect();
                let made = |x: &Array| {
                    let all: Vec<Option<&Array>> = [Some(x)].into_iter().chain(others.clone()).collect();
                    evaluate(op, &all, 1).and_then(|mut made| made.pop()).ok_or(())
                };
                own.moved(&made(array).ok()?, made)
            }
            _ => None,
        }
    }

    /// How the groups of a parameter lie along an array that it broadcasts to.
    fn blocks(dims: &[usize], parameter: &[usize]) -> Option<Vec<usize>> {
        let missing = dims.len().checked_sub(parameter.len())?;
        let block = |(i, dim): (usize, &usize)| match i.checked_sub(missing).map(|i| parameter[i]) {
            None | Some(1) => Some(*dim),
            Some(size) if size == *dim => Some(1),
            Some(_) => None,
        };
        dims.iter().enumerate().map(block).collect()
    }

    /// Plain integers less their zero points.
    fn less(&self, x: ValueId, zero: ValueId) -> Option<Integers> {
        let own = self.integers_of(x).filter(|own| own.scales == [1.0])?;
        let parameter = self.model.constant(zero)?;
        let blocks = Self::blocks(&own.dims, &parameter.dims)?;
        let already = own.zeros.first().copied().map_or(0.0, f32::from);
        let (least, most) = (-(1 << (own.bits - 1)) as f32, ((1 << (own.bits - 1)) - 1) as f32);
        let zero = |zero: f32| {
            let zero = zero + already;
            (zero.fract() == 0.0 && (least..=most).contains(&zero)).then_some(zero as i8)
        };
        let zeros = parameter.as_f32()?.into_iter().map(zero).collect::<Option<Vec<i8>>>()?;
        Some(Integers { scales: vec![1.0; zeros.len()], zeros, blocks, ..Integers::clone(own) })
    }

    /// Integers times their scales.
    fn times(&self, x: ValueId, scale: ValueId) -> Option<Integers> {
        let own = self.integers_of(x).filter(|own| own.scales.iter().all(|scale| *scale == 1.0))?;
        let parameter = self.model.constant(scale)?;
        let (blocks, scales) = (Self::blocks(&own.dims, &parameter.dims)?, parameter.as_f32()?);
        let zeros = match own.zeros.len() {
            1 => own.zeros.repeat(scales.len()),
            0 => Vec::new(),
            _ if own.blocks == blocks => own.zeros.clone(),
            // One scale, and more zero points.
            _ if scales.len() == 1 => {
                let scales = scales.repeat(own.zeros.len());
                return Some(Integers { scales, ..Integers::clone(own) });
            }
            _ => return None,
        };
        Some(Integers { scales, zeros, blocks, ..Integers::clone(own) })
    }
}
