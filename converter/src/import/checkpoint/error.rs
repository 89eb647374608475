//! Why a checkpoint is not read.

use edge_runtime::inputs::InputError;
use std::path::PathBuf;

/// Why a checkpoint is not read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs)] // the fields are named in the messages
pub enum CheckpointError {
    /// The file cannot be opened.
    #[error(transparent)]
    Input(#[from] InputError),
    /// The bytes are of no form that is read.
    #[error("{}: no checkpoint that is read: {why}", path.display())]
    Kind { path: PathBuf, why: String },
    /// The file contradicts its own form, or is cut.
    #[error("{}, byte {at}: {why}", path.display())]
    Format { path: PathBuf, at: u64, why: String },
    /// The pickle asks for something other than tensors.
    #[error("{}, byte {at}: the pickle calls `{global}`: refused, {why}", path.display())]
    Refused { path: PathBuf, at: u64, global: String, why: String },
    /// One tensor cannot be what the file says.
    #[error("{}: tensor `{tensor}`: {why}", path.display())]
    Tensor { path: PathBuf, tensor: String, why: String },
    /// The shards do not make up what their index lists.
    #[error("{}: {}", path.display(), why.join("; "))]
    Shards { path: PathBuf, why: Vec<String> },
    /// There is no such tensor, or part.
    #[error("{}: no {what} `{name}`; there is {}", path.display(), listed(known))]
    Missing { path: PathBuf, what: &'static str, name: String, known: Vec<String> },
}

/// The first few of a list.
fn listed(names: &[String]) -> String {
    let shown: Vec<String> = names.iter().take(8).map(|name| format!("`{name}`")).collect();
    match names.len() {
        0 => "none".to_string(),
        n if n > shown.len() => format!("{} and {} more", shown.join(", "), n - shown.len()),
        _ => shown.join(", "),
    }
}
