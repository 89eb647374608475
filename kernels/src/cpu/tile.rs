//! What tiles of registers are made with: loops over their rows, written out, and memory that no cache line cuts.

/// A block for each row of a tile of at most 12, its number a constant. The compiler leaves a loop of this size a loop, with
/// its accumulators in memory.
macro_rules! each_row {
    ($rows:ident, |$row:ident| $body:block) => {
        each_row!($rows, $row, $body, 0 1 2 3 4 5 6 7 8 9 10 11)
    };
    ($rows:ident, $row:ident, $body:block, $($index:literal)*) => {$({
        const $row: usize = $index;
        if $row < $rows $body
    })*};
}

pub(in crate::cpu) use each_row;

/// A value at a multiple of 64 bytes: a register of that size that lies across two cache lines is read and written at half the
/// speed.
#[repr(C, align(64))]
pub(in crate::cpu) struct Aligned<T>(pub T);
