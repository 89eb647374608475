//! Tidying, constant folding and identities of arithmetic.

use super::*;
use crate::simplify::simplify_with_report;
use edge_runtime::graph::Block;

#[test]
fn copies_vanish_and_the_output_keeps_its_name() {
    let mut net = Net::default();
    let x = net.input("x", &[0, 3]);
    let a = net.node(Op::Identity, &[x]);
    let a = net.unary(UnaryOp::Exp, a);
    let a = net.node(Op::Cast { to: DType::F32 }, &[a]);
    let y = net.node(Op::Identity, &[a]);
    net.output(y);
    let simple = net.check();
    assert_eq!(ops(&simple), ["Unary(Exp)"]);
    assert_eq!(simple.graph.values.len(), 2);
}

#[test]
fn an_input_that_is_an_output_stays_a_copy() {
    let mut net = Net::default();
    let x = net.input("x", &[3]);
    let y = net.node(Op::Identity, &[x]);
    net.output(y);
    assert_eq!(ops(&net.check()), ["Identity"]);
}

#[test]
fn two_outputs_of_one_value_keep_both_names() {
    let mut net = Net::default();
    let x = net.input("x", &[3]);
    let a = net.unary(UnaryOp::Exp, x);
    let b = net.unary(UnaryOp::Exp, x);
    let c = net.node(Op::Identity, &[a]);
    for value in [a, b, c] {
        net.output(value);
    }
    net.check();
}

#[test]
fn equal_constants_and_equal_nodes_merge() {
    let mut net = Net::default();
    let x = net.input("x", &[0, 3]);
    let (c, d) = (net.floats(&[3], &[2.0, 3.0, 5.0]), net.floats(&[3], &[2.0, 3.0, 5.0]));
    let a = net.binary(BinaryOp::Mul, x, c);
    let b = net.binary(BinaryOp::Mul, x, d);
    let y = net.binary(BinaryOp::Div, a, b);
    net.output(y);
    let simple = net.check();
    assert_eq!(ops(&simple), ["Binary(Mul)", "Binary(Div)"]);
    assert_eq!(simple.constants.len(), 1);
}

#[test]
fn dead_nodes_go_and_unused_results_are_left_out() {
    let mut net = Net::default();
    let x = net.input("x", &[2, 6]);
    net.unary(UnaryOp::Exp, x);
    let parts = net.nodes(Op::Split { axis: 1 }, &[x], 3);
    net.output(parts[1]);
    let simple = net.check();
    assert_eq!(ops(&simple), ["Split"]);
    let outputs = &simple.graph.body.nodes[0].outputs;
    assert!(outputs[0].is_none() && outputs[1].is_some() && outputs[2].is_none());
}

#[test]
fn constants_fold_with_broadcasting() {
    let mut net = Net::default();
    let x = net.input("x", &[0, 2]);
    let (c, d) = (net.floats(&[2, 1], &[1.0, 2.0]), net.floats(&[2], &[3.0, 5.0]));
    let sum = net.binary(BinaryOp::Add, c, d);
    let root = net.unary(UnaryOp::Sqrt, sum);
    let turned = net.transpose(root, &[1, 0]);
    let (from, to) = (net.ints(&[1]), net.ints(&[2]));
    let row = net.node(Op::Slice { axes: vec![0] }, &[turned, from, to]);
    let y = net.binary(BinaryOp::Mul, x, row);
    net.output(y);
    let simple = net.check();
    assert_eq!(ops(&simple), ["Binary(Mul)"]);
    let row = simple.constant(simple.graph.body.nodes[0].inputs[1].unwrap()).unwrap();
    assert_eq!(row.as_f32().unwrap(), [6f32.sqrt(), 7f32.sqrt()]);
}

#[test]
fn shapes_of_fixed_dimensions_are_constants_and_free_ones_stay() {
    let mut net = Net::default();
    let x = net.input("x", &[0, 2, 3]);
    let shape = net.node(Op::Shape { start: 0, end: None }, &[x]);
    let (one, two) = (net.ints(&[1]), net.ints(&[2]));
    let width = net.node(Op::Gather { axis: 0 }, &[shape, two]);
    let height = net.node(Op::Gather { axis: 0 }, &[shape, one]);
    let area = net.binary(BinaryOp::Mul, width, height);
    let free = net.ints(&[-1]);
    let target = net.node(Op::Concat { axis: 0 }, &[free, area]);
    let y = net.node(Op::Reshape { allow_zero: false }, &[x, target]);
    net.output(y);
    assert_eq!(ops(&net.check()), ["Reshape"]);
}

#[test]
fn neutral_constants_vanish_unless_they_widen() {
    let mut net = Net::default();
    let x = net.input("x", &[0, 3]);
    let (zero, one) = (net.floats(&[1], &[0.0]), net.floats(&[3], &[1.0; 3]));
    let a = net.binary(BinaryOp::Add, zero, x);
    let a = net.binary(BinaryOp::Mul, a, one);
    let wide = net.floats(&[2, 1, 1], &[1.0; 2]);
    let y = net.binary(BinaryOp::Mul, a, wide);
    net.output(y);
    assert_eq!(ops(&net.check()), ["Binary(Mul)"]);
}

#[test]
fn division_becomes_multiplication_only_where_exact() {
    let mut net = Net::default();
    let x = net.input("x", &[0, 3]);
    let (four, six) = (net.scalar(4.0), net.scalar(6.0));
    let a = net.binary(BinaryOp::Div, x, four);
    let y = net.binary(BinaryOp::Div, a, six);
    net.output(y);
    assert_eq!(ops(&net.check()), ["Binary(Mul)", "Binary(Div)"]);
}

#[test]
fn powers_and_bounds() {
    let mut net = Net::default();
    let x = net.input("x", &[0, 3]);
    let (two, zero, six) = (net.scalar(2.0), net.scalar(0.0), net.scalar(6.0));
    let a = net.binary(BinaryOp::Pow, x, two);
    let a = net.binary(BinaryOp::Max, a, zero);
    let y = net.binary(BinaryOp::Min, a, six);
    net.output(y);
    assert_eq!(ops(&net.check()), ["Binary(Mul)", "Unary(Act(Clip"]);
}

#[test]
fn branches_are_swept_and_see_outer_values() {
    let mut net = Net::default();
    let x = net.input("x", &[0, 4]);
    let condition = net.input("condition", &[1]);
    let w = net.random(&[2, 4]);
    let product = net.node(linear_op(2), &[x, w]);
    let branch = |net: &mut Net, op: UnaryOp| {
        let before = net.model.graph.body.nodes.len();
        let a = net.node(Op::Identity, &[product]);
        let a = net.unary(op, a);
        let nodes = net.model.graph.body.nodes.split_off(before);
        Block { nodes, outputs: vec![a] }
    };
    let then_branch = branch(&mut net, UnaryOp::Act(Act::Relu));
    let else_branch = branch(&mut net, UnaryOp::Act(Act::Tanh));
    let y = net.node(Op::If { then_branch, else_branch }, &[condition]);
    net.output(y);
    // Two branches read the product: it is fused into neither.
    assert_eq!(ops(&net.check()), ["Linear", "If", "Unary(Act(Relu))", "Unary(Act(Tanh))"]);
}

#[test]
fn the_report_names_each_pass() {
    let mut net = Net::default();
    let x = net.input("x", &[0, 4]);
    let w = net.random(&[4, 4]);
    let a = net.node(linear_op(4), &[x, w]);
    let y = net.unary(UnaryOp::Act(Act::Relu), a);
    net.output(y);
    let (_, reports) = simplify_with_report(net.model, &Options::default());
    let changed = |name: &str| reports.iter().find(|r| r.name == name).map(|r| r.changed);
    assert_eq!(changed("fuse"), Some(1));
    assert_eq!(changed("affine"), Some(0));
}

#[test]
fn whole_slices_vanish_and_backward_ones_fold() {
    let mut net = Net::default();
    let x = net.input("x", &[0, 4]);
    let (from, to) = (net.ints(&[0, 0]), net.ints(&[i64::MAX, 4]));
    let a = net.node(Op::Slice { axes: vec![0, 1] }, &[x, from, to]);
    let c = net.floats(&[4], &[1.0, 2.0, 3.0, 4.0]);
    let (from, to, step) = (net.ints(&[-1]), net.ints(&[i64::MIN + 1]), net.ints(&[-2]));
    let c = net.node(Op::Slice { axes: vec![0] }, &[c, from, to, step]);
    net.output(a);
    net.output(c);
    let simple = crate::simplify::simplify(net.model, &Options::default());
    assert_eq!(ops(&simple), ["Identity", "Identity"]);
    let folded = simple.constant(simple.graph.body.nodes[1].inputs[0].unwrap()).unwrap();
    assert_eq!(folded.as_f32().unwrap(), [4.0, 2.0]);
}

#[test]
fn a_gated_residual_is_one_product() {
    let mut net = Net::default();
    let (x, gate) = (net.input("x", &[0, 0, 0, 4]), net.input("gate", &[0, 1, 1, 4]));
    let a = net.binary(BinaryOp::Mul, gate, x);
    let y = net.binary(BinaryOp::Add, x, a);
    net.output(y);
    let simple = net.check();
    assert_eq!(ops(&simple), ["Binary(Add)", "Binary(Mul)"]);
    assert_eq!(simple.graph.body.nodes[0].inputs[0], Some(simple.graph.inputs[1].value));
}

#[test]
fn bounds_that_bind_nothing_vanish() {
    let mut net = Net::default();
    let x = net.input("x", &[0, 3]);
    let low = net.scalar(f32::NEG_INFINITY);
    let a = net.binary(BinaryOp::Max, x, low);
    let y = net.unary(UnaryOp::Exp, a);
    net.output(y);
    assert_eq!(ops(&net.check()), ["Unary(Exp)"]);
}
