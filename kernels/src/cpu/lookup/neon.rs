//! NEON: four tables of 64 bytes; an index outside a table leaves what the one before has found.

use std::arch::aarch64::{
    uint8x16_t, uint8x16x4_t, vdupq_n_u8, vld1q_u8, vld1q_u8_x4, vqtbl4q_u8, vqtbx4q_u8, vst1q_u8, vsubq_u8,
};

use super::{Isa, Table, Variant, scalar};

pub(super) const VARIANT: Variant = Variant { name: "lookup__neon", isa: Isa::Neon, extra: || true, run };

/// Bytes of a register.
const VEC: usize = 16;
/// Bytes of a table.
const PART: u8 = 64;

/// # Safety
/// `n` bytes can be read from `x` and written to `y`, which are the same or apart.
#[target_feature(enable = "neon")]
unsafe fn run(table: &Table, x: *const i8, y: *mut i8, n: usize) {
    // SAFETY: the table has four parts.
    let part = |i: usize| unsafe { vld1q_u8_x4(table.as_ptr().add(i * usize::from(PART)).cast()) };
    let parts = [part(0), part(1), part(2), part(3)];
    let whole = n / VEC * VEC;
    for i in (0..whole).step_by(VEC) {
        // SAFETY: `VEC` bytes from `i` on are below `n`.
        unsafe { vst1q_u8(y.add(i).cast(), look_up(&parts, vld1q_u8(x.add(i).cast()))) }
    }
    // SAFETY: what is left of `n` bytes.
    unsafe { scalar::run(table, x.add(whole), y.add(whole), n - whole) }
}

#[inline]
#[target_feature(enable = "neon")]
fn look_up(parts: &[uint8x16x4_t; 4], x: uint8x16_t) -> uint8x16_t {
    let mut at = x;
    let mut found = vqtbl4q_u8(parts[0], at);
    for part in &parts[1..] {
        // What was in an earlier part is below 0 now, which is beyond any table.
        at = vsubq_u8(at, vdupq_n_u8(PART));
        found = vqtbx4q_u8(found, *part, at);
    }
    found
}
