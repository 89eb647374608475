//! Codes that make up for one another: what rounding one column does to results is taken back by those after it.
//!
//! Frantar et al., "GPTQ", 2023, for codes of which every prefix is a weight. With the moments `H = mean(x xᵀ)` of the rows `x` that a matrix is
//! multiplied with, and `Uᵀ U = H⁻¹` with `U` above its diagonal, columns are rounded in order; of each length `b` of a prefix
//! ```text
//! t_b           the column as it should be for that prefix; at first the weight itself
//! c             the code with the least sum over b of weight_b (t_b - v_b(c))²,       v_b: what the prefix of b bits stands for
//! t_b[j'] -= (t_b[j] - v_b(c)) / U[j][j] * U[j][j']                                   for all j' > j
//! ```
//! So every prefix has errors of its own to make up for, and one code serves all: where that suits a coarse prefix and not a finer one, the
//! weights decide.

use super::encode::Prefixes;
use super::step;
use std::ops::Range;

/// Rows that share a row of `U` while it is in the first-level cache.
const ROWS: usize = 8;
/// Most prefixes.
const LEVELS: usize = 16;

/// How rounding one column of a matrix is taken back by those after it.
#[derive(Clone, Debug, PartialEq)]
pub struct Feedback {
    k: usize,
    /// `[k][k]`, row-major; what is below the diagonal is not read.
    upper: Vec<f32>,
}

impl Feedback {
    /// Of a triangle `U` `[k][k]` with `Uᵀ U = H⁻¹`; `None` when its diagonal is not of finite numbers above 0, or it has another size.
    pub fn new(k: usize, upper: Vec<f32>) -> Option<Feedback> {
        let sound = upper.len() == k * k
            && (0..k).all(|j| upper[j * k + j] > 0.0)
            && upper.iter().all(|u| u.is_finite());
        sound.then_some(Feedback { k, upper })
    }

    /// Columns that it is of.
    pub fn k(&self) -> usize {
        self.k
    }

    /// Row `j` of `U`.
    pub fn row(&self, j: usize) -> &[f32] {
        &self.upper[j * self.k..(j + 1) * self.k]
    }
}

/// The codes of `w`, row-major `[n, k]`, with `scales` `[n][groups]` of `group` columns, the prefixes' scales multiplied by `gains`.
pub(super) fn codes(
    w: &[f32],
    feedback: &Feedback,
    prefixes: &Prefixes,
    (scales, group): (&[f32], usize),
    gains: &[f32],
) -> Vec<u16> {
    let k = feedback.k;
    let groups = k.div_ceil(group);
    let levels = Level::all(prefixes, gains);
    let mut codes = vec![0u16; w.len()];
    let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let rows = (w.len() / k).div_ceil(threads).next_multiple_of(ROWS);
    let parts = w.chunks(rows * k).zip(codes.chunks_mut(rows * k)).zip(scales.chunks(rows * groups));
    // Rows know nothing of each other, so that threads change nothing.
    std::thread::scope(|scope| {
        for ((w, codes), scales) in parts {
            let levels = &levels;
            scope.spawn(move || {
                let blocks =
                    w.chunks(ROWS * k).zip(codes.chunks_mut(ROWS * k)).zip(scales.chunks(ROWS * groups));
                let mut targets = Vec::new();
                for ((w, codes), scales) in blocks {
                    block(w, codes, feedback, prefixes.total(), levels, (scales, group), &mut targets);
                }
            });
        }
    });
    codes
}

/// A prefix.
#[derive(Clone, Copy)]
struct Level {
    bits: u32,
    /// What the code's odd number is multiplied by, the group's scale apart.
    unit: f32,
    weight: f32,
}

impl Level {
    fn all(prefixes: &Prefixes, gains: &[f32]) -> Vec<Level> {
        let level = |(&(bits, weight), gain): (&(u32, f64), &f32)| Level {
            bits,
            unit: gain * step(bits),
            weight: weight as f32,
        };
        prefixes.bits().iter().zip(gains).map(level).collect()
    }

    /// What the first bits of a code of `total` bits stand for, of a scale of 1.
    fn value(&self, code: u16, total: u32) -> f32 {
        let p = i32::from(code >> (total - self.bits));
        (2 * p + 1 - (1 << self.bits)) as f32 * self.unit
    }

    /// The cell nearest to `x`, before it is clipped.
    fn cell(&self, x: f32) -> i32 {
        ((x / self.unit + (1 << self.bits) as f32) * 0.5).floor() as i32
    }

    /// The codes of `total` bits that begin with `cell`.
    fn codes(&self, cell: i32, total: u32) -> Range<i32> {
        let below = total - self.bits;
        cell << below..(cell + 1) << below
    }
}

/// The code that suits all targets `x` (of a scale of 1) together.
fn code(levels: &[Level], total: u32, x: &[f32; LEVELS]) -> u16 {
    let last = levels.len() - 1;
    let wanted = levels[last].cell(x[last]);
    let most = (1i32 << total) - 1;
    let cost = |code: u16| {
        levels.iter().zip(x).fold(0.0, |sum, (level, x)| {
            let error = x - level.value(code, total);
            sum + level.weight * error * error
        })
    };
    let mut best = wanted.clamp(0, most) as u16;
    let mut least = cost(best);
    for (level, x) in levels[..last].iter().zip(x) {
        let cell = level.cell(*x);
        for cell in [cell - 1, cell, cell + 1] {
            if !(0..1 << level.bits).contains(&cell) {
                continue;
            }
            let codes = level.codes(cell, total);
            let candidate = wanted.clamp(codes.start, codes.end - 1) as u16;
            let cost = cost(candidate);
            if cost < least {
                (best, least) = (candidate, cost);
            }
        }
    }
    best
}

/// Some rows.
fn block(
    w: &[f32],
    codes: &mut [u16],
    feedback: &Feedback,
    total: u32,
    levels: &[Level],
    (scales, group): (&[f32], usize),
    targets: &mut Vec<f32>,
) {
    let k = feedback.k;
    let (rows, groups) = (w.len() / k, k.div_ceil(group));
    // `[row][level][k]`
    targets.clear();
    for row in w.chunks_exact(k) {
        levels.iter().for_each(|_| targets.extend_from_slice(row));
    }
    for j in 0..k {
        let upper = feedback.row(j);
        let inverse = 1.0 / upper[j];
        for r in 0..rows {
            let scale = scales[r * groups + j / group];
            let targets = &mut targets[r * levels.len() * k..][..levels.len() * k];
            if scale == 0.0 {
                codes[r * k + j] = 1 << (total - 1);
                continue;
            }
            let mut x = [0.0; LEVELS];
            for (x, targets) in x.iter_mut().zip(targets.chunks_exact(k)) {
                *x = targets[j] / scale;
            }
            let code = code(levels, total, &x);
            codes[r * k + j] = code;
            for ((level, x), targets) in levels.iter().zip(x).zip(targets.chunks_exact_mut(k)) {
                let error = (x - level.value(code, total)) * scale * inverse;
                for (target, upper) in targets[j + 1..].iter_mut().zip(&upper[j + 1..]) {
                    *target -= error * upper;
                }
            }
        }
    }
}
