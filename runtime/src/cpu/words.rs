//! Products whose operands lie several in a word along K: pairs of bf16, and fours of 8 bits. Rows of activations become words on their
//! way into the kernel, tile by tile.

use super::panels::{HELD_BYTES, pair_layout};
use super::product::{Product, conv_shape, row_block};
use super::windows::Windows;
use super::{Context, floats};
use crate::plan::{ConvGeometry, Finish, Quant};
use edge_kernels::cpu::gemm_f32::{Epilogue, Output, Rows};
use edge_kernels::cpu::gemm_u8::{FOUR, U8Panels};
use edge_kernels::cpu::im2col::ConvShape;
use edge_kernels::cpu::{gemm_bf16, gemm_u8};
use std::ops::Range;

/// Elements of bf16 in a word.
pub(super) const PAIR: usize = 2;

/// The kernel of a product, when it takes words.
#[derive(Clone, Copy)]
pub(super) enum Words {
    /// It takes elements.
    None,
    Pairs(&'static gemm_bf16::Variant),
    Fours(&'static gemm_u8::Variant),
}

impl Words {
    /// What the plan and the device have for a product.
    pub(super) fn of(ctx: &Context<'_>, finish: Finish, input: Option<Quant>) -> Result<Words, String> {
        match (finish.bf16, ctx.kernels.gemm_bf16, ctx.kernels.gemm_u8) {
            (true, None, _) => Err("the plan is for bf16, which this device has not".into()),
            (true, Some(kernel), _) => Ok(Words::Pairs(kernel)),
            (false, _, Some(kernel)) if finish.one_scale && input.is_some() => Ok(Words::Fours(kernel)),
            _ => Ok(Words::None),
        }
    }

    /// Elements of a word.
    pub(super) fn each(self) -> Option<usize> {
        match self {
            Words::None => None,
            Words::Pairs(_) => Some(PAIR),
            Words::Fours(_) => Some(FOUR),
        }
    }
}

/// Scratch bytes of one worker for a product of bf16 pairs with an `[n, k]` matrix, of a convolution's windows or of rows.
pub(crate) fn pair_scratch(g: Option<&ConvGeometry>, n: usize, k: usize) -> usize {
    let ring = g.and_then(|g| windows(&conv_shape(g, g.ic, 0), PAIR)).map_or(0, |w| w.elements() * 4);
    let rows = row_block(k, g.is_none());
    let gathered = if g.is_some() { (rows * k * 4).next_multiple_of(64) } else { 0 };
    HELD_BYTES + pair_layout(n, k).bytes + ring.max(gathered + rows * k.div_ceil(PAIR) * 4)
}

/// Channels whose words of bytes are filled up with zeros: as few as pictures have, so that to gather windows takes longer.
const FILLED_UP: Range<usize> = 3..8;

/// Windows of words of `each` elements in a ring, the elements of a word of one pixel. Bytes of a few channels, as pictures have, are
/// filled up to whole words.
pub(super) fn windows(shape: &ConvShape, each: usize) -> Option<Windows> {
    let words = ConvShape { ic: shape.ic.div_ceil(each), ..*shape };
    let whole = shape.ic.is_multiple_of(each) || (each == FOUR && FILLED_UP.contains(&shape.ic));
    Windows::new(&words, false).filter(|_| whole)
}

/// Makes words of rows.
fn make<T>(rows: Rows<'_, T>, each: usize, words: &mut [u32], of_row: impl Fn(&[T], &mut [u32])) {
    if rows.stride() == rows.cols() && rows.cols().is_multiple_of(each) && rows.rows() > 0 {
        // Rows that lie densely are one.
        return of_row(rows.all(), words);
    }
    for (r, words) in words.chunks_exact_mut(rows.cols().div_ceil(each).max(1)).enumerate() {
        of_row(rows.row(r), words);
    }
}

impl<'a> Product<'a> {
    /// One tile of bf16 pairs.
    pub(super) fn pairs(
        &self,
        kernel: &gemm_bf16::Variant,
        weights: &[u32],
        row_area: &mut [u8],
        row: usize,
        mut out: Output<'_>,
        epilogue: &dyn Fn(usize, usize) -> Epilogue<'a>,
    ) {
        let (rows, words) = (out.rows(), self.k.div_ceil(PAIR));
        if let Some((windows, image, lines)) = self.ring(row, rows) {
            let ring = &mut super::elements_mut::<u32>(row_area)[..windows.elements()];
            let mut multiply = |first: usize, a: Rows<'_, u32>| {
                let (first, rows) = (first - row, a.rows());
                kernel.run(out.part(first..first + rows), a, weights, &epilogue(first, rows));
            };
            let image = floats(image);
            let channels = PAIR * windows.shape().ic;
            windows.each_in_ring(lines, 0..0, 0, ring, &mut multiply, |y, ox, slot| {
                windows
                    .fill_words(image, channels, [y, ox], 0, slot, |from, to| kernel.pairs_of_row(from, to));
            });
            return;
        }
        let (gathered, made) = self.rows_area(row_area, 4);
        let a: Rows<'_, f32> = self.rows(row, rows, 0.0, super::floats_mut(gathered));
        let made = &mut super::elements_mut::<u32>(made)[..rows * words];
        make(a, PAIR, made, |from, to| kernel.pairs_of_row(from, to));
        kernel.run(out, Rows::new(made, rows, words, words), weights, &epilogue(0, rows));
    }

    /// One tile of fours of 8 bits.
    #[allow(clippy::too_many_arguments)] // one tile of a loop
    pub(super) fn fours(
        &self,
        kernel: &gemm_u8::Variant,
        input: Quant,
        weights: &U8Panels<'_>,
        row_area: &mut [u8],
        row: usize,
        out: Output<'_>,
        epilogue: &dyn Fn(usize, usize) -> Epilogue<'a>,
    ) {
        let zero = input.zero_point;
        let of_row = |row: &[i8], words: &mut [u32]| match self.filled_up() {
            Some(channels) => kernel.words_of_pixels(row, channels, words),
            None => kernel.words_of_row(row, words),
        };
        self.in_words(zero, row_area, row, out, epilogue, &of_row, &mut |out, x, epilogue| {
            kernel.run(out, x, zero, weights, epilogue);
        });
    }

    /// Multiplies the rows of a tile as words of four, which `of_row` makes, by `multiply(part of the result, its rows, its epilogue)`.
    #[allow(clippy::too_many_arguments)] // one tile of a loop
    pub(super) fn in_words(
        &self,
        zero: i32,
        row_area: &mut [u8],
        row: usize,
        mut out: Output<'_>,
        epilogue: &dyn Fn(usize, usize) -> Epilogue<'a>,
        of_row: &dyn Fn(&[i8], &mut [u32]),
        multiply: &mut dyn FnMut(Output<'_>, Rows<'_, u32>, &Epilogue<'a>),
    ) {
        let (rows, words) = (out.rows(), self.k.div_ceil(FOUR));
        if let Some((windows, image, lines)) = self.ring(row, rows) {
            let ring = &mut super::elements_mut::<u32>(row_area)[..windows.elements()];
            let mut multiply = |first: usize, x: Rows<'_, u32>| {
                let (first, rows) = (first - row, x.rows());
                multiply(out.part(first..first + rows), x, &epilogue(first, rows));
            };
            let (image, pad): (&[i8], _) = (super::elements(image), (zero + 128) as u32 * 0x0101_0101);
            let channels = self.filled_up().unwrap_or(FOUR * windows.shape().ic);
            windows.each_in_ring(lines, 0..0, pad, ring, &mut multiply, |y, ox, slot| {
                windows.fill_words(image, channels, [y, ox], pad, slot, of_row);
            });
            return;
        }
        let (gathered, made) = self.rows_area(row_area, 1);
        let x: Rows<'_, i8> = self.rows(row, rows, zero as i8, super::elements_mut(gathered));
        let made = &mut super::elements_mut::<u32>(made)[..rows * words];
        make(x, FOUR, made, of_row);
        multiply(out, Rows::new(made, rows, words, words), &epilogue(0, rows));
    }
}
