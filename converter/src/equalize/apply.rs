//! Other sizes for the channels of a class, in everything that makes or reads them.

use super::classes::{Class, Maker, operand};
use crate::model::{Array, Model};
use edge_runtime::graph::{DType, Op, Source, ValueId};
use std::borrow::Cow;

/// Rows of a convolution's group start at a multiple of this.
const GROUP_ROWS: usize = 16;

/// Divides channel `c` of every value of the class by `2^exponents[c]`; what reads them gives what it gave, to the bit.
pub(super) fn apply(model: &mut Model, class: &Class, exponents: &[i8]) {
    let sizes: Vec<f32> = exponents.iter().map(|e| f32::from(*e).exp2()).collect();
    let sizes = &sizes[..];
    let data = exponents.iter().map(|e| *e as u8).collect();
    let array = Array { dtype: DType::I8, dims: vec![exponents.len()], data };
    let constant = model.add_constant("exponents", array);
    for v in &class.members {
        model.graph.values[*v as usize].exponents = Some(constant);
    }
    for (node, maker) in &class.makers {
        match *maker {
            Maker::Rows => divide_rows(model, *node, sizes),
            Maker::Factor => {
                let one = vec![1.0; sizes.len()];
                divide_vector(model, *node, operand::FACTOR, Some(one), sizes);
                if adds_last(model, *node) {
                    divide_vector(model, *node, operand::RESIDUAL, None, sizes);
                }
            }
            Maker::Addend(at) => divide_vector(model, *node, at, None, sizes),
        }
    }
    for node in &class.readers {
        multiply_columns(model, *node, sizes);
    }
}

/// Whether the residual is added behind the activation function and the factor.
fn adds_last(model: &Model, node: usize) -> bool {
    match model.graph.body.nodes[node].op {
        Op::Conv { act_after_residual, .. } | Op::Linear { act_after_residual, .. } => !act_after_residual,
        _ => false,
    }
}

fn input(model: &Model, node: usize, at: usize) -> Option<ValueId> {
    model.graph.body.nodes[node].inputs.get(at).copied().flatten()
}

/// Puts another constant in the place of a node's operand: of the very constant, when nothing else reads it.
fn replace(model: &mut Model, node: usize, at: usize, array: Array) {
    let name = match input(model, node, at) {
        Some(v) => {
            let source = model.graph.values[v as usize].source;
            let readers = model.graph.values.iter().enumerate().filter(|(_, value)| value.source == source);
            let mut reads = 0;
            let ids: Vec<ValueId> = readers.map(|(id, _)| id as ValueId).collect();
            model.graph.body.for_each(&mut |node| {
                reads += node.inputs.iter().flatten().filter(|id| ids.contains(id)).count();
            });
            if let (1, Source::Constant(id)) = (reads, source) {
                model.constants[id as usize] = array;
                return;
            }
            model.graph.name(v).to_owned()
        }
        None => format!("{}/factor", model.graph.body.nodes[node].name),
    };
    let value = model.add_constant(name, array);
    let inputs = &mut model.graph.body.nodes[node].inputs;
    inputs.resize(inputs.len().max(at + 1), None);
    inputs[at] = Some(value);
}

/// The constant vector at an operand, of one number a channel, divided. `absent` stands for one that is left out.
fn divide_vector(model: &mut Model, node: usize, at: usize, absent: Option<Vec<f32>>, sizes: &[f32]) {
    let values = match input(model, node, at) {
        Some(v) => model.constant(v).and_then(Array::as_f32),
        None => absent,
    };
    let Some(values) = values else { return };
    let divided: Vec<f32> =
        sizes.iter().enumerate().map(|(c, size)| values[c % values.len()] / size).collect();
    replace(model, node, at, Array::f32(&[sizes.len()], &divided));
}

fn divide_rows(model: &mut Model, node: usize, sizes: &[f32]) {
    let Some(weight) = input(model, node, operand::WEIGHT).and_then(|w| model.constant(w)) else { return };
    let (dtype, dims) = (weight.dtype, weight.dims.clone());
    let Some(mut values) = weight.floats().map(Cow::into_owned) else { return };
    let Some(k) = values.len().checked_div(dims[0]) else { return };
    let width = match model.graph.body.nodes[node].op {
        // A group whose rows start at a multiple of 16.
        Op::Conv { groups, .. } if dims[0] > sizes.len() => sizes.len() / groups.max(1),
        _ => sizes.len(),
    };
    let stride = if width < sizes.len() { width.next_multiple_of(GROUP_ROWS) } else { width };
    for (r, row) in values.chunks_exact_mut(k.max(1)).enumerate() {
        if r % stride < width {
            let size = sizes[r / stride * width + r % stride];
            row.iter_mut().for_each(|w| *w /= size);
        }
    }
    replace(model, node, operand::WEIGHT, Array::of_floats(dtype, &dims, values));
    // Whether it is added before the function or after it makes no difference: the function keeps factors.
    for at in [operand::BIAS, operand::RESIDUAL] {
        divide_vector(model, node, at, None, sizes);
    }
}

fn multiply_columns(model: &mut Model, node: usize, sizes: &[f32]) {
    let Some(weight) = input(model, node, operand::WEIGHT).and_then(|w| model.constant(w)) else { return };
    let (dtype, dims) = (weight.dtype, weight.dims.clone());
    let Some(mut values) = weight.floats().map(Cow::into_owned) else { return };
    let k = values.len().checked_div(dims[0]).unwrap_or(0).max(1);
    for (r, row) in values.chunks_exact_mut(k).enumerate() {
        let of = columns(&model.graph.body.nodes[node].op, sizes.len(), r);
        row.iter_mut().enumerate().for_each(|(k, w)| *w *= of(k).map_or(1.0, |c| sizes[c]));
    }
    replace(model, node, operand::WEIGHT, Array::of_floats(dtype, &dims, values));
}

/// The channel that column `k` of row `r` of a matrix reads, of `channels`; `None` for rows that fill a group up.
pub(super) fn columns(op: &Op, channels: usize, r: usize) -> impl Fn(usize) -> Option<usize> {
    let (first, each) = match *op {
        Op::Conv { groups, out_channels, .. } if groups > 1 => {
            let each = channels / groups;
            let width = out_channels / groups;
            // Depthwise rows lie one after the other.
            let stride = if groups == out_channels && groups == channels {
                1
            } else {
                width.next_multiple_of(GROUP_ROWS)
            };
            (((r / stride) < groups && r % stride < width).then_some(r / stride * each), each)
        }
        _ => (Some(0), channels),
    };
    move |k| first.map(|first| first + k % each.max(1))
}
