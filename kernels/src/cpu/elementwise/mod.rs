//! Elementwise functions of one, two and three tensors, and casts.
//!
//! Tensors are dense slices. The planner makes a [`Broadcast`] once from the shapes; the kernels then run inner
//! loops over vectors and scalars only. Every loop is compiled per instruction set (see [`super::loops`]).

mod binary;
mod broadcast;
mod cast;
mod integer;
mod select;
mod unary;

#[cfg(test)]
mod tests;

pub use binary::{
    BinaryOp, BitwiseOp, CompareOp, LogicalOp, Number, Side, binary, binary_in_place, bitwise, compare,
    logical,
};
pub use broadcast::Broadcast;
pub use cast::{Elements, ElementsMut, cast};
pub use integer::{Int, IntUnaryOp, unary_int};
pub use select::select;
pub use unary::{FloatTest, UnaryOp, not, test, unary};

/// The operand and result of a function of one tensor: two buffers, or one that is overwritten.
#[derive(Debug)]
pub enum InOut<'a, T> {
    /// Reads the first, writes the second; of equal length.
    Apart(&'a [T], &'a mut [T]),
    /// Reads and overwrites.
    InPlace(&'a mut [T]),
}

/// Elements that are copied ahead of an in-place loop: 4 KiB of f32, which stays in the first-level cache.
const BLOCK: usize = 1024;

impl<T: Copy> InOut<'_, T> {
    /// Calls `f` on the result buffer, block by block, each holding the operand's elements when `f` gets it.
    #[inline(always)]
    fn each_block(self, mut f: impl FnMut(&mut [T])) {
        match self {
            InOut::InPlace(y) => f(y),
            InOut::Apart(x, y) => {
                assert_eq!(x.len(), y.len(), "operand and result differ in length");
                for (x, y) in x.chunks(BLOCK).zip(y.chunks_mut(BLOCK)) {
                    y.copy_from_slice(x);
                    f(y);
                }
            }
        }
    }
}
