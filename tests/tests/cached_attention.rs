//! Attention over what is kept of earlier runs, against its definition in f64: odd sizes, groups of heads, windows, caps, every way to keep.

use edge_converter::draft::{Draft, plain_rung};
use edge_runtime::Session;
use edge_runtime::device::Device;
use edge_runtime::graph::{Cache, DType, Decoding, Graph, Node, Op, Port, Source};
use edge_runtime::pack::Acts;
use edge_runtime::plan::{InputSpec, Plan, PlanOptions};
use edge_runtime::random::uniform;

#[derive(Clone, Copy)]
struct Case {
    /// Of each run; there are `runs`.
    tokens: usize,
    runs: usize,
    heads: usize,
    kv_heads: usize,
    d: usize,
    e: usize,
    window: Option<usize>,
    soft_cap: Option<f32>,
}

fn graph(case: &Case, scale: f32) -> Graph {
    let mut graph = Graph::default();
    let port = |graph: &mut Graph, name: &str, dtype: DType| {
        let value = graph.add_value(name, Source::Computed);
        graph.inputs.push(Port { value, dtype, dims: None, plan_time: false });
        value
    };
    let [q, k, v] = ["q", "k", "v"].map(|name| port(&mut graph, name, DType::F32));
    let past = port(&mut graph, "past", DType::I64);
    let [keys, values] = ["keys", "values"].map(|name| graph.add_value(name, Source::Computed));
    let y = graph.add_value("y", Source::Computed);
    graph.outputs.push(Port { value: y, dtype: DType::F32, dims: None, plan_time: false });
    let op = Op::CachedAttention { scale, window: case.window, soft_cap: case.soft_cap };
    let inputs = [q, k, v, keys, values, past].map(Some).to_vec();
    graph.body.nodes.push(Node { name: "attention".into(), op, inputs, outputs: vec![Some(y)] });
    let caches = [(keys, case.d), (values, case.e)];
    let caches = caches.map(|(value, depth)| Cache { value, heads: case.kv_heads, depth }).to_vec();
    let decoding = Decoding { ids: 3, past: 3, wanted: 3, logits: 0, longest: 4096, caches };
    graph.decoding = Some(Box::new(decoding));
    graph
}

/// `[tokens of all runs, heads, depth]`.
fn numbers(seed: u64, count: usize) -> Vec<f32> {
    (0..count as u64).map(|i| uniform(seed, i) * 4.0 - 2.0).collect()
}

fn definition(case: &Case, scale: f32, [q, k, v]: [&[f32]; 3]) -> Vec<f64> {
    let Case { heads, kv_heads, d, e, .. } = *case;
    let mut out = Vec::new();
    for t in 0..case.tokens * case.runs {
        for h in 0..heads {
            let of = h / (heads / kv_heads);
            let first = case.window.map_or(0, |window| (t + 1).saturating_sub(window));
            let scores: Vec<f64> = (first..=t)
                .map(|s| {
                    let (q, k) = (&q[(t * heads + h) * d..][..d], &k[(s * kv_heads + of) * d..][..d]);
                    let score = q.iter().zip(k).map(|(q, k)| f64::from(*q) * f64::from(*k)).sum::<f64>();
                    let score = score * f64::from(scale);
                    case.soft_cap.map_or(score, |cap| f64::from(cap) * (score / f64::from(cap)).tanh())
                })
                .collect();
            let sum: f64 = scores.iter().map(|s| s.exp()).sum();
            for c in 0..e {
                let terms = scores.iter().enumerate();
                let value = |s: usize| f64::from(v[((first + s) * kv_heads + of) * e + c]);
                out.push(terms.map(|(s, score)| score.exp() / sum * value(s)).sum());
            }
        }
    }
    out
}

fn check(case: Case, kept: DType, bound: f64) {
    let Case { tokens, runs, heads, kv_heads, d, e, .. } = case;
    let (scale, all) = (0.3, tokens * runs);
    let [q, k, v] = [(1, heads * d), (2, kv_heads * d), (3, kv_heads * e)].map(|(s, n)| numbers(s, all * n));
    let mut draft = Draft::default();
    let graph = draft.graph(graph(&case, scale));
    draft.header.rungs.push(plain_rung("exact", graph, Acts::F32));
    let model = draft.open();
    let rung = &model.header().rungs[0];
    let spec = |name: &str, dims: &[usize], dtype| InputSpec {
        name: name.into(),
        dtype,
        dims: dims.to_vec(),
        value: None,
    };
    let specs = [
        spec("q", &[1, tokens, heads, d], DType::F32),
        spec("k", &[1, tokens, kv_heads, d], DType::F32),
        spec("v", &[1, tokens, kv_heads, e], DType::F32),
        spec("past", &[1], DType::I64),
    ];
    let want = definition(&case, scale, [&q, &k, &v]);
    let mut first: Option<Vec<u8>> = None;
    for threads in [1, 3] {
        let device = Device::builder().threads(Some(threads)).budget(Some(1 << 30)).build().unwrap();
        let options = PlanOptions { threads, context: Some(all), kept: Some(kept), ..PlanOptions::default() };
        let plan = Plan::new(&model, rung, &specs, &options).unwrap();
        assert!(plan.kept_bytes > 0);
        let mut session = Session::with_plan(&device, &model, rung, plan).unwrap();
        let mut got = Vec::new();
        for run in 0..runs {
            let part = |x: &[f32], each: usize| -> Vec<u8> {
                let part = &x[run * tokens * each..(run + 1) * tokens * each];
                part.iter().flat_map(|x| x.to_le_bytes()).collect()
            };
            session.set_input(0, &part(&q, heads * d)).unwrap();
            session.set_input(1, &part(&k, kv_heads * d)).unwrap();
            session.set_input(2, &part(&v, kv_heads * e)).unwrap();
            session.set_input(3, &((run * tokens) as i64).to_le_bytes()).unwrap();
            session.run().unwrap();
            got.extend_from_slice(session.output(0).1);
        }
        let floats = got.as_chunks::<4>().0.iter().map(|b| f64::from(f32::from_le_bytes(*b)));
        for (i, (got, want)) in floats.zip(&want).enumerate() {
            assert!((got - want).abs() <= bound, "{kept} {tokens} x {runs}, {i}: {got} {want}");
        }
        assert!(first.get_or_insert(got.clone()) == &got, "{threads} threads");
        // One more token than there is room for.
        session.set_input(3, &(all.next_multiple_of(16) as i64).to_le_bytes()).unwrap();
        let error = session.run().unwrap_err().to_string();
        assert!(error.contains("there is room for"), "{error}");
        session.set_input(3, &(-1i64).to_le_bytes()).unwrap();
        assert!(session.run().unwrap_err().to_string().contains("-1 tokens are kept"));
    }
}

/// f16 rounds keys and values by 2^-11 of themselves, i8 by 2^-8 of the largest of a token's head: scores by up to sqrt(d) times that.
#[test]
fn attention_over_what_is_kept_is_that_of_the_definition() {
    let plain =
        Case { tokens: 50, runs: 4, heads: 6, kv_heads: 2, d: 40, e: 24, window: None, soft_cap: None };
    let cases = [
        plain,
        Case { tokens: 1, runs: 40, heads: 3, kv_heads: 1, d: 64, e: 64, ..plain },
        Case { tokens: 7, runs: 30, heads: 4, kv_heads: 4, d: 5, e: 3, window: Some(9), ..plain },
        Case { tokens: 300, runs: 1, window: Some(150), soft_cap: Some(3.0), ..plain },
        Case { tokens: 1, runs: 300, heads: 20, kv_heads: 1, d: 16, e: 16, window: Some(131), ..plain },
        Case { tokens: 2, runs: 3, heads: 1, kv_heads: 1, d: 1, e: 1, window: Some(1), ..plain },
    ];
    for case in cases {
        for (kept, bound) in [(DType::F32, 5e-6), (DType::F16, 5e-3), (DType::I8, 8e-2)] {
            check(case, kept, bound);
        }
    }
}
