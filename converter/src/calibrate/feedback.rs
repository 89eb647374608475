//! From the rows that a matrix is multiplied with to what takes the rounding of its columns back.

use super::Rows;
use edge_runtime::weights::planes::Feedback;
use nalgebra::DMatrix;

/// What is added to the diagonal of the moments, as a share of its mean: directions that rows hardly show are not made use of.
const DAMPING: f64 = 0.01;

/// `U` with `Uᵀ U = H⁻¹`, `H` being the damped moments `mean(x xᵀ)` of the rows; `None` when they say nothing.
pub fn feedback(rows: &Rows) -> Option<Feedback> {
    let (k, m) = (rows.k, rows.values.len().checked_div(rows.k)?);
    let x = DMatrix::from_column_slice(k, m, &rows.values);
    let mut h = (&x * x.transpose()).map(f64::from) / m.max(1) as f64;
    let damping = DAMPING * h.trace() / k as f64;
    (0..k).for_each(|i| h[(i, i)] += damping);
    // Of the two factors of the inverse, L Lᵀ, the transposed one is U: L column by column is U row by row.
    let lower = h.cholesky()?.inverse().cholesky()?.unpack();
    Feedback::new(k, lower.as_slice().iter().map(|u| *u as f32).collect())
}

#[cfg(test)]
mod tests {
    use super::{DAMPING, Rows, feedback};
    use edge_runtime::random::uniform;
    use nalgebra::DMatrix;

    #[test]
    fn the_triangle_is_the_factor_of_the_inverse() {
        let (k, m) = (5, 40);
        let rows = Rows { k, values: (0..k * m).map(|i| uniform(1, i as u64) - 0.3).collect() };
        let u = DMatrix::from_fn(k, k, |r, c| f64::from(feedback(&rows).unwrap().row(r)[c]));
        assert!((0..k).all(|r| (0..r).all(|c| u[(r, c)] == 0.0)), "{u}");
        let x = DMatrix::from_column_slice(k, m, &rows.values).map(f64::from);
        let mut h = &x * x.transpose() / m as f64;
        let damping = DAMPING * h.trace() / k as f64;
        (0..k).for_each(|i| h[(i, i)] += damping);
        let one = h * (u.transpose() * u);
        assert!((one - DMatrix::identity(k, k)).abs().max() < 1e-3);
    }

    #[test]
    fn rows_of_zeros_say_nothing() {
        assert!(feedback(&Rows { k: 3, values: vec![0.0; 12] }).is_none());
        assert!(feedback(&Rows::default()).is_none());
    }
}
