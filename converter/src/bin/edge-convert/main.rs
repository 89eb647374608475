//! `edge-convert`: trained models in, one model.pack out.
#![forbid(unsafe_code)]

mod args;
mod bars;

use args::{Args, Ask, Command, Compare, Convert, Inspect, Report};
use bars::Bars;
use clap::Parser;
use edge_converter::compress::Family;
use edge_converter::import::checkpoint::{Checkpoint, Listing};
use edge_converter::import::{ImportError, Settled};
use edge_converter::ladder::Wishes;
use edge_converter::witness::{self, Verdict, Witness};
use edge_converter::{Cache, ConvertError, Options, PageOptions};
use edge_converter::{
    compare, convert, convert_checkpoint, convert_language_model, convert_supernet, default_folder,
    is_language_model, write_page,
};
use edge_runtime::device::ByteSize;
use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

fn main() -> ExitCode {
    std::panic::set_hook(Box::new(|panic| {
        // Stderr may be closed; the exit code says it all the same.
        let _ = writeln!(std::io::stderr(), "edge-convert: internal error: {panic}");
        std::process::exit(1);
    }));
    let arguments: Vec<OsString> = std::env::args_os().collect();
    if let Some([first, rest @ ..]) = arguments.get(1..)
        && first == witness::CHILD
    {
        return ExitCode::from(witness::serve(rest));
    }
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(e) => {
            let code = if e.use_stderr() { 2 } else { 0 };
            // A closed pipe while printing help is nobody's error.
            let _ = e.print();
            return ExitCode::from(code);
        }
    };
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            if let (true, ConvertError::Import(ImportError::Unsupported(list))) = (args.json(), &e) {
                // The list goes where the report would have gone.
                let _ = writeln!(std::io::stdout(), "{}", serde_json::json!({ "unsupported": list }));
            }
            eprintln!("edge-convert: {}", shortened(&e.to_string()));
            ExitCode::from(e.exit_code())
        }
    }
}

fn run(args: &Args) -> Result<(), ConvertError> {
    let stop = Arc::new(AtomicBool::new(false));
    let flag = stop.clone();
    if let Err(e) = ctrlc::set_handler(move || flag.store(true, Ordering::Relaxed)) {
        eprintln!("edge-convert: an interrupt will not clean up: {e}");
    }
    match (&args.command, &args.convert) {
        (Some(Command::Compare(args)), _) => run_compare(args, &stop),
        (Some(Command::Report(args)), _) => run_report(args, &stop),
        (Some(Command::Inspect(args)), _) => run_inspect(args),
        (None, Some(args)) => run_convert(args, &stop),
        // Refused by the parser.
        (None, None) => Ok(()),
    }
}

fn run_compare(args: &Compare, stop: &AtomicBool) -> Result<(), ConvertError> {
    if is_language_model(&args.model) {
        let why = "a pack of a language model holds its weights as they are; compare it with llama.cpp, as tests/reference/llm.py does".into();
        return Err(ConvertError::Option { option: "MODEL", why });
    }
    let options = Options {
        calib: args.input.clone(),
        shapes: shapes(&args.shape, "--shape")?,
        settled: Settled { fixed: shapes(&args.fix, "--fix")?, turns: args.turns },
        states: states(&args.state)?,
        ..Options::default()
    };
    let mut bars = Bars::default();
    let found = compare(&args.model, &args.pack, args.rung.as_deref(), &options, &mut bars, stop)?;
    bars.clear();
    if args.json { print(format!("{:#}\n", serde_json::json!(found))) } else { print(found.to_string()) }
}

fn run_report(args: &Report, stop: &AtomicBool) -> Result<(), ConvertError> {
    let options = PageOptions {
        input: args.input.clone(),
        shapes: shapes(&args.shape, "--shape")?,
        no_latency: args.no_latency,
        device: args.device.clone(),
    };
    let mut bars = Bars::default();
    let page = write_page(&args.pack, &args.output, &options, &mut bars, stop)?;
    bars.clear();
    for why in page.not_planned.iter().chain(page.not_timed.iter().filter(|_| !args.no_latency)) {
        eprintln!("edge-convert: warning: not all is on the page: {why}");
    }
    if args.json {
        return print(format!("{:#}\n", serde_json::json!(page)));
    }
    print(format!("{}: {} rungs of {}\n", args.output.display(), page.rungs.len(), page.name))
}

fn run_inspect(args: &Inspect) -> Result<(), ConvertError> {
    let opened = match &args.part {
        Some(part) => Checkpoint::open_part(&args.checkpoint, part),
        None => Checkpoint::open(&args.checkpoint),
    };
    let listing = Listing::of(&opened.map_err(ImportError::from)?);
    if args.json { print(format!("{:#}\n", serde_json::json!(listing))) } else { print(listing.to_string()) }
}

/// Longest line of an error, in characters: names of a file that means harm have no end.
const LINE: usize = 2000;

/// An error with long lines cut.
fn shortened(text: &str) -> String {
    let line = |line: &str| match line.char_indices().nth(LINE) {
        Some((end, _)) => format!("{}… ({} bytes in all)", &line[..end], line.len()),
        None => line.to_string(),
    };
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}

fn states(pairs: &[String]) -> Result<Vec<(String, String)>, ConvertError> {
    pairs.iter().map(|s| pair(s, "--state", "OUT=IN")).collect()
}

fn run_convert(args: &Convert, stop: &AtomicBool) -> Result<(), ConvertError> {
    let options = Options {
        calib: args.calib.clone(),
        held_out: args.heldout.clone(),
        shapes: shapes(&args.shape, "--shape")?,
        settled: Settled { fixed: shapes(&args.fix, "--fix")?, turns: args.turns },
        keep_float: args.keep_float,
        states: states(&args.state)?,
        card: match &args.card {
            Some(path) => edge_converter::read_card(path)?,
            None => Default::default(),
        },
        witness: witness(args)?,
        wishes: wishes(args)?,
        cache: cache(args),
        low_rank: low_rank(args.low_rank)?,
        device: args.device.clone(),
        equalize: args.equalize,
        without: args.without.iter().map(|form| Family::from(*form)).collect(),
    };
    let mut bars = Bars::of(options.cache.clone());
    let report = match (&args.supernet, &args.models[..]) {
        (None, [model]) if is_language_model(model) => {
            convert_language_model(model, &args.output, &options, &mut bars, stop)
        }
        (None, [model]) if Checkpoint::is_one(model) => {
            convert_checkpoint(model, &args.output, &options, &mut bars, stop)
        }
        (None, models) if models.iter().any(|model| Checkpoint::is_one(model)) => {
            let why = "a checkpoint or a GGUF file holds all of its model, and is converted alone".into();
            Err(ConvertError::Option { option: "MODELS", why })
        }
        (Some(_), models) if models.iter().any(|model| Checkpoint::is_one(model)) => {
            let why = "describes an ONNX file; a checkpoint says itself what is elastic, a GGUF file has nothing that is: leave it out".into();
            Err(ConvertError::Option { option: "--supernet", why })
        }
        (None, models) => convert(models, &args.output, &options, &mut bars, stop),
        (Some(description), [model]) => {
            convert_supernet(model, description, &args.output, &options, &mut bars, stop)
        }
        (Some(_), _) => {
            let why = "describes one model, the largest network".into();
            Err(ConvertError::Option { option: "--supernet", why })
        }
    };
    bars.clear();
    let report = report?;
    if let Verdict::Disagrees { .. } = report.witness {
        eprintln!("edge-convert: warning: {}", report.witness);
    }
    if args.json { print(format!("{:#}\n", serde_json::json!(report))) } else { print(report.to_string()) }
}

/// Where measurements are kept.
fn cache(args: &Convert) -> Option<Cache> {
    let folder = match &args.cache {
        _ if args.no_cache => None,
        Some(folder) => Some(folder.clone()),
        None => default_folder().unwrap_or_else(|why| {
            eprintln!("edge-convert: warning: {why}");
            None
        }),
    };
    folder.map(Cache::new)
}

/// The decibels that split products keep.
fn low_rank(db: Option<f64>) -> Result<Option<f64>, ConvertError> {
    match db {
        Some(db) if !(1.0..=200.0).contains(&db) => {
            Err(ConvertError::Option { option: "--low-rank", why: format!("{db} dB, expected 1 to 200") })
        }
        db => Ok(db),
    }
}

/// Which rungs are wanted.
fn wishes(args: &Convert) -> Result<Wishes, ConvertError> {
    let option = |option, why: String| ConvertError::Option { option, why };
    let bytes = |name, size: &ByteSize| match size.0 {
        0 => Err(option(name, "0 bytes, expected a size such as 2MB".to_string())),
        bytes => Ok(bytes),
    };
    let latency = |ms: f64| {
        let why = |e| option("--max-latency", format!("{ms}: {e}, expected milliseconds"));
        Duration::try_from_secs_f64(ms / 1000.0).map_err(why)
    };
    let quality = |least: f32| match least.is_finite() {
        true => Ok(least),
        false => Err(option("--min-quality", format!("{least}, expected a number"))),
    };
    Ok(Wishes {
        budgets: args.budgets.iter().map(|size| bytes("--budgets", size)).collect::<Result<_, _>>()?,
        step: args.step.as_ref().map(|size| bytes("--step", size)).transpose()?,
        min_quality: args.min_quality.map(quality).transpose()?,
        max_latency: args.max_latency.map(latency).transpose()?,
    })
}

/// Prints to a stdout that may be a closed pipe.
fn print(text: String) -> Result<(), ConvertError> {
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(ConvertError::Io { path: "stdout".into(), source: e })
        }
        _ => Ok(()),
    }
}

/// The witness, when it is asked for: this program again.
fn witness(args: &Convert) -> Result<Option<Witness>, ConvertError> {
    let option = |why: String| ConvertError::Option { option: "--witness", why };
    let default = if witness::BUILT_IN { Ask::Warn } else { Ask::Off };
    let ask = args.witness.unwrap_or(default);
    if ask == Ask::Off {
        return Ok(None);
    }
    if !witness::BUILT_IN {
        let why = "this edge-convert is built without it; build with `--features witness`".to_string();
        return Err(option(why));
    }
    let timeout = Duration::try_from_secs_f64(args.witness_timeout)
        .map_err(|e| option(format!("--witness-timeout {}: {e}", args.witness_timeout)))?;
    let program = std::env::current_exe().map_err(|e| option(format!("this program's own path: {e}")))?;
    Ok(Some(Witness { program, timeout, required: ask == Ask::Require }))
}

fn pair(text: &str, option: &'static str, form: &str) -> Result<(String, String), ConvertError> {
    let pair = text.split_once('=').map(|(a, b)| (a.to_string(), b.to_string()));
    pair.ok_or_else(|| ConvertError::Option { option, why: format!("`{text}`, expected {form}") })
}

/// Shapes of inputs by name.
fn shapes(texts: &[String], option: &'static str) -> Result<Vec<(String, Vec<usize>)>, ConvertError> {
    let shape = |text: &String| {
        let (name, dims) = pair(text, option, "NAME=1,3,640,640")?;
        let dims: Result<Vec<usize>, _> = dims.split(',').map(|d| d.trim().parse()).collect();
        let wrong = |_| {
            let why = format!("`{text}`, expected numbers as in NAME=1,3,640,640");
            ConvertError::Option { option, why }
        };
        Ok((name, dims.map_err(wrong)?))
    };
    texts.iter().map(shape).collect()
}
