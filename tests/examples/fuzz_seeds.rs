//! Writes inputs to start from: `fuzz_seeds CORPUS [FOLDER OF ONNX FILES]`.
//!
//! The tests' own models, and small ones of the folder (`cases.py` fills it), as they are, as packs of floats, and as packs with a
//! ladder; supernets, which have a description beside them; every kind of weight expression, some nested.

use edge_converter::draft::float_draft;
use edge_converter::import::import_onnx_bytes;
use edge_converter::simplify::{Options, simplify};
use edge_converter::{Options as Convert, convert_supernet};
use edge_runtime::pack::{BlobSource, Card, Header, PackFile};
use edge_runtime::random::uniform;
use edge_runtime::weights::sparse::{self, Positions};
use edge_runtime::weights::{Float, dense, planes};
use edge_tests::fuzz::Parts;
use edge_tests::{Folder, Quiet, convert_in_process, models};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

/// Larger models make slow seeds.
const MOST: usize = 12 << 10;

fn main() {
    let mut args = std::env::args_os().skip(1).map(PathBuf::from);
    let corpus = args.next().expect("the folder of the corpora");
    let own = [
        ("classifier", models::classifier()),
        ("mlp", models::mlp()),
        ("deep", models::deep(2, 16)),
        ("lstm", models::lstm()),
        ("unsupported", models::unsupported()),
    ];
    let mut onnx: Vec<(String, Vec<u8>)> = own.map(|(name, bytes)| (name.to_string(), bytes)).into();
    let laddered = onnx.len() - 1;
    let mut families: Vec<(String, PathBuf)> = Vec::new();
    if let Some(folder) = args.next() {
        let mut files: Vec<PathBuf> = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().path()).collect();
        files.sort();
        for file in files {
            let name = file.file_stem().unwrap().to_string_lossy().into_owned();
            if file.extension().is_some_and(|extension| extension == "toml") {
                families.push((name, file));
                continue;
            }
            onnx.push((name, std::fs::read(file).unwrap()));
        }
    }
    let write = |target: &str, name: &str, bytes: &[u8]| {
        std::fs::create_dir_all(corpus.join(target)).unwrap();
        std::fs::write(corpus.join(target).join(name), bytes).unwrap();
    };
    for (i, (name, bytes)) in onnx.iter().enumerate() {
        if bytes.len() <= MOST {
            write("import", name, bytes);
        }
        let Ok(model) = import_onnx_bytes(bytes, None) else { continue };
        let mut draft = float_draft(&simplify(model, &Options::default()));
        let blobs: Vec<Vec<u8>> = draft.blobs.iter().map(|b| b.to_vec()).collect();
        let seed = pack(&mut draft.header, &blobs);
        if seed.len() <= 2 * MOST {
            write("pack", name, &seed);
        }
        if i < laddered {
            write("pack", &format!("{name}-ladder"), &ladder(bytes));
        }
    }
    for (name, description) in families {
        write("pack", &name, &family(&description));
    }
    for (name, seed) in expressions() {
        write("weights", name, &seed);
    }
}

/// The input that stands for a pack. What no runtime reads is left out.
fn pack(header: &mut Header, blobs: &[Vec<u8>]) -> Vec<u8> {
    header.card = Card { name: "seed".into(), ..Card::default() };
    (header.golden, header.sections) = (None, Vec::new());
    header.costs.clear();
    // In the order of their ids; the target puts them where they belong.
    let mut at = 64;
    for blob in &mut header.blobs {
        (blob.offset, blob.hash) = (at, 0);
        at += blob.len;
    }
    header.rungs.iter_mut().for_each(|rung| rung.end = at);
    let text = serde_json::to_vec(header).unwrap();
    Parts { flag: true, text: &text, bytes: &blobs.concat() }.join()
}

/// A converted model: its smallest rung of integers, its smallest of floats and the exact one.
fn ladder(onnx: &[u8]) -> Vec<u8> {
    let folder = Folder::new("seed");
    let path = folder.file("m.pack");
    convert_in_process(&folder.write("m.onnx", onnx), &path, &[]);
    seed_of(&path)
}

/// A converted supernet.
fn family(description: &Path) -> Vec<u8> {
    let folder = Folder::new("seed");
    let path = folder.file("m.pack");
    let (source, options) = (description.with_extension("onnx"), Convert::default());
    convert_supernet(&source, description, &path, &options, &mut Quiet, &AtomicBool::new(false)).unwrap();
    seed_of(&path)
}

fn seed_of(path: &Path) -> Vec<u8> {
    let file = PackFile::open(path).unwrap();
    let source = file.map(file.file_len()).unwrap();
    let mut header = file.header().clone();
    let last = header.rungs.len() - 1;
    let mut kinds = Vec::new();
    let mut index = 0;
    header.rungs.retain(|rung| {
        let new = !kinds.contains(&rung.acts);
        kinds.push(rung.acts);
        index += 1;
        new || index > last
    });
    let blobs: Vec<Vec<u8>> =
        (0..header.blobs.len() as u32).map(|id| source.blob(id).unwrap_or(&[]).to_vec()).collect();
    pack(&mut header, &blobs)
}

/// An expression in the making.
#[derive(Default)]
struct Draft {
    tensors: Vec<Value>,
    blobs: Vec<Vec<u8>>,
}

const N: usize = 20;
const K: usize = 40;

impl Draft {
    fn blobs(&mut self, blobs: &[Vec<u8>]) -> Vec<u32> {
        self.blobs.extend_from_slice(blobs);
        (self.blobs.len() - blobs.len()..self.blobs.len()).map(|id| id as u32).collect()
    }

    fn planes(&mut self, w: &[f32], n: usize, k: usize, spec: &planes::Spec) -> Value {
        let encoded = planes::encode(w, n, k, spec, &[]).unwrap();
        let blobs = self.blobs(&encoded.blobs);
        serde_json::to_value(encoded.expr(blobs)).unwrap()
    }

    fn dense(&mut self, w: &[f32], n: usize, k: usize, dtype: Float, layout: dense::Layout) -> Value {
        let encoded = dense::encode(w, n, k, dtype, layout).unwrap();
        let blob = self.blobs(std::slice::from_ref(&encoded.blob))[0];
        serde_json::to_value(encoded.expr(blob)).unwrap()
    }

    fn sparse(&mut self, positions: &Positions, wrap: bool) -> Value {
        let spec = planes::Spec { group: 0, ..Default::default() };
        let encoded = planes::encode(&positions.values, positions.n, positions.k, &spec, &[]).unwrap();
        let blobs = self.blobs(&encoded.blobs);
        let mut values = serde_json::to_value(encoded.expr(blobs)).unwrap();
        if wrap {
            values = json!({"kind": "row_codes", "args": [{"expr": values}]});
        }
        let blobs = self.blobs(&positions.blobs);
        let values = serde_json::from_value(values).unwrap();
        serde_json::to_value(positions.expr(values, blobs)).unwrap()
    }

    fn tensor(&mut self, n: usize, k: usize, root: Value) -> &mut Draft {
        self.tensors.push(json!({"name": "w", "n": n, "k": k, "roots": [root]}));
        self
    }

    /// The input that reads the last tensor in some takes.
    fn taken(&self, takes: &[u32]) -> Vec<u8> {
        let last = self.tensors.len() - 1;
        let takes: Vec<[u32; 3]> = takes.iter().map(|take| [last as u32, 0, *take]).collect();
        let lens: Vec<usize> = self.blobs.iter().map(Vec::len).collect();
        let text =
            serde_json::to_vec(&json!({"tensors": self.tensors, "blobs": lens, "takes": takes})).unwrap();
        Parts { flag: false, text: &text, bytes: &self.blobs.concat() }.join()
    }
}

fn noise(count: usize, seed: u64) -> Vec<f32> {
    (0..count as u64).map(|i| uniform(seed, i) * 2.0 - 1.0).collect()
}

fn expressions() -> Vec<(&'static str, Vec<u8>)> {
    let w = noise(N * K, 1);
    let mut seeds = Vec::new();
    let layouts = [
        ("dense-f32", Float::F32, dense::Layout::Panel),
        ("dense-f16", Float::F16, dense::Layout::Panel),
        ("dense-bf16", Float::Bf16, dense::Layout::Rows),
    ];
    for (name, dtype, layout) in layouts {
        let mut draft = Draft::default();
        let root = draft.dense(&w, N, K, dtype, layout);
        seeds.push((name, draft.tensor(N, K, root).taken(&[0])));
    }
    let specs: [(&str, planes::Layout, usize, &[u32]); 6] = [
        ("planes", planes::Layout::Panel, 32, &[2, 2, 2, 2, 4, 4]),
        ("planes-row", planes::Layout::Panel, 0, &[8]),
        ("planes-four", planes::Layout::Panel, 8, &[4, 4]),
        ("planes-one", planes::Layout::Panel1, 0, &[1, 2, 4, 1]),
        ("planes-rows", planes::Layout::Rows, 8, &[2, 2, 4]),
        ("planes-wide", planes::Layout::Panel1, 16, &[4, 8]),
    ];
    for (name, layout, group, bits) in specs {
        let mut draft = Draft::default();
        let spec = planes::Spec { layout, group, bits: bits.to_vec(), ..Default::default() };
        let root = draft.planes(&w, N, K, &spec);
        seeds.push((name, draft.tensor(N, K, root).taken(&[1, 2, 0])));
    }
    let mut draft = Draft::default();
    let root = draft.planes(&w, N, K, &planes::Spec { group: 8, ..Default::default() });
    let root = json!({"kind": "row_codes", "args": [{"expr": root}]});
    seeds.push(("row-codes", draft.tensor(N, K, root).taken(&[1, 4])));

    let thin: Vec<f32> = w.iter().enumerate().map(|(i, w)| if i % 4 < 2 { *w } else { 0.0 }).collect();
    let sparse = [
        ("sparse-blocks", Some(sparse::blocks(&thin, N, K, 1))),
        ("sparse-wide", Some(sparse::blocks(&thin, N, K, 8))),
        ("sparse-few", sparse::few(&thin, N, K, 2, 4)),
        ("sparse-bitmap", Some(sparse::bitmap(&thin, N, K, true))),
    ];
    for (name, positions) in sparse {
        let mut draft = Draft::default();
        let positions = positions.unwrap();
        let root = draft.sparse(&positions, !positions.params.contains_key("count"));
        seeds.push((name, draft.tensor(N, K, root).taken(&[1, 0])));
    }

    let mut draft = Draft::default();
    let spec = planes::Spec::default();
    let root = draft.planes(&w, N, K, &spec);
    draft.tensor(N, K, root);
    let (left, right) = (draft.planes(&w[..N * 20], N, 20, &spec), noise(N * 20, 2));
    let right = draft.dense(&right, N, 20, Float::F32, dense::Layout::Rows);
    let params = json!({"taps": 5, "blocks": [[0, 20, 0, 4], [0, 20, 4, 8]]});
    let tiles = json!({"kind": "tiles", "params": params, "args": [{"expr": left}, {"expr": right}]});
    draft.tensor(N, K, tiles);
    seeds.push(("tiles", draft.taken(&[1, 0])));
    let params = json!({"taps": 5, "rows": [3, 20], "channels": [1, 8]});
    let view = json!({"kind": "view", "params": params, "args": [{"shared": [1, 0]}]});
    draft.tensor(17, 35, view);
    seeds.push(("view", draft.taken(&[1, 0])));
    let params = json!({"coefs": [1, 0.5], "takes": [1, 2]});
    let combine =
        json!({"kind": "combine", "params": params, "args": [{"shared": [0, 0]}, {"shared": [1, 0]}]});
    draft.tensor(N, K, combine);
    seeds.push(("combine", draft.taken(&[0, 1])));
    let params = json!({"coefs": [0.5, noise(N, 5)], "through": true});
    let args = [json!({"shared": [0, 0]}), json!({"shared": [0, 0]})];
    draft.tensor(N, K, json!({"kind": "combine", "params": params, "args": args}));
    seeds.push(("combine-through", draft.taken(&[0, 1, 2])));

    let mut draft = Draft::default();
    let matrix = draft.planes(&w, N, K, &spec);
    let v = draft.planes(&noise(8 * K, 3), 8, K, &spec);
    let u = draft.planes(&noise(N * 8, 4), N, 8, &planes::Spec { group: 8, ..Default::default() });
    let rows = draft.blobs(&[vec![17; 4 * N], vec![33; 8 * N]]);
    let levels = json!({"levels": [[1, 1, 0, 0.0], [2, 2, 8, 1.5], [0, 0, 0, 0.0], [null, 0, 8, 1.5]]});
    let args = [matrix, v.clone(), u.clone(), v, u].map(|expr| json!({"expr": expr}));
    let root = json!({"kind": "corrected", "params": levels, "args": args, "blobs": rows});
    draft.tensor(N, K, root);
    seeds.push(("corrected", draft.taken(&[1, 2, 4])));
    seeds
}
