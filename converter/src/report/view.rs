//! A page in the words, numbers and charts that its template shows.

use super::detail::{Detail, Table, Timeline, detail};
use super::figures::{Figure, figures, not_drawn, subnets};
use super::ladder::{Row, row};
use super::page::{Cost, Page, RungFigures};
use super::words::{clipped, cut, metric_name, quality, size};
use edge_runtime::pack::Acts;
use serde::Serialize;

/// Letters of an error's message at most.
const SENTENCE: usize = 600;
/// Medians of a rung that are further apart say that the machine was busy.
const BUSY: f64 = 1.3;

/// What the template is given.
#[derive(Serialize)]
pub struct View {
    title: String,
    /// The great figures: name, figure, more of it.
    figures_of_all: Vec<(&'static str, String, String)>,
    facts: Vec<(&'static str, String)>,
    /// Other texts of the model card.
    metadata: Vec<(String, String)>,
    notes: Vec<String>,
    metric: String,
    figures: Vec<Figure>,
    /// Charts of a supernet's subnets.
    subnets: Vec<Figure>,
    subnet_count: usize,
    not_drawn: String,
    rungs: Vec<Row>,
    best: usize,
    tensors: Vec<TensorName>,
    /// Formats, each once.
    formats: Vec<String>,
    /// What a script needs to show another rung.
    details: Vec<Detail>,
    /// Outlines of memory over time, each once.
    timelines: Vec<Timeline>,
    any_cost: bool,
    any_parts: bool,
}

#[derive(Serialize)]
struct TensorName {
    name: String,
    shape: String,
}

impl View {
    /// The view of a page.
    pub fn new(page: &Page) -> View {
        let (mut formats, mut timelines) = (Table::new(), Table::new());
        let details =
            page.rungs.iter().map(|rung| detail(rung, &page.order, &mut formats, &mut timelines)).collect();
        let metric = page.rungs.iter().find(|r| r.quality.is_some()).map_or("", |r| r.metric.as_str());
        View {
            title: clipped(&page.name),
            figures_of_all: figures_of_all(page),
            facts: facts(page),
            metadata: other_metadata(page),
            notes: notes(page),
            metric: metric_name(metric),
            figures: figures(page, &metric_name(metric)),
            subnets: subnets(page, &metric_name(metric)),
            subnet_count: page.subnets.as_ref().map_or(0, |subnets| subnets.all.len()),
            not_drawn: not_drawn(page),
            rungs: page.rungs.iter().map(|rung| row(page, rung)).collect(),
            best: page.best,
            tensors: tensors(page),
            formats: formats.values,
            details,
            timelines: timelines.values,
            any_cost: page
                .rungs
                .iter()
                .flat_map(|r| r.layers.iter().flatten())
                .any(|l| l.cost != Cost::Unknown),
            any_parts: page.rungs.iter().any(|r| r.parts.is_some()),
        }
    }
}

/// What stands at the head of the page, large.
fn figures_of_all(page: &Page) -> Vec<(&'static str, String, String)> {
    let mut figures = vec![("File", size(page.file_bytes), clipped(&page.pack))];
    let count = |acts| page.rungs.iter().filter(|r| r.acts == acts).count();
    let kinds = format!("{} f32, {} i8", count(Acts::F32), count(Acts::I8));
    figures.push(("Rungs", page.rungs.len().to_string(), kinds));
    let value = |r: &&RungFigures| r.quality.unwrap_or(f32::NEG_INFINITY);
    let best = |wanted: &dyn Fn(&RungFigures) -> bool| {
        let of = page.rungs.iter().filter(|r| wanted(r) && r.quality.is_some_and(f32::is_finite));
        of.max_by(|a, b| value(a).total_cmp(&value(b)))
    };
    for (name, best) in [("Best quality", best(&|_| true)), ("Best i8 rung", best(&|r| r.acts == Acts::I8))] {
        let more = |r: &RungFigures| format!("{}, {}", clipped(&r.id), size(r.bytes));
        figures.extend(best.and_then(|r| Some((name, quality(r)?, more(r)))));
    }
    if let Some(least) = page.rungs.iter().min_by_key(|r| r.bytes) {
        let quality = quality(least).map(|q| format!(", {q}")).unwrap_or_default();
        figures.push(("Smallest rung", size(least.bytes), format!("{}{quality}", clipped(&least.id))));
    }
    figures
}

/// What stands below, small: what the figures are of.
fn facts(page: &Page) -> Vec<(&'static str, String)> {
    let text = |key: &str| page.metadata.get(key).map(|text| clipped(text));
    let mut facts: Vec<(&'static str, String)> = Vec::new();
    facts.extend(text("source").map(|source| ("Source", source)));
    let measured = page.rungs.iter().find(|r| r.quality.is_some()).map(|r| clipped(&r.measured_on));
    facts.extend(measured.map(|on| ("Quality measured on", on)));
    facts.extend(text("witness").map(|said| ("Independent engine", said)));
    let shapes: Vec<String> =
        page.inputs.iter().map(|(name, dims)| format!("{} {dims:?}", clipped(name))).collect();
    facts.push(("Planned for", format!("{}: {}", shapes.join(", "), clipped(&page.samples))));
    let m = &page.machine;
    let plural = if m.threads == 1 { "" } else { "s" };
    facts.extend(page.device.as_ref().map(|device| ("Latencies expected of", clipped(device))));
    let what = if page.device.is_some() { "Planned on" } else { "Planned and timed on" };
    facts.push((what, format!("{}, {}, {} thread{plural}", clipped(&m.cpu), m.isa, m.threads)));
    facts
}

fn other_metadata(page: &Page) -> Vec<(String, String)> {
    let shown = |key: &str| matches!(key, "source" | "witness");
    let mut rest: Vec<(String, String)> = page
        .metadata
        .iter()
        .filter(|(key, _)| !shown(key))
        .map(|(key, text)| (clipped(key), clipped(text)))
        .collect();
    rest.extend(page.reference.as_ref().map(|engine| ("golden outputs".to_string(), clipped(engine))));
    rest
}

/// What a reader must know before the figures.
fn notes(page: &Page) -> Vec<String> {
    let mut notes = Vec::new();
    if page.missing_bytes > 0 {
        notes.push(format!("The file is cut: {} are missing.", size(page.missing_bytes)));
    }
    notes.extend(
        page.not_planned.as_ref().map(|why| format!("Memory was not planned: {}.", cut(why, SENTENCE))),
    );
    if let Some(spread) = page.spread.filter(|spread| *spread > BUSY) {
        notes.push(format!(
            "The machine did something else as well: two medians of one rung differ by a factor of up to {spread:.1}. \
             Latencies are not to be relied on."
        ));
    }
    notes.extend(
        page.not_timed.as_ref().map(|why| format!("Latency was not measured: {}.", cut(why, SENTENCE))),
    );
    notes
}

/// The names that rungs have for their tensors.
fn tensors(page: &Page) -> Vec<TensorName> {
    let layer = |t: usize| page.rungs.iter().find_map(|r| r.layers.get(t)?.as_ref());
    let name = |t: usize| match layer(t) {
        Some(l) => TensorName { name: clipped(&l.name), shape: format!("{} × {}", l.dims[0], l.dims[1]) },
        None => TensorName { name: String::new(), shape: String::new() },
    };
    page.order.iter().copied().map(name).collect()
}
