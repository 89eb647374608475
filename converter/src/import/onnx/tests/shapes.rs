//! Symbolic sizes, shape arithmetic, and the inputs that it reads.

use super::*;
use crate::import::{StateGuess, apply_states, guess_states};
use edge_runtime::graph::{BinaryOp, DType, Dim, Interpolation, NearestMode};

#[test]
fn declared_names_survive_and_missing_ones_are_made_up() {
    let x = port("x", FLOAT, Some(&[S("batch"), N(-1), S("?"), N(3)]));
    let m = import(&model(13, &[x], &[], &[node("Relu", "x", "y", &[])], "y"));
    let named = |n: &str| Dim::Named(n.to_owned());
    assert_eq!(m.graph.inputs[0].dims, Some(vec![named("batch"), named("?0"), named("?1"), Dim::Fixed(3)]));
    assert_eq!(m.graph.outputs[0].dims.as_ref().map(Vec::len), Some(4));
}

#[test]
fn an_input_that_is_stored_is_a_constant() {
    let inputs = [port("x", FLOAT, Some(&[N(2), N(2)])), port("w", FLOAT, Some(&[N(2), N(2)]))];
    let m =
        import(&model(13, &inputs, &[f32s("w", &[2, 2], &[1.; 4])], &[node("MatMul", "x w", "y", &[])], "y"));
    assert_eq!(m.graph.inputs.len(), 1);
    assert_eq!(ops(&m), ["Linear"]);
}

#[test]
fn outputs_are_computed_and_bear_their_names() {
    let x = port("x", FLOAT, Some(&[N(1)]));
    let nodes = [
        node("Identity", "x", "same", &[]),
        node("Relu", "x", "r", &[]),
        node("Identity", "r", "again", &[]),
        node("Constant", "", "c", &[float("value_float", 2.)]),
    ];
    let m = import(&model(13, &[x], &[], &nodes, "same again r c"));
    let names: Vec<&str> = m.graph.outputs.iter().map(|p| m.graph.name(p.value)).collect();
    assert_eq!(names, ["same", "again", "r", "c"]);
    assert_eq!(m.graph.name(m.graph.inputs[0].value), "x");
    let produced = |v: ValueId| m.graph.body.nodes.iter().any(|n| n.outputs.contains(&Some(v)));
    assert!(m.graph.outputs.iter().all(|p| produced(p.value)), "{}", m.to_text());
}

#[test]
fn softmax_before_opset_13_is_over_all_that_follows() {
    let x = |dims: &[D]| [port("x", FLOAT, Some(dims))];
    let softmax = [node("Softmax", "x", "y", &[])];
    let m = import(&model(12, &x(&[N(2), N(3), S("t")]), &[], &softmax, "y"));
    assert_eq!(ops(&m), ["Shape", "Flatten", "Softmax", "Reshape"]);
    assert_eq!(ops(&import(&model(12, &x(&[N(2), N(3)]), &[], &softmax, "y"))), ["Softmax"]);
    let m = import(&model(13, &x(&[N(2), N(3), S("t")]), &[], &softmax, "y"));
    assert_eq!(ops(&m), ["Softmax"]);
    find(&m, |op| *op == Op::Softmax { axis: 2, log: false });
}

#[test]
fn reductions_take_axes_in_every_form() {
    let x = port("x", FLOAT, Some(&[N(2), N(3), S("t")]));
    let axes = |m: &Model| match find(m, |op| matches!(op, Op::Reduce { .. })).op {
        Op::Reduce { axes, .. } => axes,
        _ => Vec::new(),
    };
    let one = std::slice::from_ref(&x);
    let attribute = [node("ReduceMean", "x", "y", &[ints("axes", &[-1, 1])])];
    assert_eq!(axes(&import(&model(13, one, &[], &attribute, "y"))), [2, 1]);
    let operand = [node("ReduceMean", "x a", "y", &[])];
    assert_eq!(axes(&import(&model(18, one, &[i64s("a", &[1], &[-2])], &operand, "y"))), [1]);
    assert_eq!(axes(&import(&model(18, one, &[], &[node("ReduceMean", "x", "y", &[])], "y"))), [0, 1, 2]);
    let computed = [x, port("a", INT64, Some(&[S("n")]))];
    let m = import(&model(18, &computed, &[], &operand, "y"));
    find(&m, |op| matches!(op, Op::ReduceAxes { keep_dims: true, noop_if_empty: false, .. }));
    assert!(m.graph.inputs[1].plan_time);
}

#[test]
fn a_resize_that_keeps_batch_and_channels_is_channels_last() {
    let x = [port("x", FLOAT, Some(&[S("n"), S("c"), S("h"), S("w")]))];
    let mode = [
        string("mode", "nearest"),
        string("coordinate_transformation_mode", "asymmetric"),
        string("nearest_mode", "floor"),
    ];
    let scales = [f32s("s", &[4], &[1., 1., 2., 2.])];
    let m = import(&model(13, &x, &scales, &[node("Resize", "x - s", "y", &mode)], "y"));
    assert_eq!(ops(&m), ["Transpose", "Resize", "Transpose"]);
    let n = find(&m, |op| matches!(op, Op::Resize { axes, .. } if axes == &[1, 2]));
    assert_eq!(floats(&m, operand(&n, 1)), [2., 2.]);
    // Sizes as PyTorch computes them: the first two are the operand's own.
    let nodes = [
        node("Shape", "x", "shape", &[]),
        node("Slice", "shape zero two zero", "nc", &[]),
        node("Concat", "nc hw", "sizes", &[int("axis", 0)]),
        node("Resize", "x - - sizes", "y", &mode),
    ];
    let stored = [i64s("zero", &[1], &[0]), i64s("two", &[1], &[2])];
    let inputs = [x[0].clone(), port("hw", INT64, Some(&[N(2)]))];
    let m = import(&model(13, &inputs, &stored, &nodes, "y"));
    find(&m, |op| matches!(op, Op::Resize { axes, .. } if axes == &[1, 2]));
    assert!(m.graph.inputs[1].plan_time && !m.graph.inputs[0].plan_time);
    // Sizes of which nothing is known keep all axes.
    let inputs = [x[0].clone(), port("sizes", INT64, Some(&[N(4)]))];
    let m = import(&model(13, &inputs, &[], &[node("Resize", "x - - sizes", "y", &mode)], "y"));
    find(&m, |op| matches!(op, Op::Resize { axes, .. } if axes == &[0, 1, 2, 3]));
}

#[test]
fn old_nearest_resize_rounds_by_direction() {
    let x = [port("x", FLOAT, Some(&[N(1), N(1), N(4), N(4)]))];
    let nearest = |scale: f32| {
        let scales = [f32s("s", &[4], &[1., 1., scale, scale])];
        let m = import(&model(10, &x, &scales, &[node("Resize", "x s", "y", &[])], "y"));
        match find(&m, |op| matches!(op, Op::Resize { .. })).op {
            Op::Resize { interpolation, .. } => interpolation,
            other => panic!("{other:?}"),
        }
    };
    assert_eq!(nearest(2.), Interpolation::Nearest(NearestMode::Floor));
    assert_eq!(nearest(0.6), Interpolation::Nearest(NearestMode::Ceil));
}

#[test]
fn slices_in_both_forms() {
    let x = [port("x", FLOAT, Some(&[S("n"), N(8)]))];
    let old = node("Slice", "x", "y", &[ints("axes", &[-1]), ints("starts", &[1]), ints("ends", &[3])]);
    let m = import(&model(9, &x, &[], &[old], "y"));
    find(&m, |op| *op == Op::Slice { axes: vec![1] });
    assert_eq!(m.graph.outputs[0].dims.as_ref().unwrap()[1], Dim::Fixed(2));
    let stored =
        [i64s("s", &[1], &[-1]), i64s("e", &[1], &[i64::MIN]), i64s("a", &[1], &[1]), i64s("t", &[1], &[-3])];
    let m = import(&model(13, &x, &stored, &[node("Slice", "x s e a t", "y", &[])], "y"));
    assert_eq!(m.graph.outputs[0].dims.as_ref().unwrap()[1], Dim::Fixed(3));
}

#[test]
fn splits_that_do_not_come_out_even() {
    let x = [port("x", FLOAT, Some(&[N(7), N(2)]))];
    let m = import(&model(18, &x, &[], &[node("Split", "x", "a b c", &[int("num_outputs", 3)])], "a b c"));
    let n = find(&m, |op| *op == Op::Split { axis: 0 });
    assert_eq!(integers(&m, operand(&n, 1)), [3, 3, 1]);
    assert_eq!(m.graph.outputs[2].dims.as_ref().unwrap()[0], Dim::Fixed(1));
}

#[test]
fn space_and_depth_with_known_and_unknown_sizes() {
    let op = |name: &str, dims: &[D]| {
        let x = [port("x", FLOAT, Some(dims))];
        import(&model(13, &x, &[], &[node(name, "x", "y", &[int("blocksize", 2)])], "y"))
    };
    let known = [N(1), N(8), N(4), N(6)];
    let dims = |m: &Model| m.graph.outputs[0].dims.clone().unwrap();
    let fixed = |d: [usize; 4]| d.map(Dim::Fixed).to_vec();
    assert_eq!(dims(&op("DepthToSpace", &known)), fixed([1, 2, 8, 12]));
    assert_eq!(dims(&op("SpaceToDepth", &known)), fixed([1, 32, 2, 3]));
    let unknown = [S("n"), N(8), S("h"), S("w")];
    assert_eq!(dims(&op("DepthToSpace", &unknown)).len(), 4);
    assert_eq!(dims(&op("SpaceToDepth", &unknown)).len(), 4);
}

#[test]
fn types_of_power_and_its_exponent_are_made_equal() {
    let x = [port("x", FLOAT, Some(&[N(2)])), port("n", INT64, Some(&[]))];
    let m = import(&model(13, &x, &[], &[node("Pow", "x n", "y", &[])], "y"));
    assert_eq!(ops(&m), ["Cast", "Binary"]);
    find(&m, |op| *op == Op::Cast { to: DType::F32 });
    // Of a constant the cast is done at once.
    let m = import(&model(13, &x, &[i64s("two", &[], &[2])], &[node("Pow", "x two", "y", &[])], "y"));
    assert_eq!(ops(&m), ["Binary"]);
    assert_eq!(floats(&m, operand(&find(&m, |_| true), 1)), [2.0]);
}

#[test]
fn many_operands_are_folded() {
    let x = [port("x", FLOAT, Some(&[N(2)]))];
    let m = import(&model(13, &x, &[], &[node("Mean", "x x x", "y", &[])], "y"));
    assert_eq!(ops(&m), ["Binary", "Binary", "Binary"]);
    find(&m, |op| *op == Op::Binary(BinaryOp::Div));
}

#[test]
fn only_inputs_that_become_sizes_are_read_at_plan_time() {
    let inputs = [
        port("x", FLOAT, Some(&[S("n"), N(4)])),
        port("count", INT64, Some(&[])),
        port("ids", INT64, Some(&[S("n")])),
        port("table", FLOAT, Some(&[N(9), N(4)])),
    ];
    let nodes = [
        node("Mul", "count two", "twice", &[]),
        node("Range", "zero twice one", "range", &[]),
        node("Shape", "ids", "shape", &[]),
        node("Gather", "table ids", "rows", &[]),
        node("Expand", "x shape", "wide", &[]),
    ];
    let stored = [i64s("zero", &[], &[0]), i64s("one", &[], &[1]), i64s("two", &[], &[2])];
    let m = import(&model(13, &inputs, &stored, &nodes, "range rows wide"));
    let read: Vec<bool> = m.graph.inputs.iter().map(|p| p.plan_time).collect();
    assert_eq!(read, [false, true, false, false]);
}

#[test]
fn states_are_suggested_and_applied_by_name() {
    let h = [N(1), N(8)];
    let inputs = [
        port("x", FLOAT, Some(&h)),
        port("state", FLOAT, Some(&h)),
        port("c_in", FLOAT, Some(&h)),
        port("sr", INT64, Some(&[])),
    ];
    let nodes = [
        node("Add", "x state", "stateN", &[]),
        node("Add", "x c_in", "c_out", &[]),
        node("Relu", "x", "y", &[]),
        node("Shape", "x", "shape", &[]),
    ];
    let mut m = import(&model(13, &inputs, &[], &nodes, "y stateN c_out shape"));
    let guess = |output: &str, input: &str| StateGuess { output: output.into(), input: input.into() };
    assert_eq!(guess_states(&m), [guess("stateN", "state"), guess("c_out", "c_in")]);
    let pair = |output: &str, input: &str| [(output.to_owned(), input.to_owned())];
    apply_states(&mut m, &pair("stateN", "state")).unwrap();
    assert_eq!((m.graph.states[0].output, m.graph.states[0].input), (1, 1));
    for (bad, says) in [
        (pair("stateN", "c_in"), "already"),
        (pair("c_out", "sr"), "the input i64"),
        (pair("nothing", "c_in"), "stateN"),
        (pair("c_out", "nothing"), "c_in"),
    ] {
        let error = apply_states(&mut m, &bad).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }
}
