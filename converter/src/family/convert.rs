//! From subnets to a pack whose rungs are subnets times precisions.

use super::rungs::{self, Probed};
use super::sharing::{self, Shared, Sharing, Version};
use crate::board::Board;
use crate::calibrate;
use crate::compress::{self, Root};
use crate::convert::{Options, PROBES, WITNESSED, Watch, describe, finite, names};
use crate::draft::{Draft, float_draft};
use crate::error::ConvertError;
use crate::golden::{GoldenRun, golden};
use crate::import;
use crate::journal::{Journal, Mix};
use crate::ladder::{self, Kind, Probes};
use crate::measure::{Evaluator, Outputs};
use crate::model::Model;
use crate::report::{Report, RungReport};
use crate::samples::Samples;
use crate::simplify;
use crate::units::Units;
use crate::witness::{self, Case, Verdict};
use edge_runtime::graph::{Graph, Source};
use edge_runtime::pack::{Arg, Expr, Tensor};
use serde_json::json;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

/// Converts the subnets of one family.
///
/// # Errors
/// When a model is not supported, the models differ in inputs or outputs, samples do not suit them, or the pack cannot
/// be written.
pub fn convert(
    sources: &[PathBuf],
    output: &Path,
    options: &Options,
    watch: &mut dyn Watch,
    stop: &AtomicBool,
) -> Result<Report, ConvertError> {
    watch.stage("import", sources.len());
    let mut models = Vec::with_capacity(sources.len());
    let (mut nodes, mut passes) = ([0, 0], Vec::new());
    for (i, source) in sources.iter().enumerate() {
        let mut model = import::import_onnx_with(source, &options.settled)?;
        import::apply_states(&mut model, &options.states)?;
        nodes[0] += model.graph.body.nodes.len();
        // Norms stay apart from the weights, which would else differ between the subnets.
        let (model, done) = simplify::simplify_with_report(
            model,
            &simplify::Options { keep_affine: true, ..simplify::Options::default() },
        );
        nodes[1] += model.graph.body.nodes.len();
        passes.extend(done.into_iter().map(|p| (p.name.to_string(), p.changed)));
        models.push((source, model));
        watch.progress(i + 1);
    }
    let weights = |m: &Model| m.constants.iter().map(|c| c.data.len()).sum::<usize>();
    models.sort_by_key(|(_, m)| weights(m));
    for pair in models.windows(2) {
        same_ports(pair[0].0, &pair[0].1.graph, pair[1].0, &pair[1].1.graph)?;
    }
    let source = models.last().map_or(output, |(s, _)| s.as_path()).to_path_buf();
    let (files, models): (Vec<&PathBuf>, Vec<Model>) = models.into_iter().unzip();
    let Some(largest) = models.last() else {
        return Err(ConvertError::Option { option: "models", why: "none given".into() });
    };

    let floats: Vec<Draft> = models.iter().map(float_draft).collect();
    let samples = match floats.last() {
        Some(float) => Samples::of(options, &float.open(), &float.header.rungs[0])?,
        None => return Err(ConvertError::Option { option: "models", why: "none given".into() }),
    };
    let name = floats.iter().fold(Mix::of("family").key(&samples.key()), |mix, float| {
        mix.key(&float.candidate().key(&float.header.rungs[0]))
    });
    let evaluator = Evaluator::new(stop)?.timed_on(Board::of(options.device.as_deref())?);
    let journal = Journal::open(options.cache.as_ref(), evaluator.device(), &name.done());
    let evaluator = evaluator.keeping(journal);
    let held_out = &samples.held_out[..samples.held_out.len().min(rungs::HELD_OUT)];
    let sharing = sharing::find(&models)?;
    let mut draft = Draft::new(largest);
    let stored = store(&mut draft, &sharing.matrices)?;
    watch.stage("calibrate", models.len());
    let mut reference: Vec<Outputs> = Vec::new();
    let probes = &samples.calibration[..samples.calibration.len().min(PROBES)];
    let mut probed: Vec<Probed> = Vec::new();
    let mut golden_run = None;
    let mut verdict = Verdict::Absent;
    for (i, (model, float)) in models.iter().zip(&floats).enumerate() {
        let opened = float.open();
        let rung = float.header.rungs[0].clone();
        let ranges = calibrate::ranges(&evaluator, float, &samples.calibration, |_| {})?;
        let graph = add_graph(&mut draft, model, &sharing, i, &stored);
        for (value, range) in draft.header.graphs[graph].values.iter_mut().zip(ranges) {
            value.range = range;
        }
        let want = evaluator.run(&opened, &rung, probes)?;
        finite(model, &want, &samples.origin)?;
        let run = GoldenRun::new(&evaluator, &opened, &rung, options);
        let pairs = probes.iter().zip(&want).take(WITNESSED);
        let cases: Vec<Case<'_>> = run.iter().map(GoldenRun::case).chain(pairs.map(Case::of)).collect();
        let said = witness::ask(options.witness.as_ref(), files[i], &names(&model.graph), &cases, stop)?;
        verdict = verdict.and(said);
        let units = Units::of(&evaluator.output_dims(&opened, &rung, &probes[0])?, &want);
        let elements = calibrate::elements(&evaluator, &opened, &rung, &model.graph, &probes[..1])?;
        probed.push(Probed { want, units, elements });
        if i + 1 == models.len() {
            reference = evaluator.run(&opened, &rung, held_out)?;
            golden_run = run;
        }
        watch.progress(i + 1);
    }
    describe(&mut draft, &source, options);

    let (candidates, float_values) =
        rungs::candidates(&evaluator, &mut draft, &probed, probes, options, watch)?;
    let none = Units::default();
    let units = probed.last().map_or(&none, |p| &p.units);
    let held = Probes::new(held_out, &reference, units);
    let (measured, latencies) =
        rungs::measured(&evaluator, &draft, candidates, &held, &samples.origin, options, watch)?;
    let opened = draft.open();
    let linked = measured.into_iter().map(|rung| {
        let kind = Kind::of(&rung);
        ladder::link(&draft, &opened, (rung, kind))
    });
    let measured = linked.collect::<Result<Vec<_>, _>>()?;
    let chain = options.wishes.of(ladder::undominated(measured), &latencies)?;
    draft.header.rungs = chain.iter().map(|link| link.rung.clone()).collect();
    let golden = golden(&mut draft, largest, golden_run.as_ref(), &verdict)?;
    let (sections, needs) = ladder::layout(&draft, &chain, golden);
    watch.stage("write", 1);
    let written = draft.write(output, sections, needs, stop)?;
    watch.progress(1);
    Ok(Report {
        source: sources.iter().map(|s| s.display().to_string()).collect::<Vec<_>>().join(", "),
        output: output.display().to_string(),
        bytes: written.file_len,
        padding: written.padding,
        nodes,
        passes,
        samples: samples.origin,
        measurements: evaluator.journal().into(),
        witness: verdict,
        float_values,
        low_rank: Vec::new(),
        tensors: Vec::new(),
        rungs: draft.header.rungs.iter().map(|rung| RungReport::new(rung, &latencies)).collect(),
    })
}

/// The subnets must answer the same question.
fn same_ports(a: &Path, ga: &Graph, b: &Path, gb: &Graph) -> Result<(), ConvertError> {
    let ports = |g: &Graph| {
        let all = g.inputs.iter().chain(&g.outputs);
        all.map(|p| format!("{} {}", g.name(p.value), p.dtype)).collect::<Vec<_>>()
    };
    let (pa, pb) = (ports(ga), ports(gb));
    if pa == pb {
        return Ok(());
    }
    let why = format!(
        "{} has inputs and outputs {}, {} has {}: they are no subnets of one family",
        a.display(),
        pa.join(", "),
        b.display(),
        pb.join(", ")
    );
    Err(ConvertError::Option { option: "models", why })
}

/// Stores the shared matrices; gives the tensor of each.
fn store(draft: &mut Draft, matrices: &[Shared]) -> Result<Vec<u32>, ConvertError> {
    let mut stored = Vec::with_capacity(matrices.len());
    for shared in matrices {
        let mut roots: Vec<Root> = Vec::new();
        let blocks = shared.blocks();
        for block in &blocks {
            roots.push(compress::planes(draft, &shared.block(*block))?);
        }
        let m = &shared.matrix;
        let root = match &roots[..] {
            [whole] => whole.expr.clone(),
            parts => {
                let mut params = serde_json::Map::new();
                params.insert("taps".into(), json!(shared.taps));
                params.insert("blocks".into(), json!(blocks));
                let args = parts.iter().map(|r| Arg::Expr(Box::new(r.expr.clone()))).collect();
                Expr { kind: "tiles".into(), params, args, blobs: Vec::new() }
            }
        };
        stored.push(draft.tensor(Tensor { name: m.name.clone(), n: m.n, k: m.k, roots: vec![root] }));
    }
    Ok(stored)
}

/// Adds a subnet's graph: its matrices are the shared ones, or views of their beginning.
fn add_graph(draft: &mut Draft, model: &Model, sharing: &Sharing, index: usize, stored: &[u32]) -> usize {
    let mut graph = model.graph.clone();
    let mut ids: HashMap<u32, Source> = HashMap::new();
    for value in &mut graph.values {
        let Source::Constant(id) = value.source else { continue };
        value.source = *ids.entry(id).or_insert_with(|| match sharing.versions[index].get(&id) {
            Some(version) => Source::Weight(view(draft, sharing, *version, stored)),
            None => Source::Constant(draft.constant(&model.constants[id as usize])),
        });
    }
    draft.graph(graph) as usize
}

fn view(draft: &mut Draft, sharing: &Sharing, version: Version, stored: &[u32]) -> u32 {
    let shared = &sharing.matrices[version.shared];
    let tensor = stored[version.shared];
    let [n, channels] = version.size;
    if shared.sizes.last() == Some(&version.size) {
        return tensor;
    }
    let mut params = serde_json::Map::new();
    params.insert("taps".into(), json!(shared.taps));
    params.insert("rows".into(), json!([0, n]));
    params.insert("channels".into(), json!([0, channels]));
    let root = Expr { kind: "view".into(), params, args: vec![Arg::Shared(tensor, 0)], blobs: Vec::new() };
    let name = format!("{} [0..{n}, 0..{channels}]", shared.matrix.name);
    draft.tensor(Tensor { name, n, k: shared.taps * channels, roots: vec![root] })
}
