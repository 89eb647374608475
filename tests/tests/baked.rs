//! Weights that are decoded once and kept between runs, where memory may be spent on time: the same results as where each run decodes them.

use edge_runtime::Session;
use edge_runtime::device::Device;
use edge_runtime::pack::Acts;
use edge_runtime::plan::{InputSpec, Plan, PlanOptions};
use edge_runtime::weights::Registry;
use edge_tests::onnx::Attr::{Int, Ints};
use edge_tests::onnx::Builder;
use edge_tests::onnx::Dim::N;
use edge_tests::{Folder, convert_in_process, inputs_of, open};

/// Every kind of product with a weight: gathered windows, windows in a ring, channels of their own, groups, rows, a layer with a state, and
/// one row.
fn model() -> Vec<u8> {
    let mut b = Builder::new();
    b.input("x", &[N(1), N(5), N(19), N(23)]).output("y");
    let conv = |kernel: &'static [i64], pads: &'static [i64], group: i64| {
        vec![("kernel_shape", Ints(kernel)), ("pads", Ints(pads)), ("group", Int(group))]
    };
    b.weight("w0", &[24, 5, 3, 3], 0.3).weight("w1", &[24, 1, 5, 5], 0.2).weight("w2", &[40, 24, 1, 1], 0.3);
    b.weight("w3", &[36, 20, 3, 3], 0.1).weight("w4", &[8, 36, 3, 3], 0.1);
    b.weight("wi", &[1, 64, 152], 0.1).weight("ws", &[1, 64, 16], 0.2).weight("w5", &[17, 368], 0.1);
    b.node("Conv", "x w0", "a", &conv(&[3, 3], &[1, 1, 1, 1], 1)).node("Relu", "a", "ar", &[]);
    b.node("Conv", "ar w1", "c", &conv(&[5, 5], &[2, 2, 2, 2], 24)).node("Relu", "c", "cr", &[]);
    b.node("Conv", "cr w2", "d", &conv(&[1, 1], &[0, 0, 0, 0], 1));
    b.node("Conv", "d w3", "e", &conv(&[3, 3], &[1, 1, 1, 1], 2)).node("Relu", "e", "er", &[]);
    b.node("Conv", "er w4", "f", &conv(&[3, 3], &[1, 1, 1, 1], 1));
    b.node("Transpose", "f", "t", &[("perm", Ints(&[3, 0, 1, 2]))]);
    b.ints("rows", &[23, 1, 152]).node("Reshape", "t rows", "r", &[]);
    b.node("LSTM", "r wi ws", "s", &[("hidden_size", Int(16))]);
    b.ints("flat", &[1, 368]).node("Reshape", "s flat", "g", &[]);
    b.node("Gemm", "g w5", "y", &[("transB", Int(1))]);
    b.finish("products")
}

#[test]
fn decoded_once_weights_give_what_weights_decoded_in_each_run_give() {
    let folder = Folder::new("baked");
    let pack = folder.file("m.pack");
    convert_in_process(&folder.write("m.onnx", &model()), &pack, &[]);
    let model = open(&pack, Registry::standard());
    let rungs = model.header().rungs.iter().filter(|rung| rung.acts == Acts::F32);
    let (float, packed): (Vec<_>, Vec<_>) = rungs.partition(|rung| rung.id == "float");
    let rung = packed.last().unwrap();
    let device = Device::builder().threads(Some(2)).budget(Some(1 << 30)).bake(true).build().unwrap();
    let (spec, x) = inputs_of(&model, rung, 1, 7).remove(0);
    let specs: [InputSpec; 1] = [spec];
    let plan = |rung, bake| {
        let options = PlanOptions { threads: 2, bake, ..PlanOptions::default() };
        Plan::new(&model, rung, &specs, &options).unwrap()
    };
    let run = |session: &mut Session| {
        session.set_input(0, &x).unwrap();
        session.run().unwrap();
        session.output(0).1.to_vec()
    };
    let of_plan = |plan: Plan| {
        let mut session = Session::with_plan(&device, &model, rung, plan).unwrap();
        let first = run(&mut session);
        assert_eq!(run(&mut session), first, "what the first run kept serves the second");
        first
    };
    let kept = |plan: &Plan| plan.steps.iter().filter(|s| s.once && s.op.name() == "decode_panels").count();
    // Without a cache to keep it in, the weight of the one row is read as it is stored.
    let (plain, many, all) = (plan(rung, None), plan(rung, Some(0)), plan(rung, Some(1 << 20)));
    assert_eq!([kept(&plain), kept(&many), kept(&all)], [0, 7, 8]);
    assert!(plain.arena_bytes < many.arena_bytes && many.arena_bytes < all.arena_bytes);
    let want = of_plan(plain);
    assert!(
        of_plan(many.clone().cut(0)) == want && of_plan(many) == want,
        "the same panels, so the same bits"
    );
    let floats = |bytes: &[u8]| -> Vec<f32> {
        bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
    };
    // The same products in another order of additions.
    let (want, got) = (floats(&want), floats(&of_plan(all)));
    let largest = want.iter().fold(0f32, |m, x| m.max(x.abs()));
    assert!(want.iter().zip(&got).all(|(a, b)| (a - b).abs() < 1e-5 * largest), "{want:?} {got:?}");
    // Floats lie as kernels take them: nothing is to be kept.
    assert_eq!(kept(&plan(float[0], Some(1 << 20))), 0);
    // A session plans so by itself.
    let mut session = Session::new(&device, &model, rung, &specs).unwrap();
    assert!(kept(session.plan()) > 0);
    let got = floats(&run(&mut session));
    assert!(want.iter().zip(&got).all(|(a, b)| (a - b).abs() < 1e-4 * largest), "{want:?} {got:?}");
}
