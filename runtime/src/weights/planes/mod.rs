//! `planes`: grouped integers, most significant bits first; a longer prefix of the planes is a finer value.
//!
//! A code `p` of `b` bits stands for `s (2p + 1 - 2^b) / 2^b`, `s` being the magnitude of its group. Taking fewer
//! planes shifts low bits out of `p`; the value stays within half a step of the coarser grid. No code is zero.

mod encode;
mod layout;

pub use encode::{EncodeError, EncodedPlanes, Spec, encode};
pub use layout::Layout;

use super::node::Node;
use super::window::common;
use super::{
    BLOCK, Bytes, CHUNK, CodeForm, CodesOut, Float, MAX_CODE_GROUP, PANEL, Part, WeightError, Weights, codes,
};
use edge_kernels::cpu::gemv_planes::{MAX_PLANES, PlanePanels, Split, StoredScales};
use edge_kernels::cpu::planes::{Plane, UNIT, Variant, join, select};
use std::ops::Range;

/// Most bits of a code.
pub const MAX_BITS: u32 = 16;

/// Bits of the planes unless a pack says otherwise.
pub const DEFAULT_BITS: [u32; 4] = [2, 2, 4, 8];

/// Bits of the planes that [`encode`] makes unless told otherwise: values of 2, 4, 6, 8 and 12 bits are prefixes of those of 16.
pub const NESTED_BITS: [u32; 6] = [2, 2, 2, 2, 4, 4];

/// Most bits of the codes of single columns that integer kernels take.
const COLUMN_BITS: u32 = 12;
/// Most of them that are added up: `4095 * 255 * 2048` still fits i32.
const COLUMN_TAPS: usize = 2048;

/// Groups whose scales are converted at a time.
const GROUPS: usize = 8;

/// `2^-b`, exact on every machine.
fn step(bits: u32) -> f32 {
    1.0 / (1u32 << bits) as f32
}

struct Planes {
    n: usize,
    k: usize,
    layout: Layout,
    /// Columns of one scale; k when a row has one group.
    group: usize,
    scale: Float,
    scales: Bytes,
    /// Bits and bytes of the planes that are taken.
    planes: Vec<(u32, Bytes)>,
    /// Bits of a code.
    bits: u32,
    gain: f32,
    variant: &'static Variant,
}

pub(super) fn construct(node: &mut Node<'_, '_>) -> Result<Box<dyn Weights>, WeightError> {
    node.only(&["group", "bits", "layout", "scale", "gains"])?;
    let (n, k) = (node.n(), node.k());
    let group = match node.need::<usize>("group", "a number")? {
        0 => k,
        group if group.is_multiple_of(BLOCK) => group.min(k),
        _ => return Err(node.param_error("group", "a multiple of 8, or 0 for whole rows")),
    };
    let widths = "planes of 1, 2, 4 or 8 bits, at most 16 bits together";
    let bits: Vec<u32> = node.param("bits", widths)?.unwrap_or(DEFAULT_BITS.to_vec());
    let valid = bits.iter().all(|bits| matches!(bits, 1 | 2 | 4 | 8));
    if bits.is_empty() || bits.len() > MAX_BITS as usize || !valid || bits.iter().sum::<u32>() > MAX_BITS {
        return Err(node.param_error("bits", widths));
    }
    let layout = node.param("layout", "panel, panel1 or rows")?.unwrap_or(Layout::Panel);
    let scale = node.param("scale", "f16 or f32")?.unwrap_or(Float::F16);
    if scale == Float::Bf16 {
        return Err(node.param_error("scale", "f16 or f32"));
    }
    let factors = format!("{} finite numbers, one a plane", bits.len());
    let gains: Vec<f32> = node.param("gains", &factors)?.unwrap_or(vec![1.0; bits.len()]);
    if gains.len() != bits.len() || !gains.iter().all(|gain| gain.is_finite()) {
        return Err(node.param_error("gains", factors));
    }
    let taken = match node.take() as usize {
        0 => bits.len(),
        take if take <= bits.len() => take,
        take => return Err(node.shape_error("take", take, format!("at most {} planes", bits.len()))),
    };

    node.counts(0, 1 + bits.len())?;
    let units = layout.units(n, k);
    let plane_len = |bits: u32| units * (layout.unit() * bits as usize / 8);
    for (i, &bits) in bits.iter().enumerate() {
        node.check_len(1 + i, plane_len(bits))?;
    }
    let scales = node.bytes(0, layout.scales(n, k.div_ceil(group)) * scale.size())?;
    let mut planes = Vec::with_capacity(taken);
    for (i, &bits) in bits[..taken].iter().enumerate() {
        planes.push((bits, node.bytes(1 + i, plane_len(bits))?));
    }
    let (bits, gain) = (bits[..taken].iter().sum(), gains[taken - 1]);
    let variant = select(node.isa());
    Ok(Box::new(Planes { n, k, layout, group, scale, scales, planes, bits, gain, variant }))
}

impl Planes {
    fn groups(&self) -> usize {
        self.k.div_ceil(self.group)
    }

    /// The bytes of some units of the planes taken; as many entries as planes are used.
    fn planes(&self, units: Range<usize>) -> [Plane<'_>; MAX_BITS as usize] {
        let mut planes = [Plane { bits: 1, bytes: &[] }; MAX_BITS as usize];
        for (plane, (bits, bytes)) in planes.iter_mut().zip(&self.planes) {
            let unit = self.layout.unit() * *bits as usize / 8;
            let bytes = &bytes.as_slice()[units.start * unit..units.end * unit];
            *plane = Plane { bits: *bits, bytes };
        }
        planes
    }

    /// Units of panel `panel` that hold columns `cols`, in the panel layout.
    fn panel_units(&self, panel: usize, cols: &Range<usize>) -> Range<usize> {
        let first = panel * self.k.div_ceil(BLOCK);
        first + cols.start / BLOCK..first + cols.end.div_ceil(BLOCK)
    }

    /// Steps from stored scales to reals: `s * gain / 2^b`, in that order.
    fn finish_scales(&self, scales: &mut [f32]) {
        let step = step(self.bits);
        scales.iter_mut().for_each(|scale| *scale = *scale * self.gain * step);
    }

    /// Stored scales from position `first` on, as steps.
    fn load_scales(&self, first: usize, out: &mut [f32]) {
        self.scale.decode(self.scales.as_slice(), first, out);
        self.finish_scales(out);
    }

    /// Visits the codes of a rectangle unit by unit: `(row, column, code)`.
    fn visit(&self, rows: &Range<usize>, cols: &Range<usize>, mut each: impl FnMut(usize, usize, u16)) {
        let (unit_rows, unit_cols) = (self.layout.unit_rows(), self.layout.unit_cols());
        let across = self.k.div_ceil(unit_cols);
        let planes = self.planes(0..self.layout.units(self.n, self.k));
        let mut codes = [0; UNIT];
        let codes = &mut codes[..self.layout.unit()];
        for ur in rows.start / unit_rows..rows.end.div_ceil(unit_rows) {
            let first_row = ur * unit_rows;
            let rows = common(rows, &(first_row..first_row + unit_rows));
            for uc in cols.start / unit_cols..cols.end.div_ceil(unit_cols) {
                let first_col = uc * unit_cols;
                join(&planes[..self.planes.len()], ur * across + uc, codes);
                for r in rows.clone() {
                    let codes = &codes[(r - first_row) * unit_cols..][..unit_cols];
                    for c in common(cols, &(first_col..first_col + unit_cols)) {
                        each(r, c, codes[c - first_col]);
                    }
                }
            }
        }
    }

    /// `2p + 1 - 2^b`
    fn odd(&self, code: u16) -> f32 {
        (2 * i32::from(code) + 1 - (1 << self.bits)) as f32
    }

    /// Columns from `cols.start` on that one kernel call decodes, at most `limit` (a multiple of 8): some whole
    /// groups, or a part of one.
    fn run(&self, cols: &Range<usize>, limit: usize) -> usize {
        let into = cols.start % self.group;
        let fit = (limit / self.group).min(GROUPS);
        let run = if into == 0 && fit > 1 { fit * self.group } else { (self.group - into).min(limit) };
        run.min(cols.len())
    }

    /// Decodes columns of a whole panel that [`Planes::run`] allows, from a multiple of 8 on. `out`: `[cols][16]`.
    fn join_run(&self, panel: usize, cols: &Range<usize>, out: &mut [f32]) {
        let (first, last) = (cols.start / self.group, (cols.end - 1) / self.group);
        let mut scales = [0.0; GROUPS * PANEL];
        let scales = &mut scales[..(last + 1 - first) * PANEL];
        self.load_scales(self.layout.scale_at(panel * PANEL, first, self.groups()), scales);
        let group = if first == last { cols.len() } else { self.group };
        let planes = self.planes(self.panel_units(panel, cols));
        self.variant.join_f32(&planes[..self.planes.len()], scales, group, out);
    }

    /// [`Weights::fill_part`] in the panel layout, columns from a multiple of 8 on.
    fn fill_panels(&self, part: &Part, out: &mut [f32]) {
        for panel in part.rows.start / PANEL..part.rows.end.div_ceil(PANEL) {
            let rows = common(&part.rows, &(panel * PANEL..(panel + 1) * PANEL));
            let (from, to) = (rows.start % PANEL, part.lane + rows.start - part.rows.start);
            let whole = rows.len() == PANEL;
            let mut cols = part.cols.clone();
            while !cols.is_empty() {
                let run = self.run(&cols, if whole { usize::MAX - BLOCK + 1 } else { CHUNK });
                let out = &mut out[(cols.start - part.cols.start) * PANEL..][..run * PANEL];
                let run = cols.start..cols.start + run;
                if whole {
                    self.join_run(panel, &run, out);
                } else {
                    let mut chunk = [0.0; CHUNK * PANEL];
                    let chunk = &mut chunk[..out.len()];
                    self.join_run(panel, &run, chunk);
                    for (out, chunk) in out.chunks_exact_mut(PANEL).zip(chunk.chunks_exact(PANEL)) {
                        out[to..to + rows.len()].copy_from_slice(&chunk[from..from + rows.len()]);
                    }
                }
                cols.start = run.end;
            }
        }
    }

    /// [`Weights::fill_part`] in the layout of single columns.
    fn fill_columns(&self, part: &Part, out: &mut [f32]) {
        let mut cols = part.cols.clone();
        while !cols.is_empty() {
            let run =
                cols.start..cols.end.min(cols.start + CHUNK).min((cols.start / self.group + 1) * self.group);
            let mut scales = [0.0; PANEL];
            let mut columns = [0.0; CHUNK * PANEL];
            let columns = &mut columns[..run.len() * PANEL];
            let (mut rows, mut lane) = (part.rows.clone(), part.lane);
            while !rows.is_empty() {
                let (panel, from) = (rows.start / PANEL, rows.start % PANEL);
                let count = rows.len().min(PANEL - from);
                self.load_scales(
                    self.layout.scale_at(panel * PANEL, run.start / self.group, self.groups()),
                    &mut scales,
                );
                let planes = self.planes(panel * self.k + run.start..panel * self.k + run.end);
                let planes = &planes[..self.planes.len()];
                let out = &mut out[(run.start - part.cols.start) * PANEL..][..run.len() * PANEL];
                if count == PANEL {
                    self.variant.join_columns_f32(planes, &scales, run.len(), out);
                } else {
                    self.variant.join_columns_f32(planes, &scales, run.len(), columns);
                    for (out, column) in out.chunks_exact_mut(PANEL).zip(columns.chunks_exact(PANEL)) {
                        out[lane..lane + count].copy_from_slice(&column[from..from + count]);
                    }
                }
                rows.start += count;
                lane += count;
            }
            cols.start = run.end;
        }
    }

    /// [`Weights::codes_part`] in the panel layout, columns from a multiple of 8 on.
    fn join_blocks(&self, part: &Part, at: usize, codes: &mut [i8]) {
        let used = self.planes.len();
        let codes = &mut codes[at / BLOCK * UNIT..][..part.cols.len().div_ceil(BLOCK) * UNIT];
        // Of the last unit, columns past the part's end are not its own.
        let rest = part.cols.len() % BLOCK;
        for panel in part.rows.start / PANEL..part.rows.end.div_ceil(PANEL) {
            let rows = common(&part.rows, &(panel * PANEL..(panel + 1) * PANEL));
            let (from, to) = (rows.start % PANEL, part.lane + rows.start - part.rows.start);
            let units = self.panel_units(panel, &part.cols);
            let whole = if rows.len() == PANEL { part.cols.len() / BLOCK } else { 0 };
            let (at_once, one_by_one) = codes.split_at_mut(whole * UNIT);
            self.variant.join_i8(&self.planes(units.start..units.start + whole)[..used], at_once);
            let mut joined = [0; UNIT];
            for (unit, codes) in (units.start + whole..units.end).zip(one_by_one.chunks_exact_mut(UNIT)) {
                self.variant.join_i8(&self.planes(unit..unit + 1)[..used], &mut joined);
                let joined = &joined[from * BLOCK..(from + rows.len()) * BLOCK];
                let codes = &mut codes[to * BLOCK..(to + rows.len()) * BLOCK];
                if rest == 0 || unit + 1 < units.end {
                    codes.copy_from_slice(joined);
                    continue;
                }
                keep_past(rest, joined, codes);
            }
        }
    }
}

/// Copies the first `rest` of every 8 codes.
fn keep_past(rest: usize, from: &[i8], to: &mut [i8]) {
    let own = (1u64 << (8 * rest)) - 1;
    let (from, to): (&[[u8; BLOCK]], &mut [[u8; BLOCK]]) =
        (bytemuck::cast_slice(from), bytemuck::cast_slice_mut(to));
    for (to, from) in to.iter_mut().zip(from) {
        *to = (u64::from_le_bytes(*to) & !own | u64::from_le_bytes(*from) & own).to_le_bytes();
    }
}

impl Weights for Planes {
    fn n(&self) -> usize {
        self.n
    }

    fn k(&self) -> usize {
        self.k
    }

    fn materialize(&self) -> Vec<f32> {
        let (rows, cols) = (self.layout.unit_rows(), self.layout.unit_cols());
        let mut out = vec![0.0; self.n * self.k];
        for (i, out) in out.iter_mut().enumerate() {
            let (r, c) = (i / self.k, i % self.k);
            let unit = r / rows * self.k.div_ceil(cols) + c / cols;
            let at = r % rows * cols + c % cols;
            let mut code = 0u32;
            for (bits, bytes) in &self.planes {
                let (bits, len) = (*bits as usize, self.layout.unit() * *bits as usize / 8);
                let byte = u32::from(bytes.as_slice()[unit * len + at % len]);
                code = (code << bits) | ((byte >> (at / len * bits)) & ((1 << bits) - 1));
            }
            let mut scale = [0.0];
            self.load_scales(self.layout.scale_at(r, c / self.group, self.groups()), &mut scale);
            *out = (2 * code as i32 + 1 - (1 << self.bits)) as f32 * scale[0];
        }
        out
    }

    fn fill_part(&self, part: &Part, out: &mut [f32]) {
        if self.layout == Layout::Panel && part.cols.start.is_multiple_of(BLOCK) {
            return self.fill_panels(part, out);
        }
        if self.layout == Layout::Panel1 {
            return self.fill_columns(part, out);
        }
        // Group by group: one scale a row.
        let mut scales = [0.0; PANEL];
        let mut cols = part.cols.clone();
        while !cols.is_empty() {
            let end = cols.end.min((cols.start / self.group + 1) * self.group);
            let scales = &mut scales[..part.rows.len()];
            self.scales_at(part.rows.clone(), cols.start, scales);
            self.visit(&part.rows, &(cols.start..end), |r, c, code| {
                let row = r - part.rows.start;
                out[(c - part.cols.start) * PANEL + part.lane + row] = self.odd(code) * scales[row];
            });
            cols.start = end;
        }
    }

    fn code_form(&self) -> Option<CodeForm> {
        let short = self.bits <= 8 && self.group <= MAX_CODE_GROUP;
        short.then_some(CodeForm { group: self.group, half_offset: true, bits: self.bits })
    }

    fn fill_codes(&self, panels: Range<usize>, out: CodesOut<'_>) {
        match self.layout {
            Layout::Rows => codes::fill(self, self.variant, panels, out),
            // A panel's scales lie together.
            Layout::Panel | Layout::Panel1 => {
                codes::fill_with(self, self.variant, panels, out, |_, rows, scales| {
                    self.load_scales(self.layout.scale_at(rows.start, 0, self.groups()), scales);
                });
            }
        }
    }

    fn borrow_planes(&self, panels: Range<usize>) -> Option<PlanePanels<'_>> {
        let split = Split::of(self.planes.iter().map(|(bits, _)| *bits))?;
        if self.layout != Layout::Panel || self.group > MAX_CODE_GROUP {
            return None;
        }
        let each = self.k.div_ceil(BLOCK);
        let list = self.planes(panels.start * each..panels.end * each);
        let mut planes: [&[u8]; MAX_PLANES] = [&[]; MAX_PLANES];
        for (to, plane) in planes.iter_mut().zip(&list[..self.planes.len()]) {
            *to = plane.bytes;
        }
        let size = self.groups() * PANEL * self.scale.size();
        let scales = &self.scales.as_slice()[panels.start * size..panels.end * size];
        let scales = match self.scale {
            Float::F16 => StoredScales::F16(scales),
            _ => StoredScales::F32(scales),
        };
        let (gain, step) = (self.gain, step(self.bits));
        Some(PlanePanels {
            split,
            planes,
            scales,
            gain,
            step,
            k: self.k,
            group: self.group,
            one_scale: false,
        })
    }

    fn has_codes_i16(&self) -> bool {
        let wide = self.layout == Layout::Panel1 && self.bits <= COLUMN_BITS && self.k <= COLUMN_TAPS;
        self.group >= self.k && (wide || self.code_form().is_some())
    }

    fn fill_codes_i16(&self, panels: Range<usize>, codes: &mut [i16], scales: &mut [f32]) {
        if self.layout != Layout::Panel1 || self.group < self.k {
            return codes::fill_i16(self, panels, codes, scales);
        }
        let panels = panels.zip(codes.chunks_exact_mut(self.k * PANEL)).zip(scales.chunks_exact_mut(PANEL));
        for ((panel, codes), scales) in panels {
            let rows = (self.n - panel * PANEL).min(PANEL);
            self.load_scales(self.layout.scale_at(panel * PANEL, 0, 1), scales);
            scales[rows..].fill(0.0);
            let planes = self.planes(panel * self.k..(panel + 1) * self.k);
            self.variant.join_columns_i16(&planes[..self.planes.len()], rows, codes);
        }
    }

    fn codes_part(&self, part: &Part, at: usize, codes: &mut [i8]) {
        if self.layout == Layout::Panel && part.cols.start.is_multiple_of(BLOCK) && at.is_multiple_of(BLOCK) {
            return self.join_blocks(part, at, codes);
        }
        let half = 1i32 << (self.bits - 1);
        self.visit(&part.rows, &part.cols, |r, c, code| {
            let (lane, k) = (part.lane + r - part.rows.start, at + c - part.cols.start);
            codes[k / BLOCK * UNIT + lane * BLOCK + k % BLOCK] = (i32::from(code) - half) as i8;
        });
    }

    fn scales_of(&self, rows: Range<usize>, first: usize, step: usize, scales: &mut [[f32; PANEL]]) {
        let together = self.layout != Layout::Rows && rows.start.is_multiple_of(PANEL) && step == self.group;
        if !together {
            return codes::scales_of(self, rows, first, step, scales);
        }
        let at = self.layout.scale_at(rows.start, first / self.group, self.groups());
        self.load_scales(at, scales.as_flattened_mut());
        scales.iter_mut().for_each(|scales| scales[rows.len()..].fill(0.0));
    }

    fn scales_at(&self, rows: Range<usize>, col: usize, scales: &mut [f32]) {
        let (g, unit) = (col / self.group, self.layout.unit_rows());
        let (mut rows, mut scales) = (rows, scales);
        while !rows.is_empty() {
            let run = rows.len().min(unit - rows.start % unit);
            let (now, later) = scales.split_at_mut(run);
            self.load_scales(self.layout.scale_at(rows.start, g, self.groups()), now);
            rows.start += run;
            scales = later;
        }
    }

    fn fill_row(&self, r: usize, out: &mut [f32]) {
        assert_eq!(out.len(), self.k, "elements of a row");
        for (g, out) in out.chunks_mut(self.group).enumerate() {
            let mut scale = [0.0];
            self.load_scales(self.layout.scale_at(r, g, self.groups()), &mut scale);
            let cols = g * self.group..g * self.group + out.len();
            self.visit(&(r..r + 1), &cols, |_, c, code| out[c - cols.start] = self.odd(code) * scale[0]);
        }
    }
}
