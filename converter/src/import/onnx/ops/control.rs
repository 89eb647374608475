//! Control flow.

use super::{NOW, Operator, Types, op};
use crate::import::onnx::ctx::{Binding, Ctx};
use crate::import::onnx::node::{NodeView, OpError, malformed};
use crate::import::onnx::ranks::Fact;
use edge_runtime::graph::{Op, ValueId};

/// The table.
pub const OPERATORS: &[Operator] =
    &[op("If", (1, NOW), (1, 1), Types::Any, &["else_branch", "then_branch"], if_)];

fn if_<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>) -> Result<(), OpError> {
    let (yes, no) = (node.graph("then_branch")?, node.graph("else_branch")?);
    let outputs = node.proto.output.len();
    if yes.output.len() < outputs || no.output.len() < outputs {
        return malformed("a branch has fewer results than the node");
    }
    if let Some(condition) = ctx.known(node, 0)? {
        let &[condition] = condition.as_slice() else { return malformed("a condition that is no scalar") };
        let taken = ctx.inline_branch(if condition != 0 { yes } else { no }, node)?;
        for (i, binding) in taken.into_iter().enumerate() {
            if let Some(name) = node.output(i) {
                ctx.bind(name, binding, &node.name)?;
            }
        }
        return Ok(());
    }
    let condition = ctx.operand(node, 0)?;
    let mut then_branch = ctx.branch(yes, node)?;
    let mut else_branch = ctx.branch(no, node)?;
    // What the node does not name, nobody reads.
    then_branch.outputs.truncate(outputs);
    else_branch.outputs.truncate(outputs);
    let facts: Vec<Fact> = then_branch
        .outputs
        .iter()
        .zip(&else_branch.outputs)
        .map(|(a, b)| ctx.fact(*a).either(ctx.fact(*b)))
        .collect();
    let mut results: Vec<Option<ValueId>> = Vec::with_capacity(outputs);
    for (i, fact) in facts.into_iter().enumerate() {
        results.push(match node.output(i) {
            Some(name) => {
                let id = ctx.value(name, fact);
                ctx.bind(name, Binding::Value(id), &node.name)?;
                Some(id)
            }
            None => None,
        });
    }
    ctx.push(node, Op::If { then_branch, else_branch }, vec![Some(condition)], results);
    Ok(())
}
