//! Matrix product of i8 activations, widened to i16 with their zero point taken off, with grouped i16 weight panels:
//! the integer product of CPUs whose 8-bit multiply saturates, and of weights above 8 bits on all.
//!
//! Weights come as panels of 16 columns and pairs of k, `[ceil(N/16)][ceil(K/2)][16][2]`, 0 past K and N. A real
//! weight is `scale * w` with one scale a column and group of consecutive k; a real activation is `sx * x`.
//! ```text
//! t[g]  = sum over k in g of w * x               exact, i32
//! acc   = fma(f32(t[g]), scale[g], acc)          g ascending, from 0
//! y     = epilogue(acc)                          with sx as its scale
//! ```
//! With `w = 2q + 1` (or `q`) and `x` less its zero point these are the sums of [`super::gemm_i8`], so both give the same
//! bits, as do all variants, block sizes and thread counts.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "aarch64")]
mod neon;
mod scalar;
#[cfg(test)]
mod tests;

use super::gemm_f32::{Epilogue, Output, PANEL, Rows};
use super::isa::Isa;
use super::loops;

/// Consecutive k of one column in a panel.
pub const PAIR: usize = 2;

/// Largest size of an activation: i8 less a zero point of i8.
pub const MAX_ACTIVATION: i64 = 255;

/// A run of consecutive weight panels.
#[derive(Clone, Copy, Debug)]
pub struct I16Panels<'a> {
    /// `[ceil(N/16)][ceil(K/2)][16][2]`
    pub weights: &'a [i16],
    /// `[ceil(N/16)][groups][16]`
    pub scales: &'a [f32],
    /// K.
    pub k: usize,
    /// k of one scale: even, or K. The last group may be shorter.
    pub group: usize,
    /// Largest size of a weight: what a group's sums can reach must fit i32. A wrong promise gives wrong results.
    pub largest: i32,
}

impl I16Panels<'_> {
    /// Number of groups along K.
    pub fn groups(&self) -> usize {
        self.k.div_ceil(self.group)
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

/// A product whose shapes have been checked against each other.
struct Task<'a> {
    out: Output<'a>,
    /// `[M][2 ceil(K/2)]`
    x: Rows<'a, i16>,
    w: &'a I16Panels<'a>,
    epilogue: &'a Epilogue<'a>,
}

/// One panel of a run.
#[derive(Clone, Copy)]
struct Panel<'a> {
    /// `[ceil(K/2)][16][2]`
    weights: &'a [i16],
    /// `[groups][16]`
    scales: &'a [[f32; PANEL]],
}

impl<'a> I16Panels<'a> {
    #[inline(always)]
    fn panel(&self, index: usize) -> Panel<'a> {
        let (weights, groups) = (self.k.div_ceil(PAIR) * PANEL * PAIR, self.groups());
        Panel {
            weights: &self.weights[index * weights..][..weights],
            scales: &self.scales.as_chunks().0[index * groups..][..groups],
        }
    }

    /// Panics unless the parts fit `n` columns and every sum fits i32.
    fn check(&self, name: &str, n: usize) {
        let (k, group) = (self.k, self.group);
        assert!(group > 0 && (group.is_multiple_of(PAIR) || group == k), "{name}: group {group} for K = {k}");
        let most = i64::from(self.largest) * MAX_ACTIVATION * group.min(k) as i64;
        assert!(
            most <= i64::from(i32::MAX),
            "{name}: {} products of weights to {} do not fit i32",
            group.min(k),
            self.largest
        );
        let columns = n.div_ceil(PANEL).checked_mul(PANEL);
        let need = |rows: usize| columns.and_then(|columns| columns.checked_mul(rows));
        let pairs = k.div_ceil(PAIR) * PAIR;
        assert_eq!(Some(self.weights.len()), need(pairs), "{name}: weights for N = {n}, K = {k}");
        let groups = self.groups();
        assert_eq!(Some(self.scales.len()), need(groups), "{name}: scales for N = {n}, {groups} groups");
        let fits = |w: &i16| i32::from(*w).abs() <= self.largest;
        debug_assert!(self.weights.iter().all(fits), "{name}: a weight is larger than {}", self.largest);
    }
}

impl Variant {
    /// `out[M,N] = epilogue(x[M,K] · w[K,N])`, see the module's formula. `x` has `2 ceil(K/2)` columns of sizes to
    /// [`MAX_ACTIVATION`]; past K they may hold anything of that size.
    ///
    /// # Panics
    /// When a shape does not fit another one, or the CPU lacks the variant's ISA.
    pub fn run<'a>(
        &self,
        out: impl Into<Output<'a>>,
        x: Rows<'a, i16>,
        w: &'a I16Panels<'a>,
        epilogue: &'a Epilogue<'a>,
    ) {
        let out = out.into();
        let (m, n) = (out.rows(), out.cols());
        assert!(self.isa.supported(), "{}: this CPU lacks {}", self.name, self.isa);
        assert_eq!(x.rows(), m, "{}: rows of activations (left) and of the result (right)", self.name);
        assert_eq!(
            x.cols(),
            w.k.div_ceil(PAIR) * PAIR,
            "{}: columns of activations (left) and K in pairs (right)",
            self.name
        );
        w.check(self.name, n);
        epilogue.check(self.name, m, n);
        // SAFETY: the CPU has the ISA, and the shapes agree: both checked above.
        unsafe { (self.run)(&mut Task { out, x, w, epilogue }) }
    }
}

/// Makes weights of the 8-bit product's codes (see [`super::gemm_i8`]): `w = 2q + 1` when `half_offset`, else `q`, for
/// k below K, 0 past it. `codes` is `[panels][ceil(k/8)][16][8]`, `weights` `[panels][ceil(k/2)][16][2]`.
///
/// # Panics
/// When a length is not of whole panels, or the two differ in panels.
pub fn pairs_of_codes(v: loops::Variant, codes: &[i8], half_offset: bool, k: usize, weights: &mut [i16]) {
    const BLOCK: usize = super::gemm_i8::BLOCK;
    let (code_panel, pair_panel) = (k.div_ceil(BLOCK) * PANEL * BLOCK, k.div_ceil(PAIR) * PANEL * PAIR);
    if k == 0 {
        return;
    }
    assert!(codes.len().is_multiple_of(code_panel), "{} codes in panels of {code_panel}", codes.len());
    let panels = codes.len() / code_panel;
    assert_eq!(weights.len(), panels * pair_panel, "weights given (left) and made (right)");
    let (factor, offset) = if half_offset { (2, 1) } else { (1, 0) };
    v.run(
        #[inline(always)]
        || {
            for (codes, weights) in codes.chunks_exact(code_panel).zip(weights.chunks_exact_mut(pair_panel)) {
                let blocks = codes.as_chunks::<{ PANEL * BLOCK }>().0;
                for (codes, weights) in blocks.iter().zip(weights.chunks_mut(PANEL * BLOCK)) {
                    for (pair, weights) in weights.chunks_exact_mut(PANEL * PAIR).enumerate() {
                        for (lane, w) in weights.as_chunks_mut::<PAIR>().0.iter_mut().enumerate() {
                            for (i, w) in w.iter_mut().enumerate() {
                                *w = i16::from(codes[lane * BLOCK + pair * PAIR + i]) * factor + offset;
                            }
                        }
                    }
                }
                // An odd K leaves half a pair, which must not see the offset.
                if k % PAIR == 1 {
                    let last = weights.len() - PANEL * PAIR;
                    weights[last..].iter_mut().skip(1).step_by(PAIR).for_each(|w| *w = 0);
                }
            }
        },
    );
}

/// Widens `x` to i16 less `zero_point`: `out[m]` has `stride` elements, 0 past those of the row.
///
/// # Panics
/// When a row is longer than `stride`, or `out` is not `[M][stride]`.
pub fn widen(v: loops::Variant, x: Rows<'_, i8>, zero_point: i32, out: &mut [i16], stride: usize) {
    assert!(x.cols() <= stride, "rows of {} elements at stride {stride}", x.cols());
    assert_eq!(out.len(), x.rows() * stride, "elements given (left) and made (right)");
    if stride == 0 {
        return;
    }
    let zero_point = zero_point as i16;
    v.run(
        #[inline(always)]
        || {
            for (row, out) in out.chunks_exact_mut(stride).enumerate() {
                let (values, rest) = out.split_at_mut(x.cols());
                for (out, x) in values.iter_mut().zip(x.row(row)) {
                    *out = i16::from(*x) - zero_point;
                }
                rest.fill(0);
            }
        },
    );
}
