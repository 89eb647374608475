//! `edge-run verify`: every hash, then the golden outputs.

use crate::args::VerifyArgs;
use crate::exit::Failure;
use crate::load;
use edge_runtime::graph::DType;
use edge_runtime::pack::{BlobSource, Golden, GoldenSource, Rung};
use edge_runtime::plan::InputSpec;
use edge_runtime::random::uniform;
use edge_runtime::select::Request;
use edge_runtime::{Model, Session};
use serde_json::json;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// Beyond this an SQNR says only in which order floats were summed, in dB: an error of 1e-5 of the signal.
const FLOAT_DB: f32 = 100.0;
/// How far below its measured quality a rung's golden outputs may be, in dB: the measurement used other inputs.
const SLACK_DB: f32 = 12.0;

pub fn command(args: &VerifyArgs) -> Result<(), Failure> {
    if args.target.subnet.is_some() {
        let why =
            "verify checks what the pack itself holds; --subnet goes with running, plan, bench and inspect";
        return Err(Failure::Usage(why.into()));
    }
    let opened = load::open(&args.pack, &args.target)?;
    let verified = opened.pack.verify(&AtomicBool::new(false), |_, _| ())?;
    let header = opened.model.header();
    let mut checks = Vec::new();
    if let Some(golden) = &header.golden {
        let blobs = opened.pack.map(opened.pack.file_len())?;
        let inputs = inputs(&opened.model, golden, &blobs)?;
        let specs: Vec<InputSpec> = inputs.iter().map(|(spec, _)| spec.clone()).collect();
        let selection =
            opened.select(&Request { copies_outputs: false, ..opened.request(&args.target) }, &specs)?;
        let rung = header.rungs[selection.rung].clone();
        let model = Arc::new(opened.model.with_source(Arc::new(opened.pack.map(rung.end)?)));
        let mut session = Session::with_plan(&opened.device, &model, &rung, selection.plan)?;
        for (i, (_, bytes)) in inputs.iter().enumerate() {
            session.set_input(i, bytes)?;
        }
        session.run()?;
        let worst = worst_db(&session, golden, &blobs);
        let bound = bound(&rung);
        checks.push((rung.id.clone(), worst, bound));
        if worst.is_nan() || worst < bound {
            return Err(Failure::Golden(format!(
                "golden outputs of rung `{}` have an SQNR of {worst:.1} dB, expected {bound:.1} or more",
                rung.id
            )));
        }
    }
    let mut out = std::io::stdout().lock();
    if args.target.json {
        let checks: Vec<_> =
            checks.iter().map(|(r, db, b)| json!({"rung": r, "sqnr_db": db, "bound": b})).collect();
        writeln!(
            out,
            "{:#}",
            json!({"bytes": verified.bytes, "blobs": verified.blobs, "missing_blobs": verified.missing_blobs, "golden": checks})
        )?;
        return Ok(());
    }
    writeln!(out, "{} blobs, {} bytes: every hash is right", verified.blobs, verified.bytes)?;
    match &checks[..] {
        [] => writeln!(out, "no golden outputs in this pack")?,
        checks => {
            for (rung, db, bound) in checks {
                writeln!(out, "golden outputs of rung {rung}: {db:.1} dB (at least {bound:.1} expected)")?;
            }
        }
    }
    Ok(())
}

fn bound(rung: &Rung) -> f32 {
    let measured = rung.quality.as_ref().filter(|q| q.metric == "sqnr_db");
    measured.map_or(f32::NEG_INFINITY, |q| (q.value - SLACK_DB).min(FLOAT_DB))
}

/// The golden inputs: what the planner must know, and the bytes.
fn inputs(
    model: &Model,
    golden: &Golden,
    blobs: &dyn BlobSource,
) -> Result<Vec<(InputSpec, Vec<u8>)>, Failure> {
    let graph = &model.header().graphs[0];
    graph
        .inputs
        .iter()
        .zip(&golden.inputs)
        .map(|(port, value)| {
            let n: usize = value.dims.iter().product();
            let bytes = match &value.source {
                GoldenSource::Blob(id) => blobs.blob(*id).unwrap_or_default().to_vec(),
                GoldenSource::Uniform { seed, lo, hi } => {
                    let mut bytes = Vec::with_capacity(n * 4);
                    for i in 0..n as u64 {
                        let x = lo + (hi - lo) * uniform(*seed, i);
                        match value.dtype {
                            DType::F32 => bytes.extend(x.to_le_bytes()),
                            DType::I64 => bytes.extend((x.floor() as i64).to_le_bytes()),
                            DType::I32 => bytes.extend((x.floor() as i32).to_le_bytes()),
                            other => return Err(Failure::Golden(format!("golden noise of type {other}"))),
                        }
                    }
                    bytes
                }
            };
            let spec = InputSpec {
                name: graph.name(port.value).to_string(),
                dtype: value.dtype,
                dims: value.dims.clone(),
                value: Some(bytes.clone().into()),
            };
            Ok((spec, bytes))
        })
        .collect()
}

/// The least signal-to-noise ratio of an output, in dB.
fn worst_db(session: &Session, golden: &Golden, blobs: &dyn BlobSource) -> f32 {
    let mut worst = f32::INFINITY;
    for (i, want) in golden.outputs.iter().enumerate().take(session.plan().outputs.len()) {
        let GoldenSource::Blob(id) = want.source else { continue };
        let want = floats(blobs.blob(id).unwrap_or_default());
        let (operand, bytes) = session.output(i);
        if operand.dtype != DType::F32 || want.is_empty() {
            continue;
        }
        let got = floats(bytes);
        let mean = want.iter().sum::<f64>() / want.len() as f64;
        let signal: f64 = want.iter().map(|w| (w - mean).powi(2)).sum();
        let noise: f64 = want.iter().zip(&got).map(|(w, g)| (w - g).powi(2)).sum();
        let db = 10.0 * (signal.max(1e-12) / noise.max(1e-20)).log10();
        worst = worst.min(if db.is_nan() { f32::NEG_INFINITY } else { db as f32 });
    }
    worst
}

fn floats(bytes: &[u8]) -> Vec<f64> {
    bytes.as_chunks::<4>().0.iter().map(|b| f64::from(f32::from_le_bytes(*b))).collect()
}
