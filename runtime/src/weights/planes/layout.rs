//! The order of codes and scales in the blobs of `planes`.

use super::super::{BLOCK, PANEL};
use serde::{Deserialize, Serialize};

/// Order of the codes, in units of `rows x columns` codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Layout {
    /// `[ceil(n / 16)][ceil(k / 8)][16][8]`: the order of the integer matrix kernels. Units of 128 codes.
    Panel,
    /// `[ceil(n / 16)][k][16]`: for few columns (depthwise convolution). Units of 16 codes.
    Panel1,
    /// `[n][k]`, without any padding: for small matrices of whole bytes, which padding would make much larger. Units of 1 code.
    Tight,
    /// `[n][ceil(k / 32)][32]`: for tables whose rows are looked up. Units of 32 codes.
    Rows,
}

impl Layout {
    /// Rows of a unit.
    pub(super) fn unit_rows(self) -> usize {
        match self {
            Layout::Panel | Layout::Panel1 => PANEL,
            Layout::Rows | Layout::Tight => 1,
        }
    }

    /// Columns of a unit.
    pub(super) fn unit_cols(self) -> usize {
        match self {
            Layout::Panel => BLOCK,
            Layout::Panel1 | Layout::Tight => 1,
            Layout::Rows => 32,
        }
    }

    /// Codes of a unit, `[rows][columns]`.
    pub(super) fn unit(self) -> usize {
        self.unit_rows() * self.unit_cols()
    }

    /// Units of an `[n, k]` matrix.
    pub(super) fn units(self, n: usize, k: usize) -> usize {
        n.div_ceil(self.unit_rows()) * k.div_ceil(self.unit_cols())
    }

    /// Scales of an `[n, k]` matrix of `groups` groups a row.
    pub(super) fn scales(self, n: usize, groups: usize) -> usize {
        n.next_multiple_of(self.unit_rows()) * groups
    }

    /// Position of a scale: `[ceil(n / 16)][groups][16]`, or `[n][groups]`.
    pub(super) fn scale_at(self, r: usize, g: usize, groups: usize) -> usize {
        let rows = self.unit_rows();
        (r / rows * groups + g) * rows + r % rows
    }
}
