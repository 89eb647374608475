//! The types of tensors: blocks of so many elements in so many bytes.

use super::blocks::{self, Block};
use edge_runtime::graph::DType;

/// A type of tensor.
#[derive(Debug)]
pub struct Kind {
    /// Its number in the file.
    pub id: u32,
    /// Its name.
    pub name: &'static str,
    /// Elements of a block.
    pub elements: usize,
    /// Bytes of a block.
    pub bytes: usize,
    /// What a block is.
    pub form: Form,
}

/// What the elements of a tensor are.
#[derive(Clone, Copy, Debug)]
pub enum Form {
    /// Floats.
    Floats(DType),
    /// Codes with scales.
    Codes(Codes),
    /// Something that nothing here decodes.
    Other,
}

/// Codes of integers: element `i` of a block is `scale[g] * code[i]`, and `+ minimum[g]` where there are minima, `g` being its group.
#[derive(Clone, Copy, Debug)]
pub struct Codes {
    /// Bits of a code.
    pub bits: u32,
    /// Consecutive elements of one scale.
    pub group: usize,
    /// Whether groups have minima; codes are then `0..2^bits`, else `-2^(bits - 1)..2^(bits - 1)`.
    pub minima: bool,
    /// Whether a group's scale is a product of two stored numbers.
    pub scaled_scales: bool,
    /// Decodes one block.
    pub decode: fn(&[u8], &mut Block),
}

const fn floats(id: u32, name: &'static str, bytes: usize, dtype: DType) -> Kind {
    Kind { id, name, elements: 1, bytes, form: Form::Floats(dtype) }
}

const fn codes(id: u32, name: &'static str, [elements, bytes]: [usize; 2], codes: Codes) -> Kind {
    Kind { id, name, elements, bytes, form: Form::Codes(codes) }
}

const fn other(id: u32, name: &'static str, [elements, bytes]: [usize; 2]) -> Kind {
    Kind { id, name, elements, bytes, form: Form::Other }
}

/// One scale a group, as the block has it.
const fn plain(bits: u32, group: usize, minima: bool, decode: fn(&[u8], &mut Block)) -> Codes {
    Codes { bits, group, minima, scaled_scales: false, decode }
}

/// Scales of scales.
const fn nested(bits: u32, group: usize, minima: bool, decode: fn(&[u8], &mut Block)) -> Codes {
    Codes { bits, group, minima, scaled_scales: true, decode }
}

/// Every type that the format's authors list, by their numbers; those that are gone (Q4_2, Q4_3, the interleaved Q4_0) are not.
pub static KINDS: &[Kind] = &[
    floats(0, "F32", 4, DType::F32),
    floats(1, "F16", 2, DType::F16),
    floats(30, "BF16", 2, DType::Bf16),
    codes(2, "Q4_0", [32, 18], plain(4, 32, false, blocks::q4_0)),
    codes(3, "Q4_1", [32, 20], plain(4, 32, true, blocks::q4_1)),
    codes(6, "Q5_0", [32, 22], plain(5, 32, false, blocks::q5_0)),
    codes(7, "Q5_1", [32, 24], plain(5, 32, true, blocks::q5_1)),
    codes(8, "Q8_0", [32, 34], plain(8, 32, false, blocks::q8_0)),
    codes(10, "Q2_K", [256, 84], nested(2, 16, true, blocks::q2_k)),
    codes(11, "Q3_K", [256, 110], nested(3, 16, false, blocks::q3_k)),
    codes(12, "Q4_K", [256, 144], nested(4, 32, true, blocks::q4_k)),
    codes(13, "Q5_K", [256, 176], nested(5, 32, true, blocks::q5_k)),
    codes(14, "Q6_K", [256, 210], nested(6, 16, false, blocks::q6_k)),
    codes(15, "Q8_K", [256, 292], plain(8, 256, false, blocks::q8_k)),
    codes(20, "IQ4_NL", [32, 18], plain(8, 32, false, blocks::iq4_nl)),
    codes(23, "IQ4_XS", [256, 136], nested(8, 32, false, blocks::iq4_xs)),
    other(9, "Q8_1", [32, 36]),
    other(16, "IQ2_XXS", [256, 66]),
    other(17, "IQ2_XS", [256, 74]),
    other(18, "IQ3_XXS", [256, 98]),
    other(19, "IQ1_S", [256, 50]),
    other(21, "IQ3_S", [256, 110]),
    other(22, "IQ2_S", [256, 82]),
    other(24, "I8", [1, 1]),
    other(25, "I16", [1, 2]),
    other(26, "I32", [1, 4]),
    other(27, "I64", [1, 8]),
    other(28, "F64", [1, 8]),
    other(29, "IQ1_M", [256, 56]),
    other(34, "TQ1_0", [256, 54]),
    other(35, "TQ2_0", [256, 66]),
    other(39, "MXFP4", [32, 17]),
];

impl Kind {
    /// The type of a number.
    pub fn of(id: u32) -> Option<&'static Kind> {
        KINDS.iter().find(|kind| kind.id == id)
    }

    /// The type of a name.
    pub fn named(name: &str) -> Option<&'static Kind> {
        KINDS.iter().find(|kind| kind.name == name)
    }

    /// Bytes of `elements` elements, when they are whole blocks.
    pub fn bytes_of(&self, elements: usize) -> Option<usize> {
        elements.is_multiple_of(self.elements).then(|| (elements / self.elements).checked_mul(self.bytes))?
    }
}
