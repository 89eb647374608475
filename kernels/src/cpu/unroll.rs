//! Loops over the rows of a tile, written out.

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
