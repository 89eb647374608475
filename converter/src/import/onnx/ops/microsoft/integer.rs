//! Products of integers with the scales that make them real.

use super::attention;
use crate::import::onnx::ctx::Ctx;
use crate::import::onnx::node::{NodeView, OpError, malformed, unknown};
use crate::import::onnx::ops::integer::{Sides, centred, integer_product, left_of};
use crate::import::onnx::ops::quantized::{Kind, dynamically, needed, real, saturated};
use edge_runtime::graph::{DType, ValueId};

/// `product * (a_scale * b_scale)`, all real; `factor` is multiplied in first.
fn scaled<'m>(
    ctx: &mut Ctx<'m>,
    node: &NodeView<'m>,
    product: ValueId,
    (a_scale, b_scale): (ValueId, ValueId),
    factor: f32,
) -> ValueId {
    let mut f = ctx.formula(node);
    let product = f.cast(product, DType::F32);
    let a_scale = if factor == 1.0 { a_scale } else { f.times(a_scale, f64::from(factor)) };
    let scale = f.mul(a_scale, b_scale);
    f.mul(product, scale)
}

/// `y`, and operand `bias` added where there is one: the node's result.
fn finish<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>, y: ValueId, bias: usize) -> Result<(), OpError> {
    let y = match real(ctx, node, bias)? {
        Some(bias) => ctx.formula(node).add(y, bias),
        None => y,
    };
    ctx.set(node, 0, y)
}

/// a, b, a scale, b scale, a zero?, b zero?, bias?
pub fn matmul_to_float<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>) -> Result<(), OpError> {
    let a = left_of(ctx, node, 0, 4)?;
    let product = integer_product(ctx, node, a, &Sides { b: 1, b_zero: 5, trans_b: false })?;
    let scales = (needed(ctx, node, 2)?, needed(ctx, node, 3)?);
    let y = scaled(ctx, node, product, scales, 1.0);
    finish(ctx, node, y, 6)
}

/// a, real; b, b scale, b zero?, bias?
pub fn dynamic_matmul<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>) -> Result<(), OpError> {
    let a = needed(ctx, node, 0)?;
    let (a, a_scale, zero) = dynamically(ctx, node, a)?;
    let mut f = ctx.formula(node);
    let (a, zero) = (f.cast(a, DType::F32), f.cast(zero, DType::F32));
    let a = centred(&mut f, a, Some(zero), false)?;
    let product = integer_product(ctx, node, a, &Sides { b: 1, b_zero: 3, trans_b: false })?;
    let b_scale = needed(ctx, node, 2)?;
    let y = scaled(ctx, node, product, (a_scale, b_scale), 1.0);
    finish(ctx, node, y, 4)
}

/// a, a scale, a zero, b, b scale, b zero, c?, y scale?, y zero?: real where there is no y scale.
pub fn gemm<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>) -> Result<(), OpError> {
    let mut a = left_of(ctx, node, 0, 2)?;
    if ctx.rank(a)? != 2 {
        return malformed("an operand that is no matrix");
    }
    if node.flag("transA", false)? {
        a = ctx.transpose(node, a, &[1, 0]);
    }
    let trans_b = node.flag("transB", false)?;
    let mut product = integer_product(ctx, node, a, &Sides { b: 3, b_zero: 5, trans_b })?;
    if let Some(c) = ctx.optional(node, 6)? {
        product = ctx.formula(node).add(product, c);
    }
    let (scales, alpha) = ((needed(ctx, node, 1)?, needed(ctx, node, 4)?), node.float("alpha", 1.0)?);
    let Some(step) = real(ctx, node, 7)? else {
        let y = scaled(ctx, node, product, scales, alpha);
        return ctx.set(node, 0, y);
    };
    let Some(kind) = Kind::of(ctx, node, 8) else { return unknown("the element type of operand 8") };
    let zero = needed(ctx, node, 8)?;
    let mut f = ctx.formula(node);
    let product = f.cast(product, DType::F32);
    let a_scale = if alpha == 1.0 { scales.0 } else { f.times(scales.0, f64::from(alpha)) };
    let scale = f.mul(a_scale, scales.1);
    let scale = f.div(scale, step);
    let y = f.mul(product, scale);
    let y = saturated(ctx, node, y, Some(zero), kind)?;
    ctx.set(node, 0, y)
}

/// x, weights, bias, x scale, weights' scale, mask?, x zero?, weights' zero?, past?
pub fn attention<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>) -> Result<(), OpError> {
    let x = left_of(ctx, node, 0, 6)?;
    if ctx.rank(x)? != 3 {
        return malformed("an operand of 3 dimensions is expected");
    }
    let product = integer_product(ctx, node, x, &Sides { b: 1, b_zero: 7, trans_b: false })?;
    let scales = (needed(ctx, node, 3)?, needed(ctx, node, 4)?);
    let y = scaled(ctx, node, product, scales, 1.0);
    let bias = needed(ctx, node, 2)?;
    let projected = ctx.formula(node).add(y, bias);
    attention::of_projected(ctx, node, projected, (8, 5, usize::MAX))
}
