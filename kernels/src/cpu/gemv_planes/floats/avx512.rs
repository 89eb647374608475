//! AVX-512: codes of a unit are transposed to columns of 16, widened and scaled, and multiplied at once.
//!
//! ```text
//! for each two panels and one row, or one panel and 4 rows:
//!     for each unit:     codes joined, [16][8] bytes to [8][16] by a shuffle of pairs and a permutation of words
//!                        for each k: 16 codes to floats, times two less 2^b - 1, times the scale; a multiply-add a row
//! ```

use std::arch::x86_64::{
    __m512, __m512i, _mm_load_si128, _mm_setr_epi8, _mm512_and_si512, _mm512_broadcast_i32x4,
    _mm512_cvtepi32_ps, _mm512_cvtepu8_epi32, _mm512_fmadd_ps, _mm512_mul_ps, _mm512_or_si512,
    _mm512_permutex2var_epi16, _mm512_set1_epi8, _mm512_set1_ps, _mm512_setr_epi32, _mm512_setzero_ps,
    _mm512_shuffle_epi8, _mm512_slli_epi16, _mm512_slli_epi32, _mm512_srli_epi16, _mm512_store_si512,
    _mm512_storeu_ps,
};

use super::super::avx512::{Four, Planes, Twos, fours, select};
use super::super::tile::Scales;
use super::super::{BLOCK, MAX_PLANES, PANEL, Split, StoredScales};
use super::{FloatVariant, Isa, Task};
use crate::cpu::gemm_f32::epilogue_avx512::finish;
use crate::cpu::planes::UNIT;
use crate::cpu::tile::Aligned;

pub(super) const VARIANT: FloatVariant =
    FloatVariant { name: "gemv_planes_f32__avx512", isa: Isa::Avx512, most_rows: ROWS, run };

/// Rows of a tile of one panel.
pub(in super::super) const ROWS: usize = 4;
/// Panels of a tile of one row: sums of two are enough to hide the time of an addition.
pub(in super::super) const PANELS: usize = 2;

/// Units that are joined at a time: a usual group.
pub(in super::super) const UNITS: usize = 4;

/// Codes of units, [8][16]: their last 8 bits, and those before them.
pub(in super::super) type Units = [[[u8; UNIT]; 2]; UNITS];

/// Joins so many units, and moves on to the next one: [`join`] for some split.
pub(in super::super) type Join = unsafe fn(&mut [*const u8; MAX_PLANES], usize, &mut Units);

#[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl")]
fn run(task: &mut Task<'_>) {
    let (m, panels) = (task.out.rows(), task.out.cols().div_ceil(PANEL));
    let (rows, together) = if m == 1 { (1, PANELS) } else { (ROWS, 1) };
    let (join, wide) = join_of(task.w.split);
    let store = match (m, wide) {
        (1, false) => store::<false, 1, PANELS>,
        (1, true) => store::<true, 1, PANELS>,
        (_, false) => store::<false, ROWS, 1>,
        (_, true) => store::<true, ROWS, 1>,
    };
    for panel in (0..panels).step_by(together) {
        for row in (0..m).step_by(rows) {
            let there = [rows.min(m - row), together.min(panels - panel)];
            let Aligned(tile) = &mut Aligned([[0.0; PANEL]; ROWS]);
            // SAFETY: the rows and panels are there, and the planes are of the split.
            unsafe { store(task, join, [row, panel], there, tile) };
            for (p, tile) in tile.chunks_exact_mut(rows).enumerate().take(there[1]) {
                let columns = task.epilogue.columns((panel + p) * PANEL, task.out.cols());
                finish(task.epilogue, &mut task.out, row, &columns, &mut tile[..there[0]]);
            }
        }
    }
}

/// What joins codes of a split, and whether they have more than 8 bits.
pub(in super::super) fn join_of(split: Split) -> (Join, bool) {
    match split {
        Split::Two => (join::<Twos<1>>, false),
        Split::TwoTwos => (join::<Twos<2>>, false),
        Split::ThreeTwos => (join::<Twos<3>>, false),
        Split::FourTwos => (join::<Twos<4>>, false),
        Split::Twelve => (join::<Twelve>, true),
        Split::Sixteen => (join::<Sixteen>, true),
        Split::Four => (join::<Four>, false),
        Split::OneFour => unreachable!("codes for rounded rows"),
    }
}

/// A way to cut codes into planes.
trait Codes {
    /// Whether codes have more than 8 bits.
    const WIDE: bool = false;

    /// One unit's codes, `[16][8]`: their last 8 bits, and those before them. Moves on to the next unit.
    ///
    /// # Safety
    /// Each plane of the split has one more unit.
    unsafe fn next(planes: &mut [*const u8; MAX_PLANES]) -> [[__m512i; 2]; 2];
}

impl<S: Planes> Codes for S {
    #[target_feature(enable = "avx512f,avx512bw")]
    #[inline]
    unsafe fn next(planes: &mut [*const u8; MAX_PLANES]) -> [[__m512i; 2]; 2] {
        // SAFETY: the caller's promise.
        let top = unsafe { <S as Planes>::next(planes) };
        // From the top of a byte to its end.
        let mask = _mm512_set1_epi8((0xffu8 >> S::SHIFT) as i8);
        let low = match S::SHIFT {
            0 => top,
            2 => top.map(|v| _mm512_and_si512(_mm512_srli_epi16::<2>(v), mask)),
            4 => top.map(|v| _mm512_and_si512(_mm512_srli_epi16::<4>(v), mask)),
            _ => top.map(|v| _mm512_and_si512(_mm512_srli_epi16::<6>(v), mask)),
        };
        [low, low]
    }
}

/// Four planes of 2 bits and one of 4.
struct Twelve;

impl Codes for Twelve {
    const WIDE: bool = true;

    #[target_feature(enable = "avx512f,avx512bw")]
    #[inline]
    unsafe fn next(planes: &mut [*const u8; MAX_PLANES]) -> [[__m512i; 2]; 2] {
        // SAFETY: the caller's promise.
        let (top, [low, high]) = unsafe { (<Twos<4> as Planes>::next(planes), fours(&mut planes[4])) };
        let last = [low, _mm512_srli_epi16::<4>(high)];
        let mut codes = [top; 2];
        for half in 0..2 {
            codes[0][half] = select(0xf0, _mm512_slli_epi16::<4>(top[half]), last[half]);
            codes[1][half] = _mm512_and_si512(_mm512_srli_epi16::<4>(top[half]), _mm512_set1_epi8(15));
        }
        codes
    }
}

/// Four planes of 2 bits and two of 4.
struct Sixteen;

impl Codes for Sixteen {
    const WIDE: bool = true;

    #[target_feature(enable = "avx512f,avx512bw")]
    #[inline]
    unsafe fn next(planes: &mut [*const u8; MAX_PLANES]) -> [[__m512i; 2]; 2] {
        // SAFETY: the caller's promise.
        let (top, a, b) =
            unsafe { (<Twos<4> as Planes>::next(planes), fours(&mut planes[4]), fours(&mut planes[5])) };
        let low = select(0xf0, _mm512_slli_epi16::<4>(a[0]), b[0]);
        [[low, select(0xf0, a[1], _mm512_srli_epi16::<4>(b[1]))], top]
    }
}

/// `[16][8]` bytes to `[8][16]`.
#[target_feature(enable = "avx512f,avx512bw")]
#[inline]
fn transpose([a, b]: [__m512i; 2], to: &mut [u8; UNIT]) {
    // Two columns of 8 k to 8 k of two columns, in each 16 bytes.
    let pairs = _mm512_broadcast_i32x4(_mm_setr_epi8(0, 8, 1, 9, 2, 10, 3, 11, 4, 12, 5, 13, 6, 14, 7, 15));
    let (a, b) = (_mm512_shuffle_epi8(a, pairs), _mm512_shuffle_epi8(b, pairs));
    // Of a k the word of each pair of columns: 8 words apart, those of `b` from 32 on.
    let of = |k: i32| {
        let word = |pair: i32| (8 * pair + k) | (8 * (pair + 1) + k) << 16;
        [word(0), word(2), word(4), word(6)]
    };
    for (half, to) in to.as_chunks_mut::<64>().0.iter_mut().enumerate() {
        let [p, q, r, s] = [0, 1, 2, 3].map(|k| of(4 * half as i32 + k));
        let index = _mm512_setr_epi32(
            p[0], p[1], p[2], p[3], q[0], q[1], q[2], q[3], r[0], r[1], r[2], r[3], s[0], s[1], s[2], s[3],
        );
        // SAFETY: 64 bytes, aligned as a part of what `store` has.
        unsafe { _mm512_store_si512(to.as_mut_ptr().cast(), _mm512_permutex2var_epi16(a, index, b)) };
    }
}

/// Joins `units` units.
///
/// # Safety
/// Each plane of the split has as many more units.
#[target_feature(enable = "avx512f,avx512bw")]
unsafe fn join<S: Codes>(planes: &mut [*const u8; MAX_PLANES], units: usize, to: &mut Units) {
    for to in &mut to[..units] {
        // SAFETY: the caller's promise.
        let [low, high] = unsafe { S::next(planes) };
        transpose(low, &mut to[0]);
        if S::WIDE {
            transpose(high, &mut to[1]);
        }
    }
}

/// The sums of `R` rows and `P` panels, `[P][R][16]`; those that are not there are the last one again.
///
/// # Safety
/// The first row and panel are there, and as many as `there` says; `join` is for the split, and `WIDE` as its codes are.
#[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl")]
#[inline(never)]
unsafe fn store<const WIDE: bool, const R: usize, const P: usize>(
    task: &Task<'_>,
    join: Join,
    [row, panel]: [usize; 2],
    there: [usize; 2],
    to: &mut [[f32; PANEL]; ROWS],
) {
    let w = task.w;
    let (units, groups) = (w.k.div_ceil(BLOCK), w.groups());
    let mut planes = [[std::ptr::null(); MAX_PLANES]; P];
    let mut scales = [Scales { at: std::ptr::null(), halves: false, gain: w.gain, step: w.step }; P];
    for p in 0..P {
        let panel = panel + p.min(there[1] - 1);
        for (to, plane) in planes[p].iter_mut().zip(w.list()) {
            let each = units * PANEL * plane.bits as usize;
            *to = plane.bytes[panel * each..][..each].as_ptr();
        }
        let (bytes, size) = match w.scales {
            StoredScales::F16(bytes) => (bytes, 2),
            StoredScales::F32(bytes) => (bytes, 4),
        };
        let each = groups * PANEL * size;
        (scales[p].at, scales[p].halves) = (bytes[panel * each..][..each].as_ptr(), size == 2);
    }
    let mut x: [[&[f32]; R]; P] = [[&[]; R]; P];
    for (p, x) in x.iter_mut().enumerate() {
        for (r, x) in x.iter_mut().enumerate() {
            let own = if task.own_rows { panel + p.min(there[1] - 1) } else { row + r.min(there[0] - 1) };
            *x = task.x.row(own);
        }
    }
    let (two, least) = (_mm512_set1_ps(2.0), _mm512_set1_ps((1 - (1i32 << w.split.bits())) as f32));
    let mut acc: [[__m512; R]; P] = [[_mm512_setzero_ps(); R]; P];
    let Aligned(codes) = &mut Aligned([[[[0u8; UNIT]; 2]; UNITS]; P]);
    for g in 0..groups {
        // SAFETY: there is such a group.
        let scale: [__m512; P] = std::array::from_fn(|p| unsafe { scales[p].of(g) });
        let ks = g * w.group..w.k.min((g + 1) * w.group);
        for first in ks.clone().step_by(UNITS * BLOCK) {
            let count = (UNITS * BLOCK).min(ks.end - first);
            for (codes, planes) in codes.iter_mut().zip(&mut planes) {
                // SAFETY: a unit of each plane for each 8 k.
                unsafe { join(planes, count.div_ceil(BLOCK), codes) };
            }
            for k in 0..count {
                for p in 0..P {
                    let sixteen = |part: usize| {
                        let codes = &codes[p][k / BLOCK][part][k % BLOCK * PANEL..][..PANEL];
                        // SAFETY: 16 bytes, aligned.
                        _mm512_cvtepu8_epi32(unsafe { _mm_load_si128(codes.as_ptr().cast()) })
                    };
                    let mut code = sixteen(0);
                    if WIDE {
                        code = _mm512_or_si512(code, _mm512_slli_epi32::<8>(sixteen(1)));
                    }
                    // Exact: every term is an integer below 2^18.
                    let odd = _mm512_fmadd_ps(_mm512_cvtepi32_ps(code), two, least);
                    let weight = _mm512_mul_ps(odd, scale[p]);
                    for (acc, x) in acc[p].iter_mut().zip(x[p]) {
                        // SAFETY: `first + k` is below K.
                        let x = _mm512_set1_ps(unsafe { *x.get_unchecked(first + k) });
                        *acc = _mm512_fmadd_ps(x, weight, *acc);
                    }
                }
            }
        }
    }
    for (to, acc) in to.iter_mut().zip(acc.as_flattened()) {
        // SAFETY: 16 floats.
        unsafe { _mm512_storeu_ps(to.as_mut_ptr(), *acc) };
    }
}
