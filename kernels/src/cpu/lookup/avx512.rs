//! AVX-512 with VBMI: the table is four registers, of which two permutations reach each half.
//!
//! ```text
//! for each 64 bytes:
//!     low  = permute(table[0..128], x)       by the low 7 bits
//!     high = permute(table[128..256], x)
//!     y    = x's top bit ? high : low
//! ```

use std::arch::x86_64::{
    __m512i, _mm512_loadu_si512, _mm512_mask_blend_epi8, _mm512_mask_storeu_epi8, _mm512_maskz_loadu_epi8,
    _mm512_movepi8_mask, _mm512_permutex2var_epi8, _mm512_storeu_si512,
};

use super::{Isa, Table, Variant};

pub(super) const VARIANT: Variant = Variant {
    name: "lookup__avx512",
    isa: Isa::Avx512,
    extra: || std::arch::is_x86_feature_detected!("avx512vbmi"),
    run,
};

/// Bytes of a register.
const VEC: usize = 64;

/// # Safety
/// The CPU has AVX-512 BW and VBMI; `n` bytes can be read from `x` and written to `y`, which are the same or apart.
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
unsafe fn run(table: &Table, x: *const i8, y: *mut i8, n: usize) {
    // SAFETY: the table has four registers.
    let part = |i: usize| unsafe { _mm512_loadu_si512(table.as_ptr().add(i * VEC).cast()) };
    let parts = [part(0), part(1), part(2), part(3)];
    let whole = n / VEC * VEC;
    for i in (0..whole).step_by(VEC) {
        // SAFETY: `VEC` bytes from `i` on are below `n`.
        unsafe {
            let bytes = _mm512_loadu_si512(x.add(i).cast());
            _mm512_storeu_si512(y.add(i).cast(), look_up(parts, bytes));
        }
    }
    if whole < n {
        let mask = (1u64 << (n - whole)) - 1;
        // SAFETY: the mask leaves the bytes below `n`.
        unsafe {
            let bytes = _mm512_maskz_loadu_epi8(mask, x.add(whole));
            _mm512_mask_storeu_epi8(y.add(whole), mask, look_up(parts, bytes));
        }
    }
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
fn look_up([a, b, c, d]: [__m512i; 4], x: __m512i) -> __m512i {
    let (low, high) = (_mm512_permutex2var_epi8(a, x, b), _mm512_permutex2var_epi8(c, x, d));
    _mm512_mask_blend_epi8(_mm512_movepi8_mask(x), low, high)
}
