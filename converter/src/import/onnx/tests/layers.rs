//! Weights in the runtime's layouts, and the arithmetic done at import.

use super::*;
use edge_runtime::graph::{Act, BinaryOp, Direction, Pads, PoolKind, RnnActivation, UnaryOp};

fn counted(n: usize) -> Vec<f32> {
    (0..n).map(|i| i as f32).collect()
}

fn conv(weight: &[i64], x: &[D], attributes: &[AttributeProto]) -> Model {
    let n = weight.iter().product::<i64>() as usize;
    import(&model(
        13,
        &[port("x", FLOAT, Some(x))],
        &[f32s("w", weight, &counted(n)), f32s("b", &weight[..1], &counted(weight[0] as usize))],
        &[node("Conv", "x w b", "y", attributes)],
        "y",
    ))
}

#[test]
fn a_convolution_becomes_channels_last_with_rows_over_taps_then_channels() {
    let m = conv(&[2, 3, 1, 2], &[S("n"), N(3), S("h"), S("w")], &[ints("pads", &[0, 1, 2, 3])]);
    assert_eq!(ops(&m), ["Transpose", "Conv", "Transpose"]);
    let n = find(&m, |op| matches!(op, Op::Conv { .. }));
    let Op::Conv { window, groups: 1, out_channels: 2, .. } = n.op else { panic!("{n:?}") };
    assert_eq!(window.pads, Pads::Explicit([0, 1, 2, 3]));
    assert_eq!(window.kernel, [1, 2]);
    let w = m.constant(operand(&n, 1)).unwrap();
    assert_eq!(w.dims, [2, 6]);
    // Tap 0 of channels 0, 1, 2, then tap 1.
    assert_eq!(w.as_f32().unwrap(), [0., 2., 4., 1., 3., 5., 6., 8., 10., 7., 9., 11.]);
    assert_eq!(n.inputs[2], None);
    assert_eq!(floats(&m, operand(&n, 3)), [0., 1.]);
    assert_eq!(m.graph.name(m.graph.outputs[0].value), "y");
    // The weight in its own layout is not kept.
    assert_eq!(m.constants.len(), 2);
}

#[test]
fn rows_of_each_group_are_padded_but_not_those_of_a_depthwise_convolution() {
    let m = conv(&[4, 2, 1, 1], &[N(1), N(4), N(5), N(5)], &[int("group", 2)]);
    let n = find(&m, |op| matches!(op, Op::Conv { groups: 2, out_channels: 4, .. }));
    let w = m.constant(operand(&n, 1)).unwrap();
    assert_eq!(w.dims, [32, 2]);
    let rows = w.as_f32().unwrap();
    assert_eq!(rows[..4], [0., 1., 2., 3.]);
    assert_eq!(rows[32..36], [4., 5., 6., 7.]);
    assert_eq!(rows.iter().filter(|v| **v == 0.).count(), 64 - 7);
    assert_eq!(m.constant(operand(&n, 3)).unwrap().dims, [4]);

    let m = conv(&[3, 1, 2, 2], &[N(1), N(3), N(5), N(5)], &[int("group", 3)]);
    let n = find(&m, |op| matches!(op, Op::Conv { groups: 3, .. }));
    assert_eq!(m.constant(operand(&n, 1)).unwrap().dims, [3, 4]);
    assert_eq!(floats(&m, operand(&n, 1)), counted(12));
}

#[test]
fn a_one_dimensional_convolution_has_height_one() {
    let attributes = [int("group", 1), string("auto_pad", "SAME_UPPER"), ints("strides", &[2])];
    let m = conv(&[2, 3, 5], &[S("n"), N(3), S("t")], &attributes);
    let n = find(&m, |op| matches!(op, Op::Conv { .. }));
    let Op::Conv { window, .. } = n.op else { panic!("{n:?}") };
    assert_eq!((window.kernel, window.stride, window.pads), ([1, 5], [1, 2], Pads::SameUpper));
    let n = find(&m, |op| matches!(op, Op::Transpose { .. }));
    assert_eq!(n.op, Op::Transpose { perm: vec![0, 2, 1] });
}

#[test]
fn an_operand_of_unknown_rank_has_the_weights() {
    let m = import(&model(
        13,
        &[port("x", FLOAT, None)],
        &[f32s("w", &[1, 1, 3], &counted(3))],
        &[node("Conv", "x w", "y", &[])],
        "y",
    ));
    assert_eq!(ops(&m), ["Transpose", "Conv", "Transpose"]);
}

#[test]
fn a_computed_weight_is_laid_out_by_nodes() {
    let inputs = [
        port("x", FLOAT, Some(&[N(1), N(3), N(8), N(8)])),
        port("w", FLOAT, Some(&[N(4), N(3), N(2), N(2)])),
    ];
    let m = import(&model(13, &inputs, &[], &[node("Conv", "x w", "y", &[])], "y"));
    assert_eq!(ops(&m), ["Transpose", "Flatten", "Transpose", "Conv", "Transpose"]);
}

#[test]
fn a_transposed_convolution_has_rows_over_taps_then_output_channels() {
    let m = import(&model(
        13,
        &[port("x", FLOAT, Some(&[N(1), N(2), N(4), N(4)]))],
        &[f32s("w", &[2, 3, 1, 2], &counted(12))],
        &[node("ConvTranspose", "x w", "y", &[ints("strides", &[2, 2]), ints("output_padding", &[1, 0])])],
        "y",
    ));
    let n = find(&m, |op| matches!(op, Op::ConvTranspose { .. }));
    let Op::ConvTranspose { output_pads: [1, 0], out_channels: 3, window, .. } = n.op else {
        panic!("{n:?}")
    };
    assert_eq!(window.stride, [2, 2]);
    let w = m.constant(operand(&n, 1)).unwrap();
    assert_eq!(w.dims, [6, 2]);
    // w[in][out][tap] = 6 in + 2 out + tap.
    assert_eq!(w.as_f32().unwrap(), [0., 6., 2., 8., 4., 10., 1., 7., 3., 9., 5., 11.]);
}

#[test]
fn groups_of_a_transposed_convolution_are_taken_one_by_one() {
    let m = import(&model(
        13,
        &[port("x", FLOAT, Some(&[N(1), N(2), N(4), N(4)]))],
        &[f32s("w", &[2, 1, 1, 2], &counted(4)), f32s("b", &[2], &[1., 2.])],
        &[node("ConvTranspose", "x w b", "y", &[int("group", 2)])],
        "y",
    ));
    assert_eq!(
        ops(&m),
        ["Transpose", "Split", "ConvTranspose", "ConvTranspose", "Concat", "Binary", "Transpose"]
    );
    let n = find(&m, |op| matches!(op, Op::ConvTranspose { out_channels: 1, .. }));
    assert_eq!(floats(&m, operand(&n, 1)), [0., 1.]);
}

#[test]
fn same_padding_of_a_transposed_convolution_becomes_explicit() {
    let m = import(&model(
        13,
        &[port("x", FLOAT, Some(&[N(1), N(1), S("h"), S("w")]))],
        &[f32s("w", &[1, 1, 4, 1], &counted(4))],
        &[node("ConvTranspose", "x w", "y", &[ints("strides", &[1, 3]), string("auto_pad", "SAME_UPPER")])],
        "y",
    ));
    let n = find(&m, |op| matches!(op, Op::ConvTranspose { .. }));
    let Op::ConvTranspose { output_pads, window, .. } = n.op else { panic!("{n:?}") };
    // Rows: 4 - 1 = 3 too many. Columns: 3 - 1 = 2 missing.
    assert_eq!(window.pads, Pads::Explicit([1, 0, 2, 0]));
    assert_eq!(output_pads, [0, 2]);
}

#[test]
fn a_stored_right_operand_becomes_a_linear_layer() {
    let m = import(&model(
        13,
        &[port("x", FLOAT, Some(&[S("n"), N(2)]))],
        &[f32s("w", &[2, 3], &counted(6))],
        &[node("MatMul", "x w", "y", &[]), node("MatMul", "x w", "z", &[])],
        "y z",
    ));
    let n = find(&m, |op| matches!(op, Op::Linear { out_features: 3, .. }));
    assert_eq!(floats(&m, operand(&n, 1)), [0., 3., 1., 4., 2., 5.]);
    // Two users, one weight.
    assert_eq!(m.constants.len(), 1);
}

#[test]
fn gemm_folds_alpha_and_beta() {
    let m = import(&model(
        13,
        &[port("x", FLOAT, Some(&[N(2), S("n")]))],
        &[f32s("w", &[3, 2], &counted(6)), f32s("c", &[1, 3], &[1., 2., 3.])],
        &[node(
            "Gemm",
            "x w c",
            "y",
            &[int("transA", 1), int("transB", 1), float("alpha", 2.), float("beta", 3.)],
        )],
        "y",
    ));
    assert_eq!(ops(&m), ["Transpose", "Linear"]);
    let n = find(&m, |op| matches!(op, Op::Linear { .. }));
    assert_eq!(floats(&m, operand(&n, 1)), [0., 2., 4., 6., 8., 10.]);
    assert_eq!(floats(&m, operand(&n, 3)), [3., 6., 9.]);
}

#[test]
fn gemm_with_a_bias_of_rows_or_computed_weights_keeps_an_addition() {
    let x = port("x", FLOAT, Some(&[N(2), N(2)]));
    let stored = [f32s("w", &[2, 3], &counted(6)), f32s("c", &[2, 1], &[1., 2.])];
    let m = import(&model(13, std::slice::from_ref(&x), &stored, &[node("Gemm", "x w c", "y", &[])], "y"));
    assert_eq!(ops(&m), ["Linear", "Binary"]);
    let inputs = [x, port("w", FLOAT, Some(&[N(2), N(2)]))];
    let m = import(&model(13, &inputs, &[], &[node("Gemm", "x w", "y", &[float("alpha", 0.5)])], "y"));
    let n = find(&m, |op| matches!(op, Op::MatMul { .. }));
    assert_eq!(n.op, Op::MatMul { trans_a: false, trans_b: false, alpha: 0.5 });
}

#[test]
fn vectors_are_rows_and_columns_of_a_product() {
    let inputs = [port("x", FLOAT, Some(&[N(2)])), port("w", FLOAT, Some(&[N(2)]))];
    let m = import(&model(13, &inputs, &[], &[node("MatMul", "x w", "y", &[])], "y"));
    assert_eq!(ops(&m), ["Unsqueeze", "Unsqueeze", "MatMul", "Squeeze"]);
    assert_eq!(m.graph.outputs[0].dims, Some(vec![]));
}

#[test]
fn batch_normalisation_becomes_a_scale_and_a_shift() {
    let m = import(&model(
        15,
        &[port("x", FLOAT, Some(&[S("n"), N(2), S("h"), S("w")]))],
        &[
            f32s("s", &[2], &[2., 3.]),
            f32s("b", &[2], &[1., 1.]),
            f32s("m", &[2], &[4., 0.]),
            f32s("v", &[2], &[3., 8.]),
        ],
        &[node("BatchNormalization", "x s b m v", "y", &[float("epsilon", 1.)])],
        "y",
    ));
    assert_eq!(ops(&m), ["Binary", "Binary"]);
    let mul = find(&m, |op| *op == Op::Binary(BinaryOp::Mul));
    let add = find(&m, |op| *op == Op::Binary(BinaryOp::Add));
    assert_eq!(m.constant(operand(&mul, 1)).unwrap().dims, [2, 1, 1]);
    assert_eq!(floats(&m, operand(&mul, 1)), [1., 1.]);
    assert_eq!(floats(&m, operand(&add, 1)), [-3., 1.]);
}

#[test]
fn clips_of_every_age() {
    let x = [port("x", FLOAT, Some(&[N(2)]))];
    let clip = |lo, hi| Op::Unary(UnaryOp::Act(Act::Clip { lo, hi }));
    let m = import(&model(6, &x, &[], &[node("Clip", "x", "y", &[float("min", 0.), float("max", 6.)])], "y"));
    find(&m, |op| *op == clip(0., 6.));
    let six = [f32s("six", &[], &[6.])];
    let m = import(&model(13, &x, &six, &[node("Clip", "x - six", "y", &[])], "y"));
    find(&m, |op| *op == clip(f32::MIN, 6.));
    let m = import(&model(13, &x, &[f32s("zero", &[], &[0.])], &[node("Clip", "x zero", "y", &[])], "y"));
    find(&m, |op| *op == Op::Unary(UnaryOp::Act(Act::Relu)));
    let inputs = [x[0].clone(), port("hi", FLOAT, Some(&[]))];
    let m = import(&model(13, &inputs, &[], &[node("Clip", "x - hi", "y", &[])], "y"));
    find(&m, |op| *op == Op::Binary(BinaryOp::Min));
}

#[test]
fn pooling() {
    let x = [port("x", FLOAT, Some(&[N(1), N(2), N(5), N(5)]))];
    let average = node(
        "AveragePool",
        "x",
        "y",
        &[
            ints("kernel_shape", &[3, 3]),
            int("count_include_pad", 1),
            int("ceil_mode", 1),
            ints("strides", &[2, 2]),
        ],
    );
    let m = import(&model(13, &x, &[], &[average], "y"));
    let n = find(&m, |op| matches!(op, Op::Pool { .. }));
    let Op::Pool { kind, ceil_mode: true, .. } = n.op else { panic!("{n:?}") };
    assert_eq!(kind, PoolKind::Average { include_pad: true });
    let m = import(&model(13, &x, &[], &[node("GlobalAveragePool", "x", "y", &[])], "y"));
    find(&m, |op| matches!(op, Op::Reduce { axes, keep_dims: true, .. } if axes == &[1, 2]));
}

#[test]
fn old_broadcasting_matches_dimensions_from_an_axis_on() {
    let m = import(&model(
        6,
        &[port("x", FLOAT, Some(&[N(2), N(3), N(4), N(5)])), port("b", FLOAT, Some(&[N(3), N(4)]))],
        &[],
        &[node("Add", "x b", "y", &[int("broadcast", 1), int("axis", 1)])],
        "y",
    ));
    find(&m, |op| *op == Op::Unsqueeze { axes: vec![2] });
}

#[test]
fn recurrent_weights_are_one_matrix_a_direction() {
    let (h, i) = (1, 2);
    let m = import(&model(
        14,
        &[port("x", FLOAT, Some(&[S("t"), N(1), N(i)])), port("h0", FLOAT, Some(&[N(2), N(1), N(h)]))],
        &[f32s("w", &[2, 4, i], &counted(16)), f32s("r", &[2, 4, h], &counted(8))],
        &[node(
            "LSTM",
            "x w r - - h0",
            "y y_h",
            &[int("hidden_size", h), string("direction", "bidirectional"), float("clip", 3.)],
        )],
        "y y_h",
    ));
    let n = find(&m, |op| matches!(op, Op::Lstm { .. }));
    let Op::Lstm { direction, hidden: 1, activations, clip: Some(3.0), .. } = &n.op else { panic!("{n:?}") };
    assert_eq!(*direction, Direction::Bidirectional);
    assert_eq!(activations[..3], [RnnActivation::Sigmoid, RnnActivation::Tanh, RnnActivation::Tanh]);
    assert_eq!(activations.len(), 6);
    assert_eq!(floats(&m, operand(&n, 3)), counted(16)[8..]);
    assert_eq!(m.constant(operand(&n, 4)).unwrap().dims, [4, 1]);
    let given: Vec<bool> = n.inputs.iter().map(Option::is_some).collect();
    assert_eq!(given, [true, true, true, true, true, false, false, true, false, false]);
}

#[test]
fn einsum_becomes_a_product_with_its_dimensions_in_order() {
    let inputs = [
        port("q", FLOAT, Some(&[S("b"), S("s"), N(2), N(4)])),
        port("k", FLOAT, Some(&[S("b"), S("t"), N(2), N(4)])),
    ];
    let m = import(&model(
        13,
        &inputs,
        &[],
        &[node("Einsum", "q k", "y", &[string("equation", "bshd,bthd->bhst")])],
        "y",
    ));
    assert_eq!(ops(&m), ["Transpose", "Transpose", "MatMul"]);
    let stored = [f32s("w", &[4, 2, 3], &counted(24))];
    let m = import(&model(
        13,
        &[port("x", FLOAT, Some(&[S("b"), S("s"), N(4)]))],
        &stored,
        &[node("Einsum", "x w", "y", &[string("equation", "bsk,khd->bshd")])],
        "y",
    ));
    assert_eq!(ops(&m), ["Linear", "Shape", "Concat", "Reshape"]);
    let n = find(&m, |op| matches!(op, Op::Linear { out_features: 6, .. }));
    assert_eq!(floats(&m, operand(&n, 1))[..4], [0., 6., 12., 18.]);
}

#[test]
fn a_layer_normalisation_gives_its_mean_and_inverse_deviation() {
    let m = import(&model(
        17,
        &[port("x", FLOAT, Some(&[S("n"), N(4)]))],
        &[f32s("s", &[4], &counted(4))],
        &[node("LayerNormalization", "x s", "y mean inv", &[])],
        "y mean inv",
    ));
    assert_eq!(m.graph.outputs.len(), 3);
    let mean = find(&m, |op| matches!(op, Op::Reduce { keep_dims: true, .. }));
    assert_eq!(mean.outputs[0], Some(m.graph.outputs[1].value));
    let inverse = find(&m, |op| *op == Op::Unary(UnaryOp::Reciprocal));
    assert_eq!(inverse.outputs[0], Some(m.graph.outputs[2].value));
}

#[test]
fn a_norm_of_zero_does_not_divide() {
    let x = port("x", FLOAT, Some(&[S("n"), N(4)]));
    let m = import(&model(22, &[x], &[], &[node("LpNormalization", "x", "y", &[int("p", 1)])], "y"));
    let divide = find(&m, |op| *op == Op::Binary(BinaryOp::Div));
    let choice = find(&m, |op| *op == Op::Where);
    assert_eq!(divide.inputs[1], choice.outputs[0]);
    assert_eq!(floats(&m, operand(&choice, 1)), [1.0]);
}

#[test]
fn an_old_dropout_has_a_mask_of_the_operands_type() {
    let x = port("x", FLOAT, Some(&[S("n"), N(4)]));
    let m = import(&model(9, &[x], &[], &[node("Dropout", "x", "y mask", &[])], "y mask"));
    let mask = find(&m, |op| matches!(op, Op::ConstantOfShape { .. }));
    assert_eq!(
        mask.op,
        Op::ConstantOfShape { dtype: edge_runtime::graph::DType::F32, value: 1f32.to_le_bytes().to_vec() }
    );
}
