//! What the witness says, and how two engines' outputs are compared.

use serde::Serialize;
use std::fmt;

/// The engine's name, as reports give it.
pub const ENGINE: &str = "tract 0.23.9";

/// Most that two correct engines differ by, as a share of an output's range: sums in another order scatter by 1e-6 to
/// 1e-4 over a network, an attribute that is read in another way by far more.
const TOLERANCE: f64 = 1e-3;

/// What the witness says of a model.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "verdict", rename_all = "snake_case")]
pub enum Verdict {
    /// It was not asked, or is not built in.
    Absent,
    /// Every output of every run is ours.
    Agrees {
        /// Runs compared.
        runs: usize,
        /// The greatest difference, as a share of its output's range.
        error: f64,
    },
    /// Some element is another.
    Disagrees {
        /// The output.
        output: String,
        /// The element with the greatest difference.
        element: usize,
        /// Our value.
        ours: f32,
        /// The witness's value.
        theirs: f32,
        /// The difference, as a share of the output's range; infinite for another number of elements or outputs.
        error: f64,
    },
    /// The witness does not run the model.
    CannotRun {
        /// Its own words.
        why: String,
    },
}

impl Verdict {
    /// Both verdicts as one: the graver, or the agreement of both.
    pub(crate) fn and(self, other: Verdict) -> Verdict {
        match (self, other) {
            (Verdict::Agrees { runs, error }, Verdict::Agrees { runs: more, error: other }) => {
                Verdict::Agrees { runs: runs + more, error: error.max(other) }
            }
            (Verdict::Absent, other) | (Verdict::Agrees { .. }, other) => other,
            (Verdict::CannotRun { .. }, other @ Verdict::Disagrees { .. }) => other,
            (own, _) => own,
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Verdict::Absent => write!(f, "no witness"),
            Verdict::Agrees { runs, error } => {
                write!(f, "{ENGINE} agrees on {runs} runs, greatest difference {error:.1e} of the range")
            }
            Verdict::Disagrees { output, element, ours, theirs, error } => write!(
                f,
                "{ENGINE} DISAGREES: output `{output}`, element {element} is {ours} here and {theirs} there, {error:.1e} \
                 of the range; one of the two is wrong"
            ),
            Verdict::CannotRun { why } => write!(f, "{ENGINE} cannot run this model: {why}"),
        }
    }
}

/// One output of the witness.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Answer {
    /// Its elements, as floats.
    pub values: Vec<f32>,
    /// Integers or truth values, which agree when they are equal.
    pub exact: bool,
}

/// Compares all outputs of one run; a difference counts as a share of its output's range ([`ranges`]).
pub(crate) fn compare(names: &[String], ranges: &[f64], ours: &[Vec<f32>], theirs: &[Answer]) -> Verdict {
    let differs = |output: usize, element: usize, error: f64| {
        let at = |all: Option<&Vec<f32>>| all.and_then(|o| o.get(element)).copied().unwrap_or(f32::NAN);
        let (own, other) = (at(ours.get(output)), at(theirs.get(output).map(|a| &a.values)));
        let output_name = names.get(output).cloned().unwrap_or_else(|| format!("output {output}"));
        Verdict::Disagrees { output: output_name, element, ours: own, theirs: other, error }
    };
    if ours.len() != theirs.len() {
        return differs(ours.len().min(theirs.len()), 0, f64::INFINITY);
    }
    let mut greatest = 0.0f64;
    for (i, (ours, theirs)) in ours.iter().zip(theirs).enumerate() {
        let Answer { values: theirs, exact } = theirs;
        if ours.len() != theirs.len() {
            return differs(i, ours.len().min(theirs.len()), f64::INFINITY);
        }
        let range = ranges.get(i).copied().filter(|r| *r > 0.0).unwrap_or(1.0);
        let errors = ours.iter().zip(theirs).map(|(a, b)| distance(*a, *b) / range);
        let worst = errors.enumerate().max_by(|(_, a), (_, b)| a.total_cmp(b));
        let Some((element, error)) = worst else { continue };
        if error > if *exact { 0.0 } else { TOLERANCE } {
            return differs(i, element, error);
        }
        greatest = greatest.max(error);
    }
    Verdict::Agrees { runs: 1, error: greatest }
}

/// The range of each output over all runs: noise may leave an output near 0 where a sample does not, and an engine whose
/// sigmoid stops at 5e-7 is not wrong there. Of zeros 0.
pub(crate) fn ranges<'a>(runs: impl Iterator<Item = &'a Vec<Vec<f32>>>) -> Vec<f64> {
    let mut ranges: Vec<f64> = Vec::new();
    for run in runs {
        ranges.resize(ranges.len().max(run.len()), 0.0);
        ranges.iter_mut().zip(run).for_each(|(range, output)| *range = range.max(spread(output)));
    }
    ranges
}

/// Greatest less least finite element, at least the largest size: an output that is nearly constant, or a single element, has
/// no range to speak of.
fn spread(values: &[f32]) -> f64 {
    let finite = || values.iter().filter(|v| v.is_finite()).map(|v| f64::from(*v));
    let (low, high) = (finite().fold(f64::INFINITY, f64::min), finite().fold(f64::NEG_INFINITY, f64::max));
    let range = (high - low).max(high.abs().max(low.abs()));
    if range.is_finite() { range } else { 0.0 }
}

/// 0 for the same value, NaN and infinities included; infinite where one of them meets something else.
fn distance(a: f32, b: f32) -> f64 {
    if a == b || (a.is_nan() && b.is_nan()) {
        return 0.0;
    }
    let distance = (f64::from(a) - f64::from(b)).abs();
    if distance.is_finite() { distance } else { f64::INFINITY }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outputs(values: &[&[f32]]) -> Vec<Vec<f32>> {
        values.iter().map(|v| v.to_vec()).collect()
    }

    fn answers(values: &[&[f32]]) -> Vec<Answer> {
        values.iter().map(|v| Answer { values: v.to_vec(), exact: false }).collect()
    }

    /// The verdict on a run that is the only one.
    fn alone(ours: &Vec<Vec<f32>>, theirs: &[Answer]) -> Verdict {
        compare(&["a".into(), "b".into()], &ranges([ours].into_iter()), ours, theirs)
    }

    #[test]
    fn an_output_that_is_near_0_in_one_run_has_the_range_of_the_others() {
        let (noise, sample) = (outputs(&[&[0.0, 6e-7]]), outputs(&[&[0.0, 1.0]]));
        let theirs = answers(&[&[5e-7, 6e-7]]);
        assert!(matches!(alone(&noise, &theirs), Verdict::Disagrees { .. }));
        let both = ranges([&noise, &sample].into_iter());
        assert!(matches!(compare(&["a".into()], &both, &noise, &theirs), Verdict::Agrees { .. }));
    }

    #[test]
    fn small_differences_agree_and_are_told() {
        let (ours, theirs) = (outputs(&[&[0.0, 10.0], &[5.0]]), answers(&[&[0.001, 10.0], &[5.0]]));
        let Verdict::Agrees { runs: 1, error } = alone(&ours, &theirs) else { panic!() };
        assert!((error - 1e-4).abs() < 1e-6);
    }

    #[test]
    fn a_wrong_element_is_named() {
        let (ours, theirs) = (outputs(&[&[0.0, 1.0], &[5.0, 7.0]]), answers(&[&[0.0, 1.0], &[5.0, 6.0]]));
        let verdict = alone(&ours, &theirs);
        let want =
            Verdict::Disagrees { output: "b".into(), element: 1, ours: 7.0, theirs: 6.0, error: 1.0 / 7.0 };
        assert_eq!(verdict, want);
        let text = verdict.to_string();
        assert!(["`b`", "element 1", " 7 ", " 6 "].iter().all(|word| text.contains(word)), "{text}");
    }

    #[test]
    fn nan_and_lengths_count() {
        let nan = f32::NAN;
        let ours: &[&[f32]] = &[&[nan, 1.0, f32::INFINITY]];
        let same = outputs(ours);
        assert!(matches!(alone(&same, &answers(ours)), Verdict::Agrees { .. }));
        for theirs in [&[&[nan, 1.0, 2.0][..]][..], &[&[0.0, 1.0, f32::INFINITY]], &[&[nan, 1.0]], &[]] {
            let verdict = alone(&same, &answers(theirs));
            assert!(
                matches!(verdict, Verdict::Disagrees { error, .. } if error == f64::INFINITY),
                "{verdict}"
            );
        }
    }

    #[test]
    fn rounding_of_a_constant_agrees_and_a_wrong_integer_does_not() {
        let (ours, near) = (outputs(&[&[100.0, 100.00001]]), answers(&[&[100.00001, 100.0]]));
        assert!(matches!(alone(&ours, &near), Verdict::Agrees { .. }));
        let ours = outputs(&[&[0.0, 5000.0]]);
        let other = |exact| [Answer { values: vec![0.0, 4999.0], exact }];
        assert!(matches!(alone(&ours, &other(false)), Verdict::Agrees { .. }));
        assert!(matches!(alone(&ours, &other(true)), Verdict::Disagrees { .. }));
    }

    #[test]
    fn the_graver_verdict_stays() {
        let agrees = |runs, error| Verdict::Agrees { runs, error };
        let cannot = || Verdict::CannotRun { why: "no".into() };
        let differs = alone(&outputs(&[&[1.0]]), &answers(&[&[2.0]]));
        assert_eq!(agrees(1, 1e-6).and(agrees(2, 1e-5)), agrees(3, 1e-5));
        assert_eq!(Verdict::Absent.and(agrees(1, 0.0)), agrees(1, 0.0));
        assert_eq!(agrees(1, 0.0).and(cannot()), cannot());
        assert_eq!(cannot().and(agrees(1, 0.0)), cannot());
        assert_eq!(cannot().and(differs.clone()), differs);
        assert_eq!(differs.clone().and(cannot()), differs);
    }
}
