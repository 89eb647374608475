//! Why a checkpoint is no once-for-all network, or a subnet none of it.

use crate::import::checkpoint::CheckpointError;
use std::path::PathBuf;

/// Why a checkpoint is no once-for-all network, or a subnet none of it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs)] // the fields are named in the messages
pub enum SupernetError {
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    #[error(
        "{}: no once-for-all network: expected tensors of `blocks.0.` and of `first_conv.` or `input_stem.0.`", path.display()
    )]
    Kind { path: PathBuf },
    #[error("{}: {} tensor{} not as in {family}:\n  {}", path.display(), problems.len(), if problems.len() == 1 { " is" } else { "s are" },
        problems.join("\n  "))]
    Tensors { path: PathBuf, family: &'static str, problems: Vec<String> },
    #[error("subnet: {}", .0.join("; "))]
    Choices(Vec<String>),
}
