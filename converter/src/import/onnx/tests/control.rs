//! Branches, functions, and the order of nodes.

use super::*;
use crate::import::onnx::files::Files;
use edge_runtime::graph::BinaryOp;

fn branches(inputs: &[ValueInfoProto], stored: &[TensorProto], condition: &str) -> Model {
    // Both branches use `inner`, and `x` of the graph around them.
    let yes = [node("Relu", "x", "inner", &[]), node("Add", "inner x", "a", &[])];
    let no = [node("Neg", "x", "inner", &[])];
    let nodes = [
        node("If", condition, "y", &[graph("then_branch", &yes, "a"), graph("else_branch", &no, "inner")]),
        node("Sqrt", "y", "z", &[]),
    ];
    import(&model(13, inputs, stored, &nodes, "z"))
}

#[test]
fn a_known_condition_takes_its_branch() {
    let mut no = f32s("c", &[], &[]);
    (no.data_type, no.int32_data) = (9, vec![0]);
    let m = branches(&[port("x", FLOAT, Some(&[N(2)]))], &[no], "c");
    assert_eq!(ops(&m), ["Unary", "Unary"]);
}

#[test]
fn an_unknown_condition_keeps_both_branches() {
    let m = branches(&[port("x", FLOAT, Some(&[N(2)])), port("c", 9, Some(&[]))], &[], "c");
    assert_eq!(ops(&m), ["If", "Unary", "Binary", "Unary", "Unary"]);
    let n = find(&m, |op| matches!(op, Op::If { .. }));
    let Op::If { then_branch, else_branch } = &n.op else { panic!("{n:?}") };
    assert_eq!((then_branch.nodes.len(), else_branch.nodes.len()), (2, 1));
    assert_eq!(then_branch.nodes[1].inputs[1], Some(m.graph.inputs[0].value));
    assert!(m.graph.inputs[1].plan_time);
    assert!(!m.graph.inputs[0].plan_time);
    assert!(m.to_text().contains("then:"));
}

#[test]
fn a_condition_on_a_fixed_size_is_known() {
    let x = [port("x", FLOAT, Some(&[S("n"), N(3)]))];
    let nodes = [
        node("Shape", "x", "s", &[]),
        node("Gather", "s one", "c", &[]),
        node("Equal", "c three", "is", &[]),
        node(
            "If",
            "is",
            "y",
            &[
                graph("then_branch", &[node("Relu", "x", "a", &[])], "a"),
                graph("else_branch", &[node("Unique", "x", "b", &[])], "b"),
            ],
        ),
    ];
    let stored = [i64s("one", &[], &[1]), i64s("three", &[], &[3])];
    let m = import(&model(13, &x, &stored, &nodes, "y"));
    assert!(!ops(&m).contains(&"If".to_owned()), "{}", m.to_text());
}

#[test]
fn nodes_in_any_order_are_sorted() {
    let nodes = [node("Neg", "b", "y", &[]), node("Relu", "a", "b", &[]), node("Sqrt", "x", "a", &[])];
    let m = import(&model(13, &[port("x", FLOAT, Some(&[N(2)]))], &[], &nodes, "y"));
    let names: Vec<&str> = m.graph.body.nodes.iter().map(|n| n.name.as_str()).collect();
    assert_eq!(names, ["a", "b", "y"]);
}

fn with_function(function: FunctionProto, mut call: NodeProto) -> ModelProto {
    call.domain = "own".into();
    let mut m = model(13, &[port("x", FLOAT, Some(&[N(2)]))], &[], &[call], "y");
    m.opset_import.push(OperatorSetIdProto { domain: "own".into(), version: 1 });
    m.functions.push(FunctionProto {
        domain: "own".into(),
        opset_import: vec![OperatorSetIdProto { domain: String::new(), version: 13 }],
        ..function
    });
    m
}

#[test]
fn functions_are_expanded_with_their_attributes() {
    let slope = AttributeProto { ref_attr_name: "slope".into(), ..attribute("alpha", attribute_type::FLOAT) };
    let function = FunctionProto {
        name: "Leak".into(),
        input: list("a"),
        output: list("b"),
        attribute: list("slope"),
        // The inner name `x` is not the caller's.
        node: vec![node("Neg", "a", "x", &[]), node("LeakyRelu", "x", "b", &[slope])],
        ..FunctionProto::default()
    };
    let m = import(&with_function(function.clone(), node("Leak", "x", "y", &[float("slope", 0.25)])));
    use edge_runtime::graph::{Act, UnaryOp};
    find(&m, |op| *op == Op::Unary(UnaryOp::Act(Act::LeakyRelu { alpha: 0.25 })));
    assert_eq!(m.graph.body.nodes[0].name, "y/x");
    // Left out by the call: the operator's default.
    let m = import(&with_function(function, node("Leak", "x", "y", &[])));
    find(&m, |op| *op == Op::Unary(UnaryOp::Act(Act::LeakyRelu { alpha: 0.01 })));
}

#[test]
fn a_function_that_calls_itself_is_refused() {
    let mut inner = node("F", "a", "b", &[]);
    inner.domain = "own".into();
    let function = FunctionProto {
        name: "F".into(),
        input: list("a"),
        output: list("b"),
        node: vec![inner],
        ..FunctionProto::default()
    };
    let mut m = with_function(function, node("F", "x", "y", &[]));
    m.functions[0].opset_import.push(OperatorSetIdProto { domain: "own".into(), version: 1 });
    assert!(matches!(try_import(&m), Err(ImportError::Expansion { .. })));
}

/// Found by fuzzing: each turn is a copy of the body, and a loop in a loop multiplies.
#[test]
fn loops_in_loops_end() {
    let loop_of = |inner: &[NodeProto], state: &str, result: &str, names: &str| {
        let (given, gives) = names.split_once(" > ").unwrap();
        let mut body = graph("body", inner, gives);
        let ports = list(given).iter().map(|name| port(name, FLOAT, None)).collect();
        body.g.as_mut().unwrap().input = ports;
        node("Loop", &format!("n - {state}"), result, &[body])
    };
    let inner = loop_of(&[node("Neg", "b", "d", &[])], "s", "r", "j c b > c d");
    let outer = loop_of(&[inner], "x", "y", "i k s > k r");
    let m = |n: i64| {
        model(
            16,
            &[port("x", FLOAT, Some(&[N(2)]))],
            &[i64s("n", &[], &[n])],
            std::slice::from_ref(&outer),
            "y",
        )
    };
    let turns = ops(&import(&m(3))).into_iter().filter(|op| op == "Unary").count();
    assert_eq!(turns, 9);
    let error = import_onnx_bytes(&m(4000).encode_to_vec(), None).unwrap_err();
    assert!(matches!(error, ImportError::Expansion { .. }), "{error}");
}

#[test]
fn a_condition_that_a_run_computes_chooses_between_both_branches() {
    let of = |no: &[NodeProto]| {
        let nodes = [
            node("ReduceMax", "x", "m", &[int("keepdims", 0)]),
            node("Greater", "m one", "c", &[]),
            node(
                "If",
                "c",
                "y",
                &[graph("then_branch", &[node("Relu", "x", "a", &[])], "a"), graph("else_branch", no, "b")],
            ),
        ];
        model(13, &[port("x", FLOAT, Some(&[N(2), N(3)]))], &[f32s("one", &[], &[1.0])], &nodes, "y")
    };
    let m = import(&of(&[node("Neg", "x", "b", &[])]));
    find(&m, |op| *op == Op::Where);
    assert!(!ops(&m).contains(&"If".to_owned()), "{}", m.to_text());
    let error = try_import(&of(&[node("ReduceSum", "x", "b", &[int("keepdims", 0)])])).unwrap_err();
    assert!(error.to_string().contains("a choice between f32[2, 3] and f32[]"), "{error}");
}

#[test]
fn a_loop_that_ends_on_data_keeps_its_shape() {
    let of = |turns: &str, inner: NodeProto| {
        let nodes =
            [inner, node("ReduceMax", "t", "m", &[int("keepdims", 0)]), node("Less", "m one", "go", &[])];
        let mut body = graph("body", &nodes, "go t");
        body.g.as_mut().unwrap().input = list("i c s").iter().map(|name| port(name, FLOAT, None)).collect();
        let nodes = [node("Loop", &format!("{turns} - x"), "y", &[body])];
        let stored = [f32s("one", &[], &[1.0]), i64s("n", &[], &[3])];
        model(16, &[port("x", FLOAT, Some(&[N(2)]))], &stored, &nodes, "y")
    };
    let m = import(&of("n", node("Add", "s s", "t", &[])));
    assert_eq!(ops(&m).iter().filter(|op| *op == "Where").count(), 2);
    // Without one it is the run that repeats it.
    let m = import(&of("-", node("Add", "s s", "t", &[])));
    assert!(matches!(find(&m, |op| op.has_blocks()).op, Op::Loop { carried: 1, most: None, .. }));
    for (turns, inner, why) in [
        (
            "-",
            node("Concat", "s s", "t", &[int("axis", 0)]),
            "carries f32[2] into a turn and f32[4] out of it",
        ),
        ("n", node("Concat", "s s", "t", &[int("axis", 0)]), "a choice between f32[8] and f32[4]"),
    ] {
        let error = try_import(&of(turns, inner)).unwrap_err();
        assert!(error.to_string().contains(why), "{error}");
    }
}

#[test]
fn a_loop_over_a_free_size_needs_that_size_or_a_bound_for_what_it_collects() {
    // As exporters of TensorFlow write `for i in range(n)`: counted in integers, compared as floats, without a greatest number.
    let float = |name: &str, of: &str| node("Cast", of, name, &[int("to", 1)]);
    let inner = [
        node("Add", "i one", "next", &[]),
        float("a", "next"),
        float("b", "n"),
        node("Less", "a b", "going", &[]),
        node("Add", "state state", "new", &[]),
        node("Gather", "x i", "row", &[]),
    ];
    let mut body = GraphProto { node: inner.to_vec(), ..GraphProto::default() };
    body.input = ["turn", "was", "i", "state"]
        .map(|name| port(name, if name == "state" { FLOAT } else { 7 }, None))
        .to_vec();
    body.output = ["going", "next", "new", "row"].map(|name| port(name, FLOAT, None)).to_vec();
    let body = AttributeProto { g: Some(body), ..attribute("body", attribute_type::GRAPH) };
    let nodes = [
        node("Shape", "x", "shape", &[]),
        node("Gather", "shape zero", "n", &[]),
        float("size", "n"),
        node("Less", "none size", "begin", &[]),
        node("Loop", "- begin zero start", "i_end y rows", &[body]),
    ];
    let stored = [i64s("zero", &[], &[0]), i64s("one", &[], &[1]), f32s("none", &[], &[0.0])];
    let inputs = [port("x", FLOAT, Some(&[S("n"), N(2)])), port("start", FLOAT, Some(&[N(2)]))];
    let file = model(13, &inputs, &stored, &nodes, "y rows");
    let mut fixed = file.clone();
    super::super::fixed::fix(fixed.graph.as_mut().unwrap(), &[("x".into(), vec![3, 2])]).unwrap();
    let m = import(&fixed);
    // The state is doubled in each of three turns, and as many rows are collected.
    let doubled = |n: &&Node| n.op == Op::Binary(BinaryOp::Add) && n.inputs[0] == n.inputs[1];
    assert_eq!(m.graph.body.nodes.iter().filter(doubled).count(), 3, "{}", m.to_text());
    let joined = find(&m, |op| matches!(op, Op::Concat { .. }));
    assert_eq!(joined.inputs.len(), 3, "{}", m.to_text());
    let free = super::super::import_onnx_bytes(&file.encode_to_vec(), None).unwrap_err().to_string();
    assert!(free.contains("--turns"), "{free}");
    let bound = super::super::lower(&file, &Files::default(), Some(5)).unwrap();
    assert!(matches!(find(&bound, |op| op.has_blocks()).op, Op::Loop { carried: 2, most: Some(5), .. }));
    assert_eq!(bound.graph.filled.len(), 1, "{}", bound.to_text());
}
