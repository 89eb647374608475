//! The most that one core multiplies, adds and reads: what kernels are measured against.
//!
//! Of arithmetic nothing but registers is touched: [`ACCUMULATORS`] independent chains of multiply-adds, enough to hide the latency
//! of two ports. Written with intrinsics, because a plain loop is at the compiler's mercy: left scalar, it said a quarter of the truth or
//! less.

#[cfg(target_arch = "aarch64")]
use super::gemm_i8::{dotprod, i8mm};
use super::isa::Isa;
#[cfg(target_arch = "aarch64")]
use std::arch::aarch64::{int16x8_t, int32x4_t};

/// Chains: two ports times a latency of four or five cycles need ten; twelve leave registers for the factor.
pub const ACCUMULATORS: usize = 12;

/// One way to multiply and add.
pub struct Variant {
    /// `op_type__isa`.
    pub name: &'static str,
    /// What it needs.
    pub isa: Isa,
    /// Multiply-adds of one instruction.
    products: usize,
    run: unsafe fn(u64) -> f32,
}

/// Fused multiply-adds of f32. Best first; scalar last.
pub static F32_VARIANTS: &[Variant] = &[
    #[cfg(target_arch = "x86_64")]
    Variant { name: "fma_f32__avx512", isa: Isa::Avx512, products: 16, run: f32_avx512 },
    #[cfg(target_arch = "x86_64")]
    Variant { name: "fma_f32__avx2", isa: Isa::Avx2, products: 8, run: f32_avx2 },
    #[cfg(target_arch = "aarch64")]
    Variant { name: "fma_f32__neon", isa: Isa::Neon, products: 4, run: f32_neon },
    F32_SCALAR,
];

const F32_SCALAR: Variant =
    Variant { name: "fma_f32__scalar", isa: Isa::Scalar, products: 1, run: f32_scalar };

/// Exact products of i8, or of what they are widened to, added to i32. Best first; scalar last.
pub static I8_VARIANTS: &[Variant] = &[
    #[cfg(target_arch = "x86_64")]
    Variant { name: "dot_i8__avx512_vnni", isa: Isa::Avx512Vnni, products: 64, run: i8_vnni },
    #[cfg(target_arch = "x86_64")]
    Variant { name: "dot_i8__avx2", isa: Isa::Avx2, products: 16, run: i8_avx2 },
    #[cfg(target_arch = "aarch64")]
    Variant { name: "dot_i8__neon_i8mm", isa: Isa::NeonI8mm, products: 32, run: i8_i8mm },
    #[cfg(target_arch = "aarch64")]
    Variant { name: "dot_i8__neon_dotprod", isa: Isa::NeonDotprod, products: 16, run: i8_dotprod },
    #[cfg(target_arch = "aarch64")]
    Variant { name: "dot_i8__neon", isa: Isa::Neon, products: 4, run: i8_neon },
    I8_SCALAR,
];

const I8_SCALAR: Variant = Variant { name: "dot_i8__scalar", isa: Isa::Scalar, products: 1, run: i8_scalar };

/// One way to read memory.
pub struct ReadVariant {
    /// `op__isa`.
    pub name: &'static str,
    /// What it needs.
    pub isa: Isa,
    run: unsafe fn(&[u64]) -> u64,
}

/// Loads in order, as wide as they come. Best first; scalar last, which the compiler vectorises for AArch64.
pub static READ_VARIANTS: &[ReadVariant] = &[
    #[cfg(target_arch = "x86_64")]
    ReadVariant { name: "read__avx512", isa: Isa::Avx512, run: read_avx512 },
    #[cfg(target_arch = "x86_64")]
    ReadVariant { name: "read__avx2", isa: Isa::Avx2, run: read_avx2 },
    READ_SCALAR,
];

const READ_SCALAR: ReadVariant = ReadVariant { name: "read__scalar", isa: Isa::Scalar, run: read_scalar };

/// The best variant at or below `isa` that this CPU runs.
pub fn select_read(isa: Isa) -> &'static ReadVariant {
    let fits = |variant: &&ReadVariant| variant.isa <= isa && variant.isa.supported();
    READ_VARIANTS.iter().find(fits).unwrap_or(&READ_SCALAR)
}

impl ReadVariant {
    /// Reads all of `words`: their exclusive or.
    ///
    /// # Panics
    /// When the CPU lacks the variant's ISA.
    pub fn run(&self, words: &[u64]) -> u64 {
        assert!(self.isa.supported(), "{}: this CPU lacks {}", self.name, self.isa);
        // SAFETY: the CPU has what the variant needs, checked on the line above.
        unsafe { (self.run)(words) }
    }
}

fn read_scalar(words: &[u64]) -> u64 {
    words.iter().fold(0, |all, word| all ^ word)
}

/// A vector variant: eight registers at a time.
#[cfg(target_arch = "x86_64")]
macro_rules! reads {
    ($name:ident, $features:literal, $zero:ident, $load:ident, $xor:ident, $store:ident, $words:literal) => {
        #[target_feature(enable = $features)]
        fn $name(words: &[u64]) -> u64 {
            use std::arch::x86_64::{$load, $store, $xor, $zero};
            let (blocks, rest) = words.as_chunks::<{ 8 * $words }>();
            let mut all = [$zero(); 8];
            for block in blocks {
                for (i, all) in all.iter_mut().enumerate() {
                    // SAFETY: one of the eight registers of a block.
                    *all = $xor(*all, unsafe { $load(block[i * $words..].as_ptr().cast()) });
                }
            }
            let mut result = read_scalar(rest);
            for all in all {
                let mut lanes = [0; $words];
                // SAFETY: as many words as a register has.
                unsafe { $store(lanes.as_mut_ptr().cast(), all) };
                result ^= read_scalar(&lanes);
            }
            result
        }
    };
}

#[cfg(target_arch = "x86_64")]
reads!(read_avx2, "avx2", _mm256_setzero_si256, _mm256_loadu_si256, _mm256_xor_si256, _mm256_storeu_si256, 4);
#[cfg(target_arch = "x86_64")]
reads!(
    read_avx512,
    "avx512f",
    _mm512_setzero_si512,
    _mm512_loadu_si512,
    _mm512_xor_si512,
    _mm512_storeu_si512,
    8
);

fn select(table: &'static [Variant], scalar: &'static Variant, isa: Isa) -> &'static Variant {
    let fits = |variant: &&Variant| variant.isa <= isa && variant.isa.supported();
    table.iter().find(fits).unwrap_or(scalar)
}

/// The best f32 variant at or below `isa` that this CPU runs.
pub fn select_f32(isa: Isa) -> &'static Variant {
    select(F32_VARIANTS, &F32_SCALAR, isa)
}

/// The best i8 variant at or below `isa` that this CPU runs.
pub fn select_i8(isa: Isa) -> &'static Variant {
    select(I8_VARIANTS, &I8_SCALAR, isa)
}

impl Variant {
    /// In every lane of every chain, `rounds` times from 0: f32 `x = x / 2 + 1 / 2`; i8 `x += 1 * 1`, each product on its own. The
    /// sum of all lanes.
    ///
    /// # Panics
    /// When the CPU lacks the variant's ISA.
    pub fn run(&self, rounds: u64) -> f32 {
        assert!(self.isa.supported(), "{}: this CPU lacks {}", self.name, self.isa);
        // SAFETY: the CPU has what the variant needs, checked on the line above.
        unsafe { (self.run)(rounds) }
    }

    /// Operations of so many rounds; a multiply-add counts as two.
    pub fn operations(&self, rounds: u64) -> u64 {
        2 * (self.products * ACCUMULATORS) as u64 * rounds
    }
}

fn f32_scalar(rounds: u64) -> f32 {
    let mut chains = [0f32; ACCUMULATORS];
    for _ in 0..rounds {
        for x in &mut chains {
            *x = x.mul_add(0.5, 0.5);
        }
        // Or all chains would be one: they start alike.
        chains = std::hint::black_box(chains);
    }
    chains.iter().sum()
}

fn i8_scalar(rounds: u64) -> f32 {
    let one = std::hint::black_box(1i8);
    let mut chains = [0i32; ACCUMULATORS];
    for _ in 0..rounds {
        for x in &mut chains {
            *x += i32::from(one) * i32::from(one);
        }
        chains = std::hint::black_box(chains);
    }
    chains.iter().sum::<i32>() as f32
}

/// A vector variant: chains of `$step` from `$zero`, each opaque to the compiler at first, so that they are not found alike;
/// their lanes `$out`, stored by `$store`.
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
macro_rules! chains {
    ($name:ident, $features:literal, $zero:expr, $factor:expr, $step:expr, $store:ident, $lane:ty, $lanes:literal) => {
        #[target_feature(enable = $features)]
        fn $name(rounds: u64) -> f32 {
            #[cfg(target_arch = "aarch64")]
            use std::arch::aarch64::*;
            #[cfg(target_arch = "x86_64")]
            use std::arch::x86_64::*;
            let mut chains = [$zero; ACCUMULATORS];
            for chain in &mut chains {
                *chain = std::hint::black_box(*chain);
            }
            let factor = std::hint::black_box($factor);
            for _ in 0..rounds {
                for x in &mut chains {
                    *x = $step(*x, factor);
                }
            }
            let mut sum = 0.0;
            for x in chains {
                let mut lanes = [<$lane>::default(); $lanes];
                // SAFETY: as many lanes as a register has.
                unsafe { $store(lanes.as_mut_ptr().cast(), x) };
                sum += lanes.iter().map(|&x| x as f32).sum::<f32>();
            }
            sum
        }
    };
}

#[cfg(target_arch = "x86_64")]
chains!(
    f32_avx2,
    "avx2,fma",
    _mm256_setzero_ps(),
    _mm256_set1_ps(0.5),
    |x, half| _mm256_fmadd_ps(x, half, half),
    _mm256_storeu_ps,
    f32,
    8
);
#[cfg(target_arch = "x86_64")]
chains!(
    f32_avx512,
    "avx512f",
    _mm512_setzero_ps(),
    _mm512_set1_ps(0.5),
    |x, half| _mm512_fmadd_ps(x, half, half),
    _mm512_storeu_ps,
    f32,
    16
);
#[cfg(target_arch = "x86_64")]
chains!(
    i8_avx2,
    "avx2",
    _mm256_setzero_si256(),
    _mm256_set1_epi16(1),
    |x, ones| _mm256_add_epi32(x, _mm256_madd_epi16(std::hint::black_box(ones), ones)),
    _mm256_storeu_si256,
    i32,
    8
);
#[cfg(target_arch = "x86_64")]
chains!(
    i8_vnni,
    "avx512f,avx512bw,avx512vnni",
    _mm512_setzero_si512(),
    _mm512_set1_epi8(1),
    |x, ones| _mm512_dpbusd_epi32(x, ones, ones),
    _mm512_storeu_si512,
    i32,
    16
);

#[cfg(target_arch = "aarch64")]
chains!(
    f32_neon,
    "neon",
    vdupq_n_f32(0.0),
    vdupq_n_f32(0.5),
    |x, half| vfmaq_f32(half, x, half),
    vst1q_f32,
    f32,
    4
);
#[cfg(target_arch = "aarch64")]
chains!(i8_neon, "neon", vdupq_n_s32(0), vdupq_n_s16(1), widening, vst1q_s32, i32, 4);
#[cfg(target_arch = "aarch64")]
chains!(
    i8_dotprod,
    "neon,dotprod",
    vdupq_n_s32(0),
    vdupq_n_s8(1),
    |x, ones| dotprod::dot(x, ones, ones),
    vst1q_s32,
    i32,
    4
);
#[cfg(target_arch = "aarch64")]
chains!(
    i8_i8mm,
    "neon,i8mm",
    vdupq_n_s32(0),
    vdupq_n_s8(1),
    |x, ones| i8mm::multiply(x, ones, ones),
    vst1q_s32,
    i32,
    4
);

/// `x + ones * ones` of the lower halves. As an intrinsic the product would be made once for all rounds.
#[cfg(target_arch = "aarch64")]
#[target_feature(enable = "neon")]
#[inline]
fn widening(mut x: int32x4_t, ones: int16x8_t) -> int32x4_t {
    // SAFETY: registers only, and this function has the feature.
    unsafe {
        std::arch::asm!(
            "smlal {x:v}.4s, {ones:v}.4h, {ones:v}.4h",
            x = inout(vreg) x,
            ones = in(vreg) ones,
            options(pure, nomem, nostack, preserves_flags)
        );
    }
    x
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_word_is_read() {
        let words: Vec<u64> = (0..203u64).map(|i| i.wrapping_mul(0x9e37_79b9_7f4a_7c15)).collect();
        for variant in READ_VARIANTS.iter().filter(|v| v.isa.supported()) {
            for n in [0, 1, 31, 32, 64, 65, 203] {
                assert_eq!(variant.run(&words[..n]), read_scalar(&words[..n]), "{} {n}", variant.name);
            }
        }
    }

    #[test]
    fn every_variant_does_the_work_it_counts() {
        for rounds in [0, 1, 2, 7] {
            for variant in F32_VARIANTS.iter().filter(|v| v.isa.supported()) {
                // Exact in f32: 1 - 2^-rounds.
                let lane = 1.0 - 0.5f32.powi(rounds as i32);
                let lanes = (variant.products * ACCUMULATORS) as f32;
                assert_eq!(variant.run(rounds), lane * lanes, "{} {rounds}", variant.name);
            }
            for variant in I8_VARIANTS.iter().filter(|v| v.isa.supported()) {
                assert_eq!(variant.run(rounds) * 2.0, variant.operations(rounds) as f32, "{}", variant.name);
            }
        }
    }
}
