//! What the forms of a weight cost and lose, matrix by matrix of a real model: nested planes beside planes of each width alone, and
//! planes, low rank and zeros at the same bytes. `benches/README.md` has what it prints.
//!
//! ```text
//! cargo run --profile quick -p edge-converter --example curves -- model.onnx [samples/]
//! ```

use edge_converter::compress::sparse::{Structure, prune, sparse};
use edge_converter::compress::{self, Matrix};
use edge_converter::draft::Draft;
use edge_converter::lowrank::{
    Point, dense_points, factor_points, most_rank, of_ranks, points_of, ratio, seen,
};
use edge_converter::{ConvertError, Family, Options, Rows, Watch};
use edge_runtime::pack::{Take, Tensor};
use edge_runtime::plan::PlanError;
use edge_runtime::weights::planes::{self, Spec};
use edge_runtime::weights::{Registry, Weights, bind};
use nalgebra::DMatrix;
use std::path::PathBuf;
use std::sync::atomic::AtomicBool;

/// Widths that are compared.
const WIDTHS: [u32; 4] = [2, 4, 6, 8];
/// Bits a weight of the matrix that forms may take, scales and positions included.
const BUDGETS: [f64; 7] = [1.5, 2.0, 2.75, 3.5, 4.6, 6.6, 8.6];
/// Smallest matrix that counts.
const ELEMENTS: usize = 4096;
/// Zeros that a dense matrix may be given.
const ZEROS: [(Structure, f64); 4] = [
    (Structure::Few { keep: 2, of: 4 }, 0.5),
    (Structure::Few { keep: 1, of: 4 }, 0.25),
    (Structure::Bitmap, 0.5),
    (Structure::Bitmap, 0.25),
];
/// Forms of which curves are drawn.
const FORMS: [&str; 4] = ["planes", "planes, corrected", "low rank", "zeros"];

struct Quiet;

impl Watch for Quiet {
    fn stage(&mut self, _: &str, _: usize) {}
    fn progress(&mut self, _: usize) {}
    fn progress_of(&mut self, _: usize, _: usize) {}
}

fn main() -> Result<(), ConvertError> {
    let mut args = std::env::args_os().skip(1).map(PathBuf::from);
    let Some(model) = args.next() else {
        eprintln!("usage: curves MODEL.onnx [SAMPLES]");
        std::process::exit(2);
    };
    let options = Options { calib: args.next(), ..Options::default() };
    let mut matrices = seen(&model, &options, &mut Quiet, &AtomicBool::new(false))?;
    matrices.retain(|(m, rows)| m.n * m.k >= ELEMENTS && rows.values.len() >= 32 * m.k);
    let weights: usize = matrices.iter().map(|(m, _)| m.n * m.k).sum();
    println!("{}: {} matrices, {weights} weights", model.display(), matrices.len());

    let mut losses = vec![Vec::new(); WIDTHS.len()];
    let mut lost_results = vec![Vec::new(); WIDTHS.len()];
    let mut curves = vec![vec![Vec::new(); BUDGETS.len()]; FORMS.len()];
    let mut wins = vec![[0; FORMS.len()]; BUDGETS.len()];
    for (matrix, rows) in &matrices {
        let nested = dense_points(matrix, rows, &[Family::Sparse])?;
        for (i, bits) in WIDTHS.into_iter().enumerate() {
            let (alone, point) = alone(matrix, rows, bits)?;
            losses[i].push((alone - prefix(matrix, bits)?, matrix));
            let of_nested = nested.iter().find(|p| p.bits == bits).map_or(0.0, |p| db(p.distortion));
            lost_results[i].push((db(point.distortion) - of_nested, matrix));
        }
        let forms = [nested, corrected(matrix, rows)?, low_rank(matrix, rows)?, zeros(matrix, rows)?];
        for (at, budget) in BUDGETS.iter().enumerate() {
            let most = budget * (matrix.n * matrix.k) as f64 / 8.0;
            let best = |points: &Vec<Point>| {
                let fits = points.iter().filter(|p| p.bytes as f64 <= most).map(|p| db(p.distortion));
                fits.fold(0.0f64, f64::max)
            };
            let each: Vec<f64> = forms.iter().map(best).collect();
            let winner =
                (0..FORMS.len()).max_by(|a, b| each[*a].total_cmp(&each[*b]).then(b.cmp(a))).unwrap_or(0);
            wins[at][winner] += 1;
            for (curve, db) in curves.iter_mut().zip(each) {
                curve[at].push(db);
            }
        }
    }
    println!(
        "\nSQNR that a prefix of nested planes loses to planes of its width alone, dB (weights; results on samples):\n"
    );
    println!("| bits | median | worst | of | median, results | worst, results | of |");
    println!("|---|---|---|---|---|---|---|");
    for (i, bits) in WIDTHS.iter().enumerate() {
        let [(a, b, c), (d, e, f)] = [&mut losses[i], &mut lost_results[i]].map(|l| median_and_worst(l));
        println!("| {bits} | {a:.2} | {b:.2} | {c} | {d:.2} | {e:.2} | {f} |");
    }
    println!(
        "\nSQNR of results at so many bits a weight, median over matrices in dB, and for how many matrices the form is best:\n"
    );
    println!("| bits | {} | best |", FORMS.join(" | "));
    println!("|---|---|---|---|---|---|");
    for (at, budget) in BUDGETS.iter().enumerate() {
        let medians: Vec<String> = curves.iter_mut().map(|c| format!("{:.1}", median(&mut c[at]))).collect();
        let wins = wins[at].map(|count| count.to_string()).join(" / ");
        println!("| {budget} | {} | {wins} |", medians.join(" | "));
    }
    Ok(())
}

fn db(distortion: f64) -> f64 {
    -10.0 * distortion.max(1e-20).log10()
}

fn encoded(matrix: &Matrix, spec: &Spec) -> Result<planes::EncodedPlanes, ConvertError> {
    planes::encode(&matrix.values, matrix.n, matrix.k, spec, &[])
        .map_err(|e| ConvertError::Weight { tensor: matrix.name.clone(), why: e.to_string() })
}

/// SQNR of the weights of a width in dB.
fn of_weights(matrix: &Matrix, encoded: &planes::EncodedPlanes, bits: u32) -> f64 {
    let signal: f64 = matrix.values.iter().map(|w| f64::from(*w).powi(2)).sum();
    let mut total = 0;
    let at = encoded.spec.bits.iter().position(|plane| {
        total += plane;
        total == bits
    });
    db(at.map_or(1.0, |at| encoded.squared_error[at] / signal.max(f64::MIN_POSITIVE)))
}

fn prefix(matrix: &Matrix, bits: u32) -> Result<f64, ConvertError> {
    Ok(of_weights(matrix, &encoded(matrix, &Spec::default())?, bits))
}

/// Planes made for one width and no other: scales that are best for it, codes that are rounded to it.
fn alone(matrix: &Matrix, rows: &Rows, bits: u32) -> Result<(f64, Point), ConvertError> {
    let planes = if bits == 6 { vec![2, 4] } else { vec![bits] };
    let mut prefix_weights = vec![0.0; planes.len()];
    prefix_weights[planes.len() - 1] = 1.0;
    let spec = Spec { bits: planes, prefix_weights, ..Spec::default() };
    let encoded = encoded(matrix, &spec)?;
    let mut draft = Draft::default();
    let blobs: Vec<_> = encoded.blobs.iter().map(|bytes| draft.blob(bytes.clone())).collect();
    let level = compress::Level { bits, rank: 0, blobs: blobs.clone() };
    let levels = vec![level; encoded.spec.bits.len()];
    let root = compress::Root { expr: encoded.expr(blobs), levels, one_scale: None };
    let points = points_of(&draft, matrix, &root, rows)?;
    Ok((of_weights(matrix, &encoded, bits), points[points.len() - 1]))
}

/// Planes with what makes up for their coarseness, fitted to every other row as factors are.
fn corrected(matrix: &Matrix, rows: &Rows) -> Result<Vec<Point>, ConvertError> {
    let (n, k) = (matrix.n, matrix.k);
    let halves: [Vec<f32>; 2] =
        [0, 1].map(|first| rows.values.chunks_exact(k).skip(first).step_by(2).flatten().copied().collect());
    let [fitted, judged] = halves;
    let mut draft = Draft::default();
    let plain = compress::planes(&mut draft, matrix)?;
    draft.tensor(Tensor { name: matrix.name.clone(), n, k, roots: vec![plain.expr.clone()] });
    let Some(root) = compress::corrected(&mut draft, 0, &plain, Rows { k, values: fitted }, &[])? else {
        return points_of(&draft, matrix, &plain, rows);
    };
    draft.header.tensors[0].roots = vec![root.expr.clone()];
    let source = draft.source();
    let x = DMatrix::from_column_slice(k, judged.len() / k, &judged);
    let want = DMatrix::from_row_slice(n, k, &matrix.values) * &x;
    let point = |(level, take): (&compress::Level, u32)| {
        let weights = bind(&Registry::standard(), &draft.header, 0, Take(0, take), &source)
            .map_err(|e| ConvertError::from(PlanError::from(e)))?;
        let of = |w: &dyn Weights| DMatrix::from_row_slice(w.n(), w.k(), &w.materialize());
        let mut got = of(&*weights) * &x;
        if let Some(correction) = weights.correction() {
            let (mut scale, mut bias) = (vec![1.0; n], vec![0.0; n]);
            correction.apply(&mut scale, &mut bias, 1.0, false);
            for (mut row, (scale, bias)) in got.row_iter_mut().zip(scale.iter().zip(&bias)) {
                row *= *scale;
                row.add_scalar_mut(*bias);
            }
            if let Some(thin) = correction.factors() {
                got += of(&*thin.u) * (of(&*thin.v) * &x);
            }
        }
        let distortion = ratio(&want.map(f64::from), &got.map(f64::from));
        Ok(Point { bits: level.bits, bytes: root.bytes(&draft, take as usize), distortion })
    };
    root.levels.iter().zip(1..).map(point).collect()
}

/// Factors of several ranks at every precision.
fn low_rank(matrix: &Matrix, rows: &Rows) -> Result<Vec<Point>, ConvertError> {
    let most = most_rank(matrix.n, matrix.k);
    let mut ranks: Vec<usize> =
        (1..=6).map(|i| (most * i / 6).next_multiple_of(16)).filter(|r| *r > 0).collect();
    ranks.dedup();
    let mut points = Vec::new();
    for factors in of_ranks(matrix, rows, &ranks).unwrap_or_default() {
        points.extend(factor_points(matrix, &factors, rows)?);
    }
    Ok(points)
}

/// The matrix with its least weights set to 0, by what they are multiplied with, at every precision.
fn zeros(matrix: &Matrix, rows: &Rows) -> Result<Vec<Point>, ConvertError> {
    let mut norms = vec![0.0f32; matrix.k];
    for row in rows.values.chunks_exact(matrix.k) {
        norms.iter_mut().zip(row).for_each(|(norm, x)| *norm += x * x);
    }
    norms.iter_mut().for_each(|norm| *norm = norm.sqrt());
    let mut points = Vec::new();
    for (structure, density) in ZEROS {
        let mut thin = matrix.clone();
        prune(&mut thin, structure, density, &norms);
        let mut draft = Draft::default();
        let root = sparse(&mut draft, &thin, structure)?;
        points.extend(points_of(&draft, matrix, &root, rows)?);
    }
    Ok(points)
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn median_and_worst(losses: &mut [(f64, &Matrix)]) -> (f64, f64, String) {
    losses.sort_by(|a, b| a.0.total_cmp(&b.0));
    let middle = losses.get(losses.len() / 2).map_or(f64::NAN, |l| l.0);
    match losses.last() {
        Some((worst, m)) => (middle, *worst, format!("{} [{}, {}]", m.name, m.n, m.k)),
        None => (middle, f64::NAN, String::new()),
    }
}
