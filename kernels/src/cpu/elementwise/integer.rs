//! Integer elements: wrapping arithmetic in which nothing panics.

use super::InOut;

/// An integer element. Arithmetic wraps; division truncates toward zero and gives 0 for a divisor of 0.
pub trait Int: Copy + Default + PartialOrd + PartialEq + std::fmt::Debug + 'static {
    /// 0.
    const ZERO: Self;
    /// 1.
    const ONE: Self;
    /// Smallest value.
    const MIN: Self;
    /// Largest value.
    const MAX: Self;
    /// Wrapping sum.
    fn add(self, rhs: Self) -> Self;
    /// Wrapping difference.
    fn sub(self, rhs: Self) -> Self;
    /// Wrapping product.
    fn mul(self, rhs: Self) -> Self;
    /// Quotient truncated toward zero; 0 for a divisor of 0.
    fn div(self, rhs: Self) -> Self;
    /// What [`Int::div`] leaves, with the sign of `self`; 0 for a divisor of 0.
    fn rem(self, rhs: Self) -> Self;
    /// `self^exponent`; a negative exponent truncates toward zero (0 unless `self` is 1 or -1).
    fn pow(self, exponent: Self) -> Self;
    /// Wrapping negation.
    fn neg(self) -> Self;
    /// Bitwise complement.
    fn bit_not(self) -> Self;
    /// Bitwise and.
    fn bit_and(self, rhs: Self) -> Self;
    /// Bitwise or.
    fn bit_or(self, rhs: Self) -> Self;
    /// Bitwise exclusive or.
    fn bit_xor(self, rhs: Self) -> Self;
    /// `self << by`; 0 when `by` is negative or not below the width.
    fn shl(self, by: Self) -> Self;
    /// `self >> by`, arithmetic for signed types; 0 when `by` is negative or not below the width.
    fn shr(self, by: Self) -> Self;
}

// One row a type: the methods are named by the trait above, the bodies differ in the type only.
macro_rules! int {
    ($($t:ty)*) => {$(
        impl Int for $t {
            const ZERO: Self = 0;
            const ONE: Self = 1;
            const MIN: Self = <$t>::MIN;
            const MAX: Self = <$t>::MAX;
            #[inline(always)]
            fn add(self, rhs: Self) -> Self { self.wrapping_add(rhs) }
            #[inline(always)]
            fn sub(self, rhs: Self) -> Self { self.wrapping_sub(rhs) }
            #[inline(always)]
            fn mul(self, rhs: Self) -> Self { self.wrapping_mul(rhs) }
            #[inline(always)]
            fn div(self, rhs: Self) -> Self { if rhs == 0 { 0 } else { self.wrapping_div(rhs) } }
            #[inline(always)]
            fn rem(self, rhs: Self) -> Self { if rhs == 0 { 0 } else { self.wrapping_rem(rhs) } }
            #[inline(always)]
            fn pow(self, exponent: Self) -> Self {
                #[allow(unused_comparisons)] // the unsigned types never have a negative exponent
                if exponent < 0 {
                    // 1 / self^|exponent| is 1 or -1 for such a base and truncates to 0 for every other.
                    let unit = self == 1 || self == (0 as $t).wrapping_sub(1);
                    let power = if exponent & 1 == 0 { 1 } else { self };
                    return if unit { power } else { 0 };
                }
                let (mut base, mut left, mut result) = (self, exponent, 1);
                while left != 0 {
                    if left & 1 == 1 {
                        result = base.wrapping_mul(result);
                    }
                    base = base.wrapping_mul(base);
                    left >>= 1;
                }
                result
            }
            #[inline(always)]
            fn neg(self) -> Self { self.wrapping_neg() }
            #[inline(always)]
            fn bit_not(self) -> Self { !self }
            #[inline(always)]
            fn bit_and(self, rhs: Self) -> Self { self & rhs }
            #[inline(always)]
            fn bit_or(self, rhs: Self) -> Self { self | rhs }
            #[inline(always)]
            fn bit_xor(self, rhs: Self) -> Self { self ^ rhs }
            #[inline(always)]
            fn shl(self, by: Self) -> Self {
                u32::try_from(by).ok().and_then(|by| self.checked_shl(by)).unwrap_or(0)
            }
            #[inline(always)]
            fn shr(self, by: Self) -> Self {
                u32::try_from(by).ok().and_then(|by| self.checked_shr(by)).unwrap_or(0)
            }
        }
    )*};
}
int! { i8 i16 i32 i64 u8 u16 u32 u64 }

/// A function of one integer tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IntUnaryOp {
    /// `-x`, wrapping.
    Neg,
    /// `|x|`; the smallest signed value stays as it is.
    Abs,
    /// -1, 0 or 1.
    Sign,
    /// Every bit inverted.
    BitNot,
}

/// `y[i] = op(x[i])` on integers.
///
/// # Panics
/// When the buffers of [`InOut::Apart`] differ in length.
pub fn unary_int<T: Int>(op: IntUnaryOp, io: InOut<'_, T>) {
    match op {
        IntUnaryOp::Neg => each(io, T::neg),
        IntUnaryOp::Abs => each(io, |x| if x < T::ZERO { x.neg() } else { x }),
        IntUnaryOp::Sign => each(io, |x| {
            let positive = if x > T::ZERO { T::ONE } else { T::ZERO };
            if x < T::ZERO { T::ONE.neg() } else { positive }
        }),
        IntUnaryOp::BitNot => each(io, T::bit_not),
    }
}

fn each<T: Int>(io: InOut<'_, T>, f: impl Fn(T) -> T) {
    io.each_block(|x, y| y.iter_mut().zip(x).for_each(|(y, x)| *y = f(*x)));
}
