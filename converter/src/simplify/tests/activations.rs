//! Activation functions written out in arithmetic.

use super::*;

/// The one operation left of a function of `x` written out by `build`.
fn recognised(build: impl Fn(&mut Net, ValueId) -> ValueId) -> Op {
    let mut net = Net::default();
    let x = net.input("x", &[0, 3]);
    let y = build(&mut net, x);
    net.output(y);
    let simple = net.check();
    assert_eq!(simple.graph.body.nodes.len(), 1, "{:?}", simple.graph.body);
    simple.graph.body.nodes[0].op.clone()
}

fn act(act: Act) -> Op {
    Op::Unary(UnaryOp::Act(act))
}

const RELU6: UnaryOp = UnaryOp::Act(Act::Clip { lo: 0.0, hi: 6.0 });

#[test]
fn silu() {
    let op = recognised(|net, x| {
        let s = net.unary(UnaryOp::Act(Act::Sigmoid), x);
        net.binary(BinaryOp::Mul, s, x)
    });
    assert_eq!(op, act(Act::Silu));
}

#[test]
fn sigmoid_by_exp() {
    let op = recognised(|net, x| {
        let n = net.unary(UnaryOp::Neg, x);
        let e = net.unary(UnaryOp::Exp, n);
        let one = net.scalar(1.0);
        let sum = net.binary(BinaryOp::Add, one, e);
        net.binary(BinaryOp::Div, one, sum)
    });
    assert_eq!(op, act(Act::Sigmoid));
}

#[test]
fn hard_swish_in_its_orders() {
    let shifted = |net: &mut Net, x| {
        let three = net.scalar(3.0);
        let a = net.binary(BinaryOp::Add, x, three);
        net.unary(RELU6, a)
    };
    let last_div = recognised(|net, x| {
        let (gate, six) = (shifted(net, x), net.scalar(6.0));
        let p = net.binary(BinaryOp::Mul, x, gate);
        net.binary(BinaryOp::Div, p, six)
    });
    let last_mul = recognised(|net, x| {
        let (gate, sixth) = (shifted(net, x), net.scalar(1.0 / 6.0));
        let p = net.binary(BinaryOp::Mul, gate, x);
        net.binary(BinaryOp::Mul, sixth, p)
    });
    let gate_first = recognised(|net, x| {
        let (gate, six) = (shifted(net, x), net.scalar(6.0));
        let g = net.binary(BinaryOp::Div, gate, six);
        net.binary(BinaryOp::Mul, x, g)
    });
    let argument_first = recognised(|net, x| {
        let (gate, sixth) = (shifted(net, x), net.scalar(1.0 / 6.0));
        let a = net.binary(BinaryOp::Mul, x, sixth);
        net.binary(BinaryOp::Mul, a, gate)
    });
    let bounds = recognised(|net, x| {
        let (three, zero, six) = (net.scalar(3.0), net.scalar(0.0), net.scalar(6.0));
        let a = net.binary(BinaryOp::Add, x, three);
        let a = net.binary(BinaryOp::Max, a, zero);
        let a = net.binary(BinaryOp::Min, a, six);
        let p = net.binary(BinaryOp::Mul, x, a);
        net.binary(BinaryOp::Div, p, six)
    });
    let hard_sigmoid = recognised(|net, x| {
        let g = net.unary(UnaryOp::Act(Act::HardSigmoid { alpha: 1.0 / 6.0, beta: 0.5 }), x);
        net.binary(BinaryOp::Mul, x, g)
    });
    for op in [last_div, last_mul, gate_first, argument_first, bounds, hard_sigmoid] {
        assert_eq!(op, act(Act::HardSwish));
    }
}

#[test]
fn hard_sigmoid_by_clip() {
    let op = recognised(|net, x| {
        let (slope, half) = (net.scalar(0.25), net.scalar(0.5));
        let a = net.binary(BinaryOp::Mul, x, slope);
        let a = net.binary(BinaryOp::Add, a, half);
        net.unary(UnaryOp::Act(Act::Clip { lo: 0.0, hi: 1.0 }), a)
    });
    assert_eq!(op, act(Act::HardSigmoid { alpha: 0.25, beta: 0.5 }));
}

#[test]
fn relu_and_leaky_relu_by_max() {
    let relu = recognised(|net, x| {
        let zero = net.scalar(0.0);
        net.binary(BinaryOp::Max, zero, x)
    });
    assert_eq!(relu, act(Act::Relu));
    let leaky = recognised(|net, x| {
        let slope = net.scalar(0.125);
        let a = net.binary(BinaryOp::Mul, x, slope);
        net.binary(BinaryOp::Max, a, x)
    });
    assert_eq!(leaky, act(Act::LeakyRelu { alpha: 0.125 }));
}

#[test]
fn gelu_in_its_orders() {
    let inner = |net: &mut Net, x| {
        let (root, one) = (net.scalar(2f32.sqrt()), net.scalar(1.0));
        let u = net.binary(BinaryOp::Div, x, root);
        let e = net.unary(UnaryOp::Erf, u);
        net.binary(BinaryOp::Add, e, one)
    };
    let half_last = recognised(|net, x| {
        let (g, half) = (inner(net, x), net.scalar(0.5));
        let p = net.binary(BinaryOp::Mul, x, g);
        net.binary(BinaryOp::Mul, p, half)
    });
    let half_first = recognised(|net, x| {
        let (g, half) = (inner(net, x), net.scalar(0.5));
        let a = net.binary(BinaryOp::Mul, half, x);
        net.binary(BinaryOp::Mul, a, g)
    });
    let half_inside = recognised(|net, x| {
        let (g, half) = (inner(net, x), net.scalar(0.5));
        let g = net.binary(BinaryOp::Mul, g, half);
        net.binary(BinaryOp::Mul, g, x)
    });
    for op in [half_last, half_first, half_inside] {
        assert_eq!(op, act(Act::Gelu));
    }
}

#[test]
fn gelu_by_tanh() {
    let op = recognised(|net, x| {
        let (three, cubic) = (net.scalar(3.0), net.scalar(0.044715));
        let (slope, one, half) = (net.scalar(0.797_884_6), net.scalar(1.0), net.scalar(0.5));
        let a = net.binary(BinaryOp::Pow, x, three);
        let a = net.binary(BinaryOp::Mul, a, cubic);
        let a = net.binary(BinaryOp::Add, x, a);
        let a = net.binary(BinaryOp::Mul, a, slope);
        let t = net.unary(UnaryOp::Act(Act::Tanh), a);
        let t = net.binary(BinaryOp::Add, t, one);
        let h = net.binary(BinaryOp::Mul, x, half);
        net.binary(BinaryOp::Mul, h, t)
    });
    assert_eq!(op, act(Act::GeluTanh));
}

#[test]
fn mish() {
    let op = recognised(|net, x| {
        let a = net.unary(UnaryOp::Softplus, x);
        let a = net.unary(UnaryOp::Act(Act::Tanh), a);
        net.binary(BinaryOp::Mul, x, a)
    });
    assert_eq!(op, Op::Unary(UnaryOp::Mish));
}

#[test]
fn a_gate_of_another_value_is_no_activation() {
    let mut net = Net::default();
    let (x, z) = (net.input("x", &[0, 3]), net.input("z", &[0, 3]));
    let s = net.unary(UnaryOp::Act(Act::Sigmoid), z);
    let y = net.binary(BinaryOp::Mul, x, s);
    net.output(y);
    assert_eq!(ops(&net.check()), ["Unary(Act(Sigmoid))", "Binary(Mul)"]);
}

#[test]
fn other_slopes_are_no_hard_swish() {
    let mut net = Net::default();
    let x = net.input("x", &[0, 3]);
    let g = net.unary(UnaryOp::Act(Act::HardSigmoid { alpha: 0.2, beta: 0.5 }), x);
    let y = net.binary(BinaryOp::Mul, x, g);
    net.output(y);
    assert_eq!(ops(&net.check()).len(), 2);
}
