//! Per-channel factors and offsets after a matrix operation go into its weights and bias: batch normalisation above all.

mod before;

use super::common::{channel_constant, one_to_one, with_constant, with_scalar};
use super::sweep::Scope;
use crate::model::Array;
use edge_runtime::graph::{Act, BinaryOp, Node, Op, UnaryOp, ValueId};

/// Rows of a convolution's group start at a multiple of this.
const GROUP_ROWS: usize = 16;

pub(super) fn rule(scope: &mut Scope<'_>, node: &Node) -> Option<Vec<Node>> {
    after(scope, node)
        .or_else(|| negated(scope, node))
        .or_else(|| before::rule(scope, node))
        .or_else(|| scaled_product(scope, node))
        .or_else(|| scaled_operand(scope, node))
}

/// A number that multiplies or divides a product of two computed matrices is its `alpha`.
fn scaled_product(scope: &mut Scope<'_>, node: &Node) -> Option<Vec<Node>> {
    let (op, x, c, right) = with_scalar(scope, node)?;
    let mut product = (*scope.sole(x)?).clone();
    let Op::MatMul { alpha, .. } = &mut product.op else { return None };
    *alpha = match op {
        BinaryOp::Mul => *alpha * c,
        BinaryOp::Div if right && c != 0.0 => (f64::from(*alpha) / f64::from(c)) as f32,
        _ => return None,
    };
    product.outputs.clone_from(&node.outputs);
    Some(vec![product])
}

/// A number that multiplies an operand of such a product, likewise.
fn scaled_operand(scope: &mut Scope<'_>, node: &Node) -> Option<Vec<Node>> {
    let &Op::MatMul { trans_a, trans_b, alpha } = &node.op else { return None };
    let (at, x, c) = node.inputs.iter().enumerate().find_map(|(at, operand)| {
        let (BinaryOp::Mul, x, c, _) = with_scalar(scope, &*scope.sole((*operand)?)?)? else { return None };
        Some((at, x, c))
    })?;
    let mut product = node.clone();
    product.op = Op::MatMul { trans_a, trans_b, alpha: alpha * c };
    product.inputs[at] = Some(x);
    Some(vec![product])
}

/// Operands that every matrix operation has, whatever their positions.
struct Matrix {
    node: Node,
    channels: usize,
    /// Positions of the optional operands; a transposed convolution has no scale.
    scale: Option<usize>,
    bias: usize,
}

impl Matrix {
    fn of(node: &Node) -> Option<Matrix> {
        let (channels, scale, bias) = match &node.op {
            Op::Conv { out_channels, .. } => (*out_channels, Some(2), 3),
            Op::Linear { out_features, .. } => (*out_features, Some(2), 3),
            Op::ConvTranspose { out_channels, .. } => (*out_channels, None, 2),
            _ => return None,
        };
        Some(Matrix { node: node.clone(), channels, scale, bias })
    }

    /// Whether something already happens after the bias.
    fn is_finished(&self) -> bool {
        let act = match &self.node.op {
            Op::Conv { act, .. } | Op::Linear { act, .. } | Op::ConvTranspose { act, .. } => *act,
            _ => Act::None,
        };
        act != Act::None || self.operand(self.bias + 1).is_some() || self.operand(self.bias + 2).is_some()
    }

    fn operand(&self, at: usize) -> Option<ValueId> {
        self.node.inputs.get(at).copied().flatten()
    }

    fn set(&mut self, at: usize, value: ValueId) {
        if self.node.inputs.len() <= at {
            self.node.inputs.resize(at + 1, None);
        }
        self.node.inputs[at] = Some(value);
    }

    /// The output channel of each row of the weight matrix; `None` for a row that only fills a group up.
    fn row_channels(&self, rows: usize) -> Option<Vec<Option<usize>>> {
        match &self.node.op {
            Op::ConvTranspose { .. } => (rows.is_multiple_of(self.channels))
                .then(|| (0..rows).map(|r| Some(r % self.channels)).collect()),
            _ if rows == self.channels => Some((0..rows).map(Some).collect()),
            Op::Conv { groups, .. } => {
                let width = self.channels.checked_div(*groups)?;
                let stride = width.next_multiple_of(GROUP_ROWS);
                (rows == stride * groups).then(|| {
                    (0..rows)
                        .map(|r| (r % stride < width).then_some(r / stride * width + r % stride))
                        .collect()
                })
            }
            _ => None,
        }
    }

    /// An optional per-channel operand, or what stands for its absence.
    fn per_channel(&self, scope: &Scope<'_>, at: usize, absent: f64) -> Option<Vec<f64>> {
        match self.operand(at) {
            None => Some(vec![absent; self.channels]),
            Some(v) => {
                let values = scope.constant(v)?.as_f32()?;
                (values.len() == self.channels).then(|| values.into_iter().map(f64::from).collect())
            }
        }
    }

    fn set_vector(&mut self, scope: &mut Scope<'_>, at: usize, name: String, values: &[f64]) {
        let rounded: Vec<f32> = values.iter().map(|v| *v as f32).collect();
        let value = scope.add_constant(name, Array::f32(&[rounded.len()], &rounded));
        self.set(at, value);
    }
}

/// Folds `node`, a multiplication or addition of a per-channel constant, into the matrix operation before it.
fn after(scope: &mut Scope<'_>, node: &Node) -> Option<Vec<Node>> {
    let (op, x, c, right) = with_constant(scope, node)?;
    let before = scope.sole(x)?;
    let mut matrix = Matrix::of(&before)?;
    if matrix.is_finished() {
        return None;
    }
    let values = channel_constant(scope, x, c, matrix.channels)?;
    let name = scope.name(c).to_owned();
    match op {
        BinaryOp::Add | BinaryOp::Sub if right || op == BinaryOp::Add => {
            let sign = if op == BinaryOp::Sub { -1.0 } else { 1.0 };
            let bias: Vec<f64> = matrix
                .per_channel(scope, matrix.bias, 0.0)?
                .iter()
                .zip(&values)
                .map(|(b, v)| b + sign * v)
                .collect();
            matrix.set_vector(scope, matrix.bias, name, &bias);
        }
        BinaryOp::Mul | BinaryOp::Div if right || op == BinaryOp::Mul => {
            let factors: Vec<f64> = match op {
                BinaryOp::Div => values.iter().map(|v| 1.0 / v).collect(),
                _ => values,
            };
            if !factors.iter().all(|f| f.is_finite()) {
                return None;
            }
            multiply(scope, &mut matrix, &factors, name)?;
        }
        _ => return None,
    }
    matrix.node.outputs = node.outputs.clone();
    Some(vec![matrix.node])
}

fn multiply(scope: &mut Scope<'_>, matrix: &mut Matrix, factors: &[f64], name: String) -> Option<()> {
    let w = matrix.operand(1)?;
    let bias = match matrix.operand(matrix.bias) {
        Some(_) => Some(matrix.per_channel(scope, matrix.bias, 0.0)?),
        None => None,
    };
    // Folding into weights that others read too would store them twice, into weights of 16 bits would make them wider.
    let narrow = matrix.scale.is_some() && scope.constant(w).is_some_and(Array::is_narrow);
    let shared = scope.options.keep_affine
        || narrow
        || scope.uses(w) > 1
        || scope.is_whole(w)
        || matrix.scale.is_some_and(|s| matrix.operand(s).is_some());
    match (shared, matrix.scale) {
        (true, Some(at)) => {
            let scale = matrix.per_channel(scope, at, 1.0)?;
            let product: Vec<f64> = scale.iter().zip(factors).map(|(s, f)| s * f).collect();
            matrix.set_vector(scope, at, name, &product);
        }
        (true, None) => return None,
        (false, _) => {
            let array = scope.constant(w)?;
            let rows = *array.dims.first()?;
            let channels = matrix.row_channels(rows)?;
            let k = array.elements().checked_div(rows)?;
            let mut weights = array.floats()?.into_owned();
            for (row, channel) in weights.chunks_exact_mut(k.max(1)).zip(channels) {
                let factor = channel.map_or(1.0, |c| factors[c]);
                row.iter_mut().for_each(|w| *w = (f64::from(*w) * factor) as f32);
            }
            let folded = Array::f32(&array.dims, &weights);
            let name = scope.name(w).to_owned();
            let value = scope.add_constant(name, folded);
            matrix.set(1, value);
        }
    }
    if let Some(bias) = bias {
        let product: Vec<f64> = bias.iter().zip(factors).map(|(b, f)| b * f).collect();
        let name = scope.name(matrix.operand(matrix.bias)?).to_owned();
        matrix.set_vector(scope, matrix.bias, name, &product);
    }
    Some(())
}

/// `-(w x + b)` is `(-w) x - b`.
fn negated(scope: &mut Scope<'_>, node: &Node) -> Option<Vec<Node>> {
    let (x, _) = one_to_one(node).filter(|_| node.op == Op::Unary(UnaryOp::Neg))?;
    let mut matrix = Matrix::of(&*scope.sole(x)?).filter(|m| !m.is_finished())?;
    let factors = vec![-1.0; matrix.channels];
    multiply(scope, &mut matrix, &factors, format!("{}/sign", node.name))?;
    matrix.node.outputs.clone_from(&node.outputs);
    Some(vec![matrix.node])
}
