//! The command line.

#[cfg(feature = "text")]
use crate::text::args::{ChatArgs, EmbedArgs, PerplexityArgs, PromptArgs, TokenizeArgs};
use clap::{Args, Parser, Subcommand, ValueEnum};
use edge_runtime::device::ByteSize;
use std::path::PathBuf;
use std::time::Duration;

const EXAMPLES: &str = "\
Examples:
  edge-run model.pack --mem 64MB --input photo.png --top 5
  edge-run model.pack --mem 8MiB --input x=x.npy --output out.npz --explain
  edge-run model.pack --mem 64MB --latency 5ms --input photo.png
  edge-run family.pack --subnet resolution=20,stage2.depth=2 --input photo.png
  edge-run plan model.pack --mem 64MB --json
  edge-run inspect model.pack
  edge-run verify model.pack
  edge-run bench model.pack --mem 64MB --repeat 50
  edge-run profile-device family.pack -o board.json
  edge-run llama.pack --prompt 'Once upon a time' -n 128
  edge-run chat llama.pack --mem 300MB
  edge-run embed minilm.pack --cosine 'How old are you?' 'What is your age?'

Exit codes: 0 ok, 1 internal, 2 usage, 3 unsupported model, 4 bad or missing file, 5 does not fit the memory or the
latency,
6 device or I/O, 7 golden check failed, 130 interrupted.

Environment: EDGE_THREADS, EDGE_ISA (scalar, avx2, ...), EDGE_LOG (error, warn, info, debug).";

/// Runs a model.pack on the best rung that fits the memory.
#[derive(Debug, Parser)]
#[command(name = "edge-run", version, after_help = EXAMPLES, args_conflicts_with_subcommands = true)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Option<Command>,
    #[command(flatten)]
    pub run: RunArgs,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Say which rung would run and what it takes; reads no weights.
    Plan(PlanArgs),
    /// Time runs on seeded inputs.
    Bench(BenchArgs),
    /// Time the steps of a pack's networks here, for `edge-convert --device`, which chooses subnets and rungs by them.
    ProfileDevice(ProfileArgs),
    /// Check every hash of the file, then the golden outputs.
    Verify(VerifyArgs),
    /// List the model card, the ladder and the values that stay floats.
    Inspect(InspectArgs),
    /// Talk with a language model: lines from the terminal or stdin, answers as they are written.
    #[cfg(feature = "text")]
    Chat(ChatArgs),
    /// Measure how well a language model foretells a text.
    #[cfg(feature = "text")]
    Perplexity(PerplexityArgs),
    /// Make a vector of each text: texts that mean like things have vectors of like directions.
    #[cfg(feature = "text")]
    Embed(EmbedArgs),
    /// Show the token ids of a text.
    #[cfg(feature = "text")]
    Tokenize(TokenizeArgs),
}

/// What every command that makes a plan takes.
#[derive(Debug, Args)]
pub struct Target {
    /// Memory for the whole process, such as 512MB (10^6) or 512MiB (2^20) [default: what the system allows].
    #[arg(long, value_name = "SIZE")]
    pub mem: Option<ByteSize>,
    /// Run this rung instead of the best that fits (`edge-run inspect` lists them).
    #[arg(long, value_name = "ID")]
    pub rung: Option<String>,
    /// Run this subnet of a supernet: NAME=OPTION, several with commas between them; choices that are not named have their largest option
    /// (`edge-run inspect` lists them). Its precision is that of --rung, or the finest of the nearest subnet's rungs that fits. `any`: where no rung fits, or a
    /// subnet without rungs is expected to be clearly better, the one that most is expected of.
    #[arg(long, value_name = "CHOICES")]
    pub subnet: Option<String>,
    /// Worker threads [default: the CPUs that the system grants].
    #[arg(short, long, value_name = "N")]
    pub threads: Option<usize>,
    /// Round the operands of products of floats to bf16, on CPUs that multiply it faster: less time, and another quality than the
    /// one the pack states.
    #[arg(long)]
    pub bf16: bool,
    /// Keep what kernels make of weights between runs, where the budget has room: less time, and a copy of some weights in memory.
    #[arg(long)]
    pub bake: bool,
    /// Let worker threads move between CPUs, instead of keeping each on one of its own.
    #[arg(long)]
    pub no_pin: bool,
    /// Shape of an input whose dimensions are free: NAME=1,3,640,640 or 1,3,640,640 for the only input.
    #[arg(long, value_name = "[NAME=]DIMS")]
    pub shape: Vec<String>,
    /// Refuse a pack whose end is missing, instead of running the best rung that is whole.
    #[arg(long)]
    pub strict: bool,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
    /// Say more on stderr; twice for debugging.
    #[arg(short, long, action = clap::ArgAction::Count)]
    pub verbose: u8,
}

#[derive(Debug, Args)]
pub struct RunArgs {
    /// The pack.
    pub pack: Option<PathBuf>,
    #[command(flatten)]
    pub target: Target,
    /// An input: x.npy, inputs.npz, picture.png or .jpg, sound.wav; NAME= where the model has several.
    #[arg(short, long, value_name = "[NAME=]FILE")]
    pub input: Vec<String>,
    /// Write the outputs to a NumPy archive.
    #[arg(short, long, value_name = "FILE.npz")]
    pub output: Option<PathBuf>,
    /// Run the best rung that takes at most so long here, such as 5ms or 800us: some are tried, on the inputs given.
    #[arg(long, value_name = "TIME", conflicts_with = "rung", value_parser = duration)]
    pub latency: Option<Duration>,
    /// Print the N greatest elements of the first output, with their labels.
    #[arg(long, value_name = "N")]
    pub top: Option<usize>,
    /// Say why this rung, what it takes, and what the next one would need.
    #[arg(long)]
    pub explain: bool,
    /// Read the weights into memory instead of mapping the file, and check their hashes.
    #[arg(long)]
    pub no_mmap: bool,
    /// Check the hashes of the rung's weights before they are used. Where one is wrong, the best rung that does not need it runs.
    #[arg(long)]
    pub verify: bool,
    #[cfg(feature = "text")]
    #[command(flatten)]
    pub text: PromptArgs,
}

#[derive(Debug, Args)]
pub struct PlanArgs {
    /// The pack.
    pub pack: PathBuf,
    /// Also say what every rung of the ladder would take.
    #[arg(long)]
    pub all: bool,
    #[command(flatten)]
    pub target: Target,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum BenchFormat {
    /// A table.
    Md,
    /// Comma-separated values.
    Csv,
    /// JSON with every sample.
    Json,
}

#[derive(Debug, Args)]
pub struct BenchArgs {
    /// The pack; may be left out with --limits.
    #[arg(required_unless_present = "limits")]
    pub pack: Option<PathBuf>,
    #[command(flatten)]
    pub target: Target,
    /// Time the best rung that takes at most so long here, such as 5ms or 800us.
    #[arg(long, value_name = "TIME", conflicts_with = "rung", value_parser = duration)]
    pub latency: Option<Duration>,
    /// Timed runs [default: 20; of a language model 5].
    #[arg(long, value_name = "N")]
    pub repeat: Option<usize>,
    /// Runs before timing.
    #[arg(long, default_value_t = 3, value_name = "N")]
    pub warmup: usize,
    /// Time every step and list the slowest, against the limits of this device; with a file, also write all of them there as a
    /// trace for chrome://tracing or Perfetto.
    #[arg(long, value_name = "TRACE.json", num_args = 0..=1)]
    pub profile: Option<Option<PathBuf>>,
    /// Measure what this device can do at most: multiply-adds, and reading each level of memory.
    #[arg(long)]
    pub limits: bool,
    /// How the result is written.
    #[arg(long, value_enum, default_value = "md")]
    pub format: BenchFormat,
    /// Of a language model: tokens that are read at once; 0: not timed [default: 512].
    #[cfg(feature = "text")]
    #[arg(short = 'p', long, value_name = "N")]
    pub prompt_tokens: Option<usize>,
    /// Of a language model: tokens that are written one by one; 0: not timed [default: 128].
    #[cfg(feature = "text")]
    #[arg(short = 'n', long, value_name = "N")]
    pub gen_tokens: Option<usize>,
    /// Of a language model: tokens of context [default: as many as the longest test has].
    #[cfg(feature = "text")]
    #[arg(long, value_name = "N")]
    pub ctx: Option<usize>,
}

#[derive(Debug, Args)]
pub struct ProfileArgs {
    /// The pack; of a supernet subnets are timed, of any other the largest rung with floats and the largest with integers.
    pub pack: PathBuf,
    #[command(flatten)]
    pub target: Target,
    /// Write the profile here.
    #[arg(short, long, value_name = "FILE.json")]
    pub output: Option<PathBuf>,
    /// Subnets that are looked at, at most; it ends earlier when they bring no new step.
    #[arg(long, default_value_t = 400, value_name = "N")]
    pub subnets: usize,
    /// Timed runs of each network, whose median counts.
    #[arg(long, default_value_t = 15, value_name = "N")]
    pub repeat: usize,
}

#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// The pack.
    pub pack: PathBuf,
    #[command(flatten)]
    pub target: Target,
}

#[derive(Debug, Args)]
pub struct InspectArgs {
    /// The pack.
    pub pack: PathBuf,
    /// List the steps of the plan of a rung.
    #[arg(long, value_name = "ID")]
    pub rung: Option<String>,
    /// Say what a subnet of a supernet would take, at the precision of --rung or at each of the nearest subnet's:
    /// NAME=OPTION, several with commas between them.
    #[arg(long, value_name = "CHOICES")]
    pub subnet: Option<String>,
    /// Shape of an input whose dimensions are free: NAME=1,3,640,640.
    #[arg(long, value_name = "[NAME=]DIMS")]
    pub shape: Vec<String>,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// A time with its unit: us, ms or s.
fn duration(text: &str) -> Result<Duration, String> {
    let bad = || format!("expected a time above 0 with its unit, such as 5ms, 800us or 1.5s, got `{text}`");
    let number = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let seconds = match &text[number.len()..] {
        "us" => 1e-6,
        "ms" => 1e-3,
        "s" => 1.0,
        _ => return Err(bad()),
    };
    let value: f64 = number.parse().map_err(|_| bad())?;
    Duration::try_from_secs_f64(value * seconds).ok().filter(|time| !time.is_zero()).ok_or_else(bad)
}

#[cfg(test)]
mod tests {
    use super::duration;
    use std::time::Duration;

    #[test]
    fn times_have_units() {
        assert_eq!(duration("5ms"), Ok(Duration::from_millis(5)));
        assert_eq!(duration("1.5s"), Ok(Duration::from_millis(1500)));
        assert_eq!(duration("800us"), Ok(Duration::from_micros(800)));
        for bad in ["5", "ms", "-1ms", "0ms", "1e99s", "nans", "5 minutes", "5m", ""] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }
}
