//! Matrix products with weights of which each panel of 16 columns keeps some blocks of consecutive k: time goes with what is kept.
//!
//! The values of a panel lie as those of a dense one, `[kept * block][16]`, and a list says which blocks of k they are. Elements have
//! 4 bytes: floats, or words of four 8-bit codes as [`super::gemm_u8`] has them, activations made unsigned (`x + 128`).
//! ```text
//! floats:    y = epilogue(sum over the kept k of a[m][k] * w[k][n])          a chain of fused multiply-adds from 0, k ascending
//! integers:  t = sum over the kept k of q * (x - zero_point)                 exact, i32
//!            y = epilogue(fma(f32(t), scale, 0))
//! ```
//! A panel's list ends before the first entry that is not greater than the one before it, or is no block of K: so any bytes are a
//! list, and no k counts twice. Integer results are the bits of a dense product with zeros; those of floats are, too, as long as
//! activations are finite: a zero adds nothing to a chain but a sign.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
#[cfg(target_arch = "aarch64")]
mod neon;
mod scalar;
#[cfg(test)]
mod tests;
mod tiles;

use super::gemm_f32::{Epilogue, Output, PANEL, Rows};
use super::gemm_i8::{BLOCK, MAX_GROUP_PLAIN};
use super::gemm_u8::FOUR;
use super::isa::Isa;
use super::loops;

/// Panels that are multiplied together when rows are few.
pub const TOGETHER: usize = 4;

/// Which blocks of k some panels keep.
#[derive(Clone, Copy, Debug)]
pub struct Kept<'a> {
    /// `[ceil(N/16)][entries]`: indices of blocks, little-endian, ascending; see the module for where a list ends.
    pub blocks: &'a [[u8; 2]],
    /// Entries of a panel's list.
    pub entries: usize,
    /// Elements of a block: consecutive k of floats, or words of four k.
    pub block: usize,
}

impl<'a> Kept<'a> {
    /// Elements of K that the values of a panel have room for.
    pub fn rows(&self) -> usize {
        self.entries * self.block
    }

    /// The list of panel `panel`, for rows of `cols` elements.
    pub fn list(&self, panel: usize, cols: usize) -> impl Iterator<Item = usize> + 'a {
        let (block, mut least) = (self.block, 0);
        let entries = &self.blocks[panel * self.entries..][..self.entries];
        entries.iter().map_while(move |entry| {
            let index = usize::from(u16::from_le_bytes(*entry));
            let valid = index >= least && (index + 1) * block <= cols;
            least = index + 1;
            valid.then_some(index)
        })
    }
}

/// Words of the codes that panels keep, with what makes reals of their sums.
#[derive(Clone, Copy, Debug)]
pub struct I8Values<'a> {
    /// `[ceil(N/16)][kept.rows()][16]`, from [`words_of_codes`].
    pub words: &'a [u32],
    /// `[ceil(N/16)][16]`
    pub scales: &'a [f32],
    /// Sum of a column's codes in the blocks of its panel's list: `[ceil(N/16)][16]`.
    pub sums: &'a [i32],
}

/// One implementation for floats.
pub struct F32Variant {
    /// `op_weights_acts__isa`.
    pub name: &'static str,
    /// What it needs.
    pub isa: Isa,
    run: unsafe fn(&mut Task<'_, f32>),
}

/// One implementation for integers.
pub struct I8Variant {
    /// `op_weights_acts__isa`.
    pub name: &'static str,
    /// What it needs.
    pub isa: Isa,
    run: unsafe fn(&mut Task<'_, u32>),
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
    avx512::I8,
    #[cfg(target_arch = "x86_64")]
    avx2::I8,
    #[cfg(target_arch = "aarch64")]
    neon::I8_DOTPROD,
    #[cfg(target_arch = "aarch64")]
    neon::I8,
    scalar::I8,
];

/// The best variant at or below `isa` that this CPU runs.
pub fn select_f32(isa: Isa) -> &'static F32Variant {
    F32_VARIANTS.iter().find(|v| v.isa <= isa && v.isa.supported()).unwrap_or(&scalar::F32)
}

/// The best variant at or below `isa` that this CPU runs.
pub fn select_i8(isa: Isa) -> &'static I8Variant {
    I8_VARIANTS.iter().find(|v| v.isa <= isa && v.isa.supported()).unwrap_or(&scalar::I8)
}

/// A product whose shapes have been checked against each other.
struct Task<'a, T> {
    out: Output<'a>,
    a: Rows<'a, T>,
    kept: Kept<'a>,
    /// `[ceil(N/16)][kept.rows()][16]`
    values: &'a [T],
    /// Room for where the elements of [`TOGETHER`] panels' lists lie in a row.
    places: &'a mut [u32],
    epilogue: &'a Epilogue<'a>,
    /// What makes reals of whole numbers; nothing for floats.
    reals: Option<Reals<'a>>,
}

/// What makes reals of whole numbers.
#[derive(Clone, Copy)]
struct Reals<'a> {
    scales: &'a [[f32; PANEL]],
    sums: &'a [[i32; PANEL]],
    zero_point: i32,
}

impl<'a, T> Task<'a, T> {
    /// # Panics
    /// When a shape does not fit another one, or the CPU lacks the variant's ISA.
    fn checked(
        (name, isa): (&str, Isa),
        (out, a): (Output<'a>, Rows<'a, T>),
        kept: Kept<'a>,
        values: &'a [T],
        places: &'a mut [u32],
        epilogue: &'a Epilogue<'a>,
    ) -> Task<'a, T> {
        let (m, n) = (out.rows(), out.cols());
        assert!(isa.supported(), "{name}: this CPU lacks {isa}");
        assert_eq!(a.rows(), m, "{name}: rows of A (left) and of C (right)");
        assert!(kept.block > 0, "{name}: blocks of no elements");
        let panels = n.div_ceil(PANEL);
        assert_eq!(Some(kept.blocks.len()), panels.checked_mul(kept.entries), "{name}: lists for N = {n}");
        let rows = kept.entries.checked_mul(kept.block);
        let need = rows.and_then(|rows| rows.checked_mul(PANEL)?.checked_mul(panels));
        assert_eq!(Some(values.len()), need, "{name}: values of {panels} panels");
        let room = rows.and_then(|rows| rows.checked_mul(TOGETHER));
        assert_eq!(Some(places.len()), room, "{name}: room for places");
        assert!(u32::try_from(a.places().0.len()).is_ok(), "{name}: places of rows need 32 bits");
        epilogue.check(name, m, n);
        Task { out, a, kept, values, places, epilogue, reals: None }
    }

    /// Notes where the elements of panel `panel`'s list lie, as of the `index`-th panel of some together: all of them are elements
    /// of row 0. Returns how many there are.
    fn note_places(&mut self, panel: usize, index: usize) -> usize {
        let (len, block) = (self.a.run_len(), self.kept.block);
        let (_, runs) = self.a.places();
        let room = self.kept.rows();
        let places = &mut self.places[index * room..][..room];
        let (mut run, mut start, mut count) = (0, 0, 0);
        for (entry, places) in self.kept.list(panel, self.a.cols()).zip(places.chunks_exact_mut(block)) {
            let first = entry * block;
            while first - start >= len {
                (run, start) = (run + 1, start + len);
            }
            if first - start + block <= len {
                let first = runs[run] + first - start;
                for (i, place) in places.iter_mut().enumerate() {
                    *place = (first + i) as u32;
                }
            } else {
                // A block that begins in one run and ends in another.
                for (i, place) in places.iter_mut().enumerate() {
                    let k = first + i;
                    *place = (runs[k / len] + k % len) as u32;
                }
            }
            count += block;
        }
        count
    }
}

impl F32Variant {
    /// `c[M,N] = epilogue(a[M,K] · w[K,N])`, see the module's formula. `places` has room for [`TOGETHER`] times `kept.rows()`.
    ///
    /// # Panics
    /// When a shape does not fit another one, or the CPU lacks the variant's ISA.
    pub fn run<'a>(
        &self,
        c: impl Into<Output<'a>>,
        a: Rows<'a, f32>,
        kept: Kept<'a>,
        values: &'a [f32],
        places: &'a mut [u32],
        epilogue: &'a Epilogue<'a>,
    ) {
        let mut task = Task::checked((self.name, self.isa), (c.into(), a), kept, values, places, epilogue);
        // SAFETY: the CPU has the ISA and the shapes agree: checked when the task was made.
        unsafe { (self.run)(&mut task) }
    }
}

impl I8Variant {
    /// `out[M,N] = epilogue(x[M,K] · w[K,N])`, see the module's formula. `x` has `ceil(K/4)` words a row from [`words_of_row`], `block`
    /// counts words, and `places` has room for [`TOGETHER`] times `kept.rows()`.
    ///
    /// # Panics
    /// When a shape does not fit another one, or the CPU lacks the variant's ISA.
    #[allow(clippy::too_many_arguments)] // the operands of one product
    pub fn run<'a>(
        &self,
        out: impl Into<Output<'a>>,
        x: Rows<'a, u32>,
        zero_point: i32,
        kept: Kept<'a>,
        w: &I8Values<'a>,
        places: &'a mut [u32],
        epilogue: &'a Epilogue<'a>,
    ) {
        let (name, out) = (self.name, out.into());
        assert!((-128..128).contains(&zero_point), "{name}: zero point {zero_point} of i8");
        let most = MAX_GROUP_PLAIN / FOUR;
        assert!(kept.rows() <= most, "{name}: {} words kept, at most {most} fit i32", kept.rows());
        let columns = out.cols().next_multiple_of(PANEL);
        let given = (w.scales.len(), w.sums.len());
        assert_eq!(given, (columns, columns), "{name}: scales and sums for N = {}", out.cols());
        let mut task = Task::checked((name, self.isa), (out, x), kept, w.words, places, epilogue);
        let (scales, sums) = (w.scales.as_chunks().0, w.sums.as_chunks().0);
        task.reals = Some(Reals { scales, sums, zero_point });
        // SAFETY: the CPU has the ISA and the shapes agree: checked when the task was made, and above.
        unsafe { (self.run)(&mut task) }
    }
}

/// Words of `K` activations, made unsigned; the last is filled up with zeros.
///
/// # Panics
/// When there are not `ceil(K/4)` words.
pub fn words_of_row(v: loops::Variant, row: &[i8], words: &mut [u32]) {
    assert_eq!(words.len(), row.len().div_ceil(FOUR), "words of {} elements", row.len());
    v.run(
        #[inline(always)]
        || {
            let (fours, rest) = row.as_chunks::<FOUR>();
            for (word, four) in words.iter_mut().zip(fours) {
                *word = u32::from_le_bytes(four.map(|x| x as u8)) ^ 0x8080_8080;
            }
            if let (false, Some(word)) = (rest.is_empty(), words.last_mut()) {
                let byte = |i: usize| rest.get(i).map_or(0, |x| *x as u8);
                *word = u32::from_le_bytes([byte(0), byte(1), byte(2), byte(3)]) ^ 0x8080_8080;
            }
        },
    );
}

/// Words of a panel of codes `[ceil(K/8)][16][8]`, as many rows of 16 as there is room for: `ceil(K/4)`.
///
/// # Panics
/// When lengths are not of one K.
pub fn words_of_codes(v: loops::Variant, codes: &[i8], words: &mut [u32]) {
    let rows = words.len() / PANEL;
    let fits = words.len() == rows * PANEL && codes.len() == (rows * FOUR).next_multiple_of(BLOCK) * PANEL;
    assert!(fits, "{} words of {} codes", words.len(), codes.len());
    v.run(
        #[inline(always)]
        || {
            let blocks = codes.as_chunks::<{ PANEL * BLOCK }>().0;
            for (codes, words) in blocks.iter().zip(words.chunks_mut(2 * PANEL)) {
                for (half, words) in words.chunks_exact_mut(PANEL).enumerate() {
                    for (codes, word) in codes.as_chunks::<BLOCK>().0.iter().zip(words) {
                        let four = [0, 1, 2, 3].map(|i| codes[half * FOUR + i] as u8);
                        *word = u32::from_le_bytes(four);
                    }
                }
            }
        },
    );
}

/// Gathers the elements of `row` that panel `panel` keeps: `kept.rows()` of them, those past its list being `rest`. A product of the
/// gathered row with the values alone is that of the row with the panel.
///
/// # Panics
/// When there is room for fewer.
pub fn gather_f32(kept: &Kept<'_>, panel: usize, row: &[f32], rest: f32, out: &mut [f32]) {
    gather(kept, panel, row, rest, out);
}

/// As [`gather_f32`].
///
/// # Panics
/// When there is room for fewer.
pub fn gather_i8(kept: &Kept<'_>, panel: usize, row: &[i8], rest: i8, out: &mut [i8]) {
    gather(kept, panel, row, rest, out);
}

#[inline(always)]
fn gather<T: Copy>(kept: &Kept<'_>, panel: usize, row: &[T], rest: T, out: &mut [T]) {
    match kept.block {
        1 => gather_blocks::<T, 1>(kept, panel, row, rest, out),
        4 => gather_blocks::<T, 4>(kept, panel, row, rest, out),
        8 => gather_blocks::<T, 8>(kept, panel, row, rest, out),
        block => {
            let out = &mut out[..kept.rows()];
            out.fill(rest);
            for (index, out) in kept.list(panel, row.len()).zip(out.chunks_exact_mut(block)) {
                out.copy_from_slice(&row[index * block..][..block]);
            }
        }
    }
}

#[inline(always)]
fn gather_blocks<T: Copy, const B: usize>(kept: &Kept<'_>, panel: usize, row: &[T], rest: T, out: &mut [T]) {
    let (blocks, from) = (out[..kept.rows()].as_chunks_mut::<B>().0, row.as_chunks::<B>().0);
    let mut count = 0;
    for (index, out) in kept.list(panel, row.len()).zip(blocks.iter_mut()) {
        *out = from[index];
        count += 1;
    }
    blocks[count..].fill([rest; B]);
}
