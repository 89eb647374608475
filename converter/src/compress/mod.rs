//! One file a method; each turns a matrix into weight expressions of known size and error.

mod coded;
mod corrected;
mod exact;
mod integers;
mod planes;
pub mod sparse;

pub use coded::coded;
pub(crate) use corrected::decoded;
pub use corrected::{RANK, THIN_BITS, corrected};
pub use exact::{Exact, as_it_is, as_it_lies};
pub use integers::integers;
pub use planes::{PLANE_BITS, planes, row_codes};
pub(crate) use planes::{scale_type, stored};

use crate::draft::Draft;
use crate::error::ConvertError;
use crate::model::Array;
use edge_runtime::graph::{DType, Graph, Op, Source};
use edge_runtime::pack::{BlobId, Expr};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::collections::HashMap;

/// A family of forms that matrices may have beside planes of all their elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    /// Two narrower products in place of one: see [`crate::lowrank`].
    LowRank,
    /// Two thin matrices beside a coarse one.
    Thin,
    /// Two thin matrices in place of the coarsest planes.
    Alone,
    /// Gains and shifts of rows, and with them thin matrices of both kinds.
    Corrections,
    /// No bytes for zeros.
    Sparse,
}

/// Bits of the finest weights that all integer kernels take.
pub const INTEGER_BITS: u32 = 8;

/// How a kernel reads a matrix, which decides its layout in the pack.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Use {
    /// Operand of a matrix product: panels of 16 rows.
    Product,
    /// Depthwise convolution: panels of 16 channels by taps.
    Depthwise,
    /// Rows that are looked up.
    Rows,
}

/// A matrix `[n, k]` to compress.
#[derive(Clone, Debug)]
pub struct Matrix<'a> {
    /// The name in the source model.
    pub name: String,
    /// Rows.
    pub n: usize,
    /// Columns.
    pub k: usize,
    /// Row-major elements; those of a model are read where they lie.
    pub values: Cow<'a, [f32]>,
    /// How it is used.
    pub used: Use,
}

impl Matrix<'_> {
    /// Rows n0..n1 and, of each of the taps that a row is made of, channels c0..c1: row-major `[n1 - n0, taps (c1 - c0)]`.
    pub fn part(&self, taps: usize, [n0, n1, c0, c1]: [usize; 4]) -> Matrix<'static> {
        let channels = self.k / taps;
        let mut values = Vec::with_capacity((n1 - n0) * taps * (c1 - c0));
        for row in n0..n1 {
            for tap in 0..taps {
                let from = row * self.k + tap * channels;
                values.extend_from_slice(&self.values[from + c0..from + c1]);
            }
        }
        let name = format!("{} [{n0}..{n1}, {c0}..{c1}]", self.name);
        Matrix { name, n: n1 - n0, k: taps * (c1 - c0), values: values.into(), used: self.used }
    }
}

/// A constant that is a matrix `[n, k]`.
#[derive(Clone, Debug)]
pub struct Stored<'a> {
    /// The name in the source model.
    pub name: String,
    /// Rows.
    pub n: usize,
    /// Columns.
    pub k: usize,
    /// How it is used.
    pub used: Use,
    /// The elements.
    pub array: &'a Array,
}

impl<'a> Stored<'a> {
    /// The matrix. Elements of 16 bits become as many floats, so one is wanted at a time.
    pub fn matrix(&self) -> Matrix<'a> {
        let values = self.array.floats().unwrap_or_default();
        Matrix { name: self.name.clone(), n: self.n, k: self.k, values, used: self.used }
    }
}

/// A matrix as one take of its expression gives it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Level {
    /// Bits of a weight, scales apart; 0 where thin matrices stand alone.
    pub bits: u32,
    /// Columns of the thin matrices that correct it; 0 where there are none.
    pub rank: usize,
    /// Every blob that it reads.
    pub blobs: Vec<BlobId>,
}

/// One expression of a matrix in the draft, and what each of its takes needs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Root {
    /// The expression.
    pub expr: Expr,
    /// What the expression is for take 1, 2, ..., coarsest first.
    pub levels: Vec<Level>,
    /// The same given out with one scale a row, when it is an operand of products, stored by itself.
    pub one_scale: Option<Expr>,
}

impl Root {
    /// Bytes of a take.
    pub fn bytes(&self, draft: &Draft, take: usize) -> u64 {
        self.levels[take - 1].blobs.iter().map(|b| draft.blobs[*b as usize].len() as u64).sum()
    }

    /// Whether the finest take is the integers that the model came with: nothing is finer, or needs to be.
    pub fn is_whole(&self) -> bool {
        self.expr.params.contains_key("whole")
    }

    /// Bytes that a take has more than another.
    pub fn added(&self, draft: &Draft, from: usize, to: usize) -> u64 {
        self.bytes(draft, to).saturating_sub(self.bytes(draft, from))
    }

    /// The first take of the finest weights that all integer kernels take: of [`INTEGER_BITS`].
    pub fn integer_take(&self) -> usize {
        let first = |bits: u32| self.levels.iter().position(|level| level.bits == bits);
        let finest = self.levels.iter().map(|level| level.bits).filter(|bits| *bits <= INTEGER_BITS).max();
        finest.and_then(first).unwrap_or(0) + 1
    }
}

/// The root that rungs of a matrix take prefixes of: planes, of what is not 0 alone where zeros are many.
///
/// # Errors
/// When an element is not finite.
pub fn nested(draft: &mut Draft, matrix: &Matrix, without: &[Family]) -> Result<Root, ConvertError> {
    if !without.contains(&Family::Sparse)
        && let Some(root) = sparse::as_it_came(draft, matrix)?
    {
        return Ok(root);
    }
    planes(draft, matrix)
}

/// Matrix operands of a graph: for each operation, which operands, and how they are used.
pub fn matrix_operands(op: &Op) -> &'static [(usize, Use)] {
    match op {
        Op::Conv { groups, out_channels, .. } if *groups > 1 && groups == out_channels => {
            &[(1, Use::Depthwise)]
        }
        Op::Conv { .. } | Op::ConvTranspose { .. } | Op::Linear { .. } => &[(1, Use::Product)],
        Op::Lstm { .. } | Op::Gru { .. } => {
            &[(1, Use::Product), (2, Use::Product), (3, Use::Product), (4, Use::Product)]
        }
        Op::Gather { axis: 0 } => &[(0, Use::Rows)],
        _ => &[],
    }
}

/// Refuses a stored array with an element that is not finite.
///
/// # Errors
/// Names the array, the element's place and its value.
pub fn finite(name: &str, array: &Array) -> Result<(), ConvertError> {
    let values = array.floats().unwrap_or_default();
    let Some(at) = values.iter().position(|v| !v.is_finite()) else { return Ok(()) };
    let (mut place, mut rest) = (vec![0; array.dims.len()], at);
    for (index, size) in place.iter_mut().zip(&array.dims).rev() {
        (*index, rest) = (rest % size, rest / size);
    }
    let why = format!(
        "element {place:?} of {:?} is {}; weights are finite numbers: export the model again",
        array.dims, values[at]
    );
    Err(ConvertError::Weight { tensor: name.to_string(), why })
}

/// Constants that are used as matrices alone, by constant id.
///
/// A constant that is also read as a plain value, or in two ways, stays a constant.
pub fn matrices<'a>(graph: &Graph, constants: &'a [Array]) -> Result<HashMap<u32, Stored<'a>>, ConvertError> {
    let mut found: HashMap<u32, Use> = HashMap::new();
    let mut plain: Vec<u32> = Vec::new();
    let constant = |value: u32| match graph.values.get(value as usize).map(|v| v.source) {
        Some(Source::Constant(id)) => Some(id),
        _ => None,
    };
    graph.body.for_each(&mut |node| {
        let operands = matrix_operands(&node.op);
        for (i, value) in node.inputs.iter().enumerate() {
            let Some(id) = value.and_then(constant) else { continue };
            match operands.iter().find(|(at, _)| *at == i) {
                Some((_, used)) if found.get(&id).is_none_or(|u| u == used) => {
                    found.insert(id, *used);
                }
                _ => plain.push(id),
            }
        }
    });
    for port in &graph.outputs {
        plain.extend(constant(port.value));
    }
    let mut matrices = HashMap::new();
    for (id, used) in found {
        let array = &constants[id as usize];
        let [n, k] = array.dims[..] else { continue };
        if array.dtype != DType::F32 && !array.is_narrow() {
            continue;
        }
        // Looking rows up pays only for tables; what is small stays a constant.
        if plain.contains(&id) || n * k == 0 || (used == Use::Rows && n * k < 4096) {
            continue;
        }
        let value = graph.values.iter().find(|v| v.source == Source::Constant(id));
        let name = value.map_or_else(|| format!("constant {id}"), |v| v.name.clone());
        finite(&name, array)?;
        matrices.insert(id, Stored { name, n, k, used, array });
    }
    Ok(matrices)
}
