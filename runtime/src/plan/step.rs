//! What a plan is made of: operations with every shape and attribute resolved, ready for a backend.

use super::fact::{BufferId, Operand, Quant};
use crate::graph::{
    Act, BinaryOp, DType, Direction, PadMode, PoolKind, ReduceOp, RnnActivation, ScatterReduction, TensorId,
    UnaryOp,
};
use edge_kernels::cpu::elementwise::Broadcast;
use edge_kernels::cpu::movement::{self, CopyPlan, PadPlan};
use edge_kernels::cpu::reduce::{PartialSums, Reduction};
use edge_kernels::cpu::resize::AxisSpec;
use std::ops::Range;

/// One kernel call.
#[derive(Clone, Debug)]
pub struct Step {
    /// Index into [`super::Plan::names`].
    pub name: u32,
    /// What is computed.
    pub op: StepOp,
    /// Operands in the order of the graph operation; `None` where one is left out.
    pub inputs: Vec<Option<Operand>>,
    /// Results.
    pub outputs: Vec<Operand>,
    /// Matrix operands.
    pub weights: Vec<Matrix>,
    /// Memory of the step alone.
    pub scratch: Option<Workspace>,
    /// What it makes is kept between runs: only the first one runs it.
    pub once: bool,
}

/// Memory of one step, in equal parts for all workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Workspace {
    /// A buffer that no other step uses at the time.
    pub buffer: BufferId,
    /// Its size.
    pub bytes: usize,
}

/// Where a matrix operand comes from.
#[derive(Clone, Debug)]
pub enum Matrix {
    /// A weight of the pack.
    Tensor(TensorId),
    /// One of the two thin matrices that correct a weight of the pack.
    Factor(TensorId, Thin),
    /// Panels `[ceil(n / 16)][k][16]` computed by an earlier step.
    Panels(Operand),
}

/// Which of two thin matrices.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Thin {
    /// The left one, `[n, rank]`.
    U,
    /// The right one, `[rank, k]`.
    V,
}

impl Matrix {
    /// The tensor that it is a part of, when it is stored in the pack.
    pub fn tensor(&self) -> Option<TensorId> {
        match self {
            Matrix::Tensor(tensor) | Matrix::Factor(tensor, _) => Some(*tensor),
            Matrix::Panels(_) => None,
        }
    }

    /// What an earlier step computed.
    pub fn panels(&self) -> Option<&Operand> {
        match self {
            Matrix::Panels(operand) => Some(operand),
            Matrix::Tensor(_) | Matrix::Factor(..) => None,
        }
    }
}

/// A convolution with its sizes.
#[derive(Clone, Copy, Debug, PartialEq)]
#[allow(missing_docs)] // i: input, o: output; h: height, w: width, c: channels
pub struct ConvGeometry {
    pub batch: usize,
    pub ih: usize,
    pub iw: usize,
    pub ic: usize,
    pub oh: usize,
    pub ow: usize,
    pub oc: usize,
    pub kernel: [usize; 2],
    pub stride: [usize; 2],
    pub dilation: [usize; 2],
    pub pad_top: usize,
    pub pad_left: usize,
    pub pad_bottom: usize,
    pub pad_right: usize,
    pub groups: usize,
}

impl ConvGeometry {
    /// The same convolution along the width when it goes along the height of a single column, where all lies alike: kernels take
    /// neighbours in a row together.
    pub(super) fn along_the_width(self) -> ConvGeometry {
        if (self.iw, self.ow, self.kernel[1], self.pad_left) != (1, 1, 1, 0) {
            return self;
        }
        let swap = |[y, x]: [usize; 2]| [x, y];
        ConvGeometry {
            ih: self.iw,
            iw: self.ih,
            oh: self.ow,
            ow: self.oh,
            kernel: swap(self.kernel),
            stride: swap(self.stride),
            dilation: swap(self.dilation),
            pad_top: self.pad_left,
            pad_left: self.pad_top,
            pad_bottom: self.pad_right,
            pad_right: self.pad_bottom,
            ..self
        }
    }
}

/// How a matrix lies in the pack, where a product takes it so: of few rows, but for blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stored {
    /// Planes of bits.
    Planes,
    /// Elements of 16 bits.
    Halves,
    /// Some blocks of columns of each panel.
    Blocks,
    /// The same, of planes of bits, for a few rows.
    BlocksOfPlanes,
    /// Some of every few columns of each row, of planes of bits, for a few rows.
    FewOfPlanes,
    /// A bit an element, for a few rows.
    Bits,
}

/// What follows a product: see `edge_kernels`' epilogue.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Finish {
    /// The activation function.
    pub act: Act,
    /// Whether the residual is added before (false) or after the function.
    pub act_before_residual: bool,
    /// Operands may be rounded to bf16 where that multiplies faster.
    pub bf16: bool,
    /// The matrix has codes with one scale a row.
    pub one_scale: bool,
    /// Few rows of floats may be rounded to 8 bits by groups of columns where that multiplies faster.
    pub rounded: bool,
    /// The rows are few, and so the matrix is stored: as a product can read it.
    pub stored: Option<Stored>,
    /// The tensor whose correction has gains and shifts for the rows of the matrix.
    pub corrected: Option<TensorId>,
}

/// A batched product of two computed matrices.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub struct MatMulShape {
    pub m: usize,
    pub n: usize,
    pub k: usize,
    pub trans_a: bool,
    pub trans_b: bool,
    pub alpha: f32,
    /// For each product, the index of the matrix of a and of b.
    pub pairs: Vec<(u32, u32)>,
}

/// Which matrices a head of attention reads: their positions among those of each operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct Head {
    pub q: u32,
    pub k: u32,
    pub v: u32,
    pub mask: u32,
}

/// Attention with its sizes: q [m, d], k [n, d], v [n, e], mask [mask_rows, mask_cols], either of which may be 1.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub struct AttentionShape {
    pub m: usize,
    pub n: usize,
    pub d: usize,
    pub e: usize,
    pub k_transposed: bool,
    pub scale: f32,
    pub mask_rows: usize,
    pub mask_cols: usize,
    pub heads: Vec<Head>,
}

/// Attention over keys and values that are kept, with its sizes; see [`crate::graph::Op::CachedAttention`].
#[derive(Clone, Copy, Debug, PartialEq)]
#[allow(missing_docs)]
pub struct CachedShape {
    pub tokens: usize,
    pub heads: usize,
    pub kv_heads: usize,
    /// Elements of a query and a key.
    pub d: usize,
    /// Elements of a value.
    pub e: usize,
    /// Tokens that there is room for: whole panels of keys.
    pub context: usize,
    /// How keys and values are kept.
    pub kept: DType,
    pub scale: f32,
    pub window: Option<usize>,
    pub soft_cap: Option<f32>,
}

/// The sizes of a recurrent layer.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub struct RnnShape {
    pub steps: usize,
    pub batch: usize,
    pub input: usize,
    pub hidden: usize,
    pub direction: Direction,
    pub activations: Vec<RnnActivation>,
    pub clip: Option<f32>,
    /// LSTM: input and forget gates are coupled. GRU: linear_before_reset.
    pub flag: bool,
}

/// Sizes of an operation along one axis: `[outer, n, inner]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub struct AxisShape {
    pub outer: usize,
    pub n: usize,
    pub inner: usize,
}

/// A resolved operation. Operand order is the graph operation's, matrices apart.
#[derive(Clone, Debug)]
#[allow(missing_docs)]
pub enum StepOp {
    /// f32 to i8, by the product with the scale's reciprocal.
    Quantize(Quant),
    /// f32 to i8, by division, as ONNX defines it.
    QuantizeByDivision(Quant),
    /// i8 to f32.
    Dequantize(Quant),
    /// i8 through a table: a unary function, or another scale.
    Table(Box<[i8; 256]>),
    /// x [m, k], scale?, bias?, residual?, factor?
    Gemm { m: usize, n: usize, k: usize, finish: Finish },
    /// x, scale?, bias?, residual?, factor?
    Conv { geometry: ConvGeometry, finish: Finish },
    /// x; its windows as rows
    Unfold { geometry: ConvGeometry },
    /// no operand: a 3 x 3 filter's matrix, transformed for `Winograd`
    TransformFilters { ic: usize, oc: usize },
    /// no operand: a matrix [n, k] to panels of bf16 pairs
    PackPairs { n: usize, k: usize },
    /// no operand: a matrix [n, k] to panels of floats
    DecodePanels { n: usize, k: usize },
    /// x, scale?, bias?, residual?, factor?; the matrix is what `TransformFilters` made
    Winograd { geometry: ConvGeometry, finish: Finish },
    /// x, scale?, bias?, residual?, factor?
    Depthwise { geometry: ConvGeometry, finish: Finish },
    /// x, bias?
    ConvTranspose { geometry: ConvGeometry, finish: Finish },
    /// w [n, k] to panels
    PackPanels { n: usize, k: usize },
    /// a, b
    MatMul(MatMulShape),
    /// q, k, v, mask?
    Attention(AttentionShape),
    /// past, frequencies
    RotaryTable,
    /// x, table
    Rotary { heads: usize, depth: usize, width: usize },
    /// q, k, v, past; results: what is attended to, keys and values that are kept
    CachedAttention(CachedShape),
    /// x
    Pool { kind: PoolKind, geometry: ConvGeometry },
    /// x, indices, weights; the results `results` along the axis, of the elements `operand` alone
    ResizeAxis { shape: AxisShape, spec: AxisSpec, results: Range<usize>, operand: Range<usize> },
    /// x
    Unary(UnaryOp),
    /// a, b
    Binary { op: BinaryOp, broadcast: Box<Broadcast<2>> },
    /// condition, a, b
    Where { broadcast: Box<Broadcast<3>> },
    /// x
    Cast,
    /// x
    Reduce { kind: ReduceOp, shape: Box<Reduction> },
    /// x [rows, cols]: added to the output, which holds how far the sums have come: in floats, or of codes in i32
    AddRows(PartialSums),
    /// what `AddRows` left: the sums, divided; of so many codes each, where they are
    SumRows { divisor: f32, codes: Option<(Quant, usize)> },
    /// x
    ArgReduce { max: bool, last: bool, shape: AxisShape },
    /// x
    Softmax { log: bool, shape: AxisShape },
    /// x, scale?, bias?
    LayerNorm { epsilon: f32, cols: usize },
    /// x, scale?
    RmsNorm { epsilon: f32, cols: usize },
    /// x, scale?, bias?
    GroupNorm { epsilon: f32, batch: usize, pixels: usize, channels: usize, groups: usize },
    /// x
    Lrn { size: usize, alpha: f32, beta: f32, bias: f32 },
    /// x; elements of the output that the copy does not reach are left as they are
    Copy { plan: Box<CopyPlan> },
    /// no operand: the output's bytes from this one on move to its front
    MoveToFront { from: usize },
    /// no operand: every element of the output is this value's bytes
    Fill { value: [u8; 8] },
    /// x
    PadMap { plan: PadPlan },
    /// data, indices
    Gather { shape: AxisShape },
    /// indices; rows of the matrix
    GatherRows { row: usize },
    /// data, indices
    GatherElements { axis: usize },
    /// data, indices
    GatherNd { batch_dims: usize },
    /// data (already copied to the output), indices, updates
    ScatterElements { axis: usize, reduction: ScatterReduction },
    /// data (already copied to the output), indices, updates
    ScatterNd { reduction: ScatterReduction },
    /// x
    TopK { shape: AxisShape, k: usize, largest: bool },
    /// boxes, scores, overlap?, score?; batches, classes, boxes of a batch, most of a class
    NonMaxSuppression { shape: [usize; 4] },
    /// x
    CumSum { shape: AxisShape, exclusive: bool, reverse: bool },
    /// indices, values
    OneHot { shape: AxisShape },
    /// x
    Trilu { upper: bool, k: i64 },
    /// x; its bytes, where the output keeps them from turn to turn
    Carry,
    /// entry, turn; the entry lands in the output behind those of the turns before
    Append,
    /// most?, going?; whether the loop begins at all. If not, the run goes on with step `past`
    Enter { past: usize },
    /// going, most?; whether the loop goes on, and one turn more. If so, the run goes on with step `back`
    Turn { back: usize },
    /// x, bias?, h0?, c0?; matrices w0, r0, w1?, r1?
    Lstm(RnnShape),
    /// x, bias?, h0?; matrices w0, r0, w1?, r1?
    Gru(RnnShape),
}

impl StepOp {
    /// Bytes that all workers share before each has its own: scale and bias of a product whose rows are corrected.
    pub(crate) fn shared_scratch(&self) -> usize {
        let (n, finish) = match self {
            StepOp::Gemm { n, finish, .. } => (*n, finish),
            StepOp::Conv { geometry, finish }
            | StepOp::Winograd { geometry, finish }
            | StepOp::Depthwise { geometry, finish } => (geometry.oc, finish),
            _ => return 0,
        };
        if finish.corrected.is_some() { (8 * n).next_multiple_of(64) } else { 0 }
    }

    /// Whether it decides which step is next.
    pub(crate) fn is_of_a_loop(&self) -> bool {
        matches!(self, StepOp::Enter { .. } | StepOp::Turn { .. })
    }

    /// The name in listings and profiles.
    pub fn name(&self) -> &'static str {
        match self {
            StepOp::Quantize(_) | StepOp::QuantizeByDivision(_) => "quantize",
            StepOp::Dequantize(_) => "dequantize",
            StepOp::Table(_) => "table",
            StepOp::Gemm { .. } => "gemm",
            StepOp::Conv { .. } => "conv",
            StepOp::Unfold { .. } => "unfold",
            StepOp::TransformFilters { .. } => "transform_filters",
            StepOp::PackPairs { .. } => "pack_pairs",
            StepOp::DecodePanels { .. } => "decode_panels",
            StepOp::Winograd { .. } => "winograd",
            StepOp::Depthwise { .. } => "depthwise",
            StepOp::ConvTranspose { .. } => "conv_transpose",
            StepOp::PackPanels { .. } => "pack_panels",
            StepOp::MatMul(_) => "matmul",
            StepOp::Attention(_) => "attention",
            StepOp::RotaryTable => "rotary_table",
            StepOp::Rotary { .. } => "rotary",
            StepOp::CachedAttention(_) => "cached_attention",
            StepOp::Pool { .. } => "pool",
            StepOp::ResizeAxis { .. } => "resize",
            StepOp::Unary(_) => "unary",
            StepOp::Binary { .. } => "binary",
            StepOp::Where { .. } => "where",
            StepOp::Cast => "cast",
            StepOp::Reduce { .. } => "reduce",
            StepOp::AddRows(_) => "add_rows",
            StepOp::SumRows { .. } => "sum_rows",
            StepOp::ArgReduce { .. } => "arg_reduce",
            StepOp::Softmax { .. } => "softmax",
            StepOp::LayerNorm { .. } => "layer_norm",
            StepOp::RmsNorm { .. } => "rms_norm",
            StepOp::GroupNorm { .. } => "group_norm",
            StepOp::Lrn { .. } => "lrn",
            StepOp::Copy { .. } => "copy",
            StepOp::MoveToFront { .. } => "move_to_front",
            StepOp::Fill { .. } => "fill",
            StepOp::PadMap { .. } => "pad",
            StepOp::Gather { .. } => "gather",
            StepOp::GatherRows { .. } => "gather_rows",
            StepOp::GatherElements { .. } => "gather_elements",
            StepOp::GatherNd { .. } => "gather_nd",
            StepOp::ScatterElements { .. } => "scatter_elements",
            StepOp::ScatterNd { .. } => "scatter_nd",
            StepOp::TopK { .. } => "top_k",
            StepOp::NonMaxSuppression { .. } => "non_max_suppression",
            StepOp::CumSum { .. } => "cum_sum",
            StepOp::OneHot { .. } => "one_hot",
            StepOp::Trilu { .. } => "trilu",
            StepOp::Carry => "carry",
            StepOp::Append => "append",
            StepOp::Enter { .. } => "enter",
            StepOp::Turn { .. } => "turn",
            StepOp::Lstm(_) => "lstm",
            StepOp::Gru(_) => "gru",
        }
    }
}

/// Bytes of one element as a fill pattern.
pub(super) fn fill_value(dtype: DType, bytes: &[u8]) -> [u8; 8] {
    let mut value = [0; 8];
    let len = dtype.bytes();
    value[..len].copy_from_slice(&bytes[..len]);
    value
}

/// The kernels' name of a padding mode; constant padding is a fill and a copy.
pub(super) fn pad_mode(mode: PadMode) -> movement::PadMode {
    match mode {
        PadMode::Reflect => movement::PadMode::Reflect,
        PadMode::Edge | PadMode::Constant => movement::PadMode::Edge,
        PadMode::Wrap => movement::PadMode::Wrap,
    }
}
