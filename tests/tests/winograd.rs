//! Convolutions by Winograd's tiles: taken where the budget has room for them, the same within rounding, the same bits everywhere.

use edge_kernels::Isa;
use edge_runtime::device::Device;
use edge_runtime::pack::{Acts, Rung};
use edge_runtime::plan::{InputSpec, Plan, PlanOptions};
use edge_runtime::weights::Registry;
use edge_runtime::{Model, Session};
use edge_tests::onnx::Attr::{Int, Ints};
use edge_tests::onnx::Builder;
use edge_tests::onnx::Dim::{Free, N};
use edge_tests::{Folder, convert_in_process, edge_run, inputs_of, open};
use std::sync::Arc;

/// Two convolutions of 3 x 3 with a residual, one of 5 x 5 and one of two groups, on an image that is not whole tiles.
fn model() -> Vec<u8> {
    let same = |pad: i64| vec![("pads", Ints(Box::leak(Box::new([pad; 4]))))];
    let mut b = Builder::new();
    b.input("x", &[Free("n"), N(24), N(37), N(42)]).output("y");
    b.weight("w0", &[24, 24, 3, 3], 0.1).weight("w1", &[24, 24, 3, 3], 0.1).weight(
        "w2",
        &[32, 24, 5, 5],
        0.05,
    );
    b.weight("w3", &[16, 16, 3, 3], 0.1);
    b.node("Conv", "x w0", "a", &same(1)).node("Relu", "a", "r", &[]);
    b.node("Conv", "r w1", "c", &same(1)).node("Add", "c x", "s", &[]);
    b.node("Conv", "s w2", "f", &same(2));
    b.node("Conv", "f w3", "y", &[same(1), vec![("group", Int(2))]].concat());
    b.finish("residual")
}

fn converted(folder: &Folder) -> (std::path::PathBuf, Arc<Model>) {
    let pack = folder.file("m.pack");
    convert_in_process(&folder.write("m.onnx", &model()), &pack, &[]);
    let model = open(&pack, Registry::standard());
    (pack, model)
}

fn float(model: &Model) -> Rung {
    model.header().rungs.iter().find(|r| r.acts == Acts::F32).expect("a rung of floats").clone()
}

/// The plan, and the output as floats.
fn run(model: &Arc<Model>, rung: &Rung, fast: bool, isa: Isa, threads: usize) -> (Plan, Vec<f32>) {
    let device =
        Device::builder().isa(Some(isa)).threads(Some(threads)).budget(Some(1 << 30)).build().unwrap();
    let inputs = inputs_of(model, rung, 2, 7);
    let specs: Vec<InputSpec> = inputs.iter().map(|(spec, _)| spec.clone()).collect();
    let options = PlanOptions { threads, fast, ..PlanOptions::default() };
    let plan = Plan::new(model, rung, &specs, &options).unwrap();
    let mut session = Session::with_plan(&device, model, rung, plan.clone()).unwrap();
    session.set_input(0, &inputs[0].1).unwrap();
    // Twice: the filters are made anew each time.
    session.run().unwrap();
    session.set_input(0, &inputs[0].1).unwrap();
    session.run().unwrap();
    let bytes = session.output(0).1.as_chunks::<4>().0;
    (plan, bytes.iter().map(|b| f32::from_le_bytes(*b)).collect())
}

fn steps(plan: &Plan, name: &str) -> usize {
    plan.steps.iter().filter(|s| s.op.name() == name).count()
}

#[test]
fn results_are_those_of_the_direct_sums_within_rounding() {
    let folder = Folder::new("winograd");
    let (_, model) = converted(&folder);
    let rung = float(&model);
    let (lean, want) = run(&model, &rung, false, Isa::detect(), 1);
    let (fast, got) = run(&model, &rung, true, Isa::detect(), 1);
    assert_eq!((steps(&lean, "winograd"), steps(&lean, "conv")), (0, 4));
    assert_eq!(
        (steps(&fast, "winograd"), steps(&fast, "transform_filters"), steps(&fast, "conv")),
        (2, 2, 2)
    );
    assert!(fast.arena_bytes > lean.arena_bytes && fast.is_fast() && !lean.is_fast());
    let range = want.iter().fold(0.0f32, |m, y| m.max(y.abs()));
    let error = want.iter().zip(&got).fold(0.0f32, |m, (a, b)| m.max((a - b).abs()));
    // A hundred times smaller than what a float rung may be off from the model.
    assert!(error > 0.0 && error <= 1e-6 * range, "{error} of {range}");
}

#[test]
fn bits_are_the_same_on_every_level_and_number_of_threads() {
    let folder = Folder::new("winograd-bits");
    let (_, model) = converted(&folder);
    let rung = float(&model);
    let want = run(&model, &rung, true, Isa::Scalar, 1).1;
    for isa in Isa::ALL.into_iter().filter(|isa| isa.supported()) {
        for threads in 1..=3 {
            assert!(run(&model, &rung, true, isa, threads).1 == want, "{isa}, {threads} threads");
        }
    }
}

#[test]
fn an_integer_rung_has_none() {
    let folder = Folder::new("winograd-i8");
    let (_, model) = converted(&folder);
    let rung = model.header().rungs.iter().find(|r| r.acts == Acts::I8).expect("an integer rung").clone();
    let (plan, _) = run(&model, &rung, true, Isa::detect(), 2);
    assert_eq!(steps(&plan, "winograd"), 0);
}

#[test]
fn a_budget_without_room_for_them_still_runs_the_rung() {
    let folder = Folder::new("winograd-budget");
    let (pack, model) = converted(&folder);
    let rung = float(&model);
    let shape = "--threads 1 --shape 2,24,37,42 --rung";
    let total = |mem: u64| {
        let ended = edge_run()
            .arg("plan")
            .arg(&pack)
            .args(&format!("--json --mem {mem} {shape}"))
            .arg(&rung.id)
            .run();
        ended.expect(0).json()["plan"]["total"].as_u64().unwrap()
    };
    let roomy = total(1 << 30);
    let less = 200 << 10;
    let tight = total(roomy - less);
    // Filters and a worker's tiles take more than that.
    assert!(tight <= roomy - less, "{tight} and {roomy}");
}
