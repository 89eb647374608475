//! Resizing, one axis after the other.

use super::reduce::along;
use super::{Results, axes_of, one};
use crate::graph::{CoordinateMode, DType, Interpolation, NearestMode};
use crate::plan::build::{Builder, Call, Why};
use crate::plan::fact::Fact;
use crate::plan::step::StepOp;
use edge_kernels::cpu::resize::{self as kernels, AxisSpec, Coordinates, Nearest};

/// Most elements of a resized axis: each has its taps in a table that is part of the plan.
const MAX_OUTPUT: usize = 1 << 20;

fn interpolation(how: Interpolation) -> (kernels::Interpolation, bool) {
    match how {
        Interpolation::Nearest(mode) => {
            let nearest = match mode {
                NearestMode::RoundPreferFloor => Nearest::RoundPreferFloor,
                NearestMode::RoundPreferCeil => Nearest::RoundPreferCeil,
                NearestMode::Floor => Nearest::Floor,
                NearestMode::Ceil => Nearest::Ceil,
            };
            (kernels::Interpolation::Nearest(nearest), false)
        }
        Interpolation::Linear { antialias } => (kernels::Interpolation::Linear, antialias),
        Interpolation::Cubic { a, exclude_outside, antialias } => {
            (kernels::Interpolation::Cubic { a, exclude_outside }, antialias)
        }
    }
}

pub(super) fn resize(
    b: &mut Builder,
    call: &Call,
    axes: &[i32],
    how: Interpolation,
    coordinates: CoordinateMode,
) -> Results {
    let x = call.input(0)?.clone();
    let axes = if axes.is_empty() { (0..x.rank()).collect() } else { axes_of(axes, x.rank())? };
    let coordinates = match coordinates {
        CoordinateMode::HalfPixel => Coordinates::HalfPixel,
        CoordinateMode::HalfPixelSymmetric => Coordinates::HalfPixelSymmetric,
        CoordinateMode::PytorchHalfPixel => Coordinates::PytorchHalfPixel,
        CoordinateMode::AlignCorners => Coordinates::AlignCorners,
        CoordinateMode::Asymmetric => Coordinates::Asymmetric,
    };
    let (interpolation, antialias) = interpolation(how);
    let targets = targets(b, call, &x, &axes)?;
    let quantized = x.quant.filter(|_| b.integer_rung());
    let mut value = match quantized {
        Some(_) => x,
        None => b.float(call.value(0), &x)?,
    };
    for (axis, (output, scale)) in axes.iter().zip(targets) {
        let input = value.dims[*axis];
        if input == output && scale.is_none_or(|s| s == 1.0) {
            continue;
        }
        if input == 0 && output > 0 {
            return Err(format!("{output} elements made of none along axis {axis}"));
        }
        if antialias && output < input {
            return Err("antialiased reduction is not supported".into());
        }
        if coordinates == Coordinates::AlignCorners
            && let Some(scale) = scale.filter(|s| (input as f32 * s).fract() != 0.0)
        {
            // ONNX's definition divides by `scale * input - 1`, engines by the whole size less 1.
            return Err(format!("aligned corners of {input} elements scaled by {scale}: engines differ"));
        }
        let spec = AxisSpec { input, output, scale, coordinates, interpolation };
        if output > MAX_OUTPUT {
            return Err(format!("{output} elements along axis {axis}, at most {MAX_OUTPUT}"));
        }
        let mut indices = vec![0u32; spec.table_len()];
        let mut weights = vec![0f32; spec.table_len()];
        spec.fill(&mut indices, &mut weights);
        let indices_bytes = indices.iter().flat_map(|v| v.to_le_bytes()).collect();
        let weights_bytes = weights.iter().flat_map(|v| v.to_le_bytes()).collect();
        let indices = b.known_fact(DType::U32, vec![indices.len()], indices_bytes);
        let weights = b.known_fact(DType::F32, vec![weights.len()], weights_bytes);
        let mut dims = value.dims.clone();
        dims[*axis] = output;
        let shape = along(&value.dims, *axis);
        let out = match quantized {
            Some(quant) => b.result_i8(quant, &dims)?,
            None => b.result(DType::F32, &dims)?,
        };
        let op = StepOp::ResizeAxis { shape, spec, results: 0..output, operand: 0..input };
        b.emit(op, &[Some(&value), Some(&indices), Some(&weights)], &[&out])?;
        value = out;
    }
    one(value)
}

/// For each axis the size of the result, and the scale when the model states one.
fn targets(b: &Builder, call: &Call, x: &Fact, axes: &[usize]) -> Result<Vec<(usize, Option<f32>)>, Why> {
    if let Some(sizes) = call.optional(2).filter(|f| f.elements() > 0) {
        let sizes = b.integers(sizes)?;
        if sizes.len() != axes.len() {
            return Err(format!("{} sizes for {} axes", sizes.len(), axes.len()));
        }
        return sizes
            .iter()
            .map(|s| usize::try_from(*s).map(|s| (s, None)).map_err(|_| format!("a size of {s}")))
            .collect();
    }
    let scales = b.floats(call.input(1)?)?;
    if scales.len() != axes.len() {
        return Err(format!("{} scales for {} axes", scales.len(), axes.len()));
    }
    axes.iter()
        .zip(scales)
        .map(|(axis, scale)| {
            let size = (x.dims[*axis] as f32 * scale).floor();
            if !(0.0..=1e9).contains(&size) {
                return Err(format!("a scale of {scale}"));
            }
            Ok((size as usize, Some(scale)))
        })
        .collect()
}
