//! Attention is one operation, whichever way exporters write it.

use super::{Net, ops};
use crate::model::Model;
use edge_runtime::graph::{BinaryOp, Op, ValueId};

fn product(net: &mut Net, a: ValueId, b: ValueId) -> ValueId {
    net.node(Op::MatMul { trans_a: false, trans_b: false, alpha: 1.0 }, &[a, b])
}

/// Attention of two heads over four queries and six keys; `scores` is what is done to the product of q and k.
fn attention(scores: impl Fn(&mut Net, ValueId) -> ValueId, shown: bool) -> Model {
    let mut net = Net::default();
    let q = net.input("q", &[0, 2, 4, 3]);
    let (k, v) = (net.input("k", &[0, 2, 6, 3]), net.input("v", &[0, 2, 6, 5]));
    let turned = net.transpose(k, &[0, 1, 3, 2]);
    let s = product(&mut net, q, turned);
    let s = scores(&mut net, s);
    let s = net.node(Op::Softmax { axis: 3, log: false }, &[s]);
    let y = product(&mut net, s, v);
    net.output(y);
    if shown {
        net.output(s);
    }
    net.check()
}

#[test]
fn products_around_a_softmax_are_one_operation() {
    assert_eq!(ops(&attention(|_, s| s, false)), ["Attention"]);
}

#[test]
fn the_scale_is_a_factor_or_a_divisor_of_the_scores() {
    for op in [BinaryOp::Mul, BinaryOp::Div] {
        let scaled = |net: &mut Net, s| {
            let factor = net.scalar(2.5);
            net.binary(op, s, factor)
        };
        let model = attention(scaled, false);
        assert_eq!(ops(&model), ["Attention"]);
        let Op::Attention { scale, k_transposed } = model.graph.body.nodes[0].op else { unreachable!() };
        let want = if op == BinaryOp::Mul { 2.5 } else { 0.4 };
        assert!((scale - want).abs() < 1e-6 && !k_transposed);
    }
}

#[test]
fn a_mask_is_added_on_either_side() {
    for left in [false, true] {
        for dims in [&[0usize, 1, 1, 6][..], &[4, 6], &[6]] {
            let masked = |net: &mut Net, s| {
                let mask = net.input("mask", dims);
                if left { net.binary(BinaryOp::Add, mask, s) } else { net.binary(BinaryOp::Add, s, mask) }
            };
            assert_eq!(ops(&attention(masked, false)), ["Attention"], "{dims:?}");
        }
    }
}

#[test]
fn weights_that_are_shown_stay_a_value() {
    assert!(ops(&attention(|_, s| s, true)).contains(&"Softmax".to_string()));
}

#[test]
fn a_mask_of_more_dimensions_is_no_attention() {
    let masked = |net: &mut Net, s| {
        let mask = net.input("mask", &[3, 4, 2, 4, 6]);
        net.binary(BinaryOp::Add, s, mask)
    };
    assert!(ops(&attention(masked, false)).contains(&"Softmax".to_string()));
}
