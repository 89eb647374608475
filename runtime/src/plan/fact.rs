//! What the planner knows of a value.

use crate::graph::DType;
use std::sync::Arc;

/// Index into [`super::Plan::buffers`].
pub type BufferId = u32;

/// Integers that stand for reals: `real = scale * (q - zero_point)`, `q` in i8.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Quant {
    /// Real distance between two integers.
    pub scale: f32,
    /// The integer that stands for 0.
    pub zero_point: i32,
}

impl Quant {
    /// The finest i8 quantization that covers `[lo, hi]` and zero.
    pub fn covering(lo: f32, hi: f32) -> Quant {
        let lo = lo.min(0.0);
        let hi = hi.max(0.0);
        let scale = ((hi - lo) / 255.0).max(f32::MIN_POSITIVE * 256.0);
        let zero_point = (-128.0 - lo / scale).round_ties_even().clamp(-128.0, 127.0) as i32;
        Quant { scale, zero_point }
    }
}

/// A run of bytes of a buffer, seen as an array.
#[derive(Clone, Debug, PartialEq)]
pub struct Operand {
    /// The buffer.
    pub buffer: BufferId,
    /// First byte in the buffer.
    pub offset: usize,
    /// Element type.
    pub dtype: DType,
    /// Shape.
    pub dims: Vec<usize>,
    /// What the integers stand for, in an integer rung.
    pub quant: Option<Quant>,
    /// Elements from one run of the last dimension to the next, where they do not lie densely: a part of a joined
    /// value. Only products read and write such operands.
    pub pitch: Option<usize>,
}

impl Operand {
    /// Number of elements.
    pub fn elements(&self) -> usize {
        self.dims.iter().product()
    }

    /// Number of bytes of the elements.
    pub fn bytes(&self) -> usize {
        self.elements() * self.dtype.bytes()
    }

    /// Bytes from the first element to the last: more than [`Operand::bytes`] where others lie between.
    pub fn extent(&self) -> usize {
        match (self.pitch, self.dims.last()) {
            (Some(pitch), Some(last)) if *last > 0 && self.elements() > 0 => {
                ((self.elements() / last - 1) * pitch + last) * self.dtype.bytes()
            }
            _ => self.bytes(),
        }
    }

    /// Elements from one row of `cols` elements to the next.
    pub fn row_pitch(&self, cols: usize) -> usize {
        self.pitch.unwrap_or(cols)
    }
}

/// Where a value's elements are.
#[derive(Clone, Debug)]
pub(crate) enum Place {
    /// Known when the plan is made, held by the planner; becomes a plan constant if a step needs it.
    Known(Arc<[u8]>),
    /// Known when the plan is made, in the pack's constants.
    Constant(u32),
    /// Computed by a step (or given by the caller).
    Buffer { buffer: BufferId, offset: usize },
    /// A matrix operand, read through its weight expression.
    Weight(u32),
}

/// Type, shape and place of a value.
#[derive(Clone, Debug)]
pub(crate) struct Fact {
    pub dtype: DType,
    pub dims: Vec<usize>,
    pub quant: Option<Quant>,
    pub place: Place,
}

impl Fact {
    pub fn elements(&self) -> usize {
        self.dims.iter().product()
    }

    pub fn bytes(&self) -> usize {
        self.elements() * self.dtype.bytes()
    }

    pub fn rank(&self) -> usize {
        self.dims.len()
    }

    pub fn is_known(&self) -> bool {
        matches!(self.place, Place::Known(_) | Place::Constant(_))
    }

    /// The same elements under another shape.
    pub fn reshaped(&self, dims: Vec<usize>) -> Fact {
        debug_assert_eq!(dims.iter().product::<usize>(), self.elements());
        Fact { dims, ..self.clone() }
    }
}
