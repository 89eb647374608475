//! The operations, with everything an exporter may leave implicit made explicit.

use super::{Block, DType};
use serde::{Deserialize, Serialize};

/// An activation function fused into the operation before it; see `edge_kernels` for the formulas.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)] // formulas stand at the kernels' `Activation`
pub enum Act {
    #[default]
    None,
    Relu,
    Clip {
        lo: f32,
        hi: f32,
    },
    LeakyRelu {
        alpha: f32,
    },
    HardSigmoid {
        alpha: f32,
        beta: f32,
    },
    HardSwish,
    Sigmoid,
    Silu,
    Tanh,
    Gelu,
    GeluTanh,
}

impl Act {
    /// Whether this is the identity.
    pub fn is_none(&self) -> bool {
        *self == Act::None
    }
}

/// Elementwise functions of one operand (ONNX's names and formulas).
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum UnaryOp {
    Act(Act),
    Neg,
    Abs,
    Sqrt,
    Exp,
    Log,
    Sin,
    Cos,
    Tan,
    Asin,
    Acos,
    Atan,
    Sinh,
    Cosh,
    Asinh,
    Acosh,
    Atanh,
    Erf,
    Sign,
    Floor,
    Ceil,
    Round,
    Reciprocal,
    Softplus,
    Softsign,
    Elu {
        alpha: f32,
    },
    Selu {
        alpha: f32,
        gamma: f32,
    },
    Celu {
        alpha: f32,
    },
    ThresholdedRelu {
        alpha: f32,
    },
    Mish,
    Shrink {
        lambd: f32,
        bias: f32,
    },
    /// `(saturate(round(x / scale) + zero_point) - zero_point) * scale`: the real that the nearest code of 8 bits stands for, saturated to
    /// [-128, 127], ties to even. ONNX's `QuantizeLinear` and `DequantizeLinear` in one.
    FakeQuant {
        scale: f32,
        zero_point: i32,
    },
    Not,
    BitNot,
    IsNan,
    IsInf {
        positive: bool,
        negative: bool,
    },
}

/// Elementwise functions of two operands, broadcast as NumPy does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum BinaryOp {
    Add,
    Sub,
    Mul,
    Div,
    Pow,
    Max,
    Min,
    /// Remainder with the divisor's sign, as Python's `%`.
    Mod,
    /// Remainder with the dividend's sign, as C's `fmod`.
    Fmod,
    PRelu,
    Equal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    And,
    Or,
    Xor,
    BitAnd,
    BitOr,
    BitXor,
    ShiftLeft,
    ShiftRight,
}

impl BinaryOp {
    /// Whether operands and result have one element type: neither a comparison nor a logical or bitwise operation.
    pub fn is_arithmetic(self) -> bool {
        use BinaryOp::{Add, Div, Fmod, Max, Min, Mod, Mul, PRelu, Pow, Sub};
        matches!(self, Add | Sub | Mul | Div | Pow | Max | Min | Mod | Fmod | PRelu)
    }
}

/// Reductions over axes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum ReduceOp {
    Sum,
    Mean,
    Max,
    Min,
    Prod,
    L1,
    L2,
    LogSum,
    LogSumExp,
    SumSquare,
}

/// Padding of a sliding window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Pads {
    /// Rows above, columns left, rows below, columns right.
    Explicit([usize; 4]),
    /// Output size = ceil(input / stride); the odd element goes to the end.
    SameUpper,
    /// Output size = ceil(input / stride); the odd element goes to the start.
    SameLower,
}

/// A sliding window over height and width; a 1-D operation has height 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// Height and width.
    pub kernel: [usize; 2],
    /// Steps between outputs.
    pub stride: [usize; 2],
    /// Steps between the taps of one window.
    pub dilation: [usize; 2],
    /// Elements added around the input.
    pub pads: Pads,
}

/// What a pooling window computes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PoolKind {
    /// The greatest element.
    Max,
    /// The mean; padding counts as zeros when `include_pad`.
    Average {
        /// Divide by the whole window, padding included.
        include_pad: bool,
    },
}

/// How `Pad` fills.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum PadMode {
    Constant,
    Reflect,
    Edge,
    Wrap,
}

/// How `Resize` maps an output coordinate to the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum CoordinateMode {
    HalfPixel,
    HalfPixelSymmetric,
    PytorchHalfPixel,
    AlignCorners,
    Asymmetric,
}

/// How `Resize` rounds a coordinate in nearest mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum NearestMode {
    RoundPreferFloor,
    RoundPreferCeil,
    Floor,
    Ceil,
}

/// How `Resize` computes an element.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum Interpolation {
    Nearest(NearestMode),
    Linear { antialias: bool },
    Cubic { a: f32, exclude_outside: bool, antialias: bool },
}

/// The direction of a recurrent operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum Direction {
    Forward,
    Reverse,
    Bidirectional,
}

/// A gate's function in a recurrent operation.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum RnnActivation {
    Sigmoid,
    Tanh,
    Relu,
    HardSigmoid { alpha: f32, beta: f32 },
    LeakyRelu { alpha: f32 },
    Affine { alpha: f32, beta: f32 },
    Elu { alpha: f32 },
    Softsign,
    Softplus,
    ScaledTanh { alpha: f32, beta: f32 },
    ThresholdedRelu { alpha: f32 },
}

/// What a scatter does with the element that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)]
pub enum ScatterReduction {
    None,
    Add,
    Mul,
    Max,
    Min,
}

/// An operation. The comment gives the operands in order; `?` marks optional ones.
///
/// Spatial operations take `[batch, height, width, channels]` or `[batch, width, channels]`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs)] // attributes bear ONNX's names
pub enum Op {
    /// x, w [N, K], scale? [N], bias? [N], residual?, factor? [N]. K runs over (kernel y, kernel x, channel of the group).
    /// `y = act(conv(x, w) * scale + bias) * factor`, the residual (of the result's shape, or [N]) added before the function or
    /// last. With groups, the rows of each group start at a multiple of 16 unless the convolution is depthwise.
    Conv { window: Window, groups: usize, out_channels: usize, act: Act, act_after_residual: bool },
    /// x, w [kh * kw * N, K] with rows in the order (kernel y, kernel x, out channel), bias? [N].
    ConvTranspose { window: Window, output_pads: [usize; 2], out_channels: usize, act: Act },
    /// x [.., K], w [N, K], scale? [N], bias? [N], residual?, factor? [N]: `y = act(x · wᵀ * scale + bias) * factor`, residual as
    /// `Conv`.
    Linear { out_features: usize, act: Act, act_after_residual: bool },
    /// a [.., M, K], b [.., K, N], both computed; leading dimensions broadcast. `alpha * (a · b)`.
    MatMul { trans_a: bool, trans_b: bool, alpha: f32 },
    /// q [.., m, d], k [.., n, d] ([.., d, n] when transposed), v [.., n, e], mask?: softmax(scale q k^T + mask) v.
    /// All four broadcast.
    Attention { k_transposed: bool, scale: f32 },
    /// ids [1, tokens], past [1], frequencies [pairs]: the cosines, then the sines of `(past + t) * frequency`, [tokens, 2 * pairs].
    RotaryTable,
    /// x [1, tokens, heads, depth], table [tokens, width]: the first `width` elements of each head turned, `(a cos - b sin, b cos + a sin)`,
    /// `a` and `b` being the two halves of them (Su et al., RoFormer, 2021).
    Rotary,
    /// q [1, tokens, heads, d], k [1, tokens, kv_heads, d], v [1, tokens, kv_heads, e], keys and values that are kept
    /// ([`super::Decoding::caches`]), past [1]: writes `k` and `v` behind the first `past` tokens that are kept. Then
    /// [1, tokens, heads * e], for each head `softmax(cap(scale q kᵀ)) v` over what is kept of the token itself and of those before it, of
    /// which the last `window` where there is one; `cap(s) = soft_cap * tanh(s / soft_cap)`. Each head of keys serves `heads / kv_heads`
    /// neighbouring ones of queries.
    CachedAttention { scale: f32, window: Option<usize>, soft_cap: Option<f32> },
    /// x
    Pool { kind: PoolKind, window: Window, ceil_mode: bool },
    /// x, scales?, sizes?: one number for each of `axes`.
    Resize { axes: Vec<i32>, interpolation: Interpolation, coordinates: CoordinateMode },
    /// x
    Unary(UnaryOp),
    /// a, b
    Binary(BinaryOp),
    /// condition, a, b
    Where,
    /// x
    Cast { to: DType },
    /// x
    Reduce { kind: ReduceOp, axes: Vec<i32>, keep_dims: bool },
    /// x, axes: i64 vector known to the planner; no axes reduces all of them, unless `noop_if_empty`.
    ReduceAxes { kind: ReduceOp, keep_dims: bool, noop_if_empty: bool },
    /// x
    ArgReduce { max: bool, axis: i32, keep_dims: bool, last: bool },
    /// x
    Softmax { axis: i32, log: bool },
    /// x, scale?, bias?: over the last `rank - axis` dimensions.
    LayerNorm { axis: i32, epsilon: f32 },
    /// x, scale?: `x / sqrt(mean(x²) + epsilon) * scale` over the last `rank - axis` dimensions.
    RmsNorm { axis: i32, epsilon: f32 },
    /// x, scale?, bias?: channels-last; each group of channels normalised over space and the group.
    GroupNorm { groups: usize, epsilon: f32 },
    /// x: channels-last.
    Lrn { size: usize, alpha: f32, beta: f32, bias: f32 },
    /// x
    Transpose { perm: Vec<usize> }, // empty: all dimensions reversed
    /// x, shape: 0 copies the input's size unless `allow_zero`, -1 is what remains.
    Reshape { allow_zero: bool },
    /// x: 1 inserted so that the result has it at `axes`.
    Unsqueeze { axes: Vec<i32> },
    /// x: the 1s at `axes` removed; all of them when empty.
    Squeeze { axes: Vec<i32> },
    /// x: to two dimensions, split before `axis`.
    Flatten { axis: i32 },
    /// any number of operands
    Concat { axis: i32 },
    /// x, starts, ends, steps?: one number for each of `axes`.
    Slice { axes: Vec<i32> },
    /// x, sizes?: equal parts when left out.
    Split { axis: i32 },
    /// x, pads (starts, then ends, for `axes`), value?
    Pad { mode: PadMode, axes: Vec<i32> },
    /// data, indices
    Gather { axis: i32 },
    /// data, indices
    GatherElements { axis: i32 },
    /// data, indices
    GatherNd { batch_dims: usize },
    /// data, indices, updates
    ScatterElements { axis: i32, reduction: ScatterReduction },
    /// data, indices, updates
    ScatterNd { reduction: ScatterReduction },
    /// x, shape
    Expand,
    /// x, repeats
    Tile,
    /// start, limit, delta
    Range,
    /// shape; `value` holds one element's bytes
    ConstantOfShape { dtype: DType, value: Vec<u8> },
    /// x: dimensions `[start, end)` as i64
    Shape { start: i32, end: Option<i32> },
    /// x: number of elements as i64
    Size,
    /// x, k
    TopK { axis: i32, largest: bool },
    /// boxes [B, N, 4] by two corners, scores [B, C, N], most of a class, overlap?, score?: (batch, class, box) of each box that is kept
    /// [B * C * most, 3], the first again behind them, and how many there are.
    NonMaxSuppression,
    /// x
    CumSum { axis: i32, exclusive: bool, reverse: bool },
    /// indices, depth, values [off, on]
    OneHot { axis: i32 },
    /// x, k?
    Trilu { upper: bool },
    /// x [seq, batch, I], w [dirs][4H, I] one operand a direction, r likewise, bias? [dirs, 8H], sequence_lens?,
    /// h0?, c0?, peephole?. Operand order: x, w0, r0, w1?, r1?, bias?, lens?, h0?, c0?, peephole?.
    /// Gates in the order i, o, f, c. Results: Y [seq, dirs, batch, H], Y_h, Y_c [dirs, batch, H].
    Lstm {
        direction: Direction,
        hidden: usize,
        activations: Vec<RnnActivation>,
        clip: Option<f32>,
        input_forget: bool,
    },
    /// As `Lstm` with gates z, r, h, bias [dirs, 6H], no cell; operands x, w0, r0, w1?, r1?, bias?, lens?, h0?.
    Gru {
        direction: Direction,
        hidden: usize,
        activations: Vec<RnnActivation>,
        clip: Option<f32>,
        linear_before_reset: bool,
    },
    /// condition: one branch is taken. The planner decides where it can.
    If { then_branch: Block, else_branch: Block },
    /// most?, going?, then what is carried from turn to turn, `carried` values: repeats the body while it goes on, at most so often.
    /// The body begins with [`Op::Turn`] and gives whether to go on, what is carried, and what each turn adds to a list.
    /// Results: what is carried in the end, the lists `[turns, ...]`, and the number of turns. `most`: turns that lists have room
    /// for, where no operand tells.
    Loop { body: Block, carried: usize, most: Option<u64> },
    /// No operand; the first node of a loop's body. Results: the turn's number as i64, what is carried.
    Turn,
    /// x
    Identity,
}

impl Op {
    /// The blocks inside: the branches of an `If`, the body of a loop.
    pub fn blocks(&self) -> impl Iterator<Item = &Block> {
        let blocks = match self {
            Op::If { then_branch, else_branch } => [Some(then_branch), Some(else_branch)],
            Op::Loop { body, .. } => [Some(body), None],
            _ => [None, None],
        };
        blocks.into_iter().flatten()
    }

    /// As [`Op::blocks`].
    pub fn blocks_mut(&mut self) -> impl Iterator<Item = &mut Block> {
        let blocks = match self {
            Op::If { then_branch, else_branch } => [Some(then_branch), Some(else_branch)],
            Op::Loop { body, .. } => [Some(body), None],
            _ => [None, None],
        };
        blocks.into_iter().flatten()
    }

    /// Whether there are blocks inside.
    pub fn has_blocks(&self) -> bool {
        self.blocks().next().is_some()
    }
}
