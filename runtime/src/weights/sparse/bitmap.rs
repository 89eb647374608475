//! A bit an element: the masks of a panel's columns, `[ceil(n / 16)][k]` of 16 bits, lowest bit first row.
//!
//! Values are counted in the order of set bits, panel by panel and column by column: value `i` is element `[i % 16, i / 16]` of a matrix of
//! 16 rows, which lies as the values follow each other. A count for each panel says which is its first. With a scale for each row the
//! values are parts of it, at most 1: then those that have codes of their own are given out as codes of 8 bits, rounded.

use super::super::{BLOCK, Bytes, CodesOut, codes};
use super::*;
use edge_kernels::cpu::gemv_bits::Columns;
use edge_kernels::cpu::planes::{UNIT, Variant, select};
use edge_kernels::cpu::spread;

/// Largest code.
const TOP: f32 = 127.0;

/// A matrix with a bit an element.
pub struct Bitmap {
    n: usize,
    k: usize,
    /// Number of values.
    count: usize,
    /// `[ceil(n / 16)][k]` u16
    masks: Bytes,
    /// `[ceil(n / 16)]` u32
    starts: Bytes,
    /// `[n]` f32
    scales: Option<Bytes>,
    /// `[16, ceil(count / 16)]`
    values: Box<dyn Weights>,
    variant: &'static Variant,
    spread: &'static spread::Variant,
}

pub(super) fn construct(node: &mut Node<'_, '_>) -> Result<Box<dyn Weights>, WeightError> {
    node.only(&["form", "count", "scaled"])?;
    let (n, k) = (node.n(), node.k());
    let most = n.saturating_mul(k).min(u32::MAX as usize);
    let expected = format!("1 to {most} values");
    let count = node.need::<usize>("count", &expected)?;
    if !(1..=most).contains(&count) {
        return Err(node.param_error("count", expected));
    }
    let scaled = node.param("scaled", "true or false")?.unwrap_or(false);
    node.counts(1, 2 + usize::from(scaled))?;
    let panels = n.div_ceil(PANEL);
    let masks = node.bytes(0, panels * k * size_of::<u16>())?;
    let starts = node.bytes(1, panels * size_of::<u32>())?;
    let scales = match scaled {
        true => Some(node.bytes(2, n * size_of::<f32>())?),
        false => None,
    };
    let values = node.operand(0, Some((PANEL, count.div_ceil(PANEL))), node.take())?;
    let (variant, spread) = (select(node.isa()), spread::select(node.isa()));
    Ok(Box::new(Bitmap { n, k, count, masks, starts, scales, values, variant, spread }))
}

/// Values, some at a time.
struct Values<'a> {
    weights: &'a dyn Weights,
    count: usize,
    /// The first value of `chunk`.
    first: usize,
    chunk: [f32; CHUNK * PANEL],
}

impl Values<'_> {
    /// Value `i` of `count`.
    fn at(&mut self, i: usize) -> f32 {
        let first = i / (CHUNK * PANEL) * (CHUNK * PANEL);
        if first != self.first {
            self.first = first;
            let cols = first / PANEL..self.count.div_ceil(PANEL).min(first / PANEL + CHUNK);
            let chunk = &mut self.chunk[..cols.len() * PANEL];
            self.weights.fill_part(&Part { rows: 0..PANEL, cols, lane: 0 }, chunk);
        }
        self.chunk[i - first]
    }
}

/// Takes the first of some columns, their masks, and values from theirs on.
type Runs<'a> = dyn FnMut(usize, &[[u8; 2]], &[f32]) + 'a;

impl Bitmap {
    fn start(&self, panel: usize) -> usize {
        self.starts.as_slice().as_chunks().0.get(panel).map_or(0, |bytes| u32::from_le_bytes(*bytes)) as usize
    }

    /// The scale of a row, 1 where there is none.
    fn scale(&self, row: usize) -> f32 {
        match &self.scales {
            Some(bytes) => {
                bytes.as_slice().as_chunks().0.get(row).map_or(0.0, |bytes| f32::from_le_bytes(*bytes))
            }
            None => 1.0,
        }
    }

    /// The masks of a panel's columns `cols`, and which value is their first.
    fn masks(&self, panel: usize, cols: &Range<usize>) -> (&[[u8; 2]], usize) {
        let masks = &self.masks.as_slice().as_chunks::<2>().0[panel * self.k..][..cols.end];
        let (before, masks) = masks.split_at(cols.start);
        (masks, self.start(panel).saturating_add(spread::count(before)))
    }

    /// Shows the columns of a panel with their values, 8 at a time or a multiple of that but for the last: `(first, masks, values)`.
    /// Returns where it stops because values end.
    fn runs(&self, panel: usize, cols: &Range<usize>, f: &mut Runs<'_>) -> usize {
        let (masks, mut next) = self.masks(panel, cols);
        let (width, mut done) = (self.count.div_ceil(PANEL), 0);
        let mut chunk = blank::<{ CHUNK * PANEL }>();
        while done < masks.len() && next < self.count {
            // From a multiple of 8 columns of values on.
            let first = next / UNIT * (UNIT / PANEL);
            let own = first..width.min(first + CHUNK);
            let end = self.count.min(own.end * PANEL);
            let chunk = &mut chunk[..own.len() * PANEL];
            self.values.fill_part(&Part { rows: 0..PANEL, cols: own, lane: 0 }, chunk);
            let (taken, values) = spread::fitting(&masks[done..], end - next);
            if taken == 0 {
                break;
            }
            f(cols.start + done, &masks[done..done + taken], &chunk[next - first * PANEL..]);
            (done, next) = (done + taken, next + values);
        }
        cols.start + done
    }

    /// Shows all columns of a panel and their values, a multiple of 8 at a time but for the last.
    pub(crate) fn columns(&self, panel: usize, f: &mut dyn FnMut(Columns<'_>)) {
        let all = 0..self.k;
        let done = self.runs(panel, &all, &mut |first, masks, values| f(Columns { first, masks, values }));
        let (masks, mut next) = self.masks(panel, &(done..self.k));
        if next >= self.count || masks.is_empty() {
            return;
        }
        // The last values: bits behind them stand for nothing.
        let mut own = [[0; 2]; BLOCK];
        let own = &mut own[..masks.len().min(BLOCK)];
        let first = next / UNIT * (UNIT / PANEL);
        let mut chunk = blank::<{ CHUNK * PANEL }>();
        let cols = first..self.count.div_ceil(PANEL).min(first + CHUNK);
        let chunk = &mut chunk[..cols.len() * PANEL];
        self.values.fill_part(&Part { rows: 0..PANEL, cols, lane: 0 }, chunk);
        let values = &chunk[next - first * PANEL..];
        for (own, mask) in own.iter_mut().zip(masks) {
            let mut rest = u16::from_le_bytes(*mask);
            let mut taken = rest;
            while rest != 0 {
                if next >= self.count {
                    taken &= !(1 << rest.trailing_zeros());
                }
                (rest, next) = (rest & (rest - 1), next + 1);
            }
            *own = taken.to_le_bytes();
        }
        f(Columns { first: done, masks: own, values });
    }

    /// The scales of a panel's rows, or those of their codes.
    pub(crate) fn scales(&self, panel: usize, of_codes: bool) -> [f32; PANEL] {
        let mut scales = [0.0; PANEL];
        for (scale, row) in scales.iter_mut().zip(panel * PANEL..self.n) {
            *scale = if of_codes { self.scale(row) / TOP } else { self.scale(row) };
        }
        scales
    }

    /// Shows the values of some rows of a panel in `cols`: `(row, column, value)`, the value without the row's scale.
    fn each(
        &self,
        panel: usize,
        rows: &Range<usize>,
        cols: &Range<usize>,
        f: &mut dyn FnMut(usize, usize, f32),
    ) {
        let (masks, mut next) = self.masks(panel, cols);
        let mut values = Values { weights: &*self.values, count: self.count, first: NOWHERE, chunk: blank() };
        for (col, mask) in cols.clone().zip(masks) {
            let mut mask = u16::from_le_bytes(*mask);
            while mask != 0 {
                let row = panel * PANEL + mask.trailing_zeros() as usize;
                if rows.contains(&row) && next < self.count {
                    f(row, col, values.at(next));
                }
                mask &= mask - 1;
                next = next.saturating_add(1);
            }
        }
    }
}

impl Weights for Bitmap {
    fn n(&self) -> usize {
        self.n
    }

    fn k(&self) -> usize {
        self.k
    }

    fn materialize(&self) -> Vec<f32> {
        let (values, masks) = (self.values.materialize(), self.masks.as_slice());
        let width = self.count.div_ceil(PANEL);
        let mut out = vec![0.0; self.n * self.k];
        for panel in 0..self.n.div_ceil(PANEL) {
            let mut next = self.start(panel);
            for i in 0..self.k * PANEL {
                let (col, row) = (i / PANEL, panel * PANEL + i % PANEL);
                if masks[2 * (panel * self.k + col) + i % PANEL / 8] >> (i % 8) & 1 == 0 {
                    continue;
                }
                if row < self.n && next < self.count {
                    let value = values[next % PANEL * width + next / PANEL];
                    out[row * self.k + col] =
                        if self.scales.is_some() { self.scale(row) * value } else { value };
                }
                next += 1;
            }
        }
        out
    }

    fn fill_part(&self, part: &Part, out: &mut [f32]) {
        for (panel, rows, lane) in panels_of(part) {
            let mut scales = [1.0; PANEL];
            scales.iter_mut().zip(rows.clone()).for_each(|(scale, row)| *scale = self.scale(row));
            let mut cols = part.cols.clone();
            if is_whole(part) {
                cols.start = self.runs(panel, &part.cols, &mut |first, masks, values| {
                    let out = &mut out[(first - part.cols.start) * PANEL..][..masks.len() * PANEL];
                    self.spread.bits(masks, values, &scales, out);
                });
            }
            let rest = (cols.start - part.cols.start) * PANEL;
            clear(lane..lane + rows.len(), &mut out[rest..]);
            self.each(panel, &rows, &cols, &mut |row, col, value| {
                let row = row - rows.start;
                // Times 1 where there are none: the value as it is.
                out[(col - part.cols.start) * PANEL + lane + row] = scales[row] * value;
            });
        }
    }

    fn borrow_bits(&self) -> Option<&Bitmap> {
        Some(self)
    }

    fn code_form(&self) -> Option<CodeForm> {
        let coded = self.scales.is_some() && self.values.code_form().is_some() && self.k <= MAX_CODE_GROUP;
        coded.then_some(CodeForm { group: self.k, half_offset: false, bits: 8 })
    }

    fn fill_codes(&self, panels: Range<usize>, out: CodesOut<'_>) {
        codes::fill(self, self.variant, panels, out);
    }

    fn codes_part(&self, part: &Part, at: usize, codes: &mut [i8]) {
        for (panel, rows, lane) in panels_of(part) {
            codes::clear(lane..lane + rows.len(), at..at + part.cols.len(), codes);
            let mut cols = part.cols.clone();
            if is_whole(part) && at == 0 && cols == (0..self.k) {
                cols.start = self.runs(panel, &part.cols, &mut |first, masks, values| {
                    let len = masks.len().next_multiple_of(BLOCK) * PANEL;
                    self.spread.bits_codes(masks, values, &mut codes[first * PANEL..][..len]);
                });
            }
            self.each(panel, &rows, &cols, &mut |row, col, value| {
                let to = codes::place(at + col - part.cols.start, lane + row - rows.start);
                // What is no number becomes 0.
                codes[to] = (value * TOP).round_ties_even().clamp(-TOP, TOP) as i8;
            });
        }
    }

    fn scales_at(&self, rows: Range<usize>, _col: usize, scales: &mut [f32]) {
        scales.iter_mut().zip(rows).for_each(|(scale, row)| *scale = self.scale(row) / TOP);
    }
}
