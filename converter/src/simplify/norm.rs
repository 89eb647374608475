//! Recognises layer norm, RMS norm and softmax that exporters wrote out in arithmetic.

use super::common::{binary, one_to_one, replaced, with_constant, with_scalar};
use super::sweep::Scope;
use crate::model::Array;
use edge_runtime::graph::{BinaryOp, DType, Node, Op, ReduceOp, UnaryOp, ValueId};

pub(super) fn rule(scope: &mut Scope<'_>, node: &Node) -> Option<Vec<Node>> {
    let (op, a, b, _) = binary(node)?;
    if scope.dtype(a) != Some(DType::F32) {
        return None;
    }
    match op {
        BinaryOp::Div => softmax(scope, node, a, b).or_else(|| {
            let (spread, epsilon) = root(scope, b)?;
            normalised(scope, node, a, spread, epsilon)
        }),
        BinaryOp::Mul => parameter(scope, node).or_else(|| {
            [(a, b), (b, a)].into_iter().find_map(|(a, b)| {
                let (spread, epsilon) = reciprocal_root(scope, b)?;
                normalised(scope, node, a, spread, epsilon)
            })
        }),
        BinaryOp::Add => parameter(scope, node).or_else(|| moments(scope, node, a, b)),
        _ => None,
    }
}

/// `sqrt(v + epsilon)`.
fn root(scope: &Scope<'_>, value: ValueId) -> Option<(ValueId, f32)> {
    let sqrt = scope.def(value)?;
    let (sum, _) = one_to_one(&sqrt).filter(|_| sqrt.op == Op::Unary(UnaryOp::Sqrt))?;
    epsilon(scope, sum)
}

/// `1 / sqrt(v + epsilon)`.
fn reciprocal_root(scope: &Scope<'_>, value: ValueId) -> Option<(ValueId, f32)> {
    let node = scope.def(value)?;
    match node.op {
        Op::Unary(UnaryOp::Reciprocal) => root(scope, one_to_one(&node)?.0),
        _ => match with_scalar(scope, &node)? {
            (BinaryOp::Pow, sum, -0.5, true) => epsilon(scope, sum),
            _ => None,
        },
    }
}

fn epsilon(scope: &Scope<'_>, sum: ValueId) -> Option<(ValueId, f32)> {
    match with_scalar(scope, &*scope.def(sum)?)? {
        (BinaryOp::Add, v, epsilon, _) => Some((v, epsilon)),
        _ => None,
    }
}

/// The operand and the first axis of a mean over trailing axes that keeps them.
fn trailing_mean(scope: &Scope<'_>, value: ValueId) -> Option<(ValueId, i32)> {
    reduced(scope, value, ReduceOp::Mean).and_then(|(x, axes)| {
        let rank = scope.rank(x)?;
        let mut at = super::sizes::axes(&axes, rank)?;
        at.sort_unstable();
        let first = *at.first()?;
        (at == (first..rank).collect::<Vec<_>>()).then_some((x, first as i32))
    })
}

fn reduced(scope: &Scope<'_>, value: ValueId, wanted: ReduceOp) -> Option<(ValueId, Vec<i32>)> {
    let node = scope.def(value)?;
    match &node.op {
        Op::Reduce { kind, axes, keep_dims: true } if *kind == wanted => {
            Some((one_to_one(&node)?.0, axes.clone()))
        }
        _ => None,
    }
}

/// The operand of a square.
fn squared(scope: &Scope<'_>, value: ValueId) -> Option<ValueId> {
    match binary(&*scope.def(value)?)? {
        (BinaryOp::Mul, a, b, _) if a == b => Some(a),
        _ => None,
    }
}

/// `x - mean(x)` over trailing axes: x, the mean and the first axis.
fn centred(scope: &Scope<'_>, value: ValueId) -> Option<(ValueId, ValueId, i32)> {
    let (BinaryOp::Sub, x, mean, _) = binary(&*scope.def(value)?)? else { return None };
    let (of, axis) = trailing_mean(scope, mean)?;
    (of == x).then_some((x, mean, axis))
}

/// `a / sqrt(spread + epsilon)`: layer norm when `a` is centred and the spread its variance, RMS norm when the spread
/// is the mean of `a²`.
fn normalised(
    scope: &Scope<'_>,
    node: &Node,
    a: ValueId,
    spread: ValueId,
    epsilon: f32,
) -> Option<Vec<Node>> {
    let (square, axis) = trailing_mean(scope, spread)?;
    if squared(scope, square)? != a {
        return None;
    }
    match centred(scope, a) {
        Some((x, _, first)) if first == axis => replaced(node, Op::LayerNorm { axis, epsilon }, &[x]),
        _ => replaced(node, Op::RmsNorm { axis, epsilon }, &[a]),
    }
}

/// A scale or bias over the normalised dimensions joins the norm before it.
fn parameter(scope: &mut Scope<'_>, node: &Node) -> Option<Vec<Node>> {
    let (op, x, c, _) = with_constant(scope, node)?;
    let mut norm = (*scope.sole(x)?).clone();
    let (slot, axis) = match (&norm.op, op) {
        (Op::LayerNorm { axis, .. } | Op::RmsNorm { axis, .. }, BinaryOp::Mul) => (1, *axis),
        (Op::LayerNorm { axis, .. }, BinaryOp::Add) => (2, *axis),
        _ => return None,
    };
    // A factor after the bias would have to scale it too.
    if norm.inputs.len() > slot && norm.inputs[slot..].iter().any(Option::is_some) {
        return None;
    }
    let source = norm.inputs.first().copied().flatten()?;
    let value = over_trailing(scope, source, axis, c)?;
    norm.inputs.resize(slot + 1, None);
    norm.inputs[slot] = Some(value);
    norm.outputs.clone_from(&node.outputs);
    Some(vec![norm])
}

/// The constant with the shape of the dimensions of `x` from `axis` on, if it varies along those alone.
fn over_trailing(scope: &mut Scope<'_>, x: ValueId, axis: i32, c: ValueId) -> Option<ValueId> {
    let dims = scope.dims(x)?;
    let first = super::sizes::axis(axis, dims.len())?;
    let wanted: Vec<usize> = dims[first..]
        .iter()
        .map(|d| d.known().and_then(|n| usize::try_from(n).ok()))
        .collect::<Option<_>>()?;
    let array = scope.constant(c)?;
    if array.dims == wanted {
        return Some(c);
    }
    let own: Vec<usize> = array.dims.iter().copied().skip_while(|d| *d == 1).collect();
    let fits = array.dims.len() <= dims.len()
        && own == wanted.iter().copied().skip_while(|d| *d == 1).collect::<Vec<_>>();
    array.as_f32().filter(|_| fits)?;
    let array = Array { dims: wanted, ..array.clone() };
    let name = scope.name(c).to_owned();
    Some(scope.add_constant(name, array))
}

/// `x * r + (bias - mean * r)` with `r = scale / sqrt(variance + epsilon)`: the form of batch normalisation that
/// TensorFlow exports for moments computed at run time.
fn moments(scope: &mut Scope<'_>, node: &Node, a: ValueId, b: ValueId) -> Option<Vec<Node>> {
    [(a, b), (b, a)].into_iter().find_map(|(a, b)| {
        let (BinaryOp::Sub, bias, offset, _) = binary(&*scope.sole(b)?)? else { return None };
        scope.constant(bias)?;
        let (BinaryOp::Mul, p, q, _) = binary(&*scope.sole(a)?)? else { return None };
        let (BinaryOp::Mul, s, t, _) = binary(&*scope.sole(offset)?)? else { return None };
        for (x, r) in [(p, q), (q, p)] {
            let mean = if s == r { t } else { s };
            if (s != r && t != r) || trailing_mean(scope, mean).is_none_or(|(of, _)| of != x) {
                continue;
            }
            let (BinaryOp::Mul, inverse, scale, true) = with_constant(scope, &*scope.def(r)?)? else {
                continue;
            };
            let (variance, epsilon) = reciprocal_root(scope, inverse)?;
            let (square, axis) = trailing_mean(scope, variance)?;
            let difference = squared(scope, square)?;
            let (of, its_mean, first) = centred(scope, difference).or_else(|| mirrored(scope, difference))?;
            if of == x && its_mean == mean && first == axis {
                let scale = over_trailing(scope, x, axis, scale)?;
                let bias = over_trailing(scope, x, axis, bias)?;
                return replaced(node, Op::LayerNorm { axis, epsilon }, &[x, scale, bias]);
            }
        }
        None
    })
}

/// `mean(x) - x`, whose square is that of the centred value.
fn mirrored(scope: &Scope<'_>, value: ValueId) -> Option<(ValueId, ValueId, i32)> {
    let (BinaryOp::Sub, mean, x, _) = binary(&*scope.def(value)?)? else { return None };
    let (of, axis) = trailing_mean(scope, mean)?;
    (of == x).then_some((x, mean, axis))
}

/// `e / sum(e)` with `e = exp(x - max(x))`, all over one axis.
fn softmax(scope: &Scope<'_>, node: &Node, e: ValueId, sum: ValueId) -> Option<Vec<Node>> {
    let (of, axes) = reduced(scope, sum, ReduceOp::Sum)?;
    let exp = scope.def(e).filter(|n| of == e && n.op == Op::Unary(UnaryOp::Exp))?;
    let (BinaryOp::Sub, x, max, _) = binary(&*scope.def(one_to_one(&exp)?.0)?)? else { return None };
    let (max_of, max_axes) = reduced(scope, max, ReduceOp::Max)?;
    let rank = scope.rank(x)?;
    let (sums, maxima) = (super::sizes::axes(&axes, rank)?, super::sizes::axes(&max_axes, rank)?);
    match &sums[..] {
        [axis] if sums == maxima && max_of == x => {
            replaced(node, Op::Softmax { axis: *axis as i32, log: false }, &[x])
        }
        _ => None,
    }
}
