//! The CPU backend: runs the steps of a plan with the kernels chosen for this machine.

pub(crate) mod attention;
pub(crate) mod cached;
pub(crate) mod depthwise;
pub(crate) mod elementwise;
pub(crate) mod gather;
pub(crate) mod gemv;
pub(crate) mod kept;
pub(crate) mod matmul;
pub(crate) mod memory;
pub(crate) mod narrow;
pub(crate) mod normalize;
pub(crate) mod panels;
pub(crate) mod pool;
pub(crate) mod product;
pub(crate) mod recurrent;
pub(crate) mod reduce;
mod repeat;
pub(crate) mod resize;
mod rotary;
mod tail;
mod tasks;
pub(crate) mod transposed;
mod unfold;
mod window_sums;
mod windows;
pub(crate) mod winograd;
pub(crate) mod words;

use crate::device::Pool;
use crate::graph::{DType, TensorId};
use crate::plan::{Matrix, Step, StepOp, Stored, Thin};
use crate::weights::{Correction, Factors, Weights};
use edge_kernels::Isa;
use edge_kernels::cpu::im2col::deconv;
use edge_kernels::cpu::norm::Lrn;
use edge_kernels::cpu::winograd as tiles;
use edge_kernels::cpu::{
    conv_narrow, depthwise as dw, gemm_bf16, gemm_blocks, gemm_f32, gemm_i8, gemm_i16, gemm_u8, gemv_bits,
    gemv_half, gemv_planes, gemv_planes::few, lookup, loops, movement,
};
use memory::Views;
use std::sync::Arc;

pub(crate) use evaluate::evaluate;

mod evaluate;

/// The kernels in force: one variant a family, chosen once.
#[derive(Clone, Copy)]
pub(crate) struct Kernels {
    pub loops: loops::Variant,
    pub lookup: &'static lookup::Variant,
    pub gemm_f32: &'static gemm_f32::Variant,
    /// Where it is faster than `gemm_f32`.
    pub gemm_bf16: Option<&'static gemm_bf16::Variant>,
    pub gemm_i8: &'static gemm_i8::Variant,
    /// Where it is faster than `gemm_i8`.
    pub gemm_u8: Option<&'static gemm_u8::Variant>,
    /// Where they are faster than joining codes first.
    pub gemv_planes: Option<&'static gemv_planes::Variant>,
    pub gemv_floats: Option<&'static gemv_planes::FloatVariant>,
    pub gemv_rounded: Option<&'static gemv_planes::rounded::Variant>,
    pub gemv_bits: Option<&'static gemv_bits::Variant>,
    pub few_codes: Option<&'static few::Variant<u8>>,
    pub few_floats: Option<&'static few::Variant<f32>>,
    pub gemv_half: Option<&'static gemv_half::Variant>,
    pub gemm_i16: &'static gemm_i16::Variant,
    /// With weights that keep some blocks of K.
    pub blocks_f32: &'static gemm_blocks::F32Variant,
    pub blocks_i8: &'static gemm_blocks::I8Variant,
    /// Whether products of integers are by i16: AVX2 has no exact multiply of 8 bits.
    pub wide: bool,
    pub depthwise_f32: &'static dw::F32Variant,
    pub depthwise_i8: &'static dw::I8Variant,
    pub conv_narrow: &'static conv_narrow::Variant,
    pub winograd: &'static tiles::Variant,
    pub deconv: &'static deconv::Variant,
}

impl Kernels {
    /// The best kernels at or below a level.
    pub fn select(isa: Isa) -> Kernels {
        Kernels {
            loops: loops::select(isa),
            lookup: lookup::select(isa),
            gemm_f32: gemm_f32::select(isa),
            gemm_bf16: gemm_bf16::select(isa),
            gemm_i8: gemm_i8::select(isa),
            gemm_u8: gemm_u8::select(isa),
            gemv_planes: gemv_planes::select(isa),
            gemv_floats: gemv_planes::select_floats(isa),
            gemv_rounded: gemv_planes::rounded::select(isa),
            gemv_bits: gemv_bits::select(isa),
            few_codes: few::select_codes(isa),
            few_floats: few::select_floats(isa),
            gemv_half: gemv_half::select(isa),
            gemm_i16: gemm_i16::select(isa),
            blocks_f32: gemm_blocks::select_f32(isa),
            blocks_i8: gemm_blocks::select_i8(isa),
            wide: gemm_i8::select(isa).isa == Isa::Scalar && gemm_i16::select(isa).isa != Isa::Scalar,
            depthwise_f32: dw::select_f32(isa),
            depthwise_i8: dw::select_i8(isa),
            conv_narrow: conv_narrow::select(isa),
            winograd: tiles::select(isa),
            deconv: deconv::select(isa),
        }
    }

    /// The variant that does most of a step's work.
    pub fn of(&self, step: &Step) -> &'static str {
        let integer = step.work().integer;
        if let StepOp::Gemm { m, finish, .. } = step.op
            && let Some(kernel) = gemv::kernel(self, finish, m, integer)
        {
            return kernel.name();
        }
        match &step.op {
            StepOp::Conv { geometry, .. } if !integer && product::is_narrow(self, geometry) => {
                self.conv_narrow.name
            }
            StepOp::Gemm { finish, .. } | StepOp::Conv { finish, .. }
                if matches!(finish.stored, Some(Stored::Blocks | Stored::BlocksOfPlanes)) =>
            {
                if integer {
                    self.blocks_i8.name
                } else {
                    self.blocks_f32.name
                }
            }
            StepOp::Gemm { finish, .. } | StepOp::Conv { finish, .. }
                if integer
                    && finish.one_scale
                    && let Some(kernel) = self.gemm_u8 =>
            {
                kernel.name
            }
            StepOp::Gemm { .. } | StepOp::Conv { .. } if integer && self.wide => self.gemm_i16.name,
            StepOp::Gemm { .. } | StepOp::Conv { .. } if integer => self.gemm_i8.name,
            StepOp::PackPairs { .. } => self.gemm_bf16.map_or(self.gemm_f32.name, |v| v.name),
            StepOp::Gemm { finish, .. } | StepOp::Conv { finish, .. } if finish.bf16 => {
                self.gemm_bf16.map_or(self.gemm_f32.name, |v| v.name)
            }
            StepOp::Gemm { .. }
            | StepOp::Conv { .. }
            | StepOp::ConvTranspose { .. }
            | StepOp::MatMul(_)
            | StepOp::Attention(_)
            | StepOp::CachedAttention(_)
            | StepOp::Lstm(_)
            | StepOp::Gru(_) => self.gemm_f32.name,
            StepOp::Winograd { .. } | StepOp::TransformFilters { .. } => self.winograd.name,
            StepOp::Depthwise { .. } if integer => self.depthwise_i8.name,
            StepOp::Table(_) => self.lookup.name,
            StepOp::Depthwise { .. } => self.depthwise_f32.name,
            StepOp::Softmax { log: false, .. } => self.loops.name(),
            _ => self.loops.isa().name(),
        }
    }

    /// Names of the variants, for listings.
    pub fn names(&self) -> Vec<&'static str> {
        [
            self.gemm_f32.name,
            self.gemm_i8.name,
            self.gemm_i16.name,
            self.blocks_f32.name,
            self.blocks_i8.name,
            self.depthwise_f32.name,
            self.depthwise_i8.name,
            self.conv_narrow.name,
            self.winograd.name,
            self.deconv.name,
            self.lookup.name,
            self.loops.isa().name(),
        ]
        .into_iter()
        .chain(self.gemm_u8.map(|v| v.name))
        .chain(self.gemv_planes.map(|v| v.name))
        .chain(self.gemv_floats.map(|v| v.name))
        .chain(self.gemv_rounded.map(|v| v.name))
        .chain(self.gemv_bits.map(|v| v.name))
        .chain(self.few_codes.map(|v| v.name))
        .chain(self.few_floats.map(|v| v.name))
        .chain(self.gemv_half.map(|v| v.name))
        .chain(self.gemm_bf16.map(|v| v.name))
        .collect()
    }
}

/// What a step needs besides its memory.
pub(crate) struct Context<'a> {
    pub kernels: Kernels,
    pub pool: &'a Pool,
    /// The rung's weights by tensor.
    pub weights: &'a [Option<Arc<dyn Weights>>],
}

/// A run that stopped.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
#[allow(missing_docs)] // the fields are named in the messages
pub enum RunError {
    #[error("node `{node}` ({op}): {why}")]
    Step { node: String, op: &'static str, why: String },
    #[error("input `{name}`, element {index} is {value}: an integer rung takes finite numbers only")]
    NotFinite { name: String, index: usize, value: f32 },
    #[error(
        "input `{name}`, element {index} is {value:e}: doubles are computed as floats, which end at {:e}",
        f32::MAX
    )]
    TooLarge { name: String, index: usize, value: f64 },
    #[error("input {index}: {got} bytes given, the plan was made for {want}")]
    InputBytes { index: usize, got: usize, want: usize },
    #[error("the run was cancelled")]
    Cancelled,
    #[error("the session could not move to the rung that was asked for: {0}")]
    Moving(#[from] Box<crate::session::MoveError>),
}

impl From<crate::session::MoveError> for RunError {
    fn from(error: crate::session::MoveError) -> RunError {
        RunError::Moving(Box::new(error))
    }
}

impl Context<'_> {
    fn tensor(&self, id: TensorId) -> Result<&dyn Weights, String> {
        let weights = self.weights.get(id as usize).and_then(Option::as_deref);
        weights.ok_or_else(|| format!("weight {id} is not bound"))
    }
}

/// A matrix operand as a kernel sees it.
pub(crate) enum MatrixView<'a> {
    Weights(&'a dyn Weights),
    Panels(&'a [f32]),
}

fn matrix<'a>(
    ctx: &'a Context<'_>,
    step: &Step,
    views: &Views<'a>,
    i: usize,
) -> Result<MatrixView<'a>, String> {
    match step.weights.get(i) {
        Some(Matrix::Tensor(id)) => Ok(MatrixView::Weights(ctx.tensor(*id)?)),
        Some(Matrix::Factor(id, thin)) => {
            let factors = ctx.tensor(*id)?.correction().and_then(Correction::factors);
            let Factors { u, v, .. } = factors.ok_or_else(|| format!("weight {id} has no factors"))?;
            Ok(MatrixView::Weights(match thin {
                Thin::U => u.as_ref(),
                Thin::V => v.as_ref(),
            }))
        }
        Some(Matrix::Panels(_)) => Ok(MatrixView::Panels(floats(views.panels[i].unwrap_or_default()))),
        None => Err(format!("matrix {i} is missing")),
    }
}

/// The bytes as elements. An operand that is not there is an empty slice, which has no alignment.
pub(crate) fn elements<T: bytemuck::Pod>(bytes: &[u8]) -> &[T] {
    if bytes.is_empty() { &[] } else { bytemuck::cast_slice(bytes) }
}

/// As [`elements`], to be written.
pub(crate) fn elements_mut<T: bytemuck::Pod>(bytes: &mut [u8]) -> &mut [T] {
    if bytes.is_empty() { &mut [] } else { bytemuck::cast_slice_mut(bytes) }
}

pub(crate) fn floats(bytes: &[u8]) -> &[f32] {
    elements(bytes)
}

pub(crate) fn floats_mut(bytes: &mut [u8]) -> &mut [f32] {
    elements_mut(bytes)
}

/// Runs one step.
pub(crate) fn run(ctx: &Context<'_>, step: &Step, views: Views<'_>) -> Result<(), String> {
    let Views { inputs, .. } = &views;
    let x = inputs[0].unwrap_or_default();
    match &step.op {
        StepOp::Gemm { m, n, k, finish } => product::gemm(ctx, step, views, *m, *n, *k, *finish)?,
        StepOp::Conv { geometry, finish } => product::conv(ctx, step, views, geometry, *finish)?,
        StepOp::Unfold { geometry } => unfold::run(step, views, geometry),
        StepOp::TransformFilters { ic, oc } => winograd::transform(ctx, step, views, *ic, *oc)?,
        StepOp::PackPairs { n, k } => panels::pack_pairs(ctx, step, views, *n, *k)?,
        StepOp::DecodePanels { n, k } => panels::decode_panels(ctx, step, views, *n, *k)?,
        StepOp::Winograd { geometry, finish } => winograd::run(ctx, step, views, geometry, *finish)?,
        StepOp::Depthwise { geometry, finish } => depthwise::run(ctx, step, views, geometry, *finish)?,
        StepOp::ConvTranspose { geometry, finish } => transposed::run(ctx, step, views, geometry, *finish)?,
        StepOp::MatMul(shape) => matmul::run(ctx, views, shape),
        StepOp::Attention(shape) => attention::run(ctx, views, shape),
        StepOp::RotaryTable => rotary::table(ctx, views)?,
        StepOp::Rotary { heads, depth, width } => rotary::turn(ctx, views, [*heads, *depth, *width]),
        StepOp::CachedAttention(shape) => cached::run(ctx, views, shape)?,
        StepOp::PackPanels { n, k } => matmul::pack(views, *n, *k),
        StepOp::Quantize(_) | StepOp::QuantizeByDivision(_) | StepOp::Dequantize(_) | StepOp::Table(_) => {
            elementwise::quantized(ctx, step, views)
        }
        StepOp::Unary(op) => elementwise::unary(ctx, step, views, *op)?,
        StepOp::Binary { op, broadcast } => elementwise::binary(ctx, step, views, *op, broadcast)?,
        StepOp::Where { broadcast } => {
            let [a, b] = [inputs[1].unwrap_or_default(), inputs[2].unwrap_or_default()];
            elementwise::select(broadcast, x, a, b, views.outputs, out_type(step))
        }
        StepOp::Cast => elementwise::cast(step, x, views.outputs)?,
        StepOp::Pool { kind, geometry } => pool::run(ctx, step, views, *kind, geometry)?,
        StepOp::ResizeAxis { shape, spec, results, operand } => {
            resize::run(ctx, step, views, *shape, spec, results.clone(), operand.clone());
        }
        StepOp::Reduce { kind, shape } => reduce::run(ctx, step, views, *kind, shape)?,
        StepOp::AddRows(sums) => reduce::add_rows(ctx, step, views, *sums),
        StepOp::SumRows { divisor, codes } => reduce::sum_rows(views, *divisor, *codes),
        StepOp::ArgReduce { max, last, shape } => reduce::arg(views, *max, *last, *shape),
        StepOp::Softmax { log, shape } => normalize::softmax(ctx, views, *log, *shape),
        StepOp::LayerNorm { epsilon, cols } => normalize::layer_norm(ctx, views, *epsilon, *cols),
        StepOp::RmsNorm { epsilon, cols } => normalize::rms_norm(ctx, views, *epsilon, *cols),
        StepOp::GroupNorm { epsilon, batch, pixels, channels, groups } => {
            normalize::group_norm(ctx, views, *epsilon, *batch, *pixels, *channels, *groups)
        }
        StepOp::Lrn { size, alpha, beta, bias } => {
            let lrn = Lrn { size: *size, alpha: *alpha, beta: *beta, bias: *bias };
            normalize::lrn(ctx, step, views, lrn)
        }
        StepOp::Copy { plan } => {
            let [out, ..] = views.outputs;
            tasks::copy(ctx, plan, x, out);
        }
        StepOp::MoveToFront { from } => {
            let [out, ..] = views.outputs;
            out.copy_within(*from.., 0);
        }
        StepOp::Fill { value } => {
            let [out, ..] = views.outputs;
            movement::fill(out, &value[..out_type(step).bytes()]);
        }
        StepOp::PadMap { plan } => {
            let [out, ..] = views.outputs;
            plan.run(x, out);
        }
        StepOp::Gather { .. }
        | StepOp::GatherRows { .. }
        | StepOp::GatherElements { .. }
        | StepOp::GatherNd { .. }
        | StepOp::ScatterElements { .. }
        | StepOp::ScatterNd { .. }
        | StepOp::TopK { .. }
        | StepOp::NonMaxSuppression { .. }
        | StepOp::CumSum { .. }
        | StepOp::OneHot { .. }
        | StepOp::Trilu { .. } => gather::run(ctx, step, views)?,
        StepOp::Carry => repeat::carry(x, views),
        StepOp::Append => repeat::append(x, views)?,
        StepOp::Enter { .. } => repeat::enter(views),
        StepOp::Turn { .. } => repeat::turn(views),
        StepOp::Lstm(shape) => recurrent::lstm(ctx, step, views, shape)?,
        StepOp::Gru(shape) => recurrent::gru(ctx, step, views, shape)?,
    }
    Ok(())
}

fn out_type(step: &Step) -> DType {
    step.outputs.first().map_or(DType::F32, |o| o.dtype)
}
