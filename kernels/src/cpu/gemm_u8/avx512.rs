//! AVX-512 VNNI: the tiles of [`super::super::gemm_f32`], of which each step takes four k.

use std::arch::x86_64::{
    __m512, _MM_HINT_T0, _mm_loadu_si128, _mm_prefetch, _mm_set1_epi8, _mm_setr_epi8, _mm_shuffle_epi8,
    _mm_storeu_si128, _mm_xor_si128, _mm512_castps_si512, _mm512_castsi512_ps, _mm512_dpbusd_epi32,
    _mm512_loadu_ps, _mm512_loadu_si512, _mm512_mask_storeu_epi8, _mm512_maskz_loadu_epi8,
    _mm512_permutex2var_epi32, _mm512_set1_epi8, _mm512_set1_ps, _mm512_setr_epi32, _mm512_setzero_ps,
    _mm512_storeu_ps, _mm512_storeu_si512, _mm512_xor_si512,
};

use super::super::gemm_f32::avx512::{MR, NEAR, Store, Sums, To, product, tile_kernels};
use super::super::tile::each_row;
use super::{BLOCK, FOUR, Isa, PANEL, Task, Variant, scalar};

pub(super) const VARIANT: Variant = Variant {
    name: "gemm_w8_a8_rows__avx512_vnni",
    isa: Isa::Avx512Vnni,
    run,
    words_of_row,
    words_of_codes,
    words_of_pixels,
};

tile_kernels!("avx2,fma,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni", multiply);

/// Registers hold whole numbers, though their type is another.
#[inline]
#[target_feature(enable = "avx512f,avx512vnni")]
fn multiply(x: __m512, q: __m512, sum: __m512) -> __m512 {
    let [x, q, sum] = [x, q, sum].map(|v| _mm512_castps_si512(v));
    _mm512_castsi512_ps(_mm512_dpbusd_epi32(sum, x, q))
}

#[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl,avx512vnni")]
fn run(task: &mut Task<'_>) {
    product(&mut task.product, Some(&task.reals), of);
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn words_of_row(row: &[i8], words: &mut [u32]) {
    let (wholes, rest) = row.as_chunks::<64>();
    let (to, last) = words.split_at_mut(wholes.len() * 16);
    let sign = _mm512_set1_epi8(-128);
    for (row, to) in wholes.iter().zip(to.as_chunks_mut::<16>().0) {
        // SAFETY: 64 bytes of each.
        unsafe {
            let x = _mm512_loadu_si512(row.as_ptr().cast());
            _mm512_storeu_si512(to.as_mut_ptr().cast(), _mm512_xor_si512(x, sign));
        }
    }
    if !rest.is_empty() {
        let mask = (1u64 << rest.len()) - 1;
        let stored = u64::MAX >> (64 - 4 * last.len());
        // SAFETY: the masks leave the bytes and the words that are there.
        unsafe {
            let x = _mm512_maskz_loadu_epi8(mask, rest.as_ptr());
            _mm512_mask_storeu_epi8(last.as_mut_ptr().cast(), stored, _mm512_xor_si512(x, sign));
        }
    }
}

#[target_feature(enable = "avx2,avx512f,avx512bw,avx512vl")]
fn words_of_pixels(pixels: &[i8], channels: usize, words: &mut [u32]) {
    let mut done = 0;
    if channels == 3 {
        // Four pixels of 12 bytes at a time, as long as 16 can be read.
        let spread = _mm_setr_epi8(0, 1, 2, -1, 3, 4, 5, -1, 6, 7, 8, -1, 9, 10, 11, -1);
        while let (Some(from), Some(to)) =
            (pixels.get(3 * done..3 * done + 16), words.get_mut(done..done + 4))
        {
            // SAFETY: 16 bytes of each.
            unsafe {
                let x = _mm_shuffle_epi8(_mm_loadu_si128(from.as_ptr().cast()), spread);
                _mm_storeu_si128(to.as_mut_ptr().cast(), _mm_xor_si128(x, _mm_set1_epi8(-128)));
            }
            done += 4;
        }
    }
    let (pixels, words) = (&pixels[channels * done..], &mut words[channels.div_ceil(FOUR) * done..]);
    scalar::words_of_pixels(pixels, channels, words);
}

#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn words_of_codes(codes: &[i8], words: &mut [u32]) {
    let even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30);
    let odd = _mm512_setr_epi32(1, 3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25, 27, 29, 31);
    let blocks = codes.as_chunks::<{ PANEL * BLOCK }>().0;
    for (codes, words) in blocks.iter().zip(words.chunks_mut(2 * PANEL)) {
        // SAFETY: 128 codes, and 16 words or 32.
        unsafe {
            let low = _mm512_loadu_si512(codes.as_ptr().cast());
            let high = _mm512_loadu_si512(codes.as_ptr().add(64).cast());
            let to = words.as_mut_ptr();
            _mm512_storeu_si512(to.cast(), _mm512_permutex2var_epi32(low, even, high));
            if words.len() > PANEL {
                _mm512_storeu_si512(to.add(PANEL).cast(), _mm512_permutex2var_epi32(low, odd, high));
            }
        }
    }
}
