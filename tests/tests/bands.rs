//! Pictures made band by band: the bits of the whole, in less memory, where a budget asks for it.

use edge_runtime::device::Device;
use edge_runtime::pack::{Acts, Rung};
use edge_runtime::plan::{InputSpec, Plan, PlanOptions};
use edge_runtime::random::uniform;
use edge_runtime::weights::Registry;
use edge_runtime::{Model, Session};
use edge_tests::onnx::Attr::{Int, Ints, Str};
use edge_tests::onnx::Builder;
use edge_tests::onnx::Dim::N;
use edge_tests::{Folder, Sample, cached_model, convert_in_process, edge_run, inputs_of, open};
use std::collections::BTreeSet;
use std::sync::Arc;

type Attrs<'a> = Vec<(&'a str, edge_tests::onnx::Attr<'a>)>;

fn window(kernel: &'static [i64], stride: &'static [i64], pads: &'static [i64]) -> Attrs<'static> {
    vec![("kernel_shape", Ints(kernel)), ("strides", Ints(stride)), ("pads", Ints(pads))]
}

/// A backbone that halves, a gate over the whole picture, a path back up with a joined value, and planes at the end: every kind
/// of step that can be cut, with heights that no number of bands divides.
fn hourglass() -> Vec<u8> {
    let mut b = Builder::new();
    b.input("x", &[N(1), N(3), N(333), N(257)]).output("y").output("small");
    b.weight("w0", &[16, 3, 3, 3], 0.2).weight("wd", &[16, 1, 5, 5], 0.2).weight("w1", &[24, 16, 1, 1], 0.3);
    b.weight("w2", &[24, 24, 3, 3], 0.1).weight("w3", &[24, 24, 3, 3], 0.1).weight("b2", &[24], 0.2);
    b.weight("g0", &[6, 24, 1, 1], 0.3).weight("g1", &[24, 6, 1, 1], 0.3);
    b.weight("w4", &[16, 24, 1, 1], 0.2).weight("w5", &[16, 48, 3, 3], 0.1).weight(
        "w6",
        &[24, 16, 1, 1],
        0.2,
    );
    b.weight("t0", &[16, 12, 2, 2], 0.2).weight("t1", &[12, 2, 3, 3], 0.2).weight("tb", &[12], 0.1);
    b.weight("add", &[1], 0.5).weight("shift", &[24, 1, 1], 0.5);
    b.node("Conv", "x w0", "a0", &window(&[3, 3], &[2, 2], &[1, 1, 1, 1])).node("HardSwish", "a0", "a", &[]);
    let depthwise = [window(&[5, 5], &[1, 1], &[2, 2, 2, 2]), vec![("group", Int(16))]].concat();
    b.node("Conv", "a wd", "d", &depthwise).node("Conv", "d w1", "e0", &[]).node("Relu", "e0", "e1", &[]);
    b.node("Add", "e1 shift", "e", &[]);
    b.node("MaxPool", "e", "p", &window(&[3, 3], &[2, 2], &[0, 1, 1, 0]));
    // Two convolutions with a residual, on a picture that others read too.
    let same = window(&[3, 3], &[1, 1], &[1, 1, 1, 1]);
    b.node("Conv", "p w2 b2", "r0", &same).node("Relu", "r0", "r3", &[]).node("Sub", "r3 add", "r1", &[]);
    b.node("Conv", "r1 w3", "r2", &same).node("Add", "r2 p", "r", &[]).node("Sigmoid", "r", "s", &[]);
    // A gate by the mean of what it gates.
    b.node("GlobalAveragePool", "e", "m", &[]).node("Conv", "m g0", "m0", &[]).node("Relu", "m0", "m1", &[]);
    b.node("Conv", "m1 g1", "m2", &[]).node("HardSigmoid", "m2", "m3", &[]).node("Mul", "e m3", "h", &[]);
    // Up again: two resizings, one nearest and one linear, joined with the gated picture.
    b.ints("size0", &[1, 24, 167, 129]).ints("size1", &[1, 16, 167, 129]);
    b.node("Resize", "s - - size0", "u0", &[("mode", Str("nearest"))]);
    b.node("Conv", "s w4", "v", &[]).node("Resize", "v - - size1", "u1", &[("mode", Str("linear"))]);
    b.node("Add", "u0 h", "k", &[]).node("Conv", "k w4", "k1", &[]);
    b.node("AveragePool", "k1", "k2", &window(&[3, 3], &[1, 1], &[1, 1, 1, 1]));
    b.node("Concat", "k2 u1 a", "c", &[("axis", Int(1))]).node("Conv", "c w5", "f", &same);
    b.node("ConvTranspose", "f t0 tb", "t", &window(&[2, 2], &[2, 2], &[0, 0, 0, 0]));
    b.node("ConvTranspose", "t t1", "o", &window(&[3, 3], &[1, 1], &[1, 0, 1, 1])).node(
        "Add",
        "o add",
        "y",
        &[],
    );
    b.node("Conv", "v w6", "small", &[]);
    b.finish("hourglass")
}

struct Case {
    _folder: Folder,
    model: Arc<Model>,
    /// Of the only input, when it is free.
    size: Option<Vec<usize>>,
}

fn converted(label: &str, onnx: &[u8]) -> Case {
    let folder = Folder::new(label);
    let pack = folder.file("m.pack");
    convert_in_process(&folder.write("m.onnx", onnx), &pack, &[]);
    let model = open(&pack, Registry::standard());
    Case { _folder: folder, model, size: None }
}

impl Case {
    fn rung(&self, acts: Acts) -> &Rung {
        self.model.header().rungs.iter().rfind(|r| r.acts == acts).expect("a rung of that kind")
    }

    fn inputs(&self, rung: &Rung, seed: u64) -> Vec<(InputSpec, Vec<u8>)> {
        let mut inputs = inputs_of(&self.model, rung, 1, seed);
        if let (Some(dims), [(spec, data)]) = (&self.size, &mut inputs[..]) {
            spec.dims = dims.clone();
            let elements = 0..dims.iter().product::<usize>() as u64;
            *data = elements.flat_map(|i| uniform(seed, i).to_le_bytes()).collect();
        }
        inputs
    }

    fn plan(&self, rung: &Rung, fast: bool, threads: usize) -> Plan {
        let specs: Vec<InputSpec> = self.inputs(rung, 3).into_iter().map(|(spec, _)| spec).collect();
        let options = PlanOptions { threads, fast, ..PlanOptions::default() };
        Plan::new(&self.model, rung, &specs, &options).unwrap()
    }

    /// The outputs of a second run, which finds what the first has left.
    fn run(&self, rung: &Rung, plan: Plan, threads: usize) -> Vec<Vec<u8>> {
        let device = Device::builder().threads(Some(threads)).budget(Some(1 << 30)).build().unwrap();
        let mut session = Session::with_plan(&device, &self.model, rung, plan).unwrap();
        for seed in [4, 3] {
            for (i, (_, data)) in self.inputs(rung, seed).iter().enumerate() {
                session.set_input(i, data).unwrap();
            }
            session.run().unwrap();
        }
        (0..session.plan().outputs.len()).map(|i| session.output(i).1.to_vec()).collect()
    }
}

fn takes(plan: &Plan) -> u64 {
    (plan.memory() + plan.own_bytes()) as u64
}

fn steps(plan: &Plan, name: &str) -> usize {
    plan.steps.iter().filter(|s| s.op.name() == name).count()
}

#[test]
fn what_no_cache_holds_is_cut_although_there_is_room() {
    let case = converted("bands-cache", &hourglass());
    let rung = case.rung(Acts::F32);
    let whole = case.plan(rung, true, 2);
    let want = case.run(rung, whole.clone(), 2);
    for cache in [whole.arena_bytes * 3 / 4, whole.arena_bytes / 2] {
        let cut = whole.clone().local(Some(cache));
        assert!(cut.arena_bytes < whole.arena_bytes && cut.steps.len() > whole.steps.len(), "{cache}");
        assert!(case.run(rung, cut, 2) == want, "other bits, cut to {cache}");
    }
    for enough in [None, Some(whole.arena_bytes)] {
        assert_eq!(whole.clone().local(enough).steps.len(), whole.steps.len());
    }
}

#[test]
fn bits_are_those_of_the_whole_however_it_is_cut() {
    let case = converted("bands", &hourglass());
    for acts in [Acts::F32, Acts::I8] {
        let rung = case.rung(acts);
        for (fast, threads) in [(false, 1), (true, 1), (false, 3), (true, 2)] {
            let whole = case.plan(rung, fast, threads);
            let want = case.run(rung, whole.clone(), threads);
            let mut kinds = BTreeSet::new();
            for percent in (0..=90).rev().step_by(15) {
                let room = takes(&whole) - (whole.arena_bytes * (100 - percent) / 100) as u64;
                let cut = whole.clone().cut(room);
                assert!(takes(&cut) < takes(&whole));
                let more = |name: &str| steps(&cut, name) > steps(&whole, name);
                kinds.extend(cut.steps.iter().map(|s| s.op.name()).filter(|name| more(name)));
                assert!(
                    case.run(rung, cut, threads) == want,
                    "{} fast {fast}, {threads} threads, {percent} %",
                    rung.id
                );
            }
            let must: &[&str] = match acts {
                Acts::F32 => &["add_rows", "conv_transpose", "copy", "depthwise", "gemm", "pool", "resize"],
                // What is pooled is codes that the gate reads too: they are there, and added up at once.
                Acts::I8 => &["conv", "conv_transpose", "dequantize", "move_to_front"],
            };
            let missing: Vec<&&str> = must.iter().filter(|m| !kinds.contains(**m)).collect();
            assert!(missing.is_empty(), "{} fast {fast}: never cut: {missing:?}, cut {kinds:?}", rung.id);
        }
    }
}

/// A picture of which the mean is taken, and every fourth pixel.
fn pooled() -> Vec<u8> {
    let mut b = Builder::new();
    b.input("x", &[N(1), N(3), N(301), N(257)]).output("y").output("z");
    b.weight("w0", &[24, 3, 3, 3], 0.2).weight("w1", &[40, 24, 1, 1], 0.2).weight("w2", &[10, 40, 1, 1], 0.3);
    b.weight("w3", &[4, 40, 3, 3], 0.1);
    b.node("Conv", "x w0", "a", &window(&[3, 3], &[1, 1], &[1, 1, 1, 1])).node("Relu", "a", "b", &[]);
    b.node("Conv", "b w1", "c", &[]).node("HardSwish", "c", "d", &[]);
    b.node("GlobalAveragePool", "d", "m", &[]).node("Conv", "m w2", "y", &[]);
    b.node("Conv", "d w3", "z", &window(&[3, 3], &[4, 4], &[1, 1, 1, 1]));
    b.finish("pooled")
}

#[test]
fn codes_of_a_picture_are_added_up_band_by_band() {
    let case = converted("bands-pooled", &pooled());
    let rung = &Rung { floats: Vec::new(), ..case.rung(Acts::I8).clone() };
    let one = case.run(rung, case.plan(rung, false, 1), 1);
    for threads in [1, 2, 3] {
        let whole = case.plan(rung, false, threads);
        // No floats of the picture are made for its mean.
        assert_eq!((steps(&whole, "reduce"), steps(&whole, "add_rows")), (1, 0));
        let pooled = whole.steps.iter().find(|s| s.op.name() == "reduce").unwrap();
        assert!(pooled.inputs[0].as_ref().unwrap().quant.is_some());
        assert!(case.run(rung, whole.clone(), threads) == one, "{threads} threads");
        let cut = whole.clone().cut(0);
        assert!(takes(&cut) < takes(&whole) && steps(&cut, "add_rows") > 1, "{}", steps(&cut, "add_rows"));
        assert!(case.run(rung, cut, threads) == one, "{threads} threads, in bands");
    }
}

#[test]
fn a_budget_that_holds_bands_only_still_runs_the_rung() {
    let case = Sample::new(&hourglass(), "");
    for rung in [Acts::F32, Acts::I8].map(|acts| case.rungs(acts).pop().unwrap()) {
        let args = |mem: u64| format!("--json --threads 2 --mem {mem} --rung {rung}");
        let planned = |mem: u64| {
            let ended = edge_run().arg("plan").arg(&case.pack).args(&args(mem)).run();
            ended.expect(0).json()["plan"]["total"].as_u64().unwrap()
        };
        let file = case.folder.file("out.npz");
        let run = |mem: u64| {
            let program = edge_run().arg(&case.pack).arg("--input").arg(&case.input).args(&args(mem));
            program.arg("--output").arg(&file).run()
        };
        let outputs = |ended: &edge_tests::Ended| {
            ended.expect(0);
            std::fs::read(&file).unwrap()
        };
        let whole = planned(1 << 30);
        let want = outputs(&run(1 << 30));
        for less in [300_000, 1_000_000, 1_500_000] {
            let mem = whole - less;
            let ended = run(mem);
            assert!(ended.peak <= mem && planned(mem) <= mem, "{rung} in {mem}: {ended:#?}");
            assert!(outputs(&ended) == want, "{rung} in {mem}");
        }
        // What is refused is refused with a budget that would do.
        let refused = run(whole / 4);
        let least = refused.expect(5).bytes_named();
        assert!(least < whole, "{refused:#?}");
    }
}

/// A detector on a picture of 640 x 640 in a third of its arena; its integer rung in 0.35 of that of the floats.
#[test]
fn a_text_detector_runs_in_a_third_of_its_arena() {
    let Some(onnx) = cached_model("rapidocr/ch_PP-OCRv4_det_infer.onnx") else { return };
    let case =
        Case { size: Some(vec![1, 3, 640, 640]), ..converted("bands-det", &std::fs::read(onnx).unwrap()) };
    let float = case.plan(case.rung(Acts::F32), false, 1).arena_bytes as f64;
    for (acts, most) in [(Acts::F32, 1.0 / 3.0), (Acts::I8, 0.35)] {
        let rung = case.rung(acts);
        let whole = case.plan(rung, false, 1);
        let cut = whole.clone().cut(0);
        let share = cut.arena_bytes as f64 / float;
        assert!(share <= most, "{}: {} of {float} bytes, {share:.3}", rung.id, cut.arena_bytes);
        assert!(case.run(rung, cut, 1) == case.run(rung, whole, 1), "{}", rung.id);
    }
}
