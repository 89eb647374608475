//! Each row keeps `keep` of every `of` consecutive columns: 2 of 4, and the like.
//!
//! A position is the column's place in its group, in as few bits as tell `of` places. The positions of a panel lie as its values do:
//! `[ceil(n / 16)][groups][keep]` units of 16 rows, row `i` of a unit at bits `i * bits` and up.

use super::super::{BLOCK, Bytes, CodesOut, codes};
use super::*;
use edge_kernels::cpu::planes::{UNIT, Variant, select};
use edge_kernels::cpu::spread::{self, MAX_OF, position_bits as bits};

/// Columns of values that are spread together.
const SPREAD: usize = 128;

struct KeptFew {
    n: usize,
    k: usize,
    keep: usize,
    of: usize,
    positions: Bytes,
    /// `[n, ceil(k / of) * keep]`
    values: Box<dyn Weights>,
    form: Option<CodeForm>,
    variant: &'static Variant,
    spread: &'static spread::Variant,
}

pub(super) fn construct(node: &mut Node<'_, '_>) -> Result<Box<dyn Weights>, WeightError> {
    node.only(&["form", "keep", "of"])?;
    let (n, k) = (node.n(), node.k());
    let of = node.need::<usize>("of", "2 to 16")?;
    if !(2..=MAX_OF).contains(&of) {
        return Err(node.param_error("of", "2 to 16"));
    }
    let expected = format!("1 to {}", of - 1);
    let keep = node.need::<usize>("keep", &expected)?;
    if !(1..of).contains(&keep) {
        return Err(node.param_error("keep", expected));
    }
    node.counts(1, 1)?;
    let width = k.div_ceil(of) * keep;
    // 16 positions are twice as many bytes as one has bits.
    let positions = node.bytes(0, n.div_ceil(PANEL) * width * 2 * bits(of))?;
    let values = node.operand(0, Some((n, width)), node.take())?;
    let form = form_of(values.as_ref(), k);
    let (variant, spread) = (select(node.isa()), spread::select(node.isa()));
    Ok(Box::new(KeptFew { n, k, keep, of, positions, values, form, variant, spread }))
}

/// Takes columns of values, the columns that they are spread over, and positions.
type Spreads<'a> = dyn FnMut(Range<usize>, Range<usize>, Few<'_>) + 'a;

impl KeptFew {
    /// The positions of column `value` of the values of a panel, 16 of so many bits.
    fn unit(&self, panel: usize, value: usize) -> u64 {
        let len = 2 * bits(self.of);
        let at = (panel * self.k.div_ceil(self.of) * self.keep + value) * len;
        let mut unit = [0; 8];
        unit[..len].copy_from_slice(&self.positions.as_slice()[at..at + len]);
        u64::from_le_bytes(unit)
    }

    /// Shows columns of values of a panel and the columns that they are spread over, from a group's first on: some at a time, both starting
    /// at multiples of 8 when the columns do: `(values, columns, positions)`.
    fn spreads(&self, panel: usize, cols: &Range<usize>, f: &mut Spreads<'_>) {
        let (keep, of, len) = (self.keep, self.of, 2 * bits(self.of));
        let (all, step) = (self.k.div_ceil(of), SPREAD / keep / 8 * 8);
        for group in (cols.start / of..cols.end.div_ceil(of)).step_by(step) {
            let groups = group..(group + step).min(cols.end.div_ceil(of));
            let from = (panel * all + groups.start) * keep * len;
            let units = &self.positions.as_slice()[from..from + groups.len() * keep * len];
            let values = groups.start * keep..groups.end * keep;
            f(values, groups.start * of..cols.end.min(groups.end * of), Few { units, keep, of });
        }
    }

    /// The columns that the values in column `value` of a panel belong to, those of `lanes`: [`NOWHERE`] where a position is none of K
    /// or not greater than all before it in its group.
    fn columns(&self, panel: usize, value: usize, lanes: &Range<usize>) -> [usize; PANEL] {
        let (bits, group) = (bits(self.of), value / self.keep * self.of);
        let place = |unit: u64, lane: usize| (unit >> (lane * bits)) as usize & ((1 << bits) - 1);
        let unit = self.unit(panel, value);
        let before = value / self.keep * self.keep..value;
        let mut columns = [NOWHERE; PANEL];
        for lane in lanes.clone() {
            let own = place(unit, lane);
            let ascends = before.clone().all(|before| place(self.unit(panel, before), lane) < own);
            if ascends && own < self.of && group + own < self.k {
                columns[lane] = group + own;
            }
        }
        columns
    }

    /// Shows the columns of values that groups of `cols` have, some at a time, the first of them a multiple of 8.
    fn chunks(&self, cols: &Range<usize>) -> impl Iterator<Item = Range<usize>> + use<> {
        let first = cols.start / self.of * self.keep;
        let end = cols.end.div_ceil(self.of) * self.keep;
        (first / CHUNK..end.div_ceil(CHUNK)).map(move |i| i * CHUNK..end.min((i + 1) * CHUNK))
    }
}

impl Weights for KeptFew {
    fn n(&self) -> usize {
        self.n
    }

    fn k(&self) -> usize {
        self.k
    }

    fn materialize(&self) -> Vec<f32> {
        let (values, bits) = (self.values.materialize(), bits(self.of));
        let (groups, bytes) = (self.k.div_ceil(self.of), self.positions.as_slice());
        let mut out = vec![0.0; self.n * self.k];
        for (i, value) in values.into_iter().enumerate() {
            let (r, group, slot) = (i / (groups * self.keep), i / self.keep % groups, i % self.keep);
            let position = |slot: usize| {
                let unit = (r / PANEL * groups + group) * self.keep + slot;
                let bit = |b: usize| {
                    let at = unit * PANEL * bits + r % PANEL * bits + b;
                    usize::from(bytes[at / 8] >> (at % 8) & 1) << b
                };
                (0..bits).map(bit).sum::<usize>()
            };
            let (own, col) = (position(slot), group * self.of + position(slot));
            let ascends = (0..slot).all(|before| position(before) < own);
            if ascends && own < self.of && col < self.k {
                out[r * self.k + col] = value;
            }
        }
        out
    }

    fn fill_part(&self, part: &Part, out: &mut [f32]) {
        if is_whole(part) && part.cols.start.is_multiple_of(self.of) {
            let mut chunk = blank::<{ SPREAD * PANEL }>();
            return self.spreads(part.rows.start / PANEL, &part.cols, &mut |values, cols, few| {
                let chunk = &mut chunk[..values.len() * PANEL];
                self.values.fill_part(&Part { cols: values, ..part.clone() }, chunk);
                let out = &mut out[(cols.start - part.cols.start) * PANEL..][..cols.len() * PANEL];
                self.spread.few(&few, chunk, out);
            });
        }
        for (panel, rows, lane) in panels_of(part) {
            let (lanes, from) = (lane..lane + rows.len(), rows.start % PANEL);
            clear(lanes.clone(), out);
            let mut chunk = blank::<{ CHUNK * PANEL }>();
            for cols in self.chunks(&part.cols) {
                let chunk = &mut chunk[..cols.len() * PANEL];
                self.values.fill_part(&Part { rows: rows.clone(), cols: cols.clone(), lane }, chunk);
                for (value, chunk) in cols.zip(chunk.chunks_exact(PANEL)) {
                    let columns = self.columns(panel, value, &(from..from + rows.len()));
                    for (col, lane) in columns[from..].iter().zip(lanes.clone()) {
                        if part.cols.contains(col) {
                            out[(col - part.cols.start) * PANEL + lane] = chunk[lane];
                        }
                    }
                }
            }
        }
    }

    fn borrow_few(&self, panels: Range<usize>) -> Option<FewPanels<'_>> {
        let each = self.k.div_ceil(self.of) * self.keep * 2 * bits(self.of);
        let units = &self.positions.as_slice()[panels.start * each..panels.end * each];
        let planes = self.values.borrow_planes(panels).filter(|planes| planes.odd)?;
        Some(FewPanels { few: Few { units, keep: self.keep, of: self.of }, planes })
    }

    fn code_form(&self) -> Option<CodeForm> {
        self.form
    }

    fn fill_codes(&self, panels: Range<usize>, out: CodesOut<'_>) {
        codes::fill(self, self.variant, panels, out);
    }

    fn codes_part(&self, part: &Part, at: usize, codes: &mut [i8]) {
        if is_whole(part) && at == 0 && part.cols == (0..self.k) {
            let mut chunk = [0; SPREAD * PANEL];
            // At the end of the panel, where no columns are put before their values are taken; else some at a time, which asks for what
            // all of them share each time.
            let (width, end) = (self.k.div_ceil(self.of) * self.keep, self.k.next_multiple_of(BLOCK));
            let together = self.k.is_multiple_of(self.of) && width.is_multiple_of(BLOCK);
            let from = end - width;
            if together {
                let all = Part { cols: 0..width, ..part.clone() };
                self.values.codes_part(&all, 0, &mut codes[from * PANEL..end * PANEL]);
            }
            return self.spreads(part.rows.start / PANEL, &part.cols, &mut |values, cols, few| {
                let chunk = &mut chunk[..values.len().next_multiple_of(BLOCK) * PANEL];
                if together {
                    let first = (from + values.start) * PANEL;
                    chunk.copy_from_slice(&codes[first..first + chunk.len()]);
                } else {
                    self.values.codes_part(&Part { cols: values, ..part.clone() }, 0, chunk);
                }
                let len = cols.len().next_multiple_of(BLOCK) * PANEL;
                let out = &mut codes[cols.start * PANEL..][..len];
                self.spread.few_codes(&few, chunk, cols.len(), out);
            });
        }
        for (panel, rows, lane) in panels_of(part) {
            let (lanes, from) = (lane..lane + rows.len(), rows.start % PANEL);
            codes::clear(lanes.clone(), at..at + part.cols.len(), codes);
            let mut chunk = [0; CHUNK * PANEL];
            for cols in self.chunks(&part.cols) {
                let chunk = &mut chunk[..cols.len().next_multiple_of(UNIT / PANEL) * PANEL];
                let first = cols.start;
                self.values.codes_part(&Part { rows: rows.clone(), cols: cols.clone(), lane }, 0, chunk);
                for value in cols {
                    let columns = self.columns(panel, value, &(from..from + rows.len()));
                    for (col, lane) in columns[from..].iter().zip(lanes.clone()) {
                        if part.cols.contains(col) {
                            let to = at + col - part.cols.start;
                            codes[codes::place(to, lane)] = chunk[codes::place(value - first, lane)];
                        }
                    }
                }
            }
        }
    }

    fn scales_at(&self, rows: Range<usize>, _col: usize, scales: &mut [f32]) {
        self.values.scales_at(rows, 0, scales);
    }
}
