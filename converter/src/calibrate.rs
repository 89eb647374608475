//! The range of every value, from runs of real samples.

use crate::error::ConvertError;
use crate::measure::Evaluator;
use crate::samples::Sample;
use edge_runtime::graph::Graph;
use edge_runtime::pack::Rung;
use std::sync::Arc;

/// Ranges by value, from the least to the greatest element seen and 0; `None` for values that no run computes as floats.
///
/// What lies outside is cut off, and it is the largest elements that detectors and recognisers look for: ranges of least squared
/// error, which clip a few of them for finer steps of all others, cost samples held out 13 dB on nudenet and 2 on ppocr-rec and
/// basic-pitch; they gained 1 on ppocr-det and nothing on efficientnet-lite0.
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
    let mut seen: Vec<Option<(f32, f32)>> = vec![None; graph.values.len()];
    evaluator.observe(model, rung, samples, |value, x| {
        let finite = x.iter().copied().filter(|v| v.is_finite());
        let all = finite.fold(None, |range: Option<(f32, f32)>, v| {
            let (lo, hi) = range.unwrap_or((0.0, 0.0));
            Some((lo.min(v), hi.max(v)))
        });
        if let Some((lo, hi)) = all {
            let (least, most) = seen[value as usize].get_or_insert((lo, hi));
            (*least, *most) = (least.min(lo), most.max(hi));
        }
    })?;
    Ok(seen)
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
