//! Makes an imported graph smaller and faster to run without changing what it computes.
//!
//! Each pass is one rule swept over the graph (`sweep.rs`); the list is repeated until nothing changes. Graph
//! outputs keep their ids while passes run and their names always; a fused node bears the first node's name and the
//! last value's id, so that ranges found by value name stay valid.

mod activation;
mod affine;
mod algebra;
mod attention;
mod common;
mod eval;
mod fold;
mod fuse;
mod infer;
mod layout;
mod norm;
mod shapes;
mod sizes;
mod sweep;
mod tidy;

#[cfg(test)]
pub(crate) mod tests;

pub(crate) use tidy::compact;

use crate::model::Model;
use sweep::Rule;

pub(crate) use eval::evaluate;

/// What the passes may do.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Leave weights as they are: a per-channel factor becomes the operation's scale operand. Subnets that share
    /// weights need it, for folding a factor into a row would make the rows differ.
    pub keep_affine: bool,
    /// Leave transposes that move dimensions of size 1 alone: in another subnet the size may be another, and the graphs would differ.
    pub keep_ones: bool,
    /// Leave equal constants apart: in another subnet one of them may be another.
    pub keep_equal: bool,
}

/// What one pass did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PassReport {
    /// The pass.
    pub name: &'static str,
    /// How many nodes it rewrote or removed, over all repetitions.
    pub changed: usize,
}

/// Layouts move first: a norm's constants stand along the channels only once channels are last.
const PASSES: &[(&str, Rule)] = &[
    ("fold", fold::rule),
    ("algebra", algebra::rule),
    ("layout", layout::rule),
    ("norm", norm::rule),
    ("activation", activation::rule),
    ("attention", attention::rule),
    ("affine", affine::rule),
    ("fuse", fuse::rule),
];

/// What waits until the others find nothing more.
const LATE: &[(&str, Rule)] = &[("transposed ones", layout::ones)];

/// Rounds after which the passes stop even if they still find work. Every rule shrinks the graph or moves work
/// towards the outputs, so a chain that needs more is not seen in practice; stopping is always correct.
const MAX_ROUNDS: usize = 40;

/// Bytes by which folding may make constants grow in all: a few nodes can ask for any number of large arrays, which the planner makes
/// when they are needed.
const FOLD_ROOM: usize = 8 << 20;

/// The model with every pass applied.
pub fn simplify(model: Model, options: &Options) -> Model {
    simplify_with_report(model, options).0
}

/// As [`simplify`], and what each pass did.
pub fn simplify_with_report(mut model: Model, options: &Options) -> (Model, Vec<PassReport>) {
    let names = ["tidy"].into_iter().chain(PASSES.iter().chain(LATE).map(|(name, _)| *name));
    let mut reports: Vec<PassReport> = names.map(|name| PassReport { name, changed: 0 }).collect();
    let mut room = FOLD_ROOM;
    if !options.keep_equal {
        tidy::merge_constants(&mut model, usize::MAX);
    }
    reports[0].changed += tidy::tidy(&mut model, options);
    for _ in 0..MAX_ROUNDS {
        let (tidied, rest) = reports.split_at_mut(1);
        let (early, late) = rest.split_at_mut(PASSES.len());
        let mut changed = round(&mut model, options, &mut room, PASSES, early, &mut tidied[0]);
        if changed == 0 {
            changed = round(&mut model, options, &mut room, LATE, late, &mut tidied[0]);
        }
        if changed == 0 {
            break;
        }
    }
    compact(&mut model);
    (model, reports)
}

/// Each pass once, the graph tidied after it; gives the number of changes.
fn round(
    model: &mut Model,
    options: &Options,
    room: &mut usize,
    passes: &[(&str, Rule)],
    reports: &mut [PassReport],
    tidied: &mut PassReport,
) -> usize {
    let mut changed = 0;
    for ((_, rule), report) in passes.iter().zip(reports) {
        let count = sweep::sweep(model, options, room, *rule);
        if count > 0 {
            tidied.changed += tidy::tidy(model, options);
        }
        report.changed += count;
        changed += count;
    }
    changed
}
