//! What integer products see of a matrix with one scale a row, as floats.

use super::corrected::codes;
use super::{Matrix, Root, Use, as_it_is};
use crate::draft::Draft;
use crate::error::ConvertError;
use edge_runtime::graph::TensorId;
use edge_runtime::pack::{Arg, Expr};
use serde_json::json;

/// The codes of a take with one scale a row as an expression in floats, with the gains and shifts that products of integers add to them;
/// `None` where the matrix has no such codes. It has one level.
///
/// # Errors
/// When the expression is not sound.
pub fn coded(
    draft: &mut Draft,
    tensor: TensorId,
    root: &Root,
    take: usize,
) -> Result<Option<Expr>, ConvertError> {
    let Some(one_scale) = &root.one_scale else { return Ok(None) };
    let (name, n, k) = {
        let tensor = &draft.header.tensors[tensor as usize];
        (tensor.name.clone(), tensor.n, tensor.k)
    };
    let Corrected { matrix, take, rows } = Corrected::of(draft, one_scale, take);
    let Some(codes) = codes(draft, &name, &matrix, (n, k), take)? else { return Ok(None) };
    let values: Vec<f32> = codes.transpose().iter().copied().collect();
    let dense = as_it_is(draft, &Matrix { name, n, k, values: values.into(), used: Use::Product })?;
    let Some(rows) = rows else { return Ok(Some(dense)) };
    let mut params = serde_json::Map::new();
    params.insert("levels".into(), json!([[1, 1, 0, 0.0]]));
    let blobs = vec![draft.blob(rows)];
    Ok(Some(Expr { kind: "corrected".into(), params, args: vec![Arg::Expr(Box::new(dense))], blobs }))
}

/// A level of an expression that may be corrected.
struct Corrected {
    matrix: Expr,
    take: usize,
    /// Gains and shifts of the codes.
    rows: Option<Vec<u8>>,
}

impl Corrected {
    fn of(draft: &Draft, expr: &Expr, take: usize) -> Corrected {
        let plain = || Corrected { matrix: expr.clone(), take, rows: None };
        let Some(levels) = expr.params.get("levels").and_then(|levels| levels.as_array()) else {
            return plain();
        };
        let (Some(Arg::Expr(matrix)), Some(level)) = (expr.args.first(), levels.get(take - 1)) else {
            return plain();
        };
        let sets = |level: &serde_json::Value| level[1].as_u64().unwrap_or(0);
        let before = levels[..take - 1].iter().filter(|level| sets(level) > 0).count();
        let rows = expr.blobs.get(before).filter(|_| sets(level) > 0).map(|blob| {
            let bytes = &draft.blobs[*blob as usize];
            // The last set is that of the codes: the only one, or the second of two.
            bytes[bytes.len() - bytes.len() / sets(level) as usize..].to_vec()
        });
        Corrected { matrix: (**matrix).clone(), take: level[0].as_u64().unwrap_or(0) as usize, rows }
    }
}
