//! Recognises activation functions that exporters wrote out in arithmetic.
//!
//! Factors are compared as polynomials in the function's argument, so the order of operations, and whether a constant
//! multiplies, divides or stands on the other side, does not matter.

use super::common::{binary, one_to_one, replaced, with_scalar};
use super::sweep::Scope;
use edge_runtime::graph::{Act, BinaryOp, DType, Node, Op, UnaryOp, ValueId};
use std::f64::consts::{FRAC_1_SQRT_2, PI};

/// Coefficients of `1, x, x², x³`.
type Polynomial = [f64; 4];

/// Exporters round constants such as 1/6 to f32 or to a few digits.
const TOLERANCE: f64 = 2e-6;

/// Deepest expression that is read as a polynomial.
const MAX_DEPTH: usize = 6;

pub(super) fn rule(scope: &mut Scope<'_>, node: &Node) -> Option<Vec<Node>> {
    if !matches!(node.op, Op::Binary(_) | Op::Unary(_))
        || scope.dtype(node.inputs.first().copied().flatten()?) != Some(DType::F32)
    {
        return None;
    }
    let (function, x) = gated(scope, node)
        .or_else(|| hard_sigmoid(scope, node))
        .or_else(|| leaky_relu(scope, node))
        .or_else(|| sigmoid(scope, node))?;
    // A function of an argument of another shape would be a broadcast.
    let dims = scope.infer(node)?.dims?;
    (scope.dims(x) == Some(&dims[..])).then_some(())?;
    replaced(node, Op::Unary(function), &[x])
}

fn near(a: f64, b: f64) -> bool {
    (a - b).abs() <= TOLERANCE * b.abs().max(1e-3)
}

fn is_line(p: &Polynomial) -> bool {
    p[2] == 0.0 && p[3] == 0.0
}

/// `value` as a polynomial in `x` of degree three at most.
fn polynomial(scope: &Scope<'_>, value: ValueId, x: ValueId, depth: usize) -> Option<Polynomial> {
    if value == x {
        return Some([0.0, 1.0, 0.0, 0.0]);
    }
    if scope.is_stored(value) {
        return Some([f64::from(scope.scalar(value)?), 0.0, 0.0, 0.0]);
    }
    let node = if depth < MAX_DEPTH { scope.def(value)? } else { return None };
    let of = |v| polynomial(scope, v, x, depth + 1);
    if let Op::Unary(UnaryOp::Neg) = node.op {
        return Some(of(one_to_one(&node)?.0)?.map(|c| -c));
    }
    let (op, a, b, _) = binary(&node)?;
    let (p, q) = (of(a)?, of(b)?);
    let constant = |p: &Polynomial| p[1..].iter().all(|c| *c == 0.0);
    match op {
        BinaryOp::Add => Some(std::array::from_fn(|i| p[i] + q[i])),
        BinaryOp::Sub => Some(std::array::from_fn(|i| p[i] - q[i])),
        BinaryOp::Mul => product(&p, &q),
        BinaryOp::Div if constant(&q) && q[0] != 0.0 => Some(p.map(|c| c / q[0])),
        BinaryOp::Pow if constant(&q) && q[0] == 2.0 => product(&p, &p),
        BinaryOp::Pow if constant(&q) && q[0] == 3.0 => product(&p, &product(&p, &p)?),
        _ => None,
    }
}

fn product(p: &Polynomial, q: &Polynomial) -> Option<Polynomial> {
    let mut result = [0.0; 4];
    for (i, a) in p.iter().enumerate() {
        for (j, b) in q.iter().enumerate().filter(|(_, b)| a * **b != 0.0) {
            *result.get_mut(i + j)? += a * b;
        }
    }
    Some(result)
}

/// The value with its constant factors taken off one after the other: `(c, v)` with `value = c * v`.
fn scaled(scope: &Scope<'_>, value: ValueId) -> Vec<(f64, ValueId)> {
    let mut all = vec![(1.0, value)];
    let (mut factor, mut at) = (1.0, value);
    while let Some((op, x, c, right)) = scope.sole(at).and_then(|n| with_scalar(scope, &n)) {
        match op {
            BinaryOp::Mul => factor *= f64::from(c),
            BinaryOp::Div if right => factor /= f64::from(c),
            _ => break,
        }
        at = x;
        all.push((factor, at));
    }
    all
}

/// `c * x * gate(x)`: Silu, HardSwish, both GELUs, Mish.
fn gated(scope: &Scope<'_>, node: &Node) -> Option<(UnaryOp, ValueId)> {
    let (outer, (a, b)) = match with_scalar(scope, node) {
        Some((op, x, c, right)) => {
            let inner = scope.sole(x)?;
            let (BinaryOp::Mul, a, b, _) = binary(&inner)? else { return None };
            match op {
                BinaryOp::Mul => (f64::from(c), (a, b)),
                BinaryOp::Div if right => (1.0 / f64::from(c), (a, b)),
                _ => return None,
            }
        }
        None => match binary(node)? {
            (BinaryOp::Mul, a, b, _) => (1.0, (a, b)),
            _ => return None,
        },
    };
    for (a, b) in [(a, b), (b, a)] {
        for (c, x) in scaled(scope, a) {
            for (d, g) in scaled(scope, b) {
                if let Some(function) = gate(scope, outer * c * d, x, g) {
                    return Some((function, x));
                }
            }
        }
    }
    None
}

/// The function that `factor * x * gate` is.
fn gate(scope: &Scope<'_>, factor: f64, x: ValueId, gate: ValueId) -> Option<UnaryOp> {
    let node = scope.sole(gate)?;
    let act = |act| Some(UnaryOp::Act(act));
    if let Op::Unary(f) = node.op {
        let (inner, _) = one_to_one(&node)?;
        return match f {
            UnaryOp::Act(Act::Sigmoid) if inner == x && near(factor, 1.0) => act(Act::Silu),
            UnaryOp::Act(Act::HardSigmoid { alpha, beta })
                if inner == x && near(factor, 1.0) && is_sixth(alpha.into()) && near(beta.into(), 0.5) =>
            {
                act(Act::HardSwish)
            }
            UnaryOp::Act(Act::Clip { lo: 0.0, hi }) => {
                let line = polynomial(scope, inner, x, 0).filter(is_line)?;
                let hi = f64::from(hi);
                (near(factor * hi, 1.0) && is_sixth(line[1] / hi) && near(line[0] / hi, 0.5))
                    .then_some(UnaryOp::Act(Act::HardSwish))
            }
            UnaryOp::Act(Act::Tanh) if near(factor, 1.0) => {
                let softplus = scope.sole(inner)?;
                let is_mish = softplus.op == Op::Unary(UnaryOp::Softplus) && one_to_one(&softplus)?.0 == x;
                is_mish.then_some(UnaryOp::Mish)
            }
            _ => None,
        };
    }
    // h + h f(u): the exact GELU with erf, the approximation with tanh.
    let (f, u) = sigmoid_like(scope, gate)?;
    let line = polynomial(scope, gate, f, 0).filter(is_line)?;
    if !near(line[0], line[1]) || !near(factor * line[0], 0.5) {
        return None;
    }
    let argument = polynomial(scope, u, x, 0)?;
    match scope.def(f)?.op {
        Op::Unary(UnaryOp::Erf) => {
            (is_line(&argument) && argument[0] == 0.0 && near(argument[1], FRAC_1_SQRT_2))
                .then_some(UnaryOp::Act(Act::Gelu))
        }
        Op::Unary(UnaryOp::Act(Act::Tanh)) => {
            let slope = (2.0 / PI).sqrt();
            (argument[0] == 0.0
                && argument[2] == 0.0
                && near(argument[1], slope)
                && (argument[3] - 0.044715 * slope).abs() < 1e-6)
                .then_some(UnaryOp::Act(Act::GeluTanh))
        }
        _ => None,
    }
}

fn is_sixth(v: f64) -> bool {
    // PaddlePaddle writes 0.1666667, others 0.16667 or 0.2; only the first is the kernels' 1/6.
    near(v, 1.0 / 6.0)
}

/// The erf or tanh inside `gate`, through constant factors and offsets, and its argument.
fn sigmoid_like(scope: &Scope<'_>, gate: ValueId) -> Option<(ValueId, ValueId)> {
    let mut at = gate;
    for _ in 0..MAX_DEPTH {
        let node = scope.sole(at)?;
        match node.op {
            Op::Unary(UnaryOp::Erf | UnaryOp::Act(Act::Tanh)) => return Some((at, one_to_one(&node)?.0)),
            _ => at = with_scalar(scope, &node)?.1,
        }
    }
    None
}

/// `clip(a x + b, 0, h) / h`, at the division or, for `h = 1`, at the clip.
fn hard_sigmoid(scope: &Scope<'_>, node: &Node) -> Option<(UnaryOp, ValueId)> {
    let (factor, clip) = match node.op {
        Op::Unary(_) => (1.0, node.clone()),
        _ => match with_scalar(scope, node)? {
            (BinaryOp::Mul, x, c, _) => (f64::from(c), (*scope.sole(x)?).clone()),
            (BinaryOp::Div, x, c, true) => (1.0 / f64::from(c), (*scope.sole(x)?).clone()),
            _ => return None,
        },
    };
    let Op::Unary(UnaryOp::Act(Act::Clip { lo: 0.0, hi })) = clip.op else { return None };
    if !near(factor * f64::from(hi), 1.0) {
        return None;
    }
    // The argument is whatever the innermost of the constants applies to.
    let (line_end, _) = one_to_one(&clip)?;
    let mut x = line_end;
    while let Some((op, inner, _, right)) = scope.sole(x).and_then(|n| with_scalar(scope, &n)) {
        let is_line =
            matches!(op, BinaryOp::Add | BinaryOp::Mul | BinaryOp::Sub) || (op == BinaryOp::Div && right);
        if !is_line {
            break;
        }
        x = inner;
    }
    let line = polynomial(scope, line_end, x, 0).filter(is_line)?;
    let (alpha, beta) = ((line[1] * factor) as f32, (line[0] * factor) as f32);
    (x != line_end).then_some((UnaryOp::Act(Act::HardSigmoid { alpha, beta }), x))
}

/// `max(x, a x)` with `0 < a < 1`.
fn leaky_relu(scope: &Scope<'_>, node: &Node) -> Option<(UnaryOp, ValueId)> {
    let (BinaryOp::Max, a, b, _) = binary(node)? else { return None };
    [(a, b), (b, a)].into_iter().find_map(|(x, scaled)| {
        let line = scope.sole(scaled).and_then(|_| polynomial(scope, scaled, x, 0)).filter(is_line)?;
        (line[0] == 0.0 && line[1] > 0.0 && line[1] < 1.0)
            .then_some((UnaryOp::Act(Act::LeakyRelu { alpha: line[1] as f32 }), x))
    })
}

/// `1 / (1 + exp(-x))`.
fn sigmoid(scope: &Scope<'_>, node: &Node) -> Option<(UnaryOp, ValueId)> {
    let Op::Unary(UnaryOp::Reciprocal) = node.op else { return None };
    let sum = scope.sole(one_to_one(node)?.0)?;
    let (BinaryOp::Add, exp, 1.0, _) = with_scalar(scope, &sum)? else { return None };
    let exp = scope.sole(exp)?;
    let neg = scope.sole(one_to_one(&exp)?.0)?;
    let is_sigmoid = exp.op == Op::Unary(UnaryOp::Exp) && neg.op == Op::Unary(UnaryOp::Neg);
    is_sigmoid.then_some((UnaryOp::Act(Act::Sigmoid), one_to_one(&neg)?.0))
}
