//! Matrices with zeros: what structure these have, what each form of `sparse` takes for them, and how to make some.

mod times;

pub use times::{BREAK_EVEN, BreakEven, FEW_EVEN, FewEven, pays, pays_for};

use super::{Matrix, Root, Use, planes, row_codes};
use crate::draft::Draft;
use crate::error::ConvertError;
use edge_runtime::pack::Acts;
use edge_runtime::weights::PANEL;
use edge_runtime::weights::sparse::{self, Positions};

/// Columns of a group whose positions are told one by one.
const GROUPS: [usize; 3] = [4, 8, 16];
/// Columns of a block.
const BLOCKS: [usize; 3] = [8, 4, 1];
/// Bits of values at which forms are compared with planes of all elements: those of a middle rung.
const COMPARED: u32 = 4;
/// Most elements of a sparse matrix, as a share.
const MOST_PRESENT: f64 = 0.75;
/// Most of the bytes of all elements that a form may take.
const MOST_BYTES: f64 = 0.85;
/// Columns of one scale of 2 bytes in the planes of values.
const SCALED: usize = 32;

/// How the positions of a matrix are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Structure {
    /// Each 16 rows keep whole blocks of so many columns.
    Blocks(usize),
    /// Each row keeps some of every few columns.
    Few {
        /// What a row keeps of them at most.
        keep: usize,
        /// Columns of a group.
        of: usize,
    },
    /// A bit an element.
    Bitmap,
}

/// What a form takes that holds a matrix exactly, but for the rounding of its values.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cost {
    /// The form.
    pub structure: Structure,
    /// Bytes of positions.
    pub positions: u64,
    /// Values that are stored, room that the matrix does not need included.
    pub values: u64,
    /// Of K, the share that a product of kept blocks multiplies; 1 for the other forms.
    pub multiplied: f64,
}

impl Cost {
    /// Bytes of positions, scales and values of so many bits.
    pub fn bytes(&self, bits: u32) -> u64 {
        self.positions + (self.values * u64::from(bits)).div_ceil(8) + self.values.div_ceil(SCALED as u64) * 2
    }
}

/// The zeros of a matrix.
#[derive(Clone, Debug, PartialEq)]
pub struct Zeros {
    /// Share of elements that are 0.
    pub share: f64,
    /// Every form that has use for them.
    pub forms: Vec<Cost>,
}

impl Zeros {
    /// The form that takes the fewest bytes with values of so many bits, when it takes fewer than all `elements` would.
    pub fn smallest(&self, elements: usize, bits: u32) -> Option<&Cost> {
        let all =
            Cost { structure: Structure::Bitmap, positions: 0, values: elements as u64, multiplied: 1.0 };
        let smaller = self.forms.iter().filter(|cost| cost.bytes(bits) < all.bytes(bits));
        smaller.min_by_key(|cost| cost.bytes(bits))
    }
}

/// What structure the zeros of a matrix have, and what each form takes for them.
pub fn zeros(matrix: &Matrix) -> Zeros {
    let (n, k, w) = (matrix.n, matrix.k, &matrix.values);
    let stays = w.iter().filter(|w| **w != 0.0).count();
    let (rows, mut forms) = (n.next_multiple_of(PANEL) as u64, Vec::new());
    for block in BLOCKS.into_iter().filter(|block| is_cut(k, *block)) {
        let kept = most_blocks(matrix, block).max(1);
        if kept < k / block {
            forms.push(Cost {
                structure: Structure::Blocks(block),
                positions: rows / PANEL as u64 * kept as u64 * 2,
                values: rows * (kept * block) as u64,
                multiplied: (kept * block) as f64 / k as f64,
            });
        }
    }
    for of in GROUPS {
        let keep = w.chunks(k.max(1)).flat_map(|row| row.chunks(of)).map(present).max().unwrap_or(0).max(1);
        if keep < of {
            let values = rows * (k.div_ceil(of) * keep) as u64;
            let bits = u64::from(of.ilog2());
            forms.push(Cost {
                structure: Structure::Few { keep, of },
                positions: values * bits / 8,
                values,
                multiplied: 1.0,
            });
        }
    }
    if stays < w.len() {
        forms.push(Cost {
            structure: Structure::Bitmap,
            positions: rows * k as u64 / 8 + rows / PANEL as u64 * 4 + n as u64 * 4,
            values: stays.max(1).next_multiple_of(PANEL) as u64,
            multiplied: 1.0,
        });
    }
    Zeros { share: 1.0 - stays as f64 / w.len().max(1) as f64, forms }
}

/// Whether K is so many whole blocks as a list can name.
fn is_cut(k: usize, block: usize) -> bool {
    k.is_multiple_of(block) && k / block <= usize::from(u16::MAX)
}

fn present(w: &[f32]) -> usize {
    w.iter().filter(|w| **w != 0.0).count()
}

/// Blocks that the fullest panel keeps.
fn most_blocks(matrix: &Matrix, block: usize) -> usize {
    let kept = |rows: &[f32]| {
        (0..matrix.k / block)
            .filter(|b| rows.chunks(matrix.k).any(|row| present(&row[b * block..][..block]) > 0))
            .count()
    };
    matrix.values.chunks(PANEL * matrix.k).map(kept).max().unwrap_or(0)
}

/// Stores what is not 0 of a matrix as nested planes; every zero stays one. Products of integers take codes of one scale a row.
///
/// # Errors
/// When the matrix is no operand of products, does not have the structure, or an element is not finite.
pub fn sparse(draft: &mut Draft, matrix: &Matrix, structure: Structure) -> Result<Root, ConvertError> {
    let refused = |why: String| ConvertError::Weight { tensor: matrix.name.clone(), why };
    let (n, k, w) = (matrix.n, matrix.k, &matrix.values);
    if matrix.used != Use::Product {
        return Err(refused(format!("sparse weights are for products, not for {:?}", matrix.used)));
    }
    let positions: Positions = match structure {
        Structure::Blocks(block) if BLOCKS.contains(&block) && is_cut(k, block) => {
            sparse::blocks(w, n, k, block)
        }
        Structure::Blocks(block) => {
            return Err(refused(format!("K = {k} is not cut into blocks of {block}, which are 1, 4 or 8")));
        }
        Structure::Few { keep, of } if (1..of).contains(&keep) && of <= 16 => {
            let few = sparse::few(w, n, k, keep, of);
            few.ok_or_else(|| refused(format!("some row has more than {keep} of {of} elements")))?
        }
        Structure::Few { keep, of } => return Err(refused(format!("{keep} of {of} columns"))),
        Structure::Bitmap => sparse::bitmap(w, n, k, true),
    };
    let values = Matrix {
        name: matrix.name.clone(),
        n: positions.n,
        k: positions.k,
        values: positions.values.as_slice().into(),
        used: Use::Product,
    };
    let Root { expr, mut levels, .. } = planes(draft, &values)?;
    let blobs: Vec<_> = positions.blobs.iter().map(|bytes| draft.blob(bytes.clone())).collect();
    levels.iter_mut().for_each(|level| level.blobs.extend(&blobs));
    // A row's scale stands before the values of a bitmap, whose own are of many rows.
    let values = if structure == Structure::Bitmap { expr } else { row_codes(expr, false) };
    Ok(Root { expr: positions.expr(values, blobs), levels, one_scale: None })
}

/// A matrix that arrives with zeros, stored so that they take no bytes; `None` where that saves little.
///
/// # Errors
/// When an element is not finite.
pub fn as_it_came(draft: &mut Draft, matrix: &Matrix) -> Result<Option<Root>, ConvertError> {
    let elements = matrix.n * matrix.k;
    // Rows that are all 0 fill panels up, as those of groups do; they say nothing of the others.
    let rows = || matrix.values.chunks(matrix.k.max(1)).filter(|row| present(row) > 0);
    let stays: usize = rows().map(present).sum();
    if matrix.used != Use::Product || stays as f64 > MOST_PRESENT * (rows().count() * matrix.k) as f64 {
        return Ok(None);
    }
    let zeros = zeros(matrix);
    let all = Cost { structure: Structure::Bitmap, positions: 0, values: elements as u64, multiplied: 1.0 };
    let most = MOST_BYTES * all.bytes(COMPARED) as f64;
    let small = || zeros.forms.iter().filter(|cost| cost.bytes(COMPARED) as f64 <= most);
    // Of forms that save enough, one that takes no time for it.
    let free = |cost: &&Cost| [Acts::F32, Acts::I8].iter().all(|a| pays(cost.structure, cost.multiplied, *a));
    let least = |a: &&Cost, b: &&Cost| a.bytes(COMPARED).cmp(&b.bytes(COMPARED));
    match small().filter(free).min_by(least).or_else(|| small().min_by(least)) {
        Some(cost) => sparse(draft, matrix, cost.structure).map(Some),
        None => Ok(None),
    }
}

/// Sets elements of a matrix to 0 so that it has a structure, with about `density` of what it has left where the structure does not say how
/// many: those whose magnitude times `importance` of their column (1 when empty: the norm of what it is multiplied with, where that is
/// known) is least, together in a block, in a group, or in a row.
///
/// # Panics
/// When `importance` is neither empty nor of K columns, or blocks do not divide K.
pub fn prune(matrix: &mut Matrix<'_>, structure: Structure, density: f64, importance: &[f32]) {
    let (n, k) = (matrix.n, matrix.k);
    assert!(importance.is_empty() || importance.len() == k, "importance of {} columns", importance.len());
    let weight = |c: usize| f64::from(importance.get(c).copied().unwrap_or(1.0));
    let score = |w: f32, c: usize| (f64::from(w) * weight(c)).powi(2);
    let of_share = |all: usize| ((all as f64 * density).round() as usize).clamp(1, all.max(1));
    let w = matrix.values.to_mut();
    match structure {
        Structure::Blocks(block) => {
            assert!(k.is_multiple_of(block), "blocks of {block} in K = {k}");
            for rows in w.chunks_mut(PANEL * k) {
                let of = |b: usize| -> f64 {
                    let cols = b * block..(b + 1) * block;
                    rows.chunks(k).flat_map(|row| cols.clone().map(|c| score(row[c], c))).sum()
                };
                let scores: Vec<f64> = (0..k / block).map(of).collect();
                for b in least(&scores, of_share(k / block)) {
                    rows.chunks_mut(k).for_each(|row| row[b * block..(b + 1) * block].fill(0.0));
                }
            }
        }
        Structure::Few { keep, of } => cut(w, n, k, of, |_| keep, score),
        Structure::Bitmap => cut(w, n, k, k, of_share, score),
    }
}

/// Of every `of` elements of a row, leaves as many as `keep` says of their number.
fn cut(
    w: &mut [f32],
    n: usize,
    k: usize,
    of: usize,
    keep: impl Fn(usize) -> usize,
    score: impl Fn(f32, usize) -> f64,
) {
    for row in w.chunks_mut(k.max(1)).take(n) {
        for (g, group) in row.chunks_mut(of).enumerate() {
            let scores: Vec<f64> = group.iter().enumerate().map(|(i, w)| score(*w, g * of + i)).collect();
            least(&scores, keep(group.len())).into_iter().for_each(|i| group[i] = 0.0);
        }
    }
}

/// All but the `keep` greatest; of equal ones the first are kept.
fn least(scores: &[f64], keep: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]));
    order.split_off(keep.min(scores.len()))
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::*;
    use crate::draft::plain_rung;
    use edge_runtime::pack::{Take, Tensor};
    use edge_runtime::random::uniform;

    fn matrix(n: usize, k: usize) -> Matrix<'static> {
        let values = (0..n * k).map(|i| uniform(5, i as u64) * 2.0 - 1.0).collect();
        Matrix { name: "w".into(), n, k, values, used: Use::Product }
    }

    const ALL: [Structure; 6] = [
        Structure::Blocks(8),
        Structure::Blocks(4),
        Structure::Blocks(1),
        Structure::Few { keep: 2, of: 4 },
        Structure::Few { keep: 3, of: 16 },
        Structure::Bitmap,
    ];

    #[test]
    fn every_take_of_every_form_comes_back_with_its_zeros() {
        for structure in ALL {
            let mut matrix = matrix(40, 64);
            prune(&mut matrix, structure, 0.3, &[]);
            let mut draft = Draft::default();
            let root = sparse(&mut draft, &matrix, structure).unwrap();
            assert!(root.one_scale.is_none() && root.levels.len() == 6);
            let tensor = Tensor { name: "w".into(), n: 40, k: 64, roots: vec![root.expr] };
            draft.header.tensors.push(tensor);
            let model = draft.open();
            for (take, Level { bits, .. }) in (1..).zip(&root.levels) {
                let mut rung = plain_rung("only", 0, Acts::I8);
                rung.takes = vec![Some(Take(0, take))];
                let weights = model.weights(&rung, 0).unwrap();
                assert_eq!(weights.code_form().is_some(), *bits <= 8, "{structure:?}, {bits} bits");
                let step = 2.5 / f32::from(1u16 << bits.min(&12));
                for (got, want) in weights.materialize().into_iter().zip(&*matrix.values) {
                    assert!((*want == 0.0) == (got == 0.0), "{structure:?}: {got}, want {want}");
                    assert!((got - want).abs() <= step, "{structure:?}, {bits} bits: {got}, want {want}");
                }
            }
        }
    }

    #[test]
    fn the_structure_of_zeros_is_found_and_its_bytes_are_those_that_are_stored() {
        for structure in ALL {
            let mut matrix = matrix(48, 128);
            prune(&mut matrix, structure, 0.25, &[]);
            let found = zeros(&matrix);
            let cost = found.forms.iter().find(|cost| cost.structure == structure).unwrap();
            let mut draft = Draft::default();
            let root = sparse(&mut draft, &matrix, structure).unwrap();
            for take in [1, 4] {
                let bits = root.levels[take - 1].bits;
                let stored = root.bytes(&draft, take);
                let near = stored.abs_diff(cost.bytes(bits)) <= stored / 20 + 64;
                assert!(near, "{structure:?}, {bits} bits: {stored} stored, {}", cost.bytes(bits));
            }
            assert!(found.smallest(48 * 128, 8).is_some());
        }
        let all = zeros(&matrix(16, 32));
        assert_eq!((all.share, all.smallest(16 * 32, 4)), (0.0, None));
    }

    #[test]
    fn pruning_keeps_what_counts_most() {
        let mut matrix = matrix(16, 8);
        matrix.values.to_mut()[..8].copy_from_slice(&[1.0, 2.0, 3.0, 4.0, -5.0, 0.1, 0.2, 0.3]);
        let mut one = matrix.clone();
        prune(&mut one, Structure::Few { keep: 2, of: 4 }, 1.0, &[]);
        assert_eq!(one.values[..8], [0.0, 0.0, 3.0, 4.0, -5.0, 0.0, 0.0, 0.3]);
        prune(&mut matrix, Structure::Few { keep: 1, of: 4 }, 1.0, &[9.0, 1.0, 1.0, 1.0, 0.0, 1.0, 1.0, 1.0]);
        assert_eq!(matrix.values[..8], [1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.3]);
    }

    #[test]
    fn what_pays_is_what_was_measured() {
        for acts in [Acts::F32, Acts::I8] {
            assert!(pays(Structure::Blocks(8), 0.5, acts) && !pays(Structure::Blocks(8), 0.9, acts));
            assert!(!pays(Structure::Blocks(2), 0.1, acts), "blocks of 2 were not measured");
            assert!(!pays(Structure::Bitmap, 1.0, acts));
            // Decoded on one class of CPU, for some numbers of rows.
            assert!(!pays(Structure::Few { keep: 2, of: 4 }, 1.0, acts));
        }
        assert!(!pays(Structure::Blocks(1), 0.1, Acts::I8) && pays(Structure::Blocks(1), 0.3, Acts::F32));
        let few =
            |keep, of, acts, isa, rows| pays_for(Structure::Few { keep, of }, 1.0, acts, Some((isa, rows)));
        assert!(few(2, 4, Acts::I8, "avx512_vnni", 1) && few(2, 4, Acts::I8, "avx512_vnni", 3));
        assert!(few(2, 16, Acts::I8, "avx512_vnni", 16) && !few(2, 4, Acts::I8, "avx512_vnni", 100));
        assert!(few(1, 4, Acts::F32, "avx512", 4) && !few(2, 4, Acts::F32, "avx512", 4));
        assert!(!few(2, 4, Acts::I8, "avx2", 1) && !few(1, 4, Acts::I8, "neon", 1));
    }

    #[test]
    fn what_has_not_the_structure_is_refused() {
        let mut draft = Draft::default();
        let error = |matrix: &Matrix, structure, draft: &mut Draft| {
            sparse(draft, matrix, structure).err().map(|e| e.to_string()).unwrap_or_default()
        };
        let few = error(&matrix(4, 8), Structure::Few { keep: 2, of: 4 }, &mut draft);
        assert!(few.contains("more than 2 of 4"), "{few}");
        let blocks = error(&matrix(4, 12), Structure::Blocks(8), &mut draft);
        assert!(blocks.contains("K = 12 is not cut into blocks of 8"), "{blocks}");
        let rows = Matrix { used: Use::Rows, ..matrix(4, 8) };
        assert!(error(&rows, Structure::Bitmap, &mut draft).contains("not for Rows"));
    }
}
