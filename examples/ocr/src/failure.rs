//! Errors and their exit codes: the table of `edge-run`.

use edge_runtime::device::{BudgetError, DeviceError};
use edge_runtime::inputs::InputError;
use edge_runtime::pack::{PackError, PackTrouble};
use edge_runtime::select::{SelectError, ShareError, TogetherError};
use edge_runtime::{RunError, SessionError};

/// A page that was not read.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error(transparent)]
    Device(#[from] DeviceError),
    #[error("{name}: {source}")]
    Pack { name: &'static str, source: PackError },
    #[error("{name}: {why}")]
    Model { name: &'static str, why: String },
    #[error(transparent)]
    Together(#[from] TogetherError),
    #[error(transparent)]
    Share(#[from] ShareError),
    #[error(transparent)]
    Session(#[from] SessionError),
    #[error(transparent)]
    Budget(#[from] BudgetError),
    #[error(transparent)]
    Run(#[from] RunError),
    #[error(transparent)]
    Input(#[from] InputError),
    #[error("{0}")]
    Page(String),
    #[error("stdout: {0}")]
    Stdout(#[from] std::io::Error),
}

pub const INTERNAL: u8 = 1;
pub const USAGE: u8 = 2;
pub const BAD_FILE: u8 = 4;
pub const DOES_NOT_FIT: u8 = 5;
pub const DEVICE: u8 = 6;

impl Failure {
    /// The process's exit code.
    pub fn code(&self) -> u8 {
        match self {
            Failure::Device(e) if e.is_usage() => USAGE,
            Failure::Device(_) | Failure::Stdout(_) => DEVICE,
            Failure::Pack { source, .. } | Failure::Share(ShareError::Pack(source)) => pack(source),
            Failure::Budget(_)
            | Failure::Share(ShareError::Budget(_) | ShareError::Session(SessionError::Budget(_)))
            | Failure::Session(SessionError::Budget(_))
            | Failure::Together(TogetherError::DoesNotFit { .. })
            | Failure::Input(InputError::TooLarge { .. }) => DOES_NOT_FIT,
            Failure::Together(TogetherError::Select { source: SelectError::NoSuchRung { .. }, .. }) => USAGE,
            Failure::Together(_)
            | Failure::Share(_)
            | Failure::Session(_)
            | Failure::Model { .. }
            | Failure::Page(_)
            | Failure::Input(_) => BAD_FILE,
            Failure::Run(_) => INTERNAL,
        }
    }
}

fn pack(e: &PackError) -> u8 {
    match e {
        e if e.trouble() == PackTrouble::Io => DEVICE,
        PackError::HeaderMemory { .. } | PackError::Memory { .. } => DOES_NOT_FIT,
        _ => BAD_FILE,
    }
}
