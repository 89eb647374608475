//! Every way in which a pack is refused: one variant a refusal, with the value, the place and the remedy.
#![forbid(unsafe_code)]

use super::BlobId;
use std::io;
use std::path::PathBuf;

/// What kind of trouble a [`PackError`] is; programs map it to an exit code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PackTrouble {
    /// The file is bad, cut, or not there.
    BadFile,
    /// The device or the file system: a read or write that did not succeed, a full disk.
    Io,
    /// There was not enough memory.
    Memory,
    /// The caller's flag stopped it.
    Cancelled,
    /// What the caller asked to be written is no pack.
    Contents,
}

/// Why a pack could not be read or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs)] // the messages are the documentation; fields bear the names used in them
pub enum PackError {
    // The file as a whole.
    #[error("{path}: no such file")]
    Missing { path: PathBuf },
    #[error("{path}: is a directory; name the pack file itself")]
    Directory { path: PathBuf },
    #[error("{path}: is neither a file nor a link to one")]
    NotAFile { path: PathBuf },
    #[error("{path}: the file is empty")]
    Empty { path: PathBuf },
    #[error("{path}: not a pack, it starts with {found}; a pack starts with 89 45 44 47 45 50 0d 0a")]
    NotAPack { path: PathBuf, found: String },

    // The preamble.
    #[error("the preamble has 64 bytes but the file has {file_len}; fetch it again")]
    CutPreamble { file_len: u64 },
    #[error("format version {found}, this runtime reads {known}; convert the model again")]
    Format { found: u32, known: u32 },
    #[error("the pack needs runtime version {needs}, this is {have}; update the runtime")]
    RuntimeTooOld { needs: u32, have: u32 },
    #[error("byte {offset} of the preamble is {value}, must be 0")]
    Reserved { offset: usize, value: u8 },

    // The header as bytes.
    #[error("the header has {len} bytes, at most {cap} are allowed")]
    HeaderLength { len: u64, cap: u64 },
    #[error("the header ends at byte {end} but the file has {file_len}; fetch the rest")]
    CutHeader { end: u64, file_len: u64 },
    #[error(
        "the packed header gives {found} bytes of text and the preamble says {len}; fetch the file again"
    )]
    HeaderText { len: u64, found: u64 },
    #[error("the header's hash is {actual:032x}, expected {expected:032x}; fetch the file again")]
    HeaderHash { expected: u128, actual: u128 },
    #[error("the header may take {needs} bytes of memory when decoded, {cap} are allowed")]
    HeaderMemory { needs: u64, cap: u64 },
    #[error("the header's brackets nest {depth} deep, at most {cap} are allowed")]
    HeaderNesting { depth: usize, cap: usize },
    #[error("the header is not what this format version describes")]
    HeaderJson(#[source] serde_json::Error),

    // The header's content.
    #[error("{what}: {count}, at most {cap} are allowed")]
    TooMany { what: String, count: u64, cap: u64 },
    #[error("the pack has no rung")]
    NoRungs,
    #[error("{place}: {what} {id} does not exist, there are {count}")]
    OutOfRange { place: String, what: &'static str, id: u64, count: u64 },
    #[error("{place}: {what} is {actual}, must be {expected}")]
    Mismatch { place: String, what: &'static str, expected: u64, actual: u64 },
    #[error("{place}: shape {dims:?} has more than {cap} elements")]
    Shape { place: String, dims: Vec<usize>, cap: u64 },
    #[error("{place}: the elements are not lower-case hexadecimal digits")]
    Hex { place: String },
    #[error("{place}: value {value} `{name}` is used before it is computed, or outside its branch")]
    NotYetComputed { place: String, value: u32, name: String },
    #[error("{place}: value {value} `{name}` is computed a second time")]
    ComputedTwice { place: String, value: u32, name: String },
    #[error("{place}: value {value} `{name}` is stored in the pack and cannot be computed too")]
    StoredAndComputed { place: String, value: u32, name: String },
    #[error("{place}: the {what} is the state of two pairs")]
    StateTwice { place: String, what: &'static str },
    #[error("{place}: {what} nest {depth} deep, at most {cap} are allowed")]
    Nesting { place: String, what: &'static str, depth: usize, cap: usize },
    #[error("{place}: written out, the expression has more than {cap} parts")]
    ExpressionSize { place: String, cap: u64 },
    #[error("{place}: shares tensor {shared}, only tensors below {tensor} may be shared")]
    SharedOrder { place: String, tensor: u32, shared: u32 },
    #[error("{place}: {what} is {value}; {need}")]
    Number { place: String, what: &'static str, value: String, need: &'static str },
    #[error("rung {rung} has no id")]
    RungWithoutId { rung: usize },
    #[error("rungs {first} and {second} are both called `{id}`")]
    RungTwice { id: String, first: usize, second: usize },

    // Places in the file.
    #[error("section {section} has no bytes")]
    EmptySection { section: usize },
    #[error("section {section} starts at byte {actual}, must start at {expected}")]
    SectionStart { section: usize, expected: u64, actual: u64 },
    #[error("section {section} ends at byte {actual}, its blobs end at {expected}")]
    SectionEnd { section: usize, expected: u64, actual: u64 },
    #[error("blob {blob} ({owner}) starts at byte {actual}, must start at {expected}")]
    BlobStart { blob: BlobId, owner: String, expected: u64, actual: u64 },
    #[error("blob {blob} ({owner}) has {len} bytes from {offset}, which no section holds")]
    BlobOutside { blob: BlobId, owner: String, offset: u64, len: u64 },
    #[error("{what}: {offset} + {len} is past the largest file")]
    Overflow { what: String, offset: u64, len: u64 },
    #[error("rung `{rung}` ends at byte {end}, where neither the header nor a blob ends")]
    RungEnd { rung: String, end: u64 },
    #[error("rung `{rung}` needs {bytes} bytes but ends after {available}")]
    RungBytes { rung: String, bytes: u64, available: u64 },
    #[error("golden blob {blob} is not in the last section, after every rung")]
    GoldenNotLast { blob: BlobId },

    // The file against the header.
    #[error(
        "smallest rung `{rung}` ends in section {section}, at byte {end}, but the file has {file_len}; fetch the rest"
    )]
    NoWholeRung { rung: String, section: usize, end: u64, file_len: u64 },
    #[error("no rung that this runtime can run is in the file: {reason}")]
    NoRunnableRung { reason: String },
    #[error("the pack ends at byte {end} but the file has {file_len}; fetch the rest")]
    Cut { end: u64, file_len: u64 },
    #[error("the pack ends at byte {end} but the file has {file_len}")]
    TrailingBytes { end: u64, file_len: u64 },

    // Reading blobs.
    #[error("{path}: has {actual} bytes now, had {expected} when it was opened; open it again")]
    Shrunk { path: PathBuf, expected: u64, actual: u64 },
    #[error("blob {blob} ({owner}) ends at byte {end} but the file has {file_len}; fetch the rest")]
    CutBlob { blob: BlobId, owner: String, end: u64, file_len: u64 },
    #[error(
        "blob {blob} ({owner}), {place}: hash {actual:032x}, expected {expected:032x}; fetch the file again"
    )]
    BadBlob { blob: BlobId, owner: String, place: String, expected: u128, actual: u128 },
    #[error("byte {offset} lies between blobs and is {value}, must be 0")]
    Padding { offset: u64, value: u8 },
    #[error("a mapping that ends at byte {end} was asked of a file of {file_len}")]
    MapEnd { end: u64, file_len: u64 },
    #[error("{bytes} bytes of memory for weights are not to be had")]
    Memory { bytes: u64 },
    #[error("{path}: {action}")]
    Io {
        action: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    #[error("stopped on request")]
    Cancelled,

    // Writing.
    #[error("blob {blob} is listed in the sections, but the source does not have it")]
    NoSuchBlob { blob: BlobId },
    #[error("blob {blob} is in {times} places of the sections, must be in one; ids start at 0 without gaps")]
    BlobPlaces { blob: BlobId, times: usize },
    #[error("rung {rung} needs blob {blob}, which is in no section")]
    NeedsNoBlob { rung: usize, blob: BlobId },
    #[error("{needs} lists of needed blobs for {rungs} rungs")]
    NeedsCount { needs: usize, rungs: usize },
    #[error("the header has a number that JSON cannot hold, infinite or not a number, at: {place}")]
    NotStorable { place: String },
}

impl PackError {
    /// The kind of trouble.
    pub fn trouble(&self) -> PackTrouble {
        match self {
            PackError::Io { .. } => PackTrouble::Io,
            PackError::Memory { .. } => PackTrouble::Memory,
            PackError::Cancelled => PackTrouble::Cancelled,
            PackError::NoSuchBlob { .. }
            | PackError::BlobPlaces { .. }
            | PackError::NeedsNoBlob { .. }
            | PackError::NeedsCount { .. }
            | PackError::NotStorable { .. } => PackTrouble::Contents,
            _ => PackTrouble::BadFile,
        }
    }
}
