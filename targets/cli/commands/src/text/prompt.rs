//! `edge-run model.pack --prompt TEXT`: what the model would write next.

use super::cache;
use super::open::{self, Context};
use super::took;
use crate::args::RunArgs;
use crate::exit::Failure;
use edge_runtime::RunError;
use edge_runtime::text::{End, Sampler, TextError, Until};
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

pub fn command(args: &RunArgs, prompt: &str) -> Result<(), Failure> {
    let (target, write) = (&args.target, &args.text.write);
    let pack =
        args.pack.as_deref().ok_or_else(|| Failure::Usage("no pack given; see edge-run --help".into()))?;
    if prompt.is_empty() {
        return Err(TextError::Empty.into());
    }
    let sampling = write.sampling();
    let prepared = open::prepare(pack, target)?;
    let mut ids: Vec<u32> = prepared.tokenizer.tokens().first.into_iter().collect();
    prepared.tokenizer.encode(prompt, true, &mut ids);
    let context = match (write.ctx, write.tokens) {
        (Some(asked), _) => Context::Asked(asked),
        (None, Some(tokens)) => Context::Enough(ids.len().saturating_add(tokens)),
        (None, None) => Context::Most,
    };
    let mut opened = prepared.open(target, context, Some(&sampling))?;
    let generator = &mut opened.generator;
    cache::restore(write.prompt_cache.as_deref(), generator)?;
    let mut sampler = Sampler::new(sampling, generator.decoder().vocabulary()).map_err(TextError::from)?;
    let stopped = Arc::new(AtomicBool::new(false));
    let flag = stopped.clone();
    if let Err(e) = ctrlc::set_handler(move || flag.store(true, Ordering::Relaxed)) {
        log::warn!("an interrupt will not stop the answer cleanly: {e}");
    }
    let until =
        Until { tokens: write.tokens, stops: &write.stop, ignore_last: write.ignore_eos, stopped: &stopped };
    let (mut out, mut text) = (std::io::stdout().lock(), String::new());
    let answer = generator.answer(&ids, &mut sampler, &until, &mut |part| {
        if target.json {
            text += part;
            return Ok(());
        }
        out.write_all(part.as_bytes())?;
        out.flush()
    })?;
    cache::save(write.prompt_cache.as_deref(), generator)?;
    let context = generator.decoder().context();
    if target.json {
        let mut value = took::json(&answer, opened.load, context);
        value["prompt"]["text"] = prompt.into();
        value["text"] = text.into();
        value["seed"] = sampler.how().seed.into();
        writeln!(out, "{value:#}")?;
    } else {
        writeln!(out)?;
    }
    if target.verbose > 0 {
        eprintln!("edge-run: {}", took::line(&answer, opened.load, context));
    }
    match answer.end {
        End::Interrupted => Err(RunError::Cancelled.into()),
        _ => Ok(()),
    }
}
