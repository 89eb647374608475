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

pub(in crate::cpu) use binary::zip_apart;
pub use binary::{
    BinaryOp, BitwiseOp, CompareOp, Compared, LogicalOp, Number, Side, binary, binary_in_place, bitwise,
    compare, logical,
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

/// Elements of an in-place operand that are set aside before a loop overwrites them: at most 2 KiB, on the stack.
/// Reading from one buffer and writing to another is what the compiler vectorises best (overwriting, it turns a
/// selection such as ReLU's into masked stores, which are slow), and one set of loops serves both cases.
const ASIDE: usize = 256;

impl<'a, T: Copy> InOut<'a, T> {
    /// The result buffer after the operand was copied into it, for functions that take several passes.
    pub(in crate::cpu) fn into_copy(self) -> &'a mut [T] {
        match self {
            InOut::InPlace(y) => y,
            InOut::Apart(x, y) => {
                assert_eq!(x.len(), y.len(), "operand and result differ in length");
                y.copy_from_slice(x);
                y
            }
        }
    }
}

impl<T: Copy + Default> InOut<'_, T> {
    /// Calls `f` with parts of the operand and the equally long parts of the result that they belong to.
    #[inline(always)]
    fn each_block(self, mut f: impl FnMut(&[T], &mut [T])) {
        match self {
            InOut::Apart(x, y) => {
                assert_eq!(x.len(), y.len(), "operand and result differ in length");
                f(x, y);
            }
            InOut::InPlace(y) => {
                let mut aside = [T::default(); ASIDE];
                for y in y.chunks_mut(ASIDE) {
                    let x = &mut aside[..y.len()];
                    x.copy_from_slice(y);
                    f(x, y);
                }
            }
        }
    }
}
