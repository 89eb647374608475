//! `edge-run bench`: how long a run takes.

use crate::args::{BenchArgs, BenchFormat};
use crate::exit::Failure;
use crate::print::greatest_first;
use crate::profile::{Profile, print_limits};
#[cfg(feature = "text")]
use crate::text::bench as text;
use crate::{inputs, load, print, subnet};
use edge_runtime::device::{ByteSize, Device, Limits, Pool, peak_rss};
use edge_runtime::inputs::NamedArray;
use edge_runtime::pack::{Acts, Rung};
use edge_runtime::select::{Access, Request};
use edge_runtime::{Model, Session};
use serde_json::json;
use std::io::Write;
use std::sync::Arc;
use std::time::Instant;

pub fn command(args: &BenchArgs) -> Result<(), Failure> {
    let target = &args.target;
    if args.limits {
        limits(args)?;
    }
    let Some(path) = &args.pack else { return Ok(()) };
    #[cfg(feature = "text")]
    if text::is_one(args, path)? {
        return text::command(args, path);
    }
    let mut opened = load::open(path, target)?;
    let arrays = inputs::noise(&opened.model.header().graphs[0], &target.shape)?;
    subnet::foretell(&mut opened, target, &arrays, args.latency, false)?;
    let request = Request { copies_outputs: false, ..opened.request(target) };
    let mut reader = opened.reader(Access::Mapped);
    let request = opened.within(request, &arrays, &mut reader, args.latency)?;
    let selection = opened.select(&request, &inputs::specs(&arrays))?;
    let rung = opened.rung(selection.rung).clone();
    let model = Arc::new(opened.model.with_source(Arc::new(opened.pack.map(rung.end)?)));
    let need = selection.need;
    let mut session = Session::with_plan(&opened.device, &model, &rung, selection.plan)?;
    let mut profile = Profile::new();
    let samples = times(&mut session, &arrays, args, args.profile.as_ref().map(|_| &mut profile))?;
    let sorted = ascending(&samples);
    let at = |p: f64| sorted[((sorted.len() - 1) as f64 * p).round() as usize];
    let mean = samples.iter().sum::<f64>() / samples.len() as f64;
    let deviation = (samples.iter().map(|s| (s - mean).powi(2)).sum::<f64>() / samples.len() as f64).sqrt();
    let peak = peak_rss().unwrap_or(0);
    let threads = opened.device.pool().threads();
    // After the runs: what is measured now takes memory of its own.
    let on_floats = match rung.acts {
        Acts::I8 if target.verbose > 0 => on_floats(&opened.device, &model, &rung, &arrays, args),
        _ => None,
    };
    let limits = args.profile.as_ref().map(|_| {
        let device = &opened.device;
        Limits::measure(device.pool(), device.isa(), &device.cpu().caches, device.ledger().free())
    });
    let mut out = std::io::stdout().lock();
    match if target.json { BenchFormat::Json } else { args.format } {
        BenchFormat::Json => {
            let mut value = json!({
                "rung": rung.id, "threads": threads, "isa": opened.device.isa().name(),
                "kernels": session.kernels(), "ms": {"p50": at(0.5), "p95": at(0.95), "min": sorted[0], "mean": mean, "stddev": deviation},
                "samples_ms": samples, "planned": need.total(), "peak_rss": peak, "arena": need.arena,
                "subnet": print::subnet(&opened, &rung),
            });
            if let Some(ms) = on_floats {
                value["on_floats_ms"] = json!(ms);
            }
            if let Some(limits) = &limits {
                value["steps"] = profile.json(&session, limits);
            }
            writeln!(out, "{value:#}")?;
        }
        BenchFormat::Csv => {
            writeln!(out, "rung,threads,isa,p50_ms,p95_ms,mean_ms,stddev_ms,peak_rss,planned")?;
            let isa = opened.device.isa().name();
            let total = need.total();
            writeln!(
                out,
                "{},{threads},{isa},{:.3},{:.3},{mean:.3},{deviation:.3},{peak},{total}",
                rung.id,
                at(0.5),
                at(0.95)
            )?;
        }
        BenchFormat::Md => {
            writeln!(out, "| rung | threads | p50 ms | p95 ms | mean ± sd ms | peak | planned |")?;
            writeln!(out, "|---|---|---|---|---|---|---|")?;
            writeln!(
                out,
                "| {} | {threads} | {:.2} | {:.2} | {mean:.2} ± {deviation:.2} | {} | {} |",
                rung.id,
                at(0.5),
                at(0.95),
                ByteSize(peak),
                ByteSize(need.total())
            )?;
            if target.verbose > 0 {
                writeln!(out, "kernels: {}", session.kernels().join(", "))?;
                if let Some(ms) = on_floats {
                    let gain = if ms < at(0.5) { "memory, not time" } else { "time and memory" };
                    writeln!(
                        out,
                        "the same weights with floats between layers: {ms:.3} ms; integers save {gain}"
                    )?;
                }
            }
        }
    }
    if let Some(limits) = &limits {
        if let Some(Some(path)) = &args.profile {
            profile.write_trace(path, &session, limits)?;
        }
        if !target.json && args.format == BenchFormat::Md {
            profile.print(&mut out, &session, limits)?;
        }
    }
    Ok(())
}

/// Milliseconds of each run, by steps where there is a profile of them.
fn times(
    session: &mut Session,
    arrays: &[NamedArray],
    args: &BenchArgs,
    mut profile: Option<&mut Profile>,
) -> Result<Vec<f64>, Failure> {
    // Before each run, which may use the memory of its inputs; not timed.
    let set = |session: &mut Session| {
        arrays.iter().enumerate().try_for_each(|(i, array)| session.set_input(i, &array.data))
    };
    for _ in 0..args.warmup {
        set(session)?;
        session.run()?;
    }
    let repeat = args.repeat.unwrap_or(20).max(1);
    let mut samples = Vec::with_capacity(repeat);
    for _ in 0..repeat {
        set(session)?;
        let start = Instant::now();
        match &mut profile {
            Some(profile) => profile.run(session)?,
            None => session.run()?,
        }
        samples.push(start.elapsed().as_secs_f64() * 1e3);
    }
    Ok(samples)
}

fn ascending(samples: &[f64]) -> Vec<f64> {
    greatest_first(samples).into_iter().rev().map(|i| samples[i]).collect()
}

/// The median time of a rung's weights with floats between layers; `None` where they do not run so, or have no room.
fn on_floats(
    device: &Arc<Device>,
    model: &Arc<Model>,
    rung: &Rung,
    arrays: &[NamedArray],
    args: &BenchArgs,
) -> Option<f64> {
    let rung = Rung { acts: Acts::F32, floats: Vec::new(), ..rung.clone() };
    let mut session = Session::new(device, model, &rung, &inputs::specs(arrays)).ok()?;
    let samples = times(&mut session, arrays, args, None).ok()?;
    Some(ascending(&samples)[samples.len() / 2])
}

/// What one thread can do, and all of them.
fn limits(args: &BenchArgs) -> Result<(), Failure> {
    let device = load::device(&args.target)?;
    let free = device.ledger().free();
    let measure = |pool: &Pool| Limits::measure(pool, device.isa(), &device.cpu().caches, free);
    let mut all = vec![measure(&Pool::new(1)?)];
    if device.pool().threads() > 1 {
        all.push(measure(device.pool()));
    }
    print_limits(&mut std::io::stdout().lock(), &all, args.target.json)
}
