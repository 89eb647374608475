//! Boxes: which of many that overlap are kept.

/// How boxes are compared, as ONNX's NonMaxSuppression defines it.
#[derive(Clone, Copy, Debug)]
pub struct Suppression {
    /// Most boxes that are kept.
    pub most: usize,
    /// A box is dropped when it shares more than this with one that is kept: intersection over union.
    pub overlap: f32,
    /// Only boxes of a greater score take part; all of them when left out.
    pub score: Option<f32>,
}

/// Calls `keep` for each box that is kept, the greatest score first, of equal ones the first in order; gives how many. `boxes` is
/// `[n, 4]`, each by two opposite corners, `scores` and `scratch` `[n]`. A score that is no number is never kept.
///
/// # Panics
/// When a length is not its shape's.
pub fn suppress(
    how: &Suppression,
    boxes: &[f32],
    scores: &[f32],
    scratch: &mut [u32],
    mut keep: impl FnMut(u32),
) -> usize {
    assert!(boxes.len() == 4 * scores.len() && scratch.len() >= scores.len(), "boxes and scores differ");
    let least = how.score.unwrap_or(f32::NEG_INFINITY);
    let mut left = 0;
    for (i, score) in scores.iter().enumerate() {
        if *score > least || (how.score.is_none() && *score >= least) {
            scratch[left] = i as u32;
            left += 1;
        }
    }
    for kept in 0..how.most {
        // Who is left stands in order, so the first of equals is found first.
        let Some((&first, others)) = scratch[..left].split_first() else { return kept };
        let greater = |a: u32, b: u32| if scores[b as usize] > scores[a as usize] { b } else { a };
        let best = others.iter().fold(first, |a, b| greater(a, *b));
        keep(best);
        let corners = corners(boxes, best);
        let mut stays = 0;
        for i in 0..left {
            let other = scratch[i];
            if other != best && !overlap(corners, self::corners(boxes, other), how.overlap) {
                scratch[stays] = other;
                stays += 1;
            }
        }
        left = stays;
    }
    how.most
}

/// Least and greatest coordinate along both axes.
fn corners(boxes: &[f32], index: u32) -> [[f32; 2]; 2] {
    let [a, b, c, d] = boxes.as_chunks::<4>().0[index as usize];
    [[a.min(c), a.max(c)], [b.min(d), b.max(d)]]
}

fn overlap(a: [[f32; 2]; 2], b: [[f32; 2]; 2], most: f32) -> bool {
    let area = |x: [[f32; 2]; 2]| (x[0][1] - x[0][0]) * (x[1][1] - x[1][0]);
    let shared = [0, 1].map(|i| [a[i][0].max(b[i][0]), a[i][1].min(b[i][1])]);
    if shared.iter().any(|s| s[1] <= s[0]) {
        return false;
    }
    let shared = area(shared);
    let union = area(a) + area(b) - shared;
    shared > 0.0 && union > 0.0 && shared / union > most
}

#[cfg(test)]
mod tests {
    use super::{Suppression, suppress};

    fn kept(how: &Suppression, boxes: &[f32], scores: &[f32]) -> Vec<u32> {
        let mut list = Vec::new();
        let count = suppress(how, boxes, scores, &mut vec![0; scores.len()], |i| list.push(i));
        assert_eq!(count, list.len());
        list
    }

    const HOW: Suppression = Suppression { most: 9, overlap: 0.5, score: None };

    #[test]
    fn a_box_yields_to_a_better_one_that_it_shares_more_than_half_with() {
        // Ten wide; moved by 3 they share 7 of 13, moved by 4 they share 6 of 14.
        let boxes = [0., 0., 1., 10., 0., 3., 1., 13., 0., 4., 1., 14.];
        assert_eq!(kept(&HOW, &boxes, &[0.5, 0.9, 0.4]), [1]);
        assert_eq!(kept(&HOW, &boxes, &[0.9, 0.5, 0.4]), [0, 2]);
        // Corners may come in any order.
        let flipped = [1., 10., 0., 0., 0., 13., 1., 3., 1., 4., 0., 14.];
        assert_eq!(kept(&HOW, &flipped, &[0.9, 0.5, 0.4]), [0, 2]);
    }

    #[test]
    fn scores_bounds_and_ties() {
        let apart = [0., 0., 1., 1., 0., 2., 1., 3., 0., 4., 1., 5.];
        assert_eq!(kept(&HOW, &apart, &[0.5, 0.5, 0.5]), [0, 1, 2]);
        assert_eq!(kept(&Suppression { most: 2, ..HOW }, &apart, &[0.1, 0.2, 0.3]), [2, 1]);
        let how = Suppression { score: Some(0.2), ..HOW };
        assert_eq!(kept(&how, &apart, &[0.1, 0.2, 0.3]), [2]);
        assert_eq!(kept(&HOW, &apart, &[f32::NAN, f32::NEG_INFINITY, 0.0]), [2, 1]);
        // A box without an area overlaps nothing, not even itself.
        assert_eq!(kept(&HOW, &[1.; 8], &[0.1, 0.2]), [1, 0]);
    }
}
