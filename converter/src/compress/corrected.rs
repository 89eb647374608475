//! What makes up for the coarseness of a matrix, fitted to the rows that it is multiplied with.
//!
//! Of a coarse matrix `W'` beside `W`, over rows `x` that calibration met, the error of a result is `D = W x - W' x`. It has three parts
//! that are worth their few bytes, each fitted by least squares to what the ones before leave:
//! ```text
//! gain    by row: cov(W x, W' x) / var(W' x). Rounding towards fewer levels shrinks or stretches a row's results.
//! factors U V of rank 16: U the directions in which most of D lies (its first left singular vectors), V = U' (W - gain W'), rounded,
//!         and U fitted again to the rounded V; then U is rounded.
//! shift   by row: what is left of D on average
//! ```
//! The matrix itself stays as it is, so that finer ones go on from the same bytes. Below the coarsest planes stand levels with no matrix at
//! all: factors of as many columns as take fewer bytes than the first plane, fitted in the same way to all of `W`. On most matrices
//! of real models their results are nearer than those of 2-bit weights (`benches/README.md`, "Forms of weights").

use super::planes::scale;
use super::{Family, Level, Root};
use crate::calibrate::Rows;
use crate::draft::Draft;
use crate::error::ConvertError;
use edge_runtime::graph::TensorId;
use edge_runtime::pack::{Arg, BlobId, Expr, Header, Take, Tensor};
use edge_runtime::plan::PlanError;
use edge_runtime::random::philox;
use edge_runtime::weights::planes::{self, Layout, Spec};
use edge_runtime::weights::{BLOCK, CodesOut, PANEL, Registry, Weights, bind};
use half::f16;
use nalgebra::{DMatrix, DVector};
use serde_json::json;

/// Columns of U: one panel of a kernel. More of them take away less for their bytes than more planes do.
pub const RANK: usize = 16;
/// Bits of a factor's weights: 8 gain 0.3 dB for as many bytes again.
pub const THIN_BITS: u32 = 4;
/// Largest magnitude of a factor below which f16 scales are too coarse even for its few bits: they have 5 there.
const LEAST_F16: f32 = 2e-6;
/// Finest weights that are corrected: beyond, values matter more.
const MOST_BITS: u32 = 8;
/// Most of the bytes of two more bits a weight that factors may take.
const MOST_BYTES: f64 = 0.5;
/// Bytes of factors that stand alone, as shares of those of the coarsest planes.
const ALONE: [f64; 1] = [0.45];
/// Rows that a column of theirs is fitted to at least.
const ROWS_OF_A_COLUMN: usize = 4;
/// Directions that are followed beside those that are kept, so that the last ones settle.
const SPARE: usize = 8;
/// Rounds of the iteration that finds them.
const ROUNDS: usize = 4;
/// Fewest rows that say anything.
const LEAST_ROWS: usize = 64;
/// Gains beyond are of rows that are next to constant.
const GAINS: (f32, f32) = (0.5, 2.0);

/// Puts a nested root below corrections for each of its coarse takes; `None` when rows are too few to fit any.
///
/// # Errors
/// When the root's expression is not sound, or numbers are not finite.
pub fn corrected(
    draft: &mut Draft,
    tensor: TensorId,
    root: &Root,
    rows: Rows,
    without: &[Family],
) -> Result<Option<Root>, ConvertError> {
    let (n, k) = {
        let tensor = &draft.header.tensors[tensor as usize];
        (tensor.n, tensor.k)
    };
    if rows.k != k || rows.values.len() < LEAST_ROWS * k {
        return Ok(None);
    }
    let m = rows.values.len() / k;
    let name = draft.header.tensors[tensor as usize].name.clone();
    let x = DMatrix::from_vec(k, m, rows.values);
    let exact = decoded(draft, &name, &root.expr, (n, k), root.levels.len())?;
    let y = Results::of(&exact, &x);
    if !y.0.iter().chain(x.iter()).all(|value| value.is_finite()) {
        return Ok(None);
    }
    let mut parts = Parts::new(root);
    if !without.contains(&Family::Alone) {
        let nothing = Fit::of(&DMatrix::zeros(n, k), &x, &y);
        for rank in ranks_alone((n, k), m, root.bytes(draft, 1)) {
            let Some(thin) = Thin::of(draft, &name, &exact, &nothing, &x, rank)? else { continue };
            // Products that have no matrix have no codes of it: one set is for both.
            let [Some(one), _] = sets(draft, &nothing, None, Some(&thin)) else { continue };
            let level = Level { bits: 0, rank, blobs: Vec::new() };
            parts.add(level, None, [Some(one); 2], Some(thin));
        }
    }
    for (level, take) in root.levels.iter().zip(1..) {
        if level.bits > MOST_BITS {
            parts.add(level.clone(), Some(take), [None, None], None);
            continue;
        }
        let mut coarse = decoded(draft, &name, &root.expr, (n, k), take)?;
        let fit = Fit::of(&coarse, &x, &y);
        let codes = match &root.one_scale {
            Some(expr) => codes(draft, &name, expr, (n, k), take)?.map(|codes| Fit::of(&codes, &x, &y)),
            None => None,
        };
        parts.add(level.clone(), Some(take), sets(draft, &fit, codes.as_ref(), None), None);
        if !pays(n, k) || without.contains(&Family::Thin) {
            continue;
        }
        for (mut row, gain) in coarse.row_iter_mut().zip(&fit.gains) {
            row *= *gain;
        }
        if let Some(thin) = Thin::of(draft, &name, &(&exact - coarse), &fit, &x, RANK)? {
            let level = Level { rank: RANK, ..level.clone() };
            parts.add(level, Some(take), sets(draft, &fit, codes.as_ref(), Some(&thin)), Some(thin));
        }
    }
    Ok(Some(parts.root()))
}

/// Ranks of factors that stand alone, for so many rows: the largest that take at most shares of the bytes of the coarsest planes.
fn ranks_alone((n, k): (usize, usize), m: usize, coarsest: u64) -> Vec<usize> {
    // Codes, and scales of 2 bytes for groups.
    let column = (n + k) as f64 * f64::from(THIN_BITS) / 8.0 + 2.0 * (n + k) as f64 / 32.0;
    let rank = |share: &f64| (share * coarsest as f64 / column) as usize / RANK * RANK;
    let most = n.min(k).min(m / ROWS_OF_A_COLUMN);
    let mut ranks: Vec<usize> = ALONE.iter().map(rank).filter(|rank| (1..=most).contains(rank)).collect();
    ranks.dedup();
    ranks
}

/// Whether thin matrices take little beside two more bits a weight.
fn pays(n: usize, k: usize) -> bool {
    let thin = (RANK * (n + k)) as f64 * f64::from(THIN_BITS);
    n.min(k) >= 2 * RANK && thin <= MOST_BYTES * 2.0 * (n * k) as f64
}

/// A take of an expression as a matrix `[n, k]`.
pub(crate) fn decoded(
    draft: &Draft,
    name: &str,
    expr: &Expr,
    (n, k): (usize, usize),
    take: usize,
) -> Result<DMatrix<f32>, ConvertError> {
    Ok(DMatrix::from_row_slice(n, k, &bound(draft, name, expr, (n, k), take)?.materialize()))
}

fn bound(
    draft: &Draft,
    name: &str,
    expr: &Expr,
    (n, k): (usize, usize),
    take: usize,
) -> Result<Box<dyn Weights>, ConvertError> {
    let tensor = Tensor { name: name.to_string(), n, k, roots: vec![expr.clone()] };
    let header = Header { blobs: draft.header.blobs.clone(), tensors: vec![tensor], ..Header::default() };
    let source = draft.source();
    bind(&Registry::standard(), &header, 0, Take(0, take as u32), &source)
        .map_err(|e| ConvertError::from(PlanError::from(e)))
}

/// The codes of a take with one scale a row, as the matrix that products of integers see; `None` where they have none.
pub(super) fn codes(
    draft: &Draft,
    name: &str,
    expr: &Expr,
    (n, k): (usize, usize),
    take: usize,
) -> Result<Option<DMatrix<f32>>, ConvertError> {
    let weights = bound(draft, name, expr, (n, k), take)?;
    if weights.code_form().is_none_or(|form| form.group != k || form.half_offset) {
        return Ok(None);
    }
    let (panels, units) = (n.div_ceil(PANEL), k.div_ceil(BLOCK));
    let mut codes = vec![0i8; panels * units * PANEL * BLOCK];
    let (mut scales, mut sums) = (vec![0.0; panels * PANEL], vec![0; panels * PANEL]);
    weights.fill_codes(0..panels, CodesOut { codes: &mut codes, scales: &mut scales, sums: &mut sums });
    Ok(Some(DMatrix::from_fn(n, k, |r, c| {
        let unit = r / PANEL * units + c / BLOCK;
        scales[r] * f32::from(codes[(unit * PANEL + r % PANEL) * BLOCK + c % BLOCK])
    })))
}

/// What a matrix makes of the rows: `[n, m]`.
struct Results(DMatrix<f32>);

impl Results {
    fn of(matrix: &DMatrix<f32>, x: &DMatrix<f32>) -> Results {
        Results(matrix * x)
    }

    /// By row, the factor on these results that brings them closest to `want`, constants aside.
    fn gains(&self, want: &Results) -> Vec<f32> {
        let (mine, theirs) = (self.0.column_mean(), want.0.column_mean());
        let gain = |r: usize| {
            let (mut covariance, mut variance) = (0.0f64, 0.0f64);
            for (a, b) in self.0.row(r).iter().zip(want.0.row(r).iter()) {
                let (a, b) = (f64::from(a - mine[r]), f64::from(b - theirs[r]));
                covariance += a * b;
                variance += a * a;
            }
            let gain = (covariance / variance) as f32;
            if gain.is_finite() { gain.clamp(GAINS.0, GAINS.1) } else { 1.0 }
        };
        (0..self.0.nrows()).map(gain).collect()
    }
}

/// Gains and shifts of a coarse matrix.
struct Fit {
    gains: Vec<f32>,
    shifts: DVector<f32>,
    /// What is left of the results' errors, the shifts in it: `[n, m]`.
    error: DMatrix<f32>,
}

impl Fit {
    /// For results `y` of the rows `x`.
    fn of(coarse: &DMatrix<f32>, x: &DMatrix<f32>, y: &Results) -> Fit {
        let z = Results::of(coarse, x);
        let gains = z.gains(y);
        let mut error = y.0.clone();
        for (r, (mut row, gain)) in error.row_iter_mut().zip(&gains).enumerate() {
            row -= z.0.row(r) * *gain;
        }
        Fit { gains, shifts: error.column_mean(), error }
    }

    /// Gains less one and shifts, as the pack has them; `None` where f16 cannot hold one.
    fn bytes(&self, thin: Option<&Thin>) -> Option<Vec<u8>> {
        let shifts = thin.map_or_else(|| self.shifts.clone(), |thin| &self.shifts - &thin.mean);
        let numbers = self.gains.iter().map(|gain| gain - 1.0).chain(shifts.iter().copied());
        let halves: Vec<f16> = numbers.map(f16::from_f32).collect();
        let finite = halves.iter().all(|half| half.is_finite());
        finite.then(|| halves.iter().flat_map(|half| half.to_le_bytes()).collect())
    }
}

/// Gains and shifts of a level in the draft: for the matrix alone, and for its codes of one scale a row as well.
fn sets(draft: &mut Draft, fit: &Fit, codes: Option<&Fit>, thin: Option<&Thin>) -> [Option<Sets>; 2] {
    let one = fit.bytes(thin);
    let both = one.clone().zip(codes.and_then(|codes| codes.bytes(thin)));
    let both = both.map(|(one, two)| Sets { blob: draft.blob([one, two].concat()), count: 2 });
    [one.map(|bytes| Sets { blob: draft.blob(bytes), count: 1 }), both]
}

/// Gains and shifts in the draft: so many sets in one blob.
#[derive(Clone, Copy)]
struct Sets {
    blob: BlobId,
    count: usize,
}

/// Two thin matrices in the draft.
struct Thin {
    v: Expr,
    u: Expr,
    /// The largest magnitude of `V x`.
    range: f32,
    /// By row, the mean of `U V x`.
    mean: DVector<f32>,
}

impl Thin {
    /// The factors of what is `missing` of a matrix beside what gains and shifts make up for; `None` when there is nothing to correct.
    fn of(
        draft: &mut Draft,
        name: &str,
        missing: &DMatrix<f32>,
        fit: &Fit,
        x: &DMatrix<f32>,
        rank: usize,
    ) -> Result<Option<Thin>, ConvertError> {
        let (n, k) = missing.shape();
        let mut centered = fit.error.clone();
        centered.column_iter_mut().for_each(|mut column| column -= &fit.shifts);
        let v = directions(&centered, rank).transpose() * missing;
        // Nothing has no directions.
        if !v.iter().all(|value| value.is_finite()) {
            return Ok(None);
        }
        let (v, v_matrix) = stored(draft, name, &v, 32)?;
        // By least squares on what the rounded V makes: U = D T' (T T')^-1, T = V x without its mean.
        let t = &v_matrix * x;
        let t_mean = t.column_mean();
        let mut t_centered = t.clone();
        t_centered.column_iter_mut().for_each(|mut column| column -= &t_mean);
        let mut gram = &t_centered * t_centered.transpose();
        let ridge = 1e-6 * gram.trace().max(f32::MIN_POSITIVE);
        (0..t.nrows()).for_each(|i| gram[(i, i)] += ridge);
        let Some(cholesky) = gram.cholesky() else { return Ok(None) };
        let u = cholesky.solve(&(t_centered * centered.transpose())).transpose();
        if !u.iter().all(|value| value.is_finite()) {
            return Ok(None);
        }
        let (u, u_matrix) = stored(draft, name, &u, rank.min(32))?;
        debug_assert_eq!((u_matrix.shape(), v_matrix.shape()), ((n, rank), (rank, k)));
        let range = t.iter().fold(0.0f32, |most, value| most.max(value.abs()));
        Ok(Some(Thin { v, u, range, mean: u_matrix * t_mean }))
    }
}

/// Stores a thin matrix, one scale for so many columns; gives it as it is decoded.
fn stored(
    draft: &mut Draft,
    name: &str,
    matrix: &DMatrix<f32>,
    group: usize,
) -> Result<(Expr, DMatrix<f32>), ConvertError> {
    let (n, k) = matrix.shape();
    let values: Vec<f32> = matrix.transpose().iter().copied().collect();
    let spec = Spec {
        group,
        bits: vec![THIN_BITS],
        layout: Layout::Panel,
        scale: scale(&values, LEAST_F16),
        ..Spec::default()
    };
    let mut encoded = planes::encode(&values, n, k, &spec, &[])
        .map_err(|e| ConvertError::Weight { tensor: name.to_string(), why: e.to_string() })?;
    let blobs = std::mem::take(&mut encoded.blobs).into_iter().map(|bytes| draft.blob(bytes)).collect();
    let expr = encoded.expr(blobs);
    let decoded = decoded(draft, name, &expr, (n, k), 0)?;
    Ok((expr, decoded))
}

/// The first left singular vectors of a matrix `[n, m]`, by iteration in a subspace that is a little larger.
fn directions(matrix: &DMatrix<f32>, rank: usize) -> DMatrix<f32> {
    let columns = (rank + SPARE).min(matrix.nrows()).min(matrix.ncols());
    let sign = |r: usize, c: usize| if philox(c as u64, r as u64)[0] & 1 == 0 { 1.0 } else { -1.0 };
    let mut basis = (matrix * DMatrix::from_fn(matrix.ncols(), columns, sign)).qr().q();
    for _ in 0..ROUNDS {
        basis = (matrix * matrix.tr_mul(&basis)).qr().q();
    }
    let inside = basis.tr_mul(matrix);
    let eigen = (&inside * inside.transpose()).symmetric_eigen();
    let mut order: Vec<usize> = (0..columns).collect();
    order.sort_by(|a, b| eigen.eigenvalues[*b].total_cmp(&eigen.eigenvalues[*a]));
    basis * DMatrix::from_fn(columns, rank.min(columns), |r, c| eigen.eigenvectors[(r, order[c])])
}

/// A level as the header lists it: take, sets of gains and shifts, rank, range.
type Listed = (Option<usize>, usize, usize, f32);

/// The expressions in the making, of the matrix and of its codes with one scale a row.
struct Parts {
    expr: Expr,
    one_scale: Option<Expr>,
    thin: Vec<Arg>,
    /// By expression.
    blobs: [Vec<BlobId>; 2],
    /// By expression.
    listed: [Vec<Listed>; 2],
    levels: Vec<Level>,
}

impl Parts {
    fn new(root: &Root) -> Parts {
        Parts {
            expr: root.expr.clone(),
            one_scale: root.one_scale.clone(),
            thin: Vec::new(),
            blobs: Default::default(),
            listed: Default::default(),
            levels: Vec::new(),
        }
    }

    fn add(&mut self, level: Level, take: Option<usize>, sets: [Option<Sets>; 2], thin: Option<Thin>) {
        let mut level = level;
        level.blobs.extend(sets[0].map(|sets| sets.blob));
        let range = thin.as_ref().map_or(0.0, |thin| thin.range);
        if let Some(Thin { v, u, .. }) = thin {
            level.blobs.extend(v.blobs.iter().chain(&u.blobs));
            self.thin.extend([v, u].map(|expr| Arg::Expr(Box::new(expr))));
        }
        for (i, set) in sets.into_iter().enumerate() {
            self.blobs[i].extend(set.map(|set| set.blob));
            self.listed[i].push((take, set.map_or(0, |set| set.count), level.rank, range));
        }
        self.levels.push(level);
    }

    fn root(self) -> Root {
        let [one, two] = self.blobs;
        let [one_listed, two_listed] = self.listed;
        let made = |matrix: Expr, blobs: Vec<BlobId>, listed: Vec<_>| {
            let mut params = serde_json::Map::new();
            params.insert("levels".into(), json!(listed));
            let args = [vec![Arg::Expr(Box::new(matrix))], self.thin.clone()].concat();
            Expr { kind: "corrected".into(), params, args, blobs }
        };
        Root {
            expr: made(self.expr, one, one_listed),
            levels: self.levels,
            one_scale: self.one_scale.map(|matrix| made(matrix, two, two_listed)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{ALONE, RANK, corrected};
    use crate::calibrate::Rows;
    use crate::compress::{Matrix, Use, planes};
    use crate::draft::Draft;
    use edge_runtime::pack::{Take, Tensor};
    use edge_runtime::random::uniform;
    use edge_runtime::weights::{Registry, bind};
    use nalgebra::DMatrix;

    const SIZE: usize = 128;
    const M: usize = 400;
    /// Directions that inputs vary in.
    const INNER: usize = 12;

    fn noise(key: u64, i: usize) -> f32 {
        2.0 * uniform(key, i as u64) - 1.0
    }

    /// A matrix in a draft, and inputs that vary in few directions about a mean that is not 0.
    fn start() -> (Draft, crate::compress::Root, Rows) {
        let mut draft = Draft::default();
        let values = (0..SIZE * SIZE).map(|i| noise(1, i)).collect();
        let matrix = Matrix { name: "w".into(), n: SIZE, k: SIZE, values, used: Use::Product };
        let root = planes(&mut draft, &matrix).unwrap();
        draft.tensor(Tensor { name: "w".into(), n: SIZE, k: SIZE, roots: vec![root.expr.clone()] });
        let inner = DMatrix::from_fn(INNER, M, |r, c| noise(2, r * M + c));
        let spread = DMatrix::from_fn(SIZE, INNER, |r, c| noise(3, r * INNER + c));
        let mut x = spread * inner;
        x.add_scalar_mut(0.7);
        (draft, root, Rows { k: SIZE, values: x.as_slice().to_vec() })
    }

    /// Squared error of each level's results, by the formula, and how far their mean is off.
    fn errors(draft: &Draft, rows: &Rows, root: &crate::compress::Root) -> Vec<(f64, f32)> {
        let x = DMatrix::from_column_slice(SIZE, rows.values.len() / SIZE, &rows.values);
        let tensors = vec![Tensor { name: "w".into(), n: SIZE, k: SIZE, roots: vec![root.expr.clone()] }];
        let header =
            edge_runtime::pack::Header { blobs: draft.header.blobs.clone(), tensors, ..Default::default() };
        let source = draft.source();
        let bound =
            |take: usize| bind(&Registry::standard(), &header, 0, Take(0, take as u32), &source).unwrap();
        let matrix =
            |w: &dyn edge_runtime::weights::Weights| DMatrix::from_row_slice(w.n(), w.k(), &w.materialize());
        let want = matrix(&*bound(root.levels.len())) * &x;
        let error = |take: usize| {
            let weights = bound(take);
            let mut got = matrix(&*weights) * &x;
            if let Some(correction) = weights.correction() {
                let (mut scale, mut bias) = (vec![1.0; SIZE], vec![0.0; SIZE]);
                correction.apply(&mut scale, &mut bias, 1.0, false);
                for (mut row, (scale, bias)) in got.row_iter_mut().zip(scale.iter().zip(&bias)) {
                    row *= *scale;
                    row.add_scalar_mut(*bias);
                }
                if let Some(thin) = correction.factors() {
                    got += matrix(&*thin.u) * (matrix(&*thin.v) * &x);
                }
            }
            let error = &got - &want;
            (f64::from(error.norm_squared()), error.column_mean().amax())
        };
        (1..=root.levels.len()).map(error).collect()
    }

    #[test]
    fn corrections_take_away_the_mean_and_the_few_directions_of_an_error() {
        let (mut draft, plain, rows) = start();
        let root = corrected(&mut draft, 0, &plain, rows.clone(), &[]).unwrap().unwrap();
        let levels: Vec<(u32, usize)> = root.levels.iter().map(|l| (l.bits, l.rank)).collect();
        let r = RANK;
        // Alone 16 columns take 2304 bytes of the 5120 of two bits.
        assert_eq!(levels[..ALONE.len()], [(0, r)]);
        assert_eq!(
            levels[ALONE.len()..],
            [(2, 0), (2, r), (4, 0), (4, r), (6, 0), (6, r), (8, 0), (8, r), (12, 0), (16, 0)]
        );
        let (before, all) = (errors(&draft, &rows, &plain), errors(&draft, &rows, &root));
        let (alone, after) = all.split_at(ALONE.len());
        assert!(
            alone.iter().all(|alone| alone.0 < 0.1 * before[0].0 && alone.1 < 0.05 * before[0].1),
            "{alone:?}"
        );
        for (i, coarse) in before.iter().take(4).enumerate() {
            let (rows, thin) = (after[2 * i], after[2 * i + 1]);
            // The mean of inputs is a third of their power here, and 12 directions hold all the rest: 4-bit factors leave 1 % of it.
            assert!(rows.0 < 0.8 * coarse.0, "gains and shifts, {i}: {rows:?} of {coarse:?}");
            assert!(thin.0 < 0.03 * coarse.0, "factors, {i}: {thin:?} of {coarse:?}");
            assert!(rows.1 < 0.05 * coarse.1 && thin.1 < 0.05 * coarse.1, "{coarse:?} {rows:?} {thin:?}");
        }
        // Finer takes are the planes as they were.
        assert_eq!(after[8..], before[4..]);
    }

    #[test]
    fn bytes_of_a_level_are_those_of_its_planes_and_its_correction() {
        let (mut draft, plain, rows) = start();
        let root = corrected(&mut draft, 0, &plain, rows.clone(), &[]).unwrap().unwrap();
        let affine = 4 * SIZE as u64;
        let at = |level: usize| ALONE.len() + level;
        assert_eq!(root.bytes(&draft, at(3)) - plain.bytes(&draft, 2), affine);
        let v = (RANK * SIZE / 2 + RANK * SIZE / 32 * 2) as u64;
        let u = (SIZE * RANK / 2 + SIZE * 2) as u64;
        assert_eq!(root.bytes(&draft, at(4)) - root.bytes(&draft, at(3)), v + u);
        assert_eq!(root.bytes(&draft, 1), v + u + affine);
    }

    #[test]
    fn too_few_rows_correct_nothing_and_constant_ones_only_shift() {
        let (mut draft, plain, rows) = start();
        let few = Rows { k: SIZE, values: rows.values[..8 * SIZE].to_vec() };
        assert!(corrected(&mut draft, 0, &plain, few, &[]).unwrap().is_none());
        let constant = Rows { k: SIZE, values: vec![0.5; 100 * SIZE] };
        let root = corrected(&mut draft, 0, &plain, constant.clone(), &[]).unwrap().unwrap();
        let after = errors(&draft, &constant, &root);
        assert!(after.iter().all(|(error, _)| error.is_finite()), "{after:?}");
        assert!(after[2].0 < 1e-3 * errors(&draft, &constant, &plain)[0].0, "{after:?}");
        let zeros = Rows { k: SIZE, values: vec![0.0; 100 * SIZE] };
        let root = corrected(&mut draft, 0, &plain, zeros.clone(), &[]).unwrap().unwrap();
        assert!(errors(&draft, &zeros, &root).iter().all(|(error, _)| *error == 0.0));
    }
}
