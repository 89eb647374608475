//! Transposed convolution as a matrix product and a sum.
//!
//! The product of the input's pixels with the kernel, `[ih * iw][ic] x [ic][kh * kw * oc]`, holds for each input
//! pixel what it adds to each output pixel under its window. Adding those in place would make the result depend
//! on who adds first; here each output pixel collects its own terms instead, in a fixed order, so output rows can
//! be computed in any blocks on any threads.

use std::ops::Range;

#[cfg(target_arch = "x86_64")]
use super::super::gemm_f32::epilogue_avx2;
#[cfg(target_arch = "aarch64")]
use super::super::gemm_f32::epilogue_neon;
use super::super::gemm_f32::{Columns, Epilogue, Output, PANEL, Rows};
use super::super::isa::Isa;

/// A two-dimensional transposed convolution of one NHWC image. A one-dimensional one has `ih = kh = oh = 1`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeconvShape {
    /// Input height.
    pub ih: usize,
    /// Input width.
    pub iw: usize,
    /// Kernel height.
    pub kh: usize,
    /// Kernel width.
    pub kw: usize,
    /// Output channels.
    pub oc: usize,
    /// Output rows from one input row to the next.
    pub stride_h: usize,
    /// Output columns from one input column to the next.
    pub stride_w: usize,
    /// Output rows from one kernel row to the next.
    pub dil_h: usize,
    /// Output columns from one kernel column to the next.
    pub dil_w: usize,
    /// Rows cut off above.
    pub pad_top: usize,
    /// Columns cut off on the left.
    pub pad_left: usize,
    /// Output height, with any output padding; rows that no window reaches get the epilogue of 0.
    pub oh: usize,
    /// Output width.
    pub ow: usize,
}

impl DeconvShape {
    /// Columns of the product: `kh * kw * oc`, ordered `[kh][kw][oc]`.
    pub fn n(&self) -> usize {
        self.kh * self.kw * self.oc
    }

    /// Whether every output pixel is one tap of one input pixel: windows lie side by side.
    pub fn tiles(&self) -> bool {
        let side_by_side = self.kh == self.stride_h && self.kw == self.stride_w;
        let dense = (self.kh == 1 || self.dil_h == 1) && (self.kw == 1 || self.dil_w == 1);
        let whole = self.oh == self.ih * self.kh && self.ow == self.iw * self.kw;
        side_by_side && dense && whole && self.pad_top == 0 && self.pad_left == 0
    }

    /// Input rows that reach output rows `rows`: those whose product [`Variant::run`] needs.
    pub fn input_rows(&self, rows: Range<usize>) -> Range<usize> {
        if rows.is_empty() {
            return 0..0;
        }
        let reach = (self.kh.max(1) - 1) * self.dil_h;
        let first = (rows.start + self.pad_top).saturating_sub(reach).div_ceil(self.stride_h);
        let end = (rows.end - 1 + self.pad_top) / self.stride_h + 1;
        let end = end.min(self.ih);
        first.min(end)..end
    }
}

/// The input coordinate that reaches output coordinate `o` through tap `k`, if there is one.
#[inline(always)]
fn source(o: usize, pad: usize, k: usize, dilation: usize, stride: usize, len: usize) -> Option<usize> {
    let distance = (o + pad).checked_sub(k * dilation)?;
    (distance.is_multiple_of(stride) && distance / stride < len).then_some(distance / stride)
}

/// Lays the product of windows that lie [side by side](DeconvShape::tiles) out as the image: output rows from
/// `first * kh` on, `product` holding one row of `kh * kw * oc` a pixel of the input rows from `first` on. The product
/// is finished already.
///
/// # Panics
/// When the windows overlap or leave gaps, or `out` is not of whole window rows.
pub fn lay_out(shape: &DeconvShape, product: &[f32], out: &mut [f32]) {
    let s = shape;
    assert!(s.tiles(), "windows of {s:?} do not lie side by side");
    let (run, line) = (s.kw * s.oc, s.ow * s.oc);
    if run == 0 || line == 0 || s.kh == 0 {
        return;
    }
    assert_eq!(product.len(), out.len(), "elements of the product and of the image");
    assert!(
        out.len().is_multiple_of(s.kh * line),
        "{} elements in window rows of {}",
        out.len(),
        s.kh * line
    );
    match run {
        // Copies of a known length are moves; others are calls, more than a few bytes are worth.
        1 => runs::<1>(s, product, out),
        2 => runs::<2>(s, product, out),
        4 => runs::<4>(s, product, out),
        _ => {
            each_line(s, product, out, |product, ky, line| {
                for (pixel, to) in product.chunks_exact(s.n()).zip(line.chunks_exact_mut(run)) {
                    to.copy_from_slice(&pixel[ky * run..][..run]);
                }
            });
        }
    }
}

/// [`lay_out`] of runs of `RUN` elements.
fn runs<const RUN: usize>(s: &DeconvShape, product: &[f32], out: &mut [f32]) {
    each_line(s, product, out, |product, ky, line| {
        let pixels = product.as_chunks::<RUN>().0.iter().skip(ky).step_by(s.kh);
        for (from, to) in pixels.zip(line.as_chunks_mut::<RUN>().0) {
            *to = *from;
        }
    });
}

/// Calls `f(product of an input row, kernel row, output row)` for every output row.
fn each_line(s: &DeconvShape, product: &[f32], out: &mut [f32], f: impl Fn(&[f32], usize, &mut [f32])) {
    let line = s.ow * s.oc;
    for (product, out) in product.chunks_exact(s.iw * s.n()).zip(out.chunks_exact_mut(s.kh * line)) {
        for (ky, line) in out.chunks_exact_mut(line).enumerate() {
            f(product, ky, line);
        }
    }
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
    AVX2,
    #[cfg(target_arch = "aarch64")]
    NEON,
    SCALAR,
];

#[cfg(target_arch = "x86_64")]
const AVX2: Variant = Variant { name: "col2im_f32_f32__avx2", isa: Isa::Avx2, run: run_avx2 };
#[cfg(target_arch = "aarch64")]
const NEON: Variant = Variant { name: "col2im_f32_f32__neon", isa: Isa::Neon, run: run_neon };
const SCALAR: Variant = Variant { name: "col2im_f32_f32__scalar", isa: Isa::Scalar, run: run_scalar };

/// The best variant at or below `isa` that this CPU runs.
pub fn select(isa: Isa) -> &'static Variant {
    let fits = |variant: &&Variant| variant.isa <= isa && variant.isa.supported();
    VARIANTS.iter().find(fits).unwrap_or(&SCALAR)
}

/// A sum whose shapes have been checked against each other.
struct Task<'a> {
    out: Output<'a>,
    shape: &'a DeconvShape,
    rows: Range<usize>,
    product: Rows<'a, f32>,
    /// Input row of the product's first row.
    first: usize,
    epilogue: &'a Epilogue<'a>,
}

impl Variant {
    /// Output rows `rows`: `out[pixel][c] = epilogue(sum of product[input pixel][ky][kx][c])` over the taps that
    /// reach the pixel, added in row-major order of `(ky, kx)` from 0.
    ///
    /// `out` is `rows.len() * ow` pixels x `oc`. `product` holds, for the input rows
    /// [`shape.input_rows(rows)`](DeconvShape::input_rows), one row of `kh * kw * oc` a pixel.
    ///
    /// # Panics
    /// When a shape does not fit another one, or the CPU lacks the variant's ISA.
    pub fn run<'a>(
        &self,
        out: impl Into<Output<'a>>,
        shape: &'a DeconvShape,
        rows: Range<usize>,
        product: Rows<'a, f32>,
        epilogue: &'a Epilogue<'a>,
    ) {
        let out = out.into();
        let s = shape;
        assert!(self.isa.supported(), "{}: this CPU lacks {}", self.name, self.isa);
        assert!(
            s.stride_h > 0 && s.stride_w > 0 && s.dil_h > 0 && s.dil_w > 0,
            "{}: a stride of 0 in {s:?}",
            self.name
        );
        assert!(rows.start <= rows.end && rows.end <= s.oh, "{}: rows {rows:?} of {}", self.name, s.oh);
        let (pixels, inputs) = (rows.len() * s.ow, s.input_rows(rows.clone()));
        assert_eq!((out.rows(), out.cols()), (pixels, s.oc), "{}: result (left) for rows (right)", self.name);
        let need = (inputs.len() * s.iw, s.n());
        assert_eq!(
            (product.rows(), product.cols()),
            need,
            "{}: product (left) for input rows (right)",
            self.name
        );
        epilogue.check(self.name, pixels, s.oc);
        let mut task = Task { out, shape, rows, product, first: inputs.start, epilogue };
        // SAFETY: the CPU has the ISA, checked above.
        unsafe { (self.run)(&mut task) }
    }
}

/// The same loops compiled for AVX2: they only move, add and finish rows of 16 floats.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn run_avx2(task: &mut Task<'_>) {
    run(task, epilogue_avx2::finish);
}

/// The same loops with the epilogue of NEON; they use it by themselves.
#[cfg(target_arch = "aarch64")]
#[target_feature(enable = "neon")]
fn run_neon(task: &mut Task<'_>) {
    run(task, epilogue_neon::finish);
}

fn run_scalar(task: &mut Task<'_>) {
    run(task, |epilogue, out, row, columns, tile| epilogue.finish(out, row, columns, tile));
}

/// A tile's epilogue, see [`Epilogue::finish`].
type Finish = unsafe fn(&Epilogue<'_>, &mut Output<'_>, usize, &Columns, &mut [[f32; PANEL]]);

#[inline(always)]
fn run(task: &mut Task<'_>, finish: Finish) {
    let s = *task.shape;
    for start in (0..s.oc).step_by(PANEL) {
        let columns = task.epilogue.columns(start, s.oc);
        let valid = PANEL.min(s.oc - start);
        for (row, oy) in task.rows.clone().enumerate() {
            for ox in 0..s.ow {
                let mut acc = [0.0f32; PANEL];
                for ky in 0..s.kh {
                    let Some(iy) = source(oy, s.pad_top, ky, s.dil_h, s.stride_h, s.ih) else { continue };
                    for kx in 0..s.kw {
                        let Some(ix) = source(ox, s.pad_left, kx, s.dil_w, s.stride_w, s.iw) else {
                            continue;
                        };
                        let terms = task.product.row((iy - task.first) * s.iw + ix);
                        let terms = &terms[(ky * s.kw + kx) * s.oc + start..][..valid];
                        match terms.first_chunk::<PANEL>() {
                            Some(terms) => acc.iter_mut().zip(terms).for_each(|(acc, term)| *acc += term),
                            None => acc.iter_mut().zip(terms).for_each(|(acc, term)| *acc += term),
                        }
                    }
                }
                // SAFETY: the caller's CPU has what this one needs, as it has what the loops need.
                unsafe { finish(task.epilogue, &mut task.out, row * s.ow + ox, &columns, &mut [acc]) };
            }
        }
    }
}
