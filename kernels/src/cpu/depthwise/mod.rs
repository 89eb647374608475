//! Depthwise convolution of a channels-last image: output channel c sees input channel c only.
//!
//! Weights come as blocks of 16 channels, `[ceil(C/16)][kh * kw][16]`, 0 past C. Taps outside the image are
//! skipped, which for i8 means that padding is the zero point.
//! ```text
//! f32:  acc = fma(x, w, acc) over taps in row-major order, from 0
//! i8:   acc = sum over taps of w * (x - zero_point), exact i32; w = 2q + 1 or q
//! y   = epilogue(f32(acc))            i8: with scale[c] * sx as its scale
//! ```
//! Variants, row ranges and channel ranges all give the same bits.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "aarch64")]
mod neon;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod place;
mod scalar;
#[cfg(test)]
mod tests;
#[cfg(target_arch = "x86_64")]
mod vnni;

use std::ops::Range;

use super::gemm_f32::{Epilogue, Output, PANEL};
use super::isa::Isa;

/// Most taps of an i8 kernel: `255 * 255 * 33_000` still fits i32.
pub const MAX_TAPS_I8: usize = 33_000;

/// The geometry of a depthwise convolution over one image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DepthwiseShape {
    /// Input height.
    pub h: usize,
    /// Input width.
    pub w: usize,
    /// Channels of the image.
    pub c: usize,
    /// Kernel height.
    pub kh: usize,
    /// Kernel width.
    pub kw: usize,
    /// Input rows from one output row to the next.
    pub stride_h: usize,
    /// Input columns from one output column to the next.
    pub stride_w: usize,
    /// Input rows from one kernel row to the next.
    pub dil_h: usize,
    /// Input columns from one kernel column to the next.
    pub dil_w: usize,
    /// Rows of padding above the image.
    pub pad_top: usize,
    /// Columns of padding left of the image.
    pub pad_left: usize,
    /// Output height; what the windows need below the image is padding.
    pub oh: usize,
    /// Output width; what the windows need right of the image is padding.
    pub ow: usize,
}

impl DepthwiseShape {
    /// Kernel rows that fall into the image for output row `oy`.
    #[inline(always)]
    fn rows(&self, oy: usize) -> Range<usize> {
        inside(oy * self.stride_h, self.pad_top, self.dil_h, self.kh, self.h)
    }

    /// Kernel columns that fall into the image for output column `ox`.
    #[inline(always)]
    fn columns(&self, ox: usize) -> Range<usize> {
        inside(ox * self.stride_w, self.pad_left, self.dil_w, self.kw, self.w)
    }

    /// First element of the pixel under tap `(ky, kx)`, which must fall into the image.
    #[inline(always)]
    fn at(&self, (oy, ox): (usize, usize), (ky, kx): (usize, usize)) -> usize {
        let y = oy * self.stride_h + ky * self.dil_h - self.pad_top;
        let x = ox * self.stride_w + kx * self.dil_w - self.pad_left;
        (y * self.w + x) * self.c
    }
}

/// The `i` below `taps` for which `start + i * dilation - pad` is in `[0, len)`.
#[inline(always)]
fn inside(start: usize, pad: usize, dilation: usize, taps: usize, len: usize) -> Range<usize> {
    let first = pad.saturating_sub(start).div_ceil(dilation).min(taps);
    let end = (len + pad).saturating_sub(start).div_ceil(dilation).clamp(first, taps);
    first..end
}

/// What of the result is computed.
#[derive(Clone, Debug)]
pub struct Part {
    /// Output rows; the result's row m is pixel m of these.
    pub rows: Range<usize>,
    /// Channels, from a multiple of 16 on; the end is a multiple of 16 or C.
    pub channels: Range<usize>,
}

/// i8 operands.
#[derive(Clone, Copy, Debug)]
pub struct I8Image<'a> {
    /// `[h][w][c]`
    pub codes: &'a [i8],
    /// Code of zero, -128 to 127.
    pub zero_point: i32,
}

/// A convolution whose shapes have been checked against each other.
struct Task<'a, X, W> {
    out: Output<'a>,
    shape: &'a DepthwiseShape,
    part: &'a Part,
    /// `[h][w][c]`
    src: &'a [X],
    zero_point: i32,
    /// Of the part's channels: `[blocks][taps][16]`
    weights: &'a [W],
    epilogue: &'a Epilogue<'a>,
}

/// One implementation for f32 images and weights.
pub struct F32Variant {
    /// `op_weights_acts__isa`.
    pub name: &'static str,
    /// What it needs.
    pub isa: Isa,
    run: unsafe fn(&mut Task<'_, f32, f32>),
}

/// One implementation for i8 images and i16 weights.
pub struct I8Variant {
    /// `op_weights_acts__isa`.
    pub name: &'static str,
    /// What it needs.
    pub isa: Isa,
    run: unsafe fn(&mut Task<'_, i8, i16>),
}

/// Best first; scalar last.
pub static F32_VARIANTS: &[F32Variant] = &[
    #[cfg(target_arch = "x86_64")]
    avx512::F32,
    #[cfg(target_arch = "x86_64")]
    avx2::F32,
    #[cfg(target_arch = "aarch64")]
    neon::F32,
    scalar::F32,
];

/// Best first; scalar last.
pub static I8_VARIANTS: &[I8Variant] = &[
    #[cfg(target_arch = "x86_64")]
    vnni::I8,
    #[cfg(target_arch = "x86_64")]
    avx512::I8,
    #[cfg(target_arch = "x86_64")]
    avx2::I8,
    #[cfg(target_arch = "aarch64")]
    neon::I8,
    scalar::I8,
];

/// The best f32 variant at or below `isa` that this CPU runs.
pub fn select_f32(isa: Isa) -> &'static F32Variant {
    let fits = |variant: &&F32Variant| variant.isa <= isa && variant.isa.supported();
    F32_VARIANTS.iter().find(fits).unwrap_or(&scalar::F32)
}

/// The best i8 variant at or below `isa` that this CPU runs.
pub fn select_i8(isa: Isa) -> &'static I8Variant {
    let fits = |variant: &&I8Variant| variant.isa <= isa && variant.isa.supported();
    I8_VARIANTS.iter().find(fits).unwrap_or(&scalar::I8)
}

impl<X, W> Task<'_, X, W> {
    /// Panics unless all operands fit the shape and the part.
    fn check(&self, name: &str) {
        let (s, part) = (self.shape, self.part);
        assert!(
            s.stride_h > 0 && s.stride_w > 0 && s.dil_h > 0 && s.dil_w > 0,
            "{name}: a stride of 0 in {s:?}"
        );
        assert!(
            part.rows.start <= part.rows.end && part.rows.end <= s.oh,
            "{name}: rows {:?} of {}",
            part.rows,
            s.oh
        );
        let Range { start, end } = part.channels;
        let whole = start.is_multiple_of(PANEL) && (end.is_multiple_of(PANEL) || end == s.c);
        assert!(whole && start <= end && end <= s.c, "{name}: channels {start}..{end} of {}", s.c);
        let need = s.h.checked_mul(s.w).and_then(|pixels| pixels.checked_mul(s.c));
        assert!(
            need.is_some_and(|need| need <= self.src.len()),
            "{name}: image of {need:?}, got {}",
            self.src.len()
        );
        let (pixels, columns) = (part.rows.len() * s.ow, end - start);
        assert_eq!(
            (self.out.rows(), self.out.cols()),
            (pixels, columns),
            "{name}: result (left) for a part (right)"
        );
        let taps = s.kh.checked_mul(s.kw);
        let weights = taps.and_then(|taps| taps.checked_mul(columns.next_multiple_of(PANEL)));
        assert_eq!(Some(self.weights.len()), weights, "{name}: weights (left) and taps x channels (right)");
        self.epilogue.check(name, pixels, columns);
    }
}

impl F32Variant {
    /// Computes `part` of the convolution into `out`, `part.rows.len() * ow` pixels x the part's channels.
    /// `src` is the whole image `[h][w][c]`; `weights` are the part's blocks `[..][kh * kw][16]`; the epilogue's
    /// operands have the shape of `out`.
    ///
    /// # Panics
    /// When a shape does not fit another one, or the CPU lacks the variant's ISA.
    pub fn run<'a>(
        &self,
        out: impl Into<Output<'a>>,
        shape: &'a DepthwiseShape,
        part: &'a Part,
        src: &'a [f32],
        weights: &'a [f32],
        epilogue: &'a Epilogue<'a>,
    ) {
        let mut task = Task { out: out.into(), shape, part, src, zero_point: 0, weights, epilogue };
        assert!(self.isa.supported(), "{}: this CPU lacks {}", self.name, self.isa);
        task.check(self.name);
        // SAFETY: the CPU has the ISA and the shapes agree, both checked above.
        unsafe { (self.run)(&mut task) }
    }
}

impl I8Variant {
    /// Like [`F32Variant::run`], for an i8 image and weights `2q + 1` or `q`.
    ///
    /// # Panics
    /// When a shape does not fit another one, there are more than [`MAX_TAPS_I8`] taps, or the CPU lacks the
    /// variant's ISA.
    pub fn run<'a>(
        &self,
        out: impl Into<Output<'a>>,
        shape: &'a DepthwiseShape,
        part: &'a Part,
        src: I8Image<'a>,
        weights: &'a [i16],
        epilogue: &'a Epilogue<'a>,
    ) {
        let I8Image { codes, zero_point } = src;
        let mut task = Task { out: out.into(), shape, part, src: codes, zero_point, weights, epilogue };
        assert!(self.isa.supported(), "{}: this CPU lacks {}", self.name, self.isa);
        assert!((-128..128).contains(&zero_point), "{}: zero point {zero_point} of i8", self.name);
        task.check(self.name);
        let taps = shape.kh * shape.kw;
        assert!(taps <= MAX_TAPS_I8, "{}: {taps} taps, at most {MAX_TAPS_I8} fit i32", self.name);
        // SAFETY: the CPU has the ISA and the shapes agree, both checked above.
        unsafe { (self.run)(&mut task) }
    }
}
