//! Which inputs the planner reads: those whose values, by way of shape arithmetic, become sizes, positions or branches.

use edge_runtime::graph::{Block, Graph, Node, Op, Port, ValueId};
use std::collections::HashSet;

/// Sets [`edge_runtime::graph::Port::plan_time`] of every input.
///
/// Goes back from the operands that decide shapes, through everything but the operations that compute with whole tensors
/// (convolution, matrix product, ...) and `Shape` and `Size`, whose operand's elements do not matter. A float input counts only as
/// a scalar or vector (scales of a `Resize`); integers and booleans count in any rank.
pub fn mark(graph: &mut Graph) {
    let mut wanted = HashSet::new();
    // Operands precede their use, so one pass from the last node to the first sees every path.
    visit(&graph.body, &mut wanted);
    for port in &mut graph.inputs {
        port.plan_time = is_small(port) && wanted.contains(&port.value);
    }
}

/// Whether the planner may ask for an input's values.
pub fn is_small(port: &Port) -> bool {
    !port.dtype.is_float() || port.dims.as_ref().is_some_and(|d| d.len() <= 1)
}

/// The results of a branch that are wanted.
fn used(node: &Node, branch: &Block, wanted: &HashSet<ValueId>) -> Vec<ValueId> {
    let results = node.outputs.iter().zip(&branch.outputs);
    results.filter(|(o, _)| o.is_some_and(|o| wanted.contains(&o))).map(|(_, v)| *v).collect()
}

fn visit(block: &Block, wanted: &mut HashSet<ValueId>) {
    for node in block.nodes.iter().rev() {
        let needed = node.outputs.iter().flatten().any(|v| wanted.contains(v));
        if let Op::If { then_branch, else_branch } = &node.op {
            wanted.extend(node.inputs.first().copied().flatten());
            for branch in [then_branch, else_branch] {
                wanted.extend(used(node, branch, wanted));
                visit(branch, wanted);
            }
            continue;
        }
        if let Op::Loop { body, carried, .. } = &node.op {
            // How long lists are.
            if node.outputs.iter().skip(*carried).rev().skip(1).any(Option::is_some) {
                wanted.extend(node.inputs.first().copied().flatten());
            }
            visit(body, wanted);
            continue;
        }
        wanted.extend(shape_operands(node));
        if needed && carries_values(&node.op) {
            wanted.extend(node.inputs.iter().flatten());
        }
    }
}

/// The operands that decide the shape of a result.
fn shape_operands(node: &Node) -> impl Iterator<Item = ValueId> + '_ {
    let places: &[usize] = match node.op {
        Op::Reshape { .. } | Op::Expand | Op::Tile | Op::Pad { .. } | Op::Split { .. } => &[1],
        Op::ReduceAxes { .. } | Op::TopK { .. } | Op::OneHot { .. } | Op::Trilu { .. } => &[1],
        Op::NonMaxSuppression => &[2],
        Op::Slice { .. } => &[1, 2, 3],
        Op::Resize { .. } => &[1, 2],
        Op::Range => &[0, 1, 2],
        Op::ConstantOfShape { .. } => &[0],
        _ => &[],
    };
    places.iter().filter_map(|i| node.inputs.get(*i).copied().flatten())
}

/// Whether the planner evaluates the operation when its result decides a shape.
pub fn carries_values(op: &Op) -> bool {
    !matches!(
        op,
        Op::Conv { .. }
            | Op::ConvTranspose { .. }
            | Op::Linear { .. }
            | Op::MatMul { .. }
            | Op::Attention { .. }
            | Op::RotaryTable
            | Op::Rotary
            | Op::CachedAttention { .. }
            | Op::Pool { .. }
            | Op::Resize { .. }
            | Op::Softmax { .. }
            | Op::LayerNorm { .. }
            | Op::RmsNorm { .. }
            | Op::GroupNorm { .. }
            | Op::Lrn { .. }
            | Op::Lstm { .. }
            | Op::Gru { .. }
            | Op::Shape { .. }
            | Op::Size
            | Op::Loop { .. }
            | Op::Turn
    )
}
