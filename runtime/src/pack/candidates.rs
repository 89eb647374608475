//! The table of subnets that have no rungs.

use super::BlobId;
use serde::{Deserialize, Serialize};

/// An option that plays no part in its subnet.
pub(crate) const NO_PART: u8 = u8::MAX;
/// Bytes of an entry behind its options.
pub(crate) const NUMBERS: usize = 16;

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
    /// matrices, bytes of arena as of rungs, thousands of multiply-adds, or the microseconds that a run takes on
    /// the device that the pack was made for: numbers that times are proportional to.
    pub blob: BlobId,
}
