//! Models whose inputs have free dimensions, converted without samples and without `--shape`.

use edge_runtime::pack::PackFile;
use edge_tests::onnx::Attr::{Int, Ints};
use edge_tests::onnx::Dim::{Free, N};
use edge_tests::onnx::{Builder, Dim};
use edge_tests::{Ended, Folder, edge_convert};

/// Sound in windows, `x` [batch, samples], and a state `h` [2, `states`, 8], which must have as many samples in a batch.
fn windows(window: i64, states: Dim) -> Vec<u8> {
    let mut b = Builder::new();
    b.input("x", &[Free("batch"), Free("samples")]).input("h", &[N(2), states, N(8)]).output("y");
    b.weight("w", &[8, 1, window], 0.1).ints("one", &[1]).ints("zero", &[0]);
    b.node("Unsqueeze", "x one", "sound", &[]);
    b.node("Conv", "sound w", "frames", &[("strides", Ints(&[100]))]);
    b.node("ReduceMean", "frames", "mean", &[("axes", Ints(&[2])), ("keepdims", Int(0))]);
    b.node("Unsqueeze", "mean zero", "row", &[]).node("Concat", "h row", "y", &[("axis", Int(0))]);
    b.finish("windows")
}

fn convert(folder: &Folder, model: &[u8], args: &str) -> Ended {
    let source = folder.write("m.onnx", model);
    edge_convert().arg(source).arg("-o").arg(folder.file("m.pack")).args(args).run()
}

/// Shapes of the inputs that golden data were made with.
fn golden_shapes(folder: &Folder) -> Vec<Vec<usize>> {
    let file = PackFile::open(folder.file("m.pack")).unwrap();
    let golden = file.header().golden.as_ref().unwrap();
    golden.inputs.iter().map(|input| input.dims.clone()).collect()
}

#[test]
fn sizes_grow_until_the_model_can_be_planned() {
    for (window, samples) in [(10, 16), (300, 512), (2049, 4096)] {
        let folder = Folder::new("free");
        let ended = convert(&folder, &windows(window, Free("batch")), "");
        assert_eq!(ended.code, Some(0), "{}", ended.stderr);
        assert_eq!(golden_shapes(&folder), [vec![1, samples], vec![2, 1, 8]]);
    }
}

#[test]
fn a_state_s_second_dimension_may_be_one() {
    let folder = Folder::new("free");
    let ended = convert(&folder, &windows(300, Free("other")), "");
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert_eq!(golden_shapes(&folder), [vec![1, 512], vec![2, 1, 8]]);
}

#[test]
fn a_given_shape_says_the_size_of_a_name_for_all_inputs() {
    let folder = Folder::new("free");
    let ended = convert(&folder, &windows(300, Free("batch")), "--shape x=3,700");
    assert_eq!(ended.code, Some(0), "{}", ended.stderr);
    assert_eq!(golden_shapes(&folder), [vec![3, 700], vec![2, 3, 8]]);
}

#[test]
fn where_no_size_suits_the_error_asks_for_one() {
    let folder = Folder::new("free");
    let ended = convert(&folder, &windows(100_000, Free("batch")), "");
    assert_eq!(ended.code, Some(3), "{}", ended.stderr);
    for words in ["a window of 100000 does not fit 16 elements", "--shape", "--calib"] {
        assert!(ended.stderr.contains(words), "{words}: {}", ended.stderr);
    }
}
