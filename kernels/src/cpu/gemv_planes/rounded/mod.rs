//! A few rows of floats, rounded to 8 bits by groups of columns, times weights as a pack stores them.
//!
//! ```text
//! scale[g] = max |x[k]| over k in g, / 127
//! q[k]     = round(x[k] * (127 / max)), ties to even        0 where the group is
//! t[g]     = sum over k in g of w * q                        exact, i32; w: see the folder's module
//! acc      = fma(f32(t[g]), s[g] * gain * step * scale[g], acc)      g ascending, from 0
//! y        = epilogue(acc)
//! ```
//! Rows lose what rounding takes, at most half of `scale[g]` an element.

#[cfg(test)]
mod scalar;
#[cfg(test)]
mod tests;
#[cfg(target_arch = "x86_64")]
mod vnni;

use super::super::loops::{self, LANES, fold_lanes, join_lanes};
use super::super::math::{self, ROUND};
use super::{BLOCK, Epilogue, Isa, Output, PlanePanels, Rows, Task};

/// Largest code.
const TOP: f32 = 127.0;
/// Most columns of a group: more of them would have one large element cost all others their digits.
pub const MAX_GROUP: usize = 64;

/// One implementation.
pub struct Variant {
    /// `op_weights_acts__isa`.
    pub name: &'static str,
    /// What it needs.
    pub isa: Isa,
    /// Most rows that take less time than to join weights once and for all of them.
    pub most_rows: usize,
    run: unsafe fn(&mut Task<'_>),
}

/// Best first; the scalar definition last, in tests.
pub static VARIANTS: &[Variant] = &[
    #[cfg(target_arch = "x86_64")]
    vnni::VARIANT,
    #[cfg(test)]
    scalar::VARIANT,
];

/// The variant at or below `isa` that on this CPU takes less time than products of floats, if there is one.
pub fn select(isa: Isa) -> Option<&'static Variant> {
    VARIANTS.iter().find(|v| v.isa != Isa::Scalar && v.isa <= isa && v.isa.supported())
}

/// Whether there are such products with a weight.
pub fn takes(w: &PlanePanels<'_>) -> bool {
    w.split.bits() <= 8 && w.group.is_multiple_of(BLOCK) && w.group <= MAX_GROUP
}

/// Rows that are rounded.
#[derive(Clone, Copy, Debug)]
pub struct Rounded<'a> {
    /// `[M][ceil(K / 8) * 8]`, 0 past K.
    pub codes: Rows<'a, i8>,
    /// `[groups][M]`.
    pub scales: &'a [f32],
    /// Of the codes of each group, `[groups][M]`.
    pub sums: &'a [i32],
}

/// Rounds rows by groups of so many columns.
///
/// # Panics
/// When a length is not that of [`Rounded`].
pub fn round(
    v: loops::Variant,
    x: Rows<'_, f32>,
    group: usize,
    codes: &mut [i8],
    scales: &mut [f32],
    sums: &mut [i32],
) {
    let (m, k) = (x.rows(), x.cols());
    let (whole, groups) = (k.next_multiple_of(BLOCK), k.div_ceil(group));
    assert_eq!((codes.len(), scales.len(), sums.len()), (m * whole, m * groups, m * groups), "rounded rows");
    for (r, codes) in codes.chunks_exact_mut(whole.max(1)).enumerate() {
        v.run(
            #[inline(always)]
            || {
                for (g, (codes, x)) in codes.chunks_mut(group).zip(x.row(r).chunks(group)).enumerate() {
                    let mut lanes = [0.0; LANES];
                    fold_lanes(
                        &mut lanes,
                        x,
                        #[inline(always)]
                        |most, x: f32| math::max(most, x.abs()),
                    );
                    let most = join_lanes(lanes, math::max);
                    let by = if most > 0.0 { TOP / most } else { 0.0 };
                    let (own, past) = codes.split_at_mut(x.len());
                    let mut sum = 0;
                    for (code, x) in own.iter_mut().zip(x) {
                        // The nearest integer is in the low bits.
                        *code = (x.mul_add(by, ROUND)).to_bits() as u8 as i8;
                    }
                    for code in &*own {
                        sum += i32::from(*code);
                    }
                    past.fill(0);
                    (scales[g * m + r], sums[g * m + r]) = (most / TOP, sum);
                }
            },
        );
    }
}

impl Variant {
    /// `out[M,N] = epilogue(x[M,K] · w[K,N])`, see the module's formula.
    ///
    /// # Panics
    /// When a shape does not fit another one, the weight is none of [`takes`], or the CPU lacks the variant's ISA.
    pub fn run<'a>(
        &self,
        out: impl Into<Output<'a>>,
        x: Rounded<'a>,
        w: &'a PlanePanels<'a>,
        epilogue: &'a Epilogue<'a>,
    ) {
        let (name, out) = (self.name, out.into());
        let (m, n) = (out.rows(), out.cols());
        assert!(self.isa.supported(), "{name}: this CPU lacks {}", self.isa);
        let Rounded { codes, scales, sums } = x;
        assert_eq!(
            (codes.rows(), codes.cols(), codes.runs()),
            (m, w.k.next_multiple_of(BLOCK), 1),
            "{name}: activations (left) and M, K, runs (right)"
        );
        assert!(takes(w), "{name}: {:?}, groups of {}", w.split, w.group);
        assert_eq!([scales.len(), sums.len()], [m * w.groups(); 2], "{name}: scales and sums of rows");
        w.check_lengths(name, n);
        epilogue.check(name, m, n);
        if m == 0 || n == 0 {
            return;
        }
        // SAFETY: the CPU has the ISA, and the shapes agree: both checked above.
        unsafe {
            (self.run)(&mut Task { out, x: codes, zero_point: 0, sums, row_scales: scales, w, epilogue })
        }
    }
}
