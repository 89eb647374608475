//! Packs made and opened in the test's own process.

use edge_converter::{Options, Watch, convert};
use edge_runtime::Model;
use edge_runtime::graph::{DType, Dim};
use edge_runtime::pack::{PackFile, Rung};
use edge_runtime::plan::InputSpec;
use edge_runtime::random::uniform;
use edge_runtime::weights::Registry;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// Watches nothing.
pub struct Quiet;

impl Watch for Quiet {
    fn stage(&mut self, _: &str, _: usize) {}
    fn progress(&mut self, _: usize) {}
    fn progress_of(&mut self, _done: usize, _total: usize) {}
}

/// Converts an ONNX file with exact weights as the last rung.
pub fn convert_in_process(onnx: &Path, pack: &Path, states: &[(&str, &str)]) {
    let states = states.iter().map(|(out, into)| (out.to_string(), into.to_string())).collect();
    let options = Options { keep_float: true, states, ..Options::default() };
    convert(&[onnx.to_path_buf()], pack, &options, &mut Quiet, &AtomicBool::new(false)).unwrap();
}

/// Opens a pack, mapped.
pub fn open(pack: &Path, registry: Registry) -> Arc<Model> {
    let file = PackFile::open(pack).unwrap();
    let source = Arc::new(file.map(file.file_len()).unwrap());
    Arc::new(Model::new(file.shared_header(), source, Arc::new(registry)))
}

/// Specs and seeded elements for every input of a rung, which must be floats; free dimensions become `free`.
pub fn inputs_of(model: &Model, rung: &Rung, free: usize, seed: u64) -> Vec<(InputSpec, Vec<u8>)> {
    let graph = model.graph(rung);
    let size = |d: &Dim| match d {
        Dim::Fixed(n) => *n,
        Dim::Named(_) => free,
    };
    let input = |(i, port): (usize, &edge_runtime::graph::Port)| {
        assert_eq!(port.dtype, DType::F32, "{}", graph.name(port.value));
        let dims: Vec<usize> = port.dims.as_ref().unwrap().iter().map(size).collect();
        let count = dims.iter().product::<usize>() as u64;
        let key = seed.wrapping_mul(31).wrapping_add(i as u64);
        let data = (0..count).flat_map(|j| (uniform(key, j) * 2.0 - 1.0).to_le_bytes()).collect();
        (InputSpec { name: graph.name(port.value).into(), dtype: port.dtype, dims, value: None }, data)
    };
    graph.inputs.iter().enumerate().map(input).collect()
}

/// A real model from the cache that the project's fetch script fills, `~/.cache/edge-models/NAME`. `None`, with a
/// word on stderr, when it is not there.
///
/// # Panics
/// When it is not there and `EDGE_REQUIRE_MODELS` is 1, as in CI.
pub fn cached_model(name: &str) -> Option<PathBuf> {
    let home = std::env::var_os("HOME").map(PathBuf::from).unwrap_or_default();
    let path = home.join(".cache/edge-models").join(name);
    if path.is_file() {
        return Some(path);
    }
    let required = std::env::var("EDGE_REQUIRE_MODELS").is_ok_and(|v| v == "1");
    assert!(!required, "{} is missing: fetch the models first, or unset EDGE_REQUIRE_MODELS", path.display());
    eprintln!("skipped: {} is missing", path.display());
    None
}
