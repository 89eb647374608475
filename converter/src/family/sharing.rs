//! Which matrices of the subnets are prefixes of one another. Found by content: names play no part.

use crate::compress::{Matrix, Use, matrices};
use crate::error::ConvertError;
use crate::model::Model;
use edge_runtime::graph::{Op, Source};
use std::collections::HashMap;

/// A matrix stored once for several subnets.
pub struct Shared {
    /// The largest version.
    pub matrix: Matrix<'static>,
    /// Taps of the window: `k` is taps x channels, and a narrower subnet uses the first channels of every tap.
    pub taps: usize,
    /// Rows and channels of each version, smallest first; the last one is the whole.
    pub sizes: Vec<[usize; 2]>,
}

/// What a subnet's constant is: a version of a shared matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version {
    /// Index of the shared matrix.
    pub shared: usize,
    /// Rows and channels.
    pub size: [usize; 2],
}

/// The shared matrices of a family, and for each model which of its constants are versions of them.
pub struct Sharing {
    /// Every matrix of the family.
    pub matrices: Vec<Shared>,
    /// By model, by constant.
    pub versions: Vec<HashMap<u32, Version>>,
}

/// Finds what models share. They must come smallest first: a matrix is looked for as the beginning of a larger one.
///
/// # Errors
/// When a weight is not finite.
pub fn find(models: &[Model]) -> Result<Sharing, ConvertError> {
    let mut found: Vec<Shared> = Vec::new();
    let mut versions = Vec::with_capacity(models.len());
    for model in models {
        let taps = taps(model);
        let found_here = matrices(&model.graph, &model.constants)?;
        let mut own: Vec<(u32, Matrix<'static>)> =
            found_here.iter().map(|(id, stored)| (*id, owned(stored.matrix()))).collect();
        own.sort_by_key(|(id, _)| *id);
        let mut of_model = HashMap::new();
        // A shared matrix is at most one matrix of each model.
        let mut taken = vec![false; found.len()];
        for (id, matrix) in own {
            let taps = taps.get(&id).copied().filter(|t| matrix.k.is_multiple_of(*t)).unwrap_or(1);
            let size = [matrix.n, matrix.k / taps];
            // The largest candidate: a small one may be the beginning of much by chance.
            let fits = |s: &Shared| s.taps == taps && s.matrix.used == matrix.used && begins(&matrix, s);
            let best = (0..taken.len()).filter(|i| !taken[*i] && fits(&found[*i]));
            let best = best.max_by_key(|i| found[*i].matrix.values.len());
            let shared = match best {
                Some(i) => {
                    taken[i] = true;
                    if found[i].sizes.last() != Some(&size) {
                        found[i].sizes.push(size);
                        found[i].matrix = matrix;
                    }
                    i
                }
                None => {
                    found.push(Shared { matrix, taps, sizes: vec![size] });
                    found.len() - 1
                }
            };
            of_model.insert(id, Version { shared, size });
        }
        versions.push(of_model);
    }
    Ok(Sharing { matrices: found, versions })
}

/// The matrix with elements of its own.
fn owned(matrix: Matrix<'_>) -> Matrix<'static> {
    let Matrix { name, n, k, values, used } = matrix;
    Matrix { name, n, k, values: values.into_owned().into(), used }
}

/// Window taps of every constant that is a convolution's matrix (a depthwise one has rows alone).
fn taps(model: &Model) -> HashMap<u32, usize> {
    let mut taps = HashMap::new();
    model.graph.body.for_each(&mut |node| {
        let Op::Conv { window, groups: 1, .. } = &node.op else { return };
        let value = node.inputs.get(1).copied().flatten();
        if let Some(Source::Constant(id)) = value.map(|v| model.graph.values[v as usize].source) {
            taps.insert(id, window.kernel[0] * window.kernel[1]);
        }
    });
    taps
}

/// Whether what is stored so far is the beginning of a matrix: its first rows, and the first channels of every tap.
fn begins(matrix: &Matrix, stored: &Shared) -> bool {
    let [n, c] = [stored.matrix.n, stored.matrix.k / stored.taps];
    let channels = matrix.k / stored.taps;
    if n > matrix.n || c > channels || (matrix.used != Use::Product && stored.matrix.k != matrix.k) {
        return false;
    }
    (0..n).all(|row| {
        (0..stored.taps).all(|tap| {
            let small = &stored.matrix.values[row * stored.matrix.k + tap * c..][..c];
            let large = &matrix.values[row * matrix.k + tap * channels..][..c];
            small.iter().zip(large).all(|(a, b)| a.to_bits() == b.to_bits())
        })
    })
}

impl Shared {
    /// The matrix cut into rectangles `[n0, n1, c0, c1]` in ladder order: the smallest version, then what each larger
    /// one adds, to the right and below.
    pub fn blocks(&self) -> Vec<[usize; 4]> {
        let mut blocks = Vec::new();
        let [mut n, mut c] = [0, 0];
        for [rows, channels] in &self.sizes {
            if n > 0 && *channels > c {
                blocks.push([0, n, c, *channels]);
            }
            if *rows > n {
                blocks.push([n, *rows, 0, *channels]);
            }
            (n, c) = (*rows, *channels);
        }
        blocks
    }

    /// The elements of a rectangle, row-major `[rows, taps * channels]`.
    pub fn block(&self, rectangle: [usize; 4]) -> Matrix<'static> {
        self.matrix.part(self.taps, rectangle)
    }
}

#[cfg(test)]
mod tests {
    use super::{Matrix, Shared, Use, begins};

    fn matrix(n: usize, taps: usize, c: usize) -> Matrix<'static> {
        // Element (row, tap, channel) has the same value in every version.
        let values = (0..n)
            .flat_map(|r| (0..taps).flat_map(move |t| (0..c).map(move |k| (r * 100 + t * 10 + k) as f32)))
            .collect();
        Matrix { name: "w".into(), n, k: taps * c, values, used: Use::Product }
    }

    #[test]
    fn a_prefix_of_rows_and_of_each_taps_channels_is_found() {
        let small = Shared { matrix: matrix(2, 3, 2), taps: 3, sizes: vec![[2, 2]] };
        assert!(begins(&matrix(2, 3, 2), &small));
        assert!(begins(&matrix(5, 3, 4), &small));
        assert!(!begins(&matrix(1, 3, 4), &small));
        let mut other = matrix(5, 3, 4);
        other.values.to_mut()[5] += 1.0;
        assert!(!begins(&other, &small), "an element of tap 1 differs");
    }

    #[test]
    fn blocks_cover_the_matrix_once_and_hold_its_elements() {
        let shared = Shared { matrix: matrix(6, 2, 5), taps: 2, sizes: vec![[2, 3], [2, 5], [6, 5]] };
        let blocks = shared.blocks();
        assert_eq!(blocks, [[0, 2, 0, 3], [0, 2, 3, 5], [2, 6, 0, 5]]);
        let area: usize = blocks.iter().map(|[a, b, c, d]| (b - a) * (d - c)).sum();
        assert_eq!(area, 6 * 5);
        assert_eq!(*shared.block([0, 2, 3, 5]).values, [3.0, 4.0, 13.0, 14.0, 103.0, 104.0, 113.0, 114.0]);
    }
}
