//! Sliding windows over `[batch, height, width, channels]`.

use super::Tensor;
use edge_runtime::graph::{Pads, PoolKind, Window};

/// Input coordinate of tap `k` for output `o`, if inside.
fn tap(window: &Window, side: usize, o: usize, k: usize, size: usize) -> Option<usize> {
    let Pads::Explicit(pads) = window.pads else { panic!("explicit pads only") };
    let at = (o * window.stride[side] + k * window.dilation[side]).checked_sub(pads[side])?;
    (at < size).then_some(at)
}

fn windowed(x: &Tensor, window: &Window, channels: usize) -> Vec<usize> {
    let Pads::Explicit(p) = window.pads else { panic!("explicit pads only") };
    let out = |s: usize| {
        (x.dims[1 + s] + p[s] + p[s + 2] - window.dilation[s] * (window.kernel[s] - 1) - 1) / window.stride[s]
            + 1
    };
    vec![x.dims[0], out(0), out(1), channels]
}

pub fn conv(x: &Tensor, w: &Tensor, window: &Window, groups: usize, channels: usize) -> Tensor {
    let (per_in, per_out) = (x.dims[3] / groups, channels / groups);
    let depthwise = per_in == 1 && per_out == 1;
    let stride = if groups == 1 || depthwise { per_out } else { per_out.next_multiple_of(16) };
    Tensor::from_fn(&windowed(x, window, channels), |i| {
        let group = i[3] / per_out;
        let row = group * stride + i[3] % per_out;
        let mut sum = 0.0;
        for ky in 0..window.kernel[0] {
            for kx in 0..window.kernel[1] {
                let y = tap(window, 0, i[1], ky, x.dims[1]);
                let (Some(y), Some(c)) = (y, tap(window, 1, i[2], kx, x.dims[2])) else { continue };
                let from = x.offset(&[i[0], y, c, group * per_in]);
                let column = w.offset(&[row, (ky * window.kernel[1] + kx) * per_in]);
                let products = x.data[from..][..per_in].iter().zip(&w.data[column..][..per_in]);
                sum += products.map(|(x, w)| x * w).sum::<f64>();
            }
        }
        sum
    })
}

/// For strides equal to the kernel: windows do not overlap.
pub fn conv_transpose(x: &Tensor, w: &Tensor, window: &Window, channels: usize) -> Tensor {
    let [kh, kw] = window.kernel;
    assert_eq!(window.stride, window.kernel);
    Tensor::from_fn(&[x.dims[0], x.dims[1] * kh, x.dims[2] * kw, channels], |i| {
        let row = (i[1] % kh * kw + i[2] % kw) * channels + i[3];
        (0..x.dims[3]).map(|k| x.at(&[i[0], i[1] / kh, i[2] / kw, k]) * w.at(&[row, k])).sum()
    })
}

pub fn pool(x: &Tensor, kind: PoolKind, window: &Window) -> Tensor {
    Tensor::from_fn(&windowed(x, window, x.dims[3]), |i| {
        let (mut max, mut sum, mut count) = (f64::NEG_INFINITY, 0.0, 0.0);
        for ky in 0..window.kernel[0] {
            for kx in 0..window.kernel[1] {
                let y = tap(window, 0, i[1], ky, x.dims[1]);
                if let (Some(y), Some(c)) = (y, tap(window, 1, i[2], kx, x.dims[2])) {
                    let v = x.at(&[i[0], y, c, i[3]]);
                    (max, sum, count) = (f64::max(max, v), sum + v, count + 1.0);
                }
            }
        }
        match kind {
            PoolKind::Max => max,
            PoolKind::Average { include_pad: false } => sum / count,
            PoolKind::Average { include_pad: true } => sum / (window.kernel[0] * window.kernel[1]) as f64,
        }
    })
}
