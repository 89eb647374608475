//! A ladder of a language model: every matrix as nested planes, and of these what a text shows to be worth its bytes.
//!
//! ```text
//! rows      what runs of the model as it came multiply its matrices with
//! moments   H = mean(x xᵀ) of them, damped; U with Uᵀ U = H⁻¹
//! planes    rounded with feedback by U, so that every prefix makes up for its own errors
//! costs     how far the distributions of tokens diverge when one matrix alone is coarse
//! rungs     bytes where they take most of that away; each rung's perplexity on held-out text
//! ```

use super::text::{Texts, Window};
use super::{Whole, arena, store, with_constants, write};
use crate::calibrate;
use crate::candidate::Candidate;
use crate::compress::{Root, scale_type, stored};
use crate::convert::{Options, Watch, describe};
use crate::draft::{Draft, plain_rung};
use crate::error::ConvertError;
use crate::import::gguf::Form;
use crate::import::language::{LanguageModel, ModelFile, Weight, import_floats};
use crate::journal::{Journal, Key, Mix};
use crate::ladder::{self, Choices, Probes};
use crate::measure::{Evaluator, likelihoods};
use crate::report::{Report, RungReport};
use crate::units::Units;
use crate::witness::Verdict;
use edge_runtime::graph::TensorId;
use edge_runtime::pack::{Acts, PERPLEXITY, Quality, Rung, Tensor};
use edge_runtime::tokenizer::Tokenizer;
use edge_runtime::weights::planes::{self, Feedback, Layout, Spec};
use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::AtomicBool;

/// Columns of a scale.
const GROUP: usize = 32;
/// Bits of the planes of matrices that came with at most 4 bits, and of others.
const COARSE: [u32; 3] = [2, 2, 2];
const FINE: [u32; 4] = [2, 2, 2, 2];

/// Converts a model to a ladder.
///
/// # Errors
/// When there is no tokenizer, the text does not do, a matrix is not finite, or the pack cannot be written.
pub fn convert(
    (source, file): (&Path, &dyn ModelFile),
    output: &Path,
    options: &Options,
    whole: Whole,
    watch: &mut dyn Watch,
    stop: &AtomicBool,
) -> Result<Report, ConvertError> {
    let tokenizer = Tokenizer::new(&whole.draft.header, whole.draft.source()).map_err(|e| {
        let why = whole.draft.header.card.metadata.get("no_tokenizer").cloned();
        let why = why.unwrap_or_else(|| e.to_string());
        ConvertError::Option { option: "--calib", why: format!("a text needs a tokenizer: {why}") }
    })?;
    let decoding = &whole.draft.header.graphs[whole.rung.graph as usize].decoding;
    let longest = decoding.as_ref().map_or(0, |decoding| decoding.longest);
    let texts = Texts::of(options, &tokenizer, longest)?;
    let evaluator = Evaluator::new(stop)?;
    let name = Mix::of("text").key(&whole.draft.candidate().key(&whole.rung)).key(&texts.held_out_key());
    let journal = Journal::open(options.cache.as_ref(), evaluator.device(), &name.done());
    let evaluator = evaluator.keeping(journal);

    let LanguageModel { graph, constants, weights } = import_floats(file)?;
    let mut draft = Draft::default();
    draft.header.card = whole.draft.header.card.clone();
    describe(&mut draft, source, options);
    let graph = with_constants(&mut draft, graph, &constants);
    let roots = round(&evaluator, &mut draft, file, &weights, &whole, &texts, watch)?;
    let mut nested = Vec::with_capacity(roots.len());
    for (weight, root) in weights.iter().zip(roots) {
        let (name, roots) = (weight.name.clone(), vec![root.expr.clone()]);
        draft.tensor(Tensor { name, n: weight.n, k: weight.k, roots });
        nested.push(root);
    }
    let choices = Choices::new((0..weights.len() as TensorId).collect(), nested);
    let graph = draft.graph(graph);
    let tables = whole.tokenizer.map(|blob| draft.blob(whole.draft.blobs[blob as usize].clone()));
    draft.header.tokenizer = whole.draft.header.tokenizer.clone().map(|mut described| {
        tables.map(|blob| described.insert("blob".into(), blob.into()));
        described
    });

    let vocabulary = vocabulary(&evaluator, &whole, &texts)?;
    let want = evaluator.run(&whole.draft.open(), &whole.rung, &texts.probes)?;
    let units = Units::tokens(vocabulary);
    let probes = Probes::new(&texts.probes, &want, &units);
    watch.stage("measure matrices", choices.finest().iter().map(|take| take - 1).sum());
    let sensitivity = ladder::sensitivities(&evaluator, &draft, graph, &choices, &probes, |done, _| {
        watch.progress(done);
    })?;
    let mut finest = plain_rung("finest", graph, Acts::F32);
    finest.takes = choices.takes(&draft, &choices.finest());
    let sensitivity = sensitivity.beside(evaluator.distortion(&draft.candidate(), &finest, &probes)?);
    let sizes = options.wishes.weight_sizes(&draft, graph, choices.bytes(&draft, &choices.finest()))?;
    let steps = ladder::climb(&draft, &choices, &sensitivity, &sizes);
    let rungs = ladder::rungs(&draft, &choices, &steps, &[], false, graph, "");

    watch.stage("measure perplexity", rungs.len() + 1);
    let held_out = texts.held_out_key();
    let of_file = nll(&evaluator, &whole.draft.candidate(), &whole.rung, (&texts, &held_out), vocabulary)?;
    watch.progress(1);
    let candidate = draft.candidate();
    let opened = candidate.model();
    let mut measured = Vec::with_capacity(rungs.len());
    for (i, (mut rung, kind)) in rungs.into_iter().enumerate() {
        let nll = nll(&evaluator, &candidate, &rung, (&texts, &held_out), vocabulary)?;
        rung.quality = Some(Quality {
            metric: PERPLEXITY.to_string(),
            value: nll.exp() as f32,
            samples: texts.origin.clone(),
        });
        rung.arena = arena(opened, &rung)?;
        measured.push(ladder::link(&draft, opened, (rung, kind))?);
        watch.progress(i + 2);
    }
    let chain = options.wishes.of(ladder::undominated(measured), &[])?;
    let card = &mut draft.header.card.metadata;
    card.insert("source_perplexity".into(), format!("{:.3}", of_file.exp()));
    let written = write(&mut draft, output, chain, tables, (watch, stop))?;
    Ok(Report {
        source: source.display().to_string(),
        output: output.display().to_string(),
        bytes: written.file_len,
        padding: written.padding,
        nodes: [whole.nodes, draft.header.graphs[graph as usize].body.nodes.len()],
        passes: Vec::new(),
        samples: format!("{}; the file itself has {:.3} there", texts.origin, of_file.exp()),
        measurements: evaluator.journal().into(),
        witness: Verdict::Absent,
        float_values: Vec::new(),
        low_rank: Vec::new(),
        tensors: Vec::new(),
        rungs: draft.header.rungs.iter().map(|rung| RungReport::new(rung, &[])).collect(),
    })
}

/// Every matrix as nested planes, rounded with what runs of the text show of its rows.
fn round(
    evaluator: &Evaluator<'_>,
    draft: &mut Draft,
    file: &dyn ModelFile,
    weights: &[Weight],
    whole: &Whole,
    texts: &Texts,
    watch: &mut dyn Watch,
) -> Result<Vec<Root>, ConvertError> {
    let model = whole.draft.open();
    // Matrices of the file by name, its minima aside: they are of other columns.
    let names: HashMap<&str, TensorId> = (0..)
        .zip(&whole.draft.header.tensors)
        .filter(|(_, tensor)| !tensor.name.ends_with(store::MINIMA))
        .map(|(id, tensor): (TensorId, &Tensor)| (tensor.name.as_str(), id))
        .collect();
    let tensors: Vec<TensorId> =
        weights.iter().filter_map(|weight| names.get(weight.name.as_str()).copied()).collect();
    let groups = calibrate::groups(&model, &whole.rung, &texts.calibration, &tensors)?;
    let mut roots: Vec<Option<Root>> = vec![None; weights.len()];
    let mut done = 0;
    for (turn, group) in groups.iter().enumerate() {
        watch.stage(&format!("read rows, part {} of {}", turn + 1, groups.len()), texts.calibration.len());
        let rows = calibrate::product_rows(
            evaluator,
            &model,
            &whole.rung,
            &texts.calibration,
            group,
            |done, all| {
                watch.progress_of(done, all);
            },
        )?;
        watch.stage("round matrices", weights.len());
        for (weight, root) in weights.iter().zip(&mut roots) {
            let Some(id) = names.get(weight.name.as_str()).filter(|id| group.contains(id)) else {
                continue;
            };
            evaluator.go_on()?;
            let feedback = rows.get(id).filter(|rows| rows.k == weight.k).and_then(calibrate::feedback);
            *root = Some(planes(draft, file, weight, feedback.as_ref())?);
            done += 1;
            watch.progress(done);
        }
    }
    // What no run reads.
    let missing = |(weight, root): (&Weight, Option<Root>)| match root {
        Some(root) => Ok(root),
        None => planes(draft, file, weight, None),
    };
    weights.iter().zip(roots).map(missing).collect()
}

/// One matrix as nested planes.
fn planes(
    draft: &mut Draft,
    file: &dyn ModelFile,
    weight: &Weight,
    feedback: Option<&Feedback>,
) -> Result<Root, ConvertError> {
    let values = store::values(file, weight)?;
    let form = file.stored(&weight.tensor).map(|stored| stored.kind.form);
    let coarse = matches!(form, Some(Form::Codes(codes)) if codes.bits <= 4);
    let spec = Spec {
        group: GROUP,
        bits: if coarse { COARSE.to_vec() } else { FINE.to_vec() },
        layout: if weight.product { Layout::Panel } else { Layout::Rows },
        scale: scale_type(&values),
        ..Spec::default()
    };
    let encoded = planes::encode_by(&values, weight.n, weight.k, &spec, &[], feedback)
        .map_err(|e| ConvertError::Weight { tensor: weight.name.clone(), why: e.to_string() })?;
    let (expr, levels) = stored(draft, encoded);
    Ok(Root { expr, levels, one_scale: None })
}

/// Logits of a token.
fn vocabulary(evaluator: &Evaluator<'_>, whole: &Whole, texts: &Texts) -> Result<usize, ConvertError> {
    let dims = evaluator.output_dims(&whole.draft.open(), &whole.rung, &texts.probes[0])?;
    Ok(dims.first().and_then(|dims| dims.last()).copied().unwrap_or_default())
}

/// Mean negative log-likelihood of the held-out tokens, in nats.
fn nll(
    evaluator: &Evaluator<'_>,
    candidate: &Candidate<'_>,
    rung: &Rung,
    (texts, key): (&Texts, &Key),
    vocabulary: usize,
) -> Result<f64, ConvertError> {
    let key = Mix::of("likelihood").key(&candidate.key(rung)).key(key).done();
    let mean = evaluator.known(key, 1, || {
        let (mut sum, mut count) = (0.0, 0);
        for Window { sample, next } in &texts.held_out {
            let got = evaluator.run(candidate.model(), rung, std::slice::from_ref(sample))?;
            let logits = got.first().and_then(|outputs| outputs.first()).map_or(&[][..], |logits| logits);
            sum += likelihoods(logits, vocabulary, next).iter().sum::<f64>();
            count += next.len();
        }
        Ok(vec![sum / count.max(1) as f64])
    })?;
    Ok(mean[0])
}
