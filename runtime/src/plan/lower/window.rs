//! Sliding windows: where they start and how many there are; pooling.

use super::views::{spatial, spatial_result};
use super::{Results, one};
use crate::graph::{Pads, PoolKind, Window};
use crate::plan::build::{Builder, Call, Why};
use crate::plan::step::{ConvGeometry, StepOp};

/// Largest number of a window, of padding, of channels: sizes computed of them fit 64 bits.
const MAX_NUMBER: usize = 1 << 24;

/// Checks the attributes of a window and numbers that stand beside it.
pub(super) fn check(window: &Window, more: &[usize]) -> Result<(), Why> {
    let Window { kernel, stride, dilation, pads } = window;
    let numbers = [kernel, stride, dilation].into_iter().flatten();
    if numbers.clone().any(|n| *n == 0) {
        return Err(format!("window {window:?} has a zero"));
    }
    let pads = match pads {
        Pads::Explicit(pads) => pads,
        Pads::SameUpper | Pads::SameLower => &[0; 4],
    };
    match numbers.chain(pads).chain(more).find(|n| **n > MAX_NUMBER) {
        Some(n) => Err(format!("window {window:?} with {more:?}: {n} is more than {MAX_NUMBER}")),
        None => Ok(()),
    }
}

/// Sizes along one dimension.
struct Along {
    before: usize,
    after: usize,
    out: usize,
}

fn along(size: usize, window: &Window, d: usize, ceil: bool) -> Result<Along, Why> {
    let (kernel, stride, dilation) = (window.kernel[d], window.stride[d], window.dilation[d]);
    let span = (kernel - 1)
        .checked_mul(dilation)
        .and_then(|s| s.checked_add(1))
        .ok_or("window beyond the address space")?;
    match window.pads {
        Pads::Explicit(pads) => {
            let (before, after) = (pads[d], pads[d + 2]);
            let padded = size
                .checked_add(before)
                .and_then(|s| s.checked_add(after))
                .ok_or("padding beyond the address space")?;
            let room = padded.checked_sub(span).ok_or_else(|| {
                format!("a window of {span} does not fit {size} elements padded by {before} and {after}")
            })?;
            let mut out = if ceil { room.div_ceil(stride) } else { room / stride } + 1;
            // A window that would start in the padding past the end does not count (as PyTorch and ONNX have it).
            if ceil && (out - 1) * stride >= size + before {
                out -= 1;
            }
            Ok(Along { before, after, out })
        }
        Pads::SameUpper | Pads::SameLower => {
            let out = size.div_ceil(stride);
            let total = (out.saturating_sub(1) * stride + span).saturating_sub(size);
            let pad = if window.pads == Pads::SameUpper { total / 2 } else { total - total / 2 };
            Ok(Along { before: pad, after: total - pad, out })
        }
    }
}

/// The geometry of a window sliding over `[n, h, w, c]`.
pub(super) fn geometry(
    dims: &[usize],
    window: &Window,
    oc: usize,
    groups: usize,
    ceil: bool,
) -> Result<ConvGeometry, Why> {
    let [batch, ih, iw, ic] = spatial(dims)?;
    check(window, &[oc])?;
    let (y, x) = (along(ih, window, 0, ceil)?, along(iw, window, 1, ceil)?);
    Ok(ConvGeometry {
        batch,
        ih,
        iw,
        ic,
        oh: y.out,
        ow: x.out,
        oc,
        kernel: window.kernel,
        stride: window.stride,
        dilation: window.dilation,
        pad_top: y.before,
        pad_left: x.before,
        pad_bottom: y.after,
        pad_right: x.after,
        groups,
    })
}

pub(super) fn pool(b: &mut Builder, call: &Call, kind: PoolKind, window: Window, ceil: bool) -> Results {
    let x = call.input(0)?;
    let [batch, _, _, c] = spatial(&x.dims)?;
    let geometry = geometry(&x.dims, &window, c, 1, ceil)?;
    let dims = spatial_result(&x.dims, batch, geometry.oh, geometry.ow, c)?;
    let integer = b.integer(call.value(0), x)?;
    let (x, out) = match (integer, kind) {
        (Some(x), PoolKind::Max) => {
            let quant = x.quant.ok_or("an i8 value without a scale")?;
            (x, b.result_i8(quant, &dims)?)
        }
        (Some(x), PoolKind::Average { .. }) => match b.result_quant(call.result(0)) {
            Some(quant) => (x, b.result_i8(quant, &dims)?),
            None => (b.float(call.value(0), &x)?, b.result(crate::graph::DType::F32, &dims)?),
        },
        (None, _) => (b.float(call.value(0), x)?, b.result(crate::graph::DType::F32, &dims)?),
    };
    b.emit(StepOp::Pool { kind, geometry }, &[Some(&x)], &[&out])?;
    // Plain integers were pooled in f32, which holds every one of 8 bits.
    let declared = call.input(0)?;
    if out.quant.is_none() && declared.quant.is_none() && !declared.dtype.is_float() {
        return one(super::elementwise::cast_to(b, &out, declared.dtype)?);
    }
    one(out)
}
