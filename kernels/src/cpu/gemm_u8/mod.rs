//! Matrix product of i8 activations with i8 weights of one scale a column, four k at a time.
//!
//! Operands come in fours along K: a word of 32 bits holds four of them, the first in its lowest byte. Activations are rows of words,
//! made unsigned (`x + 128`); weights are panels of 16 columns, `[ceil(N/16)][ceil(K/4)][16]` words, 0 past K.
//! ```text
//! t = sum over k of q * (x - zero_point) = dot(q, x + 128) - (zero_point + 128) * sum(q)        exact, i32
//! y = epilogue(fma(f32(t), scale, 0))
//! ```
//! These are the bits of [`super::gemm_i8`] with plain codes and one group, which takes more instructions: codes there lie as all
//! instruction sets can take them, and a sum of each row's activations is to be made.

#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg_attr(not(test), allow(dead_code, unused_imports))]
// where no variant fits, another product is faster than its own
mod scalar;
#[cfg(test)]
mod tests;

use super::gemm_f32::{self, Epilogue, Output, PANEL, Rows};
use super::gemm_i8::{BLOCK, MAX_GROUP_PLAIN};
use super::isa::Isa;

/// k of a word.
pub const FOUR: usize = 4;

/// A run of consecutive weight panels.
#[derive(Clone, Copy, Debug)]
pub struct U8Panels<'a> {
    /// `[ceil(N/16)][ceil(K/4)][16]`, from [`Variant::words_of_codes`].
    pub words: &'a [u32],
    /// `[ceil(N/16)][16]`
    pub scales: &'a [f32],
    /// Sum of a column's codes: `[ceil(N/16)][16]`.
    pub sums: &'a [i32],
}

/// What makes reals of a product's whole numbers.
pub(in crate::cpu) struct Reals<'a> {
    /// `[ceil(N/16)][16]`
    pub(in crate::cpu) scales: &'a [[f32; PANEL]],
    /// `[ceil(N/16)][16]`
    pub(in crate::cpu) sums: &'a [[i32; PANEL]],
    /// What the sums are multiplied by before they are added.
    pub(in crate::cpu) factor: i32,
}

/// One implementation.
pub struct Variant {
    /// `op_weights_acts__isa`.
    pub name: &'static str,
    /// What it needs.
    pub isa: Isa,
    run: unsafe fn(&mut Task<'_>),
    words_of_row: unsafe fn(&[i8], &mut [u32]),
    words_of_codes: unsafe fn(&[i8], &mut [u32]),
    words_of_pixels: unsafe fn(&[i8], usize, &mut [u32]),
}

/// Best first; the scalar definition last, in tests.
pub static VARIANTS: &[Variant] = &[
    #[cfg(target_arch = "x86_64")]
    avx512::VARIANT,
    #[cfg(test)]
    scalar::VARIANT,
];

/// The variant at or below `isa` that this CPU multiplies faster with than [`super::gemm_i8`], if there is one.
pub fn select(isa: Isa) -> Option<&'static Variant> {
    VARIANTS.iter().find(|v| v.isa != Isa::Scalar && v.isa <= isa && v.isa.supported())
}

/// A product whose shapes have been checked against each other.
struct Task<'a> {
    product: gemm_f32::Task<'a, u32>,
    reals: Reals<'a>,
}

impl Variant {
    /// `out[M,N] = epilogue(x[M,K] · w[K,N])`, see the module's formula; `x` has `ceil(K/4)` words a row from
    /// [`Variant::words_of_row`], and `zero_point` is the code of zero.
    ///
    /// # Panics
    /// When a shape does not fit another one, or the CPU lacks the variant's ISA.
    pub fn run<'a>(
        &self,
        out: impl Into<Output<'a>>,
        x: Rows<'a, u32>,
        zero_point: i32,
        w: &U8Panels<'a>,
        epilogue: &'a Epilogue<'a>,
    ) {
        let (name, out) = (self.name, out.into());
        assert!((-128..128).contains(&zero_point), "{name}: zero point {zero_point} of i8");
        let most = MAX_GROUP_PLAIN / FOUR;
        assert!(x.cols() <= most, "{name}: {} words of a row, at most {most} fit i32", x.cols());
        let columns = out.cols().next_multiple_of(PANEL);
        assert_eq!(
            (w.scales.len(), w.sums.len()),
            (columns, columns),
            "{name}: scales and sums for N = {}",
            out.cols()
        );
        let product = gemm_f32::Task::checked((name, self.isa), out, x, w.words, epilogue);
        let reals =
            Reals { scales: w.scales.as_chunks().0, sums: w.sums.as_chunks().0, factor: -(zero_point + 128) };
        // SAFETY: the CPU has the ISA and the shapes agree: checked when the product was made, and above.
        unsafe { (self.run)(&mut Task { product, reals }) }
    }

    /// Words of `K` activations; the last is filled up with zeros.
    ///
    /// # Panics
    /// When there are not `ceil(K/4)` words, or the CPU lacks the variant's ISA.
    pub fn words_of_row(&self, row: &[i8], words: &mut [u32]) {
        assert!(self.isa.supported(), "{}: this CPU lacks {}", self.name, self.isa);
        assert_eq!(words.len(), row.len().div_ceil(FOUR), "{}: words of {} elements", self.name, row.len());
        // SAFETY: the CPU has the ISA and the lengths agree, both checked above.
        unsafe { (self.words_of_row)(row, words) }
    }

    /// Words of a panel of codes `[ceil(K/8)][16][8]`, as many rows of 16 as there is room for: `ceil(K/4)`.
    ///
    /// # Panics
    /// When lengths are not of one K, or the CPU lacks the variant's ISA.
    pub fn words_of_codes(&self, codes: &[i8], words: &mut [u32]) {
        assert!(self.isa.supported(), "{}: this CPU lacks {}", self.name, self.isa);
        let rows = words.len() / PANEL;
        let fits =
            words.len() == rows * PANEL && codes.len() == (rows * FOUR).next_multiple_of(BLOCK) * PANEL;
        assert!(fits, "{}: {} words of {} codes", self.name, words.len(), codes.len());
        // SAFETY: the CPU has the ISA and the lengths agree, both checked above.
        unsafe { (self.words_of_codes)(codes, words) }
    }

    /// Words of pixels of so many channels, each with words of its own: `ceil(channels / 4)`, filled up with zeros. For
    /// [`words_of_taps`].
    ///
    /// # Panics
    /// When there are not as many pixels as words for them, there are no channels, or the CPU lacks the variant's ISA.
    pub fn words_of_pixels(&self, pixels: &[i8], channels: usize, words: &mut [u32]) {
        assert!(self.isa.supported(), "{}: this CPU lacks {}", self.name, self.isa);
        let (each, name) = (channels.div_ceil(FOUR), self.name);
        let count = pixels.len() / channels;
        let fits = pixels.len() == count * channels && words.len() == count * each;
        assert!(fits, "{name}: {} words of {} elements, {channels} a pixel", words.len(), pixels.len());
        // SAFETY: the CPU has the ISA and the lengths agree, both checked above.
        unsafe { (self.words_of_pixels)(pixels, channels, words) }
    }
}

/// Words of a panel of codes `[ceil(K/8)][16][8]` where the channels of each tap, `K / taps`, have words of their own, filled up with
/// zeros: `[taps][ceil(channels / 4)][16]`.
///
/// # Panics
/// When the codes end before K does, or there are no channels.
pub fn words_of_taps(codes: &[i8], channels: usize, words: &mut [u32]) {
    let each = channels.div_ceil(FOUR);
    for (row, words) in words.chunks_exact_mut(PANEL).enumerate() {
        let (tap, first) = (row / each, row % each * FOUR);
        for (lane, word) in words.iter_mut().enumerate() {
            let code = |i: usize| {
                let k = tap * channels + first + i;
                let at = k / BLOCK * PANEL * BLOCK + lane * BLOCK + k % BLOCK;
                if first + i < channels { codes[at] as u8 } else { 0 }
            };
            *word = u32::from_le_bytes([code(0), code(1), code(2), code(3)]);
        }
    }
}
