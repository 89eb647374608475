//! The range of every value, from runs of real samples.

use crate::error::ConvertError;
use crate::measure::Evaluator;
use crate::samples::Sample;
use edge_runtime::graph::Graph;
use edge_runtime::pack::Rung;
use std::sync::Arc;

/// Bins of the histogram of magnitudes.
const BINS: usize = 2048;

/// What was seen of one value.
#[derive(Clone)]
struct Seen {
    min: f32,
    max: f32,
    /// Counts of elements by position between `min` and `max` of the first pass.
    bins: Vec<u32>,
}

/// Ranges by value, `None` for values that no run computes as floats.
///
/// Of each value the range is the one that costs least squared error with 256 levels: clipping a few outliers
/// may buy finer steps for all others.
///
/// # Errors
/// When a sample does not suit the model.
pub fn ranges(
    evaluator: &Evaluator<'_>,
    model: &Arc<edge_runtime::Model>,
    rung: &Rung,
    graph: &Graph,
    samples: &[Sample],
) -> Result<Vec<Option<(f32, f32)>>, ConvertError> {
    let mut seen: Vec<Option<Seen>> = vec![None; graph.values.len()];
    evaluator.observe(model, rung, samples, |value, x| {
        let finite = x.iter().copied().filter(|v| v.is_finite());
        let (lo, hi) = finite.fold((f32::INFINITY, f32::NEG_INFINITY), |(lo, hi), v| (lo.min(v), hi.max(v)));
        if lo > hi {
            return;
        }
        let entry = &mut seen[value as usize];
        let s = entry.get_or_insert_with(|| Seen { min: lo, max: hi, bins: Vec::new() });
        (s.min, s.max) = (s.min.min(lo), s.max.max(hi));
    })?;
    evaluator.observe(model, rung, samples, |value, x| {
        let Some(s) = &mut seen[value as usize] else { return };
        s.bins.resize(BINS, 0);
        let scale = BINS as f32 / (s.max - s.min).max(f32::MIN_POSITIVE);
        for v in x.iter().filter(|v| v.is_finite()) {
            let bin = ((v - s.min) * scale) as usize;
            s.bins[bin.min(BINS - 1)] += 1;
        }
    })?;
    Ok(seen.into_iter().map(|s| s.map(|s| best_range(&s))).collect())
}

/// Elements of each value in the runs of some samples, 0 for values that no run computes as floats.
///
/// # Errors
/// When a sample does not suit the model.
pub fn elements(
    evaluator: &Evaluator<'_>,
    model: &Arc<edge_runtime::Model>,
    rung: &Rung,
    graph: &Graph,
    samples: &[Sample],
) -> Result<Vec<usize>, ConvertError> {
    let mut elements = vec![0; graph.values.len()];
    evaluator.observe(model, rung, samples, |value, x| elements[value as usize] += x.len())?;
    Ok(elements)
}

/// Shrinks the two ends in small steps as long as the expected squared error falls.
fn best_range(seen: &Seen) -> (f32, f32) {
    let (lo, hi) = (f64::from(seen.min.min(0.0)), f64::from(seen.max.max(0.0)));
    let mut best = (lo, hi, error(seen, lo, hi));
    for shrink_lo in 0..12 {
        for shrink_hi in 0..12 {
            let (a, b) = (lo * 0.94f64.powi(shrink_lo), hi * 0.94f64.powi(shrink_hi));
            let e = error(seen, a, b);
            if e < best.2 {
                best = (a, b, e);
            }
        }
    }
    (best.0 as f32, best.1 as f32)
}

/// Expected squared error of 256 levels over `[lo, hi]`: rounding inside, clipping outside.
fn error(seen: &Seen, lo: f64, hi: f64) -> f64 {
    let step = (hi - lo) / 255.0;
    let width = (f64::from(seen.max) - f64::from(seen.min)) / BINS as f64;
    let mut total = 0.0;
    for (i, count) in seen.bins.iter().enumerate().filter(|(_, c)| **c > 0) {
        let x = f64::from(seen.min) + (i as f64 + 0.5) * width;
        let clipped = (x - x.clamp(lo, hi)).powi(2);
        total += f64::from(*count) * (clipped + step * step / 12.0);
    }
    total
}

#[cfg(test)]
mod tests {
    use super::{BINS, Seen, best_range};

    #[test]
    fn one_outlier_among_many_is_clipped_and_a_flat_law_is_not() {
        let mut bins = vec![0; BINS];
        bins[..BINS / 16].fill(100_000);
        bins[BINS - 1] = 1;
        let (lo, hi) = best_range(&Seen { min: 0.0, max: 16.0, bins });
        assert_eq!(lo, 0.0);
        assert!(hi < 14.0, "{hi}");
        let (lo, hi) = best_range(&Seen { min: -1.0, max: 1.0, bins: vec![10; BINS] });
        assert!(lo < -0.93 && hi > 0.93, "{lo} {hi}");
    }
}
