//! What is known of a value before any input: element type, symbolic shape, and the elements of shape vectors.
//!
//! The planner infers shapes exactly later; here every fact must hold for all inputs, and anything not proven stays
//! unknown.

use super::sizes::{Size, Sizes, axes, axis};
use crate::model::Array;
use edge_runtime::graph::{BinaryOp, DType, Dim, Node, Op, Pads, Port, UnaryOp, ValueId, Window};

/// Longest integer vector whose elements are followed.
const MAX_ELEMENTS: usize = 64;

/// What is known of one value.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Fact {
    /// Element type.
    pub dtype: Option<DType>,
    /// Shape.
    pub dims: Option<Vec<Size>>,
    /// Elements of an integer vector or scalar.
    pub elements: Option<Vec<Size>>,
}

impl Fact {
    /// What a constant tells.
    pub fn of_constant(array: &Array) -> Fact {
        let elements = (array.dims.len() <= 1 && array.elements() <= MAX_ELEMENTS)
            .then(|| array.as_i64())
            .flatten()
            .map(|v| v.into_iter().map(Size::Known).collect());
        let dims = array.dims.iter().map(|d| Size::Known(*d as i64)).collect();
        Fact { dtype: Some(array.dtype), dims: Some(dims), elements }
    }

    /// What a graph input's declaration tells.
    pub fn of_input(port: &Port, sizes: &mut Sizes) -> Fact {
        let dims = port.dims.as_ref().map(|dims| {
            dims.iter()
                .map(|dim| match dim {
                    Dim::Fixed(n) => Size::Known(*n as i64),
                    Dim::Named(name) => sizes.named(name),
                })
                .collect()
        });
        Fact { dtype: Some(port.dtype), dims, elements: None }
    }
}

/// Infers one node at a time; operands' facts come from the caller.
pub(super) struct Infer<'a> {
    /// Facts by value.
    pub facts: &'a [Fact],
    /// The sweep's symbols.
    pub sizes: &'a mut Sizes,
    /// The node.
    pub node: &'a Node,
    /// Gives the `f32` elements of a small constant.
    pub floats: &'a dyn Fn(ValueId) -> Option<Vec<f32>>,
}

type Dims = Option<Vec<Size>>;

impl Infer<'_> {
    fn fact(&self, operand: usize) -> Fact {
        self.input(operand).map_or_else(Fact::default, |v| self.facts[v as usize].clone())
    }

    fn input(&self, operand: usize) -> Option<ValueId> {
        self.node.inputs.get(operand).copied().flatten()
    }

    fn dims(&self, operand: usize) -> Dims {
        self.fact(operand).dims
    }

    fn ints(&self, operand: usize) -> Option<Vec<i64>> {
        self.fact(operand).elements?.into_iter().map(Size::known).collect()
    }

    /// A size of which nothing is known but that this node makes it.
    fn fresh(&mut self, output: usize, index: usize) -> Size {
        match self.node.outputs.get(output).copied().flatten() {
            Some(value) => self.sizes.of(value, index),
            // Nobody can ask for it.
            None => Size::Known(0),
        }
    }

    /// The facts of each output.
    pub fn run(mut self) -> Vec<Fact> {
        let count = self.node.outputs.len();
        let dtype = self.dtype();
        let mut facts = match &self.node.op {
            Op::Split { axis } => self.split(*axis),
            Op::Lstm { .. }
            | Op::Gru { .. }
            | Op::If { .. }
            | Op::Loop { .. }
            | Op::Turn
            | Op::NonMaxSuppression => vec![Fact::default(); count],
            Op::TopK { axis, .. } => self.top_k(*axis),
            _ => {
                let dims = self.shape();
                // Only vectors and scalars are followed: elements say nothing of how a matrix is indexed.
                let elements = dims.as_ref().filter(|d| d.len() <= 1).and_then(|_| self.elements());
                vec![Fact { dtype: None, dims, elements }]
            }
        };
        facts.resize(count, Fact::default());
        if !matches!(self.node.op, Op::If { .. } | Op::Loop { .. } | Op::Turn | Op::TopK { .. }) {
            facts.iter_mut().for_each(|f| f.dtype = dtype);
        }
        facts
    }

    fn dtype(&self) -> Option<DType> {
        use BinaryOp::{And, Equal, Greater, GreaterOrEqual, Less, LessOrEqual, Or, Xor};
        match &self.node.op {
            Op::Cast { to } => Some(*to),
            Op::ConstantOfShape { dtype, .. } => Some(*dtype),
            Op::Shape { .. } | Op::Size | Op::ArgReduce { .. } | Op::NonMaxSuppression => Some(DType::I64),
            Op::Unary(UnaryOp::Not | UnaryOp::IsNan | UnaryOp::IsInf { .. })
            | Op::Binary(Equal | Less | LessOrEqual | Greater | GreaterOrEqual | And | Or | Xor) => {
                Some(DType::Bool)
            }
            Op::Where => self.fact(1).dtype.or(self.fact(2).dtype),
            Op::OneHot { .. } => self.fact(2).dtype,
            Op::Binary(BinaryOp::Pow) => self.fact(0).dtype,
            Op::Binary(_) => self.fact(0).dtype.or(self.fact(1).dtype),
            _ => self.fact(0).dtype,
        }
    }

    fn shape(&mut self) -> Dims {
        let op = self.node.op.clone();
        match op {
            Op::Unary(_)
            | Op::Cast { .. }
            | Op::Softmax { .. }
            | Op::LayerNorm { .. }
            | Op::RmsNorm { .. }
            | Op::GroupNorm { .. }
            | Op::Lrn { .. }
            | Op::CumSum { .. }
            | Op::Trilu { .. }
            | Op::Identity
            | Op::ScatterElements { .. }
            | Op::ScatterNd { .. } => self.dims(0),
            Op::Binary(_) => {
                let (a, b) = (self.dims(0)?, self.dims(1)?);
                Some(self.broadcast(&a, &b))
            }
            Op::Where => {
                let (c, a, b) = (self.dims(0)?, self.dims(1)?, self.dims(2)?);
                let ab = self.broadcast(&a, &b);
                Some(self.broadcast(&c, &ab))
            }
            Op::Conv { window, out_channels, .. } => self.spatial(window, false, Some(out_channels)),
            Op::Pool { window, ceil_mode, .. } => self.spatial(window, ceil_mode, None),
            Op::ConvTranspose { out_channels, .. } => {
                let mut dims = self.dims(0)?;
                let last = dims.len().checked_sub(1)?;
                for (i, dim) in dims.iter_mut().enumerate().take(last).skip(1) {
                    *dim = self.fresh(0, i);
                }
                dims[last] = Size::Known(out_channels as i64);
                Some(dims)
            }
            Op::Linear { out_features, .. } => {
                let mut dims = self.dims(0)?;
                *dims.last_mut()? = Size::Known(out_features as i64);
                Some(dims)
            }
            Op::MatMul { trans_a, trans_b, .. } => self.matmul(trans_a, trans_b),
            Op::Attention { .. } => self.attention(),
            Op::Reduce { axes: list, keep_dims, .. } => {
                let dims = self.dims(0)?;
                let reduced = axes(&list, dims.len())?;
                Some(reduce(&dims, &reduced, keep_dims))
            }
            Op::ReduceAxes { keep_dims: true, .. } => {
                let rank = self.dims(0)?.len();
                Some((0..rank).map(|i| self.fresh(0, i)).collect())
            }
            Op::ArgReduce { axis: a, keep_dims, .. } => {
                let dims = self.dims(0)?;
                let reduced = axis(a, dims.len())?;
                Some(reduce(&dims, &[reduced], keep_dims))
            }
            Op::Resize { axes: list, .. } => self.resize(&list),
            Op::Transpose { perm } => {
                let dims = self.dims(0)?;
                Some(full_perm(&perm, dims.len())?.into_iter().map(|p| dims[p]).collect())
            }
            Op::Reshape { allow_zero } => self.reshape(allow_zero),
            Op::Unsqueeze { axes: list } => {
                let dims = self.dims(0)?;
                let rank = dims.len() + list.len();
                let at = axes(&list, rank)?;
                let mut rest = dims.into_iter();
                (0..rank).map(|i| if at.contains(&i) { Some(Size::Known(1)) } else { rest.next() }).collect()
            }
            Op::Squeeze { axes: list } => {
                let dims = self.dims(0)?;
                if list.is_empty() {
                    return dims
                        .iter()
                        .all(|d| d.known().is_some())
                        .then(|| dims.iter().copied().filter(|d| !d.is_one()).collect());
                }
                let at = axes(&list, dims.len())?;
                Some(reduce(&dims, &at, false))
            }
            Op::Flatten { axis: a } => {
                let dims = self.dims(0)?;
                let at = if a as usize == dims.len() { dims.len() } else { axis(a, dims.len())? };
                Some(vec![self.sizes.product(&dims[..at]), self.sizes.product(&dims[at..])])
            }
            Op::Concat { axis: a } => {
                let mut dims = self.dims(0)?;
                let at = axis(a, dims.len())?;
                for operand in 1..self.node.inputs.len() {
                    let other = *self.dims(operand)?.get(at)?;
                    dims[at] = self.sizes.binary(BinaryOp::Add, dims[at], other)?;
                }
                Some(dims)
            }
            Op::Slice { axes: list } => self.slice(&list),
            Op::Pad { axes: list, .. } => {
                let mut dims = self.dims(0)?;
                let at = axes(&list, dims.len())?;
                let pads = self.ints(1);
                for (i, &d) in at.iter().enumerate() {
                    dims[d] = match pads.as_ref().and_then(|p| Some(p.get(i)? + p.get(i + at.len())?)) {
                        Some(extra) => self.sizes.binary(BinaryOp::Add, dims[d], Size::Known(extra))?,
                        None => self.fresh(0, d),
                    };
                }
                Some(dims)
            }
            Op::Gather { axis: a } => {
                let (data, indices) = (self.dims(0)?, self.dims(1)?);
                let at = axis(a, data.len())?;
                Some([&data[..at], &indices, &data[at + 1..]].concat())
            }
            Op::GatherElements { .. } => self.dims(1),
            Op::Expand => {
                let (dims, shape) = (self.dims(0)?, self.fact(1).elements?);
                Some(self.broadcast(&dims, &shape))
            }
            Op::Tile => {
                let dims = self.dims(0)?;
                let repeats = self.fact(1).elements.filter(|r| r.len() == dims.len());
                Some(
                    (0..dims.len())
                        .map(|i| match &repeats {
                            Some(r) => self.sizes.product(&[dims[i], r[i]]),
                            None => self.fresh(0, i),
                        })
                        .collect(),
                )
            }
            Op::ConstantOfShape { .. } => self.fact(0).elements,
            Op::Range => Some(vec![self.fresh(0, 0)]),
            Op::Size => Some(vec![]),
            Op::Shape { start, end } => {
                let (start, end) = shape_range(start, end, self.dims(0)?.len());
                Some(vec![Size::Known(end.saturating_sub(start) as i64)])
            }
            _ => None,
        }
    }

    /// Elements of shape vectors, through the operations exporters compute shapes with.
    fn elements(&mut self) -> Option<Vec<Size>> {
        let elements = match self.node.op.clone() {
            Op::Shape { start, end } => {
                let dims = self.dims(0)?;
                let (start, end) = shape_range(start, end, dims.len());
                dims.get(start..end.max(start))?.to_vec()
            }
            Op::Size => {
                let dims = self.dims(0)?;
                vec![self.sizes.product(&dims)]
            }
            Op::Cast { to: DType::I64 | DType::I32 }
            | Op::Identity
            | Op::Unsqueeze { .. }
            | Op::Squeeze { .. }
            | Op::Reshape { .. } => self.fact(0).elements?,
            Op::Gather { .. } => {
                let data = self.fact(0).elements?;
                let picks = self.ints(1)?;
                let wrap = |i: i64| if i < 0 { i + data.len() as i64 } else { i };
                picks.into_iter().map(|i| data.get(wrap(i) as usize).copied()).collect::<Option<_>>()?
            }
            Op::Concat { .. } => {
                let mut all = Vec::new();
                for operand in 0..self.node.inputs.len() {
                    all.extend(self.fact(operand).elements?);
                }
                all
            }
            Op::Slice { .. } => {
                let data = self.fact(0).elements?;
                let step = if self.input(3).is_some() { self.ints(3)?[..] == [1] } else { true };
                let (starts, ends) = (self.ints(1)?, self.ints(2)?);
                let ([start], [end], true) = (&starts[..], &ends[..], step) else { return None };
                let at = |i: i64| {
                    (if i < 0 { i + data.len() as i64 } else { i }).clamp(0, data.len() as i64) as usize
                };
                data.get(at(*start)..at(*end).max(at(*start)))?.to_vec()
            }
            Op::Binary(op) => {
                let (a, b) = (self.fact(0).elements?, self.fact(1).elements?);
                if a.len() != b.len() && a.len() != 1 && b.len() != 1 {
                    return None;
                }
                // One element meets all of the other operand's, which may be none.
                (0..if a.len() == 1 { b.len() } else { a.len() })
                    .map(|i| self.sizes.binary(op, a[i.min(a.len() - 1)], b[i.min(b.len() - 1)]))
                    .collect::<Option<_>>()?
            }
            _ => return None,
        };
        (elements.len() <= MAX_ELEMENTS).then_some(elements)
    }

    fn broadcast(&mut self, a: &[Size], b: &[Size]) -> Vec<Size> {
        let rank = a.len().max(b.len());
        let at =
            |dims: &[Size], i: usize| (i + dims.len()).checked_sub(rank).map_or(Size::Known(1), |i| dims[i]);
        (0..rank).map(|i| self.sizes.broadcast(at(a, i), at(b, i))).collect()
    }

    fn spatial(&mut self, window: Window, ceil: bool, channels: Option<usize>) -> Dims {
        let mut dims = self.dims(0)?;
        let last = dims.len().checked_sub(1)?;
        // A 1-D operation is the width alone.
        let first = 2usize.checked_sub(last.checked_sub(1)?)?;
        for side in first..2 {
            let extent = window.dilation[side] * (window.kernel[side].checked_sub(1)?) + 1;
            let offset = match window.pads {
                Pads::Explicit(p) => (p[side] + p[side + 2]) as i64 - extent as i64,
                Pads::SameUpper | Pads::SameLower => -1,
            };
            let dim = &mut dims[1 + side - first];
            let stride = window.stride[side].max(1) as i64;
            // With ceil_mode the last window may be dropped when it would start in the padding.
            *dim = if ceil && stride > 1 {
                self.fresh(0, 1 + side - first)
            } else {
                self.sizes.window(*dim, offset, stride, false)
            };
        }
        if let Some(channels) = channels {
            dims[last] = Size::Known(channels as i64);
        }
        Some(dims)
    }

    fn matmul(&mut self, trans_a: bool, trans_b: bool) -> Dims {
        let (a, b) = (self.dims(0)?, self.dims(1)?);
        if a.len() < 2 || b.len() < 2 {
            return None;
        }
        let (la, lb) = (a.len() - 2, b.len() - 2);
        let mut dims = self.broadcast(&a[..la], &b[..lb]);
        dims.push(a[la + usize::from(trans_a)]);
        dims.push(b[lb + usize::from(!trans_b)]);
        Some(dims)
    }

    fn attention(&mut self) -> Dims {
        let (q, k, v) = (self.dims(0)?, self.dims(1)?, self.dims(2)?);
        let mask = if self.input(3).is_some() { self.dims(3)? } else { Vec::new() };
        let batch = |dims: &[Size]| dims[..dims.len().saturating_sub(2)].to_vec();
        let mut dims = self.broadcast(&batch(&q), &batch(&k));
        dims = self.broadcast(&dims, &batch(&v));
        dims = self.broadcast(&dims, &batch(&mask));
        dims.push(*q.get(q.len().checked_sub(2)?)?);
        dims.push(*v.last()?);
        Some(dims)
    }

    fn resize(&mut self, list: &[i32]) -> Dims {
        let mut dims = self.dims(0)?;
        let at = axes(list, dims.len())?;
        let sizes = self.fact(2).elements.filter(|s| s.len() == at.len());
        let scales = self.input(1).and_then(|v| (self.floats)(v)).filter(|s| s.len() == at.len());
        for (i, &d) in at.iter().enumerate() {
            dims[d] = match (&sizes, &scales) {
                (Some(s), _) => s[i],
                (None, Some(s)) => self.sizes.scaled(dims[d], s[i]),
                (None, None) => self.fresh(0, d),
            };
        }
        Some(dims)
    }

    fn reshape(&mut self, allow_zero: bool) -> Dims {
        let input = self.dims(0);
        let Some(shape) = self.fact(1).elements else {
            let [Size::Known(rank)] = self.dims(1)?[..] else { return None };
            let rank = usize::try_from(rank).ok().filter(|r| *r <= MAX_ELEMENTS)?;
            return Some((0..rank).map(|i| self.fresh(0, i)).collect());
        };
        let mut dims = Vec::with_capacity(shape.len());
        for (i, size) in shape.iter().enumerate() {
            dims.push(match size {
                Size::Known(0) if !allow_zero => {
                    input.as_ref().and_then(|d| d.get(i).copied()).unwrap_or_else(|| self.fresh(0, i))
                }
                Size::Known(-1) => Size::Known(-1),
                // A computed element might be -1 or 0; exporters' shape arithmetic never makes one of them.
                size => *size,
            });
        }
        if let Some(rest) = dims.iter().position(|d| *d == Size::Known(-1)) {
            let others: Vec<Size> = dims.iter().copied().filter(|d| *d != Size::Known(-1)).collect();
            let inferred = input.and_then(|whole| self.sizes.quotient(&whole, &others));
            dims[rest] = inferred.unwrap_or_else(|| self.fresh(0, rest));
        }
        Some(dims)
    }

    fn slice(&mut self, list: &[i32]) -> Dims {
        let mut dims = self.dims(0)?;
        let at = axes(list, dims.len())?;
        let (starts, ends) = (self.ints(1), self.ints(2));
        let steps = if self.input(3).is_some() { self.ints(3) } else { Some(vec![1; at.len()]) };
        for (i, &d) in at.iter().enumerate() {
            let range = (|| {
                let step = *steps.as_ref()?.get(i)?;
                let (start, end) = (*starts.as_ref()?.get(i)?, *ends.as_ref()?.get(i)?);
                let n = dims[d].known()?;
                let wrap = |v: i64| (if v < 0 { v.saturating_add(n) } else { v }).clamp(0, n);
                (step > 0).then(|| ((wrap(end) - wrap(start)).max(0) + step - 1) / step)
            })();
            dims[d] = match range {
                Some(n) => Size::Known(n),
                None => self.fresh(0, d),
            };
        }
        Some(dims)
    }

    fn split(&mut self, a: i32) -> Vec<Fact> {
        let count = self.node.outputs.len();
        let Some(dims) = self.dims(0) else { return vec![Fact::default(); count] };
        let Some(at) = axis(a, dims.len()) else { return vec![Fact::default(); count] };
        let given = self.input(1).is_some();
        let parts = self.ints(1);
        (0..count)
            .map(|i| {
                let equal = dims[at].known().filter(|n| !given && n % count as i64 == 0);
                let part = match (parts.as_ref().and_then(|p| p.get(i)), equal) {
                    (Some(n), _) => Size::Known(*n),
                    (None, Some(n)) => Size::Known(n / count as i64),
                    (None, None) => self.fresh(i, at),
                };
                let mut dims = dims.clone();
                dims[at] = part;
                Fact { dims: Some(dims), ..Fact::default() }
            })
            .collect()
    }

    fn top_k(&mut self, a: i32) -> Vec<Fact> {
        let input = self.fact(0);
        let dims = input.dims.and_then(|mut dims| {
            let at = axis(a, dims.len())?;
            dims[at] = self.fact(1).elements.and_then(|k| k.first().copied()).unwrap_or(self.fresh(0, at));
            Some(dims)
        });
        vec![
            Fact { dtype: input.dtype, dims: dims.clone(), elements: None },
            Fact { dtype: Some(DType::I64), dims, elements: None },
        ]
    }
}

fn reduce(dims: &[Size], at: &[usize], keep: bool) -> Vec<Size> {
    (0..dims.len())
        .filter_map(|i| match (at.contains(&i), keep) {
            (false, _) => Some(dims[i]),
            (true, true) => Some(Size::Known(1)),
            (true, false) => None,
        })
        .collect()
}

/// The permutation in full: an empty one reverses.
pub(super) fn full_perm(perm: &[usize], rank: usize) -> Option<Vec<usize>> {
    if perm.is_empty() {
        return Some((0..rank).rev().collect());
    }
    (perm.len() == rank && perm.iter().all(|p| *p < rank)).then(|| perm.to_vec())
}

/// The range of dimensions that `Shape` gives.
pub(super) fn shape_range(start: i32, end: Option<i32>, rank: usize) -> (usize, usize) {
    let clamp = |i: i32| {
        let i = if i < 0 { i64::from(i) + rank as i64 } else { i64::from(i) };
        i.clamp(0, rank as i64) as usize
    };
    (clamp(start), end.map_or(rank, clamp))
}
