//! The transforms in AVX2 registers.

use std::arch::x86_64::{
    __m256, _MM_HINT_T0, _mm_prefetch, _mm256_add_ps, _mm256_fmadd_ps, _mm256_loadu_ps, _mm256_mul_ps,
    _mm256_set1_ps, _mm256_storeu_ps, _mm256_sub_ps,
};

use super::super::gemm_f32::epilogue_avx2::finish;
use super::transform::{self, Lanes};
use super::{Inputs, Isa, Outputs, Variant};
use crate::MatMut;

pub(super) const VARIANT: Variant =
    Variant { name: "winograd_f32_f32__avx2", isa: Isa::Avx2, filter, input, output };

#[derive(Clone, Copy)]
struct Register(__m256);

impl Lanes for Register {
    const WIDTH: usize = 8;

    #[inline(always)]
    unsafe fn load(from: &[f32]) -> Self {
        let from = from[..Self::WIDTH].as_ptr();
        // SAFETY: the caller's promise, and 8 floats.
        Register(unsafe { _mm256_loadu_ps(from) })
    }

    #[inline(always)]
    fn store(self, to: &mut [f32]) {
        let to = to[..Self::WIDTH].as_mut_ptr();
        // SAFETY: 8 floats; there is a value, so the CPU has AVX2.
        unsafe { _mm256_storeu_ps(to, self.0) }
    }

    #[inline(always)]
    fn prefetch(at: *const f32) {
        // SAFETY: a hint, for any address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) }
    }

    #[inline(always)]
    fn plus(self, other: Self) -> Self {
        // SAFETY: there is a value, so the CPU has AVX2.
        Register(unsafe { _mm256_add_ps(self.0, other.0) })
    }

    #[inline(always)]
    fn minus(self, other: Self) -> Self {
        // SAFETY: as in `plus`.
        Register(unsafe { _mm256_sub_ps(self.0, other.0) })
    }

    #[inline(always)]
    fn times(self, factor: f32) -> Self {
        // SAFETY: as in `plus`.
        Register(unsafe { _mm256_mul_ps(self.0, _mm256_set1_ps(factor)) })
    }

    #[inline(always)]
    fn times_plus(self, factor: f32, other: Self) -> Self {
        // SAFETY: as in `plus`; the level has FMA too.
        Register(unsafe { _mm256_fmadd_ps(self.0, _mm256_set1_ps(factor), other.0) })
    }
}

#[target_feature(enable = "avx2,fma")]
fn filter(panel: &[f32], out: &mut MatMut<'_, f32>) {
    // SAFETY: the CPU has what this function needs.
    unsafe { transform::filter::<Register>(panel, out) }
}

#[target_feature(enable = "avx2,fma")]
fn input(task: &Inputs<'_>, out: &mut [f32]) {
    // SAFETY: the CPU has what this function needs.
    unsafe { transform::input::<Register>(task, out) }
}

#[target_feature(enable = "avx2,fma")]
fn output(task: &mut Outputs<'_, '_>) {
    // SAFETY: the CPU has what this function needs.
    unsafe {
        transform::output::<Register>(task, |epilogue, out, m, columns, tile| {
            finish(epilogue, out, m, columns, tile);
        });
    }
}
