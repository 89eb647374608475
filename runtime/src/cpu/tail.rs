//! What follows a product before it is stored: scale, bias, residual, activation, factor, of which each tile takes its part.

use super::memory::Views;
use super::product::element;
use super::{Context, floats};
use crate::graph::Act;
use crate::plan::{Finish, Quant, Step};
use edge_kernels::cpu::activation::Activation;
use edge_kernels::cpu::gemm_f32::{Addend, Epilogue, ResidualOrder, Rows, Scale};

/// The kernels' name of an activation function.
pub(crate) fn activation(act: Act) -> Activation {
    match act {
        Act::None => Activation::None,
        Act::Relu => Activation::Relu,
        Act::Clip { lo, hi } => Activation::Clip { lo, hi },
        Act::LeakyRelu { alpha } => Activation::LeakyRelu { alpha },
        Act::HardSigmoid { alpha, beta } => Activation::HardSigmoid { alpha, beta },
        Act::HardSwish => Activation::HardSwish,
        Act::Sigmoid => Activation::Sigmoid,
        Act::Silu => Activation::Silu,
        Act::Tanh => Activation::Tanh,
        Act::Gelu => Activation::Gelu,
        Act::GeluTanh => Activation::GeluTanh,
    }
}

/// Scale, bias, residual and factor of a whole product `[m, n]`, from which each tile takes its part.
pub(crate) struct Tail<'a> {
    pub scale: Option<&'a [f32]>,
    /// The scale of i8 activations, when they are.
    pub input_scale: Option<f32>,
    pub bias: Option<&'a [f32]>,
    pub residual: Option<(&'a [u8], Option<Quant>)>,
    /// Elements between the rows of the residual; 0 when one row is for all.
    pub residual_pitch: usize,
    pub factor: Option<&'a [f32]>,
    pub finish: Finish,
}

impl<'a> Tail<'a> {
    /// The tail of a step whose rows may be corrected: scale and bias are then made in the front of its scratch.
    pub fn new(
        ctx: &Context<'_>,
        step: &Step,
        views: &mut Views<'a>,
        n: usize,
        finish: Finish,
        input: Option<Quant>,
    ) -> Result<Tail<'a>, String> {
        let (mut scale, mut bias) = (views.inputs[1].map(floats), views.inputs[2].map(floats));
        if let Some(tensor) = finish.corrected {
            let correction = ctx.tensor(tensor)?.correction();
            let correction = correction.ok_or_else(|| format!("weight {tensor} has no correction"))?;
            let (area, rest) = std::mem::take(&mut views.scratch).split_at_mut(step.op.shared_scratch());
            views.scratch = rest;
            let (scales, biases) = super::floats_mut(area)[..2 * n].split_at_mut(n);
            let unit = input.map_or(1.0, |q| q.scale);
            match scale {
                Some(scale) => scales.copy_from_slice(scale),
                None => scales.fill(unit),
            }
            match bias {
                Some(bias) => biases.copy_from_slice(bias),
                None => biases.fill(0.0),
            }
            correction.apply(scales, biases, 1.0 / unit, finish.one_scale);
            (scale, bias) = (Some(&*scales), Some(&*biases));
        }
        let residual = views.inputs[3].map(|r| (r, step.inputs[3].as_ref().and_then(|o| o.quant)));
        let one_row = residual.is_some_and(|(bytes, quant)| bytes.len() == n * element(quant));
        Ok(Tail {
            scale,
            input_scale: input.map(|q| q.scale),
            bias,
            residual,
            residual_pitch: if one_row { 0 } else { n },
            factor: views.inputs[4].map(floats),
            finish,
        })
    }

    /// The epilogue of the tile at (`row`, `col`) of `rows` x `cols`.
    pub fn part(&self, row: usize, col: usize, rows: usize, cols: usize) -> Epilogue<'a> {
        let scale = match (self.scale, self.input_scale) {
            (Some(scale), _) => Scale::PerColumn(&scale[col..col + cols]),
            (None, Some(scale)) => Scale::Uniform(scale),
            (None, None) => Scale::One,
        };
        let order = if self.finish.act_before_residual {
            ResidualOrder::AfterActivation
        } else {
            ResidualOrder::BeforeActivation
        };
        let pitch = self.residual_pitch;
        let residual = self.residual.map(|(bytes, quant)| {
            let addend = match quant {
                None => Addend::F32(Rows::new(&floats(bytes)[row * pitch + col..], rows, cols, pitch)),
                Some(q) => Addend::I8 {
                    rows: Rows::new(&super::elements(bytes)[row * pitch + col..], rows, cols, pitch),
                    scale: q.scale,
                    zero_point: q.zero_point,
                },
            };
            (addend, order)
        });
        let bias = self.bias.map(|b| &b[col..col + cols]);
        let factor = self.factor.map(|f| &f[col..col + cols]);
        Epilogue { scale, bias, residual, act: activation(self.finish.act), factor }
    }
}
