//! Every form, its names and values.

use super::{expected, folder};
use crate::import::checkpoint::{Checkpoint, Listing};
use edge_runtime::graph::DType;
use std::borrow::Cow;

/// An element's value in f64, exactly.
fn values(dtype: DType, bytes: &[u8]) -> Vec<f64> {
    match dtype {
        DType::F64 => bytes.as_chunks::<8>().0.iter().map(|b| f64::from_le_bytes(*b)).collect(),
        DType::I64 => bytes.as_chunks::<8>().0.iter().map(|b| i64::from_le_bytes(*b) as f64).collect(),
        other => crate::draft::to_f32(other, bytes).into_iter().map(f64::from).collect(),
    }
}

#[test]
fn files_hold_what_their_libraries_say() {
    let expected = expected();
    for (file, tensors) in expected.as_object().unwrap() {
        let checkpoint = Checkpoint::open(&folder().join(file)).unwrap_or_else(|e| panic!("{file}: {e}"));
        let tensors = tensors.as_object().unwrap();
        let mut found: Vec<&str> = checkpoint.tensors().iter().map(|t| t.name.as_str()).collect();
        found.sort_unstable();
        let mut names: Vec<&str> = tensors.keys().map(String::as_str).collect();
        names.sort_unstable();
        assert_eq!(found, names, "{file}");
        for (name, said) in tensors {
            let info = checkpoint.get(name).unwrap();
            assert_eq!(info.dtype.name(), said[0], "{file} {name}");
            assert_eq!(serde_json::json!(info.dims), said[1], "{file} {name}");
            let bytes = checkpoint.bytes(name).unwrap();
            assert_eq!(serde_json::json!(values(info.dtype, &bytes)), said[2], "{file} {name}");
        }
    }
    assert_eq!(expected.as_object().unwrap().len(), 15);
}

#[test]
fn elements_in_order_are_borrowed_from_the_file() {
    let borrowed = |file: &str, name: &str| {
        let checkpoint = Checkpoint::open(&folder().join(file)).unwrap();
        matches!(checkpoint.bytes(name).unwrap(), Cow::Borrowed(_))
    };
    assert!(borrowed("views.pth", "whole") && borrowed("views-legacy.pth", "whole"));
    assert!(borrowed("views.pth", "last") && !borrowed("views.pth", "transposed"));
    assert!(borrowed("arrays.npz", "a") && !borrowed("arrays-deflated.npz", "a"));
    assert!(!borrowed("arrays.npz", "fortran"));
    assert!(borrowed("model.safetensors", "a") && borrowed("sharded", "number"));
}

#[test]
fn the_model_is_found_among_what_a_training_script_saves() {
    let path = folder().join("every-type.pth");
    let checkpoint = Checkpoint::open(&path).unwrap();
    assert_eq!(
        (checkpoint.part(), checkpoint.others()),
        ("state_dict", &["top1".to_string(), "optimizer".to_string()][..])
    );
    let optimizer = Checkpoint::open_part(&path, "optimizer").unwrap();
    let names: Vec<&str> = optimizer.tensors().iter().map(|t| t.name.as_str()).collect();
    assert_eq!(names, ["state.0.momentum_buffer", "state.1.momentum_buffer"]);
    assert_eq!(optimizer.floats("state.1.momentum_buffer").unwrap(), [1.0, 1.0]);
    let whole = Checkpoint::open_part(&path, "optimizer.state.1").unwrap();
    assert_eq!(whole.tensors()[0].name, "momentum_buffer");
    let e = Checkpoint::open_part(&path, "ema").unwrap_err().to_string();
    assert!(
        e.ends_with(
            "no part `ema`; there is `epoch`, `state_dict`, `best`, `top1`, `args`, `optimizer`, `device`, `shape`"
        ),
        "{e}"
    );
    let e = Checkpoint::open_part(&folder().join("arrays.npz"), "ema").unwrap_err().to_string();
    assert!(e.contains("part `ema` of a form that has none"), "{e}");
}

#[test]
fn a_listing_says_names_types_shapes_and_bytes() {
    let listing = Listing::of(&Checkpoint::open(&folder().join("every-type.pth")).unwrap());
    assert_eq!(listing.bytes, 6 * (4 + 2 + 2 + 8 + 1 + 1 + 2 + 4 + 8 + 1) + 8);
    let text = listing.to_string();
    assert!(text.contains("layer.2.weight  bf16  [2, 3]            12\n"), "{text}");
    assert!(
        text.ends_with("12 tensors, 206 bytes, in part `state_dict`; other parts: top1, optimizer\n"),
        "{text}"
    );
}

#[test]
fn a_tensor_that_is_not_there_is_told_with_those_like_it() {
    let checkpoint = Checkpoint::open(&folder().join("every-type.pth")).unwrap();
    let e = checkpoint.floats("layer.2.weights").unwrap_err().to_string();
    assert!(e.contains("no tensor `layer.2.weights`; there is `layer.2.weight`, "), "{e}");
}
