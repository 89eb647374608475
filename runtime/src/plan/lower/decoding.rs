//! Operations of graphs that decode: rotary positions, and attention over what is kept of the tokens before.

use super::{Results, one};
use crate::graph::DType;
use crate::plan::BufferKind;
use crate::plan::build::{Builder, Call, Why, kept_columns};
use crate::plan::fact::{Fact, Place};
use crate::plan::step::{CachedShape, StepOp};

/// The number of tokens that are kept.
fn past<'c>(call: &'c Call<'_>, i: usize) -> Result<&'c Fact, Why> {
    let fact = call.input(i)?;
    if fact.dtype != DType::I64 || fact.dims != [1] {
        return Err(format!("a number of tokens of shape {:?} {}, expected [1] i64", fact.dims, fact.dtype));
    }
    Ok(fact)
}

/// `[1, tokens, heads, depth]`.
fn by_heads(what: &str, dims: &[usize]) -> Result<[usize; 3], Why> {
    // Of no tokens, sizes are not bound by the value's bytes.
    const MOST: usize = 1 << 28;
    match *dims {
        [1, tokens, heads, depth] if (1..=MOST).contains(&heads.saturating_mul(depth)) => {
            Ok([tokens, heads, depth])
        }
        _ => Err(format!("{what} of shape {dims:?}, expected [1, tokens, heads, depth]")),
    }
}

pub(super) fn rotary_table(b: &mut Builder, call: &Call) -> Results {
    let [1, tokens] = call.input(0)?.dims[..] else {
        return Err(format!("ids of shape {:?}, expected [1, tokens]", call.input(0)?.dims));
    };
    let (past, frequencies) = (past(call, 1)?.clone(), b.float(call.value(2), call.input(2)?)?);
    let [pairs] = frequencies.dims[..] else {
        return Err(format!("frequencies of shape {:?}, expected a vector", frequencies.dims));
    };
    let out = b.result(DType::F32, &[tokens, pairs.saturating_mul(2)])?;
    b.emit(StepOp::RotaryTable, &[Some(&past), Some(&frequencies)], &[&out])?;
    one(out)
}

pub(super) fn rotary(b: &mut Builder, call: &Call) -> Results {
    let (x, table) = (b.float(call.value(0), call.input(0)?)?, b.float(call.value(1), call.input(1)?)?);
    let [tokens, heads, depth] = by_heads("heads", &x.dims)?;
    let width = match table.dims[..] {
        [rows, width] if rows == tokens && width <= depth && width % 2 == 0 => width,
        _ => return Err(format!("a table of shape {:?} for heads of shape {:?}", table.dims, x.dims)),
    };
    let out = b.result(DType::F32, &x.dims)?;
    b.emit(StepOp::Rotary { heads, depth, width }, &[Some(&x), Some(&table)], &[&out])?;
    one(out)
}

pub(super) fn cached_attention(
    b: &mut Builder,
    call: &Call,
    scale: f32,
    window: Option<usize>,
    soft_cap: Option<f32>,
) -> Results {
    let [q, k, v] = [0, 1, 2].map(|i| call.input(i).cloned());
    let (q, k, v) =
        (b.float(call.value(0), &q?)?, b.float(call.value(1), &k?)?, b.float(call.value(2), &v?)?);
    let [tokens, heads, d] = by_heads("queries", &q.dims)?;
    let ([k_tokens, kv_heads, k_depth], [v_tokens, v_heads, e]) =
        (by_heads("keys", &k.dims)?, by_heads("values", &v.dims)?);
    let same = [k_tokens, v_tokens] == [tokens; 2] && k_depth == d && v_heads == kv_heads;
    if !same || !heads.is_multiple_of(kv_heads) {
        return Err(format!(
            "queries, keys and values of shapes {:?}, {:?} and {:?}",
            q.dims, k.dims, v.dims
        ));
    }
    if window == Some(0) || soft_cap.is_some_and(|cap| !(cap > 0.0 && cap.is_finite())) {
        return Err(format!(
            "a window of {window:?} tokens and a cap of {soft_cap:?}, both above 0 are expected"
        ));
    }
    let (keys, values, past) = (call.input(3)?.clone(), call.input(4)?.clone(), past(call, 5)?.clone());
    let context = kept(b, &keys, kv_heads, d)?;
    if kept(b, &values, kv_heads, e)? != context || keys.dtype != values.dtype {
        return Err(format!("keys of shape {:?} are kept with values of shape {:?}", keys.dims, values.dims));
    }
    if tokens > context {
        return Err(format!("{tokens} tokens in a context of {context}"));
    }
    let shape =
        CachedShape { tokens, heads, kv_heads, d, e, context, kept: keys.dtype, scale, window, soft_cap };
    let out = b.result(DType::F32, &[1, tokens, heads * e])?;
    let bytes = crate::cpu::cached::scratch(&shape);
    let inputs = [Some(&q), Some(&k), Some(&v), Some(&past)];
    b.emit_full(StepOp::CachedAttention(shape), &inputs, &[&out, &keys, &values], Vec::new(), bytes)?;
    one(out)
}

/// The number of tokens that what is kept has room for.
fn kept(b: &Builder, fact: &Fact, heads: usize, depth: usize) -> Result<usize, Why> {
    let is_kept = match fact.place {
        Place::Buffer { buffer, .. } => matches!(b.buffers[buffer as usize].kind, BufferKind::Kept),
        _ => false,
    };
    match fact.dims[..] {
        [h, context, columns] if is_kept && h == heads && columns == kept_columns(depth, fact.dtype) => {
            Ok(context)
        }
        _ => Err(format!(
            "{heads} heads of {depth} elements for a value of shape {:?}, which must be one that is kept",
            fact.dims
        )),
    }
}
