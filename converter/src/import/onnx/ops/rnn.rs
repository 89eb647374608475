//! Recurrent operators.

use super::gather::turned;
use super::{NOW, Operator, Types, op};
use crate::import::onnx::ctx::{Ctx, codes};
use crate::import::onnx::node::{NodeView, OpError, malformed, unknown, unsupported};
use crate::import::onnx::tensors::{arranged, floats};
use crate::integers::Integers;
use crate::model::Array;
use edge_runtime::graph::{BinaryOp, DType, Direction, Op, PadMode, ReduceOp, RnnActivation, ValueId};

/// Attributes of an LSTM.
pub const LSTM: &[&str] = &[
    "activation_alpha",
    "activation_beta",
    "activations",
    "clip",
    "direction",
    "hidden_size",
    "input_forget",
    "layout",
    "output_sequence",
];
const GRU: &[&str] = &[
    "activation_alpha",
    "activation_beta",
    "activations",
    "clip",
    "direction",
    "hidden_size",
    "layout",
    "linear_before_reset",
    "output_sequence",
];

const RNN: &[&str] = &[
    "activation_alpha",
    "activation_beta",
    "activations",
    "clip",
    "direction",
    "hidden_size",
    "layout",
    "output_sequence",
];

/// The table.
pub const OPERATORS: &[Operator] = &[
    op("LSTM", (1, NOW), (3, 8), Types::Float, LSTM, lstm),
    op("GRU", (1, NOW), (3, 6), Types::Float, GRU, gru),
    op("RNN", (1, NOW), (3, 6), Types::Float, RNN, rnn),
];

fn direction(node: &NodeView) -> Result<(Direction, usize), OpError> {
    match node.string("direction", "forward")? {
        "forward" => Ok((Direction::Forward, 1)),
        "reverse" => Ok((Direction::Reverse, 1)),
        "bidirectional" => Ok((Direction::Bidirectional, 2)),
        other => malformed(format!("direction {other:?}")),
    }
}

/// The gates' functions, all directions in a row. `alpha` and `beta` list values for those functions that have them, in order.
fn activations(node: &NodeView, default: &[&str], dirs: usize) -> Result<Vec<RnnActivation>, OpError> {
    let wanted = default.len() * dirs;
    let names = match node.strings("activations")? {
        Some(names) => names,
        None => default.iter().cycle().take(wanted).map(|n| (*n).to_owned()).collect(),
    };
    if names.len() != wanted {
        return malformed(format!("activations {names:?}: {wanted} are needed"));
    }
    let mut alphas = node.floats("activation_alpha")?.iter().copied();
    let mut betas = node.floats("activation_beta")?.iter().copied();
    let mut list = Vec::with_capacity(wanted);
    for name in &names {
        let mut alpha = |default: f32| alphas.next().unwrap_or(default);
        let mut beta = |default: f32| betas.next().unwrap_or(default);
        list.push(match name.to_ascii_lowercase().as_str() {
            "sigmoid" => RnnActivation::Sigmoid,
            "tanh" => RnnActivation::Tanh,
            "relu" => RnnActivation::Relu,
            "softsign" => RnnActivation::Softsign,
            "softplus" => RnnActivation::Softplus,
            "hardsigmoid" => RnnActivation::HardSigmoid { alpha: alpha(0.2), beta: beta(0.5) },
            "leakyrelu" => RnnActivation::LeakyRelu { alpha: alpha(0.01) },
            "elu" => RnnActivation::Elu { alpha: alpha(1.0) },
            "thresholdedrelu" => RnnActivation::ThresholdedRelu { alpha: alpha(1.0) },
            "affine" => RnnActivation::Affine { alpha: alpha(1.0), beta: beta(0.0) },
            "scaledtanh" => RnnActivation::ScaledTanh { alpha: alpha(1.0), beta: beta(1.0) },
            _ => return unsupported(format!("activation {name:?} is not implemented")),
        });
    }
    Ok(list)
}

fn clip(node: &NodeView) -> Result<Option<f32>, OpError> {
    Ok(node.float_if("clip")?.filter(|c| *c > 0.0))
}

/// Where `sequence_lens` stands among the graph's operands.
const LENS: usize = 6;

/// Operands in the graph's order, and the number of elements of the state.
struct Parts {
    operands: Vec<Option<ValueId>>,
    hidden: usize,
    /// ONNX's `layout` = 1: batch before sequence.
    batch_first: bool,
}

/// Reads x, w, r, b, sequence_lens and initial_h, which all operators have.
fn parts<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>, gates: usize, dirs: usize) -> Result<Parts, OpError> {
    let rows = match ctx.stored_dims(node, 2)? {
        Some(dims) => match dims.as_slice() {
            [d, rows, k] if *d == dirs && rows.checked_div(gates) == Some(*k) => Some(*k),
            _ => return malformed(format!("a recurrence weight of shape {dims:?}")),
        },
        None => ctx.optional(node, 2)?.and_then(|r| ctx.fact(r).size(2)),
    };
    let hidden = match (node.int_if("hidden_size")?, rows) {
        (Some(size), Some(rows)) if size != rows as i64 => {
            return malformed(format!("hidden_size {size}, but the recurrence weight has {rows}"));
        }
        (_, Some(rows)) => rows,
        (Some(size @ 1..=0x7fff_ffff), None) => size as usize,
        _ => return unknown("hidden_size"),
    };
    let matrix = |ctx: &mut Ctx<'m>, i, dir| of_direction(ctx, node, i, dir, dirs);
    parts_with(ctx, node, [gates, hidden, dirs], matrix)
}

/// The parts, each direction's matrices made by `matrix(operand, direction)`.
fn parts_with<'m>(
    ctx: &mut Ctx<'m>,
    node: &NodeView<'m>,
    [gates, hidden, dirs]: [usize; 3],
    matrix: impl Fn(&mut Ctx<'m>, usize, usize) -> Result<ValueId, OpError>,
) -> Result<Parts, OpError> {
    let batch_first = node.flag("layout", false)?;
    let mut x = ctx.operand(node, 0)?;
    if batch_first {
        x = ctx.transpose(node, x, &[1, 0, 2]);
    }
    let mut operands = vec![Some(x)];
    for dir in 0..2 {
        for i in [1, 2] {
            operands.push(if dir < dirs { Some(matrix(ctx, i, dir)?) } else { None });
        }
    }
    let bias = ctx.relaid(node, 3, "f32".into(), |array| match floats(array) {
        Some(values) if array.dims == [dirs, 2 * gates * hidden] => Ok(Array::f32(&array.dims, &values)),
        _ => malformed(format!("a bias of shape {:?}", array.dims)),
    })?;
    operands.push(match bias {
        Some(bias) => Some(bias),
        None => ctx.optional(node, 3)?,
    });
    operands.push(ctx.optional(node, 4)?);
    operands.push(state(ctx, node, 5, batch_first)?);
    Ok(Parts { operands, hidden, batch_first })
}

/// One direction's matrix of a weight `[dirs, rows, K]`.
fn of_direction<'m>(
    ctx: &mut Ctx<'m>,
    node: &NodeView<'m>,
    i: usize,
    dir: usize,
    dirs: usize,
) -> Result<ValueId, OpError> {
    let stored = ctx.relaid(node, i, format!("direction {dir} of {dirs}"), |array| {
        let &[d, rows, k] = array.dims.as_slice() else {
            return malformed(format!("a weight of shape {:?}", array.dims));
        };
        if d != dirs {
            return malformed(format!("a weight of shape {:?} for {dirs} directions", array.dims));
        }
        match arranged(array, &[rows, k], |i| Some(dir * rows * k + i)) {
            Some(matrix) => Ok(matrix),
            None => malformed("a weight that holds no floats"),
        }
    })?;
    match stored {
        Some(id) => Ok(id),
        None => {
            let w = ctx.operand(node, i)?;
            let index = ctx.constant("direction", Array::i64(&[], &[dir as i64]));
            Ok(ctx.emit(node, Op::Gather { axis: 0 }, &[Some(w), Some(index)]))
        }
    }
}

/// An initial state `[dirs, batch, H]`.
fn state<'m>(
    ctx: &mut Ctx<'m>,
    node: &NodeView<'m>,
    i: usize,
    batch_first: bool,
) -> Result<Option<ValueId>, OpError> {
    let id = ctx.optional(node, i)?;
    Ok(match id {
        Some(id) if batch_first => Some(ctx.transpose(node, id, &[1, 0, 2])),
        id => id,
    })
}

fn lstm<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>) -> Result<(), OpError> {
    let (direction, dirs) = direction(node)?;
    let parts = parts(ctx, node, 4, dirs)?;
    lstm_of(ctx, node, (direction, dirs), parts)
}

/// An LSTM whose matrices are operands 1 and 2 turned, `[dirs, K, 4 H]`, of integers with their scales and zero points from operand 8
/// on. Its rows are rounded to integers by whoever multiplies integers; here they stay as they are.
pub fn dynamic_lstm<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>) -> Result<(), OpError> {
    let (direction, dirs) = direction(node)?;
    let hidden = match (ctx.stored_dims(node, 2)?.as_deref(), node.int_if("hidden_size")?) {
        (Some(&[d, hidden, rows]), size)
            if d == dirs
                && Some(rows) == hidden.checked_mul(4)
                && size.is_none_or(|s| s == hidden as i64) =>
        {
            hidden
        }
        (Some(dims), size) => {
            return malformed(format!("a recurrence weight of shape {dims:?}, hidden_size {size:?}"));
        }
        (None, _) => return unsupported("weights that are computed are not implemented"),
    };
    let matrix = |ctx: &mut Ctx<'m>, i, dir| turned_integers(ctx, node, i, (dir, dirs, 4 * hidden));
    let parts = parts_with(ctx, node, [4, hidden, dirs], matrix)?;
    lstm_of(ctx, node, (direction, dirs), parts)
}

/// One direction's matrix `[rows, K]` of stored integers `[dirs, K, rows]`; scales and zero points are one a direction or one a row.
fn turned_integers<'m>(
    ctx: &mut Ctx<'m>,
    node: &NodeView<'m>,
    i: usize,
    (dir, dirs, rows): (usize, usize, usize),
) -> Result<ValueId, OpError> {
    let at = 6 + 2 * i;
    let (Some(w), Some(scales)) = (ctx.array(node, i)?, ctx.array(node, at)?) else {
        return unsupported("weights or scales that are computed are not implemented");
    };
    let k = match w.dims[..] {
        [d, k, n] if d == dirs && n == rows => k,
        _ => {
            return malformed(format!("a weight of shape {:?} for {dirs} directions of {rows} rows", w.dims));
        }
    };
    let (Some(all), Some(scales)) = (codes(&w, false), floats(&scales)) else {
        return malformed("a weight of integers of 8 bits and scales of floats are expected");
    };
    let zeros = match (node.input(at + 1), ctx.array(node, at + 1)?) {
        (None, _) if w.dtype == DType::U8 => vec![i8::MIN; scales.len()],
        (None, _) => Vec::new(),
        (Some(_), Some(zeros)) if zeros.dtype == w.dtype => codes(&zeros, false).unwrap_or_default(),
        _ => return unsupported("zero points that are computed, or of another type, are not implemented"),
    };
    let each = match scales.len() {
        len if len == dirs => 1,
        len if len == dirs * rows => rows,
        len => return malformed(format!("{len} scales for {dirs} directions of {rows} rows")),
    };
    if !(zeros.is_empty() || zeros.len() == scales.len()) {
        return malformed(format!("{} zero points for {} scales", zeros.len(), scales.len()));
    }
    let own = dir * each..(dir + 1) * each;
    let zeros = zeros.get(own.clone()).filter(|zeros| zeros.iter().any(|zero| *zero != 0));
    let integers = Integers {
        bits: 8,
        codes: (0..rows * k).map(|at| all[(dir * k + at % k) * rows + at / k]).collect(),
        scales: scales[own].to_vec(),
        zeros: zeros.unwrap_or_default().to_vec(),
        dims: vec![rows, k],
        blocks: vec![if each == 1 { rows } else { 1 }, k],
    };
    Ok(ctx.constant_of(node.input(i).unwrap_or(""), integers))
}

fn lstm_of<'m>(
    ctx: &mut Ctx<'m>,
    node: &NodeView<'m>,
    (direction, dirs): (Direction, usize),
    mut parts: Parts,
) -> Result<(), OpError> {
    parts.operands.push(state(ctx, node, 6, parts.batch_first)?);
    parts.operands.push(ctx.optional(node, 7)?);
    let op = Op::Lstm {
        direction,
        hidden: parts.hidden,
        activations: activations(node, &["Sigmoid", "Tanh", "Tanh"], dirs)?,
        clip: clip(node)?,
        input_forget: node.flag("input_forget", false)?,
    };
    finish(ctx, node, op, &mut parts, 3)
}

fn gru<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>) -> Result<(), OpError> {
    let (direction, dirs) = direction(node)?;
    let mut parts = parts(ctx, node, 3, dirs)?;
    let op = Op::Gru {
        direction,
        hidden: parts.hidden,
        activations: activations(node, &["Sigmoid", "Tanh"], dirs)?,
        clip: clip(node)?,
        linear_before_reset: node.flag("linear_before_reset", false)?,
    };
    finish(ctx, node, op, &mut parts, 2)
}

fn finish<'m>(
    ctx: &mut Ctx<'m>,
    node: &NodeView<'m>,
    op: Op,
    parts: &mut Parts,
    results: usize,
) -> Result<(), OpError> {
    if let Some(lens) = parts.operands[LENS] {
        let steps = parts.operands[0].and_then(|x| ctx.fact(x).size(0));
        let known = ctx.known(node, 4)?;
        let whole = known.is_some_and(|lens| lens.iter().all(|l| Some(*l) == steps.map(|s| s as i64)));
        if whole {
            parts.operands[LENS] = None;
        } else if node.output(2).is_none() && is_f32(ctx, parts.operands[0]) {
            parts.operands[LENS] = None;
            let made = cut(ctx, node, &op, &parts.operands, lens)?;
            return results_of(ctx, node, &made, parts.batch_first);
        }
    }
    if !parts.batch_first {
        return ctx.emit_results(node, op, &parts.operands);
    }
    let raw = ctx.emit_many(node, op, &parts.operands, results);
    results_of(ctx, node, &raw, true)
}

fn is_f32(ctx: &Ctx, x: Option<ValueId>) -> bool {
    x.is_some_and(|x| ctx.fact(x).dtype == Some(DType::F32))
}

/// Sets the results, turned when the batch comes first.
fn results_of<'m>(
    ctx: &mut Ctx<'m>,
    node: &NodeView<'m>,
    raw: &[ValueId],
    batch_first: bool,
) -> Result<(), OpError> {
    for (i, id) in raw.iter().enumerate().filter(|(i, _)| node.output(*i).is_some()) {
        // Y [seq, dirs, batch, H] to [batch, seq, dirs, H]; the states [dirs, batch, H] to [batch, dirs, H].
        let perm: &[usize] = if i == 0 { &[2, 0, 1, 3] } else { &[1, 0, 2] };
        let id = if batch_first { ctx.transpose(node, *id, perm) } else { *id };
        ctx.set(node, i, id)?;
    }
    Ok(())
}

/// Largest state of a plain recurrence.
const MAX_HIDDEN: usize = 1 << 20;

/// A GRU whose gates stand still: the update gate at 0, so that nothing of the old state is mixed in, and the reset gate at 1, so
/// that all of it is used. A hard sigmoid of their biases gives both exactly; their weights are zeros.
fn rnn<'m>(ctx: &mut Ctx<'m>, node: &NodeView<'m>) -> Result<(), OpError> {
    const SHUT: f32 = -8.0;
    const OPEN: f32 = 8.0;
    // Where the hard sigmoid below is 0 and 1.
    if clip(node)?.is_some_and(|c| c < 2.5) {
        return unsupported("attribute clip below 2.5 is not implemented");
    }
    let (direction, dirs) = direction(node)?;
    let mut parts = parts(ctx, node, 1, dirs)?;
    let hidden = parts.hidden;
    if hidden > MAX_HIDDEN {
        return unsupported(format!("hidden_size {hidden} is not implemented"));
    }
    for weight in parts.operands[1..5].iter_mut().flatten() {
        let mut f = ctx.formula(node);
        let w = f.cast(*weight, DType::F32);
        let pads = f.integers(&[2], &[2 * hidden as i64, 0]);
        *weight = f.op(Op::Pad { mode: PadMode::Constant, axes: vec![0] }, &[w, pads]);
    }
    // [dirs, W bias, R bias] becomes [dirs, (z, r, h) of W, (z, r, h) of R].
    let gates: Vec<f32> =
        (0..dirs * 2 * hidden).map(|i| if i % (2 * hidden) < hidden { SHUT } else { OPEN }).collect();
    let mut f = ctx.formula(node);
    let gates = f.reals(&[dirs, 2 * hidden], &gates);
    let rest = f.reals(&[dirs, 2 * hidden], &vec![0.0; dirs * 2 * hidden]);
    let (w, r) = match parts.operands[5] {
        Some(bias) => {
            let bias = f.cast(bias, DType::F32);
            (f.slice(bias, 1, 0, hidden as i64), f.slice(bias, 1, hidden as i64, 2 * hidden as i64))
        }
        None => {
            let zeros = f.reals(&[dirs, hidden], &vec![0.0; dirs * hidden]);
            (zeros, zeros)
        }
    };
    parts.operands[5] = Some(f.concat(1, &[gates, w, rest, r]));
    let gate = RnnActivation::HardSigmoid { alpha: 0.2, beta: 0.5 };
    let functions = activations(node, &["Tanh"], dirs)?;
    let op = Op::Gru {
        direction,
        hidden,
        activations: functions.into_iter().flat_map(|function| [gate, function]).collect(),
        clip: clip(node)?,
        linear_before_reset: false,
    };
    finish(ctx, node, op, &mut parts, 2)
}

/// `sequence_lens` that only a run knows. Each pass goes on to the end: what comes behind a sequence's length is made 0, and the last
/// state is the one at the length. A backward pass is a forward one over what is turned, each sequence up to its length.
fn cut<'m>(
    ctx: &mut Ctx<'m>,
    node: &NodeView<'m>,
    op: &Op,
    operands: &[Option<ValueId>],
    lens: ValueId,
) -> Result<Vec<ValueId>, OpError> {
    let (direction, all) = match op {
        Op::Lstm { direction, activations, .. } | Op::Gru { direction, activations, .. } => {
            (*direction, activations)
        }
        _ => return unsupported("sequence_lens of this operator is not implemented"),
    };
    let backwards: &[bool] = match direction {
        Direction::Forward => &[false],
        Direction::Reverse => &[true],
        Direction::Bidirectional => &[false, true],
    };
    let each = all.len() / backwards.len();
    let lens = ctx.formula(node).cast(lens, DType::I64);
    let (mut results, mut states) = (Vec::new(), Vec::new());
    for (dir, backwards) in backwards.iter().enumerate() {
        let one = one_way(op, all[dir * each..][..each].to_vec());
        let mut own: Vec<Option<ValueId>> = operands.to_vec();
        if direction == Direction::Bidirectional {
            (own[1], own[2]) = (operands[1 + 2 * dir], operands[2 + 2 * dir]);
            (own[3], own[4]) = (None, None);
            // Bias, states and peepholes have a direction's rows each.
            for id in own[5..].iter_mut().flatten() {
                *id = ctx.formula(node).slice(*id, 0, dir as i64, dir as i64 + 1);
            }
        }
        if let (true, Some(x)) = (*backwards, own[0]) {
            own[0] = Some(turned(&mut ctx.formula(node), x, lens, (0, 1), 3));
        }
        let raw = ctx.emit_many(node, one, &own, 2)[0];
        let mut f = ctx.formula(node);
        let count = f.size(raw, 0);
        let steps = f.count_up(count);
        let steps = f.reshape(steps, &[-1, 1, 1, 1]);
        let lens_of = f.reshape(lens, &[1, 1, -1, 1]);
        let inside = f.binary(BinaryOp::Less, steps, lens_of);
        let zero = f.real(0.0);
        let y = if *backwards { turned(&mut f, raw, lens, (0, 2), 4) } else { raw };
        results.push(f.select(inside, y, zero));
        let one = f.integer(1);
        let last = f.sub(lens_of, one);
        let here = f.binary(BinaryOp::Equal, steps, last);
        let state = f.select(here, raw, zero);
        states.push(f.reduce(ReduceOp::Sum, state, &[0], false));
    }
    let mut f = ctx.formula(node);
    Ok(vec![f.concat(1, &results), f.concat(0, &states)])
}

/// The operation from the first element to the last, with these functions.
fn one_way(op: &Op, functions: Vec<RnnActivation>) -> Op {
    let mut op = op.clone();
    if let Op::Lstm { direction, activations, .. } | Op::Gru { direction, activations, .. } = &mut op {
        (*direction, *activations) = (Direction::Forward, functions);
    }
    op
}
