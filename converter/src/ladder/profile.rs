//! How rungs of integers hold weights and values: from the fastest, with integers wherever they hold anything at all, to the one of the
//! best quality, in which more is floats.
//!
//! Each way is searched on its own ([`super::Integer`]), down to a distortion of its own. A ladder has rungs of each as far as they pay: a finer way
//! costs time, so its rungs are there only where they are better than any of a faster one (`chain.rs`).

use super::{Choices, Price};
use crate::compress::INTEGER_BITS;
use crate::draft::Draft;
use edge_runtime::graph::ValueId;
use edge_runtime::pack::{Rung, Take};

/// What a search of a profile aims at.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Aim {
    /// Output distortion on the samples that it is searched with.
    pub distortion: f64,
    /// Distortion that a value, or a run of them, may cost when it becomes i8. What this finds are values that 256 levels
    /// cannot hold, such as a power spectrum on its way to a logarithm.
    pub value: f64,
    /// Part of the distortion up to which one scale a row is taken whatever it costs.
    pub rows: f64,
    /// What it may add beyond that, of the distortion there is without.
    pub rows_add: f64,
    /// Whether integers of one scale a row are made of weights of more bits where that saves time.
    pub finer_rows: bool,
    /// Most of the model that becomes floats for the aim's sake.
    pub price: f64,
}

/// 36 dB on the probes: other samples are served some 10 dB worse by what few of them chose. Beyond its price, an integer rung is one in name only.
pub const FINE: Aim =
    Aim { distortion: 2.5e-4, value: 1e-3, rows: 0.5, rows_add: 0.1, finer_rows: false, price: 1.0 };
/// From the loosest to the finest. Static quantisation with one scale a row and no float left is some 10 to 20 dB on convolutional models.
pub const AIMS: [Aim; 3] = [
    Aim { distortion: 2e-2, value: 2e-2, rows: 1.0, rows_add: 0.5, finer_rows: true, price: 0.3 },
    Aim { distortion: 3e-3, value: 6e-3, rows: 0.7, rows_add: 0.25, finer_rows: true, price: 0.6 },
    FINE,
];
/// Time of multiply-adds of integers with a scale for each group of weights, of those with one a row.
pub(super) const GROUPS: f64 = 1.5;
/// Time of multiply-adds of floats, of the same.
pub(super) const FLOATS: f64 = 2.0;
/// A finer profile has at most this part of a faster one's distortion, or is none (2 dB).
const FINER: f64 = 0.63;

/// Which weights products of integers take with one scale a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rows {
    /// None: those of 8 bits with the scales that they have, those of more as floats.
    No,
    /// Those of at most 8 bits; of more as floats.
    Eight,
    /// Of any number of bits.
    Any,
}

impl Rows {
    /// Whether weights of `bits` have one scale a row.
    fn takes(self, bits: u32) -> bool {
        self == Rows::Any || self == Rows::Eight && bits <= INTEGER_BITS
    }
}

/// How rungs of integers hold weights and values.
#[derive(Clone, Debug, PartialEq)]
pub struct Profile {
    /// By tensor: the finest take of its rungs.
    pub takes: Vec<usize>,
    /// By tensor: whether products take it with one scale a row.
    pub rows: Vec<Rows>,
    /// Values that stay floats though they have a range; ascending.
    pub floats: Vec<ValueId>,
}

impl Profile {
    /// Integers everywhere, with the scales that the planes have.
    pub fn integers(choices: &Choices) -> Profile {
        Profile {
            takes: choices.integer_takes(),
            rows: vec![Rows::No; choices.tensors.len()],
            floats: Vec::new(),
        }
    }

    /// What a rung takes and holds.
    pub fn of_rung(choices: &Choices, rung: &Rung) -> Profile {
        let take = |tensor: &u32| rung.takes.get(*tensor as usize).copied().flatten();
        let rows = |(tensor, coded): (&u32, &Option<u32>)| match take(tensor) {
            Some(take) if coded.is_some_and(|coded| coded == take.0) => Rows::Any,
            _ => Rows::No,
        };
        Profile {
            takes: choices.of_rung(rung),
            rows: choices.tensors.iter().zip(&choices.coded).map(rows).collect(),
            floats: rung.floats.clone(),
        }
    }

    /// The value stays a float from now on, or no longer.
    pub fn hold(&mut self, value: ValueId, as_float: bool) {
        match (self.floats.binary_search(&value), as_float) {
            (Err(at), true) => self.floats.insert(at, value),
            (Ok(at), false) => _ = self.floats.remove(at),
            _ => {}
        }
    }

    /// Time of its finest rung's products, as a multiple of that with integers and one scale a row everywhere.
    pub fn time(&self, choices: &Choices, prices: &[Price]) -> f64 {
        let time = |(t, price): (usize, &Price)| {
            let is_float = price.input.is_some_and(|value| self.floats.binary_search(&value).is_ok());
            let bits = choices.nested[t].levels[self.takes[t] - 1].bits;
            match (self.rows[t].takes(bits), bits > INTEGER_BITS) {
                _ if is_float => FLOATS * price.work,
                (true, false) => price.work,
                (true, true) => price.work + price.rounding,
                (false, true) => FLOATS * price.work,
                (false, false) => GROUPS * price.work,
            }
        };
        prices.iter().enumerate().map(time).sum()
    }

    /// The takes of a rung of this profile that takes so much of each tensor.
    pub fn takes(&self, draft: &Draft, choices: &Choices, takes: &[usize]) -> Vec<Option<Take>> {
        let mut all = choices.takes(draft, takes);
        let bits = |t: usize| choices.nested[t].levels[takes[t] - 1].bits;
        for (t, tensor) in choices.tensors.iter().enumerate().filter(|(t, _)| self.rows[*t].takes(bits(*t))) {
            if let (Some(take), Some(root)) = (&mut all[*tensor as usize], choices.coded[t]) {
                take.0 = root;
            }
        }
        all
    }
}

/// A profile with its distortion and its time.
pub struct Found {
    /// The profile.
    pub profile: Profile,
    /// On the samples that judged it.
    pub distortion: f64,
    /// See [`Profile::time`].
    pub time: f64,
}

/// The profiles from the fastest: those that are no better than a faster one go.
pub fn distinct(mut found: Vec<Found>) -> Vec<Profile> {
    found.sort_by(|a, b| a.time.total_cmp(&b.time).then(a.distortion.total_cmp(&b.distortion)));
    let mut kept: Vec<Found> = Vec::new();
    for found in found {
        if kept.last().is_none_or(|before| found.distortion < FINER * before.distortion) {
            kept.push(found);
        }
    }
    kept.into_iter().map(|found| found.profile).collect()
}

impl Choices {
    /// Gives each tensor that can have one the root of codes of one scale a row.
    pub fn add_coded(&mut self, draft: &mut Draft) {
        for (t, tensor) in self.tensors.iter().enumerate() {
            let Some(expr) = &self.nested[t].one_scale else { continue };
            let roots = &mut draft.header.tensors[*tensor as usize].roots;
            roots.push(expr.clone());
            self.coded[t] = Some(roots.len() as u32 - 1);
        }
    }

    /// Takes the roots of codes away that no profile takes, and puts those that all take in the place of the nested ones: products of
    /// floats read the operand of such a root.
    pub fn settle(&mut self, draft: &mut Draft, profiles: &[Profile]) {
        for (t, tensor) in self.tensors.iter().enumerate() {
            let takers = profiles.iter().filter(|profile| profile.rows[t] != Rows::No).count();
            let bits = |profile: &Profile| self.nested[t].levels[profile.takes[t] - 1].bits;
            let all = profiles.iter().all(|profile| profile.rows[t].takes(bits(profile)));
            if self.coded[t].is_none() || (takers > 0 && !all) {
                continue;
            }
            let roots = &mut draft.header.tensors[*tensor as usize].roots;
            if let Some(coded) = roots.pop().filter(|_| takers > 0) {
                roots[0] = coded;
            }
            self.coded[t] = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Found, Profile, distinct};

    #[test]
    fn values_stay_in_order_and_profiles_that_are_no_better_go() {
        let mut profile = Profile { takes: vec![], rows: vec![], floats: vec![] };
        [5, 2, 9, 2].iter().for_each(|value| profile.hold(*value, true));
        [5, 4].iter().for_each(|value| profile.hold(*value, false));
        assert_eq!(profile.floats, [2, 9]);
        let found = |n: usize, distortion: f64, time: f64| {
            let profile = Profile { takes: vec![n], ..profile.clone() };
            Found { profile, distortion, time }
        };
        let all = vec![found(3, 1e-4, 1.8), found(0, 0.1, 1.0), found(1, 0.08, 1.1), found(2, 0.06, 1.2)];
        let left: Vec<usize> = distinct(all).into_iter().map(|profile| profile.takes[0]).collect();
        assert_eq!(left, [0, 2, 3]);
    }
}
