//! A model between import and packing: the runtime's graph, its constants still as they came.

use crate::integers::Integers;
use edge_runtime::graph::{ConstantId, DType, Graph, Source, ValueId};
use std::collections::BTreeMap;
use std::sync::Arc;

/// An array of the source model.
#[derive(Clone, Debug, PartialEq)]
pub struct Array {
    /// Element type.
    pub dtype: DType,
    /// Shape; empty for a scalar.
    pub dims: Vec<usize>,
    /// Little-endian elements, row-major.
    pub data: Arc<[u8]>,
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

impl Array {
    /// An array of `f32`.
    pub fn f32(dims: &[usize], values: &[f32]) -> Array {
        debug_assert_eq!(dims.iter().product::<usize>(), values.len());
        let data: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        Array { dtype: DType::F32, dims: dims.to_vec(), data: data.into() }
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
