//! Each panel of 16 rows keeps a list of blocks of consecutive columns.

use super::super::{Bytes, CodesOut, codes};
use super::*;
use edge_kernels::cpu::planes::{UNIT, Variant, select};

/// Columns of a block.
const BLOCKS: [usize; 4] = [1, 2, 4, 8];

struct KeptColumns {
    n: usize,
    k: usize,
    block: usize,
    /// Blocks of a panel's list.
    entries: usize,
    /// `[ceil(n / 16)][entries]` u16
    lists: Bytes,
    /// `[n, entries * block]`
    values: Box<dyn Weights>,
    form: Option<CodeForm>,
    variant: &'static Variant,
}

pub(super) fn construct(node: &mut Node<'_, '_>) -> Result<Box<dyn Weights>, WeightError> {
    node.only(&["form", "block", "entries"])?;
    let (n, k) = (node.n(), node.k());
    let expected = format!("1, 2, 4 or 8, a divisor of K = {k}");
    let block = node.need::<usize>("block", &expected)?;
    if !BLOCKS.contains(&block) || !k.is_multiple_of(block) {
        return Err(node.param_error("block", expected));
    }
    let most = k / block;
    if most > usize::from(u16::MAX) {
        return Err(node.shape_error("blocks in a row", most, "at most 65535"));
    }
    let expected = format!("1 to {most} blocks");
    let entries = node.need::<usize>("entries", &expected)?;
    if !(1..=most).contains(&entries) {
        return Err(node.param_error("entries", expected));
    }
    node.counts(1, 1)?;
    let lists = node.bytes(0, n.div_ceil(PANEL) * entries * size_of::<u16>())?;
    let values = node.operand(0, Some((n, entries * block)), node.take())?;
    let (form, variant) = (form_of(values.as_ref(), k), select(node.isa()));
    Ok(Box::new(KeptColumns { n, k, block, entries, lists, values, form, variant }))
}

impl KeptColumns {
    fn kept(&self) -> Kept<'_> {
        Kept { blocks: self.lists.as_slice().as_chunks().0, entries: self.entries, block: self.block }
    }

    /// Shows the columns of values that lie in `cols` of a panel, some at a time: which they are, the first a multiple of 8, and where
    /// each belongs.
    fn chunks(&self, panel: usize, cols: &Range<usize>, each: &mut dyn FnMut(Range<usize>, &Targets)) {
        let (mut first, mut end, mut targets) = (NOWHERE, 0, [NOWHERE; CHUNK]);
        for (entry, index) in self.kept().list(panel, self.k).enumerate() {
            for i in 0..self.block {
                let (value, col) = (entry * self.block + i, index * self.block + i);
                if !cols.contains(&col) {
                    continue;
                }
                if first != value / CHUNK * CHUNK {
                    if first != NOWHERE {
                        each(first..end, &targets);
                    }
                    (first, targets) = (value / CHUNK * CHUNK, [NOWHERE; CHUNK]);
                }
                (targets[value - first], end) = (col, value + 1);
            }
        }
        if first != NOWHERE {
            each(first..end, &targets);
        }
    }
}

impl Weights for KeptColumns {
    fn n(&self) -> usize {
        self.n
    }

    fn k(&self) -> usize {
        self.k
    }

    fn materialize(&self) -> Vec<f32> {
        let (values, width) = (self.values.materialize(), self.entries * self.block);
        let lists = self.lists.as_slice();
        let mut out = vec![0.0; self.n * self.k];
        for (r, out) in out.chunks_exact_mut(self.k).enumerate() {
            let mut before = None;
            for entry in 0..self.entries {
                let at = 2 * (r / PANEL * self.entries + entry);
                let index = usize::from(u16::from_le_bytes([lists[at], lists[at + 1]]));
                if before.is_some_and(|before| index <= before) || index >= self.k / self.block {
                    break;
                }
                before = Some(index);
                for i in 0..self.block {
                    out[index * self.block + i] = values[r * width + entry * self.block + i];
                }
            }
        }
        out
    }

    fn fill_part(&self, part: &Part, out: &mut [f32]) {
        for (panel, rows, lane) in panels_of(part) {
            let lanes = lane..lane + rows.len();
            clear(lanes.clone(), out);
            let mut chunk = blank::<{ CHUNK * PANEL }>();
            self.chunks(panel, &part.cols, &mut |cols, targets| {
                let chunk = &mut chunk[..cols.len() * PANEL];
                self.values.fill_part(&Part { rows: rows.clone(), cols, lane }, chunk);
                for (values, col) in chunk.chunks_exact(PANEL).zip(targets) {
                    if *col != NOWHERE {
                        let at = (col - part.cols.start) * PANEL;
                        out[at..at + PANEL][lanes.clone()].copy_from_slice(&values[lanes.clone()]);
                    }
                }
            });
        }
    }

    fn borrow_blocks(&self) -> Option<KeptBlocks<'_>> {
        Some(KeptBlocks { kept: self.kept(), values: self.values.as_ref() })
    }

    fn code_form(&self) -> Option<CodeForm> {
        self.form
    }

    fn fill_codes(&self, panels: Range<usize>, out: CodesOut<'_>) {
        codes::fill(self, self.variant, panels, out);
    }

    fn codes_part(&self, part: &Part, at: usize, codes: &mut [i8]) {
        for (panel, rows, lane) in panels_of(part) {
            codes::clear(lane..lane + rows.len(), at..at + part.cols.len(), codes);
            let mut chunk = [0; CHUNK * PANEL];
            self.chunks(panel, &part.cols, &mut |cols, targets| {
                let chunk = &mut chunk[..cols.len().next_multiple_of(UNIT / PANEL) * PANEL];
                self.values.codes_part(&Part { rows: rows.clone(), cols, lane }, 0, chunk);
                for (value, col) in targets.iter().enumerate().filter(|(_, col)| **col != NOWHERE) {
                    let to = at + col - part.cols.start;
                    for lane in lane..lane + rows.len() {
                        codes[codes::place(to, lane)] = chunk[codes::place(value, lane)];
                    }
                }
            });
        }
    }

    fn scales_at(&self, rows: Range<usize>, _col: usize, scales: &mut [f32]) {
        self.values.scales_at(rows, 0, scales);
    }
}
