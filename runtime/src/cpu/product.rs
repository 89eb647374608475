//! Products with a stored matrix: dense layers and convolutions.
//!
//! A weight is decoded panel by panel into scratch and used at once, so the matrix never exists as a whole. The
//! result is cut into tiles of row block x panel group, as many for each thread; K is never cut, so the number of threads
//! changes no bit.

use super::memory::Views;
use super::panels::{
    Decoded, HELD_BYTES, Held, PanelLayout, float_panels, pair_layout, pair_panels, panel_layout,
};
use super::tail::Tail;
use super::tasks::{balanced, balanced_rows};
use super::window_sums;
use super::windows::Windows;
use super::words::{self, Words};
use super::{Context, Kernels, MatrixView, kept, matrix};
use crate::device::Scratch;
use crate::plan::{ConvGeometry, Finish, Operand, Quant, Step, Stored};
use crate::weights::{CodeForm, KeptBlocks, PANEL};
use edge_kernels::cpu::gemm_f32::{Epilogue, Output, Rows};
use edge_kernels::cpu::gemm_i8::{I8Panels, I8Rows};
use edge_kernels::cpu::gemm_i16::{I16Panels, PAIR, widen};
use edge_kernels::cpu::gemm_u8::FOUR;
use edge_kernels::cpu::im2col::{ConvShape, im2col_rows};
use edge_kernels::{Isa, MatMut};
use std::ops::Range;

/// Bytes of gathered rows that one worker holds: they stay in the L2 beside the panels.
const ROWS_BYTES: usize = 64 << 10;
/// Most rows of a block: enough work to hide the cut.
const MAX_ROWS: usize = 192;
/// A multiple of every kernel's row tile (12, 6 and 3).
const ROW_STEP: usize = 12;

/// Rows of a block for products with `k` columns: f32, or what takes two bytes, pairs of bf16 and i8 in its widened form.
pub(crate) fn row_block(k: usize, two_bytes: bool) -> usize {
    let bytes = k.max(1) * if two_bytes { 2 } else { 4 };
    let rows = (ROWS_BYTES / bytes).clamp(ROW_STEP, MAX_ROWS);
    rows / ROW_STEP * ROW_STEP
}

/// Multiply-adds of a task of a convolution that is cut by rows: about 20 microseconds of a CPU with AVX-512.
pub(super) const WORK: usize = 2 << 20;

/// Scratch bytes of one worker for a ring of windows and, in integer mode, their sums; 0 where windows are gathered.
pub(crate) fn ring_scratch(g: &ConvGeometry, group: Option<usize>) -> usize {
    let shape = conv_shape(g, g.ic, 0);
    let words = group.and_then(|_| words::windows(&shape, FOUR)).map_or(0, |windows| windows.elements() * 4);
    let Some(windows) = Windows::new(&shape, group.is_some()) else { return words };
    let ring = windows.elements() * if group.is_some() { 1 } else { 4 };
    let sums = group.map_or(0, |group| window_sums::scratch(&windows, group));
    words.max(ring.next_multiple_of(64) + sums.next_multiple_of(64))
}

/// The convolution of one group of channels of an image whose pixels are `pitch` elements apart.
pub(super) fn conv_shape(g: &ConvGeometry, pitch: usize, group: usize) -> ConvShape {
    let ic = g.ic / g.groups;
    ConvShape {
        ih: g.ih,
        iw: g.iw,
        ic,
        pixel_stride: pitch,
        channel_offset: group * ic,
        kh: g.kernel[0],
        kw: g.kernel[1],
        stride_h: g.stride[0],
        stride_w: g.stride[1],
        dil_h: g.dilation[0],
        dil_w: g.dilation[1],
        pad_top: g.pad_top,
        pad_left: g.pad_left,
        oh: g.oh,
        ow: g.ow,
    }
}

/// Scratch bytes of one worker for the rows of a block: gathered windows, and in integer mode (`group` k share a scale)
/// what the kernel makes of them, sums or widened rows.
pub(crate) fn row_scratch(k: usize, gathers: bool, group: Option<usize>) -> usize {
    let rows = row_block(k, group.is_some());
    let element = if group.is_some() { 1 } else { 4 };
    let gathered = if gathers { (rows * k * element).next_multiple_of(64) } else { 0 };
    let made = group.map_or(0, |group| {
        let sums = rows * k.div_ceil(group.max(1)) * 4;
        sums.max(rows * k.next_multiple_of(PAIR) * 2)
    });
    gathered + made.next_multiple_of(64)
}

/// Whether a convolution takes less time with pairs of bf16 than with floats: not where each of a few channels' windows would have
/// to be gathered and rounded anew, while floats are multiplied where they lie.
pub(crate) fn pays_in_pairs(g: &ConvGeometry) -> bool {
    let shape = conv_shape(g, g.ic, 0);
    words::windows(&shape, words::PAIR).is_some() || Windows::new(&shape, false).is_none()
}

/// The rows that a product reads.
enum Source<'a> {
    /// `[m, k]` as they lie, so many elements apart.
    Rows(&'a [u8], usize),
    /// Windows of one image.
    Windows(ConvShape, &'a [u8]),
}

/// One product of rows with a matrix, or with the part of a matrix that belongs to one group of channels.
pub(super) struct Product<'a> {
    source: Source<'a>,
    /// How the windows lie when they are not gathered.
    windows: Option<Windows>,
    pub(super) k: usize,
    /// First panel of the matrix.
    panel0: usize,
    /// Row of the whole result (for the residual) where this product starts.
    row0: usize,
    /// Column of the whole result where this product starts.
    col0: usize,
    matrix: &'a MatrixView<'a>,
    pub(super) input: Option<Quant>,
    output: Option<Quant>,
    tail: &'a Tail<'a>,
    /// Multiplies operands that lie several in a word.
    words: Words,
    /// What is multiplied of a matrix that keeps some blocks of columns.
    kept: Option<KeptBlocks<'a>>,
}

pub(crate) fn gemm(
    ctx: &Context<'_>,
    step: &Step,
    mut views: Views<'_>,
    m: usize,
    n: usize,
    k: usize,
    finish: Finish,
) -> Result<(), String> {
    // Of no rows nothing is made, whatever the weight.
    if m == 0 {
        return Ok(());
    }
    if let Some(kernel) = super::gemv::kernel(&ctx.kernels, finish, m, quant_of(&step.inputs[0]).is_some()) {
        return super::gemv::run(ctx, kernel, step, views, [m, n, k], finish);
    }
    let matrix = matrix(ctx, step, &views, 0)?;
    let x = views.inputs[0].unwrap_or_default();
    let (input, output) = (quant_of(&step.inputs[0]), step.outputs[0].quant);
    let (pitch_in, pitch_out) = pitches(step, k, n);
    let tail = Tail::new(ctx, step, &mut views, n, finish, input)?;
    let kept = kept_of(&matrix, finish, input);
    let product = Product {
        source: Source::Rows(x, pitch_in),
        windows: None,
        k,
        panel0: 0,
        row0: 0,
        col0: 0,
        matrix: &matrix,
        input,
        output,
        tail: &tail,
        words: if kept.is_some() { Words::None } else { Words::of(ctx, finish, input)? },
        kept,
    };
    let scratch = Scratch::new(std::mem::take(&mut views.scratch), ctx.pool.threads());
    Held::clear(&scratch, ctx.pool.threads());
    let [out, ..] = views.outputs;
    product.run_bytes(ctx, out, m, n, pitch_out, &scratch);
    Ok(())
}

/// Whether a convolution of floats goes by pixels. Plain loops over pixels are no faster than plain loops over channels.
pub(super) fn is_narrow(kernels: &Kernels, g: &ConvGeometry) -> bool {
    kernels.conv_narrow.isa != Isa::Scalar && super::narrow::scratch(g).is_some()
}

pub(crate) fn conv(
    ctx: &Context<'_>,
    step: &Step,
    mut views: Views<'_>,
    g: &ConvGeometry,
    finish: Finish,
) -> Result<(), String> {
    let (input, output) = (quant_of(&step.inputs[0]), step.outputs[0].quant);
    if input.is_none() && is_narrow(&ctx.kernels, g) {
        return super::narrow::run(ctx, step, views, g, finish);
    }
    let matrix = matrix(ctx, step, &views, 0)?;
    let x = views.inputs[0].unwrap_or_default();
    let tail = Tail::new(ctx, step, &mut views, g.oc, finish, input)?;
    let scratch = Scratch::new(std::mem::take(&mut views.scratch), ctx.pool.threads());
    Held::clear(&scratch, ctx.pool.threads());
    let [out, ..] = views.outputs;
    let oc = g.oc / g.groups;
    let (pixels, element_in, element_out) = (g.oh * g.ow, element(input), element(output));
    let (pitch_in, pitch_out) = pitches(step, g.ic, g.oc);
    let image = g.ih * g.iw * pitch_in * element_in;
    let words = Words::of(ctx, finish, input)?;
    let integer_windows = !ctx.kernels.wide;
    for batch in 0..g.batch {
        for group in 0..g.groups {
            let shape = conv_shape(g, pitch_in, group);
            let kept = kept_of(&matrix, finish, input);
            let windows = match words.each() {
                // A word has no channels of two pixels.
                _ if kept.is_some() && input.is_some() => {
                    words::windows(&shape, FOUR).filter(|_| shape.ic.is_multiple_of(FOUR))
                }
                _ if kept.is_some() => Windows::new(&shape, false),
                Some(each) => words::windows(&shape, each),
                None => Windows::new(&shape, input.is_some()).filter(|_| input.is_none() || integer_windows),
            };
            let product = Product {
                source: Source::Windows(shape, &x[batch * image..x.len().min((batch + 1) * image)]),
                windows,
                k: shape.k(),
                panel0: group * oc.div_ceil(PANEL),
                row0: batch * pixels,
                col0: group * oc,
                matrix: &matrix,
                input,
                output,
                tail: &tail,
                words: if kept.is_some() { Words::None } else { words },
                kept,
            };
            let from = (batch * pixels * pitch_out + group * oc) * element_out;
            let to = out.len().min((batch + 1) * pixels * pitch_out * element_out);
            product.run_bytes(ctx, &mut out[from..to], pixels, oc, pitch_out, &scratch);
        }
    }
    Ok(())
}

/// The blocks that a product takes of its matrix, as the plan has it.
fn kept_of<'a>(matrix: &MatrixView<'a>, finish: Finish, input: Option<Quant>) -> Option<KeptBlocks<'a>> {
    match (matrix, finish.stored) {
        (MatrixView::Weights(w), Some(Stored::Blocks | Stored::BlocksOfPlanes)) => {
            kept::blocks_of(*w, input.is_some())
        }
        _ => None,
    }
}

/// Calls `f(worker, row, column, tile)` for the tiles, so large at most, of an `m x n` result whose rows are `stride` elements apart:
/// floats, or codes when it is quantized.
pub(super) fn result_tiles(
    ctx: &Context<'_>,
    out: &mut [u8],
    [m, n, stride]: [usize; 3],
    quant: Option<Quant>,
    (rows, cols): (usize, usize),
    f: impl Fn(usize, usize, usize, Output<'_>) + Sync,
) {
    match quant {
        None => {
            let mat = MatMut::new(super::floats_mut(out), m, n, stride);
            ctx.pool.tiles(mat, rows, cols, |worker, r, c, out| f(worker, r, c, Output::F32(out)));
        }
        Some(q) => {
            let (mat, inv_scale) = (MatMut::new(super::elements_mut(out), m, n, stride), 1.0 / q.scale);
            ctx.pool.tiles(mat, rows, cols, |worker, r, c, out| {
                f(worker, r, c, Output::I8 { out, inv_scale, zero_point: q.zero_point });
            });
        }
    }
}

/// Elements between the rows of a product's operand (`cols` wide) and of its result (`n` wide).
pub(super) fn pitches(step: &Step, cols: usize, n: usize) -> (usize, usize) {
    let input = step.inputs[0].as_ref().map_or(cols, |o| o.row_pitch(cols));
    (input, step.outputs[0].row_pitch(n))
}

fn quant_of(operand: &Option<Operand>) -> Option<Quant> {
    operand.as_ref().and_then(|o| o.quant)
}

pub(super) fn element(quant: Option<Quant>) -> usize {
    if quant.is_some() { 1 } else { 4 }
}

impl<'a> Product<'a> {
    /// Runs the product into `m` rows of `n` elements, `stride` apart.
    fn run_bytes(
        &self,
        ctx: &Context<'_>,
        out: &mut [u8],
        m: usize,
        n: usize,
        stride: usize,
        scratch: &Scratch<'_, u8>,
    ) {
        if m == 0 || n == 0 {
            return;
        }
        let form = match (self.matrix, self.input) {
            (MatrixView::Weights(w), Some(_)) => w.code_form(),
            _ => None,
        };
        let layout = match (&self.kept, self.words) {
            (Some(blocks), _) => kept::layout(n, blocks, self.input.is_some()),
            (_, Words::Pairs(_)) => pair_layout(n, self.k),
            _ => panel_layout(n, self.k, form),
        };
        let pairs = matches!((self.words, &self.source), (Words::Pairs(_), Source::Rows(..)));
        // Rows that are made pairs of are so once, for all panels that lie there.
        let cols = match self.matrix {
            MatrixView::Panels(_) if pairs => n.next_multiple_of(PANEL),
            _ => layout.panels * PANEL,
        };
        let rows = match (&self.windows, &self.source) {
            (Some(_), Source::Windows(s, _)) => {
                // Rows that two tasks share are copied twice: not too few of their own.
                let rows = WORK / (s.ow * self.k * cols.min(n)).max(1);
                let most = rows.max(2 * s.kh);
                balanced(ctx.pool, s.oh, (s.kh, most), n.div_ceil(cols)) * s.ow
            }
            _ => {
                let most = row_block(self.k, self.input.is_some() || pairs);
                balanced_rows(ctx.pool, m, (ROW_STEP, most), (n.div_ceil(cols), n * self.k))
            }
        };
        result_tiles(ctx, out, [m, n, stride], self.output, (rows, cols), |worker, r, c, out| {
            self.tile(ctx, form, layout, &mut scratch.slot(worker), r, c, out);
        });
    }

    #[allow(clippy::too_many_arguments)] // one tile of the loop above
    fn tile(
        &self,
        ctx: &Context<'_>,
        form: Option<CodeForm>,
        layout: PanelLayout,
        slot: &mut [u8],
        row: usize,
        col: usize,
        out: Output<'_>,
    ) {
        let cols = out.cols();
        let first = self.panel0 + col / PANEL;
        let panels = first..first + cols.div_ceil(PANEL);
        let epilogue =
            |first: usize, rows: usize| self.tail.part(self.row0 + row + first, self.col0 + col, rows, cols);
        let decoded = match self.matrix {
            MatrixView::Weights(_) => HELD_BYTES + layout.bytes,
            MatrixView::Panels(_) => 0,
        };
        let (panel_area, row_area) = slot.split_at_mut(decoded);
        if let Some(blocks) = &self.kept {
            return self.kept(ctx, blocks, layout, panels, (panel_area, row_area), row, out, &epilogue);
        }
        if let Words::Pairs(kernel) = self.words {
            let weights = pair_panels(kernel, self.matrix, layout, panels, panel_area);
            return self.pairs(kernel, weights, row_area, row, out, &epilogue);
        }
        match (self.input, form, self.matrix) {
            (Some(input), Some(form), MatrixView::Weights(w)) => {
                let mut decoded = Decoded::codes(*w, layout, panels, panel_area);
                if let Words::Fours(kernel) = self.words {
                    let weights = decoded.fours(kernel, self.k, self.filled_up());
                    return self.fours(kernel, input, &weights, row_area, row, out, &epilogue);
                }
                self.integer(ctx, input, form, decoded, row_area, row, out, &epilogue);
            }
            _ => {
                let each = self.k * PANEL;
                let weights = float_panels(self.matrix, panels, each, panel_area);
                self.in_floats(row_area, row, out, &epilogue, &mut |out, a, epilogue| {
                    ctx.kernels.gemm_f32.run(out, a, weights, epilogue);
                });
            }
        }
    }

    /// Multiplies the rows of a tile as floats, by `multiply(part of the result, its rows, its epilogue)`.
    pub(super) fn in_floats(
        &self,
        row_area: &mut [u8],
        row: usize,
        mut out: Output<'_>,
        epilogue: &dyn Fn(usize, usize) -> Epilogue<'a>,
        multiply: &mut dyn FnMut(Output<'_>, Rows<'_, f32>, &Epilogue<'a>),
    ) {
        let rows = out.rows();
        if let Some((windows, image, lines)) = self.ring(row, rows) {
            let ring = &mut super::floats_mut(row_area)[..windows.elements()];
            let mut multiply = |first: usize, a: Rows<'_, f32>| {
                let (first, rows) = (first - row, a.rows());
                multiply(out.part(first..first + rows), a, &epilogue(first, rows));
            };
            windows.each(super::elements(image), lines, 0.0, ring, &mut multiply);
            return;
        }
        let (gathered, _) = self.rows_area(row_area, 4);
        let a: Rows<'_, f32> = self.rows(row, rows, 0.0, super::floats_mut(gathered));
        multiply(out, a, &epilogue(0, rows));
    }

    /// One tile of integer codes: by i16 pairs where that is faster, else by the 8-bit product. Both give the same bits.
    #[allow(clippy::too_many_arguments)] // one tile of the loop above
    fn integer(
        &self,
        ctx: &Context<'_>,
        input: Quant,
        form: CodeForm,
        mut decoded: Decoded<'_>,
        row_area: &mut [u8],
        row: usize,
        mut out: Output<'_>,
        epilogue: &dyn Fn(usize, usize) -> Epilogue<'a>,
    ) {
        let (rows, k) = (out.rows(), self.k);
        let weights = I8Panels {
            codes: decoded.codes,
            scales: decoded.scales,
            colsum: decoded.sums,
            k,
            group: form.group,
            half_offset: form.half_offset,
            code_bits: form.bits,
        };
        let groups = k.div_ceil(form.group.max(1));
        if let Some((windows, image, lines)) = self.ring(row, rows) {
            let (ring, sums) = row_area.split_at_mut(windows.elements().next_multiple_of(64));
            let ring = &mut super::elements_mut::<i8>(ring)[..windows.elements()];
            let mut multiply = window_sums::Multiply {
                windows,
                kernel: ctx.kernels.gemm_i8,
                loops: ctx.kernels.loops,
                weights: &weights,
                zero_point: input.zero_point,
                scratch: super::elements_mut(sums),
                each: |first: usize, x: I8Rows<'_>| {
                    let (first, rows) = (first - row, x.rows.rows());
                    let part = out.part(first..first + rows);
                    ctx.kernels.gemm_i8.run(part, x, &weights, &epilogue(first, rows));
                },
            };
            windows.each(super::elements(image), lines, input.zero_point as i8, ring, &mut multiply);
            return;
        }
        let (gathered, made) = self.rows_area(row_area, 1);
        let a: Rows<'_, i8> = self.rows(row, rows, input.zero_point as i8, super::elements_mut(gathered));
        if ctx.kernels.wide {
            decoded.make_pairs(ctx, form, k);
            let columns = k.next_multiple_of(PAIR);
            let wide = &mut super::elements_mut::<i16>(made)[..rows * columns];
            widen(ctx.kernels.loops, a, input.zero_point, wide, columns);
            let largest = if form.half_offset { (1 << form.bits) - 1 } else { 1 << (form.bits - 1) };
            let w =
                I16Panels { weights: decoded.pairs, scales: decoded.scales, k, group: form.group, largest };
            ctx.kernels.gemm_i16.run(out, Rows::new(wide, rows, columns, columns), &w, &epilogue(0, rows));
            return;
        }
        let sums = &mut super::elements_mut::<i32>(made)[..rows * groups];
        ctx.kernels.gemm_i8.row_sums(a, &weights, sums);
        let x = I8Rows { rows: a, zero_point: input.zero_point, row_sums: sums };
        ctx.kernels.gemm_i8.run(out, x, &weights, &epilogue(0, rows));
    }

    /// The ring, the image and the output rows of a task, when its windows are not gathered.
    pub(super) fn ring(&self, row: usize, rows: usize) -> Option<(&Windows, &'a [u8], Range<usize>)> {
        match (&self.windows, &self.source) {
            (Some(windows), Source::Windows(s, image)) => {
                Some((windows, *image, row / s.ow..(row + rows) / s.ow))
            }
            _ => None,
        }
    }

    /// Channels of the pixels whose words of bytes are filled up, when windows of them lie in a ring.
    pub(super) fn filled_up(&self) -> Option<usize> {
        match (&self.windows, &self.source) {
            (Some(_), Source::Windows(s, _)) => (!s.ic.is_multiple_of(FOUR)).then_some(s.ic),
            _ => None,
        }
    }

    /// The part of the row scratch that holds gathered windows, and what follows it.
    pub(super) fn rows_area<'s>(&self, area: &'s mut [u8], element: usize) -> (&'s mut [u8], &'s mut [u8]) {
        let gathered = match self.source {
            Source::Rows(..) => 0,
            Source::Windows(..) => (row_block(self.k, element == 1) * self.k * element).next_multiple_of(64),
        };
        area.split_at_mut(gathered)
    }

    /// Rows `[row, row + rows)` of the left matrix: where they lie, or gathered into scratch.
    pub(super) fn rows<'s, T: bytemuck::Pod>(
        &'s self,
        row: usize,
        rows: usize,
        pad: T,
        gathered: &'s mut [T],
    ) -> Rows<'s, T> {
        match &self.source {
            Source::Rows(bytes, pitch) => {
                let all: &[T] = super::elements(bytes);
                Rows::new(&all[row * pitch..], rows, self.k, *pitch)
            }
            Source::Windows(shape, image) => {
                let out = &mut gathered[..rows * self.k];
                im2col_rows(shape, super::elements(image), row, rows, pad, out, self.k);
                Rows::new(out, rows, self.k, self.k)
            }
        }
    }
}
