//! AVX2 and FMA. Codes are widened to 16 bits on their way into registers: products of 8 bits would saturate.

use std::arch::x86_64::{
    _mm_loadu_si128, _mm_set1_epi32, _mm256_add_epi32, _mm256_broadcast_ss, _mm256_castsi256_ps,
    _mm256_cvtepi8_epi16, _mm256_cvtepi32_ps, _mm256_cvtepu8_epi16, _mm256_fmadd_ps, _mm256_hadd_epi32,
    _mm256_loadu_ps, _mm256_loadu_si256, _mm256_madd_epi16, _mm256_permute4x64_epi64, _mm256_setzero_ps,
    _mm256_setzero_si256, _mm256_storeu_ps,
};

use super::super::gemm_f32::epilogue_avx2::finish;
use super::super::tile::each_row;
use super::tiles::{Kernels, Multiply, Operands, Tile, product};
use super::{F32Variant, I8Variant, Isa, PANEL, TOGETHER, Task};

pub(super) const F32: F32Variant = F32Variant { name: "gemm_blocks_f32_f32__avx2", isa: Isa::Avx2, run };

pub(super) const I8: I8Variant = I8Variant { name: "gemm_blocks_w8_a8__avx2", isa: Isa::Avx2, run: run_i8 };

/// Most rows of a tile of floats: 6 x 2 accumulators, and beside them what is loaded, fit 16 registers.
const MR: usize = 6;
/// Most rows of a tile of integers: 3 x 4 accumulators, of which each has two partial sums of 4 columns.
const MR_I8: usize = 3;
/// Vectors of a row of a panel of codes that are widened.
const PARTS: usize = 4;

#[target_feature(enable = "avx2,fma")]
fn run(task: &mut Task<'_, f32>) {
    let kernels = Kernels { most: MR, of, together: 1, reals, unsigned: 0, finish };
    // SAFETY: this function has the features that the kernels need.
    unsafe { product(task, &kernels) }
}

#[target_feature(enable = "avx2,fma")]
fn run_i8(task: &mut Task<'_, u32>) {
    let kernels = Kernels { most: MR_I8, of: of_i8, together: 0, reals, unsigned: 128, finish };
    // SAFETY: this function has the features that the kernels need.
    unsafe { product(task, &kernels) }
}

#[target_feature(enable = "avx2,fma")]
fn reals(tile: &mut [[f32; PANEL]], rest: &[i32; PANEL], scales: &[f32; PANEL]) {
    for half in [0, 8] {
        // SAFETY: 8 of 16 elements of each.
        let (rest, scales) = unsafe {
            let rest = _mm256_loadu_si256(rest.as_ptr().add(half).cast());
            (rest, _mm256_loadu_ps(scales.as_ptr().add(half)))
        };
        for row in tile.iter_mut() {
            // SAFETY: 8 of 16 elements.
            unsafe {
                let at = row.as_mut_ptr().add(half);
                let t = _mm256_add_epi32(_mm256_loadu_si256(at.cast()), rest);
                // The 0 that is added is what groups are added to: it has a sign.
                let y = _mm256_fmadd_ps(_mm256_cvtepi32_ps(t), scales, _mm256_setzero_ps());
                _mm256_storeu_ps(at, y);
            }
        }
    }
}

fn of(rows: usize, panels: usize) -> Multiply<f32> {
    match (rows, panels) {
        (1, TOGETHER) => multiply::<1, TOGETHER>,
        (1, _) => multiply::<1, 1>,
        (2, _) => multiply::<2, 1>,
        (3, _) => multiply::<3, 1>,
        (4, _) => multiply::<4, 1>,
        (5, _) => multiply::<5, 1>,
        _ => multiply::<MR, 1>,
    }
}

/// Not inlined: what surrounds it would take registers from the accumulators.
///
/// # Safety
/// As of [`Multiply`].
#[target_feature(enable = "avx2,fma")]
#[inline(never)]
unsafe fn multiply<const ROWS: usize, const PANELS: usize>(operands: &Operands<'_, f32>, tile: &mut Tile) {
    let (stride, places, values) = (operands.stride, &operands.places, &operands.values);
    let mut acc = [[[_mm256_setzero_ps(); 2]; PANELS]; ROWS];
    let common = places[..PANELS].iter().map(|places| places.len()).min().unwrap_or(0);
    for i in 0..common {
        for p in 0..PANELS {
            // SAFETY: each panel has as many places, and a row of 16 for each.
            let (place, lanes) = unsafe {
                let at = values[p].as_ptr().add(i).cast::<f32>();
                (*places[p].get_unchecked(i) as usize, [_mm256_loadu_ps(at), _mm256_loadu_ps(at.add(8))])
            };
            each_row!(ROWS, |R| {
                // SAFETY: the caller's promise: row R has an element there.
                let value = _mm256_broadcast_ss(unsafe { &*operands.a.add(place + R * stride) });
                for half in 0..2 {
                    acc[R][p][half] = _mm256_fmadd_ps(value, lanes[half], acc[R][p][half]);
                }
            });
        }
    }
    if PANELS > 1 {
        for p in 0..PANELS {
            for (place, lanes) in places[p].iter().zip(values[p]).skip(common) {
                // SAFETY: a row of 16.
                let lanes =
                    unsafe { [_mm256_loadu_ps(lanes.as_ptr()), _mm256_loadu_ps(lanes.as_ptr().add(8))] };
                each_row!(ROWS, |R| {
                    // SAFETY: the caller's promise: row R has an element there.
                    let value =
                        _mm256_broadcast_ss(unsafe { &*operands.a.add(*place as usize + R * stride) });
                    for half in 0..2 {
                        acc[R][p][half] = _mm256_fmadd_ps(value, lanes[half], acc[R][p][half]);
                    }
                });
            }
        }
    }
    for (r, acc) in acc.iter().enumerate() {
        for (p, acc) in acc.iter().enumerate() {
            for (half, acc) in acc.iter().enumerate() {
                let lanes = &mut tile[p * ROWS + r][half * 8..][..8];
                // SAFETY: 8 floats.
                unsafe { _mm256_storeu_ps(lanes.as_mut_ptr(), *acc) };
            }
        }
    }
}

fn of_i8(rows: usize, _panels: usize) -> Multiply<u32> {
    match rows {
        1 => multiply_i8::<1, PARTS>,
        2 => multiply_i8::<2, PARTS>,
        _ => multiply_i8::<MR_I8, PARTS>,
    }
}

/// One panel.
///
/// # Safety
/// As of [`Multiply`].
#[target_feature(enable = "avx2,fma")]
#[inline(never)]
unsafe fn multiply_i8<const ROWS: usize, const VECS: usize>(operands: &Operands<'_, u32>, tile: &mut Tile) {
    let mut acc = [[_mm256_setzero_si256(); VECS]; ROWS];
    for (place, words) in operands.places[0].iter().zip(operands.values[0]) {
        let mut x = [_mm256_setzero_si256(); ROWS];
        each_row!(ROWS, |R| {
            // SAFETY: the caller's promise: row R has an element there.
            let word = unsafe { *operands.a.add(*place as usize + R * operands.stride) };
            x[R] = _mm256_cvtepu8_epi16(_mm_set1_epi32(word as i32));
        });
        each_row!(VECS, |J| {
            // SAFETY: 4 of 16 words.
            let q = unsafe { _mm_loadu_si128(words.as_ptr().add(4 * J).cast()) };
            let q = _mm256_cvtepi8_epi16(q);
            each_row!(ROWS, |R| {
                acc[R][J] = _mm256_add_epi32(acc[R][J], _mm256_madd_epi16(x[R], q));
            });
        });
    }
    for (tile, acc) in tile.iter_mut().zip(acc) {
        for half in 0..2 {
            // Pairs of columns 0, 1, 4, 5 and 2, 3, 6, 7, half by half.
            let sums = _mm256_hadd_epi32(acc[2 * half], acc[2 * half + 1]);
            let sums = _mm256_castsi256_ps(_mm256_permute4x64_epi64::<0b11_01_10_00>(sums));
            // SAFETY: 8 of 16 floats.
            unsafe { _mm256_storeu_ps(tile.as_mut_ptr().add(8 * half), sums) };
        }
    }
}
