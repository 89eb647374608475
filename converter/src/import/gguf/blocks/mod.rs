//! Blocks of quantised elements: codes, scales and minima as each type lays them out (ggml's `ggml-common.h` and `ggml-quants.c` publish
//! the layouts; `tests/reference/gguf` has elements that the format's own Python package makes of such blocks).

mod iq4;
mod k;
mod legacy;

pub use iq4::{iq4_nl, iq4_xs};
pub use k::{q2_k, q3_k, q4_k, q5_k, q6_k, q8_k};
pub use legacy::{q4_0, q4_1, q5_0, q5_1, q8_0};

use super::kinds::Codes;
use half::f16;

/// Elements of the largest block.
pub const MOST: usize = 256;
/// Groups of the block that has most.
pub const GROUPS: usize = 16;

/// A decoded block; what a type does not fill is 0.
pub struct Block {
    /// Codes in the order of the elements.
    pub codes: [i8; MOST],
    /// A scale a group; it may be below 0.
    pub scales: [f32; GROUPS],
    /// A minimum a group.
    pub minima: [f32; GROUPS],
}

impl Default for Block {
    fn default() -> Block {
        Block { codes: [0; MOST], scales: [0.0; GROUPS], minima: [0.0; GROUPS] }
    }
}

impl Block {
    /// The elements: `scale * code + minimum`, each operation rounded to `f32`.
    pub fn reals(&self, codes: &Codes, out: &mut [f32]) {
        let minima = codes.minima;
        let groups = out.chunks_mut(codes.group).zip(self.codes.chunks(codes.group));
        for ((out, codes), (scale, minimum)) in groups.zip(self.scales.iter().zip(&self.minima)) {
            for (out, code) in out.iter_mut().zip(codes) {
                let product = scale * f32::from(*code);
                // Of a product that is -0 a sum would make 0.
                *out = if minima { product + minimum } else { product };
            }
        }
    }
}

/// The f16 at a byte.
fn half(bytes: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([bytes[at], bytes[at + 1]]).to_f32()
}
