//! Loops, results whose size depends on the data, and integers of 4 and 8 bits.

use super::*;
use crate::draft::float_draft;
use crate::measure::Evaluator;
use crate::samples::Sample;
use edge_runtime::graph::DType;
use edge_runtime::inputs::NamedArray;
use std::sync::atomic::AtomicBool;

fn body(inputs: &[&str], nodes: &[NodeProto], stored: &[TensorProto], outputs: &str) -> AttributeProto {
    let ports = |names: &[&str]| names.iter().map(|n| port(n, FLOAT, None)).collect();
    let outputs = list(outputs);
    let outputs: Vec<&str> = outputs.iter().map(String::as_str).collect();
    let g = GraphProto {
        node: nodes.to_vec(),
        input: ports(inputs),
        output: ports(&outputs),
        initializer: stored.to_vec(),
        ..GraphProto::default()
    };
    AttributeProto { g: Some(g), ..attribute("body", attribute_type::GRAPH) }
}

fn truth(name: &str, value: bool) -> TensorProto {
    let mut tensor = f32s(name, &[], &[]);
    (tensor.data_type, tensor.int32_data) = (9, vec![i32::from(value)]);
    tensor
}

/// The outputs of the float rung on these inputs, as floats.
fn run(model: &Model, inputs: Vec<NamedArray>) -> Vec<Vec<f32>> {
    let draft = float_draft(model);
    let stop = AtomicBool::new(false);
    let sample = Sample { inputs, label: None };
    let evaluator = Evaluator::new(&stop).unwrap();
    evaluator.run(&draft.open(), &draft.header.rungs[0], &[sample]).unwrap().remove(0)
}

fn bytes(name: &str, dtype: DType, dims: &[usize], data: Vec<u8>) -> NamedArray {
    NamedArray { name: name.into(), dtype, dims: dims.to_vec(), data }
}

#[test]
fn a_loop_of_known_turns_is_unrolled_and_shares_its_weights() {
    let weight = f32s("w", &[2, 2], &[1.0, 2.0, 3.0, 4.0]);
    let nodes =
        [node("MatMul", "s w", "t", &[]), node("Identity", "go", "on", &[]), node("Neg", "t", "c", &[])];
    let turn = body(&["i", "go", "s"], &nodes, &[weight], "on t c");
    let stored = [i64s("n", &[], &[3]), truth("yes", true)];
    let x = [port("x", FLOAT, Some(&[N(1), N(2)]))];
    let m = import(&model(
        13,
        &x,
        &stored,
        &[node("Loop", "n yes x", "y z", std::slice::from_ref(&turn))],
        "y z",
    ));
    let weights: Vec<_> = m.constants.iter().filter(|c| c.dims == [2, 2]).collect();
    assert_eq!(weights.len(), 1, "{}", m.to_text());
    assert_eq!(ops(&m).iter().filter(|o| *o == "Linear").count(), 3);
    let got = run(&m, vec![bytes("x", DType::F32, &[1, 2], [1f32, 0.0].map(f32::to_le_bytes).concat())]);
    // [1 0] times [[1 2] [3 4]], three times over.
    assert_eq!(got, [vec![37.0, 54.0], vec![-1.0, -2.0, -7.0, -10.0, -37.0, -54.0]]);
    // How many turns an input tells: the run repeats the body.
    let inputs = [x[0].clone(), port("n", INT64, Some(&[]))];
    let m = import(&model(13, &inputs, &stored[1..], &[node("Loop", "n yes x", "y z", &[turn])], "y z"));
    for (turns, y, z) in [
        (3i64, vec![37.0, 54.0], vec![-1.0, -2.0, -7.0, -10.0, -37.0, -54.0]),
        (1, vec![1.0, 2.0], vec![-1.0, -2.0]),
        (0, vec![1.0, 0.0], vec![]),
    ] {
        let given = vec![
            bytes("x", DType::F32, &[1, 2], [1f32, 0.0].map(f32::to_le_bytes).concat()),
            bytes("n", DType::I64, &[], turns.to_le_bytes().to_vec()),
        ];
        assert_eq!(run(&m, given), [y, z], "{turns} turns");
    }
}

#[test]
fn a_loop_ends_on_what_it_computes() {
    let nodes = [node("Neg", "s", "t", &[]), node("Less", "s t", "on", &[])];
    let turn = body(&["i", "go", "s"], &nodes, &[], "on t");
    let x = [port("x", FLOAT, Some(&[]))];
    let m = model(13, &x, &[i64s("n", &[], &[3])], &[node("Loop", "n - x", "y", &[turn])], "y");
    // From -1: 1, which is greater than what it was, then -1, which is not; the third turn would give 1.
    for (x, want) in [(-1f32, -1.0), (1.0, -1.0)] {
        let got = run(&import(&m), vec![bytes("x", DType::F32, &[], x.to_le_bytes().to_vec())]);
        assert_eq!(got, [vec![want]], "from {x}");
    }
}

/// A model of NonMaxSuppression on 2 boxes, and `nodes` behind its result `i`.
fn kept(nodes: &[NodeProto], outputs: &str) -> ModelProto {
    let inputs = [port("b", FLOAT, Some(&[N(1), N(2), N(4)])), port("s", FLOAT, Some(&[N(1), N(1), N(2)]))];
    let stored = [i64s("most", &[1], &[2]), f32s("o", &[1], &[0.5]), i64s("two", &[1], &[2])];
    let all: Vec<NodeProto> = [node("NonMaxSuppression", "b s most o", "i", &[])]
        .into_iter()
        .chain(nodes.iter().cloned())
        .collect();
    model(13, &inputs, &stored, &all, outputs)
}

#[test]
fn an_output_says_how_much_of_it_is_filled() {
    let nodes = [
        node("Gather", "i two", "box", &[int("axis", 1)]),
        node("Cast", "box", "f", &[int("to", 1)]),
        node("Transpose", "f", "t", &[ints("perm", &[1, 0])]),
        node("Concat", "t t", "y", &[int("axis", 0)]),
    ];
    let m = import(&kept(&nodes, "i y"));
    let filled: Vec<_> = m.graph.filled.iter().map(|f| (f.output, f.axis, f.count)).collect();
    // Both have the same count, which is the third output.
    assert_eq!(filled, [(0, 0, 2), (1, 1, 2)]);
    assert_eq!((m.graph.outputs.len(), m.graph.name(m.graph.outputs[2].value)), (3, "i/count"));
    assert_eq!(m.graph.outputs[2].dtype, DType::I64);
    assert!(m.to_text().contains("filled y along 1: i/count"), "{}", m.to_text());
    // The second box is the first's: one is kept, and its rows of `y` lie one after the other.
    let floats = |v: &[f32]| v.iter().flat_map(|v| v.to_le_bytes()).collect();
    let boxes = bytes("b", DType::F32, &[1, 2, 4], floats(&[0., 0., 1., 1., 0., 0., 1., 1.]));
    let scores = bytes("s", DType::F32, &[1, 1, 2], floats(&[0.3, 0.9]));
    let got = run(&m, vec![boxes, scores]);
    assert_eq!(got[2], [1.0]);
    assert_eq!(got[0][..3], [0.0, 0.0, 1.0]);
    assert_eq!(got[1][..2], [1.0, 1.0]);
}

#[test]
fn what_reads_behind_the_filled_part_is_refused() {
    for (nodes, refused) in [
        (vec![node("ReduceMax", "i", "y", &[ints("axes", &[0])])], "ReduceMax"),
        (vec![node("Shape", "i", "y", &[])], "Shape"),
        (
            vec![node("Cast", "i", "f", &[int("to", 1)]), node("Softmax", "f", "y", &[int("axis", 0)])],
            "Softmax",
        ),
        (vec![node("Concat", "i i", "y", &[int("axis", 0)])], "Concat"),
        (vec![node("Reshape", "i three", "y", &[])], "Reshape"),
        (vec![node("MatMul", "s i", "y", &[])], "MatMul"),
    ] {
        let mut m = kept(&nodes, "y");
        if let Some(graph) = &mut m.graph {
            graph.initializer.push(i64s("three", &[1], &[-1]));
        }
        let list = refusals(&m);
        assert_eq!((list.len(), list[0].op.as_str()), (1, refused));
        assert!(list[0].reason.contains("depends on the data"), "{list:?}");
    }
    // Along another axis there is nothing behind it.
    let m = import(&kept(&[node("ReduceMax", "i", "y", &[ints("axes", &[1])])], "y"));
    assert_eq!((m.graph.filled.len(), m.graph.filled[0].axis), (1, 0));
}

#[test]
fn integers_of_4_bits_go_no_further_than_they_are_known() {
    let x = [port("x", super::super::tensors::INT4, Some(&[N(3)]))];
    let m = import(&model(21, &x, &[], &[node("Cast", "x", "y", &[int("to", 1)])], "y"));
    assert_eq!(m.graph.inputs[0].dtype, DType::I8);
    // The numbers that a cast to 4 bits keeps: the low bits, with their sign.
    let x = [port("x", FLOAT, Some(&[N(5)]))];
    let nodes = [node("Cast", "x", "a", &[int("to", 22)]), node("Cast", "a", "y", &[int("to", 1)])];
    let m = import(&model(21, &x, &[], &nodes, "y"));
    let values = [-9.0f32, -8.0, 7.9, 8.0, 100.0];
    let got = run(&m, vec![bytes("x", DType::F32, &[5], values.map(f32::to_le_bytes).concat())]);
    assert_eq!(got[0], [7.0, -8.0, 7.0, -8.0, 4.0]);
    // Arithmetic would go beyond them.
    let nodes = [node("Cast", "x", "a", &[int("to", 22)]), node("Add", "a a", "y", &[])];
    assert!(refusals(&model(21, &x, &[], &nodes, "y"))[0].reason.contains("4 bits"));
}

#[test]
fn products_of_integers_are_exact_however_long() {
    // Every product is as large as can be: a float of 24 bits cannot hold the sum of 1000.
    let k = 1001;
    let a = [port("a", 2, Some(&[N(1), N(k)]))];
    let mut b = f32s("b", &[k, 1], &[]);
    (b.data_type, b.int32_data) = (2, vec![255; k as usize]);
    let mut most = i64s("most", &[], &[]);
    (most.data_type, most.int32_data) = (6, vec![65_089_000]);
    let nodes = [node("MatMulInteger", "a b", "p", &[]), node("Sub", "p most", "y", &[])];
    let m = import(&model(10, &a, &[b, most], &nodes, "y"));
    assert_eq!(ops(&m).iter().filter(|o| *o == "Linear").count(), 4);
    let mut data = vec![255; k as usize];
    data[0] = 254;
    let got = run(&m, vec![bytes("a", DType::U8, &[1, k as usize], data)]);
    assert_eq!(got[0], [(1001 * 255 * 255 - 255 - 65_089_000) as f32]);
}

/// One model for each family of operators that make tables of what a file says.
fn tabulated() -> Vec<ModelProto> {
    let picture = [port("x", FLOAT, Some(&[N(1), N(2), N(6), N(5)]))];
    let volume = [port("x", FLOAT, Some(&[N(1), N(1), N(4), N(4), N(4)]))];
    let signal = [port("x", FLOAT, Some(&[N(1), N(32), N(1)]))];
    let one = |stored: &[TensorProto], inputs: &[ValueInfoProto], n: NodeProto| {
        model(20, inputs, stored, &[n], "y")
    };
    let turn = body(&["s", "e"], &[node("Add", "s e", "t", &[])], &[], "t");
    vec![
        one(&[i64s("n", &[4], &[1, 2, 3, 4])], &picture, {
            node("Resize", "x - - n", "y", &[string("mode", "cubic"), int("antialias", 1)])
        }),
        one(&[], &picture, {
            node("MaxPool", "x", "y i", &[ints("kernel_shape", &[2, 2]), ints("pads", &[1, 0, 0, 1])])
        }),
        one(&[f32s("w", &[1, 2, 2, 2], &[0.5; 8]), f32s("o", &[1, 8, 5, 4], &[0.1; 160])], &picture, {
            node("DeformConv", "x w o", "y", &[])
        }),
        one(&[f32s("w", &[1, 1, 2, 2, 2], &[0.5; 8])], &volume, node("Conv", "x w", "y", &[])),
        one(&[f32s("w", &[1, 1, 2, 2, 2], &[0.5; 8])], &volume, {
            node("ConvTranspose", "x w", "y", &[ints("strides", &[2, 1, 1])])
        }),
        one(&[i64s("h", &[], &[4]), i64s("n", &[], &[8])], &signal, node("STFT", "x h - n", "y", &[])),
        one(&[i64s("a", &[], &[1])], &signal, node("DFT", "x - a", "y", &[int("onesided", 1)])),
        one(&[f32s("s", &[1, 2], &[0., 1.])], &[port("x", FLOAT, Some(&[N(3), N(1), N(2)]))], {
            node("Scan", "s x", "y", &[int("num_scan_inputs", 1), turn])
        }),
        one(
            &[i64s("n", &[1], &[9])],
            &[port("x", FLOAT, Some(&[N(5)]))],
            node("CenterCropPad", "x n", "y", &[]),
        ),
        one(&[f32s("w", &[1, 4, 2], &[0.5; 8]), f32s("r", &[1, 4, 4], &[0.5; 16])], &signal, {
            node("RNN", "x w r", "y", &[int("hidden_size", 4)])
        }),
        kept(&[node("Transpose", "i", "y", &[ints("perm", &[1, 0])])], "y"),
    ]
}

#[test]
fn models_that_say_anything_of_their_tables_do_not_panic() {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    for model in tabulated() {
        let bytes = model.encode_to_vec();
        for at in 0..bytes.len() {
            for _ in 0..3 {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let mut changed = bytes.clone();
                changed[at] = (state >> 56) as u8;
                let _ = import_onnx_bytes(&changed, None);
            }
        }
    }
}
