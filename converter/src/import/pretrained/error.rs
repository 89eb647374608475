//! Why a checkpoint of the `transformers` library is not read.

use std::path::PathBuf;

/// Why a checkpoint of the `transformers` library is not read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs)] // the fields are named in the messages
pub enum PretrainedError {
    /// A file cannot be read.
    #[error("{}: {source}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    /// A file is not what its name says, or is cut.
    #[error("{}: {why}", path.display())]
    Json { path: PathBuf, why: String },
    /// A key is missing, or has another value than the architecture takes.
    #[error("{}: key `{key}`: {why}", path.display())]
    Key { path: PathBuf, key: String, why: String },
    /// Tensors that the architecture has are not there.
    #[error(
        "{}: {} of {blocks} layers (`num_hidden_layers` of config.json) not there: {}; fetch all files of the checkpoint again, or give its folder where one shard \
         was given", path.display(), if names.len() == 1 { "one tensor is".into() } else { format!("{} tensors are", names.len()) },
        listed(names)
    )]
    Missing { path: PathBuf, blocks: usize, names: Vec<String> },
    /// Everything that is not implemented, over the whole checkpoint.
    #[error("{}: not implemented:\n  {}", path.display(), what.join("\n  "))]
    Unsupported { path: PathBuf, what: Vec<String> },
}

/// Most names that are written out.
const SHOWN: usize = 32;

fn listed(names: &[String]) -> String {
    let shown: Vec<String> = names.iter().take(SHOWN).map(|name| format!("`{name}`")).collect();
    match names.len().saturating_sub(SHOWN) {
        0 => shown.join(", "),
        more => format!("{} and {more} more", shown.join(", ")),
    }
}
