//! Which values an integer rung must keep as floats.

use super::Integer;
use crate::error::ConvertError;
use edge_runtime::graph::{Graph, ValueId};
use edge_runtime::pack::Acts;

/// Output distortion that a value, or a run of them, may cost when it becomes i8: 30 dB. What this finds are values that 256 levels
/// cannot hold, such as a power spectrum on its way to a logarithm.
const MOST: f64 = 1e-3;
/// Values that are tried together before they are told apart.
const RUN: usize = 8;
/// Below this distortion of all values together, none is looked at alone: 30 dB.
const ENOUGH: f64 = 1e-3;

impl Integer<'_> {
    /// Takes away the ranges of values whose quantization to i8 costs the outputs too much, so that the planner holds
    /// them as floats. Values are added in the order of the graph, each beside those that are i8 already: an operation
    /// that turns i8 into i8 needs both. Gives those values.
    ///
    /// # Errors
    /// As [`Integer::cost`].
    pub fn keep_floats(
        &mut self,
        mut progress: impl FnMut(usize, usize),
    ) -> Result<Vec<ValueId>, ConvertError> {
        let index = self.graph as usize;
        let all = ranges(&self.draft.header.graphs[index]);
        if self.cost(Acts::I8)? <= ENOUGH {
            return Ok(Vec::new());
        }
        // The weights' own share is there whatever the activations are.
        set(&mut self.draft.header.graphs[index], &[]);
        let mut so_far = self.cost(Acts::I8)?;
        let mut kept = Vec::new();
        let mut good: Vec<Entry> = Vec::with_capacity(all.len());
        // Runs of values in reverse order of the graph, split where one holds a culprit: most runs hold none.
        let mut rest: Vec<&[Entry]> = all.chunks(RUN).rev().collect();
        while let Some(run) = rest.pop() {
            let before = good.len();
            good.extend(run);
            set(&mut self.draft.header.graphs[index], &good);
            let with = self.cost(Acts::I8)?;
            if with - so_far <= MOST {
                so_far = with;
            } else {
                good.truncate(before);
                match run {
                    [(value, _)] => kept.push(*value),
                    _ => {
                        let (first, second) = run.split_at(run.len() / 2);
                        rest.extend([second, first]);
                    }
                }
            }
            progress(all.len() - rest.iter().map(|r| r.len()).sum::<usize>(), all.len());
        }
        set(&mut self.draft.header.graphs[index], &good);
        Ok(kept)
    }
}

/// A value and its range.
pub(super) type Entry = (ValueId, (f32, f32));

/// The values of a graph that have a range, with it; but for those that the source model itself rounds, for as floats they would be
/// rounded to the same codes one step later.
pub(super) fn ranges(graph: &Graph) -> Vec<Entry> {
    let known = graph.values.iter().enumerate().filter(|(_, value)| value.codes.is_none());
    known.filter_map(|(i, v)| Some((i as ValueId, v.range?))).collect()
}

/// Leaves a graph with these ranges alone, and those that [`ranges`] does not name.
fn set(graph: &mut Graph, entries: &[Entry]) {
    for value in graph.values.iter_mut().filter(|value| value.codes.is_none()) {
        value.range = None;
    }
    for (value, range) in entries {
        graph.values[*value as usize].range = Some(*range);
    }
}
