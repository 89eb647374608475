//! AVX-512, and VNNI for integers: a row of a panel is one register.

use std::arch::x86_64::{
    __m512, _mm512_add_epi32, _mm512_castps_si512, _mm512_castsi512_ps, _mm512_cvtepi32_ps,
    _mm512_dpbusd_epi32, _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_loadu_si512, _mm512_set1_ps,
    _mm512_setzero_ps, _mm512_storeu_ps,
};

use super::super::gemm_f32::epilogue_avx512::finish;
use super::super::tile::each_row;
use super::tiles::{Kernels, Multiply, Operands, Tile, product};
use super::{F32Variant, I8Variant, Isa, PANEL, TOGETHER, Task};

pub(super) const F32: F32Variant = F32Variant { name: "gemm_blocks_f32_f32__avx512", isa: Isa::Avx512, run };

pub(super) const I8: I8Variant =
    I8Variant { name: "gemm_blocks_w8_a8__avx512_vnni", isa: Isa::Avx512Vnni, run: run_i8 };

/// Most rows of a tile: beside its accumulators stay a row of the panel and four pointers.
const MR: usize = 12;

/// Rows that share a pointer: x86 addresses reach the others by once and twice the stride.
const NEAR: usize = 3;

#[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl")]
fn run(task: &mut Task<'_, f32>) {
    let kernels = Kernels { most: MR, of: floats::of, together: NEAR, reals, unsigned: 0, finish };
    // SAFETY: this function has the features that the kernels need.
    unsafe { product(task, &kernels) }
}

#[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
fn run_i8(task: &mut Task<'_, u32>) {
    let kernels = Kernels { most: MR, of: integers::of, together: NEAR, reals, unsigned: 128, finish };
    // SAFETY: this function has the features that the kernels need.
    unsafe { product(task, &kernels) }
}

#[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl")]
fn reals(tile: &mut [[f32; PANEL]], rest: &[i32; PANEL], scales: &[f32; PANEL]) {
    // SAFETY: 16 elements of each.
    let (rest, scales) =
        unsafe { (_mm512_loadu_si512(rest.as_ptr().cast()), _mm512_loadu_ps(scales.as_ptr())) };
    for row in tile {
        // SAFETY: 16 elements.
        unsafe {
            let t = _mm512_add_epi32(_mm512_loadu_si512(row.as_ptr().cast()), rest);
            // The 0 that is added is what groups are added to: it has a sign.
            let y = _mm512_fmadd_ps(_mm512_cvtepi32_ps(t), scales, _mm512_setzero_ps());
            _mm512_storeu_ps(row.as_mut_ptr(), y);
        }
    }
}

/// `of(rows, panels)`, the kernel for elements `$element`, with the instructions `$features`; `$multiply(a, w, sum)` takes a broadcast
/// element of a row and a row of a panel.
macro_rules! kernels {
    ($element:ty, $features:literal, $multiply:expr) => {
        use super::*;

        pub(super) fn of(rows: usize, panels: usize) -> Multiply<$element> {
            match (rows, panels) {
                (1, TOGETHER) => multiply::<1, TOGETHER>,
                (2, TOGETHER) => multiply::<2, TOGETHER>,
                (3, TOGETHER) => multiply::<3, TOGETHER>,
                (1, _) => multiply::<1, 1>,
                (2, _) => multiply::<2, 1>,
                (3, _) => multiply::<3, 1>,
                (4, _) => multiply::<4, 1>,
                (5, _) => multiply::<5, 1>,
                (6, _) => multiply::<6, 1>,
                (7, _) => multiply::<7, 1>,
                (8, _) => multiply::<8, 1>,
                (9, _) => multiply::<9, 1>,
                (10, _) => multiply::<10, 1>,
                (11, _) => multiply::<11, 1>,
                _ => multiply::<MR, 1>,
            }
        }

        /// Not inlined: what surrounds it would take registers from the accumulators.
        ///
        /// # Safety
        /// As of [`Multiply`].
        #[target_feature(enable = $features)]
        #[inline(never)]
        unsafe fn multiply<const ROWS: usize, const PANELS: usize>(
            operands: &Operands<'_, $element>,
            tile: &mut Tile,
        ) {
            let (stride, places, values) = (operands.stride, &operands.places, &operands.values);
            let mut from = [std::ptr::null::<f32>(); MR / NEAR];
            for (i, from) in from.iter_mut().enumerate() {
                *from = operands.a.cast::<f32>().wrapping_add(i * NEAR * stride);
            }
            let mut acc = [[_mm512_setzero_ps(); PANELS]; ROWS];
            let common = places[..PANELS].iter().map(|places| places.len()).min().unwrap_or(0);
            for i in 0..common {
                for p in 0..PANELS {
                    // SAFETY: each panel has as many places, and a row of 16 for each.
                    let (place, lanes) = unsafe {
                        let lanes = _mm512_loadu_ps(values[p].as_ptr().add(i).cast());
                        (*places[p].get_unchecked(i) as usize, lanes)
                    };
                    each_row!(ROWS, |R| {
                        // SAFETY: the caller's promise: row R has an element there.
                        let at = unsafe { from[R / NEAR].add(place).add(R % NEAR * stride) };
                        // SAFETY: as above.
                        acc[R][p] = $multiply(_mm512_set1_ps(unsafe { *at }), lanes, acc[R][p]);
                    });
                }
            }
            if PANELS > 1 {
                for p in 0..PANELS {
                    for (place, lanes) in places[p].iter().zip(values[p]).skip(common) {
                        // SAFETY: a row of 16.
                        let lanes = unsafe { _mm512_loadu_ps(lanes.as_ptr().cast()) };
                        each_row!(ROWS, |R| {
                            // SAFETY: the caller's promise: row R has an element there.
                            let at = unsafe { from[R / NEAR].add(*place as usize).add(R % NEAR * stride) };
                            // SAFETY: as above.
                            acc[R][p] = $multiply(_mm512_set1_ps(unsafe { *at }), lanes, acc[R][p]);
                        });
                    }
                }
            }
            for (r, acc) in acc.iter().enumerate() {
                for (p, acc) in acc.iter().enumerate() {
                    // SAFETY: 16 floats.
                    unsafe { _mm512_storeu_ps(tile[p * ROWS + r].as_mut_ptr(), *acc) };
                }
            }
        }
    };
}

mod floats {
    kernels!(f32, "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl", _mm512_fmadd_ps);
}

mod integers {
    kernels!(u32, "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni", dot);

    /// Registers hold whole numbers, though their type is another.
    #[inline]
    #[target_feature(enable = "avx512f,avx512vnni")]
    fn dot(x: __m512, q: __m512, sum: __m512) -> __m512 {
        let [x, q, sum] = [x, q, sum].map(|v| _mm512_castps_si512(v));
        _mm512_castsi512_ps(_mm512_dpbusd_epi32(sum, x, q))
    }
}
