//! Products whose matrices are of low rank become two narrower ones: `y = U (V x)`, and no matrix of the old size is stored or made.
//!
//! A model that was trained with thin layers and multiplied out has such matrices, one whose layers never see much of their inputs'
//! space may have them. A product is split where measurement says that it costs nothing: the rest that its factors leave is below what the
//! finest rung aims at, on rows that the factors were not fitted to; in planes they take fewer bytes for results as near; and they have at most
//! three quarters of the multiplications. Then the split model runs: what takes the outputs further from the model than the
//! aim is taken back.

mod factors;
mod graph;
mod nearest;
#[cfg(test)]
mod tests;

pub use factors::{Factors, factors, most_rank, of_ranks};
pub use nearest::{Point, bytes_at, dense_points, factor_points, points_of, ratio};

use crate::calibrate::{self, Rows};
use crate::compress::{self, Family, Matrix, Stored, Use};
use crate::convert::{Options, Watch};
use crate::draft::{Draft, float_draft, plain_rung};
use crate::error::ConvertError;
use crate::import;
use crate::ladder::Probes;
use crate::measure::{Evaluator, sqnr_db};
use crate::model::{Array, Model};
use crate::samples::{Sample, Samples};
use crate::simplify;
use edge_runtime::graph::{ConstantId, Source, TensorId};
use edge_runtime::pack::{Acts, Rung, Take, Tensor};
use graph::Split;
use serde::Serialize;
use std::collections::HashMap;
use std::path::Path;
use std::sync::atomic::AtomicBool;

/// SQNR in dB that outputs keep when no other is asked for: what finest rungs of floats have.
pub const AIM: f64 = 80.0;
/// The same for models whose weights are stored exactly as well: floats are no nearer.
pub const EXACT: f64 = 120.0;
/// What a product may leave of its results, as a share of what the outputs may lose: errors of several add up.
const SHARE: f64 = 0.25;

/// A product that became two.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct LowRank {
    /// Its matrix.
    pub name: String,
    /// Rows and columns of that.
    pub dims: [usize; 2],
    /// Columns of the left one of the two.
    pub rank: usize,
    /// Signal over what the two leave of its results, in dB, on rows that they were not fitted to.
    pub sqnr_db: f64,
}

/// Splits the products of a model that are better off as two, as long as the outputs keep [`Options::low_rank`] dB; gives which.
///
/// # Errors
/// When samples do not suit the model, or the evaluator was stopped.
pub fn split(
    evaluator: &Evaluator<'_>,
    model: &mut Model,
    samples: &[Sample],
    probes: &Probes<'_>,
    options: &Options,
    watch: &mut dyn Watch,
) -> Result<Vec<LowRank>, ConvertError> {
    if options.without.contains(&Family::LowRank) {
        return Ok(Vec::new());
    }
    let aim = options.low_rank.unwrap_or(if options.keep_float { EXACT } else { AIM });
    let most = 10f64.powf(-aim / 10.0);
    let constants = model.constants.clone();
    let products = Products::of(model, &constants)?;
    let mut found = Vec::new();
    products.each(evaluator, samples, watch, |id, matrix, rows| {
        if let Some(factors) = factors(matrix, rows, SHARE * most)
            && nearest::wins(matrix, &factors, rows, &options.without)?
        {
            found.push((
                Split::new(id, matrix, &factors),
                matrix.name.clone(),
                [matrix.n, matrix.k],
                factors,
            ));
        }
        Ok(())
    })?;
    let splits: Vec<&Split> = found.iter().map(|(split, ..)| split).collect();
    let distortion = |taken: &[&Split]| -> Result<f64, ConvertError> {
        let mut model = model.clone();
        graph::apply(&mut model, taken);
        let float = float_draft(&model);
        Ok(probes.distortion(&evaluator.run(&float.open(), &float.header.rungs[0], probes.samples)?))
    };
    let mut good: Vec<usize> = Vec::new();
    let all: Vec<usize> = (0..splits.len()).collect();
    let mut rest = vec![&all[..]];
    while let Some(run) = rest.pop() {
        let taken: Vec<&Split> = good.iter().chain(run).map(|i| splits[*i]).collect();
        if run.is_empty() || distortion(&taken)? <= most {
            good.extend(run);
        } else if run.len() > 1 {
            let (first, second) = run.split_at(run.len() / 2);
            rest.extend([second, first]);
        }
    }
    graph::apply(model, &good.iter().map(|i| splits[*i]).collect::<Vec<_>>());
    simplify::compact(model);
    let report = |i: &usize| {
        let (_, name, dims, factors) = &found[*i];
        LowRank { name: name.clone(), dims: *dims, rank: factors.rank(), sqnr_db: sqnr_db(factors.rest) }
    };
    good.sort_unstable();
    Ok(good.iter().map(report).collect())
}

/// The matrices of a model's products, in the order of the constants, and the model with them as weights.
struct Products<'a> {
    matrices: Vec<(ConstantId, Stored<'a>)>,
    tensors: Vec<TensorId>,
    draft: Draft,
    rung: Rung,
}

impl<'a> Products<'a> {
    fn of(model: &Model, constants: &'a [Array]) -> Result<Products<'a>, ConvertError> {
        let mut matrices: Vec<(ConstantId, Stored<'a>)> =
            compress::matrices(&model.graph, constants)?.into_iter().collect();
        let narrow = graph::narrow(&model.graph);
        // Integers are stored as they came.
        let whole = |id: &ConstantId| model.integers.contains_key(id);
        matrices.retain(|(id, matrix)| matrix.used == Use::Product && narrow.contains(id) && !whole(id));
        matrices.sort_by_key(|(id, _)| *id);
        let mut draft = Draft::new(model);
        let mut graph = model.graph.clone();
        let (mut tensors, mut sources) = (Vec::with_capacity(matrices.len()), HashMap::new());
        for (id, matrix) in &matrices {
            let roots = vec![compress::as_it_lies(&mut draft, matrix)];
            let tensor = Tensor { name: matrix.name.clone(), n: matrix.n, k: matrix.k, roots };
            tensors.push(draft.tensor(tensor));
            sources.extend(tensors.last().map(|tensor| (*id, Source::Weight(*tensor))));
        }
        for value in &mut graph.values {
            let Source::Constant(id) = value.source else { continue };
            let constant = |draft: &mut Draft| Source::Constant(draft.constant(&constants[id as usize]));
            value.source = *sources.entry(id).or_insert_with(|| constant(&mut draft));
        }
        let graph = draft.graph(graph);
        let mut rung = plain_rung("exact", graph, Acts::F32);
        rung.takes = matrices.iter().map(|_| Some(Take(0, 0))).collect();
        Ok(Products { matrices, tensors, draft, rung })
    }

    /// Calls `see` with each matrix that samples show rows of.
    fn each(
        &self,
        evaluator: &Evaluator<'_>,
        samples: &[Sample],
        watch: &mut dyn Watch,
        mut see: impl FnMut(ConstantId, &Matrix<'a>, &Rows) -> Result<(), ConvertError>,
    ) -> Result<(), ConvertError> {
        let model = self.draft.open();
        let mut done = 0;
        for group in calibrate::groups(&model, &self.rung, samples, &self.tensors)? {
            watch.stage("read rows", 1);
            let rows = calibrate::rows(evaluator, &model, &self.rung, samples, &group, |done, all| {
                watch.progress_of(done, all);
            })?;
            watch.stage("factor tensors", self.matrices.len());
            for tensor in group {
                evaluator.go_on()?;
                done += 1;
                watch.progress(done);
                let (id, matrix) = &self.matrices[tensor as usize];
                if let Some(rows) = rows.get(&tensor) {
                    see(*id, &matrix.matrix(), rows)?;
                }
            }
        }
        Ok(())
    }
}

/// The matrices of a model's products and the rows that its samples show them: what curves are drawn of.
///
/// # Errors
/// When the model is not supported, or samples do not suit it.
pub fn seen(
    source: &Path,
    options: &Options,
    watch: &mut dyn Watch,
    stop: &AtomicBool,
) -> Result<Vec<(Matrix<'static>, Rows)>, ConvertError> {
    let mut model = import::import_onnx_with(source, &options.settled)?;
    import::apply_states(&mut model, &options.states)?;
    let model = simplify::simplify(model, &simplify::Options::default());
    let float = float_draft(&model);
    let samples = Samples::of(options, &float.open(), &float.header.rungs[0])?;
    let mut all = Vec::new();
    let products = Products::of(&model, &model.constants)?;
    products.each(&Evaluator::new(stop)?, &samples.calibration, watch, |_, matrix, rows| {
        let values = matrix.values.to_vec().into();
        let Matrix { ref name, n, k, used, .. } = *matrix;
        all.push((Matrix { name: name.clone(), n, k, values, used }, rows.clone()));
        Ok(())
    })?;
    Ok(all)
}
