//! Positions that a run computes: `x[i : i + 3]` and `x[: i]`, where only a run knows `i`.

use crate::import::onnx::ctx::Ctx;
use crate::import::onnx::node::{NodeView, OpError};
use edge_runtime::graph::{BinaryOp, DType, Op, ValueId};

/// Longest chain of operations that is followed.
const MOST_STEPS: usize = 32;
/// Most positions between the two.
const MOST_APART: i64 = 1 << 16;

/// A scalar as another one and what is added to it, and the number that it is cut to.
struct Sum {
    of: ValueId,
    plus: i64,
    most: Option<i64>,
}

/// From a position to one a number of places behind it.
pub(super) struct Stretch {
    /// How many places.
    pub count: i64,
    /// The number that the second position is cut to.
    pub most: Option<i64>,
}

/// Whether only a run knows a value.
pub(super) fn of_a_run(ctx: &Ctx<'_>, id: ValueId) -> bool {
    ctx.fact(id).known().is_none() && ctx.is_of_a_run(id)
}

/// How many entries of an axis of `x` lie before `end`, one element that may count from the end; an `i64` scalar.
pub(super) fn filled<'m>(
    ctx: &mut Ctx<'m>,
    node: &NodeView<'m>,
    x: ValueId,
    axis: usize,
    end: ValueId,
) -> ValueId {
    let mut f = ctx.formula(node);
    let end = f.cast(end, DType::I64);
    let end = f.reshape(end, &[]);
    let (zero, size) = (f.integer(0), f.size(x, axis));
    let negative = f.binary(BinaryOp::Less, end, zero);
    let from_the_end = f.add(end, size);
    let end = f.select(negative, from_the_end, end);
    f.clamp(end, zero, size)
}

/// The stretch from `start` to `end`, one element each, when only a run knows where it begins, and its length is known.
pub(super) fn stretch(ctx: &Ctx<'_>, start: ValueId, end: ValueId) -> Option<Stretch> {
    if !of_a_run(ctx, start) {
        return None;
    }
    let (from, to) = (sum(ctx, start), sum(ctx, end));
    let count = to.plus.checked_sub(from.plus)?;
    let fits = from.of == to.of && from.most.is_none() && (0..=MOST_APART).contains(&count);
    fits.then_some(Stretch { count, most: to.most })
}

/// The positions of a stretch, `i64` `[count]`: such that none is taken for one that counts from the end.
pub(super) fn places<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>, start: ValueId, count: i64) -> ValueId {
    let mut f = ctx.formula(node);
    let start = f.cast(start, DType::I64);
    let start = f.reshape(start, &[1]);
    let (zero, beyond) = (f.integers(&[1], &[0]), f.integers(&[1], &[i64::MAX / 2]));
    let negative = f.binary(BinaryOp::Less, start, zero);
    let start = f.select(negative, beyond, start);
    let steps: Vec<i64> = (0..count).collect();
    let steps = f.integers(&[steps.len()], &steps);
    f.add(start, steps)
}

/// The numbers from `start` to `end`, one apart; `None` where they are not a stretch.
///
/// # Errors
/// When a table of as many numbers as `end` is cut to would be too large.
pub(super) fn numbers<'m>(
    ctx: &mut Ctx<'m>,
    node: &NodeView<'m>,
    [start, end]: [ValueId; 2],
) -> Result<Option<ValueId>, OpError> {
    let Some(Stretch { count, most }) = stretch(ctx, start, end) else { return Ok(None) };
    if ctx.fact(start).dtype != Some(DType::I64) {
        return Ok(None);
    }
    let places = places(ctx, node, start, count);
    let Some(most) = most else { return Ok(Some(places)) };
    // What is cut is shorter: a run that comes there is stopped by a position that is not in this table.
    let count = usize::try_from(most).ok();
    ctx.table(count, 8)?;
    let mut f = ctx.formula(node);
    let all: Vec<i64> = (0..most).collect();
    let all = f.integers(&[all.len()], &all);
    Ok(Some(f.op(Op::Gather { axis: 0 }, &[all, places])))
}

/// Follows a scalar back through sums with known numbers.
fn sum(ctx: &Ctx<'_>, id: ValueId) -> Sum {
    let mut sum = Sum { of: id, plus: 0, most: None };
    for _ in 0..MOST_STEPS {
        let Some(node) = ctx.maker(sum.of) else { break };
        let operand = |i: usize| node.inputs.get(i).copied().flatten();
        let (Some(x), y) = (operand(0), operand(1)) else { break };
        let known = |id: Option<ValueId>| match ctx.fact(id?).known().as_deref() {
            Some([value]) => Some(*value),
            _ => None,
        };
        let (of, plus) = match (&node.op, known(Some(x)), known(y)) {
            (Op::Reshape { .. } | Op::Squeeze { .. } | Op::Unsqueeze { .. } | Op::Identity, ..) => (x, 0),
            (Op::Cast { to }, ..) if *to != DType::Bool && ctx.fact(x).dtype != Some(DType::Bool) => (x, 0),
            (Op::Binary(BinaryOp::Add), Some(plus), _) => (y.unwrap_or(x), plus),
            (Op::Binary(BinaryOp::Add), _, Some(plus)) => (x, plus),
            (Op::Binary(BinaryOp::Sub), _, Some(minus)) => (x, -minus),
            (Op::Binary(BinaryOp::Min), most, other) if most.or(other).is_some() && sum.plus == 0 => {
                let cut = most.or(other);
                sum.most = sum.most.or(cut).min(cut);
                (if most.is_some() { y.unwrap_or(x) } else { x }, 0)
            }
            _ => break,
        };
        let Some(plus) = sum.plus.checked_add(plus) else { break };
        (sum.of, sum.plus) = (of, plus);
    }
    sum
}
