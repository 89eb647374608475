//! The ladder's table.

use super::page::{Lack, Page, RungFigures};
use super::words::{acts, clipped, decibels, latency, quality, size};
use serde::Serialize;
use std::cmp::Reverse;
use std::collections::BTreeMap;

/// Tensors of one change that are named.
const NAMED: usize = 60;

/// How far apart the whole and the sum of its parts may be, in dB, before the table says so.
const APART: f32 = 2.0;

/// A row of the ladder's table.
#[derive(Serialize)]
pub(super) struct Row {
    id: String,
    acts: &'static str,
    bytes: String,
    exact_bytes: u64,
    peak: String,
    arena: String,
    quality: String,
    latency: String,
    bits: String,
    /// The part that costs most.
    worst: Option<String>,
    share: String,
    /// Quality if parts added up.
    sum: Option<String>,
    /// How far they do not.
    apart: Option<String>,
    trouble: Option<String>,
    finer: Option<String>,
    changes: String,
    lacks: Vec<Change>,
}

/// Tensors that change alike.
#[derive(Serialize)]
struct Change {
    what: String,
    tensors: Vec<String>,
    more: usize,
}

pub(super) fn row(page: &Page, rung: &RungFigures) -> Row {
    let none = || "–".to_string();
    let planned = rung.planned.as_ref();
    // The finest rung has no part that is not at its finest.
    let parts = rung.parts.as_ref().filter(|parts| !parts.worst.is_empty());
    let apart = parts.map(|parts| parts.together - parts.sum).filter(|db| db.abs() > APART);
    Row {
        id: clipped(&rung.id),
        acts: acts(rung),
        bytes: size(rung.bytes),
        exact_bytes: rung.bytes,
        peak: planned.map_or_else(none, |p| size(p.peak())),
        arena: planned.map_or_else(none, |p| size(p.arena)),
        quality: quality(rung).unwrap_or_else(none),
        latency: latency(rung).unwrap_or_else(none),
        bits: format!("{:.1}", rung.mean_bits),
        worst: parts.map(|parts| clipped(&parts.worst)),
        share: parts.map_or_else(String::new, |parts| format!("{:.0} %", 100.0 * parts.share)),
        sum: parts.map(|parts| decibels(parts.sum)),
        apart: apart
            .map(|db| format!("together {} {}", decibels(db.abs()), if db < 0.0 { "less" } else { "more" })),
        trouble: rung.trouble.as_deref().map(clipped),
        finer: rung.finer.map(|finer| clipped(&page.rungs[finer].id)),
        changes: match rung.lacks.len() {
            1 => "1 tensor".to_string(),
            count => format!("{count} tensors"),
        },
        lacks: changes(rung, &rung.lacks),
    }
}

/// Tensors by what becomes of them, the most first.
fn changes(rung: &RungFigures, lacks: &[Lack]) -> Vec<Change> {
    let mut alike: BTreeMap<(&str, &str), Vec<usize>> = BTreeMap::new();
    for lack in lacks {
        alike.entry((&lack.from, &lack.to)).or_default().push(lack.tensor);
    }
    let mut alike: Vec<_> = alike.into_iter().collect();
    alike.sort_by_key(|(_, tensors)| Reverse(tensors.len()));
    let name = |t: &usize| rung.layers[*t].as_ref().map(|l| clipped(&l.name)).unwrap_or_default();
    let change = |((from, to), tensors): ((&str, &str), Vec<usize>)| Change {
        what: format!("{} → {}", clipped(from), clipped(to)),
        tensors: tensors.iter().take(NAMED).map(name).collect(),
        more: tensors.len().saturating_sub(NAMED),
    };
    alike.into_iter().map(change).collect()
}
