//! Activation functions that a matrix kernel applies to its result before storing it.

use super::math;

/// An elementwise function fused into the epilogue of a convolution or matrix product.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Activation {
    /// `x`
    #[default]
    None,
    /// `max(x, 0)`
    Relu,
    /// `min(max(x, lo), hi)`
    Clip {
        /// Lower bound.
        lo: f32,
        /// Upper bound.
        hi: f32,
    },
    /// `x` if `x >= 0`, else `alpha * x`
    LeakyRelu {
        /// Slope below zero.
        alpha: f32,
    },
    /// `min(max(alpha * x + beta, 0), 1)`
    HardSigmoid {
        /// Slope.
        alpha: f32,
        /// Value at zero.
        beta: f32,
    },
    /// `x * min(max(x / 6 + 1/2, 0), 1)`
    HardSwish,
    /// `1 / (1 + exp(-x))`
    Sigmoid,
    /// `x * sigmoid(x)`
    Silu,
    /// `tanh(x)`
    Tanh,
    /// `x * (1 + erf(x / sqrt(2))) / 2`
    Gelu,
    /// The tanh approximation of GELU: `x/2 * (1 + tanh(sqrt(2/pi) * (x + 0.044715 x^3)))`
    GeluTanh,
}

/// `max(x, bound)` that keeps NaN.
#[inline(always)]
fn at_least(x: f32, bound: f32) -> f32 {
    if x < bound { bound } else { x }
}

/// `min(x, bound)` that keeps NaN.
#[inline(always)]
fn at_most(x: f32, bound: f32) -> f32 {
    if x > bound { bound } else { x }
}

impl Activation {
    /// The function's value at `x`. NaN stays NaN.
    #[inline(always)]
    pub fn apply(self, x: f32) -> f32 {
        match self {
            Activation::None => x,
            Activation::Relu => at_least(x, 0.0),
            Activation::Clip { lo, hi } => at_most(at_least(x, lo), hi),
            Activation::LeakyRelu { alpha } => {
                if x < 0.0 {
                    alpha * x
                } else {
                    x
                }
            }
            Activation::HardSigmoid { alpha, beta } => at_most(at_least(alpha.mul_add(x, beta), 0.0), 1.0),
            Activation::HardSwish => x * at_most(at_least(x.mul_add(1.0 / 6.0, 0.5), 0.0), 1.0),
            Activation::Sigmoid => math::sigmoid(x),
            Activation::Silu => x * math::sigmoid(x),
            Activation::Tanh => math::tanh(x),
            Activation::Gelu => 0.5 * x * (1.0 + math::erf(x * std::f32::consts::FRAC_1_SQRT_2)),
            Activation::GeluTanh => {
                const C: f32 = 0.797_884_6; // sqrt(2 / pi)
                let inner = C * (0.044715 * x * x).mul_add(x, x);
                0.5 * x * (1.0 + math::tanh(inner))
            }
        }
    }
}
