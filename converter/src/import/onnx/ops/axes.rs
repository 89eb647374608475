//! Axes that an operand gives and only the planner knows: what they select is written as arithmetic on shapes and bounds.

use crate::import::onnx::ctx::Formula;
use edge_runtime::graph::{BinaryOp, DType, Op, ScatterReduction, ValueId};

impl Formula<'_, '_> {
    /// Axes counted from the start of `rank` dimensions.
    fn counted_from_start(&mut self, axes: ValueId, rank: usize) -> ValueId {
        let rank = self.integer(rank as i64);
        let shifted = self.add(axes, rank);
        self.binary(BinaryOp::Mod, shifted, rank)
    }

    /// A vector of `rank` entries: `values` at `axes`, `other` elsewhere.
    pub fn at_axes(&mut self, axes: ValueId, values: ValueId, other: i64, rank: usize) -> ValueId {
        let axes = self.counted_from_start(axes, rank);
        let rest = self.integers(&[rank], &vec![other; rank]);
        self.op(Op::ScatterElements { axis: 0, reduction: ScatterReduction::None }, &[rest, axes, values])
    }

    /// 1 at `axes`, 0 elsewhere.
    fn marked(&mut self, axes: ValueId, rank: usize) -> ValueId {
        let zeros = self.integer(0);
        let ones = self.integer(1);
        let like = self.mul(axes, zeros);
        let ones = self.add(like, ones);
        self.at_axes(axes, ones, 0, rank)
    }

    /// `x` of `rank` dimensions with 1s inserted at `count` axes of the result.
    pub fn unsqueeze_at(&mut self, x: ValueId, axes: ValueId, (rank, count): (usize, usize)) -> ValueId {
        let marked = self.marked(axes, rank + count);
        let one = self.integer(1);
        // Every other dimension takes the next size.
        let kept = self.sub(one, marked);
        let next = self.running_sum(kept);
        let next = self.sub(next, one);
        let zero = self.integer(0);
        let next = self.max(next, zero);
        let shape = self.shape(x, 0, None);
        let one_more = self.integers(&[1], &[1]);
        let shape = self.concat(0, &[shape, one_more]);
        let sizes = self.op(Op::Gather { axis: 0 }, &[shape, next]);
        let marked = self.cast(marked, DType::Bool);
        let shape = self.select(marked, one, sizes);
        self.op(Op::Reshape { allow_zero: true }, &[x, shape])
    }

    /// `x` of `rank` dimensions without `count` axes of size 1.
    pub fn squeeze_at(&mut self, x: ValueId, axes: ValueId, (rank, count): (usize, usize)) -> ValueId {
        let marked = self.marked(axes, rank);
        let one = self.integer(1);
        let kept = self.sub(one, marked);
        let next = self.running_sum(kept);
        let next = self.sub(next, one);
        // The others' sizes go to one place behind, which is cut off.
        let behind = self.integer((rank - count) as i64);
        let marked = self.cast(marked, DType::Bool);
        let place = self.select(marked, behind, next);
        let sizes = self.shape(x, 0, None);
        let room = self.integers(&[rank - count + 1], &vec![0; rank - count + 1]);
        let op = Op::ScatterElements { axis: 0, reduction: ScatterReduction::None };
        let all = self.op(op, &[room, place, sizes]);
        let shape = self.slice(all, 0, 0, (rank - count) as i64);
        self.op(Op::Reshape { allow_zero: true }, &[x, shape])
    }

    /// The sums of the first elements of a vector, each with its own.
    pub fn running_sum(&mut self, x: ValueId) -> ValueId {
        self.op(Op::CumSum { axis: 0, exclusive: false, reverse: false }, &[x])
    }
}
