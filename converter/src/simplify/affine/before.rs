//! Per-channel factors and offsets before a matrix operation.
//!
//! `w (s x + b) = (w s) x + w b`. A factor passes any padding, for it leaves zeros alone; an offset would be missing
//! from the border, so it stays before a padded convolution.

use super::{GROUP_ROWS, Matrix, channel_constant};
use crate::model::Array;
use crate::simplify::common::with_constant;
use crate::simplify::sweep::Scope;
use edge_runtime::graph::{BinaryOp, Node, Op, Pads, ValueId};

pub(super) fn rule(scope: &mut Scope<'_>, node: &Node) -> Option<Vec<Node>> {
    if scope.options.keep_affine {
        return None;
    }
    let mut inputs = Inputs::of(scope, node)?;
    let inner = scope.sole(inputs.matrix.operand(0)?)?;
    let (op, source, c, true) = with_constant(scope, &inner)? else { return None };
    let values = channel_constant(scope, source, c, inputs.channels)?;
    // The constant must not widen a source of fewer channels.
    (scope.dims(source)?.last()?.known()? == inputs.channels as i64).then_some(())?;
    let mut nodes = Vec::new();
    match op {
        BinaryOp::Mul => {
            inputs.multiply(scope, &values);
            inputs.matrix.node.inputs[0] = Some(source);
        }
        BinaryOp::Add if !inputs.padded => {
            inputs.offset(scope, &values, c)?;
            inputs.matrix.node.inputs[0] = Some(source);
        }
        BinaryOp::Add => {
            // `s x + b = s (x + b / s)`: the factor can go on.
            let factor = scope.sole(source)?;
            let (BinaryOp::Mul, origin, s, true) = with_constant(scope, &factor)? else { return None };
            let factors = channel_constant(scope, origin, s, inputs.channels)?;
            (scope.dims(origin) == scope.dims(source)).then_some(())?;
            let shifted: Vec<f32> = values.iter().zip(&factors).map(|(b, s)| (b / s) as f32).collect();
            shifted.iter().all(|v| v.is_finite()).then_some(())?;
            let name = scope.name(c).to_owned();
            let offset = scope.add_constant(name, Array::f32(&[shifted.len()], &shifted));
            let sum = scope.add_value(scope.name(inputs.matrix.operand(0)?).to_owned());
            nodes.push(Node {
                name: inner.name.clone(),
                op: Op::Binary(BinaryOp::Add),
                inputs: vec![Some(origin), Some(offset)],
                outputs: vec![Some(sum)],
            });
            inputs.multiply(scope, &factors);
            inputs.matrix.node.inputs[0] = Some(sum);
        }
        _ => return None,
    }
    nodes.push(inputs.matrix.node);
    Some(nodes)
}

/// A matrix operation seen from its input channels.
struct Inputs {
    matrix: Matrix,
    channels: usize,
    padded: bool,
    /// Rows and columns of the weight matrix.
    shape: [usize; 2],
    weights: Vec<f32>,
    /// The input channel of column 0 of each row, and the number of channels a row reads.
    first: Vec<usize>,
    width: usize,
}

impl Inputs {
    fn of(scope: &Scope<'_>, node: &Node) -> Option<Inputs> {
        let matrix = Matrix::of(node)?;
        let w = matrix.operand(1)?;
        let array = scope.constant(w).filter(|_| scope.uses(w) == 1 && !scope.is_whole(w))?;
        let &[rows, k] = &array.dims[..] else { return None };
        let (groups, width, padded) = match &node.op {
            Op::Linear { .. } => (1, k, false),
            Op::Conv { window, groups, .. } => {
                let width = k.checked_div(window.kernel[0] * window.kernel[1])?;
                (*groups, width, window.pads != Pads::Explicit([0; 4]))
            }
            _ => return None,
        };
        // Rows of a group stand together, filled up to a multiple of the kernels' width unless depthwise.
        let per_group = rows.checked_div(groups)?;
        let aligned = groups == 1 || per_group == 1 || per_group.is_multiple_of(GROUP_ROWS);
        (aligned && rows == per_group * groups && width > 0 && k.is_multiple_of(width)).then_some(())?;
        let first = (0..rows).map(|r| r / per_group * width).collect();
        let weights = array.as_f32()?;
        Some(Inputs { matrix, channels: groups * width, padded, shape: [rows, k], weights, first, width })
    }

    fn multiply(&mut self, scope: &mut Scope<'_>, factors: &[f64]) {
        for (row, first) in self.weights.chunks_exact_mut(self.shape[1].max(1)).zip(&self.first) {
            for (i, w) in row.iter_mut().enumerate() {
                *w = (f64::from(*w) * factors[first + i % self.width]) as f32;
            }
        }
        let name = self.matrix.operand(1).map_or_else(String::new, |w| scope.name(w).to_owned());
        let w = scope.add_constant(name, Array::f32(&self.shape, &self.weights));
        self.matrix.set(1, w);
    }

    /// Adds to the bias what the offsets contribute.
    fn offset(&mut self, scope: &mut Scope<'_>, offsets: &[f64], c: ValueId) -> Option<()> {
        let at = self.matrix.bias;
        let scale = self.matrix.per_channel(scope, self.matrix.scale?, 1.0)?;
        let mut bias = self.matrix.per_channel(scope, at, 0.0)?;
        let channels = self.matrix.row_channels(self.shape[0])?;
        let rows = self.weights.chunks_exact(self.shape[1].max(1)).zip(&self.first);
        for ((row, first), channel) in rows.zip(channels) {
            let Some(channel) = channel else { continue };
            let sum: f64 =
                row.iter().enumerate().map(|(i, w)| f64::from(*w) * offsets[first + i % self.width]).sum();
            bias[channel] += scale[channel] * sum;
        }
        let name = scope.name(c).to_owned();
        self.matrix.set_vector(scope, at, name, &bias);
        Some(())
    }
}
