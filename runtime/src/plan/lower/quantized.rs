//! Elementwise operations on i8 values of an integer rung.

use super::broadcast_dims;
use crate::graph::{BinaryOp, DType, UnaryOp};
use crate::plan::build::{Builder, Call, Why};
use crate::plan::fact::{Fact, Quant};
use crate::plan::step::StepOp;
use edge_kernels::cpu::elementwise::Broadcast;

/// Whether a unary function of i8 is a table of 256 entries (every real function is).
pub(super) fn by_table(op: UnaryOp) -> bool {
    !matches!(op, UnaryOp::Not | UnaryOp::BitNot | UnaryOp::IsNan | UnaryOp::IsInf { .. })
}

/// The table of `f` from codes of `from` to codes of `to`.
fn table(from: Quant, to: Quant, f: impl Fn(f32) -> f32) -> Box<[i8; 256]> {
    let inverse = 1.0 / to.scale;
    let mut table = Box::new([0i8; 256]);
    // Indexed by the code's bits: 0 to 127, then -128 to -1.
    for (bits, entry) in table.iter_mut().enumerate() {
        let real = (i32::from(bits as u8 as i8) - from.zero_point) as f32 * from.scale;
        let code = (f(real) * inverse).round_ties_even() + to.zero_point as f32;
        *entry = code.clamp(-128.0, 127.0) as i8;
    }
    table
}

/// A unary function of an i8 value; `None` when the value or the result is not held as i8.
pub(super) fn unary(b: &mut Builder, call: &Call, op: UnaryOp) -> Result<Option<Fact>, Why> {
    let x = call.input(0)?.clone();
    let (Some(from), true) = (x.quant, by_table(op)) else { return Ok(None) };
    let Some(to) = b.result_quant(call.result(0)) else { return Ok(None) };
    let function = crate::cpu::elementwise::scalar(op);
    let out = b.result_i8(to, &x.dims)?;
    b.emit(StepOp::Table(table(from, to, function)), &[Some(&x)], &[&out])?;
    Ok(Some(out))
}

/// The value as the codes of `to`, which stand for reals: left as codes in an integer rung, else taken back.
pub(super) fn fake(b: &mut Builder, call: &Call, to: Quant) -> Result<Fact, Why> {
    let valid = to.scale.is_finite() && to.scale > 0.0 && (-128..=127).contains(&to.zero_point);
    if !valid {
        return Err(format!("a scale of {} and a zero point of {}", to.scale, to.zero_point));
    }
    let x = call.input(0)?.clone();
    if x.quant.is_some() {
        return requantize(b, &x, to);
    }
    let x = b.float(call.value(0), &x)?;
    let out = b.result_i8(to, &x.dims)?;
    b.emit(StepOp::QuantizeByDivision(to), &[Some(&x)], &[&out])?;
    if b.integer_rung() && !call.input(0)?.is_known() {
        return Ok(out);
    }
    let real = b.result(DType::F32, &x.dims)?;
    b.emit(StepOp::Dequantize(to), &[Some(&out)], &[&real])?;
    Ok(real)
}

/// The value with another scale and zero point.
pub(super) fn requantize(b: &mut Builder, x: &Fact, to: Quant) -> Result<Fact, Why> {
    let from = x.quant.ok_or("an i8 value without a scale")?;
    if from == to {
        return Ok(x.clone());
    }
    let out = b.result_i8(to, &x.dims)?;
    b.emit(StepOp::Table(table(from, to, |x| x)), &[Some(x)], &[&out])?;
    Ok(out)
}

/// A sum or product of two values, or a quotient by a number, of which at least one is held as i8; `None` when it is computed in f32.
pub(super) fn binary(b: &mut Builder, call: &Call, op: BinaryOp) -> Result<Option<Fact>, Why> {
    if !b.integer_rung() || !matches!(op, BinaryOp::Add | BinaryOp::Mul | BinaryOp::Div) {
        return Ok(None);
    }
    let (x, y) = (call.input(0)?.clone(), call.input(1)?.clone());
    let float = |f: &Fact| f.dtype == DType::F32 || f.quant.is_some();
    if (x.quant.is_none() && y.quant.is_none()) || !float(&x) || !float(&y) {
        return Ok(None);
    }
    let Some(quant) = b.result_quant(call.result(0)) else { return Ok(None) };
    if let Some(table) = with_scalar(b, op, &x, &y, quant)? {
        return Ok(Some(table));
    }
    if op == BinaryOp::Div {
        return Ok(None);
    }
    let (Some(x), Some(y)) = (b.integer(call.value(0), &x)?, b.integer(call.value(1), &y)?) else {
        return Ok(None);
    };
    let dims = broadcast_dims(&[&x.dims, &y.dims])?;
    let broadcast = Broadcast::new([&x.dims, &y.dims]).map_err(|e| e.to_string())?;
    let out = b.result_i8(quant, &dims)?;
    b.emit(StepOp::Binary { op, broadcast: broadcast.into() }, &[Some(&x), Some(&y)], &[&out])?;
    Ok(Some(out))
}

/// A known scalar operand makes the operation a table.
fn with_scalar(b: &mut Builder, op: BinaryOp, x: &Fact, y: &Fact, to: Quant) -> Result<Option<Fact>, Why> {
    let (x, scalar) = match (x.quant, y.quant) {
        (Some(_), None) if y.is_known() && y.elements() == 1 && y.rank() <= x.rank() => (x, y),
        (None, Some(_))
            if x.is_known() && x.elements() == 1 && x.rank() <= y.rank() && op != BinaryOp::Div =>
        {
            (y, x)
        }
        _ => return Ok(None),
    };
    let c = *b.floats(scalar)?.first().ok_or("an empty scalar")?;
    let from = x.quant.ok_or("an i8 value without a scale")?;
    let table = match op {
        BinaryOp::Add => table(from, to, |x| x + c),
        BinaryOp::Div => table(from, to, |x| x / c),
        _ => table(from, to, |x| x * c),
    };
    let out = b.result_i8(to, &x.dims)?;
    b.emit(StepOp::Table(table), &[Some(x)], &[&out])?;
    Ok(Some(out))
}
