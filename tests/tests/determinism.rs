//! Equal bits: of integer rungs for every instruction set and number of threads, of float rungs for every number of
//! threads.

use edge_kernels::Isa;
use edge_runtime::device::Device;
use edge_runtime::pack::{Acts, Arg, Expr, PackFile, Rung, Take};
use edge_runtime::weights::Registry;
use edge_runtime::{Model, Session};
use edge_tests::onnx::Builder;
use edge_tests::onnx::Dim::N;
use edge_tests::{Folder, convert_in_process, inputs_of, models, open};
use std::path::Path;
use std::sync::Arc;

/// Output bytes of three runs in a row, so that state takes part.
fn outputs(model: &Arc<Model>, rung: &Rung, isa: Isa, threads: usize) -> Vec<Vec<u8>> {
    let device =
        Device::builder().isa(Some(isa)).threads(Some(threads)).budget(Some(1 << 30)).build().unwrap();
    let inputs = inputs_of(model, rung, 5, 9);
    let specs: Vec<_> = inputs.iter().map(|(spec, _)| spec.clone()).collect();
    let mut session = Session::new(&device, model, rung, &specs).unwrap();
    let count = session.graph().outputs.len();
    let mut all = Vec::new();
    for run in 0..3 {
        for (i, (_, data)) in inputs.iter().enumerate() {
            let fed = session.graph().states.iter().any(|s| s.input == i);
            if run == 0 || !fed {
                session.set_input(i, data).unwrap();
            }
        }
        session.run().unwrap();
        all.extend((0..count).map(|i| session.output(i).1.to_vec()));
    }
    all
}

/// Every level that this machine runs.
fn levels() -> Vec<Isa> {
    let device =
        |isa: &Isa| Device::builder().isa(Some(*isa)).threads(Some(1)).budget(Some(1)).build().is_ok();
    Isa::ALL.into_iter().filter(device).collect()
}

fn same_bits(pack: &Path, name: &str) {
    let levels = levels();
    let model_at = |isa| open(pack, Registry::for_isa(isa));
    let models: Vec<Arc<Model>> = levels.iter().map(|isa| model_at(*isa)).collect();
    let rungs = &models[0].header().rungs;
    assert!(rungs.iter().any(|r| r.acts == Acts::I8), "{name} has no integer rung");
    for rung in rungs {
        let mut first: Option<Vec<Vec<u8>>> = None;
        for (isa, model) in levels.iter().zip(&models) {
            for threads in 1..=4 {
                let got = outputs(model, rung, *isa, threads);
                let want = first.get_or_insert_with(|| got.clone());
                assert!(*want == got, "{name} {}: {isa}, {threads} threads differ", rung.id);
            }
            // Floats may be summed in another order by another instruction set.
            if rung.acts == Acts::F32 {
                first = None;
            }
        }
    }
}

fn converted(name: &str, onnx: &[u8], states: &[(&str, &str)]) {
    let folder = Folder::new("bits");
    let pack = folder.file("m.pack");
    convert_in_process(&folder.write("m.onnx", onnx), &pack, states);
    same_bits(&pack, name);
}

#[test]
fn classifier_bits_are_equal() {
    converted("classifier", &models::classifier(), &[]);
}

#[test]
fn wide_layers_bits_are_equal() {
    converted("deep", &models::deep(2, 192), &[]);
}

#[test]
fn recurrent_bits_are_equal() {
    converted("lstm", &models::lstm(), &[("hn", "h"), ("cn", "c")]);
}

/// Codes of one scale a row are those of at most 8 bits.
fn narrow(expr: &mut Expr) {
    expr.params.remove("wide");
    for arg in &mut expr.args {
        if let Arg::Expr(expr) = arg {
            narrow(expr);
        }
    }
}

/// A product of floats in an integer rung, 12-bit weights, whose result only a product of integers reads, makes codes at once; where the
/// caller reads it too, it makes floats, of which a step of its own makes the codes.
#[test]
fn codes_made_by_a_product_of_floats_are_those_made_of_its_floats() {
    let answer = |also: &str| {
        let mut b = Builder::new();
        b.input("x", &[N(1), N(8), N(13), N(11)]).output("y");
        b.weight("w0", &[24, 8, 3, 3], 0.3).weight("b0", &[24], 0.3).weight("w1", &[16, 24, 1, 1], 0.3);
        b.node("Conv", "x w0 b0", "h", &[]).node("Relu", "h", "r", &[]).node("Conv", "r w1", "y", &[]);
        if !also.is_empty() {
            b.output(also);
        }
        let folder = Folder::new("codes");
        let pack = folder.file("m.pack");
        convert_in_process(&folder.write("m.onnx", &b.finish("codes")), &pack, &[]);
        let file = PackFile::open(&pack).unwrap();
        let mut header = file.header().clone();
        // Weights of 12 bits are to be multiplied as floats.
        for root in header.tensors.iter_mut().flat_map(|tensor| &mut tensor.roots) {
            narrow(root);
        }
        let source = Arc::new(file.map(file.file_len()).unwrap());
        let model = Arc::new(Model::new(Arc::new(header), source, Arc::new(Registry::standard())));
        let mut rung = model.header().rungs.iter().find(|r| r.acts == Acts::I8).unwrap().clone();
        rung.floats.clear();
        for (tensor, take) in model.header().tensors.iter().zip(&mut rung.takes) {
            *take = Some(Take(0, if tensor.name == "w0" { 5 } else { 4 }));
        }
        let inputs = inputs_of(&model, &rung, 1, 3);
        let specs: Vec<_> = inputs.iter().map(|(spec, _)| spec.clone()).collect();
        let device = Device::builder().threads(Some(2)).budget(Some(1 << 40)).build().unwrap();
        let mut session = Session::new(&device, &model, &rung, &specs).unwrap();
        session.set_input(0, &inputs[0].1).unwrap();
        session.run().unwrap();
        let steps: Vec<&str> = session.plan().steps.iter().map(|step| step.op.name()).collect();
        (session.output(0).1.to_vec(), steps.iter().filter(|name| **name == "quantize").count())
    };
    let ((at_once, none), (later, one)) = (answer(""), answer("r"));
    assert_eq!((none, one), (0, 1));
    assert_eq!(at_once, later);
    assert!(at_once.iter().any(|b| *b != 0));
}
