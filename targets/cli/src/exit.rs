//! Errors and their exit codes.

use edge_runtime::device::DeviceError;
use edge_runtime::inputs::InputError;
use edge_runtime::pack::{PackError, PackTrouble};
use edge_runtime::plan::PlanError;
use edge_runtime::select::SelectError;
use edge_runtime::{RunError, SessionError};

/// A command that failed.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error(transparent)]
    Pack(#[from] PackError),
    #[error(transparent)]
    Select(#[from] SelectError),
    #[error(transparent)]
    Session(#[from] SessionError),
    #[error(transparent)]
    Plan(#[from] PlanError),
    #[error(transparent)]
    Run(#[from] RunError),
    #[error(transparent)]
    Device(#[from] DeviceError),
    #[error(transparent)]
    Input(#[from] InputError),
    #[error("{0}")]
    Usage(String),
    #[error("{0}")]
    Golden(String),
    #[error("stdout: {0}")]
    Stdout(#[from] std::io::Error),
}

/// The published table; the same numbers everywhere.
pub const INTERNAL: u8 = 1;
pub const USAGE: u8 = 2;
pub const BAD_FILE: u8 = 4;
pub const DOES_NOT_FIT: u8 = 5;
pub const DEVICE: u8 = 6;
pub const GOLDEN: u8 = 7;
pub const INTERRUPTED: u8 = 130;

impl Failure {
    /// The process's exit code.
    pub fn code(&self) -> u8 {
        match self {
            Failure::Pack(e) if e.trouble() == PackTrouble::Io => DEVICE,
            // A header that the file itself makes too large has another error.
            Failure::Pack(PackError::HeaderMemory { .. } | PackError::Memory { .. }) => DOES_NOT_FIT,
            Failure::Pack(_) => BAD_FILE,
            Failure::Select(e) => match e {
                SelectError::DoesNotFit { .. } | SelectError::RungDoesNotFit { .. } => DOES_NOT_FIT,
                SelectError::NoSuchRung { .. } => USAGE,
                SelectError::Plan(e) => plan(e),
                _ => BAD_FILE,
            },
            Failure::Session(SessionError::Plan(e)) | Failure::Plan(e) => plan(e),
            Failure::Session(_) => DOES_NOT_FIT,
            Failure::Run(RunError::Cancelled) => INTERRUPTED,
            Failure::Run(
                RunError::NotFinite { .. } | RunError::InputBytes { .. } | RunError::Step { .. },
            ) => USAGE,
            Failure::Run(_) => INTERNAL,
            Failure::Device(e) if e.is_usage() => USAGE,
            Failure::Device(_) => DEVICE,
            Failure::Input(e) => match e {
                InputError::TooLarge { .. } => DOES_NOT_FIT,
                InputError::Kind { .. } => USAGE,
                _ => BAD_FILE,
            },
            Failure::Stdout(_) => DEVICE,
            Failure::Usage(_) => USAGE,
            Failure::Golden(_) => GOLDEN,
        }
    }
}

/// Inputs of a wrong name, type or shape are the caller's; what the pack itself gets wrong is the file's.
fn plan(e: &PlanError) -> u8 {
    match e {
        PlanError::NoSuchInput { .. }
        | PlanError::MissingInput { .. }
        | PlanError::InputType { .. }
        | PlanError::InputShape { .. }
        | PlanError::DimConflict { .. }
        | PlanError::NeedsValue { .. }
        | PlanError::TooLarge { .. }
        | PlanError::Node { .. } => USAGE,
        _ => BAD_FILE,
    }
}
