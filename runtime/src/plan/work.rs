//! How much a step has to do, whoever does it.

use super::fact::Operand;
use super::step::{Step, StepOp};

/// Arithmetic and memory of one step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Work {
    /// Multiply-adds of the definition; 0 where there are none to speak of.
    pub multiply_adds: u64,
    /// Whether they multiply integers.
    pub integer: bool,
    /// Bytes of operands and results, each once; weights as they are multiplied, a byte or four each.
    pub bytes: u64,
}

impl Step {
    /// What there is to do.
    pub fn work(&self) -> Work {
        let integer = self.inputs.first().is_some_and(|x| x.as_ref().is_some_and(|x| x.quant.is_some()));
        // Multiply-adds, and elements of stored matrices.
        let (multiply_adds, weights) = match &self.op {
            StepOp::Gemm { m, n, k, .. } => (m * n * k, n * k),
            StepOp::Conv { geometry: g, .. } | StepOp::Winograd { geometry: g, .. } => {
                let k = g.kernel[0] * g.kernel[1] * g.ic / g.groups.max(1);
                (g.batch * g.oh * g.ow * g.oc * k, g.oc * k)
            }
            StepOp::Depthwise { geometry: g, .. } => {
                let taps = g.kernel[0] * g.kernel[1];
                (g.batch * g.oh * g.ow * g.oc * taps, g.oc * taps)
            }
            StepOp::ConvTranspose { geometry: g, .. } => {
                let k = g.kernel[0] * g.kernel[1] * g.oc;
                (g.batch * g.ih * g.iw * g.ic * k, g.ic * k)
            }
            StepOp::MatMul(s) => (s.pairs.len() * s.m * s.n * s.k, 0),
            StepOp::Attention(s) => (s.heads.len() * s.m * s.n * (s.d + s.e), 0),
            StepOp::Lstm(s) => (s.steps * s.batch * 4 * s.hidden * (s.input + s.hidden), 0),
            StepOp::Gru(s) => (s.steps * s.batch * 3 * s.hidden * (s.input + s.hidden), 0),
            _ => (0, 0),
        };
        let operands = self.inputs.iter().flatten().chain(&self.outputs).map(Operand::bytes).sum::<usize>();
        let bytes = operands + weights * if integer { 1 } else { 4 };
        Work { multiply_adds: multiply_adds as u64, integer, bytes: bytes as u64 }
    }
}
