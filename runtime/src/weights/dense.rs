//! `dense`: floats as they are.

use super::node::Node;
use super::{CHUNK, Float, PANEL, Part, WeightError, Weights, blank};
use crate::pack::{BlobId, Expr};
use crate::weights::Bytes;
use edge_kernels::cpu::gemv_half::{Half, HalfPanels};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::ops::Range;

/// Order of the elements of a dense matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Layout {
    /// `[ceil(n / 16)][k][16]`, 0 past `n`: the order of the matrix kernels.
    Panel,
    /// `[n][k]`: for tables whose rows are looked up.
    Rows,
}

struct Dense {
    n: usize,
    k: usize,
    dtype: Float,
    layout: Layout,
    bytes: Bytes,
}

/// Stored elements of an `[n, k]` matrix.
fn elements(layout: Layout, n: usize, k: usize) -> usize {
    match layout {
        Layout::Panel => n.next_multiple_of(PANEL) * k,
        Layout::Rows => n * k,
    }
}

pub(super) fn construct(node: &mut Node<'_, '_>) -> Result<Box<dyn Weights>, WeightError> {
    node.only(&["dtype", "layout"])?;
    node.counts(0, 1)?;
    let dtype: Float = node.need("dtype", "f32, f16 or bf16")?;
    let layout = node.param("layout", "panel or rows")?.unwrap_or(Layout::Panel);
    let (n, k) = (node.n(), node.k());
    let bytes = node.bytes(0, elements(layout, n, k) * dtype.size())?;
    Ok(Box::new(Dense { n, k, dtype, layout, bytes }))
}

impl Dense {
    /// Position of an element; rows of one panel follow each other, or columns of one row.
    fn at(&self, r: usize, c: usize) -> usize {
        match self.layout {
            Layout::Panel => (r / PANEL * self.k + c) * PANEL + r % PANEL,
            Layout::Rows => r * self.k + c,
        }
    }
}

impl Weights for Dense {
    fn n(&self) -> usize {
        self.n
    }

    fn k(&self) -> usize {
        self.k
    }

    fn materialize(&self) -> Vec<f32> {
        let bytes = self.bytes.as_slice();
        let mut out = vec![0.0; self.n * self.k];
        for (i, out) in out.iter_mut().enumerate() {
            self.dtype.decode(bytes, self.at(i / self.k, i % self.k), std::slice::from_mut(out));
        }
        out
    }

    fn fill_part(&self, part: &Part, out: &mut [f32]) {
        let bytes = self.bytes.as_slice();
        let first = part.cols.start;
        match self.layout {
            Layout::Panel if part.rows.len() == PANEL && part.rows.start.is_multiple_of(PANEL) => {
                self.dtype.decode(bytes, self.at(part.rows.start, first), out);
            }
            Layout::Panel => {
                let mut lane = part.lane;
                let mut rows = part.rows.clone();
                while !rows.is_empty() {
                    let run = rows.len().min(PANEL - rows.start % PANEL);
                    for (c, out) in part.cols.clone().zip(out.chunks_exact_mut(PANEL)) {
                        self.dtype.decode(bytes, self.at(rows.start, c), &mut out[lane..lane + run]);
                    }
                    rows.start += run;
                    lane += run;
                }
            }
            Layout::Rows => {
                let mut run = blank::<CHUNK>();
                for (r, lane) in part.rows.clone().zip(part.lanes()) {
                    for (i, out) in out.chunks_mut(CHUNK * PANEL).enumerate() {
                        let run = &mut run[..out.len() / PANEL];
                        self.dtype.decode(bytes, self.at(r, first + i * CHUNK), run);
                        for (out, value) in out.chunks_exact_mut(PANEL).zip(run) {
                            out[lane] = *value;
                        }
                    }
                }
            }
        }
    }

    fn borrow_f32(&self, panels: Range<usize>) -> Option<&[f32]> {
        let stored = self.dtype == Float::F32 && self.layout == Layout::Panel;
        if !stored || cfg!(target_endian = "big") {
            return None;
        }
        let panel = self.k * PANEL * self.dtype.size();
        bytemuck::try_cast_slice(&self.bytes.as_slice()[panels.start * panel..panels.end * panel]).ok()
    }

    fn borrow_halves(&self, panels: Range<usize>) -> Option<HalfPanels<'_>> {
        let kind = match self.dtype {
            Float::F16 => Half::F16,
            Float::Bf16 => Half::Bf16,
            Float::F32 => return None,
        };
        let panel = self.k * PANEL * self.dtype.size();
        let bytes = (self.layout == Layout::Panel).then(|| self.bytes.as_slice())?;
        Some(HalfPanels { kind, bytes: &bytes[panels.start * panel..panels.end * panel], k: self.k })
    }

    fn fill_row(&self, r: usize, out: &mut [f32]) {
        assert_eq!(out.len(), self.k, "elements of a row");
        let bytes = self.bytes.as_slice();
        match self.layout {
            Layout::Rows => self.dtype.decode(bytes, self.at(r, 0), out),
            Layout::Panel => {
                for (c, out) in out.iter_mut().enumerate() {
                    self.dtype.decode(bytes, self.at(r, c), std::slice::from_mut(out));
                }
            }
        }
    }
}

/// A matrix ready to be stored.
#[derive(Clone, Debug, PartialEq)]
pub struct EncodedDense {
    /// Its only blob.
    pub blob: Vec<u8>,
    /// Element type.
    pub dtype: Float,
    /// Order of the elements.
    pub layout: Layout,
}

impl EncodedDense {
    /// The expression, its bytes being blob `blob`.
    pub fn expr(&self, blob: BlobId) -> Expr {
        let mut params = serde_json::Map::new();
        params.insert("dtype".into(), json!(self.dtype));
        params.insert("layout".into(), json!(self.layout));
        Expr { kind: "dense".into(), params, args: Vec::new(), blobs: vec![blob] }
    }
}

/// A finite value that the element type cannot hold.
#[derive(Clone, Copy, Debug, PartialEq, thiserror::Error)]
#[error("element {index} is {value}, past the range of {}", dtype.name())]
pub struct OutOfRange {
    /// Row-major index.
    pub index: usize,
    /// The value.
    pub value: f32,
    /// The element type.
    pub dtype: Float,
}

/// Stores `w`, row-major `[n, k]`, each element rounded to the nearest of `dtype`; NaN and infinities stay.
///
/// # Errors
/// When a finite element rounds to an infinity.
///
/// # Panics
/// When `w` does not have `n * k` elements.
pub fn encode(
    w: &[f32],
    n: usize,
    k: usize,
    dtype: Float,
    layout: Layout,
) -> Result<EncodedDense, OutOfRange> {
    assert_eq!(w.len(), n * k, "elements of [{n}, {k}]");
    let lost = |value: f32| value.is_finite() && !dtype.round(value).is_finite();
    if let Some(index) = w.iter().position(|&value| lost(value)) {
        return Err(OutOfRange { index, value: w[index], dtype });
    }
    let mut blob = Vec::with_capacity(elements(layout, n, k) * dtype.size());
    match layout {
        Layout::Rows => w.iter().for_each(|&value| dtype.encode(value, &mut blob)),
        Layout::Panel => {
            for first in (0..n).step_by(PANEL) {
                for c in 0..k {
                    for r in first..first + PANEL {
                        let value = if r < n { w[r * k + c] } else { 0.0 };
                        dtype.encode(value, &mut blob);
                    }
                }
            }
        }
    }
    Ok(EncodedDense { blob, dtype, layout })
}
