//! AVX-512 with BF16: the tiles of [`super::super::gemm_f32`], of which each step takes a pair.

use std::arch::x86_64::{
    __m256bh, __m256i, __m512, __m512bh, __m512i, _MM_HINT_T0, _mm_prefetch, _mm512_castps_si512,
    _mm512_cvtepu16_epi32, _mm512_cvtne2ps_pbh, _mm512_cvtneps_pbh, _mm512_dpbf16_ps, _mm512_loadu_ps,
    _mm512_mask_storeu_epi32, _mm512_maskz_loadu_ps, _mm512_or_si512, _mm512_set1_ps, _mm512_setzero_ps,
    _mm512_slli_epi32, _mm512_storeu_ps, _mm512_storeu_si512,
};

use super::super::gemm_f32::avx512::{MR, NEAR, Store, Sums, To, product, tile_kernels};
use super::super::tile::each_row;
use super::{Isa, PANEL, Task, Variant};

pub(super) const VARIANT: Variant =
    Variant { name: "gemm_bf16_bf16__avx512_bf16", isa: Isa::Avx512Bf16, run, pairs_of_row, pairs_of_panel };

tile_kernels!("avx2,fma,avx512f,avx512bw,avx512dq,avx512vl,avx512bf16", multiply);

#[inline]
#[target_feature(enable = "avx512f,avx512bf16")]
fn multiply(a: __m512, b: __m512, sum: __m512) -> __m512 {
    _mm512_dpbf16_ps(sum, pairs(a), pairs(b))
}

/// The same bits as pairs.
#[inline]
#[target_feature(enable = "avx512f,avx512bf16")]
fn pairs(x: __m512) -> __m512bh {
    // SAFETY: both are 64 bytes, of which any bits are a value.
    unsafe { std::mem::transmute(_mm512_castps_si512(x)) }
}

#[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
fn run(task: &mut Task<'_, u32>) {
    product(task, None, of);
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
fn pairs_of_row(row: &[f32], words: &mut [u32]) {
    let whole = row.len() / 32 * 32;
    for (row, words) in row.as_chunks::<32>().0.iter().zip(words.as_chunks_mut::<16>().0) {
        // SAFETY: 32 elements and 16 words are there.
        unsafe {
            let (low, high) = (_mm512_loadu_ps(row.as_ptr()), _mm512_loadu_ps(row.as_ptr().add(16)));
            let pairs = _mm512_cvtne2ps_pbh(high, low);
            _mm512_storeu_si512(words.as_mut_ptr().cast(), std::mem::transmute::<__m512bh, __m512i>(pairs));
        }
    }
    let rest = &row[whole..];
    if !rest.is_empty() {
        let (words, mask) = (&mut words[whole / 2..], (1u32 << rest.len()) - 1);
        let stored = ((1u32 << words.len()) - 1) as u16;
        // SAFETY: the masks leave the elements and words that are there.
        unsafe {
            let low = _mm512_maskz_loadu_ps(mask as u16, rest.as_ptr());
            let high = _mm512_maskz_loadu_ps((mask >> 16) as u16, rest.as_ptr().wrapping_add(16));
            let pairs = std::mem::transmute::<__m512bh, __m512i>(_mm512_cvtne2ps_pbh(high, low));
            _mm512_mask_storeu_epi32(words.as_mut_ptr().cast(), stored, pairs);
        }
    }
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
fn pairs_of_panel(panel: &[f32], words: &mut [u32]) {
    for (words, pair) in words.as_chunks_mut::<PANEL>().0.iter_mut().zip(panel.chunks(2 * PANEL)) {
        let odd = if pair.len() > PANEL { u16::MAX } else { 0 };
        // SAFETY: an even row is there; the mask leaves an odd one that is not.
        unsafe {
            let even = half(_mm512_loadu_ps(pair.as_ptr()));
            let odd = half(_mm512_maskz_loadu_ps(odd, pair.as_ptr().wrapping_add(PANEL)));
            let both = _mm512_or_si512(even, _mm512_slli_epi32::<16>(odd));
            _mm512_storeu_si512(words.as_mut_ptr().cast(), both);
        }
    }
}

/// Elements rounded, each in the low half of its word.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512bf16")]
fn half(x: __m512) -> __m512i {
    // SAFETY: both are 32 bytes, of which any bits are a value.
    let rounded = unsafe { std::mem::transmute::<__m256bh, __m256i>(_mm512_cvtneps_pbh(x)) };
    _mm512_cvtepu16_epi32(rounded)
}
