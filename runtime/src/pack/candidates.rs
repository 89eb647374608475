//! The table of subnets that have no rungs.

use super::BlobId;
use serde::{Deserialize, Serialize};

/// An option that plays no part in its subnet.
pub(crate) const NO_PART: u8 = u8::MAX;
/// Bytes of an entry behind its options.
pub(crate) const NUMBERS: usize = 16;

/// An entry of the table: a subnet and what is expected of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Foreseen {
    /// By variable, the option; `None` where it plays no part.
    pub options: Vec<Option<u8>>,
    /// In the table's metric.
    pub quality: f32,
    /// Elements of its matrices.
    pub weights: u32,
    /// Bytes of arena, as of rungs.
    pub arena: u32,
    /// What its time is proportional to, see [`Candidates::device`].
    pub work: u32,
}

/// A table of subnets, and what is expected of each.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Candidates {
    /// Index into [`super::Header::graphs`].
    pub graph: u32,
    /// Entries.
    pub count: u32,
    /// What the qualities are, as [`super::Quality::metric`] of rungs.
    pub metric: String,
    /// How far off expectations were where they were measured: root of the mean square.
    pub spread: f32,
    /// The entries: an option of each variable in a byte, 255 where it plays no part; quality, f32; u32 each of the elements of its
    /// matrices, bytes of arena as of rungs, and its work.
    pub blob: BlobId,
    /// The device whose microseconds a run the work is; of none it is thousands of multiply-adds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<String>,
}
