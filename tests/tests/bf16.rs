//! Products that round their operands to bf16: asked for, where the CPU has them, near the floats, the same for any number of threads.

use edge_kernels::Isa;
use edge_runtime::device::Device;
use edge_runtime::pack::Acts;
use edge_runtime::plan::{InputSpec, Plan, PlanOptions};
use edge_runtime::weights::Registry;
use edge_runtime::{Model, Session};
use edge_tests::onnx::Attr::{Int, Ints};
use edge_tests::onnx::Builder;
use edge_tests::onnx::Dim::N;
use edge_tests::{Folder, Sample, convert_in_process, edge_run, inputs_of, models, open};
use std::sync::Arc;

/// Convolutions whose windows lie in a ring (even channels), are gathered (odd channels, dilation), are rows (1 x 1, odd and even), and
/// in groups; then a dense layer.
fn model() -> Vec<u8> {
    let mut b = Builder::new();
    b.input("x", &[N(1), N(5), N(29), N(31)]).output("y");
    let attrs =
        |kernel: &'static [i64], pads: &'static [i64], stride: &'static [i64], dilation: &'static [i64]| {
            vec![
                ("kernel_shape", Ints(kernel)),
                ("pads", Ints(pads)),
                ("strides", Ints(stride)),
                ("dilations", Ints(dilation)),
            ]
        };
    b.weight("w0", &[24, 5, 3, 3], 0.3).weight("w1", &[19, 24, 5, 5], 0.1).weight("w2", &[32, 19, 1, 1], 0.3);
    b.weight("w3", &[36, 16, 3, 3], 0.15)
        .weight("w4", &[9, 36, 3, 3], 0.1)
        .weight("w5", &[17, 9], 0.3)
        .weight("b5", &[17], 0.3);
    b.node("Conv", "x w0", "a", &attrs(&[3, 3], &[1, 1, 1, 1], &[1, 1], &[1, 1])).node(
        "Relu",
        "a",
        "ar",
        &[],
    );
    b.node("Conv", "ar w1", "c", &attrs(&[5, 5], &[2, 2, 2, 2], &[2, 1], &[1, 1])).node(
        "Relu",
        "c",
        "cr",
        &[],
    );
    b.node("Conv", "cr w2", "d", &attrs(&[1, 1], &[0, 0, 0, 0], &[1, 1], &[1, 1]));
    let grouped = [attrs(&[3, 3], &[1, 1, 1, 1], &[1, 1], &[1, 1]), vec![("group", Int(2))]].concat();
    b.node("Conv", "d w3", "e", &grouped).node("Relu", "e", "er", &[]);
    b.node("Conv", "er w4", "f", &attrs(&[3, 3], &[2, 2, 2, 2], &[1, 1], &[2, 2]));
    b.node("Transpose", "f", "t", &[("perm", Ints(&[0, 2, 3, 1]))]).node(
        "Gemm",
        "g w5 b5",
        "y",
        &[("transB", Int(1))],
    );
    b.ints("flat", &[465, 9]).node("Reshape", "t flat", "g", &[]);
    b.finish("products")
}

fn run(model: &Arc<Model>, isa: Isa, bf16: bool, threads: usize) -> (Plan, Vec<f32>) {
    let rung = model.header().rungs.iter().rfind(|r| r.acts == Acts::F32).unwrap();
    let device = Device::builder()
        .isa(Some(isa))
        .threads(Some(threads))
        .budget(Some(1 << 30))
        .bf16(bf16)
        .build()
        .unwrap();
    let inputs = inputs_of(model, rung, 1, 7);
    let specs: Vec<InputSpec> = inputs.iter().map(|(spec, _)| spec.clone()).collect();
    let options = PlanOptions { threads, bf16: device.bf16(), ..PlanOptions::default() };
    let plan = Plan::new(model, rung, &specs, &options).unwrap();
    let mut session = Session::with_plan(&device, model, rung, plan.clone()).unwrap();
    session.set_input(0, &inputs[0].1).unwrap();
    session.run().unwrap();
    let bytes = session.output(0).1.as_chunks::<4>().0;
    (plan, bytes.iter().map(|b| f32::from_le_bytes(*b)).collect())
}

#[test]
fn results_are_near_those_of_floats_and_the_same_for_any_number_of_threads() {
    let folder = Folder::new("bf16");
    let pack = folder.file("m.pack");
    convert_in_process(&folder.write("m.onnx", &model()), &pack, &[]);
    let model = open(&pack, Registry::standard());
    let (_, want) = run(&model, Isa::detect(), false, 1);
    // A level without them changes nothing.
    assert_eq!(run(&model, Isa::Scalar, true, 2).1, run(&model, Isa::Scalar, false, 1).1);
    if !Isa::Avx512Bf16.supported() {
        eprintln!("skipped: this CPU has no bf16");
        return;
    }
    let (plan, got) = run(&model, Isa::detect(), true, 1);
    let names: Vec<&str> = plan.steps.iter().map(|s| s.op.name()).collect();
    assert!(names.iter().filter(|n| **n == "conv").count() == 4 && names.contains(&"gemm"), "{names:?}");
    let power: f64 = want.iter().map(|x| f64::from(*x).powi(2)).sum();
    let noise: f64 = want.iter().zip(&got).map(|(a, b)| f64::from(a - b).powi(2)).sum();
    let sqnr = 10.0 * (power / noise).log10();
    // Two operands with errors of at most 2^-9, 2^-9.8 in the mean square, in each of five layers: 46 dB or so.
    assert!((38.0..60.0).contains(&sqnr), "{sqnr} dB");
    for threads in 1..=3 {
        assert!(run(&model, Isa::detect(), true, threads).1 == got, "{threads} threads");
    }
    // In bands too, and with weights that only the first run packs.
    let rung = model.header().rungs.iter().rfind(|r| r.acts == Acts::F32).unwrap();
    let device =
        Device::builder().threads(Some(2)).budget(Some(1 << 30)).bf16(true).bake(true).build().unwrap();
    let input = inputs_of(&model, rung, 1, 7).remove(0);
    let whole = run(&model, Isa::detect(), true, 2).0;
    let options = PlanOptions { threads: 2, bf16: true, bake: Some(1 << 20), ..PlanOptions::default() };
    let baked = Plan::new(&model, rung, std::slice::from_ref(&input.0), &options).unwrap();
    assert!(baked.is_fast() && baked.arena_bytes > whole.arena_bytes);
    for plan in [whole.cut(0), baked.clone(), baked.cut(0)] {
        let mut session = Session::with_plan(&device, &model, rung, plan).unwrap();
        for _ in 0..3 {
            session.set_input(0, &input.1).unwrap();
            session.run().unwrap();
            assert!(bytes(&got) == session.output(0).1);
        }
    }
    // A session plans so by itself, and packs anew when it takes another plan.
    let mut session = Session::new(&device, &model, rung, std::slice::from_ref(&input.0)).unwrap();
    assert!(session.plan().steps.iter().any(|s| s.once));
    for reshaped in [false, true] {
        if reshaped {
            session.reshape(std::slice::from_ref(&input.0)).unwrap();
        }
        session.set_input(0, &input.1).unwrap();
        session.run().unwrap();
        session.set_input(0, &input.1).unwrap();
        session.run().unwrap();
        // By Winograd's tiles where it is fast: near, not the same.
        let got = session.output(0).1.as_chunks::<4>().0.iter().map(|b| f64::from(f32::from_le_bytes(*b)));
        let noise: f64 = want.iter().zip(got).map(|(a, b)| (f64::from(*a) - b).powi(2)).sum();
        assert!(10.0 * (power / noise).log10() > 38.0);
    }
}

fn bytes(x: &[f32]) -> Vec<u8> {
    x.iter().flat_map(|x| x.to_le_bytes()).collect()
}

#[test]
fn the_program_takes_them_when_asked() {
    let s = Sample::new(&models::classifier(), "");
    let rung = s.rungs(Acts::F32).pop().unwrap();
    let run = |args: &str, isa: &str| {
        let program = edge_run()
            .arg(&s.pack)
            .arg("--input")
            .arg(&s.input)
            .args("--json --mem 256MB --threads 1 --rung");
        let program = program.arg(&rung).args(args);
        let program = if isa.is_empty() { program } else { program.env("EDGE_ISA", isa) };
        let outputs = s.folder.file("out.npz");
        program.arg("--output").arg(&outputs).run().expect(0);
        std::fs::read(outputs).unwrap()
    };
    assert_eq!(run("--bf16", "scalar"), run("", "scalar"));
    if Isa::Avx512Bf16.supported() {
        assert_ne!(run("--bf16", ""), run("", ""));
    }
}
