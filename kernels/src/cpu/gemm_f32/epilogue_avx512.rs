//! The epilogue in AVX-512 registers: a row of a tile is one of them, and a mask cuts what lies past the last column.
//!
//! The same operations in the same order as the plain form, so the same bits.

use std::arch::x86_64::{
    __m128i, __m512, __mmask16, _CMP_LT_OQ, _MM_FROUND_NO_EXC, _MM_FROUND_TO_NEAREST_INT, _MM_HINT_T0,
    _mm_mask_storeu_epi8, _mm_maskz_loadu_epi8, _mm_prefetch, _mm_storeu_si128, _mm512_add_ps,
    _mm512_cmp_ps_mask, _mm512_cvtepi8_epi32, _mm512_cvtepi32_ps, _mm512_cvtps_epi32, _mm512_cvtsepi32_epi8,
    _mm512_div_ps, _mm512_fmadd_ps, _mm512_loadu_ps, _mm512_mask_blend_ps, _mm512_mask_storeu_ps,
    _mm512_maskz_loadu_ps, _mm512_max_ps, _mm512_min_ps, _mm512_mul_ps, _mm512_or_ps, _mm512_roundscale_ps,
    _mm512_scalef_ps, _mm512_set1_epi32, _mm512_set1_ps, _mm512_setzero_ps, _mm512_storeu_ps,
    _mm512_sub_epi32, _mm512_sub_ps,
};

use std::f32::consts::LOG2_E;
use std::ops::Range;

use super::super::activation::Activation;
use super::super::math::{EXP, EXP_LOWEST, LN_2, ROUND};
use super::epilogue::{Columns, activate, bounds};
use super::{Addend, Epilogue, Output, PANEL, ResidualOrder, Rows};

/// Epilogue of rows `row, row + 1, ...` and the columns of one panel. One copy for all tile shapes and all matrix
/// kernels.
#[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl")]
#[inline(never)]
pub(in crate::cpu) fn finish(
    epilogue: &Epilogue<'_>,
    out: &mut Output<'_>,
    row: usize,
    columns: &Columns,
    tile: &mut [[f32; PANEL]],
) {
    let (scale, bias, factor) = (load(&columns.scale), load(&columns.bias), load(&columns.factor));
    let to = Target::new(out, row, tile.len(), columns);
    // One of them, told apart by flags: moved from one place to another, it would be read before it is written.
    let source = epilogue.residual.as_ref().map(|(addend, _)| Source::new(addend, row, tile.len(), columns));
    let order = epilogue.residual.as_ref().map(|(_, order)| *order);
    let before = order == Some(ResidualOrder::BeforeActivation);
    let (before, after) = (source.as_ref().filter(|_| before), source.as_ref().filter(|_| !before));
    let at_once = AtOnce::of(epilogue.act, epilogue.factor.is_some());
    let added = match after {
        None => Some((std::ptr::null(), 0)),
        Some(source) => (!source.codes).then_some((source.at.cast(), source.stride)),
    };
    if let (Some(function), false, None, Some(added)) = (&at_once, to.codes, before, added) {
        // The usual case, in a loop that asks nothing.
        let (by, to) = ([scale, bias, factor], (to.at.cast(), to.stride, to.mask));
        // SAFETY: both were made for the rows of the tile.
        unsafe {
            // Calls that can be inlined: by a pointer, small models would take 2 % more time.
            match (function.times, after.is_some()) {
                (false, false) => rows::<false, false>(tile, by, function, added, to),
                (true, false) => rows::<true, false>(tile, by, function, added, to),
                (false, true) => rows::<false, true>(tile, by, function, added, to),
                (true, true) => rows::<true, true>(tile, by, function, added, to),
            }
        }
        return;
    }
    if let (Some(function), true, None) = (&at_once, to.codes, &source) {
        let (by, codes_by) = ([scale, bias, factor], [_mm512_set1_ps(to.inv_scale), _mm512_set1_ps(to.zero)]);
        let to = (to.at.cast(), to.stride, to.mask);
        // SAFETY: the target was made for the rows of the tile.
        unsafe {
            match function.times {
                false => rows_of_codes::<false>(tile, by, function, codes_by, to),
                true => rows_of_codes::<true>(tile, by, function, codes_by, to),
            }
        }
        return;
    }
    if let (Activation::Silu, None) = (epilogue.act, before) {
        for (i, accs) in tile.chunks(4).enumerate() {
            // Of rows that are not four the last is taken again.
            let x =
                [0, 1, 2, 3].map(|r: usize| _mm512_fmadd_ps(load(&accs[r.min(accs.len() - 1)]), scale, bias));
            for (r, y) in silu(x).into_iter().enumerate().take(accs.len()) {
                let mut y = _mm512_mul_ps(y, factor);
                // SAFETY: a row of the tile.
                unsafe {
                    if let Some(source) = after {
                        y = source.plus(4 * i + r, y);
                    }
                    to.write(4 * i + r, y);
                }
            }
        }
        return;
    }
    for (r, acc) in tile.iter_mut().enumerate() {
        let mut y = _mm512_fmadd_ps(load(acc), scale, bias);
        if let Some(source) = before {
            // SAFETY: r is below the rows of the tile.
            y = unsafe { source.plus(r, y) };
        }
        let Some(function) = &at_once else {
            // SAFETY: 16 floats.
            unsafe { _mm512_storeu_ps(acc.as_mut_ptr(), y) };
            continue;
        };
        y = if function.times { function.apply::<true>(y) } else { function.apply::<false>(y) };
        y = _mm512_mul_ps(y, factor);
        if let Some(source) = after {
            // SAFETY: r is below the rows of the tile.
            y = unsafe { source.plus(r, y) };
        }
        // SAFETY: r is below the rows of the tile.
        unsafe { to.write(r, y) };
    }
    if at_once.is_some() {
        return;
    }
    activate(epilogue.act, tile);
    for (r, acc) in tile.iter().enumerate() {
        let mut y = _mm512_mul_ps(load(acc), factor);
        if let Some(source) = after {
            // SAFETY: r is below the rows of the tile.
            y = unsafe { source.plus(r, y) };
        }
        // SAFETY: r is below the rows of the tile.
        unsafe { to.write(r, y) };
    }
}

/// Rows of floats by a function with or without the factor `x`, before a residual of floats or without one: where each of them starts,
/// and how far rows are apart.
///
/// # Safety
/// As many floats as the mask has bits are there for each row of the tile, of the result and with `AFTER` of the residual.
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
#[inline]
unsafe fn rows<const TIMES: bool, const AFTER: bool>(
    tile: &[[f32; PANEL]],
    [scale, bias, factor]: [__m512; 3],
    function: &AtOnce,
    (mut from, step): (*const f32, usize),
    (mut out, stride, mask): (*mut f32, usize, __mmask16),
) {
    for acc in tile {
        let mut y = function.apply::<TIMES>(_mm512_fmadd_ps(load(acc), scale, bias));
        if function.factored {
            y = _mm512_mul_ps(y, factor);
        }
        // SAFETY: the caller's promise.
        unsafe {
            if AFTER {
                y = _mm512_add_ps(y, _mm512_maskz_loadu_ps(mask, from));
            }
            _mm_prefetch::<_MM_HINT_T0>(out.wrapping_add(AHEAD * stride).cast());
            _mm512_mask_storeu_ps(out, mask, y);
        }
        (from, out) = (from.wrapping_add(step), out.wrapping_add(stride));
    }
}

/// Rows of codes by a function with or without the factor `x`: where each of them starts, and how far rows are apart.
///
/// # Safety
/// As many bytes as the mask has bits are there for each row of the tile.
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
#[inline]
unsafe fn rows_of_codes<const TIMES: bool>(
    tile: &[[f32; PANEL]],
    [scale, bias, factor]: [__m512; 3],
    function: &AtOnce,
    [inv_scale, zero]: [__m512; 2],
    (mut out, stride, mask): (*mut i8, usize, __mmask16),
) {
    for acc in tile {
        let mut y = function.apply::<TIMES>(_mm512_fmadd_ps(load(acc), scale, bias));
        if function.factored {
            y = _mm512_mul_ps(y, factor);
        }
        // SAFETY: the caller's promise.
        unsafe { store_codes(out, mask, quantized(y, inv_scale, zero)) };
        out = out.wrapping_add(stride);
    }
}

/// Stores the codes of the mask. Whole rows without it: a masked store of bytes is slow on some CPUs.
///
/// # Safety
/// As many bytes as the mask has bits are there.
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
#[inline]
unsafe fn store_codes(to: *mut i8, mask: __mmask16, codes: __m128i) {
    // SAFETY: the caller's promise.
    unsafe {
        match mask {
            0xffff => _mm_storeu_si128(to.cast(), codes),
            mask => _mm_mask_storeu_epi8(to, mask, codes),
        }
    }
}

/// A function of so few operations that a row never leaves its register: `clip(x)`, or `x * clip(x * slope + middle)`.
struct AtOnce {
    lo: __m512,
    hi: __m512,
    times: bool,
    /// Whether a factor is to follow.
    factored: bool,
}

impl AtOnce {
    #[target_feature(enable = "avx512f")]
    #[inline]
    fn of(act: Activation, factored: bool) -> Option<AtOnce> {
        let times = act == Activation::HardSwish;
        let (lo, hi) = if times { (0.0, 1.0) } else { bounds(act)? };
        Some(AtOnce { lo: _mm512_set1_ps(lo), hi: _mm512_set1_ps(hi), times, factored })
    }

    #[target_feature(enable = "avx512f")]
    #[inline]
    fn apply<const TIMES: bool>(&self, x: __m512) -> __m512 {
        // In this order of operands NaN comes through.
        let clip = |x| _mm512_min_ps(self.hi, _mm512_max_ps(self.lo, x));
        if TIMES {
            _mm512_mul_ps(x, clip(_mm512_fmadd_ps(x, _mm512_set1_ps(1.0 / 6.0), _mm512_set1_ps(0.5))))
        } else {
            clip(x)
        }
    }
}

/// [`Activation::Silu`] of four rows at once. One after the other they take 1.3 times as long: every operation waits for the one
/// before it, and what lies between two rows is more than the CPU looks ahead.
#[target_feature(enable = "avx512f,avx512dq")]
#[inline]
fn silu(x: [__m512; 4]) -> [__m512; 4] {
    let set = |value: f32| _mm512_set1_ps(value);
    // e = exp(-|x|). In this order of operands NaN comes through.
    let c = x.map(|x| _mm512_max_ps(set(EXP_LOWEST), _mm512_or_ps(x, set(-0.0))));
    let n = c.map(|c| _mm512_sub_ps(_mm512_fmadd_ps(c, set(LOG2_E), set(ROUND)), set(ROUND)));
    let [mut r, mut q, mut y] = [c; 3];
    for i in 0..4 {
        r[i] = _mm512_fmadd_ps(n[i], set(-LN_2[0]), c[i]);
        r[i] = _mm512_fmadd_ps(n[i], set(-LN_2[1]), r[i]);
        q[i] = set(EXP[0]);
    }
    for coefficient in &EXP[1..] {
        for i in 0..4 {
            q[i] = _mm512_fmadd_ps(q[i], r[i], set(*coefficient));
        }
    }
    for i in 0..4 {
        let p = _mm512_fmadd_ps(_mm512_mul_ps(r[i], r[i]), q[i], r[i]);
        // p * 2^n, rounded once, subnormal or not.
        let e = _mm512_scalef_ps(_mm512_add_ps(p, set(1.0)), n[i]);
        let negative = _mm512_cmp_ps_mask::<_CMP_LT_OQ>(x[i], _mm512_setzero_ps());
        let above = _mm512_mask_blend_ps(negative, set(1.0), e);
        y[i] = _mm512_mul_ps(x[i], _mm512_div_ps(above, _mm512_add_ps(set(1.0), e)));
    }
    y
}

#[target_feature(enable = "avx512f")]
#[inline]
fn load(lanes: &[f32; PANEL]) -> __m512 {
    // SAFETY: 16 floats.
    unsafe { _mm512_loadu_ps(lanes.as_ptr()) }
}

/// The lanes of the columns that the result has.
#[inline(always)]
fn mask(columns: &Columns) -> __mmask16 {
    ((1u32 << columns.valid()) - 1) as __mmask16
}

/// A tile's part of a residual. Checked when made, so that nothing is checked row by row.
///
/// No enumeration, as [`Target`] is none: what has a part that is not written is copied in pieces larger than those that it was written in,
/// for which the CPU waits.
struct Source {
    mask: __mmask16,
    stride: usize,
    /// Floats, or `codes` of a scale and a zero point.
    at: *const u8,
    codes: bool,
    scale: f32,
    zero_point: i32,
}

impl Source {
    /// Of `rows` rows from `row` on.
    #[inline(always)]
    fn new(addend: &Addend<'_>, row: usize, rows: usize, columns: &Columns) -> Source {
        /// The first of the elements, when the last row is in the matrix, and so all others.
        fn start<T>(x: &Rows<'_, T>, row: usize, rows: usize, range: Range<usize>) -> (usize, *const u8) {
            let last = row + rows.max(1) - 1;
            let _ = &x.row(last)[range.clone()];
            (x.stride(), x.row(row)[range].as_ptr().cast())
        }
        let range = columns.start..columns.start + columns.valid;
        let mask = mask(columns);
        match addend {
            Addend::F32(x) => {
                let (stride, at) = start(x, row, rows, range);
                Source { mask, stride, at, codes: false, scale: 0.0, zero_point: 0 }
            }
            Addend::I8 { rows: x, scale, zero_point } => {
                let (stride, at) = start(x, row, rows, range);
                Source { mask, stride, at, codes: true, scale: *scale, zero_point: *zero_point }
            }
        }
    }

    /// `y` and row `r`.
    ///
    /// # Safety
    /// `r` is below `rows`, and the CPU has AVX-512.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    #[inline]
    unsafe fn plus(&self, r: usize, y: __m512) -> __m512 {
        if self.codes {
            // SAFETY: a row that `new` checked, as many bytes as the mask has bits.
            let x = unsafe { _mm_maskz_loadu_epi8(self.mask, self.at.cast::<i8>().add(r * self.stride)) };
            let x = _mm512_sub_epi32(_mm512_cvtepi8_epi32(x), _mm512_set1_epi32(self.zero_point));
            _mm512_fmadd_ps(_mm512_cvtepi32_ps(x), _mm512_set1_ps(self.scale), y)
        } else {
            // SAFETY: a row that `new` checked, as many floats as the mask has bits.
            let x = unsafe { _mm512_maskz_loadu_ps(self.mask, self.at.cast::<f32>().add(r * self.stride)) };
            _mm512_add_ps(y, x)
        }
    }
}

/// Where a tile goes. Checked when made, so that nothing is checked row by row.
struct Target {
    mask: __mmask16,
    stride: usize,
    /// Floats, or `codes`.
    at: *mut u8,
    codes: bool,
    inv_scale: f32,
    zero: f32,
}

/// Sixteen codes.
#[target_feature(enable = "avx512f")]
#[inline]
fn quantized(y: __m512, inv_scale: __m512, zero: __m512) -> __m128i {
    const NEAREST_EVEN: i32 = _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC;
    let q = _mm512_add_ps(_mm512_roundscale_ps::<NEAREST_EVEN>(_mm512_mul_ps(y, inv_scale)), zero);
    // In this order of operands NaN comes through. It, and what is below i32, becomes the least integer, and
    // saturates to the least code.
    _mm512_cvtsepi32_epi8(_mm512_cvtps_epi32(_mm512_min_ps(_mm512_set1_ps(127.0), q)))
}

/// Rows from one that is stored to one whose cache line is asked for.
const AHEAD: usize = 24;

impl Target {
    /// `rows` rows from `row` on.
    #[inline(always)]
    fn new(out: &mut Output<'_>, row: usize, rows: usize, columns: &Columns) -> Target {
        let (rows, range) = (row..row + rows, columns.start..columns.start + columns.valid);
        let mask = mask(columns);
        match out {
            Output::F32(out) => {
                let (stride, at) = (out.stride(), out.part(rows, range).as_mut_ptr().cast());
                Target { mask, stride, at, codes: false, inv_scale: 0.0, zero: 0.0 }
            }
            Output::I8 { out, inv_scale, zero_point } => {
                let (stride, at) = (out.stride(), out.part(rows, range).as_mut_ptr().cast());
                Target { mask, stride, at, codes: true, inv_scale: *inv_scale, zero: *zero_point as f32 }
            }
        }
    }

    /// Stores row `r`.
    ///
    /// # Safety
    /// `r` is below `rows`, nothing else uses the result, and the CPU has AVX-512.
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    #[inline]
    unsafe fn write(&self, r: usize, y: __m512) {
        if self.codes {
            let q = quantized(y, _mm512_set1_ps(self.inv_scale), _mm512_set1_ps(self.zero));
            // SAFETY: a row that `new` checked, as many bytes as the mask has bits.
            unsafe { store_codes(self.at.cast::<i8>().add(r * self.stride), self.mask, q) };
        } else {
            let to = self.at.cast::<f32>();
            // A result larger than the cache would wait for every line that it writes: each is asked for two tiles ahead.
            _mm_prefetch::<_MM_HINT_T0>(to.wrapping_add((r + AHEAD) * self.stride).cast());
            // SAFETY: a row that `new` checked, as many floats as the mask has bits.
            unsafe { _mm512_mask_storeu_ps(to.add(r * self.stride), self.mask, y) };
        }
    }
}
