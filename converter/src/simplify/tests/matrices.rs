//! What joins convolutions and matrix products: factors, offsets, activations, residuals.

use super::*;

fn act_of(op: &Op) -> (Act, bool) {
    match op {
        Op::Conv { act, act_after_residual, .. } | Op::Linear { act, act_after_residual, .. } => {
            (*act, *act_after_residual)
        }
        other => panic!("{other:?} has no activation"),
    }
}

/// Convolution, batch normalisation as the importer writes it, ReLU.
fn conv_norm_relu(net: &mut Net, x: ValueId, channels: [usize; 2]) -> ValueId {
    let a = net.conv(x, channels, 3, 1);
    let (scale, bias) = (net.random(&[channels[1], 1, 1]), net.random(&[channels[1], 1, 1]));
    let a = net.binary(BinaryOp::Mul, a, scale);
    let a = net.binary(BinaryOp::Add, a, bias);
    net.unary(UnaryOp::Act(Act::Relu), a)
}

#[test]
fn batch_normalisation_folds_into_weights_and_bias() {
    let mut net = Net::default();
    let x = net.input("x", &[0, 3, 0, 0]);
    let a = conv_norm_relu(&mut net, x, [3, 5]);
    let y = conv_norm_relu(&mut net, a, [5, 4]);
    net.output(y);
    let simple = net.check();
    assert_eq!(ops(&simple), ["Transpose", "Conv", "Conv", "Transpose"]);
    let node = &simple.graph.body.nodes[1];
    assert_eq!(act_of(&node.op).0, Act::Relu);
    assert!(node.inputs[2].is_none() && node.inputs[3].is_some());
    assert_eq!(node.name, "n1");
}

#[test]
fn a_family_keeps_its_weights() {
    let mut net = Net::default();
    let x = net.input("x", &[0, 3, 0, 0]);
    let y = conv_norm_relu(&mut net, x, [3, 5]);
    net.output(y);
    let simple = net.check_with(&Options { keep_affine: true, ..Options::default() });
    assert_eq!(ops(&simple), ["Transpose", "Conv", "Transpose"]);
    let node = &simple.graph.body.nodes[1];
    assert!(node.inputs[2].is_some() && node.inputs[3].is_some());
    let data = |m: &Model, v: Option<ValueId>| m.constant(v.unwrap()).unwrap().data.clone();
    assert_eq!(data(&simple, node.inputs[1]), data(&net.model, net.model.graph.body.nodes[1].inputs[1]));
}

#[test]
fn shared_weights_are_scaled_outside() {
    let mut net = Net::default();
    let x = net.input("x", &[0, 4]);
    let w = net.random(&[4, 4]);
    let mut y = x;
    for _ in 0..2 {
        let scale = net.random(&[4]);
        y = net.node(linear_op(4), &[y, w]);
        y = net.binary(BinaryOp::Mul, y, scale);
    }
    net.output(y);
    let simple = net.check();
    assert_eq!(ops(&simple), ["Linear", "Linear"]);
    let nodes = &simple.graph.body.nodes;
    assert_eq!(nodes[0].inputs[1], nodes[1].inputs[1]);
    assert!(nodes[0].inputs[2].is_some());
}

#[test]
fn groups_with_padded_rows_and_depthwise() {
    let mut net = Net::default();
    let x = net.input("x", &[0, 0, 0, 6]);
    let w = net.random(&[32, 9 * 3]);
    let a = net.node(conv_op(4, 3, 1, 2), &[x, w]);
    let scale = net.random(&[4]);
    let a = net.binary(BinaryOp::Mul, a, scale);
    let w = net.random(&[4, 9]);
    let a = net.node(conv_op(4, 3, 2, 4), &[a, w]);
    let scale = net.random(&[4]);
    let y = net.binary(BinaryOp::Div, a, scale);
    net.output(y);
    assert_eq!(ops(&net.check()), ["Conv", "Conv"]);
}

#[test]
fn transposed_convolution_takes_both() {
    let mut net = Net::default();
    let x = net.input("x", &[0, 0, 0, 3]);
    let w = net.random(&[4 * 5, 3]);
    let window = Window { kernel: [2; 2], stride: [2; 2], dilation: [1; 2], pads: Pads::Explicit([0; 4]) };
    let op = Op::ConvTranspose { window, output_pads: [0; 2], out_channels: 5, act: Act::None };
    let a = net.node(op, &[x, w]);
    let (scale, bias) = (net.random(&[1, 1, 1, 5]), net.random(&[5]));
    let a = net.binary(BinaryOp::Mul, a, scale);
    let a = net.binary(BinaryOp::Add, a, bias);
    let y = net.unary(UnaryOp::Act(Act::Relu), a);
    net.output(y);
    assert_eq!(ops(&net.check()), ["ConvTranspose"]);
}

#[test]
fn constants_that_vary_in_space_stay() {
    let mut net = Net::default();
    let x = net.input("x", &[2, 3, 4, 4]);
    let w = net.random(&[4, 4]);
    let a = net.node(conv_op(4, 1, 1, 1), &[x, w]);
    let c = net.random(&[4, 1]);
    let y = net.binary(BinaryOp::Mul, a, c);
    net.output(y);
    assert_eq!(ops(&net.check()), ["Conv", "Binary(Mul)"]);
}

#[test]
fn a_product_with_a_constant_is_linear_and_takes_its_neighbours() {
    let mut net = Net::default();
    let x = net.input("x", &[0, 0, 3]);
    let (scale, shift) = (net.random(&[3]), net.random(&[3]));
    let a = net.binary(BinaryOp::Mul, x, scale);
    let a = net.binary(BinaryOp::Add, a, shift);
    let w = net.random(&[3, 5]);
    let a = net.node(Op::MatMul { trans_a: false, trans_b: false, alpha: 1.0 }, &[a, w]);
    let bias = net.random(&[5]);
    let y = net.binary(BinaryOp::Add, bias, a);
    net.output(y);
    assert_eq!(ops(&net.check()), ["Linear"]);
}

#[test]
fn residuals_join_before_or_after_the_activation() {
    let mut net = Net::default();
    let x = net.input("x", &[0, 4, 0, 0]);
    let a = conv_norm_relu(&mut net, x, [4, 4]);
    let b = net.conv(a, [4, 4], 3, 1);
    let sum = net.binary(BinaryOp::Add, b, a);
    let c = net.unary(UnaryOp::Act(Act::Relu), sum);
    let d = conv_norm_relu(&mut net, c, [4, 4]);
    let y = net.binary(BinaryOp::Add, c, d);
    net.output(y);
    let simple = net.check();
    assert_eq!(ops(&simple), ["Transpose", "Conv", "Conv", "Conv", "Transpose"]);
    assert_eq!(act_of(&simple.graph.body.nodes[2].op), (Act::Relu, true));
    assert_eq!(act_of(&simple.graph.body.nodes[3].op), (Act::Relu, false));
    assert!(simple.graph.body.nodes[3].inputs[4].is_some());
}

#[test]
fn a_constant_after_the_activation_is_a_residual_for_all_rows() {
    let mut net = Net::default();
    let x = net.input("x", &[0, 4, 0, 0]);
    let a = conv_norm_relu(&mut net, x, [4, 5]);
    let each = net.random(&[5, 1, 1]);
    let a = net.binary(BinaryOp::Sub, a, each);
    // The other way round it is no sum.
    let b = conv_norm_relu(&mut net, a, [5, 3]);
    let one = net.random(&[1]);
    let y = net.binary(BinaryOp::Sub, one, b);
    net.output(y);
    let simple = net.check();
    let nodes = &simple.graph.body.nodes;
    assert_eq!(ops(&simple), ["Transpose", "Conv", "Conv", "Binary(Sub)", "Transpose"], "{nodes:?}");
    assert_eq!(act_of(&nodes[1].op), (Act::Relu, false));
    assert!(nodes[1].inputs[4].is_some() && nodes[2].inputs.get(4).is_none_or(Option::is_none));
}

#[test]
fn a_factor_after_the_activation_joins_the_product() {
    let mut net = Net::default();
    let x = net.input("x", &[0, 4]);
    // act(..) * factor + offset, twice multiplied; then what cannot join: a factor of a sum with a computed value.
    let (w, each, offset, all) = (net.random(&[5, 4]), net.random(&[5]), net.random(&[5]), net.random(&[1]));
    let a = net.node(linear_op(5), &[x, w]);
    let a = net.unary(UnaryOp::Act(Act::HardSwish), a);
    let a = net.binary(BinaryOp::Mul, a, each);
    let a = net.binary(BinaryOp::Add, a, offset);
    let a = net.binary(BinaryOp::Div, a, all);
    let (w, last) = (net.random(&[5, 5]), net.random(&[5]));
    let b = net.node(linear_op(5), &[a, w]);
    let b = net.unary(UnaryOp::Act(Act::Tanh), b);
    let b = net.binary(BinaryOp::Add, b, a);
    let y = net.binary(BinaryOp::Mul, b, last);
    net.output(y);
    let simple = net.check();
    assert_eq!(ops(&simple), ["Linear", "Linear", "Binary(Mul)"]);
    let nodes = &simple.graph.body.nodes;
    assert!(nodes[0].inputs[4].is_some() && nodes[0].inputs[5].is_some());
    assert!(nodes[1].inputs.get(5).is_none_or(Option::is_none));
}

#[test]
fn sums_of_shapes_that_may_differ_stay() {
    let mut net = Net::default();
    let x = net.input("x", &[0, 0, 0, 4]);
    let other = net.input("other", &[0, 1, 0, 4]);
    let w = net.random(&[4, 4]);
    let a = net.node(conv_op(4, 1, 1, 1), &[x, w]);
    let y = net.binary(BinaryOp::Add, a, other);
    net.output(y);
    assert_eq!(ops(&net.check()), ["Conv", "Binary(Add)"]);
}

#[test]
fn a_value_read_twice_is_not_fused_away() {
    let mut net = Net::default();
    let x = net.input("x", &[0, 4]);
    let w = net.random(&[4, 4]);
    let a = net.node(linear_op(4), &[x, w]);
    let y = net.unary(UnaryOp::Act(Act::Relu), a);
    net.output(y);
    net.output(a);
    assert_eq!(ops(&net.check()), ["Linear", "Unary(Act(Relu))"]);
}

#[test]
fn factors_and_offsets_before_a_convolution() {
    let mut net = Net::default();
    let x = net.input("x", &[0, 0, 0, 4]);
    let mut a = x;
    // Pointwise: both go. Padded, depthwise and grouped: the factor goes, the offset stays with what is before.
    for (op, rows, k) in [
        (conv_op(4, 1, 1, 1), 4, 4),
        (conv_op(4, 3, 1, 1), 4, 36),
        (conv_op(4, 3, 1, 4), 4, 9),
        (conv_op(4, 3, 1, 2), 32, 18),
    ] {
        let (scale, offset, w) = (net.random(&[4]), net.random(&[1, 1, 1, 4]), net.random(&[rows, k]));
        a = net.unary(UnaryOp::Act(Act::Tanh), a);
        a = net.binary(BinaryOp::Mul, a, scale);
        a = net.binary(BinaryOp::Add, a, offset);
        a = net.node(op, &[a, w]);
    }
    net.output(a);
    let simple = net.check();
    assert_eq!(ops(&simple)[1..], ["Conv"; 4]);
    let offset = |conv: &Node| conv.inputs.get(4).copied().flatten().is_some();
    let offsets: Vec<bool> = simple.graph.body.nodes[1..].iter().map(offset).collect();
    assert_eq!(offsets, [true, true, true, false]);
}

#[test]
fn a_negation_turns_the_weights() {
    let mut net = Net::default();
    let x = net.input("x", &[0, 4]);
    let (w, bias) = (net.random(&[3, 4]), net.random(&[3]));
    let a = net.node(linear_op(3), &[x, w]);
    let a = net.binary(BinaryOp::Add, a, bias);
    let y = net.unary(UnaryOp::Neg, a);
    net.output(y);
    assert_eq!(ops(&net.check()), ["Linear"]);
}

#[test]
fn a_number_times_a_product_is_its_alpha() {
    let mut net = Net::default();
    let (a, b) = (net.input("a", &[0, 2, 3]), net.input("b", &[0, 3, 2]));
    let root = net.scalar(3f32.sqrt());
    let a = net.binary(BinaryOp::Mul, a, root);
    let c = net.node(Op::MatMul { trans_a: false, trans_b: false, alpha: 2.0 }, &[a, b]);
    let y = net.binary(BinaryOp::Div, c, root);
    net.output(y);
    assert_eq!(ops(&net.check()), ["MatMul"]);
}

#[test]
fn a_squeeze_does_not_part_bias_and_activation() {
    let mut net = Net::default();
    let x = net.input("x", &[0, 1, 0, 4]);
    let (w, bias) = (net.random(&[3, 4]), net.random(&[1, 1, 3]));
    let a = net.node(conv_op(3, 1, 1, 1), &[x, w]);
    let a = net.node(Op::Squeeze { axes: vec![1] }, &[a]);
    let a = net.binary(BinaryOp::Add, a, bias);
    let y = net.unary(UnaryOp::Act(Act::Relu), a);
    net.output(y);
    assert_eq!(ops(&net.check()), ["Conv", "Squeeze"]);
}
