//! From a file of a decoder language model to a pack: its numbers as they are, in one rung.
//!
//! Nothing is measured: the rung holds what the file holds. A ladder below it is a matter of text, not of samples.

mod store;

use crate::convert::{Options, Watch, describe};
use crate::draft::{Draft, plain_rung, rung_id};
use crate::error::ConvertError;
use crate::import::ImportError;
use crate::import::decoder::{Decoder, ModelFile, import};
use crate::import::gguf::Gguf;
use crate::import::pretrained::Pretrained;
use crate::import::tokenizer::Found;
use crate::ladder::{self, Kind};
use crate::report::{Measurements, Report, RungReport};
use crate::witness::Verdict;
use edge_runtime::graph::{DType, Source};
use edge_runtime::pack::{Acts, BlobId, Take};
use edge_runtime::plan::{InputSpec, Plan, PlanOptions};
use edge_runtime::tokenizer::Tokens;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

/// Tokens that a rung's arena is said for.
const TOKENS: usize = 128;

/// Whether a path is a decoder's: a GGUF file, or a checkpoint of the `transformers` library.
pub fn is_decoder(source: &Path) -> bool {
    Gguf::is_one(source) || Pretrained::is_one(source)
}

/// Converts a GGUF file or a checkpoint of the `transformers` library.
///
/// # Errors
/// When it cannot be read or is not supported, an option asks for what needs samples, or the pack cannot be written.
pub fn convert_decoder(
    source: &Path,
    output: &Path,
    options: &Options,
    watch: &mut dyn Watch,
    stop: &AtomicBool,
) -> Result<Report, ConvertError> {
    refuse(options)?;
    watch.stage("import", 1);
    let file: Box<dyn ModelFile> = match Gguf::is_one(source) {
        true => Box::new(Gguf::open(source).map_err(ImportError::from)?),
        false => Box::new(Pretrained::open(source)?),
    };
    let file = &*file;
    let Decoder { mut graph, constants, weights } = import(file)?;
    let nodes = graph.body.nodes.len();
    let mut draft = Draft::default();
    for value in &mut graph.values {
        if let Source::Constant(id) = value.source {
            value.source = Source::Constant(draft.constant(&constants[id as usize]));
        }
    }
    watch.stage("store matrices", weights.len());
    for (i, weight) in weights.iter().enumerate() {
        if stop.load(Ordering::Relaxed) {
            return Err(ConvertError::Interrupted);
        }
        let tensor = store::tensor(&mut draft, file, weight)?;
        draft.tensor(tensor);
        watch.progress(i + 1);
    }
    let graph = draft.graph(graph);
    let blob = tokenizer(&mut draft, file)?;
    describe(&mut draft, source, options);

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
    let opened = draft.open();
    rung.arena = arena(&opened, &rung)?;
    let kind = Kind::of(&rung);
    let link = ladder::link(&draft, &opened, (rung, kind))?;
    drop(opened);
    draft.header.rungs.push(link.rung.clone());
    let rungs = vec![RungReport::new(&link.rung)];

    watch.stage("write", 1);
    let (mut sections, needs) = ladder::layout(&draft, &[link], Vec::new());
    if let Some(blob) = blob {
        // Before what rungs add: whoever has a rung can read and write.
        sections.iter_mut().for_each(|section| section.retain(|id| *id != blob));
        sections.retain(|section| !section.is_empty());
        sections.insert(0, vec![blob]);
    }
    let written = draft.write(output, sections, needs, stop)?;
    watch.progress(1);
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
        rungs,
    })
}

/// Stores the file's tokenizer, or says in the card why there is none. Gives the blob of its tables.
fn tokenizer(draft: &mut Draft, file: &dyn ModelFile) -> Result<Option<BlobId>, ConvertError> {
    match file.tokenizer()? {
        Found::Tokenizer(tokens, tables, left_out) => {
            if let Some(what) = left_out {
                draft.header.card.metadata.insert("tokenizer_without".into(), what);
            }
            let blob = draft.blob(tables);
            draft.header.tokenizer = Tokens { blob, ..*tokens }.described();
            Ok(Some(blob))
        }
        Found::Nothing(why) => {
            draft.header.card.metadata.insert("no_tokenizer".into(), why);
            Ok(None)
        }
    }
}

/// Refuses options that ask for more than the weights as they are.
fn refuse(options: &Options) -> Result<(), ConvertError> {
    let asked = [
        ("--calib", options.calib.is_some()),
        ("--heldout", options.held_out.is_some()),
        ("--keep-float", options.keep_float),
        ("--state", !options.states.is_empty()),
        ("--shape", !options.shapes.is_empty()),
        ("--low-rank", options.low_rank.is_some()),
        ("--equalize", options.equalize),
        ("--without", !options.without.is_empty()),
        ("--budgets", !options.wishes.budgets.is_empty()),
        ("--step", options.wishes.step.is_some()),
        ("--min-quality", options.wishes.min_quality.is_some()),
        ("--max-latency", options.wishes.max_latency.is_some()),
    ];
    match asked.into_iter().find(|(_, is)| *is) {
        Some((option, _)) => {
            let why = "a language model becomes one rung of its own weights; leave the option out".into();
            Err(ConvertError::Option { option, why })
        }
        None => Ok(()),
    }
}

/// Bytes of activations of a run of [`TOKENS`] tokens, and of what is kept of them.
fn arena(
    model: &std::sync::Arc<edge_runtime::Model>,
    rung: &edge_runtime::pack::Rung,
) -> Result<u64, ConvertError> {
    let spec = |name: &str, dims: &[usize]| InputSpec {
        name: name.into(),
        dtype: DType::I64,
        dims: dims.to_vec(),
        value: None,
    };
    let inputs = [spec("input_ids", &[1, TOKENS]), spec("past", &[1]), spec("wanted", &[1])];
    Ok(Plan::new(model, rung, &inputs, &PlanOptions::default())?.memory() as u64)
}
