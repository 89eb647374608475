//! Elementwise functions of one operand.

use super::{NOW, Operator, Types, op};
use crate::import::onnx::ctx::Ctx;
use crate::import::onnx::node::{NodeView, OpError, malformed, unknown};
use crate::import::onnx::tensors::{floats, from_f64};
use edge_runtime::graph::{Act, BinaryOp, Op, UnaryOp, ValueId};

/// A line whose function is a fixed operation.
macro_rules! plain {
    ($name:literal, $since:literal, $types:ident, $op:expr) => {
        op($name, ($since, NOW), (1, 1), Types::$types, OLD, |c, n| c.map(n, Op::Unary($op)))
    };
}

/// Opset 1 let elementwise operators say that they may work in place.
const OLD: &[&str] = &["consumed_inputs"];

/// The table.
pub const OPERATORS: &[Operator] = &[
    plain!("Relu", 1, Number, UnaryOp::Act(Act::Relu)),
    plain!("Sigmoid", 1, Float, UnaryOp::Act(Act::Sigmoid)),
    plain!("Tanh", 1, Float, UnaryOp::Act(Act::Tanh)),
    plain!("HardSwish", 14, Float, UnaryOp::Act(Act::HardSwish)),
    plain!("Mish", 18, Float, UnaryOp::Mish),
    plain!("Softplus", 1, Float, UnaryOp::Softplus),
    plain!("Softsign", 1, Float, UnaryOp::Softsign),
    plain!("Abs", 1, Number, UnaryOp::Abs),
    plain!("Neg", 1, Number, UnaryOp::Neg),
    plain!("Sign", 9, Number, UnaryOp::Sign),
    plain!("Floor", 1, Float, UnaryOp::Floor),
    plain!("Ceil", 1, Float, UnaryOp::Ceil),
    plain!("Round", 11, Float, UnaryOp::Round),
    plain!("Sqrt", 1, Float, UnaryOp::Sqrt),
    plain!("Exp", 1, Float, UnaryOp::Exp),
    plain!("Log", 1, Float, UnaryOp::Log),
    plain!("Erf", 9, Float, UnaryOp::Erf),
    plain!("Reciprocal", 1, Float, UnaryOp::Reciprocal),
    plain!("Sin", 7, Float, UnaryOp::Sin),
    plain!("Cos", 7, Float, UnaryOp::Cos),
    plain!("Tan", 7, Float, UnaryOp::Tan),
    plain!("Asin", 7, Float, UnaryOp::Asin),
    plain!("Acos", 7, Float, UnaryOp::Acos),
    plain!("Atan", 7, Float, UnaryOp::Atan),
    plain!("Sinh", 9, Float, UnaryOp::Sinh),
    plain!("Cosh", 9, Float, UnaryOp::Cosh),
    plain!("Asinh", 9, Float, UnaryOp::Asinh),
    plain!("Acosh", 9, Float, UnaryOp::Acosh),
    plain!("Atanh", 9, Float, UnaryOp::Atanh),
    plain!("Not", 1, Any, UnaryOp::Not),
    plain!("BitwiseNot", 18, Integer, UnaryOp::BitNot),
    plain!("IsNaN", 9, Float, UnaryOp::IsNan),
    op("IsInf", (10, NOW), (1, 1), Types::Float, &["detect_negative", "detect_positive"], is_inf),
    op("LeakyRelu", (1, NOW), (1, 1), Types::Float, &["alpha", "consumed_inputs"], leaky_relu),
    op("HardSigmoid", (1, NOW), (1, 1), Types::Float, &["alpha", "beta", "consumed_inputs"], hard_sigmoid),
    op("Elu", (1, NOW), (1, 1), Types::Float, &["alpha", "consumed_inputs"], elu),
    op("Selu", (6, NOW), (1, 1), Types::Float, &["alpha", "gamma"], selu),
    op("Celu", (12, NOW), (1, 1), Types::Float, &["alpha"], celu),
    op("Gelu", (20, NOW), (1, 1), Types::Float, &["approximate"], gelu),
    op("Swish", (24, NOW), (1, 1), Types::Float, &["alpha"], swish),
    op("ThresholdedRelu", (1, NOW), (1, 1), Types::Float, &["alpha"], thresholded_relu),
    op("Shrink", (9, NOW), (1, 1), Types::Number, &["bias", "lambd"], shrink),
    op("Clip", (1, 10), (1, 1), Types::Number, &["min", "max", "consumed_inputs"], clip_attributes),
    op("Clip", (11, NOW), (1, 3), Types::Number, &[], clip),
];

fn unary<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>, op: UnaryOp) -> Result<(), OpError> {
    ctx.map(node, Op::Unary(op))
}

fn act<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>, act: Act) -> Result<(), OpError> {
    ctx.map(node, Op::Unary(UnaryOp::Act(act)))
}

fn is_inf<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>) -> Result<(), OpError> {
    let positive = node.flag("detect_positive", true)?;
    let negative = node.flag("detect_negative", true)?;
    unary(ctx, node, UnaryOp::IsInf { positive, negative })
}

fn leaky_relu<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>) -> Result<(), OpError> {
    act(ctx, node, Act::LeakyRelu { alpha: node.float("alpha", 0.01)? })
}

fn hard_sigmoid<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>) -> Result<(), OpError> {
    act(ctx, node, Act::HardSigmoid { alpha: node.float("alpha", 0.2)?, beta: node.float("beta", 0.5)? })
}

fn elu<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>) -> Result<(), OpError> {
    unary(ctx, node, UnaryOp::Elu { alpha: node.float("alpha", 1.0)? })
}

fn selu<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>) -> Result<(), OpError> {
    let alpha = node.float("alpha", 1.673_263_2)?;
    unary(ctx, node, UnaryOp::Selu { alpha, gamma: node.float("gamma", 1.050_701)? })
}

fn celu<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>) -> Result<(), OpError> {
    unary(ctx, node, UnaryOp::Celu { alpha: node.float("alpha", 1.0)? })
}

fn gelu<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>) -> Result<(), OpError> {
    match node.string("approximate", "none")? {
        "none" => act(ctx, node, Act::Gelu),
        "tanh" => act(ctx, node, Act::GeluTanh),
        other => malformed(format!("approximate {other:?}")),
    }
}

/// `x * sigmoid(alpha * x)`.
fn swish<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>) -> Result<(), OpError> {
    let alpha = node.float("alpha", 1.0)?;
    scaled_silu(ctx, node, alpha)
}

/// Operand 0, `x`, as `x * sigmoid(alpha * x)`.
pub(super) fn scaled_silu<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>, alpha: f32) -> Result<(), OpError> {
    if alpha == 1.0 {
        return act(ctx, node, Act::Silu);
    }
    let x = ctx.operand(node, 0)?;
    let dtype = ctx.dtype(x)?;
    let alpha = ctx.scalar(dtype, f64::from(alpha));
    let gate = ctx.binary(node, BinaryOp::Mul, x, alpha);
    let gate = ctx.unary(node, UnaryOp::Act(Act::Sigmoid), gate);
    let y = ctx.binary(node, BinaryOp::Mul, x, gate);
    ctx.set(node, 0, y)
}

fn thresholded_relu<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>) -> Result<(), OpError> {
    unary(ctx, node, UnaryOp::ThresholdedRelu { alpha: node.float("alpha", 1.0)? })
}

fn shrink<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>) -> Result<(), OpError> {
    unary(ctx, node, UnaryOp::Shrink { lambd: node.float("lambd", 0.5)?, bias: node.float("bias", 0.0)? })
}

fn clip_attributes<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>) -> Result<(), OpError> {
    let x = ctx.operand(node, 0)?;
    clip_between(ctx, node, x, node.float_if("min")?, node.float_if("max")?)
}

fn clip<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>) -> Result<(), OpError> {
    let x = ctx.operand(node, 0)?;
    let float = ctx.fact(x).dtype.is_none_or(|d| d.is_float());
    let mut bounds = [None; 2];
    let mut fixed = float;
    for (i, bound) in bounds.iter_mut().enumerate() {
        if node.input(i + 1).is_none() {
            continue;
        }
        let scalar = ctx.array(node, i + 1)?.and_then(|a| floats(&a)).filter(|v| v.len() == 1);
        match scalar {
            Some(v) => *bound = Some(v[0]),
            None => fixed = false,
        }
    }
    if fixed {
        return clip_between(ctx, node, x, bounds[0], bounds[1]);
    }
    let mut y = x;
    for (i, kind) in [BinaryOp::Max, BinaryOp::Min].into_iter().enumerate() {
        if let Some(bound) = ctx.optional(node, i + 1)? {
            y = ctx.emit(node, Op::Binary(kind), &[Some(y), Some(bound)]);
        }
    }
    if y == x { ctx.alias(node) } else { ctx.set(node, 0, y) }
}

/// Clips to numbers; of floats by one operation.
fn clip_between<'m>(
    ctx: &mut Ctx<'m>,
    node: &NodeView<'m>,
    x: ValueId,
    lo: Option<f32>,
    hi: Option<f32>,
) -> Result<(), OpError> {
    let Some(dtype) = ctx.fact(x).dtype else { return unknown("the operand's element type") };
    if !dtype.is_float() {
        let mut y = x;
        for (kind, bound) in [(BinaryOp::Max, lo), (BinaryOp::Min, hi)] {
            if let Some(bound) = bound {
                let bound = ctx.constant("bound", from_f64(dtype, &[], &[f64::from(bound)]));
                y = ctx.emit(node, Op::Binary(kind), &[Some(y), Some(bound)]);
            }
        }
        return if y == x { ctx.alias(node) } else { ctx.set(node, 0, y) };
    }
    match (lo, hi) {
        (None, None) => ctx.alias(node),
        (Some(0.0), None) => act(ctx, node, Act::Relu),
        // ONNX: a bound left out is the type's least or greatest number. It also keeps infinities out of the header.
        _ => {
            let bound = |v: Option<f32>, default: f32| v.unwrap_or(default).clamp(f32::MIN, f32::MAX);
            let (lo, hi) = (bound(lo, f32::MIN), bound(hi, f32::MAX));
            act(ctx, node, Act::Clip { lo, hi })
        }
    }
}
