//! A coarse matrix beside its correction, `act(gain W' x + U (V x) + shift + b) + r`, through the executor: products and convolutions,
//! floats and integers, against the formula written out.

use edge_kernels::Isa;
use edge_runtime::device::Device;
use edge_runtime::graph::{Act, DType, Dim, Graph, Node, Op, Pads, Port, Source, Window};
use edge_runtime::pack::{
    Acts, Arg, Blob, BlobId, Constant, ConstantData, Expr, Header, MemorySource, Rung, Take, Tensor,
};
use edge_runtime::plan::InputSpec;
use edge_runtime::random::uniform;
use edge_runtime::weights::planes::{self, Spec};
use edge_runtime::weights::{Registry, WeightError, bind};
use edge_runtime::{Model, Session};
use half::f16;
use serde_json::{Value, json};
use std::sync::Arc;

/// Height and width of the picture.
const SIDE: usize = 5;
/// Its channels.
const IC: usize = 16;
/// Rows of the matrix: a whole panel and a part of one.
const N: usize = 24;
/// Columns of U.
const RANK: usize = 16;
/// The largest magnitude that `V x` may have; calibration would say so.
const RANGE: f32 = 24.0;

fn noise(key: u64, count: usize) -> Vec<f32> {
    (0..count as u64).map(|i| uniform(key, i) * 2.0 - 1.0).collect()
}

/// One way that the product may be asked for.
#[derive(Clone, Copy, Debug)]
struct Case {
    /// Height and width of the window; 1 for a product of rows.
    kernel: usize,
    act: Act,
    /// Whether a residual is added: before or after the function.
    residual: Option<bool>,
    /// The take: its gains and shifts, and whether U V is there.
    take: u32,
}

impl Case {
    fn k(&self) -> usize {
        self.kernel * self.kernel * IC
    }
}

/// A pack of one product, and its parts as the formula takes them.
struct Pack {
    header: Header,
    blobs: Vec<Vec<u8>>,
}

impl Pack {
    fn new(case: &Case) -> Pack {
        let mut pack = Pack { header: Header::default(), blobs: Vec::new() };
        let k = case.k();
        let matrix = pack.planes(&noise(1, N * k), N, k, 32, &[4, 4]);
        let thin = [
            pack.planes(&noise(2, RANK * k), RANK, k, 32, &[4]),
            pack.planes(&noise(3, N * RANK), N, RANK, 16, &[4]),
        ];
        let rows = |key: u64| -> Vec<u8> {
            let gains = noise(key, N).into_iter().map(|g| 0.2 * g);
            let all = gains.chain(noise(key + 1, N)).flat_map(|v| f16::from_f32(v).to_le_bytes());
            all.collect()
        };
        let blobs = vec![pack.blob(rows(10)), pack.blob(rows(20)), pack.blob(rows(40))];
        let levels = json!([[1, 1, 0, 0.0], [1, 1, RANK, RANGE], [2, 0, 0, 0.0], [null, 1, RANK, RANGE]]);
        let args = [vec![matrix], thin.to_vec(), thin.into()].concat();
        pack.tensor(N, k, expr("corrected", json!({ "levels": levels }), args, blobs));
        pack.header.graphs.push(graph(case));
        for (i, count) in [N, SIDE * SIDE * N].into_iter().enumerate() {
            let data = noise(30 + i as u64, count).iter().flat_map(|v| v.to_le_bytes()).collect();
            let dims = if i == 0 { vec![N] } else { vec![1, SIDE, SIDE, N] };
            let data = ConstantData::Blob(pack.blob(data));
            pack.header.constants.push(Constant { dtype: DType::F32, dims, data });
        }
        pack
    }

    fn blob(&mut self, bytes: Vec<u8>) -> BlobId {
        self.header.blobs.push(Blob { offset: 0, len: bytes.len() as u64, hash: 0 });
        self.blobs.push(bytes);
        self.blobs.len() as BlobId - 1
    }

    fn planes(&mut self, w: &[f32], n: usize, k: usize, group: usize, bits: &[u32]) -> Expr {
        let spec = Spec { group, bits: bits.to_vec(), ..Spec::default() };
        let encoded = planes::encode(w, n, k, &spec, &[]).unwrap();
        let blobs = encoded.blobs.iter().map(|bytes| self.blob(bytes.clone())).collect();
        encoded.expr(blobs)
    }

    fn tensor(&mut self, n: usize, k: usize, root: Expr) {
        let name = format!("t{}", self.header.tensors.len());
        self.header.tensors.push(Tensor { name, n, k, roots: vec![root] });
    }

    fn rung(&self, case: &Case, acts: Acts) -> Rung {
        Rung {
            id: "only".into(),
            graph: 0,
            subnet: None,
            chosen: None,
            acts,
            takes: vec![Some(Take(0, case.take))],
            floats: vec![],
            end: 0,
            bytes: 0,
            quality: None,
            arena: 0,
            min_runtime: 0,
            features: Vec::new(),
            parts: None,
        }
    }

    fn model(&self, isa: Isa) -> Arc<Model> {
        let source = Arc::new(MemorySource::from(self.blobs.clone()));
        Arc::new(Model::new(Arc::new(self.header.clone()), source, Arc::new(Registry::for_isa(isa))))
    }

    /// An expression as it is decoded, alone.
    fn decoded(&self, expr: &Expr, n: usize, k: usize, take: u32) -> Vec<f32> {
        let tensors = vec![Tensor { name: "alone".into(), n, k, roots: vec![expr.clone()] }];
        let header = Header { blobs: self.header.blobs.clone(), tensors, ..Header::default() };
        let source = Arc::new(MemorySource::from(self.blobs.clone())) as _;
        bind(&Registry::standard(), &header, 0, Take(0, take), &source).unwrap().materialize()
    }

    /// The formula, in f64.
    fn want(&self, case: &Case, x: &[f32]) -> Vec<f64> {
        let k = case.k();
        let root = &self.header.tensors[0].roots[0];
        let part = |i: usize, n: usize, k: usize, take: u32| match &root.args[i] {
            Arg::Expr(expr) => self.decoded(expr, n, k, take),
            Arg::Shared(..) => unreachable!("nothing is shared here"),
        };
        let plane = if case.take == 3 { 2 } else { 1 };
        let (w, v, u) = (part(0, N, k, plane), part(1, RANK, k, 0), part(2, N, RANK, 0));
        let blob = [10, 20, 10, 40][case.take as usize - 1];
        let half = |v: f32| f64::from(f16::from_f32(v).to_f32());
        let gains: Vec<f64> = noise(blob, N).iter().map(|g| 1.0 + half(0.2 * g)).collect();
        let shifts: Vec<f64> = noise(blob + 1, N).iter().map(|s| half(*s)).collect();
        let (bias, residual) = (noise(30, N), noise(31, SIDE * SIDE * N));
        let mut all = Vec::new();
        for pixel in 0..SIDE * SIDE {
            let row = window(x, case.kernel, pixel);
            let dot = |w: &[f32]| row.iter().zip(w).map(|(x, w)| f64::from(*x) * f64::from(*w)).sum::<f64>();
            let t: Vec<f64> = v.chunks(k).map(dot).collect();
            for c in 0..N {
                let mut y = dot(&w[c * k..(c + 1) * k]);
                let row = u[c * RANK..(c + 1) * RANK].iter();
                let thin = row.zip(&t).map(|(u, t)| f64::from(*u) * t).sum::<f64>();
                match case.take {
                    1 => y = y * gains[c] + shifts[c],
                    2 => y = y * gains[c] + shifts[c] + thin,
                    4 => y = thin * gains[c] + shifts[c],
                    _ => {}
                }
                y += f64::from(bias[c]);
                let r = f64::from(residual[pixel * N + c]);
                let act = |y: f64| if case.act == Act::None { y } else { y.max(0.0) };
                all.push(match case.residual {
                    None => act(y),
                    Some(false) => act(y) + r,
                    Some(true) => act(y + r),
                });
            }
        }
        all
    }

    fn run(&self, case: &Case, acts: Acts, isa: Isa, threads: usize, x: &[f32]) -> Vec<f32> {
        let model = self.model(isa);
        let device = Device::builder().threads(Some(threads)).isa(Some(isa)).budget(Some(64 << 20));
        let device = device.build().unwrap();
        let dims = vec![1, SIDE, SIDE, IC];
        let spec = InputSpec { name: "x".into(), dtype: DType::F32, dims, value: None };
        let mut session = Session::new(&device, &model, &self.rung(case, acts), &[spec]).unwrap();
        let bytes: Vec<u8> = x.iter().flat_map(|v| v.to_le_bytes()).collect();
        // Twice: what a run leaves behind is not in the next one.
        for _ in 0..2 {
            session.set_input(0, &bytes).unwrap();
            session.run().unwrap();
        }
        session.output(0).1.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
    }
}

fn expr(kind: &str, params: Value, args: Vec<Expr>, blobs: Vec<BlobId>) -> Expr {
    let args = args.into_iter().map(|e| Arg::Expr(Box::new(e))).collect();
    Expr { kind: kind.into(), params: params.as_object().cloned().unwrap_or_default(), args, blobs }
}

/// The window of a pixel, one of zeros around the picture.
fn window(x: &[f32], kernel: usize, pixel: usize) -> Vec<f32> {
    let pad = kernel / 2;
    let mut row = Vec::new();
    for ky in 0..kernel {
        for kx in 0..kernel {
            let (y, at) = ((pixel / SIDE + ky).checked_sub(pad), (pixel % SIDE + kx).checked_sub(pad));
            match y.zip(at).filter(|(y, at)| *y < SIDE && *at < SIDE) {
                Some((y, at)) => row.extend(&x[(y * SIDE + at) * IC..][..IC]),
                None => row.extend([0.0; IC]),
            }
        }
    }
    row
}

fn graph(case: &Case) -> Graph {
    let mut graph = Graph::default();
    let x = graph.add_value("x", Source::Computed);
    let w = graph.add_value("w", Source::Weight(0));
    let b = graph.add_value("b", Source::Constant(0));
    let r = graph.add_value("r", Source::Constant(1));
    let y = graph.add_value("y", Source::Computed);
    graph.values[x as usize].range = Some((-1.0, 1.0));
    let port = |value, channels| Port {
        value,
        dtype: DType::F32,
        dims: Some([1, SIDE, SIDE, channels].map(Dim::Fixed).to_vec()),
        plan_time: false,
    };
    graph.inputs.push(port(x, IC));
    graph.outputs.push(port(y, N));
    let after = case.residual.unwrap_or(false);
    let pad = case.kernel / 2;
    let window =
        Window { kernel: [case.kernel; 2], stride: [1, 1], dilation: [1, 1], pads: Pads::Explicit([pad; 4]) };
    let op = match case.kernel {
        1 => Op::Linear { out_features: N, act: case.act, act_after_residual: after },
        _ => Op::Conv { window, groups: 1, out_channels: N, act: case.act, act_after_residual: after },
    };
    let inputs = vec![Some(x), Some(w), None, Some(b), case.residual.map(|_| r)];
    graph.body.nodes.push(Node { name: "product".into(), op, inputs, outputs: vec![Some(y)] });
    graph
}

fn cases() -> impl Iterator<Item = Case> {
    let residuals = [None, Some(false), Some(true)];
    let acts = [Act::None, Act::Relu];
    (1..=4).flat_map(move |take| {
        [1, 3].into_iter().flat_map(move |kernel| {
            let each = move |residual| acts.map(|act| Case { kernel, act, residual, take });
            residuals.into_iter().flat_map(each)
        })
    })
}

#[test]
fn products_of_floats_are_the_formula() {
    let x = noise(99, SIDE * SIDE * IC);
    for case in cases() {
        let pack = Pack::new(&case);
        let want = pack.want(&case, &x);
        for threads in [1, 2] {
            let got = pack.run(&case, Acts::F32, Isa::detect(), threads, &x);
            let worst = got.iter().zip(&want).map(|(g, w)| (f64::from(*g) - w).abs()).fold(0.0, f64::max);
            // Sums of at most 144 products of magnitude 1 in floats.
            assert!(worst < 2e-5, "{case:?}: {worst}");
        }
    }
}

/// Codes of x have a step of 1/127 and those of V x one of 24/127: half a step each in every product, as independent errors.
#[test]
fn products_of_integers_are_the_formula_within_their_grid_and_the_same_bits_everywhere() {
    let x = noise(99, SIDE * SIDE * IC);
    for case in cases() {
        let pack = Pack::new(&case);
        let want = pack.want(&case, &x);
        let got = pack.run(&case, Acts::I8, Isa::detect(), 1, &x);
        let noise = got.iter().zip(&want).map(|(g, w)| (f64::from(*g) - w).powi(2)).sum::<f64>();
        let rms = (noise / want.len() as f64).sqrt();
        let (step, thin) = (2.0 / 255.0, f64::from(2.0 * RANGE) / 255.0);
        let uniform = (1.0f64 / 12.0).sqrt();
        let one = step * uniform * (case.k() as f64 / 3.0).sqrt();
        let through_v =
            if case.take % 2 == 0 { (RANK as f64 / 3.0).sqrt() * one.hypot(thin * uniform) } else { 0.0 };
        assert!(rms < 1.5 * one.hypot(through_v), "{case:?}: {rms} of {one} and {through_v}");
        for isa in Isa::ALL.into_iter().filter(|isa| isa.supported()) {
            for threads in [1, 2] {
                assert_eq!(pack.run(&case, Acts::I8, isa, threads, &x), got, "{case:?} {isa:?} {threads}");
            }
        }
    }
}

#[test]
fn what_is_not_sound_is_refused() {
    let case = Case { kernel: 1, act: Act::None, residual: None, take: 1 };
    let refused = |change: &dyn Fn(&mut Pack), take: u32| -> String {
        let mut pack = Pack::new(&case);
        change(&mut pack);
        let source = Arc::new(MemorySource::from(pack.blobs.clone())) as _;
        let bound = bind(&Registry::standard(), &pack.header, 0, Take(0, take), &source);
        let error: Option<WeightError> = bound.err();
        error.expect("refused").to_string()
    };
    let levels = |levels: Value| {
        move |pack: &mut Pack| {
            pack.header.tensors[0].roots[0].params.insert("levels".into(), levels.clone());
        }
    };
    let error = refused(&|_| (), 5);
    assert!(error.contains("has take 5, expected at most 4 levels"), "{error}");
    let error = refused(&levels(json!([])), 1);
    assert!(error.contains("corrected.levels is []"), "{error}");
    let error = refused(&levels(json!([[1, 1, 1 << 20, 0.0]])), 1);
    assert!(error.contains("ranks to 16"), "{error}");
    let error = refused(&levels(json!([[1, 1, 16, -1.0]])), 1);
    assert!(error.contains("ranges of 0 or more"), "{error}");
    // Five operands, four of which the levels no longer name.
    let error = refused(&levels(json!([[1, 1, 0, 0.0], [1, 1, 0, 0.0]])), 1);
    assert!(error.contains("has operands 5, expected 1"), "{error}");
    let nothing = json!([[1, 1, RANK, 1.0], [null, 1, 0, 0.0], [1, 1, RANK, 1.0]]);
    let error = refused(&levels(nothing), 2);
    assert!(error.contains("a rank where there is no take"), "{error}");
    // A rank that the stored factors do not have.
    let error = refused(&levels(json!([[1, 1, 0, 0.0], [1, 1, 8, 1.0], [1, 1, 16, 1.0]])), 2);
    assert!(error.contains("bytes, expected"), "{error}");
    let error = refused(
        &|pack| {
            let id = pack.header.tensors[0].roots[0].blobs[0] as usize;
            pack.header.blobs[id].len = 7;
        },
        1,
    );
    assert!(error.contains("blob") && error.contains("7 bytes, expected 96"), "{error}");
}
