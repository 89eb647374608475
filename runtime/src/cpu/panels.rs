//! Panels of a weight as kernels take them: borrowed where they lie, or decoded into a worker's scratch.

use super::memory::Views;
use super::{Context, MatrixView, kept};
use crate::device::Scratch;
use crate::plan::Step;
use crate::weights::{BLOCK, CodeForm, CodesOut, PANEL, Weights};
use edge_kernels::cpu::gemm_i16::{PAIR, pairs_of_codes};
use edge_kernels::cpu::gemm_u8::{FOUR, U8Panels, words_of_taps};
use edge_kernels::cpu::{gemm_bf16, gemm_u8};
use std::ops::Range;

/// Bytes of decoded panels that one worker holds.
pub(super) const PANELS_BYTES: usize = 192 << 10;
/// What a worker's scratch says of the panels in it: see [`Held`].
pub(super) const HELD_BYTES: usize = 64;

/// How a weight's panels lie in scratch.
#[derive(Clone, Copy)]
pub(super) struct PanelLayout {
    /// Panels decoded together.
    pub panels: usize,
    pub(super) codes: usize,
    pub(super) groups: usize,
    pub(super) pairs: usize,
    pub bytes: usize,
}

pub(super) fn panel_layout(n: usize, k: usize, form: Option<CodeForm>) -> PanelLayout {
    let all = n.div_ceil(PANEL).max(1);
    match form {
        None => {
            let each = k * PANEL * 4;
            // At least the two that kernels take together.
            let panels = (PANELS_BYTES / each.max(1)).clamp(all.min(2), all);
            let bytes = (panels * each).next_multiple_of(64);
            PanelLayout { panels, codes: 0, groups: 0, pairs: 0, bytes }
        }
        Some(form) => {
            let (codes, pairs) = (k.div_ceil(8) * 8 * PANEL, k.next_multiple_of(PAIR) * PANEL);
            let groups = k.div_ceil(form.group.max(1));
            // What a product reads again and again.
            let each = pairs * 2 + groups * PANEL * 4;
            let panels = (PANELS_BYTES / each.max(1)).clamp(1, all);
            let tables = (panels * groups * PANEL * 8).next_multiple_of(64);
            let bytes = (panels * codes).next_multiple_of(64) + tables + panels * pairs * 2;
            PanelLayout { panels, codes, groups, pairs, bytes: bytes.next_multiple_of(64) }
        }
    }
}

/// How panels of bf16 pairs lie in scratch, before a panel of floats that they are made of.
pub(super) fn pair_layout(n: usize, k: usize) -> PanelLayout {
    let all = n.div_ceil(PANEL).max(1);
    let each = k.div_ceil(2) * PANEL * 4;
    let panels = (PANELS_BYTES / each.max(1)).clamp(all.min(2), all);
    let bytes = (panels * each + k * PANEL * 4).next_multiple_of(64);
    PanelLayout { panels, codes: 0, groups: 0, pairs: each, bytes }
}

/// Bytes of all panels of bf16 pairs of an `[n, k]` matrix, and of one worker's scratch for [`pack_pairs`]: a panel of floats.
pub(crate) fn pairs_memory(n: usize, k: usize) -> (usize, usize) {
    (n.div_ceil(PANEL) * k.div_ceil(2) * PANEL * 4, k * PANEL * 4)
}

/// Makes all panels of bf16 pairs of a weight.
pub(super) fn pack_pairs(
    ctx: &Context<'_>,
    step: &Step,
    mut views: Views<'_>,
    n: usize,
    k: usize,
) -> Result<(), String> {
    let matrix = super::matrix(ctx, step, &views, 0)?;
    let (Some(kernel), MatrixView::Weights(w)) = (ctx.kernels.gemm_bf16, &matrix) else {
        return Err("pairs of bf16 on a CPU without them".into());
    };
    let scratch = Scratch::new(std::mem::take(&mut views.scratch), ctx.pool.threads());
    let [out, ..] = views.outputs;
    let each = pairs_memory(n.min(PANEL), k).0 / 4;
    if each == 0 {
        return Ok(());
    }
    ctx.pool.chunks_mut(super::elements_mut::<u32>(out), each, |worker, panel, words| {
        let mut slot = scratch.slot(worker);
        pairs_of(kernel, *w, panel, &mut super::floats_mut(&mut slot)[..k * PANEL], words);
    });
    Ok(())
}

/// Decodes all panels of a weight.
pub(super) fn decode_panels(
    ctx: &Context<'_>,
    step: &Step,
    views: Views<'_>,
    n: usize,
    k: usize,
) -> Result<(), String> {
    let matrix = super::matrix(ctx, step, &views, 0)?;
    let MatrixView::Weights(w) = &matrix else { return Err("panels that are decoded already".into()) };
    let [out, ..] = views.outputs;
    let out = &mut super::floats_mut(out)[..n.div_ceil(PANEL) * k * PANEL];
    ctx.pool.chunks_mut(out, (k * PANEL).max(1), |_, panel, floats| w.fill_f32(panel..panel + 1, floats));
    Ok(())
}

/// One panel of a weight as pairs.
fn pairs_of(
    kernel: &gemm_bf16::Variant,
    w: &dyn Weights,
    panel: usize,
    decoded: &mut [f32],
    words: &mut [u32],
) {
    match w.borrow_f32(panel..panel + 1) {
        Some(stored) => kernel.pairs_of_panel(stored, words),
        None => {
            w.fill_f32(panel..panel + 1, decoded);
            kernel.pairs_of_panel(decoded, words);
        }
    }
}

/// Panels of bf16 pairs: where they lie, or made in a worker's scratch unless they are there.
pub(super) fn pair_panels<'a>(
    kernel: &gemm_bf16::Variant,
    matrix: &MatrixView<'a>,
    layout: PanelLayout,
    panels: Range<usize>,
    scratch: &'a mut [u8],
) -> &'a [u32] {
    let each = layout.pairs / 4;
    let w = match matrix {
        MatrixView::Panels(all) => {
            let words: &[u32] = bytemuck::cast_slice(all);
            return &words[panels.start * each..panels.end * each];
        }
        MatrixView::Weights(w) => *w,
    };
    let (held, area) = scratch.split_at_mut(HELD_BYTES);
    let (words, floats) = area.split_at_mut(layout.panels * layout.pairs);
    let words: &mut [u32] = &mut super::elements_mut(words)[..panels.len() * each];
    if Held::of(held).replace(0, panels.start) {
        let decoded = &mut super::floats_mut(floats)[..w.k() * PANEL];
        for (panel, words) in panels.zip(words.chunks_exact_mut(each.max(1))) {
            pairs_of(kernel, w, panel, decoded, words);
        }
    }
    words
}

/// Scratch bytes of one worker for decoding a weight; `form` is `Some` in integer mode.
pub(crate) fn panel_scratch(weights: &dyn Weights, form: Option<CodeForm>) -> usize {
    let kept = kept::blocks_of(weights, form.is_some());
    let kept = kept.map_or(0, |blocks| kept::layout(weights.n(), &blocks, form.is_some()).bytes);
    HELD_BYTES + panel_layout(weights.n(), weights.k(), form).bytes.max(kept)
}

/// Panels of `each` floats: where they lie, or decoded into a worker's scratch, which starts with what is [`Held`] there.
pub(super) fn float_panels<'a>(
    matrix: &MatrixView<'a>,
    panels: Range<usize>,
    each: usize,
    scratch: &'a mut [u8],
) -> &'a [f32] {
    let w = match matrix {
        MatrixView::Panels(all) => return &all[panels.start * each..panels.end * each],
        MatrixView::Weights(w) => *w,
    };
    if let Some(stored) = w.borrow_f32(panels.clone()) {
        return stored;
    }
    let (held, area) = scratch.split_at_mut(HELD_BYTES);
    let area = &mut super::floats_mut(area)[..panels.len() * each];
    if Held::of(held).replace(0, panels.start) {
        w.fill_f32(panels, area);
    }
    area
}

/// Which panels lie decoded in a worker's scratch, in each of two forms: tiles below each other read the same.
pub(super) struct Held<'a>(&'a mut [u32]);

impl<'a> Held<'a> {
    pub(super) fn of(bytes: &'a mut [u8]) -> Held<'a> {
        Held(super::elements_mut(bytes))
    }

    /// Nothing, in every worker's scratch: what lies there is of another step.
    pub(super) fn clear(scratch: &Scratch<'_, u8>, workers: usize) {
        for worker in 0..workers {
            let mut slot = scratch.slot(worker);
            if let Some(bytes) = slot.get_mut(..HELD_BYTES) {
                bytes.fill(0);
            }
        }
    }

    /// Notes that the panels from `first` on are there in `form` (0 or 1; form 1 is made of form 0). True when they are
    /// yet to be decoded.
    pub(super) fn replace(&mut self, form: usize, first: usize) -> bool {
        let is = first as u32 + 1;
        let stale = std::mem::replace(&mut self.0[form], is) != is;
        if stale && form == 0 {
            self.0[1] = 0;
        }
        stale
    }
}

/// Integer panels in a worker's scratch.
pub(super) struct Decoded<'a> {
    held: Held<'a>,
    first: usize,
    pub codes: &'a [i8],
    pub scales: &'a [f32],
    pub sums: &'a [i32],
    pub pairs: &'a mut [i16],
}

impl<'a> Decoded<'a> {
    /// The codes of `panels`, decoded unless they are there.
    pub fn codes(
        w: &dyn Weights,
        layout: PanelLayout,
        panels: Range<usize>,
        area: &'a mut [u8],
    ) -> Decoded<'a> {
        let (first, count) = (panels.start, panels.len());
        let (held, area) = area.split_at_mut(HELD_BYTES);
        let (codes, area) = area.split_at_mut((layout.panels * layout.codes).next_multiple_of(64));
        let tables = layout.panels * layout.groups * PANEL * 4;
        let (tables, pairs) = area.split_at_mut((2 * tables).next_multiple_of(64));
        let (scales, sums) = tables.split_at_mut(layout.panels * layout.groups * PANEL * 4);
        let codes: &mut [i8] = &mut super::elements_mut(codes)[..count * layout.codes];
        let scales = &mut super::floats_mut(scales)[..count * layout.groups * PANEL];
        let sums = &mut super::elements_mut::<i32>(sums)[..count * layout.groups * PANEL];
        let pairs = &mut super::elements_mut::<i16>(pairs)[..count * layout.pairs];
        let mut held = Held::of(held);
        if held.replace(0, first) {
            w.fill_codes(panels, CodesOut { codes: &mut *codes, scales: &mut *scales, sums: &mut *sums });
        }
        Decoded { held, first, codes, scales, sums, pairs }
    }

    /// The codes as i16 pairs, made unless they are there.
    pub fn make_pairs(&mut self, ctx: &Context<'_>, form: CodeForm, k: usize) {
        if self.held.replace(1, self.first) {
            pairs_of_codes(ctx.kernels.loops, self.codes, form.half_offset, k, self.pairs);
        }
    }
    /// The codes as words of four, of a matrix with one scale a row, made unless they are there: in the place of pairs, which are more.
    /// With `filled_up`, each so many k have words of their own.
    pub fn fours(&mut self, kernel: &gemm_u8::Variant, k: usize, filled_up: Option<usize>) -> U8Panels<'_> {
        let rows = filled_up.map_or(k.div_ceil(FOUR), |channels| k / channels * channels.div_ceil(FOUR));
        let (codes, words) = (k.div_ceil(BLOCK) * BLOCK * PANEL, rows * PANEL);
        let panels = self.scales.len() / PANEL;
        let made = &mut bytemuck::cast_slice_mut::<i16, u32>(self.pairs)[..panels * words];
        if self.held.replace(1, self.first) {
            let each = made.chunks_exact_mut(words.max(1)).zip(self.codes.chunks_exact(codes.max(1)));
            each.for_each(|(words, codes)| match filled_up {
                None => kernel.words_of_codes(codes, words),
                Some(channels) => words_of_taps(codes, channels, words),
            });
        }
        U8Panels { words: made, scales: self.scales, sums: self.sums }
    }
}
