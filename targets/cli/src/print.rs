//! What commands say of a selection.

use edge_runtime::Model;
use edge_runtime::device::{ByteSize, Device};
use edge_runtime::select::{Need, Selection, Weighing};
use serde_json::{Value, json};

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
pub fn selection(model: &Model, device: &Device, s: &Selection) -> Value {
    let rungs = &model.header().rungs;
    let rung = &rungs[s.rung];
    json!({
        "rung": rung.id,
        "quality": rung.quality.as_ref().map(|q| json!({"metric": q.metric, "value": q.value, "samples": q.samples})),
        "weights": if s.weighing == Weighing::Streamed { "streamed" } else { "resident" },
        "budget": s.budget,
        "budget_source": device.limit().to_string(),
        "plan": need(&s.need),
        "arena": s.plan.arena_bytes,
        "live_peak": s.plan.live_bytes,
        "steps": s.plan.steps.len(),
        "threads": device.pool().threads(),
        "isa": device.isa().name(),
        "candidates": s.candidates.iter().map(|c| json!({
            "rung": rungs[c.rung].id,
            "total": c.need.total(),
            "fits": c.fits,
            "quality": rungs[c.rung].quality.as_ref().map(|q| q.value),
        })).collect::<Vec<_>>(),
    })
}

/// Why this rung: its cost, and what the next better one would need.
pub fn explanation(model: &Model, device: &Device, s: &Selection) -> String {
    let rungs = &model.header().rungs;
    let rung = &rungs[s.rung];
    let quality = |r: &edge_runtime::pack::Rung| {
        r.quality.as_ref().map_or("unmeasured".to_string(), |q| format!("{} {:.1}", q.metric, q.value))
    };
    let mut text = format!("budget   {} ({})\n", ByteSize(s.budget), device.limit());
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
    let value = |i: usize| rungs[i].quality.as_ref().map_or(f32::MIN, |q| q.value);
    let better = s.candidates.iter().filter(|c| !c.fits && value(c.rung) > value(s.rung));
    match better.min_by_key(|c| c.need.total()) {
        Some(next) => {
            let id = &rungs[next.rung];
            text +=
                &format!("next     {} ({}) would need {}\n", id.id, quality(id), ByteSize(next.need.total()));
        }
        None => text += "next     none: this is the best rung of the pack\n",
    }
    text
}
