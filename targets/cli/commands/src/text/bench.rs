//! `edge-run bench` of a language model, in llama-bench's terms: `pp512` reads 512 tokens at once, `tg128` writes 128 one by one.

use super::open::{self, Context};
use super::took::rate;
use crate::args::{BenchArgs, BenchFormat};
use crate::exit::Failure;
use edge_runtime::decode::Decoder;
use edge_runtime::device::{ByteSize, peak_rss};
use edge_runtime::pack::PackFile;
use edge_runtime::random::philox;
use serde_json::{Value, json};
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

/// What is timed.
struct Test {
    read: usize,
    written: usize,
    samples: Vec<Duration>,
}

impl Test {
    fn name(&self) -> String {
        if self.written > 0 { format!("tg{}", self.written) } else { format!("pp{}", self.read) }
    }

    /// Mean and sample standard deviation of tokens a second.
    fn rates(&self) -> (f64, f64) {
        let tokens = self.read + self.written;
        let all: Vec<f64> = self.samples.iter().filter_map(|time| rate(tokens, *time)).collect();
        let mean = all.iter().sum::<f64>() / all.len().max(1) as f64;
        let squares: f64 = all.iter().map(|rate| (rate - mean).powi(2)).sum();
        (mean, (squares / all.len().saturating_sub(1).max(1) as f64).sqrt())
    }

    fn run(&self, decoder: &mut Decoder, ids: &[i64]) -> Result<Duration, Failure> {
        decoder.truncate(0);
        let start = Instant::now();
        if self.read > 0 {
            decoder.feed(&ids[..self.read])?;
        }
        for id in &ids[self.read..][..self.written] {
            decoder.feed(std::slice::from_ref(id))?;
        }
        Ok(start.elapsed())
    }
}

/// Whether a pack is timed so: it reads token ids, and nothing is asked that other runs alone have.
pub fn is_one(args: &BenchArgs, pack: &Path) -> Result<bool, Failure> {
    let asked = [args.prompt_tokens, args.gen_tokens, args.ctx].iter().any(Option::is_some);
    if args.profile.is_some() || args.latency.is_some() || !args.target.shape.is_empty() {
        return Ok(false);
    }
    Ok(asked || PackFile::open(pack)?.header().graphs.iter().any(|graph| graph.decoding.is_some()))
}

/// Times a pack of a language model.
pub fn command(args: &BenchArgs, pack: &Path) -> Result<(), Failure> {
    let target = &args.target;
    let (read, written) = (args.prompt_tokens.unwrap_or(512), args.gen_tokens.unwrap_or(128));
    let context = args.ctx.unwrap_or_else(|| read.max(written).max(1));
    let mut opened = open::prepare(pack, target)?.open(target, Context::Asked(context), None)?;
    let (threads, load) = (opened.device.pool().threads(), opened.load);
    let card = &opened.pack.header().card;
    let name = if card.name.is_empty() { "a model without a name".to_string() } else { card.name.clone() };
    let decoder = opened.generator.decoder_mut();
    let vocabulary = decoder.vocabulary() as u32;
    let ids: Vec<i64> =
        (0..(read + written) as u64).map(|i| i64::from(philox(0x5EED, i)[0] % vocabulary)).collect();
    let new = |read, written| Test { read, written, samples: Vec::new() };
    let mut tests: Vec<Test> =
        [new(read, 0), new(0, written)].into_iter().filter(|t| t.read + t.written > 0).collect();
    for test in &mut tests {
        for _ in 0..args.warmup.min(1) {
            test.run(decoder, &ids)?;
        }
        for _ in 0..args.repeat.unwrap_or(5).max(1) {
            let sample = test.run(decoder, &ids)?;
            test.samples.push(sample);
        }
    }
    let size = opened.pack.header().rungs.iter().map(|rung| rung.bytes).max().unwrap_or(0);
    let peak = peak_rss().unwrap_or(0);
    let mut out = std::io::stdout().lock();
    match if target.json { BenchFormat::Json } else { args.format } {
        BenchFormat::Json => {
            let row = |test: &Test| -> Value {
                let ((mean, deviation), ns) = (test.rates(), |time: &Duration| time.as_nanos() as u64);
                json!({
                    "model": name, "model_size": size, "n_threads": threads, "n_prompt": test.read, "n_gen": test.written,
                    "test": test.name(), "avg_ts": mean, "stddev_ts": deviation, "samples_ns": test.samples.iter().map(ns).collect::<Vec<_>>(),
                    "samples_ts": test.samples.iter().map(|t| rate(test.read + test.written, *t)).collect::<Vec<_>>(),
                    "n_ctx": context, "load_seconds": load.as_secs_f64(), "peak_rss": peak,
                })
            };
            writeln!(out, "{:#}", Value::Array(tests.iter().map(row).collect()))?;
        }
        BenchFormat::Csv => {
            writeln!(out, "model,model_size,n_threads,n_prompt,n_gen,test,avg_ts,stddev_ts,n_ctx,peak_rss")?;
            for test in &tests {
                let (mean, deviation) = test.rates();
                let (read, written, test) = (test.read, test.written, test.name());
                let name = name.replace(['"', ','], " ");
                writeln!(
                    out,
                    "{name},{size},{threads},{read},{written},{test},{mean:.2},{deviation:.2},{context},{peak}"
                )?;
            }
        }
        BenchFormat::Md => {
            writeln!(out, "| model | size | threads | test | t/s |")?;
            writeln!(out, "|---|---:|---:|---:|---:|")?;
            for test in &tests {
                let (mean, deviation) = test.rates();
                let name = name.replace('|', " ");
                writeln!(
                    out,
                    "| {name} | {} | {threads} | {} | {mean:.2} ± {deviation:.2} |",
                    ByteSize(size),
                    test.name()
                )?;
            }
        }
    }
    if target.verbose > 0 {
        eprintln!("edge-run: load {:.0} ms, peak memory {}", load.as_secs_f64() * 1e3, ByteSize(peak));
    }
    Ok(())
}
