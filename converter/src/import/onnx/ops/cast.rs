//! Conversions, and operators that change nothing.

use super::{NOW, Operator, Types, op};
use crate::import::onnx::ctx::Ctx;
use crate::import::onnx::node::{NodeView, OpError, malformed, unknown, unsupported};
use crate::import::onnx::tensors::{dtype, four_bits, from_f64};
use crate::import::onnx::wide::is_narrow;
use crate::simplify::evaluate;
use edge_runtime::graph::{BinaryOp, DType, Op};

/// The table.
pub const OPERATORS: &[Operator] = &[
    // Opset 1 to 5 name the type by a string, which no exporter of the last years writes.
    op("Cast", (6, NOW), (1, 1), Types::Any, &["to", "saturate", "round_mode"], cast),
    op("CastLike", (15, NOW), (2, 2), Types::Any, &["saturate", "round_mode"], cast_like),
    op("Identity", (1, NOW), (1, 1), Types::Any, &[], |c, n| c.alias(n)),
    op("Dropout", (1, 6), (1, 1), Types::Float, &["consumed_inputs", "is_test", "ratio"], dropout_old),
    op("Dropout", (7, 11), (1, 1), Types::Float, &["ratio"], dropout),
    op("Dropout", (12, NOW), (1, 3), Types::Float, &["seed"], dropout),
];

/// `saturate` and `round_mode` are about 8-bit floats, which are refused.
fn cast<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>) -> Result<(), OpError> {
    let Some(to) = node.int_if("to")? else { return malformed("attribute `to` is missing") };
    let number = i32::try_from(to).unwrap_or(0);
    match dtype(number) {
        Ok(to) => cast_to(ctx, node, to, four_bits(number)),
        Err(name) => unsupported(format!("attribute to={to} ({name}) is not implemented")),
    }
}

fn cast_like<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>) -> Result<(), OpError> {
    match ctx.operand_dtype(node, 1) {
        Some(to) => cast_to(ctx, node, to, ctx.four_bits(node, 1)),
        None => unknown("the element type of operand 1"),
    }
}

fn cast_to<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>, to: DType, four_bits: bool) -> Result<(), OpError> {
    if is_narrow(to) {
        return narrow(ctx, node, to);
    }
    if let Some(rounded) = ctx.rounded_to(node, 0) {
        let x = ctx.operand(node, 0)?;
        let x = ctx.rounded(node, x, rounded);
        let y = ctx.emit(node, Op::Cast { to }, &[Some(x)]);
        return ctx.set(node, 0, y);
    }
    if to == DType::F32
        && let Some(x) = ctx.optional(node, 0)?.and_then(|x| ctx.plain.get(&x).copied())
        && ctx.fact(x).dtype == Some(DType::F32)
    {
        return ctx.set(node, 0, x);
    }
    let same = ctx.operand_dtype(node, 0) == Some(to) && ctx.four_bits(node, 0) == four_bits;
    match four_bits {
        _ if same => ctx.alias(node),
        false => ctx.map(node, Op::Cast { to }),
        true => to_four_bits(ctx, node, to),
    }
}

/// A cast to floats of 16 bits: what is known is rounded, what is computed stays as it is and is rounded where it is cast back.
fn narrow<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>, to: DType) -> Result<(), OpError> {
    let x = ctx.operand(node, 0)?;
    let wide = ctx.emit(node, Op::Cast { to: DType::F32 }, &[Some(x)]);
    let known =
        ctx.model.constant(wide).and_then(|array| evaluate(&Op::Cast { to }, &[Some(array)], 1)?.pop());
    let y = match known {
        Some(array) => ctx.constant(&format!("{}/cast", node.name), array),
        None => {
            let y = ctx.emit(node, Op::Identity, &[Some(wide)]);
            ctx.mark_rounded(y, to);
            y
        }
    };
    ctx.set(node, 0, y)
}

/// Keeps the low 4 bits of the whole number, as casts to wider integers keep theirs.
fn to_four_bits<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>, to: DType) -> Result<(), OpError> {
    let x = ctx.operand(node, 0)?;
    let mut f = ctx.formula(node);
    let x = f.cast(x, DType::I64);
    let (mask, offset) = (f.integer(15), f.integer(if to == DType::I8 { 8 } else { 0 }));
    let x = f.add(x, offset);
    let x = f.binary(BinaryOp::BitAnd, x, mask);
    let x = f.sub(x, offset);
    let y = f.cast(x, to);
    ctx.mark_four_bits(y);
    ctx.set(node, 0, y)
}

fn dropout_old<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>) -> Result<(), OpError> {
    // Training is the default here; every exporter for inference sets it.
    if !node.flag("is_test", false)? {
        return unsupported("attribute is_test=0 (training) is not implemented");
    }
    dropout(ctx, node)
}

/// At inference the operand itself, and a mask that drops nothing.
fn dropout<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>) -> Result<(), OpError> {
    if node.input(2).is_some() && ctx.known(node, 2)?.is_none_or(|v| v != [0]) {
        return unsupported("operand training_mode other than false is not implemented");
    }
    if node.output(1).is_some() {
        let x = ctx.operand(node, 0)?;
        // Before opset 10 the mask had the operand's type.
        let dtype = if node.opset < 10 { ctx.fact(x).dtype } else { Some(DType::Bool) };
        let Some(dtype) = dtype else { return unknown("the operand's element type") };
        let value = from_f64(dtype, &[], &[1.0]).data.to_vec();
        let shape = ctx.emit(node, Op::Shape { start: 0, end: None }, &[Some(x)]);
        let mask = ctx.emit(node, Op::ConstantOfShape { dtype, value }, &[Some(shape)]);
        ctx.set(node, 1, mask)?;
    }
    ctx.alias(node)
}
