//! Identities of arithmetic and of shapes: cheaper forms that compute the same numbers, and one form for each thing so
//! that later rules have fewer to know.

use super::common::{binary, keeps_shape, one_to_one, replaced, with_constant, with_scalar};
use super::eval;
use super::shapes;
use super::sweep::Scope;
use crate::model::Array;
use edge_runtime::graph::{Act, BinaryOp, DType, Node, Op, UnaryOp};

pub(super) fn rule(scope: &mut Scope<'_>, node: &Node) -> Option<Vec<Node>> {
    match &node.op {
        Op::Binary(_) => constant_first(scope, node)
            .or_else(|| neutral(scope, node))
            .or_else(|| power(scope, node))
            .or_else(|| one_over(scope, node))
            .or_else(|| bounds(scope, node))
            .or_else(|| gated_residual(scope, node))
            .or_else(|| as_add_or_mul(scope, node)),
        Op::Unary(UnaryOp::Act(act)) => clip(scope, node, *act),
        Op::MatMul { .. } => linear(scope, node),
        Op::Reshape { .. } | Op::Squeeze { .. } | Op::Unsqueeze { .. } | Op::Flatten { .. } => {
            shapes::rule(scope, node)
        }
        _ => None,
    }
}

/// `c + x` is `x + c`.
fn constant_first(scope: &mut Scope<'_>, node: &Node) -> Option<Vec<Node>> {
    let (op, x, c, right) = with_constant(scope, node)?;
    let commutes = matches!(op, BinaryOp::Add | BinaryOp::Mul | BinaryOp::Max | BinaryOp::Min);
    if right || !commutes { None } else { replaced(node, node.op.clone(), &[x, c]) }
}

/// `x + 0`, `x - 0`, `x * 1`, `x / 1`, `x ^ 1`, `max(x, -inf)` and `min(x, inf)` are `x` where the constant does not
/// widen it.
fn neutral(scope: &mut Scope<'_>, node: &Node) -> Option<Vec<Node>> {
    let (op, x, c, right) = with_constant(scope, node)?;
    let neutral = match op {
        BinaryOp::Add | BinaryOp::Sub => 0.0,
        BinaryOp::Mul | BinaryOp::Div | BinaryOp::Pow => 1.0,
        BinaryOp::Max => f32::NEG_INFINITY,
        BinaryOp::Min => f32::INFINITY,
        _ => return None,
    };
    let array = scope.constant(c)?;
    let all = match array.as_f32() {
        Some(v) => v.iter().all(|v| *v == neutral),
        None => neutral.is_finite() && array.as_i64()?.iter().all(|v| *v == neutral as i64),
    };
    if right && all && keeps_shape(scope, x, c) { replaced(node, Op::Identity, &[x]) } else { None }
}

fn power(scope: &mut Scope<'_>, node: &Node) -> Option<Vec<Node>> {
    let (BinaryOp::Pow, x, exponent, true) = with_scalar(scope, node)? else { return None };
    if scope.dtype(x) != Some(DType::F32) {
        return None;
    }
    match exponent {
        2.0 => replaced(node, Op::Binary(BinaryOp::Mul), &[x, x]),
        0.5 => replaced(node, Op::Unary(UnaryOp::Sqrt), &[x]),
        -1.0 => replaced(node, Op::Unary(UnaryOp::Reciprocal), &[x]),
        _ => None,
    }
}

fn one_over(scope: &mut Scope<'_>, node: &Node) -> Option<Vec<Node>> {
    match with_scalar(scope, node)? {
        (BinaryOp::Div, x, 1.0, false) => replaced(node, Op::Unary(UnaryOp::Reciprocal), &[x]),
        _ => None,
    }
}

/// `max(x, 0)` is ReLU; a `min` and a `max` with constants are one clip. Infinite bounds are not made: the pack's
/// header cannot spell them.
fn bounds(scope: &mut Scope<'_>, node: &Node) -> Option<Vec<Node>> {
    let (op, x, c, _) = with_scalar(scope, node)?;
    let inner = scope.sole(x);
    let below = inner.as_ref().and_then(|n| match &n.op {
        Op::Unary(UnaryOp::Act(Act::Relu)) => Some((BinaryOp::Max, one_to_one(n)?.0, 0.0)),
        Op::Binary(_) => with_scalar(scope, n).map(|(op, x, c, _)| (op, x, c)),
        _ => None,
    });
    let act = |act, x| replaced(node, Op::Unary(UnaryOp::Act(act)), &[x]);
    match (op, below) {
        (BinaryOp::Min, Some((BinaryOp::Max, x, lo))) if lo <= c => act(Act::Clip { lo, hi: c }, x),
        (BinaryOp::Max, Some((BinaryOp::Min, x, hi))) if c <= hi => act(Act::Clip { lo: c, hi }, x),
        (BinaryOp::Max, _) if c == 0.0 => act(Act::Relu, x),
        _ => None,
    }
}

fn clip(scope: &mut Scope<'_>, node: &Node, act: Act) -> Option<Vec<Node>> {
    let (x, _) = one_to_one(node)?;
    match act {
        Act::None => replaced(node, Op::Identity, &[x]),
        Act::Clip { lo, hi } if lo == 0.0 && hi >= f32::MAX => {
            replaced(node, Op::Unary(UnaryOp::Act(Act::Relu)), &[x])
        }
        Act::Clip { lo, hi } if lo <= f32::MIN && hi >= f32::MAX && scope.dtype(x) == Some(DType::F32) => {
            replaced(node, Op::Identity, &[x])
        }
        _ => None,
    }
}

/// `x - c` is `x + (-c)`; `x / c` is `x * (1 / c)` where that is exact, for powers of two.
fn as_add_or_mul(scope: &mut Scope<'_>, node: &Node) -> Option<Vec<Node>> {
    let (op, x, c, true) = with_constant(scope, node)? else {
        return prelu(scope, node);
    };
    let array = scope.constant(c)?;
    let values = array.as_f32()?;
    let (op, values): (_, Vec<f32>) = match op {
        BinaryOp::Sub => (BinaryOp::Add, values.iter().map(|v| -v).collect()),
        BinaryOp::Div if values.iter().all(|v| is_power_of_two(*v)) => {
            (BinaryOp::Mul, values.iter().map(|v| 1.0 / v).collect())
        }
        BinaryOp::PRelu => return prelu(scope, node),
        _ => return None,
    };
    let array = Array::f32(&array.dims, &values);
    let name = scope.name(c).to_owned();
    let c = scope.add_constant(name, array);
    replaced(node, Op::Binary(op), &[x, c])
}

/// Whether both the number and its reciprocal are normal powers of two.
fn is_power_of_two(v: f32) -> bool {
    let exponent = (v.to_bits() >> 23) & 0xff;
    v.to_bits() & 0x007f_ffff == 0 && (1..=253).contains(&exponent)
}

fn prelu(scope: &mut Scope<'_>, node: &Node) -> Option<Vec<Node>> {
    match with_scalar(scope, node)? {
        (BinaryOp::PRelu, x, alpha, true) => {
            replaced(node, Op::Unary(UnaryOp::Act(Act::LeakyRelu { alpha })), &[x])
        }
        _ => None,
    }
}

/// A product with a constant matrix is `Linear`.
fn linear(scope: &mut Scope<'_>, node: &Node) -> Option<Vec<Node>> {
    let Op::MatMul { trans_a: false, trans_b, alpha } = node.op else { return None };
    let &[Some(x), Some(b)] = &node.inputs[..] else { return None };
    let matrix = scope.constant(b)?;
    // A matrix with leading ones broadcasts without changing the result as long as x has as many dimensions.
    let rank = matrix.dims.len();
    if rank < 2
        || matrix.dims[..rank - 2].iter().any(|d| *d != 1)
        || scope.is_stored(x)
        || scope.rank(x)? < rank
        || alpha != 1.0
    {
        return None;
    }
    let flat = Array { dims: matrix.dims[rank - 2..].to_vec(), ..matrix.clone() };
    let rows = if trans_b { flat } else { eval::transpose(&flat, &[1, 0])? };
    rows.as_f32()?;
    let op = Op::Linear { out_features: rows.dims[0], act: Act::None, act_after_residual: false };
    let name = scope.name(b).to_owned();
    let w = scope.add_constant(name, rows);
    replaced(node, op, &[x, w])
}

/// `x + x g` is `x (1 + g)` where `g` is surely smaller than `x`, as a gate for each channel is: one walk over `x`.
fn gated_residual(scope: &mut Scope<'_>, node: &Node) -> Option<Vec<Node>> {
    let (BinaryOp::Add, a, b, y) = binary(node)? else { return None };
    let (x, gate) = [(a, b), (b, a)].into_iter().find_map(|(x, product)| {
        let (BinaryOp::Mul, p, q, _) = binary(&*scope.sole(product)?)? else { return None };
        let gate = if p == x { q } else { p };
        (p == x || q == x).then_some((x, gate))
    })?;
    let (dims, small) = (scope.dims(x)?, scope.dims(gate)?);
    let smaller = dims.len() == small.len()
        && dims.iter().zip(small).all(|(d, s)| d == s || s.is_one())
        && dims.iter().zip(small).any(|(d, s)| s.is_one() && !d.is_one());
    if !smaller || scope.is_stored(gate) || scope.dtype(x) != Some(DType::F32) {
        return None;
    }
    let name = scope.name(gate).to_owned();
    let one = scope.add_constant(format!("{name}/one"), Array::f32(&[], &[1.0]));
    let sum = scope.add_value(scope.name(y).to_owned());
    let mut nodes = replaced(node, Op::Binary(BinaryOp::Add), &[gate, one])?;
    nodes[0].outputs = vec![Some(sum)];
    nodes.extend(replaced(node, Op::Binary(BinaryOp::Mul), &[x, sum])?);
    Some(nodes)
}
