//! Elementwise functions of two operands, of many, and `Where`.

use super::{MANY, NOW, Operator, Types, op};
use crate::import::onnx::ctx::Ctx;
use crate::import::onnx::node::{NodeView, OpError, malformed, unknown};
use crate::import::onnx::ranks::normalize;
use crate::import::onnx::tensors::from_f64;
use edge_runtime::graph::{BinaryOp, DType, Op, ValueId};

/// The lines of an operator of two operands: before opset 7 broadcasting was asked for by attributes.
macro_rules! pair {
    ($name:literal, $types:ident, $op:expr) => {
        op($name, (7, NOW), (2, 2), Types::$types, &[], |c, n| binary(c, n, $op))
    };
    (old $name:literal, $types:ident, $op:expr) => {
        op($name, (1, 6), (2, 2), Types::$types, LEGACY, |c, n| legacy(c, n, $op))
    };
}

const LEGACY: &[&str] = &["axis", "broadcast", "consumed_inputs"];

/// The table.
pub const OPERATORS: &[Operator] = &[
    pair!("Add", Number, BinaryOp::Add),
    pair!(old "Add", Number, BinaryOp::Add),
    pair!("Sub", Number, BinaryOp::Sub),
    pair!(old "Sub", Number, BinaryOp::Sub),
    pair!("Mul", Number, BinaryOp::Mul),
    pair!(old "Mul", Number, BinaryOp::Mul),
    pair!("Div", Number, BinaryOp::Div),
    pair!(old "Div", Number, BinaryOp::Div),
    op("Pow", (7, NOW), (2, 2), Types::Number, &[], pow),
    pair!(old "Pow", Number, BinaryOp::Pow),
    pair!("PRelu", Number, BinaryOp::PRelu),
    op("PRelu", (1, 6), (2, 2), Types::Float, &["consumed_inputs"], prelu_old),
    pair!("Equal", Any, BinaryOp::Equal),
    pair!(old "Equal", Any, BinaryOp::Equal),
    pair!("Less", Number, BinaryOp::Less),
    pair!(old "Less", Number, BinaryOp::Less),
    pair!("LessOrEqual", Number, BinaryOp::LessOrEqual),
    pair!("Greater", Number, BinaryOp::Greater),
    pair!(old "Greater", Number, BinaryOp::Greater),
    pair!("GreaterOrEqual", Number, BinaryOp::GreaterOrEqual),
    pair!("And", Any, BinaryOp::And),
    pair!(old "And", Any, BinaryOp::And),
    pair!("Or", Any, BinaryOp::Or),
    pair!(old "Or", Any, BinaryOp::Or),
    pair!("Xor", Any, BinaryOp::Xor),
    pair!(old "Xor", Any, BinaryOp::Xor),
    pair!("BitwiseAnd", Integer, BinaryOp::BitAnd),
    pair!("BitwiseOr", Integer, BinaryOp::BitOr),
    pair!("BitwiseXor", Integer, BinaryOp::BitXor),
    op("BitShift", (11, NOW), (2, 2), Types::Integer, &["direction"], bit_shift),
    op("Mod", (10, NOW), (2, 2), Types::Number, &["fmod"], modulo),
    op("Max", (1, NOW), (1, MANY), Types::Number, &["consumed_inputs"], |c, n| fold(c, n, BinaryOp::Max)),
    op("Min", (1, NOW), (1, MANY), Types::Number, &["consumed_inputs"], |c, n| fold(c, n, BinaryOp::Min)),
    op("Sum", (1, NOW), (1, MANY), Types::Number, &["consumed_inputs"], |c, n| fold(c, n, BinaryOp::Add)),
    op("Mean", (1, NOW), (1, MANY), Types::Float, &["consumed_inputs"], mean),
    op("Where", (9, NOW), (3, 3), Types::Any, &[], where_),
];

fn operands<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>) -> Result<(ValueId, ValueId), OpError> {
    Ok((ctx.operand(node, 0)?, ctx.operand(node, 1)?))
}

fn finish<'m>(
    ctx: &mut Ctx<'m>,
    node: &NodeView<'m>,
    op: BinaryOp,
    a: ValueId,
    b: ValueId,
) -> Result<(), OpError> {
    let y = ctx.emit(node, Op::Binary(op), &[Some(a), Some(b)]);
    ctx.set(node, 0, y)
}

fn binary<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>, op: BinaryOp) -> Result<(), OpError> {
    let (a, b) = operands(ctx, node)?;
    finish(ctx, node, op, a, b)
}

/// Before opset 7: b's dimensions are matched to a's from `axis` on, or to the last ones.
fn legacy<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>, op: BinaryOp) -> Result<(), OpError> {
    let (a, mut b) = operands(ctx, node)?;
    if node.flag("broadcast", false)?
        && let Some(axis) = node.int_if("axis")?
    {
        let (outer, inner) = (ctx.rank(a)?, ctx.rank(b)?);
        let Some(axis) = normalize(axis, outer).filter(|axis| axis + inner <= outer) else {
            return malformed(format!("axis {axis} for {inner} of {outer} dimensions"));
        };
        let axes: Vec<i32> = (inner..outer - axis).map(|a| a as i32).collect();
        if !axes.is_empty() {
            b = ctx.emit(node, Op::Unsqueeze { axes }, &[Some(b)]);
        }
    }
    finish(ctx, node, op, a, b)
}

/// Before opset 7: one slope, or one for each channel.
fn prelu_old<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>) -> Result<(), OpError> {
    let (x, mut slope) = operands(ctx, node)?;
    let rank = ctx.rank(x)?;
    if ctx.rank(slope)? == 1 && rank > 2 {
        let axes = (1..rank as i32 - 1).collect();
        slope = ctx.emit(node, Op::Unsqueeze { axes }, &[Some(slope)]);
    }
    finish(ctx, node, BinaryOp::PRelu, x, slope)
}

/// The exponent may be of another type than the base, whose type the result has.
fn pow<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>) -> Result<(), OpError> {
    let (a, b) = operands(ctx, node)?;
    match (ctx.fact(a).dtype, ctx.fact(b).dtype) {
        (Some(base), Some(exponent)) if base != exponent => {
            let cast = |to: DType| Op::Cast { to };
            // An integer base with a real exponent is computed as real numbers.
            let work = if base.is_float() || !exponent.is_float() { base } else { exponent };
            let a = if base == work { a } else { ctx.emit(node, cast(work), &[Some(a)]) };
            let b = if exponent == work { b } else { ctx.emit(node, cast(work), &[Some(b)]) };
            let y = ctx.emit(node, Op::Binary(BinaryOp::Pow), &[Some(a), Some(b)]);
            let y = if base == work { y } else { ctx.emit(node, cast(base), &[Some(y)]) };
            ctx.set(node, 0, y)
        }
        _ => finish(ctx, node, BinaryOp::Pow, a, b),
    }
}

fn bit_shift<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>) -> Result<(), OpError> {
    match node.string("direction", "")? {
        "LEFT" => binary(ctx, node, BinaryOp::ShiftLeft),
        "RIGHT" => binary(ctx, node, BinaryOp::ShiftRight),
        other => malformed(format!("direction {other:?}")),
    }
}

fn modulo<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>) -> Result<(), OpError> {
    let fmod = node.flag("fmod", false)?;
    binary(ctx, node, if fmod { BinaryOp::Fmod } else { BinaryOp::Mod })
}

fn folded<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>, op: BinaryOp) -> Result<ValueId, OpError> {
    let mut y = ctx.operand(node, 0)?;
    for i in 1..node.inputs() {
        let b = ctx.operand(node, i)?;
        y = ctx.emit(node, Op::Binary(op), &[Some(y), Some(b)]);
    }
    Ok(y)
}

fn fold<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>, op: BinaryOp) -> Result<(), OpError> {
    if node.inputs() == 1 {
        return ctx.alias(node);
    }
    let y = folded(ctx, node, op)?;
    ctx.set(node, 0, y)
}

fn mean<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>) -> Result<(), OpError> {
    if node.inputs() == 1 {
        return ctx.alias(node);
    }
    let sum = folded(ctx, node, BinaryOp::Add)?;
    let Some(dtype) = ctx.fact(sum).dtype else { return unknown("the operands' element type") };
    let count = ctx.constant("count", from_f64(dtype, &[], &[node.inputs() as f64]));
    finish(ctx, node, BinaryOp::Div, sum, count)
}

fn where_<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>) -> Result<(), OpError> {
    let condition = ctx.operand(node, 0)?;
    let (a, b) = (ctx.operand(node, 1)?, ctx.operand(node, 2)?);
    let y = ctx.emit(node, Op::Where, &[Some(condition), Some(a), Some(b)]);
    ctx.set(node, 0, y)
}
