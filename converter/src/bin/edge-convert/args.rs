//! What the program takes.

use clap::{Parser, Subcommand, ValueEnum};
use edge_converter::compress::Family;
use edge_runtime::device::ByteSize;
use std::path::PathBuf;

pub const EXAMPLES: &str = "\
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
pub struct Args {
    #[command(subcommand)]
    pub command: Option<Command>,
    #[command(flatten)]
    pub convert: Option<Convert>,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Says layer by layer how far a rung of a pack departs from the float model that it was made of
    Compare(Compare),
    /// Writes one HTML page about a pack: quality against memory and time, the ladder, every layer
    Report(Report),
    /// Lists the tensors of a checkpoint: .pth, safetensors, .npz
    Inspect(Inspect),
}

impl Args {
    /// Whether JSON is asked for.
    pub fn json(&self) -> bool {
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
pub struct Compare {
    /// The model, as it was converted.
    pub model: PathBuf,
    /// The pack.
    pub pack: PathBuf,
    /// Samples to run both on [default: seeded noise].
    #[arg(long, value_name = "DIR|FILE")]
    pub input: Option<PathBuf>,
    /// The rung [default: the finest integer rung].
    #[arg(long, value_name = "ID")]
    pub rung: Option<String>,
    /// An output that is the next run's input, as it was converted.
    #[arg(long, value_name = "OUT=IN")]
    pub state: Vec<String>,
    /// Shape of an input whose dimensions are free, for noise: NAME=1,3,640,640.
    #[arg(long, value_name = "NAME=DIMS")]
    pub shape: Vec<String>,
    /// Shape that an input has for good, as it was converted.
    #[arg(long, value_name = "NAME=DIMS")]
    pub fix: Vec<String>,
    /// Most turns of a loop whose end only a run knows, as it was converted.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1 << 24))]
    pub turns: Option<u64>,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// A page about a pack.
#[derive(Debug, clap::Args)]
pub struct Report {
    /// The pack.
    pub pack: PathBuf,
    /// The page to write.
    #[arg(short, long, value_name = "FILE")]
    pub output: PathBuf,
    /// Samples to plan and to run with [default: seeded noise].
    #[arg(long, value_name = "DIR|FILE")]
    pub input: Option<PathBuf>,
    /// Shape of an input whose dimensions are free, for noise: NAME=1,3,640,640.
    #[arg(long, value_name = "NAME=DIMS")]
    pub shape: Vec<String>,
    /// Do not measure how long each rung takes.
    #[arg(long)]
    pub no_latency: bool,
    /// Show latencies of another device, by its profile (`edge-run profile-device` writes it there).
    #[arg(long, value_name = "FILE.json", conflicts_with = "no_latency")]
    pub device: Option<PathBuf>,
    /// Print the page's figures as JSON.
    #[arg(long)]
    pub json: bool,
}

/// The tensors of a checkpoint.
#[derive(Debug, clap::Args)]
pub struct Inspect {
    /// The file, an index of shards, or a folder that holds either.
    pub checkpoint: PathBuf,
    /// The part of a .pth that is wanted, such as model_ema [default: the model].
    #[arg(long, value_name = "KEY")]
    pub part: Option<String>,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// A conversion.
#[derive(Debug, clap::Args)]
pub struct Convert {
    /// The model, or the subnets of one family: ONNX; or the checkpoint of a once-for-all network: .pth, safetensors, .npz; or a language model: GGUF, or a folder
    /// of config.json, safetensors and tokenizer.json.
    #[arg(required = true)]
    pub models: Vec<PathBuf>,
    /// The pack to write.
    #[arg(short, long, value_name = "FILE")]
    pub output: PathBuf,
    /// Samples for calibration and for measuring quality.
    #[arg(long, value_name = "DIR|FILE")]
    pub calib: Option<PathBuf>,
    /// Other samples, to measure quality with [default: a quarter of --calib]. `labels` in a .npz give accuracy.
    #[arg(long, value_name = "DIR|FILE")]
    pub heldout: Option<PathBuf>,
    /// Model card: pre-processing and labels, TOML or JSON.
    #[arg(long, value_name = "FILE")]
    pub card: Option<PathBuf>,
    /// Store the weights exactly as well, as the last rung.
    #[arg(long)]
    pub keep_float: bool,
    /// Sizes of weights that rungs are made for, such as 2MB,4MB: the best at or below each.
    #[arg(long, value_name = "SIZES", value_delimiter = ',')]
    pub budgets: Vec<ByteSize>,
    /// A rung for each so many bytes of weights, such as 1MB [default: as close as padding allows, 3.5 % and more].
    #[arg(long, value_name = "SIZE")]
    pub step: Option<ByteSize>,
    /// Leave out rungs of less quality, in the pack's metric: 20 for an SQNR of 20 dB, 70 for an accuracy of 70 %.
    #[arg(long, value_name = "QUALITY")]
    pub min_quality: Option<f32>,
    /// Leave out rungs that take more milliseconds for a held-out sample, on this machine with all its threads, or on that of --device.
    #[arg(long, value_name = "MS")]
    pub max_latency: Option<f64>,
    /// Search subnets, and list and limit rungs, by the time that they take on the device of this profile (`edge-run profile-device` writes it there).
    #[arg(long, value_name = "FILE.json")]
    pub device: Option<PathBuf>,
    /// SQNR in dB that outputs keep when products whose matrices are of low rank become two narrower ones; less makes smaller packs
    /// and a limit to the best rung [default: 80; with --keep-float 120]
    #[arg(long, value_name = "DB")]
    pub low_rank: Option<f64>,
    /// Even out the channels of values before they become 8 bits: faster integer rungs, whose quality depends more on the samples
    #[arg(long)]
    pub equalize: bool,
    /// Forms of weights that are not used, as a measurement of what they are good for.
    #[arg(long, value_enum, value_name = "FORMS", value_delimiter = ',')]
    pub without: Vec<Form>,
    /// What is elastic in the model, the largest of its subnets: converter/SUPERNET.md.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["state", "keep_float", "low_rank", "equalize", "fix", "turns"])]
    pub supernet: Option<PathBuf>,
    /// An output that is the next run's input.
    #[arg(long, value_name = "OUT=IN")]
    pub state: Vec<String>,
    /// Shape of an input whose dimensions are free, for noise and golden data: NAME=1,3,640,640.
    #[arg(long, value_name = "NAME=DIMS")]
    pub shape: Vec<String>,
    /// Shape of an input whose dimensions are free, for good, as what makes tables of it needs: NAME=1,128.
    #[arg(long, value_name = "NAME=DIMS")]
    pub fix: Vec<String>,
    /// Most turns of a loop whose end only a run knows: what it collects turn by turn has room for so many.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1 << 24))]
    pub turns: Option<u64>,
    /// What an independent engine that runs the same model decides: nothing, a warning, or whether the pack is written
    /// [default: warn when built in]
    #[arg(long, value_enum, value_name = "HOW")]
    pub witness: Option<Ask>,
    /// Most seconds for a run of the independent engine.
    #[arg(long, value_name = "SECONDS", default_value_t = 60.0)]
    pub witness_timeout: f64,
    /// Folder that measurements are kept in [default: see below].
    #[arg(long, value_name = "DIR", conflicts_with = "no_cache")]
    pub cache: Option<PathBuf>,
    /// Measure everything, and keep nothing of it.
    #[arg(long)]
    pub no_cache: bool,
    /// Print the report as JSON.
    #[arg(long)]
    pub json: bool,
}

/// A form of weights beside planes of all elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Form {
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
pub enum Ask {
    /// Not at all.
    Off,
    /// What it says is reported.
    Warn,
    /// A pack is written only when it agrees.
    Require,
}
