//! `edge-run model.pack`: the answer.

use crate::args::RunArgs;
use crate::exit::Failure;
use crate::print::greatest_first;
use crate::{inputs, load, print, subnet};
use edge_runtime::Session;
use edge_runtime::device::{ByteSize, peak_rss};
use edge_runtime::graph::DType;
use edge_runtime::inputs::{NamedArray, write_npz};
use edge_runtime::select::{Access, Request, Weighing};
use serde_json::json;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

pub fn command(args: &RunArgs) -> Result<(), Failure> {
    #[cfg(feature = "text")]
    match (&args.text.prompt, args.text.write.given()) {
        (Some(prompt), _) => return crate::text::prompt::command(args, prompt),
        (None, Some(flag)) => return Err(Failure::Usage(format!("{flag} goes with --prompt TEXT"))),
        (None, None) => {}
    }
    let target = &args.target;
    let pack =
        args.pack.as_deref().ok_or_else(|| Failure::Usage("no pack given; see edge-run --help".into()))?;
    let mut opened = load::open(pack, target)?;
    let limit = opened.device.ledger().budget();
    let header = opened.model.header();
    let arrays = inputs::read(&header.graphs[0], &header.card, &args.input, limit)?;
    subnet::foretell(&mut opened, target, &arrays, args.latency, true)?;
    let header = opened.model.header();
    // The decoded inputs are resident by now, so that what the process holds counts them.
    let (request, specs) = (opened.request(target), inputs::specs(&arrays));
    let access = match (args.no_mmap, args.verify) {
        (true, _) => Access::Loaded,
        (false, true) => Access::Checked,
        (false, false) => Access::Mapped,
    };
    let mut reader = opened.reader(access);
    let request = opened.within(request, &arrays, &mut reader, args.latency)?;
    let (selection, model) = opened.select_read(&request, &specs, &mut reader)?;
    let model = Arc::new(model);
    if args.explain {
        let request = Request { available: reader.available(), ..request };
        let next = opened.next_better(&request, &specs, &selection)?;
        eprint!("{}", print::explanation(&opened, &selection, next.as_ref()));
    }
    let rung = opened.rung(selection.rung).clone();
    let described = print::selection(&opened, &selection);
    let streamed = selection.weighing == Weighing::Streamed;
    let need = selection.need;
    let _held =
        opened.device.ledger().reserve("process, weights, inputs", need.process + need.weights + need.extra);
    let mut session = Session::with_plan(&opened.device, &model, &rung, selection.plan)?;
    if streamed {
        session.stream_weights()?;
    }
    let flag = session.cancel_flag();
    if let Err(e) = ctrlc::set_handler(move || flag.store(true, Ordering::Relaxed)) {
        log::warn!("an interrupt will not stop the run cleanly: {e}");
    }
    for (i, array) in arrays.iter().enumerate() {
        session.set_input(i, &array.data)?;
    }
    drop(arrays);
    let start = Instant::now();
    session.run()?;
    let seconds = start.elapsed().as_secs_f64();
    let outputs = outputs(&session);
    if let Some(path) = &args.output {
        write_npz(path, &outputs)?;
    }
    let peak = peak_rss().unwrap_or(0);
    let mut out = std::io::stdout().lock();
    if target.json {
        let top = args.top.map(|n| top(&outputs[0], &header.card.labels, n));
        let value = json!({
            "rung": rung.id,
            "selection": described,
            "seconds": seconds,
            "peak_rss": peak,
            "outputs": outputs.iter().map(|o| json!({"name": o.name, "dtype": o.dtype.name(), "dims": o.dims})).collect::<Vec<_>>(),
            "top": top.map(|t| t.into_iter().map(|(i, v, l)| json!({"index": i, "value": v, "label": l})).collect::<Vec<_>>()),
        });
        writeln!(out, "{value:#}")?;
        return Ok(());
    }
    eprintln!(
        "edge-run: rung {} in {:.1} ms, peak memory {} of {} planned",
        rung.id,
        seconds * 1e3,
        ByteSize(peak),
        ByteSize(need.total())
    );
    match (args.top, outputs.first()) {
        (Some(n), Some(first)) => {
            for (index, value, label) in top(first, &header.card.labels, n) {
                writeln!(out, "{index:>6} {value:>10.4} {label}")?;
            }
        }
        _ if args.output.is_none() => {
            for o in &outputs {
                let values = edge_f32(o);
                let shown: Vec<String> = values.iter().take(8).map(|v| format!("{v:.5}")).collect();
                let more = if values.len() > 8 { ", ..." } else { "" };
                writeln!(out, "{} {} {:?}: {}{more}", o.name, o.dtype, o.dims, shown.join(", "))?;
            }
        }
        _ => {}
    }
    Ok(())
}

fn outputs(session: &Session) -> Vec<NamedArray> {
    let graph = session.graph();
    graph
        .outputs
        .iter()
        .enumerate()
        .map(|(i, port)| {
            let (dims, bytes) = session.result(i);
            let name = graph.name(port.value).to_string();
            NamedArray { name, dtype: session.output(i).0.dtype, dims, data: bytes.to_vec() }
        })
        .collect()
}

fn edge_f32(array: &NamedArray) -> Vec<f64> {
    let d = &array.data;
    match array.dtype {
        DType::F32 => d.as_chunks::<4>().0.iter().map(|b| f64::from(f32::from_le_bytes(*b))).collect(),
        DType::F64 => d.as_chunks::<8>().0.iter().map(|b| f64::from_le_bytes(*b)).collect(),
        DType::I64 => d.as_chunks::<8>().0.iter().map(|b| i64::from_le_bytes(*b) as f64).collect(),
        DType::I32 => d.as_chunks::<4>().0.iter().map(|b| f64::from(i32::from_le_bytes(*b))).collect(),
        DType::I8 => d.iter().map(|b| f64::from(*b as i8)).collect(),
        DType::U8 | DType::Bool => d.iter().map(|b| f64::from(*b)).collect(),
        _ => Vec::new(),
    }
}

/// The `n` greatest elements with their labels.
fn top(array: &NamedArray, labels: &[String], n: usize) -> Vec<(usize, f64, String)> {
    let values = edge_f32(array);
    let classes = array.dims.last().copied().unwrap_or(1).max(1);
    let label = |i: usize| labels.get(i % classes).cloned().unwrap_or_default();
    greatest_first(&values).into_iter().take(n).map(|i| (i, values[i], label(i))).collect()
}
