//! Which subnets are worth a rung: measured ones, and among all others those that a model of the measured ones expects most of.
//!
//! ```text
//! measure:  the smallest, the largest, each uniform one between, some at random
//! repeat:   fit quality to options (ridge regression on one-hot choices), evolve for a row of sizes and of multiply-adds (or times),
//!           measure the best of each
//! keep:     what no other subnet has more quality at fewer weights and less work than
//! ```
//! Evolution as in Cai et al. 2020 ("Once-for-All", appendix E): parents are the best quarter, children mutate or cross.

use edge_runtime::random::philox;
use nalgebra::{DMatrix, DVector};
use std::collections::{BTreeSet, HashMap};

/// Subnets that are measured before anything is expected of others.
const FIRST: usize = 40;
/// Rounds of expecting, evolving and measuring.
const ROUNDS: usize = 3;
/// Sizes, and amounts of work, that a round evolves for.
const TARGETS: usize = 6;
/// Subnets alive.
const POPULATION: usize = 64;
/// Generations of a round.
const GENERATIONS: usize = 12;
/// Share of a child's variables that change.
const MUTATION: f64 = 0.1;
/// Ridge of the regression, in measured subnets: options that few of them have say little.
const RIDGE: f64 = 1.0;
/// Key of the search's random numbers.
const KEY: u64 = 0x5EA4C4;

/// What a subnet costs, whatever its precision.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Cost {
    /// Elements of its matrices.
    pub weights: u64,
    /// Multiply-adds of a run, or the nanoseconds that one takes on a device that there is a profile of.
    pub work: u64,
    /// Bytes of arena, state and scratch.
    pub arena: u64,
}

/// A subnet and what was measured of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    /// By variable, the option.
    pub choice: Vec<usize>,
    /// What it costs.
    pub cost: Cost,
    /// How good it is; greater is better.
    pub quality: f64,
}

/// What the search asks.
pub trait Measure {
    /// Why a measurement fails.
    type Error;
    /// What a subnet costs: asked of many.
    ///
    /// # Errors
    /// When it cannot be made.
    fn cost(&mut self, choice: &[usize]) -> Result<Cost, Self::Error>;
    /// How good it is: asked of few.
    ///
    /// # Errors
    /// When it cannot be run.
    fn quality(&mut self, choice: &[usize]) -> Result<f64, Self::Error>;
    /// So many of so many were measured.
    fn progress(&mut self, done: usize, of: usize);
}

/// Random numbers of one search.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: usize) -> usize {
        self.0 += 1;
        // The high word times n: as even as 32 bits allow.
        ((u64::from(philox(KEY, self.0)[0]) * n as u64) >> 32) as usize
    }

    fn chance(&mut self, p: f64) -> bool {
        self.0 += 1;
        f64::from(philox(KEY, self.0)[0]) < p * 2f64.powi(32)
    }
}

/// What a search has found.
#[derive(Clone, Debug, PartialEq)]
pub struct Searched {
    /// What was measured.
    pub found: Vec<Found>,
    /// Every subnet that was looked at, with what is expected of it, or was measured.
    pub expected: Vec<Found>,
}

/// Searches the subnets of variables with so many options each.
///
/// # Errors
/// Those of `measure`.
pub fn search<M: Measure>(options: &[usize], measure: &mut M) -> Result<Searched, M::Error> {
    let mut dice = Dice(0);
    let space = options.iter().fold(1usize, |n, o| n.saturating_mul(*o));
    let total = space.min(FIRST + ROUNDS * 2 * TARGETS);
    let mut costs: HashMap<Vec<usize>, Cost> = HashMap::new();
    let mut found: Vec<Found> = Vec::new();
    let mut first: Vec<Vec<usize>> = uniform(options);
    // Few subnets are all measured; of many, as many as leave the dice a chance.
    for _ in 0..64 * FIRST {
        if first.len() >= FIRST.min(space) {
            break;
        }
        let choice: Vec<usize> = options.iter().map(|o| dice.below(*o)).collect();
        if !first.contains(&choice) {
            first.push(choice);
        }
    }
    let mut known: BTreeSet<Vec<usize>> = BTreeSet::new();
    let mut next = first;
    for round in 0..=ROUNDS {
        for choice in next {
            if known.insert(choice.clone()) {
                let cost = cost(measure, &mut costs, &choice)?;
                let quality = measure.quality(&choice)?;
                found.push(Found { choice, cost, quality });
                measure.progress(found.len(), total.max(found.len()));
            }
        }
        if round == ROUNDS || known.len() >= space {
            break;
        }
        let expected = Expected::fit(options, &found);
        next = Vec::new();
        for kind in [|c: &Cost| c.weights, |c: &Cost| c.work] {
            for target in targets(&found, kind) {
                let within = |cost: &Cost| kind(cost) <= target;
                next.extend(evolve(options, &found, &expected, &mut dice, |choice| {
                    Ok(within(&cost(measure, &mut costs, choice)?))
                })?);
            }
        }
    }
    let expectations = Expected::fit(options, &found);
    let mut expected = found.clone();
    let mut others: Vec<(Vec<usize>, Cost)> = costs.into_iter().filter(|(c, _)| !known.contains(c)).collect();
    others.sort_by(|a, b| a.0.cmp(&b.0));
    expected.extend(others.into_iter().map(|(choice, cost)| {
        let quality = expectations.of(&choice);
        Found { choice, cost, quality }
    }));
    Ok(Searched { found, expected })
}

fn cost<M: Measure>(
    measure: &mut M,
    costs: &mut HashMap<Vec<usize>, Cost>,
    choice: &[usize],
) -> Result<Cost, M::Error> {
    if let Some(cost) = costs.get(choice) {
        return Ok(*cost);
    }
    let cost = measure.cost(choice)?;
    costs.insert(choice.to_vec(), cost);
    Ok(cost)
}

/// Every variable as far along as every other: what somebody would scale without a search.
fn uniform(options: &[usize]) -> Vec<Vec<usize>> {
    let steps = options.iter().copied().max().unwrap_or(1).max(2) - 1;
    let mut all: Vec<Vec<usize>> = Vec::new();
    for step in 0..=steps {
        let choice: Vec<usize> = options.iter().map(|o| (step * (o - 1) + steps / 2) / steps).collect();
        if !all.contains(&choice) {
            all.push(choice);
        }
    }
    all
}

/// Bounds between the least and the most of a cost, evenly on a logarithmic scale.
fn targets(found: &[Found], kind: fn(&Cost) -> u64) -> Vec<u64> {
    let of = |f: &Found| kind(&f.cost).max(1) as f64;
    let least = found.iter().map(of).fold(f64::INFINITY, f64::min);
    let most = found.iter().map(of).fold(0.0, f64::max);
    (1..=TARGETS).map(|i| (least * (most / least).powf(i as f64 / (TARGETS + 1) as f64)) as u64).collect()
}

/// What is expected of subnets that were not measured.
struct Expected {
    first: Vec<usize>,
    mean: f64,
    of_option: DVector<f64>,
}

impl Expected {
    fn fit(options: &[usize], found: &[Found]) -> Expected {
        let first: Vec<usize> = options
            .iter()
            .scan(0, |at, o| {
                *at += o;
                Some(*at - o)
            })
            .collect();
        let width = options.iter().sum::<usize>();
        let mean = found.iter().map(|f| f.quality).sum::<f64>() / found.len().max(1) as f64;
        let mut rows = DMatrix::zeros(found.len(), width);
        for (row, f) in found.iter().enumerate() {
            f.choice.iter().zip(&first).for_each(|(option, first)| rows[(row, first + option)] = 1.0);
        }
        let wants = DVector::from_iterator(found.len(), found.iter().map(|f| f.quality - mean));
        let square = rows.transpose() * &rows + DMatrix::identity(width, width) * RIDGE;
        let of_option = square.cholesky().map(|c| c.solve(&(rows.transpose() * wants)));
        Expected { first, mean, of_option: of_option.unwrap_or_else(|| DVector::zeros(width)) }
    }

    fn of(&self, choice: &[usize]) -> f64 {
        self.mean
            + choice
                .iter()
                .zip(&self.first)
                .map(|(option, first)| self.of_option[first + option])
                .sum::<f64>()
    }
}

/// The subnet within a bound that most is expected of.
fn evolve<E>(
    options: &[usize],
    found: &[Found],
    expected: &Expected,
    dice: &mut Dice,
    mut within: impl FnMut(&[usize]) -> Result<bool, E>,
) -> Result<Option<Vec<usize>>, E> {
    let mut alive: Vec<Vec<usize>> = Vec::new();
    for f in found {
        if within(&f.choice)? {
            alive.push(f.choice.clone());
        }
    }
    let rank = |alive: &mut Vec<Vec<usize>>| {
        alive.sort_by(|a, b| expected.of(b).total_cmp(&expected.of(a)).then(a.cmp(b)));
        alive.dedup();
        alive.truncate(POPULATION);
    };
    if alive.is_empty() {
        return Ok(None);
    }
    for _ in 0..GENERATIONS {
        rank(&mut alive);
        let parents = alive.len().div_ceil(4);
        for _ in 0..POPULATION {
            let mut child = alive[dice.below(parents)].clone();
            if dice.chance(0.5) {
                let other = &alive[dice.below(parents)];
                child.iter_mut().zip(other).for_each(|(a, b)| {
                    if dice.chance(0.5) {
                        *a = *b;
                    }
                });
            }
            child.iter_mut().zip(options).for_each(|(a, o)| {
                if dice.chance(MUTATION) {
                    *a = dice.below(*o);
                }
            });
            if within(&child)? {
                alive.push(child);
            }
        }
    }
    rank(&mut alive);
    let new = alive.iter().find(|choice| found.iter().all(|f| f.choice != **choice));
    Ok(new.cloned())
}

/// What no other subnet is better than at the same cost or less, by size; at most `most` of them, evenly over the sizes.
pub fn front(found: &[Found], most: usize) -> Vec<Found> {
    let beats = |a: &Found, b: &Found| {
        let no_worse =
            a.cost.weights <= b.cost.weights && a.cost.work <= b.cost.work && a.quality >= b.quality;
        no_worse && (a.cost != b.cost || a.quality > b.quality)
    };
    let mut front: Vec<Found> =
        found.iter().filter(|f| !found.iter().any(|o| beats(o, f))).cloned().collect();
    front.sort_by_key(|f| (f.cost.weights, f.cost.work));
    while front.len() > most.max(2) {
        // The one whose neighbours are closest to each other.
        let size = |i: usize| (front[i].cost.weights.max(1) as f64).ln();
        let inner = (1..front.len() - 1)
            .min_by(|a, b| (size(a + 1) - size(a - 1)).total_cmp(&(size(b + 1) - size(b - 1))));
        match inner {
            Some(i) => front.remove(i),
            None => break,
        };
    }
    front
}

#[cfg(test)]
mod tests {
    use super::{Cost, Found, Measure, Searched, front, search};

    /// Quality of each option, with what single ones do and pairs do not.
    struct Toy;

    impl Measure for Toy {
        type Error = ();

        fn cost(&mut self, choice: &[usize]) -> Result<Cost, ()> {
            let weights = choice.iter().enumerate().map(|(i, o)| (i as u64 + 1) * *o as u64).sum();
            Ok(Cost { weights, work: choice.iter().sum::<usize>() as u64, arena: 0 })
        }

        fn quality(&mut self, choice: &[usize]) -> Result<f64, ()> {
            // The first variables give most and cost least.
            Ok(choice.iter().enumerate().map(|(i, o)| *o as f64 / (i + 1) as f64).sum())
        }

        fn progress(&mut self, _: usize, _: usize) {}
    }

    #[test]
    fn the_search_finds_what_pays() {
        let options = [3; 12];
        let Searched { found, expected } = search(&options, &mut Toy).unwrap();
        let again = search(&options, &mut Toy).unwrap();
        assert_eq!((&found, &expected), (&again.found, &again.expected), "seeded");
        assert!(expected.len() > 1000 && expected.starts_with(&found), "{} looked at", expected.len());
        assert!(found.len() < 120, "{} were measured", found.len());
        let best = |bound: u64| {
            let within = found.iter().filter(|f| f.cost.weights <= bound);
            within.map(|f| f.quality).fold(0.0, f64::max)
        };
        // The best of 20 weights is [2, 2, 2, 2, 0, ...]: 4.17.
        assert!(best(20) > 3.6, "{}", best(20));
        let front = front(&found, 8);
        assert!(
            front.len() <= 8 && front.windows(2).all(|pair| pair[0].cost.weights <= pair[1].cost.weights)
        );
    }

    #[test]
    fn a_small_space_is_measured_whole() {
        assert_eq!(search(&[2, 3], &mut Toy).unwrap().found.len(), 6);
        assert_eq!(search(&[1], &mut Toy).unwrap().found.len(), 1);
    }

    #[test]
    fn what_costs_more_and_is_no_better_is_not_of_the_front() {
        let of = |weights, work, quality| Found {
            choice: vec![],
            cost: Cost { weights, work, arena: 0 },
            quality,
        };
        let all = [of(1, 1, 1.0), of(2, 2, 1.0), of(2, 1, 2.0), of(3, 1, 1.5), of(4, 4, 3.0)];
        let left: Vec<u64> = front(&all, 8).iter().map(|f| f.cost.weights).collect();
        assert_eq!(left, [1, 2, 4]);
        assert_eq!(front(&all, 2).len(), 2);
    }
}
