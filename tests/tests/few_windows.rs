//! Few windows of a convolution, and few steps of a recurrent layer, multiply weights as they are stored; many multiply decoded ones. Both give the
//! same bits, so each picture alone gives what it gives among others, and the first steps what they give before more of them.

use edge_kernels::Isa;
use edge_runtime::device::Device;
use edge_runtime::graph::{
    Act, DType, Dim, Direction, Graph, Node, Op, Pads, Port, RnnActivation, Source, Window,
};
use edge_runtime::pack::{Acts, Blob, Header, MemorySource, Rung, Take, Tensor};
use edge_runtime::plan::InputSpec;
use edge_runtime::random::uniform;
use edge_runtime::weights::Registry;
use edge_runtime::weights::planes::{self, Spec};
use edge_runtime::{Model, Session};
use std::sync::Arc;

fn noise(key: u64, count: usize) -> Vec<f32> {
    (0..count as u64).map(|i| uniform(key, i) * 3.0 - 1.0).collect()
}

/// A model of one operation on `x` and weights `[n, k]` in planes.
struct Case {
    weights: Vec<[usize; 2]>,
    op: Op,
    /// How many values it gives.
    results: usize,
}

impl Case {
    fn model(&self, isa: Isa) -> Arc<Model> {
        let (mut header, mut blobs) = (Header::default(), Vec::new());
        let mut graph = Graph::default();
        let x = graph.add_value("x", Source::Computed);
        // Not even about 0: what lies outside a picture has a code of its own.
        graph.values[x as usize].range = Some((-1.0, 2.0));
        let mut inputs = vec![Some(x)];
        for (i, [n, k]) in self.weights.iter().enumerate() {
            let spec = Spec { group: 32, bits: vec![2, 2, 2, 2], ..Spec::default() };
            let encoded = planes::encode(&noise(7 + i as u64, n * k), *n, *k, &spec, &[]).unwrap();
            let ids = encoded.blobs.iter().map(|bytes| {
                header.blobs.push(Blob { offset: 0, len: bytes.len() as u64, hash: 0 });
                blobs.push(bytes.clone());
                blobs.len() as u32 - 1
            });
            let root = encoded.expr(ids.collect());
            header.tensors.push(Tensor { name: format!("t{i}"), n: *n, k: *k, roots: vec![root] });
            inputs.push(Some(graph.add_value(format!("w{i}"), Source::Weight(i as u32))));
        }
        let outputs: Vec<_> =
            (0..self.results).map(|i| Some(graph.add_value(format!("y{i}"), Source::Computed))).collect();
        let dims = |rank: usize| Some((0..rank).map(|i| Dim::Named(format!("d{i}"))).collect());
        graph.inputs.push(Port { value: x, dtype: DType::F32, dims: dims(self.rank()), plan_time: false });
        let y = outputs[0].unwrap();
        graph.outputs.push(Port { value: y, dtype: DType::F32, dims: None, plan_time: false });
        graph.body.nodes.push(Node { name: "only".into(), op: self.op.clone(), inputs, outputs });
        header.graphs.push(graph);
        let source = Arc::new(MemorySource::from(blobs));
        Arc::new(Model::new(Arc::new(header), source, Arc::new(Registry::for_isa(isa))))
    }

    fn rank(&self) -> usize {
        if matches!(self.op, Op::Conv { .. }) { 4 } else { 3 }
    }

    /// The first result, and the names of the steps.
    fn run(&self, (acts, isa): (Acts, Isa), dims: &[usize], x: &[f32]) -> (Vec<u8>, Vec<&'static str>) {
        let model = self.model(isa);
        let device =
            Device::builder().threads(Some(2)).isa(Some(isa)).budget(Some(64 << 20)).build().unwrap();
        let rung = Rung {
            id: "only".into(),
            graph: 0,
            subnet: None,
            chosen: None,
            acts,
            takes: self.weights.iter().map(|_| Some(Take(0, 4))).collect(),
            floats: vec![],
            end: 0,
            bytes: 0,
            quality: None,
            arena: 0,
            min_runtime: 0,
            features: Vec::new(),
            parts: None,
        };
        let spec = InputSpec { name: "x".into(), dtype: DType::F32, dims: dims.to_vec(), value: None };
        let mut session = Session::new(&device, &model, &rung, &[spec]).unwrap();
        let bytes: Vec<u8> = x.iter().flat_map(|v| v.to_le_bytes()).collect();
        session.set_input(0, &bytes).unwrap();
        session.run().unwrap();
        let steps = session.plan().steps.iter().map(|step| step.op.name()).collect();
        (session.output(0).1.to_vec(), steps)
    }
}

fn levels() -> impl Iterator<Item = Isa> {
    [Isa::Scalar, Isa::Avx2, Isa::Avx512, Isa::Avx512Vnni].into_iter().filter(|isa| isa.supported())
}

#[test]
fn a_picture_of_few_windows_gives_what_it_gives_among_others() {
    let (side, channels, n, count) = (3, 20, 24, 8);
    let pads = Pads::Explicit([1, 0, 1, 2]);
    let window = Window { kernel: [3, 3], stride: [2, 2], dilation: [1, 1], pads };
    let op = Op::Conv { window, groups: 1, out_channels: n, act: Act::Relu, act_after_residual: false };
    let case = Case { weights: vec![[n, 9 * channels]], op, results: 1 };
    let each = side * side * channels;
    let x = noise(1, count * each);
    for (acts, isa) in [Acts::F32, Acts::I8].into_iter().flat_map(|acts| levels().map(move |isa| (acts, isa)))
    {
        let (all, steps) = case.run((acts, isa), &[count, side, side, channels], &x);
        assert!(!steps.contains(&"unfold"), "{steps:?}");
        for (i, want) in all.chunks_exact(all.len() / count).enumerate() {
            let x = &x[i * each..(i + 1) * each];
            let (got, steps) = case.run((acts, isa), &[1, side, side, channels], x);
            assert!(steps.contains(&"unfold"), "{acts:?}: {steps:?}");
            assert!(got == want, "{acts:?} at {isa}: picture {i}");
        }
    }
}

#[test]
fn few_steps_of_an_lstm_give_what_they_give_before_more() {
    let (hidden, input, few, many) = (24, 20, 3, 12);
    let op = Op::Lstm {
        direction: Direction::Forward,
        hidden,
        activations: vec![RnnActivation::Sigmoid, RnnActivation::Tanh, RnnActivation::Tanh],
        clip: None,
        input_forget: false,
    };
    let case = Case { weights: vec![[4 * hidden, input], [4 * hidden, hidden]], op, results: 3 };
    let x = noise(2, many * input);
    for isa in levels() {
        let (all, _) = case.run((Acts::F32, isa), &[many, 1, input], &x);
        let (got, _) = case.run((Acts::F32, isa), &[few, 1, input], &x[..few * input]);
        assert!(got.iter().any(|byte| *byte != 0) && got == all[..got.len()], "{isa}");
    }
}
