//! A small model whose weights are sparse: every form runs in floats and in integers, and gives what the same matrix gives when nothing
//! is known of its zeros.

use edge_kernels::Isa;
use edge_runtime::device::Device;
use edge_runtime::pack::{Acts, Arg, Blob, BlobSource, Expr, Header, MemorySource, PackFile, Rung, Take};
use edge_runtime::plan::{InputSpec, Plan, PlanOptions};
use edge_runtime::random::uniform;
use edge_runtime::weights::sparse::{self, Positions};
use edge_runtime::weights::{CodeForm, CodesOut, Node, Part, Registry, WeightError, Weights, planes};
use edge_runtime::{Model, Session};
use edge_tests::onnx::Attr::{Int, Ints};
use edge_tests::onnx::Builder;
use edge_tests::onnx::Dim::{Free, N};
use edge_tests::{Folder, convert_in_process, inputs_of, open};
use serde_json::json;
use std::ops::Range;
use std::sync::Arc;

/// Convolutions whose windows lie in a ring, are gathered, and are one pixel; two groups; a residual; one row times a matrix.
fn model() -> Vec<u8> {
    let same = || vec![("pads", Ints(&[1, 1, 1, 1]))];
    let mut b = Builder::new();
    b.input("x", &[Free("n"), N(16), N(13), N(11)]).output("y");
    b.weight("w0", &[40, 16, 3, 3], 0.1).weight("b0", &[40], 0.2).weight("w1", &[40, 40, 1, 1], 0.2);
    b.weight("w2", &[32, 40, 3, 3], 0.1).weight("w3", &[64, 16, 3, 3], 0.1).weight("w4", &[40, 64], 0.2);
    b.weight("b4", &[40], 0.3);
    b.node("Conv", "x w0 b0", "h0", &same()).node("Relu", "h0", "r0", &[]);
    b.node("Conv", "r0 w1", "h1", &[]).node("Add", "h1 r0", "s1", &[]).node("Relu", "s1", "r1", &[]);
    b.node("Conv", "r1 w2", "h2", &[same(), vec![("strides", Ints(&[2, 2]))]].concat());
    b.node("Conv", "h2 w3", "h3", &[same(), vec![("group", Int(2))]].concat()).node("Relu", "h3", "r3", &[]);
    b.node("GlobalAveragePool", "r3", "p", &[]).node("Flatten", "p", "f", &[]);
    b.node("Gemm", "f w4 b4", "y", &[("transB", Int(1))]);
    b.finish("sparse")
}

/// The header and the blobs of a pack, to be changed.
struct Changed {
    header: Header,
    blobs: Vec<Vec<u8>>,
}

impl Changed {
    fn blob(&mut self, bytes: Vec<u8>) -> u32 {
        self.header.blobs.push(Blob { offset: 0, len: bytes.len() as u64, hash: 0 });
        self.blobs.push(bytes);
        self.blobs.len() as u32 - 1
    }

    /// A root for the matrix of a tensor, of which `positions` keeps some, and one that hides what is known of it.
    fn add(&mut self, tensor: usize, positions: &Positions) {
        let (n, k) = (positions.n, positions.k);
        let encoded = planes::encode(&positions.values, n, k, &planes::Spec::default(), &[]).unwrap();
        let blobs = encoded.blobs.iter().map(|bytes| self.blob(bytes.clone())).collect();
        let mut values = encoded.expr(blobs);
        if !positions.params.contains_key("count") {
            values = wrapped("row_codes", values);
        }
        let blobs = positions.blobs.iter().map(|bytes| self.blob(bytes.clone())).collect();
        let root = positions.expr(values, blobs);
        let hidden = wrapped("hidden", root.clone());
        self.header.tensors[tensor].roots.extend([root, hidden]);
    }
}

fn wrapped(kind: &str, operand: Expr) -> Expr {
    Expr {
        kind: kind.into(),
        params: Default::default(),
        args: vec![Arg::Expr(Box::new(operand))],
        blobs: Vec::new(),
    }
}

/// An operand of which only values and codes can be seen.
struct Hidden(Box<dyn Weights>);

fn hidden(node: &mut Node<'_, '_>) -> Result<Box<dyn Weights>, WeightError> {
    Ok(Box::new(Hidden(node.operand(0, Some((node.n(), node.k())), node.take())?)))
}

impl Weights for Hidden {
    fn n(&self) -> usize {
        self.0.n()
    }

    fn k(&self) -> usize {
        self.0.k()
    }

    fn materialize(&self) -> Vec<f32> {
        self.0.materialize()
    }

    fn fill_part(&self, part: &Part, out: &mut [f32]) {
        self.0.fill_part(part, out);
    }

    fn code_form(&self) -> Option<CodeForm> {
        self.0.code_form()
    }

    fn fill_codes(&self, panels: Range<usize>, out: CodesOut<'_>) {
        self.0.fill_codes(panels, out);
    }
}

/// The model with a sparse root for every matrix, masked by `positions(matrix, n, k)`.
fn changed(make: impl Fn(&mut [f32], usize, usize) -> Positions) -> Changed {
    let folder = Folder::new("sparse");
    let pack = folder.file("m.pack");
    convert_in_process(&folder.write("m.onnx", &model()), &pack, &[]);
    let file = PackFile::open(&pack).unwrap();
    let source = file.map(file.file_len()).unwrap();
    let blobs =
        (0..file.shared_header().blobs.len() as u32).map(|id| source.blob(id).unwrap_or(&[]).to_vec());
    let mut changed = Changed { header: (*file.shared_header()).clone(), blobs: blobs.collect() };
    let exact = open(&pack, Registry::standard());
    let float = exact.header().rungs.iter().rev().find(|r| r.acts == Acts::F32).unwrap();
    for tensor in 0..changed.header.tensors.len() {
        let mut w = exact.weights(float, tensor as u32).unwrap().materialize();
        let (n, k) = (changed.header.tensors[tensor].n, changed.header.tensors[tensor].k);
        let positions = make(&mut w, n, k);
        changed.add(tensor, &positions);
    }
    changed
}

/// Where `isa` runs the model with the sparse roots (or those that hide them): the output, and the kernels of its products.
fn run(
    changed: &Changed,
    acts: Acts,
    hide: bool,
    isa: Isa,
    (threads, batch): (usize, usize),
) -> (Vec<u8>, Vec<&'static str>) {
    let mut registry = Registry::for_isa(isa);
    registry.add("hidden", hidden);
    let source = Arc::new(MemorySource::from(changed.blobs.clone()));
    let header = Arc::new(changed.header.clone());
    let mut rung: Rung = header.rungs.iter().find(|r| r.acts == acts).unwrap().clone();
    for (take, tensor) in rung.takes.iter_mut().zip(&header.tensors) {
        let root = tensor.roots.len() - if hide { 1 } else { 2 };
        *take = take.map(|_| Take(root as u32, if acts == Acts::I8 { 4 } else { 0 }));
    }
    let model = Arc::new(Model::new(header, source, Arc::new(registry)));
    let device =
        Device::builder().isa(Some(isa)).threads(Some(threads)).budget(Some(1 << 40)).build().unwrap();
    let inputs = inputs_of(&model, &rung, batch, 3);
    let specs: Vec<InputSpec> = inputs.iter().map(|(spec, _)| spec.clone()).collect();
    let options = PlanOptions { threads, fast: false, ..PlanOptions::default() };
    let plan = Plan::new(&model, &rung, &specs, &options).unwrap();
    let mut session = Session::with_plan(&device, &model, &rung, plan).unwrap();
    for _ in 0..2 {
        session.set_input(0, &inputs[0].1).unwrap();
        session.run().unwrap();
    }
    let products = |(i, name): (usize, &str)| matches!(name, "gemm" | "conv").then(|| session.kernel_of(i));
    let names: Vec<&str> = session.plan().steps.iter().map(|step| step.op.name()).collect();
    (session.output(0).1.to_vec(), names.into_iter().enumerate().filter_map(products).collect())
}

fn floats(bytes: &[u8]) -> Vec<f32> {
    bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
}

/// Every level that this machine runs.
fn levels() -> Vec<Isa> {
    Isa::ALL.into_iter().filter(|isa| isa.supported()).collect()
}

/// Runs a form everywhere; says how many products of floats and of integers took blocks.
fn check(name: &str, make: impl Fn(&mut [f32], usize, usize) -> Positions) -> [usize; 2] {
    let changed = changed(make);
    let mut blocks = [0; 2];
    let (exact, _) = run(&changed, Acts::F32, true, Isa::Scalar, (1, 2));
    for (acts, blocks) in [Acts::F32, Acts::I8].into_iter().zip(&mut blocks) {
        let mut first: Option<Vec<u8>> = None;
        for isa in levels() {
            let (want, _) = run(&changed, acts, true, isa, (1, 2));
            let one = [true, false].map(|hide| run(&changed, acts, hide, isa, (2, 1)).0);
            assert!(one[0] == one[1], "{name}, {acts:?}, {isa}, one row: not the bits of zeros");
            for threads in [1, 3] {
                let (got, kernels) = run(&changed, acts, false, isa, (threads, 2));
                assert!(got == want, "{name}, {acts:?}, {isa}, {threads} threads: not the bits of zeros");
                *blocks = kernels.iter().filter(|kernel| kernel.contains("blocks")).count();
            }
            if acts == Acts::I8 {
                assert!(*first.get_or_insert_with(|| want.clone()) == want, "{name}: {isa} differs");
            }
            let (got, exact) = (floats(&want), floats(&exact));
            let range = exact.iter().fold(0.0f32, |most, y| most.max(y.abs()));
            let error = got.iter().zip(&exact).fold(0.0f32, |most, (a, b)| most.max((a - b).abs()));
            let bound = if acts == Acts::I8 { 0.1 } else { 1e-5 };
            assert!(range > 0.01 && error <= bound * range, "{name}, {acts:?}, {isa}: {error} of {range}");
        }
    }
    blocks
}

/// Zeros for all that a share of `percent` leaves out, `of(row, column)` being decided together.
fn thin(w: &mut [f32], k: usize, percent: f32, of: impl Fn(usize, usize) -> usize) {
    for (i, w) in w.iter_mut().enumerate() {
        if uniform(7, of(i / k, i % k) as u64) * 100.0 >= percent {
            *w = 0.0;
        }
    }
}

#[test]
fn blocks_of_columns_run_everywhere() {
    for (block, integer) in [(8, 4), (4, 4), (1, 0)] {
        let products = check(&format!("blocks of {block}"), |w, n, k| {
            let block = if k.is_multiple_of(block) { block } else { 1 };
            thin(w, k, 40.0, |r, c| r / 16 * 10_000 + c / block);
            sparse::blocks(w, n, k, block)
        });
        assert!(products[0] >= 4 && products[1] >= integer, "blocks of {block}: {products:?}");
    }
}

#[test]
fn two_of_four_runs_everywhere() {
    let products = check("2 of 4", |w, n, k| {
        for row in w.chunks_mut(k) {
            for four in row.chunks_mut(4) {
                let mut order: Vec<usize> = (0..four.len()).collect();
                order.sort_by(|a, b| four[*a].abs().total_cmp(&four[*b].abs()));
                order.iter().take(four.len().saturating_sub(2)).for_each(|i| four[*i] = 0.0);
            }
        }
        sparse::few(w, n, k, 2, 4).unwrap()
    });
    assert_eq!(products, [0, 0]);
}

#[test]
fn a_tenth_here_and_there_runs_everywhere() {
    let products = check("a tenth", |w, n, k| {
        thin(w, k, 10.0, |r, c| r * 10_000 + c);
        sparse::bitmap(w, n, k, true)
    });
    assert_eq!(products, [0, 0]);
}

#[test]
fn nothing_but_a_panel_runs_everywhere() {
    check("one panel", |w, n, k| {
        w.iter_mut().enumerate().for_each(|(i, w)| *w = if i / k / 16 == 0 { *w } else { 0.0 });
        w[0] = 0.5;
        let positions = sparse::blocks(w, n, k, 1);
        // One panel keeps all of K, so there is room for all of it: a dense product takes no longer.
        assert_eq!(positions.params["entries"], json!(k));
        positions
    });
}

/// `y = w1 relu(w0 x)`, w0 with 2 of every 4 columns and w1 with a quarter of its blocks of 8, or both with all of them.
fn pruned(sparse: bool) -> (Vec<u8>, [Vec<f32>; 2]) {
    let value = |key: u64, i: usize| uniform(key, i as u64) * 2.0 - 1.0;
    let stays = |which: usize, row: usize, col: usize| match which {
        0 => (row + col / 4 * 3) % 4 == col % 4 || (row + col / 4 * 3 + 1) % 4 == col % 4,
        _ => (row / 16 + col / 8).is_multiple_of(4),
    };
    let matrix = |which: usize, n: usize, k: usize| -> Vec<f32> {
        let of =
            |i: usize| if !sparse || stays(which, i / k, i % k) { value(70 + which as u64, i) } else { 0.0 };
        (0..n * k).map(of).collect()
    };
    let matrices = [matrix(0, 256, 128), matrix(1, 64, 256)];
    let mut b = Builder::new();
    b.input("x", &[N(8), N(128)]).output("y");
    b.array("w0", &[256, 128], &matrices[0]).array("w1", &[64, 256], &matrices[1]);
    b.node("Gemm", "x w0", "h", &[("transB", Int(1))]).node("Relu", "h", "r", &[]);
    b.node("Gemm", "r w1", "y", &[("transB", Int(1))]);
    (b.finish("pruned"), matrices)
}

#[test]
fn weights_that_arrive_sparse_stay_so() {
    let folder = Folder::new("pruned");
    let packed = |sparse: bool| {
        let pack = folder.file(if sparse { "sparse.pack" } else { "all.pack" });
        let (onnx, matrices) = pruned(sparse);
        convert_in_process(&folder.write("m.onnx", &onnx), &pack, &[]);
        (open(&pack, Registry::standard()), matrices)
    };
    let ((model, [w0, w1]), (all, _)) = (packed(true), packed(false));
    let forms: Vec<String> = model
        .header()
        .tensors
        .iter()
        .map(|tensor| {
            let mut expr = &tensor.roots[0];
            while expr.kind != "sparse" {
                let Some(Arg::Expr(inner)) = expr.args.first() else {
                    panic!("{}: {}", tensor.name, expr.kind)
                };
                expr = inner;
            }
            expr.params["form"].as_str().unwrap().to_string()
        })
        .collect();
    assert_eq!(forms, ["few", "blocks"]);

    let finest = |model: &Model| {
        let rungs = model.header().rungs.iter().filter(|rung| rung.id != "float");
        rungs.max_by_key(|rung| rung.bytes).unwrap().clone()
    };
    let (rung, dense) = (finest(&model), finest(&all));
    // Half of 32768 weights and their positions of 2 bits, a quarter of 16384: 0.46 of the bytes, constants and scales aside.
    assert!(rung.bytes * 2 < dense.bytes, "{} of {}", rung.bytes, dense.bytes);

    let inputs = inputs_of(&model, &rung, 1, 3);
    let x: Vec<f32> = inputs[0].1.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
    let device = Device::builder().threads(Some(1)).budget(Some(1 << 30)).build().unwrap();
    let mut session = Session::new(&device, &model, &rung, &[inputs[0].0.clone()]).unwrap();
    session.set_input(0, &inputs[0].1).unwrap();
    session.run().unwrap();
    let got: Vec<f32> =
        session.output(0).1.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect();
    let product = |x: &[f32], w: &[f32], k: usize| -> Vec<f32> {
        let dot = |row: &[f32], w: &[f32]| {
            row.iter().zip(w).map(|(x, w)| f64::from(*x) * f64::from(*w)).sum::<f64>()
        };
        x.chunks(k).flat_map(|row| w.chunks(k).map(|w| dot(row, w) as f32).collect::<Vec<_>>()).collect()
    };
    let hidden: Vec<f32> = product(&x, &w0, 128).into_iter().map(|v| v.max(0.0)).collect();
    let want = product(&hidden, &w1, 256);
    let noise: f64 = got.iter().zip(&want).map(|(a, b)| f64::from(a - b).powi(2)).sum();
    let signal: f64 = want.iter().map(|v| f64::from(*v).powi(2)).sum();
    assert!(noise < 1e-8 * signal, "{noise} of {signal}");
}
