//! Which weights integer rungs take with one scale a row.
//!
//! A product of integers takes less time when a row has one scale and not one for each group. Most weights lose nothing that shows
//! beside the rounding of the values; where a row's groups differ much in size and meet values that differ as much, the small
//! ones are lost. Measured: all at once, then in halves where that costs too much.

use super::Integer;
use super::integer::AIM;
use crate::error::ConvertError;
use edge_runtime::pack::Acts;

/// Most distortion that one scale a row may add, of what there is without (0.4 dB), unless half of the aim is not reached.
const MOST: f64 = 0.1;

impl Integer<'_> {
    /// Gives rows one scale wherever that adds little to the distortion. Gives how many tensors have it.
    ///
    /// # Errors
    /// As [`Integer::cost`].
    pub fn one_scale(&mut self, mut progress: impl FnMut(usize, usize)) -> Result<usize, ConvertError> {
        let all: Vec<usize> =
            (0..self.takes.len()).filter(|t| self.choices.nested[*t].one_scale.is_some()).collect();
        let mut so_far = self.cost_on(self.judges, Acts::I8)?;
        let most = (AIM / 2.0 - so_far).max(MOST * so_far);
        let each = most / all.len().max(1) as f64;
        let (mut rest, mut count) = (vec![&all[..]], 0);
        while let Some(run) = rest.pop() {
            self.wrap(run);
            let with = self.cost_on(self.judges, Acts::I8)?;
            if with - so_far <= each * run.len() as f64 {
                (so_far, count) = (with, count + run.len());
            } else {
                self.unwrap(run);
                if run.len() > 1 {
                    let (first, second) = run.split_at(run.len() / 2);
                    rest.extend([second, first]);
                }
            }
            progress(all.len() - rest.iter().map(|run| run.len()).sum::<usize>(), all.len());
        }
        Ok(count)
    }

    fn wrap(&mut self, tensors: &[usize]) {
        for t in tensors {
            let root = &mut self.draft.header.tensors[self.choices.tensors[*t] as usize].roots[0];
            root.clone_from(
                self.choices.nested[*t].one_scale.as_ref().unwrap_or(&self.choices.nested[*t].expr),
            );
        }
    }

    fn unwrap(&mut self, tensors: &[usize]) {
        for t in tensors {
            let root = &mut self.draft.header.tensors[self.choices.tensors[*t] as usize].roots[0];
            root.clone_from(&self.choices.nested[*t].expr);
        }
    }
}
