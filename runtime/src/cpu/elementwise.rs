//! Elementwise steps.

use super::memory::{OUTPUTS, Views};
use super::tail::activation;
use super::{Context, floats, floats_mut};
use crate::graph::{BinaryOp, DType, UnaryOp};
use crate::plan::{Quant, Step, StepOp};
use edge_kernels::cpu::elementwise::{
    self as ew, BitwiseOp, Broadcast, CompareOp, Elements, ElementsMut, FloatTest, InOut, IntUnaryOp,
    LogicalOp, Side,
};
use edge_kernels::cpu::quantize;

/// Elements of a task: about 20 microseconds of work.
const CHUNK: usize = 16 << 10;

/// The kernels' name of a unary function of real numbers.
fn real(op: UnaryOp) -> Option<ew::UnaryOp> {
    Some(match op {
        UnaryOp::Act(act) => ew::UnaryOp::Activation(activation(act)),
        UnaryOp::Neg => ew::UnaryOp::Neg,
        UnaryOp::Abs => ew::UnaryOp::Abs,
        UnaryOp::Sqrt => ew::UnaryOp::Sqrt,
        UnaryOp::Exp => ew::UnaryOp::Exp,
        UnaryOp::Log => ew::UnaryOp::Log,
        UnaryOp::Sin => ew::UnaryOp::Sin,
        UnaryOp::Cos => ew::UnaryOp::Cos,
        UnaryOp::Tan => ew::UnaryOp::Tan,
        UnaryOp::Asin => ew::UnaryOp::Asin,
        UnaryOp::Acos => ew::UnaryOp::Acos,
        UnaryOp::Atan => ew::UnaryOp::Atan,
        UnaryOp::Sinh => ew::UnaryOp::Sinh,
        UnaryOp::Cosh => ew::UnaryOp::Cosh,
        UnaryOp::Asinh => ew::UnaryOp::Asinh,
        UnaryOp::Acosh => ew::UnaryOp::Acosh,
        UnaryOp::Atanh => ew::UnaryOp::Atanh,
        UnaryOp::Erf => ew::UnaryOp::Erf,
        UnaryOp::Sign => ew::UnaryOp::Sign,
        UnaryOp::Floor => ew::UnaryOp::Floor,
        UnaryOp::Ceil => ew::UnaryOp::Ceil,
        UnaryOp::Round => ew::UnaryOp::Round,
        UnaryOp::Reciprocal => ew::UnaryOp::Reciprocal,
        UnaryOp::Softplus => ew::UnaryOp::Softplus,
        UnaryOp::Softsign => ew::UnaryOp::Softsign,
        UnaryOp::Elu { alpha } => ew::UnaryOp::Elu { alpha },
        UnaryOp::Selu { alpha, gamma } => ew::UnaryOp::Selu { alpha, gamma },
        UnaryOp::Celu { alpha } => ew::UnaryOp::Celu { alpha },
        UnaryOp::ThresholdedRelu { alpha } => ew::UnaryOp::ThresholdedRelu { alpha },
        UnaryOp::Mish => ew::UnaryOp::Mish,
        UnaryOp::Shrink { lambd, bias } => ew::UnaryOp::Shrink { lambd, bias },
        UnaryOp::Not | UnaryOp::BitNot | UnaryOp::IsNan | UnaryOp::IsInf { .. } => return None,
        // Lowered to steps of its own.
        UnaryOp::FakeQuant { .. } => return None,
    })
}

/// A unary function of one number, by the kernel that computes many.
pub(crate) fn scalar(op: UnaryOp) -> impl Fn(f32) -> f32 {
    let loops = edge_kernels::cpu::loops::select(edge_kernels::Isa::Scalar);
    move |x| {
        let mut value = [x];
        if let Some(op) = real(op) {
            ew::unary(loops, op, InOut::InPlace(&mut value));
        }
        value[0]
    }
}

pub(super) fn unary(ctx: &Context<'_>, step: &Step, views: Views<'_>, op: UnaryOp) -> Result<(), String> {
    let [out, ..] = views.outputs;
    let input = if views.in_place == Some(0) { None } else { views.inputs[0] };
    if let (Some(real), DType::F32) = (real(op), step.outputs[0].dtype) {
        let out = floats_mut(out);
        ctx.pool.chunks_mut(out, CHUNK, |_, i, out| {
            let io = match input {
                None => InOut::InPlace(out),
                Some(x) => InOut::Apart(&floats(x)[i * CHUNK..][..out.len()], out),
            };
            ew::unary(ctx.kernels.loops, real, io);
        });
        return Ok(());
    }
    fn io<'a, T: bytemuck::Pod>(x: Option<&'a [u8]>, y: &'a mut [u8]) -> InOut<'a, T> {
        match x {
            None => InOut::InPlace(super::elements_mut(y)),
            Some(x) => InOut::Apart(super::elements(x), super::elements_mut(y)),
        }
    }
    let integer = match op {
        UnaryOp::Not => {
            ew::not(io(input, out));
            return Ok(());
        }
        UnaryOp::IsNan => {
            ew::test(FloatTest::IsNan, floats(input.unwrap_or_default()), out);
            return Ok(());
        }
        UnaryOp::IsInf { positive, negative } => {
            ew::test(FloatTest::IsInf { positive, negative }, floats(input.unwrap_or_default()), out);
            return Ok(());
        }
        UnaryOp::Neg => IntUnaryOp::Neg,
        UnaryOp::Abs => IntUnaryOp::Abs,
        UnaryOp::Sign => IntUnaryOp::Sign,
        UnaryOp::BitNot => IntUnaryOp::BitNot,
        other => return Err(format!("{other:?} of {} elements", step.outputs[0].dtype)),
    };
    match step.outputs[0].dtype {
        DType::I8 => ew::unary_int::<i8>(integer, io(input, out)),
        DType::I16 => ew::unary_int::<i16>(integer, io(input, out)),
        DType::I32 => ew::unary_int::<i32>(integer, io(input, out)),
        DType::I64 => ew::unary_int::<i64>(integer, io(input, out)),
        DType::U8 => ew::unary_int::<u8>(integer, io(input, out)),
        DType::U16 => ew::unary_int::<u16>(integer, io(input, out)),
        DType::U32 => ew::unary_int::<u32>(integer, io(input, out)),
        DType::U64 => ew::unary_int::<u64>(integer, io(input, out)),
        other => return Err(format!("{op:?} of {other} elements")),
    }
    Ok(())
}

/// A binary operation by family, as the kernels have it.
enum Family {
    Arithmetic(ew::BinaryOp),
    Compare(CompareOp),
    Logical(LogicalOp),
    Bitwise(BitwiseOp),
}

fn family(op: BinaryOp) -> Family {
    use Family::{Arithmetic, Bitwise, Compare, Logical};
    match op {
        BinaryOp::Add => Arithmetic(ew::BinaryOp::Add),
        BinaryOp::Sub => Arithmetic(ew::BinaryOp::Sub),
        BinaryOp::Mul => Arithmetic(ew::BinaryOp::Mul),
        BinaryOp::Div => Arithmetic(ew::BinaryOp::Div),
        BinaryOp::Pow => Arithmetic(ew::BinaryOp::Pow),
        BinaryOp::Max => Arithmetic(ew::BinaryOp::Max),
        BinaryOp::Min => Arithmetic(ew::BinaryOp::Min),
        BinaryOp::Mod => Arithmetic(ew::BinaryOp::FloorMod),
        BinaryOp::Fmod => Arithmetic(ew::BinaryOp::TruncMod),
        BinaryOp::PRelu => Arithmetic(ew::BinaryOp::PRelu),
        BinaryOp::Equal => Compare(CompareOp::Equal),
        BinaryOp::Less => Compare(CompareOp::Less),
        BinaryOp::LessOrEqual => Compare(CompareOp::LessOrEqual),
        BinaryOp::Greater => Compare(CompareOp::Greater),
        BinaryOp::GreaterOrEqual => Compare(CompareOp::GreaterOrEqual),
        BinaryOp::And => Logical(LogicalOp::And),
        BinaryOp::Or => Logical(LogicalOp::Or),
        BinaryOp::Xor => Logical(LogicalOp::Xor),
        BinaryOp::BitAnd => Bitwise(BitwiseOp::And),
        BinaryOp::BitOr => Bitwise(BitwiseOp::Or),
        BinaryOp::BitXor => Bitwise(BitwiseOp::Xor),
        BinaryOp::ShiftLeft => Bitwise(BitwiseOp::ShiftLeft),
        BinaryOp::ShiftRight => Bitwise(BitwiseOp::ShiftRight),
    }
}

pub(super) fn binary(
    ctx: &Context<'_>,
    step: &Step,
    views: Views<'_>,
    op: BinaryOp,
    shape: &Broadcast<2>,
) -> Result<(), String> {
    let dtype = step.inputs[0].as_ref().map_or(DType::F32, |o| o.dtype);
    if step.outputs[0].quant.is_some() {
        return quantized_binary(ctx, step, views, op, shape);
    }
    let loops = ctx.kernels.loops;
    let (a, b) = (views.inputs[0].unwrap_or_default(), views.inputs[1].unwrap_or_default());
    let in_place = views.in_place == Some(0);
    let [out, ..] = views.outputs;
    match (family(op), dtype) {
        (Family::Arithmetic(op), DType::F32) => arithmetic::<f32>(ctx, op, shape, a, b, out, in_place),
        (Family::Arithmetic(op), DType::I32) => arithmetic::<i32>(ctx, op, shape, a, b, out, in_place),
        (Family::Arithmetic(op), DType::I64) => arithmetic::<i64>(ctx, op, shape, a, b, out, in_place),
        (Family::Arithmetic(op), DType::U8) => arithmetic::<u8>(ctx, op, shape, a, b, out, in_place),
        (Family::Arithmetic(op), DType::I8) => arithmetic::<i8>(ctx, op, shape, a, b, out, in_place),
        (Family::Compare(op), DType::F32) => ew::compare(loops, op, shape, floats(a), floats(b), out),
        (Family::Compare(op), DType::I32) => compare::<i32>(ctx, op, shape, a, b, out),
        (Family::Compare(op), DType::I64) => compare::<i64>(ctx, op, shape, a, b, out),
        (Family::Compare(op), DType::I8) => compare::<i8>(ctx, op, shape, a, b, out),
        (Family::Compare(op), DType::U8 | DType::Bool) => ew::compare(loops, op, shape, a, b, out),
        (Family::Logical(op), DType::Bool) if in_place => {
            return Err(format!("{op:?} of booleans in place"));
        }
        (Family::Logical(op), DType::Bool) => ew::logical(loops, op, shape, a, b, out),
        (Family::Bitwise(op), DType::I32) => bitwise::<i32>(op, shape, a, b, out),
        (Family::Bitwise(op), DType::I64) => bitwise::<i64>(op, shape, a, b, out),
        (Family::Bitwise(op), DType::I8) => bitwise::<i8>(op, shape, a, b, out),
        (Family::Bitwise(op), DType::U8) => bitwise::<u8>(op, shape, a, b, out),
        (_, dtype) => return Err(format!("{op:?} of {dtype} elements")),
    }
    Ok(())
}

fn arithmetic<T: ew::Number + bytemuck::Pod + Send + Sync>(
    ctx: &Context<'_>,
    op: ew::BinaryOp,
    shape: &Broadcast<2>,
    a: &[u8],
    b: &[u8],
    out: &mut [u8],
    in_place: bool,
) {
    let out: &mut [T] = super::elements_mut(out);
    let (a, b): (&[T], &[T]) = (super::elements(a), super::elements(b));
    let loops = ctx.kernels.loops;
    let outer = shape.outer();
    let inner = out.len().checked_div(outer).unwrap_or(0);
    // Cut along the outermost joined dimension into tasks of about CHUNK elements.
    let rows = (CHUNK / inner.max(1)).clamp(1, outer.max(1));
    if out.len() <= CHUNK || rows >= outer {
        match in_place {
            true => ew::binary_in_place(loops, op, shape, Side::Lhs, out, b),
            false => ew::binary(loops, op, shape, a, b, out),
        }
        return;
    }
    ctx.pool.chunks_mut(out, rows * inner, |_, i, out| {
        let start = i * rows;
        let (part, [at_a, at_b], _) = shape.part(start, (start + rows).min(outer));
        let b = &b[at_b..at_b + part.operand_len(1)];
        match in_place {
            true => ew::binary_in_place(loops, op, &part, Side::Lhs, out, b),
            false => ew::binary(loops, op, &part, &a[at_a..at_a + part.operand_len(0)], b, out),
        }
    });
}

fn compare<T: ew::Compared + bytemuck::Pod>(
    ctx: &Context<'_>,
    op: CompareOp,
    shape: &Broadcast<2>,
    a: &[u8],
    b: &[u8],
    out: &mut [u8],
) {
    ew::compare::<T>(ctx.kernels.loops, op, shape, super::elements(a), super::elements(b), out);
}

fn bitwise<T: ew::Int + bytemuck::Pod>(
    op: BitwiseOp,
    shape: &Broadcast<2>,
    a: &[u8],
    b: &[u8],
    out: &mut [u8],
) {
    let (a, b) = (super::elements(a), super::elements(b));
    ew::bitwise::<T>(op, shape, a, b, super::elements_mut(out));
}

pub(super) fn select(
    shape: &Broadcast<3>,
    condition: &[u8],
    a: &[u8],
    b: &[u8],
    outputs: [&mut [u8]; OUTPUTS],
    dtype: DType,
) {
    let [out, ..] = outputs;
    fn typed<T: bytemuck::Pod>(shape: &Broadcast<3>, c: &[u8], a: &[u8], b: &[u8], out: &mut [u8]) {
        let (a, b) = (super::elements::<T>(a), super::elements(b));
        ew::select(shape, c, a, b, super::elements_mut(out));
    }
    match dtype.bytes() {
        1 => typed::<u8>(shape, condition, a, b, out),
        2 => typed::<u16>(shape, condition, a, b, out),
        4 => typed::<u32>(shape, condition, a, b, out),
        _ => typed::<u64>(shape, condition, a, b, out),
    }
}

pub(super) fn cast(step: &Step, x: &[u8], outputs: [&mut [u8]; OUTPUTS]) -> Result<(), String> {
    let [out, ..] = outputs;
    let from = step.inputs[0].as_ref().map_or(DType::F32, |o| o.dtype);
    let x = match from {
        DType::F32 => Elements::F32(floats(x)),
        DType::F64 => Elements::F64(super::elements(x)),
        DType::F16 => Elements::F16(super::elements(x)),
        DType::Bf16 => Elements::Bf16(super::elements(x)),
        DType::I64 => Elements::I64(super::elements(x)),
        DType::I32 => Elements::I32(super::elements(x)),
        DType::I16 => Elements::I16(super::elements(x)),
        DType::I8 => Elements::I8(super::elements(x)),
        DType::U32 => Elements::U32(super::elements(x)),
        DType::U16 => Elements::U16(super::elements(x)),
        DType::U8 => Elements::U8(x),
        DType::Bool => Elements::Bool(x),
        DType::U64 => return Err("a cast from u64".into()),
    };
    let y = match step.outputs[0].dtype {
        DType::F32 => ElementsMut::F32(floats_mut(out)),
        DType::F64 => ElementsMut::F64(super::elements_mut(out)),
        DType::F16 => ElementsMut::F16(super::elements_mut(out)),
        DType::Bf16 => ElementsMut::Bf16(super::elements_mut(out)),
        DType::I64 => ElementsMut::I64(super::elements_mut(out)),
        DType::I32 => ElementsMut::I32(super::elements_mut(out)),
        DType::I16 => ElementsMut::I16(super::elements_mut(out)),
        DType::I8 => ElementsMut::I8(super::elements_mut(out)),
        DType::U32 => ElementsMut::U32(super::elements_mut(out)),
        DType::U16 => ElementsMut::U16(super::elements_mut(out)),
        DType::U8 => ElementsMut::U8(out),
        DType::Bool => ElementsMut::Bool(out),
        DType::U64 => return Err("a cast to u64".into()),
    };
    ew::cast(x, y);
    Ok(())
}

/// Between floats and i8, and i8 through a table.
pub(super) fn quantized(ctx: &Context<'_>, step: &Step, views: Views<'_>) {
    let loops = ctx.kernels.loops;
    let input = if views.in_place == Some(0) { None } else { views.inputs[0] };
    let [out, ..] = views.outputs;
    let x = input.unwrap_or_default();
    match &step.op {
        StepOp::Quantize(Quant { scale, zero_point })
        | StepOp::QuantizeByDivision(Quant { scale, zero_point }) => {
            let scaling = match step.op {
                StepOp::Quantize(_) => quantize::Scaling::Multiply(1.0 / scale),
                _ => quantize::Scaling::Divide(*scale),
            };
            ctx.pool.chunks_mut(super::elements_mut::<i8>(out), CHUNK, |_, i, out| {
                quantize::i8s::quantize(
                    loops,
                    scaling,
                    *zero_point,
                    &floats(x)[i * CHUNK..][..out.len()],
                    out,
                );
            });
        }
        StepOp::Dequantize(Quant { scale, zero_point }) => {
            let x: &[i8] = super::elements(x);
            ctx.pool.chunks_mut(floats_mut(out), CHUNK, |_, i, out| {
                quantize::i8s::dequantize(loops, *scale, *zero_point, &x[i * CHUNK..][..out.len()], out);
            });
        }
        StepOp::Table(table) => {
            let out: &mut [i8] = super::elements_mut(out);
            ctx.pool.chunks_mut(out, CHUNK, |_, i, out| {
                let io = match input {
                    None => InOut::InPlace(out),
                    Some(x) => InOut::Apart(&super::elements(x)[i * CHUNK..][..out.len()], out),
                };
                ctx.kernels.lookup.run(table, io);
            });
        }
        _ => {}
    }
}

/// A sum or product of i8 values with their own scales.
fn quantized_binary(
    ctx: &Context<'_>,
    step: &Step,
    views: Views<'_>,
    op: BinaryOp,
    shape: &Broadcast<2>,
) -> Result<(), String> {
    let quant = |i: usize| step.inputs[i].as_ref().and_then(|o| o.quant);
    let (Some(a), Some(b), Some(y)) = (quant(0), quant(1), step.outputs[0].quant) else {
        return Err("an i8 operand without a scale".into());
    };
    let x: [&[i8]; 2] = [0, 1].map(|i| super::elements(views.inputs[i].unwrap_or_default()));
    let [out, ..] = views.outputs;
    let out: &mut [i8] = super::elements_mut(out);
    let (a_zero, b_zero, y_zero) = (a.zero_point, b.zero_point, y.zero_point);
    match op {
        BinaryOp::Add => {
            let (a_multiplier, b_multiplier) = (a.scale / y.scale, b.scale / y.scale);
            let rescale = quantize::AddRescale { a_multiplier, b_multiplier, a_zero, b_zero, y_zero };
            quantize::i8s::add(ctx.kernels.loops, shape, rescale, x[0], x[1], out);
        }
        BinaryOp::Mul => {
            let multiplier = a.scale * b.scale / y.scale;
            let rescale = quantize::MulRescale { multiplier, a_zero, b_zero, y_zero };
            quantize::i8s::mul(ctx.kernels.loops, shape, rescale, x[0], x[1], out);
        }
        other => return Err(format!("{other:?} of i8 values")),
    }
    Ok(())
}
