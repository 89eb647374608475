//! Subnets of the shipped supernets against onnxruntime: `tests/reference/subnets.py` cuts each out of the ONNX file by its description with NumPy
//! alone and runs it. The importer's file of a choice must give the same, and the subnet that the pack gives for it.

use edge_converter::import::{Norms, Supernet, supernet::Description};
use edge_converter::{Options, convert_supernet};
use edge_runtime::device::Device;
use edge_runtime::graph::DType;
use edge_runtime::inputs::{NamedArray, read_npz};
use edge_runtime::pack::{Acts, Choice, PackFile, Rung};
use edge_runtime::plan::InputSpec;
use edge_runtime::subnet::Statistics;
use edge_runtime::weights::Registry;
use edge_runtime::{Model, Session};
use edge_tests::{Folder, Quiet, convert_in_process, open};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

const PICTURES: usize = 16;
const CLASSES: usize = 10;

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
}

/// Choices, and the logits of each.
fn reference(network: &str) -> Vec<(Vec<usize>, Vec<f32>)> {
    let arrays = read_npz(&repository().join("tests/reference/subnets.npz"), 1 << 20).unwrap();
    let named = |part: &str| -> &NamedArray {
        arrays.iter().find(|array| array.name == format!("{network}/{part}")).unwrap()
    };
    let (choices, logits) = (named("choices"), floats(&named("logits").data));
    let options: Vec<usize> =
        choices.data.as_chunks::<8>().0.iter().map(|b| u64::from_le_bytes(*b) as usize).collect();
    let choices = options.chunks_exact(choices.dims[1]);
    let logits = logits.chunks_exact(PICTURES * CLASSES);
    choices.zip(logits).map(|(choice, logits)| (choice.to_vec(), logits.to_vec())).collect()
}

/// The first of the example's held-out pictures, as the networks take them.
fn pictures() -> Vec<u8> {
    let arrays = read_npz(&repository().join("examples/supernet-fashion/heldout.npz"), 1 << 30).unwrap();
    let input = arrays.iter().find(|array| array.name == "input").unwrap();
    let each = input.data.len() / input.dims[0];
    let scaled = input.data[..PICTURES * each].iter().map(|grey| f32::from(*grey) / 255.0);
    scaled.flat_map(f32::to_le_bytes).collect()
}

fn logits(model: &Arc<Model>, rung: &Rung, pictures: &[u8]) -> Vec<f32> {
    let dims = vec![PICTURES, 1, 28, 28];
    let spec = InputSpec { name: "input".into(), dtype: DType::F32, dims, value: None };
    let device = Device::builder().threads(Some(1)).budget(Some(1 << 30)).build().unwrap();
    let mut session = Session::new(&device, model, rung, &[spec]).unwrap();
    session.set_input(0, pictures).unwrap();
    session.run().unwrap();
    floats(session.output(0).1)
}

/// The greatest difference over the range of what is wanted.
fn apart(got: &[f32], want: &[f32]) -> f32 {
    assert_eq!(got.len(), want.len());
    let (low, high) = want.iter().fold((f32::MAX, f32::MIN), |(l, h), v| (l.min(*v), h.max(*v)));
    got.iter().zip(want).map(|(g, w)| (g - w).abs()).fold(0.0, f32::max) / (high - low)
}

fn matches(network: &str, models: &str) {
    let folder = Folder::new(&format!("subnet-reference-{network}"));
    let models = repository().join("examples/once-for-all-fashion").join(models);
    let (file, description) = (models.join("largest.onnx"), models.join("supernet.toml"));
    let path = folder.file("family.pack");
    let stop = AtomicBool::new(false);
    convert_supernet(&file, &description, &path, &Options::default(), &mut Quiet, &stop).unwrap();
    // Without statistics of any subnet, those of a subnet are parts of the largest network's, as in the reference.
    let pack = PackFile::open(&path).unwrap();
    let mut header = pack.header().clone();
    header.subnets.iter_mut().for_each(|subnet| subnet.overlay = None);
    // Constants that every rung had of its own lie behind them.
    header.rungs.iter_mut().for_each(|rung| rung.end = pack.file_len());
    let elastic = header.graphs[0].elastic.as_mut().unwrap();
    (elastic.overlaid, elastic.ranged) = (Vec::new(), Vec::new());
    let source = Arc::new(pack.map(pack.file_len()).unwrap());
    let model = Arc::new(Model::new(Arc::new(header), source, Arc::new(Registry::standard())));
    let finest = model.header().rungs.iter().filter(|r| r.acts == Acts::F32).max_by_key(|r| r.bytes).unwrap();

    let supernet = Supernet::open(&file, Description::read(&description).unwrap()).unwrap();
    let pictures = pictures();
    let reference = reference(network);
    assert!(reference.len() >= 20);
    for (choice, want) in reference {
        let (onnx, alone) = (folder.file("alone.onnx"), folder.file("alone.pack"));
        std::fs::write(&onnx, supernet.onnx(&choice, Norms::Stored).unwrap()).unwrap();
        convert_in_process(&onnx, &alone, &[]);
        let plain = open(&alone, Registry::standard());
        let float = plain.header().rungs.iter().find(|rung| rung.id == "float").unwrap();
        let imported = apart(&logits(&plain, float, &pictures), &want);
        // Sums of f32 in another order.
        assert!(
            imported <= 1e-4,
            "{network} {choice:?}: the file of the choice is {imported} of the range off"
        );
        let cut = model.subnet(0, &Choice::new(&choice).unwrap(), Some(finest)).unwrap();
        assert!(!matches!(cut.statistics, Statistics::Nearest { .. }), "there are none to borrow");
        let got = apart(&logits(&model, &cut.rungs[0], &pictures), &want);
        // Codes of 16 bits are off by 1e-5 of a row's range; up to eight blocks add up.
        assert!(got <= 1e-3, "{network} {choice:?}: the pack's subnet is {got} of the range off");
    }
}

#[test]
fn subnets_of_the_convolutional_network() {
    matches("cnn", "models");
}

#[test]
fn subnets_of_the_transformer() {
    matches("vit", "models/vit");
}
