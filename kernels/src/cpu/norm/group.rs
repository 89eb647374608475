//! Group and instance normalisation, channels last.

use super::Affine;
use crate::cpu::elementwise::InOut;
use crate::cpu::loops::{COLUMNS, Cascade, LANES, Variant, fold_lanes, join_lanes};

/// Shape and constant of a group normalisation over `[batch, positions, channels]`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GroupNorm {
    /// Images.
    pub batch: usize,
    /// Positions of an image: height times width.
    pub positions: usize,
    /// Channels, contiguous.
    pub channels: usize,
    /// Groups of `channels / groups` neighbours that share mean and variance. `channels` of them make it instance
    /// normalisation, one makes it layer normalisation of the whole image.
    pub groups: usize,
    /// Added to the variance.
    pub epsilon: f32,
}

/// `(x - mean) / sqrt(var + epsilon) * gamma + beta`, mean and variance over the positions and channels of each
/// group; gamma and beta have one element a channel.
///
/// Order of additions: each channel over its positions by [`crate::cpu::loops::Cascade`], then the channels of a group by the
/// lanes of [`crate::cpu::loops::LANES`].
///
/// # Panics
/// When a length is not the shape's, or the groups do not divide the channels.
pub fn group_norm(v: Variant, shape: GroupNorm, affine: Affine<'_>, io: InOut<'_, f32>) {
    let GroupNorm { batch, positions, channels, groups, .. } = shape;
    affine.check(channels);
    let y = io.into_copy();
    assert_eq!(y.len(), batch * positions * channels, "length is not {batch} * {positions} * {channels}");
    if y.is_empty() {
        return;
    }
    assert!(groups > 0 && channels.is_multiple_of(groups), "{groups} groups of {channels} channels");
    v.run(
        #[inline(always)]
        || {
            for image in y.chunks_exact_mut(positions * channels) {
                normalize_image(shape, affine, image);
            }
        },
    );
}

/// Groups are taken together as long as their channels fill at most [`COLUMNS`]; a wider group goes through
/// several blocks of channels for each of its three passes.
#[inline(always)]
fn normalize_image(shape: GroupNorm, affine: Affine<'_>, image: &mut [f32]) {
    let width = shape.channels / shape.groups;
    let count = (shape.positions * width) as f32;
    let together = (COLUMNS / width).clamp(1, shape.groups);
    for first_group in (0..shape.groups).step_by(together) {
        let n_groups = together.min(shape.groups - first_group);
        let channels = first_group * width..(first_group + n_groups) * width;
        let mut mean = [0.0; COLUMNS];
        let mut inv = [0.0; COLUMNS];
        group_sums(shape, image, &channels, width, &mean, &mut inv, |acc, x, _| acc + x);
        mean[..n_groups].iter_mut().zip(&inv).for_each(|(mean, sum)| *mean = sum / count);
        group_sums(shape, image, &channels, width, &mean, &mut inv, |acc, x, m| (x - m).mul_add(x - m, acc));
        inv[..n_groups].iter_mut().for_each(|inv| *inv = 1.0 / (*inv / count + shape.epsilon).sqrt());

        for c in channels.clone().step_by(COLUMNS) {
            let n = COLUMNS.min(channels.end - c);
            // Per channel: y = fma((x - mean) * inv, gamma, beta).
            let mut terms = [[0.0; COLUMNS]; 4];
            for i in 0..n {
                let group = (c + i) / width - first_group;
                let gamma = affine.gamma.map_or(1.0, |g| g[c + i]);
                let beta = affine.beta.map_or(0.0, |b| b[c + i]);
                for (term, value) in terms.iter_mut().zip([mean[group], inv[group], gamma, beta]) {
                    term[i] = value;
                }
            }
            let [mean, inv, gamma, beta] = &terms;
            for row in image.chunks_exact_mut(shape.channels) {
                for (i, y) in row[c..c + n].iter_mut().enumerate() {
                    *y = ((*y - mean[i]) * inv[i]).mul_add(gamma[i], beta[i]);
                }
            }
        }
    }
}

/// `sums[g]` = the sum of group `g` of `channels`, elements taken in by `step(acc, x, mean[g])`.
#[inline(always)]
fn group_sums(
    shape: GroupNorm,
    image: &[f32],
    channels: &std::ops::Range<usize>,
    width: usize,
    mean: &[f32; COLUMNS],
    sums: &mut [f32; COLUMNS],
    step: impl Fn(f32, f32, f32) -> f32,
) {
    let mut lanes = [0.0; LANES];
    for c in channels.clone().step_by(COLUMNS) {
        let n = COLUMNS.min(channels.end - c);
        let mut partial = Cascade::<f32, COLUMNS>::new(0.0);
        let mut shift = [0.0; COLUMNS];
        for (i, shift) in shift[..n].iter_mut().enumerate() {
            *shift = mean[(c - channels.start + i) / width];
        }
        for row in image.chunks_exact(shape.channels) {
            for ((acc, x), shift) in partial.acc.iter_mut().zip(&row[c..c + n]).zip(&shift) {
                *acc = step(*acc, *x, *shift);
            }
            partial.taken(1, |a, b| a + b);
        }
        let acc = partial.total(|a, b| a + b);
        if width > COLUMNS {
            // One group; COLUMNS is a multiple of LANES, so every block starts at lane 0.
            fold_lanes(&mut lanes, &acc[..n], |a, b| a + b);
            continue;
        }
        for (sum, acc) in sums.iter_mut().zip(acc[..n].chunks_exact(width)) {
            let mut lanes = [0.0; LANES];
            fold_lanes(&mut lanes, acc, |a, b| a + b);
            *sum = join_lanes(lanes, |a, b| a + b);
        }
    }
    if width > COLUMNS {
        sums[0] = join_lanes(lanes, |a, b| a + b);
    }
}
