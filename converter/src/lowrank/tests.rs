//! Factors against the decomposition that they are defined by, and the graph that they make.

use super::{Factors, bytes_at, dense_points, factor_points, factors, most_rank, of_ranks};
use crate::calibrate::Rows;
use crate::compress::{Matrix, Use};
use edge_runtime::random::uniform;
use nalgebra::DMatrix;

/// Rows of inputs, half of which factors are fitted to.
const M: usize = 400;

fn noise(key: u64, rows: usize, cols: usize) -> DMatrix<f64> {
    DMatrix::from_fn(rows, cols, |r, c| 2.0 * f64::from(uniform(key, (r * cols + c) as u64)) - 1.0)
}

fn matrix(w: &DMatrix<f64>) -> Matrix<'static> {
    let values = w.transpose().iter().map(|value| *value as f32).collect();
    Matrix { name: "w".into(), n: w.nrows(), k: w.ncols(), values, used: Use::Product }
}

/// Inputs whose channels differ in size and depend on each other.
fn inputs(k: usize) -> (Rows, DMatrix<f64>) {
    let spread =
        noise(2, k, k) + DMatrix::from_fn(k, k, |r, c| if r == c { 3.0 / (1 + r % 7) as f64 } else { 0.0 });
    let x = spread * noise(3, k, M);
    let values: Vec<f32> = x.iter().map(|value| *value as f32).collect();
    let x =
        DMatrix::from_column_slice(k, M, &values.iter().map(|value| f64::from(*value)).collect::<Vec<_>>());
    (Rows { k, values }, x)
}

/// `W S` with `S S' = X X' + ridge I` of every other row, by Cholesky.
fn whitened(w: &DMatrix<f64>, x: &DMatrix<f64>) -> DMatrix<f64> {
    let k = w.ncols();
    let half = DMatrix::from_fn(k, M / 2, |r, c| x[(r, 2 * c)]);
    let ridge = 1e-4 * half.norm_squared() / k as f64;
    let moments = &half * half.transpose() + DMatrix::identity(k, k) * ridge;
    let single = w.map(|value| f64::from(value as f32));
    single * moments.cholesky().unwrap().l()
}

#[test]
fn factors_leave_what_the_whitened_decomposition_leaves() {
    for (n, k) in [(48, 80), (96, 40)] {
        let w = noise(1, n, k);
        let (rows, x) = inputs(k);
        let white = whitened(&w, &x);
        let sigma = white.clone().svd(false, false).singular_values;
        let ranks = [1, 7, 16, 32];
        // More than there can be is left out.
        let all = of_ranks(&matrix(&w), &rows, &[&ranks[..], &[n.min(k) + 1]].concat()).unwrap();
        assert_eq!(all.len(), ranks.len());
        for (rank, Factors { u, v, .. }) in ranks.into_iter().zip(all) {
            assert_eq!((u.shape(), v.shape()), ((n, rank), (rank, k)));
            let rest = whitened(&(&w - &u * &v), &x);
            // Eckart and Young: no other product of this rank leaves less.
            let least: f64 = sigma.iter().skip(rank).map(|s| s * s).sum();
            let left = rest.norm_squared();
            assert!((left - least).abs() < 1e-5 * least, "[{n}, {k}] rank {rank}: {left} for {least}");
            let columns = u.transpose() * &u - DMatrix::identity(rank, rank);
            assert!(columns.amax() < 1e-9, "columns of U are orthonormal: {}", columns.amax());
        }
    }
}

#[test]
fn a_matrix_of_low_rank_is_found_with_few_rows_and_one_of_full_rank_never() {
    let low = noise(1, 128, 20) * noise(4, 20, 96);
    let (rows, _) = inputs(96);
    let found = factors(&matrix(&low), &rows, 1e-9).unwrap();
    assert_eq!(found.rank(), 32, "a multiple of the panel's rows");
    assert!(found.rest < 1e-12, "{}", found.rest);
    let few = Rows { k: 96, values: rows.values[..24 * 96].to_vec() };
    assert_eq!(factors(&matrix(&low), &few, 1e-9).unwrap().rank(), 32);
    let none = Rows { k: 96, values: rows.values[..8 * 96].to_vec() };
    assert!(factors(&matrix(&low), &none, 1e-9).is_none());
    // As few rows show a full matrix in few directions, but not that it has no others.
    let full = matrix(&noise(1, 128, 96));
    assert!(factors(&full, &few, 1e-6).is_none() && factors(&full, &rows, 1e-6).is_none());
    let zero = matrix(&DMatrix::zeros(128, 96));
    assert!(factors(&zero, &rows, 1e-6).is_none());
    let wrong = Rows { k: 95, values: rows.values.clone() };
    assert!(factors(&matrix(&low), &wrong, 1e-6).is_none());
}

#[test]
fn a_matrix_whose_inputs_lie_in_few_directions_is_of_low_rank_for_them() {
    let w = noise(1, 96, 96);
    let x = noise(5, 96, 10) * noise(6, 10, M);
    let rows = Rows { k: 96, values: x.iter().map(|value| *value as f32).collect() };
    // The ridge, 40 dB below, stands for inputs that were not seen.
    assert_eq!(factors(&matrix(&w), &rows, 1e-3).unwrap().rank(), 16);
    assert!(factors(&matrix(&w), &rows, 1e-6).is_none());
}

#[test]
fn ranks_save_multiplications() {
    for (n, k) in [(16, 16), (64, 64), (64, 576), (1000, 1280), (1, 4096), (0, 0)] {
        let rank = most_rank(n, k);
        assert!(rank.is_multiple_of(16) && 4 * rank * (n + k) <= 3 * n * k, "[{n}, {k}]: {rank}");
    }
    assert_eq!((most_rank(64, 64), most_rank(64, 576), most_rank(16, 16)), (16, 32, 0));
}

#[test]
fn factors_take_fewer_bytes_where_results_are_as_near() {
    let low = matrix(&(noise(1, 128, 16) * noise(4, 16, 128)));
    let (rows, _) = inputs(128);
    let found = factors(&low, &rows, 1e-9).unwrap();
    let (dense, thin) =
        (dense_points(&low, &rows, &[]).unwrap(), factor_points(&low, &found, &rows).unwrap());
    assert!(thin.iter().zip(&dense).all(|(thin, dense)| 3 * thin.bytes < dense.bytes), "{thin:?} {dense:?}");
    for points in [&dense, &thin] {
        assert!(points.is_sorted_by(|a, b| a.bytes < b.bytes && a.distortion > b.distortion), "{points:?}");
    }
    let at = |i: usize| bytes_at(&dense, dense[i].distortion).unwrap();
    assert_eq!(at(2), dense[2].bytes as f64);
    let between = bytes_at(&dense, (dense[1].distortion * dense[2].distortion).sqrt()).unwrap();
    assert!((between - 0.5 * (at(1) + at(2))).abs() < 1.0, "{between}");
    assert_eq!(bytes_at(&dense, 1e-30), None);
    assert_eq!(bytes_at(&dense, 10.0), Some(dense[0].bytes as f64));
}
