//! One product becomes two in the graph.

use super::Factors;
use crate::compress::Matrix;
use crate::model::{Array, Model};
use edge_runtime::graph::{Act, Block, ConstantId, Graph, Node, Op, Pads, Source, ValueId, Window};
use nalgebra::DMatrix;
use std::collections::{HashMap, HashSet};

/// The factors of a constant.
pub(super) struct Split {
    constant: ConstantId,
    name: String,
    rank: usize,
    u: Array,
    v: Array,
}

impl Split {
    pub fn new(constant: ConstantId, matrix: &Matrix, factors: &Factors) -> Split {
        let array = |m: &DMatrix<f64>| {
            let values: Vec<f32> = m.transpose().iter().map(|value| *value as f32).collect();
            Array::f32(&[m.nrows(), m.ncols()], &values)
        };
        Split {
            constant,
            name: matrix.name.clone(),
            rank: factors.rank(),
            u: array(&factors.u),
            v: array(&factors.v),
        }
    }
}

/// The constants that are matrices of nothing but products that can become two.
pub(super) fn narrow(graph: &Graph) -> HashSet<ConstantId> {
    let constant = |value: ValueId| match graph.values[value as usize].source {
        Source::Constant(id) => Some(id),
        _ => None,
    };
    let (mut narrow, mut other) = (HashSet::new(), HashSet::new());
    graph.body.for_each(&mut |node| {
        for (i, value) in node.inputs.iter().enumerate() {
            let Some(id) = value.and_then(constant) else { continue };
            let product = matches!(node.op, Op::Linear { .. } | Op::Conv { groups: 1, .. });
            if product && i == 1 {
                narrow.insert(id)
            } else {
                other.insert(id)
            };
        }
    });
    narrow.difference(&other).copied().collect()
}

/// Replaces the products with these constants: the first of the two has the window, the second what follows.
pub(super) fn apply(model: &mut Model, splits: &[&Split]) {
    let by_constant: HashMap<ConstantId, &Split> =
        splits.iter().map(|split| (split.constant, *split)).collect();
    let mut body = std::mem::take(&mut model.graph.body);
    block(model, &mut body, &by_constant);
    model.graph.body = body;
}

fn block(model: &mut Model, block_: &mut Block, splits: &HashMap<ConstantId, &Split>) {
    let mut nodes = Vec::with_capacity(block_.nodes.len());
    for mut node in std::mem::take(&mut block_.nodes) {
        for inner in node.op.blocks_mut() {
            block(model, inner, splits);
        }
        let weight = node.inputs.get(1).copied().flatten();
        let source =
            weight.and_then(|value| model.graph.values.get(value as usize)).map(|value| value.source);
        let split = match source {
            Some(Source::Constant(id)) => splits.get(&id),
            _ => None,
        };
        match split.and_then(|split| two(model, &node, split)) {
            Some(pair) => nodes.extend(pair),
            None => nodes.push(node),
        }
    }
    block_.nodes = nodes;
}

/// The two products of one; `None` for an operation that is none of these.
fn two(model: &mut Model, node: &Node, split: &Split) -> Option<[Node; 2]> {
    let (first, second) = match node.op.clone() {
        Op::Linear { out_features, act, act_after_residual } => (
            Op::Linear { out_features: split.rank, act: Act::None, act_after_residual: false },
            Op::Linear { out_features, act, act_after_residual },
        ),
        Op::Conv { window, groups: 1, out_channels, act, act_after_residual } => (
            Op::Conv {
                window,
                groups: 1,
                out_channels: split.rank,
                act: Act::None,
                act_after_residual: false,
            },
            Op::Conv { window: ONE, groups: 1, out_channels, act, act_after_residual },
        ),
        _ => return None,
    };
    let result: ValueId = node.outputs.first().copied().flatten()?;
    let part = |which: &str| format!("{} {which} (rank {})", split.name, split.rank);
    let v = model.add_constant(part("V"), split.v.clone());
    let u = model.add_constant(part("U"), split.u.clone());
    let inner = format!("{} (rank {})", model.graph.name(result), split.rank);
    let inner = model.graph.add_value(inner, Source::Computed);
    let mut inputs = node.inputs.clone();
    (inputs[0], inputs[1]) = (Some(inner), Some(u));
    Some([
        Node {
            name: format!("{} (rank {})", node.name, split.rank),
            op: first,
            inputs: vec![node.inputs[0], Some(v)],
            outputs: vec![Some(inner)],
        },
        Node { name: node.name.clone(), op: second, inputs, outputs: node.outputs.clone() },
    ])
}

/// The window of one pixel.
const ONE: Window = Window { kernel: [1, 1], stride: [1, 1], dilation: [1, 1], pads: Pads::Explicit([0; 4]) };
