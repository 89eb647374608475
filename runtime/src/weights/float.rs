//! Stored floats: little-endian f32, f16 or bf16.

use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use serde::{Deserialize, Serialize};

/// Type of a stored float.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Float {
    /// IEEE binary32.
    F32,
    /// IEEE binary16.
    F16,
    /// The upper half of a binary32.
    Bf16,
}

/// Halves converted at a time: many, since each call asks for the CPU's features.
const RUN: usize = 32;

impl Float {
    /// Bytes of one element.
    pub fn size(self) -> usize {
        match self {
            Float::F32 => 4,
            Float::F16 | Float::Bf16 => 2,
        }
    }

    /// Name in a pack.
    pub fn name(self) -> &'static str {
        match self {
            Float::F32 => "f32",
            Float::F16 => "f16",
            Float::Bf16 => "bf16",
        }
    }

    /// Converts the elements from `first` on, as many as `out` has.
    ///
    /// # Panics
    /// When `bytes` ends before.
    pub(super) fn decode(self, bytes: &[u8], first: usize, out: &mut [f32]) {
        let bytes = &bytes[first * self.size()..][..out.len() * self.size()];
        match self {
            Float::F32 => {
                for (out, bytes) in out.iter_mut().zip(bytes.as_chunks().0) {
                    *out = f32::from_le_bytes(*bytes);
                }
            }
            Float::F16 => {
                let mut halves = [f16::ZERO; RUN];
                for (out, bytes) in out.chunks_mut(RUN).zip(bytes.chunks(2 * RUN)) {
                    for (half, bytes) in halves.iter_mut().zip(bytes.as_chunks().0) {
                        *half = f16::from_le_bytes(*bytes);
                    }
                    halves[..out.len()].convert_to_f32_slice(out);
                }
            }
            Float::Bf16 => {
                for (out, bytes) in out.iter_mut().zip(bytes.as_chunks().0) {
                    *out = bf16::from_le_bytes(*bytes).to_f32();
                }
            }
        }
    }

    /// Appends the value rounded to this type.
    pub(super) fn encode(self, value: f32, bytes: &mut Vec<u8>) {
        match self {
            Float::F32 => bytes.extend(value.to_le_bytes()),
            Float::F16 => bytes.extend(f16::from_f32(value).to_le_bytes()),
            Float::Bf16 => bytes.extend(bf16::from_f32(value).to_le_bytes()),
        }
    }

    /// The value rounded to this type.
    pub(super) fn round(self, value: f32) -> f32 {
        match self {
            Float::F32 => value,
            Float::F16 => f16::from_f32(value).to_f32(),
            Float::Bf16 => bf16::from_f32(value).to_f32(),
        }
    }
}
