//! Moving elements without looking at them: one strided copy, and padding.
//!
//! Tensors are bytes here, because an element's type does not matter to a copy. Transpose, slice (with negative
//! steps), expand, tile, concatenate, split and the interior of constant padding are all one [`CopyPlan`]: a
//! planner gives the strides, the plan is checked and simplified once, and running it allocates nothing.

mod copy;
mod pad;

#[cfg(test)]
mod tests;

pub use copy::{CopyPlan, DestinationRows, Runs, Side, Strides};
pub use pad::{PadMode, PadPlan};

/// Fills `dst` with copies of the element `pattern`.
///
/// # Panics
/// When `pattern` is empty or `dst` is not a multiple of it.
pub fn fill(dst: &mut [u8], pattern: &[u8]) {
    let size = pattern.len();
    assert!(size > 0 && dst.len().is_multiple_of(size), "{} bytes of elements of {size}", dst.len());
    if pattern.iter().all(|b| *b == pattern[0]) {
        dst.fill(pattern[0]);
        return;
    }
    // Doubling what is filled turns all but the first few copies into long ones.
    let first = size.min(dst.len());
    dst[..first].copy_from_slice(&pattern[..first]);
    let mut done = first;
    while done < dst.len() {
        let n = done.min(dst.len() - done);
        dst.copy_within(..n, done);
        done += n;
    }
}
