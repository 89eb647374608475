//! Arithmetic as an operator's definition writes it: each call appends one operation.
//!
//! Definitions are written on `f32` and `i64` values; constants that stand in them have one of these types.

use super::Ctx;
use crate::import::onnx::node::NodeView;
use crate::model::Array;
use edge_runtime::graph::{BinaryOp, DType, Op, ReduceOp, UnaryOp, ValueId};

/// Writes a node's definition.
pub struct Formula<'a, 'm> {
    /// The graph.
    pub ctx: &'a mut Ctx<'m>,
    /// The node that is being lowered.
    pub node: &'a NodeView<'m>,
}

impl<'m> Ctx<'m> {
    /// A formula of `node`.
    pub fn formula<'a>(&'a mut self, node: &'a NodeView<'m>) -> Formula<'a, 'm> {
        Formula { ctx: self, node }
    }
}

impl Formula<'_, '_> {
    /// Any operation with one result.
    pub fn op(&mut self, op: Op, operands: &[ValueId]) -> ValueId {
        let operands: Vec<Option<ValueId>> = operands.iter().copied().map(Some).collect();
        self.ctx.emit(self.node, op, &operands)
    }

    /// A real scalar.
    pub fn real(&mut self, value: f64) -> ValueId {
        let name = format!("{}/number", self.node.name);
        self.ctx.constant(&name, Array::f32(&[], &[value as f32]))
    }

    /// An integer scalar.
    pub fn integer(&mut self, value: i64) -> ValueId {
        let name = format!("{}/number", self.node.name);
        self.ctx.constant(&name, Array::i64(&[], &[value]))
    }

    /// A boolean scalar.
    pub fn truth(&mut self, value: bool) -> ValueId {
        let name = format!("{}/truth", self.node.name);
        let data = vec![u8::from(value)].into();
        self.ctx.constant(&name, Array { dtype: DType::Bool, dims: Vec::new(), data })
    }

    /// A constant of real numbers.
    pub fn reals(&mut self, dims: &[usize], values: &[f32]) -> ValueId {
        let name = format!("{}/table", self.node.name);
        self.ctx.constant(&name, Array::f32(dims, values))
    }

    /// A constant of integers as reals: of those that 16 bits hold, in as many.
    pub fn whole(&mut self, dims: &[usize], values: &[f32]) -> ValueId {
        let short = |v: f32| (v.abs() <= f32::from(i16::MAX)).then_some(v as i16);
        let Some(short) = values.iter().map(|v| short(*v)).collect::<Option<Vec<i16>>>() else {
            return self.reals(dims, values);
        };
        let name = format!("{}/table", self.node.name);
        let data = short.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>().into();
        let stored = self.ctx.constant(&name, Array { dtype: DType::I16, dims: dims.to_vec(), data });
        self.cast(stored, DType::F32)
    }

    /// A constant of integers.
    pub fn integers(&mut self, dims: &[usize], values: &[i64]) -> ValueId {
        let name = format!("{}/table", self.node.name);
        self.ctx.constant(&name, Array::i64(dims, values))
    }

    /// `a op b`.
    pub fn binary(&mut self, op: BinaryOp, a: ValueId, b: ValueId) -> ValueId {
        self.op(Op::Binary(op), &[a, b])
    }

    /// `a + b`.
    pub fn add(&mut self, a: ValueId, b: ValueId) -> ValueId {
        self.binary(BinaryOp::Add, a, b)
    }

    /// `a - b`.
    pub fn sub(&mut self, a: ValueId, b: ValueId) -> ValueId {
        self.binary(BinaryOp::Sub, a, b)
    }

    /// `a * b`.
    pub fn mul(&mut self, a: ValueId, b: ValueId) -> ValueId {
        self.binary(BinaryOp::Mul, a, b)
    }

    /// `a / b`.
    pub fn div(&mut self, a: ValueId, b: ValueId) -> ValueId {
        self.binary(BinaryOp::Div, a, b)
    }

    /// The greater of two.
    pub fn max(&mut self, a: ValueId, b: ValueId) -> ValueId {
        self.binary(BinaryOp::Max, a, b)
    }

    /// The lesser of two.
    pub fn min(&mut self, a: ValueId, b: ValueId) -> ValueId {
        self.binary(BinaryOp::Min, a, b)
    }

    /// `x + value`, real.
    pub fn plus(&mut self, x: ValueId, value: f64) -> ValueId {
        let value = self.real(value);
        self.add(x, value)
    }

    /// `x * value`, real.
    pub fn times(&mut self, x: ValueId, value: f64) -> ValueId {
        let value = self.real(value);
        self.mul(x, value)
    }

    /// `value - x`, real.
    pub fn minus_from(&mut self, value: f64, x: ValueId) -> ValueId {
        let value = self.real(value);
        self.sub(value, x)
    }

    /// `x` within `[lo, hi]`.
    pub fn clamp(&mut self, x: ValueId, lo: ValueId, hi: ValueId) -> ValueId {
        let x = self.max(x, lo);
        self.min(x, hi)
    }

    /// A function of each element.
    pub fn unary(&mut self, op: UnaryOp, x: ValueId) -> ValueId {
        self.op(Op::Unary(op), &[x])
    }

    /// `x` in another element type; `x` itself when it is known to have it.
    pub fn cast(&mut self, x: ValueId, to: DType) -> ValueId {
        if self.ctx.fact(x).dtype == Some(to) { x } else { self.op(Op::Cast { to }, &[x]) }
    }

    /// `x` in another shape: 0 copies a size, -1 is what remains.
    pub fn reshape(&mut self, x: ValueId, shape: &[i64]) -> ValueId {
        let shape = self.ctx.vector(self.node, shape);
        self.op(Op::Reshape { allow_zero: false }, &[x, shape])
    }

    /// `x` with dimensions of 1 at `axes` of the result.
    pub fn unsqueeze(&mut self, x: ValueId, axes: &[i32]) -> ValueId {
        self.op(Op::Unsqueeze { axes: axes.to_vec() }, &[x])
    }

    /// Entry `index` of an axis, which goes away.
    pub fn entry(&mut self, x: ValueId, axis: usize, index: i64) -> ValueId {
        let index = self.integer(index);
        self.op(Op::Gather { axis: axis as i32 }, &[x, index])
    }

    /// `x[start..end]` along an axis; ends count from the back when negative.
    pub fn slice(&mut self, x: ValueId, axis: i32, start: i64, end: i64) -> ValueId {
        let (start, end) = (self.ctx.vector(self.node, &[start]), self.ctx.vector(self.node, &[end]));
        self.op(Op::Slice { axes: vec![axis] }, &[x, start, end])
    }

    /// Operands joined along an axis.
    pub fn concat(&mut self, axis: i32, parts: &[ValueId]) -> ValueId {
        match parts {
            [one] => *one,
            _ => self.op(Op::Concat { axis }, parts),
        }
    }

    /// A reduction that keeps its axes or not.
    pub fn reduce(&mut self, kind: ReduceOp, x: ValueId, axes: &[i32], keep_dims: bool) -> ValueId {
        self.op(Op::Reduce { kind, axes: axes.to_vec(), keep_dims }, &[x])
    }

    /// The shape of `x` from axis `start` to `end` as an `i64` vector.
    pub fn shape(&mut self, x: ValueId, start: i32, end: Option<i32>) -> ValueId {
        self.op(Op::Shape { start, end }, &[x])
    }

    /// The size of an axis as an `i64` scalar.
    pub fn size(&mut self, x: ValueId, axis: usize) -> ValueId {
        match self.ctx.fact(x).size(axis) {
            Some(size) => self.integer(size as i64),
            None => {
                let shape = self.shape(x, 0, None);
                self.entry(shape, 0, axis as i64)
            }
        }
    }

    /// `condition ? a : b`.
    pub fn select(&mut self, condition: ValueId, a: ValueId, b: ValueId) -> ValueId {
        self.op(Op::Where, &[condition, a, b])
    }

    /// `0, 1, .. count - 1`; `count` is an `i64` scalar.
    pub fn count_up(&mut self, count: ValueId) -> ValueId {
        let (zero, one) = (self.integer(0), self.integer(1));
        self.op(Op::Range, &[zero, count, one])
    }
}
