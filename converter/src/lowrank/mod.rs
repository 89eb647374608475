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
use crate::compress::{self, Family, Matrix, Use};
use crate::convert::{Options, Watch};
use crate::draft::{Draft, float_draft, plain_rung};
use crate::error::ConvertError;
use crate::import;
use crate::ladder::Probes;
use crate::measure::{Evaluator, sqnr_db};
use crate::model::Model;
use crate::samples::{Sample, Samples};
use crate::simplify;
use edge_runtime::graph::{ConstantId, Source};
use edge_runtime::pack::{Acts, Take, Tensor};
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
    let products = products(evaluator, model, samples, watch)?;
    watch.stage("factor tensors", products.len());
    let mut found = Vec::new();
    for (i, (id, matrix, rows)) in products.iter().enumerate() {
        evaluator.go_on()?;
        watch.progress(i + 1);
        let Some(factors) = factors(matrix, rows, SHARE * most) else { continue };
        if nearest::wins(matrix, &factors, rows, &options.without)? {
            found.push((*id, matrix, factors));
        }
    }
    let splits: Vec<Split> =
        found.iter().map(|(id, matrix, factors)| Split::new(*id, matrix, factors)).collect();
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
        let taken: Vec<&Split> = good.iter().chain(run).map(|i| &splits[*i]).collect();
        if run.is_empty() || distortion(&taken)? <= most {
            good.extend(run);
        } else if run.len() > 1 {
            let (first, second) = run.split_at(run.len() / 2);
            rest.extend([second, first]);
        }
    }
    graph::apply(model, &good.iter().map(|i| &splits[*i]).collect::<Vec<_>>());
    simplify::compact(model);
    let report = |i: &usize| {
        let (_, matrix, factors) = &found[*i];
        LowRank {
            name: matrix.name.clone(),
            dims: [matrix.n, matrix.k],
            rank: factors.rank(),
            sqnr_db: sqnr_db(factors.rest),
        }
    };
    good.sort_unstable();
    Ok(good.iter().map(report).collect())
}

/// The matrices of products, each with the rows that samples show it, in the order of the constants.
fn products(
    evaluator: &Evaluator<'_>,
    model: &Model,
    samples: &[Sample],
    watch: &mut dyn Watch,
) -> Result<Vec<(ConstantId, Matrix, Rows)>, ConvertError> {
    let mut matrices: Vec<(ConstantId, Matrix)> =
        compress::matrices(&model.graph, &model.constants)?.into_iter().collect();
    let narrow = graph::narrow(&model.graph);
    // Integers are stored as they came.
    let whole = |id: &ConstantId| model.integers.contains_key(id);
    matrices.retain(|(id, matrix)| matrix.used == Use::Product && narrow.contains(id) && !whole(id));
    matrices.sort_by_key(|(id, _)| *id);
    let mut draft = Draft::new(model);
    let mut graph = model.graph.clone();
    let mut tensors = HashMap::new();
    for (id, matrix) in &matrices {
        let roots = vec![compress::exact(&mut draft, matrix)?.expr];
        let tensor = Tensor { name: matrix.name.clone(), n: matrix.n, k: matrix.k, roots };
        tensors.insert(*id, draft.tensor(tensor));
    }
    let mut constants = HashMap::new();
    for value in &mut graph.values {
        let Source::Constant(id) = value.source else { continue };
        value.source = match tensors.get(&id) {
            Some(tensor) => Source::Weight(*tensor),
            None => {
                let array = &model.constants[id as usize];
                Source::Constant(*constants.entry(id).or_insert_with(|| draft.constant(array)))
            }
        };
    }
    let graph = draft.graph(graph);
    let mut rung = plain_rung("exact", graph, Acts::F32);
    rung.takes = matrices.iter().map(|_| Some(Take(0, 0))).collect();
    watch.stage("read rows", 1);
    let mut rows =
        calibrate::rows(evaluator, &draft.open(), &rung, samples, |done, all| watch.progress_of(done, all))?;
    let with_rows = |(id, matrix): (ConstantId, Matrix)| Some((id, matrix, rows.remove(tensors.get(&id)?)?));
    Ok(matrices.into_iter().filter_map(with_rows).collect())
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
) -> Result<Vec<(Matrix, Rows)>, ConvertError> {
    let mut model = import::import_onnx(source)?;
    import::apply_states(&mut model, &options.states)?;
    let model = simplify::simplify(model, &simplify::Options::default());
    let samples = Samples::of(options, &model.graph)?;
    let products = products(&Evaluator::new(stop)?, &model, &samples.calibration, watch)?;
    Ok(products.into_iter().map(|(_, matrix, rows)| (matrix, rows)).collect())
}
