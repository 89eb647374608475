//! The definition.

use super::{Isa, Table, Variant};

pub(super) const VARIANT: Variant =
    Variant { name: "lookup__scalar", isa: Isa::Scalar, extra: || true, run: run_all };

/// # Safety
/// `n` bytes can be read from `x` and written to `y`.
unsafe fn run_all(table: &Table, x: *const i8, y: *mut i8, n: usize) {
    // SAFETY: the caller's promise.
    unsafe { run(table, x, y, n) }
}

/// # Safety
/// `n` bytes can be read from `x` and written to `y`, which are the same or apart.
#[inline(always)]
pub(super) unsafe fn run(table: &Table, x: *const i8, y: *mut i8, n: usize) {
    for i in 0..n {
        // SAFETY: `i` is below `n`.
        unsafe { *y.add(i) = table[usize::from(*x.add(i) as u8)] }
    }
}
