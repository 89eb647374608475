//! What commands say of a selection.

use crate::load::Opened;
use edge_runtime::device::ByteSize;
use edge_runtime::pack::Rung;
use edge_runtime::select::{Candidate, Need, Selection, Weighing};
use serde_json::{Value, json};

/// Indices of values, the greatest first; of equal ones the lower index.
pub fn greatest_first(values: &[f64]) -> Vec<usize> {
    let mut order: Vec<usize> = (0..values.len()).collect();
    order.sort_unstable_by(|a, b| values[*b].total_cmp(&values[*a]).then(a.cmp(b)));
    order
}

/// The parts of a need.
pub fn need(need: &Need) -> Value {
    json!({
        "process": need.process,
        "weights": need.weights,
        "arena": need.arena,
        "plan": need.plan,
        "extra": need.extra,
        "total": need.total(),
    })
}

/// A selection as JSON.
pub fn selection(opened: &Opened, s: &Selection) -> Value {
    let rung = opened.rung(s.rung);
    json!({
        "rung": rung.id,
        "subnet": subnet(opened, rung),
        "quality": rung.quality.as_ref().map(|q| json!({"metric": q.metric, "value": q.value, "samples": q.samples})),
        "weights": if s.weighing == Weighing::Streamed { "streamed" } else { "resident" },
        "budget": s.budget,
        "budget_source": opened.device.limit().to_string(),
        "plan": need(&s.need),
        "arena": s.plan.arena_bytes,
        "live_peak": s.plan.live_bytes,
        "steps": s.plan.steps.len(),
        "threads": opened.device.pool().threads(),
        "isa": opened.device.isa().name(),
    })
}

/// The subnet that a rung runs, as JSON: its choices, and whose statistics it has where it was asked for.
pub fn subnet(opened: &Opened, rung: &Rung) -> Value {
    let mut value = crate::subnet::json(opened.model.header(), rung, opened.cut.as_ref());
    if let Some(expected) = opened.expected {
        value["expected"] = json!(expected);
    }
    value
}

/// A rung and what it would take, as JSON.
pub fn candidate(opened: &Opened, c: &Candidate) -> Value {
    let rung = opened.rung(c.rung);
    json!({
        "rung": rung.id,
        "total": c.need.total(),
        "budget": c.need.budget(),
        "fits": c.fits,
        "quality": rung.quality.as_ref().map(|q| q.value),
    })
}

fn quality(rung: &Rung) -> String {
    rung.quality
        .as_ref()
        .map_or("unmeasured".to_string(), |q| format!("{} {:.*}", q.metric, q.digits(), q.value))
}

/// A rung and what it would take, as a line.
pub fn line(opened: &Opened, c: &Candidate) -> String {
    let rung = opened.rung(c.rung);
    let fits = if c.fits { "fits" } else { "" };
    let text =
        format!("{:<16} {:<22} {:>12} {fits}", rung.id, quality(rung), ByteSize(c.need.total()).to_string());
    text.trim_end().to_string()
}

/// Why this rung: its cost, and what the next better one would need.
pub fn explanation(opened: &Opened, s: &Selection, next: Option<&Candidate>) -> String {
    let rung = opened.rung(s.rung);
    let mut text = format!("budget   {} ({})\n", ByteSize(s.budget), opened.device.limit());
    let how = if s.weighing == Weighing::Streamed { ", weights streamed" } else { "" };
    text += &format!("rung     {} ({}){how}\n", rung.id, quality(rung));
    let n = &s.need;
    text += &format!("planned  {}\n", ByteSize(n.total()));
    for (what, bytes) in [
        ("process", n.process),
        ("weights", n.weights),
        ("arena", n.arena),
        ("plan", n.plan),
        ("input and output", n.extra),
    ] {
        text += &format!("         {:>12} {what}\n", bytes);
    }
    match next {
        Some(next) => {
            let better = opened.rung(next.rung);
            let need = ByteSize(next.need.budget());
            text += &format!("next     {} ({}) would need {need}\n", better.id, quality(better));
        }
        None => text += "next     none: this is the best rung of the pack\n",
    }
    text
}
