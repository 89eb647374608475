//! Winograd's minimal filtering F(4x4, 3x3): a 3 x 3 convolution with a quarter of the multiplications.
//!
//! Four by four results of a tile are made of six by six input elements `d` and the filter `g` as
//! ```text
//! Y = A^T [ (G g G^T) * (B^T d B) ] A            * element by element; summed over the input channels before A
//! ```
//! (Lavin & Gray, "Fast Algorithms for Convolutional Neural Networks", 2016, section 4). Each of the 36 elements is then a
//! product of a matrix of tiles x channels with one of channels x channels, which [`super::gemm_f32`] does. The interpolation
//! points are 0, +-1/sqrt(2), +-sqrt(2) and infinity rather than 0, +-1, +-2: with `p`, `-p` and `1/p`, `-1/p` all four products
//! of a transform are about as large (Barabasz et al., "Error analysis and improving the accuracy of Winograd convolution for
//! deep neural networks", 2020).
//!
//! The greatest error over random images and filters is at most eight times that of the direct sum in f32 with one channel, at most
//! three times from 16 channels on. Every operation and its order is part of the definition, so all variants give the same bits.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "aarch64")]
mod neon;
mod scalar;
#[cfg(test)]
mod tests;
mod transform;

use std::ops::Range;

use super::gemm_f32::{self, Epilogue, Output, PANEL, Rows};
use super::im2col::ConvShape;
use super::isa::Isa;
use crate::MatMut;

/// Results along a side of a tile.
pub const TILE: usize = 4;
/// Input elements along a side of a tile.
const SIDE: usize = TILE + 2;
/// Matrix products.
pub const POINTS: usize = SIDE * SIDE;

/// Most bytes of a block's transformed inputs and products: a part of any second-level cache, beside the filters.
const BLOCK_BYTES: usize = 512 << 10;
/// A block's tiles are the rows of its products: few are not worth their filters' way from the cache.
const LEAST_TILES: usize = 12;
/// More tiles bring nothing.
const MOST_TILES: usize = 48;
/// Elements between the matrices of two points, past their own: a power of two apart, all 36 would share a few lines of the cache.
const APART: usize = 16;

/// How the matrices of a block lie.
#[derive(Clone, Copy, Debug)]
struct Block {
    /// Most tiles.
    tiles: usize,
    /// Elements of a point's matrix of inputs, `[tiles][C]`.
    inputs: usize,
    /// Elements of a row of products: whole panels.
    width: usize,
    /// Elements of a point's matrix of products, `[tiles][width]`.
    products: usize,
}

/// `None` when it overflows.
fn block(c: usize, n: usize) -> Option<Block> {
    let width = n.checked_next_multiple_of(PANEL)?;
    let tile = c.checked_add(width)?.checked_mul(POINTS * 4)?;
    let tiles = (BLOCK_BYTES / tile.max(1) / LEAST_TILES * LEAST_TILES).clamp(LEAST_TILES, MOST_TILES);
    let inputs = tiles.checked_mul(c)?.checked_add(APART)?;
    let products = tiles.checked_mul(width)?.checked_add(APART)?;
    Some(Block { tiles, inputs, width, products })
}

/// Floats of scratch that [`Variant::run`] needs for `c` input and `n` output channels; `None` for sizes that no memory has.
pub fn scratch_floats(c: usize, n: usize) -> Option<usize> {
    let block = block(c, n)?;
    block.inputs.checked_add(block.products)?.checked_mul(POINTS)
}

/// How the transformed filters lie: floats of a point's panels, `[ceil(N/16)][C][16]`, and from one point to the next; `None` for
/// sizes that no memory has.
pub fn filters(c: usize, n: usize) -> Option<(usize, usize)> {
    let panels = n.checked_next_multiple_of(PANEL)?.checked_mul(c)?;
    let apart = panels.checked_add(APART)?;
    apart.checked_mul(POINTS).map(|_| (panels, apart))
}

/// Filters that [`Variant::transform`] made, as [`filters`] has them.
#[derive(Clone, Copy, Debug)]
pub struct Transformed<'a> {
    /// Of all output channels.
    pub filters: &'a [f32],
    /// How many those are.
    pub n: usize,
    /// The first of those that are wanted, a multiple of 16.
    pub first: usize,
}

/// Whether the convolution is one that tiles can do.
pub fn fits(shape: &ConvShape) -> bool {
    let s = shape;
    (s.kh, s.kw, s.stride_h, s.stride_w, s.dil_h, s.dil_w) == (3, 3, 1, 1, 1, 1) && s.ic > 0
}

/// One implementation.
pub struct Variant {
    /// `op_weights_acts__isa`.
    pub name: &'static str,
    /// What it needs.
    pub isa: Isa,
    filter: unsafe fn(&[f32], &mut MatMut<'_, f32>),
    input: unsafe fn(&Inputs<'_>, &mut [f32]),
    output: unsafe fn(&mut Outputs<'_, '_>),
}

/// Best first; scalar last.
pub static VARIANTS: &[Variant] = &[
    #[cfg(target_arch = "x86_64")]
    avx512::VARIANT,
    #[cfg(target_arch = "x86_64")]
    avx2::VARIANT,
    #[cfg(target_arch = "aarch64")]
    neon::VARIANT,
    scalar::VARIANT,
];

/// The best variant at or below `isa` that this CPU runs.
pub fn select(isa: Isa) -> &'static Variant {
    let fits = |variant: &&Variant| variant.isa <= isa && variant.isa.supported();
    VARIANTS.iter().find(fits).unwrap_or(&scalar::VARIANT)
}

/// Some tiles of an image, and what they are made of.
struct Inputs<'a> {
    shape: &'a ConvShape,
    /// Numbers of the tiles, row by row.
    tiles: Range<usize>,
    image: &'a [f32],
    /// Elements between the matrices of two points.
    apart: usize,
}

/// Some tiles of a result, and what they become.
struct Outputs<'a, 'b> {
    shape: &'a ConvShape,
    /// Numbers of the tiles, row by row.
    tiles: Range<usize>,
    /// Output rows that `out` holds.
    rows: Range<usize>,
    /// `[36][tiles][width]`, the points [`Block::products`] apart.
    products: &'a [f32],
    block: Block,
    epilogue: &'a Epilogue<'a>,
    out: &'a mut Output<'b>,
}

/// Tiles along a row of the result.
fn across(shape: &ConvShape) -> usize {
    shape.ow.div_ceil(TILE)
}

impl Variant {
    /// Transforms one panel of filters, `[3][3][C][16]`, into its columns of all 36 matrices: a matrix of 36 x (C * 16).
    ///
    /// # Panics
    /// When the shapes do not fit, or the CPU lacks the variant's ISA.
    pub fn transform(&self, panel: &[f32], mut out: MatMut<'_, f32>) {
        assert!(self.isa.supported(), "{}: this CPU lacks {}", self.name, self.isa);
        assert_eq!(out.rows(), POINTS, "{}: rows of transformed filters (left)", self.name);
        assert_eq!(
            Some(panel.len()),
            out.cols().checked_mul(9),
            "{}: weights (left) and 9 x C x 16 (right)",
            self.name
        );
        assert!(out.cols().is_multiple_of(PANEL), "{}: {} columns of a panel", self.name, out.cols());
        // SAFETY: the CPU has the ISA, checked above.
        unsafe { (self.filter)(panel, &mut out) }
    }

    /// Computes output rows `rows`, which start at a multiple of [`TILE`], into `out`: `rows.len() * ow` pixels x the channels from
    /// `transformed.first` on. `image` is the whole image; `scratch` has [`scratch_floats`] of all output channels.
    ///
    /// # Panics
    /// When a shape does not fit another one, or the CPU lacks the variant's ISA.
    #[allow(clippy::too_many_arguments)] // the operands of a convolution
    pub fn run<'a>(
        &self,
        out: impl Into<Output<'a>>,
        shape: &ConvShape,
        rows: Range<usize>,
        image: &[f32],
        transformed: Transformed<'_>,
        gemm: &gemm_f32::Variant,
        epilogue: &Epilogue<'_>,
        scratch: &mut [f32],
    ) {
        let (s, mut out, name) = (shape, out.into(), self.name);
        assert!(self.isa.supported(), "{name}: this CPU lacks {}", self.isa);
        assert!(fits(s), "{name}: {s:?}");
        assert!(
            rows.start <= rows.end && rows.end <= s.oh && rows.start.is_multiple_of(TILE),
            "{name}: rows {rows:?} of {}",
            s.oh
        );
        assert_eq!(out.rows(), rows.len() * s.ow, "{name}: rows of the result (left) and pixels (right)");
        assert!(s.channel_offset + s.ic <= s.pixel_stride, "{name}: channels of {s:?}");
        let need = s.image_len();
        assert!(
            need.is_some_and(|need| need <= image.len()),
            "{name}: image of {need:?}, got {}",
            image.len()
        );
        let (c, n, Transformed { filters: transformed, n: all, first }) = (s.ic, out.cols(), transformed);
        let (Some(block), Some(floats), Some((_, apart))) =
            (block(c, all), scratch_floats(c, all), filters(c, all))
        else {
            panic!("{name}: {c} x {all} channels overflow")
        };
        assert_eq!(
            transformed.len(),
            apart * POINTS,
            "{name}: filters given (left) for {c} x {all} channels"
        );
        let whole =
            first.is_multiple_of(PANEL) && first + n <= all && (n.is_multiple_of(PANEL) || first + n == all);
        assert!(whole, "{name}: channels {first} to {} of {all}", first + n);
        let width = n.next_multiple_of(PANEL);
        let panels = first * c..(first + width) * c;
        assert!(floats <= scratch.len(), "{name}: scratch of {floats} floats, got {}", scratch.len());
        epilogue.check(name, out.rows(), n);
        if out.rows() == 0 || n == 0 {
            return;
        }
        let (inputs, products) = scratch[..floats].split_at_mut(POINTS * block.inputs);
        let all = rows.start / TILE * across(s)..rows.end.div_ceil(TILE) * across(s);
        // Blocks of equal size.
        let each = all.len().div_ceil(all.len().div_ceil(block.tiles));
        for start in all.clone().step_by(each) {
            let tiles = start..all.end.min(start + each);
            let count = tiles.len();
            let input = Inputs { shape, tiles: tiles.clone(), image, apart: block.inputs };
            // SAFETY: the CPU has the ISA, checked above.
            unsafe { (self.input)(&input, inputs) };
            let matrices = inputs.chunks_exact(block.inputs).zip(products.chunks_exact_mut(block.products));
            for ((input, product), filter) in matrices.zip(transformed.chunks_exact(apart)) {
                // Whole panels: what lies past the last column is not looked at.
                let product = MatMut::new(product, count, width, block.width);
                gemm.run(
                    product,
                    Rows::new(input, count, c, c),
                    &filter[panels.clone()],
                    &Epilogue::default(),
                );
            }
            let (rows, out) = (rows.clone(), &mut out);
            let mut output = Outputs { shape, tiles, rows, products, block, epilogue, out };
            // SAFETY: the CPU has the ISA, checked above.
            unsafe { (self.output)(&mut output) };
        }
    }
}
