//! Weights that no sample reads, as those of a branch that none takes: nothing shows what their precision costs.

use edge_runtime::device::Device;
use edge_runtime::graph::DType;
use edge_runtime::pack::{Acts, PackFile, Rung};
use edge_runtime::plan::InputSpec;
use edge_runtime::random::uniform;
use edge_runtime::weights::Registry;
use edge_runtime::{Model, Session};
use edge_tests::onnx::Dim::N;
use edge_tests::onnx::{Builder, FLOAT, Message};
use edge_tests::{Folder, edge_convert, open};
use std::sync::Arc;

/// Elements of a row.
const K: usize = 96;

/// ONNX's number of booleans.
const BOOL: i64 = 9;

/// A graph in an attribute, whose one node multiplies `x`.
fn branch(name: &str, weight: &str) -> Message {
    let names = [(1, "x"), (1, weight), (2, name), (4, "MatMul")];
    let node =
        names.iter().fold(Message::default(), |node, (field, name)| node.bytes(*field, name.as_bytes()));
    let output = Message::default().bytes(1, name.as_bytes());
    let graph = Message::default().message(1, &node).message(12, &output);
    Message::default().bytes(1, name.as_bytes()).message(6, &graph).int(20, 5)
}

/// `y = relu(x w) v` with one `w` where `c` holds and another where it does not; noise has `c` hold.
fn model() -> Vec<u8> {
    let mut b = Builder::new();
    b.input("x", &[N(8), N(K as i64)]).float_input("c", BOOL, &[]).float_output("y", FLOAT);
    for (name, columns) in [("w1", 64), ("w2", 64)] {
        b.weight(name, &[K as i64, columns], 0.2);
    }
    b.weight("v", &[64, 16], 0.2);
    let choice = [(1, "c"), (2, "h"), (4, "If")]
        .iter()
        .fold(Message::default(), |node, (field, name)| node.bytes(*field, name.as_bytes()))
        .message(5, &branch("then_branch", "w1"))
        .message(5, &branch("else_branch", "w2"));
    b.raw(1, &choice).node("Relu", "h", "r", &[]).node("MatMul", "r v", "y", &[]);
    b.finish("branches")
}

/// What a rung computes.
fn run(device: &Arc<Device>, model: &Arc<Model>, rung: &Rung, c: bool) -> Vec<f32> {
    let x: Vec<u8> = (0..8 * K as u64).flat_map(|i| (uniform(77, i) * 2.0 - 1.0).to_le_bytes()).collect();
    let flag = [u8::from(c)];
    let spec = |name: &str, dtype, dims: &[usize], value: &[u8]| InputSpec {
        name: name.into(),
        dtype,
        dims: dims.to_vec(),
        value: Some(value.into()),
    };
    let specs = [spec("x", DType::F32, &[8, K], &x), spec("c", DType::Bool, &[], &flag)];
    let mut session = Session::new(device, model, rung, &specs).unwrap();
    session.set_input(0, &x).unwrap();
    session.set_input(1, &flag).unwrap();
    session.run().unwrap();
    session.output(0).1.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
}

/// In dB.
fn sqnr(want: &[f32], got: &[f32]) -> f64 {
    let power = |values: &mut dyn Iterator<Item = f32>| values.map(|v| f64::from(v).powi(2)).sum::<f64>();
    let noise = power(&mut want.iter().zip(got).map(|(a, b)| a - b));
    10.0 * (power(&mut want.iter().copied()) / noise.max(1e-30)).log10()
}

#[test]
fn the_branch_that_no_sample_takes_is_as_good_as_the_other() {
    let folder = Folder::new("unread");
    let (source, pack) = (folder.write("m.onnx", &model()), folder.file("m.pack"));
    let ended = edge_convert().arg(source).arg("-o").arg(&pack).arg("--keep-float").run();
    let said = &ended.expect(0).stdout;
    assert!(said.contains("not read by any sample: 1 of 3 weights, such as w2"), "{said}");
    let rungs = PackFile::open(&pack).unwrap().header().rungs.clone();
    let model = open(&pack, Registry::standard());
    let device = Device::builder().threads(Some(1)).budget(Some(1 << 40)).build().unwrap();
    let exact = rungs.last().unwrap();
    let want = [true, false].map(|c| run(&device, &model, exact, c));
    let mut seen = 0;
    for rung in &rungs[..rungs.len() - 1] {
        let [taken, other] = [0, 1].map(|i| sqnr(&want[i], &run(&device, &model, rung, i == 0)));
        // A step of two bits is 12 dB, and one of the two weights has it first.
        assert!(other > taken.min(60.0) - 13.0, "{}: {taken:.1} dB, and {other:.1} in the other", rung.id);
        seen += usize::from(rung.acts == Acts::F32);
    }
    assert!(seen > 3);
}
