//! From a matrix with zeros to positions and values.

use super::super::PANEL;
use super::Form;
use crate::pack::{Arg, BlobId, Expr};
use edge_kernels::cpu::spread::{MAX_OF, position_bits};
use serde_json::{Map, Value, json};

/// Where the values of a matrix are, and what they are: the operand of a `sparse` expression, yet to be stored.
#[derive(Clone, Debug, PartialEq)]
pub struct Positions {
    /// The expression's parameters.
    pub params: Map<String, Value>,
    /// The expression's blobs.
    pub blobs: Vec<Vec<u8>>,
    /// The values, row-major `[n, k]`; 0 where the form has room that the matrix does not need.
    pub values: Vec<f32>,
    /// Rows of the values.
    pub n: usize,
    /// Columns of the values.
    pub k: usize,
}

impl Positions {
    /// The expression, its bytes being `blobs`, in the order of [`Positions::blobs`].
    pub fn expr(&self, values: Expr, blobs: Vec<BlobId>) -> Expr {
        let args = vec![Arg::Expr(Box::new(values))];
        Expr { kind: "sparse".into(), params: self.params.clone(), args, blobs }
    }

    /// Bytes of positions.
    pub fn bytes(&self) -> usize {
        self.blobs.iter().map(Vec::len).sum()
    }
}

fn params(form: Form, more: &[(&str, Value)]) -> Map<String, Value> {
    let more = more.iter().map(|(name, value)| ((*name).into(), value.clone()));
    [("form".into(), json!(form))].into_iter().chain(more).collect()
}

/// Of `w`, row-major `[n, k]`, the blocks of `block` columns of each 16 rows that have something in them. Every panel has room for as
/// many as the fullest one keeps.
///
/// # Panics
/// When `w` does not have `n * k` elements, or K is not of at most 65535 whole blocks.
pub fn blocks(w: &[f32], n: usize, k: usize, block: usize) -> Positions {
    assert_eq!(w.len(), n * k, "elements of [{n}, {k}]");
    assert!(block > 0 && k.is_multiple_of(block), "blocks of {block} in K = {k}");
    assert!(k / block <= usize::from(u16::MAX), "{} blocks in a row", k / block);
    let some = |panel: usize, index: usize| {
        let cols = index * block..(index + 1) * block;
        (panel * PANEL..n.min((panel + 1) * PANEL))
            .any(|r| w[r * k..][cols.clone()].iter().any(|w| *w != 0.0))
    };
    let lists: Vec<Vec<usize>> = (0..n.div_ceil(PANEL))
        .map(|panel| (0..k / block).filter(|index| some(panel, *index)).collect())
        .collect();
    let entries = lists.iter().map(Vec::len).max().unwrap_or(0).max(1);
    let width = entries * block;
    let (mut blob, mut values) = (Vec::new(), vec![0.0; n * width]);
    for (panel, list) in lists.iter().enumerate() {
        for entry in 0..entries {
            // Past every block: the list ends there.
            let index = list.get(entry).map_or(u16::MAX, |index| *index as u16);
            blob.extend(index.to_le_bytes());
        }
        for r in panel * PANEL..n.min((panel + 1) * PANEL) {
            for (entry, index) in list.iter().enumerate() {
                let from = &w[r * k + index * block..][..block];
                values[r * width + entry * block..][..block].copy_from_slice(from);
            }
        }
    }
    let params = params(Form::Blocks, &[("block", json!(block)), ("entries", json!(entries))]);
    Positions { params, blobs: vec![blob], values, n, k: width }
}

/// Of `w`, row-major `[n, k]`, what is not 0 of every `of` columns, at most `keep` of them.
///
/// `None` when some row has more in a group than that.
///
/// # Panics
/// When `w` does not have `n * k` elements, or not 1 <= `keep` < `of` <= 16.
pub fn few(w: &[f32], n: usize, k: usize, keep: usize, of: usize) -> Option<Positions> {
    assert_eq!(w.len(), n * k, "elements of [{n}, {k}]");
    assert!((1..of).contains(&keep) && of <= MAX_OF, "{keep} of {of} columns");
    let (groups, bits) = (k.div_ceil(of), position_bits(of));
    let width = groups * keep;
    let mut blob = vec![0u8; n.div_ceil(PANEL) * width * 2 * bits];
    let mut values = vec![0.0; n * width];
    for r in 0..n {
        for group in 0..groups {
            let cols = &w[r * k + group * of..(r + 1) * k];
            let mut kept = cols.iter().take(of).enumerate().filter(|(_, w)| **w != 0.0);
            let mut position = 0;
            for slot in 0..keep {
                // A position that is not greater than the one before stands for nothing.
                if let Some((own, value)) = kept.next() {
                    position = own;
                    values[r * width + group * keep + slot] = *value;
                }
                let unit = (r / PANEL * groups + group) * keep + slot;
                for bit in (0..bits).filter(|bit| position >> bit & 1 == 1) {
                    let at = (unit * PANEL + r % PANEL) * bits + bit;
                    blob[at / 8] |= 1 << (at % 8);
                }
            }
            if kept.next().is_some() {
                return None;
            }
        }
    }
    let params = params(Form::Few, &[("keep", json!(keep)), ("of", json!(of))]);
    Some(Positions { params, blobs: vec![blob], values, n, k: width })
}

/// Of `w`, row-major `[n, k]`, what is not 0. When `scaled`, each row is stored as parts of its largest magnitude, so that it has integer
/// codes.
///
/// # Panics
/// When `w` does not have `n * k` elements, or more than 2^32 - 1 of them are not 0.
pub fn bitmap(w: &[f32], n: usize, k: usize, scaled: bool) -> Positions {
    assert_eq!(w.len(), n * k, "elements of [{n}, {k}]");
    let largest = |row: &[f32]| row.iter().fold(0.0f32, |most, w| most.max(w.abs()));
    let scales: Vec<f32> = w.chunks(k.max(1)).map(largest).collect();
    let (mut masks, mut starts, mut found) = (Vec::new(), Vec::new(), Vec::new());
    for panel in 0..n.div_ceil(PANEL) {
        let start = u32::try_from(found.len()).expect("fewer values than 2^32");
        starts.extend(start.to_le_bytes());
        for c in 0..k {
            let mut mask = 0u16;
            for r in panel * PANEL..n.min((panel + 1) * PANEL) {
                let value = w[r * k + c];
                if value != 0.0 {
                    mask |= 1 << (r % PANEL);
                    found.push(if scaled { value / scales[r] } else { value });
                }
            }
            masks.extend(mask.to_le_bytes());
        }
    }
    let count = found.len().max(1);
    let width = count.div_ceil(PANEL);
    let mut values = vec![0.0; PANEL * width];
    for (i, value) in found.into_iter().enumerate() {
        values[i % PANEL * width + i / PANEL] = value;
    }
    let mut blobs = vec![masks, starts];
    if scaled {
        blobs.push(scales.into_iter().flat_map(f32::to_le_bytes).collect());
    }
    let params = params(Form::Bitmap, &[("count", json!(count)), ("scaled", json!(scaled))]);
    Positions { params, blobs, values, n: PANEL, k: width }
}
