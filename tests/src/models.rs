//! Tiny models, as bytes of ONNX files.

use crate::onnx::Attr::{Graph, Int, Ints};
use crate::onnx::Dim::{Free, N};
use crate::onnx::{BOOL, Builder};

/// An image classifier: `x` [1, 3, 16, 16] to `y` [1, 10]; convolution, ReLU, max pooling, depthwise convolution,
/// global average, linear.
pub fn classifier() -> Vec<u8> {
    let mut b = Builder::new();
    b.input("x", &[N(1), N(3), N(16), N(16)]).output("y");
    b.weight("w1", &[16, 3, 3, 3], 0.4).weight("b1", &[16], 0.1);
    b.weight("w2", &[16, 1, 3, 3], 0.4).weight("b2", &[16], 0.1);
    b.weight("w3", &[10, 16], 0.5).weight("b3", &[10], 0.1);
    let same: &[(&str, _)] = &[("kernel_shape", Ints(&[3, 3])), ("pads", Ints(&[1, 1, 1, 1]))];
    b.node("Conv", "x w1 b1", "c1", same).node("Relu", "c1", "r1", &[]);
    b.node("MaxPool", "r1", "p1", &[("kernel_shape", Ints(&[2, 2])), ("strides", Ints(&[2, 2]))]);
    b.node("Conv", "p1 w2 b2", "c2", &[same, &[("group", Int(16))]].concat());
    b.node("Relu", "c2", "r2", &[]).node("GlobalAveragePool", "r2", "g", &[]);
    b.node("Flatten", "g", "f", &[("axis", Int(1))]).node("Gemm", "f w3 b3", "y", &[("transB", Int(1))]);
    b.finish("classifier")
}

/// A multilayer perceptron with a free batch: `x` [batch, 32] to `y` [batch, 10].
pub fn mlp() -> Vec<u8> {
    let mut b = Builder::new();
    b.input("x", &[Free("batch"), N(32)]).output("y");
    b.weight("w1", &[64, 32], 0.3).weight("b1", &[64], 0.1).weight("w2", &[10, 64], 0.3).weight(
        "b2",
        &[10],
        0.1,
    );
    b.node("Gemm", "x w1 b1", "h", &[("transB", Int(1))]).node("Relu", "h", "r", &[]);
    b.node("Gemm", "r w2 b2", "z", &[("transB", Int(1))]).node("Softmax", "z", "y", &[("axis", Int(1))]);
    b.finish("mlp")
}

/// `layers` linear layers of `width` by `width` with ReLU between: `x` [1, width] to `y` [1, width]. For conversions
/// that take a while.
pub fn deep(layers: usize, width: i64) -> Vec<u8> {
    let mut b = Builder::new();
    b.input("x", &[N(1), N(width)]).output("y");
    let mut value = "x".to_string();
    for i in 0..layers {
        let last = i + 1 == layers;
        let (weight, sum) = (format!("w{i}"), if last { "y".to_string() } else { format!("s{i}") });
        b.weight(&weight, &[width, width], 1.7 / (width as f32).sqrt());
        b.node("Gemm", &format!("{value} {weight}"), &sum, &[("transB", Int(1))]);
        if !last {
            value = format!("r{i}");
            b.node("Relu", &sum, &value, &[]);
        }
    }
    b.finish("deep")
}

/// An LSTM with its state outside: `x` [1, 1, 8], `h` and `c` [1, 1, 16] to `y` [1, 1, 1, 16], `hn`, `cn`.
pub fn lstm() -> Vec<u8> {
    let mut b = Builder::new();
    b.input("x", &[N(1), N(1), N(8)]).input("h", &[N(1), N(1), N(16)]).input("c", &[N(1), N(1), N(16)]);
    b.output("y").output("hn").output("cn");
    b.weight("w", &[1, 64, 8], 0.4).weight("r", &[1, 64, 16], 0.4).weight("b", &[1, 128], 0.1);
    b.node("LSTM", "x w r b - h c", "y hn cn", &[("hidden_size", Int(16))]);
    b.finish("lstm")
}

/// A model with three nodes of two operators that do not exist.
pub fn unsupported() -> Vec<u8> {
    let mut b = Builder::new();
    b.input("x", &[N(1), N(4)]).output("y");
    b.node("Frobnicate", "x", "a", &[]).node("Relu", "a", "r", &[]);
    b.node("Quuxify", "r", "q", &[]).node("Frobnicate", "q", "y", &[]);
    b.finish("unsupported")
}

/// A product and a factor, again as long as any element is beyond `bound`: `x` [2, 8] to `y` [2, 8], `s = factor * s w`. With `listed`,
/// `z` [turns, 2, 8] has what each turn began with.
pub fn shrinking(factor: f32, bound: f32, listed: bool) -> Vec<u8> {
    let mut body = Builder::new();
    body.int_input("i", &[]).float_input("g", BOOL, &[]).input("s", &[N(2), N(8)]);
    body.float_output("on", BOOL).output("t");
    body.node("MatMul", "s w", "p", &[]).node("Mul", "p factor", "t", &[]).node("Abs", "t", "a", &[]);
    body.node("ReduceMax", "a", "top", &[("keepdims", Int(0))]).node("Greater", "top bound", "on", &[]);
    if listed {
        body.output("c").node("Identity", "s", "c", &[]);
    }
    let mut b = Builder::new();
    b.input("x", &[N(2), N(8)]).output("y").array("factor", &[], &[factor]).array("bound", &[], &[bound]);
    // Rows change places and signs, so that no turn is like the one before and sizes are the factor's alone.
    let w: Vec<f32> =
        (0..64).map(|i| if (i / 8 * 3 + 1) % 8 == i % 8 { 1.0 - (i % 2 * 2) as f32 } else { 0.0 }).collect();
    b.array("w", &[8, 8], &w);
    if listed {
        b.output("z");
    }
    let results = if listed { "y z" } else { "y" };
    b.node("Loop", "- - x", results, &[("body", Graph(&body.graph()))]);
    b.finish("shrinking")
}
