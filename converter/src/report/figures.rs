//! The page's charts: quality against weights, memory, and time.

use super::chart::{Chart, Point, Series};
use super::page::{Page, RungFigures, SubnetFigures};
use super::words::{acts, clipped, is_exact, latency, quality, size};
use serde::Serialize;

/// One chart.
#[derive(Serialize)]
pub(super) struct Figure {
    title: &'static str,
    axes: String,
    chart: Option<Chart>,
    /// Why there is none, or what to know about it.
    note: String,
}

pub(super) fn figures(page: &Page, metric: &str) -> Vec<Figure> {
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
            chart: Chart::new(&series),
            note: note.to_string(),
        }
    };
    let series = series(page, &times, &latency);
    let m = &page.machine;
    let timed = match &page.device {
        Some(device) => format!(
            "Not measured but expected of {}, by its profile of steps. Lines: the best for so much time.",
            clipped(device)
        ),
        None => format!(
            "The least of {} medians of {} runs, with room for fast plans. Lines: the best for so much time.",
            m.rounds, m.runs
        ),
    };
    let missing = |why: &Option<String>| why.as_ref().map(|why| format!("Not measured: {}.", clipped(why)));
    vec![
        memory(
            "Quality and weights",
            &sizes,
            "weights",
            "What a rung reads of the file. Lines: the best for so many bytes.",
        ),
        memory(
            "Quality and memory",
            &peaks,
            "planned peak",
            "Weights, arena and plan, weights resident and pictures whole; what the program itself holds comes on top. Lines: the best for so much memory.",
        ),
        Figure {
            title: "Quality and latency",
            axes: format!("{metric}, against milliseconds a run"),
            chart: Chart::new(&series),
            note: missing(&page.not_timed).unwrap_or(timed),
        },
    ]
}

/// Charts of a supernet's subnets: all that the pack knows, and those that have rungs.
pub(super) fn subnets(page: &Page, metric: &str) -> Vec<Figure> {
    let Some(subnets) = &page.subnets else { return Vec::new() };
    let chart = |x: &dyn Fn(&SubnetFigures) -> f64, shown: &dyn Fn(&SubnetFigures) -> String| {
        let point = |s: &SubnetFigures| {
            let rung = s.rung.and_then(|rung| page.rungs.get(rung));
            Point {
                rung: s.rung,
                x: x(s),
                y: f64::from(s.quality),
                name: rung.map(|rung| clipped(&rung.id)).unwrap_or_default(),
                figures: rung.and_then(quality).map(|q| format!("{q}, {}", shown(s))).unwrap_or_default(),
            }
        };
        let (own, others): (Vec<Point>, Vec<Point>) =
            subnets.all.iter().map(point).partition(|point| point.rung.is_some());
        Chart::new(&[Series { name: "subnet", points: others }, Series { name: "f32", points: own }])
    };
    let weights = |s: &SubnetFigures| f64::from(s.weights) / 1e6;
    let work = |s: &SubnetFigures| f64::from(s.work) / 1e3;
    let (of_work, unit) = match &subnets.device {
        Some(device) => (format!("milliseconds on {}", clipped(device)), "ms"),
        None => ("millions of multiply-adds".to_string(), "million multiply-adds"),
    };
    vec![
        Figure {
            title: "Quality and size of subnets",
            axes: format!("{metric}, against millions of weights"),
            chart: chart(&weights, &|s| format!("{:.3} million weights", weights(s))),
            note: "Large points: subnets with rungs, at their best with floats between layers. Small ones: what is expected of further subnets with the statistics of the nearest of these."
                .to_string(),
        },
        Figure {
            title: "Quality and work of subnets",
            axes: format!("{metric}, against {of_work}"),
            chart: chart(&work, &|s| format!("{:.3} {unit}", work(s))),
            note: format!("Lines: the best for so much work. Expectations were off by {:.1} where they were measured.", subnets.spread),
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
        Some(Point { rung: Some(i), x: x(r)?, y: f64::from(r.quality?), name: clipped(&r.id), figures })
    };
    let of = |name: &'static str| {
        let points = page.rungs.iter().enumerate().filter(|(_, r)| acts(r) == name).filter_map(point);
        Series { name, points: points.collect() }
    };
    vec![of("f32"), of("i8")]
}

/// What the charts leave out.
pub(super) fn not_drawn(page: &Page) -> String {
    let exact = page.rungs.iter().filter(|r| is_exact(r));
    let names: Vec<String> = exact.map(|r| format!("{} ({})", clipped(&r.id), size(r.bytes))).collect();
    match names[..] {
        [] => String::new(),
        _ => format!("Not drawn, because exact: {}.", names.join(", ")),
    }
}
