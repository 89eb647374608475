//! Functions of one f32 or boolean tensor.

use super::InOut;
use crate::cpu::activation::Activation;
use crate::cpu::isa::Isa;
use crate::cpu::loops::{self, Variant};
use crate::cpu::math;

/// A function applied to every element. NaN gives NaN unless said otherwise.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum UnaryOp {
    /// A function that can also be fused into a matrix kernel.
    Activation(Activation),
    /// `-x`
    Neg,
    /// `|x|`
    Abs,
    /// Square root, correctly rounded.
    Sqrt,
    /// `exp(x)`
    Exp,
    /// Natural logarithm.
    Log,
    /// Sine of radians.
    Sin,
    /// Cosine of radians.
    Cos,
    /// Tangent of radians.
    Tan,
    /// Inverse sine; by the platform's f64 library, so a last bit may differ between platforms.
    Asin,
    /// Inverse cosine; by the platform's f64 library.
    Acos,
    /// Inverse tangent; by the platform's f64 library.
    Atan,
    /// Hyperbolic sine; by the platform's f64 library.
    Sinh,
    /// Hyperbolic cosine; by the platform's f64 library.
    Cosh,
    /// Inverse hyperbolic sine; by the platform's f64 library.
    Asinh,
    /// Inverse hyperbolic cosine; by the platform's f64 library.
    Acosh,
    /// Inverse hyperbolic tangent; by the platform's f64 library.
    Atanh,
    /// The error function.
    Erf,
    /// -1, 0 or 1; a zero keeps its sign.
    Sign,
    /// Largest integer not above `x`.
    Floor,
    /// Smallest integer not below `x`.
    Ceil,
    /// Nearest integer, ties to even.
    Round,
    /// `1 / x`
    Reciprocal,
    /// `ln(1 + exp(x))`
    Softplus,
    /// `x / (1 + |x|)`
    Softsign,
    /// `x + bias` below `-lambd`, `x - bias` above `lambd`, 0 between.
    Shrink {
        /// Half the width of the gap.
        lambd: f32,
        /// Moves what is outside towards 0.
        bias: f32,
    },
    /// `x` if `x > 0`, else `alpha * (exp(x) - 1)`
    Elu {
        /// Negative limit of the result, sign changed.
        alpha: f32,
    },
    /// `gamma * x` if `x > 0`, else `gamma * alpha * (exp(x) - 1)`
    Selu {
        /// As in [`UnaryOp::Elu`].
        alpha: f32,
        /// Factor on everything.
        gamma: f32,
    },
    /// `x` if `x > 0`, else `alpha * (exp(x / alpha) - 1)`
    Celu {
        /// Negative limit of the result, sign changed.
        alpha: f32,
    },
    /// `x` if `x > alpha`, else 0 (NaN gives 0, as in ONNX).
    ThresholdedRelu {
        /// The threshold.
        alpha: f32,
    },
    /// `x * tanh(ln(1 + exp(x)))`
    Mish,
}

/// A question about an f32, answered 0 or 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FloatTest {
    /// Not a number.
    IsNan,
    /// An infinity of a sign that is asked for.
    IsInf {
        /// Count positive infinity.
        positive: bool,
        /// Count negative infinity.
        negative: bool,
    },
}

/// `y[i] = op(x[i])`.
///
/// # Panics
/// When the buffers of [`InOut::Apart`] differ in length.
pub fn unary(v: Variant, op: UnaryOp, io: InOut<'_, f32>) {
    match op {
        UnaryOp::Activation(activation) => activate(v, activation, io),
        UnaryOp::Neg => each(v, io, |x| -x),
        UnaryOp::Abs => each(v, io, f32::abs),
        UnaryOp::Sqrt => each(v, io, f32::sqrt),
        UnaryOp::Exp => each(v, io, math::exp),
        UnaryOp::Log => each(v, io, math::ln),
        UnaryOp::Sin => each(v, io, math::sin),
        UnaryOp::Cos => each(v, io, math::cos),
        UnaryOp::Tan => each(v, io, math::tan),
        UnaryOp::Asin => by_library(io, f64::asin),
        UnaryOp::Acos => by_library(io, f64::acos),
        UnaryOp::Atan => by_library(io, f64::atan),
        UnaryOp::Sinh => by_library(io, f64::sinh),
        UnaryOp::Cosh => by_library(io, f64::cosh),
        UnaryOp::Asinh => by_library(io, f64::asinh),
        UnaryOp::Acosh => by_library(io, f64::acosh),
        UnaryOp::Atanh => by_library(io, f64::atanh),
        UnaryOp::Erf => each(v, io, math::erf),
        UnaryOp::Sign => each(v, io, sign),
        UnaryOp::Floor => each(v, io, f32::floor),
        UnaryOp::Ceil => each(v, io, f32::ceil),
        UnaryOp::Round => each(v, io, f32::round_ties_even),
        UnaryOp::Reciprocal => each(v, io, |x| 1.0 / x),
        UnaryOp::Softplus => each(v, io, softplus),
        UnaryOp::Softsign => each(v, io, |x| x / (1.0 + x.abs())),
        UnaryOp::Shrink { lambd, bias } => each(
            v,
            io,
            #[inline(always)]
            move |x| {
                let below = if x < -lambd { x + bias } else { 0.0 };
                if x > lambd { x - bias } else { below }
            },
        ),
        UnaryOp::Elu { alpha } => each(
            v,
            io,
            #[inline(always)]
            move |x| selu(x, alpha, 1.0),
        ),
        UnaryOp::Selu { alpha, gamma } => each(
            v,
            io,
            #[inline(always)]
            move |x| selu(x, alpha, gamma),
        ),
        UnaryOp::Celu { alpha } => each(
            v,
            io,
            #[inline(always)]
            move |x| celu(x, alpha),
        ),
        UnaryOp::ThresholdedRelu { alpha } => each(v, io, move |x| if x > alpha { x } else { 0.0 }),
        UnaryOp::Mish => each(v, io, mish),
    }
}

/// One loop for each activation, so that none decides per element which it is.
fn activate(v: Variant, activation: Activation, io: InOut<'_, f32>) {
    use Activation::*;
    match activation {
        None => each(v, io, |x| x),
        Relu => each(v, io, |x| Relu.apply(x)),
        Clip { lo, hi } => each(v, io, move |x| Clip { lo, hi }.apply(x)),
        LeakyRelu { alpha } => each(v, io, move |x| LeakyRelu { alpha }.apply(x)),
        HardSigmoid { alpha, beta } => each(v, io, move |x| HardSigmoid { alpha, beta }.apply(x)),
        HardSwish => each(v, io, |x| HardSwish.apply(x)),
        Sigmoid => each(v, io, math::sigmoid),
        Silu => each(v, io, silu),
        Tanh => each(v, io, math::tanh),
        Gelu => each(v, io, gelu),
        GeluTanh => each(v, io, gelu_tanh),
    }
}

// The larger functions are named items marked for inlining, or marked closures: a plain closure of this size the
// compiler may leave as a call, which would run without the variant's instructions. Parameters are moved in: read
// through references, they might change with every store and would keep a loop from being vectorised.

#[inline(always)]
fn silu(x: f32) -> f32 {
    Activation::Silu.apply(x)
}

#[inline(always)]
fn gelu(x: f32) -> f32 {
    Activation::Gelu.apply(x)
}

#[inline(always)]
fn gelu_tanh(x: f32) -> f32 {
    Activation::GeluTanh.apply(x)
}

#[inline(always)]
fn sign(x: f32) -> f32 {
    let y = if x > 0.0 { 1.0 } else { x };
    if x < 0.0 { -1.0 } else { y }
}

#[inline(always)]
fn softplus(x: f32) -> f32 {
    math::max(x, 0.0) + math::ln_1p(math::exp(-x.abs()))
}

#[inline(always)]
fn selu(x: f32, alpha: f32, gamma: f32) -> f32 {
    let below = alpha * math::expm1(x);
    gamma * if x > 0.0 { x } else { below }
}

#[inline(always)]
fn celu(x: f32, alpha: f32) -> f32 {
    let below = alpha * math::expm1(x / alpha);
    if x > 0.0 { x } else { below }
}

/// With `e = exp(x)`, `tanh(ln(1 + e)) = n / (n + 2)` for `n = e * (e + 2)`: no logarithm, no cancellation.
#[inline(always)]
fn mish(x: f32) -> f32 {
    let e = math::exp(if x > 20.0 { 20.0 } else { x });
    let n = e * (e + 2.0);
    x * (n / (n + 2.0))
}

fn each(v: Variant, io: InOut<'_, f32>, f: impl Fn(f32) -> f32 + Copy) {
    io.each_block(|x, y| map(v, x, y, f));
}

/// Not inlined, so that there is one loop for each function and variant.
#[inline(never)]
fn map(v: Variant, x: &[f32], y: &mut [f32], f: impl Fn(f32) -> f32 + Copy) {
    if loops::PLAIN_IS_RARE && v.isa() == Isa::Scalar {
        return map_plain(x, y, loops::opaque(&f));
    }
    v.run_unless_rare(
        #[inline(always)]
        || {
            for (y, x) in y.iter_mut().zip(x) {
                *y = f(*x);
            }
        },
    );
}

/// The loop by calls: one copy for all functions.
#[inline(never)]
fn map_plain(x: &[f32], y: &mut [f32], f: &dyn Fn(f32) -> f32) {
    y.iter_mut().zip(x).for_each(|(y, x)| *y = f(*x));
}

/// Rare functions, by the platform's f64 library: its last-place differences almost never survive the rounding.
fn by_library(io: InOut<'_, f32>, f: fn(f64) -> f64) {
    io.each_block(|x, y| y.iter_mut().zip(x).for_each(|(y, x)| *y = f(f64::from(*x)) as f32));
}

/// `y[i] = 1` where `x[i]` is what `question` asks for, else 0.
///
/// # Panics
/// When the lengths differ.
pub fn test(question: FloatTest, x: &[f32], y: &mut [u8]) {
    assert_eq!(x.len(), y.len(), "operand and result differ in length");
    let pairs = x.iter().zip(y);
    match question {
        FloatTest::IsNan => pairs.for_each(|(x, y)| *y = u8::from(x.is_nan())),
        FloatTest::IsInf { positive, negative } => pairs.for_each(|(x, y)| {
            *y = u8::from((positive && *x == f32::INFINITY) || (negative && *x == f32::NEG_INFINITY));
        }),
    }
}

/// `y[i] = 1` where `x[i]` is 0, else 0.
///
/// # Panics
/// When the buffers of [`InOut::Apart`] differ in length.
pub fn not(io: InOut<'_, u8>) {
    io.each_block(|x, y| y.iter_mut().zip(x).for_each(|(y, x)| *y = u8::from(*x == 0)));
}
