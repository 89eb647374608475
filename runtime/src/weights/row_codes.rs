//! `row_codes`: a matrix whose integer codes are given out with one scale a row.
//!
//! A product of integers adds up a whole row before it scales once, which takes less time than a scale for every group. The price
//! is a rounding of the codes to the row's grid of 255 values, whose error is that of an 8-bit weight with a scale a row. Only
//! products of integers see it: whatever reads reals reads the operand.

use super::node::Node;
use super::row_reals::RowReals;
use super::{BLOCK, CodeForm, CodesOut, MAX_CODE_GROUP, PANEL, Part, WeightError, Weights};
use edge_kernels::cpu::gemv_half::HalfPanels;
use edge_kernels::cpu::gemv_planes::PlanePanels;
use edge_kernels::cpu::planes::{UNIT, Variant, largest_number, raise_to, select};
use std::ops::Range;

/// Largest code of a row.
const TOP: f32 = 127.0;

/// Groups whose scales are decoded together: those of 1280 columns, as most groups are.
const GROUPS: usize = 40;

struct RowCodes {
    operand: Box<dyn Weights>,
    /// The operand's codes.
    form: CodeForm,
    variant: &'static Variant,
}

pub(super) fn construct(node: &mut Node<'_, '_>) -> Result<Box<dyn Weights>, WeightError> {
    node.only(&["wide"])?;
    node.counts(1, 0)?;
    let wide = node.param("wide", "true or false")?.unwrap_or(false);
    let operand = node.operand(0, Some((node.n(), node.k())), node.take())?;
    Ok(match operand.code_form() {
        Some(form) if operand.k() <= MAX_CODE_GROUP && !node.is_for_reals() => {
            Box::new(RowCodes { operand, form, variant: select(node.isa()) })
        }
        None if wide && operand.k() <= MAX_CODE_GROUP && !node.is_for_reals() => {
            Box::new(RowReals { operand, variant: select(node.isa()) })
        }
        // More than integer products take, or add up.
        _ => operand,
    })
}

impl RowCodes {
    /// Calls `f` with the scales of `rows` (at most 16), group by group in runs: `f(first group, scales)`, `[groups][16]`.
    fn scales(&self, rows: &Range<usize>, mut f: impl FnMut(usize, &[[f32; PANEL]])) {
        let groups = self.k().div_ceil(self.form.group);
        let mut scales = [[0.0; PANEL]; GROUPS];
        for first in (0..groups).step_by(GROUPS) {
            let scales = &mut scales[..GROUPS.min(groups - first)];
            self.operand.scales_of(rows.clone(), first * self.form.group, self.form.group, scales);
            f(first, scales);
        }
    }

    /// The largest magnitude of a scale of each of `rows`, at most 16.
    fn largest(&self, rows: &Range<usize>) -> [f32; PANEL] {
        let mut largest = [0.0; PANEL];
        self.scales(rows, |_, scales| raise_to(&mut largest, scales));
        largest
    }

    /// Rounds the codes of some groups from `first` on, whole units of a panel.
    fn round(&self, codes: &mut [i8], scales: &[[f32; PANEL]], largest: &[f32; PANEL]) {
        let form = (self.form.bits, self.form.half_offset);
        self.variant.round_codes(codes, self.form.group, form, scales, largest);
    }

    /// The scale of a row whose largest scale is `largest`.
    fn row_scale(&self, largest: f32) -> f32 {
        largest * (largest_number(self.form.bits, self.form.half_offset) as f32 / TOP)
    }
}

impl Weights for RowCodes {
    fn n(&self) -> usize {
        self.operand.n()
    }

    fn k(&self) -> usize {
        self.operand.k()
    }

    fn materialize(&self) -> Vec<f32> {
        self.operand.materialize()
    }

    fn fill_part(&self, part: &Part, out: &mut [f32]) {
        self.operand.fill_part(part, out);
    }

    fn fill_f32(&self, panels: Range<usize>, out: &mut [f32]) {
        self.operand.fill_f32(panels, out);
    }

    fn borrow_f32(&self, panels: Range<usize>) -> Option<&[f32]> {
        self.operand.borrow_f32(panels)
    }

    fn borrow_halves(&self, panels: Range<usize>) -> Option<HalfPanels<'_>> {
        self.operand.borrow_halves(panels)
    }

    fn borrow_planes(&self, panels: Range<usize>) -> Option<PlanePanels<'_>> {
        let nested = |planes: &PlanePanels<'_>| planes.split.is_nested() && planes.odd;
        let planes = self.operand.borrow_planes(panels).filter(nested)?;
        Some(PlanePanels { one_scale: true, ..planes })
    }

    fn fill_row(&self, r: usize, out: &mut [f32]) {
        self.operand.fill_row(r, out);
    }

    fn code_form(&self) -> Option<CodeForm> {
        Some(CodeForm { group: self.k(), half_offset: false, bits: 8 })
    }

    fn fill_codes(&self, panels: Range<usize>, out: CodesOut<'_>) {
        let (n, k) = (self.n(), self.k());
        let units = k.div_ceil(BLOCK) * UNIT;
        assert_eq!(out.codes.len(), panels.len() * units, "codes of {} panels of K = {k}", panels.len());
        assert_eq!(out.scales.len(), panels.len() * PANEL, "scales of {} panels", panels.len());
        assert_eq!(out.sums.len(), panels.len() * PANEL, "sums of {} panels", panels.len());
        let tables = out.scales.chunks_exact_mut(PANEL).zip(out.sums.chunks_exact_mut(PANEL));
        for ((panel, codes), (scales, sums)) in panels.zip(out.codes.chunks_exact_mut(units)).zip(tables) {
            let part = Part::panel(panel, n, k);
            if part.rows.len() < PANEL || !k.is_multiple_of(BLOCK) {
                codes.fill(0);
            }
            self.operand.codes_part(&part, 0, codes);
            let each = self.form.group.div_ceil(BLOCK) * UNIT;
            let mut largest = [0.0; PANEL];
            let together = k.div_ceil(self.form.group) <= GROUPS;
            self.scales(&part.rows, |_, scales| {
                raise_to(&mut largest, scales);
                if together {
                    self.round(codes, scales, &largest);
                }
            });
            if !together {
                self.scales(&part.rows, |first, scales| {
                    let (from, to) = (first * each, codes.len().min((first + scales.len()) * each));
                    self.round(&mut codes[from..to], scales, &largest);
                });
            }
            if let Some(rest) = codes.len().checked_sub(UNIT).filter(|_| !k.is_multiple_of(BLOCK)) {
                // What lies past k was 0 and stands for 1 when half-offset.
                codes[rest..].chunks_exact_mut(BLOCK).for_each(|codes| codes[k % BLOCK..].fill(0));
            }
            scales.iter_mut().zip(largest).for_each(|(scale, largest)| *scale = self.row_scale(largest));
            self.variant.group_sums(codes, k, k, false, sums);
        }
    }

    fn codes_part(&self, part: &Part, at: usize, codes: &mut [i8]) {
        self.operand.codes_part(part, at, codes);
        let largest = self.largest(&part.rows);
        let (each, units) = (self.form.group.div_ceil(BLOCK), part.cols.len().div_ceil(BLOCK));
        // Whole units of a whole panel, cut between groups: rounded as all columns together are.
        let aligned =
            part.cols.start.is_multiple_of(BLOCK) && part.cols.len().is_multiple_of(BLOCK) && at == 0;
        let between = self.form.group >= self.k() || part.cols.start.is_multiple_of(each * BLOCK);
        if part.rows.len() == PANEL && aligned && between {
            let first_unit = part.cols.start / BLOCK;
            self.scales(&part.rows, |first, scales| {
                let from = (first * each).max(first_unit);
                let to = ((first + scales.len()) * each).min(first_unit + units);
                if from < to {
                    let scales = &scales[from / each - first..][..(to - from).div_ceil(each)];
                    let own = (from - first_unit) * UNIT..(to - first_unit) * UNIT;
                    self.round(&mut codes[own], scales, &largest);
                }
            });
            return;
        }
        self.scales(&part.rows, |first, scales| {
            for (group, scales) in (first..).zip(scales) {
                let cols = group * self.form.group..((group + 1) * self.form.group).min(part.cols.end);
                for c in cols.start.max(part.cols.start)..cols.end {
                    let k = at + c - part.cols.start;
                    // A unit of its own, its channels the rows: the same rounding.
                    let mut unit = [0; UNIT];
                    let place = |lane: usize| k / BLOCK * UNIT + lane * BLOCK + k % BLOCK;
                    for (row, lane) in part.lanes().enumerate() {
                        unit[row * BLOCK] = codes[place(lane)];
                    }
                    self.round(&mut unit, std::slice::from_ref(scales), &largest);
                    for (row, lane) in part.lanes().enumerate() {
                        codes[place(lane)] = unit[row * BLOCK];
                    }
                }
            }
        });
    }

    fn scales_at(&self, rows: Range<usize>, _col: usize, scales: &mut [f32]) {
        for (first, scales) in rows.clone().step_by(PANEL).zip(scales.chunks_mut(PANEL)) {
            let largest = self.largest(&(first..first + scales.len()));
            scales.iter_mut().zip(largest).for_each(|(scale, largest)| *scale = self.row_scale(largest));
        }
    }
}
