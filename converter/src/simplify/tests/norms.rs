//! Norms and softmax written out in arithmetic.

use super::*;
use edge_runtime::graph::ReduceOp;

fn reduce(net: &mut Net, kind: ReduceOp, x: ValueId) -> ValueId {
    net.node(Op::Reduce { kind, axes: vec![-1], keep_dims: true }, &[x])
}

/// The mean, the centred value, and `variance + epsilon`.
fn statistics(net: &mut Net, x: ValueId) -> (ValueId, ValueId, ValueId) {
    let mean = reduce(net, ReduceOp::Mean, x);
    let d = net.binary(BinaryOp::Sub, x, mean);
    let two = net.scalar(2.0);
    let square = net.binary(BinaryOp::Pow, d, two);
    let variance = reduce(net, ReduceOp::Mean, square);
    let epsilon = net.scalar(1e-5);
    (mean, d, net.binary(BinaryOp::Add, variance, epsilon))
}

#[test]
fn layer_norm_with_scale_and_bias() {
    let mut net = Net::default();
    let x = net.input("x", &[0, 0, 6]);
    let (_, d, spread) = statistics(&mut net, x);
    let root = net.unary(UnaryOp::Sqrt, spread);
    let a = net.binary(BinaryOp::Div, d, root);
    let (scale, bias) = (net.random(&[6]), net.random(&[1, 1, 6]));
    let a = net.binary(BinaryOp::Mul, a, scale);
    let y = net.binary(BinaryOp::Add, a, bias);
    net.output(y);
    let simple = net.check();
    assert_eq!(ops(&simple), ["LayerNorm"]);
    assert_eq!(simple.graph.body.nodes[0].inputs.len(), 3);
}

#[test]
fn layer_norm_by_reciprocal() {
    let mut net = Net::default();
    let x = net.input("x", &[0, 6]);
    let (_, d, spread) = statistics(&mut net, x);
    let root = net.unary(UnaryOp::Sqrt, spread);
    let r = net.unary(UnaryOp::Reciprocal, root);
    let y = net.binary(BinaryOp::Mul, d, r);
    net.output(y);
    assert_eq!(ops(&net.check()), ["LayerNorm"]);
}

#[test]
fn layer_norm_by_moments() {
    let mut net = Net::default();
    let x = net.input("x", &[0, 6]);
    let (mean, _, spread) = statistics(&mut net, x);
    let root = net.unary(UnaryOp::Sqrt, spread);
    let r = net.unary(UnaryOp::Reciprocal, root);
    let (scale, bias) = (net.random(&[6]), net.random(&[6]));
    let r = net.binary(BinaryOp::Mul, r, scale);
    let a = net.binary(BinaryOp::Mul, x, r);
    let b = net.binary(BinaryOp::Mul, mean, r);
    let b = net.binary(BinaryOp::Sub, bias, b);
    let y = net.binary(BinaryOp::Add, a, b);
    net.output(y);
    assert_eq!(ops(&net.check()), ["LayerNorm"]);
}

#[test]
fn rms_norm() {
    let mut net = Net::default();
    let x = net.input("x", &[0, 6]);
    let two = net.scalar(2.0);
    let square = net.binary(BinaryOp::Pow, x, two);
    let mean = reduce(&mut net, ReduceOp::Mean, square);
    let epsilon = net.scalar(1e-6);
    let sum = net.binary(BinaryOp::Add, mean, epsilon);
    let root = net.unary(UnaryOp::Sqrt, sum);
    let r = net.unary(UnaryOp::Reciprocal, root);
    let a = net.binary(BinaryOp::Mul, x, r);
    let scale = net.random(&[6]);
    let y = net.binary(BinaryOp::Mul, scale, a);
    net.output(y);
    assert_eq!(ops(&net.check()), ["RmsNorm"]);
}

#[test]
fn softmax() {
    let mut net = Net::default();
    let x = net.input("x", &[0, 6]);
    let max = reduce(&mut net, ReduceOp::Max, x);
    let d = net.binary(BinaryOp::Sub, x, max);
    let e = net.unary(UnaryOp::Exp, d);
    let sum = reduce(&mut net, ReduceOp::Sum, e);
    let y = net.binary(BinaryOp::Div, e, sum);
    net.output(y);
    assert_eq!(ops(&net.check()), ["Softmax"]);
}

#[test]
fn a_norm_over_leading_axes_stays() {
    let mut net = Net::default();
    let x = net.input("x", &[0, 6]);
    let mean = net.node(Op::Reduce { kind: ReduceOp::Mean, axes: vec![0], keep_dims: true }, &[x]);
    let d = net.binary(BinaryOp::Sub, x, mean);
    let square = net.binary(BinaryOp::Mul, d, d);
    let variance = net.node(Op::Reduce { kind: ReduceOp::Mean, axes: vec![0], keep_dims: true }, &[square]);
    let epsilon = net.scalar(1e-5);
    let sum = net.binary(BinaryOp::Add, variance, epsilon);
    let root = net.unary(UnaryOp::Sqrt, sum);
    let y = net.binary(BinaryOp::Div, d, root);
    net.output(y);
    assert!(!ops(&net.check()).contains(&"LayerNorm".to_owned()));
}
