//! Panels of integer codes from rectangles of them.

use super::{BLOCK, CHUNK, CodeForm, CodesOut, PANEL, Part, Weights};
use edge_kernels::cpu::planes::{UNIT, Variant, widen};
use std::ops::Range;

/// [`Weights::fill_codes`] by [`Weights::codes_part`] and [`Weights::scales_at`].
pub(super) fn fill<W: Weights + ?Sized>(
    weights: &W,
    variant: &Variant,
    panels: Range<usize>,
    out: CodesOut<'_>,
) {
    fill_with(weights, variant, panels, out, |form, rows, scales| {
        for (g, scales) in scales.as_chunks_mut::<PANEL>().0.iter_mut().enumerate() {
            weights.scales_at(rows.clone(), g * form.group, &mut scales[..rows.len()]);
        }
    });
}

/// [`Weights::fill_codes`] by [`Weights::codes_part`] and the scales `[groups][16]` of one panel's rows.
pub(super) fn fill_with<W: Weights + ?Sized>(
    weights: &W,
    variant: &Variant,
    panels: Range<usize>,
    out: CodesOut<'_>,
    fill_scales: impl Fn(CodeForm, Range<usize>, &mut [f32]),
) {
    let (n, k) = (weights.n(), weights.k());
    let form = weights.code_form().expect("fill_codes is called on weights with a code form");
    let (units, groups) = (k.div_ceil(BLOCK) * UNIT, k.div_ceil(form.group) * PANEL);
    assert_eq!(out.codes.len(), panels.len() * units, "codes of {} panels of K = {k}", panels.len());
    assert_eq!(out.scales.len(), panels.len() * groups, "scales of {} panels", panels.len());
    assert_eq!(out.sums.len(), panels.len() * groups, "sums of {} panels", panels.len());
    let codes = out.codes.chunks_exact_mut(units);
    let tables = out.scales.chunks_exact_mut(groups).zip(out.sums.chunks_exact_mut(groups));
    for ((panel, codes), (scales, sums)) in panels.zip(codes).zip(tables) {
        let part = Part::panel(panel, n, k);
        if part.rows.len() < PANEL || !k.is_multiple_of(BLOCK) {
            codes.fill(0);
        }
        weights.codes_part(&part, 0, codes);
        let rows = part.rows.len();
        fill_scales(form, part.rows, scales);
        if rows < PANEL {
            scales.chunks_exact_mut(PANEL).for_each(|scales| scales[rows..].fill(0.0));
        }
        variant.group_sums(codes, k, form.group, form.half_offset, sums);
    }
}

/// [`Weights::scales_of`] by [`Weights::scales_at`].
pub(super) fn scales_of<W: Weights + ?Sized>(
    weights: &W,
    rows: Range<usize>,
    first: usize,
    step: usize,
    scales: &mut [[f32; PANEL]],
) {
    for (i, scales) in scales.iter_mut().enumerate() {
        weights.scales_at(rows.clone(), first + i * step, &mut scales[..rows.len()]);
        scales[rows.len()..].fill(0.0);
    }
}

/// [`Weights::fill_codes_i16`] by [`Weights::codes_part`] and [`Weights::scales_at`].
pub(super) fn fill_i16<W: Weights + ?Sized>(
    weights: &W,
    panels: Range<usize>,
    codes: &mut [i16],
    scales: &mut [f32],
) {
    let (n, k) = (weights.n(), weights.k());
    let form = weights.code_form().expect("fill_codes_i16 is called on weights with a code form");
    assert_eq!(form.group, k, "fill_codes_i16 takes one group of K");
    assert_eq!(codes.len(), panels.len() * k * PANEL, "codes of {} panels of K = {k}", panels.len());
    assert_eq!(scales.len(), panels.len() * PANEL, "scales of {} panels", panels.len());
    let mut bytes = [0i8; CHUNK * PANEL];
    for ((panel, codes), scales) in
        panels.zip(codes.chunks_exact_mut(k * PANEL)).zip(scales.chunks_exact_mut(PANEL))
    {
        let mut part = Part::panel(panel, n, k);
        let rows = part.rows.len();
        scales.fill(0.0);
        weights.scales_at(part.rows.clone(), 0, &mut scales[..rows]);
        for (i, codes) in codes.chunks_mut(CHUNK * PANEL).enumerate() {
            part.cols = i * CHUNK..i * CHUNK + codes.len() / PANEL;
            weights.codes_part(&part, 0, &mut bytes);
            widen(&bytes, rows, form.half_offset, codes);
        }
    }
}

/// Where the code of column `k` and channel `lane` lies in a panel of codes, `[blocks][16][8]`.
pub(super) fn place(k: usize, lane: usize) -> usize {
    k / BLOCK * UNIT + lane * BLOCK + k % BLOCK
}

/// Sets the codes of some columns and channels of a panel to 0.
pub(super) fn clear(lanes: Range<usize>, cols: Range<usize>, codes: &mut [i8]) {
    let mut rest = cols.clone();
    if lanes == (0..PANEL) && cols.start.is_multiple_of(BLOCK) {
        // Whole units at once.
        rest.start = cols.start + cols.len() / BLOCK * BLOCK;
        codes[cols.start * PANEL..rest.start * PANEL].fill(0);
    }
    for k in rest {
        for lane in lanes.clone() {
            codes[place(k, lane)] = 0;
        }
    }
}
