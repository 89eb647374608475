//! A small pack of three rungs with one of everything, a directory that removes itself, a seeded generator.

use edge_runtime::graph::{Act, BinaryOp, Block, DType, Dim, Graph, Node, Op, Port, Source, State};
use edge_runtime::pack::*;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// A flag that stops nothing.
pub static NEVER: AtomicBool = AtomicBool::new(false);

/// A directory under the system's own for temporary files.
pub struct Dir(PathBuf);

impl Dir {
    pub fn new() -> Dir {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("edge-pack-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).unwrap();
        Dir(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Names of all entries, sorted.
    pub fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(&self.0).unwrap();
        let mut names: Vec<String> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// SplitMix64 (Steele, Lea, Flood 2014).
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }

    pub fn bytes(&mut self, len: usize) -> Vec<u8> {
        (0..len).map(|_| self.next() as u8).collect()
    }
}

fn node(name: &str, op: Op, inputs: &[u32], outputs: &[u32]) -> Node {
    Node {
        name: name.to_owned(),
        op,
        inputs: inputs.iter().map(|&v| Some(v)).collect(),
        outputs: outputs.iter().map(|&v| Some(v)).collect(),
    }
}

/// `y = if c { relu(x · wᵀ + b) } else { x · vᵀ + h }`, `h' = y`.
fn graph() -> Graph {
    let mut g = Graph::default();
    let x = g.add_value("x", Source::Computed);
    let h = g.add_value("h", Source::Computed);
    let c = g.add_value("c", Source::Computed);
    let w = g.add_value("w", Source::Weight(0));
    let v = g.add_value("v", Source::Weight(1));
    let b = g.add_value("b", Source::Constant(0));
    let sum = g.add_value("sum", Source::Computed);
    let relu = g.add_value("relu", Source::Computed);
    let plain = g.add_value("plain", Source::Computed);
    let other = g.add_value("other", Source::Computed);
    let y = g.add_value("y", Source::Computed);
    g.values[y as usize].range = Some((-1.5, 2.25));
    let port =
        |value, dims: &[Dim]| Port { value, dtype: DType::F32, dims: Some(dims.to_vec()), plan_time: false };
    let batch = Dim::Named("batch".to_owned());
    g.inputs = vec![
        port(x, &[batch.clone(), Dim::Fixed(8)]),
        port(h, &[batch.clone(), Dim::Fixed(16)]),
        Port { value: c, dtype: DType::Bool, dims: None, plan_time: true },
    ];
    g.outputs = vec![port(y, &[batch, Dim::Fixed(16)])];
    g.states = vec![State { input: 1, output: 0 }];
    let linear = || Op::Linear { out_features: 16, act: Act::None, act_after_residual: false };
    let then_branch = Block {
        nodes: vec![
            node("linear", linear(), &[x, w], &[sum]),
            node("relu", Op::Unary(edge_runtime::graph::UnaryOp::Act(Act::Relu)), &[sum], &[relu]),
        ],
        outputs: vec![relu],
    };
    let else_branch = Block {
        nodes: vec![
            node("linear_v", linear(), &[x, v, b], &[plain]),
            node("add", Op::Binary(BinaryOp::Add), &[plain, h], &[other]),
        ],
        outputs: vec![other],
    };
    g.body.nodes = vec![node("choose", Op::If { then_branch, else_branch }, &[c], &[y])];
    g
}

fn leaf(kind: &str, blobs: &[BlobId]) -> Expr {
    let mut params = serde_json::Map::new();
    params.insert("bits".to_owned(), 8.into());
    Expr { kind: kind.to_owned(), params, args: Vec::new(), blobs: blobs.to_vec() }
}

fn rung(id: &str, terms: u32) -> Rung {
    Rung {
        id: id.to_owned(),
        graph: 0,
        subnet: None,
        chosen: None,
        acts: Acts::I8,
        takes: vec![Some(Take(0, terms)), Some(Take(0, terms))],
        floats: vec![],
        end: 0,
        bytes: 0,
        quality: Some(Quality { metric: "sqnr_db".to_owned(), value: 20.5, samples: "none".to_owned() }),
        arena: 1024,
        min_runtime: 0,
        features: Vec::new(),
        parts: None,
    }
}

/// Three rungs, of planes of 2, 4 and 8 bits, and golden data. The third section has more than 1 MiB.
///
/// Blobs: 0 scales, 1-3 planes of `w`; 4 the bias; 5 a leaf of `v`; 6 golden; 7 empty.
pub fn contents() -> (Contents, MemorySource) {
    let mut random = Random(1);
    let mut source = MemorySource::default();
    for len in [32, 1000, 70_001, (1 << 20) + 5, 64, 500, 2 * 8 * 4, 0] {
        source.push(random.bytes(len));
    }
    let mut view = leaf("view", &[]);
    view.args = vec![Arg::Shared(0, 0)];
    let mut combine = leaf("combine", &[]);
    combine.args = vec![Arg::Expr(Box::new(view)), Arg::Expr(Box::new(leaf("dense", &[5])))];
    let golden = |blob, dims: &[usize]| GoldenValue {
        dtype: DType::F32,
        dims: dims.to_vec(),
        source: GoldenSource::Blob(blob),
    };
    let uniform = |dims: &[usize]| GoldenValue {
        dtype: DType::F32,
        dims: dims.to_vec(),
        source: GoldenSource::Uniform { seed: u64::MAX, lo: -1.0, hi: 1.0 },
    };
    let header = Header {
        card: Card {
            name: "small".to_owned(),
            metadata: [("licence".to_owned(), "MIT".to_owned())].into(),
            labels: vec!["cat".to_owned(), "dög \"2\"".to_owned()],
            preprocess: [
                (
                    "x".to_owned(),
                    Preprocess::Image {
                        colour: Colour::Rgb,
                        layout: ImageLayout::Nhwc,
                        mean: vec![127.0],
                        std: vec![128.0, 127.5, 128.0],
                        size: Some([224, 224]),
                        multiple: Some(32),
                    },
                ),
                ("h".to_owned(), Preprocess::Audio { sample_rate: 16000 }),
            ]
            .into(),
        },
        graphs: vec![graph()],
        constants: vec![
            Constant { dtype: DType::F32, dims: vec![16], data: ConstantData::Blob(4) },
            Constant { dtype: DType::I64, dims: vec![], data: ConstantData::hex(&7i64.to_le_bytes()) },
            Constant { dtype: DType::F32, dims: vec![3, 0], data: ConstantData::Blob(7) },
        ],
        tensors: vec![
            Tensor { name: "w".to_owned(), n: 16, k: 8, roots: vec![leaf("planes", &[0, 1, 2, 3])] },
            Tensor { name: "v".to_owned(), n: 16, k: 8, roots: vec![combine] },
        ],
        rungs: vec![rung("w2", 1), rung("w4", 2), rung("w8", 3)],
        golden: Some(Golden {
            inputs: vec![golden(6, &[2, 8]), uniform(&[2, 16]), uniform(&[])],
            outputs: vec![uniform(&[2, 16])],
            reference: "by hand".to_owned(),
        }),
        ..Header::default()
    };
    let contents = Contents {
        header,
        sections: vec![vec![0, 4, 5, 1], vec![2, 7], vec![3], vec![], vec![6]],
        needs: vec![vec![0, 1, 4, 5, 7, 0], vec![0, 1, 2, 4, 5], vec![0, 1, 2, 3, 4, 5]],
        min_runtime: 0,
    };
    (contents, source)
}

/// Writes [`contents`] to a file of `dir`.
pub fn small_pack(dir: &Dir, name: &str) -> (PathBuf, Written, MemorySource) {
    let (contents, source) = contents();
    let path = dir.file(name);
    let written = write(&path, contents, &source, &NEVER).unwrap();
    (path, written, source)
}

/// Puts a preamble before a header text and gives the bytes: `docs` layout by hand, not by the writer.
pub fn with_preamble(min_runtime: u32, header: &[u8], rest: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend_from_slice(&MAGIC);
    bytes.extend_from_slice(&FORMAT.to_le_bytes());
    bytes.extend_from_slice(&min_runtime.to_le_bytes());
    bytes.extend_from_slice(&(header.len() as u64).to_le_bytes());
    let mut hasher = blake3::Hasher::new();
    hasher.update(&bytes).update(header);
    bytes.extend_from_slice(&hasher.finalize().as_bytes()[..16]);
    bytes.resize(PREAMBLE, 0);
    bytes.extend_from_slice(header);
    bytes.extend_from_slice(rest);
    bytes
}

/// Bytes of a header that edits may use up: see [`edited`].
const FILLER: usize = 4300;

/// A whole small pack whose header has room for edits.
pub fn roomy_pack() -> (Vec<u8>, Header, u64) {
    let dir = Dir::new();
    let path = dir.file("model.pack");
    let (mut contents, source) = contents();
    contents.header.card.metadata.insert("filler".to_owned(), "x".repeat(FILLER));
    let written = write(&path, contents, &source, &NEVER).unwrap();
    (std::fs::read(path).unwrap(), written.header, written.header_end)
}

/// The pack's bytes with another header, whose filler shrinks so that everything stays in its place.
pub fn edited(pack: &[u8], header_end: u64, mut header: Header) -> Vec<u8> {
    let room = header_end as usize - PREAMBLE;
    let len = serde_json::to_vec(&header).unwrap().len();
    let filler = header.card.metadata.get_mut("filler").unwrap();
    filler.truncate(filler.len().saturating_sub(len.saturating_sub(room)));
    padded(pack, header_end, serde_json::to_vec(&header).unwrap())
}

/// The pack's bytes with another header text, with spaces after it up to the length of the old one.
pub fn padded(pack: &[u8], header_end: u64, mut text: Vec<u8>) -> Vec<u8> {
    let room = header_end as usize - PREAMBLE;
    text.resize(text.len().max(room), b' ');
    with_preamble(0, &text, &pack[header_end as usize..])
}
