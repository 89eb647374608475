//! From a file of a language model to a pack.
//!
//! ```text
//! store.rs    tensors of the file as weight expressions, or as floats
//! text.rs     windows of tokens to calibrate and to measure decoders with
//! ladder.rs   with a text: every matrix as nested planes, rungs by what the text shows
//! encoder.rs  encoders with a text or with samples: the way of all other models
//! ```
//! Without a text nothing is measured: one rung holds what the file holds, its integers as they are.

mod encoder;
mod ladder;
mod store;
mod text;

use crate::convert::{Options, Watch, describe};
use crate::draft::{Draft, plain_rung, rung_id};
use crate::error::ConvertError;
use crate::import::ImportError;
use crate::import::gguf::Gguf;
use crate::import::language::{LanguageModel, ModelFile, import};
use crate::import::pretrained::Pretrained;
use crate::import::tokenizer::Found;
use crate::ladder::{Kind, Link, layout, link, place_first};
use crate::model::Array;
use crate::report::{Measurements, Report, RungReport};
use crate::witness::Verdict;
use edge_runtime::graph::{Dim, Graph, Port, Source};
use edge_runtime::pack::{Acts, BlobId, Rung, Take, Written};
use edge_runtime::plan::{InputSpec, Plan, PlanOptions};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

/// Tokens of the one text that a rung's arena is said for.
const TOKENS: usize = 128;

/// Whether a path is a language model's: a GGUF file, or a checkpoint of the `transformers` library.
pub fn is_language_model(source: &Path) -> bool {
    Gguf::is_one(source) || Pretrained::is_one(source)
}

/// Converts a GGUF file or a checkpoint of the `transformers` library: as it is, or with `options.calib`, a text, to a ladder of rungs whose
/// perplexity is measured.
///
/// # Errors
/// When it cannot be read or is not supported, an option asks for what needs samples, or the pack cannot be written.
pub fn convert_language_model(
    source: &Path,
    output: &Path,
    options: &Options,
    watch: &mut dyn Watch,
    stop: &AtomicBool,
) -> Result<Report, ConvertError> {
    watch.stage("import", 1);
    let file: Box<dyn ModelFile> = match Gguf::is_one(source) {
        true => Box::new(Gguf::open(source).map_err(ImportError::from)?),
        false => Box::new(Pretrained::open(source)?),
    };
    let file = &*file;
    let imported = import(file)?;
    if imported.graph.decoding.is_none() && options.calib.is_some() {
        return encoder::convert((source, file), output, options, watch, stop);
    }
    refuse(options)?;
    let whole = Whole::of(file, imported, watch, stop)?;
    if options.calib.is_some() {
        return ladder::convert((source, file), output, options, whole, watch, stop);
    }
    let Whole { mut draft, mut rung, tokenizer, nodes } = whole;
    describe(&mut draft, source, options);
    let opened = draft.open();
    rung.arena = arena(&opened, &rung)?;
    let kind = Kind::of(&rung);
    let link = link(&draft, &opened, (rung, kind))?;
    drop(opened);
    let written = write(&mut draft, output, vec![link], tokenizer, (watch, stop))?;
    Ok(Report {
        source: source.display().to_string(),
        output: output.display().to_string(),
        bytes: written.file_len,
        padding: written.padding,
        nodes: [nodes, nodes],
        passes: Vec::new(),
        samples: "nothing: the weights are the file's own".into(),
        measurements: Measurements::default(),
        witness: Verdict::Absent,
        float_values: Vec::new(),
        low_rank: Vec::new(),
        tensors: Vec::new(),
        rungs: draft.header.rungs.iter().map(|rung| RungReport::new(rung, &[])).collect(),
    })
}

/// A model with its weights as the file has them.
struct Whole {
    draft: Draft,
    /// The one that takes them, not yet in the draft.
    rung: Rung,
    /// The blob of the tokenizer's tables, when it has one.
    tokenizer: Option<BlobId>,
    nodes: usize,
}

impl Whole {
    fn of(
        file: &dyn ModelFile,
        imported: LanguageModel,
        watch: &mut dyn Watch,
        stop: &AtomicBool,
    ) -> Result<Whole, ConvertError> {
        let LanguageModel { graph, constants, weights } = imported;
        let (nodes, decodes) = (graph.body.nodes.len(), graph.decoding.is_some());
        let mut draft = Draft::default();
        let graph = with_constants(&mut draft, graph, &constants);
        watch.stage("store matrices", weights.len());
        for (i, weight) in weights.iter().enumerate() {
            go_on(stop)?;
            let tensor = store::tensor(&mut draft, file, weight)?;
            draft.tensor(tensor);
            watch.progress(i + 1);
        }
        let graph = draft.graph(graph);
        let tokenizer = draft.tokenizer(tokenizer_of(file, decodes)?);
        let (mut elements, mut bytes) = (0, 0);
        for tensor in &draft.header.tensors {
            let blobs = tensor.roots.iter().flat_map(|root| &root.blobs);
            bytes += blobs.map(|blob| draft.blobs[*blob as usize].len()).sum::<usize>();
            // Minima belong to the elements beside them.
            elements += if tensor.name.ends_with(store::MINIMA) { 0 } else { tensor.n * tensor.k };
        }
        let bits = 8.0 * bytes as f64 / elements.max(1) as f64;
        let mut rung = plain_rung(&rung_id(&[], "", bits, ""), graph, Acts::F32);
        rung.takes = draft.header.tensors.iter().map(|_| Some(Take(0, 0))).collect();
        Ok(Whole { draft, rung, tokenizer, nodes })
    }
}

/// The file's tokenizer. A decoder's graph says how many tokens it was made for, an encoder's does not.
fn tokenizer_of(file: &dyn ModelFile, decodes: bool) -> Result<Found, ConvertError> {
    let mut found = file.tokenizer()?;
    match &mut found {
        // A text that is to go on is not ended.
        Found::Tokenizer(tokens, ..) if decodes => tokens.behind = None,
        Found::Tokenizer(tokens, ..) => tokens.longest = file.count_of("context_length")?,
        Found::Nothing(_) => {}
    }
    Ok(found)
}

/// The graph with its constants in the draft.
fn with_constants(draft: &mut Draft, mut graph: Graph, constants: &[Array]) -> Graph {
    for value in &mut graph.values {
        if let Source::Constant(id) = value.source {
            value.source = Source::Constant(draft.constant(&constants[id as usize]));
        }
    }
    graph
}

fn go_on(stop: &AtomicBool) -> Result<(), ConvertError> {
    if stop.load(Ordering::Relaxed) { Err(ConvertError::Interrupted) } else { Ok(()) }
}

/// Writes the pack of these rungs, the tokenizer's tables before them: whoever has a rung can read and write.
fn write(
    draft: &mut Draft,
    output: &Path,
    chain: Vec<Link>,
    tokenizer: Option<BlobId>,
    (watch, stop): (&mut dyn Watch, &AtomicBool),
) -> Result<Written, ConvertError> {
    watch.stage("write", 1);
    draft.header.rungs = chain.iter().map(|link| link.rung.clone()).collect();
    let (mut sections, needs) = layout(draft, &chain, Vec::new());
    tokenizer.into_iter().for_each(|blob| place_first(&mut sections, blob));
    let written = draft.write(output, sections, needs, stop)?;
    watch.progress(1);
    Ok(written)
}

/// Refuses options that ask for more than the weights as they are.
fn refuse(options: &Options) -> Result<(), ConvertError> {
    let asked = [
        ("--heldout", options.held_out.is_some() && options.calib.is_none()),
        ("--keep-float", options.keep_float),
        ("--state", !options.states.is_empty()),
        ("--shape", !options.shapes.is_empty()),
        ("--fix", !options.settled.fixed.is_empty()),
        ("--turns", options.settled.turns.is_some()),
        ("--low-rank", options.low_rank.is_some()),
        ("--equalize", options.equalize),
        ("--without", !options.without.is_empty()),
        ("--budgets", !options.wishes.budgets.is_empty() && options.calib.is_none()),
        ("--step", options.wishes.step.is_some() && options.calib.is_none()),
        ("--min-quality", options.wishes.min_quality.is_some()),
        ("--max-latency", options.wishes.max_latency.is_some()),
        ("--device", options.device.is_some()),
    ];
    match asked.into_iter().find(|(_, is)| *is) {
        Some((option, _)) => {
            let why = match options.calib {
                Some(_) => "a language model's ladder does not have it yet; leave the option out",
                None => {
                    "a language model becomes one rung of its own weights; give a text (--calib text.txt) for a ladder, or leave the option out"
                }
            };
            let why = why.into();
            Err(ConvertError::Option { option, why })
        }
        None => Ok(()),
    }
}

/// Bytes of activations of a run of [`TOKENS`] tokens, and of what is kept of them.
fn arena(model: &std::sync::Arc<edge_runtime::Model>, rung: &Rung) -> Result<u64, ConvertError> {
    let graph = model.graph(rung);
    // Places among a decoder's tokens, of which it needs one.
    let size = |dim: &Dim| match dim {
        Dim::Fixed(size) => *size,
        Dim::Named(name) if name == "tokens" => TOKENS,
        Dim::Named(_) => 1,
    };
    let spec = |port: &Port| InputSpec {
        name: graph.name(port.value).into(),
        dtype: port.dtype,
        dims: port.dims.iter().flatten().map(size).collect(),
        value: None,
    };
    let inputs: Vec<InputSpec> = graph.inputs.iter().map(spec).collect();
    Ok(Plan::new(model, rung, &inputs, &PlanOptions::default())?.memory() as u64)
}
