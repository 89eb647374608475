//! Products with weights of which each panel keeps some blocks of k: values are decoded as those of a dense panel are, and multiplied
//! with what belongs to them alone.

use super::panels::{HELD_BYTES, Held, PANELS_BYTES, PanelLayout};
use super::product::Product;
use super::{Context, elements_mut, floats_mut};
use crate::plan::Quant;
use crate::weights::{BLOCK, CodesOut, KeptBlocks, PANEL, Weights};
use edge_kernels::cpu::gemm_blocks::{I8Values, Kept, TOGETHER, words_of_codes, words_of_row};
use edge_kernels::cpu::gemm_f32::{Epilogue, Output};
use edge_kernels::cpu::gemm_u8::FOUR;
use std::ops::Range;

/// Of 16 parts of K, the most that is multiplied as blocks (`benches/README.md`, "Sparse weights"): with more, the dense product takes no
/// longer, once there are so many rows that putting zeros between is nothing beside it.
const MOST: usize = 12;
/// As [`MOST`], for blocks of one column: each of their activations is in a cache line of its own.
const MOST_SINGLE: usize = 10;
/// As [`MOST`], beside a product that is a half of the work: Winograd's tiles, or pairs of bf16.
const MOST_OF_HALF: usize = 6;
/// Rows from which on [`MOST`] counts; codes take longer to be put between zeros than to be multiplied.
const MANY_ROWS: usize = 1024;

/// The blocks of a weight, when products can take them. Integers take whole words of codes that have one scale a row.
pub(crate) fn blocks_of(w: &dyn Weights, integer: bool) -> Option<KeptBlocks<'_>> {
    let whole = |block: usize| !integer || (block.is_multiple_of(FOUR) && w.code_form().is_some());
    w.borrow_blocks().filter(|blocks| whole(blocks.kept.block))
}

/// Whether a product of `m` rows takes less time with the blocks than with the zeros between; and whether, of floats, with so few that one
/// of half the work with all of K takes longer.
pub(crate) fn pays(w: &dyn Weights, m: usize, integer: bool) -> (bool, bool) {
    let Some(KeptBlocks { kept, .. }) = blocks_of(w, integer) else { return (false, false) };
    let most = |most: usize| kept.rows() * 16 <= w.k() * most;
    let less = integer || m < MANY_ROWS || most(if kept.block == 1 { MOST_SINGLE } else { MOST });
    (less, most(MOST_OF_HALF) && !integer)
}

/// How panels of kept columns lie in scratch: values, or words of codes with their tables behind a panel of codes; then where the
/// elements of some panels' lists lie in a row.
pub(super) fn layout(n: usize, blocks: &KeptBlocks<'_>, integer: bool) -> PanelLayout {
    let (all, rows) = (n.div_ceil(PANEL).max(1), blocks.kept.rows());
    let each = if integer { rows / FOUR * PANEL * 4 } else { rows * PANEL * 4 };
    let panels = (PANELS_BYTES / each.max(1)).clamp(all.min(TOGETHER), all);
    let codes = if integer { rows.next_multiple_of(BLOCK) * PANEL } else { 0 };
    let tables = if integer { panels * PANEL * 8 } else { 0 };
    let bytes = panels * each + codes + tables + TOGETHER * rows * 4;
    PanelLayout { panels, codes, groups: 1, pairs: each, bytes: bytes.next_multiple_of(64) }
}

/// Words of the codes that panels keep, with their scales and sums.
fn words<'s>(
    ctx: &Context<'_>,
    blocks: &KeptBlocks<'_>,
    (layout, k): (PanelLayout, usize),
    panels: Range<usize>,
    (held, area): (&mut [u8], &'s mut [u8]),
) -> I8Values<'s> {
    let (count, first) = (panels.len(), panels.start);
    let (words, area) = area.split_at_mut(layout.panels * layout.pairs);
    let (codes, tables) = area.split_at_mut(layout.codes);
    let (scales, sums) = tables.split_at_mut(layout.panels * PANEL * 4);
    let words: &mut [u32] = &mut elements_mut(words)[..count * layout.pairs / 4];
    let codes: &mut [i8] = elements_mut(codes);
    let scales = &mut floats_mut(scales)[..count * PANEL];
    let sums: &mut [i32] = &mut elements_mut(sums)[..count * PANEL];
    if Held::of(held).replace(0, first) {
        let tables = scales.chunks_exact_mut(PANEL).zip(sums.chunks_exact_mut(PANEL));
        let each = words.chunks_exact_mut((layout.pairs / 4).max(1)).zip(tables);
        for (panel, (words, (scales, sums))) in panels.zip(each) {
            let out = CodesOut { codes: &mut *codes, scales, sums: &mut *sums };
            blocks.values.fill_codes(panel..panel + 1, out);
            match ctx.kernels.gemm_u8 {
                Some(kernel) => kernel.words_of_codes(codes, words),
                None => words_of_codes(ctx.kernels.loops, codes, words),
            }
            let kept = blocks.kept.list(panel, k).count() * blocks.kept.block / FOUR;
            if kept * PANEL < words.len() {
                // What lies past the end of the list is no part of its columns.
                sums.fill(0);
                for words in words[..kept * PANEL].chunks_exact(PANEL) {
                    for (sum, word) in sums.iter_mut().zip(words) {
                        *sum += word.to_le_bytes().into_iter().map(|q| i32::from(q as i8)).sum::<i32>();
                    }
                }
            }
        }
    }
    I8Values { words, scales, sums }
}

impl<'a> Product<'a> {
    /// One tile of a product with kept blocks.
    #[allow(clippy::too_many_arguments)] // one tile of a loop
    pub(super) fn kept(
        &self,
        ctx: &Context<'_>,
        blocks: &KeptBlocks<'_>,
        layout: PanelLayout,
        panels: Range<usize>,
        (panel_area, row_area): (&mut [u8], &mut [u8]),
        row: usize,
        out: Output<'_>,
        epilogue: &dyn Fn(usize, usize) -> Epilogue<'a>,
    ) {
        let (held, area) = panel_area.split_at_mut(HELD_BYTES);
        let (entries, rows) = (blocks.kept.entries, blocks.kept.rows());
        let lists = &blocks.kept.blocks[panels.start * entries..panels.end * entries];
        let kept = Kept { blocks: lists, ..blocks.kept };
        let (area, places) = area.split_at_mut(layout.bytes - TOGETHER * rows * 4);
        let places: &mut [u32] = elements_mut(places);
        let Some(Quant { zero_point, .. }) = self.input else {
            let values = match blocks.values.borrow_f32(panels.clone()) {
                Some(stored) => stored,
                None => {
                    let values = &mut floats_mut(area)[..panels.len() * rows * PANEL];
                    if Held::of(held).replace(0, panels.start) {
                        blocks.values.fill_f32(panels, values);
                    }
                    values
                }
            };
            self.in_floats(row_area, row, out, epilogue, &mut |out, a, epilogue| {
                ctx.kernels.blocks_f32.run(out, a, kept, values, places, epilogue);
            });
            return;
        };
        let weights = words(ctx, blocks, (layout, self.k), panels, (held, area));
        let (kept, words) = (Kept { block: kept.block / FOUR, ..kept }, TOGETHER * rows / FOUR);
        let places = &mut places[..words];
        let of_row = |row: &[i8], words: &mut [u32]| match ctx.kernels.gemm_u8 {
            Some(kernel) => kernel.words_of_row(row, words),
            None => words_of_row(ctx.kernels.loops, row, words),
        };
        self.in_words(zero_point, row_area, row, out, epilogue, &of_row, &mut |out, x, epilogue| {
            ctx.kernels.blocks_i8.run(out, x, zero_point, kept, &weights, places, epilogue);
        });
    }
}
