//! Convolution to few channels: pixels in the lanes of a vector, where the matrix product has output channels.
//!
//! A panel of 16 columns of which 1 or 8 are wanted wastes most of a product. Here a register holds 16 neighbouring pixels of one
//! input channel, and is multiplied by one weight for each output channel. For that an input row is laid out by channels,
//! and a stride's phases apart: `[channel][phase][pixel]`, with the padding's zeros; the rows of a window lie in a ring.
//!
//! ```text
//! y[pixel][n] = epilogue(sum over k of x[k] * w[k][n])        k = (tap row, tap column, channel), ascending, from 0
//! ```
//! This is the chain of fused multiply-adds of [`super::gemm_f32`] over the gathered windows, with the same bits. The weights are
//! one of its panels, `[K][16]`.

#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "aarch64")]
mod neon;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod ring;
mod scalar;
#[cfg(test)]
mod tests;

use std::ops::Range;

use super::gemm_f32::{Epilogue, Output, PANEL};
use super::im2col::ConvShape;
use super::isa::Isa;

/// Most output channels.
pub const MAX_CHANNELS: usize = 8;

/// Pixels of the widest tile: rows of the ring end in as many more.
const TILE: usize = 128;

/// How input rows lie in the ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Ring {
    /// Rows that a window spans.
    rows: usize,
    /// Pixels of one phase of one channel.
    len: usize,
}

/// What of the sizes does not depend on the caller's data; `None` when it overflows.
fn ring(shape: &ConvShape) -> Option<(Ring, usize)> {
    let span = |taps: usize, dilation: usize| taps.checked_sub(1)?.checked_mul(dilation);
    let rows = span(shape.kh, shape.dil_h)?.checked_add(1)?;
    let across = span(shape.kw, shape.dil_w)?.checked_div(shape.stride_w)?.checked_add(1)?;
    let len = shape.ow.checked_next_multiple_of(PANEL)?.checked_add(TILE)?.checked_add(across)?;
    let each = len.checked_mul(shape.stride_w)?.checked_mul(shape.ic)?;
    Some((Ring { rows, len }, each.checked_mul(rows)?))
}

/// Floats of the ring that [`Variant::run`] needs; `None` for sizes that no memory has.
pub fn scratch_floats(shape: &ConvShape) -> Option<usize> {
    ring(shape).map(|(_, floats)| floats)
}

/// One implementation.
pub struct Variant {
    /// `op_weights_acts__isa`.
    pub name: &'static str,
    /// What it needs.
    pub isa: Isa,
    run: unsafe fn(&mut Task<'_>),
}

/// Best first; scalar last.
pub static VARIANTS: &[Variant] = &[
    #[cfg(target_arch = "x86_64")]
    avx512::VARIANT,
    #[cfg(target_arch = "aarch64")]
    neon::VARIANT,
    scalar::VARIANT,
];

/// The best variant at or below `isa` that this CPU runs.
pub fn select(isa: Isa) -> &'static Variant {
    let fits = |variant: &&Variant| variant.isa <= isa && variant.isa.supported();
    VARIANTS.iter().find(fits).unwrap_or(&scalar::VARIANT)
}

/// A convolution whose shapes have been checked against each other.
struct Task<'a> {
    out: Output<'a>,
    shape: &'a ConvShape,
    /// Output rows; the result's row m is pixel m of these.
    rows: Range<usize>,
    /// `[ih][iw][pixel_stride]`
    image: &'a [f32],
    /// `[K][16]`
    panel: &'a [[f32; PANEL]],
    epilogue: &'a Epilogue<'a>,
    ring: Ring,
    /// `[rows][channel][phase][pixel]`
    scratch: &'a mut [f32],
}

impl Task<'_> {
    /// Kernel rows that fall into the image for output row `oy`.
    #[inline(always)]
    fn taps(&self, oy: usize) -> Range<usize> {
        let s = self.shape;
        let start = oy * s.stride_h;
        let first = s.pad_top.saturating_sub(start).div_ceil(s.dil_h).min(s.kh);
        first..(s.ih + s.pad_top).saturating_sub(start).div_ceil(s.dil_h).clamp(first, s.kh)
    }

    /// Input row under tap row `ky`, which must be in the image.
    #[inline(always)]
    fn row(&self, oy: usize, ky: usize) -> usize {
        oy * self.shape.stride_h + ky * self.shape.dil_h - self.shape.pad_top
    }
}

impl Variant {
    /// Computes output rows `rows` into `out`, `rows.len() * ow` pixels x at most [`MAX_CHANNELS`] channels. `image` is the whole
    /// image; `panel` `[K][16]`; `scratch` has [`scratch_floats`].
    ///
    /// # Panics
    /// When a shape does not fit another one, or the CPU lacks the variant's ISA.
    #[allow(clippy::too_many_arguments)] // the operands of a convolution
    pub fn run<'a>(
        &self,
        out: impl Into<Output<'a>>,
        shape: &'a ConvShape,
        rows: Range<usize>,
        image: &'a [f32],
        panel: &'a [f32],
        epilogue: &'a Epilogue<'a>,
        scratch: &'a mut [f32],
    ) {
        let (s, out, name) = (shape, out.into(), self.name);
        assert!(self.isa.supported(), "{name}: this CPU lacks {}", self.isa);
        assert!(
            s.stride_h > 0 && s.stride_w > 0 && s.dil_h > 0 && s.dil_w > 0,
            "{name}: a stride of 0 in {s:?}"
        );
        assert!(rows.start <= rows.end && rows.end <= s.oh, "{name}: rows {rows:?} of {}", s.oh);
        assert_eq!(out.rows(), rows.len() * s.ow, "{name}: rows of the result (left) and pixels (right)");
        assert!(out.cols() <= MAX_CHANNELS, "{name}: {} channels, at most {MAX_CHANNELS}", out.cols());
        assert!(s.channel_offset + s.ic <= s.pixel_stride, "{name}: channels of {s:?}");
        let need = s.image_len();
        assert!(
            need.is_some_and(|need| need <= image.len()),
            "{name}: image of {need:?}, got {}",
            image.len()
        );
        assert_eq!(panel.len(), s.k() * PANEL, "{name}: weights (left) and K x 16 (right)");
        let Some((ring, floats)) = ring(s) else { panic!("{name}: the ring of {s:?} overflows") };
        assert!(floats <= scratch.len(), "{name}: a ring of {floats} floats, got {}", scratch.len());
        epilogue.check(name, out.rows(), out.cols());
        let (panel, scratch) = (panel.as_chunks().0, &mut scratch[..floats]);
        let mut task = Task { out, shape, rows, image, panel, epilogue, ring, scratch };
        // SAFETY: the CPU has the ISA and the shapes agree, both checked above.
        unsafe { (self.run)(&mut task) }
    }
}
