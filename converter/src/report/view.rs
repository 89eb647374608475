//! The page's figures in the words, numbers and charts that its template shows.

use super::chart::{Axis, Chart, Joined, Point, Series, area};
use super::page::{Cost, Lack, Layer, Page, Planned, RungFigures, rounded};
use edge_runtime::pack::Acts;
use serde::Serialize;
use std::collections::BTreeMap;

/// Letters of a name at most.
const LETTERS: usize = 120;
/// Tensors of one change that are named.
const NAMED: usize = 60;

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
}

/// One chart.
#[derive(Serialize)]
struct Figure {
    title: &'static str,
    axes: String,
    chart: Option<Chart>,
    /// Why there is none, or what to know about it.
    note: String,
}

/// A row of the ladder's table.
#[derive(Serialize)]
struct Row {
    id: String,
    acts: &'static str,
    bytes: String,
    exact_bytes: u64,
    peak: String,
    arena: String,
    quality: String,
    latency: String,
    bits: String,
    trouble: Option<String>,
    finer: Option<String>,
    changes: String,
    lacks: Vec<Change>,
}

/// Tensors that change alike.
#[derive(Serialize)]
struct Change {
    what: String,
    tensors: Vec<String>,
    more: usize,
}

#[derive(Serialize)]
struct TensorName {
    name: String,
    shape: String,
}

/// A rung's layers and memory.
#[derive(Serialize)]
struct Detail {
    summary: String,
    timeline: Option<usize>,
    /// By tensor.
    layers: Vec<Option<Bar>>,
}

/// Bytes, their bar in percent, format, cost, its bar in percent.
#[derive(Serialize)]
struct Bar(String, f64, usize, String, f64);

/// Memory over time.
#[derive(Clone, PartialEq, Serialize)]
struct Timeline {
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

impl View {
    /// The view of a page.
    pub fn new(page: &Page) -> View {
        let (mut formats, mut timelines) = (Table::default(), Table::default());
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
            not_drawn: not_drawn(page),
            rungs: page.rungs.iter().map(|rung| row(page, rung)).collect(),
            best: page.best,
            tensors: tensors(page),
            formats: formats.0,
            details,
            timelines: timelines.0,
            any_cost: layers(page).any(|l| l.cost != Cost::Unknown),
        }
    }
}

/// Values that are stored once.
struct Table<T>(Vec<T>);

impl<T> Default for Table<T> {
    fn default() -> Table<T> {
        Table(Vec::new())
    }
}

impl<T: PartialEq> Table<T> {
    fn index(&mut self, value: T) -> usize {
        self.0.iter().position(|v| *v == value).unwrap_or_else(|| {
            self.0.push(value);
            self.0.len() - 1
        })
    }
}

fn layers(page: &Page) -> impl Iterator<Item = &Layer> {
    page.rungs.iter().flat_map(|r| r.layers.iter().flatten())
}

/// Bytes as people read them.
pub fn size(bytes: u64) -> String {
    match bytes {
        0..1_000 => format!("{bytes} B"),
        1_000..10_000 => format!("{:.2} kB", bytes as f64 / 1e3),
        10_000..1_000_000 => format!("{:.0} kB", bytes as f64 / 1e3),
        1_000_000..100_000_000 => format!("{:.2} MB", bytes as f64 / 1e6),
        100_000_000..1_000_000_000 => format!("{:.0} MB", bytes as f64 / 1e6),
        _ => format!("{:.2} GB", bytes as f64 / 1e9),
    }
}

/// A rung's latency; `None` when it has none.
fn latency(rung: &RungFigures) -> Option<String> {
    let ms = rung.latency_ms.filter(|ms| ms.is_finite())?;
    Some(match ms {
        ..10.0 => format!("{ms:.2} ms"),
        ..100.0 => format!("{ms:.1} ms"),
        _ => format!("{ms:.0} ms"),
    })
}

/// A name that may come from anybody, cut to what a page has room for.
fn clipped(name: &str) -> String {
    match name.char_indices().nth(LETTERS) {
        Some((cut, _)) => format!("{}…", &name[..cut]),
        None => name.to_string(),
    }
}

fn metric_name(metric: &str) -> String {
    match metric {
        "" => "quality".to_string(),
        "sqnr_db" => "SQNR in dB".to_string(),
        "top1_percent" => "top-1 in %".to_string(),
        other => clipped(other),
    }
}

/// A rung's quality; `None` when it has none.
fn quality(rung: &RungFigures) -> Option<String> {
    let value = rung.quality.filter(|q| q.is_finite())?;
    Some(match rung.metric.as_str() {
        "sqnr_db" if is_exact(rung) => "exact".to_string(),
        "sqnr_db" => decibels(value),
        "top1_percent" => format!("{value:.1} %"),
        _ => format!("{value:.2}"),
    })
}

/// Whether a rung's outputs are the float model's: the ratio is at its greatest.
fn is_exact(rung: &RungFigures) -> bool {
    rung.metric == "sqnr_db" && rung.quality.is_some_and(|q| q > 199.9)
}

fn decibels(value: f32) -> String {
    // A minus of its own width; adding 0 makes 0 of what is -0.
    format!("{:.1} dB", (10.0 * value).round() / 10.0 + 0.0).replace('-', "−")
}

fn acts(rung: &RungFigures) -> &'static str {
    if rung.acts == Acts::I8 { "i8" } else { "f32" }
}

/// What stands at the head of the page, large.
fn figures_of_all(page: &Page) -> Vec<(&'static str, String, String)> {
    let mut figures = vec![("File", size(page.file_bytes), clipped(&page.pack))];
    let count = |acts| page.rungs.iter().filter(|r| r.acts == acts).count();
    let kinds = format!("{} f32, {} i8", count(Acts::F32), count(Acts::I8));
    figures.push(("Rungs", page.rungs.len().to_string(), kinds));
    let value = |r: &&RungFigures| r.quality.unwrap_or(f32::NEG_INFINITY);
    let best = |acts| {
        let of = page.rungs.iter().filter(|r| r.acts == acts && r.quality.is_some_and(f32::is_finite));
        of.max_by(|a, b| value(a).total_cmp(&value(b)))
    };
    for (name, acts) in [("Best quality", Acts::F32), ("Best i8 rung", Acts::I8)] {
        let more = |r: &RungFigures| format!("{}, {}", clipped(&r.id), size(r.bytes));
        figures.extend(best(acts).and_then(|r| Some((name, quality(r)?, more(r)))));
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
    facts.push((
        "Planned and timed on",
        format!("{}, {}, {} thread{plural}", clipped(&m.cpu), m.isa, m.threads),
    ));
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

/// What the charts leave out.
fn not_drawn(page: &Page) -> String {
    let exact = page.rungs.iter().filter(|r| is_exact(r));
    let names: Vec<String> = exact.map(|r| format!("{} ({})", clipped(&r.id), size(r.bytes))).collect();
    match names[..] {
        [] => String::new(),
        _ => format!("Not drawn, because exact: {}.", names.join(", ")),
    }
}

/// What a reader must know before the figures.
fn notes(page: &Page) -> Vec<String> {
    let mut notes = Vec::new();
    if page.missing_bytes > 0 {
        notes.push(format!("The file is cut: {} are missing.", size(page.missing_bytes)));
    }
    notes.extend(page.not_planned.as_ref().map(|why| format!("Memory was not planned: {why}.")));
    notes.extend(page.not_timed.as_ref().map(|why| format!("Latency was not measured: {why}.")));
    notes
}

fn figures(page: &Page, metric: &str) -> Vec<Figure> {
    let sizes = |rung: &RungFigures| Some(rung.bytes as f64);
    let peaks = |rung: &RungFigures| rung.planned.as_ref().map(|p| p.peak() as f64);
    let times = |rung: &RungFigures| rung.latency_ms;
    let memory = |title, of: &dyn Fn(&RungFigures) -> Option<f64>, what: &str, note: &str| {
        let most = page.rungs.iter().filter_map(of).fold(0.0, f64::max);
        let (unit, name) = if most < 1e6 { (1e3, "kB") } else { (1e6, "MB") };
        let series = series(page, &|r| of(r).map(|bytes| bytes / unit), &|r| of(r).map(|b| size(b as u64)));
        Figure {
            title,
            axes: format!("{metric}, against {what} in {name}"),
            chart: Chart::new(&series, Joined::InOrder),
            note: note.to_string(),
        }
    };
    let series = series(page, &times, &latency);
    let m = &page.machine;
    let timed = format!(
        "The least of {} medians of {} runs, with room for fast plans. Lines: the best for so much time.",
        m.rounds, m.runs
    );
    let missing = |why: &Option<String>| why.as_ref().map(|why| format!("Not measured: {why}."));
    vec![
        memory("Quality and weights", &sizes, "weights", "What a rung reads of the file."),
        memory(
            "Quality and memory",
            &peaks,
            "planned peak",
            "Weights, arena and plan, weights resident and pictures whole; what the program itself holds comes on top.",
        ),
        Figure {
            title: "Quality and latency",
            axes: format!("{metric}, against milliseconds a run"),
            chart: Chart::new(&series, Joined::Frontier),
            note: missing(&page.not_timed).unwrap_or(timed),
        },
    ]
}

/// Rungs of f32 and of i8 activations.
fn series(
    page: &Page,
    x: &dyn Fn(&RungFigures) -> Option<f64>,
    shown: &dyn Fn(&RungFigures) -> Option<String>,
) -> Vec<Series> {
    let point = |(i, r): (usize, &RungFigures)| {
        // Beside what is exact, all else would look alike.
        if is_exact(r) {
            return None;
        }
        let figures = format!("{}, {}", quality(r)?, shown(r)?);
        Some(Point { rung: i, x: x(r)?, y: f64::from(r.quality?), name: r.id.clone(), figures })
    };
    let of = |name: &'static str| {
        let points = page.rungs.iter().enumerate().filter(|(_, r)| acts(r) == name).filter_map(point);
        Series { name, points: points.collect() }
    };
    vec![of("f32"), of("i8")]
}

fn row(page: &Page, rung: &RungFigures) -> Row {
    let none = || "–".to_string();
    let planned = rung.planned.as_ref();
    Row {
        id: clipped(&rung.id),
        acts: acts(rung),
        bytes: size(rung.bytes),
        exact_bytes: rung.bytes,
        peak: planned.map_or_else(none, |p| size(p.peak())),
        arena: planned.map_or_else(none, |p| size(p.arena)),
        quality: quality(rung).unwrap_or_else(none),
        latency: latency(rung).unwrap_or_else(none),
        bits: format!("{:.1}", rung.mean_bits),
        trouble: rung.trouble.clone(),
        finer: rung.finer.map(|finer| clipped(&page.rungs[finer].id)),
        changes: match rung.lacks.len() {
            1 => "1 tensor".to_string(),
            count => format!("{count} tensors"),
        },
        lacks: changes(rung, &rung.lacks),
    }
}

/// Tensors by what becomes of them, the most first.
fn changes(rung: &RungFigures, lacks: &[Lack]) -> Vec<Change> {
    let mut alike: BTreeMap<(&str, &str), Vec<usize>> = BTreeMap::new();
    for lack in lacks {
        alike.entry((&lack.from, &lack.to)).or_default().push(lack.tensor);
    }
    let mut alike: Vec<_> = alike.into_iter().collect();
    alike.sort_by_key(|(_, tensors)| std::cmp::Reverse(tensors.len()));
    let name = |t: &usize| rung.layers[*t].as_ref().map(|l| clipped(&l.name)).unwrap_or_default();
    let change = |((from, to), tensors): ((&str, &str), Vec<usize>)| Change {
        what: format!("{from} → {to}"),
        tensors: tensors.iter().take(NAMED).map(name).collect(),
        more: tensors.len().saturating_sub(NAMED),
    };
    alike.into_iter().map(change).collect()
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

fn detail(
    rung: &RungFigures,
    order: &[usize],
    formats: &mut Table<String>,
    timelines: &mut Table<Timeline>,
) -> Detail {
    let all = || rung.layers.iter().flatten();
    let most = all().map(|l| l.bytes).max().unwrap_or(0).max(1) as f64;
    let noise = |l: &Layer| match l.cost {
        Cost::Db(db) => 10f64.powf(f64::from(db) / -10.0),
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
        Bar(size(l.bytes), bytes, formats.index(l.format.clone()), cost, percent(noise(l) / loudest))
    };
    let layers = order.iter().map(|t| rung.layers.get(*t)?.as_ref().map(&mut bar)).collect();
    let mut summary =
        format!("{}: {} of weights, {} bits a weight", rung.id, size(rung.bytes), rounded(rung.mean_bits));
    summary.extend(quality(rung).map(|q| format!(", {q}")));
    let planned = rung.planned.as_ref().filter(|p| !p.live.is_empty());
    Detail { summary, timeline: planned.map(|p| timelines.index(timeline(p))), layers }
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
