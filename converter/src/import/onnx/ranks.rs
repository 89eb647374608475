//! Best-effort types and shapes, so that axes can be counted and layouts chosen.
//!
//! What is known is always right; what is not known is `None`. Sizes are numbers only: equations between symbolic dimensions are
//! the planner's business.

mod elements;
mod extents;
mod shapes;

use edge_runtime::graph::{BinaryOp, DType, Op, ReduceOp, ValueId};
pub use elements::of_floats;
use std::fmt;

/// A shape of known rank; `None` is a size that is not known.
pub type Dims = Vec<Option<usize>>;

/// One element of a small integer vector, as shape arithmetic sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Element {
    /// Always this number.
    Known(i64),
    /// The size of a value's axis.
    Size(ValueId, usize),
    /// Anything.
    Free,
}

/// How much of what is planned for a value a run fills.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Extent {
    /// All of it.
    #[default]
    Whole,
    /// Along `axis` the first entries, as many as the `i64` scalar `count` says. What lies behind them means nothing, but is
    /// safe to compute with: indices there are valid ones.
    Part {
        /// The axis.
        axis: usize,
        /// How many entries.
        count: ValueId,
    },
    /// Computed from a part in a way that is not followed: what lies behind the part may have gone into it.
    Unclear,
}

/// What is known of a value.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Fact {
    /// Element type.
    pub dtype: Option<DType>,
    /// Shape.
    pub dims: Option<Dims>,
    /// The elements of a scalar or short vector of integers or booleans.
    pub elements: Option<Vec<Element>>,
    /// Bytes that stand for integers of 4 bits.
    pub four_bits: bool,
    /// What a cast of the model rounds its elements to, which nothing has done yet.
    pub rounded: Option<DType>,
    /// How much of it a run fills.
    pub extent: Extent,
    /// Depends on a node that was refused: what is not known of it is no news.
    pub tainted: bool,
}

/// The longest vector whose elements are tracked. Shapes and pads are far shorter.
pub const MAX_ELEMENTS: usize = 64;

impl Fact {
    /// A fact without elements.
    pub fn new(dtype: Option<DType>, dims: Option<Dims>) -> Fact {
        Fact { dtype, dims, ..Fact::default() }
    }

    /// The rank.
    pub fn rank(&self) -> Option<usize> {
        self.dims.as_ref().map(Vec::len)
    }

    /// The size of an axis, if known.
    pub fn size(&self, axis: usize) -> Option<usize> {
        *self.dims.as_ref()?.get(axis)?
    }

    /// The elements, if all are known.
    pub fn known(&self) -> Option<Vec<i64>> {
        let one = |e: &Element| match e {
            Element::Known(v) => Some(*v),
            _ => None,
        };
        self.elements.as_ref()?.iter().map(one).collect()
    }

    /// What holds of a value that is either of two.
    pub fn either(&self, other: &Fact) -> Fact {
        let dims = match (&self.dims, &other.dims) {
            (Some(a), Some(b)) if a.len() == b.len() => {
                Some(a.iter().zip(b).map(|(a, b)| if a == b { *a } else { None }).collect())
            }
            _ => None,
        };
        let dtype = self.dtype.filter(|d| Some(*d) == other.dtype);
        Fact {
            tainted: self.tainted || other.tainted,
            four_bits: self.four_bits && other.four_bits,
            rounded: self.rounded.filter(|to| Some(*to) == other.rounded),
            extent: if self.extent == other.extent { self.extent } else { Extent::Unclear },
            ..Fact::new(dtype, dims)
        }
    }
}

impl fmt::Display for Fact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.dtype {
            Some(dtype) => write!(f, "{dtype}")?,
            None => f.write_str("?")?,
        }
        let Some(dims) = &self.dims else { return Ok(()) };
        let sizes: Vec<String> =
            dims.iter().map(|d| d.map_or_else(|| "?".into(), |d| d.to_string())).collect();
        write!(f, "[{}]", sizes.join(", "))
    }
}

/// The product of sizes, when all are known and it is a number.
pub fn product(mut sizes: impl Iterator<Item = Option<usize>>) -> Option<usize> {
    sizes.try_fold(1usize, |product, size| product.checked_mul(size?))
}

/// Most elements of a computed value whose sizes are told: products of some of them are computed here and there.
const MAX_SIZE: usize = 1 << 48;

/// Sizes that are beyond all memory are not known: the planner says so when it meets them.
fn plausible(mut dims: Dims) -> Dims {
    if product(dims.iter().map(|size| Some(size.unwrap_or(1).max(1)))).is_none_or(|n| n > MAX_SIZE) {
        dims.fill(None);
    }
    dims
}

/// An axis counted from the start; `None` when it is outside the rank.
pub fn normalize(axis: i64, rank: usize) -> Option<usize> {
    let rank = i64::try_from(rank).ok()?;
    let from_start = if axis < 0 { axis + rank } else { axis };
    (0..rank).contains(&from_start).then_some(from_start as usize)
}

/// The operands of a node with what is known of them.
pub struct Operands<'a> {
    /// The facts; `None` where an operand is left out.
    pub facts: &'a [Option<&'a Fact>],
    /// The ids.
    pub ids: &'a [Option<ValueId>],
}

impl Operands<'_> {
    fn fact(&self, i: usize) -> Option<&Fact> {
        self.facts.get(i).copied().flatten()
    }

    fn dims(&self, i: usize) -> Option<&Dims> {
        self.fact(i)?.dims.as_ref()
    }

    fn known(&self, i: usize) -> Option<Vec<i64>> {
        self.fact(i)?.known()
    }

    /// The length of a vector operand.
    fn len(&self, i: usize) -> Option<usize> {
        self.fact(i)?.size(0)
    }
}

/// What is known of the `outputs` results of an operation.
pub fn infer(op: &Op, operands: &Operands, outputs: usize) -> Vec<Fact> {
    let tainted = operands.facts.iter().flatten().any(|f| f.tainted);
    let mut shapes = shapes::infer(op, operands, outputs);
    shapes.resize(outputs, None);
    let moved = operands.fact(0).filter(|_| moves(op));
    let (four_bits, rounded) = (moved.is_some_and(|f| f.four_bits), moved.and_then(|f| f.rounded));
    let mut facts: Vec<Fact> = shapes
        .into_iter()
        .enumerate()
        .map(|(i, dims)| Fact {
            tainted,
            four_bits,
            rounded,
            ..Fact::new(dtype(op, operands, i), dims.map(plausible))
        })
        .collect();
    let extent = extents::infer(op, operands);
    // The rules are about operations of one result.
    let extent = if outputs > 1 && extent != Extent::Whole { Extent::Unclear } else { extent };
    facts.iter_mut().for_each(|fact| fact.extent = extent);
    // Only of scalars and vectors: of a matrix, the order would not say which element is which.
    if let Some(first) = facts.first_mut().filter(|f| f.rank().is_some_and(|r| r <= 1)) {
        first.elements = elements::infer(op, operands);
    }
    facts
}

/// Whether the operation only moves its first operand's elements.
fn moves(op: &Op) -> bool {
    matches!(
        op,
        Op::Identity
            | Op::Reshape { .. }
            | Op::Transpose { .. }
            | Op::Flatten { .. }
            | Op::Squeeze { .. }
            | Op::Unsqueeze { .. }
            | Op::Pad { .. }
            | Op::Slice { .. }
            | Op::Concat { .. }
            | Op::Gather { .. }
    )
}

/// The element type of result `i`.
fn dtype(op: &Op, operands: &Operands, i: usize) -> Option<DType> {
    use edge_runtime::graph::UnaryOp::{IsInf, IsNan};
    let of = |i: usize| operands.fact(i).and_then(|f| f.dtype);
    match op {
        Op::Unary(IsNan | IsInf { .. }) => Some(DType::Bool),
        Op::Binary(
            BinaryOp::Equal
            | BinaryOp::Less
            | BinaryOp::LessOrEqual
            | BinaryOp::Greater
            | BinaryOp::GreaterOrEqual
            | BinaryOp::And
            | BinaryOp::Or
            | BinaryOp::Xor,
        ) => Some(DType::Bool),
        // Operands of one type; either may be the one that is known.
        Op::Binary(_) => of(0).or_else(|| of(1)),
        Op::Where => of(1).or_else(|| of(2)),
        Op::Cast { to } => Some(*to),
        Op::ArgReduce { .. } | Op::Shape { .. } | Op::Size => Some(DType::I64),
        Op::TopK { .. } if i == 1 => Some(DType::I64),
        Op::NonMaxSuppression => Some(DType::I64),
        Op::ConstantOfShape { dtype, .. } => Some(*dtype),
        Op::OneHot { .. } => of(2),
        Op::Concat { .. } => (0..operands.facts.len()).find_map(of),
        Op::If { .. } | Op::Loop { .. } | Op::Turn => None,
        _ => of(0),
    }
}

/// Whether a reduction leaves an operand without axes as it is.
pub fn keeps_single(kind: ReduceOp) -> bool {
    matches!(kind, ReduceOp::Sum | ReduceOp::Mean | ReduceOp::Max | ReduceOp::Min | ReduceOp::Prod)
}
