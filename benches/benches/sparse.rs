//! One product with a sparse weight beside the same product with all of its weights: from which density on it takes less time.
//!
//! Both run in a session, as a model's do, so that decoding counts. Rows are instruction sets, precisions and shapes; `EDGE_BENCH_ISA`
//! names one instruction set, `EDGE_BENCH_FORM` a part of a form's name, an argument picks rows.

use edge_benches::floats;
use edge_kernels::Isa;
use edge_runtime::device::Device;
use edge_runtime::graph::{Act, DType, Dim, Graph, Node, Op, Port, Source};
use edge_runtime::pack::{Acts, Arg, Blob, Expr, Header, MemorySource, Rung, Take, Tensor};
use edge_runtime::plan::InputSpec;
use edge_runtime::random::uniform;
use edge_runtime::weights::sparse::{self, Positions};
use edge_runtime::weights::{Registry, planes};
use edge_runtime::{Model, Session};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// N and K of the weight.
const SHAPES: [(usize, usize); 5] = [(64, 64), (256, 256), (64, 1024), (1024, 1024), (4096, 4096)];
/// Rows: a vector, a few, a small picture, a large one.
const ROWS: [usize; 4] = [1, 4, 196, 3136];
/// Shares of K that are kept.
const DENSITIES: [f32; 7] = [0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.85];
/// How long one product is measured.
const MEASURED: Duration = Duration::from_millis(25);

/// What stays of a matrix.
#[derive(Clone, Copy)]
enum Form {
    All,
    Blocks(usize),
    Few(usize, usize),
    Bitmap,
}

impl Form {
    fn name(self) -> String {
        match self {
            Form::All => "all".into(),
            Form::Blocks(block) => format!("blocks of {block}"),
            Form::Few(keep, of) => format!("{keep} of {of}"),
            Form::Bitmap => "bitmap".into(),
        }
    }

    fn positions(self, n: usize, k: usize, density: f32) -> Positions {
        let mut w = floats(n * k).to_vec();
        let stays = |at: usize| uniform(9, at as u64) < density;
        let thin = |w: &mut [f32], of: &dyn Fn(usize, usize) -> bool| {
            w.iter_mut().enumerate().for_each(|(i, w)| *w = if of(i / k, i % k) { *w } else { 0.0 });
        };
        match self {
            Form::All => Positions { params: Default::default(), blobs: Vec::new(), values: w, n, k },
            Form::Blocks(block) => {
                // As many of each panel, spread evenly.
                let kept = ((k / block) as f32 * density).round().max(1.0) as usize;
                let (all, shift) = (k / block, |r: usize| r / 16 * 7);
                thin(&mut w, &|r, c| {
                    let at = (c / block + shift(r)) % all;
                    (at + 1) * kept / all > at * kept / all
                });
                sparse::blocks(&w, n, k, block)
            }
            Form::Few(keep, of) => {
                thin(&mut w, &|r, c| (c + r * 3) % of < keep);
                sparse::few(&w, n, k, keep, of).expect("as many as fit")
            }
            Form::Bitmap => {
                thin(&mut w, &|r, c| stays(r * k + c));
                sparse::bitmap(&w, n, k, true)
            }
        }
    }
}

/// A pack of one product, and its only rung.
fn model(form: Form, density: f32, (n, k): (usize, usize), acts: Acts, isa: Isa) -> (Arc<Model>, Rung) {
    let positions = form.positions(n, k, density);
    let mut header = Header::default();
    let mut blobs: Vec<Vec<u8>> = Vec::new();
    let mut store = |header: &mut Header, bytes: &Vec<u8>| {
        header.blobs.push(Blob { offset: 0, len: bytes.len() as u64, hash: 0 });
        blobs.push(bytes.clone());
        blobs.len() as u32 - 1
    };
    let encoded = planes::encode(&positions.values, positions.n, positions.k, &planes::Spec::default(), &[]);
    let encoded = encoded.expect("finite weights");
    let ids = encoded.blobs.iter().map(|bytes| store(&mut header, bytes)).collect();
    let mut root = encoded.expr(ids);
    if !matches!(form, Form::Bitmap) {
        let args = vec![Arg::Expr(Box::new(root))];
        root = Expr { kind: "row_codes".into(), params: Default::default(), args, blobs: Vec::new() };
    }
    if !matches!(form, Form::All) {
        let ids = positions.blobs.iter().map(|bytes| store(&mut header, bytes)).collect();
        root = positions.expr(root, ids);
    }
    header.tensors.push(Tensor { name: "w".into(), n, k, roots: vec![root] });
    let mut graph = Graph::default();
    let x = graph.add_value("x", Source::Computed);
    let w = graph.add_value("w", Source::Weight(0));
    let y = graph.add_value("y", Source::Computed);
    graph.values.iter_mut().for_each(|value| value.range = Some((-1.0, 1.0)));
    let port = |value, cols| Port {
        value,
        dtype: DType::F32,
        dims: Some(vec![Dim::Named("rows".into()), Dim::Fixed(cols)]),
        plan_time: false,
    };
    graph.inputs.push(port(x, k));
    graph.outputs.push(port(y, n));
    graph.body.nodes.push(Node {
        name: "linear".into(),
        op: Op::Linear { out_features: n, act: Act::Relu, act_after_residual: false },
        inputs: vec![Some(x), Some(w)],
        outputs: vec![Some(y)],
    });
    header.graphs.push(graph);
    let rung = Rung {
        id: "only".into(),
        graph: 0,
        subnet: None,
        chosen: None,
        acts,
        takes: vec![Some(Take(0, 4))],
        floats: vec![],
        end: 0,
        bytes: 0,
        quality: None,
        arena: 0,
        min_runtime: 0,
        features: Vec::new(),
        parts: None,
    };
    header.rungs.push(rung.clone());
    let source = Arc::new(MemorySource::from(blobs));
    (Arc::new(Model::new(Arc::new(header), source, Arc::new(Registry::for_isa(isa)))), rung)
}

/// The least time of the product's step, and its kernel.
fn time(
    form: Form,
    density: f32,
    m: usize,
    (n, k): (usize, usize),
    acts: Acts,
    isa: Isa,
) -> (f64, &'static str) {
    let (model, rung) = model(form, density, (n, k), acts, isa);
    let device = Device::builder().isa(Some(isa)).threads(Some(1)).budget(Some(4 << 30)).build();
    let device = device.expect("a device");
    let spec = InputSpec { name: "x".into(), dtype: DType::F32, dims: vec![m, k], value: None };
    let mut session = Session::new(&device, &model, &rung, &[spec]).expect("a session");
    let input: Vec<u8> = floats(m * k).iter().flat_map(|x| x.to_le_bytes()).collect();
    let product = session.plan().steps.iter().position(|step| step.op.name() == "gemm").expect("a product");
    let (mut least, begin, mut runs) = (f64::INFINITY, Instant::now(), 0);
    while begin.elapsed() < MEASURED || runs < 5 {
        // What is not read any more may be written over.
        session.set_input(0, &input).expect("an input of the planned size");
        let mut before = Instant::now();
        session
            .run_observed(|i, _| {
                let now = Instant::now();
                if i == product {
                    least = least.min((now - before).as_secs_f64());
                }
                before = now;
            })
            .expect("a run");
        runs += 1;
    }
    let result = session.output(0).1.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b));
    let sound = result.clone().all(f32::is_finite) && result.clone().any(|y| y != 0.0);
    assert!(sound, "{} at {density}: {:?}", form.name(), result.take(20).collect::<Vec<_>>());
    (least, session.kernel_of(product))
}

/// The density below which it takes less time, from shares of the dense product's time at [`DENSITIES`].
fn break_even(shares: &[f64]) -> String {
    let over = shares.iter().position(|share| *share >= 1.0);
    match over {
        None => format!("> {}", DENSITIES[DENSITIES.len() - 1]),
        Some(0) => format!("< {}", DENSITIES[0]),
        Some(i) => {
            let part = (1.0 - shares[i - 1]) / (shares[i] - shares[i - 1]);
            let (low, high) = (f64::from(DENSITIES[i - 1]), f64::from(DENSITIES[i]));
            format!("{:.2}", low + part * (high - low))
        }
    }
}

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with("--")).collect();
    let named = std::env::var("EDGE_BENCH_ISA").ok().and_then(|name| Isa::from_name(&name));
    let form = std::env::var("EDGE_BENCH_FORM").unwrap_or_default();
    let named_form = |picked: &Form| picked.name().contains(&form);
    let levels = [Isa::Avx2, Isa::Avx512, Isa::Avx512Bf16, Isa::Neon, Isa::NeonI8mm];
    let levels = levels.into_iter().filter(|isa| isa.supported() && named.is_none_or(|name| name == *isa));
    for isa in levels {
        for acts in [Acts::F32, Acts::I8] {
            for (n, k) in SHAPES {
                for m in ROWS {
                    let row = format!("{isa} {acts:?} {m} x {n}, K {k}");
                    if !wanted.is_empty() && !wanted.iter().all(|part| row.contains(part.as_str())) {
                        continue;
                    }
                    let (dense, kernel) = time(Form::All, 1.0, m, (n, k), acts, isa);
                    println!("{row}: {:.1} us by {kernel}", dense * 1e6);
                    let any_density = [Form::Blocks(8), Form::Blocks(4), Form::Blocks(1), Form::Bitmap];
                    for form in any_density.into_iter().filter(named_form) {
                        let timed = DENSITIES.map(|density| time(form, density, m, (n, k), acts, isa));
                        let shares = timed.map(|(time, _)| time / dense);
                        let listed: Vec<String> = shares.iter().map(|share| format!("{share:.2}")).collect();
                        let even = break_even(&shares);
                        println!(
                            "  {:12} {}   even at {even}   {}",
                            form.name(),
                            listed.join(" "),
                            timed[0].1
                        );
                    }
                    for form in
                        [Form::Few(2, 4), Form::Few(1, 4), Form::Few(2, 16)].into_iter().filter(named_form)
                    {
                        let (time, kernel) = time(form, 1.0, m, (n, k), acts, isa);
                        println!("  {:12} {:.2}   {kernel}", form.name(), time / dense);
                    }
                }
            }
        }
    }
}
