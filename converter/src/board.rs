//! How long networks take on another device: what `edge-run profile-device` wrote there.
//!
//! A run is the sum of its steps. Steps that were timed there take what they took; of others a time is expected that grows with their
//! multiply-adds and bytes, as it does among the steps of their kind. The sum is brought to whole runs by one factor.

use crate::error::ConvertError;
use edge_runtime::plan::{Plan, PlanOptions, Work};
use nalgebra::{Matrix3, Vector3};
use serde::Deserialize;
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// The format's name in its file, and the version that is read.
const FORMAT: (&str, u32) = ("edge-device-profile", 1);
/// Fewest steps that a rate of their own is fitted to.
const LEAST: usize = 6;

#[derive(Deserialize)]
struct File {
    format: String,
    version: u32,
    isa: String,
    threads: usize,
    run_over_steps: f64,
    steps: Vec<Step>,
}

#[derive(Deserialize)]
struct Step {
    step: String,
    us: f64,
    multiply_adds: u64,
    bytes: u64,
    integer: bool,
}

impl Step {
    /// The operation, as the signature begins with it.
    fn kind(&self) -> (&str, bool) {
        (kind(&self.step), self.integer)
    }
}

fn kind(signature: &str) -> &str {
    signature.split(' ').next().unwrap_or_default()
}

/// A device that is not this one.
#[derive(Debug)]
pub struct Board {
    name: String,
    threads: usize,
    run_over_steps: f64,
    /// Microseconds.
    steps: HashMap<String, f64>,
    kinds: HashMap<(String, bool), Rate>,
    any: Rate,
    hash: [u8; 32],
}

/// Microseconds of a step: of any, of a million multiply-adds, of a million bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Rate(Vector3<f64>);

impl Rate {
    fn row(work: &Work) -> Vector3<f64> {
        Vector3::new(1.0, work.multiply_adds as f64 / 1e6, work.bytes as f64 / 1e6)
    }

    /// Least squares of relative errors, none of the three numbers below 0: the best of all choices of those that are above it.
    fn fit<'a>(steps: impl Iterator<Item = &'a Step> + Clone) -> Rate {
        let mut best = (f64::INFINITY, Rate::default());
        for kept in 1..8u8 {
            let mask = Vector3::from_fn(|i, _| f64::from(kept >> i & 1));
            let mut square = Matrix3::from_diagonal(&mask.map(|m| 1e-9 + (1.0 - m)));
            let mut right = Vector3::zeros();
            for step in steps.clone() {
                let row = Rate::row(&step.work()).component_mul(&mask) / step.us;
                square += row * row.transpose();
                right += row;
            }
            let Some(rate) = square.cholesky().map(|c| c.solve(&right)) else { continue };
            let off: f64 =
                steps.clone().map(|s| (rate.dot(&Rate::row(&s.work())) / s.us - 1.0).powi(2)).sum();
            if rate.iter().all(|r| *r >= 0.0) && off < best.0 {
                best = (off, Rate(rate));
            }
        }
        best.1
    }

    fn us(&self, work: &Work) -> f64 {
        self.0.dot(&Rate::row(work))
    }
}

impl Step {
    fn work(&self) -> Work {
        Work { multiply_adds: self.multiply_adds, integer: self.integer, bytes: self.bytes }
    }
}

impl Board {
    /// Reads a profile.
    ///
    /// # Errors
    /// When the file cannot be read, is no such profile, or has steps without a time.
    pub fn open(path: &Path) -> Result<Board, ConvertError> {
        let bad = |why: String| ConvertError::Option {
            option: "--device",
            why: format!("{}: {why}; `edge-run profile-device PACK -o {0}` writes it", path.display()),
        };
        let bytes = std::fs::read(path).map_err(|source| ConvertError::Io { path: path.into(), source })?;
        let file: File =
            serde_json::from_slice(&bytes).map_err(|e| bad(format!("no profile of a device: {e}")))?;
        if (file.format.as_str(), file.version) != FORMAT {
            let (have, version) = (file.format, file.version);
            return Err(bad(format!(
                "it is `{have}` version {version}, expected `{}` version {}",
                FORMAT.0, FORMAT.1
            )));
        }
        if let Some(step) = file.steps.iter().find(|step| !(step.us.is_finite() && step.us > 0.0)) {
            return Err(bad(format!("step `{}` takes {} us, expected more than 0", step.step, step.us)));
        }
        if file.steps.is_empty() || file.threads == 0 {
            return Err(bad(format!(
                "{} steps with {} threads, expected at least one",
                file.steps.len(),
                file.threads
            )));
        }
        if !(file.run_over_steps.is_finite() && file.run_over_steps > 0.0) {
            return Err(bad(format!(
                "runs are {} times their steps, expected more than 0",
                file.run_over_steps
            )));
        }
        let mut by_kind: HashMap<(String, bool), Vec<&Step>> = HashMap::new();
        for step in &file.steps {
            let (name, integer) = step.kind();
            by_kind.entry((name.to_string(), integer)).or_default().push(step);
        }
        let kinds = by_kind.into_iter().filter(|(_, steps)| steps.len() >= LEAST);
        let kinds = kinds.map(|(kind, steps)| (kind, Rate::fit(steps.iter().copied()))).collect();
        let any = Rate::fit(file.steps.iter());
        let stem = path.file_stem().unwrap_or_default().to_string_lossy();
        Ok(Board {
            name: format!("{stem} ({}, {} threads)", file.isa, file.threads),
            threads: file.threads,
            run_over_steps: file.run_over_steps,
            kinds,
            any,
            hash: *blake3::hash(&bytes).as_bytes(),
            steps: file.steps.into_iter().map(|step| (step.step, step.us)).collect(),
        })
    }

    /// The board of a profile, if there is one.
    ///
    /// # Errors
    /// As [`Board::open`].
    pub fn of(path: Option<&Path>) -> Result<Option<Arc<Board>>, ConvertError> {
        path.map(|path| Board::open(path).map(Arc::new)).transpose()
    }

    /// What it is called.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The hash of its file.
    pub fn hash(&self) -> &[u8; 32] {
        &self.hash
    }

    /// How plans are made for it.
    pub fn options(&self) -> PlanOptions {
        PlanOptions { threads: self.threads, ..PlanOptions::default() }
    }

    /// How long a run of a plan takes there, which was made with [`Board::options`].
    pub fn time(&self, plan: &Plan) -> Duration {
        let us = |step: &edge_runtime::plan::Step| {
            let signature = step.signature();
            self.steps.get(&signature).copied().unwrap_or_else(|| {
                let work = step.work();
                let own = self.kinds.get(&(kind(&signature).to_string(), work.integer));
                own.unwrap_or(&self.any).us(&work)
            })
        };
        let all: f64 = plan.steps.iter().filter(|step| !step.once).map(us).sum();
        Duration::try_from_secs_f64(all * self.run_over_steps / 1e6).unwrap_or(Duration::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::{Board, Rate, Step};
    use edge_runtime::plan::Work;
    use serde_json::{Value, json};

    fn step(name: &str, us: f64, multiply_adds: u64, bytes: u64) -> Step {
        Step { step: name.into(), us, multiply_adds, bytes, integer: false }
    }

    #[test]
    fn times_follow_work_and_are_never_below_nothing() {
        let of = |madds: u64, bytes: u64| 2.0 + 30.0 * madds as f64 / 1e6 + 5.0 * bytes as f64 / 1e6;
        let steps: Vec<Step> = (1..12u64)
            .map(|i| (i * i * 10_000, (1 + i % 4) * 300_000))
            .map(|(madds, bytes)| step("gemm", of(madds, bytes), madds, bytes))
            .collect();
        let rate = Rate::fit(steps.iter());
        let work = Work { multiply_adds: 700_000, integer: false, bytes: 2_000_000 };
        assert!((rate.us(&work) / of(700_000, 2_000_000) - 1.0).abs() < 1e-3, "{rate:?}");
        // Less time for more bytes is noise.
        let odd: Vec<Step> = (1..9u64).map(|i| step("copy", 9.0 - i as f64, 0, i * 1000)).collect();
        assert!(Rate::fit(odd.iter()).0.iter().all(|r| *r >= 0.0));
    }

    #[test]
    fn what_is_no_profile_is_refused() {
        let path = std::env::temp_dir().join(format!("edge-board-{}.json", std::process::id()));
        let steps = json!([{"step": "gemm", "us": 1.0, "multiply_adds": 1, "bytes": 1, "integer": false}]);
        let good = json!({"format": "edge-device-profile", "version": 1, "isa": "neon", "threads": 4,
            "run_over_steps": 1.0, "steps": steps});
        let open = |value: &Value| {
            std::fs::write(&path, value.to_string()).unwrap();
            Board::open(&path).map_err(|e| e.to_string())
        };
        assert!(open(&good).unwrap().name().ends_with("(neon, 4 threads)"));
        for (key, value, why) in [
            ("format", json!("something"), "`something` version 1"),
            ("version", json!(2), "version 2, expected `edge-device-profile` version 1"),
            ("steps", json!([]), "0 steps"),
            ("threads", json!(0), "with 0 threads"),
            ("run_over_steps", json!(-1.0), "runs are -1 times"),
            ("isa", json!(3), "no profile of a device"),
        ] {
            let mut bad = good.clone();
            bad[key] = value;
            let said = open(&bad).unwrap_err();
            assert!(said.contains(why) && said.contains("profile-device"), "{said}");
        }
        let mut bad = good.clone();
        bad["steps"][0]["us"] = json!(0.0);
        assert!(open(&bad).unwrap_err().contains("step `gemm` takes 0 us"));
        std::fs::remove_file(path).unwrap();
    }
}
