//! What runs of real samples show of a model's values: ranges, sizes, the rows that products read.

mod codes;
mod feedback;
mod rounding;
mod rows;

pub use codes::as_given;
pub use feedback::feedback;
pub use rounding::{Fold, alone, held};
pub use rows::{Rows, groups, product_rows, rows};

use crate::candidate::Candidate;
use crate::draft::Draft;
use crate::error::ConvertError;
use crate::journal::Mix;
use crate::measure::Evaluator;
use crate::samples::Sample;
use edge_runtime::graph::{Act, Graph, Node, Op, UnaryOp, ValueId};
use edge_runtime::pack::Rung;
use std::sync::Arc;

/// How much wider than what was seen ranges are: other samples go beyond. Without it samples held out lose 12 dB on nudenet and 1 on
/// ppocr-rec; the coarser grid costs efficientnet-lite0 0.5 dB, and magika and silero-vad 1 to 3.
pub(crate) const MARGIN: f32 = 1.15;
/// The operand of a product that is added to its results.
const RESIDUAL: usize = 4;
/// The operand of a product that multiplies them.
const FACTOR: usize = 5;

/// The least and the greatest element of each value, sample by sample.
pub struct Seen {
    /// By sample: two numbers a value, NaN for values that no run computes as floats.
    ends: Vec<Vec<f64>>,
    /// What results are never beyond, by value.
    bounds: Vec<(ValueId, (f32, f32))>,
    values: usize,
}

/// What each sample shows of the values of the graph of `float`, a draft whose first rung is the model in floats.
///
/// # Errors
/// When a sample does not suit the model, or the evaluator was stopped.
pub fn seen(
    evaluator: &Evaluator<'_>,
    float: &Draft,
    samples: &[Sample],
    mut progress: impl FnMut(usize),
) -> Result<Seen, ConvertError> {
    let (rung, candidate) = (&float.header.rungs[0], float.candidate());
    let graph = &float.header.graphs[rung.graph as usize];
    let values = graph.values.len();
    let model_key = candidate.key(rung);
    let mut ends = Vec::with_capacity(samples.len());
    for (i, sample) in samples.iter().enumerate() {
        let key = Mix::of("ranges").key(&model_key).key(&sample.key()).done();
        ends.push(evaluator.known(key, 2 * values, || seen_in(evaluator, &candidate, rung, values, sample))?);
        progress(i + 1);
    }
    let mut limits = Vec::new();
    graph.body.for_each(&mut |node| {
        if let (Some(ends), Some(Some(out))) = (bounds(node), node.outputs.first()) {
            limits.push((*out, ends));
        }
    });
    Ok(Seen { ends, bounds: limits, values })
}

impl Seen {
    /// Ranges by value, from the least to the greatest element seen and 0, and a [`MARGIN`] beyond; `None` for values that no run computes
    /// as floats. What the samples `without` show is left out, unless they are all.
    ///
    /// What lies outside is cut off, and it is the largest elements that detectors and recognisers look for: ranges of least squared
    /// error, which clip a few of them for finer steps of all others, cost samples held out 13 dB on nudenet and 2 on ppocr-rec and
    /// basic-pitch; they gained 1 on ppocr-det and nothing on efficientnet-lite0.
    pub fn ranges(&self, without: &[usize]) -> Vec<Option<(f32, f32)>> {
        let all = (0..self.ends.len()).all(|i| without.contains(&i));
        let mut seen: Vec<Option<(f32, f32)>> = vec![None; self.values];
        for (_, ends) in self.ends.iter().enumerate().filter(|(i, _)| all || !without.contains(i)) {
            for (range, ends) in seen.iter_mut().zip(ends.as_chunks::<2>().0) {
                let [lo, hi] = ends.map(|end| end as f32);
                if !lo.is_nan() {
                    let (least, most) = range.get_or_insert((lo, hi));
                    (*least, *most) = (least.min(lo), most.max(hi));
                }
            }
        }
        for range in seen.iter_mut().flatten() {
            // A mask's least number has no wider one.
            *range = ((range.0 * MARGIN).max(f32::MIN), (range.1 * MARGIN).min(f32::MAX));
        }
        for (value, (lo, hi)) in &self.bounds {
            if let Some(range) = &mut seen[*value as usize] {
                *range = (range.0.max(*lo), range.1.min(*hi));
            }
        }
        seen
    }
}

/// Ranges by value of all samples, see [`Seen::ranges`].
///
/// # Errors
/// As [`seen`].
pub fn ranges(
    evaluator: &Evaluator<'_>,
    float: &Draft,
    samples: &[Sample],
    progress: impl FnMut(usize),
) -> Result<Vec<Option<(f32, f32)>>, ConvertError> {
    Ok(seen(evaluator, float, samples, progress)?.ranges(&[]))
}

/// The least and the greatest finite element of each value in the run of a sample, and 0; NaN for values that it does not compute as
/// floats.
fn seen_in(
    evaluator: &Evaluator<'_>,
    candidate: &Candidate<'_>,
    rung: &Rung,
    values: usize,
    sample: &Sample,
) -> Result<Vec<f64>, ConvertError> {
    let mut ends = vec![f64::NAN; 2 * values];
    evaluator.observe(candidate.model(), rung, std::slice::from_ref(sample), |value, x| {
        let finite = x.iter().copied().filter(|v| v.is_finite());
        let all = finite.fold(None, |range: Option<(f32, f32)>, v| {
            let (lo, hi) = range.unwrap_or((0.0, 0.0));
            Some((lo.min(v), hi.max(v)))
        });
        if let (Some((lo, hi)), Some([least, most])) =
            (all, ends.as_chunks_mut::<2>().0.get_mut(value as usize))
        {
            (*least, *most) = (least.min(lo.into()), most.max(hi.into()));
        }
    })?;
    Ok(ends)
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
