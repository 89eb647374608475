//! Shorthand for the operations that operators are made of.

use super::Ctx;
use crate::import::onnx::node::{NodeView, OpError, unknown};
use crate::import::onnx::tensors::from_f64;
use edge_runtime::graph::{BinaryOp, DType, Op, UnaryOp, ValueId};

impl<'m> Ctx<'m> {
    /// The element type, which the operator cannot do without.
    pub fn dtype(&self, id: ValueId) -> Result<DType, OpError> {
        match self.fact(id).dtype {
            Some(dtype) => Ok(dtype),
            None => unknown(format!("the element type of `{}`", self.model.graph.name(id))),
        }
    }

    /// The size of an axis, which the operator cannot do without.
    pub fn known_size(&self, id: ValueId, axis: usize) -> Result<usize, OpError> {
        match self.fact(id).size(axis) {
            Some(size) => Ok(size),
            None => unknown(format!("the size of axis {axis} of `{}`", self.model.graph.name(id))),
        }
    }

    /// A constant of no dimensions.
    pub fn scalar(&mut self, dtype: DType, value: f64) -> ValueId {
        self.constant("number", from_f64(dtype, &[], &[value]))
    }

    /// An elementwise operation of two operands.
    pub fn binary(&mut self, node: &NodeView<'m>, op: BinaryOp, a: ValueId, b: ValueId) -> ValueId {
        self.emit(node, Op::Binary(op), &[Some(a), Some(b)])
    }

    /// An elementwise operation of one operand.
    pub fn unary(&mut self, node: &NodeView<'m>, op: UnaryOp, x: ValueId) -> ValueId {
        self.emit(node, Op::Unary(op), &[Some(x)])
    }

    /// `x` in another element type; itself where it has that one.
    pub fn cast(&mut self, node: &NodeView<'m>, x: ValueId, to: DType) -> ValueId {
        if self.fact(x).dtype == Some(to) {
            return x;
        }
        self.emit(node, Op::Cast { to }, &[Some(x)])
    }

    /// A reshape to sizes; 0 copies the operand's, -1 is what remains.
    pub fn reshape(&mut self, node: &NodeView<'m>, x: ValueId, shape: &[i64]) -> ValueId {
        let shape = self.vector(node, shape);
        self.emit(node, Op::Reshape { allow_zero: false }, &[Some(x), Some(shape)])
    }

    /// 1s inserted so that the result has them at `axes`.
    pub fn unsqueeze(&mut self, node: &NodeView<'m>, x: ValueId, axes: &[i32]) -> ValueId {
        self.emit(node, Op::Unsqueeze { axes: axes.to_vec() }, &[Some(x)])
    }

    /// Values joined along an axis.
    pub fn concat(&mut self, node: &NodeView<'m>, parts: &[ValueId], axis: i32) -> ValueId {
        let parts: Vec<Option<ValueId>> = parts.iter().copied().map(Some).collect();
        self.emit(node, Op::Concat { axis }, &parts)
    }

    /// Elements `start..end` of an axis; a negative bound counts from the end.
    pub fn slice(&mut self, node: &NodeView<'m>, x: ValueId, axis: i32, start: i64, end: i64) -> ValueId {
        let (start, end) = (self.vector(node, &[start]), self.vector(node, &[end]));
        self.emit(node, Op::Slice { axes: vec![axis] }, &[Some(x), Some(start), Some(end)])
    }

    /// An axis cut into parts of the given sizes.
    pub fn split(&mut self, node: &NodeView<'m>, x: ValueId, axis: i32, sizes: &[usize]) -> Vec<ValueId> {
        if sizes.len() == 1 {
            return vec![x];
        }
        let list: Vec<i64> = sizes.iter().map(|s| *s as i64).collect();
        let list = self.vector(node, &list);
        self.emit_many(node, Op::Split { axis }, &[Some(x), Some(list)], sizes.len())
    }

    /// The size of an axis as an `i64` scalar.
    pub fn size(&mut self, node: &NodeView<'m>, x: ValueId, axis: i32) -> ValueId {
        let size = self.emit(node, Op::Shape { start: axis, end: Some(axis + 1) }, &[Some(x)]);
        self.emit(node, Op::Squeeze { axes: vec![0] }, &[Some(size)])
    }

    /// `start, start + 1, ..` up to `limit`, all `i64`.
    pub fn count(&mut self, node: &NodeView<'m>, start: ValueId, limit: ValueId) -> ValueId {
        let one = self.scalar(DType::I64, 1.0);
        self.emit(node, Op::Range, &[Some(start), Some(limit), Some(one)])
    }

    /// An axis as two of `outer` and `inner` elements.
    pub fn split_axis(
        &mut self,
        node: &NodeView<'m>,
        x: ValueId,
        axis: usize,
        [outer, inner]: [usize; 2],
    ) -> Result<ValueId, OpError> {
        let parts = [outer as i64, inner as i64];
        self.with_axes(node, x, axis, 1, &parts)
    }

    /// An axis and the next one as one.
    pub fn merge_axes(&mut self, node: &NodeView<'m>, x: ValueId, axis: usize) -> Result<ValueId, OpError> {
        let sizes = self.fact(x).size(axis).zip(self.fact(x).size(axis + 1));
        match sizes.and_then(|(a, b)| a.checked_mul(b)) {
            Some(size) => self.with_axes(node, x, axis, 2, &[size as i64]),
            None => {
                // -1 stands for the one that is not known; what comes behind it must be.
                let rank = self.rank(x)?;
                let rest: Option<Vec<i64>> =
                    (axis + 2..rank).map(|i| self.fact(x).size(i).map(|s| s as i64)).collect();
                if let Some(rest) = rest {
                    let shape = [vec![0; axis], vec![-1], rest].concat();
                    return Ok(self.reshape(node, x, &shape));
                }
                let (a, b) = (self.size(node, x, axis as i32), self.size(node, x, axis as i32 + 1));
                let merged = self.binary(node, BinaryOp::Mul, a, b);
                let merged = self.unsqueeze(node, merged, &[0]);
                let before = self.vector(node, &vec![0; axis]);
                let behind = Op::Shape { start: axis as i32 + 2, end: None };
                let behind = self.emit(node, behind, &[Some(x)]);
                let shape = self.concat(node, &[before, merged, behind], 0);
                Ok(self.emit(node, Op::Reshape { allow_zero: false }, &[Some(x), Some(shape)]))
            }
        }
    }

    /// `replaced` axes from `axis` on, with others in their place.
    fn with_axes(
        &mut self,
        node: &NodeView<'m>,
        x: ValueId,
        axis: usize,
        replaced: usize,
        by: &[i64],
    ) -> Result<ValueId, OpError> {
        let rank = self.rank(x)?;
        let rest: Vec<Option<usize>> = (axis + replaced..rank).map(|i| self.fact(x).size(i)).collect();
        let mut shape: Vec<i64> = vec![0; axis];
        shape.extend(by);
        if rest.iter().filter(|s| s.is_none()).count() <= 1 {
            shape.extend(rest.iter().map(|s| s.map_or(-1, |s| s as i64)));
            return Ok(self.reshape(node, x, &shape));
        }
        let before = self.vector(node, &shape);
        let behind = Op::Shape { start: (axis + replaced) as i32, end: None };
        let behind = self.emit(node, behind, &[Some(x)]);
        let shape = self.concat(node, &[before, behind], 0);
        Ok(self.emit(node, Op::Reshape { allow_zero: false }, &[Some(x), Some(shape)]))
    }
}
