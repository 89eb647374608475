//! The transforms in NEON registers.

use std::arch::aarch64::{
    float32x4_t, vaddq_f32, vdupq_n_f32, vfmaq_f32, vld1q_f32, vmulq_n_f32, vst1q_f32, vsubq_f32,
};

use super::super::gemm_f32::epilogue_neon::finish;
use super::transform::{self, Lanes};
use super::{Inputs, Isa, Outputs, Variant};
use crate::MatMut;

pub(super) const VARIANT: Variant =
    Variant { name: "winograd_f32_f32__neon", isa: Isa::Neon, filter, input, output };

#[derive(Clone, Copy)]
struct Register(float32x4_t);

impl Lanes for Register {
    const WIDTH: usize = 4;

    #[inline(always)]
    unsafe fn load(from: &[f32]) -> Self {
        let from = from[..Self::WIDTH].as_ptr();
        // SAFETY: the caller's promise, and 4 floats.
        Register(unsafe { vld1q_f32(from) })
    }

    #[inline(always)]
    fn store(self, to: &mut [f32]) {
        let to = to[..Self::WIDTH].as_mut_ptr();
        // SAFETY: 4 floats; there is a value, so the CPU has NEON.
        unsafe { vst1q_f32(to, self.0) }
    }

    #[inline(always)]
    fn plus(self, other: Self) -> Self {
        // SAFETY: there is a value, so the CPU has NEON.
        Register(unsafe { vaddq_f32(self.0, other.0) })
    }

    #[inline(always)]
    fn minus(self, other: Self) -> Self {
        // SAFETY: as in `plus`.
        Register(unsafe { vsubq_f32(self.0, other.0) })
    }

    #[inline(always)]
    fn times(self, factor: f32) -> Self {
        // SAFETY: as in `plus`.
        Register(unsafe { vmulq_n_f32(self.0, factor) })
    }

    #[inline(always)]
    fn times_plus(self, factor: f32, other: Self) -> Self {
        // SAFETY: as in `plus`.
        Register(unsafe { vfmaq_f32(other.0, self.0, vdupq_n_f32(factor)) })
    }
}

#[target_feature(enable = "neon")]
fn filter(panel: &[f32], out: &mut MatMut<'_, f32>) {
    // SAFETY: the CPU has what this function needs.
    unsafe { transform::filter::<Register>(panel, out) }
}

#[target_feature(enable = "neon")]
fn input(task: &Inputs<'_>, out: &mut [f32]) {
    // SAFETY: the CPU has what this function needs.
    unsafe { transform::input::<Register>(task, out) }
}

#[target_feature(enable = "neon")]
fn output(task: &mut Outputs<'_, '_>) {
    // SAFETY: the CPU has what this function needs.
    unsafe {
        transform::output::<Register>(task, |epilogue, out, m, columns, tile| {
            finish(epilogue, out, m, columns, tile);
        });
    }
}
