//! The division of a budget, on made-up ladders.

use super::together::{Step, rising, spread};
use super::{Need, TogetherError, Weighing};

fn step(bytes: u64, level: f64) -> Step {
    let need = Need { process: 0, weights: bytes, arena: 0, plan: 0, extra: 0 };
    Step { rung: 0, weighing: Weighing::Resident, need, level }
}

fn front(steps: &[(u64, f64)]) -> Vec<Step> {
    rising(steps.iter().map(|(bytes, level)| step(*bytes, *level)).collect())
}

#[test]
fn a_front_rises_in_both() {
    let steps = front(&[(30, 5.0), (10, 1.0), (20, 5.0), (25, 4.0), (20, 3.0), (40, 9.0)]);
    let shape: Vec<(u64, f64)> = steps.iter().map(|s| (s.need.total(), s.level)).collect();
    assert_eq!(shape, [(10, 1.0), (20, 5.0), (40, 9.0)]);
}

#[test]
fn the_lowest_rises_first_and_the_rest_is_spent() {
    let a = front(&[(10, 1.0), (20, 10.0), (30, 20.0)]);
    let b = front(&[(10, 5.0), (50, 30.0)]);
    let choose = |left| spread(&[&a, &b], left);
    assert_eq!(choose(19), None);
    assert_eq!(choose(20), Some(vec![0, 0]));
    assert_eq!(choose(30), Some(vec![1, 0]));
    // `b` is the lowest and cannot rise for 50; `a` takes what it cannot use.
    assert_eq!(choose(45), Some(vec![2, 0]));
    // Once both could rise to 10 or more, `b` comes first: the lowest counts.
    assert_eq!(choose(70), Some(vec![1, 1]));
    assert_eq!(choose(80), Some(vec![2, 1]));
}

/// Against every combination: no choice has a higher lowest level, nor, with that, a higher second lowest.
#[test]
fn no_other_choice_is_better() {
    let mut key = 0u64;
    let mut draw = |below: u64| {
        key += 1;
        (crate::random::uniform(7, key) * below as f32) as u64
    };
    let sorted = |mut levels: Vec<f64>| {
        levels.sort_by(f64::total_cmp);
        levels
    };
    for _ in 0..200 {
        let fronts: Vec<Vec<Step>> = (0..3)
            .map(|_| front(&(0..5).map(|_| (1 + draw(40), draw(1000) as f64)).collect::<Vec<_>>()))
            .collect();
        let refs: Vec<&[Step]> = fronts.iter().map(Vec::as_slice).collect();
        let left = 20 + draw(80);
        let mut best: Option<Vec<f64>> = None;
        for x in refs[0] {
            for y in refs[1] {
                for z in refs[2] {
                    if x.need.total() + y.need.total() + z.need.total() <= left {
                        let levels = sorted(vec![x.level, y.level, z.level]);
                        if best.as_ref().is_none_or(|b| levels > *b) {
                            best = Some(levels);
                        }
                    }
                }
            }
        }
        let got = spread(&refs, left)
            .map(|at| sorted(at.iter().zip(&refs).map(|(at, front)| front[*at].level).collect()));
        assert_eq!(got, best, "{fronts:?} in {left}");
    }
}

#[test]
fn no_models_take_nothing() {
    assert_eq!(spread(&[], 0), Some(vec![]));
    assert_eq!(spread(&[&[]], 100), None);
}

#[test]
fn a_refusal_names_the_model_what_it_needs_and_what_is_left() {
    let error = TogetherError::DoesNotFit {
        name: "det".into(),
        need: 9_000_000,
        left: 2_000_000,
        others: vec![("cls".into(), 1_000_000), ("rec".into(), 3_000_000)],
        budget: 10_000_000,
        least: 17_000_000,
    };
    assert_eq!(
        error.to_string(),
        "det does not fit: of 10 MB (10,000,000 bytes) 2 MB (2,000,000 bytes) are left for it, and it needs 9 MB \
         (9,000,000 bytes) beside cls 1 MB (1,000,000 bytes), rec 3 MB (3,000,000 bytes); the least budget that would \
         do is 17 MB (17,000,000 bytes)"
    );
}
