//! The same model through an independent engine, tract: where the two disagree, one of them is wrong, and the user hears
//! of it before the pack is on a device.
//!
//! The engine runs in a child process, since a model may take it to a panic, out of memory or nowhere. A program can be
//! that child when it is built with the feature `witness`.

mod child;
#[cfg(feature = "witness")]
mod engine;
mod verdict;

pub use verdict::Verdict;

use crate::error::ConvertError;
use crate::measure::Outputs;
use crate::samples::Sample;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::time::Duration;

/// The first argument of a process that is to be the witness; [`serve`] takes those after it.
pub const CHILD: &str = "--witness-child";

/// Whether this program can be the child.
pub const BUILT_IN: bool = cfg!(feature = "witness");

/// How the witness is called.
#[derive(Clone, Debug)]
pub struct Witness {
    /// A program that calls [`serve`] when its first argument is [`CHILD`].
    pub program: PathBuf,
    /// Most time for one run.
    pub timeout: Duration,
    /// Refuse to write a pack that the witness does not confirm.
    pub required: bool,
}

/// A run to be confirmed.
pub(crate) struct Case<'a> {
    /// Inputs by name.
    pub sample: &'a Sample,
    /// What our float model gave.
    pub ours: &'a Outputs,
}

impl<'a> Case<'a> {
    pub(crate) fn of((sample, ours): (&'a Sample, &'a Outputs)) -> Case<'a> {
        Case { sample, ours }
    }
}

/// What the witness says of a model's outputs, named in order.
///
/// # Errors
/// When the witness is required and does not confirm them, or `stop` is set.
pub(crate) fn ask(
    witness: Option<&Witness>,
    model: &Path,
    outputs: &[String],
    cases: &[Case<'_>],
    stop: &AtomicBool,
) -> Result<Verdict, ConvertError> {
    let Some(witness) = witness else { return Ok(Verdict::Absent) };
    let verdict = question(witness, model, outputs, cases, stop)?;
    if witness.required && !matches!(verdict, Verdict::Agrees { .. }) {
        return Err(ConvertError::Witness(format!("{}: {verdict}", model.display())));
    }
    Ok(verdict)
}

fn question(
    witness: &Witness,
    model: &Path,
    outputs: &[String],
    cases: &[Case<'_>],
    stop: &AtomicBool,
) -> Result<Verdict, ConvertError> {
    let mut verdict = Verdict::Absent;
    let ranges = verdict::ranges(cases.iter().map(|case| case.ours));
    for case in cases {
        let said = match child::run(witness, model, &case.sample.inputs, stop)? {
            Ok(theirs) => verdict::compare(outputs, &ranges, case.ours, &theirs),
            Err(why) => Verdict::CannotRun { why },
        };
        verdict = verdict.and(said);
        if !matches!(verdict, Verdict::Agrees { .. }) {
            break;
        }
    }
    Ok(verdict)
}

/// Runs a model on the arrays of an `.npz` and writes its outputs to another: the child's whole work. Gives the process's
/// exit code.
pub fn serve(arguments: &[OsString]) -> u8 {
    match child::serve(arguments) {
        Ok(()) => 0,
        Err(why) => {
            eprintln!("{why}");
            1
        }
    }
}
