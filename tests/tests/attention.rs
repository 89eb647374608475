//! Attention by blocks of rows has the bits of the products and the softmax that it stands for, for every number of
//! threads and heads, and never holds the scores of a head.

use edge_runtime::device::Device;
use edge_runtime::graph::DType;
use edge_runtime::pack::Acts;
use edge_runtime::plan::InputSpec;
use edge_runtime::random::uniform;
use edge_runtime::weights::Registry;
use edge_runtime::{Model, Session};
use edge_tests::onnx::Attr::{Float, Int, Ints};
use edge_tests::onnx::Builder;
use edge_tests::onnx::Dim::Free;
use edge_tests::{Folder, convert_in_process, open};
use std::sync::Arc;

/// softmax(q k^T [+ mask]) v; with `shown`, the softmax is an output too, which keeps it a value of its own.
fn model(masked: bool, shown: bool) -> Vec<u8> {
    let mut b = Builder::new();
    b.input("q", &[Free("b"), Free("h"), Free("m"), Free("d")]);
    b.input("k", &[Free("b"), Free("h"), Free("n"), Free("d")]);
    b.input("v", &[Free("b"), Free("h"), Free("n"), Free("e")]).output("y");
    b.node("Transpose", "k", "kt", &[("perm", Ints(&[0, 1, 3, 2]))]).node("MatMul", "q kt", "s0", &[]);
    let mut scores = "s0";
    if masked {
        b.input("mask", &[Free("b"), Free("mh"), Free("mm"), Free("n")]).node("Add", "s0 mask", "s1", &[]);
        scores = "s1";
    }
    b.node("Softmax", scores, "p", &[("axis", Int(-1))]).node("MatMul", "p v", "y", &[]);
    if shown {
        b.node("LeakyRelu", "p", "shown", &[("alpha", Float(1.0))]).output("shown");
    }
    b.finish("attention")
}

fn converted(masked: bool, shown: bool) -> Arc<Model> {
    let folder = Folder::new("attention");
    let pack = folder.file("m.pack");
    convert_in_process(&folder.write("m.onnx", &model(masked, shown)), &pack, &[]);
    open(&pack, Registry::standard())
}

/// The first output and the bytes of the arena.
fn run(model: &Arc<Model>, dims: &[(&str, Vec<usize>)], threads: usize) -> (Vec<u8>, usize) {
    let rung = model.header().rungs.iter().find(|r| r.acts == Acts::F32).unwrap();
    let inputs: Vec<(InputSpec, Vec<u8>)> = dims
        .iter()
        .enumerate()
        .map(|(i, (name, dims))| {
            let count = dims.iter().product::<usize>() as u64;
            let data: Vec<u8> =
                (0..count).flat_map(|j| (uniform(i as u64, j) * 6.0 - 3.0).to_le_bytes()).collect();
            let spec =
                InputSpec { name: name.to_string(), dtype: DType::F32, dims: dims.clone(), value: None };
            (spec, data)
        })
        .collect();
    let device = Device::builder().threads(Some(threads)).budget(Some(1 << 30)).build().unwrap();
    let specs: Vec<_> = inputs.iter().map(|(spec, _)| spec.clone()).collect();
    let mut session = Session::new(&device, model, rung, &specs).unwrap();
    for (i, (_, data)) in inputs.iter().enumerate() {
        session.set_input(i, data).unwrap();
    }
    session.run().unwrap();
    (session.output(0).1.to_vec(), session.plan().arena_bytes)
}

#[test]
fn bits_are_those_of_the_operations_it_stands_for() {
    // Batch, heads, queries, keys, depth, depth of values, heads and rows of the mask.
    let cases = [
        [1, 1, 1, 1, 1, 1, 1, 1],
        [1, 2, 5, 7, 3, 4, 1, 1],
        [2, 3, 50, 33, 8, 17, 3, 50],
        [1, 1, 97, 130, 32, 16, 1, 97],
        [2, 1, 48, 16, 16, 32, 1, 1],
        [1, 5, 3, 0, 4, 4, 1, 1],
    ];
    let packs = [false, true].map(|masked| [false, true].map(|shown| converted(masked, shown)));
    for [b, h, m, n, d, e, mh, mm] in cases {
        let mut dims = vec![("q", vec![b, h, m, d]), ("k", vec![b, h, n, d]), ("v", vec![b, h, n, e])];
        for masked in [false, true] {
            if masked {
                dims.push(("mask", vec![b, mh, mm, n]));
            }
            let [fused, apart] = &packs[usize::from(masked)];
            let (want, _) = run(apart, &dims, 1);
            for threads in [1, 2, 4] {
                let (got, _) = run(fused, &dims, threads);
                assert!(got == want, "{b} {h} {m} {n} {d} {e}, mask {masked}, {threads} threads");
            }
        }
    }
}

#[test]
fn scores_are_never_held_whole() {
    let (m, n) = (1024, 1024);
    let dims = [("q", vec![1, 2, m, 16]), ("k", vec![1, 2, n, 16]), ("v", vec![1, 2, n, 16])];
    let (_, arena) = run(&converted(false, false), &dims, 1);
    assert!(arena < m * n * 4, "{arena} bytes for scores of {}", m * n * 4);
}
