//! `edge-run perplexity`: how well the model foretells a text.

use super::args::PerplexityArgs;
use super::open::{self, Context};
use crate::exit::Failure;
use edge_runtime::RunError;
use edge_runtime::device::{ByteSize, peak_rss};
use edge_runtime::text::{Windows, perplexity};
use serde_json::json;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

pub fn command(args: &PerplexityArgs) -> Result<(), Failure> {
    let target = &args.target;
    let bytes =
        std::fs::read(&args.text).map_err(|e| Failure::BadFile(format!("{}: {e}", args.text.display())))?;
    let text = String::from_utf8(bytes).map_err(|e| {
        let at = e.utf8_error().valid_up_to();
        Failure::BadFile(format!(
            "{}: byte {at} is not UTF-8; the text is expected to be",
            args.text.display()
        ))
    })?;
    let prepared = open::prepare(&args.pack, target)?;
    let first = prepared.tokenizer.tokens().first;
    let mut ids: Vec<u32> = first.into_iter().collect();
    prepared.tokenizer.encode(&text, true, &mut ids);
    drop(text);
    let all = ids.len();
    if let Some(most) = args.windows {
        ids.truncate(most.saturating_mul(args.ctx).max(args.ctx));
    }
    // What the text took is not held any more when the model's memory is counted, its ids are.
    let mut opened = prepared.open(target, Context::Asked(args.ctx), None)?;
    let mut windows = Windows::llama_cpp(args.ctx, first);
    if args.all {
        windows.from = 1;
    }
    let stopped = Arc::new(AtomicBool::new(false));
    let flag = stopped.clone();
    if let Err(e) = ctrlc::set_handler(move || flag.store(true, Ordering::Relaxed)) {
        log::warn!("an interrupt will not stop cleanly: {e}");
    }
    let start = Instant::now();
    let many = ids.len() / args.ctx.max(1);
    let measured = perplexity(opened.generator.decoder_mut(), &ids, &windows, &stopped, &mut |now| {
        log::info!("window {} of {many}: {:.4} so far", now.windows, now.value());
    })?;
    let seconds = start.elapsed().as_secs_f64();
    let (value, error) = (measured.value(), measured.error());
    let peak = peak_rss().unwrap_or(0);
    let mut out = std::io::stdout().lock();
    if target.json {
        let value = json!({
            "perplexity": value, "error": error, "nll": measured.nll(), "tokens": measured.tokens, "windows": measured.windows,
            "window": windows.tokens, "counted_from": windows.from, "windowing": if args.all { "all" } else { "llama.cpp" },
            "text_tokens": all, "load_seconds": opened.load.as_secs_f64(), "seconds": seconds,
            "tokens_per_second": (measured.windows * windows.tokens) as f64 / seconds, "peak_rss": peak,
        });
        writeln!(out, "{value:#}")?;
    } else {
        let how = if args.all {
            "all but the first of each counted"
        } else {
            "the second half of each counted, as llama.cpp does"
        };
        writeln!(
            out,
            "perplexity {value:.4} ± {error:.4}: {} windows of {} tokens, {how}, {} tokens",
            measured.windows, windows.tokens, measured.tokens
        )?;
    }
    if target.verbose > 0 {
        eprintln!(
            "edge-run: load {:.0} ms, {seconds:.1} s, peak memory {}",
            opened.load.as_secs_f64() * 1e3,
            ByteSize(peak)
        );
    }
    if stopped.load(Ordering::Relaxed) { Err(RunError::Cancelled.into()) } else { Ok(()) }
}
