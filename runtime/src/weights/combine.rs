//! `combine`: an ordered sum. A rung may stop after any prefix of the terms, or take all of them as far as it takes each.

use super::blocks::Blocks;
use super::node::Node;
use super::window::Window;
use super::{CHUNK, PANEL, Part, WeightError, Weights, blank};
use serde::Deserialize;
use std::ops::Range;

/// What a term is multiplied by.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
enum Coef {
    One(f32),
    /// One a row.
    Rows(Vec<f32>),
}

impl Coef {
    fn at(&self, row: usize) -> f32 {
        match self {
            Coef::One(coef) => *coef,
            Coef::Rows(coefs) => coefs[row],
        }
    }

    fn valid(&self, n: usize) -> bool {
        match self {
            Coef::One(coef) => coef.is_finite(),
            Coef::Rows(coefs) => coefs.len() == n && coefs.iter().all(|coef| coef.is_finite()),
        }
    }

    fn rows(self, rows: Range<usize>) -> Coef {
        match self {
            Coef::One(coef) => Coef::One(coef),
            Coef::Rows(coefs) => Coef::Rows(coefs[rows].to_vec()),
        }
    }
}

/// `w = c0 w0 + c1 w1 + ...`, from the left, each product and each sum rounded.
struct Combine {
    n: usize,
    k: usize,
    terms: Vec<(Coef, Box<dyn Weights>)>,
}

pub(super) fn construct(node: &mut Node<'_, '_>, window: &Window) -> Result<Box<dyn Weights>, WeightError> {
    node.only(&["coefs", "takes", "through"])?;
    let (n, k, count) = (node.n(), node.k(), node.args());
    if count == 0 {
        return Err(node.shape_error("operands", 0, "at least 1"));
    }
    node.charge(count)?;
    node.counts(count, 0)?;
    let each = format!("{count} coefficients, each a finite number or {n} of them");
    let coefs: Vec<Coef> = node.param("coefs", &each)?.unwrap_or_else(|| vec![Coef::One(1.0); count]);
    if coefs.len() != count || !coefs.iter().all(|coef| coef.valid(n)) {
        return Err(node.param_error("coefs", each));
    }
    let each = format!("{count} numbers, 0 for all of an operand");
    let through: bool = node.param("through", "true or false")?.unwrap_or_default();
    let each = if through { "none: `through` says what is taken".into() } else { each };
    let takes: Option<Vec<u32>> = node.param("takes", &each)?;
    if takes.as_ref().is_some_and(|takes| through || takes.len() != count) {
        return Err(node.param_error("takes", each));
    }
    let takes = takes.unwrap_or_else(|| vec![if through { node.take() } else { 0 }; count]);
    let taken = match node.take() as usize {
        _ if through => count,
        0 => count,
        take if take <= count => take,
        take => return Err(node.shape_error("take", take, format!("at most {count} terms"))),
    };
    let mut terms = Vec::with_capacity(taken);
    for (index, (coef, take)) in coefs.into_iter().zip(takes).take(taken).enumerate() {
        let clip = node.clip(index, Some((n, k)), take, window)?;
        terms.push((coef.rows(window.rows.clone()), Blocks::clipped(clip, window, node.isa())));
    }
    // One term times 1 is that term: its codes and its bytes stay usable.
    if let [(Coef::One(1.0), _)] = terms[..] {
        return Ok(terms.remove(0).1);
    }
    Ok(Box::new(Combine { n: window.rows.len(), k: window.k(), terms }))
}

impl Weights for Combine {
    fn n(&self) -> usize {
        self.n
    }

    fn k(&self) -> usize {
        self.k
    }

    fn materialize(&self) -> Vec<f32> {
        let mut out = vec![0.0; self.n * self.k];
        for (t, (coef, term)) in self.terms.iter().enumerate() {
            for (i, (out, value)) in out.iter_mut().zip(term.materialize()).enumerate() {
                let product = coef.at(i / self.k) * value;
                *out = if t == 0 { product } else { *out + product };
            }
        }
        out
    }

    fn fill_part(&self, part: &Part, out: &mut [f32]) {
        let mut columns = blank::<{ CHUNK * PANEL }>();
        for (i, out) in out.chunks_mut(CHUNK * PANEL).enumerate() {
            let first = part.cols.start + i * CHUNK;
            let piece = Part { cols: first..first + out.len() / PANEL, ..part.clone() };
            let columns = &mut columns[..out.len()];
            for (t, (coef, term)) in self.terms.iter().enumerate() {
                let mut coefs = [0.0; PANEL];
                for (coef_of_lane, row) in coefs[part.lanes()].iter_mut().zip(part.rows.clone()) {
                    *coef_of_lane = coef.at(row);
                }
                term.fill_part(&piece, columns);
                for (out, column) in out.chunks_exact_mut(PANEL).zip(columns.chunks_exact(PANEL)) {
                    for lane in part.lanes() {
                        let product = coefs[lane] * column[lane];
                        out[lane] = if t == 0 { product } else { out[lane] + product };
                    }
                }
            }
        }
    }
}
