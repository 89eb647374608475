//! What the time of a step follows from, in words: steps of two plans that have the same signature take the same time on one device.

use super::fact::Operand;
use super::step::{Step, StepOp};
use std::fmt::Write;

impl Step {
    /// Operation, window, activation function, and the type and shape of every operand and result: such as
    /// `conv 3x3/2x2:1x1g1 HardSwish f32[1, 20, 20, 1] f32[16] f32[16] > f32[1, 10, 10, 16]`. The precision of weights is no part of it: it
    /// decides the time of products of a few rows alone.
    pub fn signature(&self) -> String {
        let mut text = String::from(self.op.name());
        // Writing to a string does not fail.
        let _ = self.op.write_details(&mut text);
        for operand in self.inputs.iter().flatten() {
            let _ = write_operand(&mut text, operand);
        }
        text.push_str(" >");
        for result in &self.outputs {
            let _ = write_operand(&mut text, result);
        }
        text
    }
}

impl StepOp {
    fn write_details(&self, text: &mut String) -> std::fmt::Result {
        let (geometry, finish) = match self {
            StepOp::Gemm { finish, .. } => (None, Some(finish)),
            StepOp::Conv { geometry, finish }
            | StepOp::Winograd { geometry, finish }
            | StepOp::Depthwise { geometry, finish }
            | StepOp::ConvTranspose { geometry, finish } => (Some(geometry), Some(finish)),
            StepOp::Unfold { geometry } | StepOp::Pool { geometry, .. } => (Some(geometry), None),
            StepOp::Unary(op) => return write!(text, " {op:?}"),
            StepOp::Binary { op, .. } => return write!(text, " {op:?}"),
            StepOp::Reduce { kind, .. } => return write!(text, " {kind:?}"),
            _ => (None, None),
        };
        if let Some(g) = geometry {
            let ([ky, kx], [sy, sx], [dy, dx]) = (g.kernel, g.stride, g.dilation);
            write!(text, " {ky}x{kx}/{sy}x{sx}:{dy}x{dx}g{}", g.groups)?;
        }
        match finish {
            Some(finish) => write!(text, " {:?}", finish.act),
            None => Ok(()),
        }
    }
}

fn write_operand(text: &mut String, operand: &Operand) -> std::fmt::Result {
    write!(text, " {}{:?}", operand.dtype, operand.dims)
}
