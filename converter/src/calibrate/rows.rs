//! What products multiply with their matrices: some of the rows that runs of real samples show them.

use crate::draft::to_f32;
use crate::error::ConvertError;
use crate::measure::Evaluator;
use crate::samples::Sample;
use edge_runtime::graph::{DType, TensorId};
use edge_runtime::pack::Rung;
use edge_runtime::plan::{ConvGeometry, Matrix, Operand, Plan, PlanOptions, Step, StepOp};
use edge_runtime::random::philox;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

/// Rows of each matrix: a gain and a shift are fitted to as many, and the directions of an error show in far fewer.
const ROWS: usize = 2048;
/// Bytes of all rows together; of a large model fewer are kept.
const BYTES: usize = 1 << 30;
/// Samples that they come from.
const SAMPLES: usize = 32;
/// Bytes of rows that are in memory at a time, or a quarter of all, so that samples run four times at most.
const TOGETHER: usize = 8 << 20;

/// Rows that one matrix `[n, k]` is multiplied with.
#[derive(Clone, Debug, Default)]
pub struct Rows {
    /// Columns of the matrix.
    pub k: usize,
    /// Row-major `[m, k]`.
    pub values: Vec<f32>,
}

/// `tensors` in runs, each of which has rows for as many as [`TOGETHER`] says.
///
/// # Errors
/// When a sample does not suit the model.
pub fn groups(
    model: &Arc<edge_runtime::Model>,
    rung: &Rung,
    samples: &[Sample],
    tensors: &[TensorId],
) -> Result<Vec<Vec<TensorId>>, ConvertError> {
    let mut bytes: HashMap<TensorId, usize> = HashMap::new();
    let mut known: HashMap<Vec<usize>, Vec<(TensorId, usize)>> = HashMap::new();
    let count = samples.len().min(SAMPLES);
    for sample in spread(samples) {
        let specs = sample.specs();
        let shape = specs.iter().flat_map(|spec| spec.dims.iter().copied()).collect();
        let of_shape = match known.entry(shape) {
            Entry::Occupied(entry) => entry.into_mut(),
            Entry::Vacant(entry) => {
                let options = PlanOptions { keep_values: true, ..PlanOptions::default() };
                let plan = Plan::new(model, rung, &specs, &options)?;
                let products: Vec<Rowed<'_>> = plan.steps.iter().filter_map(Rowed::of).collect();
                let most = most(&products, count);
                entry.insert(products.iter().map(|p| (p.tensor, 4 * p.k * p.m.min(most))).collect())
            }
        };
        for (tensor, more) in of_shape {
            *bytes.entry(*tensor).or_default() += *more;
        }
    }
    let limit = TOGETHER.max(bytes.values().sum::<usize>() / 4);
    let (mut groups, mut held) = (vec![Vec::new()], 0);
    for tensor in tensors {
        let bytes = bytes.get(tensor).copied().unwrap_or(0);
        if held > 0 && held + bytes > limit {
            groups.push(Vec::new());
            held = 0;
        }
        held += bytes;
        groups.last_mut().into_iter().for_each(|group| group.push(*tensor));
    }
    Ok(groups)
}

/// The samples that rows come from, spread over all: neighbours in a directory are alike.
fn spread(samples: &[Sample]) -> impl Iterator<Item = &Sample> {
    let count = samples.len().min(SAMPLES);
    (0..count).map(move |i| &samples[i * samples.len() / count])
}

/// Rows of each product that one of `count` samples gives.
fn most(products: &[Rowed<'_>], count: usize) -> usize {
    let columns: usize = products.iter().map(|p| p.k).sum();
    (ROWS.min(BYTES / 4 / columns.max(1)) / count.max(1)).max(1)
}

/// The rows that each of `tensors` meets, where one product alone reads it. `rung` takes every tensor at its finest.
///
/// # Errors
/// When a sample does not suit the model, or the evaluator was stopped.
pub fn rows(
    evaluator: &Evaluator<'_>,
    model: &Arc<edge_runtime::Model>,
    rung: &Rung,
    samples: &[Sample],
    tensors: &[TensorId],
    progress: impl FnMut(usize, usize),
) -> Result<HashMap<TensorId, Rows>, ConvertError> {
    gather(evaluator, model, rung, samples, tensors, |readers| readers.all == 1, progress)
}

/// As [`rows`], where one product alone reads it, whether or not rows of it are looked up as well.
///
/// # Errors
/// As [`rows`].
pub fn product_rows(
    evaluator: &Evaluator<'_>,
    model: &Arc<edge_runtime::Model>,
    rung: &Rung,
    samples: &[Sample],
    tensors: &[TensorId],
    progress: impl FnMut(usize, usize),
) -> Result<HashMap<TensorId, Rows>, ConvertError> {
    gather(evaluator, model, rung, samples, tensors, |readers| readers.products == 1, progress)
}

fn gather(
    evaluator: &Evaluator<'_>,
    model: &Arc<edge_runtime::Model>,
    rung: &Rung,
    samples: &[Sample],
    tensors: &[TensorId],
    suits: impl Fn(&Readers) -> bool,
    mut progress: impl FnMut(usize, usize),
) -> Result<HashMap<TensorId, Rows>, ConvertError> {
    let count = samples.len().min(SAMPLES);
    let mut rows: HashMap<TensorId, Rows> = HashMap::new();
    for (i, sample) in spread(samples).enumerate() {
        evaluator.keep(model, rung, sample, |session| {
            let plan = session.plan();
            let readers = readers(&plan.steps);
            let products: Vec<Rowed<'_>> =
                plan.steps.iter().filter_map(Rowed::of).filter(|p| suits(&readers[&p.tensor])).collect();
            let most = most(&products, count);
            let held: HashMap<(u32, usize), &[u8]> = session
                .values()
                .filter(|(_, operand, _)| operand.dtype == DType::F32)
                .map(|(_, operand, bytes)| ((operand.buffer, operand.offset), bytes))
                .collect();
            for product in products.into_iter().filter(|p| tensors.contains(&p.tensor)) {
                let Some(bytes) = held.get(&(product.x.buffer, product.x.offset)) else { continue };
                let into = rows.entry(product.tensor).or_default();
                into.k = product.k;
                product.gather(&to_f32(DType::F32, bytes), most, i as u64, &mut into.values);
            }
        })?;
        progress(i + 1, count);
    }
    Ok(rows)
}

/// How many steps read a tensor.
#[derive(Default)]
struct Readers {
    all: usize,
    /// Those that are products of rows.
    products: usize,
}

fn readers(steps: &[Step]) -> HashMap<TensorId, Readers> {
    let mut readers: HashMap<TensorId, Readers> = HashMap::new();
    for step in steps {
        for tensor in step.weights.iter().filter_map(Matrix::tensor) {
            let readers = readers.entry(tensor).or_default();
            readers.all += 1;
            readers.products += usize::from(Rowed::of(step).is_some());
        }
    }
    readers
}

/// A step whose operand has rows: pixels, windows of them, or rows as they are.
struct Rowed<'a> {
    tensor: TensorId,
    x: &'a Operand,
    k: usize,
    /// Rows there are.
    m: usize,
    geometry: Option<&'a ConvGeometry>,
}

impl<'a> Rowed<'a> {
    fn of(step: &'a Step) -> Option<Rowed<'a>> {
        let tensor = step.weights.first()?.tensor()?;
        let x = step.inputs.first()?.as_ref().filter(|x| x.dtype == DType::F32 && x.pitch.is_none())?;
        match &step.op {
            StepOp::Gemm { m, k, .. } => Some(Rowed { tensor, x, k: *k, m: *m, geometry: None }),
            StepOp::Conv { geometry: g, .. } if g.groups == 1 => {
                let k = g.kernel[0] * g.kernel[1] * g.ic;
                Some(Rowed { tensor, x, k, m: g.batch * g.oh * g.ow, geometry: Some(g) })
            }
            _ => None,
        }
    }

    /// Adds at most `most` rows, spread over all there are, of the values `x`.
    fn gather(&self, x: &[f32], most: usize, key: u64, into: &mut Vec<f32>) {
        let count = self.m.min(most);
        // Rows of all samples are held together: growing by halves would hold half as much again.
        into.reserve_exact(count * self.k);
        for i in 0..count {
            // One of each run of neighbours, so that no pattern of the picture's width is met.
            let run = i * self.m / count..((i + 1) * self.m / count).max(i * self.m / count + 1);
            let row = run.start + philox(key, i as u64)[0] as usize % run.len();
            match self.geometry {
                None => into.extend(&x[row * self.k..(row + 1) * self.k]),
                Some(g) => window(g, x, row, into),
            }
        }
    }
}

/// The window of result `row`: its taps, channels innermost, 0 beyond the picture.
fn window(g: &ConvGeometry, x: &[f32], row: usize, into: &mut Vec<f32>) {
    let (image, pixel) = (row / (g.oh * g.ow), row % (g.oh * g.ow));
    let (oy, ox) = (pixel / g.ow, pixel % g.ow);
    for ky in 0..g.kernel[0] {
        for kx in 0..g.kernel[1] {
            let y = (oy * g.stride[0] + ky * g.dilation[0]).checked_sub(g.pad_top).filter(|y| *y < g.ih);
            let x_at = (ox * g.stride[1] + kx * g.dilation[1]).checked_sub(g.pad_left).filter(|x| *x < g.iw);
            match y.zip(x_at) {
                Some((y, at)) => {
                    let first = ((image * g.ih + y) * g.iw + at) * g.ic;
                    into.extend(&x[first..first + g.ic]);
                }
                None => into.extend(std::iter::repeat_n(0.0, g.ic)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::window;
    use edge_runtime::plan::ConvGeometry;

    #[test]
    fn a_window_at_the_corner_has_zeros_beyond_the_picture() {
        let g = ConvGeometry {
            batch: 1,
            ih: 2,
            iw: 3,
            ic: 2,
            oh: 2,
            ow: 3,
            oc: 1,
            kernel: [3, 3],
            stride: [1, 1],
            dilation: [1, 1],
            pad_top: 1,
            pad_left: 1,
            pad_bottom: 1,
            pad_right: 1,
            groups: 1,
        };
        let x: Vec<f32> = (1..=12).map(|v| v as f32).collect();
        let mut row = Vec::new();
        window(&g, &x, 0, &mut row);
        let want =
            [0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0, 2.0, 3.0, 4.0, 0.0, 0.0, 7.0, 8.0, 9.0, 10.0];
        assert_eq!(row, want);
    }
}
