//! The shipped elastic transformer: one pack, and every subnet is the network that is cut out of the file for it.

use edge_converter::import::{Norms, Supernet, supernet::Description};
use edge_converter::{Options, convert_supernet};
use edge_runtime::device::Device;
use edge_runtime::graph::DType;
use edge_runtime::inputs::read_npz;
use edge_runtime::pack::{Acts, Choice, Rung};
use edge_runtime::plan::InputSpec;
use edge_runtime::random::philox;
use edge_runtime::subnet::Statistics;
use edge_runtime::weights::Registry;
use edge_runtime::{Model, Session};
use edge_tests::{Folder, Quiet, convert_in_process, open};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// Pictures a run, all labelled.
const PICTURES: usize = 128;

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

/// The first of the example's held-out pictures, and their labels.
struct Pictures {
    spec: InputSpec,
    bytes: Vec<u8>,
    labels: Vec<usize>,
}

impl Pictures {
    fn read() -> Pictures {
        let arrays = read_npz(&repository().join("examples/supernet-fashion/heldout.npz"), 1 << 30).unwrap();
        let named = |name: &str| arrays.iter().find(|array| array.name == name).unwrap();
        let (input, labels) = (named("input"), named("labels"));
        let each = input.data.len() / input.dims[0];
        let dims = [&[PICTURES], &input.dims[1..]].concat();
        let scaled = input.data[..PICTURES * each].iter().map(|grey| f32::from(*grey) / 255.0);
        Pictures {
            spec: InputSpec { name: "input".into(), dtype: DType::F32, dims, value: None },
            bytes: scaled.flat_map(f32::to_le_bytes).collect(),
            labels: labels.data.iter().take(PICTURES).map(|label| usize::from(*label)).collect(),
        }
    }

    fn logits(&self, model: &Arc<Model>, rung: &Rung) -> Vec<f32> {
        let device = Device::builder().threads(Some(1)).budget(Some(1 << 30)).build().unwrap();
        let mut session = Session::new(&device, model, rung, std::slice::from_ref(&self.spec)).unwrap();
        session.set_input(0, &self.bytes).unwrap();
        session.run().unwrap();
        session.output(0).1.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
    }

    fn right(&self, logits: &[f32]) -> usize {
        let rows = logits.chunks_exact(logits.len() / PICTURES);
        let best = |row: &[f32]| (0..row.len()).max_by(|a, b| row[*a].total_cmp(&row[*b])).unwrap();
        rows.zip(&self.labels).filter(|(row, label)| best(row) == **label).count()
    }
}

#[test]
fn subnets_of_the_transformer_are_those_of_its_file() {
    let folder = Folder::new("elastic-vit");
    let models = repository().join("examples/once-for-all-fashion/models/vit");
    let (file, description) = (models.join("largest.onnx"), models.join("supernet.toml"));
    let pack = folder.file("vit.pack");
    let stop = AtomicBool::new(false);
    convert_supernet(&file, &description, &pack, &Options::default(), &mut Quiet, &stop).unwrap();
    let model = open(&pack, Registry::standard());
    let header = model.header();
    let finest = header.rungs.iter().filter(|r| r.acts == Acts::F32).max_by_key(|r| r.bytes).unwrap();
    let supernet = Supernet::open(&file, Description::read(&description).unwrap()).unwrap();
    let pictures = Pictures::read();
    let variables = &header.graphs[0].elastic.as_ref().unwrap().variables;
    let random = |key: u64| -> Vec<usize> {
        let option = |(i, v): (usize, &edge_runtime::graph::Variable)| {
            philox(key, i as u64)[0] as usize % v.options.len()
        };
        variables.iter().enumerate().map(option).collect()
    };
    let (smallest, largest) = (vec![0; variables.len()], supernet.description().largest());
    let mut right = Vec::new();
    for options in [smallest, largest].into_iter().chain((0..10).map(random)) {
        let (onnx, alone) = (folder.file("alone.onnx"), folder.file("alone.pack"));
        std::fs::write(&onnx, supernet.onnx(&options, Norms::Stored).unwrap()).unwrap();
        convert_in_process(&onnx, &alone, &[]);
        let plain = open(&alone, Registry::standard());
        let float = plain.header().rungs.iter().find(|rung| rung.id == "float").unwrap();
        let want = pictures.logits(&plain, float);
        let cut = model.subnet(0, &Choice::new(&options).unwrap(), Some(finest)).unwrap();
        // A layer's norm is of what it reads: there are no statistics that a subnet could lack.
        assert_eq!(cut.statistics, Statistics::None);
        let got = pictures.logits(&model, &cut.rungs[0]);
        let most = want.iter().fold(0.0f32, |m, v| m.max(v.abs()));
        let apart = want.iter().zip(&got).fold(0.0f32, |m, (a, b)| m.max((a - b).abs())) / most;
        // Codes of 16 bits are off by 1e-5 of a row's range; six blocks add up.
        assert!(apart <= 1e-3, "{options:?}: {apart}");
        assert!(pictures.right(&want).abs_diff(pictures.right(&got)) <= 1, "{options:?}");
        right.push(pictures.right(&got));
    }
    // It was trained: the largest is right nine times of ten, the smallest hardly less often.
    assert!(right[1] * 100 >= PICTURES * 85 && right[0] * 100 >= PICTURES * 80, "{right:?}");
}
