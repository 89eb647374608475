//! A matrix put together from rectangles of other weights: what `tiles` and `view` bind to.

use super::node::Clip;
use super::window::{Window, common};
use super::{BLOCK, CodeForm, CodesOut, MAX_CODE_GROUP, PANEL, Part, Weights, codes};
use edge_kernels::Isa;
use edge_kernels::cpu::planes::{Variant, select};
use std::ops::Range;

/// One rectangle.
pub(super) struct Block {
    /// Where it lies in the whole: rows, and channels of each tap.
    pub(super) window: Window,
    /// What fills it.
    pub(super) clip: Clip,
}

/// Rectangles that cover a matrix `[n, taps * channels]`, each element once.
pub(super) struct Blocks {
    n: usize,
    taps: usize,
    channels: usize,
    blocks: Vec<Block>,
    form: Option<CodeForm>,
    variant: &'static Variant,
}

impl Block {
    /// Whether its columns are the operand's, in the operand's order.
    fn same_columns(&self, channels: usize) -> bool {
        self.clip.width == channels && self.window.channels == (0..channels)
    }

    /// The parts of `cols` that lie in the block, each with the column of the operand that its first one is.
    /// `channels`: those of a tap of the whole.
    fn segments(&self, cols: Range<usize>, channels: usize) -> impl Iterator<Item = (Range<usize>, usize)> {
        let Clip { channel, width, .. } = self.clip;
        let (step, inside, channel, width) = match self.same_columns(channels) {
            // One run through all taps.
            true => (self.window.k(), 0..self.window.k(), 0, self.window.k()),
            false => (channels, self.window.channels.clone(), channel, width),
        };
        (cols.start / step..cols.end.div_ceil(step)).filter_map(move |tap| {
            let first = tap * step + inside.start;
            let shared = common(&cols, &(first..first + inside.len()));
            let source = tap * width + channel + shared.start.saturating_sub(first);
            (!shared.is_empty()).then_some((shared, source))
        })
    }

    /// The rows of the operand that `rows` of the whole, all in the block, are.
    fn rows(&self, rows: &Range<usize>) -> Range<usize> {
        let first = rows.start - self.window.rows.start + self.clip.row;
        first..first + rows.len()
    }
}

impl Blocks {
    /// `blocks` must cover `[n, taps * channels]`, each element once.
    pub(super) fn new(n: usize, taps: usize, channels: usize, blocks: Vec<Block>, isa: Isa) -> Blocks {
        let form = code_form(taps * channels, channels, &blocks);
        Blocks { n, taps, channels, blocks, form, variant: select(isa) }
    }

    /// The part of an operand inside a window; the operand itself when that is all of it.
    pub(super) fn clipped(clip: Clip, window: &Window, isa: Isa) -> Box<dyn Weights> {
        if (clip.weights.n(), clip.weights.k()) == (window.rows.len(), window.k()) {
            return clip.weights;
        }
        let (n, taps, channels) = (window.rows.len(), window.taps, window.channels.len());
        let window = Window { rows: 0..n, taps, channels: 0..channels };
        Box::new(Blocks::new(n, taps, channels, vec![Block { window, clip }], isa))
    }

    /// The one block that some rows of a panel are in, and the panel of its operand that they begin; `None` where they are in several, lie
    /// otherwise, or the operand has no such codes.
    fn panel_below(&self, rows: &Range<usize>) -> Option<(&Block, usize)> {
        let inside =
            |block: &&Block| block.window.rows.start <= rows.start && rows.end <= block.window.rows.end;
        let block = self.blocks.iter().find(inside)?;
        let below = &block.clip.weights;
        let first = block.rows(rows).start;
        let whole = block.same_columns(self.channels) && below.k() == self.k() && below.has_codes_i16();
        (whole && first.is_multiple_of(PANEL)).then_some((block, first / PANEL))
    }

    /// Calls `each` for every piece of the rectangle that one block holds: the block, the piece as a part of its
    /// operand, and the piece's first column in the whole.
    fn pieces(&self, part: &Part, mut each: impl FnMut(&Block, &Part, usize)) {
        for block in &self.blocks {
            let rows = common(&part.rows, &block.window.rows);
            if rows.is_empty() {
                continue;
            }
            let lane = part.lane + rows.start - part.rows.start;
            for (cols, source) in block.segments(part.cols.clone(), self.channels) {
                let piece = Part { rows: block.rows(&rows), cols: source..source + cols.len(), lane };
                each(block, &piece, cols.start);
            }
        }
    }
}

/// The widest groups that never straddle two groups, two taps or two rectangles of what lies below. A scale below is
/// then repeated, never mixed.
fn code_form(k: usize, channels: usize, blocks: &[Block]) -> Option<CodeForm> {
    let half_offset = blocks.first()?.clip.weights.code_form()?.half_offset;
    let (mut group, mut bits) = (0, 0);
    for block in blocks {
        let form = block.clip.weights.code_form()?;
        if form.half_offset != half_offset {
            return None;
        }
        bits = form.bits.max(bits);
        let Window { channels: inside, .. } = &block.window;
        let below = block.clip.weights.k();
        // Edges that no group may straddle; 0 is none. A scale of whole rows has none but those of the block.
        if form.group < below {
            group = gcd(group, form.group);
            if !block.same_columns(channels) {
                group = gcd(gcd(group, block.clip.channel), gcd(block.clip.width, channels));
            }
        }
        if *inside != (0..channels) {
            group = gcd(gcd(group, inside.start), gcd(inside.end, channels));
        }
    }
    let group = if group == 0 { k } else { group };
    let valid = (group.is_multiple_of(BLOCK) || group == k) && group <= MAX_CODE_GROUP;
    valid.then_some(CodeForm { group, half_offset, bits })
}

/// Greatest common divisor; `gcd(0, b) = b`.
fn gcd(a: usize, b: usize) -> usize {
    if a == 0 { b } else { gcd(b % a, a) }
}

impl Weights for Blocks {
    fn n(&self) -> usize {
        self.n
    }

    fn k(&self) -> usize {
        self.taps * self.channels
    }

    fn materialize(&self) -> Vec<f32> {
        let k = self.k();
        let mut out = vec![0.0; self.n * k];
        for Block { window, clip } in &self.blocks {
            let (below, width) = (clip.weights.materialize(), clip.weights.k());
            for (i, r) in window.rows.clone().enumerate() {
                for tap in 0..self.taps {
                    for (j, c) in window.channels.clone().enumerate() {
                        let source = (clip.row + i) * width + tap * clip.width + clip.channel + j;
                        out[r * k + tap * self.channels + c] = below[source];
                    }
                }
            }
        }
        out
    }

    fn fill_part(&self, part: &Part, out: &mut [f32]) {
        self.pieces(part, |block, piece, first| {
            let out = &mut out[(first - part.cols.start) * PANEL..][..piece.cols.len() * PANEL];
            block.clip.weights.fill_part(piece, out);
        });
    }

    fn code_form(&self) -> Option<CodeForm> {
        self.form
    }

    fn fill_codes(&self, panels: Range<usize>, out: CodesOut<'_>) {
        codes::fill(self, self.variant, panels, out);
    }

    fn fill_codes_i16(&self, panels: Range<usize>, codes: &mut [i16], scales: &mut [f32]) {
        let each = PANEL * self.k();
        for ((panel, codes), scales) in
            panels.zip(codes.chunks_exact_mut(each)).zip(scales.chunks_exact_mut(PANEL))
        {
            let Part { rows, .. } = Part::panel(panel, self.n, self.k());
            let Some((block, below)) = self.panel_below(&rows) else {
                codes::fill_i16(self, panel..panel + 1, codes, scales);
                continue;
            };
            block.clip.weights.fill_codes_i16(below..below + 1, codes, scales);
            // The operand may have more rows.
            scales[rows.len()..].fill(0.0);
            if rows.len() < PANEL {
                codes.chunks_exact_mut(PANEL).for_each(|lanes| lanes[rows.len()..].fill(0));
            }
        }
    }

    fn codes_part(&self, part: &Part, at: usize, codes: &mut [i8]) {
        self.pieces(part, |block, piece, first| {
            block.clip.weights.codes_part(piece, at + first - part.cols.start, codes);
        });
    }

    fn scales_at(&self, rows: Range<usize>, col: usize, scales: &mut [f32]) {
        let part = Part { rows, cols: col..col + 1, lane: 0 };
        self.pieces(&part, |block, piece, _| {
            block.clip.weights.scales_at(piece.rows.clone(), piece.cols.start, &mut scales[piece.lanes()]);
        });
    }
}
