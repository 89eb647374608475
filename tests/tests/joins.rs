//! Parts of joined values are computed where they belong, and parts of cut ones read where they lie: with equal bits,
//! without the copies, in no more memory.

use edge_runtime::device::Device;
use edge_runtime::pack::{Acts, PackFile, Take};
use edge_runtime::plan::{Plan, PlanOptions};
use edge_runtime::weights::Registry;
use edge_runtime::{Model, Session};
use edge_tests::onnx::Attr::{Int, Ints};
use edge_tests::onnx::Builder;
use edge_tests::onnx::Dim::{Free, N};
use edge_tests::{Folder, convert_in_process, inputs_of};
use std::sync::Arc;

const SAME: &[(&str, edge_tests::onnx::Attr<'static>)] =
    &[("kernel_shape", Ints(&[3, 3])), ("pads", Ints(&[1, 1, 1, 1]))];

/// Steps of the node `name` that copy, by rung, for every rung of a converted model; results must not depend on joins.
fn copies(onnx: &[u8], node: &str) -> Vec<(String, usize)> {
    let folder = Folder::new("joins");
    let pack = folder.file("m.pack");
    convert_in_process(&folder.write("m.onnx", onnx), &pack, &[]);
    let model = Arc::new(all_codes(&pack));
    let mut counts = Vec::new();
    for rung in &model.header().rungs {
        let run = |threads: usize, keep_values: bool, fast: bool| -> (Plan, Vec<Vec<u8>>) {
            let device = Device::builder().threads(Some(threads)).budget(Some(1 << 30)).build().unwrap();
            let inputs = inputs_of(&model, rung, 2, 4);
            let specs: Vec<_> = inputs.iter().map(|(spec, _)| spec.clone()).collect();
            let plan = Plan::new(
                &model,
                rung,
                &specs,
                &PlanOptions { threads, keep_values, fast, ..PlanOptions::default() },
            )
            .unwrap();
            let mut session = Session::with_plan(&device, &model, rung, plan.clone()).unwrap();
            for (i, (_, data)) in inputs.iter().enumerate() {
                session.set_input(i, data).unwrap();
            }
            session.run().unwrap();
            let outputs = (0..plan.outputs.len()).map(|i| session.output(i).1.to_vec()).collect();
            (plan, outputs)
        };
        for fast in [false, true] {
            // A plan that keeps every value joins nothing.
            let (apart, want) = run(1, true, fast);
            for threads in [1, 3] {
                let (joined, got) = run(threads, false, fast);
                assert!(got == want, "{}: joining changes the result", rung.id);
                assert!(threads > 1 || joined.arena_bytes <= apart.arena_bytes);
            }
        }
        counts.push((rung.id.clone(), copies_of(&run(1, false, false).0, node)));
    }
    counts
}

/// A pack whose integer rungs hold every value as codes and no weight of more than 8 bits: what the search kept as floats depends on noise.
fn all_codes(pack: &std::path::Path) -> Model {
    let file = PackFile::open(pack).unwrap();
    let mut header = file.header().clone();
    for value in header.graphs.iter_mut().flat_map(|graph| &mut graph.values) {
        value.range = value.range.or(Some((-8.0, 8.0)));
    }
    header.rungs.iter_mut().for_each(|rung| rung.floats.clear());
    for take in header.rungs.iter_mut().filter(|rung| rung.acts == Acts::I8).flat_map(|rung| &mut rung.takes)
    {
        *take = take.map(|Take(root, level)| Take(root, level.min(4)));
    }
    let source = Arc::new(file.map(file.file_len()).unwrap());
    Model::new(Arc::new(header), source, Arc::new(Registry::standard()))
}

fn copies_of(plan: &Plan, node: &str) -> usize {
    let of_node = |s: &&edge_runtime::plan::Step| plan.names[s.name as usize] == node;
    plan.steps.iter().filter(of_node).filter(|s| s.op.name() == "copy").count()
}

#[test]
fn branches_write_their_channels_into_the_joined_value() {
    let mut b = Builder::new();
    b.input("x", &[Free("n"), N(8), N(49), N(43)]).output("y");
    b.weight("w1", &[24, 8, 3, 3], 0.2).weight("w2", &[5, 8, 1, 1], 0.4).weight("w3", &[16, 1, 3, 3], 0.4);
    b.weight("w0", &[16, 8, 1, 1], 0.4).weight("w4", &[12, 45, 1, 1], 0.2);
    b.node("Conv", "x w1", "a", SAME).node("Conv", "x w2", "b", &[("kernel_shape", Ints(&[1, 1]))]);
    b.node("Conv", "x w0", "d", &[("kernel_shape", Ints(&[1, 1]))]);
    b.node("Conv", "d w3", "c", &[SAME, &[("group", Int(16))]].concat());
    b.node("Concat", "a b c", "cat", &[("axis", Int(1))]);
    b.node("Conv", "cat w4", "y", &[("kernel_shape", Ints(&[1, 1]))]);
    for (rung, copies) in copies(&b.finish("branches"), "Concat_cat") {
        // In an integer rung parts of other scales are requantized on their way in.
        assert!(copies == 0 || rung.contains("-a8"), "{rung}: {copies} copies into the joined value");
    }
}

#[test]
fn parts_are_read_where_they_lie() {
    let mut b = Builder::new();
    b.input("x", &[Free("n"), N(8), N(46), N(40)]).output("y");
    b.weight("w0", &[48, 8, 1, 1], 0.4).weight("w1", &[16, 16, 3, 3], 0.15).weight("w2", &[8, 16, 1, 1], 0.3);
    b.weight("w3", &[4, 16, 3, 3], 0.2);
    let one: &[(&str, _)] = &[("kernel_shape", Ints(&[1, 1]))];
    b.node("Conv", "x w0", "h", one).node("Split", "h", "l m r", &[("axis", Int(1))]);
    b.node("Conv", "l w1", "a", SAME).node("Conv", "m w2", "b", one).node("Conv", "r w3", "c", SAME);
    b.node("Concat", "a b c", "y", &[("axis", Int(1))]);
    for (rung, copies) in copies(&b.finish("parts"), "Split_l") {
        assert_eq!(copies, 0, "{rung}: copies out of the cut value");
    }
}

#[test]
fn a_skip_that_would_live_long_is_copied() {
    // Decoders join what the encoder had at full resolution: the joined value must not live from there on.
    let mut b = Builder::new();
    b.input("x", &[Free("n"), N(8), N(48), N(48)]).output("y");
    // The wide middle is where most memory lives.
    b.weight("w0", &[16, 8, 3, 3], 0.2).weight("w1", &[256, 16, 3, 3], 0.1).weight(
        "w2",
        &[16, 256, 1, 1],
        0.1,
    );
    b.weight("w3", &[4, 32, 3, 3], 0.1).weight("w4", &[16, 16, 2, 2], 0.2).weight("w5", &[16, 16, 2, 2], 0.2);
    let half: &[(&str, _)] = &[("kernel_shape", Ints(&[2, 2])), ("strides", Ints(&[2, 2]))];
    b.node("Conv", "x w0", "e", SAME).node("Conv", "e w5", "p", half);
    b.node("Conv", "p w1", "m", SAME).node("Conv", "m w2", "n1", &[("kernel_shape", Ints(&[1, 1]))]);
    b.node("ConvTranspose", "n1 w4", "u", half).node("Concat", "e u", "cat", &[("axis", Int(1))]);
    b.node("Conv", "cat w3", "y", SAME);
    for (rung, copies) in copies(&b.finish("skip"), "Concat_cat") {
        // In an integer rung parts of other scales are requantized on their way in.
        assert!(
            copies == 2 || rung.contains("-a8"),
            "{rung}: {copies} of the skip and of what no product makes"
        );
    }
}

#[test]
fn parts_along_the_first_axis_are_computed_in_place_by_any_operation() {
    let mut b = Builder::new();
    b.input("x", &[N(3), N(16)]).output("y");
    b.weight("w", &[16, 16], 0.3);
    b.node("Gemm", "x w", "a", &[("transB", Int(1))]).node("Softmax", "a", "s", &[("axis", Int(1))]);
    b.node("Exp", "s", "e", &[]).node("Concat", "a s e a", "cat", &[("axis", Int(0))]);
    b.node("Tanh", "cat", "y", &[]);
    for (rung, copies) in copies(&b.finish("rows"), "Concat_cat") {
        // `a` is there twice: one of the two is a copy.
        assert!(copies <= 2, "{rung}: {copies} copies");
    }
}

#[test]
fn a_padded_value_keeps_its_border() {
    let mut b = Builder::new();
    b.input("x", &[N(1), N(8), N(5), N(5)]).output("y");
    b.weight("w0", &[16, 8, 1, 1], 0.4).weight("w1", &[4, 16, 3, 3], 0.2);
    b.node("Conv", "x w0", "h", &[("kernel_shape", Ints(&[1, 1]))]);
    b.ints("pads", &[0, 0, 2, 1, 0, 0, 1, 2]).node("Pad", "h pads", "p", &[]);
    b.node("Relu", "p", "r", &[]).node("Conv", "r w1", "y", SAME);
    copies(&b.finish("padded"), "Pad_p");
}
