//! `edge-convert compare`: figures of a layer against those of two runs, and what it refuses.

use edge_converter::measure::{Held, sqnr_db};
use edge_converter::{Options, compare};
use edge_runtime::Session;
use edge_runtime::device::Device;
use edge_runtime::inputs::{NamedArray, write_npz};
use edge_runtime::pack::Acts;
use edge_runtime::weights::Registry;
use edge_tests::{Folder, Quiet, convert_in_process, edge_convert, inputs_of, models, open};
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

/// A model, its pack, and one sample.
struct Case {
    folder: Folder,
    onnx: PathBuf,
    pack: PathBuf,
    sample: PathBuf,
}

impl Case {
    fn new() -> Case {
        let folder = Folder::new("compare");
        let (onnx, pack) = (folder.write("m.onnx", &models::classifier()), folder.file("m.pack"));
        convert_in_process(&onnx, &pack, &[]);
        let model = open(&pack, Registry::standard());
        let (spec, data) = inputs_of(&model, &model.header().rungs[0], 1, 7).swap_remove(0);
        let sample = folder.file("x.npz");
        let dims = spec.dims;
        write_npz(&sample, &[NamedArray { name: spec.name, dtype: spec.dtype, dims, data }]).unwrap();
        Case { folder, onnx, pack, sample }
    }

    fn options(&self) -> Options {
        Options { calib: Some(self.sample.clone()), ..Options::default() }
    }

    /// The output of a rung on the sample.
    fn output(&self, rung: &str) -> Vec<f32> {
        let model = open(&self.pack, Registry::standard());
        let rung = model.header().rungs.iter().find(|r| r.id == rung).unwrap().clone();
        let (specs, data): (Vec<_>, Vec<_>) = inputs_of(&model, &rung, 1, 7).into_iter().unzip();
        let device = Device::builder().threads(Some(1)).budget(Some(1 << 30)).build().unwrap();
        let mut session = Session::new(&device, &model, &rung, &specs).unwrap();
        session.set_input(0, &data[0]).unwrap();
        session.run().unwrap();
        session.output(0).1.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
    }
}

#[test]
fn a_layers_figures_are_those_of_two_runs() {
    let case = Case::new();
    let stop = AtomicBool::new(false);
    let found = compare(&case.onnx, &case.pack, None, &case.options(), &mut Quiet, &stop).unwrap();
    let model = open(&case.pack, Registry::standard());
    let rung = model.header().rungs.iter().find(|r| r.id == found.rung).unwrap();
    assert_eq!(rung.acts, Acts::I8, "the finest integer rung");
    assert!(found.layers.iter().any(|layer| layer.held == Held::I8), "{found}");
    let (want, got) = (case.output("float"), case.output(&found.rung));
    let n = want.len() as f64;
    let mean = want.iter().map(|w| f64::from(*w)).sum::<f64>() / n;
    let signal: f64 = want.iter().map(|w| (f64::from(*w) - mean).powi(2)).sum();
    let errors = want.iter().zip(&got).map(|(w, g)| (f64::from(*w) - f64::from(*g)).abs());
    let noise: f64 = errors.clone().map(|e| e * e).sum();
    let layer = found.layers.iter().find(|layer| layer.value == "y").unwrap();
    assert!((layer.sqnr_db - sqnr_db(noise / signal)).abs() < 1e-6, "{found}");
    assert_eq!((layer.max_error, layer.elements), (errors.fold(0.0, f64::max), want.len()));
    let (low, high) = want.iter().fold((f32::MAX, f32::MIN), |(l, h), w| (l.min(*w), h.max(*w)));
    assert_eq!(layer.range, f64::from(high) - f64::from(low));
    // Eight bits of weights and activations: no layer departs, none is exact but what only moves elements.
    assert_eq!(found.departs, None, "{found}");
    assert!(found.layers.iter().filter(|layer| layer.op != "transpose").all(|layer| layer.max_error > 0.0));
}

#[test]
fn exact_weights_are_no_departure_and_two_bits_are() {
    let case = Case::new();
    let stop = AtomicBool::new(false);
    let of = |rung| compare(&case.onnx, &case.pack, Some(rung), &case.options(), &mut Quiet, &stop).unwrap();
    let exact = of("float");
    assert!(exact.layers.len() > 4 && exact.departs.is_none(), "{exact}");
    assert!(exact.layers.iter().all(|layer| layer.sqnr_db == 200.0 && layer.held == Held::F32), "{exact}");
    let coarse = of("w2.0");
    let first = coarse.layers.iter().find(|layer| layer.sqnr_db < 20.0).unwrap();
    assert_eq!(coarse.departs.as_ref(), Some(&first.name), "{coarse}");
    assert!(coarse.to_string().contains(&format!("first below 20 dB: {}", first.name)));
}

#[test]
fn what_is_wrong_is_said() {
    let case = Case::new();
    let run = |model: &PathBuf, pack: &PathBuf, more: &str| {
        edge_convert().arg("compare").arg(model).arg(pack).args(more).run()
    };
    let json = run(&case.onnx, &case.pack, "--json");
    let json = json.expect(0).json();
    assert!(json["layers"].as_array().is_some_and(|layers| layers.len() > 4), "{json}");
    run(&case.onnx, &case.pack, "--rung nope").expect_saying(2, &["nope", "float"]);
    run(&case.onnx, &case.folder.file("none.pack"), "").expect_saying(4, &["none.pack"]);
    run(&case.pack, &case.pack, "").expect_saying(4, &["m.pack"]);
    let other = case.folder.write("other.onnx", &models::mlp());
    run(&other, &case.pack, "").expect_saying(2, &["`x`", "[1, 3, 16, 16]"]);
    let unknown = case.folder.write("unknown.onnx", &models::unsupported());
    let json = run(&unknown, &case.pack, "--json").expect(3).json();
    assert_eq!(json["unsupported"].as_array().map(Vec::len), Some(2), "{json}");
    edge_convert().arg("compare").arg(&case.onnx).run().expect(2);
}
