//! Why a GGUF file is not read.

use std::path::PathBuf;

/// Why a GGUF file is not read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs)] // the fields are named in the messages
pub enum GgufError {
    /// The file cannot be opened.
    #[error("{}: {source}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    /// The file contradicts its own form, or is cut.
    #[error("{}, byte {at}: {why}", path.display())]
    Format { path: PathBuf, at: usize, why: String },
    /// A key is missing, or has another value than the architecture takes.
    #[error("{}: key `{key}`: {why}", path.display())]
    Key { path: PathBuf, key: String, why: String },
    /// One tensor is missing, or cannot be what the file says.
    #[error("{}: tensor `{tensor}`: {why}", path.display())]
    Tensor { path: PathBuf, tensor: String, why: String },
    /// Everything that is not implemented, over the whole file.
    #[error("{}: not implemented:\n  {}", path.display(), what.join("\n  "))]
    Unsupported { path: PathBuf, what: Vec<String> },
}
