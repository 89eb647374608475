//! Inputs from the files that people have: NumPy arrays, pictures, sound. Feature `inputs`.
//!
//! Every reader checks the size that a file claims against a limit before it allocates.

mod frame;
mod mapped;
pub mod npy;
mod npz;
mod picture;
mod sound;
pub mod zip;

pub use frame::{Frame, Region, decoded_bytes};
pub use mapped::MappedFile;
pub use npz::{read_npy, read_npz, write_npy, write_npz};
pub use picture::read_picture;
pub use sound::read_sound;

use crate::device::ByteSize;
use crate::graph::DType;
use std::path::PathBuf;

/// A named array.
#[derive(Clone, Debug, PartialEq)]
pub struct NamedArray {
    /// The name in the archive; empty for a single array.
    pub name: String,
    /// Element type.
    pub dtype: DType,
    /// Shape.
    pub dims: Vec<usize>,
    /// Little-endian elements, row-major.
    pub data: Vec<u8>,
}

/// A file that is not an input.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs)] // the fields are named in the messages
pub enum InputError {
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: std::io::Error },
    #[error("{}: {why}", path.display())]
    Format { path: PathBuf, why: String },
    #[error("{}: {} decoded, only {} are left of the budget", path.display(), ByteSize(*bytes), ByteSize(*limit))]
    TooLarge { path: PathBuf, bytes: u64, limit: u64 },
    #[error("{}: a file of type `.{extension}` is not read; expected npy, npz, png, jpg, bmp or wav", path.display())]
    Kind { path: PathBuf, extension: String },
}
