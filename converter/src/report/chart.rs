//! Geometry of the page's charts: numbers in, places and SVG paths out. Whatever is text is the template's.

use serde::Serialize;
use std::fmt::Write;
use std::ops::Range;

/// Size of a chart of points in units of CSS pixels: what a phone shows unscaled.
const WIDTH: f64 = 380.0;
const HEIGHT: f64 = 250.0;
/// Where its points lie.
const ACROSS: Range<f64> = 44.0..366.0;
const DOWN: Range<f64> = 14.0..210.0;
/// Steps between ticks of an axis, at most.
const STEPS: f64 = 6.5;
/// Room past the values at either end, as a share of their range.
const ROOM: f64 = 0.04;
/// Size of the areas' coordinates; the page stretches them.
const AREA: [f64; 2] = [1000.0, 200.0];
/// Columns of an area at most: more than a screen shows.
const COLUMNS: usize = 800;
/// Width of a letter of a label, generously.
const LETTER: f64 = 6.8;
/// Room between a label and its point.
const ASIDE: f64 = 9.0;

/// A range of numbers with ticks at round ones.
#[derive(Clone, Debug, PartialEq)]
pub struct Axis {
    low: f64,
    high: f64,
    step: f64,
}

impl Axis {
    /// An axis that holds all finite values, from 0 when the least of them is nearer to it than to the greatest; `None` when none is
    /// finite.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Axis> {
        let finite: Vec<f64> = values.into_iter().filter(|v| v.is_finite()).collect();
        let mut low = finite.iter().copied().reduce(f64::min)?;
        let mut high = finite.iter().copied().reduce(f64::max)?;
        if low > 0.0 && low < 0.5 * high {
            low = 0.0;
        }
        if high - low <= 1e-9 * high.abs() {
            let room = if high == 0.0 { 1.0 } else { 0.1 * high.abs() };
            (low, high) = (low - room, high + room);
        }
        let room = ROOM * (high - low);
        // 0 is an end of its own.
        let low = if low == 0.0 { low } else { low - room };
        let high = high + room;
        Some(Axis { low, high, step: round_step((high - low) / STEPS) })
    }

    /// The high end.
    pub fn high(&self) -> f64 {
        self.high
    }

    /// Where a value lies: 0 at the low end, 1 at the high one.
    pub fn place(&self, value: f64) -> f64 {
        (value - self.low) / (self.high - self.low)
    }

    /// The values at the ticks, from low to high.
    pub fn ticks(&self) -> Vec<f64> {
        // Within rounding: an end may be a tick.
        let [first, last] = [(self.low / self.step - 1e-6).ceil(), (self.high / self.step + 1e-6).floor()];
        // Adding 0 makes 0 of what is -0.
        (0..=(last - first).max(0.0) as usize).map(|i| (first + i as f64) * self.step + 0.0).collect()
    }

    /// Digits after the point that tell ticks apart.
    pub fn digits(&self) -> usize {
        (-self.step.log10().floor()).max(0.0) as usize
    }
}

/// The least of 1, 2, 5, 10, 20, ... and of their tenths that is not below `least`.
fn round_step(least: f64) -> f64 {
    let unit = 10f64.powf(least.log10().floor());
    // Just below 1 lies what is 1 but for rounding.
    [1.0, 2.0, 5.0].map(|s| s * unit).into_iter().find(|s| *s >= least * (1.0 - 1e-9)).unwrap_or(10.0 * unit)
}

/// One rung of a chart.
#[derive(Clone, Debug)]
pub struct Point {
    /// The rung, as an index into the page's; `None`: a point without a label.
    pub rung: Option<usize>,
    /// Across.
    pub x: f64,
    /// Up.
    pub y: f64,
    /// Its name.
    pub name: String,
    /// Its figures.
    pub figures: String,
}

/// Rungs that belong together.
#[derive(Clone, Debug)]
pub struct Series {
    /// What they have in common, also the style's name.
    pub name: &'static str,
    /// In ladder order; those that are not finite are left out.
    pub points: Vec<Point>,
}

/// A chart of points, laid out.
#[derive(Clone, Debug, Serialize)]
pub struct Chart {
    width: f64,
    height: f64,
    left: f64,
    right: f64,
    top: f64,
    bottom: f64,
    x_ticks: Vec<Tick>,
    y_ticks: Vec<Tick>,
    lines: Vec<Line>,
    marks: Vec<Mark>,
}

#[derive(Clone, Debug, Serialize)]
struct Tick {
    at: f64,
    text: String,
}

#[derive(Clone, Debug, Serialize)]
struct Line {
    class: &'static str,
    path: String,
}

/// A point and its label.
#[derive(Clone, Debug, Serialize)]
struct Mark {
    class: &'static str,
    rung: Option<usize>,
    x: f64,
    y: f64,
    name: String,
    figures: String,
    /// Left edge of the label, and its width.
    label: [f64; 2],
    /// Upper edge of the label.
    label_top: f64,
}

/// Height of a label: two lines.
const LABEL_HEIGHT: f64 = 36.0;

impl Chart {
    /// Lays out series in one chart, the best points of each joined; `None` without a single finite point.
    pub fn new(series: &[Series]) -> Option<Chart> {
        let finite = |p: &&Point| p.x.is_finite() && p.y.is_finite();
        let points = || series.iter().flat_map(|s| &s.points).filter(finite);
        let across = Axis::of(points().map(|p| p.x))?;
        let up = Axis::of(points().map(|p| p.y))?;
        let x = |value: f64| tenth(ACROSS.start + across.place(value) * (ACROSS.end - ACROSS.start));
        let y = |value: f64| tenth(DOWN.end - up.place(value) * (DOWN.end - DOWN.start));
        let (mut lines, mut marks) = (Vec::new(), Vec::new());
        for series in series {
            let points: Vec<&Point> = series.points.iter().filter(finite).collect();
            let best = frontier(points.iter().map(|p| (p.x, p.y)).collect());
            let places: Vec<(f64, f64)> = best.into_iter().map(|(a, b)| (x(a), y(b))).collect();
            lines.push(Line { class: series.name, path: path(&places) });
            marks.extend(points.into_iter().map(|p| Mark::new(series.name, p, x(p.x), y(p.y))));
        }
        let tick = |axis: &Axis, value: f64, at: f64| Tick { at, text: format!("{value:.*}", axis.digits()) };
        Some(Chart {
            width: WIDTH,
            height: HEIGHT,
            left: ACROSS.start,
            right: ACROSS.end,
            top: DOWN.start,
            bottom: DOWN.end,
            x_ticks: across.ticks().into_iter().map(|v| tick(&across, v, x(v))).collect(),
            y_ticks: up.ticks().into_iter().map(|v| tick(&up, v, y(v))).collect(),
            lines,
            marks,
        })
    }
}

impl Mark {
    fn new(class: &'static str, point: &Point, x: f64, y: f64) -> Mark {
        let letters = point.name.chars().count().max(point.figures.chars().count());
        let width = (letters as f64 * LETTER + 12.0).min(WIDTH);
        // Beside its point, on the side that has room, and never past an edge.
        let aside = if x < WIDTH / 2.0 { x + ASIDE } else { x - ASIDE - width };
        let left = aside.clamp(0.0, WIDTH - width);
        let above = y - LABEL_HEIGHT - ASIDE;
        let label_top = tenth(if above < 0.0 { y + ASIDE } else { above });
        let (name, figures) = (point.name.clone(), point.figures.clone());
        Mark { class, rung: point.rung, x, y, name, figures, label: [tenth(left), tenth(width)], label_top }
    }
}

/// Of points, those that are better than all that lie left of them.
fn frontier(mut points: Vec<(f64, f64)>) -> Vec<(f64, f64)> {
    points.sort_by(|a, b| a.0.total_cmp(&b.0).then(b.1.total_cmp(&a.1)));
    let mut best = f64::NEG_INFINITY;
    points.retain(|(_, y)| {
        let better = *y > best;
        best = best.max(*y);
        better
    });
    points
}

fn path(points: &[(f64, f64)]) -> String {
    let mut path = String::new();
    for (i, (x, y)) in points.iter().enumerate() {
        // Writing to a string does not fail.
        let _ = write!(path, "{}{x} {y}", if i == 0 { 'M' } else { 'L' });
    }
    path
}

fn tenth(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

/// The outline of values that follow each other, each as wide as the next, in a box of 1000 x 200: from its lower left corner to its
/// lower right one, `top` being its upper edge. Of many values the greatest of each column.
pub fn area(values: &[usize], top: f64) -> String {
    let columns = values.len().min(COLUMNS);
    let mut path = format!("M0 {}", AREA[1]);
    for column in 0..columns {
        let range = column * values.len() / columns..(column + 1) * values.len() / columns;
        let most = values[range].iter().copied().max().unwrap_or(0) as f64;
        let y = AREA[1] * (1.0 - if top > 0.0 { most / top } else { 0.0 });
        let end = AREA[0] * (column + 1) as f64 / columns as f64;
        let _ = write!(path, "V{}H{}", tenth(y), tenth(end));
    }
    let _ = write!(path, "V{}Z", AREA[1]);
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(rung: usize, x: f64, y: f64) -> Point {
        Point { rung: Some(rung), x, y, name: format!("w{rung}"), figures: format!("{x} MB, {y} dB") }
    }

    fn series(points: Vec<Point>) -> Vec<Series> {
        vec![Series { name: "f32", points }]
    }

    #[test]
    fn ticks_are_round_and_hold_all_values() {
        let texts = |values: &[f64]| -> Vec<String> {
            let axis = Axis::of(values.iter().copied()).unwrap();
            axis.ticks().iter().map(|t| format!("{t:.*}", axis.digits())).collect()
        };
        assert_eq!(texts(&[3.0, 9.7]), ["0", "2", "4", "6", "8", "10"]);
        assert_eq!(texts(&[10.2, 11.1]), ["10.2", "10.4", "10.6", "10.8", "11.0"]);
        assert_eq!(texts(&[-3.5, 48.0]), ["0", "10", "20", "30", "40", "50"]);
        assert_eq!(texts(&[0.001, 0.0042]), ["0.000", "0.001", "0.002", "0.003", "0.004"]);
        assert_eq!(texts(&[0.0, 2.63]), ["0.0", "0.5", "1.0", "1.5", "2.0", "2.5"]);
        for values in [[5.0, 5.0], [0.0, 0.0], [-2.0, -2.0], [1e-30, 1e-30], [1e30, 1.0]] {
            let axis = Axis::of(values).unwrap();
            let place = axis.place(values[0]);
            assert!((0.0..=1.0).contains(&place) && (2..10).contains(&axis.ticks().len()), "{values:?}");
        }
    }

    #[test]
    fn what_is_not_finite_is_no_point() {
        assert_eq!(Axis::of([]), None);
        assert_eq!(Axis::of([f64::NAN, f64::INFINITY]), None);
        assert!(Chart::new(&series(vec![point(0, 1.0, f64::NAN)])).is_none());
        let chart = Chart::new(&series(vec![
            point(0, 1.0, 2.0),
            point(1, 2.0, f64::NAN),
            point(2, f64::INFINITY, 3.0),
        ]));
        let chart = chart.unwrap();
        assert_eq!(chart.marks.len(), 1);
        assert!(!chart.lines[0].path.contains("NaN") && !chart.lines[0].path.contains("inf"));
    }

    #[test]
    fn points_lie_inside_and_more_is_right_and_up() {
        let chart = Chart::new(&series(vec![point(0, 1.0, 5.0), point(1, 4.0, 30.0)])).unwrap();
        let [a, b] = &chart.marks[..] else { panic!("{chart:?}") };
        assert!(a.x < b.x && a.y > b.y);
        for mark in [a, b] {
            assert!(ACROSS.start <= mark.x && mark.x <= ACROSS.end, "{mark:?}");
            assert!(DOWN.start <= mark.y && mark.y <= DOWN.end, "{mark:?}");
            assert!(mark.label[0] >= 0.0 && mark.label[0] + mark.label[1] <= WIDTH, "{mark:?}");
            assert!(mark.label_top >= 0.0 && mark.label_top + LABEL_HEIGHT <= HEIGHT, "{mark:?}");
        }
        assert_eq!(chart.lines[0].path, format!("M{} {}L{} {}", a.x, a.y, b.x, b.y));
    }

    #[test]
    fn a_frontier_leaves_out_what_another_beats() {
        let points = vec![(3.0, 20.0), (1.0, 10.0), (2.0, 9.0), (1.0, 8.0), (4.0, 20.0), (5.0, 30.0)];
        assert_eq!(frontier(points), [(1.0, 10.0), (3.0, 20.0), (5.0, 30.0)]);
    }

    #[test]
    fn areas_are_steps_from_corner_to_corner() {
        assert_eq!(area(&[50, 100], 100.0), "M0 200V100H500V0H1000V200Z");
        assert_eq!(area(&[], 100.0), "M0 200V200Z");
        assert_eq!(area(&[0], 0.0), "M0 200V200H1000V200Z");
        // The one great value of many is not lost.
        let mut many = vec![1; 10 * COLUMNS + 7];
        many[4321] = 100;
        let outline = area(&many, 100.0);
        assert!(outline.contains("V0H") && outline.matches('H').count() == COLUMNS, "{outline}");
    }
}
