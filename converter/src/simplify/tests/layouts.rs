//! Transposes that meet their inverse, and those that must stay.

use super::*;
use edge_runtime::graph::{CoordinateMode, Interpolation, NearestMode, PadMode, ReduceOp};

fn count(model: &Model, name: &str) -> usize {
    ops(model).iter().filter(|op| *op == name).count()
}

/// A net of one free-sized picture in, what `middle` makes of a convolution's result, a convolution after it.
fn between_convolutions(channels: usize, middle: impl Fn(&mut Net, ValueId) -> ValueId) -> Model {
    let mut net = Net::default();
    let x = net.input("x", &[0, 3, 0, 0]);
    let a = net.conv(x, [3, 4], 3, 1);
    let a = middle(&mut net, a);
    let y = net.conv(a, [channels, 2], 1, 1);
    net.output(y);
    net.check()
}

/// Only the transposes at the input and the output remain.
fn assert_clean(model: &Model) {
    let all = ops(model);
    assert_eq!(count(model, "Transpose"), 2, "{all:?}");
    assert_eq!((all[0].as_str(), all[all.len() - 1].as_str()), ("Transpose", "Transpose"), "{all:?}");
}

#[test]
fn elementwise_operations_let_them_through() {
    assert_clean(&between_convolutions(4, |net, x| {
        let c = net.random(&[4, 1, 1]);
        let a = net.unary(UnaryOp::Exp, x);
        let a = net.binary(BinaryOp::Div, c, a);
        net.binary(BinaryOp::Mul, a, x)
    }));
}

#[test]
fn concat_split_slice_pad_resize() {
    let simple = between_convolutions(8, |net, x| {
        let parts = net.nodes(Op::Split { axis: 1 }, &[x], 2);
        let pads = net.ints(&[1, 0, 1, 0]);
        let a = net.node(Op::Pad { mode: PadMode::Constant, axes: vec![2, 3] }, &[parts[0], pads]);
        let (from, to) = (net.ints(&[1]), net.ints(&[-1]));
        let a = net.node(Op::Slice { axes: vec![-2] }, &[a, from, to]);
        let joined = net.node(Op::Concat { axis: 1 }, &[a, parts[1], x]);
        let scales = net.floats(&[2], &[2.0, 2.0]);
        let op = Op::Resize {
            axes: vec![2, 3],
            interpolation: Interpolation::Nearest(NearestMode::Floor),
            coordinates: CoordinateMode::Asymmetric,
        };
        net.node(op, &[joined, scales])
    });
    assert_clean(&simple);
}

#[test]
fn squeeze_and_excitation() {
    let simple = between_convolutions(4, |net, x| {
        let pooled = net.node(Op::Reduce { kind: ReduceOp::Mean, axes: vec![2, 3], keep_dims: true }, &[x]);
        let a = net.conv(pooled, [4, 2], 1, 1);
        let a = net.unary(UnaryOp::Act(Act::Relu), a);
        let a = net.conv(a, [2, 4], 1, 1);
        let gate = net.unary(UnaryOp::Act(Act::Sigmoid), a);
        net.binary(BinaryOp::Mul, gate, x)
    });
    assert_clean(&simple);
    assert_eq!(
        ops(&simple),
        ["Transpose", "Conv", "Reduce", "Conv", "Conv", "Binary(Mul)", "Conv", "Transpose"]
    );
}

#[test]
fn an_operand_that_is_broadcast_is_permuted_instead() {
    let mut net = Net::default();
    let x = net.input("x", &[0, 3, 0, 0]);
    let gate = net.input("gate", &[0, 4, 1, 1]);
    let a = net.conv(x, [3, 4], 3, 1);
    let a = net.binary(BinaryOp::Mul, a, gate);
    let y = net.conv(a, [4, 2], 1, 1);
    net.output(y);
    // The gate's own transpose moves ones alone: a change of shape.
    assert_eq!(count(&net.check(), "Transpose"), 2);
}

#[test]
fn global_pooling_then_flatten_and_linear() {
    let mut net = Net::default();
    let x = net.input("x", &[0, 3, 0, 0]);
    let a = net.conv(x, [3, 4], 3, 1);
    let a = net.node(Op::Reduce { kind: ReduceOp::Mean, axes: vec![2, 3], keep_dims: true }, &[a]);
    let a = net.node(Op::Flatten { axis: 1 }, &[a]);
    let w = net.random(&[5, 4]);
    let y = net.node(linear_op(5), &[a, w]);
    net.output(y);
    let simple = net.check();
    assert_eq!(count(&simple, "Transpose"), 1, "{:?}", ops(&simple));
}

#[test]
fn global_pooling_that_drops_its_dimensions() {
    let mut net = Net::default();
    let x = net.input("x", &[0, 3, 0, 0]);
    let a = net.conv(x, [3, 4], 3, 1);
    let y = net.node(Op::Reduce { kind: ReduceOp::Mean, axes: vec![2, 3], keep_dims: false }, &[a]);
    net.output(y);
    assert_eq!(ops(&net.check()), ["Transpose", "Conv", "Reduce"]);
}

#[test]
fn pictures_become_sequences_without_a_transpose() {
    let mut net = Net::default();
    let x = net.input("x", &[0, 3, 0, 0]);
    let a = net.conv(x, [3, 4], 3, 1);
    let shape = net.ints(&[0, 4, -1]);
    let a = net.node(Op::Reshape { allow_zero: false }, &[a, shape]);
    let a = net.transpose(a, &[0, 2, 1]);
    let w = net.random(&[4, 4]);
    let y = net.node(linear_op(4), &[a, w]);
    net.output(y);
    assert_eq!(ops(&net.check()), ["Transpose", "Conv", "Reshape", "Linear"]);
}

#[test]
fn sequences_become_pictures_again() {
    let mut net = Net::default();
    let x = net.input("x", &[0, 3, 0, 0]);
    let picture = net.conv(x, [3, 4], 3, 1);
    let shape = net.node(Op::Shape { start: 0, end: None }, &[picture]);
    let flat = net.ints(&[0, 4, -1]);
    let a = net.node(Op::Reshape { allow_zero: false }, &[picture, flat]);
    let a = net.transpose(a, &[0, 2, 1]);
    let w = net.random(&[4, 4]);
    let a = net.node(linear_op(4), &[a, w]);
    let a = net.transpose(a, &[0, 2, 1]);
    let a = net.node(Op::Reshape { allow_zero: false }, &[a, shape]);
    let y = net.conv(a, [4, 2], 1, 1);
    net.output(y);
    assert_eq!(count(&net.check(), "Transpose"), 2);
}

#[test]
fn a_reshape_that_mixes_dimensions_keeps_its_transpose() {
    let mut net = Net::default();
    let x = net.input("x", &[2, 3, 4]);
    let a = net.transpose(x, &[0, 2, 1]);
    let shape = net.ints(&[2, 12]);
    let y = net.node(Op::Reshape { allow_zero: false }, &[a, shape]);
    net.output(y);
    assert_eq!(ops(&net.check()), ["Transpose", "Reshape"]);
}

#[test]
fn one_dimensional_convolutions_as_two_dimensional() {
    let mut net = Net::default();
    let x = net.input("x", &[0, 0, 3]);
    let mut a = net.transpose(x, &[0, 2, 1]);
    for channels in [[3, 4], [4, 2]] {
        a = net.node(Op::Unsqueeze { axes: vec![2] }, &[a]);
        a = net.conv(a, channels, 1, 1);
        a = net.node(Op::Squeeze { axes: vec![2] }, &[a]);
        a = net.unary(UnaryOp::Exp, a);
    }
    let y = net.transpose(a, &[0, 2, 1]);
    net.output(y);
    assert_eq!(count(&net.check(), "Transpose"), 0);
}

#[test]
fn products_read_matrices_either_way() {
    let mut net = Net::default();
    let (q, k) = (net.input("q", &[0, 5, 3]), net.input("k", &[0, 5, 3]));
    let turned = net.transpose(k, &[0, 2, 1]);
    let a = net.node(Op::MatMul { trans_a: false, trans_b: false, alpha: 0.5 }, &[q, turned]);
    let y = net.node(Op::Softmax { axis: -1, log: false }, &[a]);
    net.output(y);
    assert_eq!(ops(&net.check()), ["MatMul", "Softmax"]);
}

#[test]
fn attention_keeps_the_transposes_of_its_heads() {
    let mut net = Net::default();
    let x = net.input("x", &[0, 0, 12]);
    let shape = net.ints(&[0, -1, 3, 2, 2]);
    let a = net.node(Op::Reshape { allow_zero: false }, &[x, shape]);
    let a = net.transpose(a, &[2, 0, 3, 1, 4]);
    let parts: Vec<ValueId> = (0..3)
        .map(|i| {
            let index = net.model.add_constant(format!("i{i}"), Array::i64(&[], &[i]));
            net.node(Op::Gather { axis: 0 }, &[a, index])
        })
        .collect();
    let k = net.transpose(parts[1], &[0, 1, 3, 2]);
    let s = net.node(Op::MatMul { trans_a: false, trans_b: false, alpha: 1.0 }, &[parts[0], k]);
    let s = net.node(Op::Softmax { axis: -1, log: false }, &[s]);
    let s = net.node(Op::MatMul { trans_a: false, trans_b: false, alpha: 1.0 }, &[s, parts[2]]);
    let s = net.transpose(s, &[0, 2, 1, 3]);
    let shape = net.ints(&[0, -1, 4]);
    let y = net.node(Op::Reshape { allow_zero: false }, &[s, shape]);
    net.output(y);
    assert_eq!(count(&net.check(), "Transpose"), 2);
}

#[test]
fn pooling_windows_and_outputs_in_the_middle() {
    let mut net = Net::default();
    let x = net.input("x", &[0, 3, 0, 0]);
    let a = net.conv(x, [3, 4], 3, 1);
    let window = Window { kernel: [2; 2], stride: [2; 2], dilation: [1; 2], pads: Pads::Explicit([0; 4]) };
    let b = net.transpose(a, &[0, 2, 3, 1]);
    let b = net.node(Op::Pool { kind: edge_runtime::graph::PoolKind::Max, window, ceil_mode: false }, &[b]);
    let b = net.transpose(b, &[0, 3, 1, 2]);
    let y = net.conv(b, [4, 2], 3, 2);
    net.output(a);
    net.output(y);
    assert_eq!(ops(&net.check()), ["Transpose", "Conv", "Transpose", "Pool", "Conv", "Transpose"]);
}

#[test]
fn names_stay_apart() {
    let mut net = Net::default();
    let x = net.input("x", &[0, 3, 0, 0]);
    let a = net.conv(x, [3, 4], 3, 1);
    let y = net.unary(UnaryOp::Exp, a);
    net.output(y);
    let simple = net.check();
    let names: std::collections::BTreeSet<&str> =
        simple.graph.values.iter().map(|v| v.name.as_str()).collect();
    assert_eq!(names.len(), simple.graph.values.len());
}

#[test]
fn pointwise_convolutions_let_space_be_permuted() {
    let mut net = Net::default();
    let x = net.input("x", &[0, 0, 3, 4]);
    let a = net.transpose(x, &[0, 2, 1, 3]);
    let w = net.random(&[2, 4]);
    let a = net.node(conv_op(2, 1, 1, 1), &[a, w]);
    let y = net.transpose(a, &[0, 2, 1, 3]);
    net.output(y);
    assert_eq!(ops(&net.check()), ["Conv"]);
}

#[test]
fn permutations_that_differ_in_ones_agree() {
    let mut net = Net::default();
    let (x, z) = (net.input("x", &[0, 5, 2]), net.input("z", &[5, 1, 2]));
    let a = net.transpose(x, &[0, 2, 1]);
    let b = net.transpose(z, &[1, 2, 0]);
    let c = net.binary(BinaryOp::Sub, a, b);
    let d = net.binary(BinaryOp::Sub, b, a);
    for value in [c, d] {
        let y = net.transpose(value, &[0, 2, 1]);
        net.output(y);
    }
    assert_eq!(count(&net.check(), "Transpose"), 0);
}

#[test]
fn ones_join_the_reshape_before_them_and_leave_the_reduction() {
    let mut net = Net::default();
    let x = net.input("x", &[0, 6, 4]);
    let shape = net.ints(&[0, 1, 6, 4]);
    let a = net.node(Op::Reshape { allow_zero: false }, &[x, shape]);
    let a = net.node(Op::Squeeze { axes: vec![1] }, &[a]);
    let a = net.node(Op::Unsqueeze { axes: vec![3] }, &[a]);
    let a = net.unary(UnaryOp::Exp, a);
    let a = net.node(Op::Reduce { kind: ReduceOp::Mean, axes: vec![1, 2], keep_dims: true }, &[a]);
    let shape = net.ints(&[-1, 1]);
    let y = net.node(Op::Reshape { allow_zero: false }, &[a, shape]);
    net.output(y);
    let simple = net.check();
    assert_eq!(ops(&simple), ["Reshape", "Unary(Exp)", "Reduce"]);
}

#[test]
fn an_operand_of_lower_rank_is_widened_and_permuted() {
    let mut net = Net::default();
    let (x, z) = (net.input("x", &[2, 0, 3]), net.input("z", &[1, 0]));
    let a = net.transpose(x, &[0, 2, 1]);
    let a = net.binary(BinaryOp::Mul, a, z);
    let y = net.transpose(a, &[0, 2, 1]);
    net.output(y);
    assert_eq!(count(&net.check(), "Transpose"), 0);
}
