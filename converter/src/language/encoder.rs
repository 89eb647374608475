//! Encoders go the way of all models that are no decoders: floats, samples, a ladder. A text is as good as samples where there is a tokenizer.

use super::store;
use crate::convert::{Imported, Options, Watch, convert_imported};
use crate::error::ConvertError;
use crate::import::language::{LanguageModel, ModelFile, import_floats};
use crate::import::tokenizer::Found;
use crate::model::{Array, Model};
use crate::report::Report;
use crate::samples::{Sample, Samples};
use edge_runtime::graph::{ConstantId, DType, Graph, Source};
use edge_runtime::inputs::NamedArray;
use edge_runtime::pack::{Header, MemorySource};
use edge_runtime::tokenizer::Tokenizer;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// Most tokens of a sample.
const TOKENS: usize = 128;
/// Fewest tokens of one that is taken: headings say little.
const FEWEST: usize = 8;
/// Most samples to calibrate with, and to measure with.
const CALIBRATION: usize = 48;
const HELD_OUT: usize = 16;

/// Converts an encoder to a ladder.
///
/// # Errors
/// As [`crate::convert`].
pub fn convert(
    (source, file): (&Path, &dyn ModelFile),
    output: &Path,
    options: &Options,
    watch: &mut dyn Watch,
    stop: &AtomicBool,
) -> Result<Report, ConvertError> {
    refuse(options)?;
    let LanguageModel { mut graph, mut constants, weights } = import_floats(file)?;
    let before = constants.len() as ConstantId;
    watch.stage("read matrices", weights.len());
    for (i, weight) in weights.iter().enumerate() {
        super::go_on(stop)?;
        constants.push(Array::of_f32(&[weight.n, weight.k], store::values(file, weight)?));
        watch.progress(i + 1);
    }
    for value in &mut graph.values {
        if let Source::Weight(id) = value.source {
            value.source = Source::Constant(before + id);
        }
    }
    let found = super::tokenizer_of(file, false)?;
    let samples = texts(options, &graph, &found, file)?;
    let model = Model { graph, constants, ..Model::default() };
    convert_imported(source, Imported { model, texts: Some((found, samples)) }, output, options, watch, stop)
}

/// Refuses options that mean nothing here.
fn refuse(options: &Options) -> Result<(), ConvertError> {
    let asked = [
        ("--state", !options.states.is_empty()),
        ("--fix", !options.settled.fixed.is_empty()),
        ("--turns", options.settled.turns.is_some()),
        ("--witness", options.witness.as_ref().is_some_and(|witness| witness.required)),
    ];
    match asked.into_iter().find(|(_, is)| *is) {
        Some((option, _)) => {
            let why = "is for ONNX files; leave the option out".into();
            Err(ConvertError::Option { option, why })
        }
        None => Ok(()),
    }
}

/// Samples of the texts that the options name; `None` when they name arrays.
fn texts(
    options: &Options,
    graph: &Graph,
    found: &Found,
    file: &dyn ModelFile,
) -> Result<Option<Samples>, ConvertError> {
    let is_text = |path: &&Path| path.is_file() && path.extension().is_none_or(|end| end != "npz");
    let (calib, other) = (options.calib.as_deref().filter(is_text), options.held_out.as_deref());
    let Some(calib) = calib else { return Ok(None) };
    if let Some(other) = other.filter(|path| !is_text(path)) {
        let why = "arrays, while --calib is a text; both of one kind are expected".into();
        return Err(ConvertError::Samples { path: other.into(), why });
    }
    let tokenizer = match found {
        Found::Tokenizer(tokens, tables, _) => {
            let header = Header { tokenizer: tokens.described(), ..Header::default() };
            Tokenizer::new(&header, Arc::new(MemorySource::from(vec![tables.clone()])))
                .map_err(|e| e.to_string())
        }
        Found::Nothing(why) => Err(why.clone()),
    };
    let tokenizer = tokenizer.map_err(|why| ConvertError::Option {
        option: "--calib",
        why: format!("a text needs a tokenizer: {why}; give samples of arrays"),
    })?;
    let longest = file.count_of("context_length")?.unwrap_or(TOKENS).min(TOKENS);
    let read = |path: &Path| samples(path, graph, &tokenizer, longest);
    let all = read(calib)?;
    let (calibration, held_out, origin) = match other {
        Some(other) => (all, read(other)?, other),
        None => {
            let cut = all.len() - (all.len() / 4).max(1);
            (all[..cut].to_vec(), all[cut..].to_vec(), calib)
        }
    };
    let (calibration, held_out) = (spread(calibration, CALIBRATION), spread(held_out, HELD_OUT));
    let name = origin.file_name().unwrap_or(origin.as_os_str()).to_string_lossy();
    Ok(Some(Samples { origin: format!("{} texts of {name}", held_out.len()), calibration, held_out }))
}

/// Of so many samples at most, over all of them.
fn spread(all: Vec<Sample>, most: usize) -> Vec<Sample> {
    let (count, kept) = (all.len(), all.len().min(most));
    let at: Vec<usize> = (0..kept).map(|i| i * count / kept).collect();
    all.into_iter().enumerate().filter(|(i, _)| at.contains(i)).map(|(_, sample)| sample).collect()
}

/// A sample of each paragraph of a file, or of each line where nothing parts paragraphs.
fn samples(
    path: &Path,
    graph: &Graph,
    tokenizer: &Tokenizer,
    longest: usize,
) -> Result<Vec<Sample>, ConvertError> {
    let wrong = |why: String| ConvertError::Samples { path: path.into(), why };
    let bytes = std::fs::read(path).map_err(|source| ConvertError::Io { path: path.into(), source })?;
    let text = String::from_utf8(bytes).map_err(|e| {
        wrong(format!(
            "byte {} is not UTF-8; of a language model the samples are a text",
            e.utf8_error().valid_up_to()
        ))
    })?;
    let text = text.replace("\r\n", "\n");
    let parted = if text.contains("\n\n") { "\n\n" } else { "\n" };
    let mut all = Vec::new();
    for text in text.split(parted) {
        let ids = tokenizer.framed(text, false, longest);
        if ids.len() >= FEWEST {
            all.push(Sample { inputs: inputs(graph, &ids), label: None });
        }
    }
    match all.len() {
        0 | 1 => Err(wrong(format!(
            "{} paragraphs of {FEWEST} tokens and more; at least 2 are expected: give a longer text",
            all.len()
        ))),
        _ => Ok(all),
    }
}

/// What a graph is given of a text: its tokens, of which all count, and types that are all the first.
fn inputs(graph: &Graph, ids: &[u32]) -> Vec<NamedArray> {
    let of = |name: &str, id: u32| match name {
        "input_ids" => i64::from(id),
        "attention_mask" => 1,
        _ => 0,
    };
    let array = |name: &str| NamedArray {
        name: name.into(),
        dtype: DType::I64,
        dims: vec![1, ids.len()],
        data: ids.iter().flat_map(|id| of(name, *id).to_le_bytes()).collect(),
    };
    graph.inputs.iter().map(|port| array(graph.name(port.value))).collect()
}
