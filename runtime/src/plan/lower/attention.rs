//! Attention: the sizes, and which matrices each head reads.

use super::matrix::batch_indices;
use super::{Results, broadcast_dims, one};
use crate::graph::DType;
use crate::plan::build::{Builder, Call};
use crate::plan::step::{AttentionShape, Head, StepOp};

pub(super) fn attention(b: &mut Builder, call: &Call, k_transposed: bool, scale: f32) -> Results {
    let (q, k, v) = (call.input(0)?.clone(), call.input(1)?.clone(), call.input(2)?.clone());
    let mask = call.optional(3).cloned();
    let split = |dims: &[usize]| match dims {
        [batch @ .., rows, cols] => Ok((batch.to_vec(), *rows, *cols)),
        _ => Err(format!("attention over an operand of shape {dims:?}")),
    };
    let (q_batch, m, d) = split(&q.dims)?;
    let (k_batch, k_rows, k_cols) = split(&k.dims)?;
    let (n, k_depth) = if k_transposed { (k_cols, k_rows) } else { (k_rows, k_cols) };
    let (v_batch, v_rows, e) = split(&v.dims)?;
    if k_depth != d || v_rows != n {
        return Err(format!("shapes {:?}, {:?} and {:?} of q, k and v", q.dims, k.dims, v.dims));
    }
    let (mask_batch, mask_rows, mask_cols) = match &mask {
        None => (Vec::new(), 1, 1),
        Some(fact) => match fact.dims[..] {
            [] => (Vec::new(), 1, 1),
            [cols] => (Vec::new(), 1, cols),
            _ => split(&fact.dims)?,
        },
    };
    if (mask_rows != 1 && mask_rows != m) || (mask_cols != 1 && mask_cols != n) {
        let dims = mask.map(|fact| fact.dims).unwrap_or_default();
        return Err(format!("a mask of shape {dims:?} on scores [{m}, {n}]"));
    }
    let batch = broadcast_dims(&[&q_batch, &k_batch, &v_batch, &mask_batch])?;
    let index = |dims: &[usize]| batch_indices(&batch, dims);
    let (qs, ks, vs, masks) = (index(&q_batch)?, index(&k_batch)?, index(&v_batch)?, index(&mask_batch)?);
    let heads = (0..qs.len()).map(|i| Head { q: qs[i], k: ks[i], v: vs[i], mask: masks[i] }).collect();
    let shape = AttentionShape { m, n, d, e, k_transposed, scale, mask_rows, mask_cols, heads };

    let (q, k) = (b.float(call.value(0), &q)?, b.float(call.value(1), &k)?);
    let v = b.float(call.value(2), &v)?;
    let mask = mask.map(|fact| b.float(call.value(3), &fact)).transpose()?;
    let out = b.result(DType::F32, &[&batch[..], &[m, e]].concat())?;
    let bytes = crate::cpu::attention::scratch(&shape);
    let inputs = [Some(&q), Some(&k), Some(&v), mask.as_ref()];
    b.emit_full(StepOp::Attention(shape), &inputs, &[&out], Vec::new(), bytes)?;
    one(out)
}
