//! The seams that later work needs, held open by the executor: nested planes, tiles in shells, sums of leaves, and a leaf
//! that only this file knows.

use edge_runtime::device::Device;
use edge_runtime::graph::{Act, DType, Dim, Graph, Node as GraphNode, Op, Port, Source};
use edge_runtime::pack::{Acts, Arg, Blob, BlobId, Expr, Header, MemorySource, Rung, Take, Tensor};
use edge_runtime::plan::InputSpec;
use edge_runtime::random::uniform;
use edge_runtime::weights::planes::{self, Spec};
use edge_runtime::weights::{self, Float, Node, PANEL, Part, Registry, WeightError, Weights, dense};
use edge_runtime::{Model, Session};
use serde_json::json;
use std::sync::Arc;

const N: usize = 24;
const K: usize = 32;

fn noise(key: u64, count: usize) -> Vec<f32> {
    (0..count as u64).map(|i| uniform(key, i) * 2.0 - 1.0).collect()
}

/// A header in the making with its blobs.
#[derive(Default)]
struct Draft {
    header: Header,
    blobs: Vec<Vec<u8>>,
}

impl Draft {
    fn blob(&mut self, bytes: Vec<u8>) -> BlobId {
        self.header.blobs.push(Blob { offset: 0, len: bytes.len() as u64, hash: 0 });
        self.blobs.push(bytes);
        self.blobs.len() as BlobId - 1
    }

    fn dense(&mut self, w: &[f32], n: usize, k: usize) -> Expr {
        let encoded = dense::encode(w, n, k, Float::F32, dense::Layout::Panel).unwrap();
        let blob = self.blob(encoded.blob.clone());
        encoded.expr(blob)
    }
}

fn expr(kind: &str, params: serde_json::Value, args: Vec<Expr>, blobs: Vec<BlobId>) -> Expr {
    let params = params.as_object().cloned().unwrap_or_default();
    Expr {
        kind: kind.into(),
        params,
        args: args.into_iter().map(|e| Arg::Expr(Box::new(e))).collect(),
        blobs,
    }
}

/// `y = x · wᵀ` with `w` as the expression says, run by the executor; and by definition from
/// [`Weights::materialize`].
fn run(mut draft: Draft, registry: Registry, root: Expr, take: u32) -> (Vec<f32>, Vec<f32>) {
    draft.header.tensors.push(Tensor { name: "w".into(), n: N, k: K, roots: vec![root] });
    let mut graph = Graph::default();
    let x = graph.add_value("x", Source::Computed);
    let w = graph.add_value("w", Source::Weight(0));
    let y = graph.add_value("y", Source::Computed);
    let port = |value, cols| Port {
        value,
        dtype: DType::F32,
        dims: Some(vec![Dim::Named("rows".into()), Dim::Fixed(cols)]),
        plan_time: false,
    };
    graph.inputs.push(port(x, K));
    graph.outputs.push(port(y, N));
    graph.body.nodes.push(GraphNode {
        name: "linear".into(),
        op: Op::Linear { out_features: N, act: Act::None, act_after_residual: false },
        inputs: vec![Some(x), Some(w)],
        outputs: vec![Some(y)],
    });
    draft.header.graphs.push(graph);
    let rung = Rung {
        id: "only".into(),
        graph: 0,
        subnet: None,
        chosen: None,
        acts: Acts::F32,
        takes: vec![Some(Take(0, take))],
        floats: vec![],
        end: 0,
        bytes: 0,
        quality: None,
        arena: 0,
        min_runtime: 0,
        features: Vec::new(),
        parts: None,
    };
    draft.header.rungs.push(rung.clone());
    let source = Arc::new(MemorySource::from(draft.blobs));
    let model = Arc::new(Model::new(Arc::new(draft.header), source, Arc::new(registry)));

    let rows = 3;
    let input = noise(99, rows * K);
    let device = Device::builder().threads(Some(2)).budget(Some(64 << 20)).build().unwrap();
    let spec = InputSpec { name: "x".into(), dtype: DType::F32, dims: vec![rows, K], value: None };
    let mut session = Session::new(&device, &model, &rung, &[spec]).unwrap();
    let bytes: Vec<u8> = input.iter().flat_map(|v| v.to_le_bytes()).collect();
    session.set_input(0, &bytes).unwrap();
    session.run().unwrap();
    let got = session.output(0).1.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect();

    let matrix = model.weights(&rung, 0).unwrap().materialize();
    let dot = |r: usize, c: usize| -> f64 {
        (0..K).map(|k| f64::from(input[r * K + k]) * f64::from(matrix[c * K + k])).sum()
    };
    let want = (0..rows * N).map(|i| dot(i / N, i % N) as f32).collect();
    (got, want)
}

#[track_caller]
fn assert_close((got, want): (Vec<f32>, Vec<f32>)) -> Vec<f32> {
    assert_eq!(got.len(), want.len());
    for (i, (got, want)) in got.iter().zip(&want).enumerate() {
        assert!((got - want).abs() <= 1e-4, "element {i}: {got}, by definition {want}");
    }
    got
}

#[test]
fn two_nested_planes() {
    let w = noise(1, N * K);
    let of = |take| {
        let mut draft = Draft::default();
        let spec = Spec { bits: vec![4, 4], ..Spec::default() };
        let encoded = planes::encode(&w, N, K, &spec, &[]).unwrap();
        let blobs = encoded.blobs.iter().map(|b| draft.blob(b.clone())).collect();
        let root = encoded.expr(blobs);
        assert_close(run(draft, Registry::standard(), root, take))
    };
    let exact = {
        let mut draft = Draft::default();
        let root = draft.dense(&w, N, K);
        assert_close(run(draft, Registry::standard(), root, 0))
    };
    let error = |got: &[f32]| got.iter().zip(&exact).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>();
    let (one, two) = (error(&of(1)), error(&of(2)));
    assert!(two * 16.0 < one, "squared error {one} with one plane, {two} with two");
}

#[test]
fn tiles_in_two_shells() {
    let w = noise(2, N * K);
    let (n, k) = (16, 24);
    // The core, then the shell around it: below and to the right.
    let blocks = [[0, n, 0, k], [n, N, 0, k], [0, N, k, K]];
    let mut draft = Draft::default();
    let part = |[n0, n1, k0, k1]: [usize; 4]| -> Vec<f32> {
        (n0..n1).flat_map(|r| w[r * K + k0..r * K + k1].to_vec()).collect()
    };
    let args = blocks.iter().map(|b| draft.dense(&part(*b), b[1] - b[0], b[3] - b[2])).collect();
    let root = expr("tiles", json!({ "blocks": blocks }), args, Vec::new());
    let tiled = assert_close(run(draft, Registry::standard(), root, 0));
    let mut whole = Draft::default();
    let root = whole.dense(&w, N, K);
    assert_eq!(tiled, run(whole, Registry::standard(), root, 0).0);
}

#[test]
fn a_sum_of_two_leaves() {
    let (a, b) = (noise(3, N * K), noise(4, N * K));
    let of = |take| {
        let mut draft = Draft::default();
        let args = vec![draft.dense(&a, N, K), draft.dense(&b, N, K)];
        let root = expr("combine", json!({ "coefs": [1.0, 0.25] }), args, Vec::new());
        assert_close(run(draft, Registry::standard(), root, take))
    };
    assert_ne!(of(1), of(2));
}

/// The whole of a new format: one bit an element, `+scale` where it is set, else `-scale`; rows of `ceil(k / 8)` bytes.
struct Signs {
    n: usize,
    k: usize,
    scale: f32,
    bytes: weights::Bytes,
}

impl Signs {
    fn construct(node: &mut Node<'_, '_>) -> Result<Box<dyn Weights>, WeightError> {
        node.only(&["scale"])?;
        node.counts(0, 1)?;
        let scale = node.need("scale", "a number")?;
        let (n, k) = (node.n(), node.k());
        let bytes = node.bytes(0, n * k.div_ceil(8))?;
        Ok(Box::new(Signs { n, k, scale, bytes }))
    }

    fn at(&self, row: usize, col: usize) -> f32 {
        let byte = self.bytes.as_slice()[row * self.k.div_ceil(8) + col / 8];
        if byte >> (col % 8) & 1 == 1 { self.scale } else { -self.scale }
    }
}

impl Weights for Signs {
    fn n(&self) -> usize {
        self.n
    }

    fn k(&self) -> usize {
        self.k
    }

    fn materialize(&self) -> Vec<f32> {
        (0..self.n * self.k).map(|i| self.at(i / self.k, i % self.k)).collect()
    }

    fn fill_part(&self, part: &Part, out: &mut [f32]) {
        for (column, col) in out.chunks_exact_mut(PANEL).zip(part.cols.clone()) {
            for (lane, row) in part.rows.clone().enumerate() {
                column[part.lane + lane] = self.at(row, col);
            }
        }
    }
}

#[test]
fn a_leaf_that_only_a_test_knows() {
    let mut registry = Registry::standard();
    registry.add("signs", Signs::construct);
    let mut draft = Draft::default();
    let blob = draft.blob(noise(5, N * K / 8).iter().map(|v| (v * 127.0) as i8 as u8).collect());
    let signs = expr("signs", json!({ "scale": 0.5 }), Vec::new(), vec![blob]);
    // Inside another expression, to see that nobody asks for its kind.
    let other = draft.dense(&noise(6, N * K), N, K);
    let root = expr("combine", json!({}), vec![signs, other], Vec::new());
    for take in [1, 2] {
        let draft = Draft { header: draft.header.clone(), blobs: draft.blobs.clone() };
        assert_close(run(draft, registry.clone(), root.clone(), take));
    }
}
