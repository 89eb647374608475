//! Every way to say no, and that it is never a panic.

use super::*;
use std::path::Path;

fn x() -> [ValueInfoProto; 1] {
    [port("x", FLOAT, Some(&[N(1), N(3), S("h"), S("w")]))]
}

fn one(op: NodeProto) -> ModelProto {
    model(13, &x(), &[], &[op], "y")
}

#[test]
fn everything_unsupported_is_listed_at_once() {
    let mut foreign = node("LongformerAttention", "b", "c", &[]);
    foreign.domain = "com.microsoft".into();
    let nodes = [
        node("Unique", "x", "a", &[]),
        node("Unique", "x", "b", &[]),
        foreign,
        // Of unknown rank only because of the nodes before: no news.
        node("GlobalAveragePool", "c", "d", &[]),
        node("MaxPool", "x", "e f", &[ints("kernel_shape", &[2, 2])]),
        node("Relu", "x", "g", &[int("strange", 3)]),
    ];
    let mut m = model(13, &x(), &[], &nodes, "a d e f g");
    m.opset_import.push(OperatorSetIdProto { domain: "com.microsoft".into(), version: 1 });
    let list = refusals(&m);
    let ops: Vec<&str> = list.iter().map(|u| u.op.as_str()).collect();
    assert_eq!(ops, ["Unique", "LongformerAttention", "MaxPool", "Relu"]);
    assert_eq!((list[0].count, list[0].node.as_str()), (2, "a"));
    assert_eq!(list[0].inputs, ["f32[1, 3, ?, ?]"]);
    assert_eq!(list[1].domain, "com.microsoft");
    assert!(list[2].reason.contains("shape is needed"), "{:?}", list[2]);
    assert!(list[3].reason.contains("strange=3"), "{:?}", list[3]);
    let text = ImportError::Unsupported(list.clone()).to_string();
    assert!(text.starts_with("5 nodes are not implemented:\n  Unique (opset 13)"), "{text}");
    assert!(serde_json::to_string(&list).unwrap().contains("\"opset\":13"));
}

/// Found by fuzzing: sizes of inputs, which cost a file nothing, made tables of them.
#[test]
fn a_few_numbers_do_not_ask_for_much_memory() {
    let square = |n| [port("x", FLOAT, Some(&[N(1), N(1), N(n), N(n)]))];
    let places = node("MaxPool", "x", "y i", &[ints("kernel_shape", &[3, 3])]);
    let list = refusals(&model(13, &square(4096), &[], std::slice::from_ref(&places), "y"));
    assert!(list[0].reason.contains("a table of 150847524 entries"), "{list:?}");
    import(&model(13, &square(64), &[], &[places], "y"));
    let eye = node("EyeLike", "x", "y", &[]);
    let list = refusals(&model(13, &[port("x", FLOAT, Some(&[N(1 << 20), N(1 << 20)]))], &[], &[eye], "y"));
    assert!(list[0].reason.contains("a table of 1099511627776 entries"), "{list:?}");
    let wide = [port("x", FLOAT, None), port("g", FLOAT, Some(&[N(2); 20]))];
    let list = refusals(&model(16, &wide, &[], &[node("GridSample", "x g", "y", &[])], "y"));
    assert!(list[0].reason.contains("3 spatial dimensions"), "{list:?}");
}

#[test]
fn refused_values_are_named() {
    for (op, says) in [
        (node("BatchNormalization", "x x x x x", "y", &[int("training_mode", 1)]), "attribute"),
        (node("Cast", "x", "y", &[int("to", 8)]), "string"),
        (
            node("AveragePool", "x", "y", &[ints("kernel_shape", &[1, 1]), ints("pads", &[-1, 0, 0, 0])]),
            "negative",
        ),
        (
            node("Resize", "x x x", "y", &[string("coordinate_transformation_mode", "tf_crop_and_resize")]),
            "shape is needed",
        ),
        (node("Einsum", "x", "y", &[string("equation", "aaaa->a")]), "diagonal"),
        (node("Gather", "x x x", "y", &[]), "3 operands"),
        (node("Det", "x", "y", &[]), "operator"),
        (node("Upsample", "x x", "y", &[]), "opset 13"),
        (node("And", "x x", "y", &[string("axis", "0")]), "axis"),
        (node("BitShift", "x x", "y", &[]), "element type f32"),
    ] {
        let name = op.op_type.clone();
        let list = refusals(&one(op));
        assert_eq!(list.len(), 1, "{list:?}");
        assert!(list[0].reason.contains(says), "{name}: {}", list[0].reason);
    }
}

#[test]
fn nodes_that_contradict_their_operator() {
    for (op, says) in [
        (node("Transpose", "x", "y", &[ints("perm", &[0, 1, 2, 2])]), "perm"),
        (node("Concat", "x x", "y", &[]), "axis"),
        (node("Concat", "x x", "y", &[int("axis", 4)]), "axis 4 of 4"),
        (node("MaxPool", "x", "y", &[]), "kernel_shape"),
        (node("MaxPool", "x", "y", &[ints("kernel_shape", &[2])]), "kernel_shape"),
        (node("MaxPool", "x", "y", &[ints("kernel_shape", &[2, 0])]), "kernel_shape"),
        (node("Softmax", "x", "y", &[string("axis", "a")]), "not an integer"),
        (node("Squeeze", "x", "y", &[ints("axes", &[1])]), ""),
        (node("DepthToSpace", "x", "y", &[int("blocksize", 0)]), "blocksize"),
        (node("Split", "x", "y z", &[int("axis", 1)]), "equal parts"),
    ] {
        let name = op.op_type.clone();
        let opset = if name == "Squeeze" { 11 } else { 13 };
        let m = model(opset, &x(), &[], &[op], "y");
        match try_import(&m) {
            Err(ImportError::Node { node, op, reason }) => {
                assert_eq!((node.as_str(), &op), ("y", &name));
                assert!(reason.contains(says), "{name}: {reason}");
            }
            other => panic!("{name}: {other:?}"),
        }
    }
}

#[test]
fn broken_graphs() {
    let relu = |a: &str, b: &str| node("Relu", a, b, &[]);
    let get = |nodes: &[NodeProto], out: &str| try_import(&model(13, &x(), &[], nodes, out)).unwrap_err();
    assert!(
        matches!(get(&[relu("gone", "y")], "y"), ImportError::MissingValue { node, value } if node == "y" && value == "gone")
    );
    assert!(matches!(get(&[relu("x", "y")], "z"), ImportError::MissingValue { .. }));
    assert!(matches!(get(&[relu("y", "z"), relu("z", "y")], "y"), ImportError::Cycle { .. }));
    assert!(matches!(get(&[relu("y", "y")], "y"), ImportError::Cycle { .. }));
    assert!(matches!(get(&[relu("x", "y"), relu("x", "y")], "y"), ImportError::DuplicateValue { .. }));
    assert!(matches!(
        get(&[relu("x", "x")], "x"),
        ImportError::Cycle { .. } | ImportError::DuplicateValue { .. }
    ));
    let mut foreign = relu("x", "y");
    foreign.domain = "elsewhere".into();
    assert!(
        matches!(get(&[foreign], "y"), ImportError::DomainNotImported { domain, .. } if domain == "elsewhere")
    );
    let mut twice = one(relu("x", "y"));
    let graph = twice.graph.as_mut().unwrap();
    graph.input.push(graph.input[0].clone());
    assert!(matches!(try_import(&twice), Err(ImportError::DuplicateValue { .. })));
}

#[test]
fn opsets_and_ports() {
    for version in [0, -1, super::super::NEWEST_OPSET + 1] {
        let m = model(version, &x(), &[], &[node("Relu", "x", "y", &[])], "y");
        assert!(matches!(try_import(&m), Err(ImportError::Opset { version: v, .. }) if v == version));
    }
    let mut m = one(node("Relu", "x", "y", &[]));
    m.graph.as_mut().unwrap().input[0].r#type = None;
    assert!(matches!(try_import(&m), Err(ImportError::Port { kind: "input", .. })));
    let m = model(13, &[port("x", 8, Some(&[N(1)]))], &[], &[node("Identity", "x", "y", &[])], "y");
    let list = refusals(&m);
    assert_eq!((list[0].op.as_str(), list[0].node.as_str()), ("graph input", "x"));
    assert!(list[0].reason.contains("string"), "{list:?}");
    let huge = [port("x", FLOAT, Some(&[N(1 << 40), N(1 << 40)]))];
    assert!(matches!(try_import(&model(13, &huge, &[], &[], "x")), Err(ImportError::Port { .. })));
}

#[test]
fn broken_tensors() {
    let with = |tensor: TensorProto| {
        let m = model(13, &x(), &[tensor], &[node("Add", "x w", "y", &[])], "y");
        try_import(&m).unwrap_err().to_string()
    };
    let good = f32s("w", &[2], &[1., 2.]);
    let cases: [(TensorProto, &str); 8] = [
        (TensorProto { dims: vec![3], ..good.clone() }, "12 bytes, 8 are stored"),
        (TensorProto { dims: vec![-2], ..good.clone() }, "dimension -2"),
        (TensorProto { dims: vec![i64::MAX, 16], ..good.clone() }, "address space"),
        (TensorProto { dims: vec![0, i64::MAX, 16], ..good.clone() }, "address space"),
        (TensorProto { data_type: 17, ..good.clone() }, "operand 1: element type float8e4m3fn"),
        (TensorProto { raw_data: Some(vec![0u8; 7].into()), ..good.clone() }, "7 are stored"),
        (TensorProto { segment: Some(SegmentProto { begin: 0, end: 1 }), ..good.clone() }, "segments"),
        (TensorProto { data_location: 1, ..good.clone() }, "location"),
    ];
    for (tensor, says) in cases {
        let error = with(tensor);
        assert!(error.contains(says), "{error}");
        assert!(error.contains("tensor `w`") || says.starts_with("operand"), "{error}");
    }
    let mut sparse = one(node("Relu", "x", "y", &[]));
    sparse.graph.as_mut().unwrap().sparse_initializer.push(SparseTensorProto { values: Some(good) });
    assert!(try_import(&sparse).unwrap_err().to_string().contains("sparse"));
}

fn external(location: &str, offset: &str) -> ModelProto {
    let entry = |key: &str, value: &str| StringStringEntryProto { key: key.into(), value: value.into() };
    let w = TensorProto {
        float_data: Vec::new(),
        data_location: 1,
        external_data: vec![entry("location", location), entry("offset", offset)],
        ..f32s("w", &[2], &[])
    };
    model(13, &x(), &[w], &[node("Add", "x w", "y", &[])], "y")
}

#[test]
fn external_data_stay_in_the_models_folder() {
    let dir = std::env::temp_dir().join(format!("edge-import-{}", std::process::id()));
    let inner = dir.join("model");
    std::fs::create_dir_all(inner.join("sub")).unwrap();
    std::fs::write(dir.join("outside.bin"), [0; 16]).unwrap();
    let values: Vec<u8> = [0f32, 1., 2.].iter().flat_map(|v| v.to_le_bytes()).collect();
    std::fs::write(inner.join("sub/w.bin"), values).unwrap();
    let import = |location: &str, offset: &str, base: Option<&Path>| {
        super::super::import_onnx_bytes(&external(location, offset).encode_to_vec(), base)
    };
    let m = import("sub/w.bin", "4", Some(&inner)).unwrap();
    let add = find(&m, |op| matches!(op, Op::Binary(_)));
    assert_eq!(floats(&m, operand(&add, 1)), [1., 2.]);
    let outside = dir.join("outside.bin");
    for (location, offset) in [
        ("../outside.bin", "0"),
        ("sub/../../outside.bin", "0"),
        (outside.to_str().unwrap(), "0"),
        ("", "0"),
        ("sub", "0"),
        ("gone.bin", "0"),
        ("sub/w.bin", "8"),
        ("sub/w.bin", "18446744073709551615"),
        ("sub/w.bin", "x"),
    ] {
        assert!(
            matches!(import(location, offset, Some(&inner)), Err(ImportError::Tensor { .. })),
            "{location}"
        );
    }
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink(&outside, inner.join("link.bin")).unwrap();
        assert!(matches!(import("link.bin", "0", Some(&inner)), Err(ImportError::Tensor { .. })));
    }
    assert!(matches!(import("sub/w.bin", "0", None), Err(ImportError::Tensor { .. })));
    std::fs::remove_dir_all(&dir).unwrap();
}

/// A model with most kinds of fields in it.
fn rich() -> Vec<u8> {
    let nodes = [
        node("Constant", "", "k", &[tensor("value", i64s("k", &[2], &[-1, 3]))]),
        node("Conv", "x w", "a", &[ints("pads", &[1, 1, 1, 1]), string("auto_pad", "NOTSET")]),
        node("Clip", "a - six", "b", &[]),
        node("Reshape", "b k", "c", &[]),
        node(
            "If",
            "flag",
            "d",
            &[
                graph("then_branch", &[node("Relu", "c", "e", &[])], "e"),
                graph("else_branch", &[node("LeakyRelu", "c", "f", &[float("alpha", 0.5)])], "f"),
            ],
        ),
    ];
    let stored = [f32s("w", &[3, 3, 3, 3], &[0.5; 81]), f32s("six", &[], &[6.])];
    let inputs = [x()[0].clone(), port("flag", 9, Some(&[]))];
    model(13, &inputs, &stored, &nodes, "d").encode_to_vec()
}

#[test]
fn a_model_cut_anywhere_is_an_error_or_a_model() {
    let bytes = rich();
    assert!(import_onnx_bytes(&bytes, None).is_ok());
    for end in 0..bytes.len() {
        // Whole messages may be missing at the end; what is left must hold together or be refused.
        let _ = import_onnx_bytes(&bytes[..end], None);
    }
    assert!(matches!(import_onnx_bytes(&[], None), Err(ImportError::Decode { .. })));
    assert!(matches!(import_onnx_bytes(&bytes[..bytes.len() / 2], None), Err(ImportError::Decode { .. })));
}

#[test]
fn a_model_with_any_byte_changed_does_not_panic() {
    let bytes = rich();
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    for at in 0..bytes.len() {
        for _ in 0..4 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let mut changed = bytes.clone();
            changed[at] = (state >> 56) as u8;
            let _ = import_onnx_bytes(&changed, None);
        }
    }
}

#[test]
fn files_that_are_none() {
    let gone = Path::new("/nonexistent/model.onnx");
    assert!(matches!(super::super::import_onnx(gone), Err(ImportError::Read { path, .. }) if path == gone));
    let folder = std::env::temp_dir();
    assert!(matches!(super::super::import_onnx(&folder), Err(ImportError::Read { .. })));
    assert!(matches!(import_onnx_bytes(b"\x7fELF\x02\x01\x01", None), Err(ImportError::Decode { .. })));
}
