//! Pictures band by band: a group of steps makes some rows of its last results, then the next, so that what lies between them
//! exists a few rows at a time.
//!
//! Nothing is computed twice: rows that a later band needs again move to the front of their buffer. Every part of a step is a
//! step of its own with its own geometry, so the executor knows nothing of bands and the bits are those of the whole.
//!
//! Groups grow where memory peaks: of the pictures that live there, the one whose steps are best run together is taken, again
//! and again, until the peak is low enough or nothing lowers it.

mod grouping;
mod schedule;
mod unroll;

use super::rows::ByRows;
use super::step::{Matrix, Step};
use super::{BufferId, Operand, Plan};
use grouping::{Grouping, Weight};

/// A step and what can be cut of it.
#[derive(Clone, Debug)]
struct Line {
    step: Step,
    by: Option<ByRows>,
}

impl Line {
    /// The operands that are read by rows.
    fn pictures(&self) -> impl Iterator<Item = (usize, &Operand)> {
        let heights = self.by.iter().flat_map(|by| by.inputs.iter().enumerate());
        heights.filter_map(|(i, height)| height.and_then(|_| Some((i, self.step.inputs[i].as_ref()?))))
    }
}

/// The buffers of computed matrices that a step reads.
fn panels(step: &Step) -> impl Iterator<Item = BufferId> {
    step.weights.iter().filter_map(|m| match m {
        Matrix::Panels(operand) => Some(operand.buffer),
        Matrix::Tensor(_) | Matrix::Factor(..) => None,
    })
}

/// Groups taken on although memory does not shrink: a group that reaches further may need all of them.
const PATIENCE: usize = 8;

/// Rewrites a plan so that at most `limit` bytes live at once, the steps that this adds among them, or as few as can be. Whether
/// that is within the limit; buffers have no place then.
pub(super) fn cut(plan: &mut Plan, limit: usize) -> bool {
    let mut at = Grouping::new(plan);
    let Some(mut weight) = at.weigh() else { return false };
    let (mut best, mut least) = (at.clone(), weight.clone());
    let mut without_gain = 0;
    while least.peak > limit && without_gain <= PATIENCE {
        let mut next: Option<(Weight, Grouping)> = None;
        for buffer in &weight.live_at_peak {
            let Some(grouping) = at.stream(*buffer) else { continue };
            let Some(weighed) = grouping.weigh() else { continue };
            if next.as_ref().is_none_or(|(weight, _)| weighed.norm < weight.norm) {
                next = Some((weighed, grouping));
            }
        }
        let Some(next) = next else { break };
        (weight, at) = next;
        without_gain += 1;
        if weight.norm < least.norm {
            (best, least, without_gain) = (at.clone(), weight.clone(), 0);
        }
    }
    best.widen(&mut least, limit);
    unroll::unroll(plan, &best, &least) && least.peak <= limit
}
