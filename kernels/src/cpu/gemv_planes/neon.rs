//! NEON: an eighth of a unit, 2 columns of 8 k, is one register.
//!
//! ```text
//! for each panel, for each row, for each group:
//!     for each unit:     codes joined as `planes` joins them, less half of what they can be
//!                        one dot product with 8 activations a register, one with ones: sums of fours of k
//!     the fours joined in pairs, zero point and offset of the codes taken off, scaled
//! ```
//! A scale a column: codes are widened, multiplied by what their group's scale is of the column's largest (sqrdmulh), and narrowed.
//!
//! Two rows of the table: with the dot-product extension, and with widening products in its place.

use std::arch::aarch64::{
    int8x16_t, int32x4_t, vaddq_s16, vaddq_s32, vandq_s8, vcombine_s8, vdupq_n_s8, vdupq_n_s16, vdupq_n_s32,
    vdupq_n_s64, vdupq_n_u8, vget_low_s8, vmovl_high_s8, vmovl_s8, vmull_high_s8, vmull_s8, vpaddlq_s16,
    vpaddq_s32, vqmovn_s16, vqrdmulhq_n_s16, vreinterpretq_s8_s64, vreinterpretq_s8_u8, vshlq_s16, vst1q_s32,
    vsubq_u8,
};

use super::super::gemm_f32::epilogue_neon::finish;
use super::super::gemm_i8::dotprod;
use super::super::planes::neon::{Unit, append, eight, four, plane_unit};
use super::super::planes::{Plane, Rounding, raise_to};
use super::tile::{Results, Tile, each_tile};
use super::{BLOCK, Isa, MAX_PLANES, PANEL, Split, TOP, Task, Variant};
use half::f16;
use half::slice::HalfFloatSliceExt;

/// Most rows that take less time than to join codes for all of them: not measured, about what two registers of codes cost.
const MOST_ROWS: usize = 4;

pub(super) const DOTPROD: Variant = Variant {
    name: "gemv_planes_a8__neon_dotprod",
    isa: Isa::NeonDotprod,
    most_rows: MOST_ROWS,
    run: run_dotprod,
};
pub(super) const NEON: Variant =
    Variant { name: "gemv_planes_a8__neon", isa: Isa::Neon, most_rows: MOST_ROWS, run: run_neon };

#[target_feature(enable = "neon,dotprod")]
fn run_dotprod(task: &mut Task<'_>) {
    // SAFETY: this function is called where the CPU has them all.
    unsafe { each_tile(task, 1, by_dot_products::make, finish) }
}

#[target_feature(enable = "neon")]
fn run_neon(task: &mut Task<'_>) {
    // SAFETY: as above.
    unsafe { each_tile(task, 1, by_wide_products::make, finish) }
}

/// What sdot does, by widening products.
#[target_feature(enable = "neon")]
#[inline]
fn dot(acc: int32x4_t, a: int8x16_t, b: int8x16_t) -> int32x4_t {
    let low = vpaddlq_s16(vmull_s8(vget_low_s8(a), vget_low_s8(b)));
    vaddq_s32(acc, vpaddq_s32(low, vpaddlq_s16(vmull_high_s8(a, b))))
}

/// Sums of two kinds of a panel: of products and of codes, those of even and odd fours of k side by side.
struct Sums {
    dots: [int32x4_t; BLOCK],
    codes: [int32x4_t; BLOCK],
}

impl Sums {
    #[target_feature(enable = "neon")]
    #[inline]
    fn new() -> Sums {
        Sums { dots: [vdupq_n_s32(0); BLOCK], codes: [vdupq_n_s32(0); BLOCK] }
    }

    /// The sums of products, and of codes.
    #[target_feature(enable = "neon")]
    #[inline]
    fn together(&self) -> [[i32; PANEL]; 2] {
        let mut out = [[0; PANEL]; 2];
        for (out, parts) in out.iter_mut().zip([&self.dots, &self.codes]) {
            for (out, pair) in out.as_chunks_mut::<4>().0.iter_mut().zip(parts.as_chunks::<2>().0) {
                // SAFETY: 4 of 4 integers.
                unsafe { vst1q_s32(out.as_mut_ptr(), vpaddq_s32(pair[0], pair[1])) };
            }
        }
        out
    }
}

/// Eight activations of a unit, twice.
///
/// # Safety
/// There is such a unit.
#[target_feature(enable = "neon")]
#[inline]
unsafe fn activations(tile: &Tile<'_>, unit: usize) -> int8x16_t {
    // SAFETY: the caller's promise; every pattern is an i64.
    vreinterpretq_s8_s64(vdupq_n_s64(unsafe { tile.x[0].add(unit * BLOCK).cast::<i64>().read_unaligned() }))
}

/// The scales of group `g`.
///
/// # Safety
/// There is such a group.
#[inline(always)]
unsafe fn scales_of(tile: &Tile<'_>, g: usize) -> [f32; PANEL] {
    let (scales, mut out) = (&tile.scales, [0.0; PANEL]);
    // SAFETY: the caller's promise; every pattern is a number of either type.
    unsafe {
        if scales.halves {
            let stored: [f16; PANEL] = scales.at.add(2 * PANEL * g).cast::<[f16; PANEL]>().read_unaligned();
            stored.convert_to_f32_slice(&mut out);
        } else {
            out = scales.at.add(4 * PANEL * g).cast::<[f32; PANEL]>().read_unaligned();
        }
    }
    out.map(|stored| stored * scales.gain * scales.step)
}

/// The kernels with a dot product, compiled for its features.
macro_rules! kernels {
    ($module:ident, $features:literal, $dot:path) => {
        mod $module {
            use super::*;

            /// # Safety
            /// The tile is one of [`each_tile`]; the CPU has the features.
            #[target_feature(enable = $features)]
            pub(super) unsafe fn make(tile: &Tile<'_>, to: &mut Results) {
                let to = &mut to[0];
                let mut planes = [Plane { bits: 0, bytes: &[] }; MAX_PLANES];
                for ((plane, bits), at) in planes.iter_mut().zip(tile.split.planes()).zip(tile.planes) {
                    if bits > 0 {
                        // SAFETY: the caller's promise: the panel's units.
                        let bytes =
                            unsafe { std::slice::from_raw_parts(at, tile.units * PANEL * bits as usize) };
                        *plane = Plane { bits, bytes };
                    }
                }
                // SAFETY: NEON is part of AArch64's baseline; the rest is the caller's promise.
                unsafe {
                    match tile.split {
                        Split::Two => columns(tile, to, |unit| plane_unit::<2>(&planes[0], unit)),
                        Split::TwoTwos => columns(tile, to, |unit| four(&planes, unit)),
                        Split::ThreeTwos => {
                            columns(tile, to, |unit| append::<2>(four(&planes, unit), &planes[2], unit))
                        }
                        Split::FourTwos => columns(tile, to, |unit| eight(&planes, unit)),
                        Split::Four => by_group(tile, to, |unit| plane_unit::<4>(&planes[0], unit)),
                        Split::Twelve | Split::Sixteen | Split::OneFour => {
                            unreachable!("codes of more than 8 bits are for floats")
                        }
                    }
                }
            }

            /// The kernel for the split, by the kind of scales.
            ///
            /// # Safety
            /// As for [`make`].
            #[target_feature(enable = $features)]
            #[inline]
            unsafe fn columns(tile: &Tile<'_>, to: &mut [f32; PANEL], codes: impl Fn(usize) -> Unit) {
                // SAFETY: the caller's promise.
                unsafe {
                    match tile.one_scale {
                        true => by_column(tile, to, codes),
                        false => by_group(tile, to, codes),
                    }
                }
            }

            /// Results with a scale a group.
            ///
            /// # Safety
            /// As for [`make`].
            #[target_feature(enable = $features)]
            #[inline(never)]
            unsafe fn by_group(tile: &Tile<'_>, to: &mut [f32; PANEL], codes: impl Fn(usize) -> Unit) {
                let (half, ones) = (vdupq_n_u8(1 << (tile.split.bits() - 1)), vdupq_n_s8(1));
                let mut total = [0.0f32; PANEL];
                let mut first = 0;
                for g in 0..tile.groups {
                    let end = tile.units.min(first + tile.group_units);
                    let mut sums = Sums::new();
                    for unit in first..end {
                        // SAFETY: the caller's promise.
                        let (x, valid) = unsafe {
                            (activations(tile, unit), vreinterpretq_s8_s64(vdupq_n_s64(tile.valid(unit))))
                        };
                        for (j, code) in codes(unit).into_iter().enumerate() {
                            let q = vandq_s8(vreinterpretq_s8_u8(vsubq_u8(code, half)), valid);
                            sums.dots[j] = $dot(sums.dots[j], q, x);
                            sums.codes[j] = $dot(sums.codes[j], q, ones);
                        }
                    }
                    let [dots, codes] = sums.together();
                    // SAFETY: the caller's promise.
                    let scales = unsafe { scales_of(tile, g) };
                    let rest = tile.odd * tile.rest(g, 0);
                    for lane in 0..PANEL {
                        let zero = codes[lane].wrapping_mul(tile.zero_point);
                        let t = dots[lane].wrapping_sub(zero).wrapping_mul(2).wrapping_add(rest);
                        total[lane] = (t as f32).mul_add(scales[lane], total[lane]);
                    }
                    first = end;
                }
                *to = total;
            }

            /// Results with a scale a column.
            ///
            /// # Safety
            /// As for [`make`].
            #[target_feature(enable = $features)]
            #[inline(never)]
            unsafe fn by_column(tile: &Tile<'_>, to: &mut [f32; PANEL], codes: impl Fn(usize) -> Unit) {
                let mut largest = [0.0f32; PANEL];
                for g in 0..tile.groups {
                    // SAFETY: the caller's promise.
                    raise_to(&mut largest, &[unsafe { scales_of(tile, g) }]);
                }
                let bits = tile.split.bits();
                let rounding = Rounding::of(bits, true, tile.group_units);
                let (left, plus) = (vdupq_n_s16(rounding.left as i16), vdupq_n_s16(rounding.plus));
                let (half, ones) = (vdupq_n_u8(1 << (bits - 1)), vdupq_n_s8(1));
                let mut sums = Sums::new();
                let mut unit = 0;
                for g in 0..tile.groups {
                    let end = tile.units.min(unit + tile.group_units);
                    // SAFETY: the caller's promise.
                    let factors = rounding.factors(&unsafe { scales_of(tile, g) }, &largest);
                    while unit < end {
                        // SAFETY: the caller's promise.
                        let (x, valid) = unsafe {
                            (activations(tile, unit), vreinterpretq_s8_s64(vdupq_n_s64(tile.valid(unit))))
                        };
                        for (j, code) in codes(unit).into_iter().enumerate() {
                            let q = vreinterpretq_s8_u8(vsubq_u8(code, half));
                            let rounded = |wide, factor| {
                                vqmovn_s16(vqrdmulhq_n_s16(vaddq_s16(vshlq_s16(wide, left), plus), factor))
                            };
                            let low = rounded(vmovl_s8(vget_low_s8(q)), factors[2 * j]);
                            let c = vandq_s8(
                                vcombine_s8(low, rounded(vmovl_high_s8(q), factors[2 * j + 1])),
                                valid,
                            );
                            sums.dots[j] = $dot(sums.dots[j], c, x);
                            sums.codes[j] = $dot(sums.codes[j], c, ones);
                        }
                        unit += 1;
                    }
                }
                let number = ((1 << bits) - 1) as f32;
                let [dots, codes] = sums.together();
                for lane in 0..PANEL {
                    let t = dots[lane].wrapping_sub(codes[lane].wrapping_mul(tile.zero_point));
                    to[lane] = (t as f32).mul_add(largest[lane] * (number / TOP), 0.0);
                }
            }
        }
    };
}

kernels!(by_dot_products, "neon,dotprod", dotprod::dot);
kernels!(by_wide_products, "neon", dot);
