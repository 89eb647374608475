//! Operators whose result is not made of an operand's elements: constants, shapes, ranges.

use super::{NOW, Operator, Types, op, positions};
use crate::import::onnx::ctx::{Binding, Ctx};
use crate::import::onnx::files::Files;
use crate::import::onnx::node::{NodeView, OpError, axis, malformed, unknown, unsupported};
use crate::import::onnx::tensors::{self, from_f64};
use crate::import::onnx::wide;
use crate::model::Array;
use edge_runtime::graph::{DType, Op};

const CONSTANT: &[&str] = &["value", "value_float", "value_floats", "value_int", "value_ints"];

/// The table.
pub const OPERATORS: &[Operator] = &[
    op("Constant", (1, NOW), (0, 0), Types::Any, CONSTANT, constant),
    op("ConstantOfShape", (9, NOW), (1, 1), Types::Integer, &["value"], constant_of_shape),
    op("EyeLike", (9, NOW), (1, 1), Types::Any, &["dtype", "k"], eye_like),
    op("Range", (11, NOW), (3, 3), Types::Number, &[], range),
    op("Shape", (1, 14), (1, 1), Types::Any, &[], shape),
    op("Shape", (15, NOW), (1, 1), Types::Any, &["end", "start"], shape),
    op("Size", (1, NOW), (1, 1), Types::Any, &[], |c, n| c.map(n, Op::Size)),
];

fn constant<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>) -> Result<(), OpError> {
    let Some(name) = node.output(0) else { return Ok(()) };
    let [(attribute, _)] = node.attributes() else {
        return malformed("a constant has one attribute, its value");
    };
    let array = match *attribute {
        "value" => match node.tensor("value")? {
            Some(tensor) => {
                if let Err(name) = tensors::dtype(tensor.data_type) {
                    return unsupported(format!("element type {name} is not implemented"));
                }
                return Ok(ctx.bind_stored(name, tensor, &node.name)?);
            }
            None => return malformed("attribute `value` is empty"),
        },
        "value_float" => Array::f32(&[], &[node.float("value_float", 0.0)?]),
        "value_int" => Array::i64(&[], &[node.int("value_int", 0)?]),
        "value_floats" => {
            let values = node.floats("value_floats")?;
            Array::f32(&[values.len()], values)
        }
        _ => {
            let values = node.ints("value_ints")?.unwrap_or_default();
            Array::i64(&[values.len()], values)
        }
    };
    let id = ctx.constant(name, array);
    Ok(ctx.bind(name, Binding::Value(id), &node.name)?)
}

fn constant_of_shape<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>) -> Result<(), OpError> {
    let shape = ctx.indices(node, 0)?;
    let (dtype, value) = match node.tensor("value")? {
        None => (DType::F32, vec![0; 4]),
        Some(tensor) => {
            let array = match tensors::dtype(tensor.data_type) {
                Ok(_) if tensors::four_bits(tensor.data_type) => {
                    return unsupported("integers of 4 bits are not implemented for this operator");
                }
                Ok(_) => wide::array(tensors::read(tensor, &Files::default())?),
                Err(name) => return unsupported(format!("element type {name} is not implemented")),
            };
            if array.elements() != 1 {
                return malformed(format!("a value of shape {:?}", array.dims));
            }
            (array.dtype, array.data.to_vec())
        }
    };
    let y = ctx.emit(node, Op::ConstantOfShape { dtype, value }, &[Some(shape)]);
    ctx.set(node, 0, y)
}

fn eye_like<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>) -> Result<(), OpError> {
    let x = ctx.operand(node, 0)?;
    let (Some(rows), Some(columns)) = (ctx.fact(x).size(0), ctx.fact(x).size(1)) else {
        return unknown("the operand's shape");
    };
    if ctx.rank(x)? != 2 {
        return malformed("an operand that is no matrix");
    }
    let dtype = match node.int_if("dtype")? {
        Some(number) => match tensors::dtype(i32::try_from(number).unwrap_or(0)) {
            Ok(dtype) => dtype,
            Err(name) => return unsupported(format!("attribute dtype={number} ({name}) is not implemented")),
        },
        None => match ctx.fact(x).dtype {
            Some(dtype) => dtype,
            None => return unknown("the operand's element type"),
        },
    };
    // An f64, and twice the element itself.
    ctx.table(rows.checked_mul(columns), 24)?;
    let elements = rows * columns;
    let k = node.int("k", 0)?;
    let one = |i: usize| (i / columns) as i64 == ((i % columns) as i64).saturating_sub(k);
    let values: Vec<f64> = (0..elements).map(|i| f64::from(u8::from(one(i)))).collect();
    let id = ctx.constant(node.output(0).unwrap_or(""), from_f64(dtype, &[rows, columns], &values));
    ctx.set(node, 0, id)
}

fn range<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>) -> Result<(), OpError> {
    let (start, limit, delta) = (ctx.operand(node, 0)?, ctx.operand(node, 1)?, ctx.operand(node, 2)?);
    if ctx.fact(delta).known().as_deref() == Some(&[1])
        && let Some(y) = positions::numbers(ctx, node, [start, limit])?
    {
        return ctx.set(node, 0, y);
    }
    let y = ctx.formula(node).op(Op::Range, &[start, limit, delta]);
    ctx.set(node, 0, y)
}

fn shape<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>) -> Result<(), OpError> {
    let start = axis(node.int("start", 0)?)?;
    let end = node.int_if("end")?.map(axis).transpose()?;
    ctx.map(node, Op::Shape { start, end })
}
