//! Recognises attention that exporters wrote out as products and a softmax.

use super::common::binary;
use super::sweep::Scope;
use edge_runtime::graph::{BinaryOp, DType, Node, Op, ValueId};

/// `softmax(scale * q k [+ mask]) v`, each value between used once. Factors on q and k are the product's already.
pub(super) fn rule(scope: &mut Scope<'_>, node: &Node) -> Option<Vec<Node>> {
    if node.op != (Op::MatMul { trans_a: false, trans_b: false, alpha: 1.0 }) {
        return None;
    }
    let [Some(weights), Some(v)] = node.inputs[..] else { return None };
    let softmax = scope.sole(weights)?;
    let (&Op::Softmax { axis, log: false }, [Some(scores)]) = (&softmax.op, &softmax.inputs[..]) else {
        return None;
    };
    let rank = scope.rank(*scores)?;
    if rank < 2 || super::sizes::axis(axis, rank)? + 1 != rank {
        return None;
    }
    let (product, mask) = masked(scope, *scores)?;
    let Op::MatMul { trans_a: false, trans_b, alpha } = product.op else { return None };
    let [Some(q), Some(k)] = product.inputs[..] else { return None };
    let matrix = |value: ValueId| {
        scope.dtype(value) == Some(DType::F32)
            && scope.rank(value).is_some_and(|rank| rank >= 2)
            && !scope.is_stored(value)
    };
    // A mask with more dimensions than the scores would add some to the result.
    let fits = mask
        .is_none_or(|m| scope.dtype(m) == Some(DType::F32) && scope.rank(m).is_some_and(|own| own <= rank));
    if ![q, k, v].into_iter().all(matrix) || !fits {
        return None;
    }
    let mut inputs = vec![Some(q), Some(k), Some(v)];
    inputs.extend(mask.map(Some));
    Some(vec![Node {
        name: node.name.clone(),
        op: Op::Attention { k_transposed: !trans_b, scale: alpha },
        inputs,
        outputs: node.outputs.clone(),
    }])
}

/// The product that gives the scores, and what is added to it.
fn masked(scope: &Scope<'_>, scores: ValueId) -> Option<(Node, Option<ValueId>)> {
    let node = scope.sole(scores)?;
    if matches!(node.op, Op::MatMul { .. }) {
        return Some(((*node).clone(), None));
    }
    let (BinaryOp::Add, a, b, _) = binary(&node)? else { return None };
    [(a, b), (b, a)].into_iter().find_map(|(product, mask)| {
        let product = scope.sole(product)?;
        matches!(product.op, Op::MatMul { .. }).then(|| ((*product).clone(), Some(mask)))
    })
}
