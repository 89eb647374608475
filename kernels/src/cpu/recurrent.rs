//! The elementwise part of one LSTM or GRU step; the matrix products around it are the matrix kernels'.
//!
//! All vectors of a step belong to one sequence; `H` is the hidden size. Gates come in ONNX order.

use super::activation::Activation;
use super::loops::Variant;

/// Activation functions and limits of an LSTM.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Lstm<'a> {
    /// Of the input, output and forget gates.
    pub gate: Activation,
    /// Of the candidate cell.
    pub cell: Activation,
    /// Of the cell on its way to the hidden state.
    pub hidden: Activation,
    /// Activation arguments are limited to `[-clip, clip]`.
    pub clip: Option<f32>,
    /// Weights from the cell to the input, output and forget gates, `[3 * H]`.
    pub peephole: Option<&'a [f32]>,
    /// Couples the gates: forget = 1 - input.
    pub input_forget: bool,
}

impl Default for Lstm<'_> {
    fn default() -> Self {
        Lstm {
            gate: Activation::Sigmoid,
            cell: Activation::Tanh,
            hidden: Activation::Tanh,
            clip: None,
            peephole: None,
            input_forget: false,
        }
    }
}

/// One LSTM step. `gates` holds the sums `W x + R h + b` of the input, output, forget and cell gates, `[4 * H]`, and
/// is overwritten; `c` holds the cell and becomes the new one; `h` receives the new hidden state.
///
/// `i = f(gi + pi c)`, `f = f(gf + pf c)`, `c' = f * c + i * g(gc)` (fused), `o = f(go + po c')`, `h = o * h(c')`.
///
/// # Panics
/// When a length does not fit `H`, the length of `c`.
pub fn lstm_step(v: Variant, lstm: &Lstm<'_>, gates: &mut [f32], c: &mut [f32], h: &mut [f32]) {
    let n = c.len();
    assert_eq!((gates.len(), h.len()), (4 * n, n), "gates and hidden state of {n}");
    if let Some(p) = lstm.peephole {
        assert_eq!(p.len(), 3 * n, "peephole weights of {n}");
    }
    let (input, rest) = gates.split_at_mut(n);
    let (output, rest) = rest.split_at_mut(n);
    let (forget, cell) = rest.split_at_mut(n);
    let peephole = |k: usize| lstm.peephole.map(|p| &p[k * n..][..n]);
    let gate = |y: &mut [f32], p: Option<&[f32]>, c: &[f32], f: Activation| {
        if let Some(p) = p {
            v.run(
                #[inline(always)]
                || {
                    for ((y, p), c) in y.iter_mut().zip(p).zip(c) {
                        *y = p.mul_add(*c, *y);
                    }
                },
            );
        }
        activate(v, f, lstm.clip, y);
    };
    gate(input, peephole(0), c, lstm.gate);
    if lstm.input_forget {
        forget.iter_mut().zip(&*input).for_each(|(f, i)| *f = 1.0 - i);
    } else {
        gate(forget, peephole(2), c, lstm.gate);
    }
    gate(cell, None, c, lstm.cell);
    v.run(
        #[inline(always)]
        || {
            for (((c, f), i), g) in c.iter_mut().zip(&*forget).zip(&*input).zip(&*cell) {
                *c = f.mul_add(*c, i * g);
            }
        },
    );
    gate(output, peephole(1), c, lstm.gate);
    h.copy_from_slice(c);
    activate(v, lstm.hidden, lstm.clip, h);
    v.run(
        #[inline(always)]
        || {
            for (h, o) in h.iter_mut().zip(&*output) {
                *h *= o;
            }
        },
    );
}

/// Activation functions and limits of a GRU.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Gru {
    /// Of the update and reset gates.
    pub gate: Activation,
    /// Of the candidate hidden state.
    pub hidden: Activation,
    /// Activation arguments are limited to `[-clip, clip]`.
    pub clip: Option<f32>,
}

impl Default for Gru {
    fn default() -> Self {
        Gru { gate: Activation::Sigmoid, hidden: Activation::Tanh, clip: None }
    }
}

/// One GRU step in which the reset gate is applied after the product (`linear_before_reset != 0`).
///
/// `gates` holds `W x + b` of the update, reset and hidden gates plus, for the first two, `R h + rb`, `[3 * H]`, and
/// is overwritten; `recurrent` holds `R h + rb` of the hidden gate; `h` becomes the new hidden state:
/// `z = f(gz)`, `r = f(gr)`, `n = g(fma(r, recurrent, gn))`, `h' = z * h + (1 - z) * n`.
///
/// # Panics
/// When a length does not fit `H`, the length of `h`.
pub fn gru_step(v: Variant, gru: &Gru, gates: &mut [f32], recurrent: &[f32], h: &mut [f32]) {
    let n = h.len();
    assert_eq!((gates.len(), recurrent.len()), (3 * n, n), "gates and recurrent sum of {n}");
    let (gates, candidate) = gates.split_at_mut(2 * n);
    activate(v, gru.gate, gru.clip, gates);
    let (update, reset) = gates.split_at(n);
    v.run(
        #[inline(always)]
        || {
            for ((y, r), recurrent) in candidate.iter_mut().zip(reset).zip(recurrent) {
                *y = r.mul_add(*recurrent, *y);
            }
        },
    );
    blend(v, gru, update, candidate, h);
}

/// First half of a GRU step in which the reset gate is applied before the product (`linear_before_reset = 0`).
///
/// `gates` holds `W x + R h + b` of the update and reset gates, `[2 * H]`, and becomes `z` and `r`; `reset_h` receives
/// `r * h`, whose product with `R` the caller adds to the hidden gate before [`gru_finish`].
///
/// # Panics
/// When a length does not fit `H`, the length of `h`.
pub fn gru_reset(v: Variant, gru: &Gru, gates: &mut [f32], h: &[f32], reset_h: &mut [f32]) {
    let n = h.len();
    assert_eq!((gates.len(), reset_h.len()), (2 * n, n), "gates and reset state of {n}");
    activate(v, gru.gate, gru.clip, gates);
    for ((y, r), h) in reset_h.iter_mut().zip(&gates[n..]).zip(h) {
        *y = r * h;
    }
}

/// Second half: `update` holds `z`, `candidate` holds `W x + R (r * h) + b` of the hidden gate and is overwritten, `h`
/// becomes `z * h + (1 - z) * g(candidate)`.
///
/// # Panics
/// When a length does not fit `H`, the length of `h`.
pub fn gru_finish(v: Variant, gru: &Gru, update: &[f32], candidate: &mut [f32], h: &mut [f32]) {
    let n = h.len();
    assert_eq!((update.len(), candidate.len()), (n, n), "update gate and candidate of {n}");
    blend(v, gru, update, candidate, h);
}

/// `h = fma(z, h, (1 - z) * g(candidate))`
fn blend(v: Variant, gru: &Gru, update: &[f32], candidate: &mut [f32], h: &mut [f32]) {
    activate(v, gru.hidden, gru.clip, candidate);
    v.run(
        #[inline(always)]
        || {
            for ((h, z), n) in h.iter_mut().zip(update).zip(&*candidate) {
                *h = z.mul_add(*h, (1.0 - z) * n);
            }
        },
    );
}

fn activate(v: Variant, activation: Activation, clip: Option<f32>, y: &mut [f32]) {
    use super::elementwise::{InOut, UnaryOp, unary};
    if let Some(clip) = clip {
        unary(v, UnaryOp::Activation(Activation::Clip { lo: -clip, hi: clip }), InOut::InPlace(y));
    }
    unary(v, UnaryOp::Activation(activation), InOut::InPlace(y));
}

#[cfg(test)]
mod tests;
