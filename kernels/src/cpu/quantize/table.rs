//! Functions of one quantized element as a table of all 256 results.

use super::{Quantized, Scaling, dequantize, quantize};
use crate::cpu::elementwise::{InOut, UnaryOp, unary};
use crate::cpu::loops::Variant;

/// Results by the operand's bits: `table[x as u8]`.
pub type Table<Q> = [Q; 256];

/// What a quantized integer stands for: `scale * (q - zero_point)`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct QuantParams {
    /// Value of one step.
    pub scale: f32,
    /// The integer that stands for 0.
    pub zero_point: i32,
}

/// An 8-bit operand, by its bits.
pub trait Byte: Quantized + Into<i32> {
    /// The value with these bits.
    fn from_bits(bits: u8) -> Self;
    /// This value's bits.
    fn bits(self) -> u8;
}

impl Byte for i8 {
    fn from_bits(bits: u8) -> i8 {
        bits as i8
    }
    #[inline(always)]
    fn bits(self) -> u8 {
        self as u8
    }
}

impl Byte for u8 {
    fn from_bits(bits: u8) -> u8 {
        bits
    }
    #[inline(always)]
    fn bits(self) -> u8 {
        self
    }
}

/// Fills `table` with `quantize(op(dequantize(x)))` for every `x`, rescaled by division.
pub fn fill_table<Q: Byte>(v: Variant, op: UnaryOp, x: QuantParams, y: QuantParams, table: &mut Table<Q>) {
    let mut operands = [Q::default(); 256];
    operands.iter_mut().zip(0..=255).for_each(|(q, bits)| *q = Q::from_bits(bits));
    let mut values = [0f32; 256];
    dequantize(v, x.scale, x.zero_point, &operands, &mut values);
    unary(v, op, InOut::InPlace(&mut values));
    quantize(v, Scaling::Divide(y.scale), y.zero_point, &values, table);
}

/// `y[i] = table[x[i]]`.
///
/// # Panics
/// When the buffers of [`InOut::Apart`] differ in length.
pub fn look_up<Q: Byte>(table: &Table<Q>, io: InOut<'_, Q>) {
    match io {
        InOut::InPlace(y) => y.iter_mut().for_each(|y| *y = table[usize::from(y.bits())]),
        InOut::Apart(x, y) => {
            assert_eq!(x.len(), y.len(), "operand and result differ in length");
            y.iter_mut().zip(x).for_each(|(y, x)| *y = table[usize::from(x.bits())]);
        }
    }
}
