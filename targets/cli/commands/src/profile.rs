//! `edge-run bench --profile` and `--limits`: where the time goes, and what the device could do.

use crate::exit::Failure;
use crate::print::greatest_first;
use edge_runtime::Session;
use edge_runtime::device::{Limits, Read};
use serde_json::{Value, json};
use std::io::Write;
use std::path::Path;
use std::time::Instant;

/// Steps in the table.
const LISTED: usize = 25;

/// When each step of some runs began and how long it took.
pub struct Profile {
    origin: Instant,
    /// For each run, the end of each step, in microseconds after `origin`, and when the run began.
    runs: Vec<(f64, Vec<f64>)>,
}

impl Profile {
    pub fn new() -> Profile {
        Profile { origin: Instant::now(), runs: Vec::new() }
    }

    /// Runs once, with the time of every step.
    pub fn run(&mut self, session: &mut Session) -> Result<(), Failure> {
        let now = || self.origin.elapsed().as_secs_f64() * 1e6;
        let (start, mut ends) = (now(), Vec::with_capacity(session.plan().steps.len()));
        session.run_observed(|_, _| ends.push(now()))?;
        self.runs.push((start, ends));
        Ok(())
    }

    /// Microseconds of each step, the mean over the runs.
    fn means(&self, steps: usize) -> Vec<f64> {
        let mut sums = vec![0.0; steps];
        for (start, ends) in &self.runs {
            let starts = std::iter::once(start).chain(ends);
            for ((sum, start), end) in sums.iter_mut().zip(starts).zip(ends) {
                *sum += end - start;
            }
        }
        sums.iter().map(|sum| sum / self.runs.len().max(1) as f64).collect()
    }

    /// All steps of a session with what they do and how near that comes to the limits.
    fn rows(&self, session: &Session, limits: &Limits) -> Vec<Row> {
        let plan = session.plan();
        let row = |(i, us): (usize, f64)| {
            let (step, work) = (&plan.steps[i], plan.steps[i].work());
            let result = step.outputs.first();
            let (operations, seconds) = (2.0 * work.multiply_adds as f64, us / 1e6);
            let peak = if work.integer { limits.i8_gops } else { limits.f32_gflops };
            // The roofline: as long as arithmetic or memory takes at least, whichever is more.
            let least = (operations / (peak * 1e9)).max(work.bytes as f64 / (limits.memory_gbytes() * 1e9));
            Row {
                name: plan.names.get(step.name as usize).cloned().unwrap_or_default(),
                op: step.op.name(),
                kernel: session.kernel_of(i),
                result: result.map(|r| format!("{} {:?}", r.dtype, r.dims)).unwrap_or_default(),
                us,
                gops: operations / seconds / 1e9,
                gbytes: work.bytes as f64 / seconds / 1e9,
                share: least / seconds,
            }
        };
        self.means(plan.steps.len()).into_iter().enumerate().map(row).collect()
    }

    /// The slowest steps as a table.
    pub fn print(&self, out: &mut impl Write, session: &Session, limits: &Limits) -> Result<(), Failure> {
        let rows = self.rows(session, limits);
        let us: Vec<f64> = rows.iter().map(|row| row.us).collect();
        let total: f64 = us.iter().sum();
        writeln!(
            out,
            "{:>9} {:>6} {:>8} {:>7} {:>6}  {:<15} {:<28} result",
            "us/run", "share", "GFLOP/s", "GB/s", "limit", "step", "kernel"
        )?;
        for i in greatest_first(&us).into_iter().take(LISTED) {
            let row = &rows[i];
            let gops = if row.gops > 0.0 { format!("{:.1}", row.gops) } else { "-".to_string() };
            writeln!(
                out,
                "{:>9.1} {:>5.1}% {gops:>8} {:>7.1} {:>5.0}%  {:<15} {:<28} {} {}",
                row.us,
                100.0 * row.us / total,
                row.gbytes,
                100.0 * row.share,
                row.op,
                row.kernel,
                row.result,
                row.name
            )?;
        }
        writeln!(
            out,
            "limit: the time that {:.0} GFLOP/s (f32), {:.0} GOP/s (i8) and {:.1} GB/s of memory need at least, as a share; \
             above 100% what is read lies in a cache",
            limits.f32_gflops,
            limits.i8_gops,
            limits.memory_gbytes()
        )?;
        Ok(())
    }

    /// All steps as JSON.
    pub fn json(&self, session: &Session, limits: &Limits) -> Value {
        let row = |row: Row| {
            json!({
                "name": row.name, "step": row.op, "kernel": row.kernel, "result": row.result, "us": row.us,
                "gops": row.gops, "gbytes": row.gbytes, "share_of_limit": row.share,
            })
        };
        self.rows(session, limits).into_iter().map(row).collect()
    }

    /// Writes every run's steps in Chrome's trace event format (complete events, microseconds).
    pub fn write_trace(&self, path: &Path, session: &Session, limits: &Limits) -> Result<(), Failure> {
        let rows = self.rows(session, limits);
        let mut events = Vec::new();
        for (run, (start, ends)) in self.runs.iter().enumerate() {
            let starts = std::iter::once(start).chain(ends);
            for ((row, start), end) in rows.iter().zip(starts).zip(ends) {
                events.push(json!({
                    "name": row.name, "cat": row.op, "ph": "X", "pid": 1, "tid": 1, "ts": start, "dur": end - start,
                    "args": {"step": row.op, "kernel": row.kernel, "result": row.result, "run": run},
                }));
            }
        }
        let text = json!({"traceEvents": events, "displayTimeUnit": "ms"}).to_string();
        std::fs::write(path, text).map_err(|error| Failure::Write { path: path.to_path_buf(), error })
    }
}

/// One step of a profile.
struct Row {
    name: String,
    op: &'static str,
    kernel: &'static str,
    result: String,
    us: f64,
    gops: f64,
    gbytes: f64,
    /// The least time that the device needs, over the time taken.
    share: f64,
}

/// The limits as lines or JSON.
pub fn print_limits(out: &mut impl Write, limits: &[Limits], json: bool) -> Result<(), Failure> {
    if json {
        let read = |r: &Read| json!({"level": r.level, "bytes": r.bytes, "gbytes": r.gbytes});
        let each = |l: &Limits| {
            json!({
                "threads": l.threads, "f32_gflops": l.f32_gflops, "i8_gops": l.i8_gops,
                "read": l.read.iter().map(read).collect::<Value>(),
            })
        };
        writeln!(out, "{:#}", json!({"limits": limits.iter().map(each).collect::<Value>()}))?;
        return Ok(());
    }
    for l in limits {
        let threads = if l.threads == 1 { "1 thread".to_string() } else { format!("{} threads", l.threads) };
        writeln!(
            out,
            "{threads}: f32 {:.1} GFLOP/s, i8 {:.1} GOP/s (a multiply-add is two)",
            l.f32_gflops, l.i8_gops
        )?;
        for r in &l.read {
            writeln!(out, "  read {:<7} {:>8.1} GB/s  ({} KiB a thread)", r.level, r.gbytes, r.bytes >> 10)?;
        }
    }
    Ok(())
}
