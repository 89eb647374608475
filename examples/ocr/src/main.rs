//! `ocr`: three models read a page under one memory budget.
//!
//! The detector finds where text is, the classifier which way up each line is, the recogniser what it says. All three
//! are open at once; their rungs are chosen together so that weights, arenas, the decoded page and the process itself
//! stay within `--mem`.
#![forbid(unsafe_code)]

mod args;
mod boxes;
mod failure;
mod models;
mod read;
mod text;

use args::Args;
use clap::Parser;
use edge_runtime::device::{ByteSize, Device, peak_rss};
use edge_runtime::inputs::{Frame, decoded_bytes};
use failure::Failure;
use models::{Limits, Packs, Trio};
use read::Line;
use serde_json::json;
use std::io::Write;
use std::process::ExitCode;
use std::time::Instant;

fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(e) => {
            let code = if e.use_stderr() { failure::USAGE } else { 0 };
            // A closed pipe while printing help is nobody's error.
            let _ = e.print();
            return ExitCode::from(code);
        }
    };
    match run(&args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Stdout(e)) if e.kind() == std::io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("ocr: {e}");
            ExitCode::from(e.code())
        }
    }
}

fn run(args: &Args) -> Result<(), Failure> {
    let budget = args.mem.map(|ByteSize(bytes)| bytes);
    let device = Device::builder().threads(args.threads).budget(budget).build()?;
    let packs = Packs::open(&device, args)?;
    // The page's room is taken before anything is chosen, and used once the models have theirs.
    let (size, bytes) = decoded_bytes(&args.page)?;
    let mut room = device.ledger().reserve("the decoded page", bytes)?;
    let limits = Limits { side: args.side, width: args.width };
    let mut trio = Trio::choose(&device, &packs, size, limits)?;
    let planned = device.ledger().used();
    let page = Frame::read(&args.page, bytes)?;
    room.resize(page.bytes())?;

    let start = Instant::now();
    let lines = read::read(&mut trio, &page)?;
    let seconds = start.elapsed().as_secs_f64();
    let peak = peak_rss().unwrap_or(0);
    let budget = device.ledger().budget();
    if args.json {
        let value = json!({
            "budget": budget,
            "planned": planned,
            "peak_rss": peak,
            "seconds": seconds,
            "map": trio.map,
            "models": trio.models.iter().map(models::Chosen::json).collect::<Vec<_>>(),
            "holdings": device.ledger().holdings().iter().map(|h| json!({"what": h.what, "bytes": h.bytes}))
                .collect::<Vec<_>>(),
            "lines": lines.iter().map(Line::json).collect::<Vec<_>>(),
        });
        writeln!(std::io::stdout().lock(), "{value:#}")?;
        return Ok(());
    }
    for model in &trio.models {
        eprintln!("ocr: {model}");
    }
    eprintln!(
        "ocr: {} lines in {:.0} ms, peak memory {} of {} planned, budget {}",
        lines.len(),
        seconds * 1e3,
        ByteSize(peak),
        ByteSize(planned),
        ByteSize(budget)
    );
    let mut out = std::io::stdout().lock();
    for line in &lines {
        writeln!(out, "{:.2}  {}", line.score, line.text)?;
    }
    Ok(())
}
