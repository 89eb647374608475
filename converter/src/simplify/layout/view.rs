//! Elementwise operations that a change of shape parts from the matrix operation they could join.

use crate::model::Array;
use crate::simplify::common::{one_to_one, with_constant};
use crate::simplify::sweep::Scope;
use edge_runtime::graph::{Node, Op, ValueId};

/// `f(view(matrix(x)))` is `view(f(matrix(x)))`: of one operand, or with a constant along the last dimension that the
/// view leaves alone.
pub(super) fn rule(scope: &mut Scope<'_>, node: &Node) -> Option<Vec<Node>> {
    let (operand, constant) = match &node.op {
        Op::Unary(_) => (one_to_one(node)?.0, None),
        Op::Binary(_) => {
            let (_, x, c, true) = with_constant(scope, node)? else { return None };
            (x, Some(c))
        }
        _ => return None,
    };
    let view = scope.sole(operand)?;
    let is_view = matches!(
        view.op,
        Op::Squeeze { .. } | Op::Unsqueeze { .. } | Op::Reshape { .. } | Op::Flatten { .. }
    );
    let source = view.inputs.first().copied().flatten().filter(|_| is_view)?;
    let matrix = scope.sole(source)?;
    if !matches!(matrix.op, Op::Conv { .. } | Op::ConvTranspose { .. } | Op::Linear { .. }) {
        return None;
    }
    let mut inputs = vec![Some(source)];
    if let Some(c) = constant {
        inputs.push(Some(along_last(scope, operand, source, c)?));
    }
    let y = node.outputs.first().copied().flatten()?;
    let inner = scope.add_value(scope.name(y).to_owned());
    let moved = Node { name: node.name.clone(), op: node.op.clone(), inputs, outputs: vec![Some(inner)] };
    let mut after = (*view).clone();
    after.inputs[0] = Some(inner);
    after.outputs.clone_from(&node.outputs);
    Some(vec![moved, after])
}

/// The constant as a vector along the last dimension, which both shapes share.
fn along_last(scope: &mut Scope<'_>, view: ValueId, source: ValueId, c: ValueId) -> Option<ValueId> {
    let (outer, inner) = (scope.dims(view)?, scope.dims(source)?);
    let last = *outer.last()?;
    let array = scope.constant(c)?;
    let n = array.elements();
    let fits = array.dims.len() <= outer.len()
        && (n == 1
            || (array.dims.last() == Some(&n)
                && last.known() == Some(n as i64)
                && inner.last() == Some(&last)));
    let vector = Array { dims: if n == 1 { vec![] } else { vec![n] }, ..array.clone() };
    let name = scope.name(c).to_owned();
    fits.then(|| scope.add_constant(name, vector))
}
