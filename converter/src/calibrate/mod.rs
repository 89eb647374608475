//! What runs of real samples show of a model's values: ranges, sizes, the rows that products read.

mod rows;

pub use rows::{Rows, rows};

use crate::error::ConvertError;
use crate::measure::Evaluator;
use crate::samples::Sample;
use edge_runtime::graph::{Act, Graph, Node, Op, UnaryOp};
use edge_runtime::pack::Rung;
use std::sync::Arc;

/// How much wider than what was seen ranges are: other samples go beyond. Without it samples held out lose 12 dB on nudenet and 1 on
/// ppocr-rec; the coarser grid costs efficientnet-lite0 0.5 dB, and magika and silero-vad 1 to 3.
pub(crate) const MARGIN: f32 = 1.15;
/// The operand of a product that is added to its results.
const RESIDUAL: usize = 4;
/// The operand of a product that multiplies them.
const FACTOR: usize = 5;

/// Ranges by value for integer rungs: [`seen`], and a [`MARGIN`] beyond.
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
    Ok(widened(graph, &seen(evaluator, model, rung, graph, samples)?, MARGIN))
}

/// Ranges by value, from the least to the greatest element seen and 0; `None` for values that no run computes as floats.
///
/// What lies outside is cut off, and it is the largest elements that detectors and recognisers look for: ranges of least squared
/// error, which clip a few of them for finer steps of all others, cost samples held out 13 dB on nudenet and 2 on ppocr-rec and
/// basic-pitch; they gained 1 on ppocr-det and nothing on efficientnet-lite0.
///
/// # Errors
/// When a sample does not suit the model.
pub fn seen(
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

/// Ranges a factor `margin` wider than what was seen, as far as the operations' own bounds allow.
pub fn widened(graph: &Graph, seen: &[Option<(f32, f32)>], margin: f32) -> Vec<Option<(f32, f32)>> {
    let mut wide: Vec<_> =
        seen.iter().map(|range| range.map(|(lo, hi)| (lo * margin, hi * margin))).collect();
    graph.body.for_each(&mut |node| {
        let (Some((lo, hi)), Some(Some(out))) = (bounds(node), node.outputs.first()) else { return };
        if let Some(range) = &mut wide[*out as usize] {
            *range = (range.0.max(lo), range.1.min(hi));
        }
    });
    wide
}

/// What an operation's results are never beyond.
fn bounds(node: &Node) -> Option<(f32, f32)> {
    if node.inputs.get(FACTOR).is_some_and(Option::is_some) {
        return None;
    }
    let act = match &node.op {
        Op::Conv { act, act_after_residual, .. } | Op::Linear { act, act_after_residual, .. } => {
            let moved = !act_after_residual && node.inputs.get(RESIDUAL).is_some_and(Option::is_some);
            if moved { return None } else { *act }
        }
        Op::Unary(UnaryOp::Act(act)) => *act,
        Op::Softmax { log: false, .. } => return Some((0.0, 1.0)),
        _ => return None,
    };
    match act {
        Act::Clip { lo, hi } => Some((lo, hi)),
        Act::Sigmoid | Act::HardSigmoid { .. } => Some((0.0, 1.0)),
        Act::Tanh => Some((-1.0, 1.0)),
        _ => None,
    }
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
