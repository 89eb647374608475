//! What text commands take.

use crate::args::Target;
use clap::Args;
use edge_runtime::text::Sampling;
use std::path::PathBuf;
use std::time::{SystemTime, UNIX_EPOCH};

/// How text is made.
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Text")]
pub struct WriteArgs {
    /// Tokens at most [default: until the model ends, or the context is full].
    #[arg(short = 'n', long = "tokens", value_name = "N")]
    pub tokens: Option<usize>,
    /// Temperature; 0 takes the likeliest token [default: 0.8].
    #[arg(long, value_name = "T")]
    pub temp: Option<f32>,
    /// Draw among so many of the likeliest; 0: all [default: 40].
    #[arg(long, value_name = "K")]
    pub top_k: Option<usize>,
    /// Draw among the fewest that together have this probability; 1: all [default: 0.95].
    #[arg(long, value_name = "P")]
    pub top_p: Option<f32>,
    /// Draw among those with this share of the greatest probability; 0: all [default: 0.05].
    #[arg(long, value_name = "P")]
    pub min_p: Option<f32>,
    /// Divide the logits of the last 64 tokens by this; 1: not [default: 1].
    #[arg(long, value_name = "R")]
    pub repeat_penalty: Option<f32>,
    /// Equal seeds give equal texts [default: another each time].
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// End before this; may be given several times.
    #[arg(long, value_name = "TEXT")]
    pub stop: Vec<String>,
    /// Go on where the model would end.
    #[arg(long)]
    pub ignore_eos: bool,
    /// Keep what the model has read in this file, and do not read again what it has there.
    #[arg(long, value_name = "FILE")]
    pub prompt_cache: Option<PathBuf>,
    /// Tokens of context to have room for [default: what the memory allows].
    #[arg(long, value_name = "N")]
    pub ctx: Option<usize>,
}

impl WriteArgs {
    /// The first of these that is given.
    pub fn given(&self) -> Option<&'static str> {
        let all = [
            ("--tokens", self.tokens.is_some()),
            ("--temp", self.temp.is_some()),
            ("--top-k", self.top_k.is_some()),
            ("--top-p", self.top_p.is_some()),
            ("--min-p", self.min_p.is_some()),
            ("--repeat-penalty", self.repeat_penalty.is_some()),
            ("--seed", self.seed.is_some()),
            ("--stop", !self.stop.is_empty()),
            ("--ignore-eos", self.ignore_eos),
            ("--prompt-cache", self.prompt_cache.is_some()),
            ("--ctx", self.ctx.is_some()),
        ];
        all.into_iter().find(|(_, given)| *given).map(|(name, _)| name)
    }

    pub fn sampling(&self) -> Sampling {
        let usual = Sampling::default();
        // Not to be guessed is not asked for; to be another each time is.
        let now = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_nanos() as u64);
        Sampling {
            temperature: self.temp.unwrap_or(usual.temperature),
            top_k: self.top_k.unwrap_or(usual.top_k),
            top_p: self.top_p.unwrap_or(usual.top_p),
            min_p: self.min_p.unwrap_or(usual.min_p),
            repeat_penalty: self.repeat_penalty.unwrap_or(usual.repeat_penalty),
            repeat_last: usual.repeat_last,
            seed: self.seed.unwrap_or_else(now),
        }
    }
}

/// What `edge-run model.pack` takes for text.
#[derive(Debug, Default, Args)]
pub struct PromptArgs {
    /// Go on from this text.
    #[arg(long, value_name = "TEXT", help_heading = "Text", conflicts_with_all = ["input", "output", "latency", "top", "shape", "explain", "no_mmap", "verify"])]
    pub prompt: Option<String>,
    #[command(flatten)]
    pub write: WriteArgs,
}

#[derive(Debug, Args)]
pub struct ChatArgs {
    /// The pack.
    pub pack: PathBuf,
    #[command(flatten)]
    pub target: Target,
    /// What the model is told before the conversation.
    #[arg(long, value_name = "TEXT")]
    pub system: Option<String>,
    /// A Jinja template in place of the pack's.
    #[arg(long, value_name = "FILE")]
    pub chat_template: Option<PathBuf>,
    #[command(flatten)]
    pub write: WriteArgs,
}

#[derive(Debug, Args)]
pub struct PerplexityArgs {
    /// The pack.
    pub pack: PathBuf,
    /// The text, UTF-8.
    pub text: PathBuf,
    #[command(flatten)]
    pub target: Target,
    /// Tokens of a window.
    #[arg(long, value_name = "N", default_value_t = 512)]
    pub ctx: usize,
    /// Count every token of a window but its first, instead of those of its second half as llama.cpp does.
    #[arg(long)]
    pub all: bool,
    /// Windows at most.
    #[arg(long, value_name = "N")]
    pub windows: Option<usize>,
}

#[derive(Debug, Args)]
pub struct EmbedArgs {
    /// The pack.
    pub pack: PathBuf,
    /// The texts.
    #[arg(value_name = "TEXT", required_unless_present = "lines")]
    pub texts: Vec<String>,
    #[command(flatten)]
    pub target: Target,
    /// Take the texts from a file, one a line; `-`: from stdin.
    #[arg(long, value_name = "FILE", conflicts_with = "texts")]
    pub lines: Option<PathBuf>,
    /// Write the vectors to a .npy file, f32 [texts, columns]; else each is printed, a JSON array on a line.
    #[arg(short, long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Print how alike the texts are instead: the cosine of each two vectors.
    #[arg(long)]
    pub cosine: bool,
    /// Leave vectors as the model makes them; else they have length 1.
    #[arg(long)]
    pub no_normalize: bool,
    /// Tokens of a text to have room for; of longer ones the beginning is read [default: the longest of these texts, as far as the model goes].
    #[arg(long, value_name = "N")]
    pub ctx: Option<usize>,
}

#[derive(Debug, Args)]
pub struct TokenizeArgs {
    /// The pack.
    pub pack: PathBuf,
    /// The text; `-` reads it from stdin.
    #[arg(required_unless_present = "lines")]
    pub text: Option<String>,
    /// Read texts from stdin, each a JSON string on a line of its own, and print the ids of each on a line.
    #[arg(long, conflicts_with = "text")]
    pub lines: bool,
    /// Leave out the tokens that texts begin and end with.
    #[arg(long)]
    pub no_bos: bool,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}
