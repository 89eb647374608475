//! `planes`: grouped integers, most significant bits first; a longer prefix of the planes is a finer value.
//!
//! A code `p` of `b` bits stands for `s (2p + 1 - 2^b) / 2^b`, `s` being the magnitude of its group. Taking fewer
//! planes shifts low bits out of `p`; the value stays within half a step of the coarser grid. No code is zero.
//!
//! `whole` codes are integers that a model came with: all planes together stand for `s (2p - 2^b - 2z) / 2^b`, `z` being the zero
//! point of the group, so that every one is exact; fewer planes stand for what they do in others, less the zero point.

mod encode;
mod feedback;
mod layout;

pub use encode::{EncodeError, EncodedPlanes, Integers, Spec, encode, encode_by, encode_integers};
pub use feedback::Feedback;
pub use layout::Layout;

use super::node::Node;
use super::window::common;
use super::{
    BLOCK, Bytes, CHUNK, CodeForm, CodesOut, Float, MAX_CODE_GROUP, PANEL, Part, WeightError, Weights, blank,
    codes,
};
use edge_kernels::cpu::gemv_planes::{MAX_PLANES, PlanePanels, Split, StoredScales};
use edge_kernels::cpu::planes::{Numbers, Plane, UNIT, Variant, join, select};
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
    /// One scale, and one zero point, serve the whole matrix.
    alike: bool,
    /// Zero points, which lie as scales do.
    zeros: Option<Bytes>,
    /// Bits of the code that zero points belong to.
    zero_bits: u32,
    /// Codes of all planes stand for even numbers, and all are taken.
    even: bool,
    /// Bits and bytes of the planes that are taken.
    planes: Vec<(u32, Bytes)>,
    /// Bits of a code.
    bits: u32,
    gain: f32,
    variant: &'static Variant,
}

pub(super) fn construct(node: &mut Node<'_, '_>) -> Result<Box<dyn Weights>, WeightError> {
    node.only(&["group", "bits", "layout", "scale", "gains", "whole", "zeros", "alike"])?;
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
    let layout = node.param("layout", "panel, panel1, rows or tight")?.unwrap_or(Layout::Panel);
    if layout == Layout::Tight && bits != [8] {
        return Err(node.param_error("layout", "panel, panel1 or rows, for planes that are not of 8 bits"));
    }
    let scale = node.param("scale", "f16 or f32")?.unwrap_or(Float::F16);
    if scale == Float::Bf16 {
        return Err(node.param_error("scale", "f16 or f32"));
    }
    let factors = format!("{} finite numbers, one a plane", bits.len());
    let gains: Vec<f32> = node.param("gains", &factors)?.unwrap_or(vec![1.0; bits.len()]);
    if gains.len() != bits.len() || !gains.iter().all(|gain| gain.is_finite()) {
        return Err(node.param_error("gains", factors));
    }
    let mut flag = |name| node.param(name, "true or false").map(|is| is.unwrap_or(false));
    let (whole, with_zeros, alike): (bool, bool, bool) = (flag("whole")?, flag("zeros")?, flag("alike")?);
    let zero_bits = bits.iter().sum::<u32>();
    if with_zeros && !(whole && zero_bits <= 8) {
        return Err(node.param_error("zeros", "false, but for `whole` codes of at most 8 bits"));
    }
    if alike && group < k {
        return Err(node.param_error("alike", "false where rows have groups"));
    }
    let taken = match node.take() as usize {
        0 => bits.len(),
        take if take <= bits.len() => take,
        take => return Err(node.shape_error("take", take, format!("at most {} planes", bits.len()))),
    };

    let first = 1 + usize::from(with_zeros);
    node.counts(0, first + bits.len())?;
    let units = layout.units(n, k);
    let plane_len = |bits: u32| units * (layout.unit() * bits as usize / 8);
    for (i, &bits) in bits.iter().enumerate() {
        node.check_len(first + i, plane_len(bits))?;
    }
    let count = if alike { 1 } else { layout.scales(n, k.div_ceil(group)) };
    let scales = node.bytes(0, count * scale.size())?;
    let zeros = if with_zeros { Some(node.bytes(1, count)?) } else { None };
    let mut planes = Vec::with_capacity(taken);
    for (i, &bits) in bits[..taken].iter().enumerate() {
        planes.push((bits, node.bytes(first + i, plane_len(bits))?));
    }
    let (even, gain) = (whole && taken == bits.len(), gains[taken - 1]);
    let bits = bits[..taken].iter().sum();
    let variant = select(node.isa());
    Ok(Box::new(Planes {
        n,
        k,
        layout,
        group,
        scale,
        scales,
        alike,
        zeros,
        zero_bits,
        even,
        planes,
        bits,
        gain,
        variant,
    }))
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
        if self.alike {
            let mut one = [0.0];
            self.scale.decode(self.scales.as_slice(), 0, &mut one);
            out.fill(one[0]);
        } else {
            self.scale.decode(self.scales.as_slice(), first, out);
        }
        self.finish_scales(out);
    }

    /// Stored scales from position `first` on, as those of integer codes: even numbers are twice their code.
    fn load_code_scales(&self, first: usize, out: &mut [f32]) {
        self.load_scales(first, out);
        if self.even {
            out.iter_mut().for_each(|scale| *scale *= 2.0);
        }
    }

    /// The zero point at a position, in steps of the codes that are taken; a byte that is no code is the nearest one.
    fn zero(&self, at: usize) -> f32 {
        let Some(zeros) = &self.zeros else { return 0.0 };
        let half = 1i32 << (self.zero_bits - 1);
        let code = i32::from(zeros.as_slice()[if self.alike { 0 } else { at }] as i8).clamp(-half, half - 1);
        code as f32 / (1u32 << (self.zero_bits - self.bits)) as f32
    }

    /// What is taken off the codes from position `first` on: zero points, less half a step where codes stand for what lies between two.
    fn load_zeros(&self, first: usize, out: &mut [f32]) {
        let between = if self.even { 0.0 } else { 0.5 };
        if self.zeros.is_some() {
            out.iter_mut().enumerate().for_each(|(i, zero)| *zero = self.zero(first + i) - between);
        }
    }

    /// What codes stand for, `zeros` being those of their groups.
    fn numbers<'z>(&self, zeros: &'z [f32]) -> Numbers<'z> {
        match (&self.zeros, self.even) {
            (None, true) => Numbers::Even(None),
            (None, false) => Numbers::Odd,
            (Some(_), _) => Numbers::Even(Some(zeros)),
        }
    }

    /// Whether the integer codes of this matrix are those that are stored: zero points and the halves that a prefix stands between are not
    /// in them.
    fn codes_are_stored(&self) -> bool {
        self.zeros.is_none()
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

    /// `2p + 1 - 2^b`, or `2p - 2^b` where all planes of a whole code are taken, less twice the zero point.
    fn number(&self, code: u16, zero: f32) -> f32 {
        let odd = i32::from(!self.even);
        (2 * i32::from(code) + odd - (1 << self.bits)) as f32 - 2.0 * zero
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
        let mut scales = blank::<{ GROUPS * PANEL }>();
        let scales = &mut scales[..(last + 1 - first) * PANEL];
        let (at, mut zeros) =
            (self.layout.scale_at(panel * PANEL, first, self.groups()), blank::<{ GROUPS * PANEL }>());
        self.load_scales(at, scales);
        self.load_zeros(at, &mut zeros[..scales.len()]);
        let group = if first == last { cols.len() } else { self.group };
        let planes = self.planes(self.panel_units(panel, cols));
        self.variant.join_f32(&planes[..self.planes.len()], scales, self.numbers(&zeros), group, out);
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
                    let mut chunk = blank::<{ CHUNK * PANEL }>();
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
            let (mut scales, mut zeros) = ([0.0; PANEL], [0.0; PANEL]);
            let (mut rows, mut lane) = (part.rows.clone(), part.lane);
            while !rows.is_empty() {
                let (panel, from) = (rows.start / PANEL, rows.start % PANEL);
                let count = rows.len().min(PANEL - from);
                let at = self.layout.scale_at(panel * PANEL, run.start / self.group, self.groups());
                self.load_scales(at, &mut scales);
                self.load_zeros(at, &mut zeros);
                let numbers = self.numbers(&zeros);
                let planes = self.planes(panel * self.k + run.start..panel * self.k + run.end);
                let planes = &planes[..self.planes.len()];
                let out = &mut out[(run.start - part.cols.start) * PANEL..][..run.len() * PANEL];
                if count == PANEL {
                    self.variant.join_columns_f32(planes, &scales, numbers, run.len(), out);
                } else {
                    let mut columns = blank::<{ CHUNK * PANEL }>();
                    let columns = &mut columns[..run.len() * PANEL];
                    self.variant.join_columns_f32(planes, &scales, numbers, run.len(), columns);
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
            let (mut scale, at) = ([0.0], self.layout.scale_at(r, c / self.group, self.groups()));
            self.load_scales(at, &mut scale);
            *out = self.number(code as u16, self.zero(at)) * scale[0];
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
            let group = cols.start / self.group;
            for (r, scale) in part.rows.clone().zip(&mut scales) {
                self.load_scales(self.layout.scale_at(r, group, self.groups()), std::slice::from_mut(scale));
            }
            self.visit(&part.rows, &(cols.start..end), |r, c, code| {
                let row = r - part.rows.start;
                let zero = self.zero(self.layout.scale_at(r, group, self.groups()));
                out[(c - part.cols.start) * PANEL + part.lane + row] = self.number(code, zero) * scales[row];
            });
            cols.start = end;
        }
    }

    fn code_form(&self) -> Option<CodeForm> {
        if self.zeros.is_some() {
            // Zero points are taken off the codes of all planes where a code of 8 bits holds what is left.
            let fits = self.even && self.bits <= 4 && self.group <= MAX_CODE_GROUP;
            return fits.then_some(CodeForm { group: self.group, half_offset: false, bits: 8 });
        }
        let short = self.bits <= 8 && self.group <= MAX_CODE_GROUP;
        short.then_some(CodeForm { group: self.group, half_offset: !self.even, bits: self.bits })
    }

    fn fill_codes(&self, panels: Range<usize>, out: CodesOut<'_>) {
        match self.layout {
            Layout::Rows | Layout::Tight => codes::fill(self, self.variant, panels, out),
            // A panel's scales lie together.
            Layout::Panel | Layout::Panel1 => {
                codes::fill_with(self, self.variant, panels, out, |_, rows, scales| {
                    self.load_code_scales(self.layout.scale_at(rows.start, 0, self.groups()), scales);
                });
            }
        }
    }

    fn borrow_planes(&self, panels: Range<usize>) -> Option<PlanePanels<'_>> {
        let split = Split::of(self.planes.iter().map(|(bits, _)| *bits))?;
        // Their kernels know no zero points, and a scale of its own for each row.
        let known = self.zeros.is_none() && !self.alike;
        if self.layout != Layout::Panel || self.group > MAX_CODE_GROUP || !known {
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
            odd: !self.even,
        })
    }

    fn has_codes_i16(&self) -> bool {
        let columns = self.layout == Layout::Panel1 && self.codes_are_stored();
        let wide = columns && self.bits <= COLUMN_BITS && self.k <= COLUMN_TAPS;
        self.group >= self.k && (wide || self.code_form().is_some())
    }

    fn fill_codes_i16(&self, panels: Range<usize>, codes: &mut [i16], scales: &mut [f32]) {
        if self.layout != Layout::Panel1 || self.group < self.k || !self.codes_are_stored() {
            return codes::fill_i16(self, panels, codes, scales);
        }
        let panels = panels.zip(codes.chunks_exact_mut(self.k * PANEL)).zip(scales.chunks_exact_mut(PANEL));
        for ((panel, codes), scales) in panels {
            let rows = (self.n - panel * PANEL).min(PANEL);
            self.load_code_scales(self.layout.scale_at(panel * PANEL, 0, 1), scales);
            scales[rows..].fill(0.0);
            let planes = self.planes(panel * self.k..(panel + 1) * self.k);
            self.variant.join_columns_i16(&planes[..self.planes.len()], rows, !self.even, codes);
        }
    }

    fn codes_part(&self, part: &Part, at: usize, codes: &mut [i8]) {
        let blocks =
            self.layout == Layout::Panel && part.cols.start.is_multiple_of(BLOCK) && at.is_multiple_of(BLOCK);
        if blocks && self.codes_are_stored() {
            return self.join_blocks(part, at, codes);
        }
        if self.layout == Layout::Tight && self.codes_are_stored() {
            // A code is a byte, whose highest bit is the other way round.
            let bytes = self.planes[0].1.as_slice();
            for (r, lane) in part.rows.clone().zip(part.lanes()) {
                let row = &bytes[r * self.k + part.cols.start..][..part.cols.len()];
                for (k, byte) in (at..).zip(row) {
                    codes[k / BLOCK * UNIT + lane * BLOCK + k % BLOCK] = (byte ^ 0x80) as i8;
                }
            }
            return;
        }
        let half = 1i32 << (self.bits - 1);
        self.visit(&part.rows, &part.cols, |r, c, code| {
            let (lane, k) = (part.lane + r - part.rows.start, at + c - part.cols.start);
            let zero = self.zero(self.layout.scale_at(r, c / self.group, self.groups())) as i32;
            codes[k / BLOCK * UNIT + lane * BLOCK + k % BLOCK] = (i32::from(code) - half - zero) as i8;
        });
    }

    fn scales_of(&self, rows: Range<usize>, first: usize, step: usize, scales: &mut [[f32; PANEL]]) {
        let panels = matches!(self.layout, Layout::Panel | Layout::Panel1);
        let together = panels && rows.start.is_multiple_of(PANEL) && step == self.group;
        if !together {
            return codes::scales_of(self, rows, first, step, scales);
        }
        let at = self.layout.scale_at(rows.start, first / self.group, self.groups());
        self.load_code_scales(at, scales.as_flattened_mut());
        scales.iter_mut().for_each(|scales| scales[rows.len()..].fill(0.0));
    }

    fn scales_at(&self, rows: Range<usize>, col: usize, scales: &mut [f32]) {
        let (g, unit) = (col / self.group, self.layout.unit_rows());
        let (mut rows, mut scales) = (rows, scales);
        while !rows.is_empty() {
            let run = rows.len().min(unit - rows.start % unit);
            let (now, later) = scales.split_at_mut(run);
            self.load_code_scales(self.layout.scale_at(rows.start, g, self.groups()), now);
            rows.start += run;
            scales = later;
        }
    }

    fn fill_row(&self, r: usize, out: &mut [f32]) {
        assert_eq!(out.len(), self.k, "elements of a row");
        for (g, out) in out.chunks_mut(self.group).enumerate() {
            let (mut scale, at) = ([0.0], self.layout.scale_at(r, g, self.groups()));
            self.load_scales(at, &mut scale);
            let (cols, zero) = (g * self.group..g * self.group + out.len(), self.zero(at));
            self.visit(&(r..r + 1), &cols, |_, c, code| {
                out[c - cols.start] = self.number(code, zero) * scale[0]
            });
        }
    }
}
