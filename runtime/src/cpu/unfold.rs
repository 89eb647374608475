//! A convolution's windows as rows of a matrix, where they are so few that a product of rows takes less time.

use super::memory::Views;
use super::product::conv_shape;
use super::{elements, elements_mut};
use crate::plan::{ConvGeometry, Step};
use edge_kernels::cpu::im2col::im2col_rows;

/// Windows `[batch * oh * ow, kh * kw * ic]` of a picture; what lies outside it is zero, or its code.
pub(super) fn run(step: &Step, views: Views<'_>, g: &ConvGeometry) {
    let x = views.inputs[0].unwrap_or_default();
    let [out, ..] = views.outputs;
    match step.inputs[0].as_ref().and_then(|x| x.quant) {
        Some(quant) => rows(g, elements::<i8>(x), quant.zero_point as i8, elements_mut(out)),
        None => rows(g, elements::<f32>(x), 0.0, elements_mut(out)),
    }
}

fn rows<T: bytemuck::Pod>(g: &ConvGeometry, x: &[T], pad: T, out: &mut [T]) {
    let shape = conv_shape(g, g.ic, 0);
    let (k, pixels) = (shape.k(), g.oh * g.ow);
    let images = x.chunks_exact((g.ih * g.iw * g.ic).max(1));
    for (image, out) in images.zip(out.chunks_exact_mut((pixels * k).max(1))) {
        im2col_rows(&shape, image, 0, pixels, pad, out, k);
    }
}
