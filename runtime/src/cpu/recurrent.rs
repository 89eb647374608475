//! LSTM and GRU layers: one product for all inputs, then a small product a step.

use super::gemv::{float_planes, product_of_floats};
use super::memory::Views;
use super::panels::panel_layout;
use super::{Context, MatrixView, floats, floats_mut, matrix};
use crate::graph::{Direction, RnnActivation};
use crate::plan::{RnnShape, Step};
use crate::weights::{PANEL, Weights};
use edge_kernels::MatMut;
use edge_kernels::cpu::activation::Activation;
use edge_kernels::cpu::gemm_f32::{Addend, Epilogue, ResidualOrder, Rows};
use edge_kernels::cpu::gemv_planes::FloatVariant;
use edge_kernels::cpu::recurrent::{Gru, Lstm, gru_finish, gru_reset, gru_step, lstm_step};

/// Floats of a layer's scratch: the parts of [`Space`].
fn lengths(shape: &RnnShape, gates: usize) -> [usize; 5] {
    let (h, batch) = (shape.hidden, shape.batch);
    let columns = gates * h;
    let input_panels = panel_layout(columns, shape.input, None).panels * shape.input * PANEL;
    let recurrent = columns.div_ceil(PANEL) * PANEL * h;
    [shape.steps * batch * columns, batch * columns, batch * h, input_panels, recurrent]
}

/// Scratch bytes of one layer.
pub(crate) fn scratch(shape: &RnnShape, gates: usize) -> usize {
    // Each part starts at a cache line.
    lengths(shape, gates).iter().map(|n| (n * 4).next_multiple_of(64)).sum::<usize>() + 64
}

/// The activation function of a gate, when a kernel has it.
pub(crate) fn gate(activation: RnnActivation) -> Option<Activation> {
    match activation {
        RnnActivation::Sigmoid => Some(Activation::Sigmoid),
        RnnActivation::Tanh => Some(Activation::Tanh),
        RnnActivation::Relu => Some(Activation::Relu),
        RnnActivation::HardSigmoid { alpha, beta } => Some(Activation::HardSigmoid { alpha, beta }),
        RnnActivation::LeakyRelu { alpha } => Some(Activation::LeakyRelu { alpha }),
        _ => None,
    }
}

/// What a layer works in.
struct Space<'a> {
    /// `W x` of every step, `[steps][batch][gates * H]`.
    inputs: &'a mut [f32],
    /// Gates of one step, `[batch][gates * H]`.
    gates: &'a mut [f32],
    /// `[batch][H]`
    hidden: &'a mut [f32],
    /// Panels of W, a group at a time.
    panels: &'a mut [f32],
    /// All panels of R: every step reads them.
    recurrent: &'a mut [f32],
}

impl<'a> Space<'a> {
    fn cut(scratch: &'a mut [u8], shape: &RnnShape, gates: usize) -> Space<'a> {
        let mut rest = floats_mut(scratch);
        let mut take = |n: usize| {
            let (part, tail) = std::mem::take(&mut rest).split_at_mut(n.next_multiple_of(16));
            rest = tail;
            &mut part[..n]
        };
        let [a, b, c, d, e] = lengths(shape, gates).map(&mut take);
        Space { inputs: a, gates: b, hidden: c, panels: d, recurrent: e }
    }
}

/// Most steps that multiply planes as they are stored: with more, it takes less time to decode them once.
const FEW_STEPS: usize = 8;

/// The matrix of the state, which every step multiplies.
enum Recurrent<'a> {
    Panels(&'a [f32]),
    Planes(&'a dyn Weights, &'static FloatVariant),
}

impl<'a> Recurrent<'a> {
    /// An `[n, k]` matrix for so many steps of `m` rows; what has to be decoded is, into `area`.
    fn of(
        ctx: &Context<'_>,
        matrix: &'a MatrixView<'_>,
        n: usize,
        (steps, m): (usize, usize),
        area: &'a mut [f32],
    ) -> Recurrent<'a> {
        if let MatrixView::Weights(w) = matrix
            && steps <= FEW_STEPS
            && let Some(kernel) = float_planes(&ctx.kernels, *w, m)
        {
            return Recurrent::Planes(*w, kernel);
        }
        Recurrent::Panels(all_panels(matrix, n, area))
    }

    /// `out = epilogue(x · R)`
    fn multiply(&self, ctx: &Context<'_>, out: MatMut<'_, f32>, x: Rows<'_, f32>, epilogue: &Epilogue<'_>) {
        match self {
            Recurrent::Panels(panels) => ctx.kernels.gemm_f32.run(out, x, panels, epilogue),
            Recurrent::Planes(w, kernel) => {
                if let Some(planes) = w.borrow_planes(0..out.cols().div_ceil(PANEL)) {
                    kernel.run(out, x, &planes, epilogue);
                }
            }
        }
    }
}

/// All panels of a matrix: as stored, or decoded into `area`.
fn all_panels<'a>(matrix: &'a MatrixView<'_>, n: usize, area: &'a mut [f32]) -> &'a [f32] {
    match matrix {
        MatrixView::Panels(all) => all,
        MatrixView::Weights(w) => match w.borrow_f32(0..n.div_ceil(PANEL)) {
            Some(stored) => stored,
            None => {
                w.fill_f32(0..n.div_ceil(PANEL), area);
                area
            }
        },
    }
}

/// `out[m][n] = x[m][k] · w`: of a few rows with planes as they are stored, else the panels decoded a group at a time; tiles shared among
/// the workers.
fn product(
    ctx: &Context<'_>,
    w: &MatrixView<'_>,
    x: &[f32],
    out: &mut [f32],
    [m, n, k]: [usize; 3],
    area: &mut [f32],
) {
    if let MatrixView::Weights(w) = w
        && let Some(kernel) = float_planes(&ctx.kernels, *w, m)
    {
        return product_of_floats(ctx, kernel, *w, x, out, [m, n, k]);
    }
    let layout = panel_layout(n, k, None);
    let epilogue = Epilogue::default();
    let mut whole = MatMut::new(out, m, n, n);
    for first in (0..n.div_ceil(PANEL)).step_by(layout.panels) {
        let panels = first..(first + layout.panels).min(n.div_ceil(PANEL));
        let each = k * PANEL;
        let weights: &[f32] = match w {
            MatrixView::Panels(all) => &all[panels.start * each..panels.end * each],
            MatrixView::Weights(w) => match w.borrow_f32(panels.clone()) {
                Some(stored) => stored,
                None => {
                    let area = &mut area[..panels.len() * each];
                    w.fill_f32(panels.clone(), area);
                    area
                }
            },
        };
        let cols = panels.start * PANEL..(panels.end * PANEL).min(n);
        let part = whole.part(0..m, cols.clone());
        ctx.pool.tiles(part, 48, cols.len().max(1), |_, row, _, tile| {
            let a = Rows::new(&x[row * k..(row + tile.rows()) * k], tile.rows(), k, k);
            ctx.kernels.gemm_f32.run(tile, a, weights, &epilogue);
        });
    }
}

/// One direction of a layer.
struct Pass {
    direction: usize,
    reverse: bool,
}

fn passes(direction: Direction) -> &'static [Pass] {
    const FORWARD: Pass = Pass { direction: 0, reverse: false };
    match direction {
        Direction::Forward => &[FORWARD],
        Direction::Reverse => &[Pass { direction: 0, reverse: true }],
        Direction::Bidirectional => &[FORWARD, Pass { direction: 1, reverse: true }],
    }
}

/// The three or two functions of one direction.
fn functions<const C: usize>(shape: &RnnShape, pass: &Pass) -> Result<[Activation; C], String> {
    let own = shape.activations.get(pass.direction * C..(pass.direction + 1) * C);
    let own = own.ok_or_else(|| format!("{} functions", shape.activations.len()))?;
    let mut all = [Activation::default(); C];
    for (function, a) in all.iter_mut().zip(own) {
        *function = gate(*a).ok_or_else(|| format!("a gate with function {a:?}"))?;
    }
    Ok(all)
}

/// For each direction the matrix of the input, then that of the state.
fn matrices<'a>(
    ctx: &'a Context<'_>,
    step: &Step,
    views: &Views<'a>,
    dirs: usize,
) -> Result<[Option<MatrixView<'a>>; 4], String> {
    let mut all = [const { None }; 4];
    for (i, view) in all.iter_mut().enumerate().take(2 * dirs) {
        *view = Some(matrix(ctx, step, views, i)?);
    }
    Ok(all)
}

pub(super) fn lstm(
    ctx: &Context<'_>,
    step: &Step,
    mut views: Views<'_>,
    shape: &RnnShape,
) -> Result<(), String> {
    let RnnShape { steps, batch, input, hidden: h, .. } = *shape;
    let x = floats(views.inputs[0].unwrap_or_default());
    let [bias, h0, c0, peephole] = [1, 2, 3, 4].map(|i| views.inputs[i].map(floats));
    let scratch = std::mem::take(&mut views.scratch);
    let space = Space::cut(scratch, shape, 4);
    let dirs = passes(shape.direction).len();
    let matrices = matrices(ctx, step, &views, dirs)?;
    let [y, last_h, last_c] = views.outputs.map(floats_mut);
    for pass in passes(shape.direction) {
        let d = pass.direction;
        let [gate, cell, hidden] = functions(shape, pass)?;
        let peephole = peephole.map(|p| &p[d * 3 * h..(d + 1) * 3 * h]);
        let lstm = Lstm { gate, cell, hidden, clip: shape.clip, peephole, input_forget: shape.flag };
        let [Some(of_input), Some(of_state)] = &matrices[2 * d..2 * d + 2] else {
            return Err("two matrices a direction expected".into());
        };
        product(ctx, of_input, x, space.inputs, [steps * batch, 4 * h, input], space.panels);
        let recurrent = Recurrent::of(ctx, of_state, 4 * h, (steps, batch), space.recurrent);
        let state_c = &mut last_c[d * batch * h..(d + 1) * batch * h];
        match c0 {
            Some(c0) => state_c.copy_from_slice(&c0[d * batch * h..(d + 1) * batch * h]),
            None => state_c.fill(0.0),
        }
        match h0 {
            Some(h0) => space.hidden.copy_from_slice(&h0[d * batch * h..(d + 1) * batch * h]),
            None => space.hidden.fill(0.0),
        }
        let bias = bias.map(|b| &b[d * 8 * h..(d + 1) * 8 * h]);
        for i in 0..steps {
            let t = if pass.reverse { steps - 1 - i } else { i };
            let from_input = &space.inputs[t * batch * 4 * h..(t + 1) * batch * 4 * h];
            recur(ctx, space.hidden, &recurrent, from_input, space.gates, [batch, 4 * h, h]);
            for b in 0..batch {
                let gates = &mut space.gates[b * 4 * h..(b + 1) * 4 * h];
                if let Some(bias) = bias {
                    add_bias(gates, bias);
                }
                let (c, hidden) = (&mut state_c[b * h..(b + 1) * h], &mut space.hidden[b * h..(b + 1) * h]);
                lstm_step(ctx.kernels.loops, &lstm, gates, c, hidden);
            }
            y[(t * dirs + d) * batch * h..][..batch * h].copy_from_slice(space.hidden);
        }
        last_h[d * batch * h..(d + 1) * batch * h].copy_from_slice(space.hidden);
    }
    Ok(())
}

/// `out = h · R + from_input`
fn recur(
    ctx: &Context<'_>,
    h: &[f32],
    recurrent: &Recurrent<'_>,
    from_input: &[f32],
    out: &mut [f32],
    [m, n, k]: [usize; 3],
) {
    let residual = Addend::F32(Rows::new(from_input, m, n, n));
    let epilogue =
        Epilogue { residual: Some((residual, ResidualOrder::BeforeActivation)), ..Epilogue::default() };
    recurrent.multiply(ctx, MatMut::new(out, m, n, n), Rows::new(h, m, k, k), &epilogue);
}

/// Adds both halves of a bias: of the input's product and of the state's.
fn add_bias(gates: &mut [f32], bias: &[f32]) {
    let (of_input, of_state) = bias.split_at(gates.len());
    for ((g, a), b) in gates.iter_mut().zip(of_input).zip(of_state) {
        *g += a + b;
    }
}

pub(super) fn gru(
    ctx: &Context<'_>,
    step: &Step,
    mut views: Views<'_>,
    shape: &RnnShape,
) -> Result<(), String> {
    let RnnShape { steps, batch, input, hidden: h, .. } = *shape;
    let x = floats(views.inputs[0].unwrap_or_default());
    let [bias, h0] = [1, 2].map(|i| views.inputs[i].map(floats));
    let scratch = std::mem::take(&mut views.scratch);
    let space = Space::cut(scratch, shape, 3);
    let dirs = passes(shape.direction).len();
    let matrices = matrices(ctx, step, &views, dirs)?;
    let [y, last_h, _] = views.outputs;
    let (y, last_h) = (floats_mut(y), floats_mut(last_h));
    for pass in passes(shape.direction) {
        let d = pass.direction;
        let [gate, hidden] = functions(shape, pass)?;
        let gru = Gru { gate, hidden, clip: shape.clip };
        let [Some(of_input), Some(of_state)] = &matrices[2 * d..2 * d + 2] else {
            return Err("two matrices a direction expected".into());
        };
        product(ctx, of_input, x, space.inputs, [steps * batch, 3 * h, input], space.panels);
        // What stands before the reset is a product of its own, column by column.
        let (recurrent, panels): (_, &[f32]) = match shape.flag {
            true => (Recurrent::of(ctx, of_state, 3 * h, (steps, 1), space.recurrent), &[]),
            false => {
                let panels = all_panels(of_state, 3 * h, space.recurrent);
                (Recurrent::Panels(panels), panels)
            }
        };
        match h0 {
            Some(h0) => space.hidden.copy_from_slice(&h0[d * batch * h..(d + 1) * batch * h]),
            None => space.hidden.fill(0.0),
        }
        let bias = bias.map(|b| b[d * 6 * h..(d + 1) * 6 * h].split_at(3 * h));
        for i in 0..steps {
            let t = if pass.reverse { steps - 1 - i } else { i };
            for b in 0..batch {
                let from_input = &mut space.inputs[(t * batch + b) * 3 * h..][..3 * h];
                let state = &mut space.hidden[b * h..(b + 1) * h];
                let from_state = &mut space.gates[b * 3 * h..(b + 1) * 3 * h];
                if let Some((of_input, _)) = bias {
                    from_input.iter_mut().zip(of_input).for_each(|(g, b)| *g += b);
                }
                let none = Epilogue::default();
                let a = Rows::new(state, 1, h, h);
                recurrent.multiply(ctx, MatMut::new(from_state, 1, 3 * h, 3 * h), a, &none);
                if shape.flag {
                    if let Some((_, of_state)) = bias {
                        from_state.iter_mut().zip(of_state).for_each(|(g, b)| *g += b);
                    }
                    from_input[..2 * h].iter_mut().zip(&*from_state).for_each(|(g, r)| *g += r);
                    gru_step(ctx.kernels.loops, &gru, from_input, &from_state[2 * h..], state);
                } else {
                    if let Some((_, of_state)) = bias {
                        from_state[..2 * h].iter_mut().zip(of_state).for_each(|(g, b)| *g += b);
                        from_input[2 * h..].iter_mut().zip(&of_state[2 * h..]).for_each(|(g, b)| *g += b);
                    }
                    from_input[..2 * h].iter_mut().zip(&*from_state).for_each(|(g, r)| *g += r);
                    let (gates, candidate) = from_input.split_at_mut(2 * h);
                    let reset_h = &mut from_state[2 * h..];
                    gru_reset(ctx.kernels.loops, &gru, gates, state, reset_h);
                    hidden_product(panels, reset_h, candidate, h);
                    gru_finish(ctx.kernels.loops, &gru, &gates[..h], candidate, state);
                }
            }
            y[(t * dirs + d) * batch * h..][..batch * h].copy_from_slice(space.hidden);
        }
        last_h[d * batch * h..(d + 1) * batch * h].copy_from_slice(space.hidden);
    }
    Ok(())
}

/// `candidate[j] += sum_k reset_h[k] * R[2H + j][k]`. The hidden gate's rows may start inside a panel, where no
/// matrix kernel can.
fn hidden_product(panels: &[f32], reset_h: &[f32], candidate: &mut [f32], h: usize) {
    for (j, value) in candidate.iter_mut().enumerate() {
        let row = 2 * h + j;
        let panel = &panels[row / PANEL * h * PANEL..][..h * PANEL];
        let column = panel.iter().skip(row % PANEL).step_by(PANEL);
        *value = column.zip(reset_h).fold(*value, |sum, (w, x)| w.mul_add(*x, sum));
    }
}
