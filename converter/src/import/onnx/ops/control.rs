//! Branches. Of a condition that the planner knows one is taken; where only a run computes it, both are computed and one is selected.

use super::{NOW, Operator, Types, op};
use crate::import::onnx::ctx::{Binding, Ctx};
use crate::import::onnx::node::{NodeView, OpError, malformed, unsupported};
use crate::import::onnx::proto::{GraphProto, ValueInfoProto};
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
    if ctx.is_of_a_run(condition) {
        return both(ctx, node, condition, (yes, no));
    }
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

/// Both branches, and for each result a choice of one.
fn both<'m>(
    ctx: &mut Ctx<'m>,
    node: &NodeView<'m>,
    condition: ValueId,
    (yes, no): (&'m GraphProto, &'m GraphProto),
) -> Result<(), OpError> {
    let condition = ctx.reshape(node, condition, &[]);
    let declared: Vec<Option<usize>> = yes.output.iter().zip(&no.output).map(single).collect();
    let (yes, no) = (ctx.inline_branch(yes, node)?, ctx.inline_branch(no, node)?);
    for (i, (yes, no)) in yes.into_iter().zip(no).enumerate() {
        let Some(name) = node.output(i) else { continue };
        let (Some(mut yes), Some(mut no)) = (ctx.value_of(yes)?, ctx.value_of(no)?) else {
            return malformed("a branch gives an absent value");
        };
        // One element each, but of shapes [] and [1], which exporters do not tell apart: as both are declared.
        let ranks = [yes, no].map(|id| ctx.fact(id).rank());
        if let (true, Some(rank)) = (ranks[0] != ranks[1], declared[i])
            && [yes, no].iter().all(|id| is_single(ctx.fact(*id)))
        {
            (yes, no) = (ctx.reshape(node, yes, &vec![1; rank]), ctx.reshape(node, no, &vec![1; rank]));
        }
        let chosen = selected(ctx, node, condition, (yes, no))?;
        ctx.bind(name, Binding::Value(chosen), &node.name)?;
    }
    Ok(())
}

/// The number of dimensions of two results that are both declared to have one element.
fn single((a, b): (&ValueInfoProto, &ValueInfoProto)) -> Option<usize> {
    let rank = |port: &ValueInfoProto| {
        let dims = &port.r#type.as_ref()?.tensor_type.as_ref()?.shape.as_ref()?.dim;
        dims.iter().all(|d| d.dim_value == Some(1)).then_some(dims.len())
    };
    rank(a).filter(|a| Some(*a) == rank(b))
}

/// Whether a value is known to have one element.
pub(super) fn is_single(fact: &Fact) -> bool {
    fact.dims.as_ref().is_some_and(|dims| dims.iter().all(|d| *d == Some(1)))
}

/// `yes` where a truth that a run computes holds, else `no`; both of one shape and type, for the plan has room for one.
pub(super) fn selected<'m>(
    ctx: &mut Ctx<'m>,
    node: &NodeView<'m>,
    condition: ValueId,
    (yes, no): (ValueId, ValueId),
) -> Result<ValueId, OpError> {
    if yes == no {
        return Ok(no);
    }
    let (a, b) = (ctx.fact(yes), ctx.fact(no));
    let (alike, known) = match (&a.dims, &b.dims) {
        (Some(a), Some(b)) => {
            let mut sizes = a.iter().zip(b);
            let alike =
                a.len() == b.len() && sizes.clone().all(|(a, b)| a.is_none() || b.is_none() || a == b);
            (alike, sizes.all(|(a, b)| a.is_some() && b.is_some()))
        }
        _ => (true, false),
    };
    if !alike || a.dtype != b.dtype {
        return unsupported(format!("a choice between {a} and {b} that only a run makes is not implemented"));
    }
    let mut f = ctx.formula(node);
    let chosen = f.select(condition, yes, no);
    if known {
        return Ok(chosen);
    }
    // Where sizes are known at planning alone, the planner refuses what has another number of elements.
    let shape = f.shape(no, 0, None);
    Ok(f.op(Op::Reshape { allow_zero: true }, &[chosen, shape]))
}
