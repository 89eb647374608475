//! A matrix as the product of two thinner ones, as good as can be for the rows that it is multiplied with.
//!
//! Of `W [n, k]` and rows `X [k, m]`, the factors of rank `r` that make `|(W - U V) X|` least are
//! ```text
//! U = the first r left singular vectors of W S, where S S' = X X' + ridge I;   V = U' W
//! ```
//! (the singular value decomposition of the whitened matrix, `W S = U D Q'`, with `V = D Q' S^-1`, which is `U' W`: no inverse is needed).
//! U's columns have one length, and what a direction weighs stands in the rows of V, which have scales of their own: so rounding adds
//! to each direction in proportion to what it carries. The ridge holds few rows back from making a matrix look thinner than it is.

use super::nearest;
use crate::calibrate::Rows;
use crate::compress::Matrix;
use nalgebra::DMatrix;

/// Columns of a panel, which kernels fill up: a rank is a multiple of it.
pub(super) const PANEL: usize = 16;
/// Most multiplications of the two products, as a share of those of the one.
const MOST: f64 = 0.75;
/// What a column of the matrix counts by itself, beside what rows show of it.
const RIDGE: f64 = 1e-4;
/// Fewest rows that say anything.
const LEAST_ROWS: usize = 16;
/// How far a sum of pivots may be above the least rest of a rank: a matrix beyond is not decomposed.
const PIVOTS: f64 = 300.0;
/// How much more of rows that nothing was fitted to may be missing than of those that it was.
const OTHER_ROWS: f64 = 4.0;

/// Two thin matrices in place of one.
#[derive(Clone, Debug)]
pub struct Factors {
    /// `[n, rank]`.
    pub u: DMatrix<f64>,
    /// `[rank, k]`.
    pub v: DMatrix<f64>,
    /// What they leave of results, squared, over the variance of these, on rows that they were not fitted to.
    pub rest: f64,
}

impl Factors {
    /// Columns of U.
    pub fn rank(&self) -> usize {
        self.u.ncols()
    }
}

/// The largest rank whose two products have three quarters of the multiplications; 0 where there is none.
pub fn most_rank(n: usize, k: usize) -> usize {
    let most = MOST * (n * k) as f64 / (n + k).max(1) as f64;
    most as usize / PANEL * PANEL
}

/// The factors of the least rank that leave at most `most` of the variance of results; `None` where no rank that saves multiplications
/// does, or rows are too few.
pub fn factors(matrix: &Matrix, rows: &Rows, most: f64) -> Option<Factors> {
    let rank = most_rank(matrix.n, matrix.k);
    let seen = Seen::new(matrix, rows)?;
    if rank == 0 || seen.variance <= 0.0 || !seen.may_have(rank, most) {
        return None;
    }
    let (values, vectors) = seen.spectrum();
    let mut rest: f64 = values.iter().sum();
    let mut least = 0;
    while least < values.len() && rest > most * seen.variance {
        rest -= values[least];
        least += 1;
    }
    let least = least.next_multiple_of(PANEL).max(PANEL).min(values.len());
    if least > rank {
        return None;
    }
    let found = seen.factors(&vectors.columns(0, least).into_owned());
    (found.rest <= OTHER_ROWS * most).then_some(found)
}

/// The factors of each of these ranks that the matrix can have; `None` where rows are too few.
pub fn of_ranks(matrix: &Matrix, rows: &Rows, ranks: &[usize]) -> Option<Vec<Factors>> {
    let seen = Seen::new(matrix, rows)?;
    let (_, vectors) = seen.spectrum();
    let ranks = ranks.iter().filter(|rank| **rank <= vectors.ncols());
    Some(ranks.map(|rank| seen.factors(&vectors.columns(0, *rank).into_owned())).collect())
}

/// What a matrix makes of the rows that factors are fitted to, every other one of those there are, and the rows that they are judged by.
struct Seen {
    w: DMatrix<f64>,
    /// `[k, m]`.
    judges: DMatrix<f64>,
    /// Of results, about each row's mean, summed.
    variance: f64,
    /// An orthonormal basis `[n, d]` of what the matrix makes, where it has more rows than columns.
    basis: Option<DMatrix<f64>>,
    /// `W S S' W'` in that basis.
    gram: DMatrix<f64>,
}

impl Seen {
    fn new(matrix: &Matrix, rows: &Rows) -> Option<Seen> {
        let (n, k) = (matrix.n, matrix.k);
        let m = rows.values.len() / k.max(1);
        if rows.k != k || m < LEAST_ROWS || !rows.values.iter().all(|value| value.is_finite()) {
            return None;
        }
        let every_other = |first: usize| {
            DMatrix::from_fn(k, (m - first).div_ceil(2), |r, c| {
                f64::from(rows.values[(2 * c + first) * k + r])
            })
        };
        let (x, judges) = (every_other(0), every_other(1));
        let w = DMatrix::from_fn(n, k, |r, c| f64::from(matrix.values[r * k + c]));
        let ridge = RIDGE * x.norm_squared() / k as f64;
        // With more rows than columns the results lie in a space of k dimensions.
        let (basis, inner) = if n > k {
            let qr = w.clone().qr();
            (Some(qr.q()), qr.r())
        } else {
            (None, w.clone())
        };
        let y = &inner * &x;
        let gram = &y * y.transpose() + &inner * inner.transpose() * ridge;
        let mean = y.column_mean();
        let variance = y.norm_squared() - mean.norm_squared() * y.ncols() as f64;
        Some(Seen { w, judges, variance, basis, gram })
    }

    /// Whether a rank may leave so little, told by pivots, which are a bound from above that is seldom far away.
    fn may_have(&self, rank: usize, most: f64) -> bool {
        let d = self.gram.nrows();
        let mut diagonal: Vec<f64> = (0..d).map(|i| self.gram[(i, i)]).collect();
        let mut columns: Vec<Vec<f64>> = Vec::with_capacity(rank);
        for _ in 0..rank.min(d) {
            let pivot = (0..d).max_by(|a, b| diagonal[*a].total_cmp(&diagonal[*b])).unwrap_or(0);
            if diagonal[pivot] <= 0.0 {
                break;
            }
            let root = diagonal[pivot].sqrt();
            let mut column: Vec<f64> = self.gram.column(pivot).iter().copied().collect();
            for before in &columns {
                let factor = before[pivot];
                column.iter_mut().zip(before).for_each(|(c, b)| *c -= factor * b);
            }
            for (value, left) in column.iter_mut().zip(&mut diagonal) {
                *value /= root;
                *left -= *value * *value;
            }
            diagonal[pivot] = 0.0;
            columns.push(column);
        }
        let rest: f64 = diagonal.iter().filter(|left| **left > 0.0).sum();
        rest <= PIVOTS * most * self.variance
    }

    /// Squared singular values of the whitened matrix, largest first, and its left singular vectors `[d, d]`.
    fn spectrum(&self) -> (Vec<f64>, DMatrix<f64>) {
        let eigen = self.gram.clone().symmetric_eigen();
        let d = self.gram.nrows();
        let mut order: Vec<usize> = (0..d).collect();
        order.sort_by(|a, b| eigen.eigenvalues[*b].total_cmp(&eigen.eigenvalues[*a]));
        let values = order.iter().map(|i| eigen.eigenvalues[*i].max(0.0)).collect();
        (values, DMatrix::from_fn(d, d, |r, c| eigen.eigenvectors[(r, order[c])]))
    }

    fn factors(&self, vectors: &DMatrix<f64>) -> Factors {
        let u = match &self.basis {
            Some(basis) => basis * vectors,
            None => vectors.clone(),
        };
        let v = u.transpose() * &self.w;
        let want = &self.w * &self.judges;
        let got = &u * (&v * &self.judges);
        Factors { u, v, rest: nearest::ratio(&want, &got) }
    }
}
