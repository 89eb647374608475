//! Weight expressions and their bytes: bound, read in every way, multiplied in a session.

use super::check::check_bytes;
use super::{Parts, blobs, bound};
use edge_kernels::Isa;
use edge_runtime::device::Device;
use edge_runtime::graph::{Act, DType, Dim, Graph, Node, Op, Port, Source};
use edge_runtime::pack::{Acts, Blob, BlobSource, Header, MemorySource, Rung, Take, Tensor};
use edge_runtime::plan::InputSpec;
use edge_runtime::weights::{Registry, bind, needed_blobs};
use edge_runtime::{Model, Session};
use serde_json::Value;
use std::sync::Arc;

/// The text: longer ones tell nothing more.
const MOST_TEXT: usize = 1 << 14;

/// Elements of a matrix that is read: enough for several panels, groups and units.
const MOST: usize = 1 << 13;

thread_local! {
    static DEVICE: Arc<Device> = Device::builder().threads(Some(1)).budget(Some(32 << 20)).build().unwrap();
}

/// Binds what the input asks for and reads it in every way; all must give the same matrix. Then rows of floats and of integers are
/// multiplied with it.
///
/// The text ([`Parts`]) is `{"tensors": [..], "blobs": [lengths], "takes": [[tensor, root, take], ..]}`, tensors as a pack's header has
/// them.
pub fn weights(input: &[u8]) {
    let parts = Parts::of(input);
    if parts.text.len() > MOST_TEXT {
        return;
    }
    let Some((header, takes)) = described(parts.text) else { return };
    let Some(contents) = blobs::cut(header.blobs.iter().map(|blob| blob.len), parts.bytes) else { return };
    let len = input.len() + contents.iter().map(Vec::len).sum::<usize>();
    DEVICE.with(|_| ());
    bound(len, || {
        let source: Arc<dyn BlobSource> = Arc::new(MemorySource::from(contents));
        for (tensor, take) in &takes {
            read(&header, *tensor, *take, &source);
        }
    });
}

fn described(text: &[u8]) -> Option<(Header, Vec<(usize, Take)>)> {
    let mut value: Value = serde_json::from_slice(text).ok()?;
    let tensors: Vec<Tensor> = serde_json::from_value(value.get_mut("tensors")?.take()).ok()?;
    let lens: Vec<u64> = serde_json::from_value(value.get_mut("blobs")?.take()).ok()?;
    let takes: Vec<(usize, u32, u32)> = serde_json::from_value(value.get_mut("takes")?.take()).ok()?;
    if takes.len() > 4 {
        return None;
    }
    let blobs = lens.into_iter().map(|len| Blob { offset: 0, len, hash: 0 }).collect();
    let takes = takes.into_iter().map(|(tensor, root, take)| (tensor, Take(root, take))).collect();
    Some((Header { tensors, blobs, ..Header::default() }, takes))
}

fn read(header: &Header, tensor: usize, take: Take, source: &Arc<dyn BlobSource>) {
    for isa in [Isa::Scalar, Isa::detect()] {
        let registry = Registry::for_isa(isa);
        let needed = needed_blobs(&registry, header, tensor, take);
        let Ok(weights) = bind(&registry, header, tensor, take, source) else { return };
        assert!(needed.is_ok(), "bound, and the blobs that it reads are not known: {needed:?}");
        let (n, k) = (weights.n(), weights.k());
        if n.checked_mul(k).is_none_or(|elements| elements > MOST) {
            return;
        }
        check_bytes(&*weights, &weights.materialize(), false);
        if let Some(correction) = weights.correction() {
            let (mut scale, mut bias) = (vec![1.0; n], vec![0.0; n]);
            for one_scale in [false, true] {
                correction.apply(&mut scale, &mut bias, 1.0, one_scale);
            }
            for thin in correction.factors().iter().flat_map(|f| [&f.u, &f.v]) {
                check_bytes(&**thin, &thin.materialize(), false);
            }
        }
    }
    // One row, a few, more than a block of them: each goes another way.
    for (acts, rows) in [(Acts::F32, 1), (Acts::F32, 5), (Acts::I8, 1), (Acts::I8, 3), (Acts::I8, 21)] {
        multiply(header, tensor, take, source, acts, rows);
    }
}

/// `y = x · wᵀ` of so many rows, in a session.
fn multiply(
    header: &Header,
    tensor: usize,
    take: Take,
    source: &Arc<dyn BlobSource>,
    acts: Acts,
    rows: usize,
) {
    let Tensor { n, k, .. } = header.tensors[tensor];
    let mut graph = Graph::default();
    let x = graph.add_value("x", Source::Computed);
    let w = graph.add_value("w", Source::Weight(tensor as u32));
    let y = graph.add_value("y", Source::Computed);
    graph.values[x as usize].range = Some((-2.0, 2.0));
    graph.values[y as usize].range = Some((-8.0, 9.0));
    let port = |value, size| Port {
        value,
        dtype: DType::F32,
        dims: Some(vec![Dim::Fixed(rows), Dim::Fixed(size)]),
        plan_time: false,
    };
    (graph.inputs, graph.outputs) = (vec![port(x, k)], vec![port(y, n)]);
    let op = Op::Linear { out_features: n, act: Act::Relu, act_after_residual: false };
    let node = Node { name: "product".into(), op, inputs: vec![Some(x), Some(w)], outputs: vec![Some(y)] };
    graph.body.nodes.push(node);
    let takes = (0..header.tensors.len()).map(|t| (t == tensor).then_some(take)).collect();
    let rung = Rung {
        subnet: None,
        chosen: None,
        id: "rung".into(),
        graph: 0,
        acts,
        takes,
        floats: Vec::new(),
        end: 0,
        bytes: 0,
        quality: None,
        arena: 0,
        min_runtime: 0,
        features: Vec::new(),
        parts: None,
    };
    let header = Header { graphs: vec![graph], rungs: vec![rung.clone()], ..header.clone() };
    let model = Arc::new(Model::new(Arc::new(header), source.clone(), Arc::new(Registry::standard())));
    let spec = InputSpec { name: "x".into(), dtype: DType::F32, dims: vec![rows, k], value: None };
    DEVICE.with(|device| {
        let Ok(mut session) = Session::new(device, &model, &rung, &[spec]) else { return };
        let elements = (0..rows * k).flat_map(|i| ((i * 7 % 33) as f32 / 8.0 - 2.0).to_le_bytes());
        let Ok(()) = session.set_input(0, &elements.collect::<Vec<u8>>()) else { return };
        let Ok(()) = session.run() else { return };
        session.result(0);
    });
}
