//! The transforms in AVX-512 registers.

use std::arch::x86_64::{
    __m512, _MM_HINT_T0, _mm_prefetch, _mm512_add_ps, _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_mul_ps,
    _mm512_set1_ps, _mm512_storeu_ps, _mm512_sub_ps,
};

use super::super::gemm_f32::epilogue_avx512::finish;
use super::transform::{self, Lanes};
use super::{Inputs, Isa, Outputs, Variant};
use crate::MatMut;

pub(super) const VARIANT: Variant =
    Variant { name: "winograd_f32_f32__avx512", isa: Isa::Avx512, filter, input, output };

#[derive(Clone, Copy)]
struct Register(__m512);

impl Lanes for Register {
    const WIDTH: usize = 16;

    #[inline(always)]
    unsafe fn load(from: &[f32]) -> Self {
        let from = from[..Self::WIDTH].as_ptr();
        // SAFETY: the caller's promise, and 16 floats.
        Register(unsafe { _mm512_loadu_ps(from) })
    }

    #[inline(always)]
    fn store(self, to: &mut [f32]) {
        let to = to[..Self::WIDTH].as_mut_ptr();
        // SAFETY: 16 floats; there is a value, so the CPU has AVX-512.
        unsafe { _mm512_storeu_ps(to, self.0) }
    }

    #[inline(always)]
    fn prefetch(at: *const f32) {
        // SAFETY: a hint, for any address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) }
    }

    #[inline(always)]
    fn plus(self, other: Self) -> Self {
        // SAFETY: there is a value, so the CPU has AVX-512.
        Register(unsafe { _mm512_add_ps(self.0, other.0) })
    }

    #[inline(always)]
    fn minus(self, other: Self) -> Self {
        // SAFETY: as in `plus`.
        Register(unsafe { _mm512_sub_ps(self.0, other.0) })
    }

    #[inline(always)]
    fn times(self, factor: f32) -> Self {
        // SAFETY: as in `plus`.
        Register(unsafe { _mm512_mul_ps(self.0, _mm512_set1_ps(factor)) })
    }

    #[inline(always)]
    fn times_plus(self, factor: f32, other: Self) -> Self {
        // SAFETY: as in `plus`.
        Register(unsafe { _mm512_fmadd_ps(self.0, _mm512_set1_ps(factor), other.0) })
    }
}

#[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl")]
fn filter(panel: &[f32], out: &mut MatMut<'_, f32>) {
    // SAFETY: the CPU has what this function needs.
    unsafe { transform::filter::<Register>(panel, out) }
}

#[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl")]
fn input(task: &Inputs<'_>, out: &mut [f32]) {
    // SAFETY: the CPU has what this function needs.
    unsafe { transform::input::<Register>(task, out) }
}

#[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl")]
fn output(task: &mut Outputs<'_, '_>) {
    // SAFETY: the CPU has what this function needs.
    unsafe {
        transform::output::<Register>(task, |epilogue, out, m, columns, tile| {
            finish(epilogue, out, m, columns, tile);
        });
    }
}
