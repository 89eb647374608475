//! A few rows of i8 activations times weights as a pack stores them: planes of bits and a scale a group.
//!
//! A matrix that few rows are multiplied with is read once, so that reading it is all the time there is. The other products take codes
//! that were joined before, which writes and reads each of them once more; here codes are joined in registers.
//!
//! The codes `p` of `b` bits lie as [`super::planes`] has them, in units of `[16][8]`, and stand for `w = 2p + 1 - 2^b`; those of a model that
//! came with integers for `w = 2p - 2^b`, with a scale a group alone. With
//! `s` the scale of a column and group as it is stored:
//! ```text
//! a scale a group:   t[g] = sum over k in g of w * (x - zero_point)                    exact, i32
//!                    acc  = fma(f32(t[g]), s[g] * gain * step, acc)                    g ascending, from 0
//! a scale a column:  t    = sum over k of c * (x - zero_point)                         c: planes::Variant::round_codes of w
//!                    acc  = fma(f32(t), largest |s * gain * step| * (2^b - 1) / 127, 0)
//! y = epilogue(acc)
//! ```
//! These are the bits of [`super::gemm_i8`] with the same codes joined.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
pub mod few;
mod floats;
#[cfg(target_arch = "aarch64")]
mod neon;
pub mod rounded;
#[cfg(test)] // nothing runs it: where no variant fits, another product is faster
mod scalar;
#[cfg(test)]
mod tests;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
mod tile;

pub use floats::{FLOAT_VARIANTS, FloatVariant, select_floats};

use super::gemm_f32::{Epilogue, Output, PANEL, Rows};
use super::gemm_i8::{BLOCK, MAX_GROUP_HALF_OFFSET, MAX_GROUP_PLAIN};
use super::isa::Isa;
use super::planes::Plane;

/// Largest 8-bit code of a column.
const TOP: f32 = 127.0;

/// Most rows of any variant.
pub const MAX_ROWS: usize = 16;

/// Most planes of a code.
pub const MAX_PLANES: usize = 6;

/// How the bits of a code are cut into planes, the leading bits first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Split {
    /// One plane of 2 bits.
    Two,
    /// Two planes of 2 bits.
    TwoTwos,
    /// Three planes of 2 bits.
    ThreeTwos,
    /// Four planes of 2 bits.
    FourTwos,
    /// Four planes of 2 bits and one of 4, for products of floats.
    Twelve,
    /// Four planes of 2 bits and two of 4, for products of floats.
    Sixteen,
    /// One plane of 4 bits.
    Four,
    /// One plane of 1 bit and one of 4, for products of rounded rows.
    OneFour,
}

impl Split {
    /// The split into planes of so many bits, when kernels are made for it.
    pub fn of(bits: impl IntoIterator<Item = u32>) -> Option<Split> {
        let mut all = [0; MAX_PLANES];
        let mut count = 0;
        for bits in bits {
            *all.get_mut(count)? = bits;
            count += 1;
        }
        match all[..count] {
            [2] => Some(Split::Two),
            [2, 2] => Some(Split::TwoTwos),
            [2, 2, 2] => Some(Split::ThreeTwos),
            [2, 2, 2, 2] => Some(Split::FourTwos),
            [2, 2, 2, 2, 4] => Some(Split::Twelve),
            [2, 2, 2, 2, 4, 4] => Some(Split::Sixteen),
            [4] => Some(Split::Four),
            [1, 4] => Some(Split::OneFour),
            _ => None,
        }
    }

    /// Bits of the planes; 0 for those that are not there.
    fn planes(self) -> [u32; MAX_PLANES] {
        match self {
            Split::Two => [2, 0, 0, 0, 0, 0],
            Split::TwoTwos => [2, 2, 0, 0, 0, 0],
            Split::ThreeTwos => [2, 2, 2, 0, 0, 0],
            Split::FourTwos => [2, 2, 2, 2, 0, 0],
            Split::Twelve => [2, 2, 2, 2, 4, 0],
            Split::Sixteen => [2, 2, 2, 2, 4, 4],
            Split::Four => [4, 0, 0, 0, 0, 0],
            Split::OneFour => [1, 4, 0, 0, 0, 0],
        }
    }

    /// Whether its first planes are codes of fewer bits by themselves: such codes can be given out with a scale a
    /// column.
    pub fn is_nested(self) -> bool {
        !matches!(self, Split::Four | Split::OneFour)
    }

    /// Whether other products take it than those of rounded rows.
    pub fn is_plain(self) -> bool {
        self != Split::OneFour
    }

    /// Bits of a code.
    pub fn bits(self) -> u32 {
        self.planes().iter().sum()
    }
}

/// Scales as they are stored, little-endian: `[ceil(N/16)][groups][16]`.
#[derive(Clone, Copy, Debug)]
pub enum StoredScales<'a> {
    /// IEEE binary16.
    F16(&'a [u8]),
    /// IEEE binary32.
    F32(&'a [u8]),
}

/// A run of consecutive weight panels.
#[derive(Clone, Copy, Debug)]
pub struct PlanePanels<'a> {
    /// How the planes make up codes.
    pub split: Split,
    /// Whole units, `[ceil(N/16)][ceil(K/8)]` of them in each plane, 0 past K; empty ones past the split's.
    pub planes: [&'a [u8]; MAX_PLANES],
    /// Scales of columns and groups.
    pub scales: StoredScales<'a>,
    /// What a stored scale is multiplied by first.
    pub gain: f32,
    /// What a stored scale is multiplied by then.
    pub step: f32,
    /// K.
    pub k: usize,
    /// k of one scale: a multiple of 8, or K. The last group may be shorter.
    pub group: usize,
    /// Whether codes are given out with a scale a column.
    pub one_scale: bool,
    /// Whether codes stand for odd numbers, else for even ones.
    pub odd: bool,
}

impl<'a> PlanePanels<'a> {
    /// Number of groups along K.
    pub fn groups(&self) -> usize {
        self.k.div_ceil(self.group.max(1))
    }

    /// The planes, of as many bits as they have.
    fn list(&self) -> [Plane<'a>; MAX_PLANES] {
        let mut bits = self.split.planes().into_iter();
        self.planes.map(|bytes| Plane { bits: bits.next().unwrap_or(0), bytes })
    }

    fn check(&self, name: &str, n: usize) {
        let (k, group) = (self.k, self.group);
        let split = self.split;
        assert!(split.bits() <= 8 && split.is_plain(), "{name}: codes of {} bits, {split:?}", split.bits());
        assert!(!self.one_scale || self.split.is_nested(), "{name}: {:?} with a scale a column", self.split);
        assert!(!self.one_scale || self.odd, "{name}: even numbers with a scale a column");
        let (limit, sum) = match self.one_scale {
            true => (MAX_GROUP_PLAIN, k),
            false => (MAX_GROUP_HALF_OFFSET, group.min(k)),
        };
        assert!(sum <= limit, "{name}: {sum} k in a sum, at most {limit} fit i32");
        self.check_lengths(name, n);
    }

    fn check_lengths(&self, name: &str, n: usize) {
        let (k, group) = (self.k, self.group);
        let whole = group > 0 && (group.is_multiple_of(BLOCK) || group >= k);
        assert!(whole, "{name}: group {group} for K = {k}");
        let panels = n.div_ceil(PANEL);
        let need = |each: usize| panels.checked_mul(each);
        for plane in self.list() {
            let unit = PANEL * BLOCK * plane.bits as usize / 8;
            let need = k.div_ceil(BLOCK).checked_mul(unit).and_then(need);
            assert_eq!(
                Some(plane.bytes.len()),
                need,
                "{name}: a plane of {} bits, N = {n}, K = {k}",
                plane.bits
            );
        }
        let (len, size) = match self.scales {
            StoredScales::F16(bytes) => (bytes.len(), 2),
            StoredScales::F32(bytes) => (bytes.len(), 4),
        };
        assert_eq!(
            Some(len),
            need(self.groups() * PANEL * size),
            "{name}: scales for {} groups",
            self.groups()
        );
    }
}

/// A product whose shapes have been checked against each other.
struct Task<'a> {
    out: Output<'a>,
    /// `[M][ceil(K/8) * 8]`
    x: Rows<'a, i8>,
    zero_point: i32,
    /// `[groups][M]`, or none for a scale a column.
    sums: &'a [i32],
    /// Scales of rounded rows, `[groups][M]`.
    row_scales: &'a [f32],
    w: &'a PlanePanels<'a>,
    epilogue: &'a Epilogue<'a>,
}

/// One implementation.
pub struct Variant {
    /// `op_weights_acts__isa`.
    pub name: &'static str,
    /// What it needs.
    pub isa: Isa,
    /// Most rows that take less time than to join codes once and for all of them.
    pub most_rows: usize,
    run: unsafe fn(&mut Task<'_>),
}

/// Best first; the scalar definition last, in tests.
pub static VARIANTS: &[Variant] = &[
    #[cfg(target_arch = "x86_64")]
    avx512::VARIANT,
    #[cfg(target_arch = "x86_64")]
    avx2::VARIANT,
    #[cfg(target_arch = "aarch64")]
    neon::DOTPROD,
    #[cfg(target_arch = "aarch64")]
    neon::NEON,
    #[cfg(test)]
    scalar::VARIANT,
];

/// The variant at or below `isa` that on this CPU takes less time than to join codes first, if there is one.
pub fn select(isa: Isa) -> Option<&'static Variant> {
    VARIANTS.iter().find(|v| v.isa != Isa::Scalar && v.isa <= isa && v.isa.supported())
}

impl Variant {
    /// `out[M,N] = epilogue(x[M,K] · w[K,N])`, see the module's formula. Rows of `x` are filled up to a multiple of 8
    /// with zeros. `sums`: of the codes of each row's groups, `[groups][M]`, from
    /// [`super::gemm_i8::Variant::group_sums`]; empty for a scale a column.
    ///
    /// # Panics
    /// When a shape does not fit another one, or the CPU lacks the variant's ISA.
    pub fn run<'a>(
        &self,
        out: impl Into<Output<'a>>,
        x: Rows<'a, i8>,
        zero_point: i32,
        sums: &'a [i32],
        w: &'a PlanePanels<'a>,
        epilogue: &'a Epilogue<'a>,
    ) {
        let (name, out) = (self.name, out.into());
        let (m, n) = (out.rows(), out.cols());
        assert!(self.isa.supported(), "{name}: this CPU lacks {}", self.isa);
        assert_eq!(
            (x.rows(), x.cols()),
            (m, w.k.next_multiple_of(BLOCK)),
            "{name}: activations (left) and M, K (right)"
        );
        assert_eq!(x.runs(), 1, "{name}: rows of several runs");
        assert!((-128..128).contains(&zero_point), "{name}: zero point {zero_point} of i8");
        w.check(name, n);
        let needed = if w.one_scale { 0 } else { m * w.groups() };
        assert_eq!(sums.len(), needed, "{name}: sums given (left) and needed (right)");
        epilogue.check(name, m, n);
        if m == 0 || n == 0 {
            return;
        }
        // SAFETY: the CPU has the ISA, and the shapes agree: both checked above.
        unsafe { (self.run)(&mut Task { out, x, zero_point, sums, row_scales: &[], w, epilogue }) }
    }
}
