//! Which values an integer rung must keep as floats.

use super::Integer;
use crate::error::ConvertError;
use edge_runtime::graph::{Graph, ValueId};
use edge_runtime::pack::Acts;

/// Values that are tried together before they are told apart.
const RUN: usize = 8;

impl Integer<'_> {
    /// Makes floats of values whose quantization to i8 costs the outputs too much. Values are tried in the order of the graph, each beside those
    /// that are i8 already: an operation that turns i8 into i8 needs both.
    ///
    /// # Errors
    /// As [`Integer::cost`].
    pub fn keep_floats(&mut self, mut progress: impl FnMut(usize, usize)) -> Result<(), ConvertError> {
        let all = ranges(&self.draft.header.graphs[self.graph as usize]);
        if self.cost(Acts::I8)? <= self.aim.value {
            return Ok(());
        }
        // The weights' own share is there whatever the activations are.
        self.profile.floats.clone_from(&all);
        let mut so_far = self.cost(Acts::I8)?;
        // Runs of values in reverse order of the graph, split where one holds a culprit: most runs hold none.
        let mut rest: Vec<&[ValueId]> = all.chunks(RUN).rev().collect();
        while let Some(run) = rest.pop() {
            run.iter().for_each(|value| self.profile.hold(*value, false));
            let with = self.cost(Acts::I8)?;
            if with - so_far <= self.aim.value {
                so_far = with;
            } else {
                run.iter().for_each(|value| self.profile.hold(*value, true));
                if run.len() > 1 {
                    let (first, second) = run.split_at(run.len() / 2);
                    rest.extend([second, first]);
                }
            }
            progress(all.len() - rest.iter().map(|r| r.len()).sum::<usize>(), all.len());
        }
        Ok(())
    }
}

/// The values of a graph that have a range; but for those that the source model itself rounds, for as floats they would be
/// rounded to the same codes one step later.
pub(super) fn ranges(graph: &Graph) -> Vec<ValueId> {
    let known = graph.values.iter().enumerate();
    let known = known.filter(|(_, value)| value.range.is_some() && value.codes.is_none());
    known.map(|(i, _)| i as ValueId).collect()
}
