//! Which weights integer rungs take with one scale a row.
//!
//! A product of integers takes less time when a row has one scale and not one for each group. Most weights lose nothing that shows
//! beside the rounding of the values; where a row's groups differ much in size and meet values that differ as much, the small
//! ones are lost. Measured: all at once, then in halves where that costs too much.

use super::Integer;
use super::profile::Rows;
use crate::compress::INTEGER_BITS;
use crate::error::ConvertError;
use edge_runtime::pack::Acts;

/// What one scale a row saves at least, as a share of the model's time: its distortion is not nothing where it saves none.
const LEAST_SAVED: f64 = 1e-3;

impl Integer<'_> {
    /// Gives rows one scale wherever that adds little to the distortion. Gives how many tensors have it.
    ///
    /// # Errors
    /// As [`Integer::cost`].
    pub fn one_scale(&mut self, mut progress: impl FnMut(usize, usize)) -> Result<usize, ConvertError> {
        let all: Vec<usize> =
            (0..self.profile.takes.len()).filter(|t| self.choices.coded[*t].is_some()).collect();
        if all.is_empty() {
            return Ok(0);
        }
        let mut so_far = self.cost_on(self.judges, Acts::I8)?;
        let most = (self.aim.rows * self.aim.distortion - so_far).max(self.aim.rows_add * so_far);
        // What saves more time may add more.
        let saved = |t: &usize| LEAST_SAVED + self.time_without_rows(*t) - self.prices[*t].work;
        let saved: Vec<f64> = (0..self.profile.takes.len()).map(|t| saved(&t)).collect();
        let sum: f64 = all.iter().map(|t| saved[*t]).sum();
        let (mut rest, mut count) = (vec![&all[..]], 0);
        while let Some(run) = rest.pop() {
            let allowed = so_far + most * run.iter().map(|t| saved[*t]).sum::<f64>() / sum;
            self.take_rows(run, Rows::Eight);
            let with = self.cost_on(self.judges, Acts::I8)?;
            match run {
                _ if with <= allowed => (so_far, count) = (with, count + run.len()),
                [tensor] => {
                    self.take_rows(run, Rows::No);
                    if let Some(with) = self.finer_rows(*tensor, allowed)? {
                        (so_far, count) = (with, count + 1);
                    }
                }
                _ => {
                    self.take_rows(run, Rows::No);
                    let (first, second) = run.split_at(run.len() / 2);
                    rest.extend([second, first]);
                }
            }
            progress(all.len() - rest.iter().map(|run| run.len()).sum::<usize>(), all.len());
        }
        Ok(count)
    }

    /// Gives a tensor rows of one scale made of more than 8 bits, where that leaves at most `most` and takes less time than what it has. Gives the
    /// distortion then.
    fn finer_rows(&mut self, tensor: usize, most: f64) -> Result<Option<f64>, ConvertError> {
        let (take, levels) = (self.profile.takes[tensor], &self.choices.nested[tensor].levels);
        let finer = (take..levels.len()).find(|i| levels[*i].bits > INTEGER_BITS && levels[*i].rank == 0);
        let price = &self.prices[tensor];
        let Some(finer) = finer.filter(|_| price.work + price.rounding < self.time_without_rows(tensor))
        else {
            return Ok(None);
        };
        self.profile.takes[tensor] = finer + 1;
        self.take_rows(&[tensor], Rows::Any);
        let with = self.cost_on(self.judges, Acts::I8)?;
        if with <= most {
            return Ok(Some(with));
        }
        self.take_rows(&[tensor], Rows::No);
        self.profile.takes[tensor] = take;
        Ok(None)
    }

    fn take_rows(&mut self, tensors: &[usize], rows: Rows) {
        tensors.iter().for_each(|t| self.profile.rows[*t] = rows);
    }
}
