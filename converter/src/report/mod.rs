//! What was done, as text and JSON; and what a pack is, as a page.

mod bench;
mod chart;
mod detail;
mod figures;
mod format;
mod gather;
mod ladder;
mod page;
mod render;
#[cfg(test)]
mod tests;
mod view;
mod words;

pub use page::{Page, PageOptions};
pub use render::write_page;

use crate::journal::Journal;
use crate::lowrank::LowRank;
use crate::witness::Verdict;
use edge_runtime::device::ByteSize;
use edge_runtime::pack::{Acts, Parts, Rung};
use serde::Serialize;
use std::fmt;
use std::time::Duration;

/// The outcome of a conversion.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The source file.
    pub source: String,
    /// The pack.
    pub output: String,
    /// Its size.
    pub bytes: u64,
    /// Bytes of it that only align.
    pub padding: u64,
    /// Operations as imported and after simplification.
    pub nodes: [usize; 2],
    /// Simplification passes and how much each changed.
    pub passes: Vec<(String, usize)>,
    /// What was measured with.
    pub samples: String,
    /// How many measurements there are.
    pub measurements: Measurements,
    /// What an independent engine says of the float model.
    pub witness: Verdict,
    /// Values that integer rungs hold as floats, because 256 levels cannot.
    pub float_values: Vec<String>,
    /// Products that became two narrower ones.
    pub low_rank: Vec<LowRank>,
    /// What each tensor costs the outputs at each precision, coarsest first.
    pub tensors: Vec<TensorReport>,
    /// The ladder, smallest first.
    pub rungs: Vec<RungReport>,
}

/// How many measurements a conversion rests on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Measurements {
    /// Those that it made.
    pub made: usize,
    /// Those that an earlier conversion made.
    pub taken: usize,
}

impl From<&Journal> for Measurements {
    fn from(journal: &Journal) -> Measurements {
        let (made, taken) = journal.counts();
        Measurements { made, taken }
    }
}

/// One tensor of the report.
#[derive(Clone, Debug, Serialize)]
pub struct TensorReport {
    /// Its name.
    pub name: String,
    /// Rows and columns.
    pub dims: [usize; 2],
    /// Whether samples read it. Of one in a branch that none takes, precision follows the others'.
    pub read: bool,
    /// Signal-to-noise ratio of the outputs, in dB, with this tensor alone at 2, 4, 8 bits.
    pub sqnr_db: Vec<f64>,
}

/// One rung of the report.
#[derive(Clone, Debug, Serialize)]
pub struct RungReport {
    /// Its name.
    pub id: String,
    /// How activations are held: `f32` or `i8`.
    pub acts: Acts,
    /// Bytes of weights and constants.
    pub bytes: u64,
    /// Bytes of arena at the shapes of the first held-out sample.
    pub arena: u64,
    /// The quality's name.
    pub metric: String,
    /// The quality; NaN when it was not measured.
    pub quality: f32,
    /// Milliseconds of a run of the first held-out sample, where they were asked for.
    pub latency_ms: Option<f64>,
    /// The tensor or value that costs most, for the best integer rung of a model where it is below 25 dB.
    pub limited_by: Option<String>,
    /// What its noise is made of: the sum of what its parts cost, and the part that costs most.
    pub parts: Option<Parts>,
}

impl RungReport {
    /// The report of a rung, with its time if it is among those given.
    pub fn new(rung: &Rung, latencies: &[(String, Duration)]) -> RungReport {
        let latency = latencies.iter().find(|(id, _)| *id == rung.id);
        let quality = rung.quality.as_ref();
        RungReport {
            id: rung.id.clone(),
            acts: rung.acts,
            bytes: rung.bytes,
            arena: rung.arena,
            metric: quality.map(|q| q.metric.clone()).unwrap_or_default(),
            quality: quality.map_or(f32::NAN, |q| q.value),
            latency_ms: latency.map(|(_, time)| time.as_secs_f64() * 1e3),
            limited_by: None,
            parts: rung.parts.clone(),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} -> {}: {}", self.source, self.output, ByteSize(self.bytes))?;
        writeln!(f, "operations: {} imported, {} after simplification", self.nodes[0], self.nodes[1])?;
        writeln!(f, "measured with: {}", self.samples)?;
        let Measurements { made, taken } = self.measurements;
        writeln!(f, "measurements: {made} made, {taken} taken from an earlier conversion")?;
        if self.witness != Verdict::Absent {
            writeln!(f, "witness: {}", self.witness)?;
        }
        let unread: Vec<&str> = self.tensors.iter().filter(|t| !t.read).map(|t| t.name.as_str()).collect();
        if let [first, ..] = unread[..] {
            writeln!(
                f,
                "not read by any sample: {} of {} weights, such as {first}; they are as precise as the others",
                unread.len(),
                self.tensors.len()
            )?;
        }
        for LowRank { name, dims: [n, k], rank, sqnr_db } in &self.low_rank {
            writeln!(f, "low rank: {name} of {n} x {k} as two of rank {rank}, {sqnr_db:.1} dB")?;
        }
        let timed = self.rungs.iter().any(|rung| rung.latency_ms.is_some());
        write!(f, "{:<14} {:>5} {:>12} {:>12} {:>10}", "rung", "acts", "bytes", "arena", "quality")?;
        writeln!(f, "{}", if timed { "         ms" } else { "" })?;
        for r in &self.rungs {
            let acts = if r.acts == Acts::I8 { "i8" } else { "f32" };
            let quality = if r.quality.is_nan() { "-".into() } else { format!("{:.1}", r.quality) };
            write!(f, "{:<14} {:>5} {:>12} {:>12} {quality:>10}", r.id, acts, r.bytes, r.arena)?;
            match r.latency_ms {
                Some(ms) => writeln!(f, " {ms:>10.3}")?,
                None => writeln!(f)?,
            }
            if let Some(name) = &r.limited_by {
                writeln!(f, "  limited by {name}")?;
            }
        }
        Ok(())
    }
}
