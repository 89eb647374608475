//! One rung's weights and memory, for any rung of the page.

use super::chart::{Axis, area};
use super::page::{Cost, Layer, Planned, RungFigures};
use super::words::{clipped, decibels, quality, rounded, size};
use serde::Serialize;
use std::collections::HashMap;

/// A rung's layers and memory.
#[derive(Serialize)]
pub(super) struct Detail {
    summary: String,
    timeline: Option<usize>,
    /// By tensor.
    layers: Vec<Option<Bar>>,
}

/// Bytes, their bar in percent, format, cost, its bar in percent.
#[derive(Serialize)]
struct Bar(String, f64, usize, String, f64);

/// Memory over time.
#[derive(Serialize)]
pub(super) struct Timeline {
    path: String,
    /// Ticks: percent from the top, text.
    ticks: Vec<(f64, String)>,
    /// Percent from the left.
    peak_at: f64,
    /// Percent from the top.
    peak_top: f64,
    arena_top: f64,
    peak: String,
    arena: String,
    step: String,
    steps: usize,
}

/// Values that are stored once, by what tells them apart.
pub(super) struct Table<T> {
    pub values: Vec<T>,
    known: HashMap<String, usize>,
}

impl<T> Table<T> {
    pub fn new() -> Table<T> {
        Table { values: Vec::new(), known: HashMap::new() }
    }

    fn index(&mut self, key: String, value: T) -> usize {
        let values = &mut self.values;
        *self.known.entry(key).or_insert_with(|| {
            values.push(value);
            values.len() - 1
        })
    }
}

pub(super) fn detail(
    rung: &RungFigures,
    order: &[usize],
    formats: &mut Table<String>,
    timelines: &mut Table<Timeline>,
) -> Detail {
    let all = || rung.layers.iter().flatten();
    let most = all().map(|l| l.bytes).max().unwrap_or(0).max(1) as f64;
    let noise = |l: &Layer| match l.cost {
        // A pack may say anything.
        Cost::Db(db) => 10f64.powf(f64::from(db.clamp(-100.0, 200.0)) / -10.0),
        Cost::Finest | Cost::Unknown => 0.0,
    };
    let loudest = all().map(noise).fold(f64::MIN_POSITIVE, f64::max);
    let mut bar = |l: &Layer| {
        let cost = match l.cost {
            Cost::Db(db) => decibels(db),
            Cost::Finest => "finest".to_string(),
            Cost::Unknown => "not measured".to_string(),
        };
        let percent = |share: f64| (share * 1000.0).round() / 10.0;
        let bytes = percent(l.bytes as f64 / most);
        Bar(
            size(l.bytes),
            bytes,
            formats.index(l.format.clone(), clipped(&l.format)),
            cost,
            percent(noise(l) / loudest),
        )
    };
    let layers = order.iter().map(|t| rung.layers.get(*t)?.as_ref().map(&mut bar)).collect();
    let mut summary = format!(
        "{}: {} of weights, {} bits a weight",
        clipped(&rung.id),
        size(rung.bytes),
        rounded(rung.mean_bits)
    );
    summary.extend(quality(rung).map(|q| format!(", {q}")));
    let planned = rung.planned.as_ref().filter(|p| !p.live.is_empty());
    let line = planned.map(timeline);
    let line = line.map(|l| timelines.index(format!("{} {} {}", l.path, l.arena, l.step), l));
    Detail { summary, timeline: line, layers }
}

fn timeline(planned: &Planned) -> Timeline {
    let live = &planned.live;
    let arena = planned.arena as f64;
    let peak = live.iter().copied().max().unwrap_or(0);
    let at = live.iter().position(|bytes| *bytes == peak).unwrap_or(0);
    let (unit, name) = if arena < 1e6 { (1e3, "kB") } else { (1e6, "MB") };
    // From 0 up, whatever the values are.
    let axis = Axis::of([0.0, arena.max(1.0) / unit]);
    let (ticks, digits) = axis.as_ref().map(|axis| (axis.ticks(), axis.digits())).unwrap_or_default();
    let top = axis.map_or(1.0, |axis| axis.high()) * unit;
    let from_top = |bytes: f64| ((1.0 - bytes / top) * 1000.0).round() / 10.0;
    Timeline {
        path: area(live, top),
        ticks: ticks.iter().map(|t| (from_top(t * unit), format!("{t:.digits$} {name}"))).collect(),
        peak_at: ((at as f64 + 0.5) / live.len().max(1) as f64 * 1000.0).round() / 10.0,
        peak_top: from_top(peak as f64),
        arena_top: from_top(arena),
        peak: size(peak as u64),
        arena: size(planned.arena),
        step: clipped(&planned.peak_step),
        steps: live.len(),
    }
}
