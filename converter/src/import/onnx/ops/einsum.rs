//! Einstein sums of one or two operands, as transpositions, reshapes and one matrix product.

use super::matmul::linear;
use super::{NOW, Operator, Types, op};
use crate::import::onnx::ctx::Ctx;
use crate::import::onnx::node::{NodeView, OpError, malformed, unsupported};
use crate::import::onnx::ranks::Dims;
use crate::import::onnx::tensors::floats;
use crate::model::Array;
use edge_runtime::graph::{Op, ReduceOp, ValueId};

/// The table.
pub const OPERATORS: &[Operator] = &[op("Einsum", (12, NOW), (1, 2), Types::Number, &["equation"], einsum)];

/// A dimension's label: a letter, or one of the dimensions that `...` stands for.
type Label = u32;
/// Labels of `...` start here, counted from the last dimension; letters end long before.
const ELLIPSIS: Label = 0x11_0000;

/// A value with its dimensions' labels.
struct Term {
    value: ValueId,
    labels: Vec<Label>,
}

fn einsum<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>) -> Result<(), OpError> {
    let equation: String = node.string("equation", "")?.chars().filter(|c| !c.is_whitespace()).collect();
    let (left, right) = match equation.split_once("->") {
        Some((left, right)) => (left, Some(right)),
        None => (equation.as_str(), None),
    };
    let texts: Vec<&str> = left.split(',').collect();
    if texts.len() != node.inputs() {
        return malformed(format!("equation {equation:?} for {} operands", node.inputs()));
    }
    let mut terms = Vec::with_capacity(2);
    let mut dotted = 0;
    for (i, text) in texts.iter().enumerate() {
        let value = ctx.operand(node, i)?;
        let rank = ctx.fact(value).rank();
        let labels = labels(text, |letters| match rank {
            Some(rank) => Ok(rank.checked_sub(letters)),
            None => ctx.rank(value).map(Some),
        })?;
        if rank.is_some_and(|r| r != labels.len()) {
            return malformed(format!("equation {equation:?} for an operand of rank {rank:?}"));
        }
        if (1..labels.len()).any(|i| labels[..i].contains(&labels[i])) {
            return unsupported(format!("attribute equation={equation:?} is not implemented (a diagonal)"));
        }
        dotted = dotted.max(labels.iter().filter(|l| **l >= ELLIPSIS).count());
        terms.push(Term { value, labels });
    }
    let output = match right {
        Some(text) => labels(text, |_| Ok(Some(dotted)))?,
        None => implicit(&terms, dotted),
    };
    let known = |l: &Label| terms.iter().any(|t| t.labels.contains(l));
    let repeats = (1..output.len()).any(|i| output[..i].contains(&output[i]));
    if repeats || !output.iter().all(known) {
        return malformed(format!("equation {equation:?}"));
    }
    let all: Vec<Vec<Label>> = terms.iter().map(|t| t.labels.clone()).collect();
    for (i, term) in terms.iter_mut().enumerate() {
        let lonely =
            |l: &Label| !output.contains(l) && all.iter().enumerate().all(|(j, o)| j == i || !o.contains(l));
        summed(ctx, node, term, lonely);
    }
    let result = match terms.as_slice() {
        [one] => Term { value: one.value, labels: one.labels.clone() },
        [a, b] => product(ctx, node, a, b, &output)?,
        _ => return malformed("no operand"),
    };
    let y = ordered(ctx, node, &result, &output);
    if y == ctx.operand(node, 0)? { ctx.alias(node) } else { ctx.set(node, 0, y) }
}

/// The labels of one term; `dots` says how many dimensions `...` stands for beside so many letters.
fn labels(
    text: &str,
    dots: impl FnOnce(usize) -> Result<Option<usize>, OpError>,
) -> Result<Vec<Label>, OpError> {
    let (before, after) = match text.split_once("...") {
        None => (text, None),
        Some((before, after)) => (before, Some(after)),
    };
    let letters = before.chars().chain(after.unwrap_or("").chars());
    if !letters.clone().all(|c| c.is_ascii_alphabetic()) {
        return malformed(format!("{text:?} in the equation"));
    }
    let mut labels: Vec<Label> = before.chars().map(Label::from).collect();
    if let Some(after) = after {
        let Some(count) = dots(letters.count())? else {
            return malformed(format!("{text:?} has more labels than the operand has dimensions"));
        };
        labels.extend((0..count as Label).rev().map(|i| ELLIPSIS + i));
        labels.extend(after.chars().map(Label::from));
    }
    Ok(labels)
}

/// Without `->`: what `...` stands for, then the labels that occur once, in alphabetical order.
fn implicit(terms: &[Term], dotted: usize) -> Vec<Label> {
    let mut letters: Vec<Label> =
        terms.iter().flat_map(|t| &t.labels).copied().filter(|l| *l < ELLIPSIS).collect();
    letters.sort_unstable();
    let once = |l: &Label| letters.iter().filter(|o| *o == l).count() == 1;
    let dots = (0..dotted as Label).rev().map(|i| ELLIPSIS + i);
    dots.chain(letters.iter().copied().filter(once)).collect()
}

/// Sums over the labels that `gone` picks.
fn summed<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>, term: &mut Term, gone: impl Fn(&Label) -> bool) {
    let axes: Vec<i32> =
        term.labels.iter().enumerate().filter(|(_, l)| gone(l)).map(|(i, _)| i as i32).collect();
    if axes.is_empty() {
        return;
    }
    term.labels.retain(|l| !gone(l));
    let op = Op::Reduce { kind: ReduceOp::Sum, axes, keep_dims: false };
    term.value = ctx.emit(node, op, &[Some(term.value)]);
}

/// The value with its dimensions in another order.
fn ordered<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>, term: &Term, order: &[Label]) -> ValueId {
    let perm: Vec<usize> = order.iter().filter_map(|l| term.labels.iter().position(|t| t == l)).collect();
    if perm.iter().enumerate().all(|(i, p)| i == *p) {
        return term.value;
    }
    ctx.transpose(node, term.value, &perm)
}

fn product<'m>(
    ctx: &mut Ctx<'m>,
    node: &NodeView<'m>,
    a: &Term,
    b: &Term,
    output: &[Label],
) -> Result<Term, OpError> {
    let pick = |term: &Term, f: &dyn Fn(&Label) -> bool| {
        term.labels.iter().copied().filter(|l| f(l)).collect::<Vec<_>>()
    };
    let shared = |l: &Label| b.labels.contains(l);
    let batch = pick(a, &|l| shared(l) && output.contains(l));
    let inner = pick(a, &|l| shared(l) && !output.contains(l));
    let left = pick(a, &|l| !shared(l));
    let right = pick(b, &|l| !a.labels.contains(l));
    let labels = [batch.as_slice(), &left, &right].concat();
    let x = ordered(ctx, node, a, &[batch.as_slice(), &left, &inner].concat());
    let outer = batch.len() + left.len();
    if batch.is_empty()
        && !inner.is_empty()
        && !left.is_empty()
        && let Some((w, sizes)) = weight(ctx, node, b, &right, &inner)?
    {
        let x = merged(ctx, node, x, &[(outer, inner.len())]);
        let y = ctx.emit(node, linear(sizes.iter().product()), &[Some(x), Some(w)]);
        let sizes: Vec<Part> = sizes.into_iter().map(|s| Part::Number(s as i64)).collect();
        let value = split(ctx, node, y, &[(x, 0, left.len())], (right.len() != 1).then_some(sizes));
        return Ok(Term { value, labels });
    }
    let w = ordered(ctx, node, b, &[batch.as_slice(), &inner, &right].concat());
    let p = merged(ctx, node, x, &[(batch.len(), left.len()), (outer, inner.len())]);
    let q = merged(ctx, node, w, &[(batch.len(), inner.len()), (batch.len() + inner.len(), right.len())]);
    let op = Op::MatMul { trans_a: false, trans_b: false, alpha: 1.0 };
    let y = ctx.emit(node, op, &[Some(p), Some(q)]);
    if left.len() == 1 && right.len() == 1 {
        return Ok(Term { value: y, labels });
    }
    let parts =
        [(y, 0, batch.len()), (x, batch.len(), left.len()), (w, batch.len() + inner.len(), right.len())];
    Ok(Term { value: split(ctx, node, y, &parts, Some(Vec::new())), labels })
}

/// A stored operand as rows `[N, K]` with the sizes of its free dimensions.
fn weight<'m>(
    ctx: &mut Ctx<'m>,
    node: &NodeView<'m>,
    b: &Term,
    right: &[Label],
    inner: &[Label],
) -> Result<Option<(ValueId, Vec<usize>)>, OpError> {
    // A reduction before the product has made another value of it.
    if ctx.optional(node, 1)? != Some(b.value) || !ctx.operand_dtype(node, 1).is_some_and(|d| d.is_float()) {
        return Ok(None);
    }
    let Some(dims) = ctx.stored_dims(node, 1)? else { return Ok(None) };
    let order: Vec<usize> =
        right.iter().chain(inner).filter_map(|l| b.labels.iter().position(|t| t == l)).collect();
    let sizes: Vec<usize> = order.iter().map(|d| dims[*d]).collect();
    let (n, k) = (sizes[..right.len()].iter().product(), sizes[right.len()..].iter().product());
    let id = ctx.relaid(node, 1, format!("einsum {order:?} {}", right.len()), |array| {
        let Some(values) = floats(array) else { return malformed("a weight that holds no floats") };
        Ok(Array::of_floats(array.dtype, &[n, k], permuted(&values, &dims, &order)))
    })?;
    Ok(id.map(|id| (id, sizes[..right.len()].to_vec())))
}

/// The elements of a row-major array with its dimensions in another order.
fn permuted(values: &[f32], dims: &[usize], order: &[usize]) -> Vec<f32> {
    let mut strides = vec![1; dims.len()];
    for i in (1..dims.len()).rev() {
        strides[i - 1] = strides[i] * dims[i];
    }
    let mut index = vec![0; order.len()];
    let mut out = Vec::with_capacity(values.len());
    for _ in 0..values.len() {
        out.push(values[index.iter().zip(order).map(|(i, d)| i * strides[*d]).sum::<usize>()]);
        for (i, d) in index.iter_mut().zip(order).rev() {
            *i += 1;
            if *i < dims[*d] {
                break;
            }
            *i = 0;
        }
    }
    out
}

/// A piece of a shape.
enum Part {
    /// A number; 0 copies.
    Number(i64),
    /// A vector computed from a shape.
    Computed(ValueId),
}

/// Makes each of `groups` (first dimension, count), which are the last ones of `x`, one dimension.
fn merged<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>, x: ValueId, groups: &[(usize, usize)]) -> ValueId {
    if groups.iter().all(|(_, count)| *count == 1) {
        return x;
    }
    let mut parts: Vec<Part> = (0..groups[0].0).map(|_| Part::Number(0)).collect();
    for (start, count) in groups {
        let dims: Dims = (*start..start + count).map(|axis| ctx.fact(x).size(axis)).collect();
        let known = dims.iter().try_fold(1i64, |p, d| p.checked_mul(i64::try_from((*d)?).ok()?));
        parts.push(match known {
            Some(size) => Part::Number(size),
            None => {
                let sizes = shape(ctx, node, x, *start, *count);
                let op = Op::Reduce { kind: ReduceOp::Prod, axes: vec![0], keep_dims: true };
                Part::Computed(if *count == 1 { sizes } else { ctx.emit(node, op, &[Some(sizes)]) })
            }
        });
    }
    reshaped(ctx, node, x, parts)
}

/// Gives `y` the sizes of `from` (value, first dimension, count), then `last`; nothing is done without `last`.
fn split<'m>(
    ctx: &mut Ctx<'m>,
    node: &NodeView<'m>,
    y: ValueId,
    from: &[(ValueId, usize, usize)],
    last: Option<Vec<Part>>,
) -> ValueId {
    let Some(last) = last else { return y };
    let mut parts = Vec::new();
    for (value, start, count) in from {
        let dims: Option<Vec<usize>> =
            (*start..start + count).map(|axis| ctx.fact(*value).size(axis)).collect();
        match dims {
            Some(dims) => parts.extend(dims.into_iter().map(|d| Part::Number(d as i64))),
            None => parts.push(Part::Computed(shape(ctx, node, *value, *start, *count))),
        }
    }
    parts.extend(last);
    reshaped(ctx, node, y, parts)
}

fn shape<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>, x: ValueId, start: usize, count: usize) -> ValueId {
    ctx.emit(node, Op::Shape { start: start as i32, end: Some((start + count) as i32) }, &[Some(x)])
}

fn reshaped<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>, x: ValueId, parts: Vec<Part>) -> ValueId {
    let mut operands = Vec::new();
    let mut numbers = Vec::new();
    let flush = |ctx: &mut Ctx<'m>, numbers: &mut Vec<i64>, operands: &mut Vec<Option<ValueId>>| {
        if !numbers.is_empty() {
            operands.push(Some(ctx.vector(node, &std::mem::take(numbers))));
        }
    };
    for part in parts {
        match part {
            Part::Number(n) => numbers.push(n),
            Part::Computed(id) => {
                flush(ctx, &mut numbers, &mut operands);
                operands.push(Some(id));
            }
        }
    }
    flush(ctx, &mut numbers, &mut operands);
    let shape = match operands.as_slice() {
        [] => Some(ctx.vector(node, &[])),
        [one] => *one,
        _ => Some(ctx.emit(node, Op::Concat { axis: 0 }, &operands)),
    };
    ctx.emit(node, Op::Reshape { allow_zero: false }, &[Some(x), shape])
}
