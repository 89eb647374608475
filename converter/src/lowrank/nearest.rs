//! Whether two thin matrices in planes take fewer bytes than one for results that are as near.

use super::factors::Factors;
use crate::calibrate::Rows;
use crate::compress::{self, Family, Matrix, Root, Use, decoded};
use crate::draft::Draft;
use crate::error::ConvertError;
use nalgebra::DMatrix;

/// Bits of dense weights whose bytes factors are held against: those that float rungs and integer rungs have in the middle.
const COMPARED: [u32; 2] = [4, 8];
/// Rows that results are compared on.
const ROWS: usize = 512;

/// Squared error of results over their variance about each row's mean.
pub fn ratio(want: &DMatrix<f64>, got: &DMatrix<f64>) -> f64 {
    let mean = want.column_mean();
    let variance = want.norm_squared() - mean.norm_squared() * want.ncols() as f64;
    (want - got).norm_squared() / variance.max(f64::MIN_POSITIVE)
}

/// One precision of a form: what it takes and how far its results are from the matrix's.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// Bits of a weight.
    pub bits: u32,
    /// Bytes of it.
    pub bytes: u64,
    /// Squared error of results over their variance.
    pub distortion: f64,
}

/// Every precision of the form that the converter stores a matrix in: planes, or planes of what is not 0.
///
/// # Errors
/// When an element is not finite.
pub fn dense_points(matrix: &Matrix, rows: &Rows, without: &[Family]) -> Result<Vec<Point>, ConvertError> {
    let mut draft = Draft::default();
    let root = compress::nested(&mut draft, matrix, without)?;
    points_of(&draft, matrix, &root, rows)
}

/// Every precision of a root of a matrix, against the matrix on some of the rows.
///
/// # Errors
/// When its expression is not sound.
pub fn points_of(
    draft: &Draft,
    matrix: &Matrix,
    root: &Root,
    rows: &Rows,
) -> Result<Vec<Point>, ConvertError> {
    let (x, want) = results(matrix, rows);
    let point = |(level, take): (&compress::Level, usize)| {
        let w = doubled(&decoded(draft, &matrix.name, &root.expr, (matrix.n, matrix.k), take)?);
        Ok(Point { bits: level.bits, bytes: root.bytes(draft, take), distortion: ratio(&want, &(w * &x)) })
    };
    root.levels.iter().zip(1..).map(point).collect()
}

/// The same of factors, both of so many bits.
///
/// # Errors
/// When an element is not finite.
pub fn factor_points(matrix: &Matrix, factors: &Factors, rows: &Rows) -> Result<Vec<Point>, ConvertError> {
    let (x, want) = results(matrix, rows);
    let mut draft = Draft::default();
    let stored = |draft: &mut Draft, values: &DMatrix<f64>| {
        let (n, k) = values.shape();
        let values = values.transpose().iter().map(|value| *value as f32).collect();
        let thin = Matrix { name: matrix.name.clone(), n, k, values, used: Use::Product };
        Ok::<_, ConvertError>((compress::planes(draft, &thin)?, (n, k)))
    };
    let (v, v_dims) = stored(&mut draft, &factors.v)?;
    let (u, u_dims) = stored(&mut draft, &factors.u)?;
    let point = |take: usize| {
        let inner = doubled(&decoded(&draft, &matrix.name, &v.expr, v_dims, take)?) * &x;
        let got = doubled(&decoded(&draft, &matrix.name, &u.expr, u_dims, take)?) * inner;
        let bytes = v.bytes(&draft, take) + u.bytes(&draft, take);
        Ok(Point { bits: v.levels[take - 1].bits, bytes, distortion: ratio(&want, &got) })
    };
    (1..=v.levels.len()).map(point).collect()
}

/// Whether the factors take fewer bytes wherever dense weights of a few bits are as near.
///
/// # Errors
/// When an element is not finite.
pub(super) fn wins(
    matrix: &Matrix,
    factors: &Factors,
    rows: &Rows,
    without: &[Family],
) -> Result<bool, ConvertError> {
    let (dense, thin) = (dense_points(matrix, rows, without)?, factor_points(matrix, factors, rows)?);
    let fewer =
        |point: &Point| bytes_at(&thin, point.distortion).is_some_and(|bytes| bytes < point.bytes as f64);
    Ok(dense.iter().filter(|point| COMPARED.contains(&point.bits)).all(fewer))
}

/// Bytes that a form takes for a distortion, between its precisions by straight lines of bytes over decibels; `None` beyond the finest.
pub fn bytes_at(points: &[Point], distortion: f64) -> Option<f64> {
    let log = |d: f64| d.max(f64::MIN_POSITIVE).ln();
    let finer = points.iter().position(|point| point.distortion <= distortion)?;
    let Some(coarser) = finer.checked_sub(1).map(|i| points[i]) else { return Some(points[0].bytes as f64) };
    let (from, to) = (log(coarser.distortion), log(points[finer].distortion));
    let part = (from - log(distortion)) / (from - to).max(f64::MIN_POSITIVE);
    Some(coarser.bytes as f64 + part * (points[finer].bytes as f64 - coarser.bytes as f64))
}

fn doubled(matrix: &DMatrix<f32>) -> DMatrix<f64> {
    matrix.map(f64::from)
}

/// Some of the rows `[k, m]`, those that factors were not fitted to, and what the matrix makes of them.
fn results(matrix: &Matrix, rows: &Rows) -> (DMatrix<f64>, DMatrix<f64>) {
    let (n, k) = (matrix.n, matrix.k);
    let m = rows.values.len() / k.max(1);
    let judges: Vec<usize> = (1..m).step_by(2).collect();
    let count = judges.len().min(ROWS);
    let row = |c: usize| judges[c * judges.len() / count];
    let x = DMatrix::from_fn(k, count, |r, c| f64::from(rows.values[row(c) * k + r]));
    let w = DMatrix::from_fn(n, k, |r, c| f64::from(matrix.values[r * k + c]));
    let want = &w * &x;
    (x, want)
}
