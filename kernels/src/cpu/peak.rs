//! The most that one core multiplies and adds: what kernels are measured against.
//!
//! Nothing but registers is touched: [`ACCUMULATORS`] independent chains of fused multiply-adds, enough to hide the
//! latency of two ports. Written with intrinsics, because a plain loop is at the compiler's mercy: left scalar, it said a
//! quarter of the truth or less.

use super::isa::Isa;

/// Chains: two ports times a latency of four or five cycles need ten; twelve leave registers for the factor.
pub const ACCUMULATORS: usize = 12;

/// One way to multiply and add f32.
pub struct Variant {
    /// `op_type__isa`.
    pub name: &'static str,
    /// What it needs.
    pub isa: Isa,
    /// f32 of a register.
    pub lanes: usize,
    run: unsafe fn(f32, u64) -> f32,
}

/// Best first; scalar last.
pub static VARIANTS: &[Variant] = &[
    #[cfg(target_arch = "x86_64")]
    Variant { name: "fma_f32__avx512", isa: Isa::Avx512, lanes: 16, run: avx512 },
    #[cfg(target_arch = "x86_64")]
    Variant { name: "fma_f32__avx2", isa: Isa::Avx2, lanes: 8, run: avx2 },
    SCALAR,
];

const SCALAR: Variant = Variant { name: "fma_f32__scalar", isa: Isa::Scalar, lanes: 1, run: scalar };

/// The best variant at or below `isa` that this CPU runs.
pub fn select(isa: Isa) -> &'static Variant {
    let fits = |variant: &&Variant| variant.isa <= isa && variant.isa.supported();
    VARIANTS.iter().find(fits).unwrap_or(&SCALAR)
}

impl Variant {
    /// `x = x * factor + factor`, `rounds` times from 0 in every lane of every chain; the lanes' sum.
    ///
    /// # Panics
    /// When the CPU lacks the variant's ISA.
    pub fn run(&self, factor: f32, rounds: u64) -> f32 {
        assert!(self.isa.supported(), "{}: this CPU lacks {}", self.name, self.isa);
        // SAFETY: the CPU has what the variant needs, checked on the line above.
        unsafe { (self.run)(factor, rounds) }
    }

    /// Floating-point operations of so many rounds; a multiply-add counts as two.
    pub fn operations(&self, rounds: u64) -> u64 {
        2 * (self.lanes * ACCUMULATORS) as u64 * rounds
    }
}

fn scalar(factor: f32, rounds: u64) -> f32 {
    let mut chains = [0f32; ACCUMULATORS];
    for _ in 0..rounds {
        for x in &mut chains {
            *x = x.mul_add(factor, factor);
        }
        // Or all chains would be one: they start alike.
        chains = std::hint::black_box(chains);
    }
    chains.iter().sum()
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn avx2(factor: f32, rounds: u64) -> f32 {
    use std::arch::x86_64::{_mm256_fmadd_ps, _mm256_set1_ps, _mm256_setzero_ps, _mm256_storeu_ps};
    let factor = _mm256_set1_ps(factor);
    let mut chains = [_mm256_setzero_ps(); ACCUMULATORS];
    for chain in &mut chains {
        // Each starts at a zero of its own that the compiler knows nothing of.
        *chain = std::hint::black_box(*chain);
    }
    for _ in 0..rounds {
        for x in &mut chains {
            *x = _mm256_fmadd_ps(*x, factor, factor);
        }
    }
    let mut sum = 0.0;
    for x in chains {
        let mut lanes = [0f32; 8];
        // SAFETY: eight floats.
        unsafe { _mm256_storeu_ps(lanes.as_mut_ptr(), x) };
        sum += lanes.iter().sum::<f32>();
    }
    sum
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn avx512(factor: f32, rounds: u64) -> f32 {
    use std::arch::x86_64::{_mm512_fmadd_ps, _mm512_set1_ps, _mm512_setzero_ps, _mm512_storeu_ps};
    let factor = _mm512_set1_ps(factor);
    let mut chains = [_mm512_setzero_ps(); ACCUMULATORS];
    for chain in &mut chains {
        // As above.
        *chain = std::hint::black_box(*chain);
    }
    for _ in 0..rounds {
        for x in &mut chains {
            *x = _mm512_fmadd_ps(*x, factor, factor);
        }
    }
    let mut sum = 0.0;
    for x in chains {
        let mut lanes = [0f32; 16];
        // SAFETY: sixteen floats.
        unsafe { _mm512_storeu_ps(lanes.as_mut_ptr(), x) };
        sum += lanes.iter().sum::<f32>();
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_variant_does_the_work_it_counts() {
        for variant in VARIANTS.iter().filter(|v| v.isa.supported()) {
            for rounds in [0, 1, 2, 7] {
                // Exact in f32: factor 0.5 gives 1 - 2^-rounds.
                let lane = 1.0 - 0.5f32.powi(rounds as i32);
                let lanes = (variant.lanes * ACCUMULATORS) as f32;
                assert_eq!(variant.run(0.5, rounds), lane * lanes, "{} {rounds}", variant.name);
                assert_eq!(variant.operations(rounds), 2 * lanes as u64 * rounds, "{}", variant.name);
            }
        }
    }
}
