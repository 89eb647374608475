//! `edge-convert`: trained models in, one model.pack out.
#![forbid(unsafe_code)]

use clap::{Parser, Subcommand, ValueEnum};
use edge_converter::compress::Family;
use edge_converter::import::ImportError;
use edge_converter::import::checkpoint::{Checkpoint, Listing};
use edge_converter::ladder::Wishes;
use edge_converter::witness::{self, Verdict, Witness};
use edge_converter::{Cache, ConvertError, Options, PageOptions, Watch};
use edge_converter::{
    compare, convert, convert_checkpoint, convert_decoder, convert_supernet, default_folder, is_decoder,
    write_page,
};
use edge_runtime::device::ByteSize;
use indicatif::{ProgressBar, ProgressStyle};
use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

const EXAMPLES: &str = "\
Examples:
  edge-convert model.onnx -o model.pack
  edge-convert model.onnx -o model.pack --calib samples/ --keep-float
  edge-convert model.onnx -o model.pack --calib samples/ --budgets 2MB,4MB --min-quality 20
  edge-convert vad.onnx -o vad.pack --state stateN=state
  edge-convert tagger.onnx -o tagger.pack --fix text=1,128
  edge-convert small.onnx medium.onnx large.onnx -o family.pack
  edge-convert largest.onnx --supernet supernet.toml -o family.pack --calib samples/
  edge-convert ofa_mbv3.pth -o family.pack --calib samples/
  edge-convert llama.gguf -o llama.pack
  edge-convert llama.gguf -o llama.pack --calib text.txt
  edge-convert SmolLM2-135M-Instruct/ -o smollm2.pack
  edge-convert compare model.onnx model.pack --input sample.npz
  edge-convert report model.pack -o report.html --input samples/
  edge-convert inspect checkpoint.pth

Samples are .npz files with one array an input, in a directory, or one .npz that holds them along the first axis.

Measurements are kept in $EDGE_CACHE_DIR (none when that is empty), else $XDG_CACHE_HOME/edge-convert, else ~/.cache/edge-convert:
a conversion that was interrupted or killed goes on where it was, and the same one again takes a fraction of its time and
gives the same pack. At most 512 MB are kept; what was not used for longest goes first.

Exit codes: 0 ok, 1 internal, 2 usage, 3 unsupported model, 4 bad or missing file, 6 device or I/O,
7 not confirmed by the witness, 130 interrupted.";

/// Turns a trained model, ONNX, the checkpoint of a once-for-all network or a language model, into one model.pack with a ladder of rungs.
#[derive(Debug, Parser)]
#[command(
    name = "edge-convert",
    version,
    after_help = EXAMPLES,
    args_conflicts_with_subcommands = true,
    subcommand_negates_reqs = true
)]
struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    convert: Option<Convert>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Says layer by layer how far a rung of a pack departs from the float model that it was made of
    Compare(Compare),
    /// Writes one HTML page about a pack: quality against memory and time, the ladder, every layer
    Report(Report),
    /// Lists the tensors of a checkpoint: .pth, safetensors, .npz
    Inspect(Inspect),
}

impl Args {
    /// Whether JSON is asked for.
    fn json(&self) -> bool {
        match &self.command {
            Some(Command::Compare(compare)) => compare.json,
            Some(Command::Report(report)) => report.json,
            Some(Command::Inspect(inspect)) => inspect.json,
            None => self.convert.as_ref().is_some_and(|convert| convert.json),
        }
    }
}

/// A pack beside its model.
#[derive(Debug, clap::Args)]
struct Compare {
    /// The model, as it was converted.
    model: PathBuf,
    /// The pack.
    pack: PathBuf,
    /// Samples to run both on [default: seeded noise].
    #[arg(long, value_name = "DIR|FILE")]
    input: Option<PathBuf>,
    /// The rung [default: the finest integer rung].
    #[arg(long, value_name = "ID")]
    rung: Option<String>,
    /// An output that is the next run's input, as it was converted.
    #[arg(long, value_name = "OUT=IN")]
    state: Vec<String>,
    /// Shape of an input whose dimensions are free, for noise: NAME=1,3,640,640.
    #[arg(long, value_name = "NAME=DIMS")]
    shape: Vec<String>,
    /// Shape that an input has for good, as it was converted.
    #[arg(long, value_name = "NAME=DIMS")]
    fix: Vec<String>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// A page about a pack.
#[derive(Debug, clap::Args)]
struct Report {
    /// The pack.
    pack: PathBuf,
    /// The page to write.
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Samples to plan and to run with [default: seeded noise].
    #[arg(long, value_name = "DIR|FILE")]
    input: Option<PathBuf>,
    /// Shape of an input whose dimensions are free, for noise: NAME=1,3,640,640.
    #[arg(long, value_name = "NAME=DIMS")]
    shape: Vec<String>,
    /// Do not measure how long each rung takes.
    #[arg(long)]
    no_latency: bool,
    /// Print the page's figures as JSON.
    #[arg(long)]
    json: bool,
}

/// The tensors of a checkpoint.
#[derive(Debug, clap::Args)]
struct Inspect {
    /// The file, an index of shards, or a folder that holds either.
    checkpoint: PathBuf,
    /// The part of a .pth that is wanted, such as model_ema [default: the model].
    #[arg(long, value_name = "KEY")]
    part: Option<String>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// A conversion.
#[derive(Debug, clap::Args)]
struct Convert {
    /// The model, or the subnets of one family: ONNX; or the checkpoint of a once-for-all network: .pth, safetensors, .npz; or a language model: GGUF, or a folder
    /// of config.json, safetensors and tokenizer.json.
    #[arg(required = true)]
    models: Vec<PathBuf>,
    /// The pack to write.
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Samples for calibration and for measuring quality.
    #[arg(long, value_name = "DIR|FILE")]
    calib: Option<PathBuf>,
    /// Other samples, to measure quality with [default: a quarter of --calib]. `labels` in a .npz give accuracy.
    #[arg(long, value_name = "DIR|FILE")]
    heldout: Option<PathBuf>,
    /// Model card: pre-processing and labels, TOML or JSON.
    #[arg(long, value_name = "FILE")]
    card: Option<PathBuf>,
    /// Store the weights exactly as well, as the last rung.
    #[arg(long)]
    keep_float: bool,
    /// Sizes of weights that rungs are made for, such as 2MB,4MB: the best at or below each.
    #[arg(long, value_name = "SIZES", value_delimiter = ',')]
    budgets: Vec<ByteSize>,
    /// A rung for each so many bytes of weights, such as 1MB [default: as close as padding allows, 3.5 % and more].
    #[arg(long, value_name = "SIZE")]
    step: Option<ByteSize>,
    /// Leave out rungs of less quality, in the pack's metric: 20 for an SQNR of 20 dB, 70 for an accuracy of 70 %.
    #[arg(long, value_name = "QUALITY")]
    min_quality: Option<f32>,
    /// Leave out rungs that take more milliseconds for a held-out sample, on this machine with all its threads.
    #[arg(long, value_name = "MS")]
    max_latency: Option<f64>,
    /// SQNR in dB that outputs keep when products whose matrices are of low rank become two narrower ones; less makes smaller packs
    /// and a limit to the best rung [default: 80; with --keep-float 120]
    #[arg(long, value_name = "DB")]
    low_rank: Option<f64>,
    /// Even out the channels of values before they become 8 bits: faster integer rungs, whose quality depends more on the samples
    #[arg(long)]
    equalize: bool,
    /// Forms of weights that are not used, as a measurement of what they are good for.
    #[arg(long, value_enum, value_name = "FORMS", value_delimiter = ',')]
    without: Vec<Form>,
    /// What is elastic in the model, the largest of its subnets: converter/SUPERNET.md.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["state", "keep_float", "low_rank", "equalize", "fix"])]
    supernet: Option<PathBuf>,
    /// An output that is the next run's input.
    #[arg(long, value_name = "OUT=IN")]
    state: Vec<String>,
    /// Shape of an input whose dimensions are free, for noise and golden data: NAME=1,3,640,640.
    #[arg(long, value_name = "NAME=DIMS")]
    shape: Vec<String>,
    /// Shape of an input whose dimensions are free, for good, as loops of so many turns need it: NAME=1,128.
    #[arg(long, value_name = "NAME=DIMS")]
    fix: Vec<String>,
    /// What an independent engine that runs the same model decides: nothing, a warning, or whether the pack is written
    /// [default: warn when built in]
    #[arg(long, value_enum, value_name = "HOW")]
    witness: Option<Ask>,
    /// Most seconds for a run of the independent engine.
    #[arg(long, value_name = "SECONDS", default_value_t = 60.0)]
    witness_timeout: f64,
    /// Folder that measurements are kept in [default: see below].
    #[arg(long, value_name = "DIR", conflicts_with = "no_cache")]
    cache: Option<PathBuf>,
    /// Measure everything, and keep nothing of it.
    #[arg(long)]
    no_cache: bool,
    /// Print the report as JSON.
    #[arg(long)]
    json: bool,
}

/// A form of weights beside planes of all elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Form {
    /// Two narrower products in place of one.
    LowRank,
    /// Two thin matrices beside a coarse one.
    Thin,
    /// Two thin matrices in place of the coarsest.
    Alone,
    /// Gains and shifts of rows, and thin matrices.
    Corrections,
    /// Positions of what is not 0.
    Sparse,
}

impl From<Form> for Family {
    fn from(form: Form) -> Family {
        match form {
            Form::LowRank => Family::LowRank,
            Form::Thin => Family::Thin,
            Form::Alone => Family::Alone,
            Form::Corrections => Family::Corrections,
            Form::Sparse => Family::Sparse,
        }
    }
}

/// How the witness is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Ask {
    /// Not at all.
    Off,
    /// What it says is reported.
    Warn,
    /// A pack is written only when it agrees.
    Require,
}

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
    if is_decoder(&args.model) {
        let why = "a pack of a language model holds its weights as they are; compare it with llama.cpp, as tests/reference/llm.py does".into();
        return Err(ConvertError::Option { option: "MODEL", why });
    }
    let options = Options {
        calib: args.input.clone(),
        shapes: shapes(&args.shape, "--shape")?,
        fixed: shapes(&args.fix, "--fix")?,
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
        fixed: shapes(&args.fix, "--fix")?,
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
        equalize: args.equalize,
        without: args.without.iter().map(|form| Family::from(*form)).collect(),
    };
    let mut bars = Bars { cache: options.cache.clone(), ..Bars::default() };
    let report = match (&args.supernet, &args.models[..]) {
        (None, [model]) if is_decoder(model) => {
            convert_decoder(model, &args.output, &options, &mut bars, stop)
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

/// A progress bar a stage, on a terminal only.
#[derive(Default)]
struct Bars {
    bar: Option<ProgressBar>,
    cache: Option<Cache>,
    /// Measurements made and taken as the bar stands.
    counts: (usize, usize),
    /// Whether it was said why measurements are not kept.
    warned: bool,
}

impl Bars {
    fn clear(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
        if let Some(problem) = self.cache.as_ref().filter(|_| !self.warned).and_then(Cache::problem) {
            eprintln!("edge-convert: warning: {problem}");
            self.warned = true;
        }
    }

    fn counts(&self) -> (usize, usize) {
        self.cache.as_ref().map_or((0, 0), |cache| (cache.made(), cache.taken()))
    }
}

impl Watch for Bars {
    fn stage(&mut self, name: &str, total: usize) {
        self.clear();
        let bar = ProgressBar::new(total as u64).with_message(name.to_string());
        if let Ok(style) = ProgressStyle::with_template("{msg:<18} {bar:40} {pos}/{len} {eta} left") {
            bar.set_style(style);
        }
        self.bar = Some(bar);
        self.counts = self.counts();
    }

    fn progress(&mut self, done: usize) {
        let Some(bar) = &self.bar else { return };
        bar.set_position(done as u64);
        let (made, taken) = self.counts();
        if taken > self.counts.1 && made == self.counts.0 {
            // What an earlier conversion measured takes no time, and says nothing of what is left.
            bar.tick();
            bar.reset_eta();
        }
        self.counts = (made, taken);
    }

    fn progress_of(&mut self, done: usize, total: usize) {
        if let Some(bar) = &self.bar {
            bar.set_length(total as u64);
        }
        self.progress(done);
    }
}
