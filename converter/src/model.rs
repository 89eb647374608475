//! A model between import and packing: the runtime's graph, its constants still as they came.

use crate::integers::Integers;
use edge_runtime::graph::{ConstantId, DType, Graph, Source, ValueId};
use half::{bf16, f16};
use prost::bytes::Bytes;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

/// An array of the source model.
#[derive(Clone, Debug, PartialEq)]
pub struct Array {
    /// Element type.
    pub dtype: DType,
    /// Shape; empty for a scalar.
    pub dims: Vec<usize>,
    /// Little-endian elements, row-major. A clone shares them.
    pub data: Bytes,
}

/// An imported model. Matrix operands are constants `[n, k]` until a compression method replaces them.
#[derive(Clone, Debug, Default)]
pub struct Model {
    /// The model's name.
    pub name: String,
    /// The source's own metadata.
    pub metadata: BTreeMap<String, String>,
    /// What it computes.
    pub graph: Graph,
    /// Indexed by [`ConstantId`].
    pub constants: Vec<Array>,
    /// Of constants that were made of integers, those.
    pub integers: BTreeMap<ConstantId, Arc<Integers>>,
}

impl Default for Array {
    /// No elements.
    fn default() -> Array {
        Array { dtype: DType::F32, dims: vec![0], data: Bytes::new() }
    }
}

impl Array {
    /// An array of `f32`.
    pub fn f32(dims: &[usize], values: &[f32]) -> Array {
        debug_assert_eq!(dims.iter().product::<usize>(), values.len());
        let data: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        Array { dtype: DType::F32, dims: dims.to_vec(), data: data.into() }
    }

    /// An array of `f32` that takes its elements over: no byte of a large matrix is copied for it.
    pub fn of_f32(dims: &[usize], values: Vec<f32>) -> Array {
        if cfg!(target_endian = "big") {
            return Array::f32(dims, &values);
        }
        debug_assert_eq!(dims.iter().product::<usize>(), values.len());
        Array { dtype: DType::F32, dims: dims.to_vec(), data: Bytes::from_owner(Elements(values)) }
    }

    /// An array of floats of this type; of `f32` where one of them is none of its values.
    pub fn of_floats(dtype: DType, dims: &[usize], values: Vec<f32>) -> Array {
        let exact = |round: &dyn Fn(f32) -> f32| values.iter().all(|v| round(*v).to_bits() == v.to_bits());
        let narrow = |bits: &dyn Fn(f32) -> u16| -> Array {
            let data: Vec<u8> = values.iter().flat_map(|v| bits(*v).to_le_bytes()).collect();
            Array { dtype, dims: dims.to_vec(), data: data.into() }
        };
        match dtype {
            DType::F16 if exact(&|v| f16::from_f32(v).to_f32()) => narrow(&|v| f16::from_f32(v).to_bits()),
            DType::Bf16 if exact(&|v| bf16::from_f32(v).to_f32()) => narrow(&|v| bf16::from_f32(v).to_bits()),
            _ => Array::of_f32(dims, values),
        }
    }

    /// Whether the elements are floats of 16 bits.
    pub fn is_narrow(&self) -> bool {
        matches!(self.dtype, DType::F16 | DType::Bf16)
    }

    /// An array of `i64`.
    pub fn i64(dims: &[usize], values: &[i64]) -> Array {
        debug_assert_eq!(dims.iter().product::<usize>(), values.len());
        let data: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        Array { dtype: DType::I64, dims: dims.to_vec(), data: data.into() }
    }

    /// Number of elements.
    pub fn elements(&self) -> usize {
        self.dims.iter().product()
    }

    /// The elements, when they are `f32`.
    pub fn as_f32(&self) -> Option<Vec<f32>> {
        (self.dtype == DType::F32)
            .then(|| self.data.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect())
    }

    /// The elements as `f32`, when they are floats of at most 32 bits; borrowed where they lie so.
    pub fn floats(&self) -> Option<Cow<'_, [f32]>> {
        match self.dtype {
            DType::F32 => match bytemuck::try_cast_slice(&self.data) {
                Ok(values) if cfg!(target_endian = "little") => Some(Cow::Borrowed(values)),
                _ => self.as_f32().map(Cow::Owned),
            },
            DType::F16 | DType::Bf16 => Some(Cow::Owned(crate::draft::to_f32(self.dtype, &self.data))),
            _ => None,
        }
    }

    /// The elements, when they are `i64` or `i32`.
    pub fn as_i64(&self) -> Option<Vec<i64>> {
        match self.dtype {
            DType::I64 => Some(self.data.as_chunks::<8>().0.iter().map(|b| i64::from_le_bytes(*b)).collect()),
            DType::I32 => {
                Some(self.data.as_chunks::<4>().0.iter().map(|b| i64::from(i32::from_le_bytes(*b))).collect())
            }
            _ => None,
        }
    }
}

/// Floats that bytes are a view of.
struct Elements(Vec<f32>);

impl AsRef<[u8]> for Elements {
    fn as_ref(&self) -> &[u8] {
        bytemuck::cast_slice(&self.0)
    }
}

impl Model {
    /// Adds a constant and the value that stands for it.
    pub fn add_constant(&mut self, name: impl Into<String>, array: Array) -> ValueId {
        let id = self.constants.len() as ConstantId;
        self.constants.push(array);
        self.graph.add_value(name, Source::Constant(id))
    }

    /// The constant behind a value, if it is one.
    pub fn constant(&self, value: ValueId) -> Option<&Array> {
        match self.graph.values.get(value as usize)?.source {
            Source::Constant(id) => self.constants.get(id as usize),
            _ => None,
        }
    }
}
