//! Elementwise operations.

use super::{Results, broadcast_dims, one, quantized};
use crate::graph::{BinaryOp, DType, UnaryOp};
use crate::plan::build::{Builder, Call, Why};
use crate::plan::fact::{Fact, Quant};
use crate::plan::step::StepOp;
use edge_kernels::cpu::elementwise::Broadcast;

pub(super) fn unary(b: &mut Builder, call: &Call, op: UnaryOp) -> Results {
    let x = call.input(0)?.clone();
    if let UnaryOp::FakeQuant { scale, zero_point } = op {
        return one(quantized::fake(b, call, Quant { scale, zero_point })?);
    }
    if let Some(fact) = quantized::unary(b, call, op)? {
        return one(fact);
    }
    match op {
        UnaryOp::Not | UnaryOp::BitNot => {
            let out = b.result(x.dtype, &x.dims)?;
            b.emit(StepOp::Unary(op), &[Some(&x)], &[&out])?;
            one(out)
        }
        UnaryOp::IsNan | UnaryOp::IsInf { .. } => {
            let x = b.float(call.value(0), &x)?;
            let out = b.result(DType::Bool, &x.dims)?;
            b.emit(StepOp::Unary(op), &[Some(&x)], &[&out])?;
            one(out)
        }
        UnaryOp::Neg | UnaryOp::Abs | UnaryOp::Sign if !x.dtype.is_float() && x.quant.is_none() => {
            let out = b.result(x.dtype, &x.dims)?;
            b.emit(StepOp::Unary(op), &[Some(&x)], &[&out])?;
            one(out)
        }
        UnaryOp::Floor | UnaryOp::Ceil | UnaryOp::Round if !x.dtype.is_float() && x.quant.is_none() => one(x),
        UnaryOp::Act(act) if !x.dtype.is_float() && x.quant.is_none() => integer_act(b, call, act, &x),
        _ => {
            let x = b.float(call.value(0), &x)?;
            let out = b.result(DType::F32, &x.dims)?;
            b.emit(StepOp::Unary(op), &[Some(&x)], &[&out])?;
            one(out)
        }
    }
}

/// Relu and Clip on plain integers: maximum and minimum with the bounds.
fn integer_act(b: &mut Builder, call: &Call, act: crate::graph::Act, x: &Fact) -> Results {
    use crate::graph::Act;
    let (lo, hi) = match act {
        Act::Relu => (0.0, f32::INFINITY),
        Act::Clip { lo, hi } => (lo, hi),
        Act::None => return one(x.clone()),
        other => return Err(format!("{other:?} of {} elements", x.dtype)),
    };
    let mut value = x.clone();
    for (op, bound) in [(BinaryOp::Max, lo), (BinaryOp::Min, hi)] {
        if bound.is_infinite() {
            continue;
        }
        let bytes = match x.dtype {
            DType::I8 => (bound as i8).to_le_bytes().to_vec(),
            DType::U8 => (bound as u8).to_le_bytes().to_vec(),
            DType::I32 => (bound as i32).to_le_bytes().to_vec(),
            DType::I64 => (bound as i64).to_le_bytes().to_vec(),
            other => return Err(format!("{act:?} of {other} elements")),
        };
        let bound = b.known_fact(x.dtype, vec![], bytes);
        value = numeric(b, op, &value, &bound, x.dtype, call)?;
    }
    one(value)
}

fn numeric(
    b: &mut Builder,
    op: BinaryOp,
    x: &Fact,
    y: &Fact,
    dtype: DType,
    _call: &Call,
) -> Result<Fact, Why> {
    let dims = broadcast_dims(&[&x.dims, &y.dims])?;
    let broadcast = Broadcast::new([&x.dims, &y.dims]).map_err(|e| e.to_string())?;
    let out = b.result(dtype, &dims)?;
    b.emit(StepOp::Binary { op, broadcast: broadcast.into() }, &[Some(x), Some(y)], &[&out])?;
    Ok(out)
}

pub(super) fn binary(b: &mut Builder, call: &Call, op: BinaryOp) -> Results {
    let (x, y) = (call.input(0)?.clone(), call.input(1)?.clone());
    if let Some(fact) = quantized::binary(b, call, op)? {
        return one(fact);
    }
    let compares = matches!(
        op,
        BinaryOp::Equal
            | BinaryOp::Less
            | BinaryOp::LessOrEqual
            | BinaryOp::Greater
            | BinaryOp::GreaterOrEqual
    );
    let float = |f: &Fact| f.dtype.is_float() || f.quant.is_some();
    let (x, y) = if float(&x) || float(&y) {
        // A power may have an integer exponent, or an integer base.
        (b.float(call.value(0), &x)?, b.float(call.value(1), &y)?)
    } else if x.dtype != y.dtype {
        // Only Pow and shifts may mix integer types; the result has the left one.
        (x.clone(), cast_to(b, &y, x.dtype)?)
    } else {
        (x, y)
    };
    let plain = matches!(x.dtype, DType::F32 | DType::I32 | DType::I64 | DType::U8 | DType::I8 | DType::Bool);
    if !plain {
        // Rare integer types are computed in i64.
        let (wide_x, wide_y) = (cast_to(b, &x, DType::I64)?, cast_to(b, &y, DType::I64)?);
        let dtype = if compares { DType::Bool } else { DType::I64 };
        let out = numeric(b, op, &wide_x, &wide_y, dtype, call)?;
        return one(if compares { out } else { cast_to(b, &out, x.dtype)? });
    }
    let dtype = if compares { DType::Bool } else { x.dtype };
    let out = numeric(b, op, &x, &y, dtype, call)?;
    // An integer base with a float exponent was computed in f32 and keeps the base's type.
    let declared = call.input(0)?;
    if op == BinaryOp::Pow
        && declared.quant.is_none()
        && !declared.dtype.is_float()
        && out.dtype == DType::F32
    {
        return one(cast_to(b, &out, declared.dtype)?);
    }
    one(out)
}

pub(super) fn select(b: &mut Builder, call: &Call) -> Results {
    let condition = call.input(0)?.clone();
    if condition.dtype != DType::Bool {
        return Err(format!("a condition of type {}; booleans choose", condition.dtype));
    }
    let (mut x, mut y) = (call.input(1)?.clone(), call.input(2)?.clone());
    if x.quant.is_some() || y.quant.is_some() {
        x = b.float(call.value(1), &x)?;
        y = b.float(call.value(2), &y)?;
    }
    if x.dtype != y.dtype {
        return Err(format!("branches of types {} and {}", x.dtype, y.dtype));
    }
    let dims = broadcast_dims(&[&condition.dims, &x.dims, &y.dims])?;
    let broadcast = Broadcast::new([&condition.dims, &x.dims, &y.dims]).map_err(|e| e.to_string())?;
    let out = b.result(x.dtype, &dims)?;
    b.emit(StepOp::Where { broadcast: broadcast.into() }, &[Some(&condition), Some(&x), Some(&y)], &[&out])?;
    one(out)
}

/// The value in another element type.
pub(super) fn cast_to(b: &mut Builder, x: &Fact, to: DType) -> Result<Fact, Why> {
    if x.dtype == to && x.quant.is_none() {
        return Ok(x.clone());
    }
    if x.dtype == DType::U64 || to == DType::U64 {
        return Err(format!("a cast from {} to {to}", x.dtype));
    }
    let x = if x.quant.is_some() { b.float(None, x)? } else { x.clone() };
    let out = b.result(to, &x.dims)?;
    b.emit(StepOp::Cast, &[Some(&x)], &[&out])?;
    Ok(out)
}

pub(super) fn cast(b: &mut Builder, call: &Call, to: DType) -> Results {
    let x = call.input(0)?.clone();
    if x.quant.is_some() && to == DType::F32 {
        return one(b.float(call.value(0), &x)?);
    }
    one(cast_to(b, &x, to)?)
}
