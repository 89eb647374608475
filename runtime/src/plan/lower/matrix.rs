//! Convolutions and matrix products.

use super::factored::factored;
use super::product::{Extras, Product, row_scratch};
use super::views::{spatial, spatial_result};
use super::window::{self, geometry};
use super::{Results, broadcast_dims, one};
use crate::graph::{Act, DType, Graph, Node, Op, Source, Window};
use crate::model::Model;
use crate::pack::Rung;
use crate::plan::build::{Builder, Call, Why};
use crate::plan::fact::{Fact, Place, Quant};
use crate::plan::step::{ConvGeometry, Finish, MatMulShape, Matrix, StepOp};
use crate::weights::PANEL;

/// The matrix of an operand: a weight of the pack, or panels packed from a computed value.
fn matrix(b: &mut Builder, fact: &Fact, n: usize, k: usize) -> Result<Matrix, Why> {
    let padded = n.checked_next_multiple_of(PANEL).unwrap_or(n);
    match fact.dims[..] {
        [rows, cols] if cols == k && (rows == n || (rows >= n && rows == padded)) => {}
        _ => return Err(format!("a matrix of {:?}, expected [{n}, {k}]", fact.dims)),
    }
    if let Place::Weight(tensor) = fact.place {
        return Ok(Matrix::Tensor(tensor));
    }
    let w = b.float(None, fact)?;
    let panels = b.result(DType::F32, &[n.div_ceil(PANEL), k, PANEL])?;
    b.emit(StepOp::PackPanels { n, k }, &[Some(&w)], &[&panels])?;
    Ok(Matrix::Panels(b.operand(&panels)?))
}

fn extras(
    b: &mut Builder,
    call: &Call,
    n: usize,
    out: &[usize],
    input: Option<Quant>,
) -> Result<Extras, Why> {
    let vector = |b: &mut Builder, i: usize, what: &str| -> Result<Option<Fact>, Why> {
        let Some(fact) = call.optional(i).cloned() else { return Ok(None) };
        if fact.elements() != n {
            return Err(format!("{what} of shape {:?} for {n} channels", fact.dims));
        }
        b.float(call.value(i), &fact).map(Some)
    };
    let scale = vector(b, 2, "scale")?;
    let scale = scale.map(|scale| scaled(b, scale, input)).transpose()?;
    let bias = vector(b, 3, "bias")?;
    let residual = match call.optional(4).cloned() {
        None => None,
        Some(fact) if fact.dims != out && fact.dims != [n] => {
            return Err(format!("a residual of shape {:?} for a result of {out:?}", fact.dims));
        }
        Some(fact) if input.is_some() && fact.quant.is_some() => Some(fact),
        Some(fact) => Some(b.float(call.value(4), &fact)?),
    };
    let factor = vector(b, 5, "factor")?;
    Ok(Extras { scale, bias, residual, factor })
}

/// The scale of an operation as its product takes it: integer products have one scale a column, the operation's times the activations'.
pub(super) fn scaled(b: &mut Builder, scale: Fact, input: Option<Quant>) -> Result<Fact, Why> {
    let Some(quant) = input else { return Ok(scale) };
    let values = b.floats(&scale)?;
    let n = values.len();
    let bytes = values.iter().flat_map(|v| (v * quant.scale).to_le_bytes()).collect();
    Ok(b.known_fact(DType::F32, vec![n], bytes))
}

/// The weight of operand 1 has integer codes in this rung, as `depthwise` convolutions or as other products take them.
fn has_codes(b: &Builder, call: &Call, depthwise: bool) -> bool {
    let Some(Place::Weight(tensor)) = call.optional(1).map(|f| &f.place) else { return false };
    b.model.has_codes(b.rung, *tensor, depthwise)
}

/// Whether `operand` of a node is taken as i8 codes, if it has a range, by a product of integers.
pub(in crate::plan) fn takes_codes(
    model: &Model,
    rung: &Rung,
    graph: &Graph,
    node: &Node,
    operand: usize,
) -> bool {
    let source = |i: usize| node.inputs.get(i).copied().flatten().map(|id| graph.values[id as usize].source);
    let depthwise = match node.op {
        Op::Conv { groups, out_channels, .. } => groups > 1 && groups == out_channels,
        Op::Linear { .. } => false,
        _ => return false,
    };
    let scaled = matches!(source(2), None | Some(Source::Constant(_)));
    let Some(Source::Weight(tensor)) = source(1) else { return false };
    operand == 0 && scaled && model.has_codes(rung, tensor, depthwise)
}

/// x as i8 when the product can run on integers, else as f32; and whether it is i8.
fn activations(b: &mut Builder, call: &Call, depthwise: bool) -> Result<(Fact, bool), Why> {
    let x = call.input(0)?;
    let scaled = call.optional(2).is_none_or(Fact::is_known);
    if has_codes(b, call, depthwise)
        && scaled
        && let Some(x) = b.integer(call.value(0), x)?
    {
        return Ok((x, true));
    }
    Ok((b.float(call.value(0), x)?, false))
}

/// The result of a product: of integers, codes where integer operations take it; of floats, codes where nothing but products of
/// integers does, which would make them of it.
pub(super) fn product_result(
    b: &mut Builder,
    call: &Call,
    dims: &[usize],
    integer: bool,
) -> Result<Fact, Why> {
    let codes = integer || b.is_coded(call.result(0));
    match b.result_quant(call.result(0)).filter(|_| codes) {
        Some(quant) => b.result_i8(quant, dims),
        None => b.result(DType::F32, dims),
    }
}

/// How the values of a convolution or of a product of rows go through the planner to its step.
fn product(
    b: &mut Builder,
    call: &Call,
    shape: &Product,
    weights: Matrix,
    dims: &[usize],
    (act, after): (Act, bool),
) -> Results {
    let (x, integer) = activations(b, call, shape.is_depthwise())?;
    let extra = extras(b, call, shape.n, dims, x.quant)?;
    if let Some(thin) = shape.factors(b, &weights)? {
        return factored(b, call, shape, &x, thin, extra, dims, (act, after));
    }
    let out = product_result(b, call, dims, integer)?;
    let before = !after && extra.residual.is_some();
    shape.emit(b, &x, weights, &extra, (act, before), &out)?;
    one(out)
}

#[allow(clippy::too_many_arguments)] // the attributes of one graph operation
pub(super) fn conv(
    b: &mut Builder,
    call: &Call,
    window: Window,
    groups: usize,
    oc: usize,
    act: Act,
    after: bool,
) -> Results {
    let [batch, _, _, ic] = spatial(&call.input(0)?.dims)?;
    if groups == 0 || !ic.is_multiple_of(groups) || !oc.is_multiple_of(groups) {
        return Err(format!("{groups} groups of {ic} input and {oc} output channels"));
    }
    let geometry = geometry(&call.input(0)?.dims, &window, oc, groups, false)?;
    let dims = spatial_result(&call.input(0)?.dims, batch, geometry.oh, geometry.ow, oc)?;
    let geometry = geometry.along_the_width();
    let depthwise = groups > 1 && groups == ic && groups == oc;
    let k = (window.kernel[0] * window.kernel[1]).saturating_mul(ic / groups);
    let n = if depthwise || groups == 1 { oc } else { groups * (oc / groups).next_multiple_of(16) };
    let w = call.input(1)?.clone();
    let weights = matrix(b, &w, n, k)?;
    let pointwise = window.kernel == [1, 1]
        && window.stride == [1, 1]
        && groups == 1
        && geometry.pad_top == 0
        && geometry.pad_left == 0
        && (geometry.oh, geometry.ow) == (geometry.ih, geometry.iw);
    let m = batch.saturating_mul(geometry.oh).saturating_mul(geometry.ow);
    let geometry = (!pointwise).then_some(geometry);
    product(b, call, &Product { m, n: oc, k, geometry }, weights, &dims, (act, after))
}

pub(super) fn linear(b: &mut Builder, call: &Call, n: usize, act: Act, after: bool) -> Results {
    let x = call.input(0)?;
    let k = *x.dims.last().ok_or("a matrix product with a scalar")?;
    let m = x.dims[..x.rank() - 1].iter().product();
    let mut dims = x.dims.clone();
    dims[x.rank() - 1] = n;
    let w = call.input(1)?.clone();
    let weights = matrix(b, &w, n, k)?;
    product(b, call, &Product { m, n, k, geometry: None }, weights, &dims, (act, after))
}

pub(super) fn conv_transpose(
    b: &mut Builder,
    call: &Call,
    window: Window,
    output_pads: [usize; 2],
    oc: usize,
    act: Act,
) -> Results {
    let x = b.float(call.value(0), call.input(0)?)?;
    let [batch, ih, iw, ic] = spatial(&x.dims)?;
    window::check(&window, &[oc, output_pads[0], output_pads[1]])?;
    let mut out = [0; 2];
    let mut pad = [0; 2];
    for d in 0..2 {
        let size = [ih, iw][d];
        let span = (window.kernel[d].max(1) - 1) * window.dilation[d] + 1;
        let full = size.saturating_sub(1) * window.stride[d] + span + output_pads[d];
        let (before, after) = match window.pads {
            crate::graph::Pads::Explicit(pads) => (pads[d], pads[d + 2]),
            same => {
                // The result has size * stride elements; what is too much is cut as ONNX has it.
                let total = full.saturating_sub(size * window.stride[d]);
                let half = total / 2;
                if same == crate::graph::Pads::SameUpper {
                    (half, total - half)
                } else {
                    (total - half, half)
                }
            }
        };
        out[d] = full.checked_sub(before + after).ok_or_else(|| {
            format!("padding {before} and {after} is beyond the {full} elements of the result")
        })?;
        pad[d] = before;
    }
    let k = ic;
    let n = (window.kernel[0] * window.kernel[1]).saturating_mul(oc);
    let w = call.input(1)?.clone();
    let weights = matrix(b, &w, n, k)?;
    let bias = match call.optional(2).cloned() {
        Some(fact) if fact.elements() != oc => {
            return Err(format!("bias of shape {:?} for {oc} channels", fact.dims));
        }
        Some(fact) => Some(b.float(call.value(2), &fact)?),
        None => None,
    };
    let dims = spatial_result(&x.dims, batch, out[0], out[1], oc)?;
    let result = b.result(DType::F32, &dims)?;
    let geometry = ConvGeometry {
        batch,
        ih,
        iw,
        ic,
        oh: out[0],
        ow: out[1],
        oc,
        kernel: window.kernel,
        stride: window.stride,
        dilation: window.dilation,
        pad_top: pad[0],
        pad_left: pad[1],
        pad_bottom: 0,
        pad_right: 0,
        groups: 1,
    };
    let bytes = row_scratch(b, &weights, k, false, false) + crate::cpu::transposed::scratch(&geometry);
    let finish = Finish { act, ..Finish::default() };
    b.emit_full(
        StepOp::ConvTranspose { geometry, finish },
        &[Some(&x), bias.as_ref()],
        &[&result],
        vec![weights],
        bytes,
    )?;
    one(result)
}

pub(super) fn matmul(b: &mut Builder, call: &Call, trans_a: bool, trans_b: bool, alpha: f32) -> Results {
    let a = call.input(0)?.clone();
    let mut rhs = call.input(1)?.clone();
    let vector_a = a.rank() == 1;
    let vector_b = rhs.rank() == 1;
    if a.rank() == 0 || rhs.rank() == 0 {
        return Err("a matrix product with a scalar".into());
    }
    let a = if vector_a { a.reshaped(vec![1, a.dims[0]]) } else { a };
    if vector_b {
        rhs = rhs.reshaped(vec![rhs.dims[0], 1]);
    }
    // There is no other way to lay a vector.
    let (trans_a, trans_b) = (trans_a && !vector_a, trans_b && !vector_b);
    let (ra, rb) = (a.rank(), rhs.rank());
    let (m, ka) = if trans_a { (a.dims[ra - 1], a.dims[ra - 2]) } else { (a.dims[ra - 2], a.dims[ra - 1]) };
    let (kb, n) =
        if trans_b { (rhs.dims[rb - 1], rhs.dims[rb - 2]) } else { (rhs.dims[rb - 2], rhs.dims[rb - 1]) };
    if ka != kb {
        return Err(format!("shapes {:?} and {:?}: {ka} columns against {kb} rows", a.dims, rhs.dims));
    }
    let batch = broadcast_dims(&[&a.dims[..ra - 2], &rhs.dims[..rb - 2]])?;
    let pairs = batch_pairs(&batch, &a.dims[..ra - 2], &rhs.dims[..rb - 2])?;
    let mut dims = batch;
    if !vector_a {
        dims.push(m);
    }
    if !vector_b {
        dims.push(n);
    }
    let (x, y) = (b.float(call.value(0), &a)?, b.float(call.value(1), &rhs)?);
    let out = b.result(DType::F32, &dims)?;
    let shape = MatMulShape { m, n, k: ka, trans_a, trans_b, alpha, pairs };
    let bytes = crate::cpu::matmul::scratch(&shape);
    b.emit_full(StepOp::MatMul(shape), &[Some(&x), Some(&y)], &[&out], Vec::new(), bytes)?;
    one(out)
}

/// For each product of the broadcast batch, the index of its left and of its right matrix.
fn batch_pairs(batch: &[usize], a: &[usize], b: &[usize]) -> Result<Vec<(u32, u32)>, Why> {
    let (a, b) = (batch_indices(batch, a)?, batch_indices(batch, b)?);
    Ok(a.into_iter().zip(b).collect())
}

/// For each matrix of the broadcast batch, the index of the one of `shape` that stands there.
pub(super) fn batch_indices(batch: &[usize], shape: &[usize]) -> Result<Vec<u32>, Why> {
    let total = batch.iter().try_fold(1usize, |n, size| n.checked_mul(*size));
    let Some(total) = total.filter(|total| *total <= 1 << 20) else {
        return Err(format!("{batch:?} matrix products in one operation"));
    };
    let index = |mut flat: usize| {
        let (mut offset, mut stride) = (0, 1);
        for (i, d) in batch.iter().enumerate().rev() {
            let at = flat % d;
            flat /= d;
            if let Some(s) = i.checked_sub(batch.len() - shape.len()).map(|j| shape[j]) {
                offset += if s == 1 { 0 } else { at * stride };
                stride *= s;
            }
        }
        offset as u32
    };
    Ok((0..total).map(index).collect())
}
