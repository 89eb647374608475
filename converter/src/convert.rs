//! From source models to a written pack.

use crate::alone::{Alone, Subject};
use crate::board::Board;
use crate::calibrate;
use crate::compress::{self, Exact, Family};
use crate::correct::correct;
use crate::draft::{Draft, float_draft, plain_rung};
use crate::equalize;
use crate::error::ConvertError;
use crate::family;
use crate::golden::{GoldenRun, golden};
use crate::import::{self, tokenizer};
use crate::journal::{Cache, Journal, Mix};
use crate::ladder::{
    self, AIMS, Choices, FINE, Found, Integer, Kind, Measurer, Probes, Profile, Sensitivity, Wishes,
};
use crate::lowrank;
use crate::measure::{Evaluator, Outputs, sqnr_db};
use crate::model::Model;
use crate::report::{Report, RungReport, TensorReport};
use crate::samples::{Sample, Samples};
use crate::simplify;
use crate::units::Units;
use crate::witness::{self, Case, Witness};
use edge_runtime::graph::{Graph, Source};
use edge_runtime::pack::{Acts, Card, Rung, Take, Tensor};
use std::collections::HashMap;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

/// What the caller asks of a conversion.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Samples: a directory or a file.
    pub calib: Option<PathBuf>,
    /// Other samples, to measure quality with; else some of `calib` are held out.
    pub held_out: Option<PathBuf>,
    /// Shapes of inputs whose dimensions are free, for noise and golden data.
    pub shapes: Vec<(String, Vec<usize>)>,
    /// What an ONNX file leaves open.
    pub settled: import::Settled,
    /// Store the weights exactly as well, last in the ladder.
    pub keep_float: bool,
    /// Outputs that become inputs of the next run, by name.
    pub states: Vec<(String, String)>,
    /// Labels and pre-processing for the model card.
    pub card: Card,
    /// An independent engine that runs the same model.
    pub witness: Option<Witness>,
    /// Which rungs are wanted.
    pub wishes: Wishes,
    /// Where measurements are kept, and taken from when the same are asked for again; `None` keeps none.
    pub cache: Option<Cache>,
    /// SQNR in dB that outputs keep when products become two narrower ones; else [`lowrank::AIM`], or [`lowrank::EXACT`] where the
    /// weights are stored exactly as well.
    pub low_rank: Option<f64>,
    /// The profile of a device that latencies are of, as `edge-run profile-device` writes it; else they are measured here.
    pub device: Option<PathBuf>,
    /// Divide small channels of values so that 8 bits serve all of them, see [`crate::equalize`].
    pub equalize: bool,
    /// Forms of matrices that are not used.
    pub without: Vec<Family>,
}

/// Where a conversion stands, for a progress bar.
pub trait Watch {
    /// A stage of `total` parts begins.
    fn stage(&mut self, name: &str, total: usize);
    /// `done` parts of the stage are done.
    fn progress(&mut self, done: usize);
    /// As [`Watch::progress`], of a stage whose length was not known when it began.
    fn progress_of(&mut self, done: usize, total: usize);
}

/// Samples that sensitivities are measured on: each costs a run for every tensor and precision.
pub(crate) const PROBES: usize = 3;
/// Samples that the witness sees besides the golden one.
pub(crate) const WITNESSED: usize = 2;
/// Most samples that the finest integer rung is searched with: a text or a sound has few places where an error shows, and
/// what suits three pages of text does not suit the fourth.
const INTEGER_PROBES: usize = 24;
/// Elements that these samples may compute in one run; a large model is judged on a few.
const INTEGER_WORK: usize = 48 << 20;
/// How many times as many samples say whether a part that became finer helped: a choice among hundreds of parts would
/// else fit the few samples that it was made on.
const JUDGES: usize = 2;
/// Samples that say what holds a rung back: those that it serves worst.
const WORST: usize = 3;
/// Below this SQNR in dB the report says what holds an integer rung back.
const GOOD: f64 = 25.0;
/// Samples that each rung's quality is measured on.
const HELD_OUT: usize = 16;

/// Converts one model, or the subnets of one family.
///
/// # Errors
/// When the model is not supported, samples do not suit it, or the pack cannot be written.
pub fn convert(
    sources: &[PathBuf],
    output: &Path,
    options: &Options,
    watch: &mut dyn Watch,
    stop: &AtomicBool,
) -> Result<Report, ConvertError> {
    let [source] = sources else { return family::convert(sources, output, options, watch, stop) };
    watch.stage("import", 1);
    let mut model = import::import_onnx_with(source, &options.settled)?;
    import::apply_states(&mut model, &options.states)?;
    convert_imported(source, Imported { model, texts: None }, output, options, watch, stop)
}

/// A model as it was imported.
pub(crate) struct Imported {
    pub model: Model,
    /// What is with a model that reads texts: its tokenizer, and samples of a text when there are any.
    pub texts: Option<(tokenizer::Found, Option<Samples>)>,
}

/// Makes a ladder of a model, and a pack of that.
///
/// # Errors
/// As [`convert`].
pub(crate) fn convert_imported(
    source: &Path,
    Imported { model, texts }: Imported,
    output: &Path,
    options: &Options,
    watch: &mut dyn Watch,
    stop: &AtomicBool,
) -> Result<Report, ConvertError> {
    let board = Board::of(options.device.as_deref())?;
    let source_nodes = model.graph.body.nodes.len();
    let (mut model, passes) = simplify::simplify_with_report(model, &simplify::Options::default());
    let mut passes: Vec<(String, usize)> =
        passes.into_iter().map(|p| (p.name.to_string(), p.changed)).collect();
    let float = float_draft(&model);
    let float_model = float.open();
    let float_rung = &float.header.rungs[0];
    // The witness reads ONNX files alone.
    let witness = options.witness.as_ref().filter(|_| texts.is_none());
    let (tokenizer, given) = texts.unzip();
    let samples = match given.flatten() {
        Some(samples) => samples,
        None => Samples::of(options, &float_model, float_rung)?,
    };
    let evaluator = Evaluator::new(stop)?.timed_on(board);
    let name = Mix::of("conversion").key(&float.candidate().key(float_rung)).key(&samples.key()).done();
    let journal = Journal::open(options.cache.as_ref(), evaluator.device(), &name);
    let evaluator = evaluator.keeping(journal);

    watch.stage("run the model", 1);
    let held_out = &samples.held_out[..samples.held_out.len().min(HELD_OUT)];
    let calibration = &samples.calibration[..];
    let want = evaluator.run(&float_model, float_rung, held_out)?;
    finite(&model, &want, &samples.origin)?;
    watch.progress(1);

    watch.stage("witness", 1);
    let golden_run = GoldenRun::new(&evaluator, &float_model, float_rung, options);
    let probes = &calibration[..calibration.len().min(PROBES)];
    let probe_want = evaluator.run(&float_model, float_rung, probes)?;
    finite(&model, &probe_want, &samples.origin)?;
    let pairs = probes.iter().zip(&probe_want).take(WITNESSED);
    let cases: Vec<Case<'_>> = golden_run.iter().map(GoldenRun::case).chain(pairs.map(Case::of)).collect();
    let verdict = witness::ask(witness, source, &names(&model.graph), &cases, stop)?;
    watch.progress(1);

    let dims = evaluator.output_dims(&float_model, float_rung, &probes[0])?;
    let units = Units::of(&dims, &probe_want);
    let probe_set = Probes::new(probes, &probe_want, &units);
    let low_rank = lowrank::split(&evaluator, &mut model, calibration, &probe_set, options, watch)?;
    if options.equalize {
        watch.stage("equalize channels", 1);
        let plain = float_draft(&model);
        let readers = equalize::equalize(&mut model, &evaluator, &plain, calibration)?;
        passes.push(("equalize_channels".to_string(), readers));
    }
    watch.stage("calibrate", calibration.len());
    let even = float_draft(&model);
    let (even_model, even_rung) = (even.open(), &even.header.rungs[0]);
    let seen = calibrate::seen(&evaluator, &even, calibration, |done| watch.progress(done))?;

    let mut draft = Draft::new(&model);
    let (graph, mut choices, exact) = lower(&mut draft, &model, options)?;
    for (value, range) in draft.header.graphs[graph as usize].values.iter_mut().zip(seen.ranges(&[])) {
        value.range = range;
    }
    let given = calibrate::as_given(&mut draft.header.graphs[graph as usize]) > 0;
    describe(&mut draft, source, options);

    if !options.without.contains(&Family::Corrections) {
        correct(&evaluator, &mut draft, graph, &mut choices, calibration, options, watch)?;
    }
    watch.stage("measure tensors", choices.finest().iter().map(|take| take - 1).sum());
    let sensitivity = ladder::sensitivities(&evaluator, &draft, graph, &choices, &probe_set, |done, _| {
        watch.progress(done)
    })?;
    watch.stage("measure values", 1);
    let elements = calibrate::elements(&evaluator, &even_model, even_rung, &model.graph, &probes[..1])?;
    let prices = ladder::prices(&draft, graph, &choices, &elements);
    let subject = Subject {
        evaluator: &evaluator,
        float: &even,
        draft: &draft,
        graph,
        choices: &choices,
        sensitivity: &sensitivity,
        units: &units,
    };
    let alone = Alone::measure(&subject, calibration, &seen, &elements, &probe_set, watch)?;
    let count = (INTEGER_WORK / elements.iter().sum::<usize>().max(1))
        .clamp(2, INTEGER_PROBES)
        .min(calibration.len());
    let judges = &calibration[..(JUDGES * count).min(calibration.len())];
    let judges_want = evaluator.run(&float_model, float_rung, judges)?;
    let judges = Probes::new(judges, &judges_want, &units);
    choices.add_coded(&mut draft);
    let mut found = Vec::new();
    // Where the model says itself what is codes, there is nothing to choose.
    let aims = if given { &AIMS[..1] } else { &AIMS[..] };
    for aim in aims {
        let mut integer = Integer {
            evaluator: &evaluator,
            draft: &draft,
            graph,
            choices: &choices,
            sensitivity: &sensitivity,
            probes: judges.first(count),
            judges,
            elements: &elements,
            prices: &prices,
            aim: *aim,
            profile: Profile::integers(&choices),
        };
        let mut last = String::new();
        integer.search(|stage, done, total| {
            if stage != last {
                watch.stage(stage, total);
                last = stage.to_string();
            }
            watch.progress_of(done, total);
        })?;
        let (distortion, profile) = (integer.judged()?, integer.profile);
        found.push(Found { distortion, time: profile.time(&choices, &prices), profile });
    }
    let profiles = ladder::distinct(found);
    choices.settle(&mut draft, &profiles);
    let float_values = profiles.last().map_or(&[][..], |profile| &profile.floats);
    let float_values =
        float_values.iter().map(|v| draft.header.graphs[graph as usize].name(*v).to_string()).collect();
    let all = choices.bytes(&draft, &choices.finest());
    let sizes = options.wishes.weight_sizes(&draft, graph, all)?;
    let steps = ladder::climb(&draft, &choices, &sensitivity, &sizes);

    let mut rungs = ladder::rungs(&draft, &choices, &steps, &profiles, given, graph, "");
    rungs.extend(exact_rung(&draft, graph, options.keep_float).map(|rung| (rung, Kind::Floats)));
    // Exact floats take the place of those that everything so far was measured against.
    drop((float_model, float, even_model, even));
    for matrix in exact {
        matrix.store(&mut draft, &mut model.constants)?;
    }
    let candidate = draft.candidate();
    let held = Probes::new(held_out, &want, &units);
    let mut measurer = Measurer {
        evaluator: &evaluator,
        candidate: &candidate,
        held,
        origin: &samples.origin,
        timed: options.wishes.max_latency.is_some() || options.device.is_some(),
        latencies: Vec::new(),
    };
    let mut chain = measurer.measured(rungs, watch)?;
    if sizes.is_empty() && !given {
        let judges = judges.first(count.min(judges.samples.len()));
        chain = measurer.filled(chain, graph, &choices, &sensitivity, &judges, watch)?;
    }
    let latencies = measurer.latencies;
    let chain = ladder::affordable(&draft, chain);
    let mut chain = options.wishes.of(chain, &latencies)?;
    let rungs: Vec<Rung> = chain.iter().map(|link| link.rung.clone()).collect();
    let search = Integer {
        evaluator: &evaluator,
        draft: &draft,
        graph,
        choices: &choices,
        sensitivity: &sensitivity,
        probes: held,
        judges,
        elements: &elements,
        prices: &prices,
        aim: FINE,
        profile: Profile::integers(&choices),
    };
    let limit = limited(search, &rungs, &held, watch)?;
    draft.header.rungs = rungs;
    let costs = alone.costs(&sensitivity);
    let candidate = draft.candidate();
    let mut parts = Vec::with_capacity(draft.header.rungs.len());
    for rung in &draft.header.rungs {
        parts.push(costs.parts(&evaluator, &candidate, &choices, rung, &probe_set)?);
    }
    draft.header.rungs.iter_mut().zip(parts).for_each(|(rung, parts)| rung.parts = parts);
    draft.header.costs = ladder::stored_costs(&sensitivity, graph, &choices);
    let mut golden = golden(&mut draft, &model, golden_run.as_ref(), &verdict)?;

    watch.stage("write", 1);
    ladder::join_constants(&mut draft, &golden, &mut chain);
    ladder::drop_unused(&mut draft, &mut golden, &mut chain);
    // The tables come to blobs that are left: nothing that a rung reads refers to them.
    let tables = tokenizer.and_then(|found| draft.tokenizer(found));
    let (mut sections, needs) = ladder::layout(&draft, &chain, golden);
    tables.into_iter().for_each(|blob| ladder::place_first(&mut sections, blob));
    let written = draft.write(output, sections, needs, stop)?;
    watch.progress(1);
    Ok(Report {
        source: source.display().to_string(),
        output: output.display().to_string(),
        bytes: written.file_len,
        padding: written.padding,
        nodes: [source_nodes, model.graph.body.nodes.len()],
        passes,
        samples: samples.origin,
        measurements: evaluator.journal().into(),
        witness: verdict,
        float_values,
        low_rank,
        tensors: tensors(&draft, &sensitivity),
        rungs: draft
            .header
            .rungs
            .iter()
            .map(|rung| RungReport {
                limited_by: limit.as_ref().filter(|l| l.0 == rung.id).map(|l| l.1.clone()),
                ..RungReport::new(rung, &latencies)
            })
            .collect(),
    })
}

/// Refuses outputs of the float model that nothing can be measured against.
///
/// # Errors
/// When one is not finite: names a weight that is not, if there is one.
pub(crate) fn finite(model: &Model, runs: &[Outputs], origin: &str) -> Result<(), ConvertError> {
    let graph = &model.graph;
    for (run, outputs) in runs.iter().enumerate() {
        for (port, output) in graph.outputs.iter().zip(outputs) {
            if let Some(at) = output.iter().position(|value| !value.is_finite()) {
                compress::matrices(graph, &model.constants)?;
                // Infinities may be meant in other arrays: masks have them.
                for value in &graph.values {
                    let Source::Constant(id) = value.source else { continue };
                    let array = &model.constants[id as usize];
                    if array.floats().is_some_and(|values| values.iter().any(|value| value.is_nan())) {
                        compress::finite(&value.name, array)?;
                    }
                }
                let output = (graph.name(port.value).to_string(), at, output[at]);
                return Err(ConvertError::NotFinite { output, run, origin: origin.to_string() });
            }
        }
    }
    Ok(())
}

/// Moves a model's arrays into the draft: matrices become tensors with nested planes, the rest constants. Gives the graph's id, the
/// choices of the ladder, and the exact floats that are promised, when they are asked for.
pub(crate) fn lower(
    draft: &mut Draft,
    model: &Model,
    options: &Options,
) -> Result<(u32, Choices, Vec<Exact>), ConvertError> {
    let matrices = compress::matrices(&model.graph, &model.constants)?;
    let mut ids: HashMap<u32, Source> = HashMap::new();
    let (mut nested, mut exact) = (Vec::new(), Vec::new());
    let mut graph = model.graph.clone();
    for value in &mut graph.values {
        let Source::Constant(id) = value.source else { continue };
        if let Some(source) = ids.get(&id) {
            value.source = *source;
            continue;
        }
        let source = match matrices.get(&id) {
            Some(matrix) => {
                let whole = match model.integers.get(&id) {
                    Some(integers) => compress::integers(draft, &matrix.matrix(), integers)?,
                    None => None,
                };
                let root = match whole {
                    Some(root) => root,
                    None => compress::nested(draft, &matrix.matrix(), &options.without)?,
                };
                let (mut roots, floats) = (vec![root.expr.clone()], options.keep_float && !root.is_whole());
                nested.push(root);
                if floats {
                    let (later, expr) = Exact::promise(draft, matrix, id);
                    exact.push(later);
                    roots.push(expr);
                }
                Source::Weight(draft.tensor(Tensor {
                    name: matrix.name.clone(),
                    n: matrix.n,
                    k: matrix.k,
                    roots,
                }))
            }
            None => Source::Constant(draft.constant(&model.constants[id as usize])),
        };
        ids.insert(id, source);
        value.source = source;
    }
    let graph = draft.graph(graph);
    let tensors = (0..nested.len() as u32).collect();
    Ok((graph, Choices::new(tensors, nested), exact))
}

/// The best integer rung and the tensor or value that costs it most, when it is below [`GOOD`]. Looked for where the quality
/// was measured: what the search was made with may hold no such sample.
fn limited(
    search: Integer<'_>,
    rungs: &[Rung],
    held: &Probes<'_>,
    watch: &mut dyn Watch,
) -> Result<Option<(String, String)>, ConvertError> {
    let quality = |r: &Rung| r.quality.as_ref().map_or(f64::NEG_INFINITY, |q| f64::from(q.value));
    let best = rungs.iter().filter(|r| r.acts == Acts::I8).max_by(|a, b| quality(a).total_cmp(&quality(b)));
    let Some(best) = best.filter(|r| quality(r) < GOOD) else { return Ok(None) };
    let noises = search.evaluator.noises(&search.draft.candidate(), best, held)?;
    let mut worst: Vec<usize> = (0..noises.len()).collect();
    worst.sort_by(|a, b| noises[*b].total_cmp(&noises[*a]));
    worst.truncate(WORST);
    let samples: Vec<Sample> = worst.iter().map(|i| held.samples[*i].clone()).collect();
    let want: Vec<Outputs> = worst.iter().map(|i| held.want[*i].clone()).collect();
    let mut integer = Integer {
        probes: Probes::new(&samples, &want, held.units),
        profile: Profile::of_rung(search.choices, best),
        ..search
    };
    watch.stage("find the limit", 1);
    let worst = integer.worst(|done, total| watch.progress_of(done, total))?;
    let name = worst.map(|worst| integer.name(worst.part));
    Ok(Some((best.id.clone(), name.unwrap_or_else(|| "no tensor or value alone".to_string()))))
}

fn tensors(draft: &Draft, sensitivity: &Sensitivity) -> Vec<TensorReport> {
    let report = |(i, t): (usize, &Tensor)| {
        let costs = sensitivity.costs(i);
        TensorReport {
            name: t.name.clone(),
            dims: [t.n, t.k],
            read: sensitivity.is_read(i),
            sqnr_db: costs[..costs.len() - 1].iter().map(|d| sqnr_db(*d)).collect(),
        }
    };
    draft.header.tensors.iter().enumerate().map(report).collect()
}

pub(crate) fn describe(draft: &mut Draft, source: &Path, options: &Options) {
    let card = &mut draft.header.card;
    // A graph's own name is its exporter's as a rule.
    let stem = source.file_stem().map(|stem| stem.to_string_lossy().into_owned());
    card.name =
        if options.card.name.is_empty() { stem.unwrap_or_default() } else { options.card.name.clone() };
    card.metadata.extend(options.card.metadata.clone());
    card.labels.clone_from(&options.card.labels);
    card.preprocess.clone_from(&options.card.preprocess);
    let file = source.file_name().map(|n| n.to_string_lossy().into_owned()).unwrap_or_default();
    card.metadata.insert("source".into(), file);
    if let Ok(hash) = hash(source) {
        card.metadata.insert("source_blake3".into(), hash.to_hex().to_string());
    }
    card.metadata.insert("converter".into(), env!("CARGO_PKG_VERSION").into());
}

/// The hash of a file, which may be larger than the memory.
fn hash(path: &Path) -> std::io::Result<blake3::Hash> {
    let (mut file, mut hasher) = (std::fs::File::open(path)?, blake3::Hasher::new());
    let mut part = vec![0; 1 << 16];
    loop {
        match file.read(&mut part)? {
            0 => return Ok(hasher.finalize()),
            n => _ = hasher.update(&part[..n]),
        }
    }
}

/// The rung of the weights as they came, when they are stored.
fn exact_rung(draft: &Draft, graph: u32, stored: bool) -> Option<Rung> {
    let mut rung = plain_rung("float", graph, Acts::F32);
    // Of integers that came as such there are no floats: all of them is exact.
    let take = |tensor: &Tensor| if tensor.roots.len() > 1 { Take(1, 1) } else { Take(0, 0) };
    rung.takes = draft.header.tensors.iter().map(|tensor| Some(take(tensor))).collect();
    stored.then_some(rung)
}

/// Names of a graph's outputs, in order.
pub(crate) fn names(graph: &Graph) -> Vec<String> {
    graph.outputs.iter().map(|port| graph.name(port.value).to_string()).collect()
}
