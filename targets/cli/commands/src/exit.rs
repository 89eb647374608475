//! Errors and their exit codes.

#[cfg(feature = "text")]
use edge_runtime::MoveError;
#[cfg(feature = "text")]
use edge_runtime::decode::DecodeError;
use edge_runtime::device::DeviceError;
use edge_runtime::inputs::InputError;
use edge_runtime::pack::{PackError, PackTrouble};
use edge_runtime::plan::PlanError;
use edge_runtime::select::{PaceError, SelectError};
#[cfg(feature = "text")]
use edge_runtime::text::{EmbedError, SampleError, TemplateError, TextError};
use edge_runtime::{RunError, SessionError};
use std::io::Write;
use std::path::PathBuf;

/// A command that failed.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error(transparent)]
    Pack(#[from] PackError),
    #[error(transparent)]
    Select(#[from] SelectError),
    #[error("{0}")]
    TooSlow(String),
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
    #[cfg(feature = "text")]
    #[error(transparent)]
    Text(TextError),
    #[cfg(feature = "text")]
    #[error(transparent)]
    Template(#[from] TemplateError),
    #[cfg(feature = "text")]
    #[error("{0}")]
    Unsupported(String),
    #[cfg(feature = "text")]
    #[error("{0}")]
    BadFile(String),
    #[cfg(feature = "text")]
    #[error("{0}")]
    NoRoom(String),
    #[error("{0}")]
    Golden(String),
    #[error("{}: {error}", path.display())]
    Write { path: PathBuf, error: std::io::Error },
    #[error("stdout: {0}")]
    Stdout(#[from] std::io::Error),
}

impl From<PaceError> for Failure {
    fn from(error: PaceError) -> Failure {
        match error {
            PaceError::Select(error) => error.into(),
            PaceError::Session(error) => error.into(),
            PaceError::Run(error) => error.into(),
            slow => Failure::TooSlow(slow.to_string()),
        }
    }
}

#[cfg(feature = "text")]
impl From<DecodeError> for Failure {
    fn from(error: DecodeError) -> Failure {
        match error {
            DecodeError::Select(error) => error.into(),
            DecodeError::Plan(error) => error.into(),
            room @ (DecodeError::Budget(_) | DecodeError::Room { .. }) => Failure::NoRoom(room.to_string()),
            DecodeError::Session(error) => error.into(),
            DecodeError::Run(error) => error.into(),
            // What is left is that the pack, or a number of tokens, is not what was meant.
            other => Failure::Usage(other.to_string()),
        }
    }
}

#[cfg(feature = "text")]
impl From<EmbedError> for Failure {
    fn from(error: EmbedError) -> Failure {
        match error {
            EmbedError::Open(MoveError::Select(error)) => error.into(),
            EmbedError::Open(MoveError::Session(error)) | EmbedError::Plan(error) => error.into(),
            EmbedError::Open(other) => Failure::NoRoom(other.to_string()),
            EmbedError::Run(error) => error.into(),
            other => Failure::Usage(other.to_string()),
        }
    }
}

#[cfg(feature = "text")]
impl From<TextError> for Failure {
    fn from(error: TextError) -> Failure {
        match error {
            TextError::Decode(error) => error.into(),
            TextError::Show(error) => Failure::Stdout(error),
            TextError::Template(error) => Failure::Template(error),
            other => Failure::Text(other),
        }
    }
}

/// The published table; the same numbers everywhere.
pub const INTERNAL: u8 = 1;
pub const USAGE: u8 = 2;
#[cfg(feature = "text")]
pub const UNSUPPORTED: u8 = 3;
pub const BAD_FILE: u8 = 4;
pub const DOES_NOT_FIT: u8 = 5;
pub const DEVICE: u8 = 6;
pub const GOLDEN: u8 = 7;
pub const INTERRUPTED: u8 = 130;

impl Failure {
    /// The process's exit code.
    pub fn code(&self) -> u8 {
        match self {
            Failure::Pack(e) => pack(e),
            Failure::Select(e) => match e {
                SelectError::Pack(e) => pack(e),
                SelectError::DoesNotFit { .. } | SelectError::RungDoesNotFit { .. } => DOES_NOT_FIT,
                SelectError::NoSuchRung { .. } => USAGE,
                SelectError::Candidates { .. } => BAD_FILE,
                SelectError::Plan(e) => plan(e),
                _ => BAD_FILE,
            },
            Failure::Session(SessionError::Plan(e)) | Failure::Plan(e) => plan(e),
            Failure::Session(_) | Failure::TooSlow(_) => DOES_NOT_FIT,
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
            Failure::Stdout(_) | Failure::Write { .. } => DEVICE,
            Failure::Usage(_) => USAGE,
            #[cfg(feature = "text")]
            Failure::Text(e) => match e {
                TextError::Tokenizer(_) | TextError::Vocabulary { .. } => BAD_FILE,
                TextError::Sample(SampleError::NotFinite { .. } | SampleError::Nothing) => INTERNAL,
                _ => USAGE,
            },
            #[cfg(feature = "text")]
            Failure::Template(TemplateError::Render { .. }) => USAGE,
            #[cfg(feature = "text")]
            Failure::Template(_) | Failure::BadFile(_) => BAD_FILE,
            #[cfg(feature = "text")]
            Failure::Unsupported(_) => UNSUPPORTED,
            #[cfg(feature = "text")]
            Failure::NoRoom(_) => DOES_NOT_FIT,
            Failure::Golden(_) => GOLDEN,
        }
    }
}

/// Makes a panic, on whichever thread, end the process with [`INTERNAL`], as the table says; by themselves panics end
/// it with 101, or with a signal where they cannot unwind.
pub fn panics_are_internal_errors() {
    std::panic::set_hook(Box::new(|panic| {
        // Stderr may be closed; the exit code says it all the same.
        let _ = writeln!(std::io::stderr(), "edge-run: internal error: {panic}");
        std::process::exit(INTERNAL.into());
    }));
}

fn pack(e: &PackError) -> u8 {
    match e {
        // A header that the file itself makes too large has another error.
        PackError::HeaderMemory { .. } | PackError::Memory { .. } => DOES_NOT_FIT,
        e if e.trouble() == PackTrouble::Io => DEVICE,
        _ => BAD_FILE,
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

#[cfg(test)]
mod tests {
    use super::{INTERNAL, panics_are_internal_errors};
    use std::process::Command;

    /// Runs itself again, to panic there.
    #[test]
    fn a_panic_on_any_thread_is_an_internal_error() {
        const CHILD: &str = "EDGE_TEST_PANICS_ON";
        match std::env::var(CHILD).as_deref() {
            Ok("main") => {
                panics_are_internal_errors();
                panic!("on purpose");
            }
            Ok(_) => {
                panics_are_internal_errors();
                let _ = std::thread::spawn(|| panic!("on purpose")).join();
            }
            Err(_) => {
                for thread in ["main", "worker"] {
                    let mut child = Command::new(std::env::current_exe().unwrap());
                    child.args(["--exact", "exit::tests::a_panic_on_any_thread_is_an_internal_error"]);
                    let ended = child.args(["--nocapture"]).env(CHILD, thread).output().unwrap();
                    let said = String::from_utf8_lossy(&ended.stderr);
                    assert_eq!(ended.status.code(), Some(INTERNAL.into()), "{thread}: {said}");
                    assert!(
                        said.contains("edge-run: internal error: ") && said.contains("on purpose"),
                        "{said}"
                    );
                }
            }
        }
    }
}
