//! Other sizes change no output, whoever takes part; and they are chosen where channels differ.

use super::classes::{Class, find};
use super::{apply, equalize};
use crate::draft::float_draft;
use crate::measure::Evaluator;
use crate::model::{Array, Model};
use crate::samples::Sample;
use crate::simplify::tests::reference::{Tensor, run, run_all};
use crate::simplify::tests::{Net, conv_op, linear_op, noise};
use edge_runtime::graph::{
    Act, BinaryOp, DType, Dim, Op, Pads, PoolKind, ReduceOp, UnaryOp, ValueId, Window,
};
use edge_runtime::inputs::NamedArray;
use std::sync::atomic::AtomicBool;

fn inputs(net: &Net) -> Vec<Tensor> {
    let mut seed = 11;
    let tensor = |port: &edge_runtime::graph::Port| {
        let dims: Vec<usize> = port.dims.as_ref().map_or(&[][..], |dims| dims).iter().map(fixed).collect();
        Tensor { data: noise(&mut seed, dims.iter().product()), dims }
    };
    net.model.graph.inputs.iter().map(tensor).collect()
}

fn fixed(dim: &Dim) -> usize {
    match dim {
        Dim::Fixed(n) => *n,
        Dim::Named(_) => 4,
    }
}

fn classes(net: &Net) -> Vec<Class> {
    let values = run_all(&net.model, &inputs(net));
    find(&net.model, &values.into_iter().map(|(v, tensor)| (v, tensor.dims)).collect())
}

fn class_of(classes: &[Class], v: ValueId) -> Option<&Class> {
    classes.iter().find(|class| class.members.contains(&v))
}

/// From -4 to 0.
fn exponents(seed: u64, channels: usize) -> Vec<i8> {
    (0..channels as u64).map(|c| -(((c * 7 + seed * 3) % 5) as i8)).collect()
}

fn with_act(op: Op, act: Act, act_after_residual: bool) -> Op {
    match op {
        Op::Conv { window, groups, out_channels, .. } => {
            Op::Conv { window, groups, out_channels, act, act_after_residual }
        }
        Op::Linear { out_features, .. } => Op::Linear { out_features, act, act_after_residual },
        other => other,
    }
}

/// Applies sizes to each class alone, then to all together, and compares outputs with those of the model as it was.
fn check(net: &Net, classes: &[Class]) {
    let given = inputs(net);
    let want = run(&net.model, &given);
    let same = |model: &Model, what: &str| {
        for (w, g) in want.iter().zip(run(model, &given)) {
            let most = w.data.iter().fold(0.0f64, |a, b| a.max(b.abs()));
            for (w, g) in w.data.iter().zip(g.data) {
                assert!((w - g).abs() <= 1e-6 * most, "{what}: {g} for {w}");
            }
        }
    };
    let mut all = net.model.clone();
    for (i, class) in classes.iter().enumerate() {
        let exponents = exponents(i as u64, class.channels);
        let mut one = net.model.clone();
        apply::apply(&mut one, class, &exponents);
        apply::apply(&mut all, class, &exponents);
        same(&one, &format!("class {i}"));
        // And it did something: every value of the class has other sizes.
        let (before, after) = (run_all(&net.model, &given), run_all(&one, &given));
        for v in &class.members {
            for (at, (b, a)) in before[v].data.iter().zip(&after[v].data).enumerate() {
                let size = f64::from(exponents[at % class.channels]).exp2();
                assert!(
                    (b - a * size).abs() <= 1e-5 * (1.0 + b.abs()),
                    "value {v}: {a} times {size} for {b}"
                );
            }
        }
    }
    same(&all, "all classes");
}

#[test]
fn whoever_takes_part_outputs_stay() {
    let mut net = Net::default();
    let x = net.input("x", &[1, 4, 4, 6]);
    // A function that is not homogeneous, with what is added behind it and without.
    let (w, bias, shift) = (net.random(&[16, 6]), net.random(&[16]), net.random(&[16]));
    let a = net.node(with_act(conv_op(16, 1, 1, 1), Act::HardSwish, false), &[x, w]);
    let inputs = &mut net.model.graph.body.nodes[0].inputs;
    inputs.extend([None, Some(bias), Some(shift)]);
    let w = net.random(&[16, 9]);
    let b = net.node(with_act(conv_op(16, 3, 1, 16), Act::Clip { lo: 0.0, hi: 6.0 }, false), &[a, w]);
    // Another reader of the same value: groups, whose rows are filled up to 16 each.
    let w = net.random(&[32, 8]);
    let c = net.node(with_act(conv_op(16, 1, 1, 2), Act::LeakyRelu { alpha: 0.1 }, false), &[b, w]);
    // Through a pool, a mean and a gate.
    let window =
        Window { kernel: [2; 2], stride: [1; 2], dilation: [1; 2], pads: Pads::Explicit([0, 0, 1, 1]) };
    let pool = Op::Pool { kind: PoolKind::Average { include_pad: true }, window, ceil_mode: false };
    let d = net.node(pool, &[c]);
    let mean = net.node(Op::Reduce { kind: ReduceOp::Mean, axes: vec![1, 2], keep_dims: true }, &[d]);
    let w = net.random(&[16, 16]);
    let gate = net.node(with_act(conv_op(16, 1, 1, 1), Act::Sigmoid, false), &[mean, w]);
    let e = net.binary(BinaryOp::Mul, d, gate);
    let half = net.scalar(0.5);
    let e = net.binary(BinaryOp::Add, e, half);
    // Residuals: before a function that keeps factors, and last.
    let w = net.random(&[16, 16]);
    let f = net.node(with_act(conv_op(16, 1, 1, 1), Act::Relu, true), &[a, w]);
    net.model.graph.body.nodes.last_mut().unwrap().inputs.extend([None, None, Some(e)]);
    let w = net.random(&[16, 16 * 9]);
    let g = net.node(with_act(conv_op(16, 3, 1, 1), Act::Silu, false), &[f, w]);
    net.model.graph.body.nodes.last_mut().unwrap().inputs.extend([None, None, Some(f)]);
    let w = net.random(&[5, 16]);
    let y = net.node(linear_op(5), &[g, w]);
    net.output(y);

    let classes = classes(&net);
    assert_eq!(class_of(&classes, a).unwrap().members, [a]);
    assert_eq!(class_of(&classes, b).unwrap().readers.len(), 1);
    let joined = class_of(&classes, c).unwrap();
    for v in [d, mean, e, f, g] {
        assert!(joined.members.contains(&v), "{:?} without {v}", joined.members);
    }
    assert!(class_of(&classes, gate).is_none() && class_of(&classes, y).is_none());
    assert_eq!(classes.len(), 3);
    check(&net, &classes);
}

#[test]
fn what_others_read_keeps_its_sizes() {
    let mut net = Net::default();
    let x = net.input("x", &[1, 2, 2, 4]);
    let product = |net: &mut Net, x: ValueId| {
        let w = net.random(&[4, 4]);
        net.node(conv_op(4, 1, 1, 1), &[x, w])
    };
    // Read by a matrix, and: an output; a function; itself as a gate; a matrix that another node reads too.
    let seen = product(&mut net, x);
    net.output(seen);
    let squashed = product(&mut net, x);
    let other = net.unary(UnaryOp::Act(Act::Tanh), squashed);
    let gated = product(&mut net, x);
    let gate = net.binary(BinaryOp::Mul, gated, gated);
    let twice = product(&mut net, x);
    let shared = net.random(&[4, 4]);
    let (a, b) =
        (net.node(conv_op(4, 1, 1, 1), &[twice, shared]), net.node(conv_op(4, 1, 1, 1), &[x, shared]));
    let ends = [seen, squashed, gated, twice].map(|v| product(&mut net, v));
    for v in ends.into_iter().chain([other, gate, a, b]) {
        net.output(v);
    }
    assert_eq!(classes(&net).len(), 0);
}

/// One product into another, the first one's channels from 1 to `1 / spread` in size.
fn spread(spread: f32) -> Net {
    let mut net = Net::default();
    let x = net.input("x", &[1, 8, 8, 8]);
    let mut seed = 3;
    let mut rows: Vec<f32> = noise(&mut seed, 16 * 8).iter().map(|v| *v as f32).collect();
    for (c, row) in rows.chunks_exact_mut(8).enumerate() {
        row.iter_mut().for_each(|w| *w *= spread.powf(-(c as f32) / 15.0));
    }
    let w = net.model.add_constant("w", Array::f32(&[16, 8], &rows));
    let a = net.node(with_act(conv_op(16, 1, 1, 1), Act::HardSwish, false), &[x, w]);
    // What is small counts as much: its columns are as much larger.
    let mut columns: Vec<f32> = noise(&mut seed, 8 * 16).iter().map(|v| *v as f32).collect();
    for row in columns.chunks_exact_mut(16) {
        row.iter_mut().enumerate().for_each(|(c, w)| *w *= spread.powf(c as f32 / 15.0));
    }
    let w = net.model.add_constant("columns", Array::f32(&[8, 16], &columns));
    let y = net.node(conv_op(8, 1, 1, 1), &[a, w]);
    net.output(y);
    net
}

fn equalized(net: &mut Net) -> usize {
    let mut seed = 5;
    let sample = |_| {
        let values: Vec<f32> = noise(&mut seed, 512).iter().map(|v| *v as f32 * 3.0).collect();
        let data = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        let x = NamedArray { name: "x".into(), dtype: DType::F32, dims: vec![1, 8, 8, 8], data };
        Sample { inputs: vec![x], label: None }
    };
    let samples: Vec<Sample> = (0..6).map(sample).collect();
    let stop = AtomicBool::new(false);
    let evaluator = Evaluator::new(&stop).unwrap();
    let float = float_draft(&net.model);
    equalize(&mut net.model, &evaluator, &float, &samples).unwrap()
}

#[test]
fn channels_of_many_sizes_become_alike() {
    let mut net = spread(100.0);
    let widest = |net: &Net| {
        let values = run_all(&net.model, &inputs(net));
        let made = net.model.graph.body.nodes[0].outputs[0].unwrap();
        let mut most = [0.0f64; 16];
        values[&made].data.iter().enumerate().for_each(|(i, v)| most[i % 16] = most[i % 16].max(v.abs()));
        most.iter().copied().fold(0.0, f64::max) / most.iter().copied().fold(f64::INFINITY, f64::min)
    };
    let before = widest(&net);
    assert_eq!(equalized(&mut net), 1);
    assert!(widest(&net) < before / 8.0, "{} after {before}", widest(&net));
}

#[test]
fn channels_of_one_size_stay_as_they_are() {
    let mut net = spread(1.0);
    let before = net.model.clone();
    assert_eq!(equalized(&mut net), 0);
    assert_eq!(net.model.constants, before.constants);
}
