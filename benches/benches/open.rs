//! From a path to a plan: what a start costs before the first run.

use criterion::{Criterion, criterion_group, criterion_main};
use edge_benches::packs;
use edge_runtime::device::Device;
use edge_runtime::graph::{Dim, Graph};
use edge_runtime::pack::PackFile;
use edge_runtime::plan::{InputSpec, Plan, PlanOptions};
use edge_runtime::select::{Request, select};
use edge_runtime::weights::Registry;
use edge_runtime::{Model, Pressure, Session};
use std::hint::black_box;
use std::path::Path;
use std::sync::Arc;

fn model(path: &Path) -> Model {
    let pack = PackFile::open(path).expect("a pack");
    let source = Arc::new(pack.map(pack.file_len()).expect("a mapping"));
    Model::new(pack.shared_header(), source, Arc::new(Registry::standard()))
}

/// Every input at its declared shape; a free dimension is 1 in front and 64 elsewhere.
fn specs(graph: &Graph) -> Vec<InputSpec> {
    let spec = |port: &edge_runtime::graph::Port| {
        let declared = port.dims.as_deref().unwrap_or_default().iter().enumerate();
        let size = |(axis, dim): (usize, &Dim)| match dim {
            Dim::Fixed(n) => *n,
            Dim::Named(_) => [1, 64][axis.min(1)],
        };
        let dims: Vec<usize> = declared.map(size).collect();
        let bytes = dims.iter().product::<usize>() * port.dtype.bytes();
        let value = (bytes <= 4096).then(|| vec![0; bytes].into());
        InputSpec { name: graph.name(port.value).to_string(), dtype: port.dtype, dims, value }
    };
    graph.inputs.iter().map(spec).collect()
}

fn open(c: &mut Criterion) {
    let device = Device::builder().threads(Some(2)).budget(Some(4 << 30)).build().expect("a device");
    for pack in packs() {
        let mut group = c.benchmark_group(format!("open {}", pack.name));
        group.bench_function("open", |b| b.iter(|| PackFile::open(black_box(&pack.path)).expect("a pack")));
        let opened = model(&pack.path);
        let specs = specs(&opened.header().graphs[0]);
        let top = opened.header().rungs.last().expect("a rung").clone();
        let options = PlanOptions { threads: 2, ..PlanOptions::default() };
        group.bench_function("plan the last rung", |b| {
            b.iter(|| Plan::new(&opened, black_box(&top), &specs, &options).expect("a plan"))
        });
        group.bench_function("select among all rungs", |b| {
            b.iter(|| select(&device, &opened, black_box(&specs), &Request::default()).expect("a rung"))
        });
        group.bench_function("open, select, plan", |b| {
            b.iter(|| {
                let model = model(black_box(&pack.path));
                select(&device, &model, &specs, &Request::default()).expect("a rung")
            })
        });
        // Down and up again, with a run of each: pages that a move let go are touched again.
        let pack = Arc::new(PackFile::open(&pack.path).expect("a pack"));
        let mut session = Session::open(&device, &pack, &specs).expect("a session");
        session.run().expect("a run");
        for (name, level, runs) in [
            ("resize by half and back", Pressure::Low, false),
            ("resize by half and back, a run after each", Pressure::Low, true),
            ("resize to the least and back", Pressure::Critical, false),
        ] {
            group.bench_function(name, |b| {
                b.iter(|| {
                    session.on_memory_pressure(level).expect("a move");
                    if runs {
                        session.run().expect("a run");
                    }
                    session.resize(4 << 30).expect("a move");
                    if runs {
                        session.run().expect("a run");
                    }
                })
            });
        }
        group.finish();
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(20);
    targets = open
}
criterion_main!(benches);
