//! Whole runs: the rungs of every pack, on one thread and on all.

use criterion::{Criterion, criterion_group, criterion_main};
use edge_benches::{floats, packs};
use edge_runtime::device::Device;
use edge_runtime::graph::{DType, Dim, Graph};
use edge_runtime::pack::{Acts, PackFile};
use edge_runtime::plan::InputSpec;
use edge_runtime::weights::Registry;
use edge_runtime::{Model, Session};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Rungs timed of one pack: the least, the best, and others evenly between.
const MOST_RUNGS: usize = 6;

/// Inputs at the declared shapes; a free dimension is 1 in front and 64 elsewhere. Floats are noise, integers 1.
fn inputs(graph: &Graph) -> Vec<(InputSpec, Vec<u8>)> {
    let input = |port: &edge_runtime::graph::Port| {
        let declared = port.dims.as_deref().unwrap_or_default().iter().enumerate();
        let size = |(axis, dim): (usize, &Dim)| match dim {
            Dim::Fixed(n) => *n,
            Dim::Named(_) => [1, 64][axis.min(1)],
        };
        let dims: Vec<usize> = declared.map(size).collect();
        let count = dims.iter().product::<usize>();
        let data: Vec<u8> = match port.dtype {
            DType::F32 => floats(count).iter().flat_map(|x| x.to_le_bytes()).collect(),
            DType::I64 => (0..count).flat_map(|_| 1i64.to_le_bytes()).collect(),
            other => vec![0; count * other.bytes()],
        };
        let value = (data.len() <= 4096).then(|| data.clone().into());
        (InputSpec { name: graph.name(port.value).to_string(), dtype: port.dtype, dims, value }, data)
    };
    graph.inputs.iter().map(input).collect()
}

fn runs(c: &mut Criterion) {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let mut threads = vec![1, cores];
    threads.dedup();
    for pack in packs() {
        let file = PackFile::open(&pack.path).expect("a pack");
        let source = Arc::new(file.map(file.file_len()).expect("a mapping"));
        let model = Arc::new(Model::new(file.shared_header(), source, Arc::new(Registry::standard())));
        let all = &model.header().rungs;
        let step = all.len().div_ceil(MOST_RUNGS).max(1);
        let mut group = c.benchmark_group(format!("model {}", pack.name));
        for rung in all.iter().rev().step_by(step) {
            let acts = if rung.acts == Acts::I8 { "i8" } else { "f32" };
            let inputs = inputs(model.graph(rung));
            let specs: Vec<InputSpec> = inputs.iter().map(|(spec, _)| spec.clone()).collect();
            for threads in &threads {
                let device = Device::builder().threads(Some(*threads)).budget(Some(4 << 30)).build();
                let device = device.expect("a device");
                let mut session = match Session::new(&device, &model, rung, &specs) {
                    Ok(session) => session,
                    Err(e) => {
                        eprintln!("{} {}: {e}", pack.name, rung.id);
                        continue;
                    }
                };
                group.bench_function(format!("{} {acts}, {threads} threads", rung.id), |b| {
                    // Inputs are set before each run, which may use their memory, and that is not timed.
                    b.iter_custom(|runs| {
                        (0..runs)
                            .map(|_| {
                                for (i, (_, data)) in inputs.iter().enumerate() {
                                    session.set_input(i, data).expect("an input of the planned size");
                                }
                                let start = Instant::now();
                                session.run().expect("a run");
                                start.elapsed()
                            })
                            .sum()
                    })
                });
            }
        }
        group.finish();
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20).measurement_time(Duration::from_secs(3));
    targets = runs
}
criterion_main!(benches);
